//! AF_XDP behind the XDP program.
//!
//! The program (`insession-ebpf`) sits on the interface by a bpf_link, stamps
//! what is ours and redirects it to the socket of the queue it arrived on; all
//! else goes on to the kernel. [`XdpLink`] has one socket on every receive queue,
//! since a socket gets only what its own queue receives, and sends through that
//! of the first.
//!
//! The rings are written against the kernel's ABI (linux/if_xdp.h), which has not
//! changed since need_wakeup came (Linux 5.4), and not taken from a crate:
//!
//! * every frame has to be accounted for (`umem::Frames`): what the kernel says
//!   it gives back is checked against what it holds, and frames that do not come
//!   back are an error with a name, not a hang;
//! * the stamp lies *before* the address in the RX descriptor, in headroom that a
//!   packet type of somebody else's hides;
//! * the arithmetic of the indices is tested in ordinary memory, the kernel's end
//!   played by the test, which a crate that maps rings itself does not allow;
//! * `xdp` 0.8 has chunks of 2 or 4 KiB and its own UMEM life cycle, `xsk-rs` 0.11
//!   brings C (libxdp, libelf): both more than the few hundred lines here.
//!
//! | file | what it is for |
//! |---|---|
//! | `options` | how a link is opened |
//! | `kick` | sending what was written |
//! | `ring` | index arithmetic, four rings as four types |
//! | `umem` | frame memory, and whose each frame is |
//! | `socket` | one socket: its system calls |
//! | `program` | the XDP program: attach, flows, counters |
//! | `device` | what the kernel says about the interface |
//! | `watch` | interface gone? driver stalled? |
//! | `zero_copy` | where zero-copy is chosen unasked |

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use insession_common::flow::{FlowKey, PROTOCOL_TCP, SessionId};
use insession_common::stamp::{ReplyStamp, SteerKind};

use crate::link::sys::{self, Polled};
use crate::link::{Link, LinkError, Received, clock, kernel};
use crate::net::{Interface, ports};
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::LinkInfo;

mod device;
mod kick;
pub mod object;
mod options;
mod program;
mod ring;
mod socket;
mod umem;
mod watch;
mod zero_copy;

use device::{Device, State};
use options::{FEWEST_RX, rx_frames, size};
pub use options::{XdpMode, XdpOptions, ZeroCopy};
use program::{Attached, Program};
use socket::{Copying, Queue, Size};

/// How long a wait sleeps at a time when there is no room, or when a kick left
/// frames in the TX ring. poll() cannot tell when room appears: POLLOUT speaks of
/// the TX ring, which is empty long before the frames are given back.
const PRESSED: Duration = Duration::from_micros(200);

/// AF_XDP on all queues of one interface.
pub struct XdpLink {
    // First: the program is detached before the sockets are closed. The other way
    // round, drivers have crashed under load.
    program: Program,
    /// The first of them sends.
    queues: Vec<Queue>,
    device: Device,
    loopback: bool,
    waker: Arc<OwnedFd>,
    polled: Vec<libc::pollfd>,
    /// The queue that [`Link::receive`] begins with.
    turn: usize,
    presence: watch::Presence,
    progress: watch::Progress,
    /// Frames came back since the last look at `progress`.
    returned: bool,
    bad_stamps: u64,
    unknown_frames: u64,
}

impl std::fmt::Debug for XdpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XdpLink")
            .field("device", &self.device)
            .field("attached", &self.program.attached())
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

// A link is opened anywhere and used by one worker.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<XdpLink>();
};

