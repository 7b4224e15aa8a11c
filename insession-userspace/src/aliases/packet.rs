//! Probes of a survey as frames, and answers out of packets.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;

use super::{Answer, Ask, Kind};
use crate::net::Route;
use crate::session::decode_with_ends;
use crate::session::{DirectKind, Flow, IcmpError, IcmpKind, Quote, QuotedAlone, Reply};
use crate::time::Instant;
use crate::wire::alone::{self, Alone};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Version};
use crate::wire::interface::Interface;
use crate::wire::template::{Layout, Own, SegmentOptions, Varying, Way};
use crate::wire::{ip, tcp};

use insession_common::flow::alone_port;

/// TTL of probes: as hosts send.
const TTL: u8 = 64;
/// What a SYN announces.
const MSS: u16 = 1460;

/// The ports of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Ours, the identifier of echo requests as well.
    pub local: u16,
    /// Where datagrams go: nobody should listen there.
    pub datagram: u16,
    /// Where SYNs go.
    pub segment: u16,
}

/// The protocol that probes of a kind are of.
#[must_use]
pub const fn protocol(kind: Kind, v6: bool) -> u8 {
    match (kind, v6) {
        (Kind::Echo, false) => ip::PROTOCOL_ICMP,
        (Kind::Echo, true) => ip::PROTOCOL_ICMPV6,
        (Kind::Datagram, _) => ip::PROTOCOL_UDP,
        (Kind::Segment, _) => ip::PROTOCOL_TCP,
    }
}

/// The flow by which answers of that kind are steered to us.
#[must_use]
pub fn flow(kind: Kind, source: IpAddr, target: IpAddr, ports: &Ports) -> Flow {
    let remote = match kind {
        Kind::Segment => ports.segment,
        _ => alone_port(protocol(kind, target.is_ipv6())),
    };
    Flow {
        local: SocketAddr::new(source, ports.local),
        remote: SocketAddr::new(target, remote),
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer {
    ports: Ports,
    layouts: HashMap<Way, Layout>,
}

impl Writer {
    /// With these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Writer {
            ports,
            layouts: HashMap::new(),
        }
    }

    fn layout(&mut self, route: &Route, protocol: u8) -> &Layout {
        let way = Way {
            source_mac: route.source_mac,
            next_hop_mac: route.next_hop_mac,
            vlan: route.vlan,
            source: route.source,
            dscp: 0,
            protocol,
            // Who is forbidden to fragment may leave the identification out.
            dont_fragment: false,
        };
        self.layouts.entry(way).or_insert_with(|| Layout::new(&way))
    }

    /// Writes a probe to `out`, at least [`crate::link::MAX_FRAME`] octets; returns its
    /// length.
    pub fn probe(&mut self, ask: &Ask, route: &Route, out: &mut [u8]) -> usize {
        let ports = self.ports;
        let protocol = protocol(ask.kind, ask.address.is_ipv6());
        let layout = self.layout(route, protocol);
        let own = |port| Own {
            local_port: ports.local,
            remote: SocketAddr::new(ask.address, port),
            flow_label: 0,
        };
        let alone = match ask.kind {
            Kind::Echo => Alone::Echo {
                identifier: ports.local,
                sequence: ask.number,
                checksum: None,
            },
            Kind::Datagram => Alone::Datagram {
                source_port: ports.local,
                destination_port: ports.datagram,
                checksum: Some(ask.number),
                data: alone::DATA as u8,
            },
            Kind::Segment => {
                let varying = Varying {
                    ttl: TTL,
                    sequence: u32::from(ask.number) << 16 | u32::from(ask.identification),
                    acknowledgment: 0,
                    flags: tcp::flags::SYN,
                    window: MSS * 4,
                    options: SegmentOptions::Syn {
                        mss: MSS,
                        window_scale: 2,
                        tsval: 0,
                    },
                    payload_len: 0,
                };
                return layout.write(&own(ports.segment), &varying, ask.identification, out);
            }
        };
        layout.write_alone(&own(0), TTL, &alone, ask.identification, out)
    }

    /// Writes the segment that ends what a SYN of ours began, as [`Writer::probe`].
    pub fn reset(&mut self, target: IpAddr, sequence: u32, route: &Route, out: &mut [u8]) -> usize {
        let own = Own {
            local_port: self.ports.local,
            remote: SocketAddr::new(target, self.ports.segment),
            flow_label: 0,
        };
        let varying = Varying {
            ttl: TTL,
            sequence,
            acknowledgment: 0,
            flags: tcp::flags::RST,
            window: 0,
            options: SegmentOptions::None,
            payload_len: 0,
        };
        self.layout(route, ip::PROTOCOL_TCP)
            .write(&own, &varying, 0, out)
    }
}

