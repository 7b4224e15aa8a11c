//! Changing packets in place, as routers and middleboxes do: checksums are
//! carried along (RFC 1624) where there is one, never made anew over a payload.
//!
//! Packets here were made by the templates and by [`super::network`]: whole, with
//! neither IPv4 options nor IPv6 extension headers.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::server::Outgoing;
use crate::wire::checksum::{self, Sum};
use crate::wire::{icmp, ip, tcp};

/// Octets of the IP header that `packet` begins with.
pub(super) fn header_len(packet: &[u8]) -> usize {
    if is_v6(packet) { 40 } else { 20 }
}

pub(super) fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Which number of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Sequence,
    Acknowledgment,
}

/// An IP packet with TCP in it, or as much of one as is quoted.
#[derive(Debug)]
pub(super) struct Editor<'a> {
    packet: &'a mut [u8],
    /// Whether the TCP checksum is carried along.
    mend: bool,
}

impl<'a> Editor<'a> {
    pub(super) fn new(packet: &'a mut [u8]) -> Self {
        Editor { packet, mend: true }
    }

    /// Leaves the TCP checksum as it is.
    pub(super) fn without_tcp_checksum(packet: &'a mut [u8]) -> Self {
        Editor {
            packet,
            mend: false,
        }
    }

    pub(super) fn ttl(&self) -> u8 {
        self.packet[self.ttl_at()]
    }

    pub(super) fn set_ttl(&mut self, ttl: u8) {
        let at = self.ttl_at();
        let word = [ttl, self.packet[at + 1]];
        if is_v6(self.packet) {
            // The hop limit is the second octet of its word.
            self.packet[at] = ttl;
        } else {
            self.write(at..at + 2, &word, false);
        }
    }

    pub(super) fn set_dscp(&mut self, dscp: u8) {
        let ecn = self.traffic_class() & 0b11;
        let class = dscp << 2 | ecn;
        if is_v6(self.packet) {
            self.packet[0] = 0x60 | class >> 4;
            self.packet[1] = class << 4 | self.packet[1] & 0x0f;
        } else {
            let word = [self.packet[0], class];
            self.write(0..2, &word, false);
        }
    }

    pub(super) fn traffic_class(&self) -> u8 {
        match is_v6(self.packet) {
            true => self.packet[0] << 4 | self.packet[1] >> 4,
            false => self.packet[1],
        }
    }

    /// Sets address and port of one end.
    pub(super) fn set_end(&mut self, end: End, to: SocketAddr) {
        self.set_address(end, to.ip());
        let at = header_len(self.packet) + if end == End::Source { 0 } else { 2 };
        self.write_tcp(at..at + 2, &to.port().to_be_bytes());
    }

    fn set_address(&mut self, end: End, to: IpAddr) {
        let (start, len) = match (is_v6(self.packet), end) {
            (false, End::Source) => (12, 4),
            (false, End::Destination) => (16, 4),
            (true, End::Source) => (8, 16),
            (true, End::Destination) => (24, 16),
        };
        match to {
            IpAddr::V4(v4) if len == 4 => self.write(start..start + 4, &v4.octets(), true),
            IpAddr::V6(v6) if len == 16 => self.write(start..start + 16, &v6.octets(), true),
            _ => {}
        }
    }

    /// Adds to one of a segment's numbers, where it is there.
    pub(super) fn shift(&mut self, number: Number, by: u32) {
        let at = header_len(self.packet)
            + match number {
                Number::Sequence => 4,
                Number::Acknowledgment => 8,
            };
        self.shift_at(at, by);
    }

    /// Adds to both edges of every SACK block.
    pub(super) fn shift_sack(&mut self, by: u32) {
        let tcp = header_len(self.packet);
        let Ok(segment) = tcp::Segment::new(&self.packet[tcp..]) else {
            return;
        };
        let end = tcp + tcp::HEADER_LEN + segment.options().len();
        let mut at = tcp + tcp::HEADER_LEN;
        while at + 1 < end {
            let len = usize::from(self.packet[at + 1]);
            match self.packet[at] {
                0 => return,
                1 => at += 1,
                5 => {
                    for edge in (at + 2..at + len).step_by(4) {
                        self.shift_at(edge, by);
                    }
                    at += len;
                }
                _ => at += len.max(2),
            }
        }
    }

    fn shift_at(&mut self, at: usize, by: u32) {
        if let Some(bytes) = self
            .packet
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
        {
            let shifted = u32::from_be_bytes(*bytes).wrapping_add(by);
            self.write_tcp(at..at + 4, &shifted.to_be_bytes());
        }
    }

    fn ttl_at(&self) -> usize {
        if is_v6(self.packet) { 7 } else { 8 }
    }

