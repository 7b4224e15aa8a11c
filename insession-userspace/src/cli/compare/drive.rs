//! The runs: in each, every method after the other traces all targets, so that all of
//! them see the same network. The engine is of one method: each has one of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::arguments::Arguments;
use super::ports;
use super::progress::{Progress, REFRESH};
use crate::cli::exit::{self, Failure};
use crate::cli::interrupt::{self, Step};
use crate::cli::probing::Probing;
use crate::cli::probing::engine::{Channels, Engine};
use crate::cli::trace::sink::{Closed, Sink};
use crate::compare::Packets;
use crate::dns::Dns;
use crate::dns::bulk::Bulk;
use crate::dns::names::Names;
use crate::engine::stats::Stats;
use crate::engine::{Output, Stop, Target};
use crate::net;
use crate::owners::Owners;
use crate::session::SessionOptions;
use crate::targets::spec::Host;
use crate::trace::{Method, Trace};
use crate::wire::ip;

/// Outputs that the engine may be ahead of us.
const AHEAD: usize = 4096;
/// The names of a method's hops are waited for so long.
const GRACE: Duration = Duration::from_millis(1500);
/// After a signal the engine closes its sessions, and gives up by itself in less time.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// Then what there is is drawn and written.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What all runs came to.
pub struct Driven {
    /// All records.
    pub traces: Vec<Trace>,
    /// Packets a method sent.
    pub packets: Packets,
    /// The exit code.
    pub code: u8,
    /// Where records went.
    pub sink: Option<Sink>,
}

/// A method, and how it probes.
struct Way {
    method: Method,
    probing: Probing,
    session: SessionOptions,
}

/// A target whose address is known.
struct Resolved {
    index: u64,
    name: String,
    address: IpAddr,
    /// Where one was named with it.
    port: Option<u16>,
}

impl Way {
    /// A target as it is traced by this method. Ports that were named are those of
    /// services over TCP: datagrams are to find nobody, and go where traceroute sends
    /// them.
    fn target(&self, resolved: &Resolved) -> Target {
        let named = resolved.port.or(self.probing.port);
        let named = named.filter(|_| self.method.protocol(false) != ip::PROTOCOL_UDP);
        let unnamed = Probing {
            port: None,
            ..self.probing.clone()
        };
        Target {
            index: resolved.index,
            name: resolved.name.clone(),
            address: resolved.address,
            port: named.unwrap_or_else(|| unnamed.asked().port),
        }
    }
}

/// Makes all runs.
///
/// # Errors
/// When they could not begin, or the engine failed.
pub async fn run(arguments: &Arguments, sink: Option<Sink>) -> Result<Driven, Failure> {
    let available = match &arguments.probing.source_ports {
        Some(ports) => ports.clone(),
        None => net::ports::default_range().map_err(|error| Failure {
            code: exit::NO_LINK,
            message: error.to_string(),
        })?,
    };
    let all = arguments.methods();
    let ways = all.iter().map(|method| {
        let mut probing = arguments.probing.clone();
        probing.method = *method;
        // The others carry none.
        probing.request = probing.request.filter(|_| *method == Method::Sidecar);
        let session = probing.session()?;
        probing.source_ports = Some(ports::of(*method, &all, &available, arguments.keep_flow)?);
        Ok(Way {
            method: *method,
            probing,
            session,
        })
    });
    let ways: Vec<Way> = ways.collect::<Result<_, Failure>>()?;
    let family = arguments.probing.family()?;
    for target in &arguments.targets {
        arguments.probing.fits(target, family)?;
    }
    let stop = Arc::new(Stop::new());
    let asked = Arc::clone(&stop);
    let step = Step::new(move || asked.end(), STOP_GRACE + LAST_WORDS);
    let interrupted = interrupt::listen(vec![step]).map_err(|error| {
        Failure::failed(format!(
            "signal handlers: {error}; raise the limit of open files"
        ))
    })?;
    let dns = Arc::new(Dns::from_system(family));
    let mut failed = false;
    let targets = resolve(arguments, &dns, &mut failed).await?;
    let names = match arguments.probing.numeric {
        true => Names::off(),
        false => Names::by_dns(dns),
    };
    let each = u64::try_from(ways.len() * targets.len()).unwrap_or(u64::MAX);
    let mut drive = Drive {
        progress: Progress::new(
            arguments.progress,
            each.saturating_mul(arguments.runs.into()),
        ),
        targets,
        names,
        owners: arguments.probing.owners()?,
        stop,
        interrupted,
        traces: Vec::new(),
        packets: Packets::new(),
        sink,
        failed,
    };
    'runs: for run in 1..=arguments.runs {
        for way in &ways {
            drive
                .progress
                .begin(run, arguments.runs, way.method.as_str());
            drive.trace(way).await?;
            if drive.stop.is_asked() {
                break 'runs;
            }
        }
    }
    let interrupted = *drive.interrupted.borrow() > 0;
    Ok(Driven {
        traces: drive.traces,
        packets: drive.packets,
        code: super::code(interrupted, drive.failed),
        sink: drive.sink,
    })
}

