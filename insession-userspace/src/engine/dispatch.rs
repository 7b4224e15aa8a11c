//! Targets in, traces out: routes each target, opens the links of an egress
//! interface, runs one worker thread a link (`crew`).
//!
//! Three kinds of threads, so that what may block blocks nobody else: one pulls
//! the targets (standard input, a resolver), the caller's own routes them, and
//! the workers send and receive. A target whose neighbour is not known yet is
//! parked, and others are routed meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::chunks::{self, Taker};
use super::crew::{Crew, Undone};
use super::jobs::Job;
use super::record::{self, today};
use super::stats::Stats;
use super::worker::Shared;
use super::{EngineOptions, Output, Stop, Target};
use crate::link::{Link, LinkError};
use crate::net::{Interface, NextHop, Route};
use crate::trace::Verdict;

/// Targets that are pulled before there is a worker for them.
const PULLED: usize = 128;
/// Targets that are routed before their worker asks for them.
pub(super) const ROUTED: usize = 256;
/// How late a stop is seen while no target comes.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// After a stop: how long targets that come at once are still taken, to get
/// their record, and how long a pause ends that. A supply may be endless.
const REST: Duration = Duration::from_secs(2);
const REST_PAUSE: Duration = Duration::from_millis(100);

/// Targets that are parked at most: behind a dead gateway there may be many.
const PARKED: usize = 65_536;
/// How late a new target is seen, or a neighbour's answer while they come one
/// by one, as long as targets are parked: there is no waiting for both at once.
const BRIEF: Duration = Duration::from_millis(10);

/// Finds ways. Implemented by `net::Router`, and by a table in tests.
pub trait Routing {
    /// The way to `target`, without waiting for anybody.
    ///
    /// # Errors
    /// The text that goes into the record of the target, and its verdict.
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure>;

    /// Waits at most `limit`, and only while none is; the neighbours that are
    /// settled since the last call: found, or given up. Called only while a
    /// target is parked; each neighbour of a [`Way::Pending`] is told some time.
    fn settled(&mut self, limit: Duration) -> Vec<NextHop> {
        thread::sleep(limit);
        Vec::new()
    }
}

/// What [`Routing::route`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The way.
    Known(Route),
    /// To be asked again when this neighbour is settled.
    Pending(NextHop),
}

/// Why there is no way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFailure {
    /// `NoRoute`, or `Error` for a neighbour that does not answer.
    pub verdict: Verdict,
    /// The reason, and the mend.
    pub detail: String,
}

/// The links of an interface: one worker each.
pub type OpenLinks = Vec<Box<dyn Link + Send>>;

/// Opens links, at least one: called once an egress interface, on the thread that
/// will use the first.
pub type OpenLink = dyn Fn(&Interface) -> Result<OpenLinks, LinkError> + Send + Sync;

/// What [`run`] is given: pulled on a thread of its own as there is room for more.
/// `next` may block where [`Iterator::size_hint`] promises none; those that it does
/// promise are pulled together.
pub type Targets = Box<dyn Iterator<Item = Target> + Send>;

/// Traces every target; returns when each has its record in `outputs`, or when
/// `stop` was asked for and every open session is closed (records say
/// `interrupted`; of targets that were not begun [`EngineOptions::unbegun`] says
/// what is told).
///
/// Blocking: runs on a thread of its own, which is not one of an async runtime.
/// When it was stopped while `targets` blocks, a thread is left behind that ends
/// when `targets` goes on.
///
/// # Errors
/// When no link could be opened at all. A link that cannot be opened, or fails
/// later, ends its targets with verdict `error`; the run goes on with the others.
/// Where nothing is told of targets that were not begun, it is an error in the end
/// that they were not: whoever keeps account has them traced when the link is mended.
/// But when the first of all is not permitted, none will be: the run ends at once.
pub fn run(
    targets: Targets,
    routing: &mut dyn Routing,
    open: &OpenLink,
    options: &EngineOptions,
    outputs: &mpsc::Sender<Output>,
    stop: &Arc<Stop>,
    stats: &Arc<Stats>,
) -> Result<(), LinkError> {
    let shared = Shared::new(options, outputs, stop, stats);
    let links = Links::default();
    let mut pulled = pull(targets).map_err(|source| LinkError::System {
        what: "starting a thread for the targets".into(),
        source,
    })?;
    thread::scope(|scope| {
        let mut crews = BTreeMap::new();
        let mut queue = Queue::new(&mut pulled);
        while !shared.is_stopped() && !links.are_forbidden() {
            if !queue.is_at_hand() {
                for crew in crews.values_mut() {
                    shared.tell_undone(Crew::hand_over(crew));
                }
            }
            let target = match queue.next(routing) {
                Ok(target) => target,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let route = match routing.route(&target) {
                Ok(Way::Known(route)) => route,
                Ok(Way::Pending(neighbour)) => {
                    queue.park(target, neighbour);
                    continue;
                }
                Err(RouteFailure { verdict, detail }) => {
                    shared.tell(target, verdict, Some(detail));
                    continue;
                }
            };
            let crew = crews
                .entry(route.interface.index)
                .or_insert_with(|| Crew::spawn(scope, &route.interface, open, &shared, &links));
            shared.tell_undone(crew.give(Job { target, route }));
        }
        // No more jobs; who sleeps learns of it, or of the stop.
        for crew in crews.into_values() {
            shared.tell_undone(crew.dismiss());
        }
        if shared.is_stopped() && shared.tells_unbegun() {
            for target in queue.into_taken() {
                shared.tell(target, Verdict::Interrupted, None);
            }
            shared.tell_rest(&mut pulled);
        }
    });
    links.result(shared.tells_unbegun())
}

/// Pulls targets, no faster than they are taken.
fn pull(mut targets: Targets) -> std::io::Result<Taker<Target>> {
    let (mut giver, taker) = chunks::channel(PULLED);
    thread::Builder::new()
        .name("targets".into())
        .spawn(move || {
            while let Some(target) = targets.next() {
                let next_may_block = targets.size_hint().0 == 0;
                if (giver.add(target) || next_may_block) && giver.hand_over().is_err() {
                    break;
                }
            }
            // Fails when nobody takes them any more.
            let _ = giver.hand_over();
        })?;
    Ok(taker)
}

/// The targets to route: those that are pulled, and those that were parked.
struct Queue<'a> {
    pulled: &'a mut Taker<Target>,
    /// No more are pulled.
    ended: bool,
    parked: HashMap<NextHop, Vec<Target>>,
    count: usize,
    /// Parked no longer.
    released: VecDeque<Target>,
}

