//! The result model: what sessions fill and reports print. It is the contract
//! `insession.trace/1` in types; `report::json` writes it down.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use crate::time::{Duration, UnixTime};

pub mod changes;
mod mtu;

pub use mtu::{MtuLimit, MtuStep, PathMtu};

/// One target, traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The target as the user named it.
    pub target: String,
    /// The address that was traced; `None` when the name did not resolve.
    pub address: Option<IpAddr>,
    /// The destination port.
    pub port: u16,
    /// How hops were probed.
    pub method: Method,
    /// Our address; `None` when there was no route.
    pub source: Option<IpAddr>,
    /// Our port; `None` when no session was started.
    pub source_port: Option<u16>,
    /// When the first segment was sent.
    pub started: UnixTime,
    /// From the first segment to the verdict.
    pub duration: Duration,
    /// How it ended.
    pub verdict: Verdict,
    /// What the verdict alone does not say: an ICMP code, an error's text.
    pub detail: Option<String>,
    /// The handshake, where one was completed.
    pub handshake: Option<Handshake>,
    /// The smallest TTL that reached the destination.
    pub destination_ttl: Option<u8>,
    /// By rising TTL; every probe that was sent stands in it.
    pub hops: Vec<Hop>,
    /// How large a packet gets how far; `None` where that was not asked for, or no
    /// session was opened.
    pub mtu: Option<PathMtu>,
    /// The link it went over, one for all that did; `None` when there was none.
    pub link: Option<Arc<LinkInfo>>,
}

/// How hops are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Data segments inside a TCP session of ours.
    InSession,
    /// Data that was acknowledged already, sent again inside a connection that
    /// carries a real conversation.
    Sidecar,
    /// Echo requests, as the standard traceroute sends them.
    Icmp,
    /// Datagrams to rising ports, as the standard traceroute sends them.
    Udp,
    /// SYNs, each from a source port of its own, as the standard traceroute sends
    /// them.
    Tcp,
    /// Echo requests of one flow: constant identifier and checksum.
    ParisIcmp,
    /// Datagrams of one flow: constant ports, the checksum names the probe.
    ParisUdp,
    /// SYNs of one flow: constant ports, the sequence number names the probe.
    ParisTcp,
    /// Datagrams of one flow whose quotes tell NATs apart.
    Dublin,
}

impl Method {
    /// Every one of them.
    pub const ALL: [Method; 9] = [
        Method::InSession,
        Method::Sidecar,
        Method::Icmp,
        Method::Udp,
        Method::Tcp,
        Method::ParisIcmp,
        Method::ParisUdp,
        Method::ParisTcp,
        Method::Dublin,
    ];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::InSession => "insession",
            Method::Sidecar => "sidecar",
            Method::Icmp => "icmp",
            Method::Udp => "udp",
            Method::Tcp => "tcp",
            Method::ParisIcmp => "paris-icmp",
            Method::ParisUdp => "paris-udp",
            Method::ParisTcp => "paris-tcp",
            Method::Dublin => "dublin",
        }
    }

    /// Whether its probes go out inside a TCP connection.
    #[must_use]
    pub const fn is_in_session(self) -> bool {
        matches!(self, Method::InSession | Method::Sidecar)
    }

    /// Whether all probes of a trace are of one flow, for whoever balances by
    /// addresses, protocol and ports (of ICMP: type, code, checksum, identifier).
    #[must_use]
    pub const fn is_one_flow(self) -> bool {
        !matches!(self, Method::Icmp | Method::Udp | Method::Tcp)
    }

    /// The IP protocol of its probes in IPv4 or (`v6`) IPv6.
    #[must_use]
    pub const fn protocol(self, v6: bool) -> u8 {
        match self {
            Method::InSession | Method::Sidecar | Method::Tcp | Method::ParisTcp => 6,
            Method::Udp | Method::ParisUdp | Method::Dublin => 17,
            Method::Icmp | Method::ParisIcmp if v6 => 58,
            Method::Icmp | Method::ParisIcmp => 1,
        }
    }
}

