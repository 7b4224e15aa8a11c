//! From a packet on the wire to what a session is told.

use core::net::{IpAddr, SocketAddr};

use super::input::{Direct, DirectKind, IcmpError, IcmpKind, Quote, QuotedAlone, Segment};
use super::{Flow, Reply, seen};
use crate::wire::alone::HEADER_LEN;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Version};
use crate::wire::usual::Arrived;
use crate::wire::{self, ip, tcp};
use insession_common::flow::alone_port;

/// Why a packet tells a session nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// It ends before its headers do, or a header contradicts itself.
    Malformed,
    /// A checksum is wrong.
    Checksum,
    /// Well-formed, but nothing that a session reads.
    Other,
}

impl From<wire::Error> for Undecodable {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Malformed => Undecodable::Malformed,
            wire::Error::Checksum => Undecodable::Checksum,
            wire::Error::Unsupported => Undecodable::Other,
        }
    }
}

/// Reads an IP packet: a TCP segment from the peer, an ICMP(v6) error that
/// quotes one of ours, or (`outgoing`) our own kernel's SYN.
///
/// `packet` begins at the IP header; bytes behind the IP length (Ethernet's
/// padding) are ignored. A TCP checksum that holds only the pseudo-header's sum
/// is right too: so segments look that never left this host (checksum offload).
///
/// # Errors
/// Why it tells a session nothing.
pub fn decode(packet: &[u8], outgoing: bool) -> Result<Reply, Undecodable> {
    decode_with_ends(packet, outgoing).map(|(reply, _)| reply)
}

/// As [`decode`], and the flow that it is of, from our side: that of the segment
/// itself, or of the segment that is quoted.
///
/// # Errors
/// Why it tells a session nothing.
#[inline]
pub fn decode_with_ends(packet: &[u8], outgoing: bool) -> Result<(Reply, Flow), Undecodable> {
    let packet = ip::Packet::arrived(packet)?;
    if packet.is_fragment {
        return Err(Undecodable::Other);
    }
    match (packet.protocol, packet.source) {
        (ip::PROTOCOL_TCP, _) => segment(&packet, outgoing),
        _ if outgoing => Err(Undecodable::Other),
        (ip::PROTOCOL_ICMP, IpAddr::V4(_)) => message(&packet, Version::V4, Sum::ZERO),
        (ip::PROTOCOL_ICMPV6, IpAddr::V6(_)) => {
            message(&packet, Version::V6, packet.pseudo(packet.payload.len()))
        }
        (ip::PROTOCOL_UDP, _) => datagram(&packet),
        _ => Err(Undecodable::Other),
    }
}

#[inline]
fn segment(packet: &ip::Packet<'_>, outgoing: bool) -> Result<(Reply, Flow), Undecodable> {
    let segment = tcp::Segment::new(packet.payload)?;
    if !segment.checksum_ok(packet.pseudo(packet.payload.len())) {
        return Err(Undecodable::Checksum);
    }
    let source = SocketAddr::new(packet.source, segment.source_port());
    let destination = SocketAddr::new(packet.destination, segment.destination_port());
    let options = tcp::Options::parse(segment.options());
    if outgoing {
        if segment.flags() & (tcp::flags::SYN | tcp::flags::ACK) != tcp::flags::SYN {
            return Err(Undecodable::Other);
        }
        let syn = Reply::OwnSyn {
            sequence: segment.sequence(),
            options,
        };
        let flow = Flow {
            local: source,
            remote: destination,
        };
        return Ok((syn, flow));
    }
    let flow = Flow {
        local: destination,
        remote: source,
    };
    let segment = Reply::Segment(read_segment(&segment, packet.ttl, options));
    Ok((segment, flow))
}

#[inline]
pub(super) fn read_segment(segment: &tcp::Segment<'_>, ttl: u8, options: tcp::Options) -> Segment {
    Segment {
        sequence: segment.sequence(),
        acknowledgment: segment.acknowledgment(),
        flags: segment.flags(),
        window: segment.window(),
        // A payload lies within an IP packet: below 64 KiB.
        payload_len: segment.payload().len() as u32,
        ttl,
        options,
    }
}

