//! All pictures on one sheet, with a legend: an SVG document that stands alone.

use std::fmt::Write as _;

use super::layout::Layout;
use super::paint::{self, Hue, Paint};
use super::panel::{self, Style, WIDTH};
use crate::bench::html::escape;
use crate::compare::{Compared, Comparison, text};

const GUTTER: f64 = 16.0;
const HEAD: f64 = 52.0;
const LEGEND: f64 = 44.0;
const COLUMNS: usize = 2;

/// Letters of pictures: the viewer's own.
pub const FONT: &str = "font-family=\"system-ui,sans-serif\"";

/// The sheet.
#[must_use]
pub fn svg(comparison: &Comparison, paint: Paint) -> String {
    let style = Style {
        paint,
        cards: false,
    };
    let columns = comparison
        .targets
        .iter()
        .map(|target| target.methods.len())
        .max()
        .unwrap_or(0)
        .clamp(1, COLUMNS);
    let width = columns as f64 * (WIDTH + GUTTER) + GUTTER;
    let mut inside = String::new();
    let mut y = GUTTER;
    for compared in &comparison.targets {
        let _ = write!(
            inside,
            "<text x=\"{GUTTER}\" y=\"{:.1}\" font-size=\"18\" font-weight=\"600\" fill=\"{}\">{}</text>\
             <text x=\"{GUTTER}\" y=\"{:.1}\" font-size=\"12\" fill=\"{}\">{}</text>",
            y + 18.0,
            paint.of(Hue::Ink),
            escape(&title(compared)),
            y + 37.0,
            paint.of(Hue::Dim),
            escape(&subtitle(compared)),
        );
        y += HEAD;
        let layout = Layout::new(compared);
        let height = panel::height(&layout);
        for row in compared.methods.chunks(columns) {
            for (nth, view) in row.iter().enumerate() {
                let x = GUTTER + nth as f64 * (WIDTH + GUTTER);
                let _ = write!(inside, "<g transform=\"translate({x:.1} {y:.1})\">");
                panel::draw(&mut inside, compared, view, &layout, style);
                inside.push_str("</g>\n");
            }
            y += height + GUTTER;
        }
    }
    let _ = write!(inside, "<g transform=\"translate({GUTTER} {y:.1})\">");
    legend(&mut inside, paint);
    let _ = write!(
        inside,
        "<text x=\"0\" y=\"32\" font-size=\"11\" fill=\"{}\">{}</text></g>",
        paint.of(Hue::Dim),
        escape(text::judged(comparison))
    );
    let height = y + LEGEND;
    let variables = match paint {
        Paint::Variables => format!("<style>{}</style>", paint::style("svg.compare")),
        Paint::Light | Paint::Dark => String::new(),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"compare\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" {FONT}>{variables}\
         <rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n{inside}\n</svg>\n",
        paint.of(Hue::Page)
    )
}

/// What is compared.
#[must_use]
pub fn title(compared: &Compared) -> String {
    match compared.address {
        Some(address) if !compared.target.contains(&address.to_string()) => {
            format!("{} ({address})", compared.target)
        }
        _ => compared.target.clone(),
    }
}

/// How it stands, in a line.
#[must_use]
pub fn subtitle(compared: &Compared) -> String {
    let runs = compared.methods.iter().map(|view| view.figures.runs).max();
    let way = match compared.reached {
        true => format!("{} hops to the destination", compared.length),
        false => "reached by no method".to_owned(),
    };
    format!("{way}, {} runs of each method", runs.unwrap_or(0))
}

/// What marks mean, in a line 24 high.
pub fn legend(out: &mut String, paint: Paint) {
    let mut x = 0.0;
    let line = |hue: Hue, dashes: &str| {
        format!(
            "<line x1=\"0\" y1=\"10\" x2=\"30\" y2=\"10\" stroke=\"{}\" stroke-width=\"3\"{dashes}/>",
            paint.of(hue)
        )
    };
    let circle = |hue: Hue, radius: f64| {
        format!(
            "<circle cx=\"15\" cy=\"10\" r=\"{radius}\" fill=\"{}\"/>",
            paint.of(hue)
        )
    };
    let entries = [
        (circle(Hue::Seen, 6.0), "a router"),
        (
            format!(
                "<rect x=\"8\" y=\"3\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{}\"/>",
                paint.of(Hue::Reached)
            ),
            "the destination",
        ),
        (line(Hue::Seen, ""), "a link, width by frequency"),
        (
            line(Hue::Unknown, " stroke-dasharray=\"7 4\""),
            "unconfirmed",
        ),
        (line(Hue::Lost, " stroke-dasharray=\"4 4\""), "false"),
        (circle(Hue::Lost, 5.0), "lost probes, size by part"),
        (
            format!(
                "<circle cx=\"15\" cy=\"10\" r=\"5\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"/>",
                paint.of(Hue::Lost)
            ),
            "never probed",
        ),
        (
            line(
                Hue::Dim,
                " stroke-dasharray=\"1 5\" stroke-linecap=\"round\"",
            ),
            "silence between",
        ),
    ];
    for (mark, words) in entries {
        let _ = write!(
            out,
            "<g transform=\"translate({x:.0} 0)\">{mark}<text x=\"36\" y=\"14\" font-size=\"11.5\" fill=\"{}\">{words}</text></g>",
            paint.of(Hue::Dim)
        );
        x += 36.0 + words.len() as f64 * 6.1 + 18.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::Made;
    use crate::compare::{Packets, compare};
    use crate::trace::Method;

    #[test]
    fn a_sheet_stands_alone_and_is_well_formed() {
        let mut named = Made::new(Method::Udp).path("a.c!").trace();
        named.target = "<server> & co".to_owned();
        let mut other = named.clone();
        other.method = Method::InSession;
        let traces = [Made::new(Method::Icmp).path("ab!").trace(), named, other];
        let comparison = compare(&traces, None, &Packets::new());
        for paint in [Paint::Variables, Paint::Light, Paint::Dark] {
            let svg = svg(&comparison, paint);
            let tree = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
            let texts: Vec<&str> = tree.descendants().filter_map(|node| node.text()).collect();
            assert!(texts.contains(&"<server> & co (10.9.0.1)"));
            assert!(texts.contains(&"unconfirmed"));
            // Three methods at two targets.
            assert_eq!(svg.matches("a run is one flow").count(), 2);
            assert_eq!(svg.contains("var("), paint == Paint::Variables);
            assert!(!svg.contains("href") && !svg.contains("NaN"));
        }
    }

    #[test]
    fn nothing_is_a_sheet_too() {
        let comparison = compare(&[], None, &Packets::new());
        assert!(svg(&comparison, Paint::Light).contains("</svg>"));
    }
}
