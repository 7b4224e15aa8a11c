//! The path MTU: which segments ask, and which answers are theirs. What is asked is
//! [`super::super::mtu`]'s search, which has tests of its own.

use super::*;
use crate::trace::{MtuLimit, MtuStep, PathMtu};

/// What a long probe's packet has before its data: IPv4, TCP, timestamps.
const HEADERS: u16 = 20 + 20 + 12;

/// A session that has found its destination at TTL 3, behind routers that answered, and
/// has sent its first long probe.
fn measuring() -> Script {
    measuring_with(options(), |_| {})
}

fn measuring_with(options: SessionOptions, edit: impl FnOnce(&mut Segment)) -> Script {
    let mut script = Script::new(options);
    script.session.measure_mtu(1500, 2034);
    script.take();
    script.wait(RTT);
    let mut hello = script.syn_ack();
    hello.ttl = 65 - 3;
    edit(&mut hello);
    let sack = hello.options.sack_permitted;
    script.segment(hello);
    script.wait(RTT);
    script.routers_answer([1, 2]);
    script.wait(RTT);
    match sack {
        true => script.sacked(&[3]),
        false => script.dup_ack(),
    }
    script
}

/// The long probe that was sent last; it is the only segment since the last call.
fn long(script: &mut Script) -> Varying {
    let sent = script.take();
    let long: Vec<_> = sent
        .iter()
        .filter(|sent| sent.kind == TransmitKind::Long)
        .map(|sent| sent.segment)
        .collect();
    assert_eq!(long.len(), 1, "{sent:?}");
    long[0]
}

fn size(probe: &Varying) -> u16 {
    HEADERS + probe.payload_len
}

fn too_big(script: &Script, probe: &Varying, from: IpAddr, mtu: u32) -> IcmpError {
    IcmpError {
        from,
        kind: IcmpKind::PacketTooBig { mtu },
        icmp_type: 3,
        icmp_code: 4,
        ttl: 60,
        quote: Quote {
            ttl: 2,
            ..script.quote(probe.sequence)
        },
        mpls: vec![],
    }
}

fn expired(script: &Script, probe: &Varying) -> IcmpError {
    IcmpError {
        kind: IcmpKind::TimeExceeded,
        icmp_type: 11,
        icmp_code: 0,
        ..too_big(script, probe, router(probe.ttl), 0)
    }
}

/// The peer has it.
fn arrived(script: &mut Script, probe: &Varying) {
    let ack = script.sack_blocks(&[block(probe)]);
    script.segment(ack);
}

fn block(probe: &Varying) -> (u32, u32) {
    let right = probe.sequence.wrapping_add(probe.payload_len.into());
    (probe.sequence, right)
}

fn measured(script: &mut Script) -> PathMtu {
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Complete);
    assert_eq!(report.destination_ttl, Some(3));
    report.mtu.expect("it was asked for")
}

fn whole(path: u16) -> PathMtu {
    PathMtu {
        link: 1500,
        largest: Some(1500),
        limit: None,
        to_ttl: Some(3),
        path: Some(path),
        steps: vec![],
        detail: None,
    }
}

