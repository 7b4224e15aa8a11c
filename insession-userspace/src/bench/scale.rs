//! The engine over the number of sessions: processor time a probe from one session
//! to a million on a link in memory, memory a live session, and many sessions at
//! once against the reflector with every hop checked.
//!
//! **Cost.** On the mirror link time is virtual: it stands still while the engine
//! has something to do, so all sessions are open before the first answer. The
//! worker's time is its thread's; from it is taken what the link spends inside
//! `flush` and `wait`, where it makes the network's answers (`meter`). The session
//! is the same for all numbers; few sessions are repeated until there are enough
//! probes to measure.
//!
//! **Memory.** Resident memory with all sessions open and their probes answered,
//! but for the last hop's, whose destination is mute, less the same before the
//! first session, after the allocator gave back what it kept of earlier ones. Before
//! that the link's own table has been filled with as many
//! flows and emptied again, which leaves it at its size: so what the link holds is
//! in both.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use insession_common::reflect::Network;
use serde::Serialize;

use super::cpu;
use super::meter::Metered;
use super::suite::Place;
use super::trial::{self, Endless, Options};
use super::{BenchError, Figure, Ground, Settings};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop};
use crate::link::mirror::MirrorLink;
use crate::link::{Link, clock};
use crate::session::SessionOptions;

/// Hops of every way of the curve.
const HOPS: u8 = 8;
/// A round trip in memory.
const DELAY: Duration = Duration::from_millis(20);
/// No number of sessions is measured in more rounds than take this long.
const LONG: Duration = Duration::from_secs(60);
/// Hops and probes a hop of the sessions whose memory is measured.
const MEMORY_SHAPE: (u8, u8) = (16, 3);

/// How far it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleOptions {
    /// Numbers of sessions of the curve, rising.
    pub sessions: Vec<usize>,
    /// Probes of a point of the curve, at least.
    pub probes: u64,
    /// Sessions whose memory is measured; 0: none.
    pub memory: usize,
    /// Sessions at once against the reflector; 0: none.
    pub concurrent: usize,
}

impl Default for ScaleOptions {
    fn default() -> Self {
        ScaleOptions {
            sessions: vec![1, 100, 1_000, 10_000, 100_000, 1_000_000],
            probes: 2_000_000,
            memory: 1_000_000,
            concurrent: 100_000,
        }
    }
}

/// One point of the curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Sessions at once.
    pub sessions: usize,
    /// Of the engine a probe, ns.
    pub cpu: Figure,
    /// Of the link in memory a probe, ns: not in the engine's.
    pub link: Figure,
    /// Probes of a round.
    pub probes: u64,
}

/// Memory of live sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Sessions open.
    pub sessions: u64,
    /// Hops of each.
    pub hops: u8,
    /// Probes a hop.
    pub probes: u8,
    /// Row `bytes-per-session`: resident octets each, without what the link holds.
    pub octets: f64,
    /// Resident before the first session: the link's flow table is in it.
    pub resident_before: u64,
    /// Resident with all of them.
    pub resident: u64,
}

/// Many sessions against the reflector.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Concurrent {
    /// The link.
    pub link: String,
    /// The most that were established at one moment.
    pub peak: u64,
    /// What they came to; `wrong` is those with a hop that is not what it has to be.
    pub outcome: trial::Outcome,
    /// Every record was checked.
    pub checked: bool,
    /// What frames met with.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scale {
    /// Processor time a probe.
    pub curve: Vec<Point>,
    /// Row `sim-scale`: cost with most sessions by cost with a thousand.
    pub sim_scale: Option<f64>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Against the reflector.
    pub concurrent: Option<Concurrent>,
    /// What is not there, and why.
    pub missing: Vec<String>,
}

