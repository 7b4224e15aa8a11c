//! A hierarchical timer wheel: one timer a key, keys are small numbers (slots
//! of the slab). Arming, re-arming and cancelling are O(1) and allocate
//! nothing; storage grows only by [`Wheel::reserve`].
//!
//! Time is cut into ticks of 2^14 ns (16 µs), rounded up: a timer never fires
//! early, and late by less than a tick. Nine levels of 64 buckets hold every
//! moment of a `u64` of nanoseconds, so nothing overflows into a list of its
//! own. A timer sits at the level of the highest digit (base 64) in which its
//! tick differs from the wheel's; buckets of a level below the wheel's own
//! digit are therefore always empty, and the first bucket of the lowest
//! occupied level is the next to come.

use crate::link::prefetch::prefetch;
use crate::time::Instant;

/// log2 of a tick in nanoseconds. Finer ticks cost cascades, coarser ones delay
/// retransmissions and the pace near the destination.
const TICK_SHIFT: u32 = 14;
/// log2 of the buckets of a level.
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
/// 9 × 6 bits hold the 50 bits of ticks.
const LEVELS: usize = 9;
/// No node.
const NIL: u32 = u32::MAX;

/// A key's place in its bucket's list. Which bucket that is follows from its
/// tick and the wheel's, since a bucket is emptied when the wheel comes to it.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The tick it fires at.
    tick: u64,
    /// `OUT` when in no list.
    previous: u32,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// In no list.
const OUT: u32 = u32::MAX - 1;

const IDLE: Node = Node {
    tick: 0,
    previous: OUT,
    next: NIL,
};

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    heads: Box<[u32; LEVELS * BUCKETS]>,
    /// One bit a bucket that is not empty.
    occupied: [u64; LEVELS],
    /// One bit a level that is not empty.
    levels: u32,
    /// The tick it has come to.
    tick: u64,
}

