//! Whose reply is it, when its quote was rewritten on the way and the flow map
//! could not say: by the quoted destination, else by the quoted local port, and
//! in both cases by the quoted sequence number.
//!
//! A sequence number alone would do no harm to few sessions, but a hundred
//! thousand of them own a considerable part of the 2^32 there are. A reply that
//! two sessions could claim belongs to neither.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::session::{Flow, Quote};

/// Sessions (by slot) by their ends.
#[derive(Debug)]
pub struct Lookup {
    ports: RangeInclusive<u16>,
    by_port: Vec<Vec<u32>>,
    by_remote: HashMap<SocketAddr, Vec<u32>>,
}

impl Lookup {
    /// For flows whose local port is in `ports`.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        Lookup {
            by_port: vec![Vec::new(); ports.len()],
            by_remote: HashMap::new(),
            ports,
        }
    }

    /// The flow is that of `slot`.
    pub fn insert(&mut self, flow: &Flow, slot: u32) {
        self.by_remote.entry(flow.remote).or_default().push(slot);
        if let Some(slots) = self.port_mut(flow.local.port()) {
            slots.push(slot);
        }
    }

    /// The flow is that of `slot` no longer.
    pub fn remove(&mut self, flow: &Flow, slot: u32) {
        if let Entry::Occupied(mut entry) = self.by_remote.entry(flow.remote) {
            forget(entry.get_mut(), slot);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if let Some(slots) = self.port_mut(flow.local.port()) {
            forget(slots, slot);
        }
    }

    /// The one slot that `quote` can be about; `owns` says whether a sequence
    /// number is that of a segment of a slot's session.
    #[must_use]
    pub fn find(&self, quote: &Quote, owns: &dyn Fn(u32, u32) -> bool) -> Option<u32> {
        let only = |slots: &[u32]| {
            let mut owners = slots
                .iter()
                .copied()
                .filter(|slot| owns(*slot, quote.sequence));
            owners.next().filter(|_| owners.next().is_none())
        };
        let by_remote = self.by_remote.get(&quote.destination);
        by_remote.and_then(|slots| only(slots)).or_else(|| {
            let nth = quote.source.port().checked_sub(*self.ports.start())?;
            only(self.by_port.get(usize::from(nth))?)
        })
    }

    /// Whether no flow is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_remote.is_empty() && self.by_port.iter().all(Vec::is_empty)
    }

    fn port_mut(&mut self, port: u16) -> Option<&mut Vec<u32>> {
        let nth = port.checked_sub(*self.ports.start())?;
        self.by_port.get_mut(usize::from(nth))
    }
}

fn forget(slots: &mut Vec<u32>, slot: u32) {
    if let Some(at) = slots.iter().position(|known| *known == slot) {
        slots.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    /// Slot n owns the sequence numbers n * 1000 to n * 1000 + 99.
    fn owns(slot: u32, sequence: u32) -> bool {
        (slot * 1_000..slot * 1_000 + 100).contains(&sequence)
    }

    fn known() -> Lookup {
        let mut lookup = Lookup::new(61_000..=61_999);
        lookup.insert(&flow(61_001, 1), 1);
        lookup.insert(&flow(61_001, 2), 2);
        lookup.insert(&flow(61_003, 2), 3);
        lookup
    }

    #[test]
    fn source_rewritten_found_by_destination() {
        let quote = quote(([100, 64, 0, 9], 1_024), ([198, 51, 100, 2], 443), 3_050);
        assert_eq!(known().find(&quote, &owns), Some(3));
    }

    #[test]
    fn destination_rewritten_found_by_local_port() {
        let quote = quote(([192, 0, 2, 1], 61_001), ([10, 0, 0, 5], 8_443), 2_001);
        assert_eq!(known().find(&quote, &owns), Some(2));
    }

    #[test]
    fn a_foreign_sequence_number_is_nobodys() {
        let quote = quote(([192, 0, 2, 1], 61_001), ([198, 51, 100, 2], 443), 9_999);
        assert_eq!(known().find(&quote, &owns), None);
    }

    #[test]
    fn neither_end_known_is_nobodys() {
        let quote = quote(([100, 64, 0, 9], 61_777), ([10, 0, 0, 5], 8_443), 2_001);
        assert_eq!(known().find(&quote, &owns), None);
    }

    #[test]
    fn a_reply_that_two_could_claim_is_nobodys() {
        let mut lookup = known();
        lookup.insert(&flow(61_009, 2), 9);
        let both = |slot: u32, sequence: u32| slot == 9 || owns(slot, sequence);
        let quote = quote(([100, 64, 0, 9], 1_024), ([198, 51, 100, 2], 443), 3_050);
        assert_eq!(lookup.find(&quote, &both), None);
    }

    #[test]
    fn what_is_gone_is_not_found() {
        let mut lookup = known();
        lookup.remove(&flow(61_003, 2), 3);
        let found = quote(([100, 64, 0, 9], 1_024), ([198, 51, 100, 2], 443), 3_050);
        assert_eq!(lookup.find(&found, &owns), None);
        lookup.remove(&flow(61_001, 1), 1);
        lookup.remove(&flow(61_001, 2), 2);
        assert!(lookup.is_empty());
    }
}
