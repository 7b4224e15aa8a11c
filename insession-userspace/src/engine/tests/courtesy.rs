//! No router is asked for more answers a second than it is owed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tap::Tap;
use super::traces::{jobs, server_address, tree};
use super::{PLENTY, options};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop};
use crate::link::sim::{Fate, Line, RateLimit, Router, Scenario, SimLink, Target as Host, Truth};
use crate::time::Instant;
use crate::trace::{Trace, Verdict};

/// What a run showed.
struct Seen {
    records: BTreeMap<u64, Trace>,
    slowed: Vec<(u8, Option<IpAddr>, f64, f64)>,
    /// When the probes left that ended at each router, answered or not.
    asked: HashMap<IpAddr, Vec<Instant>>,
    stats: Stats,
    seconds: f64,
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
}

/// Who was asked, and when; routers that said nothing by the TTL that they stand at.
fn asked(truth: &Truth, at: &dyn Fn(u8) -> IpAddr) -> HashMap<IpAddr, Vec<Instant>> {
    let mut asked: HashMap<IpAddr, Vec<Instant>> = HashMap::new();
    for probe in truth.flows().flat_map(|flow| truth.probes(flow)) {
        let router = match probe.fate {
            Fate::Router { from, .. } => from,
            Fate::Discarded(_) => at(probe.ttl),
            _ => continue,
        };
        asked.entry(router).or_default().push(probe.sent);
    }
    asked.values_mut().for_each(|times| times.sort_unstable());
    asked
}

