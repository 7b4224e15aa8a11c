//! The probes of a session and their answers, in [`Cell`]s, and the sequence
//! numbers that name the probes.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::num::NonZeroU16;

mod short;

use super::cells::{self, Cell, Common, Entry, NEAR_MAX, Slot, TRIPLE_MAX, Wide, Written};
use super::connection::{later, nanos};
use super::{Outcome, ProbeId};
use crate::time::{Duration, Instant};
use crate::trace::{ReplyKind, Rewrite};

mod recall;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Sent, and not yet given up.
    Flying,
    /// Unanswered for `probe_timeout`. A later answer is not taken: the loss has
    /// been told already.
    Lost,
    /// Answered.
    Answered(ReplyKind),
}

/// The resolution of recorded times, ns: what the contract prints (a tenth of a
/// microsecond).
pub(super) const TICK: u64 = 100;
/// Moments are kept in 40 bits, which last for 30 hours, and saturate there;
/// round-trip times in 32, 429 s.
const LAST: u64 = (1 << 40) - 1;

/// Entries, newest first, among which an answer's like is looked for. Probes of
/// a hop are asked first; what is not found is written down once more.
const RECENT: usize = 4;

/// The sequence numbers of one connection's probes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The peer's `rcv_nxt`: the byte here is never sent.
    pub(super) base: u32,
    /// The first probe of this connection, as an index.
    first: u16,
    /// One behind its last.
    end: u16,
}

