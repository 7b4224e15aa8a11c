//! Records from the engine to their store, on a thread of its own: a disk that is
//! slow or full holds up this thread, and by the bounded channel behind it the
//! engine, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::CampaignError;
use super::observed::{Observed, Seen};
use super::store::Store;
use crate::engine::Output;
use crate::owners::Owners;
use crate::trace::Verdict;

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
}

impl Recorder {
    /// Records until the engine has ended. Gives the store back.
    ///
    /// # Errors
    /// When the store takes no more; the engine learns of it by its channel.
    pub fn run(mut self) -> Result<Store, CampaignError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut seen = Seen::default();
        while self.outputs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut sessions = 0;
            for output in batch.drain(..) {
                match output {
                    Output::Trace { index, mut trace } => {
                        sessions += usize::from(trace.source_port.is_some());
                        // It is not done: a campaign that goes on traces it again.
                        let is_undone = trace.verdict == Verdict::Interrupted;
                        if is_undone && matches!(self.store, Store::Campaign(_)) {
                            continue;
                        }
                        if let Some(owners) = &self.owners {
                            owners.fill(&mut trace);
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
        Ok(self.store)
    }
}
