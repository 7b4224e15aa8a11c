//! The special-purpose address registries of IANA, as of 2026, and what the
//! address space registries hold back: what nobody has reason to trace on the
//! Internet, unless it is their own network.
//!
//! Entries that the registries call globally reachable (some anycast services) are
//! traced as any other address; they stand here where they lie in a larger range
//! that is not. The longest prefix says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// The range.
    pub prefix: IpNet,
    /// The registry's name for it.
    pub name: &'static str,
    /// The document that it rests on.
    pub source: &'static str,
    /// Whether it is to be found on the Internet all the same.
    pub reachable: bool,
}

/// The special range that an address lies in; `None`: it is an ordinary address.
#[must_use]
pub fn special(address: IpAddr) -> Option<&'static Special> {
    longest(IpNet::from(address)).filter(|special| !special.reachable)
}

/// Whether all of a prefix is special.
#[must_use]
pub fn is_special(prefix: IpNet) -> bool {
    longest(prefix).is_some_and(|special| !special.reachable)
        && !REGISTRY
            .iter()
            .any(|inner| inner.reachable && prefix.contains(&inner.prefix))
}

/// The smallest range that all of `prefix` lies in. Some fifty are soon looked
/// through, and a campaign does it once a target.
fn longest(prefix: IpNet) -> Option<&'static Special> {
    let around = REGISTRY
        .iter()
        .filter(|special| special.prefix.contains(&prefix));
    around.max_by_key(|special| special.prefix.prefix_len())
}

const fn v4(
    octets: [u8; 4],
    length: u8,
    name: &'static str,
    source: &'static str,
    reachable: bool,
) -> Special {
    let [a, b, c, d] = octets;
    let prefix = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length));
    Special {
        prefix,
        name,
        source,
        reachable,
    }
}

/// By the first four groups; none has bits in the others but those of `last`.
const fn v6(
    groups: [u16; 4],
    last: u16,
    length: u8,
    name: &'static str,
    source: &'static str,
    reachable: bool,
) -> Special {
    let [a, b, c, d] = groups;
    let address = Ipv6Addr::new(a, b, c, d, 0, 0, 0, last);
    let prefix = IpNet::V6(Ipv6Net::new_assert(address, length));
    Special {
        prefix,
        name,
        source,
        reachable,
    }
}

const SPECIAL: bool = false;
const GLOBAL: bool = true;

