//! What goes out: segments, events, timers.

use core::num::NonZeroU16;

use crate::wire::alone::Alone;
use crate::wire::template::Varying;

/// A probe's number within its session, from 1 in the order of sending. Its
/// sequence number follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub NonZeroU16);

/// A segment to be sent. The engine knows the flow and fills its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// What it is for; comes back in [`super::Session::handle_transmitted`].
    pub kind: TransmitKind,
    /// The segment.
    pub segment: Varying,
    /// Where it is no segment of the flow: what it is. The segment's TTL is its TTL.
    pub alone: Option<Odd>,
}

/// A packet that is no segment of its session's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd {
    /// What it is.
    pub alone: Alone,
    /// IPv4 identification, where it has to have this one.
    pub identification: Option<u16>,
    /// What is added to the flow's IPv6 flow label.
    pub label: u32,
}

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitKind {
    /// SYN, or SYN again.
    Syn,
    /// Pure ACK: of the SYN-ACK, of the server's data, of a keepalive.
    Ack,
    /// A part of the request that a session carries.
    Data,
    /// A probe.
    Probe(ProbeId),
    /// A packet of a size, of the search for the path's MTU.
    Long,
    /// FIN (`--close fin`).
    Fin,
    /// The closing RST.
    Rst,
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

/// What became of a probe, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The TTL it was sent with.
    pub ttl: u8,
    /// When it left.
    pub sent: crate::time::Instant,
    /// How and from where it was answered; `None`: it was not, so far.
    pub answer: Option<(crate::trace::ReplyKind, core::net::IpAddr)>,
}

/// What is to be done about a session until something happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// [`super::Session::wants_transmit`].
    pub wants_transmit: bool,
    /// [`super::Session::poll_timeout`].
    pub timeout: Option<(crate::time::Instant, Timer)>,
}

/// Why the session wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// SYN again (1 s, then 3 s after the first).
    SynRetransmit,
    /// The request again.
    RequestRetransmit,
    /// Give the handshake up, or the request.
    HandshakeTimeout,
    /// Probe the peer's window, which is still closed (SYNPROXY opens it later).
    WindowWait,
    /// An unanswered probe no longer holds back the next TTL.
    Release,
    /// The oldest probe in flight counts as lost.
    ProbeTimeout,
    /// The peer did not answer our FIN.
    CloseTimeout,
}
