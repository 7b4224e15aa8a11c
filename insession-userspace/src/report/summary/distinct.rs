//! How many different addresses there are: exactly while they are few, else about.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

/// Addresses that are counted exactly: some 3 MiB.
const EXACT: usize = 65_536;
/// Registers, a power of two: by Flajolet and others (HyperLogLog, 2007) the count is
/// good to 1.04 / √16384, 0.8 %.
const REGISTERS: usize = 1 << BITS;
const BITS: u32 = 14;

/// The count.
#[derive(Debug)]
pub(super) enum Distinct {
    Exact(HashSet<IpAddr>),
    About(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::Exact(HashSet::new())
    }
}

impl Distinct {
    pub(super) fn add(&mut self, address: IpAddr) {
        match self {
            Distinct::Exact(known) => {
                known.insert(address);
                if known.len() > EXACT {
                    let mut registers = Box::new([0; REGISTERS]);
                    known.iter().for_each(|it| register(&mut registers, *it));
                    *self = Distinct::About(registers);
                }
            }
            Distinct::About(registers) => register(registers, address),
        }
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        match self {
            Distinct::Exact(known) => known.len() as u64,
            Distinct::About(registers) => {
                let many = REGISTERS as f64;
                let sum: f64 = registers.iter().map(|it| 0.5_f64.powi((*it).into())).sum();
                let estimate = 0.7213 / (1.0 + 1.079 / many) * many * many / sum;
                let empty = registers.iter().filter(|it| **it == 0).count();
                // Below some 2.5 registers' worth, empty registers tell more (linear
                // counting).
                if estimate <= 2.5 * many && empty > 0 {
                    (many * (many / empty as f64).ln()).round() as u64
                } else {
                    estimate.round() as u64
                }
            }
        }
    }

    /// Whether that is exact.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Distinct::Exact(_))
    }
}

fn register(registers: &mut [u8; REGISTERS], address: IpAddr) {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    let hash = hasher.finish();
    let at = (hash >> (64 - BITS)) as usize;
    // The rest of the hash, and an end to its zeros.
    let rank = ((hash << BITS) | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
    if let Some(register) = registers.get_mut(at) {
        *register = rank.max(*register);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_exact_and_many_are_near() {
        let mut distinct = Distinct::default();
        for number in 0..1_000_000_u32 {
            for _ in 0..2 {
                distinct.add(IpAddr::from(number.to_be_bytes()));
            }
            let count = u64::from(number) + 1;
            if number < 60_000 {
                assert!(distinct.is_exact() && distinct.count() == count);
            } else if number % 99_999 == 0 {
                let found = distinct.count();
                // Four standard deviations.
                let off = found.abs_diff(count) as f64 / count as f64;
                assert!(off < 0.0325, "{found} of {count}");
                assert!(!distinct.is_exact());
            }
        }
    }
}
