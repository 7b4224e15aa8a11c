//! Where a session keeps what few packets touch: [`Cold`], and what few sessions
//! ever need: [`Rare`].

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::close::Close;
use super::connection::Opening;
use super::learn::{Learn, Offset};
use super::mtu::Mtu;
use super::probes::Span;
use super::segment::BareAcks;
use super::sidecar::Sidecar;
use super::{Event, Flow, ProbeId, Session};
use crate::time::Instant;
use crate::trace::{Handshake, Method, Verdict};
use crate::wire::usual::RawEnds;

/// What a session knows of itself in one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Flag {
    /// Something was sent: times count from the first segment's moment.
    Sent = 1 << 0,
    /// Probing has begun.
    Begun = 1 << 1,
    /// The verdict is in.
    Ended = 1 << 2,
    /// A RST is owed to a half-open connection of another life.
    Stray = 1 << 3,
    /// The peer has closed the session.
    Left = 1 << 4,
    /// The one reopening was used.
    Reopened = 1 << 5,
    /// [`super::Handshaker::Kernel`], as far as seen.
    KernelOwns = 1 << 6,
    /// The peer has named a probe by SACK.
    Sacked = 1 << 7,
    /// A duplicate ACK was credited.
    DupAcks = 1 << 8,
    /// A router answered with the target's address: it is behind a NAT.
    BehindNat = 1 << 9,
    /// Sequence numbers were seen that nobody sent.
    Odd = 1 << 10,
    /// The flow stands in [`Rare`].
    WideFlow = 1 << 11,
    /// Events stand in [`Rare`].
    Overflow = 1 << 12,
    /// The timer is set for when the oldest in flight no longer holds others back,
    /// or before.
    Held = 1 << 13,
    /// Its probes stand alone, in no connection.
    Alone = 1 << 14,
    /// It does more than others: what, stands in [`Rare`].
    Extra = 1 << 15,
}

/// All of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Whether it has one of two.
    pub(super) fn has_either(self, one: Flag, other: Flag) -> bool {
        self.0 & (one as u16 | other as u16) != 0
    }

    /// Whether it has one of several.
    #[inline]
    pub(super) fn has_any<const N: usize>(self, flags: [Flag; N]) -> bool {
        let any = flags.iter().fold(0, |any, flag| any | *flag as u16);
        self.0 & any != 0
    }

    pub(super) fn set(&mut self, flag: Flag) {
        self.0 |= flag as u16;
    }

    pub(super) fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u16);
    }
}

/// The two ends of an IPv4 flow, as they stand in a segment of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends(RawEnds);

impl Ends {
    /// Another flow's stand in [`Rare`].
    pub(super) const ELSEWHERE: Ends = Ends(RawEnds {
        addresses: [0; 8],
        ports: [0; 4],
    });

    fn new(local: SocketAddrV4, remote: SocketAddrV4) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (local.ip().octets(), remote.ip().octets());
        let ([i, j], [k, l]) = (local.port().to_be_bytes(), remote.port().to_be_bytes());
        Ends(RawEnds {
            addresses: [a, b, c, d, e, f, g, h],
            ports: [i, j, k, l],
        })
    }

    /// The target's address and both ports, as they stand there.
    #[inline]
    pub(super) fn raw(&self) -> (&[u8; 4], &[u8; 4]) {
        const NONE: &[u8; 4] = &[0; 4];
        let remote = self.0.addresses.last_chunk();
        (remote.unwrap_or(NONE), &self.0.ports)
    }

    #[inline]
    fn both(self) -> (SocketAddrV4, SocketAddrV4) {
        let [a, b, c, d, ..] = self.0.addresses;
        let [i, j, k, l] = self.0.ports;
        let local = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j]));
        let remote = SocketAddrV4::new(self.remote(), u16::from_be_bytes([k, l]));
        (local, remote)
    }

    #[inline]
    fn remote(self) -> Ipv4Addr {
        let [_, _, _, _, e, f, g, h] = self.0.addresses;
        Ipv4Addr::new(e, f, g, h)
    }
}

/// What is touched when a session is opened, and when it ends.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) opening: Opening,
    pub(super) close: Close,
    /// When the verdict was reached.
    pub(super) ended: Instant,
    /// What few sessions need.
    pub(super) rare: Option<Box<Rare>>,
    /// The peer's receive window when probing began, octets.
    pub(super) first_window: u32,
    pub(super) verdict: Option<Verdict>,
    /// The peer has closed the session: the verdict that it means where
    /// something is left to ask.
    pub(super) left: Option<Verdict>,
    /// The one reopening was used: how the connection before it ended.
    pub(super) reopened: Option<Verdict>,
}

// With malloc's eight bytes, five units of 16.
const _: () = assert!(size_of::<Cold>() <= 72);

