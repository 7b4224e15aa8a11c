//! The other methods beside scamper's, packet by packet: what it holds still within a
//! trace we hold still, and behind balancers both stay on one path.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Stdio;

use common::{FAMILIES, server, trace_all};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use insession_lab::capture::{Capture, Seen};
use insession_lab::topology::Topology;
use insession_lab::{Lab, program};
use serde_json::Value;

/// The fields of a probe's headers, by name; what has to differ from hop to hop (TTL
/// and the checksum over it) is not among them.
type Fields = BTreeMap<&'static str, Vec<u8>>;

/// Where fields are: name, offset, octets; 0: all the rest.
type Layout = &'static [(&'static str, usize, usize)];

const IPV4: Layout = &[
    ("version", 0, 1),
    ("traffic class", 1, 1),
    ("IP length", 2, 2),
    ("identification", 4, 2),
    ("fragment", 6, 2),
    ("protocol", 9, 1),
    ("source", 12, 4),
    ("destination", 16, 4),
];
const IPV6: Layout = &[
    // Version, traffic class and flow label share their octets: see `fields`.
    ("IP length", 4, 2),
    ("protocol", 6, 1),
    ("source", 8, 16),
    ("destination", 24, 16),
];
const TCP: Layout = &[
    ("source port", 0, 2),
    ("destination port", 2, 2),
    ("sequence number", 4, 4),
    ("acknowledgment", 8, 4),
    ("data offset", 12, 1),
    ("flags", 13, 1),
    ("window", 14, 2),
    ("checksum", 16, 2),
    ("urgent", 18, 2),
    ("options and data", 20, 0),
];
const UDP: Layout = &[
    ("source port", 0, 2),
    ("destination port", 2, 2),
    ("length", 4, 2),
    ("checksum", 6, 2),
    ("data", 8, 0),
];
const ECHO: Layout = &[
    ("type", 0, 1),
    ("code", 1, 1),
    ("checksum", 2, 2),
    ("identifier", 4, 2),
    ("sequence number", 6, 2),
    ("data", 8, 0),
];

/// What balancers make their choice by, of what there is of it in a packet: addresses,
/// protocol, traffic class, flow label, and the first four octets behind the IP header
/// (of echo requests that is their checksum), or the identifier.
const HASHED: [&str; 10] = [
    "source",
    "destination",
    "protocol",
    "traffic class",
    "flow label",
    "source port",
    "destination port",
    "type",
    "code",
    "identifier",
];

fn put(fields: &mut Fields, layout: Layout, bytes: &[u8]) {
    for (name, offset, octets) in layout {
        let end = match octets {
            0 => bytes.len(),
            octets => offset + octets,
        };
        fields.insert(name, bytes[*offset..end].to_vec());
    }
}

/// A probe to `target` that a router received: echo request, datagram or segment.
fn fields(seen: &Seen, target: IpAddr) -> Option<Fields> {
    if seen.outgoing {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(&seen.bytes).ok()?;
    let bytes = &seen.bytes[14..];
    let mut fields = Fields::new();
    let (to, length): (IpAddr, usize) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            put(&mut fields, IPV4, bytes);
            (ip.header().destination_addr().into(), 20)
        }
        NetSlice::Ipv6(ip) => {
            put(&mut fields, IPV6, bytes);
            let header = ip.header();
            let label = header.flow_label().value();
            fields.insert("traffic class", vec![header.traffic_class()]);
            fields.insert("flow label", label.to_be_bytes().to_vec());
            (header.destination_addr().into(), 40)
        }
        NetSlice::Arp(_) => return None,
    };
    let behind = &bytes[length..];
    let layout = match packet.transport? {
        TransportSlice::Udp(_) => UDP,
        TransportSlice::Tcp(_) => TCP,
        TransportSlice::Icmpv4(icmp) if icmp.type_u8() == 8 => ECHO,
        TransportSlice::Icmpv6(icmp) if icmp.type_u8() == 128 => ECHO,
        _ => return None,
    };
    put(&mut fields, layout, behind);
    (to == target).then_some(fields)
}

