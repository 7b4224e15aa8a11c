//! Frames as words: aligned, so that neither the XDP program nor user space
//! puts fields together from single octets.

use super::network::Host;
use super::{Counter, Packet};

/// Octets before the Ethernet header, so that the IP header is aligned.
pub const ADDRESS_PAD: usize = 2;
/// Words of a frame buffer.
pub const FRAME_WORDS: usize = 66;
/// Octets of a frame buffer behind [`ADDRESS_PAD`].
pub const FRAME_BYTES: usize = FRAME_WORDS * 4 - ADDRESS_PAD;
/// How much of a request is looked at: an Ethernet header and 128 octets, which
/// is what RFC 4884 has a quote hold.
pub const READ_BYTES: usize = 14 + 128;

/// The word that the IP header begins with.
pub(super) const L3: usize = 4;
/// Words of a request that are not zero.
const READ_WORDS: usize = (ADDRESS_PAD + READ_BYTES) / 4;

/// A frame: two octets of padding, then the Ethernet header; in words, each in
/// network byte order. 256 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The words.
    pub words: [u32; FRAME_WORDS],
}

impl Frame {
    /// Zeros.
    pub const ZERO: Frame = Frame {
        words: [0; FRAME_WORDS],
    };

    /// A word as a number. The places are known when compiling; one outside is 0.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be(self.raw(at))
    }

    /// A word as it lies there: enough for sums.
    #[inline(always)]
    pub(super) fn raw(&self, at: usize) -> u32 {
        self.words[at % FRAME_WORDS]
    }

    /// Two octets, counted in pairs from the Ethernet header on.
    #[inline(always)]
    pub(super) fn half(&self, pair: usize) -> u16 {
        let pair = pair + ADDRESS_PAD / 2;
        (self.word(pair / 2) >> (16 - 16 * (pair as u32 % 2))) as u16
    }

    /// Any four octets of the frame with its padding, at most the last.
    #[inline(always)]
    pub(super) fn unaligned(&self, at: usize) -> u32 {
        let (word, octet) = (at / 4, at as u32 % 4);
        let both = u64::from(self.word(word)) << 32 | u64::from(self.word(word + 1));
        (both >> (32 - 8 * octet)) as u32
    }

    #[inline(always)]
    pub(super) fn set(&mut self, at: usize, value: u32) {
        self.set_raw(at, value.to_be());
    }

    #[inline(always)]
    pub(super) fn set_raw(&mut self, at: usize, value: u32) {
        self.words[at % FRAME_WORDS] = value;
    }

    /// The Ethernet header of a reply: back to who sent.
    #[inline(always)]
    pub(super) fn turn(&mut self, request: &Frame) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| request.word(at));
        self.set(0, c >> 16);
        self.set(1, c << 16 | d >> 16);
        self.set(2, a << 16 | b >> 16);
        self.set(3, b << 16 | d & 0xffff);
    }

    /// The same from [`super::MAC`], for what was sent to many.
    #[inline(always)]
    pub(super) fn turn_from_own(&mut self, request: &Frame) {
        let [_, _, c, d] = [0, 1, 2, 3].map(|at| request.word(at));
        let [e, f, g, h, i, j] = super::MAC;
        self.set(0, c >> 16);
        self.set(1, c << 16 | d >> 16);
        self.set(2, u32::from_be_bytes([e, f, g, h]));
        self.set(3, u32::from_be_bytes([i, j, 0, 0]) | d & 0xffff);
    }

    /// The sum of the words from `from` to what is read of a request.
    #[inline(always)]
    pub(super) fn sum_from(&self, from: usize) -> u64 {
        let mut sum = 0;
        let mut at = from;
        while at < READ_WORDS {
            sum += u64::from(self.raw(at));
            at += 1;
        }
        sum
    }
}

/// The internet checksum (RFC 1071) of words' sum, as it goes into a word: sums
/// do not depend on the byte order.
#[inline(always)]
pub(super) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// A checksum in the first, a number in the second half of a word.
#[inline(always)]
pub(super) fn halves(checksum: u16, other: u16) -> u32 {
    u32::from(u16::from_be(checksum)) << 16 | u32::from(other)
}

