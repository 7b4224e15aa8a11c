//! The AF_PACKET socket: system calls only.
//!
//! Plain `recvmmsg` and `sendmmsg`: a memory-mapped ring (TPACKET_V3) would
//! save a copy a frame, and hand over a block only when it is full or a timer
//! fires, milliseconds late; this link is for hosts where XDP is not permitted,
//! not for speed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::link::clock;
use crate::net::socket::{bind_raw, set_option};

/// Opens it on one interface. Nothing gets in before `filter` is there.
pub(super) fn open(interface: u32, filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Protocol 0 receives nothing (packet(7)).
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_ptr().cast_mut(),
    };
    let set = |level, name, value: libc::c_int| set_option(socket.as_fd(), level, name, &value);
    set_option(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_ATTACH_FILTER,
        &program,
    )?;
    set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    // As much as an administrator may, else as much as anybody may.
    if set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    }
    // SAFETY: a sockaddr_ll of zero bytes is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // All protocols: only then are outgoing frames seen (`ptype_all`,
    // net/core/dev.c).
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = libc::c_int::try_from(interface).unwrap_or(0);
    bind_raw(socket.as_fd(), &address)?;
    Ok(socket)
}

/// Opens a raw socket that sends IPv4 packets as they are written, by whatever way the
/// kernel finds, and receives nothing (raw(7), IPPROTO_RAW).
pub(super) fn open_ipv4() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Some thousand replies of a burst, each with its bookkeeping in the kernel.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;

/// Frames dropped since the last call because the receive buffer was full.
pub(super) fn take_drops(socket: &OwnedFd) -> u32 {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: `stats` has `length` bytes, all of which the kernel may write.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if result == 0 { stats.tp_drops } else { 0 }
}

/// Messages a receive call takes at most.
const BATCH: usize = 32;
/// A frame as long as GRO makes them, and its tags.
const FRAME: usize = (1 << 16) + 32;
/// A tag put back in front takes this much.
const TAG: usize = 4;
/// Control messages: a timespec and a `tpacket_auxdata`, each with its header.
const CONTROL: usize = 128;

/// One received frame.
pub(super) struct Frame<'a> {
    /// From its Ethernet header on, with the VLAN tag that the kernel took out.
    pub bytes: &'a [u8],
    /// When the kernel received it: CLOCK_REALTIME, nanoseconds; 0: not told.
    pub stamp: u64,
    /// On its way out.
    pub outgoing: bool,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// The memory of one receive call. Pages that no frame reaches are never
/// touched, so the length of [`FRAME`] costs address space only.
pub(super) struct Receiver {
    frames: Vec<u8>,
    control: Vec<Control>,
    addresses: Vec<libc::sockaddr_ll>,
    lengths: Vec<usize>,
    stamps: Vec<u64>,
    tags: Vec<Option<[u8; TAG]>>,
    filled: usize,
}

impl Receiver {
    pub fn new() -> Self {
        // SAFETY: a sockaddr_ll of zero bytes is valid.
        let address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        Receiver {
            frames: vec![0; BATCH * (TAG + FRAME)],
            control: vec![Control([0; CONTROL]); BATCH],
            addresses: vec![address; BATCH],
            lengths: vec![0; BATCH],
            stamps: vec![0; BATCH],
            tags: vec![None; BATCH],
            filled: 0,
        }
    }

    /// Receives at most `budget` frames, without waiting; returns how many.
    pub fn receive(&mut self, socket: &OwnedFd, budget: usize) -> io::Result<usize> {
        self.filled = 0;
        let wanted = budget.min(BATCH);
        if wanted == 0 {
            return Ok(0);
        }
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|_| libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        });
        // SAFETY: an mmsghdr of zero bytes is valid: no buffers at all.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let slots = self.frames.chunks_exact_mut(TAG + FRAME);
        let rest = self.control.iter_mut().zip(&mut self.addresses);
        for (((message, vector), slot), (control, address)) in
            messages.iter_mut().zip(&mut vectors).zip(slots).zip(rest)
        {
            let (_, room) = slot.split_at_mut(TAG);
            vector.iov_base = room.as_mut_ptr().cast();
            vector.iov_len = room.len();
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = std::ptr::from_mut(address).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_control = std::ptr::from_mut(control).cast();
            header.msg_controllen = CONTROL as _;
        }
        let received = loop {
            // SAFETY: `messages` has at least `wanted` entries; each points to
            // memory of `self`, of the lengths given, that outlives the call.
            let result = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    wanted as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(result) {
                Ok(received) => break received,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::WouldBlock => return Ok(0),
                        _ => return Err(error),
                    }
                }
            }
        };
        let told = self.lengths.iter_mut().zip(&mut self.stamps);
        for (message, ((length, stamp), tag)) in
            messages.iter().take(received).zip(told.zip(&mut self.tags))
        {
            *length = usize::try_from(message.msg_len).unwrap_or(0).min(FRAME);
            (*stamp, *tag) = control_messages(&message.msg_hdr);
        }
        self.filled = received;
        Ok(received)
    }

    /// The frames of the last call.
    pub fn frames(&mut self) -> impl Iterator<Item = Frame<'_>> {
        let slots = self.frames.chunks_exact_mut(TAG + FRAME);
        let told = self.lengths.iter().zip(&self.stamps);
        let told = told.zip(self.tags.iter().zip(&self.addresses));
        slots
            .zip(told)
            .take(self.filled)
            .map(|(slot, ((length, stamp), (tag, address)))| Frame {
                bytes: with_tag(slot, *length, *tag),
                stamp: *stamp,
                outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
            })
    }
}

