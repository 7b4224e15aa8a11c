//! ICMP (RFC 792) and ICMPv6 (RFC 4443) errors, with their quotes.
//!
//! The two differ in numbers only: types, the place and the unit of the RFC 4884
//! length, the pseudo-header under the checksum.

use alloc::vec::Vec;

use super::checksum::Sum;
use super::extension::{self, Structure};
use super::{Error as WireError, Field, be16, be32};
use crate::trace::MplsLabel;

/// Octets before the quote.
pub const HEADER_LEN: usize = 8;

/// ICMP echo request and reply.
pub const V4_ECHO_REQUEST: u8 = 8;
/// See there.
pub const V4_ECHO_REPLY: u8 = 0;
/// ICMPv6 echo request and reply.
pub const V6_ECHO_REQUEST: u8 = 128;
/// See there.
pub const V6_ECHO_REPLY: u8 = 129;
/// ICMP destination unreachable.
pub const V4_UNREACHABLE: u8 = 3;
/// Code of [`V4_UNREACHABLE`]: fragmentation needed and DF set (RFC 1191).
pub const V4_FRAGMENTATION_NEEDED: u8 = 4;
/// ICMP time exceeded.
pub const V4_TIME_EXCEEDED: u8 = 11;
/// ICMP parameter problem.
pub const V4_PARAMETER_PROBLEM: u8 = 12;
/// ICMPv6 destination unreachable.
pub const V6_UNREACHABLE: u8 = 1;
/// ICMPv6 packet too big.
pub const V6_PACKET_TOO_BIG: u8 = 2;
/// ICMPv6 time exceeded.
pub const V6_TIME_EXCEEDED: u8 = 3;
/// ICMPv6 parameter problem.
pub const V6_PARAMETER_PROBLEM: u8 = 4;

/// Octets that a quote is padded to before an extension structure (RFC 4884
/// §3), and where one begins that no length field tells of (§5.5).
pub const PADDED_QUOTE: usize = 128;

mod field {
    use super::Field;
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: Field = 2..4;
    pub(super) const V6_QUOTE_LENGTH: usize = 4;
    pub(super) const V4_QUOTE_LENGTH: usize = 5;
    /// The second word: next-hop MTU in ICMPv6.
    pub(super) const WORD: Field = 4..8;
    /// Next-hop MTU in ICMP.
    pub(super) const V4_MTU: Field = 6..8;
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

impl Version {
    /// Octets that the RFC 4884 length field counts by (§4, §5).
    const fn unit(self) -> usize {
        match self {
            Version::V4 => 4,
            Version::V6 => 8,
        }
    }

    const fn quote_length(self) -> usize {
        match self {
            Version::V4 => field::V4_QUOTE_LENGTH,
            Version::V6 => field::V6_QUOTE_LENGTH,
        }
    }

    /// Whether messages of this type may hold an extension (RFC 4884 §4). In
    /// ICMPv6 "packet too big" the length field's place is taken by the MTU.
    const fn is_extensible(self, icmp_type: u8) -> bool {
        match self {
            Version::V4 => matches!(
                icmp_type,
                V4_UNREACHABLE | V4_TIME_EXCEEDED | V4_PARAMETER_PROBLEM
            ),
            Version::V6 => matches!(icmp_type, V6_UNREACHABLE | V6_TIME_EXCEEDED),
        }
    }

    const fn is_error(self, icmp_type: u8) -> bool {
        match self {
            // Source quench and redirect quote too, but tell nothing of a path.
            Version::V4 => self.is_extensible(icmp_type),
            Version::V6 => matches!(icmp_type, V6_UNREACHABLE..=V6_PARAMETER_PROBLEM),
        }
    }
}

/// An error message, its checksum right.
#[derive(Clone, Copy, Debug)]
pub struct Error<'a> {
    version: Version,
    header: &'a [u8],
    rest: &'a [u8],
}

/// What an error quotes, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a> {
    /// The quoted packet, with the padding behind it if it was padded.
    pub packet: &'a [u8],
    /// The extension structure.
    pub extension: Option<Structure<'a>>,
}

