//! The state machine: which probes go out when, and what their answers amount to. No
//! clock, no system call: `now` is an argument.
//!
//! Two parts. All addresses are *measured* together, in rounds, by each kind of probe:
//! that shows what numbers their packets, and whose counters differ ([`super::bounds`]
//! over all pairs, at no further packet). Pairs that are left are put on *trial*
//! ([`super::trial`]), the tightest first, several at a time, an address in one at most.
//! Who is together with another by then is not tried with it again.

use core::cmp::Reverse;
use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use super::bounds::{Bounds, merged};
use super::evidence::{self, Pair, Why};
use super::findings::{Findings, Seen};
use super::series::{Class, Counter, Sample, Series, Width};
use super::sets::sets;
use super::trial::{Outcome, Trial, Verdict};
use super::{Answer, Ask, Draw, Kind};
use crate::time::{Duration, Instant};

/// How a survey is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// By which probes.
    pub kinds: Vec<Kind>,
    /// Probes of each kind an address, to measure it.
    pub samples: u16,
    /// From one of them to the next, at least.
    pub interval: Duration,
    /// How long a probe may go unanswered.
    pub timeout: Duration,
    /// Packets a second.
    pub rate: f64,
    /// What puts two addresses together has at least this confidence.
    pub confidence: f64,
    /// Trials at a time.
    pub trials: usize,
    /// What pushes and orders are drawn from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            kinds: Kind::ALL.to_vec(),
            samples: 10,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rate: 1000.0,
            confidence: 0.95,
            trials: 64,
            seed: 0,
        }
    }
}

/// Probes that an address may leave unanswered at first before it is asked no more by
/// their kind.
const PATIENCE: u32 = 4;
/// As many answers without an identification, and there will be none: of IPv6 the first
/// ones come whole.
const UNNUMBERED: u32 = 3;
/// From one probe of a trial to the next: by kind, since routers limit errors.
const SPACING: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(500),
    Duration::from_millis(20),
];
/// A trial goes on until a coincidence is so much less likely than the confidence wants:
/// sets hang together by several pairs.
const MARGIN: f64 = 25.0;

/// How far a survey is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rounds of measuring that were begun.
    pub rounds: u16,
    /// Probes sent.
    pub sent: u64,
    /// Answers.
    pub answered: u64,
    /// Pairs that can still be put on trial.
    pub waiting: usize,
    /// Trials that run.
    pub running: usize,
    /// Trials that have ended.
    pub ended: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u16,
    sent: Instant,
    own: u32,
}

/// An address and a kind.
#[derive(Debug)]
struct Asked {
    series: Series,
    class: Class,
    /// The last probe's.
    number: u16,
    sent: u32,
    answered: u32,
    unnumbered: u32,
    pending: Vec<Pending>,
    /// TTLs of answers in its own name.
    own: Vec<u8>,
}

#[derive(Debug)]
struct Target {
    address: IpAddr,
    asked: [Asked; 3],
    /// Who else sent errors about datagrams to it, and with which TTL.
    sources: Vec<(IpAddr, u8)>,
    /// Interfaces that were named, and by whom.
    named: Vec<(IpAddr, IpAddr, Option<String>)>,
    /// In a trial.
    busy: bool,
    /// Another that it is together with; itself: none.
    with: usize,
}

#[derive(Debug)]
struct Running {
    pair: [usize; 2],
    kind: Kind,
    trial: Trial,
    /// When the next probe goes out; `None`: one is in flight.
    ready: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    pair: [usize; 2],
    kind: Kind,
    slack: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `at`: how many of the round's probes are out.
    Measure {
        round: u16,
        at: usize,
    },
    /// The last answers come in.
    Settle,
    /// Pairs are tried.
    Try,
    Done,
}

/// A survey.
#[derive(Debug)]
pub struct Survey {
    options: Options,
    targets: Vec<Target>,
    /// A round's probes, in order.
    order: Vec<(usize, Kind)>,
    draw: Draw,
    phase: Phase,
    round_begins: Instant,
    next_send: Instant,
    /// Probes in flight by the time they went out; those answered are still here.
    flying: VecDeque<(Instant, usize, Kind, u16)>,
    /// The tightest last.
    candidates: Vec<Candidate>,
    running: Vec<Running>,
    tried: Vec<([usize; 2], Kind, Outcome)>,
    /// Pairs of counters that were compared.
    pairs: f64,
    progress: Progress,
}

