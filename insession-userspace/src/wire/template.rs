//! A route's frames, laid out once: Ethernet, VLAN tag and IP with what never
//! changes; each segment fills in the rest and adds it to the checksums
//! (RFC 1624).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::alone::Alone;
use super::checksum::{NativeSum, Sum};
use super::{be32, ethernet, ip, ipv4, ipv6, tcp};

/// What all frames of a flow have in common: everything that a per-flow load
/// balancer may hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our MAC address.
    pub source_mac: [u8; 6],
    /// MAC address of the gateway, or of the target on the link.
    pub next_hop_mac: [u8; 6],
    /// 802.1Q tag to put on every frame.
    pub vlan: Option<u16>,
    /// Our address and port.
    pub local: SocketAddr,
    /// The target's address and port.
    pub remote: SocketAddr,
    /// DSCP (6 bits); the ECN bits are 0.
    pub dscp: u8,
    /// IPv6 flow label (20 bits, RFC 6437); unused with IPv4.
    pub flow_label: u32,
}

/// TCP options of a segment of ours. Three shapes, so that templates can be
/// laid out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentOptions {
    /// None.
    None,
    /// MSS, SACK-permitted, timestamps, NOP, window scale: as Linux sends them.
    Syn {
        /// Octets.
        mss: u16,
        /// Shift count.
        window_scale: u8,
        /// Our clock; TSecr is 0 in a SYN.
        tsval: u32,
    },
    /// NOP, NOP, timestamps.
    Timestamps {
        /// Our clock.
        tsval: u32,
        /// The latest of theirs.
        tsecr: u32,
    },
}

/// What differs from segment to segment of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Varying {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; 0 without the ACK flag.
    pub acknowledgment: u32,
    /// Flag bits as on the wire ([`super::tcp::flags`]).
    pub flags: u8,
    /// The window field as it goes on the wire.
    pub window: u16,
    /// TCP options.
    pub options: SegmentOptions,
    /// Octets of payload: zeros, unless they are given beside it.
    pub payload_len: u16,
}

/// The part of [`Ends`] that every flow of a route has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// Our MAC address.
    pub source_mac: [u8; 6],
    /// MAC address of the gateway, or of the target on the link.
    pub next_hop_mac: [u8; 6],
    /// 802.1Q tag to put on every frame.
    pub vlan: Option<u16>,
    /// Our address.
    pub source: IpAddr,
    /// DSCP (6 bits); the ECN bits are 0.
    pub dscp: u8,
    /// What the IP header is followed by.
    pub protocol: u8,
    /// IPv4: set "don't fragment".
    pub dont_fragment: bool,
}

/// The part of [`Ends`] that is a flow's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Our port.
    pub local_port: u16,
    /// The target's address, of the family of [`Way::source`], and port.
    pub remote: SocketAddr,
    /// IPv6 flow label (20 bits, RFC 6437); unused with IPv4.
    pub flow_label: u32,
}

/// What nearly every frame is: a probe of an IPv4 flow with timestamps, one byte
/// of payload. What differs from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The target's address, as it stands in the packet.
    pub destination: [u8; 4],
    /// Our port and the target's, as they stand there.
    pub ports: [u8; 4],
    /// TTL.
    pub ttl: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// The window field as it goes on the wire.
    pub window: u16,
    /// Our clock.
    pub tsval: u32,
    /// The latest of theirs.
    pub tsecr: u32,
}

/// What sessions announce: Linux's first window, so that firewalls see nothing odd.
pub const WINDOW: u16 = 64_240;
/// Their shift count, Linux's for its default buffers.
pub const WINDOW_SCALE: u8 = 7;

/// Octets of its segment, and of the packet.
const PROBE_SEGMENT: usize = TCP_LEN + 12 + 1;
const PROBE: usize = ipv4::HEADER_LEN + PROBE_SEGMENT;
/// Header length and flags of its segment.
pub(super) const PROBE_OFFSET_AND_FLAGS: u16 =
    ((TCP_LEN as u16 + 12) / 4) << 12 | (tcp::flags::ACK | tcp::flags::PSH) as u16;

/// Most bytes that come before TCP's: Ethernet with a tag, IPv6.
const HEAD: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN + ipv6::HEADER_LEN;
/// As many bytes of it as are copied for IPv4: more than come before TCP's, and
/// fewer than the shortest frame has.
const V4_HEAD: usize = 48;
/// Identification, flags and fragment offset: "don't fragment" alone.
const DONT_FRAGMENT: u16 = 0x4000;
/// TCP header without options.
const TCP_LEN: usize = 20;
/// The longest packet that is written: what [`MIN_OUT`] leaves behind the
/// longest Ethernet header.
const PACKET: usize = MIN_OUT - ethernet::HEADER_LEN - ethernet::TAG_LEN;
/// The longest segment, thus.
const SEGMENT: usize = PACKET - ipv6::HEADER_LEN;

