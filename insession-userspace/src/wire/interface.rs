//! RFC 5837 interface information objects of an RFC 4884 extension: the interfaces that
//! a router names in an error.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 5837 §4.
pub const CLASS: u8 = 2;
/// Objects that are read of one error.
pub const MAX_INTERFACES: usize = 8;

/// Bits of the C-Type (§4.1).
mod has {
    pub(super) const INDEX: u8 = 0x08;
    pub(super) const ADDRESS: u8 = 0x04;
    pub(super) const NAME: u8 = 0x02;
    pub(super) const MTU: u8 = 0x01;
}

/// Address families (§4.2).
const AFI_V4: u16 = 1;
const AFI_V6: u16 = 2;
/// Octets of a name's sub-object at most, the length octet among them (§4.3).
const LONGEST_NAME: usize = 64;

/// Which interface is meant (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that the quoted packet came in by.
    Incoming,
    /// The part below IP of it.
    SubIncoming,
    /// The one that it would have left by.
    Outgoing,
    /// That of the next router.
    NextHop,
}

impl Role {
    const fn of(c_type: u8) -> Self {
        match c_type >> 6 {
            0 => Role::Incoming,
            1 => Role::SubIncoming,
            2 => Role::Outgoing,
            _ => Role::NextHop,
        }
    }

    const fn bits(self) -> u8 {
        (match self {
            Role::Incoming => 0,
            Role::SubIncoming => 1,
            Role::Outgoing => 2,
            Role::NextHop => 3,
        }) << 6
    }

    /// Whether it is one of the router that sent the error.
    #[must_use]
    pub const fn is_own(self) -> bool {
        !matches!(self, Role::NextHop)
    }
}

/// An interface, as far as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Which is meant.
    pub role: Role,
    /// Its number (ifIndex).
    pub index: Option<u32>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its name, as far as it is UTF-8 (§4.3).
    pub name: Option<String>,
    /// Its MTU, octets.
    pub mtu: Option<u32>,
}

impl Interface {
    /// Reads what follows an object's header; `None` where it ends too soon.
    #[must_use]
    pub fn parse(c_type: u8, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut read = Interface {
            role: Role::of(c_type),
            index: None,
            address: None,
            name: None,
            mtu: None,
        };
        if c_type & has::INDEX != 0 {
            read.index = Some(word(&mut rest)?);
        }
        if c_type & has::ADDRESS != 0 {
            let (family, behind) = rest.split_first_chunk::<4>()?;
            let [a, b, _, _] = *family;
            rest = behind;
            read.address = match u16::from_be_bytes([a, b]) {
                AFI_V4 => Some(Ipv4Addr::from_bits(word(&mut rest)?).into()),
                AFI_V6 => {
                    let (address, behind) = rest.split_first_chunk::<16>()?;
                    rest = behind;
                    Some(Ipv6Addr::from(*address).into())
                }
                // How long it is nobody knows, nor where the rest begins.
                _ => return Some(read),
            };
        }
        if c_type & has::NAME != 0 {
            let length = usize::from(*rest.first()?);
            if !(1..=LONGEST_NAME).contains(&length) {
                return None;
            }
            let (name, behind) = rest.split_at_checked(length)?;
            rest = behind;
            // Padded with zeros to words.
            let name = name.get(1..)?.trim_suffix_zeros();
            read.name = core::str::from_utf8(name).ok().map(String::from);
        }
        if c_type & has::MTU != 0 {
            read.mtu = Some(word(&mut rest)?);
        }
        Some(read)
    }

    /// The object with its header, as it stands in an extension.
    #[must_use]
    pub fn object(&self) -> Vec<u8> {
        let mut c_type = self.role.bits();
        let mut body = Vec::new();
        if let Some(index) = self.index {
            c_type |= has::INDEX;
            body.extend(index.to_be_bytes());
        }
        if let Some(address) = self.address {
            c_type |= has::ADDRESS;
            let (family, octets) = match address {
                IpAddr::V4(v4) => (AFI_V4, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AFI_V6, v6.octets().to_vec()),
            };
            body.extend(family.to_be_bytes());
            body.extend([0, 0]);
            body.extend(octets);
        }
        if let Some(name) = &self.name {
            c_type |= has::NAME;
            let name = name.as_bytes();
            let name = name.get(..LONGEST_NAME - 1).unwrap_or(name);
            let length = (1 + name.len()).next_multiple_of(4);
            body.push(length as u8);
            body.extend(name);
            body.resize(body.len() + length - 1 - name.len(), 0);
        }
        if let Some(mtu) = self.mtu {
            c_type |= has::MTU;
            body.extend(mtu.to_be_bytes());
        }
        let [a, b] = (4 + body.len() as u16).to_be_bytes();
        let mut object = Vec::from([a, b, CLASS, c_type]);
        object.extend(body);
        object
    }
}

/// The next four octets.
fn word(rest: &mut &[u8]) -> Option<u32> {
    let (word, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    Some(u32::from_be_bytes(*word))
}

/// Without the padding.
trait Padded {
    fn trim_suffix_zeros(&self) -> &Self;
}

impl Padded for [u8] {
    fn trim_suffix_zeros(&self) -> &Self {
        let end = self.iter().rposition(|octet| *octet != 0);
        self.get(..end.map_or(0, |at| at + 1)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extension::Structure;
    use proptest::prelude::*;

    prop_compose! {
        fn any_interface()(
            role in 0_u8..4,
            index: Option<u32>,
            address: Option<IpAddr>,
            name in proptest::option::of("[a-z0-9/.]{1,63}"),
            mtu: Option<u32>,
        ) -> Interface {
            Interface { role: Role::of(role << 6), index, address, name, mtu }
        }
    }

    fn structure(objects: &[Interface]) -> Vec<u8> {
        let mut bytes = Vec::from([0x20, 0, 0, 0]);
        for object in objects {
            bytes.extend(object.object());
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            interfaces in proptest::collection::vec(any_interface(), 0..MAX_INTERFACES),
        ) {
            let bytes = structure(&interfaces);
            let structure = Structure::new(&bytes).unwrap();
            prop_assert_eq!(structure.interfaces(), interfaces);
            prop_assert!(structure.labels().is_empty());
        }

        #[test]
        fn any_octets_are_answered(c_type: u8, bytes: Vec<u8>) {
            let _ = Interface::parse(c_type, &bytes);
        }
    }

    #[test]
    fn an_object_is_laid_out_as_the_rfc_has_it() {
        let interface = Interface {
            role: Role::Incoming,
            index: Some(3),
            address: Some([192, 0, 2, 1].into()),
            name: Some("eth1".into()),
            mtu: Some(1500),
        };
        let expected = [
            0, 28, 2, 0x0f, // length, class, incoming with all four
            0, 0, 0, 3, // index
            0, 1, 0, 0, 192, 0, 2, 1, // IPv4
            8, b'e', b't', b'h', b'1', 0, 0, 0, // name, padded
            0, 0, 5, 0xdc, // MTU
        ];
        assert_eq!(interface.object(), expected);
        for length in 0..expected.len() - 4 {
            assert_eq!(Interface::parse(0x0f, &expected[4..4 + length]), None);
        }
    }

    #[test]
    fn no_more_are_read_than_may_be() {
        let one = Interface {
            role: Role::Outgoing,
            index: None,
            address: None,
            name: None,
            mtu: None,
        };
        let bytes = structure(&vec![one; 30]);
        let structure = Structure::new(&bytes).unwrap();
        assert_eq!(structure.interfaces().len(), MAX_INTERFACES);
    }
}
