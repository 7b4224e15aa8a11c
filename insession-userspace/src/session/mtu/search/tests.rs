//! Paths of routers with MTUs, each of which says something or nothing; and the search
//! that has to find out.

use alloc::vec;
use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// What a router says of packets that are too big for the line behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Truth,
    This(u32),
    Nothing,
}

/// A router, and the line behind it.
#[derive(Clone, Copy, Debug)]
struct Router {
    mtu: u16,
    says: Says,
    /// It lets packets expire without a word.
    silent: bool,
    /// It says "too big" from another address.
    other: bool,
}

/// Routers, and a destination behind the last of them.
#[derive(Clone, Debug)]
struct Path {
    routers: Vec<Router>,
    v6: bool,
    /// What is lost whatever becomes of it: these packets, from 0.
    loses: Vec<usize>,
    tries: u8,
    size: u16,
}

fn path<const N: usize>(routers: [(u16, Says); N]) -> Path {
    let routers = routers.map(|(mtu, says)| Router {
        mtu,
        says,
        silent: false,
        other: false,
    });
    Path {
        routers: routers.to_vec(),
        v6: false,
        loses: vec![],
        tries: 3,
        size: 1500,
    }
}

fn address(ttl: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, ttl as u8))
}

fn elsewhere(ttl: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 9, 9, ttl as u8))
}

impl Path {
    fn end(&self) -> u8 {
        self.routers.len() as u8 + 1
    }

    fn answers(&self, ttl: usize, router: &Router) -> Option<(u8, IpAddr)> {
        (!router.silent).then(|| (ttl as u8, address(ttl)))
    }

    fn search(&self) -> Search {
        let hops = (1..).zip(&self.routers);
        let hops = hops.filter_map(|(ttl, router)| self.answers(ttl, router));
        Search::new(self.v6, self.size, self.end(), hops.collect(), self.tries)
    }

    fn ask(&self, question: Question) -> Answer {
        for (ttl, router) in (1..).zip(&self.routers) {
            if ttl == usize::from(question.ttl) {
                return match router.silent {
                    true => Answer::Silent,
                    false => Answer::Passed,
                };
            }
            if question.size > router.mtu {
                let from = if router.other {
                    elsewhere(ttl)
                } else {
                    address(ttl)
                };
                let mtu = match router.says {
                    Says::Truth => router.mtu.into(),
                    Says::This(mtu) => mtu,
                    Says::Nothing => return Answer::Silent,
                };
                return Answer::TooBig { mtu, from };
            }
        }
        Answer::Passed
    }

    /// What is found, and all that was asked.
    fn measure(&self) -> (Found, Vec<Question>) {
        let mut search = self.search();
        let mut asked = vec![];
        while let Some(question) = search.question() {
            assert!(asked.len() < 400, "it never ends: {asked:?}");
            let answer = match self.loses.contains(&asked.len()) {
                true => Answer::Silent,
                false => self.ask(question),
            };
            asked.push(question);
            search.answer(answer);
        }
        (search.found(), asked)
    }

    fn found(&self) -> Found {
        self.measure().0
    }
}

fn told(ttl: usize, mtu: u16) -> MtuStep {
    MtuStep {
        ttl: ttl as u8,
        from: (ttl > 0).then(|| address(ttl)),
        mtu,
        told: true,
    }
}

fn silent(ttl: usize, mtu: u16) -> MtuStep {
    MtuStep {
        told: false,
        ..told(ttl, mtu)
    }
}

fn is(path: u16, steps: Vec<MtuStep>) -> Found {
    Found {
        path: Some(path),
        steps,
        detail: None,
    }
}

#[test]
fn where_everything_passes_one_packet_is_enough() {
    let (found, asked) = path([(1500, Says::Truth); 4]).measure();
    assert_eq!(found, is(1500, vec![]));
    assert_eq!(asked, [Question { ttl: 5, size: 1500 }]);
}

#[test]
fn routers_that_tell_cost_a_packet_each() {
    let path = path([
        (1500, Says::Truth),
        (1400, Says::Truth),
        (1500, Says::Truth),
        (1300, Says::Truth),
    ]);
    let (found, asked) = path.measure();
    assert_eq!(found, is(1300, vec![told(2, 1400), told(4, 1300)]));
    assert_eq!(asked.len(), 3);
}

