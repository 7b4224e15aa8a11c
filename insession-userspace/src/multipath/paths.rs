//! Many flows to one target, merged: routers, links, paths with their loss and times,
//! diamonds, and whether the stopping rule is satisfied.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::graph::Graph;
use super::mda;
use super::walk::{Level, Walk, walks};
use crate::time::{Duration, UnixTime};
use crate::trace::{Method, Owner, Trace};

/// What many flows to one target show together.
#[derive(Clone, Debug, PartialEq)]
pub struct Paths {
    /// The target as the user named it.
    pub target: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// How hops were probed.
    pub method: Method,
    /// Our address.
    pub source: Option<IpAddr>,
    /// When the first of the flows began.
    pub started: UnixTime,
    /// From there to the end of the last.
    pub duration: Duration,
    /// Flows on which somebody answered.
    pub flows: u32,
    /// Flows on which nobody did, or that were not opened.
    pub failed: u32,
    /// Routers, links, diamonds.
    pub graph: Graph,
    /// What is known of the graph's nodes, in its order.
    pub known: Vec<Known>,
    /// Most flows first.
    pub paths: Vec<Path>,
    /// Where flows were opened by the stopping rule.
    pub mda: Option<Mda>,
    /// For each diamond, by the stopping rule: the probability that a next hop in it
    /// was missed.
    pub failures: Vec<f64>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: Option<String>,
    /// Whose it is.
    pub owner: Option<Arc<Owner>>,
    /// Probes and answers where it was the only one of its TTL in its flow.
    pub answered: Answered,
}

/// Probes that were answered, and in what time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// Probes sent.
    pub probes: u32,
    /// Those that were answered.
    pub answers: u32,
    /// Exact round-trip times, ns, rising.
    pub rtts: Vec<u64>,
}

impl Answered {
    /// The part that was not answered; `None` where nothing was sent.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let lost = self.probes.saturating_sub(self.answers);
        (self.probes > 0).then(|| f64::from(lost) / f64::from(self.probes))
    }

    /// The least, the middle and the greatest round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Option<[Duration; 3]> {
        let middle = self.rtts.get(self.rtts.len() / 2)?;
        let (first, last) = (self.rtts.first()?, self.rtts.last()?);
        Some([first, middle, last].map(|it| Duration::from_nanos(*it)))
    }

    fn add(&mut self, level: &Level) {
        self.probes += level.probes;
        self.answers += level.answers();
        self.rtts.extend(&level.rtts);
    }
}

/// Flows that took one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Who answered at each TTL; nobody: silent; several: packets one by one.
    pub hops: Vec<PathHop>,
    /// Flows that took it.
    pub flows: u32,
    /// Their source ports.
    pub ports: Vec<u16>,
    /// It ends at the target.
    pub is_whole: bool,
}

/// A TTL of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathHop {
    /// The TTL.
    pub ttl: u8,
    /// Who is there.
    pub who: Vec<IpAddr>,
    /// Loss and times at this TTL on this path.
    pub answered: Answered,
}

impl Path {
    /// Loss and times of the whole path: those of the target; `None` where it was not
    /// reached.
    #[must_use]
    pub fn end_to_end(&self) -> Option<&Answered> {
        let last = self.hops.last().filter(|_| self.is_whole);
        last.map(|hop| &hop.answered)
    }
}

/// What the stopping rule led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Mda {
    /// The confidence asked for.
    pub confidence: f64,
    /// Every vertex was passed by as many flows as its stopping point.
    pub is_complete: bool,
    /// Batches of flows.
    pub rounds: u32,
    /// Why it ended before.
    pub stopped: Option<Stopped>,
}

/// Why no further flows were opened though the rule asks for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// So many are not allowed.
    FlowsMax,
    /// A whole batch showed nothing new to go by: no answers, or flows that were there
    /// before.
    Silent,
    /// The run was ended.
    Interrupted,
}

impl Stopped {
    /// The word of `insession.paths/1`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stopped::FlowsMax => "flows-max",
            Stopped::Silent => "silent",
            Stopped::Interrupted => "interrupted",
        }
    }
}

