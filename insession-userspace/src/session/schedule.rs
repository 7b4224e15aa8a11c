//! Which probe goes out next, and when: TTLs in a sliding window, rising, to
//! the destination and not beyond.
//!
//! The next probe is sent when all of this is true:
//! 1. its TTL is not above the limit: the destination, else the router that
//!    declared it unreachable, else `max_ttl`;
//! 2. its TTL is at most `gap_limit` above the farthest hop that answered;
//! 3. it fits into the peer's receive window;
//! 4. fewer probes are in flight than the window allows ([`Pace`]). A probe
//!    that has been in flight for the release delay no longer counts.

use core::num::NonZeroU8;

use super::SessionOptions;
use super::connection::{later, nanos};
use super::probes::{Probes, TICK};
use crate::time::{Duration, Instant};
use crate::trace::ReplyKind;

/// Probes in flight on the way to the destination. Fewer: more round trips a
/// trace. More: bursts that meet the ICMP rate limits of routers, and more
/// probes beyond a destination that is nearer than thought. Four hops of three.
const WINDOW: usize = 12;

/// Bounds of the release delay. Shorter than the lower: routers that answer
/// from a slow path (tens of milliseconds are common) are waited for no longer.
/// Longer than the upper: a silent hop costs more than it is worth. Nanoseconds.
const RELEASE: (u64, u64) = (50_000_000, 1_000_000_000);

/// How many may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// So many, released ones not counted.
    Window(usize),
    /// One, and every other must be answered or lost: whatever arrives can be
    /// meant for it only.
    Alone,
    /// Those of one hop: what arrives is meant for one of them, and which one is
    /// asked when something does.
    Hop,
}

/// Between which TTLs an answer changes little.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// [`Schedule::farthest`].
    pub(super) farthest: u8,
    /// From here on a router's answer disproves the hint.
    pub(super) hint: u8,
}

/// What holds a probe back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// As many in flight as may be, until the first of them no longer counts.
    Until(Instant),
    /// Others must be answered or lost first.
    Answered,
}

/// A TTL, or none: TTL 0 is never probed.
type Ttl = Option<NonZeroU8>;

/// The order of probes. Times in [`TICK`]s.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// The largest RTT seen.
    rtt: u32,
    /// The smallest.
    shortest: u32,
    /// Probes in flight whose answers have come but cannot be read yet: they do
    /// not hold back one that is sent alone. Which they are is not known, so the
    /// first loss makes it 0.
    pub(super) accounted: u16,
    /// The TTL probed next.
    ttl: u8,
    /// Probes of it that were sent.
    nth: u8,
    /// Probes a hop: fewer than the options say where the peer's receive window
    /// would not hold them all.
    probes: u8,
    /// The smallest TTL that reached the destination.
    destination: Ttl,
    /// The smallest TTL at which a router declared it unreachable.
    unreachable: Ttl,
    /// The largest TTL that was answered; before the first one otherwise.
    farthest: u8,
    /// Where the destination seems to be, from the SYN-ACK's TTL. A hint: it
    /// changes the pace and nothing else.
    hint: u8,
    /// Once nothing is in flight, probe again from here.
    rewind: Ttl,
    /// The hop before the destination is asked again, and nothing behind it.
    doubted: Ttl,
    /// What [`Schedule::renew`] makes of the rest: the last TTL that may be probed now.
    last: u8,
    /// And how many may be in flight; 0 where that is not all that counts.
    most: u8,
    /// How many may be in flight as long as nothing happens but answers as
    /// [`Session::handle_usual`](super::Session::handle_usual) takes them, and
    /// probes of the hops ahead; 0 where everything is to be looked at.
    swift: u8,
    /// [`REWINDS`], [`DISPROVED`], [`SENT_ALONE`], [`UNNAMED`], [`ALONE`], [`WAITS`] and
    /// [`SINGLY`].
    marks: u8,
}

/// Rewinds left: no peer can keep us probing.
const REWINDS: u8 = 0b11;
/// A router answered at or behind the hint.
const DISPROVED: u8 = 1 << 2;
/// The latest probe was sent alone.
const SENT_ALONE: u8 = 1 << 3;
/// The peer's answers name no probe: [`Pace::Alone`] near the destination.
const UNNAMED: u8 = 1 << 4;
/// [`Pace::Alone`] everywhere: an offset is to be learnt, or an answer could have
/// been for several probes.
const ALONE: u8 = 1 << 5;
/// It would be as simple as [`Schedule::swift`] has it, but for that the next hop is
/// too far from the farthest.
const WAITS: u8 = 1 << 6;
/// One in flight at a time, released ones not counted.
const SINGLY: u8 = 1 << 7;

