//! A link around a link: sees what passes, and makes it go wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use insession_common::flow::SessionId;
use tokio::sync::mpsc;

use crate::engine::{Output, Stop};
use crate::link::{Link, LinkError, Received};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::LinkInfo;
use crate::wire::tcp::flags;
use crate::wire::{ip, tcp};

/// What happens to a frame before the worker sees it: its bytes from the IP
/// header on, and the stamped session.
pub(super) type Alter<'a> = Box<dyn FnMut(&mut Vec<u8>, &mut SessionId) + Send + 'a>;

/// A connection as the wire shows it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The peer has accepted it.
    accepted: bool,
    /// The last of our segments was RST.
    reset: bool,
}

/// The tap.
pub(super) struct Tap<'a> {
    pub(super) link: Box<dyn Link + Send + 'a>,
    pub(super) alter: Option<Alter<'a>>,
    /// From then on the interface is down.
    pub(super) down_at: Option<Instant>,
    /// From then on the run is stopped.
    pub(super) stop_at: Option<(Instant, Arc<Stop>)>,
    /// From then on it drains, for at most so long.
    pub(super) drain_at: Option<(Instant, Duration, Arc<Stop>)>,
    /// From then on, all outputs are read whenever the worker sleeps.
    pub(super) reader: Option<(&'a mut mpsc::Receiver<Output>, Instant)>,
    pub(super) outputs: Vec<Output>,
    /// When each kick was, and how many frames it took.
    pub(super) kicks: Vec<(Instant, usize)>,
    pub(super) connections: HashMap<Flow, Connection>,
    /// Flows that are steered, and when each was added.
    pub(super) flows: HashMap<Flow, SessionId>,
    pub(super) added: Vec<Instant>,
    /// Flows that are somebody else's.
    pub(super) taken: Option<fn(&Flow) -> bool>,
    pub(super) refused: usize,
    /// How many flows the map holds.
    pub(super) capacity: usize,
    /// How many flows may be open at a time, as descriptors may.
    pub(super) permitted: usize,
    /// How many flows there were when one was added after one had been refused.
    pub(super) left: Vec<usize>,
    /// The same as the length of `flows`, for who has not the tap.
    pub(super) steered: Arc<AtomicUsize>,
    /// Flows that were removed, and how long after their last segment.
    pub(super) removed: Vec<(Flow, Duration)>,
    last_sent: HashMap<Flow, Instant>,
    /// How long the interface takes to send.
    pub(super) sends_after: Duration,
    /// Every so many frames there is no room, whatever `room` said.
    pub(super) full_every: Option<usize>,
    frames: usize,
    batch: usize,
}

impl<'a> Tap<'a> {
    pub(super) fn new(link: impl Link + Send + 'a) -> Self {
        Tap {
            link: Box::new(link),
            alter: None,
            down_at: None,
            stop_at: None,
            drain_at: None,
            reader: None,
            outputs: Vec::new(),
            kicks: Vec::new(),
            connections: HashMap::new(),
            flows: HashMap::new(),
            added: Vec::new(),
            taken: None,
            refused: 0,
            capacity: usize::MAX,
            permitted: usize::MAX,
            left: Vec::new(),
            steered: Arc::default(),
            removed: Vec::new(),
            last_sent: HashMap::new(),
            sends_after: Duration::ZERO,
            full_every: None,
            frames: 0,
            batch: 0,
        }
    }

    /// Connections that the peer holds open for all it knows.
    pub(super) fn left_open(&self) -> usize {
        let connections = self.connections.values();
        connections.filter(|one| one.accepted && !one.reset).count()
    }

    /// How many connections were opened.
    pub(super) fn opened(&self) -> usize {
        self.connections.values().filter(|one| one.accepted).count()
    }

    /// How many frames went out.
    pub(super) fn sent(&self) -> usize {
        self.kicks.iter().map(|(_, frames)| frames).sum()
    }

    fn up(&self) -> Result<(), LinkError> {
        match self.down_at {
            Some(at) if self.link.now() >= at => Err(LinkError::Down("sim0".into())),
            _ => Ok(()),
        }
    }
}

/// Ends and flags of a segment.
fn segment(packet: &[u8]) -> Option<(ip::Packet<'_>, u16, u16, u8)> {
    let packet = ip::Packet::quoted(packet).ok()?;
    if packet.protocol != ip::PROTOCOL_TCP {
        return None;
    }
    let segment = tcp::Segment::new(packet.payload).ok()?;
    Some((
        packet,
        segment.source_port(),
        segment.destination_port(),
        segment.flags(),
    ))
}

