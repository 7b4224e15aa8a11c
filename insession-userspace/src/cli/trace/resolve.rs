//! Targets, resolved beside the engine: addresses go straight through, names
//! are looked up in bulk.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::dns::Dns;
use crate::dns::bulk::{Answer, Bulk};
use crate::engine::record::Asked;
use crate::engine::stats::Stats;
use crate::engine::{Output, Target, record};
use crate::targets::spec::{Host, TargetSpec};
use crate::trace::{Trace, Verdict};

/// Where targets go: to the engine, or, unresolved, straight to the report.
pub struct Stage {
    /// The port of targets that name none.
    pub asked: Asked,
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
        let mut bulk = Bulk::by_dns(Arc::clone(&self.dns));
        for (index, spec) in (0..).zip(specs.iter()) {
            let taken = match &spec.host {
                Host::Address(address) => self.hand_over(index, spec, *address).await,
                Host::Name(host) => {
                    let taken = bulk.has_room() || self.deliver(bulk.answered().await).await;
                    bulk.ask(host, (index, spec));
                    taken
                }
            };
            if !taken {
                return;
            }
        }
        while !bulk.is_idle() && self.deliver(bulk.answered().await).await {}
    }

    /// Gives a target to the engine; whether it takes more.
    async fn hand_over(&self, index: u64, spec: &TargetSpec, address: IpAddr) -> bool {
        let target = Target {
            index,
            name: spec.name.clone(),
            address,
            port: spec.port.unwrap_or(self.asked.port),
        };
        self.targets.send(target).await.is_ok()
    }

    /// What look-ups found goes where it belongs; whether more is taken there.
    async fn deliver(&self, answers: Vec<((u64, &TargetSpec), Answer)>) -> bool {
        for ((index, spec), found) in answers {
            let taken = match found {
                Ok(address) => self.hand_over(index, spec, address).await,
                Err(detail) => {
                    self.stats.finished.fetch_add(1, Ordering::Relaxed);
                    let trace = untraced(spec, self.asked, Verdict::Error, detail);
                    let trace = Box::new(trace);
                    let output = Output::Trace { index, trace };
                    self.outputs.send(output).await.is_ok()
                }
            };
            if !taken {
                return false;
            }
        }
        true
    }
}

/// The record of a target that never reached the engine.
#[must_use]
pub fn untraced(spec: &TargetSpec, asked: Asked, verdict: Verdict, detail: String) -> Trace {
    let address = match spec.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    };
    let asked = Asked {
        port: spec.port.unwrap_or(asked.port),
        ..asked
    };
    record::untraced(spec.name.clone(), address, asked, verdict, Some(detail))
}
