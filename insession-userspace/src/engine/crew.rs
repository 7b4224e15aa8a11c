//! The workers of one interface: one a link, each on a thread of its own, which take
//! their jobs from one supply: whoever has room for a session takes the next.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use super::chunks::{self, Giver, Taker};
use super::dispatch::{HEARTBEAT, Links, OpenLink, OpenLinks, ROUTED};
use super::handoff::Handoff;
use super::jobs::{Channel, Job, Jobs, Supply};
use super::worker::{self, Shared};
use crate::link::{Link, LinkError};
use crate::net::Interface;
use crate::trace::Verdict;

/// The workers as who gives them jobs sees them.
pub(super) struct Crew {
    jobs: Giver<Job>,
    bells: Arc<Bells>,
    /// Whose bell is the next to be rung.
    turn: Cell<usize>,
}

/// Jobs that no worker takes.
#[derive(Debug)]
pub(super) struct Undone {
    pub(super) jobs: Vec<Job>,
    /// Why.
    pub(super) detail: String,
}

/// A bell for each worker, when there are some.
type Bells = OnceLock<Vec<Bell>>;

/// What wakes a worker.
#[derive(Debug)]
struct Bell {
    /// The worker found no job the last time it looked.
    hungry: AtomicBool,
    waker: Option<File>,
}

impl Bell {
    fn new(waker: Option<Arc<OwnedFd>>) -> Self {
        Bell {
            hungry: AtomicBool::new(false),
            // A link without one, or no descriptor left: the worker looks by itself.
            waker: waker
                .and_then(|waker| waker.try_clone().ok())
                .map(File::from),
        }
    }

    fn ring(&self) {
        if let Some(mut waker) = self.waker.as_ref() {
            // Fails only when 2^64 - 2 wakes are pending: it is awake.
            let _ = waker.write_all(&1u64.to_ne_bytes());
        }
    }
}

