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

mod alone;
mod cells;
mod close;
mod connection;
mod credit;
mod decode;
mod icmp;
mod input;
mod learn;
mod mtu;
mod options;
mod output;
mod probes;
mod schedule;
mod seen;
mod segment;
mod sidecar;
mod state;
mod swift;
#[cfg(test)]
mod tests;
mod watched;

pub use alone::{FIRST_PORT, has_block, steered};
pub use decode::{Undecodable, decode, decode_with_ends};
pub use input::{Direct, DirectKind, IcmpError, IcmpKind, Quote, QuotedAlone, QuotedOptions};
pub use input::{Reply, Seen, Segment};
pub use options::{CloseMode, Handshaker, SessionOptions};
pub use output::{Event, Next, Odd, Outcome, ProbeId, Timer, Transmit, TransmitKind};
pub use sidecar::{OwnSegment, http_request};
pub use watched::decode_watched;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::time::{Duration, Instant};
use crate::trace::{Handshake, Hop, Method, PathMtu, Verdict};
use crate::wire::tcp::flags;
use crate::wire::template::Varying;
use crate::wire::usual::Arrived;

use close::Close;
pub use connection::millis as moment;
use connection::{Connection, Opening, Phase, later, nanos};
use probes::{Probes, Span};
use schedule::{Hold, Schedule};
use state::{Cold, Ends, Flag, Flags};

/// The two ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our address and port.
    pub local: SocketAddr,
    /// The target's address and port.
    pub remote: SocketAddr,
}

/// Events that wait in the session itself: what an answer tells at most, short of
/// a SACK that was held back. More wait elsewhere.
const EVENTS: usize = 3;

/// One in-session trace.
///
/// Two cache lines hold what a probe and its answer touch, beside the probe's own
/// cell; what is touched less often is one pointer away. Whoever holds many
/// aligns them.
#[derive(Debug)]
pub struct Session {
    probes: Probes,
    cold: Box<Cold>,
    connection: Connection,
    schedule: Schedule,
    ends: Ends,
    /// Oldest first.
    events: [Event; EVENTS],
    /// How many of them.
    waiting: u8,
    /// The largest TTL at which a router discarded a probe.
    discarded_to: u8,
    flags: Flags,
}

const _: () = assert!(size_of::<Session>() <= 128);

impl Session {
    /// A session about to send its SYN.
    ///
    /// `isn` is our initial sequence number (RFC 6528: a keyed hash, made by the
    /// caller), `timestamp_offset` the origin of our TSval clock, `mss` what we
    /// announce (octets).
    #[must_use]
    pub fn new(flow: Flow, isn: u32, timestamp_offset: u32, mss: u16, now: Instant) -> Self {
        let cold = Cold {
            opening: Opening::new(mss, now),
            close: Close::NotYet,
            ended: now,
            rare: None,
            first_window: 0,
            verdict: None,
            left: None,
            reopened: None,
        };
        let mut session = Session {
            probes: Probes::new(now),
            cold: Box::new(cold),
            connection: Connection::new(isn, timestamp_offset),
            schedule: Schedule::new(),
            ends: Ends::ELSEWHERE,
            events: [Event::Established; EVENTS],
            waiting: 0,
            discarded_to: 0,
            flags: Flags::default(),
        };
        session.keep_flow(&flow);
        session
    }

    /// Probing begins behind this TTL instead of at the first one, as the hops up to it
    /// are known already; not where the SYN-ACK's TTL puts the destination there. Where
    /// the very first probes reach the destination, it goes back, since it may be nearer.
    /// To be called before anything else.
    pub fn begin_behind(&mut self, ttl: u8) {
        self.schedule.begin_behind(ttl);
    }

