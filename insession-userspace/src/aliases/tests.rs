//! Surveys of networks in memory, whose routers number their packets in every way that is
//! known: what is put together is what is one router's, and nothing else.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::survey::{Options, Survey};
use super::{Answer, Ask, Draw, Interface, Kind, Role};
use crate::aliases::findings::Findings;
use crate::time::{Duration, Instant};

/// How a router numbers its packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers {
    /// By one counter.
    Shared,
    /// The same, in the other byte order.
    Swapped,
    /// By a counter a kind of packet.
    PerKind,
    /// By a counter an interface.
    PerInterface,
    /// As Linux: a counter an address that takes steps of up to the ticks that passed.
    Ticks,
    Random,
    Zero,
    Constant,
    Echoed,
}

#[derive(Clone, Debug)]
pub(super) struct Router {
    numbers: Numbers,
    pub(super) addresses: Vec<IpAddr>,
    /// Others' packets a second.
    busy: u64,
    /// To it, ms.
    away: u64,
    /// Errors come from its first address.
    pub(super) one_source: bool,
    /// Errors name the interface that the probe came in by, and that one has this
    /// address.
    pub(super) names: Option<IpAddr>,
    /// Hops to it.
    pub(super) hops: u8,
    counters: BTreeMap<(usize, usize), (u64, u64)>,
}

impl Router {
    pub(super) fn new(numbers: Numbers, router: u8, addresses: u8, busy: u64) -> Self {
        Router {
            numbers,
            addresses: (1..=addresses)
                .map(|nth| [100, 0, router, nth].into())
                .collect(),
            busy,
            away: 1 + u64::from(router) * 3 % 40,
            one_source: false,
            names: None,
            hops: 3 + router % 5,
            counters: BTreeMap::new(),
        }
    }

    /// The next number, at a time (ms).
    pub(super) fn number(&mut self, interface: usize, ask: &Ask, at: u64, draw: &mut Draw) -> u32 {
        let kind = ask.kind.index();
        let key = match self.numbers {
            Numbers::Shared | Numbers::Swapped => (0, 0),
            Numbers::PerKind => (0, kind),
            Numbers::PerInterface | Numbers::Ticks => (interface, kind),
            Numbers::Random => return draw.number() as u32,
            Numbers::Zero => return 0,
            Numbers::Constant => return 0x1234,
            Numbers::Echoed => return ask.identification.into(),
        };
        let begin = draw.below(1 << 16);
        let (counter, last) = self.counters.entry(key).or_insert((begin, at));
        let passed = at - *last;
        *last = at;
        *counter += 1 + match self.numbers {
            // 250 ticks a second.
            Numbers::Ticks => draw.below(passed / 4 + 1),
            _ => draw.below(2 * self.busy * passed / 1000 + 1),
        };
        match self.numbers {
            Numbers::Swapped => (*counter as u16).swap_bytes().into(),
            _ => *counter as u32,
        }
    }

    fn answer(&mut self, ask: &Ask, at: u64, draw: &mut Draw) -> Answer {
        let interface = self.addresses.iter().position(|it| *it == ask.address);
        let interface = interface.unwrap_or(0);
        let id = self.number(interface, ask, at, draw) & 0xffff;
        let from = match ask.kind {
            Kind::Datagram if self.one_source => self.addresses[0],
            _ => ask.address,
        };
        let first = if ask.kind == Kind::Datagram { 255 } else { 64 };
        Answer {
            target: ask.target,
            kind: ask.kind,
            number: Some(ask.number),
            at: Instant::ZERO,
            from,
            ttl: first - self.hops,
            id: Some(id),
            port_unreachable: ask.kind == Kind::Datagram,
            other_error: false,
            interfaces: match ask.kind {
                Kind::Datagram => self.names.map(named).into_iter().collect(),
                _ => Vec::new(),
            },
        }
    }
}

/// The interface that a probe came in by.
pub(super) fn named(address: IpAddr) -> Interface {
    Interface {
        role: Role::Incoming,
        index: Some(1),
        address: Some(address),
        name: None,
        mtu: None,
    }
}

/// What is on its way, by the time it arrives (ms).
enum Packet {
    Probe(Ask, usize),
    Answer(Answer),
}

