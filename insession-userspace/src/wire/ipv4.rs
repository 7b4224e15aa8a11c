//! IPv4 (RFC 791).

use core::net::Ipv4Addr;

use super::checksum::Sum;
use super::{Error, Field, be16, read};

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;

pub(super) mod field {
    use super::Field;
    pub(in crate::wire) const VERSION_AND_LENGTH: usize = 0;
    pub(in crate::wire) const TRAFFIC_CLASS: usize = 1;
    pub(in crate::wire) const TOTAL_LENGTH: Field = 2..4;
    pub(in crate::wire) const IDENTIFICATION: Field = 4..6;
    pub(in crate::wire) const FRAGMENT: Field = 6..8;
    pub(in crate::wire) const TTL: usize = 8;
    pub(in crate::wire) const PROTOCOL: usize = 9;
    pub(in crate::wire) const CHECKSUM: Field = 10..12;
    pub(in crate::wire) const SOURCE: Field = 12..16;
    pub(in crate::wire) const DESTINATION: Field = 16..20;
}

/// Routers may not split it.
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragment offset, in 8 octets.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A packet whose header is whole. Its payload may be cut short: that is for
/// the caller to judge ([`Packet::payload_len`]), quotes are.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version and header length, nothing that a quote may have wrong.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let first = *bytes
            .get(field::VERSION_AND_LENGTH)
            .ok_or(Error::Malformed)?;
        let header_len = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header_len < HEADER_LEN {
            return Err(Error::Malformed);
        }
        let (header, rest) = bytes.split_at_checked(header_len).ok_or(Error::Malformed)?;
        Ok(Packet { header, rest })
    }

    /// TOS octet: DSCP and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        self.octet(field::TRAFFIC_CLASS)
    }

    /// Octets of header and payload, as the header says.
    #[must_use]
    pub fn total_len(&self) -> u16 {
        be16(self.header, field::TOTAL_LENGTH)
    }

    /// Identification.
    #[must_use]
    pub fn identification(&self) -> u16 {
        be16(self.header, field::IDENTIFICATION)
    }

    /// Flags and fragment offset.
    #[must_use]
    pub fn fragment(&self) -> u16 {
        be16(self.header, field::FRAGMENT)
    }

    /// Fragment offset, in 8 octets.
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        self.fragment() & FRAGMENT_OFFSET
    }

    /// Whether routers may not split it.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.fragment() & DONT_FRAGMENT != 0
    }

    /// Whether it is a part of a packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment() & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0
    }

    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.octet(field::TTL)
    }

    /// Protocol of the payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.octet(field::PROTOCOL)
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(read::<4>(self.header, field::SOURCE))
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(read::<4>(self.header, field::DESTINATION))
    }

    /// Whether the header's checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        Sum::ZERO.bytes(self.header).is_valid()
    }

    /// Octets of payload as the header says; `None` when it says less than a header.
    #[must_use]
    pub fn payload_len(&self) -> Option<usize> {
        usize::from(self.total_len()).checked_sub(self.header.len())
    }

    /// All that stands behind the header, padding included.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn octet(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }
}

/// A header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// TOS octet.
    pub traffic_class: u8,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset; 0x4000 is "don't fragment".
    pub fragment: u16,
    /// Octets of payload.
    pub payload_len: u16,
}

impl Repr {
    /// Reads it; options are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the total length is less than the header's,
    /// [`Error::Checksum`].
    pub fn parse(packet: &Packet<'_>) -> Result<Self, Error> {
        if !packet.checksum_ok() {
            return Err(Error::Checksum);
        }
        let payload_len = packet.payload_len().ok_or(Error::Malformed)?;
        Ok(Repr {
            source: packet.source(),
            destination: packet.destination(),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            traffic_class: packet.traffic_class(),
            identification: packet.identification(),
            fragment: packet.fragment(),
            payload_len: payload_len as u16,
        })
    }

    /// Octets it takes, payload not included.
    #[must_use]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes it to the beginning of `out`, checksum included.
    pub fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..HEADER_LEN];
        let total = self.payload_len.saturating_add(HEADER_LEN as u16);
        out[field::VERSION_AND_LENGTH] = 0x45;
        out[field::TRAFFIC_CLASS] = self.traffic_class;
        out[field::TOTAL_LENGTH].copy_from_slice(&total.to_be_bytes());
        out[field::IDENTIFICATION].copy_from_slice(&self.identification.to_be_bytes());
        out[field::FRAGMENT].copy_from_slice(&self.fragment.to_be_bytes());
        out[field::TTL] = self.ttl;
        out[field::PROTOCOL] = self.protocol;
        out[field::CHECKSUM].fill(0);
        out[field::SOURCE].copy_from_slice(&self.source.octets());
        out[field::DESTINATION].copy_from_slice(&self.destination.octets());
        let checksum = Sum::ZERO.bytes(out).finish();
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            addresses: [u32; 2],
            octets: [u8; 3],
            identification: u16,
            fragment: u16,
            payload_len in 0u16..=65515,
        ) {
            let repr = Repr {
                source: addresses[0].into(),
                destination: addresses[1].into(),
                protocol: octets[0],
                ttl: octets[1],
                traffic_class: octets[2],
                identification,
                fragment,
                payload_len,
            };
            let mut buffer = [0xa5; HEADER_LEN + 1];
            repr.emit(&mut buffer);
            let packet = Packet::new(&buffer).unwrap();
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert_eq!(packet.rest(), &[0xa5]);
        }

        #[test]
        fn any_bytes_are_answered(mut bytes: Vec<u8>, length in 0u8..16) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x40 | length;
            }
            if let Ok(packet) = Packet::new(&bytes) {
                let _ = Repr::parse(&packet);
                prop_assert_eq!(usize::from(length) * 4 + packet.rest().len(), bytes.len());
                prop_assert!(packet.is_fragment() || packet.fragment_offset() == 0);
            } else {
                prop_assert!(length < 5 || bytes.len() < usize::from(length) * 4);
            }
        }
    }
}
