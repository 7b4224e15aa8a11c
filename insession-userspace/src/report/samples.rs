//! Traces made by hand, for the golden tests of the formats.

use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use any::any_trace;

mod any;

use crate::time::{Duration, UnixTime};
use crate::trace::{
    Handshake, Hop, LinkInfo, Method, MplsLabel, MtuStep, Owner, PathMtu, Probe, Reply, ReplyKind,
    Rewrite, RttBound, Trace, Verdict,
};

/// Every sample.
pub(crate) fn all() -> Vec<Trace> {
    let mut all = every_verdict();
    all.extend([contract(), four_hops(), annotated()]);
    all.push(empty("nosuch.example", Verdict::Error));
    all
}

/// A target that nothing is known of.
pub(crate) fn empty(target: &str, verdict: Verdict) -> Trace {
    Trace {
        target: target.to_owned(),
        address: None,
        port: 443,
        method: Method::InSession,
        source: None,
        source_port: None,
        started: UnixTime(0),
        duration: Duration::ZERO,
        verdict,
        detail: None,
        handshake: None,
        destination_ttl: None,
        mtu: None,
        hops: Vec::new(),
        link: None,
    }
}

/// A probe that was answered after a millisecond.
pub(crate) fn answered(kind: ReplyKind, from: &str) -> Reply {
    Reply {
        kind,
        from: from.parse().unwrap(),
        name: None,
        owner: None,
        rtt: Duration::from_millis(1),
        rtt_bound: RttBound::Exact,
        icmp: None,
        reply_ttl: Some(64),
        quoted_ttl: None,
        mtu: None,
        mpls: Vec::new(),
        rewrites: Vec::new(),
        nat: None,
    }
}

/// A probe that was not.
pub(crate) fn silent(sent_us: u64) -> Probe {
    Probe {
        sent: Duration::from_micros(sent_us),
        reply: None,
    }
}

fn probe(reply: Reply) -> Probe {
    Probe {
        sent: Duration::from_micros(1_000),
        reply: Some(reply),
    }
}

/// The example of the contract, with what it leaves out.
pub(crate) fn contract() -> Trace {
    let router = Reply {
        rtt: Duration::from_nanos(57_100),
        icmp: Some((11, 0)),
        quoted_ttl: Some(1),
        mpls: vec![MplsLabel {
            label: 24001,
            tc: 1,
            bottom: true,
            ttl: 1,
        }],
        rewrites: vec![Rewrite::Source, Rewrite::Dscp],
        ..answered(ReplyKind::TimeExceeded, "10.0.1.1")
    };
    let server = Reply {
        name: Some("www.example".to_owned()),
        owner: Some(Arc::new(Owner {
            asn: Some(64500),
            ..Owner::default()
        })),
        rtt: Duration::from_nanos(204_625),
        rtt_bound: RttBound::Upper,
        reply_ttl: Some(63),
        ..answered(ReplyKind::Sack, "10.0.9.2")
    };
    Trace {
        address: Some("10.0.9.2".parse().unwrap()),
        port: 80,
        source: Some("10.0.1.2".parse().unwrap()),
        source_port: Some(61234),
        started: UnixTime(1_767_323_045_678_901_234),
        duration: Duration::from_nanos(81_234_500),
        handshake: Some(Handshake {
            rtt: Duration::from_nanos(812_400),
            mss: 1460,
            sack: true,
            timestamps: true,
            window_scale: Some(7),
        }),
        destination_ttl: Some(2),
        hops: vec![
            Hop::new(
                1,
                vec![
                    Probe {
                        sent: Duration::from_micros(1042),
                        reply: Some(router),
                    },
                    silent(1043),
                ],
            ),
            Hop::new(
                2,
                vec![Probe {
                    sent: Duration::from_nanos(1_050_125),
                    reply: Some(server),
                }],
            ),
        ],
        link: Some(Arc::new(LinkInfo {
            kind: "xdp",
            mode: Some("native"),
            zero_copy: false,
            interface: "eth0".to_owned(),
        })),
        ..empty("www.example", Verdict::Complete)
    }
}

/// Four hops of three probes, the third silent, the last the destination.
pub(crate) fn four_hops() -> Trace {
    let hop = |ttl: u8, kind, from: &str| {
        let probes = (1..=3).map(|nth| {
            probe(Reply {
                rtt: Duration::from_micros(u64::from(ttl) * 100 + nth),
                ..answered(kind, from)
            })
        });
        Hop::new(ttl, probes.collect())
    };
    let mut trace = contract();
    trace.destination_ttl = Some(4);
    trace.hops = vec![
        hop(1, ReplyKind::TimeExceeded, "10.0.1.1"),
        hop(2, ReplyKind::TimeExceeded, "10.0.2.1"),
        Hop::new(3, vec![silent(3); 3]),
        hop(4, ReplyKind::Sack, "10.0.9.2"),
    ];
    trace
}

