//! What a worker traces in a simulated network, held against the network's own
//! knowledge of what became of every probe.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tap::Tap;
use super::{PLENTY, interface, options, records, route, target};
use crate::engine::dispatch::{self, OpenLinks, RouteFailure, Routing, Way};
use crate::engine::jobs::Job;
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop, Target};
use crate::link::sim::{
    Answer, End, Fate, Line, Reject, Rejection, Router, RouterId, Scenario, Server, SimLink,
    Target as Host, Truth,
};
use crate::link::{Link, LinkError};
use crate::net::Route;
use crate::session::{Flow, SessionOptions};
use crate::trace::{ReplyKind, RttBound, Trace, Verdict};

pub(super) fn server_address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc633_0000 + n))
}

/// `targets` servers behind `hops` routers: the first two are everybody's, the
/// next is one of sixteen, the others one of as many as there are targets.
pub(super) fn tree(targets: u32, hops: u32, line: Line) -> Scenario {
    let mut scenario = Scenario::new();
    let mut routers: HashMap<(u32, u32), RouterId> = HashMap::new();
    for n in 0..targets {
        let mut host = Host::new(server_address(n));
        for hop in 0..hops {
            let branch = match hop {
                0 | 1 => 0,
                2 => n % 16,
                _ => n,
            };
            let address = Ipv4Addr::from(0x0a00_0000 + (hop << 20) + branch);
            let router = *routers
                .entry((hop, branch))
                .or_insert_with(|| scenario.router(Router::at(IpAddr::V4(address))));
            host = host.over(line, router);
        }
        host.last = line;
        scenario.target(host);
    }
    scenario
}

pub(super) fn jobs(targets: u32) -> VecDeque<Job> {
    (0..targets)
        .map(|n| Job {
            target: target(u64::from(n), server_address(n)),
            route: route(1),
        })
        .collect()
}

/// Runs a worker to its end, returns every record.
pub(super) fn trace(
    link: &mut dyn Link,
    mut jobs: VecDeque<Job>,
    options: &EngineOptions,
) -> (Vec<Trace>, Stats) {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    worker::run(
        link,
        &mut jobs,
        &Shared::new(options, &outputs, &stop, &stats),
    )
    .unwrap();
    (records(&mut read), stats)
}

pub(super) fn flow(trace: &Trace) -> Flow {
    Flow {
        local: SocketAddr::new(trace.source.unwrap(), trace.source_port.unwrap()),
        remote: SocketAddr::new(trace.address.unwrap(), trace.port),
    }
}

/// Sessions keep time in tenths of a microsecond; a round trip has two ends.
const UNIT: Duration = Duration::from_nanos(200);

/// Every probe of the record is one that was sent, every reply one that it drew,
/// at that time; returns how many replies there are.
pub(super) fn check(trace: &Trace, truth: &Truth) -> usize {
    check_replies(trace, truth, true)
}

/// The same, for lines that duplicate: the truth has the time of one copy.
fn check_replies(trace: &Trace, truth: &Truth, timed: bool) -> usize {
    let mut truths: HashMap<u8, VecDeque<_>> = HashMap::new();
    for probe in truth.probes(&flow(trace)) {
        truths.entry(probe.ttl).or_default().push_back(*probe);
    }
    let mut replies = 0;
    for hop in &trace.hops {
        for probe in &hop.probes {
            let truth = truths.get_mut(&hop.ttl).and_then(VecDeque::pop_front);
            let truth = truth.expect("a probe that was never sent");
            let Some(reply) = &probe.reply else {
                continue;
            };
            replies += 1;
            match (reply.kind, truth.fate) {
                (
                    ReplyKind::TimeExceeded | ReplyKind::Unreachable | ReplyKind::PacketTooBig,
                    Fate::Router {
                        from,
                        icmp_type,
                        icmp_code,
                        delivered: Some(at),
                        ..
                    },
                ) => {
                    assert_eq!(reply.from, from);
                    assert_eq!(reply.icmp, Some((icmp_type, icmp_code)));
                    let really = at.since(truth.sent);
                    if timed && reply.rtt_bound == RttBound::Exact {
                        assert!(reply.rtt.abs_diff(really) <= UNIT, "{really:?}: {trace:?}");
                    }
                }
                (ReplyKind::Sack, Fate::Server { at, accepted: true }) => {
                    assert_eq!(Some(reply.from), trace.address);
                    assert!(!timed || reply.rtt + UNIT >= at.since(truth.sent));
                }
                (ReplyKind::DupAck | ReplyKind::Rst, Fate::Server { .. }) => {}
                (kind, fate) => panic!("{kind:?} credited, but {fate:?}: {trace:#?}"),
            }
        }
    }
    let left: usize = truths.values().map(VecDeque::len).sum();
    assert_eq!(left, 0, "probes that the record does not have");
    replies
}

