//! MIDAR's monotonic bounds: whether two addresses' numbers, merged in time, still are
//! one counter's.
//!
//! A number is given between the sending of a probe and the arrival of its answer. Of
//! two packets where the one's answer was there before the other's probe was sent, one
//! counter gave the first a smaller number, by less than a quarter of its range. So each
//! sample of the one address bounds samples of the other from below and from above.
//!
//! How much that proves is counted, not guessed: [`Bounds::Fits`] says by how many
//! different amounts one of the two could be moved so that all bounds still hold. Two
//! counters that have nothing to do with each other stand apart by any amount, so they
//! fit by chance with that share of the counter's range.

use super::series::{Sample, Width, read};

/// What the merged numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// They can be one counter's.
    Fits {
        /// Amounts, 0 among them, by which the one series could be moved and still fit.
        slack: u64,
    },
    /// They are not.
    Breaks,
    /// The samples do not bound each other.
    Unknown,
}

/// Two addresses' samples, each in the order in which they were sent. `velocity` is that
/// of the faster of their counters: where it may have come far around between two
/// samples, these do not bound each other.
#[must_use]
pub fn merged(
    one: &[Sample],
    other: &[Sample],
    width: Width,
    swapped: bool,
    velocity: f64,
) -> Bounds {
    let longest = width.longest_step();
    // By how much `other` may be moved.
    let (mut least, mut most) = (i64::MIN, i64::MAX);
    let (mut from_below, mut from_above) = (false, false);
    let bounded = |first: &Sample, second: &Sample| {
        let apart = second.received.since(first.sent).as_secs_f64();
        apart * velocity < longest as f64
    };
    let step = |first: &Sample, second: &Sample| {
        let (first, second) = (
            read(*first, width, swapped).id,
            read(*second, width, swapped).id,
        );
        let step = width.ahead(first, second);
        (1..=longest).contains(&step).then_some(step as i64)
    };
    for sample in one {
        // Answers overtake each other: the latest sent need not be the latest there.
        let before = other.partition_point(|it| it.sent < sample.sent);
        let (before, _) = other.split_at(before);
        let before = before.iter().rev().find(|it| it.precedes(sample));
        if let Some(before) = before.filter(|it| bounded(it, sample)) {
            let Some(step) = step(before, sample) else {
                return Bounds::Breaks;
            };
            most = most.min(step - 1);
            least = least.max(step - longest as i64);
            from_above = true;
        }
        let behind = other.partition_point(|it| it.sent < sample.received);
        if let Some(behind) = other.get(behind).filter(|it| bounded(sample, it)) {
            let Some(step) = step(sample, behind) else {
                return Bounds::Breaks;
            };
            least = least.max(1 - step);
            most = most.min(longest as i64 - step);
            from_below = true;
        }
    }
    match from_below && from_above {
        // Unmoved it fits, so that 0 is between the two.
        true => Bounds::Fits {
            slack: most.saturating_sub(least).unsigned_abs() + 1,
        },
        false => Bounds::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aliases::Draw;
    use crate::time::Instant;

    /// The address' samples: when (ms) and which number; each takes `way` ms.
    fn samples(of: &[(u64, u32)], way: u64) -> Vec<Sample> {
        let ms = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        of.iter()
            .map(|(at, id)| Sample {
                sent: ms(*at),
                received: ms(at + way),
                id: *id,
                own: 0,
            })
            .collect()
    }

    fn check(one: &[(u64, u32)], other: &[(u64, u32)], way: u64) -> Bounds {
        let (one, other) = (samples(one, way), samples(other, way));
        let both = merged(&one, &other, Width::Sixteen, false, 10.0);
        let turned = merged(&other, &one, Width::Sixteen, false, 10.0);
        assert_eq!(both, turned, "whichever comes first");
        both
    }

    #[test]
    fn a_counter_that_only_we_move_leaves_no_slack() {
        let fits = check(&[(0, 7), (200, 9), (400, 11)], &[(100, 8), (300, 10)], 20);
        assert_eq!(fits, Bounds::Fits { slack: 1 });
        // Around its end.
        let fits = check(&[(0, 65_535), (200, 1)], &[(100, 0), (300, 2)], 20);
        assert_eq!(fits, Bounds::Fits { slack: 1 });
    }

    #[test]
    fn slack_is_how_far_a_series_can_be_moved() {
        let one = [(0, 100), (200, 140), (400, 170)];
        let other = [(100, 120), (300, 150)];
        assert_eq!(check(&one, &other, 20), Bounds::Fits { slack: 29 });
        let moved = |by: i64| {
            let other = other.map(|(at, id)| (at, (i64::from(id) + by) as u32));
            check(&one, &other, 20)
        };
        let fitting = (-200..200).filter(|by| moved(*by) != Bounds::Breaks);
        assert_eq!(fitting.count(), 29);
    }

    #[test]
    fn samples_that_overlap_in_time_bound_nothing() {
        // 300 ms on the way: all of them are.
        assert_eq!(
            check(&[(0, 7), (200, 9)], &[(100, 5000), (200, 6)], 300),
            Bounds::Unknown
        );
        let (one, other) = (samples(&[(0, 7)], 20), samples(&[(100, 8)], 20));
        // It may have been around.
        let both = merged(&one, &other, Width::Sixteen, false, 1e9);
        assert_eq!(both, Bounds::Unknown);
    }

    #[test]
    fn unrelated_counters_fit_as_often_as_the_slack_says() {
        let mut draw = Draw::new(11);
        let one: Vec<_> = (0..6_u32)
            .map(|nth| (u64::from(nth) * 200, nth * 400))
            .collect();
        let (mut fitting, tries) = (0_u32, 200_000_u32);
        for _ in 0..tries {
            let begin = draw.below(1 << 16) as u32;
            let other: Vec<_> = (0..6_u32)
                .map(|nth| (u64::from(nth) * 200 + 100, (begin + nth * 400) & 0xffff))
                .collect();
            if let Bounds::Fits { slack } = check(&one, &other, 20) {
                assert_eq!(slack, 399);
                fitting += 1;
            }
        }
        // 399 in 65,536.
        let share = f64::from(fitting) / f64::from(tries);
        assert!((share - 399.0 / 65_536.0).abs() < 6e-4, "{share}");
    }
}
