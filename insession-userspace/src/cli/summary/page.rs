//! A summary as one page that needs nothing else: plots inside, light and dark.

use std::fmt::Write as _;

use crate::bench::Figure;
use crate::bench::html::{begin, escape, figures as list};
use crate::bench::plot::{self, Bars, Corner, Lines, Plot};
use crate::bench::text::number;
use crate::report::summary::text::{millis, percent, share};
use crate::report::summary::{Figures, HopFigures, Quantiles};

/// The whole page.
pub(super) fn page(figures: &Figures, names: &[String]) -> String {
    let mut out = begin("insession summary");
    list(&mut out, &head(figures, names));
    if figures.bad_lines > 0 {
        let _ = writeln!(
            out,
            "<p class=\"warn\">{} bad lines, left out.</p>",
            figures.bad_lines
        );
    }
    verdicts(&mut out, figures);
    times(&mut out, figures);
    lengths(&mut out, figures);
    hops(&mut out, figures);
    silences(&mut out, figures);
    answers(&mut out, figures);
    let _ = writeln!(out, "<p>{}</p>\n</body>\n</html>", escape(figures.schema));
    out
}

fn head(figures: &Figures, names: &[String]) -> Vec<(&'static str, String)> {
    let whole = |count: u64| number(count as f64);
    let mut rows = vec![
        ("results", names.join(", ")),
        ("traces", whole(figures.traces)),
    ];
    if let (Some(first), Some(last)) = (&figures.first, &figures.last) {
        rows.push(("started", format!("{first} to {last}")));
    }
    let answered = share(figures.answered, figures.probes);
    rows.push((
        "probes",
        format!(
            "{} sent; {} up to the last answer of each trace, {} of them answered ({answered})",
            whole(figures.sent),
            whole(figures.probes),
            whole(figures.answered)
        ),
    ));
    let about = if figures.routers_exact { "" } else { "about " };
    rows.push((
        "routers",
        format!("{about}{} answered in transit", whole(figures.routers)),
    ));
    let labelled = share(figures.labelled, figures.traces);
    rows.push((
        "MPLS labels",
        format!("in {} traces ({labelled})", whole(figures.labelled)),
    ));
    rows
}

fn section(out: &mut String, title: &str, note: &str) {
    let _ = writeln!(out, "<h2>{title}</h2>");
    if !note.is_empty() {
        let _ = writeln!(out, "<p>{note}</p>");
    }
}

fn draw(out: &mut String, plot: &Plot) {
    out.push_str(&plot::svg(plot));
    out.push('\n');
}

