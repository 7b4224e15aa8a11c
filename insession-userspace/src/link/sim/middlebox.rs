//! What balancers look at, and what middleboxes do to passing packets.

use std::net::SocketAddr;

use super::packet::{self, Editor, End, Number};
use super::rng::mix;
use super::scenario::{Middlebox, QuoteRepair};
use crate::wire::ip;
use crate::wire::tcp::{self, flags};

/// Who `inside` is behind this router.
pub(super) fn outside(middlebox: Option<&Middlebox>, inside: SocketAddr) -> SocketAddr {
    let Some(Middlebox::Nat { v4, v6, port, .. }) = middlebox else {
        return inside;
    };
    match (inside, v4, v6) {
        (SocketAddr::V4(end), Some(v4), _) => (*v4, end.port() ^ port).into(),
        (SocketAddr::V6(end), _, Some(v6)) => (*v6, end.port() ^ port).into(),
        _ => inside,
    }
}

/// What a middlebox does to a segment of ours.
pub(super) fn change(middlebox: &Middlebox, packet: &mut [u8]) {
    match *middlebox {
        Middlebox::Nat { .. } => {
            let Ok(parsed) = ip::Packet::quoted(packet) else {
                return;
            };
            let Ok(first) = tcp::First8::parse(parsed.payload) else {
                return;
            };
            let inside = SocketAddr::new(parsed.source, first.source_port);
            let outside = outside(Some(middlebox), inside);
            Editor::new(packet).set_end(End::Source, outside);
        }
        Middlebox::Sequence { ours, theirs, .. } => {
            let has_ack = has_ack(packet);
            let mut editor = Editor::new(packet);
            editor.shift(Number::Sequence, ours);
            if has_ack {
                editor.shift(Number::Acknowledgment, theirs.wrapping_neg());
            }
        }
        Middlebox::Dscp(dscp) => Editor::new(packet).set_dscp(dscp),
    }
}

/// What a middlebox does to what comes back.
pub(super) fn undo(
    middlebox: &Middlebox,
    packet: &mut [u8],
    inside: SocketAddr,
    remote: SocketAddr,
    quoted: Option<usize>,
) {
    let (ours, theirs, repair) = match *middlebox {
        Middlebox::Nat {
            quotes,
            hides_routers,
            ..
        } => {
            let Some(quoted) = quoted else {
                Editor::new(packet).set_end(End::Destination, inside);
                return;
            };
            packet::readdress_icmp(packet, End::Destination, inside.ip());
            if hides_routers {
                packet::readdress_icmp(packet, End::Source, remote.ip());
            }
            if quotes != QuoteRepair::None {
                let whole = quotes == QuoteRepair::Whole;
                packet::edit_quote(packet, quoted, whole, &mut |editor| {
                    editor.set_end(End::Source, inside);
                });
            }
            return;
        }
        Middlebox::Sequence {
            ours,
            theirs,
            sack,
            quotes,
        } => {
            if quoted.is_none() {
                let has_ack = has_ack(packet);
                let mut editor = Editor::new(packet);
                editor.shift(Number::Sequence, theirs);
                if has_ack {
                    editor.shift(Number::Acknowledgment, ours.wrapping_neg());
                }
                if sack {
                    editor.shift_sack(ours.wrapping_neg());
                }
            }
            (ours, theirs, quotes)
        }
        Middlebox::Dscp(_) => return,
    };
    if let Some(quoted) = quoted
        && repair != QuoteRepair::None
    {
        let whole = repair == QuoteRepair::Whole;
        packet::edit_quote(packet, quoted, whole, &mut |editor| {
            editor.shift(Number::Sequence, ours.wrapping_neg());
            editor.shift(Number::Acknowledgment, theirs);
        });
    }
}

fn has_ack(packet: &[u8]) -> bool {
    tcp::Segment::new(&packet[packet::header_len(packet)..])
        .is_ok_and(|segment| segment.flags() & flags::ACK != 0)
}

/// Everything that a balancer may look at, and which balancer it is.
pub(super) fn flow_hash(packet: &[u8], stage: usize) -> u64 {
    let start = packet::header_len(packet);
    let (addresses, label) = match packet::is_v6(packet) {
        true => (8..40, [packet[1] & 0x0f, packet[2], packet[3]]),
        false => (12..20, [0; 3]),
    };
    // ECN differs freely (RFC 3168 §5), the DSCP does not.
    let class = match packet::is_v6(packet) {
        true => packet[0] << 4 | packet[1] >> 4,
        false => packet[1],
    };
    let mut hash = mix(stage as u64 ^ u64::from(class >> 2) << 32);
    for part in [&packet[addresses], &packet[start..start + 4], &label] {
        for byte in part {
            hash = mix(hash ^ u64::from(*byte));
        }
    }
    hash
}

pub(super) fn has_payload(packet: &[u8]) -> bool {
    tcp::Segment::new(&packet[packet::header_len(packet)..])
        .is_ok_and(|segment| !segment.payload().is_empty())
}
