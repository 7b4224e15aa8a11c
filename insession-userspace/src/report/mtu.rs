//! How large a packet gets how far, as text and in the record.

use std::fmt::Write as _;
use std::io;

use super::json::bytes::{boolean, comma, number, optional, optional_address, text, word};
use crate::trace::{MtuLimit, MtuStep, PathMtu, Trace};

/// A line for each place where the MTU becomes smaller, to stand under the hops, and one
/// that sums up; nothing where it was not measured.
#[must_use]
pub fn lines(trace: &Trace) -> String {
    let mut lines = String::new();
    let Some(mtu) = &trace.mtu else {
        return lines;
    };
    let mut before = mtu.largest.unwrap_or_default();
    for step in &mtu.steps {
        let _ = write!(lines, " MTU {}", step.mtu);
        let _ = match step.ttl {
            0 => write!(lines, " before hop 1"),
            ttl => write!(lines, " behind hop {ttl}"),
        };
        if let Some(from) = step.from {
            let _ = write!(lines, " ({from})");
        }
        let _ = match step.told {
            true => writeln!(lines, ", told by it; {before} up to there"),
            false => writeln!(
                lines,
                ", told by nobody: larger packets vanish; {before} up to there"
            ),
        };
        before = step.mtu;
    }
    lines.push_str(&sum(mtu, trace.destination_ttl.is_some()));
    lines
}

fn sum(mtu: &PathMtu, reached: bool) -> String {
    let mut line = match mtu.path {
        Some(path) if mtu.is_lower_bound() => format!(" path MTU at least {path}"),
        Some(path) => format!(" path MTU {path}"),
        None => " path MTU not found".to_owned(),
    };
    if let (Some(_), Some(ttl), false) = (mtu.path, mtu.to_ttl, reached) {
        let _ = write!(line, " as far as hop {ttl}");
    }
    let why = match mtu.limit {
        Some(MtuLimit::Mss) => "the peer takes no longer segments",
        Some(MtuLimit::Window) => "the peer's receive window holds no more",
        Some(MtuLimit::Frame) => "our link writes no longer frames",
        None => "",
    };
    let why = Some(why).filter(|_| mtu.path.is_some() && mtu.is_lower_bound());
    let why: Vec<&str> = why.into_iter().chain(mtu.detail.as_deref()).collect();
    if !why.is_empty() {
        let _ = write!(line, ": {}", why.join("; "));
    }
    line.push('\n');
    line
}

/// Adds the record's field, only where it was measured.
pub(super) fn append(trace: &Trace, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(mtu) = &trace.mtu else {
        return Ok(());
    };
    out.extend_from_slice(b",\"mtu\":{\"link\":");
    number(mtu.link.into(), out);
    out.extend_from_slice(b",\"largest\":");
    optional(mtu.largest, out);
    out.extend_from_slice(b",\"limit\":");
    match mtu.limit {
        Some(limit) => word(limit.as_str(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"to_ttl\":");
    optional(mtu.to_ttl, out);
    out.extend_from_slice(b",\"path\":");
    optional(mtu.path, out);
    out.extend_from_slice(b",\"steps\":[");
    for (nth, step) in mtu.steps.iter().enumerate() {
        comma(nth, out);
        append_step(step, out);
    }
    out.extend_from_slice(b"],\"detail\":");
    text(mtu.detail.as_deref(), out)?;
    out.push(b'}');
    Ok(())
}

fn append_step(step: &MtuStep, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ttl\":");
    number(step.ttl.into(), out);
    out.extend_from_slice(b",\"from\":");
    optional_address(step.from, out);
    out.extend_from_slice(b",\"mtu\":");
    number(step.mtu.into(), out);
    out.extend_from_slice(b",\"told\":");
    boolean(step.told, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{json, samples};

    fn measured(mtu: PathMtu) -> Trace {
        Trace {
            mtu: Some(mtu),
            ..samples::four_hops()
        }
    }

    fn said(mtu: PathMtu) -> String {
        lines(&measured(mtu))
    }

    #[test]
    fn where_it_becomes_smaller_and_who_says_so() {
        let expected = " MTU 1400 behind hop 1 (10.0.1.1), told by it; 1500 up to there
 MTU 1300 behind hop 2, told by nobody: larger packets vanish; 1400 up to there
 path MTU 1300
";
        assert_eq!(said(samples::path_mtu()), expected);
    }

    #[test]
    fn a_lower_bound_is_called_one() {
        let bound = PathMtu {
            largest: Some(1452),
            limit: Some(MtuLimit::Mss),
            path: Some(1452),
            steps: vec![],
            ..samples::path_mtu()
        };
        let expected = " path MTU at least 1452: the peer takes no longer segments\n";
        assert_eq!(said(bound.clone()), expected);
        // Below that it is one no longer.
        let smaller = PathMtu {
            path: Some(1300),
            ..bound
        };
        assert_eq!(said(smaller), " path MTU 1300\n");
    }

    #[test]
    fn without_a_destination_it_is_that_of_the_way_to_a_hop() {
        let mut trace = measured(PathMtu {
            steps: vec![],
            ..samples::path_mtu()
        });
        trace.destination_ttl = None;
        assert_eq!(lines(&trace), " path MTU 1300 as far as hop 4\n");
    }

    #[test]
    fn what_was_not_found_has_a_reason_and_what_was_not_asked_has_no_line() {
        let none = PathMtu {
            largest: None,
            to_ttl: None,
            path: None,
            steps: vec![],
            detail: Some("the peer closed the session before".to_owned()),
            ..samples::path_mtu()
        };
        let expected = " path MTU not found: the peer closed the session before\n";
        assert_eq!(said(none), expected);
        assert_eq!(lines(&samples::four_hops()), "");
    }

    #[test]
    fn the_record_has_it_all() {
        let mut line = Vec::new();
        json::append(&measured(samples::path_mtu()), &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        let expected = concat!(
            r#","mtu":{"link":1500,"largest":1500,"limit":null,"to_ttl":4,"path":1300,"steps":["#,
            r#"{"ttl":1,"from":"10.0.1.1","mtu":1400,"told":true},"#,
            r#"{"ttl":2,"from":null,"mtu":1300,"told":false}],"detail":null},"link":"#,
        );
        assert!(line.contains(expected), "{line}");
    }
}
