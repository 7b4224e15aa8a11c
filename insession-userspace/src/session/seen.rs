//! What a quote shows of a probe beside what names it, and what of that is not as it
//! was sent.
//!
//! Only what is certain is told. A router may quote 8 octets and pad them with zeros,
//! with or without an extension behind (RFC 4884 §3): unless a checksum bears it out,
//! nothing is read behind the last octet that is not zero. Where the checksum of a
//! whole segment is wrong, that is told, and nothing of what it covers.

use super::input::{QuotedOptions, Seen};
use super::probes::{bit, id};
use super::state::Flag;
use super::{Quote, QuotedAlone, Session};
use crate::trace::{Method, Rewrite};
use crate::wire::alone::{DATAGRAM_DATA, ECHO_DATA, HEADER_LEN};
use crate::wire::checksum::Sum;
use crate::wire::ip;
use crate::wire::tcp::{self, flags};
use crate::wire::template::{self, SegmentOptions};

/// The first octets of data may be there for the checksum's sake.
const FREE_DATA: usize = 2;

/// The parts of a quoted packet that surely are the packet's: as long as it says, and
/// without the zeros at its end.
fn certain<'a>(packet: &ip::Packet<'a>) -> &'a [u8] {
    let whole = packet.payload_len.and_then(|len| packet.payload.get(..len));
    let quoted = whole.unwrap_or(packet.payload);
    let last = quoted.iter().rposition(|octet| *octet != 0);
    quoted
        .get(..last.map_or(0, |last| last + 1))
        .unwrap_or_default()
}

/// What is to be seen of a segment.
pub(super) fn in_segment(packet: &ip::Packet<'_>, checksum_bad: Option<bool>) -> Seen {
    let mut seen = Seen {
        dont_fragment: packet.dont_fragment,
        ..Seen::default()
    };
    let bytes = match (checksum_bad, packet.payload_len) {
        (Some(true), _) => return seen,
        (Some(false), Some(len)) => {
            seen.length = u16::try_from(len).ok();
            packet.payload.get(..len).unwrap_or_default()
        }
        _ => certain(packet),
    };
    let [.., offset, bits, high, low] = *bytes.get(..16).unwrap_or_default() else {
        return seen;
    };
    seen.flags = Some(bits);
    seen.window = Some(u16::from_be_bytes([high, low]));
    let header_len = usize::from(offset >> 4) * 4;
    if let Some(options) = bytes.get(tcp::HEADER_LEN..header_len) {
        seen.options = Some(read_options(options));
        let data = bytes.get(header_len..).unwrap_or_default();
        seen.odd_data = data.iter().any(|octet| *octet != 0);
    }
    seen
}

/// What is to be seen of an echo request or a datagram.
pub(super) fn in_other(packet: &ip::Packet<'_>) -> Seen {
    let bytes = certain(packet);
    let (length, first) = match (packet.protocol, bytes) {
        (ip::PROTOCOL_UDP, [_, _, _, _, high, low, ..]) => {
            (Some(u16::from_be_bytes([*high, *low])), DATAGRAM_DATA)
        }
        (ip::PROTOCOL_UDP, _) => (None, DATAGRAM_DATA),
        _ => (None, ECHO_DATA),
    };
    let sent = (0..=u8::MAX).map(|nth| first.wrapping_add(nth));
    let data = bytes.get(HEADER_LEN..).unwrap_or_default().iter();
    Seen {
        dont_fragment: packet.dont_fragment,
        length,
        odd_data: data
            .zip(sent)
            .skip(FREE_DATA)
            .any(|(octet, sent)| *octet != sent),
        ..Seen::default()
    }
}

fn read_options(bytes: &[u8]) -> QuotedOptions {
    if bytes.is_empty() {
        return QuotedOptions::None;
    }
    let options = tcp::Options::parse(bytes);
    if let Some((tsval, tsecr)) = options.timestamps {
        let stamps = SegmentOptions::Timestamps { tsval, tsecr };
        if template::has_options(bytes, &stamps) {
            return QuotedOptions::Timestamps;
        }
        if let (Some(mss), Some(window_scale)) = (options.mss, options.window_scale) {
            let syn = SegmentOptions::Syn {
                mss,
                window_scale,
                tsval,
            };
            if template::has_options(bytes, &syn) {
                return QuotedOptions::Syn {
                    mss,
                    window_scale,
                    tsval,
                };
            }
        }
    }
    QuotedOptions::Other { mss: options.mss }
}

