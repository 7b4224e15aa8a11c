//! Probes inside a connection of the kernel's, which is only watched.

use super::*;
use crate::session::sidecar::OwnSegment;
use proptest::prelude::*;

/// Where the kernel's part of an adopted connection stands.
const NEXT: u32 = 5_000;

/// A session in a connection of the kernel's, of which `before` octets were said.
fn adopted(options: SessionOptions, before: u64) -> Script {
    let options = SessionOptions {
        handshaker: Handshaker::Kernel,
        ..options
    };
    Script::with(options, NEXT - 1, |session| session.adopt(before))
}

/// A segment of the kernel's.
fn own(sequence: u32, data: &[u8]) -> OwnSegment {
    OwnSegment {
        segment: Segment {
            sequence,
            acknowledgment: PEER_ISN + 100,
            flags: flags::ACK,
            window: 501,
            payload_len: data.len() as u32,
            ttl: 64,
            options: Options {
                timestamps: Some((4_000, 600)),
                ..Options::default()
            },
        },
        flow_label: 0,
        data: data.to_vec(),
        inimitable: false,
    }
}

/// The peer has all up to this number.
fn acknowledges(script: &mut Script, number: u32) {
    let mut ack = script.ack();
    (ack.sequence, ack.acknowledgment) = (PEER_ISN + 100, number);
    ack.ttl = 45;
    script.segment(ack);
}

#[test]
fn an_adopted_connection_is_probed_once_both_directions_were_seen() {
    let mut script = adopted(options(), 10_000);
    script.wait(ms(50));
    acknowledges(&mut script, NEXT);
    assert_eq!(script.take(), []);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    assert_eq!(script.take(), []);
    acknowledges(&mut script, NEXT + 40);
    let probes = script.take();
    assert_eq!(probes.len(), 8);
    // 31 hops of a probe, and as many octets that are left out: up to what is
    // acknowledged.
    let base = NEXT + 40 - 62;
    for (nth, probe) in (0..).zip(&probes) {
        let segment = &probe.segment;
        assert!(matches!(probe.kind, TransmitKind::Probe(_)));
        assert_eq!(probe.alone, None);
        assert_eq!(segment.sequence, base + 1 + 2 * nth);
        assert_eq!(segment.acknowledgment, PEER_ISN + 100);
        assert_eq!((segment.window, segment.payload_len), (501, 1));
        let (tsval, tsecr) = (4_000, 600);
        assert_eq!(segment.options, SegmentOptions::Timestamps { tsval, tsecr });
        // What was not seen is sent as zeros.
        let seen = segment.sequence.checked_sub(NEXT).map_or(0, octet);
        assert_eq!(script.session.content(segment), Some(&[seen][..]));
    }
    // The latest segment is what the next probes take over.
    let mut latest = own(NEXT + 40, &[]);
    latest.segment.acknowledgment = PEER_ISN + 9_100;
    latest.segment.options.timestamps = Some((4_010, 650));
    script.reply(&Reply::Own(latest));
    script.routers_answer([]);
    let error = IcmpError {
        quote: script.quote(base + 1),
        ..script.unreachable(base + 1, router(1), 0)
    };
    script.icmp(IcmpError {
        kind: IcmpKind::TimeExceeded,
        icmp_type: 11,
        ..error
    });
    let next = script.take();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].segment.acknowledgment, PEER_ISN + 9_100);
    // A D-SACK, on a segment that carries data.
    let mut answer = script.sack_blocks(&[(base + 5, base + 6)]);
    (answer.sequence, answer.acknowledgment) = (PEER_ISN + 9_100, NEXT + 40);
    answer.payload_len = 1_448;
    script.segment(answer);
    assert_eq!(script.kind(3), Some(ReplyKind::Sack));
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Complete);
    assert_eq!(report.destination_ttl, Some(3));
    assert_eq!(report.method, Method::Sidecar);
    // Whoever has the connection acknowledges, and closes.
    assert!(
        script
            .take()
            .iter()
            .all(|sent| matches!(sent.kind, TransmitKind::Probe(_)))
    );
}

