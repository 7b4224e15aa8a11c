//! The table: a method a line.

use std::fmt::Write as _;

use super::{Comparison, Figures};

/// Heads of the columns, in the order of [`cells`].
pub const HEADS: [&str; 12] = [
    "method",
    "reached",
    "hops answered",
    "missing",
    "links",
    "false",
    "unconfirmed",
    "paths",
    "in a run",
    "ms a run",
    "probes",
    "packets",
];

/// The cells of a method.
#[must_use]
pub fn cells(figures: &Figures) -> [String; 12] {
    let mean = figures
        .duration_us
        .map(|micros| format!("{:.0}", micros / 1e3));
    let packets = figures.packets.map(|packets| packets.to_string());
    [
        figures.method.to_owned(),
        format!("{}/{}", figures.reached, figures.runs),
        format!("{}/{}", figures.hops_answered, figures.hops),
        figures.hops_missing.to_string(),
        figures.links.to_string(),
        figures.links_false.to_string(),
        figures.links_unconfirmed.to_string(),
        figures.paths.to_string(),
        figures.paths_in_a_run.to_string(),
        mean.unwrap_or_else(|| "–".to_owned()),
        figures.probes.to_string(),
        packets.unwrap_or_else(|| "–".to_owned()),
    ]
}

/// What judged the links, in a sentence.
#[must_use]
pub fn judged(comparison: &Comparison) -> &'static str {
    if comparison.truth {
        "false: links that the truth has not"
    } else {
        "false: links that enough single flows contradict; unconfirmed: seen in no single flow, contradicted by none"
    }
}

/// The whole text.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    for target in &comparison.targets {
        let address = target.address.map(|address| address.to_string());
        let address = address.filter(|address| !target.target.contains(address));
        let address = address.map_or(String::new(), |address| format!(" ({address})"));
        let hops = if target.length == 1 { "hop" } else { "hops" };
        let way = match target.reached {
            true => format!("{} {hops}", target.length),
            false => format!(
                "not reached by any method, answers up to TTL {}",
                target.length
            ),
        };
        let _ = writeln!(out, "{}{address}: {way}", target.target);
    }
    let rows: Vec<[String; 12]> = comparison.methods.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max();
        let head = HEADS.get(column).map_or(0, |head| head.len());
        widest.unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (nth, (cell, width)) in cells.zip(&widths).enumerate() {
            let _ = match nth {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(out, "{}", text.trim_end());
    };
    line(&mut HEADS.into_iter());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
    let failed: u64 = comparison.methods.iter().map(|method| method.failed).sum();
    if failed > 0 {
        let _ = writeln!(
            out,
            "left out: {failed} runs that failed or were interrupted"
        );
    }
    let _ = writeln!(out, "{}", judged(comparison));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::Made;
    use crate::compare::{Packets, compare};
    use crate::trace::Method;

    #[test]
    fn a_line_a_method() {
        let traces = [
            Made::new(Method::InSession).path("ab!").trace(),
            Made::new(Method::ParisUdp).path("a..").trace(),
        ];
        let comparison = compare(&traces, None, &Packets::from([(Method::InSession, 9)]));
        let text = text(&comparison);
        let expected = "\
server (10.9.0.1): 3 hops
method     reached  hops answered  missing  links  false  unconfirmed  paths  in a run  ms a run  probes  packets
insession      1/1            3/3        0      2      0            0      1         1       100       3        9
paris-udp      0/1            1/3        2      0      0            0      1         1       100       3        –
false: links that enough single flows contradict; unconfirmed: seen in no single flow, contradicted by none
";
        assert_eq!(text, expected);
    }
}