#[test]
fn a_router_that_tells_from_another_address_is_found_by_its_ttl() {
    for at in 1..=6 {
        let mut path = path([(1500, Says::Truth); 6]);
        path.routers[at - 1].mtu = 1400;
        path.routers[at - 1].other = true;
        let step = MtuStep {
            from: Some(elsewhere(at)),
            ..told(at, 1400)
        };
        assert_eq!(path.found(), is(1400, vec![step]), "{at}");
        // Also where it lets nothing expire.
        path.routers[at - 1].silent = true;
        assert_eq!(path.found(), is(1400, vec![step]), "{at}, silent");
    }
}

#[test]
fn an_address_that_stands_at_several_hops_is_not_believed() {
    let path = path([
        (1500, Says::Truth),
        (1500, Says::Truth),
        (1400, Says::Truth),
    ]);
    let hops = vec![(1, address(3)), (2, address(2)), (3, address(3))];
    let mut search = Search::new(false, 1500, 4, hops, 3);
    while let Some(question) = search.question() {
        search.answer(path.ask(question));
    }
    assert_eq!(search.found(), is(1400, vec![told(3, 1400)]));
}

#[test]
fn a_router_that_names_no_mtu_is_asked_down_the_plateaus() {
    let path = path([(1500, Says::Truth), (1000, Says::This(0))]);
    let (found, asked) = path.measure();
    // 1492, 1006, 508: the next one below what passes.
    assert_eq!(found, is(508, vec![told(2, 508)]));
    let sizes: Vec<_> = asked.iter().map(|question| question.size).collect();
    assert_eq!(sizes, [1500, 1492, 1006, 508]);
}

#[test]
fn an_mtu_that_cannot_be_one_is_as_good_as_none() {
    for mtu in [1500, 9000, 70_000] {
        let path = path([(1500, Says::Truth), (1400, Says::This(mtu))]);
        let found = path.found();
        assert_eq!(
            (found.path, found.steps),
            (Some(1400), vec![silent(2, 1400)])
        );
        let detail = found.detail.unwrap();
        assert!(detail.starts_with("10.0.0.2 told of an MTU of"), "{detail}");
    }
}

#[test]
fn no_less_is_believed_than_every_network_carries() {
    let mut path = path([(1500, Says::Truth), (1400, Says::This(10))]);
    assert_eq!(path.found(), is(68, vec![told(2, 68)]));
    // RFC 8201 §4: such a message is to be discarded.
    path.v6 = true;
    let found = path.found();
    assert_eq!(
        (found.path, found.steps),
        (Some(1400), vec![silent(2, 1400)])
    );
}

#[test]
fn a_black_hole_is_measured_to_the_octet() {
    for mtu in [68, 69, 576, 1279, 1280, 1281, 1399, 1400, 1401, 1492, 1499] {
        for at in 1..=5 {
            let mut path = path([(1500, Says::Truth); 5]);
            path.routers[at - 1] = Router {
                mtu,
                says: Says::Nothing,
                ..path.routers[at - 1]
            };
            let (found, asked) = path.measure();
            assert_eq!(found, is(mtu, vec![silent(at, mtu)]), "{mtu} behind {at}");
            assert!(asked.len() < 80, "{}: {asked:?}", asked.len());
        }
    }
}

#[test]
fn a_usual_mtu_costs_few_packets() {
    let (_, asked) = path([(1500, Says::Truth), (1400, Says::Nothing)]).measure();
    // Half of it is silence, and short packets behind that.
    assert!(asked.len() <= 32, "{}: {asked:?}", asked.len());
}

#[test]
fn what_lies_behind_a_black_hole_is_found_too() {
    let path = path([
        (1400, Says::Truth),
        (1500, Says::Truth),
        (1380, Says::Nothing),
        (1350, Says::Nothing),
        (1300, Says::Truth),
    ]);
    let steps = vec![
        told(1, 1400),
        silent(3, 1380),
        silent(4, 1350),
        told(5, 1300),
    ];
    assert_eq!(path.found(), is(1300, steps));
}