const _: () = assert!(size_of::<Schedule>() <= 24);

impl Schedule {
    pub(super) fn new() -> Self {
        Schedule {
            ttl: 1,
            nth: 0,
            probes: 1,
            destination: None,
            unreachable: None,
            farthest: 0,
            hint: u8::MAX,
            last: 0,
            most: 0,
            swift: 0,
            marks: 2,
            accounted: 0,
            rewind: None,
            doubted: None,
            rtt: 0,
            shortest: u32::MAX,
        }
    }

    /// The smallest TTL that reached the destination.
    pub(super) fn destination(&self) -> Option<u8> {
        self.destination.map(NonZeroU8::get)
    }

    pub(super) fn set_destination(&mut self, ttl: Option<u8>) {
        self.destination = ttl.and_then(NonZeroU8::new);
    }

    /// The smallest TTL at which a router declared it unreachable.
    pub(super) fn unreachable(&self) -> Option<u8> {
        self.unreachable.map(NonZeroU8::get)
    }

    pub(super) fn set_unreachable(&mut self, ttl: Option<u8>) {
        self.unreachable = ttl.and_then(NonZeroU8::new);
    }

    /// The latest probe was sent alone.
    pub(super) fn sent_alone(&self) -> bool {
        self.marks & SENT_ALONE != 0
    }

    /// The peer's answers name no probe.
    pub(super) fn is_unnamed(&self) -> bool {
        self.marks & UNNAMED != 0
    }

    /// They do, or do not.
    pub(super) fn set_unnamed(&mut self, unnamed: bool) {
        self.marks = self.marks & !UNNAMED | if unnamed { UNNAMED } else { 0 };
    }

    /// One probe at a time, everywhere.
    pub(super) fn is_alone(&self) -> bool {
        self.marks & ALONE != 0
    }

    /// From now on.
    pub(super) fn go_alone(&mut self) {
        self.marks |= ALONE;
    }

    /// From now on one is in flight at a time, unless it is no longer waited for.
    pub(super) fn go_singly(&mut self) {
        self.marks |= SINGLY;
    }

    /// Whether it goes back once nothing is in flight.
    pub(super) fn rewinds(&self) -> bool {
        self.rewind.is_some()
    }

    /// The connection is open for the first time. `arrived` is the SYN-ACK's
    /// TTL, `window` the peer's receive window, octets.
    pub(super) fn begin(&mut self, options: &SessionOptions, arrived: u8, window: u32) {
        let first = options.first_ttl.max(1);
        // Stacks begin at 64, 128 or 255 (32 is extinct); what is missing was
        // taken by routers, the destination comes behind the last.
        let origin = match arrived {
            0..=64 => 64,
            65..=128 => 128,
            _ => 255,
        };
        self.hint = origin - arrived + 1;
        // What is known before the first probe was set by `begin_behind`.
        if self.ttl < first || self.ttl >= self.hint.min(options.max_ttl) {
            self.ttl = first;
        }
        self.farthest = self.ttl - 1;
        // Not as many hops as there may be, but as many as there seem to be, and half as
        // many more, lest a small window be shared out among hops that are none.
        let last = self.hint.saturating_add(self.hint / 2).min(options.max_ttl);
        let hops = u32::from(last.saturating_sub(first)) + 1;
        let most = (window / 2 / hops).clamp(1, 255) as u8;
        self.probes = options.probes.min(most).max(1);
    }

    /// Probing begins behind this TTL.
    pub(super) fn begin_behind(&mut self, ttl: u8) {
        self.ttl = ttl.saturating_add(1);
    }

    /// Goes back to the first TTL, and up to the one before `begun` once more.
    pub(super) fn go_back(&mut self, options: &SessionOptions, begun: u8) {
        self.doubted = NonZeroU8::new(begun.saturating_sub(1));
        self.ask_again(options.first_ttl.max(1));
    }

    /// Whether the peer's window holds fewer probes than were asked for.
    pub(super) fn is_curbed(&self, options: &SessionOptions, probes: &Probes, window: u32) -> bool {
        let more = !self.is_past_end(options) && !self.is_past_gap(options);
        self.probes < options.probes || more && !probes.fits(window)
    }

