//! What a TCP segment from the peer tells.

use alloc::string::String;

use super::cells::{Common, Slot};
use super::close::left_by;
use super::connection::{Phase, nanos};
use super::learn::{Edge, Learn, Offset};
use super::probes::{TICK, id, index};
use super::state::Flag;
use super::{Event, ProbeId, Segment, Session, SessionOptions, session_makes_handshake};
use crate::time::{Duration, Instant};
use crate::trace::{ReplyKind, RttBound, Verdict};
use crate::wire::tcp::{SackBlock, flags};

/// Bare duplicate ACKs after which a peer that permitted SACK is taken for one
/// whose SACK options are stripped on the way. One alone may be a challenge ACK
/// (RFC 5961).
const BARE_ACKS: u8 = 2;

/// Round trips below this are those of a LAN.
const LAN: Duration = Duration::from_millis(1);

/// Duplicate ACKs without blocks, from a peer that permitted SACK.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BareAcks {
    /// How many have come.
    count: u8,
    /// The first, where it can be meant for one probe only.
    first: Option<BareAck>,
    /// The smallest TTL that was in flight when one of them came.
    lowest: Option<u8>,
}

/// One that can be meant for one probe only.
#[derive(Clone, Copy, Debug)]
struct BareAck {
    probe: ProbeId,
    at: Instant,
    ttl: u8,
}

impl Session {
    pub(super) fn segment(&mut self, options: &SessionOptions, at: Instant, segment: &Segment) {
        if self.is_adopted() {
            return self.adopted_segment(options, at, segment);
        }
        match self.connection.phase {
            Phase::Opening => self.segment_while_opening(options, at, segment),
            Phase::WindowWait | Phase::Asking | Phase::Open | Phase::HalfClosed => {
                self.segment_while_open(options, at, segment);
            }
            Phase::Gone => {}
        }
    }

    /// RFC 9293 §3.10.7.3, state SYN-SENT.
    fn segment_while_opening(&mut self, options: &SessionOptions, at: Instant, segment: &Segment) {
        let has = |bits: u8| segment.flags & bits == bits;
        let acceptable = has(flags::ACK) && segment.acknowledgment == self.connection.snd_una();
        if has(flags::RST) {
            // Without an acceptable ACK it is not about our SYN.
            if acceptable {
                self.connection.phase = Phase::Gone;
                self.opening_failed(options, at, Verdict::Refused, None);
            }
            return;
        }
        if !acceptable {
            // A connection of another life on this flow: its challenge ACK is
            // answered by the RST that it waits for, and the next SYN gets in.
            let ours = session_makes_handshake(options) && self.cold.opening.syn_was_sent();
            if has(flags::ACK) && ours {
                self.owe_rst(segment.acknowledgment);
            }
            return;
        }
        if !has(flags::SYN) {
            return;
        }
        let handshake = self.connection.accept(&self.cold.opening, at, segment);
        if let Some(previous) = self.probes.connect(self.connection.snd_una()) {
            self.rare_mut().previous = Some(previous);
        }
        if self.has(Flag::Reopened) {
            let farthest = self.schedule.farthest();
            let unanswered = self.probes.flying().map(|(_, slot)| slot.ttl());
            let unanswered = unanswered.filter(|ttl| *ttl > farthest).min();
            self.schedule.reopened(unanswered);
            self.rare_mut().learn = Learn::default();
            self.flags.clear(Flag::Odd);
        }
        self.schedule.saw_rtt(ticks(handshake.rtt));
        if !handshake.sack {
            self.schedule.set_unnamed(true);
        }
        let first = self.cold.opening.handshake().is_none();
        if self.has(Flag::Reopened) {
            self.rare_mut().second = Some(handshake);
        }
        if first {
            self.cold.opening.completed(&handshake, segment.ttl);
            self.push(Event::Established);
        }
        if self.connection.phase == Phase::Open {
            self.open(options);
        }
    }

    /// Probing begins, or goes on after a reopening.
    pub(super) fn open(&mut self, options: &SessionOptions) {
        if self.asks_first() {
            return;
        }
        if !self.has(Flag::Begun) {
            self.flags.set(Flag::Begun);
            let window = self.connection.snd_wnd;
            self.cold.first_window = window;
            let ttl = self.cold.opening.hello_ttl;
            self.schedule.begin(options, ttl, window);
            let (hops, probes) = (self.schedule.hops(options), self.schedule.probes_a_hop());
            self.probes.reserve(hops, probes);
        }
    }

