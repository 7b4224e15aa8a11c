//! How fast packets go out: a token bucket in its "virtual scheduling" form
//! (ITU-T I.371's GCRA): one number, the moment the next packet is due.
//!
//! The rate of a run is divided evenly among the workers that have something to
//! do ([`Pacer::share`]), each pacing its part by its own clock: nothing is
//! shared but a count. What a worker does not use of its part the others do not
//! get, until it falls idle.

use crate::time::{Duration, Instant};

/// How far a worker may fall behind and make it up in one burst. Shorter, and a
/// thread that is woken late cannot hold its rate; longer, and what was held
/// back goes out in a lump that a router's ICMP limit cuts off.
const TOLERANCE: Duration = Duration::from_millis(1);

/// Sleeps for the pacer are no shorter than this, so that packets at high rates
/// share a kick (a kick a packet doubles the cost of a packet).
const QUANTUM: Duration = Duration::from_micros(50);

/// A worker that is behind sends so much at a time, and looks at replies in between:
/// what arrives during a lump waits until it is out.
const LUMP: Duration = Duration::from_micros(100);

/// But no less than this many packets: fewer are hardly worth a kick.
const LEAST_LUMP: usize = 16;

/// Fractions of a nanosecond: fixed point with 32 bits, so that no rate drifts.
const FRACTION: u32 = 32;

/// The pacer of one worker.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Packets a second of the whole run; `None`: no limit.
    rate: Option<f64>,
    workers: usize,
    /// At least this fast, whatever the share.
    floor: f64,
    /// Between two packets, fixed point.
    interval: u128,
    /// When the next packet is due, fixed point.
    next: u128,
    /// Packets that may go out at once.
    lump: usize,
}

impl Pacer {
    /// A pacer of a run that sends `rate` packets a second; without one it lets
    /// everything pass, and the link's room is the only limit.
    #[must_use]
    pub fn new(rate: Option<f64>) -> Self {
        let mut pacer = Pacer {
            rate,
            workers: 1,
            floor: 0.0,
            interval: 0,
            next: 0,
            lump: usize::MAX,
        };
        pacer.set_interval();
        pacer
    }

    /// From now on the rate is shared by this many workers.
    pub fn share(&mut self, workers: usize) {
        let workers = workers.max(1);
        if self.rate.is_some() && workers != self.workers {
            self.workers = workers;
            self.set_interval();
        }
    }

    /// From now on packets are due at this rate; what is due already stays so.
    pub fn set_rate(&mut self, rate: f64) {
        if self.rate != Some(rate) {
            self.rate = Some(rate);
            self.set_interval();
        }
    }

    /// Goes at least at `rate` from `now` on, whatever the share is; the packet
    /// that was due at the old rate is due at once.
    pub fn hasten(&mut self, now: Instant, rate: f64) {
        self.floor = rate;
        self.set_interval();
        self.next = self.next.min(fixed(now));
    }

    /// How many packets may go out at `now`; what is left of a longer delay, later.
    #[must_use]
    pub fn allowance(&self, now: Instant) -> usize {
        if self.rate.is_none() {
            return usize::MAX;
        }
        match fixed(now).checked_sub(self.base(now)) {
            Some(behind) => usize::try_from(behind / self.interval)
                .unwrap_or(usize::MAX)
                .saturating_add(1)
                .min(self.lump),
            None => 0,
        }
    }

    /// That many went out at `now`. More than the allowance is a debt.
    pub fn spend(&mut self, now: Instant, packets: usize) {
        if self.rate.is_some() {
            self.next = self.base(now) + self.interval * packets as u128;
        }
    }

    /// When to ask again, if the allowance at `now` was used up.
    #[must_use]
    pub fn next(&self, now: Instant) -> Instant {
        if self.rate.is_none() {
            return now;
        }
        let due = self.next >> FRACTION;
        let partial = u128::from(self.next & ((1 << FRACTION) - 1) != 0);
        let due = u64::try_from(due + partial).unwrap_or(u64::MAX);
        Instant::from_nanos(due).max(now + QUANTUM)
    }

    /// The moment the next packet is due, no longer ago than the tolerance.
    fn base(&self, now: Instant) -> u128 {
        let oldest = fixed(now).saturating_sub(TOLERANCE.as_nanos() << FRACTION);
        self.next.max(oldest)
    }

