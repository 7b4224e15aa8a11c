//! Medians and their spread: what a handful of rounds is worth.

use insession::bench::Figure;
use serde::Serialize;

/// One figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many rounds it was measured in.
    pub rounds: usize,
}

impl Spread {
    /// Of these values; `None` when there is none, or one is not a number.
    pub fn of(values: &[f64]) -> Option<Spread> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let figure = Figure::new(values.iter().copied());
        Some(Spread {
            median: figure.median?,
            min: figure.min?,
            max: figure.max?,
            rounds: values.len(),
        })
    }

    /// The ratio round by round: two things measured one after the other share
    /// what the machine was like at that moment, which their medians do not.
    pub fn of_ratios(above: &[f64], below: &[f64]) -> Option<Spread> {
        let ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
        Spread::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle_one() {
        let spread = Spread::of(&[5.0, 1.0, 3.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 5.0));
        assert_eq!(spread.rounds, 3);
        let even = Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!(even.median, 3.0);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let spread = Spread::of_ratios(&[10.0, 20.0, 10.0], &[5.0, 10.0, 4.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 2.0, 2.5));
    }
}
