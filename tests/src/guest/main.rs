//! Runs inside a virtual machine (`cargo xtask vm`): what becomes of AF_XDP on
//! an emulated NIC, told line by line on the serial console.
//!
//! It states what is, `@vm NAME<tab>VALUE<tab>SECONDS`; what should be is the
//! host's business.

mod kernel;
mod network;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use insession_lab::program::{Run, Running};
use insession_lab::record::Record;

use kernel::Objects;

/// The program under test and the suites, where the host has put them.
const PROGRAM: &str = "/insession";
const SUITES: &str = "/suites";

/// No trace here takes as long.
const LIMIT: Duration = Duration::from_secs(45);

/// After so long a dead owner has left nothing.
const GONE: Duration = Duration::from_secs(2);

/// How often an owner is killed in the middle of its work.
const ROUNDS: usize = 5;

/// Targets at a time.
const MANY: u8 = 250;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => network::serve(),
        _ => report(),
    }
}

/// States everything, then that this was all.
fn report() -> Result<()> {
    let mut suites: Vec<_> = fs::read_dir(SUITES)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    suites.sort();
    if suites.is_empty() {
        smoke()?;
    }
    for path in &suites {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        state(&name, || suite(path));
    }
    println!("\n@vm end");
    Ok(())
}

/// Everything about the NIC.
fn smoke() -> Result<()> {
    state("driver", network::driver);
    let before = Objects::count()?;
    let _server = Killed(network::lay()?);
    for when in ["auto", "on", "off"] {
        state(when, || zero_copy(when));
    }
    state("ipv6", || {
        path(&trace(&[network::SERVER_V6])?, &network::HOPS_V6)
    });
    state("many", many);
    state("killed", killed);
    state("left", || left(before));
    Ok(())
}

/// Finds a fact and states it; an error is one too.
fn state(name: &str, fact: impl FnOnce() -> Result<String>) {
    let start = Instant::now();
    let value = fact().unwrap_or_else(|error| format!("error: {error:#}"));
    let value = value.replace(['\n', '\t'], " ");
    println!(
        "\n@vm {name}\t{value}\t{:.1}",
        start.elapsed().as_secs_f64()
    );
}

/// How a trace with this `--zero-copy` goes.
fn zero_copy(when: &str) -> Result<String> {
    let run = trace(&["--zero-copy", when, &network::server_v4(1)])?;
    if run.code == Some(0) {
        return path(&run, &network::HOPS_V4);
    }
    // A refusal has to name what was refused, why, and what to do instead.
    let said = run.errors.trim();
    let number = said
        .split_once("(os error ")
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(number, _)| number);
    let name = match number.and_then(|number| number.parse().ok()) {
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        _ => bail!("exit code {:?}: {said}", run.code),
    };
    if !said.contains("zero-copy: the driver or this device does not do it")
        || !said.contains("use `--zero-copy auto`")
    {
        bail!("an unclear refusal: {said}");
    }
    Ok(format!(
        "refused by {name}, exit {}",
        run.code.unwrap_or(-1)
    ))
}

/// What a trace went over, and whether it found the routers that are there.
fn path(run: &Run, hops: &[&str]) -> Result<String> {
    let record = run.record()?;
    complete(&record, hops)?;
    over(&record)
}

fn over(record: &Record) -> Result<String> {
    let link = record.link.as_ref().context("a record without its link")?;
    Ok(mode(
        link.mode.as_deref().unwrap_or(&link.kind),
        link.zero_copy,
    ))
}

fn mode(attached: &str, zero_copy: bool) -> String {
    let copy = if zero_copy { "zero-copy" } else { "copy" };
    format!("{attached} {copy}")
}

/// Every probe of every hop answered by the router that is there.
fn complete(record: &Record, hops: &[&str]) -> Result<()> {
    if record.verdict != "complete" || record.destination_ttl != Some(hops.len() + 1) {
        bail!("not the path that is there: {record:?}");
    }
    for (hop, router) in record.hops.iter().zip(hops) {
        let router = router.parse().ok();
        if hop.probes.is_empty() || hop.probes.iter().any(|probe| probe.from != router) {
            bail!(
                "{}: hop {} is not {router:?}: {:?}",
                record.target,
                hop.ttl,
                hop.probes
            );
        }
    }
    Ok(())
}