fn count(stats: &Stats) -> [u64; 4] {
    [
        &stats.finished,
        &stats.open,
        &stats.established,
        &stats.malformed,
    ]
    .map(|count| count.load(Ordering::Relaxed))
}

#[test]
fn thousands_of_sessions_at_once_learn_their_way_and_nothing_else() {
    let mut tap = Tap::new(SimLink::new(tree(3_000, 5, Line::default()), 1));
    let (records, stats) = trace(&mut tap, jobs(3_000), &options());
    assert_eq!(records.len(), 3_000);
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.target, format!("target-{n}"));
        assert_eq!(record.verdict, Verdict::Complete, "{record:?}");
        assert_eq!(record.destination_ttl, Some(6));
        assert_eq!(record.link.as_ref().unwrap().kind, "sim");
        let last = record.hops.last().unwrap();
        assert_eq!(last.ttl, 6);
        let third = record.hops[2].probes[0].reply.as_ref().unwrap();
        let router = Ipv4Addr::from(0x0a20_0000 + n as u32 % 16);
        assert_eq!(third.from, IpAddr::V4(router));
    }
    assert_eq!(count(&stats), [3_000, 0, 0, 0]);
    assert_eq!(stats.established_peak.load(Ordering::Relaxed), 3_000);
    assert_eq!(stats.sent.load(Ordering::Relaxed), tap.sent() as u64);
    assert_eq!((tap.opened(), tap.left_open()), (3_000, 0));
    assert_eq!(tap.flows.len(), 0);
    let link = stats.link.lock().unwrap();
    let sent = link
        .iter()
        .find(|(label, _)| *label == "sim-sent")
        .unwrap()
        .1;
    assert_eq!(sent, tap.sent() as u64);
}

#[test]
fn loss_duplicates_and_overtaking_credit_nothing_that_was_not_so() {
    for (seed, duplicate) in [(0, 0.0), (1, 0.0), (2, 0.02), (3, 0.02)] {
        let line = Line {
            latency: Duration::from_millis(2),
            jitter: Duration::from_micros(700),
            loss: 0.01,
            duplicate,
            reorder: (0.02, Duration::from_millis(4)),
            ..Line::default()
        };
        let link = SimLink::new(tree(400, 6, line), seed);
        let truth = link.truth();
        let mut tap = Tap::new(link);
        let (records, _) = trace(&mut tap, jobs(400), &options());
        assert_eq!(records.len(), 400);
        let truth = truth.lock().unwrap();
        let replies = records
            .iter()
            .map(|record| check_replies(record, &truth, duplicate == 0.0));
        // 18 probes to routers and 3 to the server, some of them lost.
        assert!(replies.sum::<usize>() > 400 * 15);
        let complete = records
            .iter()
            .filter(|record| record.verdict == Verdict::Complete);
        assert!(complete.count() > 380);
        assert_eq!(tap.flows.len(), 0);
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let line = Line {
        jitter: Duration::from_micros(300),
        loss: 0.02,
        ..Line::default()
    };
    let run = || {
        let mut tap = Tap::new(SimLink::new(tree(50, 4, line), 7));
        let (records, _) = trace(&mut tap, jobs(50), &options());
        let hops: Vec<_> = records.into_iter().map(|record| record.hops).collect();
        (tap.kicks, hops)
    };
    assert_eq!(run(), run());
}

#[test]
fn every_way_a_trace_ends_has_its_verdict() {
    let mut scenario = Scenario::new();
    let router = |n: u32| Router::at(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)));
    let first = scenario.router(router(1));
    let rejects = scenario.router(Router {
        rejects: Some(Reject {
            answer: Rejection::Unreachable(13),
            only_data: true,
        }),
        ..router(2)
    });
    let silent: Vec<RouterId> = (0..12)
        .map(|_| scenario.router(Router::default()))
        .collect();
    let many: Vec<RouterId> = (0..9).map(|n| scenario.router(router(100 + n))).collect();
    let ends = |segments, end| Server {
        ends: Some((segments, end)),
        ..Server::default()
    };
    let answers = |answer| Server {
        answer,
        ..Server::default()
    };
    let hosts = [
        (Verdict::Complete, Host::new(server_address(0)).via([first])),
        (
            Verdict::Refused,
            Host::new(server_address(1))
                .via([first])
                .served_by(answers(Answer::Refuses)),
        ),
        (
            Verdict::HandshakeTimeout,
            Host::new(server_address(2))
                .via([first])
                .served_by(answers(Answer::Drops)),
        ),
        (
            Verdict::Unreachable,
            Host::new(server_address(3)).via([first, rejects]),
        ),
        (Verdict::GapLimit, Host::new(server_address(4)).via(silent)),
        (Verdict::MaxTtl, Host::new(server_address(5)).via(many)),
        (
            Verdict::Reset,
            Host::new(server_address(6))
                .via([first])
                .served_by(ends(1, End::Rst)),
        ),
        // It answers the probe that it closes after.
        (
            Verdict::Complete,
            Host::new(server_address(7))
                .via([first])
                .served_by(ends(1, End::Fin)),
        ),
    ];
    let (verdicts, hosts): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
    for host in hosts {
        scenario.target(host);
    }
    let options = EngineOptions {
        session: SessionOptions {
            max_ttl: 8,
            gap_limit: 4,
            reopen: false,
            ..SessionOptions::default()
        },
        ..options()
    };
    let link = SimLink::new(scenario, 3);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    let (records, _) = trace(&mut tap, jobs(verdicts.len() as u32), &options);
    for (record, verdict) in records.iter().zip(&verdicts) {
        check(record, &truth.lock().unwrap());
        assert_eq!(record.verdict, *verdict, "{record:#?}");
    }
    assert_eq!(records.len(), verdicts.len());
    assert_eq!(tap.left_open(), 0);
}

