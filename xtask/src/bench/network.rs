//! The test bed of this process, and what its interfaces have counted.

use std::process::Command;

use anyhow::{Context, Result};
use insession::testbed::{Bed, BedOptions};
use insession_common::reflect;
use serde::Deserialize;

use crate::rows::{Row, Target};

/// Our end of the pair.
pub const NEAR: &str = "near0";
/// The reflector's end.
pub const FAR: &str = "far0";

/// The bed, and how its near end is addressed.
pub struct Network {
    bed: Bed,
    near_address: String,
    near_mac: String,
    far_mac: String,
}

impl Network {
    /// Puts this thread, and what it starts from now on, into a namespace of its
    /// own with the reflector in it.
    pub fn new() -> Result<Self> {
        let bed = Bed::create(&BedOptions {
            network: reflect::Network::default(),
            queues: 1,
        })
        .context("the test bed")?;
        let near = Link::of(NEAR)?;
        let far = Link::of(FAR)?;
        let near_address = near
            .addr_info
            .iter()
            .find(|address| address.family == "inet")
            .with_context(|| format!("{NEAR} has no IPv4 address"))?
            .local
            .clone();
        Ok(Network {
            bed,
            near_address,
            near_mac: near.address,
            far_mac: far.address,
        })
    }

    /// From now on it is this one.
    pub fn set(&mut self, network: &reflect::Network) -> Result<()> {
        self.bed
            .reconfigure(network)
            .context("the reflector's network")
    }

    /// What the reflector did, as far as it did it.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.bed.counters();
        counters.retain(|(_, count)| *count > 0);
        counters
    }

    /// IPv4.
    pub fn near_address(&self) -> &str {
        &self.near_address
    }

    /// In the usual notation.
    pub fn near_mac(&self) -> &str {
        &self.near_mac
    }

    /// Of the next hop.
    pub fn far_mac(&self) -> &str {
        &self.far_mac
    }
}

/// Of `ip -j address`, what is looked at.
#[derive(Deserialize)]
struct Link {
    address: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    family: String,
    local: String,
}

impl Link {
    fn of(name: &str) -> Result<Link> {
        let output = Command::new("ip")
            .args(["-j", "address", "show", "dev", name])
            .output()
            .context("ip address show")?;
        let links: Vec<Link> = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("ip address show dev {name}"))?;
        links
            .into_iter()
            .next()
            .with_context(|| format!("{name}: no such interface"))
    }
}

/// The first so many targets, as they are written on a command line.
pub fn addresses(count: u32) -> impl Iterator<Item = String> {
    insession::testbed::targets(u64::from(count)).map(|target| target.ip().to_string())
}

/// Packets that came out of the far end of the pair.
pub fn far_received() -> Result<u64> {
    Ok(counters(FAR)?.received)
}

/// Of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received: u64,
    /// Packets dropped when received.
    pub receive_drops: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets dropped when sent.
    pub send_drops: u64,
}

/// Reads them. Not from /sys, which shows the namespace of who mounted it.
pub fn counters(interface: &str) -> Result<Counters> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").context("/proc/net/dev")?;
    parse(&text, interface).with_context(|| format!("{interface}: not in /proc/net/dev"))
}

/// Segments that this namespace's kernel sent once more.
pub fn retransmitted() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").context("/proc/net/snmp")?;
    snmp(&text, "RetransSegs").context("/proc/net/snmp: has no RetransSegs")
}

/// A figure of the TCP lines: names first, figures below.
fn snmp(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, figures) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|other| other == name)?;
    figures.split_whitespace().nth(place)?.parse().ok()
}

/// The far end's own address, behind which the reflector lets a kernel answer.
pub fn host() -> std::net::Ipv4Addr {
    reflect::GATEWAY_V4
}

fn parse(text: &str, interface: &str) -> Option<Counters> {
    let line = text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == interface).then_some(rest)
    })?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let at = |place: usize| numbers.get(place).copied();
    Some(Counters {
        received_bytes: at(0)?,
        received: at(1)?,
        receive_drops: at(3)?,
        sent: at(9)?,
        send_drops: at(11)?,
    })
}

/// Rows of a measurement whose network could not be made.
pub fn failed(targets: &[&'static Target], error: &anyhow::Error) -> Vec<Row> {
    targets
        .iter()
        .map(|target| Row::missing(target, format!("{error:#}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_one_interface_are_read() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0
 far0: 900 10 0 3 0 0 0 0 800 8 0 2 0 0 0 0
";
        let counters = parse(text, "far0").unwrap();
        assert_eq!(
            counters,
            Counters {
                received_bytes: 900,
                received: 10,
                receive_drops: 3,
                sent: 8,
                send_drops: 2,
            }
        );
        assert_eq!(parse(text, "near0"), None);
    }

    #[test]
    fn a_figure_of_tcp_is_found_by_its_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: RtoMin OutSegs RetransSegs\nTcp: 200 5 7\n";
        assert_eq!(snmp(text, "RetransSegs"), Some(7));
        assert_eq!(snmp(text, "B"), None);
    }
}
