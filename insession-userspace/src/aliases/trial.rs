//! Two addresses on trial: whether one counter numbers the packets of both.
//!
//! Rounds of alternating probes (Ally's, under [`super::bounds`]), one in flight, and
//! between them pushes: as many probes more, to one of the two, as was drawn at random.
//! One counter is pushed for both addresses; of two, only one is, and by an amount that
//! neither the routers nor their other traffic know.
//!
//! So the chance that two counters pass is bounded whatever they do otherwise. Where a
//! round leaves room for `slack` offsets, two counters fit
//!
//! * the first with the chance `slack / range`, since they stand apart by any amount;
//! * each later one with at most `slack / span`, the push before it having been any of
//!   `span` sizes: it moved the one against the other by that much, and of these offsets
//!   no more than `slack` fit. Only pushes all of whose probes were answered count.
//!
//! Their product is [`Outcome::chance`]. It holds even for counters of equal speed, which
//! stay where they are to each other however long they are watched.

use super::bounds::{Bounds, merged};
use super::series::{Counter, Sample, Width};
use super::{Draw, Kind};

/// Probes a round, alternating.
const ROUND: u32 = 8;
/// Rounds at most.
const ROUNDS: u32 = 10;
/// Sizes of a push, at least and at most.
const SPANS: (u64, u64) = (16, 256);
/// Sizes of a push by datagrams, whose errors routers limit to a few a second.
const SLOW_SPAN: u64 = 16;
/// Probes of a trial that may go unanswered before it is given up.
const LOSSES: u32 = 6;

/// What a trial says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One counter fits all of it.
    Fits,
    /// None does.
    Apart,
    /// Too little was answered.
    Unclear,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What it says.
    pub verdict: Verdict,
    /// The chance that two counters pass as this pair did.
    pub chance: f64,
    /// Rounds that were passed.
    pub rounds: u32,
    /// Answers in all.
    pub samples: u32,
    /// Offsets that fitted the tightest round.
    pub slack: u64,
}

/// What is being done.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Round { asked: u32 },
    Push { left: u64 },
}

/// The trial.
#[derive(Debug)]
pub struct Trial {
    kind: Kind,
    width: Width,
    swapped: bool,
    velocity: f64,
    /// It ends when the chance is no more.
    goal: f64,
    draw: Draw,
    all: [Vec<Sample>; 2],
    round: [Vec<Sample>; 2],
    stage: Stage,
    /// Whose turn it is.
    turn: usize,
    /// Sizes that the last push might have had, if it was answered as a whole.
    span: Option<u64>,
    rounds: u32,
    lost: u32,
    chance: f64,
    slack: u64,
    /// That of the loosest round.
    loosest: u64,
}

impl Trial {
    /// One of two counters as they were measured. It ends when the chance of two that
    /// are not one is no more than `goal`.
    #[must_use]
    pub fn new(kind: Kind, width: Width, counters: [Counter; 2], goal: f64, seed: u64) -> Self {
        let [one, other] = counters;
        Trial {
            kind,
            width,
            swapped: one.swapped,
            velocity: one.velocity.max(other.velocity),
            goal,
            draw: Draw::new(seed),
            all: [const { Vec::new() }; 2],
            round: [const { Vec::new() }; 2],
            stage: Stage::Round { asked: 0 },
            turn: 0,
            span: None,
            rounds: 0,
            lost: 0,
            // Either byte order may have made a counter of it.
            chance: if one.swapped { 2.0 } else { 1.0 },
            slack: u64::MAX,
            loosest: 1,
        }
    }

    /// Which of the two is asked next. Only one probe is in flight.
    #[must_use]
    pub const fn turn(&self) -> usize {
        self.turn
    }

    /// The probe was answered.
    pub fn answered(&mut self, sample: Sample) -> Option<Outcome> {
        for samples in [&mut self.all, &mut self.round] {
            if let Some(samples) = samples.get_mut(self.turn) {
                samples.push(sample);
            }
        }
        if self.compare(&self.all) == Bounds::Breaks {
            return Some(self.end(Verdict::Apart));
        }
        self.go_on()
    }

    /// It was not.
    pub fn unanswered(&mut self) -> Option<Outcome> {
        self.lost += 1;
        if self.lost > LOSSES {
            return Some(self.end(Verdict::Unclear));
        }
        if matches!(self.stage, Stage::Push { .. }) {
            // By how much the counter was pushed is not known.
            self.span = None;
        }
        self.go_on()
    }

    fn compare(&self, samples: &[Vec<Sample>; 2]) -> Bounds {
        let [one, other] = samples;
        merged(one, other, self.width, self.swapped, self.velocity)
    }

