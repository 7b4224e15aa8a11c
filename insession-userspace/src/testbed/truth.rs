//! Holds records against the network they were made in.

use std::net::SocketAddr;

use insession_common::reflect::{self, FlowEnds, Hop, Network};

use crate::trace::{MplsLabel, Probe, Reply, ReplyKind, Trace, Verdict};

/// Whether a record is what a session in this network has to learn: every hop,
/// every probe, the verdict.
///
/// Where replies are lost, a probe without one is right, and so is a destination
/// that was found at a larger TTL, or a trace that ended early.
///
/// # Errors
/// The first difference, in words.
pub fn check(network: &Network, trace: &Trace) -> Result<(), String> {
    let about = |what: String| format!("{} (port {:?}): {what}", trace.target, trace.source_port);
    check_record(network, trace).map_err(about)
}

fn check_record(network: &Network, trace: &Trace) -> Result<(), String> {
    let (Some(address), Some(source), Some(port)) =
        (trace.address, trace.source, trace.source_port)
    else {
        return Err(format!(
            "no session: {:?} {:?}",
            trace.verdict, trace.detail
        ));
    };
    let ends = FlowEnds::tcp(
        SocketAddr::new(source, port),
        SocketAddr::new(address, trace.port),
    );
    let lossy = network.loss > 0;
    let distance = reflect::destination_ttl(network, address);
    let refuses = reflect::refuses(network, address);
    let mute = reflect::is_mute(network, address);
    let expected: &[Verdict] = match (refuses, mute) {
        (true, _) => &[Verdict::Refused],
        (_, true) => &[Verdict::GapLimit, Verdict::MaxTtl],
        _ => &[Verdict::Complete],
    };
    let by_loss = [
        Verdict::GapLimit,
        Verdict::MaxTtl,
        Verdict::HandshakeTimeout,
    ];
    let allowed = expected.contains(&trace.verdict) || (lossy && by_loss.contains(&trace.verdict));
    if !allowed {
        return Err(format!(
            "verdict {:?} ({:?}), not {expected:?}; the destination is at {distance}",
            trace.verdict, trace.detail
        ));
    }
    if trace.verdict == Verdict::Refused || trace.verdict == Verdict::HandshakeTimeout {
        return match trace.hops.is_empty() {
            true => Ok(()),
            false => Err("hops without a session".into()),
        };
    }
    let handshake = trace.handshake.ok_or("no handshake")?;
    if !handshake.sack || !handshake.timestamps || handshake.window_scale != Some(7) {
        return Err(format!("handshake {handshake:?}"));
    }
    match trace.destination_ttl {
        Some(found) if mute => return Err(format!("a mute destination found at {found}")),
        None if mute || lossy => {}
        Some(found) if found == distance || (lossy && found > distance) => {}
        other => return Err(format!("destination at {other:?}, not {distance}")),
    }
    let mut before = None;
    for hop in &trace.hops {
        if before.is_some_and(|ttl| ttl >= hop.ttl) {
            return Err(format!("ttl {} out of order", hop.ttl));
        }
        before = Some(hop.ttl);
        let truth = reflect::hop(network, &ends, hop.ttl);
        for probe in &hop.probes {
            check_probe(&truth, hop.ttl, distance, lossy, probe, address)
                .map_err(|what| format!("ttl {}: {what}; truth {truth:?}", hop.ttl))?;
        }
    }
    // All TTLs up to the destination were probed, unless something else ended it.
    if trace.verdict == Verdict::Complete {
        let first = trace.hops.first().map_or(1, |hop| hop.ttl);
        for ttl in first..=distance {
            if !trace.hops.iter().any(|hop| hop.ttl == ttl) {
                return Err(format!("ttl {ttl} was not probed"));
            }
        }
    }
    Ok(())
}

fn check_probe(
    truth: &Hop,
    ttl: u8,
    distance: u8,
    lossy: bool,
    probe: &Probe,
    target: std::net::IpAddr,
) -> Result<(), String> {
    let answers = match truth {
        Hop::Router { silent, .. } => !silent,
        Hop::Destination { mute, refuses } => !mute && !refuses,
    };
    let Some(reply) = &probe.reply else {
        return match answers && !lossy {
            true => Err("no reply".into()),
            false => Ok(()),
        };
    };
    if !answers {
        return Err(format!("a reply from who does not answer: {reply:?}"));
    }
    let expected = match truth {
        Hop::Router {
            address, labels, ..
        } => Reply {
            kind: ReplyKind::TimeExceeded,
            from: *address,
            icmp: Some(if target.is_ipv4() { (11, 0) } else { (3, 0) }),
            reply_ttl: Some(255 - (ttl - 1)),
            quoted_ttl: Some(1),
            mpls: labels.entries().iter().copied().map(label).collect(),
            ..reply.clone()
        },
        Hop::Destination { .. } => Reply {
            kind: ReplyKind::Sack,
            from: target,
            icmp: None,
            reply_ttl: Some(64 - (distance - 1)),
            quoted_ttl: None,
            mpls: Vec::new(),
            ..reply.clone()
        },
    };
    let expected = Reply {
        mtu: None,
        rewrites: Vec::new(),
        ..expected
    };
    match *reply == expected {
        true => Ok(()),
        false => Err(format!("{reply:?}, not {expected:?}")),
    }
}

fn label(entry: u32) -> MplsLabel {
    MplsLabel {
        label: entry >> 12,
        tc: (entry >> 9 & 7) as u8,
        bottom: entry >> 8 & 1 == 1,
        ttl: entry as u8,
    }
}
