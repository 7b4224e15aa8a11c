//! What the records of a run say together, while it goes: for progress and metrics.
//! Memory is constant.

use std::sync::{Mutex, PoisonError};

use crate::time::Duration;
use crate::trace::{Trace, Verdict};

/// Upper bounds of the classes of durations, nanoseconds: 50 µs to 10 s, so that a
/// path within a rack and one over a satellite both stand in the middle.
pub const BOUNDS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    3_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Durations by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many are no longer than each of [`BOUNDS`] and longer than the one before;
    /// last, those that are longer than all.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All together, nanoseconds.
    pub sum: u64,
}

impl Distribution {
    fn note(&mut self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(nanos);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What was seen in records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records by verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Probes that were sent.
    pub probes: u64,
    /// Probes that were answered.
    pub answered: u64,
    /// Handshakes, SYN to SYN-ACK.
    pub handshakes: Distribution,
    /// Probes, sent to answered.
    pub round_trips: Distribution,
    /// Sessions, first segment to verdict.
    pub sessions: Distribution,
    /// Records of further flows to a target that has one.
    pub further: u64,
}

impl Seen {
    /// Counts a record.
    pub fn note(&mut self, trace: &Trace) {
        if let Some(count) = self.verdicts.get_mut(trace.verdict as usize) {
            *count += 1;
        }
        if trace.source_port.is_some() {
            self.sessions.note(trace.duration);
        }
        if let Some(handshake) = &trace.handshake {
            self.handshakes.note(handshake.rtt);
        }
        // What was shared was sent, and is counted, in another.
        let own = trace.hops.iter().filter(|hop| !hop.shared);
        for probe in own.flat_map(|hop| &hop.probes) {
            self.probes += 1;
            if let Some(reply) = &probe.reply {
                self.answered += 1;
                self.round_trips.note(reply.rtt);
            }
        }
    }

    /// Counts the records of a target's flows.
    pub fn note_flows(&mut self, traces: &[Trace]) {
        traces.iter().for_each(|trace| self.note(trace));
        self.further += (traces.len() as u64).saturating_sub(1);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.verdicts.iter_mut().zip(&other.verdicts) {
            *count += more;
        }
        self.probes += other.probes;
        self.answered += other.answered;
        self.handshakes.add(&other.handshakes);
        self.round_trips.add(&other.round_trips);
        self.sessions.add(&other.sessions);
        self.further += other.further;
    }

    /// Records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// Verdicts that there are, with how many of each.
    pub fn by_verdict(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        let all = Verdict::ALL.into_iter().zip(self.verdicts);
        all.filter(|(_, count)| *count > 0)
    }
}

/// What was seen, shared: one thread adds to it once a batch, others read.
#[derive(Debug, Default)]
pub struct Observed(Mutex<Seen>);

impl Observed {
    /// Adds what is in `seen`, and empties it.
    pub fn publish(&self, seen: &mut Seen) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(seen);
        *seen = Seen::default();
    }

    /// All of it until now.
    #[must_use]
    pub fn read(&self) -> Seen {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn records_are_counted_by_what_they_say() {
        let observed = Observed::default();
        let mut seen = Seen::default();
        let traces = samples::every_verdict();
        for trace in &traces {
            seen.note(trace);
        }
        observed.publish(&mut seen);
        assert_eq!(seen, Seen::default());
        seen.note(&samples::four_hops());
        observed.publish(&mut seen);
        let all = observed.read();
        assert_eq!(all.records(), traces.len() as u64 + 1);
        for (verdict, count) in all.by_verdict() {
            let same = |trace: &&Trace| trace.verdict == verdict;
            let of_them = traces.iter().filter(same).count() as u64;
            let more = u64::from(samples::four_hops().verdict == verdict);
            assert_eq!(count, of_them + more, "{verdict:?}");
        }
        assert_eq!(all.answered, all.round_trips.count());
        assert!(all.probes > all.answered && all.answered > 0);
    }

    #[test]
    fn a_duration_stands_in_its_class() {
        let mut spans = Distribution::default();
        for nanos in [0, 50_000, 50_001, 10_000_000_000, 10_000_000_001] {
            spans.note(Duration::from_nanos(nanos));
        }
        assert_eq!((spans.counts[0], spans.counts[1]), (2, 1));
        assert_eq!((spans.counts[17], spans.counts[18]), (1, 1));
        assert_eq!(spans.count(), 5);
        assert_eq!(spans.sum, 20_000_100_002);
    }
}
