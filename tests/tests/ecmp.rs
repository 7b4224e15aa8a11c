//! Per-flow balancing: each session stays on its branch, and all branches are
//! seen; per-packet balancing: two routers at one TTL are shown.

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::{FAMILIES, assert_right, server_at, trace, trace_all};
use insession_lab::Lab;

#[test]
fn every_flow_follows_its_branch() {
    let lab = Lab::up("diamond").unwrap();
    for v6 in FAMILIES {
        let targets: Vec<String> = lab
            .topology()
            .addresses("server", v6, 48)
            .iter()
            .map(IpAddr::to_string)
            .collect();
        let mut arguments = vec!["-p", "80"];
        arguments.extend(targets.iter().map(String::as_str));
        let records = trace_all(&lab, &arguments);
        assert_eq!(records.len(), targets.len());
        let mut branches = BTreeSet::new();
        for record in &records {
            let way = assert_right(&lab, record);
            branches.insert(way.routers[2].node.clone());
            for hop in &record.hops {
                let routers: BTreeSet<_> =
                    hop.probes.iter().filter_map(|probe| probe.from).collect();
                assert!(routers.len() <= 1, "{hop:?}");
            }
        }
        // 48 flows miss one of four branches once in 4 · (3/4)⁴⁸ = 4 · 10⁻⁶ runs.
        assert_eq!(branches.len(), 4, "{branches:?}");
    }
}

#[test]
fn per_packet_balancing_is_not_hidden() {
    let lab = Lab::up("balanced").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["-q", "8", &server_at(&lab, v6, 80)]);
        assert_eq!(record.verdict, "complete");
        assert_eq!(record.destination_ttl, Some(5));
        let routers: BTreeSet<IpAddr> = common::probes(&record, 3)
            .iter()
            .filter_map(|probe| probe.from)
            .collect();
        let expected: [IpAddr; 2] = if v6 {
            ["fd00:a::2".parse().unwrap(), "fd00:b::2".parse().unwrap()]
        } else {
            ["10.0.10.2".parse().unwrap(), "10.0.11.2".parse().unwrap()]
        };
        assert_eq!(routers, BTreeSet::from(expected));
    }
}
