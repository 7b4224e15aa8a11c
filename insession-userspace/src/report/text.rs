//! The text report: lines as traceroute writes them.
//!
//! ```text
//! traceroute in session to www.example (10.0.9.2), port 80, 30 hops max, from 10.0.1.2 over eth0 (xdp native, copy)
//!  session open in 0.812 ms, MSS 1460, SACK, timestamps, window scale 7
//!  1  10.0.1.1 (10.0.1.1)  0.057 ms  0.051 ms  0.050 ms
//!  2  * * *
//!  3  www.example (10.0.9.2) [sack]  0.204 ms  0.198 ms  <0.240 ms
//! complete: destination reached at TTL 3, in 81.235 ms
//! ```
//!
//! Within a hop, what is the same as for the probe before is not said again:
//! an address that differs is a finding (per-packet balancing, a route change).

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use super::{changes, mtu};
use crate::multipath::{BalancingKind, within};
use crate::time::Duration;
use crate::trace::{
    Handshake, Hop, LinkInfo, Method, MplsLabel, Owner, Probe, Reply, ReplyKind, RttBound,
};
use crate::trace::{Trace, Verdict};
use crate::wire::ip;

/// How the report is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Names in front of addresses.
    pub names: bool,
    /// For the header.
    pub max_ttl: u8,
    /// How hops are probed.
    pub method: Method,
}

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The target as the user named it.
    pub target: &'a str,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The destination port.
    pub port: u16,
    /// Our address.
    pub source: Option<IpAddr>,
    /// The link.
    pub link: Option<&'a LinkInfo>,
    /// How hops are probed.
    pub method: Method,
}

impl<'a> From<&'a Trace> for Opening<'a> {
    fn from(trace: &'a Trace) -> Self {
        Opening {
            target: &trace.target,
            address: trace.address,
            port: trace.port,
            source: trace.source,
            link: trace.link.as_deref(),
            method: trace.method,
        }
    }
}

/// Writes a whole trace.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(trace: &Trace, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let mut text = header(style, &Opening::from(trace));
    let mut nat = 0;
    if let Some(open) = &trace.handshake {
        text.push_str(&handshake(open));
    }
    for shown in trace
        .hops
        .iter()
        .filter(|hop| is_shown(hop.ttl, trace.destination_ttl))
    {
        text.push_str(&hop(style, shown, &mut nat));
    }
    text.push_str(&findings(trace));
    text.push_str(&changes::lines(trace));
    text.push_str(&mtu::lines(trace));
    text.push_str(&verdict(trace));
    out.write_all(text.as_bytes())
}

/// Hops behind the destination are artefacts of probing ahead: they are in the
/// record, not in the text.
pub(super) fn is_shown(ttl: u8, destination: Option<u8>) -> bool {
    destination.is_none_or(|last| ttl <= last)
}

/// The first line.
#[must_use]
pub fn header(style: Style, opening: &Opening<'_>) -> String {
    let method = opening.method;
    let mut line = match method.is_in_session() {
        true if method == Method::InSession => "traceroute in session".to_owned(),
        true => format!("traceroute in session ({})", method.as_str()),
        false => format!("traceroute by {}", method.as_str()),
    };
    let _ = write!(line, " to {}", host(opening));
    if let Some(address) = opening.address {
        let _ = write!(line, " ({address})");
    }
    let _ = match method {
        Method::Icmp | Method::ParisIcmp => Ok(()),
        Method::Udp => write!(line, ", ports from {}", opening.port),
        _ => write!(line, ", port {}", opening.port),
    };
    let _ = write!(line, ", {} hops max", style.max_ttl);
    if let Some(source) = opening.source {
        let _ = write!(line, ", from {source}");
    }
    if let Some(link) = opening.link {
        let _ = write!(line, " over {} ({}", link.interface, link.kind);
        if let Some(mode) = link.mode {
            let copy = if link.zero_copy { "zero-copy" } else { "copy" };
            let _ = write!(line, " {mode}, {copy}");
        }
        line.push(')');
    }
    line.push('\n');
    line
}

