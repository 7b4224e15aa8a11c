//! AF_PACKET with kernel-owned connections, where BPF is not permitted.
//!
//! It needs CAP_NET_RAW and nothing else. The kernel makes the handshake,
//! acknowledges the server's data and closes; we see its SYN and the server's
//! answers on an AF_PACKET socket, and put probes on the wire beside it. Frames
//! are steered by the same decision as under XDP
//! ([`mod@insession_common::steer`]), over a table in user space, behind a
//! classic BPF filter.
//!
//! **What the kernel makes of probes that it did not send** (Linux 6.18). Its
//! `snd_una` and `snd_nxt` both stand at ISN + 1 throughout; every probe lies
//! above.
//! * The server's duplicate ACKs acknowledge `snd_una` with nothing outstanding:
//!   no retransmission comes of them (`tcp_ack`, `no_queue`,
//!   net/ipv4/tcp_input.c).
//! * For the same reason the SACK blocks for probes are not looked at
//!   (`tcp_sacktag_write_queue`, `!tp->packets_out`); were they, blocks above
//!   `snd_nxt` would be invalid (`tcp_is_sackblock_valid`). A D-SACK with nothing
//!   retransmitted counts as dubious and changes nothing (`tcp_dsack_seen`).
//! * ICMP errors that quote a probe are outside `snd_una..=snd_nxt` and dropped
//!   (`tcp_v4_err`, net/ipv4/tcp_ipv4.c, and `tcp_v6_err`, net/ipv6/tcp_ipv6.c;
//!   counted as OutOfWindowIcmps). That goes for "fragmentation needed" and "packet
//!   too big" as well: both come to `tcp_v4_mtu_reduced` and `tcp_v6_mtu_reduced` only
//!   behind that check, so what long probes draw does not lower the route's MTU.
//!   Errors that quote the SYN are not: they end the kernel's attempt, as the
//!   session's.
//! * The server's TSecr echoes the last segment in order (RFC 7323 §4.3), which
//!   is the kernel's own: timestamps of probes never come back to it. PAWS at the
//!   server compares probes with the kernel's latest TSval: a session counts on
//!   from the SYN's, and has to round up, or a probe in the millisecond of a
//!   kernel's ACK is one tick too old and dropped.
//! * The kernel sends its SYN again by its own timer; each is seen, and given
//!   out as outgoing.
//! * If the server closes, the kernel acknowledges and stays in CLOSE_WAIT until
//!   the flow is removed; the RST of that is at `snd_nxt`, which is the server's
//!   `rcv_nxt` (RFC 5961 §3.2).
//!
//! **Receive stamps** are the kernel's, of CLOCK_REALTIME: AF_PACKET has no
//! others. They are moved to CLOCK_MONOTONIC by the distance of the two clocks
//! at the moment of reading. Where the civil clock is set in the microseconds
//! between, the stamps of that batch are off by that step; slewing is not seen.
//!
//! **VLAN tags** that the kernel took out of a frame are put back.
//!
//! **On loopback** a frame is seen twice, leaving and arriving; the filter and
//! the steering decision take the right one of the two. IPv4 goes out by a raw socket
//! there, with a route of the kernel's: what comes over lo without one, as frames of an
//! AF_PACKET socket do, it takes for forged, since its source is an address of this host
//! (`__fib_validate_source`, net/ipv4/fib_frontend.c). Segments of a connection of the
//! kernel's are spared that look where it has received over lo before
//! (`tcp_v4_early_demux`), nothing else is. IPv6 has no such check.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, PROTOCOL_TCP, SessionId};
use insession_common::stamp::SteerKind;
use insession_common::steer::{Decision, Flows, steer};

use super::flows::{Alone, FlowTable, NotAdded};
use super::sys::{self, Polled};
use super::{Link, LinkError, MAX_FRAME, Received, clock, too_long};
use crate::net::{self, ports};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::LinkInfo;