    fn segment_while_open(&mut self, options: &SessionOptions, at: Instant, segment: &Segment) {
        let has = |bits: u8| segment.flags & bits != 0;
        if has(flags::RST) {
            // RFC 5961 §3.2: exactly in sequence, or it may not be the peer's. One
            // within the window is asked for again by an ACK.
            if segment.sequence == self.connection.rcv_nxt {
                self.reset(at, segment);
            } else if self.connection.would_receive(segment.sequence) {
                self.connection.ack_due = true;
            }
            return;
        }
        if has(flags::SYN) {
            // The SYN-ACK again: our ACK was lost, or the peer took its timestamp
            // for none of this connection: echo the new one.
            if has(flags::ACK) && segment.acknowledgment == self.connection.snd_una() {
                self.connection.take_timestamp(segment);
            }
            self.connection.ack_due = true;
            return;
        }
        if !has(flags::ACK) {
            return;
        }
        // The peer has nothing else to acknowledge: what does is another
        // connection's, or invented (RFC 5961 §5).
        let asking = self.connection.phase == Phase::Asking;
        let number = segment.acknowledgment;
        match asking {
            true if self.request_acknowledged(at, number) => {}
            false if number == self.connection.snd_una() => {}
            _ => return,
        }
        // It begins one byte before what we expect, and answers nothing. Others
        // need not be in order: data before or behind them may be late.
        let keepalive = segment.sequence.wrapping_add(1) == self.connection.rcv_nxt;
        let taken = self.connection.take_in(segment);
        // SYNPROXY answers the SYN with a closed window and opens it when it
        // has reached the server: a pure ACK, no reply to anything.
        if self.connection.phase == Phase::WindowWait {
            if !self.connection.window_is_closed() {
                self.connection.phase = Phase::Open;
                self.open(options);
            }
        } else if asking {
            if self.is_asked() {
                self.connection.phase = Phase::Open;
                self.open(options);
            }
        } else {
            if let Some(octets) = self.stretch() {
                self.connection.snd_wnd = octets;
            }
            let pure = segment.payload_len == 0 && !keepalive && !has(flags::FIN);
            if !segment.options.sack.as_slice().is_empty() {
                self.sack(at, segment, pure);
            } else if pure && !self.bare_ack_of_long() && !taken.opened_window {
                // RFC 5681 §2: a duplicate ACK has no data and is no window update.
                self.duplicate_ack(at, segment);
            }
        }
        if taken.finished {
            self.connection.phase = Phase::HalfClosed;
            self.leave(Verdict::ClosedByPeer);
        }
    }

    /// RFC 2018: the blocks of a segment, the one that triggered it first.
    fn sack(&mut self, at: Instant, segment: &Segment, pure: bool) {
        let blocks = segment.options.sack.as_slice();
        let offset = match self.edges() {
            Offset::Known(offset) => offset,
            _ => 0,
        };
        let duplicate = is_duplicate(blocks, segment.acknowledgment.wrapping_add(offset));
        let mut newest = None;
        for (place, block) in blocks.iter().enumerate() {
            // What a sidecar sends is nothing else.
            let again = place == 0 && duplicate;
            if again && !self.is_sidecar() {
                continue;
            }
            // Who was named first triggered the ACK, unless it was held back for
            // several; the others arrived no later than now.
            let bound = match place {
                0 if pure => RttBound::Exact,
                _ => RttBound::Upper,
            };
            if self.sacked_long(block, offset) {
                continue;
            }
            match self.named(block, offset) {
                Some(index) => {
                    self.names_probes();
                    self.reached(index, at, segment.ttl, ReplyKind::Sack, bound, false);
                }
                None if again => {}
                // Only what stands first and was never seen is the latest arrival's.
                None => {
                    if self.keep_block(at, segment.ttl, block, bound) && bound == RttBound::Exact {
                        newest = Some(block.left);
                    }
                }
            }
        }
        if let Some(left) = newest {
            self.learn_from_edge(left);
        }
    }

    /// The peer's SACKs arrive: bare ACKs were no answers.
    fn names_probes(&mut self) {
        self.flags.set(Flag::Sacked);
        if self.schedule.is_unnamed() && self.handshake().is_some_and(|shake| shake.sack) {
            self.schedule.set_unnamed(false);
            let unread = self.edges() == Offset::Seen || self.quotes() == Offset::Seen;
            self.schedule.offset_learnt(unread);
            self.doubt_duplicate_acks(u8::MAX);
        }
    }