impl Session {
    /// What of a quoted probe in the session is not as it was sent, as bits.
    #[inline]
    pub(super) fn changed_in_session(&self, seen: &Seen) -> u32 {
        let mut changed = when(seen.dont_fragment == Some(false), Rewrite::DontFragment)
            | when(
                seen.flags
                    .is_some_and(|bits| bits != flags::ACK | flags::PSH),
                Rewrite::Flags,
            )
            | when(seen.odd_data && !self.is_sidecar(), Rewrite::Payload);
        // Those of a connection that goes on have the options of its latest segment.
        if self.is_adopted() {
            return changed;
        }
        // The probe may be one of the connection before, whose options were others.
        if self.has(Flag::Reopened) {
            return changed;
        }
        let (expected, octets) = match self.connection.has_timestamps() {
            true => (QuotedOptions::Timestamps, tcp::HEADER_LEN + 12 + 1),
            false => (QuotedOptions::None, tcp::HEADER_LEN + 1),
        };
        let (_, window, _) = self.connection.numbers(0);
        changed |= when(differs(seen.window, window), Rewrite::Window)
            | when(differs(seen.options, expected), Rewrite::Options)
            | when(differs(seen.length, octets as u16), Rewrite::Length);
        changed
    }

    /// The same of a probe that stands alone, the one at this index.
    pub(super) fn changed_alone(&self, quote: &Quote, index: usize, ends: u32) -> u32 {
        let seen = &quote.seen;
        let v6 = quote.destination.is_ipv6();
        let mut changed = when(seen.dont_fragment == Some(true), Rewrite::DontFragment)
            | when(seen.odd_data, Rewrite::Payload);
        match quote.alone {
            None => changed |= self.changed_syn(seen),
            Some(QuotedAlone::Echo { checksum, .. }) => {
                let odd = self
                    .sent_checksum(index)
                    .is_some_and(|sent| sent != checksum);
                changed |= when(odd && ends == 0, Rewrite::Checksum);
            }
            Some(QuotedAlone::Datagram { identification, .. }) => {
                let odd = self.nat(quote, index).is_some_and(|nat| nat != 0);
                changed |= when(odd && ends == 0, Rewrite::Checksum);
                let sent = self.sent_data(index) + HEADER_LEN as u16;
                changed |= when(differs(seen.length, sent), Rewrite::Length);
                // Some quote none, or with its octets in their own order.
                let number = id(index).0.get();
                let numbered = matches!(self.method(), Method::ParisUdp | Method::Dublin);
                let same = [0, number, number.swap_bytes()].contains(&identification);
                changed |= when(!v6 && numbered && !same, Rewrite::Identification);
            }
        }
        changed
    }

    /// The same of a SYN.
    fn changed_syn(&self, seen: &Seen) -> u32 {
        let sent = self.syn_alone();
        let SegmentOptions::Syn {
            mss,
            window_scale,
            tsval,
        } = sent.options
        else {
            return 0;
        };
        let expected = |mss| QuotedOptions::Syn {
            mss,
            window_scale,
            tsval,
        };
        let (other_mss, others) = match seen.options {
            Some(QuotedOptions::Syn { mss: said, .. }) => {
                (said != mss, differs(seen.options, expected(said)))
            }
            Some(QuotedOptions::Other { mss: said }) => (differs(said, mss), true),
            Some(QuotedOptions::None | QuotedOptions::Timestamps) => (false, true),
            None => (false, false),
        };
        let octets = tcp::HEADER_LEN + 20;
        when(other_mss, Rewrite::Mss)
            | when(others, Rewrite::Options)
            | when(differs(seen.window, sent.window), Rewrite::Window)
            | when(differs(seen.flags, sent.flags), Rewrite::Flags)
            | when(differs(seen.length, octets as u16), Rewrite::Length)
    }

    /// What NATs between us and the router added to the checksum of a datagram, as
    /// dublin-traceroute reckons its identifier. The probe is named by something else:
    /// the IPv4 identification, or in IPv6 the length.
    pub(super) fn nat(&self, quote: &Quote, index: usize) -> Option<u16> {
        let Some(QuotedAlone::Datagram {
            checksum,
            identification,
            ..
        }) = quote.alone
        else {
            return None;
        };
        let sent = self.sent_checksum(index)?;
        let named = match quote.destination.is_ipv6() {
            true => self.method() == Method::Dublin,
            false => identification == sent,
        };
        // RFC 768: 0 is none.
        if !named || checksum == 0 {
            return None;
        }
        match Sum::ZERO.word(checksum).word(!sent).fold() {
            // -0.
            u16::MAX => Some(0),
            nat => Some(nat),
        }
    }
}

/// Whether it is known, and another.
fn differs<T: PartialEq>(said: Option<T>, sent: T) -> bool {
    said.is_some_and(|said| said != sent)
}

pub(super) fn when(changed: bool, rewrite: Rewrite) -> u32 {
    if changed { bit(rewrite) } else { 0 }
}
