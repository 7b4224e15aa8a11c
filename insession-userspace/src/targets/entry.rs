//! A line of a list: one target, or a prefix, which is a target for each of its
//! addresses, or for one address in each prefix of a length (`--per-prefix`).
//!
//! A prefix is written as `10.0.0.0/24`, `2001:db8::/64` or `[2001:db8::]/64`, with
//! a port behind it where one is meant: `10.0.0.0/24:80`, `[2001:db8::]/64:443`
//! (`2001:db8::/64:443` and `[2001:db8::/64]:443` say the same, since the slash
//! ends the address). Bits beyond the length count for nothing, as with ZMap and
//! nmap: `10.0.0.5/24` is all of `10.0.0.0/24`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::order;
use super::spec::{self, Host, TargetSpec};
use crate::trace::address_text;

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One target.
    One(TargetSpec),
    /// A prefix of targets.
    Prefix(Prefix),
}

/// A prefix of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    net: IpNet,
    port: Option<u16>,
    /// There is one target in each prefix of this length.
    each: u8,
}

/// How many targets of a prefix are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Density {
    /// One in each IPv4 prefix of this length; `None`: each address.
    pub per_prefix: Option<u8>,
    /// The same for IPv6.
    pub per_prefix6: Option<u8>,
}

/// Targets of a prefix at most: all of IPv4.
const MOST: u32 = 32;

/// Takes a line apart, without blanks and comment.
///
/// # Errors
/// Why it is none: `WHY; MEND`.
pub fn parse(text: &str, density: Density) -> Result<Entry, String> {
    match prefix(text)? {
        None => Ok(Entry::One(spec::parse(text)?)),
        Some((address, length, port)) => {
            Prefix::new(address, length, port, density).map(Entry::Prefix)
        }
    }
}

