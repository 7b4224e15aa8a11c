//! Paths as they were seen: each once, and who saw it when.
//!
//! A path is the list of its TTLs. Numbers of nodes stand there with two marks: another
//! of the same TTL, and taken from another trace of the same flow class.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Kind;

/// A TTL without an answer.
pub(super) const SILENT: u32 = SHARED - 1;
/// Another answer at the TTL of the one before it.
pub(super) const ALSO: u32 = 1 << 31;
/// Probed by another trace.
pub(super) const SHARED: u32 = 1 << 30;

/// Observations that are kept.
const MOST: usize = 200_000;

/// Who traces what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: u32,
    pub(super) method: u8,
    pub(super) target: IpAddr,
    pub(super) port: u16,
}

/// A path.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) hops: Arc<[u32]>,
    /// Numbers of its edges, each once, in the order in which they are met.
    pub(super) edges: Vec<u32>,
}

/// A path that was seen for a key in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Observation {
    pub(super) key: u32,
    pub(super) bucket: u64,
    pub(super) path: u32,
    /// Our port, of the first of these traces; 0 where it does not tell the flow.
    pub(super) flow: u16,
    pub(super) traces: u32,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    pub(super) keys: Vec<Key>,
    pub(super) paths: Vec<Path>,
    key_numbers: HashMap<Key, u32>,
    path_numbers: HashMap<Arc<[u32]>, u32>,
    /// By key, span, path and flow.
    seen: HashMap<(u32, u64, u32, u16), u32>,
    left_out: u64,
}

impl Paths {
    /// Adds a trace; `edges` are asked for where its path is new.
    pub(super) fn add(
        &mut self,
        key: Key,
        bucket: u64,
        flow: u16,
        hops: &[u32],
        edges: impl FnOnce() -> Vec<u32>,
    ) {
        if self.seen.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let path = match self.path_numbers.get(hops) {
            Some(path) => *path,
            None => {
                let hops: Arc<[u32]> = hops.into();
                let number = self.paths.len() as u32;
                self.path_numbers.insert(Arc::clone(&hops), number);
                self.paths.push(Path {
                    hops,
                    edges: edges(),
                });
                number
            }
        };
        let key = match self.key_numbers.get(&key) {
            Some(number) => *number,
            None => {
                let number = self.keys.len() as u32;
                self.key_numbers.insert(key.clone(), number);
                self.keys.push(key);
                number
            }
        };
        *self.seen.entry((key, bucket, path, flow)).or_default() += 1;
    }

    /// Spans of time have become longer.
    pub(super) fn widen(&mut self, ratio: u64) {
        let mut seen = HashMap::with_capacity(self.seen.len());
        for ((key, bucket, path, flow), traces) in self.seen.drain() {
            *seen.entry((key, bucket / ratio, path, flow)).or_default() += traces;
        }
        self.seen = seen;
    }

    /// By key, time and path.
    pub(super) fn observations(&self) -> Vec<Observation> {
        let observation = |(of, traces): (&(u32, u64, u32, u16), &u32)| Observation {
            key: of.0,
            bucket: of.1,
            path: of.2,
            flow: of.3,
            traces: *traces,
        };
        let mut all: Vec<_> = self.seen.iter().map(observation).collect();
        all.sort_unstable();
        all
    }

    /// Traces that are not kept.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The same with other numbers for nodes and edges, where `None` is an edge that is
    /// no more.
    pub(super) fn renumbered(&self, nodes: &[u32], edges: &[Option<u32>]) -> Paths {
        let mut new = self.clone();
        new.path_numbers = HashMap::new();
        for path in &mut new.paths {
            let hops = path.hops.iter().map(|hop| {
                let (node, marks) = parts(*hop);
                let number = nodes.get(node as usize).copied().unwrap_or(SILENT);
                number | marks
            });
            path.hops = hops.collect();
            let mut met = Vec::with_capacity(path.edges.len());
            for edge in &path.edges {
                let edge = edges.get(*edge as usize).copied().flatten();
                if let Some(edge) = edge.filter(|edge| !met.contains(edge)) {
                    met.push(edge);
                }
            }
            path.edges = met;
        }
        new
    }
}

