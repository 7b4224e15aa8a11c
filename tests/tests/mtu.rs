//! The path MTU along the way, held against the MTUs that the test set.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{FAMILIES, assert_right, server, trace};
use insession_lab::record::{MtuStep, PathMtu, Record};
use insession_lab::{Lab, program};

/// Both links.
const LINKS: [&str; 2] = ["xdp", "packet"];

/// What a router would say of packets that are too long, and does not.
const SAYS_NOTHING: &str = "
table inet blackhole {
  chain output {
    type filter hook output priority 0; policy accept;
    icmp type destination-unreachable icmp code frag-needed counter drop
    icmpv6 type packet-too-big counter drop
  }
}
";

/// Sets the MTU of the link between two neighbours, at both ends.
fn set(lab: &Lab, one: &str, other: &str, mtu: &str) {
    for (node, to) in [(one, other), (other, one)] {
        set_end(lab, node, to, mtu);
    }
}

fn set_end(lab: &Lab, node: &str, interface: &str, mtu: &str) {
    let arguments = ["link", "set", "dev", interface, "mtu", mtu];
    lab.run(node, "ip", &arguments, "").unwrap();
}

/// Six routers in a row, of which these say nothing of packets that are too long.
fn chain(silent: &[&str]) -> Lab {
    Lab::up_with("chain", |topology| {
        for name in silent {
            topology.nodes.get_mut(*name).unwrap().nft = Some(SAYS_NOTHING.to_owned());
        }
    })
    .unwrap()
}

fn measure(lab: &Lab, link: &str, v6: bool) -> (Record, PathMtu) {
    let target = server(lab, v6);
    let arguments = ["--mtu", "--link", link, "-w", "400ms", "-p", "80", &target];
    let record = trace(lab, &arguments);
    assert_eq!(record.link.as_ref().unwrap().kind, link);
    let mtu = record.mtu.clone().unwrap();
    assert_eq!(mtu.to_ttl, record.destination_ttl);
    assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
    (record, mtu)
}

/// These steps, at hops that have the address that they answered from.
fn assert_steps(record: &Record, expected: &[(usize, u16, bool)]) {
    let from = |ttl: usize| record.hop(ttl).unwrap().probes[0].from;
    let expected: Vec<_> = expected
        .iter()
        .map(|(ttl, mtu, told)| MtuStep {
            ttl: *ttl,
            from: from(*ttl),
            mtu: *mtu,
            told: *told,
        })
        .collect();
    assert_eq!(record.mtu.as_ref().unwrap().steps, expected, "{record:#?}");
}

#[test]
fn on_plain_ethernet_it_is_1500() {
    let lab = chain(&[]);
    for link in LINKS {
        for v6 in FAMILIES {
            let (record, mtu) = measure(&lab, link, v6);
            assert_right(&lab, &record);
            assert_eq!((mtu.link, mtu.largest), (1500, Some(1500)));
            assert_eq!((mtu.path, mtu.limit), (Some(1500), None));
            assert_steps(&record, &[]);
        }
    }
}

#[test]
fn routers_tell_of_smaller_links() {
    let lab = chain(&[]);
    set(&lab, "r2", "r3", "1400");
    set(&lab, "r4", "r5", "1300");
    for link in LINKS {
        for v6 in FAMILIES {
            let (record, mtu) = measure(&lab, link, v6);
            assert_right(&lab, &record);
            assert_steps(&record, &[(2, 1400, true), (4, 1300, true)]);
            assert_eq!((mtu.largest, mtu.path), (Some(1500), Some(1300)));
            assert_eq!(mtu.detail, None);
            // Whatever was told, the client's kernel goes on as before: the quotes are
            // of nothing that it sent.
            let known = lab.run("client", "ip", &["route", "get", &server(&lab, v6)], "");
            let known = known.unwrap();
            assert!(!known.contains("mtu"), "{link}: {known}");
        }
    }
}

#[test]
fn a_black_hole_is_found_and_measured() {
    let lab = chain(&["r3"]);
    set(&lab, "r1", "r2", "1450");
    set(&lab, "r3", "r4", "1400");
    set(&lab, "r5", "r6", "1337");
    for link in LINKS {
        for v6 in FAMILIES {
            let (record, mtu) = measure(&lab, link, v6);
            assert_right(&lab, &record);
            let steps = [(1, 1450, true), (3, 1400, false), (5, 1337, true)];
            assert_steps(&record, &steps);
            assert_eq!(mtu.path, Some(1337));
        }
    }
}

#[test]
fn ends_of_a_link_that_disagree_are_a_black_hole() {
    let lab = chain(&[]);
    // The router sends what the other end does not take: a veth takes four octets more
    // than its MTU, as many as a VLAN tag has (net/core/dev.c, `is_skb_forwardable`).
    set_end(&lab, "r4", "r3", "1371");
    for v6 in FAMILIES {
        let (record, mtu) = measure(&lab, "xdp", v6);
        assert_right(&lab, &record);
        assert_steps(&record, &[(3, 1375, false)]);
        assert_eq!(mtu.path, Some(1375));
    }
}

