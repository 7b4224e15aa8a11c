//! The courtesy owed to any one router (`--router-rate`): how many probes a second
//! it is to answer at most. Who answers a probe is known only behind it, so probes
//! are paced by TTL, from what earlier ones of that TTL showed.
//!
//! **What is guaranteed.** Probes of a TTL go out evenly, by a token bucket of a
//! millisecond ([`Pacer`]), at `router_rate / s`. `s` is the part of them that the
//! TTL's most frequent router answers ([`summary`]), or the sum of these parts over
//! all TTLs where it is the most frequent one; 1 before there is evidence, and
//! unanswered probes are counted as its. So a router that all traces cross is asked
//! for no more than `router_rate` answers in any second, and the burst of a
//! millisecond; a router among several of its TTL no more on average, as flows
//! happen to fall. Several workers share the rate evenly, as they share `--rate`.
//! Where answers thin out, the TTL is gone at more slowly ([`thinning`]), which is
//! told ([`super::Output::Slowed`]).
//!
//! A session whose next probe is not owed yet waits in its TTL's ring and blocks
//! nobody. New sessions begin as evenly as the first TTL lets them go on, so that
//! connections do not stand open for the sake of waiting.

mod rings;
mod summary;
mod thinning;

use std::net::IpAddr;

use self::rings::Rings;
use self::summary::Summary;
use self::thinning::Thinning;
use super::Output;
use super::pacer::Pacer;
use super::ready::Ready;
use crate::session::{Outcome, SessionOptions};
use crate::time::{Duration, Instant};
use crate::trace::ReplyKind;

/// How often rates are worked out anew.
const LOOK: Duration = Duration::from_millis(25);
/// Sessions begin as long as no ring holds more than it lets go in this time.
const BACKLOG: f64 = 0.5;
/// Of the sessions that begin at most one in so many is taken to come to probing.
const LEAST_SUCCESS: f64 = 1.0 / 32.0;
/// A little more begin than should do: what is too much waits in the first ring, and
/// holds up those behind it.
const MORE: f64 = 1.25;
/// The weight of the latest session in that.
const WEIGHT: f64 = 1.0 / 32.0;

/// What is known of a TTL, and its pace.
#[derive(Debug)]
struct Hop {
    pacer: Pacer,
    summary: Summary,
    thinning: Thinning,
    /// The router that answers most, and its part ([`Summary::top`]).
    top: (Option<IpAddr>, f64),
    /// The full rate, probes a second of this worker.
    full: f64,
}

/// The courtesy of one worker.
#[derive(Debug)]
pub(super) struct Courtesy {
    rate: f64,
    workers: usize,
    /// By TTL; made with the first probe of it.
    hops: Vec<Option<Box<Hop>>>,
    rings: Rings,
    /// By slot: the TTL of the probe that it was let go with, and has not sent.
    granted: Vec<u8>,
    /// Paces new sessions; how many probes each of them sends to the first TTL.
    beginning: Pacer,
    first_ttl: u8,
    last_begun: u8,
    probes: f64,
    /// The part of the sessions that comes to probing.
    success: f64,
    next_look: Instant,
    /// Sessions that had to wait for their turn, since it was last asked.
    held: u64,
}

impl Courtesy {
    /// At most `rate` probes a second for any router.
    pub(super) fn new(rate: f64, options: &SessionOptions) -> Self {
        Courtesy {
            rate,
            workers: 1,
            hops: (0..=u8::MAX).map(|_| None).collect(),
            rings: Rings::default(),
            granted: Vec::new(),
            beginning: Pacer::new(Some(rate / f64::from(options.probes.max(1)))),
            first_ttl: options.first_ttl.max(1),
            last_begun: options.first_ttl.max(1),
            probes: f64::from(options.probes.max(1)),
            success: 1.0,
            next_look: Instant::ZERO,
            held: 0,
        }
    }

