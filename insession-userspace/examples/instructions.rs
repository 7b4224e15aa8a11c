//! What `cargo xtask bench` runs under callgrind: the production loop over a
//! link in memory, many sessions at once, and the records written as JSON.
//!
//! `instructions SESSIONS HOPS PROBES`: all of them are open together, each is
//! traced over HOPS hops, PROBES probes a hop. Prints one JSON object: what was
//! traced. The instructions are callgrind's to count.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use insession::engine::jobs::Job;
use insession::engine::stats::Stats;
use insession::engine::worker::{self, Shared};
use insession::engine::{EngineOptions, Output, Stop, Target};
use insession::link::Link;
use insession::net::{Interface, Route};
use insession::report::json;
use insession::session::SessionOptions;
use insession::trace::{Trace, Verdict};
use tokio::sync::mpsc;

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let [sessions, hops, probes] = numbers[..] else {
        eprintln!("error: usage: instructions SESSIONS HOPS PROBES");
        return ExitCode::from(2);
    };
    let (Ok(hops), Ok(probes)) = (u8::try_from(hops), u8::try_from(probes)) else {
        eprintln!("error: HOPS and PROBES: at most 255");
        return ExitCode::from(2);
    };
    match trace(sessions, hops, probes) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trace(sessions: u32, hops: u8, probes: u8) -> Result<String, String> {
    let session = SessionOptions {
        probes,
        ..SessionOptions::default()
    };
    let options = EngineOptions {
        sessions: sessions as usize,
        ..EngineOptions::new(session, 61_000..=65_535, *b"always the same!")
    };
    let mut link = memory::link(hops);
    let mut jobs = jobs(sessions);
    let (outputs, mut records) = mpsc::channel(sessions as usize + 1);
    let stop = Stop::new();
    let stats = Stats::default();
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    engine(&mut link, &mut jobs, &shared)?;
    let mut traces = Vec::new();
    while let Ok(output) = records.try_recv() {
        if let Output::Trace { trace, .. } = output {
            traces.push(trace);
        }
    }
    let complete = traces
        .iter()
        .filter(|trace| trace.verdict == Verdict::Complete)
        .count();
    if complete != sessions as usize {
        return Err(format!("{complete} of {sessions} traces are complete"));
    }
    let octets = write(&traces).map_err(|error| error.to_string())?;
    Ok(format!(
        "{{\"sessions\":{complete},\"probes\":{},\"sent\":{},\"replies\":{},\"json_octets\":{octets}}}",
        stats.probes.load(Ordering::Relaxed),
        stats.sent.load(Ordering::Relaxed),
        stats.replies.load(Ordering::Relaxed),
    ))
}

/// The door through which the reader of the profile looks: its inclusive cost,
/// less what the link takes, is the engine's.
#[inline(never)]
fn engine(
    link: &mut dyn Link,
    jobs: &mut VecDeque<Job>,
    shared: &Shared<'_>,
) -> Result<(), String> {
    worker::run(black_box(link), jobs, shared).map_err(|error| error.to_string())
}

/// The records as text: another door.
#[inline(never)]
fn write(traces: &[Box<Trace>]) -> std::io::Result<u64> {
    let mut count = Count(0);
    for trace in traces {
        json::write(trace, black_box(&mut count))?;
    }
    Ok(count.0)
}

/// Counts what is written and forgets it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn jobs(sessions: u32) -> VecDeque<Job> {
    let job = |(number, address): (u64, IpAddr)| Job {
        target: Target {
            index: number,
            name: address.to_string(),
            address,
            port: 80,
        },
        route: Route {
            interface: Interface {
                index: 1,
                name: "memory".into(),
            }
            .into(),
            vlan: None,
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            source_mac: [2, 0, 0, 0, 0, 1],
            next_hop_mac: [2, 0, 0, 0, 0, 2],
            mtu: 1500,
            device_mtu: 1500,
        },
    };
    (0..).zip(memory::targets(sessions)).map(job).collect()
}

/// The network in memory: every way has so many hops, nothing is lost.
mod memory {
    use std::net::IpAddr;

    use insession::link::mirror::MirrorLink;
    use insession::testbed;
    use insession::time::Duration;
    use insession_common::reflect::Network;

    /// From packet to answer.
    const DELAY: Duration = Duration::from_millis(10);

    pub(super) fn targets(count: u32) -> impl Iterator<Item = IpAddr> {
        testbed::targets(u64::from(count)).map(|target| target.ip())
    }

    pub(super) fn link(hops: u8) -> MirrorLink {
        let network = Network {
            shortest: hops,
            longest: hops,
            width: 1,
            ..Network::default()
        };
        MirrorLink::new(network, DELAY)
    }
}