impl<'a> Error<'a> {
    /// Checks. `pseudo` is the pseudo-header's sum for ICMPv6, nothing for ICMP.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::Checksum`],
    /// [`WireError::Unsupported`] when it is no error message.
    pub fn new(version: Version, bytes: &'a [u8], pseudo: Sum) -> Result<Self, WireError> {
        let (header, rest) = bytes
            .split_at_checked(HEADER_LEN)
            .ok_or(WireError::Malformed)?;
        let error = Error {
            version,
            header,
            rest,
        };
        if !version.is_error(error.icmp_type()) {
            return Err(WireError::Unsupported);
        }
        if !pseudo.bytes(bytes).is_valid() {
            return Err(WireError::Checksum);
        }
        Ok(error)
    }

    /// Type.
    #[must_use]
    pub fn icmp_type(&self) -> u8 {
        self.octet(field::TYPE)
    }

    /// Code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.octet(field::CODE)
    }

    /// Next-hop MTU; only "fragmentation needed" and "packet too big" have one.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        match self.version {
            Version::V4 => u32::from(be16(self.header, field::V4_MTU)),
            Version::V6 => be32(self.header, field::WORD),
        }
    }

    /// Takes quote and extension apart by the length field.
    ///
    /// A length field of 0, or one that points out of the message (old routers
    /// leave junk in what was "unused"), leaves the whole message to the quote,
    /// and an extension is looked for behind 128 octets (RFC 4884 §5.5).
    #[must_use]
    pub fn quoted(&self) -> Quoted<'a> {
        if !self.version.is_extensible(self.icmp_type()) {
            return Quoted {
                packet: self.rest,
                extension: None,
            };
        }
        let len = usize::from(self.octet(self.version.quote_length())) * self.version.unit();
        match self.rest.split_at_checked(len) {
            Some((packet, behind)) if len > 0 => Quoted {
                packet,
                extension: Structure::new(behind).ok(),
            },
            _ => self.unsplit(),
        }
    }

    /// As [`Error::quoted`], the length field not believed.
    #[must_use]
    pub fn unsplit(&self) -> Quoted<'a> {
        let guess = self
            .rest
            .split_at_checked(PADDED_QUOTE)
            .and_then(|(packet, behind)| Some((packet, Structure::guessed(behind).ok()?)));
        match guess {
            Some((packet, structure)) if self.version.is_extensible(self.icmp_type()) => Quoted {
                packet,
                extension: Some(structure),
            },
            _ => Quoted {
                packet: self.rest,
                extension: None,
            },
        }
    }

    fn octet(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }
}

/// How an extension is attached to a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With the length field (RFC 4884).
    Compliant,
    /// Behind 128 octets, length field 0, as routers did before RFC 4884.
    Legacy,
}

/// An error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repr<'a> {
    /// Which of the two.
    pub version: Version,
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Next-hop MTU, where the type has one.
    pub mtu: Option<u32>,
    /// The quoted packet, as much of it as is to be quoted. With labels at most
    /// 128 octets of it are.
    pub quote: &'a [u8],
    /// RFC 4950 stack, outermost first; no extension when it is empty.
    pub labels: Vec<MplsLabel>,
    /// How the extension is attached.
    pub form: Form,
}

