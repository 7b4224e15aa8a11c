//! Routes, neighbours and interfaces against a real kernel, in namespaces of
//! their own.

use std::net::IpAddr;
use std::time::Duration;

use super::testing::{self, Namespace, pair};
use super::*;
use crate::engine::Target;
use crate::engine::dispatch::{RouteFailure, Routing, Way};
use crate::trace::Verdict;

fn target(address: &str) -> Target {
    Target {
        index: 0,
        name: address.to_owned(),
        address: address.parse().unwrap(),
        port: 443,
    }
}

fn route_with(
    namespace: &Namespace,
    options: RouterOptions,
    address: &str,
) -> Result<Route, RouteFailure> {
    namespace.run(|| {
        let mut router = Router::new(options).unwrap();
        testing::route(&mut router, &target(address))
    })
}

fn route(namespace: &Namespace, address: &str) -> Result<Route, RouteFailure> {
    route_with(namespace, RouterOptions::default(), address)
}

fn info(namespace: &Namespace, name: &str) -> InterfaceInfo {
    namespace.run(|| interface(name).unwrap())
}

#[test]
fn a_target_on_the_link_is_found_in_both_families() {
    let (near, far) = pair();
    let (here, there) = (info(&near, "near0"), info(&far, "far0"));
    assert_eq!(here.kind.as_deref(), Some("veth"));
    for (address, source) in [("198.18.1.2", "198.18.1.1"), ("fd00:1::2", "fd00:1::1")] {
        let route = route(&near, address).unwrap();
        let expected = Route {
            interface: Interface {
                index: here.index,
                name: "near0".to_owned(),
            }
            .into(),
            vlan: None,
            source: source.parse().unwrap(),
            source_mac: here.mac.unwrap(),
            next_hop_mac: there.mac.unwrap(),
            mtu: 1500,
            device_mtu: 1500,
        };
        assert_eq!(route, expected);
    }
}

#[test]
fn a_gateway_may_be_of_the_other_family() {
    let (near, far) = pair();
    near.ip("route add 203.0.113.0/24 via 198.18.1.2");
    near.ip("route add 192.0.2.0/24 via inet6 fd00:1::2");
    near.ip("route add 2001:db8::/32 via fd00:1::2");
    let mac = info(&far, "far0").mac.unwrap();
    for address in ["203.0.113.7", "192.0.2.7", "2001:db8::7"] {
        assert_eq!(
            route(&near, address).unwrap().next_hop_mac,
            mac,
            "{address}"
        );
    }
}

#[test]
fn unwilling_routes_are_told_apart() {
    let (near, _far) = pair();
    for (kind, v4, v6) in [
        ("prohibit", "203.0.113.1", "2001:db8:1::1"),
        ("blackhole", "203.0.113.2", "2001:db8:2::1"),
        ("unreachable", "203.0.113.3", "2001:db8:3::1"),
    ] {
        for address in [v4, v6] {
            near.ip(&format!("route add {kind} {address}"));
            let failure = route(&near, address).unwrap_err();
            assert_eq!(failure.verdict, Verdict::NoRoute, "{address}");
            let expected = format!(
                "route to {address}: its route is of type {kind}; see `ip route get {address}`"
            );
            assert_eq!(failure.detail, expected);
        }
    }
    for address in ["203.0.113.99", "2001:db8:99::1"] {
        let failure = route(&near, address).unwrap_err();
        assert_eq!(failure.verdict, Verdict::NoRoute, "{address}");
        let expected =
            format!("route to {address}: no route leads there; see `ip route get {address}`");
        assert_eq!(failure.detail, expected);
    }
    let failure = route(&near, "198.18.1.255").unwrap_err();
    assert_eq!(failure.verdict, Verdict::NoRoute);
    assert!(failure.detail.contains("broadcast"), "{}", failure.detail);
}

