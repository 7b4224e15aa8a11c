//! The steering decision: bytes → ours / not ours / malformed.
//!
//! One function, generic over how bytes are read and how flows are looked up:
//! the XDP program reads through checked packet pointers and BPF maps, the
//! `packet` and `sim` links through slices and a hash map.

use crate::counters::Counter;
use crate::flow::{FlowKeyV4, FlowKeyV6, PeerKey, SessionId};
use crate::stamp::SteerKind;

/// How the bytes of a frame are read.
pub trait Frame {
    /// `N` bytes from `offset`, or `None` where the frame ends before them.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// The flows of ours.
pub trait Flows {
    /// The first and the last local port of ours, both inclusive.
    fn ports(&self) -> (u16, u16);
    /// Exact IPv4 flow.
    fn v4(&self, key: &FlowKeyV4) -> Option<SessionId>;
    /// Exact IPv6 flow.
    fn v6(&self, key: &FlowKeyV6) -> Option<SessionId>;
    /// Whether some live flow goes to this remote end.
    fn has_peer(&self, key: &PeerKey) -> bool;
    /// Whether some live flow uses this local port.
    fn has_port(&self, port: u16) -> bool;
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
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

/// Decides.
#[inline(always)]
pub fn steer<B: Frame, F: Flows>(frame: &B, flows: &F) -> Decision {
    let _ = (frame, flows);
    Decision::Pass(Counter::NotIp)
}
