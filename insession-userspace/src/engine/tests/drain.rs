//! A run that is stopped gently: what is open goes on, nothing else begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tap::Tap;
use super::traces::{check, jobs, server_address, tree};
use super::{PLENTY, options, route, target};
use crate::engine::dispatch::{self, OpenLinks, RouteFailure, Routing, Way};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop, Target, Unbegun};
use crate::link::Link;
use crate::link::sim::{Line, SimLink};
use crate::time::Instant;
use crate::trace::{Trace, Verdict};

const TARGETS: u32 = 600;
const OPEN: usize = 100;

fn after(millis: u64) -> Instant {
    SimLink::BEGIN + Duration::from_millis(millis)
}

/// A trace takes longer than what is slept here.
fn line() -> Line {
    Line {
        latency: Duration::from_millis(3),
        ..Line::default()
    }
}

fn told(read: &mut mpsc::Receiver<Output>) -> BTreeMap<u64, Trace> {
    let mut told = BTreeMap::new();
    while let Ok(output) = read.try_recv() {
        if let Output::Trace { index, trace } = output {
            assert!(told.insert(index, *trace).is_none(), "two records");
        }
    }
    told
}

/// Drains after 40 ms, ends after `end` ms; what was told, and the tap.
fn drained(
    grace: Duration,
    end: Option<u64>,
    unbegun: Unbegun,
) -> (BTreeMap<u64, Trace>, Tap<'static>) {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
    let options = EngineOptions {
        sessions: OPEN,
        unbegun,
        ..options()
    };
    let link = SimLink::new(tree(TARGETS, 5, line()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    tap.drain_at = Some((after(40), grace, Arc::clone(&stop)));
    tap.stop_at = end.map(|millis| (after(millis), stop.clone()));
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    worker::run(&mut tap, &mut jobs(TARGETS), &shared).unwrap();
    let told = told(&mut read);
    for record in told.values().filter(|record| record.source_port.is_some()) {
        check(record, &truth.lock().unwrap());
    }
    assert_eq!((tap.left_open(), tap.flows.len()), (0, 0));
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
    assert_eq!(stats.finished.load(Ordering::Relaxed), told.len() as u64);
    // None began later than the drain was seen.
    assert!(tap.added.iter().all(|at| *at <= after(40)));
    (told, tap)
}

fn verdicts(told: &BTreeMap<u64, Trace>, verdict: Verdict) -> usize {
    told.values()
        .filter(|record| record.verdict == verdict)
        .count()
}

#[test]
fn what_is_open_is_traced_to_its_end_and_nothing_is_told_of_the_rest() {
    let (told, tap) = drained(Duration::from_secs(20), None, Unbegun::Untold);
    assert_eq!(verdicts(&told, Verdict::Complete), told.len());
    assert_eq!(told.len(), tap.opened());
    assert!((OPEN..TARGETS as usize / 2).contains(&told.len()));
    // Some of it was under way when the drain began.
    assert!(tap.kicks.iter().any(|(at, _)| *at > after(60)));
    assert!(tap.now() < after(2_000));
}

#[test]
fn the_rest_is_told_of_as_interrupted_where_it_is_to_be() {
    let (told, tap) = drained(Duration::from_secs(20), None, Unbegun::Interrupted);
    assert_eq!(told.len(), TARGETS as usize);
    assert_eq!(verdicts(&told, Verdict::Complete), tap.opened());
    for record in told.values().filter(|record| record.source_port.is_none()) {
        assert_eq!(record.verdict, Verdict::Interrupted);
        assert!(record.hops.is_empty());
    }
}

#[test]
fn what_takes_longer_than_the_grace_is_closed() {
    for (grace, end) in [(20, None), (20_000, Some(60))] {
        let (told, tap) = drained(Duration::from_millis(grace), end, Unbegun::Untold);
        let interrupted = verdicts(&told, Verdict::Interrupted);
        assert!(interrupted > 0 && told.len() == tap.opened(), "{grace}");
        assert_eq!(interrupted + verdicts(&told, Verdict::Complete), told.len());
        // The closing segments, and nothing behind them.
        assert!(tap.kicks.last().unwrap().0 <= after(100), "{grace}");
    }
}

/// Everybody goes the same way.
struct OneWay;

impl Routing for OneWay {
    fn route(&mut self, _: &Target) -> Result<Way, RouteFailure> {
        Ok(Way::Known(route(1)))
    }
}

#[test]
fn a_campaign_that_drains_tells_nothing_of_what_it_did_not_begin() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Arc::<Stats>::default());
    let options = EngineOptions {
        sessions: OPEN,
        unbegun: Unbegun::Untold,
        ..options()
    };
    let asked = Arc::clone(&stop);
    let open = move |_: &crate::net::Interface| -> Result<OpenLinks, crate::link::LinkError> {
        let mut tap = Tap::new(SimLink::new(tree(TARGETS, 5, line()), 1));
        tap.drain_at = Some((after(40), Duration::from_secs(20), Arc::clone(&asked)));
        Ok(vec![Box::new(tap)])
    };
    // Without an end: whatever was not begun is left where it is.
    let more = (u64::from(TARGETS)..).map(|n| target(n, server_address(0)));
    let targets = Box::new(jobs(TARGETS).into_iter().map(|job| job.target).chain(more));
    dispatch::run(
        targets,
        &mut OneWay,
        &open,
        &options,
        &outputs,
        &stop,
        &stats,
    )
    .unwrap();
    let told = told(&mut read);
    assert!(told.len() >= OPEN);
    assert_eq!(verdicts(&told, Verdict::Complete), told.len());
}

#[test]
fn no_more_sessions_are_begun_than_may_be_without_a_safe_record() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
    let options = EngineOptions {
        sessions: OPEN,
        unbegun: Unbegun::Untold,
        // Nobody records.
        recorded: Some(Arc::default()),
        ..options()
    };
    let mut tap = Tap::new(SimLink::new(tree(TARGETS, 5, line()), 1));
    tap.drain_at = Some((after(5_000), Duration::from_secs(20), Arc::clone(&stop)));
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    worker::run(&mut tap, &mut jobs(TARGETS), &shared).unwrap();
    let told = told(&mut read);
    assert_eq!((told.len(), tap.opened()), (OPEN, OPEN));
    assert_eq!(verdicts(&told, Verdict::Complete), OPEN);
}
