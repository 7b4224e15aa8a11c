//! Probes that stand alone: which answer is whose.

use core::net::IpAddr;

use insession_common::flow::BLOCK;

use super::{METHODS, send};
use crate::session::{
    Direct, DirectKind, IcmpError, IcmpKind, Quote, QuotedAlone, Reply, Seen, Segment, Session,
    SessionOptions, Transmit, TransmitKind,
};
use crate::time::{Duration, Instant};
use crate::trace::{Method, ReplyKind, Rewrite, Verdict};
use crate::wire::alone::Alone;
use crate::wire::tcp::{Options, flags};

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const PORT: u16 = 61_056;
const HOPS: u8 = 3;

fn options() -> SessionOptions {
    SessionOptions {
        probes: 2,
        ..SessionOptions::default()
    }
}

fn session(method: Method) -> Session {
    session_from(method, PORT)
}

fn session_from(method: Method, port: u16) -> Session {
    let local = (IpAddr::from([192, 0, 2, 1]), port).into();
    let target = "198.51.100.7:33434".parse().unwrap();
    super::session_alone(&options(), method, (local, target), NOW)
}

/// What a router quotes of a packet of ours.
fn quote(session: &Session, transmit: &Transmit) -> Quote {
    let flow = session.flow();
    let odd = transmit.alone.unwrap();
    let (ports, alone) = match odd.alone {
        Alone::Segment { source_port } => ((source_port, 33_434), None),
        Alone::Echo {
            identifier,
            sequence,
            checksum,
        } => {
            let checksum = checksum.unwrap_or(0);
            let alone = QuotedAlone::Echo { sequence, checksum };
            ((identifier, 0), Some(alone))
        }
        Alone::Datagram {
            source_port,
            destination_port,
            checksum,
            data,
        } => {
            let alone = QuotedAlone::Datagram {
                checksum: checksum.unwrap_or(0x1234),
                length: 8 + u16::from(data),
                identification: odd.identification.unwrap_or(0x4321),
            };
            ((source_port, destination_port), Some(alone))
        }
    };
    Quote {
        source: (flow.local.ip(), ports.0).into(),
        destination: (flow.remote.ip(), ports.1).into(),
        sequence: match alone {
            None => transmit.segment.sequence,
            Some(_) => 0,
        },
        ttl: 1,
        traffic_class: 0,
        checksum_bad: None,
        seen: Seen::default(),
        alone,
    }
}

fn error(from: [u8; 4], kind: IcmpKind, code: u8, quote: Quote) -> Reply {
    Reply::Icmp(IcmpError {
        from: from.into(),
        kind,
        icmp_type: 11,
        icmp_code: code,
        ttl: 60,
        quote,
        mpls: vec![],
    })
}

/// The answer of a network of [`HOPS`] hops, the last the target.
fn answer(session: &Session, transmit: &Transmit) -> Reply {
    let quote = quote(session, transmit);
    let ttl = transmit.segment.ttl;
    let target = [198, 51, 100, 7];
    if ttl < HOPS {
        return error([10, 0, 0, ttl], IcmpKind::TimeExceeded, 0, quote);
    }
    match transmit.alone.unwrap().alone {
        Alone::Segment { .. } => Reply::Segment(Segment {
            sequence: 77,
            acknowledgment: transmit.segment.sequence.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: 1000,
            payload_len: 0,
            ttl: 62,
            options: Options::default(),
        }),
        Alone::Echo { sequence, .. } => Reply::Direct(Direct {
            from: target.into(),
            ttl: 62,
            kind: DirectKind::Echo { sequence },
        }),
        Alone::Datagram { .. } => error(target, IcmpKind::Unreachable, 3, quote),
    }
}

/// Lets it run against that network, each packet answered after `delay` of a
/// millisecond; what was sent beside probes.
fn run(session: &mut Session, change: impl Fn(&mut Reply)) -> (Vec<Transmit>, Vec<Transmit>) {
    let options = options();
    let (mut now, mut probes, mut others) = (NOW, Vec::new(), Vec::new());
    for _ in 0..10_000 {
        while session.poll_event().is_some() {}
        if session.is_finished() {
            return (probes, others);
        }
        if session.wants_transmit(&options, now) {
            let transmit = send(session, &options, now);
            if !matches!(transmit.kind, TransmitKind::Probe(_)) {
                others.push(transmit);
                continue;
            }
            probes.push(transmit);
            now = now + Duration::from_millis(1);
            let mut reply = answer(session, &transmit);
            change(&mut reply);
            session.handle_reply(&options, now, &reply);
        } else {
            let (at, _) = session.poll_timeout(&options, now).unwrap();
            now = now.max(at);
            session.handle_timeout(&options, now);
        }
    }
    panic!("it does not end: {session:?}");
}

