//! Opening: SYN, SYN-ACK, and all that can go wrong between them.

use super::*;
use crate::wire::template::SegmentOptions;

#[test]
fn a_syn_looks_like_a_desktop_stack_s() {
    let mut script = Script::new(options());
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Syn);
    let syn = sent[0].segment;
    assert_eq!(
        (syn.sequence, syn.acknowledgment, syn.flags),
        (ISN, 0, flags::SYN)
    );
    assert_eq!((syn.ttl, syn.window, syn.payload_len), (64, 64_240, 0));
    let expected = SegmentOptions::Syn {
        mss: 1460,
        window_scale: 7,
        tsval: script.tsval(),
    };
    assert_eq!(syn.options, expected);
}

#[test]
fn a_syn_goes_out_again_at_1_and_3_seconds_and_is_given_up_at_5() {
    let mut script = Script::new(options());
    let start = script.now;
    let report = script.finish();
    let moments: Vec<_> = script
        .sent
        .iter()
        .map(|(at, sent)| (at.since(start).as_millis(), sent.kind))
        .collect();
    let expected = [
        (0, TransmitKind::Syn),
        (1000, TransmitKind::Syn),
        (3000, TransmitKind::Syn),
        // The SYN may have arrived, and its answer been lost.
        (5000, TransmitKind::Rst),
    ];
    assert_eq!(moments, expected);
    assert_eq!(report.verdict, Verdict::HandshakeTimeout);
    assert_eq!((report.hops, report.handshake), (vec![], None));
    let rst = script.sent[3].1.segment;
    assert_eq!(
        (rst.sequence, rst.flags, rst.acknowledgment),
        (ISN + 1, flags::RST, 0)
    );
}

