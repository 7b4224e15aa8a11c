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
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let (longs, rest) = bytes.as_chunks::<4>();
        for long in longs {
            sum += u64::from(u32::from_be_bytes(*long));
        }
        let mut last = [0; 4];
        for (slot, byte) in last.iter_mut().zip(rest) {
            *slot = *byte;
        }
        Sum(sum + u64::from(u32::from_be_bytes(last)))
    }

    /// With the pseudo-header of TCP or ICMPv6 (RFC 9293 §3.1, RFC 8200 §8.1).
    /// The two addresses are of one family.
    #[must_use]
    pub fn pseudo(self, source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Self {
        self.address(source)
            .address(destination)
            .word(u16::from(protocol))
            .long(length)
    }

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
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
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

/// The checksum after one 16-bit word of what it covers became another: equation
/// 3 of RFC 1624, HC' = ~(~HC + ~m + m'). Equation 4 would turn some into -0.
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::from_folded(!checksum).word(!old).word(new).finish()
}
