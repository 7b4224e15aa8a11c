//! What the guest's kernel knows, whatever the program under test says of itself.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// Commands of bpf(2) (linux/bpf.h).
const BPF_PROG_GET_NEXT_ID: i32 = 11;
const BPF_MAP_GET_NEXT_ID: i32 = 12;

/// BPF programs and maps that exist in this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: usize,
    /// Maps.
    pub maps: usize,
}

impl Objects {
    /// Counts them.
    pub fn count() -> Result<Self> {
        Ok(Objects {
            programs: ids(BPF_PROG_GET_NEXT_ID)?,
            maps: ids(BPF_MAP_GET_NEXT_ID)?,
        })
    }
}

fn ids(command: i32) -> Result<usize> {
    /// The head of `union bpf_attr` for the commands that go from id to id.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        flags: u32,
    }
    let mut attribute = NextId {
        start: 0,
        next: 0,
        flags: 0,
    };
    for count in 0.. {
        // SAFETY: the attribute lives until the call returns and its size is given.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                &raw mut attribute,
                size_of::<NextId>(),
            )
        };
        match check(answer) {
            Ok(_) => attribute.start = attribute.next,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            Err(error) => return Err(error).context("bpf(2): going from id to id"),
        }
    }
    Ok(0)
}

/// For each AF_XDP socket that a process has: whether it is zero-copy, by the
/// kernel's word (XDP_OPTIONS).
pub fn sockets_of(process: u32) -> Result<Vec<bool>> {
    let pid = i32::try_from(process)?;
    // SAFETY: pidfd_open(2) takes two integers.
    let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // One that was closed meanwhile is none.
        let Ok(place) = fs::read_link(entry.path()) else {
            continue;
        };
        let number = entry.file_name().to_string_lossy().parse::<i32>();
        let (true, Ok(number)) = (place.to_string_lossy().starts_with("socket:"), number) else {
            continue;
        };
        // SAFETY: pidfd_getfd(2) takes three integers.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
        let Ok(socket) = owned(copy) else { continue };
        if option(&socket, libc::SOL_SOCKET, libc::SO_DOMAIN)? != libc::AF_XDP {
            continue;
        }
        let flags = option(&socket, libc::SOL_XDP, libc::XDP_OPTIONS)?;
        sockets.push(flags & libc::XDP_OPTIONS_ZEROCOPY.cast_signed() != 0);
    }
    Ok(sockets)
}

/// An option that is one integer.
fn option(socket: &OwnedFd, level: i32, name: i32) -> Result<i32> {
    let mut value: i32 = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value))?;
    // SAFETY: writes at most `length` octets into `value`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    check(answer.into()).with_context(|| format!("getsockopt({level}, {name})"))?;
    Ok(value)
}

/// Has a listening socket keep so many connections that nobody has taken yet; Rust's
/// own are 128.
pub fn lengthen_queue(listener: &TcpListener, connections: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let answer = unsafe { libc::listen(listener.as_raw_fd(), connections) };
    check(answer.into()).map(drop)
}

fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

fn owned(answer: libc::c_long) -> Result<OwnedFd> {
    let descriptor = i32::try_from(check(answer)?)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
