//! The steering decision: bytes → ours / not ours / malformed.
//!
//! One function, generic over how bytes are read and how flows are looked up:
//! the XDP program reads through checked packet pointers and BPF maps, the
//! `packet` and `sim` links through slices and a hash map.
//!
//! Ours are, cheapest test first:
//!
//! 1. a TCP segment from the peer of a flow, to a local port of ours;
//! 2. an ICMP or ICMPv6 error that quotes a segment of a flow;
//! 3. the same where a NAT left its rewriting in the quote, to a local address
//!    of ours.
//!
//! Steered by port ([`Flows::by_port`]) ours are a TCP segment to, and an error
//! that quotes a segment from, a local port in use, whatever the addresses:
//! nothing for hosts that forward, and no rewritten ports are recognised.
//!
//! Where the run has probes that stand alone ([`Flows::alone`]), ours are, too,
//!
//! 4. an echo reply to an identifier of ours, and a datagram to a port of ours;
//! 5. an error that quotes an echo request or a datagram of a flow.
//!
//! Their flows' remote port is [`crate::flow::alone_port`]; an echo request's local
//! port is its identifier.
//!
//! Fragments are not: a first fragment of ours would have to be as long as an
//! MTU, and no reply of ours is. Checksums are not verified here; who decodes
//! the packet does.

use crate::counters::Counter;
use crate::flow::{
    BLOCK, FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, PeerKey, SessionId, UNRESOLVED, alone_port,
};
use crate::stamp::SteerKind;

mod families;

/// How the bytes of a frame are read.
pub trait Frame {
    /// How many bytes the frame has, from its Ethernet header on.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from `offset`, or `None` where the frame ends before them.
    /// `offset` is at most [`FARTHEST`].
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// The same for a place that is known when compiling: under the verifier
    /// a cheaper way. `None` also from who has no such way.
    fn read_at<const AT: usize, const N: usize>(&self) -> Option<[u8; N]> {
        self.read::<N>(AT)
    }
}

/// The flows of ours.
pub trait Flows {
    /// The first and the last local port of ours, both inclusive.
    fn ports(&self) -> (u16, u16);
    /// Whether a local port alone makes a frame ours, whoever sent it, and no
    /// exact flow is known.
    fn by_port(&self) -> bool {
        false
    }
    /// Whether there are flows of echo requests and datagrams.
    fn alone(&self) -> bool {
        false
    }
    /// From this local port on every [`crate::flow::BLOCK`] ports are one flow's, whose
    /// local port is the first of them; 0: none are.
    fn blocks(&self) -> u16 {
        0
    }
    /// Exact IPv4 flow.
    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId>;
    /// Exact IPv6 flow.
    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId>;
    /// Whether some live flow goes to this remote end.
    fn has_peer(&self, key: &PeerKey) -> bool;
    /// Whether some live flow has this local address; IPv4 as `::ffff:a.b.c.d`.
    fn has_local(&self, address: &[u8; 16]) -> bool;
    /// Whether some live flow uses this local port.
    fn has_port(&self, port: u16) -> bool;
    /// Whether the kernel has a TCP socket for this flow (only asked about
    /// quotes outside our ports that go to a remote end of ours).
    fn kernel_v4(&self, key: &FlowKeyV4) -> bool {
        let _ = key;
        false
    }
    /// The same for IPv6.
    fn kernel_v6(&self, key: &FlowKeyV6) -> bool {
        let _ = key;
        false
    }
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the socket, with this stamp; count `kind`.
    Ours {
        /// Whose it is; [`crate::flow::UNRESOLVED`] where only user space can tell.
        session: SessionId,
        /// How it was recognised.
        kind: SteerKind,
        /// Where the IP header begins.
        l3_offset: u16,
    },
    /// To the kernel, counted under this reason.
    Pass(Counter),
}

impl Frame for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

/// No header that begins behind this offset is read: the verifier wants a
/// bound. Two VLAN tags, four extension headers of 64 bytes outside and as
/// many in the quote, all headers and addresses need 700.
pub const FARTHEST: usize = 1023;

/// VLAN tags that are followed: 802.1ad has two.
const MAX_TAGS: usize = 2;