mod connection;
mod filter;
#[cfg(test)]
mod label_tests;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod loopback_tests;
#[cfg(test)]
mod permission_tests;
pub mod plain;
mod socket;
#[cfg(test)]
mod tests;

/// How a [`PacketLink`] is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketOptions {
    /// Local ports that flows may have.
    pub ports: RangeInclusive<u16>,
    /// DSCP (6 bits) of the kernel's segments: that of the probes.
    pub dscp: u8,
    /// Device that connections are bound to (`SO_BINDTODEVICE`): where the
    /// kernel's own choice of a route could be another than the one found. For
    /// a VLAN the sub-interface, not the link's.
    pub device: Option<String>,
    /// Which probes there are beside those inside connections.
    pub alone: Alone,
    /// A connection that somebody has: a flow between these ends is not opened, and what
    /// the kernel sends in it is received as well, from port to port of a range of one.
    pub adopted: Option<Flow>,
}

impl PacketOptions {
    /// With these local ports, best-effort traffic class, no device forced.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        PacketOptions {
            ports,
            dscp: 0,
            device: None,
            alone: Alone::NONE,
            adopted: None,
        }
    }
}

/// A link over AF_PACKET; connections are the kernel's. Closing it closes them.
///
/// IPv6 probes have to carry flow label 0 on this link, as the kernel's
/// segments do: a balancer that hashes the label would send them elsewhere.
pub struct PacketLink {
    name: String,
    options: PacketOptions,
    socket: OwnedFd,
    /// By what IPv4 goes out over loopback.
    raw: Option<OwnedFd>,
    event: Arc<OwnedFd>,
    flows: FlowTable,
    connections: HashMap<FlowKey, OwnedFd>,
    receiver: socket::Receiver,
    outgoing: Outgoing,
    counts: [u64; Counter::ALL.len()],
    tx_dropped: u64,
    rx_dropped: u64,
}

/// Frames that were written and not yet sent.
struct Outgoing {
    frames: Box<[[u8; MAX_FRAME]; ROOM]>,
    lengths: [usize; ROOM],
    /// Those that have the length [`LONG`], oldest first.
    long: VecDeque<Vec<u8>>,
    /// The first that the kernel has not taken, and the first that is free.
    first: usize,
    end: usize,
    /// Since when the kernel has not taken any.
    stuck_since: Option<Instant>,
}

/// Frames a batch. More make the call no cheaper (measured: flat from 64 on).
const ROOM: usize = 128;

/// In place of the length of a frame that stands elsewhere.
const LONG: usize = usize::MAX;

/// The longest frame: the longest IP packet, with Ethernet header and tag.
const LONGEST: usize = 14 + 4 + u16::MAX as usize;

/// A socket buffer that stays full this long belongs to an interface that sends
/// nothing. A paced queue of some megabits a second empties in less.
const STALLED_AFTER: Duration = Duration::from_secs(2);

impl Outgoing {
    fn new() -> Self {
        Outgoing {
            frames: Box::new([[0; MAX_FRAME]; ROOM]),
            lengths: [0; ROOM],
            long: VecDeque::new(),
            first: 0,
            end: 0,
            stuck_since: None,
        }
    }

    /// Writes a long frame; `false`: there is no room.
    fn push_long(&mut self, frame: &[u8]) -> bool {
        let Some(length) = self.lengths.get_mut(self.end) else {
            return false;
        };
        *length = LONG;
        self.long.push_back(frame.to_vec());
        self.end += 1;
        true
    }

    /// What the kernel has not taken, in the order in which it was written.
    fn pending(&self) -> impl Iterator<Item = &[u8]> {
        let pending = self.first..self.end;
        let frames = self.frames.get(pending.clone()).unwrap_or_default();
        let lengths = self.lengths.get(pending).unwrap_or_default();
        let mut long = self.long.iter();
        frames
            .iter()
            .zip(lengths)
            .map(move |(frame, length)| match *length {
                LONG => long.next().map_or(&[][..], Vec::as_slice),
                length => frame.get(..length).unwrap_or_default(),
            })
    }

