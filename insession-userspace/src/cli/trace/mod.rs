//! `insession trace`: options in, records out.
//!
//! ```text
//! targets ─▶ resolve ─▶ engine (a thread of its own) ─▶ report ─▶ sinks
//!              dns          openings ────────────────────▲ names
//! ```
//!
//! What is not the hot path runs on tokio: look-ups, signals, the report. The
//! report never waits for a name longer than a bounded time, and the engine
//! never waits for a name at all.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::exit::{self, Failure};
use super::interrupt::{self, Step};
use super::probing::engine::{Channels, Engine, Opening};
use super::probing::flows::Feeder;
use super::probing::sidecar;
use crate::dns::Dns;
use crate::dns::names::Names;
use crate::engine::GIVE_UP_AFTER;
use crate::engine::stats::Stats;
use crate::engine::{Output, Stop};
use crate::link::LinkError;
use crate::link::pcap::PcapWriter;
use crate::multipath::flows::Opener as _;
use crate::owners::Owners;
use crate::report::Format;
use crate::report::text::Style;
use crate::targets::spec::TargetSpec;
use crate::trace::Verdict;

pub mod arguments;
pub mod plan;
pub mod progress;
pub mod report;
pub mod resolve;
pub mod sink;

pub use arguments::Arguments;
use plan::Plan;
use progress::Progress;
use report::Report;
use resolve::Stage;
use sink::Sink;

/// Targets that are resolved before the engine takes them.
const RESOLVED: usize = 256;
/// Outputs that the engine may be ahead of the report.
const AHEAD: usize = 4096;
/// Outputs handled between two flushes.
const BATCH: usize = 256;
/// After a stop the engine closes its sessions, which takes a packet each, or a
/// second where FINs are awaited, and hears them out; it gives up by itself after
/// half of this. It may have to open a link before, whose queue a dead process
/// still holds (2 s). What takes longer is stuck.
const STOP_GRACE: Duration = Duration::from_secs(8);
const _: () = assert!(STOP_GRACE.as_millis() >= GIVE_UP_AFTER.as_millis() + 4000);
/// Then the rest of the records is written. Longer than this only a reader keeps
/// them that takes no more; shorter would cut off a slow one.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Runs it; gives the exit code. The targets are taken out of the arguments: there
/// may be a great many.
///
/// # Errors
/// When it could not begin, or no link could be opened.
pub fn run(arguments: &mut Arguments) -> Result<u8, Failure> {
    if let Some(flow) = arguments.adopt {
        arguments.targets = vec![plan::adopted(&flow)?];
        arguments.probing.source = Some(flow.local.ip());
    }
    let plan = Plan::new(arguments)?;
    let adopted = arguments.adopt.map(sidecar::find).transpose()?;
    let style = Style {
        names: !arguments.probing.numeric,
        max_ttl: plan.session.max_ttl,
        method: plan.session.method,
    };
    let stdout_text = plan.outputs.stdout == Some(Format::Text);
    let live = stdout_text && arguments.targets.len() == 1 && plan.flows.is_none();
    let owners = arguments.probing.owners()?;
    let engine = Engine::new(&arguments.probing, &plan.session, |options| {
        options.live = live;
        if let Some(adopted) = adopted {
            options.conversation = adopted;
        }
    })?;
    let mut sinks = Vec::new();
    if let Some(format) = plan.outputs.stdout {
        sinks.push(Sink::stdout(format, style));
    }
    if let Some((path, format)) = &plan.outputs.file {
        sinks.push(Sink::file(path, *format, style)?);
    }
    let targets = std::mem::take(&mut arguments.targets);
    super::block_on(campaign(
        arguments,
        targets.into(),
        &plan,
        engine,
        sinks,
        live.then_some(style),
        owners,
    ))?
}

