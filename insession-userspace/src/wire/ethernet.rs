//! Ethernet II and 802.1Q/802.1ad tags.

use super::{Error, Field, be16, read};

/// Octets of a header without tag.
pub const HEADER_LEN: usize = 14;
/// Octets of a tag.
pub const TAG_LEN: usize = 4;
/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q customer tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// 802.1ad service tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// As many tags as 802.1ad stacks.
const MAX_TAGS: usize = 2;
/// VLAN identifier within a tag's control information; the rest is priority.
const VLAN_ID: u16 = 0x0fff;

mod field {
    use super::Field;
    pub(super) const DESTINATION: Field = 0..6;
    pub(super) const SOURCE: Field = 6..12;
    /// EtherType, or the tag protocol identifier where a tag stands here.
    pub(super) const ETHERTYPE: Field = 12..14;
    pub(super) const TAG_CONTROL: Field = 14..16;
}

/// A frame: header, at most two tags, payload.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it ends within the header,
    /// [`Error::Unsupported`] with a third tag.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut len = HEADER_LEN;
        for tags in 0..=MAX_TAGS {
            let (header, payload) = bytes.split_at_checked(len).ok_or(Error::Malformed)?;
            let frame = Frame { header, payload };
            match frame.ethertype() {
                ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN if tags < MAX_TAGS => len += TAG_LEN,
                ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => break,
                _ => return Ok(frame),
            }
        }
        Err(Error::Unsupported)
    }

    /// To whom.
    #[must_use]
    pub fn destination(&self) -> [u8; 6] {
        read(self.header, field::DESTINATION)
    }

    /// From whom.
    #[must_use]
    pub fn source(&self) -> [u8; 6] {
        read(self.header, field::SOURCE)
    }

    /// The outer VLAN identifier, where there is a tag.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        (self.header.len() > HEADER_LEN).then(|| be16(self.header, field::TAG_CONTROL) & VLAN_ID)
    }

    /// EtherType of the payload, behind all tags.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        let end = self.header.len();
        be16(self.header, end.saturating_sub(2)..end)
    }

    /// Where the payload begins.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header.len()
    }

    /// What is carried, padding included.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header with at most one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
    /// 802.1Q VLAN identifier.
    pub vlan: Option<u16>,
    /// Of the payload.
    pub ethertype: u16,
}

impl Repr {
    /// Reads it.
    #[must_use]
    pub fn parse(frame: &Frame<'_>) -> Self {
        Repr {
            destination: frame.destination(),
            source: frame.source(),
            vlan: frame.vlan(),
            ethertype: frame.ethertype(),
        }
    }

    /// Octets it takes.
    #[must_use]
    pub const fn buffer_len(&self) -> usize {
        match self.vlan {
            Some(_) => HEADER_LEN + TAG_LEN,
            None => HEADER_LEN,
        }
    }

    /// Writes it to the beginning of `out`.
    pub fn emit(&self, out: &mut [u8]) {
        let len = self.buffer_len();
        out[field::DESTINATION].copy_from_slice(&self.destination);
        out[field::SOURCE].copy_from_slice(&self.source);
        if let Some(vlan) = self.vlan {
            out[field::ETHERTYPE].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
            out[field::TAG_CONTROL].copy_from_slice(&(vlan & VLAN_ID).to_be_bytes());
        }
        out[len - 2..len].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            destination: [u8; 6],
            source: [u8; 6],
            vlan in proptest::option::of(0u16..4096),
            v6: bool,
        ) {
            let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            let repr = Repr { destination, source, vlan, ethertype };
            let mut buffer = [0xa5; 20];
            repr.emit(&mut buffer);
            let frame = Frame::new(&buffer).unwrap();
            prop_assert_eq!(Repr::parse(&frame), repr);
            prop_assert_eq!(frame.header_len(), repr.buffer_len());
            prop_assert!(frame.payload().iter().all(|byte| *byte == 0xa5));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            if let Ok(frame) = Frame::new(&bytes) {
                let repr = Repr::parse(&frame);
                prop_assert_eq!(frame.header_len() + frame.payload().len(), bytes.len());
                prop_assert!(repr.vlan.is_none_or(|vlan| vlan < 4096));
            }
        }
    }

    #[test]
    fn two_tags_are_followed_and_three_are_not() {
        let mut frame = [0; 26];
        frame[12..14].copy_from_slice(&ETHERTYPE_SERVICE_VLAN.to_be_bytes());
        frame[14..16].copy_from_slice(&0xf064u16.to_be_bytes());
        frame[16..18].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
        frame[20..22].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        let parsed = Frame::new(&frame).unwrap();
        assert_eq!(parsed.header_len(), 22);
        assert_eq!(parsed.ethertype(), ETHERTYPE_IPV6);
        assert_eq!(parsed.vlan(), Some(100));
        frame[20..22].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
        assert_eq!(Frame::new(&frame).unwrap_err(), Error::Unsupported);
        assert_eq!(Frame::new(&frame[..21]).unwrap_err(), Error::Malformed);
    }
}
