//! The peer goes in mid-trace: FIN, RST, and opening once more.

use super::*;

/// What a second connection's numbers are.
const SECOND: u32 = ISN + (1 << 28);

/// Hops enough to be asked.
fn long() -> SessionOptions {
    SessionOptions {
        gap_limit: 20,
        ..options()
    }
}

fn in_flight() -> Script {
    let mut script = Script::open(long(), 20);
    script.take();
    script.wait(ms(10));
    script.routers_answer(1..=3);
    script.take();
    script
}

fn fin(script: &mut Script) {
    let mut fin = script.ack();
    fin.flags |= flags::FIN;
    script.segment(fin);
}

fn second_hello(script: &mut Script) {
    let mut hello = script.syn_ack();
    hello.acknowledgment = SECOND + 1;
    hello.sequence = 0x7000_0000;
    hello.ttl = 45;
    script.segment(hello);
}

#[test]
fn data_of_the_peer_is_acknowledged_and_never_answered() {
    let mut script = in_flight();
    let mut banner = script.ack();
    (banner.payload_len, banner.flags) = (21, flags::ACK | flags::PSH);
    script.segment(banner.clone());
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    let ack = sent[0].segment;
    assert_eq!(sent[0].kind, TransmitKind::Ack);
    assert_eq!((ack.sequence, ack.acknowledgment), (ISN + 1, PEER_ISN + 22));
    assert_eq!((ack.payload_len, ack.ttl), (0, 64));
    // Again: our ACK was lost.
    script.segment(banner.clone());
    assert_eq!(script.take()[0].segment.acknowledgment, PEER_ISN + 22);
    // The next but one, before the next.
    banner.sequence = PEER_ISN + 32;
    script.segment(banner.clone());
    assert_eq!(script.take()[0].segment.acknowledgment, PEER_ISN + 22);
    // What overlaps counts for its new part.
    (banner.sequence, banner.payload_len) = (PEER_ISN + 12, 20);
    script.segment(banner.clone());
    assert_eq!(script.take()[0].segment.acknowledgment, PEER_ISN + 32);
    // Probes acknowledge it as well.
    script.routers_answer([4]);
    let probe = script.take()[0].segment;
    assert_eq!(
        (probe.payload_len, probe.acknowledgment),
        (1, PEER_ISN + 32)
    );
}

/// Two ends that disagree would answer each other's pure ACKs for ever.
#[test]
fn pure_acks_out_of_order_are_not_answered() {
    let mut script = in_flight();
    for sequence in [PEER_ISN - 100, PEER_ISN + 30, PEER_ISN + 0x8000_0000] {
        let odd = Segment {
            sequence,
            ..script.ack()
        };
        script.segment(odd);
        assert_eq!(script.take(), []);
    }
}

#[test]
fn a_segment_that_acknowledges_anything_else_is_not_taken_in() {
    let mut script = in_flight();
    for acknowledgment in [ISN, ISN + 2, ISN + 9, 7] {
        let mut odd = script.ack();
        odd.acknowledgment = acknowledgment;
        (odd.payload_len, odd.window) = (5, 0);
        odd.flags |= flags::FIN;
        script.segment(odd);
    }
    assert_eq!(script.verdict(), None);
    assert_eq!(script.take(), []);
    assert_ne!(script.session.connection.snd_wnd, 0);
}

#[test]
fn a_fin_opens_once_more() {
    let mut script = in_flight();
    fin(&mut script);
    let sent = script.take();
    // The old connection goes first: the server would answer the SYN by a
    // challenge ACK.
    assert_eq!(sent[0].kind, TransmitKind::Rst);
    assert_eq!(
        (sent[0].segment.sequence, sent[0].segment.flags),
        (ISN + 1, flags::RST)
    );
    assert_eq!(sent[1].kind, TransmitKind::Syn);
    assert_eq!(sent[1].segment.sequence, SECOND);
    assert_eq!(sent.len(), 2);
    // A router of the first connection answers late.
    script.wait(ms(5));
    script.routers_answer([5]);
    assert_eq!(script.answer(5).unwrap().rtt, ms(15));
    second_hello(&mut script);
    let sent = script.take();
    assert_eq!(sent[0].segment.acknowledgment, 0x7000_0001);
    // It goes on behind the farthest hop, where the first peer left probes
    // unanswered: one in flight may have been the destination's.
    let ttls: Vec<_> = sent[1..].iter().map(|sent| sent.segment.ttl).collect();
    assert_eq!(ttls, [6], "those in flight still count");
    assert_eq!(sent[1].segment.sequence, SECOND + 2);
    // What was learnt is kept.
    for (nth, from) in [(1, 1), (2, 2), (3, 3), (5, 5)] {
        assert_eq!(script.answer(nth).unwrap().from, router(from));
    }
    // Only one event tells of being open, and one handshake is reported.
    let established = script
        .events
        .iter()
        .filter(|event| **event == Event::Established);
    assert_eq!(established.count(), 1);
}

