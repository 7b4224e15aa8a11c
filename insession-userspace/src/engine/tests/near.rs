//! First hops that are probed once for all, held against the network's truth.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

use super::options;
use super::tap::Tap;
use super::traces::{check, jobs, server_address, trace, tree};
use crate::engine::EngineOptions;
use crate::engine::stats::Stats;
use crate::link::sim::{
    Balance, Line, Router, RouterId, Scenario, Server, SimLink, Target as Host,
};
use crate::trace::{Hop, Trace, Verdict};

fn address(hop: u32, branch: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (hop << 20) + branch))
}

/// Traces so many targets in this order, each held against the truth but for the
/// hops that are shared.
fn run(scenario: Scenario, targets: u32, sessions: usize) -> (Vec<Trace>, Stats) {
    let options = EngineOptions {
        share_near_hops: true,
        sessions,
        ..options()
    };
    let link = SimLink::new(scenario, 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    let (records, stats) = trace(&mut tap, jobs(targets), &options);
    assert_eq!(records.len(), targets as usize);
    let truth = truth.lock().unwrap();
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete);
        // What was probed behind the destination need not be next to it.
        let last = record.destination_ttl.unwrap();
        let ttls = record.hops.iter().map(|hop| hop.ttl);
        assert!(ttls.take(last.into()).eq(1..=last), "{record:?}");
        let mut own = record.clone();
        own.hops.retain(|hop| !hop.shared);
        check(&own, &truth);
    }
    let shared = records.iter().flat_map(|record| &record.hops);
    let shared = shared.filter(|hop| hop.shared).count() as u64;
    assert_eq!(stats.saved.load(Ordering::Relaxed), shared * 3);
    (records, stats)
}

/// Who answered at a hop.
fn from(hop: &Hop) -> Option<IpAddr> {
    let replies = hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
    replies.map(|reply| reply.from).next()
}

fn shares(record: &Trace) -> usize {
    record.hops.iter().filter(|hop| hop.shared).count()
}

#[test]
fn what_all_ways_have_in_common_is_probed_once_for_all() {
    const TARGETS: u32 = 2_000;
    let (records, stats) = run(tree(TARGETS, 5, Line::default()), TARGETS, 50);
    for (n, record) in (0..).zip(&records) {
        assert_eq!(record.destination_ttl, Some(6));
        assert_eq!(record.hops.len(), 6);
        for (hop, branch) in [(0, 0), (1, 0), (2, n % 16), (3, n)] {
            let found = from(&record.hops[hop as usize]);
            assert_eq!(found, Some(address(hop, branch)));
        }
        assert!([0, 2].contains(&shares(record)));
    }
    // Learnt from fewer than a hundred; from then on one in 64 is full.
    assert!(records[..32].iter().all(|record| shares(record) == 0));
    let late = &records[200..];
    let full = late.iter().filter(|record| shares(record) == 0).count();
    assert!((20..=40).contains(&full), "{full}");
    let saved = stats.saved.load(Ordering::Relaxed);
    let sent = stats.probes.load(Ordering::Relaxed);
    assert!(saved * 100 / (saved + sent) >= 28, "{saved} of {sent}");
}

#[test]
fn where_flows_are_balanced_nothing_is_shared() {
    let mut scenario = Scenario::new();
    let mut router = |hop, branch| scenario.router(Router::at(address(hop, branch)));
    let first = router(0, 0);
    let branches: Vec<[RouterId; 1]> = (0..4).map(|n| [router(1, n)]).collect();
    let third = router(2, 0);
    for n in 0..600 {
        let host = Host::new(server_address(n)).via([first]);
        let host = host
            .balanced(Balance::PerFlow, branches.clone())
            .via([third]);
        scenario.target(host);
    }
    let (records, _) = run(scenario, 600, 20);
    assert!(records.iter().all(|record| shares(record) <= 1));
    assert!(records.iter().any(|record| shares(record) == 1));
}

#[test]
fn a_way_that_changes_is_learnt_again() {
    const BEFORE: u32 = 1_000;
    const TARGETS: u32 = 2_400;
    let mut scenario = Scenario::new();
    let routers: Vec<_> = (0..4)
        .map(|n| scenario.router(Router::at(address(n / 2, n % 2))))
        .collect();
    let branches: Vec<_> = (0..16)
        .map(|n| scenario.router(Router::at(address(2, n))))
        .collect();
    for n in 0..TARGETS {
        let branch = branches[n as usize % 16];
        let way = match n < BEFORE {
            true => [routers[0], routers[2], branch],
            false => [routers[1], routers[3], branch],
        };
        scenario.target(Host::new(server_address(n)).via(way));
    }
    let (records, _) = run(scenario, TARGETS, 20);
    let wrong = |record: &Trace, branch| from(&record.hops[0]) != Some(address(0, branch));
    let (before, behind) = records.split_at(BEFORE as usize);
    assert!(!before.iter().any(|record| wrong(record, 0)));
    // Until a full trace has shown it: one in 64, and those under way.
    let mistaken = behind.iter().filter(|record| wrong(record, 1)).count();
    assert!((1..=64 + 40).contains(&mistaken), "{mistaken}");
    let late = &behind[mistaken + 64..];
    assert!(!late.iter().any(|record| wrong(record, 1)));
    assert!(late.iter().filter(|record| shares(record) == 2).count() > late.len() / 2);
}

#[test]
fn a_destination_within_the_shared_hops_is_found_where_it_is() {
    let mut scenario = Scenario::new();
    let routers: Vec<_> = (0..4)
        .map(|n| scenario.router(Router::at(address(n, 0))))
        .collect();
    // By the TTL of its answers much farther away than it is.
    let seems_far = Server {
        ttl: 50,
        ..Server::default()
    };
    let near = |n: u32| match n {
        n if n < 300 => 4,
        n => n as usize % 4,
    };
    for n in 0..600 {
        let host = Host::new(server_address(n)).via(routers[..near(n)].iter().copied());
        scenario.target(host.served_by(seems_far.clone()));
    }
    let (records, _) = run(scenario, 600, 20);
    for (n, record) in (0..).zip(&records) {
        assert_eq!(
            record.destination_ttl,
            Some(near(n) as u8 + 1),
            "{record:?}"
        );
        for (hop, found) in (0..near(n) as u32).zip(&record.hops) {
            assert_eq!(from(found), Some(address(hop, 0)));
        }
    }
    assert!(records[250..].iter().any(|record| shares(record) > 0));
}
