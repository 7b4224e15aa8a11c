//! When enough flows have been seen: the stopping rule of the Multipath Detection
//! Algorithm (Augustin, Friedman, Teixeira: Measuring Load-balanced Paths in the
//! Internet, IMC 2007; Veitch, Augustin, Friedman, Teixeira: Failure Control in
//! Multipath Route Tracing, INFOCOM 2009).
//!
//! Of a vertex, a router at a TTL, with `k` known next hops: had it `k + 1`, each as
//! likely as any other, then `n` flows through it would miss one with a probability
//! that falls with `n`. The smallest `n` that brings it down to the bound is the
//! stopping point. A flow here is a session, which passes one vertex a TTL: further
//! ones are opened until every vertex has been passed by as many as its stopping point.
//!
//! The bound is that of a diamond: each of the `b` vertices in it that branch has
//! `1 − confidence^(1/b)` of it, so that none of them misses a next hop with the
//! confidence asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::graph::Graph;
use super::walk::Walk;

/// The probability that `flows` flows, spread evenly over `hops` next hops, miss one.
#[must_use]
pub fn missed(hops: usize, flows: u32) -> f64 {
    let mut seen = Coupons::new(hops);
    (0..flows).for_each(|_| seen.draw());
    seen.missing()
}

/// The stopping point of a vertex with `known` next hops: the smallest number of flows
/// of which one more next hop would be missed with a probability of at most `failure`.
#[must_use]
pub fn stopping_point(known: usize, failure: f64) -> u32 {
    let mut seen = Coupons::new(known + 1);
    let mut flows = 0;
    // What a bound of no use comes to is the least that there is.
    while seen.missing() > failure.max(1e-12) {
        seen.draw();
        flows += 1;
    }
    flows
}

/// How many of some next hops were seen: the probability of each number.
struct Coupons(Vec<f64>);

impl Coupons {
    fn new(hops: usize) -> Self {
        let mut seen = vec![0.0; hops + 1];
        if let Some(none) = seen.first_mut() {
            *none = 1.0;
        }
        Coupons(seen)
    }

    fn draw(&mut self) {
        let hops = self.0.len() - 1;
        let mut before = 0.0;
        for (nth, now) in self.0.iter_mut().enumerate() {
            let part = |many: usize| many as f64 / hops as f64;
            let is_new = before * part((hops + 1).saturating_sub(nth));
            before = *now;
            *now = before * part(nth) + is_new;
        }
    }

    fn missing(&self) -> f64 {
        let (_, some) = self.0.split_last().unwrap_or((&0.0, &[]));
        some.iter().sum()
    }
}

/// How far the rule is satisfied.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Every vertex was passed by as many flows as its stopping point.
    pub is_complete: bool,
    /// Further flows that it takes, by what is known now.
    pub wanted: u32,
    /// For each diamond of the graph the probability that a vertex in it has one more
    /// next hop that was missed.
    pub failures: Vec<f64>,
}

/// What was seen behind a vertex.
#[derive(Debug, Default)]
struct Vertex {
    /// Right behind it.
    next: BTreeSet<IpAddr>,
    /// Behind silent hops.
    far: BTreeSet<(u8, IpAddr)>,
    /// Flows that showed the one or the other, or nothing.
    flows: [Count; 3],
}

/// Flows, each counted once.
#[derive(Debug, Default)]
struct Count {
    count: u32,
    last: Option<u32>,
}

impl Count {
    fn add(&mut self, flow: u32) {
        if self.last != Some(flow) {
            self.last = Some(flow);
            self.count += 1;
        }
    }
}

impl Vertex {
    /// How many next hops are known, and by how many flows.
    fn known(&self) -> (usize, u32) {
        let [next, far, ended] = &self.flows;
        match (self.next.len(), self.far.len()) {
            (0, 0) => (1, ended.count),
            (0, known) => (known, far.count),
            (known, _) => (known, next.count),
        }
    }
}

/// Judges walks, those of one flow after one another, with their graph.
#[must_use]
pub fn judge(walks: &[Walk], graph: &Graph, confidence: f64) -> Status {
    let vertices = vertices(walks);
    let mut branching = vec![0_u32; graph.diamonds.len()];
    for ((_, address), vertex) in &vertices {
        let (known, _) = vertex.known();
        if let Some(nth) = graph.outermost(*address).filter(|_| known > 1)
            && let Some(count) = branching.get_mut(nth)
        {
            *count += 1;
        }
    }
    let mut flows = Count::default();
    walks.iter().for_each(|walk| flows.add(walk.flow));
    let mut points: BTreeMap<(usize, u32), u32> = BTreeMap::new();
    let (mut is_complete, mut wanted) = (true, 0.0_f64);
    for ((_, address), vertex) in &vertices {
        let (known, passed) = vertex.known();
        let spread = graph.outermost(*address).and_then(|it| branching.get(it));
        let spread = spread.copied().unwrap_or(1).max(1);
        let point = *points.entry((known, spread)).or_insert_with(|| {
            let failure = -(confidence.ln() / f64::from(spread)).exp_m1();
            stopping_point(known, failure)
        });
        if passed < point {
            is_complete = false;
            let share = f64::from(passed.max(1)) / f64::from(flows.count);
            wanted = wanted.max(f64::from(point - passed) / share);
        }
    }
    let failure = |nth: usize| {
        let of_it = vertices
            .iter()
            .filter(|((_, address), vertex)| vertex.known().0 > 1 && graph.is_in(nth, *address));
        1.0 - of_it.fold(1.0, |sure, (_, vertex)| {
            let (known, passed) = vertex.known();
            sure * (1.0 - missed(known + 1, passed))
        })
    };
    Status {
        is_complete,
        wanted: wanted.ceil() as u32,
        failures: (0..graph.diamonds.len()).map(failure).collect(),
    }
}