impl Wheel {
    /// An empty wheel that has come to `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Wheel {
            nodes: Vec::new(),
            heads: Box::new([NIL; LEVELS * BUCKETS]),
            occupied: [0; LEVELS],
            levels: 0,
            tick: now.as_nanos() >> TICK_SHIFT,
        }
    }

    /// Makes room for the keys below `keys`.
    pub fn reserve(&mut self, keys: usize) {
        if keys > self.nodes.len() {
            self.nodes.resize(keys, IDLE);
        }
    }

    /// Sets the timer of `key`, whether it was set or not. A moment that has
    /// passed fires at the next [`Wheel::expire`]. A key above those reserved
    /// is ignored.
    pub fn arm(&mut self, key: u32, at: Instant) {
        let tick = tick_of(at).max(self.tick);
        match self.nodes.get(key as usize) {
            Some(node) if node.previous != OUT && node.tick == tick => return,
            _ => {}
        }
        self.cancel(key);
        self.link(key, tick);
    }

    /// Has the timer of `key` fire at `at` or before: one that is set for an
    /// earlier moment is left as it is. For who looks what is due when it fires,
    /// and whose moments are put off more often than they come.
    #[inline]
    pub fn arm_by(&mut self, key: u32, at: Instant) {
        if !self.fires_by(key, at) {
            self.arm(key, at);
        }
    }

    /// Whether the timer of `key` is set for `at` or before.
    #[must_use]
    #[inline]
    pub fn fires_by(&self, key: u32, at: Instant) -> bool {
        let node = self.nodes.get(key as usize);
        node.is_some_and(|node| node.previous != OUT && node.tick <= tick_of(at))
    }

    /// Unsets the timer of `key`, if it is set.
    pub fn cancel(&mut self, key: u32) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        if node.previous == OUT {
            return;
        }
        let Node {
            tick,
            previous,
            next,
        } = core::mem::replace(node, IDLE);
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.nodes.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                let (level, bucket) = self.place(tick);
                self.heads[level * BUCKETS + bucket] = next;
                if next == NIL {
                    self.vacate(level, bucket);
                }
            }
        }
    }

    /// Has the node of `key` fetched into the cache.
    #[inline]
    pub fn prefetch(&self, key: u32) {
        if let Some(node) = self.nodes.get(key as usize) {
            prefetch(node);
        }
    }

    /// Octets of memory it takes for a key.
    #[cfg(test)]
    pub(super) const OCTETS: usize = size_of::<Node>();

    /// Takes one key whose moment has come, in the order of ticks; call again
    /// until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK_SHIFT;
        loop {
            let Some((start, level, bucket)) =
                self.next_bucket().filter(|(start, ..)| *start <= now)
            else {
                // Nothing in between: all that is left lies behind `now`, so
                // its buckets stay those of its level's higher digits.
                self.tick = self.tick.max(now);
                return None;
            };
            self.tick = self.tick.max(start);
            let key = self.heads[level * BUCKETS + bucket];
            if level == 0 {
                self.cancel(key);
                return Some(key);
            }
            self.cascade(level, bucket);
        }
    }

    /// When to call [`Wheel::expire`] next: at the latest when the first timer
    /// is due. May be early for a timer that is far away.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let (start, ..) = self.next_bucket()?;
        Some(Instant::from_nanos(start.saturating_mul(1 << TICK_SHIFT)))
    }

    /// The first bucket that is not empty (its level, its place there), and the
    /// tick it begins at.
    #[inline]
    fn next_bucket(&self) -> Option<(u64, usize, usize)> {
        let level = self.levels.trailing_zeros();
        let bucket = self.occupied.get(level as usize)?.trailing_zeros();
        let shift = LEVEL_BITS * level;
        let above = self.tick >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
        let start = above | u64::from(bucket) << shift;
        Some((start, level as usize, bucket as usize))
    }

    /// Deals the keys of a bucket that begins now out to the levels below.
    fn cascade(&mut self, level: usize, bucket: usize) {
        let mut key = core::mem::replace(&mut self.heads[level * BUCKETS + bucket], NIL);
        self.vacate(level, bucket);
        while let Some(node) = self.nodes.get(key as usize) {
            let (tick, next) = (node.tick, node.next);
            self.prefetch(next);
            self.link(key, tick);
            key = next;
        }
    }

    /// Puts `key`, which is in no list, where `tick` belongs.
    fn link(&mut self, key: u32, tick: u64) {
        let (level, bucket) = self.place(tick);
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let head = core::mem::replace(&mut self.heads[level * BUCKETS + bucket], key);
        *node = Node {
            tick,
            previous: NIL,
            next: head,
        };
        if let Some(head) = self.nodes.get_mut(head as usize) {
            head.previous = key;
        }
        self.occupied[level] |= 1 << bucket;
        self.levels |= 1 << level;
    }

    /// Level and bucket of a tick that the wheel has not passed.
    #[inline]
    fn place(&self, tick: u64) -> (usize, usize) {
        let differing = (self.tick ^ tick) | (BUCKETS as u64 - 1);
        let level = differing.ilog2() / LEVEL_BITS;
        let bucket = (tick >> (LEVEL_BITS * level)) as usize & (BUCKETS - 1);
        (level as usize, bucket)
    }

    /// The bucket is empty.
    fn vacate(&mut self, level: usize, bucket: usize) {
        self.occupied[level] &= !(1 << bucket);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}

