//! The lab itself: it comes up, goes down, and its truth is true.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use common::SOON;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use insession_lab::capture::{Capture, Seen};
use insession_lab::topology;
use insession_lab::truth::{self, Flow};
use insession_lab::{Lab, state};

#[test]
fn every_topology_comes_up_and_leaves_nothing() {
    for name in topology::names().unwrap() {
        let lab = Lab::up(&name).unwrap();
        let namespaces: Vec<_> = lab
            .topology()
            .nodes
            .keys()
            .map(|node| state::namespace_path(&lab.namespace(node)))
            .collect();
        let folder = lab.folder().to_owned();
        assert!(namespaces.iter().all(|path| path.exists()), "{name}");
        assert!(folder.exists());
        lab.down().unwrap();
        assert!(namespaces.iter().all(|path| !path.exists()), "{name}");
        assert!(!folder.exists());
    }
}

#[test]
fn two_instances_live_side_by_side() {
    let labs = [Lab::up("chain").unwrap(), Lab::up("chain").unwrap()];
    for lab in &labs {
        let page = lab.within("client", get).unwrap();
        assert!(page.ends_with("server\n"), "{page}");
    }
}

/// Asks the web server of the calling thread's network.
fn get() -> String {
    let mut connection = TcpStream::connect("10.9.0.1:80").unwrap();
    connection.set_read_timeout(Some(SOON)).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn what_a_dead_owner_left_is_swept_and_what_a_living_one_has_is_not() {
    let living = Lab::up("chain").unwrap();
    let dead = Lab::up("chain").unwrap();
    let (folder, path) = (
        dead.folder().to_owned(),
        state::namespace_path(&dead.namespace("server")),
    );
    // A process with this number, but started at another time.
    fs::write(folder.join("owner"), format!("{} 1\n", std::process::id())).unwrap();
    std::mem::forget(dead);
    state::sweep().unwrap();
    assert!(!folder.exists() && !path.exists());
    assert!(living.folder().exists());
    assert_eq!(living.run("server", "true", &[], "").unwrap(), "");
}

#[test]
fn a_drop_in_a_panic_takes_it_down() {
    let path = std::thread::spawn(|| {
        let lab = Lab::up("chain").unwrap();
        let path = state::namespace_path(&lab.namespace("r1"));
        assert!(path.exists());
        std::panic::panic_any(path);
    })
    .join()
    .unwrap_err();
    let path = path.downcast::<std::path::PathBuf>().unwrap();
    assert!(!path.exists());
}

/// Frames of our own making, TTL by TTL, over many flows: whoever answers is
/// the router that the truth names.
#[test]
fn truth_is_what_packets_do() {
    for name in ["diamond", "chain", "firewall"] {
        for v6 in common::FAMILIES {
            let lab = Lab::up(name).unwrap();
            compare(&lab, v6, if name == "diamond" { 64 } else { 4 });
        }
    }
}

#[test]
fn the_other_source_rule_is_known_too() {
    let lab = Lab::up_with("diamond", |topology| {
        for node in topology.nodes.values_mut() {
            node.sysctls.insert(
                "net.ipv4.icmp_errors_use_inbound_ifaddr".to_owned(),
                "1".to_owned(),
            );
        }
    })
    .unwrap();
    compare(&lab, false, 32);
}

fn compare(lab: &Lab, v6: bool, count: u16) {
    let source = lab.topology().address("client", v6).unwrap();
    let target = lab.topology().address("server", v6).unwrap();
    let flows: Vec<Flow> = (0..count)
        .map(|n| Flow {
            node: "client".to_owned(),
            interface: "eth0".to_owned(),
            source: (source, 61_000 + n).into(),
            destination: (target, 80).into(),
        })
        .collect();
    let ways = truth::ways(lab, &flows).unwrap();
    let macs = macs(lab);
    let mut capture = Capture::start(lab, "client", "eth0").unwrap();
    for (flow, way) in flows.iter().zip(&ways) {
        assert_eq!(way.end, "server");
        for (ttl, router) in (1_u8..).zip(&way.routers) {
            // A number that the quote carries back.
            let sequence = u32::from(flow.source.port()) << 8 | u32::from(ttl);
            capture.send(&syn(macs, flow, ttl, sequence)).unwrap();
            let answer = capture
                .wait_for(SOON, |seen| {
                    quoted(seen).is_some_and(|(_, number)| number == sequence)
                })
                .unwrap();
            let (from, _) = quoted(&answer).unwrap();
            assert_eq!(Some(from), router.answers, "{flow:?} at {ttl}: {way:?}");
        }
    }
    if lab.name() == "diamond" {
        let branches: BTreeSet<&str> = ways
            .iter()
            .map(|way| way.routers[2].node.as_str())
            .collect();
        assert_eq!(branches, BTreeSet::from(["a", "b", "c", "d1"]));
        let lengths: BTreeMap<usize, usize> = ways.iter().fold(BTreeMap::new(), |mut all, way| {
            *all.entry(way.destination_ttl()).or_default() += 1;
            all
        });
        assert_eq!(lengths.keys().copied().collect::<Vec<_>>(), [6, 7]);
    }
}

/// Of client's interface and of the router next to it.
fn macs(lab: &Lab) -> [[u8; 6]; 2] {
    let of = |node: &str, interface: &str| {
        let text = lab
            .run(node, "ip", &["-j", "link", "show", "dev", interface], "")
            .unwrap();
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        let octets: Vec<u8> = links[0]["address"]
            .as_str()
            .unwrap()
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect();
        octets.try_into().unwrap()
    };
    let peer = lab.topology().peer("client", "eth0").unwrap();
    [of("client", "eth0"), of(peer.node, peer.interface)]
}

fn syn(macs: [[u8; 6]; 2], flow: &Flow, ttl: u8, sequence: u32) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(macs[0], macs[1]);
    let ip = match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            ethernet.ipv4(source.octets(), target.octets(), ttl)
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            ethernet.ipv6(source.octets(), target.octets(), ttl)
        }
        _ => panic!("two families"),
    };
    let tcp = ip
        .tcp(flow.source.port(), flow.destination.port(), sequence, 1000)
        .syn();
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[]).unwrap();
    frame
}

/// Who sent this time exceeded, and the sequence number it quotes.
fn quoted(seen: &Seen) -> Option<(IpAddr, u32)> {
    let packet = SlicedPacket::from_ethernet(&seen.bytes).ok()?;
    let from: IpAddr = match packet.net? {
        NetSlice::Ipv4(ip) => ip.header().source_addr().into(),
        NetSlice::Ipv6(ip) => ip.header().source_addr().into(),
        NetSlice::Arp(_) => return None,
    };
    let (quote, header) = match packet.transport? {
        TransportSlice::Icmpv4(icmp) if matches!(icmp.icmp_type(), Icmpv4Type::TimeExceeded(_)) => {
            (icmp.payload().to_vec(), 20)
        }
        TransportSlice::Icmpv6(icmp) if matches!(icmp.icmp_type(), Icmpv6Type::TimeExceeded(_)) => {
            (icmp.payload().to_vec(), 40)
        }
        _ => return None,
    };
    let sequence = quote.get(header + 4..header + 8)?.try_into().ok()?;
    Some((from, u32::from_be_bytes(sequence)))
}

#[test]
fn captures_time_out() {
    let lab = Lab::up("chain").unwrap();
    let mut capture = Capture::start(&lab, "server", "eth0").unwrap();
    let error = capture
        .wait_for(Duration::from_millis(10), |seen| quoted(seen).is_some())
        .unwrap_err();
    assert!(error.to_string().contains("has not come"), "{error}");
}
