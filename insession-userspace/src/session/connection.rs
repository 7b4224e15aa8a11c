//! The TCP connection under a session: sequence numbers, windows, timestamps,
//! and the segments that are not probes.

use super::options::{Handshaker, SessionOptions};
use super::{Segment, Transmit, TransmitKind};
use crate::time::{Duration, Instant};
use crate::trace::Handshake;
use crate::wire::tcp::{Options, flags};
use crate::wire::template::{SegmentOptions, Varying, WINDOW, WINDOW_SCALE};

/// What a peer that names no MSS takes (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Linux's SYNs go out at 0, 1 and 3 s (RFC 6298 §5.5: the time-out doubles).
const SYN_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The first probe of a closed window: a retransmission time-out that nothing is
/// known for (RFC 6298 §2.1).
const WINDOW_PROBE: Duration = Duration::from_secs(1);

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// SYN to be sent, or sent.
    Opening,
    /// SYN-ACK received, but its window holds no probe.
    WindowWait,
    /// A request is on its way, and probes follow it.
    Asking,
    /// Probes may go out.
    Open,
    /// The peer has sent its FIN.
    HalfClosed,
    /// The peer has refused or reset it.
    Gone,
}

/// The connection's variables that every segment needs, by RFC 9293's names
/// where it has them.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Initial send sequence number: the kernel's, once its SYN was seen, where
    /// the kernel makes the handshake. Of a connection that carried data, the number of
    /// the last octet that was acknowledged.
    pub(super) iss: u32,
    /// What we expect next from the peer.
    pub(super) rcv_nxt: u32,
    /// The peer's receive window, octets.
    pub(super) snd_wnd: u32,
    /// TSval = this + milliseconds of the clock.
    ts_offset: u32,
    /// RFC 7323 TS.Recent.
    ts_recent: u32,
    /// The window field that `snd_wnd` came from.
    window_field: u16,
    pub(super) phase: Phase,
    /// What the peer's window field is shifted by: the low bits. And
    /// [`INCOMPARABLE`].
    snd_scale: u8,
    /// Ours were taken up, and are shifted.
    rcv_scale: u8,
    /// Timestamps were negotiated.
    timestamps: bool,
    /// An ACK is owed.
    pub(super) ack_due: bool,
}

const _: () = assert!(size_of::<Connection>() <= 28);

/// The next window field cannot be compared with the latest (RFC 7323 §2.2: a
/// SYN's is not scaled, others are).
const INCOMPARABLE: u8 = 1 << 7;

/// The peer sent no shift count (RFC 7323 §2.3: they end at 14).
const NO_SCALE: u8 = u8::MAX;

/// How the connection is made, and what that showed.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// The first SYN of this connection; valid once there is one.
    first_syn: Instant,
    /// The latest SYN, or our FIN.
    pub(super) last_control: Instant,
    /// What the first handshake took, ns.
    rtt: u64,
    /// The TSval of the latest SYN.
    syn_tsval: u32,
    /// We announce this, octets.
    mss: u16,
    /// [`Handshake::mss`].
    peer_mss: u16,
    /// [`Handshake::window_scale`], or [`NO_SCALE`].
    window_scale: u8,
    /// [`Handshake::sack`] and [`Handshake::timestamps`], once it is completed.
    shown: Option<(bool, bool)>,
    /// TTL of the SYN-ACK as it arrived.
    pub(super) hello_ttl: u8,
    /// SYNs decided on so far.
    syns: u8,
    /// Window probes sent.
    window_probes: u8,
    /// A window probe is due: an old byte, which draws an ACK.
    pub(super) window_probe_due: bool,
    /// What our SYN offers to shift window fields by.
    offered_scale: u8,
}

impl Opening {
    pub(super) fn new(mss: u16, now: Instant) -> Self {
        Opening {
            first_syn: now,
            last_control: now,
            rtt: 0,
            syn_tsval: 0,
            mss,
            peer_mss: 0,
            window_scale: NO_SCALE,
            shown: None,
            hello_ttl: 0,
            syns: 0,
            window_probes: 0,
            window_probe_due: false,
            offered_scale: WINDOW_SCALE,
        }
    }

    /// Once more; what the first handshake showed stays.
    pub(super) fn reopen(&mut self, now: Instant) {
        let Opening {
            rtt,
            peer_mss,
            window_scale,
            shown,
            hello_ttl,
            ..
        } = *self;
        *self = Opening {
            rtt,
            peer_mss,
            window_scale,
            shown,
            hello_ttl,
            ..Opening::new(self.mss, now)
        };
    }

