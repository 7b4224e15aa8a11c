//! What each choice is worth: one changed at a time, all in turn within a round.
//!
//! What this link, driver or kernel cannot do is a row that says so, with the
//! reason as it was given.

use serde::Serialize;

use super::latency::POLL_BUDGET;
use super::search;
use super::trial::{self, LinkChoice, Options, Trial};
use super::{BenchError, Figure, Ground, Settings};
use crate::link::xdp::{HugePages, Steering, Transmission, XdpMode, XdpOptions, ZeroCopy};

/// Batch sizes that are compared.
pub const BATCHES: [usize; 6] = [1, 8, 32, 64, 128, 256];

/// One choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// What is varied: `batch`.
    pub choice: String,
    /// To what: `32`.
    pub value: String,
    /// It is what everything else is measured with.
    pub default: bool,
    /// The link, as the kernel reported it.
    pub link: String,
    /// Probes a second.
    pub probes: Figure,
    /// The workers' time a probe, ns.
    pub cpu: Figure,
    /// Part that was lost.
    pub loss: Figure,
    /// Where it was lost in the last round, as far as counters tell.
    pub lost_at: Vec<(String, u64)>,
    /// Why there is no figure.
    pub cannot: Option<String>,
}

/// Variant of the options.
struct Variant {
    choice: &'static str,
    value: String,
    default: bool,
    link: LinkChoice,
    batch: Option<usize>,
    workers: u32,
}

/// Measures all choices; where `ground` has fewer queues than asked for, only those.
///
/// # Errors
/// When the measurement is ended, or the rights are missing.
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    queues: u32,
    settings: &Settings<'_>,
) -> Result<Vec<Row>, BenchError> {
    let variants = variants(queues);
    let mut trials: Vec<Vec<Trial>> = variants.iter().map(|_| Vec::new()).collect();
    let mut reasons: Vec<Option<String>> = vec![None; variants.len()];
    for round in 1..=settings.rounds {
        for ((variant, trials), reason) in variants.iter().zip(&mut trials).zip(&mut reasons) {
            if reason.is_some() {
                continue;
            }
            settings.step(&format!(
                "ablation, round {round}: {} {}",
                variant.choice, variant.value
            ))?;
            let options = Options {
                link: variant.link.clone(),
                batch: variant.batch,
                workers: variant.workers,
                ..base.clone()
            };
            match trial::run(ground, &options, settings) {
                Ok(trial) => trials.push(trial),
                Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
                Err(error) => *reason = Some(error.to_string()),
            }
        }
    }
    let rows = variants.into_iter().zip(trials).zip(reasons);
    Ok(rows
        .map(|((variant, trials), cannot)| Row::of(variant, &trials, cannot))
        .collect())
}

impl Row {
    fn of(variant: Variant, trials: &[Trial], cannot: Option<String>) -> Self {
        let lost_at = trials.last().map(search::losses).unwrap_or_default();
        let answered = trials.iter().any(|trial| trial.outcome.established > 0);
        let cannot = match (cannot, answered || trials.is_empty()) {
            (None, false) => Some(nothing(&lost_at)),
            (cannot, _) => cannot,
        };
        // A rate at which nothing comes back is none.
        let trials = if cannot.is_some() { &[] } else { trials };
        let of = |value: &dyn Fn(&Trial) -> f64| Figure::new(trials.iter().map(value));
        Row {
            choice: variant.choice.to_owned(),
            value: variant.value,
            default: variant.default,
            link: trials
                .last()
                .map(|trial| trial.link.clone())
                .unwrap_or_default(),
            probes: of(&Trial::probes_per_second),
            cpu: of(&|trial| trial.worker_nanos(trial.probes)),
            loss: of(&|trial| trial.outcome.loss()),
            lost_at,
            cannot,
        }
    }
}

