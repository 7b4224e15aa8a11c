//! Whose reply is it, when the flow map did not say.
//!
//! With steering by port range the map names no session at all: then the exact
//! flow does. When a quote was rewritten on the way: the quoted destination, else
//! the quoted local port, and in both cases the quoted sequence number.
//!
//! A sequence number alone would do no harm to few sessions, but a hundred
//! thousand of them own a considerable part of the 2^32 there are. A reply that
//! two sessions could claim belongs to neither.
//!
//! The three ways to a slot are hash chains threaded through arrays by slot; a
//! session's ends stand in the session alone ([`Known`]). Tables of heads are as
//! large as the run may need and never grow: a table of a million that is hashed
//! anew holds up every reply for as long as it takes. What of them is not
//! touched takes no memory.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::isn::Secret;
use crate::link::prefetch::prefetch;
use crate::session::{Flow, Quote};

/// No slot.
const NIL: u32 = u32::MAX;
/// log2 of the fewest and the most heads. More sessions than heads make chains
/// longer, nothing else.
const HEAD_BITS: (u32, u32) = (10, 20);

/// Sessions, as far as a lookup has to know them.
pub trait Known {
    /// The flow of the session in this slot; `None` when there is none.
    fn flow(&self, slot: u32) -> Option<Flow>;

    /// Whether the sequence number is that of a segment of its session.
    fn owns(&self, slot: u32, sequence: u32) -> bool;
}

/// Sessions (by slot) by their ends.
#[derive(Debug)]
pub struct Lookup {
    secret: Secret,
    /// By both ends.
    flows: Chains,
    /// By the remote end.
    remotes: Chains,
    /// By the local port.
    ports: Chains,
    range: RangeInclusive<u16>,
    len: usize,
}

impl Lookup {
    /// For flows whose local port is in `ports`, and about as many `sessions` at
    /// a time.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>, sessions: usize, secret: Secret) -> Self {
        let (fewest, most) = HEAD_BITS;
        let heads = sessions.clamp(1 << fewest, 1 << most).next_power_of_two();
        Lookup {
            secret,
            flows: Chains::new(heads),
            remotes: Chains::new(heads),
            ports: Chains::new(ports.len()),
            range: ports,
            len: 0,
        }
    }

    /// Makes room for the slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        for chains in [&mut self.flows, &mut self.remotes, &mut self.ports] {
            if slots > chains.links.len() {
                chains.links.resize(slots, Link::OUT);
            }
        }
    }

    /// The flow is that of `slot`, for which room was made, and which has none.
    pub fn insert(&mut self, flow: &Flow, slot: u32) {
        let (both, remote, port) = self.heads(flow);
        self.flows.insert(both, slot);
        self.remotes.insert(remote, slot);
        if let Some(port) = port {
            self.ports.insert(port, slot);
        }
        self.len += 1;
    }

    /// The flow is that of `slot` no longer.
    pub fn remove(&mut self, flow: &Flow, slot: u32) {
        let (both, remote, port) = self.heads(flow);
        self.flows.remove(both, slot);
        self.remotes.remove(remote, slot);
        if let Some(port) = port {
            self.ports.remove(port, slot);
        }
        self.len -= 1;
    }

    /// The slot that has just this flow.
    #[must_use]
    pub fn find_flow(&self, flow: &Flow, known: &impl Known) -> Option<u32> {
        self.flows
            .slots(self.flow_head(flow))
            .find(|slot| known.flow(*slot).as_ref() == Some(flow))
    }

    /// The one slot that `quote` can be about.
    #[must_use]
    pub fn find(&self, quote: &Quote, known: &impl Known) -> Option<u32> {
        let only = |slots: Slots<'_>, is_meant: &dyn Fn(&Flow) -> bool| {
            let mut owners = slots.filter(|slot| {
                known.flow(*slot).as_ref().is_some_and(is_meant)
                    && known.owns(*slot, quote.sequence)
            });
            owners.next().filter(|_| owners.next().is_none())
        };
        let remote = self.remote_head(quote.destination);
        only(self.remotes.slots(remote), &|flow| {
            flow.remote == quote.destination
        })
        .or_else(|| {
            let port = self.port_head(quote.source.port())?;
            // A chain a port: nothing to compare.
            only(self.ports.slots(port), &|_| true)
        })
    }

    /// Whether no flow is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of memory it takes for a slot, and for a head.
    #[cfg(test)]
    pub(super) const fn octets() -> (usize, usize) {
        // Flows and remote ends have as many heads as there are slots; ports few.
        (3 * size_of::<Link>(), 2 * size_of::<u32>())
    }

    /// Has the links of a slot fetched into the cache.
    pub fn prefetch(&self, slot: u32) {
        for chains in [&self.flows, &self.remotes, &self.ports] {
            if let Some(link) = chains.links.get(slot as usize) {
                prefetch(link);
            }
        }
    }

    fn heads(&self, flow: &Flow) -> (usize, usize, Option<usize>) {
        (
            self.flow_head(flow),
            self.remote_head(flow.remote),
            self.port_head(flow.local.port()),
        )
    }

    fn flow_head(&self, flow: &Flow) -> usize {
        self.secret.flow_chain(flow) as usize & (self.flows.heads.len() - 1)
    }

    fn remote_head(&self, remote: SocketAddr) -> usize {
        self.secret.remote_chain(remote) as usize & (self.remotes.heads.len() - 1)
    }

    fn port_head(&self, port: u16) -> Option<usize> {
        self.range
            .contains(&port)
            .then(|| usize::from(port - self.range.start()))
    }
}