impl Crew {
    /// Starts the first worker, which opens the links and starts the others.
    pub(super) fn spawn<'scope, 'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        interface: &Interface,
        open: &'env OpenLink,
        shared: &'env Shared<'env>,
        links: &'env Links,
    ) -> Self {
        let (giver, taker) = chunks::channel(ROUTED);
        let bells = Arc::new(Bells::new());
        let (interface, rung) = (interface.clone(), Arc::clone(&bells));
        let spawned = thread::Builder::new()
            .name(format!("worker {}", interface.name))
            .spawn_scoped(scope, move || {
                let jobs = Mutex::new(taker);
                match open(&interface) {
                    Ok(opened) if !opened.is_empty() => {
                        links.opened();
                        rung.get_or_init(|| {
                            opened.iter().map(|link| Bell::new(link.waker())).collect()
                        });
                        work(&interface, opened, &jobs, &rung, shared, links);
                    }
                    other => {
                        let error = other
                            .err()
                            .unwrap_or_else(|| LinkError::NoInterface(interface.name.clone()));
                        tracing::warn!(interface = interface.name, %error, "no link");
                        let detail = error.to_string();
                        links.failed(error);
                        let hungry = AtomicBool::new(false);
                        let mut jobs = Channel::new(&jobs, None, &hungry);
                        refuse_all(&mut jobs, shared, &detail);
                    }
                }
            });
        if let Err(source) = spawned {
            // The closure, and the taker with it, are gone: `give` fails.
            links.failed(LinkError::System {
                what: "starting a worker's thread".into(),
                source,
            });
        }
        Crew {
            jobs: giver,
            bells,
            turn: Cell::new(0),
        }
    }

    /// A job to hand over, by and by.
    pub(super) fn give(&mut self, job: Job) -> Result<(), Undone> {
        if self.jobs.add(job) {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Hands over what was given; waits while the workers have enough of them. They
    /// take them even when they are stopped or their link is dead.
    pub(super) fn hand_over(&mut self) -> Result<(), Undone> {
        let jobs = self.jobs.hand_over().map_err(|jobs| {
            let name = jobs
                .first()
                .map_or("", |job| job.route.interface.name.as_str());
            let detail =
                format!("interface {name}: its worker has ended; see the messages before this");
            Undone { jobs, detail }
        })?;
        // Of those that found none one a job is enough: who is awake looks again.
        let hungry = |bell: &&Bell| bell.hungry.swap(false, Ordering::SeqCst);
        if let Some(bells) = self.bells.get() {
            let turn = self.turn.get() % bells.len().max(1);
            self.turn.set(turn + jobs);
            let (before, behind) = bells.split_at_checked(turn).unwrap_or_default();
            let sleepers = behind.iter().chain(before).filter(hungry);
            sleepers.take(jobs).for_each(Bell::ring);
        }
        Ok(())
    }

    /// There will be no more jobs.
    pub(super) fn dismiss(mut self) -> Result<(), Undone> {
        let handed_over = self.hand_over();
        drop(self.jobs);
        self.bells.get().into_iter().flatten().for_each(Bell::ring);
        handed_over
    }
}

/// Runs a worker for each link, the first on this thread.
fn work(
    interface: &Interface,
    opened: OpenLinks,
    jobs: &Mutex<Taker<Job>>,
    bells: &Bells,
    shared: &Shared<'_>,
    links: &Links,
) {
    let mut handoffs: Vec<Option<Handoff>> = match &opened[..] {
        [_] => vec![None],
        several => {
            let wakers: Vec<_> = several.iter().map(|link| link.waker()).collect();
            Handoff::between(&wakers).into_iter().map(Some).collect()
        }
    };
    let takers = AtomicUsize::new(handoffs.len());
    let takers = (handoffs.len() > 1).then_some(&takers);
    thread::scope(|scope| {
        let bells = bells.get().into_iter().flatten();
        let mut first = None;
        for (nth, ((link, bell), handoff)) in opened
            .into_iter()
            .zip(bells)
            .zip(handoffs.drain(..))
            .enumerate()
        {
            let run = move || {
                let jobs = Channel::new(jobs, takers, &bell.hungry);
                run(interface, link, jobs, handoff, shared, links);
            };
            if nth == 0 {
                first = Some(run);
                continue;
            }
            let spawned = thread::Builder::new()
                .name(format!("worker {} {nth}", interface.name))
                .spawn_scoped(scope, run);
            if let Err(error) = spawned {
                // What the interface delivers to its queue is lost.
                tracing::warn!(
                    interface = interface.name,
                    queue = nth,
                    %error,
                    "no thread for a worker: replies are lost; raise the limit of processes (ulimit -u)"
                );
            }
        }
        if let Some(run) = first {
            run();
        }
    });
}

/// One worker's thread.
fn run(
    interface: &Interface,
    mut link: Box<dyn Link + Send>,
    mut jobs: Channel<'_>,
    handoff: Option<Handoff>,
    shared: &Shared<'_>,
    links: &Links,
) {
    if let Some(processor) = link.processor()
        && let Err(error) = crate::link::run_on(processor)
    {
        tracing::debug!(interface = interface.name, processor, %error, "not pinned");
    }
    let ended = match handoff {
        None => worker::run(&mut *link, &mut jobs, shared),
        Some(handoff) if handoff.ports(&shared.options.ports).is_none() => {
            jobs.leave();
            serve(&mut *link, handoff, shared)
        }
        Some(handoff) => worker::run_one_of(&mut *link, &mut jobs, shared, handoff),
    };
    if let Err(error) = ended {
        tracing::warn!(interface = interface.name, %error, "link failed");
        links.failed(error);
    }
}

/// A worker without ports of its own only receives for the others.
fn serve(link: &mut dyn Link, mut handoff: Handoff, shared: &Shared<'_>) -> Result<(), LinkError> {
    let unclaimed = handoff.serve(link)?;
    shared
        .stats
        .unclaimed
        .fetch_add(unclaimed, Ordering::Relaxed);
    Ok(())
}

/// Without a link, every job to come ends with verdict `error`, if it is told of.
fn refuse_all(jobs: &mut dyn Jobs, shared: &Shared<'_>, detail: &str) {
    loop {
        match jobs.poll() {
            Supply::Job(_) if !shared.tells_unbegun() => {}
            Supply::Job(Job { target, .. }) => {
                shared.tell(target, Verdict::Error, Some(detail.to_owned()));
            }
            Supply::Later => jobs.wait(HEARTBEAT),
            Supply::Done => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Target;
    use crate::net::Route;
    use std::io::Read as _;

    fn job() -> Job {
        Job {
            target: Target {
                index: 0,
                name: "a".into(),
                address: [192, 0, 2, 9].into(),
                port: 80,
            },
            route: Route {
                interface: Interface {
                    index: 1,
                    name: "sim1".into(),
                }
                .into(),
                vlan: None,
                source: [192, 0, 2, 1].into(),
                source_mac: [0; 6],
                next_hop_mac: [0; 6],
                mtu: 1500,
                device_mtu: 1500,
            },
        }
    }

    #[test]
    fn a_job_wakes_one_worker_that_found_none() {
        // Pipes stand for the eventfds: both are woken by eight bytes.
        let (mut pipes, wakers): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (woken, waker) = std::io::pipe().unwrap();
                (woken, Some(Arc::new(OwnedFd::from(waker))))
            })
            .unzip();
        let (jobs, taker) = chunks::channel(4 * chunks::CHUNK);
        let mut crew = Crew {
            jobs,
            bells: Arc::new(Bells::new()),
            turn: Cell::new(0),
        };
        let bells = Arc::clone(&crew.bells);
        crew.give(job()).unwrap();
        crew.hand_over().unwrap();
        let rung = bells.get_or_init(|| wakers.into_iter().map(Bell::new).collect());
        let (taker, takers) = (Mutex::new(taker), AtomicUsize::new(2));
        let channel = |bell| Channel::new(&taker, Some(&takers), bell);
        let (mut one, mut two) = (channel(&rung[0].hungry), channel(&rung[1].hungry));
        assert!(matches!(one.poll(), Supply::Job(_)));
        assert!(matches!(two.poll(), Supply::Later));
        // The second alone sleeps; then it is awake, and the next rings no bell.
        crew.give(job()).unwrap();
        assert!(matches!(two.poll(), Supply::Later), "it is not handed over");
        crew.give(job()).unwrap();
        crew.dismiss().unwrap();
        assert!(matches!(one.poll(), Supply::Job(_)));
        assert!(matches!(two.poll(), Supply::Job(_)));
        for channel in [&mut one, &mut two] {
            assert!(matches!(channel.poll(), Supply::Done));
        }
        assert!(one.leave(), "the second takes what comes");
        assert!(!two.leave());
        drop(bells);
        let wakes = pipes.iter_mut().map(|woken| {
            let mut wakes = Vec::new();
            // The bell's copy of the write end is gone with the last of its owners.
            woken.read_to_end(&mut wakes).unwrap();
            wakes.len() / 8
        });
        assert_eq!(wakes.collect::<Vec<_>>(), [1, 2]);
    }
}