/// The whole run, within the runtime.
async fn campaign(
    arguments: &Arguments,
    specs: Arc<[TargetSpec]>,
    plan: &Plan,
    engine: Engine,
    sinks: Vec<Sink>,
    live: Option<Style>,
    owners: Option<Arc<Owners>>,
) -> Result<u8, Failure> {
    let stop = Arc::new(Stop::new());
    let stats = Arc::new(Stats::default());
    let patience = STOP_GRACE + LAST_WORDS;
    let asked = Arc::clone(&stop);
    let interrupted =
        interrupt::listen(vec![Step::new(move || asked.end(), patience)]).map_err(|error| {
            Failure::failed(format!(
                "signal handlers: {error}; raise the limit of open files"
            ))
        })?;
    let dns = Arc::new(Dns::from_system(plan.family));
    let names = if arguments.probing.numeric {
        Names::off()
    } else {
        Names::by_dns(Arc::clone(&dns))
    };
    let (to_engine, targets) = mpsc::channel(RESOLVED);
    let feeder = plan.flows.map(Feeder::new);
    let (to_engine, feeding) = match &feeder {
        None => (to_engine, None),
        Some(feeder) => {
            let (to_feeder, resolved) = mpsc::channel(RESOLVED);
            let feeding = Arc::clone(feeder).feed(resolved, to_engine);
            (to_feeder, Some(tokio::spawn(feeding)))
        }
    };
    let (told, outputs) = mpsc::channel(AHEAD);
    let (opened, openings) = mpsc::unbounded_channel();
    let stage = Stage {
        asked: arguments.probing.asked(),
        dns,
        targets: to_engine,
        outputs: told.clone(),
        stats: Arc::clone(&stats),
    };
    let capture = engine.capture();
    let ended = engine.start(Channels {
        targets,
        outputs: told,
        openings: live.map(|_| opened),
        stop: Arc::clone(&stop),
        stats: Arc::clone(&stats),
    })?;
    let total = u64::try_from(specs.len()).unwrap_or(u64::MAX);
    let mut report = Report::new(Arc::clone(&specs), arguments.probing.asked(), names, sinks);
    report.owned(owners);
    if let Some(style) = live {
        report.live(style, &plan.session);
    }
    if feeder.is_some() {
        report.merge();
    }
    let mut drive = Drive {
        progress: Progress::new(arguments.progress, total, stats),
        resolver: tokio::spawn(stage.run(specs)),
        feeder,
        feeding,
        report,
        stop,
        interrupted,
        outputs,
        openings,
        give_up: None,
        one_screen: live.is_some()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal(),
    };
    drive.until_over().await;
    let (ended, stuck) = drive.end_of(ended).await?;
    let recorded = match (&arguments.probing.pcap, capture) {
        // A thread that is stuck may hold its lock.
        (Some(path), Some(capture)) if !stuck => recorded(path, &capture),
        _ => None,
    };
    drive.conclude(ended, recorded)
}

/// Whether all frames got to the file.
pub(super) fn recorded(path: &Path, capture: &PcapWriter) -> Option<Failure> {
    capture.flush();
    let reason = capture.failure()?;
    Some(Failure::failed(format!(
        "--pcap {}: {reason}; make room or write elsewhere, frames are missing at its end",
        path.display()
    )))
}

/// What goes on while the engine runs.
struct Drive {
    progress: Progress,
    resolver: JoinHandle<()>,
    /// Who opens several flows a target, and its task.
    feeder: Option<Arc<Feeder>>,
    feeding: Option<JoinHandle<()>>,
    report: Report,
    stop: Arc<Stop>,
    interrupted: watch::Receiver<usize>,
    outputs: mpsc::Receiver<Output>,
    openings: mpsc::UnboundedReceiver<Opening>,
    /// When a stopped engine is waited for no longer.
    give_up: Option<Instant>,
    /// Live text and errors go to a terminal both.
    one_screen: bool,
}

