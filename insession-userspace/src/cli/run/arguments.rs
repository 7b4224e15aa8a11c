//! The options of `insession run`, as they are written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::cli::probing::Probing;
use crate::cli::trace::arguments::When;
use crate::cli::value;

/// Trace a list of targets, however long, and lose none
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Targets beside those of the lists.
    #[arg(
        value_name = "TARGET",
        help = "Host, address, host:port, [v6]:port or prefix, beside those of --targets"
    )]
    pub words: Vec<String>,
    /// Read targets from FILE, one a line, gzip and zstd too; - for standard input
    #[arg(long, value_name = "FILE")]
    pub targets: Vec<PathBuf>,
    /// Of a prefix, one address in each prefix of this length (IPv4)
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub per_prefix: Option<u8>,
    /// Of a prefix, one address in each prefix of this length (IPv6)
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub per_prefix6: Option<u8>,
    /// End at the first line that is no target
    #[arg(long)]
    pub strict: bool,
    /// Order of targets, and choice within prefixes: the same seed, the same order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Prefixes that are not traced, one a line, as ZMap's blocklist; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub exclude: Vec<PathBuf>,
    /// Prefixes that are traced though special (private, test networks, …) or excluded
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = value::prefix)]
    pub allow: Vec<IpNet>,

    /// How targets are probed.
    #[command(flatten)]
    pub probing: Probing,
    /// Probes a second that any one router is to answer at most, as 200 or 1k; slower
    /// where its answers thin out [default: no bound]
    #[arg(long, value_name = "PPS", value_parser = value::rate)]
    pub router_rate: Option<f64>,
    /// Probe the first hops that all paths have in common once for all; less true, less traffic
    #[arg(long)]
    pub share_near_hops: bool,

    /// Look the names of hops up, in bulk; a record waits a few seconds for them at most
    #[arg(long, conflicts_with = "numeric")]
    pub names: bool,

    /// Keep plan, journal and parts of the results in DIR, so that the run can be resumed
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub campaign: Option<PathBuf>,
    /// Go on with the campaign in DIR, by the options that it was begun with
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Write results to FILE, the format by its name: .jsonl .parquet .csv (caracal),
    /// .scamper.jsonl, .atlas.jsonl, each with .gz or .zst behind; - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// After SIGINT or SIGTERM: how long open sessions may go on
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::duration)]
    pub grace: Duration,

    /// Print the options as they are, as a file for --config, and end
    #[arg(long)]
    pub print_config: bool,

    /// Show progress on standard error
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
    /// How often a line of progress is written where there is no terminal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::duration)]
    pub progress_interval: Duration,
    /// Serve metrics for Prometheus (/metrics) and /healthz
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}
