//! Where a worker gets its targets from: a channel in a run, a list in tests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Target;
use super::chunks::Taker;
use crate::net::Route;

/// A target and the way to it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The target.
    pub target: Target,
    /// The way.
    pub route: Route,
}

/// What [`Jobs::poll`] answers.
#[derive(Clone, Debug)]
pub enum Supply {
    /// The next one.
    Job(Job),
    /// None now; there may be more.
    Later,
    /// No more.
    Done,
}

/// A supply of targets.
pub trait Jobs {
    /// The next target, without waiting.
    fn poll(&mut self) -> Supply;

    /// Waits until there is one or `limit` has passed: for a worker that has
    /// nothing else to do.
    fn wait(&mut self, limit: Duration);

    /// The worker takes no more; whether others do. If not, the worker has to end
    /// those that still come.
    fn leave(&mut self) -> bool {
        false
    }
}

/// A list is a supply that never says "later".
impl Jobs for VecDeque<Job> {
    fn poll(&mut self) -> Supply {
        self.pop_front().map_or(Supply::Done, Supply::Job)
    }

    fn wait(&mut self, _limit: Duration) {}
}

/// The jobs that a run sends, to one worker or several: whoever has room for
/// a session takes the next.
#[derive(Debug)]
pub(super) struct Channel<'a> {
    jobs: &'a Mutex<Taker<Job>>,
    /// How many workers take from it, where it is more than this one.
    takers: Option<&'a AtomicUsize>,
    /// Set when it was found empty: the sender then wakes the worker.
    hungry: &'a AtomicBool,
    next: Option<Supply>,
}

/// How long a worker that shares its supply sleeps at a time.
const BRIEF: Duration = Duration::from_millis(2);

impl<'a> Channel<'a> {
    pub(super) fn new(
        jobs: &'a Mutex<Taker<Job>>,
        takers: Option<&'a AtomicUsize>,
        hungry: &'a AtomicBool,
    ) -> Self {
        Channel {
            jobs,
            takers,
            hungry,
            next: None,
        }
    }

    /// Held for a moment, once a session.
    fn jobs(&self) -> MutexGuard<'a, Taker<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&mut self) -> Supply {
        match self.jobs().try_take() {
            Ok(job) => Supply::Job(job),
            Err(TryRecvError::Empty) => Supply::Later,
            Err(TryRecvError::Disconnected) => Supply::Done,
        }
    }
}

impl Jobs for Channel<'_> {
    fn poll(&mut self) -> Supply {
        if let Some(next) = self.next.take() {
            return next;
        }
        match self.receive() {
            Supply::Later => {
                // Once more behind the flag: a job sent before it was set woke nobody.
                self.hungry.store(true, Ordering::SeqCst);
                self.receive()
            }
            supply => supply,
        }
    }

    fn wait(&mut self, limit: Duration) {
        if self.takers.is_some() {
            // Not asleep with the lock in hand.
            std::thread::sleep(limit.min(BRIEF));
        } else if self.next.is_none() {
            let received = self.jobs().take_within(limit);
            self.next = match received {
                Ok(job) => Some(Supply::Job(job)),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Supply::Done),
            };
        }
    }

    fn leave(&mut self) -> bool {
        let takers = self.takers.take();
        takers.is_some_and(|takers| takers.fetch_sub(1, Ordering::Relaxed) > 1)
    }
}
