//! A TCP server's half of a connection: as much of RFC 9293, 2018, 2883, 5961
//! and 7323 as an in-session trace sees, where it matters the way Linux does it.

use super::scenario::{Answer, End, Server};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{self, Options, SackBlock, SackBlocks, flags};

/// Blocks that Linux remembers for SACKs (`TCP_NUM_SACKS`).
const SACKS_KEPT: usize = 4;
/// Duplicate ACKs that are sent at once (`TCP_FASTRETRANS_THRESH`).
const AT_ONCE: u8 = 3;
/// Blocks from which on a new one first flushes what is compressed
/// (`TCP_SACK_BLOCKS_EXPECTED`).
const EXPECTED: usize = 2;
/// ACKs compressed into one (`tcp_comp_sack_nr`).
const COMPRESSED: u8 = 44;
/// The longest that a compressed ACK waits (`tcp_comp_sack_delay_ns`).
const COMPRESSION_DELAY: Duration = Duration::from_millis(1);
/// First retransmission; it doubles.
const RETRANSMISSION: Duration = Duration::from_secs(1);
/// Retransmissions until the connection is forgotten.
const RETRIES: u8 = 5;

/// A segment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Options,
    pub(super) payload_len: u16,
}

/// What came of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its payload went into the queue, or was there already.
    pub(super) accepted: bool,
    /// The connection is no more.
    pub(super) closed: bool,
}

/// What a host without that connection answers; `None` to what is a SYN it
/// takes (make a [`Peer`] then) or to nothing.
pub(super) fn stranger(server: &Server, segment: &tcp::Segment<'_>) -> Option<Outgoing> {
    let syn = segment.flags() & (flags::SYN | flags::ACK) == flags::SYN;
    if segment.flags() & flags::RST != 0 || (syn && server.answer != Answer::Refuses) {
        return None;
    }
    // RFC 9293 §3.10.7.1.
    let (sequence, acknowledgment, flags) = match segment.flags() & flags::ACK {
        0 => (0, end(segment), flags::RST | flags::ACK),
        _ => (segment.acknowledgment(), 0, flags::RST),
    };
    Some(Outgoing {
        sequence,
        acknowledgment,
        flags,
        window: 0,
        options: Options::default(),
        payload_len: 0,
    })
}

/// The sequence number behind a segment.
fn end(segment: &tcp::Segment<'_>) -> u32 {
    let syn = u32::from(segment.flags() & flags::SYN != 0);
    let fin = u32::from(segment.flags() & flags::FIN != 0);
    segment
        .sequence()
        .wrapping_add(segment.payload().len() as u32 + syn + fin)
}

/// How far `b` is behind `a`, in wrapping sequence space; negative when before.
const fn ahead(a: u32, b: u32) -> i32 {
    b.wrapping_sub(a) as i32
}

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    established: bool,
    iss: u32,
    unacknowledged: u32,
    next: u32,
    fin: Option<u32>,
    receive_next: u32,
    window: u32,
    scale: u8,
    sack: bool,
    timestamps: bool,
    recent_timestamp: u32,
    acknowledged: u32,
    /// Out-of-order octets, disjoint, sorted by nothing.
    queue: Vec<SackBlock>,
    /// What SACKs tell, most recent first (`selective_acks`).
    told: Vec<SackBlock>,
    duplicate: Option<SackBlock>,
    compressed: u8,
    duplicate_acks: u8,
    segments: u32,
    syn_ack_sent: Instant,
    round_trip: Duration,
    flush_at: Option<Instant>,
    open_at: Option<Instant>,
    again_at: Option<Instant>,
    tries: u8,
}

