//! The network that the reflector stands for: what is where, by keyed hash.
//!
//! Nothing is stored. How far a destination is, which router a flow meets at a
//! TTL, what that router says and what is lost follow from the configuration
//! and the packet, so that the truth about any trace can be computed.

use core::net::IpAddr;

/// The network. Every address that is not the near end's is a destination.
///
/// Shares are per 65,536. What lies outside a field's range counts as the
/// range's nearest value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Of all hashes. Another key, another network.
    pub key: u64,
    /// The smallest TTL that reaches a destination; 1 to [`LONGEST`].
    pub shortest: u8,
    /// The largest TTL that is needed to; `shortest` to [`LONGEST`].
    pub longest: u8,
    /// The first TTL with several routers.
    pub balanced_first: u8,
    /// The last TTL with several routers.
    pub balanced_last: u8,
    /// How many routers there are, between which flows are balanced; 1 to [`WIDEST`].
    pub width: u8,
    /// Share of the routers that never answer.
    pub silent: u16,
    /// Share of the routers that append an MPLS label stack to what they quote.
    pub mpls: u16,
    /// Share of the replies that are lost.
    pub loss: u16,
    /// Share of the destinations that complete the handshake and answer nothing else.
    pub mute: u16,
    /// Share of the destinations that answer a SYN with RST.
    pub refuse: u16,
}

/// The farthest that a destination can be.
pub const LONGEST: u8 = 32;

/// The most routers at one TTL of one way.
pub const WIDEST: u8 = 8;

/// The most labels in an MPLS stack.
pub const MOST_LABELS: usize = 3;

/// IPv4 routers' addresses: 100.64.0.0/10 (RFC 6598), every host part once.
const ROUTERS_V4: u32 = 0x6440_0000;
const ROUTER_BITS: u32 = 22;
/// IPv6 routers' addresses: fd00:64::/64, interface ids by a bijection too.
const ROUTERS_V6: u64 = 0xfd00_0064_0000_0000;

/// How many bits of a router's number say where in the tree it stands, four bits
/// a TTL from 0 on: few routers near, more of them with every hop up to the
/// seventh, then as many.
const TREE_BITS: u32 = 0xec96_3100;
const TREE: u32 = 14;
/// `TREE` and a branch below [`WIDEST`] and a TTL below [`LONGEST`].
const BRANCH: u32 = 3;
const _: () = assert!(TREE + BRANCH + 5 == ROUTER_BITS);

impl Default for Network {
    /// 4 to 12 hops, four ways at TTLs 3 to 5, nothing amiss.
    fn default() -> Self {
        Network {
            key: 0x0123_4567_89ab_cdef,
            shortest: 4,
            longest: 12,
            balanced_first: 3,
            balanced_last: 5,
            width: 4,
            silent: 0,
            mpls: 0,
            loss: 0,
            mute: 0,
            refuse: 0,
        }
    }
}

impl Network {
    /// As it lies in the XDP program's map: words, without padding.
    #[must_use]
    pub const fn words(&self) -> [u64; 3] {
        [
            self.key,
            self.shortest as u64
                | (self.longest as u64) << 8
                | (self.balanced_first as u64) << 16
                | (self.balanced_last as u64) << 24
                | (self.width as u64) << 32
                | (self.silent as u64) << 48,
            self.mpls as u64
                | (self.loss as u64) << 16
                | (self.mute as u64) << 32
                | (self.refuse as u64) << 48,
        ]
    }

    /// From [`Network::words`].
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u64; 3]) -> Self {
        let [key, a, b] = words;
        Network {
            key,
            shortest: a as u8,
            longest: (a >> 8) as u8,
            balanced_first: (a >> 16) as u8,
            balanced_last: (a >> 24) as u8,
            width: (a >> 32) as u8,
            silent: (a >> 48) as u16,
            mpls: b as u16,
            loss: (b >> 16) as u16,
            mute: (b >> 32) as u16,
            refuse: (b >> 48) as u16,
        }
    }
}

/// An address as a number: IPv4 in the IPv4-mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub(super) high: u64,
    pub(super) low: u64,
}

impl Host {
    /// Of an address.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Host::v4(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Host {
                    high: (bits >> 64) as u64,
                    low: bits as u64,
                }
            }
        }
    }

    #[inline(always)]
    pub(super) const fn v4(address: u32) -> Self {
        Host {
            high: 0,
            low: 0xffff_0000_0000 | address as u64,
        }
    }
}

/// All of a packet that load balancers look at: addresses, protocol and the
/// first four octets behind the IP header. Those are the ports, but for ICMP
/// type, code and checksum: why each probe of a classic ICMP traceroute may go
/// another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnds {
    /// Who sends.
    pub local: Host,
    /// To whom.
    pub remote: Host,
    /// IP protocol number.
    pub protocol: u8,
    /// The first four octets behind the IP header, as a number.
    pub first: u32,
}