    /// The kernel has these, of the first ones.
    fn took(&mut self, frames: usize) {
        let end = (self.first + frames).min(self.end);
        let lengths = self.lengths.get(self.first..end).unwrap_or_default();
        for _ in lengths.iter().filter(|length| **length == LONG) {
            self.long.pop_front();
        }
        self.first = end;
    }
}

impl PacketLink {
    /// Opens one on the interface of this name, in the calling thread's network
    /// namespace.
    ///
    /// # Errors
    /// When there is no such interface, it is down or without Ethernet header,
    /// or AF_PACKET is not permitted.
    pub fn open(interface: &str, options: &PacketOptions) -> Result<PacketLink, LinkError> {
        let all = net::interfaces().map_err(|error| LinkError::System {
            what: format!("interface {interface}"),
            source: io::Error::other(error),
        })?;
        let found = all.into_iter().find(|info| info.name == interface);
        let info = found.ok_or_else(|| LinkError::NoInterface(interface.to_owned()))?;
        if !info.ethernet {
            return Err(LinkError::Unsupported {
                what: format!("interface {interface}"),
                reason: "it has no Ethernet header".to_owned(),
                mend: "choose another with `--interface`".to_owned(),
            });
        }
        if !info.up {
            return Err(LinkError::Down(interface.to_owned()));
        }
        let (first, last) = (*options.ports.start(), *options.ports.end());
        let adopts = options.adopted.is_some();
        let filter = filter::program(first, last, options.alone.datagrams, adopts);
        let socket = socket::open(info.index, &filter)
            .map_err(|error| not_opened(interface, "AF_PACKET socket", error))?;
        let raw = info.loopback.then(socket::open_ipv4);
        let raw = raw
            .transpose()
            .map_err(|error| not_opened(interface, "raw socket", error))?;
        let event = sys::event().map_err(|source| LinkError::System {
            what: "eventfd".to_owned(),
            source,
        })?;
        connection::raise_descriptor_limit();
        Ok(PacketLink {
            name: info.name,
            options: options.clone(),
            socket,
            raw,
            event: Arc::new(event),
            flows: FlowTable::new(first, last).with_alone(options.alone),
            connections: HashMap::new(),
            receiver: socket::Receiver::new(),
            outgoing: Outgoing::new(),
            counts: [0; Counter::ALL.len()],
            tx_dropped: 0,
            rx_dropped: 0,
        })
    }

    fn failed(&self, what: &str, source: io::Error) -> LinkError {
        match source.raw_os_error() {
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => LinkError::Down(self.name.clone()),
            _ => LinkError::System {
                what: format!("interface {}: {what}", self.name),
                source,
            },
        }
    }

    /// From now on replies of this flow are the session's.
    fn steer(&mut self, flow: &Flow, session: SessionId) -> Result<FlowKey, LinkError> {
        let unsupported = |reason: &str, mend: &str| LinkError::Unsupported {
            what: format!("flow from {} to {}", flow.local, flow.remote),
            reason: reason.to_owned(),
            mend: mend.to_owned(),
        };
        let Some(key) = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP) else {
            return Err(unsupported(
                "its addresses are of two families",
                "give a source of the target's",
            ));
        };
        match self.flows.insert(&key, session) {
            Ok(_) => Ok(key),
            Err(NotAdded::Taken) => Err(LinkError::FlowTaken),
            Err(NotAdded::PortOutside) => Err(unsupported(
                "its local port is outside of the link's",
                "widen `--source-ports`",
            )),
        }
    }

    /// Offers the kernel what is written; keeps what it does not take.
    fn offer(&mut self) -> Result<(), LinkError> {
        let outgoing = &mut self.outgoing;
        while outgoing.first < outgoing.end {
            let sent = match &self.raw {
                None => socket::send(&self.socket, outgoing.pending()),
                Some(raw) => send_over_loopback(&self.socket, raw, outgoing.pending()),
            };
            match sent {
                Ok(sent) => {
                    outgoing.took(sent);
                    outgoing.stuck_since = None;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        let now = clock::monotonic();
                        let since = *outgoing.stuck_since.get_or_insert(now);
                        if now.since(since) < STALLED_AFTER {
                            return Ok(());
                        }
                        return Err(LinkError::Stalled {
                            interface: self.name.clone(),
                            frames: outgoing.end - outgoing.first,
                            seconds: STALLED_AFTER.as_secs(),
                            mend: "look at its queueing discipline (`tc -s qdisc show`) and carrier",
                        });
                    }
                    // The queueing discipline dropped this one (`packet_snd`,
                    // net/packet/af_packet.c), or over loopback a firewall of this
                    // host (`nf_hook_slow`, net/netfilter/core.c), or it has lost its
                    // way: lost, as on any wire.
                    Some(libc::ENOBUFS | libc::EPERM | libc::ENETUNREACH | libc::EHOSTUNREACH) => {
                        outgoing.took(1);
                        self.tx_dropped += 1;
                    }
                    _ => return Err(self.failed("send", error)),
                },
            }
        }
        outgoing.first = 0;
        outgoing.end = 0;
        outgoing.long.clear();
        Ok(())
    }
}

