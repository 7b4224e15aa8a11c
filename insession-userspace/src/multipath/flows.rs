//! Which flow is to be opened next: each target several times, and by the stopping
//! rule as many times as it takes. Pure: targets and records in, targets out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::graph::Graph;
use super::mda;
use super::paths::{Mda, Stopped};
use super::walk::{Walk, walks};
use crate::engine::Target;
use crate::trace::{Trace, Verdict};

/// How many flows a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowsOptions {
    /// So many at first, and without a rule in all.
    pub flows: u32,
    /// The confidence of the stopping rule, if it is to be followed.
    pub confidence: Option<f64>,
    /// No more by the rule.
    pub most: u32,
}

/// The flows of a target are over.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The target's [`Target::index`].
    pub index: u64,
    /// What the rule led to, where it was followed.
    pub mda: Option<Mda>,
    /// Flows that were asked for are missing: the run is over.
    pub is_cut_short: bool,
}

impl Ended {
    /// A target with all that was asked for.
    #[must_use]
    pub fn whole(index: u64, mda: Option<Mda>) -> Self {
        Ended {
            index,
            mda,
            is_cut_short: false,
        }
    }
}

/// Who opens flows, as one sees it who gets their records.
pub trait Opener: Send + Sync {
    /// A record came. `Some`: it was the last of its target.
    fn back(&self, index: u64, trace: &Trace) -> Option<Ended>;

    /// Ends what is under way: the run is over.
    fn end(&self) -> Vec<Ended>;
}

/// All targets whose flows are under way.
#[derive(Debug)]
pub struct Flows {
    options: FlowsOptions,
    open: BTreeMap<u64, Group>,
    /// Flows to be opened, and how many times more.
    waiting: VecDeque<(Target, u32)>,
    asked: u64,
}

/// The flows of one target.
#[derive(Debug)]
struct Group {
    target: Target,
    opened: u32,
    back: u32,
    rounds: u32,
    walks: Vec<Walk>,
    /// Source ports: a flow that was there before says nothing new.
    ports: BTreeSet<u16>,
    /// Flows that showed something, and those before the latest round.
    usable: u32,
    before: u32,
    is_interrupted: bool,
}

impl Flows {
    /// No target yet.
    #[must_use]
    pub fn new(options: FlowsOptions) -> Self {
        Flows {
            options,
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: 0,
        }
    }

    /// Flows that were asked for so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether a flow waits to be opened: it goes before a further target.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether no target's flows are under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins a target.
    pub fn begin(&mut self, target: Target) {
        let first = match self.options.confidence {
            // With fewer the rule is not satisfied by any target.
            Some(confidence) => mda::stopping_point(1, 1.0 - confidence)
                .max(self.options.flows)
                .min(self.options.most),
            None => self.options.flows,
        };
        let group = Group {
            target: target.clone(),
            opened: first,
            back: 0,
            rounds: 1,
            walks: Vec::new(),
            ports: BTreeSet::new(),
            usable: 0,
            before: 0,
            is_interrupted: false,
        };
        self.open.insert(target.index, group);
        self.asked += u64::from(first);
        self.waiting.push_back((target, first));
    }

    /// The next flow to open.
    pub fn take(&mut self) -> Option<Target> {
        let (target, more) = self.waiting.front_mut()?;
        *more -= 1;
        if *more == 0 {
            return self.waiting.pop_front().map(|(target, _)| target);
        }
        Some(target.clone())
    }

    /// The record of a flow. `Some`: it was the last of its target. A record of a
    /// target that was not begun here, as it never got so far, is its only one.
    pub fn back(&mut self, index: u64, trace: &Trace) -> Option<Ended> {
        let Some(group) = self.open.get_mut(&index) else {
            return Some(Ended::whole(index, None));
        };
        group.back += 1;
        group.is_interrupted |= trace.verdict == Verdict::Interrupted;
        if self.options.confidence.is_some() {
            let is_new = trace
                .source_port
                .is_none_or(|port| group.ports.insert(port));
            let found = if is_new {
                walks(trace, group.back)
            } else {
                Vec::new()
            };
            group.usable += u32::from(!found.is_empty());
            group.walks.extend(found);
        }
        if group.back < group.opened {
            return None;
        }
        let mut mda = None;
        if let Some(confidence) = self.options.confidence {
            match group.judge(confidence, self.options.most) {
                Next::More(more) => {
                    group.opened += more;
                    self.asked += u64::from(more);
                    group.rounds += 1;
                    group.before = group.usable;
                    self.waiting.push_back((group.target.clone(), more));
                    return None;
                }
                Next::Over(stopped) => {
                    mda = Some(Mda {
                        confidence,
                        is_complete: stopped.is_none(),
                        rounds: group.rounds,
                        stopped,
                    });
                }
            }
        }
        self.open.remove(&index);
        Some(Ended::whole(index, mda))
    }

    /// Ends what is under way: the run is over.
    pub fn end(&mut self) -> Vec<Ended> {
        self.waiting.clear();
        let open = std::mem::take(&mut self.open);
        let confidence = self.options.confidence;
        let end = |(index, group): (u64, Group)| Ended {
            index,
            mda: confidence.map(|confidence| Mda {
                confidence,
                is_complete: false,
                rounds: group.rounds,
                stopped: Some(Stopped::Interrupted),
            }),
            is_cut_short: true,
        };
        open.into_iter().map(end).collect()
    }
}