#[test]
fn ipv6_traces_as_ipv4_does() {
    let mut scenario = Scenario::new();
    let address = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
    let routers: Vec<RouterId> = (1..5)
        .map(|n| scenario.router(Router::at(address(n))))
        .collect();
    let mut jobs = VecDeque::new();
    for n in 0..100 {
        scenario.target(Host::new(address(1_000 + n)).via(routers.iter().copied()));
        jobs.push_back(Job {
            target: target(u64::from(n), address(1_000 + n)),
            route: Route {
                source: address(99),
                ..route(1)
            },
        });
    }
    let link = SimLink::new(scenario, 5);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    let (records, _) = trace(&mut tap, jobs, &options());
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete);
        assert_eq!(record.destination_ttl, Some(5));
        assert!(check(record, &truth.lock().unwrap()) >= 15);
    }
    assert_eq!(tap.left_open(), 0);
}

#[test]
fn one_target_many_times_is_as_many_flows() {
    let mut tap = Tap::new(SimLink::new(tree(1, 3, Line::default()), 2));
    let jobs = (0..500).map(|n| Job {
        target: target(n, server_address(0)),
        route: route(1),
    });
    let (records, _) = trace(&mut tap, jobs.collect(), &options());
    let ports: HashSet<_> = records.iter().map(|record| record.source_port).collect();
    assert_eq!(ports.len(), 500);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
}

#[test]
fn flows_that_are_somebody_elses_are_left_alone() {
    let mut tap = Tap::new(SimLink::new(tree(200, 3, Line::default()), 2));
    tap.taken = Some(|flow| !flow.local.port().is_multiple_of(5));
    let (records, _) = trace(&mut tap, jobs(200), &options());
    assert!(tap.refused > 200);
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete);
        assert!(record.source_port.unwrap().is_multiple_of(5));
    }
}

#[test]
fn the_rate_holds_over_any_stretch_and_counts_every_packet() {
    let rate = 5_000.0;
    let mut tap = Tap::new(SimLink::new(tree(500, 4, Line::default()), 4));
    let options = EngineOptions {
        rate: Some(rate),
        ..options()
    };
    let (records, stats) = trace(&mut tap, jobs(500), &options);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
    assert_eq!(tap.left_open(), 0);
    // SYN, ACK, RST and every probe.
    assert!(tap.sent() as u64 >= stats.probes.load(Ordering::Relaxed) + 3 * 500);
    let burst = rate * 1e-3 + 2.0;
    for (n, (from, _)) in tap.kicks.iter().enumerate() {
        let mut frames = 0;
        for (until, sent) in tap.kicks[n..].iter().take(200) {
            frames += sent;
            let span = until.since(*from).as_secs_f64();
            assert!(frames as f64 <= span * rate + burst, "{frames} in {span} s");
        }
    }
    // And it is made use of: what there was to send took no longer than it must.
    let (first, last) = (tap.kicks[0].0, tap.kicks[tap.kicks.len() - 1].0);
    let least = tap.sent() as f64 / rate;
    assert!(last.since(first).as_secs_f64() < least * 1.2 + 1.0);
}

