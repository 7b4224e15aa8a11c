//! The reflector behind the [`Link`] trait, in memory and without state: a link
//! into a network of any number of targets, for counting instructions and for
//! more sessions than a kernel would hold. Each answer comes the same time after
//! its packet; time stands still until [`Link::wait`] moves it.
//!
//! Nothing is allocated a packet: replies are made where they wait.

use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, PROTOCOL_TCP, SessionId};
use insession_common::reflect::{self, ADDRESS_PAD, FRAME_BYTES, Frame, Network, READ_BYTES};
use insession_common::stamp::SteerKind;
use insession_common::steer::{Decision, steer};

use super::flows::{FlowTable, NotAdded};
use super::sim::SimLink;
use super::{Link, LinkError, MAX_FRAME, Received};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::LinkInfo;

/// Frames of a batch.
const BATCH: usize = 1024;
/// Replies that wait, at first; more of them make it grow.
const WAITING: usize = 4096;

/// A link into a reflected network.
#[derive(Debug)]
pub struct MirrorLink {
    network: Network,
    delay: Duration,
    now: Instant,
    flows: FlowTable,
    batch: Vec<Request>,
    written: usize,
    waiting: Ring,
    counters: Vec<u64>,
    reflected: Vec<u64>,
    sent: u64,
}

/// A frame of ours.
#[derive(Clone, Debug)]
struct Request {
    frame: Frame,
    length: u32,
}

/// A reply on its way, and whose it is.
#[derive(Clone, Debug)]
struct Reply {
    frame: Frame,
    length: usize,
    at: Instant,
    steered: Option<Steered>,
}

#[derive(Clone, Copy, Debug)]
enum Steered {
    Ours {
        session: SessionId,
        kind: SteerKind,
        l3_offset: usize,
    },
    Passed,
}

impl MirrorLink {
    /// A link into `network`, whose answers come `delay` after what they answer.
    #[must_use]
    pub fn new(network: Network, delay: Duration) -> Self {
        MirrorLink {
            network,
            delay,
            now: SimLink::BEGIN,
            // All but what no kernel hands out.
            flows: FlowTable::new(1024, u16::MAX),
            batch: vec![
                Request {
                    frame: Frame::ZERO,
                    length: 0,
                };
                BATCH
            ],
            written: 0,
            waiting: Ring::new(),
            counters: vec![0; Counter::ALL.len()],
            reflected: vec![0; reflect::Counter::ALL.len()],
            sent: 0,
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Says whose the reply is that waits at this place from the first, if it has
    /// arrived; steers it now unless that was done before.
    fn steered(&mut self, place: usize) -> Option<Steered> {
        let reply = self.waiting.get_mut(place)?;
        if reply.at > self.now {
            return None;
        }
        if let Some(known) = reply.steered {
            return Some(known);
        }
        let bytes = octets(&reply.frame).get(..reply.length)?;
        let (steered, counter) = match steer(&bytes, &self.flows) {
            Decision::Pass(counter) => (Steered::Passed, counter),
            Decision::Ours {
                session,
                kind,
                l3_offset,
            } => (
                Steered::Ours {
                    session,
                    kind,
                    l3_offset: usize::from(l3_offset),
                },
                Counter::of(kind),
            ),
        };
        reply.steered = Some(steered);
        if let Some(count) = self.counters.get_mut(counter as usize) {
            *count += 1;
        }
        Some(steered)
    }
}

impl Link for MirrorLink {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "mirror",
            mode: None,
            zero_copy: false,
            interface: "mirror0".into(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        let refused = |reason: &str, mend: &str| LinkError::Unsupported {
            what: format!("a flow from {} to {}", flow.local, flow.remote),
            reason: reason.into(),
            mend: mend.into(),
        };
        let key = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP).ok_or_else(|| {
            refused(
                "the two are not of one address family",
                "give a source of the target's family",
            )
        })?;
        match self.flows.insert(&key, session) {
            Ok(_) => Ok(()),
            Err(NotAdded::Taken) => Err(LinkError::FlowTaken),
            Err(NotAdded::PortOutside) => {
                Err(refused("its port is below 1024", "give other source ports"))
            }
        }
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let Some(key) = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP) {
            // Nothing to write elsewhere: the table is the map here.
            let _: Option<_> = self.flows.remove(&key);
        }
    }

