//! One method's picture of one target: dots by TTL, lines by adjacency, red dots for
//! what was lost.

use std::fmt::Write as _;

use super::layout::Layout;
use super::paint::{Hue, Paint};
use crate::bench::html::escape;
use crate::compare::evidence::Standing;
use crate::compare::walk::Node;
use crate::compare::{Answers, Compared, Link, Responder, View};

/// How wide a picture is.
pub const WIDTH: f64 = 640.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 30.0;
const SIDE: f64 = 26.0;
/// Between two that stand below each other, as long as there is room.
const ROW: f64 = 30.0;
/// No picture's middle part is higher, unless rows would touch.
const TALL: f64 = 520.0;
const ROW_LEAST: f64 = 13.0;

/// How it is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Colours.
    pub paint: Paint,
    /// What is under the pointer tells in a card of the page; else in its `title`.
    pub cards: bool,
}

/// A picture's measures.
struct Frame<'a> {
    layout: &'a Layout,
    row: f64,
    step: f64,
    style: Style,
}

impl Frame<'_> {
    fn new(layout: &Layout, style: Style) -> Frame<'_> {
        let row = (TALL / layout.rows as f64).clamp(ROW_LEAST, ROW);
        let columns = f64::from(layout.ttls.max(1));
        Frame {
            layout,
            row,
            step: (WIDTH - 2.0 * SIDE) / columns,
            style,
        }
    }

    /// Half the height of the part where routers stand.
    fn half(&self) -> f64 {
        (self.layout.rows as f64 / 2.0).max(1.5) * self.row
    }

    /// What was lost beside answers stands below all of them.
    fn lost(&self) -> f64 {
        self.middle() + self.half() + 4.0
    }

    fn middle(&self) -> f64 {
        TOP + self.half()
    }

    fn height(&self) -> f64 {
        TOP + 2.0 * self.half() + 14.0 + BOTTOM
    }

    fn x(&self, ttl: u8) -> f64 {
        SIDE + f64::from(ttl) * self.step
    }

    fn y(&self, ttl: u8, node: Node) -> f64 {
        self.middle() + self.layout.lane(ttl, node) * self.row
    }

    fn at(&self, ttl: u8, node: Node) -> (f64, f64) {
        (self.x(ttl), self.y(ttl, node))
    }

    fn of(&self, hue: Hue) -> String {
        self.style.paint.of(hue)
    }
}

/// How high the pictures of a target are.
#[must_use]
pub fn height(layout: &Layout) -> f64 {
    let style = Style {
        paint: Paint::Light,
        cards: false,
    };
    Frame::new(layout, style).height()
}

/// Draws it into a group of its own, whose corner is the origin.
pub fn draw(out: &mut String, compared: &Compared, view: &View, layout: &Layout, style: Style) {
    let frame = Frame::new(layout, style);
    let _ = write!(
        out,
        "<rect width=\"{WIDTH}\" height=\"{:.1}\" rx=\"8\" fill=\"{}\"/>",
        frame.height(),
        frame.of(Hue::Card)
    );
    head(out, &frame, view);
    axis(out, &frame);
    // What is not known, what is there, what is not there; dots above all lines.
    for gap in &view.gaps {
        let points = bridge(&frame, view, (gap.ttl, gap.from), (gap.to_ttl, gap.to));
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{}\" stroke-opacity=\"0.6\" stroke-width=\"1.2\" stroke-dasharray=\"1 4\" stroke-linecap=\"round\"/>",
            frame.of(Hue::Dim)
        );
    }
    start(out, &frame, view);
    for standing in [Standing::Confirmed, Standing::Unconfirmed, Standing::False] {
        let links = view.drawn.iter().filter(|link| link.standing == standing);
        links.for_each(|link| line(out, &frame, view, link));
    }
    for hop in view.hops.iter().filter(|hop| hop.ttl <= layout.ttls) {
        lost(out, &frame, hop);
        for responder in &hop.responders {
            dot(out, &frame, hop, responder);
        }
    }
    unprobed(out, &frame, compared, view);
}

/// What a picture's title says below it.
#[must_use]
pub fn caption(view: &View) -> String {
    let figures = &view.figures;
    if figures.runs == 0 {
        return "no run".to_owned();
    }
    let plural = |count: u64, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    let mut parts = vec![
        format!("reached {} of {}", figures.reached, figures.runs),
        format!(
            "{} of {} hops answered",
            figures.hops_answered, figures.hops
        ),
        plural(figures.hops_missing, "hop missing", "hops missing"),
        plural(figures.links_false, "false link", "false links"),
    ];
    if figures.links_unconfirmed > 0 {
        parts.push(format!("{} unconfirmed", figures.links_unconfirmed));
    }
    parts.push(plural(figures.paths, "path", "paths"));
    parts.join(" · ")
}

