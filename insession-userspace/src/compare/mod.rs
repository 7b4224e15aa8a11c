//! Several methods side by side: what each showed of the ways to the same targets,
//! and what of it is there. Pure: records in, figures out; `docs/compare.md` defines
//! every one of them.
//!
//! | file | what it is for |
//! |---|---|
//! | `walk` | a record as walks, and the lines that are drawn for them |
//! | `evidence` | which of these lines are links |
//! | `paths` | distinct paths |
//! | `view` | one method's picture of one target |
//! | `text` | the table |
//! | `picture` | the pictures: SVG, PNG, a page |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::trace::{Method, Trace};
use evidence::Evidence;
pub use evidence::{Standing, Truth, TruthError};
pub use view::{Answers, Gap, Link, Responder, View};
pub use walk::Node;

pub mod evidence;
pub mod paths;
pub mod picture;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod view;
pub mod walk;

/// The contract's name.
pub const SCHEMA: &str = "insession.compare/1";

/// Methods side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// `insession.compare/1`.
    pub schema: &'static str,
    /// Whether links were held against a truth that was given.
    pub truth: bool,
    /// A method each, over all targets.
    pub methods: Vec<Figures>,
    /// A target each.
    pub targets: Vec<Compared>,
}

/// Methods side by side, at one target.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// As the user named it.
    pub target: String,
    /// What was traced; `null`: the name did not resolve.
    pub address: Option<IpAddr>,
    /// TTLs of its way: the fewest that reached it by any method; where none did, up to
    /// the last answer of any.
    pub length: u8,
    /// Whether any method reached it.
    pub reached: bool,
    /// In the order of [`Method::ALL`].
    pub methods: Vec<View>,
}

/// One method in figures; sums where there are several targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Its word.
    pub method: &'static str,
    /// All probes of a run are of one flow.
    pub one_flow: bool,
    /// Records that count.
    pub runs: u64,
    /// Records that do not: interrupted, no route, an error of ours.
    pub failed: u64,
    /// Runs that reached the destination.
    pub reached: u64,
    /// Hops that there were to see: the TTLs of the way, once a run.
    pub hops: u64,
    /// Of these, those at which at least one probe was answered.
    pub hops_answered: u64,
    /// TTLs of the way at which no probe of any run was answered.
    pub hops_missing: u64,
    /// Lines drawn: pairs of who answered at one TTL and who answered at the next, by
    /// the same column of a run.
    pub links: u64,
    /// Of these, those that are there.
    pub links_confirmed: u64,
    /// Of these, those of which nothing is known.
    pub links_unconfirmed: u64,
    /// Of these, those that are not there.
    pub links_false: u64,
    /// Distinct paths over all runs.
    pub paths: u64,
    /// The most distinct paths within one run.
    pub paths_in_a_run: u64,
    /// Probes sent.
    pub probes: u64,
    /// Probes up to the end of the way without an answer.
    pub probes_lost: u64,
    /// Packets sent, all of them; `null` where records alone are known.
    pub packets: Option<u64>,
    /// From the first packet of a run to its verdict, the mean, µs.
    pub duration_us: Option<f64>,
}

impl Figures {
    /// Nothing yet.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Figures {
            method: method.as_str(),
            one_flow: method.is_one_flow(),
            runs: 0,
            failed: 0,
            reached: 0,
            hops: 0,
            hops_answered: 0,
            hops_missing: 0,
            links: 0,
            links_confirmed: 0,
            links_unconfirmed: 0,
            links_false: 0,
            paths: 0,
            paths_in_a_run: 0,
            probes: 0,
            probes_lost: 0,
            packets: None,
            duration_us: None,
        }
    }

    fn add(&mut self, other: &Figures) {
        let weighted =
            |figures: &Figures| figures.duration_us.map(|mean| mean * figures.runs as f64);
        let duration = match (weighted(self), weighted(other)) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
        let runs = self.runs + other.runs;
        self.duration_us = duration.filter(|_| runs > 0).map(|sum| sum / runs as f64);
        self.runs = runs;
        self.paths_in_a_run = self.paths_in_a_run.max(other.paths_in_a_run);
        for (sum, part) in [
            (&mut self.failed, other.failed),
            (&mut self.reached, other.reached),
            (&mut self.hops, other.hops),
            (&mut self.hops_answered, other.hops_answered),
            (&mut self.hops_missing, other.hops_missing),
            (&mut self.links, other.links),
            (&mut self.links_confirmed, other.links_confirmed),
            (&mut self.links_unconfirmed, other.links_unconfirmed),
            (&mut self.links_false, other.links_false),
            (&mut self.paths, other.paths),
            (&mut self.probes, other.probes),
            (&mut self.probes_lost, other.probes_lost),
        ] {
            *sum += part;
        }
    }
}

