//! Routers, links and diamonds of many flows to one target.
//!
//! A link is an adjacency in one flow: silent hops between are no link. Where packets
//! of a flow are balanced one by one, the next answer may be another packet's: there a
//! link is told only if the one side has a single router, and enough answers show it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::walk::Walk;
use diamonds::Analysis;

mod diamonds;

pub use diamonds::Diamond;

/// So many answers of one router show that there is no other: the stopping point at
/// 95 % ([`super::mda`]).
const PROOF: u32 = 6;

/// What the flows show together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The source first, then in the order of their TTLs.
    pub nodes: Vec<Node>,
    /// By the numbers of their nodes.
    pub links: BTreeMap<(usize, usize), Link>,
    /// TTLs from which the links to the next cannot be told: packets are balanced one
    /// by one.
    pub unclear: BTreeSet<u8>,
    /// By the TTL of their divergence, wide ones before those inside them.
    pub diamonds: Vec<Diamond>,
    numbers: BTreeMap<IpAddr, usize>,
}

/// The source, a router or the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its address.
    pub address: IpAddr,
    /// Where it answered.
    pub ttls: BTreeSet<u8>,
    /// Flows that showed it.
    pub flows: u32,
}

/// Two that follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Flows that showed it.
    pub flows: u32,
    /// It is one of several that packets of a flow take in turn.
    pub is_per_packet: bool,
}

impl Graph {
    /// Of walks, those of one flow after one another.
    #[must_use]
    pub fn of(walks: &[Walk]) -> Self {
        let mut graph = Graph::default();
        graph.number(walks);
        let mixed = mixed(walks);
        graph.link(walks, &mixed);
        graph.diamonds = Analysis::of(walks, &graph.numbers, &graph.nodes).diamonds(&graph);
        graph
    }

    /// The number of a node.
    #[must_use]
    pub fn number_of(&self, address: IpAddr) -> Option<usize> {
        self.numbers.get(&address).copied()
    }

    /// The diamond that has this address in it or as its divergence, and is in no other.
    #[must_use]
    pub fn outermost(&self, address: IpAddr) -> Option<usize> {
        let outer = |diamond: &Diamond| diamond.within.is_none();
        let mut numbered = self.diamonds.iter().enumerate();
        numbered
            .find(|(nth, diamond)| outer(diamond) && self.is_in(*nth, address))
            .map(|(nth, _)| nth)
    }

    /// Whether an address is in a diamond, or is its divergence.
    #[must_use]
    pub fn is_in(&self, diamond: usize, address: IpAddr) -> bool {
        self.diamonds.get(diamond).is_some_and(|diamond| {
            diamond.divergence == address || diamond.inside.contains(&address)
        })
    }

    fn number(&mut self, walks: &[Walk]) {
        let mut found: BTreeMap<IpAddr, (BTreeSet<u8>, BTreeSet<u32>)> = BTreeMap::new();
        for walk in walks {
            for level in &walk.levels {
                for seen in &level.seen {
                    let (ttls, flows) = found.entry(seen.from).or_default();
                    ttls.insert(level.ttl);
                    flows.insert(walk.flow);
                }
            }
        }
        self.nodes = found
            .into_iter()
            .map(|(address, (ttls, flows))| Node {
                address,
                ttls,
                flows: u32::try_from(flows.len()).unwrap_or(u32::MAX),
            })
            .collect();
        self.nodes
            .sort_by_key(|node| (node.ttls.first().copied(), node.address));
        let numbered = self.nodes.iter().enumerate();
        self.numbers = numbered.map(|(nth, node)| (node.address, nth)).collect();
    }

    fn link(&mut self, walks: &[Walk], mixed: &BTreeMap<u8, BTreeSet<IpAddr>>) {
        let mut shown: BTreeMap<(usize, usize), (BTreeSet<u32>, bool)> = BTreeMap::new();
        let mut pools: BTreeMap<u8, Pool> = BTreeMap::new();
        for walk in walks {
            for pair in walk.levels.windows(2) {
                let [upper, lower] = pair else { continue };
                if upper.seen.is_empty() || lower.seen.is_empty() {
                    continue;
                }
                let is_mixed = |level: &super::walk::Level| {
                    let at = mixed.get(&level.ttl);
                    at.is_some_and(|at| level.seen.iter().any(|it| at.contains(&it.from)))
                };
                if is_mixed(upper) || is_mixed(lower) {
                    pools
                        .entry(upper.ttl)
                        .or_default()
                        .add(walk.flow, upper, lower);
                } else if let (Some(from), Some(to)) = (upper.only(), lower.only())
                    && let Some(link) = self.between(from, to)
                {
                    shown.entry(link).or_default().0.insert(walk.flow);
                }
            }
        }
        for (ttl, pool) in pools {
            if !pool.is_clear() {
                self.unclear.insert(ttl);
                continue;
            }
            for from in pool.upper.keys() {
                for to in pool.lower.keys() {
                    if let Some(link) = self.between(*from, *to) {
                        let (flows, is_per_packet) = shown.entry(link).or_default();
                        flows.extend(&pool.flows);
                        *is_per_packet = true;
                    }
                }
            }
        }
        let count = |flows: BTreeSet<u32>| u32::try_from(flows.len()).unwrap_or(u32::MAX);
        self.links = shown
            .into_iter()
            .map(|(ends, (flows, is_per_packet))| {
                let flows = count(flows);
                (
                    ends,
                    Link {
                        flows,
                        is_per_packet,
                    },
                )
            })
            .collect();
    }