/// The addresses of all targets, once for all runs. A name that has none is told, and
/// left out.
async fn resolve(
    arguments: &Arguments,
    dns: &Arc<Dns>,
    failed: &mut bool,
) -> Result<Vec<Resolved>, Failure> {
    let mut bulk = Bulk::by_dns(Arc::clone(dns));
    let mut found = Vec::new();
    let mut last = None;
    for (nth, spec) in arguments.targets.iter().enumerate() {
        match &spec.host {
            Host::Address(address) => found.push((nth, *address)),
            Host::Name(host) => bulk.ask(host, nth),
        }
    }
    while !bulk.is_idle() {
        for (nth, answer) in bulk.answered().await {
            match answer {
                Ok(address) => found.push((nth, address)),
                Err(why) => {
                    exit::tell(format_args!("warning: {why}; left out"));
                    *failed = true;
                    last = Some(why);
                }
            }
        }
    }
    found.sort_unstable();
    let targets: Vec<Resolved> = (0..)
        .zip(found)
        .filter_map(|(index, (nth, address))| {
            let spec = arguments.targets.get(nth)?;
            Some(Resolved {
                index,
                name: spec.name.clone(),
                address,
                port: spec.port,
            })
        })
        .collect();
    match (targets.is_empty(), last) {
        (true, Some(why)) => Err(Failure::failed(why)),
        _ => Ok(targets),
    }
}

/// What goes on.
struct Drive {
    progress: Progress,
    targets: Vec<Resolved>,
    names: Names,
    owners: Option<Arc<Owners>>,
    stop: Arc<Stop>,
    interrupted: watch::Receiver<usize>,
    traces: Vec<Trace>,
    packets: Packets,
    sink: Option<Sink>,
    failed: bool,
}

impl Drive {
    /// Traces all targets by one method.
    async fn trace(&mut self, way: &Way) -> Result<(), Failure> {
        let engine = Engine::new(&way.probing, &way.session, |_| {})?;
        let stats = Arc::new(Stats::default());
        let (to_engine, targets) = mpsc::channel(self.targets.len().max(1));
        for target in &self.targets {
            // There is room for all of them.
            let _ = to_engine.try_send(way.target(target));
        }
        drop(to_engine);
        let (told, mut outputs) = mpsc::channel(AHEAD);
        let ended = engine.start(Channels {
            targets,
            outputs: told,
            openings: None,
            stop: Arc::clone(&self.stop),
            stats: Arc::clone(&stats),
        })?;
        let begun = self.traces.len();
        let mut tick = tokio::time::interval(REFRESH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut give_up: Option<Instant> = None;
        loop {
            tokio::select! {
                output = outputs.recv() => match output {
                    Some(Output::Trace { trace, .. }) => {
                        self.names.want_all(&trace);
                        self.traces.push(*trace);
                    }
                    Some(_) => {}
                    None => break,
                },
                () = self.names.step() => {}
                _ = tick.tick() => self.progress.tick(&stats),
                () = until(give_up) => {
                    return Err(Failure::failed(
                        "the engine: it did not close its sessions in time; report it",
                    ));
                }
            }
            if give_up.is_none() && self.stop.is_asked() {
                give_up = Some(Instant::now() + STOP_GRACE);
            }
        }
        self.name(begun).await;
        let sent = stats.sent.load(Ordering::Relaxed);
        *self.packets.entry(way.method).or_default() += sent;
        self.write(begun)?;
        self.progress.end((self.traces.len() - begun) as u64);
        match ended.await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Failure::failed(
                "the engine: it ended by a panic, whose message stands above; report it",
            )),
        }
    }

    /// Gives the hops of what was traced since `begun` their owners, and the names that
    /// are known in time.
    async fn name(&mut self, begun: usize) {
        let until = Instant::now() + GRACE;
        let new = self.traces.get_mut(begun..).unwrap_or_default();
        while !self.stop.is_asked() && !new.iter().all(|trace| self.names.settled(trace)) {
            if tokio::time::timeout_at(until, self.names.step())
                .await
                .is_err()
            {
                break;
            }
        }
        for trace in new {
            self.names.fill(trace);
            if let Some(owners) = &self.owners {
                owners.fill(trace);
            }
        }
    }

    /// Writes what was traced since `begun`.
    fn write(&mut self, begun: usize) -> Result<(), Failure> {
        let new = self.traces.get(begun..).unwrap_or_default();
        self.failed |= new.iter().any(|trace| trace.verdict.is_failure());
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let mut line = Vec::new();
        for trace in new {
            line.clear();
            if let Err(Closed::Failed(failure)) = sink.trace(trace, &mut line) {
                return Err(failure);
            }
        }
        match sink.flush() {
            Err(Closed::Failed(failure)) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Never, where there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