/// Packets that were sent, where somebody counted them.
pub type Packets = BTreeMap<Method, u64>;

/// Compares the methods that records were made by: all runs of all of them.
#[must_use]
pub fn compare(traces: &[Trace], truth: Option<&Truth>, packets: &Packets) -> Comparison {
    let methods: BTreeSet<usize> = traces
        .iter()
        .filter_map(|trace| {
            Method::ALL
                .iter()
                .position(|method| *method == trace.method)
        })
        .collect();
    let methods: Vec<Method> = methods
        .into_iter()
        .filter_map(|at| Method::ALL.get(at).copied())
        .collect();
    // In the order in which they come first.
    let mut keys: Vec<(&str, Option<IpAddr>)> = Vec::new();
    let mut by_target: BTreeMap<(&str, Option<IpAddr>), Vec<&Trace>> = BTreeMap::new();
    for trace in traces {
        let key = (trace.target.as_str(), trace.address);
        let of = by_target.entry(key).or_default();
        if of.is_empty() {
            keys.push(key);
        }
        of.push(trace);
    }
    let targets: Vec<Compared> = keys
        .into_iter()
        .filter_map(|key| Some(target(by_target.get(&key)?, &methods, truth)))
        .collect();
    let methods = methods.into_iter().map(|method| {
        let mut sum = Figures::new(method);
        let views = targets.iter().flat_map(|target| &target.methods);
        views
            .filter(|view| view.figures.method == method.as_str())
            .for_each(|view| sum.add(&view.figures));
        sum.packets = packets.get(&method).copied();
        sum
    });
    Comparison {
        schema: SCHEMA,
        truth: truth.is_some(),
        methods: methods.collect(),
        targets,
    }
}

