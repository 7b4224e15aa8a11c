//! Anything may come in at any time: nothing panics, grows, or never ends.

use super::*;
use crate::session::cells::Cell;
use proptest::prelude::*;

/// What malloc takes for an allocation: glibc's chunks hold their own size and
/// are multiples of 16 bytes.
fn chunk(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16)
}

/// What a live session may take, its part of the heap included: 16 hops of three
/// probes, IPv4. A kibibyte, less what an engine holds around it.
#[test]
fn a_session_with_its_record_takes_less_than_nine_hundred_bytes() {
    let mut script = Script::open(
        SessionOptions {
            max_ttl: 16,
            ..Default::default()
        },
        16,
    );
    while script.probes_sent() < 48 {
        script.wait(ms(10));
        for nth in 1..=script.probes_sent() as u16 {
            if script.answer(nth).is_none() {
                script.routers_answer([nth]);
            }
        }
    }
    script.wait(ms(10));
    for nth in 46..=48 {
        script.sacked(&[nth]);
    }
    assert!(script.session.rare().is_none(), "not a usual session");
    let cells = script.session.probes.capacity();
    assert_eq!(cells, 48 + 16 + 2, "the hint was right: it never grew");
    let session = size_of::<Session>();
    let whole = session + chunk(size_of::<Cold>()) + chunk(cells * size_of::<Cell>());
    assert!(whole <= 900, "{whole}");
    let report = script.report();
    assert_eq!(report.hops.len(), 16);
    assert!(report.hops.iter().all(|hop| hop.probes.len() == 3));
}

fn segments() -> impl Strategy<Value = Segment> {
    let near = |base: u32| {
        prop_oneof![
            4 => (0u32..40).prop_map(move |more| base.wrapping_add(more).wrapping_sub(4)),
            1 => any::<u32>(),
        ]
    };
    let block = (near(ISN), near(ISN), 0u8..4).prop_map(|(left, right, width)| SackBlock {
        left,
        right: if width == 0 {
            right
        } else {
            left.wrapping_add(1)
        },
    });
    (
        near(PEER_ISN),
        prop_oneof![3 => Just(ISN + 1), 1 => near(ISN), 1 => Just(ISN + (1 << 28) + 1)],
        prop_oneof![4 => Just(flags::ACK), 1 => 0u8..64],
        prop_oneof![Just(510u16), any::<u16>()],
        prop_oneof![3 => Just(0u32), 1 => 0u32..65_000],
        any::<u8>(),
        prop::collection::vec(block, 0..4),
        any::<Option<(u32, u32)>>(),
    )
        .prop_map(
            |(sequence, acknowledgment, flags, window, payload_len, ttl, blocks, timestamps)| {
                let mut options = Options {
                    timestamps,
                    sack_permitted: ttl & 1 == 0,
                    window_scale: (ttl & 2 == 0).then_some(ttl % 15),
                    ..Options::default()
                };
                for block in blocks {
                    options.sack.push(block);
                }
                Segment {
                    sequence,
                    acknowledgment,
                    flags,
                    window,
                    payload_len,
                    ttl,
                    options,
                }
            },
        )
}

fn errors() -> impl Strategy<Value = IcmpError> {
    (
        prop_oneof![3 => (0u32..60).prop_map(|more| ISN + more), 1 => any::<u32>()],
        prop_oneof![
            Just(IcmpKind::TimeExceeded),
            Just(IcmpKind::Unreachable),
            any::<u32>().prop_map(|mtu| IcmpKind::PacketTooBig { mtu })
        ],
        any::<(u8, u8, u8)>(),
        prop_oneof![1 => Just(TARGET), 3 => (1u8..9).prop_map(router)],
    )
        .prop_map(
            |(sequence, kind, (icmp_code, ttl, quoted), from)| IcmpError {
                from,
                kind,
                icmp_type: 11,
                icmp_code,
                ttl,
                quote: Quote {
                    source: flow().local,
                    destination: flow().remote,
                    sequence,
                    ttl: quoted,
                    traffic_class: 0,
                    checksum_bad: None,
                    seen: Seen::default(),
                    alone: None,
                },
                mpls: vec![],
            },
        )
}