/// A slot's neighbours in its chain. The one before a chain's first is `NIL`.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

impl Link {
    const OUT: Link = Link {
        previous: NIL,
        next: NIL,
    };
}

/// Lists of slots, a slot in one at most. Doubly linked: a target that is traced
/// thousands of times at once makes a chain that long.
#[derive(Debug)]
struct Chains {
    /// The first slot and one, so that zeroed memory is empty chains.
    heads: Vec<u32>,
    links: Vec<Link>,
}

impl Chains {
    fn new(heads: usize) -> Self {
        Chains {
            heads: vec![0; heads],
            links: Vec::new(),
        }
    }

    fn insert(&mut self, chain: usize, slot: u32) {
        let Some(head) = self.heads.get_mut(chain) else {
            return;
        };
        let first = core::mem::replace(head, slot + 1).wrapping_sub(1);
        if let Some(link) = self.links.get_mut(slot as usize) {
            *link = Link {
                previous: NIL,
                next: first,
            };
        }
        if let Some(first) = self.links.get_mut(first as usize) {
            first.previous = slot;
        }
    }

    fn remove(&mut self, chain: usize, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else {
            return;
        };
        let Link { previous, next } = core::mem::replace(link, Link::OUT);
        match self.links.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                if let Some(head) = self.heads.get_mut(chain) {
                    *head = next.wrapping_add(1);
                }
            }
        }
        if let Some(next) = self.links.get_mut(next as usize) {
            next.previous = previous;
        }
    }

    fn slots(&self, chain: usize) -> Slots<'_> {
        let first = self.heads.get(chain).copied().unwrap_or_default();
        Slots {
            links: &self.links,
            next: first.wrapping_sub(1),
        }
    }
}

/// The slots of a chain.
struct Slots<'a> {
    links: &'a [Link],
    next: u32,
}

