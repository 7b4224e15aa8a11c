//! The ways to one target as a drawing: every TTL with who is there, side by side in
//! lines, and where each goes on to.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use crate::multipath::graph::Diamond;
use crate::multipath::paths::{Answered, Known, Path, Paths, Stopped};
use crate::report::text::{Millis, Style};

/// Next hops that are named; further ones are counted.
const NAMED: usize = 4;

/// Writes it.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(paths: &Paths, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let mut text = header(paths);
    rule(paths, &mut text);
    drawing(paths, style, &mut text);
    diamonds(paths, &mut text);
    ways(paths, &mut text);
    out.write_all(text.as_bytes())
}

fn header(paths: &Paths) -> String {
    let mut line = format!("paths to {}", paths.target);
    if let Some(address) = paths.address.filter(|it| it.to_string() != paths.target) {
        let _ = write!(line, " ({address})");
    }
    let _ = write!(line, ", port {}", paths.port);
    if let Some(source) = paths.source {
        let _ = write!(line, ", from {source}");
    }
    let count = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    };
    let _ = write!(
        line,
        ": {}, {}, {}",
        count(paths.flows as usize, "flow"),
        count(paths.paths.len(), "path"),
        count(paths.graph.diamonds.len(), "diamond")
    );
    if paths.failed > 0 {
        let _ = write!(
            line,
            "; {} showed nothing",
            count(paths.failed as usize, "further flow")
        );
    }
    line.push('\n');
    line
}

/// What the stopping rule says.
fn rule(paths: &Paths, text: &mut String) {
    let Some(mda) = &paths.mda else { return };
    let percent = mda.confidence * 100.0;
    let _ = match mda.stopped {
        None => writeln!(
            text,
            " every next hop was seen, with {percent} % a diamond (MDA, {} rounds)",
            mda.rounds
        ),
        Some(Stopped::FlowsMax) => writeln!(
            text,
            " it takes more flows to have seen every next hop with {percent} %; --flows-max allows them"
        ),
        Some(Stopped::Silent) => writeln!(text, " further flows showed nothing"),
        Some(Stopped::Interrupted) => writeln!(
            text,
            " the run was ended before every next hop was seen with {percent} %"
        ),
    };
}

/// A line of the drawing.
struct Line {
    /// TTL and branch mark.
    mark: String,
    who: String,
    flows: u32,
    answered: String,
    next: String,
}

