//! Flows whose sessions have ended: still steered to us, since what the peer had
//! in flight when our RST went out arrives within a round trip, and with the
//! flow's entry gone the kernel would answer it with a RST of its own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::link::folding::Folding;
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
    match report.longest {
        Some(longest) => (longest * 2).clamp(LEAST, LINGER),
        // The SYN may just have gone out.
        None if report.verdict == Verdict::Interrupted => LINGER,
        // Refused, unreachable, or silent for seconds: nothing is on its way.
        None => LEAST,
    }
}

/// Flows that linger, by when they may go, and by themselves.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// The place of each in `places`.
    flows: HashMap<Flow, u32, Folding>,
    /// A flow, and when it may go; none, where one was that lingers no longer, until
    /// its turn in `due` has come.
    places: Vec<Option<(Flow, Instant)>>,
    free: Vec<u32>,
    /// All places that are not free.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Lingering {
    /// It may go at `until`.
    pub(super) fn insert(&mut self, flow: &Flow, until: Instant) {
        let entry = Some((*flow, until));
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.places.get_mut(place as usize) {
                    *free = entry;
                }
                place
            }
            None => {
                self.places.push(entry);
                // There are not 2^32 of them: LINGER_MAX.
                self.places.len() as u32 - 1
            }
        };
        self.due.push(Reverse((until, place)));
        if let Some(before) = self.flows.insert(*flow, place) {
            self.forget(before);
        }
    }

    /// Whether this one does.
    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.flows.contains_key(flow)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// When the first may go.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((until, _))| *until)
    }

    /// Nothing lingers at this place any more.
    fn forget(&mut self, place: u32) {
        if let Some(entry) = self.places.get_mut(place as usize) {
            *entry = None;
        }
        // So that the first of `due` is one that lingers.
        while let Some(Reverse((_, first))) = self.due.peek()
            && self.places.get(*first as usize) == Some(&None)
        {
            self.free.push(*first);
            self.due.pop();
        }
    }

    /// Takes out the one that may go first.
    pub(super) fn pop(&mut self) -> Option<Flow> {
        let Reverse((_, place)) = self.due.peek()?;
        let place = *place;
        let (flow, _) = self.places.get(place as usize).copied().flatten()?;
        self.flows.remove(&flow);
        self.forget(place);
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use proptest::prelude::*;

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

    proptest! {
        /// Whatever is put in again.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0u8..3, 0u16..4, 0u64..6, 0u8..3), 1..200)) {
            let mut lingering = Lingering::default();
            let mut list: Vec<(Instant, Flow)> = Vec::new();
            for (last, port, millis, what) in steps {
                let flow = flow_to(last, port);
                match what {
                    0 | 1 => {
                        lingering.insert(&flow, at(millis));
                        list.retain(|(_, other)| *other != flow);
                        list.push((at(millis), flow));
                    }
                    _ => {
                        let first = list.iter().map(|(at, _)| *at).min();
                        prop_assert_eq!(lingering.next(), first);
                        let popped = lingering.pop();
                        prop_assert_eq!(popped.is_some(), first.is_some());
                        if let Some(popped) = popped {
                            let nth = list.iter().position(|(_, flow)| *flow == popped).unwrap();
                            prop_assert_eq!(Some(list.swap_remove(nth).0), first);
                        }
                    }
                }
                prop_assert_eq!(lingering.len(), list.len());
                prop_assert_eq!(lingering.next(), list.iter().map(|(at, _)| *at).min());
                prop_assert!(list.iter().all(|(_, flow)| lingering.contains(flow)));
            }
        }
    }
}
