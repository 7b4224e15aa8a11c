//! The graph as one JSON object, `insession.graph/1`: everything that is known, and where
//! the page would draw it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::layout::{Layout, layout};
use super::{Edge, Graph, Node};
use crate::report::civil::Rfc3339;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    level: &'static str,
    first: Option<String>,
    last: Option<String>,
    bucket_seconds: u64,
    traces: u64,
    unanswered: u64,
    sliced_away: u64,
    paths_left_out: u64,
    sources: &'a [IpAddr],
    methods: Vec<&'static str>,
    nodes: Vec<NodeRecord<'a>>,
    edges: Vec<EdgeRecord>,
    changes: Vec<ChangeRecord>,
}

#[derive(Serialize)]
struct NodeRecord<'a> {
    id: u32,
    label: String,
    addresses: &'a [IpAddr],
    name: Option<&'a str>,
    asn: Option<u32>,
    holder: Option<&'a str>,
    prefix: Option<&'a str>,
    ixp: Option<&'a str>,
    source: bool,
    router: bool,
    target: bool,
    ttl_least: Option<u8>,
    ttl_most: Option<u8>,
    ttl_mean: Option<f64>,
    traces: u64,
    ended: u64,
    probes: u64,
    lost: u64,
    rtt_us: Option<f64>,
    rtt_least_us: Option<f64>,
    x: u32,
    y: f64,
}

#[derive(Serialize)]
struct EdgeRecord {
    id: u32,
    from: u32,
    to: u32,
    kind: &'static str,
    silent_least: u8,
    silent_most: u8,
    traces: u64,
    probes: u64,
    lost: u64,
    rtt_us: Option<f64>,
    times: Vec<CellRecord>,
}

#[derive(Serialize)]
struct CellRecord {
    start: String,
    source: IpAddr,
    method: &'static str,
    traces: u32,
}

#[derive(Serialize)]
struct ChangeRecord {
    start: String,
    before_start: String,
    source: IpAddr,
    method: &'static str,
    target: IpAddr,
    port: u16,
    ttl: Option<u8>,
    before: Vec<u32>,
    after: Vec<u32>,
    same_flow: bool,
}

/// Writes it, with a line end.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &document(graph))?;
    out.write_all(b"\n")
}

fn document(graph: &Graph) -> Document<'_> {
    let drawing = layout(graph);
    let moment = |at| Rfc3339(at).to_string();
    let period = graph.period();
    let start = |bucket: u64| moment(graph.bucket_start(bucket));
    let unknown = IpAddr::from([0; 4]);
    let source = |number: u32| {
        let source = graph.sources.get(number as usize);
        source.copied().unwrap_or(unknown)
    };
    let method = |number: u8| {
        let method = graph.methods.get(usize::from(number));
        method.map_or("", |it| it.as_str())
    };
    let mut cells: HashMap<u32, Vec<CellRecord>> = HashMap::new();
    for cell in &graph.cells {
        cells.entry(cell.edge).or_default().push(CellRecord {
            start: start(cell.bucket),
            source: source(cell.source),
            method: method(cell.method),
            traces: cell.traces,
        });
    }
    let change = |change: super::changes::Change| {
        let key = graph.paths.keys.get(change.key as usize)?;
        Some(ChangeRecord {
            start: start(change.bucket),
            before_start: start(change.before_bucket),
            source: source(key.source),
            method: method(key.method),
            target: key.target,
            port: key.port,
            ttl: change.ttl,
            before: change.before,
            after: change.after,
            same_flow: change.same_flow,
        })
    };
    Document {
        schema: "insession.graph/1",
        level: graph.level.as_str(),
        first: period.map(|it| moment(it.0)),
        last: period.map(|it| moment(it.1)),
        bucket_seconds: graph.bucket_seconds(),
        traces: graph.traces,
        unanswered: graph.unanswered,
        sliced_away: graph.sliced_away,
        paths_left_out: graph.paths_left_out(),
        sources: &graph.sources,
        methods: graph.methods.iter().map(|it| it.as_str()).collect(),
        nodes: (0..)
            .zip(&graph.nodes)
            .map(|(number, node)| node_record(number, node, &drawing))
            .collect(),
        edges: (0..)
            .zip(&graph.edges)
            .map(|(number, edge)| edge_record(number, edge, cells.remove(&number)))
            .collect(),
        changes: graph.changes().into_iter().filter_map(change).collect(),
    }
}

/// To three places behind the point: nanoseconds, of microseconds.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn node_record<'a>(number: u32, node: &'a Node, drawing: &Layout) -> NodeRecord<'a> {
    let owner = node.owner.as_deref();
    let met = node.ttls.most > 0;
    let at = number as usize;
    let y = drawing.y.get(at).copied().unwrap_or_default();
    NodeRecord {
        id: number,
        label: node.label(),
        addresses: &node.addresses,
        name: node.name.as_deref(),
        asn: owner.and_then(|it| it.asn),
        holder: owner.and_then(|it| it.holder.as_deref()),
        prefix: owner.and_then(|it| it.prefix.as_deref()),
        ixp: owner.and_then(|it| it.ixp.as_deref()),
        source: node.is_source,
        router: node.is_router,
        target: node.is_target,
        ttl_least: met.then_some(node.ttls.least),
        ttl_most: met.then_some(node.ttls.most),
        ttl_mean: met.then(|| rounded(node.ttls.mean())),
        traces: node.traces,
        ended: node.ended,
        probes: node.probes,
        lost: node.lost,
        rtt_us: node.median_us().map(rounded),
        rtt_least_us: node.least_us().map(rounded),
        x: drawing.x.get(at).copied().unwrap_or_default(),
        y: rounded(f64::from(y)),
    }
}

fn edge_record(number: u32, edge: &Edge, cells: Option<Vec<CellRecord>>) -> EdgeRecord {
    EdgeRecord {
        id: number,
        from: edge.from,
        to: edge.to,
        kind: edge.kind.as_str(),
        silent_least: edge.silent.0,
        silent_most: edge.silent.1,
        traces: edge.traces,
        probes: edge.probes,
        lost: edge.lost,
        rtt_us: edge.median_us().map(rounded),
        times: cells.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{graph, later, trace};

    #[test]
    fn all_that_is_known_stands_in_it() {
        let path = |middle: &str, seconds| {
            let path = ["10.1.1.1", middle, "*", "10.9.9.9"];
            later(trace("10.0.0.1", "10.9.9.9", &path), seconds)
        };
        let graph = graph(&[
            path("10.2.2.2", 0),
            path("10.2.2.2", 0),
            path("10.2.2.7", 60),
        ]);
        let mut out = Vec::new();
        write(&graph, &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["schema"], "insession.graph/1");
        assert_eq!(value["first"], "2026-01-02T03:04:05.000000Z");
        assert_eq!(value["nodes"].as_array().unwrap().len(), 5);
        let edges = value["edges"].as_array().unwrap();
        let kinds: Vec<_> = edges
            .iter()
            .map(|it| it["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["seen", "seen", "gap", "seen", "gap"]);
        assert_eq!(edges[0]["traces"], 3);
        assert_eq!(edges[0]["times"][0]["traces"], 2);
        assert_eq!(edges[0]["times"][1]["start"], "2026-01-02T03:05:05.000000Z");
        assert_eq!(edges[2]["silent_most"], 1);
        let changes = value["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0]["ttl"], 2);
        assert_eq!(changes[0]["before"][0], 2);
        assert_eq!(changes[0]["after"][0], 4);
        assert_eq!(changes[0]["same_flow"], true);
    }
}
