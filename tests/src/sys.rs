//! System-call shims: namespaces, processes, packet sockets. What else
//! is `unsafe` in this crate: the fork of the relay, bpf(2) of the foreign program.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `work` on a thread that lives in the network namespace at `path`.
///
/// Only the thread moves; processes that `work` starts are born there.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn in_namespace<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: setns(2) takes a descriptor, which `file` keeps open, and
            // changes the namespace of this thread alone.
            let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            check(result.into()).with_context(|| format!("{}: setns", path.display()))?;
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Ends a process for good: a descriptor of it is taken first and `still` asked
/// then, so a number that was given to another process meanwhile does no harm.
///
/// # Errors
/// When it is not gone within five seconds.
pub fn kill(pid: i32, still: impl FnOnce() -> bool) -> Result<()> {
    let Some(process) = pidfd(pid)? else {
        return Ok(());
    };
    if !still() {
        return Ok(());
    }
    // SAFETY: pidfd_send_signal(2) takes integers and a null pointer (siginfo as
    // kill(2) would make it).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match check(result) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        other => other.with_context(|| format!("process {pid}: kill"))?,
    };
    if !readable(&process, Duration::from_secs(5))? {
        bail!("process {pid}: does not end within 5 s of SIGKILL");
    }
    // A child of ours would stay a zombie.
    // SAFETY: waitpid(2) with a null status; a pid that is no child of ours gives ECHILD.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    Ok(())
}

/// Sends a signal to a child that was not waited for yet.
///
/// # Errors
/// When the kernel refuses.
pub fn signal(child: &Child, number: i32) -> Result<()> {
    let pid = i32::try_from(child.id()).context("pid")?;
    // SAFETY: kill(2) takes two integers; the pid is a child's that has not been
    // waited for, so it cannot have been given away.
    check(unsafe { libc::kill(pid, number) }.into()).context("kill")?;
    Ok(())
}

/// Waits for a child, but no longer than `limit`; `None` when it still runs.
///
/// # Errors
/// When the kernel refuses.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).context("pid")?;
    if let Some(process) = pidfd(pid)?
        && !readable(&process, limit)?
    {
        return Ok(None);
    }
    Ok(Some(child.wait()?))
}

/// A descriptor of the process, or `None` when there is no such process.
fn pidfd(pid: i32) -> Result<Option<OwnedFd>> {
    // SAFETY: pidfd_open(2) takes two integers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match check(result) {
        Ok(descriptor) => Ok(Some(owned(descriptor)?)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("process {pid}: pidfd_open")),
    }
}

/// Whether a descriptor becomes readable within `limit`.
fn readable(descriptor: &impl AsRawFd, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = i32::try_from(rest.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, which lives on this stack.
        match check(unsafe { libc::poll(&raw mut poll, 1, timeout) }.into()) {
            Ok(ready) => return Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// Waits until an interface of the calling thread's namespace is operational
/// (RFC 2863, IFF_RUNNING).
///
/// # Errors
/// When it is not within five seconds.
pub fn running(interface: &str) -> Result<()> {
    // SAFETY: socket(2) takes three integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = owned(check(socket.into()).context("socket(AF_INET)")?)?;
    // SAFETY: ifreq is plain integers in arrays and a union of such; all zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *to = from.cast_signed();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of this ifreq.
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
        check(result.into()).with_context(|| format!("{interface}: SIOCGIFFLAGS"))?;
        // SAFETY: the kernel has just written the flags.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_RUNNING != 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{interface}: no carrier within 5 s");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A raw packet socket on one interface: sees every frame that enters or leaves it.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// A frame as a packet socket saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// CLOCK_REALTIME, nanoseconds.
    pub at: u64,
    /// It left the interface.
    pub outgoing: bool,
    /// From the Ethernet header on; without a VLAN tag, which the kernel takes off.
    pub bytes: Vec<u8>,
}

impl PacketSocket {
    /// Opens one in the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no such interface, or it is not permitted.
    pub fn open(interface: &str) -> Result<Self> {
        let all = i32::from(u16::try_from(libc::ETH_P_ALL)?.to_be());
        // SAFETY: socket(2) takes three integers.
        let result = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            )
        };
        let socket = owned(check(result.into()).context("socket(AF_PACKET)")?)?;
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: a NUL-terminated name.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("{interface}: no such interface");
        }
        // Room for a whole run: it is read when the run is over.
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256 << 20)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        // SAFETY: sockaddr_ll is plain integers; all zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_protocol = u16::try_from(all)?;
        address.sll_ifindex = i32::try_from(index)?;
        // SAFETY: the address lives on this stack, its size is its type's.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?,
            )
        };
        check(result.into()).with_context(|| format!("{interface}: bind(AF_PACKET)"))?;
        Ok(PacketSocket(socket))
    }

    /// Does not show what leaves the interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn incoming_only(self) -> Result<Self> {
        set(&self.0, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        Ok(self)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the frame's pointer and length.
        let result =
            unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        check(i64::try_from(result)?).context("send(AF_PACKET)")?;
        Ok(())
    }

    /// How many frames did not fit since this was last asked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lost(&self) -> Result<u32> {
        let mut statistics = [0_u32; 2];
        let mut size = libc::socklen_t::try_from(size_of_val(&statistics))?;
        // SAFETY: struct tpacket_stats is two u32: packets and drops; the size
        // given is that of the array.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        check(result.into()).context("PACKET_STATISTICS")?;
        Ok(statistics[1])
    }

    /// The next frame; waits for it no longer than `limit`.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn next(&self, limit: Duration) -> Result<Option<Seen>> {
        if !limit.is_zero() && !readable(&self.0, limit)? {
            return Ok(None);
        }
        let mut bytes = vec![0_u8; 65_536];
        let mut control = [0_u64; 32];
        // SAFETY: sockaddr_ll and msghdr are plain integers and pointers; all
        // zero is a value of both.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { mem::zeroed() };
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer in the message is to memory of this frame, with its size.
        let result = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        match check(i64::try_from(result)?) {
            Ok(length) => bytes.truncate(usize::try_from(length)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("recvmsg(AF_PACKET)"),
        }
        Ok(Some(Seen {
            at: stamp(&message),
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            bytes,
        }))
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// SCM_TIMESTAMPNS of a received message, nanoseconds; 0 where there is none.
fn stamp(message: &libc::msghdr) -> u64 {
    // SAFETY: the header's control pointer and length are those the kernel left.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, hence inside the control buffer (cmsg(3)).
        let control = unsafe { &*header };
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: a SCM_TIMESTAMPNS carries a timespec, perhaps unaligned.
            let time: libc::timespec = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::timespec>()
                    .read_unaligned()
            };
            return u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
                + u64::try_from(time.tv_nsec).unwrap_or(0);
        }
        // SAFETY: header is from this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    0
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: i32) -> Result<()> {
    // SAFETY: an int option; the value lives on this stack.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of::<i32>())?,
        )
    };
    check(result.into()).with_context(|| format!("setsockopt({level}, {option})"))?;
    Ok(())
}

/// A result of a system call, or errno.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes over a descriptor that a system call just returned.
pub(crate) fn owned(descriptor: libc::c_long) -> Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor)?;
    // SAFETY: callers pass what the kernel just gave them, and keep no copy.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
