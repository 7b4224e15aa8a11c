//! From a frame to the session it is for. The stamp says which; it is believed
//! only when the frame's own addresses and ports agree, so that a reply to a
//! session that is gone cannot reach another one.

use std::net::SocketAddr;

use insession_common::flow::{BLOCK, SessionId, UNRESOLVED};

use super::settle::is_settled;
use super::slab;
use super::worker::Worker;
use crate::link::prefetch::prefetch;
use crate::link::{Link, LinkError, Received};
use crate::session::{Flow, Quote, Reply, Undecodable, decode_watched, decode_with_ends as decode};
use crate::time::Instant;
use crate::wire::usual::Exceeded;

/// Frames taken in before segments go out again.
const BUDGET: usize = 256;
/// Frames whose sessions are fetched into the cache at a time: no more than the
/// first-level cache holds together.
const CHUNK: usize = 32;

impl Worker<'_> {
    /// Takes in what was steered to us, up to a budget, and what other workers
    /// received for this one; how many frames.
    pub(super) fn receive(
        &mut self,
        link: &mut dyn Link,
        now: Instant,
    ) -> Result<usize, LinkError> {
        let received = self.receive_own(link, now)?;
        Ok(received + self.handed(link, now))
    }

    /// Takes what other workers received for this one, and wakes those that were
    /// given something of this batch; how many frames.
    fn handed(&mut self, link: &dyn Link, now: Instant) -> usize {
        let Some(mut handoff) = self.handoff.take() else {
            return 0;
        };
        handoff.wake();
        let timed = self.shared.options.latency;
        let taken = handoff.take(&mut |frame| {
            let ours = self.take_in(&frame, now).is_ok();
            if timed && ours {
                self.tally.note_latency(link.now().since(frame.at));
            }
            ours
        });
        // What was nobody's so far goes on from here.
        handoff.wake();
        self.tally.unclaimed += taken.unclaimed;
        self.handoff = Some(handoff);
        taken.frames
    }

    fn receive_own(&mut self, link: &mut dyn Link, now: Instant) -> Result<usize, LinkError> {
        if self.shared.options.latency {
            return self.receive_timed(link, now);
        }
        let mut received = 0;
        while received < BUDGET {
            let mut sessions = [UNRESOLVED; CHUNK];
            let known = link.upcoming(&mut sessions).min(CHUNK);
            let sessions = sessions.get(..known).unwrap_or_default();
            let mut places = [None; CHUNK];
            for (id, place) in sessions.iter().zip(&mut places) {
                *place = self.open.prefetch(slab::index(*id));
            }
            // By now the first of them have come. Whose id is of a session before
            // has its successor's fetched, which harms nobody.
            for session in places.iter().take(known).flatten().copied().flatten() {
                let [probe, answer] = session.next_cells();
                probe.inspect(|cell| prefetch(*cell));
                answer.inspect(|cell| prefetch(*cell));
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

    /// One frame that was steered to us: to this worker, or another one.
    #[inline(always)]
    pub(super) fn frame(&mut self, frame: &Received<'_>, now: Instant) {
        if !self.take_in_swift(frame, now) {
            self.frame_any(frame, now);
        }
    }

    /// The same, whatever it is.
    #[inline(never)]
    fn frame_any(&mut self, frame: &Received<'_>, now: Instant) {
        if let Some(handoff) = &mut self.handoff
            && frame.session != UNRESOLVED
            && slab::worker_of(frame.session) != handoff.number()
        {
            handoff.give(slab::worker_of(frame.session), frame);
            return;
        }
        let Err(port) = self.take_in_any(frame, now) else {
            return;
        };
        let ports = &self.shared.options.ports;
        let on = frame.session == UNRESOLVED
            && self.handoff.as_mut().is_some_and(|handoff| {
                let owner = port.and_then(|port| handoff.owner(ports, port));
                handoff.pass(frame, owner)
            });
        self.tally.unclaimed += u64::from(!on);
    }

    /// One frame, if it is for a session of this worker.
    ///
    /// # Errors
    /// The local port that it names, when it is for none.
    fn take_in(&mut self, frame: &Received<'_>, now: Instant) -> Result<(), Option<u16>> {
        match self.take_in_swift(frame, now) {
            true => Ok(()),
            false => self.take_in_any(frame, now),
        }
    }

    /// What most frames are, if it is one: an answer to a session of this worker
    /// that goes on as it did.
    #[inline(always)]
    fn take_in_swift(&mut self, frame: &Received<'_>, now: Instant) -> bool {
        if let Some(packet) = frame.bytes.get(frame.l3_offset..)
            && !frame.outgoing
            && let Some(error) = Exceeded::of_probe(packet)
            && let Some(session) = self.open.get_mut(frame.session)
            && let Some(answered) = session.handle_swift(&self.options, frame.at, error)
        {
            self.tally.replies += 1;
            if self.watched {
                session.tell_answered(answered);
            }
            // The stamp may be later than the clock was when the batch began.
            let now = || now.max(frame.at);
            let (ready, wheel) = (&mut self.ready, &self.wheel);
            let slot = slab::index(frame.session);
            if !is_settled(session, &self.options, ready, wheel, slot, false, now) {
                self.settle(frame.session, now());
            }
            return true;
        }
        false
    }

    /// The same, whatever it is.
    #[inline(never)]
    fn take_in_any(&mut self, frame: &Received<'_>, now: Instant) -> Result<(), Option<u16>> {
        let Some(packet) = frame.bytes.get(frame.l3_offset..) else {
            self.tally.malformed += 1;
            return Ok(());
        };
        // The stamp may be later than the clock was when the batch began.
        let now = now.max(frame.at);
        if !frame.outgoing
            && let Some(session) = self.open.get_mut(frame.session)
        {
            let options = &self.options;
            let answered = session.handle_usual(options, frame.at, packet);
            if answered.is_some() || session.handle_arrived(options, frame.at, packet) {
                self.tally.replies += 1;
                if let (Some(answered), true) = (answered, self.watched) {
                    session.tell_answered(answered);
                }
                self.settle(frame.session, now);
                return Ok(());
            }
        }
        // Of what is watched, what is no segment is an error that is quoted to us.
        let watched = match self.adopts {
            true => decode_watched(packet, frame.outgoing),
            false => Err(Undecodable::Other),
        };
        let decoded = match watched {
            Err(Undecodable::Other) => decode(packet, frame.outgoing),
            watched => watched,
        };
        let (reply, ends) = match decoded {
            Ok(decoded) => decoded,
            Err(Undecodable::Other) => return Err(None),
            Err(Undecodable::Malformed | Undecodable::Checksum) => {
                self.tally.malformed += 1;
                return Ok(());
            }
        };
        let (id, port) = match &reply {
            Reply::Icmp(error) => {
                let id = self.quoted(frame.session, &error.quote);
                (id, error.quote.source.port())
            }
            Reply::Segment(_) | Reply::Direct(_) | Reply::Own(_) | Reply::OwnSyn { .. } => {
                (self.addressed(frame.session, &ends), ends.local.port())
            }
        };
        let (id, session) = id
            .and_then(|id| Some((id, self.open.get_mut(id)?)))
            .ok_or(Some(port))?;
        self.tally.replies += 1;
        session.handle_reply(&self.options, frame.at, &reply);
        self.settle(id, now);
        Ok(())
    }

    /// Whose segment it is: the stamped session's, if it has this flow; without
    /// a stamp, whosever flow it is.
    fn addressed(&self, id: SessionId, flow: &Flow) -> Option<SessionId> {
        if let Some(session) = self.open.get(id) {
            return session.has_flow(flow).then_some(id);
        }
        if id != UNRESOLVED {
            return None;
        }
        self.id_at(self.lookup.find_flow(&self.in_block(*flow), &self.open)?)
    }

    /// The flow, where its port is of a block: the block's.
    fn in_block(&self, flow: Flow) -> Flow {
        let port = flow.local.port();
        let blocks = self.shared.options.blocks();
        match blocks.is_some_and(|blocks| blocks.contains(&port)) {
            true => Flow {
                local: SocketAddr::new(flow.local.ip(), port & !(BLOCK - 1)),
                ..flow
            },
            false => flow,
        }
    }

    /// Whose segment is quoted: the stamped session's, if the quote names its
    /// flow, or one end of it and a sequence number of its own; else whosever it
    /// can only be.
    fn quoted(&self, id: SessionId, quote: &Quote) -> Option<SessionId> {
        if let Some(session) = self.open.get(id) {
            if session.stands_alone() {
                return session.owns_quote(quote).then_some(id);
            }
            let flow = session.flow();
            let (local, remote) = (flow.local == quote.source, flow.remote == quote.destination);
            let port = flow.local.port() == quote.source.port();
            if local && remote || (remote || port) && session.owns_sequence(quote.sequence) {
                return Some(id);
            }
        }
        let flow = self.in_block(quote.flow());
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
