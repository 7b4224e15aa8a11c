//! `cargo xtask demo`: more than a thousand sessions at once through a firewall
//! and an ECMP diamond, IPv4 and IPv6, every hop checked against the routers'
//! own tables.

mod campaign;
mod compare;
mod interrupt;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use insession_lab::lab::Lab;
use insession_lab::program::Running;
use insession_lab::record::{self, Record};
use insession_lab::{services, truth};

use crate::{build, command, paths};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Addresses of each family at each of the four web servers.
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u8).range(1..=250))]
    addresses: u8,
    /// Campaigns instead: long lists, killed and resumed in the middle.
    #[arg(long)]
    campaign: bool,
    /// Targets of the campaign against the reflector.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    campaign_targets: u32,
    /// The article's experiment instead: all methods side by side, many times.
    #[arg(long, conflicts_with = "campaign")]
    compare: bool,
    /// Runs of each method.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    compare_runs: u32,
    /// The program, if it is not the release build.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// More options of `insession trace` (`insession compare`), such as `--rate 50k`.
    #[arg(last = true)]
    trace: Vec<String>,
}

const WEB: [&str; 4] = ["web1", "web2", "web3", "web4"];
const SHELL: &str = "shell";
/// sshd starts a process a connection: a few show as much as many.
const SHELL_ADDRESSES: usize = 8;
/// Addresses that are too few cannot be a thousand sessions at once.
const CONCURRENT: usize = 1000;
/// It takes seconds; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Shows it.
pub fn run(args: Args) -> Result<()> {
    interrupt::catch();
    if args.campaign {
        return campaign::run(&args);
    }
    if args.compare {
        return compare::run(&args);
    }
    if args.program.is_none() {
        build::release()?;
    }
    let start = Instant::now();
    let lab = Lab::up("demo")?;
    println!(
        "lab up in {:.1} s: {}",
        start.elapsed().as_secs_f64(),
        lab.topology().description
    );
    let shown = show(&lab, &args);
    let down = lab.down();
    interrupt::check()?;
    let summary = shown?;
    down?;
    println!(
        "lab down, nothing left; {:.1} s in all",
        start.elapsed().as_secs_f64()
    );
    println!("{summary}");
    Ok(())
}

/// The same with few targets, and a program that was made already.
pub fn with(program: &Path) -> Result<()> {
    run(Args {
        addresses: 30,
        campaign: false,
        campaign_targets: 0,
        compare: false,
        compare_runs: 0,
        program: Some(program.to_owned()),
        trace: Vec::new(),
    })
}

impl Args {
    fn program(&self) -> PathBuf {
        match &self.program {
            Some(program) => std::path::absolute(program).unwrap_or_else(|_| program.clone()),
            None => paths::insession(),
        }
    }
}

/// Everything between up and down; returns the summary line.
fn show(lab: &Lab, args: &Args) -> Result<String> {
    interrupt::check()?;
    let targets = targets(lab, usize::from(args.addresses));
    let mut command = lab.command("client", args.program());
    command
        .args([
            "trace",
            "--json",
            "--port",
            "80",
            "--sessions",
            "2048",
            "--progress",
            "always",
        ])
        .args(&args.trace)
        .args(&targets)
        .stdin(Stdio::null());
    println!(
        "$ insession trace --json --port 80 --sessions 2048 --progress always {} … ({} targets)",
        targets.first().map_or("", String::as_str),
        targets.len()
    );
    let watch = watch::Watch::start(lab, &[&WEB[..], &[SHELL]].concat())?;
    let traced = Running::spawn_shown(&mut command)?.finish(LIMIT);
    let watched = watch.stop()?;
    interrupt::check()?;
    let traced = traced?;
    ensure!(
        traced.code == Some(0),
        "insession trace: exit code {:?}",
        traced.code
    );
    let records = traced.records()?;
    ensure!(
        records.len() == targets.len(),
        "{} records for {} targets",
        records.len(),
        targets.len()
    );
    let verdicts = check_hops(lab, &records)?;
    check_link(&records)?;
    check_times(lab, &records)?;
    check_servers(lab, &watched, targets.len())?;
    text_traces(lab, args)?;
    interrupt::check()?;
    verdicts.line(records.len())
}

/// Every target, as it is written on the command line.
fn targets(lab: &Lab, each: usize) -> Vec<String> {
    let of = |node: &str, count: usize| {
        let addresses = |v6| lab.topology().addresses(node, v6, count);
        [addresses(false), addresses(true)].concat()
    };
    let mut targets: Vec<String> = Vec::new();
    for node in WEB {
        targets.extend(of(node, each).iter().map(IpAddr::to_string));
    }
    for address in of(SHELL, SHELL_ADDRESSES) {
        targets.push(std::net::SocketAddr::new(address, 22).to_string());
    }
    targets
}

/// What the comparison with the truth came to.
struct Verdicts {
    complete: usize,
    right: usize,
    wrong: Vec<String>,
}

impl Verdicts {
    /// The summary line, or an error when anything is wrong.
    fn line(&self, sessions: usize) -> Result<String> {
        let line = format!(
            "demo: {} of {sessions} sessions complete, {} hops right, {} wrong",
            self.complete,
            self.right,
            self.wrong.len()
        );
        if self.complete != sessions || !self.wrong.is_empty() {
            for wrong in self.wrong.iter().take(20) {
                eprintln!("  {wrong}");
            }
            println!("{line}");
            bail!("not every hop of every session is right");
        }
        Ok(line)
    }
}

