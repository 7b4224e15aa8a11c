//! What our presence costs the host's other traffic: one foreign TCP connection
//! over the same interface, with us at full rate on it.
//!
//! A busy sender takes CPU from everybody, whatever it does, and on a machine
//! whose processors are two threads of one core it does so from the other
//! processor too. What is *left* is measured, not reckoned: the same connection
//! beside a process that burns the same processor and sends nothing.
//!
//! > ratio = throughput beside us / throughput beside the burner
//!
//! We (or the burner) are pinned to the first processor, sender and receiver of
//! the connection to the second. The receiver's end of the pair is moved into a
//! namespace of its own, where the reflector passes what is for that host.
//! Packets lost to us are seen as retransmissions of the connection beyond those
//! beside the burner, and they fail the row.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::arms::{self, Arm, Figures};
use crate::process::{self, Running, Scratch};
use crate::rows::{Row, Target};
use crate::{Bench, network, scanners};

const RATE: &str = "Mbit/s";
const RETRANSMITTED: &str = "retransmitted segments";
/// The connection's port.
const PORT: u16 = 5201;
/// No step takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures it. The bed's far end is gone to another namespace afterwards.
pub fn measure(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    let host = match Host::new(bench) {
        Ok(host) => host,
        Err(error) => return network::failed(targets, &error),
    };
    bench.host = Some(host.id());
    let outcome = arms::run(
        bench,
        &[
            Arm {
                name: "alone",
                shown: RATE,
                run: alone,
            },
            Arm {
                name: "burner",
                shown: RATE,
                run: burner,
            },
            Arm {
                name: "insession",
                shown: RATE,
                run: ours,
            },
        ],
    );
    drop(host);
    let lost = |arm: &str| {
        outcome
            .spread(arm, RETRANSMITTED)
            .map_or(0.0, |spread| spread.max)
    };
    let complaints = outcome.complaints();
    targets
        .iter()
        .map(|target| {
            let mut row = Row::compared(
                target,
                &outcome.series("insession", RATE),
                &outcome.series("burner", RATE),
                outcome.ratio("insession", "burner", RATE),
                format!(
                    "one TCP connection, pinned to the second processor; we, or a process that only burns CPU, on the first; at most {:.0} segments retransmitted beside us, {:.0} beside the burner{}{complaints}",
                    lost("insession"),
                    lost("burner"),
                    if complaints.is_empty() { "" } else { "; " }
                ),
            );
            if lost("insession") > lost("burner") {
                row.holds = row.holds.map(|_| false);
                row.note.push_str("; packets were lost");
            }
            row.details.extend(outcome.details());
            row
        })
        .collect()
}

/// The far end's namespace, as long as a process is in it.
struct Host {
    holder: Running,
}

impl Host {
    fn new(bench: &mut Bench) -> Result<Self> {
        ensure!(
            std::thread::available_parallelism().map_or(1, usize::from) >= 2,
            "host traffic: this machine has one processor; it takes two"
        );
        bench.network()?.set(&scanners::quiet())?;
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "3600"]);
        let holder = Running::start(&mut command, &bench.scratch)?;
        let id = holder.id().to_string();
        let own = std::fs::metadata("/proc/thread-self/ns/net").context("own namespace")?;
        let begin = Instant::now();
        let path = format!("/proc/{id}/ns/net");
        while std::fs::metadata(&path)
            .with_context(|| path.clone())?
            .ino()
            == own.ino()
        {
            ensure!(begin.elapsed() < LIMIT, "unshare: gets no namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        let host = network::host().to_string();
        let near = bench.network()?.near_address().to_owned();
        let mac = bench.network()?.near_mac().to_owned();
        let far = network::FAR;
        ip(&bench.scratch, None, &["link", "set", far, "netns", &id])?;
        let inside = Some(id.as_str());
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["address", "add", &format!("{host}/32"), "dev", far],
            &["link", "set", far, "up"],
            &["route", "add", &near, "dev", far],
            &[
                "neigh",
                "replace",
                &near,
                "lladdr",
                &mac,
                "dev",
                far,
                "nud",
                "permanent",
            ],
        ] {
            ip(&bench.scratch, inside, arguments)?;
        }
        Ok(Host { holder })
    }

    fn id(&self) -> u32 {
        self.holder.id()
    }
}

