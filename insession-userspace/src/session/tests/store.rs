//! The compact record says what a plain one would: whatever is pushed, sent,
//! answered, lost and taken back, and however large its numbers are.

use core::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::session::cells::Common;
use crate::session::probes::{Fate, Probes, TICK, id};
use crate::trace::{MplsLabel, Reply, Rewrite, RttBound};

/// An answer, with what it owns.
#[derive(Clone, Debug)]
struct Answer {
    kind: ReplyKind,
    bound: RttBound,
    from: IpAddr,
    code: u8,
    reply_ttl: u8,
    quoted_ttl: Option<u8>,
    mtu: Option<u32>,
    mpls: Vec<MplsLabel>,
    rewrites: u32,
    nat: Option<u16>,
}

/// What happens; times are advances of the clock, in ticks; probes are named
/// by a number that is taken modulo how many there are.
#[derive(Clone, Debug)]
enum Op {
    Push(u8, u64),
    Sent(usize, u64),
    Answer(usize, u64, Answer),
    Lose(usize),
    TakeBack(u8),
}

/// A probe, kept plainly.
struct Plain {
    ttl: u8,
    sent: u64,
    rtt: u64,
    lost: bool,
    answer: Option<Answer>,
}

/// Mostly what networks show, now and then more than a narrow field holds.
fn spans() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0u64..1_000_000,
        2 => (1u64 << 24) - 2..(1 << 24) + 2,
        1 => (1u64 << 32) - 2..(1 << 32) + 2,
        1 => 0u64..1 << 38,
    ]
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (0u32..6).prop_map(|low| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + low))),
        1 => any::<u32>().prop_map(|any| IpAddr::V4(Ipv4Addr::from(any))),
        1 => (0u128..3, any::<bool>()).prop_map(|(low, high)| {
            IpAddr::V6(Ipv6Addr::from(low + (u128::from(high) << 100)))
        }),
    ]
}

prop_compose! {
    fn labels()(label in 0u32..1 << 20, tc in 0u8..8, bottom: bool, ttl: u8) -> MplsLabel {
        MplsLabel { label, tc, bottom, ttl }
    }
}

prop_compose! {
    fn answers()(
        kind in prop::sample::select(vec![
            ReplyKind::TimeExceeded, ReplyKind::Unreachable, ReplyKind::PacketTooBig,
            ReplyKind::Sack, ReplyKind::DupAck, ReplyKind::Rst, ReplyKind::SynAck,
        ]),
        upper: bool,
        from in addresses(),
        (code, reply_ttl) in (0u8..3, 60u8..63),
        quoted_ttl in prop::option::of(0u8..3),
        mtu in prop::option::weighted(0.1, any::<u32>()),
        mpls in prop_oneof![
            4 => Just(vec![]),
            1 => prop::collection::vec(labels(), 0..6),
        ],
        rewrites in prop_oneof![3 => Just(0u32), 1 => 0u32..1 << 17],
        nat in prop::option::weighted(0.2, any::<u16>()),
    ) -> Answer {
        let bound = if upper { RttBound::Upper } else { RttBound::Exact };
        Answer { kind, bound, from, code, reply_ttl, quoted_ttl, mtu, mpls, rewrites, nat }
    }
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u8..40, spans()).prop_map(|(ttl, span)| Op::Push(ttl / 3 + 1, span)),
        2 => (any::<usize>(), spans()).prop_map(|(nth, span)| Op::Sent(nth, span)),
        6 => (any::<usize>(), spans(), answers())
            .prop_map(|(nth, span, answer)| Op::Answer(nth, span, answer)),
        1 => any::<usize>().prop_map(Op::Lose),
        1 => (1u8..15).prop_map(Op::TakeBack),
    ]
}

/// The reply that the contract wants of it.
fn reply(plain: &Plain) -> Option<Reply> {
    let answer = plain.answer.as_ref()?;
    let v4 = answer.from.is_ipv4();
    let icmp_type = match answer.kind {
        ReplyKind::TimeExceeded => Some(if v4 { 11 } else { 3 }),
        ReplyKind::Unreachable => Some(if v4 { 3 } else { 1 }),
        ReplyKind::PacketTooBig => Some(if v4 { 3 } else { 2 }),
        ReplyKind::EchoReply => Some(if v4 { 0 } else { 129 }),
        _ => None,
    };
    Some(Reply {
        kind: answer.kind,
        from: answer.from,
        name: None,
        owner: None,
        rtt: Duration::from_nanos(plain.rtt * TICK),
        rtt_bound: answer.bound,
        icmp: icmp_type.map(|number| (number, answer.code)),
        reply_ttl: Some(answer.reply_ttl),
        quoted_ttl: answer.quoted_ttl,
        mtu: answer.mtu,
        mpls: answer.mpls.clone(),
        rewrites: Rewrite::ALL
            .into_iter()
            .filter(|rewrite| answer.rewrites & 1 << *rewrite as u32 != 0)
            .collect(),
        nat: answer.nat,
    })
}

