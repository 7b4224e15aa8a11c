//! What a campaign does around its workers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use insession_common::flow::SessionId;
use tokio::sync::mpsc;

use super::{PLENTY, interface, options, records, route, target};
use crate::engine::dispatch::{OpenLink, OpenLinks, RouteFailure, Routing, Targets, Way, run};
use crate::engine::{EngineOptions, Output, Stop, Target, Unbegun, stats::Stats};
use crate::link::{Link, LinkError, Received};
use crate::net::{NextHop, Route};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::{LinkInfo, Trace, Verdict};

fn address(n: u64) -> IpAddr {
    let [.., a, b] = n.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(198, 51, a, b))
}

fn targets(n: u64) -> Targets {
    Box::new((0..n).map(|n| target(n, address(n))))
}

/// Routes by the target's index.
struct Table(fn(u64) -> Result<Route, RouteFailure>);

impl Routing for Table {
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure> {
        (self.0)(target.index).map(Way::Known)
    }
}

fn forbidden() -> LinkError {
    LinkError::NotPermitted {
        what: "loading the XDP program".into(),
        reason: "CAP_BPF is missing".into(),
        mend: "run as root".into(),
    }
}

fn missing() -> LinkError {
    LinkError::NoInterface("sim9".into())
}

/// A link that is down from the beginning.
struct Down;

impl Link for Down {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "sim",
            mode: None,
            zero_copy: false,
            interface: "sim1".into(),
        }
    }
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn add_flow(&mut self, _: &Flow, _: SessionId) -> Result<(), LinkError> {
        Err(LinkError::Down("sim1".into()))
    }
    fn remove_flow(&mut self, _: &Flow) {}
    fn room(&mut self) -> usize {
        64
    }
    fn transmit(&mut self, _: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        Err(LinkError::Full)
    }
    fn flush(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
    fn receive(&mut self, _: usize, _: &mut dyn FnMut(Received<'_>)) -> Result<usize, LinkError> {
        Ok(0)
    }
    fn wait(&mut self, _: Instant) -> Result<(), LinkError> {
        Ok(())
    }
    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

struct Ended {
    result: Result<(), LinkError>,
    records: Vec<Trace>,
    finished: u64,
}

fn campaign(
    targets: Targets,
    routing: fn(u64) -> Result<Route, RouteFailure>,
    open: &OpenLink,
) -> Ended {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Arc::new(Stats::default()));
    let result = run(
        targets,
        &mut Table(routing),
        open,
        &options(),
        &outputs,
        &stop,
        &stats,
    );
    Ended {
        result,
        records: records(&mut read),
        finished: stats.finished.load(Ordering::Relaxed),
    }
}

#[test]
fn no_targets_need_no_link() {
    let ended = campaign(targets(0), |_| Ok(route(1)), &|_| Err(forbidden()));
    assert!(ended.result.is_ok());
    assert!(ended.records.is_empty());
}

#[test]
fn a_target_without_a_way_has_its_record() {
    let ended = campaign(
        targets(1_000),
        |_| {
            Err(RouteFailure {
                verdict: Verdict::NoRoute,
                detail: "network is unreachable; add a route".into(),
            })
        },
        &|_| Err(forbidden()),
    );
    assert!(ended.result.is_ok());
    assert_eq!((ended.records.len(), ended.finished), (1_000, 1_000));
    for (n, record) in ended.records.iter().enumerate() {
        assert_eq!(record.verdict, Verdict::NoRoute);
        assert_eq!(
            record.detail.as_deref(),
            Some("network is unreachable; add a route")
        );
        assert_eq!(record.address, Some(address(n as u64)));
        assert_eq!((record.source, record.source_port), (None, None));
        assert_eq!(record.link, None);
    }
}

#[test]
fn when_no_link_opens_the_run_fails_and_every_target_says_why() {
    let ended = campaign(targets(1_000), |n| Ok(route(n as u32 % 3)), &|_| {
        Err(missing())
    });
    assert!(matches!(ended.result, Err(LinkError::NoInterface(_))));
    assert_eq!(ended.records.len(), 1_000);
    for record in &ended.records {
        assert_eq!(record.verdict, Verdict::Error);
        assert_eq!(record.detail, Some(missing().to_string()));
    }
}

#[test]
fn when_links_are_forbidden_the_run_ends_though_targets_never_do() {
    let ended = campaign(targets(u64::MAX), |_| Ok(route(1)), &|_| Err(forbidden()));
    assert!(matches!(ended.result, Err(LinkError::NotPermitted { .. })));
}

#[test]
fn a_dead_link_ends_its_targets_and_one_link_is_opened_an_interface() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let open = move |asked: &crate::net::Interface| -> Result<OpenLinks, LinkError> {
        assert!(*asked == interface(1) || *asked == interface(2));
        count.fetch_add(1, Ordering::Relaxed);
        Ok(vec![Box::new(Down)])
    };
    let ended = campaign(targets(2_000), |n| Ok(route(1 + n as u32 % 2)), &open);
    assert!(ended.result.is_ok());
    assert_eq!(opened.load(Ordering::Relaxed), 2);
    assert_eq!((ended.records.len(), ended.finished), (2_000, 2_000));
    for record in &ended.records {
        assert_eq!(record.verdict, Verdict::Error);
        assert_eq!(
            record.detail,
            Some(LinkError::Down("sim1".into()).to_string())
        );
        assert!(record.link.is_some());
    }
}

