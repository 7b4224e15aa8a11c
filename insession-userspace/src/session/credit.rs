//! Which answers count: each is written down, and tells where the destination is.

use core::net::{IpAddr, Ipv4Addr};

use super::cells::{Common, Head};
use super::connection::Phase;
use super::probes::id;
use super::state::Flag;
use super::{Event, IcmpError, IcmpKind, ProbeId, Session, SessionOptions};
use crate::time::Instant;
use crate::trace::{ReplyKind, RttBound};
use crate::wire::usual::Exceeded;

/// Duplicate ACKs that make a destination, where so many probes a hop are sent:
/// one alone may be a challenge ACK or a keepalive that came at a silent hop.
const DUPLICATE_ACKS: usize = 2;

impl Session {
    /// Writes an answer that came at `at` down and tells of it.
    pub(super) fn credit(&mut self, index: usize, at: Instant, answer: &Common<'_>) {
        let Some(slot) = self.probes.slot(index) else {
            return;
        };
        // Where a router discards at this TTL, or at a larger one, no probe of
        // this TTL reaches the peer: its duplicate ACK was for something else.
        if answer.kind == ReplyKind::DupAck && self.discarded_from(slot.ttl()) {
            return;
        }
        let rtt = self.probes.answer(index, at, answer);
        self.credited(index, slot.ttl(), answer, rtt);
    }

    /// It was written down: what follows from it.
    fn credited(&mut self, index: usize, ttl: u8, answer: &Common<'_>, rtt: u32) {
        let kind = answer.kind;
        // Most answers are time exceeded. They can only take a destination away,
        // and that not always; a SACK can only bring it nearer.
        let mut moved = kind != ReplyKind::TimeExceeded;
        if kind == ReplyKind::DupAck {
            self.flags.set(Flag::DupAcks);
        }
        if kind == ReplyKind::TimeExceeded {
            moved = self.discarded(ttl, answer.from);
        }
        if answer.bound == RttBound::Exact {
            self.schedule.saw_rtt(rtt);
        }
        self.schedule.answered(ttl, kind);
        self.push(Event::Answered(id(index)));
        if kind == ReplyKind::Sack && !self.has(Flag::DupAcks) {
            if self.schedule.destination().is_none_or(|known| ttl < known) {
                self.found(Some(ttl));
            }
        } else if moved {
            self.locate();
        }
    }

    /// What most packets of a flow are: a time exceeded as [`Exceeded`] reads it,
    /// of a probe that is neither the last in flight nor behind a destination.
    /// Gives the probe, if this packet is one; then all that follows from it is
    /// done, and no verdict can. Otherwise nothing is, and [`Session::handle_reply`]
    /// says what it means. Who reads [`Event::Answered`] calls
    /// [`Session::tell_answered`] behind it.
    #[inline(never)]
    pub fn handle_usual(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        packet: &[u8],
    ) -> Option<ProbeId> {
        let error = Exceeded::new(packet)?;
        // What was rewritten on the way is for the long way.
        let quoted_ttl = error.quoted_ttl();
        let same = error.traffic_class() == options.dscp << 2 && quoted_ttl <= 1;
        let same = same && error.is_stamped() == self.connection.has_timestamps();
        if !same || !self.has_ends(&error.ends()) {
            return None;
        }
        let ttls = (error.ttl(), Some(quoted_ttl));
        let (from, sequence) = (error.from(), error.sequence());
        self.exceeded(options, at, from, sequence, ttls, 0)
    }

    /// A probe was answered that nobody was told of.
    pub fn tell_answered(&mut self, probe: ProbeId) {
        self.push(Event::Answered(probe));
    }

    /// The parts of its record that the next answer will most likely touch, beside
    /// the session itself: to have them fetched into the cache in time.
    #[must_use]
    #[inline]
    pub fn next_cells(&self) -> [Option<&impl Sized>; 2] {
        self.probes.next_cells()
    }

    /// The same of what was read by the long way, which may have been rewritten.
    #[inline(never)]
    pub(super) fn is_usual(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        error: &IcmpError,
    ) -> bool {
        let IpAddr::V4(from) = error.from else {
            return false;
        };
        // Others are not named by a sequence number, or not compared in the same way.
        if error.quote.alone.is_some() || self.has(Flag::Alone) {
            return false;
        }
        if error.kind != IcmpKind::TimeExceeded || error.icmp_code != 0 || !error.mpls.is_empty() {
            return false;
        }
        let ttls = (error.ttl, Some(error.quote.ttl));
        let Ok(rewrites) = u16::try_from(self.rewrites(options, error)) else {
            return false;
        };
        let sequence = error.quote.sequence;
        let answered = self.exceeded(options, at, from, sequence, ttls, rewrites);
        if let Some(probe) = answered {
            self.tell_answered(probe);
        }
        answered.is_some()
    }

