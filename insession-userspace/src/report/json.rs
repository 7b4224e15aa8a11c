//! The contract `insession.trace/1`: one JSON object a target, one a line.
//!
//! Times are microseconds with the nanoseconds behind the point.

use std::io;

use super::civil::Rfc3339;
use super::{changes, mtu};
use crate::multipath::within;
use crate::trace::{Handshake, LinkInfo, Trace};
use bytes::{address, boolean, comma, micros, number, optional, optional_address, text, word};

pub(super) mod bytes;
mod hops;
mod read;

pub use read::{ReadError, read};

/// Writes the record of one target, with its line end.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(trace: &Trace, out: &mut dyn io::Write) -> io::Result<()> {
    let mut line = Vec::new();
    append(trace, &mut line)?;
    out.write_all(&line)
}

/// Adds the record of one target, with its line end, to what is written to memory.
///
/// # Errors
/// What serde_json says of a text from outside; memory takes everything.
pub fn append(trace: &Trace, out: &mut Vec<u8>) -> io::Result<()> {
    // Some 250 octets a probe with its reply.
    let probes: usize = trace.hops.iter().map(|hop| hop.probes.len()).sum();
    out.reserve(768 + 256 * probes);
    out.extend_from_slice(b"{\"schema\":\"insession.trace/1\",\"target\":");
    text(Some(&trace.target), out)?;
    out.extend_from_slice(b",\"address\":");
    optional_address(trace.address, out);
    out.extend_from_slice(b",\"port\":");
    number(trace.port.into(), out);
    out.extend_from_slice(b",\"method\":");
    word(trace.method.as_str(), out);
    out.extend_from_slice(b",\"source\":");
    optional_address(trace.source, out);
    out.extend_from_slice(b",\"source_port\":");
    optional(trace.source_port, out);
    out.extend_from_slice(b",\"started\":\"");
    Rfc3339(trace.started).append(out);
    out.extend_from_slice(b"\",\"duration_us\":");
    micros(trace.duration, out);
    out.extend_from_slice(b",\"verdict\":");
    word(trace.verdict.as_str(), out);
    out.extend_from_slice(b",\"detail\":");
    text(trace.detail.as_deref(), out)?;
    out.extend_from_slice(b",\"handshake\":");
    append_handshake(trace.handshake.as_ref(), out);
    out.extend_from_slice(b",\"destination_ttl\":");
    optional(trace.destination_ttl, out);
    out.extend_from_slice(b",\"hops\":");
    hops::write(&trace.hops, out)?;
    append_balancing(trace, out);
    changes::append(trace, out);
    mtu::append(trace, out)?;
    out.extend_from_slice(b",\"link\":");
    append_link(trace.link.as_deref(), out)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

fn append_handshake(handshake: Option<&Handshake>, out: &mut Vec<u8>) {
    let Some(handshake) = handshake else {
        out.extend_from_slice(b"null");
        return;
    };
    out.extend_from_slice(b"{\"rtt_us\":");
    micros(handshake.rtt, out);
    out.extend_from_slice(b",\"mss\":");
    number(handshake.mss.into(), out);
    out.extend_from_slice(b",\"sack\":");
    boolean(handshake.sack, out);
    out.extend_from_slice(b",\"timestamps\":");
    boolean(handshake.timestamps, out);
    out.extend_from_slice(b",\"window_scale\":");
    optional(handshake.window_scale, out);
    out.push(b'}');
}

/// Only where there is something to say: nearly all records have nothing.
fn append_balancing(trace: &Trace, out: &mut Vec<u8>) {
    let found = within::within(trace);
    if found.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"balancing\":[");
    for (nth, it) in found.iter().enumerate() {
        comma(nth, out);
        out.extend_from_slice(b"{\"ttl\":");
        number(it.ttl.into(), out);
        out.extend_from_slice(b",\"kind\":");
        word(it.kind.as_str(), out);
        out.extend_from_slice(b",\"routers\":[");
        for (nth, router) in it.routers.iter().enumerate() {
            comma(nth, out);
            address(*router, out);
        }
        out.extend_from_slice(b"],\"at_us\":[");
        for (nth, at) in it.at.iter().enumerate() {
            comma(nth, out);
            micros(*at, out);
        }
        out.extend_from_slice(b"],\"moments\":");
        number(it.moments as u64, out);
        out.extend_from_slice(b",\"p\":");
        // A part of one, by a thousand trials.
        out.extend_from_slice(format!("{:.3}", it.p).as_bytes());
        out.push(b'}');
    }
    out.push(b']');
}