/// All of the server's IPv4 addresses at once: the rings go round.
fn many() -> Result<String> {
    let targets = targets();
    let run = trace(&words(&["-v", "--sessions", "50"], &targets))?;
    let records = run.records()?;
    for record in &records {
        if let Err(error) = complete(record, &network::HOPS_V4) {
            // Whose loss it was: ours, a NIC's or a router's.
            println!("{}\n{}", run.errors.trim(), network::losses()?);
            return Err(error);
        }
    }
    let first = records.first().context("no record")?;
    Ok(format!("{} paths, {}", records.len(), over(first)?))
}

fn targets() -> Vec<String> {
    (1..=MANY).map(network::server_v4).collect()
}

fn words<'a>(options: &[&'a str], targets: &'a [String]) -> Vec<&'a str> {
    let targets = targets.iter().map(String::as_str);
    options.iter().copied().chain(targets).collect()
}

/// An owner killed in the middle of its work; its successor gets the queue.
fn killed() -> Result<String> {
    let targets = targets();
    let options = ["--sessions", "4", "--rate", "100"];
    let mut facts = Vec::new();
    for round in 0..ROUNDS {
        let owner = command(&words(&options, &targets))
            .stdout(Stdio::piped())
            .spawn()
            .context("the owner cannot be started")?;
        let mut owner = Killed(owner);
        let output = owner.0.stdout.take().context("no standard output")?;
        // Open until it is killed: a closed pipe would end it.
        let mut lines = BufReader::new(output).lines();
        let line = lines.next().context("the owner ended without a record")??;
        let record = Record::parse_all(&line)?.pop().context("no record")?;
        complete(&record, &network::HOPS_V4)?;
        // The kernel's word for it, from outside.
        let attached = network::attached()?.unwrap_or("nothing");
        let sockets = kernel::sockets_of(owner.0.id())?;
        let zero_copy = !sockets.is_empty() && sockets.iter().all(|zero_copy| *zero_copy);
        let kernels = mode(attached, zero_copy);
        let own = over(&record)?;
        if kernels != own {
            bail!("the kernel says {kernels} ({sockets:?}), the record {own}");
        }
        drop(owner);
        let start = Instant::now();
        let run = trace(&[&network::server_v4(1)])?;
        let after = path(&run, &network::HOPS_V4).with_context(|| format!("round {round}"))?;
        println!(
            "round {round}: {kernels}, {} sockets; after the kill traced again in {} ms",
            sockets.len(),
            start.elapsed().as_millis()
        );
        facts.push(format!("{kernels}, again {after}"));
    }
    facts.dedup();
    Ok(facts.join("; "))
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL; of one that has ended already there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is left of all owners, killed and ended ones.
fn left(before: Objects) -> Result<String> {
    let start = Instant::now();
    loop {
        let (now, attached) = (Objects::count()?, network::attached()?);
        if now == before && attached.is_none() {
            return Ok("nothing".to_owned());
        }
        // The kernel frees programs and maps a grace period after their last user.
        if start.elapsed() > GONE {
            return Ok(format!("{now:?}, before {before:?}, attached {attached:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs one of the test binaries; its output is shown as it comes.
fn suite(path: &Path) -> Result<String> {
    let mut child = Killed(
        Command::new(path)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", path.display()))?,
    );
    let output = child.0.stdout.take().context("no standard output")?;
    let (mut result, mut failed) = (None, Vec::new());
    // The host ends what does not end.
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(name) = line.strip_suffix(" ... FAILED") {
            failed.push(name.trim_start_matches("test ").to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            result = Some(counts.to_owned());
        }
    }
    let status = child.0.wait()?;
    let result = result.with_context(|| format!("no result, {status}"))?;
    Ok(if status.success() && result.starts_with("ok. ") {
        "ok".to_owned()
    } else {
        format!("failed: {}", failed.join(" "))
    })
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["trace", "--json", "--link", "xdp", "-n"])
        .args(["--progress", "never"])
        .args(["-p", &network::PORT.to_string()])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn trace(arguments: &[&str]) -> Result<Run> {
    Running::spawn(&mut command(arguments))?.finish(LIMIT)
}
