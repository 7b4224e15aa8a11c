//! A record as walks: the n-th probe of every TTL, one behind the other, as the
//! columns of a traceroute are read.

use std::net::IpAddr;

use serde::Serialize;

use crate::trace::{Reply, Trace};

/// Who answered: a router, or the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// From where.
    pub address: IpAddr,
    /// It is the destination: an address alone does not tell, since routers behind a
    /// destination NAT answer from the target's.
    pub destination: bool,
}

/// Who answered, and at which TTL.
pub type Place = (u8, Node);

/// Who answered by TTL: the first is TTL 1. Without silences at its end, and with
/// nothing behind the destination.
pub type Walk = Vec<Option<Node>>;

/// Who sent this reply to a probe of this TTL.
#[must_use]
pub fn node(trace: &Trace, ttl: u8, reply: &Reply) -> Node {
    let arrived = trace.destination_ttl.is_some_and(|least| ttl >= least);
    Node {
        address: reply.from,
        destination: reply.kind.is_of_target() || (arrived && Some(reply.from) == trace.address),
    }
}

/// The last TTL of a record that says something of its way: the destination's, else
/// the last that was probed.
#[must_use]
pub fn end(trace: &Trace) -> u8 {
    let probed = trace.hops.iter().rev().find(|hop| !hop.probes.is_empty());
    let probed = probed.map_or(0, |hop| hop.ttl);
    trace.destination_ttl.map_or(probed, |ttl| ttl.min(probed))
}

/// The walks of a record, one a column; hops that are another's (`shared`) are silent.
#[must_use]
pub fn walks(trace: &Trace) -> Vec<Walk> {
    let end = end(trace);
    let hops = || {
        let own = |hop: &&crate::trace::Hop| hop.ttl >= 1 && hop.ttl <= end && !hop.shared;
        trace.hops.iter().filter(own)
    };
    let columns = hops().map(|hop| hop.probes.len()).max().unwrap_or(0);
    let mut walks = vec![vec![None; usize::from(end)]; columns];
    for hop in hops() {
        for (walk, probe) in walks.iter_mut().zip(&hop.probes) {
            let at = usize::from(hop.ttl) - 1;
            if let (Some(place), Some(reply)) = (walk.get_mut(at), &probe.reply) {
                *place = Some(node(trace, hop.ttl, reply));
            }
        }
    }
    walks.iter_mut().for_each(trim);
    walks
}

/// Cuts what is behind the destination, and silences at the end.
fn trim(walk: &mut Walk) {
    let arrived = walk
        .iter()
        .position(|node| node.is_some_and(|node| node.destination));
    let answered = walk.iter().rposition(Option::is_some);
    let length = arrived.or(answered).map_or(0, |last| last + 1);
    walk.truncate(length);
}

/// The lines that are drawn for a walk: between who answered at one TTL and who
/// answered at the next, with the TTL of the first.
pub fn links(walk: &Walk) -> impl Iterator<Item = (u8, Node, Node)> + '_ {
    walk.windows(2)
        .zip(1..)
        .filter_map(|(pair, ttl)| match *pair {
            [Some(from), Some(to)] => Some((ttl, from, to)),
            _ => None,
        })
}

/// The silences of a walk that have an answer before and behind them: both, and their
/// TTLs.
pub fn gaps(walk: &Walk) -> impl Iterator<Item = (Place, Place)> + '_ {
    let answered = || {
        let numbered = (1..).zip(walk.iter());
        numbered.filter_map(|(ttl, node)| Some((ttl, (*node)?)))
    };
    answered()
        .zip(answered().skip(1))
        .filter(|((before, _), (behind, _)): &(Place, Place)| behind - before > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{Made, router, target};
    use crate::trace::Method;

    #[test]
    fn columns_are_read_downwards_and_end_at_the_destination() {
        let trace = Made::new(Method::Icmp)
            .hop(&["a", "b"])
            .hop(&["", "c"])
            .hop(&["d", "!"])
            .hop(&["!", ""])
            .reached(3)
            .trace();
        let walks = walks(&trace);
        assert_eq!(
            walks,
            [
                vec![Some(router("a")), None, Some(router("d"))],
                vec![Some(router("b")), Some(router("c")), Some(target())],
            ]
        );
        assert_eq!(
            links(&walks[1]).collect::<Vec<_>>(),
            [(1, router("b"), router("c")), (2, router("c"), target())]
        );
        assert_eq!(links(&walks[0]).count(), 0);
        assert_eq!(
            gaps(&walks[0]).collect::<Vec<_>>(),
            [((1, router("a")), (3, router("d")))]
        );
    }

    #[test]
    fn silence_at_the_end_is_no_part_of_a_walk() {
        let trace = Made::new(Method::Udp)
            .hop(&["a"])
            .hop(&[""])
            .hop(&[""])
            .trace();
        assert_eq!(end(&trace), 3);
        assert_eq!(walks(&trace), [vec![Some(router("a"))]]);
        assert!(walks(&Made::new(Method::Udp).trace()).is_empty());
    }

    #[test]
    fn routers_behind_a_nat_that_answer_for_the_target_are_not_it() {
        let mut trace = Made::new(Method::InSession)
            .hop(&["a"])
            .hop(&["a"])
            .hop(&["!"])
            .reached(3)
            .trace();
        let address = trace.address.unwrap();
        for hop in &mut trace.hops[..2] {
            hop.probes[0].reply.as_mut().unwrap().from = address;
        }
        let walk = walks(&trace).remove(0);
        let destinations: Vec<bool> = walk.iter().map(|node| node.unwrap().destination).collect();
        assert_eq!(destinations, [false, false, true]);
    }
}
