//! The rate at which probes are sent with live sessions, beside the bare link in
//! the same rounds, and the processor time of a probe.

use serde::Serialize;

use super::ceiling::{self, Answered, CeilingOptions};
use super::cpu::Accounting;
use super::trial::{self, Options};
use super::{BenchError, Figure, Ground, Settings};

/// What a probe costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probes {
    /// The link.
    pub link: String,
    /// Probes a second.
    pub probes: Figure,
    /// Packets a second: handshakes and closes with them.
    pub packets: Figure,
    /// Frames a second of the bare link by AF_XDP's TX ring, nothing answered; measured
    /// in turn with it.
    pub ceiling: Figure,
    /// The same as the link sends unless told otherwise: by live frames, where it does.
    pub ceiling_unasked: Figure,
    /// That, everything answered.
    pub ceiling_answered: Figure,
    /// Row `tx-vs-ceiling`: probes a second by frames a second of the TX ring.
    pub tx_vs_ceiling: Figure,
    /// Packets by what the link sends unless told otherwise, nothing answered.
    pub packets_vs_ceiling: Figure,
    /// Packets by the bare link's when everything is answered.
    pub packets_vs_ceiling_answered: Figure,
    /// The workers' time in user mode a probe, ns.
    pub user: Figure,
    /// The workers' time in the kernel a probe, ns.
    pub system: Figure,
    /// All processors' time in softirqs a probe, ns.
    pub softirq: Figure,
    /// The whole process's time a probe, ns: with the threads that supply targets
    /// and read records.
    pub process: Figure,
    /// Part that was lost.
    pub loss: Figure,
    /// Complete traces a second of the workers' time.
    pub traces_per_cpu_second: Figure,
    /// What the columns contain.
    pub accounting: Accounting,
}

/// Measures them in turn with the bare link.
///
/// # Errors
/// As [`trial::run`].
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    settings: &Settings<'_>,
) -> Result<Probes, BenchError> {
    // The same batch for all of them.
    let batch = match base.batch {
        Some(batch) => batch,
        None => trial::open(ground, &base.link)?.batch(),
    };
    let bare = CeilingOptions {
        link: base.link.clone(),
        batch: Some(batch),
    };
    let ring = CeilingOptions {
        link: base.link.by_ring(),
        ..bare.clone()
    };
    let mut trials = Vec::new();
    let (mut ceilings, mut unasked, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    // A bound on the rate is one on the bare link too, which knows none.
    let floods = base.rate.is_none();
    for round in 1..=settings.rounds {
        settings.step(&format!("probes, round {round}: live sessions"))?;
        trials.push(trial::run(ground, base, settings)?);
        if floods {
            settings.step(&format!("probes, round {round}: bare link"))?;
            ceilings.push(ceiling::transmit(ground, &ring, Answered::No, settings)?.rate());
            unasked.push(ceiling::transmit(ground, &bare, Answered::No, settings)?.rate());
        }
        if floods && ground.has_reflector() {
            answered.push(ceiling::transmit(ground, &bare, Answered::Yes, settings)?.rate());
        }
    }
    let of = |value: &dyn Fn(&trial::Trial) -> f64| Figure::new(trials.iter().map(value));
    let by = |value: &dyn Fn(&trial::Trial) -> f64, bound: &[f64]| {
        Figure::new(
            trials
                .iter()
                .zip(bound)
                .map(|(trial, bound)| value(trial) / bound),
        )
    };
    let each = |seconds: f64, trial: &trial::Trial| seconds * 1e9 / trial.probes as f64;
    Ok(Probes {
        link: trials
            .last()
            .map(|trial| trial.link.clone())
            .unwrap_or_default(),
        probes: of(&trial::Trial::probes_per_second),
        packets: of(&trial::Trial::packets_per_second),
        tx_vs_ceiling: by(&trial::Trial::probes_per_second, &ceilings),
        packets_vs_ceiling: by(&trial::Trial::packets_per_second, &unasked),
        packets_vs_ceiling_answered: by(&trial::Trial::packets_per_second, &answered),
        ceiling: Figure::new(ceilings.iter().copied()),
        ceiling_unasked: Figure::new(unasked.iter().copied()),
        ceiling_answered: Figure::new(answered.iter().copied()),
        user: of(&|trial| each(trial.workers.user, trial)),
        system: of(&|trial| each(trial.workers.system, trial)),
        softirq: of(&|trial| each(trial.softirq, trial)),
        process: of(&|trial| each(trial.process.total(), trial)),
        loss: of(&|trial| trial.outcome.loss()),
        traces_per_cpu_second: of(&|trial| trial.ended as f64 / trial.workers.total()),
        accounting: Accounting::read(),
    })
}
