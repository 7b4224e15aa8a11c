//! What the library measures itself: ceilings, latency, steering, scale.

use crate::Bench;
use crate::rows::{Row, Target};

fn none(targets: &[&'static Target]) -> Vec<Row> {
    targets
        .iter()
        .map(|target| Row::missing(target, "not measured by this build"))
        .collect()
}

/// `tx-vs-ceiling`.
pub fn ceiling(_bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    none(targets)
}

/// `wire-to-credit-p99`.
pub fn latency(_bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    none(targets)
}

/// `xdp-foreign`, `xdp-hit-scale`.
pub fn steering(_bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    none(targets)
}

/// `sim-scale`, `bytes-per-session`.
pub fn scale(_bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    none(targets)
}
