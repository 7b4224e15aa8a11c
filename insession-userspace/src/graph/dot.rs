//! The graph for Graphviz.

use std::io::{self, Write};

use super::{Edge, Graph, Kind, Node};

/// Writes it.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "digraph \"insession paths\" {{")?;
    writeln!(out, "  rankdir=LR; ranksep=0.9; nodesep=0.2;")?;
    writeln!(
        out,
        "  node [fontname=\"sans-serif\", fontsize=10, shape=ellipse];"
    )?;
    writeln!(
        out,
        "  edge [fontname=\"sans-serif\", fontsize=8, arrowsize=0.6];"
    )?;
    for (number, node) in graph.nodes.iter().enumerate() {
        write_node(number, node, out)?;
    }
    for edge in &graph.edges {
        write_edge(edge, out)?;
    }
    writeln!(out, "}}")
}

fn write_node(number: usize, node: &Node, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![node.label()];
    lines.extend(node.name.clone());
    if let Some(owner) = node.owner.as_deref() {
        let asn = owner.asn.map(|asn| format!("AS{asn}"));
        let of: Vec<String> = [asn, owner.holder.clone(), owner.ixp.clone()]
            .into_iter()
            .flatten()
            .collect();
        if !of.is_empty() {
            lines.push(of.join(" "));
        }
    }
    let label: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
    write!(out, "  n{number} [label=\"{}\"", label.join("\\n"))?;
    if node.is_source {
        write!(out, ", shape=box, penwidth=2")?;
    } else if node.is_target {
        write!(out, ", peripheries=2")?;
    }
    write!(out, ", traces={}, ended={}", node.traces, node.ended)?;
    write!(out, ", probes={}, lost={}", node.probes, node.lost)?;
    if let Some(median) = node.median_us() {
        write!(out, ", rtt_us=\"{median:.1}\"")?;
    }
    writeln!(out, "];")
}

fn write_edge(edge: &Edge, out: &mut dyn Write) -> io::Result<()> {
    let style = match edge.kind {
        Kind::Seen => "solid",
        Kind::Assumed => "dotted",
        Kind::Gap => "dashed",
    };
    let (kind, traces) = (edge.kind.as_str(), edge.traces);
    let width = 1.0 + (traces as f64).log10();
    write!(
        out,
        "  n{} -> n{} [kind={kind}, style={style}, traces={traces}, penwidth={width:.2}",
        edge.from, edge.to
    )?;
    if edge.kind == Kind::Gap {
        let hops = match edge.silent {
            (least, most) if least == most => format!("* {most}"),
            (least, most) => format!("* {least}–{most}"),
        };
        write!(out, ", label=\"{hops}\"")?;
    }
    write!(out, ", probes={}, lost={}", edge.probes, edge.lost)?;
    if let Some(median) = edge.median_us() {
        write!(out, ", rtt_us=\"{median:.1}\"")?;
    }
    writeln!(out, "];")
}

/// What stands between two quotes.
fn quoted(text: &str) -> String {
    let one = |sign: char| match sign {
        '"' | '\\' => vec!['\\', sign],
        sign if sign.is_control() => vec![' '],
        sign => vec![sign],
    };
    text.chars().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{graph, trace};

    #[test]
    fn a_small_graph_word_by_word() {
        let mut one = trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "*", "10.9.9.9"]);
        one.target = "a\"b\\c\nd".to_owned();
        let mut out = Vec::new();
        write(&graph(&[one]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "  n0 [label=\"10.0.0.1\", shape=box, penwidth=2, traces=1, ended=0, probes=0, lost=0];",
                "  n1 [label=\"10.1.1.1\", traces=1, ended=0, probes=1, lost=0, rtt_us=\"1000.0\"];",
                "  n2 [label=\"10.9.9.9\\na\\\"b\\\\c d\", peripheries=2, traces=1, ended=0, probes=1, lost=0, rtt_us=\"3000.0\"];",
                "  n0 -> n1 [kind=seen, style=solid, traces=1, penwidth=1.00, probes=1, lost=0, rtt_us=\"1000.0\"];",
                "  n1 -> n2 [kind=gap, style=dashed, traces=1, penwidth=1.00, label=\"* 1\", probes=1, lost=0, rtt_us=\"3000.0\"];",
                "}"
            ]
        );
    }
}
