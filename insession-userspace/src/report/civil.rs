//! Moments in civil time, as RFC 3339 writes them: UTC, microseconds.

use core::fmt;

use crate::time::UnixTime;

/// Displays a moment as `2026-01-02T03:04:05.678901Z`.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub UnixTime);

impl Rfc3339 {
    /// Its octets: 27 up to the year 9999, which no `u64` of nanoseconds reaches.
    fn octets(self) -> [u8; 27] {
        let micros = self.0.0 / 1_000;
        let seconds = micros / 1_000_000;
        let (year, month, day) = date(seconds / 86_400);
        let of_day = seconds % 86_400;
        let mut octets = *b"0000-00-00T00:00:00.000000Z";
        for (at, digits, value) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, of_day / 3600),
            (14, 2, of_day / 60 % 60),
            (17, 2, of_day % 60),
            (20, 6, micros % 1_000_000),
        ] {
            let mut rest = value as u32;
            for octet in octets[at..at + digits].iter_mut().rev() {
                *octet = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        octets
    }

    /// Adds it to what is written to memory.
    pub fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.octets()).unwrap_or_default())
    }
}

/// The proleptic Gregorian date `days` days after 1970-01-01.
///
/// Counted in years that begin in March, so that the leap day is the last of
/// its year: 153 days are always five months then, 1461 four years, 146097
/// four centuries.
fn date(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 lies 719468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_767_323_045_678_901_234, "2026-01-02T03:04:05.678901Z"),
            (4_107_542_399_000_001_000, "2100-02-28T23:59:59.000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Rfc3339(UnixTime(nanos)).to_string(), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        // The whole range of a u64 of nanoseconds.
        for days in 0..=u64::MAX / 86_400_000_000_000 {
            assert_eq!(date(days), (year, month, day));
            let last = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
