//! Sessions whose next probe is not owed yet, by its TTL: a ring each, first come,
//! first served. A session stands in one at most and can leave it from the middle,
//! so rings are lists through arrays by slot, with room for all slots: to wait
//! allocates nothing.

/// No slot.
const NONE: u32 = u32::MAX;
/// TTLs.
const TTLS: usize = 256;

/// Where a slot stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    before: u32,
    behind: u32,
    /// The ring; 0: in none.
    ttl: u8,
}

/// The rings of one worker.
#[derive(Debug)]
pub(super) struct Rings {
    places: Vec<Place>,
    /// First and last of each.
    ends: Box<[(u32, u32); TTLS]>,
    lengths: Box<[u32; TTLS]>,
    /// Which are not empty, a bit each.
    used: [u64; TTLS / 64],
}

impl Default for Rings {
    fn default() -> Self {
        Rings {
            places: Vec::new(),
            ends: Box::new([(NONE, NONE); TTLS]),
            lengths: Box::new([0; TTLS]),
            used: [0; TTLS / 64],
        }
    }
}

impl Rings {
    /// Makes room for the slots below `slots`.
    pub(super) fn reserve(&mut self, slots: usize) {
        if slots > self.places.len() {
            let nowhere = Place {
                before: NONE,
                behind: NONE,
                ttl: 0,
            };
            self.places.resize(slots.next_power_of_two(), nowhere);
        }
    }

    /// The ring that a slot stands in.
    pub(super) fn of(&self, slot: u32) -> Option<u8> {
        let place = self.places.get(slot as usize)?;
        (place.ttl != 0).then_some(place.ttl)
    }

    /// How many stand in a ring.
    pub(super) fn len(&self, ttl: u8) -> usize {
        self.lengths[usize::from(ttl)] as usize
    }

    /// Puts a slot at the end of a ring; it stands in none, and the ring is not that
    /// of TTL 0.
    pub(super) fn push(&mut self, slot: u32, ttl: u8) {
        let (first, last) = self.ends[usize::from(ttl)];
        let Some(place) = self.places.get_mut(slot as usize) else {
            return;
        };
        debug_assert!(place.ttl == 0 && ttl != 0);
        (place.before, place.behind, place.ttl) = (last, NONE, ttl);
        if let Some(last) = self.places.get_mut(last as usize) {
            last.behind = slot;
        }
        let first = if first == NONE { slot } else { first };
        self.ends[usize::from(ttl)] = (first, slot);
        self.lengths[usize::from(ttl)] += 1;
        self.used[usize::from(ttl / 64)] |= 1 << (ttl % 64);
    }

    /// Takes a slot out of the ring it stands in, if it does.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(place) = self.places.get_mut(slot as usize) else {
            return;
        };
        let Place {
            before,
            behind,
            ttl,
        } = *place;
        if ttl == 0 {
            return;
        }
        place.ttl = 0;
        let nth = usize::from(ttl);
        match self.places.get_mut(before as usize) {
            Some(before) => before.behind = behind,
            None => self.ends[nth].0 = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(behind) => behind.before = before,
            None => self.ends[nth].1 = before,
        }
        self.lengths[nth] -= 1;
        if self.lengths[nth] == 0 {
            self.used[nth / 64] &= !(1 << (ttl % 64));
        }
    }

    /// Takes out the first of a ring.
    pub(super) fn pop(&mut self, ttl: u8) -> Option<u32> {
        let (first, _) = self.ends[usize::from(ttl)];
        (first != NONE).then(|| {
            self.remove(first);
            first
        })
    }

    /// The rings that are not empty, by rising TTL, as they are now.
    pub(super) fn used(&self) -> impl Iterator<Item = u8> + use<> {
        (0..).zip(self.used).flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then(|| word * 64 + bit as u8)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    proptest! {
        #[test]
        fn agree_with_deques(steps in prop::collection::vec((0u32..40, prop::sample::select(vec![1u8, 2, 63, 64, 255]), 0u8..4), 1..400)) {
            let mut rings = Rings::default();
            rings.reserve(40);
            let mut deques: BTreeMap<u8, VecDeque<u32>> = BTreeMap::new();
            for (slot, ttl, what) in steps {
                let stands = deques.iter().find(|(_, deque)| deque.contains(&slot)).map(|(ttl, _)| *ttl);
                prop_assert_eq!(rings.of(slot), stands);
                match what {
                    0 | 1 if stands.is_none() => {
                        rings.push(slot, ttl);
                        deques.entry(ttl).or_default().push_back(slot);
                    }
                    2 => {
                        rings.remove(slot);
                        deques.values_mut().for_each(|deque| deque.retain(|other| *other != slot));
                    }
                    _ => {
                        let first = deques.get_mut(&ttl).and_then(VecDeque::pop_front);
                        prop_assert_eq!(rings.pop(ttl), first);
                    }
                }
                deques.retain(|_, deque| !deque.is_empty());
                prop_assert!(rings.used().eq(deques.keys().copied()));
                prop_assert!(deques.iter().all(|(ttl, deque)| rings.len(*ttl) == deque.len()));
            }
        }
    }
}
