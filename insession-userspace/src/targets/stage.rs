//! From the list to the engine: names are resolved, what is not to be traced gets
//! its record at once.
//!
//! ```text
//! Supply ─▶ pump (a thread: lists block) ── addresses ──────────────▶ targets
//!             │                             not to be traced ───────▶ outputs
//!             └── names ─▶ resolve (tokio, dns::bulk) ─▶ either
//! ```
//!
//! Addresses do not wait for names, until more than some 8,000 of these are being
//! looked up: a list of nothing but names comes as fast as they are resolved. Every
//! target that is taken from the list comes out once: into `targets`, or as a record
//! into `outputs`; unless nobody takes them any more, or [`Stage::run`] is dropped.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::exclude::Exclusions;
use super::list::{BadLine, Item, ListError, Supply};
use super::spec::{Host, TargetSpec};
use crate::dns::bulk::{Answer, Bulk};
use crate::dns::{Dns, Family};
use crate::engine::record::Asked;
use crate::engine::{Output, Target, record};
use crate::trace::Verdict;

/// Names that are handed to the resolver ahead.
const AHEAD: usize = 256;

/// Which positions have their record already.
pub type Done = dyn Fn(u64) -> bool + Send + Sync;

/// What is to be done with a list.
pub struct Stage {
    /// The list.
    pub supply: Supply,
    /// Who resolves names.
    pub dns: Arc<Dns>,
    /// What is not to be traced.
    pub exclusions: Arc<Exclusions>,
    /// The port of targets that name none, and how they are traced.
    pub asked: Asked,
    /// Which addresses are traced.
    pub family: Family,
    /// End at the first line that is no target.
    pub strict: bool,
    /// Positions that are left out.
    pub done: Arc<Done>,
    /// To the engine.
    pub targets: mpsc::Sender<Target>,
    /// Records of what does not get there.
    pub outputs: mpsc::Sender<Output>,
    /// Lines that are no targets. One that nobody takes is counted all the same.
    pub bad: mpsc::Sender<BadLine>,
    /// What has come of it so far, to be watched.
    pub tally: Arc<Tally>,
}

/// What has come of a list so far.
#[derive(Debug, Default)]
pub struct Tally {
    targets: AtomicU64,
    bad: AtomicU64,
    excluded: AtomicU64,
    unresolved: AtomicU64,
    misfits: AtomicU64,
}

/// What came of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Targets that were taken from it, whatever became of them.
    pub targets: u64,
    /// Lines that are none.
    pub bad: u64,
    /// Of the targets: not to be traced.
    pub excluded: u64,
    /// Of the targets: names without an address.
    pub unresolved: u64,
    /// Of the targets: addresses of the family that is not traced.
    pub misfits: u64,
}

impl Tally {
    /// As it is now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            targets: of(&self.targets),
            bad: of(&self.bad),
            excluded: of(&self.excluded),
            unresolved: of(&self.unresolved),
            misfits: of(&self.misfits),
        }
    }
}

fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A name of the list.
type Question = (u64, TargetSpec);

impl Stage {
    /// Takes the list to its end; returns when all of it came out. Ends early when
    /// nobody takes targets any more, and when it is dropped; then a thread that
    /// waits for the next line of a pipe is left behind until one comes.
    ///
    /// # Errors
    /// A list that cannot be read to its end; with `strict`, the first line that is
    /// no target. What stands in the blocks before it came out.
    pub async fn run(self) -> Result<Summary, ListError> {
        let bad = self.bad;
        let (asker, questions) = mpsc::channel(AHEAD);
        let (tell, told) = oneshot::channel();
        let over = Over(Arc::new(AtomicBool::new(false)));
        let judge = Judge {
            exclusions: self.exclusions,
            asked: self.asked,
            family: self.family,
            tally: self.tally,
        };
        let doors = Doors {
            targets: self.targets,
            outputs: self.outputs,
        };
        let pump = Pump {
            supply: self.supply,
            strict: self.strict,
            done: self.done,
            judge: judge.clone(),
            targets: doors.targets.downgrade(),
            outputs: doors.outputs.downgrade(),
            bad: bad.downgrade(),
            asker,
            over: Arc::clone(&over.0),
        };
        let thread = std::thread::Builder::new().name("list".into());
        let spawned = thread.spawn(move || {
            // Fails when nobody waits for it any more.
            let _ = tell.send(pump.run());
        });
        spawned.map_err(|error| broken(&error, "raise the limit of processes"))?;
        doors
            .resolve(&judge, Bulk::by_dns(self.dns), questions)
            .await;
        let pumped = tokio::select! {
            biased;
            told = told => told.unwrap_or_else(|_| {
                Err(broken(&"its thread ended by a panic, whose message stands above", "report it"))
            }),
            () = doors.closed() => Ok(()),
        };
        pumped.map(|()| judge.tally.summary())
    }
}

fn broken(why: &dyn std::fmt::Display, mend: &str) -> ListError {
    ListError::Input {
        what: "reading the targets".to_owned(),
        why: why.to_string(),
        mend: mend.to_owned(),
        may_pass: false,
    }
}

