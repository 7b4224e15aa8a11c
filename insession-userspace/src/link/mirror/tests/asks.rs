//! What the reflector is asked: packets and networks of all kinds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::PacketBuilder;
use insession_common::reflect::{self, FlowEnds, Network};
use proptest::prelude::*;

use super::NEAR;
use crate::wire::tcp;

fn builder(
    local: IpAddr,
    remote: IpAddr,
    ttl: u8,
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(NEAR, reflect::MAC);
    match (local, remote) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ethernet.ipv4(a.octets(), b.octets(), ttl),
        (IpAddr::V6(a), IpAddr::V6(b)) => ethernet.ipv6(a.octets(), b.octets(), ttl),
        _ => unreachable!("one family"),
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Tcp { flags: u8, options: Vec<u8> },
    Udp,
    Echo,
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) ttl: u8,
    pub(super) kind: Kind,
    pub(super) payload: usize,
    pub(super) numbers: (u32, u32),
}

impl Ask {
    pub(super) fn frame(&self) -> Vec<u8> {
        let builder = builder(self.local.ip(), self.remote.ip(), self.ttl);
        let payload = vec![0x5a; self.payload];
        let mut frame = Vec::new();
        let (a, b) = (self.local.port(), self.remote.port());
        match &self.kind {
            Kind::Tcp { flags, options } => {
                let mut builder = builder
                    .tcp(a, b, self.numbers.0, 1000)
                    .options_raw(options)
                    .unwrap();
                if flags & tcp::flags::SYN != 0 {
                    builder = builder.syn();
                }
                if flags & tcp::flags::ACK != 0 {
                    builder = builder.ack(self.numbers.1);
                }
                if flags & tcp::flags::FIN != 0 {
                    builder = builder.fin();
                }
                if flags & tcp::flags::RST != 0 {
                    builder = builder.rst();
                }
                builder.write(&mut frame, &payload).unwrap();
            }
            Kind::Udp => builder.udp(a, b).write(&mut frame, &payload).unwrap(),
            Kind::Echo if self.local.is_ipv4() => builder
                .icmpv4_echo_request(a, b)
                .write(&mut frame, &payload)
                .unwrap(),
            Kind::Echo => builder
                .icmpv6_echo_request(a, b)
                .write(&mut frame, &payload)
                .unwrap(),
        }
        frame
    }

    pub(super) fn ends(&self, frame: &[u8]) -> FlowEnds {
        let l4 = 14 + if self.local.is_ipv4() { 20 } else { 40 };
        FlowEnds {
            local: reflect::Host::new(self.local.ip()),
            remote: reflect::Host::new(self.remote.ip()),
            protocol: match (&self.kind, self.local.is_ipv4()) {
                (Kind::Tcp { .. }, _) => 6,
                (Kind::Udp, _) => 17,
                (Kind::Echo, true) => 1,
                (Kind::Echo, false) => 58,
            },
            first: u32::from_be_bytes(frame[l4..l4 + 4].try_into().unwrap()),
        }
    }
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let timestamps = any::<[u8; 8]>().prop_map(|value| [&[8, 10], &value[..]].concat());
    let each = prop_oneof![
        Just(vec![1]),
        Just(vec![2, 4, 5, 0xb4]),
        Just(vec![3, 3, 7]),
        Just(vec![4, 2]),
        timestamps,
        Just(vec![254, 4, 1, 2]),
    ];
    prop::collection::vec(each, 0..6).prop_map(|options| {
        let mut bytes = options.concat();
        while bytes.len() > 40 {
            bytes.pop();
        }
        // What was cut is no option any more.
        if tcp_options_end(&bytes) != bytes.len() {
            bytes.truncate(tcp_options_end(&bytes));
        }
        bytes
    })
}

fn tcp_options_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let size = match bytes[at] {
            1 => 1,
            _ => bytes.get(at + 1).map_or(100, |size| usize::from(*size)),
        };
        if at + size > bytes.len() {
            return at;
        }
        at += size;
    }
    at
}

pub(super) fn ask() -> impl Strategy<Value = Ask> {
    let ends = prop_oneof![
        any::<(u32, u32)>().prop_map(|(a, b)| {
            let unicast = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits & 0x7fff_ffff));
            (unicast(a), unicast(b))
        }),
        any::<(u64, u64)>().prop_map(|(a, b)| {
            let unicast =
                |bits: u64| IpAddr::V6(Ipv6Addr::from_bits(0x2001 << 112 | u128::from(bits)));
            (unicast(a), unicast(b))
        }),
    ];
    let kind = prop_oneof![
        (0u8..0x20, options()).prop_map(|(flags, options)| Kind::Tcp { flags, options }),
        Just(Kind::Udp),
        Just(Kind::Echo),
    ];
    let numbers = any::<(u32, u32)>();
    (
        ends,
        any::<(u16, u16)>(),
        1u8..40,
        kind,
        0usize..200,
        numbers,
    )
        .prop_map(
            |((local, remote), (a, b), ttl, kind, payload, numbers)| Ask {
                local: SocketAddr::new(local, a),
                remote: SocketAddr::new(remote, b),
                ttl,
                kind,
                payload,
                numbers,
            },
        )
}

pub(super) fn network() -> impl Strategy<Value = Network> {
    let shares = any::<[u16; 3]>();
    (any::<u64>(), 1u8..33, 1u8..33, any::<[u8; 3]>(), shares).prop_map(
        |(key, shortest, longest, [first, last, width], [silent, mpls, mute])| Network {
            key,
            shortest,
            longest,
            balanced_first: first % 32,
            balanced_last: last % 32,
            width: width % 10,
            silent: silent / 4,
            mpls,
            loss: 0,
            mute: mute / 8,
            refuse: mute / 8,
        },
    )
}
