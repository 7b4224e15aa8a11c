//! Codecs, both directions, no state. One file a protocol.
//!
//! Each header has a *view* and a *repr*. The view (`Packet<'a>`, `Segment<'a>`,
//! `Error<'a>`) is bytes checked once by its constructor and read without
//! copying; the `Repr` is what the bytes mean, with `parse` and `emit`.
//! [`ip`] joins the two IP versions, so that everything above exists once.
//! [`template`] writes the frames of a live session, which differ in little.
//!
//! **The panic contract.** What comes from outside never panics: constructors
//! and `parse` take any bytes and answer with an [`Error`], and no accessor of a
//! view panics. `emit` writes to the beginning of a buffer of ours; it panics
//! when that is shorter than `buffer_len`, and overwrites every byte of it, so
//! the buffer need not be cleared.

pub mod alone;
pub mod checksum;
pub mod ethernet;
pub mod extension;
pub mod icmp;
pub mod interface;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod template;
pub mod usual;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// They end before the header does, or it contradicts itself.
    Malformed,
    /// The checksum is wrong.
    Checksum,
    /// Well-formed, but more than is followed here: a fragment's rest, too many
    /// extension headers, another version or protocol.
    Unsupported,
}

/// Where a field stands in its header.
pub(crate) type Field = core::ops::Range<usize>;

/// The `N` bytes of `field`. The header was measured by the caller; a field
/// outside it reads as zeros rather than panicking.
#[inline]
pub(crate) fn read<const N: usize>(header: &[u8], field: Field) -> [u8; N] {
    header
        .get(field)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

/// A big-endian 16-bit field.
#[inline]
pub(crate) fn be16(header: &[u8], field: Field) -> u16 {
    u16::from_be_bytes(read(header, field))
}

/// A big-endian 32-bit field.
#[inline]
pub(crate) fn be32(header: &[u8], field: Field) -> u32 {
    u32::from_be_bytes(read(header, field))
}