fn run(scenario: Scenario, targets: u32, options: &EngineOptions) -> Seen {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    let link = SimLink::new(scenario, 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    let shared = Shared::new(options, &outputs, &stop, &stats);
    worker::run(&mut tap, &mut jobs(targets), &shared).unwrap();
    assert_eq!((tap.left_open(), tap.flows.len()), (0, 0));
    let (mut records, mut slowed) = (BTreeMap::new(), Vec::new());
    while let Ok(output) = read.try_recv() {
        match output {
            Output::Trace { index, trace } => {
                assert!(records.insert(index, *trace).is_none());
            }
            Output::Slowed {
                ttl,
                router,
                before,
                after,
                answered,
                usual,
            } => {
                assert!(after < before && answered < usual);
                slowed.push((ttl, router, before, after));
            }
            other => panic!("{other:?}"),
        }
    }
    let last = tap.kicks.last().unwrap().0;
    let asked = asked(&truth.lock().unwrap(), &|ttl| {
        address((u32::from(ttl) - 1) << 20)
    });
    Seen {
        records,
        slowed,
        asked,
        stats,
        seconds: last.since(SimLink::BEGIN).as_secs_f64(),
    }
}

/// The most of these moments in any window of this length.
pub(super) fn most(times: &[Instant], window: Duration) -> usize {
    let mut first = 0;
    let within = times.iter().enumerate().map(|(last, at)| {
        while at.since(times[first]) >= window {
            first += 1;
        }
        last - first + 1
    });
    within.max().unwrap_or(0)
}

fn limited(rate: f64) -> EngineOptions {
    EngineOptions {
        router_rate: Some(rate),
        ..options()
    }
}

#[test]
fn what_all_traces_cross_is_asked_at_its_rate_and_the_rest_goes_on() {
    const RATE: f64 = 600.0;
    let seen = run(tree(3_000, 5, Line::default()), 3_000, &limited(RATE));
    assert_eq!(seen.records.len(), 3_000);
    for record in seen.records.values() {
        assert_eq!(record.verdict, Verdict::Complete);
        assert_eq!(record.hops.len(), 6);
    }
    assert_eq!(seen.slowed, []);
    let mut numbers = Vec::new();
    for (router, times) in &seen.asked {
        let second = most(times, Duration::from_secs(1));
        assert!(second as f64 <= RATE * 1.1 + 1.0, "{router}: {second}");
        numbers.push(second);
    }
    // Evenly: no two of one TTL within half of the time between two.
    for hop in [0, 1] {
        let times = &seen.asked[&address(hop << 20)];
        assert_eq!(most(times, Duration::from_micros(660)), 1);
        assert!(most(times, Duration::from_millis(10)) <= 7);
    }
    // Two are everybody's and asked as fast as they may be.
    numbers.sort_unstable();
    assert!(
        numbers[numbers.len() - 2] as f64 >= RATE * 0.97,
        "{numbers:?}"
    );
    // 9,000 probes to the first at 600 a second, and a slow begin.
    assert!(seen.seconds < 15.0 + 5.0, "{}", seen.seconds);
    assert!(seen.stats.held.load(Ordering::Relaxed) > 0);
}

#[test]
fn connections_do_not_stand_open_for_the_sake_of_waiting() {
    let jobs = 5_400;
    let mut scenario = tree(jobs, 3, Line::default());
    // Two of three targets answer nothing: their share is not left unused.
    for n in (0..jobs).filter(|n| n % 3 > 0) {
        let dead = crate::link::sim::Server {
            answer: crate::link::sim::Answer::Drops,
            ..Default::default()
        };
        scenario.target(Host::new(server_address(n)).served_by(dead));
    }
    let seen = run(scenario, jobs, &limited(300.0));
    assert_eq!(seen.records.len(), jobs as usize);
    let peak = seen.stats.established_peak.load(Ordering::Relaxed);
    assert!(peak < 150, "{peak}");
    // Dead targets are known after five seconds, and it begins slowly.
    let times = seen.asked[&address(0)].iter();
    let seconds = times.map(|at| at.since(SimLink::BEGIN).as_secs());
    let steady = seconds.filter(|second| (14..20).contains(second)).count();
    assert!((1_530..=1_802).contains(&steady), "{steady}");
}

#[test]
fn a_router_that_stands_twice_on_the_way_is_asked_no_more() {
    let mut scenario = Scenario::new();
    let (one, other) = (
        scenario.router(Router::at(address(1))),
        scenario.router(Router::at(address(2))),
    );
    for n in 0..1_000 {
        scenario.target(Host::new(server_address(n)).via([one, other, one]));
    }
    let seen = run(scenario, 1_000, &limited(400.0));
    let times = &seen.asked[&address(1)];
    // Later than it was learnt.
    let behind = times
        .iter()
        .filter(|at| at.since(SimLink::BEGIN).as_secs() >= 2);
    let behind: Vec<Instant> = behind.copied().collect();
    let second = most(&behind, Duration::from_secs(1));
    assert!((360..=440).contains(&second), "{second}");
}

#[test]
fn a_limit_is_found_and_told_and_a_steady_loss_is_none() {
    let first = |limit: Option<RateLimit>, loss| {
        let line = Line {
            loss,
            ..Line::default()
        };
        let mut scenario = Scenario::new();
        let routers: Vec<_> = (0..3)
            .map(|hop: u32| {
                scenario.router(Router {
                    limit: limit.filter(|_| hop == 0),
                    ..Router::at(address(hop << 20))
                })
            })
            .collect();
        for n in 0..4_000 {
            let mut host = Host::new(server_address(n));
            for router in &routers {
                host = host.over(line, *router);
            }
            scenario.target(host);
        }
        run(scenario, 4_000, &limited(400.0))
    };
    let limit = RateLimit {
        interval: Duration::from_millis(10),
        burst: 20,
    };
    let seen = first(Some(limit), 0.0);
    assert_eq!(seen.records.len(), 4_000);
    assert!(!seen.slowed.is_empty());
    assert_eq!(
        seen.stats.slowed.load(Ordering::Relaxed),
        seen.slowed.len() as u64
    );
    for (ttl, router, before, after) in &seen.slowed {
        assert_eq!((*ttl, *router), (1, Some(address(0))));
        assert!(*before <= 401.0 && after * 2.0 <= *before);
    }
    // It has 100 tokens a second.
    let times = &seen.asked[&address(0)];
    let late: Vec<Instant> = times
        .iter()
        .filter(|at| at.since(SimLink::BEGIN).as_secs() >= 15)
        .copied()
        .collect();
    let span = late.last().unwrap().since(late[0]).as_secs_f64();
    let rate = late.len() as f64 / span;
    assert!((50.0..160.0).contains(&rate), "{rate}");

    // One in five does not come back, whatever the rate.
    let seen = first(None, 0.1);
    assert_eq!(seen.slowed, []);
    let times = &seen.asked[&address(0)];
    assert!(most(times, Duration::from_secs(1)) >= 300);
}
