//! `cargo xtask demo --compare`: the article's experiment. All methods trace one server
//! through the article's network, side by side and many times; what each shows is held
//! against the links that the routers' own tables have.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use insession_lab::lab::Lab;
use insession_lab::program::Running;
use insession_lab::truth;
use serde::Deserialize;

use super::{Args, interrupt};
use crate::{build, paths};

/// Silent hops take their time, by eight methods and twenty times over.
const LIMIT: Duration = Duration::from_secs(900);
/// Flows whose ways are the truth; there are four.
const FLOWS: u16 = 512;
/// All that there are: the server answers HTTP.
const METHODS: &str = "insession,sidecar,icmp,udp,tcp,paris-icmp,paris-udp,paris-tcp,dublin";
/// The picture that stands in README, from the repository's root.
const PICTURE: &str = "docs/compare.svg";

/// What `insession compare --json` says of a method, as far as the article does.
#[derive(Debug, Deserialize)]
struct Figures {
    method: String,
    runs: u64,
    reached: u64,
    hops: u64,
    hops_answered: u64,
    hops_missing: u64,
    links_false: u64,
    links_unconfirmed: u64,
    paths: u64,
    paths_in_a_run: u64,
}

#[derive(Debug, Deserialize)]
struct Comparison {
    methods: Vec<Figures>,
}

/// Shows it.
pub fn run(args: &Args) -> Result<()> {
    if args.program.is_none() {
        build::release()?;
    }
    let begun = Instant::now();
    let lab = Lab::up("article")?;
    println!("lab up: {}", lab.topology().description);
    let shown = show(&lab, args);
    let down = lab.down();
    interrupt::check()?;
    let summary = shown?;
    down?;
    println!(
        "lab down, nothing left; {:.0} s in all",
        begun.elapsed().as_secs_f64()
    );
    println!("{summary}");
    Ok(())
}

/// Everything between up and down; returns what the article claims, measured.
fn show(lab: &Lab, args: &Args) -> Result<String> {
    let address = lab.topology().address("server", false);
    let target = SocketAddr::new(address.context("the server has no address")?, 80);
    let links = truth::links(lab, "client", target, FLOWS)?;
    println!(
        "{} links on the ways there, by the routers' own tables",
        links.len()
    );
    let truth = lab.folder().join("truth.txt");
    let lines: String = links
        .iter()
        .map(|(from, to)| format!("{from} {to}\n"))
        .collect();
    fs::write(&truth, lines).context("the truth")?;
    let records = lab.folder().join("records.jsonl");
    let runs = args.compare_runs.to_string();
    // As a user would: new flows each run show all branches, one flow shows one path.
    let probing = [
        "compare",
        "--methods",
        METHODS,
        "--keep-flow",
        "-n",
        "-w",
        "300ms",
        "--runs",
        &runs,
    ];
    println!(
        "$ insession {} --truth truth.txt --svg {PICTURE} {target}",
        probing.join(" ")
    );
    let mut command = lab.command("client", args.program());
    command
        .args(probing)
        .args(["--progress", "always", "--truth"])
        .arg(&truth)
        .arg("--svg")
        .arg(paths::root().join(PICTURE))
        .arg("-o")
        .arg(&records)
        .args(&args.trace)
        .arg(target.to_string())
        .stdin(Stdio::null());
    let run = Running::spawn_shown(&mut command)?.finish(LIMIT)?;
    interrupt::check()?;
    ensure!(
        run.code == Some(0),
        "insession compare: exit code {:?}",
        run.code
    );
    print!("{}", run.output);
    // The figures once more, from the records and for programs.
    let mut command = lab.command("client", args.program());
    command
        .args(["compare", "--json", "--truth"])
        .arg(&truth)
        .arg("--from")
        .arg(&records)
        .stdin(Stdio::null());
    let read = Running::spawn_shown(&mut command)?.finish(LIMIT)?;
    ensure!(
        read.code == Some(0),
        "insession compare --from: exit code {:?}",
        read.code
    );
    let comparison: Comparison = serde_json::from_str(&read.output).context("the comparison")?;
    claims(&comparison, u64::from(args.compare_runs))
}

/// What the article claims: of sessions, that nothing is missing and nothing invented;
/// of the others, what of it they miss and invent.
fn claims(comparison: &Comparison, runs: u64) -> Result<String> {
    let (ours, others): (Vec<_>, Vec<_>) = comparison
        .methods
        .iter()
        .partition(|figures| figures.method == "insession");
    let ours = ours
        .first()
        .context("in-session was not among the methods")?;
    ensure!(
        (
            ours.runs,
            ours.reached,
            ours.hops_answered,
            ours.hops_missing
        ) == (runs, runs, ours.hops, 0)
            && (ours.links_false, ours.links_unconfirmed, ours.paths) == (0, 0, 1),
        "in session something is missing or wrong: {ours:?}"
    );
    let sum = |of: fn(&Figures) -> u64| others.iter().map(|figures| of(figures)).sum::<u64>();
    let lost = sum(|figures| figures.runs - figures.reached);
    let unanswered = sum(|figures| figures.hops - figures.hops_answered);
    let invented = sum(|figures| figures.links_false);
    ensure!(
        others.is_empty() || (lost > 0 && unanswered > 0 && invented > 0),
        "the others missed {lost} destinations and {unanswered} hops, and drew {invented} false links: the network does not show what the article does"
    );
    let mut lines = vec![format!(
        "in session: {} of {} runs reached the destination, {} of {} hops answered, 0 false links, {} path ({} in a run)",
        ours.reached, ours.runs, ours.hops_answered, ours.hops, ours.paths, ours.paths_in_a_run
    )];
    for other in others {
        lines.push(format!(
            "{}: {} of {} runs lost the destination, {} of {} hops without an answer ({} in every run), {} false links",
            other.method,
            other.runs - other.reached,
            other.runs,
            other.hops - other.hops_answered,
            other.hops,
            other.hops_missing,
            other.links_false
        ));
    }
    Ok(lines.join("\n"))
}
