//! A relay in the middle of a wire: what a kernel without 8021q and without
//! netem cannot do. Frames towards the first port get VLAN tags, frames towards
//! the second leave without; both may be held for a while.
//!
//! It is a process of its own, so that a lab outlives the command that brought
//! it up, but not a program of its own: a fork that does nothing but system
//! calls on memory it has.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};

use crate::sys::{self, PacketSocket, check};

/// The longest frame that is relayed: links have an MTU of 1,500.
const FRAME: usize = 2048;
/// Room for two tags.
const ROOM: usize = 8;
const MACS: usize = 12;
/// What a direction can hold: a hundred thousand small frames.
const CAPACITY: usize = 16 << 20;
/// Frames taken in at a time, so that those that are due do not wait for long.
const BATCH: usize = 64;

/// Starts a relay between the interfaces `first` and `second` of the namespace.
///
/// # Errors
/// When the interfaces cannot be opened or the process cannot be started.
pub fn start(
    namespace: &Path,
    first: &str,
    second: &str,
    tags: &[u16],
    delay_ms: u16,
) -> Result<()> {
    let (first, second) = sys::in_namespace(namespace, || -> Result<_> {
        Ok((
            PacketSocket::open(first)?.incoming_only()?,
            PacketSocket::open(second)?.incoming_only()?,
        ))
    })??;
    let namespace = File::open(namespace)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (tags, length) = header(tags);
    let descriptors = [
        first.as_raw_fd(),
        second.as_raw_fd(),
        namespace.as_raw_fd(),
        null.as_raw_fd(),
    ];
    let delay = u64::from(delay_ms) * 1_000_000;
    // The child's too, from here on: it may not allocate.
    let mut queues = [Queue::new(), Queue::new()];
    // SAFETY: the child calls `relay` alone, which allocates nothing, takes no
    // lock and does not return: what a fork of a threaded process may do.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        relay(descriptors, &tags[..length], delay, &mut queues);
    }
    check(pid.into()).context("fork")?;
    Ok(())
}

/// The tags as they stand in a frame. The outer of two is a service tag (IEEE
/// 802.1ad).
fn header(tags: &[u16]) -> ([u8; ROOM], usize) {
    let mut bytes = [0; ROOM];
    for (number, (tag, place)) in tags.iter().zip(bytes.chunks_exact_mut(4)).enumerate() {
        let outer = tags.len() == 2 && number == 0;
        let kind: [u8; 2] = if outer { [0x88, 0xa8] } else { [0x81, 0x00] };
        place[..2].copy_from_slice(&kind);
        place[2..].copy_from_slice(&tag.to_be_bytes());
    }
    (bytes, 4 * tags.len().min(2))
}

/// Frames on their way, oldest first: a ring of records, each its due time,
/// its length and its bytes. A record does not wrap: what is left at the end is skipped.
struct Queue {
    bytes: Vec<u8>,
    /// Where the oldest begins.
    head: usize,
    /// Where the next will begin.
    tail: usize,
    frames: usize,
}

/// Due time and length.
const RECORD: usize = 16;

impl Queue {
    fn new() -> Self {
        Queue {
            bytes: vec![0; CAPACITY],
            head: 0,
            tail: 0,
            frames: 0,
        }
    }

    /// Appends a frame; drops it, as a router would, when there is no room.
    fn push(&mut self, due: u64, frame: &[u8]) {
        let need = RECORD + frame.len();
        if self.frames == 0 {
            (self.head, self.tail) = (0, 0);
        }
        // Free is [tail, end) and [0, head), or [tail, head) once it has wrapped.
        // Head and tail never meet but when it is empty.
        let wrapped = self.tail < self.head;
        let at = if wrapped {
            if self.tail + need >= self.head {
                return;
            }
            self.tail
        } else if self.tail + need <= self.bytes.len() {
            self.tail
        } else if need < self.head {
            // An end that the reader will skip.
            if let Some(mark) = self.bytes.get_mut(self.tail..self.tail + RECORD) {
                mark.fill(0xff);
            }
            0
        } else {
            return;
        };
        let record = &mut self.bytes[at..at + need];
        record[..8].copy_from_slice(&due.to_ne_bytes());
        record[8..RECORD].copy_from_slice(&frame.len().to_ne_bytes());
        record[RECORD..].copy_from_slice(frame);
        self.tail = at + need;
        self.frames += 1;
    }

    /// When the oldest is due.
    fn due(&mut self) -> Option<u64> {
        self.front().map(|(due, _)| due)
    }

    /// The oldest: its due time, and where its bytes stand.
    fn front(&mut self) -> Option<(u64, std::ops::Range<usize>)> {
        if self.frames == 0 {
            return None;
        }
        let word = |bytes: &[u8], at: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let skipped =
            self.head + RECORD > self.bytes.len() || word(&self.bytes, self.head) == Some(u64::MAX);
        if skipped {
            self.head = 0;
        }
        let due = word(&self.bytes, self.head)?;
        let length = usize::try_from(word(&self.bytes, self.head + 8)?).ok()?;
        let start = self.head + RECORD;
        Some((due, start..start + length))
    }

