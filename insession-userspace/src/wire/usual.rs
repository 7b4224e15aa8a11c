//! What nearly every reply on an IPv4 path is, read in one go: a time exceeded
//! that quotes a TCP segment, without options or extensions anywhere.
//!
//! Whoever finds a reading here finds the same by the long way ([`super::ip`],
//! [`super::icmp`]); where there is none, the long way says what it is.

use core::net::Ipv4Addr;

use super::icmp::{HEADER_LEN as ICMP_LEN, PADDED_QUOTE, V4_TIME_EXCEEDED};
use super::ip::{PROTOCOL_ICMP, PROTOCOL_TCP};
use super::ipv4::HEADER_LEN as IPV4_LEN;
use super::tcp::{HEADER_LEN as TCP_LEN, flags};
use super::template::{NOP_NOP_TIMESTAMPS, PROBE_OFFSET_AND_FLAGS, WINDOW, WINDOW_SCALE};

/// The two ends of an IPv4 segment as they stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEnds {
    /// Source and destination address.
    pub addresses: [u8; 8],
    /// Source and destination port.
    pub ports: [u8; 4],
}

/// A time exceeded, code 0, that quotes an IPv4 TCP segment as a session sends its
/// probes: whole and its checksum right, or cut short. Where as much is quoted, it has
/// their length, "don't fragment", flags, window, options and payload.
#[derive(Clone, Copy, Debug)]
pub struct Exceeded<'a> {
    head: &'a [u8; LEAST],
}

/// Where the quote begins.
const QUOTED: usize = IPV4_LEN + ICMP_LEN;
/// Headers down to the quoted sequence number.
const LEAST: usize = QUOTED + IPV4_LEN + 8;
/// From here on an extension may stand behind the quote that no length tells of.
const PADDED: usize = QUOTED + PADDED_QUOTE;
/// Octets of a probe as most are: header, timestamps, one byte.
const PROBE: usize = 33;
/// The same of one without timestamps.
const BARE_PROBE: usize = TCP_LEN + 1;
/// And of an error that quotes it whole.
const WHOLE: usize = QUOTED + IPV4_LEN + PROBE;

/// Some bits of eight octets that are to have a value.
struct Pattern {
    mask: u64,
    value: u64,
}

impl Pattern {
    const fn new(mask: [u8; 8], value: [u8; 8]) -> Self {
        Pattern {
            mask: u64::from_ne_bytes(mask),
            value: u64::from_ne_bytes(value),
        }
    }

    /// The bits that have not.
    #[inline]
    const fn odd(&self, octets: u64) -> u64 {
        octets & self.mask ^ self.value
    }
}

/// Header length, flags and window of a probe as most are.
const PROBE_WORD: u32 = (PROBE_OFFSET_AND_FLAGS as u32) << 16 | (WINDOW >> WINDOW_SCALE) as u32;
/// The same of one without timestamps.
const BARE_WORD: u32 = PROBE_WORD & 0x0fff_ffff | (TCP_LEN as u32 / 4) << 28;

const _: () = assert!(PROBE_OFFSET_AND_FLAGS as u8 == flags::ACK | flags::PSH);

/// Version 4, five words of header; no more fragments, no fragment offset.
const PLAIN: Pattern = Pattern::new(
    [0xff, 0, 0, 0, 0, 0, 0x3f, 0xff],
    [0x45, 0, 0, 0, 0, 0, 0, 0],
);

/// The same, and "don't fragment" set.
const UNSPLIT: Pattern = Pattern::new(
    [0xff, 0, 0, 0, 0, 0, 0x7f, 0xff],
    [0x45, 0, 0, 0, 0, 0, 0x40, 0],
);

/// The one or the other (`fragment` masks its octet), and so many octets.
const fn plain(len: usize, fragment: u8) -> Pattern {
    let [a, b] = (len as u16).to_be_bytes();
    Pattern::new(
        [0xff, 0, 0xff, 0xff, 0, 0, fragment, 0xff],
        [0x45, 0, a, b, 0, 0, fragment & 0x40, 0],
    )
}

const PLAIN_ERROR: Pattern = plain(WHOLE, 0x3f);
const PLAIN_PROBE: Pattern = plain(IPV4_LEN + PROBE, 0x7f);

