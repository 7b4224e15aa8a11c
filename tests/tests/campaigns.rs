//! `insession run` through real routers to a real server: lists as people have them,
//! and what the routers see of the courtesy that they are owed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use common::assert_right;
use etherparse::{NetSlice, SlicedPacket};
use insession_lab::Lab;
use insession_lab::capture::{Capture, Seen};
use insession_lab::program::{self, Run};
use insession_lab::record::Record;

/// `insession run …` at node `client`, results in a file; how it ended, and the records.
fn run(lab: &Lab, arguments: &[&str]) -> (Run, Vec<Record>) {
    let results = lab.folder().join("results.jsonl");
    let common = ["run", "-p", "80", "--allow", "0.0.0.0/0,::/0", "--output"];
    let common = [&common[..], &[results.to_str().unwrap()]].concat();
    let run = program::run(lab, "client", &[&common[..], arguments].concat()).unwrap();
    let text = fs::read_to_string(&results).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    (run, Record::parse_all(&text).unwrap())
}

fn list(lab: &Lab, text: &str) -> PathBuf {
    let path = lab.folder().join("targets.txt");
    fs::write(&path, text).unwrap();
    path
}

/// The server's first addresses, a line each.
fn addresses(lab: &Lab, count: usize) -> String {
    let addresses = lab.topology().addresses("server", false, count);
    addresses.iter().map(|it| format!("{it}\n")).collect()
}

