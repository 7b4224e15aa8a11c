//! Addresses into what they belong to. What belongs to nothing known stays as it is.

use std::collections::HashMap;
use std::net::IpAddr;

use super::aliases::Aliases;
use super::{Cell, Edge, Graph, Identity, Level, Node};

impl Graph {
    /// The graph of routers, prefixes or autonomous systems: nodes are joined, edges
    /// within one are no more, and those between the same two, of the same kind, are one.
    #[must_use]
    pub fn collapsed(&self, level: Level, aliases: &Aliases) -> Graph {
        let (nodes, node_numbers) = self.joined_nodes(level, aliases);
        let mut edges: Vec<Edge> = Vec::new();
        let mut known = HashMap::new();
        let mut edge_numbers = Vec::with_capacity(self.edges.len());
        for edge in &self.edges {
            let number = |node: u32| node_numbers.get(node as usize).copied();
            let (Some(from), Some(to)) = (number(edge.from), number(edge.to)) else {
                edge_numbers.push(None);
                continue;
            };
            if from == to {
                edge_numbers.push(None);
                continue;
            }
            let fresh = edges.len() as u32;
            let number = *known.entry((from, to, edge.kind)).or_insert(fresh);
            edge_numbers.push(Some(number));
            match edges.get_mut(number as usize) {
                None => edges.push(Edge {
                    from,
                    to,
                    ..edge.clone()
                }),
                Some(joined) => {
                    joined.silent.0 = joined.silent.0.min(edge.silent.0);
                    joined.silent.1 = joined.silent.1.max(edge.silent.1);
                    joined.traces += edge.traces;
                    joined.probes += edge.probes;
                    joined.lost += edge.lost;
                    joined.times.join(&edge.times);
                }
            }
        }
        let mut cells = HashMap::new();
        for cell in &self.cells {
            let edge = edge_numbers.get(cell.edge as usize).copied().flatten();
            if let Some(edge) = edge {
                let of = (edge, cell.source, cell.method, cell.bucket);
                *cells.entry(of).or_insert(0) += cell.traces;
            }
        }
        let cell = |((edge, source, method, bucket), traces)| Cell {
            edge,
            source,
            method,
            bucket,
            traces,
        };
        let mut cells: Vec<_> = cells.into_iter().map(cell).collect();
        cells.sort_unstable();
        Graph {
            level,
            nodes,
            edges,
            cells,
            paths: self.paths.renumbered(&node_numbers, &edge_numbers),
            sources: self.sources.clone(),
            methods: self.methods.clone(),
            ..*self
        }
    }

    /// The nodes that there are then, and which of them each is of.
    fn joined_nodes(&self, level: Level, aliases: &Aliases) -> (Vec<Node>, Vec<u32>) {
        let mut nodes: Vec<Node> = Vec::new();
        let mut known: HashMap<Identity, u32> = HashMap::new();
        let mut numbers = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let identity = belongs(node, level, aliases);
            let fresh = nodes.len() as u32;
            let number = *known.entry(identity.clone()).or_insert(fresh);
            numbers.push(number);
            match nodes.get_mut(number as usize) {
                None => nodes.push(Node {
                    identity,
                    ..node.clone()
                }),
                Some(joined) => join(joined, node),
            }
        }
        // A name is one address', a prefix one of an AS's.
        for node in &mut nodes {
            match node.identity {
                Identity::As(_) | Identity::Exchange(_) => {
                    node.name = None;
                    node.owner = node.owner.take().map(|owner| {
                        let mut owner = (*owner).clone();
                        owner.prefix = None;
                        if matches!(node.identity, Identity::As(_)) {
                            owner.ixp = None;
                        }
                        owner.into()
                    });
                }
                Identity::Prefix(_) => node.name = None,
                Identity::Address(_) | Identity::Router(_) => {}
            }
        }
        (nodes, numbers)
    }
}

/// What a node belongs to.
fn belongs(node: &Node, level: Level, aliases: &Aliases) -> Identity {
    let owner = node.owner.as_deref();
    let found = match level {
        Level::Address => None,
        Level::Router => {
            let router = |address: &IpAddr| aliases.router(*address);
            node.addresses.iter().find_map(router).map(Identity::Router)
        }
        Level::Prefix => owner
            .and_then(|owner| owner.prefix.clone())
            .map(Identity::Prefix),
        Level::As => owner.and_then(|owner| {
            let exchange = || owner.ixp.clone().map(Identity::Exchange);
            owner.asn.map(Identity::As).or_else(exchange)
        }),
    };
    found.unwrap_or_else(|| node.identity.clone())
}