fn ip(scratch: &Scratch, inside: Option<&str>, arguments: &[&str]) -> Result<()> {
    let mut command = match inside {
        Some(id) => {
            let mut command = Command::new("nsenter");
            command.args(["-t", id, "-n", "ip"]);
            command
        }
        None => Command::new("ip"),
    };
    process::run(command.args(arguments), scratch, LIMIT)?;
    Ok(())
}

fn pinned(processor: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processor]);
    command
}

/// The connection, beside whatever runs.
fn connection(bench: &mut Bench) -> Result<Figures> {
    let own = std::env::current_exe().context("this program")?;
    let host = bench.host.context("no far host")?.to_string();
    let address = format!("{}:{PORT}", network::host());
    let seconds = bench.size(3, 1);
    let mut sink = Command::new("nsenter");
    sink.args(["-t", &host, "-n", "taskset", "-c", "1"])
        .arg(&own)
        .args(["sink", "--address", &format!("0.0.0.0:{PORT}")]);
    let sink = Running::start(&mut sink, &bench.scratch)?;
    let begin = Instant::now();
    while !sink.said("listening") {
        ensure!(begin.elapsed() < LIMIT, "the receiver does not listen");
        std::thread::sleep(Duration::from_millis(2));
    }
    let before = (network::retransmitted()?, network::counters(network::NEAR)?);
    let mut source = pinned("1");
    source.arg(&own).args([
        "source",
        "--address",
        &address,
        "--seconds",
        &seconds.to_string(),
    ]);
    bench.note_command("host traffic: sender", &source);
    let sent = process::run(&mut source, &bench.scratch, LIMIT)?;
    let taken = sink.finish(LIMIT)?;
    let mut words = sent.output.split_whitespace();
    let (Some(bytes), Some(seconds)) = (words.next(), words.next()) else {
        bail!("the sender says {:?}", sent.output);
    };
    let (bytes, seconds): (f64, f64) = (
        bytes.parse().context("bytes")?,
        seconds.parse().context("seconds")?,
    );
    let arrived: f64 = taken
        .output
        .lines()
        .last()
        .and_then(|line| line.parse().ok())
        .context("the receiver says no number")?;
    ensure!(
        arrived == bytes,
        "{bytes} bytes were sent, {arrived} received"
    );
    let after = (network::retransmitted()?, network::counters(network::NEAR)?);
    Ok(Figures::from([
        (RATE, bytes * 8.0 / 1e6 / seconds),
        (RETRANSMITTED, (after.0 - before.0) as f64),
        (
            "packets dropped at the near end",
            (after.1.receive_drops - before.1.receive_drops + after.1.send_drops
                - before.1.send_drops) as f64,
        ),
    ]))
}

fn alone(bench: &mut Bench) -> Result<Figures> {
    connection(bench)
}

fn burner(bench: &mut Bench) -> Result<Figures> {
    let mut command = pinned("0");
    command
        .arg(std::env::current_exe().context("this program")?)
        .args(["burn", "--seconds", "60"]);
    beside(bench, &mut command)
}

fn ours(bench: &mut Bench) -> Result<Figures> {
    let mut command = pinned("0");
    command.arg(bench.built.join("insession"));
    // More than is done in the time.
    scanners::endless(&mut command, 150_000);
    bench.note_command("host traffic: insession", &command);
    let before = network::counters(network::NEAR)?.sent;
    let mut figures = beside(bench, &mut command)?;
    let packets = network::counters(network::NEAR)?.sent - before;
    figures.insert("packets of the near end beside it", packets as f64);
    Ok(figures)
}

/// The connection while `command` runs; that it ran to the end of it is checked.
fn beside(bench: &mut Bench, command: &mut Command) -> Result<Figures> {
    let mut other = Running::start(command, &bench.scratch)?;
    // It opens its link first.
    std::thread::sleep(Duration::from_millis(700));
    let figures = connection(bench);
    let early = other.has_ended()?;
    if !early {
        other.interrupt()?;
    }
    let ended = other.finish(LIMIT)?;
    let mut figures = figures?;
    ensure!(
        !early,
        "it ended before the connection did: exit code {:?}: {}",
        ended.code,
        process::tail(&ended)
    );
    figures.insert("CPU-s of what ran beside it", ended.usage.cpu());
    Ok(figures)
}
