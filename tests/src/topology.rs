//! Topologies as data: `tests/topologies/NAME.toml`.
//!
//! A topology says who is there, who is linked to whom, and what is odd about
//! it. Addresses of links follow from the link's number: link `net = 3` between
//! `a` and `b` is `10.0.3.0/24` and `fd00:3::/64`, `a` has `.1` and `::1`, `b`
//! has `.2` and `::2`. Routes are computed (shortest paths, see
//! [`crate::routes`]); `routes` adds to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// What it shows, in a sentence.
    pub description: String,
    /// Checksum and segmentation offloads of the interfaces: on, as a kernel has
    /// them, or off, so that every captured checksum is the final one.
    #[serde(default = "yes")]
    pub offload: bool,
    /// Who is there.
    pub nodes: BTreeMap<String, Node>,
    /// Who is linked to whom.
    pub links: Vec<Link>,
}

/// A host or a router.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Forwards packets.
    #[serde(default)]
    pub router: bool,
    /// Uses every shortest path, by the hash of the flow; otherwise the first.
    #[serde(default)]
    pub multipath: bool,
    /// Sends no ICMP errors.
    #[serde(default)]
    pub silent: bool,
    /// Prefixes of which every address is this node's.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// More routes, as `ip route add` takes them.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Policy rules, as `ip rule add` takes them, for both families.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Kernel settings of this node, over those of its role.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// An nftables ruleset.
    pub nft: Option<String>,
    /// What runs there.
    #[serde(default)]
    pub services: Vec<Service>,
}

/// A point-to-point link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `node` or `node:interface`; an interface is named after the other end
    /// unless told.
    pub ends: [String; 2],
    /// The link's number, from which its addresses follow.
    pub net: u16,
    /// What the way over it costs.
    #[serde(default = "one")]
    pub cost: u32,
    /// VLAN ids that frames towards the first end are tagged with, outermost
    /// first, by a relay in the middle of the wire; in the other direction it
    /// strips them.
    #[serde(default)]
    pub tags: Vec<u16>,
    /// How long every frame is held, in both directions.
    #[serde(default)]
    pub delay_ms: u16,
}

/// A server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Service {
    /// nginx: waits for a request.
    Nginx {
        /// Where it listens, on every address.
        port: u16,
    },
    /// OpenSSH: speaks first.
    Sshd {
        /// Where it listens, on every address.
        port: u16,
    },
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// The node.
    pub node: &'a str,
    /// Its interface.
    pub interface: &'a str,
    /// Its IPv4 address there.
    pub v4: Ipv4Addr,
    /// Its IPv6 address there.
    pub v6: Ipv6Addr,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl Link {
    /// Whether there is a relay in the middle. It copies frames as they are: the
    /// other end gets only final checksums right, so `offload` must be off.
    #[must_use]
    pub fn relayed(&self) -> bool {
        !self.tags.is_empty() || self.delay_ms > 0
    }

    /// Both ends.
    #[must_use]
    pub fn ends(&self) -> [End<'_>; 2] {
        let [high, low] = self.net.to_be_bytes();
        let names = [split(&self.ends[0]), split(&self.ends[1])];
        let end = |mine: usize, host: u8| End {
            node: names[mine].0,
            interface: names[mine].1.unwrap_or(names[1 - mine].0),
            v4: Ipv4Addr::new(10, high, low, host),
            v6: Ipv6Addr::new(0xfd00, self.net, 0, 0, 0, 0, 0, u16::from(host)),
        };
        [end(0, 1), end(1, 2)]
    }

    /// Its two prefixes.
    #[must_use]
    pub fn prefixes(&self) -> [String; 2] {
        let [high, low] = self.net.to_be_bytes();
        [
            format!("10.{high}.{low}.0/24"),
            format!("fd00:{:x}::/64", self.net),
        ]
    }
}

fn split(end: &str) -> (&str, Option<&str>) {
    match end.split_once(':') {
        Some((node, interface)) => (node, Some(interface)),
        None => (end, None),
    }
}