impl Repr<'_> {
    /// Octets it takes.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        if self.labels.is_empty() {
            HEADER_LEN + self.quote.len()
        } else {
            HEADER_LEN + PADDED_QUOTE + self.extension().buffer_len()
        }
    }

    fn extension(&self) -> extension::Repr<'_> {
        extension::Repr {
            labels: &self.labels,
        }
    }

    /// Writes it to the beginning of `out`, checksum included. `pseudo` as in
    /// [`Error::new`].
    pub fn emit(&self, pseudo: Sum, out: &mut [u8]) {
        let out = &mut out[..self.buffer_len()];
        let (header, rest) = out.split_at_mut(HEADER_LEN);
        header.fill(0);
        header[field::TYPE] = self.icmp_type;
        header[field::CODE] = self.code;
        match (self.version, self.mtu) {
            (_, None) => {}
            (Version::V4, Some(mtu)) => {
                header[field::V4_MTU].copy_from_slice(&(mtu as u16).to_be_bytes());
            }
            (Version::V6, Some(mtu)) => header[field::WORD].copy_from_slice(&mtu.to_be_bytes()),
        }
        if self.labels.is_empty() {
            rest.copy_from_slice(self.quote);
        } else {
            let (quote, structure) = rest.split_at_mut(PADDED_QUOTE);
            let len = self.quote.len().min(PADDED_QUOTE);
            quote[..len].copy_from_slice(&self.quote[..len]);
            quote[len..].fill(0);
            self.extension().emit(structure);
            if self.form == Form::Compliant {
                header[self.version.quote_length()] = (PADDED_QUOTE / self.version.unit()) as u8;
            }
        }
        let checksum = pseudo.bytes(out).finish();
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn number(label: u32) -> MplsLabel {
        MplsLabel {
            label,
            tc: 1,
            bottom: true,
            ttl: 2,
        }
    }

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            v6: bool,
            code: u8,
            quote in proptest::collection::vec(any::<u8>(), 0..=PADDED_QUOTE),
            labels in proptest::collection::vec((0u32..1 << 20).prop_map(number), 0..4),
            legacy: bool,
            pseudo: u16,
        ) {
            let (version, icmp_type) = match v6 {
                true => (Version::V6, V6_TIME_EXCEEDED),
                false => (Version::V4, V4_TIME_EXCEEDED),
            };
            let form = if legacy { Form::Legacy } else { Form::Compliant };
            let repr = Repr { version, icmp_type, code, mtu: None, quote: &quote, labels, form };
            let pseudo = Sum::from_folded(pseudo);
            let mut buffer = vec![0xa5; repr.buffer_len() + 1];
            repr.emit(pseudo, &mut buffer);
            prop_assert_eq!(buffer.pop(), Some(0xa5));
            let error = Error::new(version, &buffer, pseudo).unwrap();
            prop_assert_eq!((error.icmp_type(), error.code()), (icmp_type, code));
            let quoted = error.quoted();
            prop_assert_eq!(&quoted.packet[..quote.len()], &quote);
            prop_assert!(quoted.packet[quote.len()..].iter().all(|byte| *byte == 0));
            let labels = quoted.extension.map(|structure| structure.labels());
            prop_assert_eq!(labels.unwrap_or_default(), repr.labels);
        }

        #[test]
        fn mtus_stand_where_each_version_has_them(v6: bool, mtu: u16, quote: [u8; 28]) {
            let (version, icmp_type, code) = match v6 {
                true => (Version::V6, V6_PACKET_TOO_BIG, 0),
                false => (Version::V4, V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED),
            };
            let repr = Repr {
                version,
                icmp_type,
                code,
                mtu: Some(u32::from(mtu)),
                quote: &quote,
                labels: vec![],
                form: Form::Compliant,
            };
            let mut buffer = vec![0xa5; repr.buffer_len()];
            repr.emit(Sum::ZERO, &mut buffer);
            let error = Error::new(version, &buffer, Sum::ZERO).unwrap();
            prop_assert_eq!(error.mtu(), u32::from(mtu));
            prop_assert_eq!(error.quoted().packet, &quote);
        }

        #[test]
        fn any_bytes_are_answered(
            v6: bool,
            icmp_type in 0u8..13,
            rest in proptest::collection::vec(any::<u8>(), 7..300),
        ) {
            let mut bytes = vec![icmp_type];
            bytes.extend(rest);
            bytes[field::CHECKSUM].fill(0);
            let checksum = Sum::ZERO.bytes(&bytes).finish();
            bytes[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
            let version = if v6 { Version::V6 } else { Version::V4 };
            match Error::new(version, &bytes, Sum::ZERO) {
                Ok(error) => {
                    prop_assert!(error.quoted().packet.len() <= bytes.len() - HEADER_LEN);
                    prop_assert!(error.unsplit().packet.len() <= bytes.len() - HEADER_LEN);
                }
                Err(error) => prop_assert_eq!(error, WireError::Unsupported),
            }
        }
    }
}