impl Link for PacketLink {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "packet",
            mode: None,
            zero_copy: false,
            interface: self.name.clone(),
        }
    }

    fn now(&self) -> Instant {
        clock::monotonic()
    }

    fn add_alone(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.steer(flow, session).map(|_| ())
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        let key = self.steer(flow, session)?;
        if self.options.adopted.as_ref() == Some(flow) {
            return Ok(());
        }
        // Over lo the kernel takes answers from an address of another interface for
        // received there, not by who insists on lo. In IPv6, and to the address that a
        // packet comes from, there is no other way all the same.
        let Flow { local, remote } = flow;
        let only_way = local.is_ipv6() || local.ip() == remote.ip();
        let connection = match self.raw.is_some() && only_way {
            true => {
                let unbound = PacketOptions {
                    device: None,
                    ..self.options.clone()
                };
                connection::connect(flow, &unbound)
            }
            false => connection::connect(flow, &self.options),
        };
        match connection {
            Ok(connection) => {
                self.connections.insert(key, connection);
                Ok(())
            }
            Err(error) => {
                let _ = self.flows.remove(&key);
                Err(error)
            }
        }
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let Some(key) = FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP) {
            let _ = self.flows.remove(&key);
            // Closes it, with RST.
            self.connections.remove(&key);
        }
    }

    fn room(&mut self) -> usize {
        if self.outgoing.stuck_since.is_some() {
            // Its error comes again, and is told, at the next flush.
            let _ = self.offer();
        }
        ROOM - self.outgoing.end
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let outgoing = &mut self.outgoing;
        let frame = outgoing.frames.get_mut(outgoing.end);
        let length = outgoing.lengths.get_mut(outgoing.end);
        let (Some(frame), Some(length)) = (frame, length) else {
            return Err(LinkError::Full);
        };
        *length = fill(frame).min(MAX_FRAME);
        outgoing.end += 1;
        Ok(())
    }

    fn longest_frame(&self) -> usize {
        LONGEST
    }

    fn transmit_long(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        if frame.len() > LONGEST {
            return Err(too_long(frame.len(), LONGEST));
        }
        match self.outgoing.push_long(frame) {
            true => Ok(()),
            false => Err(LinkError::Full),
        }
    }

    /// What the kernel does not take at once is kept and offered again by
    /// `flush`, `room` and `wait`.
    fn flush(&mut self) -> Result<(), LinkError> {
        self.offer()
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let (mut given, mut left) = (0, budget);
        while left > 0 {
            let received = match self.receiver.receive(&self.socket, left) {
                Ok(0) => break,
                Ok(received) => received,
                Err(error) => return Err(self.failed("receive", error)),
            };
            left -= received;
            let (now, offset) = (clock::monotonic(), clock::realtime_offset());
            for frame in self.receiver.frames() {
                let known = (&self.flows, &self.connections);
                let found = match (frame.outgoing, self.options.adopted.is_some()) {
                    (true, watched) => segment(frame.bytes, known, true, watched),
                    // Cut short, as steering has it that no segment is.
                    (false, true) => segment(frame.bytes, known, false, true)
                        .or_else(|_| steered(frame.bytes, &self.flows)),
                    (false, false) => steered(frame.bytes, &self.flows),
                };
                let counter = match found {
                    Ok((_, SteerKind::Segment, _)) => Counter::Segment,
                    Ok((_, SteerKind::Quote, _)) => Counter::Quote,
                    Ok((_, SteerKind::RewrittenQuote, _)) => Counter::RewrittenQuote,
                    Err(reason) => reason,
                };
                if let Some(count) = self.counts.get_mut(counter as usize) {
                    *count += 1;
                }
                let Ok((session, kind, l3_offset)) = found else {
                    continue;
                };
                given += 1;
                each(Received {
                    bytes: frame.bytes,
                    at: monotonic_stamp(frame.stamp, offset, now),
                    session,
                    kind,
                    l3_offset,
                    outgoing: frame.outgoing,
                });
            }
        }
        Ok(given)
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        let timeout = until.since(clock::monotonic());
        let for_room = self.outgoing.stuck_since.is_some();
        let poll = |fd: &OwnedFd, events| libc::pollfd {
            fd: fd.as_raw_fd(),
            events,
            revents: 0,
        };
        let room = if for_room { libc::POLLOUT } else { 0 };
        let mut polled = [
            poll(&self.socket, libc::POLLIN | room),
            poll(&self.event, libc::POLLIN),
        ];
        let ended = sys::poll(&mut polled, timeout).map_err(|error| self.failed("wait", error))?;
        if ended == Polled::Ready && polled[1].revents != 0 {
            sys::drain(&self.event);
        }
        if for_room {
            self.offer()?;
        }
        Ok(())
    }

    fn waker(&self) -> Option<Arc<OwnedFd>> {
        Some(Arc::clone(&self.event))
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.rx_dropped += u64::from(socket::take_drops(&self.socket));
        let branches = Counter::ALL.iter().zip(self.counts);
        let mut all: Vec<_> = branches
            .map(|(counter, count)| (counter.label(), count))
            .collect();
        all.push(("rx-dropped", self.rx_dropped));
        all.push(("tx-dropped", self.tx_dropped));
        all
    }

    fn kernel_owns_connections(&self) -> bool {
        true
    }

    /// Ports of our own connections are not taken: the kernel lets flows share
    /// them.
    fn port_taken(&self, local: SocketAddr) -> bool {
        !self.flows.has_port(local.port()) && ports::is_held(local)
    }
}

