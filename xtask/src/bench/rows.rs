//! The rows of the table of targets, and the file that holds them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::machine::{Machine, Versions};
use crate::statistics::Spread;

/// Which way a target bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sense {
    /// No less.
    AtLeast,
    /// No more.
    AtMost,
}

/// A row before anything is measured.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// The unit of `ours` and `reference`.
    pub unit: &'static str,
    /// Whether the ratio is bounded, or `ours` itself.
    pub ratio: bool,
    /// Which way.
    pub sense: Sense,
    /// By what.
    pub target: f64,
}

use Sense::{AtLeast, AtMost};

/// The table.
pub const TABLE: &[Target] = &[
    Target {
        name: "tx-vs-ceiling",
        what: "probe TX rate with live sessions / bare AF_XDP TX, same link, same batch",
        unit: "frames/s",
        ratio: true,
        sense: AtLeast,
        target: 0.90,
    },
    Target {
        name: "tx-vs-scanners",
        what: "CPU per probe sent: best of the scanners / ours",
        unit: "µs",
        ratio: true,
        sense: AtLeast,
        target: 2.2,
    },
    Target {
        name: "traces-vs-reference",
        what: "complete in-session traces per CPU-second: ours / the reference InSession tool",
        unit: "traces/CPU-s",
        ratio: true,
        sense: AtLeast,
        target: 50.0,
    },
    Target {
        name: "traces-vs-scamper",
        what: "complete traces per CPU-second: ours in-session / scamper tcp-ack, same probes a trace",
        unit: "traces/CPU-s",
        ratio: true,
        sense: AtLeast,
        target: 7.0,
    },
    Target {
        name: "connects-vs-kernel",
        what: "handshakes completed per CPU-second: ours / a tokio connect loop with kernel sockets",
        unit: "handshakes/CPU-s",
        ratio: true,
        sense: AtLeast,
        target: 5.0,
    },
    Target {
        name: "xdp-foreign",
        what: "a foreign packet passed / an empty XDP program",
        unit: "ns",
        ratio: true,
        sense: AtMost,
        target: 1.8,
    },
    Target {
        name: "xdp-hit-scale",
        what: "a SACK hit, random flow among 10^6 / among 10^3",
        unit: "ns",
        ratio: true,
        sense: AtMost,
        target: 3.0,
    },
    Target {
        name: "sim-instructions",
        what: "instructions per probe cycle, link in memory, 10^4 sessions",
        unit: "instructions",
        ratio: false,
        sense: AtMost,
        target: 500.0,
    },
    Target {
        name: "sim-scale",
        what: "cost per probe at 10^6 sessions / at 10^3, link in memory",
        unit: "ns",
        ratio: true,
        sense: AtMost,
        target: 2.0,
    },
    Target {
        name: "bytes-per-session",
        what: "resident memory a live session at 10^6 (16 hops × 3 probes), kernel maps apart",
        unit: "bytes",
        ratio: false,
        sense: AtMost,
        target: 1024.0,
    },
    Target {
        name: "wire-to-credit-p99",
        what: "kernel stamp to credit, 99th percentile, at half the top rate, busy polling",
        unit: "µs",
        ratio: false,
        sense: AtMost,
        target: 100.0,
    },
    Target {
        name: "host-traffic",
        what: "throughput of foreign TCP on the same interface, with us at full rate / with a process that only burns the same CPU",
        unit: "Mbit/s",
        ratio: true,
        sense: AtLeast,
        target: 0.95,
    },
];

/// The row of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TABLE.iter().find(|target| target.name == name)
}

/// A row, measured or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// One of [`TABLE`].
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// The median of ours.
    pub ours: Option<f64>,
    /// The median of what it is held against.
    pub reference: Option<f64>,
    /// Their unit.
    pub unit: &'static str,
    /// The median of the rounds' ratios.
    pub ratio: Option<f64>,
    /// The bound.
    pub target: f64,
    /// Which way it bounds.
    pub sense: Sense,
    /// Whether the target is met; `None` when it could not be measured.
    pub holds: Option<bool>,
    /// Of ours.
    pub ours_spread: Option<Spread>,
    /// Of the reference.
    pub reference_spread: Option<Spread>,
    /// Of the ratio.
    pub ratio_spread: Option<Spread>,
    /// What stands behind the figures: which peer, how counted, or why there is none.
    pub note: String,
    /// All else that was measured for it, by arm and figure.
    pub details: BTreeMap<String, f64>,
}

impl Row {
    /// One that could not be measured.
    pub fn missing(target: &Target, note: impl Into<String>) -> Row {
        Row {
            name: target.name,
            what: target.what,
            ours: None,
            reference: None,
            unit: target.unit,
            ratio: None,
            target: target.target,
            sense: target.sense,
            holds: None,
            ours_spread: None,
            reference_spread: None,
            ratio_spread: None,
            note: note.into(),
            details: BTreeMap::new(),
        }
    }

    /// From the rounds of ours and of the reference, `ratio` being theirs in the
    /// way the row's text says.
    pub fn compared(
        target: &Target,
        ours: &[f64],
        reference: &[f64],
        ratios: Option<Spread>,
        note: impl Into<String>,
    ) -> Row {
        let mut row = Row::missing(target, note);
        row.ours_spread = Spread::of(ours);
        row.reference_spread = Spread::of(reference);
        row.ratio_spread = ratios;
        row.judged(target)
    }

