//! CPU per probe sent: stateless scanners, and we with live sessions.
//!
//! Both send into a network that is as quiet as it can be for each, so that what
//! is compared is sending. For the scanners every reply is lost. We cannot do
//! without the SYN-ACK, since our probes go inside sessions, but routers and
//! destinations are silent after it. The packets are counted at the far end of
//! the wire, not believed from the tool; ours are counted without SYN, ACK and
//! RST of each session, whose cost is in the figure all the same.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use insession_common::reflect;

use crate::arms::{self, Arm, Figures};
use crate::process::{self, Running, Usage};
use crate::rows::{Row, Target};
use crate::{Bench, interrupt, network};

const COST: &str = "µs of CPU a probe";
/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(120);
/// Who has sent all and sends no more for so long has done.
const QUIET: Duration = Duration::from_secs(1);
/// Our last TTL: the destination lies behind it.
const TTLS: u8 = 30;
const PROBES: u8 = 3;
/// All of them, in 65,536.
const ALL: u16 = u16::MAX;

/// Measures it.
pub fn measure(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    let mut arms = vec![
        Arm {
            name: "insession",
            shown: COST,
            run: ours,
        },
        Arm {
            name: "masscan",
            shown: COST,
            run: masscan,
        },
        Arm {
            name: "zmap",
            shown: COST,
            run: zmap,
        },
    ];
    if bench.peers.contains_key("yarrp") {
        arms.push(Arm {
            name: "yarrp",
            shown: COST,
            run: yarrp,
        });
    }
    if bench.peers.contains_key("caracal") {
        arms.push(Arm {
            name: "caracal",
            shown: COST,
            run: caracal,
        });
    }
    let outcome = arms::run(bench, &arms);
    let best = outcome
        .arms()
        .filter(|arm| *arm != "insession")
        .filter_map(|arm| Some((arm, outcome.spread(arm, COST)?.median)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b));
    let complaints = outcome.complaints();
    targets
        .iter()
        .map(|target| {
            let ours = outcome.series("insession", COST);
            let mut row = match best {
                None => Row::compared(target, &ours, &[], None, "no scanner ran"),
                Some((best, _)) => Row::compared(
                    target,
                    &ours,
                    &outcome.series(best, COST),
                    outcome.ratio(best, "insession", COST),
                    format!(
                        "best: {best}; CPU is user and system of the whole process (wait4), packets are those that came out of the far end of the pair; silent network; ours with {TTLS} TTLs × {PROBES} probes in each session"
                    ),
                ),
            };
            if !complaints.is_empty() {
                row.note.push_str("; ");
                row.note.push_str(&complaints);
            }
            row.details.extend(outcome.details());
            row
        })
        .collect()
}

/// Every reply is lost.
pub fn deaf() -> reflect::Network {
    reflect::Network {
        loss: ALL,
        ..reflect::Network::default()
    }
}

/// Nobody answers but to a SYN.
pub fn quiet() -> reflect::Network {
    reflect::Network {
        shortest: reflect::LONGEST,
        longest: reflect::LONGEST,
        width: 1,
        silent: ALL,
        mute: ALL,
        ..reflect::Network::default()
    }
}