/// The frames of a route, laid out: all its flows share it, so that a session
/// need keep nothing but its flow. What is a flow's or a segment's own is filled
/// in; of the checksums (RFC 1624) the constant part is summed up already.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Ethernet and IP header; zeros where they vary.
    head: [u8; HEAD],
    /// Where the IP header begins.
    l3: u8,
    /// IPv6.
    v6: bool,
    /// [`Way::protocol`].
    protocol: u8,
    /// The IPv6 header's first word, without the flow label.
    v6_first: u32,
    /// Sum of the IPv4 header's constant part.
    ip_sum: u16,
    /// Sum of the pseudo-header's constant part.
    tcp_sum: u16,
    /// Of a [`Probe`]: its IPv4 header's length.
    probe_len: [u8; 2],
    /// The sum of what is the same in the IPv4 header of every probe.
    probe_ip_sum: NativeSum,
    /// And in its segment with the pseudo-header.
    probe_tcp_sum: NativeSum,
}

impl Layout {
    /// Lays it out.
    #[must_use]
    pub fn new(way: &Way) -> Self {
        let mut head = [0; HEAD];
        let link = ethernet::Repr {
            destination: way.next_hop_mac,
            source: way.source_mac,
            vlan: way.vlan,
            ethertype: match way.source {
                IpAddr::V4(_) => ethernet::ETHERTYPE_IPV4,
                IpAddr::V6(_) => ethernet::ETHERTYPE_IPV6,
            },
        };
        let l3 = link.buffer_len();
        link.emit(&mut head);
        let ip = &mut head[l3..];
        let traffic_class = way.dscp << 2;
        let (ip_sum, tcp_sum) = match way.source {
            IpAddr::V4(source) => {
                ipv4::Repr {
                    source,
                    destination: Ipv4Addr::UNSPECIFIED,
                    protocol: way.protocol,
                    ttl: 0,
                    traffic_class,
                    identification: 0,
                    fragment: match way.dont_fragment {
                        true => DONT_FRAGMENT,
                        false => 0,
                    },
                    payload_len: 0,
                }
                .emit(ip);
                // The two fields that emit() filled in and write() fills in anew.
                ip[ipv4::field::TOTAL_LENGTH].fill(0);
                ip[ipv4::field::CHECKSUM].fill(0);
                let destination = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                (
                    Sum::ZERO.bytes(&ip[..ipv4::HEADER_LEN]),
                    Sum::ZERO.pseudo(way.source, destination, way.protocol, 0),
                )
            }
            IpAddr::V6(source) => {
                ipv6::Repr {
                    source,
                    destination: Ipv6Addr::UNSPECIFIED,
                    next_header: way.protocol,
                    hop_limit: 0,
                    traffic_class,
                    flow_label: 0,
                    payload_len: 0,
                }
                .emit(ip);
                let destination = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                (
                    Sum::ZERO,
                    Sum::ZERO.pseudo(way.source, destination, way.protocol, 0),
                )
            }
        };
        let probe_len = (PROBE as u16).to_be_bytes();
        Layout {
            probe_len,
            probe_ip_sum: NativeSum::from_folded(ip_sum.fold()).half(probe_len),
            probe_tcp_sum: NativeSum::from_folded(
                tcp_sum
                    .word(PROBE_SEGMENT as u16)
                    .word(PROBE_OFFSET_AND_FLAGS)
                    .long(NOP_NOP_TIMESTAMPS)
                    .fold(),
            ),
            // 14 or 18.
            l3: l3 as u8,
            v6: way.source.is_ipv6(),
            protocol: way.protocol,
            v6_first: be32(&head[l3..], ipv6::field::FIRST),
            head,
            ip_sum: ip_sum.fold(),
            tcp_sum: tcp_sum.fold(),
        }
    }

