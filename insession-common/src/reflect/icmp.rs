//! ICMP and ICMPv6: time exceeded, port unreachable, echo.

use super::frame::{Family, Frame, L3, To, fold, halves};
use super::network::{Labels, MOST_LABELS, RouterId};
use super::{Answer, Counter, Network, Packet};

/// Words of the longest quote: 128 octets, the least before an extension
/// (RFC 4884 §4).
const QUOTE_WORDS: usize = 32;
/// Words that most packets do not exceed.
const FEW_WORDS: usize = 16;

/// ICMP extension header of version 2 (RFC 4884 §7), without its checksum.
const EXTENSION: u32 = 0x2000_0000;
/// An MPLS label stack object, class 1 and type 1 (RFC 4950 §3), without its length.
const MPLS_OBJECT: u32 = 0x0000_0101;

/// Time exceeded in transit, from the router at the packet's TTL.
#[inline(always)]
pub(super) fn exceeded<F: Family>(
    network: &Network,
    request: &Frame,
    packet: &Packet,
    reply: &mut Frame,
) -> Answer {
    let router = packet.way.router(network, packet.flow, packet.ttl);
    let traits = router.traits(network);
    if traits.silent(network) {
        return Answer::none(Counter::Silent);
    }
    let kind = if F::IS_V6 { 3 } else { 11 };
    // Its own packets' TTL begins at 255.
    let error = Error {
        kind: kind << 24,
        source: source::<F>(network, router),
        ttl: 255 - (packet.ttl - 1),
        quoted_ttl: 1,
    };
    if traits.labelled(network) {
        let labels = traits.labels();
        let length = error.emit::<F>(request, packet, Some(&labels), reply);
        return Answer::whole(Counter::ExceededMpls, length);
    }
    let length = error.emit::<F>(request, packet, None, reply);
    Answer::whole(Counter::Exceeded, length)
}

/// Port unreachable, from the destination.
#[inline(always)]
pub(super) fn port_unreachable<F: Family>(
    request: &Frame,
    packet: &Packet,
    reply: &mut Frame,
) -> Answer {
    let kind = if F::IS_V6 {
        1 << 24 | 4 << 16
    } else {
        3 << 24 | 3 << 16
    };
    let error = Error {
        kind,
        source: F::own(request),
        ttl: packet.own_ttl(),
        quoted_ttl: packet.ttl - (packet.distance - 1),
    };
    let length = error.emit::<F>(request, packet, None, reply);
    Answer::whole(Counter::PortUnreachable, length)
}

/// Echo reply to an echo request.
#[inline(always)]
pub(super) fn echo<F: Family>(request: &Frame, packet: &Packet, reply: &mut Frame) -> Answer {
    let (asked, answered) = if F::IS_V6 { (128, 129) } else { (8, 0) };
    let first = request.word(F::L4);
    if first >> 16 != asked << 8 {
        return Answer::none(Counter::OtherIcmp);
    }
    copy(request, reply, L3, L3, QUOTE_WORDS);
    reply.turn(request);
    let to = To {
        protocol: packet.protocol,
        ttl: packet.own_ttl(),
        payload: packet.length - F::HEADER,
    };
    F::emit(reply, request, F::own(request), &to);
    // RFC 1624, equation 3: ~(~HC + ~m + m'); the addresses' sum is as it was.
    let sum =
        u64::from(!first & 0xffff) + u64::from(!(asked << 8) & 0xffff) + u64::from(answered << 8);
    reply.set(F::L4, answered << 24 | u32::from(fold(sum)));
    let length = packet.length + 14;
    Answer {
        counter: Counter::Echo as u32,
        length,
        written: if length < 142 { length } else { 142 },
    }
}

impl Packet {
    /// The TTL of what the destination sends, as it arrives here.
    #[inline(always)]
    pub(super) fn own_ttl(&self) -> u8 {
        64 - (self.distance - 1)
    }
}

#[inline(always)]
fn source<F: Family>(network: &Network, router: RouterId) -> [u32; 4] {
    if F::IS_V6 {
        let (high, low) = router.v6(network);
        [
            (high >> 32) as u32,
            high as u32,
            (low >> 32) as u32,
            low as u32,
        ]
        .map(u32::to_be)
    } else {
        [router.v4(network).to_be(), 0, 0, 0]
    }
}

