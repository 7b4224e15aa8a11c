//! Methods whose probes stand alone, in no connection: echo requests, datagrams, SYNs.
//!
//! A probe is known by its number, counted from 1 in the order of sending:
//!
//! | method | its number is | constant |
//! |---|---|---|
//! | `icmp` | the echo sequence number | identifier |
//! | `udp` | the destination port, less the first and 1 | |
//! | `tcp` | the sequence number, as in a session | destination port |
//! | `paris-icmp` | the echo sequence number | identifier, checksum |
//! | `paris-udp` | the checksum, and the IPv4 identification | both ports |
//! | `paris-tcp` | the sequence number, as in a session | both ports |
//! | `dublin` | the IPv4 identification, and the checksum; in IPv6 the length | both ports |
//!
//! `udp` and `tcp` send each probe from a port of its own, as the traceroute that
//! Debian has: one of the [`BLOCK`] ports that begin at the flow's local port.
//!
//! Everything else, schedule, stop rules and record, is a session's.

use core::net::{IpAddr, SocketAddr};

use insession_common::flow::{BLOCK, alone_port};

use super::cells::Common;
use super::probes::{self, id};
use super::seen::when;
use super::state::Flag;
use super::{
    Direct, DirectKind, Flow, IcmpError, Odd, ProbeId, Quote, QuotedAlone, Segment, Session,
    SessionOptions, Transmit, TransmitKind,
};
use crate::time::Instant;
use crate::trace::{Method, ReplyKind, Rewrite, RttBound};
use crate::wire::alone::{self, Alone};
use crate::wire::ip;
use crate::wire::tcp::flags;
use crate::wire::template::{SegmentOptions, Varying};

/// The first destination port of datagrams (traceroute's since 1988).
pub const FIRST_PORT: u16 = 33_434;

/// Shift count in a SYN, and segments of the size announced that the window holds:
/// as the traceroute that Debian has sends them.
const WINDOW_SCALE: u8 = 2;
/// See there.
const WINDOW_SEGMENTS: u16 = 4;

/// No peer limits how many may be sent.
const WINDOW: u32 = 1 << 30;

/// Octets of data that a datagram of `dublin` has at least in IPv6: its checksum is
/// made in two.
const LEAST_DATA: u16 = 2;

/// The remote end by which answers to such probes are steered: the target's address
/// and, where no port of its own is in all of them, the protocol's.
#[must_use]
pub fn steered(method: Method, remote: SocketAddr) -> SocketAddr {
    match method {
        Method::InSession | Method::Sidecar | Method::Tcp | Method::ParisTcp => remote,
        _ => {
            let protocol = method.protocol(remote.is_ipv6());
            SocketAddr::new(remote.ip(), alone_port(protocol))
        }
    }
}

/// Whether a session by this method has a block of ports.
#[must_use]
pub const fn has_block(method: Method) -> bool {
    matches!(method, Method::Udp | Method::Tcp)
}

impl Session {
    /// A session whose probes stand alone. `flow` is what its answers are steered by
    /// (see [`steered`]), `port` the target's port, `base` where sequence numbers
    /// begin, `timestamp` the TSval of SYNs, `mss` what they announce (octets).
    #[must_use]
    pub fn alone(
        options: &SessionOptions,
        method: Method,
        flow: Flow,
        port: u16,
        (base, timestamp): (u32, u32),
        mss: u16,
        now: Instant,
    ) -> Self {
        let mut session = Session::new(flow, base, timestamp, mss, now);
        session.rare_mut().alone = Some((method, port));
        session.cold.first_window = WINDOW;
        session.flags.set(Flag::Alone);
        session.flags.set(Flag::Begun);
        session.connection.stand_alone(WINDOW);
        let _ = session.probes.connect(session.connection.snd_una());
        // No SYN-ACK says where the destination is.
        session.schedule.begin(options, 0, WINDOW);
        if method == Method::ParisTcp {
            // A server answers no second SYN on a flow before the RST that ends what
            // the first began.
            session.schedule.go_singly();
        }
        let (hops, probes) = (
            session.schedule.hops(options),
            session.schedule.probes_a_hop(),
        );
        session.probes.reserve(hops, probes);
        session.schedule.renew(options);
        session
    }

