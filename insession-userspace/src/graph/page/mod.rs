//! The graph as one page that needs nothing else: data, drawing and the library that
//! draws (`LIBRARY`) are inside.
//!
//! Every level has its own data, read when it is asked for: columns rather than records,
//! numbers rather than words, since ten thousand traces are to be there at once.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::json::rounded;
use super::layout::{Layout, layout};
use super::{Graph, Identity, Level};
use crate::bench::html::escape;
use crate::report::palette;
use crate::trace::{Owner, address_text};

/// D3, which draws: installed by `cargo xtask setup`.
const LIBRARY: &str = include_str!(concat!(env!("OUT_DIR"), "/d3.min.js"));
/// Its licence, which goes where it goes.
const LICENCE: &str = include_str!(concat!(env!("OUT_DIR"), "/d3.licence"));

const STYLE: &str = include_str!("graph.css");
const BODY: &str = include_str!("graph.html");
/// In this order: each uses what stands before it.
const SCRIPTS: [&str; 4] = [
    include_str!("data.js"),
    include_str!("draw.js"),
    include_str!("time.js"),
    include_str!("page.js"),
];

/// Addresses of a node that are named; the others are counted.
const NAMED: usize = 40;

/// What is the same for all levels.
#[derive(Serialize)]
struct Head<'a> {
    names: &'a [String],
    /// Seconds since 1970.
    first: f64,
    last: f64,
    width: u64,
    /// Number of the first span of time; others are counted from it.
    bucket: u64,
    buckets: u64,
    traces: u64,
    unanswered: u64,
    left_out: u64,
    sources: Vec<String>,
    methods: Vec<&'static str>,
    one_flow: Vec<bool>,
    levels: Vec<&'static str>,
    /// Source, method, target, port.
    keys: Vec<(u32, u8, String, u16)>,
    /// Traces by span, source and method, four numbers each.
    counts: Vec<u64>,
}

/// What is drawn of a level.
#[derive(Serialize)]
struct Data {
    rows: f64,
    layers: u32,
    label: Vec<String>,
    name: Vec<Option<String>>,
    /// More addresses than the label names.
    addresses: HashMap<usize, Vec<String>>,
    count: Vec<usize>,
    owner: Vec<i32>,
    owners: Vec<Whose>,
    /// 1: source, 2: router, 4: target.
    role: Vec<u8>,
    x: Vec<u32>,
    y: Vec<f64>,
    ttls: Vec<(u8, u8)>,
    traces: Vec<u64>,
    ended: Vec<u64>,
    probes: Vec<u64>,
    lost: Vec<u64>,
    rtt: Vec<Option<f64>>,
    least: Vec<Option<f64>>,
    from: Vec<u32>,
    to: Vec<u32>,
    /// By [`super::Kind::ALL`].
    kind: Vec<u8>,
    silent: Vec<(u8, u8)>,
    edge_probes: Vec<u64>,
    edge_lost: Vec<u64>,
    edge_rtt: Vec<Option<f64>>,
    via: HashMap<usize, Vec<f64>>,
    /// Edge, source, method, span, traces: five numbers each.
    cells: Vec<u64>,
    /// Parent, then members.
    fans: Vec<Vec<u32>>,
    /// Edges of each path.
    paths: Vec<Vec<u32>>,
    /// Key, span, path, traces: four numbers each.
    seen: Vec<u64>,
    changes: Vec<ChangeRow>,
}

/// Span, span before, key, TTL, same flow, nodes before, nodes after.
type ChangeRow = (u64, u64, u32, u8, u8, Vec<u32>, Vec<u32>);

#[derive(Serialize)]
struct Whose {
    asn: Option<u32>,
    holder: Option<String>,
    prefix: Option<String>,
    ixp: Option<String>,
}

