//! How a run goes, as one reads it from outside: what progress, status and metrics
//! are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::observed::{Observed, Seen};
use super::patient::Room;
use crate::engine::stats::Stats;

/// What is known of a run, by several threads.
#[derive(Debug)]
pub struct Account {
    /// When it began.
    pub begun: Instant,
    /// What the engine counts.
    pub stats: Arc<Stats>,
    /// What the records say.
    pub observed: Arc<Observed>,
    /// Whether the disk is full.
    pub room: Arc<Room>,
    /// Targets that had their record before: the campaign is resumed.
    pub before: u64,
    /// Targets of all lists, when they have been counted.
    pub total: OnceLock<u64>,
    /// Lines that are no targets.
    pub bad_lines: AtomicU64,
}

/// One moment of a run.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Since the run began.
    pub elapsed: Duration,
    /// Targets that have their record, those of earlier runs of the campaign too.
    pub done: u64,
    /// Of them, those that had it before.
    pub before: u64,
    /// Targets in all, where that is known.
    pub total: Option<u64>,
    /// Sessions open.
    pub open: u64,
    /// Connections established.
    pub established: u64,
    /// Packets sent.
    pub sent: u64,
    /// Probes sent.
    pub probes: u64,
    /// Replies that belong to a session.
    pub replies: u64,
    /// Probes that were not sent because near hops are shared.
    pub saved: u64,
    /// Times that a TTL was slowed down for its routers.
    pub slowed: u64,
    /// The links' own counters.
    pub link: Vec<(&'static str, u64)>,
    /// What was lost on this host, by cause; only causes that occurred.
    pub drops: Vec<(&'static str, u64)>,
    /// What the records say.
    pub seen: Seen,
    /// Lines that are no targets.
    pub bad_lines: u64,
    /// Writing waits for room on the disk.
    pub is_paused: bool,
}

impl Account {
    /// A run that begins now; `before` are the targets that have their record already.
    #[must_use]
    pub fn new(room: Arc<Room>, before: u64) -> Self {
        Account {
            begun: Instant::now(),
            stats: Arc::default(),
            observed: Arc::default(),
            room,
            before,
            total: OnceLock::new(),
            bad_lines: AtomicU64::new(0),
        }
    }

    /// As it is now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &self.stats;
        let mut drops = vec![
            ("malformed", get(&stats.malformed)),
            ("unclaimed", get(&stats.unclaimed)),
        ];
        let link = stats.link.lock().unwrap_or_else(PoisonError::into_inner);
        let link = link.clone();
        drops.extend(link.iter().filter(|(label, _)| is_drop(label)));
        drops.retain(|(_, count)| *count > 0);
        let seen = self.observed.read();
        Moment {
            elapsed: self.begun.elapsed(),
            done: self.before + seen.records() - seen.further,
            before: self.before,
            total: self.total.get().copied(),
            open: get(&stats.open),
            established: get(&stats.established),
            sent: get(&stats.sent),
            probes: get(&stats.probes),
            replies: get(&stats.replies),
            saved: get(&stats.saved),
            slowed: get(&stats.slowed),
            link,
            drops,
            seen,
            bad_lines: get(&self.bad_lines),
            is_paused: self.room.is_short(),
        }
    }
}

/// Whether a counter of a link counts what is lost on this host.
#[must_use]
pub fn is_drop(label: &str) -> bool {
    ["drop", "full", "fill-ring-empty", "redirect-failed"]
        .iter()
        .any(|sign| label.contains(sign))
}

impl Moment {
    /// The part of the probes that was not answered, in records that are finished.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let lost = self.seen.probes.checked_sub(self.seen.answered)?;
        (self.seen.probes > 0).then(|| lost as f64 / self.seen.probes as f64)
    }

    /// Targets that are left, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        Some(self.total?.saturating_sub(self.done))
    }

    /// How long it will take at the pace since `earlier`.
    #[must_use]
    pub fn to_go(&self, earlier: &Moment) -> Option<Duration> {
        let done = self
            .done
            .checked_sub(earlier.done)
            .filter(|done| *done > 0)?;
        let span = self.elapsed.checked_sub(earlier.elapsed)?;
        Duration::try_from_secs_f64(span.as_secs_f64() * self.left()? as f64 / done as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_go_is_by_the_pace() {
        let account = Account::new(Arc::default(), 100);
        *account.stats.link.lock().unwrap() = vec![("segment", 5), ("rx-dropped", 3)];
        let mut earlier = account.moment();
        assert_eq!((earlier.done, earlier.left()), (100, None));
        assert_eq!(earlier.drops, [("rx-dropped", 3)]);
        earlier.elapsed = Duration::from_secs(10);
        let mut now = earlier.clone();
        (now.done, now.total, now.elapsed) = (150, Some(400), Duration::from_secs(15));
        assert_eq!(now.left(), Some(250));
        assert_eq!(now.to_go(&earlier), Some(Duration::from_secs(25)));
        assert_eq!(now.to_go(&now), None);
        assert_eq!(now.loss(), None);
        (now.seen.probes, now.seen.answered) = (10, 7);
        assert_eq!(now.loss(), Some(0.3));
    }
}
