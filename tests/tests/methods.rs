//! The other methods: header for header what Debian's traceroute sends, through the
//! kernel's own routers, and each as true as its flows are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;

use common::{FAMILIES, server, trace_all};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use insession_lab::capture::{Capture, Seen};
use insession_lab::record::{Record, judge};
use insession_lab::truth;
use insession_lab::{Lab, program};

/// All of them.
const METHODS: [&str; 7] = [
    "icmp",
    "udp",
    "tcp",
    "paris-icmp",
    "paris-udp",
    "paris-tcp",
    "dublin",
];

/// A probe as it was captured: what every one has to have alike, and what varies.
#[derive(Clone, Debug)]
struct Sent {
    /// The IP header and what follows, with zeros where tools may differ from run to
    /// run: IPv4 identification and checksum, IPv6 flow label, checksum, our port or
    /// identifier, sequence number of TCP, timestamp.
    masked: Vec<u8>,
    ttl: u8,
    /// Our port, or the identifier.
    local: u16,
    /// The checksum behind the IP header.
    checksum: u16,
    label: u32,
}

fn sent(seen: &Seen, target: IpAddr) -> Option<Sent> {
    if seen.outgoing {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(&seen.bytes).ok()?;
    let mut masked = seen.bytes[14..].to_vec();
    let (to, ttl, label, length) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            masked[4..6].fill(0);
            masked[10..12].fill(0);
            (header.destination_addr().into(), header.ttl(), 0, 20)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            masked[1] &= 0xf0;
            masked[2..4].fill(0);
            let label = header.flow_label().value();
            (
                IpAddr::from(header.destination_addr()),
                header.hop_limit(),
                label,
                40,
            )
        }
        NetSlice::Arp(_) => return None,
    };
    if to != target {
        return None;
    }
    let at = |offset: usize| {
        let bytes = &seen.bytes[14 + length + offset..];
        u16::from_be_bytes([bytes[0], bytes[1]])
    };
    let (local, checksum, masks): (u16, u16, &[(usize, usize)]) = match packet.transport? {
        TransportSlice::Udp(_) => (at(0), at(6), &[(0, 2), (6, 2)]),
        // RSTs end what SYNs began; Debian's traceroute leaves that to the kernel.
        TransportSlice::Tcp(tcp) if tcp.syn() => {
            (at(0), at(16), &[(0, 2), (4, 4), (16, 2), (28, 4)])
        }
        TransportSlice::Icmpv4(icmp) if icmp.type_u8() == 8 => (at(4), at(2), &[(2, 2), (4, 2)]),
        TransportSlice::Icmpv6(icmp) if icmp.type_u8() == 128 => (at(4), at(2), &[(2, 2), (4, 2)]),
        _ => return None,
    };
    for (offset, octets) in masks {
        masked[length + offset..length + offset + octets].fill(0);
    }
    Some(Sent {
        masked,
        ttl,
        local,
        checksum,
        label,
    })
}

/// The probes that come to the first router while `work` is done: what the XDP program
/// sends no packet socket of the client sees.
fn captured(lab: &Lab, v6: bool, work: impl FnOnce()) -> Vec<Sent> {
    let target = lab.topology().address("server", v6).unwrap();
    let capture = Capture::start(lab, "r1", "client").unwrap();
    work();
    let seen = capture.finish().unwrap();
    seen.iter().filter_map(|seen| sent(seen, target)).collect()
}

/// Probes of the first two hops, by Debian's traceroute.
fn debian(lab: &Lab, v6: bool, options: &[&str]) -> Vec<Sent> {
    captured(lab, v6, || {
        let mut command = lab.command("client", "traceroute");
        command.args(["-n", "-q", "3", "-m", "2"]).args(options);
        command.arg(server(lab, v6)).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    })
}