/// What is to be done when a batch is back.
enum Next {
    More(u32),
    Over(Option<Stopped>),
}

impl Group {
    fn judge(&self, confidence: f64, most: u32) -> Next {
        if self.is_interrupted {
            return Next::Over(Some(Stopped::Interrupted));
        }
        if self.usable == self.before {
            return Next::Over(Some(Stopped::Silent));
        }
        let status = mda::judge(&self.walks, &Graph::of(&self.walks), confidence);
        if status.is_complete {
            return Next::Over(None);
        }
        // What is known of few flows is a guess: no more than were opened so far.
        match status
            .wanted
            .clamp(1, self.opened)
            .min(most.saturating_sub(self.opened))
        {
            0 => Next::Over(Some(Stopped::FlowsMax)),
            more => Next::More(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipath::walk::tests::trace;
    use crate::report::samples;

    fn target(index: u64) -> Target {
        Target {
            index,
            name: format!("target-{index}"),
            address: [10, 0, 9, 2].into(),
            port: 80,
        }
    }

    fn options(flows: u32, confidence: Option<f64>) -> FlowsOptions {
        FlowsOptions {
            flows,
            confidence,
            most: 1024,
        }
    }

    /// Runs a target whose flow `n` takes `way(n)`; gives the flows and the end.
    fn run(options: FlowsOptions, way: &dyn Fn(u32) -> String) -> (u32, Mda) {
        let mut flows = Flows::new(options);
        flows.begin(target(3));
        let mut count = 0;
        loop {
            let next = flows.take().expect("neither a flow nor an end");
            assert_eq!(next, target(3));
            let way = way(count);
            count += 1;
            let port = if way.starts_with('=') {
                60_000
            } else {
                60_000 + count as u16
            };
            let way = way.trim_start_matches('=');
            let record = trace(port, &way.split(' ').collect::<Vec<_>>());
            if let Some(ended) = flows.back(3, &record) {
                assert!(flows.is_idle() && !flows.is_waiting());
                return (count, ended.mda.unwrap());
            }
        }
    }

    #[test]
    fn so_many_flows_of_each_target() {
        let mut flows = Flows::new(options(3, None));
        assert!(!flows.is_waiting() && flows.is_idle());
        flows.begin(target(0));
        assert!(flows.is_waiting());
        let record = trace(1, &["a", "T"]);
        let mut opened = 0;
        while let Some(next) = flows.take() {
            assert_eq!(next, target(0));
            opened += 1;
        }
        assert_eq!((opened, flows.asked()), (3, 3));
        assert!(!flows.is_waiting() && !flows.is_idle());
        assert_eq!(flows.back(0, &record), None);
        assert_eq!(flows.back(0, &record), None);
        let ended = Ended::whole(0, None);
        assert_eq!(flows.back(0, &record), Some(ended.clone()));
        assert!(flows.is_idle());
        // One that never got to the engine.
        assert_eq!(flows.back(0, &record), Some(ended));
    }

    #[test]
    fn the_rule_asks_for_more_until_it_is_satisfied() {
        let (count, mda) = run(options(1, Some(0.95)), &|_| "a b T".to_owned());
        assert_eq!((count, mda.rounds, mda.is_complete), (6, 1, true));
        // Sixteen wide: all are seen, within a few rounds.
        let wide = |flow: u32| {
            let mixed = u64::from(flow).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
            format!("a {} z T", char::from(b'b' + mixed as u8))
        };
        let (count, mda) = run(options(1, Some(0.95)), &wide);
        assert!(mda.is_complete && mda.stopped.is_none());
        assert!(count >= 96, "{count}");
        assert!(mda.rounds <= 8, "{mda:?}");
    }

    #[test]
    fn it_ends_without_being_satisfied_and_says_so() {
        let ever = |flow: u32| format!("a {} z T", char::from(b'A' + (flow % 50) as u8));
        let few = FlowsOptions {
            most: 30,
            ..options(1, Some(0.95))
        };
        let (count, mda) = run(few, &ever);
        assert_eq!((count, mda.stopped), (30, Some(Stopped::FlowsMax)));
        let (count, mda) = run(options(1, Some(0.95)), &|_| ". .".to_owned());
        assert_eq!((count, mda.stopped), (6, Some(Stopped::Silent)));
        // One flow over and over, as the ports are at their end.
        let again = |flow: u32| format!("{}a T", if flow > 0 { "=" } else { "" });
        let (count, mda) = run(options(1, Some(0.95)), &again);
        assert_eq!((count, mda.stopped), (10, Some(Stopped::Silent)));
        let mut flows = Flows::new(options(1, Some(0.95)));
        flows.begin(target(0));
        let interrupted = samples::empty("x", Verdict::Interrupted);
        for _ in 0..5 {
            assert_eq!(flows.back(0, &interrupted), None);
        }
        let ended = flows.back(0, &interrupted).unwrap();
        assert_eq!(ended.mda.unwrap().stopped, Some(Stopped::Interrupted));
    }

    #[test]
    fn what_is_under_way_can_be_ended() {
        let mut flows = Flows::new(options(2, Some(0.95)));
        flows.begin(target(0));
        flows.begin(target(1));
        let ended = flows.end();
        assert_eq!(ended.len(), 2);
        assert!(ended.iter().all(|it| it.is_cut_short));
        assert!(flows.is_idle() && flows.take().is_none());
    }
}
