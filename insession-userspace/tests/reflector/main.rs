//! The reflector in the kernel: insession's sessions over AF_XDP, other people's
//! tools and the kernel's own TCP in a test bed, all held against the truth.
//! Needs root, `ip`, `ethtool`, `traceroute` and `scamper`; without them it fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, may panic")]

#[path = "../bed/mod.rs"]
mod bed;
mod tools;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use insession::engine::jobs::Job;
use insession::engine::stats::Stats;
use insession::engine::worker::{self, Shared};
use insession::engine::{EngineOptions, Output, Stop, Target};
use insession::link::xdp::{XdpLink, XdpOptions};
use insession::net::Route;
use insession::session::SessionOptions;
use insession::testbed::{self, Bed};
use insession::trace::{Trace, Verdict};
use insession_common::reflect::Network;
use tokio::sync::mpsc;

pub use bed::in_a_bed;

fn traces(bed: &Bed, targets: Vec<SocketAddr>) -> Vec<Trace> {
    let count = targets.len();
    let mut jobs: VecDeque<Job> = targets
        .into_iter()
        .enumerate()
        .map(|(index, address)| Job {
            target: Target {
                index: index as u64,
                name: address.to_string(),
                address: address.ip(),
                port: address.port(),
            },
            route: Route {
                interface: bed.near().clone().into(),
                vlan: None,
                source: match address.is_ipv4() {
                    true => testbed::NEAR_V4.into(),
                    false => testbed::NEAR_V6.into(),
                },
                source_mac: testbed::NEAR_MAC,
                next_hop_mac: bed.far_mac(),
                mtu: 1500,
                device_mtu: 1500,
            },
        })
        .collect();
    let options = EngineOptions {
        rate: Some(20_000.0),
        sessions: 4000,
        ..EngineOptions::new(
            SessionOptions::default(),
            61_000..=65_535,
            *b"no secret at all",
        )
    };
    let (outputs, mut read) = mpsc::channel(1 << 14);
    let (stop, stats) = (Stop::new(), Stats::default());
    let mut link = XdpLink::open(bed.near(), &XdpOptions::default()).unwrap();
    worker::run(
        &mut link,
        &mut jobs,
        &Shared::new(&options, &outputs, &stop, &stats),
    )
    .unwrap();
    let mut records = Vec::new();
    while let Ok(output) = read.try_recv() {
        if let Output::Trace { trace, .. } = output {
            records.push(*trace);
        }
    }
    let names: HashSet<_> = records.iter().map(|trace| trace.target.clone()).collect();
    assert_eq!((records.len(), names.len()), (count, count));
    records
}

#[test]
fn every_hop_of_thousands_of_sessions_is_the_truth() {
    let network = Network {
        silent: 2000,
        mpls: 20_000,
        mute: 300,
        refuse: 600,
        ..Network::default()
    };
    in_a_bed(network, |bed| {
        let targets = testbed::targets(2000).chain(testbed::targets_v6(500));
        let mut verdicts: HashMap<Verdict, usize> = HashMap::new();
        for trace in traces(bed, targets.collect()) {
            testbed::check(&network, &trace).unwrap();
            *verdicts.entry(trace.verdict).or_default() += 1;
        }
        assert!(verdicts.contains_key(&Verdict::Refused), "{verdicts:?}");
        let counters: HashMap<_, _> = bed.counters().into_iter().collect();
        for label in [
            "exceeded",
            "exceeded-mpls",
            "silent",
            "sack",
            "syn-ack",
            "refused",
        ] {
            assert!(counters[label] > 0, "{label}: {counters:?}");
        }
        // Nothing else was on the wire, and nothing that does not parse.
        for label in [
            "checksum",
            "malformed",
            "truncated",
            "no-room",
            "no-session",
        ] {
            assert_eq!(counters[label], 0, "{label}: {counters:?}");
        }

        // Another network, on the same wire.
        let lossy = Network {
            key: 7,
            loss: 3000,
            ..Network::default()
        };
        bed.reconfigure(&lossy).unwrap();
        let records = traces(bed, testbed::targets(300).collect());
        for trace in &records {
            testbed::check(&lossy, trace).unwrap();
        }
        let unanswered = |trace: &Trace| {
            let mut probes = trace.hops.iter().flat_map(|hop| &hop.probes);
            probes.any(|probe| probe.reply.is_none())
        };
        assert!(records.iter().any(unanswered));
    });
}

#[test]
fn the_kernel_connects() {
    let network = Network {
        refuse: 20_000,
        ..Network::default()
    };
    in_a_bed(network, |_| {
        let mut seen = HashSet::new();
        let targets = testbed::targets(12).chain(testbed::targets_v6(12));
        for target in targets {
            let connected = TcpStream::connect_timeout(&target, Duration::from_secs(5));
            let expected = insession_common::reflect::refuses(&network, target.ip())
                .then_some(ErrorKind::ConnectionRefused);
            assert_eq!(
                connected.err().map(|error| error.kind()),
                expected,
                "{target}"
            );
            seen.insert((target.is_ipv4(), expected));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    });
}