#[test]
fn every_syn_has_the_same_sequence_number_and_a_later_clock() {
    let mut script = Script::new(options());
    script.wait(ms(3500));
    let tsvals: Vec<u32> = script
        .take()
        .iter()
        .map(|sent| {
            assert_eq!(sent.segment.sequence, ISN);
            match sent.segment.options {
                SegmentOptions::Syn { tsval, .. } => tsval,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(tsvals, [0, 1000, 3000].map(|later| tsvals[0] + later));
}

#[test]
fn a_short_handshake_timeout_comes_before_the_second_syn() {
    let mut script = Script::new(SessionOptions {
        handshake_timeout: ms(300),
        ..options()
    });
    let start = script.now;
    let report = script.finish();
    assert_eq!(report.ended.since(start), ms(300));
    assert_eq!(script.kinds(), [TransmitKind::Syn, TransmitKind::Rst]);
}

#[test]
fn a_syn_ack_is_acknowledged_and_described() {
    let script = &mut Script::open(options(), 10);
    assert_eq!(script.events, [Event::Established]);
    let sent = script.take();
    assert_eq!(sent[0].kind, TransmitKind::Ack);
    let ack = sent[0].segment;
    assert_eq!((ack.sequence, ack.flags), (ISN + 1, flags::ACK));
    assert_eq!((ack.acknowledgment, ack.payload_len), (PEER_ISN + 1, 0));
    assert_eq!((ack.ttl, ack.window), (64, 64_240 >> 7));
    script.session.abort(script.now, Verdict::Interrupted, None);
    let handshake = script.report().handshake.unwrap();
    assert_eq!(handshake.rtt, RTT);
    assert_eq!((handshake.mss, handshake.sack), (1460, true));
    assert_eq!(
        (handshake.timestamps, handshake.window_scale),
        (true, Some(7))
    );
}

#[test]
fn a_syn_ack_without_mss_stands_for_536() {
    let mut script = Script::open_with(options(), 10, |hello| hello.options.mss = None);
    script.session.abort(script.now, Verdict::Interrupted, None);
    assert_eq!(script.report().handshake.unwrap().mss, 536);
}

/// Of several SYNs, which one was answered: the echoed timestamp tells.
#[test]
fn the_handshake_s_rtt_counts_from_the_syn_that_was_answered() {
    for (answered_at, echo_of, expected) in [
        (1400, 0, 1400),
        (1400, 1000, 400),
        (3200, 1000, 2200),
        (3200, 3000, 200),
    ] {
        let mut script = Script::new(options());
        let first = script.tsval();
        script.wait(ms(answered_at));
        let mut hello = script.syn_ack();
        hello.options.timestamps = Some((500, first + echo_of));
        script.segment(hello);
        script.session.abort(script.now, Verdict::Interrupted, None);
        let rtt = script.report().handshake.unwrap().rtt;
        assert_eq!(rtt, ms(expected), "{answered_at} {echo_of}");
    }
}

/// A box that makes up timestamps tells nothing: then the latest SYN, which is
/// a lower bound.
#[test]
fn an_echo_of_nothing_sent_does_not_decide_the_rtt() {
    let mut script = Script::new(options());
    script.wait(ms(1400));
    let mut hello = script.syn_ack();
    hello.options.timestamps = Some((500, 0xDEAD_BEEF));
    script.segment(hello);
    script.session.abort(script.now, Verdict::Interrupted, None);
    assert_eq!(script.report().handshake.unwrap().rtt, ms(400));
}

#[test]
fn a_syn_ack_of_something_else_does_not_open() {
    for wrong in [ISN, ISN + 2, ISN.wrapping_sub(5000)] {
        let mut script = Script::new(options());
        script.take();
        let mut hello = script.syn_ack();
        hello.acknowledgment = wrong;
        script.segment(hello);
        assert_eq!(script.events, []);
        // RFC 9293 §3.10.7.3: <SEQ=SEG.ACK><CTL=RST>.
        let sent = script.take();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].kind, TransmitKind::Rst);
        assert_eq!(sent[0].segment.sequence, wrong);
    }
}

/// The peer still has a connection of another life on this flow: the SYN draws
/// a challenge ACK (RFC 5961 §4), which the RST answers, and the next SYN opens.
#[test]
fn a_challenge_ack_from_a_stale_connection_is_answered_by_the_rst_it_waits_for() {
    let mut script = Script::new(options());
    script.take();
    let mut challenge = script.ack();
    (challenge.sequence, challenge.acknowledgment) = (123_456, 777_777);
    script.segment(challenge);
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].segment.sequence, sent[0].segment.flags),
        (777_777, flags::RST)
    );
    script.wait(ms(1000));
    assert_eq!(script.kinds(), [TransmitKind::Syn]);
    let hello = script.syn_ack();
    script.segment(hello);
    assert_eq!(script.events, [Event::Established]);
}

#[test]
fn a_rst_with_the_right_ack_is_a_refusal_and_any_other_is_not() {
    let mut script = Script::new(options());
    script.take();
    let mut rst = script.reset_segment();
    rst.flags = flags::RST | flags::ACK;
    for wrong in [ISN, ISN + 2] {
        rst.acknowledgment = wrong;
        script.segment(rst.clone());
    }
    rst.acknowledgment = ISN + 1;
    script.segment(Segment {
        flags: flags::RST,
        ..rst.clone()
    });
    assert_eq!(script.events, []);
    assert_eq!(script.take(), []);
    script.segment(rst);
    assert_eq!(script.events, [Event::Verdict(Verdict::Refused)]);
    assert!(script.session.is_finished());
    // Nothing is open that could be closed.
    assert_eq!(script.take(), []);
    let report = script.report();
    assert_eq!((report.hops, report.handshake), (vec![], None));
}

#[test]
fn an_unreachable_for_the_syn_ends_it_and_says_why() {
    let mut script = Script::new(options());
    script.take();
    script.icmp(script.unreachable(ISN, router(3), 13));
    assert!(script.session.is_finished());
    assert_eq!(script.take(), []);
    let report = script.report();
    assert_eq!(report.verdict, Verdict::Unreachable);
    assert_eq!(
        report.detail.as_deref(),
        Some("communication administratively prohibited (!X, code 13) from 10.0.0.3")
    );
    assert_eq!(report.hops, []);
}

