//! Sessions by number. A [`SessionId`] is a slot's index and the slot's
//! generation: a reply that carries the id of a session that is gone does not
//! find the one that took its slot. (Generations wrap after 127 reuses; what
//! would pass even then is stopped by comparing the reply's flow.)
//!
//! Slots live in chunks that never move, so that growing to a million sessions
//! copies none of them.

use insession_common::flow::SessionId;

/// log2 of the slots of a chunk.
const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;
/// Bits of an id that are the slot's index.
const INDEX_BITS: u32 = 25;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// Generations 0 to 126: 127 with the last index would be
/// [`insession_common::flow::UNRESOLVED`].
const GENERATIONS: u8 = 127;

/// The most entries a slab holds.
const MAX_ENTRIES: usize = 1 << INDEX_BITS;

#[derive(Debug)]
struct Slot<T> {
    generation: u8,
    value: Option<T>,
}

/// A slab.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest index there can be now.
    #[must_use]
    pub fn indices(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// The id that the next [`Slab::insert`] will give; `None` when it is full.
    pub fn next_id(&mut self) -> Option<SessionId> {
        if self.free.is_empty() {
            self.grow();
        }
        let index = *self.free.last()?;
        let slot = self.slot_mut(index)?;
        Some(u32::from(slot.generation) << INDEX_BITS | index)
    }

    /// Puts it in, under the id that [`Slab::next_id`] gives; `None` when the
    /// slab is full.
    pub fn insert(&mut self, value: T) -> Option<SessionId> {
        let id = self.next_id()?;
        self.slot_mut(index(id))?.value = Some(value);
        self.free.pop();
        self.len += 1;
        Some(id)
    }

    /// Takes it out; its id is not valid any more.
    pub fn remove(&mut self, id: SessionId) -> Option<T> {
        let slot = self.slot_mut(index(id))?;
        if slot.generation != generation(id) {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(index(id));
        self.len -= 1;
        Some(value)
    }

    /// The entry with this id.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&T> {
        let index = index(id);
        let slot = self
            .chunks
            .get((index >> CHUNK_BITS) as usize)?
            .get(index as usize % CHUNK)?;
        slot.value
            .as_ref()
            .filter(|_| slot.generation == generation(id))
    }

    /// The entry with this id.
    #[must_use]
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        let slot = self.slot_mut(index(id))?;
        slot.value
            .as_mut()
            .filter(|_| slot.generation == generation(id))
    }

    /// The id of the entry at this index now.
    #[must_use]
    pub fn id_at(&self, index: u32) -> Option<SessionId> {
        let slot = self
            .chunks
            .get((index >> CHUNK_BITS) as usize)?
            .get(index as usize % CHUNK)?;
        slot.value.as_ref()?;
        Some(u32::from(slot.generation) << INDEX_BITS | index)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut((index >> CHUNK_BITS) as usize)?
            .get_mut(index as usize % CHUNK)
    }

    fn grow(&mut self) {
        let first = self.indices();
        if first >= MAX_ENTRIES {
            return;
        }
        let slot = || Slot {
            generation: 0,
            value: None,
        };
        self.chunks.push((0..CHUNK).map(|_| slot()).collect());
        // Lowest first out.
        self.free
            .extend((first as u32..(first + CHUNK) as u32).rev());
    }
}

/// The slot of an id: what timers and lists are kept by.
#[must_use]
pub const fn index(id: SessionId) -> u32 {
    id & INDEX_MASK
}

const fn generation(id: SessionId) -> u8 {
    (id >> INDEX_BITS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use insession_common::flow::UNRESOLVED;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn an_id_does_not_outlive_its_entry() {
        let mut slab = Slab::default();
        let first = slab.insert("a").unwrap();
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b").unwrap();
        assert_eq!(index(first), index(second));
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.id_at(index(first)), Some(second));
    }

    #[test]
    fn no_id_is_the_unresolved_one() {
        assert_eq!(generation(UNRESOLVED), GENERATIONS);
        let mut slab = Slab::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..GENERATIONS {
            let id = slab.insert(()).unwrap();
            assert!(generation(id) < GENERATIONS);
            assert!(seen.insert(id));
            slab.remove(id);
        }
        assert!(slab.get(UNRESOLVED).is_none());
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..2_000)) {
            let mut slab = Slab::default();
            let mut map = HashMap::new();
            let mut ids = Vec::new();
            for (insert, n) in steps {
                if insert || ids.is_empty() {
                    let id = slab.insert(n).unwrap();
                    prop_assert!(map.insert(id, n).is_none());
                    ids.push(id);
                } else {
                    let id = ids[usize::from(n) % ids.len()];
                    prop_assert_eq!(slab.remove(id), map.remove(&id));
                }
                prop_assert_eq!(slab.len(), map.len());
            }
            for id in ids {
                prop_assert_eq!(slab.get(id), map.get(&id));
                prop_assert_eq!(slab.get_mut(id).copied(), map.get(&id).copied());
            }
        }
    }
}
