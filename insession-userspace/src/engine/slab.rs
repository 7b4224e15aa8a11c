//! Sessions by number. A [`SessionId`] is a slot's index, the worker whose slot
//! it is, and the slot's generation: a reply that carries the id of a session
//! that is gone does not find the one that took its slot. (Generations wrap
//! after 31 reuses; what would pass even then is stopped by comparing the
//! reply's flow.)
//!
//! What is touched once a packet (hot) lies apart from what is touched once a
//! session (cold), each entry of the hot array on cache lines of its own.
//!
//! Slots live in chunks that never move, so that growing to a million sessions
//! copies none of them.

use insession_common::flow::SessionId;

use crate::link::prefetch::prefetch;

/// log2 of the slots of a chunk: a million slots are a thousand chunks, whose
/// pointers stay in the first-level cache.
const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
/// Bits of an id that are the slot's index.
const INDEX_BITS: u32 = 22;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// Bits of an id that are the worker's number.
const WORKER_BITS: u32 = 5;
const WORKER_MASK: u32 = (1 << WORKER_BITS) - 1;
/// Generations 0 to 30: 31 with the last worker and index would be
/// [`insession_common::flow::UNRESOLVED`].
const GENERATIONS: u8 = 31;

/// The most entries a slab holds.
const MAX_ENTRIES: usize = 1 << INDEX_BITS;
/// The most workers there can be.
pub const MAX_WORKERS: usize = 1 << WORKER_BITS;

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Line<H>(Option<H>);

#[derive(Debug)]
struct Chunk<H, C> {
    hot: Box<[Line<H>; CHUNK]>,
    cold: Box<[Option<C>; CHUNK]>,
    generations: Box<[u8; CHUNK]>,
}

/// The slab of one worker: hot and cold part of each entry.
#[derive(Debug)]
pub struct Slab<H, C> {
    worker: u8,
    chunks: Vec<Chunk<H, C>>,
    free: Vec<u32>,
    len: usize,
}

impl<H, C> Slab<H, C> {
    /// An empty one, whose ids name this worker.
    #[must_use]
    pub fn new(worker: u8) -> Self {
        debug_assert!(usize::from(worker) < MAX_WORKERS);
        Slab {
            worker,
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// Octets of memory a slot takes, beside its share of what is allocated for
    /// the hot part: side arrays and the cold part.
    #[cfg(test)]
    pub(super) const BESIDE: usize = size_of::<Option<C>>() + size_of::<u8>() + size_of::<u32>();

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
        Some(self.id(self.chunk(index)?, index))
    }

    /// Puts it in, under the id that [`Slab::next_id`] gives; `None` when the
    /// slab is full.
    pub fn insert(&mut self, hot: H, cold: C) -> Option<SessionId> {
        let id = self.next_id()?;
        let chunk = self.chunk_mut(index(id))?;
        chunk.hot[nth(id)].0 = Some(hot);
        chunk.cold[nth(id)] = Some(cold);
        self.free.pop();
        self.len += 1;
        Some(id)
    }

    /// Takes it out; its id is not valid any more.
    pub fn remove(&mut self, id: SessionId) -> Option<(H, C)> {
        let chunk = self.owned_mut(id)?;
        let generation = &mut chunk.generations[nth(id)];
        let entry = (chunk.hot[nth(id)].0.take()?, chunk.cold[nth(id)].take()?);
        *generation = (*generation + 1) % GENERATIONS;
        self.free.push(index(id));
        self.len -= 1;
        Some(entry)
    }

    /// The hot part of the entry with this id.
    #[must_use]
    #[inline]
    pub fn get(&self, id: SessionId) -> Option<&H> {
        self.owned(id)?.hot[nth(id)].0.as_ref()
    }

    /// The hot part of the entry that has this index now.
    #[must_use]
    #[inline]
    pub fn hot_at_mut(&mut self, index: u32) -> Option<&mut H> {
        self.chunk_mut(index)?.hot[nth(index)].0.as_mut()
    }

    /// The hot part of the entry with this id.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut H> {
        self.owned_mut(id)?.hot[nth(id)].0.as_mut()
    }

