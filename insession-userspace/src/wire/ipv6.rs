//! IPv6 (RFC 8200) and its extension headers.

use core::net::Ipv6Addr;

use super::{Error, Field, be16, be32, read};

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Extension headers that are followed. RFC 8200 §4.1 names seven; more are an
/// attack or a mistake (RFC 8504 §5.3 lets nodes limit them).
const MAX_EXTENSIONS: usize = 8;

/// Next-header values of extension headers (RFC 7045 §4).
mod next {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

pub(super) mod field {
    use super::Field;
    /// Version, traffic class, flow label.
    pub(in crate::wire) const FIRST: Field = 0..4;
    pub(in crate::wire) const PAYLOAD_LENGTH: Field = 4..6;
    pub(in crate::wire) const NEXT_HEADER: usize = 6;
    pub(in crate::wire) const HOP_LIMIT: usize = 7;
    pub(in crate::wire) const SOURCE: Field = 8..24;
    pub(in crate::wire) const DESTINATION: Field = 24..40;
}

/// A packet whose fixed header is whole. Its payload may be cut short.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8],
    rest: &'a [u8],
}

/// What stands behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol.
    pub protocol: u8,
    /// Octets of extension headers before it.
    pub offset: usize,
    /// There was a fragment header that makes it a part of a packet (an atomic
    /// fragment, RFC 6946, is whole).
    pub is_fragment: bool,
    /// Its offset in the whole packet, in 8 octets.
    pub fragment_offset: u16,
}

impl<'a> Packet<'a> {
    /// Checks version and length of the fixed header.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_at_checked(HEADER_LEN).ok_or(Error::Malformed)?;
        let packet = Packet { header, rest };
        if packet.first() >> 28 != 6 {
            return Err(Error::Malformed);
        }
        Ok(packet)
    }

    /// Traffic class: DSCP and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.first() >> 20) as u8
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.first() & 0xf_ffff
    }

    /// Octets behind the fixed header, as it says.
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        be16(self.header, field::PAYLOAD_LENGTH)
    }

    /// What the fixed header says comes next.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.octet(field::NEXT_HEADER)
    }

    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.octet(field::HOP_LIMIT)
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(read::<16>(self.header, field::SOURCE))
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(read::<16>(self.header, field::DESTINATION))
    }

    /// All that stands behind the fixed header, padding included.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Follows the extension headers.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the bytes end within one,
    /// [`Error::Unsupported`] when there are more than are followed.
    pub fn upper(&self) -> Result<Upper, Error> {
        let mut upper = Upper {
            protocol: self.next_header(),
            offset: 0,
            is_fragment: false,
            fragment_offset: 0,
        };
        for _ in 0..=MAX_EXTENSIONS {
            let extension = self.rest.get(upper.offset..).ok_or(Error::Malformed)?;
            let len = match upper.protocol {
                next::FRAGMENT => {
                    let header = extension.first_chunk::<8>().ok_or(Error::Malformed)?;
                    let word = u16::from_be_bytes([header[2], header[3]]);
                    upper.fragment_offset = word >> 3;
                    upper.is_fragment = upper.fragment_offset != 0 || word & 1 != 0;
                    8
                }
                // RFC 4302 §2.2: its length counts 4 octets, minus 2.
                next::AUTHENTICATION => {
                    let header = extension.first_chunk::<2>().ok_or(Error::Malformed)?;
                    (usize::from(header[1]) + 2) * 4
                }
                next::HOP_BY_HOP
                | next::ROUTING
                | next::DESTINATION
                | next::MOBILITY
                | next::HIP
                | next::SHIM6 => {
                    let header = extension.first_chunk::<2>().ok_or(Error::Malformed)?;
                    (usize::from(header[1]) + 1) * 8
                }
                _ => return Ok(upper),
            };
            let header = extension.get(..len).ok_or(Error::Malformed)?;
            upper.protocol = header.first().copied().ok_or(Error::Malformed)?;
            upper.offset += len;
            // Behind a fragment that is not the first there is no header to read.
            if upper.fragment_offset != 0 {
                return Ok(upper);
            }
        }
        Err(Error::Unsupported)
    }

    fn first(&self) -> u32 {
        be32(self.header, field::FIRST)
    }

    fn octet(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }
}

