//! Which drawn links are there: by a truth that was given, else by what records of one
//! flow each show.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::walk::{Node, end, node};
use crate::trace::Trace;

/// What is known of a link that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The truth has it, or packets of one flow were seen to go over it.
    Confirmed,
    /// Nothing says that it is there, nothing that it is not.
    Unconfirmed,
    /// The truth has it not, or enough flows went elsewhere.
    False,
}

impl Standing {
    /// The word of the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Confirmed => "confirmed",
            Standing::Unconfirmed => "unconfirmed",
            Standing::False => "false",
        }
    }
}

/// All links that there are: who answers behind whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth(HashSet<(IpAddr, IpAddr)>);

/// A line of a truth that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthError {
    /// Its number, from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

impl fmt::Display for TruthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Truth {
    /// Reads it: a link a line, the address that answers first and the one that
    /// answers next; `#` begins a remark.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(text: &str) -> Result<Self, TruthError> {
        let mut links = HashSet::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default();
            let error = |why: String| TruthError { line, why };
            let mut words = text.split_whitespace();
            let (from, to) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(from), Some(to), None) => (from, to),
                _ => return Err(error("not two addresses".to_owned())),
            };
            let address = |word: &str| {
                word.parse::<IpAddr>()
                    .map_err(|_| error(format!("{word:?} is no address")))
            };
            links.insert((address(from)?, address(to)?));
        }
        Ok(Truth(links))
    }

    /// How many links.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A flow, as balancers and we tell them apart.
type FlowKey = (u8, Option<IpAddr>, Option<u16>, u16);

/// What records of one flow each show of the ways to one target.
#[derive(Debug, Default)]
pub struct Evidence(HashMap<Node, Seen>);

/// Behind one router.
#[derive(Debug, Default)]
struct Seen {
    next: BTreeSet<Node>,
    flows: HashSet<FlowKey>,
}

impl Evidence {
    /// Takes a record in. One whose probes are not of one flow shows nothing, and a TTL
    /// at which several answered nothing of what is before and behind it: the route
    /// changed, or packets are balanced one by one.
    pub fn add(&mut self, trace: &Trace) {
        if !trace.method.is_one_flow() {
            return;
        }
        let v6 = trace.address.is_some_and(|address| address.is_ipv6());
        let flow = (
            trace.method.protocol(v6),
            trace.source,
            trace.source_port,
            trace.port,
        );
        let end = end(trace);
        let own = trace
            .hops
            .iter()
            .filter(|hop| hop.ttl <= end && !hop.shared);
        let only = own.map(|hop| {
            let replies = hop.probes.iter().filter_map(|probe| probe.reply.as_ref());
            let nodes: BTreeSet<Node> = replies.map(|reply| node(trace, hop.ttl, reply)).collect();
            (
                hop.ttl,
                (nodes.len() == 1).then(|| nodes.first().copied()).flatten(),
            )
        });
        let only: Vec<(u8, Option<Node>)> = only.collect();
        for pair in only.windows(2) {
            if let [(ttl, Some(from)), (next, Some(to))] = *pair
                && next - ttl == 1
            {
                let seen = self.0.entry(from).or_default();
                seen.next.insert(to);
                seen.flows.insert(flow);
            }
        }
    }

    /// What it says of a link.
    #[must_use]
    pub fn standing(&self, from: Node, to: Node) -> Standing {
        match self.0.get(&from) {
            Some(seen) if seen.next.contains(&to) => Standing::Confirmed,
            Some(seen) if seen.flows.len() >= enough(seen.next.len()) => Standing::False,
            _ => Standing::Unconfirmed,
        }
    }
}

/// What a truth, else evidence, says of a link.
#[must_use]
pub fn standing(truth: Option<&Truth>, evidence: &Evidence, from: Node, to: Node) -> Standing {
    match truth {
        Some(truth) if truth.0.contains(&(from.address, to.address)) => Standing::Confirmed,
        Some(_) => Standing::False,
        None => evidence.standing(from, to),
    }
}

