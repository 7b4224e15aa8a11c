//! The order within each layer: barycentres, forth and back, and the best that came up.

use super::vertices::Vertices;

/// Forth and back so often.
const SWEEPS: usize = 14;

/// The vertices of each layer, from above.
pub(super) fn ordered(vertices: &Vertices) -> Vec<Vec<u32>> {
    let mut layers = begin(vertices);
    let mut best = (crossings(vertices, &layers), layers.clone());
    for sweep in 0..SWEEPS {
        match sweep % 2 {
            0 => {
                for layer in 1..layers.len() {
                    sort(vertices, &mut layers, layer, true);
                }
            }
            _ => {
                for layer in (0..layers.len().saturating_sub(1)).rev() {
                    sort(vertices, &mut layers, layer, false);
                }
            }
        }
        let found = crossings(vertices, &layers);
        if found < best.0 {
            best = (found, layers.clone());
        }
    }
    best.1
}

/// As a walk from the sources meets them, the strongest way first: a tree has no
/// crossing then.
fn begin(vertices: &Vertices) -> Vec<Vec<u32>> {
    let count = vertices.layers.iter().max().map_or(0, |most| most + 1);
    let mut layers = vec![Vec::new(); count as usize];
    let mut met = vec![false; vertices.layers.len()];
    let mut starts: Vec<u32> = (0..vertices.layers.len() as u32).collect();
    starts.sort_by_key(|it| vertices.layers.get(*it as usize));
    for start in starts {
        let mut stack = vec![start];
        while let Some(vertex) = stack.pop() {
            let at = vertex as usize;
            if met.get(at) != Some(&false) {
                continue;
            }
            met[at] = true;
            let layer = vertices.layers.get(at).copied().unwrap_or_default();
            if let Some(layer) = layers.get_mut(layer as usize) {
                layer.push(vertex);
            }
            let mut next = vertices.behind.get(at).cloned().unwrap_or_default();
            next.sort_by(|one, other| one.1.total_cmp(&other.1));
            stack.extend(next.iter().map(|it| it.0));
        }
    }
    layers
}

/// Places within a layer, by vertex, as rows: what is high takes more of them.
fn rows(vertices: &Vertices, layer: &[u32], rows: &mut [f32]) {
    let mut top = 0.0;
    for vertex in layer {
        let height = vertices.heights.get(*vertex as usize).copied();
        let height = height.unwrap_or_default();
        if let Some(row) = rows.get_mut(*vertex as usize) {
            *row = top + height / 2.0;
        }
        top += height;
    }
}

/// Sorts a layer by the barycentres of what stands before (or behind) it.
fn sort(vertices: &Vertices, layers: &mut [Vec<u32>], layer: usize, by_before: bool) {
    let mut place = vec![0.0; vertices.layers.len()];
    let beside = if by_before { layer - 1 } else { layer + 1 };
    let middle = |layer: &[u32]| {
        let heights = layer
            .iter()
            .filter_map(|it| vertices.heights.get(*it as usize));
        heights.sum::<f32>() / 2.0
    };
    let (Some(fixed), Some(sorted)) = (layers.get(beside), layers.get(layer)) else {
        return;
    };
    rows(vertices, fixed, &mut place);
    rows(vertices, sorted, &mut place);
    // Layers hang together at their middles.
    let shift = middle(fixed) - middle(sorted);
    let neighbours = if by_before {
        &vertices.before
    } else {
        &vertices.behind
    };
    let wish = |vertex: &u32| {
        let row = |it: u32| place.get(it as usize).copied().unwrap_or_default();
        let pulls = neighbours.get(*vertex as usize).map(Vec::as_slice);
        let pulls = pulls.unwrap_or_default();
        let all: f32 = pulls.iter().map(|it| it.1).sum();
        match all > 0.0 {
            true => pulls.iter().map(|it| row(it.0) * it.1).sum::<f32>() / all,
            false => row(*vertex) + shift,
        }
    };
    let mut wishes: Vec<(f32, u32)> = sorted.iter().map(|it| (wish(it), *it)).collect();
    // Stable: who wishes the same stays as he was.
    wishes.sort_by(|one, other| one.0.total_cmp(&other.0));
    if let Some(layer) = layers.get_mut(layer) {
        *layer = wishes.into_iter().map(|it| it.1).collect();
    }
}

/// Pairs of segments that cross.
fn crossings(vertices: &Vertices, layers: &[Vec<u32>]) -> u64 {
    let mut place = vec![0_usize; vertices.layers.len()];
    for layer in layers {
        for (nth, vertex) in layer.iter().enumerate() {
            if let Some(place) = place.get_mut(*vertex as usize) {
                *place = nth;
            }
        }
    }
    let mut all = 0;
    for (nth, layer) in layers.iter().enumerate() {
        let Some(next) = layers.get(nth + 1) else {
            break;
        };
        // How many ends lie at or above each place: a Fenwick tree.
        let mut tree = vec![0_u64; next.len() + 1];
        let mut before = 0;
        for vertex in layer {
            let ends = vertices.behind.get(*vertex as usize);
            let mut ends: Vec<usize> = ends
                .into_iter()
                .flatten()
                .filter_map(|it| place.get(it.0 as usize).copied())
                .collect();
            ends.sort_unstable();
            for end in &ends {
                let mut above = 0;
                let mut at = end + 1;
                while at > 0 {
                    above += tree.get(at).copied().unwrap_or_default();
                    at &= at - 1;
                }
                all += before - above;
            }
            for end in &ends {
                let mut at = end + 1;
                while let Some(count) = tree.get_mut(at) {
                    *count += 1;
                    at += at & at.wrapping_neg();
                }
                before += 1;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::graph::samples::{graph, trace};

    fn mesh(pairs: &[(u8, u8)]) -> Graph {
        let path = |(one, other): &(u8, u8)| {
            let (one, other) = (format!("10.1.0.{one}"), format!("10.2.0.{other}"));
            trace("10.0.0.1", "10.9.9.9", &[&one, &other])
        };
        graph(&pairs.iter().map(path).collect::<Vec<_>>())
    }

    #[test]
    fn crossings_are_counted() {
        let graph = mesh(&[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]);
        let vertices = Vertices::of(&graph);
        let of = |name: &str| {
            let address: std::net::IpAddr = name.parse().unwrap();
            let at = graph.nodes.iter().position(|it| it.addresses == [address]);
            vertices.of_node[at.unwrap()]
        };
        let layers = vec![
            vec![of("10.0.0.1")],
            vec![of("10.1.0.1"), of("10.1.0.2"), of("10.1.0.3")],
            vec![of("10.2.0.1"), of("10.2.0.2")],
        ];
        // 1–2 crosses 2–1 and 3–1, 2–2 crosses 3–1.
        assert_eq!(crossings(&vertices, &layers), 3);
    }

    #[test]
    fn what_can_be_drawn_without_a_crossing_is() {
        let pairs: Vec<_> = (0..40_u8)
            .map(|nth| (nth, nth.wrapping_mul(7) % 40))
            .collect();
        let graph = mesh(&pairs);
        let vertices = Vertices::of(&graph);
        assert_eq!(crossings(&vertices, &ordered(&vertices)), 0);
    }
}
