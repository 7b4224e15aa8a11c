//! Reading SACK blocks (RFC 2018, RFC 2883).

use super::*;
use crate::trace::RttBound;

fn bound(script: &Script, nth: u16) -> Option<RttBound> {
    let answer = script.answer(nth)?;
    assert_eq!((answer.kind, answer.from), (ReplyKind::Sack, TARGET));
    assert_eq!((answer.icmp, answer.quoted_ttl), (None, None));
    Some(answer.rtt_bound)
}

/// Eight probes to eight TTLs, all in flight.
fn in_flight() -> Script {
    let mut script = Script::open(options(), 20);
    assert_eq!(script.take_ttls(), [1, 2, 3, 4, 5, 6, 7, 8]);
    script.wait(ms(20));
    script
}

/// RFC 2018 §4: the first block is the one that triggered the ACK.
#[test]
fn the_first_block_is_exact_and_the_others_are_upper_bounds() {
    let mut script = in_flight();
    script.sacked(&[5, 4, 8]);
    assert_eq!(bound(&script, 5), Some(RttBound::Exact));
    assert_eq!(bound(&script, 4), Some(RttBound::Upper));
    assert_eq!(bound(&script, 8), Some(RttBound::Upper));
    for nth in [1, 2, 3, 6, 7] {
        assert_eq!(script.answer(nth), None);
    }
    assert_eq!(script.answer(5).unwrap().rtt, ms(20));
    assert_eq!(script.answer(5).unwrap().reply_ttl, Some(55));
}

/// Without timestamps there is room for four.
#[test]
fn four_blocks_are_read() {
    let mut script = in_flight();
    script.sacked(&[8, 7, 6, 5]);
    for nth in 5..=8 {
        assert!(bound(&script, nth).is_some());
    }
}

#[test]
fn what_is_credited_is_not_credited_again() {
    let mut script = in_flight();
    script.sacked(&[4]);
    let before = script.answer(4);
    let events = script.events.len();
    script.wait(ms(5));
    script.sacked(&[4]);
    script.sacked(&[5, 4]);
    assert_eq!(script.answer(4), before);
    let new = &script.events[events..];
    assert_eq!(new, [Event::Answered(number(5))]);
}

/// RFC 2883 §4: the first block tells of a duplicate, and the one behind it holds
/// it, or the cumulative ACK does.
#[test]
fn a_d_sack_is_not_news() {
    let mut script = in_flight();
    script.sacked(&[5]);
    let before = script.answer(5);
    script.wait(ms(1));
    script.sacked(&[5, 5]);
    assert_eq!(script.answer(5), before);
    // Its own ACK was lost: what the second block tells is an upper bound.
    script.sacked(&[6, 6, 5]);
    assert_eq!(bound(&script, 6), Some(RttBound::Upper));
    // A copy of our SYN.
    let syn = script.sack_blocks(&[(ISN, ISN + 1)]);
    script.segment(syn);
    assert!(
        !script.session.schedule.is_alone(),
        "it was taken for a rewritten edge"
    );
}

#[test]
fn a_block_that_comes_with_data_is_an_upper_bound() {
    let mut script = in_flight();
    let mut data = script.sack(&[5]);
    data.payload_len = 100;
    script.segment(data);
    assert_eq!(bound(&script, 5), Some(RttBound::Upper));
    // And the data is acknowledged.
    let sent = script.take();
    assert_eq!(sent[0].segment.acknowledgment, PEER_ISN + 101);
}

#[test]
fn a_block_of_a_foreign_acknowledgment_is_another_connection_s() {
    let mut script = in_flight();
    let mut other = script.sack(&[5]);
    other.acknowledgment = script.base() + 1;
    script.segment(other);
    assert_eq!(script.answer(5), None);
}

#[test]
fn blocks_of_probes_not_sent_yet_credit_nothing() {
    let mut script = in_flight();
    script.sacked(&[9]);
    script.sacked(&[500, 9]);
    let gap = script.sack_blocks(&[(ISN + 1, ISN + 2)]);
    script.segment(gap);
    assert!((1..=8).all(|nth| script.answer(nth).is_none()));
}

/// Linux sends one ACK for several arrivals (tcp_input.c).
#[test]
fn compressed_sacks_credit_all_that_is_new() {
    let mut script = in_flight();
    script.sacked(&[4]);
    script.wait(ms(1));
    script.sacked(&[8, 7, 6, 5]);
    for nth in 4..=8 {
        assert!(bound(&script, nth).is_some());
    }
    assert_eq!(bound(&script, 8), Some(RttBound::Exact));
    assert_eq!(bound(&script, 7), Some(RttBound::Upper));
}

#[test]
fn a_sack_after_the_probe_s_time_is_not_taken() {
    let mut script = in_flight();
    script.routers_answer(1..=7);
    script.wait(ms(2000));
    assert!(script.events.contains(&Event::Lost(number(8))));
    script.sacked(&[8]);
    assert_eq!(script.answer(8), None);
}

/// An upper bound says nothing about how long to wait.
#[test]
fn upper_bounds_do_not_lengthen_the_release() {
    let mut script = in_flight();
    script.wait(ms(500));
    script.sacked(&[8, 7]);
    assert_eq!(script.session.schedule.longest(), ms(520));
    let mut script = in_flight();
    script.sacked(&[8]);
    script.wait(ms(500));
    script.sacked(&[8, 7]);
    assert_eq!(script.session.schedule.longest(), ms(20));
}

