//! A small network: routers in a row, a server behind them, and everything that
//! happens to packets in between. It speaks in replies, not in bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

/// What the network and the server are like.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The TTL that reaches the server.
    pub(super) hops: u8,
    /// Hops of the way back.
    pub(super) back: u8,
    /// From one hop to the next.
    pub(super) hop: Duration,
    /// Packets take up to this much longer, each on its own.
    pub(super) jitter: Duration,
    /// Bit n: the router at TTL n answers nothing.
    pub(super) silent: u32,
    /// Of 1,000 packets, in each direction.
    pub(super) lost: u32,
    pub(super) copied: u32,
    pub(super) late: u32,
    /// How much later a copy comes, and a late packet.
    pub(super) copy_after: Duration,
    pub(super) late_by: Duration,
    pub(super) server: Server,
    /// Routers from this TTL on quote sequence numbers that are off by so much.
    pub(super) quotes: Option<(u8, u32)>,
    /// What SACK edges are off by.
    pub(super) edges: u32,
    pub(super) seed: u64,
}

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// It permits SACK.
    pub(super) sack: bool,
    /// Blocks are stripped from its ACKs on the way.
    pub(super) stripped: bool,
    /// Timestamps: three blocks, and four without.
    pub(super) timestamps: bool,
    /// It holds SACKs back to send one for many, as Linux does.
    pub(super) compresses: bool,
    /// It speaks first.
    pub(super) banner: bool,
}

impl Server {
    /// Its answers name probes.
    pub(super) fn names(self) -> bool {
        self.sack && !self.stripped
    }
}

/// What really became of a probe.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// It arrived at the server.
    pub(super) arrived: Option<Instant>,
    /// A time exceeded of it arrived here.
    pub(super) exceeded: Option<Instant>,
}

#[derive(Debug)]
enum Packet {
    ToServer(Transmit),
    /// For the truth: the probe that it answers.
    ToUs(Reply, Option<u16>),
    /// The server's timers.
    Flush,
    Banner(u32),
}

pub(super) struct Network {
    pub(super) world: World,
    random: u64,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    packets: BTreeMap<u64, Packet>,
    next: u64,
    pub(super) truth: BTreeMap<u16, Truth>,
    /// Sequence numbers received out of order, the latest first.
    received: Vec<u32>,
    since_established: u32,
    flushing: bool,
    open: bool,
    acknowledged: u32,
    /// The RST that the server accepted.
    pub(super) closed: bool,
}

const BANNER: u32 = 21;

impl Network {
    pub(super) fn new(world: World) -> Self {
        Network {
            random: world.seed,
            world,
            queue: BinaryHeap::new(),
            packets: BTreeMap::new(),
            next: 0,
            truth: BTreeMap::new(),
            received: vec![],
            since_established: 0,
            flushing: false,
            open: false,
            acknowledged: PEER_ISN + 1,
            closed: false,
        }
    }

