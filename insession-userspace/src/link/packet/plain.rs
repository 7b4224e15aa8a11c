//! Frames of an interface as they are, for what no link steers: packets longer than a
//! probe, and fragments. What is received is a copy; the kernel has it, too.

use std::io;
use std::os::fd::OwnedFd;

use libc::sock_filter;

use super::socket::{self, Receiver};
use crate::link::LinkError;
use crate::net::Interface;

/// ICMPv6 echo replies and fragments of ICMPv6 packets, right behind the IPv6 header.
const ECHO_REPLIES_V6: [(u16, u8, u8, u32); 10] = [
    (LOAD_HALF, 0, 0, 12),
    (EQUAL, 0, 7, 0x86dd),
    (LOAD_BYTE, 0, 0, 20),
    (EQUAL, 0, 2, 44),
    // What follows the fragment header.
    (LOAD_BYTE, 0, 0, 54),
    (EQUAL, 2, 3, 58),
    // The type of what is whole.
    (LOAD_BYTE, 0, 0, 54),
    (EQUAL, 0, 1, 129),
    (RETURN, 0, 0, u32::MAX),
    (RETURN, 0, 0, 0),
];
/// All there are.
#[cfg(test)]
const ALL: [(u16, u8, u8, u32); 1] = [(RETURN, 0, 0, u32::MAX)];

const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The socket.
pub struct Frames {
    socket: OwnedFd,
    receiver: Receiver,
}

impl Frames {
    /// Of ICMPv6 echo replies, whole ones and in fragments.
    ///
    /// # Errors
    /// When AF_PACKET is not permitted.
    pub fn echo_replies_v6(interface: &Interface) -> Result<Self, LinkError> {
        Self::open(interface, &ECHO_REPLIES_V6)
    }

    /// Of all there are.
    #[cfg(test)]
    pub(crate) fn all(interface: &Interface) -> Result<Self, LinkError> {
        Self::open(interface, &ALL)
    }

    fn open(interface: &Interface, filter: &[(u16, u8, u8, u32)]) -> Result<Self, LinkError> {
        let steps = filter.iter().map(|(code, yes, no, value)| sock_filter {
            code: *code,
            jt: *yes,
            jf: *no,
            k: *value,
        });
        let steps: Vec<_> = steps.collect();
        let socket = socket::open(interface.index, &steps);
        Ok(Frames {
            socket: socket.map_err(|error| failed(&interface.name, error))?,
            receiver: Receiver::new(),
        })
    }

    /// Sends one frame; `false`: the kernel has no room for it now.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        match socket::send(&self.socket, std::iter::once(frame)) {
            Ok(sent) => Ok(sent == 1),
            Err(error) if busy(&error) => Ok(false),
            Err(error) => Err(failed("sending", error)),
        }
    }

    /// Gives each of at most `budget` received frames to `each`, from its Ethernet header
    /// on.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn receive(&mut self, budget: usize, each: &mut dyn FnMut(&[u8])) -> Result<(), LinkError> {
        self.receiver
            .receive(&self.socket, budget)
            .map_err(|error| failed("receiving", error))?;
        let frames = self.receiver.frames().filter(|frame| !frame.outgoing);
        frames.for_each(|frame| each(frame.bytes));
        Ok(())
    }
}

fn busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

fn failed(what: &str, source: io::Error) -> LinkError {
    LinkError::System {
        what: format!("AF_PACKET socket: {what}"),
        source,
    }
}
