//! What is still to be done when the sessions are over: answers that come late,
//! closing segments that are not out, flows and permits that others need.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::tap::Tap;
use super::traces::{jobs, server_address, trace, tree};
use super::{PLENTY, options, records, route, target};
use crate::engine::jobs::{Job, Jobs, Supply};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Stop};
use crate::link::sim::{Line, Router, Scenario, Server, SimLink, Target as Host};
use crate::link::{Link, LinkError};
use crate::session::{CloseMode, SessionOptions};
use crate::time::Instant;
use crate::trace::Verdict;

fn line(latency: Duration) -> Line {
    Line {
        latency,
        ..Line::default()
    }
}

/// Servers behind four routers, by their TTL much farther away: probes go on
/// beyond them.
fn nearer_than_they_seem(targets: u32, latency: Duration) -> Scenario {
    let mut scenario = Scenario::new();
    let routers: Vec<_> = (1..=4)
        .map(|n| scenario.router(Router::at([10, 0, 0, n].into())))
        .collect();
    for n in 0..targets {
        let mut host = Host::new(server_address(n)).served_by(Server {
            ttl: 50,
            ..Server::default()
        });
        for router in &routers {
            host = host.over(line(latency), *router);
        }
        host.last = line(latency);
        scenario.target(host);
    }
    scenario
}

/// Frames that came when their flow was not steered any more: those which a
/// kernel would answer with RST.
fn unsteered(tap: &mut Tap) -> u64 {
    let end = tap.now() + Duration::from_secs(30);
    while tap.now() < end {
        tap.wait(end).unwrap();
        tap.receive(1_000, &mut |_| {}).unwrap();
    }
    let steered = ["segment", "quote", "rewritten-quote", "sim-sent"];
    let counters = tap.counters().into_iter();
    counters
        .filter(|(label, _)| !steered.contains(label))
        .map(|(_, count)| count)
        .sum()
}

fn last_kick(tap: &Tap) -> Instant {
    tap.kicks.last().unwrap().0
}

#[test]
fn what_comes_after_the_last_close_is_steered_to_us() {
    for close in [CloseMode::Rst, CloseMode::Fin] {
        let options = EngineOptions {
            session: SessionOptions {
                close,
                ..SessionOptions::default()
            },
            ..options()
        };
        let mut tap = Tap::new(SimLink::new(
            nearer_than_they_seem(3, Duration::from_millis(20)),
            1,
        ));
        let (records, stats) = trace(&mut tap, jobs(3), &options);
        for record in &records {
            assert_eq!(record.verdict, Verdict::Complete);
        }
        // They did come, and were for nobody. (A FIN is answered behind them.)
        let late = stats.unclaimed.load(Ordering::Relaxed);
        assert_eq!(late > 0, close == CloseMode::Rst);
        assert_eq!(tap.flows.len(), 0);
        assert_eq!(unsteered(&mut tap), 0);
    }
}

#[test]
fn a_short_path_makes_no_long_end() {
    let mut tap = Tap::new(SimLink::new(tree(1, 3, line(Duration::from_micros(50))), 1));
    let (records, _) = trace(&mut tap, jobs(1), &options());
    assert_eq!(records[0].verdict, Verdict::Complete);
    assert!(tap.now().since(last_kick(&tap)) <= Duration::from_millis(21));
    assert_eq!(unsteered(&mut tap), 0);
}

#[test]
fn the_longest_path_makes_no_end_above_a_second() {
    let mut tap = Tap::new(SimLink::new(tree(1, 3, line(Duration::from_millis(90))), 1));
    let (records, _) = trace(&mut tap, jobs(1), &options());
    assert_eq!(records[0].verdict, Verdict::Complete);
    let end = tap.now().since(last_kick(&tap));
    assert!(end > Duration::from_millis(700), "{end:?}");
    assert!(end <= Duration::from_millis(1_001), "{end:?}");
}

#[test]
fn the_link_is_left_when_it_has_sent_everything() {
    let mut tap = Tap::new(SimLink::new(tree(20, 3, Line::default()), 1));
    tap.sends_after = Duration::from_millis(300);
    trace(&mut tap, jobs(20), &options());
    assert_eq!(tap.in_flight(), 0);
    let end = tap.now().since(last_kick(&tap));
    assert!(end <= Duration::from_millis(310), "{end:?}");
}

