//! TCP servers without state.
//!
//! A server's initial sequence number is the client's plus a number of the
//! flow's, so the ACK field of any later segment gives the client's back, and a
//! segment's offset into the client's stream with it.

use super::frame::{Family, Frame, To, fold, halves};
use super::{Answer, Counter, Network, Packet};
use crate::reflect::network::mix;

const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;

/// What servers announce: an Ethernet path's.
const MSS: u32 = 1460;
const MSS_V6: u32 = 1440;
const SCALE: u32 = 7;
/// Unscaled in a SYN-ACK, octets.
const FIRST_WINDOW: u32 = 65_535;
/// Scaled by [`SCALE`]: 64 KiB.
const WINDOW: u32 = 512;
/// Octets behind what was received that are in the window, whatever the scale.
const IN_WINDOW: u32 = 65_535;
/// Of a flow whose client did not offer SACK, the ISN lies so much farther: so
/// that this can be told from any later segment.
const NO_SACK: u32 = 0x8000_0000;

/// A header without options, and the most options of a reply, in words.
const HEADER_WORDS: usize = 5;
const OPTION_WORDS: usize = 6;

const TIMESTAMPS_OFFERED: u64 = 1 << 32;
const SACK_OFFERED: u64 = 1 << 33;
const SCALE_OFFERED: u64 = 1 << 34;

/// Options of a segment, as far as they are answered.
#[derive(Clone, Copy, Default)]
pub(super) struct Offered {
    pub(super) timestamps: bool,
    pub(super) tsval: u32,
    sack: bool,
    scale: bool,
}

impl Offered {
    /// The same, for [`super::reflect`].
    #[inline(always)]
    pub(super) fn forgotten(self, forget: &impl Fn(u64) -> u64) -> Self {
        let flags =
            u64::from(self.timestamps) | u64::from(self.sack) << 1 | u64::from(self.scale) << 2;
        let all = forget(flags << 32 | u64::from(self.tsval));
        Offered {
            timestamps: all >> 32 & 1 != 0,
            tsval: all as u32,
            sack: all >> 33 & 1 != 0,
            scale: all >> 34 & 1 != 0,
        }
    }

    /// Reads them; `None` where the header contradicts itself.
    #[inline(always)]
    pub(super) fn parse<F: Family>(
        request: &Frame,
        length: u32,
        forget: &impl Fn(u64) -> u64,
    ) -> Option<Self> {
        let mut offered = Offered::default();
        let header = (request.word(F::L4 + 3) >> 28) * 4;
        if header < 20 || F::HEADER + header > length {
            return None;
        }
        let end = header - 20;
        let start = F::L4 + HEADER_WORDS;
        // As every segment of a connection with timestamps begins (RFC 7323 A).
        if end == 12 && request.word(start) == 0x0101_080a {
            offered.timestamps = true;
            offered.tsval = request.word(start + 1);
            return Some(offered);
        }
        // What is known so far, in one number: the flags, behind them the place.
        let (mut known, mut tsval) = (0, 0);
        let mut turn = 0;
        while turn < 40 {
            turn += 1;
            known = forget(known);
            let at = (known & 63) as u32;
            if at >= end {
                break;
            }
            let place = start * 4 + at as usize;
            let word = request.unaligned(place);
            let (kind, size) = (word >> 24, word >> 16 & 0xff);
            if kind == 1 {
                known += 1;
                continue;
            }
            if kind == 0 || size < 2 || at + size > end {
                break;
            }
            match (kind, size) {
                (3, 3) => known |= SCALE_OFFERED,
                (4, 2) => known |= SACK_OFFERED,
                (8, 10) => {
                    known |= TIMESTAMPS_OFFERED;
                    tsval = request.unaligned(place + 2);
                }
                _ => {}
            }
            known += u64::from(size);
        }
        offered.timestamps = known & TIMESTAMPS_OFFERED != 0;
        offered.sack = known & SACK_OFFERED != 0;
        offered.scale = known & SCALE_OFFERED != 0;
        offered.tsval = tsval;
        Some(offered)
    }
}

/// The server's answer to a segment.
#[inline(always)]
pub(super) fn segment<F: Family>(
    network: &Network,
    request: &Frame,
    packet: &Packet,
    offered: &Offered,
    reply: &mut Frame,
    forget: &impl Fn(u64) -> u64,
) -> Answer {
    let (segment, counter) = match react::<F>(network, request, packet, offered) {
        Ok(reaction) => reaction,
        Err(counter) => return Answer::none(counter),
    };
    // The control word's flags, window and length, and the counter: all of the
    // answer that is known when compiling.
    let known = forget(u64::from(segment.control()) | (counter as u64) << 32);
    segment.emit::<F>(request, packet, known as u32, reply);
    let length = (known as u32 >> 28 & 0xf) * 4;
    let length = 14 + F::HEADER + length;
    Answer {
        counter: (known >> 32) as u32,
        length,
        written: length,
    }
}

