//! One netlink conversation: a request, its answers, its end. Blocking, with a
//! deadline on every receive.
//!
//! Attributes are walked, not decoded into the typed messages of
//! `netlink-packet-route`: its decoders refuse a whole message for one
//! attribute that the running kernel lays out otherwise than the crate knows
//! it, and a dump of all interfaces would fail for one exotic device. What is
//! read here is a handful of attributes that have not changed since they exist.
//!
//! A netlink socket belongs to the network namespace of the thread that opened
//! it, whichever thread uses it later.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::BufMut;
use netlink_packet_core::NlasIterator;
use netlink_sys::{Socket, SocketAddr};

/// The kernel answers netlink requests within the system call that sends them;
/// a second is far beyond that, and short enough to wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The kernel fills at most 32 KiB at once (`NLMSG_GOODSIZE`, net/netlink/af_netlink.c
/// `netlink_dump`), and single messages longer than that do not occur in the
/// tables read here.
const BUFFER: usize = 64 * 1024;

const HEADER: usize = 16;
/// include/uapi/linux/netlink.h.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why the kernel did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The error number.
    pub error: io::Error,
    /// The kernel's own words (extended acknowledgement), where it has some.
    pub text: Option<String>,
}

impl Refusal {
    /// The error number; 0 where it was not the kernel's.
    pub fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(0)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal { error, text: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({text})", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

/// A request under construction.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of type `kind`, ended by an acknowledgement; `body` is the
    /// fixed part that follows the netlink header.
    pub fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        Request::with_flags(kind, flags | libc::NLM_F_ACK, body)
    }

    /// A request of type `kind` that has an answer in any case: one message, or the
    /// reason why not. For [`Netlink::ask`] alone.
    pub fn question(kind: u16, body: &[u8]) -> Self {
        Request::with_flags(kind, 0, body)
    }

    /// A request for a whole table.
    pub fn dump(kind: u16, body: &[u8]) -> Self {
        Request::with_flags(kind, libc::NLM_F_DUMP, body)
    }

    fn with_flags(kind: u16, flags: i32, body: &[u8]) -> Self {
        // The flags are 16 bits wide, libc's constants are not.
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let mut bytes = Vec::with_capacity(128);
        bytes.put_u32_ne(0);
        bytes.put_u16_ne(kind);
        bytes.put_u16_ne(flags);
        bytes.put_u64_ne(0);
        bytes.put_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Request { bytes }
    }

    /// Adds an attribute (at most 64 KiB, which nothing here comes near).
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.put_u16_ne(length);
        self.bytes.put_u16_ne(kind);
        self.bytes.put_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Whether nothing says when its answers end.
    fn is_question(&self) -> bool {
        let ends = libc::NLM_F_ACK | libc::NLM_F_DUMP;
        u16_at(&self.bytes, 6).is_some_and(|flags| i32::from(flags) & ends == 0)
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(0..4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        if let Some(field) = self.bytes.get_mut(8..12) {
            field.copy_from_slice(&sequence.to_ne_bytes());
        }
        self.bytes
    }
}

/// A socket and the conversation on it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of this netlink protocol (`NETLINK_ROUTE`, …).
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // The request is not repeated in front of an error's explanation.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        sys::receive_timeout(socket.as_raw_fd(), ANSWER_WITHIN)?;
        Ok(Netlink {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends a request and gives each answer's type and body to `each`, until
    /// the kernel says that this was all. False for a dump under which the table
    /// changed: there may be more in it, or less.
    ///
    /// For most purposes such a dump is as good as any: it is no older than one
    /// taken a moment earlier.
    pub fn exchange(
        &mut self,
        request: Request,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<bool, Refusal> {
        self.exchange_while(request, |kind, body| {
            each(kind, body);
            true
        })
    }

    /// The same, as long as `each` wants more. When it does not, the rest of a dump is
    /// still to be read: this socket is for nothing else then.
    pub fn exchange_while(
        &mut self,
        request: Request,
        mut each: impl FnMut(u16, &[u8]) -> bool,
    ) -> Result<bool, Refusal> {
        let answers_once = request.is_question();
        let mut whole = true;
        self.sequence = self.sequence.wrapping_add(1);
        let sent = request.finish(self.sequence);
        self.socket.send(&sent, 0)?;
        loop {
            let received = receive(&self.socket, &mut self.buffer, 0)?;
            for message in Messages::new(received) {
                // An answer to a question that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_NOOP => {}
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => return message.end().map(|()| whole),
                    _ if each(message.kind, message.body) => {}
                    _ => return Ok(false),
                }
                if answers_once {
                    return Ok(true);
                }
            }
        }
    }

    /// The body of the one answer to `request`; `None` when it was only
    /// acknowledged.
    pub fn ask(&mut self, request: Request) -> Result<Option<Vec<u8>>, Refusal> {
        let mut answer = None;
        self.exchange(request, |_, body| answer = Some(body.to_vec()))?;
        Ok(answer)
    }
}

/// A socket that hears what changes in one table.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribes to a group of `NETLINK_ROUTE` (`RTNLGRP_NEIGH`, …).
    pub fn subscribe(group: u32) -> io::Result<Self> {
        let mut socket = Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(group)?;
        Ok(Events {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// Waits at most `limit` for something to happen, and gives type and body
    /// of all that has to `each`; whether there was more, which is lost.
    pub fn take(&mut self, limit: Duration, mut each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut flags = libc::MSG_DONTWAIT;
        if !limit.is_zero() {
            // Rounded to zero it would mean for ever (SO_RCVTIMEO, socket(7)).
            let limit = limit.max(Duration::from_millis(1));
            sys::receive_timeout(self.socket.as_raw_fd(), limit)?;
            flags = 0;
        }
        let mut lost = false;
        loop {
            match receive(&self.socket, &mut self.buffer, flags) {
                Ok(received) => {
                    for message in Messages::new(received) {
                        each(message.kind, message.body);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(lost),
                Err(error) => return Err(error),
            }
            flags = libc::MSG_DONTWAIT;
        }
    }
}

fn receive<'a>(socket: &Socket, buffer: &'a mut [u8], flags: libc::c_int) -> io::Result<&'a [u8]> {
    let length = loop {
        let mut slot = &mut *buffer;
        match socket.recv(&mut slot, libc::MSG_TRUNC | flags) {
            Ok(length) => break length,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "netlink: no answer in time",
                    ));
                }
                _ => return Err(error),
            },
        }
    };
    buffer.get(..length).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("netlink: a message of {length} bytes was cut short"),
        )
    })
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// What `NLMSG_ERROR` or `NLMSG_DONE` says: both begin with an error
    /// number, negative, or 0 (a `NLMSG_DONE` may be empty).
    fn end(&self) -> Result<(), Refusal> {
        let code = u32_at(self.body, 0).unwrap_or(0).cast_signed();
        if code == 0 {
            return Ok(());
        }
        // Behind the number: the request's header, capped to just that.
        let text = (self.flags & NLM_F_ACK_TLVS != 0)
            .then(|| self.body.get(4 + HEADER..))
            .flatten()
            .and_then(|rest| attributes(rest).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG))
            .map(|(_, value)| text(value));
        Err(Refusal {
            error: io::Error::from_raw_os_error(code.saturating_neg()),
            text,
        })
    }
}

struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Messages(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let message = self.0.get(..length)?;
        let body = message.get(HEADER..)?;
        let next = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        self.0 = next;
        Some(Message {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            body,
        })
    }
}

/// The attributes in `bytes`, type (without its flag bits) and value; ends at
/// the first that is malformed.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|attribute| {
            let (kind, length) = (attribute.kind(), attribute.value_length());
            let value = attribute.into_inner().get(4..).unwrap_or_default();
            (kind, value.get(..length).unwrap_or_default())
        })
}

/// A `u16` in this machine's byte order.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_ne_bytes(field.try_into().ok()?))
}

/// A `u32` in this machine's byte order.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}

/// A string that may be ended by a zero byte.
pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

mod sys {
    use std::io;
    use std::os::fd::RawFd;
    use std::time::Duration;

    /// From now on a receive call on this socket returns after `timeout`.
    pub(super) fn receive_timeout(fd: RawFd, timeout: Duration) -> io::Result<()> {
        let value = libc::timeval {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
        };
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: `value` is a whole timeval and lives through the call, which
        // only reads it.
        let result = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const value).cast(),
                length,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let bytes = Request::new(26, 0, &[2, 32, 0])
            .attribute(1, &[10, 0, 0, 1])
            .attribute(9, &[7])
            .finish(5);
        assert_eq!(bytes.len(), 36);
        assert_eq!(u32_at(&bytes, 0), Some(36));
        assert_eq!(u16_at(&bytes, 4), Some(26));
        assert_eq!(u16_at(&bytes, 6), Some(0x5));
        assert_eq!(u32_at(&bytes, 8), Some(5));
        let found: Vec<_> = attributes(&bytes[20..]).collect();
        assert_eq!(found, [(1, &[10, 0, 0, 1][..]), (9, &[7][..])]);
    }

    #[test]
    fn broken_messages_end_the_walk_and_do_not_panic() {
        // A length of zero, below the header's, beyond the end; a cut header.
        for length in [0_u32, 4, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(16, 0);
            assert_eq!(Messages::new(&bytes).count(), 0, "{length}");
        }
        assert_eq!(Messages::new(&[16, 0, 0]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn the_kernels_own_words_are_kept() {
        let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        // 99 is no protocol that routes may be asked for.
        let body = [2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let refusal = netlink
            .ask(Request::new(26, 0, &body).attribute(27, &[99]))
            .unwrap_err();
        assert_eq!(refusal.errno(), libc::EOPNOTSUPP);
        assert_eq!(refusal.text.as_deref(), Some("Unsupported ip proto"));
        // The conversation goes on.
        let answer = netlink
            .ask(Request::new(26, 0, &body).attribute(1, &[127, 0, 0, 1]))
            .unwrap();
        assert!(answer.is_some());
    }
}
