//! Where nodes stand: to the right by hops from the source, downwards so that edges
//! cross little and run straight. The same graph always gives the same drawing.
//!
//! A layered drawing after Sugiyama: long edges are cut into pieces of one layer each
//! (`vertices`), layers are ordered by barycentres (`order`), and then get room
//! (`place`). Targets behind one router, from where nothing goes on, stand in one fan.

use super::Graph;
use vertices::Vertices;

mod order;
mod place;
mod vertices;

/// A drawing, in layers to the right and rows downwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// The layer of each node: hops from the source, rounded.
    pub x: Vec<u32>,
    /// The row of each node.
    pub y: Vec<f32>,
    /// Of each edge that passes layers: its rows there, in the order of its layers.
    pub via: Vec<Vec<f32>>,
    /// Targets that stand together.
    pub fans: Vec<Fan>,
    /// Layers.
    pub layers: u32,
    /// Rows.
    pub rows: f32,
}

/// Targets behind one node, from where nothing goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fan {
    /// The number of the node before them.
    pub parent: u32,
    /// Their numbers, from above.
    pub members: Vec<u32>,
}

/// Lays out a graph.
#[must_use]
pub fn layout(graph: &Graph) -> Layout {
    let vertices = Vertices::of(graph);
    let layers = order::ordered(&vertices);
    let rows = place::placed(&vertices, &layers);
    let top = rows.iter().zip(&vertices.heights);
    let top = top.map(|(row, height)| row - height / 2.0);
    let top = top.fold(f32::INFINITY, f32::min);
    let row = |vertex: u32| {
        let row = rows.get(vertex as usize).copied().unwrap_or_default();
        row - if top.is_finite() { top } else { 0.0 }
    };
    let mut y: Vec<f32> = vertices.of_node.iter().map(|vertex| row(*vertex)).collect();
    for fan in &vertices.fans {
        let count = fan.members.len() as f32;
        for (nth, member) in fan.members.iter().enumerate() {
            let vertex = vertices.of_node.get(*member as usize).copied();
            let vertex = vertex.unwrap_or_default();
            let height = vertices.heights.get(vertex as usize).copied();
            let height = height.unwrap_or_default();
            if let Some(y) = y.get_mut(*member as usize) {
                *y = row(vertex) + height * ((nth as f32 + 0.5) / count - 0.5);
            }
        }
    }
    let chain = |edge: &super::Edge| {
        let rows = vertices.chain(edge.from, edge.to).iter().map(|it| row(*it));
        let mut rows: Vec<f32> = rows.collect();
        let layer = |node: u32| vertices.layer_of(node);
        if layer(edge.from) > layer(edge.to) {
            rows.reverse();
        }
        rows
    };
    let bottom = rows.iter().zip(&vertices.heights);
    let bottom = bottom.map(|(row, height)| row + height / 2.0);
    let bottom = bottom.fold(f32::NEG_INFINITY, f32::max);
    let nodes = 0..graph.nodes.len() as u32;
    Layout {
        x: nodes.map(|node| vertices.layer_of(node)).collect(),
        via: graph.edges.iter().map(chain).collect(),
        layers: layers.len() as u32,
        rows: if bottom > top { bottom - top } else { 1.0 },
        y,
        fans: vertices.fans,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::samples::{graph, trace};

    fn row(graph: &Graph, layout: &Layout, address: &str) -> (u32, f32) {
        let address: std::net::IpAddr = address.parse().unwrap();
        let nodes = &graph.nodes;
        let at = nodes.iter().position(|it| it.addresses == [address]);
        (layout.x[at.unwrap()], layout.y[at.unwrap()])
    }

    /// Two ways of three routers each to targets of their own.
    fn two_ways() -> Graph {
        let way = |way: u8, target: u8| {
            let router = |hop: u8| format!("10.{hop}.0.{way}");
            let target = format!("10.9.{way}.{target}");
            let path = [router(1), router(2), router(3), target.clone()];
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            trace("10.0.0.1", &target, &path)
        };
        let targets = (0..12).flat_map(|target| [way(1, target), way(2, target)]);
        graph(&targets.collect::<Vec<_>>())
    }

    #[test]
    fn hops_go_to_the_right_and_ways_do_not_cross() {
        let graph = two_ways();
        let layout = layout(&graph);
        assert_eq!(layout.layers, 5);
        let mut sides = Vec::new();
        for hop in 1..=3_u8 {
            let (x1, y1) = row(&graph, &layout, &format!("10.{hop}.0.1"));
            let (x2, y2) = row(&graph, &layout, &format!("10.{hop}.0.2"));
            assert_eq!((x1, x2), (u32::from(hop), u32::from(hop)));
            sides.push(y1 < y2);
        }
        assert!(sides.iter().all(|side| *side == sides[0]), "{sides:?}");
        // Each way is straight.
        let (_, first) = row(&graph, &layout, "10.2.0.1");
        let (_, last) = row(&graph, &layout, "10.3.0.1");
        assert!((first - last).abs() < 0.1, "{first} {last}");
    }

    #[test]
    fn targets_behind_one_router_are_a_fan_of_neighbours() {
        let graph = two_ways();
        let layout = layout(&graph);
        assert_eq!(layout.fans.len(), 2);
        for fan in &layout.fans {
            assert_eq!(fan.members.len(), 12);
            let rows: Vec<f32> = fan
                .members
                .iter()
                .map(|it| layout.y[*it as usize])
                .collect();
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
            let middle = (rows[0] + rows[11]) / 2.0;
            assert!((middle - layout.y[fan.parent as usize]).abs() < 0.2);
        }
    }

    #[test]
    fn nodes_of_a_layer_have_room_and_all_are_inside() {
        let graph = two_ways();
        let layout = layout(&graph);
        for layer in 0..layout.layers {
            let fan = |it: &usize| {
                layout
                    .fans
                    .iter()
                    .any(|fan| fan.members.contains(&(*it as u32)))
            };
            let of_layer = (0..graph.nodes.len()).filter(|it| layout.x[*it] == layer && !fan(it));
            let mut rows: Vec<f32> = of_layer.map(|it| layout.y[it]).collect();
            rows.sort_by(f32::total_cmp);
            assert!(
                rows.windows(2).all(|pair| pair[1] - pair[0] > 0.99),
                "{rows:?}"
            );
        }
        assert!(layout.y.iter().all(|y| (0.0..=layout.rows).contains(y)));
    }

    #[test]
    fn an_edge_over_silent_hops_passes_their_layers() {
        let graph = graph(&[
            trace("10.0.0.1", "10.9.9.9", &["10.1.1.1", "*", "*", "10.9.9.9"]),
            trace(
                "10.0.0.1",
                "10.9.9.8",
                &["10.1.1.1", "10.2.2.2", "10.3.3.3", "10.9.9.8"],
            ),
        ]);
        let layout = layout(&graph);
        let gap = graph
            .edges
            .iter()
            .position(|it| it.kind == crate::graph::Kind::Gap);
        let via = &layout.via[gap.unwrap()];
        assert_eq!(via.len(), 2);
        let (_, beside) = row(&graph, &layout, "10.2.2.2");
        assert!((via[0] - beside).abs() >= 0.55, "{via:?} {beside}");
    }

    #[test]
    fn the_same_graph_is_drawn_the_same_and_nothing_is_a_drawing_too() {
        assert_eq!(layout(&two_ways()), layout(&two_ways()));
        let nothing = layout(&graph(&[]));
        assert_eq!((nothing.layers, nothing.rows), (0, 1.0));
    }
}