/// The protocol, in the second eight octets.
const fn protocol(number: u8) -> Pattern {
    Pattern::new([0, 0xff, 0, 0, 0, 0, 0, 0], [0, number, 0, 0, 0, 0, 0, 0])
}

const ICMP: Pattern = protocol(PROTOCOL_ICMP);
const TCP: Pattern = protocol(PROTOCOL_TCP);

/// Type, code, and no length: one says that an extension follows (RFC 4884).
const EXCEEDED: Pattern = Pattern::new(
    [0xff, 0xff, 0, 0, 0, 0xff, 0, 0],
    [V4_TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0],
);

/// An IPv4 header without options, as words.
#[derive(Clone, Copy)]
struct Words(u64, u64, u32);

impl Words {
    #[inline]
    fn new(header: &[u8; IPV4_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *header;
        Words(
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            u32::from_ne_bytes([q, r, s, t]),
        )
    }

    #[inline]
    const fn sum(self) -> Total {
        Total(0).with(self.0).with(self.1).with(self.2 as u64)
    }
}

impl<'a> Exceeded<'a> {
    /// Checks a packet that arrived, from its IP header on; `None` where it is
    /// anything else, or anything is odd about it.
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        Self::of_probe(packet).or_else(|| Self::of_any(packet))
    }

    /// The same, where a whole probe with its timestamps is quoted, as most often.
    #[must_use]
    #[inline(always)]
    pub fn of_probe(packet: &'a [u8]) -> Option<Self> {
        let packet = packet.first_chunk::<WHOLE>()?;
        let head = packet.first_chunk()?;
        quotes_probe(packet).then_some(Exceeded { head })
    }

    /// It is of any length, and the header says which.
    fn of_any(packet: &'a [u8]) -> Option<Self> {
        let head = packet.first_chunk::<LEAST>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if !(LEAST..PADDED).contains(&len) || head[9] != PROTOCOL_ICMP {
            return None;
        }
        let segment = packet.get(QUOTED + IPV4_LEN..len)?;
        let said = usize::from(u16::from_be_bytes([head[QUOTED + 2], head[QUOTED + 3]]));
        let said = said.wrapping_sub(IPV4_LEN);
        if !is_of_probe(segment, said) {
            return None;
        }
        Self::check(head, segment.len(), sum_any(segment))
    }

    /// `len` octets of the quoted segment are there, and `behind` is their sum.
    fn check(head: &'a [u8; LEAST], len: usize, behind: Total) -> Option<Self> {
        let (outer, rest) = head.split_first_chunk::<IPV4_LEN>()?;
        let (icmp, rest) = rest.split_first_chunk::<ICMP_LEN>()?;
        let quoted = rest.first_chunk::<IPV4_LEN>()?;
        let icmp = u64::from_ne_bytes(*icmp);
        let (out, said) = (Words::new(outer), Words::new(quoted));
        let odd = PLAIN.odd(out.0) | UNSPLIT.odd(said.0) | ICMP.odd(out.1) | TCP.odd(said.1);
        let message = behind.and(said.sum()).with(icmp);
        if odd | EXCEEDED.odd(icmp) != 0 || !out.sum().is_valid() || !message.is_valid() {
            return None;
        }
        // Whole, with nothing behind it, and right; or cut short: then nothing is
        // said of its checksum, nor where the length is less than the header's.
        let said_len = usize::from(u16::from_be_bytes([quoted[2], quoted[3]]));
        let said_len = said_len.wrapping_sub(IPV4_LEN);
        if said_len > len {
            return Some(Exceeded { head });
        }
        if said_len < len {
            return None;
        }
        let addresses = u64::from_ne_bytes(*quoted.last_chunk::<8>()?);
        let segment = behind.with(addresses).with(tail(len));
        segment.is_valid().then_some(Exceeded { head })
    }

