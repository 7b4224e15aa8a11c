//! Frames of ours.

use insession_common::flow::{SessionId, UNRESOLVED};
use insession_common::stamp::SteerKind;
use insession_common::steer::Decision;

use super::*;

pub fn v4_frames() -> Vec<(&'static str, Vec<u8>, Decision)> {
    use SteerKind::{Quote, RewrittenQuote, Segment};
    let sack_packet = sack()[14..].to_vec();
    let error =
        |icmp_type, code| quote_v4(icmp_type, code, ROUTER, US, US, SERVER, &cut(61000, 443));
    let options = |l4: &[u8]| v4(US, SERVER, 6, &[0x94, 4, 0, 0], l4);
    let mut padded = sack();
    padded.extend([0xaa; 30]);
    vec![
        ("SACK", sack(), ours(7, Segment, 0)),
        ("SACK, padded", padded, ours(7, Segment, 0)),
        (
            "SACK below one tag",
            ethernet(&[0x8100], 0x0800, &sack_packet),
            ours(7, Segment, 1),
        ),
        (
            "SACK below 802.1ad",
            ethernet(&[0x88a8, 0x8100], 0x0800, &sack_packet),
            ours(7, Segment, 2),
        ),
        (
            "SACK below QinQ of old",
            ethernet(&[0x9100, 0x9100], 0x0800, &sack_packet),
            ours(7, Segment, 2),
        ),
        (
            "segment with IP options",
            ethernet(
                &[],
                0x0800,
                &v4(SERVER, US, 6, &[1; 40], &tcp(443, 61000, 40, b"x")),
            ),
            ours(7, Segment, 0),
        ),
        (
            "same port, other server",
            ethernet(&[], 0x0800, &v4(OTHER, US, 6, &[], &tcp(80, 61000, 0, &[]))),
            ours(8, Segment, 0),
        ),
        (
            "last port of the range",
            segment(443, LAST),
            ours(9, Segment, 0),
        ),
        (
            "time exceeded, shortest quote",
            time_exceeded(),
            ours(7, Quote, 0),
        ),
        (
            "fragment reassembly time exceeded",
            error(11, 1),
            ours(7, Quote, 0),
        ),
        ("host unreachable", error(3, 1), ours(7, Quote, 0)),
        ("fragmentation needed", error(3, 4), ours(7, Quote, 0)),
        (
            "administratively prohibited",
            error(3, 13),
            ours(7, Quote, 0),
        ),
        (
            "long quote, IP options inside and outside",
            ethernet(
                &[0x8100],
                0x0800,
                &v4(
                    ROUTER,
                    US,
                    1,
                    &[1; 8],
                    &icmp(11, 0, &options(&tcp(61000, 443, 12, &[7; 40]))),
                ),
            ),
            ours(7, Quote, 1),
        ),
        (
            // Total length of the quote as it left us: longer than the quote.
            "quote cut by the router",
            ethernet(
                &[],
                0x0800,
                &v4(
                    ROUTER,
                    US,
                    1,
                    &[],
                    &icmp(
                        11,
                        0,
                        &v4(US, SERVER, 6, &[], &tcp(61000, 443, 0, &[]))[..28],
                    ),
                ),
            ),
            ours(7, Quote, 0),
        ),
        (
            "source NAT left our address rewritten",
            quote_v4(11, 0, ROUTER, US, NATTED, SERVER, &cut(61000, 443)),
            ours(7, RewrittenQuote, 0),
        ),
        (
            "destination NAT named itself the target",
            quote_v4(11, 0, SERVER, US, US, NATTED, &cut(61000, 443)),
            ours(7, RewrittenQuote, 0),
        ),
        (
            "destination NAT, error from elsewhere",
            quote_v4(11, 0, ROUTER, US, US, NATTED, &cut(61000, 443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
        (
            "destination NAT left the port rewritten",
            quote_v4(11, 0, ROUTER, US, US, SERVER, &cut(61000, 8443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
        (
            "source NAT left address and port rewritten",
            quote_v4(11, 0, ROUTER, US, NATTED, SERVER, &cut(1025, 443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
        (
            "source NAT left our port rewritten",
            quote_v4(11, 0, ROUTER, US, US, SERVER, &cut(1025, 443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
        (
            "source NAT rewrote our port into our own range",
            quote_v4(3, 4, ROUTER, US, NATTED, OTHER, &cut(61500, 80)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
    ]
}

pub fn v6_frames() -> Vec<(&'static str, Vec<u8>, Decision)> {
    use SteerKind::{Quote, RewrittenQuote, Segment};
    let extensions: &[(u8, u8)] = &[(0, 1), (60, 2), (43, 3), (60, 1)];
    let segment =
        |extensions: &[(u8, u8)]| v6(SERVER6, US6, 6, extensions, &tcp(443, 61000, 12, &[]));
    let error = |icmp_type, l4: &[u8]| quote_v6(icmp_type, ROUTER6, US6, US6, SERVER6, l4);
    vec![
        (
            "v6 segment",
            ethernet(&[], 0x86dd, &segment(&[])),
            ours(10, Segment, 0),
        ),
        (
            "v6 segment below two tags, four extension headers",
            ethernet(&[0x8100, 0x8100], 0x86dd, &segment(extensions)),
            ours(10, Segment, 2),
        ),
        (
            "v6 unreachable",
            error(1, &cut(61000, 443)),
            ours(10, Quote, 0),
        ),
        (
            "v6 packet too big",
            error(2, &cut(61000, 443)),
            ours(10, Quote, 0),
        ),
        (
            "v6 time exceeded",
            error(3, &tcp(61001, 443, 12, &[])),
            ours(11, Quote, 0),
        ),
        (
            "v6 quote, extension headers inside and outside",
            ethernet(
                &[],
                0x86dd,
                &v6(
                    ROUTER6,
                    US6,
                    58,
                    extensions,
                    &icmp(3, 0, &v6(US6, SERVER6, 6, extensions, &cut(61000, 443))),
                ),
            ),
            ours(10, Quote, 0),
        ),
        (
            "v6 quote, our address rewritten",
            quote_v6(3, ROUTER6, US6, NATTED6, SERVER6, &cut(61000, 443)),
            ours(10, RewrittenQuote, 0),
        ),
        (
            "v6 quote, target rewritten, named by the outer source",
            quote_v6(3, SERVER6, US6, US6, NATTED6, &cut(61000, 443)),
            ours(10, RewrittenQuote, 0),
        ),
        (
            "v6 quote, target rewritten",
            quote_v6(3, ROUTER6, US6, US6, NATTED6, &cut(61000, 443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
        (
            "v6 quote, address and port rewritten",
            quote_v6(3, ROUTER6, US6, NATTED6, SERVER6, &cut(1025, 443)),
            ours(UNRESOLVED, RewrittenQuote, 0),
        ),
    ]
}

/// `session`'s, recognised as `kind`, below `tags` VLAN tags.
fn ours(session: SessionId, kind: SteerKind, tags: u16) -> Decision {
    Decision::Ours {
        session,
        kind,
        l3_offset: 14 + 4 * tags,
    }
}