#[test]
fn a_silent_next_hop_is_named_and_remembered() {
    let (near, _far) = pair();
    // The kernel gives up after one request each, a quarter of a second.
    near.run(|| {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/near0");
            std::fs::write(format!("{path}/mcast_solicit"), "1").unwrap();
            std::fs::write(format!("{path}/retrans_time_ms"), "250").unwrap();
        }
        let mut router = Router::new(RouterOptions::default()).unwrap();
        for (address, how) in [
            ("198.18.1.77", "ARP"),
            ("fd00:1::77", "neighbour discovery"),
        ] {
            let first = testing::route(&mut router, &target(address)).unwrap_err();
            assert_eq!(first.verdict, Verdict::Error);
            let expected = format!("next hop {address} on near0: it does not answer {how}; ");
            assert!(first.detail.starts_with(&expected), "{}", first.detail);
            assert_eq!(router.route(&target(address)).unwrap_err(), first);
        }
    });
}

#[test]
fn a_neighbour_that_answers_late_is_waited_for() {
    let (near, far) = pair();
    far.ip("link set far0 arp off");
    let mac = info(&far, "far0").mac.unwrap();
    let found = near.run(|| {
        let mut router = Router::new(RouterOptions::default()).unwrap();
        let late = std::thread::spawn(move || {
            // The kernel answers its second or third request.
            far.ip("link set far0 arp on");
            far
        });
        let found = testing::route(&mut router, &target("198.18.1.2"));
        late.join().unwrap();
        found
    });
    assert_eq!(found.unwrap().next_hop_mac, mac);
}

#[test]
fn silent_next_hops_hold_up_nobody() {
    let (near, far) = pair();
    near.ip("route add 203.0.113.0/24 via 198.18.1.70");
    let mac = info(&far, "far0").mac.unwrap();
    near.run(|| {
        let path = "/proc/sys/net/ipv4/neigh/near0";
        std::fs::write(format!("{path}/mcast_solicit"), "2").unwrap();
        let mut router = Router::new(RouterOptions::default()).unwrap();
        let mut waiting = Vec::new();
        for address in ["198.18.1.70", "198.18.1.71", "198.18.1.72", "203.0.113.1"] {
            let Ok(Way::Pending(hop)) = router.route(&target(address)) else {
                panic!("{address} was waited for");
            };
            waiting.push(hop.address.to_string());
        }
        // One neighbour, two targets.
        let expected = ["198.18.1.70", "198.18.1.71", "198.18.1.72", "198.18.1.70"];
        assert_eq!(waiting, expected);
        // The good one is there while the kernel still asks for the others.
        let mut settled = Vec::new();
        let route = loop {
            match router.route(&target("198.18.1.2")).unwrap() {
                Way::Known(route) => break route,
                Way::Pending(_) => settled.extend(router.settled(Duration::from_secs(1))),
            }
        };
        assert_eq!(route.next_hop_mac, mac);
        assert!(
            settled
                .iter()
                .all(|hop| hop.address == "198.18.1.2".parse::<IpAddr>().unwrap())
        );
        settled.clear();
        // Each wait ends with the patience at the latest.
        while settled.len() < 3 {
            settled.extend(router.settled(Duration::from_secs(10)));
        }
        for address in ["198.18.1.70", "198.18.1.71", "198.18.1.72", "203.0.113.1"] {
            let failure = router.route(&target(address)).unwrap_err();
            assert!(
                failure.detail.contains("does not answer ARP"),
                "{failure:?}"
            );
        }
    });
}

