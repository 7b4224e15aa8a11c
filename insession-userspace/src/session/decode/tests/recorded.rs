//! Packets recorded between kernels (Linux 6.18: a client, a router and a server
//! in namespaces of their own), and what is read from them.

use alloc::{vec, vec::Vec};

use super::{address, icmp};
use crate::session::decode::{Undecodable, decode};
use crate::session::{IcmpError, IcmpKind, Quote, QuotedOptions, Reply, Seen, Segment};
use crate::wire::tcp::{Options, SackBlock, SackBlocks, flags};

// Recorded at the client, from the IP header on. `z9` stands for nine zeros.
const SYN_ACK_OFFLOADED_V4: &str = "\
    4500003c000040003f061db90a0009020a0001020050a903a91b232c9de9743e \
    a012fe881e320000020405b40402080a5fab2634b25b08b40103030a";
const SYN_ACK_OFFLOADED_V6: &str = "\
    600280e80028063ffd000009000000000000000000000002fd00000100000000 \
    00000000000000020050886b17a1b8fd77ec7bbda012fb04fa3d0000020405a0 \
    0402080aa63955ca949615310103030a";
pub(super) const SYN_ACK_V4: &str = "\
    4500003c000040003f061db90a0009020a0001020050b0adea8e264329b165e2 \
    a012fe88fadb0000020405b40402080aac5a95dbf6dca60e0103030a";
const BANNER_V4: &str = "\
    450000362e7140003f06ef4d0a0009020a0001020050b0adea8e264429b165e2 \
    80180040bf8000000101080aac5a95dbf6dca60e6869";
const SACK_ONE_V4: &str = "\
    450000402e7240003f06ef420a0009020a0001020050b0adea8e264629b165e2 \
    b0100040d1e300000101080aac5a96a4f6dca60e0101050a29b165e529b165e6";
const SACK_TWO_V4: &str = "\
    450000482e7340003f06ef390a0009020a0001020050b0adea8e264629b165e2 \
    d0100040923d00000101080aac5a9708f6dca60e0101051229b165e729b165e8 \
    29b165e529b165e6";
const DSACK_V4: &str = "\
    450000502e7440003f06ef300a0009020a0001020050b0adea8e264629b165e2 \
    f0100040529600000101080aac5a976df6dca60e0101051a29b165e729b165e8 \
    29b165e729b165e829b165e529b165e6";
const RST_V4: &str = "\
    45000028000040003f061dcd0a0009020a0001020052dfe500000000fe161377 \
    50140000a0070000";
const SYN_ACK_V6: &str = "\
    60074b3f0028063ffd000009000000000000000000000002fd00000100000000 \
    00000000000000020050cdcda5e6f59a87086fd7a012fb0494720000020405a0 \
    0402080afed1e413a9e8d12c0103030a";
const SACK_TWO_V6: &str = "\
    60074b3f0034063ffd000009000000000000000000000002fd00000100000000 \
    00000000000000020050cdcda5e6f59d87086fd7d010003f8afe00000101080a \
    fed1e54ca9e8d12d0101051287086fdc87086fdd87086fda87086fdb";
const RST_V6: &str = "\
    60076e770014063ffd000009000000000000000000000002fd00000100000000 \
    000000000000000200528b6b000000008856a82550140000f9870000";
pub(super) const TIME_EXCEEDED_V4: &str = "\
    45c00051541d000040010fcd0a0001010a0001020b00132b0000000045000035 \
    123440000106498c0a0001020a000902b0ad005029b165e3ea8e2646801801f5 \
    262e00000101080af6dca613ac5a95db00";
const PROHIBITED_V4: &str = "\
    45c000515423000040010fc70a0001010a000102030d1b1e0000000045000035 \
    123440003f060b8c0a0001020a000902b0ad005129b165e3ea8e2646801801f5 \
    262d00000101080af6dca613ac5a95db00";
const FRAGMENTATION_NEEDED_V4: &str = "\
    45c00240542d000040010dce0a0001010a00010203041b9e00000500450005ac \
    12344000400605150a0001020a000902b0ad005029b165f5ea8e2646801801f5 \
    20a500000101080af6dca613ac5a95db z496";
const TIME_EXCEEDED_V6: &str = "\
    6008010100513a40fd000001000000000000000000000001fd00000100000000 \
    00000000000000020300792c000000006001234500210601fd00000100000000 \
    0000000000000002fd000009000000000000000000000002cdcd005087086fd8 \
    a5e6f59d801801f5bc2a00000101080aa9e8d132fed1e41400";
const PROHIBITED_V6: &str = "\
    6002835f00513a40fd000001000000000000000000000001fd00000100000000 \
    000000000000000201017aed00000000600123450021063ffd00000100000000 \
    0000000000000002fd000009000000000000000000000002cdcd005187086fd8 \
    a5e6f59d801801f5bc2900000101080aa9e8d132fed1e41400";
