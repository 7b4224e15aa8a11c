//! Hops and their probes: nearly all of a record.

use std::io;

use super::bytes::{comma, micros, number, optional, text, word};
use crate::trace::{Hop, Owner, Probe, Reply, RttBound, write_address};

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
        if hop.shared {
            out.extend_from_slice(b",\"shared\":true");
        }
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
    out.extend_from_slice(b",\"from\":\"");
    write_address(reply.from, out);
    // What stands in nearly every record goes there in one piece.
    if reply.name.is_none() && reply.owner.is_none() {
        out.extend_from_slice(b"\",\"name\":null,\"asn\":null,\"rtt_us\":");
    } else {
        out.extend_from_slice(b"\",\"name\":");
        text(reply.name.as_deref(), out)?;
        out.extend_from_slice(b",\"asn\":");
        optional(reply.owner.as_ref().and_then(|owner| owner.asn), out);
        if let Some(owner) = &reply.owner {
            write_owner(owner, out)?;
        }
        out.extend_from_slice(b",\"rtt_us\":");
    }
    micros(reply.rtt, out);
    out.extend_from_slice(match reply.rtt_bound {
        RttBound::Exact => b",\"rtt_bound\":\"exact\",\"sent_us\":",
        RttBound::Upper => b",\"rtt_bound\":\"upper\",\"sent_us\":",
    });
    micros(probe.sent, out);
    write_icmp(reply, out);
    if reply.mpls.is_empty() && reply.rewrites.is_empty() && reply.nat.is_none() {
        out.extend_from_slice(b",\"mpls\":[],\"rewrites\":[]}");
    } else {
        write_findings(reply, out);
    }
    Ok(())
}

/// What is known of an owner beside the AS number; what is not is left out.
fn write_owner(owner: &Owner, out: &mut Vec<u8>) -> io::Result<()> {
    for (key, value) in [
        (&b",\"holder\":"[..], &owner.holder),
        (b",\"prefix\":", &owner.prefix),
        (b",\"ixp\":", &owner.ixp),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(key);
            text(Some(value), out)?;
        }
    }
    Ok(())
}

fn write_findings(reply: &Reply, out: &mut Vec<u8>) {
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
    out.push(b']');
    if let Some(nat) = reply.nat {
        out.extend_from_slice(b",\"nat\":");
        number(nat.into(), out);
    }
    out.push(b'}');
}

fn write_icmp(reply: &Reply, out: &mut Vec<u8>) {
    match reply.icmp {
        Some((11, 0)) => {
            out.extend_from_slice(b",\"icmp_type\":11,\"icmp_code\":0,\"reply_ttl\":");
        }
        Some((kind, code)) => {
            out.extend_from_slice(b",\"icmp_type\":");
            number(kind.into(), out);
            out.extend_from_slice(b",\"icmp_code\":");
            number(code.into(), out);
            out.extend_from_slice(b",\"reply_ttl\":");
        }
        None => {
            out.extend_from_slice(b",\"icmp_type\":null,\"icmp_code\":null,\"reply_ttl\":");
        }
    }
    optional(reply.reply_ttl, out);
    out.extend_from_slice(b",\"quoted_ttl\":");
    optional(reply.quoted_ttl, out);
}