/// A fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// What comes next.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Octets behind this header.
    pub payload_len: u16,
}

impl Repr {
    /// Reads it.
    #[must_use]
    pub fn parse(packet: &Packet<'_>) -> Self {
        Repr {
            source: packet.source(),
            destination: packet.destination(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_len(),
        }
    }

    /// Octets it takes, payload not included.
    #[must_use]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes it to the beginning of `out`.
    pub fn emit(&self, out: &mut [u8]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        out[field::FIRST].copy_from_slice(&first.to_be_bytes());
        out[field::PAYLOAD_LENGTH].copy_from_slice(&self.payload_len.to_be_bytes());
        out[field::NEXT_HEADER] = self.next_header;
        out[field::HOP_LIMIT] = self.hop_limit;
        out[field::SOURCE].copy_from_slice(&self.source.octets());
        out[field::DESTINATION].copy_from_slice(&self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            addresses: [u128; 2],
            octets: [u8; 3],
            flow_label in 0u32..1 << 20,
            payload_len: u16,
        ) {
            let repr = Repr {
                source: addresses[0].into(),
                destination: addresses[1].into(),
                next_header: octets[0],
                hop_limit: octets[1],
                traffic_class: octets[2],
                flow_label,
                payload_len,
            };
            let mut buffer = [0xa5; HEADER_LEN + 1];
            repr.emit(&mut buffer);
            let packet = Packet::new(&buffer).unwrap();
            prop_assert_eq!(Repr::parse(&packet), repr);
            prop_assert_eq!(packet.rest(), &[0xa5]);
        }

        #[test]
        fn any_chain_is_answered(
            next in proptest::sample::select(vec![0u8, 6, 43, 44, 51, 58, 60, 135]),
            rest: Vec<u8>,
        ) {
            let mut bytes = vec![0; HEADER_LEN];
            bytes[0] = 0x60;
            bytes[field::NEXT_HEADER] = next;
            bytes.extend(&rest);
            if let Ok(upper) = Packet::new(&bytes).unwrap().upper() {
                prop_assert!(upper.offset <= rest.len());
            }
        }
    }

    fn upper(chain: &[u8]) -> Result<Upper, Error> {
        let mut bytes = [0; HEADER_LEN].to_vec();
        bytes[0] = 0x60;
        bytes[field::NEXT_HEADER] = chain[0];
        bytes.extend(&chain[1..]);
        Packet::new(&bytes)?.upper()
    }

    #[test]
    fn lengths_of_extension_headers_are_each_their_own() {
        // Hop-by-hop of 8 octets, authentication of 24 (RFC 4302: 4 × (4 + 2)), TCP.
        let mut chain = vec![0, 51, 0, 1, 4, 0, 0, 0, 0];
        chain.extend([6, 4]);
        chain.extend([0; 22]);
        let expected = Upper {
            protocol: 6,
            offset: 32,
            is_fragment: false,
            fragment_offset: 0,
        };
        assert_eq!(upper(&chain), Ok(expected));
        chain.pop();
        assert_eq!(upper(&chain), Err(Error::Malformed));
    }

    #[test]
    fn behind_a_fragment_that_is_not_the_first_nothing_is_read() {
        // The bytes behind would be an endless chain.
        let rest = upper(&[44, 60, 0, 0, 8, 0, 0, 0, 1, 60, 0xff]).unwrap();
        assert_eq!((rest.fragment_offset, rest.is_fragment), (1, true));
        let first = upper(&[44, 6, 0, 0, 1, 0, 0, 0, 1]).unwrap();
        assert_eq!((first.protocol, first.is_fragment), (6, true));
    }

    #[test]
    fn eight_extension_headers_are_followed_and_nine_are_not() {
        let chain = |count: usize| {
            let mut chain = vec![60];
            for nth in 1..=count {
                chain.extend([if nth == count { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
            chain
        };
        assert_eq!(upper(&chain(8)).map(|upper| upper.offset), Ok(64));
        assert_eq!(upper(&chain(9)), Err(Error::Unsupported));
    }
}
