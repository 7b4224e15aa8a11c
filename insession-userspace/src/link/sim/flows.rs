//! The flows of a simulated link, as the steering decision looks them up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use insession_common::flow::{FlowKey, FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, PeerKey, SessionId};
use insession_common::steer::Flows;

use super::rng::Mixers;
use crate::link::LinkError;
use crate::session::Flow;

/// What the XDP program has in four maps.
#[derive(Debug)]
pub(super) struct FlowTable {
    ports: (u16, u16),
    flows: HashMap<FlowKey, SessionId, Mixers>,
    peers: HashMap<PeerKey, u32, Mixers>,
    local_ports: HashMap<u16, u32, Mixers>,
}

impl FlowTable {
    pub(super) fn new(ports: (u16, u16)) -> Self {
        FlowTable {
            ports,
            flows: HashMap::default(),
            peers: HashMap::default(),
            local_ports: HashMap::default(),
        }
    }

    pub(super) fn add(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        let key = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP).ok_or_else(|| {
            LinkError::Unsupported {
                what: format!("a flow from {} to {}", flow.local, flow.remote),
                reason: "the two are not of one address family".into(),
                mend: "give a source of the target's family".into(),
            }
        })?;
        match self.flows.entry(key) {
            Entry::Occupied(_) => return Err(LinkError::FlowTaken),
            Entry::Vacant(slot) => slot.insert(session),
        };
        *self.peers.entry(key.peer()).or_default() += 1;
        *self.local_ports.entry(key.local_port()).or_default() += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, flow: &Flow) {
        let Some(key) = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP) else {
            return;
        };
        if self.flows.remove(&key).is_some() {
            release(&mut self.peers, key.peer());
            release(&mut self.local_ports, key.local_port());
        }
    }
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, u32, Mixers>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Flows for FlowTable {
    fn ports(&self) -> (u16, u16) {
        self.ports
    }

    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId> {
        self.flows.get(&FlowKey::V4(*key)).copied()
    }

    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId> {
        self.flows.get(&FlowKey::V6(*key)).copied()
    }

    fn has_peer(&self, key: &PeerKey) -> bool {
        self.peers.contains_key(key)
    }

    fn has_port(&self, port: u16) -> bool {
        self.local_ports.contains_key(&port)
    }
}
