//! Tests of [`super::decode`]: what routers do that Linux does not, made by the
//! `emit` side of the codecs; [`recorded`] has what Linux does.

use alloc::{vec, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

mod recorded;

use self::recorded::{RECORDED, SYN_ACK_V4, TIME_EXCEEDED_V4, hex};
use super::{Undecodable, decode, decode_with_ends};
use crate::session::{DirectKind, IcmpError, IcmpKind, Reply};
use crate::trace::MplsLabel;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Form, Version};
use crate::wire::tcp::{Options, flags};
use crate::wire::template::{Ends, SegmentOptions, Template, Varying};
use crate::wire::{ip, tcp};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn icmp(packet: &[u8]) -> IcmpError {
    match decode(packet, false) {
        Ok(Reply::Icmp(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A probe as the template makes it, from the IP header on.
fn probe(v6: bool, options: SegmentOptions, payload_len: u16) -> Vec<u8> {
    let (local, remote) = match v6 {
        true => ("[2001:db8::1]:61000", "[2001:db8:9::2]:443"),
        false => ("192.0.2.1:61000", "198.51.100.2:443"),
    };
    let template = Template::new(&Ends {
        source_mac: [2; 6],
        next_hop_mac: [4; 6],
        vlan: None,
        local: address(local),
        remote: address(remote),
        dscp: 10,
        flow_label: 0x12345,
    })
    .unwrap();
    let varying = Varying {
        ttl: 1,
        sequence: 0xffff_fffe,
        acknowledgment: 7,
        flags: flags::ACK | flags::PSH,
        window: 500,
        options,
        payload_len,
    };
    let mut frame = [0xa5; 256];
    let len = template.write(&varying, 1, &mut frame);
    frame[template.l3_offset()..len].to_vec()
}

/// An ICMP message from a router, in its IP packet.
fn from_router(version: Version, message: &dyn Fn(Sum) -> Vec<u8>) -> Vec<u8> {
    let (from, to, protocol) = match version {
        Version::V4 => ("203.0.113.9", "192.0.2.1", ip::PROTOCOL_ICMP),
        Version::V6 => ("2001:db8:5::9", "2001:db8::1", ip::PROTOCOL_ICMPV6),
    };
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let len = message(Sum::ZERO).len();
    let pseudo = match version {
        Version::V4 => Sum::ZERO,
        Version::V6 => Sum::ZERO.pseudo(from, to, protocol, len as u32),
    };
    let header = ip::Repr::new(from, to, protocol, 250, len as u16).unwrap();
    let mut packet = vec![0xa5; header.buffer_len()];
    header.emit(&mut packet);
    packet.extend(message(pseudo));
    packet
}

fn error(version: Version, quote: &[u8], labels: &[MplsLabel], form: Form) -> Vec<u8> {
    let repr = icmp::Repr {
        version,
        icmp_type: match version {
            Version::V4 => icmp::V4_TIME_EXCEEDED,
            Version::V6 => icmp::V6_TIME_EXCEEDED,
        },
        code: 0,
        mtu: None,
        quote,
        labels: labels.to_vec(),
        form,
    };
    from_router(version, &|pseudo| {
        let mut message = vec![0xa5; repr.buffer_len()];
        repr.emit(pseudo, &mut message);
        message
    })
}

const BOTH: [(Version, bool); 2] = [(Version::V4, false), (Version::V6, true)];

#[test]
fn quotes_of_any_length_from_eight_octets_of_tcp_on() {
    for (version, v6) in BOTH {
        let probe = probe(v6, SegmentOptions::Timestamps { tsval: 1, tsecr: 2 }, 1);
        let least = if v6 { 48 } else { 28 };
        for len in 0..=probe.len() {
            let decoded = decode(&error(version, &probe[..len], &[], Form::Compliant), false);
            if len < least {
                assert_eq!(decoded, Err(Undecodable::Malformed), "{version:?} {len}");
                continue;
            }
            let Ok(Reply::Icmp(error)) = decoded else {
                panic!("{decoded:?}");
            };
            assert_eq!(error.quote.sequence, 0xffff_fffe);
            assert_eq!(error.quote.traffic_class, 10 << 2);
            let whole = len == probe.len();
            assert_eq!(error.quote.checksum_bad, whole.then_some(false));
        }
    }
}

#[test]
fn a_label_stack_is_found_by_the_length_field_and_behind_128_octets() {
    let stack = [
        MplsLabel {
            label: 0xf_ffff,
            tc: 7,
            bottom: false,
            ttl: 255,
        },
        MplsLabel {
            label: 24001,
            tc: 0,
            bottom: true,
            ttl: 1,
        },
    ];
    for (version, v6) in BOTH {
        // Of a quote longer than 128 octets the rest is cut.
        for payload_len in [1, 158] {
            for form in [Form::Compliant, Form::Legacy] {
                let probe = probe(v6, SegmentOptions::None, payload_len);
                let error = icmp(&error(version, &probe, &stack, form));
                assert_eq!(error.mpls, stack, "{version:?} {form:?}");
                let whole = probe.len() <= icmp::PADDED_QUOTE;
                assert_eq!(error.quote.checksum_bad, whole.then_some(false));
            }
        }
    }
}

#[test]
fn a_structure_that_is_damaged_or_of_another_version_is_left_out() {
    let stack = [MplsLabel {
        label: 16,
        tc: 0,
        bottom: true,
        ttl: 1,
    }];
    for (version, v6) in BOTH {
        let probe = probe(v6, SegmentOptions::None, 1);
        for (form, at, value, expected) in [
            // Version 3.
            (Form::Compliant, 0, 0x30, 0),
            (Form::Legacy, 0, 0x30, 0),
            // A checksum of zero: none, which only the length field makes safe.
            (Form::Compliant, 2, 0, 1),
            (Form::Legacy, 2, 0, 0),
            // The label: its checksum is wrong now.
            (Form::Compliant, 9, 0xff, 0),
            (Form::Legacy, 9, 0xff, 0),
        ] {
            let repr = icmp::Repr {
                version,
                icmp_type: if v6 { 3 } else { 11 },
                code: 0,
                mtu: None,
                quote: &probe,
                labels: stack.to_vec(),
                form,
            };
            let packet = from_router(version, &|pseudo| {
                let mut message = vec![0; repr.buffer_len()];
                repr.emit(pseudo, &mut message);
                let structure = icmp::HEADER_LEN + icmp::PADDED_QUOTE;
                message[structure + at] = value;
                if at == 2 {
                    message[structure + 3] = 0;
                }
                fix(&mut message, pseudo);
                message
            });
            let error = icmp(&packet);
            assert_eq!(error.mpls.len(), expected, "{version:?} {form:?} {at}");
            assert_eq!(error.quote.sequence, 0xffff_fffe);
        }
    }
}

/// The checksum of a message that was changed.
fn fix(message: &mut [u8], pseudo: Sum) {
    message[2..4].fill(0);
    let checksum = pseudo.bytes(message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn junk_in_the_length_field_hides_no_quote() {
    for (version, v6) in BOTH {
        let probe = probe(v6, SegmentOptions::None, 1);
        for junk in 1..=255 {
            let repr = icmp::Repr {
                version,
                icmp_type: if v6 { 3 } else { 11 },
                code: 0,
                mtu: None,
                quote: &probe,
                labels: vec![],
                form: Form::Compliant,
            };
            let packet = from_router(version, &|pseudo| {
                let mut message = vec![0; repr.buffer_len()];
                repr.emit(pseudo, &mut message);
                message[if v6 { 4 } else { 5 }] = junk;
                fix(&mut message, pseudo);
                message
            });
            assert_eq!(
                icmp(&packet).quote.sequence,
                0xffff_fffe,
                "{version:?} {junk}"
            );
        }
    }
}

#[test]
fn label_stacks_are_bounded() {
    let label = MplsLabel {
        label: 3,
        tc: 0,
        bottom: false,
        ttl: 9,
    };
    let probe = probe(false, SegmentOptions::None, 1);
    let error = icmp(&error(
        Version::V4,
        &probe,
        &vec![label; 100],
        Form::Compliant,
    ));
    assert_eq!(error.mpls.len(), crate::wire::extension::MAX_LABELS);
}

#[test]
fn a_nat_that_leaves_the_quote_inconsistent_shows_in_its_checksum() {
    for (version, v6) in BOTH {
        let mut probe = probe(v6, SegmentOptions::None, 1);
        let source = if v6 { 8..24 } else { 12..16 };
        // TTL and DSCP are no part of what TCP sums up.
        probe[if v6 { 7 } else { 8 }] = 0;
        assert_eq!(
            icmp(&error(version, &probe, &[], Form::Compliant))
                .quote
                .checksum_bad,
            Some(false)
        );
        probe[source.end - 1] ^= 0x40;
        let quote = icmp(&error(version, &probe, &[], Form::Compliant)).quote;
        assert_eq!(quote.checksum_bad, Some(true));
    }
}

#[test]
fn padding_before_an_extension_is_not_taken_for_the_segment() {
    let stack = [MplsLabel {
        label: 16,
        tc: 0,
        bottom: true,
        ttl: 1,
    }];
    for (version, v6) in BOTH {
        let timestamps = SegmentOptions::Timestamps { tsval: 1, tsecr: 2 };
        for options in [timestamps, SegmentOptions::None] {
            let probe = probe(v6, options, 1);
            let tcp = if v6 { 40 } else { 20 };
            for form in [Form::Compliant, Form::Legacy] {
                for len in tcp + 8..=probe.len() {
                    let quote = icmp(&error(version, &probe[..len], &stack, form)).quote;
                    assert_ne!(quote.checksum_bad, Some(true), "{version:?} {len}");
                }
                // But a wrong checksum is one, where the segment is surely whole.
                let mut changed = probe.clone();
                changed[tcp + 16] ^= 0x10;
                let quote = icmp(&error(version, &changed, &stack, form)).quote;
                assert_eq!(quote.checksum_bad, Some(true));
            }
        }
    }
}

#[test]
fn inner_options_and_extension_headers_are_skipped() {
    let mut with_options = probe(false, SegmentOptions::None, 1);
    with_options[0] = 0x46;
    with_options[3] += 4;
    with_options.splice(20..20, [1, 1, 1, 0]);
    let mut with_extensions = probe(true, SegmentOptions::None, 1);
    with_extensions[6] = 60;
    with_extensions[5] += 16;
    // Destination options, then an atomic fragment (RFC 6946).
    with_extensions.splice(40..40, [44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 9]);
    for (version, quote) in [(Version::V4, with_options), (Version::V6, with_extensions)] {
        let quote = icmp(&error(version, &quote, &[], Form::Compliant)).quote;
        assert_eq!(quote.sequence, 0xffff_fffe);
        assert_eq!(quote.checksum_bad, Some(false));
    }
}

#[test]
fn what_no_session_reads_is_other() {
    let mut fragment = hex(SYN_ACK_V4);
    fragment[6] = 0x20;
    let sum = {
        fragment[10..12].fill(0);
        Sum::ZERO.bytes(&fragment[..20]).finish().to_be_bytes()
    };
    fragment[10..12].copy_from_slice(&sum);
    let mut tail_of_fragment = probe(false, SegmentOptions::None, 1);
    tail_of_fragment[7] = 1;
    let mut gre = probe(true, SegmentOptions::None, 1);
    // GRE: none of ours.
    gre[6] = 47;
    let mut endless = probe(true, SegmentOptions::None, 1);
    endless[6] = 60;
    endless.truncate(40);
    for _ in 0..20 {
        endless.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    for packet in [
        fragment,
        error(Version::V4, &tail_of_fragment, &[], Form::Compliant),
        error(Version::V6, &gre, &[], Form::Compliant),
        error(Version::V6, &endless, &[], Form::Compliant),
        // A quote of the other version.
        error(
            Version::V4,
            &probe(true, SegmentOptions::None, 1),
            &[],
            Form::Compliant,
        ),
        // An echo request.
        from_router(Version::V4, &|_| vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        // Reassembly time exceeded.
        from_router(Version::V4, &|pseudo| {
            let mut message = vec![11, 1, 0, 0, 0, 0, 0, 0];
            message.extend(probe(false, SegmentOptions::None, 1));
            fix(&mut message, pseudo);
            message
        }),
        vec![0x50; 64],
    ] {
        assert_eq!(
            decode(&packet, false),
            Err(Undecodable::Other),
            "{packet:02x?}"
        );
    }
    assert_eq!(decode(&[], false), Err(Undecodable::Malformed));
}

#[test]
fn answers_to_probes_that_stand_alone_are_read() {
    let read = |packet: &[u8]| match decode_with_ends(packet, false) {
        Ok((Reply::Direct(answer), flow)) => (answer.kind, flow),
        other => panic!("{other:?}"),
    };
    // An echo reply: identifier 0x1234, sequence number 5.
    let reply = from_router(Version::V4, &|_| vec![0, 0, 0xed, 0xc6, 0x12, 0x34, 0, 5]);
    let (kind, flow) = read(&reply);
    assert_eq!(kind, DirectKind::Echo { sequence: 5 });
    assert_eq!((flow.local.port(), flow.remote.port()), (0x1234, 1));
    let mut wrong = reply.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(decode(&wrong, false), Err(Undecodable::Checksum));
}

#[test]
fn every_code_of_unreachable_counts() {
    for (version, v6) in BOTH {
        let probe = probe(v6, SegmentOptions::None, 1);
        for code in 0..=255 {
            let repr = icmp::Repr {
                version,
                icmp_type: if v6 { 1 } else { 3 },
                code,
                mtu: None,
                quote: &probe,
                labels: vec![],
                form: Form::Compliant,
            };
            let error = icmp(&from_router(version, &|pseudo| {
                let mut message = vec![0; repr.buffer_len()];
                repr.emit(pseudo, &mut message);
                message
            }));
            let expected = match (v6, code) {
                // A router older than RFC 1191: MTU 0.
                (false, 4) => IcmpKind::PacketTooBig { mtu: 0 },
                _ => IcmpKind::Unreachable,
            };
            assert_eq!((error.kind, error.icmp_code), (expected, code));
        }
    }
}

#[test]
fn our_own_kernels_syn_is_told_apart_from_what_else_it_sends() {
    let syn = probe(false, SegmentOptions::None, 0);
    assert_eq!(decode(&syn, true), Err(Undecodable::Other));
    let ends = (address("192.0.2.1:61000"), address("198.51.100.2:443"));
    let options = Options {
        mss: Some(1460),
        sack_permitted: true,
        timestamps: Some((99, 0)),
        window_scale: Some(7),
        ..Options::default()
    };
    let repr = tcp::Repr {
        source_port: ends.0.port(),
        destination_port: ends.1.port(),
        sequence: 5,
        acknowledgment: 0,
        flags: flags::SYN,
        window: 64240,
        options,
        payload: &[],
    };
    let len = repr.buffer_len();
    let header = ip::Repr::new(ends.0.ip(), ends.1.ip(), 6, 64, len as u16).unwrap();
    let mut packet = vec![0xa5; header.buffer_len() + len];
    header.emit(&mut packet);
    let pseudo = Sum::ZERO.pseudo(ends.0.ip(), ends.1.ip(), 6, len as u32);
    repr.emit(pseudo, &mut packet[header.buffer_len()..]);
    assert_eq!(
        decode(&packet, true),
        Ok(Reply::OwnSyn {
            sequence: 5,
            options
        })
    );
    let mut icmp = hex(TIME_EXCEEDED_V4);
    assert_eq!(decode(&icmp, true), Err(Undecodable::Other));
    icmp.truncate(40);
    assert_eq!(decode(&icmp, true), Err(Undecodable::Malformed));
}

/// Bytes that get further than noise does: a recorded packet, changed, its
/// outer checksums mended.
fn mutant() -> impl Strategy<Value = Vec<u8>> {
    (
        proptest::sample::select(RECORDED.to_vec()),
        proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        any::<bool>(),
    )
        .prop_map(|(text, changes, keep_network)| {
            let mut packet = hex(text);
            let v6 = packet[0] >> 4 == 6;
            let from = match (keep_network, v6) {
                (false, _) => 1,
                (true, false) => 20,
                (true, true) => 40,
            };
            for (at, value) in changes {
                let at = from + at.index(packet.len() - from);
                packet[at] = value;
            }
            mend(&mut packet);
            packet
        })
}

fn mend(packet: &mut [u8]) {
    let v6 = packet[0] >> 4 == 6;
    if !v6 {
        packet[10..12].fill(0);
        let checksum = Sum::ZERO.bytes(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let start = if v6 { 40 } else { 20 };
    let protocol = packet[if v6 { 6 } else { 9 }];
    let Ok(parsed) = ip::Packet::quoted(packet) else {
        return;
    };
    let pseudo = match protocol {
        1 => Sum::ZERO,
        _ => parsed.pseudo(packet.len() - start),
    };
    let field = start + if protocol == 6 { 16 } else { 2 };
    packet[field..field + 2].fill(0);
    let checksum = pseudo.bytes(&packet[start..]).finish();
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>, outgoing: bool) {
        let _: Result<Reply, Undecodable> = decode(&bytes, outgoing);
    }

    /// No panic, and what is read is bounded.
    #[test]
    fn changed_packets_are_answered(packet in mutant(), outgoing: bool) {
        if let Ok(Reply::Icmp(error)) = decode(&packet, outgoing) {
            prop_assert!(error.mpls.len() <= crate::wire::extension::MAX_LABELS);
        }
    }
}