/// Writes the page of a graph at one or several levels, the first of which it shows at
/// first; `names` are the results' names.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(levels: &[Graph], names: &[String], out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = levels.first() else {
        return Ok(());
    };
    let title = match names {
        [name] => format!("{name} – insession graph"),
        names => format!("{} results – insession graph", names.len()),
    };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}{}\n{STYLE}</style>\n</head>\n<body>\n{BODY}",
        escape(&title),
        palette::page(),
        colours(),
    )?;
    let head = head(first, levels, names);
    script("head", &serde_json::to_string(&head)?, out)?;
    for graph in levels {
        let data = data(graph, head.bucket);
        script(graph.level.as_str(), &serde_json::to_string(&data)?, out)?;
    }
    let licence = LICENCE.replace("*/", "* /");
    writeln!(
        out,
        "<script>\n/* D3:\n{licence}*/\n{LIBRARY}</script>\n<script>\"use strict\";"
    )?;
    for script in SCRIPTS {
        out.write_all(script.as_bytes())?;
    }
    writeln!(out, "</script>\n</body>\n</html>")
}

/// Variables of the drawing's colours.
fn colours() -> String {
    let mut named = vec![
        ("--ink", palette::INK),
        ("--answered", palette::ANSWERED),
        ("--assumed", palette::ASSUMED),
        ("--reached", palette::REACHED),
        ("--lost", palette::LOST),
        ("--silent", palette::SILENT),
    ];
    let series = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5"];
    named.extend(series.into_iter().zip(palette::SERIES));
    palette::variables(":root", &named)
}

/// Data in the page: no text in it ends the element early.
fn script(id: &str, json: &str, out: &mut dyn Write) -> io::Result<()> {
    let json = json.replace('<', "\\u003c");
    writeln!(
        out,
        "<script type=\"application/json\" id=\"data-{id}\">{json}</script>"
    )
}

