//! Rounds over arms. All arms of a round run one after the other before the
//! next round begins, and every round begins with another arm: what the machine
//! does meanwhile hits all of them alike.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use crate::statistics::Spread;
use crate::{Bench, interrupt};

/// What an arm measured in a round, by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// One of the things that are compared.
pub struct Arm {
    /// Its name: `insession`, or the peer's.
    pub name: &'static str,
    /// The figure that is shown while it runs.
    pub shown: &'static str,
    /// One round of it.
    pub run: fn(&mut Bench) -> Result<Figures>,
}

/// What all rounds came to.
#[derive(Debug, Default)]
pub struct Outcome {
    rounds: BTreeMap<&'static str, BTreeMap<usize, Figures>>,
    /// Why an arm has no figures, or not of all rounds.
    pub failures: BTreeMap<&'static str, String>,
}

/// Runs them. An arm that fails is told and not tried again; the others go on.
pub fn run(bench: &mut Bench, arms: &[Arm]) -> Outcome {
    let mut outcome = Outcome::default();
    for round in 0..bench.rounds {
        for turn in 0..arms.len() {
            let Some(arm) = arms.get((round + turn) % arms.len()) else {
                continue;
            };
            if outcome.failures.contains_key(arm.name) {
                continue;
            }
            let begin = Instant::now();
            match (arm.run)(bench) {
                Ok(figures) => {
                    let shown = figures.get(arm.shown).copied().unwrap_or(f64::NAN);
                    eprintln!(
                        "  round {} of {}: {:12} {shown:12.3} {} ({:.1} s)",
                        round + 1,
                        bench.rounds,
                        arm.name,
                        arm.shown,
                        begin.elapsed().as_secs_f64()
                    );
                    outcome.add(arm.name, round, figures);
                }
                Err(_) if interrupt::check().is_err() => return outcome,
                Err(error) => {
                    eprintln!(
                        "  round {} of {}: {}: failed: {error:#}",
                        round + 1,
                        bench.rounds,
                        arm.name
                    );
                    outcome.failures.insert(arm.name, format!("{error:#}"));
                }
            }
        }
    }
    outcome
}

impl Outcome {
    fn add(&mut self, arm: &'static str, round: usize, figures: Figures) {
        self.rounds.entry(arm).or_default().insert(round, figures);
    }

    /// A figure of an arm, round by round.
    pub fn series(&self, arm: &str, figure: &str) -> Vec<f64> {
        self.rounds
            .get(arm)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(|figures| figures.get(figure).copied())
            .collect()
    }

    /// Its spread.
    pub fn spread(&self, arm: &str, figure: &str) -> Option<Spread> {
        Spread::of(&self.series(arm, figure))
    }

    /// The ratio of a figure of two arms, over the rounds that both have.
    pub fn ratio(&self, above: &str, below: &str, figure: &str) -> Option<Spread> {
        let (a, b) = (self.rounds.get(above)?, self.rounds.get(below)?);
        let (mut over, mut under) = (Vec::new(), Vec::new());
        for (round, figures) in a {
            let other = b.get(round).and_then(|figures| figures.get(figure));
            if let (Some(a), Some(b)) = (figures.get(figure), other) {
                over.push(*a);
                under.push(*b);
            }
        }
        Spread::of_ratios(&over, &under)
    }

    /// Every arm that has figures.
    pub fn arms(&self) -> impl Iterator<Item = &'static str> {
        self.rounds.keys().copied()
    }

    /// The medians of all figures, named by arm.
    pub fn details(&self) -> Vec<(String, f64)> {
        let mut details = Vec::new();
        for arm in self.arms() {
            let first = self
                .rounds
                .get(arm)
                .and_then(|rounds| rounds.values().next());
            for figure in first.into_iter().flat_map(BTreeMap::keys) {
                if let Some(spread) = self.spread(arm, figure) {
                    details.push((format!("{arm}: {figure}"), spread.median));
                }
            }
        }
        details
    }

    /// What is to be said of arms that failed; empty when none did.
    pub fn complaints(&self) -> String {
        let said: Vec<String> = self
            .failures
            .iter()
            .map(|(arm, why)| format!("{arm} failed: {why}"))
            .collect();
        said.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounds_that_both_have_are_compared() {
        let mut outcome = Outcome::default();
        let cost = |value| Figures::from([("cost", value)]);
        for (round, ours, theirs) in [(0, 1.0, Some(4.0)), (1, 9.0, None), (2, 2.0, Some(4.0))] {
            outcome.add("ours", round, cost(ours));
            if let Some(theirs) = theirs {
                outcome.add("theirs", round, cost(theirs));
            }
        }
        let ratio = outcome.ratio("theirs", "ours", "cost").unwrap();
        assert_eq!((ratio.median, ratio.rounds), (3.0, 2));
        assert_eq!(outcome.series("ours", "cost"), [1.0, 9.0, 2.0]);
        assert_eq!(outcome.ratio("theirs", "nobody", "cost"), None);
        assert_eq!(outcome.details()[0], ("ours: cost".to_owned(), 2.0));
    }
}
