//! The loop that joins sessions and a link:
//!
//! > drain a batch of replies → sessions react → due timers → admit new
//! > sessions → one batch of segments → one kick → sleep until something is due
//!
//! All time comes from [`Link::now`]. What runs once a packet allocates nothing,
//! takes no lock and makes no system call; what runs once a session (admission,
//! its record) may.
//!
//! Sessions that run go before new ones: a target is admitted only when nobody
//! waits for the pacer. Otherwise a hundred thousand SYNs would stand before the
//! ACKs that their SYN-ACKs are waiting for.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use insession_common::flow::{BLOCK, SessionId};
use tokio::sync::mpsc;

use super::again::{self, Again};
use super::courtesy::Courtesy;
use super::deferred::Deferred;
use super::handoff::Handoff;
use super::isn::Secret;
use super::jobs::{Job, Jobs};
use super::linger::{self, Lingering};
use super::lookup::Lookup;
use super::near::NearHops;
use super::open::{Layouts, Sessions};
use super::outbox::Outbox;
use super::pacer::Pacer;
use super::ports::Ports;
use super::ready::Ready;
use super::record::{self, Clock};
use super::slab;
use super::stats::{Stats, Tally};
use super::wheel::Wheel;
use super::{EngineOptions, Output, Stop, Target, Unbegun};
use crate::link::{Link, LinkError};
use crate::session::{Flow, Handshaker, SessionOptions, Transmit, TransmitKind};
use crate::time::{Duration, Instant};
use crate::trace::{LinkInfo, Verdict};

/// No more than this many flows linger; the oldest go first. A flow map needs
/// room for them beside those of the open sessions.
pub const LINGER_MAX: usize = 1 << 16;
/// Longest sleep: how late a stop is seen and the statistics are.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// Sleep while somebody else (who reads the outputs, who holds the last session
/// permit) has to move first.
pub(super) const POLL: Duration = Duration::from_millis(2);

/// Sleep while the records of sessions that have ended are made safe.
const RECORDING: Duration = Duration::from_micros(200);

/// Of a worker that is one of more than there are ports.
#[expect(
    clippy::reversed_empty_ranges,
    reason = "an empty range is what is meant"
)]
const NO_PORTS: std::ops::RangeInclusive<u16> = 1..=0;

/// What the workers of a run share.
#[derive(Debug)]
pub struct Shared<'a> {
    /// How the run is made.
    pub options: &'a EngineOptions,
    /// Where outputs go.
    pub outputs: &'a mpsc::Sender<Output>,
    /// Asked from outside to stop the run.
    pub stop: &'a Stop,
    /// What is counted.
    pub stats: &'a Stats,
    open: AtomicUsize,
    busy: AtomicUsize,
}

impl<'a> Shared<'a> {
    /// For one run.
    #[must_use]
    pub fn new(
        options: &'a EngineOptions,
        outputs: &'a mpsc::Sender<Output>,
        stop: &'a Stop,
        stats: &'a Stats,
    ) -> Self {
        Shared {
            options,
            outputs,
            stop,
            stats,
            open: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
        }
    }

    /// Whether the run is to end: told so, or because nobody reads its outputs.
    pub(super) fn is_ended(&self) -> bool {
        self.stop.is_ended() || self.outputs.is_closed()
    }

    /// Whether no more sessions are to begin: it ends, or drains first.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_asked() || self.outputs.is_closed()
    }

    /// Whether a target that was not begun has a record when the run is stopped.
    pub(super) fn tells_unbegun(&self) -> bool {
        self.options.unbegun == Unbegun::Interrupted
    }

    /// Takes one of the run's session permits.
    fn permit(&self) -> bool {
        if let Some(recorded) = &self.options.recorded {
            self.give_back(recorded.swap(0, Ordering::Relaxed));
        }
        let most = self.options.sessions.max(1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < most).then_some(open + 1)
            })
            .is_ok()
    }

    /// Gives that many back.
    fn give_back(&self, permits: usize) {
        self.open.fetch_sub(permits, Ordering::Relaxed);
    }
}

