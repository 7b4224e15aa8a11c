//! What quotes show changed: probes as they go out, changed as boxes on the way change
//! them, quoted as routers quote.

use alloc::vec::Vec;

use super::*;
use crate::session::decode::decode;
use crate::trace::Rewrite;
use crate::wire::alone::Alone;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Form, Version};
use crate::wire::template::{Layout, Own, Way};
use crate::wire::{ip, ipv4};

/// A session by a method, its first probe as a packet that reached the router.
struct Quoted {
    session: Session,
    options: SessionOptions,
    now: Instant,
    v6: bool,
    packet: Vec<u8>,
}

impl Quoted {
    fn new(method: Method, v6: bool) -> Self {
        let options = SessionOptions {
            method,
            ..options()
        };
        let now = Instant::from_nanos(7_000_000_000);
        let (local, remote) = match v6 {
            true => ("[2001:db8::1]:61000", "[2001:db8:9::2]:443"),
            false => ("192.0.2.1:61000", "198.51.100.9:443"),
        };
        let (local, remote): (SocketAddr, SocketAddr) =
            (local.parse().unwrap(), remote.parse().unwrap());
        let mut session = session_alone(&options, method, (local, remote), now);
        let transmit = send(&mut session, &options, now);
        let odd = transmit.alone.unwrap();
        let layout = Layout::new(&Way {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: None,
            source: local.ip(),
            dscp: 0,
            protocol: method.protocol(v6),
            dont_fragment: false,
        });
        let own = Own {
            local_port: local.port(),
            remote: SocketAddr::new(remote.ip(), 443),
            flow_label: 0,
        };
        let number = odd.identification.unwrap_or(99);
        let (mut frame, ttl) = ([0xa5; 256], transmit.segment.ttl);
        let len = match odd.alone {
            Alone::Segment { .. } => layout.write(&own, &transmit.segment, number, &mut frame),
            alone => layout.write_alone(&own, ttl, &alone, number, &mut frame),
        };
        Quoted {
            session,
            options,
            now,
            v6,
            packet: frame[layout.l3_offset()..len].to_vec(),
        }
    }

    /// The first session's probe, timestamps and all.
    fn in_session(timestamps: bool) -> (Script, Vec<u8>) {
        let script = Script::open_with(options(), 20, |hello| {
            if !timestamps {
                hello.options.timestamps = None;
            }
        });
        let probe = script.sent.iter().map(|(_, sent)| sent);
        let mut probes = probe.filter(|sent| matches!(sent.kind, TransmitKind::Probe(_)));
        let segment = probes.next().unwrap().segment;
        let Flow { local, remote } = flow();
        let layout = Layout::new(&Way {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: None,
            source: local.ip(),
            dscp: 0,
            protocol: ip::PROTOCOL_TCP,
            dont_fragment: true,
        });
        let own = Own {
            local_port: local.port(),
            remote,
            flow_label: 0,
        };
        let mut frame = [0xa5; 256];
        let len = layout.write(&own, &segment, 3, &mut frame);
        (script, frame[layout.l3_offset()..len].to_vec())
    }

    /// What the session makes of its quote.
    fn told(mut self, labels: bool) -> crate::trace::Reply {
        let error = error(&self.packet, self.v6, labels);
        let reply = decode(&error, false).unwrap();
        self.session.handle_reply(&self.options, self.now, &reply);
        let (_, probe) = self.session.probe(number(1)).unwrap();
        probe.reply.expect("the quote names the probe")
    }

    /// Where the segment or datagram begins.
    fn upper(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }
}

/// A quote in its time exceeded.
fn error(quote: &[u8], v6: bool, labels: bool) -> Vec<u8> {
    let (version, icmp_type, from, to) = match v6 {
        true => (
            Version::V6,
            icmp::V6_TIME_EXCEEDED,
            "2001:db8:5::9",
            "2001:db8::1",
        ),
        false => (
            Version::V4,
            icmp::V4_TIME_EXCEEDED,
            "203.0.113.9",
            "192.0.2.1",
        ),
    };
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let label = crate::trace::MplsLabel {
        label: 16,
        tc: 0,
        bottom: true,
        ttl: 1,
    };
    let error = icmp::Repr {
        version,
        icmp_type,
        code: 0,
        mtu: None,
        quote,
        labels: labels.then_some(label).into_iter().collect(),
        form: Form::Compliant,
    };
    let len = error.buffer_len();
    let protocol = if v6 { 58 } else { 1 };
    let header = ip::Repr::new(from, to, protocol, 250, len as u16).unwrap();
    let mut packet = vec![0; header.buffer_len() + len];
    header.emit(&mut packet);
    let pseudo = match v6 {
        true => Sum::ZERO.pseudo(from, to, protocol, len as u32),
        false => Sum::ZERO,
    };
    error.emit(pseudo, &mut packet[header.buffer_len()..]);
    packet
}

