//! The tables of IPv4 flows and remote ends that the XDP program looks into,
//! written through a mapping: no system call a flow.
//!
//! The program reads a bucket while it is written. What it sees is right because
//!
//! * an entry's state word, which says that there is one, is stored last when the
//!   entry comes and first when it goes, and the program loads it first. A word
//!   is stored whole: the kernel's processors have words of 64 bits;
//! * all stores release: whoever sees one sees those before it. Where an entry is
//!   replaced between the two loads, the program sees the state word of the old
//!   and the addresses of the new, and would hand a packet of the new flow to the
//!   old session: there is none before the flow's first packet was sent;
//! * processors that load in another order than the program has it (x86 does not)
//!   may see it the other way round: a last packet of the old flow, if its ports
//!   are those of the new, goes to the new session, which does not know its
//!   sequence numbers. The kernel's hash map, which uses elements again at once,
//!   promises no more;
//! * what does not fit is in the hash map before its bucket says so, and no
//!   packet is sent before both; a bucket says so no longer only when the hash
//!   map has none of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use insession_common::bucket::{self, Bucket, Found, GAP, Key};

use super::umem::Mapping;

/// The secret of this run.
pub(super) fn secret() -> Key {
    // SipHash under a key that the kernel's random numbers gave.
    let random = RandomState::new();
    [0_u8, 1, 2, 3].map(|number| random.hash_one(number))
}

/// A table whose entries have so many words.
pub(super) struct Buckets<const WORDS: usize> {
    mapping: Mapping,
    key: Key,
    mask: u32,
    /// How many entries of a bucket are in the hash map; no bucket has 0.
    elsewhere: HashMap<u32, u32>,
}

impl<const WORDS: usize> Buckets<WORDS> {
    /// Maps the elements of an array map that was made with BPF_F_MMAPABLE and
    /// has this many, a power of two.
    pub(super) fn map(fd: BorrowedFd<'_>, buckets: u32, key: Key) -> io::Result<Self> {
        let length = buckets as usize * size_of::<Bucket>();
        Ok(Self::over(Mapping::shared(length, fd, 0)?, buckets, key))
    }

    fn over(mapping: Mapping, buckets: u32, key: Key) -> Self {
        assert!(buckets.is_power_of_two() && WORDS <= 2);
        assert!(mapping.length() >= buckets as usize * size_of::<Bucket>());
        Buckets {
            mapping,
            key,
            mask: buckets - 1,
            elsewhere: HashMap::new(),
        }
    }

    /// Where the entry of these words belongs.
    pub(super) fn number(&self, words: [u32; 3]) -> u32 {
        bucket::hash(&self.key, words) & self.mask
    }

    fn bucket(&self, number: u32) -> &[AtomicU64; 8] {
        let number = (number & self.mask) as usize;
        // SAFETY: the mapping has `mask + 1` buckets of 8 aligned words (checked
        // when it was made, and it begins at a page), lives as long as `self`,
        // and this process accesses it by atomics only.
        unsafe { &*self.mapping.start().cast().add(number).as_ptr() }
    }

    /// What the program finds.
    pub(super) fn find(&self, number: u32, entry: [u64; WORDS]) -> Found {
        let bucket = self.bucket(number);
        bucket::find(entry, |at| {
            bucket
                .get(at)
                .map_or(0, |word| word.load(Ordering::Relaxed))
        })
    }

    /// Puts an entry into its bucket; `false`: there is no room.
    #[must_use]
    pub(super) fn insert(&self, number: u32, entry: [u64; WORDS]) -> bool {
        let mut slots = self.bucket(number).chunks_exact(WORDS);
        let free = slots.find(|slot| !slot.last().is_some_and(is_live));
        let Some(slot) = free else {
            return false;
        };
        for (word, value) in slot.iter().zip(entry) {
            word.store(value, Ordering::Release);
        }
        true
    }

