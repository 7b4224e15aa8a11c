//! Several targets at once: families, ports, interfaces, progress.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use common::{assert_right, assert_xdp, server, server_at, trace_all};
use insession_lab::record::Record;
use insession_lab::{Lab, program};

#[test]
fn both_families_and_every_way_to_write_a_target() {
    let lab = Lab::up("chain").unwrap();
    let targets = [
        "10.9.0.1:80",
        "10.9.0.2",
        "[fd00:9000::1]:80",
        "fd00:9000::2",
    ];
    let records = trace_all(&lab, &[&["-p", "80"], &targets[..]].concat());
    let named: BTreeSet<&str> = records
        .iter()
        .map(|record| record.target.as_str())
        .collect();
    assert_eq!(named, BTreeSet::from(targets));
    for record in &records {
        assert_right(&lab, record);
    }
}

#[test]
fn the_same_target_many_times_is_many_sessions() {
    let lab = Lab::up("diamond").unwrap();
    let target = server_at(&lab, false, 80);
    let records = trace_all(&lab, &vec![target.as_str(); 40]);
    let ports: BTreeSet<_> = records.iter().map(|record| record.source_port).collect();
    assert_eq!((records.len(), ports.len()), (40, 40));
    for record in &records {
        assert_right(&lab, record);
    }
}

#[test]
fn two_uplinks_in_one_run() {
    let lab = Lab::up("uplinks").unwrap();
    let mut targets = Vec::new();
    for node in ["servera", "serverb"] {
        for v6 in common::FAMILIES {
            targets.extend(lab.topology().addresses(node, v6, 4));
        }
    }
    let names: Vec<String> = targets.iter().map(IpAddr::to_string).collect();
    let mut arguments = vec!["-p", "80"];
    arguments.extend(names.iter().map(String::as_str));
    let records = trace_all(&lab, &arguments);
    assert_eq!(records.len(), 16);
    for record in &records {
        let way = assert_right(&lab, record);
        assert_xdp(record, if way.end == "servera" { "eth0" } else { "eth1" });
    }
}

#[test]
fn progress_goes_to_standard_error_and_records_to_standard_output() {
    let lab = Lab::up("chain").unwrap();
    let targets: Vec<String> = lab
        .topology()
        .addresses("server", false, 50)
        .iter()
        .map(IpAddr::to_string)
        .collect();
    let mut arguments = vec!["-p", "80", "--progress", "always", "--sessions", "10"];
    arguments.extend(targets.iter().map(String::as_str));
    let run = program::trace(&lab, &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert_eq!(run.records().unwrap().len(), 50);
    assert!(run.errors.contains("50"), "{:?}", run.errors);
    let mut arguments = vec!["-p", "80", "--progress", "never"];
    arguments.extend(targets.iter().map(String::as_str));
    let run = program::trace(&lab, &arguments).unwrap();
    assert_eq!((run.code, run.errors.as_str()), (Some(0), ""));
}

#[test]
fn a_rate_and_few_sessions_change_no_result() {
    let lab = Lab::up("chain").unwrap();
    let targets: Vec<String> = lab
        .topology()
        .addresses("server", true, 20)
        .iter()
        .map(IpAddr::to_string)
        .collect();
    let mut arguments = vec!["-p", "80", "--rate", "2k", "--sessions", "3"];
    arguments.extend(targets.iter().map(String::as_str));
    for record in trace_all(&lab, &arguments) {
        assert_right(&lab, &record);
    }
}

#[test]
fn a_file_gets_the_records_and_the_terminal_the_text() {
    let lab = Lab::up("chain").unwrap();
    let file = lab.folder().join("records.jsonl");
    let path = file.to_str().unwrap();
    let target = server(&lab, false);
    let run = program::run(
        &lab,
        "client",
        &["trace", "-n", "-p", "80", "-o", path, &target],
    )
    .unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let records = Record::parse_all(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(records.len(), 1);
    assert_right(&lab, &records[0]);
    let run = program::run(&lab, "client", &["trace", "-n", "-p", "80", &target]).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    for router in ["10.0.1.2", "10.0.6.2", "10.9.0.1"] {
        assert!(run.output.contains(router), "{}", run.output);
    }
}
