//! The contract `insession.trace/1`: one JSON object a target, one a line.
//!
//! Field order is that of the contract; it follows the order of the fields of
//! the structs below. Times are microseconds with the nanoseconds behind the
//! point; a `u64` of nanoseconds below 2⁵³ (104 days) is exact so.

use std::io;
use std::net::IpAddr;

use serde::Serialize;
use serde::ser::Serializer;

use super::civil::Rfc3339;
use crate::time::Duration;
use crate::trace::{Handshake, LinkInfo, Trace};

mod hops;

/// Writes the record of one target, with its line end.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(trace: &Trace, out: &mut dyn io::Write) -> io::Result<()> {
    // Some 250 octets a probe with its reply.
    let probes: usize = trace.hops.iter().map(|hop| hop.probes.len()).sum();
    let mut line = Vec::with_capacity(768 + 256 * probes);
    serde_json::to_writer(&mut line, &Record::new(trace))?;
    // The object goes on.
    line.pop();
    line.extend_from_slice(b",\"hops\":");
    hops::write(&trace.hops, &mut line)?;
    line.extend_from_slice(b",\"link\":");
    let link = trace.link.as_ref().map(LinkRecord::new);
    serde_json::to_writer(&mut line, &link)?;
    line.extend_from_slice(b"}\n");
    out.write_all(&line)
}

/// All that comes before the hops.

#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    target: &'a str,
    address: Option<IpAddr>,
    port: u16,
    method: &'static str,
    source: Option<IpAddr>,
    source_port: Option<u16>,
    #[serde(serialize_with = "display")]
    started: Rfc3339,
    duration_us: f64,
    verdict: &'static str,
    detail: Option<&'a str>,
    handshake: Option<HandshakeRecord>,
    destination_ttl: Option<u8>,
}

impl<'a> Record<'a> {
    fn new(trace: &'a Trace) -> Self {
        Record {
            schema: "insession.trace/1",
            target: &trace.target,
            address: trace.address,
            port: trace.port,
            method: trace.method.as_str(),
            source: trace.source,
            source_port: trace.source_port,
            started: Rfc3339(trace.started),
            duration_us: micros(trace.duration),
            verdict: trace.verdict.as_str(),
            detail: trace.detail.as_deref(),
            handshake: trace.handshake.as_ref().map(HandshakeRecord::new),
            destination_ttl: trace.destination_ttl,
        }
    }
}

#[derive(Serialize)]
struct HandshakeRecord {
    rtt_us: f64,
    mss: u16,
    sack: bool,
    timestamps: bool,
    window_scale: Option<u8>,
}

impl HandshakeRecord {
    fn new(handshake: &Handshake) -> Self {
        HandshakeRecord {
            rtt_us: micros(handshake.rtt),
            mss: handshake.mss,
            sack: handshake.sack,
            timestamps: handshake.timestamps,
            window_scale: handshake.window_scale,
        }
    }
}

#[derive(Serialize)]
struct LinkRecord<'a> {
    kind: &'static str,
    mode: Option<&'static str>,
    zero_copy: bool,
    interface: &'a str,
}

impl<'a> LinkRecord<'a> {
    fn new(link: &'a LinkInfo) -> Self {
        LinkRecord {
            kind: link.kind,
            mode: link.mode,
            zero_copy: link.zero_copy,
            interface: &link.interface,
        }
    }
}

fn micros(span: Duration) -> f64 {
    // One division of an integer, so that 57_100 ns prints as 57.1.
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) as f64 / 1_000.0
}

fn display<S: Serializer>(
    value: &impl core::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
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