/// The node of a hop, and its marks.
pub(super) fn parts(hop: u32) -> (u32, u32) {
    (hop & SILENT, hop & (ALSO | SHARED))
}

/// The TTLs of a path: who answered at each, and whether another trace probed it.
pub(super) fn ttls(hops: &[u32]) -> impl Iterator<Item = (Vec<u32>, bool)> {
    hops.chunk_by(|_, next| next & ALSO != 0).map(|ttl| {
        let nodes = ttl.iter().map(|hop| parts(*hop).0);
        let shared = ttl.iter().any(|hop| hop & SHARED != 0);
        (nodes.filter(|node| *node != SILENT).collect(), shared)
    })
}

/// An edge of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) kind: Kind,
    /// Silent hops between them.
    pub(super) silent: u8,
    /// The TTL of its far end, less one.
    pub(super) at: usize,
}

/// The edges of a path that begins at `source`.
pub(super) fn steps(source: u32, hops: &[u32], one_flow: bool) -> Vec<Step> {
    let mut found = Vec::with_capacity(hops.len());
    let mut before = vec![source];
    let mut before_shared = None;
    let mut silent = 0_u8;
    for (at, (here, shared)) in ttls(hops).enumerate() {
        if here.is_empty() {
            silent = silent.saturating_add(1);
            continue;
        }
        // Whatever the flow, the first hop is behind the source.
        let same_flow = before_shared.is_none_or(|before| one_flow && before == shared);
        let kind = match (silent, same_flow, before.len() > 1 && here.len() > 1) {
            (1.., _, _) => Kind::Gap,
            (0, true, false) => Kind::Seen,
            _ => Kind::Assumed,
        };
        for from in &before {
            for to in here.iter().filter(|to| *to != from) {
                found.push(Step {
                    from: *from,
                    to: *to,
                    kind,
                    silent,
                    at,
                });
            }
        }
        (before, before_shared, silent) = (here, Some(shared), 0);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(hops: &[u32], one_flow: bool) -> Vec<(u32, u32, &'static str, u8)> {
        let steps = steps(0, hops, one_flow);
        let told = |it: &Step| (it.from, it.to, it.kind.as_str(), it.silent);
        steps.iter().map(told).collect()
    }

    #[test]
    fn consecutive_answers_of_one_flow_are_seen() {
        assert_eq!(
            told(&[1, 2, 3], true),
            [(0, 1, "seen", 0), (1, 2, "seen", 0), (2, 3, "seen", 0)]
        );
    }

    #[test]
    fn of_several_flows_they_are_assumed_but_for_the_first_hop() {
        assert_eq!(
            told(&[1, 2, 3], false),
            [
                (0, 1, "seen", 0),
                (1, 2, "assumed", 0),
                (2, 3, "assumed", 0)
            ]
        );
    }

    #[test]
    fn silence_is_a_gap_wherever_it_is() {
        assert_eq!(
            told(&[SILENT, 2, SILENT, SILENT, 3], true),
            [(0, 2, "gap", 1), (2, 3, "gap", 2)]
        );
    }

    #[test]
    fn between_two_crowds_nothing_is_seen() {
        let hops = [1, 2, 3 | ALSO, 4, 5 | ALSO, 6];
        assert_eq!(
            told(&hops, true),
            [
                (0, 1, "seen", 0),
                (1, 2, "seen", 0),
                (1, 3, "seen", 0),
                (2, 4, "assumed", 0),
                (2, 5, "assumed", 0),
                (3, 4, "assumed", 0),
                (3, 5, "assumed", 0),
                (4, 6, "seen", 0),
                (5, 6, "seen", 0),
            ]
        );
    }

    #[test]
    fn what_another_trace_probed_joins_as_assumed() {
        assert_eq!(
            told(&[1 | SHARED, 2 | SHARED, 3, 4], true),
            [
                (0, 1, "seen", 0),
                (1, 2, "seen", 0),
                (2, 3, "assumed", 0),
                (3, 4, "seen", 0)
            ]
        );
    }

    #[test]
    fn who_answers_twice_is_no_edge_to_itself() {
        assert_eq!(
            told(&[1, 2, 2, 3], true),
            [(0, 1, "seen", 0), (1, 2, "seen", 0), (2, 3, "seen", 0)]
        );
    }
}