/// Changes octets as a box does that mends TCP's checksum (RFC 1624).
fn rewrite(packet: &mut [u8], upper: usize, at: usize, octets: &[u8]) {
    let checksum = upper + 16;
    let pseudo = |packet: &[u8]| {
        let whole = ipv4::Packet::new(packet).unwrap();
        let (from, to) = (whole.source().into(), whole.destination().into());
        Sum::ZERO.pseudo(from, to, 6, (packet.len() - upper) as u32)
    };
    packet[at..at + octets.len()].copy_from_slice(octets);
    packet[checksum..checksum + 2].fill(0);
    let mended = pseudo(packet).bytes(&packet[upper..]).finish();
    packet[checksum..checksum + 2].copy_from_slice(&mended.to_be_bytes());
}

/// However little is quoted, and with whatever padding: no finding.
#[test]
fn what_is_as_it_was_sent_shows_nothing() {
    for v6 in [false, true] {
        for method in METHODS {
            let whole = Quoted::new(method, v6);
            for len in whole.upper() + 8..=whole.packet.len() {
                for labels in [false, true] {
                    let mut quoted = Quoted::new(method, v6);
                    quoted.packet.truncate(len);
                    let reply = quoted.told(labels);
                    assert_eq!(reply.rewrites, [], "{method:?} {v6} {len} {labels}");
                    let known = match method {
                        Method::Dublin => Some(0),
                        Method::ParisUdp if !v6 => Some(0),
                        _ => None,
                    };
                    assert_eq!(reply.nat, known, "{method:?} {v6} {len}");
                }
            }
        }
    }
}

/// By the checksum, though its quote was translated back; by both, where it was not.
#[test]
fn a_nat_is_known_by_what_it_added_to_the_checksum() {
    for (method, v6) in [
        (Method::ParisUdp, false),
        (Method::Dublin, false),
        (Method::Dublin, true),
    ] {
        for added in [1_u16, 0x1234, 0xfffe] {
            let mut quoted = Quoted::new(method, v6);
            let at = quoted.upper() + 6;
            let sent = u16::from_be_bytes([quoted.packet[at], quoted.packet[at + 1]]);
            let said = Sum::ZERO.word(sent).word(added).fold();
            quoted.packet[at..at + 2].copy_from_slice(&said.to_be_bytes());
            let reply = quoted.told(false);
            assert_eq!(reply.nat, Some(added), "{method:?} {v6}");
            assert_eq!(reply.rewrites, [Rewrite::Checksum]);
        }
    }
    let mut quoted = Quoted::new(Method::Dublin, false);
    quoted.packet[12..16].copy_from_slice(&[100, 64, 0, 7]);
    let added = Sum::ZERO.word(0x6440).word(7).word(!0xc000).word(!0x0201);
    let said = added.word(1).fold();
    quoted.packet[26..28].copy_from_slice(&said.to_be_bytes());
    let reply = quoted.told(false);
    assert_eq!(reply.nat, Some(added.fold()));
    assert_eq!(reply.rewrites, [Rewrite::Source]);
}

/// RFC 768: a checksum of 0 is none, and tells nothing of NATs.
#[test]
fn no_checksum_is_no_nat() {
    let mut quoted = Quoted::new(Method::Dublin, false);
    quoted.packet[26..28].fill(0);
    let reply = quoted.told(false);
    assert_eq!((reply.nat, reply.rewrites), (None, vec![]));
}

#[test]
fn an_identification_that_is_another_is_told() {
    for (said, found) in [
        ([0x77, 0x31], vec![Rewrite::Identification]),
        // Not quoted, or in the order of the router's processor.
        ([0, 0], vec![]),
        ([1, 0], vec![]),
    ] {
        let mut quoted = Quoted::new(Method::Dublin, false);
        quoted.packet[4..6].copy_from_slice(&said);
        let reply = quoted.told(false);
        assert_eq!((reply.nat, reply.rewrites), (None, found));
    }
}