/// A stamp of CLOCK_REALTIME on CLOCK_MONOTONIC. A frame is not received after
/// it was read, nor, without a stamp, when it was read at the latest.
fn monotonic_stamp(stamp: u64, offset: i64, now: Instant) -> Instant {
    if stamp == 0 {
        return now;
    }
    let nanos = stamp.wrapping_sub(offset.cast_unsigned());
    Instant::from_nanos(nanos).min(now)
}

/// Sends as many as the kernel takes of the frames in front that go out by the same
/// socket; how many. An error is that of the first one, and nothing was sent.
fn send_over_loopback<'a>(
    socket: &OwnedFd,
    raw: &OwnedFd,
    frames: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    let mut frames = frames.peekable();
    if frames
        .peek()
        .is_some_and(|first| to_ourselves(first).is_some())
    {
        return socket::send_ipv4(raw, frames.map_while(to_ourselves));
    }
    socket::send(
        socket,
        frames.take_while(|frame| to_ourselves(frame).is_none()),
    )
}

/// The IPv4 packet in a frame, if the only way that it can be sent is over loopback: to
/// there, or to where it comes from. All else stays a frame on lo. There are no tags.
fn to_ourselves(frame: &[u8]) -> Option<&[u8]> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let (source, destination) = (packet.get(12..16)?, packet.get(16..20)?);
    let leads_nowhere_else = destination.starts_with(&[127]) || source == destination;
    (ethernet.ends_with(&[0x08, 0]) && leads_nowhere_else).then_some(packet)
}