/// The target without its port, which the header says apart.
fn host<'a>(opening: &Opening<'a>) -> &'a str {
    let target = opening.target;
    if target.parse::<IpAddr>().is_ok() {
        return target;
    }
    let host = target
        .strip_suffix(&format!(":{}", opening.port))
        .unwrap_or(target);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// The second line: what the handshake showed.
#[must_use]
pub fn handshake(open: &Handshake) -> String {
    let mut line = format!(" session open in {}, MSS {}", Millis(open.rtt), open.mss);
    line.push_str(if open.sack { ", SACK" } else { ", no SACK" });
    line.push_str(if open.timestamps {
        ", timestamps"
    } else {
        ", no timestamps"
    });
    match open.window_scale {
        Some(scale) => {
            let _ = write!(line, ", window scale {scale}");
        }
        None => line.push_str(", no window scale"),
    }
    line.push('\n');
    line
}

/// One hop's line. `nat` is the NAT's identifier as the hops before had it, and becomes
/// this one's.
#[must_use]
pub fn hop(style: Style, hop: &Hop, nat: &mut u16) -> String {
    let mut line = format!("{:2} ", hop.ttl);
    let mut before: Option<&Reply> = None;
    for Probe { reply, .. } in &hop.probes {
        let Some(reply) = reply else {
            line.push_str(" *");
            continue;
        };
        describe(style, before, reply, &mut line);
        if let Some(seen) = reply.nat.filter(|seen| seen != nat) {
            let _ = write!(line, " [NAT {seen}]");
            *nat = seen;
        }
        let bound = match reply.rtt_bound {
            RttBound::Exact => "",
            RttBound::Upper => "<",
        };
        let _ = write!(line, "  {bound}{}", Millis(reply.rtt));
        annotate(style, reply, &mut line);
        before = Some(reply);
    }
    line.push('\n');
    line
}

/// Who answered and what it showed, as far as it differs from the reply before.
fn describe(style: Style, before: Option<&Reply>, reply: &Reply, line: &mut String) {
    let before = before.filter(|before| before.from == reply.from);
    if before.is_none() {
        let _ = match (&reply.name, style.names) {
            (Some(name), true) => write!(line, " {name} ({})", reply.from),
            (None, true) => write!(line, " {0} ({0})", reply.from),
            (_, false) => write!(line, " {}", reply.from),
        };
        if let Some(owner) = &reply.owner {
            whose(owner, line);
        }
    }
    let tag = kind_tag(reply.kind);
    if before.map_or("", |before| kind_tag(before.kind)) != tag {
        let tag = if tag.is_empty() {
            reply.kind.as_str()
        } else {
            tag
        };
        let _ = write!(line, " [{tag}]");
    }
    if before.map_or(&[][..], |before| &before.mpls) != reply.mpls {
        line.push_str(" [MPLS: ");
        list(&reply.mpls, '/', line, |label, line| {
            let MplsLabel {
                label,
                tc,
                bottom,
                ttl,
            } = label;
            let _ = write!(line, "L={label},E={tc},S={},T={ttl}", u8::from(*bottom));
        });
        line.push(']');
    }
    if before.map_or(&[][..], |before| &before.rewrites) != reply.rewrites {
        line.push_str(" [rewritten: ");
        list(&reply.rewrites, ',', line, |rewrite, line| {
            line.push_str(rewrite.as_str());
        });
        line.push(']');
    }
}

/// ` [AS64500 EXAMPLE, 192.0.2.0/24]`, and ` [IXP Example-IX]` apart: the exchange of a
/// peering LAN is not who announces it.
fn whose(owner: &Owner, line: &mut String) {
    let asn = owner.asn.map(|asn| format!("AS{asn}"));
    let who = [asn.as_deref(), owner.holder.as_deref()];
    let who: Vec<&str> = who.into_iter().flatten().collect();
    let who = Some(who.join(" ")).filter(|who| !who.is_empty());
    let said = [who.as_deref(), owner.prefix.as_deref()];
    let said: Vec<&str> = said.into_iter().flatten().collect();
    if !said.is_empty() {
        let _ = write!(line, " [{}]", said.join(", "));
    }
    if let Some(exchange) = &owner.ixp {
        let _ = write!(line, " [IXP {exchange}]");
    }
}

