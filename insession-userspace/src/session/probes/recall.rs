//! Probes and their answers as the record has them.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use super::super::cells::{self, Cell, Head, Slot};
use super::{Probes, TICK, bit};
use crate::time::Duration;
use crate::trace::{Hop, Probe, Reply, ReplyKind, Rewrite};
use crate::wire::icmp;

impl Probes {
    /// For the record.
    pub(in crate::session) fn record(&self, index: usize) -> Option<(u8, Probe)> {
        let slot = self.slot(index)?;
        Some((slot.ttl(), self.probe(slot)))
    }

    /// All of them, by rising TTL, for `hops` hops or so; and the longest round-trip
    /// time.
    pub(in crate::session) fn hops(&self, hops: usize) -> (Vec<Hop>, Option<Duration>) {
        let mut longest = None;
        let mut out: Vec<Hop> = Vec::with_capacity(hops);
        let mut left = self.cells.get(..usize::from(self.len)).unwrap_or_default();
        // Probes of a hop follow one another mostly, and so do the hops.
        while let Some(first) = left.first() {
            let ttl = Slot::from(*first).ttl();
            let others = |cell: &Cell| Slot::from(*cell).ttl() != ttl;
            let run = left.iter().position(others).unwrap_or(left.len());
            let (run, rest) = left.split_at(run);
            left = rest;
            let at = match out.last() {
                Some(last) if last.ttl >= ttl => out.binary_search_by_key(&ttl, |hop| hop.ttl),
                _ => Err(out.len()),
            };
            let at = at.unwrap_or_else(|at| {
                let probes = Vec::with_capacity(run.len());
                out.insert(at, Hop::new(ttl, probes));
                at
            });
            longest = longest.max(self.recall(run, &mut out[at].probes));
        }
        (out, longest)
    }

    /// Those of a hop; and the longest round-trip time.
    fn recall(&self, run: &[Cell], out: &mut Vec<Probe>) -> Option<Duration> {
        let (begin, mut longest, mut others) = (out.len(), 0, false);
        // Nearly always the same for all of them. No place is 0.
        let mut last = (0, None);
        // Nearly every answer is a router's, and one cell holds it.
        out.extend(run.iter().map(|cell| {
            let slot = Slot::from(*cell);
            if !slot.is_answered_short() {
                last = (0, None);
            } else if slot.place() != last.0 {
                last = (slot.place(), self.exceeded(slot));
            }
            let (_, answer) = last;
            others |= answer.is_none();
            longest = slot.rtt().max(longest);
            let (head, from) = answer.unwrap_or(cells::NOBODY);
            Probe {
                sent: span(slot.sent()),
                reply: Some(Reply {
                    kind: ReplyKind::TimeExceeded,
                    from: IpAddr::V4(from),
                    name: None,
                    owner: None,
                    rtt: span(slot.rtt()),
                    rtt_bound: head.bound(),
                    icmp: Some((icmp::V4_TIME_EXCEEDED, head.code())),
                    reply_ttl: Some(head.reply_ttl()),
                    quoted_ttl: head.quoted_ttl(),
                    mtu: None,
                    mpls: Vec::new(),
                    rewrites: Vec::new(),
                    nat: None,
                }),
            }
        }));
        if !others {
            return Some(span(longest));
        }
        // What was taken for one and is none.
        let probes = out.get_mut(begin..).unwrap_or_default();
        for (cell, probe) in run.iter().zip(&mut *probes) {
            let slot = Slot::from(*cell);
            if self.exceeded(slot).is_none() {
                *probe = self.probe(slot);
            }
        }
        let replies = probes.iter().filter_map(|probe| probe.reply.as_ref());
        replies.map(|reply| reply.rtt).max()
    }

    /// What answered, where it was an IPv4 router that saw nothing rewritten.
    #[inline]
    fn exceeded(&self, slot: Slot) -> Option<(Head, Ipv4Addr)> {
        if slot.is_wide() || !slot.is_answered() {
            return None;
        }
        cells::exceeded(*self.at(slot.place())?.first()?)
    }

    /// The same, however it was written down.
    #[inline(never)]
    fn probe(&self, slot: Slot) -> Probe {
        let reply = self.written(slot).map(|answer| {
            let (head, from) = (answer.head, answer.from());
            let kind = head.kind();
            let rich = answer.rich();
            let rewrites = rewrites(answer.rewrites(&rich));
            Reply {
                kind,
                from,
                name: None,
                owner: None,
                rtt: Duration::from_nanos(u64::from(self.rtt_ticks(slot)) * TICK),
                rtt_bound: head.bound(),
                icmp: icmp_type(kind, from.is_ipv4()).map(|number| (number, head.code())),
                reply_ttl: Some(head.reply_ttl()),
                quoted_ttl: head.quoted_ttl(),
                mtu: rich.mtu,
                mpls: rich.mpls,
                rewrites,
                nat: rich.nat,
            }
        });
        let sent = Duration::from_nanos(self.sent_ticks(slot) * TICK);
        Probe { sent, reply }
    }
}

/// So many [`TICK`]s, in fewer steps than of 64 bits.
#[inline]
fn span(ticks: u32) -> Duration {
    const SECOND: u32 = (1_000_000_000 / TICK) as u32;
    Duration::new(u64::from(ticks / SECOND), ticks % SECOND * TICK as u32)
}

fn rewrites(bits: u32) -> Vec<Rewrite> {
    if bits == 0 {
        return Vec::new();
    }
    Rewrite::ALL
        .into_iter()
        .filter(|rewrite| bits & bit(*rewrite) != 0)
        .collect()
}

/// Type numbers as on the wire (RFC 792, RFC 4443): each kind has one a family.
const fn icmp_type(kind: ReplyKind, v4: bool) -> Option<u8> {
    Some(match (kind, v4) {
        (ReplyKind::TimeExceeded, true) => 11,
        (ReplyKind::TimeExceeded, false) => 3,
        (ReplyKind::Unreachable, true) => 3,
        (ReplyKind::Unreachable, false) => 1,
        (ReplyKind::PacketTooBig, true) => 3,
        (ReplyKind::PacketTooBig, false) => 2,
        (ReplyKind::EchoReply, true) => 0,
        (ReplyKind::EchoReply, false) => 129,
        _ => return None,
    })
}