/// Where the topologies are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies")
}

/// The names of all topologies, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn names() -> Result<Vec<String>> {
    let folder = folder();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Topology {
    /// Reads `tests/topologies/NAME.toml`.
    ///
    /// # Errors
    /// When there is no such topology, or it is wrong.
    pub fn load(name: &str) -> Result<Self> {
        let known = names()?;
        if !known.iter().any(|other| other == name) {
            bail!(
                "topology {name:?}: there is none; there are {}",
                known.join(", ")
            );
        }
        let path = folder().join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Topology::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads a topology from its text.
    ///
    /// # Errors
    /// When it is wrong: the message names what.
    pub fn parse(text: &str) -> Result<Self> {
        let topology: Topology = toml::from_str(text)?;
        topology.check()?;
        Ok(topology)
    }

    fn check(&self) -> Result<()> {
        let mut nets = Vec::new();
        let mut interfaces = Vec::new();
        for name in self.nodes.keys() {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if name.is_empty() || name.len() > 12 || !name.chars().all(good) {
                bail!("node {name:?}: names are 1 to 12 lower-case letters and digits");
            }
        }
        for link in &self.links {
            if nets.contains(&link.net) {
                bail!("net {}: two links have it", link.net);
            }
            nets.push(link.net);
            if link.tags.len() > 2 || link.tags.iter().any(|tag| *tag > 4095) {
                bail!(
                    "net {}: at most two tags, each 0 to 4095 (IEEE 802.1Q)",
                    link.net
                );
            }
            if link.relayed() && self.offload {
                bail!(
                    "net {}: a relay needs `offload = false`: it copies unfinished checksums",
                    link.net
                );
            }
            for end in link.ends() {
                if !self.nodes.contains_key(end.node) {
                    bail!("net {}: there is no node {:?}", link.net, end.node);
                }
                // IFNAMSIZ, linux/if.h.
                if end.interface.is_empty() || end.interface.len() > 15 {
                    bail!(
                        "{}:{}: an interface's name has 1 to 15 letters",
                        end.node,
                        end.interface
                    );
                }
                let key = (end.node.to_owned(), end.interface.to_owned());
                if interfaces.contains(&key) {
                    bail!("{}:{}: two links have this end", key.0, key.1);
                }
                interfaces.push(key);
            }
        }
        for (name, node) in &self.nodes {
            for prefix in &node.addresses {
                parse_prefix(prefix).with_context(|| format!("node {name}"))?;
            }
        }
        Ok(())
    }

    /// The other end of the link at `node`'s `interface`.
    #[must_use]
    pub fn peer(&self, node: &str, interface: &str) -> Option<End<'_>> {
        self.links.iter().find_map(|link| {
            let [a, b] = link.ends();
            if (a.node, a.interface) == (node, interface) {
                Some(b)
            } else if (b.node, b.interface) == (node, interface) {
                Some(a)
            } else {
                None
            }
        })
    }

    /// All ends at `node`, in the order of the links.
    pub fn ends_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = End<'a>> {
        self.links
            .iter()
            .flat_map(Link::ends)
            .filter(move |end| end.node == node)
    }

    /// The first address of `node` of that family: of its own prefixes, the
    /// first host; else of its first link.
    #[must_use]
    pub fn address(&self, node: &str, v6: bool) -> Option<IpAddr> {
        self.addresses(node, v6, 1).into_iter().next()
    }

    /// The first `count` addresses of `node` of that family: hosts 1, 2, … of
    /// its own prefixes in turn; of its links where it has no prefix.
    #[must_use]
    pub fn addresses(&self, node: &str, v6: bool, count: usize) -> Vec<IpAddr> {
        let Some(found) = self.nodes.get(node) else {
            return Vec::new();
        };
        let hosts: Vec<IpAddr> = found
            .addresses
            .iter()
            .filter_map(|prefix| parse_prefix(prefix).ok())
            .filter(|(address, _)| address.is_ipv6() == v6)
            .flat_map(|(address, length)| hosts(address, length))
            .take(count)
            .collect();
        if !hosts.is_empty() {
            return hosts;
        }
        self.ends_of(node)
            .map(|end| if v6 { end.v6.into() } else { end.v4.into() })
            .take(count)
            .collect()
    }
}