/// How a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The destination answered a probe.
    Complete,
    /// An ICMP error ended the trace; its code is the detail.
    Unreachable,
    /// A run of silent hops.
    GapLimit,
    /// The last TTL was probed.
    MaxTtl,
    /// RST to the SYN.
    Refused,
    /// RST in mid-trace.
    Reset,
    /// FIN in mid-trace.
    ClosedByPeer,
    /// No answer to the SYN.
    HandshakeTimeout,
    /// A middlebox rewrites sequence numbers and the offset could not be learnt.
    SeqRewritten,
    /// On the exclusion list.
    Excluded,
    /// No route to the address.
    NoRoute,
    /// The run was ended first.
    Interrupted,
    /// Anything else; the reason is the detail.
    Error,
}

impl Verdict {
    /// Every one of them, in the contract's order.
    pub const ALL: [Verdict; 13] = [
        Verdict::Complete,
        Verdict::Unreachable,
        Verdict::GapLimit,
        Verdict::MaxTtl,
        Verdict::Refused,
        Verdict::Reset,
        Verdict::ClosedByPeer,
        Verdict::HandshakeTimeout,
        Verdict::SeqRewritten,
        Verdict::Excluded,
        Verdict::NoRoute,
        Verdict::Interrupted,
        Verdict::Error,
    ];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Complete => "complete",
            Verdict::Unreachable => "unreachable",
            Verdict::GapLimit => "gap-limit",
            Verdict::MaxTtl => "max-ttl",
            Verdict::Refused => "refused",
            Verdict::Reset => "reset",
            Verdict::ClosedByPeer => "closed-by-peer",
            Verdict::HandshakeTimeout => "handshake-timeout",
            Verdict::SeqRewritten => "seq-rewritten",
            Verdict::Excluded => "excluded",
            Verdict::NoRoute => "no-route",
            Verdict::Interrupted => "interrupted",
            Verdict::Error => "error",
        }
    }

    /// Whether the run failed this target (exit code 1).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Verdict::NoRoute | Verdict::Interrupted | Verdict::Error
        )
    }
}

/// What the handshake showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// SYN to SYN-ACK.
    pub rtt: Duration,
    /// The peer's maximum segment size, octets (RFC 9293 §3.7.1; 536 where it sent none).
    pub mss: u16,
    /// SACK permitted by the peer.
    pub sack: bool,
    /// Timestamps negotiated.
    pub timestamps: bool,
    /// The peer's window scale, where it sent one.
    pub window_scale: Option<u8>,
}

/// All probes of one TTL.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The TTL (IPv6: hop limit) the probes were sent with.
    pub ttl: u8,
    /// In the order they were sent.
    pub probes: Vec<Probe>,
    /// These are not this trace's own: the near hops are another's of the same flow
    /// class, probed once for all. Times are that trace's.
    pub shared: bool,
}

impl Hop {
    /// A hop of the trace's own.
    #[must_use]
    pub const fn new(ttl: u8, probes: Vec<Probe>) -> Self {
        Hop {
            ttl,
            probes,
            shared: false,
        }
    }
}

/// One probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// When it was sent, after [`Trace::started`].
    pub sent: Duration,
    /// What came back; `None` (the contract's kind `none`) when nothing did.
    pub reply: Option<Reply>,
}

/// What came back for a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What kind of packet.
    pub kind: ReplyKind,
    /// Who sent it.
    pub from: IpAddr,
    /// Its name, where it was looked up and found.
    pub name: Option<String>,
    /// Whose it is, where it was looked up and found; one for all replies from there.
    pub owner: Option<Arc<Owner>>,
    /// From the transmit kick to the kernel's receive stamp.
    pub rtt: Duration,
    /// What `rtt` is worth.
    pub rtt_bound: RttBound,
    /// ICMP type and code, where it was ICMP.
    pub icmp: Option<(u8, u8)>,
    /// TTL of the reply as it arrived.
    pub reply_ttl: Option<u8>,
    /// TTL of the probe as the router saw it, from the quote.
    pub quoted_ttl: Option<u8>,
    /// Next-hop MTU of a packet-too-big.
    pub mtu: Option<u32>,
    /// RFC 4950 label stack, outermost first.
    pub mpls: Vec<MplsLabel>,
    /// What the quote shows changed on the way.
    pub rewrites: Vec<Rewrite>,
    /// What NATs on the way added to the checksum of the datagram that is quoted, in
    /// one's complement; 0 where none did, `None` where it cannot be told.
    pub nat: Option<u16>,
}