#[test]
fn a_forced_source_is_used_and_must_be_ours() {
    let (near, _far) = pair();
    near.address("near0", "198.18.1.9/24");
    near.address("near0", "fd00:1::9/64");
    let sources = |texts: &[&str]| RouterOptions {
        sources: texts.iter().map(|text| text.parse().unwrap()).collect(),
        interface: None,
    };
    let both = sources(&["198.18.1.9", "fd00:1::9"]);
    for (address, source) in [("198.18.1.2", "198.18.1.9"), ("fd00:1::2", "fd00:1::9")] {
        let found = route_with(&near, both.clone(), address).unwrap();
        assert_eq!(found.source, source.parse::<IpAddr>().unwrap());
    }
    // Targets take turns.
    let found: Vec<_> = near.run(|| {
        let mut router = Router::new(sources(&["198.18.1.9", "198.18.1.1"])).unwrap();
        let turn = |index| Target {
            index,
            ..target("198.18.1.2")
        };
        (0..4)
            .map(|index| {
                let route = testing::route(&mut router, &turn(index)).unwrap();
                route.source.to_string()
            })
            .collect()
    });
    assert_eq!(
        found,
        ["198.18.1.9", "198.18.1.1", "198.18.1.9", "198.18.1.1"]
    );

    let error = near.run(|| Router::new(sources(&["192.0.2.1"])).unwrap_err());
    assert_eq!(
        error.to_string(),
        "source address 192.0.2.1: no interface of this host has it; `ip address` lists those \
         there are"
    );
    let failure = route_with(&near, sources(&["198.18.1.9"]), "fd00:1::2").unwrap_err();
    assert_eq!(failure.verdict, Verdict::NoRoute);
    assert!(failure.detail.contains("--source"), "{}", failure.detail);
}