/// Says so when it is dropped.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says what becomes of a target.
#[derive(Clone)]
struct Judge {
    exclusions: Arc<Exclusions>,
    asked: Asked,
    family: Family,
    tally: Arc<Tally>,
}

/// What becomes of a target.
enum Fate {
    Traced(Target),
    Told(Output),
}

impl Judge {
    /// What becomes of a target of this address.
    fn judge(&self, index: u64, spec: TargetSpec, found: Answer) -> Fate {
        let port = spec.port.unwrap_or(self.asked.port);
        let (address, verdict, detail) = match found {
            Err(reason) => {
                count(&self.tally.unresolved);
                (None, Verdict::Error, reason)
            }
            Ok(address) => {
                // A resolver may answer with an IPv4-mapped address, too.
                let address = address.to_canonical();
                if let Some(reason) = self.misfit(address) {
                    count(&self.tally.misfits);
                    (Some(address), Verdict::Error, reason)
                } else if let Some(reason) = self.exclusions.check(address) {
                    count(&self.tally.excluded);
                    (Some(address), Verdict::Excluded, reason)
                } else {
                    let name = spec.name;
                    return Fate::Traced(Target {
                        index,
                        name,
                        address,
                        port,
                    });
                }
            }
        };
        let asked = Asked { port, ..self.asked };
        let trace = record::untraced(spec.name, address, asked, verdict, Some(detail));
        Fate::Told(Output::Trace {
            index,
            trace: Box::new(trace),
        })
    }

    fn misfit(&self, address: IpAddr) -> Option<String> {
        let (is, wanted) = match (self.family, address) {
            (Family::V4, IpAddr::V6(_)) => ("IPv6", "IPv4"),
            (Family::V6, IpAddr::V4(_)) => ("IPv4", "IPv6"),
            _ => return None,
        };
        Some(format!(
            "{address}: it is {is}, but only {wanted} is traced in this run; leave -4, -6 or --source out"
        ))
    }
}

/// Where targets go.
struct Doors {
    targets: mpsc::Sender<Target>,
    outputs: mpsc::Sender<Output>,
}

impl Doors {
    /// Returns when there is nobody any more to take what comes.
    async fn closed(&self) {
        tokio::select! {
            () = self.targets.closed() => {}
            () = self.outputs.closed() => {}
        }
    }

    /// Resolves names until there are no more questions, or nobody takes targets.
    async fn resolve(
        &self,
        judge: &Judge,
        mut bulk: Bulk<Question>,
        mut questions: mpsc::Receiver<Question>,
    ) {
        let mut open = true;
        while open || !bulk.is_idle() {
            tokio::select! {
                biased;
                () = self.closed() => return,
                answers = bulk.answered() => {
                    for ((index, spec), found) in answers {
                        let sent = match judge.judge(index, spec, found) {
                            Fate::Traced(target) => self.targets.send(target).await.is_ok(),
                            Fate::Told(output) => self.outputs.send(output).await.is_ok(),
                        };
                        if !sent {
                            return;
                        }
                    }
                }
                question = questions.recv(), if open && bulk.has_room() => match question {
                    Some((index, spec)) => match &spec.host {
                        Host::Name(name) => bulk.ask(&name.clone(), (index, spec)),
                        // The pump sends none.
                        Host::Address(_) => {}
                    },
                    None => open = false,
                },
            }
        }
    }
}

/// Takes the list apart, on a thread of its own. It may wait for a line for ever;
/// so it keeps no channel open that others wait for the end of.
struct Pump {
    supply: Supply,
    strict: bool,
    done: Arc<Done>,
    judge: Judge,
    targets: mpsc::WeakSender<Target>,
    outputs: mpsc::WeakSender<Output>,
    bad: mpsc::WeakSender<BadLine>,
    asker: mpsc::Sender<Question>,
    over: Arc<AtomicBool>,
}

impl Pump {
    fn run(mut self) -> Result<(), ListError> {
        let done = Arc::clone(&self.done);
        while let Some(item) = self.supply.next(&*done) {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let taken = match item? {
                Item::Target { position, spec } => {
                    count(&self.judge.tally.targets);
                    self.give(position, spec)
                }
                Item::Bad(line) => {
                    count(&self.judge.tally.bad);
                    let told = self.strict.then(|| line.clone());
                    give(&self.bad, line);
                    if let Some(line) = told {
                        return Err(ListError::Strict(line));
                    }
                    true
                }
            };
            if !taken {
                break;
            }
        }
        Ok(())
    }

    /// Gives a target away; whether somebody took it.
    fn give(&self, position: u64, spec: TargetSpec) -> bool {
        match spec.host {
            Host::Name(_) => self.asker.blocking_send((position, spec)).is_ok(),
            Host::Address(address) => match self.judge.judge(position, spec, Ok(address)) {
                Fate::Traced(target) => give(&self.targets, target),
                Fate::Told(output) => give(&self.outputs, output),
            },
        }
    }
}

/// Sends, waiting for room; whether somebody took it.
fn give<T>(door: &mpsc::WeakSender<T>, what: T) -> bool {
    door.upgrade()
        .is_some_and(|door| door.blocking_send(what).is_ok())
}

#[cfg(test)]
mod tests;
