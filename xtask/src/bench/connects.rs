//! Handshakes completed per CPU-second: ours, and a tokio loop that connects
//! kernel sockets, many in flight, each closed by RST (SO_LINGER 0) as ours are.
//!
//! Our engine opens no session for nothing: with each goes one probe to the
//! first hop and its answer, and a record is written. That is in our figure, so
//! it is the lower bound of what we can do; the loop does nothing but connect.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use insession_common::reflect;

use crate::arms::{self, Arm, Figures};
use crate::process::{self, Usage};
use crate::rows::{Row, Target};
use crate::{Bench, network};

const RATE: &str = "handshakes/CPU-s";
const LIMIT: Duration = Duration::from_secs(120);

/// Measures it.
pub fn measure(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    let network = reflect::Network {
        width: 1,
        ..reflect::Network::default()
    };
    if let Err(error) = bench.network().and_then(|bed| bed.set(&network)) {
        return network::failed(targets, &error);
    }
    let arms = [
        Arm {
            name: "insession",
            shown: RATE,
            run: ours,
        },
        Arm {
            name: "kernel",
            shown: RATE,
            run: kernel,
        },
    ];
    let outcome = arms::run(bench, &arms);
    let complaints = outcome.complaints();
    targets
        .iter()
        .map(|target| {
            let mut row = Row::compared(
                target,
                &outcome.series("insession", RATE),
                &outcome.series("kernel", RATE),
                outcome.ratio("insession", "kernel", RATE),
                format!("ours with one probe and one record a session (-M 1 -q 1); the loop: one thread, 1,000 connects in flight, SO_LINGER 0; CPU is user and system of the whole process (wait4){}{complaints}", if complaints.is_empty() { "" } else { "; " }),
            );
            row.details.extend(outcome.details());
            row
        })
        .collect()
}

fn figures(count: u64, usage: Usage) -> Figures {
    let count = count as f64;
    Figures::from([
        (RATE, count / usage.cpu()),
        ("handshakes/s", count / usage.wall),
        ("µs of CPU a handshake", usage.cpu() * 1e6 / count),
        ("user share", usage.user / usage.cpu()),
    ])
}

fn ours(bench: &mut Bench) -> Result<Figures> {
    let count = bench.size(200_000, 40_000);
    let records = bench.scratch.file("insession.json");
    let mut command = bench.insession();
    command
        .args(["trace", "-n", "-i", network::NEAR, "-p", "80"])
        .args(["-M", "1", "-q", "1", "--sessions", "4096"])
        .args(["--progress", "never", "-o"])
        .arg(&records)
        .args(network::addresses(count));
    bench.note_command("insession: handshakes", &command);
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    let text = std::fs::read_to_string(&records).context("insession's records")?;
    let done = text.matches("\"handshake\":{").count() as u64;
    enough(done, count)?;
    Ok(figures(done, ended.usage))
}

fn kernel(bench: &mut Bench) -> Result<Figures> {
    let count = bench.size(200_000, 40_000);
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(["connect", "--count", &count.to_string()]);
    bench.note_command("kernel: handshakes", &command);
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    let done: u64 = ended
        .output
        .trim()
        .parse()
        .context("the connect loop's count")?;
    enough(done, count)?;
    Ok(figures(done, ended.usage))
}

fn enough(done: u64, of: u32) -> Result<()> {
    ensure!(
        done * 1_000 >= u64::from(of) * 999,
        "only {done} of {of} handshakes were completed"
    );
    Ok(())
}