#[test]
fn where_nothing_is_told_of_the_unbegun_a_dead_link_is_an_error() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::default(), Arc::default());
    let options = EngineOptions {
        unbegun: Unbegun::Untold,
        ..options()
    };
    let open = |_: &_| -> Result<OpenLinks, LinkError> { Ok(vec![Box::new(Down)]) };
    let routing = &mut Table(|_| Ok(route(1)));
    let ended = run(
        targets(2_000),
        routing,
        &open,
        &options,
        &outputs,
        &stop,
        &stats,
    );
    assert!(matches!(ended, Err(LinkError::Down(_))), "{ended:?}");
    let records = records(&mut read);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Interrupted)
    );
    assert!(records.len() < 2_000, "those not begun have none");
}

/// A supply that never goes on, until its sender is dropped.
fn blocked() -> (std::sync::mpsc::Sender<Target>, Targets) {
    let (sender, receiver) = std::sync::mpsc::channel();
    (sender, Box::new(receiver.into_iter()))
}

#[test]
fn a_stop_does_not_wait_for_targets_that_do_not_come() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Arc::default());
    stop.end();
    let (sender, targets) = blocked();
    for n in 0..5 {
        sender.send(target(n, address(n))).unwrap();
    }
    let routing = &mut Table(|_| Ok(route(1)));
    let open = |_: &_| Err(forbidden());
    assert!(run(targets, routing, &open, &options(), &outputs, &stop, &stats).is_ok());
    let records = records(&mut read);
    assert_eq!(records.len(), 5);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Interrupted)
    );
    drop(sender);
}

#[test]
fn when_nobody_reads_the_run_ends() {
    let (outputs, read) = mpsc::channel::<Output>(1);
    drop(read);
    let (stop, stats) = (Arc::default(), Arc::default());
    let (sender, targets) = blocked();
    let routing = &mut Table(|_| Ok(route(1)));
    let open = |_: &_| Err(missing());
    assert!(run(targets, routing, &open, &options(), &outputs, &stop, &stats).is_ok());
    drop(sender);
}

/// Even targets wait for a neighbour that is settled once all odd ones are
/// routed, or never.
struct Slow {
    odd: usize,
    settles: bool,
    settled: bool,
    stop: Arc<Stop>,
}

const SLOW: NextHop = NextHop {
    interface: 1,
    address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
};

impl Routing for Slow {
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure> {
        if target.index.is_multiple_of(2) && !self.settled {
            return Ok(Way::Pending(SLOW));
        }
        self.odd += 1;
        Err(RouteFailure {
            verdict: Verdict::NoRoute,
            detail: "none".into(),
        })
    }

    fn settled(&mut self, _: Duration) -> Vec<NextHop> {
        if self.odd < 50 {
            return Vec::new();
        }
        if !self.settles {
            self.stop.end();
            return Vec::new();
        }
        self.settled = true;
        vec![SLOW]
    }
}

fn with_a_slow_neighbour(settles: bool) -> Vec<Trace> {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let stop = Arc::new(Stop::new());
    let mut slow = Slow {
        odd: 0,
        settles,
        settled: false,
        stop: Arc::clone(&stop),
    };
    let (open, stats) = (|_: &_| Err(missing()), Arc::default());
    let options = options();
    let targets = targets(100);
    run(targets, &mut slow, &open, &options, &outputs, &stop, &stats).unwrap();
    records(&mut read)
}

#[test]
fn a_slow_neighbour_holds_up_its_own_targets_only() {
    let records = with_a_slow_neighbour(true);
    assert_eq!(records.len(), 100);
    assert!(records.iter().all(|it| it.verdict == Verdict::NoRoute));
}

#[test]
fn a_stop_does_not_wait_for_neighbours() {
    let records = with_a_slow_neighbour(false);
    assert_eq!(records.len(), 100);
    for (n, record) in records.iter().enumerate() {
        let expected = [Verdict::Interrupted, Verdict::NoRoute][n % 2];
        assert_eq!(record.verdict, expected, "{n}");
    }
}
