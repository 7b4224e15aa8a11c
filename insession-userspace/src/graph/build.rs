//! A graph from traces, one after the other. Memory grows with what is distinct: nodes,
//! edges, and what was seen of them in each span of time.

use std::collections::HashMap;
use std::net::IpAddr;

use super::clock::Clock;
use super::paths::{ALSO, Key, Paths, SHARED, SILENT, Step, steps};
use super::slice::Slice;
use super::times::Times;
use super::{Cell, Edge, Graph, Identity, Kind, Level, Node};
use crate::time::Duration;
use crate::trace::{Hop, Method, Reply, RttBound, Trace, is_address_text};

/// The graph so far.
#[derive(Debug, Default)]
pub struct Builder {
    slice: Slice,
    nodes: Vec<Node>,
    node_numbers: HashMap<IpAddr, u32>,
    edges: Vec<Edge>,
    edge_numbers: HashMap<(u32, u32, Kind), u32>,
    /// By edge, source, method and time.
    cells: HashMap<(u32, u32, u8, u64), u32>,
    sources: Vec<IpAddr>,
    source_numbers: HashMap<IpAddr, u32>,
    methods: Vec<Method>,
    traces: u64,
    unanswered: u64,
    sliced_away: u64,
    clock: Clock,
    paths: Paths,
}

/// What a trace says of who answered at a TTL.
struct Answer {
    node: u32,
    /// The least exact round-trip time.
    least: Option<Duration>,
    /// Probes, and those of them not answered, where nobody else answered.
    probes: u64,
    lost: u64,
}

impl Builder {
    /// Nothing yet, of what will be in this slice.
    #[must_use]
    pub fn new(slice: Slice) -> Self {
        Builder {
            slice,
            ..Builder::default()
        }
    }

    /// Adds a trace.
    pub fn add(&mut self, trace: &Trace) {
        if !self.slice.takes(trace) {
            self.sliced_away += 1;
            return;
        }
        // Without a route there is no vantage point, and no answer either.
        let (Some(source), Some(target)) = (trace.source, trace.address) else {
            self.traces += 1;
            self.unanswered += 1;
            return;
        };
        self.traces += 1;
        if let Some(ratio) = self.clock.take_in(trace.started) {
            self.widen(ratio);
        }
        let bucket = self.clock.bucket(trace.started);
        let source_number = self.source(source);
        let method = self.method(trace.method);
        let begin = self.node(source);
        let (hops, answers) = self.hops(trace, target);
        if let Some(node) = self.nodes.get_mut(begin as usize) {
            node.is_source = true;
            node.traces += 1;
            node.ended += u64::from(hops.is_empty());
        }
        if hops.is_empty() {
            self.unanswered += 1;
            return;
        }
        self.count_nodes(trace, &answers, begin);
        let found = steps(begin, &hops, trace.method.is_one_flow());
        let edges = self.count_edges(&found, &answers, (source_number, method, bucket));
        let key = Key {
            source: source_number,
            method,
            target,
            port: trace.port,
        };
        let flow = trace.source_port.filter(|_| trace.method.is_one_flow());
        let flow = flow.unwrap_or_default();
        self.paths.add(key, bucket, flow, &hops, || edges);
    }

    /// The graph.
    #[must_use]
    pub fn finish(self) -> Graph {
        let cell = |(of, traces): (&(u32, u32, u8, u64), &u32)| Cell {
            edge: of.0,
            source: of.1,
            method: of.2,
            bucket: of.3,
            traces: *traces,
        };
        let mut cells: Vec<_> = self.cells.iter().map(cell).collect();
        cells.sort_unstable();
        Graph {
            level: Level::Address,
            nodes: self.nodes,
            edges: self.edges,
            cells,
            sources: self.sources,
            methods: self.methods,
            traces: self.traces,
            unanswered: self.unanswered,
            sliced_away: self.sliced_away,
            clock: self.clock,
            paths: self.paths,
        }
    }

    fn widen(&mut self, ratio: u64) {
        let mut cells = HashMap::with_capacity(self.cells.len());
        for ((edge, source, method, bucket), traces) in self.cells.drain() {
            *cells
                .entry((edge, source, method, bucket / ratio))
                .or_default() += traces;
        }
        self.cells = cells;
        self.paths.widen(ratio);
    }

    fn source(&mut self, address: IpAddr) -> u32 {
        *self.source_numbers.entry(address).or_insert_with(|| {
            self.sources.push(address);
            self.sources.len() as u32 - 1
        })
    }

    fn method(&mut self, method: Method) -> u8 {
        let known = self.methods.iter().position(|it| *it == method);
        let number = known.unwrap_or_else(|| {
            self.methods.push(method);
            self.methods.len() - 1
        });
        number as u8
    }

    fn node(&mut self, address: IpAddr) -> u32 {
        *self.node_numbers.entry(address).or_insert_with(|| {
            let mut node = Node::new(Identity::Address(address));
            node.addresses.push(address);
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        })
    }

