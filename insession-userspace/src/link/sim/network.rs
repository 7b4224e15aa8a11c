//! The network at work: packets on their ways, events in order of time.
//!
//! A packet's way out is walked at once, up to where it ends; what happens there
//! (a token is taken, a segment is queued) is an event of its own time. The way
//! back is the same, backwards.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::middlebox::{change, flow_hash, has_payload, outside, undo};
use super::packet::{self, Editor};
use super::rng::{Mixers, Rng, mix};
use super::scenario::{
    Answer, Balance, Line, MAX_BALANCERS, QuoteLength, Rejection, RouterId, Scenario, Target,
};
use super::server::{self, Outgoing, Peer};
use super::truth::{Fate, Mark, ProbeTruth, Truth};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::wire::icmp::{self, Version};
use crate::wire::tcp::flags;
use crate::wire::{ethernet, ip, tcp};

mod mtu;

/// A frame that arrives here.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) at: Instant,
    pub(super) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Network {
    scenario: Arc<Scenario>,
    seed: u64,
    rng: Rng,
    events: BinaryHeap<Event>,
    serial: u64,
    by_flow: HashMap<Flow, u32, Mixers>,
    flows: Vec<FlowState>,
    /// Of each router with a limit: when its bucket is full again.
    full_again: Vec<Instant>,
    truth: Arc<Mutex<Truth>>,
    steps: Vec<Passed>,
    answers: Vec<Outgoing>,
}

#[derive(Debug)]
struct FlowState {
    flow: Flow,
    target: u32,
    /// Ethernet header of what we sent.
    link: ethernet::Repr,
    peer: Option<Box<Peer>>,
    connections: u32,
    /// The way of the latest segment that reached the server.
    choice: Choice,
    armed: Option<Instant>,
}

/// Which branch of each balancer was taken.
type Choice = [u8; MAX_BALANCERS];

/// Where a packet is: it has reached the router `step` of the branch of
/// `stage`, or (`crossed` false) is about to.
#[derive(Clone, Copy, Debug)]
struct Position {
    stage: usize,
    step: usize,
    balancers: usize,
    branch: usize,
    crossed: bool,
    choice: Choice,
}

/// A packet on its way out.
#[derive(Clone, Debug)]
struct Travel {
    flow: u32,
    mark: Option<Mark>,
    at: Instant,
    position: Position,
    packet: Vec<u8>,
}

/// A router on the way, and who we are as it sees us.
#[derive(Clone, Copy, Debug)]
struct Passed {
    line: Line,
    router: RouterId,
    inside: SocketAddr,
}

#[derive(Debug)]
struct Event {
    at: Instant,
    /// Of two at one time the older comes first.
    serial: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A packet ends at a router.
    Ends {
        travel: Box<Travel>,
        router: RouterId,
        why: Why,
    },
    /// A packet reaches the server.
    Arrives(Box<Travel>),
    /// A server's timer.
    Timer(u32),
    /// A packet reaches us.
    Delivers { flow: u32, packet: Vec<u8> },
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Expired,
    Rejected(Rejection),
}

