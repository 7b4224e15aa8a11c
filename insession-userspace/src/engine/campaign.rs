//! Targets in, traces out: routes each target, opens one link an egress
//! interface, runs one worker thread a link.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;

use super::stats::Stats;
use super::{EngineOptions, Output, Target};
use crate::link::{Link, LinkError};
use crate::net::{Interface, Route};

/// Finds ways. Implemented by `net::Router`, and by a table in tests.
pub trait Routing {
    /// The way to `target`; may take as long as resolving its neighbour takes.
    ///
    /// # Errors
    /// The text that goes into the record of the target, and its verdict.
    fn route(&mut self, target: &Target) -> Result<Route, RouteFailure>;
}

/// Why there is no way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFailure {
    /// `NoRoute`, or `Error` for a neighbour that does not answer.
    pub verdict: crate::trace::Verdict,
    /// The reason, and the mend.
    pub detail: String,
}

/// Opens links: called once an egress interface, on the thread that will use it.
pub type OpenLink = dyn Fn(&Interface) -> Result<Box<dyn Link>, LinkError> + Send + Sync;

/// Traces every target; returns when each has its record in `outputs`, or when
/// `stop` was set and every open session is closed (records say `interrupted`).
///
/// Blocking: runs on a thread of its own.
///
/// # Errors
/// When no link could be opened at all. A link that fails later ends its
/// sessions with verdict `error`; the run goes on with the others.
pub fn run(
    targets: &mut dyn Iterator<Item = Target>,
    routing: &mut dyn Routing,
    open: &OpenLink,
    options: &EngineOptions,
    outputs: &mpsc::Sender<Output>,
    stop: &Arc<AtomicBool>,
    stats: &Arc<Stats>,
) -> Result<(), LinkError> {
    let _ = (targets, routing, open, options, outputs, stop, stats);
    unimplemented!()
}
