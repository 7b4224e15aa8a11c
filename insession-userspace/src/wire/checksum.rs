//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A [`Sum`] is the partial sum: parts are added in any order and grouping, as
//! long as each begins at an even offset of what is summed.

use core::net::IpAddr;

/// A partial one's complement sum. Enough room for 2³² bytes without folding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing.
    pub const ZERO: Sum = Sum(0);

    /// A sum folded before, to go on from.
    #[must_use]
    pub const fn from_folded(folded: u16) -> Self {
        Sum(folded as u64)
    }

    /// With one more 16-bit word.
    #[must_use]
    #[inline]
    pub const fn word(self, word: u16) -> Self {
        Sum(self.0 + word as u64)
    }

    /// With a 32-bit word: its halves need not be added apart, 2¹⁶ ≡ 1.
    #[must_use]
    #[inline]
    pub const fn long(self, long: u32) -> Self {
        Sum(self.0 + long as u64)
    }

    /// With `bytes`; an odd one at the end is padded with zero.
    #[must_use]
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Eight at a time in the processor's byte order, which the sum does not
        // depend on but for its own (RFC 1071 §2 B), carries added around the end.
        let (longs, mut rest) = bytes.as_chunks::<8>();
        let mut sum = 0u64;
        let mut add = |long: u64| {
            let (low, carry) = sum.overflowing_add(long);
            sum = low + u64::from(carry);
        };
        for long in longs {
            add(u64::from_ne_bytes(*long));
        }
        if let Some((four, behind)) = rest.split_first_chunk::<4>() {
            add(u64::from(u32::from_ne_bytes(*four)));
            rest = behind;
        }
        if let Some((two, behind)) = rest.split_first_chunk::<2>() {
            add(u64::from(u16::from_ne_bytes(*two)));
            rest = behind;
        }
        if let [last] = rest {
            add(u64::from(u16::from_ne_bytes([*last, 0])));
        }
        let halves = Sum((sum & 0xffff_ffff) + (sum >> 32));
        self.word(u16::from_be(halves.fold()))
    }

    /// With the pseudo-header of TCP or ICMPv6 (RFC 9293 §3.1, RFC 8200 §8.1).
    /// The two addresses are of one family.
    #[must_use]
    #[inline]
    pub fn pseudo(self, source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Self {
        self.address(source)
            .address(destination)
            .word(u16::from(protocol))
            .long(length)
    }

    #[inline]
    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.long(v4.to_bits()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// Folded to 16 bits, carries added around the end.
    #[must_use]
    #[inline]
    pub const fn fold(self) -> u16 {
        // 33 bits are left, then 18, then 17, then 16.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// The checksum: what goes into the header's field.
    #[must_use]
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether a sum over bytes that hold their checksum says they are whole.
    #[must_use]
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The same of words in the processor's byte order, which it does not depend on
/// but for its own (RFC 1071 §2 B): nothing that goes on the wire is turned around
/// to be summed up. Enough room for 2³² of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NativeSum(u64);

impl NativeSum {
    /// A [`Sum`] folded before, to go on from.
    pub(super) const fn from_folded(folded: u16) -> Self {
        NativeSum(folded.to_be() as u64)
    }

    /// With two octets as they stand in the packet.
    #[inline]
    pub(super) const fn half(self, octets: [u8; 2]) -> Self {
        NativeSum(self.0 + u16::from_ne_bytes(octets) as u64)
    }

    /// With four.
    #[inline]
    pub(super) const fn long(self, octets: [u8; 4]) -> Self {
        NativeSum(self.0 + u32::from_ne_bytes(octets) as u64)
    }

    /// The checksum, as it stands in the packet.
    #[inline]
    pub(super) const fn finish(self) -> [u8; 2] {
        // Each half added to the other, carries and all: both halves are the sum.
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        (!sum).to_ne_bytes()
    }
}

/// The checksum after one 16-bit word of what it covers became another: equation
/// 3 of RFC 1624, HC' = ~(~HC + ~m + m'). Equation 4 would turn some into -0.
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::from_folded(!checksum).word(!old).word(new).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, word by word.
    fn oracle(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: equation 2 would give 0xffff here.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn full_sums(bytes: Vec<u8>) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).finish(), oracle(&bytes));
        }

        #[test]
        fn sums_of_parts(bytes: Vec<u8>, at: proptest::sample::Index) {
            let (head, tail) = bytes.split_at(at.index(bytes.len() + 1) & !1);
            prop_assert_eq!(Sum::ZERO.bytes(tail).bytes(head).finish(), oracle(&bytes));
            let folded = Sum::ZERO.bytes(head).fold();
            prop_assert_eq!(Sum::from_folded(folded).bytes(tail).finish(), oracle(&bytes));
        }

        #[test]
        fn sums_of_octets_as_they_stand(words in proptest::collection::vec(any::<[u8; 4]>(), 0..99), half: [u8; 2]) {
            let folded = Sum::ZERO.bytes(&half).fold();
            let sum = words.iter().fold(NativeSum::from_folded(folded), |sum, word| sum.long(*word));
            let bytes: Vec<u8> = words.iter().flatten().chain(&half).copied().collect();
            let expected = Sum::ZERO.bytes(&bytes).finish().to_be_bytes();
            prop_assert_eq!(sum.finish(), expected);
            let bytes: Vec<u8> = bytes.iter().chain(&[7, 9]).copied().collect();
            let expected = Sum::ZERO.bytes(&bytes).finish().to_be_bytes();
            prop_assert_eq!(sum.half([7, 9]).finish(), expected);
        }

        /// The first word is not zero, as no header's is: of all zeros both
        /// 0 and -0 are a checksum.
        #[test]
        fn incremental_equals_full(
            mut words in proptest::collection::vec(any::<u16>(), 1..40),
            at: proptest::sample::Index,
            new: u16,
        ) {
            words.insert(0, 0x4500);
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            let at = 1 + at.index(words.len() - 1);
            let before = oracle(&bytes(&words));
            let old = core::mem::replace(&mut words[at], new);
            prop_assert_eq!(update(before, old, new), oracle(&bytes(&words)));
        }
    }
}
