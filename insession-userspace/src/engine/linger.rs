//! Flows whose sessions have ended: still steered to us, since what the peer had
//! in flight when our RST went out arrives within a round trip, and with the
//! flow's entry gone the kernel would answer it with a RST of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::session::{Flow, SessionReport};
use crate::time::{Duration, Instant};
use crate::trace::Verdict;

/// No flow lingers longer: that would only hold ports and map entries.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// No flow lingers shorter: a peer's processor takes its time, too.
const LEAST: Duration = Duration::from_millis(20);

/// How long what was sent by this session may draw answers. Two round trips: of
/// the segments that were on their way one is the last, and no round trip
/// measured was the longest there is.
pub(super) fn span(report: &SessionReport) -> Duration {
    let probes = report.hops.iter().flat_map(|hop| &hop.probes);
    let replies = probes.filter_map(|probe| Some(probe.reply.as_ref()?.rtt));
    let handshake = report.handshake.iter().map(|handshake| handshake.rtt);
    match replies.chain(handshake).max() {
        Some(longest) => (longest * 2).clamp(LEAST, LINGER),
        // The SYN may just have gone out.
        None if report.verdict == Verdict::Interrupted => LINGER,
        // Refused, unreachable, or silent for seconds: nothing is on its way.
        None => LEAST,
    }
}

/// A flow in the order of its ends; the local port comes last.
type Key = (IpAddr, SocketAddr, u16);

/// Flows that linger, by when they may go, and by their ends.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    due: BTreeSet<(Instant, Key)>,
    /// The moment of the first of them: asked for each time round the loop.
    first: Option<Instant>,
    ends: BTreeMap<Key, Instant>,
}

impl Lingering {
    /// It may go at `until`.
    pub(super) fn insert(&mut self, flow: &Flow, until: Instant) {
        let key = key(flow);
        if let Some(before) = self.ends.insert(key, until) {
            self.due.remove(&(before, key));
        }
        self.due.insert((until, key));
        self.look();
    }

    /// Whether this one does.
    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.ends.contains_key(&key(flow))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the first may go.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        self.first
    }

    fn look(&mut self) {
        self.first = self.due.first().map(|(until, _)| *until);
    }

    /// Takes out the one that may go first.
    pub(super) fn pop(&mut self) -> Option<Flow> {
        let (_, key) = self.due.pop_first()?;
        self.look();
        self.ends.remove(&key);
        Some(flow(key))
    }

    /// Takes out at most that many with these ends, those that may go first.
    pub(super) fn take_between(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        most: usize,
    ) -> Vec<Flow> {
        let all = (local, remote, 0)..=(local, remote, u16::MAX);
        let mut found: Vec<_> = self.ends.range(all).map(|(key, at)| (*at, *key)).collect();
        found.sort_unstable();
        found.truncate(most);
        for (at, key) in &found {
            self.ends.remove(key);
            self.due.remove(&(*at, *key));
        }
        self.look();
        found.into_iter().map(|(_, key)| flow(key)).collect()
    }
}

fn key(flow: &Flow) -> Key {
    (flow.local.ip(), flow.remote, flow.local.port())
}

fn flow((local, remote, port): Key) -> Flow {
    Flow {
        local: SocketAddr::new(local, port),
        remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow_to(last: u8, port: u16) -> Flow {
        Flow {
            local: SocketAddr::from(([192, 0, 2, 1], port)),
            remote: SocketAddr::from(([198, 51, 100, last], 443)),
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn the_first_that_may_go_goes_first() {
        let mut lingering = Lingering::default();
        for (flow, until) in [
            (flow_to(1, 9), 700),
            (flow_to(2, 9), 20),
            (flow_to(1, 8), 300),
        ] {
            lingering.insert(&flow, at(until));
        }
        // Again, later than before: it is there once.
        lingering.insert(&flow_to(2, 9), at(400));
        assert_eq!((lingering.len(), lingering.next()), (3, Some(at(300))));
        assert!(lingering.contains(&flow_to(2, 9)) && !lingering.contains(&flow_to(2, 8)));
        let order: Vec<_> = std::iter::from_fn(|| lingering.pop()).collect();
        assert_eq!(order, [flow_to(1, 8), flow_to(2, 9), flow_to(1, 9)]);
        assert_eq!((lingering.len(), lingering.next()), (0, None));
    }

    #[test]
    fn between_two_ends_no_others_are_taken() {
        let mut lingering = Lingering::default();
        for (last, port, until) in [(1, 65_535, 1), (1, 0, 3), (1, 7, 2), (0, 7, 1), (2, 7, 1)] {
            lingering.insert(&flow_to(last, port), at(until));
        }
        let (local, remote) = (flow_to(1, 0).local.ip(), flow_to(1, 0).remote);
        let mut take = |most| lingering.take_between(local, remote, most);
        assert_eq!(take(2), [flow_to(1, 65_535), flow_to(1, 7)]);
        assert_eq!(take(2), [flow_to(1, 0)]);
        assert_eq!(take(2), []);
        assert_eq!(lingering.len(), 2);
    }
}
