//! What is laid out: nodes, fans of targets, and the pieces of long edges.

use std::collections::{BTreeMap, HashMap};

use super::Fan;
use crate::graph::{Graph, Kind, Level};

/// A longer edge is not led around what stands between: it would cost more than it
/// shows.
const LONGEST: u32 = 16;

/// Rows that a piece of an edge takes.
const PIECE: f32 = 0.12;

/// Vertices, in layers, with segments from each layer to the next.
#[derive(Debug, Default)]
pub(super) struct Vertices {
    pub(super) layers: Vec<u32>,
    /// Rows that each takes.
    pub(super) heights: Vec<f32>,
    /// Those that only lead an edge through its layers.
    pub(super) is_piece: Vec<bool>,
    /// Neighbours in the layer before, and how much they pull.
    pub(super) before: Vec<Vec<(u32, f32)>>,
    /// Neighbours in the layer behind.
    pub(super) behind: Vec<Vec<(u32, f32)>>,
    /// The vertex of each node; one for all of a fan.
    pub(super) of_node: Vec<u32>,
    pub(super) fans: Vec<Fan>,
    /// The pieces between two vertices, the nearer first.
    chains: HashMap<(u32, u32), Vec<u32>>,
}

impl Vertices {
    /// Of a graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let layers = layers(graph);
        let mut vertices = Vertices {
            fans: fans(graph, &layers),
            of_node: vec![u32::MAX; graph.nodes.len()],
            ..Vertices::default()
        };
        let layer_of = |node: u32| layers.get(node as usize).copied().unwrap_or_default();
        for nth in 0..vertices.fans.len() {
            let members = std::mem::take(&mut vertices.fans[nth].members);
            let layer = members.first().map_or(0, |it| layer_of(*it));
            let vertex = vertices.add(layer, fan_height(members.len()), false);
            for member in &members {
                if let Some(of_node) = vertices.of_node.get_mut(*member as usize) {
                    *of_node = vertex;
                }
            }
            vertices.fans[nth].members = members;
        }
        for number in 0..graph.nodes.len() as u32 {
            if vertices.of_node.get(number as usize) == Some(&u32::MAX) {
                let vertex = vertices.add(layer_of(number), 1.0, false);
                if let Some(of_node) = vertices.of_node.get_mut(number as usize) {
                    *of_node = vertex;
                }
            }
        }
        // In the order of vertices, so that the same graph gives the same chains.
        let mut pulls: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for edge in &graph.edges {
            if let Some(ends) = vertices.ends(edge.from, edge.to) {
                *pulls.entry(ends).or_default() += edge.traces;
            }
        }
        for ((near, far), traces) in pulls {
            vertices.join(near, far, (traces as f32).sqrt());
        }
        vertices
    }

    fn add(&mut self, layer: u32, height: f32, is_piece: bool) -> u32 {
        self.layers.push(layer);
        self.heights.push(height);
        self.is_piece.push(is_piece);
        self.before.push(Vec::new());
        self.behind.push(Vec::new());
        self.layers.len() as u32 - 1
    }

    fn layer(&self, vertex: u32) -> u32 {
        self.layers
            .get(vertex as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The layer of a node.
    pub(super) fn layer_of(&self, node: u32) -> u32 {
        let vertex = self.of_node.get(node as usize).copied();
        self.layer(vertex.unwrap_or_default())
    }

    /// The vertices of two nodes, the nearer first; `None` where they are of one layer.
    fn ends(&self, one: u32, other: u32) -> Option<(u32, u32)> {
        let vertex = |node: u32| self.of_node.get(node as usize).copied();
        let (one, other) = (vertex(one)?, vertex(other)?);
        match self.layer(one).cmp(&self.layer(other)) {
            std::cmp::Ordering::Less => Some((one, other)),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some((other, one)),
        }
    }

    /// Leads from one to the other, a piece a layer between.
    fn join(&mut self, near: u32, far: u32, pull: f32) {
        let layers = self.layer(near) + 1..self.layer(far);
        if layers.len() as u32 >= LONGEST {
            return;
        }
        let pieces: Vec<u32> = layers.map(|layer| self.add(layer, PIECE, true)).collect();
        let mut last = near;
        for next in pieces.iter().copied().chain([far]) {
            // Between two pieces an edge is to be straight before all.
            let is_piece = |it: u32| self.is_piece.get(it as usize) == Some(&true);
            let pull = match (is_piece(last), is_piece(next)) {
                (true, true) => pull * 8.0,
                (false, false) => pull,
                _ => pull * 2.0,
            };
            if let Some(behind) = self.behind.get_mut(last as usize) {
                behind.push((next, pull));
            }
            if let Some(before) = self.before.get_mut(next as usize) {
                before.push((last, pull));
            }
            last = next;
        }
        if !pieces.is_empty() {
            self.chains.insert((near, far), pieces);
        }
    }

    /// The pieces of an edge, the nearer first.
    pub(super) fn chain(&self, from: u32, to: u32) -> &[u32] {
        let ends = self.ends(from, to);
        let chain = ends.and_then(|ends| self.chains.get(&ends));
        chain.map(Vec::as_slice).unwrap_or_default()
    }
}

/// The layer of each node: its mean distance, but behind what was seen before it. Where
/// distances contradict, as in a loop, edges that go back have no say.
fn layers(graph: &Graph) -> Vec<u32> {
    let mean = |node: u32| {
        let node = graph.nodes.get(node as usize);
        node.map_or(0.0, |it| if it.is_source { 0.0 } else { it.ttls.mean() })
    };
    let mut order: Vec<u32> = (0..graph.nodes.len() as u32).collect();
    order.sort_by(|one, other| mean(*one).total_cmp(&mean(*other)));
    let mut place = vec![0_usize; graph.nodes.len()];
    for (at, node) in order.iter().enumerate() {
        if let Some(place) = place.get_mut(*node as usize) {
            *place = at;
        }
    }
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); graph.nodes.len()];
    for edge in &graph.edges {
        let at = |node: u32| place.get(node as usize);
        // What is only assumed would draw hops farther away than they are.
        if let (true, Some(before)) = (
            edge.kind == Kind::Seen && at(edge.from) < at(edge.to),
            before.get_mut(edge.to as usize),
        ) {
            before.push(edge.from);
        }
    }
    let mut layers = vec![0_u32; graph.nodes.len()];
    for node in order {
        let at = node as usize;
        let is_source = graph.nodes.get(at).is_some_and(|it| it.is_source);
        let behind = before.get(at).into_iter().flatten();
        let behind = behind.filter_map(|it| layers.get(*it as usize));
        let least = behind.max().map_or(1, |layer| layer + 1);
        if let (false, Some(layer)) = (is_source, layers.get_mut(at)) {
            *layer = (mean(node).round() as u32).max(least);
        }
    }
    // Of what has many addresses the distance in hops says little: no layer is empty.
    if matches!(graph.level, Level::Prefix | Level::As) {
        let mut used = layers.clone();
        used.sort_unstable();
        used.dedup();
        for layer in &mut layers {
            *layer = used.partition_point(|it| it < layer) as u32;
        }
    }
    layers
}