impl Iterator for Slots<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let slot = self.next;
        self.next = self.links.get(slot as usize)?.next;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Seen;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn flow(port: u16, last: u8) -> Flow {
        Flow {
            local: SocketAddr::from(([192, 0, 2, 1], port)),
            remote: SocketAddr::from(([198, 51, 100, last], 443)),
        }
    }

    fn quote(source: ([u8; 4], u16), destination: ([u8; 4], u16), sequence: u32) -> Quote {
        Quote {
            source: SocketAddr::from(source),
            destination: SocketAddr::from(destination),
            sequence,
            ttl: 1,
            traffic_class: 0,
            checksum_bad: None,
            seen: Seen::default(),
            alone: None,
        }
    }

    /// A naive map, which is what is tested against, too. Slot n owns the
    /// sequence numbers n * 1000 to n * 1000 + 99.
    #[derive(Debug, Default)]
    struct Map {
        flows: HashMap<u32, Flow>,
        owns_all: Option<u32>,
    }

    impl Known for Map {
        fn flow(&self, slot: u32) -> Option<Flow> {
            self.flows.get(&slot).copied()
        }

        fn owns(&self, slot: u32, sequence: u32) -> bool {
            self.owns_all == Some(slot) || (slot * 1_000..slot * 1_000 + 100).contains(&sequence)
        }
    }

    impl Map {
        fn only(&self, sequence: u32, is_meant: impl Fn(&Flow) -> bool) -> Option<u32> {
            let mut owners = self
                .flows
                .iter()
                .filter(|(slot, flow)| is_meant(flow) && self.owns(**slot, sequence))
                .map(|(slot, _)| *slot);
            owners.next().filter(|_| owners.next().is_none())
        }

        fn find(&self, quote: &Quote) -> Option<u32> {
            self.only(quote.sequence, |flow| flow.remote == quote.destination)
                .or_else(|| {
                    self.only(quote.sequence, |flow| {
                        flow.local.port() == quote.source.port()
                    })
                })
        }
    }

    /// Both, with the same sessions.
    fn known(flows: &[(u32, Flow)]) -> (Lookup, Map) {
        let mut lookup = Lookup::new(61_000..=61_999, 1, Secret::new(&[3; 16]));
        lookup.reserve(16);
        let mut map = Map::default();
        for (slot, flow) in flows {
            lookup.insert(flow, *slot);
            map.flows.insert(*slot, *flow);
        }
        (lookup, map)
    }

    fn three() -> (Lookup, Map) {
        known(&[
            (1, flow(61_001, 1)),
            (2, flow(61_001, 2)),
            (3, flow(61_003, 2)),
        ])
    }

    #[test]
    fn source_rewritten_found_by_destination() {
        let (lookup, map) = three();
        let quote = quote(([100, 64, 0, 9], 1_024), ([198, 51, 100, 2], 443), 3_050);
        assert_eq!(lookup.find(&quote, &map), Some(3));
    }

    #[test]
    fn destination_rewritten_found_by_local_port() {
        let (lookup, map) = three();
        let quote = quote(([192, 0, 2, 1], 61_001), ([10, 0, 0, 5], 8_443), 2_001);
        assert_eq!(lookup.find(&quote, &map), Some(2));
    }

    #[test]
    fn a_foreign_sequence_number_is_nobodys() {
        let (lookup, map) = three();
        let quote = quote(([192, 0, 2, 1], 61_001), ([198, 51, 100, 2], 443), 9_999);
        assert_eq!(lookup.find(&quote, &map), None);
    }

    #[test]
    fn neither_end_known_is_nobodys() {
        let (lookup, map) = three();
        let quote = quote(([100, 64, 0, 9], 61_777), ([10, 0, 0, 5], 8_443), 2_001);
        assert_eq!(lookup.find(&quote, &map), None);
    }

    #[test]
    fn a_reply_that_two_could_claim_is_nobodys() {
        let (mut lookup, mut map) = three();
        lookup.insert(&flow(61_009, 2), 9);
        map.flows.insert(9, flow(61_009, 2));
        map.owns_all = Some(9);
        let quote = quote(([100, 64, 0, 9], 1_024), ([198, 51, 100, 2], 443), 3_050);
        assert_eq!(lookup.find(&quote, &map), None);
    }

    proptest! {
        /// Few ends, so that chains are shared; ports in the range and out of it.
        #[test]
        fn agrees_with_a_naive_map(steps in prop::collection::vec(
            (0u32..16, 60_998u16..61_006, 0u8..4, any::<bool>()), 1..300)
        ) {
            let (mut lookup, mut map) = known(&[]);
            for (slot, port, last, asks) in steps {
                let ends = flow(port, last);
                if asks {
                    let found = map.flows.iter().find(|(_, flow)| **flow == ends);
                    prop_assert_eq!(lookup.find_flow(&ends, &map), found.map(|(slot, _)| *slot));
                    for quote in [
                        quote(([100, 64, 0, 9], 9), ([198, 51, 100, last], 443), slot * 1_000 + 7),
                        quote(([192, 0, 2, 1], port), ([10, 0, 0, 5], 8_443), slot * 1_000 + 99),
                    ] {
                        let port = quote.source.port();
                        let expected = map.find(&quote).filter(|slot| {
                            // Outside the range, ports are not known.
                            (61_000..=61_999).contains(&port)
                                || map.flows[slot].remote == quote.destination
                        });
                        prop_assert_eq!(lookup.find(&quote, &map), expected);
                    }
                } else if let Some(ends) = map.flows.remove(&slot) {
                    lookup.remove(&ends, slot);
                } else if map.flows.values().all(|other| *other != ends) {
                    lookup.insert(&ends, slot);
                    map.flows.insert(slot, ends);
                }
                prop_assert_eq!(lookup.is_empty(), map.flows.is_empty());
            }
            for (slot, ends) in map.flows.drain() {
                lookup.remove(&ends, slot);
            }
            prop_assert!(lookup.is_empty());
            for last in 0..4 {
                let quote = quote(([192, 0, 2, 1], 61_001), ([198, 51, 100, last], 443), 7);
                map.owns_all = Some(0);
                prop_assert_eq!(lookup.find(&quote, &map), None);
            }
        }
    }
}
