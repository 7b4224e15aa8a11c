//! Peers whose answers name no probe: no SACK permitted, or its options stripped
//! on the way.

use super::*;
use crate::trace::RttBound;

fn no_sack(hops: u8) -> Script {
    let mut script = Script::open_with(options(), 20, |hello| {
        Script::no_sack(hello);
        hello.ttl = 65 - hops;
    });
    script.take();
    script.wait(ms(10));
    script
}

#[test]
fn one_probe_in_flight_is_credited() {
    let mut script = no_sack(4);
    script.routers_answer(1..=3);
    assert_eq!(script.take_ttls(), [4]);
    script.wait(ms(12));
    script.dup_ack();
    let answer = script.answer(4).unwrap();
    assert_eq!((answer.kind, answer.from), (ReplyKind::DupAck, TARGET));
    assert_eq!((answer.rtt, answer.rtt_bound), (ms(12), RttBound::Exact));
    let report = script.report();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Complete, Some(4))
    );
}

/// Near the destination every other must be answered or lost first.
#[test]
fn from_the_hint_on_each_goes_out_alone() {
    let mut script = no_sack(4);
    script.routers_answer([1, 3]);
    script.wait(ms(1900));
    assert_eq!(script.take_ttls(), [0u8; 0]);
    script.wait(ms(100));
    assert_eq!(script.take_ttls(), [4]);
    assert!(script.events.contains(&Event::Lost(number(2))));
}

/// A window update, data, a keepalive are no duplicate ACKs (RFC 5681 §2).
#[test]
fn other_segments_of_the_peer_are_no_replies() {
    let mut script = no_sack(4);
    script.routers_answer(1..=3);
    script.wait(ms(5));
    // What the window was is not comparable with the SYN-ACK's; this one is.
    let first = Segment {
        sequence: PEER_ISN,
        ..script.ack()
    };
    let keepalive = first.clone();
    script.segment(first);
    let update = Segment {
        window: 511,
        ..script.ack()
    };
    script.segment(update);
    script.take();
    script.segment(Segment {
        window: 511,
        ..keepalive
    });
    // RFC 9293 §3.10.7.4: a keepalive wants an ACK.
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    let data = Segment {
        payload_len: 8,
        window: 511,
        ..script.ack()
    };
    script.segment(data);
    let push = Segment {
        sequence: PEER_ISN + 9,
        payload_len: 8,
        flags: flags::ACK | flags::PSH,
        window: 511,
        ..script.ack()
    };
    script.segment(push);
    assert_eq!(script.answer(4), None);
    let ack = Segment {
        sequence: PEER_ISN + 17,
        window: 511,
        ..script.ack()
    };
    script.segment(ack);
    assert_eq!(script.kind(4), Some(ReplyKind::DupAck));
}

/// The window of the SYN-ACK is unscaled and need not be a multiple of the unit
/// of the others: Linux announces 65,160, then 510 << 7.
#[test]
fn the_first_window_after_the_handshake_is_no_update() {
    let mut script = no_sack(1);
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
}

/// Where it can be compared, it is.
#[test]
fn without_scaling_the_first_window_may_be_an_update() {
    let cases = [
        (65_160, Some(ReplyKind::DupAck)),
        // What arrives out of order takes room in some stacks.
        (65_000, Some(ReplyKind::DupAck)),
        (65_535, None),
    ];
    for (window, expected) in cases {
        let mut script = Script::open_with(options(), 1, |hello| {
            hello.options = Options::default();
            hello.ttl = 64;
        });
        let ack = Segment {
            window,
            ..script.ack()
        };
        script.segment(ack);
        assert_eq!(script.kind(1), expected);
    }
}

/// The answer can be meant for any of several: quiet, then again from the
/// smallest TTL of them, one at a time.
#[test]
fn an_ambiguous_answer_leads_back_and_one_at_a_time() {
    let mut script = no_sack(20);
    script.routers_answer(1..=3);
    script.take();
    // The peer is at 5, and 4 is silent.
    script.dup_ack();
    script.dup_ack();
    script.wait(ms(1000));
    assert_eq!(script.take_ttls(), [0u8; 0], "it is quiet");
    script.wait(ms(1000));
    assert_eq!(script.take_ttls(), [4]);
    script.wait(ms(1999));
    assert_eq!(script.take_ttls(), [0u8; 0], "one at a time");
    script.wait(ms(1));
    assert_eq!(script.take_ttls(), [5]);
    script.wait(ms(20));
    script.dup_ack();
    let report = script.report();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Complete, Some(5))
    );
    // Every probe stands in the record, those of the first round as well.
    let fifth = &report.hops[4];
    assert_eq!(fifth.probes.len(), 2);
    assert_eq!(fifth.probes[0].reply, None);
    assert_eq!(fifth.probes[1].reply.as_ref().unwrap().rtt, ms(20));
}

