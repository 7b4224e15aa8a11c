//! The path MTU along the way (RFC 1191, RFC 8201; where routers say nothing as in
//! RFC 4821 and RFC 8899): what an open session goes on with when the trace has
//! everything. [`Search`] says what is asked; here are the segments that ask, and which
//! answers are theirs.
//!
//! A long probe is data of zeros, as long as makes the packet that long. Its sequence
//! number lies above all that were sent before, with one octet before it that never is,
//! so that a SACK block names it: left edge and length. What was sent is sent again when
//! the same is asked again, and the sequence numbers are nobody else's, wherever it
//! vanished: an answer that comes late is to the same question, or to none. One is in
//! flight at a time, so that a duplicate ACK of a peer without SACK can be credited.

mod search;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::close::left_by;
use super::connection::{Phase, later, nanos};
use super::state::Flag;
use super::{IcmpError, IcmpKind, Session, SessionOptions, Timer, Transmit, TransmitKind};
use crate::time::Instant;
use crate::trace::{MtuLimit, PathMtu, ReplyKind, Verdict};
use crate::wire::tcp::{self, SackBlock, flags};
use crate::wire::template::Varying;
use search::{Answer, Question, Search};

/// Long probes of a session, at most. A black hole takes a dozen questions or two, half
/// of them asked as often as a hop has probes.
const MOST: u16 = 250;

/// No shorter packet tells more than a probe does: what every network carries (RFC 791).
const SHORTEST: u16 = 68;

/// A question is asked again when nothing was heard, however few probes a hop has: one
/// packet is lost easily.
const TRIES: u8 = 2;

/// What a session is to measure, and what came of it.
#[derive(Debug)]
pub(super) struct Mtu {
    /// The MTU of the interface, octets.
    link: u32,
    /// The longest packet that the link can write, octets.
    longest: u16,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The trace comes first.
    Waits,
    Begun(Begun),
    Done(Box<PathMtu>),
}

#[derive(Debug)]
struct Begun {
    search: Search,
    /// What the trace came to.
    verdict: (Verdict, Option<String>),
    largest: u16,
    limit: Option<MtuLimit>,
    to_ttl: u8,
    /// Octets of a packet before its data.
    headers: u16,
    /// The sequence number of the first long probe, and of the next one.
    first: u32,
    next: u32,
    sent: u16,
    now: Now,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
enum Now {
    Ask(Question),
    /// The same once more.
    Again(Flying),
    Wait(Flying),
    Nothing,
}

/// The long probe in flight.
#[derive(Clone, Copy, Debug)]
struct Flying {
    question: Question,
    sequence: u32,
    /// Octets of data.
    length: u16,
    sent: Instant,
}

impl Begun {
    /// What became of the one in flight; what is asked next.
    fn answer(&mut self, answer: Answer) {
        let before = self.flying();
        self.search.answer(answer);
        self.now = match (self.search.question(), before) {
            (None, _) => Now::Nothing,
            // What was answered is done with.
            (Some(next), Some(flying)) if next == flying.question && answer != Answer::Passed => {
                Now::Again(flying)
            }
            (Some(next), _) => Now::Ask(next),
        };
    }

    fn flying(&self) -> Option<Flying> {
        match self.now {
            Now::Wait(flying) => Some(flying),
            Now::Ask(_) | Now::Again(_) | Now::Nothing => None,
        }
    }

    /// Whether this sequence number is of a long probe that was sent.
    fn owns(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first) < self.next.wrapping_sub(self.first)
    }

    /// What is to be sent, and whether it is for the first time.
    fn due(&self) -> Option<(Flying, bool)> {
        match self.now {
            Now::Ask(question) => {
                let flying = Flying {
                    question,
                    sequence: self.next,
                    length: question.size.saturating_sub(self.headers),
                    sent: Instant::ZERO,
                };
                Some((flying, true))
            }
            Now::Again(flying) => Some((flying, false)),
            Now::Wait(_) | Now::Nothing => None,
        }
    }