/// What few sessions need.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) learn: Learn,
    /// Duplicate ACKs without blocks, from a peer that permitted SACK.
    pub(super) bare: BareAcks,
    /// The latest duplicate ACK that was read: when it arrived, and its TSval.
    pub(super) last_duplicate: Option<(Instant, Option<u32>)>,
    /// Code and sender of the nearest unreachable that a router sent.
    pub(super) unreachable_by: Option<(u8, IpAddr)>,
    /// The probes of the connection before the reopening.
    pub(super) previous: Option<Span>,
    /// The handshake of the reopening.
    pub(super) second: Option<Handshake>,
    /// Sequence number of the RST that is owed to another life's connection.
    pub(super) stray_rst: u32,
    /// The same of probes that stood alone: a SYN-ACK came for each of these.
    pub(super) stray_probes: Vec<ProbeId>,
    /// How it probes, where its probes stand alone, and the target's port, which may
    /// be another than the flow's.
    pub(super) alone: Option<(Method, u16)>,
    /// The conversation that its probes are octets of.
    pub(super) sidecar: Option<Box<Sidecar>>,
    /// How large a packet gets how far: to be measured, or measured.
    pub(super) mtu: Option<Box<Mtu>>,
    /// What the verdict alone does not say.
    pub(super) detail: Option<String>,
    /// Events that there was no room for.
    events: VecDeque<Event>,
    /// A flow that is not an IPv4 one.
    flow: Option<Box<Flow>>,
}

impl Session {
    #[inline]
    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags.has(flag)
    }

    /// What few sessions need, if this one does.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.cold.rare.as_deref()
    }

    /// The same; from here on it does.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.cold.rare.get_or_insert_default()
    }

    /// What is known of the path's rewriting; `None` when nothing odd was seen.
    pub(super) fn learn(&self) -> Option<&Learn> {
        match self.has(Flag::Odd) {
            true => self.rare().map(|rare| &rare.learn),
            false => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn learn_mut(&mut self) -> &mut Learn {
        self.flags.set(Flag::Odd);
        &mut self.rare_mut().learn
    }

    /// The offset in quotes.
    pub(super) fn quotes(&self) -> Offset {
        self.learn().map_or(Offset::None, |learn| learn.quotes)
    }

    /// The offset in SACK edges.
    pub(super) fn edges(&self) -> Offset {
        self.learn().map_or(Offset::None, |learn| learn.sack)
    }

    /// A RST is owed to a half-open connection of another life.
    pub(super) fn owe_rst(&mut self, sequence: u32) {
        self.flags.set(Flag::Stray);
        self.rare_mut().stray_rst = sequence;
    }

    /// The peer has closed the session.
    pub(super) fn leave(&mut self, verdict: Verdict) {
        self.flags.set(Flag::Left);
        self.cold.left = Some(verdict);
    }

    pub(super) fn keep_flow(&mut self, flow: &Flow) {
        match (flow.local, flow.remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                self.flags.clear(Flag::WideFlow);
                self.ends = Ends::new(local, remote);
            }
            _ => {
                self.flags.set(Flag::WideFlow);
                self.ends = Ends::ELSEWHERE;
                self.rare_mut().flow = Some(Box::new(*flow));
            }
        }
    }

    /// The flow it traces.
    #[must_use]
    pub fn flow(&self) -> Flow {
        if self.has(Flag::WideFlow)
            && let Some(flow) = self.rare().and_then(|rare| rare.flow.as_deref())
        {
            return *flow;
        }
        let (local, remote) = self.ends.both();
        Flow {
            local: SocketAddr::V4(local),
            remote: SocketAddr::V4(remote),
        }
    }

    /// The target's address.
    pub(super) fn target(&self) -> IpAddr {
        match self.has(Flag::WideFlow) {
            true => self.flow().remote.ip(),
            false => IpAddr::V4(self.ends.remote()),
        }
    }

    /// Whether it is the target's address.
    #[inline]
    pub(super) fn is_target(&self, address: Ipv4Addr) -> bool {
        self.ends.remote() == address && !self.has(Flag::WideFlow)
    }

    /// Whether a segment of ours has these ends.
    #[inline]
    pub(super) fn has_ends(&self, ends: &RawEnds) -> bool {
        self.ends.0 == *ends && !self.has(Flag::WideFlow)
    }

    /// Whether a segment with these ends is of the flow, or of its other direction.
    #[must_use]
    #[inline]
    pub fn is_between(&self, local: &SocketAddr, remote: &SocketAddr) -> bool {
        match (local, remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                !self.has(Flag::WideFlow) && self.ends.both() == (*local, *remote)
            }
            _ => {
                let flow = self.flow();
                flow.local == *local && flow.remote == *remote
            }
        }
    }

    #[inline]
    pub(super) fn push(&mut self, event: Event) {
        self.schedule.linger();
        if !self.has(Flag::Overflow)
            && let Some(free) = self.events.get_mut(usize::from(self.waiting))
        {
            *free = event;
            self.waiting += 1;
            return;
        }
        self.flags.set(Flag::Overflow);
        self.rare_mut().events.push_back(event);
    }

    /// What happened, oldest first.
    #[must_use]
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.waiting == 0 {
            return match self.has(Flag::Overflow) {
                true => self.poll_overflow(),
                false => None,
            };
        }
        let [first, rest @ ..] = self.events;
        self.events[..rest.len()].copy_from_slice(&rest);
        self.waiting -= 1;
        Some(first)
    }

    #[cold]
    fn poll_overflow(&mut self) -> Option<Event> {
        let events = &mut self.rare_mut().events;
        let event = events.pop_front();
        if events.is_empty() {
            *events = VecDeque::new();
            self.flags.clear(Flag::Overflow);
        }
        event
    }
}
