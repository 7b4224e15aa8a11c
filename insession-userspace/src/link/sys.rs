//! System calls that both links of the kernel make.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::time::Duration;

/// An eventfd: a link's waker.
pub(super) fn event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes back what was written to an eventfd; whether there was something.
pub(super) fn drain(event: &OwnedFd) -> bool {
    let mut value = [0_u8; 8];
    // SAFETY: 8 bytes are there. Where nothing was written it fails at once
    // (EAGAIN), which is as good.
    unsafe { libc::read(event.as_raw_fd(), value.as_mut_ptr().cast(), value.len()) > 0 }
}

/// What ended a [`poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// Some of the descriptors are ready.
    Ready,
    /// The time was over.
    TimedOut,
    /// A signal; what is ready was not looked at.
    Signal,
}

/// Sleeps until one of these is ready or the time is over, to the nanosecond.
pub(super) fn poll(polled: &mut [libc::pollfd], timeout: Duration) -> io::Result<Polled> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: a slice of pollfds and its length, a timespec, no signal mask.
    let result = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
    match result {
        0 => Ok(Polled::TimedOut),
        1.. => Ok(Polled::Ready),
        _ => {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                Ok(Polled::Signal)
            } else {
                Err(error)
            }
        }
    }
}

/// The processors that this thread may run on.
pub(super) fn allowed_processors() -> Vec<usize> {
    let mut set = no_processors();
    // SAFETY: 0 is this thread; writes at most the set's size.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if result != 0 {
        return Vec::new();
    }
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: below the set's size.
        .filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) })
        .collect()
}

/// Has this thread run on that processor only, as long as it lives.
pub(crate) fn run_on(processor: usize) -> io::Result<()> {
    if processor >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = no_processors();
    // SAFETY: below the set's size.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: 0 is this thread; reads the set, whose size is given.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn no_processors() -> libc::cpu_set_t {
    // SAFETY: plain data, for which zero is a value: no processor.
    unsafe { std::mem::zeroed() }
}
/// Gives the kernel back what the allocator keeps of freed memory, where it can:
/// so that resident memory is what is in use.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory is passed; the allocator gives up only what is free
    // (malloc_trim(3), safe with threads).
    unsafe {
        libc::malloc_trim(0);
    }
}
