//! However it ends: sessions are closed, nothing stays attached.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{SOON, assert_right, segment, server_at, trace};
use insession_lab::Lab;
use insession_lab::capture::Capture;
use insession_lab::program::{self, Running};

/// Starts traces that hang in mid-trace (probes are swallowed, and waited for)
/// and returns once both sessions have sent probes.
fn hanging(lab: &Lab) -> Running {
    let mut captures = [false, true].map(|_| Capture::start(lab, "r1", "client").unwrap());
    let targets = [server_at(lab, false, 85), server_at(lab, true, 85)];
    let running = program::start(
        lab,
        "client",
        &[
            "trace",
            "--json",
            "-w",
            "60s",
            "-q",
            "1",
            &targets[0],
            &targets[1],
        ],
    )
    .unwrap();
    for (capture, v6) in captures.iter_mut().zip([false, true]) {
        capture
            .wait_for(SOON, |seen| {
                segment(seen).is_some_and(|segment| {
                    segment.payload > 0 && segment.destination.is_ipv6() == v6
                })
            })
            .unwrap();
    }
    assert_eq!(lab.tcp_sockets("server").unwrap(), 2);
    running
}

fn attached(lab: &Lab) -> bool {
    let link = lab
        .run(
            "client",
            "ip",
            &["-d", "-j", "link", "show", "dev", "eth0"],
            "",
        )
        .unwrap();
    let links: serde_json::Value = serde_json::from_str(&link).unwrap();
    !links[0]["xdp"].is_null()
}

#[test]
fn an_interrupt_closes_every_session_and_writes_what_was_learnt() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let lab = Lab::up("verdicts").unwrap();
        let running = hanging(&lab);
        assert!(attached(&lab), "or the checks below check nothing");
        // As timeout(1) does it: the child, then its group.
        running.signal(signal).unwrap();
        running.signal(signal).unwrap();
        let run = running.finish(SOON).unwrap();
        assert_eq!(run.code, Some(130), "{run:?}");
        let records = run.records().unwrap();
        assert_eq!(records.len(), 2);
        for record in &records {
            assert_eq!(record.verdict, "interrupted");
            assert!(record.hops.iter().any(|hop| hop.ttl == 1), "{record:?}");
        }
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
        assert!(!attached(&lab));
    }
}

#[test]
fn a_kill_leaves_nothing_attached_and_the_next_run_goes() {
    let lab = Lab::up("verdicts").unwrap();
    let running = hanging(&lab);
    assert!(attached(&lab));
    running.signal(libc::SIGKILL).unwrap();
    let run = running.finish(SOON).unwrap();
    assert_eq!(run.code, None);
    assert!(!attached(&lab));
    // At once: the kernel may still be taking the queue's old socket down.
    let record = trace(&lab, &[&server_at(&lab, false, 80)]);
    assert_right(&lab, &record);
    assert!(!attached(&lab));
}