/// Traces every target of `jobs` over `link`, on this thread; returns when each
/// has its record, or when the run was stopped and every session is closed.
///
/// # Errors
/// What the link failed of. Every job has its record then, too: open sessions
/// and jobs still to come end with verdict `error`.
pub fn run(link: &mut dyn Link, jobs: &mut dyn Jobs, shared: &Shared<'_>) -> Result<(), LinkError> {
    work(link, jobs, shared, None)
}

/// The same as one of several workers of an interface, each with a link of its own.
/// What a link receives may be another worker's: so it goes on to receive, for them,
/// as long as one of them runs.
///
/// # Errors
/// As [`run`].
pub fn run_one_of(
    link: &mut dyn Link,
    jobs: &mut dyn Jobs,
    shared: &Shared<'_>,
    handoff: Handoff,
) -> Result<(), LinkError> {
    work(link, jobs, shared, Some(handoff))
}

fn work(
    link: &mut dyn Link,
    jobs: &mut dyn Jobs,
    shared: &Shared<'_>,
    handoff: Option<Handoff>,
) -> Result<(), LinkError> {
    let mut worker = Worker::new(link, shared, handoff);
    worker.set_busy(true);
    tracing::debug!(link = ?worker.info, "worker begins");
    let mut result = worker.run(link, jobs).and_then(|()| worker.leave(link));
    if let Err(error) = &result {
        tracing::debug!(%error, "worker's link failed");
        worker.fail(link, jobs, error);
    }
    worker.set_busy(false);
    worker.publish_link(link);
    worker.tally.publish_latency(shared.stats);
    if let (Ok(()), Some(mut handoff)) = (&result, worker.handoff.take()) {
        worker.tally.publish(shared.stats);
        result = handoff
            .serve(link)
            .map(|unclaimed| worker.tally.unclaimed += unclaimed);
        worker.handoff = Some(handoff);
        worker.publish_link(link);
    }
    tracing::debug!(link = ?worker.info, "worker ends");
    result
}

pub(super) struct Worker<'a> {
    pub(super) shared: &'a Shared<'a>,
    /// The run's, with the handshake that this link makes.
    pub(super) options: SessionOptions,
    pub(super) kernel_owned: bool,
    /// What becomes of each probe is looked at: [`EngineOptions::live`], or for
    /// [`EngineOptions::router_rate`].
    pub(super) watched: bool,
    /// Sessions are in connections of others.
    pub(super) adopts: bool,
    /// [`EngineOptions::router_rate`].
    pub(super) courtesy: Option<Box<Courtesy>>,
    /// [`EngineOptions::share_near_hops`].
    pub(super) near: Option<Box<NearHops>>,
    pub(super) info: Arc<LinkInfo>,
    clock: Clock,
    pub(super) secret: Secret,
    pub(super) open: Sessions,
    pub(super) layouts: Layouts,
    pub(super) ready: Ready,
    pub(super) wheel: Wheel,
    pub(super) lookup: Lookup,
    pub(super) ports: Ports,
    /// Those that sessions have in blocks: none, where no method wants any.
    pub(super) blocks: Ports,
    /// Targets that go on by another method.
    pub(super) again: VecDeque<Again>,
    pub(super) pacer: Pacer,
    pub(super) outbox: Outbox<'a>,
    pub(super) tally: Tally,
    pub(super) lingering: Lingering,
    /// To and from the other workers of the interface, where there are any.
    pub(super) handoff: Option<Handoff>,
    /// The batch being built: the slot of whose segment it is, and what for.
    pub(super) batch: Vec<(u32, TransmitKind)>,
    /// When its frames left: room for what the link tells.
    pub(super) departures: Vec<Instant>,
    /// Frames a kick.
    pub(super) batch_size: usize,
    /// A job that waits until a session ends, and the flow that it had waited for.
    pub(super) parked: Option<(Job, Option<Flow>)>,
    /// Jobs that wait for a flow to their target.
    pub(super) deferred: Deferred,
    /// Session permits of the run that this worker has.
    permits: usize,
    /// A segment that the link had no room for after all.
    pub(super) held: Option<(SessionId, Transmit)>,
    pub(super) identification: u16,
    /// Whether a new job ends the link's sleep.
    wakeable: bool,
    busy: bool,
    pub(super) supply: Awaited,
    /// Since when no session begins any more.
    pub(super) draining: Option<Instant>,
    /// Open sessions are closed: when they are given up.
    pub(super) stopping: Option<Instant>,
    next_report: Instant,
}