    /// Who sent it.
    #[must_use]
    #[inline]
    pub fn from(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.octets::<12, 4>())
    }

    /// TTL as it arrived.
    #[must_use]
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.head[8]
    }

    /// The quoted segment's ends.
    #[must_use]
    #[inline]
    pub fn ends(&self) -> RawEnds {
        RawEnds {
            addresses: self.octets::<{ QUOTED + 12 }, 8>(),
            ports: self.octets::<{ QUOTED + IPV4_LEN }, 4>(),
        }
    }

    /// Its sequence number.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(self.octets::<{ QUOTED + IPV4_LEN + 4 }, 4>())
    }

    /// Its TTL, as the router saw it.
    #[must_use]
    #[inline]
    pub fn quoted_ttl(&self) -> u8 {
        self.head[QUOTED + 8]
    }

    /// Whether it has timestamps, by its length.
    #[must_use]
    #[inline]
    pub fn is_stamped(&self) -> bool {
        self.head[QUOTED + 3] == (IPV4_LEN + PROBE) as u8
    }

    /// Its TOS octet.
    #[must_use]
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.head[QUOTED + 1]
    }

    #[inline]
    fn octets<const AT: usize, const N: usize>(&self) -> [u8; N] {
        part::<AT, N>(self.head)
    }
}

/// A TCP segment in an IPv4 packet of its own, without IP options, both checksums
/// right.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    header: &'a [u8; IPV4_LEN],
    bytes: &'a [u8],
}

impl<'a> Arrived<'a> {
    /// Checks a packet that arrived, from its IP header on; `None` where it is
    /// anything else, or anything is odd about it.
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<IPV4_LEN>()?;
        let words = Words::new(header);
        if PLAIN.odd(words.0) | TCP.odd(words.1) != 0 || !words.sum().is_valid() {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let bytes = rest.get(..len.checked_sub(IPV4_LEN)?)?;
        let addresses = u64::from_ne_bytes(part::<12, 8>(header));
        let sum = sum_any(bytes).with(addresses).with(tail(bytes.len()));
        (bytes.len() >= TCP_LEN && sum.is_valid()).then_some(Arrived { header, bytes })
    }

    /// TTL as it arrived.
    #[must_use]
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// The ends of a segment that it answers.
    #[must_use]
    #[inline]
    pub fn ends(&self) -> RawEnds {
        let addresses = u64::from_ne_bytes(part::<12, 8>(self.header));
        let ports = u32::from_ne_bytes(part::<0, 4>(self.bytes));
        RawEnds {
            addresses: addresses.rotate_left(32).to_ne_bytes(),
            ports: ports.rotate_left(16).to_ne_bytes(),
        }
    }

