//! The options of `insession aliases`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _, ValueEnum};
use ipnet::IpNet;

use crate::aliases::Kind;
use crate::cli::exit::Failure;
use crate::cli::probing::{LinkArguments, Probing};
use crate::cli::trace::arguments::When;
use crate::cli::value;

/// Find out which addresses are one router's
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Results whose hops are asked: JSON lines (plain, gzip or Zstandard) or Parquet of ours; - for standard input
    #[arg(value_name = "RESULT", required_unless_present = "address")]
    pub results: Vec<PathBuf>,
    /// Ask this address as well
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<IpAddr>,
    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// End at the first line that is no record
    #[arg(long)]
    pub strict: bool,
    /// Prefixes that are not asked, one a line, as ZMap's blocklist; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub exclude: Vec<PathBuf>,
    /// Prefixes that are asked though special (private, test networks, …) or excluded
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = value::prefix)]
    pub allow: Vec<IpNet>,

    /// By which probes
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        value_delimiter = ',',
        default_value = "icmp,udp,tcp"
    )]
    pub kinds: Vec<KindName>,
    /// Probes of each kind an address, to measure what numbers its packets
    #[arg(short = 'q', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(5..=200))]
    pub probes: u16,
    /// From one of them to the next, at least
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value::duration)]
    pub interval: Duration,
    /// How long a probe may go unanswered
    #[arg(short = 'w', long, value_name = "TIME", default_value = "2s", value_parser = value::duration)]
    pub timeout: Duration,
    /// Packets a second in all, as 500 or 10k
    #[arg(long, value_name = "PPS", default_value = "1000", value_parser = value::rate)]
    pub rate: f64,
    /// Put together what is at least this sure
    #[arg(long, value_name = "PART", default_value_t = 0.95, value_parser = part)]
    pub confidence: f64,
    /// Destination port of SYNs
    #[arg(long, value_name = "PORT", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    pub tcp_port: u16,
    /// Destination port of datagrams: one where nobody listens
    #[arg(long, value_name = "PORT", default_value_t = 33_434, value_parser = clap::value_parser!(u16).range(1..))]
    pub udp_port: u16,

    /// Go out through this interface [default: what the routing table says]
    #[arg(short, long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Source address [default: what the routing table says]
    #[arg(short, long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// Local ports, of which one is used [default: those above the kernel's own range]
    #[arg(long, value_name = "A-B", value_parser = value::ports)]
    pub source_ports: Option<RangeInclusive<u16>>,
    /// How frames get on and off the wire.
    #[command(flatten)]
    pub over: LinkArguments,

    /// Print JSON lines instead of text, one a router
    #[arg(long)]
    pub json: bool,
    /// Write the JSON lines to FILE
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write what was seen of each address and of each pair, also what speaks against
    /// it, to FILE (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// Show progress on standard error
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// `--kinds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// Echo requests; in IPv6 ones that are answered in fragments
    Icmp,
    /// Datagrams to a port where nobody listens
    Udp,
    /// SYNs
    Tcp,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Icmp => Kind::Echo,
            KindName::Udp => Kind::Datagram,
            KindName::Tcp => Kind::Segment,
        }
    }
}

/// A part of one, neither nothing nor all.
fn part(text: &str) -> Result<f64, String> {
    const MEND: &str = "write a part of one, as 0.95";
    let part: f64 = text.parse().map_err(|_| format!("not a number; {MEND}"))?;
    match part > 0.0 && part < 1.0 {
        true => Ok(part),
        false => Err(format!("not between 0 and 1; {MEND}")),
    }
}

impl Arguments {
    /// What links and routes are opened by: the options of probing that are here, all
    /// others at their defaults. There is room for so many flows.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn probing(&self, flows: usize) -> Result<Probing, Failure> {
        let command = Probing::augment_args(clap::Command::new("aliases"));
        let defaults = command
            .try_get_matches_from(["aliases"])
            .and_then(|matches| Probing::from_arg_matches(&matches))
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Probing {
            interface: self.interface.clone(),
            source: self.source,
            over: self.over,
            sessions: flows.max(1),
            ..defaults
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::probing::{LinkName, ZeroCopyName};

    #[test]
    fn confidence_is_a_part_of_one() {
        assert_eq!(part("0.9"), Ok(0.9));
        for text in ["0", "1", "1.5", "-1", "x", "nan"] {
            assert!(part(text).unwrap_err().contains("; write"), "{text}");
        }
    }

    #[test]
    fn options_of_links_reach_them() {
        let command = Arguments::augment_args(clap::Command::new("aliases"));
        let line = [
            "aliases",
            "--address",
            "192.0.2.1",
            "--interface=-odd",
            "--link=packet",
            "--zero-copy=off",
        ];
        let matches = command.try_get_matches_from(line).unwrap();
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        let probing = arguments.probing(7).unwrap();
        assert_eq!(probing.over.link, LinkName::Packet);
        assert_eq!(probing.over.zero_copy, ZeroCopyName::Off);
        assert_eq!(probing.interface.as_deref(), Some("-odd"));
        assert_eq!(probing.sessions, 7);
    }
}
