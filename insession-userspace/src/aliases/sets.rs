//! Sets of pairs: one a router.
//!
//! Addresses are put together by evidence for it alone, the strongest first. Of counters
//! more is known: who shares one with a second, and that with a third, shares it with the
//! third. So where two counters of one set were seen to be apart, the pair that would put
//! them together, the weaker one, is left out and said to be contradicted. What a router
//! tells of itself is not held to that: it may have a counter an interface.

use core::net::IpAddr;
use std::collections::HashMap;

use super::evidence::{Pair, Why};

/// One router's addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// In order.
    pub addresses: Vec<IpAddr>,
    /// The probability that all of it is right: of the pairs that it hangs together by.
    pub confidence: f64,
    /// The pairs among them, by number.
    pub pairs: Vec<usize>,
}

/// Sets, and the numbers of pairs that were contradicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sets {
    /// Of two and more, in order of their first address.
    pub sets: Vec<Set>,
    /// See there.
    pub contradicted: Vec<usize>,
}

#[derive(Debug, Default)]
struct Groups {
    numbers: HashMap<IpAddr, usize>,
    /// By address: its group.
    of: Vec<usize>,
    members: Vec<Vec<IpAddr>>,
    confidence: Vec<f64>,
}

impl Groups {
    fn group(&mut self, address: IpAddr) -> usize {
        let next = self.of.len();
        let number = *self.numbers.entry(address).or_insert(next);
        if number == next {
            self.of.push(next);
            self.members.push(vec![address]);
            self.confidence.push(1.0);
        }
        self.of.get(number).copied().unwrap_or(next)
    }

    /// Puts two together, of which the first stays.
    fn join(&mut self, one: usize, other: usize, confidence: f64) {
        let moved = self.members.get_mut(other).map(std::mem::take);
        let moved = moved.unwrap_or_default();
        for address in &moved {
            if let Some(of) = self
                .numbers
                .get(address)
                .and_then(|it| self.of.get_mut(*it))
            {
                *of = one;
            }
        }
        let theirs = self.confidence.get(other).copied().unwrap_or(1.0);
        if let Some(whole) = self.confidence.get_mut(one) {
            *whole *= theirs * confidence;
        }
        if let Some(members) = self.members.get_mut(one) {
            members.extend(moved);
        }
    }
}

/// Makes sets of the pairs of at least that confidence. `apart` says whether two
/// addresses were seen to have two counters.
#[must_use]
pub fn sets(pairs: &[Pair], least: f64, apart: &dyn Fn(IpAddr, IpAddr) -> bool) -> Sets {
    let mut order: Vec<_> = (0..pairs.len()).collect();
    let confidence = |nth: &usize| pairs.get(*nth).map_or(0.0, Pair::confidence);
    let of_counter = |nth: &usize| {
        let why = pairs.get(*nth).map(|pair| &pair.why);
        matches!(why, Some(Why::Counter { .. }))
    };
    order.retain(|nth| confidence(nth) >= least && confidence(nth) > 0.0);
    // Counters first: what routers say of themselves is held to nothing later.
    order.sort_by(|one, other| {
        let counters = of_counter(other).cmp(&of_counter(one));
        counters.then(confidence(other).total_cmp(&confidence(one)))
    });
    let mut groups = Groups::default();
    let mut contradicted = Vec::new();
    for nth in &order {
        let Some(pair) = pairs.get(*nth) else {
            continue;
        };
        let (one, other) = (groups.group(pair.one), groups.group(pair.other));
        if one == other {
            continue;
        }
        let members = |of: usize| groups.members.get(of).map_or(&[][..], Vec::as_slice);
        let conflict = of_counter(nth)
            && members(one).iter().any(|a| {
                let others = members(other).iter();
                others
                    .filter(|b| (*a, **b) != (pair.one, pair.other))
                    .any(|b| apart(*a, *b))
            });
        if conflict {
            contradicted.push(*nth);
        } else {
            groups.join(one, other, pair.confidence());
        }
    }
    let mut inside: HashMap<usize, Vec<usize>> = HashMap::new();
    for nth in order {
        if let Some(pair) = pairs.get(nth) {
            let (one, other) = (groups.group(pair.one), groups.group(pair.other));
            if one == other {
                inside.entry(one).or_default().push(nth);
            }
        }
    }
    let mut sets = Vec::new();
    for (number, (mut addresses, confidence)) in groups
        .members
        .into_iter()
        .zip(groups.confidence)
        .enumerate()
    {
        if addresses.len() < 2 {
            continue;
        }
        addresses.sort_unstable();
        let mut pairs = inside.remove(&number).unwrap_or_default();
        pairs.sort_unstable();
        sets.push(Set {
            addresses,
            confidence,
            pairs,
        });
    }
    sets.sort_by(|one, other| one.addresses.cmp(&other.addresses));
    Sets { sets, contradicted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aliases::Kind;
    use crate::aliases::evidence::Distance;
    use crate::aliases::trial::{Outcome, Verdict};

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn counter(one: u8, other: u8, chance: f64) -> Pair {
        let outcome = Outcome {
            verdict: Verdict::Fits,
            chance,
            rounds: 3,
            samples: 40,
            slack: 1,
        };
        let why = Why::Counter {
            kind: Kind::Echo,
            outcome,
            pairs: 1.0,
        };
        Pair::new(address(one), address(other), why)
    }

    fn source(one: u8, other: u8) -> Pair {
        let why = Why::Source {
            distance: Distance::Equal,
            special: false,
        };
        Pair::new(address(one), address(other), why)
    }

    fn members(sets: &Sets) -> Vec<Vec<u8>> {
        let last = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let of = |set: &Set| set.addresses.iter().map(last).collect();
        sets.sets.iter().map(of).collect()
    }

    #[test]
    fn pairs_chain_and_confidences_multiply() {
        let pairs = [counter(1, 2, 0.01), counter(2, 3, 0.02), counter(7, 8, 0.0)];
        let sets = sets(&pairs, 0.9, &|_, _| false);
        assert_eq!(members(&sets), [vec![1, 2, 3], vec![7, 8]]);
        assert!((sets.sets[0].confidence - 0.99 * 0.98).abs() < 1e-9);
        assert_eq!(sets.sets[0].pairs, [0, 1]);
    }

    #[test]
    fn a_contradiction_costs_the_weaker_pair() {
        let pairs = [counter(2, 3, 0.04), counter(1, 2, 0.001)];
        let apart = |a: IpAddr, b: IpAddr| [(a, b), (b, a)].contains(&(address(1), address(3)));
        let sets = sets(&pairs, 0.9, &apart);
        assert_eq!(members(&sets), [[1, 2]]);
        assert_eq!(sets.contradicted, [0]);
    }

    #[test]
    fn what_a_router_says_of_itself_holds_against_counters_an_interface() {
        let sets = sets(&[source(1, 9), source(2, 9)], 0.9, &|_, _| true);
        assert_eq!(members(&sets), [[1, 2, 9]]);
    }

    #[test]
    fn weak_evidence_puts_nothing_together() {
        assert_eq!(
            sets(&[counter(1, 2, 0.3)], 0.9, &|_, _| false),
            Sets::default()
        );
        assert_eq!(
            sets(&[counter(1, 2, 1.0)], 0.0, &|_, _| false),
            Sets::default()
        );
    }
}
