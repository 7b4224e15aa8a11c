//! What goes on the wire: sequence numbers, windows, timestamps.

use super::*;
use crate::wire::template::SegmentOptions;

fn many() -> SessionOptions {
    SessionOptions::default()
}

#[test]
fn every_probe_has_its_own_byte_and_one_of_gap_before_it() {
    let mut script = Script::open(many(), 20);
    let sent: Vec<_> = script.take().split_off(1);
    assert_eq!(sent.len(), 12);
    for (nth, sent) in (1..).zip(&sent) {
        let segment = sent.segment;
        assert_eq!(sent.kind, TransmitKind::Probe(number(nth)));
        assert_eq!(segment.sequence, script.base() + 2 * u32::from(nth) - 1);
        assert_eq!(
            (segment.payload_len, segment.flags),
            (1, flags::PSH | flags::ACK)
        );
        assert_eq!(segment.acknowledgment, PEER_ISN + 1);
        assert_eq!(segment.window, 64_240 >> 7);
    }
}

#[test]
fn sequence_numbers_wrap_around() {
    for isn in [
        u32::MAX,
        u32::MAX - 1,
        u32::MAX - 2,
        u32::MAX - 5,
        u32::MAX - 12,
    ] {
        let mut script = Script::with_isn(options(), isn);
        script.wait(RTT);
        let mut hello = script.syn_ack();
        hello.ttl = 45;
        script.segment(hello);
        assert_eq!(script.events, [Event::Established]);
        script.wait(RTT);
        script.routers_answer(1..=6);
        script.sacked(&[8]);
        script.sacked(&[7, 8]);
        for nth in 1..=6 {
            assert_eq!(script.answer(nth).unwrap().from, router(nth as u8));
        }
        assert_eq!(script.kind(7), Some(ReplyKind::Sack));
        let report = script.finish();
        assert_eq!(
            (report.verdict, report.destination_ttl),
            (Verdict::Complete, Some(7))
        );
        let rst = script.take().last().unwrap().segment;
        assert_eq!(rst.sequence, isn.wrapping_add(1));
    }
}

#[test]
fn timestamps_rise_with_the_clock_on_every_segment_but_a_rst() {
    let mut script = Script::open(options(), 20);
    script.wait(ms(321));
    script.routers_answer(1..=4);
    script.finish();
    let mut latest = 0;
    let mut stamped = 0;
    for (at, sent) in &script.sent[1..] {
        let clock = (at.as_nanos() / 1_000_000) as u32;
        match sent.segment.options {
            SegmentOptions::Timestamps { tsval, .. } => {
                assert_eq!(tsval, TS_OFFSET.wrapping_add(clock));
                assert!(tsval >= latest);
                latest = tsval;
                stamped += 1;
            }
            other => assert_eq!(
                (other, sent.kind),
                (SegmentOptions::None, TransmitKind::Rst)
            ),
        }
    }
    assert!(stamped > 10);
}

fn tsecr(script: &mut Script) -> u32 {
    match script.take().last().unwrap().segment.options {
        SegmentOptions::Timestamps { tsecr, .. } => tsecr,
        other => panic!("{other:?}"),
    }
}

/// RFC 7323 §4.3.
#[test]
fn the_echo_is_the_latest_timestamp_of_a_segment_in_order() {
    let mut script = Script::open(options(), 20);
    assert_eq!(tsecr(&mut script), 500);
    // Each of these is answered at once, by an ACK.
    let mut data = script.ack();
    data.payload_len = 10;
    for (sequence, tsval, expected) in [
        (PEER_ISN + 1, 620, 620),
        // A keepalive.
        (PEER_ISN + 10, 640, 640),
        // A copy of what came before.
        (PEER_ISN + 1, 620, 640),
        // Ahead of what is missing.
        (PEER_ISN + 30, 700, 640),
        (PEER_ISN + 11, 650, 650),
    ] {
        data.sequence = sequence;
        data.options.timestamps = Some((tsval, 0));
        script.segment(data.clone());
        assert_eq!(tsecr(&mut script), expected, "{tsval}");
    }
}

#[test]
fn the_echo_goes_on_where_the_peer_s_clock_wraps() {
    let mut script = Script::open_with(options(), 20, |hello| {
        hello.options.timestamps = Some((u32::MAX - 1, 0));
    });
    let mut data = script.ack();
    data.payload_len = 10;
    data.options.timestamps = Some((3, 0));
    script.segment(data);
    assert_eq!(tsecr(&mut script), 3);
}