    /// A packet of this flow arrived; `at` is the kernel's receive stamp.
    pub fn handle_reply(&mut self, options: &SessionOptions, at: Instant, reply: &Reply) {
        self.schedule.linger();
        if let Reply::Segment(segment) = reply {
            return self.handle_segment(options, at, segment);
        }
        if self.has(Flag::Ended) {
            return;
        }
        match reply {
            Reply::Segment(_) => {}
            Reply::Direct(answer) => self.direct(at, answer),
            Reply::Own(sent) => self.own_segment(at, sent),
            Reply::Icmp(error) if self.is_usual(options, at, error) => return,
            Reply::Icmp(error) => self.icmp(options, at, error),
            Reply::OwnSyn {
                sequence,
                options: syn,
            } => {
                if options.handshaker == Handshaker::Kernel
                    && self.connection.phase == Phase::Opening
                {
                    self.flags.set(Flag::KernelOwns);
                    self.begin(at);
                    let opening = &mut self.cold.opening;
                    self.connection.own_syn(opening, at, *sequence, syn);
                }
            }
        }
        self.settle(options, at);
        self.schedule.renew(options);
    }

    fn handle_segment(&mut self, options: &SessionOptions, at: Instant, segment: &Segment) {
        if self.has(Flag::Alone) {
            self.segment_to_alone(at, segment);
            if self.has(Flag::Ended) {
                return;
            }
        } else if self.has(Flag::Ended) {
            return self.segment_while_closing(segment);
        } else {
            self.segment(options, at, segment);
        }
        self.settle(options, at);
        self.schedule.renew(options);
    }

    /// [`Session::handle_reply`] of a segment, read in one go; `false`, and nothing
    /// is done, where it is not of this flow, or anything is odd about it.
    #[inline(never)]
    pub fn handle_arrived(&mut self, options: &SessionOptions, at: Instant, packet: &[u8]) -> bool {
        let Some(arrived) = Arrived::new(packet).filter(|new| self.has_ends(&new.ends())) else {
            return false;
        };
        let Some(segment) = decode::decode_segment(&arrived) else {
            return false;
        };
        self.schedule.linger();
        self.handle_segment(options, at, &segment);
        true
    }

    /// The moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, options: &SessionOptions, now: Instant) {
        self.schedule.linger();
        self.flags.clear(Flag::Held);
        if self.has(Flag::Ended) {
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
        let deadline = self.cold.opening.deadline(options);
        if self.connection.phase == Phase::Asking {
            self.request_timeout(options, now);
        } else if opening && deadline.is_some_and(|at| at <= now) {
            let detail = match self.connection.phase {
                Phase::WindowWait => Some("the peer's receive window stayed closed".into()),
                _ => self.unadopted().map(String::from),
            };
            self.opening_failed(options, now, Verdict::HandshakeTimeout, detail);
        } else if self.connection.phase == Phase::WindowWait
            && self.cold.opening.window_probe() <= now
        {
            self.cold.opening.probe_window();
        }
        self.long_overdue(options, now);
        self.settle(options, now);
        self.schedule.renew(options);
    }

    /// What `poll_transmit` gave out has been handed to the wire, at `at`: RTTs
    /// count from here.
    #[inline]
    pub fn handle_transmitted(&mut self, kind: TransmitKind, at: Instant) {
        if let TransmitKind::Probe(id) = kind {
            self.probes.sent(id, at);
        } else if kind == TransmitKind::Syn {
            self.cold.opening.syn_sent(at);
        } else if kind == TransmitKind::Long {
            self.long_sent(at);
        }
    }

    /// End it from outside (interrupt, link down, no neighbour): keeps what was
    /// learnt, closes the connection if there is one.
    pub fn abort(&mut self, now: Instant, verdict: Verdict, detail: Option<String>) {
        self.schedule.linger();
        self.finish(now, verdict, detail, CloseMode::Rst);
        // No second round for a FIN.
        match self.cold.close {
            Close::FinDue => self.cold.close = Close::RstDue(self.connection.snd_una()),
            Close::FinSent => self.fin_unanswered(),
            Close::NotYet | Close::RstDue(_) | Close::RstTwice(_) | Close::Done => {}
        }
    }

    /// The next segment, if there is one to be sent now.
    #[must_use]
    #[inline]
    pub fn poll_transmit(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        if self.has(Flag::Sent) && self.is_probing() {
            return self.poll_probe(options, now);
        }
        let transmit = self.decide(options, now)?;
        self.begin(now);
        Some(transmit)
    }