/// `none`, where there was one and is none any more.
fn list<T>(items: &[T], between: char, line: &mut String, each: impl Fn(&T, &mut String)) {
    if items.is_empty() {
        line.push_str("none");
    }
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            line.push(between);
        }
        each(item, line);
    }
}

/// The kind, where it is not an ICMP error: those have annotations.
fn kind_tag(kind: ReplyKind) -> &'static str {
    match kind {
        ReplyKind::TimeExceeded | ReplyKind::Unreachable | ReplyKind::PacketTooBig => "",
        _ => kind.as_str(),
    }
}

/// Type and code (RFC 792; RFC 4443 §3.1).
const PORT_UNREACHABLE_V4: (u8, u8) = (3, 3);
/// See there.
const PORT_UNREACHABLE_V6: (u8, u8) = (1, 4);

/// traceroute's marks behind the time.
fn annotate(style: Style, reply: &Reply, line: &mut String) {
    match reply.kind {
        ReplyKind::PacketTooBig => match reply.mtu {
            // RFC 1191 §4: routers older than it say 0.
            Some(mtu) if mtu > 0 => {
                let _ = write!(line, " !F-{mtu}");
            }
            _ => line.push_str(" !F"),
        },
        // What a datagram draws from a port that nobody listens at is an answer.
        ReplyKind::Unreachable
            if style.method.protocol(false) == ip::PROTOCOL_UDP
                && matches!(reply.icmp, Some(PORT_UNREACHABLE_V4 | PORT_UNREACHABLE_V6)) => {}
        ReplyKind::Unreachable => {
            let code = reply.icmp.map_or(0, |(_, code)| code);
            let mark = match reply.from {
                IpAddr::V4(_) => unreachable_v4(code),
                IpAddr::V6(_) => unreachable_v6(code),
            };
            let _ = match mark {
                Some(mark) => write!(line, " !{mark}"),
                None => write!(line, " !<{code}>"),
            };
        }
        _ => {}
    }
}

/// RFC 792 codes 0–5, RFC 1122 §3.2.2.1 codes 6–12, RFC 1812 §5.2.7.1 codes 13–15.
fn unreachable_v4(code: u8) -> Option<char> {
    Some(match code {
        0 | 6 | 11 => 'N',
        1 | 7 | 12 => 'H',
        2 => 'P',
        4 => 'F',
        5 => 'S',
        9 | 10 | 13 => 'X',
        14 => 'V',
        15 => 'C',
        _ => return None,
    })
}

/// RFC 4443 §3.1, where codes 5 and 6 are "more informative subsets of code 1".
fn unreachable_v6(code: u8) -> Option<char> {
    Some(match code {
        0 => 'N',
        1 | 5 | 6 => 'X',
        2 => 'S',
        3 => 'H',
        _ => return None,
    })
}

/// What makes several responders at one TTL, where there are some; a line each.
#[must_use]
pub fn findings(trace: &Trace) -> String {
    let mut lines = String::new();
    for it in within::within(trace) {
        if !is_shown(it.ttl, trace.destination_ttl) {
            continue;
        }
        let mut routers = String::new();
        for (nth, router) in it.routers.iter().enumerate() {
            let between = match nth {
                0 => "",
                _ if nth + 1 == it.routers.len() => " and ",
                _ => ", ",
            };
            let _ = write!(routers, "{between}{router}");
        }
        let _ = write!(lines, " TTL {}: ", it.ttl);
        let _ = match it.kind {
            BalancingKind::PerPacket => {
                writeln!(lines, "packets are balanced one by one over {routers}")
            }
            BalancingKind::Undecided => writeln!(
                lines,
                "{routers}: balanced packets or a changed route, too few answers to tell; more with --probes"
            ),
            BalancingKind::RouteChange => {
                let at = it.at.iter().map(|at| Millis(*at).to_string());
                let at = at.collect::<Vec<_>>().join(", ");
                writeln!(lines, "the route changed at {at}, {routers} in turn")
            }
        };
    }
    lines
}