/// Sequence numbers of the two connections are apart: a late quote names its probe.
#[test]
fn probes_of_both_connections_are_told_apart() {
    let mut script = in_flight();
    fin(&mut script);
    second_hello(&mut script);
    let probes: Vec<_> = script
        .sent
        .iter()
        .filter(|(_, sent)| sent.segment.payload_len == 1)
        .map(|(_, sent)| sent.segment)
        .collect();
    let mut sequences: Vec<_> = probes.iter().map(|probe| probe.sequence).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), probes.len());
    script.wait(ms(3));
    for (nth, probe) in (1..).zip(&probes) {
        let mut error = script.exceeded(nth);
        error.quote.sequence = probe.sequence;
        script.icmp(error);
        assert_eq!(script.answer(nth).unwrap().from, router(probe.ttl));
    }
    // SACKs come from the second alone.
    let mut ack = script.sack(&[4]);
    (ack.acknowledgment, ack.sequence) = (SECOND + 1, 0x7000_0001);
    script.segment(ack);
    assert!(
        !script
            .events
            .iter()
            .any(|event| matches!(event, Event::Destination(_)))
    );
}

#[test]
fn errors_about_the_first_connection_s_segments_are_nothing_odd() {
    let mut script = in_flight();
    fin(&mut script);
    second_hello(&mut script);
    for sequence in [ISN, ISN + 1] {
        script.icmp(script.unreachable(sequence, router(3), 1));
    }
    assert!(!script.session.schedule.is_alone());
}

#[test]
fn a_second_fin_ends_it() {
    let mut script = in_flight();
    fin(&mut script);
    second_hello(&mut script);
    script.take();
    let mut second = script.ack();
    (second.acknowledgment, second.sequence) = (SECOND + 1, 0x7000_0001);
    second.flags |= flags::FIN;
    script.segment(second);
    // It is acknowledged, and what is under way is waited for.
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    assert_eq!(script.verdict(), None);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::ClosedByPeer);
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].kind, sent[0].segment.sequence),
        (TransmitKind::Rst, SECOND + 1)
    );
    assert_eq!(report.hops[..3].len(), 3);
    assert_eq!((report.detail, report.destination_ttl), (None, None));
}

#[test]
fn where_it_may_not_reopen_a_fin_ends_it() {
    let mut script = Script::open(
        SessionOptions {
            reopen: false,
            ..long()
        },
        20,
    );
    script.take();
    script.wait(ms(10));
    fin(&mut script);
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    // Routers that answer meanwhile are heard.
    script.routers_answer([1]);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::ClosedByPeer);
    assert!(report.hops[0].probes[0].reply.is_some());
    let rst = script.take()[0].segment;
    // Its FIN was taken.
    assert_eq!((rst.sequence, rst.acknowledgment), (ISN + 1, PEER_ISN + 2));
}

#[test]
fn a_fin_out_of_order_is_no_fin_yet() {
    let mut script = in_flight();
    let mut early = script.ack();
    early.flags |= flags::FIN;
    early.sequence += 10;
    script.segment(early);
    assert_eq!(script.verdict(), None);
    assert_eq!(script.take()[0].segment.acknowledgment, PEER_ISN + 1);
}

/// Everything was sent: the peer is not needed any more.
#[test]
fn a_peer_that_leaves_after_the_last_probe_changes_nothing() {
    for reset in [false, true] {
        let mut script = Script::open(
            SessionOptions {
                max_ttl: 4,
                ..options()
            },
            20,
        );
        script.wait(ms(10));
        script.routers_answer(1..=2);
        match reset {
            true => script.segment(script.reset_segment()),
            false => fin(&mut script),
        }
        assert_eq!(script.verdict(), None);
        script.routers_answer(3..=4);
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::MaxTtl);
    }
}

/// The destination has answered: the path is known.
#[test]
fn a_peer_that_leaves_after_its_answer_leaves_a_complete_trace() {
    for reset in [false, true] {
        let mut script = Script::open(SessionOptions::default(), 4);
        script.wait(ms(10));
        script.routers_answer(1..=9);
        script.sacked(&[10]);
        match reset {
            true => script.segment(script.reset_segment()),
            false => fin(&mut script),
        }
        let report = script.finish();
        assert_eq!(
            (report.verdict, report.destination_ttl),
            (Verdict::Complete, Some(4))
        );
        let how = if reset { "reset" } else { "closed" };
        let expected = format!("the peer {how} the session before every probe was sent");
        assert_eq!(report.detail, Some(expected));
    }
}

