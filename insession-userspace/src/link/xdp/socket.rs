//! One AF_XDP socket on one queue: its memory, its rings, its system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::ring::{Completion, Fill, Rx, Tx, View};
use super::umem::{CHUNK, Frames, Mapping, Umem};
use super::{HugePages, huge};
use crate::link::LinkError;
use crate::link::permit;
use crate::net::socket::{bind_raw, set_option};

/// How long a queue may stay busy before it counts as somebody else's: the
/// kernel takes sockets down asynchronously, 15–45 ms after the owner was
/// killed. Shorter, a restart fails for no reason; longer, a real owner is
/// reported late.
const BUSY: Duration = Duration::from_secs(2);

/// linux/if_xdp.h, since 6.17: how many frames one sendto() takes in copy mode,
/// 32 unless raised.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Which of copy and zero-copy to bind with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// Copy mode.
    Copy,
    /// Zero-copy, and copy mode where the driver refuses.
    ZeroCopyOrCopy,
    /// Zero-copy or an error.
    ZeroCopy,
}

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Frames to receive into; a power of two.
    pub(super) rx: u32,
    /// Frames to send from; a power of two, or zero for a queue that only receives.
    pub(super) tx: u32,
    pub(super) copying: Copying,
    pub(super) huge_pages: HugePages,
    /// Frames a busy poll; `None`: interrupts.
    pub(super) busy_poll: Option<u32>,
    /// `XDP_USE_NEED_WAKEUP`.
    pub(super) need_wakeup: bool,
}

/// How long a blocking call may poll, µs. Ours do not block, but zero would turn
/// busy polling off.
const BUSY_POLL_SPAN: libc::c_int = 20;

/// The sending half of a queue.
#[derive(Debug)]
pub(super) struct Transmit {
    pub(super) ring: Tx,
    pub(super) frames: Frames,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Queue {
    // First, so that it is closed before its memory is unmapped.
    descriptor: OwnedFd,
    pub(super) number: u32,
    pub(super) rx: Rx,
    pub(super) fill: Fill,
    pub(super) completion: Completion,
    pub(super) received: Frames,
    pub(super) transmit: Option<Transmit>,
    pub(super) umem: Umem,
    pub(super) zero_copy: bool,
    /// The memory below the four rings.
    _rings: Vec<Mapping>,
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }
}