/// The last line: the contract's word, and what it means.
#[must_use]
pub fn verdict(trace: &Trace) -> String {
    let words = match trace.verdict {
        Verdict::Complete => {
            let took = Millis(trace.duration);
            return match trace.destination_ttl {
                Some(ttl) => {
                    let detail = trace.detail.iter().map(|detail| format!(" ({detail})"));
                    let detail: String = detail.collect();
                    format!("complete: destination reached at TTL {ttl}, in {took}{detail}\n")
                }
                None => format!("complete: destination reached, in {took}\n"),
            };
        }
        Verdict::Unreachable => "an ICMP error ended the trace",
        Verdict::GapLimit => "too many silent hops in a row; --gap-limit raises the limit",
        Verdict::MaxTtl => "destination not reached by the last TTL; --max-ttl raises it",
        Verdict::Refused => "the SYN was answered by RST; try another port with --port",
        Verdict::Reset => "the session was reset before the trace was done",
        Verdict::ClosedByPeer => "the peer closed the session before the trace was done",
        Verdict::HandshakeTimeout if trace.method == Method::Sidecar => {
            "no conversation to probe in"
        }
        Verdict::HandshakeTimeout => "no answer to the SYN; try another port with --port",
        Verdict::SeqRewritten => "a middlebox rewrites sequence numbers; only routers were seen",
        Verdict::Excluded => "on the exclusion list",
        Verdict::NoRoute => "no route to the address",
        Verdict::Interrupted if trace.method == Method::Sidecar && trace.detail.is_some() => {
            "the connection ended before the trace was done"
        }
        Verdict::Interrupted => "the run was ended before the trace was done",
        Verdict::Error => "no reason is known",
    };
    let word = trace.verdict.as_str();
    match (&trace.detail, trace.verdict) {
        (None, _) => format!("{word}: {words}\n"),
        // Their detail is a whole sentence: what, why, mend.
        (Some(detail), Verdict::Error | Verdict::NoRoute) => format!("{word}: {detail}\n"),
        (Some(detail), _) => format!("{word}: {words} ({detail})\n"),
    }
}

