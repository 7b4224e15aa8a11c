//! The probes of a session: one compact slot each, in the order of sending, and
//! the sequence numbers that name them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::num::NonZeroU16;

use super::ProbeId;
use crate::time::{Duration, Instant};
use crate::trace::{MplsLabel, Probe, Reply, ReplyKind, Rewrite, RttBound};

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Sent, and not yet given up.
    Flying,
    /// Unanswered for `probe_timeout`. A later answer is not taken: the loss has
    /// been told already.
    Lost,
    /// Answered.
    Answered(ReplyKind, RttBound),
}

/// One probe. 20 bytes: a session has dozens, a node a million sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// When it was sent, in [`TICK`]s after the session's start: the low bits.
    sent: u32,
    /// Round-trip time in [`TICK`]s, once answered.
    rtt: u32,
    /// Who answered: an index into [`Probes::routers`].
    from: u16,
    /// Bits by [`Rewrite`]'s numbers.
    rewrites: u16,
    /// ICMP code of the answer.
    code: u8,
    /// TTL of the answer as it arrived.
    reply_ttl: u8,
    /// TTL in the quote.
    quoted_ttl: Option<u8>,
    /// The high bits of `sent`.
    sent_high: u8,
    pub(super) ttl: u8,
    pub(super) fate: Fate,
}

impl Slot {
    fn sent(&self) -> u64 {
        u64::from(self.sent_high) << 32 | u64::from(self.sent)
    }

    fn set_sent(&mut self, ticks: u64) {
        (self.sent, self.sent_high) = (ticks as u32, (ticks >> 32) as u8);
    }
}

const _: () = assert!(size_of::<Slot>() <= 20);

/// The resolution of recorded times, ns: what the contract prints (a tenth of a
/// microsecond).
const TICK: u64 = 100;
/// Moments are kept in 40 bits, which last for 30 hours, and saturate there;
/// round-trip times in 32, 429 s.
const LAST: u64 = (1 << 40) - 1;

/// What few answers have.
#[derive(Clone, Debug)]
struct Extra {
    probe: u16,
    mtu: Option<u32>,
    mpls: Box<[MplsLabel]>,
}

/// An answer, as it goes into a slot.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) kind: ReplyKind,
    pub(super) bound: RttBound,
    pub(super) from: IpAddr,
    pub(super) at: Instant,
    pub(super) code: u8,
    pub(super) reply_ttl: u8,
    pub(super) quoted_ttl: Option<u8>,
    pub(super) mtu: Option<u32>,
    pub(super) mpls: &'a [MplsLabel],
    pub(super) rewrites: u16,
}

/// The sequence numbers of one connection's probes.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The peer's `rcv_nxt`: the byte here is never sent.
    base: u32,
    /// The first probe of this connection, as an index.
    first: u16,
    /// One behind its last; `None` while it is the current one.
    end: Option<u16>,
}

