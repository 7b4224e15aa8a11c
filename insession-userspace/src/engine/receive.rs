//! From a frame to the session it is for. The stamp says which; it is believed
//! only when the frame's own addresses and ports agree, so that a reply to a
//! session that is gone cannot reach another one.

use insession_common::flow::{SessionId, UNRESOLVED};

use super::slab;
use super::worker::Worker;
use crate::link::{Link, LinkError, Received};
use crate::session::{Flow, Quote, Reply, Undecodable, decode_with_ends as decode};
use crate::time::Instant;

/// Frames taken in before segments go out again.
const BUDGET: usize = 256;
/// Frames whose sessions are fetched into the cache at a time: no more than the
/// first-level cache holds together.
const CHUNK: usize = 32;

impl Worker<'_> {
    /// Takes in what was steered to us, up to a budget; how many frames.
    pub(super) fn receive(
        &mut self,
        link: &mut dyn Link,
        now: Instant,
    ) -> Result<usize, LinkError> {
        if self.shared.options.latency {
            return self.receive_timed(link, now);
        }
        let mut received = 0;
        while received < BUDGET {
            let mut sessions = [UNRESOLVED; CHUNK];
            let known = link.upcoming(&mut sessions).min(CHUNK);
            for id in sessions.iter().take(known) {
                self.open.prefetch(slab::index(*id));
                self.wheel.prefetch(slab::index(*id));
            }
            // A link that cannot tell is asked for all at once.
            let (budget, last) = match known {
                0 => (BUDGET - received, true),
                known => (known, known < CHUNK),
            };
            received += link.receive(budget, &mut |frame| self.frame(&frame, now))?;
            if last {
                break;
            }
        }
        Ok(received)
    }

    /// The same, one by one, with the clock read behind each.
    fn receive_timed(&mut self, link: &mut dyn Link, now: Instant) -> Result<usize, LinkError> {
        let mut received = 0;
        while received < BUDGET {
            let mut stamp = now;
            let frames = link.receive(1, &mut |frame| {
                stamp = frame.at;
                self.frame(&frame, now);
            })?;
            if frames == 0 {
                break;
            }
            received += frames;
            self.tally.note_latency(link.now().since(stamp));
        }
        Ok(received)
    }

    /// One frame that was steered to us.
    pub(super) fn frame(&mut self, frame: &Received<'_>, now: Instant) {
        let Some(packet) = frame.bytes.get(frame.l3_offset..) else {
            self.tally.malformed += 1;
            return;
        };
        let (reply, ends) = match decode(packet, frame.outgoing) {
            Ok(decoded) => decoded,
            Err(Undecodable::Other) => {
                self.tally.unclaimed += 1;
                return;
            }
            Err(Undecodable::Malformed | Undecodable::Checksum) => {
                self.tally.malformed += 1;
                return;
            }
        };
        let id = match &reply {
            Reply::Icmp(error) => self.quoted(frame.session, &error.quote),
            Reply::Segment(_) | Reply::OwnSyn { .. } => self.addressed(frame.session, &ends),
        };
        let Some((id, session)) = id.and_then(|id| Some((id, self.open.get_mut(id)?))) else {
            self.tally.unclaimed += 1;
            return;
        };
        self.tally.replies += 1;
        session.handle_reply(&self.options, frame.at, &reply);
        // The stamp may be later than the clock was when the batch began.
        self.settle(id, now.max(frame.at));
    }

    /// Whose segment it is: the stamped session's, if it has this flow; without
    /// a stamp, whosever flow it is.
    fn addressed(&self, id: SessionId, flow: &Flow) -> Option<SessionId> {
        if let Some(session) = self.open.get(id) {
            return (session.flow() == *flow).then_some(id);
        }
        if id != UNRESOLVED {
            return None;
        }
        self.id_at(self.lookup.find_flow(flow, &self.open)?)
    }

    /// Whose segment is quoted: the stamped session's, if the quote names its
    /// flow, or one end of it and a sequence number of its own; else whosever it
    /// can only be.
    fn quoted(&self, id: SessionId, quote: &Quote) -> Option<SessionId> {
        if let Some(session) = self.open.get(id) {
            let flow = session.flow();
            let (local, remote) = (flow.local == quote.source, flow.remote == quote.destination);
            let port = flow.local.port() == quote.source.port();
            if local && remote || (remote || port) && session.owns_sequence(quote.sequence) {
                return Some(id);
            }
        }
        let flow = Flow {
            local: quote.source,
            remote: quote.destination,
        };
        let slot = self
            .lookup
            .find_flow(&flow, &self.open)
            .or_else(|| self.lookup.find(quote, &self.open))?;
        self.id_at(slot)
    }

    fn id_at(&self, slot: u32) -> Option<SessionId> {
        let id = self.open.id_at(slot);
        debug_assert!(id.is_some_and(|id| slab::index(id) == slot));
        id
    }
}