impl<'a> Queue<'a> {
    fn new(pulled: &'a mut Taker<Target>) -> Self {
        Queue {
            pulled,
            ended: false,
            parked: HashMap::new(),
            count: 0,
            released: VecDeque::new(),
        }
    }

    /// Whether there is a target to route without waiting for it.
    fn is_at_hand(&mut self) -> bool {
        !self.released.is_empty() || self.pulled.is_at_hand()
    }

    /// The next target to route; waits for it a moment.
    fn next(&mut self, routing: &mut dyn Routing) -> Result<Target, RecvTimeoutError> {
        if let Some(target) = self.released.pop_front() {
            return Ok(target);
        }
        if self.count == 0 {
            if self.ended {
                return Err(RecvTimeoutError::Disconnected);
            }
            return self.pulled.take_within(HEARTBEAT);
        }
        let mut limit = HEARTBEAT;
        if !self.ended && self.count < PARKED {
            match self.pulled.try_take() {
                Ok(target) => {
                    self.release(routing, Duration::ZERO);
                    return Ok(target);
                }
                Err(TryRecvError::Empty) => limit = BRIEF,
                Err(TryRecvError::Disconnected) => self.ended = true,
            }
        }
        self.release(routing, limit);
        Err(RecvTimeoutError::Timeout)
    }

    fn park(&mut self, target: Target, neighbour: NextHop) {
        self.parked.entry(neighbour).or_default().push(target);
        self.count += 1;
    }

    fn release(&mut self, routing: &mut dyn Routing, limit: Duration) {
        for neighbour in routing.settled(limit) {
            let targets = self.parked.remove(&neighbour).unwrap_or_default();
            self.count -= targets.len();
            self.released.extend(targets);
        }
    }

    /// Those that were pulled and not routed.
    fn into_taken(self) -> impl Iterator<Item = Target> {
        self.released
            .into_iter()
            .chain(self.parked.into_values().flatten())
    }
}

/// How opening the links went.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Opened>);

#[derive(Debug, Default)]
struct Opened {
    links: usize,
    first_error: Option<LinkError>,
}

impl Links {
    pub(super) fn opened(&self) {
        self.with(|opened| opened.links += 1);
    }

    pub(super) fn failed(&self, error: LinkError) {
        self.with(|opened| {
            opened.first_error.get_or_insert(error);
        });
    }

    /// Whether this process may not open links.
    fn are_forbidden(&self) -> bool {
        self.with(|opened| {
            opened.links == 0
                && matches!(
                    opened.first_error,
                    Some(LinkError::NotPermitted { .. } | LinkError::LockedMemory { .. })
                )
        })
    }

    /// Errors of some links alone are told by the records of their targets, if these
    /// have some.
    fn result(&self, are_told: bool) -> Result<(), LinkError> {
        self.with(|opened| match opened.first_error.take() {
            Some(error) if opened.links == 0 || !are_told => Err(error),
            _ => Ok(()),
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Opened) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared<'_> {
    /// The record of a target that got to no worker.
    pub(super) fn tell(&self, target: Target, verdict: Verdict, detail: Option<String>) {
        let index = target.index;
        let trace = record::without_session(
            target,
            self.options.session.method,
            None,
            None,
            today(),
            verdict,
            detail,
        );
        self.stats.finished.fetch_add(1, Ordering::Relaxed);
        let trace = Box::new(trace);
        // Fails when nobody reads: then the run is stopping.
        let _ = self.outputs.blocking_send(Output::Trace { index, trace });
    }

    /// The records of jobs that no worker takes.
    fn tell_undone(&self, given: Result<(), Undone>) {
        let Err(Undone { jobs, detail }) = given else {
            return;
        };
        if !self.tells_unbegun() {
            return;
        }
        for job in jobs {
            self.tell(job.target, Verdict::Error, Some(detail.clone()));
        }
    }

    /// The records of the targets that a stopped run had not come to.
    fn tell_rest(&self, pulled: &mut Taker<Target>) {
        let begin = std::time::Instant::now();
        while begin.elapsed() < REST
            && !self.outputs.is_closed()
            && let Ok(target) = pulled.take_within(REST_PAUSE)
        {
            self.tell(target, Verdict::Interrupted, None);
        }
    }
}
