//! One method's picture of one target: who answered at each TTL, what was lost, which
//! lines are drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use super::Figures;
use super::evidence::Standing;
use super::paths::{self, Path};
use super::walk::{self, Node, Place};
use crate::trace::{Method, Owner, Reply, RttBound, Trace};

/// One method at one target.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// In figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// By TTL: those that were probed.
    pub hops: Vec<Answers>,
    /// By TTL.
    pub drawn: Vec<Link>,
    /// Silences with an answer before and behind them; no links.
    pub gaps: Vec<Gap>,
    /// Those that most walks went first.
    pub ways: Vec<Path>,
    /// Columns of all runs: what the lines' frequencies are parts of.
    pub walks: u64,
}

/// What was answered at a TTL.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// The TTL.
    pub ttl: u8,
    /// Probes sent.
    pub probes: u64,
    /// Of these, without an answer.
    pub lost: u64,
    /// Who answered, the most frequent first.
    pub responders: Vec<Responder>,
}

impl Answers {
    /// The part of the probes that was lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        match self.probes {
            0 => 0.0,
            probes => self.lost as f64 / probes as f64,
        }
    }
}

/// Who answered at a TTL.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Responder {
    /// Who.
    #[serde(flatten)]
    pub node: Node,
    /// Its name, where known.
    pub name: Option<String>,
    /// Its AS number, where known.
    pub asn: Option<u32>,
    /// The holder of that, where known.
    pub holder: Option<String>,
    /// Answers.
    pub answers: u64,
    /// Runs in which it answered.
    pub runs: u64,
    /// Round-trip times, µs: the least; of exact ones only.
    pub rtt_min_us: Option<f64>,
    /// The median.
    pub rtt_median_us: Option<f64>,
    /// The most.
    pub rtt_max_us: Option<f64>,
}

/// A line that is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The TTL of the first end; the other's is one more.
    pub ttl: u8,
    /// The first end.
    pub from: Node,
    /// The other.
    pub to: Node,
    /// Walks that go over it.
    pub walks: u64,
    /// Whether it is there.
    pub standing: Standing,
}

/// Silence between two answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The TTL before it.
    pub ttl: u8,
    /// Who answered there.
    pub from: Node,
    /// The TTL behind it.
    pub to_ttl: u8,
    /// Who answered there.
    pub to: Node,
    /// Walks that show it.
    pub walks: u64,
}

/// Answers while they are gathered.
#[derive(Default)]
struct Gathered<'a> {
    probes: u64,
    lost: u64,
    by: BTreeMap<Node, Of<'a>>,
}

#[derive(Default)]
struct Of<'a> {
    answers: u64,
    runs: BTreeSet<usize>,
    rtts: Vec<f64>,
    name: Option<&'a str>,
    owner: Option<&'a Owner>,
}