    /// Hops that are most likely probed.
    pub(super) fn hops(&self, options: &SessionOptions) -> usize {
        let last = self.hint.min(options.max_ttl);
        usize::from(last.saturating_sub(options.first_ttl)) + 1
    }

    /// Probes that are sent a hop.
    pub(super) fn probes_a_hop(&self) -> usize {
        usize::from(self.probes)
    }

    #[inline]
    pub(super) fn saw_rtt(&mut self, ticks: u32) {
        if ticks > self.rtt {
            self.rtt = ticks;
        }
        if ticks < self.shortest {
            self.shortest = ticks;
        }
    }

    /// The smallest RTT seen.
    pub(super) fn shortest(&self) -> Duration {
        Duration::from_nanos(u64::from(self.shortest) * TICK)
    }

    /// A probe with this TTL was answered; whether that can change which probes
    /// may go out.
    #[inline]
    pub(super) fn answered(&mut self, ttl: u8, kind: ReplyKind) -> bool {
        let farther = ttl > self.farthest;
        let disproves = kind == ReplyKind::TimeExceeded && ttl >= self.hint;
        if farther {
            self.farthest = ttl;
        }
        if disproves {
            self.marks |= DISPROVED;
        }
        farther || disproves
    }

    /// Nothing but the farthest hop says what may go out.
    #[inline]
    pub(super) fn is_usual(&self) -> bool {
        let known = self.destination.or(self.unreachable);
        known.is_none() && self.marks & (UNNAMED | ALONE) == 0
    }

    /// An answer may have been for any of several probes, `lowest` the smallest
    /// TTL of them: be quiet, then probe again from there, one at a time.
    pub(super) fn ambiguous(&mut self, lowest: u8) {
        self.go_alone();
        if self.marks & REWINDS > 0 {
            let lowest = NonZeroU8::new(lowest);
            self.rewind = [self.rewind, lowest].into_iter().flatten().min();
        }
    }

    /// Nothing is in flight: goes back where that was asked for.
    pub(super) fn quiet(&mut self) {
        if let Some(ttl) = self.rewind.take()
            && self.destination.is_none_or(|known| ttl < known)
        {
            self.marks -= 1;
            (self.ttl, self.nth) = (ttl.get(), 0);
        }
    }

    /// Nothing is in flight, answers came that cannot be read, and there is
    /// nothing left to ask: from `ttl` on once more, so that one goes out alone.
    pub(super) fn ask_again(&mut self, ttl: u8) {
        (self.ttl, self.nth) = (ttl, 0);
    }

    /// The hop before the `destination`, if it is to be asked again. Where the
    /// hint put the destination farther away, probes of several TTLs reached it at
    /// once: a SACK that is held back for all of them names but the latest four.
    /// So a silent hop before it may have been the destination itself.
    pub(super) fn doubtful(&self, options: &SessionOptions, destination: u8) -> Option<u8> {
        let before = destination.checked_sub(1)?;
        let at_once = destination < self.hint && !self.is_unnamed();
        let asked = self.doubted.is_some_and(|ttl| ttl.get() <= before);
        (at_once && before >= options.first_ttl && !asked).then_some(before)
    }

    /// Asks it again.
    pub(super) fn doubt(&mut self, ttl: u8) {
        self.doubted = NonZeroU8::new(ttl);
        self.ask_again(ttl);
    }

    /// A second connection is open. What the first one's peer left unanswered
    /// behind the farthest hop, from `unanswered` on, is asked again; offsets are
    /// another connection's.
    pub(super) fn reopened(&mut self, unanswered: Option<u8>) {
        if let Some(ttl) = unanswered
            && ttl <= self.ttl
        {
            (self.ttl, self.nth) = (ttl, 0);
        }
        self.offset_learnt(false);
    }

    #[inline]
    pub(super) fn reach(&self) -> Reach {
        Reach {
            farthest: self.farthest,
            hint: self.hint,
        }
    }

    /// A router answered at this TTL, the farthest so far and before the hint; the
    /// session is a swift one, and nothing else limits what may go out.
    #[inline]
    pub(super) fn reached(&mut self, options: &SessionOptions, ttl: u8) {
        self.farthest = ttl;
        self.last = options.max_ttl.min(ttl.saturating_add(options.gap_limit));
        if self.waits() && self.ttl <= self.last {
            self.marks &= !WAITS;
            self.swift = self.most;
        }
    }