fn head(out: &mut String, frame: &Frame<'_>, view: &View) {
    let flow = if view.figures.one_flow {
        "a run is one flow"
    } else {
        "a probe is a flow"
    };
    let _ = write!(
        out,
        "<text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\" fill=\"{ink}\">{}</text>\
         <text x=\"{right}\" y=\"24\" font-size=\"11\" text-anchor=\"end\" fill=\"{dim}\">{flow}</text>\
         <text x=\"16\" y=\"42\" font-size=\"11.5\" fill=\"{dim}\">{}</text>",
        escape(view.figures.method),
        escape(&caption(view)),
        ink = frame.of(Hue::Ink),
        dim = frame.of(Hue::Dim),
        right = WIDTH - 16.0,
    );
}

fn axis(out: &mut String, frame: &Frame<'_>) {
    let (from, to) = (TOP - 4.0, frame.height() - BOTTOM + 6.0);
    // Numbers that would touch are left out.
    let every = (18.0 / frame.step).ceil().max(1.0) as u8;
    for ttl in 0..=frame.layout.ttls {
        let x = frame.x(ttl);
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\" stroke=\"{}\" stroke-width=\"0.7\"/>",
            frame.of(Hue::Grid)
        );
        if ttl > 0 && ttl % every != 0 {
            continue;
        }
        let label = if ttl == 0 {
            "us".to_owned()
        } else {
            ttl.to_string()
        };
        let _ = write!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10.5\" text-anchor=\"middle\" fill=\"{}\">{label}</text>",
            frame.height() - 9.0,
            frame.of(Hue::Dim)
        );
    }
}

/// Where we stand, and the way to those who answer at TTL 1: whoever answers there is
/// next to us.
fn start(out: &mut String, frame: &Frame<'_>, view: &View) {
    let (x, y) = (frame.x(0), frame.middle());
    for hop in view.hops.iter().filter(|hop| hop.ttl == 1) {
        for responder in &hop.responders {
            let (to_x, to_y) = frame.at(1, responder.node);
            let part = responder.answers as f64 / hop.probes.max(1) as f64;
            let _ = write!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" stroke=\"{}\" stroke-width=\"{:.1}\" stroke-linecap=\"round\"/>",
                frame.of(Hue::Seen),
                width(part)
            );
        }
    }
    let _ = write!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" rx=\"2\" fill=\"{}\"/>",
        x - 4.5,
        y - 4.5,
        frame.of(Hue::Ink)
    );
}

/// How wide a line is that this part of the walks goes over.
fn width(part: f64) -> f64 {
    1.2 + 5.0 * part.clamp(0.0, 1.0)
}

/// From answer to answer over a silence: by way of the red dots, where nobody at all
/// answered.
fn bridge(frame: &Frame<'_>, view: &View, from: (u8, Node), to: (u8, Node)) -> String {
    let (x, y) = frame.at(from.0, from.1);
    let mut points = format!("{x:.1},{y:.1}");
    for ttl in from.0 + 1..to.0 {
        let silent = |hop: &Answers| hop.ttl == ttl && hop.responders.is_empty();
        if view.hops.iter().any(silent) {
            let _ = write!(points, " {:.1},{:.1}", frame.x(ttl), frame.middle());
        }
    }
    let (x, y) = frame.at(to.0, to.1);
    let _ = write!(points, " {x:.1},{y:.1}");
    points
}

/// Something that tells more: in the page's card, or in its title.
fn telling(out: &mut String, style: Style, node: Option<Node>, lines: &[String], shape: &str) {
    let text = escape(&lines.join("\n"));
    if !style.cards {
        let _ = write!(out, "<g><title>{text}</title>{shape}</g>");
        return;
    }
    let node = node.map(|node| format!(" data-node=\"{}\"", node.address));
    let _ = write!(
        out,
        "<g class=\"tells\" tabindex=\"0\" role=\"img\" aria-label=\"{text}\" data-card=\"{text}\"{}>{shape}</g>",
        node.unwrap_or_default()
    );
}