/// Whose an address is, as far as files told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The origin's AS number.
    pub asn: Option<u32>,
    /// Its holder, in words.
    pub holder: Option<String>,
    /// The announced prefix that covers it, as `192.0.2.0/24`.
    pub prefix: Option<String>,
    /// The internet exchange whose peering LAN it is on.
    pub ixp: Option<String>,
}

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyKind {
    /// ICMP time exceeded in transit.
    TimeExceeded,
    /// ICMP destination unreachable.
    Unreachable,
    /// ICMP fragmentation needed, ICMPv6 packet too big.
    PacketTooBig,
    /// The server's SACK names the probe.
    Sack,
    /// The server's duplicate ACK answers the probe.
    DupAck,
    /// RST.
    Rst,
    /// The server's SYN-ACK answers a SYN that was a probe.
    SynAck,
    /// ICMP echo reply.
    EchoReply,
    /// A datagram from the port that was probed.
    UdpReply,
}

impl ReplyKind {
    /// Every one of them.
    pub const ALL: [ReplyKind; 9] = [
        ReplyKind::TimeExceeded,
        ReplyKind::Unreachable,
        ReplyKind::PacketTooBig,
        ReplyKind::Sack,
        ReplyKind::DupAck,
        ReplyKind::Rst,
        ReplyKind::SynAck,
        ReplyKind::EchoReply,
        ReplyKind::UdpReply,
    ];

    /// Whether it can come from the target alone, whatever its address.
    #[must_use]
    pub const fn is_of_target(self) -> bool {
        match self {
            ReplyKind::TimeExceeded | ReplyKind::Unreachable | ReplyKind::PacketTooBig => false,
            ReplyKind::Sack
            | ReplyKind::DupAck
            | ReplyKind::Rst
            | ReplyKind::SynAck
            | ReplyKind::EchoReply
            | ReplyKind::UdpReply => true,
        }
    }

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplyKind::TimeExceeded => "time-exceeded",
            ReplyKind::Unreachable => "unreachable",
            ReplyKind::PacketTooBig => "packet-too-big",
            ReplyKind::Sack => "sack",
            ReplyKind::DupAck => "dup-ack",
            ReplyKind::Rst => "rst",
            ReplyKind::SynAck => "syn-ack",
            ReplyKind::EchoReply => "echo-reply",
            ReplyKind::UdpReply => "udp-reply",
        }
    }
}

/// What a round-trip time is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RttBound {
    /// The reply was triggered by this probe.
    Exact,
    /// The probe arrived no later than this: it was named by a later SACK.
    Upper,
}

impl RttBound {
    /// Both of them.
    pub const ALL: [RttBound; 2] = [RttBound::Exact, RttBound::Upper];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RttBound::Exact => "exact",
            RttBound::Upper => "upper",
        }
    }
}

/// One entry of an MPLS label stack (RFC 3032 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MplsLabel {
    /// 20 bits.
    pub label: u32,
    /// Traffic class, 3 bits.
    pub tc: u8,
    /// Bottom of stack.
    pub bottom: bool,
    /// Time to live.
    pub ttl: u8,
}

/// Something between us and the replying hop that was changed in the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rewrite {
    /// Our address.
    Source = 0,
    /// Our port.
    SourcePort = 1,
    /// The target's address.
    Destination = 2,
    /// The target's port.
    DestinationPort = 3,
    /// The sequence number.
    Sequence = 4,
    /// The DSCP.
    Dscp = 5,
    /// The ECN bits.
    Ecn = 6,
    /// The quoted TTL is neither 1 nor, where the router decrements first, 0.
    Ttl = 7,
    /// The checksum is not what we sent, though nothing it covers was seen changed.
    Checksum = 8,
    /// The maximum segment size that a SYN announces.
    Mss = 9,
    /// Other TCP options: taken away, added, or their values changed.
    Options = 10,
    /// The window field.
    Window = 11,
    /// TCP flags.
    Flags = 12,
    /// The data.
    Payload = 13,
    /// Octets of the segment or datagram.
    Length = 14,
    /// IPv4's "don't fragment".
    DontFragment = 15,
    /// The IPv4 identification.
    Identification = 16,
}

