//! Whether the answers of a TTL thin out because too much is asked, and how far to
//! go back then: by half, and on again by small steps (AIMD, as TCP does).
//!
//! What is held against each other are probes of one stretch of time and their own
//! answers, never answers of now and losses of two seconds ago. The yardstick is the
//! TTL's own past: a line that loses a third of all loses a third at any rate, and
//! is no reason to slow down. (So a limit below an eighth of the rate, where every TTL
//! begins, is not told from a loss.) Where going back thrice has helped nothing, it was not
//! the rate either: what is now is what was to be expected.

use crate::time::{Duration, Instant};

/// Probes are counted by when they were sent, in stretches of this length.
const EPOCH: u64 = 250_000_000;
/// Stretches that are kept.
const EPOCHS: usize = 8;
/// What is not answered so long after a stretch is taken for unanswered.
const RIPE: u64 = 1_000_000_000;
const _: () = assert!(EPOCHS as u64 * EPOCH > RIPE + 2 * EPOCH);

/// Probes that a judgement is made of, at least; at the beginning.
const ENOUGH: u32 = 100;
const FEW: u32 = 32;
/// Thin: less than this part of what is usual, and by so many standard errors. A
/// steady loss comes to that once in a million times.
const THIN: f64 = 0.7;
const ERRORS: f64 = 5.0;
/// Parts of the full rate: where it begins (and doubles from), the step back up, and
/// the slowest. It begins no slower than at so many probes a second.
const BEGIN: f64 = 1.0 / 8.0;
const BEGIN_LEAST: f64 = 10.0;
const STEP: f64 = 1.0 / 16.0;
const LEAST: f64 = 1.0 / 64.0;
/// Steps back that change nothing, after which it was not the rate.
const VAIN: u32 = 3;

/// Probes, and how many of them were answered.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: u32,
    answered: u32,
}

/// The state of one TTL.
#[derive(Clone, Debug)]
pub(super) struct Thinning {
    epochs: [(u64, Count); EPOCHS],
    /// The first stretch that is not judged yet.
    next: u64,
    /// Of the stretches to be judged together, and how many those are.
    window: (Count, u64),
    /// The part of the full rate that is gone at.
    part: f64,
    /// It has never been too much yet.
    begins: bool,
    /// The answered part that is usual, and how many judgements it is of.
    usual: (f64, f64),
    /// Steps back in a row, and the answered part at the first.
    back: (u32, f64),
}