    /// Both parts of the entry with this id.
    #[must_use]
    #[inline]
    pub fn both_mut(&mut self, id: SessionId) -> Option<(&mut H, &mut C)> {
        let chunk = self.owned_mut(id)?;
        let (hot, cold) = (&mut chunk.hot[nth(id)], &mut chunk.cold[nth(id)]);
        Some((hot.0.as_mut()?, cold.as_mut()?))
    }

    /// The hot part of the entry that has this index now.
    #[must_use]
    #[inline]
    pub fn at(&self, index: u32) -> Option<&H> {
        self.chunk(index)?.hot[nth(index)].0.as_ref()
    }

    /// The entry that has this index now: its id, and both its parts.
    #[must_use]
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> Option<(SessionId, &mut H, &mut C)> {
        let worker = self.worker;
        let chunk = self.chunk_mut(index)?;
        let id = id(chunk.generations[nth(index)], worker, index);
        let (hot, cold) = (&mut chunk.hot[nth(index)], &mut chunk.cold[nth(index)]);
        Some((id, hot.0.as_mut()?, cold.as_mut()?))
    }

    /// The id of the entry that has this index now.
    #[must_use]
    #[inline]
    pub fn id_at(&self, index: u32) -> Option<SessionId> {
        let chunk = self.chunk(index)?;
        chunk.hot[nth(index)].0.as_ref()?;
        Some(self.id(chunk, index))
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        (0..self.indices() as u32).filter_map(|index| self.id_at(index))
    }

    /// Has the hot part of a slot fetched into the cache; its place.
    #[inline]
    pub fn prefetch(&self, index: u32) -> Option<&Option<H>> {
        let Line(place) = &self.chunk(index)?.hot[nth(index)];
        prefetch(place);
        Some(place)
    }

    /// Has both parts of a slot fetched into the cache.
    #[inline]
    pub fn prefetch_both(&self, index: u32) {
        if let Some(chunk) = self.chunk(index) {
            prefetch(&chunk.hot[nth(index)]);
            prefetch(&chunk.cold[nth(index)]);
        }
    }

    #[inline]
    fn id(&self, chunk: &Chunk<H, C>, index: u32) -> SessionId {
        id(chunk.generations[nth(index)], self.worker, index)
    }

    /// The chunk of an entry, if the id is this worker's and of today.
    #[inline]
    fn owned(&self, id: SessionId) -> Option<&Chunk<H, C>> {
        let chunk = self.chunk(index(id))?;
        (self.id(chunk, index(id)) == id).then_some(chunk)
    }

    #[inline]
    fn owned_mut(&mut self, whose: SessionId) -> Option<&mut Chunk<H, C>> {
        let worker = self.worker;
        let chunk = self.chunk_mut(index(whose))?;
        (id(chunk.generations[nth(whose)], worker, index(whose)) == whose).then_some(chunk)
    }

    #[inline]
    fn chunk(&self, index: u32) -> Option<&Chunk<H, C>> {
        self.chunks.get((index >> CHUNK_BITS) as usize)
    }

    #[inline]
    fn chunk_mut(&mut self, index: u32) -> Option<&mut Chunk<H, C>> {
        self.chunks.get_mut((index >> CHUNK_BITS) as usize)
    }

    fn grow(&mut self) {
        let first = self.indices();
        if first >= MAX_ENTRIES {
            return;
        }
        let (Some(hot), Some(cold)) = (boxed(|| Line(None)), boxed(|| None)) else {
            return;
        };
        self.chunks.push(Chunk {
            hot,
            cold,
            generations: Box::new([0; CHUNK]),
        });
        // Lowest first out.
        self.free
            .extend((first as u32..(first + CHUNK) as u32).rev());
    }
}