/// IPv6 extension headers that are followed, in a packet and in a quote. More
/// than one of each kind is against RFC 8200 §4.1.
const MAX_EXTENSIONS: usize = 4;

/// The length of an Ethernet header without tags.
const ETHERNET: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Decides.
#[inline(always)]
pub fn steer<B: Frame, F: Flows>(frame: &B, flows: &F) -> Decision {
    let (ethertype, l3) = match frame.read_at::<12, 2>().map(u16::from_be_bytes) {
        Some(ethertype) if !is_tag(ethertype) => (ethertype, ETHERNET),
        _ => match ethernet(frame) {
            Ok(below) => below,
            Err(reason) => return Decision::Pass(reason),
        },
    };
    match ethertype {
        ETHERTYPE_IPV4 => packet::<[u8; 4], B, F>(frame, flows, l3),
        ETHERTYPE_IPV6 => packet::<[u8; 16], B, F>(frame, flows, l3),
        _ => Decision::Pass(Counter::NotIp),
    }
}

#[inline(always)]
fn packet<A: Address, B: Frame, F: Flows>(frame: &B, flows: &F, l3: usize) -> Decision {
    let mut claim = Claim::<A>::NOTHING;
    let soon = match l3 {
        ETHERNET => plain(frame, flows, &mut claim),
        _ => None,
    };
    let read = match soon {
        Some(read) => read,
        None => find(frame, flows, l3, &mut claim),
    };
    match read.and_then(|()| settle(flows, &claim)) {
        Ok((session, kind)) => Decision::Ours {
            session,
            kind,
            l3_offset: l3 as u16,
        },
        Err(reason) => Decision::Pass(reason),
    }
}

/// What a frame's headers say, of which the flows have to be asked.
///
/// No enum, and not carried in a `Result`: those leave bytes unwritten, and the
/// compiler copies them whole. To a process without CAP_PERFMON the verifier
/// refuses reads of unwritten stack, also on ways that only a processor's
/// speculation takes: there a claim is an error that was made as a segment, or
/// is one though none was made (kernel/bpf/verifier.c, `sanitize_speculative_path`;
/// 6.17 and later stop the speculation instead).
struct Claim<A> {
    /// Whether it is an ICMP or ICMPv6 error that quotes a packet such as we send, or
    /// else an answer for one of our ports.
    is_error: bool,
    /// Whether what is quoted is no segment.
    is_alone: bool,
    /// Where an error comes from.
    from: A,
    /// Where an error goes.
    to: A,
    /// A segment's, or a quoted one's. A quote is what we sent: its source is
    /// our end.
    ends: Ends<A>,
}

impl<A: Address> Claim<A> {
    /// All of it written.
    const NOTHING: Self = Claim {
        is_error: false,
        is_alone: false,
        from: A::ZERO,
        to: A::ZERO,
        ends: Ends {
            local: A::ZERO,
            remote: A::ZERO,
            local_port: [0; 2],
            remote_port: [0; 2],
        },
    };
}

