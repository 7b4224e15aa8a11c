//! scamper's JSON object of a trace, as `sc_warts2json` and `scamper -O json` write it.
//!
//! A probe in a session is a TCP segment with ACK on one flow, so that method is
//! scamper's `tcp-ack`: consumers know it. Others have their like there. What a record does not hold (TOS, IP identification,
//! sizes of replies, the options of the run) is zero where scamper always writes it,
//! and left out where it does not.

use std::fmt::Write as _;
use std::io;

use super::lines::{millis, text_of};
use crate::report::civil::Rfc3339;
use crate::report::json::bytes::{address, comma, number, optional, text};
use crate::time::UnixTime;
use crate::trace::{Hop, Method, MplsLabel, Probe, Reply, ReplyKind, Trace, Verdict};
use crate::wire::alone;

/// Adds the line of a trace. Every target has one, also if nothing was sent to it.
pub(super) fn append(trace: &Trace, _json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let probes = || trace.hops.iter().flat_map(|hop| &hop.probes);
    let last = trace.hops.last().map_or(0, |hop| hop.ttl);
    let stop = trace.destination_ttl.unwrap_or(last);
    let attempts = trace.hops.iter().map(|hop| hop.probes.len()).max();
    out.extend_from_slice(b"{\"type\":\"trace\",\"version\":\"0.1\",\"userid\":0");
    text_of(
        out,
        format_args!(",\"method\":\"{}\"", method(trace.method)),
    );
    for (key, known) in [("src", trace.source), ("dst", trace.address)] {
        if let Some(known) = known {
            text_of(out, format_args!(",\"{key}\":"));
            address(known, out);
        }
    }
    out.extend_from_slice(b",\"sport\":");
    number(trace.source_port.unwrap_or(0).into(), out);
    out.extend_from_slice(b",\"dport\":");
    number(trace.port.into(), out);
    append_stop(trace, out)?;
    let started = Rfc3339(trace.started).to_string();
    let (date, time) = started.split_once('T').unwrap_or_default();
    out.extend_from_slice(b",\"start\":");
    append_moment(trace.started, out);
    // As an object that is open yet: the date in words belongs to it.
    out.pop();
    let time = time.get(..8).unwrap_or_default();
    text_of(out, format_args!(",\"ftime\":\"{date} {time}\"}}"));
    text_of(
        out,
        format_args!(
            ",\"hop_count\":{stop},\"attempts\":{},\"hoplimit\":0,\"firsthop\":{},\"wait\":0,\
             \"wait_probe\":0,\"tos\":0,\"probe_size\":{},\"probe_count\":{},\"flags\":[\"all-attempts\"]",
            attempts.unwrap_or(0).min(255),
            trace.hops.first().map_or(1, |hop| hop.ttl),
            probe_size(trace),
            probes().count().min(65_535),
        ),
    );
    let near = |hop: &&Hop| hop.ttl <= stop;
    let far = |hop: &&Hop| hop.ttl > stop;
    append_replies("hops", trace, near, out)?;
    append_replies("extra_hops", trace, far, out)?;
    append_silences("no_hops", trace, near, out);
    append_silences("extra_no_hops", trace, far, out);
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// The method, in scamper's words.
fn method(method: Method) -> &'static str {
    match method {
        Method::InSession | Method::Sidecar => "tcp-ack",
        Method::Icmp => "icmp-echo",
        Method::Udp => "udp",
        Method::Tcp | Method::ParisTcp => "tcp",
        Method::ParisIcmp => "icmp-echo-paris",
        Method::ParisUdp | Method::Dublin => "udp-paris",
    }
}

/// Why it ended, in scamper's words; what scamper has no word for is an error with ours.
fn append_stop(trace: &Trace, out: &mut Vec<u8>) -> io::Result<()> {
    let reason = match trace.verdict {
        Verdict::Complete => "COMPLETED",
        Verdict::Unreachable => "UNREACH",
        Verdict::GapLimit => "GAPLIMIT",
        Verdict::MaxTtl => "HOPLIMIT",
        Verdict::Interrupted => "HALTED",
        Verdict::Refused
        | Verdict::Reset
        | Verdict::ClosedByPeer
        | Verdict::HandshakeTimeout
        | Verdict::SeqRewritten
        | Verdict::Excluded
        | Verdict::NoRoute
        | Verdict::Error => "ERROR",
    };
    // The code of the error that ended it.
    let code = match trace.verdict {
        Verdict::Unreachable => {
            let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
            let replies = probes.filter_map(|probe| probe.reply.as_ref());
            let mut errors = replies.filter(|reply| reply.kind == ReplyKind::Unreachable);
            errors.next_back().and_then(|reply| reply.icmp)
        }
        _ => None,
    };
    text_of(
        out,
        format_args!(
            ",\"stop_reason\":\"{reason}\",\"stop_data\":{}",
            code.map_or(0, |(_, code)| code)
        ),
    );
    if reason == "ERROR" {
        let mut message = format!("{}: {}", trace.target, trace.verdict.as_str());
        if let Some(detail) = &trace.detail {
            let _ = write!(message, ": {detail}");
        }
        out.extend_from_slice(b",\"errmsg\":");
        text(Some(&message), out)?;
    }
    Ok(())
}