/// A segment that arrived as most do; [`decode`] finds the same. `None` where its
/// header contradicts itself.
#[inline]
pub(super) fn decode_segment(arrived: &Arrived<'_>) -> Option<Segment> {
    let segment = tcp::Segment::new(arrived.bytes()).ok()?;
    let options = tcp::Options::parse(segment.options());
    Some(read_segment(&segment, arrived.ttl(), options))
}

/// An ICMP message: an echo reply, or an error.
#[inline]
fn message(
    packet: &ip::Packet<'_>,
    version: Version,
    pseudo: Sum,
) -> Result<(Reply, Flow), Undecodable> {
    let reply = match version {
        Version::V4 => icmp::V4_ECHO_REPLY,
        Version::V6 => icmp::V6_ECHO_REPLY,
    };
    match packet.payload {
        [kind, 0, _, _, a, b, c, d, ..] if *kind == reply => {
            if !pseudo.bytes(packet.payload).is_valid() {
                return Err(Undecodable::Checksum);
            }
            let (identifier, sequence) =
                (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            Ok(direct(packet, identifier, DirectKind::Echo { sequence }))
        }
        _ => icmp_error(packet, version, pseudo),
    }
}

/// A datagram. A checksum of 0 is none (RFC 768).
fn datagram(packet: &ip::Packet<'_>) -> Result<(Reply, Flow), Undecodable> {
    let [a, b, c, d, e, f, g, h, ..] = *packet.payload else {
        return Err(Undecodable::Malformed);
    };
    let length = usize::from(u16::from_be_bytes([e, f]));
    let whole = packet
        .payload
        .get(..length)
        .filter(|_| length >= HEADER_LEN);
    let whole = whole.ok_or(Undecodable::Malformed)?;
    // As of segments: what never left this host holds the pseudo-header's sum.
    let pseudo = packet.pseudo(length);
    let checksum = u16::from_be_bytes([g, h]);
    if checksum != 0 && checksum != pseudo.fold() && !pseudo.bytes(whole).is_valid() {
        return Err(Undecodable::Checksum);
    }
    let (source_port, port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(direct(packet, port, DirectKind::Datagram { source_port }))
}

/// An answer to a probe that stood alone, to this port or identifier of ours.
fn direct(packet: &ip::Packet<'_>, local_port: u16, kind: DirectKind) -> (Reply, Flow) {
    let flow = Flow {
        local: SocketAddr::new(packet.destination, local_port),
        remote: SocketAddr::new(packet.source, alone_port(packet.protocol)),
    };
    let answer = Reply::Direct(Direct {
        from: packet.source,
        ttl: packet.ttl,
        kind,
    });
    (answer, flow)
}

#[inline]
fn icmp_error(
    packet: &ip::Packet<'_>,
    version: Version,
    pseudo: Sum,
) -> Result<(Reply, Flow), Undecodable> {
    let error = icmp::Error::new(version, packet.payload, pseudo)?;
    let (icmp_type, icmp_code) = (error.icmp_type(), error.code());
    let kind = kind(version, &error).ok_or(Undecodable::Other)?;
    let mut quoted = error.quoted();
    // A length field that cuts the quote below what can be read is junk in what
    // was "unused" before RFC 4884.
    let mut quote = read_quote(&quoted, version);
    if quote == Err(Undecodable::Malformed) {
        quoted = error.unsplit();
        quote = read_quote(&quoted, version);
    }
    let quote = quote?;
    let flow = quote.flow();
    let error = Reply::Icmp(IcmpError {
        from: packet.source,
        kind,
        icmp_type,
        icmp_code,
        ttl: packet.ttl,
        quote,
        mpls: quoted
            .extension
            .map(|structure| structure.labels())
            .unwrap_or_default(),
    });
    Ok((error, flow))
}

fn kind(version: Version, error: &icmp::Error<'_>) -> Option<IcmpKind> {
    let too_big = || IcmpKind::PacketTooBig { mtu: error.mtu() };
    Some(match (version, error.icmp_type(), error.code()) {
        // Code 1 is reassembly time: we send no fragments.
        (Version::V4, icmp::V4_TIME_EXCEEDED, 0) => IcmpKind::TimeExceeded,
        (Version::V4, icmp::V4_UNREACHABLE, icmp::V4_FRAGMENTATION_NEEDED) => too_big(),
        (Version::V4, icmp::V4_UNREACHABLE, _) => IcmpKind::Unreachable,
        (Version::V6, icmp::V6_TIME_EXCEEDED, 0) => IcmpKind::TimeExceeded,
        // RFC 4443 §3.2: the code is ignored by the receiver.
        (Version::V6, icmp::V6_PACKET_TOO_BIG, _) => too_big(),
        (Version::V6, icmp::V6_UNREACHABLE, _) => IcmpKind::Unreachable,
        _ => return None,
    })
}

fn read_quote(quoted: &icmp::Quoted<'_>, version: Version) -> Result<Quote, Undecodable> {
    let packet = ip::Packet::quoted(quoted.packet)?;
    let same_version = packet.source.is_ipv4() == (version == Version::V4);
    if !same_version {
        return Err(Undecodable::Other);
    }
    if packet.protocol != ip::PROTOCOL_TCP {
        return read_alone(&packet);
    }
    let first = tcp::First8::parse(packet.payload)?;
    let checksum_bad = checksum_bad(&packet, quoted.extension.is_some());
    Ok(Quote {
        source: SocketAddr::new(packet.source, first.source_port),
        destination: SocketAddr::new(packet.destination, first.destination_port),
        sequence: first.sequence,
        ttl: packet.ttl,
        traffic_class: packet.traffic_class,
        checksum_bad,
        seen: seen::in_segment(&packet, checksum_bad),
        alone: None,
    })
}

/// A quote of an echo request or a datagram.
fn read_alone(packet: &ip::Packet<'_>) -> Result<Quote, Undecodable> {
    let [a, b, c, d, e, f, g, h, ..] = *packet.payload else {
        return Err(Undecodable::Malformed);
    };
    let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let (third, fourth) = (u16::from_be_bytes([e, f]), u16::from_be_bytes([g, h]));
    let request = match packet.source {
        IpAddr::V4(_) => (ip::PROTOCOL_ICMP, icmp::V4_ECHO_REQUEST),
        IpAddr::V6(_) => (ip::PROTOCOL_ICMPV6, icmp::V6_ECHO_REQUEST),
    };
    let (ports, alone) = if (packet.protocol, a) == request {
        let alone = QuotedAlone::Echo {
            sequence: fourth,
            checksum: second,
        };
        ((third, 0), alone)
    } else if packet.protocol == ip::PROTOCOL_UDP {
        let alone = QuotedAlone::Datagram {
            checksum: fourth,
            length: third,
            identification: packet.identification,
        };
        ((first, second), alone)
    } else {
        return Err(Undecodable::Other);
    };
    Ok(Quote {
        source: SocketAddr::new(packet.source, ports.0),
        destination: SocketAddr::new(packet.destination, ports.1),
        sequence: 0,
        ttl: packet.ttl,
        traffic_class: packet.traffic_class,
        checksum_bad: None,
        seen: seen::in_other(packet),
        alone: Some(alone),
    })
}

/// Whether the quoted checksum contradicts the quoted bytes; `None` unless the
/// whole segment is there. What routers change on the way (TTL, DSCP) it does
/// not cover; what NATs change (addresses, ports) it does.
///
/// Before an extension a quote is padded with zeros (RFC 4884 §3), also one that
/// was cut shorter than the segment: what looks whole may not be.
fn checksum_bad(packet: &ip::Packet<'_>, padded: bool) -> Option<bool> {
    if packet.is_fragment {
        return None;
    }
    let bytes = packet.payload.get(..packet.payload_len?)?;
    let segment = tcp::Segment::new(bytes).ok()?;
    if segment.checksum_ok(packet.pseudo(bytes.len())) {
        return Some(false);
    }
    // Zeros that begin before the payload, or before the urgent pointer, which
    // is zero itself, are taken for padding: no finding rather than a false one.
    let known = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let needed = match segment.options() {
        [] => tcp::HEADER_LEN - 2,
        options => tcp::HEADER_LEN + options.len(),
    };
    (!padded || known >= needed).then_some(true)
}

#[cfg(test)]
mod tests;
