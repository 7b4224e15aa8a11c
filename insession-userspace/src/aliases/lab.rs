//! Surveys over real links: routers that a process stands for at the far end of a veth
//! pair, whose numbers are shared, per interface, random, zero, constant or the probe's;
//! and real Linux routers, who hide theirs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args as _, FromArgMatches as _};

use super::tests::{Numbers, Router};
use super::{Ask, Draw, Kind};
use crate::cli::aliases::{Arguments, run};
use crate::link::packet::plain::Frames;
use crate::net::testing::{Namespace, pair};
use crate::net::{Interface, interface};
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, extension, icmp, ip, ipv4, ipv6, tcp};

/// What stands for the routers.
struct Responder {
    routers: Vec<Router>,
    begin: Instant,
    draw: Draw,
    /// Who was told that a packet was too big.
    told: Vec<IpAddr>,
}

impl Responder {
    fn new(routers: Vec<Router>, seed: u64) -> Self {
        Responder {
            routers,
            begin: Instant::now(),
            draw: Draw::new(seed),
            told: Vec::new(),
        }
    }

    /// Answers until it is to stop.
    fn serve(&mut self, device: &Interface, stop: &AtomicBool) {
        let mut frames = Frames::all(device).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let mut answers = Vec::new();
            frames
                .receive(64, &mut |frame| answers.extend(self.answer(frame)))
                .unwrap();
            if answers.is_empty() {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            for answer in answers {
                assert!(frames.send(&answer).unwrap());
            }
        }
    }

    /// The frames that answer one.
    fn answer(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let Ok(link) = ethernet::Frame::new(frame) else {
            return Vec::new();
        };
        let Ok(packet) = ip::Packet::arrived(link.payload()) else {
            return Vec::new();
        };
        let to = packet.destination;
        let Some(nth) = self
            .routers
            .iter()
            .position(|it| it.addresses.contains(&to))
        else {
            return Vec::new();
        };
        let kind = match packet.protocol {
            ip::PROTOCOL_UDP => Kind::Datagram,
            ip::PROTOCOL_TCP => Kind::Segment,
            _ => Kind::Echo,
        };
        if packet.payload.first() == Some(&icmp::V6_PACKET_TOO_BIG) {
            self.told.push(to);
            return Vec::new();
        }
        let ask = Ask {
            target: 0,
            address: to,
            kind,
            number: 0,
            identification: packet.identification,
        };
        let at = self.begin.elapsed().as_millis() as u64;
        let router = &mut self.routers[nth];
        let mut draw = Draw::new(self.draw.number());
        let mut number = |router: &mut Router| {
            let place = router.addresses.iter().position(|it| *it == to).unwrap();
            router.number(place, &ask, at, &mut draw)
        };
        let from = match kind {
            Kind::Datagram if router.one_source => router.addresses[0],
            _ => to,
        };
        let (protocol, body) = match kind {
            Kind::Echo => {
                let mut reply = packet.payload.to_vec();
                if reply.first() != Some(&icmp::V4_ECHO_REQUEST)
                    && reply.first() != Some(&icmp::V6_ECHO_REQUEST)
                {
                    return Vec::new();
                }
                reply[0] = if to.is_ipv4() { 0 } else { icmp::V6_ECHO_REPLY };
                reply[2..4].fill(0);
                let pseudo = match to {
                    IpAddr::V4(_) => Sum::ZERO,
                    IpAddr::V6(_) => Sum::ZERO.pseudo(from, packet.source, 58, reply.len() as u32),
                };
                let checksum = pseudo.bytes(&reply).finish();
                reply[2..4].copy_from_slice(&checksum.to_be_bytes());
                (packet.protocol, reply)
            }
            Kind::Datagram => {
                let Some(body) = unreachable(router, link.payload()) else {
                    return Vec::new();
                };
                (ip::PROTOCOL_ICMP, body)
            }
            Kind::Segment => {
                let Ok(syn) = tcp::Segment::new(packet.payload) else {
                    return Vec::new();
                };
                if syn.flags() & tcp::flags::SYN == 0 {
                    return Vec::new();
                }
                let repr = tcp::Repr {
                    source_port: syn.destination_port(),
                    destination_port: syn.source_port(),
                    sequence: 0,
                    acknowledgment: syn.sequence().wrapping_add(1),
                    flags: tcp::flags::RST | tcp::flags::ACK,
                    window: 0,
                    options: tcp::Options::default(),
                    payload: &[],
                };
                let mut out = vec![0; repr.buffer_len()];
                let pseudo = Sum::ZERO.pseudo(from, packet.source, 6, out.len() as u32);
                repr.emit(pseudo, &mut out);
                (ip::PROTOCOL_TCP, out)
            }
        };
        let head = ethernet::Repr {
            destination: link.source(),
            source: link.destination(),
            vlan: None,
            ethertype: link.ethertype(),
        };
        match (from, packet.source) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Repr {
                    source,
                    destination,
                    protocol,
                    ttl: 64 - router.hops,
                    traffic_class: 0,
                    identification: number(router) as u16,
                    fragment: 0,
                    payload_len: body.len() as u16,
                };
                let mut out = vec![0; head.buffer_len() + header.buffer_len()];
                head.emit(&mut out);
                header.emit(&mut out[head.buffer_len()..]);
                out.extend(body);
                vec![out]
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let whole = |next_header, body: &[u8]| {
                    let header = ipv6::Repr {
                        source,
                        destination,
                        next_header,
                        hop_limit: 64,
                        traffic_class: 0,
                        flow_label: 0,
                        payload_len: body.len() as u16,
                    };
                    let mut out = vec![0; head.buffer_len() + header.buffer_len()];
                    head.emit(&mut out);
                    header.emit(&mut out[head.buffer_len()..]);
                    out.extend(body);
                    out
                };
                if !self.told.contains(&to) || body.len() <= 1240 {
                    return vec![whole(protocol, &body)];
                }
                let id = number(router).to_be_bytes();
                let (first, rest) = body.split_at(1232);
                let fragment = |offset: u16, part: &[u8]| {
                    let [a, b] = offset.to_be_bytes();
                    let mut out = vec![protocol, 0, a, b];
                    out.extend(id);
                    out.extend(part);
                    whole(44, &out)
                };
                vec![fragment(1, first), fragment(1232, rest)]
            }
            _ => Vec::new(),
        }
    }
}