/// Flows through a router behind which `next` others were seen, after which there is no
/// further one with 95 %, if all are equally likely: the stopping rule of the Multipath
/// Detection Algorithm (Veitch, Augustin, Friedman, Teixeira: Failure control in
/// multipath route tracing, INFOCOM 2009; 6, 11, 16, 21, …).
#[must_use]
pub fn enough(next: usize) -> usize {
    const MISSED: f64 = 0.05;
    if next == 0 {
        return usize::MAX;
    }
    let all = next as f64 + 1.0;
    // One of `all` is missed by n flows with at most all · (1 − 1/all)ⁿ.
    ((MISSED / all).ln() / (1.0 - 1.0 / all).ln()).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::{Made, router, target};
    use crate::trace::Method;

    #[test]
    fn enough_is_what_the_literature_has() {
        let table: Vec<usize> = (1..=6).map(enough).collect();
        assert_eq!(table, [6, 11, 16, 21, 27, 33]);
        assert_eq!(enough(0), usize::MAX);
    }

    fn evidence(traces: impl IntoIterator<Item = Trace>) -> Evidence {
        let mut evidence = Evidence::default();
        traces.into_iter().for_each(|trace| evidence.add(&trace));
        evidence
    }

    #[test]
    fn one_flow_confirms_and_many_flows_refute() {
        let flow =
            |port: u16, path: &str| Made::new(Method::ParisUdp).port(port).path(path).trace();
        let five = (1..=5).map(|port| flow(port, "abd!"));
        let few = evidence(five.clone());
        assert_eq!(few.standing(router("a"), router("b")), Standing::Confirmed);
        assert_eq!(few.standing(router("d"), target()), Standing::Confirmed);
        assert_eq!(
            few.standing(router("a"), router("c")),
            Standing::Unconfirmed
        );
        // The same flow once more says nothing new.
        let same = evidence(five.clone().chain([flow(5, "abd!")]));
        assert_eq!(
            same.standing(router("a"), router("c")),
            Standing::Unconfirmed
        );
        let six = evidence(five.chain([flow(6, "abd!")]));
        assert_eq!(six.standing(router("a"), router("c")), Standing::False);
        // A second successor asks for eleven.
        let two = evidence((1..=6).map(|port| flow(port, if port == 6 { "ax" } else { "ab" })));
        assert_eq!(
            two.standing(router("a"), router("c")),
            Standing::Unconfirmed
        );
        // Nobody has seen what is behind c.
        assert_eq!(
            six.standing(router("c"), router("d")),
            Standing::Unconfirmed
        );
    }

    #[test]
    fn several_flows_in_a_record_and_several_routers_at_a_ttl_show_nothing() {
        let classic = Made::new(Method::Udp).path("ab!").trace();
        let both = Made::new(Method::InSession)
            .hop(&["a", "x"])
            .hop(&["b", "b"])
            .trace();
        let gap = Made::new(Method::InSession).path("a.b").trace();
        let evidence = evidence([classic, both, gap]);
        assert_eq!(
            evidence.standing(router("a"), router("b")),
            Standing::Unconfirmed
        );
    }

    #[test]
    fn a_truth_decides_alone() {
        let truth = Truth::parse("# links\n10.0.97.1 10.0.98.1 # a, b\n\n").unwrap();
        assert_eq!((truth.len(), truth.is_empty()), (1, false));
        let seen = evidence([Made::new(Method::InSession).path("abd!").trace()]);
        let of = |from, to| standing(Some(&truth), &seen, router(from), router(to));
        assert_eq!(of("a", "b"), Standing::Confirmed);
        assert_eq!(of("b", "d"), Standing::False);
        for (text, line, why) in [
            ("10.0.0.1\n", 1, "not two addresses"),
            ("\n10.0.0.1 10.0.0.2 10.0.0.3", 2, "not two addresses"),
            ("10.0.0.1 r2", 1, "\"r2\" is no address"),
        ] {
            let error = Truth::parse(text).unwrap_err();
            assert_eq!((error.line, error.why.as_str()), (line, why));
        }
    }
}
