//! The picture of many traces: verdicts, lengths of paths, round-trip times, loss by
//! TTL, where silence begins, who answers.
//!
//! One pass over any number of traces in bounded memory, some 15 MiB at most: histograms
//! of 255 TTLs (`Times`), the most frequent places of silence (`top::Top`), the
//! number of routers (`distinct::Distinct`).

use std::net::IpAddr;

use hdrhistogram::Histogram;

use crate::time::{Duration, UnixTime};
use crate::trace::{Hop, ReplyKind, Rewrite, RttBound, Trace, Verdict};
use distinct::Distinct;
use top::Top;

mod distinct;
mod figures;
pub mod text;
mod top;

pub use figures::{Figures, HopFigures, Quantiles, Silence};

/// Round-trip times, to one part in a hundred.
#[derive(Clone, Debug)]
struct Times(Histogram<u64>);

/// The longest that is told from longer ones.
const LONGEST: u64 = 3_600_000_000_000;

impl Times {
    fn new() -> Option<Self> {
        // Nanoseconds from one to an hour: 36 KiB.
        Histogram::new_with_bounds(1, LONGEST, 2).ok().map(Times)
    }

    fn add(times: &mut Option<Times>, span: Duration) {
        if times.is_none() {
            *times = Times::new();
        }
        if let Some(Times(histogram)) = times {
            let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            histogram.saturating_record(nanos.clamp(1, LONGEST));
        }
    }
}

/// What is known of a TTL.
#[derive(Clone, Debug, Default)]
struct OfTtl {
    /// Traces that probed it.
    hops: u64,
    /// Of those, without any answer.
    silent: u64,
    /// Of those, answered by more than one router.
    several: u64,
    probes: u64,
    answered: u64,
    /// Probes of hops that answered at least one.
    probes_where_answered: u64,
    times: Option<Times>,
}

/// Where silence begins: behind this router, or at the first hop.
type Before = Option<IpAddr>;

/// What is known of a place of silence, by the traces that met it.
#[derive(Clone, Copy, Debug, Default)]
struct AtPlace {
    /// Traces since it is kept.
    met: u64,
    /// The silence lasted to the end.
    ended: u64,
    /// Silent hops in all.
    hops: u64,
}

/// Places of silence that are kept apart.
const PLACES: usize = 16_384;

/// The picture so far.
#[derive(Debug)]
pub struct Summary {
    traces: u64,
    /// By [`Verdict::ALL`].
    verdicts: [u64; Verdict::ALL.len()],
    first: UnixTime,
    last: UnixTime,
    sent: u64,
    probes: u64,
    answered: u64,
    /// By [`ReplyKind::ALL`].
    kinds: [u64; ReplyKind::ALL.len()],
    /// Traces that met each, by [`Rewrite::ALL`].
    rewrites: [u64; Rewrite::ALL.len()],
    /// Traces with a label stack in some answer.
    labelled: u64,
    /// Traces with a NAT's identifier in some answer.
    behind_nat: u64,
    /// Traces by the TTL of their destination.
    lengths: [u64; 256],
    handshake: Option<Times>,
    destination: Option<Times>,
    ttls: Vec<OfTtl>,
    silences: Top<Before, AtPlace>,
    routers: Distinct,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            traces: 0,
            verdicts: [0; _],
            first: UnixTime(u64::MAX),
            last: UnixTime(0),
            sent: 0,
            probes: 0,
            answered: 0,
            kinds: [0; _],
            rewrites: [0; _],
            labelled: 0,
            behind_nat: 0,
            lengths: [0; 256],
            handshake: None,
            destination: None,
            ttls: vec![OfTtl::default(); 256],
            silences: Top::new(PLACES),
            routers: Distinct::default(),
        }
    }
}

