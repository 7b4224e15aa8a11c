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

mod close;
mod connection;
mod credit;
mod decode;
mod icmp;
mod input;
mod learn;
mod options;
mod output;
mod probes;
mod schedule;
mod segment;
#[cfg(test)]
mod tests;

pub use decode::{Undecodable, decode};
pub use input::{IcmpError, IcmpKind, Quote, Reply, Segment};
pub use options::{CloseMode, Handshaker, SessionOptions};
pub use output::{Event, ProbeId, Timer, Transmit, TransmitKind};

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::time::Instant;
use crate::trace::{Handshake, Hop, Verdict};
use crate::wire::tcp::flags;

use close::{Close, Outcome};
use connection::{Connection, Phase};
use learn::Learn;
use probes::Probes;
use schedule::Schedule;
use segment::BareAcks;

/// The two ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our address and port.
    pub local: SocketAddr,
    /// The target's address and port.
    pub remote: SocketAddr,
}

/// One in-session trace.
#[derive(Debug)]
pub struct Session {
    flow: Flow,
    started: Instant,
    connection: Connection,
    probes: Probes,
    schedule: Schedule,
    learn: Learn,
    close: Close,
    outcome: Option<Outcome>,
    /// The first handshake: the one that is reported.
    handshake: Option<Handshake>,
    /// TTL of the SYN-ACK as it arrived.
    hello_ttl: u8,
    /// The peer's receive window when probing began, octets.
    first_window: u32,
    /// Probing has begun.
    begun: bool,
    /// The one reopening was used: how the connection before it ended.
    reopened: Option<Verdict>,
    /// [`Handshaker::Kernel`], as far as seen.
    kernel_owns: bool,
    /// The peer has closed the session: the verdict that it means where
    /// something is left to ask.
    left: Option<Verdict>,
    /// Something was sent: `started` is the first segment's moment.
    sent: bool,
    /// The peer has named a probe by SACK.
    sacked: bool,
    /// Duplicate ACKs without blocks, from a peer that permitted SACK.
    bare: BareAcks,
    /// The latest duplicate ACK that was read: when it arrived, and its TSval.
    last_duplicate: Option<(Instant, Option<u32>)>,
    /// Code and sender of the nearest unreachable that a router sent.
    unreachable_by: Option<(u8, IpAddr)>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session about to send its SYN.
    ///
    /// `isn` is our initial sequence number (RFC 6528: a keyed hash, made by the
    /// caller), `timestamp_offset` the origin of our TSval clock, `mss` what we
    /// announce (octets).
    #[must_use]
    pub fn new(flow: Flow, isn: u32, timestamp_offset: u32, mss: u16, now: Instant) -> Self {
        Session {
            flow,
            started: now,
            connection: Connection::new(isn, timestamp_offset, mss, now),
            probes: Probes::new(now),
            schedule: Schedule::new(),
            learn: Learn::default(),
            close: Close::NotYet,
            outcome: None,
            handshake: None,
            hello_ttl: 0,
            first_window: 0,
            begun: false,
            reopened: None,
            kernel_owns: false,
            left: None,
            sent: false,
            sacked: false,
            bare: BareAcks::default(),
            last_duplicate: None,
            unreachable_by: None,
            events: VecDeque::new(),
        }
    }

    /// A packet of this flow arrived; `at` is the kernel's receive stamp.
    pub fn handle_reply(&mut self, options: &SessionOptions, at: Instant, reply: &Reply) {
        if self.outcome.is_some() {
            if let Reply::Segment(segment) = reply {
                self.segment_while_closing(segment);
            }
            return;
        }
        match reply {
            Reply::Segment(segment) => self.segment(options, at, segment),
            Reply::Icmp(error) => self.icmp(options, at, error),
            Reply::OwnSyn {
                sequence,
                options: syn,
            } => {
                if options.handshaker == Handshaker::Kernel
                    && self.connection.phase == Phase::Opening
                {
                    self.kernel_owns = true;
                    self.begin(at);
                    self.connection.own_syn(at, *sequence, syn);
                }
            }
        }
        self.settle(options, at);
    }

