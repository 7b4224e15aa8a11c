//! Ctrl-C: the program in the foreground gets it too and ends; we go on, take
//! the lab down, and fail.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP are only noted. Programs that we
/// start take them as always: a handler does not outlive exec.
pub fn catch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which signal-safety(7) allows.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// An error when one came.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("interrupted; everything was taken down");
    }
    Ok(())
}
