//! Which answers count: each is written down, and tells where the destination is.

use core::net::IpAddr;

use super::probes::{Answer, id};
use super::{Event, Session};
use crate::trace::{ReplyKind, RttBound};

/// Duplicate ACKs that make a destination, where so many probes a hop are sent:
/// one alone may be a challenge ACK or a keepalive that came at a silent hop.
const DUPLICATE_ACKS: usize = 2;

impl Session {
    /// Writes an answer down and tells of it.
    pub(super) fn credit(&mut self, index: usize, answer: &Answer<'_>) {
        let Some(ttl) = self.probes.slot(index).map(|slot| slot.ttl) else {
            return;
        };
        // Where a router discards at this TTL, or at a larger one, no probe of
        // this TTL reaches the peer: its duplicate ACK was for something else.
        if answer.kind == ReplyKind::DupAck && self.discarded_from(ttl) {
            return;
        }
        let rtt = self.probes.answer(index, answer);
        if answer.kind == ReplyKind::TimeExceeded {
            // Only a peer that names nothing has any.
            if self.schedule.unnamed {
                self.doubt_duplicate_acks(ttl);
            }
            // It lets packets by: what it said of others was said of a moment.
            if self.schedule.unreachable.is_some_and(|known| known <= ttl) {
                self.schedule.unreachable = None;
                self.unreachable_by = None;
            }
        }
        if answer.bound == RttBound::Exact {
            self.schedule.saw_rtt(rtt);
        }
        self.schedule.answered(ttl, answer.kind);
        self.push(Event::Answered(id(index)));
        // Most answers are these, and they can only take a destination away.
        if answer.kind != ReplyKind::TimeExceeded || self.schedule.destination.is_some() {
            self.locate();
        }
    }

    /// The smallest TTL that reached the destination, from all answers so far.
    fn locate(&mut self) {
        let needed = DUPLICATE_ACKS.min(self.schedule.probes_a_hop());
        // Of this hop or the next: what reaches the peer at one TTL reaches it at
        // the next one too. Farther off another stray is as likely.
        let enough = |ttl: u8| {
            let near = self.probes.answers().filter(|(at, kind, ..)| {
                *kind == ReplyKind::DupAck && (ttl..=ttl.saturating_add(1)).contains(at)
            });
            near.count() >= needed
        };
        let nearest = self
            .probes
            .answers()
            .filter(|(ttl, kind, from, code)| match kind {
                ReplyKind::DupAck => enough(*ttl),
                kind => self.is_from_destination(*kind, *from, *code),
            })
            .map(|(ttl, ..)| ttl)
            .min();
        if nearest != self.schedule.destination {
            self.schedule.destination = nearest;
            if let Some(ttl) = nearest {
                self.push(Event::Destination(ttl));
                // A stray at a silent hop before it.
                self.doubt_duplicate_acks(ttl.saturating_sub(1));
            }
        }
    }

    /// Whether an answer of this kind can come from the destination only.
    ///
    /// An address alone does not make one: routers behind a destination NAT answer
    /// with the target's address. So its *time exceeded* does not count, nor any
    /// unreachable of it once there was one; and no host says of itself that it
    /// cannot be reached.
    pub(super) fn is_from_destination(&self, kind: ReplyKind, from: IpAddr, code: u8) -> bool {
        match kind {
            ReplyKind::Sack => true,
            ReplyKind::Unreachable if from == self.flow.remote.ip() => {
                let of_others = match from {
                    // RFC 792: network, host; RFC 1122 §3.2.2.1: network, host unknown.
                    IpAddr::V4(_) => matches!(code, 0 | 1 | 6 | 7),
                    // RFC 4443 §3.1: no route, address unreachable.
                    IpAddr::V6(_) => matches!(code, 0 | 3),
                };
                let behind_nat = self
                    .probes
                    .answers()
                    .any(|(_, kind, sender, _)| kind == ReplyKind::TimeExceeded && sender == from);
                !of_others && !behind_nat
            }
            _ => false,
        }
    }

    /// Whether a router discarded a probe of this TTL or a larger one.
    pub(super) fn discarded_from(&self, ttl: u8) -> bool {
        self.probes
            .answers()
            .any(|(at, kind, ..)| kind == ReplyKind::TimeExceeded && at >= ttl)
    }

    /// Takes back what duplicate ACKs were credited with up to this TTL.
    pub(super) fn doubt_duplicate_acks(&mut self, ttl: u8) {
        for index in self.probes.take_back(ReplyKind::DupAck, ttl) {
            self.push(Event::Lost(id(index)));
        }
    }
}