#[test]
fn a_long_probe_is_as_long_as_the_link_takes_it_behind_an_octet_that_is_never_sent() {
    let mut script = measuring();
    assert_eq!(script.verdict(), None, "the verdict comes behind it");
    let probe = long(&mut script);
    assert_eq!((size(&probe), probe.ttl), (1500, 3));
    // Three probes before it, each with its gap, and its own gap.
    assert_eq!(probe.sequence, script.base() + 2 * 3 + 1);
    assert_eq!(probe.flags, flags::ACK | flags::PSH);
    script.wait(RTT);
    arrived(&mut script, &probe);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
    assert_eq!(script.kinds(), [TransmitKind::Rst]);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn nothing_is_measured_unless_it_is_asked_for() {
    let mut script = Script::open(options(), 1);
    script.sacked(&[1]);
    let report = script.finish();
    assert_eq!((report.verdict, report.mtu), (Verdict::Complete, None));
}

#[test]
fn a_router_tells_and_the_next_probe_is_as_long_as_it_said() {
    let mut script = measuring();
    let first = long(&mut script);
    script.icmp(too_big(&script, &first, router(2), 1400));
    let second = long(&mut script);
    assert_eq!(size(&second), 1400);
    // What vanished is not sent again; one octet lies between.
    let behind = first.sequence + u32::from(first.payload_len) + 1;
    assert_eq!(second.sequence, behind);
    arrived(&mut script, &second);
    let step = MtuStep {
        ttl: 2,
        from: Some(router(2)),
        mtu: 1400,
        told: true,
    };
    let expected = PathMtu {
        steps: vec![step],
        ..whole(1400)
    };
    assert_eq!(measured(&mut script), expected);
}

#[test]
fn an_error_that_quotes_no_long_probe_in_flight_says_nothing() {
    let mut script = measuring();
    let first = long(&mut script);
    for sequence in [
        first.sequence + 1,
        first.sequence - 1,
        script.sequence(2),
        script.base() - 1,
        first.sequence + 100_000,
    ] {
        let forged = Varying { sequence, ..first };
        script.icmp(too_big(&script, &forged, router(1), 576));
    }
    assert_eq!(script.take(), []);
    arrived(&mut script, &first);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn a_sack_block_of_another_length_is_no_answer() {
    let mut script = measuring();
    let probe = long(&mut script);
    let right = probe.sequence + u32::from(probe.payload_len);
    for block in [
        (probe.sequence, right - 1),
        (probe.sequence + 1, right),
        // That of a probe, again.
        (script.sequence(3), script.sequence(3) + 1),
    ] {
        let ack = script.sack_blocks(&[block]);
        script.segment(ack);
    }
    // Nor is a bare ACK, of a peer that names what it has.
    script.dup_ack();
    assert_eq!((script.take(), script.verdict()), (vec![], None));
    arrived(&mut script, &probe);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn what_is_asked_again_is_the_same_segment() {
    let mut script = measuring();
    let first = long(&mut script);
    script.wait(script.options.probe_timeout);
    let again = long(&mut script);
    assert_eq!((size(&again), again.ttl), (1500, 3));
    assert_eq!(first.sequence, again.sequence);
    // Whichever of both it is the answer to.
    arrived(&mut script, &first);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn a_late_answer_is_not_the_next_questions() {
    let mut script = measuring();
    let first = long(&mut script);
    script.wait(script.options.probe_timeout);
    assert_eq!(long(&mut script).ttl, 3);
    script.wait(script.options.probe_timeout);
    // Is anybody there?
    let short = long(&mut script);
    assert_eq!((size(&short), short.ttl), (68, 3));
    assert_ne!(first.sequence, short.sequence);
    arrived(&mut script, &first);
    script.icmp(too_big(&script, &first, router(1), 576));
    assert_eq!((script.take(), script.verdict()), (vec![], None));
    arrived(&mut script, &short);
    let other = long(&mut script);
    assert_eq!((size(&other), other.ttl), (68, 3));
    assert_ne!(other.sequence, short.sequence, "it was answered");
    arrived(&mut script, &other);
    let nearer = long(&mut script);
    assert_eq!((size(&nearer), nearer.ttl), (1500, 2));
    script.icmp(too_big(&script, &nearer, router(1), 1400));
    assert_eq!(size(&long(&mut script)), 1400);
}

#[test]
fn a_duplicate_that_names_itself_is_an_answer() {
    let mut script = measuring();
    let probe = long(&mut script);
    script.wait(script.options.probe_timeout);
    long(&mut script);
    // RFC 2883: the duplicate first, then the block that it lies in.
    let ack = script.sack_blocks(&[block(&probe), block(&probe)]);
    script.segment(ack);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn a_black_hole_is_searched_for_by_ttl_and_then_by_size() {
    let mut script = measuring();
    for _ in 0..200 {
        if script.verdict().is_some() {
            break;
        }
        let probe = long(&mut script);
        script.wait(ms(1));
        // Behind hop 1 vanishes what is longer than 1412 octets.
        match (probe.ttl, size(&probe)) {
            (1, _) => script.icmp(expired(&script, &probe)),
            (_, longer) if longer > 1412 => script.wait(script.options.probe_timeout),
            (2, _) => script.icmp(expired(&script, &probe)),
            _ => arrived(&mut script, &probe),
        }
    }
    let step = MtuStep {
        ttl: 1,
        from: Some(router(1)),
        mtu: 1412,
        told: false,
    };
    let expected = PathMtu {
        steps: vec![step],
        ..whole(1412)
    };
    assert_eq!(measured(&mut script), expected);
}

#[test]
fn a_peer_without_sack_answers_by_bare_acks() {
    let mut script = measuring_with(options(), Script::no_sack);
    let probe = long(&mut script);
    script.wait(RTT);
    script.dup_ack();
    assert_eq!(measured(&mut script), whole(1500));
    // But what expires on the way draws none: it answers something else.
    let mut script = measuring_with(options(), Script::no_sack);
    let first = long(&mut script);
    assert_eq!(first.sequence, probe.sequence);
    script.wait(script.options.probe_timeout);
    let again = long(&mut script);
    script.icmp(too_big(&script, &again, "10.9.9.9".parse().unwrap(), 1400));
    let nearer = long(&mut script);
    assert_eq!(nearer.ttl, 1);
    script.dup_ack();
    assert_eq!(script.take(), []);
}

#[test]
fn no_segment_is_longer_than_the_peer_takes() {
    let mut script = measuring_with(options(), |hello| hello.options.mss = Some(1412));
    let probe = long(&mut script);
    assert_eq!(size(&probe), 1452);
    arrived(&mut script, &probe);
    let expected = PathMtu {
        largest: Some(1452),
        limit: Some(MtuLimit::Mss),
        ..whole(1452)
    };
    assert!(expected.is_lower_bound());
    assert_eq!(measured(&mut script), expected);
}

#[test]
fn no_packet_is_longer_than_the_link_writes() {
    let mut script = Script::new(options());
    script.session.measure_mtu(9000, 2034);
    script.wait(RTT);
    let mut hello = script.syn_ack();
    (hello.ttl, hello.options.mss) = (64, Some(8960));
    script.segment(hello);
    script.sacked(&[1]);
    let probe = long(&mut script);
    assert_eq!(size(&probe), 2034);
    arrived(&mut script, &probe);
    let found = script.finish().mtu.unwrap();
    assert_eq!((found.link, found.limit), (9000, Some(MtuLimit::Frame)));
    assert!(found.is_lower_bound());
}

#[test]
fn the_peers_window_is_minded() {
    // It holds no packet of 1500 octets at once.
    let mut script = measuring_with(options(), |hello| {
        (hello.window, hello.options.window_scale) = (1000, None);
    });
    script.take();
    let report = script.finish();
    let found = report.mtu.unwrap();
    assert_eq!(found.limit, Some(MtuLimit::Window));
    // The ACK of the last probe said 510.
    assert_eq!(found.largest, Some(510 - 7 + HEADERS));

    // It holds two of them, and is asked by more.
    let mut script = measuring_with(options(), |_| {});
    let first = long(&mut script);
    let mut ack = script.ack();
    let window = (2 * 1500_u16).div_ceil(128);
    ack.window = window;
    script.segment(ack);
    let mut others = vec![];
    while script.verdict().is_none() {
        let sent = script.take();
        if sent.is_empty() {
            script.wait(script.options.probe_timeout);
        }
        for sent in sent {
            // Short ones are answered.
            match sent.kind {
                TransmitKind::Long if size(&sent.segment) < 1500 => {
                    let mut ack = script.sack_blocks(&[block(&sent.segment)]);
                    ack.window = window;
                    script.segment(ack);
                }
                TransmitKind::Long => others.push(sent.segment.sequence),
                _ => {}
            }
        }
    }
    others.retain(|sequence| *sequence != first.sequence);
    others.dedup();
    // It holds one more, and no third.
    assert_eq!(others.len(), 1);
    let found = measured(&mut script);
    assert_eq!((found.path, found.largest), (None, Some(1500)));
    let detail = found.detail.unwrap();
    assert!(
        detail.starts_with("the peer's receive window of"),
        "{detail}"
    );
}

#[test]
fn a_window_that_holds_nothing_long_is_said_to() {
    let mut script = Script::new(options());
    script.session.measure_mtu(1500, 2034);
    script.wait(RTT);
    let mut hello = script.syn_ack();
    (hello.ttl, hello.window, hello.options.window_scale) = (64, 20, None);
    script.segment(hello);
    let mut ack = script.sack(&[1]);
    ack.window = 18;
    script.segment(ack);
    let found = script.finish().mtu.unwrap();
    assert_eq!((found.path, found.largest), (None, None));
}

#[test]
fn a_peer_that_goes_ends_the_measurement_and_not_the_verdict() {
    let mut script = measuring();
    let probe = long(&mut script);
    script.icmp(too_big(&script, &probe, router(2), 1400));
    script.take();
    let reset = script.reset_segment();
    script.segment(reset);
    assert_eq!(script.kinds(), [], "what was reset is not closed");
    let found = measured(&mut script);
    assert_eq!((found.path, found.steps.len()), (None, 1));
    assert_eq!(
        found.detail.as_deref(),
        Some("the peer reset the session before")
    );
}

#[test]
fn an_interruption_keeps_what_was_found() {
    let mut script = measuring();
    let probe = long(&mut script);
    script.icmp(too_big(&script, &probe, router(2), 1400));
    let now = script.now;
    script.session.abort(now, Verdict::Interrupted, None);
    script.drain();
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Interrupted);
    let found = report.mtu.unwrap();
    assert_eq!((found.path, found.steps.len()), (None, 1));
    assert_eq!(found.detail.as_deref(), Some("the session ended before"));
}

#[test]
fn without_a_destination_it_is_measured_to_the_farthest_hop() {
    let options = SessionOptions {
        gap_limit: 2,
        ..options()
    };
    let mut script = Script::new(options);
    script.session.measure_mtu(1500, 2034);
    script.wait(RTT);
    let mut hello = script.syn_ack();
    hello.ttl = 55;
    script.segment(hello);
    script.routers_answer([1, 2]);
    script.wait(script.options.probe_timeout);
    let probe = long(&mut script);
    assert_eq!(probe.ttl, 2);
    script.icmp(expired(&script, &probe));
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::GapLimit);
    assert_eq!(
        report.mtu,
        Some(PathMtu {
            to_ttl: Some(2),
            ..whole(1500)
        })
    );
}

#[test]
fn where_no_session_was_opened_there_is_nothing_to_say() {
    let mut script = Script::new(options());
    script.session.measure_mtu(1500, 2034);
    assert_eq!(script.finish().mtu, None);
}

#[test]
fn the_servers_data_is_acknowledged_meanwhile() {
    let mut script = measuring();
    let probe = long(&mut script);
    let mut banner = script.ack();
    (banner.flags, banner.payload_len) = (flags::ACK | flags::PSH, 21);
    script.segment(banner);
    assert_eq!(script.kinds(), [TransmitKind::Ack]);
    arrived(&mut script, &probe);
    assert_eq!(measured(&mut script), whole(1500));
}

#[test]
fn its_sequence_number_is_the_sessions() {
    let mut script = measuring();
    let probe = long(&mut script);
    assert!(script.session.owns_sequence(probe.sequence));
    assert!(!script.session.owns_sequence(probe.sequence + 100_000));
}

#[test]
fn it_is_driven_as_others_are() {
    let mut script = Script::new(options());
    script.hurry();
    script.session.measure_mtu(1500, 2034);
    script.wait(RTT);
    let mut hello = script.syn_ack();
    hello.ttl = 62;
    script.segment(hello);
    script.wait(RTT);
    script.routers_answer([1, 2]);
    script.sacked(&[3]);
    let first = long(&mut script);
    script.wait(script.options.probe_timeout);
    let again = long(&mut script);
    assert_eq!(
        first,
        Varying {
            options: first.options,
            ..again
        }
    );
    arrived(&mut script, &again);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
}