/// What the supply of targets last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// There may be one at once.
    Job,
    /// One may come.
    Later,
    /// All permits are out.
    Permit,
    /// As many wait for a port as may: no more are taken until one has it.
    Port,
    /// None will.
    Nothing,
}

/// The blocks that lie in a slice of the ports as a whole.
fn whole_blocks(slice: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let block = u32::from(BLOCK);
    let first = u32::from(*slice.start()).next_multiple_of(block);
    let end = (u32::from(*slice.end()) + 1) / block * block;
    match u16::try_from(first) {
        Ok(start) if first < end => start..=(end - 1) as u16,
        _ => NO_PORTS,
    }
}

impl<'a> Worker<'a> {
    fn new(link: &dyn Link, shared: &'a Shared<'a>, handoff: Option<Handoff>) -> Self {
        let now = link.now();
        let options = shared.options;
        let slice = |all: RangeInclusive<u16>| match &handoff {
            Some(handoff) => handoff.ports(&all).unwrap_or(NO_PORTS),
            None => all,
        };
        let ports = slice(options.singles());
        let secret = Secret::new(&options.secret);
        let blocks = options.blocks().map_or(NO_PORTS, slice);
        let batch_size = options.batch.unwrap_or_else(|| link.batch()).max(1);
        let kernel_owned = link.kernel_owns_connections();
        let mut session = options.session.clone();
        if kernel_owned {
            session.handshaker = Handshaker::Kernel;
        }
        Worker {
            shared,
            options: session,
            kernel_owned,
            watched: options.live || options.router_rate.is_some(),
            adopts: options.conversation.adopted().is_some(),
            courtesy: options
                .router_rate
                .map(|rate| Box::new(Courtesy::new(rate, &options.session))),
            near: options
                .share_near_hops
                .then(|| Box::new(NearHops::new(options.session.first_ttl))),
            info: link.info().into(),
            clock: Clock::new(now),
            secret,
            open: Sessions::new(handoff.as_ref().map_or(0, Handoff::number)),
            layouts: Layouts::default(),
            ready: Ready::default(),
            wheel: Wheel::new(now),
            lookup: Lookup::new(slice(options.ports.clone()), options.sessions, secret),
            ports: Ports::new(ports, secret),
            blocks: Ports::in_blocks(whole_blocks(&blocks), secret),
            again: VecDeque::new(),
            pacer: Pacer::new(options.rate),
            outbox: Outbox::new(shared.outputs),
            tally: Tally::default(),
            lingering: Lingering::default(),
            batch: Vec::with_capacity(batch_size),
            departures: vec![now; batch_size],
            batch_size,
            parked: None,
            deferred: Deferred::default(),
            permits: 0,
            held: None,
            identification: 0,
            wakeable: link.waker().is_some(),
            busy: false,
            supply: Awaited::Job,
            draining: None,
            stopping: None,
            next_report: now,
            handoff,
        }
    }

    fn run(&mut self, link: &mut dyn Link, jobs: &mut dyn Jobs) -> Result<(), LinkError> {
        loop {
            let now = link.now();
            self.look_for_stop(now);
            if matches!(
                self.supply,
                Awaited::Later | Awaited::Permit | Awaited::Port
            ) {
                self.supply = Awaited::Job;
            }

            let received = self.receive(link, now)?;
            let now = link.now();
            let fired = self.timers(now);
            self.be_courteous(now);
            self.let_go_due(link, now);
            let admitted = self.admit(link, jobs, now)?;
            let sent = self.transmit(link, now)?;
            let idle = !(received > 0 || fired || admitted || sent);
            if idle || self.shared.options.live || now >= self.next_report {
                self.outbox.drain();
            } else {
                self.outbox.drain_many();
            }

            let waits = !self.deferred.is_empty() || !self.again.is_empty();
            let begins = self.supply == Awaited::Job || waits;
            self.set_busy(!self.open.is_empty() || begins);
            self.tally.publish(self.shared.stats);
            if now >= self.next_report {
                self.next_report = now + HEARTBEAT;
                self.publish_link(link);
                self.tally.publish_latency(self.shared.stats);
            }

            if !idle {
                continue;
            }
            // What waits for a port is waked by a flow that lingers no longer.
            if self.open.is_empty() && self.outbox.is_empty() && !waits {
                match self.supply {
                    Awaited::Nothing => return Ok(()),
                    // No packet is awaited, and none of ours waits for a kick:
                    // nothing is missed by not looking.
                    // But where others' frames come here, they wait for us.
                    Awaited::Later if self.handoff.is_none() && link.in_flight() == 0 => {
                        jobs.wait(HEARTBEAT);
                        continue;
                    }
                    Awaited::Later | Awaited::Job | Awaited::Permit | Awaited::Port => {}
                }
            }
            let until = self.wake_at(now);
            if until > now && self.handoff.as_mut().is_none_or(Handoff::may_sleep) {
                let waited = link.wait(until);
                if let Some(handoff) = &self.handoff {
                    handoff.awake();
                }
                waited?;
            }
        }
    }

