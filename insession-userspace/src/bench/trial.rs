//! One bounded run of the engine over a real link, and what it came to.
//!
//! New sessions are begun for [`Options::duration`], after a tenth of it that is
//! not counted; then those that are open are let finish, for
//! [`Options::grace`] at most. Rates and processor time are those of the time in
//! which sessions are begun; losses are those of all sessions, since a probe is
//! only known to be lost when its session has ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use super::choice::LinkChoice;
use super::cpu::{self, Reading, Spent, Thread};
use super::held::map_octets;
use super::latency::Quantiles;
use super::{BenchError, Ground, Settings};
use crate::engine::handoff::Handoff;
use crate::engine::jobs::{Jobs, Supply};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, LINGER_MAX, Shared};
use crate::engine::{EngineOptions, Output, Stop};
use crate::link::packet::{PacketLink, PacketOptions};
use crate::link::xdp::{XdpLink, XdpOptions};
use crate::link::{Link, LinkError, permit};
use crate::session::SessionOptions;
use crate::trace::{LinkInfo, Trace, Verdict};

/// Records that wait for their reader at most.
const AHEAD: usize = 4096;
/// How late an interruption is seen.
const SLICE: Duration = Duration::from_millis(20);
/// Opening a link waits for the carrier, which takes some NICs seconds.
const OPENING: Duration = Duration::from_secs(20);

/// Looks at every record, on the thread that reads them.
pub type Check<'a> = dyn Fn(&Trace) -> Result<(), String> + Sync + 'a;

/// How a trial is made.
#[derive(Clone)]
pub struct Options<'a> {
    /// Which link.
    pub link: LinkChoice,
    /// Packets a second that are offered; `None`: all that it takes.
    pub rate: Option<f64>,
    /// Sessions open at a time.
    pub sessions: usize,
    /// How sessions are made.
    pub session: SessionOptions,
    /// How long sessions are begun.
    pub duration: Duration,
    /// No more targets than this are begun.
    pub targets: Option<u64>,
    /// How long the last ones may take to finish.
    pub grace: Duration,
    /// The first target's number.
    pub first: u64,
    /// Looks at every record.
    pub check: Option<&'a Check<'a>>,
    /// Frames a kick; `None`: as many as suit the link.
    pub batch: Option<usize>,
    /// Workers, a queue each.
    pub workers: u32,
    /// Measure from the kernel's stamp to the session.
    pub latency: bool,
    /// It is over when nearly [`Options::targets`] sessions are established at once.
    pub until_held: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            link: LinkChoice::Xdp(XdpOptions::default()),
            rate: None,
            sessions: 1024,
            session: SessionOptions {
                probe_timeout: Duration::from_secs(1),
                ..SessionOptions::default()
            },
            duration: Duration::from_secs(1),
            targets: None,
            grace: Duration::from_secs(15),
            first: 0,
            check: None,
            batch: None,
            workers: 1,
            latency: false,
            until_held: false,
        }
    }
}

/// What a trial came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trial {
    /// Packets a second that were offered; null: all that it took.
    pub offered: Option<f64>,
    /// How long it was counted, seconds.
    pub seconds: f64,
    /// Packets sent in that time.
    pub sent: u64,
    /// Of those, probes.
    pub probes: u64,
    /// Replies to sessions in that time.
    pub replies: u64,
    /// Sessions that ended in that time.
    pub ended: u64,
    /// Processor time of the workers in that time.
    pub workers: Spent,
    /// Processor time of the whole process in that time.
    pub process: Spent,
    /// Softirq time of all processors in that time, seconds.
    pub softirq: f64,
    /// What all sessions came to.
    pub outcome: Outcome,
    /// What frames met with, from the link's and the interface's counters; those
    /// that are not zero.
    pub counters: BTreeMap<String, u64>,
    /// The link, as the kernel reported it: `xdp native copy`.
    pub link: String,
    /// From the kernel's stamp to the session, where it was asked for.
    pub latency: Option<Quantiles>,
    /// What was open at the end of the time that was counted.
    pub held: HeldSessions,
}

