//! Jobs that wait for a source port: every one that there is has a flow to their
//! target which is open, or lingers. A list may name one target a million times.
//!
//! Each is waked by what it waits for: the flow that is given back is handed to the
//! job that has waited longest for one between its ends, and nothing is searched.
//! Others are begun meanwhile, until so many wait that no more are taken.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::jobs::Job;
use crate::link::folding::Folding;
use crate::session::Flow;

/// Jobs that wait at most: some two hundred octets each.
const MOST: usize = 4_096;

/// Our address and the target's.
type Ends = (IpAddr, SocketAddr);

/// The jobs of one worker that wait.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// No queue is empty.
    waiting: HashMap<Ends, VecDeque<Job>, Folding>,
    /// Those that wait no longer, and what was given back.
    released: VecDeque<(Job, Flow)>,
    /// All of them.
    count: usize,
}

impl Deferred {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether no more can.
    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST
    }

    /// Whether there is one that waits no longer.
    pub(super) fn is_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Whether others wait for a port between these ends.
    pub(super) fn waits_for(&self, local: IpAddr, remote: SocketAddr) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&(local, remote))
    }

    /// It waits, behind those before it.
    pub(super) fn push(&mut self, job: Job) {
        let remote = SocketAddr::new(job.target.address, job.target.port);
        let queue = self.waiting.entry((job.route.source, remote)).or_default();
        queue.push_back(job);
        self.count += 1;
    }

    /// The flow is in use no longer: whoever has waited longest for it may go on.
    pub(super) fn release(&mut self, flow: &Flow) {
        let ends = (flow.local.ip(), flow.remote);
        let Some(queue) = self.waiting.get_mut(&ends) else {
            return;
        };
        self.released
            .extend(queue.pop_front().map(|job| (job, *flow)));
        if queue.is_empty() {
            self.waiting.remove(&ends);
        }
    }

    /// One that waits no longer, and its flow.
    pub(super) fn pop(&mut self) -> Option<(Job, Flow)> {
        let released = self.released.pop_front()?;
        self.count -= 1;
        Some(released)
    }

    /// Any of them: none is to go on.
    pub(super) fn pop_any(&mut self) -> Option<Job> {
        if let Some((job, _)) = self.pop() {
            return Some(job);
        }
        let ends = *self.waiting.keys().next()?;
        let queue = self.waiting.get_mut(&ends)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&ends);
        }
        self.count -= 1;
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Target;
    use crate::net::{Interface, Route};

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn job(index: u64, last: u8) -> Job {
        Job {
            target: Target {
                index,
                name: String::new(),
                address: [198, 51, 100, last].into(),
                port: 443,
            },
            route: Route {
                interface: Interface {
                    index: 1,
                    name: "sim1".into(),
                }
                .into(),
                vlan: None,
                source: SOURCE,
                source_mac: [0; 6],
                next_hop_mac: [0; 6],
                mtu: 1500,
                device_mtu: 1500,
            },
        }
    }

    fn flow(last: u8, port: u16) -> Flow {
        Flow {
            local: SocketAddr::new(SOURCE, port),
            remote: SocketAddr::from(([198, 51, 100, last], 443)),
        }
    }

    #[test]
    fn a_flow_wakes_the_one_that_has_waited_longest_for_it() {
        let mut deferred = Deferred::default();
        for (index, last) in [(0, 1), (1, 1), (2, 2)] {
            assert!(!deferred.waits_for(SOURCE, flow(last, 1).remote) || index == 1);
            deferred.push(job(index, last));
        }
        // Nobody waits for this one.
        deferred.release(&flow(3, 1));
        assert!(!deferred.is_released() && !deferred.is_empty());
        deferred.release(&flow(2, 7));
        deferred.release(&flow(1, 8));
        let mut next = || deferred.pop().map(|(job, flow)| (job.target.index, flow));
        assert_eq!(next(), Some((2, flow(2, 7))));
        assert_eq!(next(), Some((0, flow(1, 8))));
        assert_eq!(next(), None);
        assert!(deferred.waits_for(SOURCE, flow(1, 1).remote));
        assert!(!deferred.waits_for(SOURCE, flow(2, 1).remote));
        let left = deferred.pop_any().map(|job| job.target.index);
        assert_eq!((left, deferred.is_empty()), (Some(1), true));
        assert!(deferred.pop_any().is_none());
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut deferred = Deferred::default();
        for index in 0..MOST as u64 {
            assert!(!deferred.is_full());
            deferred.push(job(index, 1));
        }
        assert!(deferred.is_full());
        deferred.release(&flow(1, 1));
        assert!(deferred.is_full(), "it is not taken yet");
        assert!(deferred.pop().is_some());
        assert!(!deferred.is_full());
    }
}