    /// The segment.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A part of a packet.
#[inline(always)]
fn part<const AT: usize, const N: usize>(packet: &[u8]) -> [u8; N] {
    match packet.get(AT..).and_then(<[u8]>::first_chunk) {
        Some(part) => *part,
        // No packet here is shorter.
        None => [0; N],
    }
}

/// The end of a pseudo-header: the protocol, and so many octets.
#[inline]
const fn tail(len: usize) -> u64 {
    let [a, b] = (len as u16).to_be_bytes();
    u32::from_ne_bytes([0, PROTOCOL_TCP, a, b]) as u64
}

/// Whether what is quoted of a segment, which has so many octets, is a probe's, but for
/// the numbers in it.
fn is_of_probe(quoted: &[u8], said: usize) -> bool {
    let stamped = match said {
        PROBE => true,
        BARE_PROBE => false,
        _ => return false,
    };
    let word = |at: usize| {
        let octets = quoted.get(at..).and_then(<[u8]>::first_chunk);
        octets.map(|octets| u32::from_be_bytes(*octets))
    };
    let first = if stamped { PROBE_WORD } else { BARE_WORD };
    let options = word(TCP_LEN).is_none_or(|word| word == NOP_NOP_TIMESTAMPS);
    // To a peer that does not scale.
    let unscaled = first & 0xffff_0000 | u32::from(WINDOW);
    word(12).is_none_or(|word| word == first || word == unscaled)
        && (options || !stamped)
        && quoted.get(said - 1).is_none_or(|octet| *octet == 0)
}

/// Whether it is a time exceeded that quotes a probe with its timestamps as long as
/// it was, with all checksums right. A function of its own: it needs all registers.
#[inline(never)]
fn quotes_probe(packet: &[u8; WHOLE]) -> bool {
    #[inline(always)]
    fn long<const AT: usize>(packet: &[u8; WHOLE]) -> u64 {
        u64::from_ne_bytes(part::<AT, 8>(packet))
    }
    #[inline(always)]
    fn short<const AT: usize>(packet: &[u8; WHOLE]) -> u64 {
        u32::from_ne_bytes(part::<AT, 4>(packet)).into()
    }
    const QUOTE: usize = QUOTED + IPV4_LEN;
    let (first, second) = (long::<0>(packet), long::<8>(packet));
    let icmp = long::<IPV4_LEN>(packet);
    let (third, fourth) = (long::<QUOTED>(packet), long::<{ QUOTED + 8 }>(packet));
    let odd = PLAIN_ERROR.odd(first)
        | ICMP.odd(second)
        | EXCEEDED.odd(icmp)
        | PLAIN_PROBE.odd(third)
        | TCP.odd(fourth);
    // What it says of itself, and its payload.
    let word = u32::from_ne_bytes(part::<{ QUOTE + 12 }, 4>(packet)) ^ PROBE_WORD.to_be();
    let options = u32::from_ne_bytes(part::<{ QUOTE + TCP_LEN }, 4>(packet));
    let odd_segment = word | options ^ NOP_NOP_TIMESTAMPS.to_be() | u32::from(packet[WHOLE - 1]);
    if odd != 0 || odd_segment != 0 {
        return false;
    }
    let header = Total(short::<16>(packet).into()).with(first).with(second);
    // The payload adds nothing.
    let segment = Total(long::<QUOTE>(packet).into())
        .with(long::<{ QUOTE + 8 }>(packet))
        .with(long::<{ QUOTE + 16 }>(packet))
        .with(long::<{ QUOTE + 24 }>(packet));
    let message = segment.with(icmp).with(third).with(fourth);
    let message = message.with(short::<{ QUOTED + 16 }>(packet));
    let addresses = long::<{ QUOTED + 12 }>(packet);
    let segment = segment.with(addresses).with(tail(PROBE));
    header.is_valid() && message.is_valid() && segment.is_valid()
}

/// A sum of 64-bit words, in the processor's byte order (RFC 1071 §2 B), whose
/// carries are kept: they are added around the end once.
#[derive(Clone, Copy)]
struct Total(u128);

impl Total {
    #[inline]
    const fn with(self, word: u64) -> Total {
        Total(self.0 + word as u128)
    }

    #[inline]
    const fn and(self, other: Total) -> Total {
        Total(self.0 + other.0)
    }

    #[inline]
    fn with_all(self, words: &[[u8; 8]]) -> Total {
        let words = words.iter().map(|word| u64::from_ne_bytes(*word));
        words.fold(self, Total::with)
    }

    /// Whether a sum over bytes that hold their checksum says they are whole. They
    /// are not all zeros: of a sum that is not 0, a multiple of 2¹⁶ - 1 is -0.
    #[inline]
    const fn is_valid(self) -> bool {
        let (sum, carry) = (self.0 as u64).overflowing_add((self.0 >> 64) as u64);
        (sum + carry as u64).is_multiple_of(0xffff)
    }
}

#[inline]
fn sum_any(bytes: &[u8]) -> Total {
    let (longs, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (out, byte) in last.iter_mut().zip(rest) {
        *out = *byte;
    }
    Total(u64::from_ne_bytes(last).into()).with_all(longs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        /// Of something that is not all zeros, as no header is.
        #[test]
        fn sums_are_those_of_the_checksum(mut bytes: Vec<u8>) {
            bytes.insert(0, 0x45);
            prop_assert_eq!(sum_any(&bytes).is_valid(), Sum::ZERO.bytes(&bytes).is_valid());
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            bytes.extend(Sum::ZERO.bytes(&bytes).finish().to_be_bytes());
            prop_assert!(sum_any(&bytes).is_valid());
            prop_assert!(Sum::ZERO.bytes(&bytes).is_valid());
        }

        #[test]
        fn headers_too(mut header: [u8; IPV4_LEN]) {
            header[0] = 0x45;
            let whole = Sum::ZERO.bytes(&header);
            prop_assert_eq!(Words::new(&header).sum().is_valid(), whole.is_valid());
            header[10..12].fill(0);
            let checksum = Sum::ZERO.bytes(&header).finish();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(Words::new(&header).sum().is_valid());
        }
    }
}