    /// How it probes.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.is_sidecar() {
            return Method::Sidecar;
        }
        let alone = self.rare().and_then(|rare| rare.alone);
        alone.map_or(Method::InSession, |(method, _)| method)
    }

    /// Whether its probes stand alone.
    #[must_use]
    #[inline]
    pub fn stands_alone(&self) -> bool {
        self.has(Flag::Alone)
    }

    /// The target's port.
    #[must_use]
    pub fn target_port(&self) -> u16 {
        let alone = self.rare().and_then(|rare| rare.alone);
        alone.map_or_else(|| self.flow().remote.port(), |(_, port)| port)
    }

    /// Whether an answer of this flow is its own: a flow's local port may be any of
    /// the block.
    #[must_use]
    pub fn has_flow(&self, flow: &Flow) -> bool {
        let own = self.flow();
        if own == *flow {
            return true;
        }
        let (port, first) = (flow.local.port(), own.local.port());
        self.has(Flag::Alone)
            && has_block(self.method())
            && own.remote == flow.remote
            && own.local.ip() == flow.local.ip()
            && port & !(BLOCK - 1) == first
    }

    /// Whether what is quoted is a probe of this session, whatever was rewritten of it
    /// but what names it.
    #[must_use]
    pub fn owns_quote(&self, quote: &Quote) -> bool {
        let Flow { local, remote } = self.flow();
        let ends = quote.source.ip() == local.ip() || quote.destination.ip() == remote.ip();
        ends && self.quoted_alone(quote).is_some()
    }

    /// Our port and the target's that a probe has; of an echo request the identifier
    /// and none.
    fn ports_of(&self, index: usize) -> (u16, u16) {
        let (local, port) = (self.flow().local.port(), self.target_port());
        let nth = index as u16;
        match self.method() {
            Method::Udp => (local + nth % BLOCK, port.wrapping_add(nth)),
            Method::Tcp => (local + nth % BLOCK, port),
            Method::Icmp | Method::ParisIcmp => (local, 0),
            _ => (local, port),
        }
    }

    /// The probe, as it goes out.
    pub(super) fn probe_alone(&self, ttl: u8, sequence: u32, id: ProbeId) -> Transmit {
        let index = probes::index(id);
        let (source_port, destination_port) = self.ports_of(index);
        // The whole run of one session is below 2^16.
        let number = id.0.get();
        let method = self.method();
        let (mut identification, mut label) = (None, 0);
        let alone = match method {
            Method::Icmp | Method::ParisIcmp => Alone::Echo {
                identifier: source_port,
                sequence: number,
                checksum: self.sent_checksum(index),
            },
            Method::Udp => {
                // A socket a probe: a flow label a socket.
                label = u32::from(number).wrapping_mul(0x9e37_79b1) >> 12;
                Alone::Datagram {
                    source_port,
                    destination_port,
                    checksum: None,
                    data: alone::DATA as u8,
                }
            }
            Method::ParisUdp | Method::Dublin => {
                identification = Some(number);
                Alone::Datagram {
                    source_port,
                    destination_port,
                    checksum: Some(number),
                    data: self.sent_data(index) as u8,
                }
            }
            _ => Alone::Segment { source_port },
        };
        Transmit {
            kind: TransmitKind::Probe(id),
            segment: Varying {
                ttl,
                sequence,
                ..self.syn_alone()
            },
            alone: Some(Odd {
                alone,
                identification,
                label,
            }),
        }
    }

    /// A SYN, but for its TTL and sequence number.
    pub(super) fn syn_alone(&self) -> Varying {
        let mss = self.cold.opening.announced();
        Varying {
            ttl: 0,
            sequence: 0,
            acknowledgment: 0,
            flags: flags::SYN,
            window: mss.saturating_mul(WINDOW_SEGMENTS),
            options: SegmentOptions::Syn {
                mss,
                window_scale: WINDOW_SCALE,
                tsval: self.connection.timestamp_offset(),
            },
            payload_len: 0,
        }
    }

    /// The checksum that a probe was sent with, where it was made to have it.
    pub(super) fn sent_checksum(&self, index: usize) -> Option<u16> {
        match self.method() {
            // The identifier, as scamper has it: balancers hash the one or the other, and
            // flows are to differ in both. -0 is sent as 0.
            Method::ParisIcmp => Some(self.flow().local.port() % u16::MAX),
            Method::ParisUdp | Method::Dublin => Some(id(index).0.get()),
            _ => None,
        }
    }

    /// Octets of data that a datagram was sent with.
    pub(super) fn sent_data(&self, index: usize) -> u16 {
        match self.method() == Method::Dublin && self.flow().remote.is_ipv6() {
            true => data_of(id(index).0.get()).into(),
            false => alone::DATA as u16,
        }
    }

    /// The RST that ends what a SYN of ours began at the server: as a host's that has
    /// no such connection.
    pub(super) fn reset_alone(&mut self, ttl: u8) -> Option<Transmit> {
        let owed = &mut self.rare_mut().stray_probes;
        let probe = owed.pop();
        if owed.is_empty() {
            self.flags.clear(Flag::Stray);
        }
        let index = probes::index(probe?);
        let sequence = self.probes.sequence(index)?.wrapping_add(1);
        let (source_port, _) = self.ports_of(index);
        Some(Transmit {
            kind: TransmitKind::Rst,
            segment: self.connection.bare_rst(ttl, sequence),
            alone: Some(Odd {
                alone: Alone::Segment { source_port },
                identification: None,
                label: 0,
            }),
        })
    }

    /// The probe that is quoted.
    fn quoted_alone(&self, quote: &Quote) -> Option<usize> {
        let numbered = |number: u16| {
            let index = usize::from(number).checked_sub(1)?;
            (index < self.probes.len()).then_some(index)
        };
        let v6 = quote.destination.is_ipv6();
        match (self.method(), quote.alone) {
            (Method::Tcp | Method::ParisTcp, None) => self.find(quote.sequence),
            (Method::Icmp | Method::ParisIcmp, Some(QuotedAlone::Echo { sequence, .. })) => {
                numbered(sequence)
            }
            (Method::Udp, Some(QuotedAlone::Datagram { .. })) => {
                let nth = quote.destination.port().wrapping_sub(self.target_port());
                numbered(nth.wrapping_add(1))
            }
            (Method::Dublin, Some(QuotedAlone::Datagram { length, .. })) if v6 => {
                let mut flying = self.probes.flying();
                let data = length.checked_sub(alone::HEADER_LEN as u16)?;
                let meant =
                    |(index, _): &(usize, _)| u16::from(data_of(id(*index).0.get())) == data;
                flying.find(meant).map(|(index, _)| index)
            }
            (
                Method::ParisUdp | Method::Dublin,
                Some(QuotedAlone::Datagram {
                    checksum,
                    identification,
                    ..
                }),
            ) => match identification {
                0 => numbered(checksum),
                number => numbered(number).or_else(|| numbered(checksum)),
            },
            _ => None,
        }
    }

    /// An ICMP error quotes what may be a probe of ours.
    pub(super) fn icmp_to_alone(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        error: &IcmpError,
    ) {
        if let Some(index) = self.quoted_alone(&error.quote) {
            self.answered_by_router(options, at, error, index, false);
        }
    }

    /// What of a quoted probe, the one at this index, is not as it was sent, as bits.
    pub(super) fn other_alone(&self, quote: &Quote, index: usize) -> u32 {
        let ends = self.other_ends_alone(quote, index);
        ends | self.changed_alone(quote, index, ends)
    }

    /// The same of its ends.
    fn other_ends_alone(&self, quote: &Quote, index: usize) -> u32 {
        let Flow { local, remote } = self.flow();
        let (source_port, destination_port) = self.ports_of(index);
        when(quote.source.ip() != local.ip(), Rewrite::Source)
            | when(quote.source.port() != source_port, Rewrite::SourcePort)
            | when(quote.destination.ip() != remote.ip(), Rewrite::Destination)
            | when(
                quote.destination.port() != destination_port,
                Rewrite::DestinationPort,
            )
    }

    /// Whether a datagram got to a port of the target that nobody listens at. Hosts
    /// may say so from another of their addresses; a firewall that says it instead has
    /// let datagrams with a smaller TTL expire.
    pub(super) fn is_closed_port(&self, from: IpAddr, code: u8) -> bool {
        // RFC 792; RFC 4443 §3.1.
        let port = match from {
            IpAddr::V4(_) => 3,
            IpAddr::V6(_) => 4,
        };
        code == port
            && self.has(Flag::Alone)
            && self.method().protocol(false) == ip::PROTOCOL_UDP
            && self
                .probes
                .answers()
                .all(|(_, kind, router, _)| kind != ReplyKind::TimeExceeded || router != from)
    }

    /// A segment from the target: its answer to a SYN of ours.
    pub(super) fn segment_to_alone(&mut self, at: Instant, segment: &Segment) {
        let has = |bits: u8| segment.flags & bits == bits;
        let meant = self.find(segment.acknowledgment.wrapping_sub(1));
        let Some(index) = meant.filter(|_| has(flags::ACK)) else {
            return;
        };
        if has(flags::RST) {
            self.direct_from(at, index, ReplyKind::Rst, segment.ttl);
        } else if has(flags::SYN) {
            self.direct_from(at, index, ReplyKind::SynAck, segment.ttl);
            // It says so again until it is told.
            self.flags.set(Flag::Stray);
            let owed = &mut self.rare_mut().stray_probes;
            if !owed.contains(&id(index)) {
                owed.push(id(index));
            }
        }
    }

    /// An echo reply or a datagram from the target.
    pub(super) fn direct(&mut self, at: Instant, answer: &Direct) {
        if !self.has(Flag::Alone) || answer.from != self.target() {
            return;
        }
        let (number, kind) = match (self.method(), answer.kind) {
            (Method::Icmp | Method::ParisIcmp, DirectKind::Echo { sequence }) => {
                (Some(sequence), ReplyKind::EchoReply)
            }
            (Method::Udp, DirectKind::Datagram { source_port }) => {
                let nth = source_port.wrapping_sub(self.target_port());
                (Some(nth.wrapping_add(1)), ReplyKind::UdpReply)
            }
            (Method::ParisUdp | Method::Dublin, DirectKind::Datagram { source_port })
                if source_port == self.target_port() =>
            {
                (None, ReplyKind::UdpReply)
            }
            _ => return,
        };
        // What names no probe is the oldest's that is in flight.
        let index = match number {
            Some(number) => usize::from(number).checked_sub(1),
            None => self.probes.flying().next().map(|(index, _)| index),
        };
        if let Some(index) = index {
            self.direct_from(at, index, kind, answer.ttl);
        }
    }

    /// A probe got to the target, which answered.
    fn direct_from(&mut self, at: Instant, index: usize, kind: ReplyKind, ttl: u8) {
        if self.has(Flag::Ended) || !self.probes.slot(index).is_some_and(|slot| slot.is_flying()) {
            return;
        }
        self.credit(
            index,
            at,
            &Common {
                kind,
                bound: RttBound::Exact,
                from: self.target(),
                code: u8::from(kind == ReplyKind::UdpReply),
                reply_ttl: ttl,
                quoted_ttl: None,
                mtu: None,
                mpls: &[],
                rewrites: 0,
                nat: None,
            },
        );
    }
}

/// Octets of data that name a probe of this number, in turn.
fn data_of(number: u16) -> u8 {
    let turns = alone::MOST_DATA as u16 - LEAST_DATA;
    (LEAST_DATA + number % turns) as u8
}