/// What was open, and in what memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldSessions {
    /// Sessions open.
    pub open: u64,
    /// Of those, established.
    pub established: u64,
    /// The most that were established at one moment of the whole trial.
    pub peak: u64,
    /// Resident memory that the process had more than before the link was opened.
    pub octets: u64,
    /// The kernel's maps.
    pub map_octets: u64,
}

/// What all sessions of a trial came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Records.
    pub traces: u64,
    /// Handshakes that were completed.
    pub established: u64,
    /// Traces that reached their destination.
    pub complete: u64,
    /// Handshakes that nobody answered.
    pub unanswered_handshakes: u64,
    /// Probes in records.
    pub probes: u64,
    /// Of those, without an answer.
    pub unanswered: u64,
    /// Sessions that were cut short at the end; their probes are not counted.
    pub cut: u64,
    /// Records that the check found wrong.
    pub wrong: u64,
    /// What is wrong with the first of them.
    pub first_wrong: Option<String>,
    /// Records with verdict `error`, and the text of the first.
    pub errors: u64,
    /// The text of the first error.
    pub first_error: Option<String>,
}

impl Trial {
    /// Packets sent a second.
    #[must_use]
    pub fn packets_per_second(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// Probes sent a second.
    #[must_use]
    pub fn probes_per_second(&self) -> f64 {
        self.probes as f64 / self.seconds
    }

    /// Nanoseconds of the workers' time for each of `count`.
    #[must_use]
    pub fn worker_nanos(&self, count: u64) -> f64 {
        self.workers.total() * 1e9 / count as f64
    }
}

impl Outcome {
    /// The part of what was sent to be answered that was not: probes and
    /// handshakes. One that has nothing to tell lost everything.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let asked = self.probes + self.established + self.unanswered_handshakes;
        if asked == 0 {
            return 1.0;
        }
        (self.unanswered + self.unanswered_handshakes) as f64 / asked as f64
    }

    fn add(&mut self, trace: &Trace, check: Option<&Check<'_>>) {
        self.traces += 1;
        match trace.verdict {
            Verdict::Interrupted => {
                self.cut += 1;
                return;
            }
            Verdict::Error | Verdict::NoRoute => {
                self.errors += 1;
                if self.first_error.is_none() {
                    self.first_error.clone_from(&trace.detail);
                }
                return;
            }
            Verdict::HandshakeTimeout => self.unanswered_handshakes += 1,
            Verdict::Complete => self.complete += 1,
            _ => {}
        }
        self.established += u64::from(trace.handshake.is_some());
        for probe in trace.hops.iter().flat_map(|hop| &hop.probes) {
            self.probes += 1;
            self.unanswered += u64::from(probe.reply.is_none());
        }
        if let Some(Err(wrong)) = check.map(|check| check(trace)) {
            self.wrong += 1;
            self.first_wrong.get_or_insert(wrong);
        }
    }
}

