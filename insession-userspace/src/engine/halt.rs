//! How a run is told from outside to stop, from any thread, in two steps: first
//! gently, so that what is open goes on for a while, then at once.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Duration;

/// The handle. One number that only falls: what is left of the run's time, ns.
#[derive(Debug)]
pub struct Stop(AtomicU64);

/// Nobody has asked for a stop.
const GO_ON: u64 = u64::MAX;

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// The run goes on.
    #[must_use]
    pub const fn new() -> Self {
        Stop(AtomicU64::new(GO_ON))
    }

    /// No new sessions; open ones go on for at most `grace`, counted by each worker
    /// from when it sees this (at most a tenth of a second later), and are closed
    /// then as by [`Stop::end`]. Of several calls the shortest grace holds; none
    /// undoes [`Stop::end`].
    pub fn drain(&self, grace: Duration) {
        let nanos = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_min(nanos.min(GO_ON - 1), Ordering::SeqCst);
    }

    /// Open sessions are closed now; their records say `interrupted`.
    pub fn end(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Whether no more sessions are to begin.
    #[must_use]
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != GO_ON
    }

    /// Whether open ones are to be closed.
    #[must_use]
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// How long open sessions may go on from when this was first seen; `None` while
    /// the run goes on.
    #[must_use]
    #[inline]
    pub fn grace(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            GO_ON => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_grace_holds_and_an_end_is_final() {
        let stop = Stop::new();
        assert_eq!((stop.grace(), stop.is_asked()), (None, false));
        stop.drain(Duration::MAX);
        assert!(stop.is_asked() && !stop.is_ended());
        stop.drain(Duration::from_secs(3));
        stop.drain(Duration::from_secs(9));
        assert_eq!(stop.grace(), Some(Duration::from_secs(3)));
        assert!(!stop.is_ended());
        stop.end();
        stop.drain(Duration::from_secs(1));
        assert_eq!(stop.grace(), Some(Duration::ZERO));
        assert!(stop.is_ended() && stop.is_asked());
    }
}