#[test]
fn a_link_that_sends_nothing_more_is_left_all_the_same() {
    let mut tap = Tap::new(SimLink::new(tree(20, 3, Line::default()), 1));
    tap.sends_after = Duration::MAX;
    let (records, _) = trace(&mut tap, jobs(20), &options());
    assert_eq!(records.len(), 20);
    assert!(tap.in_flight() > 0);
    let end = tap.now().since(last_kick(&tap));
    assert!(end <= Duration::from_millis(510), "{end:?}");
}

/// Segments of which the link has not sent some are kicked, not slept over,
/// while the supply of targets pauses.
#[test]
fn a_pause_of_the_supply_does_not_keep_segments_back() {
    /// After its jobs a pause, until all is sent or seen to be stuck.
    struct Pause {
        jobs: VecDeque<Job>,
        waits: usize,
    }
    impl Jobs for Pause {
        fn poll(&mut self) -> Supply {
            match self.jobs.pop_front() {
                Some(job) => Supply::Job(job),
                None if self.waits > 0 => Supply::Done,
                None => Supply::Later,
            }
        }
        fn wait(&mut self, _: Duration) {
            self.waits += 1;
        }
    }
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    let options = options();
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    let mut tap = Tap::new(SimLink::new(tree(1, 3, Line::default()), 1));
    tap.sends_after = Duration::from_millis(700);
    let mut jobs = Pause {
        jobs: jobs(1),
        waits: 0,
    };
    worker::run(&mut tap, &mut jobs, &shared).unwrap();
    assert_eq!(records(&mut read).len(), 1);
    // Later than a worker that leaves would wait.
    assert_eq!((jobs.waits, tap.in_flight()), (1, 0));
}

#[test]
fn a_full_map_costs_a_few_of_the_flows_that_linger() {
    let mut tap = Tap::new(SimLink::new(
        tree(600, 3, line(Duration::from_millis(100))),
        1,
    ));
    tap.capacity = 300;
    let options = EngineOptions {
        sessions: 200,
        ..options()
    };
    let (records, _) = trace(&mut tap, jobs(600), &options);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
    assert!(!tap.left.is_empty());
    assert!(
        tap.left
            .iter()
            .all(|left| *left >= 300 - crate::link::BATCH)
    );
}

#[test]
fn who_waits_for_a_port_takes_no_flow_from_another() {
    let mut tap = Tap::new(SimLink::new(
        tree(40, 3, line(Duration::from_millis(20))),
        1,
    ));
    // Every other session is one of the same target.
    let jobs = (0..160).map(|n| Job {
        target: target(
            n,
            server_address(if n % 2 == 0 { 0 } else { 1 + n as u32 / 2 % 39 }),
        ),
        route: route(1),
    });
    // Ten of it run and ten linger: more than there are ports.
    let options = EngineOptions {
        ports: 61_000..=61_014,
        sessions: 20,
        ..options()
    };
    let (records, _) = trace(&mut tap, jobs.collect(), &options);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
    for (flow, lingered) in &tap.removed {
        // Two round trips of four lines each way.
        assert!(
            *lingered >= Duration::from_millis(320),
            "{flow:?} {lingered:?}"
        );
    }
    assert_eq!(tap.removed.len(), 160);
}

#[test]
fn a_stop_does_not_wait_for_what_was_due_at_a_low_rate() {
    for (rate, close) in [(0.1, CloseMode::Rst), (0.1, CloseMode::Fin)] {
        let options = EngineOptions {
            rate: Some(rate),
            session: SessionOptions {
                close,
                handshake_timeout: Duration::from_secs(60),
                probe_timeout: Duration::from_secs(60),
                ..SessionOptions::default()
            },
            ..options()
        };
        let (outputs, mut read) = mpsc::channel(PLENTY);
        let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
        let mut tap = Tap::new(SimLink::new(tree(1, 5, Line::default()), 1));
        // SYN at 0 s, ACK at 10 s, a probe at 20 s; the next is due at 30 s.
        let at = SimLink::BEGIN + Duration::from_secs(21);
        tap.stop_at = Some((at, Arc::clone(&stop)));
        let shared = Shared::new(&options, &outputs, &stop, &stats);
        worker::run(&mut tap, &mut jobs(1), &shared).unwrap();
        let records = records(&mut read);
        assert_eq!(records[0].verdict, Verdict::Interrupted);
        assert!(!records[0].hops.is_empty());
        assert_eq!((tap.opened(), tap.left_open()), (1, 0), "{close:?}");
        assert!(tap.now().since(at) < Duration::from_secs(4));
    }
}

