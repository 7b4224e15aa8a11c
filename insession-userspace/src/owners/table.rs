//! Prefixes of one family in columns, sorted, each with the one around it: what
//! covers an address is found by halving, and takes no memory of its own. A full
//! table of a million prefixes is 13 MB (of IPv6: 25).

use std::net::IpAddr;

use ipnet::IpNet;

/// No prefix is around it.
const NONE: u32 = u32::MAX;

/// The address bits of a family.
trait Bits: Copy + Ord {
    /// The bits that a prefix of this length leaves.
    fn masked(self, length: u8) -> Self;
}

impl Bits for u32 {
    fn masked(self, length: u8) -> Self {
        let rest = 32_u32.saturating_sub(length.into());
        self & u32::MAX.checked_shl(rest).unwrap_or(0)
    }
}

impl Bits for u128 {
    fn masked(self, length: u8) -> Self {
        let rest = 128_u32.saturating_sub(length.into());
        self & u128::MAX.checked_shl(rest).unwrap_or(0)
    }
}

/// The prefix that covers an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covering {
    /// Its number: no other prefix of its table has that.
    pub number: u32,
    /// How long it is.
    pub length: u8,
    /// What it was inserted with.
    pub value: u32,
}

/// Prefixes of both families, each with a number.
#[derive(Debug, Default)]
pub struct Table {
    v4: Family<u32>,
    v6: Family<u128>,
}

impl Table {
    /// Adds a prefix; bits beyond its length count for nothing.
    pub fn insert(&mut self, prefix: IpNet, value: u32) {
        match prefix {
            IpNet::V4(v4) => self.v4.insert(v4.addr().to_bits(), v4.prefix_len(), value),
            IpNet::V6(v6) => self.v6.insert(v6.addr().to_bits(), v6.prefix_len(), value),
        }
    }

    /// Makes it ready for questions. Of equal prefixes the first inserted stays.
    pub fn settle(&mut self) {
        self.v4.settle();
        // Numbers are those of IPv4 first, then those of IPv6.
        self.v6.settle();
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.bits.len() + self.v6.bits.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The longest prefix that covers an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<Covering> {
        match address {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()).map(|found| Covering {
                number: found.number.saturating_add(self.v4.count()),
                ..found
            }),
        }
    }
}

/// Prefixes of one family.
#[derive(Debug)]
struct Family<B> {
    /// As they come.
    fresh: Vec<(B, u8, u32)>,
    /// Sorted by first address, the shorter of two first.
    bits: Vec<B>,
    lengths: Vec<u8>,
    values: Vec<u32>,
    /// The next shorter prefix around it.
    around: Vec<u32>,
}

impl<B> Default for Family<B> {
    fn default() -> Self {
        Family {
            fresh: Vec::new(),
            bits: Vec::new(),
            lengths: Vec::new(),
            values: Vec::new(),
            around: Vec::new(),
        }
    }
}

impl<B: Bits> Family<B> {
    fn insert(&mut self, bits: B, length: u8, value: u32) {
        self.fresh.push((bits.masked(length), length, value));
    }

    fn count(&self) -> u32 {
        u32::try_from(self.bits.len()).unwrap_or(u32::MAX)
    }

    fn settle(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        let settled = self.bits.iter().zip(&self.lengths).zip(&self.values);
        fresh.splice(
            0..0,
            settled.map(|((bits, length), value)| (*bits, *length, *value)),
        );
        // Stable: the first of equals stays the first.
        fresh.sort_by_key(|(bits, length, _)| (*bits, *length));
        fresh.dedup_by_key(|(bits, length, _)| (*bits, *length));
        // No list has 2³² prefixes that differ.
        fresh.truncate(NONE as usize);
        *self = Family {
            fresh: Vec::new(),
            bits: fresh.iter().map(|(bits, ..)| *bits).collect(),
            lengths: fresh.iter().map(|(_, length, _)| *length).collect(),
            values: fresh.iter().map(|(.., value)| *value).collect(),
            around: Vec::with_capacity(fresh.len()),
        };
        let mut open: Vec<u32> = Vec::new();
        for (number, (bits, ..)) in (0..).zip(fresh) {
            while let Some(last) = open.last()
                && !self.covers(*last, bits)
            {
                open.pop();
            }
            self.around.push(open.last().copied().unwrap_or(NONE));
            open.push(number);
        }
    }