/// A step back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slower {
    /// The part of the probes that was answered, and the usual one.
    pub(super) answered: f64,
    pub(super) usual: f64,
    /// Parts of the full rate, before and from now on.
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Thinning {
    /// Of a TTL whose full rate is `full` probes a second.
    pub(super) fn new(full: f64) -> Self {
        Thinning {
            epochs: [(u64::MAX, Count::default()); EPOCHS],
            next: 0,
            window: (Count::default(), 0),
            part: (BEGIN_LEAST / full).clamp(BEGIN, 1.0),
            begins: true,
            usual: (0.0, 0.0),
            back: (0, 0.0),
        }
    }

    /// The part of the full rate that is gone at.
    pub(super) fn part(&self) -> f64 {
        self.part
    }

    /// A probe leaves.
    pub(super) fn sent(&mut self, now: Instant) {
        let epoch = now.as_nanos() / EPOCH;
        let (known, count) = &mut self.epochs[epoch as usize % EPOCHS];
        if *known != epoch {
            (*known, *count) = (epoch, Count::default());
        }
        count.sent += 1;
    }

    /// One that left then was answered.
    pub(super) fn answered(&mut self, sent: Instant) {
        let epoch = sent.as_nanos() / EPOCH;
        let (known, count) = &mut self.epochs[epoch as usize % EPOCHS];
        if *known == epoch && count.answered < count.sent {
            count.answered += 1;
        }
    }

    /// Judges what is ripe; `full` is the full rate, probes a second.
    pub(super) fn look(&mut self, now: Instant, full: f64) -> Option<Slower> {
        let ripe = now.as_nanos().checked_sub(RIPE + EPOCH)? / EPOCH;
        self.next = self.next.max((ripe + 1).saturating_sub(EPOCHS as u64));
        while self.next <= ripe {
            let (known, count) = self.epochs[self.next as usize % EPOCHS];
            let (window, stretches) = &mut self.window;
            if known == self.next {
                window.sent += count.sent;
                window.answered += count.answered;
            }
            // A pause says nothing.
            *stretches += u64::from(window.sent > 0);
            self.next += 1;
            let (window, stretches) = self.window;
            if window.sent >= if self.begins { FEW } else { ENOUGH } {
                self.window = Default::default();
                let seconds = Duration::from_nanos(stretches * EPOCH).as_secs_f64();
                let gone = f64::from(window.sent) / seconds / full.max(f64::MIN_POSITIVE);
                return self.judge(now, window, gone);
            }
        }
        None
    }

    fn judge(&mut self, now: Instant, window: Count, gone: f64) -> Option<Slower> {
        let (sent, answered) = (f64::from(window.sent), f64::from(window.answered));
        let part = answered / sent;
        let (usual, judged) = match self.usual {
            (_, 0.0) => (part, 0.0),
            known => known,
        };
        let error = (usual * (1.0 - usual) * sent).max(1.0).sqrt();
        if part < THIN * usual && usual * sent - answered > ERRORS * error {
            self.begins = false;
            let (steps, first) = self.back;
            let first = if steps == 0 { part } else { first };
            if steps >= VAIN && part < first * 1.25 {
                self.usual = (part, 1.0);
                self.back = (0, 0.0);
                return None;
            }
            self.back = (steps + 1, first);
            let before = self.part;
            self.part = (before.min(gone) / 2.0).max(LEAST);
            self.forget(now);
            return (self.part < before).then_some(Slower {
                answered: part,
                usual,
                before,
                after: self.part,
            });
        }
        self.back = (0, 0.0);
        // Much better is believed soon, a little only by and by.
        let better = answered - usual * sent > ERRORS * error;
        let weight = if better {
            0.5
        } else {
            f64::max(LEAST, 1.0 / (judged + 1.0))
        };
        self.usual = (usual + (part - usual) * weight, judged + 1.0);
        if self.part < 1.0 {
            let more = if self.begins { self.part } else { STEP };
            self.part = (self.part + more).min(1.0);
            self.forget(now);
        }
        None
    }

    /// What was sent before was sent at another rate.
    fn forget(&mut self, now: Instant) {
        self.next = now.as_nanos() / EPOCH + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: f64 = 400.0;

    /// Goes for so many seconds at the part of the full rate that it says, a probe
    /// answered where `answers` says so at its moment; every step back, and the part
    /// gone at by the second.
    fn play(
        thinning: &mut Thinning,
        from: u64,
        seconds: u64,
        mut answers: impl FnMut(Instant) -> bool,
    ) -> (Vec<Slower>, Vec<f64>) {
        let (mut steps, mut parts) = (Vec::new(), Vec::new());
        let (mut now, end) = (from * 1_000_000_000, (from + seconds) * 1_000_000_000);
        while now < end {
            let at = Instant::from_nanos(now);
            thinning.sent(at);
            if answers(at) {
                thinning.answered(at);
            }
            steps.extend(thinning.look(at, FULL));
            if parts.len() as u64 <= now / 1_000_000_000 - from {
                parts.push(thinning.part());
            }
            now += (1e9 / (FULL * thinning.part())) as u64;
        }
        (steps, parts)
    }

    /// Pseudo-random, that often.
    fn chance(part: f64) -> impl FnMut(Instant) -> bool {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 <= part
        }
    }

    /// A router's ICMP limit: a token bucket.
    fn limit(rate: f64, burst: f64) -> impl FnMut(Instant) -> bool {
        let (mut tokens, mut last) = (burst, None);
        move |now: Instant| {
            let since = last.map_or(0.0, |last| now.since(last).as_secs_f64());
            last = Some(now);
            tokens = f64::min(burst, tokens + since * rate);
            let takes = tokens >= 1.0;
            tokens -= f64::from(u8::from(takes));
            takes
        }
    }

    #[test]
    fn a_steady_loss_is_no_reason_to_slow_down() {
        for part in [1.0, 0.9, 0.6, 0.3, 0.1, 0.0] {
            let (steps, parts) = play(&mut Thinning::new(FULL), 1, 300, chance(part));
            assert_eq!(steps, [], "{part}");
            assert_eq!(parts[10..], [1.0; 290]);
        }
    }

    #[test]
    fn a_limit_is_found_and_kept_to() {
        for (rate, burst) in [(100.0, 50.0), (150.0, 6.0), (70.0, 1.0), (40.0, 10.0)] {
            let mut thinning = Thinning::new(FULL);
            let (steps, parts) = play(&mut thinning, 1, 120, limit(rate, burst));
            assert!(!steps.is_empty(), "{rate}");
            for step in &steps {
                assert!(step.answered < THIN * step.usual && step.after <= step.before / 2.0);
            }
            let late = &parts[40..];
            let mean = late.iter().sum::<f64>() / late.len() as f64 * FULL;
            assert!(
                (0.5 * rate..1.7 * rate + 20.0).contains(&mean),
                "{rate}: {mean}"
            );
        }
    }

    #[test]
    fn a_limit_above_the_rate_is_never_met() {
        let (steps, parts) = play(&mut Thinning::new(FULL), 1, 60, limit(500.0, 10.0));
        assert_eq!(steps, []);
        assert_eq!(parts[10..], [1.0; 50]);
    }

    #[test]
    fn what_going_back_does_not_help_is_taken_as_it_is() {
        let mut thinning = Thinning::new(FULL);
        play(&mut thinning, 1, 20, chance(0.95));
        // The way has changed to one that loses half.
        let (steps, parts) = play(&mut thinning, 21, 120, chance(0.45));
        assert_eq!(steps.len(), VAIN as usize, "{steps:?}");
        assert_eq!(parts.last(), Some(&1.0));
    }
}
