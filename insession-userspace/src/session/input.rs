//! What comes in: replies, already parsed and named.

use core::net::{IpAddr, SocketAddr};

use insession_common::flow::alone_port;

use super::{Flow, OwnSegment};
use crate::trace::MplsLabel;
use crate::wire::ip;
use crate::wire::tcp::Options;
use alloc::vec::Vec;

/// A packet of this flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A TCP segment from the peer.
    Segment(Segment),
    /// An ICMP error that quotes a segment of this flow.
    Icmp(IcmpError),
    /// An echo reply or a datagram: the answer to a probe that stood alone.
    Direct(Direct),
    /// Another segment of our own kernel's, of a connection that is watched.
    Own(OwnSegment),
    /// With [`super::Handshaker::Kernel`]: the SYN that our kernel sent.
    OwnSyn {
        /// Its sequence number: our ISN.
        sequence: u32,
        /// Its options: the TSval seen here is where our own clock goes on from.
        options: Options,
    },
}

/// An answer from the target that is neither a segment nor an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Who sent it.
    pub from: IpAddr,
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// What it is.
    pub kind: DirectKind,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectKind {
    /// An echo reply.
    Echo {
        /// Its sequence number: the request's.
        sequence: u16,
    },
    /// A datagram.
    Datagram {
        /// The port that it comes from.
        source_port: u16,
    },
}

/// A TCP segment from the peer. Its checksum was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; meaningful with the ACK flag.
    pub acknowledgment: u32,
    /// Flag bits as on the wire (`wire::tcp::flags`).
    pub flags: u8,
    /// The window field, unscaled.
    pub window: u16,
    /// Bytes of payload.
    pub payload_len: u32,
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// Options.
    pub options: Options,
}

/// An ICMP or ICMPv6 error.
#[derive(Clone, Debug, PartialEq)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    /// What it means.
    pub kind: IcmpKind,
    /// ICMP type as on the wire.
    pub icmp_type: u8,
    /// ICMP code as on the wire.
    pub icmp_code: u8,
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// What it quotes.
    pub quote: Quote,
    /// RFC 4950 label stack, outermost first.
    pub mpls: Vec<MplsLabel>,
}

/// What an ICMP error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Time exceeded in transit (RFC 792; RFC 4443 §3.3).
    TimeExceeded,
    /// Destination unreachable, other than too big.
    Unreachable,
    /// Fragmentation needed (RFC 1191), packet too big (RFC 4443 §3.2).
    PacketTooBig {
        /// Next-hop MTU; 0 from routers older than RFC 1191.
        mtu: u32,
    },
}

/// The quoted packet. A router need not quote more than 8 bytes of TCP
/// (RFC 792), so everything behind the sequence number is optional.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// Source address and port: ours, unless rewritten.
    pub source: SocketAddr,
    /// Destination address and port: the target's, unless rewritten.
    pub destination: SocketAddr,
    /// TCP sequence number.
    pub sequence: u32,
    /// TTL or hop limit of the probe as the router saw it.
    pub ttl: u8,
    /// TOS octet or traffic class.
    pub traffic_class: u8,
    /// Whether the quoted TCP checksum is wrong for the quoted bytes; `None`
    /// where the quote is not whole.
    pub checksum_bad: Option<bool>,
    /// What more is quoted that tells what was changed.
    pub seen: Seen,
    /// What is quoted where it is no segment; the sequence number is 0 then, and an
    /// echo request's identifier the source port.
    pub alone: Option<QuotedAlone>,
}

/// What a quote shows beside what names the probe, as far as it surely stands in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// IPv4: "don't fragment" is set.
    pub dont_fragment: Option<bool>,
    /// Octets of the segment, where its checksum bears that out; of a datagram as it
    /// says itself.
    pub length: Option<u16>,
    /// TCP flags.
    pub flags: Option<u8>,
    /// The window field.
    pub window: Option<u16>,
    /// TCP options.
    pub options: Option<QuotedOptions>,
    /// The data has an octet that no probe has: segments have zeros, others what
    /// [`crate::wire::alone`] writes.
    pub odd_data: bool,
}

/// Options of a quoted segment: laid out as ours are, or otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedOptions {
    /// As `SegmentOptions::None`.
    None,
    /// As `SegmentOptions::Timestamps`.
    Timestamps,
    /// As `SegmentOptions::Syn`.
    Syn {
        /// Octets.
        mss: u16,
        /// Shift count.
        window_scale: u8,
        /// TSval.
        tsval: u32,
    },
    /// Any others.
    Other {
        /// The maximum segment size among them.
        mss: Option<u16>,
    },
}

impl Quote {
    /// The flow that it is of, from our side, as its answers are steered by it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let v6 = self.destination.is_ipv6();
        let protocol = match self.alone {
            None => None,
            Some(QuotedAlone::Datagram { .. }) => Some(ip::PROTOCOL_UDP),
            Some(QuotedAlone::Echo { .. }) if v6 => Some(ip::PROTOCOL_ICMPV6),
            Some(QuotedAlone::Echo { .. }) => Some(ip::PROTOCOL_ICMP),
        };
        Flow {
            local: self.source,
            remote: match protocol {
                Some(protocol) => SocketAddr::new(self.destination.ip(), alone_port(protocol)),
                None => self.destination,
            },
        }
    }
}

/// What names a quoted probe that is no segment: it stands in the first eight octets,
/// or in the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedAlone {
    /// An echo request.
    Echo {
        /// Its sequence number.
        sequence: u16,
        /// Its checksum.
        checksum: u16,
    },
    /// A datagram.
    Datagram {
        /// Its checksum.
        checksum: u16,
        /// Its length field: octets with its header.
        length: u16,
        /// IPv4 identification; 0 in IPv6.
        identification: u16,
    },
}