fn ours(lab: &Lab, v6: bool, options: &[&str]) -> Vec<Sent> {
    captured(lab, v6, || {
        let target = server(lab, v6);
        let arguments = [&["-M", "2"], options, &[target.as_str()]].concat();
        trace_all(lab, &arguments);
    })
}

fn distinct<T: Ord>(sent: &[Sent], of: impl Fn(&Sent) -> T) -> usize {
    sent.iter().map(of).collect::<BTreeSet<T>>().len()
}

#[test]
fn standard_methods_send_what_debians_traceroute_sends() {
    let lab = Lab::up_with("chain", |topology| topology.offload = false).unwrap();
    for v6 in FAMILIES {
        for (method, options) in [
            ("icmp", &["-I"][..]),
            ("udp", &[]),
            ("tcp", &["-T", "-p", "80"]),
        ] {
            let theirs = debian(&lab, v6, options);
            let ours = ours(&lab, v6, &["-m", method, "-p", port(method)]);
            assert_eq!((theirs.len(), ours.len()), (6, 6), "{method}");
            for (nth, (a, b)) in theirs.iter().zip(&ours).enumerate() {
                assert_eq!(
                    a.masked, b.masked,
                    "{method} v6={v6} probe {nth}: {a:x?} {b:x?}"
                );
                assert_eq!((a.ttl, b.ttl), (1 + nth as u8 / 3, 1 + nth as u8 / 3));
            }
            // What varies does so with both.
            let ports = |sent: &[Sent]| distinct(sent, |it| it.local);
            let expected = if method == "icmp" { 1 } else { 6 };
            assert_eq!(
                (ports(&theirs), ports(&ours)),
                (expected, expected),
                "{method}"
            );
            let labels = |sent: &[Sent]| distinct(sent, |it| it.label);
            assert_eq!(labels(&theirs), labels(&ours), "{method} v6={v6}");
        }
    }
}

/// A port that tells what each method sends to.
fn port(method: &str) -> &'static str {
    match method {
        "udp" | "paris-udp" | "dublin" => "33434",
        _ => "80",
    }
}

#[test]
fn what_balancers_hash_stays_where_the_method_says_so() {
    let lab = Lab::up_with("chain", |topology| topology.offload = false).unwrap();
    for v6 in FAMILIES {
        for method in ["paris-icmp", "paris-udp", "paris-tcp", "dublin"] {
            let sent = ours(&lab, v6, &["-m", method, "-p", port(method)]);
            assert_eq!(sent.len(), 6, "{method}");
            // Ports, identifier and flow label; of echo requests the checksum as well.
            assert_eq!(distinct(&sent, |it| it.local), 1, "{method}");
            assert_eq!(distinct(&sent, |it| it.label), 1, "{method}");
            let checksums = distinct(&sent, |it| it.checksum);
            assert_eq!(checksums, if method == "paris-icmp" { 1 } else { 6 });
            let (from, to) = if v6 { (40, 44) } else { (20, 24) };
            let ports = distinct(&sent, |it| it.masked[from + 2..to].to_vec());
            assert_eq!(ports, 1, "{method}");
            if method == "paris-udp" {
                let numbers: Vec<u16> = sent.iter().map(|it| it.checksum).collect();
                assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
            }
        }
    }
}

/// The way that the probes of a one-flow method take.
fn way(lab: &Lab, record: &Record) -> truth::Way {
    let protocol = match record.method.as_str() {
        "paris-udp" | "dublin" => "udp",
        _ => "tcp",
    };
    let flow = record.flow("client").unwrap();
    truth::ways_of(lab, protocol, &[flow])
        .unwrap()
        .pop()
        .unwrap()
}

#[test]
fn every_method_finds_every_router_of_a_chain() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        for method in METHODS {
            let target = server(&lab, v6);
            let [record] = &trace_all(&lab, &["-m", method, "-p", port(method), &target])[..]
            else {
                panic!("not one record");
            };
            assert_eq!(record.method, method);
            assert!(record.handshake.is_none());
            let judgement = judge(record, &way(&lab, record));
            assert_eq!(
                judgement.wrong,
                Vec::<String>::new(),
                "{method} {record:#?}"
            );
            assert_eq!((judgement.right, judgement.unanswered), (7, 0), "{method}");
        }
    }
    // Nothing is left half open at the server.
    assert_eq!(lab.tcp_sockets("client").unwrap(), 0);
}

