//! caracal's CSV: one row a reply, with the columns of diamond-miner's tables.
//!
//! What drew no reply has no row there. A row's `round` is 1, its `reply_size` 0: a
//! record does not hold it.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use super::lines::{reply_seconds, text_of};
use crate::trace::{Reply, ReplyKind, Trace};
use crate::wire::ip;

/// The first line.
pub(super) const HEADER: &[u8] = b"capture_timestamp,probe_protocol,probe_src_addr,\
probe_dst_addr,probe_src_port,probe_dst_port,probe_ttl,quoted_ttl,reply_src_addr,\
reply_protocol,reply_icmp_type,reply_icmp_code,reply_ttl,reply_size,reply_mpls_labels,\
rtt,round\n";

/// Adds the rows of a trace.
pub(super) fn append(trace: &Trace, _json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let source = v6_form(trace.source);
    let target = v6_form(trace.address);
    let port = trace.source_port.unwrap_or(0);
    let v6 = trace.address.is_some_and(|address| address.is_ipv6());
    let probe_protocol = trace.method.protocol(v6);
    for hop in &trace.hops {
        for probe in &hop.probes {
            let Some(reply) = &probe.reply else { continue };
            let at = reply_seconds(trace, probe, reply.rtt);
            let (kind, code) = reply.icmp.unwrap_or((0, 0));
            text_of(
                out,
                format_args!(
                    "{at},{probe_protocol},{source},{target},{port},{},{},{},{},{},{kind},{code},{},0,\"[",
                    trace.port,
                    hop.ttl,
                    reply.quoted_ttl.unwrap_or(0),
                    v6_form(Some(reply.from)),
                    protocol(reply),
                    reply.reply_ttl.unwrap_or(0),
                ),
            );
            for (nth, label) in reply.mpls.iter().enumerate() {
                let comma = if nth > 0 { "," } else { "" };
                let bottom = u8::from(label.bottom);
                text_of(
                    out,
                    format_args!(
                        "{comma}({},{},{bottom},{})",
                        label.label, label.tc, label.ttl
                    ),
                );
            }
            text_of(out, format_args!("]\",{},1\n", tenths(reply)));
        }
    }
    Ok(())
}

/// IPv4-mapped, as all addresses there.
fn v6_form(address: Option<IpAddr>) -> Ipv6Addr {
    match address {
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
        Some(IpAddr::V6(address)) => address,
        None => Ipv6Addr::UNSPECIFIED,
    }
}

/// ICMP, ICMPv6, UDP or TCP.
fn protocol(reply: &Reply) -> u8 {
    match (reply.icmp, reply.from) {
        (Some(_), IpAddr::V4(_)) => 1,
        (Some(_), IpAddr::V6(_)) => 58,
        (None, _) if reply.kind == ReplyKind::UdpReply => ip::PROTOCOL_UDP,
        (None, _) => ip::PROTOCOL_TCP,
    }
}

/// Tenths of milliseconds, at most what 16 bits hold.
fn tenths(reply: &Reply) -> u16 {
    let tenths = (reply.rtt.as_nanos() + 50_000) / 100_000;
    u16::try_from(tenths).unwrap_or(u16::MAX)
}