    /// Lets sessions go on whose turn has come.
    fn be_courteous(&mut self, now: Instant) {
        if let Some(courtesy) = &mut self.courtesy {
            let (outbox, tally) = (&mut self.outbox, &mut self.tally);
            courtesy.look(now, &mut |slowed| {
                tally.slowed += 1;
                outbox.push(slowed);
            });
            courtesy.release(&mut self.ready, now);
            tally.held += courtesy.take_held();
        }
    }

    fn publish_link(&mut self, link: &mut dyn Link) {
        let mut counters = link.counters();
        if let Some(handoff) = &self.handoff {
            handoff.count(&mut counters);
        }
        self.tally.publish_link(self.shared.stats, counters);
    }

    /// When there is something to do again, unless a frame comes first.
    fn wake_at(&self, now: Instant) -> Instant {
        let mut until = now + HEARTBEAT;
        let mut sooner = |at: Instant| until = until.min(at);
        if let Some(at) = self.wheel.next() {
            sooner(at);
        }
        if let Some(at) = self.lingering.next() {
            sooner(at);
        }
        let waits = self.deferred.is_released() || !self.again.is_empty();
        let begins = self.supply == Awaited::Job || waits;
        let wants = !self.ready.is_empty() || self.held.is_some() || begins;
        if wants && self.pacer.allowance(now) == 0 {
            sooner(self.pacer.next(now));
        }
        if let Some(courtesy) = &self.courtesy {
            courtesy.next(now).into_iter().for_each(&mut sooner);
            let later = courtesy.may_begin(now).err().filter(|_| begins);
            later.into_iter().for_each(&mut sooner);
        }
        let unwoken = self.supply == Awaited::Later && !self.wakeable;
        if !self.outbox.is_empty() || self.supply == Awaited::Permit || unwoken {
            sooner(now + POLL);
        }
        // Who records is quick, and few sessions at a time wait for it each time.
        if self.supply == Awaited::Permit && self.shared.options.recorded.is_some() {
            sooner(now + RECORDING);
        }
        if let (Some(end), false) = (self.next_step(), self.open.is_empty()) {
            sooner(end);
        }
        until
    }

    /// Takes one of the run's session permits. Of several workers of an interface
    /// none takes more than its share: whoever is first would have them all.
    pub(super) fn permit(&mut self) -> bool {
        let workers = self.handoff.as_ref().map_or(1, Handoff::workers);
        let share = self.shared.options.sessions.max(1).div_ceil(workers);
        let permitted = self.permits < share && self.shared.permit();
        self.permits += usize::from(permitted);
        permitted
    }

    pub(super) fn give_back_permit(&mut self) {
        self.permits -= 1;
        self.shared.give_back(1);
    }

    /// A session has ended: gives its permit back, or leaves that to who records.
    fn release_permit(&mut self) {
        self.permits -= 1;
        if self.shared.options.recorded.is_none() {
            self.shared.give_back(1);
        }
    }