#[test]
fn before_the_first_hop_there_is_none() {
    let mut path = path([(1500, Says::Truth), (1500, Says::Truth)]);
    // The first hop's own line: nothing longer gets to it.
    path.routers.insert(
        0,
        Router {
            mtu: 1400,
            says: Says::Nothing,
            silent: true,
            other: false,
        },
    );
    assert_eq!(path.found(), is(1400, vec![silent(0, 1400)]));
}

#[test]
fn at_silent_hops_it_is_the_last_hop_before_them_that_answers() {
    let mut path = path([
        (1500, Says::Truth),
        (1500, Says::Truth),
        (1400, Says::Nothing),
        (1500, Says::Truth),
    ]);
    path.routers[1].silent = true;
    path.routers[2].silent = true;
    assert_eq!(path.found(), is(1400, vec![silent(1, 1400)]));
}

#[test]
fn a_lost_packet_is_no_black_hole() {
    let mut path = path([
        (1500, Says::Truth),
        (1400, Says::Truth),
        (1400, Says::Nothing),
    ]);
    let expected = is(1400, vec![told(2, 1400)]);
    assert_eq!(path.found(), expected);
    let packets = path.measure().1.len();
    for lost in 0..packets {
        path.loses = vec![lost, lost + 1];
        assert_eq!(path.found(), expected, "{:?}", path.loses);
    }
    path.routers[2].mtu = 1300;
    let expected = is(1300, vec![told(2, 1400), silent(3, 1300)]);
    for lost in 0..30 {
        path.loses = vec![lost];
        assert_eq!(path.found(), expected, "{:?}", path.loses);
    }
}

#[test]
fn a_destination_that_answers_no_more_is_no_black_hole() {
    let path = path([(1500, Says::Truth), (1500, Says::Truth)]);
    let mut search = path.search();
    let mut asked = 0;
    while let Some(question) = search.question() {
        asked += 1;
        search.answer(match question.ttl == path.end() {
            true => Answer::Silent,
            false => path.ask(question),
        });
    }
    let found = search.found();
    assert_eq!((found.path, found.steps), (None, vec![]));
    assert_eq!(found.detail.unwrap(), "TTL 3 is hardly answered any more");
    // Long ones, and short ones: no hop before it is asked for nothing.
    assert_eq!(asked, 3 + 4);
}

#[test]
fn a_hop_that_answers_no_more_is_passed_over() {
    let path = path([
        (1500, Says::Truth),
        (1500, Says::Truth),
        (1400, Says::Nothing),
    ]);
    let mut search = path.search();
    while let Some(question) = search.question() {
        search.answer(match question.ttl == 2 {
            true => Answer::Silent,
            false => path.ask(question),
        });
    }
    assert_eq!(search.found(), is(1400, vec![silent(3, 1400)]));
}

#[test]
fn a_hop_that_answers_few_packets_is_not_taken_for_a_black_hole() {
    let path = path([
        (1500, Says::Truth),
        (1433, Says::Nothing),
        (1500, Says::Truth),
        (1500, Says::Truth),
    ]);
    // As Linux does it: six at once, and one more in so many packets' time.
    for spare in 1..8 {
        let mut search = path.search();
        let (mut left, mut time) = ([6.0; 6], 0);
        while let Some(question) = search.question() {
            let mut answer = path.ask(question);
            // Its answers are no errors.
            if question.ttl < path.end() && answer == Answer::Passed {
                let tokens = &mut left[usize::from(question.ttl)];
                match *tokens >= 1.0 {
                    true => *tokens -= 1.0,
                    false => answer = Answer::Silent,
                }
            }
            // Who is answered goes on at once.
            if answer == Answer::Silent {
                time += 1;
                left.iter_mut()
                    .for_each(|it| *it = f64::min(6.0, *it + 1.0 / f64::from(spare)));
            }
            search.answer(answer);
        }
        assert!(time < 100);
        let found = search.found();
        assert_eq!(found.path, Some(1433), "{spare}: {found:?}");
        // The hop before the one that answers well enough.
        assert!(found.steps[0].ttl >= 2, "{spare}: {found:?}");
    }
}