    /// The numbers of two that differ: who answers at two TTLs in a row is one.
    fn between(&self, from: IpAddr, to: IpAddr) -> Option<(usize, usize)> {
        self.number_of(from)
            .zip(self.number_of(to))
            .filter(|(from, to)| from != to)
    }
}

/// Who is at each TTL where packets of one flow came to several.
fn mixed(walks: &[Walk]) -> BTreeMap<u8, BTreeSet<IpAddr>> {
    let mut mixed: BTreeMap<u8, BTreeSet<IpAddr>> = BTreeMap::new();
    let levels = walks.iter().flat_map(|walk| &walk.levels);
    for level in levels.filter(|level| level.seen.len() > 1) {
        let at = mixed.entry(level.ttl).or_default();
        at.extend(level.seen.iter().map(|it| it.from));
    }
    mixed
}

/// All answers at two TTLs where packets are balanced one by one.
#[derive(Default)]
struct Pool {
    flows: BTreeSet<u32>,
    upper: BTreeMap<IpAddr, u32>,
    lower: BTreeMap<IpAddr, u32>,
}

impl Pool {
    fn add(&mut self, flow: u32, upper: &super::walk::Level, lower: &super::walk::Level) {
        self.flows.insert(flow);
        for (side, level) in [(&mut self.upper, upper), (&mut self.lower, lower)] {
            for seen in &level.seen {
                // The source sends, and answers nothing.
                let answers = if level.ttl == 0 { PROOF } else { seen.answers };
                *side.entry(seen.from).or_default() += answers;
            }
        }
    }

    /// Whether one side is a single router, as far as answers show.
    fn is_clear(&self) -> bool {
        [&self.upper, &self.lower]
            .into_iter()
            .any(|side| side.len() == 1 && side.values().all(|answers| *answers >= PROOF))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::multipath::walk::tests::{all, letter, trace};

    /// The graph of flows, TTLs apart by blanks.
    pub(crate) fn graph(ways: &[&str]) -> Graph {
        let traces: Vec<_> = ways
            .iter()
            .zip(1..)
            .map(|(way, port)| trace(port, &way.split(' ').collect::<Vec<_>>()))
            .collect();
        Graph::of(&all(&traces))
    }

    pub(crate) fn links(graph: &Graph) -> Vec<String> {
        let name = |nth: usize| letter(graph.nodes[nth].address);
        let mut all: Vec<String> = graph
            .links
            .keys()
            .map(|(from, to)| format!("{}{}", name(*from), name(*to)))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn links_are_adjacencies_in_one_flow() {
        let found = graph(&["a b d T", "a c d T", "a b d T"]);
        assert_eq!(links(&found), ["Sa", "ab", "ac", "bd", "cd", "dT"]);
        let flows = |ends: (char, char)| {
            let number = |letter| {
                let nodes = &mut found.nodes.iter();
                nodes.position(|it| self::letter(it.address) == letter)
            };
            found.links[&(number(ends.0).unwrap(), number(ends.1).unwrap())].flows
        };
        assert_eq!((flows(('a', 'b')), flows(('a', 'c'))), (2, 1));
        assert_eq!(flows(('S', 'a')), 3);
        assert!(found.unclear.is_empty());
    }

    #[test]
    fn silent_hops_between_are_no_link() {
        assert_eq!(links(&graph(&["a . c T", "a . . T"])), ["Sa", "cT"]);
        // Nor is one router that answers at two TTLs in a row.
        assert_eq!(links(&graph(&["a b b T"])), ["Sa", "ab", "bT"]);
    }

    #[test]
    fn packets_balanced_one_by_one_show_a_link_by_enough_answers() {
        // Six answers of a, and of d.
        let found = graph(&["aaa bcb ddd TTT", "aaa cbc ddd TTT"]);
        assert_eq!(links(&found), ["Sa", "ab", "ac", "bd", "cd", "dT"]);
        assert!(found.unclear.is_empty());
        assert_eq!(
            found.links.values().filter(|it| it.is_per_packet).count(),
            4
        );
        // Three do not show that there is but one.
        let found = graph(&["aaa bcb ddd TTT"]);
        assert_eq!(links(&found), ["Sa", "dT"]);
        assert_eq!(found.unclear, BTreeSet::from([1, 2]));
    }

    #[test]
    fn several_behind_several_are_unclear_in_every_flow() {
        // The second flow shows one router at each TTL, by chance.
        let found = graph(&["aaaaaa bcbcbc dededd TTTTTT", "aaaaaa bbbbbb eeeeee TTTTTT"]);
        assert_eq!(links(&found), ["Sa", "ab", "ac", "dT", "eT"]);
        assert_eq!(found.unclear, BTreeSet::from([2]));
    }

    #[test]
    fn the_links_of_a_route_that_changed_are_of_one_time() {
        let found = graph(&["aaaaaa bbbbcc ddddee TTTTTT"]);
        assert_eq!(links(&found), ["Sa", "ab", "ac", "bd", "ce", "dT", "eT"]);
    }

    #[test]
    fn nodes_know_their_ttls_and_flows() {
        let found = graph(&["a b d T", "a b c d T"]);
        let node = |letter| {
            let mut nodes = found.nodes.iter();
            nodes.find(|it| self::letter(it.address) == letter).unwrap()
        };
        assert_eq!(node('d').ttls, BTreeSet::from([3, 4]));
        assert_eq!((node('d').flows, node('c').flows), (2, 1));
        assert_eq!(letter(found.nodes[0].address), 'S');
        assert_eq!(found.outermost(node('c').address), Some(0));
        assert_eq!(found.outermost(node('d').address), None);
    }
}