/// What of the packets of a trace is a probe: with TCP, handshake and end are not.
fn is_probe(method: &str, fields: &Fields) -> bool {
    let Some(flags) = fields.get("flags") else {
        return true;
    };
    match method {
        // A byte of data.
        "insession" => fields["options and data"].len() % 4 == 1,
        "tcp-ack" => flags[0] == 0x10,
        _ => flags[0] == 0x02,
    }
}

/// The probes that come to the first router while `work` is done.
fn captured(lab: &Lab, v6: bool, method: &str, work: impl FnOnce()) -> Vec<Fields> {
    let target = lab.topology().address("server", v6).unwrap();
    let capture = Capture::start(lab, "r1", "client").unwrap();
    work();
    let seen = capture.finish().unwrap();
    let sent = seen.iter().filter_map(|seen| fields(seen, target));
    sent.filter(|sent| is_probe(method, sent)).collect()
}

fn without_offload(topology: &mut Topology) {
    topology.offload = false;
}

/// The records that scamper writes of its traces. It knows IPv6 datagrams by their
/// checksum, which the kernel has to have made by the time that a router quotes it:
/// offloads are off in labs of these tests.
fn scamper(lab: &Lab, options: &str, targets: &[String]) -> Vec<Value> {
    let mut command = lab.command("client", "scamper");
    // A second an answer, not five: nothing is lost here.
    let trace = format!("trace -q 3 -Q -w 1 {options}");
    command.args(["-p", "1000", "-O", "json", "-c", &trace, "-i"]);
    command.args(targets).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<Value> = lines.filter(|it: &Value| it["type"] == "trace").collect();
    assert_eq!(records.len(), targets.len(), "{text}");
    records
}

/// Names of the fields that are alike in all probes.
fn constant(sent: &[Fields]) -> BTreeSet<&'static str> {
    let alike = |name: &&'static str| sent.iter().all(|it| it.get(name) == sent[0].get(name));
    sent[0].keys().copied().filter(alike).collect()
}

/// A method of scamper's, ours that is held against it, and what ours varies though
/// scamper does not, on purpose: see "Beside scamper" in docs/methods.md.
struct Pair {
    theirs: &'static str,
    ours: &'static str,
    varied: &'static [&'static str],
    /// In IPv6 also these.
    varied_v6: &'static [&'static str],
}

const PAIRS: [Pair; 8] = [
    Pair {
        theirs: "icmp-paris",
        ours: "paris-icmp",
        varied: &[],
        varied_v6: &[],
    },
    Pair {
        theirs: "udp-paris",
        ours: "paris-udp",
        varied: &[],
        varied_v6: &[],
    },
    Pair {
        theirs: "udp-paris",
        ours: "dublin",
        varied: &[],
        varied_v6: &["IP length", "length"],
    },
    Pair {
        theirs: "tcp",
        ours: "paris-tcp",
        varied: &["sequence number", "checksum"],
        varied_v6: &[],
    },
    Pair {
        theirs: "tcp-ack",
        ours: "insession",
        varied: &["sequence number", "checksum"],
        varied_v6: &[],
    },
    // These are as Debian's traceroute has them, whatever scamper's are.
    Pair {
        theirs: "icmp",
        ours: "icmp",
        varied: &[],
        varied_v6: &[],
    },
    Pair {
        theirs: "udp",
        ours: "udp",
        varied: &["source port"],
        varied_v6: &[],
    },
    Pair {
        theirs: "tcp",
        ours: "tcp",
        varied: &["source port", "sequence number", "checksum"],
        varied_v6: &[],
    },
];

/// What tells each method of ours its port.
fn port(method: &str) -> &'static str {
    match method {
        "udp" | "paris-udp" | "dublin" => "33434",
        _ => "80",
    }
}

