//! The campaigns of `cargo xtask demo --campaign`: against the reflector, killed and
//! resumed in the middle; and through the network in memory, as many as are asked
//! for, with the peak of resident memory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use insession::campaign::done::Done;
use insession::campaign::recorder::Recorder;
use insession::campaign::store::Store;
use insession::engine::jobs::{Job, Jobs, Supply as Next};
use insession::engine::stats::Stats;
use insession::engine::worker::{self, Shared};
use insession::engine::{EngineOptions, Output, Stop, Target};
use insession::link::mirror::MirrorLink;
use insession::net::{Interface, Route};
use insession::report::json;
use insession::report::output::OutputSpec;
use insession::session::SessionOptions;
use insession::targets::list::{Item, ListOptions, Supply};
use insession::targets::spec::Host;
use insession::testbed;
use insession::trace::{Trace, Verdict};
use insession_common::reflect;
use tokio::sync::mpsc;

use crate::network::{self, Network};
use crate::process::{self, Running, Scratch};

/// Times that the campaign is killed.
const KILLS: u64 = 3;
/// Sessions at a time.
const SESSIONS: u64 = 4096;
/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(600);
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Ways of all lengths, silent routers, label stacks, destinations that refuse.
fn ground() -> reflect::Network {
    reflect::Network {
        silent: 1_000,
        mpls: 10_000,
        refuse: 300,
        ..reflect::Network::default()
    }
}

/// Traces that many targets over AF_XDP against the reflector, is killed, goes on,
/// and holds every hop against the truth.
pub fn reflector(built: &Path, targets: u32) -> Result<()> {
    let mut network = Network::new()?;
    let ground = ground();
    network.set(&ground)?;
    let scratch = Scratch::new()?;
    let (list, campaign) = (scratch.file("targets.txt"), scratch.file("campaign"));
    let results = ["results.jsonl", "results.parquet", "results.csv.zst"];
    let results = results.map(|name| scratch.file(name));
    let mut lines = std::io::BufWriter::new(File::create(&list)?);
    for target in testbed::targets(targets.into()) {
        writeln!(lines, "{target}")?;
    }
    lines.flush()?;
    let first = || {
        let mut command = Command::new(built.join("insession"));
        command.args(["run", "--interface", network::NEAR, "--progress", "never"]);
        command.args(["--allow", "10.0.0.0/8", "--sessions", &SESSIONS.to_string()]);
        command.arg("--targets").arg(&list);
        command.arg("--campaign").arg(&campaign);
        for result in &results {
            command.arg("--output").arg(result);
        }
        command
    };
    println!(
        "$ insession run --interface {} --allow 10.0.0.0/8 --sessions {SESSIONS} --targets targets.txt --campaign campaign \
         --output results.jsonl --output results.parquet --output results.csv.zst  ({targets} targets)",
        network::NEAR
    );
    let begun = Instant::now();
    let mut command = first();
    let mut peak = 0;
    let mut kills = 0;
    while kills < KILLS {
        let mut run = Running::start(&mut command, &scratch)?;
        let until = u64::from(targets) * (kills + 1) / (KILLS + 1);
        // Killed when about so much of it is done, by what the reflector has opened.
        while opened(&network) < until {
            peak = peak.max(high_water(run.id()));
            if run.has_ended()? {
                let ended = run.finish(LIMIT)?;
                bail!("it ended before it was killed: {}", process::tail(&ended));
            }
            ensure!(
                run.age() < LIMIT,
                "it does not come to its {until}th target"
            );
            std::thread::sleep(LOOK);
        }
        run.kill();
        kills += 1;
        println!(
            "killed (SIGKILL) after {:.1} s, {} sessions opened in all",
            begun.elapsed().as_secs_f64(),
            opened(&network)
        );
        command = Command::new(built.join("insession"));
        command
            .args(["run", "--progress", "never", "--resume"])
            .arg(&campaign);
    }
    println!("$ insession run --resume campaign");
    let mut run = Running::start(&mut command, &scratch)?;
    while !run.has_ended()? {
        peak = peak.max(high_water(run.id()));
        ensure!(run.age() < LIMIT, "it does not end");
        std::thread::sleep(LOOK);
    }
    let ended = run.finish(LIMIT)?;
    ensure!(
        ended.code == Some(0),
        "exit code {:?}: {}",
        ended.code,
        process::tail(&ended)
    );
    for line in ended.errors.lines() {
        println!("  {line}");
    }
    let mut seen = Truth::new(ground);
    for line in BufReader::new(File::open(&results[0])?).split(b'\n') {
        let line = line?;
        let trace = json::read(&line).context("a record")?;
        seen.note(&trace)?;
    }
    seen.conclude(targets.into())?;
    let again = opened(&network).saturating_sub(targets.into());
    println!(
        "campaign: {targets} targets, each exactly once, after {kills} kills; {} hops right, {} wrong; \
         {again} sessions were opened again (at most {} were in flight); \
         peak resident memory {} MiB",
        seen.right,
        seen.wrong,
        KILLS * SESSIONS,
        peak >> 20
    );
    for result in &results {
        let size = std::fs::metadata(result).with_context(|| result.display().to_string())?;
        let name = result
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!(
            "  {name}: {:.1} MiB",
            size.len() as f64 / f64::from(1 << 20)
        );
    }
    ensure!(seen.wrong == 0, "{} hops are wrong", seen.wrong);
    ensure!(
        again <= KILLS * SESSIONS,
        "{again} sessions were traced again"
    );
    Ok(())
}

/// Sessions that were opened, or refused.
fn opened(network: &Network) -> u64 {
    let counted = network.counted();
    let of = |label: &str| counted.iter().find(|(name, _)| *name == label);
    ["syn-ack", "refused"]
        .into_iter()
        .filter_map(of)
        .map(|(_, count)| count)
        .sum()
}