    /// Where the IP header begins: 14, or 18 behind a VLAN tag.
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        usize::from(self.l3)
    }

    /// Whether it is an IPv4 route's, and writes [`Probe`]s.
    #[must_use]
    #[inline]
    pub fn writes_probes(&self) -> bool {
        !self.v6
    }

    /// As [`Layout::write`] of the same segment, in a third of the steps.
    ///
    /// # Panics
    /// When `out` is shorter than 256 bytes.
    #[must_use]
    #[inline(always)]
    pub fn write_probe(&self, probe: &Probe, identification: u16, out: &mut [u8]) -> usize {
        let l3 = self.l3_offset();
        let out = out.first_chunk_mut::<MIN_OUT>();
        let out = out.expect("a frame's buffer is too short");
        out[..V4_HEAD].copy_from_slice(&self.head[..V4_HEAD]);
        let (ip, segment) = split_packet::<{ ipv4::HEADER_LEN }>(out, l3);
        let (destination, ports) = (probe.destination, probe.ports);
        let identification = identification.to_be_bytes();
        // The other octet of the TTL's word is the protocol, which is summed up.
        let sum = self.probe_ip_sum.half(identification).long(destination);
        let checksum = sum.half([probe.ttl, 0]).finish();
        ip[ipv4::field::TOTAL_LENGTH].copy_from_slice(&self.probe_len);
        ip[ipv4::field::IDENTIFICATION].copy_from_slice(&identification);
        ip[ipv4::field::TTL] = probe.ttl;
        ip[ipv4::field::CHECKSUM].copy_from_slice(&checksum);
        ip[ipv4::field::DESTINATION].copy_from_slice(&destination);

        let sequence = probe.sequence.to_be_bytes();
        let acknowledgment = probe.acknowledgment.to_be_bytes();
        let window = probe.window.to_be_bytes();
        let (tsval, tsecr) = (probe.tsval.to_be_bytes(), probe.tsecr.to_be_bytes());
        let sum = self.probe_tcp_sum.long(destination).long(ports);
        let sum = sum.long(sequence).long(acknowledgment).half(window);
        let checksum = sum.long(tsval).long(tsecr).finish();
        segment[..4].copy_from_slice(&ports);
        segment[4..8].copy_from_slice(&sequence);
        segment[8..12].copy_from_slice(&acknowledgment);
        segment[12..14].copy_from_slice(&PROBE_OFFSET_AND_FLAGS.to_be_bytes());
        segment[14..16].copy_from_slice(&window);
        segment[16..18].copy_from_slice(&checksum);
        segment[18..20].fill(0);
        segment[20..24].copy_from_slice(&NOP_NOP_TIMESTAMPS.to_be_bytes());
        segment[24..28].copy_from_slice(&tsval);
        segment[28..32].copy_from_slice(&tsecr);
        segment[32] = 0;
        l3 + PROBE
    }

    /// Writes one whole frame to the beginning of `out`, returns its length in
    /// bytes. `identification` is the IPv4 ID (don't-fragment is set; RFC 6864
    /// leaves the ID of such packets free), unused with IPv6.
    ///
    /// # Panics
    /// When `out` is shorter than 256 bytes, or than the frame: payloads of up
    /// to 158 bytes fit always. When `own` is not of the family of the layout.
    #[must_use]
    #[inline]
    pub fn write(
        &self,
        own: &Own,
        varying: &Varying,
        identification: u16,
        out: &mut [u8],
    ) -> usize {
        let tcp_len = tcp_len(varying);
        let (segment, sum, before) = self.write_ip(own, varying.ttl, identification, tcp_len, out);
        write_segment(own, varying, sum, segment);
        before + usize::from(tcp_len)
    }

    /// The same with this payload, of any length that the segment's says.
    ///
    /// # Panics
    /// When `out` is shorter than 256 bytes, or than the frame. When `own` is not of the
    /// family of the layout, or `data` is not as long as `varying` says.
    #[must_use]
    pub fn write_data(
        &self,
        own: &Own,
        varying: &Varying,
        data: &[u8],
        identification: u16,
        out: &mut [u8],
    ) -> usize {
        assert_eq!(data.len(), usize::from(varying.payload_len));
        let tcp_len = tcp_len(varying);
        let (segment, sum, before) = self.write_ip(own, varying.ttl, identification, tcp_len, out);
        let header = Varying {
            payload_len: 0,
            ..*varying
        };
        write_segment(own, &header, sum.bytes(data), segment);
        let end = before + usize::from(tcp_len);
        out[end - data.len()..end].copy_from_slice(data);
        end
    }

    /// The same of what is no segment ([`Alone::Segment`] is written by
    /// [`Layout::write`]).
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn write_alone(
        &self,
        own: &Own,
        ttl: u8,
        alone: &Alone,
        identification: u16,
        out: &mut [u8],
    ) -> usize {
        let length = alone.len();
        let (packet, sum, before) = self.write_ip(own, ttl, identification, length as u16, out);
        let sum = match self.protocol {
            ip::PROTOCOL_ICMP => Sum::ZERO,
            _ => sum,
        };
        alone.emit(self.protocol, sum, &mut packet[..length]);
        before + length
    }

    /// Writes all before what IP carries, `length` octets: gives the place of that, the
    /// sum of its pseudo-header, and the octets that were written.
    #[inline(always)]
    fn write_ip<'a>(
        &self,
        own: &Own,
        ttl: u8,
        identification: u16,
        length: u16,
        out: &'a mut [u8],
    ) -> (&'a mut [u8; SEGMENT], Sum, usize) {
        let l3 = self.l3_offset();
        assert!(out.len() >= MIN_OUT, "a frame's buffer is too short");
        let mut sum = Sum::from_folded(self.tcp_sum).word(length);
        let (segment, ip_len) = match (own.remote.ip(), self.v6) {
            (IpAddr::V4(remote), false) => {
                out[..V4_HEAD].copy_from_slice(&self.head[..V4_HEAD]);
                let (ip, segment) = split_packet::<{ ipv4::HEADER_LEN }>(out, l3);
                let remote = remote.to_bits();
                sum = sum.long(remote);
                let total = length + ipv4::HEADER_LEN as u16;
                let checksum = Sum::from_folded(self.ip_sum)
                    .word(total)
                    .word(identification)
                    .word(u16::from(ttl) << 8)
                    .long(remote)
                    .finish();
                ip[ipv4::field::TOTAL_LENGTH].copy_from_slice(&total.to_be_bytes());
                ip[ipv4::field::IDENTIFICATION].copy_from_slice(&identification.to_be_bytes());
                ip[ipv4::field::TTL] = ttl;
                ip[ipv4::field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
                ip[ipv4::field::DESTINATION].copy_from_slice(&remote.to_be_bytes());
                (segment, ipv4::HEADER_LEN)
            }
            (IpAddr::V6(remote), true) => {
                out[..HEAD].copy_from_slice(&self.head);
                let (ip, segment) = split_packet::<{ ipv6::HEADER_LEN }>(out, l3);
                sum = sum.bytes(&remote.octets());
                let first = self.v6_first | (own.flow_label & 0xf_ffff);
                ip[ipv6::field::FIRST].copy_from_slice(&first.to_be_bytes());
                ip[ipv6::field::PAYLOAD_LENGTH].copy_from_slice(&length.to_be_bytes());
                ip[ipv6::field::HOP_LIMIT] = ttl;
                ip[ipv6::field::DESTINATION].copy_from_slice(&remote.octets());
                (segment, ipv6::HEADER_LEN)
            }
            _ => panic!("{} in a layout of the other family", own.remote),
        };
        (segment, sum, l3 + ip_len)
    }
}

