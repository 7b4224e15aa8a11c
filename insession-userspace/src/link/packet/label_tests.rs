//! A whole trace over the link, seen from beside it: what a balancer may hash is
//! the same in the kernel's segments and in ours.

use std::collections::{BTreeSet, VecDeque};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tokio::sync::mpsc;

use super::tests::{PORTS, listen};
use super::*;
use crate::engine::jobs::Job;
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop, Target};
use crate::net::testing::{self, pair};
use crate::net::{Router, RouterOptions};
use crate::session::SessionOptions;
use crate::trace::Verdict;

/// What a balancer may hash, beside addresses and ports: the traffic class and
/// the flow label (IPv6).
type Hashed = (u8, u32);

/// The same of a frame from our ports, and what kind of segment it is.
fn outgoing(frame: &[u8]) -> Option<(&'static str, Hashed)> {
    let parsed = SlicedPacket::from_ethernet(frame).ok()?;
    let hashed = match parsed.net? {
        NetSlice::Ipv4(ip) => (ip.header().dcp().value() << 2, 0),
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.traffic_class(), header.flow_label().value())
        }
        _ => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = parsed.transport else {
        return None;
    };
    let kind = match (tcp.syn(), tcp.rst(), tcp.payload().len()) {
        (true, ..) => "SYN",
        (_, true, _) => "RST",
        (.., 0) => "ACK",
        _ => "probe",
    };
    PORTS.contains(&tcp.source_port()).then_some((kind, hashed))
}

#[test]
fn every_segment_of_a_connection_has_the_same_label_and_class() {
    let (near, far) = pair();
    for remote in ["198.18.1.2:80", "[fd00:1::2]:80"] {
        let _listener = listen(&far, remote);
        near.run(|| {
            // As it is on hosts: labels on all that does not say otherwise.
            std::fs::write("/proc/sys/net/ipv6/auto_flowlabels", "1").unwrap();
            let index = net::interface("near0").unwrap().index;
            // BPF_RET: all of every frame.
            let all = libc::sock_filter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: u32::MAX,
            };
            let beside = socket::open(index, &[all]).unwrap();

            let dscp = 10;
            let session = SessionOptions {
                dscp,
                ..SessionOptions::default()
            };
            let options = EngineOptions {
                sessions: 1,
                batch: Some(64),
                ..EngineOptions::new(session, PORTS, [7; 16])
            };
            let remote: SocketAddr = remote.parse().unwrap();
            let target = Target {
                index: 0,
                name: String::new(),
                address: remote.ip(),
                port: remote.port(),
            };
            let mut router = Router::new(RouterOptions::default()).unwrap();
            let route = testing::route(&mut router, &target).unwrap();
            let (outputs, mut read) = mpsc::channel(8);
            let (stop, stats) = (Stop::new(), Stats::default());
            let shared = Shared::new(&options, &outputs, &stop, &stats);
            let mut link = PacketLink::open(
                "near0",
                &PacketOptions {
                    dscp,
                    ..PacketOptions::new(PORTS)
                },
            )
            .unwrap();
            worker::run(
                &mut link,
                &mut VecDeque::from([Job { target, route }]),
                &shared,
            )
            .unwrap();
            let Output::Trace { trace, .. } = read.try_recv().unwrap() else {
                panic!("no record");
            };
            assert_eq!(trace.verdict, Verdict::Complete);

            let mut seen = BTreeSet::new();
            let mut receiver = socket::Receiver::new();
            while receiver.receive(&beside, 64).unwrap() > 0 {
                seen.extend(receiver.frames().filter_map(|frame| outgoing(frame.bytes)));
            }
            let same = (dscp << 2, 0);
            let expected = ["ACK", "RST", "SYN", "probe"].map(|kind| (kind, same));
            assert_eq!(seen, BTreeSet::from(expected));
        });
    }
}
