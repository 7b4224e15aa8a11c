//! `sidecar`: probes inside a connection that carries a conversation. Octets of it
//! that the peer has acknowledged are sent again, with stepped TTLs: routers discard
//! them as they discard any segment; a peer that gets one drops it below its
//! application and says at once which octet came twice, by a D-SACK (RFC 2883), or by
//! a bare duplicate ACK.
//!
//! Probe *n* is the octet at [`Span`](super::probes::Span)'s place in a [`Stretch`] of
//! the conversation: so sequence numbers name probes as they do elsewhere, and every
//! second octet is left out, so that no D-SACK covers two.
//!
//! The connection is one that we open, with a request of which we know every octet
//! ([`request`]), or one of this host's, that the kernel owns ([`adopted`]).

mod adopted;
mod request;

pub use adopted::OwnSegment;

use alloc::boxed::Box;
use alloc::vec::Vec;

use self::adopted::Adopted;
use self::request::Asking;
use super::state::Flag;
use super::{Session, SessionOptions};
use crate::wire::template::Varying;

/// What was said, and is said again.
#[derive(Debug, Default)]
struct Stretch {
    /// Sequence number of its first octet.
    first: u32,
    data: Vec<u8>,
}

impl Stretch {
    /// Its length, octets.
    fn len(&self) -> u32 {
        // Requests are bounded, and so is what is kept of a connection.
        self.data.len() as u32
    }

    /// The sequence number behind it.
    fn end(&self) -> u32 {
        self.first.wrapping_add(self.len())
    }

    /// What a segment of it carries.
    fn part(&self, sequence: u32, octets: u16) -> Option<&[u8]> {
        let from = sequence.wrapping_sub(self.first) as usize;
        self.data.get(from..from.checked_add(octets.into())?)
    }
}

/// A conversation, and what is known of it.
#[derive(Debug)]
pub(super) struct Sidecar {
    stretch: Stretch,
    role: Role,
}

/// Whose it is.
#[derive(Debug)]
enum Role {
    /// Ours.
    Request(Asking),
    /// The kernel's.
    Adopted(Adopted),
}

/// Octets that every probe of a run as long as it may be has a place in.
fn wanted(options: &SessionOptions) -> usize {
    let hops = usize::from(options.max_ttl.saturating_sub(options.first_ttl)) + 1;
    // What is asked once more has room as well.
    let most = 2 * (hops + 1) * usize::from(options.probes.max(1));
    most.min(MOST)
}

/// More is not asked for, whatever the options say: servers take some 8 KiB of header.
const MOST: usize = 6_000;

impl Session {
    #[inline]
    fn sidecar(&self) -> Option<&Sidecar> {
        match self.has(Flag::Extra) {
            true => self.sidecar_extra(),
            false => None,
        }
    }

    #[cold]
    fn sidecar_extra(&self) -> Option<&Sidecar> {
        self.rare()?.sidecar.as_deref()
    }

    fn sidecar_mut(&mut self) -> Option<&mut Sidecar> {
        self.rare_mut().sidecar.as_deref_mut()
    }

    fn set_sidecar(&mut self, role: Role) {
        self.flags.set(Flag::Extra);
        let stretch = Stretch::default();
        self.rare_mut().sidecar = Some(Box::new(Sidecar { stretch, role }));
    }

    /// Whether its probes are octets of a conversation.
    #[inline]
    pub(super) fn is_sidecar(&self) -> bool {
        self.sidecar().is_some()
    }

    /// Octets of room for probes in the conversation, once there is one.
    pub(super) fn stretch(&self) -> Option<u32> {
        let sidecar = self.sidecar().filter(|_| self.has(Flag::Begun))?;
        Some(sidecar.stretch.len())
    }

    /// What a segment that [`Session::poll_transmit`] gave carries, where that is not
    /// zeros.
    #[must_use]
    pub fn content(&self, segment: &Varying) -> Option<&[u8]> {
        if segment.payload_len == 0 {
            return None;
        }
        let stretch = &self.sidecar()?.stretch;
        stretch.part(segment.sequence, segment.payload_len)
    }

    /// Whether this sequence number is in the conversation, or at an end of it.
    pub(super) fn is_said(&self, sequence: u32) -> bool {
        self.sidecar().is_some_and(|sidecar| {
            let Stretch { first, data } = &sidecar.stretch;
            sequence.wrapping_sub(*first) as usize <= data.len()
        })
    }
}

/// Octets of an HTTP/1.1 request for `host` (RFC 9112 §3.2) that has room for all
/// probes of a trace by `options`: a HEAD, which is answered by a header and changes
/// nothing, of a connection that stays open behind it.
#[must_use]
pub fn http_request(options: &SessionOptions, host: &str, agent: &str) -> Vec<u8> {
    let mut request = alloc::format!(
        "HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    );
    let short = wanted(options).saturating_sub(request.len() + 2);
    if short > 0 {
        let dots = short.saturating_sub(PADDING.len() + 2);
        request.push_str(PADDING);
        request.extend(core::iter::repeat_n('.', dots));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// What fills a request up.
const PADDING: &str = "X-Traceroute: ";