/// IPv4: iana-ipv4-special-registry and, for multicast, the address space registry.
/// IPv6: iana-ipv6-special-registry and ipv6-address-space.
#[rustfmt::skip]
pub const REGISTRY: [Special; 56] = [
    v4([0, 0, 0, 0], 8, "this network", "RFC 791", SPECIAL),
    v4([10, 0, 0, 0], 8, "private use", "RFC 1918", SPECIAL),
    v4([100, 64, 0, 0], 10, "shared address space", "RFC 6598", SPECIAL),
    v4([127, 0, 0, 0], 8, "loopback", "RFC 1122", SPECIAL),
    v4([169, 254, 0, 0], 16, "link local", "RFC 3927", SPECIAL),
    v4([172, 16, 0, 0], 12, "private use", "RFC 1918", SPECIAL),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments", "RFC 6890", SPECIAL),
    v4([192, 0, 0, 0], 29, "IPv4 service continuity", "RFC 7335", SPECIAL),
    v4([192, 0, 0, 8], 32, "IPv4 dummy address", "RFC 7600", SPECIAL),
    v4([192, 0, 0, 9], 32, "Port Control Protocol anycast", "RFC 7723", GLOBAL),
    v4([192, 0, 0, 10], 32, "TURN anycast", "RFC 8155", GLOBAL),
    v4([192, 0, 0, 170], 31, "NAT64/DNS64 discovery", "RFC 8880", SPECIAL),
    v4([192, 0, 2, 0], 24, "documentation", "RFC 5737", SPECIAL),
    v4([192, 31, 196, 0], 24, "AS112", "RFC 7535", GLOBAL),
    v4([192, 52, 193, 0], 24, "AMT", "RFC 7450", GLOBAL),
    v4([192, 88, 99, 0], 24, "6to4 relay anycast, deprecated", "RFC 7526", SPECIAL),
    v4([192, 88, 99, 2], 32, "6a44 relay anycast", "RFC 6751", SPECIAL),
    v4([192, 168, 0, 0], 16, "private use", "RFC 1918", SPECIAL),
    v4([192, 175, 48, 0], 24, "AS112 direct delegation", "RFC 7534", GLOBAL),
    v4([198, 18, 0, 0], 15, "benchmarking", "RFC 2544", SPECIAL),
    v4([198, 51, 100, 0], 24, "documentation", "RFC 5737", SPECIAL),
    v4([203, 0, 113, 0], 24, "documentation", "RFC 5737", SPECIAL),
    v4([224, 0, 0, 0], 4, "multicast", "RFC 5771", SPECIAL),
    v4([240, 0, 0, 0], 4, "reserved", "RFC 1112", SPECIAL),
    v4([255, 255, 255, 255], 32, "limited broadcast", "RFC 919", SPECIAL),
    v6([0, 0, 0, 0], 0, 0, "not allocated for global unicast", "RFC 4291", SPECIAL),
    v6([0x2000, 0, 0, 0], 0, 3, "global unicast", "RFC 4291", GLOBAL),
    v6([0, 0, 0, 0], 0, 96, "IPv4-compatible, deprecated", "RFC 4291", SPECIAL),
    v6([0, 0, 0, 0], 0, 128, "unspecified", "RFC 4291", SPECIAL),
    v6([0, 0, 0, 0], 1, 128, "loopback", "RFC 4291", SPECIAL),
    MAPPED,
    v6([0x64, 0xff9b, 0, 0], 0, 96, "IPv4-IPv6 translation", "RFC 6052", GLOBAL),
    v6([0x64, 0xff9b, 1, 0], 0, 48, "local IPv4-IPv6 translation", "RFC 8215", SPECIAL),
    v6([0x100, 0, 0, 0], 0, 64, "discard only", "RFC 6666", SPECIAL),
    v6([0x100, 0, 0, 1], 0, 64, "dummy prefix", "RFC 9780", SPECIAL),
    v6([0x2001, 0, 0, 0], 0, 23, "IETF protocol assignments", "RFC 2928", SPECIAL),
    v6([0x2001, 0, 0, 0], 0, 32, "Teredo", "RFC 4380", SPECIAL),
    v6([0x2001, 1, 0, 0], 1, 128, "Port Control Protocol anycast", "RFC 7723", GLOBAL),
    v6([0x2001, 1, 0, 0], 2, 128, "TURN anycast", "RFC 8155", GLOBAL),
    v6([0x2001, 1, 0, 0], 3, 128, "DNS-SD service registration anycast", "RFC 9665", GLOBAL),
    v6([0x2001, 2, 0, 0], 0, 48, "benchmarking", "RFC 5180", SPECIAL),
    v6([0x2001, 3, 0, 0], 0, 32, "AMT", "RFC 7450", GLOBAL),
    v6([0x2001, 4, 0x112, 0], 0, 48, "AS112", "RFC 7535", GLOBAL),
    v6([0x2001, 0x10, 0, 0], 0, 28, "ORCHID, deprecated", "RFC 4843", SPECIAL),
    v6([0x2001, 0x20, 0, 0], 0, 28, "ORCHIDv2", "RFC 7343", GLOBAL),
    v6([0x2001, 0x30, 0, 0], 0, 28, "drone remote identification", "RFC 9374", GLOBAL),
    v6([0x2001, 0xdb8, 0, 0], 0, 32, "documentation", "RFC 3849", SPECIAL),
    v6([0x2002, 0, 0, 0], 0, 16, "6to4", "RFC 3056", SPECIAL),
    v6([0x2620, 0x4f, 0x8000, 0], 0, 48, "AS112 direct delegation", "RFC 7534", GLOBAL),
    v6([0x3ffe, 0, 0, 0], 0, 16, "6bone, returned", "RFC 3701", SPECIAL),
    v6([0x3fff, 0, 0, 0], 0, 20, "documentation", "RFC 9637", SPECIAL),
    v6([0x5f00, 0, 0, 0], 0, 16, "segment routing SIDs", "RFC 9602", SPECIAL),
    v6([0xfc00, 0, 0, 0], 0, 7, "unique local", "RFC 4193", SPECIAL),
    v6([0xfe80, 0, 0, 0], 0, 10, "link local", "RFC 4291", SPECIAL),
    v6([0xfec0, 0, 0, 0], 0, 10, "site local, deprecated", "RFC 3879", SPECIAL),
    v6([0xff00, 0, 0, 0], 0, 8, "multicast", "RFC 4291", SPECIAL),
];