#[test]
fn an_error_that_quotes_no_syn_of_ours_does_not_end_the_opening() {
    let mut script = Script::new(options());
    script.icmp(script.unreachable(ISN + 7, router(3), 1));
    let mut exceeded = script.unreachable(ISN, router(3), 0);
    exceeded.kind = IcmpKind::TimeExceeded;
    script.icmp(exceeded);
    assert_eq!(script.events, []);
}

#[test]
fn a_syn_ack_again_is_acknowledged_again() {
    let mut script = Script::open(options(), 10);
    script.take();
    let mut hello = script.syn_ack();
    let (value, echo) = hello.options.timestamps.unwrap();
    hello.options.timestamps = Some((value + 1_000, echo));
    script.segment(hello);
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Ack);
    assert_eq!(sent[0].segment.acknowledgment, PEER_ISN + 1);
    // RFC 7323 §4.3: its timestamp is the latest now.
    let SegmentOptions::Timestamps { tsecr, .. } = sent[0].segment.options else {
        panic!("no timestamps");
    };
    assert_eq!(tsecr, value + 1_000);
    assert_eq!(script.events, [Event::Established]);
}

/// SYNPROXY answers with a closed window, and opens it when it has reached the
/// server, by a pure ACK without SACK.
#[test]
fn a_closed_window_is_waited_for() {
    for closed in [0, 1] {
        let mut script = Script::open_with(options(), 10, |hello| hello.window = closed);
        assert_eq!(script.kinds(), [TransmitKind::Ack]);
        script.wait(ms(700));
        assert_eq!(script.take(), []);
        script.dup_ack();
        assert_eq!(script.take_ttls(), (1..=8).collect::<Vec<_>>());
        // The update is a reply to nothing.
        assert!((1..=8).all(|nth| script.kind(nth).is_none()));
    }
}

#[test]
fn a_window_that_never_opens_is_a_handshake_timeout() {
    let mut script = Script::open_with(options(), 10, |hello| hello.window = 0);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::HandshakeTimeout);
    assert_eq!(report.ended.since(report.started), ms(5000));
    assert_eq!(
        report.detail.as_deref(),
        Some("the peer's receive window stayed closed")
    );
    assert_eq!(report.hops, []);
    // There is a connection, and it is closed.
    assert_eq!(script.take().last().unwrap().kind, TransmitKind::Rst);
}

/// RFC 9293 §3.8.6.1: the update that opens the window may be lost; an old byte
/// draws an ACK that tells the window anew.
#[test]
fn a_closed_window_is_probed() {
    let mut script = Script::open_with(options(), 20, |hello| hello.window = 0);
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    for after in [1_000, 1_000, 2_000] {
        script.wait(ms(after));
        let sent = script.take();
        assert_eq!(sent.len(), 1, "after {after} ms");
        assert_eq!(sent[0].kind, TransmitKind::Ack);
        assert_eq!(sent[0].segment.sequence.wrapping_add(1), script.base());
        assert_eq!(sent[0].segment.payload_len, 0);
    }
    let ack = script.ack();
    script.segment(ack);
    assert_eq!(script.take_ttls().first(), Some(&1));
}

#[test]
fn a_peer_without_sack_timestamps_or_scale_is_traced_all_the_same() {
    let mut script = Script::open_with(options(), 4, |hello| {
        hello.options = Options::default();
    });
    assert_eq!(script.events, [Event::Established]);
    let sent = script.take();
    assert!(
        sent.iter()
            .all(|sent| sent.segment.options == SegmentOptions::None)
    );
    // Our window is not scaled where the peer takes no part in it.
    assert!(sent.iter().all(|sent| sent.segment.window == 64_240));
    let probes = sent.iter().filter(|sent| sent.segment.payload_len == 1);
    assert_eq!(
        probes.map(|sent| sent.segment.ttl).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}
