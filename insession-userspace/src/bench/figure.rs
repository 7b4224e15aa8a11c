//! One quantity, measured in several rounds.

use serde::Serialize;

/// One quantity: all its rounds, and what they come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// The middle one; of an even number the mean of the middle two. Null when
    /// nothing was measured.
    pub median: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
    /// Every round, in the order they were measured.
    pub rounds: Vec<f64>,
}

impl Figure {
    /// Of these rounds. What is not a number (a rate over no time) is left out.
    #[must_use]
    pub fn new(rounds: impl IntoIterator<Item = f64>) -> Self {
        let rounds: Vec<f64> = rounds
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match (sorted.len() % 2, sorted.get(middle)) {
            (1, Some(value)) => Some(*value),
            (_, Some(above)) => sorted
                .get(middle.wrapping_sub(1))
                .map(|below| f64::midpoint(*below, *above)),
            (_, None) => None,
        };
        Figure {
            median,
            min: sorted.first().copied(),
            max: sorted.last().copied(),
            rounds,
        }
    }

    /// Of the optional rounds that there are.
    #[must_use]
    pub fn of(rounds: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self::new(rounds.into_iter().flatten())
    }

    /// Greatest distance of a round from the median, as a part of it.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let (median, min, max) = (self.median?, self.min?, self.max?);
        (median != 0.0).then(|| (max - median).max(median - min) / median.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn middle_of_odd_and_even() {
        let figure = Figure::new([3.0, 1.0, 2.0]);
        assert_eq!(
            (figure.median, figure.min, figure.max),
            (Some(2.0), Some(1.0), Some(3.0))
        );
        assert_eq!(figure.rounds, [3.0, 1.0, 2.0], "in their order");
        assert_eq!(Figure::new([4.0, 1.0]).median, Some(2.5));
        assert_eq!(Figure::new([]), Figure::default());
        assert_eq!(Figure::new([f64::NAN, 7.0, f64::INFINITY]).rounds, [7.0]);
        assert_eq!(Figure::of([None, Some(7.0)]).median, Some(7.0));
    }

    #[test]
    fn spread_is_the_farthest_round() {
        assert_eq!(Figure::new([90.0, 100.0, 105.0]).spread(), Some(0.1));
        assert_eq!(Figure::new([0.0]).spread(), None);
    }

    proptest! {
        #[test]
        fn half_lie_on_each_side(rounds in prop::collection::vec(-1e9f64..1e9, 1..40)) {
            let figure = Figure::new(rounds.iter().copied());
            let median = figure.median.unwrap();
            let below = rounds.iter().filter(|value| **value < median).count();
            let above = rounds.iter().filter(|value| **value > median).count();
            prop_assert!(below * 2 <= rounds.len() && above * 2 <= rounds.len());
            prop_assert!(figure.min.unwrap() <= median && median <= figure.max.unwrap());
        }
    }
}