impl FlowEnds {
    /// Of TCP segments from `local` to `remote`.
    #[must_use]
    pub fn tcp(local: core::net::SocketAddr, remote: core::net::SocketAddr) -> Self {
        FlowEnds {
            local: Host::new(local.ip()),
            remote: Host::new(remote.ip()),
            protocol: crate::flow::PROTOCOL_TCP,
            first: u32::from(local.port()) << 16 | u32::from(remote.port()),
        }
    }
}

/// What answers at a TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// A router on the way.
    Router {
        /// Its address, of the destination's family.
        address: IpAddr,
        /// It never answers.
        silent: bool,
        /// What it appends to its quotes; empty for most.
        labels: Labels,
    },
    /// The destination.
    Destination {
        /// It completes the handshake and answers nothing else.
        mute: bool,
        /// It answers SYN with RST.
        refuses: bool,
    },
}

/// An MPLS label stack, outermost first: entries as in RFC 3032 §2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub(super) entries: [u32; MOST_LABELS],
    pub(super) depth: u8,
}

impl Labels {
    /// The entries: 20 bits of label, 3 of traffic class, 1 for the bottom, 8 of TTL.
    #[must_use]
    pub fn entries(&self) -> &[u32] {
        self.entries
            .get(..usize::from(self.depth))
            .unwrap_or_default()
    }
}

/// The TTL that reaches this destination.
#[must_use]
pub fn destination_ttl(network: &Network, remote: IpAddr) -> u8 {
    Way::to(network, Host::new(remote)).length
}

/// Whether the destination answers nothing but SYNs.
#[must_use]
pub fn is_mute(network: &Network, remote: IpAddr) -> bool {
    Way::to(network, Host::new(remote)).is_mute(network)
}

/// Whether the destination answers SYN with RST.
#[must_use]
pub fn refuses(network: &Network, remote: IpAddr) -> bool {
    Way::to(network, Host::new(remote)).refuses(network)
}

/// What answers a packet of this flow and TTL.
#[must_use]
pub fn hop(network: &Network, ends: &FlowEnds, ttl: u8) -> Hop {
    let way = Way::to(network, ends.remote);
    if ttl >= way.length {
        return Hop::Destination {
            mute: way.is_mute(network),
            refuses: way.refuses(network),
        };
    }
    let router = way.router(network, flow_hash(&way, ends), ttl);
    let address = if ends.remote.high == 0 && ends.remote.low >> 32 == 0xffff {
        IpAddr::V4(router.v4(network).into())
    } else {
        let (high, low) = router.v6(network);
        IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into())
    };
    let traits = router.traits(network);
    Hop::Router {
        address,
        silent: traits.silent(network),
        labels: match traits.labelled(network) {
            true => traits.labels(),
            false => Labels::default(),
        },
    }
}

/// Whether the reply to a packet of this flow and TTL is lost. `token` is what
/// tells the packet from the flow's others: see [`token`].
#[must_use]
pub fn lost(network: &Network, ends: &FlowEnds, ttl: u8, token: u32) -> bool {
    let way = Way::to(network, ends.remote);
    is_lost(network, flow_hash(&way, ends), ttl, token)
}

/// What tells a packet from others of its flow, also from its repetition: IPv4's
/// identification (else 0), the second four octets behind the IP header (TCP: the
/// sequence number) and, where there is one, the timestamp option's TSval.
#[inline(always)]
#[must_use]
pub const fn token(identification: u16, second: u32, tsval: u32) -> u32 {
    second ^ (identification as u32).rotate_left(16) ^ tsval.rotate_left(8)
}

#[inline(always)]
pub(super) fn is_lost(network: &Network, flow: u64, ttl: u8, token: u32) -> bool {
    network.loss != 0
        && (mix(flow ^ mix(u64::from(token) << 8 | u64::from(ttl))) as u16) < network.loss
}

/// The way to a destination.
#[derive(Clone, Copy)]
pub(super) struct Way {
    hash: u64,
    pub(super) length: u8,
}

impl Way {
    #[inline(always)]
    pub(super) fn to(network: &Network, remote: Host) -> Self {
        let hash = mix(mix(network.key ^ remote.high) ^ remote.low);
        let shortest = most(least(network.shortest, 1), LONGEST);
        let longest = most(least(network.longest, shortest), LONGEST);
        let span = u64::from(longest - shortest) + 1;
        Way {
            hash,
            length: shortest + (((hash & 0xffff) * span) >> 16) as u8,
        }
    }