/// What of an IP header both families have.
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) identification: u16,
}

/// What differs between the families.
pub(super) trait Family {
    const IS_V6: bool;
    const TCP: u8 = 6;
    const ICMP: u8;
    /// Octets of the IP header.
    const HEADER: u32;
    /// The word behind it.
    const L4: usize;

    /// Reads the header, which has neither options nor extensions.
    fn header(request: &Frame) -> Result<Header, Counter>;
    fn source(request: &Frame) -> Host;
    fn destination(request: &Frame) -> Host;
    fn is_multicast(request: &Frame) -> bool;

    /// Writes the header of a reply to the request's sender, and returns the sum
    /// of the pseudo-header.
    fn emit(reply: &mut Frame, request: &Frame, source: [u32; 4], to: &To) -> u64;

    /// The request's destination, as [`Family::emit`] takes a source.
    fn own(request: &Frame) -> [u32; 4];

    /// The sum of a request's pseudo-header.
    fn pseudo(request: &Frame, protocol: u8, length: u32) -> u64;

    /// Whether the checksum behind the IP header is right, as far as it can be
    /// told: of longer packets not all is read. One that holds only the
    /// pseudo-header's sum is right too: on a veth pair nobody completes it.
    #[inline(always)]
    fn checksum_ok(request: &Frame, packet: &Packet) -> bool {
        if packet.length > 128 {
            return true;
        }
        let pseudo = match Self::IS_V6 || packet.protocol != Self::ICMP {
            true => Self::pseudo(request, packet.protocol, packet.length - Self::HEADER),
            false => 0,
        };
        // TCP has it in the first half of its fifth word, UDP in the second half
        // of its second; ICMP is not offloaded.
        let held = match packet.protocol {
            6 => request.word(Self::L4 + 4) >> 16,
            17 => request.word(Self::L4 + 1) & 0xffff,
            _ => 0x1_0000,
        };
        // Without checksum (RFC 768).
        if packet.protocol == 17 && held == 0 && !Self::IS_V6 {
            return true;
        }
        fold(request.sum_from(Self::L4) + pseudo) == 0
            || held == u32::from(u16::from_be(!fold(pseudo)))
    }
}

/// What a reply's IP header says.
pub(super) struct To {
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    /// Octets behind the IP header.
    pub(super) payload: u32,
}

/// IPv4.
pub(super) struct V4;
/// IPv6.
pub(super) struct V6;

impl Family for V4 {
    const IS_V6: bool = false;
    const ICMP: u8 = 1;
    const HEADER: u32 = 20;
    const L4: usize = L3 + 5;

    #[inline(always)]
    fn header(request: &Frame) -> Result<Header, Counter> {
        let (first, second, third) = (request.word(L3), request.word(L3 + 1), request.word(L3 + 2));
        if first >> 24 != 0x45 {
            return Err(Counter::OtherProtocol);
        }
        // More fragments, or an offset.
        if second & 0x3fff != 0 {
            return Err(Counter::Fragment);
        }
        let protocol = (third >> 16) as u8;
        if !matches!(protocol, 6 | 17 | 1) {
            return Err(Counter::OtherProtocol);
        }
        if first & 0xffff < 20 {
            return Err(Counter::Malformed);
        }
        Ok(Header {
            length: first & 0xffff,
            protocol,
            ttl: (third >> 24) as u8,
            identification: (second >> 16) as u16,
        })
    }

    #[inline(always)]
    fn source(request: &Frame) -> Host {
        Host::v4(request.word(L3 + 3))
    }

    #[inline(always)]
    fn destination(request: &Frame) -> Host {
        Host::v4(request.word(L3 + 4))
    }

    #[inline(always)]
    fn is_multicast(request: &Frame) -> bool {
        request.word(L3 + 4) >> 28 == 0xe || request.raw(L3 + 4) == u32::MAX
    }

