//! Scripts of (time, event) → actions, one for each rule.
//!
//! [`Script`] drives one session by the drain rule, with an explicit clock; what
//! the peer and the routers say is the test's to decide.

mod alone;
mod changes;
mod close;
mod dup_acks;
mod handshake;
mod hostile;
mod leaving;
mod mtu;
mod network;
mod order;
mod property;
mod quotes;
mod rewriting;
mod sacks;
mod segments;
mod sidecar;
mod store;
mod usual;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::time::{Duration, Instant};
use crate::trace::{Method, Probe, ReplyKind};
use crate::wire::tcp::{Options, SackBlock, SackBlocks, flags};
use crate::wire::template::SegmentOptions;

/// Our initial sequence number, unless a test has its own.
const ISN: u32 = 1_000;
/// The peer's.
const PEER_ISN: u32 = 9_000;
/// What a script's session adds to the clock's milliseconds for its TSval.
const TS_OFFSET: u32 = 77_000;
/// The target.
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
/// Handshake and replies take this long, unless a test says otherwise.
const RTT: Duration = ms(10);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The router at a TTL.
fn router(ttl: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, ttl))
}

fn flow() -> Flow {
    Flow {
        local: "192.0.2.1:61000".parse().unwrap(),
        remote: SocketAddr::new(TARGET, 443),
    }
}

/// One hop of probes each, everything else as users get it.
fn options() -> SessionOptions {
    SessionOptions {
        probes: 1,
        ..Default::default()
    }
}

struct Script {
    options: SessionOptions,
    session: Session,
    now: Instant,
    isn: u32,
    /// All that was sent, with its moment.
    sent: Vec<(Instant, Transmit)>,
    /// How much of `sent` a test has seen.
    seen: usize,
    /// All that was told.
    events: Vec<Event>,
    /// It is driven as the engine does: what it says at a glance is believed, and the
    /// timer never put off.
    swift: bool,
    /// That timer.
    timer: Option<Instant>,
}

impl Script {
    /// A session that has sent its SYN.
    fn new(options: SessionOptions) -> Self {
        Self::with_isn(options, ISN)
    }

    fn with_isn(options: SessionOptions, isn: u32) -> Self {
        Self::with(options, isn, |_| {})
    }

    /// The same, of a session that was changed before anything else.
    fn with(options: SessionOptions, isn: u32, change: impl FnOnce(&mut Session)) -> Self {
        // Not the clock's origin: nothing may depend on it.
        let now = Instant::from_nanos(5_000_000_000_000);
        let mut session = Session::new(flow(), isn, TS_OFFSET, 1460, now);
        change(&mut session);
        let mut script = Script {
            session,
            options,
            now,
            isn,
            sent: vec![],
            seen: 0,
            events: vec![],
            swift: false,
            timer: None,
        };
        script.drain();
        script
    }

    /// A session whose peer is `hops` away by its SYN-ACK's TTL, open.
    fn open(options: SessionOptions, hops: u8) -> Self {
        Self::open_with(options, hops, |_| {})
    }

    /// The same, with a SYN-ACK of one's own.
    fn open_with(options: SessionOptions, hops: u8, edit: impl FnOnce(&mut Segment)) -> Self {
        let mut script = Self::new(options);
        script.take();
        script.wait(RTT);
        let mut hello = script.syn_ack();
        hello.ttl = 65 - hops;
        edit(&mut hello);
        script.segment(hello);
        script
    }

