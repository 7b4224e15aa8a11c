//! Probes that stand alone, over loopback: the kernel takes them and answers, and
//! nothing of what leaves comes back as an answer.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::tests::{PORTS, next, send};
use super::*;
use crate::net::testing::Namespace;
use crate::session::steered;
use crate::trace::Method;

const SESSION: SessionId = 7;
/// Nobody listens there.
const CLOSED: u16 = 33_434;

/// A probe by this method, from the local end on.
fn probe(method: Method, flow: &Flow) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([0; 6], [0; 6]);
    let ip = match (flow.local.ip(), flow.remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            ethernet.ipv4(local.octets(), remote.octets(), 1)
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            ethernet.ipv6(local.octets(), remote.octets(), 1)
        }
        _ => unreachable!(),
    };
    let (port, v6) = (flow.local.port(), flow.local.is_ipv6());
    let (mut frame, data) = (Vec::new(), &[7; 12]);
    match (method, v6) {
        (Method::Icmp, false) => ip.icmpv4_echo_request(port, 3).write(&mut frame, data),
        (Method::Icmp, true) => ip.icmpv6_echo_request(port, 3).write(&mut frame, data),
        (Method::Udp, _) => ip.udp(port, CLOSED).write(&mut frame, data),
        _ => ip.tcp(port, CLOSED, 5, 1000).syn().write(&mut frame, &[]),
    }
    .unwrap();
    frame
}

#[test]
fn probes_that_stand_alone_are_answered_and_not_taken_for_answers() {
    let host = Namespace::new();
    host.run(|| {
        let mut options = PacketOptions::new(PORTS);
        options.alone.datagrams = true;
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            for method in [Method::Icmp, Method::Udp, Method::Tcp] {
                let mut link = PacketLink::open("lo", &options).unwrap();
                let flow = Flow {
                    local: (address, 61_000).into(),
                    remote: steered(method, (address, CLOSED).into()),
                };
                link.add_alone(&flow, SESSION).unwrap();
                // What it gives first is the answer.
                for _ in 0..2 {
                    send(&mut link, &probe(method, &flow));
                    let answer = next(&mut link, "answer", |_| true);
                    assert!(!answer.outgoing, "{method:?} {address}");
                    assert_eq!(answer.session, SESSION);
                    let kind = match method {
                        Method::Udp => SteerKind::Quote,
                        _ => SteerKind::Segment,
                    };
                    assert_eq!(answer.kind, kind, "{method:?} {address}");
                }
            }
        }
    });
}

#[test]
fn packets_of_both_families_go_out_in_their_order() {
    let host = Namespace::new();
    host.run(|| {
        let mut options = PacketOptions::new(PORTS);
        options.alone.datagrams = true;
        let mut link = PacketLink::open("lo", &options).unwrap();
        let [v4, v6] = ["127.0.0.1", "::1"].map(|text| {
            let address: IpAddr = text.parse().unwrap();
            Flow {
                local: (address, 61_000).into(),
                remote: steered(Method::Icmp, (address, 0).into()),
            }
        });
        link.add_alone(&v4, 4).unwrap();
        link.add_alone(&v6, 6).unwrap();
        let order = [4, 4, 6, 4, 6, 6];
        for session in order {
            let flow = if session == 4 { &v4 } else { &v6 };
            let frame = probe(Method::Icmp, flow);
            link.transmit(&mut |buffer| {
                buffer[..frame.len()].copy_from_slice(&frame);
                frame.len()
            })
            .unwrap();
        }
        link.flush().unwrap();
        let answers = order.map(|_| next(&mut link, "answer", |_| true).session);
        assert_eq!(answers, order);
    });
}