    /// The oldest frame, if it is due.
    fn pop(&mut self, now: u64) -> Option<&[u8]> {
        let (due, range) = self.front()?;
        if due > now {
            return None;
        }
        self.head = range.end;
        self.frames -= 1;
        self.bytes.get(range)
    }
}

/// The relay's whole life.
fn relay(
    [first, second, namespace, null]: [i32; 4],
    tags: &[u8],
    delay: u64,
    queues: &mut [Queue; 2],
) -> ! {
    // SAFETY: integers only. Standard streams go to /dev/null, or a pipe that
    // somebody waits on would never close; every descriptor above the sockets'
    // new numbers is closed for the same reason.
    unsafe {
        libc::setns(namespace, libc::CLONE_NEWNET);
        libc::setsid();
        for stream in 0..3 {
            libc::dup2(null, stream);
        }
        // Out of the way of the numbers they are to have.
        let first = libc::fcntl(first, libc::F_DUPFD, 10);
        let second = libc::fcntl(second, libc::F_DUPFD, 10);
        libc::dup2(first, 3);
        libc::dup2(second, 4);
        libc::syscall(libc::SYS_close_range, 5, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, c"insession-relay".as_ptr());
    }
    let mut buffer = [0_u8; ROOM + FRAME];
    let [onward, back] = queues;
    loop {
        let due = [onward.due(), back.due()].into_iter().flatten().min();
        wait(due);
        let now = monotonic();
        take(3, now + delay, &mut buffer, &[], onward);
        take(4, now + delay, &mut buffer, tags, back);
        give(4, now, onward);
        give(3, now, back);
    }
}

fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the timespec lives on this stack; CLOCK_MONOTONIC cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Until a frame comes in or the oldest is due.
fn wait(due: Option<u64>) {
    let mut ready = [3, 4].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = due.map(|due| {
        let rest = due.saturating_sub(monotonic());
        libc::timespec {
            tv_sec: (rest / 1_000_000_000).cast_signed(),
            tv_nsec: (rest % 1_000_000_000).cast_signed(),
        }
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: two pollfds and at most one timespec on this stack; no signal mask.
    unsafe { libc::ppoll(ready.as_mut_ptr(), 2, timeout, std::ptr::null()) };
}

/// Takes in frames that wait at `from`, with `tags` put in.
fn take(from: i32, due: u64, buffer: &mut [u8; ROOM + FRAME], tags: &[u8], queue: &mut Queue) {
    for _ in 0..BATCH {
        // SAFETY: the buffer has FRAME bytes after its first ROOM.
        let length = unsafe {
            libc::recv(
                from,
                buffer.as_mut_ptr().add(ROOM).cast(),
                FRAME,
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            // Interface gone or down: nothing will come any more.
            // SAFETY: reads errno; _exit(2) takes an integer and runs no destructor.
            unsafe {
                if *libc::__errno_location() != libc::EAGAIN {
                    libc::_exit(0);
                }
            }
            return;
        };
        if !(MACS..=FRAME).contains(&length) {
            continue;
        }
        let start = ROOM - tags.len();
        buffer.copy_within(ROOM..ROOM + MACS, start);
        buffer[start + MACS..start + MACS + tags.len()].copy_from_slice(tags);
        queue.push(due, &buffer[start..ROOM + length]);
    }
}

/// Sends what is due out of `to`.
fn give(to: i32, now: u64, queue: &mut Queue) {
    while let Some(frame) = queue.pop(now) {
        // SAFETY: the frame's pointer and length. A frame that does not go out
        // is lost, as on any wire.
        unsafe { libc::send(to, frame.as_ptr().cast(), frame.len(), 0) };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{CAPACITY, Queue, header};

    #[test]
    fn tags_stand_as_802_1q_says() {
        assert_eq!(header(&[5]), ([0x81, 0, 0, 5, 0, 0, 0, 0], 4));
        assert_eq!(
            header(&[0x123, 7]),
            ([0x88, 0xa8, 1, 0x23, 0x81, 0, 0, 7], 8)
        );
        assert_eq!(header(&[]).1, 0);
    }

    /// Against a queue that cannot be wrong, through many turns of the ring.
    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut queue = Queue::new();
        let mut oracle = VecDeque::new();
        let mut bytes = 0;
        for n in 0..400_000_u64 {
            let length = usize::try_from(n * 7919 % 1500).unwrap();
            let frame = vec![n.to_le_bytes()[0]; length];
            // Nearly full at times, nearly empty at others.
            let keep = if n / 20_000 % 2 == 0 {
                CAPACITY - 8192
            } else {
                4096
            };
            while bytes + 16 + length > keep {
                let (due, expected): (u64, Vec<u8>) = oracle.pop_front().unwrap();
                assert_eq!(queue.due(), Some(due));
                assert_eq!(queue.pop(due - 1), None);
                assert_eq!(queue.pop(due), Some(expected.as_slice()));
                bytes -= 16 + expected.len();
            }
            let before = queue.frames;
            queue.push(n + 1, &frame);
            if queue.frames > before {
                oracle.push_back((n + 1, frame));
                bytes += 16 + length;
            }
        }
        assert!(!oracle.is_empty());
        for (due, expected) in oracle {
            assert_eq!(queue.pop(due), Some(expected.as_slice()));
        }
        assert_eq!(queue.due(), None);
    }
}
