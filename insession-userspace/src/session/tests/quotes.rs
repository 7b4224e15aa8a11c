//! ICMP errors: what they tell of hops, and of what changed on the way.

use super::*;
use crate::trace::{MplsLabel, Rewrite, RttBound};

fn in_flight() -> Script {
    let mut script = Script::open(options(), 20);
    script.take();
    script.wait(ms(20));
    script
}

#[test]
fn a_quote_names_its_probe() {
    let mut script = in_flight();
    let mut error = script.exceeded(5);
    error.from = router(77);
    error.mpls = vec![MplsLabel {
        label: 24_001,
        tc: 0,
        bottom: true,
        ttl: 1,
    }];
    script.icmp(error.clone());
    let answer = script.answer(5).unwrap();
    assert_eq!(
        (answer.kind, answer.from),
        (ReplyKind::TimeExceeded, router(77))
    );
    assert_eq!((answer.rtt, answer.rtt_bound), (ms(20), RttBound::Exact));
    assert_eq!((answer.icmp, answer.reply_ttl), (Some((11, 0)), Some(250)));
    assert_eq!((answer.quoted_ttl, answer.mtu), (Some(1), None));
    assert_eq!((answer.mpls, answer.rewrites), (error.mpls, vec![]));
    assert!((1..=8).all(|nth| nth == 5 || script.answer(nth).is_none()));
}

#[test]
fn a_quote_again_is_not_taken() {
    let mut script = in_flight();
    script.routers_answer([5]);
    let before = script.answer(5);
    script.wait(ms(5));
    let mut copy = script.exceeded(5);
    copy.from = router(99);
    let events = script.events.len();
    script.icmp(copy);
    assert_eq!(script.answer(5), before);
    assert_eq!(script.events.len(), events);
}

#[test]
fn a_quote_after_the_probe_s_time_is_not_taken() {
    let mut script = in_flight();
    script.routers_answer(2..=8);
    script.wait(ms(1990));
    assert!(script.events.contains(&Event::Lost(number(1))));
    script.routers_answer([1]);
    assert_eq!(script.answer(1), None);
}

/// Two routers at one TTL are a finding, and shown.
#[test]
fn probes_of_one_ttl_may_be_answered_by_different_routers() {
    let mut script = Script::open(SessionOptions::default(), 20);
    for (nth, from) in [(1, 50), (2, 51), (3, 50)] {
        let mut error = script.exceeded(nth);
        error.from = router(from);
        script.icmp(error);
    }
    script.session.abort(script.now, Verdict::Interrupted, None);
    let hop = &script.report().hops[0];
    let from: Vec<_> = hop
        .probes
        .iter()
        .map(|probe| probe.reply.as_ref().unwrap().from)
        .collect();
    assert_eq!(from, [router(50), router(51), router(50)]);
}

/// Behind a DNAT, routers answer with the target's address.
#[test]
fn time_exceeded_from_the_target_s_address_is_not_the_destination() {
    let mut script = in_flight();
    let mut error = script.exceeded(5);
    error.from = TARGET;
    script.icmp(error);
    assert_eq!(script.kind(5), Some(ReplyKind::TimeExceeded));
    assert!(
        !script
            .events
            .iter()
            .any(|event| matches!(event, Event::Destination(_)))
    );
}

#[test]
fn unreachable_from_the_target_is_the_destination() {
    let mut script = in_flight();
    script.routers_answer(1..=4);
    script.icmp(script.unreachable(script.sequence(5), TARGET, 3));
    let report = script.report();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Complete, Some(5))
    );
    let answer = report.hops[4].probes[0].reply.as_ref().unwrap();
    assert_eq!(
        (answer.kind, answer.icmp),
        (ReplyKind::Unreachable, Some((3, 3)))
    );
}

