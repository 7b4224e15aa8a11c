//! Answers of the reflector against parsers that know nothing of it, and traces
//! through the mirror against the truth.

mod asks;

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use insession_common::reflect::{FlowEnds, Hop, Labels, hop};
use proptest::prelude::*;
use tokio::sync::mpsc;

use self::asks::{Ask, Kind, ask, network};
use super::*;
use crate::engine::jobs::Job;
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop, Target};
use crate::net::{Interface, Route};
use crate::session::SessionOptions;
use crate::testbed;
use crate::wire::extension::Structure;
use crate::wire::icmp::{Error, Version};
use crate::wire::ip;
use crate::wire::tcp::{self, Options};

const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The reply to a frame, and the counter's label.
fn answer(network: &Network, request: &[u8]) -> (Vec<u8>, &'static str) {
    let (mut frame, mut reply) = (Frame::ZERO, Frame::ZERO);
    let read = request.len().min(READ_BYTES);
    octets_mut(&mut frame)[..read].copy_from_slice(&request[..read]);
    reply.words.fill(0xa5a5_a5a5);
    let length = request.len() as u32;
    let answer = reflect::reflect(network, &frame, length, &mut reply, &|number| number);
    let mut bytes = octets(&reply)[..answer.written as usize].to_vec();
    if (answer.length as usize) > bytes.len() {
        bytes.extend_from_slice(&request[bytes.len()..]);
    }
    assert_eq!(bytes.len(), answer.length as usize);
    (
        bytes,
        reflect::Counter::ALL[answer.counter as usize].label(),
    )
}

/// Checks everything that a receiver would, by etherparse: lengths, addresses,
/// all checksums. Returns the reply's TTL.
fn check_outside(ask: &Ask, from: IpAddr, reply: &[u8]) -> u8 {
    let sliced = SlicedPacket::from_ethernet(reply).unwrap();
    let link = etherparse::Ethernet2HeaderSlice::from_slice(reply).unwrap();
    assert_eq!((link.source(), link.destination()), (reflect::MAC, NEAR));
    let transport = sliced.transport.clone().unwrap();
    match sliced.net.unwrap() {
        NetSlice::Ipv4(slice) => {
            let header = slice.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len) + 14, reply.len());
            let addresses = (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
            );
            assert_eq!(addresses, (from, ask.local.ip()));
            match transport {
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv4(header.source, header.destination);
                    assert_eq!(sum.unwrap(), tcp.checksum());
                }
                TransportSlice::Icmpv4(icmp) => {
                    assert_eq!(ones_sum(icmp.slice()), 0xffff);
                }
                other => panic!("{other:?}"),
            }
            header.time_to_live
        }
        NetSlice::Ipv6(slice) => {
            let header = slice.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 54, reply.len());
            let addresses = (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
            );
            assert_eq!(addresses, (from, ask.local.ip()));
            match transport {
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv6(header.source, header.destination);
                    assert_eq!(sum.unwrap(), tcp.checksum());
                }
                TransportSlice::Icmpv6(icmp) => {
                    assert!(icmp.is_checksum_valid(header.source, header.destination));
                }
                other => panic!("{other:?}"),
            }
            header.hop_limit
        }
        NetSlice::Arp(_) => panic!("ARP"),
    }
}

/// The sum of RFC 1071, by its letter.
fn ones_sum(bytes: &[u8]) -> u32 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The ICMP error in a reply: type and code, quote, extension.
fn error(reply: &[u8]) -> ((u8, u8), Vec<u8>, Option<Vec<u32>>) {
    let packet = ip::Packet::arrived(&reply[14..]).unwrap();
    let (version, pseudo) = match packet.source {
        IpAddr::V4(_) => (Version::V4, crate::wire::checksum::Sum::ZERO),
        IpAddr::V6(_) => (Version::V6, packet.pseudo(packet.payload.len())),
    };
    let error = Error::new(version, packet.payload, pseudo).unwrap();
    let quoted = error.quoted();
    let stack = |structure: Structure<'_>| {
        let entry = |label: crate::trace::MplsLabel| {
            let bottom = u32::from(label.bottom);
            label.label << 12 | u32::from(label.tc) << 9 | bottom << 8 | u32::from(label.ttl)
        };
        structure.labels().into_iter().map(entry).collect()
    };
    (
        (error.icmp_type(), error.code()),
        quoted.packet.to_vec(),
        quoted.extension.map(stack),
    )
}