    /// The first segment leaves: times count from here.
    fn begin(&mut self, now: Instant) {
        if !self.has(Flag::Sent) {
            self.flags.set(Flag::Sent);
            self.probes.begin(now);
        }
    }

    /// Whether all there is to send is probes.
    #[inline]
    fn is_probing(&self) -> bool {
        let plain = !self.flags.has_any([Flag::Ended, Flag::Stray, Flag::Extra]);
        self.connection.phase == Phase::Open
            && !self.connection.ack_due
            && (plain || self.is_probing_extra())
    }

    /// The same of a session that does more than others.
    #[cold]
    fn is_probing_extra(&self) -> bool {
        !self.flags.has_either(Flag::Ended, Flag::Stray) && !self.measures_mtu()
    }

    /// The probe that may go out now.
    #[inline]
    fn poll_probe(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let window = self.connection.snd_wnd;
        let ttl = self.schedule.next(options, &self.probes, window, now)?;
        let sequence = self.probes.next_sequence();
        let id = self.probes.push(ttl, now);
        self.count(options);
        if self.has(Flag::Alone) {
            return Some(self.probe_alone(ttl, sequence, id));
        }
        if let Some(probe) = self.adopted_probe(ttl, sequence, id) {
            return Some(probe);
        }
        let segment = self.connection.segment(now, ttl, sequence, flags::PSH);
        Some(Transmit {
            alone: None,
            kind: TransmitKind::Probe(id),
            segment: Varying {
                payload_len: 1,
                ..segment
            },
        })
    }

    /// The TTL of the probe that [`Session::poll_transmit`] would give now; `None`
    /// where it would give something else, or nothing.
    #[must_use]
    pub fn next_ttl(&self, options: &SessionOptions, now: Instant) -> Option<u8> {
        let probing = self.connection.phase == Phase::Open
            && !self.ack_due(options)
            && !self.flags.has_either(Flag::Ended, Flag::Stray)
            && !self.measures_mtu();
        if !probing {
            return None;
        }
        let window = self.connection.snd_wnd;
        self.schedule.next(options, &self.probes, window, now)
    }

    /// What became of a probe so far.
    #[must_use]
    pub fn outcome(&self, id: ProbeId) -> Option<Outcome> {
        self.probes.outcome(probes::index(id))
    }

    #[inline(never)]
    fn decide(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        self.schedule.linger();
        match self.is_probing() {
            true => self.poll_probe(options, now),
            false => self.control(options, now),
        }
    }

    /// The segment that is due and no probe. Where an ACK is owed that is not
    /// ours to send, a probe.
    fn control(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let ttl = options.control_ttl;
        if self.has(Flag::Stray) {
            self.flags.clear(Flag::Stray);
            if self.has(Flag::Alone) {
                return self.reset_alone(ttl);
            }
            let sequence = self.rare_mut().stray_rst;
            return Some(Transmit {
                alone: None,
                kind: TransmitKind::Rst,
                segment: self.connection.bare_rst(ttl, sequence),
            });
        }
        if self.has(Flag::Ended) {
            return self.closing(options, now);
        }
        let opening = &mut self.cold.opening;
        if self.connection.syn_due(opening, options, now) {
            return Some(self.connection.syn(opening, options, now));
        }
        if self.connection.phase == Phase::Asking && !self.ack_due(options) {
            return self.request_segment(ttl, now);
        }
        let sequence = self.send_next();
        let sequence = if self.ack_due(options) {
            self.connection.ack_due = false;
            sequence
        } else if self.window_probe_due(options) {
            self.cold.opening.window_probe_due = false;
            sequence.wrapping_sub(1)
        } else if self.connection.ack_due {
            // The kernel sends it.
            self.connection.ack_due = false;
            return self.decide(options, now);
        } else {
            return self.poll_long(now);
        };
        Some(Transmit {
            alone: None,
            kind: TransmitKind::Ack,
            segment: self.connection.segment(now, ttl, sequence, 0),
        })
    }

