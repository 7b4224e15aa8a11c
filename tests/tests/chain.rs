//! A plain chain of routers: every hop, and every byte we put on the wire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{FAMILIES, Segment, assert_right, assert_xdp, probes, segment, server, trace};
use insession_lab::capture::Capture;
use insession_lab::{Lab, services};

#[test]
fn every_hop_is_right_and_the_record_is_whole() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let target = server(&lab, v6);
        let record = trace(&lab, &["-p", "80", &target]);
        assert_right(&lab, &record);
        assert_xdp(&record, "eth0");
        assert_eq!((record.target.as_str(), record.port), (target.as_str(), 80));
        assert_eq!(record.address, lab.topology().address("server", v6));
        assert_eq!(record.source, lab.topology().address("client", v6));
        assert_eq!(record.destination_ttl, Some(7));
        let handshake = record.handshake.as_ref().unwrap();
        assert_eq!(handshake.mss, if v6 { 1440 } else { 1460 });
        assert!(handshake.sack && handshake.timestamps && handshake.window_scale.is_some());
        for hop in &record.hops {
            assert!(hop.probes.len() <= 3, "{hop:?}");
        }
        for ttl in 1..=7 {
            assert_eq!(probes(&record, ttl).len(), 3);
        }
        for (ttl, probe) in record.probes().filter(|(ttl, _)| *ttl < 7) {
            // Every router sends with 64, and each on the way back takes one.
            assert_eq!(probe.reply_ttl, Some(65 - u8::try_from(ttl).unwrap()));
            assert_eq!(probe.rtt_bound.as_deref(), Some("exact"));
        }
        for (_, probe) in record.probes() {
            assert!(probe.sent_us <= record.duration_us);
            if let Some(rtt) = probe.rtt_us {
                assert!(rtt > 0.0 && rtt <= record.duration_us, "{probe:?}");
            }
        }
    }
}

#[test]
fn the_server_is_left_without_a_connection_and_without_a_request() {
    let lab = Lab::up("chain").unwrap();
    for close in ["rst", "fin"] {
        for v6 in FAMILIES {
            let record = trace(&lab, &["-p", "80", "--close", close, &server(&lab, v6)]);
            assert_right(&lab, &record);
            assert_eq!(lab.tcp_sockets("server").unwrap(), 0, "--close {close}");
        }
    }
    let log = services::access_log(&lab, "server");
    assert_eq!(fs::read_to_string(log).unwrap(), "");
}

#[test]
fn the_kernel_of_the_client_keeps_out() {
    let lab = Lab::up("chain").unwrap();
    let capture = Capture::start(&lab, "r1", "client").unwrap();
    let record = trace(&lab, &["-p", "80", &server(&lab, false)]);
    assert_right(&lab, &record);
    let sent = ours(capture);
    // One SYN, one RST at the end: a kernel that had seen the SYN-ACK would have
    // reset the session at once.
    assert_eq!(sent.iter().filter(|segment| segment.syn).count(), 1);
    assert_eq!(sent.iter().filter(|segment| segment.rst).count(), 1);
    assert!(sent.last().unwrap().rst);
}

#[test]
fn one_byte_is_never_sent_and_no_two_probes_touch() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let capture = Capture::start(&lab, "r1", "client").unwrap();
        let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
        assert_right(&lab, &record);
        let sent = ours(capture);
        let first = sent[0].sequence.wrapping_add(1);
        assert!(sent[0].syn);
        let mut offsets: Vec<u32> = sent
            .iter()
            .filter(|segment| segment.payload > 0)
            .map(|segment| {
                assert_eq!(segment.payload, 1);
                segment.sequence.wrapping_sub(first)
            })
            .collect();
        let probes = record.probes().count();
        assert_eq!(offsets.len(), probes, "every probe stands in the record");
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), probes, "no sequence number twice");
        assert!(offsets[0] > 0, "the byte at snd_una is never sent");
        assert!(
            offsets.windows(2).all(|pair| pair[1] - pair[0] >= 2),
            "a gap between any two: {offsets:?}"
        );
    }
}

#[test]
fn options_do_what_they_say() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let target = server(&lab, v6);
        let arguments = ["-p", "80", "-f", "3", "-M", "5", "-q", "2", &target];
        let record = trace(&lab, &arguments);
        assert_eq!(record.verdict, "max-ttl");
        assert_eq!(record.destination_ttl, None);
        let ttls: Vec<usize> = record.hops.iter().map(|hop| hop.ttl).collect();
        assert_eq!(ttls, [3, 4, 5]);
        assert!(record.hops.iter().all(|hop| hop.probes.len() == 2));

        let capture = Capture::start(&lab, "r1", "client").unwrap();
        let arguments = [
            "-p",
            "80",
            "--dscp",
            "af41",
            "--source-ports",
            "62000-62003",
            &target,
        ];
        let record = trace(&lab, &arguments);
        assert_right(&lab, &record);
        let port = record.source_port.unwrap();
        assert!((62_000..=62_003).contains(&port), "{port}");
        let sent = ours(capture);
        assert!(sent.iter().all(|segment| segment.source.port() == port));
        // AF41 is 34 (RFC 2597); not ECN-capable.
        assert!(sent.iter().all(|segment| segment.traffic_class == 34 << 2));
    }
}

#[test]
fn source_and_interface_can_be_told() {
    let lab = Lab::up("chain").unwrap();
    let arguments = [
        "-p",
        "80",
        "-s",
        "10.0.1.1",
        "-i",
        "eth0",
        &server(&lab, false),
    ];
    let record = trace(&lab, &arguments);
    assert_right(&lab, &record);
    assert_eq!(record.source, Some("10.0.1.1".parse().unwrap()));
}

#[test]
fn checksums_are_final_without_offload_and_pseudo_with_it() {
    // Both are read as the same.
    for offload in [true, false] {
        let lab = Lab::up_with("chain", |topology| topology.offload = offload).unwrap();
        for v6 in FAMILIES {
            let record = trace(&lab, &["-p", "80", &server(&lab, v6)]);
            assert_right(&lab, &record);
        }
    }
}

/// What came from the client, in order.
fn ours(capture: Capture) -> Vec<Segment> {
    let seen = capture.finish().unwrap();
    seen.iter()
        .filter_map(segment)
        .filter(|segment| !segment.outgoing)
        .collect()
}
