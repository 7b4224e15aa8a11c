//! Instructions a probe cycle (build, send, receive, credit, record) and a
//! handshake (with opening and closing), counted by callgrind over a link in
//! memory: the yardstick that does not move with the machine's load.
//!
//! Two profiles, of three probes a hop and of one, over the same sessions and
//! hops. What a session costs whatever its probes is the same in both, so that
//!
//! > probe cycle = (engine₃ − engine₁) / (probes₃ − probes₁)
//! > handshake = (engine₁ − probes₁ · probe cycle) / sessions

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::Bench;
use crate::callgrind::{Cost, Profile, Sides};
use crate::process;
use crate::rows::{Row, Target};

/// TTL of the destination.
const HOPS: u8 = 16;
/// Valgrind runs fifty times slower than the machine.
const LIMIT: Duration = Duration::from_secs(550);
/// Counts of the last release, beside the page that shows them.
const RELEASED: &str = "docs/instructions.json";

/// Prefetching is the engine's, though it stands beside the links.
const SIDES: Sides = Sides {
    engine: &[
        "insession::engine::",
        "insession::session::",
        "insession::wire::",
        "insession::link::prefetch::",
    ],
    link: &[
        "insession::link::Link",
        "insession::link::sim::",
        "insession::link::mirror::",
    ],
};

/// What is kept of a release.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Counts {
    /// The release; absent before the first.
    pub release: Option<String>,
    /// Instructions a probe cycle.
    pub probe_cycle: Option<f64>,
    /// Instructions a handshake.
    pub handshake: Option<f64>,
}

/// What the driver says of its run.
#[derive(Debug, Deserialize)]
struct Traced {
    sessions: u64,
    probes: u64,
}

/// A profile and what was traced in it.
struct Run {
    traced: Traced,
    cost: Cost,
    json: u64,
}

/// What was counted.
#[derive(Debug, PartialEq, Serialize)]
struct Counted {
    sessions: u64,
    hops: u8,
    probe_cycle: f64,
    handshake: f64,
    /// Everything, handshakes too, a probe.
    all_a_probe: f64,
    /// What the network in memory took, which is in none of the above.
    link_a_probe: f64,
    /// Writing the record as JSON, which is in none of the above.
    json_a_probe: f64,
    /// Self cost a probe by source file, handshakes too; the largest.
    files: BTreeMap<String, f64>,
    released: Option<Counts>,
    change_of_probe_cycle: Option<f64>,
}

/// Measures it.
pub fn measure(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    let counted = count(bench);
    targets
        .iter()
        .map(|target| match &counted {
            Err(error) => Row::missing(target, format!("{error:#}")),
            Ok(counted) => {
                let mut row = Row::absolute(
                    target,
                    &[counted.probe_cycle],
                    format!(
                        "callgrind; {} sessions at once, {HOPS} hops; the network in memory is taken out by the edges of the call graph; a handshake with opening and closing is {:.0} instructions apart, JSON of the record {:.0} a probe apart; since the last release: {}",
                        counted.sessions,
                        counted.handshake,
                        counted.json_a_probe,
                        counted.change_of_probe_cycle.map_or_else(
                            || "none to compare with".to_owned(),
                            |change| format!("{:+.1} %", change * 100.0)
                        ),
                    ),
                );
                row.detail("handshake", counted.handshake);
                row.detail("all a probe", counted.all_a_probe);
                row.detail("link a probe", counted.link_a_probe);
                row.detail("JSON a probe", counted.json_a_probe);
                row
            }
        })
        .collect()
}

fn count(bench: &mut Bench) -> Result<Counted> {
    let sessions = bench.size(10_000, 1_000);
    let three = profile(bench, sessions, 3)?;
    let one = profile(bench, sessions, 1)?;
    let released = released()?;
    let counted = reckon(&three, &one, released)?;
    let value = serde_json::to_value(&counted).context("the counts as JSON")?;
    bench.values.insert("instructions", value);
    Ok(counted)
}

fn profile(bench: &mut Bench, sessions: u32, probes: u8) -> Result<Run> {
    let out = bench.scratch.file("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(bench.built.join("examples/instructions"))
        .args([sessions.to_string(), HOPS.to_string(), probes.to_string()]);
    eprintln!("  {sessions} sessions, {HOPS} hops, {probes} probes a hop");
    bench.note_command("callgrind", &command);
    let ended = process::run(&mut command, &bench.scratch, LIMIT)?;
    let traced = serde_json::from_str(&ended.output).context("what the driver says")?;
    let text = std::fs::read_to_string(&out).context("callgrind.out")?;
    let profile = Profile::parse(&text)?;
    Ok(Run {
        traced,
        cost: profile.cost("instructions::engine", SIDES)?,
        json: profile.inclusive("instructions::write")?,
    })
}

fn reckon(three: &Run, one: &Run, released: Option<Counts>) -> Result<Counted> {
    ensure!(
        three.traced.probes > one.traced.probes && three.traced.sessions == one.traced.sessions,
        "the two profiles are of other runs than asked for"
    );
    let probes = three.traced.probes as f64;
    let fewer = one.traced.probes as f64;
    let sessions = one.traced.sessions as f64;
    let probe_cycle = (three.cost.engine as f64 - one.cost.engine as f64) / (probes - fewer);
    let before = released.as_ref().and_then(|counts| counts.probe_cycle);
    Ok(Counted {
        sessions: three.traced.sessions,
        hops: HOPS,
        probe_cycle,
        handshake: (one.cost.engine as f64 - fewer * probe_cycle) / sessions,
        all_a_probe: three.cost.engine as f64 / probes,
        link_a_probe: three.cost.link as f64 / probes,
        json_a_probe: three.json as f64 / probes,
        files: three
            .cost
            .files
            .iter()
            .take(16)
            .map(|(file, cost)| (short(file), *cost as f64 / probes))
            .collect(),
        released,
        change_of_probe_cycle: before.map(|before| probe_cycle / before - 1.0),
    })
}

/// The end of a path: where toolchain and sources lie differs by machine.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.rsplit('/').take(3).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

fn released() -> Result<Option<Counts>> {
    let Ok(text) = std::fs::read_to_string(RELEASED) else {
        return Ok(None);
    };
    let counts: Counts = serde_json::from_str(&text).with_context(|| RELEASED.to_owned())?;
    Ok(counts.probe_cycle.is_some().then_some(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(probes: u64, engine: u64) -> Run {
        Run {
            traced: Traced {
                sessions: 10,
                probes,
            },
            cost: Cost {
                inclusive: engine + 1_000,
                link: 1_000,
                engine,
                files: vec![("/a/b/src/engine/worker.rs".into(), 300)],
            },
            json: 900,
        }
    }

    #[test]
    fn handshakes_and_probe_cycles_are_told_apart() {
        // 700 a session, 20 a probe.
        let (three, one) = (run(300, 7_000 + 6_000), run(100, 7_000 + 2_000));
        let before = Counts {
            release: Some("0.1.0".into()),
            probe_cycle: Some(25.0),
            handshake: Some(700.0),
        };
        let counted = reckon(&three, &one, Some(before)).unwrap();
        assert_eq!((counted.probe_cycle, counted.handshake), (20.0, 700.0));
        assert!((counted.change_of_probe_cycle.unwrap() + 0.2).abs() < 1e-9);
        assert_eq!(counted.json_a_probe, 3.0);
        assert_eq!(counted.files["src/engine/worker.rs"], 1.0);
        assert!(reckon(&one, &three, None).is_err());
    }
}
