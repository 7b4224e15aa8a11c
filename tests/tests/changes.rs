//! What changed on the way: boxes of the kernel's between real routers, and the hops
//! between which each is found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{FAMILIES, server, trace};
use insession_lab::record::Change;
use insession_lab::{Lab, program};

/// What changed, the first TTL that shows it, the last before that does not.
fn found(changes: &[Change]) -> Vec<(&str, usize, Option<usize>)> {
    let all = changes.iter();
    all.map(|it| (it.what.as_str(), it.first_ttl, it.not_at_ttl))
        .collect()
}

fn by(lab: &Lab, method: &str, v6: bool) -> insession_lab::record::Record {
    let run = program::trace(lab, &["-m", method, "-p", "80", &server(lab, v6)]).unwrap();
    let record = run.record().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert_eq!(record.method, method);
    record
}

/// Timestamps are taken out of segments that are no SYNs, and padded: the short way of
/// the session's replies may not take such quotes for unchanged ones.
#[test]
fn a_session_shows_its_dscp_and_options_rewritten() {
    let lab = Lab::up("changed").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
        assert_eq!(record.destination_ttl, Some(5), "{record:#?}");
        let expected = [("dscp", 3, Some(2)), ("options", 3, Some(2))];
        assert_eq!(found(&record.changes), expected, "{record:#?}");
        let r3 = if v6 { "fd00:3::2" } else { "10.0.3.2" };
        assert_eq!(
            record.changes[0].from,
            r3.parse::<std::net::IpAddr>().unwrap()
        );
    }
}

#[test]
fn syns_show_their_segment_size_clamped() {
    let lab = Lab::up("changed").unwrap();
    for v6 in FAMILIES {
        for method in ["tcp", "paris-tcp"] {
            let record = by(&lab, method, v6);
            let expected = [("dscp", 3, Some(2)), ("mss", 3, Some(2))];
            assert_eq!(found(&record.changes), expected, "{record:#?}");
        }
    }
}

/// The address was 10.0.1.1 and is 10.7.0.1: what that adds to a checksum.
#[test]
fn a_stateless_nat_has_its_identifier() {
    const ADDED: u16 = 249;
    let lab = Lab::up("changed").unwrap();
    for method in ["paris-udp", "dublin"] {
        let record = by(&lab, method, false);
        let expected = [
            ("dscp", 3, Some(2)),
            ("source", 4, Some(3)),
            ("nat", 4, Some(3)),
        ];
        assert_eq!(found(&record.changes), expected, "{record:#?}");
        assert_eq!(record.changes[2].nat, Some(ADDED));
        for hop in &record.hops {
            let behind = if hop.ttl < 4 { 0 } else { ADDED };
            for probe in hop.probes.iter().filter(|probe| probe.kind != "none") {
                assert_eq!(probe.nat, Some(behind), "{hop:#?}");
            }
        }
    }
    // No NAT there.
    let record = by(&lab, "dublin", true);
    assert_eq!(
        found(&record.changes),
        [("dscp", 3, Some(2))],
        "{record:#?}"
    );
}

/// The kernel's NAT translates quotes back: nothing is to be seen, nor told.
#[test]
fn nothing_is_told_where_nothing_changed() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        for method in [
            "insession",
            "icmp",
            "udp",
            "tcp",
            "paris-icmp",
            "paris-udp",
            "paris-tcp",
            "dublin",
        ] {
            let record = by(&lab, method, v6);
            assert_eq!(found(&record.changes), [], "{record:#?}");
        }
    }
}
