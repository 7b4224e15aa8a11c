//! The sessions that want to send, first come, first served: a ring of slots
//! with room for all of them, so that queueing allocates nothing and those whose
//! turn comes soon can be seen ([`Ready::ahead`]). A session sends one segment a
//! batch and goes to the back: none starves another.
//!
//! But where there is a rate, one that has more to send keeps its turn until as many
//! of its probes are in flight as may be, a dozen: so sessions that begin together are
//! at different TTLs soon, and do not ask the near routers all at once. Of what leaves
//! in a row at a given rate a quarter or so has one TTL: a hop's probes of that dozen.
//! Whoever is woken by an answer goes to the back.

/// A queue of slots, each in it at most once.
#[derive(Debug, Default)]
pub struct Ready {
    /// As many as there are slots at least, a power of two.
    ring: Vec<u32>,
    /// Whether a slot is queued. An octet each: a bit takes longer to find.
    queued: Vec<bool>,
    /// Counts all that were ever taken; its place in the ring is what remains.
    front: usize,
    len: usize,
}

impl Ready {
    /// Makes room for the slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        if slots > self.ring.len() {
            let before: Vec<u32> = (0..self.len).filter_map(|nth| self.ahead(nth)).collect();
            // Room for twice as many at a time: what is queued is moved each time.
            self.ring.resize(slots.next_power_of_two(), 0);
            self.front = 0;
            for (place, slot) in self.ring.iter_mut().zip(before) {
                *place = slot;
            }
            self.queued.resize(self.ring.len(), false);
        }
    }

    /// How many are queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a slot at the back, unless it is in the queue.
    #[inline]
    pub fn push(&mut self, slot: u32) {
        let place = self.place(self.len);
        // Each is in it once: there is room for all that have a place here.
        if let Some(queued) = self.queued.get_mut(slot as usize)
            && !*queued
            && let Some(place) = self.ring.get_mut(place)
        {
            *queued = true;
            *place = slot;
            self.len += 1;
        }
    }

    /// Puts a slot at the front, unless it is in the queue.
    #[inline]
    pub fn push_front(&mut self, slot: u32) {
        let front = self.front.wrapping_sub(1);
        let place = front & self.ring.len().wrapping_sub(1);
        if let Some(queued) = self.queued.get_mut(slot as usize)
            && !*queued
            && let Some(place) = self.ring.get_mut(place)
        {
            *queued = true;
            *place = slot;
            self.front = front;
            self.len += 1;
        }
    }

    /// Takes the one at the front.
    #[inline]
    pub fn pop(&mut self) -> Option<u32> {
        let slot = self.ahead(0)?;
        *self.queued.get_mut(slot as usize)? = false;
        self.front = self.front.wrapping_add(1);
        self.len -= 1;
        Some(slot)
    }

    /// Whose turn it is after `turns` others.
    #[must_use]
    #[inline]
    pub fn ahead(&self, turns: usize) -> Option<u32> {
        if turns >= self.len {
            return None;
        }
        self.ring.get(self.place(turns)).copied()
    }

    /// Octets of memory it takes for a slot.
    #[cfg(test)]
    pub(super) const OCTETS: usize = size_of::<u32>() + 1;

    #[inline]
    fn place(&self, turns: usize) -> usize {
        self.front.wrapping_add(turns) & self.ring.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec(prop::option::of((0u32..100, any::<bool>())), 1..500)) {
            let mut ready = Ready::default();
            let mut deque = VecDeque::new();
            for (n, step) in steps.into_iter().enumerate() {
                // Grows in mid-course, too; a slot without room is ignored.
                let room = 1usize << (n / 30).min(7);
                ready.reserve(room);
                let step = step.map(|(slot, front)| (slot % room as u32, front));
                match step {
                    Some((slot, true)) => {
                        ready.push_front(slot);
                        if !deque.contains(&slot) {
                            deque.push_front(slot);
                        }
                    }
                    Some((slot, false)) => {
                        ready.push(slot);
                        if !deque.contains(&slot) {
                            deque.push_back(slot);
                        }
                    }
                    None => prop_assert_eq!(ready.pop(), deque.pop_front()),
                }
                prop_assert_eq!(ready.len(), deque.len());
                for turns in 0..=deque.len() {
                    prop_assert_eq!(ready.ahead(turns), deque.get(turns).copied());
                }
            }
        }
    }
}
