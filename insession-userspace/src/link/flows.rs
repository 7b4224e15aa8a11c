//! The flows of ours in user space: what the `packet` and `sim` links steer by,
//! and how often a remote end, a local address and a local port are in use, for
//! them as for the maps of the XDP program.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use insession_common::flow::{FlowKey, FlowKeyV4, FlowKeyV6, PeerKey, SessionId};
use insession_common::steer::Flows;

use super::folding::Folding;

/// What of a flow's ends came into use with it, or went out of use: what has to
/// be written to the maps `PEERS`, `LOCALS` and `PORTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Changed {
    /// The flow's remote end, if no other flow goes there.
    pub peer: Option<PeerKey>,
    /// The flow's local address, if no other flow has it; IPv4 as
    /// `::ffff:a.b.c.d`.
    pub local: Option<[u8; 16]>,
    /// The flow's local port, if no other flow uses it.
    pub port: Option<u16>,
}

/// How many live flows go to a remote end, have a local address, use a local
/// port.
#[derive(Debug, Default)]
pub struct Counts {
    /// There are about as many as flows, most with one flow only: those are in
    /// `peers`, and how many more there are of the others in `more`.
    peers: Fingerprints,
    more: HashMap<PeerKey, u32>,
    locals: HashMap<[u8; 16], u32, Folding>,
    /// By port, as far as any was in use.
    ports: Vec<u32>,
}

impl Counts {
    /// One more flow: what came into use.
    pub fn add(&mut self, flow: &FlowKey) -> Changed {
        let (peer, local, port) = (flow.peer(), flow.local(), flow.local_port());
        let new_peer = self.peers.insert(&peer);
        if !new_peer {
            one_more(&mut self.more, peer);
        }
        Changed {
            peer: new_peer.then_some(peer),
            local: one_more(&mut self.locals, local).then_some(local),
            port: self.one_more_at(port).then_some(port),
        }
    }

    /// One flow less: what went out of use. Only what was added may be removed.
    pub fn remove(&mut self, flow: &FlowKey) -> Changed {
        let (peer, local, port) = (flow.peer(), flow.local(), flow.local_port());
        let shared = self.more.contains_key(&peer);
        if shared {
            one_less(&mut self.more, peer);
        } else {
            self.peers.remove(&peer);
        }
        Changed {
            peer: (!shared).then_some(peer),
            local: one_less(&mut self.locals, local).then_some(local),
            port: self.one_less_at(port).then_some(port),
        }
    }

    /// Whether it is the first with this port.
    fn one_more_at(&mut self, port: u16) -> bool {
        let port = usize::from(port);
        if self.ports.len() <= port {
            // Ports are taken from all over their range: not step by step.
            self.ports.resize(usize::from(u16::MAX) + 1, 0);
        }
        let Some(count) = self.ports.get_mut(port) else {
            return false;
        };
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Whether it was the last with this port.
    fn one_less_at(&mut self, port: u16) -> bool {
        let Some(count) = self.ports.get_mut(usize::from(port)) else {
            return true;
        };
        debug_assert!(*count > 0, "removed more often than added");
        *count = count.saturating_sub(1);
        *count == 0
    }
}

/// Whether it is the first.
fn one_more<K: Hash + Eq>(counts: &mut HashMap<K, u32, impl BuildHasher>, key: K) -> bool {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
    *count == 1
}

/// Whether it was the last.
fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, u32, impl BuildHasher>, key: K) -> bool {
    let Entry::Occupied(mut entry) = counts.entry(key) else {
        debug_assert!(false, "removed more often than added");
        return true;
    };
    let left = entry.get().saturating_sub(1);
    if left == 0 {
        entry.remove();
    } else {
        entry.insert(left);
    }
    left == 0
}

/// A set that remembers 8 bytes of each member, whatever it is: keys of flows are
/// several times as long, and there may be a million.
///
/// The 8 bytes are a hash under a secret of this process. Of a million members
/// two are mistaken for one another once in some 7 million runs; then a flow counts
/// as taken, or quotes that a NAT rewrote are not recognised by a remote end.
#[derive(Debug, Default)]
pub struct Fingerprints {
    secret: Folding,
    members: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

impl Fingerprints {
    /// Whether it was not there.
    pub fn insert<T: Hash>(&mut self, member: &T) -> bool {
        self.members.insert(self.secret.hash_one(member))
    }

