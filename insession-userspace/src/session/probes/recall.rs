//! Probes and their answers as the record has them.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::super::cells::{self, Cell, Slot};
use super::{Probes, TICK, bit};
use crate::time::Duration;
use crate::trace::{Hop, Probe, Reply, ReplyKind, Rewrite};

impl Probes {
    /// For the record.
    pub(in crate::session) fn record(&self, index: usize) -> Option<(u8, Probe)> {
        let slot = self.slot(index)?;
        Some((slot.ttl(), self.probe(slot)))
    }

    /// All of them, by rising TTL, for `hops` hops or so.
    pub(in crate::session) fn hops(&self, hops: usize) -> Vec<Hop> {
        let mut out: Vec<Hop> = Vec::with_capacity(hops);
        let mut left = self.cells.get(..usize::from(self.len)).unwrap_or_default();
        // Probes of a hop follow one another mostly, and so do the hops.
        while let Some(first) = left.first() {
            let ttl = Slot::from(*first).ttl();
            let others = |cell: &Cell| Slot::from(*cell).ttl() != ttl;
            let run = left.iter().position(others).unwrap_or(left.len());
            let (run, rest) = left.split_at(run);
            left = rest;
            let probes = run.iter().map(|cell| self.probe(Slot::from(*cell)));
            if out.last().is_none_or(|last| last.ttl < ttl) {
                let probes = probes.collect();
                out.push(Hop { ttl, probes });
                continue;
            }
            match out.binary_search_by_key(&ttl, |hop| hop.ttl) {
                Ok(at) => out[at].probes.extend(probes),
                Err(at) => {
                    let probes = probes.collect();
                    out.insert(at, Hop { ttl, probes });
                }
            }
        }
        out
    }

    #[inline(always)]
    fn probe(&self, slot: Slot) -> Probe {
        if !slot.is_wide() && !slot.is_answered() {
            return Probe {
                sent: span(slot.sent()),
                reply: None,
            };
        }
        // One cell holds nearly every answer.
        if !slot.is_wide()
            && let Some(cell) = self.at(slot.place()).and_then(<[Cell]>::first)
            && let Some((head, from)) = cells::single(*cell)
        {
            let kind = head.kind();
            return Probe {
                sent: span(slot.sent()),
                reply: Some(Reply {
                    kind,
                    from: IpAddr::V4(from),
                    name: None,
                    asn: None,
                    rtt: span(slot.rtt()),
                    rtt_bound: head.bound(),
                    icmp: icmp_type(kind, true).map(|number| (number, head.code())),
                    reply_ttl: Some(head.reply_ttl()),
                    quoted_ttl: head.quoted_ttl(),
                    mtu: None,
                    mpls: Vec::new(),
                    rewrites: match head.rewrites() {
                        0 => Vec::new(),
                        bits => rewrites(bits),
                    },
                }),
            };
        }
        self.probe_long(slot)
    }

    /// The same, however it was written down.
    #[inline(never)]
    fn probe_long(&self, slot: Slot) -> Probe {
        let reply = self.written(slot).map(|answer| {
            let (head, from) = (answer.head, answer.from());
            let kind = head.kind();
            let (mtu, mpls) = answer.rich();
            Reply {
                kind,
                from,
                name: None,
                asn: None,
                rtt: Duration::from_nanos(u64::from(self.rtt_ticks(slot)) * TICK),
                rtt_bound: head.bound(),
                icmp: icmp_type(kind, from.is_ipv4()).map(|number| (number, head.code())),
                reply_ttl: Some(head.reply_ttl()),
                quoted_ttl: head.quoted_ttl(),
                mtu,
                mpls,
                rewrites: rewrites(head.rewrites()),
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

fn rewrites(bits: u16) -> Vec<Rewrite> {
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
        (ReplyKind::Sack | ReplyKind::DupAck | ReplyKind::Rst, _) => return None,
    })
}
