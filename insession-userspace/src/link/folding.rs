//! A hash by multiplying and folding under a secret, for tables whose keys the user and
//! this process choose, not those who answer: a tenth of what SipHash takes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Makes such hashes under a secret of its own.
#[derive(Clone, Debug)]
pub(crate) struct Folding([u64; 2]);

impl Default for Folding {
    fn default() -> Self {
        // SipHash under a key that the kernel's random numbers gave.
        let random = RandomState::new();
        let [begin, factor] = [0_u8, 1].map(|number| random.hash_one(number));
        Folding([begin, factor | 1])
    }
}

impl BuildHasher for Folding {
    type Hasher = Folder;

    fn build_hasher(&self) -> Folder {
        let Folding([state, factor]) = *self;
        Folder { state, factor }
    }
}

/// A hash on the way.
#[derive(Debug)]
pub(crate) struct Folder {
    state: u64,
    factor: u64,
}

impl Folder {
    /// Both halves of the product count: every bit of it depends on those below.
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folder {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_ne_bytes(word));
        }
    }

    /// Lengths and kinds, between what tells members apart: no step of its own.
    fn write_usize(&mut self, number: usize) {
        self.state = self.state.rotate_left(7) ^ number as u64;
    }
}
