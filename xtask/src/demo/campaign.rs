//! `cargo xtask demo --campaign`: long lists, killed and resumed in the middle:
//! against the reflector, through the lab that kernels route, and through the
//! network in memory, each target exactly once and each hop checked.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use insession_lab::lab::Lab;
use insession_lab::program::Running;
use insession_lab::record::Record;

use super::{Args, check_hops, interrupt, targets};
use crate::{bench, build, command, paths};

/// It takes seconds; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Lengths of the prefixes that are traced in memory: 16,384 addresses and 1,048,576.
const LENGTHS: [&str; 2] = ["18", "12"];

/// Shows it.
pub fn run(args: &Args) -> Result<()> {
    build::release()?;
    bench::build()?;
    let begun = Instant::now();
    let measuring = |arguments: &[&str]| {
        let mut command = Command::new(paths::target().join("release/xtask-bench"));
        command
            .arg("--built")
            .arg(paths::target().join("release"))
            .args(arguments);
        command::run(&mut command)
    };
    println!("\n== against the reflector");
    measuring(&["campaign", "--targets", &args.campaign_targets.to_string()])?;
    println!("\n== through the lab");
    let lab = Lab::up("demo")?;
    let scratch = lab_folder()?;
    let shown = through(&lab, args, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    lab.down()?;
    println!("{}", shown?);
    println!("\n== in memory");
    for length in LENGTHS {
        measuring(&["memory", "--length", length])?;
    }
    println!("\ndone in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn lab_folder() -> Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("insession-demo-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("{}: cannot be made", path.display()))?;
    Ok(path)
}

/// The demo's targets as a campaign: killed, then resumed.
fn through(lab: &Lab, args: &Args, scratch: &Path) -> Result<String> {
    let wanted = targets(lab, usize::from(args.addresses));
    let (list, campaign, results) = (
        scratch.join("targets.txt"),
        scratch.join("campaign"),
        scratch.join("results.jsonl"),
    );
    // As people's lists are.
    fs::write(
        &list,
        format!("# the demo's targets\r\n{}\r\n", wanted.join("\r\n")),
    )?;
    let program = || {
        // `ip netns exec` and env become the program: what is killed is it.
        let mut command = lab.command("client", args.program());
        command
            .args(["run", "--progress", "never"])
            .stdin(Stdio::null());
        command
    };
    let mut first = program();
    first
        .args([
            "--port",
            "80",
            "--sessions",
            "256",
            "--rate",
            "5k",
            "--allow",
            "0.0.0.0/0,::/0",
        ])
        .arg("--targets")
        .arg(&list)
        .arg("--campaign")
        .arg(&campaign)
        .arg("--output")
        .arg(&results);
    println!(
        "$ insession run --port 80 --sessions 256 --rate 5k --targets targets.txt --campaign campaign --output results.jsonl  ({} targets)",
        wanted.len()
    );
    let mut running = Running::spawn_shown(&mut first)?;
    let begun = Instant::now();
    let journal = campaign.join("journal.1");
    // In the middle: some have their record, most have not.
    while fs::metadata(&journal).map_or(0, |it| it.len()) < 100_000 {
        interrupt::check()?;
        ensure!(begun.elapsed() < LIMIT, "the campaign records nothing");
        if running.ended()? {
            bail!("the campaign ended before it was killed");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill()?;
    println!(
        "killed (SIGKILL) after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    println!("$ insession run --resume campaign --rate 50k");
    let mut second = program();
    second.args(["--rate", "50k", "--resume"]).arg(&campaign);
    let run = Running::spawn_shown(&mut second)?.finish(LIMIT)?;
    ensure!(run.code == Some(0), "exit code {:?}", run.code);
    let text = fs::read_to_string(&results).context("the results")?;
    let records = Record::parse_all(&text)?;
    let names: BTreeSet<&str> = records
        .iter()
        .map(|record| record.target.as_str())
        .collect();
    ensure!(
        records.len() == wanted.len() && wanted.iter().all(|name| names.contains(name.as_str())),
        "{} records of {} targets for {}",
        records.len(),
        names.len(),
        wanted.len()
    );
    check_hops(lab, &records)?.line(records.len())
}
