//! The measuring half of `cargo xtask bench`: ours and peers against one
//! reflector in one run, interleaved, and what came of it as JSON and as a page.
//!
//! | file | what it is for |
//! |---|---|
//! | `arms` | rounds over arms: interleaving, failures, progress |
//! | `rows` | the table of targets and the JSON |
//! | `statistics` | medians and spread |
//! | `process` | a program run within limits, its CPU time |
//! | `network` | the test bed, and counters of interfaces |
//! | `traces` | traces per CPU-second, ours and peers' |
//! | `scanners` | CPU per probe sent, ours and peers' |
//! | `connects` | handshakes per CPU-second, ours and the kernel's |
//! | `host` | foreign TCP traffic beside us |
//! | `library` | what `insession bench` and the library measure themselves |
//! | `instructions`, `callgrind` | instruction counts |
//! | `reckon` | what a 10, 25 and 100 GbE node reaches |
//! | `document` | docs/performance.md |
//! | `campaign` | campaigns of the demo: killed and resumed, and in memory |
//! | `role` | what this program does as a child of itself |

mod arms;
mod callgrind;
mod campaign;
mod connects;
mod document;
mod host;
mod instructions;
#[path = "../demo/interrupt.rs"]
mod interrupt;
mod library;
mod machine;
mod network;
mod process;
mod reckon;
mod role;
mod rows;
mod scanners;
mod statistics;
mod traces;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;

use crate::network::Network;
use crate::process::Scratch;
use crate::rows::{Document, Extra, Row, TABLE, Target};

/// Measures insession and its peers against one reflector, in one run.
///
/// Peers that are not Debian packages run when a binary is given:
///
/// reference: Pietrasanta traceroute, one process a trace:
/// `PATH --tcpinsession --disable-extra-ping -n -q 3 -p 80 ADDRESS`
///
/// yarrp: `PATH -t TCP_ACK -r 10000000 -m 16 -p 80 -i ADDRESSES -o FILE`
///
/// caracal: `PATH -z near0 -W 0 -L warning --rate-limiting-method none < PROBES`,
/// probes as CSV (address, 24000, 33434, TTL, udp)
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Rounds of every measurement; the medians of fewer than five are not worth quoting.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Short runs of one round: to try the tools, not to quote.
    #[arg(long)]
    quick: bool,
    /// Only these rows of the table.
    #[arg(long, value_name = "ROW,…", value_delimiter = ',')]
    only: Vec<String>,
    /// A peer that is no Debian package: reference, yarrp or caracal.
    #[arg(long, value_name = "NAME=PATH", value_parser = peer)]
    peer: Vec<(String, PathBuf)>,
    /// Where the release build is.
    #[arg(long, hide = true, default_value = "target/release")]
    built: PathBuf,
    /// Also write docs/performance.md; off with --quick or --only, whose figures
    /// are no whole.
    #[arg(long, hide = true)]
    page: bool,
    #[command(subcommand)]
    role: Option<role::Role>,
}

/// Peers that may be given.
const PEERS: &[&str] = &["reference", "yarrp", "caracal"];

fn peer(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or("write it as NAME=PATH".to_owned())?;
    if !PEERS.contains(&name) {
        return Err(format!("no such peer; there are {}", PEERS.join(", ")));
    }
    let path = Path::new(path)
        .canonicalize()
        .map_err(|error| format!("{path}: {error}"))?;
    Ok((name.to_owned(), path))
}

/// What every measurement needs.
pub struct Bench {
    /// Rounds of each.
    pub rounds: usize,
    /// Short ones.
    pub quick: bool,
    /// Where the release build is.
    pub built: PathBuf,
    /// Peers that were given.
    pub peers: BTreeMap<String, PathBuf>,
    /// Files that are gone at the end.
    pub scratch: Scratch,
    /// The test bed, or why there is none: some rows do without.
    network: Result<Network>,
    /// A command line for each arm.
    pub commands: BTreeMap<String, String>,
    /// Figures beside the table.
    pub extras: Vec<Extra>,
    /// What is kept beside the rows: `instructions`, `xdp`, `curve`.
    pub values: BTreeMap<&'static str, serde_json::Value>,
    /// A process in the far end's namespace, while host traffic is measured.
    pub host: Option<u32>,
}

impl Bench {
    /// The test bed.
    pub fn network(&mut self) -> Result<&mut Network> {
        self.network
            .as_mut()
            .map_err(|error| anyhow!("no test bed: {}", first_line(error)))
    }

    /// The program under test.
    pub fn insession(&self) -> Command {
        Command::new(self.built.join("insession"))
    }

    /// `full`, or a quick run's `short`.
    pub fn size(&self, full: u32, short: u32) -> u32 {
        if self.quick { short } else { full }
    }

    /// Keeps the command line of an arm for the record.
    pub fn note_command(&mut self, arm: &str, command: &Command) {
        if !self.commands.contains_key(arm) {
            let mut line = command_line(command);
            // Where this machine keeps the repository and its scratch files is of
            // no use to who reads it.
            let here = std::env::current_dir().unwrap_or_default();
            for folder in [here, std::env::temp_dir()] {
                line = line.replace(&format!("{}/", folder.display()), "");
            }
            if line.len() > 300 {
                line.truncate(line.floor_char_boundary(280));
                line.push_str(" …");
            }
            self.commands.insert(arm.to_owned(), line);
        }
    }
}

