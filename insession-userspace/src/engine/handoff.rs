//! Replies that arrived at another worker's queue: from the worker that received
//! them to the one whose session they are for.
//!
//! The interface chooses the queue of a reply, by a hash of its own over ends that
//! for an ICMP error are a router's: with several workers on an interface, most
//! errors arrive at somebody else's. Between each two workers there is a ring for
//! each direction, with one writer and one reader; nobody waits for anybody, and
//! what does not fit is dropped and counted ([`FULL`]).
//!
//! Rings hold octets, not slots: a record is a header and the frame, whole. None is
//! cut, since what is read of a reply lies under a checksum of all of it (RFC 9293
//! §3.1, RFC 792, RFC 4443 §2.3); and most are an eighth of the longest, so that
//! slots for the longest would be mostly empty.
//!
//! A worker that sleeps says so, and is woken once a batch of what it is given.
//!
//! **Ports.** Each worker has a slice of the range of local ports ([`Handoff::ports`]),
//! so no two can choose the same flow, without asking each other and also where the
//! program has no entry for each flow; and a reply that came without a session
//! names its worker by its local port ([`Handoff::owner`]). The price: at a time, one
//! worker can have only its slice's number of sessions with one remote end.

use std::fs::File;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use insession_common::flow::{SessionId, UNRESOLVED};
use insession_common::stamp::SteerKind;
use rtrb::{Consumer, Producer, RingBuffer};

use super::slab;
use crate::link::{Link, LinkError, Received};
use crate::time::{Duration, Instant};

/// Label of the count of replies that went to their worker this way.
pub const HANDED: &str = "handoff";
/// Label of the count of replies that were lost since a ring was full.
pub const FULL: &str = "handoff-ring-full";

/// Octets of a ring: some nine thousand replies of usual length, more than arrive
/// while a worker does not run (milliseconds, on a busy host).
const RING: usize = 1 << 20;
/// What the rings to one worker have together, as far as that leaves each
/// [`SMALLEST`].
const RINGS: usize = 8 << 20;
const SMALLEST: usize = 128 << 10;

/// How late a worker that has nothing left to do sees that it may go.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Frames taken in at a time then.
const BUDGET: usize = 256;

/// The most workers: a session's number has five bits for it.
const MOST: usize = 32;

/// One worker's ends of the rings.
#[derive(Debug)]
pub struct Handoff {
    number: u8,
    /// Rings to the others, by their number; none to itself.
    to: Vec<Option<Outgoing>>,
    from: Vec<Option<Consumer<u8>>>,
    team: Arc<Team>,
    /// Where a record is put together, or, where it wraps, is read from.
    record: Vec<u8>,
    handed: u64,
    full: u64,
    ended: bool,
}

#[derive(Debug)]
struct Outgoing {
    ring: Producer<u8>,
    /// Since the last [`Handoff::wake`].
    given: bool,
}

/// What the workers of an interface know of each other.
#[derive(Debug)]
struct Team {
    members: Box<[Member]>,
    /// How many have sessions, or may get some.
    running: AtomicUsize,
}

/// On a cache line of its own: it is written by its owner.
#[derive(Debug)]
#[repr(align(64))]
struct Member {
    asleep: AtomicBool,
    waker: Option<File>,
}

/// What [`Handoff::take`] has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// So many frames.
    pub frames: usize,
    /// So many of them were no worker's.
    pub unclaimed: u64,
}

impl Handoff {
    /// The ends of as many workers as there are wakers (of their links), in their
    /// order; of no more than 32.
    #[must_use]
    pub fn between(wakers: &[Option<Arc<OwnedFd>>]) -> Vec<Handoff> {
        Self::with_rings(wakers, RING)
    }