    /// What is next, after a probe.
    fn go_on(&mut self) -> Option<Outcome> {
        match &mut self.stage {
            Stage::Round { asked } => {
                *asked += 1;
                self.turn = 1 - self.turn;
                (*asked >= ROUND).then(|| self.judge()).flatten()
            }
            Stage::Push { left } => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.begin_round();
                }
                None
            }
        }
    }

    /// A round is over.
    fn judge(&mut self) -> Option<Outcome> {
        self.rounds += 1;
        if let Bounds::Fits { slack } = self.compare(&self.round) {
            let offsets = match (self.slack, self.span) {
                (u64::MAX, _) => self.width.values(),
                (_, Some(span)) => span,
                // Nothing was moved in between.
                (_, None) => slack,
            };
            self.chance *= (slack as f64 / offsets as f64).min(1.0);
            self.slack = self.slack.min(slack);
            self.loosest = self.loosest.max(slack);
        }
        if self.chance <= self.goal {
            return Some(self.end(Verdict::Fits));
        }
        if self.rounds >= ROUNDS {
            let verdict = match self.slack {
                u64::MAX => Verdict::Unclear,
                _ => Verdict::Fits,
            };
            return Some(self.end(verdict));
        }
        self.push();
        None
    }

    /// Draws a push.
    fn push(&mut self) {
        let (least, most) = match self.kind {
            Kind::Datagram => (SLOW_SPAN, SLOW_SPAN),
            _ => SPANS,
        };
        let wanted = self.loosest.saturating_mul(4).min(most);
        let span = wanted.next_power_of_two().clamp(least, most);
        self.span = Some(span);
        let left = self.draw.below(span);
        self.turn = self.draw.below(2) as usize;
        self.stage = Stage::Push { left };
        if left == 0 {
            self.begin_round();
        }
    }

    fn begin_round(&mut self) {
        self.round = [const { Vec::new() }; 2];
        self.stage = Stage::Round { asked: 0 };
        self.turn = self.draw.below(2) as usize;
    }

    fn end(&self, verdict: Verdict) -> Outcome {
        let samples: usize = self.all.iter().map(Vec::len).sum();
        Outcome {
            verdict,
            chance: self.chance.min(1.0),
            rounds: self.rounds,
            samples: samples as u32,
            slack: self.slack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    /// Numbers that advance by others' packets as well.
    struct Router {
        counters: [u32; 2],
        /// Both addresses have the first.
        shared: bool,
        /// At most so many packets of others between two of ours.
        others: u64,
        draw: Draw,
    }

    impl Router {
        fn number(&mut self, who: usize) -> u32 {
            let busy = self.draw.below(self.others + 1) as u32;
            // Equally busy: what moves them against each other is only we.
            self.counters = self.counters.map(|it| it.wrapping_add(busy));
            let counter = &mut self.counters[if self.shared { 0 } else { who }];
            *counter = counter.wrapping_add(1);
            *counter & 0xffff
        }
    }

    fn run(router: &mut Router, loss: u64, seed: u64) -> (Outcome, u32) {
        let counter = Counter {
            velocity: 100.0,
            swapped: false,
        };
        let mut trial = Trial::new(Kind::Echo, Width::Sixteen, [counter; 2], 1e-7, seed);
        let mut lost = Draw::new(seed ^ 77);
        for probes in 1.. {
            let sent = Instant::from_nanos(u64::from(probes) * 20_000_000);
            let id = router.number(trial.turn());
            let sample = Sample {
                sent,
                received: sent + std::time::Duration::from_millis(5),
                id,
                own: 0,
            };
            let ended = match lost.below(1000) < loss {
                true => trial.unanswered(),
                false => trial.answered(sample),
            };
            if let Some(outcome) = ended {
                return (outcome, probes);
            }
        }
        unreachable!("a trial ends")
    }

    fn router(seed: u64, shared: bool, others: u64) -> Router {
        let mut draw = Draw::new(seed);
        Router {
            counters: [draw.below(1 << 16) as u32, draw.below(1 << 16) as u32],
            shared,
            others,
            draw,
        }
    }

    #[test]
    fn one_counter_is_found_whatever_others_send() {
        for seed in 0..200 {
            for (others, probes) in [(0, 60), (3, 300), (20, 1500)] {
                let (outcome, took) = run(&mut router(seed, true, others), 0, seed);
                assert_eq!(outcome.verdict, Verdict::Fits);
                assert!(outcome.chance <= 1e-7, "{outcome:?}, others {others}");
                assert!(took <= probes, "{took} probes, others {others}");
            }
        }
    }

    #[test]
    fn losses_make_it_longer_or_unclear_but_never_another_verdict() {
        let mut fits = 0;
        for seed in 0..200 {
            let (outcome, _) = run(&mut router(seed, true, 1), 20, seed);
            assert_ne!(outcome.verdict, Verdict::Apart);
            fits += u32::from(outcome.verdict == Verdict::Fits);
        }
        assert!(fits > 150, "{fits}");
        let (outcome, _) = run(&mut router(1, true, 1), 1000, 1);
        assert_eq!(outcome.verdict, Verdict::Unclear);
    }

    #[test]
    fn two_counters_of_equal_speed_pass_no_more_often_than_is_said() {
        // Close to each other: what an unlucky phase would have made of them.
        let mut passed = 0_u32;
        let tries = 20_000;
        for seed in 0..tries {
            let mut near = router(seed, false, 3);
            near.counters[1] = near.counters[0] + (seed % 5) as u32;
            let (outcome, _) = run(&mut near, 0, seed);
            passed += u32::from(outcome.verdict == Verdict::Fits && outcome.chance <= 1e-7);
        }
        // The first round's part of the chance is spent: 10^-7 × 65,536 / slack at most.
        assert!(f64::from(passed) <= tries as f64 * 2e-3, "{passed}");
    }

    #[test]
    fn unrelated_counters_are_told_apart_at_once() {
        for seed in 0..2000 {
            let (outcome, took) = run(&mut router(seed, false, 5), 0, seed);
            assert_ne!(
                (outcome.verdict, outcome.chance <= 1e-7),
                (Verdict::Fits, true)
            );
            if took < 4 {
                assert_eq!(outcome.verdict, Verdict::Apart);
            }
        }
    }
}
