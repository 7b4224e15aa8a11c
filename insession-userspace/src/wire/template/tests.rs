//! Frames, held against a codec that is not ours, and each way of writing them
//! against the other.

use super::*;
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
        payload_len in 0u16..=158,
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

proptest! {
    /// The short way writes what the long one does.
    #[test]
    fn probes_are_frames_like_any_other(
        way: [[u8; 6]; 2],
        vlan in proptest::option::of(0u16..4096),
        dscp in 0u8..64,
        ends: [[u8; 4]; 3],
        numbers: [u32; 4],
        ttl: u8,
        window: u16,
        identification: u16,
    ) {
        let [source, destination, ports] = ends;
        let [i, j, k, l] = ports;
        let layout = Layout::new(&Way {
            source_mac: way[0],
            next_hop_mac: way[1],
            vlan,
            source: IpAddr::from(source),
            dscp,
            protocol: ip::PROTOCOL_TCP,
            dont_fragment: true,
        });
        prop_assert!(layout.writes_probes());
        let own = Own {
            local_port: u16::from_be_bytes([i, j]),
            remote: SocketAddr::from((destination, u16::from_be_bytes([k, l]))),
            flow_label: 0,
        };
        let [sequence, acknowledgment, tsval, tsecr] = numbers;
        let varying = Varying {
            ttl,
            sequence,
            acknowledgment,
            flags: tcp::flags::ACK | tcp::flags::PSH,
            window,
            options: SegmentOptions::Timestamps { tsval, tsecr },
            payload_len: 1,
        };
        let probe = Probe {
            destination,
            ports,
            ttl,
            sequence,
            acknowledgment,
            window,
            tsval,
            tsecr,
        };
        let (mut long, mut short) = ([0xa5; MIN_OUT], [0xa5; MIN_OUT]);
        let len = layout.write(&own, &varying, identification, &mut long);
        prop_assert_eq!(layout.write_probe(&probe, identification, &mut short), len);
        prop_assert_eq!(short, long);
    }
}

proptest! {
    /// Data of any length, zeros being one kind of it: whatever is written, both
    /// checksums and all lengths fit it.
    #[test]
    fn data_of_any_length_is_written(
        ends in ends(),
        varying in varying(),
        data in proptest::collection::vec(any::<u8>(), 0..1_500),
        identification: u16,
    ) {
        let template = Template::new(&ends).unwrap();
        let short = varying;
        let zeros = vec![0; usize::from(short.payload_len)];
        let Template { layout, own } = &template;
        let (mut one, mut other) = ([0xa5; MIN_OUT], [0xa5; MIN_OUT]);
        let len = template.write(&short, identification, &mut one);
        prop_assert_eq!(layout.write_data(own, &short, &zeros, identification, &mut other), len);
        prop_assert_eq!(one, other);

        let long = Varying { payload_len: data.len() as u16, ..varying };
        let mut out = vec![0xa5; 2_048];
        let len = layout.write_data(own, &long, &data, identification, &mut out);
        prop_assert!(out[len..].iter().all(|byte| *byte == 0xa5), "wrote behind its end");
        let packet = etherparse::SlicedPacket::from_ethernet(&out[..len]).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
            panic!("no TCP header");
        };
        prop_assert_eq!(tcp.payload(), &data[..]);
        let checksum = match packet.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                tcp.calc_checksum_ipv4(header.source, header.destination).unwrap()
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap()
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(tcp.checksum(), checksum);
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
