//! Fetching ahead of need: a batch of packets is a batch of cache misses, which
//! the processor takes side by side when it is told of them early.

/// Octets of a cache line.
const LINE: usize = 64;
/// More lines of one value than these are not fetched: the processor follows a
/// value that is read in order by itself.
const LINES: usize = 4;

/// Has the lines of `value` fetched into the cache, without waiting for them. On
/// processors that it does not know it does nothing.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start: *const i8 = core::ptr::from_ref(value).cast();
        for line in 0..size_of::<T>().div_ceil(LINE).min(LINES) {
            // SAFETY: a hint, which reads and writes nothing, and faults nowhere;
            // and each address lies in `value`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line * LINE)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE, LINES);
}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn any_size_will_do() {
        prefetch(&());
        prefetch(&1u8);
        let large = [7u8; 1_000];
        prefetch(&large);
        assert_eq!(large, [7; 1_000]);
    }
}
