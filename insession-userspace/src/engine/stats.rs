//! What a run counts while it goes: read by the progress bar.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of a run. Workers add once a batch, not once a packet.
#[derive(Debug, Default)]
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
    /// Frames steered to us that no session claimed.
    pub unclaimed: AtomicU64,
    /// Frames steered to us that do not parse, or whose checksum is wrong.
    pub malformed: AtomicU64,
    /// The links' own counters, as last read (about ten times a second), those
    /// of one name added up over all links.
    pub link: Mutex<Vec<(&'static str, u64)>>,
}

/// What one worker has counted since it last published.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) finished: u64,
    pub(super) sent: u64,
    pub(super) probes: u64,
    pub(super) replies: u64,
    pub(super) unclaimed: u64,
    pub(super) malformed: u64,
    /// Gauges: how many there are, and how many of them are published.
    pub(super) open: u64,
    pub(super) established: u64,
    published_open: u64,
    published_established: u64,
    /// The link's counters as they were last published.
    link: Vec<(&'static str, u64)>,
}

impl Tally {
    /// Adds all of it to the run's.
    pub(super) fn publish(&mut self, stats: &Stats) {
        for (count, sum) in [
            (&mut self.finished, &stats.finished),
            (&mut self.sent, &stats.sent),
            (&mut self.probes, &stats.probes),
            (&mut self.replies, &stats.replies),
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

    /// Adds what the link has counted since last time.
    pub(super) fn publish_link(&mut self, stats: &Stats, counters: Vec<(&'static str, u64)>) {
        let mut sums = stats
            .link
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
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