    /// The segment size that our SYN announces, octets.
    pub(super) fn announced(&self) -> u16 {
        self.mss
    }

    /// The first handshake, once it is completed.
    pub(super) fn handshake(&self) -> Option<Handshake> {
        let (sack, timestamps) = self.shown?;
        Some(Handshake {
            rtt: Duration::from_nanos(self.rtt),
            mss: self.peer_mss,
            sack,
            timestamps,
            window_scale: (self.window_scale != NO_SCALE).then_some(self.window_scale),
        })
    }

    /// The first handshake is completed.
    pub(super) fn completed(&mut self, handshake: &Handshake, ttl: u8) {
        self.rtt = nanos(handshake.rtt);
        self.peer_mss = handshake.mss;
        self.window_scale = handshake.window_scale.unwrap_or(NO_SCALE);
        self.shown = Some((handshake.sack, handshake.timestamps));
        self.hello_ttl = ttl;
    }

    fn first_syn(&self) -> Option<Instant> {
        (self.syns > 0).then_some(self.first_syn)
    }

    pub(super) fn syn_was_sent(&self) -> bool {
        self.syns > 0
    }

    /// When the next SYN is due, if there is one left.
    pub(super) fn next_syn(&self) -> Option<Instant> {
        let Some(first) = self.first_syn() else {
            return Some(Instant::ZERO);
        };
        let again = SYN_AGAIN.get(usize::from(self.syns).saturating_sub(1))?;
        Some(first + *again)
    }

    /// When the handshake is given up.
    pub(super) fn deadline(&self, options: &SessionOptions) -> Option<Instant> {
        let from = match options.handshaker {
            Handshaker::Session => self.first_syn()?,
            // The kernel has sent its SYN when the session is made.
            Handshaker::Kernel => self.first_syn().unwrap_or(self.last_control),
        };
        Some(from + options.handshake_timeout)
    }

    pub(super) fn syn_sent(&mut self, at: Instant) {
        match self.syns {
            // It was a SYN of the connection before.
            0 => return,
            1 => self.first_syn = at,
            _ => {}
        }
        self.last_control = at;
    }

    /// When a closed window is probed next (RFC 9293 §3.8.6.1: the one update
    /// that opens it may be lost): a second after the SYN, then ever later.
    pub(super) fn window_probe(&self) -> Instant {
        self.last_control + WINDOW_PROBE * (1 << self.window_probes.min(5))
    }

    /// It is due.
    pub(super) fn probe_window(&mut self) {
        self.window_probes = self.window_probes.saturating_add(1);
        self.window_probe_due = true;
    }

    /// A SYN is sent or seen, at `at`.
    fn count_syn(&mut self, at: Instant) {
        if self.syns == 0 {
            self.first_syn = at;
        }
        self.last_control = at;
        self.syns = self.syns.saturating_add(1);
    }

    /// When the SYN was sent that this SYN-ACK answers.
    fn answered_syn(&self, at: Instant, options: &Options) -> Instant {
        let last = self.last_control;
        let first = self.first_syn().unwrap_or(last);
        if at < last {
            return first;
        }
        // Which of several SYNs was answered only a timestamp tells (RFC 7323
        // §4.1); without, the latest (Karn's ambiguity: a lower bound).
        let Some((_, echo)) = options.timestamps else {
            return last;
        };
        let earlier = Duration::from_millis(u64::from(self.syn_tsval.wrapping_sub(echo)));
        let span = last.since(first);
        // Our TSval counts milliseconds.
        const TICK: Duration = Duration::from_millis(1);
        if earlier > span + TICK {
            // Nothing that we sent: a box on the way makes timestamps up.
            last
        } else if earlier + TICK >= span {
            first
        } else {
            let ago = span.saturating_sub(earlier);
            first + ago
        }
    }
}

/// A moment as timestamps count it: milliseconds, modulo 2³².
#[inline]
pub fn millis(at: Instant) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

/// The moment so many nanoseconds later; saturates.
#[inline]
pub(super) fn later(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_add(nanos))
}

/// Nanoseconds; saturates, at 272 years.
#[inline]
pub(super) fn nanos(span: Duration) -> u64 {
    span.as_secs().min(1 << 33) * 1_000_000_000 + u64::from(span.subsec_nanos())
}