/// What a packet tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The answer.
    pub answer: Answer,
    /// A connection was begun by it: the sequence number of the RST that ends it.
    pub reset: Option<u32>,
}

/// Reads a packet, from its IP header on, that was steered to us as one about probes of
/// that kind to that target. `None`: it tells nothing.
#[must_use]
pub fn read(packet: &[u8], target: usize, kind: Kind, at: Instant) -> Option<Told> {
    let (reply, _) = decode_with_ends(packet, false).ok()?;
    let ip = ip::Packet::arrived(packet).ok()?;
    let mut answer = Answer {
        target,
        kind,
        number: None,
        at,
        from: ip.source,
        ttl: ip.ttl,
        id: ip.source.is_ipv4().then_some(ip.identification.into()),
        port_unreachable: false,
        other_error: false,
        interfaces: Vec::new(),
    };
    let mut reset = None;
    match (reply, kind) {
        (Reply::Direct(direct), _) => match (direct.kind, kind) {
            (DirectKind::Echo { sequence }, Kind::Echo) => answer.number = Some(sequence),
            // Somebody listens there.
            (DirectKind::Datagram { .. }, Kind::Datagram) => {}
            _ => return None,
        },
        (Reply::Segment(segment), Kind::Segment) => {
            let has = |bits: u8| segment.flags & bits == bits;
            if !has(tcp::flags::ACK) {
                return None;
            }
            answer.number = Some((segment.acknowledgment.wrapping_sub(1) >> 16) as u16);
            let begun = has(tcp::flags::SYN) && !has(tcp::flags::RST);
            reset = begun.then_some(segment.acknowledgment);
        }
        (Reply::Icmp(error), _) => {
            answer.number = Some(quoted(&error.quote, kind)?);
            answer.port_unreachable = is_port_unreachable(&error);
            answer.other_error = !answer.port_unreachable;
            answer.interfaces = interfaces(&ip);
        }
        _ => return None,
    }
    Some(Told { answer, reset })
}

/// The number of a quoted probe.
fn quoted(quote: &Quote, kind: Kind) -> Option<u16> {
    match (quote.alone, kind) {
        (Some(QuotedAlone::Echo { sequence, .. }), Kind::Echo) => Some(sequence),
        (Some(QuotedAlone::Datagram { checksum, .. }), Kind::Datagram) => Some(checksum),
        (None, Kind::Segment) => Some((quote.sequence >> 16) as u16),
        _ => None,
    }
}

fn is_port_unreachable(error: &IcmpError) -> bool {
    let code = match error.from {
        IpAddr::V4(_) => 3,
        IpAddr::V6(_) => 4,
    };
    error.kind == IcmpKind::Unreachable && error.icmp_code == code
}

