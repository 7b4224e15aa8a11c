//! What the rate gives is spread over the TTLs.

use std::time::Duration;

use super::courtesy::most;
use super::options;
use super::tap::Tap;
use super::traces::{jobs, trace, tree};
use crate::engine::EngineOptions;
use crate::link::sim::{Line, SimLink};
use crate::time::Instant;

/// When the probes with a TTL left, of three thousand targets at this rate.
fn left(rate: f64, ttl: u8) -> Vec<Instant> {
    let link = SimLink::new(tree(3_000, 8, Line::default()), 1);
    let truth = link.truth();
    let options = EngineOptions {
        rate: Some(rate),
        ..options()
    };
    let (records, _) = trace(&mut Tap::new(link), jobs(3_000), &options);
    assert_eq!(records.len(), 3_000);
    let truth = truth.lock().unwrap();
    let probes = truth.flows().flat_map(|flow| truth.probes(flow));
    let probes = probes.filter(|probe| probe.ttl == ttl);
    let mut left: Vec<Instant> = probes.map(|probe| probe.sent).collect();
    left.sort_unstable();
    assert_eq!(left.len(), 9_000);
    left
}

#[test]
fn near_routers_are_not_hit_in_bursts() {
    for rate in [1_000.0, 10_000.0, 50_000.0] {
        for ttl in [1, 2, 5] {
            let left = left(rate, ttl);
            // Neither as it begins nor as it ends.
            let (first, last) = (left[left.len() / 10], left[left.len() * 9 / 10]);
            let steady: Vec<Instant> = left
                .iter()
                .copied()
                .filter(|at| (first..last).contains(at))
                .collect();
            let mean = steady.len() as f64 / last.since(first).as_secs_f64();
            let of = |window: Duration| {
                let most = most(&steady, window) as f64;
                (most, mean * window.as_secs_f64())
            };
            // A hop's three of the dozen that a session sends in a row: a quarter of the
            // rate, where the mean is a tenth. (All of it, where all sessions go on hop
            // by hop together.)
            for window in [1, 10].map(Duration::from_millis) {
                let (most, mean) = of(window);
                assert!(
                    most <= 4.0 * mean + 2.0,
                    "{rate}, TTL {ttl}: {most} within {window:?}, {mean} on average"
                );
            }
        }
    }
}
