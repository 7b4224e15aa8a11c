//! A deterministic network in memory, from a seed.
//!
//! [`Scenario`] says what there is: routers, ways, servers, and what is wrong
//! with them. [`SimLink`] plays it: the same scenario, seed and frames give the
//! same replies at the same nanosecond on every machine. Time stands still until
//! [`Link::wait`] moves it. [`Truth`] knows what became of every probe.
//!
//! What comes back goes through the same steering decision as on a real link.

mod internet;
mod middlebox;
mod network;
mod packet;
mod rng;
mod scenario;
mod server;
mod truth;

pub use internet::MAX_TARGETS;
pub use scenario::{
    Answer, Balance, End, Line, MAX_BALANCERS, Middlebox, QuoteLength, QuoteRepair, RateLimit,
    Reject, Rejection, Router, RouterId, Scenario, Server, Stage, Step, Target, TooBig,
};
pub use truth::{Fate, ProbeTruth, Truth};

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, PROTOCOL_TCP, SessionId};
use insession_common::stamp::SteerKind;
use insession_common::steer::{Decision, steer};

use self::network::Network;
use super::flows::{FlowTable, NotAdded};
use super::{Link, LinkError, MAX_FRAME, Received, too_long};
use crate::session::Flow;
use crate::time::Instant;
use crate::trace::LinkInfo;

/// A link into a simulated network.
#[derive(Debug)]
pub struct SimLink {
    network: Network,
    now: Instant,
    flows: FlowTable,
    /// The frames of a batch, each in `MAX_FRAME` octets.
    batch: Vec<u8>,
    lengths: Vec<usize>,
    /// Those that are longer, and where in the batch they stand; oldest first.
    long: VecDeque<(usize, Vec<u8>)>,
    longest: usize,
    capacity: usize,
    inbox: VecDeque<Steered>,
    counters: Vec<u64>,
    sent: u64,
    refused: u64,
    truth: Arc<Mutex<Truth>>,
}

#[derive(Debug)]
struct Steered {
    bytes: Vec<u8>,
    at: Instant,
    session: SessionId,
    kind: SteerKind,
    l3_offset: usize,
}

impl SimLink {
    /// Virtual time begins a second after the origin: a stamp of zero is a
    /// mistake, not a time.
    pub const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

    /// A link into the network of `scenario`.
    #[must_use]
    pub fn new(scenario: impl Into<Arc<Scenario>>, seed: u64) -> Self {
        let scenario = scenario.into();
        let truth = Arc::default();
        SimLink {
            now: Self::BEGIN,
            flows: FlowTable::new(scenario.ports.0, scenario.ports.1),
            batch: vec![0xa5; scenario.batch * MAX_FRAME],
            lengths: Vec::with_capacity(scenario.batch),
            long: VecDeque::new(),
            longest: scenario.longest_frame,
            capacity: scenario.batch,
            inbox: VecDeque::new(),
            counters: vec![0; Counter::ALL.len()],
            sent: 0,
            refused: 0,
            network: Network::new(scenario, seed, Arc::clone(&truth)),
            truth,
        }
    }

    /// What really became of every probe; it can be kept when the link is gone.
    #[must_use]
    pub fn truth(&self) -> Arc<Mutex<Truth>> {
        Arc::clone(&self.truth)
    }

    /// Plays all events until `until` or, if it comes first, a frame of ours.
    fn play(&mut self, until: Instant) {
        while self.inbox.is_empty()
            && let Some(at) = self.network.next_at()
            && at <= until
        {
            self.now = self.now.max(at);
            self.step();
        }
    }

    fn step(&mut self) {
        let Some(delivery) = self.network.play() else {
            return;
        };
        let counter = match steer(&delivery.bytes.as_slice(), &self.flows) {
            Decision::Pass(counter) => counter,
            Decision::Ours {
                session,
                kind,
                l3_offset,
            } => {
                self.inbox.push_back(Steered {
                    bytes: delivery.bytes,
                    at: delivery.at,
                    session,
                    kind,
                    l3_offset: usize::from(l3_offset),
                });
                Counter::of(kind)
            }
        };
        if let Some(count) = self.counters.get_mut(counter as usize) {
            *count += 1;
        }
    }
}

impl Link for SimLink {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "sim",
            mode: None,
            zero_copy: false,
            interface: "sim0".into(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        let what = || format!("a flow from {} to {}", flow.local, flow.remote);
        let key = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP).ok_or_else(|| {
            LinkError::Unsupported {
                what: what(),
                reason: "the two are not of one address family".into(),
                mend: "give a source of the target's family".into(),
            }
        })?;
        match self.flows.insert(&key, session) {
            Ok(_) => Ok(()),
            Err(NotAdded::Taken) => Err(LinkError::FlowTaken),
            Err(NotAdded::PortOutside) => Err(LinkError::Unsupported {
                what: what(),
                reason: "its port is not one that the scenario steers".into(),
                mend: "widen the scenario's ports".into(),
            }),
        }
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let Some(key) = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP) {
            // Nothing to write elsewhere: the table is the map here.
            let _: Option<_> = self.flows.remove(&key);
        }
    }

    fn room(&mut self) -> usize {
        self.capacity - self.lengths.len()
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let start = self.lengths.len() * MAX_FRAME;
        let Some(frame) = self.batch.get_mut(start..start + MAX_FRAME) else {
            return Err(LinkError::Full);
        };
        let len = fill(frame).min(MAX_FRAME);
        self.lengths.push(len);
        Ok(())
    }

    fn longest_frame(&self) -> usize {
        self.longest
    }

    fn transmit_long(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        if frame.len() > self.longest {
            return Err(too_long(frame.len(), self.longest));
        }
        if self.room() == 0 {
            return Err(LinkError::Full);
        }
        self.long.push_back((self.lengths.len(), frame.to_vec()));
        self.lengths.push(0);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        let frames = self.batch.chunks(MAX_FRAME).zip(self.lengths.drain(..));
        for (place, (frame, len)) in frames.enumerate() {
            self.sent += 1;
            let long = self.long.pop_front_if(|(at, _)| *at == place);
            let frame = long.as_ref().map_or(&frame[..len], |(_, long)| long);
            if !self.network.inject(self.now, frame) {
                self.refused += 1;
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        while self.network.next_at().is_some_and(|at| at <= self.now) {
            self.step();
        }
        let count = budget.min(self.inbox.len());
        for frame in self.inbox.drain(..count) {
            each(Received {
                bytes: &frame.bytes,
                at: frame.at,
                session: frame.session,
                kind: frame.kind,
                l3_offset: frame.l3_offset,
                outgoing: false,
            });
        }
        Ok(count)
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.play(until);
        if self.inbox.is_empty() {
            self.now = self.now.max(until);
        }
        Ok(())
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        let counted = Counter::ALL.iter().zip(&self.counters);
        counted
            .map(|(counter, count)| (counter.label(), *count))
            .chain([("sim-sent", self.sent), ("sim-refused", self.refused)])
            .collect()
    }
}

#[cfg(test)]
mod tests;