#[test]
fn a_forced_interface_is_used_and_must_exist() {
    let (near, far) = pair();
    near.veth("near1", &far, "far1");
    near.address("near1", "198.18.2.1/24");
    far.address("far1", "198.18.2.2/24");
    near.ip("route add 203.0.113.0/24 via 198.18.1.2");
    near.ip("route add 203.0.113.0/24 via 198.18.2.2 metric 100");
    let through = |name: &str| RouterOptions {
        sources: Vec::new(),
        interface: Some(name.to_owned()),
    };
    let usual = route(&near, "203.0.113.1").unwrap();
    assert_eq!(usual.interface.name, "near0");
    let forced = route_with(&near, through("near1"), "203.0.113.1").unwrap();
    assert_eq!(forced.interface.name, "near1");
    assert_eq!(forced.source, "198.18.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(forced.next_hop_mac, info(&far, "far1").mac.unwrap());

    let error = near.run(|| Router::new(through("nowhere0")).unwrap_err());
    assert_eq!(
        error.to_string(),
        "interface \"nowhere0\": no such interface; `ip link` lists them"
    );
    let failure = route_with(&near, through("near0"), "198.18.1.1").unwrap_err();
    assert_eq!(failure.verdict, Verdict::NoRoute);
    assert!(failure.detail.contains("its way is over lo"), "{failure:?}");
    let failure = route(&near, "fe80::1").unwrap_err();
    assert!(failure.detail.contains("--interface"), "{failure:?}");
}

#[test]
fn the_mtu_is_the_routes_before_the_interfaces() {
    let (near, _far) = pair();
    near.ip("link set near0 mtu 1400");
    near.ip("route add 203.0.113.0/24 via 198.18.1.2 mtu 1280");
    near.ip("route add 2001:db8::/32 via fd00:1::2 mtu 1300");
    assert_eq!(route(&near, "198.18.1.2").unwrap().mtu, 1400);
    assert_eq!(route(&near, "203.0.113.1").unwrap().mtu, 1280);
    assert_eq!(route(&near, "2001:db8::1").unwrap().mtu, 1300);
}

#[test]
fn our_own_addresses_go_over_loopback() {
    let (near, _far) = pair();
    for address in ["127.0.0.1", "::1", "198.18.1.1", "fd00:1::1"] {
        let found = route(&near, address).unwrap();
        let expected = Route {
            interface: Interface {
                index: 1,
                name: "lo".to_owned(),
            }
            .into(),
            vlan: None,
            source: address.parse().unwrap(),
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
            mtu: 65536,
            device_mtu: 65536,
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn an_interface_without_ethernet_header_is_refused() {
    let namespace = Namespace::new();
    namespace.ip("tuntap add mode tun name tun0");
    namespace.ip("link set tun0 up");
    namespace.address("tun0", "198.18.3.1/24");
    let failure = route(&namespace, "198.18.3.2").unwrap_err();
    assert_eq!(failure.verdict, Verdict::Error);
    assert_eq!(
        failure.detail,
        "route to 198.18.3.2: interface tun0 has no Ethernet header; choose another with \
         `--interface`"
    );
}

#[test]
fn interfaces_are_listed_with_what_holds_them() {
    let (near, _far) = pair();
    let all = near.run(|| interfaces().unwrap());
    let names: Vec<_> = all.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["lo", "near0"]);
    let [lo, veth] = &all[..] else { unreachable!() };
    assert!(lo.loopback && lo.up && lo.ethernet);
    assert!(!veth.loopback && veth.up && veth.carrier && veth.ethernet);
    assert_eq!(veth.driver.as_deref(), Some("veth"));
    assert_eq!(veth.rx_queues, 1);
    assert_eq!((veth.xdp, veth.vlan, veth.master), (None, None, None));
    assert_eq!(veth.mtu, 1500);
}

/// A router in a namespace whose default route leads over the other one's.
fn over_a_gateway(change: impl FnOnce(&Namespace, &mut Router) + Send) {
    let (near, far) = pair();
    far.ip("address add 198.18.1.3/24 dev far0");
    near.ip("route add default via 198.18.1.2");
    near.run(|| {
        let mut router = Router::new(RouterOptions::default()).unwrap();
        router.age();
        change(&near, &mut router);
    });
}

/// The ways to these, one after the other.
fn ways(router: &mut Router, addresses: &[&str]) -> Vec<Result<Route, RouteFailure>> {
    addresses
        .iter()
        .map(|address| testing::route(router, &target(address)))
        .collect()
}

#[test]
fn one_answer_holds_for_all_behind_a_gateway() {
    over_a_gateway(|near, router| {
        near.ip("route add 203.0.113.0/24 via 198.18.1.3 mtu 1280");
        let there = ["192.0.2.1", "192.0.2.2", "8.8.8.8", "203.0.113.7"];
        let found = ways(router, &there);
        assert_eq!(router.asked, 3, "the third is beyond a route");
        assert_eq!(ways(router, &there), found);
        assert_eq!(router.asked, 3);
        let mtus = found.iter().map(|route| route.as_ref().unwrap().mtu);
        assert_eq!(mtus.collect::<Vec<_>>(), [1500, 1500, 1500, 1280]);
        // What is on the link has a next hop of its own, as has what is ours.
        let near = ways(router, &["198.18.1.2", "198.18.1.1", "127.0.0.9"]);
        let names = near.iter().map(|route| &route.as_ref().unwrap().interface);
        let names: Vec<_> = names.map(|interface| &interface.name[..]).collect();
        assert_eq!(names, ["near0", "lo", "lo"]);
    });
}

#[test]
fn a_few_targets_and_many_routes_are_not_worth_a_dump() {
    over_a_gateway(|near, _| {
        let mut router = Router::new(RouterOptions::default()).unwrap();
        for last in 0..20 {
            ways(&mut router, &[&format!("192.0.2.{last}")]);
        }
        assert_eq!(router.asked, 17);
        let routes: String = (0..4096)
            .map(|n| format!("route add 10.{}.{}.0/24 via 198.18.1.3\n", n >> 8, n & 0xff))
            .collect();
        let name = format!("insession-routes-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, routes).unwrap();
        near.ip(&format!("-batch {}", path.display()));
        std::fs::remove_file(path).unwrap();
        router.age();
        ways(&mut router, &["192.0.2.1", "192.0.2.2", "10.0.9.9"]);
        assert_eq!(router.asked, 20);
        // Nor are they read again.
        near.ip("route flush via 198.18.1.3");
        router.age();
        ways(&mut router, &["192.0.2.1", "192.0.2.2"]);
        assert_eq!(router.asked, 22);
    });
}

#[test]
fn a_changed_route_is_seen_when_the_dump_is_old() {
    over_a_gateway(|near, router| {
        let mtu = |router: &mut Router| ways(router, &["192.0.2.1"])[0].clone().unwrap().mtu;
        assert_eq!(mtu(router), 1500);
        near.ip("route replace default via 198.18.1.3 mtu 1300");
        assert_eq!(mtu(router), 1500);
        router.age();
        assert_eq!(mtu(router), 1300);
        near.ip("route del default");
        router.age();
        let failure = ways(router, &["192.0.2.1"])[0].clone().unwrap_err();
        assert_eq!(failure.verdict, Verdict::NoRoute);
    });
}

#[test]
fn where_more_than_prefixes_count_the_kernel_is_asked_each_time() {
    let there = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for words in [
        "rule add to 192.0.2.2 lookup 100",
        "rule add dport 443 lookup 100",
        "rule add from all fwmark 1 lookup 100",
        "route replace default nexthop via 198.18.1.2 nexthop via 198.18.1.3",
    ] {
        over_a_gateway(|near, router| {
            near.ip("route add default via 198.18.1.3 mtu 1280 table 100");
            near.ip(words);
            let found = ways(router, &there);
            assert_eq!(router.asked, 3, "{words}");
            let mtus: Vec<_> = found.iter().map(|it| it.as_ref().unwrap().mtu).collect();
            let expected = match words {
                "rule add to 192.0.2.2 lookup 100" => [1500, 1280, 1500],
                "rule add dport 443 lookup 100" => [1280; 3],
                _ => [1500; 3],
            };
            assert_eq!(mtus, expected, "{words}");
            // Without it, once.
            let undone = words.replacen("rule add", "rule del", 1);
            let undone = undone.split_once(" nexthop").map_or(undone.clone(), |_| {
                "route replace default via 198.18.1.2".to_owned()
            });
            near.ip(&undone);
            router.age();
            ways(router, &there);
            assert_eq!(router.asked, 4, "{undone}");
        });
    }
}

#[test]
fn a_learnt_path_mtu_is_its_targets_alone() {
    let (near, far) = pair();
    let beyond = Namespace::new();
    far.veth("far1", &beyond, "beyond0");
    far.address("far1", "198.18.2.1/24");
    beyond.address("beyond0", "198.18.2.2/24");
    beyond.ip("route add default via 198.18.2.1");
    far.ip("link set far1 mtu 1300");
    far.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    near.ip("route add default via 198.18.1.2");
    near.run(|| {
        let mut router = Router::new(RouterOptions::default()).unwrap();
        let mtus = |router: &mut Router| -> Vec<u32> {
            let found = ways(router, &["198.18.2.1", "198.18.2.2", "198.18.2.3"]);
            found.into_iter().map(|route| route.unwrap().mtu).collect()
        };
        router.age();
        assert_eq!(mtus(&mut router), [1500; 3]);
        assert_eq!(router.asked, 1);
        let socket = std::net::UdpSocket::bind("198.18.1.1:0").unwrap();
        socket.connect("198.18.2.2:9").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.send(&[0; 1400]).unwrap();
        // That it was too long comes back as the socket's error.
        let refused = socket.recv(&mut [0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE));
        router.age();
        assert_eq!(mtus(&mut router), [1500, 1300, 1500]);
        // Before it and behind it are two spans.
        assert_eq!(router.asked, 4);
        // Asked about first, it stands for nobody else.
        router.age();
        let first = ways(&mut router, &["198.18.2.2"]);
        assert_eq!(first[0].as_ref().unwrap().mtu, 1300);
        assert_eq!(mtus(&mut router), [1500, 1300, 1500]);
    });
}
