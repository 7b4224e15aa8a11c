//! How targets are probed, over which link: the options that every subcommand
//! which traces has in common; [`Probing::session`] checks what they mean together.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use crate::cli::value;
use crate::trace::Method;

pub mod check;
pub mod engine;
pub mod flows;
mod link;
mod method;
pub mod sidecar;

pub use link::{LinkArguments, LinkName, LiveFramesName, XdpModeName, ZeroCopyName};

/// How targets are probed
#[derive(Clone, Debug, clap::Args)]
pub struct Probing {
    /// How hops are probed
    #[arg(short, long, value_enum, default_value = "insession")]
    pub method: Method,
    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Destination port of targets that name none; of --method udp the first of rising
    /// ones [default: 443, of sidecar 80, of datagrams 33434]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Go on by METHOD with targets to which no session can be opened
    #[arg(long, value_enum, value_name = "METHOD")]
    pub on_handshake_failure: Option<Method>,
    /// What sidecar sends before it probes: http, a HEAD of /, or what stands in a FILE
    /// [default: http]
    #[arg(long, value_name = "http|FILE", value_parser = sidecar::RequestName::parse)]
    pub request: Option<sidecar::RequestName>,
    /// Go out through this interface [default: what the routing table says]
    #[arg(short, long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Source address [default: what the routing table says]
    #[arg(short, long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// Local ports that may be used [default: those above the kernel's own range]
    #[arg(long, value_name = "A-B", value_parser = value::ports)]
    pub source_ports: Option<RangeInclusive<u16>>,

    /// First TTL probed
    #[arg(short, long, value_name = "TTL", default_value_t = 1, value_parser = octet())]
    pub first_ttl: u8,
    /// Last TTL probed
    #[arg(short = 'M', long, value_name = "TTL", default_value_t = 30, value_parser = octet())]
    pub max_ttl: u8,
    /// Probes a hop
    #[arg(short = 'q', long, value_name = "N", default_value_t = 3, value_parser = octet())]
    pub probes: u8,
    /// How long a probe may go unanswered
    #[arg(short = 'w', long, value_name = "TIME", default_value = "2s", value_parser = value::duration)]
    pub timeout: Duration,
    /// How long a target may take to answer the SYN
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub handshake_timeout: Duration,
    /// Measure how large a packet gets how far, and where the MTU becomes smaller, when
    /// the trace is done (of --method insession)
    #[arg(long)]
    pub mtu: bool,
    /// Give up after this many silent hops in a row
    #[arg(long, value_name = "HOPS", default_value_t = 8, value_parser = octet())]
    pub gap_limit: u8,
    /// DSCP of every segment: a number, or a name as cs1, af41, ef
    #[arg(long, value_name = "DSCP", default_value = "0", value_parser = value::dscp)]
    pub dscp: u8,
    /// Packets a second over all targets, as 10k or 1M [default: as fast as the link takes them]
    #[arg(long, value_name = "PPS", value_parser = value::rate)]
    pub rate: Option<f64>,
    /// Sessions open at a time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub sessions: usize,

    /// How frames get on and off the wire.
    #[command(flatten)]
    pub over: LinkArguments,
    /// How sessions are closed
    #[arg(long, value_enum, value_name = "HOW", default_value = "rst")]
    pub close: CloseName,

    /// How many flows a target gets.
    #[command(flatten)]
    pub many: flows::FlowsArguments,

    /// Look no names of hops up
    #[arg(short = 'n', long)]
    pub numeric: bool,
    /// Look AS numbers, holders, prefixes and exchanges of hops up, in files of this host
    #[arg(short = 'A', long)]
    pub as_lookups: bool,
    /// Look them up in FILE, or the files of a directory, as -A (see insession data)
    /// [default: the data directory's]
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Write every frame sent and received to FILE (pcapng)
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
}

/// `--close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CloseName {
    /// RST: the server forgets the session at once
    Rst,
    /// FIN first, then RST
    Fin,
}

/// 1 to 255.
fn octet() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..)
}