    /// Why it cannot be sent, with sequence numbers from `base` on and this receive
    /// window.
    fn refused(&self, due: &Flying, base: u32, window: u32) -> Option<String> {
        if self.sent >= MOST {
            return Some(format!("it takes more than {MOST} packets"));
        }
        let begin = due.sequence.wrapping_sub(base);
        let end = begin.saturating_add(due.length.into());
        (end > window).then(|| held_no_more(window))
    }

    fn report(self, link: u32, why: Option<String>) -> PathMtu {
        let found = self.search.found();
        PathMtu {
            link,
            largest: (self.sent > 0).then_some(self.largest),
            limit: self.limit,
            to_ttl: Some(self.to_ttl),
            path: found.path,
            steps: found.steps,
            detail: why.or(found.detail),
        }
    }
}

impl Mtu {
    /// What was measured.
    pub(super) fn into_report(self) -> PathMtu {
        let why = || String::from("the session ended before");
        match self.state {
            State::Waits => nothing(self.link, why()),
            State::Begun(begun) => begun.report(self.link, Some(why())),
            State::Done(found) => *found,
        }
    }
}

/// Nothing was measured.
fn nothing(link: u32, why: String) -> PathMtu {
    PathMtu {
        link,
        largest: None,
        limit: None,
        to_ttl: None,
        path: None,
        steps: Vec::new(),
        detail: Some(why),
    }
}

fn held_no_more(window: u32) -> String {
    format!("the peer's receive window of {window} bytes holds no more")
}

impl Session {
    /// When the trace has everything, how large a packet gets how far is measured.
    /// `link` is the interface's MTU, `longest` the longest packet that its link can
    /// write, octets. To be called before anything else.
    pub fn measure_mtu(&mut self, link: u32, longest: u16) {
        self.rare_mut().mtu = Some(Box::new(Mtu {
            link,
            longest,
            state: State::Waits,
        }));
    }

    #[inline]
    fn begun(&self) -> Option<&Begun> {
        match self.has(Flag::Extra) {
            true => self.begun_extra(),
            false => None,
        }
    }

    #[cold]
    fn begun_extra(&self) -> Option<&Begun> {
        match self.rare()?.mtu.as_deref()?.state {
            State::Begun(ref begun) => Some(begun),
            State::Waits | State::Done(_) => None,
        }
    }

    fn begun_mut(&mut self) -> Option<&mut Begun> {
        if !self.has(Flag::Extra) {
            return None;
        }
        match self.cold.rare.as_mut()?.mtu.as_deref_mut()?.state {
            State::Begun(ref mut begun) => Some(begun),
            State::Waits | State::Done(_) => None,
        }
    }

    /// Whether it is being measured.
    #[inline]
    pub(super) fn measures_mtu(&self) -> bool {
        self.begun().is_some()
    }

    /// The trace has everything and comes to this verdict, which is given back unless
    /// there is something to be measured first.
    pub(super) fn before_verdict(
        &mut self,
        options: &SessionOptions,
        now: Instant,
        verdict: (Verdict, Option<String>),
    ) -> Option<(Verdict, Option<String>)> {
        let Some(mtu) = self.rare().and_then(|rare| rare.mtu.as_deref()) else {
            return Some(verdict);
        };
        let link = mtu.link;
        let (state, refused) = match self.plan(mtu, options) {
            Ok(plan) => {
                let begun = Begun { verdict, ..plan };
                (State::Begun(begun), None)
            }
            Err(why) => (State::Done(Box::new(nothing(link, why))), Some(verdict)),
        };
        if let Some(mtu) = self.cold.rare.as_mut().and_then(|rare| rare.mtu.as_mut()) {
            mtu.state = state;
        }
        if refused.is_none() {
            self.flags.set(Flag::Extra);
            self.schedule.linger();
            self.settle_mtu(options, now);
        }
        refused
    }

