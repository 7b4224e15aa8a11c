//! Frames by hand, the flows they are about, and what is to become of each:
//! for the steering decision on slices and, included from the kernel tests,
//! for the same decision under the verifier.
//!
//! Written byte by byte from the RFCs, not with the codecs of this repository.

mod alone;
mod foreign;
mod ours;

pub use alone::{BLOCKS, alone, alone_flows};

use std::collections::HashMap;

use insession_common::counters::Counter;
use insession_common::flow::{
    FlowKey, FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, PeerKey, SessionId, UNRESOLVED,
};
use insession_common::stamp::SteerKind;
use insession_common::steer::{Decision, Flows};

/// Our local ports.
pub const FIRST: u16 = 61000;
/// The last of them.
pub const LAST: u16 = 61999;

const US: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [192, 0, 2, 2];
const ROUTER: [u8; 4] = [198, 51, 100, 7];
/// What a NAT made of an address of ours, or of the server's.
const NATTED: [u8; 4] = [203, 0, 113, 9];
/// A host that we forward for.
const BEHIND: [u8; 4] = [10, 0, 0, 77];

const fn v6_address(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}
const US6: [u8; 16] = v6_address(1);
const SERVER6: [u8; 16] = v6_address(2);
const ROUTER6: [u8; 16] = v6_address(3);
const NATTED6: [u8; 16] = v6_address(9);
const BEHIND6: [u8; 16] = v6_address(0x77);

/// The IPv4 flow between our `local_port` and this remote end.
fn flow_v4(remote: [u8; 4], remote_port: u16, local_port: u16) -> FlowKey {
    FlowKey::V4(FlowKeyV4 {
        remote,
        local: US,
        remote_port: remote_port.to_be_bytes(),
        local_port: local_port.to_be_bytes(),
        protocol: PROTOCOL_TCP,
        zero: [0; 3],
    })
}

/// The IPv6 flow between our `local_port` and the server's port 443.
fn flow_v6(local_port: u16) -> FlowKey {
    FlowKey::V6(FlowKeyV6 {
        remote: SERVER6,
        local: US6,
        remote_port: 443u16.to_be_bytes(),
        local_port: local_port.to_be_bytes(),
        protocol: PROTOCOL_TCP,
        zero: [0; 3],
    })
}

/// The flows of ours.
pub fn flows() -> Vec<(FlowKey, SessionId)> {
    vec![
        (flow_v4(SERVER, 443, FIRST), 7),
        (flow_v4(OTHER, 80, FIRST), 8),
        (flow_v4(SERVER, 443, LAST), 9),
        (flow_v6(FIRST), 10),
        (flow_v6(FIRST + 1), 11),
    ]
}

/// Quotes of segments to our server from a port outside our range (a source
/// NAT's doing, or of a connection of the kernel's), and the kernel's flow.
pub fn quotes_from_port(port: u16) -> [(Vec<u8>, FlowKey); 2] {
    [
        (
            quote_v4(11, 0, ROUTER, US, US, SERVER, &cut(port, 443)),
            flow_v4(SERVER, 443, port),
        ),
        (
            quote_v6(3, ROUTER6, US6, US6, SERVER6, &cut(port, 443)),
            flow_v6(port),
        ),
    ]
}

/// Flows in hash maps, without counts.
pub struct Table {
    flows: HashMap<FlowKey, SessionId>,
    peers: HashMap<PeerKey, u32>,
    locals: HashMap<[u8; 16], u32>,
    ports: HashMap<u16, u32>,
    /// Connections of the kernel's.
    pub kernel: Vec<FlowKey>,
    /// Whether a port alone makes a frame ours.
    pub by_port: bool,
    /// Whether there are flows of probes that stand alone, and where blocks begin.
    pub alone: Option<u16>,
}

impl Table {
    pub fn new(flows: &[(FlowKey, SessionId)]) -> Self {
        Table {
            flows: flows.iter().copied().collect(),
            peers: flows.iter().map(|(flow, _)| (flow.peer(), 1)).collect(),
            locals: flows.iter().map(|(flow, _)| (flow.local(), 1)).collect(),
            ports: flows
                .iter()
                .map(|(flow, _)| (flow.local_port(), 1))
                .collect(),
            kernel: Vec::new(),
            by_port: false,
            alone: None,
        }
    }
}

impl Flows for Table {
    fn ports(&self) -> (u16, u16) {
        (FIRST, LAST)
    }

    fn by_port(&self) -> bool {
        self.by_port
    }

    fn alone(&self) -> bool {
        self.alone.is_some()
    }

