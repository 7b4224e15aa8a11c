//! Segments of a connection that is watched, and not ours: as an AF_PACKET socket
//! sees them, cut short, as long as segmentation offload makes them, and with
//! checksums that the NIC has yet to write.

use core::net::{IpAddr, SocketAddr};

use super::decode::read_segment;
use super::{Flow, OwnSegment, Reply, Undecodable};
use crate::wire::{ip, tcp};

/// TCP-MD5 (RFC 2385), TCP-AO (RFC 5925), Multipath TCP (RFC 8684).
const INIMITABLE: [u8; 3] = [19, 29, 30];

/// Reads a TCP segment of either direction: [`Reply::Own`] if it is `outgoing`, else
/// [`Reply::Segment`]; and the flow from our side. `packet` begins at the IP header and
/// may end anywhere behind TCP's. Its checksum is verified where all of it is there; of
/// our own the NIC writes it.
///
/// # Errors
/// Why it tells nothing.
pub fn decode_watched(packet: &[u8], outgoing: bool) -> Result<(Reply, Flow), Undecodable> {
    let first = packet
        .first_chunk::<4>()
        .map(|word| u32::from_be_bytes(*word));
    let packet = ip::Packet::quoted(packet)?;
    if packet.is_fragment || packet.protocol != ip::PROTOCOL_TCP {
        return Err(Undecodable::Other);
    }
    let header = tcp::Segment::new(packet.payload)?;
    let octets = packet.payload_len.ok_or(Undecodable::Malformed)?;
    let headers = tcp::HEADER_LEN + header.options().len();
    let octets = octets.checked_sub(headers).ok_or(Undecodable::Malformed)?;
    let options = tcp::Options::parse(header.options());
    let mut segment = read_segment(&header, packet.ttl, options);
    // Behind a short packet there is padding.
    let captured = octets.min(header.payload().len());
    if let Some(whole) = packet.payload.get(..headers + octets)
        && !outgoing
        && !tcp::Segment::new(whole)?.checksum_ok(packet.pseudo(whole.len()))
    {
        return Err(Undecodable::Checksum);
    }
    segment.payload_len = u32::try_from(octets).unwrap_or(u32::MAX);
    let source = SocketAddr::new(packet.source, header.source_port());
    let destination = SocketAddr::new(packet.destination, header.destination_port());
    let (local, remote) = match outgoing {
        true => (source, destination),
        false => (destination, source),
    };
    let flow = Flow { local, remote };
    if !outgoing {
        return Ok((Reply::Segment(segment), flow));
    }
    let flow_label = match packet.source {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => first.unwrap_or(0) & 0xf_ffff,
    };
    let own = OwnSegment {
        segment,
        flow_label,
        data: header
            .payload()
            .get(..captured)
            .unwrap_or_default()
            .to_vec(),
        inimitable: tcp::has_option(header.options(), &INIMITABLE),
    };
    Ok((Reply::Own(own), flow))
}
