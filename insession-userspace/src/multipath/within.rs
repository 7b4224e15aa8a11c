//! Several responders at one TTL of one flow: packets that are balanced one by one, or
//! a route that changed meanwhile, told apart by the order in time.
//!
//! A changeover between two answers of a TTL that follow one another can be the work
//! of a change of the route at some moment between the sending of the two. The fewest
//! moments that account for all changeovers of the trace are found (intervals stabbed
//! by points), and compared with those that are needed when the answers of each TTL
//! are put into random order, as a balancer that takes packets one by one gives them:
//! a permutation test over all TTLs together, since three probes a TTL alone prove
//! nothing. Its `p` is how often random order is explained by as few moments.
//!
//! * `p` of at most [`LEVEL`], and few moments: the route changed at these;
//! * one moment would do, but random order could look so: undecided;
//! * else packets are balanced one by one.
//!
//! TTLs with one changeover are tried apart from those where a router comes back: a
//! route can change behind a balancer.

use std::net::IpAddr;

use crate::time::Duration;
use crate::trace::{Probe, ReplyKind, Trace};
use crate::wire::ip;

/// The level of the test.
pub const LEVEL: f64 = 0.05;
/// A route that is said to change more often within a trace is not one that changes.
const CHANGES: usize = 3;
/// Random orders that are tried at most.
const TRIALS: u32 = 999;
/// With so many as good as the one that was seen no more are tried (Besag and
/// Clifford, Sequential Monte Carlo p-values, 1991).
const HITS: u32 = 20;

/// What makes several responders of one TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BalancingKind {
    /// A router upstream takes packets of one flow to several next hops.
    PerPacket,
    /// The route changed while it was traced.
    RouteChange,
    /// Too few answers to tell.
    Undecided,
}

impl BalancingKind {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            BalancingKind::PerPacket => "per-packet",
            BalancingKind::RouteChange => "route-change",
            BalancingKind::Undecided => "undecided",
        }
    }
}

/// Several responders at one TTL of one flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Balancing {
    /// The TTL.
    pub ttl: u8,
    /// What makes them.
    pub kind: BalancingKind,
    /// Who answered, in the order of first appearance.
    pub routers: Vec<IpAddr>,
    /// When the route changed at this TTL, after [`Trace::started`]: half-way between
    /// the probes that show it. Empty where it did not.
    pub at: Vec<Duration>,
    /// The moments that account for all changeovers that were judged together.
    pub moments: usize,
    /// How often answers in random order are explained by as few.
    pub p: f64,
}

/// What one record shows; nothing where each TTL has one responder, or where each
/// probe is a flow of its own.
#[must_use]
pub fn within(trace: &Trace) -> Vec<Balancing> {
    if !trace.method.is_one_flow() {
        return Vec::new();
    }
    let varied = trace
        .hops
        .iter()
        .filter(|hop| {
            let probes = hop.probes.iter();
            let mut answers = probes.filter_map(|probe| answer(trace, probe));
            let first = answers.next().map(|it| it.from);
            !hop.shared && answers.any(|it| Some(it.from) != first)
        })
        .map(|hop| Sequence::new(trace, hop.ttl));
    let varied: Vec<Sequence> = varied.collect();
    if varied.is_empty() {
        return Vec::new();
    }
    let (once, again): (Vec<_>, Vec<_>) = varied.into_iter().partition(Sequence::is_one_changeover);
    let changed = test(&once);
    let is_change = !once.is_empty() && changed.moments.len() == 1 && changed.p <= LEVEL;
    let mut found = Vec::new();
    if is_change || again.is_empty() {
        found.extend(told(&once, &changed));
        if !again.is_empty() {
            found.extend(told(&again, &test(&again)));
        }
    } else {
        let all: Vec<Sequence> = once.into_iter().chain(again).collect();
        found.extend(told(&all, &test(&all)));
    }
    found.sort_by_key(|it| it.ttl);
    found
}

