//! Names of hops, looked up beside the hot path: started when a reply is first
//! seen, bounded in number, cached, each with a deadline. Nothing of it ever
//! holds a packet back; a record waits for its names a bounded time.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Dns, Reverse};
use crate::report::live::Naming;
use crate::trace::Trace;

/// How a name is looked up.
pub(crate) type LookUp =
    dyn Fn(IpAddr) -> Pin<Box<dyn Future<Output = Reverse> + Send>> + Send + Sync;

/// The names of hops.
pub struct Names {
    look_up: Option<Arc<LookUp>>,
    known: HashMap<IpAddr, Naming>,
    waiting: VecDeque<IpAddr>,
    running: JoinSet<(IpAddr, Reverse)>,
    /// Silences since the start; `None` once a server has answered.
    silences: Option<u32>,
    bounds: Bounds,
}

/// What look-ups may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Servers that need longer are as good as silent.
    deadline: Duration,
    /// Look-ups under way at a time: more would be a burden to the resolver.
    at_a_time: usize,
    /// Look-ups waiting for their turn; further addresses stay nameless this time.
    waiting: usize,
    /// Cached names.
    cached: usize,
    /// After so many silences and not one answer there is no name service here.
    give_up: u32,
}

/// For a report that somebody waits for; the cache is some 10 MiB.
const REPORT: Bounds = Bounds {
    deadline: Duration::from_secs(1),
    at_a_time: 64,
    waiting: 4096,
    cached: 65_536,
    give_up: 4,
};
/// For a long list: as many as [`super::bulk`] has under way, and a cache that holds the
/// routers of a campaign, some 40 MiB.
const BULK: Bounds = Bounds {
    deadline: Duration::from_secs(3),
    at_a_time: 256,
    waiting: 32_768,
    cached: 262_144,
    give_up: 256,
};

