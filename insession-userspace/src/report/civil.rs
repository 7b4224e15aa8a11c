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

/// The moment that a text in RFC 3339 names, in UTC (`Z`), with up to nine digits behind
/// the second; `None` for any other text, and for moments that [`UnixTime`] cannot hold.
#[must_use]
pub fn parse(text: &str) -> Option<UnixTime> {
    let text = text.as_bytes().strip_suffix(b"Z")?;
    let (moment, fraction) = text.split_at_checked(19)?;
    for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if moment.get(at) != Some(&mark) {
            return None;
        }
    }
    let number = |from: usize, to: usize| digits(moment.get(from..to)?);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', fraction)) if (1..=9).contains(&fraction.len()) => {
            digits(fraction)? * 10_u64.pow(9 - fraction.len() as u32)
        }
        Some(_) => return None,
    };
    let days = days(year, month, day)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(UnixTime(
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
    ))
}

/// A number of at most nineteen digits.
fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number: u64, octet| {
        octet
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(octet - b'0'))
    })
}

/// Days from 1970-01-01 to a date not before it: the inverse of [`date`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || year < 1970 {
        return None;
    }
    let march_year = year - u64::from(month <= 2);
    let march_month = (month + 9) % 12;
    let leaps = march_year / 4 - march_year / 100 + march_year / 400;
    let of_year = (153 * march_month + 2) / 5 + day.checked_sub(1)?;
    let days = (march_year * 365 + leaps + of_year).checked_sub(719_468)?;
    // A day that its month does not have is one of the next.
    (date(days) == (year, month, day)).then_some(days)
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
            assert_eq!(parse(text), Some(UnixTime(nanos / 1_000 * 1_000)));
        }
    }

    #[test]
    fn only_moments_are_parsed() {
        let second = UnixTime(1_767_323_045_000_000_000);
        for (text, moment) in [
            ("2026-01-02T03:04:05Z", Some(second)),
            ("2026-01-02T03:04:05.0Z", Some(second)),
            (
                "2026-01-02T03:04:05.000000001Z",
                Some(UnixTime(second.0 + 1)),
            ),
            ("2026-01-02T03:04:05.Z", None),
            ("2026-01-02T03:04:05.0000000001Z", None),
            ("2026-01-02T03:04:05", None),
            ("2026-01-02T03:04:05+01:00", None),
            ("2026-01-02 03:04:05Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-04-31T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            (
                "2554-07-21T23:34:33Z",
                Some(UnixTime(18_446_744_073_000_000_000)),
            ),
            ("2600-01-01T00:00:00Z", None),
            ("２026-01-02T03:04:05Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text), moment, "{text}");
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
            assert_eq!(super::days(year, month, day), Some(days));
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