/// An answer that shows who is at a TTL.
pub(super) struct Answer {
    /// Who.
    pub from: IpAddr,
    /// It is the target.
    pub is_target: bool,
}

/// Port unreachable, ICMP (RFC 792) and ICMPv6 (RFC 4443 §3.1): what a datagram draws
/// from a target.
const PORT_UNREACHABLE: [(u8, u8); 2] = [(3, 3), (1, 4)];

/// Who is at a probe's TTL: other ICMP errors may come from somebody on the way to it.
pub(super) fn answer(trace: &Trace, probe: &Probe) -> Option<Answer> {
    let reply = probe.reply.as_ref()?;
    let is_refused = reply.kind == ReplyKind::Unreachable
        && reply
            .icmp
            .is_some_and(|icmp| PORT_UNREACHABLE.contains(&icmp))
        && trace.method.protocol(false) == ip::PROTOCOL_UDP
        && Some(reply.from) == trace.address;
    let is_target = reply.kind.is_of_target() || is_refused;
    let is_there = is_target || reply.kind == ReplyKind::TimeExceeded;
    is_there.then_some(Answer {
        from: reply.from,
        is_target,
    })
}

/// The answers of one TTL in the order of their probes.
struct Sequence {
    ttl: u8,
    sent: Vec<Duration>,
    /// Which of `routers` answered each.
    who: Vec<usize>,
    routers: Vec<IpAddr>,
}

impl Sequence {
    fn new(trace: &Trace, ttl: u8) -> Self {
        let hops = trace.hops.iter().filter(|hop| hop.ttl == ttl);
        let probes = hops.flat_map(|hop| &hop.probes);
        let mut answers: Vec<(Duration, IpAddr)> = probes
            .filter_map(|probe| Some((probe.sent, answer(trace, probe)?.from)))
            .collect();
        answers.sort_by_key(|(sent, _)| *sent);
        let mut sequence = Sequence {
            ttl,
            sent: answers.iter().map(|(sent, _)| *sent).collect(),
            who: Vec::with_capacity(answers.len()),
            routers: Vec::new(),
        };
        for (_, from) in answers {
            let known = sequence.routers.iter().position(|it| *it == from);
            sequence.who.push(known.unwrap_or(sequence.routers.len()));
            if known.is_none() {
                sequence.routers.push(from);
            }
        }
        sequence
    }

    /// The spans of time within each of which the route would have changed.
    fn changeovers(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let who = self.who.iter().zip(self.who.iter().skip(1));
        let sent = self.sent.iter().zip(self.sent.iter().skip(1));
        who.zip(sent)
            .filter(|((before, after), _)| before != after)
            .map(|(_, (before, after))| (*before, *after))
    }

    fn is_one_changeover(&self) -> bool {
        self.changeovers().nth(1).is_none()
    }
}

/// What the test says of some TTLs.
struct Tested {
    moments: Vec<Duration>,
    p: f64,
}

fn test(sequences: &[Sequence]) -> Tested {
    let mut spans: Vec<_> = sequences.iter().flat_map(Sequence::changeovers).collect();
    let moments = stab(&mut spans);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut shuffled: Vec<Sequence> = sequences
        .iter()
        .map(|it| Sequence {
            ttl: it.ttl,
            sent: it.sent.clone(),
            who: it.who.clone(),
            routers: Vec::new(),
        })
        .collect();
    let (mut hits, mut trials) = (0, 0);
    while trials < TRIALS && hits < HITS {
        for sequence in &mut shuffled {
            random.shuffle(&mut sequence.who);
        }
        spans.clear();
        spans.extend(shuffled.iter().flat_map(Sequence::changeovers));
        trials += 1;
        hits += u32::from(stab(&mut spans).len() <= moments.len());
    }
    let p = match hits {
        HITS => f64::from(HITS) / f64::from(trials),
        _ => f64::from(hits + 1) / f64::from(trials + 1),
    };
    Tested { moments, p }
}

