//! Which probe goes out when, and where it ends.

use super::*;

fn three() -> SessionOptions {
    SessionOptions::default()
}

/// Everything in flight is answered after one round trip, in order, by routers
/// below `hops` and by the peer from there on.
fn answer_flying(script: &mut Script, hops: u8) {
    let sent = script.probes_sent() as u16;
    for nth in 1..=sent {
        let (ttl, probe) = script.session.probe(number(nth)).unwrap();
        if script.verdict().is_some() || probe.reply.is_some() {
            continue;
        }
        if ttl < hops {
            script.routers_answer([nth]);
        } else {
            script.sacked(&[nth]);
        }
    }
}

#[test]
fn ttls_rise_and_each_gets_its_probes() {
    let mut script = Script::open(three(), 20);
    assert_eq!(script.take_ttls(), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn twelve_are_in_flight_on_the_way() {
    let mut script = Script::open(three(), 30);
    for answered in 0..30 {
        let sent = script.probes_sent();
        assert_eq!(sent - answered, 12);
        script.wait(ms(1));
        script.routers_answer([answered as u16 + 1]);
    }
}

/// Linux holds SACKs back from the fourth duplicate ACK on: near the destination
/// one goes out at a time.
#[test]
fn from_the_hint_on_one_is_in_flight() {
    let mut script = Script::open(three(), 3);
    assert_eq!(script.take_ttls(), [1, 1, 1, 2, 2, 2]);
    script.wait(ms(3));
    script.routers_answer(1..=5);
    assert_eq!(script.take_ttls(), [0u8; 0]);
    script.routers_answer([6]);
    assert_eq!(script.take_ttls(), [3]);
    script.wait(ms(3));
    script.sacked(&[7]);
    assert_eq!(script.take_ttls(), [3]);
    script.wait(ms(3));
    script.sacked(&[8, 7]);
    assert_eq!(script.take_ttls(), [3]);
    script.wait(ms(3));
    script.sacked(&[9, 8, 7]);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
}

#[test]
fn the_hint_is_what_is_missing_of_64_128_or_255() {
    for (arrived, hint) in [(64, 1), (60, 5), (128, 1), (120, 9), (255, 1), (250, 6)] {
        let mut script = Script::open_with(options(), 1, |hello| hello.ttl = arrived);
        // All up to the hint, whose own goes out alone.
        let expected: Vec<u8> = match hint {
            1 => vec![1],
            _ => (1..hint.min(9)).collect(),
        };
        assert_eq!(script.take_ttls(), expected, "{arrived}");
    }
}

/// The way back may be shorter than the way there, or a proxy have answered.
#[test]
fn a_wrong_hint_costs_pace_and_nothing_else() {
    for hint in 1..=12 {
        let mut script = Script::open(three(), hint);
        for _ in 0..100 {
            if script.verdict().is_some() {
                break;
            }
            script.wait(ms(10));
            answer_flying(&mut script, 6);
        }
        let report = script.report();
        assert_eq!(report.verdict, Verdict::Complete, "{hint}");
        assert_eq!(report.destination_ttl, Some(6), "{hint}");
        for hop in &report.hops[..6] {
            assert_eq!(hop.probes.len(), 3, "{hint} {}", hop.ttl);
            assert!(hop.probes.iter().all(|probe| probe.reply.is_some()));
        }
    }
}

#[test]
fn a_disproved_hint_lets_out_one_hop_at_a_time() {
    let mut script = Script::open(three(), 2);
    assert_eq!(script.take_ttls(), [1, 1, 1]);
    script.routers_answer(1..=3);
    assert_eq!(script.take_ttls(), [2]);
    script.routers_answer([4]);
    assert_eq!(script.take_ttls(), [2, 2, 3]);
}

/// A silent router does not stop the others: after twice the round trip (at
/// least 50 ms, at most 1 s) its probes no longer count.
#[test]
fn unanswered_probes_are_released() {
    for (rtt, release) in [(10, 50), (100, 200), (400, 800), (900, 1000)] {
        let mut script = Script::new(three());
        script.wait(ms(rtt));
        let mut hello = script.syn_ack();
        hello.ttl = 35;
        script.segment(hello);
        script.take();
        let (at, timer) = script
            .session
            .poll_timeout(&script.options, script.now)
            .unwrap();
        assert_eq!((at.since(script.now), timer), (ms(release), Timer::Release));
        script.wait(ms(release - 1));
        assert_eq!(script.take_ttls(), [0u8; 0]);
        script.wait(ms(1));
        assert_eq!(script.take_ttls(), [5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8]);
        // They are not lost, and can still be answered.
        script.routers_answer([1]);
        assert_eq!(script.kind(1), Some(ReplyKind::TimeExceeded));
    }
}

#[test]
fn a_release_is_never_later_than_the_probe_timeout() {
    let mut script = Script::open(
        SessionOptions {
            probe_timeout: ms(20),
            ..three()
        },
        30,
    );
    script.take();
    script.wait(ms(20));
    assert_eq!(script.take_ttls().len(), 12);
    let lost: Vec<_> = (1..=12).map(|nth| Event::Lost(number(nth))).collect();
    assert_eq!(script.events[1..], lost);
}

#[test]
fn a_run_of_silent_hops_ends_the_trace() {
    let mut script = Script::open(three(), 30);
    script.wait(ms(5));
    script.routers_answer(1..=6);
    let report = script.finish();
    assert_eq!(
        (report.verdict, report.detail.as_deref()),
        (Verdict::GapLimit, None)
    );
    assert_eq!(report.destination_ttl, None);
    // Two answered, eight silent, nothing beyond.
    let last = report.hops.last().unwrap();
    assert_eq!((last.ttl, last.probes.len()), (10, 3));
    let lost = script
        .events
        .iter()
        .filter(|event| matches!(event, Event::Lost(_)));
    assert_eq!(lost.count(), 24);
    // The last probe has its whole time.
    let (sent, _) = script
        .sent
        .iter()
        .rev()
        .find(|(_, sent)| sent.segment.ttl == 10)
        .unwrap();
    assert_eq!(report.ended.since(*sent), ms(2000));
}

#[test]
fn an_answer_behind_silent_hops_goes_on() {
    let mut script = Script::open(options(), 30);
    assert_eq!(script.take_ttls(), [1, 2, 3, 4, 5, 6, 7, 8]);
    script.wait(ms(300));
    assert_eq!(script.take_ttls(), [0u8; 0]);
    script.routers_answer([7]);
    // Routers that take 300 ms are waited for longer: seven still count.
    assert_eq!(script.take_ttls(), [9, 10, 11, 12, 13]);
}

#[test]
fn the_last_ttl_ends_the_trace() {
    for max_ttl in [1, 2, 17, 30] {
        let mut script = Script::open(SessionOptions { max_ttl, ..three() }, 40);
        for _ in 0..40 {
            script.wait(ms(10));
            answer_flying(&mut script, 255);
        }
        let report = script.report();
        assert_eq!((report.verdict, report.detail), (Verdict::MaxTtl, None));
        assert_eq!(report.hops.len(), usize::from(max_ttl));
        assert!(report.hops.iter().all(|hop| hop.probes.len() == 3));
    }
}

#[test]
fn ttl_255_is_the_last_of_all() {
    for first_ttl in [255, 254, 200] {
        let mut script = Script::open(
            SessionOptions {
                first_ttl,
                max_ttl: 255,
                ..three()
            },
            1,
        );
        for _ in 0..400 {
            script.wait(ms(10));
            answer_flying(&mut script, 255);
        }
        let report = script.report();
        assert_eq!(report.verdict, Verdict::Complete);
        assert_eq!(report.destination_ttl, Some(255));
        assert_eq!(report.hops.len(), 256 - usize::from(first_ttl));
        assert!(report.hops.iter().all(|hop| hop.probes.len() == 3));
    }
    let mut script = Script::open(
        SessionOptions {
            first_ttl: 255,
            max_ttl: 255,
            ..three()
        },
        1,
    );
    let report = script.finish();
    assert_eq!(kinds(&report), [(255, vec![None; 3])]);
    assert_eq!(report.verdict, Verdict::MaxTtl);
}

#[test]
fn probing_begins_at_the_first_ttl() {
    let mut script = Script::open(
        SessionOptions {
            first_ttl: 5,
            ..options()
        },
        30,
    );
    // Silent hops are counted from there.
    assert_eq!(script.take_ttls(), [5, 6, 7, 8, 9, 10, 11, 12]);
}

/// TTLs beyond the destination reach it as well: the smallest is its own, and
/// what was sent stands in the record.
#[test]
fn the_destination_is_the_smallest_ttl_that_reached_it() {
    let mut script = Script::open(three(), 20);
    script.wait(ms(5));
    script.routers_answer(1..=6);
    script.sacked(&[10]);
    assert_eq!(script.events.last(), Some(&Event::Destination(4)));
    script.sacked(&[7, 10]);
    assert_eq!(script.events.last(), Some(&Event::Destination(3)));
    assert_eq!(script.verdict(), None);
    script.sacked(&[8, 7, 10]);
    script.sacked(&[9, 7, 10]);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
    let report = script.report();
    assert_eq!(report.destination_ttl, Some(3));
    let beyond: Vec<_> = report
        .hops
        .iter()
        .skip(3)
        .map(|hop| (hop.ttl, hop.probes.len()))
        .collect();
    assert_eq!(beyond, [(4, 3), (5, 3), (6, 3)]);
    assert!(report.hops[3].probes[0].reply.is_some());
    assert!(report.hops[3].probes[1].reply.is_none());
}

/// Linux may answer many arrivals by one SACK, which names but the latest four:
/// the hop before is asked again, one at a time, if nothing is known of it.
#[test]
fn a_silent_hop_before_a_destination_nearer_than_thought_is_asked_again() {
    for really in [2, 3, 4] {
        let mut script = Script::open(options(), 20);
        script.wait(ms(5));
        script.routers_answer([1]);
        script.sacked(&[7, 6, 5]);
        assert_eq!(script.events.last(), Some(&Event::Destination(5)));
        script.take();
        script.wait(ms(2000));
        for ttl in (really..=4).rev() {
            assert_eq!(script.take_ttls(), [ttl]);
            assert_eq!(script.verdict(), None);
            let latest = script.probes_sent() as u16;
            script.sacked(&[latest, 7, 6]);
        }
        script.wait(ms(2000));
        // Then there is a silent router in front of it, or an answer.
        let expected: &[u8] = if really > 2 { &[really - 1] } else { &[] };
        assert_eq!(script.take_ttls(), expected);
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::Complete);
        assert_eq!(report.destination_ttl, Some(really));
    }
    // Where the destination is where it was thought to be, it is not.
    let mut script = Script::open(options(), 5);
    script.wait(ms(5));
    script.routers_answer([1]);
    script.wait(ms(60));
    script.sacked(&[5]);
    let report = script.finish();
    assert_eq!(kinds(&report).len(), 5);
    assert_eq!(script.probes_sent(), 5);
}

#[test]
fn what_was_sent_beyond_the_destination_is_not_waited_for() {
    let mut script = Script::open(options(), 20);
    script.wait(ms(5));
    script.routers_answer([1]);
    script.sacked(&[2]);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
}

#[test]
fn a_lossless_path_of_ten_hops_takes_a_few_round_trips() {
    // Routers at equal distances; the answer of hop n takes n tenths of an RTT.
    let rtt = ms(100);
    let mut script = Script::new(three());
    script.wait(rtt);
    let mut hello = script.syn_ack();
    hello.ttl = 55;
    script.segment(hello);
    let mut answered = [false; 64];
    while script.verdict().is_none() {
        script.wait(ms(1));
        for nth in 1..=script.probes_sent() as u16 {
            let (ttl, probe) = script.session.probe(number(nth)).unwrap();
            let due =
                script.session.probes.start() + probe.sent + rtt * u32::from(ttl.min(10)) / 10;
            if answered[usize::from(nth)] || due > script.now {
                continue;
            }
            answered[usize::from(nth)] = true;
            match ttl {
                ..10 => script.routers_answer([nth]),
                _ => script.sacked(&[nth]),
            }
        }
    }
    let report = script.report();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Complete, Some(10))
    );
    assert_eq!(
        report
            .hops
            .iter()
            .map(|hop| hop.probes.len())
            .sum::<usize>(),
        30
    );
    let took = report.ended.since(report.started);
    assert!(took <= rtt * 8, "{took:?}");
}