    /// The largest TTL that was answered.
    pub(super) fn farthest(&self) -> u8 {
        self.farthest
    }

    /// Answers can be read again, or it is known that they never will be; `more`
    /// says that there are others.
    pub(super) fn offset_learnt(&mut self, more: bool) {
        if !self.is_unnamed() && !more {
            self.marks &= !ALONE;
        }
        self.accounted = 0;
    }

    /// The last TTL that is of interest.
    fn limit(&self, options: &SessionOptions) -> u8 {
        let limit = self.destination.or(self.unreachable);
        let limit = limit.map_or(options.max_ttl, |ttl| ttl.get().min(options.max_ttl));
        self.doubted.map_or(limit, |ttl| ttl.get().min(limit))
    }

    /// Whether there is nothing left to send, as far as is known now.
    pub(super) fn is_exhausted(
        &self,
        options: &SessionOptions,
        probes: &Probes,
        window: u32,
    ) -> bool {
        self.is_past_end(options) || self.is_past_gap(options) || !probes.fits(window)
    }

    fn is_past_end(&self, options: &SessionOptions) -> bool {
        // TTL 255 has no successor: `nth` stays at its end.
        self.ttl > self.limit(options) || self.nth >= self.probes
    }

    fn is_past_gap(&self, options: &SessionOptions) -> bool {
        self.ttl > self.farthest.saturating_add(options.gap_limit)
    }

    /// Whether a probe would go out if fewer were in flight.
    #[inline]
    pub(super) fn is_open(&self, probes: &Probes, window: u32) -> bool {
        self.ttl <= self.last && probes.fits(window)
    }

    /// How many may be in flight without another look at anything; 0 where it is
    /// not as simple.
    #[inline]
    pub(super) fn swift(&self) -> u8 {
        self.swift
    }

    /// Everything is to be looked at.
    #[inline]
    pub(super) fn linger(&mut self) {
        self.swift = 0;
        self.marks &= !WAITS;
    }

    /// Everything was: where all probes of the hop fit, and nothing but the farthest
    /// hop says which may go out, that is enough until something else happens.
    #[inline]
    pub(super) fn hurry(&mut self, probes: &Probes, window: u32) {
        self.linger();
        if self.rewind.is_none() && self.is_usual() {
            self.swift = self.most;
            self.hurry_on(probes, window);
        }
    }

    /// It is as simple no longer where what is probed next may not go out.
    #[inline]
    pub(super) fn hurry_on(&mut self, probes: &Probes, window: u32) {
        let left = u32::from(self.probes.saturating_sub(self.nth));
        if !probes.fit(left, window) {
            self.linger();
        } else if self.ttl > self.last && self.swift != 0 {
            self.swift = 0;
            self.marks |= WAITS;
        }
    }

