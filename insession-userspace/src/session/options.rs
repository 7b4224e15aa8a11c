//! What all sessions of a run have in common.

use crate::time::Duration;
use crate::trace::Method;

/// How traces are made. Shared by every session of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOptions {
    /// How hops are probed.
    pub method: Method,
    /// The first TTL probed, 1 or more.
    pub first_ttl: u8,
    /// The last TTL probed.
    pub max_ttl: u8,
    /// Probes a hop.
    pub probes: u8,
    /// How long a probe may go unanswered before it counts as lost.
    pub probe_timeout: Duration,
    /// From the first SYN to giving up.
    pub handshake_timeout: Duration,
    /// After this many silent hops in a row the trace ends.
    pub gap_limit: u8,
    /// How sessions are closed.
    pub close: CloseMode,
    /// Who makes the handshake.
    pub handshaker: Handshaker,
    /// TTL of everything that is not a probe.
    pub control_ttl: u8,
    /// DSCP of every segment (6 bits), constant through a session.
    pub dscp: u8,
    /// Open once more when the peer closes before the trace is done.
    pub reopen: bool,
    /// How large a packet gets how far is measured, too (`--mtu`).
    pub mtu: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            method: Method::InSession,
            first_ttl: 1,
            max_ttl: 30,
            probes: 3,
            probe_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            gap_limit: 8,
            close: CloseMode::Rst,
            handshaker: Handshaker::Session,
            control_ttl: 64,
            dscp: 0,
            reopen: true,
            mtu: false,
        }
    }
}

/// How a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// RST with the sequence number the peer expects next (RFC 5961 §3.2): the
    /// peer drops the out-of-order bytes and the connection at once.
    Rst,
    /// The polite variant: the missing bytes are never sent, so a FIN cannot be
    /// accepted in order; FIN at the peer's `rcv_nxt`, then RST after its ACK or
    /// a second.
    Fin,
}

/// Who makes the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshaker {
    /// The session itself: it sends SYN and ACK.
    Session,
    /// The kernel owns the connection (the `packet` link): the session sends
    /// probes only, and learns both initial sequence numbers from the SYN and
    /// SYN-ACK seen on the wire ([`super::Reply::OwnSyn`]). The kernel
    /// acknowledges data and, told to by the link, sends the closing RST.
    Kernel,
}