    /// The drain rule.
    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
        for _ in 0..1_000 {
            let wants = self.session.wants_transmit(&self.options, self.now);
            if self.swift {
                self.glance(wants);
            }
            if !wants && self.swift {
                return;
            }
            if !wants {
                assert_eq!(self.session.poll_transmit(&self.options, self.now), None);
                return;
            }
            let transmit = self.poll();
            self.session.handle_transmitted(transmit.kind, self.now);
            self.sent.push((self.now, transmit));
        }
        panic!("it never stops sending at {:?}", self.now);
    }

    /// What it says at a glance is so; where it says nothing, everything was looked
    /// at.
    fn glance(&mut self, wants: bool) {
        let next = self.session.after(&self.options, self.now);
        assert_eq!(next.wants_transmit, wants);
        if self.session.is_swift() {
            assert!(wants && next.timeout.is_some());
        } else if self.session.is_held() {
            assert!(!wants && next.timeout.is_some());
        } else {
            self.session.settled(&self.options, &next);
            let at = next.timeout.map(|(at, _)| at);
            self.timer = at.map(|at| self.timer.map_or(at, |timer| timer.min(at)));
        }
        let due = next.timeout.map(|(at, _)| at);
        assert!(due.is_none_or(|due| self.timer.is_some_and(|timer| timer <= due)));
    }

    /// From here on it is driven as the engine does.
    fn hurry(&mut self) {
        self.swift = true;
        self.drain();
    }

    /// The next segment, which is wanted.
    fn poll(&mut self) -> Transmit {
        if !self.swift || !self.session.is_swift() {
            let transmit = self.session.poll_transmit(&self.options, self.now);
            return transmit.expect("wants_transmit promised a segment");
        }
        let probe = self.session.peek_swift(moment(self.now));
        let id = self.session.take_swift(&self.options);
        Transmit {
            alone: None,
            kind: TransmitKind::Probe(id),
            segment: Varying {
                ttl: probe.ttl,
                sequence: probe.sequence,
                acknowledgment: probe.acknowledgment,
                flags: flags::ACK | flags::PSH,
                window: probe.window,
                options: SegmentOptions::Timestamps {
                    tsval: probe.tsval,
                    tsecr: probe.tsecr,
                },
                payload_len: 1,
            },
        }
    }

    /// Lets time pass, timers included.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            let next = match self.swift {
                true => self.timer,
                false => {
                    let timeout = self.session.poll_timeout(&self.options, self.now);
                    timeout.map(|(at, _)| at)
                }
            };
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.timer = None;
                    self.session.handle_timeout(&self.options, self.now);
                    self.drain();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("its timers never stop at {:?}", self.now);
    }

    /// What was sent since the last call.
    fn take(&mut self) -> Vec<Transmit> {
        let new = self.sent[self.seen..].iter().map(|(_, sent)| *sent);
        let new = new.collect();
        self.seen = self.sent.len();
        new
    }

    /// The TTLs of the probes sent since the last call of this or `take`.
    fn take_ttls(&mut self) -> Vec<u8> {
        let sent = self.take().into_iter();
        sent.filter(|sent| matches!(sent.kind, TransmitKind::Probe(_)))
            .map(|sent| sent.segment.ttl)
            .collect()
    }

    fn kinds(&mut self) -> Vec<TransmitKind> {
        self.take().iter().map(|sent| sent.kind).collect()
    }

    fn reply(&mut self, reply: &Reply) {
        self.session.handle_reply(&self.options, self.now, reply);
        self.drain();
    }

    fn segment(&mut self, segment: Segment) {
        self.reply(&Reply::Segment(segment));
    }

    /// A SYN-ACK as Linux sends it.
    fn syn_ack(&self) -> Segment {
        Segment {
            sequence: PEER_ISN,
            acknowledgment: self.isn.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: 65_160,
            payload_len: 0,
            ttl: 55,
            options: Options {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some((500, self.tsval())),
                sack: SackBlocks::default(),
            },
        }
    }

    /// The SYN-ACK of a peer that does not know SACK.
    fn no_sack(hello: &mut Segment) {
        hello.options.sack_permitted = false;
    }

    /// A pure ACK of what the peer has: all but the gap byte.
    fn ack(&self) -> Segment {
        Segment {
            sequence: PEER_ISN + 1,
            acknowledgment: self.isn.wrapping_add(1),
            flags: flags::ACK,
            window: 510,
            payload_len: 0,
            ttl: 55,
            options: Options {
                timestamps: Some((600, self.tsval())),
                ..Options::default()
            },
        }
    }

    /// An ACK with these blocks.
    fn sack_blocks(&self, blocks: &[(u32, u32)]) -> Segment {
        let mut ack = self.ack();
        for (left, right) in blocks {
            assert!(ack.options.sack.push(SackBlock {
                left: *left,
                right: *right
            }));
        }
        ack
    }

    /// An ACK that names these probes, the first of them as the latest arrival.
    fn sack(&self, probes: &[u16]) -> Segment {
        let blocks: Vec<_> = probes
            .iter()
            .map(|nth| (self.sequence(*nth), self.sequence(*nth).wrapping_add(1)))
            .collect();
        self.sack_blocks(&blocks)
    }

    fn sacked(&mut self, probes: &[u16]) {
        let segment = self.sack(probes);
        self.segment(segment);
    }

    fn dup_ack(&mut self) {
        let ack = self.ack();
        self.segment(ack);
    }

    fn reset_segment(&self) -> Segment {
        Segment {
            flags: flags::RST,
            acknowledgment: 0,
            options: Options::default(),
            ..self.ack()
        }
    }

    fn tsval(&self) -> u32 {
        TS_OFFSET.wrapping_add((self.now.as_nanos() / 1_000_000) as u32)
    }

    /// What RFC 9293 calls SND.UNA, of the first connection.
    fn base(&self) -> u32 {
        self.isn.wrapping_add(1)
    }

    /// The sequence number that probe `nth` (from 1) of the first connection has.
    fn sequence(&self, nth: u16) -> u32 {
        self.base()
            .wrapping_add(1)
            .wrapping_add(2 * (u32::from(nth) - 1))
    }

    /// The time exceeded that probe `nth` draws from the router at its TTL.
    fn exceeded(&self, nth: u16) -> IcmpError {
        let (ttl, _) = self.session.probe(number(nth)).expect("not sent yet");
        IcmpError {
            from: router(ttl),
            kind: IcmpKind::TimeExceeded,
            icmp_type: 11,
            icmp_code: 0,
            ttl: 255 - ttl,
            quote: self.quote(self.sequence(nth)),
            mpls: vec![],
        }
    }

    fn quote(&self, sequence: u32) -> Quote {
        Quote {
            source: flow().local,
            destination: flow().remote,
            sequence,
            ttl: 1,
            traffic_class: self.options.dscp << 2,
            checksum_bad: None,
            seen: Seen::default(),
            alone: None,
        }
    }

    fn unreachable(&self, sequence: u32, from: IpAddr, code: u8) -> IcmpError {
        IcmpError {
            from,
            kind: IcmpKind::Unreachable,
            icmp_type: 3,
            icmp_code: code,
            ttl: 60,
            quote: self.quote(sequence),
            mpls: vec![],
        }
    }

    fn icmp(&mut self, error: IcmpError) {
        self.reply(&Reply::Icmp(error));
    }

    /// Routers answer these probes, now.
    fn routers_answer(&mut self, probes: impl IntoIterator<Item = u16>) {
        for nth in probes {
            let error = self.exceeded(nth);
            self.icmp(error);
        }
    }

    /// The reply of probe `nth`, if it has one.
    fn answer(&self, nth: u16) -> Option<crate::trace::Reply> {
        self.session.probe(number(nth)).unwrap().1.reply
    }

    fn kind(&self, nth: u16) -> Option<ReplyKind> {
        self.answer(nth).map(|reply| reply.kind)
    }

    fn verdict(&self) -> Option<Verdict> {
        self.events.iter().find_map(|event| match event {
            Event::Verdict(verdict) => Some(*verdict),
            _ => None,
        })
    }

    fn probes_sent(&self) -> usize {
        self.sent
            .iter()
            .filter(|(_, sent)| matches!(sent.kind, TransmitKind::Probe(_)))
            .count()
    }

    /// Lets time pass until it is finished, however long that takes; a session
    /// that would wait for ever fails.
    fn finish(&mut self) -> SessionReport {
        for _ in 0..10_000 {
            if self.session.is_finished() {
                return self.report();
            }
            let (at, _) = self
                .session
                .poll_timeout(&self.options, self.now)
                .expect("it waits for nothing and is not finished");
            self.now = self.now.max(at);
            self.session.handle_timeout(&self.options, self.now);
            self.drain();
        }
        panic!("it does not end");
    }

    /// What it would report now.
    fn report(&mut self) -> SessionReport {
        let placeholder = Session::new(flow(), 0, 0, 1460, self.now);
        core::mem::replace(&mut self.session, placeholder).into_report(self.now)
    }
}

