//! What really became of every probe: the yardstick for what sessions credit.

use std::collections::HashMap;
use std::net::IpAddr;

use super::rng::Mixers;
use super::scenario::RouterId;
use crate::session::Flow;
use crate::time::Instant;

/// What became of every segment with payload that was sent, by flow.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    by_flow: HashMap<Flow, u32, Mixers>,
    flows: Vec<(Flow, Vec<ProbeTruth>)>,
}

/// What became of one segment with payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeTruth {
    /// Its sequence number, as we sent it.
    pub sequence: u32,
    /// Its TTL, as we sent it.
    pub ttl: u8,
    /// When it was flushed.
    pub sent: Instant,
    /// What became of it. Of a packet that was duplicated: of the copy that got
    /// an answer, else of the first.
    pub fate: Fate,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is still on its way.
    Travels,
    /// A line lost it, or nobody has the address it was sent to.
    Lost,
    /// It ended at a router that said nothing: silent, without an address, or
    /// out of tokens.
    Discarded(RouterId),
    /// A router sent an error for it.
    Router {
        /// Which router.
        router: RouterId,
        /// The error's source, as we see it.
        from: IpAddr,
        /// The error's type.
        icmp_type: u8,
        /// The error's code.
        icmp_code: u8,
        /// When the error (of several, the first) arrives here; `None` when a
        /// line lost it.
        delivered: Option<Instant>,
    },
    /// It reached the server.
    Server {
        /// When.
        at: Instant,
        /// The server took it into its queue: it will be named in SACKs.
        accepted: bool,
    },
}

impl Truth {
    /// The probes of a flow, in the order they were sent.
    #[must_use]
    pub fn probes(&self, flow: &Flow) -> &[ProbeTruth] {
        self.by_flow
            .get(flow)
            .and_then(|index| self.flows.get(*index as usize))
            .map(|(_, probes)| probes.as_slice())
            .unwrap_or_default()
    }

    /// The latest segment of `flow` with this sequence number.
    #[must_use]
    pub fn probe(&self, flow: &Flow, sequence: u32) -> Option<&ProbeTruth> {
        self.probes(flow)
            .iter()
            .rev()
            .find(|probe| probe.sequence == sequence)
    }

    /// Every flow that sent something with payload, in the order of the first.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(|(flow, _)| flow)
    }

    /// Notes a probe, returns where.
    pub(super) fn note(&mut self, flow: &Flow, probe: ProbeTruth) -> Mark {
        let next = self.flows.len() as u32;
        let index = *self.by_flow.entry(*flow).or_insert(next);
        if index == next {
            self.flows.push((*flow, Vec::new()));
        }
        let probes = &mut self.flows[index as usize].1;
        probes.push(probe);
        Mark {
            flow: index,
            probe: probes.len() as u32 - 1,
        }
    }

    /// Notes what became of it, unless more is known already.
    pub(super) fn settle(&mut self, mark: Mark, fate: Fate) {
        let known = &mut self.flows[mark.flow as usize].1[mark.probe as usize].fate;
        if rank(fate) > rank(*known) {
            *known = fate;
        } else if let (
            Fate::Router {
                delivered: Some(at),
                ..
            },
            Fate::Router {
                delivered: Some(earliest),
                ..
            },
        ) = (fate, known)
        {
            // Two copies, two errors: the first to arrive counts.
            *earliest = at.min(*earliest);
        }
    }
}

/// Where a probe is noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    flow: u32,
    probe: u32,
}

const fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Travels => 0,
        Fate::Lost => 1,
        Fate::Discarded(_) => 2,
        Fate::Router {
            delivered: None, ..
        }
        | Fate::Server {
            accepted: false, ..
        } => 3,
        Fate::Router { .. } | Fate::Server { .. } => 4,
    }
}