    /// The same, for [`super::reflect`].
    #[inline(always)]
    pub(super) fn forgotten(self, forget: &impl Fn(u64) -> u64) -> Self {
        Way {
            hash: self.hash,
            length: (forget(u64::from(self.length)) as u8 & 63),
        }
    }

    #[inline(always)]
    pub(super) fn is_mute(self, network: &Network) -> bool {
        network.mute != 0 && (mix(self.hash ^ 1) as u16) < network.mute
    }

    #[inline(always)]
    pub(super) fn refuses(self, network: &Network) -> bool {
        network.refuse != 0 && (mix(self.hash ^ 2) as u16) < network.refuse
    }

    /// The router that a flow of this hash meets.
    #[inline(always)]
    pub(super) fn router(self, network: &Network, flow: u64, ttl: u8) -> RouterId {
        let bits = match ttl {
            0..7 => TREE_BITS >> (u32::from(ttl) * 4) & 0xf,
            _ => TREE,
        };
        // Of the hash's upper half, whose top bits name the subtree.
        let tree = (self.hash >> 32) >> (32 - bits);
        let balanced =
            network.width > 1 && ttl >= network.balanced_first && ttl <= network.balanced_last;
        let branch = if balanced {
            let width = u64::from(most(network.width, WIDEST));
            ((mix(flow ^ u64::from(ttl)) & 0xffff) * width) >> 16
        } else {
            0
        };
        RouterId((u32::from(ttl) << BRANCH | branch as u32) << TREE | tree as u32)
    }
}

/// A flow, for load balancers.
#[inline(always)]
pub(super) fn flow_hash(way: &Way, ends: &FlowEnds) -> u64 {
    let local = ends.local.high.rotate_left(32) ^ ends.local.low;
    mix(way.hash ^ mix(local ^ u64::from(ends.first) << 24 ^ u64::from(ends.protocol) << 56))
}

/// A router: TTL, branch and place in the tree, [`ROUTER_BITS`] in all.
#[derive(Clone, Copy)]
pub(super) struct RouterId(u32);

impl RouterId {
    /// Its IPv4 address: steps that can be undone, so that no two routers share one.
    #[inline(always)]
    pub(super) fn v4(self, network: &Network) -> u32 {
        const MASK: u32 = (1 << ROUTER_BITS) - 1;
        let key = network.key as u32 ^ (network.key >> 32) as u32;
        let mut host = (self.0 ^ key) & MASK;
        host = host.wrapping_mul(0x9e37_79b1) & MASK;
        host ^= host >> 11;
        host = host.wrapping_mul(0x85eb_ca6b) & MASK;
        ROUTERS_V4 | host ^ host >> 11
    }

    /// Its IPv6 address.
    #[inline(always)]
    pub(super) fn v6(self, network: &Network) -> (u64, u64) {
        (ROUTERS_V6, mix(network.key ^ u64::from(self.0)))
    }

    #[inline(always)]
    pub(super) fn traits(self, network: &Network) -> Traits {
        Traits(mix(network.key.rotate_left(17) ^ u64::from(self.0)))
    }
}

/// What a router does, as its hash says.
#[derive(Clone, Copy)]
pub(super) struct Traits(u64);

impl Traits {
    #[inline(always)]
    pub(super) fn silent(self, network: &Network) -> bool {
        (self.0 as u16) < network.silent
    }

    #[inline(always)]
    pub(super) fn labelled(self, network: &Network) -> bool {
        ((self.0 >> 16) as u16) < network.mpls
    }

    /// One to three of them. The TTL is 1: that of the packet was copied.
    #[inline(always)]
    pub(super) fn labels(self) -> Labels {
        let depth = 1 + (((self.0 >> 32 & 0xffff) * MOST_LABELS as u64) >> 16) as u8;
        // Labels below 16 are reserved (RFC 3032 §2.1).
        let bits = mix(self.0 ^ 3);
        let entry = |turned: u64| (turned as u32 | 0x0010_0000) & 0xffff_fe00 | 1;
        let [a, b, c] = [bits, bits.rotate_left(21), bits.rotate_left(42)].map(entry);
        const BOTTOM: u32 = 1 << 8;
        let entries = match depth {
            1 => [a | BOTTOM, 0, 0],
            2 => [a, b | BOTTOM, 0],
            _ => [a, b, c | BOTTOM],
        };
        Labels { entries, depth }
    }
}

/// Two rounds of multiplying and shifting, with the constants of SplitMix64
/// (Steele, Lea, Flood, 2014). A bijection.
#[inline(always)]
pub(super) const fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[inline(always)]
const fn least(value: u8, bound: u8) -> u8 {
    if value < bound { bound } else { value }
}

#[inline(always)]
const fn most(value: u8, bound: u8) -> u8 {
    if value > bound { bound } else { value }
}