/// Compares every hop with the way that the routers' tables give its flow.
fn check_hops(lab: &Lab, records: &[Record]) -> Result<Verdicts> {
    let complete: Vec<&Record> = records
        .iter()
        .filter(|record| record.verdict == "complete")
        .collect();
    let flows = complete
        .iter()
        .map(|record| record.flow("client"))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let ways = truth::ways(lab, &flows)?;
    println!(
        "asked the routers' own tables for the way of {} flows in {:.1} s",
        flows.len(),
        start.elapsed().as_secs_f64()
    );
    let mut verdicts = Verdicts {
        complete: complete.len(),
        right: 0,
        wrong: records
            .iter()
            .filter(|record| record.verdict != "complete")
            .map(|record| {
                format!(
                    "{}: {} ({})",
                    record.target,
                    record.verdict,
                    record.detail.as_deref().unwrap_or("no detail")
                )
            })
            .collect(),
    };
    let mut unanswered = 0;
    let mut branches: BTreeMap<String, usize> = BTreeMap::new();
    for (record, way) in complete.iter().zip(&ways) {
        let judgement = record::judge(record, way);
        verdicts.right += judgement.right;
        unanswered += judgement.unanswered;
        verdicts.wrong.extend(judgement.wrong);
        for router in way
            .routers
            .iter()
            .filter(|router| router.interface == "split")
        {
            *branches.entry(router.node.clone()).or_default() += 1;
        }
    }
    let shares: Vec<String> = branches
        .iter()
        .map(|(node, count)| format!("{node} {count}"))
        .collect();
    println!("flows by ECMP branch: {}", shares.join(", "));
    ensure!(branches.len() == 4, "not every ECMP branch was used");
    if unanswered > 0 {
        println!("probes without an answer: {unanswered}");
    }
    Ok(verdicts)
}

/// Counts the replies, and that XDP steered them.
fn check_link(records: &[Record]) -> Result<()> {
    let mut modes: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        let link = record.link.as_ref().context("a record without a link")?;
        let answers = record
            .probes()
            .filter(|(_, probe)| probe.kind != "none")
            .count();
        let mode = format!("{} {}", link.kind, link.mode.as_deref().unwrap_or("-"));
        *modes.entry(mode).or_default() += answers;
    }
    for (mode, answers) in &modes {
        println!("replies over link {mode}: {answers}");
    }
    ensure!(
        modes.keys().all(|mode| mode == "xdp native"),
        "not every reply was steered by native XDP"
    );
    Ok(())
}

/// Nothing is back sooner than the delays on its way allow.
fn check_times(lab: &Lab, records: &[Record]) -> Result<()> {
    let delay: u16 = lab.topology().links.iter().map(|link| link.delay_ms).sum();
    let least = 2_000.0 * f64::from(delay);
    let mut times: Vec<f64> = records
        .iter()
        .flat_map(Record::probes)
        .filter_map(|(_, probe)| probe.rtt_us)
        .collect();
    times.sort_by(f64::total_cmp);
    let (Some(first), Some(median), Some(last)) =
        (times.first(), times.get(times.len() / 2), times.last())
    else {
        bail!("no record has a round-trip time");
    };
    println!(
        "round-trip times: {:.3} ms at least, {:.3} ms median, {:.3} ms at most; the way delays {:.0} ms",
        first / 1_000.0,
        median / 1_000.0,
        last / 1_000.0,
        least / 1_000.0
    );
    ensure!(
        *first >= least,
        "a reply took {first} us, the way alone takes {least} us"
    );
    Ok(())
}

/// What the servers saw: connections, and nothing in them.
fn check_servers(lab: &Lab, watched: &watch::Watched, targets: usize) -> Result<()> {
    println!(
        "established at the servers at one moment (sockets in their kernels' tables): {}",
        watched.peak
    );
    if targets > CONCURRENT {
        ensure!(
            watched.peak > CONCURRENT,
            "no more than {} sessions were open at one moment, more than {CONCURRENT} must be",
            watched.peak
        );
    }
    if let Some(bytes) = watched.received {
        println!(
            "bytes that applications could read at that moment (ss, bytes_received of {} connections): {bytes}",
            watched.looked_at
        );
        ensure!(bytes == 0, "a server's application got {bytes} bytes");
    }
    let mut requests = 0;
    for node in WEB {
        let log = services::access_log(lab, node);
        let text = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        requests += text.lines().count();
    }
    println!("requests in the web servers' logs: {requests}");
    ensure!(requests == 0, "a web server saw {requests} requests");
    Ok(())
}

/// A few traces as a user sees them.
fn text_traces(lab: &Lab, args: &Args) -> Result<()> {
    for v6 in [false, true] {
        let target = lab
            .topology()
            .address("web3", v6)
            .context("web3 has no address")?
            .to_string();
        let mut trace = lab.command("client", args.program());
        trace
            .args(["trace", "-n", "--port", "80", &target])
            .stdin(Stdio::null());
        println!("\n$ insession trace -n --port 80 {target}");
        ensure!(
            command::run_within(&mut trace, Duration::from_secs(20))?,
            "insession trace -n {target}: failed"
        );
    }
    println!();
    Ok(())
}
