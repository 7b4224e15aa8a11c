//! Speedtrap: IPv6 packets have an identification only where they are fragmented, so
//! routers are brought to fragment their echo replies. An echo request longer than the
//! least MTU draws a reply as long; told that it was too big (RFC 4443 §3.2), the router
//! sends the next ones in fragments (RFC 8200 §4.5), and numbers them by 32 bits.

use core::net::{IpAddr, Ipv6Addr};

use super::{Answer, Ask, Kind};
use crate::net::Route;
use crate::time::Instant;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, icmp, ip, ipv6};

/// Octets of the request's packet: above the least MTU of IPv6, below any link's.
pub const REQUEST: usize = 1300;
/// The least MTU of IPv6 (RFC 8200 §5).
const LEAST_MTU: u32 = 1280;
/// What of a reply is quoted: as much as the least MTU leaves (RFC 4443 §2.4c).
const QUOTE: usize = LEAST_MTU as usize - ipv6::HEADER_LEN - icmp::HEADER_LEN;
const HOP_LIMIT: u8 = 64;
/// The fragment header's number, and its length.
const FRAGMENT: u8 = 44;
const FRAGMENT_LEN: usize = 8;

/// A frame to a target; nothing where one of the two is IPv4.
fn frame(route: &Route, target: IpAddr, fill: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (route.source, target) else {
        return Vec::new();
    };
    let mut message = Vec::with_capacity(REQUEST);
    fill(&mut message);
    let length = message.len();
    let pseudo = Sum::ZERO.pseudo(
        route.source,
        target,
        ip::PROTOCOL_ICMPV6,
        u32::try_from(length).unwrap_or(u32::MAX),
    );
    let checksum = pseudo.bytes(&message).finish();
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    let link = ethernet::Repr {
        destination: route.next_hop_mac,
        source: route.source_mac,
        vlan: route.vlan,
        ethertype: ethernet::ETHERTYPE_IPV6,
    };
    let header = ipv6::Repr {
        source,
        destination,
        next_header: ip::PROTOCOL_ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
        payload_len: length as u16,
    };
    let l3 = link.buffer_len();
    let mut out = vec![0; l3 + ipv6::HEADER_LEN];
    link.emit(&mut out);
    if let Some(out) = out.get_mut(l3..) {
        header.emit(out);
    }
    out.extend(message);
    out
}

/// The echo request.
#[must_use]
pub fn request(ask: &Ask, route: &Route, identifier: u16) -> Vec<u8> {
    frame(route, ask.address, &|message| {
        let ([a, b], [c, d]) = (identifier.to_be_bytes(), ask.number.to_be_bytes());
        message.extend([icmp::V6_ECHO_REQUEST, 0, 0, 0, a, b, c, d]);
        message.resize(REQUEST - ipv6::HEADER_LEN, 0);
    })
}

/// What says that a reply was too big, which came whole.
#[must_use]
pub fn too_big(reply: &[u8], target: IpAddr, route: &Route) -> Vec<u8> {
    let quote = reply.get(..QUOTE).unwrap_or(reply);
    frame(route, target, &|message| {
        message.extend([icmp::V6_PACKET_TOO_BIG, 0, 0, 0]);
        message.extend(LEAST_MTU.to_be_bytes());
        message.extend(quote);
    })
}

/// Reads a packet, from its IPv6 header on: an echo reply to this identifier, or the
/// first fragment of one. `target` says who is asked at an address.
#[must_use]
pub fn read(
    packet: &[u8],
    identifier: u16,
    at: Instant,
    target: &dyn Fn(Ipv6Addr) -> Option<usize>,
) -> Option<Answer> {
    let ip = ipv6::Packet::new(packet).ok()?;
    let whole = ip.rest().get(..usize::from(ip.payload_len()))?;
    let (message, id) = match ip.next_header() {
        FRAGMENT => {
            let (fragment, message) = whole.split_first_chunk::<FRAGMENT_LEN>()?;
            let [next, _, a, b, c, d, e, f] = *fragment;
            let first = u16::from_be_bytes([a, b]) >> 3 == 0;
            if next != ip::PROTOCOL_ICMPV6 || !first {
                return None;
            }
            // Its checksum is of the whole, which is not there.
            (message, Some(u32::from_be_bytes([c, d, e, f])))
        }
        ip::PROTOCOL_ICMPV6 => {
            let (source, destination) = (ip.source().into(), ip.destination().into());
            let length = u32::from(ip.payload_len());
            let pseudo = Sum::ZERO.pseudo(source, destination, ip::PROTOCOL_ICMPV6, length);
            if !pseudo.bytes(whole).is_valid() {
                return None;
            }
            (whole, None)
        }
        _ => return None,
    };
    let [icmp::V6_ECHO_REPLY, 0, _, _, a, b, c, d, ..] = *message else {
        return None;
    };
    if u16::from_be_bytes([a, b]) != identifier {
        return None;
    }
    Some(Answer {
        target: target(ip.source())?,
        kind: Kind::Echo,
        number: Some(u16::from_be_bytes([c, d])),
        at,
        from: ip.source().into(),
        ttl: ip.hop_limit(),
        id,
        port_unreachable: false,
        other_error: false,
        interfaces: Vec::new(),
    })
}