    fn with_rings(wakers: &[Option<Arc<OwnedFd>>], longest: usize) -> Vec<Handoff> {
        let wakers = wakers.get(..MOST).unwrap_or(wakers);
        let members = wakers.iter().map(|waker| Member {
            asleep: AtomicBool::new(false),
            // Without one, the worker looks by itself.
            waker: waker
                .as_ref()
                .and_then(|waker| Some(File::from(waker.try_clone().ok()?))),
        });
        let team = Arc::new(Team {
            members: members.collect(),
            running: AtomicUsize::new(wakers.len()),
        });
        let others = wakers.len().saturating_sub(1).max(1);
        let octets = (RINGS / others).max(SMALLEST).min(longest);
        let mut ends: Vec<Handoff> = (0..wakers.len())
            .map(|number| Handoff {
                number: number as u8,
                to: Vec::new(),
                from: Vec::new(),
                team: Arc::clone(&team),
                record: Vec::new(),
                handed: 0,
                full: 0,
                ended: false,
            })
            .collect();
        for from in 0..wakers.len() {
            for to in 0..wakers.len() {
                let ends = &mut ends[..];
                let (producer, consumer) = match from == to {
                    true => (None, None),
                    false => {
                        let (ring, end) = RingBuffer::new(octets);
                        (Some(Outgoing { ring, given: false }), Some(end))
                    }
                };
                ends[from].to.push(producer);
                ends[to].from.push(consumer);
            }
        }
        ends
    }