impl XdpLink {
    /// Loads and attaches the XDP program, binds a socket on every queue, and
    /// waits for the carrier.
    ///
    /// The interface is that of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LinkError::NotPermitted`] with the gate that is closed,
    /// [`LinkError::Occupied`] with who holds the interface or a queue,
    /// [`LinkError::Unsupported`] with what is missing, and the others.
    pub fn open(interface: &Interface, options: &XdpOptions) -> Result<XdpLink, LinkError> {
        let device = Device::open(interface)?;
        if device.state() == State::Down {
            return Err(LinkError::Down(interface.name.clone()));
        }
        let waker = sys::event().map_err(|source| LinkError::System {
            what: "eventfd".into(),
            source,
        })?;
        let program = Program::open(&device, options)?;
        let copying = copying(&device, program.attached(), options.zero_copy)?;
        let mut link = XdpLink {
            program,
            queues: Vec::new(),
            device,
            loopback: interface.is_loopback(),
            waker: Arc::new(waker),
            polled: Vec::new(),
            turn: 0,
            presence: watch::Presence::default(),
            progress: watch::Progress::default(),
            returned: false,
            bad_stamps: 0,
            unknown_frames: 0,
        };
        link.queues = link.open_queues(options, copying)?;
        for queue in &link.queues {
            link.program.set_socket(queue.number, queue.as_fd())?;
        }
        link.polled = link
            .queues
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain([link.waker.as_raw_fd()])
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        link.wait_for_carrier()?;
        tracing::debug!(?link, zero_copy = link.info().zero_copy, "opened");
        Ok(link)
    }

    /// One socket for every receive queue. With fewer frames to receive into
    /// where the limit of locked memory does not allow as many as asked for.
    fn open_queues(&self, options: &XdpOptions, copying: Copying) -> Result<Vec<Queue>, LinkError> {
        let mut rx = rx_frames(options.rx_frames, self.device.queues());
        loop {
            // The number of queues is asked after attaching, which may change it.
            let opened: Result<Vec<_>, _> = (0..self.device.queues())
                .map(|number| {
                    let tx = match number {
                        0 => size(options.tx_frames),
                        _ => 0,
                    };
                    let (name, index) = (self.device.name(), self.device.index());
                    Queue::open(name, index, number, Size { rx, tx }, copying)
                })
                .collect();
            match opened {
                Err(LinkError::LockedMemory { .. }) if rx > FEWEST_RX => {
                    rx /= 2;
                    tracing::info!(
                        interface = self.device.name(),
                        rx_frames = rx,
                        "locked memory is short (RLIMIT_MEMLOCK): fewer frames to receive into"
                    );
                }
                opened => return opened,
            }
        }
    }

    /// How many receive queues there are, each with a socket.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Frames written or handed over for sending and not given back yet.
    fn out(&self) -> usize {
        let transmit = self
            .queues
            .first()
            .and_then(|queue| queue.transmit.as_ref());
        transmit.map_or(0, |transmit| transmit.frames.out())
    }

