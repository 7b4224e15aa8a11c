//! From a frame to the session it is for. The stamp says which; it is believed
//! only when the frame's own addresses and ports agree, so that a reply to a
//! session that is gone cannot reach another one.

use std::net::SocketAddr;

use insession_common::flow::SessionId;

use super::slab;
use super::worker::Worker;
use crate::link::Received;
use crate::session::{Flow, Quote, Reply, Undecodable, decode};
use crate::time::Instant;
use crate::wire::{ip, tcp};

impl Worker<'_> {
    /// One frame that was steered to us.
    pub(super) fn frame(&mut self, frame: &Received<'_>, now: Instant) {
        let Some(packet) = frame.bytes.get(frame.l3_offset..) else {
            self.tally.malformed += 1;
            return;
        };
        let reply = match decode(packet, frame.outgoing) {
            Ok(reply) => reply,
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
            Reply::Segment(_) | Reply::OwnSyn { .. } => {
                self.addressed(frame.session, packet, frame.outgoing)
            }
        };
        let Some((id, open)) = id.and_then(|id| Some((id, self.open.get_mut(id)?))) else {
            self.tally.unclaimed += 1;
            return;
        };
        self.tally.replies += 1;
        open.session.handle_reply(&self.options, frame.at, &reply);
        // The stamp may be later than the clock was when the batch began.
        self.settle(id, now.max(frame.at));
    }

    /// Whose segment it is: the stamped session's, if it has this flow.
    fn addressed(&self, id: SessionId, packet: &[u8], outgoing: bool) -> Option<SessionId> {
        let flow = flow_of(packet, outgoing)?;
        (self.open.get(id)?.session.flow() == flow).then_some(id)
    }

    /// Whose segment is quoted: the stamped session's, if the quote names its
    /// flow, or one end of it and a sequence number of its own; else whosever it
    /// can only be.
    fn quoted(&self, id: SessionId, quote: &Quote) -> Option<SessionId> {
        if let Some(open) = self.open.get(id) {
            let flow = open.session.flow();
            let (local, remote) = (flow.local == quote.source, flow.remote == quote.destination);
            let port = flow.local.port() == quote.source.port();
            if local && remote || (remote || port) && open.session.owns_sequence(quote.sequence) {
                return Some(id);
            }
        }
        let owns = |slot: u32, sequence: u32| {
            let open = self.open.id_at(slot).and_then(|id| self.open.get(id));
            open.is_some_and(|open| open.session.owns_sequence(sequence))
        };
        let slot = self.lookup.find(quote, &owns)?;
        let id = self.open.id_at(slot);
        debug_assert!(id.is_some_and(|id| slab::index(id) == slot));
        id
    }
}

/// The flow of a segment, seen from our side.
fn flow_of(packet: &[u8], outgoing: bool) -> Option<Flow> {
    let packet = ip::Packet::quoted(packet).ok()?;
    let ports = tcp::First8::parse(packet.payload).ok()?;
    let source = SocketAddr::new(packet.source, ports.source_port);
    let destination = SocketAddr::new(packet.destination, ports.destination_port);
    Some(if outgoing {
        Flow {
            local: source,
            remote: destination,
        }
    } else {
        Flow {
            local: destination,
            remote: source,
        }
    })
}