#[test]
fn every_method_comes_to_the_target() {
    for method in METHODS {
        let mut session = session(method);
        let (probes, others) = run(&mut session, |_| {});
        assert_eq!(probes.len(), 6, "{method:?}");
        let report = session.into_report(NOW);
        assert_eq!(report.method, method);
        assert_eq!(report.verdict, Verdict::Complete, "{method:?}");
        assert_eq!(report.destination_ttl, Some(HOPS));
        let last = match method {
            Method::Icmp | Method::ParisIcmp => ReplyKind::EchoReply,
            Method::Tcp | Method::ParisTcp => ReplyKind::SynAck,
            _ => ReplyKind::Unreachable,
        };
        for hop in &report.hops {
            for probe in &hop.probes {
                let reply = probe.reply.as_ref().unwrap();
                let router = hop.ttl < HOPS;
                let expected = if router {
                    ReplyKind::TimeExceeded
                } else {
                    last
                };
                assert_eq!(reply.kind, expected, "{method:?}");
                assert_eq!(reply.rewrites, [], "{method:?}");
                assert_eq!(reply.rtt, Duration::from_millis(1));
            }
        }
        // Each SYN-ACK is answered by the RST that ends what its SYN began.
        let resets: Vec<u32> = others.iter().map(|it| it.segment.sequence).collect();
        let reached = probes.iter().filter(|it| it.segment.ttl == HOPS);
        let expected: Vec<u32> = match last {
            ReplyKind::SynAck => reached.map(|it| it.segment.sequence + 1).collect(),
            _ => Vec::new(),
        };
        assert_eq!(resets, expected, "{method:?}");
    }
}

#[test]
fn answers_that_are_of_nobody_change_nothing() {
    for method in METHODS {
        let mut session = session(method);
        // Every answer names another probe than any that was sent.
        let (_, others) = run(&mut session, |reply| match reply {
            Reply::Icmp(error) => {
                let quote = &mut error.quote;
                quote.sequence = quote.sequence.wrapping_add(1_000_001);
                quote.destination.set_port(9);
                quote.alone = match quote.alone {
                    None => None,
                    Some(QuotedAlone::Echo { checksum, .. }) => Some(QuotedAlone::Echo {
                        sequence: 60_000,
                        checksum,
                    }),
                    Some(QuotedAlone::Datagram { length, .. }) => Some(QuotedAlone::Datagram {
                        checksum: 60_000,
                        length,
                        identification: 60_000,
                    }),
                };
            }
            Reply::Segment(segment) => segment.acknowledgment = 3,
            Reply::Direct(answer) => answer.kind = DirectKind::Echo { sequence: 60_000 },
            Reply::Own(_) | Reply::OwnSyn { .. } => {}
        });
        assert!(others.is_empty());
        let report = session.into_report(NOW);
        assert_eq!(report.verdict, Verdict::GapLimit, "{method:?}");
        let replies = report.hops.iter().flat_map(|hop| &hop.probes);
        assert!(replies.into_iter().all(|probe| probe.reply.is_none()));
    }
}

#[test]
fn a_nat_is_seen_and_does_no_harm() {
    for method in [Method::ParisUdp, Method::Dublin, Method::Udp, Method::Icmp] {
        let mut session = session(method);
        let _ = run(&mut session, |reply| {
            if let Reply::Icmp(error) = reply
                && error.from == IpAddr::from([10, 0, 0, 2])
            {
                // Its quotes show our address as it was behind it, and with it the checksum.
                error.quote.source.set_ip([203, 0, 113, 5].into());
                if let Some(QuotedAlone::Datagram { checksum, .. }) = &mut error.quote.alone {
                    *checksum = checksum.wrapping_add(0x0b0b);
                }
            }
        });
        let report = session.into_report(NOW);
        assert_eq!(report.verdict, Verdict::Complete, "{method:?}");
        let rewrites = |nth: usize| {
            let reply = report.hops[nth].probes[0].reply.as_ref();
            reply.unwrap().rewrites.clone()
        };
        assert_eq!((rewrites(0), rewrites(1)), (vec![], vec![Rewrite::Source]));
    }
}

#[test]
fn echo_requests_of_one_flow_have_the_identifier_for_checksum() {
    // Of what has no -0, 0 is said.
    for (port, expected) in [(PORT, PORT), (PORT + 1, PORT + 1), (u16::MAX, 0)] {
        let (probes, _) = run(&mut session_from(Method::ParisIcmp, port), |_| {});
        for probe in probes {
            let Alone::Echo {
                identifier,
                checksum,
                ..
            } = probe.alone.unwrap().alone
            else {
                panic!("no echo request: {probe:?}");
            };
            assert_eq!((identifier, checksum), (port, Some(expected)));
        }
    }
}

#[test]
fn a_flow_has_its_block_of_ports_and_no_other() {
    let session = session(Method::Tcp);
    let flow = session.flow();
    for (port, own) in [
        (PORT, true),
        (PORT + 1, true),
        (PORT + BLOCK - 1, true),
        (PORT + BLOCK, false),
        (PORT - 1, false),
    ] {
        let mut other = flow;
        other.local.set_port(port);
        assert_eq!(session.has_flow(&other), own, "{port}");
    }
    let mut other = flow;
    other.remote.set_port(1);
    assert!(!session.has_flow(&other));
}
