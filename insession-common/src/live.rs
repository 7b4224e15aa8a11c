//! Sending by the XDP program itself: what user space and the program agree on.
//!
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` (net/bpf/test_run.c, Linux
//! 5.18) runs an XDP program over pages of a page pool of its own, and does what the
//! program answers: with `XDP_REDIRECT` the frame leaves by the other interface's
//! `ndo_xdp_xmit`. No socket buffer is made, which is most of what a frame costs in
//! AF_XDP's copy mode.
//!
//! User space writes frames into slots of an array map that it has mapped, and has
//! the program run once a frame. Each run takes the next slot of its sender. Who the
//! sender is, the program reads off the length of the frame it is given: the kernel
//! restores that for every run, its contents it does not.

/// Slots of a sender: as many frames as go out by one call.
pub const SLOTS: u32 = 256;

/// Octets that a frame may have at most.
pub const ROOM: usize = 256;

/// The length of the frame that the first sender's runs are given, octets; the
/// others' are longer by one each. No frame is shorter than an Ethernet header.
pub const FIRST_LENGTH: u32 = 64;

/// The most senders of one program.
pub const SENDERS: u32 = 32;

/// The shortest frame that is sent, octets: an Ethernet header.
pub const SHORTEST: u32 = 14;

/// A frame to be sent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    /// When the program sent it, ns of CLOCK_MONOTONIC.
    pub sent: u64,
    /// Octets of the frame beyond [`SHORTEST`]: a byte, so that the verifier sees that
    /// no frame is longer than `bytes`.
    pub extra: u8,
    /// So that the frame's IP header is aligned to 4.
    pub zero: [u8; 5],
    /// The frame, from its Ethernet header on.
    pub bytes: [u8; SHORTEST as usize + 1 + u8::MAX as usize],
    /// Up to the next frame's.
    pub rest: [u8; 4],
}

const _: () = assert!(ROOM <= SHORTEST as usize + u8::MAX as usize);
const _: () = assert!(size_of::<Slot>().is_multiple_of(8));
const _: () = assert!(core::mem::offset_of!(Slot, bytes) % 4 == 2);

/// The sender that a run is for, by the length of the frame it is given.
#[inline(always)]
#[must_use]
pub const fn sender(length: u32) -> u32 {
    length.wrapping_sub(FIRST_LENGTH)
}

/// The length of the frame that a sender's runs are given.
#[must_use]
pub const fn length(sender: u32) -> u32 {
    FIRST_LENGTH + sender
}
