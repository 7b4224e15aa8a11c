//! AF_XDP behind the XDP program.
//!
//! The program (`insession-ebpf`) sits on the interface by a bpf_link, stamps
//! what is ours and redirects it to the socket of the queue it arrived on; all
//! else goes on to the kernel. Every receive queue has a socket, since a socket gets
//! only what its own queue receives. One [`XdpLink`] has them all, and sends through
//! the first; or there is a link for every queue, each with a worker of its own,
//! which share the program and nothing else.
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
//! | `options` | what can be chosen |
//! | `open` | from an interface to links |
//! | `shared` | what the links of an interface share |
//! | `processors` | which processor a queue's worker is to run on |
//! | `kick` | sending what was written, by the TX ring |
//! | `live` | the same by the program, where the driver copies |
//! | `ring` | index arithmetic, four rings as four types |
//! | `umem` | frame memory, and whose each frame is |
//! | `huge` | huge pages for it |
//! | `socket` | one socket: its system calls |
//! | `program` | the XDP program: attach, counters |
//! | `flow_maps` | the maps that the program steers by |
//! | `buckets` | those of them that are written through a mapping |
//! | `device` | what the kernel says about the interface |
//! | `watch` | interface gone? driver stalled? |
//! | `yardstick` | the program's cost, without an interface |
//! | `zero_copy` | where zero-copy is chosen unasked |

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use insession_common::flow::SessionId;
use insession_common::stamp::{ReplyStamp, SteerKind};

use crate::link::sys::{self, Polled};
use crate::link::{BATCH, Link, LinkError, Received, clock, copying, too_long};
use crate::net::ports;
use crate::session::Flow;
use crate::time::{Duration, Instant};
use crate::trace::LinkInfo;

mod buckets;
mod device;
mod flow_maps;
mod huge;
mod kick;
mod live;
pub mod object;
mod open;
mod options;
mod processors;
mod program;
mod ring;
mod shared;
mod socket;
mod umem;
mod watch;
pub(crate) mod yardstick;
mod zero_copy;

use device::{Device, State};
pub use flow_maps::Steering;
use flow_maps::key;
pub use options::{HugePages, Transmission, XdpMode, XdpOptions, ZeroCopy};
use shared::Shared;
use socket::Queue;

/// How long a wait sleeps at a time when there is no room, or when a kick left
/// frames in the TX ring. poll() cannot tell when room appears: POLLOUT speaks of
/// the TX ring, which is empty long before the frames are given back.
const PRESSED: Duration = Duration::from_micros(200);

/// AF_XDP on queues of one interface: on all of them ([`XdpLink::open`]), or on
/// those of one worker ([`XdpLink::open_queues`]).
pub struct XdpLink {
    shared: Arc<Shared>,
    /// The first of them sends. They end with `shared`.
    queues: Vec<Queue>,
    /// What of the program's counters this link reports.
    counted: Vec<(&'static str, u64)>,
    /// The processor that its worker is to run on.
    processor: Option<usize>,
    /// Frames a poll of the driver by ourselves.
    busy_poll: Option<u32>,
    /// The kernel says when it wants a call.
    need_wakeup: bool,
    device: Device,
    loopback: bool,
    /// Local ports that the kernel has.
    held: ports::AskedOnce,
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
    /// Sends in place of the TX ring, where that is cheaper.
    live: Option<live::Live>,
    /// Of the batch, and of the one before: a long frame went by the TX ring beside it.
    mixed: (bool, bool),
    /// Frames that it has sent.
    live_sent: u64,
    /// Frames for which the TX ring had no room after all.
    unsent: u64,
}

impl std::fmt::Debug for XdpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XdpLink")
            .field("device", &self.device)
            .field("attached", &self.shared.attached())
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
    /// How many receive queues it has, each with a socket.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Whether its frames lie in huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.queues.iter().all(|queue| queue.umem.is_huge())
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

    fn not_over_loopback(&self, flow: &Flow) -> Result<(), LinkError> {
        // `ip_route_input_slow` (net/ipv4/route.c) takes a frame whose source is an
        // address of ours and that no socket of this kernel sent for a forgery.
        if self.loopback && flow.local.is_ipv4() {
            return Err(LinkError::Unsupported {
                what: format!("flow {} to {} over lo", flow.local, flow.remote),
                reason: "the kernel drops IPv4 frames that AF_XDP puts on lo, since their source is an address of this host".into(),
                mend: "use `--link packet`, or `--link auto` without an XDP mode".into(),
            });
        }
        Ok(())
    }

    fn down(&self) -> LinkError {
        LinkError::Down(self.device.name().to_owned())
    }