/// The peak of a process's resident memory, octets (proc_pid_status(5)); 0 when it
/// is gone.
fn high_water(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Records against the truth.
struct Truth {
    ground: reflect::Network,
    names: std::collections::HashSet<String>,
    right: usize,
    wrong: usize,
}

impl Truth {
    fn new(ground: reflect::Network) -> Self {
        Truth {
            ground,
            names: std::collections::HashSet::new(),
            right: 0,
            wrong: 0,
        }
    }

    fn note(&mut self, trace: &Trace) -> Result<()> {
        self.judge(trace);
        ensure!(
            self.names.insert(trace.target.clone()),
            "{}: it has two records",
            trace.target
        );
        Ok(())
    }

    fn judge(&mut self, trace: &Trace) {
        match testbed::check(&self.ground, trace) {
            Ok(()) => self.right += trace.hops.len(),
            Err(error) => {
                self.wrong += 1;
                if self.wrong <= 20 {
                    eprintln!("  {error}");
                }
            }
        }
    }

    fn conclude(&self, targets: u64) -> Result<()> {
        for target in testbed::targets(targets) {
            ensure!(
                self.names.contains(&target.to_string()),
                "{target}: it has no record"
            );
        }
        ensure!(
            self.names.len() as u64 == targets,
            "somebody else has a record"
        );
        Ok(())
    }
}

/// Traces a prefix of that many addresses through the network in memory, into a
/// file; tells the peak of this process's resident memory.
pub fn memory(length: u8, sessions: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    let ground = ground();
    let prefix = format!("10.0.0.0/{length}");
    let targets = 1u64 << (32 - length);
    let supply = Supply::open(&ListOptions {
        words: vec![prefix.clone()],
        seed: 1,
        ..ListOptions::default()
    })?;
    let options = EngineOptions {
        sessions,
        ..EngineOptions::new(
            SessionOptions::default(),
            61_000..=65_535,
            *b"no secret at all",
        )
    };
    let output = scratch.file("results.jsonl.zst");
    let spec = OutputSpec::of(&output).map_err(anyhow::Error::msg)?;
    let store = Store::direct(&[spec], Arc::default())?;
    let (told, mut heard) = mpsc::channel(4096);
    let (checked, outputs) = mpsc::channel(4096);
    let (others, _) = mpsc::unbounded_channel();
    let recorder = Recorder {
        store,
        outputs,
        observed: Arc::default(),
        recorded: Arc::default(),
        owners: None,
        others,
        opener: None,
    };
    let (stop, stats) = (Stop::new(), Stats::default());
    let begun = Instant::now();
    let (done, truth) = std::thread::scope(|scope| -> Result<_> {
        let engine = scope.spawn(|| {
            // The engine ends the channel by its end.
            let told = told;
            let mut link = MirrorLink::new(ground, Duration::from_millis(20));
            let shared = Shared::new(&options, &told, &stop, &stats);
            worker::run(&mut link, &mut Listed::new(supply), &shared)
        });
        let judge = scope.spawn(move || {
            let (mut done, mut truth) = (Done::default(), Truth::new(ground));
            while let Some(output) = heard.blocking_recv() {
                if let Output::Trace { index, trace } = &output {
                    ensure!(done.insert(*index), "{}: it has two records", trace.target);
                    if trace.verdict != Verdict::Error {
                        truth.judge(trace);
                    }
                }
                checked
                    .blocking_send(output)
                    .context("the recorder ended")?;
            }
            Ok((done, truth))
        });
        recorder.run()?.finish(true)?;
        let ended = |_| anyhow::anyhow!("a panic, whose message stands above");
        engine.join().map_err(ended)??;
        judge.join().map_err(ended)?
    })?;
    ensure!(
        done.count() == targets && done.ranges().len() == 1,
        "{} of {targets} targets have a record",
        done.count()
    );
    println!(
        "in memory: {targets} targets of {prefix}, each exactly once, {sessions} sessions at a time; {} hops right, \
         {} wrong; {:.0} targets/s; peak resident memory {:.1} MiB",
        truth.right,
        truth.wrong,
        targets as f64 / begun.elapsed().as_secs_f64(),
        high_water(std::process::id()) as f64 / f64::from(1 << 20)
    );
    ensure!(truth.wrong == 0, "{} hops are wrong", truth.wrong);
    Ok(())
}

/// A list as an engine's jobs: all go one way.
struct Listed {
    supply: Supply,
    interface: Arc<Interface>,
}

impl Listed {
    fn new(supply: Supply) -> Self {
        let interface = Interface {
            index: 1,
            name: "memory".to_owned(),
        };
        Listed {
            supply,
            interface: interface.into(),
        }
    }
}

impl Jobs for Listed {
    fn poll(&mut self) -> Next {
        loop {
            match self.supply.next(&|_| false) {
                Some(Ok(Item::Target { position, spec })) => {
                    let Host::Address(address) = spec.host else {
                        continue;
                    };
                    return Next::Job(Job {
                        target: Target {
                            index: position,
                            name: spec.name,
                            address,
                            port: 80,
                        },
                        route: Route {
                            interface: Arc::clone(&self.interface),
                            vlan: None,
                            source: testbed::NEAR_V4.into(),
                            source_mac: testbed::NEAR_MAC,
                            next_hop_mac: reflect::MAC,
                            mtu: 1500,
                            device_mtu: 1500,
                        },
                    });
                }
                Some(_) => {}
                None => return Next::Done,
            }
        }
    }

    fn wait(&mut self, _limit: Duration) {}
}
