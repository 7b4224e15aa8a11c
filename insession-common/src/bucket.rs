//! The tables in which the XDP program finds IPv4 flows and their remote ends:
//! arrays of buckets of one cache line, which user space writes through a mapping
//! of the same memory.
//!
//! The kernel's hash map costs three memory accesses that wait for one another:
//! the bucket's head, the element, and the next one where two share a bucket. Of
//! a million flows none of them is in a cache. Here it is one.
//!
//! A bucket is eight words. A flow takes two of them, its addresses and its state
//! word; a remote end takes one, which is its state word:
//!
//! | words | bits 63–32 of the state word | bits 31–0 |
//! |---|---|---|
//! | flow | complement of the session's id | remote port, local port |
//! | remote end | remote port, 1 | remote address |
//!
//! An entry whose state word has nothing in its upper half is none (the one id
//! whose complement is zero, [`UNRESOLVED`], is no session's). Its lower half
//! says whether there may be more: what does not fit its bucket lies in a hash
//! map, and that has to be asked unless some state word of the bucket is all
//! zero. Full buckets have none, and user space leaves a [`GAP`] where an entry
//! was while others of that bucket lie in the hash map.

use crate::flow::{SessionId, UNRESOLVED};

/// One cache line: as many entries as are looked at without another access.
pub type Bucket = [u64; 8];

/// Words of a flow in a bucket.
pub const FLOW: usize = 2;
/// Words of a remote end in a bucket.
pub const PEER: usize = 1;

/// The state word of no entry, in a bucket of which some lie elsewhere.
pub const GAP: u64 = 1;

/// The secret of a table. Who does not know it cannot choose flows that fall into
/// one bucket: two flows are in the same with a probability of one by the number of
/// buckets, whichever two they are.
pub type Key = [u64; 4];

/// What a lookup found in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The entry's state word.
    Here(u64),
    /// There is no such entry.
    Nowhere,
    /// If it is, it is in the hash map.
    Elsewhere,
}

/// The hash of three words under a key.
///
/// The sum is multilinear (Dietzfelbinger 1996, "Universal hashing and k-wise
/// independent random variables via integer arithmetic without primes"): of words
/// of 32 bits under keys of 64 its upper half is strongly 2-universal. It is also
/// linear, so that flows at equal distances would stand at equal distances; the
/// permutation that follows ends that and leaves the rest as it is.
#[inline(always)]
#[must_use]
pub const fn hash(key: &Key, words: [u32; 3]) -> u32 {
    let sum = key[0]
        .wrapping_add(key[1].wrapping_mul(words[0] as u64))
        .wrapping_add(key[2].wrapping_mul(words[1] as u64))
        .wrapping_add(key[3].wrapping_mul(words[2] as u64));
    let mut hash = (sum >> 32) as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x7feb_352d);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x846c_a68b);
    hash ^ (hash >> 16)
}

/// The words of an IPv4 flow's entry, for a session's id.
#[inline(always)]
#[must_use]
pub const fn flow(remote: u32, local: u32, ports: u32, session: SessionId) -> [u64; FLOW] {
    [
        remote as u64 | (local as u64) << 32,
        ports as u64 | (!session as u64) << 32,
    ]
}

/// Whose a flow's entry is, by its state word.
#[inline(always)]
#[must_use]
pub const fn session(state: u64) -> SessionId {
    !((state >> 32) as u32)
}

/// The word of a remote end's entry.
#[inline(always)]
#[must_use]
pub const fn peer(remote: u32, port: u16) -> [u64; PEER] {
    [remote as u64 | (port as u64) << 32 | 1 << 48]
}

/// Whether a state word is that of an entry.
#[inline(always)]
#[must_use]
pub const fn is_live(state: u64) -> bool {
    state >> 32 != 0
}

/// How many buckets a table for so many entries has: about twice as much room, or
/// more, since they are a power of two. That the kernel would allocate anyway,
/// for a process without CAP_PERFMON (kernel/bpf/arraymap.c, `index_mask`).
#[must_use]
pub const fn buckets(entries: u32, words: usize) -> u32 {
    let in_a_bucket = (size_of::<Bucket>() / size_of::<u64>() / words) as u32;
    entries.div_ceil(in_a_bucket / 2).next_power_of_two()
}

