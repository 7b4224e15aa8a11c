//! The highest probe rate without loss: a search over the offered rate as
//! RFC 2544 §26.1 does it, by halving.
//!
//! A trial at a rate passes when the engine could offer it (it sent at least
//! [`OFFERED`] of it) and no more was lost than the bound allows. The rate is
//! that of all packets, as the engine paces them; how many of them are probes is
//! told beside it.

use serde::Serialize;

use super::trial::{self, Options, Trial};
use super::{BenchError, Figure, Ground, Settings};

/// A trial that sends less than this part of its rate did not offer it.
pub const OFFERED: f64 = 0.98;
/// No search takes more trials than this.
const TRIALS: usize = 24;

/// How it is searched.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOptions {
    /// The part that may be lost, beyond [`SearchOptions::baseline`].
    pub loss: f64,
    /// The search ends when the rate is known this exactly, as a part of it.
    pub resolution: f64,
    /// No higher rate is offered than this; `None`: the first trial offers all
    /// that the engine can send.
    pub most: Option<f64>,
    /// What is lost at any rate: hops that are silent.
    pub baseline: f64,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions {
            loss: 0.001,
            resolution: 0.02,
            most: None,
            baseline: 0.0,
        }
    }
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Packets a second offered; null: all that it takes.
    pub offered: Option<f64>,
    /// Packets a second sent.
    pub achieved: f64,
    /// Probes a second sent.
    pub probes: f64,
    /// The part that was lost.
    pub loss: f64,
    /// Whether it held the bound, at the rate offered.
    pub passed: bool,
    /// Where it was lost, as far as counters tell.
    pub lost_at: Vec<(String, u64)>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Search {
    /// The bound.
    pub loss_bound: f64,
    /// The resolution.
    pub resolution: f64,
    /// What is lost at any rate.
    pub baseline: f64,
    /// Packets a second at the highest rate that passed.
    pub packets: Figure,
    /// Probes a second at it.
    pub probes: Figure,
    /// Loss at it.
    pub loss: Figure,
    /// All that the engine sent when nothing held it back, packets a second.
    pub unbounded: Figure,
    /// Loss then.
    pub unbounded_loss: Figure,
    /// The link.
    pub link: String,
    /// Each round's trials.
    pub steps: Vec<Vec<Step>>,
}

/// Searches, once a round.
///
/// # Errors
/// As [`trial::run`].
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    options: &SearchOptions,
    settings: &Settings<'_>,
) -> Result<Search, BenchError> {
    let mut search = Search {
        loss_bound: options.loss,
        resolution: options.resolution,
        baseline: options.baseline,
        ..Search::default()
    };
    let mut best = Vec::new();
    for round in 1..=settings.rounds {
        let steps = by_halving(options, |rate| {
            let offered = rate.map_or("all it takes".to_owned(), |rate| format!("{rate:.0}/s"));
            settings.step(&format!("search, round {round}: {offered}"))?;
            let trial = trial::run(
                ground,
                &Options {
                    rate,
                    ..base.clone()
                },
                settings,
            )?;
            search.link.clone_from(&trial.link);
            Ok(step(options, &trial))
        })?;
        let passed = steps.iter().filter(|step| step.passed);
        best.push(
            passed
                .max_by(|a, b| a.achieved.total_cmp(&b.achieved))
                .cloned(),
        );
        search.steps.push(steps);
    }
    let of = |value: fn(&Step) -> f64| Figure::of(best.iter().map(|step| step.as_ref().map(value)));
    search.packets = of(|step| step.achieved);
    search.probes = of(|step| step.probes);
    search.loss = of(|step| step.loss);
    let first = |value: fn(&Step) -> f64| {
        Figure::of(search.steps.iter().map(|steps| steps.first().map(value)))
    };
    search.unbounded = first(|step| step.achieved);
    search.unbounded_loss = first(|step| step.loss);
    Ok(search)
}

/// Judges a trial.
fn step(options: &SearchOptions, trial: &Trial) -> Step {
    let achieved = trial.packets_per_second();
    let loss = trial.outcome.loss();
    Step {
        offered: trial.offered,
        achieved,
        probes: trial.probes_per_second(),
        loss,
        passed: loss <= options.loss + options.baseline
            && trial
                .offered
                .is_none_or(|offered| achieved >= offered * OFFERED),
        lost_at: losses(trial),
    }
}