    /// The probe that a block names. Between two probes lies a byte that was
    /// never sent, so a true block holds one byte.
    fn named(&self, block: &SackBlock, offset: u32) -> Option<usize> {
        (block.right.wrapping_sub(block.left) == 1)
            .then(|| self.probes.find_current(block.left.wrapping_sub(offset)))?
    }

    /// A block outside anything sent: a middlebox rewrites sequence numbers, but
    /// not SACK edges. It is kept until the offset is known; `false` when it was
    /// seen before, or can never be read.
    fn keep_block(&mut self, at: Instant, ttl: u8, block: &SackBlock, bound: RttBound) -> bool {
        if !matches!(self.edges(), Offset::None | Offset::Seen) {
            return false;
        }
        self.schedule.go_alone();
        let learn = self.learn_mut();
        learn.sack = Offset::Seen;
        block.right.wrapping_sub(block.left) == 1
            && learn.keep_edge(Edge {
                left: block.left,
                at,
                ttl,
                bound,
            })
    }

    /// The edge of the probe that arrived last: where one alone is in flight, it
    /// is that one's.
    fn learn_from_edge(&mut self, left: u32) {
        let Some(alone) = self.probes.only_flying_here() else {
            return;
        };
        let Some(sequence) = self.probes.sequence(alone) else {
            return;
        };
        let offset = left.wrapping_sub(sequence);
        let named = |edge: &Edge| self.probes.find_current(edge.left.wrapping_sub(offset));
        let holds = self
            .learn()
            .is_some_and(|learn| learn.edges().iter().all(|edge| named(edge).is_some()));
        let unread = self.quotes() == Offset::Seen;
        self.schedule.offset_learnt(unread);
        let learn = self.learn_mut();
        let edges = learn.take_edges();
        if !holds {
            learn.sack = Offset::Broken;
            return;
        }
        learn.sack = Offset::Known(offset);
        self.names_probes();
        for edge in edges {
            if let Some(index) = self.probes.find_current(edge.left.wrapping_sub(offset)) {
                // What was given up meanwhile was answered all the same.
                self.reached(index, edge.at, edge.ttl, ReplyKind::Sack, edge.bound, true);
            }
        }
    }

    /// An ACK that names nothing. It answers a probe if the peer has no other
    /// way to answer, and is credited if it can be meant for one probe only.
    fn duplicate_ack(&mut self, at: Instant, segment: &Segment) {
        let Some(lowest) = self.probes.flying_here().map(|(_, slot)| slot.ttl()).min() else {
            return;
        };
        let tsval = segment.options.timestamps.map(|(value, _)| value);
        if self.is_copy(at, tsval) {
            return;
        }
        if !self.schedule.is_unnamed() {
            // Who has named a probe names every one.
            if !self.has(Flag::Sacked) {
                self.rare_mut().last_duplicate = Some((at, tsval));
                self.bare_ack(at, segment.ttl, lowest);
            }
            return;
        }
        match self.probes.only_flying_here() {
            Some(index) => {
                self.reached(
                    index,
                    at,
                    segment.ttl,
                    ReplyKind::DupAck,
                    RttBound::Exact,
                    false,
                );
                self.rare_mut().last_duplicate = Some((at, tsval));
            }
            None => self.schedule.ambiguous(lowest),
        }
    }

    /// Whether a duplicate ACK is the network's copy of the one before: it has the
    /// same timestamp, and comes in much less than a round trip. Within a LAN, where
    /// round trips differ by more than their length (a cold cache, a batch sent by
    /// one kick), nothing can be told by time; nor are packets copied there.
    fn is_copy(&self, at: Instant, tsval: Option<u32>) -> bool {
        let Some((before, same)) = self.rare().and_then(|rare| rare.last_duplicate) else {
            return false;
        };
        let first = self.cold.opening.handshake();
        let lan = first.is_none_or(|handshake| handshake.rtt < LAN);
        !lan && tsval == same && at.since(before) < self.schedule.shortest() / 2
    }

