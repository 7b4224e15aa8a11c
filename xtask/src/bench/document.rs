//! The results for people: a table on the terminal, and docs/performance.md with
//! its plots.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use insession::bench::Figure;
use insession::bench::plot::{self, Bars, Lines, Plot};

use crate::reckon;
use crate::rows::{Document, Row, Sense};
use crate::statistics::Spread;

/// The page.
const PAGE: &str = "docs/performance.md";

/// A line a row.
pub fn table(document: &Document) -> String {
    let mut text = format!(
        "\n{:20} {:>14} {:>14} {:18} {:>8} {:>8}  holds\n",
        "row", "ours", "reference", "unit", "ratio", "target"
    );
    for row in &document.rows {
        let _ = writeln!(
            text,
            "{:20} {:>14} {:>14} {:18} {:>8} {:>8}  {}",
            row.name,
            figure(row.ours),
            figure(row.reference),
            row.unit,
            row.ratio
                .map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
            bound(row),
            holds(row),
        );
        if !row.note.is_empty() && row.holds != Some(true) {
            let _ = writeln!(text, "{:20} {}", "", row.note);
        }
    }
    text.push('\n');
    text
}

/// Writes the page; the files that were written.
pub fn write(document: &Document) -> Result<Vec<PathBuf>> {
    let mut written = vec![PathBuf::from(PAGE)];
    let mut plots = Vec::new();
    for (name, plot) in drawings(document) {
        let drawn = plot::svg(&plot);
        if drawn.is_empty() {
            continue;
        }
        let path = Path::new("docs").join(name);
        std::fs::write(&path, drawn + "\n").with_context(|| path.display().to_string())?;
        written.push(path);
        plots.push(name);
    }
    std::fs::write(PAGE, page(document, &plots)).with_context(|| PAGE.to_owned())?;
    Ok(written)
}

/// Plots, as far as there is something to draw, and their files.
fn drawings(document: &Document) -> Vec<(&'static str, Plot)> {
    let mut drawings = Vec::new();
    for (file, title, row, figure) in [
        (
            "cpu-per-probe.svg",
            "CPU a probe sent",
            "tx-vs-scanners",
            "µs of CPU a probe",
        ),
        (
            "traces-per-cpu-second.svg",
            "Complete traces a CPU-second",
            "traces-vs-scamper",
            "traces/CPU-s",
        ),
    ] {
        let behind = |row: &Row| -> Vec<(String, Figure)> {
            row.details
                .iter()
                .filter_map(|(name, value)| {
                    let arm = name.strip_suffix(figure)?.strip_suffix(": ")?;
                    Some((arm.to_owned(), Figure::new([*value])))
                })
                .collect()
        };
        let found = document.rows.iter().find(|other| other.name == row);
        let bars = found.map(behind).unwrap_or_default();
        if !bars.is_empty() {
            let (title, unit) = (title.to_owned(), figure.to_owned());
            drawings.push((file, Plot::Bars(Bars { title, unit, bars })));
        }
    }
    let line = |values: &serde_json::Value, x: &str, y: &[&str]| -> Vec<(f64, f64)> {
        let points = values.as_array().into_iter().flatten();
        points
            .filter_map(|point| {
                let value = y.iter().fold(point, |value, name| &value[*name]);
                Some((point[x].as_f64()?, value.as_f64()?))
            })
            .collect()
    };
    for (file, title, y, x, values, series) in [
        (
            "cost-per-probe.svg",
            "Cost a probe over the number of sessions, link in memory",
            "ns of CPU a probe",
            "sessions",
            &document.curve,
            [("engine", "cpu"), ("link", "link")],
        ),
        (
            "xdp-cost.svg",
            "A packet in the XDP program over the number of flows",
            "ns a packet",
            "flows",
            &document.xdp["hits"],
            [("SACK", "sack"), ("time exceeded", "time_exceeded")],
        ),
    ] {
        let series: Vec<_> = series
            .into_iter()
            .map(|(name, member)| (name.to_owned(), line(values, x, &[member, "median"])))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        if !series.is_empty() {
            let lines = Lines {
                title: title.to_owned(),
                x: x.to_owned(),
                y: y.to_owned(),
                log_x: true,
                series,
                ..Lines::default()
            };
            drawings.push((file, Plot::Lines(lines)));
        }
    }
    drawings
}