    /// Whether interface and driver are still alive.
    fn check(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.presence.is_due(now) {
            if !self.presence.observe(now, self.device.state()) {
                return Err(self.down());
            }
            self.check_live();
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

    /// Has the driver poll once; whether the waker fired.
    fn poll_busily(&self) -> bool {
        for queue in &self.queues {
            queue.kick_fill();
        }
        sys::drain(&self.waker)
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

impl Drop for XdpLink {
    fn drop(&mut self) {
        self.shared.retire(std::mem::take(&mut self.queues));
    }
}

impl Link for XdpLink {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "xdp",
            mode: Some(self.shared.attached().name()),
            zero_copy: self.queues.iter().all(|queue| queue.zero_copy),
            interface: self.device.name().to_owned(),
        }
    }

    fn now(&self) -> Instant {
        // The clock of bpf_ktime_get_ns().
        clock::monotonic()
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.not_over_loopback(flow)?;
        self.shared.program().add_flow(&key(flow)?, session)
    }

    fn add_flows(&mut self, flows: &[(Flow, SessionId)]) -> Result<(), LinkError> {
        let keys = flows.iter().map(|(flow, session)| {
            self.not_over_loopback(flow)?;
            Ok((key(flow)?, *session))
        });
        let keys: Vec<_> = keys.collect::<Result<_, LinkError>>()?;
        self.shared.program().add_flows(&keys)
    }

    fn remove_flow(&mut self, flow: &Flow) {
        if let Ok(key) = key(flow) {
            self.shared.program().remove_flow(&key);
        }
    }

    fn room(&mut self) -> usize {
        self.reclaim();
        if let Some(live) = &self.live {
            return live.room();
        }
        let transmit = self
            .queues
            .first()
            .and_then(|queue| queue.transmit.as_ref());
        transmit.map_or(0, |transmit| transmit.frames.idle())
    }

    fn batch(&self) -> usize {
        match &self.live {
            Some(_) => live::BATCH,
            None => BATCH,
        }
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let written = match (&mut self.live, self.queues.first_mut()) {
            (Some(live), _) => live.write(fill),
            (None, Some(queue)) => queue.write(fill),
            (None, None) => false,
        };
        if written {
            Ok(())
        } else {
            Err(LinkError::Full)
        }
    }

    fn longest_frame(&self) -> usize {
        umem::CHUNK
    }

    /// By the TX ring in any case: a slot of a live frame has no room for it.
    fn transmit_long(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        if frame.len() > umem::CHUNK {
            return Err(too_long(frame.len(), umem::CHUNK));
        }
        let queue = self.queues.first_mut();
        if !queue.is_some_and(|queue| queue.write(&mut copying(frame))) {
            return Err(LinkError::Full);
        }
        self.mixed.0 |= self.live.is_some();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        self.mixed = (false, self.mixed.0);
        self.send_slots();
        if let Some(transmit) = self.queues.first_mut().and_then(|q| q.transmit.as_mut()) {
            transmit.ring.publish();
        }
        self.kick()?;
        let now = self.now();
        self.check(now)
    }

    fn departures(&self, times: &mut [Instant]) -> usize {
        match &self.live {
            Some(live) if !self.mixed.1 => live.departures(times),
            _ => 0,
        }
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
            // Who polls busily drives the driver; it does not wake by itself.
            if queue.fill.needs_wakeup() || self.busy_poll.is_some() && !any {
                queue.kick_fill();
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(given)
    }

    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        let (mut known, count) = (0, self.queues.len());
        for offset in 0..count {
            let Some(queue) = self.queues.get_mut((self.turn + offset) % count) else {
                continue;
            };
            let (umem, left) = (&queue.umem, sessions.len() - known);
            // What has no stamp of ours is not given either.
            let stamps = queue
                .rx
                .ahead(left)
                .filter_map(|descriptor| received(umem, &descriptor));
            for (slot, frame) in sessions.iter_mut().skip(known).zip(stamps) {
                *slot = frame.session;
                known += 1;
            }
        }
        known
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        self.shared.program().drain_log();
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
            if self.busy_poll.is_some() {
                if self.poll_busily() {
                    return Ok(());
                }
                continue;
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

    fn processor(&self) -> Option<usize> {
        self.processor
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.shared.program().drain_log();
        self.shared.count(&mut self.counted);
        let mut counters = self.counted.clone();
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
        counters.push(("tx-live", self.live_sent));
        counters.push(("tx-unsent", self.unsent));
        counters.push(("bad-stamp", self.bad_stamps));
        counters.push(("unknown-frame", self.unknown_frames));
        counters
    }

    fn longest_packet(&self) -> u32 {
        umem::LONGEST_PACKET
    }

    fn port_taken(&self, local: SocketAddr) -> bool {
        self.held.is_held(local)
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
