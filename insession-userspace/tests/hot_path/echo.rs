//! A network that answers from memory it was given at the beginning: fifteen
//! routers and a server, each as far away as the others, for every address.
//! Stateless, as the peer of a load test is: the server's initial sequence number
//! follows from the client's.

use std::collections::{HashMap, VecDeque};

use insession::link::{Link, LinkError, MAX_FRAME, Received};
use insession::session::Flow;
use insession::time::{Duration, Instant};
use insession::trace::LinkInfo;
use insession::wire::checksum::Sum;
use insession_common::flow::SessionId;
use insession_common::stamp::SteerKind;

/// TTL at which the server is reached.
pub const SERVER: u8 = 16;
const RTT: Duration = Duration::from_millis(20);
/// Frames a kick.
const ROOM: usize = 256;

const IP: usize = 14;
const TCP: usize = IP + 20;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Server's ISN minus the client's.
const AHEAD: u32 = 0x1234_5678;

/// A frame on its way back.
#[derive(Clone, Copy)]
struct Reply {
    at: Instant,
    session: SessionId,
    len: usize,
    bytes: [u8; 96],
}

/// The link. Calls `probed` with how many probes it has seen.
pub struct Echo<F> {
    now: Instant,
    flows: HashMap<(u32, u16), SessionId>,
    batch: Vec<[u8; MAX_FRAME]>,
    lengths: Vec<usize>,
    replies: VecDeque<Reply>,
    probes: u64,
    probed: F,
}

impl<F: FnMut(u64)> Echo<F> {
    /// For that many sessions at a time.
    pub fn new(sessions: usize, probed: F) -> Self {
        Echo {
            now: Instant::from_nanos(1_000_000_000),
            flows: HashMap::with_capacity(2 * sessions),
            batch: vec![[0; MAX_FRAME]; ROOM],
            lengths: Vec::with_capacity(ROOM),
            // As many as a session has under way.
            replies: VecDeque::with_capacity(32 * sessions + ROOM),
            probes: 0,
            probed,
        }
    }

    /// What comes back for a frame of ours.
    fn answer(&mut self, nth: usize, len: usize) {
        let frame = &self.batch[nth][..len];
        let ttl = frame[IP + 8];
        let flags = frame[TCP + 13];
        let header = usize::from(frame[TCP + 12] >> 4) * 4;
        let payload = len - TCP - header;
        let remote = long(frame, IP + 16);
        let port = u16::from_be_bytes([frame[TCP], frame[TCP + 1]]);
        if flags & RST != 0 || (flags & SYN == 0 && payload == 0) {
            return;
        }
        let Some(session) = self.flows.get(&(remote, port)) else {
            return;
        };
        let mut reply = Reply {
            at: self.now + RTT,
            session: *session,
            len: 0,
            bytes: [0; 96],
        };
        if payload > 0 {
            self.probes += 1;
            (self.probed)(self.probes);
        }
        reply.len = match payload {
            1.. if ttl < SERVER => exceeded(frame, ttl, &mut reply.bytes),
            _ => segment(frame, flags & SYN != 0, &mut reply.bytes),
        };
        self.replies.push_back(reply);
    }
}