/// What a quote has to be: the packet with this TTL, cut or padded.
fn expected_quote(frame: &[u8], ttl: u8, padded: bool) -> Vec<u8> {
    let mut quote = frame[14..].to_vec();
    if quote[0] >> 4 == 4 {
        quote[8] = ttl;
        let mut header = etherparse::Ipv4Header::from_slice(&quote).unwrap().0;
        header.header_checksum = header.calc_header_checksum();
        quote[..20].copy_from_slice(&header.to_bytes());
    } else {
        quote[7] = ttl;
    }
    quote.truncate(128);
    if padded {
        quote.resize(128, 0);
    }
    quote
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Every reply to anything is one that a receiver accepts, comes from whom
    /// the truth says, and quotes what was asked.
    #[test]
    fn replies_are_right(network in network(), ask in ask()) {
        let frame = ask.frame();
        let (reply, counter) = answer(&network, &frame);
        let truth = hop(&network, &ask.ends(&frame), ask.ttl);
        let distance = reflect::destination_ttl(&network, ask.remote.ip());
        prop_assert_eq!(matches!(truth, Hop::Destination { .. }), ask.ttl >= distance);
        match truth {
            Hop::Router { silent: true, .. } => prop_assert_eq!((reply.len(), counter), (0, "silent")),
            Hop::Router { address, labels, .. } => {
                prop_assert_eq!(check_outside(&ask, address, &reply), 255 - (ask.ttl - 1));
                let (kind, quote, stack) = error(&reply);
                prop_assert_eq!(kind, if ask.local.is_ipv4() { (11, 0) } else { (3, 0) });
                let padded = labels != Labels::default();
                prop_assert_eq!(quote, expected_quote(&frame, 1, padded));
                prop_assert_eq!(stack.unwrap_or_default(), labels.entries());
                prop_assert_eq!(counter, if padded { "exceeded-mpls" } else { "exceeded" });
            }
            Hop::Destination { mute, .. } => {
                let may_be_silent = mute || matches!(ask.kind, Kind::Tcp { .. });
                prop_assert!(may_be_silent || !reply.is_empty(), "{}", counter);
                if reply.is_empty() {
                    return Ok(());
                }
                prop_assert_eq!(check_outside(&ask, ask.remote.ip(), &reply), 64 - (distance - 1));
                match &ask.kind {
                    Kind::Tcp { .. } => {}
                    Kind::Udp => {
                        let (kind, quote, stack) = error(&reply);
                        prop_assert_eq!(kind, if ask.local.is_ipv4() { (3, 3) } else { (1, 4) });
                        let ttl = ask.ttl - (distance - 1);
                        prop_assert_eq!(quote, expected_quote(&frame, ttl, false));
                        prop_assert_eq!(stack, None);
                    }
                    Kind::Echo => {
                        let behind = 14 + if ask.local.is_ipv4() { 20 } else { 40 } + 4;
                        prop_assert_eq!(&reply[behind..], &frame[behind..]);
                    }
                }
            }
        }
    }

    /// Whatever comes, nothing panics, and nothing is written past the reply.
    #[test]
    fn any_bytes_are_survived(network in network(), bytes in prop::collection::vec(any::<u8>(), 14..200), v6 in any::<bool>()) {
        let mut bytes = bytes;
        bytes[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        if bytes.len() > 14 {
            bytes[14] = if v6 { 0x60 } else { 0x45 };
        }
        answer(&network, &bytes);
    }
}

/// One way of one hop, so that nothing but the server answers at TTL 1.
fn server() -> Network {
    Network {
        shortest: 1,
        longest: 1,
        ..Network::default()
    }
}

/// A segment to the server, and what it says to it.
fn segment(
    ends: (&str, &str),
    numbers: (u32, u32),
    flags: u8,
    options: &[u8],
    payload: usize,
) -> Option<(tcp::Repr<'static>, Options)> {
    let ask = Ask {
        local: ends.0.parse().unwrap(),
        remote: ends.1.parse().unwrap(),
        ttl: 64,
        kind: Kind::Tcp {
            flags,
            options: options.to_vec(),
        },
        payload,
        numbers,
    };
    let (reply, _) = answer(&server(), &ask.frame());
    if reply.is_empty() {
        return None;
    }
    check_outside(&ask, ask.remote.ip(), &reply);
    let packet = ip::Packet::arrived(&reply[14..]).unwrap();
    let view = tcp::Segment::new(packet.payload).unwrap();
    assert_eq!(view.source_port(), ask.remote.port());
    assert_eq!(view.destination_port(), ask.local.port());
    assert!(view.payload().is_empty());
    let options = Options::parse(view.options());
    let repr = tcp::Repr::parse(&view, packet.pseudo(packet.payload.len())).unwrap();
    Some((
        tcp::Repr {
            payload: &[],
            ..repr
        },
        options,
    ))
}

const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 100, 0, 0, 0, 0, 1, 3, 3, 7,
];
const STAMPED: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 101, 0, 0, 0, 9];