impl Network {
    pub(super) fn new(scenario: Arc<Scenario>, seed: u64, truth: Arc<Mutex<Truth>>) -> Self {
        Network {
            full_again: vec![Instant::ZERO; scenario.routers.len()],
            scenario,
            seed,
            rng: Rng::new(mix(seed)),
            events: BinaryHeap::new(),
            serial: 0,
            by_flow: HashMap::default(),
            flows: Vec::new(),
            truth,
            steps: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Takes a frame from us; `false` when it is none that a network forwards:
    /// not IP with TCP in it, or a checksum is wrong.
    pub(super) fn inject(&mut self, now: Instant, frame: &[u8]) -> bool {
        let Ok(link) = ethernet::Frame::new(frame) else {
            return false;
        };
        let Ok(parsed) = ip::Packet::arrived(link.payload()) else {
            return false;
        };
        let Ok(segment) = tcp::Segment::new(parsed.payload) else {
            return false;
        };
        let pseudo = parsed.pseudo(parsed.payload.len());
        if parsed.protocol != ip::PROTOCOL_TCP || !pseudo.bytes(parsed.payload).is_valid() {
            return false;
        }
        let flow = Flow {
            local: SocketAddr::new(parsed.source, segment.source_port()),
            remote: SocketAddr::new(parsed.destination, segment.destination_port()),
        };
        let target = self.scenario.find(parsed.destination);
        let fate = match target {
            Some(_) => Fate::Travels,
            None => Fate::Lost,
        };
        let mark = (self.scenario.keep_truth && !segment.payload().is_empty()).then(|| {
            let probe = ProbeTruth {
                sequence: segment.sequence(),
                ttl: parsed.ttl,
                sent: now,
                fate,
            };
            lock(&self.truth).note(&flow, probe)
        });
        let Some(target) = target else { return true };
        let next = self.flows.len() as u32;
        let index = *self.by_flow.entry(flow).or_insert(next);
        let link_repr = ethernet::Repr::parse(&link);
        if index == next {
            self.flows.push(FlowState {
                flow,
                target,
                link: link_repr,
                peer: None,
                connections: 0,
                choice: Choice::default(),
                armed: None,
            });
        }
        let len = packet::header_len(link.payload()) + parsed.payload.len();
        let travel = Travel {
            flow: index,
            mark,
            at: now,
            position: Position {
                stage: 0,
                step: 0,
                balancers: 0,
                branch: 0,
                crossed: false,
                choice: Choice::default(),
            },
            packet: link.payload()[..len].to_vec(),
        };
        self.forward(Box::new(travel));
        true
    }

    /// When the next event is.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.events.peek().map(|event| event.at)
    }

    /// Plays the next event; what it delivers here comes back.
    pub(super) fn play(&mut self) -> Option<Delivery> {
        let Event { at, what, .. } = self.events.pop()?;
        match what {
            What::Ends {
                travel,
                router,
                why,
            } => self.answer(at, *travel, router, why),
            What::Arrives(travel) => self.arrive(at, &travel),
            What::Timer(flow) => self.timer(at, flow),
            What::Delivers { flow, packet } => {
                let state = &self.flows[flow as usize];
                let link = ethernet::Repr {
                    destination: state.link.source,
                    source: state.link.destination,
                    ..state.link
                };
                let start = link.buffer_len();
                let mut bytes = vec![0; start + packet.len()];
                link.emit(&mut bytes);
                bytes[start..].copy_from_slice(&packet);
                return Some(Delivery { at, bytes });
            }
        }
        None
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.serial += 1;
        self.events.push(Event {
            at,
            serial: self.serial,
            what,
        });
    }

    fn settle(&self, mark: Option<Mark>, fate: Fate) {
        if let Some(mark) = mark {
            lock(&self.truth).settle(mark, fate);
        }
    }

    /// When what is sent over `line` now arrives: once, twice or never.
    fn cross(&mut self, line: &Line, at: Instant) -> [Option<Instant>; 2] {
        if self.rng.chance(line.loss) {
            return [None, None];
        }
        let once = |rng: &mut Rng| {
            let mut at = at + line.latency + rng.span(line.jitter);
            if rng.chance(line.reorder.0) {
                at = at + line.reorder.1;
            }
            at
        };
        let first = once(&mut self.rng);
        let second = self
            .rng
            .chance(line.duplicate)
            .then(|| once(&mut self.rng) + Duration::from_micros(1));
        [Some(first), second]
    }

    /// Walks a packet out, to where it ends.
    fn forward(&mut self, mut travel: Box<Travel>) {
        let scenario = Arc::clone(&self.scenario);
        let target = &scenario.targets[self.flows[travel.flow as usize].target as usize];
        // The latest router that forwarded it.
        let mut last = None;
        loop {
            let position = travel.position;
            let Some(stage) = target.way.get(position.stage) else {
                if travel.packet.len() > usize::from(target.last.mtu) {
                    return self.too_long(travel, last, target.last.mtu);
                }
                let [Some(first), second] = self.crossed(&travel, &target.last) else {
                    return;
                };
                if let Some(at) = second {
                    let mut copy = travel.clone();
                    copy.at = at;
                    self.schedule(at, What::Arrives(copy));
                }
                travel.at = first;
                self.schedule(first, What::Arrives(travel));
                return;
            };
            if position.step == 0 && !position.crossed && stage.branches.len() > 1 {
                let count = stage.branches.len();
                let chosen = match stage.balance {
                    Balance::PerFlow => {
                        (flow_hash(&travel.packet, position.stage) % count as u64) as usize
                    }
                    Balance::PerPacket => self.rng.below(count as u64) as usize,
                };
                travel.position.branch = chosen;
                travel.position.choice[position.balancers] = chosen as u8;
            }
            let branch = stage.branches.get(travel.position.branch);
            let Some(step) = branch.and_then(|branch| branch.get(position.step)) else {
                travel.position.stage += 1;
                travel.position.step = 0;
                travel.position.branch = 0;
                travel.position.balancers += usize::from(stage.branches.len() > 1);
                continue;
            };
            if !position.crossed && travel.packet.len() > usize::from(step.line.mtu) {
                return self.too_long(travel, last, step.line.mtu);
            }
            if !position.crossed {
                let [Some(first), second] = self.crossed(&travel, &step.line) else {
                    return;
                };
                travel.position.crossed = true;
                travel.at = first;
                if let Some(at) = second {
                    let mut copy = travel.clone();
                    copy.at = at;
                    self.forward(copy);
                }
            }
            let router = &scenario.routers[step.router.0 as usize];
            let why = if Editor::new(&mut travel.packet).ttl() <= 1 {
                Some(Why::Expired)
            } else {
                router
                    .rejects
                    .filter(|reject| !reject.only_data || has_payload(&travel.packet))
                    .map(|reject| Why::Rejected(reject.answer))
            };
            if let Some(why) = why {
                let (at, router) = (travel.at, step.router);
                self.schedule(
                    at,
                    What::Ends {
                        travel,
                        router,
                        why,
                    },
                );
                return;
            }
            let mut editor = Editor::new(&mut travel.packet);
            let ttl = editor.ttl();
            editor.set_ttl(ttl - 1);
            if let Some(middlebox) = &router.middlebox {
                change(middlebox, &mut travel.packet);
            }
            last = Some((travel.position, step.router));
            travel.position.step += 1;
            travel.position.crossed = false;
        }
    }

    /// [`Network::cross`] on the way out: notes the loss.
    fn crossed(&mut self, travel: &Travel, line: &Line) -> [Option<Instant>; 2] {
        let crossed = self.cross(line, travel.at);
        if crossed[0].is_none() {
            self.settle(travel.mark, Fate::Lost);
        }
        crossed
    }

    /// A router answers a packet that ends at it, or does not.
    fn answer(&mut self, at: Instant, mut travel: Travel, id: RouterId, why: Why) {
        let scenario = Arc::clone(&self.scenario);
        let router = &scenario.routers[id.0 as usize];
        let v6 = packet::is_v6(&travel.packet);
        let address = match v6 {
            true => router.v6.map(IpAddr::V6),
            false => router.v4.map(IpAddr::V4),
        };
        let Some(from) = address.filter(|_| !router.silent && self.take_token(at, id)) else {
            self.settle(travel.mark, Fate::Discarded(id));
            return;
        };
        let mut editor = Editor::new(&mut travel.packet);
        let ttl = editor.ttl();
        if router.counts_first || matches!(why, Why::Rejected(_)) {
            editor.set_ttl(ttl.saturating_sub(1));
        }
        let version = if v6 { Version::V6 } else { Version::V4 };
        let (icmp_type, code, mtu) = match (why, version) {
            (Why::Expired, Version::V4) => (icmp::V4_TIME_EXCEEDED, 0, None),
            (Why::Expired, Version::V6) => (icmp::V6_TIME_EXCEEDED, 0, None),
            (Why::Rejected(Rejection::Unreachable(code)), Version::V4) => {
                (icmp::V4_UNREACHABLE, code, None)
            }
            (Why::Rejected(Rejection::Unreachable(code)), Version::V6) => {
                (icmp::V6_UNREACHABLE, code, None)
            }
            (Why::Rejected(Rejection::TooBig(mtu)), Version::V4) => (
                icmp::V4_UNREACHABLE,
                icmp::V4_FRAGMENTATION_NEEDED,
                Some(mtu),
            ),
            (Why::Rejected(Rejection::TooBig(mtu)), Version::V6) => {
                (icmp::V6_PACKET_TOO_BIG, 0, Some(mtu))
            }
        };
        let mut quoted = match router.quote {
            QuoteLength::Whole => travel.packet.len(),
            QuoteLength::Octets(octets) => packet::header_len(&travel.packet) + usize::from(octets),
        };
        quoted = quoted.min(travel.packet.len());
        // Labels go with a padded quote, and "packet too big" has no room for them.
        let labels = match mtu {
            None => router.labels.clone(),
            Some(_) => Vec::new(),
        };
        if !labels.is_empty() {
            quoted = quoted.min(icmp::PADDED_QUOTE);
        }
        self.retrace(travel.flow, &travel.position);
        let Some(here) = self.steps.last().copied() else {
            return;
        };
        let error = icmp::Repr {
            version,
            icmp_type,
            code,
            mtu: mtu.map(u32::from),
            quote: &travel.packet[..quoted],
            labels,
            form: router.form,
        };
        let packet = packet::icmp_error(from, here.inside.ip(), router.ttl, &error);
        let mut sent = at + router.slow;
        if let Some((probability, longer)) = router.late
            && self.rng.chance(probability)
        {
            sent = sent + longer;
        }
        self.steps.pop();
        let line = here.line;
        let delivered = self.backward(sent, travel.flow, line, packet, Some(quoted));
        self.settle(
            travel.mark,
            Fate::Router {
                router: id,
                from: delivered.map_or(from, |(_, from)| from),
                icmp_type,
                icmp_code: code,
                delivered: delivered.map(|(at, _)| at),
            },
        );
    }

    fn take_token(&mut self, at: Instant, id: RouterId) -> bool {
        let Some(limit) = self.scenario.routers[id.0 as usize].limit else {
            return true;
        };
        let full_again = &mut self.full_again[id.0 as usize];
        let owed = full_again.since(at);
        if owed > limit.interval * limit.burst.saturating_sub(1) {
            return false;
        }
        *full_again = at.max(*full_again) + limit.interval;
        true
    }

    /// Fills `steps` with the routers up to `position`.
    fn retrace(&mut self, flow: u32, position: &Position) {
        let scenario = Arc::clone(&self.scenario);
        let state = &self.flows[flow as usize];
        let target = &scenario.targets[state.target as usize];
        let mut inside = state.flow.local;
        let mut balancers = 0;
        self.steps.clear();
        for (number, stage) in target.way.iter().enumerate().take(position.stage + 1) {
            let branch = match stage.branches.len() {
                0 => continue,
                1 => 0,
                _ => {
                    balancers += 1;
                    usize::from(position.choice[balancers - 1])
                }
            };
            let steps = &stage.branches[branch];
            let count = match number == position.stage {
                true => (position.step + 1).min(steps.len()),
                false => steps.len(),
            };
            for step in &steps[..count] {
                self.steps.push(Passed {
                    line: step.line,
                    router: step.router,
                    inside,
                });
                let router = &scenario.routers[step.router.0 as usize];
                inside = outside(router.middlebox.as_ref(), inside);
            }
        }
    }

    /// Walks a packet back over `line` and then through `steps`, last first;
    /// returns when and from whom it arrives here. `quoted`: it is an ICMP
    /// error that quotes so much.
    fn backward(
        &mut self,
        at: Instant,
        flow: u32,
        mut line: Line,
        mut packet: Vec<u8>,
        quoted: Option<usize>,
    ) -> Option<(Instant, IpAddr)> {
        let scenario = Arc::clone(&self.scenario);
        let mut arrivals = [Some(at), None];
        let steps = std::mem::take(&mut self.steps);
        let mut passed = steps.iter().rev();
        let first = loop {
            arrivals = self.cross_all(&line, arrivals);
            let Some(first) = arrivals[0] else { break None };
            let Some(step) = passed.next() else {
                break Some(first);
            };
            let mut editor = Editor::new(&mut packet);
            let ttl = editor.ttl();
            if ttl <= 1 {
                break None;
            }
            editor.set_ttl(ttl - 1);
            let router = &scenario.routers[step.router.0 as usize];
            if let Some(middlebox) = &router.middlebox {
                let remote = self.flows[flow as usize].flow.remote;
                undo(middlebox, &mut packet, step.inside, remote, quoted);
            }
            line = step.line;
        };
        self.steps = steps;
        let first = first?;
        let from = ip::Packet::quoted(&packet).ok()?.source;
        if let Some(second) = arrivals[1] {
            let packet = packet.clone();
            self.schedule(second, What::Delivers { flow, packet });
        }
        self.schedule(first, What::Delivers { flow, packet });
        // The second copy may have overtaken the first.
        let earliest = arrivals[1].map_or(first, |second| first.min(second));
        Some((earliest, from))
    }

    /// Two copies at most go on.
    fn cross_all(&mut self, line: &Line, copies: [Option<Instant>; 2]) -> [Option<Instant>; 2] {
        let mut arrived = [None, None];
        for at in copies.into_iter().flatten() {
            for copy in self.cross(line, at).into_iter().flatten() {
                if let Some(slot) = arrived.iter_mut().find(|slot| slot.is_none()) {
                    *slot = Some(copy);
                }
            }
        }
        arrived
    }

    /// A segment reaches the server.
    fn arrive(&mut self, at: Instant, travel: &Travel) {
        let scenario = Arc::clone(&self.scenario);
        let Ok(parsed) = ip::Packet::arrived(&travel.packet) else {
            return;
        };
        let Ok(segment) = tcp::Segment::new(parsed.payload) else {
            return;
        };
        // What middleboxes left behind is looked at as a server would.
        let pseudo = parsed.pseudo(parsed.payload.len());
        if !pseudo.bytes(parsed.payload).is_valid() {
            return;
        }
        let state = &mut self.flows[travel.flow as usize];
        let server = &scenario.targets[state.target as usize].server;
        state.choice = travel.position.choice;
        let mut answers = std::mem::take(&mut self.answers);
        let mut accepted = false;
        match &mut state.peer {
            Some(peer) => {
                let taken = peer.handle(server, &segment, at, &mut answers);
                accepted = taken.accepted;
                if taken.closed {
                    state.peer = None;
                }
            }
            None => {
                let syn = segment.flags() & (flags::SYN | flags::ACK | flags::RST) == flags::SYN;
                if syn && server.answer == Answer::Listens {
                    state.connections += 1;
                    let unique = u64::from(travel.flow) << 32 | u64::from(state.connections);
                    let iss = mix(self.seed ^ mix(unique)) as u32;
                    let peer = Peer::accept(server, iss, &segment, at, &mut answers);
                    state.peer = Some(Box::new(peer));
                } else {
                    answers.extend(server::stranger(server, &segment));
                }
            }
        }
        self.settle(travel.mark, Fate::Server { at, accepted });
        self.send(at, travel.flow, &mut answers);
        self.answers = answers;
    }

    fn timer(&mut self, at: Instant, flow: u32) {
        let scenario = Arc::clone(&self.scenario);
        let state = &mut self.flows[flow as usize];
        let server = &scenario.targets[state.target as usize].server;
        state.armed = None;
        let mut answers = std::mem::take(&mut self.answers);
        if let Some(peer) = &mut state.peer
            && peer.poll_timeout().is_some_and(|due| due <= at)
            && peer.handle_timeout(server, at, &mut answers).closed
        {
            state.peer = None;
        }
        self.send(at, flow, &mut answers);
        self.answers = answers;
    }

    /// Sends a server's segments, and sets its timer.
    fn send(&mut self, at: Instant, flow: u32, answers: &mut Vec<Outgoing>) {
        let scenario = Arc::clone(&self.scenario);
        for answer in answers.drain(..) {
            let state = &self.flows[flow as usize];
            let target: &Target = &scenario.targets[state.target as usize];
            let position = Position {
                stage: target.way.len(),
                step: 0,
                balancers: 0,
                branch: 0,
                crossed: false,
                choice: state.choice,
            };
            let (remote, local) = (state.flow.remote, state.flow.local);
            self.retrace(flow, &position);
            let to = self.steps.last().map_or(local, |last| {
                let router = &scenario.routers[last.router.0 as usize];
                outside(router.middlebox.as_ref(), last.inside)
            });
            let packet = packet::segment(remote, to, target.server.ttl, &answer);
            self.backward(at, flow, target.last, packet, None);
        }
        let state = &mut self.flows[flow as usize];
        let due = state.peer.as_ref().and_then(|peer| peer.poll_timeout());
        if let Some(due) = due
            && state.armed.is_none_or(|armed| due < armed)
        {
            state.armed = Some(due);
            self.schedule(due, What::Timer(flow));
        }
    }
}

/// The lock of a truth whose holder never panics in between.
pub(super) fn lock(truth: &Mutex<Truth>) -> MutexGuard<'_, Truth> {
    truth.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ord for Event {
    /// Turned around: the heap gives out the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}