impl Names {
    /// No names (`-n`).
    #[must_use]
    pub fn off() -> Self {
        Names {
            look_up: None,
            known: HashMap::new(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            silences: Some(0),
            bounds: REPORT,
        }
    }

    /// Names by `dns`.
    #[must_use]
    pub fn by_dns(dns: Arc<Dns>) -> Self {
        Self::by(Arc::new(move |address| {
            let dns = Arc::clone(&dns);
            Box::pin(async move { dns.name(address).await })
        }))
    }

    /// Names by `dns` for a long list.
    #[must_use]
    pub fn in_bulk(dns: Arc<Dns>) -> Self {
        Names {
            bounds: BULK,
            ..Self::by_dns(dns)
        }
    }

    pub(crate) fn by(look_up: Arc<LookUp>) -> Self {
        Names {
            look_up: Some(look_up),
            ..Names::off()
        }
    }

    #[cfg(test)]
    pub(crate) fn in_bulk_by(look_up: Arc<LookUp>) -> Self {
        Names {
            bounds: BULK,
            ..Self::by(look_up)
        }
    }

    /// Looks the name of `address` up, if nobody did yet. Within a runtime only.
    pub fn want(&mut self, address: IpAddr) {
        if self.look_up.is_none() || self.known.contains_key(&address) {
            return;
        }
        if self.waiting.len() >= self.bounds.waiting {
            return;
        }
        if self.known.len() >= self.bounds.cached {
            self.known.retain(|_, name| *name == Naming::Pending);
        }
        self.known.insert(address, Naming::Pending);
        self.waiting.push_back(address);
        self.start();
    }

    /// Looks the names of all hops of `trace` up.
    pub fn want_all(&mut self, trace: &Trace) {
        for address in addresses(trace) {
            self.want(address);
        }
    }

    /// What is known of the name of `address`; one that nobody wanted has none.
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Naming {
        self.known
            .get(&address)
            .cloned()
            .unwrap_or(Naming::Done(None))
    }

    /// Whether no look-up for a hop of `trace` is under way.
    #[must_use]
    pub fn settled(&self, trace: &Trace) -> bool {
        addresses(trace).all(|address| self.known.get(&address) != Some(&Naming::Pending))
    }

    /// Fills in the names that are known.
    pub fn fill(&self, trace: &mut Trace) {
        let probes = trace.hops.iter_mut().flat_map(|hop| &mut hop.probes);
        for reply in probes.filter_map(|probe| probe.reply.as_mut()) {
            if let Some(Naming::Done(name)) = self.known.get(&reply.from) {
                reply.name.clone_from(name);
            }
        }
    }

    /// Returns when a look-up is over; never, where none is under way.
    /// Cancel-safe.
    pub async fn step(&mut self) {
        let (address, reverse) = match self.running.join_next().await {
            Some(Ok(done)) => done,
            // Aborted, or the resolver panicked: its address stays pending
            // until its record's deadline.
            Some(Err(_)) => return,
            None => return std::future::pending().await,
        };
        match reverse {
            Reverse::Silent => {
                self.silences = self.silences.map(|silences| silences + 1);
            }
            Reverse::Named(_) | Reverse::Nameless => self.silences = None,
            // Costs no time, and says nothing of other zones.
            Reverse::Failed => {}
        }
        let name = match reverse {
            Reverse::Named(name) => Some(name),
            Reverse::Nameless | Reverse::Silent | Reverse::Failed => None,
        };
        self.known.insert(address, Naming::Done(name));
        if self
            .silences
            .is_some_and(|silences| silences >= self.bounds.give_up)
        {
            tracing::info!("no name server answers: hops stay without names");
            self.look_up = None;
            self.running.abort_all();
            self.waiting.clear();
            self.known.retain(|_, name| *name != Naming::Pending);
        }
        self.start();
    }

    fn start(&mut self) {
        let Some(look_up) = &self.look_up else { return };
        while self.running.len() < self.bounds.at_a_time {
            let Some(address) = self.waiting.pop_front() else {
                return;
            };
            let future = look_up(address);
            let deadline = self.bounds.deadline;
            self.running.spawn(async move {
                let reverse = tokio::time::timeout(deadline, future).await;
                (address, reverse.unwrap_or(Reverse::Silent))
            });
        }
    }
}

fn addresses(trace: &Trace) -> impl Iterator<Item = IpAddr> + '_ {
    let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
    probes.filter_map(|probe| probe.reply.as_ref().map(|reply| reply.from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn every_address_is_asked_for_once_and_filled_in() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        run(async move {
            let mut names = Names::by(Arc::new(move |address| {
                count.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    match address.to_string().as_str() {
                        "10.0.2.1" => Reverse::Nameless,
                        other => Reverse::Named(format!("r-{other}")),
                    }
                })
            }));
            let mut trace = samples::four_hops();
            names.want_all(&trace);
            names.want_all(&trace);
            assert!(!names.settled(&trace));
            while !names.settled(&trace) {
                names.step().await;
            }
            names.want_all(&trace);
            assert!(names.settled(&trace));
            names.fill(&mut trace);
            let name = |hop: usize| {
                trace.hops[hop].probes[2]
                    .reply
                    .as_ref()
                    .unwrap()
                    .name
                    .clone()
            };
            assert_eq!(name(0), Some("r-10.0.1.1".to_owned()));
            assert_eq!(name(1), None);
            assert_eq!(name(3), Some("r-10.0.9.2".to_owned()));
        });
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_silent_service_is_given_up() {
        run(async {
            let mut names = Names::by(Arc::new(|_| Box::pin(async { Reverse::Silent })));
            let address = |n: u8| IpAddr::from([10, 0, 0, n]);
            for n in 0..100 {
                names.want(address(n));
            }
            for _ in 0..REPORT.give_up {
                names.step().await;
            }
            for n in 0..100 {
                assert_eq!(names.get(address(n)), Naming::Done(None));
            }
            names.want(address(200));
            assert_eq!(names.get(address(200)), Naming::Done(None));
        });
    }

    #[test]
    fn zones_that_fail_do_not_end_the_look_ups() {
        run(async {
            let mut names = Names::by(Arc::new(|address| {
                Box::pin(async move {
                    match address {
                        IpAddr::V4(v4) if v4.octets()[3] < 20 => Reverse::Failed,
                        address => Reverse::Named(format!("r-{address}")),
                    }
                })
            }));
            for n in 0..20 {
                names.want(IpAddr::from([10, 0, 0, n]));
                names.step().await;
                assert_eq!(names.get([10, 0, 0, n].into()), Naming::Done(None));
            }
            names.want(IpAddr::from([10, 0, 0, 20]));
            names.step().await;
            let name = Some("r-10.0.0.20".to_owned());
            assert_eq!(names.get([10, 0, 0, 20].into()), Naming::Done(name));
        });
    }

    #[test]
    fn look_ups_are_bounded() {
        run(async {
            let mut names = Names::by(Arc::new(|_| Box::pin(std::future::pending())));
            for n in 0..10_000_u32 {
                names.want(IpAddr::from(n.to_be_bytes()));
            }
            assert_eq!(names.running.len(), REPORT.at_a_time);
            assert_eq!(names.waiting.len(), REPORT.waiting);
            // The last found no place, and is nameless rather than pending.
            assert_eq!(
                names.get(IpAddr::from(9_999_u32.to_be_bytes())),
                Naming::Done(None)
            );
        });
    }

    #[test]
    fn without_names_nothing_is_pending() {
        let trace = samples::four_hops();
        let mut names = Names::off();
        names.want_all(&trace);
        assert!(names.settled(&trace));
    }
}
