//! What is asked, and what follows from the answers: no sequence numbers, no time.
//!
//! Packets get smaller only, so what got to a hop once gets there for good. The size is
//! asked for all the way first ([`Stage::Whole`]). A router that says "too big" says by
//! its address which hop it is; where that is nobody's, or several hops', it is the hop
//! before the smallest TTL that it is heard at ([`Stage::Teller`]). Where nobody says
//! anything, hops that answered short probes are asked by long ones
//! ([`Stage::Place`]), and the first that answers none is asked by ever other sizes
//! ([`Stage::Size`]), a short one first: a hop that does not answer that is not behind a
//! black hole. Nor need one be that answers few packets a second: before a silence is
//! believed, short packets have to be answered ([`Check`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::trace::MtuStep;

/// MTUs that there are: RFC 1191 §7.1, and what tunnels leave of Ethernet (PPPoE, 6in4,
/// GRE, VXLAN, WireGuard, IPsec). Rising.
const USUAL: [u16; 26] = [
    68, 296, 508, 576, 1006, 1280, 1300, 1320, 1340, 1360, 1380, 1400, 1420, 1440, 1450, 1460,
    1472, 1476, 1480, 1492, 1500, 2002, 4352, 8166, 9000, 17_914,
];

/// RFC 1191 §7.1, table 7-1, where a router does not say the MTU (§5). Falling.
const PLATEAUS: [u16; 10] = [
    32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68,
];

/// The size of packets that are answered whatever the MTU, octets.
const SHORT: u16 = 128;

/// So many of them have to be answered in a row. Linux answers one a second and some at
/// once (net/ipv4/icmp.c, `icmpv4_xrlim_allow`): where it has two answers left, it had
/// one for the packet before.
const IN_A_ROW: u8 = 2;

/// A long probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) ttl: u8,
    /// Octets of the whole packet.
    pub(super) size: u16,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It got there.
    Passed,
    /// A router discarded it as too big; 0: it does not say for what.
    TooBig { mtu: u32, from: IpAddr },
    /// Nothing was heard of it in time.
    Silent,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What gets all the way.
    pub(super) path: Option<u16>,
    pub(super) steps: Vec<MtuStep>,
    pub(super) detail: Option<String>,
}

/// Whether a hop answers short packets, now that it did not answer this.
#[derive(Clone, Copy, Debug)]
struct Check {
    asked: Question,
    /// Answers in a row.
    answered: u8,
    /// Packets without one.
    failed: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// All the way.
    Whole,
    /// Of packets of `size` octets with TTL `high`, `from` says "too big", not of those
    /// with `low`.
    Teller {
        low: u8,
        high: u8,
        size: u16,
        mtu: u16,
        from: IpAddr,
    },
    /// Packets with TTL `low` are answered, those with `high` are not.
    Place { low: u8, high: u8 },
    /// Behind hop `before`, at or before hop `ttl`, packets of `passes` octets pass and
    /// those of `fails` do not. Nothing passes for certain as long as `passes` is 0.
    Size {
        before: u8,
        ttl: u8,
        passes: u16,
        fails: u16,
    },
    /// It is known what gets all the way, or that it cannot be known.
    Done,
}

/// The search. A hop of it is a TTL and who answers there.
#[derive(Debug)]
pub(super) struct Search {
    /// No smaller size is asked for.
    floor: u16,
    v6: bool,
    /// The largest that may get all the way.
    size: u16,
    end: u8,
    /// Hops before the end that answered short probes, by rising TTL.
    hops: Vec<(u8, IpAddr)>,
    /// `size` gets to this TTL.
    passed: u8,
    stage: Stage,
    /// How often a question may be asked.
    tries: u8,
    /// How often this one was asked without an answer.
    failed: u8,
    /// First this.
    check: Option<Check>,
    steps: Vec<MtuStep>,
    path: Option<u16>,
    detail: Option<String>,
}

impl Search {
    /// What gets to TTL `end`: `size` octets, or less. `hops` are TTLs before it that
    /// answered short probes, and who did; of one TTL there may be several.
    pub(super) fn new(
        v6: bool,
        size: u16,
        end: u8,
        mut hops: Vec<(u8, IpAddr)>,
        tries: u8,
    ) -> Self {
        hops.retain(|(ttl, _)| *ttl < end);
        hops.sort_unstable();
        hops.dedup();
        Search {
            floor: floor(v6).min(size),
            v6,
            size,
            end,
            hops,
            passed: 0,
            stage: Stage::Whole,
            tries,
            failed: 0,
            check: None,
            steps: Vec::new(),
            path: None,
            detail: None,
        }
    }