/// The frames of one flow: for who has few of them.
#[derive(Clone, Debug)]
pub struct Template {
    layout: Layout,
    own: Own,
}

impl Template {
    /// Lays it out; `None` when the two addresses are not of one family.
    #[must_use]
    pub fn new(ends: &Ends) -> Option<Self> {
        (ends.local.is_ipv4() == ends.remote.is_ipv4()).then(|| Template {
            layout: Layout::new(&Way {
                source_mac: ends.source_mac,
                next_hop_mac: ends.next_hop_mac,
                vlan: ends.vlan,
                source: ends.local.ip(),
                dscp: ends.dscp,
                protocol: ip::PROTOCOL_TCP,
                dont_fragment: true,
            }),
            own: Own {
                local_port: ends.local.port(),
                remote: ends.remote,
                flow_label: ends.flow_label,
            },
        })
    }

    /// Where the IP header begins: 14, or 18 behind a VLAN tag.
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        self.layout.l3_offset()
    }

    /// As [`Layout::write`].
    ///
    /// # Panics
    /// When `out` is too short.
    #[must_use]
    pub fn write(&self, varying: &Varying, identification: u16, out: &mut [u8]) -> usize {
        self.layout.write(&self.own, varying, identification, out)
    }
}

/// The shortest buffer [`Layout::write`] takes.
const MIN_OUT: usize = 256;

