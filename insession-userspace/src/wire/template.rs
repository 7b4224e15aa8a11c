//! A flow's frames, laid out once: Ethernet, VLAN tag, IP and TCP with what
//! never changes; each segment fills in the rest and patches the checksums
//! (RFC 1624).

use core::net::{IpAddr, SocketAddr};

use super::checksum::Sum;
use super::{ethernet, ip, ipv4, ipv6, tcp};

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
    /// Bytes of payload (their content is zero).
    pub payload_len: u8,
}

/// Most bytes that come before what varies: Ethernet with a tag, IPv6, ports.
const HEAD: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN + ipv6::HEADER_LEN + 4;
/// Identification, flags and fragment offset: "don't fragment" alone.
const DONT_FRAGMENT: u16 = 0x4000;
/// TCP header without options.
const TCP_LEN: usize = 20;

/// A flow's frame, laid out. It is kept for every live session, so it holds the
/// constant bytes once and their two sums, nothing that can be had from them.
#[derive(Clone, Debug)]
pub struct Template {
    /// Ethernet header, IP header and the two ports; zeros where they vary.
    head: [u8; HEAD],
    /// Where the IP header begins.
    l3: u8,
    /// IPv6.
    v6: bool,
    /// Sum of the IPv4 header's constant part.
    ip_sum: u16,
    /// Sum of the pseudo-header without its length, and of the ports.
    tcp_sum: u16,
}

const _: () = assert!(size_of::<Template>() <= 72);