/// Of an error: a verifier says thousands of lines.
fn first_line(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    said.lines().next().unwrap_or_default().to_owned()
}

/// Measures the rows of a target; each measurement has the rows it makes.
type Measure = fn(&mut Bench, &[&'static Target]) -> Vec<Row>;

/// Rows that are measured together, and by what.
const MEASURES: &[(&[&str], Measure)] = &[
    (&["sim-instructions"], instructions::measure),
    (
        &["traces-vs-reference", "traces-vs-scamper"],
        traces::measure,
    ),
    (&["tx-vs-scanners"], scanners::measure),
    (&["connects-vs-kernel"], connects::measure),
    (&["tx-vs-ceiling"], library::ceiling),
    (&["wire-to-credit-p99"], library::latency),
    (&["xdp-foreign", "xdp-hit-scale"], library::steering),
    (&["sim-scale", "bytes-per-session"], library::scale),
    // Takes the far end of the bed away.
    (&["host-traffic"], host::measure),
];

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        Some(role) => role::run(&role, &args.built),
        None => run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let wanted = wanted(&args.only)?;
    let begin = Instant::now();
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    let machine = machine::machine();
    if machine.load > 0.3 {
        eprintln!(
            "warning: the machine has a load of {}: others work on it; the figures will be theirs too",
            machine.load
        );
    }
    let built = args.built.canonicalize().with_context(|| {
        format!(
            "{}: no release build there; run `cargo xtask bench`",
            args.built.display()
        )
    })?;
    process::become_subreaper()?;
    process::allow_long_command_lines()?;
    interrupt::catch();
    let mut bench = Bench {
        rounds: if args.quick {
            1
        } else {
            usize::from(args.rounds)
        },
        quick: args.quick,
        built,
        peers: args.peer.into_iter().collect(),
        scratch: Scratch::new()?,
        network: Network::new(),
        commands: BTreeMap::new(),
        extras: Vec::new(),
        values: BTreeMap::new(),
        host: None,
    };
    if let Err(error) = &bench.network {
        eprintln!(
            "warning: rows on the test bed are not measured: {}",
            first_line(error)
        );
    }
    let mut rows = Vec::new();
    for (names, measure) in MEASURES {
        let targets: Vec<&Target> = wanted
            .iter()
            .filter(|target| names.contains(&target.name))
            .copied()
            .collect();
        if !targets.is_empty() {
            eprintln!("\n== {}", names.join(", "));
            rows.extend(measure(&mut bench, &targets));
            interrupt::check()?;
        }
    }
    rows.sort_by_key(|row: &Row| TABLE.iter().position(|target| target.name == row.name));
    let versions = versions(&bench);
    let document = Document {
        schema: rows::SCHEMA,
        rounds: bench.rounds,
        quick: bench.quick,
        started,
        seconds: begin.elapsed().as_secs_f64(),
        machine,
        versions,
        commands: std::mem::take(&mut bench.commands),
        instructions: bench.values.remove("instructions").unwrap_or_default(),
        xdp: bench.values.remove("xdp").unwrap_or_default(),
        curve: bench.values.remove("curve").unwrap_or_default(),
        extras: std::mem::take(&mut bench.extras),
        rows,
    };
    print!("{}", document::table(&document));
    let folder = bench.built.parent().unwrap_or(&bench.built).join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let path = folder.join("bench.json");
    let text = serde_json::to_string_pretty(&document).context("the results as JSON")?;
    std::fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    if args.page || !(args.quick || wanted.len() < TABLE.len()) {
        for path in document::write(&document)? {
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// The rows of these names, or all of them.
fn wanted(only: &[String]) -> Result<Vec<&'static Target>> {
    if only.is_empty() {
        return Ok(TABLE.iter().collect());
    }
    let found = only.iter().map(|name| match rows::target(name) {
        Some(target) => Ok(target),
        None => {
            let names: Vec<_> = TABLE.iter().map(|target| target.name).collect();
            bail!("--only {name}: no such row; there are {}", names.join(", "))
        }
    });
    found.collect()
}

/// What every program that may take part says of itself.
fn versions(bench: &Bench) -> machine::Versions {
    let insession = bench.built.join("insession").display().to_string();
    let mut programs = vec![
        ("insession", insession.as_str(), "--version"),
        ("scamper", "scamper", "-v"),
        ("masscan", "masscan", "--version"),
        ("zmap", "zmap", "--version"),
        ("traceroute", "traceroute", "--version"),
        ("valgrind", "valgrind", "--version"),
        ("rustc", "rustc", "--version"),
    ];
    let given: Vec<(&str, String)> = bench
        .peers
        .iter()
        .map(|(name, path)| (name.as_str(), path.display().to_string()))
        .collect();
    programs.extend(
        given
            .iter()
            .map(|(name, path)| (*name, path.as_str(), "-V")),
    );
    programs
        .into_iter()
        .map(|(name, program, ask)| {
            let said = machine::version(program, &[ask]).unwrap_or_else(|| "not there".into());
            (name.to_owned(), said)
        })
        .collect()
}

/// A command as a user would type it.
pub fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args().take(200) {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
        if line.len() > 400 {
            line.push_str(" …");
            break;
        }
    }
    line
}