impl View {
    /// Of a method's records of one target, whose way has these TTLs.
    #[must_use]
    pub fn new(
        method: Method,
        traces: &[&Trace],
        ttls: RangeInclusive<u8>,
        standing: &dyn Fn(Node, Node) -> Standing,
    ) -> View {
        let mut figures = Figures::new(method);
        let mut hops: BTreeMap<u8, Gathered<'_>> = BTreeMap::new();
        let mut links: BTreeMap<(u8, Node, Node), u64> = BTreeMap::new();
        let mut gaps: BTreeMap<(Place, Place), u64> = BTreeMap::new();
        let mut all = Vec::new();
        let mut spent = 0.0;
        for (run, trace) in traces.iter().enumerate() {
            let own = trace.hops.iter().filter(|hop| !hop.shared);
            figures.probes += own.map(|hop| hop.probes.len() as u64).sum::<u64>();
            if trace.verdict.is_failure() {
                figures.failed += 1;
                continue;
            }
            figures.runs += 1;
            figures.reached += u64::from(trace.destination_ttl.is_some());
            spent += trace.duration.as_secs_f64() * 1e6;
            gather(trace, run, &mut hops);
            let walks = walk::walks(trace);
            count_hops(trace, &walks, &ttls, &mut figures);
            let within = paths::distinct(walks.iter()).len() as u64;
            figures.paths_in_a_run = figures.paths_in_a_run.max(within);
            for walk in &walks {
                walk::links(walk).for_each(|link| *links.entry(link).or_default() += 1);
                walk::gaps(walk).for_each(|gap| *gaps.entry(gap).or_default() += 1);
            }
            all.extend(walks);
        }
        figures.duration_us = (figures.runs > 0).then(|| spent / figures.runs as f64);
        figures.probes_lost = hops.values().map(|hop| hop.lost).sum();
        let silent = |ttl: &u8| hops.get(ttl).is_none_or(|hop| hop.by.is_empty());
        figures.hops_missing = ttls.filter(silent).count() as u64;
        let ways = paths::distinct(all.iter());
        figures.paths = ways.len() as u64;
        let drawn: Vec<Link> = links
            .into_iter()
            .map(|((ttl, from, to), walks)| Link {
                ttl,
                from,
                to,
                walks,
                standing: standing(from, to),
            })
            .collect();
        count_links(&drawn, &mut figures);
        View {
            figures,
            hops: hops
                .into_iter()
                .map(|(ttl, hop)| hop.answers(ttl))
                .collect(),
            drawn,
            gaps: gaps
                .into_iter()
                .map(|(((ttl, from), (to_ttl, to)), walks)| Gap {
                    ttl,
                    from,
                    to_ttl,
                    to,
                    walks,
                })
                .collect(),
            ways,
            walks: all.len() as u64,
        }
    }
}

/// Hops that there were to see, and that were seen: those of the way, and where routers
/// answered behind that (another branch is longer), those up to the end of the run's
/// own. Silence there may be the destination's as well.
fn count_hops(
    trace: &Trace,
    walks: &[walk::Walk],
    ttls: &RangeInclusive<u8>,
    figures: &mut Figures,
) {
    let way = usize::from(*ttls.end());
    let routers = |walk: &walk::Walk| {
        let router = |node: &Option<Node>| node.is_some_and(|node| !node.destination);
        walk.iter().rposition(router).map_or(0, |last| last + 1)
    };
    let routers = walks.iter().map(routers).max().unwrap_or(0);
    let last = match trace.destination_ttl {
        Some(ttl) if routers >= way => usize::from(ttl),
        Some(ttl) => way.min(usize::from(ttl)),
        None => way.max(routers),
    };
    let first = usize::from(*ttls.start()).max(1);
    for at in first..=last {
        figures.hops += 1;
        let answered = |walk: &walk::Walk| walk.get(at - 1).is_some_and(Option::is_some);
        figures.hops_answered += u64::from(walks.iter().any(answered));
    }
}

/// One pair is one link, at however many TTLs it is drawn.
fn count_links(drawn: &[Link], figures: &mut Figures) {
    let distinct: BTreeMap<(Node, Node), Standing> = drawn
        .iter()
        .map(|link| ((link.from, link.to), link.standing))
        .collect();
    figures.links = distinct.len() as u64;
    for standing in distinct.values() {
        *match standing {
            Standing::Confirmed => &mut figures.links_confirmed,
            Standing::Unconfirmed => &mut figures.links_unconfirmed,
            Standing::False => &mut figures.links_false,
        } += 1;
    }
}

fn gather<'a>(trace: &'a Trace, run: usize, hops: &mut BTreeMap<u8, Gathered<'a>>) {
    let end = walk::end(trace);
    for hop in trace
        .hops
        .iter()
        .filter(|hop| hop.ttl <= end && !hop.shared)
    {
        let at = hops.entry(hop.ttl).or_default();
        for probe in &hop.probes {
            at.probes += 1;
            let Some(reply) = &probe.reply else {
                at.lost += 1;
                continue;
            };
            let of = at.by.entry(walk::node(trace, hop.ttl, reply)).or_default();
            of.add(run, reply);
        }
    }
}

impl<'a> Of<'a> {
    fn add(&mut self, run: usize, reply: &'a Reply) {
        self.answers += 1;
        self.runs.insert(run);
        if reply.rtt_bound == RttBound::Exact {
            self.rtts.push(reply.rtt.as_secs_f64() * 1e6);
        }
        self.name = self.name.or(reply.name.as_deref());
        self.owner = self.owner.or(reply.owner.as_deref());
    }
}