    /// The path of a trace up to its last answer, and who answered at each TTL.
    fn hops(&mut self, trace: &Trace, target: IpAddr) -> (Vec<u32>, Vec<Vec<Answer>>) {
        let end = trace.destination_ttl.unwrap_or(u8::MAX);
        let (mut hops, mut answers) = (Vec::new(), Vec::new());
        for hop in trace.hops.iter().filter(|hop| hop.ttl <= end) {
            // What was not probed is as silent as what did not answer.
            while answers.len() + 1 < usize::from(hop.ttl) {
                hops.push(SILENT);
                answers.push(Vec::new());
            }
            let answered = self.answers(hop, trace, target);
            if answered.is_empty() {
                hops.push(SILENT);
            }
            for (nth, answer) in answered.iter().enumerate() {
                let also = if nth > 0 { ALSO } else { 0 };
                let shared = if hop.shared { SHARED } else { 0 };
                hops.push(answer.node | also | shared);
            }
            answers.push(answered);
        }
        while hops.last() == Some(&SILENT) {
            hops.pop();
        }
        (hops, answers)
    }

    fn answers(&mut self, hop: &Hop, trace: &Trace, target: IpAddr) -> Vec<Answer> {
        let mut found: Vec<Answer> = Vec::new();
        let replies = || hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
        for reply in replies() {
            let node = self.node(reply.from);
            self.learn(node, reply, trace, target);
            // Of shared hops the times are another trace's.
            let exact = reply.rtt_bound == RttBound::Exact && !hop.shared;
            let time = exact.then_some(reply.rtt);
            match found.iter_mut().find(|it| it.node == node) {
                Some(answer) => {
                    answer.least = match (answer.least, time) {
                        (Some(least), Some(time)) => Some(least.min(time)),
                        (least, time) => least.or(time),
                    }
                }
                None => found.push(Answer {
                    node,
                    least: time,
                    probes: 0,
                    lost: 0,
                }),
            }
        }
        if let ([answer], false) = (&mut found[..], hop.shared) {
            answer.probes = hop.probes.len() as u64;
            answer.lost = answer.probes - replies().count() as u64;
        }
        found
    }

    /// Takes from an answer what is true of who gave it.
    fn learn(&mut self, node: u32, reply: &Reply, trace: &Trace, target: IpAddr) {
        let Some(node) = self.nodes.get_mut(node as usize) else {
            return;
        };
        let reached = reply.kind.is_of_target() || reply.from == target;
        node.is_target |= reached;
        node.is_router |= !reached;
        if node.owner.is_none() {
            node.owner.clone_from(&reply.owner);
        }
        if node.name.is_none() {
            node.name.clone_from(&reply.name);
        }
        if node.name.is_none() && reply.from == target && !is_address_text(&trace.target, target) {
            let (name, port) = trace.target.rsplit_once(':').unwrap_or((&trace.target, ""));
            let is_port = port.parse::<u16>().is_ok() && !name.contains(':');
            let name = if is_port { name } else { &trace.target };
            node.name = (!is_address_text(name, target)).then(|| name.to_owned());
        }
    }

    fn count_nodes(&mut self, trace: &Trace, answers: &[Vec<Answer>], begin: u32) {
        let mut met = vec![begin];
        for (ttl, answer) in (1..=u8::MAX).zip(answers).flat_map(|(ttl, at)| {
            let with_ttl = move |answer| (ttl, answer);
            at.iter().map(with_ttl)
        }) {
            let Some(node) = self.nodes.get_mut(answer.node as usize) else {
                continue;
            };
            if !met.contains(&answer.node) {
                met.push(answer.node);
                node.traces += 1;
                node.ttls.add(ttl);
            }
            node.probes += answer.probes;
            node.lost += answer.lost;
            if let Some(time) = answer.least {
                node.times.add(time);
            }
        }
        let last = answers.iter().rev().find(|at| !at.is_empty());
        for answer in last.into_iter().flatten() {
            if let (None, Some(node)) = (
                trace.destination_ttl,
                self.nodes.get_mut(answer.node as usize),
            ) {
                node.ended += 1;
            }
        }
    }

