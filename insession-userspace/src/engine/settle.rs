//! What follows from what happened to a session: the drain rule of
//! [`crate::session`], after every `handle_*`.

use insession_common::flow::SessionId;

use super::Output;
use super::ready::Ready;
use super::slab;
use super::wheel::Wheel;
use super::worker::Worker;
use crate::session::{Event, Session, SessionOptions, Timer};
use crate::time::{Duration, Instant};

/// Timers that fire before replies are looked at again.
const TIMER_BUDGET: usize = 1024;

/// What is left to do for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Tell(Event),
    Finish,
}

impl Worker<'_> {
    /// Fires what is due; whether anything was.
    pub(super) fn timers(&mut self, now: Instant) -> bool {
        for fired in 0..TIMER_BUDGET {
            let Some(slot) = self.wheel.expire(now) else {
                return fired > 0;
            };
            if let Some((id, session, _)) = self.open.at_mut(slot) {
                session.handle_timeout(&self.options, now);
                self.settle(id, now);
            }
        }
        true
    }

    /// The drain rule.
    #[inline(never)]
    pub(super) fn settle(&mut self, id: SessionId, now: Instant) {
        self.settle_at(id, false, now);
    }

    /// The same; who `goes_on` keeps its turn.
    fn settle_at(&mut self, id: SessionId, goes_on: bool, now: Instant) {
        while let Some(session) = self.open.get_mut(id) {
            let (ready, wheel) = (&mut self.ready, &mut self.wheel);
            let options = &self.options;
            let (slot, watched) = (slab::index(id), self.watched);
            match settle(
                session,
                options,
                watched,
                ready,
                wheel,
                (slot, goes_on),
                now,
            ) {
                Rest::Nothing => return,
                Rest::Tell(event) => self.tell(id, event),
                Rest::Finish => return self.finish(id, now),
            }
        }
    }

    /// The same for the session that has this slot.
    #[inline(never)]
    pub(super) fn settle_slot(&mut self, slot: u32, goes_on: bool, now: Instant) {
        if let Some(id) = self.open.id_at(slot) {
            self.settle_at(id, goes_on, now);
        }
    }

    /// Tells an event of a session, and those behind it.
    fn tell(&mut self, id: SessionId, first: Event) {
        let Some((session, open)) = self.open.both_mut(id) else {
            return;
        };
        let index = open.index;
        let live = self.shared.options.live;
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Established if !open.is_established() => {
                    open.establish();
                    self.tally.established += 1;
                    if live {
                        let handshake = session.handshake();
                        self.outbox.push(Output::Established { index, handshake });
                    }
                }
                Event::Answered(probe) | Event::Lost(probe) => {
                    if live && let Some(answer) = open.answer(session, probe) {
                        self.outbox.push(answer);
                    }
                    if let Some(courtesy) = &mut self.courtesy
                        && let Some(outcome) = session.outcome(probe)
                    {
                        courtesy.note(&outcome);
                    }
                }
                Event::Destination(ttl) if live => {
                    self.outbox.push(Output::Destination { index, ttl });
                }
                _ => {}
            }
            next = session.poll_event();
        }
    }
}

/// The drain rule where nothing is to be drained and no timer to be set, which is
/// nearly always: whether it is so. Then it was followed. Who `goes_on` keeps its turn.
#[inline(always)]
pub(super) fn is_settled(
    session: &Session,
    options: &SessionOptions,
    ready: &mut Ready,
    wheel: &Wheel,
    slot: u32,
    goes_on: bool,
    now: impl Fn() -> Instant,
) -> bool {
    // A timer that is set was set for an older probe: it comes no later than it
    // has to, and what is due is looked at then.
    if session.is_swift() {
        debug_assert!({
            let now = now();
            let next = session.after(options, now);
            next.wants_transmit && next.timeout.is_some_and(fires_by(wheel, slot, now))
        });
        match goes_on {
            true => ready.push_front(slot),
            false => ready.push(slot),
        }
        return true;
    }
    let held = session.is_held();
    debug_assert!(
        !held || {
            let now = now();
            let next = session.after(options, now);
            match next.wants_transmit {
                // The timer has not been looked at yet.
                true => wheel.fires_by(slot, now),
                false => next.timeout.is_some_and(fires_by(wheel, slot, now)),
            }
        }
    );
    held
}

/// Whether the timer is set for this moment, or an earlier one.
fn fires_by(wheel: &Wheel, slot: u32, now: Instant) -> impl FnOnce((Instant, Timer)) -> bool {
    move |(at, _)| wheel.fires_by(slot, at.max(now + Duration::from_nanos(1)))
}

/// The drain rule, as far as it touches nothing but the session, the queue of
/// those that want to send, and the timers.
fn settle(
    session: &mut Session,
    options: &SessionOptions,
    watched: bool,
    ready: &mut Ready,
    wheel: &mut Wheel,
    (slot, goes_on): (u32, bool),
    now: Instant,
) -> Rest {
    while let Some(event) = session.poll_event() {
        if watched || event == Event::Established {
            return Rest::Tell(event);
        }
    }
    if session.is_finished() {
        return Rest::Finish;
    }
    let next = session.after(options, now);
    if next.wants_transmit {
        match goes_on {
            true => ready.push_front(slot),
            false => ready.push(slot),
        }
    }
    match next.timeout {
        // Not again at this very moment: time has to go on in between.
        Some((at, _)) => wheel.arm_by(slot, at.max(now + Duration::from_nanos(1))),
        None => wheel.cancel(slot),
    }
    session.settled(options, &next);
    Rest::Nothing
}