fn page(document: &Document, plots: &[&str]) -> String {
    let machine = &document.machine;
    let mut text = String::from(
        "# Performance\n\nWritten by `cargo xtask bench`; do not edit. Every figure is of one run on one machine, ours and peers interleaved against the same reflector, each the median over the rounds with the least and the most behind it. Ratios are taken within a round.\n\n",
    );
    let _ = writeln!(
        text,
        "{}, {} processors{}{}, {:.0} GiB, Linux {}; load when it began {:.2}; {} rounds; {:.0} min in all.{}\n",
        machine.cpu,
        machine.cpus,
        machine
            .threads_a_core
            .map_or_else(String::new, |threads| format!(", {threads} threads a core")),
        if machine.virtual_machine {
            ", virtual"
        } else {
            ""
        },
        machine.memory as f64 / f64::from(1 << 30),
        machine.kernel,
        machine.load,
        document.rounds,
        document.seconds / 60.0,
        if document.quick {
            " **A quick run: not to be quoted.**"
        } else {
            ""
        },
    );
    text += "## Targets\n\n| row | ours | reference | unit | ratio | target | holds |\n|---|---|---|---|---|---|---|\n";
    for row in &document.rows {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            row.name,
            spread(row.ours_spread),
            spread(row.reference_spread),
            row.unit,
            row.ratio_spread.map_or_else(
                || "–".into(),
                |ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max)
            ),
            bound(row),
            holds(row),
        );
    }
    for plot in plots {
        let _ = writeln!(text, "\n![{}]({plot})", plot.trim_end_matches(".svg"));
    }
    text += "\n## What was measured, and how\n\n";
    for row in &document.rows {
        let _ = writeln!(
            text,
            "**`{}`**: {}. {}.\n",
            row.name,
            row.what,
            row.note.trim_end_matches('.')
        );
        if !row.details.is_empty() {
            text += "| behind it | median |\n|---|---|\n";
            for (name, value) in &row.details {
                let _ = writeln!(text, "| {name} | {} |", figure(Some(*value)));
            }
            text.push('\n');
        }
    }
    text += "## Where we lose\n\n";
    let lost: Vec<&Row> = document
        .rows
        .iter()
        .filter(|row| row.holds == Some(false))
        .collect();
    if lost.is_empty() {
        text += "No target of those measured was missed in this run.\n\n";
    }
    for row in lost {
        let value = if row.ratio.is_some() {
            row.ratio
        } else {
            row.ours
        };
        let _ = writeln!(
            text,
            "* `{}`: {}, where {} was the target.",
            row.name,
            figure(value),
            bound(row)
        );
    }
    let unknown: Vec<&Row> = document
        .rows
        .iter()
        .filter(|row| row.holds.is_none())
        .collect();
    for row in unknown {
        let _ = writeln!(
            text,
            "* `{}`: not decided: {}.",
            row.name,
            row.note.trim_end_matches('.')
        );
    }
    text += "\nWhat bounds us, with the profiles behind it: [limits.md](limits.md).\n";
    text += "\n## What a node reaches\n\n";
    text += &reckon::page(document);
    if !document.extras.is_empty() {
        text += "\n## Beside the table\n\n| what | figure | unit |\n|---|---|---|\n";
        for extra in &document.extras {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                extra.name,
                spread(Some(extra.value)),
                extra.unit
            );
        }
    }
    text += "\n## Commands\n\n```\n";
    for (arm, command) in &document.commands {
        let _ = writeln!(text, "{arm:24} {command}");
    }
    text += "```\n\n## Versions\n\n| program | version |\n|---|---|\n";
    for (name, version) in &document.versions {
        let _ = writeln!(text, "| {name} | {version} |");
    }
    text
}

