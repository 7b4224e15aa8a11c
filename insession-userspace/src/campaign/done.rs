//! Which targets of a campaign have their record: a set of positions that is
//! nearly an interval, since targets are taken in order and finish nearly so.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of positions: all below `low`, and a window of bits from there on. Its
/// memory is an eighth of an octet a position between the first unfinished one
/// and the last finished one: what is under way, not what is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// A multiple of 64: every position below it is in the set.
    low: u64,
    /// The 64 positions from `low + 64 n` on.
    window: VecDeque<u64>,
    count: u64,
}

const WORD: u64 = 64;

impl Done {
    /// Puts a position in; whether it was not there yet.
    pub fn insert(&mut self, position: u64) -> bool {
        let Some(ahead) = position.checked_sub(self.low) else {
            return false;
        };
        let (word, bit) = (index(ahead / WORD), 1 << (ahead % WORD));
        if self.window.len() <= word {
            self.window.resize(word + 1, 0);
        }
        if self.window[word] & bit != 0 {
            return false;
        }
        self.window[word] |= bit;
        self.count += 1;
        while self.window.front() == Some(&u64::MAX) {
            self.window.pop_front();
            self.low += WORD;
        }
        true
    }

    /// Whether a position is in it.
    #[must_use]
    pub fn contains(&self, position: u64) -> bool {
        match position.checked_sub(self.low) {
            None => true,
            Some(ahead) => self
                .window
                .get(index(ahead / WORD))
                .is_some_and(|word| word >> (ahead % WORD) & 1 == 1),
        }
    }

    /// How many are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The intervals that it is made of, rising and apart.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut add = |from: u64, until: u64| match ranges.last_mut() {
            Some(last) if last.end == from => last.end = until,
            _ => ranges.push(from..until),
        };
        if self.low > 0 {
            add(0, self.low);
        }
        for (nth, word) in (0..).zip(&self.window) {
            let mut base = self.low + nth * WORD;
            let mut rest = *word;
            while rest != 0 {
                let gap = rest.trailing_zeros();
                // Shifts by 64 are none.
                let run = (rest >> gap).trailing_ones();
                add(base + u64::from(gap), base + u64::from(gap + run));
                let used = gap + run;
                base += u64::from(used);
                rest = rest.checked_shr(used).unwrap_or(0);
            }
        }
        ranges
    }
}

impl FromIterator<Range<u64>> for Done {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut done = Done::default();
        for range in ranges {
            let mut from = range.start;
            // What continues the interval at the bottom need not be put in one by one.
            if from <= done.low && done.window.is_empty() && range.end > done.low {
                let low = range.end / WORD * WORD;
                done.count += low - done.low;
                done.low = low;
                from = low;
            }
            for position in from..range.end {
                done.insert(position);
            }
        }
        done
    }
}

/// A window is never longer than memory.
fn index(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// As pairs of first and one behind the last.
#[derive(Serialize, Deserialize)]
struct Pairs(Vec<(u64, u64)>);

impl Serialize for Done {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let pairs = self.ranges().iter().map(|it| (it.start, it.end)).collect();
        Pairs(pairs).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Done {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Pairs(pairs) = Pairs::deserialize(from)?;
        Ok(pairs.into_iter().map(|(from, until)| from..until).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_done_in_order_takes_no_memory() {
        let mut done = Done::default();
        for position in 0..1_000_000 {
            assert!(done.insert(position));
        }
        assert_eq!(done.count(), 1_000_000);
        assert_eq!(done.window.len(), 0);
        assert_eq!(
            done.ranges().as_slice(),
            std::slice::from_ref(&(0..1_000_000))
        );
        assert!(!done.insert(999_999) && done.contains(0) && !done.contains(1_000_000));
    }

    #[test]
    fn a_large_interval_is_read_at_once() {
        let ranges = [0..1_000_000_000_003, 1_000_000_000_100..1_000_000_000_200];
        let done: Done = ranges.clone().into_iter().collect();
        assert_eq!(done.count(), 1_000_000_000_103);
        assert_eq!(done.ranges(), ranges);
    }

    proptest! {
        #[test]
        fn it_is_a_set(positions in proptest::collection::vec(0u64..400, 0..500)) {
            let (mut done, mut oracle) = (Done::default(), BTreeSet::new());
            for position in positions {
                prop_assert_eq!(done.insert(position), oracle.insert(position));
            }
            prop_assert_eq!(done.count(), oracle.len() as u64);
            for position in 0..500 {
                prop_assert_eq!(done.contains(position), oracle.contains(&position));
            }
            let listed: Vec<u64> = done.ranges().into_iter().flatten().collect();
            prop_assert_eq!(listed, oracle.into_iter().collect::<Vec<_>>());
            for pair in done.ranges().windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
            let text = serde_json::to_string(&done).unwrap();
            let again: Done = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(again, done);
        }
    }
}
