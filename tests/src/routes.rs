//! Routes by shortest paths, as every routing protocol would find them.
//!
//! Hosts do not forward. A node that is `multipath` uses all shortest paths;
//! the others the one over the link that stands first in the file, so that the
//! way back, and with it the address a router answers from, is one and known.

use std::collections::{BTreeMap, BTreeSet};

use crate::topology::{End, Topology};

/// For each node, the arguments of `ip route add`, one line a route.
#[must_use]
pub fn compute(topology: &Topology) -> BTreeMap<&str, Vec<String>> {
    let distances: BTreeMap<&str, BTreeMap<&str, u32>> = topology
        .nodes
        .keys()
        .map(|node| (node.as_str(), distances_to(topology, node)))
        .collect();
    topology
        .nodes
        .keys()
        .map(|node| (node.as_str(), routes_of(topology, node, &distances)))
        .collect()
}

/// How far it is from every node to `target`.
fn distances_to<'a>(topology: &'a Topology, target: &'a str) -> BTreeMap<&'a str, u32> {
    let mut known = BTreeMap::from([(target, 0)]);
    let mut open = BTreeSet::from([(0, target)]);
    while let Some((distance, node)) = open.pop_first() {
        // A packet may begin or end at a host, but not pass it.
        let forwards = topology.nodes.get(node).is_some_and(|node| node.router);
        if node != target && !forwards {
            continue;
        }
        for (near, far, cost) in adjacent(topology, node) {
            debug_assert_eq!(near.node, node);
            let distance = distance + cost;
            if known.get(far.node).is_none_or(|old| distance < *old) {
                known.insert(far.node, distance);
                open.insert((distance, far.node));
            }
        }
    }
    known
}

/// The links of `node`: its end, the other end, the cost.
fn adjacent<'a>(
    topology: &'a Topology,
    node: &'a str,
) -> impl Iterator<Item = (End<'a>, End<'a>, u32)> {
    topology.links.iter().filter_map(move |link| {
        let [a, b] = link.ends();
        if a.node == node {
            Some((a, b, link.cost))
        } else if b.node == node {
            Some((b, a, link.cost))
        } else {
            None
        }
    })
}

fn routes_of(
    topology: &Topology,
    node: &str,
    distances: &BTreeMap<&str, BTreeMap<&str, u32>>,
) -> Vec<String> {
    let mut destinations: Vec<(String, Vec<&str>)> = Vec::new();
    for link in &topology.links {
        let owners = link.ends().map(|end| end.node);
        for prefix in link.prefixes() {
            destinations.push((prefix, owners.to_vec()));
        }
    }
    for (owner, found) in &topology.nodes {
        for prefix in &found.addresses {
            destinations.push((prefix.clone(), vec![owner]));
        }
    }
    destinations
        .into_iter()
        .filter(|(_, owners)| !owners.contains(&node))
        .filter_map(|(prefix, owners)| route(topology, node, &prefix, &owners, distances))
        .collect()
}

fn route(
    topology: &Topology,
    node: &str,
    prefix: &str,
    owners: &[&str],
    distances: &BTreeMap<&str, BTreeMap<&str, u32>>,
) -> Option<String> {
    let to = |from: &str, owner: &str| distances.get(owner)?.get(from).copied();
    let (distance, owner) = owners
        .iter()
        .filter_map(|owner| Some((to(node, owner)?, *owner)))
        .min_by_key(|(distance, _)| *distance)?;
    let v6 = prefix.contains(':');
    let hops: Vec<String> = adjacent(topology, node)
        .filter(|(_, far, cost)| {
            let passes =
                far.node == owner || topology.nodes.get(far.node).is_some_and(|node| node.router);
            passes && to(far.node, owner).is_some_and(|rest| rest + cost == distance)
        })
        .map(|(near, far, _)| {
            let via = if v6 {
                far.v6.to_string()
            } else {
                far.v4.to_string()
            };
            format!("via {via} dev {}", near.interface)
        })
        .collect();
    let multipath = topology.nodes.get(node).is_some_and(|node| node.multipath);
    match hops.as_slice() {
        [] => None,
        [first, ..] if !multipath || hops.len() == 1 => Some(format!("{prefix} {first}")),
        _ => Some(format!("{prefix} nexthop {}", hops.join(" nexthop "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: &str = r#"
        description = "a diamond"
        nodes.client = {}
        nodes.split = { router = true, multipath = true }
        nodes.a = { router = true }
        nodes.b = { router = true }
        nodes.join = { router = true }
        nodes.server = { addresses = ["10.9.0.0/24"] }
        links = [
            { ends = ["client", "split"], net = 1 },
            { ends = ["split", "a"], net = 2 },
            { ends = ["split", "b"], net = 3 },
            { ends = ["a", "join"], net = 4 },
            { ends = ["b", "join"], net = 5 },
            { ends = ["join", "server"], net = 6 },
        ]
    "#;

    #[test]
    fn a_splitter_uses_all_shortest_paths_and_the_way_back_is_one() {
        let topology = Topology::parse(DIAMOND).unwrap();
        let routes = compute(&topology);
        assert!(
            routes["split"].contains(
                &"10.9.0.0/24 nexthop via 10.0.2.2 dev a nexthop via 10.0.3.2 dev b".to_owned()
            ),
            "{routes:?}"
        );
        assert!(routes["join"].contains(&"10.0.1.0/24 via 10.0.4.1 dev a".to_owned()));
        assert!(routes["client"].contains(&"fd00:6::/64 via fd00:1::2 dev split".to_owned()));
        assert!(
            !routes["client"]
                .iter()
                .any(|route| route.starts_with("10.0.1.0/24"))
        );
    }

    #[test]
    fn hosts_are_not_passed_through() {
        let text = DIAMOND.replace("nodes.a = { router = true }", "nodes.a = {}");
        let topology = Topology::parse(&text).unwrap();
        let routes = compute(&topology);
        assert!(routes["split"].contains(&"10.9.0.0/24 via 10.0.3.2 dev b".to_owned()));
    }

    #[test]
    fn cost_decides() {
        let text = DIAMOND.replace("net = 2 }", "net = 2, cost = 2 }");
        let routes = Topology::parse(&text).unwrap();
        let routes = compute(&routes);
        assert!(routes["split"].contains(&"10.9.0.0/24 via 10.0.3.2 dev b".to_owned()));
    }
}