impl Gathered<'_> {
    fn answers(self, ttl: u8) -> Answers {
        let responder = |(node, mut of): (Node, Of<'_>)| {
            of.rtts.sort_by(f64::total_cmp);
            Responder {
                node,
                name: of.name.map(str::to_owned),
                asn: of.owner.and_then(|owner| owner.asn),
                holder: of.owner.and_then(|owner| owner.holder.clone()),
                answers: of.answers,
                runs: of.runs.len() as u64,
                rtt_min_us: of.rtts.first().copied(),
                rtt_median_us: of.rtts.get(of.rtts.len() / 2).copied(),
                rtt_max_us: of.rtts.last().copied(),
            }
        };
        let mut responders: Vec<Responder> = self.by.into_iter().map(responder).collect();
        responders.sort_by(|a, b| b.answers.cmp(&a.answers).then_with(|| a.node.cmp(&b.node)));
        Answers {
            ttl,
            probes: self.probes,
            lost: self.lost,
            responders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{Made, router, target};

    fn view(traces: &[Trace], ttls: RangeInclusive<u8>) -> View {
        let of: Vec<&Trace> = traces.iter().collect();
        View::new(Method::Udp, &of, ttls, &|_, _| Standing::Unconfirmed)
    }

    #[test]
    fn a_hop_tells_who_answered_how_often_and_what_was_lost() {
        let traces = [
            Made::new(Method::Udp)
                .hop(&["a", "a"])
                .hop(&["b", "c"])
                .hop(&["!", "!"])
                .reached(3)
                .trace(),
            Made::new(Method::Udp)
                .hop(&["a", ""])
                .hop(&["", "c"])
                .hop(&["!", ""])
                .reached(3)
                .trace(),
        ];
        let view = view(&traces, 1..=3);
        let told: Vec<(u8, u64, u64)> = view
            .hops
            .iter()
            .map(|hop| (hop.ttl, hop.probes, hop.lost))
            .collect();
        assert_eq!(told, [(1, 4, 1), (2, 4, 1), (3, 4, 1)]);
        let second = &view.hops[1].responders;
        let who: Vec<(Node, u64, u64)> = second
            .iter()
            .map(|it| (it.node, it.answers, it.runs))
            .collect();
        assert_eq!(who, [(router("c"), 2, 2), (router("b"), 1, 1)]);
        assert_eq!(view.hops[2].responders[0].node, target());
        assert_eq!(view.hops[0].loss(), 0.25);
        assert_eq!(second[0].rtt_median_us, Some(1000.0));
        assert_eq!(view.walks, 4);
        assert_eq!(view.gaps.len(), 1);
        assert_eq!(
            (view.gaps[0].ttl, view.gaps[0].to_ttl, view.gaps[0].walks),
            (1, 3, 1)
        );
    }

    #[test]
    fn a_destination_that_answered_late_makes_the_way_no_longer() {
        let traces = [Made::new(Method::Udp).path("ab...!").trace()];
        let figures = view(&traces, 1..=4).figures;
        assert_eq!((figures.hops, figures.hops_answered), (4, 2));
        let traces = [Made::new(Method::Udp).path("abcd.!").trace()];
        let figures = view(&traces, 1..=4).figures;
        assert_eq!((figures.hops, figures.hops_answered), (6, 5));
    }

    #[test]
    fn one_pair_at_two_ttls_is_one_link_drawn_twice() {
        let traces = [
            Made::new(Method::Udp).path("abc!").trace(),
            Made::new(Method::Udp).path("axbc!").trace(),
        ];
        let view = view(&traces, 1..=4);
        let pairs = view.drawn.iter().filter(|link| link.from == router("b"));
        assert_eq!(pairs.map(|link| link.ttl).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(view.figures.links, 5);
        // The longer way had five hops to see.
        assert_eq!((view.figures.hops, view.figures.hops_answered), (9, 9));
    }
}
