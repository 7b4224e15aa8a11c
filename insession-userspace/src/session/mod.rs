//! One flow, traced: a pure state machine. No system calls, no clock, no
//! threads, no I/O; `now` comes in, segments and events come out.
//!
//! Roles by name, as in quinn and str0m:
//! * `handle_*` takes in what happened;
//! * `poll_*` gives out what follows from it.
//!
//! **The drain rule.** After every `handle_*` call, call [`Session::poll_event`]
//! until it returns `None`, look at [`Session::wants_transmit`], and re-arm the
//! one timer from [`Session::poll_timeout`]. [`Session::poll_transmit`] is called
//! when the pacer lets a packet out, not before: the session never queues
//! segments, it decides what to send at the moment it may.

mod decode;
mod input;
mod options;
mod output;

pub use decode::{Undecodable, decode};
pub use input::{IcmpError, IcmpKind, Quote, Reply, Segment};
pub use options::{CloseMode, Handshaker, SessionOptions};
pub use output::{Event, ProbeId, Timer, Transmit, TransmitKind};

use crate::time::Instant;
use crate::trace::{Handshake, Hop, Verdict};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// The two ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our address and port.
    pub local: SocketAddr,
    /// The target's address and port.
    pub remote: SocketAddr,
}

/// One in-session trace. (To be written; the signatures below are the contract.)
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session about to send its SYN.
    ///
    /// `isn` is our initial sequence number (RFC 6528: a keyed hash, made by the
    /// caller), `timestamp_offset` the origin of our TSval clock, `mss` what we
    /// announce (octets).
    #[must_use]
    pub fn new(flow: Flow, isn: u32, timestamp_offset: u32, mss: u16, now: Instant) -> Self {
        let _ = (flow, isn, timestamp_offset, mss, now);
        unimplemented!()
    }

    /// A packet of this flow arrived; `at` is the kernel's receive stamp.
    pub fn handle_reply(&mut self, options: &SessionOptions, at: Instant, reply: &Reply) {
        let _ = (options, at, reply);
    }

    /// The moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, options: &SessionOptions, now: Instant) {
        let _ = (options, now);
    }

    /// What `poll_transmit` gave out has been handed to the wire, at `at`: RTTs
    /// count from here.
    pub fn handle_transmitted(&mut self, kind: TransmitKind, at: Instant) {
        let _ = (kind, at);
    }

    /// End it from outside (interrupt, link down, no neighbour): keeps what was
    /// learnt, closes the connection if there is one.
    pub fn abort(&mut self, now: Instant, verdict: Verdict, detail: Option<String>) {
        let _ = (now, verdict, detail);
    }

    /// The next segment, if there is one to be sent now.
    #[must_use]
    pub fn poll_transmit(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let _ = (options, now);
        None
    }

    /// Whether `poll_transmit` would give something at `now`.
    #[must_use]
    pub fn wants_transmit(&self, options: &SessionOptions, now: Instant) -> bool {
        let _ = (options, now);
        false
    }

    /// What happened, oldest first.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When to call `handle_timeout`, and why; `None` when nothing is awaited.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        None
    }

    /// Whether the verdict is in and the connection is closed: the session can
    /// be turned into its report and its slot given back.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        false
    }

    /// Whether `sequence`, as a router quoted it, is that of a segment of ours:
    /// how replies whose quoted flow was rewritten find their session.
    #[must_use]
    pub fn owns_sequence(&self, sequence: u32) -> bool {
        let _ = sequence;
        false
    }

    /// The flow it traces.
    #[must_use]
    pub fn flow(&self) -> Flow {
        unimplemented!()
    }

    /// The reply of one probe so far, for output as it comes in.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> Option<(u8, crate::trace::Probe)> {
        let _ = id;
        None
    }

    /// What was learnt.
    #[must_use]
    pub fn into_report(self, now: Instant) -> SessionReport {
        let _ = now;
        unimplemented!()
    }
}

/// What a finished session learnt: the part of a [`crate::trace::Trace`] that it knows.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionReport {
    /// How it ended.
    pub verdict: Verdict,
    /// What the verdict alone does not say.
    pub detail: Option<String>,
    /// The handshake, where one was completed.
    pub handshake: Option<Handshake>,
    /// The smallest TTL that reached the destination.
    pub destination_ttl: Option<u8>,
    /// By rising TTL.
    pub hops: Vec<Hop>,
    /// When the first SYN was sent (or the session was made, if none was).
    pub started: Instant,
    /// When the verdict was reached.
    pub ended: Instant,
}