    /// SplitMix64.
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % below.max(1)
    }

    fn chance(&mut self, of_1000: u32) -> bool {
        self.random(1000) < u64::from(of_1000)
    }

    /// A packet that needs `hops` to where it goes.
    fn send(&mut self, now: Instant, hops: u8, mut packet: impl FnMut() -> Packet) {
        if self.chance(self.world.lost) {
            return;
        }
        let jitter = self.random(self.world.jitter.as_micros() as u64 + 1);
        let mut at = now + self.world.hop * u32::from(hops) + Duration::from_micros(jitter);
        if self.chance(self.world.late) {
            at = at + self.world.late_by;
        }
        self.queue_at(at, packet());
        if self.chance(self.world.copied) {
            self.queue_at(at + self.world.copy_after, packet());
        }
    }

    fn queue_at(&mut self, at: Instant, packet: Packet) {
        self.queue.push(Reverse((at, self.next)));
        self.packets.insert(self.next, packet);
        self.next += 1;
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// We send something.
    pub(super) fn take(&mut self, now: Instant, sent: Transmit, script: &Script) {
        let ttl = sent.segment.ttl;
        let probe = match sent.kind {
            TransmitKind::Probe(id) => Some(id.0.get()),
            _ => None,
        };
        if let Some(nth) = probe {
            self.truth.insert(nth, Truth::default());
        }
        if ttl >= self.world.hops {
            self.send(now, self.world.hops, || Packet::ToServer(sent));
            return;
        }
        let Some(nth) = probe else {
            return;
        };
        if self.world.silent & 1 << ttl != 0 {
            return;
        }
        let off = match self.world.quotes {
            Some((from, off)) if ttl >= from => off,
            _ => 0,
        };
        let error = IcmpError {
            from: its_router(ttl, nth),
            kind: IcmpKind::TimeExceeded,
            icmp_type: 11,
            icmp_code: 0,
            ttl: 200,
            quote: script.quote(sent.segment.sequence.wrapping_add(off)),
            mpls: vec![],
        };
        let hops = 2 * ttl;
        self.send(now, hops, || {
            Packet::ToUs(Reply::Icmp(error.clone()), Some(nth))
        });
    }

    /// The next thing happens; what arrives here is given back.
    pub(super) fn step(&mut self, script: &Script) -> Option<Reply> {
        let Reverse((now, number)) = self.queue.pop()?;
        match self.packets.remove(&number)? {
            Packet::ToUs(reply, probe) => {
                if let Some(nth) = probe
                    && let Some(truth) = self.truth.get_mut(&nth)
                {
                    truth.exceeded = truth.exceeded.or(Some(now));
                }
                return Some(reply);
            }
            Packet::ToServer(sent) => self.at_server(now, sent, script),
            Packet::Flush => {
                self.flushing = false;
                self.answer(now, script, None);
            }
            Packet::Banner(nth) => self.banner(now, script, nth),
        }
        None
    }

    fn at_server(&mut self, now: Instant, sent: Transmit, script: &Script) {
        let segment = sent.segment;
        if segment.flags & flags::RST != 0 {
            self.closed |= segment.sequence == script.base();
            return;
        }
        if self.closed {
            return;
        }
        if segment.flags & flags::SYN != 0 {
            let mut hello = script.syn_ack();
            hello.options.sack_permitted = self.world.server.sack;
            hello.options.timestamps = self
                .world
                .server
                .timestamps
                .then_some((500, script.tsval()));
            self.reply(now, hello);
            return;
        }
        if !self.open {
            self.open = true;
            if self.world.server.banner {
                self.banner(now, script, 0);
            }
        }
        let ahead = segment.acknowledgment.wrapping_sub(self.acknowledged);
        if ahead <= BANNER {
            self.acknowledged = segment.acknowledgment;
        }
        if segment.payload_len == 0 {
            return;
        }
        if let TransmitKind::Probe(id) = sent.kind {
            let truth = self.truth.get_mut(&id.0.get()).unwrap();
            truth.arrived = truth.arrived.or(Some(now));
        }
        if self.received.contains(&segment.sequence) {
            self.answer(now, script, Some(segment.sequence));
            return;
        }
        self.received.insert(0, segment.sequence);
        self.since_established += 1;
        let holds_back = self.world.server.sack && self.world.server.compresses;
        if holds_back && self.since_established > 3 {
            if !self.flushing {
                self.flushing = true;
                // tcp_input.c: the least of 1 ms and a twentieth of the RTT.
                let rtt = self.world.hop * u32::from(self.world.hops + self.world.back);
                let held = ms(1).min(rtt / 20).as_micros() as u64;
                self.queue_at(now + Duration::from_micros(held), Packet::Flush);
            }
            return;
        }
        self.answer(now, script, None);
    }

    fn answer(&mut self, now: Instant, script: &Script, duplicate: Option<u32>) {
        let server = self.world.server;
        let mut ack = script.ack();
        ack.sequence = match server.banner && self.open {
            true => PEER_ISN + 1 + BANNER,
            false => PEER_ISN + 1,
        };
        if !server.timestamps {
            ack.options.timestamps = None;
        }
        let most = if server.timestamps { 3 } else { 4 };
        if server.names() {
            let blocks = duplicate.iter().chain(&self.received);
            for sequence in blocks.take(most) {
                let left = sequence.wrapping_add(self.world.edges);
                ack.options.sack.push(SackBlock {
                    left,
                    right: left.wrapping_add(1),
                });
            }
        }
        self.reply(now, ack);
    }

    /// Data that is sent until it is acknowledged.
    fn banner(&mut self, now: Instant, script: &Script, nth: u32) {
        if self.acknowledged != PEER_ISN + 1 || nth > 6 || self.closed {
            return;
        }
        let mut data = script.ack();
        data.payload_len = BANNER;
        self.reply(now, data);
        self.queue_at(now + ms(300 << nth), Packet::Banner(nth + 1));
    }

    fn reply(&mut self, now: Instant, mut segment: Segment) {
        segment.ttl = 65 - self.world.back;
        let back = self.world.back;
        self.send(now, back, || {
            Packet::ToUs(Reply::Segment(segment.clone()), None)
        });
    }
}

/// A router of its own for every probe: who is credited with whose answer shows.
pub(super) fn its_router(ttl: u8, nth: u16) -> IpAddr {
    let [high, low] = nth.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, high, low, ttl))
}