impl Rewrite {
    /// Every one of them, by number.
    pub const ALL: [Rewrite; 17] = [
        Rewrite::Source,
        Rewrite::SourcePort,
        Rewrite::Destination,
        Rewrite::DestinationPort,
        Rewrite::Sequence,
        Rewrite::Dscp,
        Rewrite::Ecn,
        Rewrite::Ttl,
        Rewrite::Checksum,
        Rewrite::Mss,
        Rewrite::Options,
        Rewrite::Window,
        Rewrite::Flags,
        Rewrite::Payload,
        Rewrite::Length,
        Rewrite::DontFragment,
        Rewrite::Identification,
    ];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Rewrite::Source => "source",
            Rewrite::SourcePort => "source-port",
            Rewrite::Destination => "destination",
            Rewrite::DestinationPort => "destination-port",
            Rewrite::Sequence => "sequence",
            Rewrite::Dscp => "dscp",
            Rewrite::Ecn => "ecn",
            Rewrite::Ttl => "ttl",
            Rewrite::Checksum => "checksum",
            Rewrite::Mss => "mss",
            Rewrite::Options => "options",
            Rewrite::Window => "window",
            Rewrite::Flags => "flags",
            Rewrite::Payload => "payload",
            Rewrite::Length => "length",
            Rewrite::DontFragment => "dont-fragment",
            Rewrite::Identification => "identification",
        }
    }
}

/// The link a trace went over, as it really was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// `xdp`, `packet`, `sim` or `mirror`.
    pub kind: &'static str,
    /// `native` or `generic`, for XDP.
    pub mode: Option<&'static str>,
    /// Zero-copy, as the kernel reports it.
    pub zero_copy: bool,
    /// The interface's name.
    pub interface: String,
}

/// Writes an address as `Display` does, an IPv4 address for a tenth of the price:
/// records have one a probe.
pub fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let (text, length) = v4_text(address);
            out.extend_from_slice(text.get(..length).unwrap_or_default());
        }
        IpAddr::V6(address) => out.extend_from_slice(address.to_string().as_bytes()),
    }
}

/// The text that [`write_address`] writes.
#[must_use]
pub fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else {
        return address.to_string();
    };
    let (octets, length) = v4_text(address);
    let mut text = String::with_capacity(octets.len());
    text.extend(octets.iter().take(length).map(|octet| char::from(*octet)));
    text
}

/// Whether that is the text that [`write_address`] writes.
#[must_use]
pub fn is_address_text(text: &str, address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else {
        return text == address.to_string();
    };
    let (octets, length) = v4_text(address);
    octets.get(..length) == Some(text.as_bytes())
}

/// The text, and how long it is.
fn v4_text(address: Ipv4Addr) -> ([u8; 16], usize) {
    let mut text = [0; 16];
    let mut length = 0;
    for octet in address.octets() {
        let (digits, count) = OCTETS[usize::from(octet)];
        // Four octets are written wherever there are up to three digits and a dot.
        if let Some(place) = text.get_mut(length..length + digits.len()) {
            place.copy_from_slice(&digits);
        }
        length += usize::from(count);
    }
    // But for the last dot.
    (text, length - 1)
}

/// Each octet in decimal and a dot, and how long that is.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut all = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let [a, b, c] = [octet / 100, octet / 10 % 10, octet % 10];
        let [a, b, c] = [b'0' + a as u8, b'0' + b as u8, b'0' + c as u8];
        all[octet] = match octet {
            100.. => ([a, b, c, b'.'], 4),
            10.. => ([b, c, b'.', 0], 3),
            _ => ([c, b'.', 0, 0], 2),
        };
        octet += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_ever() {
        let near = "2001:db8::7".parse().unwrap();
        let octets = (0..=255).flat_map(|octet| [[octet, 0, 10, 255], [1, octet, 99, octet]]);
        for address in octets.map(IpAddr::from).chain([near, [255; 4].into()]) {
            let mut out = Vec::new();
            write_address(address, &mut out);
            let text = address.to_string();
            assert_eq!(out, text.as_bytes());
            assert_eq!(address_text(address), text);
            assert!(is_address_text(&text, address));
            assert!(!is_address_text(&format!("{text}0"), address));
            assert!(!is_address_text(&text[1..], address));
        }
    }
}
