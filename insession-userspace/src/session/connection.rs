//! The TCP connection under a session: sequence numbers, windows, timestamps,
//! and the segments that are not probes.

use super::options::{Handshaker, SessionOptions};
use super::{Segment, Transmit, TransmitKind};
use crate::time::{Duration, Instant};
use crate::trace::Handshake;
use crate::wire::tcp::{Options, flags};
use crate::wire::template::{SegmentOptions, Varying};

/// What we announce: Linux's first window, so that firewalls see nothing odd.
const WINDOW: u16 = 64_240;
/// Our shift count, Linux's for its default buffers.
const WINDOW_SCALE: u8 = 7;
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
    /// Probes may go out.
    Open,
    /// The peer has sent its FIN.
    HalfClosed,
    /// The peer has refused or reset it.
    Gone,
}

/// The connection's variables, by RFC 9293's names where it has them.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// Initial send sequence number. Unknown until the kernel's SYN was seen,
    /// where the kernel makes the handshake.
    pub(super) iss: Option<u32>,
    /// What we expect next from the peer.
    pub(super) rcv_nxt: u32,
    /// The peer's receive window, octets.
    pub(super) snd_wnd: u32,
    /// The window field that it came from; `None` where the next one cannot be
    /// compared with it (RFC 7323 §2.2: a SYN's is not scaled, others are).
    window_field: Option<u16>,
    /// An ACK is owed.
    pub(super) ack_due: bool,
    /// A RST is owed to a half-open connection of another life, with this
    /// sequence number.
    pub(super) stray_rst: Option<u32>,
    pub(super) handshake: Option<Handshake>,
    /// We announce this, octets.
    mss: u16,
    /// SYNs decided on so far.
    syns: u8,
    /// The first SYN of this connection.
    first_syn: Option<Instant>,
    /// The latest.
    last_syn: Instant,
    /// TSval = this + milliseconds of the clock.
    ts_offset: u32,
    /// The TSval of the latest SYN.
    syn_tsval: u32,
    /// RFC 7323 TS.Recent.
    ts_recent: u32,
    /// A window probe is due: an old byte, which draws an ACK.
    pub(super) window_probe_due: bool,
    /// Window probes sent.
    window_probes: u8,
    /// What the peer's window field is shifted by.
    snd_scale: u8,
    /// Ours were taken up, and are shifted.
    rcv_scale: u8,
    /// What our SYN offers to shift them by.
    offered_scale: u8,
}

impl Connection {
    pub(super) fn new(iss: u32, ts_offset: u32, mss: u16, now: Instant) -> Self {
        Connection {
            phase: Phase::Opening,
            iss: Some(iss),
            rcv_nxt: 0,
            snd_wnd: 0,
            window_field: None,
            ack_due: false,
            stray_rst: None,
            window_probe_due: false,
            window_probes: 0,
            handshake: None,
            mss,
            syns: 0,
            first_syn: None,
            last_syn: now,
            ts_offset,
            syn_tsval: 0,
            ts_recent: 0,
            snd_scale: 0,
            rcv_scale: 0,
            offered_scale: WINDOW_SCALE,
        }
    }

    /// The same flow once more, in sequence space that no segment of the old
    /// connection reaches, and above it: a server in TIME-WAIT takes a SYN only
    /// from there (RFC 9293 §3.6.1).
    pub(super) fn reopen(&mut self, now: Instant) {
        const AWAY: u32 = 1 << 28;
        let iss = self.iss.unwrap_or_default().wrapping_add(AWAY);
        *self = Connection::new(iss, self.ts_offset, self.mss, now);
    }

    /// What the peer expects next of us: the gap byte, never sent.
    pub(super) fn snd_una(&self) -> u32 {
        self.iss.unwrap_or_default().wrapping_add(1)
    }

    fn tsval(&self, now: Instant) -> u32 {
        self.ts_offset
            .wrapping_add((now.as_nanos() / 1_000_000) as u32)
    }

    fn timestamps(&self) -> bool {
        self.handshake.is_some_and(|handshake| handshake.timestamps)
    }

    /// Whether a SYN is to be sent now.
    pub(super) fn syn_due(&self, options: &SessionOptions, now: Instant) -> bool {
        options.handshaker == Handshaker::Session
            && self.phase == Phase::Opening
            && self.next_syn().is_some_and(|at| at <= now)
    }

    /// When the next SYN is due, if there is one left.
    pub(super) fn next_syn(&self) -> Option<Instant> {
        let Some(first) = self.first_syn else {
            return Some(Instant::ZERO);
        };
        let again = SYN_AGAIN.get(usize::from(self.syns).saturating_sub(1))?;
        Some(first + *again)
    }

    /// When the handshake is given up.
    pub(super) fn handshake_deadline(&self, options: &SessionOptions) -> Option<Instant> {
        let from = match options.handshaker {
            Handshaker::Session => self.first_syn?,
            // The kernel has sent its SYN when the session is made.
            Handshaker::Kernel => self.first_syn.unwrap_or(self.last_syn),
        };
        Some(from + options.handshake_timeout)
    }

