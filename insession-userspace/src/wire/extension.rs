//! RFC 4884 extension structures, RFC 4950 MPLS label stacks; RFC 5837 interfaces are
//! read by [`super::interface`].

use alloc::vec::Vec;

use super::checksum::Sum;
use super::interface::{self, Interface};
use super::{Error, Field, be16, be32};
use crate::trace::MplsLabel;

/// Octets of the structure's header.
pub const HEADER_LEN: usize = 4;
/// Octets of an object's header.
const OBJECT_LEN: usize = 4;
/// RFC 4950 §3.
const CLASS_MPLS: u8 = 1;
/// The stack as the packet came in with it.
const TYPE_INCOMING_STACK: u8 = 1;
/// Labels that are read, over all objects. Stacks of more than a handful are
/// not seen; a reply full of them must not cost more than others.
pub const MAX_LABELS: usize = 16;

mod field {
    use super::Field;
    pub(super) const VERSION: usize = 0;
    pub(super) const CHECKSUM: Field = 2..4;
    pub(super) const OBJECT_LENGTH: Field = 0..2;
    pub(super) const OBJECT_CLASS: usize = 2;
    pub(super) const OBJECT_TYPE: usize = 3;
}

/// An extension structure: version 2, checksum checked.
#[derive(Clone, Copy, Debug)]
pub struct Structure<'a> {
    objects: &'a [u8],
}