#[test]
fn a_session_goes_as_a_server_makes_it() {
    use tcp::flags::{ACK, FIN, PSH, RST, SYN};
    for ends in [
        ("10.1.2.3:61000", "10.9.8.7:80"),
        ("[fd00::1]:61000", "[2001:db8::7]:443"),
    ] {
        // Near the end of the number space, so that it wraps.
        let isn: u32 = u32::MAX - 2;
        let (syn_ack, options) = segment(ends, (isn, 0), SYN, &SYN_OPTIONS, 0).unwrap();
        assert_eq!(syn_ack.flags, SYN | ACK);
        assert_eq!(syn_ack.acknowledgment, isn.wrapping_add(1));
        assert!(options.sack_permitted && options.window_scale == Some(7));
        let mss = if ends.0.starts_with('[') { 1440 } else { 1460 };
        assert_eq!(options.mss, Some(mss));
        let (first, echoed) = options.timestamps.unwrap();
        assert_eq!(echoed, 100);
        let (next, theirs) = (isn.wrapping_add(1), syn_ack.sequence.wrapping_add(1));

        assert_eq!(segment(ends, (next, theirs), ACK, &STAMPED, 0), None);
        assert_eq!(segment(ends, (next, theirs), RST | ACK, &STAMPED, 0), None);

        for offset in [1, 2, 30, 60_000] {
            let at = next.wrapping_add(offset);
            let (sack, options) = segment(ends, (at, theirs), ACK | PSH, &STAMPED, 1).unwrap();
            assert_eq!((sack.flags, sack.sequence), (ACK, theirs));
            assert_eq!(sack.acknowledgment, next);
            let block = tcp::SackBlock {
                left: at,
                right: at.wrapping_add(1),
            };
            assert_eq!(options.sack.as_slice(), [block]);
            assert_eq!(options.timestamps, Some((first.wrapping_add(1), 101)));
            // Without timestamps.
            let (bare, options) = segment(ends, (at, theirs), ACK, &[], 1).unwrap();
            assert_eq!(bare.acknowledgment, next);
            assert_eq!(options.sack.as_slice(), [block]);
            assert_eq!(options.timestamps, None);
        }
        let (ack, options) = segment(ends, (next, theirs), ACK, &STAMPED, 7).unwrap();
        assert_eq!((ack.flags, ack.acknowledgment), (ACK, next.wrapping_add(7)));
        assert!(options.sack.as_slice().is_empty());
        let (kept, _) = segment(ends, (isn, theirs), ACK, &STAMPED, 0).unwrap();
        assert_eq!((kept.flags, kept.acknowledgment), (ACK, next));
        let (fin, _) = segment(ends, (next, theirs), FIN | ACK, &STAMPED, 0).unwrap();
        assert_eq!((fin.flags, fin.acknowledgment), (ACK, next.wrapping_add(1)));

        // Of no session.
        for wrong in [theirs.wrapping_add(2), theirs.wrapping_add(100_000)] {
            let (rst, _) = segment(ends, (next, wrong), ACK, &STAMPED, 1).unwrap();
            assert_eq!((rst.flags, rst.sequence), (RST, wrong));
        }

        // Who offers nothing is answered with nothing, and with no SACK later.
        let (syn_ack, options) = segment(ends, (isn, 0), SYN, &[], 0).unwrap();
        assert!(!options.sack_permitted && options.timestamps.is_none());
        assert!(options.window_scale.is_none());
        let theirs = syn_ack.sequence.wrapping_add(1);
        let (ack, options) = segment(ends, (next.wrapping_add(5), theirs), ACK, &[], 1).unwrap();
        assert_eq!((ack.flags, ack.acknowledgment), (ACK, next));
        assert!(options.sack.as_slice().is_empty());
    }
}