/// ICMP time exceeded, as short as RFC 792 has it.
fn exceeded(frame: &[u8], ttl: u8, out: &mut [u8]) -> usize {
    let icmp = TCP;
    out[icmp] = 11;
    out[icmp + 8..icmp + 36].copy_from_slice(&frame[IP..IP + 28]);
    out[icmp + 16] = 1;
    // Its checksum after the change of its TTL is nobody's business.
    let sum = Sum::ZERO.bytes(&out[icmp..icmp + 36]).finish();
    out[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
    header(frame, [10, 0, 0, ttl], 1, 36, out);
    TCP + 36
}

/// SYN-ACK, or an ACK that names the byte that came.
fn segment(frame: &[u8], is_syn: bool, out: &mut [u8]) -> usize {
    let sequence = long(frame, TCP + 4);
    let acknowledged = long(frame, TCP + 8);
    // MSS, SACK-permitted, timestamps; or NOP, NOP, timestamps, NOP, NOP, SACK.
    let stamp = if is_syn { TCP + 28 } else { TCP + 24 };
    let tsval = long(frame, stamp);
    let isn = match is_syn {
        true => sequence,
        false => acknowledged.wrapping_sub(1).wrapping_sub(AHEAD),
    };
    let own = isn.wrapping_add(AHEAD).wrapping_add(u32::from(!is_syn));
    let (flags, options) = match is_syn {
        true => (
            SYN | ACK,
            [0x0204_05b4, 0x0402_080a, 7, tsval, 0x0101_0101, 0],
        ),
        false => (
            ACK,
            [
                0x0101_080a,
                7,
                tsval,
                0x0101_050a,
                sequence,
                sequence.wrapping_add(1),
            ],
        ),
    };
    let options = &options[..if is_syn { 5 } else { 6 }];
    let len = 20 + 4 * options.len();
    let words = [
        long(frame, TCP).rotate_left(16),
        own,
        isn.wrapping_add(1),
        (len as u32 / 4) << 28 | u32::from(flags) << 16 | 0xffff,
        0,
    ];
    for (nth, word) in words.iter().chain(options).enumerate() {
        out[TCP + 4 * nth..][..4].copy_from_slice(&word.to_be_bytes());
    }
    let sum = Sum::ZERO
        .bytes(&out[TCP..TCP + len])
        .bytes(&frame[IP + 12..IP + 20])
        .word(6)
        .word(len as u16);
    out[TCP + 16..TCP + 18].copy_from_slice(&sum.finish().to_be_bytes());
    let source = long(frame, IP + 16).to_be_bytes();
    header(frame, source, 6, len, out);
    TCP + len
}

fn header(frame: &[u8], source: [u8; 4], protocol: u8, len: usize, out: &mut [u8]) {
    out[12] = 8;
    out[IP] = 0x45;
    out[IP + 2..IP + 4].copy_from_slice(&(20 + len as u16).to_be_bytes());
    // As it arrives from a server of Linux behind fifteen routers.
    out[IP + 8] = 64 - (SERVER - 1);
    out[IP + 9] = protocol;
    out[IP + 12..IP + 16].copy_from_slice(&source);
    out[IP + 16..IP + 20].copy_from_slice(&frame[IP + 12..IP + 16]);
    let sum = Sum::ZERO.bytes(&out[IP..IP + 20]).finish();
    out[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

fn long(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().expect("four octets"))
}

impl<F: FnMut(u64)> Link for Echo<F> {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "sim",
            mode: None,
            zero_copy: false,
            interface: "echo0".into(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        if let std::net::IpAddr::V4(remote) = flow.remote.ip() {
            self.flows
                .insert((remote.to_bits(), flow.local.port()), session);
        }
        Ok(())
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let std::net::IpAddr::V4(remote) = flow.remote.ip() {
            self.flows.remove(&(remote.to_bits(), flow.local.port()));
        }
    }

    fn room(&mut self) -> usize {
        ROOM - self.lengths.len()
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let frame = self
            .batch
            .get_mut(self.lengths.len())
            .ok_or(LinkError::Full)?;
        self.lengths.push(fill(frame));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        for nth in 0..self.lengths.len() {
            self.answer(nth, self.lengths[nth]);
        }
        self.lengths.clear();
        Ok(())
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let due = self.replies.iter().take(budget);
        let due = due.take_while(|reply| reply.at <= self.now).count();
        for reply in self.replies.drain(..due) {
            each(Received {
                bytes: &reply.bytes[..reply.len],
                at: reply.at,
                session: reply.session,
                kind: SteerKind::Segment,
                l3_offset: IP,
                outgoing: false,
            });
        }
        Ok(due)
    }

    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        let due = self.replies.iter().take_while(|reply| reply.at <= self.now);
        let mut filled = 0;
        for (session, reply) in sessions.iter_mut().zip(due) {
            *session = reply.session;
            filled += 1;
        }
        filled
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        let next = self.replies.front().map_or(until, |reply| reply.at);
        self.now = self.now.max(next.min(until));
        Ok(())
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