/// No peer can keep us probing.
#[test]
fn it_goes_back_twice_at_most() {
    let mut script = Script::open_with(
        SessionOptions {
            max_ttl: 5,
            ..Default::default()
        },
        20,
        Script::no_sack,
    );
    script.now = script.now + ms(1);
    for _ in 0..10_000 {
        if script.verdict().is_some() {
            break;
        }
        // Two at a time, wherever two are in flight.
        if script.session.probes.flying().count() != 1 {
            script.dup_ack();
        }
        script.wait(ms(100));
    }
    assert!(script.verdict().is_some());
    assert!(script.probes_sent() <= 45);
}

#[test]
fn a_copy_of_a_duplicate_ack_is_no_other_probe_s() {
    let mut script = Script::open_with(
        SessionOptions {
            probes: 3,
            ..options()
        },
        1,
        |hello| {
            Script::no_sack(hello);
            hello.ttl = 64;
        },
    );
    script.wait(ms(10));
    script.dup_ack();
    script.wait(ms(1));
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
    assert_eq!(script.answer(2), None);
    script.wait(ms(9));
    script.dup_ack();
    assert_eq!(script.answer(2).unwrap().rtt, ms(10));
}

/// The router names its probe, a duplicate ACK names none.
#[test]
fn a_router_that_names_the_probe_is_right() {
    let mut script = no_sack(1);
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
    let mut script = Script::open_with(
        SessionOptions {
            probes: 2,
            ..options()
        },
        1,
        |hello| {
            Script::no_sack(hello);
            hello.ttl = 64;
        },
    );
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
    script.wait(ms(1));
    script.routers_answer([1]);
    assert_eq!(script.kind(1), Some(ReplyKind::TimeExceeded));
    // A router that discards at this TTL: no probe of it reaches the peer.
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.answer(2), None);
    assert_eq!(script.session.schedule.destination(), None);
}

/// One alone may have come at a silent hop; the next router takes it back.
#[test]
fn one_duplicate_ack_makes_no_destination() {
    let options = SessionOptions {
        probes: 2,
        ..options()
    };
    let mut script = Script::open_with(options, 1, Script::no_sack);
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
    assert_eq!(script.session.schedule.destination(), None);
    script.take();
    script.wait(ms(2000));
    // Behind the hint the probes of a hop go out together.
    assert_eq!(script.take_ttls(), [2, 2]);
    script.wait(ms(10));
    script.routers_answer([3, 4]);
    assert_eq!(script.answer(1), None);
    script.wait(ms(10));
    // Both of the third hop are in flight: asked for again, one at a time.
    script.dup_ack();
    script.wait(ms(2000));
    for _ in 0..2 {
        script.wait(ms(10));
        script.dup_ack();
    }
    assert_eq!(script.report().destination_ttl, Some(3));
}

/// A box strips the blocks from a peer that permitted SACK: one bare duplicate
/// ACK may be a challenge ACK (RFC 5961), two that can be meant for one probe
/// each are answers.
#[test]
fn bare_duplicate_acks_of_a_sack_peer_count_from_the_second_on() {
    let options = SessionOptions {
        probes: 3,
        ..options()
    };
    let mut script = Script::open(options, 1);
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.answer(1), None);
    script.wait(ms(50));
    assert_eq!(script.session.probes.flying().count(), 2);
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.kind(1), Some(ReplyKind::DupAck));
    assert_eq!(script.kind(2), Some(ReplyKind::DupAck));
}

/// Copies of the SYN draw challenge ACKs: two at once, or two for one probe, may
/// be for nothing at all. It is asked again, one probe at a time.
#[test]
fn bare_duplicate_acks_that_may_be_for_nothing_are_asked_for_again() {
    for hint in [1, 20] {
        let mut script = Script::open(options(), hint);
        script.take();
        for _ in 0..2 {
            script.wait(ms(10));
            script.dup_ack();
        }
        assert_eq!(script.answer(1), None);
        script.wait(ms(2000));
        assert_eq!(script.take_ttls(), [1]);
        script.wait(ms(10));
        let latest = script.session.probes.len() as u16;
        script.routers_answer([latest]);
        assert_eq!(script.take_ttls(), [2]);
        script.wait(ms(10));
        script.dup_ack();
        assert_eq!(script.report().destination_ttl, Some(2));
    }
}