/// Whose a frame is, how it was recognised, and where its IP header begins; or what to
/// count it as.
type Found = Result<(SessionId, SteerKind, usize), Counter>;

/// What came in, by the one steering decision.
fn steered(frame: &[u8], flows: &FlowTable) -> Found {
    match steer(&frame, flows) {
        Decision::Ours {
            session,
            kind,
            l3_offset,
        } => Ok((session, kind, usize::from(l3_offset))),
        Decision::Pass(reason) => Err(reason),
    }
}

/// Whose SYN this is, where it is one that our kernel sends for a flow of ours: over
/// loopback our own are seen, too. Or whose segment, where `any` is wanted.
fn segment(
    frame: &[u8],
    (flows, connections): (&FlowTable, &HashMap<FlowKey, OwnedFd>),
    outgoing: bool,
    any: bool,
) -> Found {
    let mut l3 = 14;
    let ethertype = loop {
        let field = frame.get(l3 - 2..l3).ok_or(Counter::Truncated)?;
        match field {
            [0x81, 0] | [0x88, 0xa8] | [0x91, 0] if l3 < 22 => l3 += 4,
            _ => break field,
        }
    };
    let packet = frame.get(l3..).unwrap_or_default();
    // Our kernel puts no extension headers in front of its SYNs.
    let (protocol, source, destination, tcp) = match ethertype {
        [0x08, 0] => {
            let header = usize::from(packet.first().ok_or(Counter::Truncated)? & 0xf) * 4;
            let four = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(v4_address);
            (packet.get(9), four(12), four(16), packet.get(header..))
        }
        [0x86, 0xdd] => {
            let all = |at: usize| packet.get(at..at + 16)?.try_into().ok().map(v6_address);
            (packet.get(6), all(8), all(24), packet.get(40..))
        }
        _ => return Err(Counter::NotIp),
    };
    let (Some(protocol), Some(source), Some(destination), Some(tcp)) =
        (protocol, source, destination, tcp)
    else {
        return Err(Counter::Truncated);
    };
    if *protocol != PROTOCOL_TCP {
        return Err(Counter::OtherProtocol);
    }
    let &[a, b, c, d, ..] = tcp else {
        return Err(Counter::Truncated);
    };
    let flags = tcp.get(13).ok_or(Counter::Truncated)?;
    if !any && flags & 0x12 != 0x02 {
        return Err(Counter::NoFlow);
    }
    let source = SocketAddr::new(source, u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(destination, u16::from_be_bytes([c, d]));
    let (local, remote) = match outgoing {
        true => (source, destination),
        false => (destination, source),
    };
    FlowKey::new(local, remote, PROTOCOL_TCP)
        .filter(|key| any || connections.contains_key(key))
        .and_then(|key| flows.get(&key))
        .map(|session| (session, SteerKind::Segment, l3))
        .ok_or(Counter::NoFlow)
}

fn v4_address(octets: [u8; 4]) -> std::net::IpAddr {
    octets.into()
}

fn v6_address(octets: [u8; 16]) -> std::net::IpAddr {
    octets.into()
}

fn not_opened(interface: &str, socket: &str, source: io::Error) -> LinkError {
    let what = format!("interface {interface}: {socket}");
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::NotPermitted {
            what,
            reason: "CAP_NET_RAW is missing in this network namespace, or a seccomp filter or \
                     LSM denies it"
                .to_owned(),
            mend: "run as root, or grant it (`setcap cap_net_raw+ep`)".to_owned(),
        },
        Some(libc::EAFNOSUPPORT) => LinkError::Unsupported {
            what,
            reason: "this kernel has no AF_PACKET (CONFIG_PACKET)".to_owned(),
            mend: "`modprobe af_packet`, or use `--link xdp`".to_owned(),
        },
        _ => LinkError::System { what, source },
    }
}