fn holds(row: &Row) -> &'static str {
    match row.holds {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not decided",
    }
}

fn bound(row: &Row) -> String {
    let sign = match row.sense {
        Sense::AtLeast => "≥",
        Sense::AtMost => "≤",
    };
    format!("{sign} {}", row.target)
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 1_000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn spread(spread: Option<Spread>) -> String {
    let Some(spread) = spread else {
        return "–".into();
    };
    if spread.rounds == 1 {
        return figure(Some(spread.median));
    }
    format!(
        "{} ({}–{})",
        figure(Some(spread.median)),
        figure(Some(spread.min)),
        figure(Some(spread.max))
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine;
    use crate::rows::{SCHEMA, TABLE};

    fn document() -> Document {
        let rows = TABLE
            .iter()
            .map(|target| {
                // The first met, all others out of reach.
                let value = if target.name == "tx-vs-ceiling" {
                    0.95
                } else {
                    f64::MAX
                };
                let bad = if target.sense == Sense::AtLeast {
                    0.01
                } else {
                    value
                };
                let ours = if target.name == "tx-vs-ceiling" {
                    0.95
                } else {
                    bad
                };
                if target.ratio {
                    let ratio = Spread::of_ratios(&[ours], &[1.0]);
                    Row::compared(target, &[ours], &[1.0], ratio, "how")
                } else {
                    Row::absolute(target, &[ours], "how")
                }
            })
            .collect();
        Document {
            schema: SCHEMA,
            rounds: 1,
            quick: true,
            started: 0,
            seconds: 60.0,
            machine: machine::machine(),
            versions: BTreeMap::from([("zmap".into(), "2".into())]),
            commands: BTreeMap::from([("zmap".into(), "zmap -p 80".into())]),
            rows,
            instructions: serde_json::Value::Null,
            xdp: serde_json::Value::Null,
            curve: serde_json::Value::Null,
            extras: Vec::new(),
        }
    }

    #[test]
    fn the_page_has_every_row_and_says_where_we_lose() {
        let document = document();
        let page = page(&document, &["cost-per-probe.svg"]);
        for target in TABLE {
            assert!(
                page.contains(&format!("| `{}` |", target.name)),
                "{}",
                target.name
            );
        }
        let (_, lost) = page.split_once("## Where we lose").unwrap();
        let (lost, _) = lost.split_once("## What a node reaches").unwrap();
        assert!(!lost.contains("tx-vs-ceiling") && lost.contains("`sim-instructions`"));
        assert!(page.contains("not to be quoted"));
        assert!(page.contains("![cost-per-probe](cost-per-probe.svg)"));
        assert!(table(&document).contains("host-traffic"));
    }

    #[test]
    fn what_was_measured_is_drawn() {
        let mut document = document();
        assert!(drawings(&document).is_empty());
        let point = |sessions: u32| serde_json::json!({"sessions": sessions, "cpu": {"median": 400.0}, "link": {"median": 90.0}});
        document.curve = serde_json::json!([point(1), point(1000)]);
        for row in &mut document.rows {
            if row.name == "tx-vs-scanners" {
                row.detail("masscan: µs of CPU a probe", 2.5);
                row.detail("masscan: probes", 9.0);
            }
        }
        let drawn = drawings(&document);
        let files: Vec<_> = drawn.iter().map(|(file, _)| *file).collect();
        assert_eq!(files, ["cpu-per-probe.svg", "cost-per-probe.svg"]);
        for (_, plot) in &drawn {
            assert!(plot::svg(plot).starts_with("<svg"));
        }
        let Plot::Bars(bars) = &drawn[0].1 else {
            panic!("not bars");
        };
        assert_eq!(bars.bars.len(), 1);
    }
}
