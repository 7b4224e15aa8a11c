//! What changed on the way, as text and in the record.

use std::fmt::Write as _;

use super::json::bytes::{comma, number, optional, word};
use crate::trace::changes::{Change, Changed, changes};
use crate::trace::{Trace, write_address};

/// A line each, to stand under the hops; nothing where nothing changed.
#[must_use]
pub fn lines(trace: &Trace) -> String {
    let mut lines = String::new();
    for change in changes(&trace.hops, trace.destination_ttl) {
        let _ = match change.what {
            Changed::Rewritten(rewrite) => write!(lines, " {} changed", rewrite.as_str()),
            Changed::Nat(0) => write!(lines, " NAT undone"),
            Changed::Nat(nat) => write!(lines, " NAT {nat}"),
        };
        let _ = match change.not_at_ttl {
            Some(before) => write!(lines, " between hop {before} and {}", change.first_ttl),
            None => write!(lines, " by hop {}", change.first_ttl),
        };
        let _ = writeln!(lines, " ({})", change.from);
    }
    lines
}

/// Adds the record's field, only where there is something in it.
pub(super) fn append(trace: &Trace, out: &mut Vec<u8>) {
    let changes = changes(&trace.hops, trace.destination_ttl);
    if changes.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"changes\":[");
    for (nth, change) in changes.iter().enumerate() {
        comma(nth, out);
        append_one(change, out);
    }
    out.push(b']');
}

fn append_one(change: &Change, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"what\":");
    word(change.what.as_str(), out);
    if let Changed::Nat(nat) = change.what {
        out.extend_from_slice(b",\"nat\":");
        number(nat.into(), out);
    }
    out.extend_from_slice(b",\"first_ttl\":");
    number(change.first_ttl.into(), out);
    out.extend_from_slice(b",\"from\":\"");
    write_address(change.from, out);
    out.extend_from_slice(b"\",\"not_at_ttl\":");
    optional(change.not_at_ttl, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::trace::Rewrite;

    fn changed() -> Trace {
        let mut trace = samples::four_hops();
        for hop in &mut trace.hops {
            let ttl = hop.ttl;
            let replies = hop.probes.iter_mut();
            for reply in replies.filter_map(|probe| probe.reply.as_mut()) {
                reply.quoted_ttl = Some(1);
                if ttl >= 2 {
                    reply.rewrites = vec![Rewrite::Mss];
                }
                reply.nat = Some(if ttl == 2 { 41_234 } else { 0 });
            }
        }
        trace
    }

    #[test]
    fn a_line_each() {
        // A backslash at a line's end takes the next line's first space.
        let expected = " mss changed between hop 1 and 2 (10.0.2.1)
 NAT 41234 between hop 1 and 2 (10.0.2.1)
 NAT undone between hop 2 and 4 (10.0.9.2)
";
        assert_eq!(lines(&changed()), expected);
        assert_eq!(lines(&samples::four_hops()), "");
    }

    #[test]
    fn the_record_has_them_where_there_are_some() {
        let mut out = Vec::new();
        append(&changed(), &mut out);
        let expected = concat!(
            r#","changes":[{"what":"mss","first_ttl":2,"from":"10.0.2.1","not_at_ttl":1},"#,
            r#"{"what":"nat","nat":41234,"first_ttl":2,"from":"10.0.2.1","not_at_ttl":1},"#,
            r#"{"what":"nat","nat":0,"first_ttl":4,"from":"10.0.9.2","not_at_ttl":2}]"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        append(&samples::four_hops(), &mut out);
        assert_eq!(out, b"");
    }
}
