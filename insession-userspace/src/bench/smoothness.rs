//! How smoothly `--rate` is held: how many probes left in windows of different
//! lengths, beside what the rate makes of them.
//!
//! The moments are those of the records, which are the links' own where these tell
//! (live frames), else those of the kicks. Probes alone are counted: handshakes and
//! closing segments, of which a session has three or four, are in the rate too and
//! leave a gap of their length. The beginning, in which handshakes come before
//! probes, and the end, in which no more sessions are begun, are left out.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::trial::{self, Check, Options};
use super::{BenchError, Ground, Settings};
use crate::trace::Trace;

/// Rates that are held, packets a second.
const RATES: [f64; 2] = [10_000.0, 100_000.0];
/// Lengths of windows, ns.
const WINDOWS: [u64; 8] = [
    50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 10_000_000, 50_000_000,
];
/// The part of the time that is left out, at either end.
const MARGIN: f64 = 0.15;

/// What was held at one rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    /// Packets a second that were asked for.
    pub rate: f64,
    /// Probes a second that left, on average.
    pub probes: f64,
    /// By length.
    pub windows: Vec<Window>,
}

/// Windows of one length, all over the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// How long, ms.
    pub millis: f64,
    /// Probes in it on average.
    pub mean: f64,
    /// The fewest in any.
    pub least: u64,
    /// The most.
    pub most: u64,
}

/// Measures it. A rate above `most` is left out.
///
/// # Errors
/// As [`trial::run`].
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    most: Option<f64>,
    settings: &Settings<'_>,
) -> Result<Vec<Held>, BenchError> {
    let mut held = Vec::new();
    for rate in RATES {
        if most.is_some_and(|most| rate > most) {
            continue;
        }
        settings.step(&format!("smoothness: {rate:.0}/s"))?;
        let departures = Mutex::new(Vec::new());
        let note: &Check<'_> = &|trace: &Trace| {
            let mut all = departures.lock().unwrap_or_else(PoisonError::into_inner);
            let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
            all.extend(probes.map(|probe| {
                let sent = u64::try_from(probe.sent.as_nanos()).unwrap_or(u64::MAX);
                trace.started.0.saturating_add(sent)
            }));
            Ok(())
        };
        let options = Options {
            rate: Some(rate),
            check: Some(note),
            ..base.clone()
        };
        trial::run(ground, &options, settings)?;
        let departures = departures
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        held.push(of(rate, departures)?);
    }
    if held.is_empty() {
        return Err(BenchError::Cannot(format!(
            "smoothness: it is measured at {:.0} packets/s and above; raise --max-rate",
            RATES[0]
        )));
    }
    Ok(held)
}

fn of(rate: f64, mut departures: Vec<u64>) -> Result<Held, BenchError> {
    departures.sort_unstable();
    let (Some(first), Some(last)) = (departures.first(), departures.last()) else {
        return Err(BenchError::Failed("smoothness: no probe left".to_owned()));
    };
    let margin = ((last - first) as f64 * MARGIN) as u64;
    let (begin, end) = (first + margin, last - margin);
    let inside = |at: &u64| (begin..end).contains(at);
    let moments: Vec<u64> = departures.iter().copied().filter(inside).collect();
    let span = (end - begin) as f64;
    let windows = WINDOWS
        .iter()
        .filter(|length| (**length as f64) < span / 4.0);
    Ok(Held {
        rate,
        probes: moments.len() as f64 * 1e9 / span.max(1.0),
        windows: windows
            .map(|length| window(&moments, begin, end, *length))
            .collect(),
    })
}

/// The fewest and the most in any window of this length that lies within: moved on
/// by a quarter of its length at a time.
fn window(moments: &[u64], begin: u64, end: u64, length: u64) -> Window {
    let (mut least, mut most) = (u64::MAX, 0);
    let (mut left, mut right) = (0, 0);
    let mut at = begin;
    while at + length <= end {
        while moments.get(left).is_some_and(|moment| *moment < at) {
            left += 1;
        }
        while moments
            .get(right)
            .is_some_and(|moment| *moment < at + length)
        {
            right += 1;
        }
        let count = (right - left) as u64;
        (least, most) = (least.min(count), most.max(count));
        at += (length / 4).max(1);
    }
    Window {
        millis: length as f64 / 1e6,
        mean: moments.len() as f64 * length as f64 / (end - begin).max(1) as f64,
        least: least.min(most),
        most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_evenly_is_even_and_a_lump_is_seen() {
        // 10,000 a second for a second.
        let even: Vec<u64> = (0..10_000).map(|nth| 5_000 + nth * 100_000).collect();
        let held = of(10_000.0, even.clone()).unwrap();
        assert!((held.probes - 10_000.0).abs() < 5.0, "{held:?}");
        for window in &held.windows {
            assert!(window.most - window.least <= 1, "{window:?}");
        }
        // Five milliseconds' worth at once, in the middle.
        let lump = even.into_iter().map(|at| match at {
            500_000_000..505_000_000 => 505_000_000,
            at => at,
        });
        let held = of(10_000.0, lump.collect()).unwrap();
        let of_a_millisecond = held.windows.iter().find(|window| window.millis == 1.0);
        let window = of_a_millisecond.unwrap();
        assert!(window.most >= 50 && window.least == 0, "{window:?}");
        let long = held.windows.last().unwrap();
        assert!(long.most <= 550, "{long:?}");
    }

    #[test]
    fn nothing_is_no_figure() {
        assert!(of(10_000.0, Vec::new()).is_err());
    }
}
