//! A summary as text.

use std::fmt::Write as _;

use super::{Figures, HopFigures, Quantiles};

/// The whole text.
#[must_use]
pub fn text(figures: &Figures) -> String {
    let mut out = String::new();
    let span = figures.first.as_deref().zip(figures.last.as_deref());
    let _ = write!(out, "{} traces", figures.traces);
    if let Some((first, last)) = span {
        let _ = write!(out, ", started {first} to {last}");
    }
    out.push('\n');
    if figures.bad_lines > 0 {
        let _ = writeln!(out, "{} bad lines, left out", figures.bad_lines);
    }
    let of_traces = |count| share(count, figures.traces);
    counts(&mut out, "verdict", "traces", &figures.verdicts, of_traces);
    let _ = writeln!(
        out,
        "\n{} probes sent; {} up to the last answer of each trace, {} of them answered ({})",
        figures.sent,
        figures.probes,
        figures.answered,
        share(figures.answered, figures.probes)
    );
    let about = if figures.routers_exact { "" } else { "about " };
    let _ = writeln!(
        out,
        "{about}{} routers answered in transit",
        figures.routers
    );
    let _ = writeln!(
        out,
        "{} traces with MPLS labels ({})",
        figures.labelled,
        of_traces(figures.labelled)
    );
    if figures.behind_nat > 0 {
        let _ = writeln!(
            out,
            "{} traces through a NAT, by the checksum of a quote ({})",
            figures.behind_nat,
            of_traces(figures.behind_nat)
        );
    }
    let of_answers = |count| share(count, figures.answered);
    counts(&mut out, "answer", "probes", &figures.kinds, of_answers);
    counts(
        &mut out,
        "rewritten",
        "traces",
        &figures.rewrites,
        of_traces,
    );
    times(&mut out, figures);
    lengths(&mut out, figures);
    hops(&mut out, &figures.hops);
    silences(&mut out, figures);
    out
}

/// A part in percent.
#[must_use]
pub fn share(count: u64, all: u64) -> String {
    percent(if all == 0 {
        0.0
    } else {
        count as f64 / all as f64
    })
}

/// Two digits that say something: 12 %, 1.2 %, 0.12 %.
#[must_use]
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent >= 99.95 => format!("{percent:.0} %"),
        _ if percent >= 1.0 => format!("{percent:.1} %"),
        _ if percent >= 0.01 => format!("{percent:.2} %"),
        _ => "< 0.01 %".to_owned(),
    }
}

/// Milliseconds of microseconds.
#[must_use]
pub fn millis(micros: f64) -> String {
    let millis = micros / 1_000.0;
    match millis {
        _ if millis >= 100.0 => format!("{millis:.0}"),
        _ if millis >= 10.0 => format!("{millis:.1}"),
        _ if millis >= 1.0 => format!("{millis:.2}"),
        _ => format!("{millis:.3}"),
    }
}

fn counts(
    out: &mut String,
    head: &str,
    unit: &str,
    counts: &[(&'static str, u64)],
    share: impl Fn(u64) -> String,
) {
    if counts.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{head:<20} {unit:>12} {:>9}", "part");
    for (word, count) in counts {
        let _ = writeln!(out, "{word:<20} {count:>12} {:>9}", share(*count));
    }
}

fn times(out: &mut String, figures: &Figures) {
    let rows = [
        ("handshake", &figures.handshake_rtt),
        ("destination", &figures.destination_rtt),
    ];
    let mut rows = rows
        .iter()
        .filter_map(|(name, of)| Some((name, of.as_ref()?)))
        .peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:<20} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "RTT, ms", "count", "min", "10 %", "median", "90 %", "99 %", "max"
    );
    for (name, of) in rows {
        let _ = write!(out, "{name:<20} {:>12}", of.count);
        for value in [of.min, of.p10, of.p50, of.p90, of.p99, of.max] {
            let _ = write!(out, " {:>9}", millis(value));
        }
        out.push('\n');
    }
}

/// As bars of text: the longest has forty places.
fn lengths(out: &mut String, figures: &Figures) {
    let most = figures.path_lengths.iter().map(|(_, traces)| *traces).max();
    let Some(most) = most else {
        return;
    };
    let all: u64 = figures.path_lengths.iter().map(|(_, traces)| traces).sum();
    let _ = writeln!(
        out,
        "\n{:<20} {:>12} {:>9}",
        "path length, hops", "traces", "part"
    );
    for (ttl, traces) in &figures.path_lengths {
        // Less than a place is a place: it is not nothing.
        let places = (traces * 40).div_ceil(most) as usize;
        let _ = writeln!(
            out,
            "{ttl:<20} {traces:>12} {:>9} {}",
            share(*traces, all),
            "#".repeat(places)
        );
    }
}

fn hops(out: &mut String, hops: &[HopFigures]) {
    if hops.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:>3} {:>12} {:>12} {:>8} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "TTL",
        "traces",
        "probes",
        "loss",
        "silent",
        "loss else",
        "several",
        "10 % ms",
        "median",
        "90 %"
    );
    for hop in hops {
        let _ = write!(
            out,
            "{:>3} {:>12} {:>12} {:>8} {:>9} {:>9} {:>8}",
            hop.ttl,
            hop.traces,
            hop.probes,
            percent(hop.loss),
            percent(hop.silent),
            percent(hop.loss_where_answered),
            percent(hop.several)
        );
        let value = |of: fn(&Quantiles) -> f64| {
            hop.rtt
                .as_ref()
                .map_or("-".to_owned(), |rtt| millis(of(rtt)))
        };
        for text in [value(|it| it.p10), value(|it| it.p50), value(|it| it.p90)] {
            let _ = write!(out, " {text:>9}");
        }
        out.push('\n');
    }
    out.push_str(
        "up to the last answer of each trace; loss: probes without an answer; silent: traces in which\n\
         none of a hop's was answered; loss else: loss at the other hops; several: traces in which\n\
         more than one router answered\n",
    );
}

fn silences(out: &mut String, figures: &Figures) {
    if figures.silences.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:<40} {:>10} {:>12} {:>10}",
        "silent hops behind", "traces", "to the end", "hops, mean"
    );
    for silence in &figures.silences {
        let _ = writeln!(
            out,
            "{:<40} {:>10} {:>12} {:>10.1}",
            silence.behind.as_deref().unwrap_or("(the first hops)"),
            silence.traces,
            silence.to_the_end,
            silence.hops
        );
    }
    if figures.silences_undercount > 0 {
        let _ = writeln!(
            out,
            "too many places to keep them all: traces are too low by up to {}",
            figures.silences_undercount
        );
    }
}