#[test]
fn no_more_sessions_are_open_than_may_be() {
    let mut tap = Tap::new(SimLink::new(tree(300, 3, Line::default()), 4));
    let options = EngineOptions {
        sessions: 7,
        ..options()
    };
    let (records, stats) = trace(&mut tap, jobs(300), &options);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
    assert_eq!(stats.established_peak.load(Ordering::Relaxed), 7);
}

#[test]
fn what_is_told_live_ends_as_the_record_says() {
    let line = Line {
        loss: 0.03,
        ..Line::default()
    };
    let mut link = SimLink::new(tree(50, 4, line), 9);
    let options = EngineOptions {
        live: true,
        ..options()
    };
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    worker::run(&mut link, &mut jobs(50), &shared).unwrap();
    let (mut established, mut answers) = (HashSet::new(), HashMap::new());
    let (mut destinations, mut records) = (HashMap::new(), 0);
    while let Ok(output) = read.try_recv() {
        match output {
            Output::Established { index, .. } => assert!(established.insert(index)),
            Output::Answer {
                index,
                ttl,
                nth,
                probe,
            } => {
                answers.insert((index, ttl, nth), *probe);
            }
            Output::Slowed { .. } => panic!("nobody asked for it"),
            Output::Destination { index, ttl } => {
                destinations.insert(index, ttl);
            }
            Output::Trace { index, trace } => {
                records += 1;
                assert_eq!(established.contains(&index), trace.handshake.is_some());
                assert_eq!(destinations.get(&index).copied(), trace.destination_ttl);
                for hop in &trace.hops {
                    for (nth, probe) in hop.probes.iter().enumerate() {
                        let told = answers.remove(&(index, hop.ttl, nth as u8));
                        if probe.reply.is_some() {
                            assert_eq!(told.as_ref(), Some(probe));
                        }
                    }
                }
                assert!(!answers.keys().any(|(of, ..)| *of == index));
            }
        }
    }
    assert_eq!(records, 50);
}

/// Odd targets one way, even ones another.
struct ByParity;

impl Routing for ByParity {
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure> {
        Ok(Way::Known(route(1 + (target.index % 2) as u32)))
    }
}

#[test]
fn several_interfaces_trace_in_one_run_and_one_may_fail() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::default(), Arc::<Stats>::default());
    let open = |asked: &crate::net::Interface| -> Result<OpenLinks, LinkError> {
        let mut tap = Tap::new(SimLink::new(tree(400, 3, Line::default()), 1));
        if *asked == interface(2) {
            tap.down_at = Some(SimLink::BEGIN + Duration::from_millis(3));
        }
        Ok(vec![Box::new(tap)])
    };
    let targets = Box::new((0..400).map(|n| target(u64::from(n), server_address(n))));
    dispatch::run(
        targets,
        &mut ByParity,
        &open,
        &options(),
        &outputs,
        &stop,
        &stats,
    )
    .unwrap();
    let records = records(&mut read);
    assert_eq!(records.len(), 400);
    for (n, record) in records.iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(record.verdict, Verdict::Complete);
        } else {
            assert_eq!(record.verdict, Verdict::Error);
            assert_eq!(
                record.detail,
                Some(LinkError::Down("sim0".into()).to_string())
            );
        }
    }
    assert_eq!(count(&stats), [400, 0, 0, 0]);
}

#[test]
fn a_stopped_campaign_has_a_record_of_every_target() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::<Stop>::default(), Arc::<Stats>::default());
    let stopper = Arc::clone(&stop);
    let open = move |_: &crate::net::Interface| -> Result<OpenLinks, LinkError> {
        let mut tap = Tap::new(SimLink::new(tree(5_000, 3, Line::default()), 1));
        let at = SimLink::BEGIN + Duration::from_millis(50);
        tap.stop_at = Some((at, Arc::clone(&stopper)));
        Ok(vec![Box::new(tap)])
    };
    let options = EngineOptions {
        sessions: 50,
        ..options()
    };
    let targets = Box::new((0..5_000).map(|n| target(u64::from(n), server_address(n))));
    dispatch::run(
        targets,
        &mut ByParity,
        &open,
        &options,
        &outputs,
        &stop,
        &stats,
    )
    .unwrap();
    let records = records(&mut read);
    assert_eq!(records.len(), 5_000);
    let last = records.last().unwrap();
    assert_eq!((last.verdict, &last.source), (Verdict::Interrupted, &None));
    assert_eq!(count(&stats), [5_000, 0, 0, 0]);
}