impl Span {
    /// Which probe has this sequence number, of `count` in all. Probe *n* of a
    /// connection (from 0) has `base + 1 + 2n`: an odd distance.
    fn find(&self, sequence: u32, count: usize) -> Option<usize> {
        let distance = sequence.wrapping_sub(self.base);
        if distance.is_multiple_of(2) {
            return None;
        }
        let index = usize::from(self.first) + (distance / 2) as usize;
        (index < self.end.map_or(count, usize::from)).then_some(index)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Probes {
    start: Instant,
    slots: Vec<Slot>,
    routers: Vec<IpAddr>,
    extras: Vec<Extra>,
    current: Span,
    previous: Option<Span>,
    /// Every probe before this index is answered or lost.
    settled: usize,
}

/// A session sends no more, whatever its options say: probe numbers have 16
/// bits, and the last ones stay free for those that are sent again.
const MOST: usize = 60_000;

impl Probes {
    pub(super) fn new(start: Instant) -> Self {
        Probes {
            start,
            slots: Vec::new(),
            routers: Vec::new(),
            extras: Vec::new(),
            current: Span {
                base: 0,
                first: 0,
                end: None,
            },
            previous: None,
            settled: 0,
        }
    }

    /// The first segment of the session leaves: times count from here.
    pub(super) fn begin(&mut self, now: Instant) {
        self.start = now;
    }

    /// A connection is open whose peer expects `base` next.
    pub(super) fn connect(&mut self, base: u32) {
        let next = self.slots.len() as u16;
        if next > self.current.first {
            self.previous = Some(Span {
                end: Some(next),
                ..self.current
            });
        }
        self.current = Span {
            base,
            first: next,
            end: None,
        };
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether another fits into a receive window of `window` bytes: probe *n*
    /// (from 1) of a connection ends at `base + 2n`.
    pub(super) fn fits(&self, window: u32) -> bool {
        let mine = self.slots.len() - usize::from(self.current.first);
        self.slots.len() < MOST && (mine as u64 + 1) * 2 <= u64::from(window)
    }

    /// The sequence number of the probe that is sent next.
    pub(super) fn next_sequence(&self) -> u32 {
        let mine = (self.slots.len() - usize::from(self.current.first)) as u32;
        self.current.base.wrapping_add(1).wrapping_add(2 * mine)
    }

    /// One more was sent.
    pub(super) fn push(&mut self, ttl: u8, now: Instant) -> ProbeId {
        let sent = self.ticks(now);
        let mut slot = Slot {
            sent: 0,
            sent_high: 0,
            rtt: 0,
            from: 0,
            rewrites: 0,
            code: 0,
            reply_ttl: 0,
            quoted_ttl: None,
            ttl,
            fate: Fate::Flying,
        };
        slot.set_sent(sent);
        // Doubling would leave half of it unused in most sessions.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 4).max(12));
        }
        self.slots.push(slot);
        id(self.slots.len() - 1)
    }

    /// It left at `at`, not at the moment it was decided.
    pub(super) fn sent(&mut self, probe: ProbeId, at: Instant) {
        let sent = self.ticks(at);
        if let Some(slot) = self.slots.get_mut(index(probe)) {
            // Its answer may have been read before: that it arrived when it did
            // stands.
            let later = sent.saturating_sub(slot.sent());
            let earlier = slot.sent().saturating_sub(sent);
            slot.rtt = match slot.fate {
                Fate::Answered(..) => narrow((u64::from(slot.rtt) + earlier).saturating_sub(later)),
                Fate::Flying | Fate::Lost => 0,
            };
            slot.set_sent(sent);
        }
    }

    /// What the peer of the connection before the current one expected next.
    pub(super) fn previous_base(&self) -> Option<u32> {
        Some(self.previous?.base)
    }

    pub(super) fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// The probe with this sequence number.
    pub(super) fn find(&self, sequence: u32) -> Option<usize> {
        self.current
            .find(sequence, self.slots.len())
            .or_else(|| self.previous?.find(sequence, self.slots.len()))
    }

    /// The probe of the *current* connection with this sequence number: SACKs
    /// come from it alone.
    pub(super) fn find_current(&self, sequence: u32) -> Option<usize> {
        self.current.find(sequence, self.slots.len())
    }

    /// The sequence number of a probe of the current connection.
    pub(super) fn sequence(&self, index: usize) -> Option<u32> {
        let nth = index.checked_sub(usize::from(self.current.first))?;
        Some(
            self.current
                .base
                .wrapping_add(1)
                .wrapping_add(2 * nth as u32),
        )
    }

    /// Those in flight, oldest first.
    pub(super) fn flying(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots
            .iter()
            .enumerate()
            .skip(self.settled)
            .filter(|(_, slot)| slot.fate == Fate::Flying)
    }

    /// Those in flight that the peer of the current connection can answer.
    pub(super) fn flying_here(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let first = usize::from(self.current.first);
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
        let (index, slot) = self.flying().next()?;
        (self.sent_at(slot) + timeout <= now).then_some(index)
    }

    /// When a probe was sent.
    pub(super) fn sent_at(&self, slot: &Slot) -> Instant {
        self.start + Duration::from_nanos(slot.sent() * TICK)
    }

    /// Writes an answer down; returns its round-trip time.
    pub(super) fn answer(&mut self, index: usize, answer: &Answer<'_>) -> Duration {
        let known = self
            .routers
            .iter()
            .position(|router| *router == answer.from);
        let from = known.unwrap_or_else(|| {
            self.routers.push(answer.from);
            self.routers.len() - 1
        }) as u16;
        let rare = answer.mtu.is_some() || !answer.mpls.is_empty();
        self.extras
            .retain(|extra| usize::from(extra.probe) != index);
        if rare {
            self.extras.push(Extra {
                probe: index as u16,
                mtu: answer.mtu,
                mpls: answer.mpls.into(),
            });
        }
        let at = self.ticks(answer.at);
        let Some(slot) = self.slots.get_mut(index) else {
            return Duration::ZERO;
        };
        // A stamp may be older than the moment after the kick that sent the probe.
        slot.rtt = narrow(at.saturating_sub(slot.sent()));
        slot.from = from;
        slot.rewrites = answer.rewrites;
        slot.code = answer.code;
        slot.reply_ttl = answer.reply_ttl;
        slot.quoted_ttl = answer.quoted_ttl;
        slot.fate = Fate::Answered(answer.kind, answer.bound);
        let rtt = Duration::from_nanos(u64::from(slot.rtt) * TICK);
        self.settle();
        rtt
    }

    /// Gives one up.
    pub(super) fn lose(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.fate = Fate::Lost;
        }
        self.settle();
    }

    /// Takes back answers of this kind up to this TTL; gives their probes.
    pub(super) fn take_back(&mut self, kind: ReplyKind, ttl: u8) -> Vec<usize> {
        let mut taken = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.ttl <= ttl && matches!(slot.fate, Fate::Answered(is, _) if is == kind) {
                slot.fate = Fate::Lost;
                taken.push(index);
            }
        }
        taken
    }