/// The counters that say that a frame was lost, and those of the engine that say
/// that it was not understood.
#[must_use]
pub fn losses(trial: &Trial) -> Vec<(String, u64)> {
    const SIGNS: [&str; 7] = [
        "drop",
        "full",
        "fill-ring-empty",
        "redirect-failed",
        "errors",
        "overrun",
        "engine-",
    ];
    trial
        .counters
        .iter()
        .filter(|(label, _)| SIGNS.iter().any(|sign| label.contains(sign)))
        .map(|(label, count)| (label.clone(), *count))
        .collect()
}

/// The search itself: trials by `offer`, until the highest rate that passes is
/// known.
fn by_halving(
    options: &SearchOptions,
    mut offer: impl FnMut(Option<f64>) -> Result<Step, BenchError>,
) -> Result<Vec<Step>, BenchError> {
    let first = offer(options.most)?;
    let mut steps = vec![first.clone()];
    if first.passed {
        return Ok(steps);
    }
    // What it could send is more than it can without loss.
    let mut above = options.most.unwrap_or(f64::INFINITY).min(first.achieved);
    let mut below = 0.0;
    while above - below > above * options.resolution && steps.len() < TRIALS {
        let rate = f64::midpoint(below, above);
        let step = offer(Some(rate))?;
        if step.passed {
            below = rate;
        } else {
            above = rate;
        }
        steps.push(step);
        if above < 1.0 {
            break;
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A link that takes `capacity` packets a second and loses everything above
    /// `knee`.
    fn model(options: &SearchOptions, capacity: f64, knee: f64, rate: Option<f64>) -> Step {
        let sent = rate.unwrap_or(f64::INFINITY).min(capacity);
        let lost = (sent - knee).max(0.0) / sent;
        let mut trial = Trial {
            offered: rate,
            seconds: 1.0,
            sent: sent as u64,
            probes: (sent * 0.9) as u64,
            ..Trial::default()
        };
        trial.outcome.probes = 1_000_000;
        trial.outcome.unanswered = (lost * 1e6) as u64;
        step(options, &trial)
    }

    proptest! {
        #[test]
        fn the_knee_is_found(
            capacity in 1e3f64..1e7,
            part in 0.01f64..1.5,
            resolution in 0.005f64..0.1,
        ) {
            let options = SearchOptions { resolution, loss: 0.001, ..SearchOptions::default() };
            let knee = capacity * part;
            let steps = by_halving(&options, |rate| Ok(model(&options, capacity, knee, rate))).unwrap();
            let best = steps.iter().filter(|step| step.passed).map(|step| step.achieved).fold(0.0, f64::max);
            let truth = capacity.min(knee / (1.0 - options.loss));
            prop_assert!(best <= truth * 1.001 + 1.0, "{best} of {truth}");
            prop_assert!(best >= truth * (1.0 - 1.5 * resolution) - 2.0, "{best} of {truth}");
            prop_assert!(steps.len() <= TRIALS);
        }

        #[test]
        fn no_more_is_offered_than_allowed(most in 10.0f64..1e6) {
            let options = SearchOptions { most: Some(most), ..SearchOptions::default() };
            by_halving(&options, |rate| {
                assert!(rate.unwrap() <= most);
                Ok(model(&options, 1e6, 5e5, rate))
            }).unwrap();
        }
    }

    #[test]
    fn a_link_that_loses_everything_ends_the_search() {
        let options = SearchOptions::default();
        let steps = by_halving(&options, |rate| Ok(model(&options, 1e6, 0.0, rate))).unwrap();
        assert!(steps.iter().all(|step| !step.passed) && steps.len() <= TRIALS);
    }

    #[test]
    fn a_rate_that_was_not_offered_does_not_pass() {
        let options = SearchOptions::default();
        assert!(!model(&options, 1000.0, 1e9, Some(2000.0)).passed);
        assert!(model(&options, 1000.0, 1e9, Some(1000.0)).passed);
    }

    #[test]
    fn baseline_is_not_loss_of_ours() {
        let options = SearchOptions {
            baseline: 0.2,
            ..SearchOptions::default()
        };
        assert!(model(&options, 1000.0, 801.0, Some(1000.0)).passed);
        assert!(!model(&options, 1000.0, 700.0, Some(1000.0)).passed);
    }
}