#[test]
fn methods_of_one_flow_stay_on_its_branch() {
    let lab = Lab::up("diamond").unwrap();
    let targets: Vec<String> = lab
        .topology()
        .addresses("server", false, 24)
        .iter()
        .map(IpAddr::to_string)
        .collect();
    for method in ["paris-udp", "paris-tcp", "dublin"] {
        let mut arguments = vec!["-m", method, "-p", port(method)];
        arguments.extend(targets.iter().map(String::as_str));
        let mut branches = BTreeSet::new();
        for record in trace_all(&lab, &arguments) {
            let way = way(&lab, &record);
            let judgement = judge(&record, &way);
            assert_eq!(
                judgement.wrong,
                Vec::<String>::new(),
                "{method} {record:#?}"
            );
            branches.insert(way.routers[2].node.clone());
        }
        assert!(branches.len() >= 3, "{method}: {branches:?}");
    }
    // A method of many flows shows several at one TTL.
    let mut arguments = vec!["-m", "udp", "-q", "8"];
    arguments.extend(targets.iter().map(String::as_str));
    let scattered = trace_all(&lab, &arguments).into_iter().filter(|record| {
        let hop = record.hop(3).unwrap();
        let routers: BTreeSet<_> = hop.probes.iter().filter_map(|probe| probe.from).collect();
        routers.len() > 1
    });
    assert!(scattered.count() >= 20);
}

#[test]
fn what_no_session_can_be_opened_to_goes_on_by_another_method() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        for method in ["icmp", "udp", "paris-udp", "tcp"] {
            let target = server(&lab, v6);
            // Nobody listens there.
            let arguments = ["-p", "81", "--on-handshake-failure", method, &target];
            let run = program::trace(&lab, &arguments).unwrap();
            let record = run.record().unwrap();
            assert_eq!((run.code, record.method.as_str()), (Some(0), method));
            assert_eq!(record.verdict, "complete", "{record:#?}");
            assert_eq!(record.destination_ttl, Some(7));
            assert_eq!(record.detail.as_deref(), Some("no session: refused"));
            let answered = record.probes().filter(|(_, probe)| probe.kind != "none");
            assert_eq!(answered.count(), 21, "{record:#?}");
        }
    }
    // Where one can be opened, nothing changes.
    let target = server(&lab, false);
    let records = trace_all(
        &lab,
        &["-p", "80", "--on-handshake-failure", "udp", &target],
    );
    assert_eq!(records[0].method, "insession");
}

#[test]
fn packets_of_the_host_are_the_kernels_all_the_while() {
    let lab = Lab::up("chain").unwrap();
    let target = server(&lab, false);
    let others: Vec<String> = lab
        .topology()
        .addresses("server", false, 100)
        .iter()
        .map(IpAddr::to_string)
        .collect();
    let mut arguments = vec!["trace", "--json", "-m", "icmp", "--rate", "50"];
    arguments.extend(others.iter().map(String::as_str));
    let mut running = program::start(&lab, "client", &arguments).unwrap();
    // Its XDP program sees these answers, too: the kernel's, to another program.
    for options in [&["-I"][..], &[], &["-T", "-p", "80"]] {
        let mut command = lab.command("client", "traceroute");
        command
            .args(["-n", "-q", "2", "-w", "2"])
            .args(options)
            .arg(&target);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.lines().count(), 8, "{said}");
        assert!(!said.contains('*'), "{said}");
    }
    assert!(!running.ended().unwrap());
    running.signal(2).unwrap();
    let _ = running.finish(common::SOON).unwrap();
}