/// An ICMP error.
struct Error {
    /// Type and code, in the first half of a word.
    kind: u32,
    source: [u32; 4],
    ttl: u8,
    quoted_ttl: u8,
}

impl Error {
    /// Writes it and returns the frame's length. It quotes 128 octets of the
    /// packet, or all of a shorter one.
    #[inline(always)]
    fn emit<F: Family>(
        &self,
        request: &Frame,
        packet: &Packet,
        labels: Option<&Labels>,
        reply: &mut Frame,
    ) -> u32 {
        let icmp = F::L4;
        let quote = icmp + 2;
        let whole = QUOTE_WORDS as u32 * 4;
        let mut length = if packet.length < whole {
            packet.length
        } else {
            whole
        };
        let mut sum = copy(request, reply, L3, quote, FEW_WORDS);
        // Behind the packet's end the request holds zeros.
        if length > FEW_WORDS as u32 * 4 || labels.is_some() {
            let (from, to) = (L3 + FEW_WORDS, quote + FEW_WORDS);
            sum += copy(request, reply, from, to, QUOTE_WORDS - FEW_WORDS);
        }
        sum += self.age::<F>(request, reply, quote);

        let mut second = 0;
        if let Some(labels) = labels {
            // In words of 32 bits, for ICMPv6 of 64, where it was unused (RFC 4884 §4).
            second = match F::IS_V6 {
                true => (whole / 8) << 24,
                false => (whole / 4) << 16,
            };
            sum += extension(labels, reply, quote + QUOTE_WORDS);
            length = whole + 8 + 4 * u32::from(labels.depth);
        }
        let to = To {
            protocol: F::ICMP,
            ttl: self.ttl,
            payload: 8 + length,
        };
        let pseudo = F::emit(reply, request, self.source, &to);
        reply.turn(request);
        if F::IS_V6 {
            sum += pseudo;
        }
        sum += u64::from(self.kind.to_be()) + u64::from(u32::to_be(second));
        reply.set(icmp, self.kind | halves(fold(sum), 0) >> 16);
        reply.set(icmp + 1, second);
        14 + F::HEADER + 8 + length
    }

    /// The quoted TTL is what it was where the packet ended; returns what that
    /// adds to the quote's sum.
    #[inline(always)]
    fn age<F: Family>(&self, request: &Frame, reply: &mut Frame, quote: usize) -> u64 {
        if F::IS_V6 {
            let before = request.word(L3 + 1);
            let after = before & 0xffff_ff00 | u32::from(self.quoted_ttl);
            reply.set(quote + 1, after);
            return u64::from(!before.to_be()) + u64::from(after.to_be());
        }
        let before = request.word(L3 + 2);
        let (ttl, rest) = (u32::from(self.quoted_ttl) << 8, before >> 16 & 0xff);
        // RFC 1624: the header's sum stays what it was, so the quote's does too.
        let sum = u64::from(!before & 0xffff)
            + u64::from(!(before >> 16) & 0xffff)
            + u64::from(ttl | rest);
        reply.set(quote + 2, (ttl | rest) << 16 | u32::from(fold(sum)));
        0
    }
}

/// Copies words and returns their sum.
#[inline(always)]
fn copy(request: &Frame, reply: &mut Frame, from: usize, to: usize, words: usize) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at < words {
        let word = request.raw(from + at);
        reply.set_raw(to + at, word);
        sum += u64::from(word);
        at += 1;
    }
    sum
}

/// Writes an extension structure with a label stack; returns its sum.
#[inline(always)]
fn extension(labels: &Labels, reply: &mut Frame, at: usize) -> u64 {
    let object = (4 + 4 * u32::from(labels.depth)) << 16 | MPLS_OBJECT;
    let mut stack = 0;
    let mut entry = 0;
    while entry < MOST_LABELS {
        // Those behind the bottom are zero and lie behind the packet's end.
        reply.set(at + 2 + entry, labels.entries[entry]);
        stack += u64::from(labels.entries[entry].to_be());
        entry += 1;
    }
    let sum = stack + u64::from(EXTENSION.to_be()) + u64::from(object.to_be());
    let header = EXTENSION | halves(fold(sum), 0) >> 16;
    reply.set(at, header);
    reply.set(at + 1, object);
    stack + u64::from(header.to_be()) + u64::from(object.to_be())
}