/// All that the gap limit lets out was sent when the first one came.
#[test]
fn one_bare_duplicate_ack_is_asked_for_again_at_the_end() {
    let mut script = Script::open(options(), 20);
    assert_eq!(script.take_ttls().len(), 8);
    script.wait(ms(10));
    script.routers_answer(1..=2);
    script.take();
    script.dup_ack();
    script.wait(ms(2000));
    assert_eq!(script.take_ttls(), [3]);
    script.wait(ms(10));
    script.dup_ack();
    assert_eq!(script.report().destination_ttl, Some(3));
}

/// A peer that has named a probe names every one: its bare ACKs are challenge
/// ACKs, or of something else.
#[test]
fn bare_acks_of_a_peer_that_names_probes_are_no_replies() {
    let mut script = Script::open(
        SessionOptions {
            probes: 3,
            ..options()
        },
        1,
    );
    script.wait(ms(10));
    script.sacked(&[1]);
    for _ in 0..5 {
        script.wait(ms(10));
        script.dup_ack();
    }
    assert_eq!(script.answer(2), None);
    script.sacked(&[2, 1]);
    assert_eq!(script.kind(2), Some(ReplyKind::Sack));
}

#[test]
fn an_ack_with_nothing_in_flight_answers_nothing() {
    let mut script = Script::open_with(options(), 20, |hello| {
        Script::no_sack(hello);
        hello.window = 0;
    });
    script.dup_ack();
    assert!((1..=8).all(|nth| script.answer(nth).is_none()));
}

/// On a LAN the first round trip, through cold caches, can be many times as long
/// as the next: what comes soon after is no copy there.
#[test]
fn quick_duplicate_acks_on_a_lan_are_answers() {
    let options = SessionOptions {
        probes: 3,
        ..options()
    };
    let mut script = Script::new(options);
    script.take();
    script.wait(Duration::from_micros(100));
    let mut hello = script.syn_ack();
    hello.ttl = 64;
    Script::no_sack(&mut hello);
    script.segment(hello);
    script.wait(Duration::from_micros(80));
    script.dup_ack();
    for nth in 2..=3 {
        script.wait(Duration::from_micros(9));
        script.dup_ack();
        assert_eq!(script.kind(nth), Some(ReplyKind::DupAck));
    }
    assert_eq!(script.verdict(), Some(Verdict::Complete));
}

/// A stray at a silent hop and the answer two hops on are not one destination.
#[test]
fn duplicate_acks_of_distant_hops_do_not_confirm_each_other() {
    let options = SessionOptions {
        probes: 2,
        ..options()
    };
    let mut script = Script::open_with(options, 1, Script::no_sack);
    script.wait(ms(10));
    script.dup_ack();
    // TTL 1 again and TTL 2 are silent.
    script.wait(ms(2000));
    script.wait(ms(2000));
    assert_eq!(script.session.schedule.destination(), None);
    script.wait(ms(10));
    script.dup_ack();
    script.wait(ms(2000));
    for _ in 0..2 {
        script.wait(ms(10));
        script.dup_ack();
    }
    assert_eq!(script.report().destination_ttl, Some(3));
}

/// A bare ACK that came while several were in flight may have been the first
/// answer: two good ones behind it do not settle where the destination is.
#[test]
fn an_ignored_bare_ack_is_asked_for_before_two_good_ones_count() {
    let mut script = Script::open(options(), 1);
    assert_eq!(script.take_ttls(), [1]);
    script.wait(ms(50));
    assert_eq!(script.take_ttls(), [2]);
    // For TTL 1 or 2.
    script.dup_ack();
    script.wait(ms(20));
    script.routers_answer([1]);
    // For TTL 2 alone, as far as can be seen.
    script.dup_ack();
    script.wait(ms(200));
    assert_eq!(script.take_ttls(), [3]);
    script.dup_ack();
    assert_eq!(script.answer(2), None);
    assert_eq!(script.session.schedule.destination(), None);
    script.take();
    script.wait(ms(2000));
    assert_eq!(script.take_ttls(), [1]);
}
