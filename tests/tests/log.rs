//! What the XDP program itself has to say.

mod common;

use common::server;
use insession_lab::{Lab, program};

/// A router that rewrites our port and does not rewrite it back: its quotes are
/// ours by the peer and name no session.
const CARELESS: &str = "\
    table ip careless {
        chain before {
            type filter hook prerouting priority raw;
            ip ttl 1 tcp sport set 1024;
        }
    }";

#[test]
fn it_is_heard_by_vv_and_not_without() {
    let lab = Lab::up("chain").unwrap();
    lab.run("r1", "nft", &["-f", "-"], CARELESS).unwrap();
    let target = server(&lab, false);
    for (level, heard) in [("-vv", true), ("-v", false)] {
        let run = program::trace(&lab, &[level, "-M", "2", "-p", "80", &target]).unwrap();
        let record = run.record().unwrap();
        let hop = record.hop(1).unwrap();
        assert!(
            hop.probes.iter().all(|probe| probe.kind != "none"),
            "{record:?}"
        );
        assert_eq!(
            run.errors
                .contains("a rewritten quote that names no session"),
            heard,
            "{}",
            run.errors
        );
    }
}