    /// The moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, options: &SessionOptions, now: Instant) {
        if self.outcome.is_some() {
            if self.fin_deadline().is_some_and(|at| at <= now) {
                self.fin_unanswered();
            }
            return;
        }
        while let Some(index) = self.probes.overdue(now, options.probe_timeout) {
            self.probes.lose(index);
            self.schedule.accounted = 0;
            self.push(Event::Lost(probes::id(index)));
        }
        let opening = matches!(self.connection.phase, Phase::Opening | Phase::WindowWait);
        let deadline = self.connection.handshake_deadline(options);
        if opening && deadline.is_some_and(|at| at <= now) {
            let detail = match self.connection.phase {
                Phase::WindowWait => Some("the peer's receive window stayed closed".into()),
                _ => None,
            };
            self.opening_failed(options, now, Verdict::HandshakeTimeout, detail);
        } else if self.connection.phase == Phase::WindowWait
            && self.connection.window_probe() <= now
        {
            self.connection.probe_window();
        }
        self.settle(options, now);
    }

    /// What `poll_transmit` gave out has been handed to the wire, at `at`: RTTs
    /// count from here.
    pub fn handle_transmitted(&mut self, kind: TransmitKind, at: Instant) {
        match kind {
            TransmitKind::Syn => self.connection.syn_sent(at),
            TransmitKind::Probe(id) => self.probes.sent(id, at),
            TransmitKind::Ack | TransmitKind::Fin | TransmitKind::Rst => {}
        }
    }

    /// End it from outside (interrupt, link down, no neighbour): keeps what was
    /// learnt, closes the connection if there is one.
    pub fn abort(&mut self, now: Instant, verdict: Verdict, detail: Option<String>) {
        self.finish(now, verdict, detail, CloseMode::Rst);
        // No second round for a FIN.
        match self.close {
            Close::FinDue => self.close = Close::RstDue(self.connection.snd_una()),
            Close::FinSent(_) => self.fin_unanswered(),
            Close::NotYet | Close::RstDue(_) | Close::RstTwice(_) | Close::Done => {}
        }
    }

    /// The next segment, if there is one to be sent now.
    #[must_use]
    pub fn poll_transmit(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let transmit = self.decide(options, now)?;
        self.begin(now);
        Some(transmit)
    }

    /// The first segment leaves: times count from here.
    fn begin(&mut self, now: Instant) {
        if !self.sent {
            self.sent = true;
            self.started = now;
            self.probes.begin(now);
        }
    }

    fn decide(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let ttl = options.control_ttl;
        if let Some(sequence) = self.connection.stray_rst.take() {
            return Some(Transmit {
                kind: TransmitKind::Rst,
                segment: self.connection.bare_rst(ttl, sequence),
            });
        }
        if self.outcome.is_some() {
            return self.closing(options, now);
        }
        if self.connection.syn_due(options, now) {
            return Some(self.connection.syn(options, now));
        }
        if self.ack_due(options) {
            self.connection.ack_due = false;
            let sequence = self.connection.snd_una();
            return Some(Transmit {
                kind: TransmitKind::Ack,
                segment: self.connection.segment(now, ttl, sequence, 0),
            });
        }
        if self.window_probe_due(options) {
            self.connection.window_probe_due = false;
            let sequence = self.connection.snd_una().wrapping_sub(1);
            return Some(Transmit {
                kind: TransmitKind::Ack,
                segment: self.connection.segment(now, ttl, sequence, 0),
            });
        }
        let ttl = self.next_probe(options, now)?;
        let sequence = self.probes.next_sequence();
        let mut segment = self.connection.segment(now, ttl, sequence, flags::PSH);
        segment.payload_len = 1;
        let id = self.probes.push(ttl, now);
        self.schedule.sent();
        Some(Transmit {
            kind: TransmitKind::Probe(id),
            segment,
        })
    }

    /// Whether `poll_transmit` would give something at `now`.
    #[must_use]
    pub fn wants_transmit(&self, options: &SessionOptions, now: Instant) -> bool {
        if self.connection.stray_rst.is_some() {
            return true;
        }
        if self.outcome.is_some() {
            return self.close_is_due();
        }
        self.connection.syn_due(options, now)
            || self.ack_due(options)
            || self.window_probe_due(options)
            || self.next_probe(options, now).is_some()
    }

    fn ack_due(&self, options: &SessionOptions) -> bool {
        // The kernel acknowledges what its own connection received.
        self.connection.ack_due
            && self.session_makes_handshake(options)
            && !matches!(self.connection.phase, Phase::Opening | Phase::Gone)
    }

    fn window_probe_due(&self, options: &SessionOptions) -> bool {
        self.connection.window_probe_due
            && self.session_makes_handshake(options)
            && self.connection.phase == Phase::WindowWait
    }

    fn next_probe(&self, options: &SessionOptions, now: Instant) -> Option<u8> {
        if self.connection.phase != Phase::Open {
            return None;
        }
        self.schedule
            .next(options, &self.probes, self.connection.snd_wnd, now)
    }

    fn session_makes_handshake(&self, options: &SessionOptions) -> bool {
        options.handshaker == Handshaker::Session
    }

    /// What happened, oldest first.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `handle_timeout`, and why; `None` when nothing is awaited.
    #[must_use]
    pub fn poll_timeout(&self, options: &SessionOptions, now: Instant) -> Option<(Instant, Timer)> {
        if self.outcome.is_some() {
            return Some((self.fin_deadline()?, Timer::CloseTimeout));
        }
        let opening = match self.connection.phase {
            Phase::Opening => [
                self.connection
                    .next_syn()
                    .filter(|at| *at > now && self.session_makes_handshake(options))
                    .map(|at| (at, Timer::SynRetransmit)),
                self.connection
                    .handshake_deadline(options)
                    .map(|at| (at, Timer::HandshakeTimeout)),
            ],
            Phase::WindowWait => [
                self.connection
                    .handshake_deadline(options)
                    .map(|at| (at, Timer::HandshakeTimeout)),
                Some((self.connection.window_probe(), Timer::WindowWait))
                    .filter(|(at, _)| *at > now && self.session_makes_handshake(options)),
            ],
            Phase::Open | Phase::HalfClosed | Phase::Gone => [None, None],
        };
        let release = match self.connection.phase {
            Phase::Open => {
                self.schedule
                    .release(options, &self.probes, self.connection.snd_wnd, now)
            }
            _ => None,
        };
        let oldest = self.probes.flying().next();
        let lost = oldest.map(|(_, slot)| {
            let at = self.probes.sent_at(slot) + options.probe_timeout;
            (at, Timer::ProbeTimeout)
        });
        opening
            .into_iter()
            .chain([release.map(|at| (at, Timer::Release)), lost])
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Whether the verdict is in and the connection is closed: the session can
    /// be turned into its report and its slot given back.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.outcome.is_some() && self.close == Close::Done && self.connection.stray_rst.is_none()
    }

    /// Whether `sequence`, as a router quoted it, is that of a segment of ours:
    /// how replies whose quoted flow was rewritten find their session.
    #[must_use]
    pub fn owns_sequence(&self, sequence: u32) -> bool {
        let undone = self.learn.quotes.undo(sequence);
        self.is_control(sequence)
            || self.probes.find(sequence).is_some()
            || undone.is_some_and(|ours| self.probes.find(ours).is_some())
    }

    /// The flow it traces.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// What the handshake showed, once it is completed.
    #[must_use]
    pub fn handshake(&self) -> Option<Handshake> {
        self.connection.handshake
    }

    /// The reply of one probe so far, for output as it comes in.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> Option<(u8, crate::trace::Probe)> {
        self.probes.record(probes::index(id))
    }

    /// What was learnt.
    #[must_use]
    pub fn into_report(self, now: Instant) -> SessionReport {
        let mut hops: Vec<Hop> = Vec::new();
        for index in 0..self.probes.len() {
            let Some((ttl, probe)) = self.probes.record(index) else {
                continue;
            };
            match hops.binary_search_by_key(&ttl, |hop| hop.ttl) {
                Ok(at) => hops[at].probes.push(probe),
                Err(at) => hops.insert(
                    at,
                    Hop {
                        ttl,
                        probes: alloc::vec![probe],
                    },
                ),
            }
        }
        let outcome = self.outcome.unwrap_or(Outcome {
            verdict: Verdict::Interrupted,
            detail: None,
            ended: now,
        });
        SessionReport {
            verdict: outcome.verdict,
            detail: outcome.detail,
            handshake: self.handshake,
            destination_ttl: self.schedule.destination,
            hops,
            started: self.started,
            ended: outcome.ended,
        }
    }

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
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