/// Traces that met both are counted for both: how many those are is not known any more.
fn join(node: &mut Node, other: &Node) {
    node.addresses.extend(&other.addresses);
    if node.name.is_none() {
        node.name.clone_from(&other.name);
    }
    if node.owner.is_none() {
        node.owner.clone_from(&other.owner);
    }
    node.is_source |= other.is_source;
    node.is_router |= other.is_router;
    node.is_target |= other.is_target;
    node.traces += other.traces;
    node.ended += other.ended;
    node.probes += other.probes;
    node.lost += other.lost;
    node.ttls.join(&other.ttls);
    node.times.join(&other.times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{edges, graph, node, trace};
    use crate::trace::{Owner, Trace};
    use std::sync::Arc;

    /// Every answer from 10.N.… is AS N's, and of the prefix 10.N.0.0/16; but 10.7.… is
    /// an exchange's, and of 10.8.… nothing is known.
    fn owned(mut trace: Trace) -> Trace {
        let probes = trace.hops.iter_mut().flat_map(|hop| &mut hop.probes);
        for reply in probes.filter_map(|probe| probe.reply.as_mut()) {
            let octets = match reply.from {
                IpAddr::V4(address) => address.octets(),
                IpAddr::V6(_) => continue,
            };
            let number = u32::from(octets[1]);
            reply.owner = (number != 8).then(|| {
                Arc::new(Owner {
                    asn: (number != 7).then_some(number),
                    holder: (number != 7).then(|| format!("holder {number}")),
                    prefix: (number != 7).then(|| format!("10.{number}.0.0/16")),
                    ixp: (number == 7).then(|| "IX".to_owned()),
                })
            });
        }
        trace
    }

    fn sample() -> Graph {
        graph(&[
            owned(trace(
                "10.0.0.1",
                "10.3.0.9",
                &[
                    "10.1.0.1", "10.1.0.2", "10.7.0.1", "10.8.0.1", "10.3.0.1", "10.3.0.9",
                ],
            )),
            owned(trace(
                "10.0.0.1",
                "10.3.0.8",
                &["10.1.0.1", "*", "10.1.0.3", "10.7.0.2", "*", "10.3.0.8"],
            )),
        ])
    }

    #[test]
    fn an_as_is_one_node_and_silence_within_it_is_nothing() {
        let graph = sample().collapsed(Level::As, &Aliases::default());
        assert_eq!(
            edges(&graph),
            [
                "10.0.0.1 > AS1 seen 2",
                "10.8.0.1 > AS3 seen 1",
                "AS1 > IX seen 2",
                "IX > 10.8.0.1 seen 1",
                "IX > AS3 gap 1"
            ]
        );
        let node = node(&graph, "10.1.0.3");
        assert_eq!(node.addresses.len(), 3);
        let owner = node.owner.as_deref().unwrap();
        assert_eq!(owner.holder.as_deref(), Some("holder 1"));
        assert_eq!(owner.prefix, None);
        let cells: u32 = graph.cells.iter().map(|cell| cell.traces).sum();
        assert_eq!(cells, 7);
    }

    #[test]
    fn prefixes_are_what_is_announced() {
        let graph = sample().collapsed(Level::Prefix, &Aliases::default());
        assert_eq!(
            edges(&graph),
            [
                "10.0.0.1 > 10.1.0.0/16 seen 2",
                "10.1.0.0/16 > 10.7.0.1 seen 1",
                "10.1.0.0/16 > 10.7.0.2 seen 1",
                "10.7.0.1 > 10.8.0.1 seen 1",
                "10.7.0.2 > 10.3.0.0/16 gap 1",
                "10.8.0.1 > 10.3.0.0/16 seen 1"
            ]
        );
    }

    #[test]
    fn routers_are_what_the_file_says() {
        let line = r#"{"schema":"insession.aliases/1","addresses":["10.7.0.1","10.7.0.2","10.99.0.1"],"confidence":1}"#;
        let (aliases, bad) = Aliases::read(line.as_bytes(), 0.9).unwrap();
        assert!(bad.is_empty());
        let graph = sample().collapsed(Level::Router, &aliases);
        assert_eq!(graph.nodes.len(), sample().nodes.len() - 1);
        let router = node(&graph, "10.7.0.2");
        assert_eq!(router.label(), "10.7.0.1 +1");
        assert_eq!(router.traces, 2);
        assert!(edges(&graph).contains(&"10.1.0.3 > 10.7.0.1 +1 seen 1".to_owned()));
    }
}
