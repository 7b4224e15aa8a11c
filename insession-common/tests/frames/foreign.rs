//! Frames that are the kernel's, and why.

use insession_common::counters::Counter::{self, *};

use super::*;

pub fn v4_frames() -> Vec<(&'static str, Vec<u8>, Counter)> {
    let ip =
        |protocol, payload: &[u8]| ethernet(&[], 0x0800, &v4(ROUTER, US, protocol, &[], payload));
    let around = |quote: &[u8]| ip(1, &icmp(11, 0, quote));
    let quote = v4(US, SERVER, 6, &[], &cut(61000, 443));
    let quoted = |offset: usize, byte: u8| {
        let mut quote = quote.clone();
        quote[offset] = byte;
        around(&quote)
    };
    vec![
        ("ARP", ethernet(&[], 0x0806, &[0; 46]), NotIp),
        ("802.3 length", ethernet(&[], 46, &[0xaa; 46]), NotIp),
        (
            "ARP below a tag",
            ethernet(&[0x8100], 0x0806, &[0; 46]),
            NotIp,
        ),
        (
            "three tags",
            ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800, &sack()[14..]),
            TooDeep,
        ),
        (
            "Ethernet header alone",
            ethernet(&[], 0x0800, &[]),
            Truncated,
        ),
        (
            "tag without its EtherType",
            ethernet(&[0x8100], 0x0800, &[])[..16].to_vec(),
            Truncated,
        ),
        ("UDP", ip(17, &tcp(443, 61000, 0, &[])), OtherProtocol),
        ("ICMPv6 in IPv4", ip(58, &icmp(3, 0, &quote)), OtherProtocol),
        ("somebody else's segment", foreign(), PortOutside),
        ("port below ours", segment(443, FIRST - 1), PortOutside),
        ("port above ours", segment(443, LAST + 1), PortOutside),
        ("our port, no flow", segment(443, 61002), NoFlow),
        ("our flow but the remote port", segment(444, 61000), NoFlow),
        (
            "our flow but the remote address",
            ethernet(
                &[],
                0x0800,
                &v4(ROUTER, US, 6, &[], &tcp(443, 61000, 0, &[])),
            ),
            NoFlow,
        ),
        (
            "our flow but the local address",
            ethernet(
                &[],
                0x0800,
                &v4(SERVER, NATTED, 6, &[], &tcp(443, 61000, 0, &[])),
            ),
            NoFlow,
        ),
        (
            "our flow, backwards",
            ethernet(
                &[],
                0x0800,
                &v4(US, SERVER, 6, &[], &tcp(61000, 443, 0, &[])),
            ),
            PortOutside,
        ),
        ("echo request", ip(1, &icmp(8, 0, &quote)), OtherIcmp),
        ("echo reply", ip(1, &icmp(0, 0, &quote)), OtherIcmp),
        ("redirect", ip(1, &icmp(5, 1, &quote)), OtherIcmp),
        (
            "ICMPv6's packet too big in ICMP",
            ip(1, &icmp(2, 0, &quote)),
            OtherIcmp,
        ),
        ("quote of UDP", quoted(9, 17), QuoteNoFlow),
        (
            "quote of somebody else's segment",
            around(&v4(US, ROUTER, 6, &[], &cut(40000, 443))),
            QuoteNoFlow,
        ),
        (
            "quote of a port of ours, not live",
            around(&v4(US, ROUTER, 6, &[], &cut(61002, 443))),
            QuoteNoFlow,
        ),
        (
            "quote to our server, other port",
            around(&v4(US, SERVER, 6, &[], &cut(40000, 80))),
            QuoteNoFlow,
        ),
        (
            "quote of a reply",
            around(&v4(SERVER, US, 6, &[], &cut(443, 61000))),
            QuoteNoFlow,
        ),
        (
            "another host's error, quote of a live port of ours",
            quote_v4(11, 0, ROUTER, BEHIND, BEHIND, ROUTER, &cut(61000, 443)),
            QuoteNoFlow,
        ),
        (
            "another host's error, quote to our server",
            quote_v4(3, 4, ROUTER, BEHIND, BEHIND, SERVER, &cut(40000, 443)),
            QuoteNoFlow,
        ),
        (
            "another host's error, quote of a live port to our server",
            quote_v4(11, 0, SERVER, BEHIND, BEHIND, SERVER, &cut(61000, 443)),
            QuoteNoFlow,
        ),
        (
            "another host's error, whose quote a NAT gave our address",
            quote_v4(11, 0, SERVER, BEHIND, US, NATTED, &cut(61000, 443)),
            QuoteNoFlow,
        ),
        ("first fragment", with(sack(), 6, 0x20), Fragment),
        ("last fragment", with(sack(), 7, 1), Fragment),
        ("quote of a first fragment", quoted(6, 0x20), Fragment),
        ("quote of a last fragment", quoted(7, 1), Fragment),
        ("IP version 5", with(sack(), 0, 0x55), Malformed),
        (
            "IPv6 under IPv4's EtherType",
            with(sack(), 0, 0x65),
            Malformed,
        ),
        ("IHL 4", with(sack(), 0, 0x44), Malformed),
        ("IHL behind the packet", with(sack(), 0, 0x4f), Truncated),
        (
            "total length below the header",
            with(with(sack(), 2, 0), 3, 19),
            Malformed,
        ),
        (
            "total length zero",
            with(with(sack(), 2, 0), 3, 0),
            Malformed,
        ),
        (
            "total length behind the frame",
            with(sack(), 3, 65),
            Truncated,
        ),
        (
            "greatest total length",
            with(with(sack(), 2, 0xff), 3, 0xff),
            Truncated,
        ),
        ("TCP data offset 4", with(sack(), 20 + 12, 0x40), Malformed),
        (
            "TCP data offset behind the packet",
            with(sack(), 20 + 12, 0xf0),
            Truncated,
        ),
        ("TCP cut below 20 bytes", with(sack(), 3, 39), Truncated),
        (
            "foreign TCP cut below 20 bytes",
            with(foreign(), 3, 39),
            Truncated,
        ),
        (
            "ICMP cut below 8 bytes",
            ip(1, &icmp(11, 0, &[])[..7]),
            Truncated,
        ),
        (
            "ICMP error without a quote",
            ip(1, &icmp(11, 0, &[])),
            Truncated,
        ),
        (
            "quote cut in its IP header",
            around(&quote[..19]),
            Truncated,
        ),
        (
            "quote cut in its eight bytes of TCP",
            around(&quote[..27]),
            Truncated,
        ),
        ("quote of IP version 6", quoted(0, 0x65), Malformed),
        ("quote with IHL 4", quoted(0, 0x44), Malformed),
        (
            "quote with IHL behind the packet",
            quoted(0, 0x4f),
            Truncated,
        ),
    ]
}

