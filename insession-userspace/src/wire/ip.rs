//! IP of either version, as those above it see it.

use core::net::IpAddr;

use super::checksum::Sum;
use super::{Error, ipv4, ipv6};

/// ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// What a packet of either version says, options and extension headers skipped.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS octet or traffic class.
    pub traffic_class: u8,
    /// IPv4 identification; 0 in IPv6.
    pub identification: u16,
    /// IPv4: "don't fragment" is set.
    pub dont_fragment: Option<bool>,
    /// A part of a packet.
    pub is_fragment: bool,
    /// The payload. Of a quote: as much as there is.
    pub payload: &'a [u8],
    /// Octets of payload, as the header says. Of a quote: `None` where that is
    /// less than nothing (some routers quote a length they changed).
    pub payload_len: Option<usize>,
}

impl<'a> Packet<'a> {
    /// A packet as it arrived: whole, IPv4 checksum right. Bytes behind its
    /// length are not its own.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Checksum`], [`Error::Unsupported`].
    #[inline]
    pub fn arrived(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut packet = match version(bytes)? {
            4 => {
                let packet = ipv4::Packet::new(bytes)?;
                if !packet.checksum_ok() {
                    return Err(Error::Checksum);
                }
                Self::v4(&packet)?
            }
            _ => Self::quoted(bytes)?,
        };
        let len = packet.payload_len.ok_or(Error::Malformed)?;
        packet.payload = packet.payload.get(..len).ok_or(Error::Malformed)?;
        Ok(packet)
    }

    /// A packet as a router quotes it: cut short, lengths not to be trusted.
    ///
    /// # Errors
    /// [`Error::Malformed`], or [`Error::Unsupported`]: a fragment without the
    /// beginning, another version, too many extension headers.
    #[inline]
    pub fn quoted(bytes: &'a [u8]) -> Result<Self, Error> {
        match version(bytes)? {
            4 => Self::v4(&ipv4::Packet::new(bytes)?),
            6 => Self::v6(&ipv6::Packet::new(bytes)?),
            _ => Err(Error::Unsupported),
        }
    }

    #[inline]
    fn v4(packet: &ipv4::Packet<'a>) -> Result<Self, Error> {
        if packet.fragment_offset() != 0 {
            return Err(Error::Unsupported);
        }
        Ok(Packet {
            source: IpAddr::V4(packet.source()),
            destination: IpAddr::V4(packet.destination()),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            traffic_class: packet.traffic_class(),
            identification: packet.identification(),
            dont_fragment: Some(packet.dont_fragment()),
            is_fragment: packet.is_fragment(),
            payload: packet.rest(),
            payload_len: packet.payload_len(),
        })
    }

    fn v6(packet: &ipv6::Packet<'a>) -> Result<Self, Error> {
        let upper = packet.upper()?;
        if upper.fragment_offset != 0 {
            return Err(Error::Unsupported);
        }
        Ok(Packet {
            source: IpAddr::V6(packet.source()),
            destination: IpAddr::V6(packet.destination()),
            protocol: upper.protocol,
            ttl: packet.hop_limit(),
            traffic_class: packet.traffic_class(),
            identification: 0,
            dont_fragment: None,
            is_fragment: upper.is_fragment,
            payload: packet.rest().get(upper.offset..).unwrap_or_default(),
            payload_len: usize::from(packet.payload_len()).checked_sub(upper.offset),
        })
    }

    /// The pseudo-header's sum for a payload of `len` octets.
    #[must_use]
    #[inline]
    pub fn pseudo(&self, len: usize) -> Sum {
        Sum::ZERO.pseudo(self.source, self.destination, self.protocol, len as u32)
    }
}

#[inline]
fn version(bytes: &[u8]) -> Result<u8, Error> {
    Ok(bytes.first().ok_or(Error::Malformed)? >> 4)
}

/// A header of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// IPv4.
    V4(ipv4::Repr),
    /// IPv6.
    V6(ipv6::Repr),
}

impl Repr {
    /// A header with don't-fragment, identification 0 and flow label 0; `None`
    /// when the two addresses are not of one family.
    #[must_use]
    pub fn new(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ttl: u8,
        payload_len: u16,
    ) -> Option<Self> {
        Some(match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Repr::V4(ipv4::Repr {
                source,
                destination,
                protocol,
                ttl,
                traffic_class: 0,
                identification: 0,
                fragment: 0x4000,
                payload_len,
            }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Repr::V6(ipv6::Repr {
                source,
                destination,
                next_header: protocol,
                hop_limit: ttl,
                traffic_class: 0,
                flow_label: 0,
                payload_len,
            }),
            _ => return None,
        })
    }

    /// Octets it takes, payload not included.
    #[must_use]
    pub const fn buffer_len(&self) -> usize {
        match self {
            Repr::V4(repr) => repr.buffer_len(),
            Repr::V6(repr) => repr.buffer_len(),
        }
    }

    /// Writes it to the beginning of `out`.
    pub fn emit(&self, out: &mut [u8]) {
        match self {
            Repr::V4(repr) => repr.emit(out),
            Repr::V6(repr) => repr.emit(out),
        }
    }
}