    /// Whether it was there.
    pub fn remove<T: Hash>(&mut self, member: &T) -> bool {
        self.members.remove(&self.secret.hash_one(member))
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains<T: Hash>(&self, member: &T) -> bool {
        self.members.contains(&self.secret.hash_one(member))
    }
}

/// What is a hash already is its own.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Which probes a link steers the answers of, beside those inside connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone {
    /// Datagrams and echo requests.
    pub datagrams: bool,
    /// From this local port on, a multiple of [`insession_common::flow::BLOCK`], so
    /// many ports are one flow's.
    pub blocks: Option<u16>,
}

impl Alone {
    /// None.
    pub const NONE: Alone = Alone {
        datagrams: false,
        blocks: None,
    };
}

/// Why a flow is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// The flow is there already.
    Taken,
    /// Its local port is outside our range: it would never be steered.
    PortOutside,
}

/// The flows of ours, and whose they are.
#[derive(Debug)]
pub struct FlowTable {
    ports: (u16, u16),
    /// Which probes have flows beside TCP's.
    alone: Alone,
    v4: HashMap<FlowKeyV4, SessionId>,
    v6: HashMap<FlowKeyV6, SessionId>,
    counts: Counts,
}

impl FlowTable {
    /// No flows yet, with local ports from `first` to `last`, both inclusive.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Self {
        FlowTable {
            ports: (first, last),
            alone: Alone::NONE,
            v4: HashMap::new(),
            v6: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// With flows of such probes as well.
    #[must_use]
    pub fn with_alone(self, alone: Alone) -> Self {
        FlowTable { alone, ..self }
    }

    /// From now on `flow` is `session`'s.
    ///
    /// # Errors
    /// Nothing is changed when the flow is there already, or its port is not
    /// in our range.
    pub fn insert(&mut self, flow: &FlowKey, session: SessionId) -> Result<Changed, NotAdded> {
        let (first, last) = self.ports;
        if !(first..=last).contains(&flow.local_port()) {
            return Err(NotAdded::PortOutside);
        }
        let added = match flow {
            FlowKey::V4(key) => vacant(&mut self.v4, *key, session),
            FlowKey::V6(key) => vacant(&mut self.v6, *key, session),
        };
        if !added {
            return Err(NotAdded::Taken);
        }
        Ok(self.counts.add(flow))
    }

    /// No longer; whose it was and what changed, `None` when it was not there.
    pub fn remove(&mut self, flow: &FlowKey) -> Option<(SessionId, Changed)> {
        let session = match flow {
            FlowKey::V4(key) => self.v4.remove(key),
            FlowKey::V6(key) => self.v6.remove(key),
        }?;
        Some((session, self.counts.remove(flow)))
    }

    /// Whose `flow` is.
    #[must_use]
    pub fn get(&self, flow: &FlowKey) -> Option<SessionId> {
        match flow {
            FlowKey::V4(key) => self.v4(key),
            FlowKey::V6(key) => self.v6(key),
        }
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn vacant<K: Hash + Eq>(map: &mut HashMap<K, SessionId>, key: K, session: SessionId) -> bool {
    match map.entry(key) {
        Entry::Occupied(_) => false,
        Entry::Vacant(entry) => {
            entry.insert(session);
            true
        }
    }
}

impl Flows for FlowTable {
    fn ports(&self) -> (u16, u16) {
        self.ports
    }

    fn alone(&self) -> bool {
        self.alone.datagrams
    }

    fn blocks(&self) -> u16 {
        self.alone.blocks.unwrap_or(0)
    }

    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId> {
        self.v4.get(key).copied()
    }

    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId> {
        self.v6.get(key).copied()
    }

    fn has_peer(&self, key: &PeerKey) -> bool {
        self.counts.peers.contains(key)
    }

    fn has_local(&self, address: &[u8; 16]) -> bool {
        self.counts.locals.contains_key(address)
    }

    fn has_port(&self, port: u16) -> bool {
        let count = self.counts.ports.get(usize::from(port));
        count.is_some_and(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insession_common::flow::PROTOCOL_TCP;

    fn flow(local: &str, remote: &str) -> FlowKey {
        FlowKey::new(
            local.parse().unwrap(),
            remote.parse().unwrap(),
            PROTOCOL_TCP,
        )
        .unwrap()
    }

    #[test]
    fn counts_go_up_and_down_with_flows() {
        let mut table = FlowTable::new(61000, 61999);
        // Two flows share the remote end, two others the port.
        let a = flow("10.0.0.1:61000", "10.0.9.1:443");
        let b = flow("10.0.0.1:61001", "10.0.9.1:443");
        let c = flow("10.0.0.1:61001", "10.0.9.2:443");
        let first = table.insert(&a, 1).unwrap();
        assert_eq!((first.peer, first.port), (Some(a.peer()), Some(61000)));
        let second = table.insert(&b, 2).unwrap();
        assert_eq!((second.peer, second.port), (None, Some(61001)));
        let third = table.insert(&c, 3).unwrap();
        assert_eq!((third.peer, third.port), (Some(c.peer()), None));
        assert_eq!(table.len(), 3);

        let (session, gone) = table.remove(&b).unwrap();
        assert_eq!(session, 2);
        assert_eq!((gone.peer, gone.port), (None, None));
        assert!(table.has_peer(&a.peer()) && table.has_port(61001));
        let (_, gone) = table.remove(&a).unwrap();
        assert_eq!((gone.peer, gone.port), (Some(a.peer()), Some(61000)));
        assert!(!table.has_peer(&a.peer()) && !table.has_port(61000));
        let _ = table.remove(&c).unwrap();
        assert!(table.is_empty() && !table.has_port(61001) && !table.has_peer(&c.peer()));
    }

    #[test]
    fn a_flow_is_added_once_and_removed_once() {
        let mut table = FlowTable::new(61000, 61999);
        let a = flow("[fd00::1]:61000", "[fd00::2]:80");
        let added = table.insert(&a, 7).unwrap();
        assert_eq!(added.local, Some(a.local()));
        assert_eq!(table.insert(&a, 8), Err(NotAdded::Taken));
        assert_eq!(table.get(&a), Some(7));
        assert!(table.remove(&a).is_some());
        assert!(table.remove(&a).is_none());
        // The refused insert left no count behind.
        assert!(!table.has_port(61000) && !table.has_peer(&a.peer()));
        assert!(!table.has_local(&a.local()));
    }

    #[test]
    fn a_local_address_is_in_use_while_a_flow_has_it() {
        let mut table = FlowTable::new(61000, 61999);
        let a = flow("10.0.0.1:61000", "10.0.9.1:443");
        let b = flow("10.0.0.1:61001", "10.0.9.2:80");
        let elsewhere = flow("10.0.0.2:61000", "10.0.9.1:443");
        let mapped = *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01";
        let came = [&a, &elsewhere, &b].map(|flow| table.insert(flow, 1).unwrap().local);
        assert_eq!(came, [Some(mapped), Some(elsewhere.local()), None]);
        let (_, gone) = table.remove(&a).unwrap();
        assert_eq!(gone.local, None);
        assert!(table.has_local(&mapped) && table.has_local(&elsewhere.local()));
        let (_, gone) = table.remove(&b).unwrap();
        assert_eq!(gone.local, Some(mapped));
        assert!(!table.has_local(&mapped) && table.has_local(&elsewhere.local()));
    }

    #[test]
    fn fingerprints_differ_by_every_bit_and_by_secret() {
        let secret = Folding::default();
        let mut seen = HashSet::new();
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for number in 0..1_u32 << 16 {
            let [a, b, ..] = number.to_le_bytes();
            let local = format!("192.0.2.{}:{}", a % 4, 61_000 + u16::from(a >> 2));
            let remote = format!("10.0.{b}.7:443");
            let flow = flow(&local, &remote);
            let hash = secret.hash_one(flow);
            assert!(seen.insert(hash));
            low.insert(hash & 0xffff);
            high.insert(hash >> 48);
            assert_ne!(hash, Folding::default().hash_one(flow));
        }
        // Of so many draws from so many values 63 % are drawn.
        for few in [low.len(), high.len()] {
            assert!((40_000..43_000).contains(&few), "{few}");
        }
    }

    #[test]
    fn a_port_outside_the_range_is_refused() {
        let mut table = FlowTable::new(61000, 61001);
        for (port, added) in [(60999, false), (61000, true), (61001, true), (61002, false)] {
            let flow = flow(&format!("10.0.0.1:{port}"), "10.0.9.1:443");
            assert_eq!(table.insert(&flow, 1).is_ok(), added, "port {port}");
            assert_eq!(table.has_port(port), added);
        }
    }
}