#[test]
fn a_reset_opens_once_more_and_then_ends_it() {
    let mut script = in_flight();
    script.segment(script.reset_segment());
    // Nothing is left to be closed.
    assert_eq!(script.kinds(), [TransmitKind::Syn]);
    second_hello(&mut script);
    script.take();
    let mut rst = script.reset_segment();
    rst.sequence = 0x7000_0001;
    script.segment(rst);
    assert_eq!(script.finish().verdict, Verdict::Reset);
    assert_eq!(script.take(), []);
}

/// It looked as if all was sent, but a late answer says that there is more.
#[test]
fn a_late_answer_opens_a_left_session_again() {
    let mut script = Script::open(options(), 20);
    script.wait(ms(10));
    script.take();
    fin(&mut script);
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    script.routers_answer([3]);
    assert_eq!(script.kinds(), [TransmitKind::Rst, TransmitKind::Syn]);
}

/// RFC 5961 §3.2: exactly in sequence. Others within the window are asked for
/// again by an ACK.
#[test]
fn a_reset_out_of_sequence_is_none() {
    let mut script = in_flight();
    for (sequence, answered) in [
        (PEER_ISN, false),
        (PEER_ISN + 2, true),
        (PEER_ISN + 64_000, true),
        (PEER_ISN + 70_000, false),
        (PEER_ISN - 5_000, false),
    ] {
        let odd = Segment {
            sequence,
            ..script.reset_segment()
        };
        script.segment(odd);
        assert_eq!(script.verdict(), None);
        let expected = [TransmitKind::Ack];
        assert_eq!(
            script.kinds(),
            expected[..usize::from(answered)],
            "{sequence}"
        );
    }
}

#[test]
fn a_reset_answers_the_one_probe_in_flight() {
    let mut script = Script::open(
        SessionOptions {
            reopen: false,
            ..long()
        },
        4,
    );
    script.wait(ms(10));
    script.routers_answer(1..=3);
    script.wait(ms(10));
    script.segment(script.reset_segment());
    assert_eq!(script.kind(4), Some(ReplyKind::Rst));
    assert_eq!(script.finish().verdict, Verdict::Reset);
    // With several it is nobody's.
    let mut script = in_flight();
    script.segment(script.reset_segment());
    assert!((4..=8).all(|nth| script.answer(nth).is_none()));
}

#[test]
fn a_peer_that_does_not_open_again_has_closed() {
    let mut script = in_flight();
    fin(&mut script);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::ClosedByPeer);
    assert_eq!(
        report.detail.as_deref(),
        Some("the peer closed the session; opening it again: no answer")
    );
    assert!(report.hops[0].probes[0].reply.is_some());
    assert!(report.handshake.is_some());

    let mut script = in_flight();
    fin(&mut script);
    let mut refusal = script.reset_segment();
    (refusal.flags, refusal.acknowledgment) = (flags::RST | flags::ACK, SECOND + 1);
    script.segment(refusal);
    let report = script.report();
    assert_eq!(report.verdict, Verdict::ClosedByPeer);
    assert_eq!(
        report.detail.as_deref(),
        Some("the peer closed the session; opening it again: refused")
    );
}

/// A SYN whose moment is told late does not hold back the next connection's.
#[test]
fn a_late_moment_of_the_first_syn_is_not_the_second_s() {
    let mut script = in_flight();
    let mut segment = script.ack();
    segment.flags |= flags::FIN;
    let (session, options, now) = (&mut script.session, &script.options, script.now);
    session.handle_reply(options, now, &Reply::Segment(segment));
    session.handle_transmitted(TransmitKind::Syn, now);
    script.drain();
    assert_eq!(script.kinds(), [TransmitKind::Rst, TransmitKind::Syn]);
}

/// Duplicate ACKs name nothing; those of the second connection are not for the
/// first one's probes.
#[test]
fn duplicate_acks_are_for_the_probes_of_their_connection() {
    let mut script = Script::open_with(options(), 20, |hello| {
        Script::no_sack(hello);
        hello.ttl = 64;
    });
    script.wait(ms(10));
    fin(&mut script);
    let mut hello = script.syn_ack();
    (hello.acknowledgment, hello.sequence) = (SECOND + 1, 0x7000_0000);
    (hello.window, hello.options.sack_permitted) = (0, false);
    script.segment(hello);
    let mut update = script.ack();
    (update.acknowledgment, update.sequence) = (SECOND + 1, 0x7000_0001);
    script.segment(update.clone());
    script.segment(update);
    assert_eq!(script.answer(1), None);
}
