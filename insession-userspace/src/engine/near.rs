//! The first hops that all ways have in common, probed once for all
//! (`--share-near-hops`), as Doubletree and FlashRoute do.
//!
//! What is common is learnt for each flow class: interface (a worker has one), source
//! address, next hop, DSCP and with them the IP version. As long as the latest 32 full
//! traces of a class met the same router at each of the first TTLs, and no other,
//! sessions begin behind these. Their records get those hops from the class's latest
//! full trace, marked ([`Hop::shared`]), as they were answered there. Every 64th
//! session, and the first after a minute without one, is a full trace again; one that
//! met another router, or two, ends the sharing until as much is learnt anew.
//!
//! What is given up: a router that only some flows meet at these TTLs is seen by one
//! trace in 64. What is not: a destination within the shared hops is found where it
//! is, since a session whose very first probe reaches it goes back
//! ([`crate::session::Session::begin_behind`]).

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::session::SessionReport;
use crate::time::{Duration, Instant};
use crate::trace::{Hop, ReplyKind};

/// Full traces that have to agree.
const LEARNT: usize = 32;
/// Of those so many have to show who stands at a TTL: the others were lost or ended
/// before it.
const SHOWN: usize = LEARNT / 2;
/// One session in so many is traced in full.
const FULL_EVERY: u32 = 64;
/// And one after so long without any.
const FULL_AFTER: Duration = Duration::from_secs(60);
/// Classes that are kept account of; others share nothing. Some 30 KiB each at most.
const CLASSES: usize = 64;
/// Hops that are ever shared.
const DEEPEST: usize = 32;

/// Who stands at a TTL, as a trace shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// All that answered.
    Router(IpAddr),
    /// Two of them, or another kind of answer than a router's.
    Several,
    /// Nobody answered, or the trace ended before.
    Unknown,
}

/// What is known of a flow class.
#[derive(Debug, Default)]
struct Class {
    /// The latest full traces, hop by hop.
    traces: VecDeque<Vec<Stands>>,
    /// The hops that are shared now.
    depth: u8,
    /// Each as the latest full trace had it that showed it; kept for those that are
    /// under way when sharing ends.
    hops: Vec<Hop>,
    /// Sessions since the last full one, and when that was.
    since: u32,
    last: Instant,
}

/// The near hops of one worker.
#[derive(Debug)]
pub(super) struct NearHops {
    first_ttl: u8,
    classes: Vec<Class>,
}

impl NearHops {
    /// Nothing is known yet; traces begin at `first_ttl`.
    pub(super) fn new(first_ttl: u8) -> Self {
        NearHops {
            first_ttl: first_ttl.max(1),
            classes: Vec::new(),
        }
    }

    /// The TTL at which a new session of this class begins.
    pub(super) fn begin(&mut self, class: usize, now: Instant) -> u8 {
        let first = self.first_ttl;
        let Some(class) = self.class(class) else {
            return first;
        };
        class.since += 1;
        let due = class.since >= FULL_EVERY || now.since(class.last) >= FULL_AFTER;
        if class.depth == 0 || due {
            (class.since, class.last) = (0, now);
            return first;
        }
        first.saturating_add(class.depth)
    }

    /// Takes in what a session found, and gives it the hops that it has left out;
    /// how many those are.
    pub(super) fn finished(&mut self, class: usize, report: &mut SessionReport) -> usize {
        let first = self.first_ttl;
        let (Some(class), Some(begun)) =
            (self.class(class), report.hops.first().map(|hop| hop.ttl))
        else {
            return 0;
        };
        if begun == first {
            class.learn(first, &report.hops);
            return 0;
        }
        let shared = class.hops.iter().filter(|hop| hop.ttl < begun).cloned();
        let own = core::mem::take(&mut report.hops);
        report.hops = shared.chain(own).collect();
        report.hops.iter().filter(|hop| hop.shared).count()
    }

    fn class(&mut self, class: usize) -> Option<&mut Class> {
        if class >= CLASSES {
            return None;
        }
        if class >= self.classes.len() {
            self.classes.resize_with(class + 1, Class::default);
        }
        self.classes.get_mut(class)
    }
}

impl Class {
    /// A full trace has ended.
    fn learn(&mut self, first: u8, hops: &[Hop]) {
        let shown: Vec<Stands> = (first..=u8::MAX)
            .take(DEEPEST)
            .map(|ttl| stands(hops.iter().find(|hop| hop.ttl == ttl)))
            .collect();
        let shared = usize::from(self.depth);
        let agrees = (0..shared).all(|nth| match (self.common(nth), shown.get(nth)) {
            (Some(router), Some(Stands::Router(other))) => router == *other,
            (_, Some(Stands::Unknown)) => true,
            _ => false,
        });
        if !agrees {
            self.traces.clear();
        }
        if self.traces.len() == LEARNT {
            self.traces.pop_front();
        }
        self.traces.push_back(shown);
        self.depth = 0;
        if self.traces.len() == LEARNT {
            let common = (0..DEEPEST).take_while(|nth| self.common(*nth).is_some());
            self.depth = common.count() as u8;
        }
        let shared = (first..).zip(0..usize::from(self.depth));
        for (ttl, nth) in shared {
            let shows = hops.iter().find(|hop| hop.ttl == ttl);
            let Some(hop) = shows.filter(|hop| matches!(stands(Some(hop)), Stands::Router(_)))
            else {
                continue;
            };
            let hop = Hop {
                shared: true,
                ..hop.clone()
            };
            if let Some(known) = self.hops.get_mut(nth) {
                *known = hop;
            } else if nth == self.hops.len() {
                self.hops.push(hop);
            }
        }
        // No record is to have a hole, or a router of another time.
        let known = self.hops.iter().zip(0..usize::from(self.depth));
        let known = known.take_while(|(hop, nth)| {
            let common = self.common(*nth).map(Stands::Router);
            Some(stands(Some(hop))) == common
        });
        self.depth = known.count() as u8;
    }

    /// The one router that all of the latest met at a TTL, as far as they show it.
    fn common(&self, nth: usize) -> Option<IpAddr> {
        let (mut common, mut shown) = (None, 0);
        for trace in &self.traces {
            match trace.get(nth)? {
                Stands::Router(router) if common.is_none_or(|known| known == *router) => {
                    common = Some(*router);
                    shown += 1;
                }
                Stands::Unknown => {}
                Stands::Router(_) | Stands::Several => return None,
            }
        }
        common.filter(|_| shown >= SHOWN)
    }
}

/// Who stands at a TTL. Where the destination does, routers are not to be seen.
fn stands(hop: Option<&Hop>) -> Stands {
    let probes = hop.map_or(&[][..], |hop| &hop.probes);
    let mut stands = Stands::Unknown;
    for reply in probes.iter().filter_map(|probe| probe.reply.as_ref()) {
        let here = match reply.kind {
            ReplyKind::TimeExceeded => Stands::Router(reply.from),
            ReplyKind::Unreachable | ReplyKind::PacketTooBig => Stands::Several,
            _ => Stands::Unknown,
        };
        stands = match (stands, here) {
            (known, Stands::Unknown) => known,
            (Stands::Unknown, here) => here,
            (known, here) if known == here => known,
            _ => Stands::Several,
        };
    }
    stands
}