/// The methods whose probes stand alone.
const METHODS: [Method; 7] = [
    Method::Icmp,
    Method::Udp,
    Method::Tcp,
    Method::ParisIcmp,
    Method::ParisUdp,
    Method::ParisTcp,
    Method::Dublin,
];

/// A session by one of them, from a local end to the target's.
fn session_alone(
    options: &SessionOptions,
    method: Method,
    (local, target): (SocketAddr, SocketAddr),
    now: Instant,
) -> Session {
    let flow = Flow {
        local,
        remote: steered(method, target),
    };
    let begin = (ISN, TS_OFFSET);
    Session::alone(options, method, flow, target.port(), begin, 1460, now)
}

/// What the session sends next, which goes out at once.
fn send(session: &mut Session, options: &SessionOptions, now: Instant) -> Transmit {
    let transmit = session.poll_transmit(options, now);
    let transmit = transmit.expect("it has something to send");
    session.handle_transmitted(transmit.kind, now);
    transmit
}

fn number(nth: u16) -> ProbeId {
    ProbeId(nth.try_into().unwrap())
}

/// The kinds of a report, hop by hop.
fn kinds(report: &SessionReport) -> Vec<(u8, Vec<Option<ReplyKind>>)> {
    let kind = |probe: &Probe| probe.reply.as_ref().map(|reply| reply.kind);
    let hops = report.hops.iter();
    hops.map(|hop| (hop.ttl, hop.probes.iter().map(kind).collect()))
        .collect()
}
