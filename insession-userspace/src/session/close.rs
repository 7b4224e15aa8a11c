//! How a session ends: the verdict, and the segments that close the connection.

use alloc::format;
use alloc::string::String;

use super::connection::Phase;
use super::icmp::unreachable;
use super::{CloseMode, Event, Segment, Session, SessionOptions, Transmit, TransmitKind};
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
    /// It was, and is not acknowledged yet.
    FinSent(Instant),
    /// Nothing more is sent.
    Done,
}

/// How the trace ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) detail: Option<String>,
    pub(super) ended: Instant,
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
        if self.outcome.is_some() {
            return;
        }
        self.outcome = Some(Outcome {
            verdict,
            detail,
            ended: now,
        });
        self.push(Event::Verdict(verdict));
        let next = self.connection.snd_una();
        self.close = match self.connection.phase {
            _ if self.kernel_owns => Close::Done,
            // RFC 5961 §3.2: exactly what the peer expects next: the gap byte.
            Phase::WindowWait | Phase::Open => match mode {
                CloseMode::Rst => Close::RstDue(next),
                CloseMode::Fin => Close::FinDue,
            },
            Phase::HalfClosed => Close::RstDue(next),
            // Our SYN may have arrived and its answer been lost: the half-open
            // connection goes with the RST. Not where the SYN never got there.
            Phase::Opening if self.connection.syn_was_sent() && verdict != Verdict::Unreachable => {
                Close::RstDue(next)
            }
            Phase::Opening | Phase::Gone => Close::Done,
        };
        self.connection.ack_due = false;
    }

    /// The closing segment that is due.
    pub(super) fn closing(&mut self, options: &SessionOptions, now: Instant) -> Option<Transmit> {
        let ttl = options.control_ttl;
        match self.close {
            Close::RstDue(sequence) | Close::RstTwice(sequence) => {
                self.close = match self.close {
                    Close::RstTwice(_) => Close::RstDue(sequence.wrapping_add(1)),
                    _ => Close::Done,
                };
                let segment = match self.connection.phase {
                    Phase::Opening => self.connection.bare_rst(ttl, sequence),
                    _ => self.connection.segment(now, ttl, sequence, flags::RST),
                };
                Some(Transmit {
                    kind: TransmitKind::Rst,
                    segment,
                })
            }
            Close::FinDue => {
                self.close = Close::FinSent(now);
                let sequence = self.connection.snd_una();
                Some(Transmit {
                    kind: TransmitKind::Fin,
                    segment: self.connection.segment(now, ttl, sequence, flags::FIN),
                })
            }
            Close::NotYet | Close::FinSent(_) | Close::Done => None,
        }
    }

    pub(super) fn close_is_due(&self) -> bool {
        matches!(
            self.close,
            Close::RstDue(_) | Close::RstTwice(_) | Close::FinDue
        )
    }

    /// When the FIN is given up.
    pub(super) fn fin_deadline(&self) -> Option<Instant> {
        match self.close {
            Close::FinSent(at) => Some(at + FIN_WAIT),
            _ => None,
        }
    }

    /// After the verdict only the answer to our FIN is of interest: an ACK is
    /// followed by the RST that ends it, a RST has ended it.
    pub(super) fn segment_while_closing(&mut self, segment: &Segment) {
        if !matches!(self.close, Close::FinSent(_)) {
            return;
        }
        let after = self.connection.snd_una().wrapping_add(1);
        if segment.flags & flags::RST != 0 {
            if segment.sequence == self.connection.rcv_nxt {
                self.close = Close::Done;
            }
        } else if segment.flags & flags::ACK != 0 && segment.acknowledgment == after {
            self.close = Close::RstDue(after);
        }
    }

    /// The peer did not answer our FIN in time.
    pub(super) fn fin_unanswered(&mut self) {
        self.close = Close::RstTwice(self.connection.snd_una());
    }

    /// Whether everything is known that can be: then the verdict.
    pub(super) fn settle(&mut self, options: &SessionOptions, now: Instant) {
        let probing = matches!(
            self.connection.phase,
            Phase::Open | Phase::HalfClosed | Phase::Gone
        );
        if self.outcome.is_some() || !probing || self.reopened_instead(options, now) {
            return;
        }
        // Behind the destination there is nothing to be learnt; behind a router
        // that declares it unreachable it may answer yet.
        let destination = self.schedule.destination;
        let unread = self.learn.quotes_are_open();
        let awaited = self
            .probes
            .flying()
            .any(|(_, slot)| unread || destination.is_none_or(|last| slot.ttl <= last));
        if awaited {
            return;
        }
        self.ask_more(options);
        if self.has_more_to_ask(options) {
            // There is more to ask, but nobody left to ask.
            if let Some(verdict) = self.left {
                self.conclude(options, now, verdict, None);
            }
            return;
        }
        let (verdict, detail) = self.judge(options);
        self.finish(now, verdict, detail, options.close);
    }

    /// Whether there is something left to ask, as far as is known now.
    fn has_more_to_ask(&self, options: &SessionOptions) -> bool {
        let window = self.connection.snd_wnd;
        !self.begun
            || self.schedule.rewind.is_some()
            || !self.schedule.is_exhausted(options, &self.probes, window)
    }

    /// Everything of interest is answered or lost. Goes back to what is to be
    /// asked again: where an answer was ambiguous, could not be read, or may have
    /// been hidden behind others.
    fn ask_more(&mut self, options: &SessionOptions) {
        let destination = self.schedule.destination;
        let unread = self.learn.quotes_are_open();
        let window = self.connection.snd_wnd;
        if self.probes.flying().next().is_none() {
            let exhausted = self.schedule.is_exhausted(options, &self.probes, window);
            if exhausted && destination.is_none() {
                self.doubt_bare_ack();
            }
            self.schedule.quiet();
            let exhausted = self.schedule.is_exhausted(options, &self.probes, window);
            let again = match destination {
                None if unread || self.learn.sack_is_open() => {
                    Some(self.schedule.farthest().saturating_add(1))
                }
                Some(_) if unread => self.probes.nearest_lost(),
                _ => None,
            };
            if let Some(ttl) = again.filter(|_| exhausted) {
                self.learn.asked();
                self.schedule.ask_again(ttl);
            }
        }
        if self.left.is_none()
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
        let allowed =
            options.reopen && self.reopened.is_none() && self.session_makes_handshake(options);
        if self.left.is_none()
            || self.schedule.destination.is_some()
            || !allowed
            || !self.has_more_to_ask(options)
        {
            return false;
        }
        self.reopened = self.left.take();
        let old = self.connection.snd_una();
        let half_closed = self.connection.phase == Phase::HalfClosed;
        self.connection.reopen(now);
        if half_closed {
            self.connection.stray_rst = Some(old);
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
        if self.schedule.destination.is_none() {
            self.finish(now, verdict, detail, options.close);
            return;
        }
        let how = left_by(verdict);
        let detail = format!("the peer {how} the session before every probe was sent");
        self.finish(now, Verdict::Complete, Some(detail), options.close);
    }

    fn judge(&self, options: &SessionOptions) -> (Verdict, Option<String>) {
        let window = self.connection.snd_wnd;
        let curbed = || {
            let curbed = self.schedule.is_curbed(options, &self.probes, window);
            let window = self.first_window;
            curbed.then(|| {
                format!("the peer's receive window of {window} bytes holds no more probes")
            })
        };
        let unread = || {
            let place = match (self.learn.sack.is_unread(), self.learn.quotes.is_unread()) {
                (true, _) => "SACK blocks",
                (_, true) => "quoted segments",
                _ => return None,
            };
            Some(format!(
                "{place} hold sequence numbers that were never sent: a middlebox rewrites them"
            ))
        };
        if self.schedule.destination.is_some() {
            return (Verdict::Complete, curbed().or_else(unread));
        }
        if let Some((code, from)) = self.unreachable_by {
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
