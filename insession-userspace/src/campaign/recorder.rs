//! Records from the engine to their store, on a thread of its own: a disk that is
//! slow or full holds up this thread, and by the bounded channel behind it the
//! engine, and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::CampaignError;
use super::observed::{Observed, Seen};
use super::store::Store;
use crate::engine::Output;
use crate::multipath::flows::{Ended, Opener};
use crate::multipath::paths;
use crate::owners::Owners;
use crate::trace::{Trace, Verdict};

/// Outputs handled between two flushes.
const BATCH: usize = 256;

/// Takes what the engine tells.
pub struct Recorder {
    /// Where records go.
    pub store: Store,
    /// What the engine tells.
    pub outputs: mpsc::Receiver<Output>,
    /// What the records say together.
    pub observed: Arc<Observed>,
    /// Counts records that are safe, of targets that had a session
    /// ([`crate::engine::EngineOptions::recorded`]).
    pub recorded: Arc<AtomicUsize>,
    /// Whose the addresses of hops are, where that is wanted.
    pub owners: Option<Arc<Owners>>,
    /// What is not a record.
    pub others: mpsc::UnboundedSender<Output>,
    /// Who opens several flows a target, where there are some: their records are kept
    /// until the last of them is there.
    pub opener: Option<Arc<dyn Opener>>,
}

impl Recorder {
    /// Records until the engine has ended. Gives the store back.
    ///
    /// # Errors
    /// When the store takes no more; the engine learns of it by its channel.
    pub fn run(mut self) -> Result<Store, CampaignError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut seen = Seen::default();
        let mut flows = BTreeMap::new();
        while self.outputs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut sessions = 0;
            for output in batch.drain(..) {
                match output {
                    Output::Trace { index, mut trace } => {
                        sessions += usize::from(trace.source_port.is_some());
                        if let Some(owners) = &self.owners {
                            owners.fill(&mut trace);
                        }
                        if let Some(opener) = &self.opener {
                            let ended = opener.back(index, &trace);
                            flows.entry(index).or_insert_with(Vec::new).push(*trace);
                            if let Some(ended) = ended {
                                let traces = flows.remove(&index).unwrap_or_default();
                                self.flows(ended, traces, &mut seen)?;
                            }
                            continue;
                        }
                        // It is not done: a campaign that goes on traces it again.
                        let is_undone = trace.verdict == Verdict::Interrupted;
                        if is_undone && matches!(self.store, Store::Campaign(_)) {
                            continue;
                        }
                        seen.note(&trace);
                        self.store.record(index, &trace)?;
                    }
                    // Nobody listens any more: the run is over anyway.
                    other => drop(self.others.send(other)),
                }
            }
            self.store.flush()?;
            self.recorded.fetch_add(sessions, Ordering::Relaxed);
            self.observed.publish(&mut seen);
        }
        if let Some(opener) = self.opener.clone() {
            for ended in opener.end() {
                let traces = flows.remove(&ended.index).unwrap_or_default();
                self.flows(ended, traces, &mut seen)?;
            }
            self.store.flush()?;
            self.observed.publish(&mut seen);
        }
        Ok(self.store)
    }

    /// The flows of a target, all that there will be.
    fn flows(
        &mut self,
        ended: Ended,
        traces: Vec<Trace>,
        seen: &mut Seen,
    ) -> Result<(), CampaignError> {
        let is_undone = ended.is_cut_short
            || traces
                .iter()
                .any(|trace| trace.verdict == Verdict::Interrupted);
        if is_undone && matches!(self.store, Store::Campaign(_)) {
            return Ok(());
        }
        let Some(merged) = paths::merge(&traces, ended.mda) else {
            return Ok(());
        };
        seen.note_flows(&traces);
        self.store.flows(ended.index, &traces, &merged)
    }
}