    /// What is to be asked; `None`: nothing more.
    pub(super) fn question(&self) -> Option<Question> {
        if let Some(Check { asked, .. }) = self.check {
            let (ttl, size) = (asked.ttl, SHORT.min(self.floor));
            return Some(Question { ttl, size });
        }
        let (ttl, size) = match self.stage {
            Stage::Whole => (self.end, self.size),
            Stage::Teller {
                low, high, size, ..
            } => (low.midpoint(high), size),
            Stage::Place { low, high } => (self.between(low, high)?, self.size),
            Stage::Size {
                ttl, passes, fails, ..
            } => (ttl, self.guess(passes, fails)),
            Stage::Done => return None,
        };
        Some(Question { ttl, size })
    }

    /// What became of the question.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(asked) = self.question() else {
            return;
        };
        if let Some(check) = self.check {
            self.checked(check, answer == Answer::Passed);
            return self.settle();
        }
        match answer {
            Answer::Passed => {
                self.failed = 0;
                self.passed(asked);
            }
            Answer::TooBig { mtu, from } => match self.readable(mtu, asked.size) {
                Some(mtu) => {
                    self.failed = 0;
                    self.told(asked, mtu, from);
                }
                None => {
                    self.detail = Some(format!(
                        "{from} told of an MTU of {mtu} octets, of a packet of {}",
                        asked.size
                    ));
                    self.unanswered(asked);
                }
            },
            Answer::Silent => self.unanswered(asked),
        }
        self.settle();
    }

    /// What was found out so far.
    pub(super) fn found(self) -> Found {
        Found {
            path: self.path,
            steps: self.steps,
            detail: self.detail,
        }
    }

    /// The MTU that a router told of, if it can be one.
    fn readable(&self, mtu: u32, size: u16) -> Option<u16> {
        let mtu = match (mtu, self.v6) {
            (0, false) => PLATEAUS.into_iter().find(|plateau| *plateau < size)?,
            // RFC 8201 §4: what is below the least that IPv6 has is to be discarded.
            (mtu, true) if mtu < u32::from(self.floor) => return None,
            // RFC 1191 §3: no estimate is ever reduced below 68 octets.
            (mtu, _) => u16::try_from(mtu).ok()?.max(self.floor),
        };
        (mtu < size).then_some(mtu)
    }

    fn passed(&mut self, asked: Question) {
        match &mut self.stage {
            Stage::Whole => self.reached_end(),
            Stage::Teller { low, .. } => *low = asked.ttl,
            Stage::Place { low, .. } => {
                *low = asked.ttl;
                self.passed = self.passed.max(asked.ttl);
            }
            Stage::Size { passes, .. } => *passes = asked.size,
            Stage::Done => {}
        }
    }

    fn told(&mut self, asked: Question, mtu: u16, from: IpAddr) {
        match &mut self.stage {
            Stage::Teller {
                high,
                mtu: told,
                from: teller,
                ..
            } => {
                // Perhaps it is another one, nearer by.
                (*high, *told, *teller) = (asked.ttl, mtu, from);
                return;
            }
            // A smaller packet passed.
            Stage::Size { passes, fails, .. } if mtu <= *passes => {
                *fails = asked.size;
                return;
            }
            _ => {}
        }
        let (low, high) = (self.passed, asked.ttl);
        let at = |(ttl, address): &&(u8, IpAddr)| *address == from && (low..high).contains(ttl);
        let mut at = self.hops.iter().filter(at);
        match (at.next(), at.next()) {
            (Some((ttl, _)), None) => self.step(*ttl, Some(from), mtu, true),
            _ => {
                self.stage = Stage::Teller {
                    low,
                    high,
                    size: asked.size,
                    mtu,
                    from,
                };
            }
        }
    }

    fn unanswered(&mut self, asked: Question) {
        self.failed += 1;
        if self.failed < self.tries {
            return;
        }
        self.failed = 0;
        match &mut self.stage {
            // It did not draw what packets of a larger TTL do.
            Stage::Teller { low, .. } => *low = asked.ttl,
            Stage::Size { passes: 0, .. } => self.answers_nothing(asked.ttl),
            Stage::Whole | Stage::Place { .. } | Stage::Size { .. } => {
                self.check = Some(Check {
                    asked,
                    answered: 0,
                    failed: 0,
                });
            }
            Stage::Done => {}
        }
    }

    /// A short packet was answered, or not.
    fn checked(&mut self, mut check: Check, answered: bool) {
        match answered {
            true => check.answered += 1,
            false => (check.answered, check.failed) = (0, check.failed + 1),
        }
        self.check = None;
        if check.failed > self.tries {
            self.answers_nothing(check.asked.ttl);
        } else if check.answered < IN_A_ROW {
            self.check = Some(check);
        } else {
            match &mut self.stage {
                Stage::Place { high, .. } => *high = check.asked.ttl,
                Stage::Size { fails, .. } => *fails = check.asked.size,
                Stage::Whole => {
                    let (low, high) = (self.passed, self.end);
                    self.stage = Stage::Place { low, high };
                }
                Stage::Teller { .. } | Stage::Done => {}
            }
        }
    }

    /// Goes on where a stage is at its end.
    fn settle(&mut self) {
        if self.check.is_some() {
            return;
        }
        match self.stage {
            Stage::Teller {
                low,
                high,
                mtu,
                from,
                ..
            } if high - low <= 1 => self.step(low, Some(from), mtu, true),
            Stage::Place { low, high } if self.between(low, high).is_none() => {
                self.stage = Stage::Size {
                    before: low,
                    ttl: high,
                    passes: 0,
                    fails: self.size,
                };
                if self.size <= self.floor {
                    self.answers_nothing(high);
                }
            }
            Stage::Size {
                before,
                ttl,
                passes,
                fails,
            } if passes != 0 && fails - passes <= 1 => {
                let from = self.address(before);
                self.step(before, from, passes, false);
                self.passed = self.passed.max(ttl);
                if ttl == self.end {
                    self.reached_end();
                }
            }
            _ => {}
        }
    }

    /// From hop `ttl` on packets have to be smaller.
    fn step(&mut self, ttl: u8, from: Option<IpAddr>, mtu: u16, told: bool) {
        // A router may say a smaller one when it is asked by a smaller packet.
        self.steps.retain(|step| step.ttl != ttl);
        self.steps.push(MtuStep {
            ttl,
            from,
            mtu,
            told,
        });
        self.size = mtu;
        self.passed = self.passed.max(ttl);
        self.stage = Stage::Whole;
    }

    fn reached_end(&mut self) {
        self.passed = self.end;
        self.path = Some(self.size);
        self.stage = Stage::Done;
    }

    /// This hop answered short probes, and does so no longer: it is not asked again.
    fn answers_nothing(&mut self, ttl: u8) {
        if ttl == self.end {
            self.detail = Some(format!("TTL {ttl} is hardly answered any more"));
            self.stage = Stage::Done;
            return;
        }
        self.hops.retain(|(other, _)| *other != ttl);
        let (low, high) = (self.passed, self.end);
        self.stage = Stage::Place { low, high };
        self.settle();
    }

    /// The middle one of the hops between two TTLs that answered short probes.
    fn between(&self, low: u8, high: u8) -> Option<u8> {
        let inside = |(ttl, _): &(u8, IpAddr)| (low.saturating_add(1)..high).contains(ttl);
        let mut ttls: Vec<u8> = self
            .hops
            .iter()
            .filter(|hop| inside(hop))
            .map(|hop| hop.0)
            .collect();
        ttls.dedup();
        ttls.get(ttls.len() / 2).copied()
    }

    /// Who answers at a TTL.
    fn address(&self, ttl: u8) -> Option<IpAddr> {
        let hop = self.hops.iter().find(|(other, _)| *other == ttl);
        hop.map(|(_, address)| *address)
    }

    /// A size between one that passes and one that does not: a usual one while there
    /// is one, then the next one up, which mostly fails.
    fn guess(&self, passes: u16, fails: u16) -> u16 {
        if passes == 0 {
            return self.floor;
        }
        let inside = |size: &&u16| (passes + 1..fails).contains(*size);
        let count = USUAL.iter().filter(inside).count();
        if let Some(usual) = USUAL.iter().filter(inside).nth(count / 2) {
            return *usual;
        }
        match USUAL.contains(&passes) {
            true => passes + 1,
            false => passes.midpoint(fails),
        }
    }
}

/// What every network carries: RFC 791, RFC 8200 §5.
fn floor(v6: bool) -> u16 {
    match v6 {
        true => 1280,
        false => 68,
    }
}

#[cfg(test)]
mod tests;