impl Queue {
    /// Opens, fills and binds a socket.
    pub(super) fn open(
        interface: &str,
        index: u32,
        number: u32,
        setup: Setup,
    ) -> Result<Self, LinkError> {
        let what = |tried: &str| format!("interface {interface}, queue {number}: {tried}");
        let failed = |tried: &str| {
            let what = what(tried);
            move |source| LinkError::System { what, source }
        };
        let descriptor = socket(&what)?;
        let umem = memory(&descriptor, setup, &what)?;
        // Every bind wants a completion ring, also that of a socket without TX.
        // It has room for every frame, so the kernel never waits for us.
        let rings = [
            (libc::XDP_UMEM_FILL_RING, setup.rx),
            (libc::XDP_UMEM_COMPLETION_RING, setup.tx.max(2)),
            (libc::XDP_RX_RING, setup.rx),
            (libc::XDP_TX_RING, setup.tx),
        ];
        for (option, entries) in rings {
            if entries > 0 {
                set_option(descriptor.as_fd(), libc::SOL_XDP, option, &entries)
                    .map_err(failed("size of a ring"))?;
            }
        }
        let offsets: libc::xdp_mmap_offsets = get(&descriptor, libc::XDP_MMAP_OFFSETS)
            .map_err(failed("where its rings lie (need_wakeup, Linux 5.4)"))?;
        let mut mappings = Vec::with_capacity(4);
        let mapped = failed("a ring's memory");
        let mut map = |offset: &libc::xdp_ring_offset, entry: usize, entries: u32, page: u64| {
            let length = offset.desc as usize + entry * entries as usize;
            let mapping = Mapping::shared(length, descriptor.as_fd(), page as libc::off_t)?;
            let parts = Parts::of(&mapping, offset, entry, entries)?;
            mappings.push(mapping);
            io::Result::Ok(parts)
        };
        let (address, descriptor_size) = (size_of::<u64>(), size_of::<libc::xdp_desc>());
        let parts = (|| {
            Ok((
                map(
                    &offsets.fr,
                    address,
                    setup.rx,
                    libc::XDP_UMEM_PGOFF_FILL_RING,
                )?,
                map(
                    &offsets.cr,
                    address,
                    setup.tx.max(2),
                    libc::XDP_UMEM_PGOFF_COMPLETION_RING,
                )?,
                map(
                    &offsets.rx,
                    descriptor_size,
                    setup.rx,
                    libc::XDP_PGOFF_RX_RING as u64,
                )?,
                match setup.tx {
                    0 => None,
                    tx => Some(map(
                        &offsets.tx,
                        descriptor_size,
                        tx,
                        libc::XDP_PGOFF_TX_RING as u64,
                    )?),
                },
            ))
        })()
        .map_err(mapped)?;
        // SAFETY: `Parts::of` has seen that the parts lie inside their mappings,
        // which the queue keeps; the other end is the kernel.
        let (fill, completion, rx, tx) = unsafe {
            (
                Fill::new(parts.0.view()),
                Completion::new(parts.1.view()),
                Rx::new(parts.2.view()),
                parts.3.map(|parts| Tx::new(parts.view())),
            )
        };
        let mut queue = Queue {
            descriptor,
            number,
            rx,
            fill,
            completion,
            received: Frames::new(0..setup.rx),
            transmit: tx.map(|ring| Transmit {
                ring,
                frames: Frames::new(setup.rx..setup.rx + setup.tx),
            }),
            umem,
            zero_copy: false,
            _rings: mappings,
        };
        if setup.tx > 0 {
            queue.widen(setup.tx);
        }
        // Before the bind: zero-copy drivers fill their hardware rings in it.
        queue.refill();
        if let Some(budget) = setup.busy_poll {
            queue
                .poll_busily(budget)
                .map_err(|source| refused(what("busy polling"), source))?;
        }
        queue.bind(interface, index, setup)?;
        let options: libc::xdp_options =
            get(&queue, libc::XDP_OPTIONS).map_err(failed("what was bound"))?;
        queue.zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(queue)
    }

