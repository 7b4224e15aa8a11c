//! The memory that frames lie in, and whose each frame is.
//!
//! Every queue has a memory of its own, cut into chunks of one size. Receive and
//! transmit chunks are kept apart ([`Frames`] twice), so that a burst of one can
//! never starve the other.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::huge;

/// Octets of a chunk. 2048 holds an Ethernet frame of 1500 octets behind the
/// kernel's 256 octets of headroom, and is the kernel's minimum; larger replies
/// than 1792 octets are not ours to expect (probes are small, routers quote at
/// most 576 or the MTU).
pub(super) const CHUNK: usize = 2048;

/// The longest IP packet that we let a server send: that of Ethernet, which fits
/// into a chunk with any tags (the kernel drops what does not).
pub(super) const LONGEST_PACKET: u32 = 1500;
const _: () = assert!(256 + 14 + 2 * 4 + LONGEST_PACKET as usize <= CHUNK);

/// Anonymous, page-aligned memory, given back on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the mapping alone and is not bound to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Fresh zeroed memory.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// The same in huge pages of 2 MiB, of which `length` is a multiple. They are
    /// set aside at once or not at all.
    pub(super) fn huge(length: usize) -> io::Result<Self> {
        let huge = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        Self::map(
            length,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge,
            -1,
            0,
        )
    }

    /// What `descriptor` shares at `offset`.
    pub(super) fn shared(
        length: usize,
        descriptor: std::os::fd::BorrowedFd<'_>,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        Self::map(
            length,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            descriptor.as_raw_fd(),
            offset,
        )
    }

    fn map(length: usize, flags: i32, descriptor: i32, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                flags,
                descriptor,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, length })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing borrows it any
        // more: every slice borrows the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The memory of one queue's frames.
#[derive(Debug)]
pub(super) struct Umem {
    mapping: Mapping,
    /// Octets that are cut into chunks: the whole, up to the end of a page.
    length: usize,
    huge: bool,
}

impl Umem {
    /// Memory for so many chunks.
    pub(super) fn new(chunks: u32) -> io::Result<Self> {
        let length = chunks as usize * CHUNK;
        Ok(Umem {
            mapping: Mapping::anonymous(length)?,
            length,
            huge: false,
        })
    }

    /// The same in huge pages.
    pub(super) fn huge(chunks: u32) -> io::Result<Self> {
        let length = chunks as usize * CHUNK;
        Ok(Umem {
            mapping: Mapping::huge(huge::pages(chunks) * huge::PAGE)?,
            length,
            huge: true,
        })
    }

    pub(super) fn is_huge(&self) -> bool {
        self.huge
    }

    pub(super) fn address(&self) -> u64 {
        self.mapping.start().as_ptr() as u64
    }

    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    /// The octets in `range`, or `None` where it is not inside one chunk.
    ///
    /// The caller holds the frame: the kernel has handed it over.
    pub(super) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.inside(&range)?;
        // SAFETY: inside the mapping; the kernel does not write to frames that
        // stand in no ring of its own.
        Some(unsafe {
            std::slice::from_raw_parts(self.mapping.start().as_ptr().add(range.start), range.len())
        })
    }

    /// The whole chunk with this number, to write into.
    ///
    /// The caller holds the frame: it is idle.
    pub(super) fn chunk_mut(&mut self, chunk: u32) -> Option<&mut [u8]> {
        let start = chunk as usize * CHUNK;
        self.inside(&(start..start + CHUNK))?;
        // SAFETY: as above; `&mut self` keeps every other slice away.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.mapping.start().as_ptr().add(start), CHUNK)
        })
    }

    fn inside(&self, range: &Range<usize>) -> Option<()> {
        let last = range.end.checked_sub(1)?;
        (range.start <= last && range.end <= self.length && range.start / CHUNK == last / CHUNK)
            .then_some(())
    }
}