#[test]
fn sack_blocks_for_what_the_kernel_sends_name_no_probe() {
    let mut script = adopted(options(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    acknowledges(&mut script, NEXT + 40);
    script.take();
    for (left, right) in [(NEXT + 1_500, NEXT + 2_000), (NEXT + 20, NEXT + 40)] {
        let mut ack = script.sack_blocks(&[(left, right)]);
        (ack.sequence, ack.acknowledgment) = (PEER_ISN + 100, NEXT + 40);
        script.segment(ack);
    }
    assert!((1..=2).all(|nth| script.kind(nth).is_none()));
}

/// Whoever believes it sends what was never said.
#[test]
fn an_acknowledgment_of_what_was_not_sent_is_not_believed() {
    let mut script = adopted(options(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    acknowledges(&mut script, NEXT + 41);
    assert_eq!(script.take(), []);
    acknowledges(&mut script, NEXT + 5_000);
    assert_eq!(script.take(), []);
    // Nor a segment from anywhere.
    let mut ack = script.ack();
    (ack.sequence, ack.acknowledgment) = (PEER_ISN ^ 1 << 31, NEXT + 40);
    script.segment(ack);
    assert_eq!(script.take(), []);
    acknowledges(&mut script, NEXT + 40);
    let sent = script.take();
    assert_eq!(sent.len(), 8);
    let behind = |sent: &Transmit| sent.segment.sequence.wrapping_sub(NEXT + 40) as i32;
    assert!(sent.iter().all(|sent| behind(sent) < 0));
}

/// Keep-alives and probes of a closed window draw them.
#[test]
fn bare_acks_of_an_adopted_connection_answer_nothing() {
    let mut script = adopted(options(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    for _ in 0..6 {
        acknowledges(&mut script, NEXT + 40);
        script.wait(ms(100));
    }
    assert!((1..=8).all(|nth| script.kind(nth).is_none()));
}

/// The kernel's own segments meet routers, too.
#[test]
fn errors_about_what_the_kernel_sends_name_no_probe() {
    let mut script = adopted(options(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    acknowledges(&mut script, NEXT + 40);
    for sequence in [NEXT, NEXT + 40, NEXT + 9_000, NEXT.wrapping_sub(9_000)] {
        let error = IcmpError {
            kind: IcmpKind::PacketTooBig { mtu: 1_400 },
            ..script.unreachable(sequence, router(9), 4)
        };
        script.icmp(error);
    }
    assert!((1..=8).all(|nth| script.kind(nth).is_none()));
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::GapLimit);
    assert_eq!(report.detail, None);
}

#[test]
fn a_reset_behind_data_that_is_not_acknowledged_ends_the_trace() {
    let mut script = adopted(patient(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    let mut data = script.ack();
    (data.sequence, data.acknowledgment) = (PEER_ISN + 100, NEXT + 40);
    data.payload_len = 1_000;
    script.segment(data);
    let mut reset = script.reset_segment();
    reset.sequence = PEER_ISN + 99;
    script.segment(reset.clone());
    assert!(!script.session.flags.has(Flag::Left));
    reset.sequence = PEER_ISN + 1_100;
    script.segment(reset);
    assert_eq!(script.finish().verdict, Verdict::Reset);
}

#[test]
fn a_connection_whose_segments_are_signed_is_left_alone() {
    let mut script = adopted(options(), 10_000);
    let signed = OwnSegment {
        inimitable: true,
        ..own(NEXT, &said(40))
    };
    script.reply(&Reply::Own(signed));
    acknowledges(&mut script, NEXT + 40);
    assert_eq!(script.take(), []);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Error);
    assert!(report.detail.unwrap().contains("TCP-MD5"));
}

#[test]
fn a_silent_connection_cannot_be_adopted() {
    for seen in [false, true] {
        let mut script = adopted(options(), 0);
        if seen {
            script.reply(&Reply::Own(own(NEXT, &[])));
            acknowledges(&mut script, NEXT);
        }
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::HandshakeTimeout);
        let detail = report.detail.unwrap();
        let expected = match seen {
            true => "the peer has acknowledged no data",
            false => "no segments of the connection were seen",
        };
        assert!(detail.starts_with(expected), "{detail}");
        assert_eq!(script.take(), []);
    }
}

#[test]
fn a_connection_that_ends_ends_the_trace() {
    for (ours, verdict) in [(true, Verdict::Interrupted), (false, Verdict::ClosedByPeer)] {
        let mut script = adopted(patient(), 10_000);
        script.reply(&Reply::Own(own(NEXT, &said(40))));
        acknowledges(&mut script, NEXT + 40);
        if ours {
            let mut fin = own(NEXT + 40, &[]);
            fin.segment.flags |= flags::FIN;
            script.reply(&Reply::Own(fin));
        } else {
            let mut fin = script.ack();
            (fin.sequence, fin.acknowledgment) = (PEER_ISN + 100, NEXT + 40);
            fin.flags |= flags::FIN;
            script.segment(fin);
        }
        let report = script.finish();
        assert_eq!(report.verdict, verdict);
    }
}

/// Firewalls take nothing that lies far below the latest.
#[test]
fn where_much_more_is_said_probes_move_on() {
    let mut script = adopted(options(), 10_000);
    script.reply(&Reply::Own(own(NEXT, &said(40))));
    acknowledges(&mut script, NEXT + 40);
    let first = script.take()[0].segment.sequence;
    let chunk = said(1_000);
    let mut at = NEXT + 40;
    for _ in 0..40 {
        script.reply(&Reply::Own(own(at, &chunk)));
        at += 1_000;
        acknowledges(&mut script, at);
    }
    // An answer to one of those before is read all the same.
    script.icmp(IcmpError {
        kind: IcmpKind::TimeExceeded,
        icmp_type: 11,
        ..script.unreachable(first, router(1), 0)
    });
    assert_eq!(script.kind(1), Some(ReplyKind::TimeExceeded));
    let next = script.take();
    let behind = at - next.last().unwrap().segment.sequence;
    assert!(behind < 1 << 15, "{behind}");
    let segment = next.last().unwrap().segment;
    let content = script.session.content(&segment).unwrap();
    assert_ne!(content, [0]);
    let mut answer = script.sack_blocks(&[(segment.sequence, segment.sequence + 1)]);
    (answer.sequence, answer.acknowledgment) = (PEER_ISN + 100, at);
    script.segment(answer);
    let last = script.probes_sent() as u16;
    assert_eq!(script.kind(last), Some(ReplyKind::Sack));
}

/// An IPv6 balancer may hash the label.
#[test]
fn a_probe_has_the_flow_label_of_its_connection() {
    let mut script = adopted(options(), 10_000);
    let mut labelled = own(NEXT, &said(40));
    labelled.flow_label = 0x1_2345;
    script.reply(&Reply::Own(labelled));
    acknowledges(&mut script, NEXT + 40);
    let odd = script.take()[0].alone.unwrap();
    assert_eq!(odd.label, 0x1_2345);
    assert_eq!(odd.identification, None);
}

/// What a watched connection may show, in any order, lost and invented.
#[derive(Clone, Debug)]
enum Shown {
    /// The kernel sends so much, from this distance of [`NEXT`] on.
    Own(u32, u8, u8),
    /// The peer acknowledges up to this distance, with these flags and a block.
    Peer(i32, u8, Option<(i32, u8)>, u16),
    /// A router quotes this distance.
    Error(i32),
    /// Nothing, for so many milliseconds.
    Wait(u16),
}

fn shown() -> impl Strategy<Value = Shown> {
    let near = -2_000i32..12_000;
    prop_oneof![
        (0u32..8_000, any::<u8>(), any::<u8>()).prop_map(|(at, octets, bits)| Shown::Own(
            at,
            octets,
            // Mostly no end of it.
            if bits < 8 { bits } else { 0 }
        )),
        (
            near.clone(),
            any::<u8>(),
            proptest::option::of((near.clone(), 0u8..4)),
            any::<u16>()
        )
            .prop_map(|(at, bits, block, octets)| Shown::Peer(
                at,
                if bits < 8 { bits } else { flags::ACK },
                block,
                octets
            )),
        near.prop_map(Shown::Error),
        (0u16..900).prop_map(Shown::Wait),
    ]
}

proptest! {
    /// Whatever is seen: nothing is sent but single octets that the kernel has sent
    /// before, in segments like its own, and it ends.
    #[test]
    fn nothing_new_is_ever_sent_in_an_adopted_connection(
        before in 0u64..20_000,
        seen in proptest::collection::vec(shown(), 1..60),
    ) {
        let mut script = adopted(options(), before);
        let mut said = None::<u32>;
        let place = |at: i32| NEXT.wrapping_add_signed(at);
        for step in seen {
            match step {
                Shown::Own(at, octets, bits) => {
                    let mut sent = own(NEXT + at, &vec![1; usize::from(octets)]);
                    sent.segment.flags |= bits;
                    said = said.max(Some(NEXT + at + u32::from(octets)));
                    script.reply(&Reply::Own(sent));
                }
                Shown::Peer(at, bits, block, octets) => {
                    let block = block.map(|(left, long)| {
                        (place(left), place(left).wrapping_add(long.into()))
                    });
                    let mut segment = script.sack_blocks(block.as_slice());
                    segment.acknowledgment = place(at);
                    segment.sequence = PEER_ISN + 100;
                    segment.payload_len = octets.into();
                    segment.flags = bits;
                    script.segment(segment);
                }
                Shown::Error(at) => script.icmp(IcmpError {
                    kind: IcmpKind::TimeExceeded,
                    icmp_type: 11,
                    ..script.unreachable(place(at), router(3), 0)
                }),
                Shown::Wait(millis) => script.wait(ms(millis.into())),
            }
            for sent in script.take() {
                prop_assert!(matches!(sent.kind, TransmitKind::Probe(_)));
                prop_assert_eq!(sent.segment.payload_len, 1);
                let behind = sent.segment.sequence.wrapping_add(1);
                let most = said.expect("nothing is sent before the kernel was seen");
                prop_assert!(behind.wrapping_sub(most) as i32 <= 0, "{} > {}", behind, most);
            }
        }
        let report = script.finish();
        prop_assert_eq!(report.method, Method::Sidecar);
    }

    /// Whatever is captured: it is read or refused.
    #[test]
    fn what_is_watched_is_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        outgoing: bool,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        for at in [6, 9] {
            if let Some(protocol) = bytes.get_mut(at) {
                *protocol = 6;
            }
        }
        let _ = crate::session::decode_watched(&bytes, outgoing);
    }
}
