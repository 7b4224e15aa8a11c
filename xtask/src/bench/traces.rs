//! Traces per CPU-second, user and system of the whole process: ours over
//! thousands of targets at once, scamper's over a list, one process a trace of
//! the reference tool and of Debian's traceroute. The way has four hops, of each
//! of which three probes are asked: twelve probes a trace for everybody.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use insession_common::reflect;
use serde::Deserialize;

use crate::arms::{self, Arm, Figures};
use crate::process::{self, Usage};
use crate::rows::{Extra, Row, Target};
use crate::{Bench, network};

/// The TTL that reaches the destination.
const HOPS: u8 = 4;
/// Probes a hop.
const PROBES: u8 = 3;
/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(120);
const STARTED: &str = "ms of CPU for one trace";
const RATE: &str = "traces/CPU-s";

/// Measures both rows.
pub fn measure(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    let wants = |name: &str| targets.iter().any(|target| target.name == name);
    let network = reflect::Network {
        shortest: HOPS,
        longest: HOPS,
        width: 1,
        ..reflect::Network::default()
    };
    if let Err(error) = bench.network().and_then(|bed| bed.set(&network)) {
        return network::failed(targets, &error);
    }
    let mut arms = vec![Arm {
        name: "insession",
        shown: RATE,
        run: ours,
    }];
    arms.push(Arm {
        name: "start-up",
        shown: STARTED,
        run: start_up,
    });
    if wants("traces-vs-scamper") {
        arms.push(Arm {
            name: "scamper",
            shown: RATE,
            run: scamper,
        });
    }
    if wants("traces-vs-reference") {
        if bench.peers.contains_key("reference") {
            arms.push(Arm {
                name: "reference",
                shown: RATE,
                run: reference,
            });
        }
        arms.push(Arm {
            name: "traceroute",
            shown: RATE,
            run: traceroute,
        });
    }
    let outcome = arms::run(bench, &arms);
    if let Some(value) = outcome.spread("traceroute", RATE) {
        bench.extras.push(Extra {
            name: "Debian's traceroute -T, one process a trace".into(),
            value,
            unit: RATE,
        });
    }
    let mut rows = Vec::new();
    for target in targets {
        let peer = target.name.trim_start_matches("traces-vs-");
        if peer == "reference" && !bench.peers.contains_key("reference") {
            let mut row = Row::compared(
                target,
                &outcome.series("insession", RATE),
                &[],
                None,
                "no reference tool was given: `--peer reference=PATH` names a Pietrasanta traceroute",
            );
            row.details.extend(outcome.details());
            rows.push(row);
            continue;
        }
        let mut note = format!(
            "{HOPS} hops, {PROBES} probes a hop; CPU is user and system of the whole process (wait4); complete traces as the tool's own records say"
        );
        let complaints = outcome.complaints();
        if !complaints.is_empty() {
            let _ = write!(note, "; {complaints}");
        }
        let mut row = Row::compared(
            target,
            &outcome.series("insession", RATE),
            &outcome.series(peer, RATE),
            outcome.ratio("insession", peer, RATE),
            note,
        );
        row.details.extend(outcome.details());
        rows.push(row);
    }
    rows
}

/// Of a thousand traces of ours so many are complete at least.
const OURS: usize = 999;
/// And of others': scamper gives up on a few when it is late.
const OTHERS: usize = 990;

/// Figures of so many complete traces: only they count, and of a thousand `least` have
/// to be.
fn figures(complete: usize, of: usize, least: usize, usage: Usage) -> Result<Figures> {
    ensure!(
        complete * 1_000 >= of * least,
        "only {complete} of {of} traces are complete"
    );
    let complete = complete as f64;
    Ok(Figures::from([
        (RATE, complete / usage.cpu()),
        ("traces/s", complete / usage.wall),
        ("µs of CPU a trace", usage.cpu() * 1e6 / complete),
        ("user share", usage.user / usage.cpu()),
    ]))
}

/// Of one of our records, what is looked at.
#[derive(Deserialize)]
struct Record {
    verdict: String,
    destination_ttl: Option<u8>,
    hops: Vec<Hop>,
}

#[derive(Deserialize)]
struct Hop {
    probes: Vec<serde::de::IgnoredAny>,
}

