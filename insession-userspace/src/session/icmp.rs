//! What an ICMP error tells.

use alloc::format;
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};

use super::cells::Common;
use super::connection::Phase;
use super::learn::Offset;
use super::probes::{Fate, bit};
use super::seen::when;
use super::state::Flag;
use super::{Flow, IcmpError, IcmpKind, Quote, Session, SessionOptions};
use crate::time::Instant;
use crate::trace::{ReplyKind, Rewrite, RttBound, Verdict};

impl Session {
    pub(super) fn icmp(&mut self, options: &SessionOptions, at: Instant, error: &IcmpError) {
        if self.has(Flag::Alone) {
            return self.icmp_to_alone(options, at, error);
        }
        if self.has(Flag::Extra) && self.icmp_to_long(error) {
            return;
        }
        let sequence = error.quote.sequence;
        if self.connection.phase == Phase::Opening
            && self.connection.iss == sequence
            && error.kind == IcmpKind::Unreachable
        {
            // Linux aborts connect() on it as well (tcp_v4_err, TCP_SYN_SENT).
            let detail = unreachable(error.icmp_code, error.from);
            self.opening_failed(options, at, Verdict::Unreachable, Some(detail));
            return;
        }
        if let Some(index) = self.find(sequence) {
            self.answered_by_router(options, at, error, index, false);
        } else if !self.is_control(sequence) && !self.is_adopted() {
            // In a connection of others, what is not ours is theirs.
            self.foreign_sequence(options, at, error);
        }
    }

    /// Whether it is the sequence number of a SYN, ACK, FIN or RST of ours.
    pub(super) fn is_control(&self, sequence: u32) -> bool {
        let bases = [
            Some(self.connection.snd_una()),
            self.previous().map(|span| span.base),
        ];
        bases
            .into_iter()
            .flatten()
            .any(|base| sequence.wrapping_sub(base).wrapping_add(1) <= 2)
            || self.is_said(sequence)
    }

    /// The quote holds a sequence number that we did not send.
    fn foreign_sequence(&mut self, options: &SessionOptions, at: Instant, error: &IcmpError) {
        // Before any probe there is nothing that it could be.
        if self.probes.len() == 0 {
            return;
        }
        match self.quotes() {
            Offset::Known(offset) => {
                let ours = error.quote.sequence.wrapping_sub(offset);
                if let Some(index) = self.find(ours) {
                    self.answered_by_router(options, at, error, index, true);
                }
            }
            Offset::None | Offset::Seen => {
                self.schedule.go_alone();
                let learn = self.learn_mut();
                learn.quotes = Offset::Seen;
                if learn.keep_error(at, error) {
                    self.learn_from_quote(options, error.quote.sequence);
                }
            }
            Offset::Broken => {}
        }
    }

    /// Where all others in flight are accounted for by kept errors, this one is
    /// the latest probe's.
    fn learn_from_quote(&mut self, options: &SessionOptions, sequence: u32) {
        let before = self.schedule.accounted;
        let flying = self.probes.in_flight() as u16;
        self.schedule.accounted = flying.min(before.saturating_add(1));
        let Some((latest, _)) = self.probes.flying().last() else {
            return;
        };
        // Alone in flight, or sent when all before it were accounted for.
        let meant = before == 0 || self.schedule.sent_alone();
        if !meant || flying > before.saturating_add(1) {
            return;
        }
        let Some(ours) = self.probes.sequence(latest) else {
            return;
        };
        let offset = sequence.wrapping_sub(ours);
        let holds = self.learn().is_some_and(|learn| {
            let mut kept = learn.sequences();
            kept.all(|kept| self.find(kept.wrapping_sub(offset)).is_some())
        });
        let unread = self.edges() == Offset::Seen;
        self.schedule.offset_learnt(unread);
        let learn = self.learn_mut();
        let errors = learn.take_errors();
        if !holds {
            learn.quotes = Offset::Broken;
            return;
        }
        learn.quotes = Offset::Known(offset);
        for (at, error) in errors {
            let ours = error.quote.sequence.wrapping_sub(offset);
            if let Some(index) = self.find(ours) {
                self.answered_by_router(options, at, &error, index, true);
            }
        }
    }

