//! The way out of a worker: a bounded channel that is never waited for. What
//! does not fit stays here, in order, and the worker admits no new session until
//! it has gone; so what piles up is bounded by what the open sessions still have
//! to tell. Nothing is dropped.

use std::collections::VecDeque;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};

use super::Output;

/// Outputs that are worth a wake-up, which takes as long as some records take to be
/// written. Busy workers have so many in a few milliseconds.
const MANY: usize = 128;

/// The way out of one worker.
#[derive(Debug)]
pub(super) struct Outbox<'a> {
    outputs: &'a Sender<Output>,
    backlog: VecDeque<Output>,
    /// There was no room the last time.
    behind: bool,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(outputs: &'a mpsc::Sender<Output>) -> Self {
        Outbox {
            outputs,
            backlog: VecDeque::new(),
            behind: false,
        }
    }

    /// Tells it with the next [`Outbox::drain`], or later.
    pub(super) fn push(&mut self, output: Output) {
        self.backlog.push_back(output);
    }

    /// Hands over what has come together, if that is enough for whoever reads to be
    /// woken for it; a worker that goes to sleep does not ask.
    pub(super) fn drain_many(&mut self) {
        if self.behind || self.backlog.len() >= MANY {
            self.drain();
        }
    }

    /// Hands over as much as there is room for.
    pub(super) fn drain(&mut self) {
        self.behind = false;
        while let Some(output) = self.backlog.pop_front() {
            match self.outputs.try_send(output) {
                Ok(()) => {}
                Err(TrySendError::Full(output)) => {
                    self.backlog.push_front(output);
                    self.behind = true;
                    return;
                }
                // Nobody reads any more: the worker stops for it.
                Err(TrySendError::Closed(_)) => self.backlog.clear(),
            }
        }
    }

    /// Hands over everything, waiting for room: for when the link is dead and
    /// there is no packet left to be late for.
    pub(super) fn drain_blocking(&mut self) {
        for output in self.backlog.drain(..) {
            if self.outputs.blocking_send(output).is_err() {
                return;
            }
        }
    }

    /// Whether the reader takes things more slowly than they come.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether everything was handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }
}
