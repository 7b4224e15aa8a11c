//! What one flow shows of its way: who answered at each TTL, up to the target.

use std::net::IpAddr;

use super::within::{self, BalancingKind, answer};
use crate::time::Duration;
use crate::trace::{Hop, RttBound, Trace};

/// A flow's way. One whose route changed while it was traced has had two.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// The flow's number: walks of one flow have the same.
    pub flow: u32,
    /// Its source port.
    pub port: Option<u16>,
    /// By rising TTL, none left out, silent ones at the end cut off. The source stands
    /// in front as TTL 0 where the first TTL was probed.
    pub levels: Vec<Level>,
    /// The last level is the target.
    pub is_whole: bool,
}

/// A TTL of a way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// The TTL.
    pub ttl: u8,
    /// Who answered; nobody: a silent hop. Several: packets were balanced one by one,
    /// or it could not be told what else.
    pub seen: Vec<Seen>,
    /// Probes sent.
    pub probes: u32,
    /// Exact round-trip times of those that were answered, ns.
    pub rtts: Vec<u64>,
}

/// Somebody who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub from: IpAddr,
    /// So many probes.
    pub answers: u32,
}

impl Level {
    /// Who answered, where it is one.
    #[must_use]
    pub fn only(&self) -> Option<IpAddr> {
        match self.seen.as_slice() {
            [one] => Some(one.from),
            _ => None,
        }
    }

    /// Probes that were answered.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.seen.iter().map(|it| it.answers).sum()
    }

    /// Who answered, as one can be compared: sorted.
    #[must_use]
    pub fn who(&self) -> Vec<IpAddr> {
        let mut who: Vec<IpAddr> = self.seen.iter().map(|it| it.from).collect();
        who.sort_unstable();
        who
    }
}

/// The ways in one record: none where nobody answered.
#[must_use]
pub fn walks(trace: &Trace, flow: u32) -> Vec<Walk> {
    let mut moments: Vec<Duration> = within::within(trace)
        .into_iter()
        .filter(|it| it.kind == BalancingKind::RouteChange)
        .flat_map(|it| it.at)
        .collect();
    moments.sort_unstable();
    moments.dedup();
    let mut begin = Duration::ZERO;
    let mut found = Vec::new();
    for end in moments.into_iter().chain([Duration::MAX]) {
        found.extend(walk(trace, flow, begin, end));
        begin = end;
    }
    found
}

/// The way of the probes that were sent in this span.
fn walk(trace: &Trace, flow: u32, begin: Duration, end: Duration) -> Option<Walk> {
    let mut levels: Vec<Level> = Vec::new();
    let first = trace.hops.iter().map(|hop| hop.ttl).min()?;
    if let (1, Some(source)) = (first, trace.source) {
        levels.push(Level {
            seen: vec![Seen {
                from: source,
                answers: 0,
            }],
            ..Level::default()
        });
    }
    let head = levels.len();
    let mut is_whole = false;
    for hop in &trace.hops {
        let missing = levels.last().map_or(first, |last| last.ttl + 1)..hop.ttl;
        levels.extend(missing.map(|ttl| Level {
            ttl,
            ..Level::default()
        }));
        let (level, is_target) = level(trace, hop, begin, end);
        levels.push(level);
        if is_target {
            is_whole = true;
            break;
        }
    }
    while levels.len() > head && levels.last().is_some_and(|last| last.seen.is_empty()) {
        levels.pop();
    }
    (levels.len() > head).then_some(Walk {
        flow,
        port: trace.source_port,
        levels,
        is_whole,
    })
}