impl Peer {
    /// A connection from the SYN that asks for it; sends the SYN-ACK.
    pub(super) fn accept(
        server: &Server,
        iss: u32,
        syn: &tcp::Segment<'_>,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> Self {
        let offered = Options::parse(syn.options());
        let receive_next = syn.sequence().wrapping_add(1);
        let mut peer = Peer {
            established: false,
            iss,
            unacknowledged: iss,
            next: iss.wrapping_add(1),
            fin: None,
            receive_next,
            window: match server.window_opens {
                Some(_) => 0,
                None => server.window,
            },
            scale: match (offered.window_scale, server.window_scale) {
                (Some(_), Some(scale)) => scale,
                _ => 0,
            },
            sack: server.sack && offered.sack_permitted,
            timestamps: server.timestamps && offered.timestamps.is_some(),
            recent_timestamp: offered.timestamps.map_or(0, |(value, _)| value),
            acknowledged: receive_next,
            queue: Vec::new(),
            told: Vec::new(),
            duplicate: None,
            compressed: 0,
            duplicate_acks: 0,
            segments: 0,
            syn_ack_sent: now,
            round_trip: Duration::ZERO,
            flush_at: None,
            open_at: None,
            again_at: None,
            tries: 0,
        };
        peer.syn_ack(server, offered.window_scale.is_some(), now, out);
        peer
    }

    /// A segment of the connection.
    pub(super) fn handle(
        &mut self,
        server: &Server,
        segment: &tcp::Segment<'_>,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> Taken {
        let mut taken = Taken {
            accepted: false,
            closed: false,
        };
        let options = Options::parse(segment.options());
        let (sequence, len) = (segment.sequence(), segment.payload().len() as u32);
        let edge = self.receive_next.wrapping_add(self.offered());
        let in_window =
            ahead(self.receive_next, sequence) >= 0 && ahead(sequence, edge) >= len as i32;

        if segment.flags() & flags::RST != 0 {
            // RFC 5961 §3.2: exactly, or a challenge.
            if sequence == self.receive_next {
                taken.closed = true;
            } else if in_window {
                self.acknowledge(now, out);
            }
            return taken;
        }
        if self.timestamps {
            match options.timestamps {
                // RFC 7323 §3.2: silently dropped.
                None => return taken,
                // RFC 7323 §5.3: PAWS.
                Some((value, _)) if ahead(self.recent_timestamp, value) < 0 => {
                    self.acknowledge(now, out);
                    return taken;
                }
                Some((value, _)) => {
                    if ahead(sequence, self.acknowledged) >= 0 {
                        self.recent_timestamp = value;
                    }
                }
            }
        }
        if segment.flags() & flags::SYN != 0 {
            if !self.established && sequence.wrapping_add(1) == self.receive_next {
                self.syn_ack(server, options.window_scale.is_some(), now, out);
            } else {
                // RFC 5961 §4.2.
                self.acknowledge(now, out);
            }
            return taken;
        }
        if segment.flags() & flags::ACK == 0 {
            return taken;
        }
        if ahead(self.next, segment.acknowledgment()) > 0 {
            // RFC 9293 §3.10.7.4: an ACK of what was never sent.
            self.acknowledge(now, out);
            return taken;
        }
        self.acknowledged_by_us(server, segment.acknowledgment(), now, out);
        if !self.established {
            return taken;
        }
        if len > 0 {
            self.segments += 1;
            // A reset takes the place of the acknowledgment.
            if server.ends == Some((self.segments, End::Rst)) {
                out.push(self.segment(flags::RST | flags::ACK, Options::default(), 0));
                taken.closed = true;
                return taken;
            }
            taken.accepted = self.data(server, sequence, len, in_window, now, out);
            if server.ends == Some((self.segments, End::Fin)) {
                self.finish(now, out);
            }
        }
        if segment.flags() & flags::FIN != 0 && sequence.wrapping_add(len) == self.receive_next {
            // What lies behind a FIN is dropped (tcp_fin()).
            self.receive_next = self.receive_next.wrapping_add(1);
            self.queue.clear();
            self.told.clear();
            self.acknowledge(now, out);
            self.finish(now, out);
        } else if len == 0 && !in_window && ahead(sequence, self.receive_next) != 0 {
            // A keepalive, or a stray.
            self.acknowledge(now, out);
        }
        taken
    }