impl Survey {
    /// Of these addresses, each once.
    #[must_use]
    pub fn new(addresses: &[IpAddr], options: Options, now: Instant) -> Self {
        let mut draw = Draw::new(options.seed);
        let asked = |address: &IpAddr| {
            let width = match address {
                IpAddr::V4(_) => Width::Sixteen,
                IpAddr::V6(_) => Width::ThirtyTwo,
            };
            core::array::from_fn(|_| Asked {
                series: Series::new(width),
                class: Class::Silent,
                number: 0,
                sent: 0,
                answered: 0,
                unnumbered: 0,
                pending: Vec::new(),
                own: Vec::new(),
            })
        };
        let targets: Vec<_> = addresses
            .iter()
            .enumerate()
            .map(|(number, address)| Target {
                address: *address,
                asked: asked(address),
                sources: Vec::new(),
                named: Vec::new(),
                busy: false,
                with: number,
            })
            .collect();
        // Kind by kind, so that a router with many addresses is asked for errors no
        // closer together than need be.
        let mut order = Vec::new();
        let mut shuffled: Vec<_> = (0..targets.len()).collect();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, draw.below(at as u64 + 1) as usize);
        }
        for kind in &options.kinds {
            order.extend(shuffled.iter().map(|target| (*target, *kind)));
        }
        Survey {
            phase: match order.is_empty() || options.samples == 0 {
                true => Phase::Done,
                false => Phase::Measure { round: 0, at: 0 },
            },
            options,
            targets,
            order,
            draw,
            round_begins: now,
            next_send: now,
            flying: VecDeque::new(),
            candidates: Vec::new(),
            running: Vec::new(),
            tried: Vec::new(),
            pairs: 0.0,
            progress: Progress::default(),
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (waiting, running) = (self.candidates.len(), self.running.len());
        let ended = self.tried.len();
        Progress {
            waiting,
            running,
            ended,
            ..self.progress
        }
    }

    /// The probe that is due, if one is.
    pub fn poll(&mut self, now: Instant) -> Option<Ask> {
        self.expire(now);
        if now < self.next_send {
            return None;
        }
        let (target, kind) = loop {
            match self.phase {
                Phase::Measure { .. } => {
                    if let Some(next) = self.next_measured(now) {
                        break next;
                    }
                    if matches!(self.phase, Phase::Measure { .. }) {
                        return None;
                    }
                }
                Phase::Settle if self.flying.is_empty() => self.plan(),
                Phase::Settle | Phase::Done => return None,
                Phase::Try => {
                    self.start_trials(now);
                    if self.running.is_empty() {
                        self.phase = Phase::Done;
                        return None;
                    }
                    break self.next_tried(now)?;
                }
            }
        };
        Some(self.ask(target, kind, now))
    }

    /// When [`Survey::poll`] has to be called again, an answer aside.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let flying = self.flying.front();
        let lost = flying.map(|(sent, ..)| *sent + self.options.timeout);
        let due = match self.phase {
            Phase::Done => return None,
            Phase::Settle => match lost {
                Some(_) => None,
                None => Some(self.next_send),
            },
            Phase::Measure { at: 0, .. } => Some(self.round_begins.max(self.next_send)),
            Phase::Measure { .. } => Some(self.next_send),
            Phase::Try => {
                let ready = self.running.iter().filter_map(|it| it.ready).min();
                let ready = ready.map(|ready| ready.max(self.next_send));
                match self.running.is_empty() {
                    true => Some(self.next_send),
                    false => ready,
                }
            }
        };
        due.into_iter().chain(lost).min()
    }

    fn ask(&mut self, target: usize, kind: Kind, now: Instant) -> Ask {
        let own = self.draw.below(1 << 16) as u16;
        let gap = Duration::from_secs_f64(1.0 / self.options.rate.max(1e-3));
        // What was not sent in time is not made up for in a burst.
        self.next_send = self.next_send.max(Instant::from_nanos(
            now.as_nanos().saturating_sub(gap.as_nanos() as u64),
        )) + gap;
        self.progress.sent += 1;
        let it = &mut self.targets[target];
        let (address, asked) = (it.address, &mut it.asked[kind.index()]);
        asked.sent += 1;
        // Never 0, which no checksum of a datagram is.
        asked.number = asked.number.checked_add(1).unwrap_or(1);
        let number = asked.number;
        asked.pending.push(Pending {
            number,
            sent: now,
            own: own.into(),
        });
        self.flying.push_back((now, target, kind, number));
        Ask {
            target,
            address,
            kind,
            number,
            identification: own,
        }
    }

    /// The next probe of the round.
    fn next_measured(&mut self, now: Instant) -> Option<(usize, Kind)> {
        while let Phase::Measure { round, at } = self.phase {
            if at == 0 {
                if now < self.round_begins {
                    return None;
                }
                self.round_begins = now + self.options.interval;
                self.progress.rounds = round + 1;
            }
            let next = self.order.get(at).copied();
            self.phase = match next {
                Some(_) => Phase::Measure { round, at: at + 1 },
                None if round + 1 >= self.options.samples => Phase::Settle,
                None => Phase::Measure {
                    round: round + 1,
                    at: 0,
                },
            };
            if let Some((target, kind)) = next {
                let asked = &self.targets[target].asked[kind.index()];
                let silent = asked.sent >= PATIENCE && asked.answered == 0;
                let unnumbered =
                    asked.unnumbered >= UNNUMBERED && asked.series.samples().is_empty();
                if !(silent || unnumbered) {
                    return next;
                }
            }
        }
        None
    }

    /// Compares all counters: what is left is to be tried.
    fn plan(&mut self) {
        self.phase = Phase::Try;
        for asked in self.targets.iter_mut().flat_map(|it| &mut it.asked) {
            asked.class = asked.series.class();
        }
        for kind in Kind::ALL {
            let counters: Vec<_> = (0..self.targets.len())
                .filter_map(|target| Some((target, self.counter(target, kind)?)))
                .collect();
            let many = counters.len() as f64;
            self.pairs += many * (many - 1.0).max(0.0) / 2.0;
            for (nth, (one, first)) in counters.iter().enumerate() {
                for (other, second) in counters.iter().skip(nth + 1) {
                    let pair = [*one, *other];
                    if let Some(Bounds::Fits { slack }) =
                        self.compare(pair, kind, [*first, *second])
                    {
                        self.candidates.push(Candidate { pair, kind, slack });
                    }
                }
            }
        }
        // Errors about datagrams last: routers give few of them.
        let rank = |it: &Candidate| (it.kind == Kind::Datagram, it.slack, it.kind);
        self.candidates.sort_by_key(|it| Reverse(rank(it)));
    }

    fn counter(&self, target: usize, kind: Kind) -> Option<Counter> {
        self.targets.get(target)?.asked[kind.index()]
            .class
            .counter()
    }

    /// What was measured of two counters.
    fn compare(&self, pair: [usize; 2], kind: Kind, counters: [Counter; 2]) -> Option<Bounds> {
        let [one, other] = pair;
        let [first, second] = counters;
        let (one, other) = (
            &self.targets.get(one)?.asked[kind.index()].series,
            &self.targets.get(other)?.asked[kind.index()].series,
        );
        if one.width() != other.width() {
            return None;
        }
        if first.swapped != second.swapped || !self.as_far_away(pair, kind) {
            return Some(Bounds::Breaks);
        }
        let velocity = first.velocity.max(second.velocity);
        Some(merged(
            one.samples(),
            other.samples(),
            one.width(),
            first.swapped,
            velocity,
        ))
    }

    /// Whether answers of both came over as many hops: those of one router, of one kind,
    /// begin with one TTL and take one way back.
    fn as_far_away(&self, pair: [usize; 2], kind: Kind) -> bool {
        let [one, other] = pair.map(|target| {
            let target = self.targets.get(target);
            target.map_or(&[][..], |it| &it.asked[kind.index()].own)
        });
        one.iter().any(|ttl| other.contains(ttl))
    }

    /// Who stands for all that an address is together with.
    fn root(&self, mut target: usize) -> usize {
        while self.targets[target].with != target {
            target = self.targets[target].with;
        }
        target
    }

    fn start_trials(&mut self, now: Instant) {
        let mut at = self.candidates.len();
        while at > 0 && self.running.len() < self.options.trials {
            at -= 1;
            let Candidate { pair, kind, .. } = self.candidates[at];
            let [one, other] = pair;
            if self.root(one) == self.root(other) {
                self.candidates.remove(at);
                continue;
            }
            if self.targets[one].busy || self.targets[other].busy {
                continue;
            }
            self.candidates.remove(at);
            let (Some(first), Some(second)) = (self.counter(one, kind), self.counter(other, kind))
            else {
                continue;
            };
            let width = self.targets[one].asked[kind.index()].series.width();
            let goal = (1.0 - self.options.confidence) / MARGIN / self.pairs.max(1.0);
            let seed = self.draw.number();
            self.targets[one].busy = true;
            self.targets[other].busy = true;
            self.running.push(Running {
                pair,
                kind,
                trial: Trial::new(kind, width, [first, second], goal, seed),
                ready: Some(now),
            });
        }
    }

    /// The trial that has waited longest for its next probe.
    fn next_tried(&mut self, now: Instant) -> Option<(usize, Kind)> {
        let due = |it: &&mut Running| it.ready.is_some_and(|ready| ready <= now);
        let running = self.running.iter_mut().filter(due);
        let next = running.min_by_key(|it| it.ready)?;
        next.ready = None;
        Some((next.pair[next.trial.turn()], next.kind))
    }

    /// Gives up what has been in flight for too long.
    fn expire(&mut self, now: Instant) {
        while let Some((sent, target, kind, number)) = self.flying.front().copied() {
            if sent + self.options.timeout > now {
                // Of what was answered nothing is left.
                let pending = &self.targets[target].asked[kind.index()].pending;
                if pending.iter().any(|it| it.number == number) {
                    return;
                }
            }
            self.flying.pop_front();
            if self.take(target, kind, Some(number)).is_some() {
                self.tell_trial(target, kind, None, now);
            }
        }
    }

    /// Takes a probe out of those that wait for their answer.
    fn take(&mut self, target: usize, kind: Kind, number: Option<u16>) -> Option<Pending> {
        let pending = &mut self.targets.get_mut(target)?.asked[kind.index()].pending;
        let at = match number {
            Some(number) => pending.iter().position(|it| it.number == number)?,
            // Which is meant is known only where there is one.
            None if pending.len() == 1 => 0,
            None => return None,
        };
        Some(pending.swap_remove(at))
    }

    /// An answer has come.
    pub fn answered(&mut self, answer: &Answer) {
        let (number, kind) = (answer.number, answer.kind);
        let Some(probe) = self.take(answer.target, kind, number) else {
            return;
        };
        self.progress.answered += 1;
        let target = &mut self.targets[answer.target];
        let own = answer.from == target.address;
        let asked = &mut target.asked[kind.index()];
        asked.answered += 1;
        for interface in answer.interfaces.iter().filter(|it| it.role.is_own()) {
            let Some(address) = interface.address else {
                continue;
            };
            let known = |(by, it, _): &(IpAddr, IpAddr, _)| (*by, *it) == (answer.from, address);
            if address != answer.from && !target.named.iter().any(known) {
                let named = (answer.from, address, interface.name.clone());
                target.named.push(named);
            }
        }
        let asked = &mut target.asked[kind.index()];
        let mut sample = None;
        if own {
            if !asked.own.contains(&answer.ttl) {
                asked.own.push(answer.ttl);
            }
            match answer.id {
                None => asked.unnumbered += 1,
                Some(id) => {
                    sample = Some(Sample {
                        sent: probe.sent,
                        received: answer.at.max(probe.sent),
                        id,
                        own: probe.own,
                    });
                }
            }
        } else if answer.port_unreachable && kind == Kind::Datagram {
            let source = (answer.from, answer.ttl);
            if !target.sources.contains(&source) {
                target.sources.push(source);
            }
        }
        if let Some(sample) = sample
            && matches!(self.phase, Phase::Measure { .. } | Phase::Settle)
        {
            asked.series.add(sample);
        }
        self.tell_trial(answer.target, kind, sample, answer.at);
    }

    /// What became of a probe, to the trial that it was of.
    fn tell_trial(&mut self, target: usize, kind: Kind, sample: Option<Sample>, now: Instant) {
        let of = |it: &Running| {
            it.ready.is_none() && it.kind == kind && it.pair[it.trial.turn()] == target
        };
        let Some(at) = self.running.iter().position(of) else {
            return;
        };
        let running = &mut self.running[at];
        let ended = match sample {
            Some(sample) => running.trial.answered(sample),
            None => running.trial.unanswered(),
        };
        let Some(outcome) = ended else {
            running.ready = Some(now + SPACING[kind.index()]);
            return;
        };
        let Running { pair, kind, .. } = self.running.swap_remove(at);
        for target in pair {
            self.targets[target].busy = false;
        }
        self.tried.push((pair, kind, outcome));
        let sure = 1.0 - outcome.chance * self.pairs.max(1.0);
        if outcome.verdict == Verdict::Fits && sure >= self.options.confidence {
            let [one, other] = pair.map(|target| self.root(target));
            self.targets[other].with = one;
        }
    }

    /// What came of it. Trials that still run count for nothing.
    #[must_use]
    pub fn finish(self) -> Findings {
        let address = |target: usize| self.targets[target].address;
        let mut pairs: Vec<_> = self
            .tried
            .iter()
            .map(|([one, other], kind, outcome)| {
                let why = Why::Counter {
                    kind: *kind,
                    outcome: *outcome,
                    pairs: self.pairs.max(1.0),
                };
                Pair::new(address(*one), address(*other), why)
            })
            .collect();
        for target in &self.targets {
            let own: Vec<u8> = target
                .asked
                .iter()
                .flat_map(|it| &it.own)
                .copied()
                .collect();
            let mut told: Vec<Pair> = Vec::new();
            for (from, ttl) in &target.sources {
                let pair = evidence::source(target.address, *from, *ttl, &own);
                // Several TTLs: what speaks against it is heard.
                match told
                    .iter_mut()
                    .find(|it| (it.one, it.other) == (pair.one, pair.other))
                {
                    Some(known) if pair.confidence() < known.confidence() => *known = pair,
                    Some(_) => {}
                    None => told.push(pair),
                }
            }
            for (by, named, interface) in &target.named {
                let interface = interface.clone();
                told.push(Pair::new(*by, *named, Why::Named { interface }));
            }
            for pair in told {
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
        let numbers = self.targets.iter().enumerate();
        let numbers: HashMap<IpAddr, usize> =
            numbers.map(|(number, it)| (it.address, number)).collect();
        let number = |address: IpAddr| numbers.get(&address).copied();
        let apart = |one: IpAddr, other: IpAddr| {
            let (Some(one), Some(other)) = (number(one), number(other)) else {
                return false;
            };
            let same = |pair: &[usize; 2]| *pair == [one, other] || *pair == [other, one];
            let verdicts = self.tried.iter().filter(|(pair, ..)| same(pair));
            let mut verdicts = verdicts.map(|(_, _, outcome)| outcome.verdict);
            let breaks = |kind: Kind| {
                let counters = [self.counter(one, kind)?, self.counter(other, kind)?];
                self.compare([one, other], kind, counters)
            };
            verdicts.any(|verdict| verdict == Verdict::Apart)
                || Kind::ALL
                    .into_iter()
                    .any(|kind| breaks(kind) == Some(Bounds::Breaks))
        };
        let found = sets(&pairs, self.options.confidence, &apart);
        let seen = self.targets.iter().map(|target| Seen {
            address: target.address,
            classes: target.asked.each_ref().map(|asked| asked.class),
            answered: target.asked.iter().map(|asked| asked.answered).sum(),
        });
        Findings {
            seen: seen.collect(),
            pairs,
            sets: found.sets,
            contradicted: found.contradicted,
            compared: self.pairs,
            sent: self.progress.sent,
            complete: self.phase == Phase::Done,
        }
    }
}