    fn set_interval(&mut self) {
        if let Some(rate) = self.rate {
            // NaN, zero and less make it the slowest there is, not the fastest.
            let rate = (rate / self.workers as f64)
                .max(self.floor)
                .clamp(1e-3, 1e9);
            self.interval = (1e9 / rate * (1u64 << FRACTION) as f64) as u128;
            self.lump = ((rate * LUMP.as_secs_f64()) as usize).max(LEAST_LUMP);
        }
    }
}

fn fixed(at: Instant) -> u128 {
    u128::from(at.as_nanos()) << FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends all that is let through, lump by lump, at the moments that the pacer names.
    fn moments(pacer: &mut Pacer, from: u64, until: u64, late: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut sent = Vec::new();
        let mut now = from;
        while now < until {
            let at = Instant::from_nanos(now);
            loop {
                let allowance = pacer.allowance(at);
                if allowance == 0 {
                    break;
                }
                let most = (1e9 / (pacer.interval >> FRACTION) as f64 / 1e4) as usize;
                assert!(allowance <= most.max(LEAST_LUMP) + 1);
                pacer.spend(at, allowance);
                sent.extend(std::iter::repeat_n(now, allowance));
            }
            let next = pacer.next(at).as_nanos();
            assert!(next > now);
            now = next + late(next);
        }
        sent
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut pacer = Pacer::new(None);
        pacer.share(3);
        pacer.spend(Instant::ZERO, 1_000_000);
        assert_eq!(pacer.allowance(Instant::ZERO), usize::MAX);
        assert_eq!(pacer.next(Instant::ZERO), Instant::ZERO);
    }

    #[test]
    fn a_rate_that_is_no_rate_is_the_slowest() {
        for rate in [f64::NAN, 0.0, -5.0] {
            let mut pacer = Pacer::new(Some(rate));
            let now = Instant::from_nanos(1 << 50);
            pacer.spend(now, 1);
            assert_eq!(pacer.allowance(now + Duration::from_secs(999)), 0);
        }
    }

    #[test]
    fn the_parts_of_two_workers_make_the_rate() {
        let second = 1_000_000_000;
        let mut sum = 0;
        for _ in 0..2 {
            let mut pacer = Pacer::new(Some(10_000.0));
            pacer.share(2);
            sum += moments(&mut pacer, 0, second, |_| 0).len();
        }
        assert!((9_990..=10_020).contains(&sum), "{sum}");
    }

    #[test]
    fn hastens_above_the_rate() {
        let mut pacer = Pacer::new(Some(10.0));
        pacer.share(2);
        pacer.hasten(Instant::ZERO, 1_000.0);
        let sent = moments(&mut pacer, 0, 1_000_000_000, |_| 0).len();
        assert!((990..=1_010).contains(&sent), "{sent}");
    }

    proptest! {
        /// In no window is there more than the rate and the burst allow, and a
        /// worker that is woken late by less than the tolerance holds its rate.
        #[test]
        fn holds_its_rate_and_bounds_its_bursts(
            rate in 10.0f64..2_000_000.0,
            start in 0u64..1 << 60,
            lateness in 0u64..900_000,
        ) {
            let span = (2_000.0 / rate * 1e9) as u64 + 20_000_000;
            let mut pacer = Pacer::new(Some(rate));
            let sent = moments(&mut pacer, start, start + span, |n| n.wrapping_mul(0x9e37_79b9) % (lateness + 1));
            let due = rate * span as f64 / 1e9;
            let burst = rate * TOLERANCE.as_secs_f64() + 1.0;
            prop_assert!(sent.len() as f64 <= due + burst + 1.0);
            // Two quanta and the last lateness may be missing at the end.
            prop_assert!(sent.len() as f64 >= due - rate * (lateness as f64 + 100_000.0) / 1e9 - 2.0,
                "{} of {due}", sent.len());
            for (n, first) in sent.iter().enumerate().step_by(97) {
                for window in [1, 7, 100, 1_000] {
                    if let Some(last) = sent.get(n + window) {
                        let allowed = (last - first) as f64 * rate / 1e9 + burst + 1.0;
                        prop_assert!(window as f64 <= allowed);
                    }
                }
            }
        }
    }
}
