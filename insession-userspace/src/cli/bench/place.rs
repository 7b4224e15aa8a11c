//! Where it is measured: on the interface that is named, or on a test bed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::arguments::Arguments;
use super::progress::Progress;
use crate::bench::scale::ScaleOptions;
use crate::bench::search::SearchOptions;
use crate::bench::suite::{self, Place, Results, SuiteOptions};
use crate::bench::trial::Options;
use crate::bench::{BenchError, Ground, Settings};
use crate::cli::exit::Failure;
use crate::session::SessionOptions;
use crate::time::Duration;

/// Measures all that was asked for, on the calling thread: it goes into a network
/// namespace of its own, and stays there.
pub(super) fn measure(arguments: &Arguments, stop: Arc<AtomicBool>) -> Result<Results, Failure> {
    let progress = Progress::new(stop);
    let settings = Settings {
        rounds: arguments.rounds,
        duration: arguments.duration,
        watch: &progress,
    };
    let results = match &arguments.interface {
        Some(interface) => {
            let ground = Ground::targets(interface, &arguments.targets)?;
            let place = Place {
                ground: &ground,
                mute: None,
                check: None,
                most: arguments.most(),
            };
            suite::run(&place, &options(arguments), &settings)
        }
        None => on_bed(arguments, &settings),
    };
    Ok(results?)
}

fn on_bed(_arguments: &Arguments, _settings: &Settings<'_>) -> Result<Results, BenchError> {
    Err(BenchError::Cannot(
        "the test bed: not there yet; use --interface".to_owned(),
    ))
}

fn options(arguments: &Arguments) -> SuiteOptions<'static> {
    let mut scale = ScaleOptions {
        memory: arguments.scale,
        concurrent: arguments.concurrent,
        ..ScaleOptions::default()
    };
    scale
        .sessions
        .retain(|sessions| *sessions <= arguments.scale.max(1));
    SuiteOptions {
        only: arguments.measurements(),
        base: Options {
            sessions: arguments.sessions,
            session: SessionOptions {
                probes: arguments.probes,
                probe_timeout: Duration::from_secs(1),
                ..SessionOptions::default()
            },
            duration: arguments.duration,
            ..Options::default()
        },
        search: SearchOptions {
            loss: arguments.loss,
            resolution: arguments.resolution,
            ..SearchOptions::default()
        },
        held: arguments.held,
        scale,
    }
}