/// Merges the records of one target; `None` where there are none.
#[must_use]
pub fn merge(traces: &[Trace], mda: Option<Mda>) -> Option<Paths> {
    let first = traces.first()?;
    let began = traces.iter().filter(|trace| trace.source_port.is_some());
    let started = began.clone().map(|trace| trace.started.0).min();
    let started = started.unwrap_or(first.started.0);
    let end = |trace: &Trace| {
        let span = u64::try_from(trace.duration.as_nanos()).unwrap_or(u64::MAX);
        trace.started.0.saturating_add(span)
    };
    let ended = began.map(end).max().unwrap_or(started);
    let all: Vec<Walk> = traces
        .iter()
        .zip(0..)
        .flat_map(|(trace, flow)| walks(trace, flow))
        .collect();
    let mut usable: Vec<u32> = all.iter().map(|walk| walk.flow).collect();
    usable.dedup();
    let flows = u32::try_from(usable.len()).unwrap_or(u32::MAX);
    let graph = Graph::of(&all);
    let status = mda::judge(
        &all,
        &graph,
        mda.as_ref().map_or(0.95, |mda| mda.confidence),
    );
    Some(Paths {
        target: first.target.clone(),
        address: first.address,
        port: first.port,
        method: first.method,
        source: traces.iter().find_map(|trace| trace.source),
        started: UnixTime(started),
        duration: Duration::from_nanos(ended.saturating_sub(started)),
        flows,
        failed: u32::try_from(traces.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(flows),
        known: known(traces, &all, &graph),
        graph,
        paths: paths(&all),
        mda,
        failures: status.failures,
    })
}

fn known(traces: &[Trace], walks: &[Walk], graph: &Graph) -> Vec<Known> {
    let mut known = vec![Known::default(); graph.nodes.len()];
    let mut at = |address: IpAddr, act: &mut dyn FnMut(&mut Known)| {
        if let Some(known) = graph.number_of(address).and_then(|nth| known.get_mut(nth)) {
            act(known);
        }
    };
    for level in walks.iter().flat_map(|walk| &walk.levels) {
        if let Some(address) = level.only() {
            at(address, &mut |known| known.answered.add(level));
        }
    }
    let probes = traces
        .iter()
        .flat_map(|trace| &trace.hops)
        .flat_map(|hop| &hop.probes);
    for reply in probes.filter_map(|probe| probe.reply.as_ref()) {
        if reply.name.is_some() || reply.owner.is_some() {
            at(reply.from, &mut |known| {
                if known.name.is_none() {
                    known.name.clone_from(&reply.name);
                }
                if known.owner.is_none() {
                    known.owner.clone_from(&reply.owner);
                }
            });
        }
    }
    for known in &mut known {
        known.answered.rtts.sort_unstable();
    }
    known
}

/// Who is at each TTL.
type Way = Vec<Vec<IpAddr>>;

/// The ways that were taken. One that is silent where just one other has an answer is
/// that one.
fn paths(walks: &[Walk]) -> Vec<Path> {
    let way = |walk: &Walk| -> Way { walk.levels.iter().map(Level::who).collect() };
    let mut all: BTreeMap<Way, Vec<&Walk>> = BTreeMap::new();
    for walk in walks {
        all.entry(way(walk)).or_default().push(walk);
    }
    let gaps: Vec<Way> = all
        .keys()
        .filter(|way| way.iter().any(Vec::is_empty))
        .cloned()
        .collect();
    for gap in gaps {
        let whole = all.keys().filter(|other| is_explained(&gap, other));
        let whole: Vec<Way> = whole.take(2).cloned().collect();
        if let [only] = whole.as_slice()
            && let Some(walks) = all.remove(&gap)
        {
            all.entry(only.clone()).or_default().extend(walks);
        }
    }
    let mut paths: Vec<Path> = all
        .into_iter()
        .map(|(way, walks)| path(way, &walks))
        .collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.flows));
    paths
}

/// Whether a way is another one that answered more.
fn is_explained(gap: &Way, other: &Way) -> bool {
    gap != other
        && gap.len() == other.len()
        && gap
            .iter()
            .zip(other)
            .all(|(one, other)| one == other || one.is_empty())
}

