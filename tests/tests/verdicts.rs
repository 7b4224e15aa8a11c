//! How traces end when they do not end well, and with which exit code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{FAMILIES, SOON, answer, server_at, trace};
use insession_lab::Lab;
use insession_lab::program;
use insession_lab::record::Record;

fn lab() -> Lab {
    Lab::up("verdicts").unwrap()
}

fn traced(lab: &Lab, v6: bool, port: u16, more: &[&str]) -> Record {
    let target = server_at(lab, v6, port);
    trace(lab, &[&[target.as_str()], more].concat())
}

fn assert_no_hops(record: &Record) {
    assert_eq!(
        record.handshake.as_ref().map(|handshake| handshake.rtt_us),
        None
    );
    assert!(record.hops.is_empty(), "{record:?}");
    assert_eq!(record.destination_ttl, None);
}

/// The router before the one that filters, and that one: what ends at either is
/// not filtered.
fn assert_first_two_hops(record: &Record, v6: bool) {
    let routers = if v6 {
        ["fd00:1::2", "fd00:2::2"]
    } else {
        ["10.0.1.2", "10.0.2.2"]
    };
    for (ttl, router) in (1..).zip(routers) {
        let expected = ("time-exceeded".to_owned(), Some(router.parse().unwrap()));
        assert_eq!(answer(record, ttl), expected);
    }
}

#[test]
fn refused() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 81, &[]);
        assert_eq!(record.verdict, "refused");
        assert_no_hops(&record);
    }
}

#[test]
fn handshake_timeout() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 82, &["--handshake-timeout", "1500ms"]);
        assert_eq!(record.verdict, "handshake-timeout");
        assert_no_hops(&record);
    }
}

#[test]
fn unreachable_for_the_handshake() {
    let lab = lab();
    // Prohibited; no neighbour; no route.
    for target in [
        "10.9.0.1:83",
        "[fd00:9000::1]:83",
        "10.0.4.77:80",
        "[fd00:4::77]:80",
        "10.99.0.1:80",
        "[fd00:99::1]:80",
    ] {
        let record = trace(&lab, &[target]);
        assert_eq!(record.verdict, "unreachable", "{target}");
        assert!(record.detail.is_some(), "{target}");
        assert_no_hops(&record);
    }
}

#[test]
fn unreachable_in_mid_trace() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 84, &[]);
        assert_eq!(record.verdict, "unreachable");
        assert!(record.detail.is_some());
        assert!(record.handshake.is_some());
        assert_first_two_hops(&record, v6);
        let (kind, from) = answer(&record, 3);
        let filter = if v6 { "fd00:2::2" } else { "10.0.2.2" };
        assert_eq!(
            (kind.as_str(), from),
            ("unreachable", Some(filter.parse().unwrap()))
        );
        // Administratively prohibited: RFC 1812 §5.2.7.1, RFC 4443 §3.1.
        let code = if v6 { (1, 1) } else { (3, 13) };
        let probe = &common::probes(&record, 3)[0];
        assert_eq!(
            (probe.icmp_type, probe.icmp_code),
            (Some(code.0), Some(code.1))
        );
    }
}

#[test]
fn gap_limit() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 85, &["--gap-limit", "3", "-w", "300ms"]);
        assert_eq!(record.verdict, "gap-limit");
        assert_first_two_hops(&record, v6);
        for ttl in 3..=5 {
            assert_eq!(answer(&record, ttl).0, "none");
        }
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
    }
}

#[test]
fn max_ttl() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 85, &["-M", "4", "-w", "300ms"]);
        assert_eq!(record.verdict, "max-ttl");
        assert_eq!(record.hops.len(), 4);
    }
}

#[test]
fn reset_in_mid_trace() {
    let lab = lab();
    for v6 in FAMILIES {
        let record = traced(&lab, v6, 86, &[]);
        assert_eq!(record.verdict, "reset", "{record:#?}");
        assert_first_two_hops(&record, v6);
    }
}

#[test]
fn no_route_is_a_record_and_a_failure() {
    let lab = lab();
    for target in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let run = program::trace(&lab, &[target]).unwrap();
        let record = run.record().unwrap();
        assert_eq!(record.verdict, "no-route");
        assert!(record.detail.is_some());
        assert_eq!(record.source_port, None);
        assert_eq!(run.code, Some(1));
    }
}

#[test]
fn one_failure_among_others_fails_the_run_and_no_other_target() {
    let lab = lab();
    let run = program::start(
        &lab,
        "client",
        &[
            "trace",
            "--json",
            "10.9.0.1:80",
            "192.0.2.1:80",
            "10.9.0.1:81",
        ],
    )
    .unwrap()
    .finish(SOON)
    .unwrap();
    let mut verdicts: Vec<String> = run
        .records()
        .unwrap()
        .into_iter()
        .map(|record| record.verdict)
        .collect();
    verdicts.sort();
    assert_eq!(verdicts, ["complete", "no-route", "refused"]);
    assert_eq!(run.code, Some(1));
}
