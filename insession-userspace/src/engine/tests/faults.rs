//! What a worker does when something is wrong: it is stopped, the link fails,
//! nobody reads, stamps lie.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insession_common::flow::{SessionId, UNRESOLVED};
use tokio::sync::mpsc;

use super::tap::Tap;
use super::traces::{check, jobs, trace, tree};
use super::{PLENTY, options, records};
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Output, Stop};
use crate::link::LinkError;
use crate::link::sim::{Line, SimLink};
use crate::session::{CloseMode, SessionOptions};
use crate::time::Instant;
use crate::trace::{ReplyKind, Verdict};

fn after(millis: u64) -> Instant {
    SimLink::BEGIN + Duration::from_millis(millis)
}

fn stopped_at(millis: u64, options: &EngineOptions) {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
    let link = SimLink::new(tree(600, 5, Line::default()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    tap.stop_at = Some((after(millis), Arc::clone(&stop)));
    let shared = Shared::new(options, &outputs, &stop, &stats);
    worker::run(&mut tap, &mut jobs(600), &shared).unwrap();
    let records = records(&mut read);
    assert_eq!(records.len(), 600);
    let of = |verdict| {
        records
            .iter()
            .filter(move |record| record.verdict == verdict)
    };
    assert_eq!(
        of(Verdict::Complete).count() + of(Verdict::Interrupted).count(),
        600
    );
    assert!(of(Verdict::Interrupted).any(|record| record.source_port.is_none()));
    assert!(of(Verdict::Interrupted).any(|record| !record.hops.is_empty()));
    for record in records.iter().filter(|record| record.source_port.is_some()) {
        check(record, &truth.lock().unwrap());
    }
    assert!(tap.opened() > 0);
    assert_eq!(tap.left_open(), 0);
    assert_eq!(tap.flows.len(), 0);
    // Two seconds to close, at least one RST a connection.
    let last = tap.kicks.last().unwrap().0;
    assert!(last <= after(millis + 4_000));
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
    assert_eq!(stats.finished.load(Ordering::Relaxed), 600);
}

#[test]
fn a_stop_closes_every_connection() {
    let options = EngineOptions {
        sessions: 100,
        ..options()
    };
    stopped_at(40, &options);
}

#[test]
fn a_stop_closes_every_connection_politely() {
    let options = EngineOptions {
        sessions: 100,
        session: SessionOptions {
            close: CloseMode::Fin,
            ..SessionOptions::default()
        },
        ..options()
    };
    stopped_at(40, &options);
}

#[test]
fn a_stop_is_paced_and_yet_in_time() {
    let options = EngineOptions {
        rate: Some(300.0),
        ..options()
    };
    stopped_at(1_500, &options);
}

#[test]
fn when_the_link_goes_down_what_was_learnt_is_kept() {
    let (outputs, mut read) = mpsc::channel(PLENTY);
    let (stop, stats) = (Stop::new(), Stats::default());
    let link = SimLink::new(tree(600, 5, Line::default()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    tap.down_at = Some(after(200));
    let options = EngineOptions {
        sessions: 100,
        ..options()
    };
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    let result = worker::run(&mut tap, &mut jobs(600), &shared);
    assert!(matches!(result, Err(LinkError::Down(_))));
    let records = records(&mut read);
    assert_eq!(records.len(), 600);
    let (complete, failed): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|record| record.verdict == Verdict::Complete);
    assert!(!complete.is_empty());
    assert!(failed.iter().any(|record| !record.hops.is_empty()));
    assert!(failed.iter().any(|record| record.source_port.is_none()));
    for record in failed {
        assert_eq!(record.verdict, Verdict::Error);
        assert_eq!(
            record.detail,
            Some(LinkError::Down("sim0".into()).to_string())
        );
    }
    for record in records.iter().filter(|record| record.source_port.is_some()) {
        check(record, &truth.lock().unwrap());
    }
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
    assert_eq!(stats.established.load(Ordering::Relaxed), 0);
}

#[test]
fn a_slow_reader_holds_back_new_sessions_and_loses_nothing() {
    let (outputs, mut read) = mpsc::channel(4);
    let (stop, stats) = (Stop::new(), Stats::default());
    let options = EngineOptions {
        live: true,
        sessions: 20,
        ..options()
    };
    let mut tap = Tap::new(SimLink::new(tree(300, 3, Line::default()), 1));
    tap.reader = Some((&mut read, after(5_000)));
    let shared = Shared::new(&options, &outputs, &stop, &stats);
    worker::run(&mut tap, &mut jobs(300), &shared).unwrap();
    assert_eq!(tap.left_open(), 0);
    let held_back = tap.added.iter().filter(|at| **at < after(5_000));
    assert_eq!(held_back.count(), 20);
    let mut outputs = core::mem::take(&mut tap.outputs);
    drop(tap);
    while let Ok(output) = read.try_recv() {
        outputs.push(output);
    }
    let mut traces = std::collections::BTreeSet::new();
    for output in outputs {
        if let Output::Trace { index, .. } = output {
            assert!(traces.insert(index));
        }
    }
    assert_eq!(traces.len(), 300);
}

#[test]
fn a_reply_stamped_with_another_session_reaches_neither() {
    let mut tap = Tap::new(SimLink::new(tree(40, 3, Line::default()), 1));
    tap.alter = Some(Box::new(|_, session: &mut SessionId| *session ^= 1));
    let (records, stats) = trace(&mut tap, jobs(40), &options());
    for record in &records {
        assert_eq!(record.verdict, Verdict::HandshakeTimeout);
        assert!(record.hops.is_empty());
    }
    assert_eq!(stats.replies.load(Ordering::Relaxed), 0);
    assert!(stats.unclaimed.load(Ordering::Relaxed) >= 40);
}

#[test]
fn quotes_that_the_map_could_not_name_find_their_session() {
    let link = SimLink::new(tree(200, 4, Line::default()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    tap.alter = Some(Box::new(|packet, session| {
        if packet[9] == 1 {
            *session = UNRESOLVED;
        }
    }));
    let (records, stats) = trace(&mut tap, jobs(200), &options());
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete);
        let exceeded = record
            .hops
            .iter()
            .flat_map(|hop| &hop.probes)
            .filter(|probe| {
                let reply = probe.reply.as_ref();
                reply.is_some_and(|reply| reply.kind == ReplyKind::TimeExceeded)
            });
        assert_eq!(exceeded.count(), 12);
        check(record, &truth.lock().unwrap());
    }
    assert_eq!(stats.unclaimed.load(Ordering::Relaxed), 0);
}

#[test]
fn frames_that_are_broken_are_counted_and_nothing_else() {
    let mut tap = Tap::new(SimLink::new(tree(10, 3, Line::default()), 1));
    let mut n = 0_usize;
    tap.alter = Some(Box::new(move |packet, _| {
        n += 1;
        match n % 3 {
            0 => packet.truncate(n % packet.len()),
            1 => packet[8] ^= 0x55,
            _ => packet.clear(),
        }
    }));
    let (records, stats) = trace(&mut tap, jobs(10), &options());
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::HandshakeTimeout)
    );
    assert_eq!(stats.replies.load(Ordering::Relaxed), 0);
    assert!(stats.malformed.load(Ordering::Relaxed) >= 10);
}

#[test]
fn a_flow_map_full_of_ended_sessions_makes_room_for_new_ones() {
    let mut tap = Tap::new(SimLink::new(tree(300, 3, Line::default()), 1));
    tap.capacity = 60;
    let options = EngineOptions {
        sessions: 50,
        ..options()
    };
    let (records, _) = trace(&mut tap, jobs(300), &options);
    assert!(tap.refused > 0);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
}

#[test]
fn a_flow_map_that_is_too_small_is_an_error_of_the_target() {
    let mut tap = Tap::new(SimLink::new(tree(100, 3, Line::default()), 1));
    tap.capacity = 60;
    let (records, stats) = trace(&mut tap, jobs(100), &options());
    let complete = records
        .iter()
        .filter(|record| record.verdict == Verdict::Complete);
    assert_eq!(complete.count(), 60);
    let errors = records
        .iter()
        .filter(|record| record.verdict == Verdict::Error);
    for error in errors {
        assert_eq!(error.source_port, None);
        assert!(
            error
                .detail
                .as_deref()
                .unwrap()
                .starts_with("adding a flow")
        );
    }
    assert_eq!(stats.open.load(Ordering::Relaxed), 0);
}

#[test]
fn a_ring_that_is_fuller_than_it_said_costs_no_segment() {
    let link = SimLink::new(tree(100, 3, Line::default()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    tap.full_every = Some(7);
    let (records, _) = trace(&mut tap, jobs(100), &options());
    for record in &records {
        assert_eq!(record.verdict, Verdict::Complete);
        // Three routers and the server, three probes each, all of them answered.
        assert_eq!(check(record, &truth.lock().unwrap()), 12);
    }
    assert_eq!(tap.left_open(), 0);
}