    /// Whether `poll_transmit` would give something at `now`.
    #[must_use]
    pub fn wants_transmit(&self, options: &SessionOptions, now: Instant) -> bool {
        if self.has(Flag::Stray) {
            return true;
        }
        if self.has(Flag::Ended) {
            return self.close_is_due();
        }
        if self.ack_due(options) {
            return true;
        }
        match self.connection.phase {
            Phase::Open if self.measures_mtu() => self.wants_long(),
            Phase::Open => {
                let window = self.connection.snd_wnd;
                let next = self.schedule.next(options, &self.probes, window, now);
                next.is_some()
            }
            Phase::Opening => self.connection.syn_due(&self.cold.opening, options, now),
            Phase::WindowWait => self.window_probe_due(options),
            Phase::Asking => self.request_is_due(),
            Phase::HalfClosed | Phase::Gone => false,
        }
    }

    fn ack_due(&self, options: &SessionOptions) -> bool {
        // The kernel acknowledges what its own connection received.
        self.connection.ack_due
            && session_makes_handshake(options)
            && !matches!(self.connection.phase, Phase::Opening | Phase::Gone)
    }

    fn window_probe_due(&self, options: &SessionOptions) -> bool {
        self.cold.opening.window_probe_due
            && session_makes_handshake(options)
            && self.connection.phase == Phase::WindowWait
    }

    /// When to call `handle_timeout`, and why; `None` when nothing is awaited.
    #[must_use]
    pub fn poll_timeout(&self, options: &SessionOptions, now: Instant) -> Option<(Instant, Timer)> {
        self.after(options, now).timeout
    }

    /// [`Session::wants_transmit`] and [`Session::poll_timeout`] at once, for less
    /// than both.
    #[must_use]
    #[inline]
    pub fn after(&self, options: &SessionOptions, now: Instant) -> Next {
        if !self.is_probing() {
            return self.after_others(options, now);
        }
        let oldest = self.probes.oldest();
        let hold = match self.schedule.is_open(&self.probes, self.connection.snd_wnd) {
            true => self.schedule.hold(options, &self.probes, oldest, now),
            false => Some(Hold::Answered),
        };
        Next {
            wants_transmit: hold.is_none(),
            timeout: timeout(options, oldest, hold),
        }
    }

    /// The same while it is not just probing.
    #[inline(never)]
    fn after_others(&self, options: &SessionOptions, now: Instant) -> Next {
        let wants_transmit = self.wants_transmit(options, now);
        if self.has(Flag::Ended) {
            let deadline = self.fin_deadline();
            return Next {
                wants_transmit,
                timeout: deadline.map(|at| (at, Timer::CloseTimeout)),
            };
        }
        let oldest = self.probes.oldest();
        let open = self.connection.phase == Phase::Open
            && !self.measures_mtu()
            && self.schedule.is_open(&self.probes, self.connection.snd_wnd);
        let hold = match open {
            true => self.schedule.hold(options, &self.probes, oldest, now),
            false => None,
        };
        let probing = timeout(options, oldest, hold);
        let timeout = match self.connection.phase {
            Phase::Opening | Phase::WindowWait => {
                sooner(self.opening_timeout(options, now), probing)
            }
            Phase::Asking => {
                let (again, deadline) = self.request_timers(options).unzip();
                let again = again.map(|at| (at, Timer::RequestRetransmit));
                sooner(again, deadline.map(|at| (at, Timer::HandshakeTimeout)))
            }
            Phase::Open => sooner(self.long_timeout(options), probing),
            Phase::HalfClosed | Phase::Gone => probing,
        };
        Next {
            wants_transmit,
            timeout,
        }
    }

    /// When the handshake goes on by itself.
    fn opening_timeout(&self, options: &SessionOptions, now: Instant) -> Option<(Instant, Timer)> {
        let opening = &self.cold.opening;
        let deadline = opening.deadline(options);
        let deadline = deadline.map(|at| (at, Timer::HandshakeTimeout));
        let ours = |at: &Instant| *at > now && session_makes_handshake(options);
        if self.connection.phase == Phase::WindowWait {
            let probe = Some(opening.window_probe()).filter(ours);
            return sooner(deadline, probe.map(|at| (at, Timer::WindowWait)));
        }
        let syn = opening.next_syn().filter(ours);
        sooner(syn.map(|at| (at, Timer::SynRetransmit)), deadline)
    }

