//! A bounded channel whose items travel by the chunk: where both ends are busy, a
//! thread that waits for the other is woken once a chunk, not once an item. Nothing
//! waits for a chunk to be full: who gives hands over what there is before it waits
//! for anything else.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;
use std::vec;

/// Items of a chunk at most. A wake-up takes some microseconds of two processors, a
/// target a few on each of its ways: with more nothing is gained, with fewer it shows.
pub(super) const CHUNK: usize = 64;

/// A channel for about as many items, and those that either end has in hand.
pub(super) fn channel<T>(items: usize) -> (Giver<T>, Taker<T>) {
    let (sender, receiver) = sync_channel(items.div_ceil(CHUNK));
    let giver = Giver {
        sender,
        chunk: Vec::new(),
    };
    let taker = Taker {
        receiver,
        chunk: Vec::new().into_iter(),
    };
    (giver, taker)
}

/// The end that items go in at.
#[derive(Debug)]
pub(super) struct Giver<T> {
    sender: SyncSender<Vec<T>>,
    chunk: Vec<T>,
}

impl<T> Giver<T> {
    /// Adds an item to those to hand over; whether it is time to.
    #[must_use]
    pub(super) fn add(&mut self, item: T) -> bool {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        self.chunk.push(item);
        self.chunk.len() >= CHUNK
    }

    /// Hands over what there is, and waits for room; how many those were.
    ///
    /// # Errors
    /// They come back when nobody takes them any more.
    pub(super) fn hand_over(&mut self) -> Result<usize, Vec<T>> {
        if self.chunk.is_empty() {
            return Ok(0);
        }
        let chunk = std::mem::take(&mut self.chunk);
        let count = chunk.len();
        self.sender.send(chunk).map_err(|back| back.0)?;
        Ok(count)
    }
}

/// The end that items come out at.
#[derive(Debug)]
pub(super) struct Taker<T> {
    receiver: mpsc::Receiver<Vec<T>>,
    chunk: vec::IntoIter<T>,
}

impl<T> Taker<T> {
    /// Whether there is one without waiting.
    pub(super) fn is_at_hand(&mut self) -> bool {
        if self.chunk.len() == 0
            && let Ok(chunk) = self.receiver.try_recv()
        {
            self.chunk = chunk.into_iter();
        }
        self.chunk.len() > 0
    }

    /// The next one, without waiting.
    pub(super) fn try_take(&mut self) -> Result<T, TryRecvError> {
        loop {
            if let Some(item) = self.chunk.next() {
                return Ok(item);
            }
            self.chunk = self.receiver.try_recv()?.into_iter();
        }
    }

    /// The next one; waits for it at most so long.
    pub(super) fn take_within(&mut self, limit: Duration) -> Result<T, RecvTimeoutError> {
        loop {
            if let Some(item) = self.chunk.next() {
                return Ok(item);
            }
            self.chunk = self.receiver.recv_timeout(limit)?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_only_when_handed_over() {
        let (mut giver, mut taker) = channel(3 * CHUNK);
        assert_eq!(giver.hand_over(), Ok(0));
        assert!(!giver.add(0));
        assert!(!taker.is_at_hand());
        assert_eq!(taker.try_take(), Err(TryRecvError::Empty));
        assert_eq!(giver.hand_over(), Ok(1));
        let times: Vec<_> = (1..=CHUNK).map(|item| giver.add(item)).collect();
        assert_eq!(times.iter().position(|time| *time), Some(CHUNK - 1));
        assert_eq!(giver.hand_over(), Ok(CHUNK));
        assert!(taker.is_at_hand());
        for item in 0..=CHUNK {
            let taken = match item % 2 {
                0 => taker.try_take().ok(),
                _ => taker.take_within(Duration::ZERO).ok(),
            };
            assert_eq!(taken, Some(item));
        }
        let late = taker.take_within(Duration::ZERO);
        assert_eq!(late, Err(RecvTimeoutError::Timeout));
        drop(giver);
        assert_eq!(taker.try_take(), Err(TryRecvError::Disconnected));
        assert!(!taker.is_at_hand());
    }

    #[test]
    fn what_nobody_takes_comes_back() {
        let (mut giver, taker) = channel(1);
        drop(taker);
        let _ = giver.add('a');
        let _ = giver.add('b');
        assert_eq!(giver.hand_over(), Err(vec!['a', 'b']));
        assert_eq!(giver.hand_over(), Ok(0));
    }
}