    pub(super) fn syn_was_sent(&self) -> bool {
        self.syns > 0
    }

    pub(super) fn syn(&mut self, options: &SessionOptions, now: Instant) -> Transmit {
        self.first_syn.get_or_insert(now);
        self.last_syn = now;
        self.syns += 1;
        self.syn_tsval = self.tsval(now);
        let segment = Varying {
            ttl: options.control_ttl,
            sequence: self.iss.unwrap_or_default(),
            acknowledgment: 0,
            flags: flags::SYN,
            window: WINDOW,
            options: SegmentOptions::Syn {
                mss: self.mss,
                window_scale: WINDOW_SCALE,
                tsval: self.syn_tsval,
            },
            payload_len: 0,
        };
        Transmit {
            kind: TransmitKind::Syn,
            segment,
        }
    }

    pub(super) fn syn_sent(&mut self, at: Instant) {
        match self.syns {
            // It was a SYN of the connection before.
            0 => return,
            1 => self.first_syn = Some(at),
            _ => {}
        }
        self.last_syn = at;
    }

    /// A segment of the open connection.
    pub(super) fn segment(&self, now: Instant, ttl: u8, sequence: u32, bits: u8) -> Varying {
        let options = if self.timestamps() && bits & flags::RST == 0 {
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
    pub(super) fn own_syn(&mut self, at: Instant, sequence: u32, options: &Options) {
        self.iss = Some(sequence);
        self.last_syn = at;
        self.first_syn.get_or_insert(at);
        self.syns = self.syns.saturating_add(1);
        // The window field of our probes is read by the kernel's shift count.
        self.offered_scale = options.window_scale.unwrap_or(0);
        if let Some((tsval, _)) = options.timestamps {
            // Its clock ticks at 1 kHz (tcp_clock_ms); 1 more, so that ours is
            // never behind it and PAWS takes both.
            let ours = (at.as_nanos() / 1_000_000) as u32;
            self.ts_offset = tsval.wrapping_sub(ours).wrapping_add(1);
            self.syn_tsval = tsval;
        }
    }

    /// A SYN-ACK of ours arrived.
    pub(super) fn accept(&mut self, at: Instant, syn_ack: &Segment) {
        let options = &syn_ack.options;
        self.rcv_nxt = syn_ack.sequence.wrapping_add(1);
        if let Some(scale) = options.window_scale {
            (self.snd_scale, self.rcv_scale) = (scale, self.offered_scale);
        }
        // RFC 7323 §2.2: the window field of a SYN is not scaled.
        self.snd_wnd = u32::from(syn_ack.window);
        self.window_field = (self.snd_scale == 0).then_some(syn_ack.window);
        let sent = self.answered_syn(at, options);
        if let Some((value, _)) = options.timestamps {
            self.ts_recent = value;
        }
        self.handshake = Some(Handshake {
            rtt: at.since(sent),
            mss: options.mss.unwrap_or(DEFAULT_MSS),
            sack: options.sack_permitted,
            timestamps: options.timestamps.is_some(),
            window_scale: options.window_scale,
        });
        self.ack_due = true;
        self.phase = match self.window_is_closed() {
            true => Phase::WindowWait,
            false => Phase::Open,
        };
    }

    /// Whether this sequence number lies in the window that we announce.
    pub(super) fn would_receive(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.rcv_nxt) < u32::from(WINDOW)
    }

    /// Whether it has no room for a probe and its gap.
    pub(super) fn window_is_closed(&self) -> bool {
        self.snd_wnd < 2
    }

    /// When a closed window is probed next (RFC 9293 §3.8.6.1: the one update
    /// that opens it may be lost): a second after the SYN, then ever later.
    pub(super) fn window_probe(&self) -> Instant {
        self.last_syn + WINDOW_PROBE * (1 << self.window_probes.min(5))
    }

    /// It is due.
    pub(super) fn probe_window(&mut self) {
        self.window_probes = self.window_probes.saturating_add(1);
        self.window_probe_due = true;
    }

    /// When the SYN was sent that this SYN-ACK answers.
    fn answered_syn(&self, at: Instant, options: &Options) -> Instant {
        let first = self.first_syn.unwrap_or(self.last_syn);
        if at < self.last_syn {
            return first;
        }
        // Which of several SYNs was answered only a timestamp tells (RFC 7323
        // §4.1); without, the latest (Karn's ambiguity: a lower bound).
        let Some((_, echo)) = options.timestamps else {
            return self.last_syn;
        };
        let earlier = Duration::from_millis(u64::from(self.syn_tsval.wrapping_sub(echo)));
        let span = self.last_syn.since(first);
        // Our TSval counts milliseconds.
        const TICK: Duration = Duration::from_millis(1);
        if earlier > span + TICK {
            // Nothing that we sent: a box on the way makes timestamps up.
            self.last_syn
        } else if earlier + TICK >= span {
            first
        } else {
            let ago = span.saturating_sub(earlier);
            first + ago
        }
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
            self.snd_wnd = u32::from(segment.window) << self.snd_scale;
            let before = self.window_field.replace(segment.window);
            taken.opened_window = before.is_some_and(|before| before < segment.window);
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