/// The first tick that is not before `at`.
#[inline]
fn tick_of(at: Instant) -> u64 {
    (at.as_nanos() >> TICK_SHIFT) + u64::from(at.as_nanos() & ((1 << TICK_SHIFT) - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const TICK: u64 = 1 << TICK_SHIFT;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn fires_once_and_not_before_its_moment() {
        let mut wheel = Wheel::new(at(5 * TICK));
        wheel.reserve(1);
        wheel.arm(0, at(7 * TICK + 1));
        assert_eq!(wheel.expire(at(7 * TICK + 1)), None);
        assert_eq!(wheel.next(), Some(at(8 * TICK)));
        assert_eq!(wheel.expire(at(8 * TICK)), Some(0));
        assert_eq!(wheel.expire(at(u64::MAX)), None);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn rearming_moves_and_cancelling_forgets() {
        let mut wheel = Wheel::new(at(0));
        wheel.reserve(2);
        wheel.arm(0, at(TICK));
        wheel.arm(0, at(1_000 * TICK));
        wheel.arm(1, at(2 * TICK));
        wheel.cancel(1);
        wheel.cancel(1);
        assert_eq!(wheel.expire(at(999 * TICK)), None);
        assert_eq!(wheel.expire(at(1_000 * TICK)), Some(0));
    }

    #[test]
    fn the_end_of_time_is_a_moment_like_any_other() {
        let mut wheel = Wheel::new(at(0));
        wheel.reserve(1);
        wheel.arm(0, at(u64::MAX));
        assert!(wheel.next().is_some());
        // Its tick is rounded up to one that no clock shows.
        assert_eq!(wheel.expire(at(u64::MAX)), None);
        wheel.cancel(0);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_key_that_was_not_reserved_is_ignored() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(7, at(1));
        wheel.cancel(7);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_put_off_fires_at_the_moment_it_had() {
        let mut wheel = Wheel::new(at(0));
        wheel.reserve(1);
        wheel.arm_by(0, at(9 * TICK));
        wheel.arm_by(0, at(500 * TICK));
        assert_eq!(wheel.expire(at(8 * TICK)), None);
        assert_eq!(wheel.expire(at(9 * TICK)), Some(0));
        assert_eq!(wheel.next(), None);
        wheel.arm_by(0, at(500 * TICK));
        wheel.arm_by(0, at(20 * TICK));
        assert_eq!(wheel.expire(at(20 * TICK)), Some(0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        ArmBy(u32, u64),
        Cancel(u32),
        Advance(u64),
    }

    fn span() -> impl Strategy<Value = u64> {
        // Every level of the wheel: the width of the number is uniform.
        (0u32..44, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..24, span()).prop_map(|(key, after)| Step::Arm(key, after)),
            2 => (0u32..24, span()).prop_map(|(key, after)| Step::ArmBy(key, after)),
            1 => (0u32..24).prop_map(Step::Cancel),
            3 => span().prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// The oracle is a sorted map. Fires all that is due by more than a
        /// tick, nothing that is not due, and `next` is never too late.
        #[test]
        fn agrees_with_a_sorted_map(start in span(), steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut wheel = Wheel::new(at(now));
            wheel.reserve(24);
            let mut oracle: BTreeMap<u32, u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Arm(key, after) => {
                        // One in eight lies in the past.
                        let when = if after % 8 == 0 { now.saturating_sub(after) } else { now + after };
                        wheel.arm(key, at(when));
                        oracle.insert(key, when);
                    }
                    Step::ArmBy(key, after) => {
                        wheel.arm_by(key, at(now + after));
                        let tick = |when: u64| when.div_ceil(TICK);
                        let before = oracle.get(&key).filter(|when| tick(**when) <= tick(now + after));
                        if before.is_none() {
                            oracle.insert(key, now + after);
                        }
                    }
                    Step::Cancel(key) => {
                        wheel.cancel(key);
                        oracle.remove(&key);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut fired = BTreeSet::new();
                        let mut last = 0;
                        while let Some(key) = wheel.expire(at(now)) {
                            prop_assert!(fired.insert(key), "twice");
                            let when = oracle.remove(&key);
                            prop_assert!(when.is_some_and(|when| when <= now), "early");
                            let tick = when.unwrap_or_default().div_ceil(TICK).max(start >> TICK_SHIFT);
                            prop_assert!(tick >= last || tick * TICK <= now - by, "order");
                            last = tick.max(last);
                        }
                        prop_assert!(oracle.values().all(|when| when.div_ceil(TICK) * TICK > now), "late");
                    }
                }
                let due = oracle.values().map(|when| when.div_ceil(TICK) * TICK).min();
                match (wheel.next(), due) {
                    (Some(next), Some(due)) => prop_assert!(next.as_nanos() <= due.max(now)),
                    (next, due) => prop_assert_eq!(next.is_some(), due.is_some()),
                }
            }
        }
    }
}
