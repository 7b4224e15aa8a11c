//! Where who answered stands: to the right by TTL, one below the other at one TTL, in
//! an order that crosses few lines. One layout for all methods at a target, so that a
//! router stands at the same place in each picture.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::evidence::Standing;
use crate::compare::walk::{Node, Place};
use crate::compare::{Compared, View};

/// Who stands where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// TTLs that are drawn, from 1.
    pub ttls: u8,
    /// The most that stand below each other.
    pub rows: usize,
    /// Above or below the middle, in rows.
    lanes: BTreeMap<(u8, Node), f64>,
}

/// Sweeps forth and back; more change nothing in ways as they are.
const SWEEPS: usize = 8;
/// Links that are there have the say over lines that are only drawn.
const WEIGHT: f64 = 8.0;

impl Layout {
    /// Of all methods at a target.
    #[must_use]
    pub fn new(compared: &Compared) -> Layout {
        let mut columns: BTreeMap<u8, BTreeSet<Node>> = BTreeMap::new();
        for hop in compared.methods.iter().flat_map(|view| &view.hops) {
            for responder in &hop.responders {
                columns.entry(hop.ttl).or_default().insert(responder.node);
            }
        }
        let answered = columns.keys().next_back().copied().unwrap_or(0);
        let way = compared.length.max(answered);
        // Where nobody arrived, the silence behind the last answer is part of the picture.
        let probed = compared.methods.iter().flat_map(|view| &view.hops);
        let probed = probed.map(|hop| hop.ttl).max().unwrap_or(0);
        let ttls = match compared.reached {
            true => way,
            false => probed.min(way.saturating_add(1)).max(way),
        };
        let mut columns: BTreeMap<u8, Vec<Node>> = columns
            .into_iter()
            .map(|(ttl, nodes)| (ttl, nodes.into_iter().collect()))
            .collect();
        let edges = edges(&compared.methods);
        for sweep in 0..SWEEPS {
            order(&mut columns, &edges, sweep % 2 == 0);
        }
        let rows = columns.values().map(Vec::len).max().unwrap_or(0).max(1);
        let mut lanes = BTreeMap::new();
        for (ttl, nodes) in &columns {
            for (nth, node) in nodes.iter().enumerate() {
                lanes.insert((*ttl, *node), lane(nth, nodes.len()));
            }
        }
        Layout { ttls, rows, lanes }
    }

    /// How many rows below the middle who answered at this TTL stands.
    #[must_use]
    pub fn lane(&self, ttl: u8, node: Node) -> f64 {
        self.lanes.get(&(ttl, node)).copied().unwrap_or(0.0)
    }
}

fn lane(nth: usize, of: usize) -> f64 {
    nth as f64 - (of as f64 - 1.0) / 2.0
}

/// What draws together: ends at their TTLs, and how much.
type Edges = Vec<(Place, Place, f64)>;

fn edges(views: &[View]) -> Edges {
    let drawn = views.iter().flat_map(|view| &view.drawn).map(|link| {
        let weight = match link.standing {
            Standing::Confirmed => WEIGHT,
            Standing::Unconfirmed | Standing::False => 1.0,
        };
        let behind = link.ttl.saturating_add(1);
        ((link.ttl, link.from), (behind, link.to), weight)
    });
    drawn.collect()
}

/// Puts each column in the order of what its nodes are joined to: of the TTL before
/// (`forth`), or behind.
fn order(columns: &mut BTreeMap<u8, Vec<Node>>, edges: &Edges, forth: bool) {
    let mut ttls: Vec<u8> = columns.keys().copied().collect();
    if !forth {
        ttls.reverse();
    }
    let place = |columns: &BTreeMap<u8, Vec<Node>>, (ttl, node): Place| {
        let column = columns.get(&ttl)?;
        let nth = column.iter().position(|other| *other == node)?;
        Some(lane(nth, column.len()))
    };
    for ttl in ttls {
        let Some(column) = columns.get(&ttl) else {
            continue;
        };
        let pull = |nth: usize, node: Node| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for (before, behind, weight) in edges {
                let (mine, other) = match forth {
                    true => (behind, before),
                    false => (before, behind),
                };
                if *mine == (ttl, node)
                    && let Some(at) = place(columns, *other)
                {
                    sum += at * weight;
                    weights += weight;
                }
            }
            match weights > 0.0 {
                true => sum / weights,
                false => lane(nth, column.len()),
            }
        };
        let mut pulled: Vec<(f64, Node)> = column
            .iter()
            .enumerate()
            .map(|(nth, node)| (pull(nth, *node), *node))
            .collect();
        // Stable: who is pulled alike stays in order.
        pulled.sort_by(|a, b| a.0.total_cmp(&b.0));
        columns.insert(ttl, pulled.into_iter().map(|(_, node)| node).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{Made, router, target};
    use crate::compare::{Packets, compare};
    use crate::trace::{Method, Trace};

    fn layout(traces: &[Trace]) -> Layout {
        Layout::new(&compare(traces, None, &Packets::new()).targets[0])
    }

    #[test]
    fn ways_side_by_side_do_not_cross() {
        // By address b stands above c, and x below y.
        let flow = |port, path| Made::new(Method::InSession).port(port).path(path).trace();
        let layout = layout(&[flow(1, "abyf!"), flow(2, "acxf!")]);
        assert_eq!((layout.ttls, layout.rows), (5, 2));
        let above = |ttl, name| layout.lane(ttl, router(name)) < 0.0;
        assert_eq!(above(2, "b"), above(3, "y"));
        assert_ne!(above(2, "b"), above(3, "x"));
        assert_eq!(layout.lane(1, router("a")), 0.0);
        assert_eq!(layout.lane(5, target()), 0.0);
    }

    #[test]
    fn false_lines_do_not_move_what_is_there() {
        let mut traces: Vec<Trace> = (0..12)
            .map(|run| {
                let path = if run % 2 == 0 { "abyf!" } else { "acxf!" };
                Made::new(Method::InSession).port(run).path(path).trace()
            })
            .collect();
        let plain = layout(&traces);
        traces.push(Made::new(Method::Udp).path("abxf!").trace());
        traces.push(Made::new(Method::Udp).path("acyf!").trace());
        assert_eq!(layout(&traces), plain);
    }

    #[test]
    fn where_nobody_arrives_one_silence_is_shown() {
        let layout = layout(&[Made::new(Method::Udp).path("ab.....").trace()]);
        assert_eq!(layout.ttls, 3);
        assert_eq!(
            Layout::new(&Compared {
                target: String::new(),
                address: None,
                length: 0,
                reached: false,
                methods: Vec::new(),
            })
            .rows,
            1
        );
    }
}