    /// Lets a batch go with fewer calls. Both are improvements only: refused by
    /// older kernels or without CAP_NET_ADMIN, nothing is lost but time.
    fn widen(&self, frames: u32) {
        let _ = set_option(self.as_fd(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &frames);
        // In copy mode the frames in flight are accounted as socket buffers of
        // less than 1 KiB each; the default holds 277 of them.
        let _ = set_option(
            self.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &frames.saturating_mul(1024),
        );
    }

    /// No interrupts as long as somebody polls; so many frames a poll.
    fn poll_busily(&self, budget: u32) -> io::Result<()> {
        let budget = libc::c_int::try_from(budget.clamp(1, u16::MAX.into())).unwrap_or(1);
        for (option, value) in [
            (libc::SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, BUSY_POLL_SPAN),
            (libc::SO_BUSY_POLL_BUDGET, budget),
        ] {
            set_option(self.as_fd(), libc::SOL_SOCKET, option, &value)?;
        }
        Ok(())
    }

    fn bind(&mut self, interface: &str, index: u32, setup: Setup) -> Result<(), LinkError> {
        let copying = setup.copying;
        let try_bind = |flags: u16| {
            let flags = flags
                | if setup.need_wakeup {
                    libc::XDP_USE_NEED_WAKEUP
                } else {
                    0
                };
            self.try_bind(index, flags)
        };
        let number = self.number;
        let what = || format!("interface {interface}, queue {number}: AF_XDP socket");
        let refused = |source: io::Error| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => permit::not_permitted(what(), &[permit::NET_RAW]),
            Some(libc::EBUSY) => LinkError::Occupied {
                interface: interface.to_owned(),
                owner: format!("an AF_XDP socket of another program on queue {number}"),
                mend: "end it (`ss --xdp -p` names it), or use another interface".into(),
            },
            Some(libc::ENETDOWN | libc::ENODEV | libc::ENXIO) => {
                LinkError::Down(interface.to_owned())
            }
            _ => LinkError::System {
                what: what(),
                source,
            },
        };
        if copying != Copying::Copy {
            match try_bind(libc::XDP_ZEROCOPY) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    return Err(refused(error));
                }
                Err(error) if copying == Copying::ZeroCopy => {
                    return Err(LinkError::Unsupported {
                        what: format!("interface {interface}, queue {number}: zero-copy"),
                        reason: format!("the driver or this device does not do it ({error})"),
                        mend: "use `--zero-copy auto` or `off`".into(),
                    });
                }
                Err(error) => {
                    tracing::debug!(interface, queue = number, %error, "no zero-copy, copying");
                }
            }
        }
        try_bind(libc::XDP_COPY).map_err(refused)
    }

    /// Binds, waiting for a dead owner's socket to be gone.
    fn try_bind(&self, index: u32, flags: u16) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: index,
            sxdp_queue_id: self.number,
            sxdp_shared_umem_fd: 0,
        };
        let started = Instant::now();
        loop {
            let Err(error) = bind_raw(self.as_fd(), &address) else {
                return Ok(());
            };
            match error.raw_os_error() {
                Some(libc::EBUSY) if started.elapsed() < BUSY => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(libc::EINTR) => {}
                _ => return Err(error),
            }
        }
    }

    /// Offers all idle receive frames to the kernel.
    pub(super) fn refill(&mut self) {
        while let Some(chunk) = self.received.next() {
            if !self.fill.push(u64::from(chunk) * CHUNK as u64) {
                break;
            }
            self.received.hand_over();
        }
        self.fill.publish();
    }

    /// Writes a frame into the TX ring's batch; `false`: there is no room, and `fill`
    /// was not called.
    pub(super) fn write(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> bool {
        let Some(transmit) = self.transmit.as_mut() else {
            return false;
        };
        let Some(chunk) = transmit.frames.next() else {
            return false;
        };
        let Some(bytes) = self.umem.chunk_mut(chunk) else {
            return false;
        };
        let length = fill(bytes).min(CHUNK);
        if length == 0 {
            return true;
        }
        // The ring has as many entries as there are frames: it is not full.
        if !transmit
            .ring
            .push(u64::from(chunk) * CHUNK as u64, length as u32)
        {
            return false;
        }
        transmit.frames.hand_over();
        transmit.frames.check();
        true
    }

    /// Takes back the frames that are sent; how many, and how many that were
    /// never out.
    pub(super) fn reclaim(&mut self) -> (usize, u64) {
        let Some(transmit) = &mut self.transmit else {
            return (0, 0);
        };
        let (mut returned, mut unknown) = (0, 0);
        while let Some(address) = self.completion.pop() {
            if transmit.frames.take_back(address) {
                returned += 1;
            } else {
                unknown += 1;
            }
        }
        self.completion.release();
        transmit.frames.check();
        (returned, unknown)
    }

    /// Has the kernel look at the TX ring.
    pub(super) fn kick_tx(&self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        let answer = unsafe {
            libc::sendto(
                self.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Has a driver that ran out of receive frames look at the fill ring. Its
    /// answer does not matter: poll() asks again.
    pub(super) fn kick_fill(&self) {
        // SAFETY: no memory is passed.
        unsafe {
            libc::recvfrom(
                self.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// The kernel's own counters of this socket.
    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        get(self, libc::XDP_STATISTICS)
    }
}

fn socket(what: &dyn Fn(&str) -> String) -> Result<OwnedFd, LinkError> {
    // SAFETY: no memory is passed.
    let descriptor = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if descriptor >= 0 {
        // SAFETY: fresh, and nobody else's.
        return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
    let source = io::Error::last_os_error();
    let what = what("AF_XDP socket");
    Err(match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => permit::not_permitted(what, &[permit::NET_RAW]),
        Some(libc::EAFNOSUPPORT) => LinkError::Unsupported {
            what,
            reason: "the kernel is built without CONFIG_XDP_SOCKETS".into(),
            mend: "use `--link packet`".into(),
        },
        _ => LinkError::System { what, source },
    })
}

/// Why busy polling is not to be had.
fn refused(what: String, source: io::Error) -> LinkError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => permit::not_permitted(what, &[permit::NET_ADMIN]),
        Some(libc::ENOPROTOOPT) => LinkError::Unsupported {
            what,
            reason:
                "the kernel does not know SO_PREFER_BUSY_POLL (Linux 5.11, CONFIG_NET_RX_BUSY_POLL)"
                    .into(),
            mend: "do without busy polling".into(),
        },
        _ => LinkError::System { what, source },
    }
}

/// Memory for the frames, registered; in huge pages where they are wanted and, if
/// they need not be, are to be had.
fn memory(
    descriptor: &OwnedFd,
    setup: Setup,
    what: &dyn Fn(&str) -> String,
) -> Result<Umem, LinkError> {
    let chunks = setup.rx + setup.tx;
    let try_huge = match setup.huge_pages {
        HugePages::On => true,
        HugePages::Auto => huge::free() > 0,
        HugePages::Off => false,
    };
    if try_huge {
        let huge = Umem::huge(chunks)
            .map_err(|source| {
                huge::refused(what("memory for frames in huge pages"), chunks, source)
            })
            .and_then(|umem| register(descriptor, &umem, what).map(|()| umem));
        match huge {
            Err(error) if setup.huge_pages == HugePages::Auto => {
                tracing::debug!(%error, "no huge pages");
            }
            huge => return huge,
        }
    }
    let umem = Umem::new(chunks).map_err(|source| LinkError::System {
        what: what("memory for frames"),
        source,
    })?;
    register(descriptor, &umem, what)?;
    Ok(umem)
}

fn register(
    descriptor: &OwnedFd,
    umem: &Umem,
    what: &dyn Fn(&str) -> String,
) -> Result<(), LinkError> {
    let memory = libc::xdp_umem_reg {
        addr: umem.address(),
        len: umem.length(),
        chunk_size: CHUNK as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(
        descriptor.as_fd(),
        libc::SOL_XDP,
        libc::XDP_UMEM_REG,
        &memory,
    )
    .map_err(|source| {
        let what = what("memory for frames (UMEM)");
        match source.raw_os_error() {
            Some(libc::ENOBUFS) => LinkError::LockedMemory {
                what,
                octets: umem.length(),
            },
            Some(libc::EPERM | libc::EACCES) => permit::not_permitted(what, &[permit::NET_RAW]),
            _ => LinkError::System { what, source },
        }
    })
}

/// The addresses of one ring's parts.
struct Parts {
    producer: NonNull<u8>,
    consumer: NonNull<u8>,
    flags: NonNull<u8>,
    entries: NonNull<u8>,
    size: u32,
}

impl Parts {
    /// Where the kernel says they lie, if that is inside the mapping.
    fn of(
        mapping: &Mapping,
        offset: &libc::xdp_ring_offset,
        entry: usize,
        size: u32,
    ) -> io::Result<Self> {
        let at = |offset: u64, align: usize, length: usize| {
            let offset = usize::try_from(offset).ok()?;
            let inside = offset.checked_add(length)? <= mapping.length();
            // SAFETY: inside the mapping.
            (inside && offset % align == 0).then(|| unsafe { mapping.start().add(offset) })
        };
        let parts = || {
            Some(Parts {
                producer: at(offset.producer, 4, 4)?,
                consumer: at(offset.consumer, 4, 4)?,
                flags: at(offset.flags, 4, 4)?,
                entries: at(offset.desc, 8, entry * size as usize)?,
                size,
            })
        };
        parts().ok_or_else(|| io::Error::other("the kernel's offsets lie outside the ring"))
    }

    /// # Safety
    /// The mapping outlives the view, holds `size` entries of `T`, and this is
    /// the only view of our end.
    unsafe fn view<T: Copy>(self) -> View<T> {
        // SAFETY: by the contract above; `of` has looked at bounds and alignment.
        unsafe {
            View::new(
                self.producer.cast(),
                self.consumer.cast(),
                self.flags.cast(),
                self.entries.cast(),
                self.size,
            )
        }
    }
}

/// Reads an option of the AF_XDP level; `T` is one of the kernel's structures of
/// integers. A kernel that knows only a shorter structure is an error.
fn get<T: Copy>(socket: &impl AsRawFd, option: i32) -> io::Result<T> {
    // SAFETY: integers only, for which zero is a value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: writes at most `length` octets into `value`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size_of::<T>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(value)
}