    #[inline(always)]
    fn emit(reply: &mut Frame, request: &Frame, source: [u32; 4], to: &To) -> u64 {
        let words = [
            (0x4500_0000 | (20 + to.payload)).to_be(),
            0x0000_4000u32.to_be(),
            (u32::from(to.ttl) << 24 | u32::from(to.protocol) << 16).to_be(),
            source[0],
            request.raw(L3 + 3),
        ];
        let ends = u64::from(words[3]) + u64::from(words[4]);
        let sum = ends + u64::from(words[0]) + u64::from(words[1]) + u64::from(words[2]);
        reply.set_raw(L3, words[0]);
        reply.set_raw(L3 + 1, words[1]);
        reply.set_raw(
            L3 + 2,
            words[2] | halves(0, u16::from_be(fold(sum))).to_be(),
        );
        reply.set_raw(L3 + 3, words[3]);
        reply.set_raw(L3 + 4, words[4]);
        ends + u64::from(u32::from(to.protocol).to_be()) + u64::from(to.payload.to_be())
    }

    #[inline(always)]
    fn own(request: &Frame) -> [u32; 4] {
        [request.raw(L3 + 4), 0, 0, 0]
    }

    #[inline(always)]
    fn pseudo(request: &Frame, protocol: u8, length: u32) -> u64 {
        u64::from(request.raw(L3 + 3))
            + u64::from(request.raw(L3 + 4))
            + u64::from(u32::from(protocol).to_be())
            + u64::from(length.to_be())
    }
}

impl Family for V6 {
    const IS_V6: bool = true;
    const ICMP: u8 = 58;
    const HEADER: u32 = 40;
    const L4: usize = L3 + 10;

    #[inline(always)]
    fn header(request: &Frame) -> Result<Header, Counter> {
        let (first, second) = (request.word(L3), request.word(L3 + 1));
        if first >> 28 != 6 {
            return Err(Counter::Malformed);
        }
        let protocol = (second >> 8) as u8;
        if !matches!(protocol, 6 | 17 | 58) {
            return Err(Counter::OtherProtocol);
        }
        Ok(Header {
            length: 40 + (second >> 16),
            protocol,
            ttl: second as u8,
            identification: 0,
        })
    }

    #[inline(always)]
    fn source(request: &Frame) -> Host {
        host(request, L3 + 2)
    }

    #[inline(always)]
    fn destination(request: &Frame) -> Host {
        host(request, L3 + 6)
    }

    #[inline(always)]
    fn is_multicast(request: &Frame) -> bool {
        request.word(L3 + 6) >> 24 == 0xff
    }

    #[inline(always)]
    fn emit(reply: &mut Frame, request: &Frame, source: [u32; 4], to: &To) -> u64 {
        reply.set(L3, 0x6000_0000);
        reply.set(
            L3 + 1,
            to.payload << 16 | u32::from(to.protocol) << 8 | u32::from(to.ttl),
        );
        let mut sum = u64::from(u32::from(to.protocol).to_be()) + u64::from(to.payload.to_be());
        let mut at = 0;
        while at < 4 {
            let sender = request.raw(L3 + 2 + at);
            reply.set_raw(L3 + 2 + at, source[at]);
            reply.set_raw(L3 + 6 + at, sender);
            sum += u64::from(source[at]) + u64::from(sender);
            at += 1;
        }
        sum
    }

    #[inline(always)]
    fn own(request: &Frame) -> [u32; 4] {
        [6, 7, 8, 9].map(|at| request.raw(L3 + at))
    }

    #[inline(always)]
    fn pseudo(request: &Frame, protocol: u8, length: u32) -> u64 {
        let mut sum = u64::from(u32::from(protocol).to_be()) + u64::from(length.to_be());
        let mut at = L3 + 2;
        while at < L3 + 10 {
            sum += u64::from(request.raw(at));
            at += 1;
        }
        sum
    }
}

#[inline(always)]
fn host(frame: &Frame, at: usize) -> Host {
    let pair = |at| u64::from(frame.word(at)) << 32 | u64::from(frame.word(at + 1));
    Host {
        high: pair(at),
        low: pair(at + 2),
    }
}
