//! What is said at the end of a run, and when SIGUSR1 asks: on standard error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::campaign::account::Moment;
use crate::campaign::observed::{BOUNDS, Distribution};

/// The run at a moment, in lines; `before` are the verdicts of earlier runs of the
/// campaign.
#[must_use]
pub fn text(now: &Moment, before: &BTreeMap<String, u64>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    let seconds = now.elapsed.as_secs_f64();
    let fresh = now.done - now.before;
    match now.total {
        Some(total) => line(format_args!("targets: {} of {total} done", now.done)),
        None => line(format_args!("targets: {} done", now.done)),
    }
    if now.before > 0 {
        line(format_args!("  {} of them by earlier runs", now.before));
    }
    line(format_args!(
        "time: {seconds:.1} s, {:.0} targets/s",
        fresh as f64 / seconds.max(1e-3)
    ));
    let mut sums = before.clone();
    for (verdict, count) in now.seen.by_verdict() {
        *sums.entry(verdict.as_str().to_owned()).or_default() += count;
    }
    let mut verdicts: Vec<_> = sums.into_iter().collect();
    verdicts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let verdicts: Vec<String> = verdicts
        .iter()
        .map(|(verdict, count)| format!("{verdict} {count}"))
        .collect();
    if !verdicts.is_empty() {
        line(format_args!("verdicts: {}", verdicts.join(", ")));
    }
    if now.bad_lines > 0 {
        line(format_args!("bad lines: {}", now.bad_lines));
    }
    line(format_args!(
        "packets: {} sent, {} of them probes; {} replies",
        now.sent, now.probes, now.replies
    ));
    if now.saved > 0 {
        let whole = (now.saved + now.probes).max(1);
        line(format_args!(
            "near hops shared: {} probes saved, {:.0} % of all",
            now.saved,
            now.saved as f64 * 100.0 / whole as f64
        ));
    }
    if now.slowed > 0 {
        line(format_args!(
            "slowed down for routers: {} times",
            now.slowed
        ));
    }
    if let Some(loss) = now.loss() {
        line(format_args!(
            "probes without an answer: {:.2} %",
            loss * 100.0
        ));
    }
    for (name, spans) in [
        ("handshake", &now.seen.handshakes),
        ("probe", &now.seen.round_trips),
        ("session", &now.seen.sessions),
    ] {
        if let (Some(half), Some(most)) = (quantile(spans, 0.5), quantile(spans, 0.99)) {
            line(format_args!(
                "{name}: half within {half}, 99 % within {most}"
            ));
        }
    }
    if !now.drops.is_empty() {
        let drops: Vec<String> = now
            .drops
            .iter()
            .map(|(it, n)| format!("{it} {n}"))
            .collect();
        line(format_args!("lost on this host: {}", drops.join(", ")));
    }
    if now.open > 0 {
        line(format_args!(
            "sessions: {} open, {} established",
            now.open, now.established
        ));
    }
    text
}

/// The bound that this part of the durations does not exceed.
fn quantile(spans: &Distribution, part: f64) -> Option<String> {
    let wanted = (spans.count() as f64 * part).ceil() as u64;
    let mut sum = 0;
    for (nth, count) in spans.counts.iter().enumerate() {
        sum += count;
        if sum >= wanted && wanted > 0 {
            let bound = BOUNDS.get(nth).copied().map(Duration::from_nanos);
            return Some(bound.map_or_else(|| "more than 10s".to_owned(), |it| format!("{it:?}")));
        }
    }
    None
}
