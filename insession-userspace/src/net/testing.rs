//! Network namespaces for tests. They have no names: they go when the last
//! descriptor of them is closed, however a test ends.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use super::netlink::Events;
use super::{Route, Router};
use crate::engine::Target;
use crate::engine::dispatch::{RouteFailure, Routing, Way};

/// Two namespaces on one wire, `near0` and `far0`: 198.18.1.1/24 and .2,
/// fd00:1::1/64 and ::2.
pub(crate) fn pair() -> (Namespace, Namespace) {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.veth("near0", &far, "far0");
    near.address("near0", "198.18.1.1/24");
    near.address("near0", "fd00:1::1/64");
    far.address("far0", "198.18.1.2/24");
    far.address("far0", "fd00:1::2/64");
    (near, far)
}

/// A network namespace of a test's own, with loopback up.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes one. Fails without root, and says so.
    pub(crate) fn new() -> Self {
        let file = std::thread::spawn(|| {
            // SAFETY: no pointers; the new namespace is this thread's alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(
                result,
                0,
                "unshare(CLONE_NEWNET): {}; this test needs root",
                std::io::Error::last_os_error()
            );
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Namespace {
            file: file.join().expect("a namespace (needs root)"),
        };
        namespace.run(|| {
            // Addresses are usable at once, without duplicate detection.
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `body` on a thread inside the namespace.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            // SAFETY: no pointers; the descriptor is open.
            let result = unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
            body()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` with these words inside the namespace; it has to succeed.
    pub(crate) fn ip(&self, words: &str) {
        let output = self.run(|| Command::new("ip").args(words.split(' ')).output().unwrap());
        assert!(output.status.success(), "ip {words}: {output:?}");
    }

    /// Gives `device` an address with its prefix length; returns when the kernel
    /// answers for it. For IPv6 that is a moment later, when the route to
    /// itself has been put in by a worker (`addrconf_dad_work`,
    /// net/ipv6/addrconf.c).
    pub(crate) fn address(&self, device: &str, address: &str) {
        let (ip, _) = address.split_once('/').unwrap();
        let ip: IpAddr = ip.parse().unwrap();
        let IpAddr::V6(ip) = ip else {
            return self.ip(&format!("address add {address} dev {device}"));
        };
        let mut events = self.run(|| Events::subscribe(libc::RTNLGRP_IPV6_ROUTE).unwrap());
        self.ip(&format!("address add {address} dev {device} nodad"));
        let local = format!("{:032x} 80 ", ip.to_bits());
        let routes = || std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
        while !self
            .run(routes)
            .lines()
            .any(|line| line.starts_with(&local))
        {
            let mut happened = false;
            let lost = events.take(Duration::from_secs(5), |_, _| happened = true);
            happened |= lost.unwrap();
            assert!(happened, "no route to {ip} within 5 s");
        }
    }

    /// A veth pair between this namespace (`name`) and `peer` (`peer_name`),
    /// both up.
    pub(crate) fn veth(&self, name: &str, peer: &Namespace, peer_name: &str) {
        let there = format!("/proc/{}/fd/{}", std::process::id(), peer.file.as_raw_fd());
        self.ip(&format!(
            "link add {name} type veth peer name {peer_name} netns {there}"
        ));
        self.ip(&format!("link set {name} up"));
        peer.ip(&format!("link set {peer_name} up"));
    }
}

/// The way to `target`, waited for.
pub(crate) fn route(router: &mut Router, target: &Target) -> Result<Route, RouteFailure> {
    loop {
        match router.route(target)? {
            Way::Known(route) => return Ok(route),
            // Bounded by the router's patience.
            Way::Pending(_) => drop(router.settled(Duration::from_secs(1))),
        }
    }
}
