//! What is laid out: nodes, fans of targets, and the pieces of long edges.

use std::collections::{BTreeMap, HashMap};

use super::Fan;
use crate::graph::{Graph, Node};

/// A longer edge is not led around what stands between: it would cost more than it
/// shows.
const LONGEST: u32 = 16;

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
        let mut vertices = Vertices {
            fans: fans(graph),
            of_node: vec![u32::MAX; graph.nodes.len()],
            ..Vertices::default()
        };
        for nth in 0..vertices.fans.len() {
            let members = std::mem::take(&mut vertices.fans[nth].members);
            let layer = members.first().and_then(|it| graph.nodes.get(*it as usize));
            let vertex = vertices.add(layer.map_or(0, layer_of), fan_height(members.len()), false);
            for member in &members {
                if let Some(of_node) = vertices.of_node.get_mut(*member as usize) {
                    *of_node = vertex;
                }
            }
            vertices.fans[nth].members = members;
        }
        for (number, node) in graph.nodes.iter().enumerate() {
            if vertices.of_node.get(number) == Some(&u32::MAX) {
                let vertex = vertices.add(layer_of(node), 1.0, false);
                if let Some(of_node) = vertices.of_node.get_mut(number) {
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
        let pieces: Vec<u32> = layers.map(|layer| self.add(layer, 0.5, true)).collect();
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

fn layer_of(node: &Node) -> u32 {
    match node.is_source {
        true => 0,
        false => (node.ttls.mean().round() as u32).max(1),
    }
}

/// Many targets stand closer together than few.
fn fan_height(members: usize) -> f32 {
    (0.6 * (members as f32).powf(0.8)).max(1.0)
}

/// Targets of one layer from where nothing goes on, by the one node before them.
fn fans(graph: &Graph) -> Vec<Fan> {
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
            let of = (*parent, layer_of(node));
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
