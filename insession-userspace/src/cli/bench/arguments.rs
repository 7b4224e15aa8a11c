//! The options of `insession bench`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::bench::suite::Measurement;
use crate::cli::exit::Failure;
use crate::cli::value;

/// Packets a second at most on a user's own interface, unless told otherwise.
const COURTEOUS: f64 = 10_000.0;
/// Port of targets that name none.
const PORT: u16 = 80;

/// Measure what the engine, its links and this machine can do
///
/// Without --interface, on a veth pair in a network namespace of its own, at
/// whose far end an XDP program answers as a whole network would: no packet
/// leaves the machine. With --interface, over that interface, to the targets
/// named and to nobody else; have leave of whoever runs them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = super::EXITS)]
pub struct Arguments {
    /// Whom to probe.
    #[arg(
        value_name = "TARGET",
        value_parser = target,
        help = "With --interface: whom to probe (address, address:port or [v6]:port)"
    )]
    pub targets: Vec<SocketAddr>,
    /// Measure on this interface
    #[arg(short, long, value_name = "NAME", requires = "targets")]
    pub interface: Option<String>,
    /// Measure these only: ceiling, probes, search, latency, smoothness, opening, held, ablation, scale
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub only: Vec<Measurement>,

    /// Rounds of every figure
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long a trial lasts
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value::duration)]
    pub duration: Duration,
    /// Sessions open at a time
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub sessions: usize,
    /// Probes a hop
    #[arg(short = 'q', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub probes: u8,
    /// Packets a second at most, or `unlimited` [default: 10000 with --interface, else unlimited]
    #[arg(long, value_name = "RATE", value_parser = bound)]
    pub max_rate: Option<Bound>,

    /// search: the part of probes and handshakes that may be lost
    #[arg(long, value_name = "PART", default_value_t = 0.001, value_parser = part)]
    pub loss: f64,
    /// search: how exactly the rate is to be known, as a part of it
    #[arg(long, value_name = "PART", default_value_t = 0.02, value_parser = part)]
    pub resolution: f64,
    /// held: sessions to hold at once
    #[arg(long, value_name = "N", default_value_t = crate::bench::held::WANTED)]
    pub held: usize,
    /// scale: the most sessions, in memory
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub scale: usize,
    /// scale: sessions at once against the reflector
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub concurrent: usize,
    /// Queues of the veth pair
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "interface", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub queues: u32,

    /// JSON (insession.bench/1) on standard output, in place of the table
    #[arg(long)]
    pub json: bool,
    /// Write the JSON to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write one page with plots to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A bound on the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// None.
    Unlimited,
    /// Packets a second.
    Rate(f64),
}

impl Arguments {
    /// What the options mean together.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn check(&self) -> Result<(), Failure> {
        if self.interface.is_none() && !self.targets.is_empty() {
            return Err(Failure::usage(
                "targets: they are for --interface; without it the reflector answers, and no packet leaves the machine",
            ));
        }
        Ok(())
    }

    /// Packets a second at most.
    #[must_use]
    pub fn most(&self) -> Option<f64> {
        match (self.max_rate, &self.interface) {
            (Some(Bound::Rate(rate)), _) => Some(rate),
            (Some(Bound::Unlimited), _) | (None, None) => None,
            (None, Some(_)) => Some(COURTEOUS),
        }
    }

    /// What is measured.
    #[must_use]
    pub fn measurements(&self) -> Vec<Measurement> {
        if self.only.is_empty() {
            Measurement::ALL.to_vec()
        } else {
            self.only.clone()
        }
    }
}

fn target(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|address| (address, PORT).into()))
        .map_err(|_| "not an address, address:port or [v6]:port".to_owned())
}

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "unlimited" => Ok(Bound::Unlimited),
        _ => value::rate(text).map(Bound::Rate),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..1.0).contains(&part) => Ok(part),
        _ => Err("not a part: a number from 0 to less than 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        let words = std::iter::once("bench").chain(words.iter().copied());
        Line::try_parse_from(words).map(|line| line.arguments)
    }

    #[test]
    fn a_real_interface_is_spared_unless_told_otherwise() {
        let most = |words: &[&str]| parse(words).unwrap().most();
        assert_eq!(most(&[]), None);
        assert_eq!(most(&["--interface", "eth0", "192.0.2.1"]), Some(10_000.0));
        let unlimited = ["-i", "eth0", "192.0.2.1", "--max-rate", "unlimited"];
        assert_eq!(most(&unlimited), None);
        assert_eq!(most(&["--max-rate", "5"]), Some(5.0));
    }

    #[test]
    fn targets_and_interface_go_together() {
        assert!(
            parse(&["-i", "eth0"]).is_err(),
            "whom to probe is to be said"
        );
        let failure = parse(&["192.0.2.1"]).unwrap().check().unwrap_err();
        assert_eq!(failure.code, 2);
        let arguments = parse(&["-i", "eth0", "192.0.2.1", "[2001:db8::1]:443"]).unwrap();
        let targets: Vec<String> = arguments.targets.iter().map(ToString::to_string).collect();
        assert_eq!(targets, ["192.0.2.1:80", "[2001:db8::1]:443"]);
    }

    #[test]
    fn measurements_are_chosen_by_name() {
        let only = parse(&["--only", "search,latency"]).unwrap().measurements();
        assert_eq!(only, [Measurement::Search, Measurement::Latency]);
        assert_eq!(parse(&[]).unwrap().measurements(), Measurement::ALL);
        for words in [
            ["--only", "speed"],
            ["--loss", "1"],
            ["--rounds", "0"],
            ["--duration", "0s"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }
}