/// Records of one target; at least one.
fn target(traces: &[&Trace], methods: &[Method], truth: Option<&Truth>) -> Compared {
    let good: Vec<&Trace> = traces
        .iter()
        .copied()
        .filter(|trace| !trace.verdict.is_failure())
        .collect();
    let mut evidence = Evidence::default();
    good.iter().for_each(|trace| evidence.add(trace));
    let fewest = good.iter().filter_map(|trace| trace.destination_ttl).min();
    let answered = || {
        let walks = good.iter().flat_map(|trace| walk::walks(trace));
        walks
            .map(|walk| u8::try_from(walk.len()).unwrap_or(u8::MAX))
            .max()
    };
    let length = fewest.or_else(answered).unwrap_or(0);
    let first = good.iter().filter_map(|trace| trace.hops.first());
    let first = first.map(|hop| hop.ttl).min().unwrap_or(1);
    let standing = |from, to| evidence::standing(truth, &evidence, from, to);
    let views = methods.iter().map(|method| {
        let of: Vec<&Trace> = traces
            .iter()
            .copied()
            .filter(|trace| trace.method == *method)
            .collect();
        View::new(*method, &of, first..=length, &standing)
    });
    let one = traces.first();
    Compared {
        target: one.map(|trace| trace.target.clone()).unwrap_or_default(),
        address: one.and_then(|trace| trace.address),
        length,
        reached: fewest.is_some(),
        methods: views.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Made;
    use super::*;
    use crate::trace::Verdict;

    fn of(comparison: &Comparison, method: Method) -> &Figures {
        let found = comparison
            .methods
            .iter()
            .find(|it| it.method == method.as_str());
        found.unwrap()
    }

    fn flows(path: [&str; 2]) -> impl Iterator<Item = Trace> {
        (0..12).map(move |run| {
            let path = path[usize::from(run % 2)];
            Made::new(Method::InSession)
                .port(50_000 + run)
                .path(path)
                .trace()
        })
    }

    #[test]
    fn crossed_lines_are_false_and_missing_hops_are_missed() {
        // Two branches: a-b-d and a-c-e, joined at f.
        let mut traces: Vec<Trace> = flows(["abdf!", "acef!"]).collect();
        traces.push(Made::new(Method::Tcp).path("abef!").trace());
        traces.push(Made::new(Method::Tcp).path("acd.!").trace());
        traces.push(Made::new(Method::Icmp).path("a....").trace());
        let comparison = compare(&traces, None, &Packets::from([(Method::Tcp, 77)]));
        let ours = of(&comparison, Method::InSession);
        assert_eq!(
            (ours.runs, ours.reached, ours.hops, ours.hops_answered),
            (12, 12, 60, 60)
        );
        assert_eq!((ours.links, ours.links_confirmed), (7, 7));
        assert_eq!((ours.paths, ours.paths_in_a_run), (2, 1));
        assert_eq!((ours.packets, ours.duration_us), (None, Some(100_000.0)));
        let tcp = of(&comparison, Method::Tcp);
        assert_eq!((tcp.reached, tcp.hops, tcp.hops_answered), (2, 10, 9));
        assert_eq!(tcp.hops_missing, 0);
        // a-b, a-c, e-f, f-! are there; b-e and c-d are not, which six flows each show.
        assert_eq!(
            (
                tcp.links,
                tcp.links_confirmed,
                tcp.links_unconfirmed,
                tcp.links_false
            ),
            (6, 4, 0, 2)
        );
        assert_eq!((tcp.paths, tcp.packets), (2, Some(77)));
        let icmp = of(&comparison, Method::Icmp);
        assert_eq!((icmp.reached, icmp.hops, icmp.hops_answered), (0, 5, 1));
        assert_eq!((icmp.hops_missing, icmp.links, icmp.paths), (4, 0, 1));
        assert_eq!((icmp.probes, icmp.probes_lost), (5, 4));
        let target = &comparison.targets[0];
        assert_eq!((target.length, target.reached), (5, true));
    }

    #[test]
    fn without_enough_flows_a_line_is_unconfirmed_and_by_a_truth_false() {
        let traces = [
            Made::new(Method::InSession).path("abdf!").trace(),
            Made::new(Method::Tcp).path("abef!").trace(),
        ];
        let figures = |truth: Option<&Truth>| {
            let comparison = compare(&traces, truth, &Packets::new());
            let tcp = of(&comparison, Method::Tcp).clone();
            (tcp.links_confirmed, tcp.links_unconfirmed, tcp.links_false)
        };
        assert_eq!(figures(None), (2, 2, 0));
        let truth = Truth::parse("10.0.97.1 10.0.98.1\n10.0.102.1 10.9.0.1").unwrap();
        assert_eq!(figures(Some(&truth)), (2, 0, 2));
    }

    #[test]
    fn runs_that_failed_are_no_runs_and_nobody_reaches_is_told() {
        let mut interrupted = Made::new(Method::Udp).path("abc").trace();
        interrupted.verdict = Verdict::Interrupted;
        let traces = [Made::new(Method::Udp).path("a..").trace(), interrupted];
        let comparison = compare(&traces, None, &Packets::new());
        let udp = of(&comparison, Method::Udp);
        assert_eq!((udp.runs, udp.failed, udp.hops), (1, 1, 1));
        assert_eq!(
            (comparison.targets[0].length, comparison.targets[0].reached),
            (1, false)
        );
    }

    #[test]
    fn a_handshake_that_failed_saw_no_hop() {
        let mut refused = Made::new(Method::InSession).trace();
        refused.verdict = Verdict::HandshakeTimeout;
        let traces = [refused, Made::new(Method::Icmp).path("ab!").trace()];
        let comparison = compare(&traces, None, &Packets::new());
        let ours = of(&comparison, Method::InSession);
        assert_eq!((ours.runs, ours.hops, ours.hops_missing), (1, 3, 3));
        assert_eq!(ours.paths, 0);
    }

    #[test]
    fn targets_are_apart_and_summed_up() {
        let mut other = Made::new(Method::Icmp).path("xy!").trace();
        other.target = "other".to_owned();
        let traces = [Made::new(Method::Icmp).path("ab!").trace(), other];
        let comparison = compare(&traces, None, &Packets::new());
        let names: Vec<&str> = comparison
            .targets
            .iter()
            .map(|it| it.target.as_str())
            .collect();
        assert_eq!(names, ["server", "other"]);
        let icmp = of(&comparison, Method::Icmp);
        assert_eq!((icmp.runs, icmp.hops, icmp.links, icmp.paths), (2, 6, 4, 2));
        let json = serde_json::to_value(&comparison).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["methods"][0]["hops_answered"], 6);
    }
}