    /// Writes words of the TCP header; all are at even offsets.
    fn write_tcp(&mut self, field: Range<usize>, bytes: &[u8]) {
        let tcp = header_len(self.packet);
        self.replace(field, bytes, [None, self.mend.then_some(tcp + 16)]);
    }

    /// Writes words of the IP header.
    fn write(&mut self, field: Range<usize>, bytes: &[u8], in_pseudo: bool) {
        let tcp = header_len(self.packet);
        let own = (!is_v6(self.packet)).then_some(10);
        let pseudo = (in_pseudo && self.mend).then_some(tcp + 16);
        self.replace(field, bytes, [own, pseudo]);
    }

    fn replace(&mut self, field: Range<usize>, bytes: &[u8], checksums: [Option<usize>; 2]) {
        for (at, new) in field.step_by(2).zip(bytes.chunks_exact(2)) {
            let new = [new[0], new[1]];
            let Some(old) = self.word(at) else { return };
            for checksum in checksums.into_iter().flatten() {
                if let Some(before) = self.word(checksum) {
                    let after = checksum::update(
                        u16::from_be_bytes(before),
                        u16::from_be_bytes(old),
                        u16::from_be_bytes(new),
                    );
                    self.packet[checksum..checksum + 2].copy_from_slice(&after.to_be_bytes());
                }
            }
            self.packet[at..at + 2].copy_from_slice(&new);
        }
    }

    fn word(&self, at: usize) -> Option<[u8; 2]> {
        self.packet.get(at..)?.first_chunk().copied()
    }
}

/// Changes what an ICMP error quotes, and mends the error's own checksum.
/// `quoted` is how many octets of the packet are quoted.
pub(super) fn edit_quote(
    packet: &mut [u8],
    quoted: usize,
    whole: bool,
    change: &mut dyn FnMut(&mut Editor<'_>),
) {
    let start = header_len(packet) + icmp::HEADER_LEN;
    if let Some(quote) = packet.get_mut(start..start + quoted) {
        change(&mut match whole {
            true => Editor::new(quote),
            false => Editor::without_tcp_checksum(quote),
        });
    }
    mend_icmp(packet);
}

/// Sets an address of an ICMP error's own packet.
pub(super) fn readdress_icmp(packet: &mut [u8], end: End, to: IpAddr) {
    Editor::without_tcp_checksum(packet).set_address(end, to);
    mend_icmp(packet);
}

fn mend_icmp(packet: &mut [u8]) {
    let start = header_len(packet);
    let pseudo = match ip::Packet::quoted(packet) {
        Ok(parsed) if is_v6(packet) => parsed.pseudo(packet.len() - start),
        _ => Sum::ZERO,
    };
    packet[start + 2..start + 4].fill(0);
    let checksum = pseudo.bytes(&packet[start..]).finish();
    packet[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// An IP packet with a segment in it. The addresses are of one family.
pub(super) fn segment(from: SocketAddr, to: SocketAddr, ttl: u8, outgoing: &Outgoing) -> Vec<u8> {
    const TEXT: [u8; 1460] = [b'.'; 1460];
    let repr = tcp::Repr {
        source_port: from.port(),
        destination_port: to.port(),
        sequence: outgoing.sequence,
        acknowledgment: outgoing.acknowledgment,
        flags: outgoing.flags,
        window: outgoing.window,
        options: outgoing.options,
        payload: TEXT
            .get(..usize::from(outgoing.payload_len))
            .unwrap_or(&TEXT),
    };
    let len = repr.buffer_len();
    build(
        from.ip(),
        to.ip(),
        ip::PROTOCOL_TCP,
        ttl,
        len,
        |pseudo, out| {
            repr.emit(pseudo, out);
        },
    )
}

/// An IP packet with an ICMP error in it.
pub(super) fn icmp_error(from: IpAddr, to: IpAddr, ttl: u8, error: &icmp::Repr<'_>) -> Vec<u8> {
    let protocol = match error.version {
        icmp::Version::V4 => ip::PROTOCOL_ICMP,
        icmp::Version::V6 => ip::PROTOCOL_ICMPV6,
    };
    build(
        from,
        to,
        protocol,
        ttl,
        error.buffer_len(),
        |pseudo, out| {
            let pseudo = match error.version {
                icmp::Version::V4 => Sum::ZERO,
                icmp::Version::V6 => pseudo,
            };
            error.emit(pseudo, out);
        },
    )
}

fn build(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    ttl: u8,
    len: usize,
    emit: impl FnOnce(Sum, &mut [u8]),
) -> Vec<u8> {
    let Some(header) = ip::Repr::new(from, to, protocol, ttl, len as u16) else {
        return Vec::new();
    };
    let start = header.buffer_len();
    let mut packet = vec![0; start + len];
    header.emit(&mut packet);
    let pseudo = Sum::ZERO.pseudo(from, to, protocol, len as u32);
    emit(pseudo, &mut packet[start..]);
    packet
}