/// Port unreachable, with the interface that the router names.
fn unreachable(router: &Router, packet: &[u8]) -> Option<Vec<u8>> {
    if packet.first()? >> 4 != 4 {
        return None;
    }
    let total = usize::from(ipv4::Packet::new(packet).ok()?.total_len());
    let mut body = vec![icmp::V4_UNREACHABLE, 3, 0, 0, 0, 0, 0, 0];
    body.extend(packet.get(..total)?);
    if let Some(address) = router.names {
        body.resize(icmp::HEADER_LEN + icmp::PADDED_QUOTE, 0);
        body[5] = (icmp::PADDED_QUOTE / 4) as u8;
        let mut structure = vec![0x20, 0, 0, 0];
        structure.extend(super::tests::named(address).object());
        let checksum = Sum::ZERO.bytes(&structure).finish();
        structure[2..4].copy_from_slice(&checksum.to_be_bytes());
        assert!(extension::Structure::guessed(&structure).is_ok());
        body.extend(structure);
    }
    let checksum = Sum::ZERO.bytes(&body).finish();
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(body)
}

/// Runs the subcommand in a namespace; gives the sets of addresses that it wrote.
fn aliases(near: &Namespace, name: &str, words: &[&str], ask: &[IpAddr]) -> Vec<Vec<IpAddr>> {
    let file = format!("insession-aliases-{name}-{}.jsonl", std::process::id());
    let file: PathBuf = std::env::temp_dir().join(file);
    let mut line = vec!["aliases".to_owned(), "--progress=never".to_owned()];
    line.extend(words.iter().map(|word| (*word).to_owned()));
    line.push(format!("--output={}", file.display()));
    line.extend(ask.iter().map(|address| format!("--address={address}")));
    let command = Arguments::augment_args(clap::Command::new("aliases"));
    let matches = command.try_get_matches_from(line).unwrap();
    let arguments = Arguments::from_arg_matches(&matches).unwrap();
    assert_eq!(near.run(|| run(&arguments)), Ok(0));
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let set = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["schema"], "insession.aliases/1");
        assert!(line["confidence"].as_f64().unwrap() >= 0.9, "{line}");
        serde_json::from_value(line["addresses"].clone()).unwrap()
    };
    written.lines().map(set).collect()
}

