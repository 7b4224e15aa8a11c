//! Many flows a target: the options, and who opens the flows between those that
//! resolve targets and the engine.
//!
//! ```text
//! resolved ─▶ feed: each target several times ─▶ engine ─▶ records ─▶ back
//!               ▲ further flows by the rule                            │
//!               └──────────────────────────────────────────────────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::Probing;
use crate::cli::exit::Failure;
use crate::engine::Target;
use crate::multipath::flows::{Ended, Flows, FlowsOptions, Opener};
use crate::trace::Trace;

/// How many flows a target gets
#[derive(Clone, Debug, clap::Args)]
pub struct FlowsArguments {
    /// Trace each target by N flows, each from a source port of its own, and merge them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub flows: u32,
    /// Open flows until every next hop has been seen (Multipath Detection Algorithm)
    #[arg(long)]
    pub mda: bool,
    /// With --mda: how sure it is to be, a diamond, that none is missed
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = confidence)]
    pub mda_confidence: f64,
    /// With --mda: no more flows a target than N
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub flows_max: u32,
}

/// `0.95`, `95%`.
fn confidence(text: &str) -> Result<f64, String> {
    const MEND: &str = "write 0.95 or 95%";
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let part: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("not a probability; {MEND}"))?;
    match part * unit {
        part if (0.5..=0.999_999).contains(&part) => Ok(part),
        _ => Err(format!("out of range, which is 0.5 to 0.999999; {MEND}")),
    }
}

impl Probing {
    /// How many flows a target gets, where it is not just one.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn flows(&self) -> Result<Option<FlowsOptions>, Failure> {
        let FlowsArguments {
            flows,
            mda,
            mda_confidence,
            flows_max,
        } = self.many;
        if flows == 1 && !mda {
            return Ok(None);
        }
        let option = if mda { "--mda" } else { "--flows" };
        let method = self.method;
        if !method.is_one_flow() {
            return Err(Failure::usage(format!(
                "{option}: by --method {name} each probe is a flow of its own; use --method paris-{name}, or insession",
                name = method.as_str()
            )));
        }
        if mda && flows > flows_max {
            return Err(Failure::usage(format!(
                "--flows {flows}: it is above --flows-max {flows_max}; lower the one or raise the other"
            )));
        }
        Ok(Some(FlowsOptions {
            flows,
            confidence: mda.then_some(mda_confidence),
            most: flows_max,
        }))
    }
}

/// The flows under way, known to who opens them and to who gets their records.
#[derive(Debug)]
pub struct Feeder {
    flows: Mutex<Flows>,
    /// A record came back.
    news: Notify,
}

impl Feeder {
    /// No target yet.
    #[must_use]
    pub fn new(options: FlowsOptions) -> Arc<Self> {
        Arc::new(Feeder {
            flows: Mutex::new(Flows::new(options)),
            news: Notify::new(),
        })
    }

    /// Opens flows until the targets are at their end and all flows are back, or the
    /// engine takes no more.
    pub async fn feed(
        self: Arc<Self>,
        mut resolved: mpsc::Receiver<Target>,
        engine: mpsc::Sender<Target>,
    ) {
        let mut open = true;
        loop {
            let (is_waiting, is_idle) = self.with(|flows| (flows.is_waiting(), flows.is_idle()));
            if is_idle && !open {
                return;
            }
            tokio::select! {
                permit = engine.reserve(), if is_waiting => match permit {
                    Ok(permit) => if let Some(target) = self.with(Flows::take) {
                        permit.send(target);
                    },
                    Err(_) => return,
                },
                // Flows that were asked for go first.
                target = resolved.recv(), if open && !is_waiting => match target {
                    Some(target) => self.with(|flows| flows.begin(target)),
                    None => open = false,
                },
                () = engine.closed() => return,
                () = self.news.notified() => {}
            }
        }
    }

    /// Flows that were asked for so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.with(|flows| flows.asked())
    }

    fn with<R>(&self, act: impl FnOnce(&mut Flows) -> R) -> R {
        act(&mut self.flows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Opener for Feeder {
    fn back(&self, index: u64, trace: &Trace) -> Option<Ended> {
        let ended = self.with(|flows| flows.back(index, trace));
        self.news.notify_one();
        ended
    }

    fn end(&self) -> Vec<Ended> {
        self.with(Flows::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn a_confidence_is_a_part_or_percent() {
        assert_eq!(confidence("0.95"), Ok(0.95));
        assert_eq!(confidence("99%"), Ok(0.99));
        for wrong in ["", "1", "100%", "0.4", "NaN", "high"] {
            assert!(confidence(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_flow_is_fed_and_the_end_is_seen() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let feeder = Feeder::new(FlowsOptions {
                flows: 3,
                confidence: None,
                most: 1024,
            });
            let (resolver, resolved) = mpsc::channel(1);
            let (to_engine, mut engine) = mpsc::channel(1);
            let feeding = tokio::spawn(Arc::clone(&feeder).feed(resolved, to_engine));
            let target = |index| Target {
                index,
                name: index.to_string(),
                address: [10, 0, 9, 2].into(),
                port: 80,
            };
            let resolving = tokio::spawn(async move {
                for index in 0..20 {
                    resolver.send(target(index)).await.unwrap();
                }
            });
            let mut ended = 0;
            let mut count = 0;
            while let Some(target) = engine.recv().await {
                count += 1;
                ended += usize::from(feeder.back(target.index, &samples::contract()).is_some());
            }
            assert_eq!((count, ended, feeder.asked()), (60, 20, 60));
            resolving.await.unwrap();
            feeding.await.unwrap();
        });
    }
}