    /// What is asked first, and from which sequence number on; or why nothing is.
    fn plan(&self, mtu: &Mtu, options: &SessionOptions) -> Result<Begun, String> {
        let destination = self.schedule.destination();
        if self.connection.phase != Phase::Open {
            let how = self.cold.left.map_or("left", left_by);
            return Err(format!("the peer {how} the session before"));
        }
        let answers = self.probes.answers();
        let hops: Vec<_> = answers
            .filter(|(_, kind, ..)| *kind == ReplyKind::TimeExceeded)
            .map(|(ttl, _, from, _)| (ttl, from))
            .collect();
        let farthest = hops.iter().map(|(ttl, _)| *ttl).max();
        let to_ttl = destination
            .or(farthest)
            .ok_or_else(|| String::from("no hop answered"))?;
        let v6 = self.target().is_ipv6();
        let fixed = if v6 { 40 } else { 20 } + tcp::HEADER_LEN as u16;
        let stamps = if self.connection.has_timestamps() {
            12
        } else {
            0
        };
        let headers = fixed + stamps;
        let first = self.probes.next_sequence();
        let window = self.connection.snd_wnd;
        let left = window.saturating_sub(first.wrapping_sub(self.connection.snd_una()));
        let mss = self.handshake().map_or(0, |handshake| handshake.mss);
        let narrow = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        let (mut largest, mut limit) = (narrow(mtu.link), None);
        for (most, of) in [
            (mtu.longest, MtuLimit::Frame),
            (mss.saturating_add(fixed), MtuLimit::Mss),
            (
                narrow(left.saturating_add(headers.into())),
                MtuLimit::Window,
            ),
        ] {
            if most < largest {
                (largest, limit) = (most, Some(of));
            }
        }
        if largest < SHORTEST.max(headers + 1) {
            return Err(match limit {
                Some(MtuLimit::Window) => held_no_more(window),
                _ => format!("no packet may be longer than {largest} octets"),
            });
        }
        let search = Search::new(v6, largest, to_ttl, hops, options.probes.max(TRIES));
        let now = search.question().map_or(Now::Nothing, Now::Ask);
        Ok(Begun {
            search,
            // The caller's.
            verdict: (Verdict::Complete, None),
            largest,
            limit,
            to_ttl,
            headers,
            first,
            next: first,
            sent: 0,
            now,
        })
    }

    /// Comes to the verdict where everything is measured, or nothing more can be.
    pub(super) fn settle_mtu(&mut self, options: &SessionOptions, now: Instant) {
        let Some(begun) = self.begun() else {
            return;
        };
        let why = if self.connection.phase == Phase::Open {
            let (base, window) = (self.connection.snd_una(), self.connection.snd_wnd);
            match (begun.due(), begun.flying()) {
                (None, None) => None,
                (None, Some(_)) => return,
                (Some((due, _)), _) => match begun.refused(&due, base, window) {
                    None => return,
                    why => why,
                },
            }
        } else {
            let how = self.cold.left.map_or("left", left_by);
            Some(format!("the peer {how} the session before"))
        };
        let Some(mtu) = self.cold.rare.as_mut().and_then(|rare| rare.mtu.as_mut()) else {
            return;
        };
        let link = mtu.link;
        if let State::Begun(begun) = core::mem::replace(&mut mtu.state, State::Waits) {
            let mut begun = begun;
            let (verdict, detail) = core::mem::replace(&mut begun.verdict, (Verdict::Error, None));
            mtu.state = State::Done(Box::new(begun.report(link, why)));
            self.finish(now, verdict, detail, options.close);
        }
    }

    /// Whether a long probe is to be sent.
    pub(super) fn wants_long(&self) -> bool {
        self.begun().is_some_and(|begun| begun.due().is_some())
    }