#[test]
fn syns_show_what_became_of_their_options() {
    // The options begin at 40: MSS, SACK-permitted, timestamps, NOP, window scale.
    type Edits = &'static [(usize, &'static [u8])];
    let cases: [(Edits, &[Rewrite]); 7] = [
        (&[(42, &[0x05, 0x00])], &[Rewrite::Mss]),
        (&[(44, &[1, 1])], &[Rewrite::Options]),
        (&[(46, &[1; 10])], &[Rewrite::Options]),
        (&[(48, &[9, 9, 9, 9])], &[Rewrite::Options]),
        (
            &[(42, &[0x05, 0x00]), (57, &[1, 1, 1])],
            &[Rewrite::Mss, Rewrite::Options],
        ),
        (&[(34, &[0x01, 0x00])], &[Rewrite::Window]),
        (&[(33, &[0xc2])], &[Rewrite::Flags]),
    ];
    for method in [Method::Tcp, Method::ParisTcp] {
        for (edits, found) in &cases {
            for labels in [false, true] {
                let mut quoted = Quoted::new(method, false);
                for (at, octets) in *edits {
                    rewrite(&mut quoted.packet, 20, *at, octets);
                }
                assert_eq!(quoted.told(labels).rewrites, *found, "{edits:?}");
            }
        }
    }
}

/// A box that takes the options away altogether, and makes the packet shorter.
#[test]
fn a_shorter_segment_is_told_where_its_checksum_bears_it_out() {
    let mut quoted = Quoted::new(Method::ParisTcp, false);
    quoted.packet.truncate(40);
    quoted.packet[2..4].copy_from_slice(&40_u16.to_be_bytes());
    rewrite(&mut quoted.packet, 20, 32, &[0x50]);
    let found = [Rewrite::Options, Rewrite::Length];
    assert_eq!(quoted.told(false).rewrites, found);
    // A length alone is what some routers write into their quotes.
    let mut quoted = Quoted::new(Method::ParisTcp, false);
    quoted.packet[2..4].copy_from_slice(&40_u16.to_be_bytes());
    assert_eq!(quoted.told(false).rewrites, []);
}

#[test]
fn data_and_fragmentation_are_compared() {
    for method in [Method::Icmp, Method::Udp, Method::ParisIcmp, Method::Dublin] {
        let mut quoted = Quoted::new(method, false);
        quoted.packet[35] ^= 1;
        assert_eq!(
            quoted.told(false).rewrites,
            [Rewrite::Payload],
            "{method:?}"
        );
        let mut quoted = Quoted::new(method, false);
        quoted.packet[6] = 0x40;
        assert_eq!(
            quoted.told(false).rewrites,
            [Rewrite::DontFragment],
            "{method:?}"
        );
    }
}

/// In a session by both ways, the short one and the long one.
#[test]
fn probes_of_a_session_are_compared_in_both_ways() {
    type Edit = (usize, &'static [u8]);
    let cases: [(bool, Edit, &[Rewrite]); 7] = [
        (true, (32, &[0x80]), &[]),
        (false, (32, &[0x50]), &[]),
        (true, (40, &[1; 12]), &[Rewrite::Options]),
        (true, (34, &[0x10, 0x00]), &[Rewrite::Window]),
        (true, (33, &[0x10]), &[Rewrite::Flags]),
        (true, (52, &[7]), &[Rewrite::Payload]),
        (true, (6, &[0]), &[Rewrite::DontFragment]),
    ];
    for (timestamps, (at, octets), found) in cases {
        for short in [false, true] {
            let (mut script, mut packet) = Quoted::in_session(timestamps);
            rewrite(&mut packet, 20, at, octets);
            let error = error(&packet, false, false);
            let taken = short
                && script
                    .session
                    .handle_usual(&script.options, script.now, &error)
                    .is_some();
            if !taken {
                script.reply(&decode(&error, false).unwrap());
            }
            assert_eq!(taken, short && found.is_empty(), "{at} {octets:?}");
            assert_eq!(script.answer(1).unwrap().rewrites, found, "{at} {octets:?}");
        }
    }
}
