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

/// A key's place in its bucket's list.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The tick it fires at.
    tick: u64,
    previous: u32,
    next: u32,
    /// `level * BUCKETS + bucket`; `NOT_ARMED` when in no list.
    place: u16,
}

const NOT_ARMED: u16 = u16::MAX;

const IDLE: Node = Node {
    tick: 0,
    previous: NIL,
    next: NIL,
    place: NOT_ARMED,
};

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    heads: Box<[u32; LEVELS * BUCKETS]>,
    /// One bit a bucket that is not empty.
    occupied: [u64; LEVELS],
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
        self.cancel(key);
        let tick =
            (at.as_nanos() >> TICK_SHIFT) + u64::from(at.as_nanos() & ((1 << TICK_SHIFT) - 1) != 0);
        self.link(key, tick.max(self.tick));
    }

    /// Unsets the timer of `key`, if it is set.
    pub fn cancel(&mut self, key: u32) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let Node {
            previous,
            next,
            place,
            ..
        } = core::mem::replace(node, IDLE);
        if place == NOT_ARMED {
            return;
        }
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.nodes.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                self.heads[usize::from(place)] = next;
                if next == NIL {
                    let (level, bucket) = split(place);
                    self.occupied[level] &= !(1 << bucket);
                }
            }
        }
    }

    /// Takes one key whose moment has come, in the order of ticks; call again
    /// until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK_SHIFT;
        loop {
            let (start, place) = self
                .next_bucket()
                .filter(|(start, _)| *start <= now)
                .or_else(|| {
                    // Nothing in between: all that is left lies behind `now`, so
                    // its buckets stay those of its level's higher digits.
                    self.tick = self.tick.max(now);
                    None
                })?;
            self.tick = self.tick.max(start);
            let key = self.heads[usize::from(place)];
            if usize::from(place) < BUCKETS {
                self.cancel(key);
                return Some(key);
            }
            self.cascade(place);
        }
    }

    /// When to call [`Wheel::expire`] next: at the latest when the first timer
    /// is due. May be early for a timer that is far away.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let (start, _) = self.next_bucket()?;
        Some(Instant::from_nanos(start.saturating_mul(1 << TICK_SHIFT)))
    }

    /// The first bucket that is not empty, and the tick it begins at.
    fn next_bucket(&self) -> Option<(u64, u16)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let bucket = self.occupied[level].trailing_zeros();
        let shift = LEVEL_BITS * level as u32;
        let above = self.tick >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
        let start = above | u64::from(bucket) << shift;
        Some((start, (level * BUCKETS) as u16 + bucket as u16))
    }

    /// Deals the keys of a bucket that begins now out to the levels below.
    fn cascade(&mut self, place: u16) {
        let (level, bucket) = split(place);
        let mut key = core::mem::replace(&mut self.heads[usize::from(place)], NIL);
        self.occupied[level] &= !(1 << bucket);
        while let Some(node) = self.nodes.get(key as usize) {
            let (tick, next) = (node.tick, node.next);
            self.link(key, tick);
            key = next;
        }
    }

    /// Puts `key`, which is in no list, where `tick` belongs.
    fn link(&mut self, key: u32, tick: u64) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let differing = (self.tick ^ tick) | (BUCKETS as u64 - 1);
        let level = (differing.ilog2() / LEVEL_BITS) as usize;
        let bucket = (tick >> (LEVEL_BITS * level as u32)) as usize & (BUCKETS - 1);
        let place = level * BUCKETS + bucket;
        let head = core::mem::replace(&mut self.heads[place], key);
        *node = Node {
            tick,
            previous: NIL,
            next: head,
            place: place as u16,
        };
        if let Some(head) = self.nodes.get_mut(head as usize) {
            head.previous = key;
        }
        self.occupied[level] |= 1 << bucket;
    }
}

fn split(place: u16) -> (usize, usize) {
    let place = usize::from(place);
    (place / BUCKETS, place % BUCKETS)
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

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
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