    fn covers(&self, number: u32, address: B) -> bool {
        let at = number as usize;
        match (self.bits.get(at), self.lengths.get(at)) {
            (Some(bits), Some(length)) => address.masked(*length) == *bits,
            _ => false,
        }
    }

    /// The last prefix that begins at the address or before it lies within the one
    /// that is looked for, or is it: prefixes nest or do not touch.
    fn find(&self, address: B) -> Option<Covering> {
        let behind = self.bits.partition_point(|bits| *bits <= address);
        let mut number = u32::try_from(behind.checked_sub(1)?).ok()?;
        while number != NONE {
            let at = number as usize;
            if self.covers(number, address) {
                return Some(Covering {
                    number,
                    length: *self.lengths.get(at)?,
                    value: *self.values.get(at)?,
                });
            }
            number = *self.around.get(at)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prefix_trie::joint::map::JointPrefixMap;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few bits that differ: prefixes are to nest and to be equal.
        let v4 = (any::<u8>(), any::<u8>(), 0..=32_u8)
            .prop_map(|(a, b, length)| net([10, a & 3, b & 129, 0].into(), length));
        let v6 = (any::<u8>(), any::<u8>(), 0..=128_u8).prop_map(|(a, b, length)| {
            let bits = (0x2001_0db8_u128 << 96) | (u128::from(a & 3) << 64) | u128::from(b & 129);
            net(std::net::Ipv6Addr::from_bits(bits).into(), length)
        });
        prop_oneof![v4, v6]
    }

    fn net(address: IpAddr, length: u8) -> IpNet {
        IpNet::new(address, length).unwrap()
    }

    proptest! {
        /// The oracle is a trie.
        #[test]
        fn the_longest_prefix_is_found(
            prefixes in prop::collection::vec(prefix(), 0..40),
            more in prop::collection::vec(prefix(), 0..10),
            addresses in prop::collection::vec(prefix(), 1..40),
        ) {
            let mut table = Table::default();
            let mut oracle = JointPrefixMap::<IpNet, u32>::new();
            for some in [&prefixes, &more] {
                for (value, prefix) in (oracle.len() as u32..).zip(some) {
                    table.insert(*prefix, value);
                    oracle.entry(prefix.trunc()).or_insert(value);
                }
                table.settle();
            }
            prop_assert_eq!(table.len(), oracle.iter().count());
            let mut numbers = std::collections::HashMap::new();
            for address in prefixes.iter().chain(&addresses).map(IpNet::addr) {
                let found = table.find(address);
                let expected = oracle.get_lpm(&IpNet::from(address));
                prop_assert_eq!(
                    found.map(|it| (it.length, it.value)),
                    expected.map(|(prefix, value)| (prefix.prefix_len(), *value)),
                    "{}", address
                );
                if let (Some(found), Some((prefix, _))) = (found, expected) {
                    let known = numbers.entry(found.number).or_insert(prefix);
                    prop_assert_eq!(*known, prefix, "one number, one prefix");
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_space_are_covered_too() {
        let mut table = Table::default();
        for (value, text) in (0..).zip(["0.0.0.0/0", "255.255.255.255/32", "::/0", "ff00::/8"]) {
            table.insert(text.parse().unwrap(), value);
        }
        table.settle();
        for (address, value) in [
            ("0.0.0.0", 0),
            ("255.255.255.254", 0),
            ("255.255.255.255", 1),
            ("::", 2),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 3),
        ] {
            let found = table.find(address.parse().unwrap());
            assert_eq!(found.map(|it| it.value), Some(value), "{address}");
        }
        assert_eq!(Table::default().find([10, 0, 0, 1].into()), None);
    }
}
