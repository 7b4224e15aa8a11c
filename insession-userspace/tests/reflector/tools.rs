//! Debian's traceroute and scamper against the reflector.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use insession::testbed::{self, NEAR_V4, NEAR_V6};
use insession_common::reflect::{FlowEnds, Hop, Host, Network, destination_ttl, hop};
use serde_json::Value;

use crate::in_a_bed;

/// A network of several ways in which everything answers.
fn network() -> Network {
    Network {
        mpls: 20_000,
        ..Network::default()
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask setup` installs it"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    said
}

fn targets() -> Vec<SocketAddr> {
    testbed::targets(3).chain(testbed::targets_v6(3)).collect()
}

fn ends(target: IpAddr, protocol: u8, first: u32) -> FlowEnds {
    FlowEnds {
        local: Host::new(if target.is_ipv4() {
            NEAR_V4.into()
        } else {
            NEAR_V6.into()
        }),
        remote: Host::new(target),
        protocol,
        first,
    }
}

/// Who answers at each TTL from 1 to the destination's.
fn way(target: IpAddr, ends: &FlowEnds) -> Vec<IpAddr> {
    let address = |ttl| match hop(&network(), ends, ttl) {
        Hop::Router { address, .. } => address,
        Hop::Destination { .. } => target,
    };
    (1..=destination_ttl(&network(), target))
        .map(address)
        .collect()
}

/// The addresses that traceroute prints, one a line: `TTL  ADDRESS  0.123 ms`.
fn printed(output: &str) -> Vec<IpAddr> {
    let line = |line: &str| line.split_whitespace().nth(1).unwrap().parse();
    let lines = output.lines().skip(1);
    lines
        .map(|text| line(text).unwrap_or_else(|error| panic!("{error}: {text}\n{output}")))
        .collect()
}

/// traceroute with one source port: one way through all balancers. It waits the
/// whole time (`-w`): otherwise no longer than ten times what a later hop took,
/// which here is less than a turn on a busy processor.
fn traceroute(method: &str, protocol: u8, port: u16) {
    in_a_bed(network(), |_| {
        for target in targets() {
            let address = target.ip().to_string();
            let arguments = [
                "-n",
                method,
                "-q",
                "1",
                "-w",
                "5",
                "-p",
                &port.to_string(),
                "--sport=40001",
                &address,
            ];
            let output = run("traceroute", &arguments);
            let first = 40_001 << 16 | u32::from(port);
            let expected = way(target.ip(), &ends(target.ip(), protocol, first));
            assert_eq!(printed(&output), expected, "{method} {target}");
        }
    });
}

#[test]
fn traceroute_by_tcp() {
    traceroute("-T", 6, 80);
}

#[test]
fn traceroute_by_udp() {
    traceroute("-U", 17, 53);
}

#[test]
fn traceroute_by_icmp() {
    in_a_bed(network(), |_| {
        for target in targets() {
            let output = run(
                "traceroute",
                &["-n", "-I", "-q", "1", "-w", "5", &target.ip().to_string()],
            );
            let printed = printed(&output);
            // Its checksum changes from probe to probe, so each may go its own way.
            let protocol = if target.is_ipv4() { 1 } else { 58 };
            let ways: Vec<_> = (0..4096)
                .map(|first| way(target.ip(), &ends(target.ip(), protocol, first)))
                .collect();
            assert_eq!(printed.len(), ways[0].len(), "{output}");
            for (at, address) in printed.iter().enumerate() {
                let there: HashSet<_> = ways.iter().map(|way| way[at]).collect();
                assert!(there.contains(address), "hop {}: {output}", at + 1);
            }
        }
    });
}

/// scamper's traces, which keep their flow.
fn scamper(method: &str) {
    in_a_bed(network(), |_| {
        for target in targets() {
            let command = format!("trace -P {method} -q 1 -d 80 {}", target.ip());
            let command = match method {
                "icmp-paris" => command.replace("-d 80 ", ""),
                _ => command,
            };
            let output = run("scamper", &["-O", "json", "-I", &command]);
            let records = output
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let record = records
                .into_iter()
                .find(|record| record["type"] == "trace")
                .unwrap_or_else(|| panic!("no trace: {output}"));
            assert_eq!(record["stop_reason"], "COMPLETED", "{record}");
            let number = |field: &str| {
                record[field]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{field}: {record}")) as u32
            };
            let (protocol, first) = match (method, target.is_ipv4()) {
                ("icmp-paris", true) => (1, 8 << 24 | number("icmp_sum")),
                ("icmp-paris", false) => (58, 128 << 24 | number("icmp_sum")),
                ("udp-paris", _) => (17, number("sport") << 16 | number("dport")),
                _ => (6, number("sport") << 16 | number("dport")),
            };
            let expected = way(target.ip(), &ends(target.ip(), protocol, first));
            let hops = record["hops"].as_array().unwrap();
            let seen: Vec<(u64, IpAddr)> = hops
                .iter()
                .map(|hop| {
                    (
                        hop["probe_ttl"].as_u64().unwrap(),
                        hop["addr"].as_str().unwrap().parse().unwrap(),
                    )
                })
                .collect();
            let expected: Vec<_> = (1..).zip(expected).collect();
            assert_eq!(seen, expected, "{method} {target}: {record}");
        }
    });
}

#[test]
fn scamper_by_icmp() {
    scamper("icmp-paris");
}

#[test]
fn scamper_by_udp() {
    scamper("udp-paris");
}

#[test]
fn scamper_by_tcp_ack() {
    scamper("tcp-ack");
}
