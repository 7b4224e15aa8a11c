//! Any trace there can be, for tests of what is true of all of them.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::option;
use proptest::prelude::*;

use crate::time::{Duration, UnixTime};
use crate::trace::{
    Handshake, Hop, LinkInfo, Method, MplsLabel, MtuLimit, MtuStep, Owner, PathMtu, Probe, Reply,
    ReplyKind, Rewrite, RttBound, Trace, Verdict,
};

/// Spans of a trace: to the nanosecond, most of them short.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![0..1_u64 << 50, 0..2_000_000_000_u64, 0..5_000_u64].prop_map(Duration::from_nanos)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

/// Names and whatever else is text: also what needs escaping.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{1,30}", "[ -~]{0,12}", "\\PC{0,8}"]
}

fn label() -> impl Strategy<Value = MplsLabel> {
    (0..1_u32 << 20, 0..8_u8, any::<bool>(), any::<u8>()).prop_map(|(label, tc, bottom, ttl)| {
        MplsLabel {
            label,
            tc,
            bottom,
            ttl,
        }
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let who = (
        prop::sample::select(&ReplyKind::ALL[..]),
        address(),
        option::of(text()),
        option::of(owner()),
    );
    let times = (span(), prop::sample::select(&RttBound::ALL[..]));
    let headers = (
        option::of(any::<u8>()),
        option::of(any::<u8>()),
        any::<u8>(),
        option::of(any::<u32>()),
    );
    let findings = (
        prop::collection::vec(label(), 0..4),
        prop::sample::subsequence(&Rewrite::ALL[..], 0..=Rewrite::ALL.len()),
        option::of(any::<u16>()),
    );
    (who, times, headers, findings).prop_map(
        |(
            (kind, from, name, owner),
            (rtt, rtt_bound),
            (reply_ttl, quoted_ttl, code, mtu),
            (mpls, rewrites, nat),
        )| {
            let v6 = from.is_ipv6();
            let icmp = match kind {
                ReplyKind::TimeExceeded => Some(if v6 { (3, 0) } else { (11, 0) }),
                ReplyKind::Unreachable => Some(if v6 { (1, code) } else { (3, code) }),
                ReplyKind::PacketTooBig => Some(if v6 { (2, 0) } else { (3, 4) }),
                ReplyKind::EchoReply => Some(if v6 { (129, 0) } else { (0, 0) }),
                _ => None,
            };
            Reply {
                kind,
                from,
                name,
                owner: owner.map(Arc::new),
                rtt,
                rtt_bound,
                icmp,
                reply_ttl,
                quoted_ttl: icmp.and(quoted_ttl),
                mtu: mtu.filter(|_| kind == ReplyKind::PacketTooBig),
                mpls,
                rewrites,
                nat,
            }
        },
    )
}

/// Somebody of whom something is known.
fn owner() -> impl Strategy<Value = Owner> {
    let known = (
        option::of(any::<u32>()),
        option::of(text()),
        option::of("[0-9]{1,3}\\.0\\.0\\.0/[0-9]|[0-9a-f]{1,4}::/[0-9]{2}"),
        option::of(text()),
    );
    let owner = known.prop_map(|(asn, holder, prefix, ixp)| Owner {
        asn,
        holder,
        prefix,
        ixp,
    });
    owner.prop_filter("nothing known is no owner", |it| *it != Owner::default())
}

fn hops() -> impl Strategy<Value = Vec<Hop>> {
    let probe =
        (span(), option::weighted(0.8, reply())).prop_map(|(sent, reply)| Probe { sent, reply });
    let probes = (any::<bool>(), prop::collection::vec(probe, 1..4));
    (1..200_u8, prop::collection::vec(probes, 0..6)).prop_map(|(first, hops)| {
        (first..)
            .zip(hops)
            .map(|(ttl, (shared, probes))| Hop {
                ttl,
                shared,
                probes,
            })
            .collect()
    })
}

fn handshake() -> impl Strategy<Value = Handshake> {
    (
        span(),
        any::<u16>(),
        any::<bool>(),
        any::<bool>(),
        option::of(0..15_u8),
    )
        .prop_map(|(rtt, mss, sack, timestamps, window_scale)| Handshake {
            rtt,
            mss,
            sack,
            timestamps,
            window_scale,
        })
}

fn link() -> impl Strategy<Value = Arc<LinkInfo>> {
    let kind = prop::sample::select(vec!["xdp", "packet", "sim", "mirror"]);
    let mode = prop::sample::select(vec![None, Some("native"), Some("generic")]);
    (kind, mode, any::<bool>(), text()).prop_map(|(kind, mode, zero_copy, interface)| {
        Arc::new(LinkInfo {
            kind,
            mode,
            zero_copy,
            interface,
        })
    })
}

fn mtu() -> impl Strategy<Value = PathMtu> {
    let step = (
        any::<u8>(),
        option::of(address()),
        any::<u16>(),
        any::<bool>(),
    );
    let step = step.prop_map(|(ttl, from, mtu, told)| MtuStep {
        ttl,
        from,
        mtu,
        told,
    });
    let sizes = (
        any::<u32>(),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let limit = option::of(prop::sample::select(&MtuLimit::ALL[..]));
    let steps = prop::collection::vec(step, 0..3);
    (
        sizes,
        limit,
        option::of(any::<u8>()),
        steps,
        option::of(text()),
    )
        .prop_map(
            |((link, largest, path), limit, to_ttl, steps, detail)| PathMtu {
                link,
                largest,
                limit,
                to_ttl,
                path,
                steps,
                detail,
            },
        )
}

/// Any trace.
pub(crate) fn any_trace() -> impl Strategy<Value = Trace> {
    let method = prop::sample::select(&Method::ALL[..]);
    let what = (text(), option::of(address()), any::<u16>(), method);
    let ours = (option::of(address()), option::of(any::<u16>()));
    // Up to the year 2262: readers count nanoseconds by 63 bits.
    let when = (0..i64::MAX as u64, span());
    let end = (
        prop::sample::select(&Verdict::ALL[..]),
        option::of(text()),
        option::of(handshake()),
        option::of(any::<u8>()),
    );
    let (mtu, link) = (option::of(mtu()), option::of(link()));
    (what, ours, when, end, hops(), mtu, link).prop_map(
        |(
            (target, address, port, method),
            (source, source_port),
            (started, duration),
            (verdict, detail, handshake, destination_ttl),
            hops,
            mtu,
            link,
        )| Trace {
            target,
            address,
            port,
            method,
            source,
            source_port,
            started: UnixTime(started),
            duration,
            verdict,
            detail,
            handshake,
            destination_ttl,
            hops,
            mtu,
            link,
        },
    )
}
