//! Spans of time: few enough for a slider, whatever the period.

use crate::time::UnixTime;

/// Lengths, seconds; each divides the next, so that spans can be joined.
const WIDTHS: [u64; 13] = [
    1,
    5,
    15,
    60,
    300,
    900,
    3_600,
    3 * 3_600,
    12 * 3_600,
    86_400,
    7 * 86_400,
    28 * 86_400,
    364 * 86_400,
];

/// The most spans that a period is cut into, as long as there are longer ones.
const MOST: u64 = 120;

/// The shortest spans of which the period so far has no more than [`MOST`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    nth: usize,
    period: Option<(UnixTime, UnixTime)>,
}

impl Clock {
    /// Takes in a moment; by what the numbers of spans so far are to be divided, where
    /// spans have become longer.
    pub(super) fn take_in(&mut self, moment: UnixTime) -> Option<u64> {
        let (first, last) = self.period.unwrap_or((moment, moment));
        let (first, last) = (first.min(moment), last.max(moment));
        self.period = Some((first, last));
        let before = self.width();
        while self.bucket(last) - self.bucket(first) >= MOST && self.nth + 1 < WIDTHS.len() {
            self.nth += 1;
        }
        let ratio = self.width() / before;
        (ratio > 1).then_some(ratio)
    }

    /// The number of the span that a moment is in, since 1970.
    pub(super) fn bucket(&self, moment: UnixTime) -> u64 {
        moment.0 / 1_000_000_000 / self.width()
    }

    /// The length of a span, seconds.
    pub(super) fn width(&self) -> u64 {
        WIDTHS.get(self.nth).copied().unwrap_or(1)
    }

    /// The first and the last moment.
    pub(super) fn period(&self) -> Option<(UnixTime, UnixTime)> {
        self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_divides_the_next() {
        for pair in WIDTHS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0, "{pair:?}");
        }
    }

    #[test]
    fn spans_grow_with_the_period_and_keep_their_places() {
        let at = |seconds: u64| UnixTime(seconds * 1_000_000_000);
        let start = 1_767_323_045;
        for (last, width) in [
            (0, 1),
            (119, 1),
            (300, 5),
            (3_600, 60),
            (86_400, 900),
            (30 * 86_400, 12 * 3_600),
            (400 * 86_400, 7 * 86_400),
        ] {
            let mut clock = Clock::default();
            let mut bucket = 0;
            for moment in [start, start + last / 2, start + last] {
                if let Some(ratio) = clock.take_in(at(moment)) {
                    bucket /= ratio;
                }
                if moment == start {
                    bucket = clock.bucket(at(start));
                }
            }
            assert_eq!(clock.width(), width, "{last}");
            assert_eq!(clock.bucket(at(start)), bucket, "{last}");
            assert!(clock.bucket(at(start + last)) - bucket < MOST);
        }
    }

    #[test]
    fn no_moment_is_too_late() {
        let mut clock = Clock::default();
        clock.take_in(UnixTime(0));
        clock.take_in(UnixTime(u64::MAX));
        assert_eq!(clock.width(), 364 * 86_400);
        assert_eq!(clock.bucket(UnixTime(u64::MAX)), 586);
    }
}