fn drawing(paths: &Paths, style: Style, text: &mut String) {
    let last = paths.paths.iter().flat_map(|path| &path.hops);
    let last = last.map(|hop| hop.ttl).max().unwrap_or(0);
    let mut lines = Vec::new();
    for ttl in 1..=last {
        let here: Vec<usize> = (0..paths.graph.nodes.len())
            .filter(|nth| {
                paths
                    .graph
                    .nodes
                    .get(*nth)
                    .is_some_and(|it| it.ttls.contains(&ttl))
            })
            .collect();
        // Flows that nobody answered there.
        let silent: u32 = paths
            .paths
            .iter()
            .filter(|path| {
                path.hops
                    .iter()
                    .any(|it| it.ttl == ttl && it.who.is_empty())
            })
            .map(|path| path.flows)
            .sum();
        let count = here.len() + usize::from(silent > 0);
        for (nth, number) in here.into_iter().enumerate() {
            lines.push(Line {
                mark: mark(ttl, nth, count),
                ..line(paths, style, ttl, number, count > 1)
            });
        }
        if silent > 0 {
            lines.push(Line {
                mark: mark(ttl, count - 1, count),
                who: "*".to_owned(),
                flows: silent,
                answered: String::new(),
                next: String::new(),
            });
        }
    }
    let widest = lines
        .iter()
        .map(|it| it.who.chars().count())
        .max()
        .unwrap_or(0);
    for it in lines {
        let line = format!(
            "{} {:widest$}  {:>5} {:5}  {}  {}",
            it.mark,
            it.who,
            it.flows,
            if it.flows == 1 { "flow" } else { "flows" },
            it.answered,
            it.next
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// The TTL stands in front of its first line, and branches hang together.
fn mark(ttl: u8, nth: usize, count: usize) -> String {
    let branch = match (count, nth) {
        (1, _) => "─",
        (_, 0) => "┬",
        (count, nth) if nth + 1 == count => "└",
        _ => "├",
    };
    match nth {
        0 => format!("{ttl:2} {branch}"),
        _ => format!("   {branch}"),
    }
}

fn line(paths: &Paths, style: Style, ttl: u8, number: usize, is_branch: bool) -> Line {
    let none = Known::default();
    let known = paths.known.get(number).unwrap_or(&none);
    let node = paths.graph.nodes.get(number);
    let address = node.map(|it| it.address);
    let at_it = paths.paths.iter().filter(|path| {
        let mut hops = path.hops.iter();
        hops.any(|it| it.ttl == ttl && address.is_some_and(|address| it.who.contains(&address)))
    });
    // Those that go on from here to the next TTL.
    let next: Vec<usize> = paths
        .graph
        .links
        .keys()
        .filter(|(from, to)| {
            let next = paths.graph.nodes.get(*to);
            *from == number && next.is_some_and(|it| it.ttls.contains(&(ttl + 1)))
        })
        .map(|(_, to)| *to)
        .collect();
    let is_told = is_branch || next.len() > 1;
    let is_unclear = paths.graph.unclear.contains(&ttl) && next.is_empty();
    Line {
        mark: String::new(),
        who: who(address, known, style),
        flows: at_it.map(|path| path.flows).sum(),
        answered: loss_and_times(&known.answered),
        next: match (is_told, is_unclear) {
            (_, true) => "→ ? (packets go one by one)".to_owned(),
            (true, _) => arrow(paths, &next),
            (false, _) => String::new(),
        },
    }
}

fn who(address: Option<IpAddr>, known: &Known, style: Style) -> String {
    let address = address.map_or_else(String::new, |it| it.to_string());
    let mut who = match (&known.name, style.names) {
        (Some(name), true) => format!("{name} ({address})"),
        _ => address,
    };
    if let Some(asn) = known.owner.as_ref().and_then(|owner| owner.asn) {
        let _ = write!(who, " [AS{asn}]");
    }
    who
}

fn arrow(paths: &Paths, next: &[usize]) -> String {
    let mut text = String::new();
    for (nth, number) in next.iter().take(NAMED).enumerate() {
        text.push_str(if nth == 0 { "→ " } else { ", " });
        if let Some(node) = paths.graph.nodes.get(*number) {
            let _ = write!(text, "{}", node.address);
        }
    }
    if next.len() > NAMED {
        let _ = write!(text, " and {} more", next.len() - NAMED);
    }
    text
}

fn loss_and_times(it: &Answered) -> String {
    let mut text = match it.loss() {
        Some(loss) => format!("{:5.1} % lost", loss * 100.0),
        None => " ".repeat(12),
    };
    if let Some([_, median, _]) = it.rtt() {
        let _ = write!(text, "  {:>10}", Millis(median).to_string());
    }
    text
}

fn diamonds(paths: &Paths, text: &mut String) {
    if paths.graph.diamonds.is_empty() {
        return;
    }
    text.push_str("diamonds:\n");
    for (diamond, missed) in paths.graph.diamonds.iter().zip(&paths.failures) {
        let indent = if diamond.within.is_some() { "  " } else { "" };
        let end = match diamond.convergence {
            Some(end) => end.to_string(),
            None => "no common end".to_owned(),
        };
        let _ = writeln!(
            text,
            " {indent}{} ◇ {end}: {}; a next hop is missed with {:.2} %",
            diamond.divergence,
            shape(diamond),
            missed * 100.0
        );
    }
}

fn shape(diamond: &Diamond) -> String {
    let mut words = format!("{} wide, ", diamond.width);
    let (shortest, longest) = diamond.length;
    let _ = match shortest == longest {
        true => write!(words, "{longest} long"),
        false => write!(words, "{shortest} to {longest} long"),
    };
    for (is_so, word) in [
        (!diamond.is_symmetric(), "asymmetric"),
        (diamond.is_meshed, "meshed"),
        (diamond.is_per_packet, "per packet"),
    ] {
        if is_so {
            let _ = write!(words, ", {word}");
        }
    }
    let _ = write!(
        words,
        ", {} routers, {} links",
        diamond.inside.len(),
        diamond.links
    );
    if diamond.silent > 0 {
        let _ = write!(words, ", {} silent", diamond.silent);
    }
    words
}

fn ways(paths: &Paths, text: &mut String) {
    if paths.paths.is_empty() {
        return;
    }
    text.push_str("paths:\n");
    for path in &paths.paths {
        let flows = if path.flows == 1 { "flow" } else { "flows" };
        let _ = write!(text, " {:5} {flows:5}  ", path.flows);
        match path.end_to_end() {
            Some(whole) => {
                text.push_str(&loss_and_times(whole));
                text.push_str("  ");
            }
            None => {
                let _ = write!(text, "{:26}", "target not reached");
            }
        }
        text.push_str(&hops(path, paths));
        text.push('\n');
    }
}

/// The hops of a path that not all have in common.
fn hops(path: &Path, paths: &Paths) -> String {
    let mut text = String::new();
    for hop in &path.hops {
        let is_common = paths.paths.iter().all(|other| {
            let same = other.hops.iter().find(|it| it.ttl == hop.ttl);
            same.is_some_and(|it| it.who == hop.who)
        });
        if is_common && paths.paths.len() > 1 {
            continue;
        }
        let who: Vec<String> = hop.who.iter().map(IpAddr::to_string).collect();
        let who = if who.is_empty() {
            "*".to_owned()
        } else {
            who.join("|")
        };
        let _ = write!(text, " {}:{who}", hop.ttl);
    }
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipath::paths::merge;
    use crate::multipath::paths::tests::traces;
    use crate::multipath::paths::{Mda, Stopped};

    const STYLE: Style = Style {
        names: true,
        max_ttl: 30,
        method: crate::trace::Method::InSession,
    };

    fn text(ways: &[(&str, usize)], mda: Option<Mda>) -> String {
        let mut out = Vec::new();
        write(&merge(&traces(ways), mda).unwrap(), STYLE, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_diamond_is_drawn() {
        let mda = Mda {
            confidence: 0.95,
            is_complete: true,
            rounds: 2,
            stopped: None,
        };
        let ways = [("a b d T", 7), ("a c e d T", 6)];
        let expected = "\
paths to www.example (10.0.9.2), port 80, from 10.0.1.2: 13 flows, 2 paths, 1 diamond
 every next hop was seen, with 95 % a diamond (MDA, 2 rounds)
 1 ─ 10.1.0.97      13 flows    0.0 % lost    1.000 ms  → 10.1.0.98, 10.1.0.99
 2 ┬ 10.1.0.98       7 flows    0.0 % lost    1.000 ms  → 10.1.0.100
   └ 10.1.0.99       6 flows    0.0 % lost    1.000 ms  → 10.1.0.101
 3 ┬ 10.1.0.100      7 flows    0.0 % lost    1.000 ms  → 10.0.9.2
   └ 10.1.0.101      6 flows    0.0 % lost    1.000 ms  → 10.1.0.100
 4 ┬ 10.1.0.100      6 flows    0.0 % lost    1.000 ms  → 10.0.9.2
   └ 10.0.9.2        7 flows    0.0 % lost    1.000 ms
 5 ─ 10.0.9.2        6 flows    0.0 % lost    1.000 ms
diamonds:
 10.1.0.97 ◇ 10.1.0.100: 2 wide, 2 to 3 long, asymmetric, 3 routers, 5 links; a next hop is missed with 1.54 %
paths:
     7 flows    0.0 % lost    1.000 ms  2:10.1.0.98 3:10.1.0.100 4:10.0.9.2
     6 flows    0.0 % lost    1.000 ms  2:10.1.0.99 3:10.1.0.101 4:10.1.0.100 5:10.0.9.2
";
        assert_eq!(text(&ways, Some(mda)), expected);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mda = Mda {
            confidence: 0.99,
            is_complete: false,
            rounds: 1,
            stopped: Some(Stopped::FlowsMax),
        };
        let text = text(&[("aaa bcb dbd . TdT TTT", 1), ("a b . .", 1)], Some(mda));
        for words in [
            "it takes more flows to have seen every next hop with 99 %; --flows-max allows them\n",
            "→ ? (packets go one by one)",
            " 4 ─ *",
            "per packet",
            "target not reached",
            "3:10.1.0.98|10.1.0.100",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