/// A router declares the target unreachable: hops before it are finished, those
/// behind it are not asked any more, and what is under way is waited for.
#[test]
fn unreachable_from_a_router_ends_the_trace_at_its_hop() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    script.routers_answer([1, 2]);
    assert_eq!(script.take_ttls(), [5, 5]);
    script.icmp(script.unreachable(script.sequence(10), router(4), 1));
    script.icmp(script.unreachable(script.sequence(13), router(5), 0));
    assert_eq!(script.verdict(), None);
    script.routers_answer(3..=9);
    assert_eq!(script.take_ttls(), [0u8; 0]);
    let report = script.finish();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Unreachable, None)
    );
    assert_eq!(
        report.detail.as_deref(),
        Some("host unreachable (!H, code 1) from 10.0.0.4")
    );
    assert_eq!(report.hops.len(), 5);
    assert!(
        report.hops[..3]
            .iter()
            .flat_map(|hop| &hop.probes)
            .all(|probe| probe.reply.is_some())
    );
    assert_eq!(script.take().last().unwrap().kind, TransmitKind::Rst);
}

/// What a router says of one probe holds until another gets past it.
#[test]
fn an_unreachable_of_a_moment_ends_nothing() {
    for late in [false, true] {
        let mut script = Script::open(SessionOptions::default(), 20);
        script.wait(ms(10));
        script.take();
        let flap = script.unreachable(script.sequence(7), router(3), 1);
        if late {
            script.routers_answer([10]);
            script.icmp(flap);
        } else {
            script.icmp(flap);
            script.routers_answer([10]);
        }
        script.routers_answer((1..=12).filter(|nth| ![7, 10].contains(nth)));
        assert_eq!(script.take_ttls()[0], 5);
        assert_eq!(script.verdict(), None);
    }
}

/// RFC 792: who cannot be reached does not say so itself. Behind a destination
/// NAT routers answer with the target's address.
#[test]
fn an_unreachable_of_others_with_the_target_s_address_is_not_the_destination() {
    let target = flow().remote.ip();
    for (code, exceeded_before, expected) in
        [(1, false, None), (13, true, None), (13, false, Some(4))]
    {
        let mut script = in_flight();
        script.routers_answer(1..=2);
        let mut third = script.exceeded(3);
        if exceeded_before {
            third.from = target;
        }
        script.icmp(third);
        script.icmp(script.unreachable(script.sequence(4), target, code));
        let report = script.finish();
        assert_eq!(report.destination_ttl, expected, "code {code}");
        let verdict = match expected {
            Some(_) => Verdict::Complete,
            None => Verdict::Unreachable,
        };
        assert_eq!(report.verdict, verdict, "code {code}");
    }
}

#[test]
fn the_destination_s_answer_outweighs_a_router_s_unreachable() {
    for first in [true, false] {
        let mut script = in_flight();
        script.routers_answer(1..=3);
        if first {
            script.icmp(script.unreachable(script.sequence(4), router(4), 13));
            script.routers_answer(5..=6);
        }
        script.sacked(&[7]);
        if !first {
            script.icmp(script.unreachable(script.sequence(4), router(4), 13));
            script.routers_answer(5..=6);
        }
        let report = script.report();
        assert_eq!(report.verdict, Verdict::Complete);
        assert_eq!((report.destination_ttl, report.detail), (Some(7), None));
    }
}

#[test]
fn packet_too_big_is_an_answer_and_ends_nothing() {
    let mut script = in_flight();
    let mut error = script.exceeded(3);
    (error.icmp_type, error.icmp_code) = (3, 4);
    error.kind = IcmpKind::PacketTooBig { mtu: 1280 };
    error.quote.ttl = 17;
    script.icmp(error);
    let answer = script.answer(3).unwrap();
    assert_eq!(
        (answer.kind, answer.mtu),
        (ReplyKind::PacketTooBig, Some(1280))
    );
    assert_eq!((answer.icmp, answer.rewrites), (Some((3, 4)), vec![]));
    assert_eq!(script.verdict(), None);
    assert_eq!(script.session.schedule.unreachable(), None);
}

