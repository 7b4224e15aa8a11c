//! Which source port a flow gets: RFC 6056 §3.3.4, double-hash port selection.
//! A keyed hash of the two addresses and the remote port says where in the range
//! to begin, a counter (one of a table, picked by its other half) moves on with
//! each flow, so that two traces of one target in a row are two flows, for a
//! load balancer as for the target.
//!
//! One port serves any number of targets at a time; it is the flow that is taken.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use insession_common::flow::BLOCK;

use super::isn::Secret;
use crate::link::folding::Folding;
use crate::session::Flow;

/// Counters; targets that share one only skip a port now and then.
const COUNTERS: usize = 1024;

/// What the kernel said of the ports of a local address.
#[derive(Debug)]
struct Asked {
    /// By port: not asked (`None`), or whether it is taken.
    taken: Box<[Option<bool>]>,
}

/// The ports of one worker.
#[derive(Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    /// Ports that a flow takes, from its own on.
    step: u16,
    secret: Secret,
    counters: Box<[u64; COUNTERS]>,
    asked: HashMap<IpAddr, Asked, Folding>,
    /// The ends for which nothing was free at last: a list that names one target
    /// many times must not cost a search of the range each time.
    full: Option<(IpAddr, SocketAddr)>,
}

impl Ports {
    /// All ports of `range` free, as far as is known.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>, secret: Secret) -> Self {
        Ports {
            range,
            step: 1,
            secret,
            counters: Box::new([0; COUNTERS]),
            asked: HashMap::default(),
            full: None,
        }
    }

    /// The same where each flow takes a block of [`BLOCK`] ports, and has the first.
    /// The range is made of whole blocks.
    #[must_use]
    pub fn in_blocks(range: RangeInclusive<u16>, secret: Secret) -> Self {
        Ports {
            step: BLOCK,
            ..Ports::new(range, secret)
        }
    }

    /// A flow from `local` to `remote` that is not in use; `None` when the range
    /// is exhausted for them. `in_use` says whether a flow is; `kernel_has` whether
    /// the kernel holds a local endpoint, which is asked once each.
    #[must_use]
    pub fn take(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        in_use: &dyn Fn(&Flow) -> bool,
        kernel_has: &dyn Fn(SocketAddr) -> bool,
    ) -> Option<Flow> {
        if self.full == Some((local, remote)) {
            return None;
        }
        let step = usize::from(self.step);
        let ports = self.range.len() / step;
        let (offset, counter) = self.secret.port(local, remote);
        let (offset, counter) = (u64::from(offset), counter as usize % COUNTERS);
        let asked = self.asked.entry(local).or_insert_with(|| Asked {
            taken: vec![None; ports].into_boxed_slice(),
        });
        for _ in 0..ports {
            let nth = ((offset + self.counters[counter]) % ports as u64) as usize;
            self.counters[counter] += 1;
            let Some(port) = self.range.clone().nth(nth * step) else {
                continue;
            };
            let flow = Flow {
                local: SocketAddr::new(local, port),
                remote,
            };
            if in_use(&flow) {
                continue;
            }
            let Some(answer) = asked.taken.get_mut(nth) else {
                continue;
            };
            let block = || (port..=port + (self.step - 1)).map(|port| SocketAddr::new(local, port));
            if *answer.get_or_insert_with(|| block().any(kernel_has)) {
                continue;
            }
            return Some(flow);
        }
        self.full = Some((local, remote));
        None
    }

    /// The flow is in use no longer.
    pub fn give_back(&mut self, flow: &Flow) {
        if self.full == Some((flow.local.ip(), flow.remote)) {
            self.full = None;
        }
    }

    /// What to tell of a target for which the range is exhausted.
    #[must_use]
    pub fn exhausted(&self, remote: SocketAddr) -> String {
        if self.step > 1 {
            return format!(
                "target {remote}: every block of {} source ports is in use; widen --source-ports or add a --source",
                self.step
            );
        }
        format!(
            "port range {}-{} exhausted for target {remote}: every port has an open session to it or is held by the kernel; widen --source-ports or add a --source",
            self.range.start(),
            self.range.end(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::HashSet;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn ports(range: RangeInclusive<u16>) -> Ports {
        Ports::new(range, Secret::new(&[7; 16]))
    }

    /// Takes a flow, and has it in use.
    fn take(ports: &mut Ports, used: &mut HashSet<Flow>, remote: SocketAddr) -> Option<Flow> {
        let flow = ports.take(LOCAL, remote, &|flow| used.contains(flow), &|_| false)?;
        assert!(used.insert(flow));
        Some(flow)
    }

    fn remote(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, last], port))
    }

    #[test]
    fn every_port_serves_every_target_once() {
        let mut ports = ports(61_000..=61_099);
        let mut used = HashSet::new();
        for target in [remote(1, 443), remote(2, 443), remote(1, 80)] {
            let flows: HashSet<Flow> = (0..100)
                .map(|_| take(&mut ports, &mut used, target).unwrap())
                .collect();
            assert_eq!(flows.len(), 100);
            assert!(
                flows
                    .iter()
                    .all(|flow| (61_000..=61_099).contains(&flow.local.port()))
            );
            assert_eq!(take(&mut ports, &mut used, target), None);
        }
        assert_eq!(
            ports.exhausted(remote(1, 80)),
            "port range 61000-61099 exhausted for target 198.51.100.1:80: every port has an open session to it or is held by the kernel; widen --source-ports or add a --source"
        );
    }

    #[test]
    fn the_last_port_of_all_is_one_of_them() {
        let mut ports = ports(65_535..=65_535);
        let flow = take(&mut ports, &mut HashSet::new(), remote(1, 443)).unwrap();
        assert_eq!(flow.local.port(), 65_535);
    }

    #[test]
    fn an_empty_range_is_exhausted() {
        #[expect(clippy::reversed_empty_ranges, reason = "what a user may write")]
        let mut ports = ports(2..=1);
        assert_eq!(take(&mut ports, &mut HashSet::new(), remote(1, 443)), None);
    }

    #[test]
    fn what_the_kernel_holds_is_left_alone_and_asked_once() {
        let mut ports = ports(61_000..=61_009);
        let asked = RefCell::new(Vec::new());
        let kernel = |local: SocketAddr| {
            asked.borrow_mut().push(local.port());
            local.port().is_multiple_of(2)
        };
        let mut used = HashSet::new();
        for target in 1..=20 {
            for _ in 0..5 {
                let in_use = |flow: &Flow| used.contains(flow);
                let flow = ports
                    .take(LOCAL, remote(target, 443), &in_use, &kernel)
                    .unwrap();
                used.insert(flow);
                assert_eq!(flow.local.port() % 2, 1);
            }
            let in_use = |flow: &Flow| used.contains(flow);
            let flow = ports.take(LOCAL, remote(target, 443), &in_use, &kernel);
            assert_eq!(flow, None);
        }
        let mut asked = asked.into_inner();
        asked.sort_unstable();
        assert_eq!(asked, (61_000..=61_009).collect::<Vec<_>>());
    }

    #[test]
    fn two_traces_in_a_row_are_two_flows() {
        let mut ports = ports(61_000..=65_535);
        let first = take(&mut ports, &mut HashSet::new(), remote(1, 443)).unwrap();
        ports.give_back(&first);
        let second = take(&mut ports, &mut HashSet::new(), remote(1, 443));
        assert!(second.is_some_and(|second| second != first));
    }

    #[test]
    fn targets_begin_at_ports_of_their_own() {
        let mut ports = ports(61_000..=65_535);
        let begins: HashSet<u16> = (0..=255)
            .map(|last| take(&mut ports, &mut HashSet::new(), remote(last, 443)).unwrap())
            .map(|flow| flow.local.port())
            .collect();
        // 256 draws from 4,536 ports: some 249 differ.
        assert!(begins.len() > 200, "{}", begins.len());
    }

    proptest! {
        #[test]
        fn no_flow_is_given_out_twice(steps in prop::collection::vec((0u8..3, any::<bool>(), any::<usize>()), 1..300)) {
            let mut ports = ports(61_000..=61_015);
            let mut out: Vec<Flow> = Vec::new();
            let mut used = HashSet::new();
            for (last, takes, n) in steps {
                if takes {
                    let target = remote(last, 443);
                    match take(&mut ports, &mut used, target) {
                        Some(flow) => {
                            prop_assert!(!out.contains(&flow));
                            out.push(flow);
                        }
                        None => prop_assert_eq!(out.iter().filter(|flow| flow.remote == target).count(), 16),
                    }
                } else if !out.is_empty() {
                    let flow = out.swap_remove(n % out.len());
                    used.remove(&flow);
                    ports.give_back(&flow);
                }
            }
        }
    }
}
