//! A relay in the middle of a wire that tags frames one way, for kernels
//! without 8021q: frames towards the first port get VLAN tags, frames towards
//! the second leave without.
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

/// Starts a relay between the interfaces `first` and `second` of the namespace.
///
/// # Errors
/// When the interfaces cannot be opened or the process cannot be started.
pub fn start(namespace: &Path, first: &str, second: &str, tags: &[u16]) -> Result<()> {
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
    // SAFETY: the child calls `relay` alone, which allocates nothing, takes no
    // lock and does not return: what a fork of a threaded process may do.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        relay(descriptors, tags, length);
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

/// The relay's whole life.
fn relay([first, second, namespace, null]: [i32; 4], tags: [u8; ROOM], length: usize) -> ! {
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
    loop {
        let mut ready = [3, 4].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two pollfds on this stack.
        unsafe { libc::poll(ready.as_mut_ptr(), 2, -1) };
        pass(3, 4, &mut buffer, &[]);
        pass(4, 3, &mut buffer, &tags[..length]);
    }
}

/// Passes every frame that waits at `from` on to `to`, with `tags` put in.
fn pass(from: i32, to: i32, buffer: &mut [u8; ROOM + FRAME], tags: &[u8]) {
    loop {
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
        // SAFETY: start + (tags + length) is at most the buffer's size.
        unsafe {
            libc::send(
                to,
                buffer.as_ptr().add(start).cast(),
                tags.len() + length,
                0,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn tags_stand_as_802_1q_says() {
        assert_eq!(header(&[5]), ([0x81, 0, 0, 5, 0, 0, 0, 0], 4));
        assert_eq!(
            header(&[0x123, 7]),
            ([0x88, 0xa8, 1, 0x23, 0x81, 0, 0, 7], 8)
        );
        assert_eq!(header(&[]).1, 0);
    }
}