    /// Whether it is as simple as that once a farther hop has answered.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.marks & WAITS != 0
    }

    /// The TTL that is probed next.
    #[inline]
    pub(super) fn ttl(&self) -> u8 {
        self.ttl
    }

    /// The TTL to probe now, if a probe may go out.
    #[inline]
    pub(super) fn next(
        &self,
        options: &SessionOptions,
        probes: &Probes,
        window: u32,
        now: Instant,
    ) -> Option<u8> {
        if !self.is_open(probes, window) {
            return None;
        }
        // Most often: some are in flight, and fewer than may be.
        let clear = probes.in_flight() < usize::from(self.most)
            || self.hold_of(options, probes, now).is_none();
        clear.then_some(self.ttl)
    }

    #[inline(never)]
    fn hold_of(&self, options: &SessionOptions, probes: &Probes, now: Instant) -> Option<Hold> {
        self.hold(options, probes, probes.oldest(), now)
    }

    /// Where it is open: what holds the next probe back, `oldest` being the
    /// moment when the oldest in flight was sent.
    #[inline]
    pub(super) fn hold(
        &self,
        options: &SessionOptions,
        probes: &Probes,
        oldest: Option<Instant>,
        now: Instant,
    ) -> Option<Hold> {
        let most = usize::from(self.most);
        if most == 0 {
            return self.hold_slow(probes);
        }
        if probes.in_flight() < most {
            return None;
        }
        let delay = self.release_delay(options);
        let release = later(oldest?, delay);
        // They were sent in this order: where the first counts, all do.
        if release > now {
            return Some(Hold::Until(release));
        }
        Self::hold_among(probes, most, delay, now)
    }

    #[inline(never)]
    fn hold_slow(&self, probes: &Probes) -> Option<Hold> {
        let clear = match self.pace() {
            Pace::Hop => {
                let mut flying = probes.flying();
                flying.all(|(_, slot)| slot.ttl() == self.ttl)
            }
            _ => probes.in_flight() <= usize::from(self.accounted),
        };
        (!clear).then_some(Hold::Answered)
    }

    /// Where some no longer count.
    #[inline(never)]
    fn hold_among(probes: &Probes, most: usize, delay: u64, now: Instant) -> Option<Hold> {
        // The latest count, back to one that does not: none before it does.
        let sent = probes.flying().rev().map(|(_, slot)| probes.sent_at(slot));
        let counted = sent
            .map(|sent| later(sent, delay))
            .take_while(|at| *at > now);
        let (count, first) = counted.fold((0, None), |(count, _), at| (count + 1, Some(at)));
        first.filter(|_| count >= most).map(Hold::Until)
    }

    fn pace(&self) -> Pace {
        if self.marks & SINGLY != 0 {
            return Pace::Window(1);
        }
        let near = self.ttl >= self.hint || self.destination.is_some();
        match (self.is_alone(), self.is_unnamed(), near) {
            // Farther than it seemed: a peer that answers nothing at all would
            // otherwise cost a time-out a probe.
            (false, true, true) if self.ttl > self.hint && self.destination.is_none() => Pace::Hop,
            (true, _, _) | (_, true, true) => Pace::Alone,
            // One hop at a time where the hint has proved wrong: SACKs of
            // several hops' probes could come compressed into one.
            (_, _, true) if self.marks & DISPROVED != 0 && self.destination.is_none() => {
                Pace::Window(usize::from(self.probes))
            }
            // Linux holds SACKs back to send one for many (tcp_input.c,
            // `tcp_ack_snd_check`: from the fourth on); one at a time is not held back.
            (_, _, true) => Pace::Window(1),
            (_, _, false) => Pace::Window(WINDOW),
        }
    }

    /// It was sent; whether it was the last of its hop.
    #[inline]
    pub(super) fn sent(&mut self, options: &SessionOptions) -> bool {
        self.marks &= !SENT_ALONE;
        self.nth += 1;
        let last = self.nth >= self.probes;
        match self.ttl.checked_add(1) {
            // The next hop is like this one: `renew` would say the same again.
            Some(next) if last && self.swift != 0 && next < self.hint => {
                (self.ttl, self.nth) = (next, 0);
            }
            _ if self.most == 0 || last => self.sent_last(options),
            _ => {}
        }
        last
    }

    /// It was the last of its hop, or one that may have been sent alone.
    #[inline(never)]
    fn sent_last(&mut self, options: &SessionOptions) {
        if self.most == 0 && self.pace() == Pace::Alone {
            self.marks |= SENT_ALONE;
        }
        if self.nth >= self.probes {
            if let Some(next) = self.ttl.checked_add(1) {
                (self.ttl, self.nth) = (next, 0);
            }
            self.renew(options);
        }
    }

    /// Sums up what says which probes may go out: whenever that has changed.
    #[inline]
    pub(super) fn renew(&mut self, options: &SessionOptions) {
        let gap = self.farthest.saturating_add(options.gap_limit);
        self.last = match self.rewind {
            Some(_) => 0,
            // TTL 255 has no successor.
            None if self.nth >= self.probes => 0,
            None => self.limit(options).min(gap),
        };
        self.most = match self.pace() {
            Pace::Window(most) => most as u8,
            Pace::Alone | Pace::Hop => 0,
        };
        if self.swift != 0 {
            self.swift = self.most;
        }
    }

    /// Twice the largest RTT seen: an answer that takes longer is an exception.
    /// In nanoseconds.
    #[inline]
    pub(super) fn release_delay(&self, options: &SessionOptions) -> u64 {
        (u64::from(self.rtt) * (2 * TICK))
            .clamp(RELEASE.0, RELEASE.1)
            .min(nanos(options.probe_timeout))
    }

    /// The largest RTT seen.
    #[cfg(test)]
    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(u64::from(self.rtt) * TICK)
    }

    /// Silent hops in a row before the TTL that would be probed next.
    pub(super) fn silent_run(&self) -> u8 {
        let reached = if self.nth > 0 {
            self.ttl
        } else {
            self.ttl.saturating_sub(1)
        };
        reached.saturating_sub(self.farthest)
    }
}