/// ICMPv6 has other numbers (RFC 4443).
#[test]
fn ipv6_types_are_named_as_on_the_wire() {
    let local: SocketAddr = "[2001:db8::1]:61000".parse().unwrap();
    let remote: SocketAddr = "[2001:db8:9::9]:443".parse().unwrap();
    let mut script = Script::new(options());
    script.session = Session::new(Flow { local, remote }, ISN, TS_OFFSET, 1440, script.now);
    script.drain();
    script.wait(RTT);
    let mut hello = script.syn_ack();
    hello.ttl = 45;
    script.segment(hello);
    let answers = [
        (IcmpKind::TimeExceeded, (3, 0)),
        (IcmpKind::PacketTooBig { mtu: 1280 }, (2, 0)),
        (IcmpKind::Unreachable, (1, 4)),
    ];
    for (nth, (kind, icmp)) in (1..).zip(answers) {
        let mut error = script.exceeded(nth);
        error.from = "2001:db8:1::1".parse().unwrap();
        (error.quote.source, error.quote.destination) = (local, remote);
        error.kind = kind;
        (error.icmp_type, error.icmp_code) = icmp;
        script.icmp(error);
        let answer = script.answer(nth).unwrap();
        assert_eq!((answer.icmp, answer.rewrites), (Some(icmp), vec![]));
    }
    let report = script.finish();
    assert_eq!(
        report.detail.as_deref(),
        Some("port unreachable (!p, code 4) from 2001:db8:1::1")
    );
}

#[test]
fn a_quote_of_a_segment_that_is_no_probe_is_nothing_odd() {
    let mut script = in_flight();
    let events = script.events.len();
    // The SYN's and the ACK's.
    for sequence in [ISN, ISN + 1] {
        script.icmp(script.unreachable(sequence, router(3), 1));
    }
    assert_eq!(script.events.len(), events);
    assert!(!script.session.schedule.is_alone());
    assert_eq!(script.session.schedule.unreachable(), None);
}

#[test]
fn what_a_quote_shows_changed_is_told() {
    type Edit = fn(&mut IcmpError);
    let cases: [(&[Rewrite], Edit); 12] = [
        (&[Rewrite::Source], |error| {
            error.quote.source.set_ip(router(8))
        }),
        (&[Rewrite::SourcePort], |error| {
            error.quote.source.set_port(1024)
        }),
        (&[Rewrite::Destination], |error| {
            error.quote.destination.set_ip(router(9))
        }),
        (&[Rewrite::DestinationPort], |error| {
            error.quote.destination.set_port(8443)
        }),
        (&[Rewrite::Dscp], |error| error.quote.traffic_class ^= 0x28),
        (&[Rewrite::Ecn], |error| error.quote.traffic_class |= 2),
        (&[Rewrite::Ttl], |error| error.quote.ttl = 2),
        (&[Rewrite::Checksum], |error| {
            error.quote.checksum_bad = Some(true)
        }),
        (&[], |error| error.quote.checksum_bad = Some(false)),
        // A router that decrements first.
        (&[], |error| error.quote.ttl = 0),
        // The NAT forgot the checksum: that shows in what it changed.
        (&[Rewrite::Source], |error| {
            error.quote.source.set_ip(router(8));
            error.quote.checksum_bad = Some(true);
        }),
        (
            &[
                Rewrite::Source,
                Rewrite::SourcePort,
                Rewrite::Dscp,
                Rewrite::Ttl,
            ],
            |error| {
                error.quote.source = "100.64.0.1:1024".parse().unwrap();
                error.quote.traffic_class ^= 4;
                error.quote.ttl = 9;
            },
        ),
    ];
    for (expected, edit) in cases {
        let mut script = Script::open(
            SessionOptions {
                dscp: 46,
                ..options()
            },
            20,
        );
        let mut error = script.exceeded(2);
        edit(&mut error);
        script.icmp(error);
        assert_eq!(script.answer(2).unwrap().rewrites, expected);
    }
}

#[test]
fn every_code_of_an_unreachable_has_words() {
    use super::super::icmp::unreachable;
    for from in [router(1), "2001:db8::1".parse().unwrap()] {
        let all: Vec<_> = (0..=255).map(|code| unreachable(code, from)).collect();
        assert!(
            all.iter()
                .all(|text| text.ends_with(&format!("from {from}")))
        );
        assert!(all.iter().all(|text| text.contains("(!")));
    }
    assert_eq!(
        unreachable(99, router(1)),
        "unreachable (!<99>, code 99) from 10.0.0.1"
    );
}