impl Span {
    /// Which probe has this sequence number. Probe *n* of a connection (from 0)
    /// has `base + 1 + 2n`: an odd distance.
    pub(super) fn find(&self, sequence: u32) -> Option<usize> {
        // Even ones come out above all that there are.
        let nth = sequence.wrapping_sub(self.base).rotate_right(1) ^ 1 << 31;
        let index = usize::from(self.first) + nth as usize;
        (index < usize::from(self.end)).then_some(index)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Probes {
    start: Instant,
    /// Probes at the front, what answers have in common at the back. A *place*
    /// is a distance from the end: it stays when the cells grow.
    cells: Box<[Cell]>,
    /// Cells in use at the back.
    back: u32,
    /// [`Span::base`] of the current connection.
    base: u32,
    /// [`Span::first`] of it.
    first: u16,
    /// Probes sent.
    len: u16,
    /// Every probe before this index is answered or lost; mostly the one at it is
    /// not.
    settled: u16,
    /// How many are neither.
    flying: u16,
}

const _: () = assert!(size_of::<Probes>() <= 40);

/// A session sends no more, whatever its options say: probe numbers have 16
/// bits, and the last ones stay free for those that are sent again.
const MOST: u16 = 60_000;

impl Probes {
    pub(super) fn new(start: Instant) -> Self {
        Probes {
            start,
            cells: Box::default(),
            back: 0,
            base: 0,
            first: 0,
            len: 0,
            settled: 0,
            flying: 0,
        }
    }

    /// The first segment of the session leaves: times count from here.
    pub(super) fn begin(&mut self, now: Instant) {
        self.start = now;
    }

    /// What times count from.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Makes room for that many probes and what answers them, at once: growing
    /// step by step leaves holes in the heap.
    pub(super) fn reserve(&mut self, hops: usize, probes: usize) {
        // A destination answers in more than one way.
        const SPARE: usize = 2;
        let wanted = hops * probes + hops + SPARE;
        let room = self.room();
        if wanted > room {
            self.grow(wanted - room);
        }
    }

    /// Cells that are free.
    #[inline]
    fn room(&self) -> usize {
        self.cells
            .len()
            .saturating_sub(usize::from(self.len) + self.back as usize)
    }

    /// That many cells more.
    fn grow(&mut self, more: usize) {
        let (len, back) = (usize::from(self.len), self.back as usize);
        let mut cells = vec![Cell::default(); self.cells.len() + more].into_boxed_slice();
        for (out, cell) in cells.iter_mut().zip(&self.cells[..len]) {
            *out = *cell;
        }
        for (out, cell) in cells
            .iter_mut()
            .rev()
            .zip(self.cells.iter().rev().take(back))
        {
            *out = *cell;
        }
        self.cells = cells;
    }

    /// Makes room for `cells` more, and some.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, cells: usize) {
        if self.room() < cells {
            self.grow(cells + (self.cells.len() / 4).max(12));
        }
    }

    /// A connection is open whose peer expects `base` next; gives the span of
    /// the one before, if it had probes.
    pub(super) fn connect(&mut self, base: u32) -> Option<Span> {
        let before = (self.len > self.first).then_some(Span {
            base: self.base,
            first: self.first,
            end: self.len,
        });
        (self.base, self.first) = (base, self.len);
        before
    }

    fn current(&self) -> Span {
        Span {
            base: self.base,
            first: self.first,
            end: self.len,
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Probes of the current connection.
    #[inline]
    fn mine(&self) -> u32 {
        u32::from(self.len - self.first)
    }

    /// Whether another fits into a receive window of `window` bytes: probe *n*
    /// (from 1) of a connection ends at `base + 2n`.
    #[inline]
    pub(super) fn fits(&self, window: u32) -> bool {
        self.fit(1, window)
    }

    /// The same of `more`.
    #[inline]
    pub(super) fn fit(&self, more: u32, window: u32) -> bool {
        u32::from(self.len) + more <= u32::from(MOST) && (self.mine() + more) * 2 <= window
    }

    /// The sequence number of the probe that is sent next.
    #[inline]
    pub(super) fn next_sequence(&self) -> u32 {
        self.base.wrapping_add(1).wrapping_add(2 * self.mine())
    }

    /// One more was sent.
    #[inline]
    pub(super) fn push(&mut self, ttl: u8, now: Instant) -> ProbeId {
        let id = self.push_untimed(ttl);
        self.sent(id, now);
        id
    }

    /// One more is, and when [`Probes::sent`] will say.
    #[inline(always)]
    pub(super) fn push_untimed(&mut self, ttl: u8) -> ProbeId {
        let index = usize::from(self.len);
        if index + self.back as usize >= self.cells.len() {
            self.make_room(1);
        }
        self.put(index, Slot::new(ttl, 0));
        self.len += 1;
        self.flying += 1;
        id(index)
    }

    /// It left at `at`, not at the moment it was decided.
    #[inline]
    pub(super) fn sent(&mut self, probe: ProbeId, at: Instant) {
        let sent = self.elapsed(at);
        let index = index(probe);
        if index < usize::from(self.len)
            && let Ok(short) = u32::try_from(sent)
            && let Some(cell) = self.cells.get_mut(index)
            && Slot::from(*cell).is_short()
        {
            cell.set_word(short);
            return;
        }
        self.sent_long(index, sent.min(LAST));
    }

    /// The same, of one that is answered already or does not fit into its slot.
    #[inline(never)]
    fn sent_long(&mut self, index: usize, sent: u64) {
        let Some(slot) = self.slot(index) else {
            return;
        };
        // Its answer may have been read before: that it arrived when it did
        // stands.
        let before = self.sent_ticks(slot);
        let (later, earlier) = (sent.saturating_sub(before), before.saturating_sub(sent));
        let rtt = match slot.is_answered() {
            true => narrow((u64::from(self.rtt_ticks(slot)) + earlier).saturating_sub(later)),
            false => 0,
        };
        self.set_times(index, sent, rtt);
    }

    /// One probe.
    #[inline]
    pub(super) fn slot(&self, index: usize) -> Option<Slot> {
        if index >= usize::from(self.len) {
            return None;
        }
        self.cells.get(index).map(|cell| Slot::from(*cell))
    }

    #[inline]
    fn put(&mut self, index: usize, slot: Slot) {
        if let Some(cell) = self.cells.get_mut(index) {
            *cell = slot.into();
        }
    }

    /// What became of it.
    pub(super) fn fate(&self, slot: Slot) -> Fate {
        if slot.is_flying() {
            return Fate::Flying;
        }
        match self.written(slot) {
            Some(answer) => Fate::Answered(answer.head.kind()),
            None => Fate::Lost,
        }
    }

    fn all(&self) -> impl Iterator<Item = (usize, Slot)> {
        let slots = self.cells.iter().take(usize::from(self.len));
        slots.map(|cell| Slot::from(*cell)).enumerate()
    }

    /// The probe of the current connection with this sequence number.
    pub(super) fn find_current(&self, sequence: u32) -> Option<usize> {
        self.current().find(sequence)
    }

    /// The sequence number of a probe of the current connection.
    pub(super) fn sequence(&self, index: usize) -> Option<u32> {
        let nth = index.checked_sub(usize::from(self.first))?;
        Some(self.base.wrapping_add(1).wrapping_add(2 * nth as u32))
    }

    /// How many are in flight.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.flying)
    }

    /// When the oldest in flight was sent.
    #[inline]
    pub(super) fn oldest(&self) -> Option<Instant> {
        let (_, slot) = self.flying().next()?;
        Some(self.sent_at(slot))
    }

    /// Those in flight, oldest first.
    pub(super) fn flying(&self) -> impl DoubleEndedIterator<Item = (usize, Slot)> {
        let settled = usize::from(self.settled);
        let slots = self.cells.get(settled..usize::from(self.len));
        let slots = slots.unwrap_or_default().iter().enumerate();
        slots
            .map(move |(nth, cell)| (settled + nth, Slot::from(*cell)))
            .filter(|(_, slot)| slot.is_flying())
    }

    /// Those in flight that the peer of the current connection can answer.
    pub(super) fn flying_here(&self) -> impl Iterator<Item = (usize, Slot)> {
        let first = usize::from(self.first);
        self.flying().filter(move |(index, _)| *index >= first)
    }

    /// The one of them; `None` when there are none or several.
    pub(super) fn only_flying_here(&self) -> Option<usize> {
        let mut flying = self.flying_here();
        match (flying.next(), flying.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        }
    }

    /// The oldest in flight, if it has been for `timeout`.
    pub(super) fn overdue(&self, now: Instant, timeout: Duration) -> Option<usize> {
        let (oldest, slot) = self.flying().next()?;
        (later(self.sent_at(slot), nanos(timeout)) <= now).then_some(oldest)
    }

    /// When a probe was sent.
    #[inline]
    pub(super) fn sent_at(&self, slot: Slot) -> Instant {
        let after = self.sent_ticks(slot) * TICK;
        Instant::from_nanos(self.start.as_nanos().saturating_add(after))
    }

    #[inline]
    fn sent_ticks(&self, slot: Slot) -> u64 {
        let high = self
            .wide(slot)
            .map_or(0, |wide| u64::from(wide.sent_high()));
        high << 32 | u64::from(slot.sent())
    }

    fn rtt_ticks(&self, slot: Slot) -> u32 {
        self.wide(slot).map_or(slot.rtt(), Wide::rtt)
    }

    /// The values of a slot that do not fit into it.
    fn wide(&self, slot: Slot) -> Option<Wide> {
        self.at(slot.wide()?)?.first().map(|cell| Wide::from(*cell))
    }

    /// The place of a probe's answer.
    #[inline]
    fn answer_of(&self, slot: Slot) -> u32 {
        if slot.is_wide() {
            return self.wide(slot).map_or(0, Wide::place);
        }
        slot.place()
    }

    /// The cells from a place on.
    #[inline]
    fn at(&self, place: u32) -> Option<&[Cell]> {
        let index = self.cells.len().checked_sub(place as usize)?;
        self.cells.get(index..)
    }

    /// The answer of a probe, as it was written down.
    fn written(&self, slot: Slot) -> Option<Written<'_>> {
        if !slot.is_answered() {
            return None;
        }
        Written::new(self.at(self.answer_of(slot))?)
    }

    /// Writes both times down.
    fn set_times(&mut self, index: usize, sent: u64, rtt: u32) {
        let Some(slot) = self.slot(index) else {
            return;
        };
        let from = self.answer_of(slot);
        self.set(index, sent, rtt, from);
    }

    /// Writes both times and the place of the answer down.
    fn set(&mut self, index: usize, sent: u64, rtt: u32, from: u32) {
        let high = (sent >> 32) as u8;
        let fits = high == 0 && rtt <= TRIPLE_MAX && from <= NEAR_MAX;
        let Some(mut slot) = self.slot(index) else {
            return;
        };
        slot.set_sent(sent as u32);
        if !slot.is_wide() && fits {
            slot.set_rtt(rtt, from as u8);
        } else {
            let place = slot.wide().unwrap_or_else(|| {
                self.make_room(1);
                self.back += 1;
                self.back
            });
            slot.set_wide(place);
            let at = self.cells.len() - place as usize;
            if let Some(cell) = self.cells.get_mut(at) {
                *cell = Wide::new(rtt, from, high).into();
            }
        }
        self.put(index, slot);
    }

    /// Writes an answer that came at `at` down; returns its round-trip time, in
    /// [`TICK`]s.
    pub(super) fn answer(&mut self, index: usize, at: Instant, common: &Common<'_>) -> u32 {
        let Some(slot) = self.slot(index) else {
            return 0;
        };
        let entry = Entry::new(common);
        if let Some(head) = entry.short()
            && let Some(rtt) = self.answer_short(index, slot, at, head, false)
        {
            return rtt;
        }
        let from = self.place(index, slot.ttl(), &entry);
        self.answer_wide(index, self.ticks(at), from)
    }

    /// The same, where it does not fit into the slot.
    fn answer_wide(&mut self, index: usize, at: u64, from: u32) -> u32 {
        let Some(slot) = self.slot(index) else {
            return 0;
        };
        let sent = self.sent_ticks(slot);
        let rtt = narrow(at.saturating_sub(sent));
        self.set(index, sent, rtt, from);
        self.end(index, Slot::answer);
        rtt
    }

    /// Gives one up.
    pub(super) fn lose(&mut self, index: usize) {
        self.end(index, Slot::lose);
    }

    fn end(&mut self, index: usize, end: impl FnOnce(&mut Slot)) {
        let Some(mut slot) = self.slot(index) else {
            return;
        };
        let flying = slot.is_flying();
        end(&mut slot);
        self.put(index, slot);
        if flying {
            self.landed(index);
        }
    }

    /// It is in flight no more.
    #[inline(always)]
    fn landed(&mut self, index: usize) {
        self.flying -= 1;
        // Mostly they land in the order of sending. Where this was the last before
        // others that have landed, they are stepped over when the oldest is asked for.
        if index == usize::from(self.settled) {
            self.settled += 1;
        }
    }

    /// Where the entry stands that says this of an answer to this probe; it is
    /// written down if need be.
    fn place(&mut self, index: usize, ttl: u8, entry: &Entry<'_>) -> u32 {
        if let Some(place) = self.like(index, ttl, entry) {
            return place;
        }
        if self.back as usize + entry.len() > TRIPLE_MAX as usize {
            // Millions of labels: the answer stands without them.
            return self.write(&entry.without_labels());
        }
        self.write(entry)
    }

    /// The place of the same entry, if it is where it most likely stands: beside
    /// another probe of the hop, or among the newest.
    fn like(&self, index: usize, ttl: u8, entry: &Entry<'_>) -> Option<u32> {
        self.beside(index.wrapping_sub(1), ttl, entry)
            .or_else(|| self.beside(index + 1, ttl, entry))
            .or_else(|| self.recent(entry))
    }

    /// The place of the same entry, if that probe is of the same hop and has it.
    #[inline]
    fn beside(&self, index: usize, ttl: u8, entry: &Entry<'_>) -> Option<u32> {
        let slot = self.slot(index)?;
        if slot.ttl() != ttl || !slot.is_answered() {
            return None;
        }
        let place = self.answer_of(slot);
        entry.is_at(self.at(place)?).then_some(place)
    }

    /// The same, if it is among the newest.
    fn recent(&self, entry: &Entry<'_>) -> Option<u32> {
        let mut place = self.back;
        for _ in 0..RECENT {
            let cells = self.at(place)?;
            if entry.is_at(cells) {
                return Some(place);
            }
            place = place.checked_sub(cells::size(cells) as u32)?;
        }
        None
    }

    #[inline(never)]
    fn write(&mut self, entry: &Entry<'_>) -> u32 {
        if self.room() < entry.len() {
            self.make_room(entry.len());
        }
        self.back += entry.len() as u32;
        let at = self.cells.len() - self.back as usize;
        if let Some(cells) = self.cells.get_mut(at..) {
            entry.write(cells);
        }
        self.back
    }

    /// Takes back answers of this kind up to this TTL; gives their probes.
    pub(super) fn take_back(&mut self, kind: ReplyKind, ttl: u8) -> Vec<usize> {
        let taken: Vec<usize> = self
            .all()
            .filter(|(_, slot)| slot.ttl() <= ttl && self.fate(*slot) == Fate::Answered(kind))
            .map(|(index, _)| index)
            .collect();
        for index in &taken {
            self.end(*index, Slot::lose);
        }
        taken
    }

    /// Every answer: its probe's TTL, its kind, its sender, its ICMP code.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u8, ReplyKind, IpAddr, u8)> {
        self.all().filter_map(|(_, slot)| {
            let answer = self.written(slot)?;
            let (kind, code) = (answer.head.kind(), answer.head.code());
            Some((slot.ttl(), kind, answer.from(), code))
        })
    }