const TOO_BIG_V6: &str = "\
    6007dd0b04d83a40fd000001000000000000000000000001fd00000100000000 \
    000000000000000202007066000005006001234505980640fd00000100000000 \
    0000000000000002fd000009000000000000000000000002cdcd005087086fea \
    a5e6f59d801801f5b6a100000101080aa9e8d132fed1e414 z1160";

/// Every packet that says something, as it arrives.
pub(super) const RECORDED: [&str; 18] = [
    SYN_ACK_OFFLOADED_V4,
    SYN_ACK_OFFLOADED_V6,
    SYN_ACK_V4,
    BANNER_V4,
    SACK_ONE_V4,
    SACK_TWO_V4,
    DSACK_V4,
    RST_V4,
    SYN_ACK_V6,
    SACK_TWO_V6,
    RST_V6,
    TIME_EXCEEDED_V4,
    PROHIBITED_V4,
    FRAGMENTATION_NEEDED_V4,
    TIME_EXCEEDED_V6,
    PROHIBITED_V6,
    TOO_BIG_V6,
    // What follows a frame of less than 60 octets on a real Ethernet.
    "45000028000040003f061dcd0a0009020a0001020052dfe500000000fe161377 \
     50140000a0070000 a5a5a5a5a5a5",
];

pub(super) fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('z') {
            Some(zeros) => bytes.resize(bytes.len() + zeros.parse::<usize>().unwrap(), 0),
            None => bytes.extend(
                (0..word.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()),
            ),
        }
    }
    bytes
}

fn blocks(edges: &[(u32, u32)]) -> SackBlocks {
    let mut blocks = SackBlocks::default();
    for &(left, right) in edges {
        assert!(blocks.push(SackBlock { left, right }));
    }
    blocks
}

fn segment(text: &str) -> Segment {
    match decode(&hex(text), false) {
        Ok(Reply::Segment(segment)) => segment,
        other => panic!("{other:?}"),
    }
}

#[test]
fn recorded_segments() {
    let syn_ack = Segment {
        sequence: 0xea8e_2643,
        acknowledgment: 0x29b1_65e2,
        flags: flags::SYN | flags::ACK,
        window: 0xfe88,
        payload_len: 0,
        ttl: 63,
        options: Options {
            mss: Some(1460),
            window_scale: Some(10),
            sack_permitted: true,
            timestamps: Some((0xac5a_95db, 0xf6dc_a60e)),
            sack: SackBlocks::default(),
        },
    };
    let open = Segment {
        sequence: 0xea8e_2646,
        flags: flags::ACK,
        window: 64,
        ..syn_ack
    };
    let first = (0x29b1_65e5, 0x29b1_65e6);
    let second = (0x29b1_65e7, 0x29b1_65e8);
    let sack = |tsval, edges: &[(u32, u32)]| Segment {
        options: Options {
            timestamps: Some((tsval, 0xf6dc_a60e)),
            sack: blocks(edges),
            ..Options::default()
        },
        ..open
    };
    let table = [
        (
            BANNER_V4,
            Segment {
                sequence: 0xea8e_2644,
                flags: flags::PSH | flags::ACK,
                payload_len: 2,
                ..sack(0xac5a_95db, &[])
            },
        ),
        (SACK_ONE_V4, sack(0xac5a_96a4, &[first])),
        (SACK_TWO_V4, sack(0xac5a_9708, &[second, first])),
        // RFC 2883: the duplicate first, then the block that holds it.
        (DSACK_V4, sack(0xac5a_976d, &[second, second, first])),
        (
            RST_V4,
            Segment {
                sequence: 0,
                acknowledgment: 0xfe16_1377,
                flags: flags::RST | flags::ACK,
                window: 0,
                options: Options::default(),
                ..open
            },
        ),
        (SYN_ACK_V4, syn_ack),
    ];
    for (text, expected) in table {
        assert_eq!(segment(text), expected);
    }
}

#[test]
fn recorded_segments_over_ipv6() {
    let syn_ack = segment(SYN_ACK_V6);
    assert_eq!(syn_ack.options.mss, Some(1440));
    assert_eq!((syn_ack.ttl, syn_ack.payload_len), (63, 0));
    assert_eq!(
        segment(SACK_TWO_V6).options.sack,
        blocks(&[(0x8708_6fdc, 0x8708_6fdd), (0x8708_6fda, 0x8708_6fdb)])
    );
    assert_eq!(segment(RST_V6).acknowledgment, 0x8856_a825);
}

#[test]
fn a_checksum_left_to_the_nic_is_right() {
    assert_eq!(segment(SYN_ACK_OFFLOADED_V4).sequence, 0xa91b_232c);
    assert_eq!(segment(SYN_ACK_OFFLOADED_V6).sequence, 0x17a1_b8fd);
    // But only if it is exactly the pseudo-header's sum.
    let mut packet = hex(SYN_ACK_OFFLOADED_V4);
    packet[37] ^= 1;
    assert_eq!(decode(&packet, false), Err(Undecodable::Checksum));
}