/// Many targets stand closer together than few.
fn fan_height(members: usize) -> f32 {
    (0.6 * (members as f32).powf(0.8)).max(1.0)
}

/// Targets of one layer from where nothing goes on, by the one node before them.
fn fans(graph: &Graph, layers: &[u32]) -> Vec<Fan> {
    let layer = |node: u32| layers.get(node as usize).copied().unwrap_or_default();
    #[derive(Clone, Copy)]
    enum Before {
        None,
        One(u32),
        Several,
    }
    let mut before = vec![Before::None; graph.nodes.len()];
    for edge in &graph.edges {
        if let Some(it) = before.get_mut(edge.to as usize) {
            *it = match *it {
                Before::None => Before::One(edge.from),
                Before::One(from) if from == edge.from => *it,
                _ => Before::Several,
            };
        }
        if let Some(it) = before.get_mut(edge.from as usize) {
            *it = Before::Several;
        }
    }
    let mut fans: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (number, node) in (0_u32..).zip(&graph.nodes) {
        let is_leaf = node.is_target && !node.is_router && !node.is_source;
        if let (true, Some(Before::One(parent))) = (is_leaf, before.get(number as usize)) {
            let of = (*parent, layer(number));
            fans.entry(of).or_default().push(number);
        }
    }
    let fan = |((parent, _), mut members): ((u32, u32), Vec<u32>)| {
        let address = |it: &u32| graph.nodes.get(*it as usize).map(|it| it.addresses.first());
        members.sort_by(|one, other| address(one).cmp(&address(other)));
        Fan { parent, members }
    };
    let several = |fan: &Fan| fan.members.len() > 1;
    fans.into_iter().map(fan).filter(several).collect()
}
