//! Where a worker gets its targets from: a channel in a campaign, a list in tests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use super::Target;
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
}

/// A list is a supply that never says "later".
impl Jobs for VecDeque<Job> {
    fn poll(&mut self) -> Supply {
        self.pop_front().map_or(Supply::Done, Supply::Job)
    }

    fn wait(&mut self, _limit: Duration) {}
}

/// The jobs that a campaign sends.
#[derive(Debug)]
pub(super) struct Channel<'a> {
    jobs: Receiver<Job>,
    /// Set when it was found empty: the sender then wakes the worker.
    hungry: &'a AtomicBool,
    next: Option<Supply>,
}

impl<'a> Channel<'a> {
    pub(super) fn new(jobs: Receiver<Job>, hungry: &'a AtomicBool) -> Self {
        Channel {
            jobs,
            hungry,
            next: None,
        }
    }

    fn receive(&mut self) -> Supply {
        match self.jobs.try_recv() {
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
        if self.next.is_none() {
            self.next = match self.jobs.recv_timeout(limit) {
                Ok(job) => Some(Supply::Job(job)),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Supply::Done),
            };
        }
    }
}