/// What is to be seen of a probe that is quoted whole.
const RECORDED_SEEN: Seen = Seen {
    dont_fragment: None,
    length: Some(33),
    flags: Some(flags::ACK | flags::PSH),
    window: Some(501),
    options: Some(QuotedOptions::Timestamps),
    odd_data: false,
};

#[test]
fn recorded_errors() {
    let time_exceeded = IcmpError {
        from: "10.0.1.1".parse().unwrap(),
        kind: IcmpKind::TimeExceeded,
        icmp_type: 11,
        icmp_code: 0,
        ttl: 64,
        quote: Quote {
            source: address("10.0.1.2:45229"),
            destination: address("10.0.9.2:80"),
            sequence: 0x29b1_65e3,
            ttl: 1,
            traffic_class: 0,
            checksum_bad: Some(false),
            seen: Seen {
                dont_fragment: Some(true),
                ..RECORDED_SEEN
            },
            alone: None,
        },
        mpls: vec![],
    };
    let mut prohibited = time_exceeded.clone();
    prohibited.kind = IcmpKind::Unreachable;
    (prohibited.icmp_type, prohibited.icmp_code) = (3, 13);
    prohibited.quote.destination = address("10.0.9.2:81");
    prohibited.quote.ttl = 63;
    let mut too_big = time_exceeded.clone();
    too_big.kind = IcmpKind::PacketTooBig { mtu: 1280 };
    (too_big.icmp_type, too_big.icmp_code) = (3, 4);
    too_big.quote.sequence = 0x29b1_65f5;
    too_big.quote.ttl = 64;
    too_big.quote.checksum_bad = None;
    too_big.quote.seen.length = None;
    assert_eq!(icmp(&hex(TIME_EXCEEDED_V4)), time_exceeded);
    assert_eq!(icmp(&hex(PROHIBITED_V4)), prohibited);
    assert_eq!(icmp(&hex(FRAGMENTATION_NEEDED_V4)), too_big);
}

#[test]
fn recorded_errors_over_ipv6() {
    let time_exceeded = IcmpError {
        from: "fd00:1::1".parse().unwrap(),
        kind: IcmpKind::TimeExceeded,
        icmp_type: 3,
        icmp_code: 0,
        ttl: 64,
        quote: Quote {
            source: address("[fd00:1::2]:52685"),
            destination: address("[fd00:9::2]:80"),
            sequence: 0x8708_6fd8,
            ttl: 1,
            traffic_class: 0,
            checksum_bad: Some(false),
            seen: RECORDED_SEEN,
            alone: None,
        },
        mpls: vec![],
    };
    let mut prohibited = time_exceeded.clone();
    prohibited.kind = IcmpKind::Unreachable;
    (prohibited.icmp_type, prohibited.icmp_code) = (1, 1);
    prohibited.quote.destination = address("[fd00:9::2]:81");
    prohibited.quote.ttl = 63;
    let mut too_big = time_exceeded.clone();
    too_big.kind = IcmpKind::PacketTooBig { mtu: 1280 };
    too_big.icmp_type = 2;
    too_big.quote.sequence = 0x8708_6fea;
    too_big.quote.ttl = 64;
    too_big.quote.checksum_bad = None;
    too_big.quote.seen.length = None;
    assert_eq!(icmp(&hex(TIME_EXCEEDED_V6)), time_exceeded);
    assert_eq!(icmp(&hex(PROHIBITED_V6)), prohibited);
    assert_eq!(icmp(&hex(TOO_BIG_V6)), too_big);
}

#[test]
fn a_packet_cut_short_is_malformed_and_padding_is_ignored() {
    for text in RECORDED {
        let packet = hex(text);
        let whole = decode(&packet, false);
        assert!(whole.is_ok(), "{text}");
        let len = match packet[0] >> 4 {
            4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        for cut in 0..len {
            let decoded = decode(&packet[..cut], false);
            assert_eq!(decoded, Err(Undecodable::Malformed), "{text} at {cut}");
        }
        let mut padded = packet[..len].to_vec();
        padded.extend([0xa5; 20]);
        assert_eq!(decode(&padded, false), whole);
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    for text in RECORDED {
        // The weaker form of checksum protects the pseudo-header only.
        if [SYN_ACK_OFFLOADED_V4, SYN_ACK_OFFLOADED_V6].contains(&text) {
            continue;
        }
        let mut packet = hex(text);
        let (len, unprotected): (usize, &[usize]) = match packet[0] >> 4 {
            4 => (usize::from(u16::from_be_bytes([packet[2], packet[3]])), &[]),
            // Traffic class, flow label and hop limit have no checksum.
            _ => (packet.len(), &[0, 1, 2, 3, 7]),
        };
        for bit in 0..len * 8 {
            let (at, mask) = (bit / 8, 1 << (bit % 8));
            packet[at] ^= mask;
            if !unprotected.contains(&at) {
                assert!(decode(&packet, false).is_err(), "{text} bit {bit}");
            }
            packet[at] ^= mask;
        }
    }
}
