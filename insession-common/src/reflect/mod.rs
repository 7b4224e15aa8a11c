//! A network that answers, for test beds: bytes of a packet → bytes of its reply.
//!
//! Stateless: what a reply is follows from the packet and a [`Network`]. The XDP
//! program `reflector` runs [`reflect`] at the far end of a veth pair, the mirror
//! link runs it in memory; and whoever knows the [`Network`] knows what every
//! hop of every trace has to be ([`hop`]).

mod counters;
mod frame;
mod icmp;
mod neighbour;
mod network;
mod tcp;

use core::net::{IpAddr, Ipv4Addr};

pub use counters::Counter;
pub use frame::{ADDRESS_PAD, FRAME_BYTES, FRAME_WORDS, Frame, READ_BYTES};
pub use network::{
    FlowEnds, Hop, Host, LONGEST, Labels, MOST_LABELS, Network, WIDEST, destination_ttl, hop,
    is_mute, lost, refuses, token,
};

use self::frame::{Family, V4, V6};
use self::network::{Way, flow_hash, is_lost};

/// The reflector's own MAC address, for whoever asks.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// The program's function (and section) name.
pub const PROGRAM: &str = "reflector";
/// `Array<[u64; 3]>` of 1: [`Network::words`].
pub const NETWORK: &str = "NETWORK";
/// `PerCpuArray<u64>`: one counter a [`Counter`].
pub const COUNTERS: &str = "REFLECTED";

/// The gateway's own address: what is for it is left to the kernel at the far
/// end, so that traffic of others can flow over the same wire.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const GATEWAY: Host = Host::new(IpAddr::V4(GATEWAY_V4));

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which branch was taken: the number of a [`Counter`].
    pub counter: u32,
    /// How long the reply is, octets from its Ethernet header on; 0: there is none.
    pub length: u32,
    /// How many octets of it stand in the reply buffer; those behind are the
    /// request's, unchanged.
    pub written: u32,
}

impl Answer {
    #[inline(always)]
    fn none(counter: Counter) -> Self {
        Answer {
            counter: counter as u32,
            length: 0,
            written: 0,
        }
    }

    /// A reply that stands in the buffer as a whole.
    #[inline(always)]
    fn whole(counter: Counter, length: u32) -> Self {
        Answer {
            counter: counter as u32,
            length,
            written: length,
        }
    }
}

/// Makes the reply to a frame.
///
/// `request` holds the frame's first [`READ_BYTES`] octets, and zeros behind its
/// end; `length` is how long the frame is. The reply is written into `reply`.
///
/// `forget` gives a number back. Under the verifier it does so by way of a map:
/// the verifier follows every constant of every path apart, and so many paths
/// lead to one number here that it would not come to an end.
#[inline(always)]
pub fn reflect(
    network: &Network,
    request: &Frame,
    length: u32,
    reply: &mut Frame,
    forget: &impl Fn(u64) -> u64,
) -> Answer {
    match request.half(6) {
        0x0800 => ip::<V4>(network, request, length, reply, forget),
        0x86dd => ip::<V6>(network, request, length, reply, forget),
        0x0806 => neighbour::arp(request, length, reply),
        _ => Answer::none(Counter::NotIp),
    }
}

/// What all answers to an IP packet need of it.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// Length of the IP packet.
    length: u32,
    protocol: u8,
    ttl: u8,
    /// The TTL that reaches the destination.
    distance: u8,
    flow: u64,
    way: Way,
}

#[inline(always)]
fn ip<F: Family>(
    network: &Network,
    request: &Frame,
    length: u32,
    reply: &mut Frame,
    forget: &impl Fn(u64) -> u64,
) -> Answer {
    let header = match F::header(request) {
        Ok(header) => header,
        Err(counter) => return Answer::none(counter),
    };
    if header.length + 14 > length {
        return Answer::none(Counter::Truncated);
    }
    if F::is_multicast(request) {
        if F::IS_V6 && header.protocol == F::ICMP {
            return neighbour::solicitation(request, length, reply);
        }
        return Answer::none(Counter::Multicast);
    }
    let least = if header.protocol == F::TCP { 20 } else { 8 };
    if header.length < F::HEADER + least {
        return Answer::none(Counter::Truncated);
    }
    if F::IS_V6 && header.protocol == F::ICMP && neighbour::is_solicitation(request) {
        return neighbour::solicitation(request, length, reply);
    }
    if header.ttl == 0 {
        return Answer::none(Counter::Malformed);
    }
    if !F::IS_V6 && F::destination(request) == GATEWAY {
        return Answer::none(Counter::Gateway);
    }
    let way = Way::to(network, F::destination(request));
    let ends = FlowEnds {
        local: F::source(request),
        remote: F::destination(request),
        protocol: header.protocol,
        first: request.word(F::L4),
    };
    let packet = Packet {
        length: header.length,
        protocol: header.protocol,
        ttl: header.ttl,
        distance: way.length,
        flow: flow_hash(&way, &ends),
        way: way.forgotten(forget),
    };
    let options = if header.protocol == F::TCP {
        match tcp::Offered::parse::<F>(request, header.length, forget) {
            Some(options) => options.forgotten(forget),
            None => return Answer::none(Counter::Malformed),
        }
    } else {
        tcp::Offered::default()
    };
    let second = request.word(F::L4 + 1);
    let mark = token(header.identification, second, options.tsval);
    if is_lost(network, packet.flow, packet.ttl, mark) {
        return Answer::none(Counter::Lost);
    }
    if packet.ttl < packet.distance {
        return icmp::exceeded::<F>(network, request, &packet, reply);
    }
    if !F::checksum_ok(request, &packet) {
        return Answer::none(Counter::Checksum);
    }
    if header.protocol == F::TCP {
        return tcp::segment::<F>(network, request, &packet, &options, reply, forget);
    }
    if packet.way.is_mute(network) {
        return Answer::none(Counter::Mute);
    }
    if header.protocol == F::ICMP {
        return icmp::echo::<F>(request, &packet, reply);
    }
    icmp::port_unreachable::<F>(request, &packet, reply)
}