    /// Which of the workers this is, from 0.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.to.len()
    }

    /// This worker's slice of the local ports; `None` when there are more workers
    /// than ports, and this one gets none.
    #[must_use]
    pub fn ports(&self, all: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
        let of = |number: usize| first_port(all, number, self.workers());
        let (first, next) = (of(self.number.into()), of(usize::from(self.number) + 1));
        // `next` is at most 65,536.
        let last = u16::try_from(next.checked_sub(1)?).ok()?;
        let first = u16::try_from(first).ok()?;
        (first <= last).then_some(first..=last)
    }

    /// The worker whose slice a local port is in.
    #[must_use]
    pub fn owner(&self, all: &RangeInclusive<u16>, port: u16) -> Option<u8> {
        if !all.contains(&port) {
            return None;
        }
        let (count, workers) = (ports_in(all), self.workers());
        // The slice that `nth` is in begins at most there, and the next one after.
        let nth = usize::from(port - all.start());
        let number = (((nth + 1) * workers - 1) / count).min(workers.saturating_sub(1));
        u8::try_from(number).ok()
    }

    /// Gives a frame to the worker whose session it names; false when the ring is
    /// full (counted: the frame is lost), or there is no such worker.
    pub fn give(&mut self, to: u8, frame: &Received<'_>) -> bool {
        self.send(to, frame, 0)
    }

    /// Gives a frame without a session, which is none of this worker's, to the one
    /// with the local port that it names, if that is another one, or else to the
    /// next; from there it goes on to the others until somebody claims it. False as
    /// for [`Handoff::give`].
    pub fn pass(&mut self, frame: &Received<'_>, owner: Option<u8>) -> bool {
        self.pass_on(frame, owner, 0)
    }

    /// `seen`: who had it already, a bit each.
    fn pass_on(&mut self, frame: &Received<'_>, owner: Option<u8>, seen: u32) -> bool {
        let seen = seen | 1 << self.number;
        let workers = self.workers() as u8;
        let in_turn = (1..workers).map(|after| (self.number + after) % workers);
        let next = owner
            .into_iter()
            .chain(in_turn)
            .find(|&next| next < workers && seen & 1 << next == 0);
        next.is_some_and(|next| self.send(next, frame, seen))
    }

    fn send(&mut self, to: u8, frame: &Received<'_>, seen: u32) -> bool {
        let Some(Some(out)) = self.to.get_mut(usize::from(to)) else {
            return false;
        };
        let record = &mut self.record;
        record.clear();
        if !Header::of(frame, seen).is_some_and(|header| {
            record.extend_from_slice(&header.to_bytes());
            record.extend_from_slice(frame.bytes);
            out.ring.push_entire_slice(record).is_ok()
        }) {
            self.full += 1;
            return false;
        }
        out.given = true;
        self.handed += 1;
        true
    }

    /// Wakes those that were given something since the last call, and sleep: to be
    /// called after a batch.
    pub fn wake(&mut self) {
        for (out, member) in self.to.iter_mut().zip(&self.team.members) {
            if let Some(out) = out
                && std::mem::take(&mut out.given)
            {
                member.wake();
            }
        }
    }

    /// Gives each frame that others have handed to this worker to `each`, which says
    /// whether it was this worker's. One that is not, and came without a session,
    /// goes on to the next worker.
    pub fn take(&mut self, each: &mut dyn FnMut(Received<'_>) -> bool) -> Taken {
        let mut taken = Taken::default();
        for from in 0..self.from.len() {
            // Out of `self` while `pass_on` needs that.
            let Some(mut ring) = self.from.get_mut(from).and_then(Option::take) else {
                continue;
            };
            // What comes meanwhile waits until others had their turn.
            let mut left = ring.slots();
            while left > 0 {
                let Some(length) = self.next_record(&mut ring, &mut taken, each) else {
                    break;
                };
                left = left.saturating_sub(length);
            }
            if let Some(place) = self.from.get_mut(from) {
                *place = Some(ring);
            }
        }
        taken
    }

    /// One record; its length, `None` where there is none.
    fn next_record(
        &mut self,
        ring: &mut Consumer<u8>,
        taken: &mut Taken,
        each: &mut dyn FnMut(Received<'_>) -> bool,
    ) -> Option<usize> {
        let header = {
            let chunk = ring.read_chunk(Header::SIZE).ok()?;
            let (head, tail) = chunk.as_slices();
            let mut bytes = [0; Header::SIZE];
            let (first, rest) = bytes.split_at_mut(head.len());
            first.copy_from_slice(head);
            rest.copy_from_slice(tail);
            Header::from_bytes(&bytes)
        };
        // Records are written whole.
        let length = Header::SIZE + usize::from(header.length);
        let chunk = ring.read_chunk(length).ok()?;
        let (head, tail) = chunk.as_slices();
        let mut wrapped = std::mem::take(&mut self.record);
        let bytes = if tail.is_empty() {
            head
        } else {
            wrapped.clear();
            wrapped.extend_from_slice(head);
            wrapped.extend_from_slice(tail);
            &wrapped[..]
        };
        let frame = bytes
            .get(Header::SIZE..)
            .and_then(|bytes| header.frame(bytes));
        if let Some(frame) = frame {
            taken.frames += 1;
            if !each(frame) {
                // `wrapped` holds the frame: what is passed on is put together anew.
                let on = header.seen != 0 && self.pass_on(&frame, None, header.seen);
                taken.unclaimed += u64::from(!on);
            }
        }
        self.record = wrapped;
        chunk.commit_all();
        Some(length)
    }

    /// Whether this worker may sleep: nothing has been handed to it. From then on
    /// it is woken when something is, until [`Handoff::awake`].
    pub fn may_sleep(&mut self) -> bool {
        let Some(me) = self.team.members.get(usize::from(self.number)) else {
            return true;
        };
        me.asleep.store(true, Ordering::Relaxed);
        // Who gives writes the ring and then looks whether we sleep: one of both sees
        // the other.
        fence(Ordering::SeqCst);
        let nothing = self.from.iter().flatten().all(Consumer::is_empty);
        if !nothing {
            self.awake();
        }
        nothing
    }

    /// It does not sleep any more.
    pub fn awake(&self) {
        if let Some(me) = self.team.members.get(usize::from(self.number)) {
            me.asleep.store(false, Ordering::Relaxed);
        }
    }

    /// Adds what was handed over and what was lost to a link's counters.
    pub fn count(&self, counters: &mut Vec<(&'static str, u64)>) {
        counters.extend([(HANDED, self.handed), (FULL, self.full)]);
    }

    /// This worker has no sessions any more, but its queue goes on receiving for
    /// others: hands on what comes until all have ended. How many frames came that
    /// were for nobody.
    ///
    /// # Errors
    /// What the link failed of.
    pub fn serve(&mut self, link: &mut dyn Link) -> Result<u64, LinkError> {
        self.end();
        let mut unclaimed = 0;
        let mut own = 0;
        while self.team.running.load(Ordering::Acquire) > 0 {
            let received = link.receive(BUDGET, &mut |frame| {
                let on = match frame.session {
                    UNRESOLVED => self.pass(&frame, None),
                    // Of a session that is gone.
                    id if slab::worker_of(id) == self.number => false,
                    id => self.give(slab::worker_of(id), &frame),
                };
                own += u64::from(!on);
            })?;
            let taken = self.take(&mut |_| false);
            unclaimed += taken.unclaimed;
            self.wake();
            if received == 0 && taken.frames == 0 && self.may_sleep() {
                let until = link.now() + HEARTBEAT;
                let running = self.team.running.load(Ordering::SeqCst) > 0;
                let waited = if running { link.wait(until) } else { Ok(()) };
                self.awake();
                waited?;
            }
        }
        Ok(unclaimed + own)
    }

    /// No sessions any more, and none to come.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true)
            && self.team.running.fetch_sub(1, Ordering::SeqCst) == 1
        {
            fence(Ordering::SeqCst);
            for member in &self.team.members {
                member.wake();
            }
        }
    }
}

/// A worker that panics must not keep the others.
impl Drop for Handoff {
    fn drop(&mut self) {
        self.end();
    }
}

impl Member {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        // The load spares the others' cache line a write.
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(mut waker) = self.waker.as_ref()
        {
            // Fails only when 2^64 - 2 wakes are pending: it is awake.
            let _ = waker.write_all(&1u64.to_ne_bytes());
        }
    }
}