    /// The long probe that is to be sent.
    pub(super) fn poll_long(&mut self, now: Instant) -> Option<Transmit> {
        let begun = self.begun_mut()?;
        let (due, first) = begun.due()?;
        let (sequence, length) = (due.sequence, due.length);
        if first {
            begun.next = sequence.wrapping_add(u32::from(length) + 1);
        }
        begun.sent += 1;
        begun.now = Now::Wait(Flying { sent: now, ..due });
        let ttl = due.question.ttl;
        let segment = self.connection.segment(now, ttl, sequence, flags::PSH);
        Some(Transmit {
            alone: None,
            kind: TransmitKind::Long,
            segment: Varying {
                payload_len: length,
                ..segment
            },
        })
    }

    /// It left at this moment.
    pub(super) fn long_sent(&mut self, at: Instant) {
        if let Some(begun) = self.begun_mut()
            && let Now::Wait(flying) = &mut begun.now
        {
            flying.sent = at;
        }
    }

    /// Until when it is waited for.
    pub(super) fn long_timeout(&self, options: &SessionOptions) -> Option<(Instant, Timer)> {
        let flying = self.begun()?.flying()?;
        let at = later(flying.sent, nanos(options.probe_timeout));
        Some((at, Timer::ProbeTimeout))
    }

    /// It may have been waited for long enough.
    pub(super) fn long_overdue(&mut self, options: &SessionOptions, now: Instant) {
        let due = self.long_timeout(options).is_some_and(|(at, _)| at <= now);
        if let Some(begun) = self.begun_mut().filter(|_| due) {
            begun.answer(Answer::Silent);
        }
    }

    /// Whether the sequence number is of a long probe.
    pub(super) fn owns_long(&self, sequence: u32) -> bool {
        self.begun().is_some_and(|begun| begun.owns(sequence))
    }

    /// Whether a SACK block names a long probe, edges being off by `offset`. If it is
    /// the one in flight, that got there.
    pub(super) fn sacked_long(&mut self, block: &SackBlock, offset: u32) -> bool {
        let left = block.left.wrapping_sub(offset);
        if !self.owns_long(left) {
            return false;
        }
        let length = block.right.wrapping_sub(block.left);
        if let Some(begun) = self.begun_mut()
            && let Some(flying) = begun.flying()
            && flying.sequence == left
            && u32::from(flying.length) == length
        {
            begun.answer(Answer::Passed);
        }
        true
    }

    /// Whether a duplicate ACK that names nothing can only be about long probes. Then
    /// it is about the one in flight, if the peer has no other way to answer, and that
    /// can have got there.
    pub(super) fn bare_ack_of_long(&mut self) -> bool {
        if !self.measures_mtu() || self.probes.flying_here().next().is_some() {
            return false;
        }
        let bare = self.schedule.is_unnamed() || !self.has(Flag::Sacked);
        let nearest = self.schedule.destination().unwrap_or(u8::MAX);
        if let Some(begun) = self.begun_mut()
            && let Some(flying) = begun.flying()
            && bare
            && flying.question.ttl >= nearest
        {
            begun.answer(Answer::Passed);
        }
        true
    }

    /// Whether an error quotes a long probe. If it is the one in flight, that is what
    /// became of it.
    pub(super) fn icmp_to_long(&mut self, error: &IcmpError) -> bool {
        let quoted = error.quote.sequence;
        let undone = self.quotes().undo(quoted);
        let mut ours = [Some(quoted), undone].into_iter().flatten();
        let Some(sequence) = ours.find(|sequence| self.owns_long(*sequence)) else {
            return false;
        };
        // An answer as short ones get it says as much as theirs.
        let usual = self.schedule.unreachable().is_some();
        let answer = match error.kind {
            IcmpKind::TimeExceeded => Answer::Passed,
            IcmpKind::Unreachable if usual => Answer::Passed,
            IcmpKind::Unreachable => Answer::Silent,
            IcmpKind::PacketTooBig { mtu } => Answer::TooBig {
                mtu,
                from: error.from,
            },
        };
        if let Some(begun) = self.begun_mut()
            && begun.flying().is_some_and(|it| it.sequence == sequence)
        {
            begun.answer(answer);
        }
        true
    }
}