/// The same for scamper, with its name.
fn options(method: &str) -> String {
    match method {
        "tcp" | "tcp-ack" => format!("-P {method} -d 80"),
        _ => format!("-P {method}"),
    }
}

#[test]
fn what_scamper_holds_still_within_a_trace_we_hold_still() {
    let lab = Lab::up_with("chain", without_offload).unwrap();
    for v6 in FAMILIES {
        let target = server(&lab, v6);
        for pair in &PAIRS {
            let (theirs, ours) = (pair.theirs, pair.ours);
            let context = format!("{theirs}, {ours}, v6={v6}");
            let theirs = captured(&lab, v6, theirs, || {
                let options = format!("-m 2 {}", options(theirs));
                scamper(&lab, &options, std::slice::from_ref(&target));
            });
            let sent = captured(&lab, v6, ours, || {
                let arguments = ["-M", "2", "-m", ours, "-p", port(ours), &target];
                trace_all(&lab, &arguments);
            });
            assert_eq!((theirs.len(), sent.len()), (6, 6), "{context}");
            let (still, constant) = (constant(&theirs), constant(&sent));
            let mut expected: BTreeSet<&str> = pair.varied.iter().copied().collect();
            if v6 {
                expected.extend(pair.varied_v6);
            }
            let varied: BTreeSet<&str> = still
                .iter()
                .copied()
                .filter(|name| sent[0].contains_key(name) && !constant.contains(name))
                .collect();
            assert_eq!(varied, expected, "{context}: {theirs:x?} {sent:x?}");
        }
    }
}

#[test]
fn methods_of_one_flow_vary_nothing_that_balancers_look_at() {
    let lab = Lab::up_with("chain", without_offload).unwrap();
    for v6 in FAMILIES {
        let target = server(&lab, v6);
        for method in [
            "paris-icmp",
            "paris-udp",
            "paris-tcp",
            "dublin",
            "insession",
        ] {
            let sent = captured(&lab, v6, method, || {
                trace_all(&lab, &["-m", method, "-p", port(method), &target]);
            });
            // Seven hops; near the end a probe may be sent that was not needed.
            assert!(sent.len() >= 21, "{method} v6={v6}: {}", sent.len());
            let constant = constant(&sent);
            let checksum = (method == "paris-icmp").then_some("checksum");
            for name in HASHED.into_iter().chain(checksum) {
                let there = sent[0].contains_key(name);
                assert!(
                    !there || constant.contains(name),
                    "{method} v6={v6}: {name} in {sent:x?}"
                );
            }
        }
    }
}

/// The addresses that answered, by TTL, of a trace of scamper's.
fn theirs(record: &Value) -> BTreeMap<u64, BTreeSet<IpAddr>> {
    let mut answers = BTreeMap::<u64, BTreeSet<IpAddr>>::new();
    let hops = record["hops"].as_array();
    for hop in hops.unwrap_or_else(|| panic!("no answers: {record}")) {
        let address = hop["addr"].as_str().unwrap().parse().unwrap();
        let ttl = hop["probe_ttl"].as_u64().unwrap();
        answers.entry(ttl).or_default().insert(address);
    }
    answers
}

