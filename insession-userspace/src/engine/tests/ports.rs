//! Lists that name one target more often than there are ports to it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tap::Tap;
use super::traces::{check, server_address, trace, tree};
use super::{PLENTY, options, records, route, target};
use crate::engine::jobs::Job;
use crate::engine::stats::Stats;
use crate::engine::worker::{self, Shared};
use crate::engine::{EngineOptions, Stop};
use crate::link::sim::{Line, SimLink};
use crate::trace::Verdict;

/// The targets with these numbers.
fn jobs(numbers: impl IntoIterator<Item = u32>) -> VecDeque<Job> {
    let jobs = numbers.into_iter().enumerate().map(|(index, n)| Job {
        target: target(index as u64, server_address(n)),
        route: route(1),
    });
    jobs.collect()
}

fn narrow() -> EngineOptions {
    EngineOptions {
        ports: 61_000..=61_019,
        ..options()
    }
}

#[test]
fn a_target_named_thousands_of_times_is_traced_as_often_and_others_do_not_wait() {
    const TIMES: u32 = 3_000;
    const OTHERS: u32 = 200;
    let link = SimLink::new(tree(1 + OTHERS, 3, Line::default()), 1);
    let truth = link.truth();
    let mut tap = Tap::new(link);
    // One of another target behind every fifteenth.
    let numbers = (0..TIMES + OTHERS).scan(0, |other, n| {
        Some(match n % 16 {
            15 if *other < OTHERS => {
                *other += 1;
                *other
            }
            _ => 0,
        })
    });
    let numbers: Vec<u32> = numbers.collect();
    let (records, _) = trace(&mut tap, jobs(numbers.iter().copied()), &narrow());
    assert_eq!(records.len(), numbers.len());
    let mut last = HashMap::new();
    let mut order = HashMap::new();
    for (record, n) in records.iter().zip(&numbers) {
        assert_eq!(record.verdict, Verdict::Complete, "{:?}", record.detail);
        check_ports(record.source_port);
        let begun: &mut Vec<_> = order.entry(n.min(&1)).or_default();
        begun.push(record.started);
        let end = last.entry(n.min(&1)).or_insert(record.started);
        *end = record.started.max(*end);
    }
    // Twenty at a time, each as long as the trace and what lingers behind it.
    let first = records.iter().map(|record| record.started).min().unwrap();
    let after = |moment: crate::time::UnixTime| Duration::from_nanos(moment.0 - first.0);
    assert!(after(last[&0]) > Duration::from_secs(5));
    assert!(
        after(last[&1]) < Duration::from_secs(1),
        "{:?}",
        after(last[&1])
    );
    // First come, first served.
    assert!(order[&0].is_sorted());
    // Flows are used again, one after the other: the truth has them all.
    let truth = truth.lock().unwrap();
    let flows: HashSet<_> = truth.flows().collect();
    assert!(flows.len() <= 20 * (1 + OTHERS as usize));
    for (record, n) in records.iter().zip(&numbers) {
        if *n > 0 {
            assert_eq!(check(record, &truth), 12);
        }
    }
    assert_eq!((tap.left_open(), tap.flows.len()), (0, 0));
}

fn check_ports(port: Option<u16>) {
    assert!(port.is_some_and(|port| (61_000..=61_019).contains(&port)));
}

#[test]
fn when_as_many_wait_as_may_no_more_are_taken() {
    // The other target stands behind more than can wait.
    let mut tap = Tap::new(SimLink::new(tree(2, 3, Line::default()), 1));
    let numbers = std::iter::repeat_n(0, 4_300).chain([1]);
    let (records, _) = trace(&mut tap, jobs(numbers), &narrow());
    assert_eq!(records.len(), 4_301);
    assert!(
        records
            .iter()
            .all(|record| record.verdict == Verdict::Complete)
    );
}

#[test]
fn ports_that_are_somebody_elses_for_ever_are_an_error_that_names_the_mend() {
    let mut tap = Tap::new(SimLink::new(tree(2, 3, Line::default()), 2));
    tap.taken = Some(|flow| flow.remote.ip() == server_address(0));
    let numbers = (0..60).map(|n| n % 2);
    let (records, _) = trace(&mut tap, jobs(numbers), &narrow());
    for (n, record) in records.iter().enumerate() {
        if n % 2 == 1 {
            assert_eq!(record.verdict, Verdict::Complete);
            continue;
        }
        assert_eq!(record.verdict, Verdict::Error);
        let detail = record.detail.as_deref().unwrap();
        assert!(detail.starts_with("port range 61000-61019 exhausted for target 198.51.0.0:80"));
        assert!(detail.contains("widen --source-ports"));
    }
}

#[test]
fn flows_that_become_somebody_elses_leave_nobody_waiting() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ADDED: AtomicUsize = AtomicUsize::new(0);
    let mut tap = Tap::new(SimLink::new(tree(1, 3, Line::default()), 2));
    // Whoever is steered for the first time is ours; then all are others'.
    tap.taken = Some(|_| ADDED.fetch_add(1, Ordering::Relaxed) >= 20);
    let (records, _) = trace(&mut tap, jobs([0; 50]), &narrow());
    let of = |verdict| {
        let records = records.iter();
        records
            .filter(move |record| record.verdict == verdict)
            .count()
    };
    assert_eq!((of(Verdict::Complete), of(Verdict::Error)), (20, 30));
}

#[test]
fn those_that_wait_are_told_of_when_the_run_is_stopped_or_the_link_dies() {
    for dies in [false, true] {
        let (outputs, mut read) = mpsc::channel(PLENTY);
        let (stop, stats) = (Arc::new(Stop::new()), Stats::default());
        let mut tap = Tap::new(SimLink::new(tree(1, 3, Line::default()), 1));
        let at = SimLink::BEGIN + Duration::from_millis(500);
        if dies {
            tap.down_at = Some(at);
        } else {
            tap.drain_at = Some((at, Duration::from_secs(9), Arc::clone(&stop)));
        }
        let options = narrow();
        let shared = Shared::new(&options, &outputs, &stop, &stats);
        let result = worker::run(&mut tap, &mut jobs([0; 500]), &shared);
        assert_eq!(result.is_err(), dies);
        let records = records(&mut read);
        assert_eq!(records.len(), 500);
        let complete = records
            .iter()
            .filter(|record| record.verdict == Verdict::Complete);
        assert!((40..400).contains(&complete.count()));
    }
}