    fn wait_for_carrier(&mut self) -> Result<(), LinkError> {
        loop {
            let state = self.device.state();
            let now = self.now();
            if !self.presence.observe(now, state) {
                return Err(self.down());
            }
            if state == State::Up {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn down(&self) -> LinkError {
        LinkError::Down(self.device.name().to_owned())
    }

    /// Whether interface and driver are still alive.
    fn check(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.presence.is_due(now) && !self.presence.observe(now, self.device.state()) {
            return Err(self.down());
        }
        let out = self.out();
        if !self
            .progress
            .observe(now, out, std::mem::take(&mut self.returned))
        {
            return Err(LinkError::Stalled {
                interface: self.device.name().to_owned(),
                frames: out,
                seconds: watch::STALL.as_secs(),
                mend: "try `--zero-copy off` or `--xdp-mode generic`",
            });
        }
        Ok(())
    }

    fn has_received(&mut self) -> bool {
        self.queues.iter_mut().any(|queue| !queue.rx.is_empty())
    }

    /// Whether the kernel has not taken all that was flushed.
    fn has_unsent(&mut self) -> bool {
        self.queues
            .iter_mut()
            .filter_map(|queue| queue.transmit.as_mut())
            .any(|transmit| transmit.ring.untaken() > 0)
    }

    /// One sleep; whether there is a reason to end [`Link::wait`].
    fn sleep(&mut self, span: Duration) -> Result<bool, LinkError> {
        let ended = sys::poll(&mut self.polled, span).map_err(|source| LinkError::System {
            what: format!("interface {}: waiting", self.device.name()),
            source,
        })?;
        match ended {
            Polled::Ready => {}
            Polled::TimedOut => return Ok(false),
            Polled::Signal => return Ok(true),
        }
        let Some((waker, sockets)) = self.polled.split_last() else {
            return Ok(true);
        };
        if waker.revents & libc::POLLIN != 0 {
            sys::drain(&self.waker);
        }
        // The kernel sets an error on sockets whose interface goes away.
        if sockets
            .iter()
            .any(|polled| polled.revents & !libc::POLLIN != 0)
        {
            return Err(self.down());
        }
        Ok(true)
    }
}

impl Link for XdpLink {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "xdp",
            mode: Some(self.program.attached().name()),
            zero_copy: self.queues.iter().all(|queue| queue.zero_copy),
            interface: self.device.name().to_owned(),
        }
    }

    fn now(&self) -> Instant {
        // The clock of bpf_ktime_get_ns().
        clock::monotonic()
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        // `ip_route_input_slow` (net/ipv4/route.c) takes a frame whose source is an
        // address of ours and that no socket of this kernel sent for a forgery.
        if self.loopback && flow.local.is_ipv4() {
            return Err(LinkError::Unsupported {
                what: format!("flow {} to {} over lo", flow.local, flow.remote),
                reason: "the kernel drops IPv4 frames that AF_XDP puts on lo, since their source is an address of this host".into(),
                mend: "use `--link packet`, or `--link auto` without an XDP mode".into(),
            });
        }
        self.program.add_flow(&key(flow)?, session)
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let Ok(key) = key(flow) {
            self.program.remove_flow(&key);
        }
    }

    fn room(&mut self) -> usize {
        self.reclaim();
        let transmit = self
            .queues
            .first()
            .and_then(|queue| queue.transmit.as_ref());
        transmit.map_or(0, |transmit| transmit.frames.idle())
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let queue = self.queues.first_mut().ok_or(LinkError::Full)?;
        let transmit = queue.transmit.as_mut().ok_or(LinkError::Full)?;
        let chunk = transmit.frames.next().ok_or(LinkError::Full)?;
        let bytes = queue.umem.chunk_mut(chunk).ok_or(LinkError::Full)?;
        let length = fill(bytes).min(umem::CHUNK);
        if length == 0 {
            return Ok(());
        }
        // The ring has as many entries as there are frames: it is not full.
        if !transmit
            .ring
            .push(u64::from(chunk) * umem::CHUNK as u64, length as u32)
        {
            return Err(LinkError::Full);
        }
        transmit.frames.hand_over();
        transmit.frames.check();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        if let Some(transmit) = self.queues.first_mut().and_then(|q| q.transmit.as_mut()) {
            transmit.ring.publish();
        }
        self.kick()?;
        let now = self.now();
        self.check(now)
    }

    fn in_flight(&mut self) -> usize {
        self.reclaim();
        self.out()
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let (mut left, mut given) = (budget, 0);
        let count = self.queues.len();
        for offset in 0..count {
            let Some(queue) = self.queues.get_mut((self.turn + offset) % count) else {
                continue;
            };
            let mut any = false;
            while left > 0
                && let Some(descriptor) = queue.rx.pop()
            {
                any = true;
                left -= 1;
                match received(&queue.umem, &descriptor) {
                    Some(received) => {
                        given += 1;
                        each(received);
                    }
                    None => self.bad_stamps += 1,
                }
                if !queue.received.take_back(descriptor.addr) {
                    self.unknown_frames += 1;
                }
            }
            if any {
                queue.rx.release();
                queue.received.check();
                queue.refill();
            }
            if queue.fill.needs_wakeup() {
                queue.kick_fill();
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(given)
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.program.drain_log();
        let full = self.room() == 0;
        loop {
            let now = self.now();
            self.check(now)?;
            if self.has_received() || now >= until {
                return Ok(());
            }
            // What an earlier kick had to leave.
            self.kick()?;
            if full && self.room() > 0 {
                return Ok(());
            }
            let longest = if full || self.has_unsent() {
                PRESSED
            } else {
                watch::EVERY
            };
            if self.sleep(until.since(now).min(longest))? {
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Option<Arc<OwnedFd>> {
        Some(Arc::clone(&self.waker))
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.program.drain_log();
        let mut counters: Vec<_> = self.program.counters().collect();
        let mut kernel = [
            ("xsk-rx-dropped", 0),
            ("xsk-rx-invalid", 0),
            ("xsk-rx-ring-full", 0),
            ("xsk-fill-ring-empty", 0),
            ("xsk-tx-invalid", 0),
            ("xsk-tx-ring-empty", 0),
        ];
        for statistics in self
            .queues
            .iter()
            .filter_map(|queue| queue.statistics().ok())
        {
            let values = [
                statistics.rx_dropped,
                statistics.rx_invalid_descs,
                statistics.rx_ring_full,
                statistics.rx_fill_ring_empty_descs,
                statistics.tx_invalid_descs,
                statistics.tx_ring_empty_descs,
            ];
            for ((_, sum), value) in kernel.iter_mut().zip(values) {
                *sum += value;
            }
        }
        counters.extend(kernel);
        counters.push(("bad-stamp", self.bad_stamps));
        counters.push(("unknown-frame", self.unknown_frames));
        counters
    }

    fn longest_packet(&self) -> u32 {
        umem::LONGEST_PACKET
    }

    fn port_taken(&self, local: SocketAddr) -> bool {
        ports::is_held(local)
    }
}

/// A received frame with its stamp; `None` when there is no stamp of ours.
fn received<'a>(umem: &'a umem::Umem, descriptor: &libc::xdp_desc) -> Option<Received<'a>> {
    let start = usize::try_from(descriptor.addr).ok()?;
    let end = start.checked_add(descriptor.len as usize)?;
    let stamped = umem.bytes(start.checked_sub(ReplyStamp::SIZE)?..end)?;
    let (stamp, bytes) = stamped.split_first_chunk()?;
    let stamp = ReplyStamp::from_bytes(stamp);
    Some(Received {
        bytes,
        at: Instant::from_nanos(stamp.rx_ns),
        session: stamp.session,
        kind: SteerKind::from_u8(stamp.kind)?,
        l3_offset: Some(usize::from(stamp.l3_offset)).filter(|&offset| offset <= bytes.len())?,
        outgoing: false,
    })
}

fn key(flow: &Flow) -> Result<FlowKey, LinkError> {
    FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP).ok_or_else(|| LinkError::Unsupported {
        what: format!("flow {} to {}", flow.local, flow.remote),
        reason: "its ends are of two address families".into(),
        mend: "use a source address of the target's family".into(),
    })
}

/// Which kind of bind to ask for.
fn copying(device: &Device, attached: Attached, zero_copy: ZeroCopy) -> Result<Copying, LinkError> {
    match (zero_copy, attached) {
        // The driver would put packets into our frames that generic XDP never sees.
        (ZeroCopy::On, Attached::Generic) => Err(LinkError::Unsupported {
            what: format!("interface {}: zero-copy", device.name()),
            reason: "the XDP program is attached generically, behind the driver".into(),
            mend: "use `--xdp-mode native`, or `--zero-copy auto`".into(),
        }),
        (ZeroCopy::On, Attached::Native) => Ok(Copying::ZeroCopy),
        (ZeroCopy::Auto, Attached::Native)
            if zero_copy::is_trusted(device.driver().as_deref(), kernel::running()) =>
        {
            Ok(Copying::ZeroCopyOrCopy)
        }
        _ => Ok(Copying::Copy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(stamp: &[u8; 16], length: u32) -> Option<(Instant, SessionId, usize)> {
        let mut umem = umem::Umem::new(1).unwrap();
        umem.chunk_mut(0).unwrap()[256 - 16..256].copy_from_slice(stamp);
        let descriptor = libc::xdp_desc {
            addr: 256,
            len: length,
            options: 0,
        };
        received(&umem, &descriptor).map(|got| (got.at, got.session, got.bytes.len()))
    }

    #[test]
    fn stamp_is_read_from_before_the_frame() {
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&77u64.to_ne_bytes());
        stamp[8..12].copy_from_slice(&9u32.to_ne_bytes());
        stamp[12] = SteerKind::Quote as u8;
        stamp[14..].copy_from_slice(&14u16.to_ne_bytes());
        assert_eq!(stamped(&stamp, 60), Some((Instant::from_nanos(77), 9, 60)));
        assert_eq!(stamped(&stamp, 13), None, "no IP header where it says");
        assert_eq!(stamped(&stamp, 2048), None, "beyond the chunk");
        stamp[12] = 0;
        assert_eq!(stamped(&stamp, 60), None, "no kind of ours");
    }
}