#[test]
fn blocks_count_from_a_peer_that_did_not_permit_them() {
    let mut script = Script::open_with(options(), 20, Script::no_sack);
    script.sacked(&[3]);
    assert_eq!(script.kind(3), Some(ReplyKind::Sack));
}

mod edges_that_a_firewall_forgot {
    use super::*;

    /// What the firewall adds to our sequence numbers: SACK edges keep it.
    const OFFSET: u32 = 0x9234_5678;

    fn rewritten(script: &mut Script, probes: &[u16]) {
        let mut ack = script.ack();
        for nth in probes {
            let left = script.sequence(*nth).wrapping_add(OFFSET);
            assert!(ack.options.sack.push(SackBlock {
                left,
                right: left.wrapping_add(1)
            }));
        }
        script.segment(ack);
    }

    #[test]
    fn one_probe_in_flight_shows_the_offset() {
        let mut script = Script::open(three(), 1);
        script.wait(ms(7));
        rewritten(&mut script, &[1]);
        assert_eq!(bound(&script, 1), Some(RttBound::Exact));
        assert_eq!(script.answer(1).unwrap().rtt, ms(7));
        script.wait(ms(7));
        rewritten(&mut script, &[2, 1]);
        script.wait(ms(7));
        rewritten(&mut script, &[3, 2, 1]);
        let report = script.report();
        assert_eq!(
            (report.verdict, report.destination_ttl),
            (Verdict::Complete, Some(1))
        );
    }

    fn three() -> SessionOptions {
        SessionOptions {
            probes: 3,
            ..options()
        }
    }

    /// With several in flight it is not known which is meant: one is sent alone
    /// when all others are answered or lost, and what came before is read then.
    #[test]
    fn several_wait_for_one_alone() {
        let mut script = Script::open(three(), 20);
        script.take();
        script.wait(ms(10));
        // The peer is at hop 3 of the four in flight.
        script.routers_answer(1..=6);
        script.wait(ms(1));
        for nth in 7..=12 {
            let newest: Vec<u16> = (7..=nth).rev().take(3).collect();
            rewritten(&mut script, &newest);
        }
        assert!((7..=12).all(|nth| script.answer(nth).is_none()));
        script.take();
        script.wait(ms(1000));
        assert_eq!(script.take(), [], "they are still in flight");
        script.wait(ms(1100));
        assert_eq!(script.take_ttls().len(), 1);
        let alone = script.probes_sent() as u16;
        script.wait(ms(12));
        let blocks = [alone, 12, 11];
        rewritten(&mut script, &blocks);
        assert_eq!(bound(&script, alone), Some(RttBound::Exact));
        for nth in 7..=12 {
            assert_eq!(bound(&script, nth), Some(RttBound::Exact), "{nth}");
            assert_eq!(script.answer(nth).unwrap().rtt, ms(11));
        }
        let report = script.report();
        assert_eq!(
            (report.verdict, report.destination_ttl),
            (Verdict::Complete, Some(3))
        );
    }

    /// All that the gap limit lets out was in flight at once.
    #[test]
    fn where_nothing_is_left_to_be_sent_one_is_sent_again() {
        let mut script = Script::open(options(), 20);
        script.wait(ms(10));
        script.routers_answer(1..=3);
        for nth in 4..=11 {
            rewritten(&mut script, &[nth]);
        }
        assert_eq!(script.take_ttls().last(), Some(&11));
        script.wait(ms(2000));
        assert_eq!(script.take_ttls(), [4]);
        script.wait(ms(10));
        rewritten(&mut script, &[12, 11, 10, 9]);
        let report = script.report();
        assert_eq!(
            (report.verdict, report.destination_ttl),
            (Verdict::Complete, Some(4))
        );
        assert!(
            report.hops[3]
                .probes
                .iter()
                .all(|probe| probe.reply.is_some())
        );
    }

    /// The network's copy of an ACK seen before is not the alone probe's.
    #[test]
    fn a_copy_teaches_nothing() {
        let mut script = Script::open(options(), 20);
        script.wait(ms(10));
        script.routers_answer(1..=6);
        rewritten(&mut script, &[7]);
        rewritten(&mut script, &[8, 7]);
        script.take();
        script.wait(ms(2000));
        assert_eq!(script.take_ttls().len(), 1);
        let alone = script.probes_sent() as u16;
        rewritten(&mut script, &[8, 7]);
        rewritten(&mut script, &[7]);
        assert_eq!(script.answer(alone), None);
        rewritten(&mut script, &[alone, 8, 7]);
        assert!(script.answer(alone).is_some() && script.answer(7).is_some());
        assert_eq!(script.report().destination_ttl, Some(7));
    }

    #[test]
    fn without_a_moment_alone_the_verdict_says_so() {
        let mut script = Script::open(
            SessionOptions {
                max_ttl: 8,
                ..options()
            },
            20,
        );
        script.wait(ms(10));
        script.routers_answer(1..=5);
        rewritten(&mut script, &[6]);
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::SeqRewritten);
        assert_eq!(
            report.detail.as_deref(),
            Some(
                "SACK blocks hold sequence numbers that were never sent: a middlebox rewrites them"
            )
        );
        assert_eq!(report.destination_ttl, None);
        assert!(
            report.hops[..5]
                .iter()
                .all(|hop| hop.probes[0].reply.is_some())
        );
    }
}