/// Displays milliseconds with three decimals, rounded half up.
pub(super) struct Millis(pub(super) Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = (self.0.as_nanos() + 500) / 1_000;
        write!(f, "{}.{:03} ms", micros / 1_000, micros % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    const NAMED: Style = Style {
        names: true,
        max_ttl: 30,
        method: Method::InSession,
    };
    const NUMERIC: Style = Style {
        names: false,
        max_ttl: 30,
        method: Method::InSession,
    };

    fn text(trace: &Trace, style: Style) -> String {
        let mut out = Vec::new();
        write(trace, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_complete_trace_line_by_line() {
        let expected = "\
traceroute in session to www.example (10.0.9.2), port 80, 30 hops max, from 10.0.1.2 over eth0 (xdp native, copy)
 session open in 0.812 ms, MSS 1460, SACK, timestamps, window scale 7
 1  10.0.1.1 (10.0.1.1) [MPLS: L=24001,E=1,S=1,T=1] [rewritten: source,dscp]  0.057 ms *
 2  www.example (10.0.9.2) [AS64500] [sack]  <0.205 ms
 source changed by hop 1 (10.0.1.1)
 dscp changed by hop 1 (10.0.1.1)
complete: destination reached at TTL 2, in 81.235 ms
";
        assert_eq!(text(&samples::contract(), NAMED), expected);
        let numeric = text(&samples::contract(), NUMERIC);
        assert!(numeric.contains("\n 1  10.0.1.1 [MPLS:"), "{numeric}");
        assert!(
            numeric.contains("\n 2  10.0.9.2 [AS64500] [sack]  <0.205 ms\n"),
            "{numeric}"
        );
    }

    #[test]
    fn every_annotation() {
        let expected = "\
traceroute in session to 2001:db8::9 (2001:db8::9), port 443, 30 hops max, from 2001:db8::1 over eth1 (packet)
 session open in 12.000 ms, MSS 536, no SACK, no timestamps, no window scale
 1  * 10.0.1.1  1.000 ms 10.0.1.2  2.000 ms
 2  10.0.2.1  1.000 ms !N  1.000 ms !H  1.000 ms !P  1.000 ms !<3>  1.000 ms !F  1.000 ms !S  1.000 ms !X  1.000 ms !V  1.000 ms !C  1.000 ms !<8>
 3  2001:db8::3  1.000 ms !N  1.000 ms !X  1.000 ms !S  1.000 ms !H  1.000 ms !<4>
 4  10.0.4.1  1.000 ms !F-1400  1.000 ms !F
 5  10.0.5.1 [MPLS: L=16001,E=0,S=0,T=1/L=24001,E=5,S=1,T=254]  1.000 ms [MPLS: none] [rewritten: ttl]  1.000 ms [rewritten: none]  1.000 ms
 6  * * *
 7  10.0.9.2  1.000 ms [sack]  1.000 ms  <1.000 ms [dup-ack]  1.000 ms * [rst]  1.000 ms [time-exceeded]  1.000 ms
 TTL 1: 10.0.1.1 and 10.0.1.2: balanced packets or a changed route, too few answers to tell; more with --probes
 ttl changed by hop 5 (10.0.5.1)
max-ttl: destination not reached by the last TTL; --max-ttl raises it
";
        assert_eq!(text(&samples::annotated(), NUMERIC), expected);
    }

    #[test]
    fn hops_behind_the_destination_are_not_shown() {
        let mut trace = samples::contract();
        trace.destination_ttl = Some(1);
        let shown = text(&trace, NUMERIC);
        assert!(shown.contains("\n 1  "), "{shown}");
        assert!(!shown.contains("\n 2  "), "{shown}");
    }

    #[test]
    fn whose_a_router_is_stands_behind_it() {
        let some = |text: &str| Some(text.to_owned());
        for (owner, expected) in [
            (
                Owner {
                    asn: Some(64500),
                    holder: some("EXAMPLE"),
                    prefix: some("192.0.2.0/24"),
                    ixp: some("Example-IX"),
                },
                " [AS64500 EXAMPLE, 192.0.2.0/24] [IXP Example-IX]",
            ),
            (
                Owner {
                    asn: Some(64500),
                    prefix: some("192.0.2.0/24"),
                    ..Owner::default()
                },
                " [AS64500, 192.0.2.0/24]",
            ),
            (
                Owner {
                    ixp: some("Example-IX"),
                    ..Owner::default()
                },
                " [IXP Example-IX]",
            ),
        ] {
            let mut trace = samples::four_hops();
            for probe in &mut trace.hops[0].probes {
                if let Some(reply) = &mut probe.reply {
                    reply.owner = Some(std::sync::Arc::new(owner.clone()));
                }
            }
            // Once a router, as its address is.
            let line = format!("\n 1  10.0.1.1{expected}  0.101 ms  0.102 ms  0.103 ms\n");
            let text = text(&trace, NUMERIC);
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn every_verdict_in_words() {
        let mut all = String::new();
        for trace in samples::every_verdict() {
            all.push_str(&verdict(&trace));
        }
        let expected = "\
complete: destination reached at TTL 4, in 1500.000 ms
unreachable: an ICMP error ended the trace (type 3 code 13)
gap-limit: too many silent hops in a row; --gap-limit raises the limit
max-ttl: destination not reached by the last TTL; --max-ttl raises it
refused: the SYN was answered by RST; try another port with --port
reset: the session was reset before the trace was done
closed-by-peer: the peer closed the session before the trace was done
handshake-timeout: no answer to the SYN; try another port with --port
seq-rewritten: a middlebox rewrites sequence numbers; only routers were seen
excluded: on the exclusion list
no-route: 10.0.9.2: network unreachable; add a route
interrupted: the run was ended before the trace was done
error: nosuch.example: no such host; check the name
";
        assert_eq!(all, expected);
    }

    #[test]
    fn the_header_says_the_port_once() {
        for (target, port, shown) in [
            ("www.example:80", 80, "www.example"),
            ("10.0.9.2:443", 443, "10.0.9.2"),
            ("[2001:db8::9]:443", 443, "2001:db8::9"),
            ("[2001:db8::9]", 443, "2001:db8::9"),
            ("2001:db8::9:443", 443, "2001:db8::9:443"),
        ] {
            let line = header(
                NUMERIC,
                &Opening {
                    target,
                    address: None,
                    port,
                    source: None,
                    link: None,
                    method: Method::InSession,
                },
            );
            let expected = format!("traceroute in session to {shown}, port {port}, 30 hops max\n");
            assert_eq!(line, expected);
        }
    }
}
