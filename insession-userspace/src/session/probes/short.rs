//! Answers that one cell holds, written down in few steps.

use super::super::cells::{self, Cell, NEAR_MAX, Slot, TRIPLE_MAX};
use super::super::schedule::Reach;
use super::{Probes, RECENT, TICK};
use crate::time::Instant;

/// An answer that was written down.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Short {
    pub(in crate::session) index: usize,
    pub(in crate::session) ttl: u8,
    pub(in crate::session) rtt: u32,
}

impl Probes {
    /// [`Probes::answer_short`] of the probe in flight with this sequence number,
    /// where it is the first of the farthest hop, or the one before it is of the same
    /// hop and was answered alike; nothing is done where it is otherwise.
    #[inline(always)]
    pub(in crate::session) fn answer_swift(
        &mut self,
        sequence: u32,
        at: Instant,
        head: Cell,
        reach: Reach,
    ) -> Option<Short> {
        let index = self.find_current(sequence)?;
        let cells = &mut *self.cells;
        let mut slot = Slot::from(*cells.get(index)?);
        let ttl = slot.ttl();
        if !slot.is_short() || ttl >= reach.hint {
            return None;
        }
        let elapsed = at.as_nanos().saturating_sub(self.start.as_nanos()) / TICK;
        let rtt = elapsed.saturating_sub(u64::from(slot.sent()));
        if rtt > u64::from(TRIPLE_MAX) {
            return None;
        }
        let place = if ttl > reach.farthest {
            let place = self.back + 1;
            let free = cells.len().checked_sub(place as usize)?;
            if place > NEAR_MAX || free < usize::from(self.len) {
                return None;
            }
            *cells.get_mut(free)? = head;
            self.back = place;
            place
        } else {
            let before = Slot::from(*cells.get(index.checked_sub(1)?)?);
            let place = before.place();
            let answer = cells.get(cells.len().wrapping_sub(place as usize))?;
            if before.ttl() != ttl || !before.is_answered_short() || *answer != head {
                return None;
            }
            place
        };
        slot.set_rtt(rtt as u32, place as u8);
        slot.answer();
        *cells.get_mut(index)? = slot.into();
        self.landed(index);
        Some(Short {
            index,
            ttl,
            rtt: rtt as u32,
        })
    }

    /// [`Probes::answer`] for what one cell holds, as it does of nearly all; `None`
    /// where something does not fit, and nothing was written. Where it is `fresh`,
    /// no probe of this TTL was answered before.
    #[inline(always)]
    pub(in crate::session) fn answer_short(
        &mut self,
        index: usize,
        mut slot: Slot,
        at: Instant,
        head: Cell,
        fresh: bool,
    ) -> Option<u32> {
        // A stamp may be older than the moment after the kick that sent the probe.
        let rtt = self.elapsed(at).saturating_sub(u64::from(slot.sent()));
        if slot.is_wide() || rtt > u64::from(TRIPLE_MAX) {
            return None;
        }
        let from = match fresh {
            true => self.write_short(head)?,
            // Probes of a hop are mostly answered in the order of sending.
            false => match self.beside_short(index.wrapping_sub(1), slot.ttl(), head) {
                Some(place) => place,
                None => self.place_short(index, slot.ttl(), head)?,
            },
        };
        let flying = slot.is_flying();
        slot.set_rtt(rtt as u32, from as u8);
        slot.answer();
        self.put(index, slot);
        if flying {
            self.landed(index);
        }
        Some(rtt as u32)
    }

    /// The place of an entry of this one cell, if that probe is of the same hop and
    /// has it.
    #[inline(always)]
    fn beside_short(&self, index: usize, ttl: u8, head: Cell) -> Option<u32> {
        let slot = self.slot(index)?;
        let same = slot.ttl() == ttl && slot.is_answered() && !slot.is_wide();
        let place = slot.place();
        (same && *self.at(place)?.first()? == head).then_some(place)
    }

    /// Writes an entry of one cell down; `None` where its place does not fit into a
    /// slot.
    #[inline(always)]
    fn write_short(&mut self, head: Cell) -> Option<u32> {
        if self.back >= NEAR_MAX {
            return None;
        }
        if self.room() == 0 {
            self.make_room(1);
        }
        self.back += 1;
        let at = self.cells.len() - self.back as usize;
        if let Some(cell) = self.cells.get_mut(at) {
            *cell = head;
        }
        Some(self.back)
    }

    /// Where an entry of one cell stands, or is written down; `None` where the
    /// place does not fit into a slot.
    #[inline(never)]
    fn place_short(&mut self, index: usize, ttl: u8, head: Cell) -> Option<u32> {
        // The probe before was asked already.
        let behind = self.beside_short(index + 1, ttl, head);
        match behind.or_else(|| self.recent_short(head)) {
            Some(place) => (place <= NEAR_MAX).then_some(place),
            None => self.write_short(head),
        }
    }

    /// The place of this only cell of an entry, if it is among the newest.
    #[inline]
    fn recent_short(&self, head: Cell) -> Option<u32> {
        let mut place = self.back;
        for _ in 0..RECENT {
            let cells = self.at(place)?;
            let first = cells.first()?;
            if *first == head {
                return Some(place);
            }
            let size = match cells::is_single(*first) {
                true => 1,
                false => cells::size(cells) as u32,
            };
            place = place.checked_sub(size)?;
        }
        None
    }
}
