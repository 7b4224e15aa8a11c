//! Traces and graphs for tests.

use std::net::IpAddr;

use super::build::Builder;
use super::slice::Slice;
use super::{Graph, Node};
use crate::report::samples::{answered, empty, silent};
use crate::time::{Duration, UnixTime};
use crate::trace::{Hop, Probe, ReplyKind, Trace, Verdict};

/// 2026-01-02T03:04:05Z.
pub(crate) const START: u64 = 1_767_323_045;

/// An in-session trace along these addresses, one probe a TTL; `*` is silent, `a|b` two
/// that answered.
pub(crate) fn trace(source: &str, target: &str, path: &[&str]) -> Trace {
    let hop = |(ttl, from): (u8, &&str)| {
        let probes = from.split('|').map(|from| match from {
            "*" => silent(1),
            from => Probe {
                sent: Duration::from_micros(1),
                reply: Some(crate::trace::Reply {
                    rtt: Duration::from_millis(u64::from(ttl)),
                    ..answered(kind(from == target), from)
                }),
            },
        });
        Hop::new(ttl, probes.collect())
    };
    let reached = path.last() == Some(&target);
    Trace {
        address: Some(target.parse().unwrap()),
        source: Some(source.parse().unwrap()),
        source_port: Some(61_000),
        started: UnixTime(START * 1_000_000_000),
        destination_ttl: reached.then_some(path.len() as u8),
        hops: (1..).zip(path).map(hop).collect(),
        ..empty(
            target,
            match reached {
                true => Verdict::Complete,
                false => Verdict::GapLimit,
            },
        )
    }
}

fn kind(reached: bool) -> ReplyKind {
    match reached {
        true => ReplyKind::Sack,
        false => ReplyKind::TimeExceeded,
    }
}

/// The same, started so many seconds later.
pub(crate) fn later(mut trace: Trace, seconds: u64) -> Trace {
    trace.started = UnixTime(trace.started.0 + seconds * 1_000_000_000);
    trace
}

/// The graph of all traces.
pub(crate) fn graph(traces: &[Trace]) -> Graph {
    let mut builder = Builder::new(Slice::default());
    traces.iter().for_each(|trace| builder.add(trace));
    builder.finish()
}

/// Edges in words, sorted.
pub(crate) fn edges(graph: &Graph) -> Vec<String> {
    let label = |node: u32| graph.nodes[node as usize].label();
    let told = |edge: &super::Edge| {
        let (from, to) = (label(edge.from), label(edge.to));
        format!("{from} > {to} {} {}", edge.kind.as_str(), edge.traces)
    };
    let mut all: Vec<_> = graph.edges.iter().map(told).collect();
    all.sort();
    all
}

/// The node of an address.
pub(crate) fn node<'a>(graph: &'a Graph, address: &str) -> &'a Node {
    let address: IpAddr = address.parse().unwrap();
    let of = |node: &&Node| node.addresses.contains(&address);
    graph.nodes.iter().find(of).unwrap()
}