impl Drive {
    /// Until every output is reported, or a stopped engine is stuck.
    async fn until_over(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut open = true;
        let mut tick = tokio::time::interval(self.progress.period().unwrap_or(STOP_GRACE));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while open || self.report.is_waiting() {
            let wake = self.report.deadline();
            tokio::select! {
                biased;
                changed = self.interrupted.changed(), if self.give_up.is_none() => {
                    if changed.is_ok() {
                        self.stop();
                    }
                }
                Some(opening) = self.openings.recv() => self.report.opening(opening),
                count = self.outputs.recv_many(&mut batch, BATCH), if open => {
                    open = count > 0;
                    for output in batch.drain(..) {
                        self.output(output);
                    }
                }
                () = self.report.names.step() => {}
                () = sleep_until(wake) => {}
                () = sleep_until(self.give_up), if open => {
                    tracing::warn!("the engine did not close its sessions in time");
                    open = false;
                }
                _ = tick.tick(), if self.progress.period().is_some() => {
                    if let Some(feeder) = &self.feeder {
                        self.progress.expect(feeder.asked());
                    }
                    self.progress.tick();
                }
            }
            // What was written goes out when no more is to be written at once.
            let more = open && !self.outputs.is_empty();
            let report = &mut self.report;
            if report.is_ready() {
                self.progress.around(|| report.pump(more));
            }
            if self.report.is_over() && self.give_up.is_none() {
                self.stop();
            }
        }
        self.progress.finish();
    }

    /// What the engine tells goes to the report, and records to who opens flows.
    fn output(&mut self, output: Output) {
        let ended = match (&self.feeder, &output) {
            (Some(feeder), Output::Trace { index, trace }) => feeder.back(*index, trace),
            _ => None,
        };
        self.report.output(output);
        if let Some(ended) = ended {
            self.report.ended(ended);
        }
    }

    /// Sessions are closed, records say `interrupted`.
    fn stop(&mut self) {
        self.stop.end();
        self.resolver.abort();
        if let Some(feeding) = &self.feeding {
            feeding.abort();
        }
        self.give_up = Some(Instant::now() + STOP_GRACE);
        self.report.hurry();
    }

    /// How the engine ended, and whether it is stuck and did not.
    async fn end_of(
        &mut self,
        mut ended: oneshot::Receiver<Result<(), LinkError>>,
    ) -> Result<(Result<(), LinkError>, bool), Failure> {
        // The outputs are closed by the engine's end, or it is stuck.
        if self.give_up.is_some_and(|until| until <= Instant::now()) {
            let ended = ended.try_recv();
            let stuck = ended.is_err();
            return Ok((ended.unwrap_or(Ok(())), stuck));
        }
        match ended.await {
            Ok(ended) => Ok((ended, false)),
            Err(_) => {
                let failure = Failure::failed(
                    "the engine: it ended by a panic, whose message stands above; report it",
                );
                self.report.conclude(Verdict::Error, &failure.message);
                let _ = self.report.close();
                Err(failure)
            }
        }
    }

    /// Gives every target its record, closes the sinks, and chooses the code.
    fn conclude(
        mut self,
        ended: Result<(), LinkError>,
        recorded: Option<Failure>,
    ) -> Result<u8, Failure> {
        let interrupted = *self.interrupted.borrow() > 0;
        let reason = match &ended {
            Err(error) => error.to_string(),
            Ok(()) => "the run was ended before this target was begun".to_owned(),
        };
        let verdict = if ended.is_err() {
            Verdict::Error
        } else {
            Verdict::Interrupted
        };
        let unfinished = self.feeder.as_ref().map(|feeder| feeder.end());
        for ended in unfinished.into_iter().flatten() {
            self.report.ended(ended);
        }
        self.report.conclude(verdict, &reason);
        let mut failed = self.report.failures() > 0;
        for failure in [self.report.close(), recorded].into_iter().flatten() {
            let _ = failure.report();
            failed = true;
        }
        match (interrupted, ended) {
            (true, _) => Ok(exit::INTERRUPTED),
            (false, Err(error)) => {
                let failure = Failure::from(error);
                // Its own verdict stands right above: once is enough for a reader.
                if self.one_screen && self.report.has_said(&failure.message) {
                    return Ok(failure.code);
                }
                Err(failure)
            }
            (false, Ok(())) if failed => Ok(exit::FAILED),
            (false, Ok(())) => Ok(exit::OK),
        }
    }
}

/// Never, where there is no moment.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