/// Does the same to both.
fn apply(op: Op, now: &mut u64, store: &mut Probes, plain: &mut Vec<Plain>) {
    // 40 bits of moments, 32 of round trips; both saturate.
    const LAST: u64 = (1 << 40) - 1;
    let narrow = |rtt: u64| rtt.min(u64::from(u32::MAX));
    let at = |now: u64| Instant::from_nanos(7_000 + now * TICK);
    let count = plain.len();
    match op {
        Op::Push(ttl, span) => {
            *now += span;
            store.push(ttl, at(*now));
            plain.push(Plain {
                ttl,
                sent: (*now).min(LAST),
                rtt: 0,
                lost: false,
                answer: None,
            });
        }
        _ if count == 0 => {}
        Op::Sent(nth, span) => {
            let (index, sent) = (nth % count, (*now + span).min(LAST));
            store.sent(id(index), at(*now + span));
            let probe = &mut plain[index];
            if probe.answer.is_some() {
                let arrived = probe.sent + probe.rtt;
                probe.rtt = narrow(arrived.saturating_sub(sent));
            }
            probe.sent = sent;
        }
        Op::Answer(nth, span, answer) => {
            *now += span;
            let index = nth % count;
            let rtt = store.answer(
                index,
                at(*now),
                &Common {
                    kind: answer.kind,
                    bound: answer.bound,
                    from: answer.from,
                    code: answer.code,
                    reply_ttl: answer.reply_ttl,
                    quoted_ttl: answer.quoted_ttl,
                    mtu: answer.mtu,
                    mpls: &answer.mpls,
                    rewrites: answer.rewrites,
                    nat: answer.nat,
                },
            );
            let probe = &mut plain[index];
            probe.rtt = narrow((*now).min(LAST).saturating_sub(probe.sent));
            assert_eq!(u64::from(rtt), probe.rtt);
            probe.lost = false;
            probe.answer = Some(answer);
        }
        Op::Lose(nth) => {
            store.lose(nth % count);
            plain[nth % count].lost = true;
            plain[nth % count].answer = None;
        }
        Op::TakeBack(ttl) => {
            let mut taken = vec![];
            for (index, probe) in plain.iter_mut().enumerate() {
                let kind = probe.answer.as_ref().map(|answer| answer.kind);
                if probe.ttl <= ttl && kind == Some(ReplyKind::DupAck) {
                    (probe.lost, probe.answer) = (true, None);
                    taken.push(index);
                }
            }
            assert_eq!(store.take_back(ReplyKind::DupAck, ttl), taken);
        }
    }
}

fn check(store: &Probes, plain: &[Plain]) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.len(), plain.len());
    for (index, probe) in plain.iter().enumerate() {
        let (ttl, recorded) = store.record(index).unwrap();
        prop_assert_eq!(ttl, probe.ttl);
        prop_assert_eq!(recorded.sent, Duration::from_nanos(probe.sent * TICK));
        prop_assert_eq!(recorded.reply, reply(probe), "probe {}", index);
        let fate = match &probe.answer {
            Some(answer) => Fate::Answered(answer.kind),
            None if probe.lost => Fate::Lost,
            None => Fate::Flying,
        };
        prop_assert_eq!(store.fate(store.slot(index).unwrap()), fate);
    }
    let flies = |probe: &&Plain| !probe.lost && probe.answer.is_none();
    prop_assert_eq!(store.in_flight(), plain.iter().filter(flies).count());
    prop_assert_eq!(store.flying().count(), store.in_flight());
    let oldest = plain
        .iter()
        .find(flies)
        .map(|probe| probe.sent * TICK + 7_000);
    prop_assert_eq!(store.oldest().map(Instant::as_nanos), oldest);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn cells_hold_what_a_plain_record_holds(
        ops in prop::collection::vec(ops(), 1..160),
        (hops, probes) in (0usize..20, 1usize..4),
    ) {
        let mut store = Probes::new(Instant::from_nanos(7_000));
        store.reserve(hops, probes);
        let (mut now, mut plain) = (0, vec![]);
        for (nth, op) in ops.into_iter().enumerate() {
            apply(op, &mut now, &mut store, &mut plain);
            if nth % 16 == 0 {
                check(&store, &plain)?;
            }
        }
        check(&store, &plain)?;
    }
}

/// More different answers than a probe's cell can point at.
#[test]
fn a_thousand_routers_of_two_versions_are_told_apart() {
    let mut store = Probes::new(Instant::ZERO);
    let from = |nth: u32| match nth % 2 {
        0 => IpAddr::V4(Ipv4Addr::from(nth)),
        _ => IpAddr::V6(Ipv6Addr::from(u128::from(nth) << 64)),
    };
    for nth in 0..1_000 {
        store.push(7, Instant::ZERO);
        let answer = Common {
            kind: ReplyKind::TimeExceeded,
            bound: RttBound::Exact,
            from: from(nth),
            code: 0,
            reply_ttl: 64,
            quoted_ttl: Some(1),
            mtu: None,
            mpls: &[],
            rewrites: 0,
            nat: None,
        };
        store.answer(
            nth as usize,
            Instant::from_nanos(u64::from(nth) * TICK),
            &answer,
        );
    }
    for nth in 0..1_000 {
        let (_, probe) = store.record(nth as usize).unwrap();
        let reply = probe.reply.unwrap();
        assert_eq!(reply.from, from(nth));
        assert_eq!(reply.rtt, Duration::from_nanos(u64::from(nth) * TICK));
    }
}

/// What events there is no room for wait elsewhere, in their order.
#[test]
fn events_keep_their_order_however_many_wait() {
    let mut session = Session::new(flow(), ISN, 0, 1460, Instant::ZERO);
    let number = |nth: u16| Event::Answered(number(nth));
    let (mut pushed, mut seen) = (0, 0);
    for round in [2, 7, 1, 3, 12, 4] {
        for _ in 0..round {
            pushed += 1;
            session.push(number(pushed));
        }
        // Not all of them are asked for at once.
        for _ in 0..round.min(5) {
            seen += 1;
            assert_eq!(session.poll_event(), Some(number(seen)));
        }
    }
    while seen < pushed {
        seen += 1;
        assert_eq!(session.poll_event(), Some(number(seen)));
    }
    assert_eq!(session.poll_event(), None);
}