fn percent(part: u64, of: u64) -> String {
    match of {
        0 => "–".to_owned(),
        of => format!("{:.0} %", part as f64 * 100.0 / of as f64),
    }
}

fn line(out: &mut String, frame: &Frame<'_>, view: &View, link: &Link) {
    let (x, y) = frame.at(link.ttl, link.from);
    let behind = link.ttl.saturating_add(1);
    let (to_x, to_y) = frame.at(behind, link.to);
    let (hue, dashes, words) = match link.standing {
        Standing::Confirmed => (Hue::Seen, "", "a link that is there"),
        Standing::Unconfirmed => (
            Hue::Unknown,
            " stroke-dasharray=\"7 4\"",
            "unconfirmed: seen in no single flow",
        ),
        Standing::False => (
            Hue::Lost,
            " stroke-dasharray=\"4 4\"",
            "false: there is no such link",
        ),
    };
    // Not all columns are probed at every TTL.
    let probed = view.hops.iter().find(|hop| hop.ttl == link.ttl);
    let probed = probed.map_or(view.walks, |hop| hop.probes);
    let part = link.walks as f64 / probed.max(1) as f64;
    let place = format!("x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\"");
    let mut shape = format!(
        "<line {place} stroke=\"{}\" stroke-width=\"{:.1}\"{dashes}/>",
        frame.of(hue),
        width(part)
    );
    if frame.style.cards {
        // Thin lines are hard to meet.
        let _ = write!(
            shape,
            "<line {place} stroke=\"transparent\" stroke-width=\"11\"/>"
        );
    }
    let lines = [
        format!("{} → {}", link.from.address, link.to.address),
        format!("TTL {} to {behind}, {words}", link.ttl),
        format!("{} of {probed} walks that were probed here", link.walks),
    ];
    telling(out, frame.style, None, &lines, &shape);
}

fn dot(out: &mut String, frame: &Frame<'_>, hop: &Answers, responder: &Responder) {
    let (x, y) = frame.at(hop.ttl, responder.node);
    let part = responder.answers as f64 / hop.probes.max(1) as f64;
    let room = (frame.row / 2.0 - 1.0).min(frame.step / 2.0 - 1.0).max(2.0);
    let radius = (3.5 + 3.5 * part.clamp(0.0, 1.0)).min(room);
    let shape = if responder.node.destination {
        let side = radius * 2.0 + 3.0;
        format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" rx=\"3\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            x - side / 2.0,
            y - side / 2.0,
            frame.of(Hue::Reached),
            frame.of(Hue::Card)
        )
    } else {
        format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            frame.of(Hue::Seen),
            frame.of(Hue::Card)
        )
    };
    telling(
        out,
        frame.style,
        Some(responder.node),
        &card(hop, responder),
        &shape,
    );
}

/// What is known of who answered.
#[must_use]
pub fn card(hop: &Answers, responder: &Responder) -> Vec<String> {
    let mut lines = vec![responder.node.address.to_string()];
    lines.extend(responder.name.clone());
    if let Some(asn) = responder.asn {
        let holder = responder.holder.as_ref().map(|holder| format!(" {holder}"));
        lines.push(format!("AS{asn}{}", holder.unwrap_or_default()));
    }
    let who = if responder.node.destination {
        ", the destination"
    } else {
        ""
    };
    lines.push(format!("TTL {}{who}", hop.ttl));
    if let (Some(least), Some(median), Some(most)) = (
        responder.rtt_min_us,
        responder.rtt_median_us,
        responder.rtt_max_us,
    ) {
        lines.push(format!(
            "RTT {:.3} ms ({:.3} to {:.3})",
            median / 1e3,
            least / 1e3,
            most / 1e3
        ));
    }
    lines.push(format!(
        "answered {} of {} probes here, in {} runs",
        responder.answers, hop.probes, responder.runs
    ));
    lines.push(format!(
        "loss at this TTL: {}",
        percent(hop.lost, hop.probes)
    ));
    lines
}

fn lost(out: &mut String, frame: &Frame<'_>, hop: &Answers) {
    if hop.lost == 0 {
        return;
    }
    let y = match hop.responders.is_empty() {
        true => frame.middle(),
        false => frame.lost(),
    };
    let radius = (1.8 + 5.6 * hop.loss()).min((frame.step / 2.0 - 1.0).max(2.0));
    let shape = format!(
        "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\"/>",
        frame.x(hop.ttl),
        frame.of(Hue::Lost)
    );
    let lines = [
        match hop.responders.is_empty() {
            true => "nobody answered".to_owned(),
            false => "probes without an answer".to_owned(),
        },
        format!("TTL {}", hop.ttl),
        format!(
            "{} of {} probes lost ({})",
            hop.lost,
            hop.probes,
            percent(hop.lost, hop.probes)
        ),
    ];
    telling(out, frame.style, None, &lines, &shape);
}

