//! What is done most of the time, in few steps: the next probe of a session on its
//! way, and a router's answer to an earlier one. Whoever drives the session lets it
//! say at a glance that it goes on as it did; whatever else happens ends that, and
//! everything is looked at again.

use super::cells::Head;
use super::connection::later;
use super::probes::id;
use super::state::Flag;
use super::{Next, ProbeId, Session, SessionOptions, Timer};
use crate::time::Instant;
use crate::trace::{ReplyKind, RttBound};
use crate::wire::template::Probe;
use crate::wire::usual::Exceeded;

impl Session {
    /// The drain rule was followed to its end: `next` is what [`Session::after`]
    /// said, and the one timer is set for its moment, or for an earlier one, and is
    /// not put off until this is called again. From here on [`Session::is_swift`] and
    /// [`Session::is_held`] may say that nothing of this has changed.
    #[inline]
    pub fn settled(&mut self, options: &SessionOptions, next: &Next) {
        let Some((at, timer)) = next.timeout else {
            self.flags.clear(Flag::Held);
            self.schedule.linger();
            return;
        };
        let plain = self.waiting == 0 && !self.has(Flag::Overflow) && self.is_as_usual();
        let others = self.has(Flag::Stray) || self.measures_mtu();
        if !plain || self.connection.ack_due || others {
            self.schedule.linger();
            return;
        }
        self.schedule.hurry(&self.probes, self.connection.snd_wnd);
        // It is the oldest that is waited for: all in flight count.
        let delay = self.schedule.release_delay(options);
        let oldest = self.probes.oldest().map(|sent| later(sent, delay));
        if timer == Timer::Release && oldest == Some(at) {
            self.flags.set(Flag::Held);
        }
    }

    /// Whether it wants to send its next probe, has told no event, and waits for
    /// nothing but the time-outs of those before, for which the timer is set: what
    /// [`Session::after`] says of most sessions most of the time, to be told without
    /// looking at anything else.
    #[must_use]
    #[inline]
    pub fn is_swift(&self) -> bool {
        self.probes.in_flight() < usize::from(self.schedule.swift())
    }

    /// The same, but for that the next hop waits for a farther one to answer; or that
    /// as many are in flight as may be, or more, and the timer is set for when the
    /// oldest no longer counts, or before.
    #[must_use]
    #[inline]
    pub fn is_held(&self) -> bool {
        self.schedule.waits() || self.has(Flag::Held) && self.schedule.swift() != 0
    }

    /// What [`Session::poll_transmit`] gives, where [`Session::is_swift`] and
    /// [`Session::has_short_probes`], at a moment that [`super::moment`] made of `now`. It is
    /// given out by [`Session::take_swift`].
    #[must_use]
    #[inline(always)]
    pub fn peek_swift(&self, moment: u32) -> Probe {
        debug_assert!(self.is_swift() && self.has_short_probes());
        let (destination, ports) = self.ends.raw();
        let (acknowledgment, window, [tsval, tsecr]) = self.connection.numbers(moment);
        Probe {
            destination: *destination,
            ports: *ports,
            ttl: self.schedule.ttl(),
            sequence: self.probes.next_sequence(),
            acknowledgment,
            window,
            tsval,
            tsecr,
        }
    }

    /// What [`Session::peek_swift`] showed goes out. Only
    /// [`Session::handle_transmitted`] says when: it is to be called before anything
    /// else.
    #[inline(always)]
    pub fn take_swift(&mut self, options: &SessionOptions) -> ProbeId {
        let id = self.probes.push_untimed(self.schedule.ttl());
        self.count(options);
        id
    }

    /// Whether its probes are such as [`Probe`] describes.
    #[must_use]
    #[inline]
    pub fn has_short_probes(&self) -> bool {
        self.connection.has_timestamps() && !self.flags.has_either(Flag::WideFlow, Flag::Extra)
    }

    /// [`Session::handle_usual`] of what nearly every packet is, as
    /// [`Exceeded::of_probe`] reads it, while [`Session::poll_transmit`] gives probes
    /// or waits for answers to them: of a probe before the hint. Nothing is done where
    /// it is anything else, or anything is to be thought of.
    ///
    /// It takes all registers that there are: it is a function of its own.
    #[must_use]
    #[inline(never)]
    pub fn handle_swift(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        error: Exceeded<'_>,
    ) -> Option<ProbeId> {
        let quoted_ttl = error.quoted_ttl();
        let same = error.traffic_class() == options.dscp << 2 && quoted_ttl <= 1;
        let from = error.from();
        if !same || !self.has_ends(&error.ends()) || self.is_target(from) {
            return None;
        }
        // It is not the last in flight: some answer is awaited yet.
        let swift = self.schedule.swift() != 0 || self.schedule.waits();
        if !swift || self.probes.in_flight() < 2 {
            return None;
        }
        let (kind, bound) = (ReplyKind::TimeExceeded, RttBound::Exact);
        let ttls = (error.ttl(), Some(quoted_ttl));
        let head = Head::short(from, kind, bound, 0, ttls, 0);
        let reach = self.schedule.reach();
        let answer = self
            .probes
            .answer_swift(error.sequence(), at, head, reach)?;
        if answer.ttl > self.discarded_to {
            self.discarded_to = answer.ttl;
        }
        self.schedule.saw_rtt(answer.rtt);
        if answer.ttl > reach.farthest {
            self.schedule.reached(options, answer.ttl);
        }
        Some(id(answer.index))
    }

    /// A probe goes out.
    #[inline(always)]
    pub(super) fn count(&mut self, options: &SessionOptions) {
        if self.schedule.sent(options) {
            self.schedule
                .hurry_on(&self.probes, self.connection.snd_wnd);
        }
    }
}