#[test]
fn no_two_routers_share_an_address() {
    let network = Network {
        shortest: 32,
        longest: 32,
        balanced_first: 1,
        balanced_last: 31,
        width: 8,
        ..Network::default()
    };
    // By address: its TTL; a router at two TTLs would be seen.
    let mut seen = std::collections::HashMap::new();
    for target in testbed::targets(500) {
        for port in 0..8 {
            let ends = FlowEnds::tcp(SocketAddr::from(([198, 18, 0, 1], 61_000 + port)), target);
            for ttl in 1..32 {
                let Hop::Router { address, .. } = hop(&network, &ends, ttl) else {
                    panic!("a destination at {ttl}");
                };
                assert_eq!(*seen.entry(address).or_insert(ttl), ttl);
            }
        }
    }
    let at = |ttl| seen.values().filter(|at| **at == ttl).count();
    // As many as there are ways at the root of the tree; many far from it.
    assert_eq!((at(1), at(2)), (8, 16));
    assert!(at(20) > 2000, "{}", at(20));
}

#[test]
fn neighbours_are_told() {
    let mut arp = [&[0xff; 6][..], &NEAR, &[8, 6]].concat();
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([&NEAR[..], &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, 9]].concat());
    let (reply, counter) = answer(&server(), &arp);
    assert_eq!(counter, "arp");
    let mut expected = [&NEAR[..], &reflect::MAC, &[8, 6]].concat();
    expected.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    expected.extend([&reflect::MAC[..], &[10, 0, 0, 9], &NEAR, &[10, 0, 0, 1]].concat());
    assert_eq!(reply, expected);

    let local: Ipv6Addr = "fd00:18::1".parse().unwrap();
    let target: Ipv6Addr = "fd00:18::2".parse().unwrap();
    let group = "ff02::1:ff00:2".parse::<Ipv6Addr>().unwrap();
    let mut body = target.octets().to_vec();
    body.extend([&[1, 1][..], &NEAR].concat());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(NEAR, [0x33, 0x33, 0xff, 0, 0, 2])
        .ipv6(local.octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &body)
        .unwrap();
    let (reply, counter) = answer(&server(), &frame);
    assert_eq!(counter, "advertisement");
    let mut body = target.octets().to_vec();
    body.extend([&[2, 1][..], &reflect::MAC].concat());
    let mut expected = Vec::new();
    PacketBuilder::ethernet2(reflect::MAC, NEAR)
        .ipv6(target.octets(), local.octets(), 255)
        .icmpv6_raw(136, 0, [0x60, 0, 0, 0])
        .write(&mut expected, &body)
        .unwrap();
    assert_eq!(reply, expected);
    assert_eq!(IpNumber::IPV6_ICMP.0, reply[20]);
}