/// Surveys all addresses of the routers; of a thousand packets so many are lost.
fn survey(routers: &mut [Router], loss: u64, options: Options) -> Findings {
    let mut draw = Draw::new(options.seed ^ 0x5eed);
    let ms = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let addresses: Vec<IpAddr> = routers
        .iter()
        .flat_map(|router| router.addresses.clone())
        .collect();
    let mut survey = Survey::new(&addresses, options, ms(0));
    // By time and number: answers in the order in which probes arrived.
    let mut flying: BTreeMap<(u64, u64), Packet> = BTreeMap::new();
    let (mut now, mut number) = (0, 0);
    for _ in 0..3_000_000 {
        while let Some(ask) = survey.poll(ms(now)) {
            let of = |router: &Router| router.addresses.contains(&ask.address);
            let router = routers.iter().position(of).expect("it is of some router");
            number += 1;
            if draw.below(1000) >= loss {
                let arrives = now + routers[router].away;
                flying.insert((arrives, number), Packet::Probe(ask, router));
            }
        }
        if survey.is_done() {
            return survey.finish();
        }
        let next = flying.keys().next().map(|(at, _)| *at);
        // Rounded up to whole milliseconds.
        let wake = survey.wake_at().map(|at| at.as_nanos().div_ceil(1_000_000));
        let until = next.into_iter().chain(wake).min();
        now = until.expect("something is due").max(now);
        while let Some(first) = flying.first_entry() {
            let (at, nth) = *first.key();
            if at > now {
                break;
            }
            match first.remove() {
                Packet::Probe(ask, router) => {
                    let router = &mut routers[router];
                    let mut answer = router.answer(&ask, at, &mut draw);
                    let arrives = at + router.away;
                    answer.at = ms(arrives);
                    flying.insert((arrives, nth), Packet::Answer(answer));
                }
                Packet::Answer(answer) => survey.answered(&answer),
            }
        }
    }
    panic!("the survey does not end: {:?}", survey.progress());
}

/// The sets that were found, by size and address.
fn found(findings: &Findings) -> Vec<Vec<IpAddr>> {
    let mut sets: Vec<_> = findings
        .sets
        .iter()
        .map(|set| set.addresses.clone())
        .collect();
    sets.sort_by_key(|set| Reverse(set.len()));
    sets.sort();
    sets
}

/// A router of every kind, some of which share a counter among their addresses.
fn every_kind() -> Vec<Router> {
    let numbers = [
        (Numbers::Shared, 2, 0),
        (Numbers::Shared, 5, 40),
        (Numbers::Shared, 3, 400),
        (Numbers::Swapped, 3, 10),
        (Numbers::PerKind, 4, 5),
        (Numbers::PerInterface, 4, 0),
        (Numbers::PerInterface, 4, 40),
        (Numbers::Ticks, 8, 0),
        (Numbers::Ticks, 8, 0),
        (Numbers::Random, 4, 0),
        (Numbers::Zero, 4, 0),
        (Numbers::Constant, 4, 0),
        (Numbers::Echoed, 4, 0),
        (Numbers::Shared, 1, 0),
        (Numbers::Shared, 1, 40),
    ];
    (1..)
        .zip(numbers)
        .map(|(nth, (numbers, addresses, busy))| Router::new(numbers, nth, addresses, busy))
        .collect()
}

fn expected(routers: &[Router]) -> Vec<Vec<IpAddr>> {
    let shares = |router: &&Router| {
        let shared = [Numbers::Shared, Numbers::Swapped, Numbers::PerKind];
        router.addresses.len() > 1 && shared.contains(&router.numbers)
    };
    let sets = routers.iter().filter(shares);
    sets.map(|router| router.addresses.clone()).collect()
}

fn options(seed: u64) -> Options {
    Options {
        seed,
        rate: 1000.0,
        ..Options::default()
    }
}

#[test]
fn routers_whose_counters_are_shared_are_found_and_no_others() {
    for seed in 0..12 {
        let mut routers = every_kind();
        let findings = survey(&mut routers, 0, options(seed));
        assert_eq!(found(&findings), expected(&routers), "seed {seed}");
        assert!(findings.complete && findings.contradicted.is_empty());
        for set in &findings.sets {
            assert!(set.confidence >= 0.95, "{set:?}");
        }
        let class = |router: usize, kind: Kind| {
            let address = routers[router].addresses[0];
            let seen = findings.seen.iter().find(|it| it.address == address);
            seen.unwrap().classes[kind.index()].word()
        };
        for (router, word) in [
            (9, "random"),
            (10, "zero"),
            (11, "constant"),
            (12, "echoed"),
        ] {
            assert_eq!(class(router, Kind::Echo), word);
        }
    }
}

