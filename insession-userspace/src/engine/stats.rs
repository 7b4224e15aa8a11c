//! What a run counts while it goes: read by the progress bar.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::time::Duration;

/// Counters and gauges of a run. Workers add once a batch, not once a packet.
#[derive(Debug)]
pub struct Stats {
    /// Targets that have their record.
    pub finished: AtomicU64,
    /// Sessions open now (SYN sent, not yet closed).
    pub open: AtomicU64,
    /// Connections established now.
    pub established: AtomicU64,
    /// The most connections that were established at one moment.
    pub established_peak: AtomicU64,
    /// Packets sent.
    pub sent: AtomicU64,
    /// Probes sent.
    pub probes: AtomicU64,
    /// Replies received that belong to a session.
    pub replies: AtomicU64,
    /// Times that a session's next probe was not owed to its TTL's routers yet
    /// ([`super::EngineOptions::router_rate`]).
    pub held: AtomicU64,
    /// Times that a TTL was slowed down ([`super::Output::Slowed`]).
    pub slowed: AtomicU64,
    /// Probes that were not sent because their hops are shared
    /// ([`super::EngineOptions::share_near_hops`]).
    pub saved: AtomicU64,
    /// Frames steered to us that no session claimed.
    pub unclaimed: AtomicU64,
    /// Frames steered to us that do not parse, or whose checksum is wrong.
    pub malformed: AtomicU64,
    /// The links' own counters, as last read (about ten times a second), those
    /// of one name added up over all links.
    pub link: Mutex<Vec<(&'static str, u64)>>,
    /// From the kernel's stamp of a frame to the end of what its session made of
    /// it, ns; empty unless [`super::EngineOptions::latency`].
    pub latency: Mutex<Histogram<u64>>,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            finished: AtomicU64::default(),
            open: AtomicU64::default(),
            established: AtomicU64::default(),
            established_peak: AtomicU64::default(),
            sent: AtomicU64::default(),
            probes: AtomicU64::default(),
            replies: AtomicU64::default(),
            held: AtomicU64::default(),
            slowed: AtomicU64::default(),
            saved: AtomicU64::default(),
            unclaimed: AtomicU64::default(),
            malformed: AtomicU64::default(),
            link: Mutex::default(),
            latency: Mutex::new(histogram()),
        }
    }
}

/// Three digits; grows with what is recorded.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("0 to 5 digits are allowed")
}

/// What one worker has counted since it last published.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) finished: u64,
    pub(super) sent: u64,
    pub(super) probes: u64,
    pub(super) replies: u64,
    pub(super) held: u64,
    pub(super) slowed: u64,
    pub(super) saved: u64,
    pub(super) unclaimed: u64,
    pub(super) malformed: u64,
    /// Gauges: how many there are, and how many of them are published.
    pub(super) open: u64,
    pub(super) established: u64,
    published_open: u64,
    published_established: u64,
    /// The link's counters as they were last published.
    link: Vec<(&'static str, u64)>,
    /// Made with the first that is noted.
    latency: Option<Histogram<u64>>,
}

impl Tally {
    /// Adds all of it to the run's.
    pub(super) fn publish(&mut self, stats: &Stats) {
        for (count, sum) in [
            (&mut self.finished, &stats.finished),
            (&mut self.sent, &stats.sent),
            (&mut self.probes, &stats.probes),
            (&mut self.replies, &stats.replies),
            (&mut self.held, &stats.held),
            (&mut self.slowed, &stats.slowed),
            (&mut self.saved, &stats.saved),
            (&mut self.unclaimed, &stats.unclaimed),
            (&mut self.malformed, &stats.malformed),
        ] {
            let count = core::mem::take(count);
            if count != 0 {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
        move_gauge(&stats.open, &mut self.published_open, self.open);
        if let Some(all) = move_gauge(
            &stats.established,
            &mut self.published_established,
            self.established,
        ) {
            stats.established_peak.fetch_max(all, Ordering::Relaxed);
        }
    }

    /// A frame took that long to be credited.
    pub(super) fn note_latency(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let latency = self.latency.get_or_insert_with(histogram);
        // It grows with what it is given: nothing is too long for it.
        let _ = latency.record(nanos);
    }

    /// Adds the latencies since last time.
    pub(super) fn publish_latency(&mut self, stats: &Stats) {
        if let Some(latency) = &mut self.latency {
            let mut sum = stats.latency.lock().unwrap_or_else(PoisonError::into_inner);
            // Both grow as they must: there is no value that one of them cannot hold.
            let _ = sum.add(&*latency);
            latency.reset();
        }
    }

    /// Adds what the link has counted since last time.
    pub(super) fn publish_link(&mut self, stats: &Stats, counters: Vec<(&'static str, u64)>) {
        let mut sums = stats.link.lock().unwrap_or_else(PoisonError::into_inner);
        for (label, count) in &counters {
            let before = self.link.iter().find(|(known, _)| known == label);
            let more = count.saturating_sub(before.map_or(0, |(_, count)| *count));
            match sums.iter_mut().find(|(known, _)| known == label) {
                Some((_, sum)) => *sum += more,
                None => sums.push((label, more)),
            }
        }
        self.link = counters;
    }
}

/// Brings a worker's part of a gauge to `now`; what the gauge then is, if it moved.
fn move_gauge(gauge: &AtomicU64, published: &mut u64, now: u64) -> Option<u64> {
    let before = core::mem::replace(published, now);
    if now > before {
        Some(gauge.fetch_add(now - before, Ordering::Relaxed) + (now - before))
    } else if now < before {
        Some(gauge.fetch_sub(before - now, Ordering::Relaxed) - (before - now))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_workers_add_up() {
        let stats = Stats::default();
        let (mut one, mut two) = (Tally::default(), Tally::default());
        for _ in 0..2 {
            one.note_latency(Duration::from_nanos(100));
            two.note_latency(Duration::from_secs(3));
            one.publish_latency(&stats);
            two.publish_latency(&stats);
        }
        let latency = stats.latency.lock().unwrap();
        assert_eq!((latency.len(), latency.min()), (4, 100));
        assert_eq!(latency.count_between(2_999_000_000, 3_001_000_000), 2);
    }

    #[test]
    fn two_workers_add_up() {
        let stats = Stats::default();
        let (mut one, mut two) = (Tally::default(), Tally::default());
        (one.established, two.established, one.sent) = (3, 4, 10);
        one.publish(&stats);
        two.publish(&stats);
        one.established = 1;
        one.sent += 5;
        one.publish(&stats);
        assert_eq!(stats.established.load(Ordering::Relaxed), 5);
        assert_eq!(stats.established_peak.load(Ordering::Relaxed), 7);
        assert_eq!(stats.sent.load(Ordering::Relaxed), 15);
        one.publish_link(&stats, vec![("segment", 5), ("quote", 1)]);
        two.publish_link(&stats, vec![("segment", 2)]);
        one.publish_link(&stats, vec![("segment", 9), ("quote", 1)]);
        assert_eq!(*stats.link.lock().unwrap(), [("segment", 11), ("quote", 1)]);
    }
}
