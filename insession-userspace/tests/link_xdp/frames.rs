//! Frames as a peer of ours would send them, built by a codec that is not ours.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Icmpv4Type, PacketBuilder, icmpv4::TimeExceededCode};
use insession::session::Flow;

use crate::lab::{FAR_MAC, NEAR_MAC};

/// The flow from this local port of ours.
pub fn flow(port: u16) -> Flow {
    Flow {
        local: (Ipv4Addr::new(10, 77, 0, 1), port).into(),
        remote: "10.77.0.2:443".parse().unwrap(),
    }
}

/// An Ethernet header of a frame from us to the peer.
pub fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::from(FAR_MAC);
    frame.extend_from_slice(&NEAR_MAC);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// The same over IPv6.
pub fn flow_v6(port: u16) -> Flow {
    Flow {
        local: format!("[fd77::1]:{port}").parse().unwrap(),
        remote: "[fd77::2]:443".parse().unwrap(),
    }
}

fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("IPv4 here"),
    }
}

/// A SYN-ACK of the flow, from the peer to us.
pub fn segment(flow: &Flow) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(FAR_MAC, NEAR_MAC);
    let builder = match (flow.remote.ip(), flow.local.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("one family"),
    };
    builder
        .tcp(flow.remote.port(), flow.local.port(), 1000, 65_000)
        .syn()
        .ack(2000)
        .write(&mut frame, &[])
        .unwrap();
    frame
}

/// A router's time exceeded for a segment of the flow, from us to the peer.
pub fn time_exceeded(flow: &Flow) -> Vec<u8> {
    let mut quoted = Vec::new();
    PacketBuilder::ipv4(octets(flow.local.ip()), octets(flow.remote.ip()), 1)
        .tcp(flow.local.port(), flow.remote.port(), 2002, 65_000)
        .ack(1001)
        .write(&mut quoted, &[1])
        .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(FAR_MAC, NEAR_MAC)
        .ipv4([10, 77, 0, 2], octets(flow.local.ip()), 64)
        .icmpv4(Icmpv4Type::TimeExceeded(
            TimeExceededCode::TtlExceededInTransit,
        ))
        .write(&mut frame, &quoted[..28])
        .unwrap();
    frame
}
