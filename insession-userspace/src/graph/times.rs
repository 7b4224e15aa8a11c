//! Round-trip times of a node: the least, and quantiles to 3 % in a handful of octets.

use crate::time::Duration;

/// Steps of a power of two: each is at most 1/16 longer than the one before.
const STEPS: u32 = 4;

/// Counts by length, on a logarithmic scale; only what was met takes room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Times {
    counts: Vec<(u16, u32)>,
    least: Option<Duration>,
}

impl Times {
    pub(super) fn add(&mut self, span: Duration) {
        self.least = Some(self.least.map_or(span, |least| least.min(span)));
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.count(place(nanos), 1);
    }

    pub(super) fn join(&mut self, other: &Times) {
        if let Some(least) = other.least {
            self.least = Some(self.least.map_or(least, |it| it.min(least)));
        }
        for (place, count) in &other.counts {
            self.count(*place, *count);
        }
    }

    fn count(&mut self, place: u16, more: u32) {
        match self.counts.binary_search_by_key(&place, |it| it.0) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(more);
                }
            }
            Err(at) => self.counts.insert(at, (place, more)),
        }
    }

    /// The least, µs.
    pub(super) fn least_us(&self) -> Option<f64> {
        self.least.map(|least| least.as_nanos() as f64 / 1e3)
    }

    /// The lower median, µs, no less than the least.
    pub(super) fn median_us(&self) -> Option<f64> {
        let all: u64 = self.counts.iter().map(|it| u64::from(it.1)).sum();
        let mut before = 0;
        for (place, count) in &self.counts {
            before += u64::from(*count);
            if before * 2 >= all {
                return Some((middle(*place) / 1e3).max(self.least_us()?));
            }
        }
        None
    }
}

/// The exponent, and the bits behind the first: as a floating-point number.
fn place(nanos: u64) -> u16 {
    let nanos = nanos.max(1 << STEPS);
    let exponent = nanos.ilog2();
    let steps = (nanos >> (exponent - STEPS)) & ((1 << STEPS) - 1);
    ((exponent as u16) << STEPS) | steps as u16
}

/// The middle of a place, nanoseconds.
fn middle(place: u16) -> f64 {
    let steps = f64::from(1_u32 << STEPS);
    let exponent = f64::from(place >> STEPS);
    let behind = f64::from(place & ((1 << STEPS) - 1));
    exponent.exp2() * (1.0 + (behind + 0.5) / steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_good_to_three_per_cent() {
        let mut nanos = 20;
        while nanos < 4_000_000_000_000_u64 {
            let mut times = Times::default();
            for part in [90, 100, 100, 101, 150] {
                times.add(Duration::from_nanos(nanos * part / 100));
            }
            let median = times.median_us().unwrap() * 1e3;
            let error = (median / nanos as f64 - 1.0).abs();
            assert!(
                error <= 1.0 / 32.0 + 0.05 / nanos as f64,
                "{nanos}: {median}"
            );
            let least = times.least_us().unwrap() * 1e3;
            assert_eq!(least.round() as u64, nanos * 90 / 100);
            nanos = nanos * 17 / 11;
        }
    }

    #[test]
    fn joined_is_as_if_added() {
        let spans = |from: u64| (from..from + 40).map(|it| Duration::from_micros(it * it));
        let (mut one, mut other, mut both) = Default::default();
        let add = |to: &mut Times, from| spans(from).for_each(|it| to.add(it));
        add(&mut one, 7);
        add(&mut other, 3);
        add(&mut both, 7);
        add(&mut both, 3);
        one.join(&other);
        assert_eq!(one, both);
        assert_eq!(Times::default().median_us(), None);
    }
}