/// What the server sends, and why.
#[inline(always)]
fn react<F: Family>(
    network: &Network,
    request: &Frame,
    packet: &Packet,
    offered: &Offered,
) -> Result<(Segment, Counter), Counter> {
    let (sequence, acknowledgment, control) = (
        request.word(F::L4 + 1),
        request.word(F::L4 + 2),
        request.word(F::L4 + 3),
    );
    let flags = control >> 16 & 0x3f;
    let payload = packet.length - F::HEADER - (control >> 28) * 4;
    if flags & RST != 0 {
        return Err(Counter::Reset);
    }
    let key = mix(packet.flow ^ 0x15) as u32;
    let mut out = Segment {
        sequence: acknowledgment,
        acknowledgment: 0,
        flags: RST,
        window: 0,
        options: [0; OPTION_WORDS],
        option_words: 0,
    };
    // Our clock is the client's, shifted: it goes on with it.
    let tsval = offered.tsval.wrapping_add(key.rotate_left(11));

    if flags & (SYN | ACK) == SYN {
        out.acknowledgment = sequence.wrapping_add(1).wrapping_add(payload);
        if packet.way.refuses(network) {
            out.sequence = 0;
            out.flags = RST | ACK;
            return Ok((out, Counter::Refused));
        }
        let shift = if offered.sack { key } else { key ^ NO_SACK };
        out.acknowledgment = sequence.wrapping_add(1);
        out.sequence = sequence.wrapping_add(shift);
        out.flags = SYN | ACK;
        out.window = FIRST_WINDOW;
        let mss = 0x0204_0000 | if F::IS_V6 { MSS_V6 } else { MSS };
        let scale = if offered.scale {
            0x0103_0300 | SCALE
        } else {
            0x0101_0101
        };
        if offered.timestamps {
            let sack = if offered.sack {
                0x0402_080a
            } else {
                0x0101_080a
            };
            out.options = [mss, sack, tsval, offered.tsval, scale, 0];
            out.option_words = 5;
        } else {
            let sack = if offered.sack {
                0x0101_0402
            } else {
                0x0101_0101
            };
            out.options = [mss, sack, scale, 0, 0, 0];
            out.option_words = 3;
        }
        return Ok((out, Counter::SynAck));
    }
    if packet.way.is_mute(network) {
        return Err(Counter::Mute);
    }

    // seq - (client's ISN + 1), from ack = client's ISN + key + 1.
    let offset = sequence.wrapping_sub(acknowledgment).wrapping_add(key);
    let (offset, sack) = match fits(offset) {
        true => (offset, true),
        false => (offset ^ NO_SACK, false),
    };
    if flags & (SYN | ACK) != ACK || !fits(offset) || packet.way.refuses(network) {
        if flags & ACK == 0 {
            // RFC 9293 §3.10.7.1: no number to take up.
            out.sequence = 0;
            out.acknowledgment = sequence.wrapping_add(payload).wrapping_add(flags & FIN);
            out.flags = RST | ACK;
        }
        return Ok((out, Counter::NoSession));
    }
    out.flags = ACK;
    out.window = WINDOW;
    // What a server would have received in order: nothing.
    let expected = sequence.wrapping_sub(offset);
    out.acknowledgment = expected;
    let mut block = false;
    let counter = if offset == u32::MAX {
        Counter::Keepalive
    } else if offset == 0 && payload | flags & FIN != 0 {
        out.acknowledgment = expected.wrapping_add(payload).wrapping_add(flags & FIN);
        if flags & FIN != 0 {
            Counter::Fin
        } else {
            Counter::InOrder
        }
    } else if payload != 0 {
        block = sack;
        if sack { Counter::Sack } else { Counter::DupAck }
    } else if flags & FIN != 0 {
        Counter::Fin
    } else {
        return Err(Counter::PureAck);
    };
    let (left, right) = (sequence, sequence.wrapping_add(payload));
    match (offered.timestamps, block) {
        (true, true) => {
            out.options = [0x0101_080a, tsval, offered.tsval, 0x0101_050a, left, right];
            out.option_words = 6;
        }
        (true, false) => {
            out.options = [0x0101_080a, tsval, offered.tsval, 0, 0, 0];
            out.option_words = 3;
        }
        (false, true) => {
            out.options = [0x0101_050a, left, right, 0, 0, 0];
            out.option_words = 3;
        }
        (false, false) => {}
    }
    Ok((out, counter))
}

/// Whether a segment of this offset into the client's stream is in the window,
/// or just before it (keepalives and window probes).
#[inline(always)]
fn fits(offset: u32) -> bool {
    offset.wrapping_add(1) <= IN_WINDOW + 1
}

/// A segment to be sent back.
struct Segment {
    sequence: u32,
    acknowledgment: u32,
    flags: u32,
    window: u32,
    /// Zero behind `option_words`.
    options: [u32; OPTION_WORDS],
    option_words: u32,
}

impl Segment {
    /// Data offset, flags, window.
    #[inline(always)]
    fn control(&self) -> u32 {
        (HEADER_WORDS as u32 + self.option_words) << 28 | self.flags << 16 | self.window
    }

    /// Writes it. All words of options are: those behind its end are zero.
    #[inline(always)]
    fn emit<F: Family>(&self, request: &Frame, packet: &Packet, control: u32, reply: &mut Frame) {
        let to = To {
            protocol: F::TCP,
            ttl: packet.own_ttl(),
            payload: (control >> 28) * 4,
        };
        let mut sum = F::emit(reply, request, F::own(request), &to);
        reply.turn(request);
        let header = [
            request.word(F::L4).rotate_left(16),
            self.sequence,
            self.acknowledgment,
            control,
        ];
        let mut at = 0;
        while at < header.len() {
            reply.set(F::L4 + at, header[at]);
            sum += u64::from(header[at].to_be());
            at += 1;
        }
        let mut at = 0;
        while at < OPTION_WORDS {
            reply.set(F::L4 + HEADER_WORDS + at, self.options[at]);
            sum += u64::from(self.options[at].to_be());
            at += 1;
        }
        reply.set(F::L4 + 4, halves(fold(sum), 0));
    }
}
