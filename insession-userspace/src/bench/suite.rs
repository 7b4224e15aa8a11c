//! Several measurements, one result.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::ablation;
use super::ceiling::{self, CeilingOptions, Ceilings};
use super::held::{self, Held};
use super::latency::{self, Latency};
use super::machine::Machine;
use super::opening::{self, Opening};
use super::probes::{self, Probes};
use super::scale::{self, Scale, ScaleOptions};
use super::search::{self, Search, SearchOptions};
use super::smoothness;
use super::trial::{self, Check, Options};
use super::{BenchError, Ground, Settings};
use crate::link::LinkError;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// [`search::measure`].
    Search,
    /// [`ceiling::measure`].
    Ceiling,
    /// [`probes::measure`].
    Probes,
    /// [`latency::measure`].
    Latency,
    /// [`opening::measure`].
    Opening,
    /// [`held::measure`].
    Held,
    /// [`ablation::measure`].
    Ablation,
    /// [`scale::measure`].
    Scale,
    /// [`smoothness::measure`].
    Smoothness,
}

impl Measurement {
    /// All, in the order they are made.
    pub const ALL: [Measurement; 9] = [
        Measurement::Ceiling,
        Measurement::Probes,
        Measurement::Search,
        Measurement::Latency,
        Measurement::Smoothness,
        Measurement::Opening,
        Measurement::Held,
        Measurement::Ablation,
        Measurement::Scale,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Measurement::Search => "search",
            Measurement::Ceiling => "ceiling",
            Measurement::Probes => "probes",
            Measurement::Latency => "latency",
            Measurement::Opening => "opening",
            Measurement::Held => "held",
            Measurement::Ablation => "ablation",
            Measurement::Scale => "scale",
            Measurement::Smoothness => "smoothness",
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Measurement {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Measurement::ALL
            .into_iter()
            .find(|measurement| measurement.as_str() == name)
            .ok_or_else(|| {
                let all = Measurement::ALL.map(Measurement::as_str).join(", ");
                format!("no such measurement; there are: {all}")
            })
    }
}

/// Where it is measured, and what the place can do.
pub struct Place<'a> {
    /// Interface and targets.
    pub ground: &'a Ground,
    /// Makes destinations mute, or speak again: for sessions that are held.
    pub mute: Option<&'a dyn Fn(bool) -> Result<(), BenchError>>,
    /// Knows what every hop has to be.
    pub check: Option<&'a Check<'a>>,
    /// Packets a second that are sent at most; `None`: no bound.
    pub most: Option<f64>,
}

/// How the suite is made.
pub struct SuiteOptions<'a> {
    /// What, in the order of [`Measurement::ALL`].
    pub only: Vec<Measurement>,
    /// Link, sessions at a time, and how sessions are made.
    pub base: Options<'a>,
    /// The search's.
    pub search: SearchOptions,
    /// Sessions that are to be held.
    pub held: usize,
    /// The curve's.
    pub scale: ScaleOptions,
}

/// How it was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// Rounds of each figure.
    pub rounds: u32,
    /// Seconds of a trial.
    pub duration: f64,
    /// Packets a second at most; null: no bound.
    pub max_rate: Option<f64>,
    /// Sessions open at a time.
    pub sessions: usize,
    /// Probes a hop.
    pub probes_a_hop: u8,
}

/// A measurement without a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Which.
    pub measurement: &'static str,
    /// Why.
    pub reason: String,
}

/// All that was measured: `insession.bench/1`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// `insession.bench/1`.
    pub schema: &'static str,
    /// What it was measured on.
    pub machine: Machine,
    /// How.
    pub conditions: Conditions,
    /// The bare link.
    pub ceiling: Option<Ceilings>,
    /// Live sessions.
    pub probes: Option<Probes>,
    /// The highest rate without loss.
    pub search: Option<Search>,
    /// From wire to session.
    pub latency: Option<Latency>,
    /// How smoothly a rate is held.
    pub smoothness: Option<Vec<smoothness::Held>>,
    /// Sessions opened.
    pub opening: Option<Opening>,
    /// Sessions held.
    pub held: Option<Held>,
    /// What each choice is worth.
    pub ablation: Option<Vec<ablation::Row>>,
    /// Over the number of sessions.
    pub scale: Option<Scale>,
    /// What is not there, and why.
    pub missing: Vec<Missing>,
    /// It was ended before it was complete.
    pub interrupted: bool,
}

/// The version of the results' form.
pub const SCHEMA: &str = "insession.bench/1";