pub fn v6_frames() -> Vec<(&'static str, Vec<u8>, Counter)> {
    let ip = |protocol, extensions: &[(u8, u8)], payload: &[u8]| {
        ethernet(
            &[],
            0x86dd,
            &v6(SERVER6, US6, protocol, extensions, payload),
        )
    };
    let segment = tcp(443, 61000, 0, &[]);
    let quote = |extensions: &[(u8, u8)]| v6(US6, SERVER6, 6, extensions, &cut(61000, 443));
    let around = |quote: &[u8]| ip(58, &[], &icmp(3, 0, quote));
    let mut deep = Vec::new();
    for _ in 0..2 {
        deep.push((60, 128));
    }
    vec![
        ("v6 UDP", ip(17, &[], &segment), OtherProtocol),
        ("v6 no next header", ip(59, &[], &segment), OtherProtocol),
        ("v6 ESP", ip(50, &[], &segment), OtherProtocol),
        (
            "ICMP in IPv6",
            ip(1, &[], &icmp(11, 0, &quote(&[]))),
            OtherProtocol,
        ),
        (
            "v6 port below ours",
            ip(6, &[], &tcp(443, 60999, 0, &[])),
            PortOutside,
        ),
        ("v6 no flow", ip(6, &[], &tcp(443, 61002, 0, &[])), NoFlow),
        (
            "v6 neighbour solicitation",
            ip(58, &[], &icmp(135, 0, &[0; 24])),
            OtherIcmp,
        ),
        (
            "v6 parameter problem",
            ip(58, &[], &icmp(4, 0, &quote(&[]))),
            OtherIcmp,
        ),
        (
            "ICMP's time exceeded in ICMPv6",
            ip(58, &[], &icmp(11, 0, &quote(&[]))),
            OtherIcmp,
        ),
        (
            "v6 quote, no flow",
            around(&v6(US6, ROUTER6, 6, &[], &cut(61002, 443))),
            QuoteNoFlow,
        ),
        (
            "v6 quote of UDP",
            around(&v6(US6, SERVER6, 17, &[], &cut(61000, 443))),
            QuoteNoFlow,
        ),
        (
            "v6 another host's error, quote of a live port of ours",
            quote_v6(3, ROUTER6, BEHIND6, BEHIND6, ROUTER6, &cut(61000, 443)),
            QuoteNoFlow,
        ),
        (
            "v6 another host's error, quote to our server",
            quote_v6(2, ROUTER6, BEHIND6, BEHIND6, SERVER6, &cut(40000, 443)),
            QuoteNoFlow,
        ),
        (
            "v6 another host's error, quote of a live port to our server",
            quote_v6(3, SERVER6, BEHIND6, BEHIND6, SERVER6, &cut(61000, 443)),
            QuoteNoFlow,
        ),
        ("v6 fragment header", ip(6, &[(44, 1)], &segment), Fragment),
        (
            "v6 fragment header behind another",
            ip(6, &[(0, 1), (44, 1)], &segment),
            Fragment,
        ),
        (
            "v6 quote with a fragment header",
            around(&quote(&[(44, 1)])),
            Fragment,
        ),
        (
            "v6 five extension headers",
            ip(6, &[(0, 1), (60, 1), (43, 1), (60, 1), (60, 1)], &segment),
            TooDeep,
        ),
        (
            "v6 quote, five extension headers",
            around(&quote(&[(60, 1); 5])),
            TooDeep,
        ),
        (
            "v6 headers behind what is read",
            ip(6, &deep, &segment),
            TooDeep,
        ),
        (
            "v6 version 4",
            with(ip(6, &[], &segment), 0, 0x45),
            Malformed,
        ),
        (
            "v6 payload length behind the frame",
            with(ip(6, &[], &segment), 5, 21),
            Truncated,
        ),
        (
            "v6 payload length zero",
            with(ip(6, &[], &segment), 5, 0),
            Truncated,
        ),
        ("v6 TCP cut", with(ip(6, &[], &segment), 5, 19), Truncated),
        (
            "v6 extension header cut",
            with(ip(6, &[(0, 1)], &segment), 5, 1),
            Truncated,
        ),
        (
            "v6 extension header behind the packet",
            with(ip(6, &[(0, 1)], &segment), 41, 200),
            Truncated,
        ),
        (
            "v6 quote cut in its header",
            around(&quote(&[])[..39]),
            Truncated,
        ),
        (
            "v6 quote cut in its TCP",
            around(&quote(&[])[..47]),
            Truncated,
        ),
        (
            "v6 quote of IPv4",
            around(&v4(US, SERVER, 6, &[], &tcp(61000, 443, 0, &[7; 20]))),
            Malformed,
        ),
        (
            "v6 fixed header cut",
            ip(6, &[], &segment)[..53].to_vec(),
            Truncated,
        ),
    ]
}