    /// Workers that have something to do share the rate.
    pub(super) fn set_busy(&mut self, busy: bool) {
        if busy != self.busy {
            self.busy = busy;
            if busy {
                self.shared.busy.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shared.busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let workers = self.shared.busy.load(Ordering::Relaxed);
        self.pacer.share(workers);
        if let Some(courtesy) = &mut self.courtesy {
            courtesy.share(workers);
        }
    }

    /// Turns a session into its record. Its flow goes on to be steered to us
    /// for a while.
    pub(super) fn finish(&mut self, id: SessionId, now: Instant) {
        let Some((session, open)) = self.open.remove(id) else {
            return;
        };
        let slot = slab::index(id);
        self.wheel.cancel(slot);
        let flow = session.flow();
        self.lookup.remove(&flow, slot);
        self.tally.open -= 1;
        self.tally.established -= u64::from(open.is_established());
        if let Some(courtesy) = &mut self.courtesy {
            courtesy.leave(slot, open.is_established());
        }
        let index = open.index;
        let (remote, method) = (session.target_port(), session.method());
        let remote = SocketAddr::new(flow.remote.ip(), remote);
        let mut report = session.into_report(now);
        // A connection that the kernel owns is closed by taking its flow away.
        let linger = if self.kernel_owned && method.is_in_session() {
            Duration::ZERO
        } else {
            linger::span(&report)
        };
        self.lingering.insert(&flow, now + linger);
        if let Some(near) = &mut self.near {
            let hops = near.finished(open.layout_id().index(), &mut report);
            let probes = hops * usize::from(self.options.probes);
            self.tally.saved += probes as u64;
        }
        let (target, route, note) = open.into_target(remote);
        if self.draining.is_none()
            && self.shared.options.on_handshake_failure.is_some()
            && let (Some(why), Some(route)) = (again::why(&report), route)
        {
            let job = Job { target, route };
            self.again.push_back(Again { job, why });
            // It has no record of its own that somebody could keep.
            self.give_back_permit();
            return;
        }
        self.release_permit();
        if let Some(note) = note {
            report.detail = Some(match report.detail {
                Some(detail) => format!("{note}; {detail}"),
                None => note,
            });
        }
        let info = self.info.clone();
        let trace = record::of_session(target, &flow, report, info, &self.clock);
        self.tally.finished += 1;
        self.outbox.push(Output::Trace {
            index,
            trace: Box::new(trace),
        });
    }

    /// The record of a target that gets no session.
    pub(super) fn refuse(
        &mut self,
        target: Target,
        source: IpAddr,
        now: Instant,
        verdict: Verdict,
        detail: Option<String>,
    ) {
        let index = target.index;
        let started = self.clock.unix(now);
        let link = Some(self.info.clone());
        let trace = record::without_session(
            target,
            self.options.method,
            Some(source),
            link,
            started,
            verdict,
            detail,
        );
        self.tally.finished += 1;
        self.outbox.push(Output::Trace {
            index,
            trace: Box::new(trace),
        });
    }

    /// Frees the flows that have lingered long enough.
    pub(super) fn let_go_due(&mut self, link: &mut dyn Link, now: Instant) {
        while self.lingering.next().is_some_and(|until| until <= now)
            || self.lingering.len() > LINGER_MAX
        {
            self.let_go(link, 1);
        }
    }

    /// Frees that many lingering flows, those that may go first; whether there
    /// was one.
    pub(super) fn let_go(&mut self, link: &mut dyn Link, flows: usize) -> bool {
        for freed in 0..flows {
            let Some(flow) = self.lingering.pop() else {
                return freed > 0;
            };
            link.remove_flow(&flow);
            self.ports.give_back(&flow);
            self.blocks.give_back(&flow);
            self.deferred.release(&flow);
        }
        true
    }

    /// A job that was taken and not begun: none is to be any more.
    pub(super) fn unbegun(&mut self) -> Option<Job> {
        let parked = self.parked.take().map(|(job, _)| job);
        let again = || self.again.pop_front().map(|again| again.job);
        parked.or_else(again).or_else(|| self.deferred.pop_any())
    }
}

/// A worker that panics must not take the others' permits and rate with it.
impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.set_busy(false);
        self.shared.give_back(self.permits);
        (self.tally.open, self.tally.established) = (0, 0);
        self.tally.publish(self.shared.stats);
    }
}