#[test]
fn a_dirty_list_is_traced_line_by_line() {
    let lab = Lab::up("chain").unwrap();
    let list = list(
        &lab,
        "\u{feff}# a list\r\n10.9.0.1\r10.9.0.2:80\n\n  [fd00:9000::1]:80\t# a server\r\nhttp://10.9.0.3/\n\
         fe80::1%eth0\n10.9.0.1\n10.9.0.16/30\n10.9.0.300\nfd00:9000::2",
    );
    let (run, records) = run(&lab, &["--targets", list.to_str().unwrap(), "10.9.0.9"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        assert_right(&lab, record);
        *times.entry(&record.target).or_default() += 1;
    }
    let expected = BTreeMap::from([
        ("10.9.0.1", 2),
        ("10.9.0.2:80", 1),
        ("[fd00:9000::1]:80", 1),
        ("10.9.0.16", 1),
        ("10.9.0.17", 1),
        ("10.9.0.18", 1),
        ("10.9.0.19", 1),
        ("10.9.0.9", 1),
        ("fd00:9000::2", 1),
    ]);
    assert_eq!(times, expected);
    for line in [6, 7, 10] {
        let place = format!("targets.txt:{line}: ");
        assert!(run.errors.contains(&place), "{place} in {}", run.errors);
    }
    assert!(run.errors.contains("bad lines: 3"), "{}", run.errors);
}

#[test]
fn every_output_has_every_target() {
    let lab = Lab::up("chain").unwrap();
    let folder = lab.folder();
    let names = [
        "r.parquet",
        "r.csv.zst",
        "r.atlas.jsonl.gz",
        "r.scamper.jsonl",
    ];
    let paths = names.map(|name| folder.join(name).display().to_string());
    let mut arguments: Vec<&str> = vec!["10.9.0.0/26"];
    for path in &paths {
        arguments.extend(["--output", path]);
    }
    let (run, records) = run(&lab, &arguments);
    assert_eq!((run.code, records.len()), (Some(0), 64), "{run:?}");
    for path in &paths {
        assert!(
            fs::metadata(Path::new(path)).unwrap().len() > 1000,
            "{path}"
        );
    }
    let left = fs::read_dir(folder).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(left.filter(|name| name.contains("partial")).count(), 0);
}

/// When the router at `address` answered a probe that expired there, nanoseconds.
fn answers(seen: &[Seen], address: IpAddr) -> Vec<u64> {
    let is_one = |seen: &&Seen| {
        let Ok(packet) = SlicedPacket::from_ethernet(&seen.bytes) else {
            return false;
        };
        match packet.net {
            // ICMP type 11: time exceeded (RFC 792).
            Some(NetSlice::Ipv4(ip)) => {
                IpAddr::from(ip.header().source_addr()) == address
                    && ip.header().protocol().0 == 1
                    && ip.payload().payload.first() == Some(&11)
            }
            _ => false,
        }
    };
    seen.iter().filter(is_one).map(|seen| seen.at).collect()
}

/// Captures what goes over the `first` router's link to the client during a run.
fn captured(lab: &Lab, first: &str, arguments: &[&str]) -> (Vec<Seen>, Vec<Record>) {
    let capture = Capture::start(lab, first, "client").unwrap();
    let (run, records) = run(lab, arguments);
    assert_eq!(run.code, Some(0), "{run:?}");
    (capture.finish().unwrap(), records)
}

#[test]
fn no_router_answers_more_than_it_is_owed() {
    const RATE: usize = 300;
    let lab = Lab::up("chain").unwrap();
    let list = list(&lab, &addresses(&lab, 200));
    let list = list.to_str().unwrap();
    let rate = RATE.to_string();
    let (seen, records) = captured(&lab, "r1", &["--router-rate", &rate, "--targets", list]);
    assert_eq!(records.len(), 200);
    for record in &records {
        assert_right(&lab, record);
    }
    let routers: Vec<IpAddr> = (1..=6)
        .map(|ttl| common::answer(&records[0], ttl).1.unwrap())
        .collect();
    for router in routers {
        let times = answers(&seen, router);
        assert_eq!(times.len(), 600, "{router}");
        // In any second that begins with an answer: the rate, and a burst of a tenth.
        for (nth, begin) in times.iter().enumerate() {
            let within = times[nth..]
                .iter()
                .take_while(|at| **at - begin < 1_000_000_000);
            let count = within.count();
            assert!(count <= RATE + RATE / 10, "{router}: {count} in a second");
        }
        let span = (times[times.len() - 1] - times[0]) as f64 / 1e9;
        assert!(span > 1.7, "{router}: 600 answers in {span:.2} s");
    }
}

#[test]
fn every_targets_path_mtu_is_measured_where_it_is_asked_for() {
    let lab = Lab::up("chain").unwrap();
    for (node, interface) in [("r4", "r5"), ("r5", "r4")] {
        let arguments = ["link", "set", "dev", interface, "mtu", "1380"];
        lab.run(node, "ip", &arguments, "").unwrap();
    }
    let list = list(&lab, &addresses(&lab, 200));
    let (run, records) = run(&lab, &["--mtu", "--targets", list.to_str().unwrap()]);
    assert_eq!((run.code, records.len()), (Some(0), 200), "{run:?}");
    for record in &records {
        assert_right(&lab, record);
        let mtu = record.mtu.as_ref().unwrap();
        assert_eq!(mtu.path, Some(1380), "{record:#?}");
        let steps = mtu.steps.iter().map(|step| (step.ttl, step.mtu, step.told));
        assert_eq!(steps.collect::<Vec<_>>(), [(4, 1380, true)]);
    }
}

#[test]
fn near_hops_are_probed_for_one_and_told_for_all() {
    // What is common ends where the ways part.
    let lab = Lab::up("diamond").unwrap();
    let list = list(&lab, &addresses(&lab, 250));
    let list = list.to_str().unwrap();
    let shared = ["--share-near-hops", "--sessions", "20", "--targets", list];
    let (seen, records) = captured(&lab, "edge", &shared);
    assert_eq!(records.len(), 250);
    for record in &records {
        assert_right(&lab, record);
    }
    let first = common::answer(&records[0], 1).1.unwrap();
    let times = answers(&seen, first);
    assert!(
        times.len() < 400,
        "{} of 750 probes at the first hop",
        times.len()
    );
    let marked = |record: &&Record| record.hops.iter().any(|hop| hop.shared);
    let count = records.iter().filter(marked).count();
    assert!(count > 100, "{count} records have shared hops");
    // What was not probed here is marked, and what is not marked was probed.
    let own = records.iter().flat_map(|record| &record.hops);
    let own = own.filter(|hop| hop.ttl == 1 && !hop.shared);
    assert_eq!(times.len(), own.map(|hop| hop.probes.len()).sum::<usize>());
}