    fn settle(&mut self) {
        while self
            .slots
            .get(self.settled)
            .is_some_and(|slot| slot.fate != Fate::Flying)
        {
            self.settled += 1;
        }
    }

    /// Every answer: its probe's TTL, its kind, its sender, its ICMP code.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u8, ReplyKind, IpAddr, u8)> {
        self.slots.iter().filter_map(|slot| match slot.fate {
            Fate::Answered(kind, _) => Some((slot.ttl, kind, self.router(slot)?, slot.code)),
            _ => None,
        })
    }

    /// Whether a probe of this TTL was answered.
    pub(super) fn is_answered(&self, ttl: u8) -> bool {
        let mut answered = self.slots.iter().filter(|slot| slot.ttl == ttl);
        answered.any(|slot| matches!(slot.fate, Fate::Answered(..)))
    }

    /// The smallest TTL of which a probe was given up.
    pub(super) fn nearest_lost(&self) -> Option<u8> {
        let lost = self.slots.iter().filter(|slot| slot.fate == Fate::Lost);
        lost.map(|slot| slot.ttl).min()
    }

    fn router(&self, slot: &Slot) -> Option<IpAddr> {
        self.routers.get(usize::from(slot.from)).copied()
    }

    /// For the record.
    pub(super) fn record(&self, index: usize) -> Option<(u8, Probe)> {
        let slot = self.slots.get(index)?;
        let reply = match slot.fate {
            Fate::Flying | Fate::Lost => None,
            Fate::Answered(kind, bound) => {
                let from = self.router(slot)?;
                let extra = self
                    .extras
                    .iter()
                    .find(|extra| usize::from(extra.probe) == index);
                Some(Reply {
                    kind,
                    from,
                    name: None,
                    asn: None,
                    rtt: Duration::from_nanos(u64::from(slot.rtt) * TICK),
                    rtt_bound: bound,
                    icmp: icmp_type(kind, from.is_ipv4()).map(|number| (number, slot.code)),
                    reply_ttl: Some(slot.reply_ttl),
                    quoted_ttl: slot.quoted_ttl,
                    mtu: extra.and_then(|extra| extra.mtu),
                    mpls: extra.map(|extra| extra.mpls.to_vec()).unwrap_or_default(),
                    rewrites: Rewrite::ALL
                        .into_iter()
                        .filter(|rewrite| slot.rewrites & bit(*rewrite) != 0)
                        .collect(),
                })
            }
        };
        let sent = Duration::from_nanos(slot.sent() * TICK);
        Some((slot.ttl, Probe { sent, reply }))
    }

    fn ticks(&self, at: Instant) -> u64 {
        let nanos = at.as_nanos().saturating_sub(self.start.as_nanos());
        (nanos / TICK).min(LAST)
    }

    /// Heap bytes in use.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.routers.capacity() * size_of::<IpAddr>()
    }
}

fn narrow(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// The bit of a rewrite in a slot.
pub(super) const fn bit(rewrite: Rewrite) -> u16 {
    1 << rewrite as u16
}

/// Type numbers as on the wire (RFC 792, RFC 4443): each kind has one a family.
const fn icmp_type(kind: ReplyKind, v4: bool) -> Option<u8> {
    Some(match (kind, v4) {
        (ReplyKind::TimeExceeded, true) => 11,
        (ReplyKind::TimeExceeded, false) => 3,
        (ReplyKind::Unreachable, true) => 3,
        (ReplyKind::Unreachable, false) => 1,
        (ReplyKind::PacketTooBig, true) => 3,
        (ReplyKind::PacketTooBig, false) => 2,
        (ReplyKind::Sack | ReplyKind::DupAck | ReplyKind::Rst, _) => return None,
    })
}

/// The index of a probe.
pub(super) fn index(probe: ProbeId) -> usize {
    usize::from(probe.0.get()) - 1
}

/// The number of the probe at an index.
pub(super) fn id(index: usize) -> ProbeId {
    ProbeId(NonZeroU16::MIN.saturating_add(index as u16))
}
