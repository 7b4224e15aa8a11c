//! Who answers at a TTL, in a few counters whatever the number of routers: the
//! Space-Saving summary of Metwally, Agrawal and El Abbadi (2005), whose counts are
//! never too small, decayed by halves, so that what was long ago weighs little.

use std::net::IpAddr;

/// Counters. What is counted for a router is too much by at most one in so many.
const COUNTERS: usize = 32;
/// Outcomes after which all counts are halved.
const HALVE_AT: u32 = 2_048;
/// With fewer outcomes all may be one router's.
const EVIDENCE: u32 = 32;

/// The summary of one TTL.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    counters: Vec<(IpAddr, u32)>,
    total: u32,
}

impl Summary {
    /// A router answered.
    pub(super) fn answered(&mut self, router: IpAddr) {
        self.grow();
        if let Some((_, count)) = self.counters.iter_mut().find(|(known, _)| *known == router) {
            *count += 1;
            return;
        }
        if self.counters.len() < COUNTERS {
            // Allocates for the first few of a TTL only.
            self.counters.push((router, 1));
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|(_, count)| *count) {
            *least = (router, least.1 + 1);
        }
    }

    /// A probe went unanswered: it may have been any router's, so it is the most
    /// frequent one's.
    pub(super) fn lost(&mut self) {
        self.grow();
        if let Some((_, count)) = self.counters.iter_mut().max_by_key(|(_, count)| *count) {
            *count += 1;
        }
    }

    /// The destination answered: no router's.
    pub(super) fn reached(&mut self) {
        self.grow();
    }

    fn grow(&mut self) {
        self.total += 1;
        if self.total >= HALVE_AT {
            self.total /= 2;
            self.counters.iter_mut().for_each(|(_, count)| *count /= 2);
            self.counters.retain(|(_, count)| *count > 0);
        }
    }

    /// The router that answers most, and the part of all probes of this TTL that are
    /// its, no less than it is by one standard error; all of them before there is
    /// evidence.
    pub(super) fn top(&self) -> (Option<IpAddr>, f64) {
        let top = self.counters.iter().max_by_key(|(_, count)| *count);
        let router = top.map(|(router, _)| *router);
        if self.total < EVIDENCE {
            return (router, 1.0);
        }
        let total = f64::from(self.total);
        let part = top.map_or(1.0, |(_, count)| f64::from(*count) / total);
        let error = (part * (1.0 - part) / total).sqrt();
        (router, (part + error).clamp(1.0 / COUNTERS as f64, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn all_is_one_routers_until_there_is_evidence() {
        let mut summary = Summary::default();
        assert_eq!(summary.top(), (None, 1.0));
        for n in 0..EVIDENCE - 1 {
            summary.answered(router(n));
        }
        assert_eq!(summary.top().1, 1.0);
        summary.answered(router(99));
        assert!(summary.top().1 < 0.1);
    }

    #[test]
    fn a_heavy_router_among_thousands_is_never_taken_for_less() {
        let mut summary = Summary::default();
        for n in 0..20_000_u32 {
            let light = router(1_000 + n.wrapping_mul(2_654_435_761) % 4_096);
            summary.answered(if n % 4 == 0 { router(1) } else { light });
        }
        let (top, part) = summary.top();
        assert_eq!(top, Some(router(1)));
        assert!((0.25..0.32).contains(&part), "{part}");
        // Another takes its place: that shows soon.
        for n in 0..6_000_u32 {
            summary.answered(if n % 2 == 0 {
                router(2)
            } else {
                router(1_000 + n)
            });
        }
        let (top, part) = summary.top();
        assert_eq!(top, Some(router(2)));
        assert!((0.5..0.57).contains(&part), "{part}");
    }

    #[test]
    fn what_is_lost_is_the_heaviest_ones_and_what_arrives_is_no_routers() {
        let mut summary = Summary::default();
        for n in 0..1_000 {
            match n % 4 {
                0 | 1 => summary.answered(router(n % 4)),
                2 => summary.lost(),
                _ => summary.reached(),
            }
        }
        let (_, part) = summary.top();
        assert!((0.49..0.53).contains(&part), "{part}");
    }
}