impl Summary {
    /// Adds a trace.
    pub fn add(&mut self, trace: &Trace) {
        self.traces += 1;
        count(&mut self.verdicts, &Verdict::ALL, trace.verdict);
        self.first = self.first.min(trace.started);
        self.last = self.last.max(trace.started);
        if let Some(handshake) = &trace.handshake {
            Times::add(&mut self.handshake, handshake.rtt);
        }
        if let Some(ttl) = trace.destination_ttl {
            self.lengths[usize::from(ttl)] += 1;
        }
        // What was sent beyond the destination says nothing about a hop, and what was
        // sent beyond the last answer nothing about its loss: there may be none.
        let destination = trace.destination_ttl.unwrap_or(u8::MAX);
        let hops = || trace.hops.iter().filter(|hop| hop.ttl <= destination);
        let answered = |hop: &&Hop| hop.probes.iter().any(|probe| probe.reply.is_some());
        let last = hops().filter(answered).map(|hop| hop.ttl).max();
        let (mut labelled, mut behind_nat) = (false, false);
        let mut rewritten = [false; Rewrite::ALL.len()];
        // What another session probed is counted there.
        let own = |hop: &&Hop| !hop.shared;
        for hop in hops().filter(own).filter(|hop| Some(hop.ttl) <= last) {
            self.add_hop(hop, trace.destination_ttl);
            let replies = hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
            for reply in replies {
                labelled |= !reply.mpls.is_empty();
                behind_nat |= reply.nat.is_some_and(|nat| nat != 0);
                for rewrite in &reply.rewrites {
                    rewritten[*rewrite as usize] = true;
                }
            }
        }
        let sent = trace.hops.iter().filter(own);
        let sent = sent.map(|hop| hop.probes.len() as u64);
        self.sent += sent.sum::<u64>();
        self.labelled += u64::from(labelled);
        self.behind_nat += u64::from(behind_nat);
        for (count, met) in self.rewrites.iter_mut().zip(rewritten) {
            *count += u64::from(met);
        }
        self.add_silences(hops());
    }

    fn add_hop(&mut self, hop: &Hop, destination: Option<u8>) {
        let to = &mut self.ttls[usize::from(hop.ttl)];
        let mut answered = 0;
        let mut first = None;
        let mut several = false;
        for probe in &hop.probes {
            let Some(reply) = &probe.reply else { continue };
            answered += 1;
            count(&mut self.kinds, &ReplyKind::ALL, reply.kind);
            several |= *first.get_or_insert(reply.from) != reply.from;
            if reply.kind == ReplyKind::TimeExceeded {
                self.routers.add(reply.from);
            }
            if reply.rtt_bound == RttBound::Exact {
                Times::add(&mut to.times, reply.rtt);
                if destination == Some(hop.ttl) {
                    Times::add(&mut self.destination, reply.rtt);
                }
            }
        }
        let probes = hop.probes.len() as u64;
        self.probes += probes;
        self.answered += answered;
        to.hops += 1;
        to.silent += u64::from(answered == 0);
        to.several += u64::from(several);
        to.probes += probes;
        to.answered += answered;
        if answered > 0 {
            to.probes_where_answered += probes;
        }
    }

    /// Runs of silent hops, each by the router before it.
    fn add_silences<'a>(&mut self, hops: impl Iterator<Item = &'a Hop>) {
        let mut before = None;
        let mut run = 0;
        for hop in hops {
            let mut replies = hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
            match replies.next_back() {
                None => run += 1,
                Some(reply) => {
                    self.add_silence(before, run, false);
                    (before, run) = (Some(reply.from), 0);
                }
            }
        }
        self.add_silence(before, run, true);
    }

    fn add_silence(&mut self, before: Before, hops: u64, ended: bool) {
        if hops > 0 {
            let place = self.silences.add(before);
            place.met += 1;
            place.hops += hops;
            place.ended += u64::from(ended);
        }
    }
}

fn count<T: PartialEq, const N: usize>(counts: &mut [u64; N], all: &[T; N], which: T) {
    let found = all.iter().position(|one| *one == which);
    if let Some(count) = found.and_then(|at| counts.get_mut(at)) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests;
