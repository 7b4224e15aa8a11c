//! How large a packet gets how far.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The path MTU along the way, as it was measured inside a session. Sizes are those of
/// whole IP packets, octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The MTU of the interface that packets leave by.
    pub link: u32,
    /// The largest packet that was tried; `None` where none was.
    pub largest: Option<u16>,
    /// Why no larger one was, where the link's MTU is larger.
    pub limit: Option<MtuLimit>,
    /// The TTL that `path` was measured to: the destination's, else that of the
    /// farthest hop that answered.
    pub to_ttl: Option<u8>,
    /// What gets there; `None` where that was not found out. It is a lower bound where
    /// it is `largest`, and there is a `limit`.
    pub path: Option<u16>,
    /// Where it becomes smaller, by rising TTL.
    pub steps: Vec<MtuStep>,
    /// What went otherwise than it should.
    pub detail: Option<String>,
}

/// A place where the MTU becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuStep {
    /// The hop behind which it does: the router that told, or the last hop that larger
    /// packets surely got to. 0: before the first hop.
    pub ttl: u8,
    /// Its address, as far as known.
    pub from: Option<IpAddr>,
    /// What gets on from there, octets.
    pub mtu: u16,
    /// The router said so (RFC 1191, RFC 8201); otherwise larger packets vanish without
    /// a word (RFC 2923), and the size was searched for.
    pub told: bool,
}

/// What larger packets than the largest one tried were in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuLimit {
    /// The segment size that the peer takes (its MSS, which may have been clamped on
    /// the way).
    Mss,
    /// The peer's receive window.
    Window,
    /// The longest frame that our link writes.
    Frame,
}

impl MtuLimit {
    /// Every one of them.
    pub const ALL: [MtuLimit; 3] = [MtuLimit::Mss, MtuLimit::Window, MtuLimit::Frame];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MtuLimit::Mss => "mss",
            MtuLimit::Window => "window",
            MtuLimit::Frame => "frame",
        }
    }
}

impl PathMtu {
    /// Whether larger packets than `path` may get there, too.
    #[must_use]
    pub fn is_lower_bound(&self) -> bool {
        self.limit.is_some() && self.path == self.largest
    }
}