    fn blocks(&self) -> u16 {
        self.alone.unwrap_or(0)
    }

    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId> {
        self.flows.get(&FlowKey::V4(*key)).copied()
    }

    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId> {
        self.flows.get(&FlowKey::V6(*key)).copied()
    }

    fn has_peer(&self, key: &PeerKey) -> bool {
        self.peers.contains_key(key)
    }

    fn has_local(&self, address: &[u8; 16]) -> bool {
        self.locals.contains_key(address)
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    fn kernel_v4(&self, key: &FlowKeyV4) -> bool {
        self.kernel.contains(&FlowKey::V4(*key))
    }

    fn kernel_v6(&self, key: &FlowKeyV6) -> bool {
        self.kernel.contains(&FlowKey::V6(*key))
    }
}

/// A frame and what is to become of it.
pub struct Fixture {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub decision: Decision,
}

/// Frames, and what is to become of them where a port alone makes a frame ours.
pub fn by_port() -> Vec<Fixture> {
    let ours = |kind| Decision::Ours {
        session: UNRESOLVED,
        kind,
        l3_offset: 14,
    };
    let (reply, quote) = (ours(SteerKind::Segment), ours(SteerKind::Quote));
    let from = |source, l4: &[u8]| ethernet(&[], 0x0800, &v4(source, US, 6, &[], l4));
    let about =
        |source, destination, ports: &[u8]| quote_v4(11, 0, ROUTER, US, source, destination, ports);
    let passed = Decision::Pass;
    let all = [
        ("SACK", sack(), reply),
        ("from anybody", from(NATTED, &tcp(9, FIRST, 0, &[])), reply),
        ("last port", segment(1, LAST), reply),
        ("no live port", segment(443, 61002), passed(Counter::NoFlow)),
        (
            "port outside",
            segment(443, LAST + 1),
            passed(Counter::PortOutside),
        ),
        ("time exceeded", time_exceeded(), quote),
        (
            "quote, all but our port rewritten",
            about(NATTED, NATTED, &cut(FIRST, 8443)),
            quote,
        ),
        (
            "quote of no live port",
            about(US, SERVER, &cut(61002, 443)),
            passed(Counter::QuoteNoFlow),
        ),
        (
            "quote of a port outside, to our server",
            about(US, SERVER, &cut(40000, 443)),
            passed(Counter::QuoteNoFlow),
        ),
        (
            "v6 segment",
            ethernet(
                &[],
                0x86dd,
                &v6(ROUTER6, US6, 6, &[], &tcp(9, FIRST, 0, &[])),
            ),
            reply,
        ),
        (
            "v6 quote",
            quote_v6(3, ROUTER6, US6, NATTED6, NATTED6, &cut(FIRST + 1, 9)),
            quote,
        ),
        ("foreign", foreign(), passed(Counter::PortOutside)),
    ];
    all.into_iter()
        .map(|(name, bytes, decision)| Fixture {
            name,
            bytes,
            decision,
        })
        .collect()
}

/// Two MAC addresses, VLAN tags of these EtherTypes, an EtherType, a payload.
pub fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet. `options` is a multiple of 4 long.
pub fn v4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 57, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// An IPv6 packet. `extensions`: protocol number and length in units of 8.
pub fn v6(
    source: [u8; 16],
    destination: [u8; 16],
    protocol: u8,
    extensions: &[(u8, u8)],
    payload: &[u8],
) -> Vec<u8> {
    let mut kinds: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).collect();
    kinds.push(protocol);
    let mut body = Vec::new();
    for (index, (_, length)) in extensions.iter().enumerate() {
        // PadN options would be proper; nobody looks at them.
        let mut header = vec![0; usize::from(*length) * 8];
        header[0] = kinds[index + 1];
        header[1] = length - 1;
        body.extend(header);
    }
    body.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([kinds[0], 57]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(body);
    packet
}

/// A TCP segment with `options` zero bytes of options.
pub fn tcp(source_port: u16, destination_port: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source_port.to_be_bytes());
    segment.extend(destination_port.to_be_bytes());
    segment.extend(0x0102_0304u32.to_be_bytes());
    segment.extend(0x0506_0708u32.to_be_bytes());
    segment.extend([(((20 + options) / 4) as u8) << 4, 0x10, 0xff, 0xff]);
    segment.extend([0; 4]);
    segment.extend(vec![1; options]);
    segment.extend(payload);
    segment
}

/// An ICMP or ICMPv6 message.
pub fn icmp(icmp_type: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0, 0, 0, 5, 220];
    message.extend(body);
    message
}

