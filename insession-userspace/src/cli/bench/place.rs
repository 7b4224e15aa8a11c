//! Where it is measured: on the interface that is named, or on a test bed.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use insession_common::reflect::Network;

use super::arguments::Arguments;
use super::progress::Progress;
use crate::bench::scale::ScaleOptions;
use crate::bench::search::SearchOptions;
use crate::bench::suite::{self, Place, Results, SuiteOptions};
use crate::bench::trial::Options;
use crate::bench::{BenchError, Ground, Settings};
use crate::cli::exit::Failure;
use crate::session::SessionOptions;
use crate::testbed::{self, Bed, BedError, BedOptions};
use crate::time::Duration;
use crate::trace::Trace;

/// What the reflector stands for: ways of 8 to 16 hops, some of them balanced, and
/// nothing lost or silent, so that every probe has to be answered.
const NETWORK: Network = Network {
    key: 0x1b5e_55e5_510e,
    shortest: 8,
    longest: 16,
    balanced_first: 4,
    balanced_last: 6,
    width: 4,
    silent: 0,
    mpls: 0,
    loss: 0,
    mute: 0,
    refuse: 0,
};

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

/// On a veth pair with the reflector at its far end.
fn on_bed(arguments: &Arguments, settings: &Settings<'_>) -> Result<Results, BenchError> {
    let failed = |error: BedError| BenchError::Cannot(error.to_string());
    settings.step("test bed: making it")?;
    let bed = Bed::create(&BedOptions {
        network: NETWORK,
        queues: arguments.queues,
    })
    .map_err(failed)?;
    let ground = Ground::bed(&bed)?;
    let (bed, network) = (RefCell::new(bed), Mutex::new(NETWORK));
    let mute = |mute: bool| {
        let changed = Network {
            mute: if mute { u16::MAX } else { NETWORK.mute },
            ..NETWORK
        };
        *network.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        bed.borrow_mut().reconfigure(&changed).map_err(failed)
    };
    let check = |trace: &Trace| {
        let network = *network.lock().unwrap_or_else(PoisonError::into_inner);
        testbed::check(&network, trace)
    };
    let place = Place {
        ground: &ground,
        mute: Some(&mute),
        check: Some(&check),
        most: arguments.most(),
    };
    suite::run(&place, &options(arguments), settings)
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