#[derive(Clone, Debug)]
enum Input {
    Hello,
    Segment(Segment),
    Icmp(IcmpError),
    Wait(u64),
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        1 => Just(Input::Hello),
        4 => segments().prop_map(Input::Segment),
        4 => errors().prop_map(Input::Icmp),
        2 => (0u64..700).prop_map(Input::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_comes_in_the_session_ends_and_stays_small(
        inputs in prop::collection::vec(inputs(), 0..120),
        probes in 1u8..4,
        max_ttl in 1u8..=255,
        polite: bool,
        fewer_syns: bool,
        mtu: bool,
    ) {
        let mut script = Script::new(SessionOptions {
            probes,
            max_ttl,
            close: if polite { CloseMode::Fin } else { CloseMode::Rst },
            handshake_timeout: ms(if fewer_syns { 900 } else { 5000 }),
            ..Default::default()
        });
        if mtu {
            script.session.measure_mtu(1500, 2034);
        }
        let start = script.now;
        for input in inputs {
            match input {
                Input::Hello => {
                    let hello = script.syn_ack();
                    script.segment(hello);
                }
                Input::Segment(segment) => script.segment(segment),
                Input::Icmp(error) => script.icmp(error),
                Input::Wait(span) => script.wait(ms(span)),
            }
        }
        let waited = script.now.since(start);
        let hostile_until = script.now;
        while !script.session.is_finished() {
            let next = script.session.poll_timeout(&script.options, script.now);
            prop_assert!(next.is_some(), "it waits for nothing and is not finished");
            let (at, _) = next.unwrap();
            script.wait(at.since(script.now));
            prop_assert!(script.now.since(hostile_until) < Duration::from_secs(1000));
        }
        prop_assert!(waited < Duration::from_secs(200));
        // Two connections, three times back.
        let most = usize::from(probes) * 255 * 5;
        prop_assert!(script.probes_sent() <= most);
        check_sent(&script)?;
        let sent = script.probes_sent();
        let report = script.report();
        prop_assert_eq!(report.mtu.is_some(), mtu && report.handshake.is_some());
        let reported: usize = report.hops.iter().map(|hop| hop.probes.len()).sum();
        prop_assert_eq!(reported, sent);
    }
}

/// What holds for every segment ever sent.
pub(super) fn check_sent(script: &Script) -> Result<(), TestCaseError> {
    let bases = [script.base(), script.base().wrapping_add(1 << 28)];
    let mut seen = std::collections::HashSet::new();
    for (_, sent) in &script.sent {
        let segment = sent.segment;
        match sent.kind {
            TransmitKind::Probe(_) => {
                prop_assert_eq!(segment.payload_len, 1);
                prop_assert!(seen.insert(segment.sequence), "a sequence number twice");
                let gap = bases.map(|base| segment.sequence.wrapping_sub(base));
                // Never the byte at SND.UNA, and a byte of gap between any two.
                prop_assert!(gap.iter().any(|gap| gap % 2 == 1 && *gap < 1 << 17));
            }
            TransmitKind::Long => prop_assert!((1..=1460).contains(&segment.payload_len)),
            _ => prop_assert_eq!(segment.payload_len, 0),
        }
    }
    Ok(())
}

/// Errors that cannot be read are kept, but not without end.
#[test]
fn unread_answers_do_not_heap_up() {
    let mut script = Script::open(SessionOptions::default(), 20);
    for nth in 0..5_000 {
        script.icmp(script.unreachable(0x7000_0000 + nth * 3, router(1), 1));
        let edge = 0x6000_0000 + nth * 5;
        let block = script.sack_blocks(&[(edge, edge + 1), (edge + 2, edge + 3)]);
        script.segment(block);
    }
    assert!(script.session.learn().unwrap().sequences().count() <= 32);
    assert!(script.session.learn().unwrap().edges().len() <= 32);
    assert!(script.probes_sent() <= 13);
    assert_eq!(script.finish().verdict, Verdict::SeqRewritten);
}

/// At the end of all time.
#[test]
fn moments_saturate() {
    let now = Instant::from_nanos(u64::MAX - 5);
    let options = options();
    let mut session = Session::new(flow(), ISN, 0, 1460, now);
    assert!(session.poll_transmit(&options, now).is_some());
    let _ = session.poll_timeout(&options, now);
    session.handle_timeout(&options, Instant::from_nanos(u64::MAX));
    while session.poll_transmit(&options, now).is_some() {}
    assert!(session.is_finished());
}

/// A peer that lets one probe out at a time, and sends a bare ACK for each that
/// a router then answers.
#[test]
fn bare_acks_without_end_overflow_no_count() {
    let options = SessionOptions {
        max_ttl: 255,
        ..SessionOptions::default()
    };
    let mut script = Script::open_with(options, 64, |hello| hello.options.window_scale = None);
    assert_eq!(script.probes_sent(), 12);
    // Keepalives move the window and answer nothing.
    let opened_for = |script: &mut Script, probes: u16| {
        let mut keepalive = script.ack();
        keepalive.sequence = PEER_ISN;
        keepalive.window = 2 * probes;
        script.segment(keepalive);
    };
    opened_for(&mut script, 12);
    script.wait(ms(10));
    script.routers_answer(1..=11);
    for nth in 12..=300 {
        script.wait(ms(10));
        let mut bare = script.ack();
        bare.window = 2 * nth;
        script.segment(bare);
        opened_for(&mut script, nth + 1);
        script.routers_answer([nth]);
        assert_eq!(script.probes_sent(), usize::from(nth) + 1);
    }
    assert_eq!(script.kind(300), Some(ReplyKind::TimeExceeded));
}