/// Traces through the mirror.
fn traces(network: Network, targets: Vec<SocketAddr>) -> Vec<crate::trace::Trace> {
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
                interface: Interface {
                    index: 1,
                    name: "mirror0".into(),
                }
                .into(),
                vlan: None,
                source: match address.is_ipv4() {
                    true => testbed::NEAR_V4.into(),
                    false => testbed::NEAR_V6.into(),
                },
                source_mac: NEAR,
                next_hop_mac: reflect::MAC,
                mtu: 1500,
                device_mtu: 1500,
            },
        })
        .collect();
    let options = EngineOptions::new(
        SessionOptions::default(),
        61_000..=65_535,
        *b"no secret at all",
    );
    let (outputs, mut read) = mpsc::channel(1 << 17);
    let (stop, stats) = (Stop::new(), Stats::default());
    let mut link = MirrorLink::new(network, Duration::from_millis(10));
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
    let named: HashSet<_> = records.iter().map(|trace| trace.target.clone()).collect();
    assert_eq!((records.len(), named.len()), (count, count));
    records
}

#[test]
fn ten_thousand_sessions_learn_the_truth() {
    let network = Network {
        silent: 3000,
        mpls: 20_000,
        mute: 300,
        refuse: 600,
        ..Network::default()
    };
    let mut verdicts = std::collections::HashMap::new();
    let targets = testbed::targets(8000).chain(testbed::targets_v6(2000));
    for trace in traces(network, targets.collect()) {
        testbed::check(&network, &trace).unwrap();
        *verdicts.entry(trace.verdict).or_insert(0) += 1;
        // Not true of another network.
        let other = Network { key: 1, ..network };
        assert!(trace.hops.is_empty() || testbed::check(&other, &trace).is_err());
    }
    assert!(verdicts.len() >= 3, "{verdicts:?}");
}

#[test]
fn lost_replies_are_missed_and_nothing_else() {
    let network = Network {
        loss: 6000,
        ..Network::default()
    };
    let (mut answered, mut probes) = (0, 0);
    for trace in traces(network, testbed::targets(2000).collect()) {
        testbed::check(&network, &trace).unwrap();
        let all = trace.hops.iter().flat_map(|hop| &hop.probes);
        probes += all.clone().count();
        answered += all.filter(|probe| probe.reply.is_some()).count();
    }
    let share = (probes - answered) as f64 / probes as f64;
    assert!((0.08..0.11).contains(&share), "{share} of {probes}");
}

#[test]
fn sessions_are_foretold_in_the_order_of_their_frames() {
    let mut link = MirrorLink::new(server(), Duration::from_millis(5));
    let mut sent = Vec::new();
    for n in 0..100u16 {
        let flow = Flow {
            local: SocketAddr::from(([198, 18, 0, 1], 61_000 + n)),
            remote: "10.0.0.1:80".parse().unwrap(),
        };
        // Every third is nobody's.
        if n % 3 != 0 {
            link.add_flow(&flow, u32::from(n)).unwrap();
            sent.push(u32::from(n));
        }
        let ask = Ask {
            local: flow.local,
            remote: flow.remote,
            ttl: 64,
            kind: Kind::Tcp {
                flags: tcp::flags::SYN,
                options: Vec::new(),
            },
            payload: 0,
            numbers: (7, 0),
        };
        let frame = ask.frame();
        link.transmit(&mut |out| {
            out[..frame.len()].copy_from_slice(&frame);
            frame.len()
        })
        .unwrap();
    }
    link.flush().unwrap();
    assert_eq!(link.upcoming(&mut [0; 8]), 0, "still on their way");
    let begin = link.now();
    link.wait(begin + Duration::from_secs(1)).unwrap();
    assert_eq!(link.now(), begin + Duration::from_millis(5));
    let mut foretold = [0; 32];
    assert_eq!(link.upcoming(&mut foretold), 32);
    let mut received = Vec::new();
    while link
        .receive(7, &mut |frame| received.push(frame.session))
        .unwrap()
        > 0
    {}
    assert_eq!(foretold, received[..32]);
    assert_eq!(received, sent);
}