impl Results {
    /// Nothing yet.
    #[must_use]
    pub fn new(machine: Machine, conditions: Conditions) -> Self {
        Results {
            schema: SCHEMA,
            machine,
            conditions,
            ceiling: None,
            probes: None,
            search: None,
            latency: None,
            smoothness: None,
            opening: None,
            held: None,
            ablation: None,
            scale: None,
            missing: Vec::new(),
            interrupted: false,
        }
    }
}

/// Makes the measurements; one that fails is told in [`Results::missing`], and the
/// others go on.
///
/// # Errors
/// When the rights are missing: then none is possible.
pub fn run(
    place: &Place<'_>,
    options: &SuiteOptions<'_>,
    settings: &Settings<'_>,
) -> Result<Results, BenchError> {
    trial::require_rights()?;
    let conditions = Conditions {
        rounds: settings.rounds,
        duration: settings.duration.as_secs_f64(),
        max_rate: place.most,
        sessions: options.base.sessions,
        probes_a_hop: options.base.session.probes,
    };
    let mut results = Results::new(Machine::read(Some(place.ground)), conditions);
    if let Ok(link) = trial::open(place.ground, &options.base.link) {
        results.machine.mode = Some(trial::link_words(&link.info()));
    }
    for measurement in Measurement::ALL {
        if !options.only.contains(&measurement) {
            continue;
        }
        match one(measurement, place, options, settings, &mut results) {
            Ok(()) => {}
            Err(BenchError::Interrupted) => {
                results.interrupted = true;
                break;
            }
            Err(BenchError::Link(error @ LinkError::NotPermitted { .. })) => {
                return Err(error.into());
            }
            Err(error) => results.missing.push(Missing {
                measurement: measurement.as_str(),
                reason: error.to_string(),
            }),
        }
    }
    Ok(results)
}

fn one(
    measurement: Measurement,
    place: &Place<'_>,
    options: &SuiteOptions<'_>,
    settings: &Settings<'_>,
    results: &mut Results,
) -> Result<(), BenchError> {
    let ground = place.ground;
    let base = Options {
        rate: place.most,
        ..options.base.clone()
    };
    match measurement {
        Measurement::Ceiling => {
            if place.most.is_some() {
                return Err(BenchError::Cannot(
                    "ceiling: it sends as fast as the link takes frames, and the rate is bounded here; lift the bound with --max-rate unlimited".to_owned(),
                ));
            }
            let bare = CeilingOptions {
                link: base.link.clone(),
                batch: base.batch,
            };
            results.ceiling = Some(ceiling::measure(ground, &bare, settings)?);
        }
        Measurement::Probes => results.probes = Some(probes::measure(ground, &base, settings)?),
        Measurement::Search => {
            let mut search = options.search.clone();
            search.most = place.most;
            results.search = Some(search::measure(ground, &base, &search, settings)?);
        }
        Measurement::Latency => {
            let top = top_rate(ground, &base, settings, results)?;
            results.latency = Some(latency::measure(ground, &base, top, settings)?);
        }
        Measurement::Smoothness => {
            results.smoothness = Some(smoothness::measure(ground, &base, place.most, settings)?);
        }
        Measurement::Opening => results.opening = Some(opening::measure(ground, &base, settings)?),
        Measurement::Held => {
            let mute = place.mute.ok_or_else(|| {
                BenchError::Cannot(
                    "held: needs destinations that fall silent after the handshake; run without --interface for a veth pair with the reflector".to_owned(),
                )
            })?;
            mute(true)?;
            let held = held::measure(ground, &base, options.held, settings);
            mute(false)?;
            results.held = Some(held?);
        }
        Measurement::Ablation => {
            let queues = results.machine.queues.unwrap_or(1);
            results.ablation = Some(ablation::measure(ground, &base, queues, settings)?);
        }
        Measurement::Scale => {
            results.scale = Some(scale::measure(place, &base, &options.scale, settings)?);
        }
    }
    Ok(())
}

/// The highest rate without loss, from what was measured before or by one trial.
fn top_rate(
    ground: &Ground,
    base: &Options<'_>,
    settings: &Settings<'_>,
    results: &Results,
) -> Result<f64, BenchError> {
    let searched = results
        .search
        .as_ref()
        .and_then(|search| search.packets.median);
    let sent = results
        .probes
        .as_ref()
        .and_then(|probes| probes.packets.median);
    match searched.or(sent) {
        Some(rate) => Ok(rate),
        None => {
            settings.step("latency: the top rate")?;
            Ok(trial::run(ground, base, settings)?.packets_per_second())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for measurement in Measurement::ALL {
            assert_eq!(measurement.as_str().parse(), Ok(measurement));
        }
        let error = "speed".parse::<Measurement>().unwrap_err();
        assert!(error.contains("latency"), "{error}");
    }
}