    /// Makes room for the slots below `slots`.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.rings.reserve(slots);
        if slots > self.granted.len() {
            self.granted.resize(slots.next_power_of_two(), 0);
        }
    }

    /// From now on the rate is shared by this many workers.
    pub(super) fn share(&mut self, workers: usize) {
        if workers.max(1) != self.workers {
            self.workers = workers.max(1);
            self.next_look = Instant::ZERO;
        }
    }

    /// Whether the session in `slot` may send now what it wants to: the probe with
    /// this TTL, or no probe at all. If not, it waits in the TTL's ring.
    pub(super) fn lets_by(&mut self, slot: u32, ttl: Option<u8>, now: Instant) -> bool {
        let Some(ttl) = ttl.filter(|ttl| *ttl > 0) else {
            return true;
        };
        if let Some(granted) = self.granted.get_mut(slot as usize)
            && core::mem::take(granted) == ttl
        {
            return true;
        }
        match self.rings.of(slot) {
            Some(other) if other == ttl => return false,
            Some(_) => self.rings.remove(slot),
            None => {}
        }
        let waits = self.rings.len(ttl) > 0;
        let hop = self.hop(ttl);
        if !waits && hop.pacer.allowance(now) > 0 {
            hop.pacer.spend(now, 1);
            return true;
        }
        self.rings.push(slot, ttl);
        self.held += 1;
        false
    }

    /// The session in `slot` is over.
    pub(super) fn leave(&mut self, slot: u32, established: bool) {
        self.rings.remove(slot);
        if let Some(granted) = self.granted.get_mut(slot as usize) {
            *granted = 0;
        }
        let came = f64::from(u8::from(established));
        self.success += (came - self.success) * WEIGHT;
    }

    /// Lets those go whose turn has come.
    pub(super) fn release(&mut self, ready: &mut Ready, now: Instant) {
        for ttl in self.rings.used() {
            let most = self.hop(ttl).pacer.allowance(now);
            let mut gone = 0;
            while gone < most
                && let Some(slot) = self.rings.pop(ttl)
            {
                gone += 1;
                if let Some(granted) = self.granted.get_mut(slot as usize) {
                    *granted = ttl;
                }
                ready.push(slot);
            }
            self.hop(ttl).pacer.spend(now, gone);
        }
    }

    /// When somebody's turn comes.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let hop = |ttl: u8| self.hops.get(usize::from(ttl))?.as_deref();
        let waiting = self.rings.used().filter_map(hop);
        waiting.map(|hop| hop.pacer.next(now)).min()
    }

    /// Whether a new session may begin; if not, when to ask again.
    ///
    /// # Errors
    /// The moment.
    pub(super) fn may_begin(&self, now: Instant) -> Result<(), Instant> {
        let clogged = self.rings.used().any(|ttl| {
            let rate = self.hops.get(usize::from(ttl)).and_then(Option::as_ref);
            let rate = rate.map_or(0.0, |hop| hop.full * hop.thinning.part());
            self.rings.len(ttl) as f64 > (rate * BACKLOG / self.probes).max(2.0)
        });
        if clogged {
            return Err(now + LOOK);
        }
        match self.beginning.allowance(now) {
            0 => Err(self.beginning.next(now)),
            _ => Ok(()),
        }
    }

    /// One has begun whose first probe will have this TTL; so most likely will the
    /// next one's.
    pub(super) fn begun(&mut self, ttl: u8, now: Instant) {
        self.beginning.spend(now, 1);
        // A single one begins elsewhere now and then.
        if self.last_begun == ttl.max(1) {
            self.first_ttl = ttl.max(1);
        }
        self.last_begun = ttl.max(1);
    }

    /// A probe with this TTL leaves.
    pub(super) fn sent(&mut self, ttl: u8, now: Instant) {
        self.hop(ttl).thinning.sent(now);
    }

    /// It is known what became of a probe.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        let hop = self.hop(outcome.ttl);
        let Some((kind, from)) = outcome.answer else {
            hop.summary.lost();
            return;
        };
        hop.thinning.answered(outcome.sent);
        match kind {
            ReplyKind::TimeExceeded | ReplyKind::Unreachable | ReplyKind::PacketTooBig => {
                hop.summary.answered(from);
            }
            _ => hop.summary.reached(),
        }
    }

    /// Sessions that had to wait, since last time.
    pub(super) fn take_held(&mut self) -> u64 {
        core::mem::take(&mut self.held)
    }

    /// Works the rates out anew, now and then; tells where it slows down.
    pub(super) fn look(&mut self, now: Instant, tell: &mut dyn FnMut(Output)) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let rate = self.rate / self.workers as f64;
        for hop in self.hops.iter_mut().flatten() {
            hop.top = hop.summary.top();
        }
        for nth in 0..self.hops.len() {
            let Some(hop) = self.hops.get(nth).and_then(Option::as_ref) else {
                continue;
            };
            // A router that stands at several TTLs is asked at all of them.
            let same = |other: &&Hop| other.top.0.is_some() && other.top.0 == hop.top.0;
            let parts = self.hops.iter().flatten().map(Box::as_ref).filter(same);
            let parts: f64 = parts.map(|other| other.top.1).sum();
            let full = rate / parts.max(hop.top.1);
            let Some(hop) = self.hops.get_mut(nth).and_then(Option::as_mut) else {
                continue;
            };
            hop.full = full;
            if let Some(slower) = hop.thinning.look(now, full) {
                tell(Output::Slowed {
                    ttl: u8::try_from(nth).unwrap_or(u8::MAX),
                    router: hop.top.0,
                    answered: slower.answered,
                    usual: slower.usual,
                    before: slower.before * full * self.workers as f64,
                    after: slower.after * full * self.workers as f64,
                });
            }
            hop.pacer.set_rate(full * hop.thinning.part());
        }
        let first = self.hop(self.first_ttl);
        let sessions = first.full * first.thinning.part() / self.probes * MORE;
        self.beginning
            .set_rate(sessions / self.success.max(LEAST_SUCCESS));
    }

    fn hop(&mut self, ttl: u8) -> &mut Hop {
        let rate = self.rate / self.workers as f64;
        // There is a place for each.
        self.hops[usize::from(ttl)].get_or_insert_with(|| {
            let thinning = Thinning::new(rate);
            Box::new(Hop {
                pacer: Pacer::new(Some(rate * thinning.part())),
                summary: Summary::default(),
                thinning,
                top: (None, 1.0),
                full: rate,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight sessions that always want to send to TTL 1, one second long; how many
    /// probes leave. `router` says who answers which.
    fn second(courtesy: &mut Courtesy, second: u64, router: fn(usize) -> u8) -> usize {
        let (mut ready, mut left) = (Ready::default(), 0);
        ready.reserve(8);
        for step in 0..10_000 {
            let now = Instant::from_nanos(second * 1_000_000_000 + step * 100_000);
            courtesy.look(now, &mut |output| panic!("{output:?}"));
            courtesy.release(&mut ready, now);
            while ready.pop().is_some() {}
            for slot in 0..8 {
                if courtesy.lets_by(slot, Some(1), now) {
                    left += 1;
                    courtesy.sent(1, now);
                    let from = IpAddr::from([10, 0, 0, router(left)]);
                    courtesy.note(&Outcome {
                        ttl: 1,
                        sent: now,
                        answer: Some((ReplyKind::TimeExceeded, from)),
                    });
                }
            }
        }
        left
    }

    #[test]
    fn a_ttl_has_what_its_busiest_router_leaves_it_and_a_worker_its_part() {
        let mut courtesy = Courtesy::new(400.0, &SessionOptions::default());
        courtesy.reserve(8);
        for nth in 1..10 {
            // Slowly first.
            let left = second(&mut courtesy, nth, |_| 1);
            assert!(left <= 401 && (nth > 1 || left < 100), "{nth}: {left}");
        }
        let left = second(&mut courtesy, 10, |_| 1);
        assert!((396..=401).contains(&left), "{left}");
        courtesy.share(2);
        let left = second(&mut courtesy, 11, |_| 1);
        assert!((198..=202).contains(&left), "{left}");
        courtesy.share(1);
        // Two routers take turns: 400 for each of them.
        for nth in 12..40 {
            second(&mut courtesy, nth, |left| (left % 2) as u8);
        }
        let left = second(&mut courtesy, 40, |left| (left % 2) as u8);
        assert!((740..=801).contains(&left), "{left}");
        assert!(courtesy.take_held() > 0);
    }

    #[test]
    fn a_session_that_is_over_is_let_go_no_more() {
        let mut courtesy = Courtesy::new(100.0, &SessionOptions::default());
        courtesy.reserve(8);
        let now = Instant::from_nanos(1_000_000_000);
        let by: Vec<bool> = (0..4)
            .map(|slot| courtesy.lets_by(slot, Some(3), now))
            .collect();
        assert_eq!(by, [true, false, false, false]);
        // What is no probe does not wait.
        assert!(courtesy.lets_by(1, None, now));
        courtesy.leave(1, true);
        let mut ready = Ready::default();
        ready.reserve(8);
        let mut gone = Vec::new();
        for millis in 0..500 {
            courtesy.release(&mut ready, now + Duration::from_millis(millis));
            gone.extend(ready.pop());
        }
        assert_eq!(gone, [2, 3]);
        assert_eq!(courtesy.next(now), None);
    }
}