/// Looks for an entry, of which `load` reads the words.
///
/// The state word is read first: see the writer.
#[inline(always)]
pub fn find<const WORDS: usize>(wanted: [u64; WORDS], load: impl Fn(usize) -> u64) -> Found {
    let mut none_lies_elsewhere = false;
    let mut at = 0;
    while at < 8 {
        let state = load(at + WORDS - 1);
        if is_wanted::<WORDS>(state, wanted[WORDS - 1])
            && is_live(state)
            && (WORDS == PEER || load(at) == wanted[0])
        {
            return Found::Here(state);
        }
        none_lies_elsewhere |= state == 0;
        at += WORDS;
    }
    if none_lies_elsewhere {
        Found::Nowhere
    } else {
        Found::Elsewhere
    }
}

/// Of a flow's state word the lower half is its key; of a remote end's all is.
#[inline(always)]
const fn is_wanted<const WORDS: usize>(state: u64, wanted: u64) -> bool {
    if WORDS == PEER {
        state == wanted
    } else {
        state as u32 == wanted as u32
    }
}

const _: () = assert!(session(flow(1, 2, 3, 77)[1]) == 77);
const _: () = assert!(!is_live(flow(1, 2, 3, UNRESOLVED)[1]));
const _: () = assert!(is_live(peer(0, 0)[0]) && !is_live(GAP));

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
    ];

    #[test]
    fn there_is_twice_as_much_room_as_entries() {
        for (words, entries) in [(FLOW, 4), (PEER, 8)] {
            for wanted in [1, 2, 3, 7, 64, 1_000, 65_536, 1_000_000, 4_000_000] {
                let room = buckets(wanted, words) * entries;
                assert!(buckets(wanted, words).is_power_of_two());
                assert!(room >= 2 * wanted, "{room} for {wanted}");
                assert!(room <= 4 * wanted.max(entries), "{room} for {wanted}");
            }
        }
    }

    /// Addresses and ports in a row, as a scan has them.
    #[test]
    fn flows_in_a_row_are_spread() {
        const FLOWS: u32 = 1 << 16;
        let buckets = buckets(FLOWS, FLOW);
        let mut counts = [0_u8; 1 << 15];
        assert_eq!(counts.len(), buckets as usize);
        let mut over = 0;
        for number in 0..FLOWS {
            let words = [
                u32::from_be(0x0a00_0000 + number),
                u32::from_be(0xc000_0201),
                u32::from_be(443 << 16 | (61_000 + number % 4_096)),
            ];
            let count = &mut counts[(hash(&KEY, words) & (buckets - 1)) as usize];
            *count += 1;
            over += u32::from(*count > 4);
        }
        // Poisson's distribution of mean 2 has 3.6 % there.
        assert!(over < FLOWS / 20, "{over} of {FLOWS} do not fit");
    }

    #[test]
    fn an_entry_is_found_by_all_of_its_key() {
        let mut bucket: Bucket = [0; 8];
        let entry = flow(1, 2, 3, 0);
        let of = |bucket: Bucket, entry| find::<FLOW>(entry, |at| bucket[at]);
        assert_eq!(of(bucket, entry), Found::Nowhere);
        bucket[4..6].copy_from_slice(&entry);
        assert_eq!(of(bucket, flow(1, 2, 3, UNRESOLVED)), Found::Here(entry[1]));
        for other in [flow(9, 2, 3, 0), flow(1, 9, 3, 0), flow(1, 2, 9, 0)] {
            assert_eq!(of(bucket, other), Found::Nowhere);
        }
        for at in [1, 3, 7] {
            bucket[at] = GAP;
        }
        assert_eq!(of(bucket, flow(9, 2, 3, 0)), Found::Elsewhere);
        // A gap is no flow, not even that of ports like it.
        assert_eq!(of(bucket, flow(0, 0, 1, 0)), Found::Elsewhere);

        let ends = peer(1, 443);
        let bucket: Bucket = [GAP, ends[0], 0, 0, 0, 0, 0, 0];
        let of = |ends| find::<PEER>(ends, |at| bucket[at]);
        assert_eq!(of(ends), Found::Here(ends[0]));
        assert_eq!(of(peer(1, 444)), Found::Nowhere);
        assert_eq!(of(peer(2, 443)), Found::Nowhere);
    }
}