/// One trace a verdict, in the contract's order.
pub(crate) fn every_verdict() -> Vec<Trace> {
    let address: IpAddr = "10.0.9.2".parse().unwrap();
    [
        (Verdict::Complete, None),
        (Verdict::Unreachable, Some("type 3 code 13")),
        (Verdict::GapLimit, None),
        (Verdict::MaxTtl, None),
        (Verdict::Refused, None),
        (Verdict::Reset, None),
        (Verdict::ClosedByPeer, None),
        (Verdict::HandshakeTimeout, None),
        (Verdict::SeqRewritten, None),
        (Verdict::Excluded, None),
        (
            Verdict::NoRoute,
            Some("10.0.9.2: network unreachable; add a route"),
        ),
        (Verdict::Interrupted, None),
        (
            Verdict::Error,
            Some("nosuch.example: no such host; check the name"),
        ),
    ]
    .into_iter()
    .map(|(verdict, detail)| Trace {
        address: Some(address),
        destination_ttl: (verdict == Verdict::Complete).then_some(4),
        duration: Duration::from_millis(1500),
        detail: detail.map(str::to_owned),
        ..empty("10.0.9.2", verdict)
    })
    .collect()
}

/// One that becomes smaller twice, told and not told.
pub(crate) fn path_mtu() -> PathMtu {
    let step = |ttl, from: Option<&str>, mtu| MtuStep {
        ttl,
        from: from.map(|from| from.parse().unwrap()),
        mtu,
        told: from.is_some(),
    };
    PathMtu {
        link: 1500,
        largest: Some(1500),
        limit: None,
        to_ttl: Some(4),
        path: Some(1300),
        steps: vec![step(1, Some("10.0.1.1"), 1400), step(2, None, 1300)],
        detail: None,
    }
}

/// Everything that a hop's line can show.
pub(crate) fn annotated() -> Trace {
    let error = |code: u8, from: &str| {
        let number = if from.contains(':') { 1 } else { 3 };
        probe(Reply {
            icmp: Some((number, code)),
            ..answered(ReplyKind::Unreachable, from)
        })
    };
    let exceeded = |from: &str| Reply {
        icmp: Some((11, 0)),
        ..answered(ReplyKind::TimeExceeded, from)
    };
    let too_big = |mtu: Option<u32>| {
        probe(Reply {
            icmp: Some((3, 4)),
            mtu,
            ..answered(ReplyKind::PacketTooBig, "10.0.4.1")
        })
    };
    let label = |label, tc, bottom, ttl| MplsLabel {
        label,
        tc,
        bottom,
        ttl,
    };
    let server = |kind| answered(kind, "10.0.9.2");
    let hops = [
        vec![
            silent(1),
            probe(exceeded("10.0.1.1")),
            probe(Reply {
                rtt: Duration::from_millis(2),
                ..exceeded("10.0.1.2")
            }),
        ],
        [0, 1, 2, 3, 4, 5, 13, 14, 15, 8]
            .map(|code| error(code, "10.0.2.1"))
            .to_vec(),
        [0, 1, 2, 3, 4]
            .map(|code| error(code, "2001:db8::3"))
            .to_vec(),
        vec![too_big(Some(1400)), too_big(Some(0))],
        vec![
            probe(Reply {
                mpls: vec![label(16001, 0, false, 1), label(24001, 5, true, 254)],
                ..exceeded("10.0.5.1")
            }),
            probe(Reply {
                rewrites: vec![Rewrite::Ttl],
                ..exceeded("10.0.5.1")
            }),
            probe(exceeded("10.0.5.1")),
        ],
        vec![silent(1), silent(2), silent(3)],
        vec![
            probe(exceeded("10.0.9.2")),
            probe(server(ReplyKind::Sack)),
            probe(Reply {
                rtt_bound: RttBound::Upper,
                ..server(ReplyKind::Sack)
            }),
            probe(server(ReplyKind::DupAck)),
            silent(1),
            probe(server(ReplyKind::Rst)),
            probe(exceeded("10.0.9.2")),
        ],
    ];
    Trace {
        address: Some("2001:db8::9".parse().unwrap()),
        source: Some("2001:db8::1".parse().unwrap()),
        handshake: Some(Handshake {
            rtt: Duration::from_millis(12),
            mss: 536,
            sack: false,
            timestamps: false,
            window_scale: None,
        }),
        hops: (1..)
            .zip(hops)
            .map(|(ttl, probes)| Hop::new(ttl, probes))
            .collect(),
        link: Some(Arc::new(LinkInfo {
            kind: "packet",
            mode: None,
            zero_copy: false,
            interface: "eth1".to_owned(),
        })),
        ..empty("2001:db8::9", Verdict::MaxTtl)
    }
}
