//! From wire to session: from the kernel's stamp of a frame (taken by the XDP
//! program) to the end of what its session made of it, at half the top rate, with
//! and without busy polling.
//!
//! Row `wire-to-credit-p99` is the 99th percentile with busy polling.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::trial::{self, LinkChoice, Options, Trial};
use super::{BenchError, Figure, Ground, Settings};

/// Frames a busy poll takes at a time: the engine's batch.
pub const POLL_BUDGET: u32 = 64;

/// Quantiles of one trial, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Frames that were measured.
    pub frames: u64,
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Of nanoseconds.
    #[must_use]
    pub fn of(nanos: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Quantiles {
            frames: nanos.len(),
            p50: micros(nanos.value_at_quantile(0.5)),
            p99: micros(nanos.value_at_quantile(0.99)),
            p999: micros(nanos.value_at_quantile(0.999)),
            max: micros(nanos.max()),
        }
    }
}

/// Latency in one mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Mode {
    /// Half took no longer, µs.
    pub p50: Figure,
    /// 99 of 100.
    pub p99: Figure,
    /// 999 of 1000.
    pub p999: Figure,
    /// The longest.
    pub max: Figure,
    /// The workers' share of a processor.
    pub busy: Figure,
    /// Part that was lost.
    pub loss: Figure,
}

/// Latency at a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Packets a second that were offered.
    pub rate: f64,
    /// What they are half of.
    pub top_rate: f64,
    /// Sleeping until an interrupt.
    pub interrupts: Mode,
    /// Busy polling; null where the link cannot.
    pub busy_polling: Option<Mode>,
    /// Why it cannot.
    pub cannot: Option<String>,
}

/// Measures at half of `top_rate`, both modes in turn.
///
/// # Errors
/// As [`trial::run`]; a link that cannot poll busily is no error.
pub fn measure(
    ground: &Ground,
    base: &Options<'_>,
    top_rate: f64,
    settings: &Settings<'_>,
) -> Result<Latency, BenchError> {
    let rate = top_rate / 2.0;
    let mut latency = Latency {
        rate,
        top_rate,
        ..Latency::default()
    };
    let with = |link: LinkChoice| Options {
        link,
        rate: Some(rate),
        latency: true,
        ..base.clone()
    };
    let (mut sleeping, mut polling) = (Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        settings.step(&format!("latency, round {round}: interrupts, {rate:.0}/s"))?;
        sleeping.push(trial::run(ground, &with(base.link.clone()), settings)?);
        let LinkChoice::Xdp(xdp) = &base.link else {
            latency.cannot =
                Some("AF_PACKET: busy polling is switched on for AF_XDP only".to_owned());
            continue;
        };
        if latency.cannot.is_some() {
            continue;
        }
        settings.step(&format!(
            "latency, round {round}: busy polling, {rate:.0}/s"
        ))?;
        let mut xdp = xdp.clone();
        xdp.busy_poll = Some(POLL_BUDGET);
        match trial::run(ground, &with(LinkChoice::Xdp(xdp)), settings) {
            Ok(trial) => polling.push(trial),
            Err(BenchError::Link(error)) => latency.cannot = Some(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    latency.interrupts = Mode::of(&sleeping);
    latency.busy_polling = (!polling.is_empty()).then(|| Mode::of(&polling));
    Ok(latency)
}

impl Mode {
    fn of(trials: &[Trial]) -> Self {
        let quantile = |value: fn(&Quantiles) -> f64| {
            Figure::of(trials.iter().map(|trial| trial.latency.as_ref().map(value)))
        };
        Mode {
            p50: quantile(|it| it.p50),
            p99: quantile(|it| it.p99),
            p999: quantile(|it| it.p999),
            max: quantile(|it| it.max),
            busy: Figure::new(trials.iter().map(|it| it.workers.total() / it.seconds)),
            loss: Figure::new(trials.iter().map(|it| it.outcome.loss())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut nanos = Histogram::new(3).unwrap();
        for micros in 1..=1000u64 {
            nanos.record(micros * 1000).unwrap();
        }
        let quantiles = Quantiles::of(&nanos);
        let near = |value: f64, truth: f64| (value - truth).abs() < truth * 0.002;
        assert!(near(quantiles.p50, 500.0) && near(quantiles.p99, 990.0));
        assert!(near(quantiles.p999, 999.0) && near(quantiles.max, 1000.0));
        assert_eq!(quantiles.frames, 1000);
    }
}