/// The words for a link: `xdp native zero-copy`.
#[must_use]
pub fn link_words(info: &LinkInfo) -> String {
    let copying = match (info.kind, info.zero_copy) {
        ("xdp", true) => Some("zero-copy"),
        ("xdp", false) => Some("copy"),
        _ => None,
    };
    [Some(info.kind), info.mode, copying]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Opens the link of a choice on the interface of `ground`.
///
/// # Errors
/// As the link does.
pub fn open(ground: &Ground, choice: &LinkChoice) -> Result<Box<dyn Link>, LinkError> {
    Ok(match choice {
        LinkChoice::Xdp(options) => Box::new(XdpLink::open(ground.interface(), options)?),
        LinkChoice::Packet => Box::new(PacketLink::open(
            &ground.interface().name,
            &PacketOptions::new(XdpOptions::default().ports),
        )?),
    })
}

/// Opens as many links as there are to be workers.
fn open_workers(
    ground: &Ground,
    choice: &LinkChoice,
    workers: u32,
) -> Result<Vec<Box<dyn Link + Send>>, LinkError> {
    let LinkChoice::Xdp(options) = choice else {
        let packet = PacketLink::open(
            &ground.interface().name,
            &PacketOptions::new(XdpOptions::default().ports),
        )?;
        return Ok(vec![Box::new(packet)]);
    };
    if workers == 1 {
        return Ok(vec![Box::new(XdpLink::open(ground.interface(), options)?)]);
    }
    let links = XdpLink::open_shared(ground.interface(), options, workers as usize)?;
    if links.len() < workers as usize {
        return Err(LinkError::Unsupported {
            what: format!("interface {}: {workers} workers", ground.interface().name),
            reason: format!("it has {} queue(s)", links.len()),
            mend: "give it more (`ethtool -L`; on the test bed --queues)".to_owned(),
        });
    }
    let boxed = |link| Box::new(link) as Box<dyn Link + Send>;
    Ok(links.into_iter().map(boxed).collect())
}

/// Runs a worker for each link, each on a thread of its own; tells their threads.
fn work<'a>(
    mut links: Vec<Box<dyn Link + Send>>,
    jobs: &(impl Fn() -> Endless<'a> + Sync),
    shared: &Shared<'_>,
    opened: &mpsc::Sender<(Vec<Thread>, String)>,
) -> Result<(), LinkError> {
    let words = links
        .first()
        .map(|link| link_words(&link.info()))
        .unwrap_or_default();
    let wakers: Vec<_> = links.iter().map(|link| link.waker()).collect();
    let mut handoffs: Vec<Option<Handoff>> = match links.len() {
        1 => vec![None],
        _ => Handoff::between(&wakers).into_iter().map(Some).collect(),
    };
    let (here, there) = mpsc::channel();
    std::thread::scope(|scope| {
        let workers: Vec<_> = links
            .iter_mut()
            .zip(handoffs.drain(..))
            .map(|(link, handoff)| {
                let here = here.clone();
                scope.spawn(move || {
                    if let Some(processor) = link.processor() {
                        // What cannot be pinned is measured unpinned.
                        let _ = crate::link::run_on(processor);
                    }
                    let _ = here.send(Thread::current());
                    drop(here);
                    let mut jobs = jobs();
                    match handoff {
                        None => worker::run(link.as_mut(), &mut jobs, shared),
                        Some(handoff) => {
                            worker::run_one_of(link.as_mut(), &mut jobs, shared, handoff)
                        }
                    }
                })
            })
            .collect();
        drop(here);
        // Ends when every worker has said which thread it is.
        let threads = there.iter().flatten().collect();
        // Fails when the trial has given up.
        let _ = opened.send((threads, words));
        let mut ended = Ok(());
        for worker in workers {
            ended = ended.and(worker.join().unwrap_or_else(|_| panicked()));
        }
        ended
    })
}

fn panicked() -> Result<(), LinkError> {
    Err(LinkError::System {
        what: "the engine".to_owned(),
        source: std::io::Error::other("it ended by a panic, whose message stands above"),
    })
}

/// Whether the rights for all links are there.
///
/// # Errors
/// [`LinkError::NotPermitted`] with what is missing.
pub fn require_rights() -> Result<(), LinkError> {
    permit::require(
        "measuring",
        &[permit::NET_RAW, permit::NET_ADMIN, permit::BPF],
    )
}

/// Makes one trial.
///
/// # Errors
/// When there is no link, it fails, or the measurement is ended.
pub fn run(
    ground: &Ground,
    options: &Options<'_>,
    settings: &Settings<'_>,
) -> Result<Trial, BenchError> {
    let ports = XdpOptions::default().ports;
    let engine = EngineOptions {
        rate: options.rate,
        sessions: options.sessions,
        batch: options.batch,
        latency: options.latency,
        ..EngineOptions::new(options.session.clone(), ports, secret()?)
    };
    let mut link = options.link.clone();
    if let LinkChoice::Xdp(xdp) = &mut link {
        // The open ones, and those that linger behind them.
        let flows = options.sessions.saturating_add(LINGER_MAX);
        xdp.flows = u32::try_from(flows).unwrap_or(u32::MAX);
    }
    let before = interface_counters();
    let resident = cpu::resident_in_use().unwrap_or(0);
    let (told, mut heard) = tokio::sync::mpsc::channel(AHEAD);
    let (stop, over, stats) = (Stop::new(), AtomicBool::new(false), Stats::default());
    let (opened, opening) = mpsc::channel();
    let next = AtomicU64::new(options.first);
    let mut trial = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut outcome, mut batch) = (Outcome::default(), Vec::with_capacity(256));
            while heard.blocking_recv_many(&mut batch, 256) > 0 {
                for output in batch.drain(..) {
                    if let Output::Trace { trace, .. } = output {
                        outcome.add(&trace, options.check);
                    }
                }
            }
            outcome
        });
        let (link, engine, over, next, stop, stats) = (&link, &engine, &over, &next, &stop, &stats);
        let worker = scope.spawn(move || {
            // The last sender: with it the reader ends.
            let told = told;
            let shared = Shared::new(engine, &told, stop, stats);
            let jobs = || Endless {
                ground,
                next,
                end: options.targets.map(|count| options.first + count),
                over,
            };
            let links = open_workers(ground, link, options.workers)?;
            work(links, &jobs, &shared, &opened)
        });
        let mut trial = Trial {
            offered: options.rate,
            ..Trial::default()
        };
        let counted = opening
            .recv_timeout(OPENING)
            .map_err(|_| ())
            .and_then(|(threads, words)| {
                trial.link = words;
                let window = Window {
                    options,
                    settings,
                    stats,
                    over,
                    resident,
                };
                window.count(&mut trial, &threads, || worker.is_finished())
            });
        over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + options.grace;
        while counted.is_ok() && !worker.is_finished() && Instant::now() < deadline {
            if settings.watch.is_stopped() {
                break;
            }
            std::thread::sleep(SLICE / 4);
        }
        stop.end();
        let ended = worker.join().unwrap_or_else(|_| panicked());
        trial.outcome = reader.join().unwrap_or_default();
        ended?;
        if settings.watch.is_stopped() {
            return Err(BenchError::Interrupted);
        }
        Ok(trial)
    })?;
    trial.held.peak = stats.established_peak.load(Ordering::Relaxed);
    if options.latency
        && let Ok(histogram) = stats.latency.lock()
    {
        trial.latency = Some(Quantiles::of(&histogram));
    }
    let after = interface_counters();
    let link = stats
        .link
        .lock()
        .map_or_else(|_| Vec::new(), |link| link.clone());
    trial.counters = link
        .into_iter()
        .map(|(label, count)| (label.to_owned(), count))
        .chain(after.into_iter().map(|(label, count)| {
            let before = before.get(&label).copied().unwrap_or(0);
            (label, count.saturating_sub(before))
        }))
        .chain([
            (
                "engine-malformed".to_owned(),
                stats.malformed.load(Ordering::Relaxed),
            ),
            (
                "engine-unclaimed".to_owned(),
                stats.unclaimed.load(Ordering::Relaxed),
            ),
        ])
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(trial)
}