    /// Whether a time exceeded is an answer, and nothing else.
    #[inline]
    pub(super) fn is_as_usual(&self) -> bool {
        self.connection.phase == Phase::Open
            && self.schedule.is_usual()
            && !self.flags.has_any([Flag::Ended, Flag::Left, Flag::DupAcks])
    }

    /// A time exceeded of this probe, from an IPv4 router on the way to a
    /// destination that is not found yet: credits it, unless there is more to be
    /// thought of.
    #[inline(always)]
    fn exceeded(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        from: Ipv4Addr,
        sequence: u32,
        ttls: (u8, Option<u8>),
        rewrites: u16,
    ) -> Option<ProbeId> {
        let usual = self.schedule.swift() != 0 || self.is_as_usual();
        // It is not the last in flight: some answer is awaited yet.
        if !usual || self.probes.in_flight() < 2 || self.is_target(from) {
            return None;
        }
        let index = self.probes.find_current(sequence)?;
        let slot = self.probes.slot(index).filter(|slot| slot.is_short())?;
        let (kind, bound) = (ReplyKind::TimeExceeded, RttBound::Exact);
        let head = Head::short(from, kind, bound, 0, ttls, rewrites);
        let ttl = slot.ttl();
        let fresh = ttl > self.schedule.farthest();
        let rtt = self.probes.answer_short(index, slot, at, head, fresh)?;
        self.schedule.linger();
        self.discarded_to = self.discarded_to.max(ttl);
        self.schedule.saw_rtt(rtt);
        if self.schedule.answered(ttl, kind) {
            self.schedule.renew(options);
        }
        Some(id(index))
    }

    /// A router discarded a probe with this TTL; whether that can take the
    /// destination away.
    #[inline]
    fn discarded(&mut self, ttl: u8, from: IpAddr) -> bool {
        self.discarded_to = self.discarded_to.max(ttl);
        // Only a peer that names nothing has any.
        if self.schedule.is_unnamed() {
            self.doubt_duplicate_acks(ttl);
        }
        // It lets packets by: what it said of others was said of a moment.
        if self
            .schedule
            .unreachable()
            .is_some_and(|known| known <= ttl)
        {
            self.schedule.set_unreachable(None);
            self.rare_mut().unreachable_by = None;
        }
        let nat = !self.has(Flag::BehindNat) && from == self.target();
        if nat {
            self.flags.set(Flag::BehindNat);
        }
        (nat || self.has(Flag::DupAcks)) && self.schedule.destination().is_some()
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
        if nearest != self.schedule.destination() {
            self.found(nearest);
        }
    }

    /// The destination is there, as far as is known now.
    fn found(&mut self, nearest: Option<u8>) {
        self.schedule.set_destination(nearest);
        if let Some(ttl) = nearest {
            self.push(Event::Destination(ttl));
            // A stray at a silent hop before it.
            self.doubt_duplicate_acks(ttl.saturating_sub(1));
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
            ReplyKind::SynAck | ReplyKind::EchoReply | ReplyKind::UdpReply => true,
            ReplyKind::Rst => self.has(Flag::Alone),
            ReplyKind::Unreachable if self.is_closed_port(from, code) => true,
            ReplyKind::Unreachable if from == self.target() => {
                let of_others = match from {
                    // RFC 792: network, host; RFC 1122 §3.2.2.1: network, host unknown.
                    IpAddr::V4(_) => matches!(code, 0 | 1 | 6 | 7),
                    // RFC 4443 §3.1: no route, address unreachable.
                    IpAddr::V6(_) => matches!(code, 0 | 3),
                };
                !of_others && !self.has(Flag::BehindNat)
            }
            _ => false,
        }
    }

    /// Whether a router discarded a probe of this TTL or a larger one.
    pub(super) fn discarded_from(&self, ttl: u8) -> bool {
        self.discarded_to >= ttl
    }

    /// Takes back what duplicate ACKs were credited with up to this TTL.
    pub(super) fn doubt_duplicate_acks(&mut self, ttl: u8) {
        if !self.has(Flag::DupAcks) {
            return;
        }
        for index in self.probes.take_back(ReplyKind::DupAck, ttl) {
            self.push(Event::Lost(id(index)));
        }
    }
}
