//! Rows: as near to the neighbours as the order and the room of others permit.

use super::vertices::Vertices;

/// Forth and back so often, the last time back: who stands before several stands at their
/// middle, as in a tree.
const SWEEPS: usize = 16;
/// Of these sweeps some look to both sides at once.
const BOTH: std::ops::Range<usize> = 8..14;

/// The row of each vertex.
pub(super) fn placed(vertices: &Vertices, layers: &[Vec<u32>]) -> Vec<f32> {
    let mut rows = vec![0.0_f32; vertices.layers.len()];
    for layer in layers {
        let offsets = offsets(vertices, layer);
        let middle = offsets.last().copied().unwrap_or_default() / 2.0;
        for (vertex, offset) in layer.iter().zip(offsets) {
            if let Some(row) = rows.get_mut(*vertex as usize) {
                *row = offset - middle;
            }
        }
    }
    for sweep in 0..SWEEPS {
        let both = BOTH.contains(&sweep);
        let forth = sweep % 2 == 0;
        let count = layers.len();
        for nth in 0..count {
            let nth = if forth { nth } else { count - 1 - nth };
            let Some(layer) = layers.get(nth) else {
                continue;
            };
            let wish = |vertex: &u32| {
                let (mut sum, mut all) = (0.0, 0.0);
                let sides = [
                    (&vertices.before, both || forth),
                    (&vertices.behind, both || !forth),
                ];
                for (neighbours, _) in sides.iter().filter(|it| it.1) {
                    for (other, pull) in neighbours.get(*vertex as usize).into_iter().flatten() {
                        sum += rows.get(*other as usize).copied().unwrap_or_default() * pull;
                        all += pull;
                    }
                }
                let row = rows.get(*vertex as usize).copied().unwrap_or_default();
                match all > 0.0 {
                    true => (sum / all, all),
                    // What hangs on nothing gives way.
                    false => (row, 0.05),
                }
            };
            let wishes: Vec<_> = layer.iter().map(wish).collect();
            let found = spread(&wishes, &offsets(vertices, layer));
            for (vertex, row) in layer.iter().zip(found) {
                if let Some(to) = rows.get_mut(*vertex as usize) {
                    *to = row;
                }
            }
        }
    }
    rows
}

/// How far below the first each has to stand at least.
fn offsets(vertices: &Vertices, layer: &[u32]) -> Vec<f32> {
    let mut below = 0.0;
    let mut last: Option<f32> = None;
    let offset = |vertex: &u32| {
        let height = vertices.heights.get(*vertex as usize).copied();
        let height = height.unwrap_or_default();
        if let Some(last) = last {
            below += f32::midpoint(last, height);
        }
        last = Some(height);
        below
    };
    layer.iter().map(offset).collect()
}

/// The rows nearest to the wishes (value and weight), by least squares, that keep order
/// and room: an isotonic regression by the pool of adjacent violators.
fn spread(wishes: &[(f32, f32)], offsets: &[f32]) -> Vec<f32> {
    struct Pool {
        sum: f32,
        weight: f32,
        count: usize,
    }
    let mut pools: Vec<Pool> = Vec::with_capacity(wishes.len());
    for ((wish, weight), offset) in wishes.iter().zip(offsets) {
        let mut pool = Pool {
            sum: (wish - offset) * weight,
            weight: *weight,
            count: 1,
        };
        while let Some(last) = pools.last() {
            if last.sum / last.weight <= pool.sum / pool.weight {
                break;
            }
            pool.sum += last.sum;
            pool.weight += last.weight;
            pool.count += last.count;
            pools.pop();
        }
        pools.push(pool);
    }
    let places = pools.iter().flat_map(|pool| {
        let place = pool.sum / pool.weight;
        std::iter::repeat_n(place, pool.count)
    });
    places
        .zip(offsets)
        .map(|(it, offset)| it + offset)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_room_stands_where_he_wishes() {
        let wishes = [(0.0, 1.0), (5.0, 1.0), (6.5, 1.0)];
        assert_eq!(spread(&wishes, &[0.0, 1.0, 2.0]), [0.0, 5.0, 6.5]);
    }

    #[test]
    fn who_has_none_gives_way_by_weight() {
        let wishes = [(0.0, 1.0), (0.0, 1.0)];
        assert_eq!(spread(&wishes, &[0.0, 1.0]), [-0.5, 0.5]);
        let wishes = [(0.0, 3.0), (0.0, 1.0)];
        assert_eq!(spread(&wishes, &[0.0, 1.0]), [-0.25, 0.75]);
        // Against the order, too.
        let wishes = [(4.0, 1.0), (0.0, 1.0), (9.0, 1.0)];
        assert_eq!(spread(&wishes, &[0.0, 1.0, 2.0]), [1.5, 2.5, 9.0]);
    }
}
