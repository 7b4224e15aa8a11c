//! How a session ends: the verdict, and the segments that close the connection.

use alloc::format;
use alloc::string::String;

use super::connection::Phase;
use super::icmp::unreachable;
use super::learn::Learn;
use super::state::Flag;
use super::{
    CloseMode, Event, Segment, Session, SessionOptions, Transmit, TransmitKind,
    session_makes_handshake,
};
use crate::time::{Duration, Instant};
use crate::trace::Verdict;
use crate::wire::tcp::flags;

/// How long the peer has to acknowledge our FIN.
const FIN_WAIT: Duration = Duration::from_secs(1);

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The trace goes on.
    NotYet,
    /// RST is to be sent, with this sequence number.
    RstDue(u32),
    /// The same, and once more with the next sequence number: whether the peer
    /// has taken our FIN is not known.
    RstTwice(u32),
    /// FIN is to be sent.
    FinDue,
    /// It was, at [`Opening::last_control`](super::connection::Opening), and is not
    /// acknowledged yet.
    FinSent,
    /// Nothing more is sent.
    Done,
}

impl Session {
    /// The verdict, and how to close.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        verdict: Verdict,
        detail: Option<String>,
        mode: CloseMode,
    ) {
        if self.has(Flag::Ended) {
            return;
        }
        self.flags.set(Flag::Ended);
        self.cold.verdict = Some(verdict);
        self.cold.ended = now;
        if detail.is_some() {
            self.rare_mut().detail = detail;
        }
        self.push(Event::Verdict(verdict));
        let next = self.close_at();
        self.cold.close = match self.connection.phase {
            _ if self.has(Flag::KernelOwns) || self.has(Flag::Alone) => Close::Done,
            // RFC 5961 §3.2: exactly what the peer expects next: the gap byte.
            // What the peer has of the request is not known: no FIN would fit.
            Phase::Asking => Close::RstDue(next),
            Phase::WindowWait | Phase::Open => match mode {
                CloseMode::Rst => Close::RstDue(next),
                CloseMode::Fin => Close::FinDue,
            },
            Phase::HalfClosed => Close::RstDue(next),
            // Our SYN may have arrived and its answer been lost: the half-open
            // connection goes with the RST. Not where the SYN never got there.
            Phase::Opening
                if self.cold.opening.syn_was_sent() && verdict != Verdict::Unreachable =>
            {
                Close::RstDue(next)
            }
            Phase::Opening | Phase::Gone => Close::Done,
        };
        self.connection.ack_due = false;
    }

    /// The closing segment that is due.
    pub(super) fn closing(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let ttl = options.control_ttl;
        match self.cold.close {
            Close::RstDue(sequence) | Close::RstTwice(sequence) => {
                self.cold.close = match self.cold.close {
                    Close::RstTwice(_) => Close::RstDue(sequence.wrapping_add(1)),
                    _ => Close::Done,
                };
                let segment = match self.connection.phase {
                    Phase::Opening => self.connection.bare_rst(ttl, sequence),
                    _ => self.connection.segment(now, ttl, sequence, flags::RST),
                };
                Some(Transmit {
                    alone: None,
                    kind: TransmitKind::Rst,
                    segment,
                })
            }
            Close::FinDue => {
                self.cold.close = Close::FinSent;
                self.cold.opening.last_control = now;
                let sequence = self.connection.snd_una();
                Some(Transmit {
                    alone: None,
                    kind: TransmitKind::Fin,
                    segment: self.connection.segment(now, ttl, sequence, flags::FIN),
                })
            }
            Close::NotYet | Close::FinSent | Close::Done => None,
        }
    }

    pub(super) fn close_is_due(&self) -> bool {
        matches!(
            self.cold.close,
            Close::RstDue(_) | Close::RstTwice(_) | Close::FinDue
        )
    }

    /// When the FIN is given up.
    pub(super) fn fin_deadline(&self) -> Option<Instant> {
        match self.cold.close {
            Close::FinSent => Some(self.cold.opening.last_control + FIN_WAIT),
            _ => None,
        }
    }

    /// After the verdict only the answer to our FIN is of interest: an ACK is
    /// followed by the RST that ends it, a RST has ended it.
    pub(super) fn segment_while_closing(&mut self, segment: &Segment) {
        if self.cold.close != Close::FinSent {
            return;
        }
        let after = self.connection.snd_una().wrapping_add(1);
        if segment.flags & flags::RST != 0 {
            if segment.sequence == self.connection.rcv_nxt {
                self.cold.close = Close::Done;
            }
        } else if segment.flags & flags::ACK != 0 && segment.acknowledgment == after {
            self.cold.close = Close::RstDue(after);
        }
    }

    /// The peer did not answer our FIN in time.
    pub(super) fn fin_unanswered(&mut self) {
        self.cold.close = Close::RstTwice(self.connection.snd_una());
    }

    /// Whether everything is known that can be: then the verdict.
    pub(super) fn settle(&mut self, options: &SessionOptions, now: Instant) {
        let probing = matches!(
            self.connection.phase,
            Phase::Open | Phase::HalfClosed | Phase::Gone
        );
        if self.has(Flag::Ended) || !probing {
            return;
        }
        if self.measures_mtu() {
            return self.settle_mtu(options, now);
        }
        if self.has(Flag::Left) && self.reopened_instead(options, now) {
            return;
        }
        if self.awaits_answer() {
            return;
        }
        self.ask_more(options);
        if self.has_more_to_ask(options) {
            // There is more to ask, but nobody left to ask.
            if let Some(verdict) = self.cold.left {
                self.conclude(options, now, verdict, None);
            }
            return;
        }
        let judged = self.judge(options);
        if let Some((verdict, detail)) = self.before_verdict(options, now, judged) {
            self.finish(now, verdict, detail, options.close);
        }
    }

    /// Whether a probe in flight is of interest. Behind the destination there is
    /// nothing to be learnt; behind a router that declares it unreachable it may
    /// answer yet.
    fn awaits_answer(&self) -> bool {
        match self.schedule.destination() {
            None => self.probes.in_flight() > 0,
            Some(last) => {
                let unread = self.learn().is_some_and(Learn::quotes_are_open);
                let mut flying = self.probes.flying();
                flying.any(|(_, slot)| unread || slot.ttl() <= last)
            }
        }
    }

    /// Whether there is something left to ask, as far as is known now.
    fn has_more_to_ask(&self, options: &SessionOptions) -> bool {
        let window = self.connection.snd_wnd;
        !self.has(Flag::Begun)
            || self.schedule.rewinds()
            || !self.schedule.is_exhausted(options, &self.probes, window)
    }

    /// Everything of interest is answered or lost. Goes back to what is to be
    /// asked again: where an answer was ambiguous, could not be read, or may have
    /// been hidden behind others.
    fn ask_more(&mut self, options: &SessionOptions) {
        let destination = self.schedule.destination();
        let unread = self.learn().is_some_and(Learn::quotes_are_open);
        let window = self.connection.snd_wnd;
        if self.probes.in_flight() == 0 {
            let exhausted = self.schedule.is_exhausted(options, &self.probes, window);
            if exhausted && destination.is_none() {
                self.doubt_bare_ack();
            }
            self.schedule.quiet();
            let exhausted = self.schedule.is_exhausted(options, &self.probes, window);
            let again = match destination {
                None if unread || self.learn().is_some_and(Learn::sack_is_open) => {
                    Some(self.schedule.farthest().saturating_add(1))
                }
                Some(_) if unread => self.probes.nearest_lost(),
                _ => None,
            };
            if let Some(ttl) = again.filter(|_| exhausted) {
                self.learn_mut().asked();
                self.schedule.ask_again(ttl);
            }
        }
        if !self.has(Flag::Left)
            && let Some(begun) = self.probes.begun_behind(options.first_ttl.max(1))
            && destination.is_some_and(|last| last <= begun)
            && self.schedule.is_exhausted(options, &self.probes, window)
        {
            self.schedule.go_back(options, begun);
            return;
        }
        if !self.has(Flag::Left)
            && self.schedule.is_exhausted(options, &self.probes, window)
            && let Some(ttl) = destination.and_then(|last| self.schedule.doubtful(options, last))
            && !self.probes.is_answered(ttl)
        {
            self.schedule.doubt(ttl);
        }
    }

    /// After a FIN or RST in mid-trace: opens once more, if there is something
    /// left to ask and it is allowed.
    fn reopened_instead(&mut self, options: &SessionOptions, now: Instant) -> bool {
        let allowed = options.reopen
            && !self.has(Flag::Reopened)
            && !self.is_sidecar()
            && session_makes_handshake(options);
        if !self.has(Flag::Left)
            || self.schedule.destination().is_some()
            || !allowed
            || !self.has_more_to_ask(options)
        {
            return false;
        }
        self.flags.set(Flag::Reopened);
        self.flags.clear(Flag::Left);
        self.cold.reopened = self.cold.left.take();
        let old = self.connection.snd_una();
        let half_closed = self.connection.phase == Phase::HalfClosed;
        self.connection.reopen();
        self.cold.opening.reopen(now);
        if half_closed {
            self.owe_rst(old);
        }
        true
    }

    /// The peer has gone before everything was asked. If it has answered, the
    /// path is known all the same.
    pub(super) fn conclude(
        &mut self,
        options: &SessionOptions,
        now: Instant,
        verdict: Verdict,
        detail: Option<String>,
    ) {
        if self.schedule.destination().is_none() {
            self.finish(now, verdict, detail, options.close);
            return;
        }
        let how = left_by(verdict);
        let detail = match verdict {
            Verdict::Interrupted => {
                "a program of this host ended the connection before every probe was sent".into()
            }
            _ => format!("the peer {how} the session before every probe was sent"),
        };
        self.finish(now, Verdict::Complete, Some(detail), options.close);
    }

    fn judge(&self, options: &SessionOptions) -> (Verdict, Option<String>) {
        let window = self.connection.snd_wnd;
        let curbed = || {
            let curbed = self.schedule.is_curbed(options, &self.probes, window);
            let window = self.cold.first_window;
            curbed.then(|| match self.stretch() {
                Some(octets) => {
                    format!("the {octets} acknowledged octets hold no more probes")
                }
                None => {
                    format!("the peer's receive window of {window} bytes holds no more probes")
                }
            })
        };
        let unread = || {
            let place = match (self.edges().is_unread(), self.quotes().is_unread()) {
                (true, _) => "SACK blocks",
                (_, true) => "quoted segments",
                _ => return None,
            };
            Some(format!(
                "{place} hold sequence numbers that were never sent: a middlebox rewrites them"
            ))
        };
        if self.schedule.destination().is_some() {
            return (Verdict::Complete, curbed().or_else(unread));
        }
        if let Some((code, from)) = self.rare().and_then(|rare| rare.unreachable_by) {
            return (Verdict::Unreachable, Some(unreachable(code, from)));
        }
        if let Some(detail) = unread() {
            return (Verdict::SeqRewritten, Some(detail));
        }
        if self.schedule.silent_run() >= options.gap_limit {
            return (Verdict::GapLimit, curbed());
        }
        (Verdict::MaxTtl, curbed())
    }
}

/// What the peer did to the session that ended with this verdict.
pub(super) fn left_by(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reset => "reset",
        _ => "closed",
    }
}
