//! The sessions that want to send, first come, first served: a list threaded
//! through an array by slot, so that queueing allocates nothing. A session
//! sends one segment a turn and goes to the back: none starves another.

/// No slot.
const NIL: u32 = u32::MAX;
/// The slot is in no queue.
const OUT: u32 = u32::MAX - 1;

/// A queue of slots, each in it at most once.
#[derive(Debug)]
pub struct Ready {
    next: Vec<u32>,
    head: u32,
    tail: u32,
    len: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Ready {
            next: Vec::new(),
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }
}

impl Ready {
    /// Makes room for the slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        if slots > self.next.len() {
            self.next.resize(slots, OUT);
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
    pub fn push(&mut self, slot: u32) {
        match self.next.get_mut(slot as usize) {
            Some(next) if *next == OUT => *next = NIL,
            _ => return,
        }
        match self.next.get_mut(self.tail as usize) {
            Some(next) => *next = slot,
            None => self.head = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Takes the one at the front.
    pub fn pop(&mut self) -> Option<u32> {
        let slot = self.head;
        let next = self.next.get_mut(slot as usize)?;
        self.head = core::mem::replace(next, OUT);
        if self.head == NIL {
            self.tail = NIL;
        }
        self.len -= 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec(prop::option::of(0u32..8), 1..500)) {
            let mut ready = Ready::default();
            ready.reserve(8);
            let mut deque = VecDeque::new();
            for step in steps {
                match step {
                    Some(slot) => {
                        ready.push(slot);
                        if !deque.contains(&slot) {
                            deque.push_back(slot);
                        }
                    }
                    None => prop_assert_eq!(ready.pop(), deque.pop_front()),
                }
                prop_assert_eq!(ready.len(), deque.len());
            }
        }
    }
}
