//! Path MTUs as a worker measures them in a simulated network whose lines have some.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::traces::{server_address, trace};
use super::{options, route, target};
use crate::engine::EngineOptions;
use crate::engine::jobs::Job;
use crate::link::sim::{Line, Router, Scenario, Server, SimLink, Target as Host, TooBig};
use crate::trace::{MtuLimit, MtuStep, PathMtu, Trace, Verdict};

/// A router, and the MTU of the line behind it.
type Hop = (TooBig, u16);

fn asks() -> EngineOptions {
    let mut options = options();
    options.session.mtu = true;
    options
}

fn router_address(target: u32, ttl: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, target as u8, 0, ttl as u8))
}

/// Ways of these hops, each to a server of its own; all lines are like this one.
fn network(ways: &[Vec<Hop>], line: Line, server: &Server) -> Scenario {
    let mut scenario = Scenario::new();
    for (n, way) in (0..).zip(ways) {
        let mut host = Host::new(server_address(n)).served_by(server.clone());
        let mut next = line;
        for (ttl, (too_big, mtu)) in (1..).zip(way) {
            let router = scenario.router(Router {
                too_big: *too_big,
                ..Router::at(router_address(n, ttl))
            });
            host = host.over(next, router);
            next = Line { mtu: *mtu, ..line };
        }
        host.last = next;
        scenario.target(host);
    }
    scenario
}

/// The records of these ways, each traced to its end.
fn measure(ways: &[Vec<Hop>], line: Line, server: &Server, seed: u64) -> Vec<Trace> {
    let mut link = SimLink::new(network(ways, line, server), seed);
    let jobs: VecDeque<Job> = (0..ways.len() as u32)
        .map(|n| Job {
            target: target(n.into(), server_address(n)),
            route: route(1),
        })
        .collect();
    trace(&mut link, jobs, &asks()).0
}

fn measured(way: Vec<Hop>) -> PathMtu {
    let records = measure(&[way], Line::default(), &Server::default(), 1);
    let [record] = &records[..] else {
        panic!("{records:#?}");
    };
    assert_eq!(record.verdict, Verdict::Complete);
    record.mtu.clone().expect("it was asked for")
}

fn step(ttl: usize, mtu: u16, told: bool) -> MtuStep {
    MtuStep {
        ttl: ttl as u8,
        from: Some(router_address(0, ttl)),
        mtu,
        told,
    }
}

#[test]
fn nothing_is_smaller_on_plain_lines() {
    let found = measured(vec![(TooBig::Tells, 1500); 4]);
    let expected = PathMtu {
        link: 1500,
        largest: Some(1500),
        limit: None,
        to_ttl: Some(5),
        path: Some(1500),
        steps: vec![],
        detail: None,
    };
    assert_eq!(found, expected);
}

#[test]
fn routers_tell_and_black_holes_do_not() {
    let found = measured(vec![
        (TooBig::Tells, 1500),
        (TooBig::Tells, 1450),
        (TooBig::Vanishes, 1333),
        (TooBig::Tells, 1400),
        (TooBig::Tells, 1280),
    ]);
    let steps = [
        step(2, 1450, true),
        step(3, 1333, false),
        step(5, 1280, true),
    ];
    assert_eq!(found.steps, steps);
    assert_eq!((found.path, found.detail), (Some(1280), None));
}

#[test]
fn old_routers_are_asked_down_the_plateaus_and_wrong_ones_not_believed() {
    let found = measured(vec![(TooBig::Tells, 1500), (TooBig::Says(0), 1492)]);
    assert_eq!(
        (found.path, found.steps),
        (Some(1492), vec![step(2, 1492, true)])
    );
    let found = measured(vec![(TooBig::Tells, 1500), (TooBig::Says(1600), 1300)]);
    assert_eq!(
        (found.path, found.steps),
        (Some(1300), vec![step(2, 1300, false)])
    );
    assert!(found.detail.is_some());
}

#[test]
fn many_are_measured_at_once_each_rightly() {
    // Of some it becomes smaller twice.
    let mtu = |n: u16, ttl: u16| 1500 - n * 7 - u16::from(n.is_multiple_of(3) && ttl > 2);
    let way = |n: u16| {
        let says = match n % 2 {
            0 => TooBig::Tells,
            _ => TooBig::Vanishes,
        };
        (1..=4).map(|ttl| (says, mtu(n, ttl))).collect()
    };
    let ways: Vec<Vec<Hop>> = (0..60).map(way).collect();
    for record in measure(&ways, Line::default(), &Server::default(), 7) {
        let n: u16 = record
            .target
            .strip_prefix("target-")
            .unwrap()
            .parse()
            .unwrap();
        let found = record.mtu.unwrap();
        assert_eq!(found.path, Some(mtu(n, 4)), "{n}: {found:?}");
        let told = found
            .steps
            .iter()
            .all(|step| step.told == n.is_multiple_of(2));
        assert!(told, "{n}: {found:?}");
    }
}

#[test]
fn lost_packets_change_nothing() {
    let line = Line {
        loss: 0.01,
        duplicate: 0.01,
        ..Line::default()
    };
    let way = vec![
        (TooBig::Tells, 1500),
        (TooBig::Tells, 1400),
        (TooBig::Vanishes, 1300),
    ];
    let ways = vec![way; 40];
    for record in measure(&ways, line, &Server::default(), 3) {
        let found = record.mtu.expect("a session was opened");
        assert_eq!(found.path, Some(1300), "{}: {found:?}", record.target);
    }
}

#[test]
fn servers_without_sack_or_with_small_windows_are_measured_to() {
    let way = vec![(TooBig::Tells, 1500), (TooBig::Tells, 1400)];
    let bare = Server {
        sack: false,
        timestamps: false,
        ..Server::default()
    };
    let records = measure(std::slice::from_ref(&way), Line::default(), &bare, 1);
    let found = records[0].mtu.clone().unwrap();
    assert_eq!(
        (found.path, found.steps),
        (Some(1400), vec![step(2, 1400, true)])
    );
    let narrow = Server {
        window: 1000,
        window_scale: None,
        ..Server::default()
    };
    let records = measure(&[way], Line::default(), &narrow, 1);
    let found = records[0].mtu.clone().unwrap();
    assert_eq!(found.limit, Some(MtuLimit::Window));
    assert_eq!((found.path, found.largest), (found.largest, found.path));
    assert!(found.is_lower_bound());
}

#[test]
fn only_who_is_asked_measures() {
    let way = vec![(TooBig::Tells, 1400)];
    let scenario = network(&[way], Line::default(), &Server::default());
    let mut link = SimLink::new(scenario, 1);
    let job = Job {
        target: target(0, server_address(0)),
        route: route(1),
    };
    let (records, _) = trace(&mut link, VecDeque::from([job]), &options());
    assert_eq!(records[0].mtu, None);
}