#[test]
fn where_no_more_may_be_open_targets_wait() {
    let mut tap = Tap::new(SimLink::new(tree(80, 3, Line::default()), 1));
    tap.permitted = 26;
    let (records, stats) = trace(&mut tap, jobs(80), &options());
    assert!(tap.refused > 0);
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete, "{:?}", record.detail);
    }
    assert_eq!(records.len(), 80);
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
}

#[test]
fn where_none_may_be_open_targets_do_not_wait() {
    let mut tap = Tap::new(SimLink::new(tree(3, 3, Line::default()), 1));
    tap.permitted = 0;
    let (records, _) = trace(&mut tap, jobs(3), &options());
    for record in &records {
        assert_eq!(record.verdict, Verdict::Error);
        let detail = record.detail.as_deref();
        assert_eq!(detail, Some("connection: the limit is reached; raise it"));
    }
}

#[test]
fn a_target_that_waits_has_its_record_whatever_happens() {
    for dies in [false, true] {
        let (outputs, mut read) = mpsc::channel(PLENTY);
        let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
        let mut tap = Tap::new(SimLink::new(tree(80, 5, Line::default()), 1));
        tap.permitted = 26;
        let at = SimLink::BEGIN + Duration::from_millis(10);
        if dies {
            tap.down_at = Some(at);
        } else {
            tap.stop_at = Some((at, Arc::clone(&stop)));
        }
        let options = options();
        let shared = Shared::new(&options, &outputs, &stop, &stats);
        let result = worker::run(&mut tap, &mut jobs(80), &shared);
        assert_eq!(result.is_err(), dies);
        assert!(tap.refused > 0);
        // Their numbers, too, are looked at.
        assert_eq!(records(&mut read).len(), 80);
    }
}

#[test]
fn a_dead_link_holds_nothing_while_more_targets_come() {
    struct Endless {
        jobs: VecDeque<Job>,
        steered: Arc<AtomicUsize>,
        polls: usize,
        most: usize,
    }
    impl Jobs for Endless {
        fn poll(&mut self) -> Supply {
            self.polls += 1;
            self.most = self.most.max(self.steered.load(Ordering::Relaxed));
            match self.jobs.pop_front() {
                Some(job) => Supply::Job(job),
                None if self.steered.load(Ordering::Relaxed) == 0 || self.polls > 100_000 => {
                    Supply::Done
                }
                None => Supply::Later,
            }
        }
        fn wait(&mut self, _: Duration) {}
    }
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    let options = options();
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    let mut tap = Tap::new(SimLink::new(tree(30, 5, Line::default()), 1));
    tap.down_at = Some(SimLink::BEGIN + Duration::from_millis(10));
    let mut jobs = Endless {
        jobs: jobs(30),
        steered: Arc::clone(&tap.steered),
        polls: 0,
        most: 0,
    };
    let result = worker::run(&mut tap, &mut jobs, &shared);
    assert!(matches!(result, Err(LinkError::Down(_))));
    assert_eq!(jobs.most, 30);
    assert!(jobs.polls <= 100_000, "flows are held");
    assert_eq!(records(&mut read).len(), 30);
}

#[test]
fn a_worker_that_panics_leaves_its_permits_to_others() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
    let options = EngineOptions {
        sessions: 5,
        ..options()
    };
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    let mut tap = Tap::new(SimLink::new(tree(5, 3, Line::default()), 1));
    tap.alter = Some(Box::new(|_, _| std::panic::resume_unwind(Box::new(()))));
    let run = AssertUnwindSafe(|| worker::run(&mut tap, &mut jobs(5), &shared));
    assert!(catch_unwind(run).is_err());
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);

    let mut tap = Tap::new(SimLink::new(tree(5, 3, Line::default()), 1));
    // Without permits it would wait for ever.
    let at = SimLink::BEGIN + Duration::from_secs(60);
    tap.stop_at = Some((at, Arc::clone(&stop)));
    worker::run(&mut tap, &mut jobs(5), &shared).unwrap();
    for record in records(&mut read) {
        assert_eq!(record.verdict, Verdict::Complete);
    }
    assert_eq!(stats.established_peak.load(Ordering::Relaxed), 5);
}