    /// Takes an entry out of its bucket; whether it was there.
    pub(super) fn remove(&self, number: u32, entry: [u64; WORDS]) -> bool {
        let Found::Here(state) = self.find(number, entry) else {
            return false;
        };
        let left = match self.elsewhere.contains_key(&number) {
            true => GAP,
            false => 0,
        };
        for slot in self.bucket(number).chunks_exact(WORDS) {
            let Some((last, others)) = slot.split_last() else {
                continue;
            };
            let is_it = last.load(Ordering::Relaxed) == state
                && others
                    .iter()
                    .zip(entry)
                    .all(|(word, wanted)| word.load(Ordering::Relaxed) == wanted);
            if is_it {
                last.store(left, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Whether some entry of this bucket is in the hash map.
    pub(super) fn has_elsewhere(&self, number: u32) -> bool {
        self.elsewhere.contains_key(&number)
    }

    /// One more entry of this bucket is in the hash map: written there already.
    pub(super) fn one_elsewhere(&mut self, number: u32) {
        let count = self.elsewhere.entry(number).or_default();
        *count = count.saturating_add(1);
        for state in states::<WORDS>(self.bucket(number)) {
            if state.load(Ordering::Relaxed) == 0 {
                state.store(GAP, Ordering::Release);
            }
        }
    }

    /// One less is: removed there already.
    pub(super) fn one_less_elsewhere(&mut self, number: u32) {
        let Some(count) = self.elsewhere.get_mut(&number) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.elsewhere.remove(&number);
        for state in states::<WORDS>(self.bucket(number)) {
            if !is_live(state) {
                state.store(0, Ordering::Release);
            }
        }
    }

    /// All entries.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Vec<[u64; WORDS]> {
        (0..=self.mask)
            .flat_map(|number| self.bucket(number).chunks_exact(WORDS))
            .filter(|slot| slot.last().is_some_and(is_live))
            .map(|slot| std::array::from_fn(|at| slot[at].load(Ordering::Relaxed)))
            .collect()
    }

    /// Whether no bucket has an entry or a gap.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        (0..=self.mask)
            .flat_map(|number| states::<WORDS>(self.bucket(number)))
            .all(|state| state.load(Ordering::Relaxed) == 0)
    }
}

/// The table of local ports, an element of an array map each, written in the same way.
/// A store is seen whole; none has to be seen before another.
pub(super) struct Ports(Mapping);

/// An array map's elements begin at multiples of eight octets (`array_map_alloc`,
/// kernel/bpf/arraymap.c).
const PORT: usize = 8;

impl Ports {
    /// Maps the elements of an array map that was made with BPF_F_MMAPABLE and has one
    /// of 32 bits for each port.
    pub(super) fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let length = (usize::from(u16::MAX) + 1) * PORT;
        Ok(Ports(Mapping::shared(length, fd, 0)?))
    }

    fn element(&self, port: u16) -> &AtomicU32 {
        // SAFETY: the mapping has an aligned element for each port, lives as long as
        // `self`, and this process accesses it by atomics only.
        unsafe {
            let start = self.0.start().add(usize::from(port) * PORT);
            &*start.cast::<AtomicU32>().as_ptr()
        }
    }

    /// What the program finds for this port.
    #[cfg(test)]
    pub(super) fn get(&self, port: u16) -> u32 {
        self.element(port).load(Ordering::Relaxed)
    }

    /// Writes it.
    pub(super) fn set(&self, port: u16, live: u32) {
        self.element(port).store(live, Ordering::Release);
    }
}

fn is_live(state: &AtomicU64) -> bool {
    bucket::is_live(state.load(Ordering::Relaxed))
}

/// The state words of a bucket.
fn states<const WORDS: usize>(bucket: &[AtomicU64; 8]) -> impl Iterator<Item = &AtomicU64> {
    bucket
        .chunks_exact(WORDS)
        .filter_map(|slot: &[AtomicU64]| slot.last())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Map;

    use bucket::{FLOW, PEER};
    use proptest::prelude::*;

    use super::*;

    fn table<const WORDS: usize>(buckets: u32) -> Buckets<WORDS> {
        let mapping = Mapping::anonymous(buckets as usize * 64).unwrap();
        Buckets::over(mapping, buckets, secret())
    }

    #[test]
    fn secrets_differ() {
        let key = secret();
        assert_ne!(key, secret());
        assert!(key.iter().all(|word| word.count_ones() > 4), "{key:x?}");
    }

    /// As [`super::super::flow_maps`] does it, with a plain map for the kernel's.
    struct Both<const WORDS: usize> {
        table: Buckets<WORDS>,
        elsewhere: Map<[u32; 3], u64>,
        live: Map<[u32; 3], [u64; WORDS]>,
    }

    impl<const WORDS: usize> Both<WORDS> {
        fn insert(&mut self, words: [u32; 3], entry: [u64; WORDS]) {
            if self.live.contains_key(&words) {
                return;
            }
            let number = self.table.number(words);
            if !self.table.insert(number, entry) {
                self.elsewhere.insert(words, entry[WORDS - 1]);
                self.table.one_elsewhere(number);
            }
            self.live.insert(words, entry);
        }

        fn remove(&mut self, words: [u32; 3], entry: [u64; WORDS]) {
            let was = self.live.remove(&words).is_some();
            let number = self.table.number(words);
            let mut gone = self.table.remove(number, entry);
            if !gone && self.elsewhere.remove(&words).is_some() {
                self.table.one_less_elsewhere(number);
                gone = true;
            }
            assert_eq!(gone, was);
        }

        /// What the program makes of it.
        fn get(&self, words: [u32; 3], entry: [u64; WORDS]) -> Option<u64> {
            match self.table.find(self.table.number(words), entry) {
                Found::Here(state) => Some(state),
                Found::Nowhere => None,
                Found::Elsewhere => self.elsewhere.get(&words).copied(),
            }
        }
    }

    fn agree<const WORDS: usize>(
        buckets: u32,
        steps: Vec<(bool, u32, u32)>,
        entry: impl Fn([u32; 3], u32) -> [u64; WORDS],
    ) {
        let mut both = Both {
            table: table::<WORDS>(buckets),
            elsewhere: Map::new(),
            live: Map::new(),
        };
        for (adds, name, id) in steps {
            let words = [name, 0, 0];
            if adds {
                both.insert(words, entry(words, id));
            } else {
                both.remove(words, entry(words, 0));
            }
            for name in 0..40 {
                let words = [name, 0, 0];
                let expected = both.live.get(&words).map(|entry| entry[WORDS - 1]);
                assert_eq!(both.get(words, entry(words, 0)), expected);
            }
        }
        for name in 0..40 {
            let words = [name, 0, 0];
            both.remove(words, entry(words, 0));
        }
        assert!(both.table.is_blank());
    }

    proptest! {
        /// 40 flows for 4 or 32 places: buckets run over all the time.
        #[test]
        fn a_table_is_a_map(
            buckets in prop_oneof![Just(1_u32), Just(8)],
            steps in prop::collection::vec((any::<bool>(), 0..40_u32, 0..u32::MAX), 0..200),
        ) {
            agree::<FLOW>(buckets, steps.clone(), |[name, ..], id| bucket::flow(name, 7, 9, id));
            agree::<PEER>(buckets, steps, |[name, ..], _| bucket::peer(name, 443));
        }
    }
}