    /// What became of a probe so far.
    pub(super) fn outcome(&self, index: usize) -> Option<Outcome> {
        let slot = self.slot(index)?;
        let answer = self.written(slot);
        Some(Outcome {
            ttl: slot.ttl(),
            sent: self.sent_at(slot),
            answer: answer.map(|answer| (answer.head.kind(), answer.from())),
        })
    }

    /// Whether a probe of this TTL was answered.
    pub(super) fn is_answered(&self, ttl: u8) -> bool {
        self.all()
            .any(|(_, slot)| slot.ttl() == ttl && slot.is_answered())
    }

    /// The TTL of the first probe, if it was sent behind this TTL, and none has been
    /// since with a smaller one.
    #[inline]
    pub(super) fn begun_behind(&self, first: u8) -> Option<u8> {
        let begun = self.slot(0)?.ttl();
        if begun <= first {
            return None;
        }
        let lowest = self.all().map(|(_, slot)| slot.ttl()).min();
        (lowest == Some(begun)).then_some(begun)
    }

    /// The smallest TTL of which a probe was given up.
    pub(super) fn nearest_lost(&self) -> Option<u8> {
        let lost = self.all().filter(|(_, slot)| slot.is_lost());
        lost.map(|(_, slot)| slot.ttl()).min()
    }

    #[inline]
    fn ticks(&self, at: Instant) -> u64 {
        self.elapsed(at).min(LAST)
    }

    /// [`Probes::ticks`], for who takes none near [`LAST`].
    #[inline]
    fn elapsed(&self, at: Instant) -> u64 {
        at.as_nanos().saturating_sub(self.start.as_nanos()) / TICK
    }

    /// The cells that the next answer will most likely touch.
    #[inline]
    pub(super) fn next_cells(&self) -> [Option<&Cell>; 2] {
        // Where there is none it lies behind the end.
        let back = self.cells.len().wrapping_sub(self.back as usize + 1);
        [usize::from(self.settled), back].map(|at| self.cells.get(at))
    }

    /// Cells allocated.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.cells.len()
    }
}

fn narrow(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// The bit of a rewrite in an answer.
pub(super) const fn bit(rewrite: Rewrite) -> u32 {
    1 << rewrite as u32
}

/// The index of a probe.
#[inline]
pub(super) fn index(probe: ProbeId) -> usize {
    usize::from(probe.0.get()) - 1
}

/// The number of the probe at an index.
#[inline]
pub(super) fn id(index: usize) -> ProbeId {
    ProbeId(NonZeroU16::MIN.saturating_add(index as u16))
}
