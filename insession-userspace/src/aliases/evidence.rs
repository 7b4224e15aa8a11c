//! What speaks for two addresses being one router's, and how much.

use core::fmt;
use core::net::IpAddr;

use super::Kind;
use super::trial::{Outcome, Verdict};
use crate::targets::exclude::registry;

/// How sure it is where the router itself says so, in an error's source address or in an
/// interface that it names. Not calculated: what is left is for forgers, and for hosts
/// that answer in others' names at the same distance.
pub const TOLD: f64 = 0.99;
/// How sure it is where an error's source says so, but nothing shows that the address
/// that was asked is not merely behind who answered.
pub const UNCONFIRMED: f64 = 0.5;

/// Why two addresses are taken for one router's, or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// A trial of their counters.
    Counter {
        /// Of which packets.
        kind: Kind,
        /// How it ended.
        outcome: Outcome,
        /// How many pairs of counters there were to fit by chance.
        pairs: f64,
    },
    /// An error about a probe to the one came from the other.
    Source {
        /// What confirms it, or does not.
        distance: Distance,
        /// The one who answered has an address that others may have, too.
        special: bool,
    },
    /// A router named the other as an interface of its own.
    Named {
        /// The interface's name, where it has one.
        interface: Option<String>,
    },
}

/// Where the address that was asked is, against who sent the error about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// It answered in its own name from as far away.
    Equal,
    /// It answered from elsewhere: the error is of a node on the way to it.
    Other,
    /// It never answered in its own name.
    Unknown,
}

/// Two addresses, and what was found out about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The lower address.
    pub one: IpAddr,
    /// The higher.
    pub other: IpAddr,
    /// What speaks for or against it.
    pub why: Why,
}

impl Pair {
    /// In order.
    #[must_use]
    pub fn new(one: IpAddr, other: IpAddr, why: Why) -> Self {
        Pair {
            one: one.min(other),
            other: one.max(other),
            why,
        }
    }

    /// The probability that it is no coincidence, from 0 to 1.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        match &self.why {
            Why::Counter { outcome, pairs, .. } => match outcome.verdict {
                Verdict::Fits => (1.0 - outcome.chance * pairs).max(0.0),
                Verdict::Apart | Verdict::Unclear => 0.0,
            },
            Why::Source { distance, special } => match (distance, special) {
                (Distance::Equal, false) => TOLD,
                (Distance::Other, _) => 0.0,
                _ => UNCONFIRMED,
            },
            Why::Named { .. } => TOLD,
        }
    }

    /// Whether it speaks against it.
    #[must_use]
    pub fn is_against(&self) -> bool {
        match &self.why {
            Why::Counter { outcome, .. } => outcome.verdict == Verdict::Apart,
            Why::Source { distance, .. } => *distance == Distance::Other,
            Why::Named { .. } => false,
        }
    }

    /// What kind of evidence it is, in a word.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match &self.why {
            Why::Counter { .. } => "counter",
            Why::Source { .. } => "source",
            Why::Named { .. } => "named",
        }
    }

    /// The reason in words.
    #[must_use]
    pub fn reason(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Counter {
                kind,
                outcome,
                pairs,
            } => {
                let (answers, samples) = (kind.answers(), outcome.samples);
                match outcome.verdict {
                    Verdict::Fits => write!(
                        f,
                        "one counter numbers {answers} of both: {samples} of them in {} rounds, \
                         two counters pass with a chance of {:.1e}, of {pairs} pairs",
                        outcome.rounds, outcome.chance
                    ),
                    Verdict::Apart => write!(
                        f,
                        "two counters number {answers}: {samples} of them are in no one order"
                    ),
                    Verdict::Unclear => {
                        write!(f, "too few {answers} while their counters were compared")
                    }
                }
            }
            Why::Source { distance, special } => {
                write!(
                    f,
                    "an error about a datagram to the one comes from the other"
                )?;
                match distance {
                    Distance::Equal => write!(f, ", from as far away as the one itself")?,
                    Distance::Other => write!(
                        f,
                        ", but not from as far away as the one itself: it is on the way"
                    )?,
                    Distance::Unknown => {
                        write!(f, ", but the one never answered in its own name")?;
                    }
                }
                match special {
                    true => write!(f, "; but others may have that address, too"),
                    false => Ok(()),
                }
            }
            Why::Named { interface } => {
                write!(f, "the router names the address as an interface of its own")?;
                match interface {
                    Some(name) => write!(f, ", {}", name.escape_default()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Hops to who sent a packet, from the TTL that is left of one of the usual first ones.
#[must_use]
pub fn hops(ttl: u8) -> u8 {
    let first = [32, 64, 128].into_iter().find(|first| ttl <= *first);
    first.unwrap_or(255) - ttl
}

/// The evidence of an error about a probe to `asked`, which came from `from` with this
/// TTL; `own` are those of its answers in its own name.
#[must_use]
pub fn source(asked: IpAddr, from: IpAddr, ttl: u8, own: &[u8]) -> Pair {
    let distance = match own {
        [] => Distance::Unknown,
        own if own.iter().any(|it| hops(*it) == hops(ttl)) => Distance::Equal,
        _ => Distance::Other,
    };
    // Of an address that is used in many networks nobody knows whose it is here; unless
    // all of this is one such network.
    let special = registry::special(from).is_some() && registry::special(asked).is_none();
    Pair::new(asked, from, Why::Source { distance, special })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hops_are_counted_from_the_usual_first_ttls() {
        for (ttl, expected) in [(64, 0), (60, 4), (255, 0), (250, 5), (128, 0), (30, 2)] {
            assert_eq!(hops(ttl), expected, "{ttl}");
        }
    }

    #[test]
    fn a_firewall_that_answers_for_others_is_no_alias_of_theirs() {
        let (asked, from) = (address("9.0.2.7"), address("9.0.1.1"));
        let pair = source(asked, from, 61, &[60]);
        assert!(pair.is_against() && pair.confidence() == 0.0);
        assert_eq!((pair.one, pair.other), (from, asked));
        // Other first TTLs of another kind of answer, the same distance.
        assert_eq!(source(asked, from, 252, &[61]).confidence(), TOLD);
        let unknown = source(asked, from, 61, &[]);
        assert_eq!(unknown.confidence(), UNCONFIRMED);
        assert!(!unknown.is_against());
    }

    #[test]
    fn an_address_that_many_have_names_nobody() {
        let (asked, from) = (address("9.0.2.7"), address("10.0.0.1"));
        let pair = source(asked, from, 61, &[61]);
        assert_eq!(pair.confidence(), UNCONFIRMED);
        assert!(pair.reason().contains("others may have"));
        let inside = source(address("10.9.0.1"), from, 61, &[61]);
        assert_eq!(inside.confidence(), TOLD);
    }

    #[test]
    fn more_pairs_make_a_coincidence_likelier() {
        let outcome = Outcome {
            verdict: Verdict::Fits,
            chance: 1e-6,
            rounds: 2,
            samples: 20,
            slack: 1,
        };
        let of = |pairs, outcome| {
            let kind = Kind::Echo;
            let why = Why::Counter {
                kind,
                outcome,
                pairs,
            };
            Pair::new(address("9.0.0.1"), address("9.0.0.2"), why)
        };
        assert!((of(1000.0, outcome).confidence() - 0.999).abs() < 1e-9);
        assert_eq!(of(1e9, outcome).confidence(), 0.0);
        let apart = Outcome {
            verdict: Verdict::Apart,
            ..outcome
        };
        assert!(of(1.0, apart).is_against() && of(1.0, apart).confidence() == 0.0);
    }
}