/// The interfaces that an error names.
fn interfaces(packet: &ip::Packet<'_>) -> Vec<Interface> {
    let (version, pseudo) = match packet.source {
        IpAddr::V4(_) => (Version::V4, Sum::ZERO),
        IpAddr::V6(_) => (Version::V6, packet.pseudo(packet.payload.len())),
    };
    let error = icmp::Error::new(version, packet.payload, pseudo).ok();
    let extension = error.and_then(|error| error.quoted().extension);
    extension.map_or_else(Vec::new, |structure| structure.interfaces())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::MAX_FRAME;
    use crate::wire::ipv4;

    const PORTS: Ports = Ports {
        local: 61_000,
        datagram: 33_434,
        segment: 80,
    };

    fn route() -> Route {
        Route {
            interface: crate::net::Interface {
                index: 1,
                name: "sim1".into(),
            }
            .into(),
            vlan: None,
            source: [192, 0, 2, 1].into(),
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            mtu: 1500,
            device_mtu: 1500,
        }
    }

    fn ask(kind: Kind) -> Ask {
        Ask {
            target: 3,
            address: [198, 51, 100, 9].into(),
            kind,
            number: 517,
            identification: 0x4242,
        }
    }

    /// The probe's packet.
    fn probe(kind: Kind) -> Vec<u8> {
        let mut out = vec![0; MAX_FRAME];
        let length = Writer::new(PORTS).probe(&ask(kind), &route(), &mut out);
        out[14..length].to_vec()
    }

    /// A packet to us.
    fn packet(from: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
        let header = ipv4::Repr {
            source: from.into(),
            destination: [192, 0, 2, 1].into(),
            protocol,
            ttl: 60,
            traffic_class: 0,
            identification: 777,
            fragment: 0,
            payload_len: body.len() as u16,
        };
        let mut out = vec![0; header.buffer_len()];
        header.emit(&mut out);
        out.extend(body);
        out
    }

    #[test]
    fn probes_are_whole_and_may_be_fragmented() {
        for kind in Kind::ALL {
            let packet = probe(kind);
            let ip = ip::Packet::arrived(&packet).unwrap();
            assert_eq!(ip.identification, 0x4242);
            assert_eq!(ip.protocol, protocol(kind, false));
            assert_eq!(ipv4::Packet::new(&packet).unwrap().fragment(), 0);
        }
    }

    #[test]
    fn errors_name_the_probe_that_they_quote() {
        for kind in Kind::ALL {
            for (code, unreachable) in [(3, true), (13, false)] {
                let mut body = vec![icmp::V4_UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
                body.extend(&probe(kind)[..28]);
                let checksum = Sum::ZERO.bytes(&body).finish();
                body[2..4].copy_from_slice(&checksum.to_be_bytes());
                let packet = packet([203, 0, 113, 1], ip::PROTOCOL_ICMP, &body);
                let told = read(&packet, 3, kind, Instant::ZERO).unwrap();
                assert_eq!(told.answer.number, Some(517), "{kind:?}");
                assert_eq!(told.answer.id, Some(777));
                assert_eq!(told.answer.from, IpAddr::from([203, 0, 113, 1]));
                assert_eq!(told.answer.port_unreachable, unreachable);
                assert_eq!(told.answer.other_error, !unreachable);
                let other = Kind::ALL[(kind.index() + 1) % 3];
                assert_eq!(read(&packet, 3, other, Instant::ZERO), None);
            }
        }
    }

    #[test]
    fn a_connection_that_a_syn_began_is_ended() {
        let syn = probe(Kind::Segment);
        let syn = tcp::Segment::new(&syn[20..]).unwrap();
        let answer = |flags| {
            let repr = tcp::Repr {
                source_port: syn.destination_port(),
                destination_port: syn.source_port(),
                sequence: 9,
                acknowledgment: syn.sequence().wrapping_add(1),
                flags,
                window: 100,
                options: tcp::Options::default(),
                payload: &[],
            };
            let mut body = vec![0; repr.buffer_len()];
            let (from, to) = ([198, 51, 100, 9].into(), [192, 0, 2, 1].into());
            let length = body.len() as u32;
            repr.emit(Sum::ZERO.pseudo(from, to, 6, length), &mut body);
            let packet = packet([198, 51, 100, 9], ip::PROTOCOL_TCP, &body);
            read(&packet, 3, Kind::Segment, Instant::ZERO)
        };
        use tcp::flags::{ACK, RST, SYN};
        let begun = answer(SYN | ACK).unwrap();
        assert_eq!(begun.answer.number, Some(517));
        let sequence = begun.reset.unwrap();
        assert_eq!(sequence, syn.sequence().wrapping_add(1));
        let refused = answer(RST | ACK).unwrap();
        assert_eq!((refused.answer.number, refused.reset), (Some(517), None));
        assert_eq!(answer(SYN), None);

        let mut out = vec![0; MAX_FRAME];
        let target = ask(Kind::Segment).address;
        let length = Writer::new(PORTS).reset(target, sequence, &route(), &mut out);
        let reset = tcp::Segment::new(&out[34..length]).unwrap();
        assert_eq!((reset.sequence(), reset.flags()), (sequence, RST));
        assert_eq!(
            (reset.source_port(), reset.destination_port()),
            (61_000, 80)
        );
    }
}