/// The first eight bytes of a TCP segment of ours.
fn cut(source_port: u16, destination_port: u16) -> Vec<u8> {
    tcp(source_port, destination_port, 0, &[])[..8].to_vec()
}

/// A SACK from the server: the commonest frame of ours.
pub fn sack() -> Vec<u8> {
    ethernet(
        &[],
        0x0800,
        &v4(SERVER, US, 6, &[], &tcp(443, 61000, 24, &[])),
    )
}

/// A TCP segment of somebody else.
pub fn foreign() -> Vec<u8> {
    ethernet(
        &[],
        0x0800,
        &v4(SERVER, US, 6, &[], &tcp(443, 40000, 12, &[0; 100])),
    )
}

/// Time exceeded from a router, with the shortest quote of RFC 792.
pub fn time_exceeded() -> Vec<u8> {
    quote_v4(11, 0, ROUTER, US, US, SERVER, &cut(61000, 443))
}

/// An ICMP error from `from` to `to` that quotes a packet of these ends.
fn quote_v4(
    icmp_type: u8,
    code: u8,
    from: [u8; 4],
    to: [u8; 4],
    source: [u8; 4],
    destination: [u8; 4],
    l4: &[u8],
) -> Vec<u8> {
    let quote = v4(source, destination, 6, &[], l4);
    ethernet(
        &[],
        0x0800,
        &v4(from, to, 1, &[], &icmp(icmp_type, code, &quote)),
    )
}

/// The same for IPv6.
fn quote_v6(
    icmp_type: u8,
    from: [u8; 16],
    to: [u8; 16],
    source: [u8; 16],
    destination: [u8; 16],
    l4: &[u8],
) -> Vec<u8> {
    let quote = v6(source, destination, 6, &[], l4);
    ethernet(
        &[],
        0x86dd,
        &v6(from, to, 58, &[], &icmp(icmp_type, 0, &quote)),
    )
}

/// A segment from the server's `remote` to our `local` port.
pub fn segment(remote: u16, local: u16) -> Vec<u8> {
    ethernet(
        &[],
        0x0800,
        &v4(SERVER, US, 6, &[], &tcp(remote, local, 0, &[])),
    )
}

/// The counter that a decision adds to.
pub fn counted(decision: Decision) -> Counter {
    match decision {
        Decision::Ours { kind, .. } => match kind {
            SteerKind::Segment => Counter::Segment,
            SteerKind::Quote => Counter::Quote,
            SteerKind::RewrittenQuote => Counter::RewrittenQuote,
        },
        Decision::Pass(reason) => reason,
    }
}

/// Where the IP packet that begins at `l3` says that it ends.
pub fn ip_end(frame: &[u8], l3: usize) -> usize {
    let length = |at: usize| usize::from(u16::from_be_bytes([frame[l3 + at], frame[l3 + at + 1]]));
    match frame[l3] >> 4 {
        4 => l3 + length(2),
        _ => l3 + 40 + length(4),
    }
}

/// The same frame, all its bytes kept, whose IP packet says that it ends at
/// `end`; `None` where no length field says that.
pub fn with_ip_end(frame: &[u8], l3: usize, end: usize) -> Option<Vec<u8>> {
    let (at, length) = match frame[l3] >> 4 {
        4 => (2, end.checked_sub(l3)?),
        _ => (4, end.checked_sub(l3 + 40)?),
    };
    let mut frame = frame.to_vec();
    frame[l3 + at..l3 + at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    Some(frame)
}

/// How many bytes at the end of a fixture's IP packet no decision needs.
pub fn spare(name: &str) -> usize {
    match name {
        "segment with IP options" => 1,
        "long quote, IP options inside and outside" => 72 - 8,
        "v6 time exceeded" => 32 - 8,
        _ => 0,
    }
}

/// `frame` with one byte changed, counted from the IP header below no tag.
fn with(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[14 + offset] = byte;
    frame
}

/// Every fixture.
pub fn all() -> Vec<Fixture> {
    let mut all = Vec::new();
    let mut add = |name, bytes, decision| {
        all.push(Fixture {
            name,
            bytes,
            decision,
        });
    };
    for (name, bytes, decision) in ours::v4_frames().into_iter().chain(ours::v6_frames()) {
        add(name, bytes, decision);
    }
    for (name, bytes, reason) in foreign::v4_frames().into_iter().chain(foreign::v6_frames()) {
        add(name, bytes, Decision::Pass(reason));
    }
    all
}