impl Template {
    /// Lays it out; `None` when the two addresses are not of one family.
    #[must_use]
    pub fn new(ends: &Ends) -> Option<Self> {
        let mut head = [0; HEAD];
        let link = ethernet::Repr {
            destination: ends.next_hop_mac,
            source: ends.source_mac,
            vlan: ends.vlan,
            ethertype: match ends.local.ip() {
                IpAddr::V4(_) => ethernet::ETHERTYPE_IPV4,
                IpAddr::V6(_) => ethernet::ETHERTYPE_IPV6,
            },
        };
        let l3 = link.buffer_len();
        link.emit(&mut head);
        let ip = head.get_mut(l3..)?;
        let traffic_class = ends.dscp << 2;
        let (ip_len, ip_sum) = match (ends.local.ip(), ends.remote.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4::Repr {
                    source,
                    destination,
                    protocol: ip::PROTOCOL_TCP,
                    ttl: 0,
                    traffic_class,
                    identification: 0,
                    fragment: DONT_FRAGMENT,
                    payload_len: 0,
                }
                .emit(ip);
                // The two fields that emit() filled in and write() fills in anew.
                ip.get_mut(ipv4::field::TOTAL_LENGTH)?.fill(0);
                ip.get_mut(ipv4::field::CHECKSUM)?.fill(0);
                let sum = Sum::ZERO.bytes(ip.get(..ipv4::HEADER_LEN)?);
                (ipv4::HEADER_LEN, sum.fold())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ipv6::Repr {
                    source,
                    destination,
                    next_header: ip::PROTOCOL_TCP,
                    hop_limit: 0,
                    traffic_class,
                    flow_label: ends.flow_label,
                    payload_len: 0,
                }
                .emit(ip);
                (ipv6::HEADER_LEN, 0)
            }
            _ => return None,
        };
        let (local, remote) = (ends.local.port(), ends.remote.port());
        let ports = ip.get_mut(ip_len..)?.first_chunk_mut::<4>()?;
        *ports = (u32::from(local) << 16 | u32::from(remote)).to_be_bytes();
        let tcp_sum = Sum::ZERO
            .pseudo(ends.local.ip(), ends.remote.ip(), ip::PROTOCOL_TCP, 0)
            .word(local)
            .word(remote)
            .fold();
        Some(Template {
            head,
            l3: u8::try_from(l3).ok()?,
            v6: ends.local.is_ipv6(),
            ip_sum,
            tcp_sum,
        })
    }

    /// Where the IP header begins: 14, or 18 behind a VLAN tag.
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        usize::from(self.l3)
    }

    /// Writes one whole frame to the beginning of `out`, returns its length in
    /// bytes. `identification` is the IPv4 ID (don't-fragment is set; RFC 6864
    /// leaves the ID of such packets free), unused with IPv6.
    ///
    /// # Panics
    /// When `out` is shorter than 256 bytes, or than the frame: payloads of up
    /// to 158 bytes fit always.
    #[must_use]
    pub fn write(&self, varying: &Varying, identification: u16, out: &mut [u8]) -> usize {
        assert!(out.len() >= MIN_OUT, "a frame's buffer is too short");
        let l3 = self.l3_offset();
        let l4 = l3
            + if self.v6 {
                ipv6::HEADER_LEN
            } else {
                ipv4::HEADER_LEN
            };
        let (options, options_len, options_sum) = lay_out_options(&varying.options);
        let payload = l4 + TCP_LEN + options_len;
        let end = payload + usize::from(varying.payload_len);
        let tcp_len = (end - l4) as u16;
        out[..l4 + 4].copy_from_slice(&self.head[..l4 + 4]);

        let ip = &mut out[l3..l4];
        if self.v6 {
            ip[ipv6::field::PAYLOAD_LENGTH].copy_from_slice(&tcp_len.to_be_bytes());
            ip[ipv6::field::HOP_LIMIT] = varying.ttl;
        } else {
            let total = tcp_len + ipv4::HEADER_LEN as u16;
            let checksum = Sum::from_folded(self.ip_sum)
                .word(total)
                .word(identification)
                .word(u16::from(varying.ttl) << 8)
                .finish();
            ip[ipv4::field::TOTAL_LENGTH].copy_from_slice(&total.to_be_bytes());
            ip[ipv4::field::IDENTIFICATION].copy_from_slice(&identification.to_be_bytes());
            ip[ipv4::field::TTL] = varying.ttl;
            ip[ipv4::field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        }

        let offset_and_flags =
            (((TCP_LEN + options_len) / 4) as u16) << 12 | u16::from(varying.flags);
        // The payload is zeros, which add nothing.
        let checksum = Sum::from_folded(self.tcp_sum)
            .word(tcp_len)
            .long(varying.sequence)
            .long(varying.acknowledgment)
            .word(offset_and_flags)
            .word(varying.window)
            .word(options_sum)
            .finish();
        let tcp = &mut out[l4..end];
        tcp[tcp::field::SEQUENCE].copy_from_slice(&varying.sequence.to_be_bytes());
        tcp[tcp::field::ACKNOWLEDGMENT].copy_from_slice(&varying.acknowledgment.to_be_bytes());
        tcp[tcp::field::OFFSET_AND_FLAGS].copy_from_slice(&offset_and_flags.to_be_bytes());
        tcp[tcp::field::WINDOW].copy_from_slice(&varying.window.to_be_bytes());
        tcp[tcp::field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        tcp[tcp::field::URGENT].fill(0);
        tcp[TCP_LEN..TCP_LEN + options_len].copy_from_slice(&options[..options_len]);
        tcp[TCP_LEN + options_len..].fill(0);
        end
    }
}

/// The shortest buffer [`Template::write`] takes.
const MIN_OUT: usize = 256;

/// The options' bytes, how many they are, and their sum.
#[inline]
fn lay_out_options(options: &SegmentOptions) -> ([u8; 20], usize, u16) {
    let mut bytes = [0; 20];
    let len = match *options {
        SegmentOptions::None => 0,
        SegmentOptions::Syn {
            mss,
            window_scale,
            tsval,
        } => {
            bytes[..2].copy_from_slice(&[tcp::option::MSS, 4]);
            bytes[2..4].copy_from_slice(&mss.to_be_bytes());
            bytes[4..6].copy_from_slice(&[tcp::option::SACK_PERMITTED, 2]);
            bytes[6..8].copy_from_slice(&[tcp::option::TIMESTAMPS, 10]);
            bytes[8..12].copy_from_slice(&tsval.to_be_bytes());
            bytes[16..].copy_from_slice(&[
                tcp::option::NOP,
                tcp::option::WINDOW_SCALE,
                3,
                window_scale,
            ]);
            20
        }
        SegmentOptions::Timestamps { tsval, tsecr } => {
            bytes[..4].copy_from_slice(&[
                tcp::option::NOP,
                tcp::option::NOP,
                tcp::option::TIMESTAMPS,
                10,
            ]);
            bytes[4..8].copy_from_slice(&tsval.to_be_bytes());
            bytes[8..12].copy_from_slice(&tsecr.to_be_bytes());
            12
        }
    };
    (bytes, len, Sum::ZERO.bytes(&bytes[..len]).fold())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use etherparse::{LinkExtSlice, NetSlice, TransportSlice};
    use proptest::prelude::*;

    prop_compose! {
        fn ends()(
            source_mac: [u8; 6],
            next_hop_mac: [u8; 6],
            vlan in proptest::option::of(0u16..4096),
            v6: bool,
            addresses: [u128; 2],
            ports: [u16; 2],
            dscp in 0u8..64,
            flow_label in 0u32..1 << 20,
        ) -> Ends {
            let end = |bits: u128, port| {
                let address = match v6 {
                    true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
                    false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
                };
                SocketAddr::new(address, port)
            };
            Ends {
                source_mac,
                next_hop_mac,
                vlan,
                local: end(addresses[0], ports[0]),
                remote: end(addresses[1], ports[1]),
                dscp,
                flow_label,
            }
        }
    }

    fn options() -> impl Strategy<Value = SegmentOptions> {
        prop_oneof![
            Just(SegmentOptions::None),
            (any::<u16>(), 0u8..15, any::<u32>()).prop_map(|(mss, window_scale, tsval)| {
                SegmentOptions::Syn {
                    mss,
                    window_scale,
                    tsval,
                }
            }),
            (any::<u32>(), any::<u32>())
                .prop_map(|(tsval, tsecr)| SegmentOptions::Timestamps { tsval, tsecr }),
        ]
    }

    prop_compose! {
        fn varying()(
            ttl: u8,
            numbers: [u32; 2],
            flags in 0u8..64,
            window: u16,
            options in options(),
            payload_len in 0u8..=158,
        ) -> Varying {
            Varying {
                ttl,
                sequence: numbers[0],
                acknowledgment: numbers[1],
                flags,
                window,
                options,
                payload_len,
            }
        }
    }

    proptest! {
        /// Every field and both checksums, read by a codec that is not ours.
        #[test]
        fn frames_are_what_another_codec_expects(
            ends in ends(),
            varying in varying(),
            identification: u16,
            fill: u8,
        ) {
            let template = Template::new(&ends).unwrap();
            let mut buffer = [fill; 256];
            let len = template.write(&varying, identification, &mut buffer);
            prop_assert!(buffer[len..].iter().all(|byte| *byte == fill), "wrote behind its end");
            let frame = &buffer[..len];

            let packet = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
            let Some(etherparse::LinkSlice::Ethernet2(link)) = &packet.link else {
                panic!("no Ethernet header");
            };
            prop_assert_eq!(link.source(), ends.source_mac);
            prop_assert_eq!(link.destination(), ends.next_hop_mac);
            let vlan = packet.link_exts.first().map(|extension| match extension {
                LinkExtSlice::Vlan(tag) => tag.vlan_identifier().value(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(vlan, ends.vlan);
            prop_assert_eq!(template.l3_offset(), if vlan.is_some() { 18 } else { 14 });

            let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
                panic!("no TCP header");
            };
            let checksum = match packet.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => {
                    let header = ip.header().to_header();
                    prop_assert_eq!(header.source, octets4(ends.local.ip()));
                    prop_assert_eq!(header.destination, octets4(ends.remote.ip()));
                    prop_assert_eq!(header.time_to_live, varying.ttl);
                    prop_assert_eq!(header.dscp.value(), ends.dscp);
                    prop_assert_eq!(header.ecn.value(), 0);
                    prop_assert_eq!(header.identification, identification);
                    prop_assert!(header.dont_fragment && !header.more_fragments);
                    prop_assert_eq!(usize::from(header.total_len), len - template.l3_offset());
                    prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                    tcp.calc_checksum_ipv4(header.source, header.destination).unwrap()
                }
                NetSlice::Ipv6(ip) => {
                    let header = ip.header();
                    prop_assert_eq!(header.source_addr(), octets6(ends.local.ip()));
                    prop_assert_eq!(header.destination_addr(), octets6(ends.remote.ip()));
                    prop_assert_eq!(header.hop_limit(), varying.ttl);
                    prop_assert_eq!(header.traffic_class(), ends.dscp << 2);
                    prop_assert_eq!(header.flow_label().value(), ends.flow_label);
                    prop_assert_eq!(usize::from(header.payload_length()), len - template.l3_offset() - 40);
                    tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap()
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(tcp.checksum(), checksum);
            prop_assert_eq!(tcp.source_port(), ends.local.port());
            prop_assert_eq!(tcp.destination_port(), ends.remote.port());
            prop_assert_eq!(tcp.sequence_number(), varying.sequence);
            prop_assert_eq!(tcp.acknowledgment_number(), varying.acknowledgment);
            prop_assert_eq!(frame[len - tcp.slice().len() + 13], varying.flags);
            prop_assert_eq!(tcp.window_size(), varying.window);
            prop_assert_eq!(tcp.urgent_pointer(), 0);
            prop_assert_eq!(tcp.payload(), &vec![0; usize::from(varying.payload_len)][..]);
            use etherparse::TcpOptionElement::*;
            let expected = match varying.options {
                SegmentOptions::None => vec![],
                SegmentOptions::Syn { mss, window_scale, tsval } => vec![
                    MaximumSegmentSize(mss),
                    SelectiveAcknowledgementPermitted,
                    Timestamp(tsval, 0),
                    Noop,
                    WindowScale(window_scale),
                ],
                SegmentOptions::Timestamps { tsval, tsecr } => {
                    vec![Noop, Noop, Timestamp(tsval, tsecr)]
                }
            };
            let options: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
            prop_assert_eq!(options, expected);
        }
    }

    fn octets4(address: IpAddr) -> [u8; 4] {
        match address {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => panic!("{address} is not IPv4"),
        }
    }

    fn octets6(address: IpAddr) -> Ipv6Addr {
        match address {
            IpAddr::V6(v6) => v6,
            IpAddr::V4(_) => panic!("{address} is not IPv6"),
        }
    }

    #[test]
    fn ends_of_two_families_have_no_template() {
        let ends = Ends {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: None,
            local: "[2001:db8::1]:60000".parse().unwrap(),
            remote: "192.0.2.1:443".parse().unwrap(),
            dscp: 0,
            flow_label: 0,
        };
        assert!(Template::new(&ends).is_none());
    }
}