/// TTLs of the way that the method never came to, as rings.
fn unprobed(out: &mut String, frame: &Frame<'_>, compared: &Compared, view: &View) {
    let first = view.hops.first().map_or(1, |hop| hop.ttl);
    for ttl in first..=compared.length {
        if view.hops.iter().any(|hop| hop.ttl == ttl) {
            continue;
        }
        let shape = format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.6\"/>",
            frame.x(ttl),
            frame.middle(),
            frame.of(Hue::Card),
            frame.of(Hue::Lost)
        );
        let lines = [
            format!("TTL {ttl}"),
            "never probed: every run ended before it".to_owned(),
        ];
        telling(out, frame.style, None, &lines, &shape);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::Made;
    use crate::compare::{Packets, Truth, compare};
    use crate::trace::{Method, Trace};

    fn drawn(traces: &[Trace], nth: usize, cards: bool) -> String {
        let truth = Truth::parse("10.0.97.1 10.0.98.1\n10.0.98.1 10.9.0.1").unwrap();
        let comparison = compare(traces, Some(&truth), &Packets::new());
        let compared = &comparison.targets[0];
        let mut out = String::new();
        let style = Style {
            paint: Paint::Light,
            cards,
        };
        draw(
            &mut out,
            compared,
            &compared.methods[nth],
            &Layout::new(compared),
            style,
        );
        out
    }

    #[test]
    fn lines_dots_and_losses_are_drawn_once_each() {
        let traces = [
            Made::new(Method::InSession).path("ab!").trace(),
            Made::new(Method::Icmp).path("ax!").trace(),
            Made::new(Method::Icmp).path("a.!").trace(),
            Made::new(Method::Udp).path("a").trace(),
        ];
        let ours = drawn(&traces, 0, false);
        assert_eq!(ours.matches("a link that is there").count(), 2);
        assert!(!ours.contains("dasharray") && !ours.contains("lost ("));
        assert!(ours.contains(
            "reached 1 of 1 · 3 of 3 hops answered · 0 hops missing · 0 false links · 1 path"
        ));
        let icmp = drawn(&traces, 1, false);
        assert_eq!(icmp.matches("false: there is no such link").count(), 2);
        assert_eq!(icmp.matches("1 of 2 probes lost (50 %)").count(), 1);
        assert_eq!(icmp.matches("<polyline").count(), 1);
        let udp = drawn(&traces, 2, false);
        assert_eq!(udp.matches("never probed").count(), 2);
    }

    #[test]
    fn frequency_is_width_and_loss_is_size() {
        assert!(width(1.0) > width(0.5) && width(0.5) > width(0.0));
        let traces = [Made::new(Method::Icmp)
            .hop(&["a", "a", "a", ""])
            .hop(&["", "", "", ""])
            .trace()];
        let drawn = drawn(&traces, 0, false);
        let radius = |words: &str| -> f64 {
            let (_, behind) = drawn.split_once(words).unwrap();
            let (_, behind) = behind.split_once(" r=\"").unwrap();
            behind.split_once('"').unwrap().0.parse().unwrap()
        };
        assert!(radius("nobody answered") > radius("probes without an answer"));
    }

    #[test]
    fn cards_have_what_is_known_and_no_markup() {
        let mut trace = Made::new(Method::Icmp).path("ab!").trace();
        let reply = trace.hops[0].probes[0].reply.as_mut().unwrap();
        reply.name = Some("<b>\"r1\"".to_owned());
        reply.owner = Some(std::sync::Arc::new(crate::trace::Owner {
            asn: Some(64500),
            holder: Some("Example".to_owned()),
            ..Default::default()
        }));
        let drawn = drawn(&[trace], 0, true);
        for words in [
            "10.0.97.1\n&lt;b&gt;&quot;r1&quot;\nAS64500 Example\nTTL 1\nRTT 1.000 ms (1.000 to 1.000)",
            "loss at this TTL: 0 %",
            "data-node=\"10.9.0.1\"",
            "TTL 3, the destination",
        ] {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        assert!(!drawn.contains("<b>"));
    }
}