    fn room(&mut self) -> usize {
        BATCH - self.written
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let Some(request) = self.batch.get_mut(self.written) else {
            return Err(LinkError::Full);
        };
        let bytes = octets_mut(&mut request.frame);
        let length = fill(bytes).min(bytes.len());
        // The reflector reads so far, and wants zeros behind the frame's end.
        if let Some(behind) = bytes.get_mut(length..READ_BYTES) {
            behind.fill(0);
        }
        request.length = length as u32;
        self.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        let at = self.now + self.delay;
        for request in self.batch.iter().take(self.written) {
            self.sent += 1;
            let reply = self.waiting.spare();
            let answer = reflect::reflect(
                &self.network,
                &request.frame,
                request.length,
                &mut reply.frame,
                &|number| number,
            );
            if let Some(count) = self.reflected.get_mut(answer.counter as usize) {
                *count += 1;
            }
            if answer.length == 0 {
                continue;
            }
            let (written, length) = (answer.written as usize, answer.length as usize);
            // Only an echo is as long as the request, and longer than a buffer.
            if let (Some(to), Some(from)) = (
                octets_mut(&mut reply.frame).get_mut(written..length),
                octets(&request.frame).get(written..length),
            ) {
                to.copy_from_slice(from);
            }
            reply.length = length;
            reply.at = at;
            reply.steered = None;
            self.waiting.push();
        }
        self.written = 0;
        Ok(())
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let mut count = 0;
        while count < budget
            && let Some(steered) = self.steered(0)
        {
            let Some(reply) = self.waiting.pop() else {
                break;
            };
            let Steered::Ours {
                session,
                kind,
                l3_offset,
            } = steered
            else {
                continue;
            };
            each(Received {
                bytes: octets(&reply.frame).get(..reply.length).unwrap_or_default(),
                at: reply.at,
                session,
                kind,
                l3_offset,
                outgoing: false,
            });
            count += 1;
        }
        Ok(count)
    }

    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        let (mut filled, mut place) = (0, 0);
        while let Some(slot) = sessions.get_mut(filled)
            && let Some(steered) = self.steered(place)
        {
            place += 1;
            if let Steered::Ours { session, .. } = steered {
                *slot = session;
                filled += 1;
            }
        }
        filled
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.now = match self.waiting.get_mut(0) {
            Some(reply) if reply.at <= until => self.now.max(reply.at),
            _ => self.now.max(until),
        };
        Ok(())
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        let steered = Counter::ALL.iter().zip(&self.counters);
        let reflected = reflect::Counter::ALL.iter().zip(&self.reflected);
        steered
            .map(|(counter, count)| (counter.label(), *count))
            .chain([("mirror-sent", self.sent)])
            .chain(
                reflected
                    .filter(|(_, count)| **count > 0)
                    .map(|(counter, count)| (counter.label(), *count)),
            )
            .collect()
    }
}

/// Replies in the order of their arrival, which is that of their making: each
/// takes as long. A ring whose places are filled where they are.
#[derive(Debug)]
struct Ring {
    /// A power of two of them.
    replies: Vec<Reply>,
    first: usize,
    count: usize,
}

impl Ring {
    const EMPTY: Reply = Reply {
        frame: Frame::ZERO,
        length: 0,
        at: Instant::ZERO,
        steered: None,
    };

    fn new() -> Self {
        Ring {
            replies: vec![Ring::EMPTY; WAITING],
            first: 0,
            count: 0,
        }
    }

    fn place(&self, from_first: usize) -> usize {
        (self.first + from_first) & (self.replies.len() - 1)
    }

    /// The place behind the last, to be filled and then [`Ring::push`]ed.
    fn spare(&mut self) -> &mut Reply {
        if self.count == self.replies.len() {
            // In order from the start, so that the new room is behind the last.
            self.replies.rotate_left(self.first);
            self.first = 0;
            self.replies.resize(self.count * 2, Ring::EMPTY);
        }
        let at = self.place(self.count);
        &mut self.replies[at]
    }

    fn push(&mut self) {
        self.count += 1;
    }

    fn get_mut(&mut self, from_first: usize) -> Option<&mut Reply> {
        if from_first >= self.count {
            return None;
        }
        let at = self.place(from_first);
        self.replies.get_mut(at)
    }

    fn pop(&mut self) -> Option<&Reply> {
        if self.count == 0 {
            return None;
        }
        let at = self.first;
        self.first = self.place(1);
        self.count -= 1;
        self.replies.get(at)
    }
}

/// A frame's octets, from its Ethernet header on.
fn octets(frame: &Frame) -> &[u8] {
    let start = (&raw const frame.words).cast::<u8>();
    // SAFETY: the words are `ADDRESS_PAD + FRAME_BYTES` octets without padding.
    unsafe { std::slice::from_raw_parts(start.add(ADDRESS_PAD), FRAME_BYTES) }
}

/// The same, to be written.
fn octets_mut(frame: &mut Frame) -> &mut [u8] {
    let start = (&raw mut frame.words).cast::<u8>();
    // SAFETY: as above, borrowed mutably, and every octet is a value.
    unsafe { std::slice::from_raw_parts_mut(start.add(ADDRESS_PAD), FRAME_BYTES) }
}

const _: () = assert!(MAX_FRAME <= FRAME_BYTES);

#[cfg(test)]
mod tests;