fn ours(bench: &mut Bench) -> Result<Figures> {
    let count = bench.size(150_000, 20_000);
    let records = bench.scratch.file("insession.json");
    let mut command = bench.insession();
    command
        .args(["trace", "-n", "-i", network::NEAR, "-p", "80", "-q"])
        .arg(PROBES.to_string())
        .args(["--sessions", "4096", "--progress", "never", "-o"])
        .arg(&records)
        .args(network::addresses(count));
    bench.note_command("insession: traces", &command);
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    let text = std::fs::read_to_string(&records).context("insession's records")?;
    let mut complete = 0;
    for line in text.lines() {
        let record: Record = serde_json::from_str(line).context("a record of insession")?;
        let probes: usize = record.hops.iter().map(|hop| hop.probes.len()).sum();
        if record.verdict == "complete"
            && record.destination_ttl == Some(HOPS)
            && probes >= usize::from(HOPS) * usize::from(PROBES)
        {
            complete += 1;
        }
    }
    figures(complete, count as usize, OURS, ended.usage)
}

/// What `insession trace` takes before its first packet and after its last: it is
/// in all figures of whole processes.
fn start_up(bench: &mut Bench) -> Result<Figures> {
    let mut command = bench.insession();
    command
        .args(["trace", "-n", "-i", network::NEAR, "-p", "80"])
        .args(["--progress", "never", "-o", "/dev/null"])
        .args(network::addresses(1));
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    Ok(Figures::from([(STARTED, ended.usage.cpu() * 1e3)]))
}

fn scamper(bench: &mut Bench) -> Result<Figures> {
    let count = bench.size(8_000, 800);
    let list = bench.scratch.file("scamper.list");
    let lines: Vec<String> = network::addresses(count).collect();
    std::fs::write(&list, lines.join("\n") + "\n").context("scamper's list")?;
    let records = bench.scratch.file("scamper.json");
    let mut command = Command::new("scamper");
    command
        .args(["-p", "10000", "-w", "0", "-O", "json", "-o"])
        .arg(&records)
        .arg("-f")
        .arg(&list)
        .arg("-c")
        .arg(format!("trace -P tcp-ack -d 80 -q {PROBES} -Q"));
    bench.note_command("scamper: traces", &command);
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    let text = std::fs::read_to_string(&records).context("scamper's records")?;
    // As with ours: the target answered at its hop; an answer may have been lost.
    let complete = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Scamper>(line).ok())
        .filter(|trace| {
            trace.kind == "trace"
                && trace.stop_reason.as_deref() == Some("COMPLETED")
                && trace.hop_count == HOPS
                && trace.probe_count >= u32::from(HOPS) * u32::from(PROBES)
        })
        .count();
    figures(complete, count as usize, OTHERS, ended.usage)
}

/// Of one of scamper's records, what is looked at.
#[derive(Deserialize)]
struct Scamper {
    #[serde(rename = "type")]
    kind: String,
    stop_reason: Option<String>,
    #[serde(default)]
    hop_count: u8,
    #[serde(default)]
    probe_count: u32,
}

fn reference(bench: &mut Bench) -> Result<Figures> {
    let path = bench
        .peers
        .get("reference")
        .context("no such peer")?
        .clone();
    each(bench, "reference: traces", &|address| {
        let mut command = Command::new(&path);
        command
            .args(["--tcpinsession", "--disable-extra-ping", "-n", "-q"])
            .arg(PROBES.to_string())
            .args(["-p", "80", address]);
        command
    })
}

fn traceroute(bench: &mut Bench) -> Result<Figures> {
    each(bench, "traceroute: traces", &|address| {
        let mut command = Command::new("traceroute");
        command
            .args(["-T", "-n", "-q"])
            .arg(PROBES.to_string())
            .args(["-p", "80", address]);
        command
    })
}

/// One process a trace. It is complete when the target answered at its hop, all
/// probes of it.
fn each(bench: &mut Bench, arm: &str, command: &dyn Fn(&str) -> Command) -> Result<Figures> {
    let count = bench.size(300, 20);
    let mut complete = 0;
    let mut usage = Usage::default();
    for address in network::addresses(count) {
        let mut command = command(&address);
        bench.note_command(arm, &command);
        let ended = process::run(&mut command, &bench.scratch, Duration::from_secs(30))?;
        usage.user += ended.usage.user;
        usage.system += ended.usage.system;
        usage.wall += ended.usage.wall;
        // Pietrasanta's says a few lines more behind it.
        let answered = ended.output.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&HOPS.to_string())
                && words.next() == Some(&address)
                && line.matches(" ms").count() == usize::from(PROBES)
        });
        complete += usize::from(answered);
    }
    figures(complete, count as usize, OTHERS, usage)
}