/// `address/length`, the address being the prefix's first.
fn parse_prefix(prefix: &str) -> Result<(IpAddr, u8)> {
    let wrong = || format!("prefix {prefix:?}: reads address/length");
    let (address, length) = prefix.split_once('/').with_context(wrong)?;
    let address: IpAddr = address.parse().with_context(wrong)?;
    let length: u8 = length.parse().with_context(wrong)?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        bail!("prefix {prefix:?}: too long");
    }
    Ok((address, length))
}

/// Every host of a prefix but its first address (and IPv4's broadcast), which
/// is the prefix itself where it has only one.
fn hosts(address: IpAddr, length: u8) -> Box<dyn Iterator<Item = IpAddr>> {
    match address {
        IpAddr::V4(_) if length == 32 => Box::new(std::iter::once(address)),
        IpAddr::V6(_) if length == 128 => Box::new(std::iter::once(address)),
        IpAddr::V4(first) => {
            let hosts = (1_u32 << (32 - length.clamp(1, 31)))
                .saturating_sub(2)
                .max(1);
            Box::new(
                (1..=hosts).map(move |host| Ipv4Addr::from_bits(first.to_bits() | host).into()),
            )
        }
        IpAddr::V6(first) => Box::new(
            (1..=0xffff).map(move |host| Ipv6Addr::from_bits(first.to_bits() | host).into()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        description = "two hosts"
        nodes.client = {}
        nodes.server = { addresses = ["10.9.0.0/24", "fd00:9::/64"] }
        [[links]]
        ends = ["client:eth0", "server"]
        net = 258
    "#;

    #[test]
    fn every_topology_is_right() {
        let names = names().unwrap();
        assert!(names.len() >= 10, "{names:?}");
        for name in names {
            let topology = Topology::load(&name).unwrap();
            assert!(!topology.description.is_empty(), "{name}");
        }
    }

    #[test]
    fn addresses_follow_from_the_number() {
        let topology = Topology::parse(SMALL).unwrap();
        let peer = topology.peer("client", "eth0").unwrap();
        assert_eq!(
            (peer.node, peer.interface, peer.v4, peer.v6),
            (
                "server",
                "client",
                Ipv4Addr::new(10, 1, 2, 2),
                "fd00:102::2".parse().unwrap()
            )
        );
        assert_eq!(
            topology.links[0].prefixes(),
            ["10.1.2.0/24", "fd00:102::/64"]
        );
        assert_eq!(
            topology.address("client", false),
            Some("10.1.2.1".parse().unwrap())
        );
        assert_eq!(
            topology.addresses("server", false, 2),
            [
                "10.9.0.1".parse::<IpAddr>().unwrap(),
                "10.9.0.2".parse().unwrap()
            ]
        );
        assert_eq!(
            topology.address("server", true),
            Some("fd00:9::1".parse().unwrap())
        );
        assert_eq!(topology.addresses("server", false, 1000).len(), 254);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |from: &str, to: &str| {
            let text = SMALL.replace(from, to);
            assert_ne!(text, SMALL);
            format!("{:#}", Topology::parse(&text).unwrap_err())
        };
        assert!(wrong("net =", "nett =").contains("unknown field"));
        assert!(wrong("nodes.server", "nodes.Server").contains("names are"));
        assert!(wrong("\"server\"]", "\"nobody\"]").contains("no node \"nobody\""));
        assert!(wrong("10.9.0.0/24", "10.9.0.0").contains("reads address/length"));
        assert!(wrong("eth0", "an-interface-name").contains("1 to 15"));
        assert!(wrong("net = 258", "net = 258\ntags = [1, 2, 3]").contains("two tags"));
        assert!(wrong("net = 258", "net = 258\ndelay_ms = 1").contains("offload = false"));
    }
}