/// The same of traces of ours.
fn ours(lab: &Lab, method: &str, targets: &[String]) -> Vec<BTreeMap<u64, BTreeSet<IpAddr>>> {
    let mut arguments = vec!["trace", "--json", "-q", "3", "-m", method];
    arguments.extend(["-p", port(method)]);
    arguments.extend(targets.iter().map(String::as_str));
    let run = program::run(lab, "client", &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let records = run.records().unwrap();
    let answers = records.iter().map(|record| {
        let of_hop = |hop: &insession_lab::record::Hop| {
            let from = hop.probes.iter().filter_map(|probe| probe.from).collect();
            (hop.ttl as u64, from)
        };
        record.hops.iter().map(of_hop).collect()
    });
    answers.collect()
}

fn targets(lab: &Lab, v6: bool, count: usize) -> Vec<String> {
    let addresses = lab.topology().addresses("server", v6, count);
    addresses.iter().map(IpAddr::to_string).collect()
}

/// How many of the traces show several routers at one TTL, and how many routers there
/// are in all of them at `ttl`.
fn scattered(traces: &[BTreeMap<u64, BTreeSet<IpAddr>>], ttl: u64) -> (usize, usize) {
    let several = traces.iter().filter(|trace| {
        assert!(trace.len() > ttl as usize, "{trace:?}");
        trace.values().any(|from| from.len() > 1)
    });
    let there = traces.iter().filter_map(|trace| trace.get(&ttl)).flatten();
    (several.count(), there.collect::<BTreeSet<_>>().len())
}

#[test]
fn both_stay_on_one_path_where_kernels_hash_ports() {
    let lab = Lab::up_with("diamond", without_offload).unwrap();
    for v6 in FAMILIES {
        let targets = targets(&lab, v6, 24);
        for (rival, method) in [
            ("icmp-paris", "paris-icmp"),
            ("udp-paris", "paris-udp"),
            ("udp-paris", "dublin"),
            ("tcp", "paris-tcp"),
            ("tcp-ack", "insession"),
        ] {
            let records = scamper(&lab, &options(rival), &targets);
            let rivals: Vec<_> = records.iter().map(theirs).collect();
            for (name, traces) in [(rival, rivals), (method, ours(&lab, method, &targets))] {
                let (several, branches) = scattered(&traces, 3);
                assert_eq!(several, 0, "{name} v6={v6}: {traces:?}");
                // 24 flows miss two of four branches once in 3 million runs.
                assert!(branches >= 3, "{name} v6={v6}: {branches}");
            }
        }
    }
}

/// A balancer that hashes the first four octets behind the IP header, as many routers
/// do: of echo requests type, code and checksum.
fn by_first_octets(topology: &mut Topology) {
    without_offload(topology);
    let split = topology.nodes.get_mut("split").unwrap();
    split.nft = Some(
        "table inet balance {
           chain prerouting {
             type filter hook prerouting priority mangle;
             iifname r1 meta nfproto ipv4 meta mark set jhash ip daddr . @th,0,32 mod 2 seed 1
             iifname r1 meta nfproto ipv6 meta mark set jhash ip6 daddr . @th,0,32 mod 2 seed 1
           }
         }
         "
        .to_owned(),
    );
}

#[test]
fn both_stay_on_one_path_where_balancers_hash_the_first_octets() {
    let lab = Lab::up_with("balanced", by_first_octets).unwrap();
    for v6 in FAMILIES {
        let targets = targets(&lab, v6, 24);
        for (rival, method) in [("icmp-paris", "paris-icmp"), ("udp-paris", "paris-udp")] {
            let records = scamper(&lab, &options(rival), &targets);
            let rivals: Vec<_> = records.iter().map(theirs).collect();
            for (name, traces) in [(rival, rivals), (method, ours(&lab, method, &targets))] {
                // Once in 8 million runs all go one way.
                assert_eq!(scattered(&traces, 3), (0, 2), "{name} v6={v6}: {traces:?}");
            }
        }
        // Flows of one target, each with an identifier of its own, go both ways.
        let flows = vec![targets[0].clone(); 24];
        let traces = ours(&lab, "paris-icmp", &flows);
        assert_eq!(scattered(&traces, 3), (0, 2), "v6={v6}: {traces:?}");
        // What is not of one flow there is seen not to be: of three probes all go one way
        // once in four times.
        let records = scamper(&lab, &options("icmp"), &targets);
        let rivals: Vec<_> = records.iter().map(theirs).collect();
        for (name, traces) in [("icmp", rivals), ("icmp", ours(&lab, "icmp", &targets))] {
            let (several, branches) = scattered(&traces, 3);
            assert!(several >= 8 && branches == 2, "{name} v6={v6}: {traces:?}");
        }
    }
}
