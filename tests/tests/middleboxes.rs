//! Firewalls, NATs, proxies: what real ones in the kernel make of our segments.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::IpAddr;

use common::{
    FAMILIES, answer, assert_right, assert_right_but_silent, assert_xdp, server, server_at, trace,
};
use insession_lab::Lab;

#[test]
fn a_strict_firewall_lets_everything_pass() {
    let lab = Lab::up("firewall").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
        assert_right(&lab, &record);
    }
    let rules = lab
        .run("firewall", "nft", &["list", "ruleset"], "")
        .unwrap();
    assert!(
        rules.contains("ct state invalid counter packets 0 bytes 0 drop"),
        "{rules}"
    );
}

#[test]
fn a_source_nat_is_looked_through() {
    let lab = Lab::up("snat").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
        // The kernel's NAT translates the quotes of errors back.
        assert_right(&lab, &record);
    }
}

/// Linux gives the errors of a destination NAT, and of all behind it, the
/// target's address: an address alone does not make a destination.
#[test]
fn a_destination_nat_does_not_shorten_the_way() {
    let lab = Lab::up("dnat").unwrap();
    for v6 in FAMILIES {
        let (target, router) = if v6 {
            ("[fd00:8000::1]:8080", "fd00:1::2")
        } else {
            ("10.8.0.1:8080", "10.0.1.2")
        };
        let record = trace(&lab, &[target]);
        assert_eq!(record.verdict, "complete", "{record:#?}");
        assert_eq!(record.destination_ttl, Some(4));
        let exceeded = |from| ("time-exceeded".to_owned(), from);
        assert_eq!(answer(&record, 1), exceeded(Some(router.parse().unwrap())));
        assert_eq!(answer(&record, 2), exceeded(record.address));
        assert_eq!(answer(&record, 3), exceeded(record.address));
        assert_eq!(answer(&record, 4), ("sack".to_owned(), record.address));
    }
}

/// A window of zero in the SYN-ACK, opened later by an ACK: nothing may be sent
/// before.
#[test]
fn a_synproxy_is_waited_for() {
    through_a_synproxy(false);
}

#[test]
#[ignore = "nftables' synproxy drops every IPv6 SYN with a final checksum: nft_synproxy_do_eval takes \
            IPv4's pseudo header for both (seen up to Linux 6.18)"]
fn a_synproxy_is_waited_for_in_ipv6() {
    through_a_synproxy(true);
}

fn through_a_synproxy(v6: bool) {
    let lab = Lab::up("synproxy").unwrap();
    let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
    assert_right_but_silent(&lab, &record);
    assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
}

#[test]
fn tagged_frames_are_read() {
    for name in ["vlan", "qinq"] {
        let lab = Lab::up(name).unwrap();
        for v6 in FAMILIES {
            let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
            assert_right(&lab, &record);
            assert_xdp(&record, "eth0");
        }
    }
}

#[test]
fn a_server_that_speaks_first_is_acknowledged_and_not_answered() {
    let lab = Lab::up("ssh").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &[&server_at(&lab, v6, 22)]);
        assert_right(&lab, &record);
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
    }
}

#[test]
fn servers_without_sack_timestamps_or_scale_are_traced_too() {
    // SACK, timestamps, window scale.
    let servers = [
        ("no_sack", (false, true, true)),
        ("no_timestamps", (true, false, true)),
        ("bare_tcp", (false, false, false)),
    ];
    for (name, (sack, timestamps, scale)) in servers {
        let lab = Lab::up(name).unwrap();
        for v6 in FAMILIES {
            let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
            assert_right(&lab, &record);
            let handshake = record.handshake.as_ref().unwrap();
            assert_eq!(
                (
                    handshake.sack,
                    handshake.timestamps,
                    handshake.window_scale.is_some()
                ),
                (sack, timestamps, scale),
                "{name}"
            );
        }
    }
}

#[test]
fn a_silent_router_is_a_hop_without_an_answer() {
    let lab = Lab::up("silent").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["-w", "300ms", &server_at(&lab, v6, 80)]);
        assert_right(&lab, &record);
        assert_eq!(answer(&record, 2), ("none".to_owned(), None));
    }
}

#[test]
fn a_router_that_limits_its_errors_misses_some_and_invents_none() {
    let lab = Lab::up("silent").unwrap();
    let record = trace(
        &lab,
        &[
            "-w",
            "300ms",
            "-q",
            "30",
            "-f",
            "3",
            &server_at(&lab, false, 80),
        ],
    );
    assert_eq!(record.verdict, "complete");
    let router: IpAddr = "10.0.3.2".parse().unwrap();
    let probes = common::probes(&record, 3);
    assert_eq!(probes.len(), 30);
    assert!(probes.iter().any(|probe| probe.kind == "none"));
    assert!(probes.iter().any(|probe| probe.from == Some(router)));
    assert!(
        probes
            .iter()
            .all(|probe| probe.from.is_none_or(|from| from == router))
    );
}