    /// From the rounds of ours alone.
    pub fn absolute(target: &Target, ours: &[f64], note: impl Into<String>) -> Row {
        let mut row = Row::missing(target, note);
        row.ours_spread = Spread::of(ours);
        row.judged(target)
    }

    /// From medians with their least and most, of the reference and of ours.
    pub fn of_spreads(
        target: &Target,
        [reference, ours]: [(f64, f64, f64); 2],
        ratio: Option<f64>,
        rounds: u32,
        note: impl Into<String>,
    ) -> Row {
        let of = |(median, min, max)| Spread {
            median,
            min,
            max,
            rounds: rounds as usize,
        };
        let mut row = Row::missing(target, note);
        row.ours_spread = Some(of(ours));
        row.reference_spread = Some(of(reference));
        row.ratio_spread = ratio.map(|ratio| Spread {
            rounds: 1,
            ..of((ratio, ratio, ratio))
        });
        row.judged(target)
    }

    /// Medians and the judgement from the spreads.
    fn judged(mut self, target: &Target) -> Row {
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        self.ours = median(self.ours_spread);
        self.reference = median(self.reference_spread);
        self.ratio = median(self.ratio_spread);
        let bounded = if target.ratio { self.ratio } else { self.ours };
        self.holds = bounded.map(|value| match target.sense {
            AtLeast => value >= target.target,
            AtMost => value <= target.target,
        });
        self
    }

    /// Adds a figure that stands behind it.
    pub fn detail(&mut self, name: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.details.insert(name.into(), value);
        }
    }
}

/// A figure that belongs to no target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extra {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: Spread,
    /// Of what.
    pub unit: &'static str,
}

/// Everything of a run: `target/bench/bench.json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Names this format.
    pub schema: &'static str,
    /// Rounds asked for.
    pub rounds: usize,
    /// Short runs: figures to try the tools with, not to quote.
    pub quick: bool,
    /// When it was begun, seconds of the Unix epoch.
    pub started: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// What it ran on.
    pub machine: Machine,
    /// Of every program that took part.
    pub versions: Versions,
    /// Command lines, by arm, one that stands for all of its rounds.
    pub commands: BTreeMap<String, String>,
    /// The table.
    pub rows: Vec<Row>,
    /// What callgrind counted.
    pub instructions: serde_json::Value,
    /// What the XDP program costs.
    pub xdp: serde_json::Value,
    /// Cost per probe over the number of sessions.
    pub curve: serde_json::Value,
    /// Other figures of the same run.
    pub extras: Vec<Extra>,
}

/// [`Document::schema`].
pub const SCHEMA: &str = "insession.peers/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_row_is_as_promised() {
        let target = target("tx-vs-scanners").unwrap();
        let (ours, theirs) = ([1.0, 2.0, 1.0], [3.0, 5.0, 2.5]);
        let ratios = Spread::of_ratios(&theirs, &ours);
        let mut row = Row::compared(target, &ours, &theirs, ratios, "best: masscan");
        row.detail("masscan µs", 3.0);
        row.detail("zmap µs", f64::NAN);
        let json = serde_json::to_string_pretty(&row).unwrap();
        assert_eq!(json, GOLDEN.trim());
    }

    const GOLDEN: &str = r#"
{
  "name": "tx-vs-scanners",
  "what": "CPU per probe sent: best of the scanners / ours",
  "ours": 1.0,
  "reference": 3.0,
  "unit": "µs",
  "ratio": 2.5,
  "target": 2.2,
  "sense": "at-least",
  "holds": true,
  "ours_spread": {
    "median": 1.0,
    "min": 1.0,
    "max": 2.0,
    "rounds": 3
  },
  "reference_spread": {
    "median": 3.0,
    "min": 2.5,
    "max": 5.0,
    "rounds": 3
  },
  "ratio_spread": {
    "median": 2.5,
    "min": 2.5,
    "max": 3.0,
    "rounds": 3
  },
  "note": "best: masscan",
  "details": {
    "masscan µs": 3.0
  }
}
"#;

    #[test]
    fn what_is_missing_neither_holds_nor_fails() {
        let row = Row::missing(target("traces-vs-reference").unwrap(), "no --peer");
        assert_eq!((row.ours, row.holds), (None, None));
        let json = serde_json::to_value(&row).unwrap();
        assert!(json["reference"].is_null() && json["holds"].is_null());
    }

    #[test]
    fn each_sense_can_fail() {
        let most = target("sim-instructions").unwrap();
        assert_eq!(Row::absolute(most, &[500.0], "").holds, Some(true));
        assert_eq!(Row::absolute(most, &[501.0], "").holds, Some(false));
        let least = target("tx-vs-ceiling").unwrap();
        let of = |ours| {
            let ratio = Spread::of_ratios(&[ours], &[1.0]);
            Row::compared(least, &[ours], &[1.0], ratio, "").holds
        };
        assert_eq!((of(0.9), of(0.89)), (Some(true), Some(false)));
    }

    #[test]
    fn the_table_is_complete() {
        let names: Vec<_> = TABLE.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), 12);
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1);
        }
    }
}