fn append_link(link: Option<&LinkInfo>, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(link) = link else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    out.extend_from_slice(b"{\"kind\":");
    word(link.kind, out);
    out.extend_from_slice(b",\"mode\":");
    match link.mode {
        Some(mode) => word(mode, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"zero_copy\":");
    boolean(link.zero_copy, out);
    out.extend_from_slice(b",\"interface\":");
    text(Some(&link.interface), out)?;
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::trace::Verdict;

    fn line(trace: &Trace) -> String {
        let mut out = Vec::new();
        write(trace, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_complete_trace_byte_by_byte() {
        let expected = concat!(
            r#"{"schema":"insession.trace/1","target":"www.example","address":"10.0.9.2","port":80,"method":"insession","#,
            r#""source":"10.0.1.2","source_port":61234,"started":"2026-01-02T03:04:05.678901Z","duration_us":81234.5,"#,
            r#""verdict":"complete","detail":null,"#,
            r#""handshake":{"rtt_us":812.4,"mss":1460,"sack":true,"timestamps":true,"window_scale":7},"#,
            r#""destination_ttl":2,"#,
            r#""hops":[{"ttl":1,"probes":["#,
            r#"{"kind":"time-exceeded","from":"10.0.1.1","name":null,"asn":null,"rtt_us":57.1,"rtt_bound":"exact","sent_us":1042.0,"#,
            r#""icmp_type":11,"icmp_code":0,"reply_ttl":64,"quoted_ttl":1,"mpls":[{"label":24001,"tc":1,"s":true,"ttl":1}],"rewrites":["source","dscp"]},"#,
            r#"{"kind":"none","sent_us":1043.0}]},"#,
            r#"{"ttl":2,"probes":["#,
            r#"{"kind":"sack","from":"10.0.9.2","name":"www.example","asn":64500,"rtt_us":204.625,"rtt_bound":"upper","sent_us":1050.125,"#,
            r#""icmp_type":null,"icmp_code":null,"reply_ttl":63,"quoted_ttl":null,"mpls":[],"rewrites":[]}]}],"#,
            r#""changes":[{"what":"source","first_ttl":1,"from":"10.0.1.1","not_at_ttl":null},"#,
            r#"{"what":"dscp","first_ttl":1,"from":"10.0.1.1","not_at_ttl":null}],"#,
            r#""link":{"kind":"xdp","mode":"native","zero_copy":false,"interface":"eth0"}}"#,
            "\n",
        );
        assert_eq!(line(&samples::contract()), expected);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let expected = concat!(
            r#"{"schema":"insession.trace/1","target":"nosuch.example","address":null,"port":443,"method":"insession","#,
            r#""source":null,"source_port":null,"started":"1970-01-01T00:00:00.000000Z","duration_us":0.0,"#,
            r#""verdict":"error","detail":"nosuch.example: no such host; \"check\" the name","#,
            r#""handshake":null,"destination_ttl":null,"hops":[],"link":null}"#,
            "\n",
        );
        let mut trace = samples::empty("nosuch.example", Verdict::Error);
        trace.detail = Some("nosuch.example: no such host; \"check\" the name".to_owned());
        assert_eq!(line(&trace), expected);
    }

    #[test]
    fn several_responders_of_a_ttl_are_told() {
        let text = line(&samples::annotated());
        let expected = concat!(
            r#"],"balancing":[{"ttl":1,"kind":"undecided","routers":["10.0.1.1","10.0.1.2"],"#,
            r#""at_us":[],"moments":1,"p":1.000}],"changes":[{"what":"ttl","first_ttl":5,"from":"10.0.5.1","not_at_ttl":null}],"link":"#,
        );
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn every_verdict_and_kind_by_the_contracts_word() {
        for trace in samples::every_verdict() {
            let text = line(&trace);
            assert_eq!(text.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["verdict"], trace.verdict.as_str());
            assert_eq!(value["detail"].as_str(), trace.detail.as_deref());
        }
        let value: serde_json::Value = serde_json::from_str(&line(&samples::annotated())).unwrap();
        let hops = value["hops"].as_array().unwrap();
        let mut kinds = Vec::new();
        for probe in hops
            .iter()
            .flat_map(|hop| hop["probes"].as_array().unwrap())
        {
            let kind = probe["kind"].as_str().unwrap();
            kinds.push(kind);
        }
        for kind in [
            "time-exceeded",
            "unreachable",
            "packet-too-big",
            "sack",
            "dup-ack",
            "rst",
            "none",
        ] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
    }
}
