//! The links: every way of getting frames on the wire gives the same trace.

mod common;

use std::net::IpAddr;

use common::{FAMILIES, SOON, assert_right, assert_right_but_silent, server, trace};
use insession_lab::record::Probe;
use insession_lab::{Lab, program};

#[test]
fn packet_link_on_a_connection_of_the_kernels() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["--link", "packet", "-p", "80", &server(&lab, v6)]);
        assert_right(&lab, &record);
        let link = record.link.as_ref().unwrap();
        assert_eq!((link.kind.as_str(), link.mode.as_deref()), ("packet", None));
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
        assert_eq!(lab.tcp_sockets("client").unwrap(), 0);
    }
}

#[test]
fn generic_xdp() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let arguments = [
            "--link",
            "xdp",
            "--xdp-mode",
            "generic",
            "-p",
            "80",
            &server(&lab, v6),
        ];
        let record = trace(&lab, &arguments);
        assert_right(&lab, &record);
        let link = record.link.as_ref().unwrap();
        assert_eq!(
            (link.kind.as_str(), link.mode.as_deref()),
            ("xdp", Some("generic"))
        );
    }
}

#[test]
fn packet_link_through_middleboxes() {
    for name in ["firewall", "synproxy", "no_sack"] {
        let lab = Lab::up(name).unwrap();
        let record = trace(
            &lab,
            &["--link", "packet", "-p", "80", &server(&lab, false)],
        );
        match name {
            "synproxy" => assert_right_but_silent(&lab, &record),
            _ => assert_right(&lab, &record),
        };
    }
}

#[test]
fn every_method_over_loopback() {
    let lab = Lab::up("chain").unwrap();
    let lo = ["--interface", "lo"];
    // Loopback addresses; one of a prefix that is the host's; one of an interface's, to
    // which the way is over loopback, but in IPv6 not by name.
    let prefixes = [server(&lab, false), server(&lab, true)];
    let targets: [(&str, &[&str]); 7] = [
        ("127.0.0.1", &lo),
        ("::1", &lo),
        (&prefixes[0], &lo),
        (&prefixes[1], &lo),
        ("10.0.7.2", &lo),
        ("10.0.7.2", &[]),
        ("fd00:7::2", &[]),
    ];
    for (method, port, kind) in [
        ("insession", "80", "sack"),
        ("icmp", "80", "echo-reply"),
        ("udp", "33434", "unreachable"),
        ("tcp", "80", "syn-ack"),
        // Nobody listens there.
        ("tcp", "81", "rst"),
        ("paris-icmp", "80", "echo-reply"),
        ("paris-udp", "33434", "unreachable"),
        ("paris-tcp", "80", "syn-ack"),
        ("dublin", "33434", "unreachable"),
    ] {
        for (target, interface) in targets {
            let arguments = [
                "trace", "--json", "--link", "packet", "-m", method, "-p", port,
            ];
            let arguments = [&arguments[..], interface, &[target]].concat();
            let running = program::start(&lab, "server", &arguments).unwrap();
            let run = running.finish(SOON).unwrap();
            let record = run.record().unwrap();
            assert_eq!(run.code, Some(0), "{}", run.errors);
            assert_eq!(record.verdict, "complete", "{method} {record:#?}");
            assert_eq!(record.destination_ttl, Some(1), "{method} {record:#?}");
            assert_eq!(record.link.as_ref().unwrap().interface, "lo");
            assert!(record.changes.is_empty(), "{method} {record:#?}");
            let probes = common::probes(&record, 1);
            // Of a prefix in IPv6 errors come from another address of the host's.
            let to: IpAddr = target.parse().unwrap();
            let elsewhere = kind == "unreachable" && target == prefixes[1];
            let right = |probe: &Probe| probe.kind == kind && (probe.from == Some(to)) != elsewhere;
            let all = probes.len() == 3 && probes.iter().all(right);
            assert!(all, "{method} {record:#?}");
        }
    }
    assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
}
