//! The graph as GraphML, for Gephi, yEd, NetworkX and others.

use std::io::{self, Write};

use super::{Edge, Graph, Node};

/// Attributes of nodes: name and type.
const NODE: &[(&str, &str)] = &[
    ("label", "string"),
    ("addresses", "string"),
    ("name", "string"),
    ("asn", "long"),
    ("holder", "string"),
    ("prefix", "string"),
    ("ixp", "string"),
    ("source", "boolean"),
    ("router", "boolean"),
    ("target", "boolean"),
    ("traces", "long"),
    ("ended", "long"),
    ("probes", "long"),
    ("lost", "long"),
    ("ttl", "double"),
    ("rtt_us", "double"),
    ("rtt_least_us", "double"),
];

/// Attributes of edges: name and type.
const EDGE: &[(&str, &str)] = &[
    ("kind", "string"),
    ("silent_least", "int"),
    ("silent_most", "int"),
    ("traces", "long"),
    ("probes", "long"),
    ("lost", "long"),
    ("rtt_us", "double"),
];

/// Writes it.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">"
    )?;
    for (of, attributes) in [("node", NODE), ("edge", EDGE)] {
        for (name, kind) in attributes {
            writeln!(
                out,
                "  <key id=\"{of}.{name}\" for=\"{of}\" attr.name=\"{name}\" attr.type=\"{kind}\"/>"
            )?;
        }
    }
    writeln!(out, "  <graph id=\"paths\" edgedefault=\"directed\">")?;
    for (number, node) in graph.nodes.iter().enumerate() {
        write_node(number, node, out)?;
    }
    for (number, edge) in graph.edges.iter().enumerate() {
        write_edge(number, edge, out)?;
    }
    writeln!(out, "  </graph>\n</graphml>")
}

fn write_node(number: usize, node: &Node, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "    <node id=\"n{number}\">")?;
    let addresses = node.addresses.iter().map(ToString::to_string);
    let owner = node.owner.as_deref();
    let micros = |value: Option<f64>| value.map(|value| format!("{value:.3}"));
    for (name, value) in [
        ("label", Some(node.label())),
        ("addresses", Some(addresses.collect::<Vec<_>>().join(" "))),
        ("name", node.name.clone()),
        ("asn", owner.and_then(|it| it.asn).map(|it| it.to_string())),
        ("holder", owner.and_then(|it| it.holder.clone())),
        ("prefix", owner.and_then(|it| it.prefix.clone())),
        ("ixp", owner.and_then(|it| it.ixp.clone())),
        ("source", Some(node.is_source.to_string())),
        ("router", Some(node.is_router.to_string())),
        ("target", Some(node.is_target.to_string())),
        ("traces", Some(node.traces.to_string())),
        ("ended", Some(node.ended.to_string())),
        ("probes", Some(node.probes.to_string())),
        ("lost", Some(node.lost.to_string())),
        ("ttl", Some(format!("{:.3}", node.ttls.mean()))),
        ("rtt_us", micros(node.median_us())),
        ("rtt_least_us", micros(node.least_us())),
    ] {
        write_data("node", name, value, out)?;
    }
    writeln!(out, "    </node>")
}

fn write_edge(number: usize, edge: &Edge, out: &mut dyn Write) -> io::Result<()> {
    let (from, to) = (edge.from, edge.to);
    writeln!(
        out,
        "    <edge id=\"e{number}\" source=\"n{from}\" target=\"n{to}\">"
    )?;
    for (name, value) in [
        ("kind", Some(edge.kind.as_str().to_owned())),
        ("silent_least", Some(edge.silent.0.to_string())),
        ("silent_most", Some(edge.silent.1.to_string())),
        ("traces", Some(edge.traces.to_string())),
        ("probes", Some(edge.probes.to_string())),
        ("lost", Some(edge.lost.to_string())),
        ("rtt_us", edge.median_us().map(|it| format!("{it:.3}"))),
    ] {
        write_data("edge", name, value, out)?;
    }
    writeln!(out, "    </edge>")
}

fn write_data(of: &str, name: &str, value: Option<String>, out: &mut dyn Write) -> io::Result<()> {
    let Some(value) = value else {
        return Ok(());
    };
    writeln!(
        out,
        "      <data key=\"{of}.{name}\">{}</data>",
        escaped(&value)
    )
}

/// Text that is no markup; what XML 1.0 has no sign for is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader would make a line feed of it.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => {
                out.push(sign);
            }
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_can_stand_there() {
        assert_eq!(escaped("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
        assert_eq!(
            escaped("\0\u{1b}[1m\r\t\u{ffff}"),
            "\u{fffd}\u{fffd}[1m&#13;\t\u{fffd}"
        );
    }
}