/// The fewest moments so that one is in each span (open at its begin): by rising end,
/// the last of a span that has none yet. Given is the middle of what a moment's spans
/// have in common.
fn stab(spans: &mut [(Duration, Duration)]) -> Vec<Duration> {
    spans.sort_unstable_by_key(|(begin, end)| (*end, *begin));
    let mut moments = Vec::new();
    let mut common: Option<(Duration, Duration)> = None;
    for (begin, end) in spans.iter().copied() {
        common = Some(match common {
            Some((latest, first)) if begin < first => (latest.max(begin), first),
            Some((latest, first)) => {
                moments.push((latest + first) / 2);
                (begin, end)
            }
            None => (begin, end),
        });
    }
    moments.extend(common.map(|(latest, first)| (latest + first) / 2));
    moments
}

fn told(sequences: &[Sequence], tested: &Tested) -> Vec<Balancing> {
    let kind = match tested.moments.len() {
        ..=CHANGES if tested.p <= LEVEL => BalancingKind::RouteChange,
        1 => BalancingKind::Undecided,
        _ if tested.p <= LEVEL => BalancingKind::Undecided,
        _ => BalancingKind::PerPacket,
    };
    let tell = |sequence: &Sequence| {
        let changes = |moment: &&Duration| {
            let mut spans = sequence.changeovers();
            spans.any(|(begin, end)| begin <= **moment && **moment <= end)
        };
        let at = tested.moments.iter().filter(changes).copied();
        Balancing {
            ttl: sequence.ttl,
            kind,
            routers: sequence.routers.clone(),
            at: match kind {
                BalancingKind::RouteChange => at.collect(),
                _ => Vec::new(),
            },
            moments: tested.moments.len(),
            p: tested.p,
        }
    };
    sequences.iter().map(tell).collect()
}