/// The reason where no handshake was answered.
fn nothing(lost_at: &[(String, u64)]) -> String {
    let counters: Vec<String> = lost_at
        .iter()
        .map(|(label, count)| format!("{label} {count}"))
        .collect();
    let counters = match counters.as_slice() {
        [] => "no counter says where they went".to_owned(),
        some => some.join(", "),
    };
    format!("no handshake was answered: {counters}")
}

fn variants(queues: u32) -> Vec<Variant> {
    let xdp = |change: &dyn Fn(&mut XdpOptions)| {
        let mut options = XdpOptions::default();
        change(&mut options);
        LinkChoice::Xdp(options)
    };
    let plain = || xdp(&|_| {});
    let make = |choice, value: &str, default, link| Variant {
        choice,
        value: value.to_owned(),
        default,
        link,
        batch: None,
        workers: 1,
    };
    let mut all = vec![
        make("defaults", "", true, plain()),
        make(
            "copying",
            "zero-copy",
            false,
            xdp(&|it| it.zero_copy = ZeroCopy::On),
        ),
        make(
            "copying",
            "copy",
            false,
            xdp(&|it| it.zero_copy = ZeroCopy::Off),
        ),
        make(
            "attached",
            "native",
            false,
            xdp(&|it| it.mode = XdpMode::Native),
        ),
        make(
            "attached",
            "generic",
            false,
            xdp(&|it| it.mode = XdpMode::Generic),
        ),
        make("socket", "AF_XDP", true, plain()),
        make("socket", "AF_PACKET", false, LinkChoice::Packet),
        make(
            "sending",
            "live frames",
            false,
            xdp(&|it| it.transmission = Transmission::Live),
        ),
        make(
            "sending",
            "TX ring",
            false,
            xdp(&|it| it.transmission = Transmission::Ring),
        ),
        make("waiting", "interrupts", true, plain()),
        make(
            "waiting",
            "busy polling",
            false,
            xdp(&|it| it.busy_poll = Some(POLL_BUDGET)),
        ),
        make("need-wakeup", "yes", true, plain()),
        make(
            "need-wakeup",
            "no",
            false,
            xdp(&|it| it.need_wakeup = false),
        ),
        make("steering", "by flow", true, plain()),
        make(
            "steering",
            "by port range",
            false,
            xdp(&|it| it.steering = Steering::PortRange),
        ),
        make(
            "frames in",
            "huge pages",
            false,
            xdp(&|it| it.huge_pages = HugePages::On),
        ),
        make(
            "frames in",
            "small pages",
            false,
            xdp(&|it| it.huge_pages = HugePages::Off),
        ),
    ];
    for batch in BATCHES {
        all.push(Variant {
            batch: Some(batch),
            ..make("batch", &batch.to_string(), false, plain())
        });
    }
    for workers in 1..=queues.max(2) {
        all.push(Variant {
            workers,
            ..make("workers", &workers.to_string(), workers == 1, plain())
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_hears_nothing_has_no_rate() {
        let variant = || variants(1).remove(0);
        let mut trial = Trial {
            seconds: 1.0,
            probes: 5,
            ..Trial::default()
        };
        trial.counters.insert("near0-rx-dropped".into(), 7);
        let row = Row::of(variant(), &[trial.clone()], None);
        assert_eq!(row.probes, Figure::default());
        assert!(row.cannot.unwrap().contains("near0-rx-dropped 7"));
        trial.outcome.established = 1;
        let row = Row::of(variant(), &[trial], None);
        assert_eq!((row.probes.median, row.cannot), (Some(5.0), None));
    }

    #[test]
    fn every_choice_has_two_values_at_least() {
        let variants = variants(1);
        for variant in variants.iter().filter(|it| it.choice != "defaults") {
            let values = variants.iter().filter(|it| it.choice == variant.choice);
            assert!(values.count() >= 2, "{}", variant.choice);
        }
        let batches: Vec<_> = variants
            .iter()
            .filter(|it| it.choice == "batch")
            .filter_map(|it| it.batch)
            .collect();
        assert_eq!(batches, BATCHES);
    }
}
