//! The most frequent of many things, in bounded memory: as many of them as are kept, and
//! by how much a count may be too low.

use std::collections::HashMap;
use std::hash::Hash;

/// Counts of things, with what else is known of each.
///
/// As many as twice `kept` are held; when there are more, what the one in the middle
/// counts is taken from all, and those that have nothing left are dropped (Misra and
/// Gries' way, many at a time). So each count is too low by at most
/// [`Top::undercount`], and that is at most a `kept`-th of all that was added.
#[derive(Debug)]
pub(super) struct Top<K, V> {
    kept: usize,
    counts: HashMap<K, (u64, V)>,
    undercount: u64,
}

impl<K: Copy + Eq + Hash + Ord, V: Copy + Default> Top<K, V> {
    pub(super) fn new(kept: usize) -> Self {
        Top {
            kept,
            counts: HashMap::new(),
            undercount: 0,
        }
    }

    /// Counts one more; gives what is known of it.
    pub(super) fn add(&mut self, thing: K) -> &mut V {
        if self.counts.len() >= 2 * self.kept && !self.counts.contains_key(&thing) {
            self.shrink();
        }
        let (count, known) = self.counts.entry(thing).or_default();
        *count += 1;
        known
    }

    fn shrink(&mut self) {
        let mut all: Vec<u64> = self.counts.values().map(|(count, _)| *count).collect();
        let middle = all.len() / 2;
        let (_, least, _) = all.select_nth_unstable(middle);
        let least = *least;
        self.undercount += least;
        self.counts.retain(|_, (count, _)| {
            *count = count.saturating_sub(least);
            *count > 0
        });
    }

    /// By how much a count may be too low; zero as long as all were kept.
    pub(super) fn undercount(&self) -> u64 {
        self.undercount
    }

    /// The most frequent, the first first; those of one count in the order of the things.
    pub(super) fn first(&self, many: usize) -> Vec<(K, u64, V)> {
        let entry = |(thing, (count, known)): (&K, &(u64, V))| (*thing, *count, *known);
        let mut all: Vec<_> = self.counts.iter().map(entry).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(many);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle is a plain count.
        #[test]
        fn counts_are_too_low_by_no_more_than_is_said(
            things in prop::collection::vec(prop_oneof![0..5_u32, 0..1_000_u32], 0..3_000),
        ) {
            let mut top = Top::<u32, u64>::new(16);
            let mut all = HashMap::<u32, u64>::new();
            for thing in &things {
                top.add(*thing);
                *all.entry(*thing).or_default() += 1;
                prop_assert!(top.counts.len() <= 32);
            }
            let under = top.undercount();
            prop_assert!(under <= things.len() as u64 / 16);
            for (thing, count) in all {
                let found = top.counts.get(&thing).map_or(0, |(count, _)| *count);
                prop_assert!(found <= count && count <= found + under, "{thing}: {found} of {count}");
            }
            let first = top.first(3);
            prop_assert!(first.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        }
    }
}