    /// When [`Peer::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.flush_at, self.open_at, self.again_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Its time has come.
    pub(super) fn handle_timeout(
        &mut self,
        server: &Server,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> Taken {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut closed = false;
        if due(self.flush_at) {
            self.acknowledge(now, out);
        }
        if due(self.open_at) {
            self.open_at = None;
            self.window = server.window;
            self.acknowledge(now, out);
        }
        if due(self.again_at) {
            self.again_at = None;
            closed = self.tries >= RETRIES;
            if !closed {
                self.again(server, now, out);
            }
        }
        Taken {
            accepted: false,
            closed,
        }
    }

    /// Payload: returns whether it is in the queue now.
    fn data(
        &mut self,
        server: &Server,
        sequence: u32,
        len: u32,
        in_window: bool,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        let block = SackBlock {
            left: sequence,
            right: sequence.wrapping_add(len),
        };
        let below = ahead(block.right, self.receive_next) >= 0;
        if below || !in_window {
            if below && server.dsack {
                self.duplicate = Some(block);
            }
            self.acknowledge(now, out);
            return below;
        }
        if sequence == self.receive_next {
            self.receive_next = block.right;
            while let Some(at) = self.queue.iter().position(|held| {
                ahead(held.left, self.receive_next) >= 0 && ahead(self.receive_next, held.right) > 0
            }) {
                self.receive_next = self.queue.swap_remove(at).right;
            }
            let next = self.receive_next;
            self.queue.retain(|held| ahead(next, held.left) >= 0);
            self.told.retain(|told| ahead(next, told.left) >= 0);
            self.duplicate_acks = 0;
            self.acknowledge(now, out);
            return true;
        }
        let known = self
            .queue
            .iter()
            .any(|held| ahead(held.left, sequence) >= 0 && ahead(block.right, held.right) >= 0);
        if known && server.dsack {
            self.duplicate = Some(block);
        }
        if !known {
            insert(&mut self.queue, block);
        }
        self.tell(block, now, out);
        if !server.compresses || !self.sack || self.compressed >= COMPRESSED {
            self.acknowledge(now, out);
        } else if self.duplicate_acks < AT_ONCE {
            self.duplicate_acks += 1;
            self.acknowledge(now, out);
        } else {
            self.compressed += 1;
            let delay = COMPRESSION_DELAY.min(self.round_trip / 20);
            self.flush_at = self.flush_at.or(Some(now + delay));
        }
        true
    }

    /// Puts a block first in what SACKs tell (`tcp_sack_new_ofo_skb`).
    fn tell(&mut self, block: SackBlock, now: Instant, out: &mut Vec<Outgoing>) {
        let touching = self.told.iter().position(|told| touch(*told, block));
        if touching.unwrap_or(self.told.len()) >= EXPECTED && self.compressed > 0 {
            self.acknowledge(now, out);
        }
        insert(&mut self.told, block);
        if let Some(at) = self.told.iter().position(|told| touch(*told, block)) {
            let first = self.told.remove(at);
            self.told.insert(0, first);
        }
        self.told.truncate(SACKS_KEPT);
    }

    /// Our own octets that the peer has.
    fn acknowledged_by_us(
        &mut self,
        server: &Server,
        acknowledgment: u32,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        if ahead(self.unacknowledged, acknowledgment) > 0 {
            self.unacknowledged = acknowledgment;
            self.tries = 0;
            self.again_at = None;
        }
        if !self.established && ahead(self.iss, self.unacknowledged) > 0 {
            self.established = true;
            self.round_trip = now.since(self.syn_ack_sent);
            self.open_at = server.window_opens.map(|after| now + after);
            if server.banner > 0 {
                self.again(server, now, out);
                self.tries = 0;
                self.again_at = Some(now + RETRANSMISSION);
            }
        }
        if self.again_at.is_none() && self.unacknowledged != self.next {
            self.again_at = Some(now + RETRANSMISSION);
        }
    }

    /// Sends what is not acknowledged (again), and sets the timer.
    fn again(&mut self, server: &Server, now: Instant, out: &mut Vec<Outgoing>) {
        self.tries += 1;
        self.again_at = Some(now + RETRANSMISSION * (1 << self.tries));
        let banner_end = self.iss.wrapping_add(1 + u32::from(server.banner));
        if !self.established {
            self.syn_ack_again(server, out);
        } else if ahead(self.unacknowledged, banner_end) > 0 {
            let left = ahead(self.unacknowledged, banner_end) as u16;
            let mut segment = self.segment(flags::PSH | flags::ACK, self.plain_options(now), left);
            segment.sequence = self.unacknowledged;
            if ahead(self.next, banner_end) > 0 {
                self.next = banner_end;
            }
            out.push(segment);
        } else if let Some(fin) = self.fin {
            let mut segment = self.segment(flags::FIN | flags::ACK, self.plain_options(now), 0);
            segment.sequence = fin;
            out.push(segment);
        }
    }

    fn finish(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        if self.fin.is_none() {
            self.fin = Some(self.next);
            out.push(self.segment(flags::FIN | flags::ACK, self.plain_options(now), 0));
            self.next = self.next.wrapping_add(1);
            self.again_at = Some(now + RETRANSMISSION);
        }
    }

    fn syn_ack(&mut self, server: &Server, scaled: bool, now: Instant, out: &mut Vec<Outgoing>) {
        if !scaled {
            self.scale = 0;
        }
        self.again_at = self.again_at.or(Some(now + RETRANSMISSION));
        self.syn_ack_again(server, out);
    }

    fn syn_ack_again(&self, server: &Server, out: &mut Vec<Outgoing>) {
        let options = Options {
            mss: Some(server.mss),
            window_scale: (self.scale > 0).then_some(self.scale),
            sack_permitted: self.sack,
            timestamps: self.clock(self.syn_ack_sent),
            sack: SackBlocks::default(),
        };
        let mut segment = self.segment(flags::SYN | flags::ACK, options, 0);
        segment.sequence = self.iss;
        // RFC 7323 §2.2: never scaled in a SYN.
        segment.window = self.window.min(u32::from(u16::MAX)) as u16;
        out.push(segment);
    }

    /// An ACK with all there is to tell.
    fn acknowledge(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        let mut options = self.plain_options(now);
        let duplicate = self.duplicate.take();
        if self.sack {
            let room = if self.timestamps { 3 } else { 4 };
            for block in duplicate.iter().chain(&self.told).take(room) {
                options.sack.push(*block);
            }
        }
        self.compressed = 0;
        self.flush_at = None;
        self.acknowledged = self.receive_next;
        out.push(self.segment(flags::ACK, options, 0));
    }

    fn segment(&self, flags: u8, options: Options, payload_len: u16) -> Outgoing {
        Outgoing {
            sequence: self.next,
            acknowledgment: self.receive_next,
            flags,
            window: (self.window >> self.scale).min(u32::from(u16::MAX)) as u16,
            options,
            payload_len,
        }
    }

    fn plain_options(&self, now: Instant) -> Options {
        Options {
            timestamps: self.clock(now),
            ..Options::default()
        }
    }

    /// A clock of milliseconds, from an origin of the connection's own.
    fn clock(&self, now: Instant) -> Option<(u32, u32)> {
        let millis = (now.as_nanos() / 1_000_000) as u32;
        let value = millis.wrapping_add(self.iss.rotate_left(16));
        self.timestamps.then_some((value, self.recent_timestamp))
    }

    /// The window as the client sees it: shifting loses the low bits.
    fn offered(&self) -> u32 {
        u32::from(self.segment(0, Options::default(), 0).window) << self.scale
    }
}

/// Whether two blocks overlap or are neighbours.
const fn touch(a: SackBlock, b: SackBlock) -> bool {
    ahead(a.left, b.right) >= 0 && ahead(b.left, a.right) >= 0
}

/// Adds a block; those it touches become one, where the first of them was.
fn insert(blocks: &mut Vec<SackBlock>, mut block: SackBlock) {
    let mut place = None;
    let mut at = 0;
    while let Some(held) = blocks.get(at).copied() {
        if touch(held, block) {
            blocks.remove(at);
            place = place.or(Some(at));
            if ahead(held.left, block.left) > 0 {
                block.left = held.left;
            }
            if ahead(block.right, held.right) > 0 {
                block.right = held.right;
            }
        } else {
            at += 1;
        }
    }
    blocks.insert(place.unwrap_or(0), block);
}