fn vertices(walks: &[Walk]) -> BTreeMap<(u8, IpAddr), Vertex> {
    let mut vertices: BTreeMap<(u8, IpAddr), Vertex> = BTreeMap::new();
    for walk in walks {
        for (nth, level) in walk.levels.iter().enumerate() {
            let rest = walk.levels.get(nth + 1..).unwrap_or_default();
            let next = rest.iter().find(|level| !level.seen.is_empty());
            if next.is_none() && walk.is_whole {
                continue;
            }
            for seen in &level.seen {
                let vertex = vertices.entry((level.ttl, seen.from)).or_default();
                let [direct, far, ended] = &mut vertex.flows;
                match next {
                    None => ended.add(walk.flow),
                    Some(next) if next.ttl == level.ttl + 1 => {
                        direct.add(walk.flow);
                        vertex.next.extend(next.seen.iter().map(|it| it.from));
                    }
                    Some(next) => {
                        far.add(walk.flow);
                        let ends = next.seen.iter().map(|it| (next.ttl, it.from));
                        vertex.far.extend(ends);
                    }
                }
            }
        }
    }
    vertices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipath::walk::tests::{all, trace};

    #[test]
    fn stopping_points_are_those_of_the_literature() {
        let points = |failure, count: usize| -> Vec<u32> {
            (1..=count)
                .map(|known| stopping_point(known, failure))
                .collect()
        };
        // IMC 2007, §3.
        assert_eq!(
            points(0.05, 16),
            [
                6, 11, 16, 21, 27, 33, 38, 44, 51, 57, 63, 70, 76, 83, 90, 96
            ]
        );
        assert_eq!(points(0.01, 3), [8, 15, 21]);
    }

    #[test]
    fn missing_one_is_by_inclusion_and_exclusion() {
        for hops in 2..8_u32 {
            for flows in 1..60 {
                let mut expected = 0.0;
                let mut choose = 1.0;
                for out in 1..hops {
                    choose *= f64::from(hops - out + 1) / f64::from(out);
                    let sign = if out % 2 == 1 { 1.0 } else { -1.0 };
                    let left = f64::from(hops - out) / f64::from(hops);
                    expected += sign * choose * left.powi(flows);
                }
                let found = missed(hops as usize, flows as u32);
                assert!((found - expected).abs() < 1e-9, "{hops} {flows}");
            }
        }
    }

    fn status(ways: &[(&str, usize)]) -> Status {
        let each = ways
            .iter()
            .flat_map(|(way, count)| std::iter::repeat_n(*way, *count));
        let traces: Vec<_> = each
            .zip(1..)
            .map(|(way, port)| trace(port, &way.split(' ').collect::<Vec<_>>()))
            .collect();
        let walks = all(&traces);
        judge(&walks, &Graph::of(&walks), 0.95)
    }

    #[test]
    fn every_vertex_is_passed_by_as_many_as_its_stopping_point() {
        let line = status(&[("a b T", 5)]);
        assert_eq!((line.is_complete, line.wanted), (false, 1));
        assert!(status(&[("a b T", 6)]).is_complete);
        // Two next hops take 11 flows, and each of these two 6.
        assert!(!status(&[("a b d T", 5), ("a c d T", 6)]).is_complete);
        let diamond = status(&[("a b d T", 6), ("a c d T", 6)]);
        assert!(diamond.is_complete);
        assert_eq!(diamond.failures.len(), 1);
        assert!(diamond.failures[0] <= 0.05);
        // One of them is passed by a tenth of the flows: so many are likely to be needed.
        let uneven = status(&[("a b d T", 18), ("a c d T", 2)]);
        assert_eq!((uneven.is_complete, uneven.wanted), (false, 40));
    }

    #[test]
    fn the_bound_of_a_diamond_is_spread_over_what_branches_in_it() {
        // b branches too: two vertices share the bound, so that 11 flows are too few.
        let ways = [("a b d g T", 6), ("a b e g T", 5), ("a c f g T", 6)];
        assert!(!status(&ways).is_complete);
        let ways = [("a b d g T", 7), ("a b e g T", 7), ("a c f g T", 7)];
        assert!(status(&ways).is_complete);
        // Apart from each other they have a bound each.
        let apart = status(&[("a b d e g T", 6), ("a c d f g T", 6)]);
        assert!(apart.is_complete, "{apart:?}");
        assert_eq!(apart.failures.len(), 2);
    }

    #[test]
    fn silence_hides_no_more_than_it_must() {
        assert!(status(&[("a . c T", 6)]).is_complete);
        // Two ends behind a silent hop: it branches, or the one before it.
        assert!(!status(&[("a . c T", 5), ("a . d T", 5)]).is_complete);
        assert!(status(&[("a . c T", 6), ("a . d T", 6)]).is_complete);
        assert!(status(&[("a b . .", 6)]).is_complete);
        assert!(!status(&[("a b . .", 5)]).is_complete);
    }
}