/// Numbers that look random, the same in each run: results can be made again.
/// xorshift64* (Marsaglia 2003, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // The bound is a number of probes: far below 2³².
        ((high * bound as u64) >> 32) as usize
    }

    /// Fisher and Yates.
    fn shuffle(&mut self, items: &mut [usize]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipath::walk;
    use crate::report::samples;
    use crate::trace::Method;
    use proptest::prelude::*;

    /// A trace by letters.
    fn trace(hops: &[&str]) -> Trace {
        walk::tests::trace(61_000, hops)
    }

    fn kinds(hops: &[&str]) -> Vec<(u8, &'static str)> {
        let found = within(&trace(hops));
        found.iter().map(|it| (it.ttl, it.kind.as_str())).collect()
    }

    #[test]
    fn one_router_a_ttl_is_nothing_to_tell() {
        assert_eq!(kinds(&["aaa", "b.b", "...", "TTT"]), []);
    }

    #[test]
    fn a_router_that_comes_back_is_a_balancer() {
        assert_eq!(
            kinds(&["aaa", "aba", "cc.", "TTT"]),
            [(2, "per-packet")],
            "one TTL"
        );
        assert_eq!(
            kinds(&["aaa", "aab", "cdc", "eff", "TTT"]),
            [(2, "per-packet"), (3, "per-packet"), (4, "per-packet")],
            "what one TTL does not tell the next does"
        );
        assert_eq!(kinds(&["abababab", "TTTTTTTT"]), [(1, "per-packet")]);
    }

    #[test]
    fn one_moment_for_all_ttls_is_a_change_of_the_route() {
        let hops = ["aaaaaa", "aaaabb", "ccccdd", "eeeeff", "TTTTTT"];
        let found = within(&trace(&hops));
        for (it, ttl) in found.iter().zip(2..) {
            assert_eq!((it.ttl, it.kind), (ttl, BalancingKind::RouteChange));
            assert_eq!(it.moments, 1);
            assert!(it.p <= LEVEL);
            // Between the probe of round 3 at the last TTL and round 4 at the first.
            assert_eq!(it.at, [Duration::from_micros(352_000)]);
        }
        assert_eq!(found.len(), 3);
        // To a way that is a hop longer.
        assert_eq!(
            kinds(&["aaaaaaaa", "aaaabbbb", "TTTTcccc", "TTTTTTTT"]),
            [(2, "route-change"), (3, "route-change")]
        );
    }

    #[test]
    fn too_few_answers_are_undecided() {
        assert_eq!(kinds(&["aaa", "aab", "TTT"]), [(2, "undecided")]);
        assert_eq!(
            kinds(&["aaa", "aab", "ccd", "TTT"]),
            [(2, "undecided"), (3, "undecided")]
        );
        // There and back is no coincidence with so many probes.
        assert_eq!(kinds(&["aaaaaaaabbbbbbbbaaaaaaaa"]), [(1, "route-change")]);
    }

    #[test]
    fn a_route_can_change_behind_a_balancer() {
        assert_eq!(
            kinds(&["abababab", "cccddddd", "eeefffff", "TTTTTTTT"]),
            [(1, "per-packet"), (2, "route-change"), (3, "route-change")]
        );
    }

    #[test]
    fn what_is_no_flow_or_not_its_own_is_not_judged() {
        let mut of_many = trace(&["aba", "TTT"]);
        of_many.method = Method::Udp;
        assert_eq!(within(&of_many), []);
        let mut shared = trace(&["aba", "TTT"]);
        shared.hops[0].shared = true;
        assert_eq!(within(&shared), []);
        let mut error = trace(&["aaa", "TTT"]);
        let firewall = samples::answered(ReplyKind::Unreachable, "10.9.9.9");
        error.hops[0].probes[1].reply = Some(firewall);
        assert_eq!(within(&error), []);
        // Nor is a port that nobody listens at, but where datagrams are sent to it.
        let mut refused = samples::answered(ReplyKind::Unreachable, "10.0.9.2");
        refused.icmp = Some((3, 3));
        error.hops[0].probes[1].reply = Some(refused);
        assert_eq!(within(&error), []);
        error.method = Method::Dublin;
        assert_eq!(within(&error).len(), 1);
    }

    proptest! {
        #[test]
        fn fewest_moments_are_in_every_span(
            spans in prop::collection::vec((0u64..50, 1u64..20), 1..20)
        ) {
            let spans: Vec<_> = spans
                .into_iter()
                .map(|(begin, length)| (Duration::from_millis(begin), Duration::from_millis(begin + length)))
                .collect();
            let moments = stab(&mut spans.clone());
            for (begin, end) in &spans {
                prop_assert!(moments.iter().any(|it| begin <= it && it <= end));
            }
            // No two of these many spans have a moment in common.
            let mut apart: Vec<(Duration, Duration)> = Vec::new();
            let mut by_end = spans.clone();
            by_end.sort_by_key(|(_, end)| *end);
            for (begin, end) in by_end {
                if apart.last().is_none_or(|last| last.1 <= begin) {
                    apart.push((begin, end));
                }
            }
            prop_assert_eq!(moments.len(), apart.len());
        }
    }

    #[test]
    fn by_chance_a_change_is_seen_no_more_often_than_the_level_says() {
        let mut random = Random(7);
        let mut changes = 0;
        for _ in 0..400 {
            let hop = |first: char, random: &mut Random| -> String {
                let other = char::from(first as u8 + 1);
                (0..6).map(|_| [first, other][random.below(2)]).collect()
            };
            let hops = ["a", "c", "e"].map(|it| hop(it.chars().next().unwrap(), &mut random));
            let hops = hops.each_ref().map(String::as_str);
            let found = within(&trace(&hops));
            let is_change = |it: &Balancing| it.kind == BalancingKind::RouteChange;
            changes += u32::from(found.iter().any(is_change));
        }
        assert!(changes <= 32, "{changes} of 400");
    }
}