#[test]
fn silent_routers_tell_of_it_all_the_same() {
    // It lets packets expire without a word, and says what is too big.
    let quiet = SAYS_NOTHING
        .replace(
            "icmp type destination-unreachable icmp code frag-needed",
            "icmp type time-exceeded",
        )
        .replace("packet-too-big", "time-exceeded");
    let lab = Lab::up_with("chain", |topology| {
        topology.nodes.get_mut("r3").unwrap().nft = Some(quiet);
    })
    .unwrap();
    set(&lab, "r3", "r4", "1400");
    for v6 in FAMILIES {
        let (record, mtu) = measure(&lab, "xdp", v6);
        assert_eq!(record.hop(3).unwrap().probes[0].kind, "none");
        let [step] = &mtu.steps[..] else {
            panic!("{mtu:#?}");
        };
        assert_eq!((step.ttl, step.mtu, step.told), (3, 1400, true));
        assert!(step.from.is_some());
        assert_eq!(mtu.path, Some(1400));
    }
}

#[test]
fn routers_that_answer_few_packets_are_no_black_holes() {
    // As kernels are set up: one error a second and some at once.
    let lab = Lab::up_with("chain", |topology| {
        let routers = topology.nodes.iter_mut().filter(|(_, node)| node.router);
        for (name, node) in routers {
            for setting in ["net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"] {
                node.sysctls.insert(setting.to_owned(), "1000".to_owned());
            }
            if name == "r3" {
                node.nft = Some(SAYS_NOTHING.to_owned());
            }
        }
    })
    .unwrap();
    set(&lab, "r3", "r4", "1433");
    for v6 in FAMILIES {
        let target = server(&lab, v6);
        // Far too hasty to outlast them.
        let hasty = ["--mtu", "-w", "150ms", "-q", "2", "-p", "80", &target];
        let mtu = trace(&lab, &hasty).mtu.unwrap();
        assert_eq!(mtu.path, Some(1433), "{mtu:#?}");
        let [step] = &mtu.steps[..] else {
            panic!("{mtu:#?}");
        };
        assert_eq!((step.mtu, step.told), (1433, false));
    }
}

#[test]
fn a_server_without_sack_is_measured_to_as_well() {
    let lab = Lab::up("no_sack").unwrap();
    set(&lab, "r2", "r3", "1400");
    for link in LINKS {
        for v6 in FAMILIES {
            let (record, mtu) = measure(&lab, link, v6);
            assert_right(&lab, &record);
            assert_steps(&record, &[(2, 1400, true)]);
            assert_eq!(mtu.path, Some(1400));
        }
    }
}

#[test]
fn a_server_that_takes_shorter_segments_gives_a_lower_bound() {
    let lab = chain(&[]);
    // Its MSS follows from its MTU.
    set_end(&lab, "server", "eth0", "1400");
    let (record, mtu) = measure(&lab, "xdp", false);
    assert_eq!(record.handshake.as_ref().unwrap().mss, 1360);
    assert_eq!(mtu.limit.as_deref(), Some("mss"));
    assert_eq!((mtu.largest, mtu.path), (Some(1400), Some(1400)));
}

#[test]
fn a_frame_of_xdp_is_shorter_than_a_jumbo_link_takes() {
    let lab = chain(&[]);
    let hops = ["client", "r1", "r2", "r3", "r4", "r5", "r6", "server"];
    for pair in hops.windows(2) {
        let ends = lab.topology().links.iter().map(|link| link.ends());
        for [one, other] in ends.filter(|[one, other]| pair == [one.node, other.node]) {
            set_end(&lab, one.node, one.interface, "3000");
            set_end(&lab, other.node, other.interface, "3000");
        }
    }
    for (link, largest, limit) in [("xdp", 2034, Some("frame")), ("packet", 3000, None)] {
        let (record, mtu) = measure(&lab, link, false);
        assert_right(&lab, &record);
        assert_eq!((mtu.link, mtu.limit.as_deref()), (3000, limit));
        assert_eq!((mtu.largest, mtu.path), (Some(largest), Some(largest)));
    }
}

#[test]
fn the_text_says_where_and_who() {
    let lab = chain(&[]);
    set(&lab, "r2", "r3", "1400");
    let target = server(&lab, false);
    let arguments = ["trace", "--mtu", "-n", "-p", "80", &target];
    let run = program::run(&lab, "client", &arguments).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    let told = " MTU 1400 behind hop 2 (10.0.2.2), told by it; 1500 up to there\n";
    assert!(run.output.contains(told), "{}", run.output);
    assert!(
        run.output.contains(" path MTU 1400\ncomplete: "),
        "{}",
        run.output
    );
}
