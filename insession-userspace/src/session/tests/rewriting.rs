//! Middleboxes that rewrite sequence numbers, as the quotes of ICMP errors show.

use super::*;
use crate::trace::Rewrite;

/// What the box adds.
const OFFSET: u32 = 0xABCD_0123;

fn rewritten(script: &mut Script, nth: u16) {
    let mut error = script.exceeded(nth);
    error.quote.sequence = error.quote.sequence.wrapping_add(OFFSET);
    script.icmp(error);
}

#[test]
fn one_probe_in_flight_shows_the_offset() {
    let mut script = Script::open(options(), 1);
    script.wait(ms(7));
    rewritten(&mut script, 1);
    let answer = script.answer(1).unwrap();
    assert_eq!((answer.from, answer.rtt), (router(1), ms(7)));
    assert_eq!(answer.rewrites, [Rewrite::Sequence]);
    // And from then on it is known.
    script.wait(ms(7));
    let later = script.probes_sent() as u16;
    rewritten(&mut script, later);
    assert_eq!(script.answer(later).unwrap().rewrites, [Rewrite::Sequence]);
    assert!(
        script
            .session
            .owns_sequence(script.sequence(2).wrapping_add(OFFSET))
    );
    assert!(script.session.owns_sequence(script.sequence(2)));
    assert!(script.session.owns_sequence(ISN));
    assert!(
        !script
            .session
            .owns_sequence(script.sequence(2).wrapping_sub(OFFSET))
    );
}

/// Errors that cannot be read are kept. When each probe in flight is accounted
/// for by one, the next goes out alone, and its answer explains the others.
#[test]
fn errors_are_kept_until_one_explains_them() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    for nth in 1..=12 {
        assert_eq!(script.take(), []);
        rewritten(&mut script, nth);
    }
    assert!((1..=12).all(|nth| script.answer(nth).is_none()));
    assert_eq!(script.take_ttls(), [5]);
    script.wait(ms(9));
    rewritten(&mut script, 13);
    for nth in 1..=13 {
        let (ttl, probe) = script.session.probe(number(nth)).unwrap();
        let answer = probe.reply.unwrap();
        assert_eq!(answer.from, router(ttl));
        // The time of arrival, not that of understanding.
        assert_eq!(answer.rtt, ms(if nth == 13 { 9 } else { 10 }));
    }
    assert_eq!(script.take_ttls().len(), 12, "the window is open again");
}

/// Routers before the box quote what we sent.
#[test]
fn routers_before_the_box_are_read_at_once() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    script.routers_answer(1..=6);
    assert_eq!(script.answer(1).unwrap().rewrites, []);
    let sent = script.probes_sent() as u16;
    for nth in 7..=sent {
        rewritten(&mut script, nth);
    }
    assert_eq!(script.take_ttls().len(), 7);
    rewritten(&mut script, sent + 1);
    for nth in 7..=sent + 1 {
        assert_eq!(script.answer(nth).unwrap().rewrites, [Rewrite::Sequence]);
    }
}

/// A silent hop's probe is accounted for by nothing: it must be lost first. Then
/// which of the others are is not known either, and nothing goes out until all
/// of them are.
#[test]
fn silent_hops_are_waited_for() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    for nth in 1..=9 {
        rewritten(&mut script, nth);
    }
    script.wait(ms(1989));
    assert_eq!(script.take(), []);
    script.wait(ms(1));
    assert_eq!(script.take_ttls(), [5]);
    // It is silent, too: the next waits for its loss.
    script.wait(ms(1999));
    assert_eq!(script.take(), []);
    script.wait(ms(1));
    assert_eq!(script.take_ttls(), [5]);
    rewritten(&mut script, 14);
    for nth in [1, 9, 14] {
        let (ttl, probe) = script.session.probe(number(nth)).unwrap();
        assert_eq!(probe.reply.unwrap().from, router(ttl));
    }
    assert!([10, 12, 13].iter().all(|nth| script.answer(*nth).is_none()));
}

#[test]
fn a_copy_accounts_for_nothing() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    for nth in 1..=11 {
        rewritten(&mut script, nth);
        rewritten(&mut script, nth);
    }
    assert_eq!(script.take(), []);
    rewritten(&mut script, 12);
    assert_eq!(script.take_ttls(), [5]);
    rewritten(&mut script, 3);
    assert_eq!(script.take(), []);
    rewritten(&mut script, 13);
    assert!((1..=13).all(|nth| script.kind(nth) == Some(ReplyKind::TimeExceeded)));
}

/// All that the gap limit lets out was in flight at once.
#[test]
fn where_nothing_is_left_to_be_sent_one_is_sent_again() {
    let mut script = Script::open(options(), 20);
    assert_eq!(script.take_ttls(), [1, 2, 3, 4, 5, 6, 7, 8]);
    script.wait(ms(10));
    for nth in 1..=8 {
        rewritten(&mut script, nth);
    }
    script.wait(ms(2000));
    assert_eq!(script.take_ttls(), [1]);
    rewritten(&mut script, 9);
    for nth in 1..=9 {
        let (ttl, probe) = script.session.probe(number(nth)).unwrap();
        assert_eq!(probe.reply.unwrap().from, router(ttl));
    }
}

#[test]
fn an_offset_that_does_not_explain_all_is_not_believed() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    script.take();
    for nth in 1..=12 {
        rewritten(&mut script, nth);
    }
    let mut odd = script.exceeded(13);
    odd.quote.sequence = 0x0666_0000;
    script.icmp(odd);
    assert!((1..=13).all(|nth| script.answer(nth).is_none()));
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::SeqRewritten);
    assert_eq!(
        report.detail.as_deref(),
        Some(
            "quoted segments hold sequence numbers that were never sent: a middlebox rewrites them"
        )
    );
}

/// The destination's SACKs are right all the same, and its routers are worth one
/// more probe.
#[test]
fn quotes_are_read_though_the_destination_is_found() {
    let mut script = Script::open(SessionOptions::default(), 20);
    script.wait(ms(10));
    for nth in 1..=9 {
        rewritten(&mut script, nth);
    }
    script.sacked(&[10]);
    script.sacked(&[11, 10]);
    script.sacked(&[12, 11, 10]);
    assert_eq!(script.verdict(), None);
    script.take();
    script.wait(ms(2000));
    assert_eq!(script.take_ttls(), [1]);
    rewritten(&mut script, 13);
    assert!((1..=13).all(|nth| script.answer(nth).is_some()));
    let report = script.finish();
    assert_eq!(
        (report.verdict, report.destination_ttl),
        (Verdict::Complete, Some(4))
    );
}

/// A reply that no segment of ours can have drawn, before any probe.
#[test]
fn before_the_first_probe_nothing_is_learnt() {
    let mut script = Script::new(options());
    script.icmp(script.unreachable(12_345, router(1), 1));
    assert!(!script.session.schedule.is_alone());
}
