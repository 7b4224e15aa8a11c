//! The options of `insession trace`, as they are written; `super::plan` checks
//! what they mean together.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::probing::{Probing, sidecar};
use crate::report::Format;
use crate::session::Flow;
use crate::targets::spec::{self, TargetSpec};

/// Trace the way to one or more targets
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What to trace.
    #[arg(
        required_unless_present = "adopt",
        value_name = "TARGET",
        value_parser = spec::parse,
        help = "Host, address, host:port or [v6]:port"
    )]
    pub targets: Vec<TargetSpec>,

    /// By --method sidecar: probe inside this running connection of this host, which goes
    /// on
    #[arg(
        long,
        value_name = "LOCAL:PORT-REMOTE:PORT",
        value_parser = sidecar::adopted,
        conflicts_with_all = [
            "targets", "request", "source", "source_ports", "flows", "mda",
            "on_handshake_failure", "xdp_mode", "zero_copy", "live_frames",
        ]
    )]
    pub adopt: Option<Flow>,

    /// How they are probed.
    #[command(flatten)]
    pub probing: Probing,

    /// Write results to FILE in place of standard output (`-`)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format of the results [default: text; in a FILE, json]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// JSON lines on standard output, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Show progress on standard error; auto: on a terminal, with several targets
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, with several targets
    Auto,
    /// A bar on a terminal, else a line a second
    Always,
    /// Not at all
    Never,
}