    /// A duplicate ACK without blocks from a peer that permitted SACK: its blocks
    /// are stripped on the way, or it answers something else (a copy of the SYN
    /// draws a challenge ACK, RFC 5961 §4). Two that can be meant for one probe
    /// each are answers; others are a reason to ask again, one probe at a time.
    fn bare_ack(&mut self, at: Instant, ttl: u8, lowest: u8) {
        // A peer may send one for every probe.
        let bare = &mut self.rare_mut().bare;
        bare.count = bare.count.saturating_add(1);
        bare.lowest = Some(bare.lowest.map_or(lowest, |ttl| ttl.min(lowest)));
        let (count, first) = (bare.count, bare.first);
        let answered = |probe| {
            let slot = self.probes.slot(index(probe));
            slot.is_some_and(Slot::is_answered)
        };
        let first = first.filter(|first| !answered(first.probe));
        let mut others = self
            .probes
            .flying_here()
            .map(|(index, _)| id(index))
            .filter(|probe| first.is_none_or(|first| first.probe != *probe));
        let (one, more) = (others.next(), others.next());
        drop(others);
        match (first, one, more) {
            (None, Some(probe), None) => {
                self.rare_mut().bare.first = Some(BareAck { probe, at, ttl });
            }
            // With others that could be for several, the first answer may lie
            // before both: asked again below.
            (Some(first), Some(probe), None) if count == BARE_ACKS => {
                self.schedule.set_unnamed(true);
                for ack in [first, BareAck { probe, at, ttl }] {
                    let (kind, bound) = (ReplyKind::DupAck, RttBound::Exact);
                    self.reached(index(ack.probe), ack.at, ack.ttl, kind, bound, true);
                }
            }
            _ if count >= BARE_ACKS => self.ask_alone(),
            _ => {}
        }
    }

    /// Nothing is left to ask, and one bare duplicate ACK came: a second one can
    /// only come if it is asked for.
    pub(super) fn doubt_bare_ack(&mut self) {
        if !self.has(Flag::Sacked) && !self.schedule.is_unnamed() {
            self.ask_alone();
        }
    }

    /// Bare duplicate ACKs may be answers: asks again from the smallest TTL that
    /// they can have been for, one probe at a time.
    fn ask_alone(&mut self) {
        if let Some(lowest) = self.rare().and_then(|rare| rare.bare.lowest) {
            self.schedule.set_unnamed(true);
            self.schedule.ambiguous(lowest);
        }
    }

    /// A probe reached the peer; `late` says that its loss does not count.
    pub(super) fn reached(
        &mut self,
        index: usize,
        at: Instant,
        ttl: u8,
        kind: ReplyKind,
        bound: RttBound,
        late: bool,
    ) {
        match self.probes.slot(index) {
            Some(slot) if slot.is_flying() || late && slot.is_lost() => {}
            _ => return,
        }
        self.credit(
            index,
            at,
            &Common {
                kind,
                bound,
                from: self.target(),
                code: 0,
                reply_ttl: ttl,
                quoted_ttl: None,
                mtu: None,
                mpls: &[],
                rewrites: 0,
                nat: None,
            },
        );
    }

    fn reset(&mut self, at: Instant, segment: &Segment) {
        self.connection.phase = Phase::Gone;
        if let Some(index) = self.probes.only_flying_here() {
            let (kind, bound) = (ReplyKind::Rst, RttBound::Exact);
            self.reached(index, at, segment.ttl, kind, bound, false);
        }
        self.leave(Verdict::Reset);
    }

    /// The handshake came to nothing.
    pub(super) fn opening_failed(
        &mut self,
        options: &SessionOptions,
        now: Instant,
        verdict: Verdict,
        detail: Option<String>,
    ) {
        if let Some(left) = self.cold.reopened {
            let why = match verdict {
                Verdict::Refused => "refused",
                Verdict::Unreachable => "unreachable",
                _ => "no answer",
            };
            let how = left_by(left);
            let detail = alloc::format!("the peer {how} the session; opening it again: {why}");
            self.conclude(options, now, left, Some(detail));
        } else {
            self.finish(now, verdict, detail, options.close);
        }
    }
}

/// In [`TICK`]s; saturates.
fn ticks(span: Duration) -> u32 {
    u32::try_from(nanos(span) / TICK).unwrap_or(u32::MAX)
}

/// RFC 2883 §4: the first block reports a duplicate when it lies below the
/// cumulative ACK, or within the second block.
fn is_duplicate(blocks: &[SackBlock], acknowledgment: u32) -> bool {
    match blocks {
        [first, rest @ ..] => {
            let below = first.left.wrapping_sub(acknowledgment) as i32;
            let within = rest.first().is_some_and(|second| {
                first.left.wrapping_sub(second.left) as i32 >= 0
                    && second.right.wrapping_sub(first.right) as i32 >= 0
            });
            // Far below is no duplicate of ours, but another sequence space.
            (-NEAR..0).contains(&below) || within
        }
        [] => false,
    }
}

/// How far below the cumulative ACK a duplicate can lie: what was ever sent in
/// order, the SYN and a probe session's worth.
const NEAR: i32 = 1 << 16;