/// A namespace whose other end of the wire is the responder's.
fn with_responder<T>(responder: &mut Responder, body: impl FnOnce(&Namespace) -> T) -> T {
    let (near, far) = pair();
    near.ip("neighbour replace 198.18.1.9 lladdr 02:00:00:00:00:09 nud permanent dev near0");
    near.ip("neighbour replace fd00:1::9 lladdr 02:00:00:00:00:09 nud permanent dev near0");
    near.ip("route add 100.0.0.0/16 via 198.18.1.9 dev near0");
    near.ip("route add fd00:2::/32 via fd00:1::9 dev near0");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            far.run(|| {
                let device = interface("far0").unwrap();
                let device = Interface {
                    index: device.index,
                    name: device.name,
                };
                responder.serve(&device, &stop);
            });
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&near)));
        stop.store(true, Ordering::Relaxed);
        served.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const FAST: [&str; 3] = ["--interval=150ms", "--timeout=500ms", "--rate=2000"];

fn all(routers: &[Router]) -> Vec<IpAddr> {
    let addresses = routers.iter().flat_map(|it| it.addresses.clone());
    addresses.collect()
}

fn check_v4(link: &str, seed: u64) {
    let mut routers = vec![
        Router::new(Numbers::Shared, 1, 3, 20),
        Router::new(Numbers::Shared, 2, 2, 0),
        Router::new(Numbers::PerInterface, 3, 3, 0),
        Router::new(Numbers::Random, 4, 3, 0),
        Router::new(Numbers::Zero, 5, 3, 0),
        Router::new(Numbers::Constant, 6, 3, 0),
        Router::new(Numbers::Echoed, 7, 3, 0),
        Router::new(Numbers::Ticks, 8, 4, 0),
        Router::new(Numbers::Swapped, 9, 2, 0),
        Router::new(Numbers::Random, 10, 3, 0),
        Router::new(Numbers::Zero, 11, 1, 0),
    ];
    routers[9].one_source = true;
    routers[10].names = Some(Ipv4Addr::new(100, 0, 11, 9).into());
    let shared = [0, 1, 9, 8].map(|nth: usize| routers[nth].addresses.clone());
    let mut expected = shared.to_vec();
    expected.push(vec![[100, 0, 11, 1].into(), [100, 0, 11, 9].into()]);
    expected.sort();
    let ask = all(&routers);
    let link = format!("--link={link}");
    let mut words = FAST.to_vec();
    words.extend([link.as_str(), "--allow=100.0.0.0/16"]);
    let mut responder = Responder::new(routers, seed);
    let name = format!("v4-{seed}-{link}");
    let found = with_responder(&mut responder, |near| aliases(near, &name, &words, &ask));
    assert_eq!(found, expected, "{link}, seed {seed}");
}

#[test]
fn routers_of_every_kind_are_told_apart_over_xdp() {
    check_v4("xdp", 1);
    check_v4("xdp", 2);
}

#[test]
fn routers_of_every_kind_are_told_apart_over_af_packet() {
    check_v4("packet", 3);
}