fn bars(out: &mut String, title: &str, unit: &str, counts: &[(&'static str, u64)]) {
    let bar =
        |(word, count): &(&'static str, u64)| ((*word).to_owned(), Figure::new([*count as f64]));
    draw(
        out,
        &Plot::Bars(Bars {
            title: title.to_owned(),
            unit: unit.to_owned(),
            bars: counts.iter().map(bar).collect(),
        }),
    );
}

/// A table: heads, those of numbers to the right, and rows of cells.
fn table(out: &mut String, heads: &[&str], numbers_from: usize, rows: &[Vec<String>]) {
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    let class = |nth: usize| {
        if nth >= numbers_from {
            " class=\"n\""
        } else {
            ""
        }
    };
    for (nth, head) in heads.iter().enumerate() {
        let _ = write!(out, "<th{}>{head}</th>", class(nth));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for (nth, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(nth), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn verdicts(out: &mut String, figures: &Figures) {
    section(out, "Verdicts", "How traces ended.");
    bars(out, "Verdicts", "traces", &figures.verdicts);
    let row = |(word, count): &(&'static str, u64)| {
        let part = share(*count, figures.traces);
        vec![(*word).to_owned(), number(*count as f64), part]
    };
    let rows: Vec<_> = figures.verdicts.iter().map(row).collect();
    table(out, &["verdict", "traces", "part"], 1, &rows);
}

fn times(out: &mut String, figures: &Figures) {
    let named = [
        ("handshake", &figures.handshake_rtt),
        ("destination", &figures.destination_rtt),
    ];
    let named: Vec<_> = named
        .into_iter()
        .filter_map(|(name, of)| Some((name, of.as_ref()?)))
        .collect();
    if named.is_empty() {
        return;
    }
    section(
        out,
        "Round-trip times",
        "SYN to SYN-ACK, and probe to the destination's answer; to 1 %. Times that are only bounds are left out.",
    );
    let curve = |(name, of): &(&str, &Quantiles)| {
        let points = of
            .curve
            .iter()
            .map(|(micros, part)| (micros / 1e3, part * 100.0));
        ((*name).to_owned(), points.collect())
    };
    draw(
        out,
        &Plot::Lines(Lines {
            title: "Part that is no slower".to_owned(),
            x: "RTT, ms".to_owned(),
            y: "%".to_owned(),
            log_x: true,
            smooth: true,
            names: Corner::UpperLeft,
            series: named.iter().map(curve).collect(),
            ..Lines::default()
        }),
    );
    let row = |(name, of): &(&str, &Quantiles)| {
        let mut row = vec![(*name).to_owned(), number(of.count as f64)];
        row.extend([of.min, of.p10, of.p50, of.p90, of.p99, of.max].map(millis));
        row
    };
    let rows: Vec<_> = named.iter().map(row).collect();
    let heads = [
        "ms", "count", "min", "10 %", "median", "90 %", "99 %", "max",
    ];
    table(out, &heads, 1, &rows);
}

fn lengths(out: &mut String, figures: &Figures) {
    if figures.path_lengths.is_empty() {
        return;
    }
    section(
        out,
        "Path lengths",
        "The smallest TTL that reached the destination.",
    );
    let bar = |(ttl, traces): &(u8, u64)| {
        let hops = if *ttl == 1 { "hop" } else { "hops" };
        (format!("{ttl} {hops}"), Figure::new([*traces as f64]))
    };
    draw(
        out,
        &Plot::Bars(Bars {
            title: "Path lengths".to_owned(),
            unit: "traces".to_owned(),
            bars: figures.path_lengths.iter().map(bar).collect(),
        }),
    );
}

fn hops(out: &mut String, figures: &Figures) {
    if figures.hops.is_empty() {
        return;
    }
    section(
        out,
        "By TTL",
        "Up to the last answer of each trace. Loss: probes without an answer. Silent: traces in which none of a hop’s was answered. Loss else: at the other hops. Several: traces in which more than one router answered.",
    );
    let line = |name: &str, of: &dyn Fn(&HopFigures) -> Option<f64>| {
        let point = |hop: &HopFigures| Some((f64::from(hop.ttl), of(hop)?));
        (
            name.to_owned(),
            figures.hops.iter().filter_map(point).collect(),
        )
    };
    let time = |of: fn(&Quantiles) -> f64| {
        move |hop: &HopFigures| hop.rtt.as_ref().map(|rtt| of(rtt) / 1e3)
    };
    draw(
        out,
        &Plot::Lines(Lines {
            title: "Round-trip time by TTL".to_owned(),
            x: "TTL".to_owned(),
            y: "ms".to_owned(),
            log_y: true,
            names: Corner::LowerRight,
            series: vec![
                line("90 %", &time(|it| it.p90)),
                line("median", &time(|it| it.p50)),
                line("10 %", &time(|it| it.p10)),
            ],
            ..Lines::default()
        }),
    );
    draw(
        out,
        &Plot::Lines(Lines {
            title: "Loss by TTL".to_owned(),
            x: "TTL".to_owned(),
            y: "%".to_owned(),
            series: vec![
                line("loss", &|hop| Some(hop.loss * 100.0)),
                line("silent", &|hop| Some(hop.silent * 100.0)),
                line("loss else", &|hop| Some(hop.loss_where_answered * 100.0)),
            ],
            ..Lines::default()
        }),
    );
    let row = |hop: &HopFigures| {
        let mut row = vec![hop.ttl.to_string()];
        row.extend([hop.traces, hop.probes].map(|count| number(count as f64)));
        row.extend([hop.loss, hop.silent, hop.loss_where_answered, hop.several].map(percent));
        let value = |of: fn(&Quantiles) -> f64| {
            hop.rtt
                .as_ref()
                .map_or("–".to_owned(), |rtt| millis(of(rtt)))
        };
        row.extend([value(|it| it.p10), value(|it| it.p50), value(|it| it.p90)]);
        row
    };
    let rows: Vec<_> = figures.hops.iter().map(row).collect();
    let heads = [
        "TTL",
        "traces",
        "probes",
        "loss",
        "silent",
        "loss else",
        "several",
        "10 % ms",
        "median ms",
        "90 % ms",
    ];
    table(out, &heads, 0, &rows);
}

fn silences(out: &mut String, figures: &Figures) {
    if figures.silences.is_empty() {
        return;
    }
    section(
        out,
        "Silent hops",
        "Where silence begins: by the router before it. To the end: nothing answered any more.",
    );
    if figures.silences_undercount > 0 {
        let _ = writeln!(
            out,
            "<p class=\"warn\">Too many places to keep them all: traces are too low by up to {}.</p>",
            figures.silences_undercount
        );
    }
    let rows: Vec<_> = figures
        .silences
        .iter()
        .map(|silence| {
            let behind = silence.behind.as_deref().unwrap_or("(the first hops)");
            vec![
                behind.to_owned(),
                number(silence.traces as f64),
                number(silence.to_the_end as f64),
                format!("{:.1}", silence.hops),
            ]
        })
        .collect();
    table(
        out,
        &["behind", "traces", "to the end", "hops, mean"],
        1,
        &rows,
    );
}

fn answers(out: &mut String, figures: &Figures) {
    if !figures.kinds.is_empty() {
        section(out, "Answers", "");
        bars(out, "Answers", "probes", &figures.kinds);
    }
    if !figures.rewrites.is_empty() {
        section(
            out,
            "Rewrites",
            "Traces in which a quote showed something changed on the way.",
        );
        bars(out, "Rewrites", "traces", &figures.rewrites);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::report::summary::Summary;

    fn figures() -> Figures {
        let mut summary = Summary::default();
        samples::all().iter().for_each(|trace| summary.add(trace));
        summary.figures(3)
    }

    #[test]
    fn every_figure_is_in_the_page() {
        let figures = figures();
        let page = page(&figures, &["a<b>.jsonl".to_owned()]);
        for (word, _) in figures
            .verdicts
            .iter()
            .chain(&figures.kinds)
            .chain(&figures.rewrites)
        {
            assert!(page.contains(word), "{word}");
        }
        for silence in &figures.silences {
            let behind = silence.behind.as_deref().unwrap_or("(the first hops)");
            assert!(page.contains(&format!("<td>{behind}</td>")), "{behind}");
        }
        for hop in &figures.hops {
            assert!(page.contains(&format!("<td class=\"n\">{}</td>", hop.ttl)));
        }
        assert!(page.contains("3 bad lines"));
        assert!(page.contains("a&lt;b&gt;.jsonl") && !page.contains("<b>"));
        let tags = |tag: &str| page.matches(tag).count();
        assert_eq!(tags("<svg"), 7);
        assert_eq!(tags("<table"), tags("</table>"));
        assert_eq!(tags("<table"), 4);
        // Nothing is fetched.
        assert!(!page.contains("<script") && !page.contains(" src=") && !page.contains("<link"));
    }

    #[test]
    fn nothing_is_a_page_too() {
        let page = page(&Summary::default().figures(0), &[]);
        assert!(page.contains("</html>") && !page.contains("NaN"));
    }
}
