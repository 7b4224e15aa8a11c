//! Results as one page that needs nothing else: plots inside, light and dark. Other
//! pages share its head and its style.

use std::fmt::Write as _;

use super::plot;
use super::suite::Results;
use super::text::{self, Row, Section, number};
use crate::report::palette;

const STYLE: &str = "
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:64rem;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.5rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line)}
p{margin:.25rem 0;color:var(--dim)}p.warn{color:var(--warn)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:1rem 0;padding:.75rem 1rem;background:var(--card);border-radius:.5rem}
dt{color:var(--dim)}dd{margin:0}
div.wide{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;width:100%}
th,td{padding:.28rem .75rem .28rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--dim)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child{white-space:nowrap}td.u{white-space:nowrap;color:var(--dim)}td.o{color:var(--dim);font-size:.92em}
svg{max-width:100%;height:auto;display:block;margin:1rem 0}
";

/// The whole page.
#[must_use]
pub fn page(results: &Results) -> String {
    let mut out = begin("insession bench");
    if results.interrupted {
        out.push_str("<p class=\"warn\">Ended before it was complete.</p>\n");
    }
    figures(&mut out, &text::machine(results));
    for section in text::sections(results) {
        write_section(&mut out, &section);
    }
    let _ = writeln!(out, "<p>{}</p>\n</body>\n</html>", escape(results.schema));
    out
}

/// The head of a page, and its title.
#[must_use]
pub fn begin(title: &str) -> String {
    let title = escape(title);
    let colours = palette::page();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{colours}{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// Names and values, as a list in a card.
pub fn figures(out: &mut String, rows: &[(&'static str, String)]) {
    out.push_str("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    out.push_str("</dl>\n");
}

fn write_section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(&section.title));
    for note in &section.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
    out.push_str("<div class=\"wide\"><table>\n<tr><th></th><th class=\"n\">median</th><th class=\"n\">least</th><th class=\"n\">most</th><th></th><th></th></tr>\n");
    for row in &section.rows {
        write_row(out, row);
    }
    out.push_str("</table></div>\n");
    for plot in &section.plots {
        out.push_str(&plot::svg(plot));
        out.push('\n');
    }
}

fn write_row(out: &mut String, row: &Row) {
    let value = |value: Option<f64>| value.map_or("–".to_owned(), number);
    let figure = &row.figure;
    let _ = write!(out, "<tr><td>{}</td>", escape(&row.name));
    for part in [figure.median, figure.min, figure.max] {
        let _ = write!(out, "<td class=\"n\">{}</td>", value(part));
    }
    let _ = writeln!(
        out,
        "<td class=\"u\">{}</td><td class=\"o\">{}</td></tr>",
        escape(row.unit),
        escape(&row.note)
    );
}

/// Text that is no markup.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples;

    #[test]
    fn every_row_is_in_the_page() {
        let results = samples::results();
        let page = page(&results);
        let sections = text::sections(&results);
        assert!(sections.len() >= 8);
        for section in &sections {
            assert!(page.contains(&escape(&section.title)), "{}", section.title);
            for row in &section.rows {
                assert!(
                    page.contains(&format!("<td>{}</td>", escape(&row.name))),
                    "{}",
                    row.name
                );
                assert!(page.contains(&escape(&row.note)), "{}", row.note);
                if let Some(median) = row.figure.median {
                    assert!(page.contains(&number(median)), "{median}");
                }
            }
            let plots = section.plots.iter().map(plot::svg);
            assert!(plots.into_iter().all(|svg| page.contains(&svg)));
        }
        let tags = |tag: &str| page.matches(tag).count();
        assert_eq!(tags("<svg"), 6);
        assert_eq!(tags("<table"), tags("</table>"));
        assert!(!page.contains("http://") || page.matches("http://").count() == tags("<svg"));
    }

    #[test]
    fn what_a_driver_says_is_no_markup() {
        let mut results = samples::results();
        results.machine.driver = Some("<script>".to_owned());
        assert!(!page(&results).contains("<script>"));
    }
}