fn ports_in(all: &RangeInclusive<u16>) -> usize {
    usize::from(*all.end()) + 1 - usize::from(*all.start()).min(usize::from(*all.end()) + 1)
}

/// Where a worker's slice of the ports begins; at most 65,536.
fn first_port(all: &RangeInclusive<u16>, number: usize, workers: usize) -> usize {
    usize::from(*all.start()) + ports_in(all) * number / workers.max(1)
}

/// What stands before a frame in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    at: u64,
    session: SessionId,
    seen: u32,
    length: u16,
    l3_offset: u16,
    kind: u8,
    outgoing: bool,
}

impl Header {
    const SIZE: usize = 22;

    /// `None` for a frame that no link of ours can have received.
    fn of(frame: &Received<'_>, seen: u32) -> Option<Header> {
        Some(Header {
            at: frame.at.as_nanos(),
            session: frame.session,
            seen,
            length: u16::try_from(frame.bytes.len()).ok()?,
            l3_offset: u16::try_from(frame.l3_offset).ok()?,
            kind: frame.kind as u8,
            outgoing: frame.outgoing,
        })
    }

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.at.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.session.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.seen.to_ne_bytes());
        bytes[16..18].copy_from_slice(&self.length.to_ne_bytes());
        bytes[18..20].copy_from_slice(&self.l3_offset.to_ne_bytes());
        bytes[20] = self.kind;
        bytes[21] = self.outgoing.into();
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::SIZE]) -> Header {
        let [
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            s0,
            s1,
            s2,
            s3,
            n0,
            n1,
            n2,
            n3,
            l0,
            l1,
            o0,
            o1,
            kind,
            outgoing,
        ] = *bytes;
        Header {
            at: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            session: u32::from_ne_bytes([s0, s1, s2, s3]),
            seen: u32::from_ne_bytes([n0, n1, n2, n3]),
            length: u16::from_ne_bytes([l0, l1]),
            l3_offset: u16::from_ne_bytes([o0, o1]),
            kind,
            outgoing: outgoing != 0,
        }
    }

    fn frame(self, bytes: &[u8]) -> Option<Received<'_>> {
        Some(Received {
            bytes,
            at: Instant::from_nanos(self.at),
            session: self.session,
            kind: SteerKind::from_u8(self.kind)?,
            l3_offset: self.l3_offset.into(),
            outgoing: self.outgoing,
        })
    }
}

#[cfg(test)]
mod tests;
