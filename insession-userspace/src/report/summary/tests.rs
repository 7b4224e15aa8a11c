//! Figures of traces whose figures are known.

use super::*;
use crate::report::samples;
use crate::trace::{Probe, Reply};
use proptest::prelude::*;

fn answer(ttl: u8, from: &str, millis: u64) -> Reply {
    Reply {
        rtt: Duration::from_millis(millis),
        ..samples::answered(
            if ttl == 4 {
                ReplyKind::Sack
            } else {
                ReplyKind::TimeExceeded
            },
            from,
        )
    }
}

/// Four hops, one probe each; `None` is silence.
fn path(answers: [Option<&str>; 4]) -> Trace {
    let reached = answers[3].is_some();
    let hop = |(ttl, from): (u8, Option<&str>)| Hop {
        ttl,
        shared: false,
        probes: vec![Probe {
            sent: Duration::ZERO,
            reply: from.map(|from| answer(ttl, from, u64::from(ttl) * 10)),
        }],
    };
    Trace {
        destination_ttl: reached.then_some(4),
        hops: (1..).zip(answers).map(hop).collect(),
        handshake: samples::contract().handshake,
        ..samples::empty(
            "10.0.9.2",
            if reached {
                Verdict::Complete
            } else {
                Verdict::GapLimit
            },
        )
    }
}

fn summary(traces: &[Trace]) -> Figures {
    let mut summary = Summary::default();
    traces.iter().for_each(|trace| summary.add(trace));
    summary.figures(0)
}

/// To one part in a hundred.
fn near(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= expected / 100.0,
        "{found}, not {expected}"
    );
}

#[test]
fn the_figures_of_known_paths() {
    let far = Some("10.0.9.2");
    let traces = [
        path([Some("10.0.1.1"), None, Some("10.0.3.1"), far]),
        path([Some("10.0.1.1"), None, None, far]),
        path([Some("10.0.1.1"), None, None, None]),
        path([None, Some("10.0.2.1"), None, None]),
        samples::empty("x", Verdict::Refused),
    ];
    let found = summary(&traces);
    assert_eq!(found.traces, 5);
    let verdicts = [("complete", 2), ("gap-limit", 2), ("refused", 1)];
    assert_eq!(found.verdicts, verdicts);
    assert_eq!((found.sent, found.probes, found.answered), (16, 11, 7));
    assert_eq!(found.kinds, [("time-exceeded", 5), ("sack", 2)]);
    assert_eq!((found.routers, found.routers_exact), (3, true));
    assert_eq!(found.path_lengths, [(4, 2)]);
    let handshake = found.handshake_rtt.unwrap();
    assert_eq!(handshake.count, 4);
    near(handshake.p50, 812.4);
    let destination = found.destination_rtt.unwrap();
    assert_eq!(destination.count, 2);
    near(destination.p99, 40_000.0);
    let loss: Vec<_> = found
        .hops
        .iter()
        .map(|hop| (hop.ttl, hop.loss, hop.silent))
        .collect();
    assert_eq!(
        loss,
        [
            (1, 0.25, 0.25),
            (2, 2.0 / 3.0, 2.0 / 3.0),
            (3, 0.5, 0.5),
            (4, 0.0, 0.0)
        ]
    );
    near(found.hops[0].rtt.as_ref().unwrap().p50, 10_000.0);
    let silences: Vec<_> = found
        .silences
        .iter()
        .map(|it| (it.behind.as_deref(), it.traces, it.to_the_end, it.hops))
        .collect();
    assert_eq!(
        silences,
        [
            (Some("10.0.1.1"), 3, 1, 2.0),
            (None, 1, 0, 1.0),
            (Some("10.0.2.1"), 1, 1, 2.0),
        ]
    );
    assert_eq!(found.silences_undercount, 0);
}

#[test]
fn what_is_beyond_the_destination_is_no_loss() {
    let mut trace = path([
        Some("10.0.1.1"),
        Some("10.0.2.1"),
        Some("10.0.3.1"),
        Some("10.0.9.2"),
    ]);
    trace.hops.push(Hop {
        ttl: 5,
        shared: false,
        probes: vec![samples::silent(1); 3],
    });
    let found = summary(&[trace]);
    assert_eq!((found.sent, found.probes, found.answered), (7, 4, 4));
    assert_eq!(found.hops.len(), 4);
    assert!(found.silences.is_empty());
}

#[test]
fn hops_in_which_several_routers_answer_and_times_that_are_bounds() {
    let mut trace = path([Some("10.0.1.1"), None, None, None]);
    let probes = &mut trace.hops[0].probes;
    let mut other = probes[0].clone();
    if let Some(reply) = &mut other.reply {
        reply.from = "10.0.1.2".parse().unwrap();
        reply.rtt = Duration::from_secs(1);
        reply.rtt_bound = RttBound::Upper;
    }
    probes.extend([other, samples::silent(2)]);
    let found = summary(&[trace]);
    let hop = &found.hops[0];
    assert_eq!((hop.several, hop.silent), (1.0, 0.0));
    near(hop.loss_where_answered, 1.0 / 3.0);
    let rtt = hop.rtt.as_ref().unwrap();
    assert_eq!(rtt.count, 1);
    near(rtt.max, 10_000.0);
}

#[test]
fn shared_hops_are_counted_where_they_were_probed() {
    let answers = [Some("10.0.1.1"), None, Some("10.0.3.1"), Some("10.0.9.2")];
    let mut shared = path(answers);
    shared.hops[0].shared = true;
    shared.hops[1].shared = true;
    let found = summary(&[path(answers), shared]);
    assert_eq!((found.sent, found.probes, found.answered), (6, 6, 5));
    assert_eq!((found.hops[0].traces, found.hops[2].traces), (1, 2));
    // The path has its silence all the same.
    assert_eq!(found.silences[0].traces, 2);
}

#[test]
fn nothing_is_a_summary_too() {
    let found = summary(&[]);
    assert_eq!((found.traces, found.first.as_deref()), (0, None));
    assert_eq!(
        text::text(&found),
        "0 traces\n\n0 probes sent; 0 up to the last answer of each trace, 0 of them answered (0 %)\n0 routers answered in transit\n0 traces with MPLS labels (0 %)\n"
    );
}

#[test]
fn the_text_has_every_section() {
    let text = text::text(&summary(&samples::all()));
    for words in [
        "17 traces, started 1970-01-01T00:00:00.000000Z to 2026-01-02T03:04:05.678901Z",
        "closed-by-peer                  1     5.9 %",
        "RTT, ms",
        "path length, hops",
        "silent hops behind",
        "TTL",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

proptest! {
    #[test]
    fn any_traces_have_figures(traces in prop::collection::vec(samples::any_trace(), 0..20)) {
        let found = summary(&traces);
        prop_assert_eq!(found.verdicts.iter().map(|(_, count)| count).sum::<u64>(), found.traces);
        prop_assert_eq!(found.kinds.iter().map(|(_, count)| count).sum::<u64>(), found.answered);
        let of_hops: u64 = found.hops.iter().map(|hop| hop.probes).sum();
        prop_assert_eq!(of_hops, found.probes);
        for hop in &found.hops {
            for part in [hop.loss, hop.silent, hop.several, hop.loss_where_answered] {
                prop_assert!((0.0..=1.0).contains(&part));
            }
        }
        let json = serde_json::to_string(&found).unwrap();
        prop_assert!(!json.contains("null,null,null"), "{}", json);
        let head = format!("{} traces", found.traces);
        prop_assert!(text::text(&found).starts_with(&head));
    }
}