/// `{"sec":…,"usec":…}`.
fn append_moment(at: UnixTime, out: &mut Vec<u8>) {
    let micros = at.0 / 1_000;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    text_of(out, format_args!("{{\"sec\":{seconds},\"usec\":{micros}}}"));
}

/// Octets of a probe from its IP header on: one octet of data, and timestamps where they
/// were negotiated.
fn probe_size(trace: &Trace) -> u16 {
    let v6 = trace.address.is_some_and(|address| address.is_ipv6());
    let timestamps = trace
        .handshake
        .is_some_and(|handshake| handshake.timestamps);
    let ip = if v6 { 40 } else { 20 };
    if !trace.method.is_in_session() {
        // A SYN with its options is as long as a header of eight with data.
        return ip + (alone::HEADER_LEN + alone::DATA) as u16;
    }
    let options = if timestamps { 12 } else { 0 };
    ip + 20 + options + 1
}

fn append_probe(trace: &Trace, hop: &Hop, nth: usize, probe: &Probe, out: &mut Vec<u8>) {
    let sent = u64::try_from(probe.sent.as_nanos()).unwrap_or(u64::MAX);
    text_of(
        out,
        format_args!(
            "\"probe_ttl\":{},\"probe_id\":{},\"probe_size\":{},\"tx\":",
            hop.ttl,
            nth.min(255),
            probe_size(trace)
        ),
    );
    append_moment(UnixTime(trace.started.0.saturating_add(sent)), out);
}

fn append_replies(
    key: &str,
    trace: &Trace,
    which: impl Fn(&&Hop) -> bool,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut count = 0;
    for hop in trace.hops.iter().filter(which) {
        for (nth, probe) in hop.probes.iter().enumerate() {
            let Some(reply) = &probe.reply else { continue };
            begin(key, count, out);
            count += 1;
            out.extend_from_slice(b"{\"addr\":");
            address(reply.from, out);
            if let Some(name) = &reply.name {
                out.extend_from_slice(b",\"name\":");
                text(Some(name), out)?;
            }
            out.push(b',');
            append_probe(trace, hop, nth, probe, out);
            append_reply(reply, out);
            out.push(b'}');
        }
    }
    end(count, out);
    Ok(())
}

fn append_silences(key: &str, trace: &Trace, which: impl Fn(&&Hop) -> bool, out: &mut Vec<u8>) {
    let mut count = 0;
    for hop in trace.hops.iter().filter(which) {
        for (nth, probe) in hop.probes.iter().enumerate() {
            if probe.reply.is_none() {
                begin(key, count, out);
                count += 1;
                out.push(b'{');
                append_probe(trace, hop, nth, probe, out);
                out.push(b'}');
            }
        }
    }
    end(count, out);
}

/// An array stands there with its first element only.
fn begin(key: &str, count: usize, out: &mut Vec<u8>) {
    if count == 0 {
        text_of(out, format_args!(",\"{key}\":["));
    }
    comma(count, out);
}

fn end(count: usize, out: &mut Vec<u8>) {
    if count > 0 {
        out.push(b']');
    }
}

fn append_reply(reply: &Reply, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"rtt\":");
    millis(reply.rtt, out);
    out.extend_from_slice(b",\"reply_ttl\":");
    number(reply.reply_ttl.unwrap_or(0).into(), out);
    out.extend_from_slice(b",\"reply_tos\":0");
    if let Some((kind, code)) = reply.icmp {
        text_of(
            out,
            format_args!(",\"icmp_type\":{kind},\"icmp_code\":{code}"),
        );
        if reply.quoted_ttl.is_some() {
            out.extend_from_slice(b",\"icmp_q_ttl\":");
            optional(reply.quoted_ttl, out);
        }
        if let Some(mtu) = reply.mtu {
            text_of(out, format_args!(",\"icmp_nhmtu\":{}", mtu.min(65_535)));
        }
    } else {
        let flags = match reply.kind {
            ReplyKind::Rst => Some(0x04),
            ReplyKind::SynAck => Some(0x12),
            ReplyKind::Sack | ReplyKind::DupAck => Some(0x10),
            _ => None,
        };
        if let Some(flags) = flags {
            text_of(out, format_args!(",\"tcp_flags\":{flags}"));
        }
    }
    if !reply.mpls.is_empty() {
        append_stack(&reply.mpls, out);
    }
}

fn append_stack(stack: &[MplsLabel], out: &mut Vec<u8>) {
    // RFC 4950: class 1, type 1, four octets a label.
    text_of(
        out,
        format_args!(
            ",\"icmpext\":[{{\"ie_cn\":1,\"ie_ct\":1,\"ie_dl\":{},\"mpls_labels\":[",
            4 * stack.len()
        ),
    );
    for (nth, label) in stack.iter().enumerate() {
        comma(nth, out);
        text_of(
            out,
            format_args!(
                "{{\"mpls_ttl\":{},\"mpls_s\":{},\"mpls_exp\":{},\"mpls_label\":{}}}",
                label.ttl,
                u8::from(label.bottom),
                label.tc,
                label.label
            ),
        );
    }
    out.extend_from_slice(b"]}]");
}
