//! The four rings that an AF_XDP socket shares with the kernel.
//!
//! A ring is an array of a power of two entries and two free-running 32-bit
//! indices, one written by each side. Which side writes what is the whole
//! protocol (Linux `net/xdp/xsk_queue.h`): the producer writes entries, then
//! its index with release; the consumer reads that index with acquire, then the
//! entries, then gives them back by its own index with release. Both indices
//! wrap at 2^32, so all differences are wrapping.
//!
//! The index arithmetic ([`Producer`], [`Consumer`]) works on a [`View`], which
//! may lie in the kernel's mapping or in ordinary memory: the tests put the
//! kernel's role on the other end of the same memory.
//!
//! Four types, because the four rings are not interchangeable: we produce
//! [`Fill`] and [`Tx`], the kernel produces [`Rx`] and [`Completion`]; the first
//! and the last carry frame addresses, the middle two descriptors.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the parts of one ring lie in memory.
#[derive(Debug)]
pub(super) struct View<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
}

// SAFETY: by the contract of `new` nobody else uses this end, whichever thread
// it is on; what both ends touch are atomics and entries handed over by them.
unsafe impl<T: Send> Send for View<T> {}

impl<T: Copy> View<T> {
    /// A view of the ring whose parts lie at these addresses.
    ///
    /// # Safety
    /// All four stay valid and aligned as long as the view lives, `entries` for
    /// `size` entries, every bit pattern of which is a `T`; `size` is a power of
    /// two; nobody but one view of the other end touches them.
    pub(super) unsafe fn new(
        producer: NonNull<AtomicU32>,
        consumer: NonNull<AtomicU32>,
        flags: NonNull<AtomicU32>,
        entries: NonNull<T>,
        size: u32,
    ) -> Self {
        debug_assert!(size.is_power_of_two());
        View {
            producer,
            consumer,
            flags,
            entries,
            size,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: valid as long as the view lives, by the contract of `new`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: valid as long as the view lives, by the contract of `new`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> u32 {
        // SAFETY: valid as long as the view lives, by the contract of `new`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed)
    }

    fn slot(&self, index: u32) -> NonNull<T> {
        let offset = (index & (self.size - 1)) as usize;
        // SAFETY: masked, so below `size`, and `entries` is valid for `size`.
        unsafe { self.entries.add(offset) }
    }
}

/// The end that writes entries.
#[derive(Debug)]
struct Producer<T> {
    view: View<T>,
    /// The index that the next entry gets; those before it are written.
    next: u32,
    /// Our index as the other end sees it.
    published: u32,
    /// The other end's index when last looked at: never ahead of the truth, so
    /// a stale value only hides room.
    seen: u32,
}

impl<T: Copy> Producer<T> {
    fn new(view: View<T>) -> Self {
        let published = view.producer().load(Ordering::Relaxed);
        let seen = view.consumer().load(Ordering::Acquire);
        Producer {
            view,
            next: published,
            published,
            seen,
        }
    }

    /// How many entries may be written; looks at the other end's index only
    /// when the last look leaves no room.
    fn free(&mut self) -> u32 {
        if self.next.wrapping_sub(self.seen) >= self.view.size {
            self.seen = self.view.consumer().load(Ordering::Acquire);
        }
        self.view
            .size
            .saturating_sub(self.next.wrapping_sub(self.seen))
    }

    /// Writes one entry; false when the ring is full.
    fn push(&mut self, entry: T) -> bool {
        if self.free() == 0 {
            return false;
        }
        // SAFETY: the slot is ours: between the consumer's index and its
        // index + size, and not published yet.
        unsafe { self.view.slot(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows all written entries to the other end; how many are new.
    fn publish(&mut self) -> u32 {
        let new = self.next.wrapping_sub(self.published);
        if new > 0 {
            self.published = self.next;
            self.view.producer().store(self.next, Ordering::Release);
        }
        new
    }

    /// How many published entries the other end has not taken yet.
    fn untaken(&mut self) -> u32 {
        self.seen = self.view.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(self.seen)
    }

    fn needs_wakeup(&self) -> bool {
        self.view.flags() & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The end that reads entries.
#[derive(Debug)]
struct Consumer<T> {
    view: View<T>,
    /// The index of the next entry to read.
    next: u32,
    /// Our index as the other end sees it.
    released: u32,
    /// The other end's index when last looked at; a stale value only hides
    /// entries.
    seen: u32,
}

impl<T: Copy> Consumer<T> {
    fn new(view: View<T>) -> Self {
        let released = view.consumer().load(Ordering::Relaxed);
        Consumer {
            view,
            next: released,
            released,
            seen: released,
        }
    }

    /// How many entries can be read; looks at the other end's index only when
    /// all that were seen are read.
    fn available(&mut self) -> u32 {
        if self.next == self.seen {
            self.seen = self.view.producer().load(Ordering::Acquire);
        }
        self.seen.wrapping_sub(self.next).min(self.view.size)
    }

    fn pop(&mut self) -> Option<T> {
        if self.available() == 0 {
            return None;
        }
        // SAFETY: the other end has published this entry and does not touch it
        // before our index passes it.
        let entry = unsafe { self.view.slot(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// The entries that [`Consumer::pop`] gives next, at most `most`, without taking
    /// them.
    fn ahead(&mut self, most: usize) -> impl Iterator<Item = T> {
        if (self.seen.wrapping_sub(self.next) as usize) < most {
            self.seen = self.view.producer().load(Ordering::Acquire);
        }
        let there = self.seen.wrapping_sub(self.next).min(self.view.size);
        (0..there).take(most).map(|nth| {
            // SAFETY: published, and not given back yet.
            unsafe { self.view.slot(self.next.wrapping_add(nth)).read() }
        })
    }

    /// Gives all read entries back to the other end.
    fn release(&mut self) {
        if self.released != self.next {
            self.released = self.next;
            self.view.consumer().store(self.next, Ordering::Release);
        }
    }
}

/// Frames that the kernel may receive into.
#[derive(Debug)]
pub(super) struct Fill(Producer<u64>);

impl Fill {
    pub(super) fn new(view: View<u64>) -> Self {
        Fill(Producer::new(view))
    }

    /// Offers the frame at this address; false when the ring is full.
    pub(super) fn push(&mut self, address: u64) -> bool {
        self.0.push(address)
    }

    pub(super) fn publish(&mut self) -> u32 {
        self.0.publish()
    }

    /// Whether the driver went to sleep over an empty ring and wants a call.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

/// Frames that the kernel received.
#[derive(Debug)]
pub(super) struct Rx(Consumer<libc::xdp_desc>);

impl Rx {
    pub(super) fn new(view: View<libc::xdp_desc>) -> Self {
        Rx(Consumer::new(view))
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.0.available() == 0
    }

    pub(super) fn pop(&mut self) -> Option<libc::xdp_desc> {
        self.0.pop()
    }

    /// What [`Rx::pop`] gives next, at most `most`.
    pub(super) fn ahead(&mut self, most: usize) -> impl Iterator<Item = libc::xdp_desc> {
        self.0.ahead(most)
    }

    pub(super) fn release(&mut self) {
        self.0.release();
    }
}

/// Frames that the kernel is to send.
#[derive(Debug)]
pub(super) struct Tx(Producer<libc::xdp_desc>);

impl Tx {
    pub(super) fn new(view: View<libc::xdp_desc>) -> Self {
        Tx(Producer::new(view))
    }

    /// Writes a descriptor; false when the ring is full. The kernel sees it
    /// after [`Tx::publish`].
    pub(super) fn push(&mut self, address: u64, length: u32) -> bool {
        self.0.push(libc::xdp_desc {
            addr: address,
            len: length,
            options: 0,
        })
    }

    pub(super) fn publish(&mut self) -> u32 {
        self.0.publish()
    }

    /// How many published frames the kernel has not taken yet.
    pub(super) fn untaken(&mut self) -> u32 {
        self.0.untaken()
    }

    /// Whether the kernel sends only after a call.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

/// Frames that the kernel has done with.
#[derive(Debug)]
pub(super) struct Completion(Consumer<u64>);

impl Completion {
    pub(super) fn new(view: View<u64>) -> Self {
        Completion(Consumer::new(view))
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        self.0.pop()
    }

    pub(super) fn release(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A ring in ordinary memory.
    struct Memory<T> {
        producer: AtomicU32,
        consumer: AtomicU32,
        flags: AtomicU32,
        entries: Box<[UnsafeCell<T>]>,
    }

    impl<T: Copy + Default> Memory<T> {
        fn new(size: u32, start: u32) -> Self {
            Memory {
                producer: AtomicU32::new(start),
                consumer: AtomicU32::new(start),
                flags: AtomicU32::new(0),
                entries: (0..size).map(|_| UnsafeCell::new(T::default())).collect(),
            }
        }

        fn view(&self) -> View<T> {
            let entries = NonNull::new(self.entries.as_ptr() as *mut T).unwrap();
            // SAFETY: `self` outlives the views of every test below; `UnsafeCell`
            // permits the writes; the tests make one view for each end.
            unsafe {
                View::new(
                    NonNull::from(&self.producer),
                    NonNull::from(&self.consumer),
                    NonNull::from(&self.flags),
                    entries,
                    self.entries.len() as u32,
                )
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Publish,
        Pop(u32),
        Release,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(
            prop_oneof![
                (1u32..20).prop_map(Step::Push),
                Just(Step::Publish),
                (1u32..20).prop_map(Step::Pop),
                Just(Step::Release),
            ],
            1..200,
        )
    }

    proptest! {
        /// Both ends against three queues: written, published, read but not
        /// released. Starts anywhere, so near the wrap of the indices too.
        #[test]
        fn ring_is_a_queue(
            steps in steps(),
            bits in 0u32..6,
            start in prop_oneof![any::<u32>(), (u32::MAX - 40)..=u32::MAX],
        ) {
            let size = 1 << bits;
            let memory = Memory::<u64>::new(size, start);
            let (mut producer, mut consumer) =
                (Producer::new(memory.view()), Consumer::new(memory.view()));
            let (mut written, mut published) = (VecDeque::new(), VecDeque::new());
            let (mut read, mut token) = (0usize, 0u64);
            for step in steps {
                match step {
                    Step::Push(times) => for _ in 0..times {
                        let full = written.len() + published.len() + read >= size as usize;
                        prop_assert_eq!(producer.push(token), !full);
                        if !full {
                            written.push_back(token);
                            token += 1;
                        }
                    },
                    Step::Publish => {
                        prop_assert_eq!(producer.publish() as usize, written.len());
                        published.append(&mut written);
                    }
                    Step::Pop(times) => for _ in 0..times {
                        let expected = published.pop_front();
                        read += usize::from(expected.is_some());
                        prop_assert_eq!(consumer.pop(), expected);
                    },
                    Step::Release => {
                        consumer.release();
                        read = 0;
                    }
                }
                prop_assert_eq!(producer.untaken() as usize, published.len() + read);
            }
        }
    }

    #[test]
    fn stale_index_of_the_consumer_is_looked_up_again_only_when_full() {
        let memory = Memory::<u64>::new(4, u32::MAX - 1);
        let mut fill = Fill::new(memory.view());
        let mut kernel = Consumer::new(memory.view());
        assert_eq!((0..6).filter(|&n| fill.push(n)).count(), 4);
        fill.publish();
        assert_eq!(kernel.pop(), Some(0));
        assert!(!fill.push(9), "read, but not given back");
        kernel.release();
        assert_eq!(fill.0.seen, u32::MAX - 1, "the cached index is the old one");
        assert!(fill.push(9), "full by the cached index, so it is looked at");
        assert_eq!(fill.0.seen, u32::MAX);
        assert!(!fill.push(10));
    }

    #[test]
    fn stale_index_of_the_producer_is_looked_up_again_only_when_empty() {
        let memory = Memory::<u64>::new(4, u32::MAX);
        let mut kernel = Producer::new(memory.view());
        let mut completion = Completion::new(memory.view());
        assert_eq!(completion.pop(), None);
        kernel.push(1);
        assert_eq!(completion.pop(), None, "written, but not published");
        kernel.publish();
        assert_eq!(completion.pop(), Some(1));
        kernel.push(2);
        kernel.publish();
        assert_eq!(completion.0.seen, 0, "the cached index is the old one");
        assert_eq!(completion.pop(), Some(2));
        assert_eq!(completion.0.seen, 1);
    }

    #[test]
    fn wakeup_follows_the_flag() {
        let memory = Memory::<u64>::new(2, 0);
        let fill = Fill::new(memory.view());
        assert!(!fill.needs_wakeup());
        memory
            .flags
            .store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(fill.needs_wakeup());
    }

    /// Two real threads: every entry arrives once, in order, whole.
    #[test]
    fn entries_cross_threads_whole_and_in_order() {
        const COUNT: u64 = 20_000;
        let memory = Memory::<[u64; 2]>::new(64, u32::MAX - 100);
        let mut producer = Producer::new(memory.view());
        let mut consumer = Consumer::new(memory.view());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut n = 0;
                while n < COUNT {
                    if producer.push([n, !n]) {
                        n += 1;
                        producer.publish();
                    } else {
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < COUNT {
                match consumer.pop() {
                    Some(entry) => {
                        assert_eq!(entry, [expected, !expected]);
                        expected += 1;
                        consumer.release();
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}