impl<'a> Structure<'a> {
    /// Checks a structure that the length field points to. All-zero checksum:
    /// none was transmitted (RFC 4884 §7).
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsupported`] for another version,
    /// [`Error::Checksum`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::check(bytes, true)
    }

    /// Checks a structure where one may be, but nothing says so (RFC 4884 §5.5):
    /// bytes of a quote are told from it by version and checksum alone, so the
    /// checksum must be there.
    ///
    /// # Errors
    /// As [`Structure::new`].
    pub fn guessed(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::check(bytes, false)
    }

    fn check(bytes: &'a [u8], optional: bool) -> Result<Self, Error> {
        let objects = bytes.get(HEADER_LEN..).ok_or(Error::Malformed)?;
        if bytes.get(field::VERSION).map(|octet| octet >> 4) != Some(2) {
            return Err(Error::Unsupported);
        }
        let checksum = be16(bytes, field::CHECKSUM);
        let absent = checksum == 0;
        if (absent && !optional) || (!absent && !Sum::ZERO.bytes(bytes).is_valid()) {
            return Err(Error::Checksum);
        }
        Ok(Structure { objects })
    }

    /// The incoming MPLS label stack, outermost first.
    #[must_use]
    pub fn labels(&self) -> Vec<MplsLabel> {
        let mut labels = Vec::new();
        for (class, kind, body) in self.objects() {
            if (class, kind) == (CLASS_MPLS, TYPE_INCOMING_STACK) {
                let (entries, _) = body.as_chunks::<4>();
                let room = MAX_LABELS - labels.len();
                labels.extend(
                    entries
                        .iter()
                        .take(room)
                        .map(|entry| label(be32(entry, 0..4))),
                );
            }
        }
        labels
    }

    /// The interfaces that the router names.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        let objects = self
            .objects()
            .filter(|(class, ..)| *class == interface::CLASS);
        objects
            .filter_map(|(_, c_type, body)| Interface::parse(c_type, body))
            .take(interface::MAX_INTERFACES)
            .collect()
    }

    /// Class, type and body of each object, up to the first that is longer than what is
    /// left.
    fn objects(&self) -> impl Iterator<Item = (u8, u8, &'a [u8])> {
        let mut rest = self.objects;
        core::iter::from_fn(move || {
            if rest.len() < OBJECT_LEN {
                return None;
            }
            let len = usize::from(be16(rest, field::OBJECT_LENGTH));
            // A length below its own header's would never end.
            if len < OBJECT_LEN {
                return None;
            }
            let (object, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let class = *object.get(field::OBJECT_CLASS)?;
            let kind = *object.get(field::OBJECT_TYPE)?;
            Some((class, kind, object.get(OBJECT_LEN..)?))
        })
    }
}

/// A structure with one incoming label stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr<'a> {
    /// Outermost first.
    pub labels: &'a [MplsLabel],
}

impl Repr<'_> {
    /// Octets it takes.
    #[must_use]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + OBJECT_LEN + 4 * self.labels.len()
    }

    /// Writes it to the beginning of `out`, checksum included.
    pub fn emit(&self, out: &mut [u8]) {
        let len = self.buffer_len();
        let out = &mut out[..len];
        let (header, object) = out.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&[2 << 4, 0, 0, 0]);
        let object_len = (len - HEADER_LEN) as u16;
        object[field::OBJECT_LENGTH].copy_from_slice(&object_len.to_be_bytes());
        object[field::OBJECT_CLASS] = CLASS_MPLS;
        object[field::OBJECT_TYPE] = TYPE_INCOMING_STACK;
        for (slot, label) in object[OBJECT_LEN..].chunks_exact_mut(4).zip(self.labels) {
            slot.copy_from_slice(&entry(label).to_be_bytes());
        }
        // 0 would say that there is none; a structure's sum is never 0xffff of
        // version 2 alone, but may be with its labels: send -0 then.
        let checksum = match Sum::ZERO.bytes(out).finish() {
            0 => 0xffff,
            checksum => checksum,
        };
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// RFC 3032 §2.1: label, traffic class, bottom of stack, TTL.
const fn label(entry: u32) -> MplsLabel {
    MplsLabel {
        label: entry >> 12,
        tc: (entry >> 9 & 0b111) as u8,
        bottom: entry >> 8 & 1 == 1,
        ttl: entry as u8,
    }
}

const fn entry(label: &MplsLabel) -> u32 {
    (label.label & 0xf_ffff) << 12
        | (label.tc as u32 & 0b111) << 9
        | (label.bottom as u32) << 8
        | label.ttl as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    prop_compose! {
        fn any_label()(entry: u32) -> MplsLabel {
            label(entry)
        }
    }

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            labels in proptest::collection::vec(any_label(), 1..=MAX_LABELS),
        ) {
            let repr = Repr { labels: &labels };
            let mut buffer = vec![0xa5; repr.buffer_len()];
            repr.emit(&mut buffer);
            prop_assert_eq!(Structure::guessed(&buffer).unwrap().labels(), labels);
        }

        #[test]
        fn any_bytes_are_answered(mut bytes: Vec<u8>) {
            if let Some(header) = bytes.first_chunk_mut::<4>() {
                *header = [0x20, 0, 0, 0];
                prop_assert!(Structure::new(&bytes).unwrap().labels().len() <= MAX_LABELS);
                prop_assert!(Structure::guessed(&bytes).is_err());
            } else {
                prop_assert_eq!(Structure::new(&bytes).unwrap_err(), Error::Malformed);
            }
        }
    }

    #[test]
    fn objects_of_other_classes_are_skipped_and_bad_lengths_end_the_reading() {
        let mut bytes = vec![0x20, 0, 0, 0];
        // RFC 5837 interface information; the MPLS object; the same, too long.
        bytes.extend([0, 8, 2, 0, 1, 2, 3, 4]);
        bytes.extend([0, 8, 1, 1, 0x05, 0xdc, 0x11, 0xfe]);
        bytes.extend([0, 9, 1, 1, 0x05, 0xdc, 0x11, 0xfe]);
        let expected = MplsLabel {
            label: 0x5dc1,
            tc: 0,
            bottom: true,
            ttl: 254,
        };
        assert_eq!(Structure::new(&bytes).unwrap().labels(), [expected]);
        for len in [0, 3] {
            bytes[5] = len;
            assert_eq!(Structure::new(&bytes).unwrap().labels(), []);
        }
    }
}
