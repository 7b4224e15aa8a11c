//! What goes out: segments, events, timers.

use core::num::NonZeroU16;

/// A probe's number within its session, from 1 in the order of sending. Its
/// sequence number follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub NonZeroU16);

/// A segment to be sent. The engine knows the flow and fills a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// What it is for; comes back in [`super::Session::handle_transmitted`].
    pub kind: TransmitKind,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; 0 without the ACK flag.
    pub acknowledgment: u32,
    /// Flag bits as on the wire (`wire::tcp::flags`).
    pub flags: u8,
    /// The window field as it goes on the wire.
    pub window: u16,
    /// TCP options.
    pub options: SegmentOptions,
    /// Bytes of payload (their content is zero).
    pub payload_len: u8,
}

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitKind {
    /// SYN, or SYN again.
    Syn,
    /// Pure ACK: of the SYN-ACK, of the server's data, of a keepalive.
    Ack,
    /// A probe.
    Probe(ProbeId),
    /// FIN (`--close fin`).
    Fin,
    /// The closing RST.
    Rst,
}

/// TCP options of a segment of ours. Three shapes, so that templates can be
/// laid out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentOptions {
    /// None.
    None,
    /// MSS, SACK-permitted, timestamps, NOP, window scale: as Linux sends them.
    Syn {
        /// Octets.
        mss: u16,
        /// Shift count.
        window_scale: u8,
        /// Our clock; TSecr is 0 in a SYN.
        tsval: u32,
    },
    /// NOP, NOP, timestamps.
    Timestamps {
        /// Our clock.
        tsval: u32,
        /// The latest of theirs.
        tsecr: u32,
    },
}

/// Something worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is open.
    Established,
    /// A probe was answered; see [`super::Session::probe`].
    Answered(ProbeId),
    /// A probe went unanswered for `probe_timeout`.
    Lost(ProbeId),
    /// The smallest TTL that reached the destination was found or lowered.
    Destination(u8),
    /// The verdict is in. Closing segments may still want to go out.
    Verdict(crate::trace::Verdict),
}

/// Why the session wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// SYN again (1 s, then 3 s after the first).
    SynRetransmit,
    /// Give the handshake up.
    HandshakeTimeout,
    /// The peer's window is still closed (SYNPROXY opens it later).
    WindowWait,
    /// An unanswered probe no longer holds back the next TTL.
    Release,
    /// The oldest probe in flight counts as lost.
    ProbeTimeout,
    /// The peer did not answer our FIN.
    CloseTimeout,
}
