//! What an ICMP error tells.

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use super::connection::Phase;
use super::learn::Offset;
use super::probes::{Answer, Fate, bit};
use super::{IcmpError, IcmpKind, Quote, Session, SessionOptions};
use crate::time::Instant;
use crate::trace::{ReplyKind, Rewrite, RttBound, Verdict};

impl Session {
    pub(super) fn icmp(&mut self, options: &SessionOptions, at: Instant, error: &IcmpError) {
        let sequence = error.quote.sequence;
        if self.connection.phase == Phase::Opening
            && self.connection.iss == Some(sequence)
            && error.kind == IcmpKind::Unreachable
        {
            // Linux aborts connect() on it as well (tcp_v4_err, TCP_SYN_SENT).
            let detail = unreachable(error.icmp_code, error.from);
            self.opening_failed(options, at, Verdict::Unreachable, Some(detail));
            return;
        }
        if let Some(index) = self.probes.find(sequence) {
            self.answered_by_router(options, at, error, index, false);
        } else if !self.is_control(sequence) {
            self.foreign_sequence(options, at, error);
        }
    }

    /// Whether it is the sequence number of a SYN, ACK, FIN or RST of ours.
    pub(super) fn is_control(&self, sequence: u32) -> bool {
        let bases = [
            self.connection.iss.map(|_| self.connection.snd_una()),
            self.probes.previous_base(),
        ];
        bases
            .into_iter()
            .flatten()
            .any(|base| sequence.wrapping_sub(base).wrapping_add(1) <= 2)
    }

    /// The quote holds a sequence number that we did not send.
    fn foreign_sequence(&mut self, options: &SessionOptions, at: Instant, error: &IcmpError) {
        // Before any probe there is nothing that it could be.
        if self.probes.len() == 0 {
            return;
        }
        match self.learn.quotes {
            Offset::Known(_) => {
                let ours = self.learn.quotes.undo(error.quote.sequence);
                if let Some(index) = ours.and_then(|ours| self.probes.find(ours)) {
                    self.answered_by_router(options, at, error, index, true);
                }
            }
            Offset::None | Offset::Seen => {
                self.learn.quotes = Offset::Seen;
                self.schedule.alone = true;
                if self.learn.keep_error(at, error) {
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
        let flying = self.probes.flying().count();
        self.schedule.accounted = flying.min(before + 1);
        let Some((latest, _)) = self.probes.flying().last() else {
            return;
        };
        // Alone in flight, or sent when all before it were accounted for.
        let meant = before == 0 || self.schedule.sent_alone;
        if !meant || flying > before + 1 {
            return;
        }
        let Some(ours) = self.probes.sequence(latest) else {
            return;
        };
        let offset = sequence.wrapping_sub(ours);
        let holds = self
            .learn
            .sequences()
            .all(|kept| self.probes.find(kept.wrapping_sub(offset)).is_some());
        if !holds {
            self.learn.quotes = Offset::Broken;
            self.learn.take_errors();
            self.schedule.offset_learnt(self.learn.sack == Offset::Seen);
            return;
        }
        self.learn.quotes = Offset::Known(offset);
        self.schedule.offset_learnt(self.learn.sack == Offset::Seen);
        for (at, error) in self.learn.take_errors() {
            let ours = error.quote.sequence.wrapping_sub(offset);
            if let Some(index) = self.probes.find(ours) {
                self.answered_by_router(options, at, &error, index, true);
            }
        }
    }

    fn answered_by_router(
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
        let ttl = slot.ttl;
        match slot.fate {
            Fate::Flying => {}
            // It was not told before, because it could not be read before.
            Fate::Lost if rewritten => {}
            // A duplicate ACK names no probe. Should it have been for another
            // one, the router that names this one is right.
            Fate::Answered(ReplyKind::DupAck, _) if error.kind == IcmpKind::TimeExceeded => {}
            Fate::Lost | Fate::Answered(..) => return,
        }
        let (kind, mtu) = match error.kind {
            IcmpKind::TimeExceeded => (ReplyKind::TimeExceeded, None),
            IcmpKind::Unreachable => (ReplyKind::Unreachable, None),
            IcmpKind::PacketTooBig { mtu } => (ReplyKind::PacketTooBig, Some(mtu)),
        };
        let mut rewrites = self.rewrites(options, error);
        if rewritten {
            rewrites |= bit(Rewrite::Sequence);
        }
        self.credit(
            index,
            &Answer {
                kind,
                bound: RttBound::Exact,
                from: error.from,
                at,
                code: error.icmp_code,
                reply_ttl: error.ttl,
                quoted_ttl: Some(error.quote.ttl),
                mtu,
                mpls: &error.mpls,
                rewrites,
            },
        );
        let nearer = self.schedule.unreachable.is_none_or(|known| ttl < known);
        if kind == ReplyKind::Unreachable
            && nearer
            && !self.is_from_destination(kind, error.from, error.icmp_code)
            && !self.discarded_from(ttl)
        {
            self.schedule.unreachable = Some(ttl);
            self.unreachable_by = Some((error.icmp_code, error.from));
        }
    }

    /// What the quote shows changed between us and the router, as bits.
    fn rewrites(&self, options: &SessionOptions, error: &IcmpError) -> u16 {
        let Quote {
            source,
            destination,
            ttl,
            traffic_class,
            checksum_bad,
            ..
        } = error.quote;
        let (local, remote) = (self.flow.local, self.flow.remote);
        let covered = [
            (source.ip() != local.ip(), Rewrite::Source),
            (source.port() != local.port(), Rewrite::SourcePort),
            (destination.ip() != remote.ip(), Rewrite::Destination),
            (
                destination.port() != remote.port(),
                Rewrite::DestinationPort,
            ),
        ];
        // A router that discards at TTL 1 quotes 1, one that decrements first 0.
        // Other errors come at any TTL.
        let odd_ttl = error.kind == IcmpKind::TimeExceeded && ttl > 1;
        // A NAT that forgot the checksum shows in what it rewrote.
        let odd_checksum =
            checksum_bad == Some(true) && covered.iter().all(|(changed, _)| !changed);
        let rest = [
            (traffic_class >> 2 != options.dscp, Rewrite::Dscp),
            (traffic_class & 0b11 != 0, Rewrite::Ecn),
            (odd_ttl, Rewrite::Ttl),
            (odd_checksum, Rewrite::Checksum),
        ];
        covered
            .iter()
            .chain(&rest)
            .filter(|(changed, _)| *changed)
            .fold(0, |bits, (_, rewrite)| bits | bit(*rewrite))
    }
}

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
