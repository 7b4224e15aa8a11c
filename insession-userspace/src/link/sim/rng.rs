//! Chance from a seed: SplitMix64 (Steele, Lea, Flood 2014), the same numbers on
//! every machine.

use std::hash::{BuildHasherDefault, Hasher};

use crate::time::Duration;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with this probability. Takes no number where it is 0, so that a
    /// fault that is off does not move the others.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.next() >> 11) as f64 / (1u64 << 53) as f64 <= probability
    }

    pub(super) fn span(&mut self, longest: Duration) -> Duration {
        match u64::try_from(longest.as_nanos()) {
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(nanos) => Duration::from_nanos(self.below(nanos)),
        }
    }
}

/// SplitMix64's finalizer: a good hash of 64 bits.
pub(super) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A hasher without the process's random key: maps cost the same every run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixer(u64);

/// Makes [`Mixer`]s.
pub(super) type Mixers = BuildHasherDefault<Mixer>;

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (slot, byte) in word.iter_mut().zip(chunk) {
                *slot = *byte;
            }
            self.0 = mix(self.0 ^ u64::from_le_bytes(word));
        }
    }
}
