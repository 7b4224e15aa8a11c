//! A summary as figures: what text, JSON and the page are made of.

use serde::Serialize;

use super::{OfTtl, Summary, Times};
use crate::report::civil::Rfc3339;
use crate::trace::{ReplyKind, Rewrite, Verdict};

/// All figures. Spans of time are microseconds, parts are of one.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// `insession.summary/1`.
    pub schema: &'static str,
    /// Traces.
    pub traces: u64,
    /// Lines that were no records.
    pub bad_lines: u64,
    /// When the first trace was started, RFC 3339.
    pub first: Option<String>,
    /// When the last one was.
    pub last: Option<String>,
    /// How many traces ended in each verdict.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Probes.
    pub sent: u64,
    /// Of those, up to the last answer of each trace and no further than its destination:
    /// behind that there may be no hop. All figures of hops are of these.
    pub probes: u64,
    /// Of those, answered.
    pub answered: u64,
    /// Answers by kind.
    pub kinds: Vec<(&'static str, u64)>,
    /// Different addresses that answered in transit.
    pub routers: u64,
    /// Whether that is exact; else it is good to 0.8 %.
    pub routers_exact: bool,
    /// Traces with an MPLS label stack.
    pub labelled: u64,
    /// Traces in which the checksum of a quote showed a NAT.
    pub behind_nat: u64,
    /// Traces in which a quote showed something changed.
    pub rewrites: Vec<(&'static str, u64)>,
    /// TTL of the destination, and traces.
    pub path_lengths: Vec<(u8, u64)>,
    /// SYN to SYN-ACK.
    pub handshake_rtt: Option<Quantiles>,
    /// Of the destination's answers.
    pub destination_rtt: Option<Quantiles>,
    /// By TTL.
    pub hops: Vec<HopFigures>,
    /// Where silence begins most often.
    pub silences: Vec<Silence>,
    /// By how much the counts of these may be too low.
    pub silences_undercount: u64,
}

/// A TTL.
#[derive(Clone, Debug, Serialize)]
pub struct HopFigures {
    /// It.
    pub ttl: u8,
    /// Traces that probed it.
    pub traces: u64,
    /// Probes.
    pub probes: u64,
    /// Part of the probes without an answer.
    pub loss: f64,
    /// The same of hops that answered at least one probe.
    pub loss_where_answered: f64,
    /// Part of the traces in which none was answered.
    pub silent: f64,
    /// Part of the traces in which more than one router answered.
    pub several: f64,
    /// Round-trip times, exact ones.
    pub rtt: Option<Quantiles>,
}

/// A distribution of times, microseconds, to 1 %.
#[derive(Clone, Debug, Serialize)]
pub struct Quantiles {
    /// How many times.
    pub count: u64,
    /// The least.
    pub min: f64,
    /// One in ten is less.
    pub p10: f64,
    /// The median.
    pub p50: f64,
    /// One in ten is more.
    pub p90: f64,
    /// One in a hundred is more.
    pub p99: f64,
    /// The most.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// Time, and the part that is no more: for a plot.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// A place of silence.
#[derive(Clone, Debug, Serialize)]
pub struct Silence {
    /// The hop before it; null where the first hops are silent.
    pub behind: Option<String>,
    /// Traces that met it.
    pub traces: u64,
    /// Of those, in which nothing answered any more.
    pub to_the_end: u64,
    /// How many hops are silent there, in the mean.
    pub hops: f64,
}

/// Places of silence that are told.
const TOLD: usize = 20;

impl Summary {
    /// What it comes to.
    #[must_use]
    pub fn figures(&self, bad_lines: u64) -> Figures {
        let moment = |at| (self.traces > 0).then(|| Rfc3339(at).to_string());
        let words = |words: &[&'static str], counts: &[u64]| {
            let all = words.iter().copied().zip(counts.iter().copied());
            all.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        let ttls = || (0..=u8::MAX).zip(&self.ttls);
        Figures {
            schema: "insession.summary/1",
            traces: self.traces,
            bad_lines,
            first: moment(self.first),
            last: moment(self.last),
            verdicts: words(&Verdict::ALL.map(Verdict::as_str), &self.verdicts),
            sent: self.sent,
            probes: self.probes,
            answered: self.answered,
            kinds: words(&ReplyKind::ALL.map(ReplyKind::as_str), &self.kinds),
            routers: self.routers.count(),
            routers_exact: self.routers.is_exact(),
            labelled: self.labelled,
            behind_nat: self.behind_nat,
            rewrites: words(&Rewrite::ALL.map(Rewrite::as_str), &self.rewrites),
            path_lengths: (0..=u8::MAX)
                .zip(self.lengths)
                .filter(|(_, traces)| *traces > 0)
                .collect(),
            handshake_rtt: self.handshake.as_ref().map(quantiles),
            destination_rtt: self.destination.as_ref().map(quantiles),
            hops: ttls()
                .filter(|(_, of)| of.hops > 0)
                .map(|(ttl, of)| hop(ttl, of))
                .collect(),
            silences: self.silences(),
            silences_undercount: self.silences.undercount(),
        }
    }

    fn silences(&self) -> Vec<Silence> {
        let all = self.silences.first(TOLD).into_iter();
        all.map(|(behind, _, at)| Silence {
            behind: behind.map(|address| address.to_string()),
            traces: at.met,
            to_the_end: at.ended,
            hops: part(at.hops, at.met),
        })
        .collect()
    }
}

fn part(of: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        of as f64 / all as f64
    }
}

fn hop(ttl: u8, of: &OfTtl) -> HopFigures {
    HopFigures {
        ttl,
        traces: of.hops,
        probes: of.probes,
        loss: part(of.probes - of.answered, of.probes),
        loss_where_answered: part(
            of.probes_where_answered - of.answered,
            of.probes_where_answered,
        ),
        silent: part(of.silent, of.hops),
        several: part(of.several, of.hops),
        rtt: of.times.as_ref().map(quantiles),
    }
}

fn quantiles(times: &Times) -> Quantiles {
    let histogram = &times.0;
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let at = |part: f64| micros(histogram.value_at_quantile(part));
    Quantiles {
        count: histogram.len(),
        min: micros(histogram.min()),
        p10: at(0.1),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: micros(histogram.max()),
        mean: histogram.mean() / 1_000.0,
        curve: (0..=100)
            .map(|nth| (at(f64::from(nth) / 100.0), f64::from(nth) / 100.0))
            .collect(),
    }
}
