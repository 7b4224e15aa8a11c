//! When data are from: as they say themselves, else by the file's name, else when the
//! file was last written.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::report::civil::{self, Rfc3339};
use crate::time::UnixTime;

/// Data older than this are called old: routes come and go daily, whoever publishes
/// them does so at least monthly.
pub const OLD: Duration = Duration::from_secs(90 * 86_400);

/// How a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It stands in the file.
    Content,
    /// It stands in the file's name.
    Name,
    /// When the file was last written; the data may be older.
    Modified,
}

impl Evidence {
    /// A word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Evidence::Content => "content",
            Evidence::Name => "name",
            Evidence::Modified => "modified",
        }
    }
}

/// A date, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    /// When.
    pub when: UnixTime,
    /// By what.
    pub by: Evidence,
}

impl Dated {
    /// A date that stands in the file, in seconds since 1970.
    #[must_use]
    pub fn content(seconds: u64) -> Option<Self> {
        let by = Evidence::Content;
        let when = UnixTime(seconds.checked_mul(1_000_000_000)?);
        (seconds > 0).then_some(Dated { when, by })
    }

    /// The date of a file that says none itself.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(when) = named(&name) {
            let by = Evidence::Name;
            return Some(Dated { when, by });
        }
        let written = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
        let nanos = written.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Dated {
            when: UnixTime(u64::try_from(nanos).ok()?),
            by: Evidence::Modified,
        })
    }

    /// The day, as `2026-01-02`.
    #[must_use]
    pub fn day(&self) -> String {
        let mut text = Rfc3339(self.when).to_string();
        text.truncate(10);
        text
    }

    /// How old they are.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        let when = UNIX_EPOCH + Duration::from_nanos(self.when.0);
        now.duration_since(when).unwrap_or_default()
    }

    /// Whether they are too old to be taken without a word.
    #[must_use]
    pub fn is_old(&self, now: SystemTime) -> bool {
        self.age(now) > OLD
    }
}

/// The date in a file's name: `20260102`, `2026-01-02`, or the month `202601`.
fn named(name: &str) -> Option<UnixTime> {
    let octets = name.as_bytes();
    let ends = |at: usize| octets.get(at).is_none_or(|octet| !octet.is_ascii_digit());
    let begins = |at: usize| at.checked_sub(1).is_none_or(ends);
    let day = |year: &str, month: &str, day: &str| {
        (1990..2100)
            .contains(&year.parse::<u16>().ok()?)
            .then_some(())?;
        civil::parse(&format!("{year}-{month}-{day}T00:00:00Z"))
    };
    let at = |at: usize| {
        let text = |from: usize, to: usize| name.get(at + from..at + to);
        let is_marked = text(4, 5) == text(7, 8) && matches!(text(4, 5), Some("-" | "_" | "."));
        if ends(at + 8)
            && let Some(found) = day(text(0, 4)?, text(4, 6)?, text(6, 8).unwrap_or_default())
        {
            return Some(found);
        }
        if is_marked && ends(at + 10) {
            return day(text(0, 4)?, text(5, 7)?, text(8, 10).unwrap_or_default());
        }
        ends(at + 6).then(|| day(text(0, 4)?, text(4, 6)?, "01"))?
    };
    (0..octets.len())
        .filter(|place| begins(*place))
        .find_map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_dates() {
        for (name, day) in [
            ("routeviews-rv2-20260102-1200.pfx2as.gz", Some("2026-01-02")),
            ("rib.20260102.0000.bz2", Some("2026-01-02")),
            ("dbip-asn-lite-2026-01.mmdb", None),
            ("bview.2026-01-02.gz", Some("2026-01-02")),
            ("ixs_202601.jsonl", Some("2026-01-01")),
            ("20260228", Some("2026-02-28")),
            ("20260229", None),
            ("x120260102", None),
            ("202601021200", None),
            ("asn.txt", None),
            ("18990102.txt", None),
            ("naïve-20260102é.txt", Some("2026-01-02")),
            ("", None),
        ] {
            let by = Evidence::Name;
            let found = named(name).map(|when| Dated { when, by }.day());
            assert_eq!(found.as_deref(), day, "{name}");
        }
    }

    #[test]
    fn data_are_old_after_a_quarter() {
        let dated = Dated::content(1_000_000_000).unwrap();
        let now = |days: u64| UNIX_EPOCH + Duration::from_secs(1_000_000_000 + days * 86_400);
        assert!(!dated.is_old(now(90)) && dated.is_old(now(91)));
        // A clock that is behind them.
        assert_eq!(dated.age(UNIX_EPOCH), Duration::ZERO);
        assert_eq!(Dated::content(0), None);
        assert_eq!(Dated::content(u64::MAX), None);
    }
}