#[test]
fn in_ipv6_nothing_below_its_least_is_asked_for() {
    let mut path = path([(1500, Says::Truth), (1280, Says::Nothing)]);
    path.v6 = true;
    let (found, asked) = path.measure();
    assert_eq!(found, is(1280, vec![silent(2, 1280)]));
    let least = asked
        .iter()
        .map(|question| question.size)
        .filter(|size| *size > SHORT);
    assert_eq!(least.min(), Some(1280));
    // A network that breaks the rule.
    path.routers[1].mtu = 1000;
    let (found, asked) = path.measure();
    assert_eq!((found.path, found.steps), (None, vec![]));
    let least = asked
        .iter()
        .map(|question| question.size)
        .filter(|size| *size > SHORT);
    assert_eq!(least.min(), Some(1280));
}

#[test]
fn a_smaller_mtu_of_the_same_router_takes_the_place_of_the_larger() {
    let path = path([(1500, Says::Truth), (1300, Says::This(1400))]);
    // It says 1400 of packets of 1400 octets as well, which is nonsense.
    let found = path.found();
    assert_eq!(found.path, Some(1300));
    assert_eq!(found.steps, [silent(2, 1300)]);
}

fn routers() -> impl Strategy<Value = Vec<Router>> {
    let mtu = prop_oneof![
        4 => Just(1500),
        1 => 68_u16..1500,
        1 => prop::sample::select(&USUAL[..20]),
    ];
    let says = prop_oneof![Just(Says::Truth), Just(Says::Nothing)];
    let router = (
        mtu,
        says,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    let router = router.prop_map(|(mtu, says, silent, other)| Router {
        mtu,
        says,
        silent,
        other,
    });
    prop::collection::vec(router, 0..12)
}

proptest! {
    #[test]
    fn what_is_found_is_true(routers in routers()) {
        let path = Path { routers, ..path([]) };
        let found = path.found();
        let mut least = 1500;
        let mut smaller = vec![];
        for (ttl, router) in (1..).zip(&path.routers) {
            if router.mtu < least {
                least = router.mtu;
                smaller.push((ttl, least, router.says == Says::Truth));
            }
        }
        prop_assert_eq!(found.path, Some(least));
        prop_assert_eq!(found.detail, None);
        // Silent hops may hide where one of two becomes smaller.
        if path.routers.iter().all(|router| !router.silent) {
            let steps: Vec<_> = found
                .steps
                .iter()
                .map(|step| (step.ttl, step.mtu, step.told))
                .collect();
            prop_assert_eq!(steps, smaller);
        }
    }

    #[test]
    fn whatever_is_answered_it_ends(
        v6 in any::<bool>(),
        size in 68_u16..,
        end in 1_u8..,
        hops in prop::collection::vec(any::<u8>(), 0..40),
        tries in 1_u8..5,
        answers in prop::collection::vec((0..3_u8, any::<u16>(), 0..40_usize), 1..60),
    ) {
        let hops = hops.into_iter().map(|ttl| (ttl, address(ttl.into()))).collect();
        let mut search = Search::new(v6, size, end, hops, tries);
        let mut answers = answers.into_iter().cycle();
        // Every answer that changes anything makes a bound tighter.
        for _ in 0..200_000 {
            let Some(question) = search.question() else {
                break;
            };
            prop_assert!(question.size <= size && question.size > 0);
            prop_assert!((1..=end).contains(&question.ttl));
            search.answer(match answers.next() {
                Some((0, _, _)) => Answer::Passed,
                Some((1, mtu, from)) => Answer::TooBig {
                    mtu: mtu.into(),
                    from: address(from),
                },
                _ => Answer::Silent,
            });
        }
        let found = search.found();
        prop_assert!(found.path.is_none_or(|path| path <= size));
        let sorted = found.steps.is_sorted_by(|one, next| one.ttl < next.ttl && one.mtu > next.mtu);
        prop_assert!(sorted, "{:?}", found.steps);
    }
}
