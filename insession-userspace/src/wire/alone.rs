//! Probes that stand alone, in no connection: what follows their IP header.
//!
//! Contents and lengths are those of the traceroute that Debian has (version 2.1):
//! 32 octets, each one more than the one before, an echo request's beginning at `H`,
//! a datagram's at `@`.

use super::checksum::Sum;
use super::ip;

/// Octets before a datagram's data (RFC 768), or an echo request's (RFC 792).
pub const HEADER_LEN: usize = 8;
/// Octets of data.
pub const DATA: usize = 32;
/// The first octet of an echo request's data, where nothing else is wanted of it; each
/// of the others is one more than the one before.
pub const ECHO_DATA: u8 = b'H';
/// And of a datagram's.
pub const DATAGRAM_DATA: u8 = b'@';
/// Most octets of data that fit into a frame of ours behind any header.
pub const MOST_DATA: usize = 188;

/// What a probe is that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// A segment, from a port that need not be the flow's.
    Segment {
        /// Our port.
        source_port: u16,
    },
    /// An echo request.
    Echo {
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
        /// The checksum that the first two octets of data make it have.
        checksum: Option<u16>,
    },
    /// A datagram.
    Datagram {
        /// Our port.
        source_port: u16,
        /// The target's.
        destination_port: u16,
        /// The checksum that the first two octets of data make it have, not 0.
        checksum: Option<u16>,
        /// Octets of data, at most [`MOST_DATA`], at least 2 with a checksum.
        data: u8,
    },
}

impl Alone {
    /// Octets behind the IP header; 0 of a segment, which the template measures.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Alone::Segment { .. } => 0,
            Alone::Echo { .. } => HEADER_LEN + DATA,
            Alone::Datagram { data, .. } => HEADER_LEN + usize::from(*data).min(MOST_DATA),
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it to `out`, which has exactly its length. `pseudo` is the sum of the
    /// pseudo-header; nothing is to be in it for ICMP.
    pub fn emit(&self, protocol: u8, pseudo: Sum, out: &mut [u8]) {
        let length = out.len() as u16;
        let Some((header, data)) = out.split_first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        let (one, other) = match self {
            Alone::Echo {
                identifier,
                sequence,
                ..
            } => (*identifier, *sequence),
            Alone::Datagram {
                source_port,
                destination_port,
                ..
            } => (*source_port, *destination_port),
            Alone::Segment { .. } => return,
        };
        let ([a, b], [c, d]) = (one.to_be_bytes(), other.to_be_bytes());
        let (first, wanted, place) = match self {
            Alone::Echo { checksum, .. } => {
                let request = match protocol {
                    ip::PROTOCOL_ICMPV6 => 128,
                    _ => 8,
                };
                *header = [request, 0, 0, 0, a, b, c, d];
                (ECHO_DATA, *checksum, 2)
            }
            Alone::Datagram { checksum, .. } => {
                let [e, f] = length.to_be_bytes();
                *header = [a, b, c, d, e, f, 0, 0];
                (DATAGRAM_DATA, *checksum, 6)
            }
            Alone::Segment { .. } => return,
        };
        for (octet, value) in data.iter_mut().zip(0_u8..) {
            *octet = first.wrapping_add(value);
        }
        if let (Some(wanted), Some(word)) = (wanted, data.first_chunk_mut::<2>()) {
            *word = [0; 2];
            let others = pseudo.bytes(out).fold();
            // The one's complement difference (RFC 1624 §2).
            let word = Sum::ZERO.word(!wanted).word(!others).fold();
            if let Some(place) = out.get_mut(HEADER_LEN..HEADER_LEN + 2) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        }
        let checksum = match pseudo.bytes(out).finish() {
            // RFC 768: 0 is none; RFC 8200 §8.1 the same.
            0 if place == 6 => 0xffff,
            checksum => checksum,
        };
        if let Some(place) = out.get_mut(place..place + 2) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    fn written(alone: Alone, protocol: u8) -> Vec<u8> {
        let mut out = vec![0xa5; alone.len()];
        alone.emit(protocol, Sum::ZERO, &mut out);
        out
    }

    #[test]
    fn data_is_as_the_standard_traceroute_has_it() {
        let echo = Alone::Echo {
            identifier: 0x5931,
            sequence: 1,
            checksum: None,
        };
        // Captured from traceroute 2.1.2 -I.
        let mut expected = vec![8, 0, 0x29, 0x48, 0x59, 0x31, 0, 1];
        expected.extend(b'H'..b'H' + 32);
        assert_eq!(written(echo, ip::PROTOCOL_ICMP), expected);
    }

    #[test]
    fn a_checksum_is_what_it_was_asked_to_be() {
        let from: IpAddr = [10, 0, 0, 1].into();
        let to: IpAddr = [10, 0, 9, 1].into();
        for wanted in [1, 2, 77, 0x7fff, 0xfffe, 0xffff] {
            let datagram = Alone::Datagram {
                source_port: 61_000,
                destination_port: 33_434,
                checksum: Some(wanted),
                data: 32,
            };
            let mut out = vec![0; datagram.len()];
            let pseudo = Sum::ZERO.pseudo(from, to, 17, out.len() as u32);
            datagram.emit(17, pseudo, &mut out);
            assert_eq!(u16::from_be_bytes([out[6], out[7]]), wanted);
            assert!(pseudo.bytes(&out).is_valid(), "{wanted}");
            // Of ICMP 0xffff is 0.
            for sequence in [1, 2, 300] {
                let echo = Alone::Echo {
                    identifier: 61_000,
                    sequence,
                    checksum: Some(wanted),
                };
                let out = written(echo, ip::PROTOCOL_ICMP);
                assert_eq!(
                    u16::from_be_bytes([out[2], out[3]]) % 0xffff,
                    wanted % 0xffff
                );
                assert!(Sum::ZERO.bytes(&out).is_valid(), "{wanted}");
            }
        }
    }
}