    /// Whether the verdict is in and the connection is closed: the session can
    /// be turned into its report and its slot given back.
    #[must_use]
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.has(Flag::Ended) && !self.has(Flag::Stray) && self.cold.close == Close::Done
    }

    /// Whether `sequence`, as a router quoted it, is that of a segment of ours:
    /// how replies whose quoted flow was rewritten find their session.
    #[must_use]
    pub fn owns_sequence(&self, sequence: u32) -> bool {
        let undone = self.quotes().undo(sequence);
        self.is_control(sequence)
            || self.find(sequence).is_some()
            || undone.is_some_and(|ours| self.find(ours).is_some())
            || self.owns_long(undone.unwrap_or(sequence))
    }

    /// The probe with this sequence number.
    fn find(&self, sequence: u32) -> Option<usize> {
        self.probes
            .find_current(sequence)
            .or_else(|| self.previous()?.find(sequence))
    }

    /// The probes of the connection before the current one.
    fn previous(&self) -> Option<Span> {
        match self.flags.has_either(Flag::Reopened, Flag::Extra) {
            true => self.rare()?.previous,
            false => None,
        }
    }

    /// What the handshake showed, once it is completed.
    #[must_use]
    pub fn handshake(&self) -> Option<Handshake> {
        match self.has(Flag::Reopened) {
            true => self.rare()?.second,
            false => self.cold.opening.handshake(),
        }
    }

    /// The reply of one probe so far, for output as it comes in.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> Option<(u8, crate::trace::Probe)> {
        self.probes.record(probes::index(id))
    }

    /// What was learnt.
    #[must_use]
    pub fn into_report(self, now: Instant) -> SessionReport {
        // An answer to fewer probes may have told where the destination is.
        let most = usize::from(self.schedule.farthest()) + 1;
        let method = self.method();
        let (hops, rtt) = self.probes.hops(most);
        let handshake = self.cold.opening.handshake();
        let (verdict, ended) = match self.cold.verdict {
            Some(verdict) => (verdict, self.cold.ended),
            None => (Verdict::Interrupted, now),
        };
        let (detail, mtu) = match self.cold.rare {
            Some(rare) => (rare.detail, rare.mtu.filter(|_| handshake.is_some())),
            None => (None, None),
        };
        SessionReport {
            method,
            verdict,
            detail,
            handshake,
            destination_ttl: self.schedule.destination(),
            longest: rtt.max(handshake.map(|handshake| handshake.rtt)),
            hops,
            mtu: mtu.map(|mtu| mtu.into_report()),
            started: self.probes.start(),
            ended,
        }
    }
}

/// Whether it is the session itself, not the kernel.
fn session_makes_handshake(options: &SessionOptions) -> bool {
    options.handshaker == Handshaker::Session
}

/// When a probe in flight is waited for no longer.
#[inline]
fn timeout(
    options: &SessionOptions,
    oldest: Option<Instant>,
    hold: Option<Hold>,
) -> Option<(Instant, Timer)> {
    let lost = later(oldest?, nanos(options.probe_timeout));
    Some(match hold {
        Some(Hold::Until(release)) if release <= lost => (release, Timer::Release),
        _ => (lost, Timer::ProbeTimeout),
    })
}

/// The earlier one; the first of two at once.
fn sooner(
    one: Option<(Instant, Timer)>,
    other: Option<(Instant, Timer)>,
) -> Option<(Instant, Timer)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// What a finished session learnt: the part of a [`crate::trace::Trace`] that it knows.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionReport {
    /// How it was traced.
    pub method: Method,
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
    /// How large a packet gets how far, where that was asked for.
    pub mtu: Option<PathMtu>,
    /// The longest round-trip time in any of this.
    pub longest: Option<Duration>,
    /// When the first SYN was sent (or the session was made, if none was).
    pub started: Instant,
    /// When the verdict was reached.
    pub ended: Instant,
}