impl Connection {
    pub(super) fn new(iss: u32, ts_offset: u32) -> Self {
        Connection {
            phase: Phase::Opening,
            iss,
            rcv_nxt: 0,
            snd_wnd: 0,
            window_field: 0,
            ack_due: false,
            ts_offset,
            ts_recent: 0,
            timestamps: false,
            snd_scale: INCOMPARABLE,
            rcv_scale: 0,
        }
    }

    /// The same flow once more, in sequence space that no segment of the old
    /// connection reaches, and above it: a server in TIME-WAIT takes a SYN only
    /// from there (RFC 9293 §3.6.1).
    pub(super) fn reopen(&mut self) {
        const AWAY: u32 = 1 << 28;
        *self = Connection::new(self.iss.wrapping_add(AWAY), self.ts_offset);
    }

    /// What the peer expects next of us: the gap byte, never sent.
    #[inline]
    pub(super) fn snd_una(&self) -> u32 {
        self.iss.wrapping_add(1)
    }

    /// The peer has acknowledged so many octets more.
    pub(super) fn advance(&mut self, octets: u32) {
        self.iss = self.iss.wrapping_add(octets);
    }

    #[inline]
    fn tsval(&self, now: Instant) -> u32 {
        self.ts_offset.wrapping_add(millis(now))
    }

    /// Whether a SYN is to be sent now.
    pub(super) fn syn_due(
        &self,
        opening: &Opening,
        options: &SessionOptions,
        now: Instant,
    ) -> bool {
        options.handshaker == Handshaker::Session
            && self.phase == Phase::Opening
            && opening.next_syn().is_some_and(|at| at <= now)
    }

    pub(super) fn syn(
        &self,
        opening: &mut Opening,
        options: &SessionOptions,
        now: Instant,
    ) -> Transmit {
        opening.count_syn(now);
        opening.syn_tsval = self.tsval(now);
        let segment = Varying {
            ttl: options.control_ttl,
            sequence: self.iss,
            acknowledgment: 0,
            flags: flags::SYN,
            window: WINDOW,
            options: SegmentOptions::Syn {
                mss: opening.mss,
                window_scale: WINDOW_SCALE,
                tsval: opening.syn_tsval,
            },
            payload_len: 0,
        };
        Transmit {
            alone: None,
            kind: TransmitKind::Syn,
            segment,
        }
    }

    /// A segment of the open connection.
    #[inline]
    pub(super) fn segment(&self, now: Instant, ttl: u8, sequence: u32, bits: u8) -> Varying {
        let options = if self.timestamps && bits & flags::RST == 0 {
            SegmentOptions::Timestamps {
                tsval: self.tsval(now),
                tsecr: self.ts_recent,
            }
        } else {
            SegmentOptions::None
        };
        Varying {
            ttl,
            sequence,
            acknowledgment: self.rcv_nxt,
            flags: bits | flags::ACK,
            window: WINDOW >> self.rcv_scale,
            options,
            payload_len: 0,
        }
    }

    /// Whether its segments carry timestamps.
    #[inline]
    pub(super) fn has_timestamps(&self) -> bool {
        self.timestamps
    }

    /// Acknowledgment number and window field of a segment, and its timestamps
    /// where it has some, `millis` being the moment.
    #[inline]
    pub(super) fn numbers(&self, millis: u32) -> (u32, u16, [u32; 2]) {
        let tsval = self.ts_offset.wrapping_add(millis);
        let window = WINDOW >> self.rcv_scale;
        (self.rcv_nxt, window, [tsval, self.ts_recent])
    }

    /// There is none, and nobody to limit what is sent but the receive `window`.
    pub(super) fn stand_alone(&mut self, window: u32) {
        self.phase = Phase::Open;
        self.snd_wnd = window;
    }

    /// What TSval counts from.
    pub(super) fn timestamp_offset(&self) -> u32 {
        self.ts_offset
    }

    /// A RST without ACK: for a connection of which nothing is known.
    pub(super) fn bare_rst(&self, ttl: u8, sequence: u32) -> Varying {
        Varying {
            ttl,
            sequence,
            acknowledgment: 0,
            flags: flags::RST,
            window: 0,
            options: SegmentOptions::None,
            payload_len: 0,
        }
    }

