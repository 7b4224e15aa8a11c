//! Segments out: one batch, one kick.

use super::open::{Layouts, Open};
use super::settle::is_settled;
use super::slab;
use super::worker::Worker;
use crate::link::{Link, LinkError, MAX_FRAME};
use crate::session::{Session, Transmit, TransmitKind, moment};
use crate::time::Instant;
use crate::wire::alone::Alone;
use crate::wire::template::{Layout, Own, Varying};
use std::net::SocketAddr;

/// How many turns ahead a session that is to send is fetched into the cache: as
/// many as take a miss or two in memory, at some 100 ns a segment.
const AHEAD: usize = 4;

impl Worker<'_> {
    /// One batch: a segment a session in turn, as many as the pacer and the link
    /// let pass, and one kick. Whether there was something to do.
    pub(super) fn transmit(
        &mut self,
        link: &mut dyn Link,
        now: Instant,
    ) -> Result<bool, LinkError> {
        let room = self.pacer.allowance(now).min(self.batch_size);
        if room == 0 || (self.ready.is_empty() && self.held.is_none()) {
            return Ok(false);
        }
        let room = room.min(link.room());
        let waiting = self.ready.len();
        let filled = self.fill(link, room, now);
        if filled.is_ok() && self.batch.is_empty() {
            // Some did not want to any more: that makes room for new sessions.
            return Ok(self.ready.len() < waiting);
        }
        // Before the kick: on a link that transmits within it, replies are
        // stamped before it returns.
        let at = link.now();
        let kicked = filled.and_then(|()| link.flush());
        let mut batch = core::mem::take(&mut self.batch);
        if let Err(error) = kicked {
            for (slot, kind) in batch {
                if let Some(session) = self.open.hot_at_mut(slot) {
                    session.handle_transmitted(kind, at);
                }
            }
            return Err(error);
        }
        self.pacer.spend(now, batch.len());
        self.tally.sent += batch.len() as u64;
        let mut departures = core::mem::take(&mut self.departures);
        let known = link.departures(&mut departures);
        let told = departures.get(..known).unwrap_or_default();
        match self.shared.options.rate.is_some() {
            true => self.transmitted::<true>(&batch, told, at),
            false => self.transmitted::<false>(&batch, told, at),
        }
        batch.clear();
        (self.batch, self.departures) = (batch, departures);
        Ok(true)
    }

    /// The batch left: its first frames at these times, the others at `kicked`. Where
    /// there is a rate to be spread over the TTLs, whoever `KEEPS` its turn goes on.
    #[inline(never)]
    fn transmitted<const KEEPS: bool>(
        &mut self,
        batch: &[(u32, TransmitKind)],
        departures: &[Instant],
        kicked: Instant,
    ) {
        let mut probes = 0;
        let mut departures = departures.iter();
        for (slot, kind) in batch {
            let at = departures.next().copied().unwrap_or(kicked);
            probes += u64::from(matches!(kind, TransmitKind::Probe(_)));
            // No slot is given to another session meanwhile.
            if let Some(session) = self.open.hot_at_mut(*slot) {
                session.handle_transmitted(*kind, at);
                let (ready, wheel) = (&mut self.ready, &self.wheel);
                if !is_settled(session, &self.options, ready, wheel, *slot, KEEPS, || at) {
                    self.settle_slot(*slot, KEEPS, at);
                }
            }
        }
        self.tally.probes += probes;
    }

    /// Writes the batch: at most `room` frames.
    fn fill(&mut self, link: &mut dyn Link, room: usize, now: Instant) -> Result<(), LinkError> {
        if room > 0
            && let Some((id, transmit)) = self.held.take()
            && let Some((session, open)) = self.open.both_mut(id)
        {
            match write(
                link,
                &self.layouts,
                session,
                open,
                &transmit,
                self.identification,
            ) {
                Ok(()) => self.written(slab::index(id), transmit.kind),
                Err(LinkError::Full) => {
                    self.held = Some((id, transmit));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        for turn in 0..AHEAD.min(room) {
            self.fetch_ahead(turn);
        }
        while let Some(slot) = self.fill_swift(link, room, now)? {
            let Some((id, session, open)) = self.open.at_mut(slot) else {
                continue;
            };
            if let Some(courtesy) = &mut self.courtesy
                && !courtesy.lets_by(slot, session.next_ttl(&self.options, now), now)
            {
                continue;
            }
            let Some(transmit) = session.poll_transmit(&self.options, now) else {
                continue;
            };
            if let TransmitKind::Probe(probe) = transmit.kind {
                if self.shared.options.live {
                    open.note_ttl(probe, transmit.segment.ttl);
                }
                if let Some(courtesy) = &mut self.courtesy {
                    courtesy.sent(transmit.segment.ttl, now);
                }
            }
            match write(
                link,
                &self.layouts,
                session,
                open,
                &transmit,
                self.identification,
            ) {
                Ok(()) => {}
                // The session has given it out: it would not be given again.
                Err(LinkError::Full) => {
                    self.held = Some((id, transmit));
                    break;
                }
                Err(error) => return Err(error),
            }
            // Where others fill the batch, it is asked when this one is out.
            if self.batch.len() + 1 + self.ready.len() < room
                && session.wants_transmit(&self.options, now)
            {
                self.ready.push(slot);
            }
            self.written(slot, transmit.kind);
        }
        Ok(())
    }

    /// Writes probes of sessions that go on as they did, until the batch is full or
    /// another's turn has come: which slot it has.
    #[inline(never)]
    fn fill_swift(
        &mut self,
        link: &mut dyn Link,
        room: usize,
        now: Instant,
    ) -> Result<Option<u32>, LinkError> {
        let (watched, moment) = (self.watched, moment(now));
        while self.batch.len() < room {
            self.fetch_ahead(AHEAD);
            let Some(slot) = self.ready.pop() else {
                break;
            };
            let Some((_, session, open)) = self.open.at_mut(slot) else {
                continue;
            };
            let Some(layout) = self.layouts.get(open.layout_id()) else {
                continue;
            };
            let short = layout.writes_probes() && session.has_short_probes();
            if watched || !short || !session.is_swift() {
                return Ok(Some(slot));
            }
            let (options, identification) = (&self.options, self.identification);
            let mut probe = None;
            let (out, whose) = (&mut probe, &mut *session);
            let written = link.transmit(&mut move |frame: &mut [u8]| {
                let segment = whose.peek_swift(moment);
                let length = layout.write_probe(&segment, identification, frame);
                *out = Some(whose.take_swift(options));
                length
            });
            let Some(probe) = probe else {
                // It was not asked for its probe: it is for the long way.
                return Ok(Some(slot));
            };
            written?;
            // Where others fill the batch, it is asked when this one is out.
            if self.batch.len() + 1 + self.ready.len() < room
                && session.wants_transmit(options, now)
            {
                self.ready.push(slot);
            }
            self.written(slot, TransmitKind::Probe(probe));
        }
        Ok(None)
    }

    /// A segment is in the batch.
    #[inline]
    fn written(&mut self, slot: u32, kind: TransmitKind) {
        self.identification = self.identification.wrapping_add(1);
        self.batch.push((slot, kind));
    }

    /// Has what the session whose turn it is after `turns` others will be read
    /// and written of fetched into the cache.
    #[inline]
    fn fetch_ahead(&self, turns: usize) {
        if let Some(slot) = self.ready.ahead(turns) {
            self.open.prefetch_both(slot);
        }
    }
}

/// Writes a segment with data of zeros, which may be longer than what a link's batch
/// takes.
#[cold]
#[inline(never)]
fn write_long(
    link: &mut dyn Link,
    layout: &Layout,
    own: &Own,
    segment: &Varying,
    identification: u16,
) -> Result<(), LinkError> {
    let data = vec![0; usize::from(segment.payload_len)];
    // No headers are longer than a probe's frame.
    let mut frame = vec![0; MAX_FRAME + data.len()];
    let length = layout.write_data(own, segment, &data, identification, &mut frame);
    frame.truncate(length);
    link.transmit_long(&frame)
}

/// Writes one segment into the link's batch.
#[inline]
fn write(
    link: &mut dyn Link,
    layouts: &Layouts,
    session: &Session,
    open: &Open,
    transmit: &Transmit,
    identification: u16,
) -> Result<(), LinkError> {
    let (layout, own) = open.layout(&session.flow());
    // Each open session has one.
    let Some(layout) = layouts.get(layout) else {
        return Ok(());
    };
    let content = session.content(&transmit.segment);
    let segment = |own: &Own, identification, frame: &mut [u8]| match content {
        Some(data) => layout.write_data(own, &transmit.segment, data, identification, frame),
        None => layout.write(own, &transmit.segment, identification, frame),
    };
    if transmit.kind == TransmitKind::Long {
        return write_long(link, layout, &own, &transmit.segment, identification);
    }
    let Some(odd) = &transmit.alone else {
        return link.transmit(&mut |frame| segment(&own, identification, frame));
    };
    let identification = odd.identification.unwrap_or(identification);
    let own = Own {
        remote: SocketAddr::new(own.remote.ip(), session.target_port()),
        flow_label: own.flow_label.wrapping_add(odd.label) & 0xf_ffff,
        local_port: match odd.alone {
            Alone::Segment { source_port } => source_port,
            _ => own.local_port,
        },
    };
    link.transmit(&mut |frame| match odd.alone {
        Alone::Segment { .. } => segment(&own, identification, frame),
        alone => layout.write_alone(&own, transmit.segment.ttl, &alone, identification, frame),
    })
}
