//! Seeded pseudo-randomness with a state of a few words: a permutation of any
//! size, and numbers that stand for addresses within prefixes.
//!
//! The order in which targets are taken is spread over networks, as ZMap's and
//! yarrp's is, so that no network sees its addresses traced in a row. It is no
//! secret: who knows the seed knows the order.

/// Rounds of the Feistel network. Four make one that no statistics of pairs tells
/// from a random permutation (Luby and Rackoff); the halves of small ones are so
/// few that two more are worth their nanoseconds.
const ROUNDS: u64 = 6;

/// A pseudo-random permutation of 0..size: a generalised Feistel network (Black and
/// Rogaway, Ciphers with Arbitrary Finite Domains, 2002, §5) over a rectangle of
/// rows and columns that holds `size` and hardly more; what falls into the rest is
/// put through again (cycle walking), which keeps it exactly one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    size: u64,
    rows: u64,
    columns: u64,
    key: u64,
}

impl Permutation {
    /// The permutation of this size that `seed` and `nth` name. `size` is at most
    /// 2^62, so that the rectangle can be counted.
    #[must_use]
    pub fn new(size: u64, seed: u64, nth: u64) -> Self {
        let rows = match size.isqrt() {
            root if root * root < size => root + 1,
            root => root.max(1),
        };
        Permutation {
            size,
            rows,
            columns: size.div_ceil(rows).max(1),
            key: number(&[seed, nth]),
        }
    }

    /// Where `place` is sent; `None` beyond the end.
    #[must_use]
    pub fn of(&self, place: u64) -> Option<u64> {
        if place >= self.size {
            return None;
        }
        // The rectangle has fewer than 2 √size cells too many: one walk in a
        // million is longer than a step for sizes that matter. And it ends: the
        // cycle of `place` leads back to it.
        let mut at = self.step(place);
        while at >= self.size {
            at = self.step(at);
        }
        Some(at)
    }

    /// One to one over the whole rectangle: each round moves one half by what the
    /// other says.
    fn step(&self, at: u64) -> u64 {
        let (mut row, mut column) = (at / self.columns, at % self.columns);
        for round in 0..ROUNDS {
            let key = self.key.wrapping_add(round);
            if round % 2 == 0 {
                column = moved(column, mix(row ^ mix(key)), self.columns);
            } else {
                row = moved(row, mix(column ^ mix(key)), self.rows);
            }
        }
        row * self.columns + column
    }
}

/// `from`, moved on by a pseudo-random part of `size`, around its end.
fn moved(from: u64, random: u64, size: u64) -> u64 {
    let sum = from + below(random, size);
    if sum >= size { sum - size } else { sum }
}

/// A 64-bit pseudo-random number made one below `size`, without a division
/// (Lemire, Fast Random Integer Generation in an Interval, 2019).
fn below(random: u64, size: u64) -> u64 {
    // Of a product of two 64-bit numbers the upper half fits.
    ((u128::from(random) * u128::from(size)) >> 64) as u64
}

/// A number that all these words together stand for.
#[must_use]
pub fn number(words: &[u64]) -> u64 {
    let absorb = |state, word: &u64| mix(mix(state) ^ word);
    mix(words.iter().fold(0x696e_7365_7373_696f, absorb))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): one to one, every bit of
/// the input turns half of the output's.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_one_to_one(permutation: Permutation) -> bool {
        let size = usize::try_from(permutation.size).unwrap();
        let mut seen = vec![false; size];
        for place in 0..permutation.size {
            let at = permutation.of(place).unwrap();
            let seen = &mut seen[usize::try_from(at).unwrap()];
            if std::mem::replace(seen, true) {
                return false;
            }
        }
        permutation.of(permutation.size).is_none()
    }

    #[test]
    fn small_ones_are_one_to_one() {
        for size in 0..600 {
            for seed in 0..5 {
                assert!(is_one_to_one(Permutation::new(size, seed, 0)), "{size}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_size_is_one_to_one(size in 0_u64..200_000, seed: u64, nth: u64) {
            prop_assert!(is_one_to_one(Permutation::new(size, seed, nth)));
        }

        #[test]
        fn large_ones_stay_inside(size in 1_u64..=1 << 62, seed: u64, place: u64) {
            let permutation = Permutation::new(size, seed, 0);
            let place = place % size;
            let at = permutation.of(place).unwrap();
            prop_assert!(at < size);
            // No other place is sent there, as far as can be looked.
            for other in [place ^ 1, place.wrapping_add(2), 0, size - 1] {
                if other != place && other < size {
                    prop_assert_ne!(permutation.of(other), Some(at));
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_another() {
        let order = |seed, nth| {
            let permutation = Permutation::new(1000, seed, nth);
            (0..1000).map(move |place| permutation.of(place).unwrap())
        };
        assert!(order(1, 2).eq(order(1, 2)));
        for other in [order(2, 2), order(1, 3)] {
            let same = order(1, 2).zip(other).filter(|(a, b)| a == b).count();
            assert!(same < 20, "{same} of 1000 where they were");
        }
        // A release that changed it could not resume a campaign of this one.
        let first: Vec<_> = order(7, 0).take(6).collect();
        assert_eq!(first, PINNED);
    }

    const PINNED: [u64; 6] = [408, 705, 747, 745, 727, 348];

    /// The addresses of one network are spread over the whole order: the tenth that
    /// stand first in the list make a tenth of every stretch of it.
    #[test]
    fn neighbours_in_the_list_are_far_apart_in_the_order() {
        const SIZE: u64 = 1 << 20;
        const STRETCH: u64 = 4096;
        let permutation = Permutation::new(SIZE, 42, 0);
        for stretch in 0..SIZE / STRETCH {
            let places = stretch * STRETCH..(stretch + 1) * STRETCH;
            let early = places.filter(|place| permutation.of(*place).unwrap() < SIZE / 10);
            let early = early.count() as f64 / STRETCH as f64;
            // Ten standard deviations of a fair draw.
            assert!((early - 0.1).abs() < 0.047, "{early} in stretch {stretch}");
        }
        let apart = (0..SIZE - 1).filter(|place| {
            let [one, next] = [*place, place + 1].map(|place| permutation.of(place).unwrap());
            one.abs_diff(next) < 256
        });
        // 512 in 2^20 by chance.
        let close = apart.count();
        assert!((256..1024).contains(&close), "{close} steps within a /24");
    }
}