/// Runs a command until it ends, or until `least` packets came out of the far
/// end and no more do: in a silent network masscan and yarrp wait for one more
/// packet for ever. Ended so, they are killed; their CPU time is told all the same.
fn count(bench: &mut Bench, arm: &str, command: &mut Command, least: u64) -> Result<(Usage, u64)> {
    bench.note_command(arm, command);
    let before = network::far_received()?;
    let mut running = Running::start(command, &bench.scratch)?;
    let mut last = (before, Instant::now());
    let mut sent = None;
    while !running.has_ended()? {
        interrupt::check()?;
        ensure!(
            running.age() < LIMIT,
            "{arm}: no end within {} s",
            LIMIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
        let now = network::far_received()?;
        if now != last.0 {
            last = (now, Instant::now());
        } else if now - before >= least && last.1.elapsed() > QUIET {
            sent = Some(now);
            running.kill();
            break;
        }
    }
    let ended = running.finish(LIMIT)?;
    ensure!(
        sent.is_some() || ended.code == Some(0),
        "exit code {:?}: {}",
        ended.code,
        process::tail(&ended)
    );
    let packets = network::far_received()? - before;
    ensure!(
        packets >= least,
        "{packets} packets came out of the far end, at least {least} were asked for; it said: {}",
        process::tail(&ended)
    );
    let mut usage = ended.usage;
    // Not the time in which it waited for nothing.
    usage.wall = last.1.duration_since(ended.start).as_secs_f64();
    Ok((usage, packets))
}

fn figures((usage, probes): (Usage, u64)) -> Figures {
    let probes = probes as f64;
    Figures::from([
        (COST, usage.cpu() * 1e6 / probes),
        ("probes/s", probes / usage.wall),
        ("probes", probes),
        ("user share", usage.user / usage.cpu()),
    ])
}

/// All but two of a hundred: a full ring drops some.
fn most(probes: u64) -> u64 {
    probes / 100 * 98
}

fn ours(bench: &mut Bench) -> Result<Figures> {
    bench.network()?.set(&quiet())?;
    let sessions = bench.size(40_000, 5_000);
    let mut command = bench.insession();
    endless(&mut command, sessions);
    let asked = u64::from(sessions) * u64::from(TTLS) * u64::from(PROBES);
    let (usage, packets) = count(bench, "insession: probes", &mut command, most(asked))?;
    // SYN, ACK, RST.
    let probes = packets.saturating_sub(3 * u64::from(sessions));
    Ok(figures((usage, probes)))
}

/// So many sessions with nothing but unanswered probes in them.
pub fn endless(command: &mut Command, sessions: u32) {
    command
        .args(["trace", "-n", "-i", network::NEAR, "-p", "80", "-M"])
        .arg(TTLS.to_string())
        .arg("-q")
        .arg(PROBES.to_string())
        .args(["--gap-limit", "255", "-w", "500ms", "--sessions", "10000"])
        .args(["--progress", "never", "-o", "/dev/null"])
        .args(network::addresses(sessions));
}

fn masscan(bench: &mut Bench) -> Result<Figures> {
    bench.network()?.set(&deaf())?;
    // 10.0.0.0/11 has 2,097,152 addresses, /15 131,072.
    let (range, least) = if bench.quick {
        ("10.0.0.0/15", 131_072)
    } else {
        ("10.0.0.0/11", 2_097_152)
    };
    let mut command = Command::new("masscan");
    command
        .args(["-p80", range, "--rate", "100000000", "--wait", "0", "-e"])
        .arg(network::NEAR)
        .arg("--adapter-ip")
        .arg(bench.network()?.near_address())
        .args(["--adapter-port", "61000", "--adapter-mac"])
        .arg(bench.network()?.near_mac())
        .arg("--router-mac")
        .arg(bench.network()?.far_mac())
        .args(["-oL", "/dev/null"]);
    Ok(figures(count(bench, "masscan", &mut command, most(least))?))
}

fn zmap(bench: &mut Bench) -> Result<Figures> {
    bench.network()?.set(&deaf())?;
    let asked = bench.size(2_000_000, 130_000);
    // Debian's default blocklist has all addresses of the bed on it.
    let nothing = bench.scratch.file("empty");
    std::fs::write(&nothing, "").context("an empty list")?;
    let mut command = Command::new("zmap");
    command
        .args(["-p", "80", "-i", network::NEAR, "-S"])
        .arg(bench.network()?.near_address())
        .args(["-s", "61000", "-G"])
        .arg(bench.network()?.far_mac())
        .args(["-C"])
        .arg(&nothing)
        .arg("-b")
        .arg(&nothing)
        .args(["-n", &asked.to_string()])
        .args(["-B", "100G", "-T", "1", "-c", "1", "-o", "/dev/null"])
        .args(["-q", "-v", "0", "--disable-syslog", "10.0.0.0/8"]);
    let least = most(u64::from(asked));
    Ok(figures(count(bench, "zmap", &mut command, least)?))
}

fn yarrp(bench: &mut Bench) -> Result<Figures> {
    bench.network()?.set(&deaf())?;
    let path = bench.peers.get("yarrp").context("no such peer")?.clone();
    let targets = bench.size(100_000, 8_000);
    let list = bench.scratch.file("yarrp.list");
    let lines: Vec<String> = network::addresses(targets).collect();
    std::fs::write(&list, lines.join("\n") + "\n").context("yarrp's list")?;
    let mut command = Command::new(path);
    command
        .args([
            "-t", "TCP_ACK", "-r", "10000000", "-m", "16", "-p", "80", "-i",
        ])
        .arg(&list)
        .arg("-o")
        .arg(bench.scratch.file("yarrp.yrp"));
    let least = most(u64::from(targets) * 16);
    Ok(figures(count(bench, "yarrp", &mut command, least)?))
}

fn caracal(bench: &mut Bench) -> Result<Figures> {
    bench.network()?.set(&deaf())?;
    let path = bench.peers.get("caracal").context("no such peer")?.clone();
    let targets = bench.size(100_000, 8_000);
    let list = bench.scratch.file("caracal.csv");
    // dst_addr,src_port,dst_port,ttl,protocol
    let mut lines = String::new();
    for address in network::addresses(targets) {
        for ttl in 1..=16 {
            lines.push_str(&format!("{address},24000,33434,{ttl},udp\n"));
        }
    }
    std::fs::write(&list, lines).context("caracal's probes")?;
    // It reads standard input and nothing else.
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" < caracal.csv"])
        .arg(path)
        .args(["-z", network::NEAR, "-W", "0", "-L", "warning"])
        .args(["--rate-limiting-method", "none"]);
    let least = most(u64::from(targets) * 16);
    Ok(figures(count(bench, "caracal", &mut command, least)?))
}
