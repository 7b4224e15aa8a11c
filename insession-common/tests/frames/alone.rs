//! Answers to probes that stand alone: echo replies, datagrams, and errors that quote
//! what drew them; flows by blocks of ports.

use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, SessionId, UNRESOLVED};
use insession_common::stamp::SteerKind;
use insession_common::steer::Decision;

use super::*;

/// Where blocks of ports begin: a multiple of their length above the first port.
pub const BLOCKS: u16 = 61_440;

/// Flows of echo requests, datagrams, and of a block of ports.
pub fn alone_flows() -> Vec<(FlowKey, SessionId)> {
    let mut v6 = flow_v6(FIRST + 2);
    if let FlowKey::V6(key) = &mut v6 {
        key.remote_port = 58u16.to_be_bytes();
    }
    vec![
        (flow_v4(SERVER, 443, FIRST), 7),
        (flow_v4(SERVER, 1, FIRST + 2), 20),
        (flow_v4(SERVER, 17, FIRST + 3), 21),
        (flow_v4(SERVER, 17, BLOCKS), 22),
        (flow_v4(SERVER, 80, BLOCKS + 128), 23),
        (v6, 24),
    ]
}

/// A datagram's first eight bytes.
fn udp(source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source_port.to_be_bytes());
    datagram.extend(destination_port.to_be_bytes());
    datagram.extend([0, 40, 0x12, 0x34]);
    datagram
}

/// An echo request's or reply's.
fn echo(icmp_type: u8, identifier: u16) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0xab, 0xcd];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// An error that quotes a packet of ours of this protocol.
fn about(protocol: u8, l4: &[u8]) -> Vec<u8> {
    let quote = v4(US, SERVER, protocol, &[], l4);
    let error = icmp(11, 0, &quote);
    ethernet(&[], 0x0800, &v4(ROUTER, US, 1, &[], &error))
}

/// A packet of the server's to us.
fn from_server(protocol: u8, l4: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, &v4(SERVER, US, protocol, &[], l4))
}

/// Frames, what is to become of them where there are such flows, and whether that is
/// the same where there are none.
pub fn alone() -> Vec<(Fixture, bool)> {
    use SteerKind::{Quote, RewrittenQuote, Segment};
    let ours = |session, kind| Decision::Ours {
        session,
        kind,
        l3_offset: 14,
    };
    let passed = Decision::Pass;
    let reply6 = |identifier| {
        let message = echo(129, identifier);
        ethernet(&[], 0x86dd, &v6(SERVER6, US6, 58, &[], &message))
    };
    let quote6 = |identifier| {
        let quote = v6(US6, SERVER6, 58, &[], &echo(128, identifier));
        let error = icmp(3, 0, &quote);
        ethernet(&[], 0x86dd, &v6(ROUTER6, US6, 58, &[], &error))
    };
    let natted = {
        let quote = v4(NATTED, SERVER, 17, &[], &udp(FIRST + 3, 33_434));
        let error = icmp(11, 0, &quote);
        ethernet(&[], 0x0800, &v4(ROUTER, US, 1, &[], &error))
    };
    let elsewhere = {
        let quote = v4(US, NATTED, 17, &[], &udp(FIRST + 3, 33_434));
        let error = icmp(11, 0, &quote);
        ethernet(&[], 0x0800, &v4(ROUTER, US, 1, &[], &error))
    };
    let all = [
        ("SACK all the same", sack(), ours(7, Segment), true),
        (
            "quoted segment all the same",
            time_exceeded(),
            ours(7, Quote),
            true,
        ),
        (
            "echo reply",
            from_server(1, &echo(0, FIRST + 2)),
            ours(20, Segment),
            false,
        ),
        (
            "echo reply to nobody's identifier",
            from_server(1, &echo(0, FIRST + 5)),
            passed(Counter::NoFlow),
            false,
        ),
        (
            "echo reply to the kernel's ping",
            from_server(1, &echo(0, 77)),
            passed(Counter::PortOutside),
            false,
        ),
        (
            "echo request to this host",
            from_server(1, &echo(8, FIRST + 2)),
            passed(Counter::OtherIcmp),
            true,
        ),
        (
            "quoted echo request",
            about(1, &echo(8, FIRST + 2)),
            ours(20, Quote),
            false,
        ),
        (
            "quoted echo reply",
            about(1, &echo(0, FIRST + 2)),
            passed(Counter::QuoteNoFlow),
            true,
        ),
        (
            "datagram",
            from_server(17, &udp(33_434, FIRST + 3)),
            ours(21, Segment),
            false,
        ),
        (
            "datagram for the kernel",
            from_server(17, &udp(53, 40_000)),
            passed(Counter::PortOutside),
            false,
        ),
        (
            "quoted datagram",
            about(17, &udp(FIRST + 3, 33_434)),
            ours(21, Quote),
            false,
        ),
        (
            "quoted datagram of the kernel's",
            about(17, &udp(40_000, 53)),
            passed(Counter::QuoteNoFlow),
            true,
        ),
        (
            "quoted datagram, its source rewritten",
            natted,
            ours(21, RewrittenQuote),
            false,
        ),
        (
            "quoted datagram, its destination rewritten",
            elsewhere,
            ours(UNRESOLVED, RewrittenQuote),
            false,
        ),
        (
            "quoted datagram from a block",
            about(17, &udp(BLOCKS + 127, 33_500)),
            ours(22, Quote),
            false,
        ),
        (
            "quoted datagram from the block behind",
            about(17, &udp(BLOCKS + 128, 33_500)),
            // The block is in use, by another flow: user space tells.
            ours(UNRESOLVED, RewrittenQuote),
            false,
        ),
        (
            "segment to a block",
            from_server(6, &tcp(80, BLOCKS + 128 + 77, 0, &[])),
            ours(23, Segment),
            false,
        ),
        (
            "segment to the block before",
            from_server(6, &tcp(80, BLOCKS + 127, 0, &[])),
            passed(Counter::NoFlow),
            true,
        ),
        (
            "quoted segment from a block",
            about(6, &tcp(BLOCKS + 200, 80, 0, &[])),
            ours(23, Quote),
            false,
        ),
        ("v6 echo reply", reply6(FIRST + 2), ours(24, Segment), false),
        (
            "v6 echo reply to nobody",
            reply6(FIRST + 3),
            passed(Counter::NoFlow),
            false,
        ),
        (
            "v6 quoted echo request",
            quote6(FIRST + 2),
            ours(24, Quote),
            false,
        ),
        (
            "quoted protocol that is none of ours",
            about(47, &[0; 8]),
            passed(Counter::QuoteNoFlow),
            true,
        ),
        (
            "protocol that is none of ours",
            from_server(47, &[0; 8]),
            passed(Counter::OtherProtocol),
            true,
        ),
    ];
    all.into_iter()
        .map(|(name, bytes, decision, same)| {
            let fixture = Fixture {
                name,
                bytes,
                decision,
            };
            (fixture, same)
        })
        .collect()
}
