//! How a session ends: the verdict, and the segments that close the connection.

use alloc::format;
use alloc::string::String;

use super::connection::Phase;
use super::icmp::unreachable;
use super::{CloseMode, Event, Session, SessionOptions, Transmit, TransmitKind};
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
            Close::RstDue(sequence) => {
                self.close = Close::Done;
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
        matches!(self.close, Close::RstDue(_) | Close::FinDue)
    }

    /// When the FIN is given up.
    pub(super) fn fin_deadline(&self) -> Option<Instant> {
        match self.close {
            Close::FinSent(at) => Some(at + FIN_WAIT),
            _ => None,
        }
    }

    /// The peer answered our FIN, or did not in time: the RST that ends it.
    pub(super) fn fin_answered(&mut self, acknowledgment: Option<u32>) {
        let fin = self.connection.snd_una();
        match (self.close, acknowledgment) {
            (Close::FinSent(_), None) => self.close = Close::RstDue(fin),
            (Close::FinSent(_), Some(number)) if number == fin.wrapping_add(1) => {
                self.close = Close::RstDue(number);
            }
            _ => {}
        }
    }

    /// Whether everything is known that can be: then the verdict.
    pub(super) fn settle(&mut self, options: &SessionOptions, now: Instant) {
        let probing = matches!(
            self.connection.phase,
            Phase::Open | Phase::HalfClosed | Phase::Gone
        );
        if self.outcome.is_some() || !self.begun || !probing {
            return;
        }
        let limit = self.schedule.limit(options);
        let final_limit =
            self.schedule.destination.is_some() || self.schedule.unreachable.is_some();
        let awaited = self
            .probes
            .flying()
            .any(|(_, slot)| !final_limit || slot.ttl <= limit);
        if awaited {
            return;
        }
        if self.probes.flying().next().is_none() {
            self.schedule.quiet();
        }
        let more = self.schedule.rewind.is_some()
            || !self
                .schedule
                .is_exhausted(options, &self.probes, self.connection.snd_wnd);
        if more {
            // There is more to ask, but nobody left to ask.
            if let Some(verdict) = self.left {
                self.finish(now, verdict, None, options.close);
            }
            return;
        }
        let (verdict, detail) = self.judge(options);
        self.finish(now, verdict, detail, options.close);
    }

    fn judge(&self, options: &SessionOptions) -> (Verdict, Option<String>) {
        let window = self.connection.snd_wnd;
        let curbed = || {
            (self.schedule.is_curbed(options) || !self.probes.fits(window)).then(|| {
                format!("the peer's receive window of {window} bytes holds no more probes")
            })
        };
        if self.schedule.destination.is_some() {
            return (Verdict::Complete, curbed());
        }
        if let Some((code, from)) = self.unreachable_by {
            return (Verdict::Unreachable, Some(unreachable(code, from)));
        }
        if self.learn.sack.is_unread() || self.learn.quotes.is_unread() {
            let where_seen = match self.learn.sack.is_unread() {
                true => "SACK blocks",
                false => "quoted segments",
            };
            let detail = format!(
                "{where_seen} hold sequence numbers that were never sent: a middlebox rewrites them"
            );
            return (Verdict::SeqRewritten, Some(detail));
        }
        if self.schedule.silent_run() >= options.gap_limit {
            return (Verdict::GapLimit, curbed());
        }
        (Verdict::MaxTtl, curbed())
    }
}