#[inline]
const fn id(generation: u8, worker: u8, index: u32) -> SessionId {
    ((generation as u32) << WORKER_BITS | worker as u32) << INDEX_BITS | index
}

/// An array made where it stays: one of sessions does not belong on the stack.
fn boxed<T>(make: impl Fn() -> T) -> Option<Box<[T; CHUNK]>> {
    let slice: Box<[T]> = (0..CHUNK).map(|_| make()).collect();
    slice.try_into().ok()
}

/// The slot of an id: what timers and lists are kept by.
#[must_use]
#[inline]
pub const fn index(id: SessionId) -> u32 {
    id & INDEX_MASK
}

/// The worker of an id; of [`insession_common::flow::UNRESOLVED`] it is none's.
#[must_use]
#[inline]
pub const fn worker_of(id: SessionId) -> u8 {
    (id >> INDEX_BITS & WORKER_MASK) as u8
}

#[cfg(test)]
const fn generation(id: SessionId) -> u8 {
    (id >> (INDEX_BITS + WORKER_BITS)) as u8
}

/// Place within the chunk.
const fn nth(index: u32) -> usize {
    index as usize % CHUNK
}

#[cfg(test)]
mod tests {
    use super::*;
    use insession_common::flow::UNRESOLVED;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn an_id_does_not_outlive_its_entry() {
        let mut slab = Slab::new(3);
        let first = slab.insert("a", 'x').unwrap();
        assert_eq!(slab.remove(first), Some(("a", 'x')));
        let second = slab.insert("b", 'y').unwrap();
        assert_eq!(index(first), index(second));
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.both_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.at(index(first)), Some(&"b"));
        assert_eq!(slab.id_at(index(first)), Some(second));
        let entry = slab.at_mut(index(first));
        assert_eq!(entry, Some((second, &mut "b", &mut 'y')));
        assert_eq!(slab.hot_at_mut(index(first)), Some(&mut "b"));
        assert_eq!(slab.hot_at_mut(index(first) + 1), None);
    }

    #[test]
    fn ids_of_other_workers_are_not_ours() {
        let mut slabs: Vec<_> = (0..MAX_WORKERS as u8).map(Slab::new).collect();
        let ids: Vec<_> = slabs
            .iter_mut()
            .map(|slab| slab.insert((), ()).unwrap())
            .collect();
        for (slab, worker) in slabs.iter().zip(0..) {
            for id in &ids {
                assert_eq!(slab.get(*id).is_some(), worker_of(*id) == worker);
                assert_eq!(index(*id), 0);
            }
        }
    }

    #[test]
    fn no_id_is_the_unresolved_one() {
        assert_eq!(generation(UNRESOLVED), GENERATIONS);
        let mut slab = Slab::new(MAX_WORKERS as u8 - 1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..GENERATIONS {
            let id = slab.insert((), ()).unwrap();
            assert!(generation(id) < GENERATIONS);
            assert!(seen.insert(id));
            slab.remove(id);
        }
        assert!(slab.get(UNRESOLVED).is_none());
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..4_000)) {
            let mut slab = Slab::new(1);
            let mut map = HashMap::new();
            let mut ids = Vec::new();
            for (insert, n) in steps {
                if insert || ids.is_empty() {
                    let id = slab.insert(n, !n).unwrap();
                    prop_assert!(map.insert(id, n).is_none());
                    ids.push(id);
                } else {
                    let id = ids[usize::from(n) % ids.len()];
                    prop_assert_eq!(slab.remove(id), map.remove(&id).map(|n| (n, !n)));
                }
                prop_assert_eq!(slab.len(), map.len());
            }
            prop_assert_eq!(slab.ids().count(), map.len());
            for id in ids {
                prop_assert_eq!(slab.get(id), map.get(&id));
                let both = slab.both_mut(id).map(|(hot, cold)| (*hot, *cold));
                prop_assert_eq!(both, map.get(&id).map(|n| (*n, !n)));
            }
        }
    }
}
