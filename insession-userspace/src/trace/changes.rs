//! What changed on the way, and between which hops: read off the quotes of a whole
//! trace.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Hop, Reply, Rewrite};

/// Something that is not as it was sent from a hop on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub what: Changed,
    /// The smallest TTL at which it shows.
    pub first_ttl: u8,
    /// Who quoted it there.
    pub from: IpAddr,
    /// The largest TTL before at which a quote did not show it; `None` where none was
    /// seen.
    pub not_at_ttl: Option<u8>,
}

/// What is not as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Part of a packet.
    Rewritten(Rewrite),
    /// The NAT's identifier ([`Reply::nat`]) became another: this one.
    Nat(u16),
}

impl Changed {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Changed::Rewritten(rewrite) => rewrite.as_str(),
            Changed::Nat(_) => "nat",
        }
    }
}

/// By rising TTL: of each kind of rewriting the hop where it shows first, and every hop
/// where the NAT's identifier becomes another. Of hops behind `destination` there is
/// nothing to be said.
#[must_use]
pub fn changes(hops: &[Hop], destination: Option<u8>) -> Vec<Change> {
    let shown = || {
        let all = hops
            .iter()
            .filter(|hop| destination.is_none_or(|last| hop.ttl <= last));
        all.flat_map(|hop| {
            let replies = hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
            replies.map(|reply| (hop.ttl, reply))
        })
    };
    // Nearly all traces show nothing.
    let is_odd =
        |reply: &Reply| !reply.rewrites.is_empty() || reply.nat.is_some_and(|nat| nat != 0);
    if !shown().any(|(_, reply)| is_odd(reply)) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    // The identifier so far, and where it was seen last.
    let mut nat = (0, None);
    for (ttl, reply) in shown() {
        for rewrite in &reply.rewrites {
            let what = Changed::Rewritten(*rewrite);
            if changes.iter().all(|change: &Change| change.what != what) {
                let without = shown().filter(|(before, reply)| {
                    // Only an error quotes.
                    *before < ttl && reply.quoted_ttl.is_some() && !reply.rewrites.contains(rewrite)
                });
                changes.push(Change {
                    what,
                    first_ttl: ttl,
                    from: reply.from,
                    not_at_ttl: without.map(|(before, _)| before).max(),
                });
            }
        }
        let Some(seen) = reply.nat else {
            continue;
        };
        if seen != nat.0 {
            changes.push(Change {
                what: Changed::Nat(seen),
                first_ttl: ttl,
                from: reply.from,
                not_at_ttl: nat.1,
            });
        }
        nat = (seen, Some(ttl));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{answered, silent};
    use crate::time::Duration;
    use crate::trace::{Probe, ReplyKind};

    fn hop(ttl: u8, replies: &[(&[Rewrite], Option<u16>)]) -> Hop {
        let probe = |(rewrites, nat): &(&[Rewrite], Option<u16>)| Probe {
            sent: Duration::ZERO,
            reply: Some(Reply {
                rewrites: rewrites.to_vec(),
                nat: *nat,
                quoted_ttl: Some(1),
                ..answered(ReplyKind::TimeExceeded, &format!("10.0.{ttl}.1"))
            }),
        };
        Hop::new(ttl, replies.iter().map(probe).collect())
    }

    fn change(what: Changed, first_ttl: u8, not_at_ttl: Option<u8>) -> Change {
        let from = format!("10.0.{first_ttl}.1").parse().unwrap();
        Change {
            what,
            first_ttl,
            from,
            not_at_ttl,
        }
    }

    #[test]
    fn each_kind_is_found_where_it_shows_first() {
        let (dscp, mss) = (Rewrite::Dscp, Rewrite::Mss);
        let hops = [
            hop(1, &[(&[], None)]),
            Hop::new(2, vec![silent(2)]),
            // One of two ways at this hop.
            hop(3, &[(&[], None), (&[dscp], None)]),
            hop(4, &[(&[dscp, mss], None)]),
            hop(5, &[(&[mss], None)]),
        ];
        let found = [
            change(Changed::Rewritten(dscp), 3, Some(1)),
            change(Changed::Rewritten(mss), 4, Some(3)),
        ];
        assert_eq!(changes(&hops, None), found);
        assert_eq!(changes(&hops, Some(3)), found[..1]);
        assert_eq!(changes(&hops, Some(2)), []);
    }

    #[test]
    fn what_answers_without_a_quote_shows_nothing() {
        let mut first = hop(1, &[(&[], None)]);
        if let Some(reply) = &mut first.probes[0].reply {
            reply.quoted_ttl = None;
        }
        let hops = [first, hop(2, &[(&[Rewrite::Source], None)])];
        let expected = change(Changed::Rewritten(Rewrite::Source), 2, None);
        assert_eq!(changes(&hops, None), [expected]);
    }

    #[test]
    fn every_other_identifier_is_a_nat() {
        let hops = [
            hop(1, &[(&[], Some(0))]),
            hop(2, &[(&[], None)]),
            hop(3, &[(&[], Some(7)), (&[], Some(7))]),
            hop(4, &[(&[], Some(7))]),
            hop(5, &[(&[], Some(0))]),
        ];
        let expected = [
            change(Changed::Nat(7), 3, Some(1)),
            change(Changed::Nat(0), 5, Some(4)),
        ];
        assert_eq!(changes(&hops, None), expected);
        assert_eq!(changes(&hops[..2], None), []);
    }
}
