//! ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861): every address has the
//! reflector's MAC address.

use super::frame::{Family, Frame, L3, To, V6, fold, halves};
use super::{Answer, Counter, MAC};

/// Neighbour solicitation, advertisement.
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;
/// Solicited, override (RFC 4861 §4.4).
const FLAGS: u32 = 0x6000_0000;

/// An ARP reply.
#[inline(always)]
pub(super) fn arp(request: &Frame, length: u32, reply: &mut Frame) -> Answer {
    if length < 14 + 28 {
        return Answer::none(Counter::Truncated);
    }
    // Ethernet, IPv4, 6 and 4 octets, a request.
    if request.word(L3) != 0x0001_0800 || request.word(L3 + 1) != 0x0604_0001 {
        return Answer::none(Counter::Malformed);
    }
    let sender = [2, 3].map(|at| request.word(L3 + at));
    // The sender's address ends, the target's begins in the middle of a word.
    let sender_address = sender[1] << 16 | request.word(L3 + 4) >> 16;
    let target = request.word(L3 + 6);
    if sender_address == target || sender_address == 0 {
        // It announces or probes its own.
        return Answer::none(Counter::Arp);
    }
    let [a, b, c, d, e, f] = MAC;
    reply.turn_from_own(request);
    reply.set(L3, 0x0001_0800);
    reply.set(L3 + 1, 0x0604_0002);
    reply.set(L3 + 2, u32::from_be_bytes([a, b, c, d]));
    reply.set(L3 + 3, u32::from_be_bytes([e, f, 0, 0]) | target >> 16);
    reply.set(L3 + 4, target << 16 | sender[0] >> 16);
    reply.set(L3 + 5, sender[0] << 16 | sender[1] >> 16);
    reply.set(L3 + 6, sender_address);
    Answer::whole(Counter::Arp, 14 + 28)
}

#[inline(always)]
pub(super) fn is_solicitation(request: &Frame) -> bool {
    request.word(V6::L4) >> 24 == SOLICITATION
}

/// A neighbour advertisement.
#[inline(always)]
pub(super) fn solicitation(request: &Frame, length: u32, reply: &mut Frame) -> Answer {
    if !is_solicitation(request) {
        return Answer::none(Counter::Multicast);
    }
    let l4 = V6::L4;
    if length < 14 + 40 + 24 {
        return Answer::none(Counter::Truncated);
    }
    let asker = [2, 3, 4, 5].map(|at| request.raw(L3 + at));
    if asker == [0; 4] {
        // It looks whether its own address is taken (RFC 4862 §5.4).
        return Answer::none(Counter::Advertisement);
    }
    let target = [2, 3, 4, 5].map(|at| request.raw(l4 + at));
    let to = To {
        protocol: V6::ICMP,
        ttl: 255,
        payload: 32,
    };
    let mut sum = V6::emit(reply, request, target, &to);
    reply.turn_from_own(request);
    let [a, b, c, d, e, f] = MAC;
    let link = [
        u32::from_be_bytes([2, 1, a, b]).to_be(),
        u32::from_be_bytes([c, d, e, f]).to_be(),
    ];
    let mut at = 0;
    while at < 4 {
        reply.set_raw(l4 + 2 + at, target[at]);
        sum += u64::from(target[at]);
        at += 1;
    }
    reply.set_raw(l4 + 6, link[0]);
    reply.set_raw(l4 + 7, link[1]);
    let kind = ADVERTISEMENT << 24;
    sum += u64::from(link[0]) + u64::from(link[1]);
    sum += u64::from(kind.to_be()) + u64::from(FLAGS.to_be());
    reply.set(l4, kind | halves(fold(sum), 0) >> 16);
    reply.set(l4 + 1, FLAGS);
    Answer::whole(Counter::Advertisement, 14 + 40 + 32)
}