#[test]
fn routers_that_number_ipv6_fragments_by_one_counter_are_found() {
    let router = |nth: u16, numbers, addresses: u16, busy| {
        let mut router = Router::new(numbers, nth as u8, 0, busy);
        router.addresses = (1..=addresses)
            .map(|last| Ipv6Addr::new(0xfd00, 2, nth, 0, 0, 0, 0, last).into())
            .collect();
        router
    };
    let routers = vec![
        router(1, Numbers::Shared, 3, 10),
        router(2, Numbers::PerInterface, 3, 0),
        router(3, Numbers::Random, 3, 0),
        router(4, Numbers::Zero, 2, 0),
        router(5, Numbers::Shared, 2, 0),
    ];
    let expected = [routers[0].addresses.clone(), routers[4].addresses.clone()];
    let ask = all(&routers);
    let mut words = FAST.to_vec();
    words.extend(["--kinds=icmp", "--allow=fd00::/16"]);
    for link in ["--link=xdp", "--link=packet"] {
        let mut words = words.clone();
        words.push(link);
        let mut responder = Responder::new(routers.clone(), 5);
        let name = format!("v6-{link}");
        let found = with_responder(&mut responder, |near| aliases(near, &name, &words, &ask));
        assert_eq!(found, expected, "{link}");
    }
}

#[test]
fn a_linux_firewall_that_rejects_datagrams_is_no_alias_of_the_hosts_behind_it() {
    let (near, far) = pair();
    let behind = Namespace::new();
    far.veth("far1", &behind, "behind1");
    far.address("far1", "198.18.2.1/24");
    behind.address("behind1", "198.18.2.2/24");
    behind.address("behind1", "198.18.2.3/24");
    near.ip("route add 198.18.2.0/24 via 198.18.1.2");
    behind.ip("route add default via 198.18.2.1");
    let rules = "table ip filter { chain forward { type filter hook forward priority 0; \
                 meta l4proto udp reject with icmp port-unreachable; }; }";
    far.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        // Else they would be too few to be seen.
        std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
        let nft = std::process::Command::new("nft").arg(rules).output();
        let nft = nft.expect("nft (package nftables)");
        assert!(nft.status.success(), "{nft:?}");
    });
    let ask: Vec<IpAddr> = ["198.18.1.2", "198.18.2.1", "198.18.2.2", "198.18.2.3"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let evidence = format!("insession-aliases-evidence-{}.jsonl", std::process::id());
    let evidence = std::env::temp_dir().join(evidence);
    let option = format!("--evidence={}", evidence.display());
    let mut words = FAST.to_vec();
    words.extend(["--allow=198.18.0.0/15", "--link=packet", option.as_str()]);
    let found = aliases(&near, "firewall", &words, &ask);
    let hosts = |set: &Vec<IpAddr>| set.iter().filter(|it| ask[2..].contains(it)).count();
    assert!(found.iter().all(|set| hosts(set) == 0), "{found:?}");
    let told = std::fs::read_to_string(&evidence).unwrap();
    std::fs::remove_file(&evidence).unwrap();
    for host in ["198.18.2.2", "198.18.2.3"] {
        let against = told.lines().filter(|line| {
            line.contains(host)
                && line.contains("it is on the way")
                && line.contains("\"alias\":false")
        });
        assert_eq!(against.count(), 1, "{told}");
    }
}

#[test]
fn linux_routers_are_never_put_together() {
    let (near, far) = pair();
    let other = Namespace::new();
    near.veth("near1", &other, "far1");
    near.address("near1", "198.18.2.1/24");
    other.address("far1", "198.18.2.2/24");
    for last in 3..9 {
        far.address("far0", &format!("198.18.1.{last}/24"));
        other.address("far1", &format!("198.18.2.{last}/24"));
    }
    let on = |third: u8| (2..9).map(move |last| IpAddr::from([198, 18, third, last]));
    let ask: Vec<_> = on(1).chain(on(2)).collect();
    let mut words = FAST.to_vec();
    words.extend(["--allow=198.18.0.0/15", "--link=packet"]);
    let found = aliases(&near, "linux", &words, &ask);
    for set in found {
        let one = |third: u8| set.iter().all(|it| on(third).any(|other| other == *it));
        assert!(one(1) || one(2), "{set:?}");
    }
}