/// The IP header, and what is behind it. Arrays, so that nothing that is written
/// into them has its place checked.
#[inline]
fn split_packet<const IP: usize>(out: &mut [u8], l3: usize) -> (&mut [u8; IP], &mut [u8; SEGMENT]) {
    let split = out
        .get_mut(l3..)
        .and_then(|packet| packet.split_first_chunk_mut::<IP>())
        .and_then(|(ip, rest)| Some((ip, rest.first_chunk_mut::<SEGMENT>()?)));
    split.expect("MIN_OUT is as long as the longest frame")
}

/// Octets of the segment.
#[inline]
fn tcp_len(varying: &Varying) -> u16 {
    let options = match varying.options {
        SegmentOptions::None => 0,
        SegmentOptions::Timestamps { .. } => 12,
        SegmentOptions::Syn { .. } => 20,
    };
    TCP_LEN as u16 + options + varying.payload_len
}

/// Writes the segment. `sum` is the pseudo-header's.
#[inline]
fn write_segment(own: &Own, varying: &Varying, sum: Sum, out: &mut [u8; SEGMENT]) {
    let ports = u32::from(own.local_port) << 16 | u32::from(own.remote.port());
    let mut put = Longs { sum, out };
    put.long(0, ports);
    put.long(4, varying.sequence);
    put.long(8, varying.acknowledgment);
    let header_len = match varying.options {
        SegmentOptions::None => TCP_LEN,
        SegmentOptions::Timestamps { tsval, tsecr } => {
            put.long(TCP_LEN, NOP_NOP_TIMESTAMPS);
            put.long(TCP_LEN + 4, tsval);
            put.long(TCP_LEN + 8, tsecr);
            TCP_LEN + 12
        }
        SegmentOptions::Syn {
            mss,
            window_scale,
            tsval,
        } => {
            put.long(TCP_LEN, MSS | u32::from(mss));
            put.long(TCP_LEN + 4, SACK_PERMITTED_TIMESTAMPS);
            put.long(TCP_LEN + 8, tsval);
            put.long(TCP_LEN + 12, 0);
            put.long(TCP_LEN + 16, NOP_WINDOW_SCALE | u32::from(window_scale));
            TCP_LEN + 20
        }
    };
    let offset_and_flags = (header_len as u32 / 4) << 12 | u32::from(varying.flags);
    put.long(12, offset_and_flags << 16 | u32::from(varying.window));
    // The payload is zeros, which add nothing.
    let checksum = put.sum.finish();
    put.long(16, u32::from(checksum) << 16);
    match (varying.options, varying.payload_len) {
        // Known lengths need no call.
        (_, 0) => {}
        (SegmentOptions::Timestamps { .. }, 1) => out[TCP_LEN + 12] = 0,
        (_, octets) => out[header_len..header_len + usize::from(octets)].fill(0),
    }
}

/// Whether these octets of options are what a segment of ours has of these.
pub(crate) fn has_options(octets: &[u8], options: &SegmentOptions) -> bool {
    let (words, count) = match *options {
        SegmentOptions::None => ([0; 5], 0),
        SegmentOptions::Timestamps { tsval, tsecr } => {
            ([NOP_NOP_TIMESTAMPS, tsval, tsecr, 0, 0], 3)
        }
        SegmentOptions::Syn {
            mss,
            window_scale,
            tsval,
        } => {
            let scale = NOP_WINDOW_SCALE | u32::from(window_scale);
            let mss = MSS | u32::from(mss);
            ([mss, SACK_PERMITTED_TIMESTAMPS, tsval, 0, scale], 5)
        }
    };
    let ours = words.iter().take(count).flat_map(|word| word.to_be_bytes());
    ours.eq(octets.iter().copied())
}

pub(super) const NOP_NOP_TIMESTAMPS: u32 = u32::from_be_bytes([
    tcp::option::NOP,
    tcp::option::NOP,
    tcp::option::TIMESTAMPS,
    10,
]);
const SACK_PERMITTED_TIMESTAMPS: u32 =
    u32::from_be_bytes([tcp::option::SACK_PERMITTED, 2, tcp::option::TIMESTAMPS, 10]);
const MSS: u32 = u32::from_be_bytes([tcp::option::MSS, 4, 0, 0]);
const NOP_WINDOW_SCALE: u32 =
    u32::from_be_bytes([tcp::option::NOP, tcp::option::WINDOW_SCALE, 3, 0]);

/// 32-bit words, written and summed up.
struct Longs<'a> {
    sum: Sum,
    out: &'a mut [u8; SEGMENT],
}

impl Longs<'_> {
    #[inline]
    fn long(&mut self, at: usize, long: u32) {
        self.sum = self.sum.long(long);
        self.out[at..at + 4].copy_from_slice(&long.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