/// Whose the frames of one direction are: idle (ours) or out (the kernel's).
///
/// First in, first out: in copy mode a driver that sends without linear copies
/// (`IFF_TX_SKB_NO_LINEAR`) can report completion when the packet changes hands,
/// while its payload is still read from the chunk; so a chunk rests as long as
/// possible before it is written again.
#[derive(Debug)]
pub(super) struct Frames {
    chunks: Range<u32>,
    idle: VecDeque<u32>,
    out: Box<[bool]>,
    out_count: usize,
}

impl Frames {
    /// All of these chunks, idle.
    pub(super) fn new(chunks: Range<u32>) -> Self {
        Frames {
            idle: chunks.clone().collect(),
            out: vec![false; chunks.len()].into(),
            out_count: 0,
            chunks,
        }
    }

    pub(super) fn total(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn out(&self) -> usize {
        self.out_count
    }

    /// The idle chunk that has rested longest; it stays idle until
    /// [`Frames::hand_over`].
    pub(super) fn next(&self) -> Option<u32> {
        self.idle.front().copied()
    }

    /// The chunk that [`Frames::next`] named is the kernel's from now on.
    pub(super) fn hand_over(&mut self) {
        if let Some(chunk) = self.idle.pop_front() {
            if let Some(out) = self.out.get_mut((chunk - self.chunks.start) as usize) {
                *out = true;
            }
            self.out_count += 1;
        }
    }

    /// The kernel gave the chunk with this address back; false (and nothing
    /// changes) when it was not the kernel's to give.
    #[must_use]
    pub(super) fn take_back(&mut self, address: u64) -> bool {
        let Ok(chunk) = u32::try_from(address / CHUNK as u64) else {
            return false;
        };
        let Some(out) = chunk
            .checked_sub(self.chunks.start)
            .and_then(|index| self.out.get_mut(index as usize))
        else {
            return false;
        };
        if !std::mem::replace(out, false) {
            return false;
        }
        self.out_count -= 1;
        self.idle.push_back(chunk);
        true
    }

    /// Frames are conserved: idle + out = all.
    pub(super) fn check(&self) {
        debug_assert_eq!(self.idle() + self.out(), self.total());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slices_stay_inside_one_chunk() {
        let mut umem = Umem::new(2).unwrap();
        umem.chunk_mut(1).unwrap()[0] = 7;
        assert_eq!(umem.bytes(CHUNK..CHUNK + 1), Some(&[7][..]));
        assert_eq!(umem.bytes(0..CHUNK).unwrap().len(), CHUNK);
        assert!(umem.bytes(CHUNK - 1..CHUNK + 1).is_none());
        assert!(umem.bytes(CHUNK..2 * CHUNK + 1).is_none());
        assert!(umem.bytes(5..5).is_none());
        assert!(umem.chunk_mut(2).is_none());
    }

    #[test]
    fn frame_is_given_back_once_and_only_by_its_owner() {
        let mut frames = Frames::new(4..6);
        assert!(!frames.take_back(4 * CHUNK as u64), "idle");
        frames.hand_over();
        assert!(!frames.take_back(3 * CHUNK as u64), "below the range");
        assert!(!frames.take_back(6 * CHUNK as u64), "above the range");
        assert!(!frames.take_back(u64::MAX));
        assert!(
            frames.take_back(4 * CHUNK as u64 + 256),
            "any address inside"
        );
        assert!(!frames.take_back(4 * CHUNK as u64), "twice");
        frames.check();
    }

    proptest! {
        /// Whatever the kernel answers, no frame is lost and none is in two hands.
        #[test]
        fn frames_are_conserved(steps in proptest::collection::vec(
            prop_oneof![Just(None), (0u64..12).prop_map(Some)], 1..200,
        )) {
            let mut frames = Frames::new(2..10);
            let mut out = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    None => {
                        if let Some(chunk) = frames.next() {
                            prop_assert!(out.insert(u64::from(chunk)));
                        }
                        frames.hand_over();
                    }
                    Some(chunk) => {
                        prop_assert_eq!(frames.take_back(chunk * CHUNK as u64), out.remove(&chunk));
                    }
                }
                prop_assert_eq!(frames.out(), out.len());
                prop_assert_eq!(frames.idle() + out.len(), frames.total());
            }
        }
    }
}
