//! What the XDP program writes in front of a packet of ours.
//!
//! The stamp stands in the packet's metadata area (`bpf_xdp_adjust_meta`), so
//! an AF_XDP socket finds it in the 16 bytes before the frame's first byte.

use crate::flow::SessionId;

/// How a packet was recognised as ours.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteerKind {
    /// A TCP segment from the peer of a flow.
    Segment = 1,
    /// An ICMP or ICMPv6 error that quotes a flow of ours as it was sent.
    Quote = 2,
    /// An ICMP or ICMPv6 error whose quote shows the flow rewritten by a NAT.
    /// The session id may be [`crate::flow::UNRESOLVED`].
    RewrittenQuote = 3,
}

impl SteerKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(SteerKind::Segment),
            2 => Some(SteerKind::Quote),
            3 => Some(SteerKind::RewrittenQuote),
            _ => None,
        }
    }
}

/// The stamp itself. 16 bytes, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyStamp {
    /// When the kernel saw the packet: `bpf_ktime_get_ns`, CLOCK_MONOTONIC, ns.
    pub rx_ns: u64,
    /// Whose packet it is.
    pub session: SessionId,
    /// A [`SteerKind`] as number.
    pub kind: u8,
    /// Always zero.
    pub zero: u8,
    /// Where the IP header begins, counted from the frame's first byte.
    pub l3_offset: u16,
}

impl ReplyStamp {
    /// The stamp's size in bytes.
    pub const SIZE: usize = core::mem::size_of::<Self>();

    /// The stamp as it stands in memory, in this machine's byte order.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, kind, zero, o, p] = *bytes;
        ReplyStamp {
            rx_ns: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            session: u32::from_ne_bytes([i, j, k, l]),
            kind,
            zero,
            l3_offset: u16::from_ne_bytes([o, p]),
        }
    }
}

const _: () = assert!(ReplyStamp::SIZE == 16);