impl Link for Tap<'_> {
    fn info(&self) -> LinkInfo {
        self.link.info()
    }

    fn now(&self) -> Instant {
        self.link.now()
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.up()?;
        if self.taken.is_some_and(|taken| taken(flow)) {
            self.refused += 1;
            return Err(LinkError::FlowTaken);
        }
        if self.flows.len() >= self.capacity {
            self.refused += 1;
            return Err(LinkError::System {
                what: "adding a flow".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        if self.flows.len() >= self.permitted {
            self.refused += 1;
            return Err(LinkError::NotPermitted {
                what: "connection".into(),
                reason: "the limit is reached".into(),
                mend: "raise it".into(),
            });
        }
        self.link.add_flow(flow, session)?;
        if self.refused > self.left.len() {
            self.left.resize(self.refused, self.flows.len());
        }
        assert!(self.flows.insert(*flow, session).is_none());
        self.steered.store(self.flows.len(), Ordering::Relaxed);
        self.added.push(self.link.now());
        Ok(())
    }

    fn remove_flow(&mut self, flow: &Flow) {
        assert!(self.flows.remove(flow).is_some(), "removed, never added");
        self.steered.store(self.flows.len(), Ordering::Relaxed);
        let sent = self.last_sent.get(flow).copied().unwrap_or(Instant::ZERO);
        self.removed.push((*flow, self.link.now().since(sent)));
        self.link.remove_flow(flow);
    }

    fn room(&mut self) -> usize {
        self.link.room()
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        self.up()?;
        self.frames += 1;
        if self
            .full_every
            .is_some_and(|every| self.frames.is_multiple_of(every))
        {
            return Err(LinkError::Full);
        }
        self.batch += 1;
        let (flows, connections) = (&self.flows, &mut self.connections);
        let (now, last_sent) = (self.link.now(), &mut self.last_sent);
        self.link.transmit(&mut |frame| {
            let len = fill(frame);
            let (packet, local, remote, bits) = segment(&frame[14..len]).unwrap();
            let flow = Flow {
                local: (packet.source, local).into(),
                remote: (packet.destination, remote).into(),
            };
            assert!(flows.contains_key(&flow), "sent before it was steered");
            last_sent.insert(flow, now);
            let connection = connections.entry(flow).or_default();
            connection.reset = bits & flags::RST != 0;
            if bits & flags::SYN != 0 {
                connection.accepted = false;
            }
            len
        })
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        self.up()?;
        let frames = core::mem::take(&mut self.batch);
        self.kicks.push((self.link.now(), frames));
        self.link.flush()
    }

    fn in_flight(&mut self) -> usize {
        let now = self.link.now();
        let kicks = self.kicks.iter().rev();
        let unsent = kicks.take_while(|(at, _)| now.since(*at) < self.sends_after);
        unsent.map(|(_, frames)| frames).sum()
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        self.up()?;
        let (alter, connections) = (&mut self.alter, &mut self.connections);
        self.link.receive(budget, &mut |frame| {
            let packet = &frame.bytes[frame.l3_offset..];
            if let Some((packet, remote, local, bits)) = segment(packet) {
                let flow = Flow {
                    local: (packet.destination, local).into(),
                    remote: (packet.source, remote).into(),
                };
                if bits & flags::SYN != 0 {
                    connections.entry(flow).or_default().accepted = true;
                }
                if bits & flags::RST != 0 {
                    connections.entry(flow).or_default().accepted = false;
                }
            }
            let Some(alter) = alter else {
                return each(frame);
            };
            let (mut packet, mut session) = (packet.to_vec(), frame.session);
            alter(&mut packet, &mut session);
            each(Received {
                bytes: &packet,
                session,
                l3_offset: 0,
                ..frame
            });
        })
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.up()?;
        assert!(until > self.link.now(), "a sleep of nothing");
        if let Some((reader, from)) = &mut self.reader
            && self.link.now() >= *from
        {
            while let Ok(output) = reader.try_recv() {
                self.outputs.push(output);
            }
        }
        // Not beyond what is to happen on the way.
        let stop = self.stop_at.as_ref().map(|(at, _)| *at);
        let drain = self.drain_at.as_ref().map(|(at, ..)| *at);
        let next = [stop, drain, self.down_at].into_iter().flatten();
        let now = self.link.now();
        let next = next.filter(|at| *at > now).min().unwrap_or(until);
        self.link.wait(until.min(next))?;
        if let Some((at, stop)) = &self.stop_at
            && self.link.now() >= *at
        {
            stop.end();
        }
        if let Some((at, grace, stop)) = &self.drain_at
            && self.link.now() >= *at
        {
            stop.drain(*grace);
        }
        Ok(())
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.link.counters()
    }
}