fn path(way: Way, walks: &[&Walk]) -> Path {
    let ttl = |nth: usize| walks.first().and_then(|walk| walk.levels.get(nth));
    let mut hops: Vec<PathHop> = way
        .into_iter()
        .enumerate()
        .map(|(nth, who)| PathHop {
            ttl: ttl(nth).map_or(0, |level| level.ttl),
            who,
            answered: Answered::default(),
        })
        .collect();
    let mut ports = Vec::new();
    let mut flows: Vec<u32> = Vec::new();
    for walk in walks {
        flows.push(walk.flow);
        ports.extend(walk.port);
        for (hop, level) in hops.iter_mut().zip(&walk.levels) {
            hop.answered.add(level);
        }
    }
    for hop in &mut hops {
        hop.answered.rtts.sort_unstable();
    }
    flows.sort_unstable();
    flows.dedup();
    ports.sort_unstable();
    ports.dedup();
    Path {
        // The source is no hop.
        hops: hops.into_iter().filter(|hop| hop.ttl > 0).collect(),
        flows: u32::try_from(flows.len()).unwrap_or(u32::MAX),
        ports,
        is_whole: walks.iter().any(|walk| walk.is_whole),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::multipath::walk::tests::{letter, router, trace};
    use crate::report::samples;
    use crate::trace::Verdict;

    /// Ways, each by so many flows.
    pub(crate) fn traces(ways: &[(&str, usize)]) -> Vec<Trace> {
        let each = ways
            .iter()
            .flat_map(|(way, count)| std::iter::repeat_n(*way, *count));
        each.zip(61_000..)
            .map(|(way, port)| trace(port, &way.split(' ').collect::<Vec<_>>()))
            .collect()
    }

    fn shown(paths: &Paths) -> Vec<(String, u32)> {
        let level = |hop: &PathHop| match hop.who.as_slice() {
            [] => ".".to_owned(),
            who => who.iter().copied().map(letter).collect(),
        };
        let way = |path: &Path| path.hops.iter().map(level).collect::<Vec<_>>().join(" ");
        paths.paths.iter().map(|it| (way(it), it.flows)).collect()
    }

    #[test]
    fn paths_count_their_flows() {
        let merged = merge(&traces(&[("a b d T", 2), ("a c d T", 3)]), None).unwrap();
        assert_eq!(
            shown(&merged),
            [("a c d T".to_owned(), 3), ("a b d T".to_owned(), 2)]
        );
        assert_eq!(merged.paths[1].ports, [61_000, 61_001]);
        assert_eq!((merged.flows, merged.failed), (5, 0));
        assert_eq!(merged.failures.len(), 1);
        let begins: Vec<u8> = merged.paths[0].hops.iter().map(|hop| hop.ttl).collect();
        assert_eq!(begins, [1, 2, 3, 4]);
    }

    #[test]
    fn loss_and_times_are_those_of_the_path() {
        let mut all = traces(&[("a b d T", 2), ("a c d T", 1)]);
        let probe = &mut all[0].hops[3].probes[0];
        probe.reply = None;
        let slow = &mut all[2].hops[3].probes[1].reply;
        slow.as_mut().unwrap().rtt = Duration::from_millis(9);
        let merged = merge(&all, None).unwrap();
        let of = |nth: usize| merged.paths[nth].end_to_end().unwrap();
        assert_eq!(
            (of(0).probes, of(0).answers, of(0).loss()),
            (4, 3, Some(0.25))
        );
        assert_eq!(of(0).rtt(), Some([Duration::from_millis(1); 3]));
        assert_eq!(of(1).rtt().unwrap()[2], Duration::from_millis(9));
        let target = merged.graph.number_of(all[0].address.unwrap()).unwrap();
        assert_eq!(merged.known[target].answered.probes, 6);
    }

    #[test]
    fn a_silence_that_one_way_alone_explains_is_that_way() {
        let merged = merge(&traces(&[("a b d T", 2), ("a . d T", 1)]), None).unwrap();
        assert_eq!(shown(&merged), [("a b d T".to_owned(), 3)]);
        let ways = [("a b d T", 2), ("a c d T", 2), ("a . d T", 1)];
        assert_eq!(shown(&merge(&traces(&ways), None).unwrap()).len(), 3);
    }

    #[test]
    fn flows_that_showed_nothing_are_counted_apart() {
        let mut all = traces(&[("a b T", 1)]);
        all.push(samples::empty("www.example", Verdict::HandshakeTimeout));
        let merged = merge(&all, None).unwrap();
        assert_eq!((merged.flows, merged.failed), (1, 1));
        assert_eq!(merged.started, all[0].started);
        assert_eq!(merge(&[], None), None);
        let none = merge(&all[1..], None).unwrap();
        assert_eq!((none.flows, none.failed, none.paths.len()), (0, 1, 0));
    }

    #[test]
    fn names_are_taken_from_any_flow() {
        let mut all = traces(&[("a b T", 2)]);
        let reply = all[1].hops[0].probes[1].reply.as_mut().unwrap();
        reply.name = Some("a.example".to_owned());
        let merged = merge(&all, None).unwrap();
        let nth = merged.graph.number_of(router('a')).unwrap();
        assert_eq!(merged.known[nth].name.as_deref(), Some("a.example"));
    }
}