/// One TTL's part of the probes of this span, and whether it is the target.
fn level(trace: &Trace, hop: &Hop, begin: Duration, end: Duration) -> (Level, bool) {
    let mut level = Level {
        ttl: hop.ttl,
        ..Level::default()
    };
    let mut is_target = true;
    // Those of another flow are not on this one's way.
    let probes = hop.probes.iter().filter(|_| !hop.shared);
    for probe in probes.filter(|probe| begin <= probe.sent && probe.sent < end) {
        level.probes += 1;
        let (Some(answer), Some(reply)) = (answer(trace, probe), &probe.reply) else {
            continue;
        };
        let from = answer.from;
        is_target &= answer.is_target;
        if reply.rtt_bound == RttBound::Exact {
            let rtt = u64::try_from(reply.rtt.as_nanos());
            level.rtts.push(rtt.unwrap_or(u64::MAX));
        }
        match level.seen.iter_mut().find(|it| it.from == from) {
            Some(seen) => seen.answers += 1,
            None => level.seen.push(Seen { from, answers: 1 }),
        }
    }
    let is_target = is_target && !level.seen.is_empty();
    (level, is_target)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::samples;
    use crate::trace::{Probe, ReplyKind};

    /// A trace by letters: routers a to z by TTL, several letters at a TTL one a
    /// probe, `.` silence, `T` the target; a hop of one letter has two such probes.
    /// Probe `n` of each TTL goes out in round `n`, TTLs 1 ms apart, rounds 100 ms.
    pub(crate) fn trace(port: u16, hops: &[&str]) -> Trace {
        let mut trace = samples::contract();
        trace.source_port = Some(port);
        let hop = |(nth, letters): (usize, &&str)| {
            let many = match letters.len() {
                1 => letters.repeat(2),
                _ => (*letters).to_owned(),
            };
            let probe = |(round, letter): (usize, char)| Probe {
                sent: Duration::from_millis(100 * round as u64 + nth as u64),
                reply: match letter {
                    '.' => None,
                    'T' => Some(samples::answered(ReplyKind::Sack, "10.0.9.2")),
                    _ => Some(samples::answered(
                        ReplyKind::TimeExceeded,
                        &router(letter).to_string(),
                    )),
                },
            };
            Hop::new(nth as u8 + 1, many.chars().enumerate().map(probe).collect())
        };
        trace.hops = hops.iter().enumerate().map(hop).collect();
        trace
    }

    /// The router of a letter.
    pub(crate) fn router(letter: char) -> IpAddr {
        [10, 1, 0, letter as u8].into()
    }

    /// Its letter; `S` is the source, `T` the target.
    pub(crate) fn letter(router: IpAddr) -> char {
        match router {
            IpAddr::V4(v4) if v4.octets()[1] == 1 => char::from(v4.octets()[3]),
            _ if router == samples::contract().address.unwrap() => 'T',
            _ => 'S',
        }
    }

    pub(crate) fn all(traces: &[Trace]) -> Vec<Walk> {
        let numbered = traces.iter().zip(0..);
        numbered
            .flat_map(|(trace, flow)| walks(trace, flow))
            .collect()
    }

    fn letters(walk: &Walk) -> Vec<String> {
        let level = |level: &Level| level.seen.iter().map(|it| letter(it.from)).collect();
        walk.levels.iter().map(level).collect()
    }

    #[test]
    fn a_way_ends_at_the_target_or_at_the_last_answer() {
        let found = walks(&trace(1, &["a", ".", "c", "T", "T"]), 0);
        assert_eq!(found.len(), 1);
        assert_eq!(letters(&found[0]), ["S", "a", "", "c", "T"]);
        assert!(found[0].is_whole);
        let ttls: Vec<u8> = found[0].levels.iter().map(|it| it.ttl).collect();
        assert_eq!(ttls, [0, 1, 2, 3, 4]);
        assert_eq!(found[0].levels[3].probes, 2);
        assert_eq!(found[0].levels[3].rtts, [1_000_000; 2]);

        let found = walks(&trace(1, &["a", "b", ".", "."]), 0);
        assert_eq!(letters(&found[0]), ["S", "a", "b"]);
        assert!(!found[0].is_whole);
        assert_eq!(walks(&trace(1, &[".", "."]), 0), []);
    }

    #[test]
    fn a_route_that_changed_is_two_ways() {
        let found = walks(&trace(1, &["aaaaaa", "bbbbcc", "ddddee", "TTTTTT"]), 7);
        let found: Vec<_> = found.iter().map(|it| (it.flow, letters(it))).collect();
        let way = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(found, [(7, way("SabdT")), (7, way("SaceT"))]);
    }

    #[test]
    fn balanced_packets_are_one_way_with_several_at_a_ttl() {
        let found = walks(&trace(1, &["aaa", "bcb", "bTb", "TTT"]), 0);
        assert_eq!(found.len(), 1);
        assert_eq!(letters(&found[0]), ["S", "a", "bc", "bT", "T"]);
        assert_eq!(found[0].levels[2].who(), [router('b'), router('c')]);
        assert_eq!(found[0].levels[2].seen[0].answers, 2);
    }

    #[test]
    fn what_another_flow_showed_is_not_on_the_way() {
        let mut shared = trace(1, &["a", "b", "T"]);
        shared.hops[0].shared = true;
        assert_eq!(letters(&walks(&shared, 0)[0]), ["S", "", "b", "T"]);
    }
}