fn head<'a>(graph: &Graph, levels: &[Graph], names: &'a [String]) -> Head<'a> {
    let seconds = |at: crate::time::UnixTime| at.0 as f64 / 1e9;
    let (first, last) = graph.period().unwrap_or_default();
    let bucket = graph.clock.bucket(first);
    let key = |key: &super::paths::Key| {
        let target = address_text(key.target);
        (key.source, key.method, target, key.port)
    };
    let mut counts: HashMap<(u64, u32, u8), u64> = HashMap::new();
    let keys = &graph.paths.keys;
    for seen in graph.paths.observations() {
        if let Some(key) = keys.get(seen.key as usize) {
            let of = (seen.bucket - bucket, key.source, key.method);
            *counts.entry(of).or_default() += u64::from(seen.traces);
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    let flat = |((bucket, source, method), traces): ((u64, u32, u8), u64)| {
        [bucket, source.into(), method.into(), traces]
    };
    Head {
        names,
        first: seconds(first),
        last: seconds(last),
        width: graph.bucket_seconds(),
        bucket,
        buckets: graph.clock.bucket(last) - bucket + 1,
        traces: graph.traces,
        unanswered: graph.unanswered,
        left_out: graph.paths_left_out(),
        sources: graph.sources.iter().copied().map(address_text).collect(),
        methods: graph.methods.iter().map(|it| it.as_str()).collect(),
        one_flow: graph.methods.iter().map(|it| it.is_one_flow()).collect(),
        levels: levels.iter().map(|it| it.level.as_str()).collect(),
        keys: keys.iter().map(key).collect(),
        counts: counts.into_iter().flat_map(flat).collect(),
    }
}

fn data(graph: &Graph, bucket: u64) -> Data {
    let Layout {
        x,
        y,
        via,
        fans,
        layers,
        rows,
    } = layout(graph);
    let nodes = &graph.nodes;
    let edges = &graph.edges;
    let (owner, owners) = owners(graph);
    let several = |(at, node): (usize, &super::Node)| {
        let named = node.addresses.iter().take(NAMED).copied();
        let is_one = matches!(node.identity, Identity::Address(_));
        (!is_one).then(|| (at, named.map(address_text).collect()))
    };
    let row = |row: f32| (f64::from(row) * 100.0).round() / 100.0;
    let rows_of = |(at, rows): (usize, Vec<f32>)| {
        (!rows.is_empty()).then(|| (at, rows.into_iter().map(row).collect()))
    };
    let cell = |cell: &super::Cell| {
        [
            cell.edge.into(),
            cell.source.into(),
            cell.method.into(),
            cell.bucket - bucket,
            cell.traces.into(),
        ]
    };
    let seen = |it: super::paths::Observation| {
        let (key, path) = (it.key.into(), it.path.into());
        [key, it.bucket - bucket, path, it.traces.into()]
    };
    let change = |it: super::changes::Change| {
        let (at, was) = (it.bucket - bucket, it.before_bucket - bucket);
        let (ttl, same) = (it.ttl.unwrap_or_default(), it.same_flow.into());
        (at, was, it.key, ttl, same, it.before, it.after)
    };
    let fan = |fan: super::layout::Fan| {
        let mut numbers = vec![fan.parent];
        numbers.extend(fan.members);
        numbers
    };
    Data {
        rows: row(rows),
        layers,
        label: nodes.iter().map(super::Node::label).collect(),
        name: nodes.iter().map(|it| it.name.clone()).collect(),
        addresses: nodes.iter().enumerate().filter_map(several).collect(),
        count: nodes.iter().map(|it| it.addresses.len()).collect(),
        owner,
        owners,
        role: nodes.iter().map(role).collect(),
        x,
        y: y.into_iter().map(row).collect(),
        ttls: nodes
            .iter()
            .map(|it| (it.ttls.least, it.ttls.most))
            .collect(),
        traces: nodes.iter().map(|it| it.traces).collect(),
        ended: nodes.iter().map(|it| it.ended).collect(),
        probes: nodes.iter().map(|it| it.probes).collect(),
        lost: nodes.iter().map(|it| it.lost).collect(),
        rtt: nodes.iter().map(|it| it.median_us().map(rounded)).collect(),
        least: nodes.iter().map(|it| it.least_us().map(rounded)).collect(),
        from: edges.iter().map(|it| it.from).collect(),
        to: edges.iter().map(|it| it.to).collect(),
        kind: edges.iter().map(|it| it.kind as u8).collect(),
        silent: edges.iter().map(|it| it.silent).collect(),
        edge_probes: edges.iter().map(|it| it.probes).collect(),
        edge_lost: edges.iter().map(|it| it.lost).collect(),
        edge_rtt: edges.iter().map(|it| it.median_us().map(rounded)).collect(),
        via: via.into_iter().enumerate().filter_map(rows_of).collect(),
        cells: graph.cells.iter().flat_map(cell).collect(),
        fans: fans.into_iter().map(fan).collect(),
        paths: graph
            .paths
            .paths
            .iter()
            .map(|it| it.edges.clone())
            .collect(),
        seen: graph
            .paths
            .observations()
            .into_iter()
            .flat_map(seen)
            .collect(),
        changes: graph.changes().into_iter().map(change).collect(),
    }
}

fn role(node: &super::Node) -> u8 {
    u8::from(node.is_source) | u8::from(node.is_router) << 1 | u8::from(node.is_target) << 2
}

/// The owner of each node by number, and the owners.
fn owners(graph: &Graph) -> (Vec<i32>, Vec<Whose>) {
    let mut numbers: HashMap<Arc<Owner>, i32> = HashMap::new();
    let mut owners = Vec::new();
    let of = |node: &super::Node| {
        let Some(owner) = &node.owner else {
            return -1;
        };
        *numbers.entry(Arc::clone(owner)).or_insert_with(|| {
            owners.push(Whose {
                asn: owner.asn,
                holder: owner.holder.clone(),
                prefix: owner.prefix.clone(),
                ixp: owner.ixp.clone(),
            });
            owners.len() as i32 - 1
        })
    };
    (graph.nodes.iter().map(of).collect(), owners)
}

/// The levels that a page can show of a graph of addresses: those that something is
/// known for.
#[must_use]
pub fn levels(graph: Graph, aliases: Option<&super::aliases::Aliases>) -> Vec<Graph> {
    let none = super::aliases::Aliases::default();
    let asked = [
        (Level::Router, aliases.is_some()),
        (Level::Prefix, graph.knows_prefixes()),
        (Level::As, graph.knows_owners()),
    ];
    let known = asked.into_iter().filter(|it| it.1);
    let mut more: Vec<Graph> = known
        .map(|(level, _)| graph.collapsed(level, aliases.unwrap_or(&none)))
        .collect();
    more.insert(0, graph);
    more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{graph, later, trace};
    use serde_json::Value;

    fn sample() -> Graph {
        let path = |middle: &str, seconds| {
            let path = ["10.1.1.1", middle, "*", "10.9.9.9"];
            let mut trace = later(trace("10.0.0.1", "10.9.9.9", &path), seconds);
            trace.target = "</script><b>\u{2028}&amp;".to_owned();
            trace
        };
        graph(&[path("10.2.2.2", 0), path("10.2.2.7", 60)])
    }

    fn page() -> String {
        let graph = sample();
        let systems = graph.collapsed(Level::As, &Default::default());
        let mut out = Vec::new();
        write(&[graph, systems], &["<i>.jsonl".to_owned()], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn data(page: &str, id: &str) -> Value {
        let begin = format!("<script type=\"application/json\" id=\"data-{id}\">");
        let (_, rest) = page.split_once(&begin).unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn columns_are_all_there_and_as_long_as_they_are_to_be() {
        let page = page();
        let head = data(&page, "head");
        assert_eq!(head["levels"], serde_json::json!(["address", "as"]));
        assert_eq!((&head["traces"], &head["buckets"]), (&2.into(), &61.into()));
        for level in ["address", "as"] {
            let data = data(&page, level);
            let length = |column: &str| data[column].as_array().unwrap().len();
            for column in [
                "name", "count", "owner", "role", "x", "y", "ttls", "traces", "ended", "probes",
                "lost", "rtt", "least",
            ] {
                assert_eq!(length(column), length("label"), "{column}");
            }
            for column in [
                "to",
                "kind",
                "silent",
                "edge_probes",
                "edge_lost",
                "edge_rtt",
            ] {
                assert_eq!(length(column), length("from"), "{column}");
            }
            assert_eq!(length("paths"), 2);
            assert_eq!(length("seen"), 2 * 4);
            assert_eq!(length("cells"), 6 * 5);
            assert_eq!(length("changes"), 1);
        }
    }

    #[test]
    fn no_text_from_outside_is_markup() {
        let page = page();
        assert_eq!(
            data(&page, "address")["name"][3],
            "</script><b>\u{2028}&amp;"
        );
        assert!(!page.contains("</script><b>") && !page.contains("<i>.jsonl"));
        let tags = |tag: &str| page.matches(tag).count();
        assert_eq!(tags("<script"), 5);
        assert_eq!(tags("</script>"), 5);
    }

    #[test]
    fn nothing_is_fetched_and_the_library_comes_with_its_licence() {
        let page = page();
        let ours = page.replace(LIBRARY, "").replace(LICENCE, "");
        assert!(ours.len() < page.len() - 250_000);
        for fetched in [
            "http:", "https:", " src=", "<link", "@import", "url(", "fetch(",
        ] {
            assert!(!ours.contains(fetched), "{fetched}");
        }
        assert!(page.contains("Permission to use, copy, modify"));
    }

    #[test]
    fn every_element_that_scripts_ask_for_is_there() {
        for script in SCRIPTS {
            for asked in ["element(\"", "getElementById(\""] {
                for (_, rest) in script
                    .match_indices(asked)
                    .map(|(at, it)| script.split_at(at + it.len()))
                {
                    let (id, _) = rest.split_once('"').unwrap();
                    let is_data = id.starts_with("data-");
                    assert!(is_data || BODY.contains(&format!("id=\"{id}\"")), "{id}");
                }
            }
        }
    }
}