    pub(super) fn answered_by_router(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        error: &IcmpError,
        index: usize,
        rewritten: bool,
    ) {
        let Some(slot) = self.probes.slot(index) else {
            return;
        };
        let ttl = slot.ttl();
        match self.probes.fate(slot) {
            Fate::Flying => {}
            // It was not told before, because it could not be read before.
            Fate::Lost if rewritten => {}
            // A duplicate ACK names no probe. Should it have been for another
            // one, the router that names this one is right.
            Fate::Answered(ReplyKind::DupAck) if error.kind == IcmpKind::TimeExceeded => {}
            Fate::Lost | Fate::Answered(_) => return,
        }
        let (kind, mtu) = match error.kind {
            IcmpKind::TimeExceeded => (ReplyKind::TimeExceeded, None),
            IcmpKind::Unreachable => (ReplyKind::Unreachable, None),
            IcmpKind::PacketTooBig { mtu } => (ReplyKind::PacketTooBig, Some(mtu)),
        };
        let (mut rewrites, nat) = match self.has(Flag::Alone) {
            true => {
                let changed = self.other_alone(&error.quote, index);
                let rewrites = self.rewritten(options, error, changed);
                (rewrites, self.nat(&error.quote, index))
            }
            false => (self.rewrites(options, error), None),
        };
        if rewritten {
            rewrites |= bit(Rewrite::Sequence);
        }
        self.credit(
            index,
            at,
            &Common {
                kind,
                bound: RttBound::Exact,
                from: error.from,
                code: error.icmp_code,
                reply_ttl: error.ttl,
                quoted_ttl: Some(error.quote.ttl),
                mtu,
                mpls: &error.mpls,
                rewrites,
                nat,
            },
        );
        if kind == ReplyKind::Unreachable
            && self.schedule.unreachable().is_none_or(|known| ttl < known)
            && !self.is_from_destination(kind, error.from, error.icmp_code)
            && !self.discarded_from(ttl)
        {
            self.schedule.set_unreachable(Some(ttl));
            self.rare_mut().unreachable_by = Some((error.icmp_code, error.from));
        }
    }

    /// What the quote of a session's probe shows changed between us and the router, as
    /// bits.
    #[inline]
    pub(super) fn rewrites(&self, options: &SessionOptions, error: &IcmpError) -> u32 {
        let Quote {
            source,
            destination,
            ttl,
            traffic_class,
            checksum_bad,
            ref seen,
            ..
        } = error.quote;
        let changed = self.changed_in_session(seen);
        let same = traffic_class == options.dscp << 2 && ttl <= 1 && checksum_bad != Some(true);
        if same && self.is_between(&source, &destination) {
            return changed;
        }
        let ends = self.other_ends(source, destination);
        self.rewritten(options, error, changed | ends)
    }

    /// What is `changed`, and what can be in any packet.
    #[inline(never)]
    fn rewritten(&self, options: &SessionOptions, error: &IcmpError, changed: u32) -> u32 {
        let Quote {
            ttl,
            traffic_class,
            checksum_bad,
            ..
        } = error.quote;
        // A router that discards at TTL 1 quotes 1, one that decrements first 0.
        // Other errors come at any TTL.
        let odd_ttl = error.kind == IcmpKind::TimeExceeded && ttl > 1;
        // A NAT that forgot the checksum shows in what it rewrote.
        let odd_checksum = checksum_bad == Some(true) && changed & ENDS == 0;
        changed
            | when(traffic_class >> 2 != options.dscp, Rewrite::Dscp)
            | when(traffic_class & 0b11 != 0, Rewrite::Ecn)
            | when(odd_ttl, Rewrite::Ttl)
            | when(odd_checksum, Rewrite::Checksum)
    }

    /// What of these ends is not the flow's.
    fn other_ends(&self, source: SocketAddr, destination: SocketAddr) -> u32 {
        let Flow { local, remote } = self.flow();
        when(source.ip() != local.ip(), Rewrite::Source)
            | when(source.port() != local.port(), Rewrite::SourcePort)
            | when(destination.ip() != remote.ip(), Rewrite::Destination)
            | when(
                destination.port() != remote.port(),
                Rewrite::DestinationPort,
            )
    }
}

/// What NATs rewrite.
const ENDS: u32 = bit(Rewrite::Source)
    | bit(Rewrite::SourcePort)
    | bit(Rewrite::Destination)
    | bit(Rewrite::DestinationPort);

/// An unreachable in words, with traceroute's letter.
pub(super) fn unreachable(code: u8, from: IpAddr) -> String {
    // RFC 792 and RFC 1812 §5.2.7.1; RFC 4443 §3.1.
    let (words, letter) = match (from.is_ipv4(), code) {
        (true, 0) => ("network unreachable", "!N"),
        (true, 1) => ("host unreachable", "!H"),
        (true, 2) => ("protocol unreachable", "!P"),
        (true, 3) => ("port unreachable", "!p"),
        (true, 5) => ("source route failed", "!S"),
        (true, 6) => ("network unknown", "!U"),
        (true, 7) => ("host unknown", "!W"),
        (true, 8) => ("source host isolated", "!I"),
        (true, 9) => ("network administratively prohibited", "!A"),
        (true, 10) => ("host administratively prohibited", "!Z"),
        (true, 11) => ("network unreachable for this type of service", "!Q"),
        (true, 12) => ("host unreachable for this type of service", "!T"),
        (true, 13) => ("communication administratively prohibited", "!X"),
        (true, 14) => ("host precedence violation", "!V"),
        (true, 15) => ("precedence cutoff in effect", "!C"),
        (false, 0) => ("no route to destination", "!N"),
        (false, 1) => ("communication administratively prohibited", "!X"),
        (false, 2) => ("beyond scope of source address", "!S"),
        (false, 3) => ("address unreachable", "!H"),
        (false, 4) => ("port unreachable", "!p"),
        (false, 5) => ("source address failed ingress/egress policy", "!X"),
        (false, 6) => ("reject route to destination", "!X"),
        _ => return format!("unreachable (!<{code}>, code {code}) from {from}"),
    };
    format!("{words} ({letter}, code {code}) from {from}")
}
