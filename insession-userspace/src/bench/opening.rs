//! Sessions opened: handshakes completed a second, and a second of processor time.
//!
//! The shortest session there is: SYN, ACK, one probe, RST.

use serde::Serialize;

use super::trial::{self, Options};
use super::{BenchError, Figure, Ground, Settings};
use crate::session::SessionOptions;

/// How fast sessions are opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Opening {
    /// The link.
    pub link: String,
    /// Sessions a second.
    pub sessions: Figure,
    /// Sessions a second of the workers' time.
    pub per_worker_second: Figure,
    /// Sessions a second of the process's time.
    pub per_cpu_second: Figure,
    /// Part of handshakes that nobody answered.
    pub lost: Figure,
}

/// The options of the shortest session.
#[must_use]
pub fn shortest(base: &SessionOptions) -> SessionOptions {
    SessionOptions {
        first_ttl: 1,
        max_ttl: 1,
        probes: 1,
        ..base.clone()
    }
}

/// Measures it.
///
/// # Errors
/// As [`trial::run`].
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    settings: &Settings<'_>,
) -> Result<Opening, BenchError> {
    let options = Options {
        session: shortest(&base.session),
        ..base.clone()
    };
    let mut trials = Vec::new();
    for round in 1..=settings.rounds {
        settings.step(&format!("opening, round {round}"))?;
        trials.push(trial::run(ground, &options, settings)?);
    }
    let of = |value: &dyn Fn(&trial::Trial) -> f64| Figure::new(trials.iter().map(value));
    // Sessions that ended without a handshake are not opened ones.
    let opened = |trial: &trial::Trial| {
        let outcome = &trial.outcome;
        trial.ended as f64 * outcome.established as f64 / outcome.traces as f64
    };
    Ok(Opening {
        link: trials
            .last()
            .map(|trial| trial.link.clone())
            .unwrap_or_default(),
        sessions: of(&|trial| opened(trial) / trial.seconds),
        per_worker_second: of(&|trial| opened(trial) / trial.workers.total()),
        per_cpu_second: of(&|trial| opened(trial) / trial.process.total()),
        lost: of(&|trial| {
            let outcome = &trial.outcome;
            let asked = outcome.established + outcome.unanswered_handshakes;
            outcome.unanswered_handshakes as f64 / asked as f64
        }),
    })
}