/// The time in which a trial is counted.
struct Window<'a> {
    options: &'a Options<'a>,
    settings: &'a Settings<'a>,
    stats: &'a Stats,
    over: &'a AtomicBool,
    resident: u64,
}

/// All clocks and counters at one moment.
struct Moment {
    at: Instant,
    counts: [u64; 4],
    /// Of each worker.
    workers: Vec<Option<Reading>>,
    process: Option<Spent>,
    softirq: Option<f64>,
}

impl Window<'_> {
    fn moment(&self, threads: &[Thread]) -> Moment {
        let stats = self.stats;
        Moment {
            at: Instant::now(),
            counts: [&stats.sent, &stats.probes, &stats.replies, &stats.finished]
                .map(|counter| counter.load(Ordering::Relaxed)),
            workers: threads.iter().map(Thread::read).collect(),
            process: cpu::process(),
            softirq: cpu::softirq(),
        }
    }

    /// Warms up, then counts.
    fn count(
        &self,
        trial: &mut Trial,
        threads: &[Thread],
        is_finished: impl Fn() -> bool,
    ) -> Result<(), ()> {
        let duration = self.options.duration;
        if !self.options.until_held {
            self.sleep(duration / 10, &is_finished)?;
        }
        let before = self.moment(threads);
        self.sleep(duration, &is_finished)?;
        let after = self.moment(threads);
        trial.held = HeldSessions {
            open: self.stats.open.load(Ordering::Relaxed),
            established: self.stats.established.load(Ordering::Relaxed),
            peak: 0,
            octets: cpu::resident().unwrap_or(0).saturating_sub(self.resident),
            map_octets: map_octets(),
        };
        // No time of those that only finish.
        self.over.store(true, Ordering::Relaxed);
        trial.seconds = after.at.duration_since(before.at).as_secs_f64();
        let [sent, probes, replies, ended] =
            std::array::from_fn(|n| after.counts[n].saturating_sub(before.counts[n]));
        (trial.sent, trial.probes, trial.replies, trial.ended) = (sent, probes, replies, ended);
        for pair in before.workers.iter().zip(&after.workers) {
            if let (Some(before), Some(after)) = pair {
                trial.workers = trial.workers.and(&after.since(before));
            }
        }
        if let (Some(before), Some(after)) = (before.process, after.process) {
            trial.process = after.since(&before);
        }
        if let (Some(before), Some(after)) = (before.softirq, after.softirq) {
            trial.softirq = after - before;
        }
        Ok(())
    }

    /// Err when there is nothing more to count.
    fn sleep(&self, span: Duration, is_finished: &impl Fn() -> bool) -> Result<(), ()> {
        let until = Instant::now() + span;
        loop {
            if self.settings.watch.is_stopped() {
                return Err(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if let (true, Some(all)) = (self.options.until_held, self.options.targets) {
                // Destinations are mute by a hash: a few are not.
                let established = self.stats.established.load(Ordering::Relaxed);
                if established + all / 1000 >= all {
                    return Ok(());
                }
            }
            // A trial of so many targets is over when they are.
            if left.is_zero() || (self.options.targets.is_some() && is_finished()) {
                return Ok(());
            }
            if is_finished() {
                return Err(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}

/// Targets until it is over.
pub(super) struct Endless<'a> {
    pub(super) ground: &'a Ground,
    pub(super) next: &'a AtomicU64,
    pub(super) end: Option<u64>,
    pub(super) over: &'a AtomicBool,
}

impl Jobs for Endless<'_> {
    fn poll(&mut self) -> Supply {
        if self.over.load(Ordering::Relaxed) {
            return Supply::Done;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.end.is_some_and(|end| number >= end) {
            return Supply::Done;
        }
        self.ground.job(number).map_or(Supply::Done, Supply::Job)
    }

    fn wait(&mut self, _limit: Duration) {}
}

/// The key of initial sequence numbers (RFC 6528 §3).
fn secret() -> Result<[u8; 16], BenchError> {
    let mut secret = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut secret))
        .map_err(|error| BenchError::Failed(format!("/dev/urandom: {error}; mount /dev")))?;
    Ok(secret)
}

/// What interfaces of the calling thread's network namespace dropped so far, as
/// `near0-rx-dropped`.
fn interface_counters() -> BTreeMap<String, u64> {
    // /proc/net would be the main thread's.
    fs::read_to_string("/proc/thread-self/net/dev")
        .map_or_else(|_| BTreeMap::new(), |text| parse_dev(&text))
}

fn parse_dev(text: &str) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for line in text.lines() {
        let Some((name, values)) = line.split_once(':') else {
            continue;
        };
        let values: Vec<u64> = values
            .split_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        for (label, column) in [
            ("rx-errors", 2),
            ("rx-dropped", 3),
            ("rx-overrun", 4),
            ("tx-errors", 10),
            ("tx-dropped", 11),
        ] {
            if let Some(count) = values.get(column) {
                counters.insert(format!("{}-{label}", name.trim()), *count);
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_an_interface_are_read() {
        let text = "Inter-|   Receive\n face |bytes packets\n near0: 100 2 3 4 5 0 0 0 200 6 7 8 0 0 0 0\n";
        let counters = parse_dev(text);
        assert_eq!(counters["near0-rx-dropped"], 4);
        assert_eq!(counters["near0-tx-dropped"], 8);
        assert_eq!(counters.len(), 5);
    }

    #[test]
    fn what_was_not_asked_is_not_answered() {
        assert_eq!(Outcome::default().loss(), 1.0);
        let outcome = Outcome {
            probes: 90,
            established: 8,
            unanswered_handshakes: 2,
            unanswered: 3,
            ..Outcome::default()
        };
        assert_eq!(outcome.loss(), 0.05);
    }
}
