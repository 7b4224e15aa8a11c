//! How frames get on and off a wire. One trait; below it `xdp` (AF_XDP behind
//! the XDP program), `packet` (AF_PACKET, kernel-owned connections), `sim`
//! (a deterministic network in memory); above all three the same engine.
//!
//! A link belongs to one interface and one thread.

use std::net::SocketAddr;

use insession_common::flow::SessionId;
use insession_common::stamp::SteerKind;

use crate::session::Flow;
use crate::time::Instant;
use crate::trace::LinkInfo;

pub(crate) mod clock;
mod error;
pub mod flows;
pub(crate) mod folding;
pub(crate) mod kernel;
pub mod mirror;
pub mod packet;
pub mod pcap;
pub(crate) mod permit;
pub(crate) mod prefetch;
pub mod sim;
mod sys;
pub mod xdp;

pub use error::LinkError;
pub(crate) use sys::{release_memory, run_on};

/// One frame that was steered to us.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The frame from its Ethernet header on (or from what the link calls a
    /// frame; the IP header is at `l3_offset`).
    pub bytes: &'a [u8],
    /// When the kernel received it, on the clock of [`Link::now`].
    pub at: Instant,
    /// Whose it is, or [`insession_common::flow::UNRESOLVED`].
    pub session: SessionId,
    /// How it was recognised.
    pub kind: SteerKind,
    /// Where the IP header begins in `bytes`.
    pub l3_offset: usize,
    /// The frame is one of our own kernel's, seen on its way out (`packet`
    /// link: the SYN of a kernel-owned connection).
    pub outgoing: bool,
}

/// How frames get on and off a wire.
///
/// Transmission is batched: [`Link::transmit`] writes frames, [`Link::flush`]
/// hands them over with one kick. Nothing here blocks but [`Link::wait`], and
/// nothing waits without a deadline.
pub trait Link {
    /// What it is, as read back from the kernel.
    fn info(&self) -> LinkInfo;

    /// The time, CLOCK_MONOTONIC or simulated.
    fn now(&self) -> Instant;

    /// From now on replies of `flow` are `session`'s.
    ///
    /// On a link whose connections the kernel owns this also starts the
    /// kernel's `connect()`.
    ///
    /// # Errors
    /// [`LinkError::FlowTaken`] when the flow is steered already;
    /// [`LinkError::NotPermitted`] when no more can be open at a time (a limit of
    /// the process or the host); others when the kernel refuses.
    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError>;

    /// The same for a flow of probes that stand alone: no connection is made.
    ///
    /// # Errors
    /// As [`Link::add_flow`].
    fn add_alone(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.add_flow(flow, session)
    }

