//! When the path to a target became another.
//!
//! Two paths differ where both have answers at a TTL and none in common: silence changes
//! nothing. What differs within a span of time is not told apart, so a balancer that was
//! seen whole in both spans changes nothing either. With several addresses in a node,
//! where TTLs say less, they differ when each has a node that the other has not.

use super::paths::{Observation, Path, ttls};
use super::{Graph, Level};

/// The path to a target is another than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number of the span in which it is.
    pub bucket: u64,
    /// The number of the span before, in which it was seen last.
    pub before_bucket: u64,
    /// Who traces what: its number.
    pub(super) key: u32,
    /// The least TTL at which they differ, at the level of addresses.
    pub ttl: Option<u8>,
    /// Numbers of the nodes that were there.
    pub before: Vec<u32>,
    /// Numbers of the nodes that are there now.
    pub after: Vec<u32>,
    /// Both were seen by the same flow: no balancer that goes by flows made it.
    pub same_flow: bool,
}

/// Where two paths differ.
type Difference = (Option<u8>, Vec<u32>, Vec<u32>);

impl Graph {
    /// Every change, by time.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let observations = self.paths.observations();
        let mut found = Vec::new();
        for of_key in observations.chunk_by(|one, next| one.key == next.key) {
            let spans: Vec<_> = of_key
                .chunk_by(|one, next| one.bucket == next.bucket)
                .collect();
            for (before, after) in spans.iter().zip(spans.iter().skip(1)) {
                found.extend(self.change(before, after));
            }
        }
        found.sort_by_key(|change| (change.bucket, change.key));
        found
    }

    fn change(&self, before: &[Observation], after: &[Observation]) -> Option<Change> {
        let (of_before, of_after) = (before.first()?, after.first()?);
        // Nearly always.
        if let ([one], [other]) = (before, after)
            && one.path == other.path
        {
            return None;
        }
        let (ttl, gone, come) = self.differ(before, after)?;
        let same = |one: &Observation| {
            let others = after
                .iter()
                .filter(|it| it.flow == one.flow && it.flow != 0);
            let mut others = others.filter(|it| it.path != one.path);
            others.any(|other| self.differ(&[*one], &[*other]).is_some())
        };
        Some(Change {
            bucket: of_after.bucket,
            before_bucket: of_before.bucket,
            key: of_after.key,
            ttl,
            before: gone,
            after: come,
            same_flow: before.iter().any(same),
        })
    }

    fn differ(&self, before: &[Observation], after: &[Observation]) -> Option<Difference> {
        let (before, after) = (self.nodes_by_ttl(before), self.nodes_by_ttl(after));
        if self.level == Level::Address {
            let pairs = (1_u8..).zip(before.into_iter().zip(after));
            let other = |one: &[u32], two: &[u32]| {
                !one.is_empty() && !two.is_empty() && !one.iter().any(|it| two.contains(it))
            };
            return pairs
                .into_iter()
                .find(|(_, (one, two))| other(one, two))
                .map(|(ttl, (one, two))| (Some(ttl), one, two));
        }
        let without = |nodes: &[Vec<u32>], others: &[Vec<u32>]| {
            let mut left: Vec<u32> = Vec::new();
            for node in nodes.iter().flatten() {
                if !left.contains(node) && !others.iter().flatten().any(|it| it == node) {
                    left.push(*node);
                }
            }
            left
        };
        let (gone, come) = (without(&before, &after), without(&after, &before));
        (!gone.is_empty() && !come.is_empty()).then_some((None, gone, come))
    }

    /// Who answered at each TTL, in any of them.
    fn nodes_by_ttl(&self, observations: &[Observation]) -> Vec<Vec<u32>> {
        let mut all: Vec<Vec<u32>> = Vec::new();
        let path = |it: &Observation| self.paths.paths.get(it.path as usize);
        for Path { hops, .. } in observations.iter().filter_map(path) {
            for (at, (nodes, _)) in ttls(hops).enumerate() {
                if all.len() <= at {
                    all.resize_with(at + 1, Vec::new);
                }
                let Some(known) = all.get_mut(at) else {
                    continue;
                };
                for node in nodes {
                    if !known.contains(&node) {
                        known.push(node);
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{graph, later, trace};
    use crate::trace::Trace;

    fn by(middle: &str, seconds: u64) -> Trace {
        let path = ["10.1.1.1", middle, "10.3.3.3", "10.9.9.9"];
        later(trace("10.0.0.1", "10.9.9.9", &path), seconds)
    }

    fn changes(traces: &[Trace]) -> Vec<(u64, Option<u8>, bool)> {
        let graph = graph(traces);
        let first = graph.clock.bucket(traces[0].started);
        let told = |it: &Change| (it.bucket - first, it.ttl, it.same_flow);
        graph.changes().iter().map(told).collect()
    }

    #[test]
    fn another_router_at_a_ttl_is_a_change_and_back_again() {
        assert_eq!(
            changes(&[
                by("10.2.2.2", 0),
                by("10.2.2.2", 10),
                by("10.2.2.7", 20),
                by("10.2.2.7", 30),
                by("10.2.2.2", 40)
            ]),
            [(20, Some(2), true), (40, Some(2), true)]
        );
    }

    #[test]
    fn another_flow_is_told_apart() {
        let mut other = by("10.2.2.7", 20);
        other.source_port = Some(61_001);
        let traces = [by("10.2.2.2", 0), other];
        assert_eq!(changes(&traces), [(20, Some(2), false)]);
    }

    #[test]
    fn silence_and_balance_change_nothing() {
        assert_eq!(
            changes(&[by("10.2.2.2", 0), by("*", 20), by("10.2.2.2", 40)]),
            []
        );
        let both = "10.2.2.2|10.2.2.7";
        assert_eq!(
            changes(&[by("10.2.2.2", 0), by(both, 20), by("10.2.2.7", 40)]),
            []
        );
        // Within one second, and the next.
        assert_eq!(
            changes(&[by("10.2.2.2", 0), by("10.2.2.7", 0), by("10.2.2.7", 1)]),
            []
        );
    }

    #[test]
    fn of_other_targets_and_sources_nothing_is_said() {
        let mut other = by("10.2.2.7", 20);
        other.port += 1;
        assert_eq!(changes(&[by("10.2.2.2", 0), other]), []);
    }

    #[test]
    fn a_path_that_grew_is_another() {
        let longer = ["10.1.1.1", "10.2.2.2", "10.4.4.4", "10.3.3.3", "10.9.9.9"];
        let longer = later(trace("10.0.0.1", "10.9.9.9", &longer), 60);
        assert_eq!(changes(&[by("10.2.2.2", 0), longer]), [(60, Some(3), true)]);
    }
}
