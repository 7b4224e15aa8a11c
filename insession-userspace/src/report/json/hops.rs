//! Hops and their probes: nearly all of a record.

use std::io;

use super::bytes::{address, comma, micros, number, optional, text, word};
use crate::trace::{Hop, Probe, Reply};

/// Writes the array of hops.
///
/// # Errors
/// What serde_json says of a host name; memory takes everything.
pub(super) fn write(hops: &[Hop], out: &mut Vec<u8>) -> io::Result<()> {
    out.push(b'[');
    for (nth, hop) in hops.iter().enumerate() {
        comma(nth, out);
        out.extend_from_slice(b"{\"ttl\":");
        number(hop.ttl.into(), out);
        out.extend_from_slice(b",\"probes\":[");
        for (nth, probe) in hop.probes.iter().enumerate() {
            comma(nth, out);
            write_probe(probe, out)?;
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    Ok(())
}

fn write_probe(probe: &Probe, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(reply) = &probe.reply else {
        out.extend_from_slice(b"{\"kind\":\"none\",\"sent_us\":");
        micros(probe.sent, out);
        out.push(b'}');
        return Ok(());
    };
    out.extend_from_slice(b"{\"kind\":");
    word(reply.kind.as_str(), out);
    out.extend_from_slice(b",\"from\":");
    address(reply.from, out);
    out.extend_from_slice(b",\"name\":");
    text(reply.name.as_deref(), out)?;
    out.extend_from_slice(b",\"asn\":");
    optional(reply.asn, out);
    out.extend_from_slice(b",\"rtt_us\":");
    micros(reply.rtt, out);
    out.extend_from_slice(b",\"rtt_bound\":");
    word(reply.rtt_bound.as_str(), out);
    out.extend_from_slice(b",\"sent_us\":");
    micros(probe.sent, out);
    write_icmp(reply, out);
    out.extend_from_slice(b",\"mpls\":[");
    for (nth, label) in reply.mpls.iter().enumerate() {
        comma(nth, out);
        out.extend_from_slice(b"{\"label\":");
        number(label.label.into(), out);
        out.extend_from_slice(b",\"tc\":");
        number(label.tc.into(), out);
        out.extend_from_slice(match label.bottom {
            true => b",\"s\":true,\"ttl\":",
            false => b",\"s\":false,\"ttl\":",
        });
        number(label.ttl.into(), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"rewrites\":[");
    for (nth, rewrite) in reply.rewrites.iter().enumerate() {
        comma(nth, out);
        word(rewrite.as_str(), out);
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn write_icmp(reply: &Reply, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"icmp_type\":");
    optional(reply.icmp.map(|(number, _)| number), out);
    out.extend_from_slice(b",\"icmp_code\":");
    optional(reply.icmp.map(|(_, code)| code), out);
    out.extend_from_slice(b",\"reply_ttl\":");
    optional(reply.reply_ttl, out);
    out.extend_from_slice(b",\"quoted_ttl\":");
    optional(reply.quoted_ttl, out);
}
