//! Targets, resolved beside the engine: addresses go straight through, names
//! are looked up a bounded number at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::dns::Dns;
use crate::engine::stats::Stats;
use crate::engine::{Output, Target, record};
use crate::targets::spec::{Host, TargetSpec};
use crate::trace::{Trace, Verdict};

/// Look-ups under way at a time.
const AT_A_TIME: usize = 64;

/// Where targets go: to the engine, or, unresolved, straight to the report.
pub struct Stage {
    /// The port of targets that name none.
    pub port: u16,
    /// Who resolves.
    pub dns: Arc<Dns>,
    /// To the engine.
    pub targets: mpsc::Sender<Target>,
    /// To the report.
    pub outputs: mpsc::Sender<Output>,
    /// Counts the unresolved as finished.
    pub stats: Arc<Stats>,
}

impl Stage {
    /// Resolves every target; ends early when the engine takes no more.
    pub async fn run(self, specs: Arc<[TargetSpec]>) {
        let mut running = JoinSet::new();
        for (index, spec) in (0..).zip(specs.iter()) {
            match &spec.host {
                Host::Address(address) => {
                    if !self.hand_over(index, spec, *address).await {
                        return;
                    }
                }
                Host::Name(host) => {
                    if running.len() >= AT_A_TIME
                        && let Some(Ok(done)) = running.join_next().await
                        && !self.deliver(&specs, done).await
                    {
                        return;
                    }
                    let (dns, host) = (Arc::clone(&self.dns), host.clone());
                    running.spawn(async move { (index, dns.address(&host).await) });
                }
            }
        }
        while let Some(done) = running.join_next().await {
            // A look-up that panicked leaves its target without a record here;
            // the end of the run gives it one.
            if let Ok(done) = done
                && !self.deliver(&specs, done).await
            {
                return;
            }
        }
    }

    /// Gives a target to the engine; whether it takes more.
    async fn hand_over(&self, index: u64, spec: &TargetSpec, address: IpAddr) -> bool {
        let target = Target {
            index,
            name: spec.name.clone(),
            address,
            port: spec.port.unwrap_or(self.port),
        };
        self.targets.send(target).await.is_ok()
    }

    /// What a look-up found goes where it belongs; whether more is taken there.
    async fn deliver(
        &self,
        specs: &[TargetSpec],
        (index, found): (u64, Result<IpAddr, String>),
    ) -> bool {
        let Some(spec) = usize::try_from(index).ok().and_then(|at| specs.get(at)) else {
            return true;
        };
        match found {
            Ok(address) => self.hand_over(index, spec, address).await,
            Err(detail) => {
                self.stats.finished.fetch_add(1, Ordering::Relaxed);
                let trace = untraced(spec, self.port, Verdict::Error, detail);
                let trace = Box::new(trace);
                self.outputs
                    .send(Output::Trace { index, trace })
                    .await
                    .is_ok()
            }
        }
    }
}

/// The record of a target that never reached the engine.
#[must_use]
pub fn untraced(spec: &TargetSpec, port: u16, verdict: Verdict, detail: String) -> Trace {
    let address = match spec.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    };
    let port = spec.port.unwrap_or(port);
    record::untraced(spec.name.clone(), address, port, verdict, Some(detail))
}