/// Address, length and port of a prefix; `None` where none was meant.
fn prefix(text: &str) -> Result<Option<(IpAddr, u8, Option<u16>)>, String> {
    let unclosed = || "the bracket is not closed; write [2001:db8::]/64:443".to_owned();
    let Some((front, behind)) = text.split_once('/') else {
        return Ok(None);
    };
    // [address/length]:port, or address/length:port with the address in brackets
    // or not.
    let (address, length, port) = match front.strip_prefix('[') {
        Some(inner) if !inner.ends_with(']') => {
            let (length, port) = behind.split_once(']').ok_or_else(unclosed)?;
            (inner, length, port)
        }
        bracket => {
            let colon = behind.find(':').unwrap_or(behind.len());
            let (length, port) = behind.split_at(colon);
            (
                bracket.map_or(front, |inner| inner.trim_end_matches(']')),
                length,
                port,
            )
        }
    };
    let address = match address.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) if address.contains('%') => {
            return Err(
                "a zone cannot be part of the target; name the interface with -i".to_owned(),
            );
        }
        Err(_)
            if !address.is_empty()
                && address
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            return Err(
                "no IPv4 prefix; write four numbers up to 255 and a length, as 10.0.0.0/8"
                    .to_owned(),
            );
        }
        Err(_) => return Ok(None),
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let number = length.parse::<u8>().ok();
    let Some(length) = number.filter(|number| *number <= bits && is_digits(length)) else {
        return Err(format!("{length:?} is no prefix length; write 0 to {bits}"));
    };
    let port = match port.strip_prefix(':') {
        Some(number) => Some(spec::port(number)?),
        None if port.is_empty() => None,
        None => {
            return Err(format!(
                "{port:?} behind the prefix; write 10.0.0.0/24:80 or [2001:db8::]/64:443"
            ));
        }
    };
    Ok(Some((address, length, port)))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Prefix {
    fn new(
        address: IpAddr,
        length: u8,
        port: Option<u16>,
        density: Density,
    ) -> Result<Self, String> {
        let net = net(address, length);
        let is_one = net.prefix_len() == net.max_prefix_len();
        if let [Some(reason), Some(_)] = [net.network(), net.broadcast()].map(spec::nobodys)
            && (is_one || net.network().is_multicast())
        {
            return Err(format!("{reason}; name a prefix of hosts"));
        }
        let (per, option) = match net {
            IpNet::V4(_) => (density.per_prefix, "--per-prefix"),
            IpNet::V6(_) => (density.per_prefix6, "--per-prefix6"),
        };
        // A prefix that is smaller than those asked for has one all the same.
        let each = per
            .unwrap_or(net.max_prefix_len())
            .max(1)
            .clamp(net.prefix_len(), net.max_prefix_len());
        if u32::from(each - net.prefix_len()) > MOST {
            return Err(format!(
                "more than 2^{MOST} targets in one prefix; take one in each prefix of a length with {option}, or write longer ones"
            ));
        }
        Ok(Prefix { net, port, each })
    }

    /// How many targets it has: 1 to 2^32.
    #[must_use]
    pub fn count(&self) -> u64 {
        1 << u32::from(self.each - self.net.prefix_len()).min(MOST)
    }

    /// One of its targets, by number from 0; beyond [`Prefix::count`] they repeat.
    ///
    /// Where one address stands for a prefix it is drawn by `seed` and that prefix,
    /// wherever in whichever list that stands; never the first or the last of IPv4
    /// (network and broadcast), or the first of IPv6 (the routers' anycast address,
    /// RFC 4291 §2.6.1), where there are others.
    #[must_use]
    pub fn target(&self, nth: u64, seed: u64) -> TargetSpec {
        let address = self.address(nth % self.count(), seed);
        let name = match (address, self.port) {
            (_, None) => address_text(address),
            (IpAddr::V4(_), Some(port)) => format!("{}:{port}", address_text(address)),
            (IpAddr::V6(_), Some(port)) => format!("[{address}]:{port}"),
        };
        TargetSpec {
            name,
            host: Host::Address(address),
            port: self.port,
        }
    }

    fn address(&self, nth: u64, seed: u64) -> IpAddr {
        let host_bits = u32::from(self.net.max_prefix_len() - self.each);
        // `each` is above 0 where it is below all bits: a length that was asked
        // for, or one of at most 2^32 addresses. So it is 127 bits at most.
        let first = bits_of(self.net.network()) + (u128::from(nth) << host_bits);
        let size = 1_u128 << host_bits;
        let [low, high] = match self.net {
            _ if size <= 2 => [0, size - 1],
            IpNet::V4(_) => [1, size - 2],
            IpNet::V6(_) => [1, size - 1],
        };
        let drawn = if size == 1 {
            0
        } else {
            let word = |nth| {
                let [upper, lower] = [(first >> 64) as u64, first as u64];
                u128::from(order::number(&[seed, upper, lower, self.each.into(), nth]))
            };
            low + (word(0) << 64 | word(1)) % (high - low + 1)
        };
        let bits = first + drawn;
        match self.net {
            // An IPv4 prefix has 32 bits, and what was added stays within.
            IpNet::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

/// The prefix; of IPv4-mapped addresses, that of IPv4.
pub(super) fn net(address: IpAddr, length: u8) -> IpNet {
    let mapped = match address {
        IpAddr::V6(v6) if length >= 96 => v6.to_ipv4_mapped(),
        _ => None,
    };
    let whole = |address: IpAddr| IpNet::from(address);
    let net = match mapped {
        Some(v4) => Ipv4Net::new(v4, length - 96).map_or_else(|_| whole(v4.into()), IpNet::V4),
        None => IpNet::new(address, length).unwrap_or_else(|_| whole(address)),
    };
    net.trunc()
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn some(text: &str, density: Density) -> Prefix {
        match parse(text, density) {
            Ok(Entry::Prefix(prefix)) => prefix,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn all(text: &str) -> Prefix {
        some(text, Density::default())
    }

    fn per(text: &str, length: u8) -> Prefix {
        let density = Density {
            per_prefix: Some(length),
            per_prefix6: Some(length),
        };
        some(text, density)
    }

    fn names(prefix: Prefix) -> Vec<String> {
        (0..prefix.count())
            .map(|nth| prefix.target(nth, 1).name)
            .collect()
    }

    #[test]
    fn a_prefix_is_each_of_its_addresses() {
        for (text, expected) in [
            (
                "10.0.0.0/30",
                vec!["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"],
            ),
            ("10.0.0.6/31", vec!["10.0.0.6", "10.0.0.7"]),
            ("10.0.0.7/31:80", vec!["10.0.0.6:80", "10.0.0.7:80"]),
            ("10.0.0.7/32", vec!["10.0.0.7"]),
            ("2001:db8::/127", vec!["2001:db8::", "2001:db8::1"]),
            (
                "[2001:db8::]/127:443",
                vec!["[2001:db8::]:443", "[2001:db8::1]:443"],
            ),
            (
                "[2001:db8::/127]:443",
                vec!["[2001:db8::]:443", "[2001:db8::1]:443"],
            ),
            (
                "2001:db8::/127:443",
                vec!["[2001:db8::]:443", "[2001:db8::1]:443"],
            ),
            ("[2001:db8::]/127", vec!["2001:db8::", "2001:db8::1"]),
            ("::ffff:10.0.0.0/127", vec!["10.0.0.0", "10.0.0.1"]),
        ] {
            assert_eq!(names(all(text)), expected, "{text}");
        }
        let whole = all("0.0.0.0/0");
        assert_eq!(whole.count(), 1 << 32);
        assert_eq!(whole.target((1 << 32) - 1, 0).name, "255.255.255.255");
        assert_eq!(all("10.0.0.0/8").target(0x01_0203, 0).name, "10.1.2.3");
    }

    #[test]
    fn each_prefix_of_a_length_has_one_that_the_seed_draws() {
        let prefix = per("10.0.0.0/16", 24);
        assert_eq!(prefix.count(), 256);
        let mut lasts = HashSet::new();
        for nth in 0..256_u64 {
            let Host::Address(IpAddr::V4(address)) = prefix.target(nth, 7).host else {
                panic!("no address");
            };
            let [a, b, c, d] = address.octets();
            assert_eq!([a, b, u64::from(c) as u8], [10, 0, nth as u8]);
            assert!((1..255).contains(&d), "{address}");
            lasts.insert(d);
        }
        assert!(lasts.len() > 100, "{} different ones of 256", lasts.len());
        assert_eq!(prefix.target(3, 7), prefix.target(3, 7));
        let other = (0..256).filter(|nth| prefix.target(*nth, 7) != prefix.target(*nth, 8));
        assert!(other.count() > 200);
        // Whatever prefix it was written in.
        assert_eq!(per("10.0.3.0/24", 24).target(0, 7), prefix.target(3, 7));
        // One where the prefix is smaller; ends of /31 and /32 are hosts.
        for (text, length) in [
            ("10.0.0.4/30", 24),
            ("10.0.0.4/31", 24),
            ("10.0.0.4/32", 32),
        ] {
            assert_eq!(per(text, length).count(), 1, "{text}");
        }
        for seed in 0..50 {
            let name = per("10.0.0.4/30", 24).target(0, seed).name;
            assert!(name == "10.0.0.5" || name == "10.0.0.6", "{name}");
        }
        assert_eq!(per("2001:db8::/32", 48).count(), 65_536);
        assert_eq!(per("::/0", 1).count(), 2);
        assert_eq!(per("2001:db8::/32", 64).count(), 1 << 32);
        let six = per("2001:db8::/32", 48).target(0xabcd, 1).name;
        assert!(six.starts_with("2001:db8:abcd:"), "{six}");
    }

    #[test]
    fn what_is_no_prefix_says_why_and_what_to_write() {
        for (text, reason) in [
            ("10.0.0.0/33", "write 0 to 32"),
            ("10.0.0.0/", "is no prefix length"),
            ("10.0.0.0/+8", "is no prefix length"),
            ("10.0.0.0/255.0.0.0", "is no prefix length"),
            ("10.0.0/8", "as 10.0.0.0/8"),
            ("10.0.0.0.0/8", "as 10.0.0.0/8"),
            ("10.0.0.0/8:0", "is no port"),
            ("10.0.0.0/8:", "is no port"),
            ("2001:db8::/129", "write 0 to 128"),
            ("[2001:db8::/64", "the bracket is not closed"),
            ("[2001:db8::/64]443", "behind the prefix"),
            ("fe80::%eth0/64", "name the interface with -i"),
            ("2001:db8::/64", "with --per-prefix6"),
            ("224.0.0.0/4", "no multicast"),
            ("239.1.2.3/32", "no multicast"),
            ("ff02::/120", "no multicast"),
            ("0.0.0.0/32", "the unspecified address"),
            ("www.example/24", "a prefix or URL is no target"),
            ("https://10.0.0.1/", "a URL is no target"),
            ("https://www.example/a:b", "a URL is no target"),
            ("/8", "a prefix or URL is no target"),
        ] {
            let error = parse(text, Density::default()).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}", length: u8) {
            let density = Density { per_prefix: Some(length), per_prefix6: Some(length) };
            let _ = parse(&text, density);
        }

        #[test]
        fn every_target_is_in_its_own_prefix(
            bits: u128, length in 0_u8..=128, per in 0_u8..=130, v4: bool, nth: u64, seed: u64,
        ) {
            let text = if v4 {
                format!("{}/{}", Ipv4Addr::from_bits(bits as u32), length % 33)
            } else {
                format!("{}/{length}", Ipv6Addr::from_bits(bits))
            };
            let density = Density { per_prefix: Some(per), per_prefix6: Some(per) };
            if let Ok(Entry::Prefix(prefix)) = parse(&text, density) {
                let Host::Address(address) = prefix.target(nth, seed).host else {
                    panic!("no address");
                };
                prop_assert!(prefix.net.contains(&address), "{text} {address}");
            }
        }
    }
}