/// Most of what a host receives has no tag, no IP options, and is not ours; most
/// of what is ours has none either. That is read from fixed places, and what
/// [`find`] would say is said sooner. `None`: it is something else.
#[inline(always)]
fn plain<A: Address, B: Frame, F: Flows>(
    frame: &B,
    flows: &F,
    claim: &mut Claim<A>,
) -> Option<Result<(), Counter>> {
    let ip = A::plain(frame)?;
    if ip.protocol == PROTOCOL_TCP {
        if ip.payload + 20 > ip.end {
            return None;
        }
        return Some(segment(frame, flows, &ip, A::plain_tcp(frame)?, claim));
    }
    if flows.alone() && ip.protocol == PROTOCOL_UDP {
        return None;
    }
    if ip.protocol != A::ICMP {
        return Some(Err(Counter::OtherProtocol));
    }
    if ip.payload + 8 > ip.end || ip.is_whole(frame).is_err() {
        return None;
    }
    let icmp_type = A::plain_icmp_type(frame)?;
    if flows.alone() && icmp_type == A::ECHO_REPLY {
        return None;
    }
    if !A::is_error(icmp_type) {
        return Some(Err(Counter::OtherIcmp));
    }
    claim.ends = A::plain_quote(frame, ip.end)?;
    claim.from = ip.source;
    claim.to = ip.destination;
    claim.is_error = true;
    Some(Ok(()))
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    // 802.1Q, 802.1ad, and what switches used before 802.1ad.
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// The EtherType below the VLAN tags, and where its payload begins.
#[inline(always)]
fn ethernet<B: Frame>(frame: &B) -> Result<(u16, usize), Counter> {
    let mut offset = 12;
    let mut tags = 0;
    loop {
        let Some(ethertype) = frame.read::<2>(offset) else {
            return Err(Counter::Truncated);
        };
        let ethertype = u16::from_be_bytes(ethertype);
        if !is_tag(ethertype) {
            return Ok((ethertype, offset + 2));
        }
        if tags == MAX_TAGS {
            return Err(Counter::TooDeep);
        }
        tags += 1;
        offset += 4;
    }
}

/// An IP header, read. All that follows it lies before `end`: what a frame
/// holds behind the IP length is Ethernet's padding and no header. Whether the
/// frame reaches that far, [`Header::is_whole`] asks: later, because most
/// packets are not ours by then.
struct Header<A> {
    source: A,
    destination: A,
    protocol: u8,
    payload: usize,
    end: usize,
}

impl<A> Header<A> {
    #[inline(always)]
    fn is_whole<B: Frame>(&self, frame: &B) -> Result<(), Counter> {
        if self.end > frame.len() {
            return Err(Counter::Truncated);
        }
        Ok(())
    }
}

/// What differs between the families.
trait Address: Copy + Eq {
    /// No address.
    const ZERO: Self;

    /// The protocol number of this family's ICMP.
    const ICMP: u8;

    /// The ICMP types of echo requests and replies.
    const ECHO_REQUEST: u8;
    /// See there.
    const ECHO_REPLY: u8;

    /// Whether an ICMP message of this type is an error that we read.
    fn is_error(icmp_type: u8) -> bool;

    /// The header right behind Ethernet's if it has no options or extension
    /// headers and is no fragment. `None`: look again, in [`Address::header`].
    fn plain<B: Frame>(frame: &B) -> Option<Header<Self>>;

    /// The 20 bytes behind such a header.
    fn plain_tcp<B: Frame>(frame: &B) -> Option<[u8; 20]>;

    /// The byte behind such a header.
    fn plain_icmp_type<B: Frame>(frame: &B) -> Option<u8>;

    /// The ends of the segment quoted by an ICMP error behind such a header, if
    /// the quote has such a header, too, and reaches far enough before `end`.
    fn plain_quote<B: Frame>(frame: &B, end: usize) -> Option<Ends<Self>>;

    /// Reads the header at `offset`. `end` is where a quote's enclosing packet
    /// ends; `None`: it is no quote, and ends where it says.
    fn header<B: Frame>(
        frame: &B,
        offset: usize,
        end: Option<usize>,
    ) -> Result<Header<Self>, Counter>;

    /// The exact flow.
    fn session<F: Flows>(flows: &F, ends: &Ends<Self>) -> Option<SessionId>;

    /// Whether the kernel has a socket for it.
    fn kernel<F: Flows>(flows: &F, ends: &Ends<Self>) -> bool;

    /// The address as [`PeerKey`] and [`Flows::has_local`] have it.
    fn sixteen(self) -> [u8; 16];
}

/// The two ends of a flow.
#[derive(Clone, Copy)]
struct Ends<A> {
    local: A,
    remote: A,
    local_port: [u8; 2],
    remote_port: [u8; 2],
}

/// Reads a packet whose headers may be anywhere.
#[inline(always)]
fn find<A: Address, B: Frame, F: Flows>(
    frame: &B,
    flows: &F,
    l3: usize,
    claim: &mut Claim<A>,
) -> Result<(), Counter> {
    let ip = A::header(frame, l3, None)?;
    if ip.protocol == PROTOCOL_TCP {
        let tcp = read::<20, B>(frame, ip.payload, ip.end)?;
        return segment(frame, flows, &ip, tcp, claim);
    }
    if ip.protocol == A::ICMP {
        ip.is_whole(frame)?;
        return message(frame, flows, &ip, claim);
    }
    if flows.alone() && ip.protocol == PROTOCOL_UDP {
        let udp = read::<8, B>(frame, ip.payload, ip.end)?;
        return alone(frame, flows, &ip, [udp[2], udp[3]], claim);
    }
    Err(Counter::OtherProtocol)
}

/// A TCP segment.
#[inline(always)]
fn segment<A: Address, B: Frame, F: Flows>(
    frame: &B,
    flows: &F,
    ip: &Header<A>,
    tcp: [u8; 20],
    claim: &mut Claim<A>,
) -> Result<(), Counter> {
    let ends = Ends {
        local: ip.destination,
        remote: ip.source,
        local_port: [tcp[2], tcp[3]],
        remote_port: [tcp[0], tcp[1]],
    };
    // Before anything else: this is where the host's own traffic leaves.
    if !in_range(flows, ends.local_port) {
        return Err(Counter::PortOutside);
    }
    let length = usize::from(tcp[12] >> 4) * 4;
    if length < 20 {
        return Err(Counter::Malformed);
    }
    if ip.payload + length > ip.end {
        return Err(Counter::Truncated);
    }
    ip.is_whole(frame)?;
    claim.ends = ends;
    Ok(())
}

/// An answer to a probe that stood alone, for this local port of ours: a datagram or
/// an echo reply.
#[inline(always)]
fn alone<A: Address, B: Frame, F: Flows>(
    frame: &B,
    flows: &F,
    ip: &Header<A>,
    local_port: [u8; 2],
    claim: &mut Claim<A>,
) -> Result<(), Counter> {
    if !in_range(flows, local_port) {
        return Err(Counter::PortOutside);
    }
    ip.is_whole(frame)?;
    claim.ends = Ends {
        local: ip.destination,
        remote: ip.source,
        local_port,
        remote_port: alone_port(ip.protocol).to_be_bytes(),
    };
    Ok(())
}

/// An ICMP or ICMPv6 message.
#[inline(always)]
fn message<A: Address, B: Frame, F: Flows>(
    frame: &B,
    flows: &F,
    ip: &Header<A>,
    claim: &mut Claim<A>,
) -> Result<(), Counter> {
    let icmp = read::<8, B>(frame, ip.payload, ip.end)?;
    if flows.alone() && icmp[0] == A::ECHO_REPLY {
        return alone(frame, flows, ip, [icmp[4], icmp[5]], claim);
    }
    if !A::is_error(icmp[0]) {
        return Err(Counter::OtherIcmp);
    }
    let quote = A::header(frame, ip.payload + 8, Some(ip.end))?;
    if quote.protocol != PROTOCOL_TCP && !flows.alone() {
        return Err(Counter::QuoteNoFlow);
    }
    // RFC 792: 64 bits of the datagram's data, ports and sequence number. What
    // follows in longer quotes may have been cut anywhere.
    let first = read::<8, B>(frame, quote.payload, quote.end)?;
    claim.ends = quoted(quote.source, quote.destination, first);
    if quote.protocol != PROTOCOL_TCP {
        claim.is_alone = true;
        claim.ends.remote_port = alone_port(quote.protocol).to_be_bytes();
        if quote.protocol == A::ICMP && first[0] == A::ECHO_REQUEST {
            claim.ends.local_port = [first[4], first[5]];
        } else if quote.protocol != PROTOCOL_UDP {
            return Err(Counter::QuoteNoFlow);
        }
    }
    claim.from = ip.source;
    claim.to = ip.destination;
    claim.is_error = true;
    Ok(())
}

/// The ends of a quoted segment.
#[inline(always)]
fn quoted<A>(source: A, destination: A, tcp: [u8; 8]) -> Ends<A> {
    Ends {
        local: source,
        remote: destination,
        local_port: [tcp[0], tcp[1]],
        remote_port: [tcp[2], tcp[3]],
    }
}

/// Asks the flows.
#[inline(always)]
fn settle<A: Address, F: Flows>(
    flows: &F,
    claim: &Claim<A>,
) -> Result<(SessionId, SteerKind), Counter> {
    let mut ends = claim.ends;
    let (blocks, port) = (flows.blocks(), u16::from_be_bytes(ends.local_port));
    if blocks != 0 && port >= blocks {
        ends.local_port = (port & !(BLOCK - 1)).to_be_bytes();
    }
    let ends = &ends;
    if !claim.is_error {
        let session = match flows.by_port() {
            true => live_port(flows, ends.local_port),
            false => A::session(flows, ends),
        };
        let session = session.ok_or(Counter::NoFlow)?;
        return Ok((session, SteerKind::Segment));
    }
    let in_range = in_range(flows, ends.local_port);
    let session = match in_range {
        true if flows.by_port() => live_port(flows, ends.local_port),
        true => A::session(flows, ends),
        false => None,
    };
    if let Some(session) = session {
        return Ok((session, SteerKind::Quote));
    }
    if flows.by_port() {
        return Err(Counter::QuoteNoFlow);
    }
    match rewritten(flows, claim, ends, in_range) {
        Some(session) => Ok((session, SteerKind::RewrittenQuote)),
        None => Err(Counter::QuoteNoFlow),
    }
}

/// Steering by port: what is for a port in use is ours, and user space tells
/// whose. A port in use was free of the kernel's sockets when it was taken; for
/// others of the range the kernel may have some.
#[inline(always)]
fn live_port<F: Flows>(flows: &F, port: [u8; 2]) -> Option<SessionId> {
    flows
        .has_port(u16::from_be_bytes(port))
        .then_some(UNRESOLVED)
}

/// Finds the flow of a quote that names none of ours exactly.
///
/// A NAT that forwards an error should undo in the quote what it did to the
/// segment (RFC 5508 §4.2); many do it in part or not at all. It must undo it
/// in the *outer* header, or the error would not reach us: that goes to the
/// local address of a flow, or it is not about one. On a host that forwards,
/// errors pass by that are for others, about segments from ports and to servers
/// that we use as well.
///
/// In the quote there may be left rewritten
///
/// 1. our address, by a source NAT: it is the outer destination;
/// 2. the target's address, by a destination NAT: Linux makes the target the
///    outer source of errors from behind it; from elsewhere it stays unknown;
/// 3. the target's port, or its address from elsewhere: our port is live;
/// 4. our port, by a source NAT: the quote goes to a remote end of ours.
///
/// In 1 and 2 the flow is named. In 3 and 4 several flows may share the port or
/// the remote end, and the session is [`UNRESOLVED`]: user space tells by the
/// sequence number. In 4 the quote may as well be of the *kernel's* connection
/// to the same server, which must learn of its path MTU: where the kernel has
/// a socket, it is the kernel's.
#[inline(always)]
fn rewritten<A: Address, F: Flows>(
    flows: &F,
    claim: &Claim<A>,
    quoted: &Ends<A>,
    in_range: bool,
) -> Option<SessionId> {
    let (from, to) = (claim.from, claim.to);
    if !flows.has_local(&to.sixteen()) {
        return None;
    }
    if in_range {
        if quoted.local != to {
            let ends = Ends {
                local: to,
                ..*quoted
            };
            if let Some(session) = A::session(flows, &ends) {
                return Some(session);
            }
        }
        if quoted.remote != from {
            let ends = Ends {
                remote: from,
                ..*quoted
            };
            if let Some(session) = A::session(flows, &ends) {
                return Some(session);
            }
        }
        if flows.has_port(u16::from_be_bytes(quoted.local_port)) {
            return Some(UNRESOLVED);
        }
    }
    // Of a datagram or an echo request nothing but our port tells whose it is: the
    // kernel's to the same host are the kernel's.
    if claim.is_alone {
        return None;
    }
    let peer = PeerKey::new(quoted.remote.sixteen(), quoted.remote_port, PROTOCOL_TCP);
    if flows.has_peer(&peer) && !A::kernel(flows, quoted) {
        return Some(UNRESOLVED);
    }
    None
}

#[inline(always)]
fn in_range<F: Flows>(flows: &F, port: [u8; 2]) -> bool {
    let (first, last) = flows.ports();
    let port = u16::from_be_bytes(port);
    first <= port && port <= last
}

/// `N` bytes from `offset`, all before `end`.
#[inline(always)]
fn read<const N: usize, B: Frame>(
    frame: &B,
    offset: usize,
    end: usize,
) -> Result<[u8; N], Counter> {
    if offset + N > end {
        return Err(Counter::Truncated);
    }
    if offset > FARTHEST {
        return Err(Counter::TooDeep);
    }
    frame.read::<N>(offset).ok_or(Counter::Truncated)
}
