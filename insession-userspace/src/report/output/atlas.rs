//! A result of RIPE Atlas' traceroute, as its API gives them from firmware 5000 on.
//!
//! What Atlas' back end knows and we do not has placeholders that no measurement of
//! Atlas has: `msm_id` 0, `prb_id` 0, an empty `from`.

use std::io;
use std::net::IpAddr;

use super::lines::{millis, text_of};
use crate::report::json::bytes::{address, comma, optional_address, text};
use crate::targets::spec::{self, Host};
use crate::trace::{Method, Reply, ReplyKind, Trace, Verdict, address_text};
use crate::wire::alone;

/// The firmware whose format it is.
const FIRMWARE: u32 = 5080;

/// Adds the line of a trace. Every target has one; where nothing was sent, its only hop
/// is the reason.
pub(super) fn append(trace: &Trace, _json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let end = trace
        .started
        .0
        .saturating_add(u64::try_from(trace.duration.as_nanos()).unwrap_or(u64::MAX))
        / 1_000_000_000;
    text_of(
        out,
        format_args!(
            "{{\"fw\":{FIRMWARE},\"mver\":\"{}\",\"lts\":-1,\"endtime\":{end},\"dst_name\":",
            env!("CARGO_PKG_VERSION")
        ),
    );
    text(Some(&name(trace)), out)?;
    if trace.address.is_some() {
        out.extend_from_slice(b",\"dst_addr\":");
        optional_address(trace.address, out);
    }
    out.extend_from_slice(b",\"src_addr\":");
    match trace.source {
        Some(source) => address(source, out),
        None => out.extend_from_slice(b"\"\""),
    }
    let v6 = trace.address.is_some_and(|address| address.is_ipv6());
    let family = if v6 { 6 } else { 4 };
    // Octets of data a probe.
    let (protocol, size) = match trace.method {
        Method::InSession | Method::Sidecar => ("TCP", 1),
        Method::Tcp | Method::ParisTcp => ("TCP", 0),
        Method::Udp | Method::ParisUdp | Method::Dublin => ("UDP", alone::DATA),
        Method::Icmp | Method::ParisIcmp => ("ICMP", alone::DATA),
    };
    text_of(
        out,
        format_args!(",\"proto\":\"{protocol}\",\"af\":{family},\"size\":{size},\"result\":["),
    );
    append_hops(trace, out)?;
    text_of(
        out,
        format_args!(
            "],\"msm_id\":0,\"prb_id\":0,\"timestamp\":{},\"msm_name\":\"Traceroute\",\"from\":\"\",\
             \"type\":\"traceroute\"}}\n",
            trace.started.0 / 1_000_000_000
        ),
    );
    Ok(())
}

/// The target without its port.
fn name(trace: &Trace) -> String {
    match spec::parse(&trace.target).map(|spec| spec.host) {
        Ok(Host::Name(name)) => name,
        Ok(Host::Address(address)) => address_text(address),
        Err(_) => trace.target.clone(),
    }
}

/// Up to the destination: there Atlas' traceroute ends, and its readers look at the last
/// hop to tell whether it was reached.
fn append_hops(trace: &Trace, out: &mut Vec<u8>) -> io::Result<()> {
    let last = match trace.verdict {
        Verdict::Complete => trace.destination_ttl.unwrap_or(u8::MAX),
        _ => u8::MAX,
    };
    let mut count = 0;
    for hop in trace.hops.iter().filter(|hop| hop.ttl <= last) {
        comma(count, out);
        count += 1;
        text_of(out, format_args!("{{\"hop\":{},\"result\":[", hop.ttl));
        for (nth, probe) in hop.probes.iter().enumerate() {
            comma(nth, out);
            match &probe.reply {
                Some(reply) => append_reply(reply, trace.address, out),
                None => out.extend_from_slice(b"{\"x\":\"*\"}"),
            }
        }
        out.extend_from_slice(b"]}");
    }
    if count == 0 || !by_the_path(trace.verdict) {
        let next = trace.hops.last().map_or(1, |hop| hop.ttl.saturating_add(1));
        let why = match &trace.detail {
            Some(detail) => format!("{}: {detail}", trace.verdict.as_str()),
            None => trace.verdict.as_str().to_owned(),
        };
        comma(count, out);
        text_of(out, format_args!("{{\"hop\":{next},\"error\":"));
        text(Some(&why), out)?;
        out.push(b'}');
    }
    Ok(())
}

/// Whether the hops show how it ended.
fn by_the_path(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Complete | Verdict::Unreachable | Verdict::GapLimit | Verdict::MaxTtl
    )
}

fn append_reply(reply: &Reply, target: Option<IpAddr>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"from\":");
    address(reply.from, out);
    if let Some(ttl) = reply.reply_ttl {
        text_of(out, format_args!(",\"ttl\":{ttl}"));
    }
    out.extend_from_slice(b",\"rtt\":");
    millis(reply.rtt, out);
    if let Some(ttl) = reply.quoted_ttl.filter(|ttl| *ttl != 1) {
        text_of(out, format_args!(",\"ittl\":{ttl}"));
    }
    let v6 = target.is_some_and(|address| address.is_ipv6());
    if let (ReplyKind::Unreachable, Some((_, code))) = (reply.kind, reply.icmp) {
        append_error(v6, code, out);
    }
    if let Some(mtu) = reply.mtu {
        text_of(out, format_args!(",\"mtu\":{mtu}"));
    }
    match reply.kind {
        ReplyKind::Sack | ReplyKind::DupAck => out.extend_from_slice(b",\"flags\":\"A\""),
        ReplyKind::Rst => out.extend_from_slice(b",\"flags\":\"R\""),
        ReplyKind::SynAck => out.extend_from_slice(b",\"flags\":\"SA\""),
        _ => {}
    }
    if !reply.mpls.is_empty() {
        out.extend_from_slice(
            b",\"icmpext\":{\"version\":2,\"rfc4884\":1,\"obj\":[{\"class\":1,\"type\":1,\"mpls\":[",
        );
        for (nth, label) in reply.mpls.iter().enumerate() {
            comma(nth, out);
            text_of(
                out,
                format_args!(
                    "{{\"label\":{},\"exp\":{},\"s\":{},\"ttl\":{}}}",
                    label.label,
                    label.tc,
                    u8::from(label.bottom),
                    label.ttl
                ),
            );
        }
        out.extend_from_slice(b"]}]}");
    }
    out.push(b'}');
}

/// A letter where Atlas has one, else the code.
fn append_error(v6: bool, code: u8, out: &mut Vec<u8>) {
    let letter = match (v6, code) {
        (false, 0) | (true, 0) => 'N',
        (false, 1) | (true, 3) => 'H',
        (false, 2) => 'P',
        (false, 3) | (true, 4) => 'p',
        (false, 13) | (true, 1) => 'A',
        (true, 2) => 'h',
        _ => {
            text_of(out, format_args!(",\"err\":{code}"));
            return;
        }
    };
    text_of(out, format_args!(",\"err\":\"{letter}\""));
}