#[test]
fn the_last_probe_lies_inside_the_peer_s_window() {
    for window in 2..200 {
        let mut script = Script::open_with(many(), 30, |hello| hello.window = window);
        let mut answered = 0;
        while script.verdict().is_none() && answered < 500 {
            script.wait(RTT);
            let sent = script.probes_sent() as u16;
            assert!(sent > answered, "{window}: nothing goes out");
            script.routers_answer(answered + 1..=sent);
            answered = sent;
        }
        let end = script.base() + u32::from(window);
        let probes = script
            .sent
            .iter()
            .filter(|(_, sent)| sent.segment.payload_len == 1);
        assert!(probes.clone().count() > 0);
        assert!(probes.clone().all(|(_, sent)| sent.segment.sequence < end));
        let highest = probes.map(|(_, sent)| sent.segment.ttl).max().unwrap();
        // 30 hops of three need 180 bytes, 30 of one 60.
        let expected = (window / 2).min(30) as u8;
        assert_eq!(highest, expected, "{window}");
        let report = script.report();
        assert_eq!(report.verdict, Verdict::MaxTtl);
        let curbed = format!("the peer's receive window of {window} bytes holds no more probes");
        let detail = (window < 180).then_some(curbed);
        assert_eq!(report.detail, detail, "{window}");
    }
}

/// RFC 7323 §2.2: the window of a SYN is not scaled, that of others is.
#[test]
fn later_windows_are_scaled() {
    // Three probes' worth each.
    for (scale, field) in [(Some(1), 3), (Some(0), 6), (None, 6)] {
        let mut script = Script::open_with(options(), 30, |hello| {
            hello.window = 0;
            hello.options.window_scale = scale;
        });
        let mut update = script.ack();
        update.window = field;
        script.segment(update);
        assert_eq!(script.take_ttls(), [1, 2, 3], "{scale:?}");
    }
}

#[test]
fn round_trips_count_from_the_moment_of_transmission() {
    let mut script = Script::open(options(), 20);
    let left = script.now + ms(2);
    script
        .session
        .handle_transmitted(TransmitKind::Probe(number(1)), left);
    script.wait(ms(30));
    script.routers_answer([1]);
    assert_eq!(script.answer(1).unwrap().rtt, ms(28));
}

/// Frames are handed over in batches; a reply may be read before the moment of
/// its probe is.
#[test]
fn a_reply_read_before_its_probe_s_moment_gets_the_same_round_trip() {
    for (early, late) in [(0, 2), (2, 0)] {
        let mut script = Script::open(options(), 20);
        let left = script.now;
        script
            .session
            .handle_transmitted(TransmitKind::Probe(number(1)), left + ms(early));
        script.wait(ms(30));
        script.routers_answer([1]);
        script
            .session
            .handle_transmitted(TransmitKind::Probe(number(1)), left + ms(late));
        assert_eq!(script.answer(1).unwrap().rtt, ms(30 - late));
        let (_, probe) = script.session.probe(number(1)).unwrap();
        assert_eq!(probe.sent, RTT + ms(late));
    }
}

#[test]
fn a_stamp_older_than_the_transmission_is_no_time_at_all() {
    let mut script = Script::open(options(), 20);
    let error = script.exceeded(1);
    let before = Instant::from_nanos(script.now.as_nanos() - 1_000_000);
    script
        .session
        .handle_reply(&script.options, before, &Reply::Icmp(error));
    assert_eq!(script.answer(1).unwrap().rtt, Duration::ZERO);
}

/// A session of many silent hops lasts; its later times are as good as its first.
#[test]
fn times_do_not_saturate_in_a_long_session() {
    let mut script = Script::open(
        SessionOptions {
            probes: 200,
            probe_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            gap_limit: 255,
            max_ttl: 80,
            ..options()
        },
        1,
    );
    let start = script.now;
    for _ in 0..10 {
        script.wait(Duration::from_secs(60));
    }
    let sent = script.probes_sent();
    script.wait(ms(1001));
    assert!(script.probes_sent() > sent);
    assert!(script.probes_sent() < sent + 30, "it no longer paces");
    let latest = script.probes_sent() as u16;
    let (at, _) = *script.sent.last().unwrap();
    script.routers_answer([latest]);
    let (_, probe) = script.session.probe(number(latest)).unwrap();
    assert_eq!(probe.sent, RTT + at.since(start));
    assert_eq!(probe.reply.unwrap().rtt, script.now.since(at));
}