const MAPPED: Special = Special {
    prefix: IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
    )),
    name: "IPv4-mapped",
    source: "RFC 4291",
    reachable: SPECIAL,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<&'static str> {
        special(text.parse().unwrap()).map(|special| special.name)
    }

    #[test]
    fn special_addresses_are_known_to_their_last_bit() {
        for (text, expected) in [
            ("0.255.255.255", Some("this network")),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some("private use")),
            ("10.255.255.255", Some("private use")),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("shared address space")),
            ("100.127.255.255", Some("shared address space")),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.0.0.1", Some("loopback")),
            ("169.253.255.255", None),
            ("169.254.0.1", Some("link local")),
            ("172.15.255.255", None),
            ("172.16.0.0", Some("private use")),
            ("172.31.255.255", Some("private use")),
            ("172.32.0.0", None),
            ("192.0.0.1", Some("IPv4 service continuity")),
            ("192.0.0.9", None),
            ("192.0.0.10", None),
            ("192.0.0.11", Some("IETF protocol assignments")),
            ("192.0.0.171", Some("NAT64/DNS64 discovery")),
            ("192.0.1.0", None),
            ("192.0.2.1", Some("documentation")),
            ("192.31.196.1", None),
            ("192.88.99.1", Some("6to4 relay anycast, deprecated")),
            ("192.168.0.1", Some("private use")),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some("benchmarking")),
            ("198.19.255.255", Some("benchmarking")),
            ("198.20.0.0", None),
            ("203.0.113.9", Some("documentation")),
            ("223.255.255.255", None),
            ("224.0.0.0", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.0", Some("reserved")),
            ("255.255.255.255", Some("limited broadcast")),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::10.0.0.1", Some("IPv4-compatible, deprecated")),
            ("::ffff:8.8.8.8", Some("IPv4-mapped")),
            ("64:ff9b::808:808", None),
            ("64:ff9b:1::1", Some("local IPv4-IPv6 translation")),
            ("100::1", Some("discard only")),
            ("100:0:0:1::1", Some("dummy prefix")),
            ("1fff::", Some("not allocated for global unicast")),
            ("2000::", None),
            ("2001::1", Some("Teredo")),
            ("2001:1::1", None),
            ("2001:1::4", Some("IETF protocol assignments")),
            ("2001:2::1", Some("benchmarking")),
            ("2001:2:1::1", Some("IETF protocol assignments")),
            ("2001:4:112::1", None),
            ("2001:1ff:ffff::1", Some("IETF protocol assignments")),
            ("2001:200::1", None),
            ("2001:4860:4860::8888", None),
            ("2001:db8::1", Some("documentation")),
            ("2001:db9::1", None),
            ("2002::1", Some("6to4")),
            ("2003::1", None),
            ("2620:4f:8000::1", None),
            ("3fff:fff::1", Some("documentation")),
            ("3fff:1000::1", None),
            ("4000::", Some("not allocated for global unicast")),
            ("5f00::1", Some("segment routing SIDs")),
            ("fc00::1", Some("unique local")),
            ("fdff::1", Some("unique local")),
            ("fe7f::1", Some("not allocated for global unicast")),
            ("fe80::1", Some("link local")),
            ("fec0::1", Some("site local, deprecated")),
            ("ff02::1", Some("multicast")),
        ] {
            assert_eq!(name(text), expected, "{text}");
        }
    }

    #[test]
    fn entries_have_no_bits_beyond_their_length_and_stand_once() {
        for (nth, special) in REGISTRY.iter().enumerate() {
            assert_eq!(special.prefix, special.prefix.trunc());
            assert!(special.source.starts_with("RFC "), "{}", special.name);
            let again = REGISTRY[..nth]
                .iter()
                .any(|other| other.prefix == special.prefix);
            assert!(!again, "{}", special.prefix);
        }
    }

    #[test]
    fn a_prefix_is_special_when_all_of_it_is() {
        for (text, expected) in [
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", true),
            ("10.0.0.0/7", false),
            ("0.0.0.0/0", false),
            ("192.0.0.0/24", false),
            ("192.0.0.0/29", true),
            ("198.18.0.0/15", true),
            ("8.8.8.0/24", false),
            ("::/0", false),
            ("::/1", false),
            ("fd00::/8", true),
            ("fe80::/64", true),
            ("2001::/23", false),
            ("2001:db8:1::/48", true),
            ("2001:4860::/32", false),
        ] {
            assert_eq!(is_special(text.parse().unwrap()), expected, "{text}");
        }
    }
}