/// Measures all of it.
///
/// # Errors
/// When a link fails or the measurement is ended.
pub fn measure(
    place: &Place<'_>,
    base: &Options<'_>,
    options: &ScaleOptions,
    settings: &Settings<'_>,
) -> Result<Scale, BenchError> {
    let mut scale = Scale::default();
    for sessions in &options.sessions {
        scale
            .curve
            .push(point(*sessions, options.probes, settings)?);
    }
    let cost = |sessions: usize| {
        let point = scale
            .curve
            .iter()
            .find(|point| point.sessions == sessions)?;
        point.cpu.median
    };
    let most = options.sessions.iter().max();
    scale.sim_scale = most
        .and_then(|most| cost(*most))
        .zip(cost(1_000))
        .map(|(most, thousand)| most / thousand);
    if options.memory > 0 {
        scale.memory = Some(memory(options.memory, settings)?);
    }
    if options.concurrent == 0 {
        return Ok(scale);
    }
    let Some(mute) = place.mute else {
        scale.missing.push(
            "concurrent: needs the reflector; run without --interface for a veth pair".to_owned(),
        );
        return Ok(scale);
    };
    mute(true)?;
    let concurrent = concurrent(place, base, options.concurrent, settings);
    mute(false)?;
    scale.concurrent = Some(concurrent?);
    Ok(scale)
}

/// One point of the curve.
///
/// # Errors
/// When the measurement is ended.
pub fn point(sessions: usize, probes: u64, settings: &Settings<'_>) -> Result<Point, BenchError> {
    let session = SessionOptions {
        max_ttl: HOPS,
        probes: 3,
        ..SessionOptions::default()
    };
    let a_session = u64::from(HOPS) * 3;
    let mut point = Point {
        sessions,
        ..Point::default()
    };
    let (mut engine, mut link) = (Vec::new(), Vec::new());
    let begin = std::time::Instant::now();
    for round in 1..=settings.rounds {
        settings.step(&format!(
            "scale, round {round}: {sessions} sessions in memory"
        ))?;
        let targets = (probes / a_session).max(sessions as u64);
        let run = in_memory(&session, false, sessions, targets, None, settings)?;
        point.probes = run.probes;
        engine.push(run.engine.as_secs_f64() * 1e9 / run.probes as f64);
        link.push(run.link.as_secs_f64() * 1e9 / run.probes as f64);
        if begin.elapsed() > LONG {
            break;
        }
    }
    (point.cpu, point.link) = (Figure::new(engine), Figure::new(link));
    Ok(point)
}

/// Memory of so many live sessions.
///
/// # Errors
/// When the measurement is ended, or they were never all open.
pub fn memory(sessions: usize, settings: &Settings<'_>) -> Result<Memory, BenchError> {
    settings.step(&format!("scale: memory of {sessions} sessions"))?;
    let (hops, probes) = MEMORY_SHAPE;
    let session = SessionOptions {
        max_ttl: hops,
        probes,
        probe_timeout: Duration::from_secs(1_000_000),
        handshake_timeout: Duration::from_secs(1_000),
        ..SessionOptions::default()
    };
    // Virtual: keeps few frames on the way.
    let rate = Some(1e6);
    let run = in_memory(&session, true, sessions, sessions as u64, rate, settings)?;
    let (open, resident) = run.held.ok_or_else(|| {
        BenchError::Failed(format!(
            "memory: {sessions} sessions were never open at once; ask for fewer"
        ))
    })?;
    Ok(Memory {
        sessions: open,
        hops,
        probes,
        octets: resident.saturating_sub(run.resident_before) as f64 / open as f64,
        resident_before: run.resident_before,
        resident,
    })
}

/// What a run in memory came to.
#[derive(Default)]
struct Run {
    probes: u64,
    engine: Duration,
    link: Duration,
    resident_before: u64,
    /// Sessions and resident memory when all were open and nothing moved.
    held: Option<(u64, u64)>,
}

