//! The clocks of links that live in a kernel: CLOCK_MONOTONIC, and its distance
//! from civil time.

use crate::time::Instant;

/// CLOCK_MONOTONIC: the clock of `bpf_ktime_get_ns` and of every deadline here.
pub(crate) fn monotonic() -> Instant {
    Instant::from_nanos(read(libc::CLOCK_MONOTONIC))
}

/// The calling thread's time on a processor so far (CLOCK_THREAD_CPUTIME_ID): exact
/// to the moment, and a system call.
pub(crate) fn thread() -> crate::time::Duration {
    crate::time::Duration::from_nanos(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC at this moment, nanoseconds.
///
/// The two cannot be read at once; of three tries the one is taken in which
/// nothing came between (an interrupt would put its whole length into the
/// answer).
pub(crate) fn realtime_offset() -> i64 {
    let sample = || {
        let before = read(libc::CLOCK_MONOTONIC);
        let real = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_MONOTONIC);
        let gap = after.saturating_sub(before);
        let between = before.saturating_add(gap / 2);
        (gap, real.wrapping_sub(between).cast_signed())
    };
    let [first, second, third] = [sample(), sample(), sample()];
    first.min(second).min(third).1
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a whole timespec. The call cannot fail for these clocks
    // (clock_gettime(2)).
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    nanos(time)
}

/// A kernel's timespec in nanoseconds.
pub(crate) fn nanos(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