    /// The kernel's own SYN: from here on its sequence space and its clock are ours.
    pub(super) fn own_syn(
        &mut self,
        opening: &mut Opening,
        at: Instant,
        sequence: u32,
        options: &Options,
    ) {
        self.iss = sequence;
        opening.count_syn(at);
        // The window field of our probes is read by the kernel's shift count.
        opening.offered_scale = options.window_scale.unwrap_or(0);
        if let Some((tsval, _)) = options.timestamps {
            // Its clock ticks at 1 kHz (tcp_clock_ms); 1 more, so that ours is
            // never behind it and PAWS takes both.
            self.ts_offset = tsval.wrapping_sub(millis(at)).wrapping_add(1);
            opening.syn_tsval = tsval;
        }
    }

    /// A SYN-ACK of ours arrived; gives what it shows.
    pub(super) fn accept(
        &mut self,
        opening: &Opening,
        at: Instant,
        syn_ack: &Segment,
    ) -> Handshake {
        let options = &syn_ack.options;
        self.rcv_nxt = syn_ack.sequence.wrapping_add(1);
        // RFC 7323 §2.2: the window field of a SYN is not scaled.
        self.snd_wnd = u32::from(syn_ack.window);
        self.window_field = syn_ack.window;
        self.snd_scale = 0;
        if let Some(scale) = options.window_scale {
            let incomparable = if scale == 0 { 0 } else { INCOMPARABLE };
            // RFC 7323 §2.3: no more than 14, which the codec sees to.
            self.snd_scale = scale & !INCOMPARABLE | incomparable;
            self.rcv_scale = opening.offered_scale;
        }
        if let Some((value, _)) = options.timestamps {
            self.ts_recent = value;
        }
        self.timestamps = options.timestamps.is_some();
        self.ack_due = true;
        self.phase = match self.window_is_closed() {
            true => Phase::WindowWait,
            false => Phase::Open,
        };
        Handshake {
            rtt: at.since(opening.answered_syn(at, options)),
            mss: options.mss.unwrap_or(DEFAULT_MSS),
            sack: options.sack_permitted,
            timestamps: self.timestamps,
            window_scale: options.window_scale,
        }
    }

    /// Whether this sequence number lies in the window that we announce.
    pub(super) fn would_receive(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.rcv_nxt) < u32::from(WINDOW)
    }

    /// Whether it has no room for a probe and its gap.
    pub(super) fn window_is_closed(&self) -> bool {
        self.snd_wnd < 2
    }

    /// RFC 7323 §4.3: only segments that begin at or before the last ACK move
    /// TS.Recent, and only forward.
    pub(super) fn take_timestamp(&mut self, segment: &Segment) {
        if let Some((value, _)) = segment.options.timestamps
            && self.rcv_nxt.wrapping_sub(segment.sequence) as i32 >= 0
            && value.wrapping_sub(self.ts_recent) as i32 >= 0
        {
            self.ts_recent = value;
        }
    }

    /// Takes in what every segment of the open connection carries: window,
    /// timestamp, data.
    pub(super) fn take_in(&mut self, segment: &Segment) -> TakenIn {
        let mut taken = TakenIn::default();
        let behind = self.rcv_nxt.wrapping_sub(segment.sequence) as i32;
        self.take_timestamp(segment);
        if behind >= 0 {
            let comparable = self.snd_scale & INCOMPARABLE == 0;
            self.snd_scale &= !INCOMPARABLE;
            self.snd_wnd = u32::from(segment.window) << self.snd_scale;
            taken.opened_window = comparable && self.window_field < segment.window;
            self.window_field = segment.window;
        }
        let fin = segment.flags & flags::FIN != 0;
        let length = segment.payload_len + u32::from(fin);
        // RFC 9293 §3.10.7.4: data is answered by an ACK, good or not; so is a
        // keepalive, which begins one byte before what we expect. Other pure ACKs
        // are not: two ends that disagree would answer each other for ever.
        if length > 0 || behind == 1 {
            self.ack_due = true;
        }
        let new = segment.sequence.wrapping_add(length);
        if length > 0 && behind >= 0 && new.wrapping_sub(self.rcv_nxt) as i32 > 0 {
            self.rcv_nxt = new;
            taken.finished = fin;
        }
        taken
    }
}

/// What became of a segment's window and FIN.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TakenIn {
    /// The window field is larger than it was: a window update. It shrinks with
    /// what arrives out of order, where a stack counts that.
    pub(super) opened_window: bool,
    /// The peer's FIN came in order.
    pub(super) finished: bool,
}