/// Runs `targets` sessions, so many at once. With `hold` destinations are mute, and
/// it ends when all sessions are open and nothing moves.
fn in_memory(
    session: &SessionOptions,
    hold: bool,
    sessions: usize,
    targets: u64,
    rate: Option<f64>,
    settings: &Settings<'_>,
) -> Result<Run, BenchError> {
    let ground = Ground::simulated();
    let engine = EngineOptions {
        rate,
        sessions,
        ..EngineOptions::new(session.clone(), 61_000..=65_535, *b"no secret at all")
    };
    let (told, mut heard) = tokio::sync::mpsc::channel(4096);
    let (stop, over, stats) = (Stop::new(), AtomicBool::new(false), Stats::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut batch: Vec<Output> = Vec::with_capacity(256);
            while heard.blocking_recv_many(&mut batch, 256) > 0 {
                batch.clear();
            }
        });
        let (engine, stop, over, stats, next, ground) =
            (&engine, &stop, &over, &stats, &next, &ground);
        let worker = scope.spawn(move || {
            let told = told;
            let mut link = mirror(session.max_ttl, hold);
            if hold {
                grow(&mut link, ground, sessions)?;
            }
            let mut run = Run {
                resident_before: cpu::resident_in_use().unwrap_or(0),
                ..Run::default()
            };
            let mut held = None;
            let mut when_quiet = || {
                // Destinations are mute by a hash: a few are not.
                let open = stats.open.load(Ordering::Relaxed);
                if hold && held.is_none() && open + open / 100 >= sessions as u64 {
                    held = cpu::resident().map(|resident| (open, resident));
                    stop.end();
                }
            };
            let mut jobs = Endless {
                ground,
                next,
                end: Some(targets),
                over,
            };
            let shared = Shared::new(engine, &told, stop, stats);
            let before = clock::thread();
            let mut link = Metered::new(&mut link, &mut when_quiet);
            worker::run(&mut link, &mut jobs, &shared)?;
            let total = clock::thread().saturating_sub(before);
            run.link = link.inside();
            run.engine = total.saturating_sub(run.link);
            run.probes = stats.probes.load(Ordering::Relaxed);
            run.held = held;
            Ok::<_, BenchError>(run)
        });
        while !worker.is_finished() {
            if settings.watch.is_stopped() {
                over.store(true, Ordering::Relaxed);
                stop.end();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let run = worker.join().unwrap_or_else(|_| {
            Err(BenchError::Failed(
                "scale: the engine ended by a panic, whose message stands above".to_owned(),
            ))
        })?;
        if settings.watch.is_stopped() {
            return Err(BenchError::Interrupted);
        }
        Ok(run)
    })
}

/// The network in memory: ways of so many hops, nothing lost, nobody silent.
fn mirror(hops: u8, mute: bool) -> MirrorLink {
    let network = Network {
        key: 0x1b5e_55e5_510e,
        shortest: hops,
        longest: hops,
        balanced_first: 0,
        balanced_last: 0,
        width: 1,
        silent: 0,
        mpls: 0,
        loss: 0,
        mute: if mute { u16::MAX } else { 0 },
        refuse: 0,
    };
    MirrorLink::new(network, DELAY)
}

/// Has the link's table at its size.
fn grow(link: &mut dyn Link, ground: &Ground, sessions: usize) -> Result<(), BenchError> {
    let flows = || {
        (0..sessions as u64).filter_map(|number| {
            let job = ground.job(number)?;
            Some(crate::session::Flow {
                local: (job.route.source, 61_000).into(),
                remote: (job.target.address, job.target.port).into(),
            })
        })
    };
    for (number, flow) in flows().enumerate() {
        link.add_flow(&flow, number as u32)?;
    }
    for flow in flows() {
        link.remove_flow(&flow);
    }
    Ok(())
}

/// So many sessions at once over the real link, every hop checked.
///
/// # Errors
/// As [`trial::run`].
pub fn concurrent(
    place: &Place<'_>,
    base: &Options<'_>,
    sessions: usize,
    settings: &Settings<'_>,
) -> Result<Concurrent, BenchError> {
    settings.step(&format!("scale: {sessions} sessions against the reflector"))?;
    let options = Options {
        sessions,
        targets: Some(sessions as u64),
        session: SessionOptions {
            probes: 1,
            // Longer than it takes to open them all.
            probe_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(20),
            gap_limit: 2,
            ..base.session.clone()
        },
        duration: Duration::from_secs(120),
        grace: Duration::from_secs(120),
        check: place.check,
        ..base.clone()
    };
    let trial = trial::run(place.ground, &options, settings)?;
    Ok(Concurrent {
        link: trial.link,
        peak: trial.held.peak,
        outcome: trial.outcome,
        checked: place.check.is_some(),
        counters: trial.counters,
    })
}