#[test]
fn losses_make_fewer_sets_but_no_false_ones() {
    let (mut right, mut truth) = (0, 0);
    for seed in 0..12 {
        let mut routers = every_kind();
        let findings = survey(&mut routers, 20, options(seed));
        for set in &findings.sets {
            let one = |router: &Router| {
                set.addresses
                    .iter()
                    .all(|address| router.addresses.contains(address))
            };
            assert!(routers.iter().any(one), "seed {seed}: {set:?}");
        }
        let expected = expected(&routers);
        truth += expected.len();
        right += expected
            .iter()
            .filter(|it| found(&findings).contains(it))
            .count();
    }
    assert!(right * 10 >= truth * 8, "{right} of {truth}");
}

#[test]
fn many_counters_of_equal_speed_are_no_aliases() {
    for seed in 0..4 {
        let mut routers: Vec<_> = (1..=60)
            .map(|nth| Router::new(Numbers::Ticks, nth, 3, 0))
            .collect();
        let findings = survey(&mut routers, 0, options(seed));
        assert_eq!(findings.sets, [], "seed {seed}");
        assert!(findings.compared > 40_000.0);
    }
}

#[test]
fn one_counter_at_two_distances_is_a_coincidence() {
    let mut routers = [Router::new(Numbers::Shared, 1, 2, 0)];
    let addresses = routers[0].addresses.clone();
    let mut survey = Survey::new(&addresses, options(9), Instant::ZERO);
    let (mut now, mut draw) = (0, Draw::new(9));
    while !survey.is_done() {
        let at = Instant::from_nanos(now * 1_000_000);
        if let Some(ask) = survey.poll(at) {
            let mut answer = routers[0].answer(&ask, now, &mut draw);
            answer.at = at + Duration::from_micros(500);
            answer.ttl -= (ask.target == 1) as u8;
            survey.answered(&answer);
        }
        now += 1;
    }
    let findings = survey.finish();
    assert_eq!((findings.sets, findings.pairs), (vec![], vec![]));
}

#[test]
fn errors_from_one_address_and_named_interfaces_join() {
    let mut routers = vec![
        Router::new(Numbers::Random, 1, 3, 0),
        Router::new(Numbers::PerInterface, 2, 3, 0),
        Router::new(Numbers::Zero, 3, 2, 0),
        Router::new(Numbers::Zero, 4, 2, 0),
    ];
    routers[0].one_source = true;
    routers[1].one_source = true;
    routers[2].names = Some([100, 0, 3, 77].into());
    let findings = survey(&mut routers, 0, options(1));
    let mut named = routers[2].addresses.clone();
    named.push([100, 0, 3, 77].into());
    let expected = [
        routers[0].addresses.clone(),
        routers[1].addresses.clone(),
        named,
    ];
    assert_eq!(found(&findings), expected);
    let lines = String::from_utf8(findings.lines().unwrap()).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "insession.aliases/1");
    assert_eq!(first["addresses"][2], "100.0.1.3");
    assert_eq!(first["pairs"][0]["method"], "source");
    assert!(findings.text().contains("router 3"));
}

#[test]
fn a_firewall_that_rejects_for_others_is_nobodys_alias() {
    // Two hosts behind it, each a hop further, in whose name it sends errors.
    struct Behind;
    impl Behind {
        fn answer(ask: &Ask) -> Answer {
            let error = ask.kind == Kind::Datagram;
            Answer {
                target: ask.target,
                kind: ask.kind,
                number: Some(ask.number),
                at: Instant::ZERO,
                from: if error {
                    [100, 0, 1, 1].into()
                } else {
                    ask.address
                },
                ttl: if error { 60 } else { 59 },
                id: Some(0),
                port_unreachable: error,
                other_error: false,
                interfaces: Vec::new(),
            }
        }
    }
    let addresses: [IpAddr; 2] = [[100, 0, 2, 1].into(), [100, 0, 2, 2].into()];
    let mut survey = Survey::new(&addresses, options(3), Instant::ZERO);
    let mut now = Instant::ZERO;
    while !survey.is_done() {
        if let Some(ask) = survey.poll(now) {
            let mut answer = Behind::answer(&ask);
            answer.at = now + Duration::from_millis(1);
            survey.answered(&answer);
        }
        now = now + Duration::from_millis(1);
    }
    let findings = survey.finish();
    assert_eq!(findings.sets, []);
    assert_eq!(findings.pairs.len(), 2);
    assert!(findings.pairs.iter().all(|pair| pair.is_against()));
    let evidence = String::from_utf8(findings.evidence().unwrap()).unwrap();
    assert!(evidence.contains("\"alias\":false") && evidence.contains("it is on the way"));
}