    /// The same for many flows, all or none: links that write to the kernel do
    /// it with fewer system calls than one by one.
    ///
    /// # Errors
    /// As [`Link::add_flow`]; none of `flows` is steered then.
    fn add_flows(&mut self, flows: &[(Flow, SessionId)]) -> Result<(), LinkError> {
        for (number, (flow, session)) in flows.iter().enumerate() {
            if let Err(error) = self.add_flow(flow, *session) {
                for (added, _) in flows.iter().take(number) {
                    self.remove_flow(added);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// No longer. On a link whose connections the kernel owns this closes the
    /// connection with RST.
    fn remove_flow(&mut self, flow: &Flow);

    /// How many frames can be written before the next [`Link::flush`]; reclaims
    /// what the kernel has given back. Zero: wait.
    fn room(&mut self) -> usize;

    /// How many frames a batch is best given: what a kick costs, spread over more
    /// frames, against how long the last of them wait for the first.
    fn batch(&self) -> usize {
        BATCH
    }

    /// Writes one frame into the batch: `fill` gets at least
    /// [`MAX_FRAME`] bytes and returns how many it used.
    ///
    /// # Errors
    /// [`LinkError::Full`] when there is no room; `fill` is not called then.
    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError>;

    /// The longest frame that can be written, octets: [`MAX_FRAME`], or more where
    /// [`Link::transmit_long`] takes it. What the interface's MTU allows is another
    /// matter.
    fn longest_frame(&self) -> usize {
        MAX_FRAME
    }

    /// Writes a frame of up to [`Link::longest_frame`] octets into the batch. For few
    /// of them: it may cost a copy more, and such a batch has no
    /// [`Link::departures`].
    ///
    /// # Errors
    /// [`LinkError::Full`] when there is no room; [`LinkError::Unsupported`] when it is
    /// longer.
    fn transmit_long(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        if frame.len() > MAX_FRAME {
            return Err(too_long(frame.len(), MAX_FRAME));
        }
        self.transmit(&mut copying(frame))
    }

    /// Hands the batch over: one kick, if the kernel wants one.
    ///
    /// # Errors
    /// When the interface is gone or down ([`LinkError::Down`]), or the NIC has
    /// not given frames back for longer than it may ([`LinkError::Stalled`]).
    fn flush(&mut self) -> Result<(), LinkError>;

    /// When the frames of the last flush left, the first written first, as far as the
    /// link knows: how many of `times` it filled. The others left at the flush.
    fn departures(&self, times: &mut [Instant]) -> usize {
        let _ = times;
        0
    }

    /// How many written frames the interface has not sent yet, as far as can be
    /// told: closing the link may lose them. Reclaims as [`Link::room`] does.
    fn in_flight(&mut self) -> usize {
        0
    }

    /// Gives each of at most `budget` received frames to `each`, returns how many.
    ///
    /// # Errors
    /// As [`Link::flush`].
    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError>;

    /// Whose the frames are that [`Link::receive`] gives next, the first of them
    /// first, as far as it can be told without taking them: so that a batch's
    /// sessions can be fetched into the cache before they are worked on. Returns
    /// how many of `sessions` it filled; links that cannot tell say none.
    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        let _ = sessions;
        0
    }

    /// Sleeps until a frame arrives, room appears, the waker fires or `until`.
    ///
    /// # Errors
    /// As [`Link::flush`].
    fn wait(&mut self, until: Instant) -> Result<(), LinkError>;

    /// A file descriptor that, made readable, ends [`Link::wait`] early; `None`
    /// for links that never sleep. An eventfd: write 8 bytes.
    fn waker(&self) -> Option<std::sync::Arc<std::os::fd::OwnedFd>> {
        None
    }

    /// The processor that the worker of this link is to run on, where that matters:
    /// several workers share an interface, each with queues of its own.
    fn processor(&self) -> Option<usize> {
        None
    }

    /// What happened to frames since the link was opened: label and count. The
    /// labels are those of `insession_common::counters` and the kernel's own
    /// XDP statistics.
    fn counters(&mut self) -> Vec<(&'static str, u64)>;

    /// The longest IP packet that can be received, octets: no more is to be
    /// announced (MSS), whatever the path's MTU.
    fn longest_packet(&self) -> u32 {
        u32::MAX
    }

    /// Whether connections are the kernel's ([`crate::session::Handshaker::Kernel`]).
    fn kernel_owns_connections(&self) -> bool {
        false
    }

    /// Whether the kernel holds this local endpoint (asked once a port; links
    /// without a kernel say no).
    fn port_taken(&self, local: SocketAddr) -> bool {
        let _ = local;
        false
    }
}

/// Fills a frame's room, which is large enough, with this one.
fn copying(frame: &[u8]) -> impl FnMut(&mut [u8]) -> usize {
    move |out| {
        out.iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
        frame.len()
    }
}

/// Of a frame that is longer than the longest that a link writes, octets.
fn too_long(length: usize, longest: usize) -> LinkError {
    LinkError::Unsupported {
        what: format!("a frame of {length} octets"),
        reason: format!("this link writes no more than {longest}"),
        mend: "send a shorter one".into(),
    }
}

/// Frames a kick, where the link has no reason for another number. All of a batch
/// count their round-trip times from its kick, so a longer batch makes the last ones
/// look slower (1 µs a frame by a TX ring on veth); a shorter one pays more kicks.
pub const BATCH: usize = 64;

/// The longest frame that is written: probes and SYNs are far below it.
pub const MAX_FRAME: usize = 256;
