//! Two patient observers: whether the interface is still there, and whether the
//! driver still gives frames back. Neither asks for the time or for anything
//! else: they are told.

use super::device::State;
use crate::time::{Duration, Instant};

/// How often the interface is looked at: two system calls.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// How long the carrier may be away. Some drivers (igb) lose it for two to three
/// seconds at every attach and bind, and at every flap of the other end; the
/// sockets survive. Shorter ends runs that would go on; longer hides a pulled
/// cable.
pub(super) const CARRIER: Duration = Duration::from_secs(5);

/// How long the driver may give nothing back while frames are out. A flap stalls
/// igb for two seconds.
pub(super) const STALL: Duration = Duration::from_secs(5);

/// Whether the interface is still there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    next: Instant,
    lost: Option<Instant>,
}

impl Presence {
    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Told the state; whether it still counts as there.
    pub(super) fn observe(&mut self, now: Instant, state: State) -> bool {
        self.next = now + EVERY;
        match state {
            State::Gone | State::Down => false,
            State::Up => {
                self.lost = None;
                true
            }
            State::NoCarrier => now.since(*self.lost.get_or_insert(now)) < CARRIER,
        }
    }
}

/// Whether the driver still gives frames back.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Since when frames are out without one coming back.
    since: Option<Instant>,
}

impl Progress {
    /// Told how many frames are out and whether some came back since the last
    /// call; whether the driver counts as alive.
    pub(super) fn observe(&mut self, now: Instant, out: usize, returned: bool) -> bool {
        if out == 0 {
            self.since = None;
        } else if returned {
            self.since = Some(now);
        }
        out == 0 || now.since(*self.since.get_or_insert(now)) < STALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn down_and_gone_count_at_once_but_a_lost_carrier_may_return() {
        let mut presence = Presence::default();
        assert!(presence.is_due(at(0)));
        assert!(presence.observe(at(0), State::Up));
        assert!(!presence.is_due(at(99)) && presence.is_due(at(100)));
        assert!(presence.observe(at(100), State::NoCarrier));
        assert!(presence.observe(at(5099), State::NoCarrier));
        assert!(presence.observe(at(5100), State::Up));
        assert!(presence.observe(at(5200), State::NoCarrier), "counted anew");
        assert!(!presence.observe(at(10_200), State::NoCarrier));
        assert!(!Presence::default().observe(at(0), State::Down));
        assert!(!Presence::default().observe(at(0), State::Gone));
    }

    #[test]
    fn driver_that_gives_nothing_back_stalls() {
        let mut progress = Progress::default();
        assert!(progress.observe(at(0), 0, false));
        assert!(progress.observe(at(60_000), 3, false), "out since just now");
        assert!(progress.observe(at(64_999), 3, false));
        assert!(progress.observe(at(64_999), 2, true), "one came back");
        assert!(progress.observe(at(69_998), 9, false));
        assert!(!progress.observe(at(69_999), 9, false));
        assert!(progress.observe(at(70_000), 0, true));
    }
}