/// The frame in `slot`, which begins [`TAG`] bytes into it, with its tag put
/// back between the MAC addresses and the EtherType.
fn with_tag(slot: &mut [u8], length: usize, tag: Option<[u8; TAG]>) -> &[u8] {
    const ADDRESSES: usize = 12;
    let begin = match tag {
        Some(tag) if length >= ADDRESSES => {
            slot.copy_within(TAG..TAG + ADDRESSES, 0);
            if let Some(field) = slot.get_mut(ADDRESSES..ADDRESSES + TAG) {
                field.copy_from_slice(&tag);
            }
            0
        }
        _ => TAG,
    };
    slot.get(begin..TAG + length).unwrap_or_default()
}

/// The receive stamp and the VLAN tag.
fn control_messages(header: &libc::msghdr) -> (u64, Option<[u8; TAG]>) {
    let (mut stamp, mut tag) = (0, None);
    // SAFETY: the kernel has written the control messages and their total
    // length into `header`, whose buffer is alive; the macros stay inside it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: not null means: a whole cmsghdr inside the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: the data of `message` follows its header.
        let data = unsafe { libc::CMSG_DATA(message) };
        // SAFETY: no pointers are followed.
        let needs = |size: usize| unsafe { libc::CMSG_LEN(size as libc::c_uint) } as usize;
        let length = message.cmsg_len;
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                if length >= needs(size_of::<libc::timespec>()) =>
            {
                // SAFETY: the length was checked; alignment is not assumed.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                stamp = clock::nanos(time);
            }
            (libc::SOL_PACKET, libc::PACKET_AUXDATA)
                if length >= needs(size_of::<libc::tpacket_auxdata>()) =>
            {
                // SAFETY: as above.
                let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
                tag = vlan_tag(&aux);
            }
            _ => {}
        }
        // SAFETY: `message` is a control message of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    (stamp, tag)
}

fn vlan_tag(aux: &libc::tpacket_auxdata) -> Option<[u8; TAG]> {
    if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let protocol = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
        aux.tp_vlan_tpid
    } else {
        0x8100
    };
    let [a, b] = protocol.to_be_bytes();
    let [c, d] = aux.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

/// Sends `frames` in order until the kernel takes no more; returns how many it
/// took. An error is that of the first frame, and nothing was sent.
pub(super) fn send<'a>(
    socket: &OwnedFd,
    frames: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    send_to(socket, frames.map(|frame| (frame, None)))
}

/// The same of IPv4 packets, by a socket of [`open_ipv4`].
pub(super) fn send_ipv4<'a>(
    socket: &OwnedFd,
    packets: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    let addressed = packets.map(|packet| {
        // SAFETY: a sockaddr_in of zero bytes is valid.
        let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        to.sin_family = libc::AF_INET as libc::sa_family_t;
        let destination = packet.get(16..20).and_then(<[u8]>::first_chunk);
        to.sin_addr.s_addr = u32::from_ne_bytes(*destination.unwrap_or(&[0; 4]));
        (packet, Some(to))
    });
    send_to(socket, addressed)
}

fn send_to<'a>(
    socket: &OwnedFd,
    frames: impl Iterator<Item = (&'a [u8], Option<libc::sockaddr_in>)>,
) -> io::Result<usize> {
    let mut parts: Vec<_> = frames
        .map(|(frame, to)| {
            let vector = libc::iovec {
                // The kernel only reads from it.
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            };
            (vector, to)
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|(vector, to)| {
            // SAFETY: an mmsghdr of zero bytes is valid: no buffers at all.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            if let Some(address) = to {
                message.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            message
        })
        .collect();
    loop {
        // SAFETY: `messages` has that many entries, each with one vector of a
        // live slice, and an address of `parts` where it has one.
        let result = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                libc::c_uint::try_from(messages.len()).unwrap_or(libc::c_uint::MAX),
                libc::MSG_DONTWAIT,
            )
        };
        match usize::try_from(result) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