    /// Counts the edges of a trace, each once; gives their numbers.
    fn count_edges(
        &mut self,
        found: &[Step],
        answers: &[Vec<Answer>],
        (source, method, bucket): (u32, u8, u64),
    ) -> Vec<u32> {
        let mut met = Vec::with_capacity(found.len());
        for step in found {
            let (edges, silent) = (&mut self.edges, (step.silent, step.silent));
            let of = (step.from, step.to, step.kind);
            let number = *self.edge_numbers.entry(of).or_insert_with(|| {
                edges.push(Edge {
                    from: step.from,
                    to: step.to,
                    kind: step.kind,
                    silent,
                    traces: 0,
                    probes: 0,
                    lost: 0,
                    times: Times::default(),
                });
                edges.len() as u32 - 1
            });
            if met.contains(&number) {
                continue;
            }
            met.push(number);
            let Some(edge) = edges.get_mut(number as usize) else {
                continue;
            };
            edge.traces += 1;
            edge.silent.0 = edge.silent.0.min(step.silent);
            edge.silent.1 = edge.silent.1.max(step.silent);
            let at = answers.get(step.at).map(Vec::as_slice).unwrap_or_default();
            if let Some(answer) = at.iter().find(|it| it.node == step.to) {
                edge.probes += answer.probes;
                edge.lost += answer.lost;
                if let Some(time) = answer.least {
                    edge.times.add(time);
                }
            }
            *self
                .cells
                .entry((number, source, method, bucket))
                .or_default() += 1;
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{edges, graph, node, trace};
    use crate::trace::Verdict;

    #[test]
    fn one_path_is_a_chain() {
        let graph = graph(&[trace(
            "10.0.0.1",
            "10.9.9.9",
            &["10.1.1.1", "10.2.2.2", "10.9.9.9"],
        )]);
        assert_eq!(
            edges(&graph),
            [
                "10.0.0.1 > 10.1.1.1 seen 1",
                "10.1.1.1 > 10.2.2.2 seen 1",
                "10.2.2.2 > 10.9.9.9 seen 1"
            ]
        );
        let target = node(&graph, "10.9.9.9");
        assert!(target.is_target && !target.is_router && !target.is_source);
        assert_eq!((target.ttls.least, target.ttls.most), (3, 3));
        assert!(node(&graph, "10.1.1.1").is_router && node(&graph, "10.0.0.1").is_source);
        assert_eq!(graph.cells.len(), 3);
    }

    #[test]
    fn silence_is_never_adjacency() {
        let graph = graph(&[
            trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "*", "10.9.9.9"]),
            trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "*", "*", "10.9.9.9"]),
            trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "10.9.9.9"]),
        ]);
        assert_eq!(
            edges(&graph),
            [
                "10.0.0.1 > 10.1.1.1 seen 3",
                "10.1.1.1 > 10.9.9.9 gap 2",
                "10.1.1.1 > 10.9.9.9 seen 1"
            ]
        );
        let gap = graph.edges.iter().find(|edge| edge.kind == Kind::Gap);
        assert_eq!(gap.unwrap().silent, (1, 2));
    }

    #[test]
    fn methods_of_many_flows_only_assume() {
        let mut one = trace(
            "10.0.0.1",
            "10.9.9.9",
            &["10.1.1.1", "10.2.2.2", "10.9.9.9"],
        );
        one.method = Method::Udp;
        assert_eq!(
            edges(&graph(&[one])),
            [
                "10.0.0.1 > 10.1.1.1 seen 1",
                "10.1.1.1 > 10.2.2.2 assumed 1",
                "10.2.2.2 > 10.9.9.9 assumed 1"
            ]
        );
    }

    #[test]
    fn ends_and_losses_are_counted_where_they_are() {
        let mut lost = trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "10.2.2.2", "*", "*"]);
        lost.verdict = Verdict::GapLimit;
        // Two probes of the second hop are lost.
        let silent = crate::report::samples::silent(1);
        lost.hops[1].probes.extend([silent.clone(), silent]);
        let graph = graph(&[
            lost,
            trace(
                "10.0.0.1",
                "10.9.9.9",
                &["10.1.1.1", "10.2.2.2", "10.9.9.9"],
            ),
        ]);
        let router = node(&graph, "10.2.2.2");
        assert_eq!((router.ended, router.probes, router.lost), (1, 4, 2));
        assert_eq!(node(&graph, "10.9.9.9").ended, 0);
        assert_eq!(graph.traces, 2);
        assert_eq!(edges(&graph).len(), 3);
    }

    #[test]
    fn what_has_no_answer_is_counted_only() {
        let none = crate::report::samples::empty("nosuch.example", Verdict::Error);
        let silent = trace("10.0.0.1", "10.9.9.9", &["*", "*"]);
        let graph = graph(&[none, silent]);
        assert_eq!((graph.traces, graph.unanswered), (2, 2));
        assert_eq!(edges(&graph), [""; 0]);
    }

    #[test]
    fn a_slice_leaves_traces_out() {
        let mut builder = Builder::new(Slice {
            methods: vec![Method::InSession],
            ..Slice::default()
        });
        let mut other = trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "10.9.9.9"]);
        builder.add(&other);
        other.method = Method::Icmp;
        builder.add(&other);
        let graph = builder.finish();
        assert_eq!((graph.traces, graph.sliced_away), (1, 1));
        assert_eq!(graph.methods, [Method::InSession]);
    }

    #[test]
    fn targets_have_the_names_that_users_gave_them() {
        let mut one = trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "10.9.9.9"]);
        for (target, name) in [
            ("www.example", Some("www.example")),
            ("www.example:80", Some("www.example")),
            ("10.9.9.9", None),
            ("10.9.9.9:80", None),
        ] {
            one.target = target.to_owned();
            let graph = graph(std::slice::from_ref(&one));
            assert_eq!(node(&graph, "10.9.9.9").name.as_deref(), name);
        }
    }
}
