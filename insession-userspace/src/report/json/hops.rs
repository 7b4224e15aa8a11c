//! Hops and their probes as JSON, written straight into bytes: they are nearly
//! all of a record, and serde_json, which looks at every octet of every field's
//! name, took as long for them as the whole trace took the engine. The names are
//! known to need no escaping; text from outside (host names) goes through serde_json.

use std::io;
use std::net::IpAddr;

use crate::time::Duration;
use crate::trace::{Hop, Probe, Reply, write_address};

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
    match &reply.name {
        Some(name) => serde_json::to_writer(&mut *out, name)?,
        None => out.extend_from_slice(b"null"),
    }
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

fn comma(nth: usize, out: &mut Vec<u8>) {
    if nth > 0 {
        out.push(b',');
    }
}

/// A word of the contract's.
fn word(word: &'static str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn optional(value: Option<impl Into<u64>>, out: &mut Vec<u8>) {
    match value {
        Some(value) => number(value.into(), out),
        None => out.extend_from_slice(b"null"),
    }
}

fn address(address: IpAddr, out: &mut Vec<u8>) {
    out.push(b'"');
    write_address(address, out);
    out.push(b'"');
}

/// Microseconds with as many digits behind the point as there are, at least one:
/// exact, and below 2⁵⁰ ns (13 days) the shortest decimal of the same `f64` too.
fn micros(span: Duration, out: &mut Vec<u8>) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    number(nanos / 1_000, out);
    let rest = (nanos % 1_000) as u16;
    let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
    let length = match digits {
        [_, b'0', b'0'] => 1,
        [_, _, b'0'] => 2,
        _ => 3,
    };
    out.push(b'.');
    out.extend_from_slice(&digits[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle is serde_json.
        #[test]
        fn times_and_addresses_are_what_serde_json_writes(
            nanos in prop_oneof![0..1u64 << 50, 0..2_000_000u64],
            octets in any::<[u8; 4]>(),
            v6 in any::<[u8; 16]>(),
        ) {
            let mut out = Vec::new();
            micros(Duration::from_nanos(nanos), &mut out);
            let expected = serde_json::to_string(&(nanos as f64 / 1_000.0)).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            for ip in [IpAddr::from(octets), IpAddr::from(v6)] {
                let mut out = Vec::new();
                address(ip, &mut out);
                let expected = serde_json::to_string(&ip).unwrap();
                prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
