//! Sending without socket buffers where the driver copies: the XDP program run over
//! live frames ([`insession_common::live`]), one call a batch.
//!
//! A frame costs a third of what it does through the TX ring in copy mode, but a call
//! has the kernel make a page pool and take it down again: some ten microseconds.
//! So small batches go by the ring ([`FEWEST`]).
//!
//! A driver whose ring is full says nothing of it here, and drops. Nothing tells how
//! many frames it would take: unasked, only veth is sent to so, which hands frames
//! over within the call, and loses what is too much either way.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use aya::Ebpf;
use aya::maps::{DevMap, MapData};
use aya::programs::ProgramFd;
use insession_common::live::{self, FIRST_LENGTH, ROOM, SENDERS, SHORTEST, SLOTS, Slot};
use insession_common::names;
use libbpf_rs::libbpf_sys;

use super::device::Device;
use super::flow_maps::mapped;
use super::program::{map, refusal};
use super::umem::Mapping;
use super::{Transmission, XdpLink, ZeroCopy};
use crate::link::LinkError;
use crate::time::Instant;

/// The fewest frames that make a call worth while: fewer cost less by the ring.
const FEWEST: u32 = 16;

/// Frames a call, at most: what a call costs by itself is then a small part of what
/// the frames do, and they leave within a tenth of a millisecond.
pub(super) const BATCH: usize = SLOTS as usize;

/// Frames that leave together. A veth's ring has 256 entries, and is drained between
/// two such flushes.
const FLUSH: u32 = 64;

/// include/net/net_namespace.h, `LOOPBACK_IFINDEX`: that of every namespace's loopback,
/// which live frames seem to come from.
pub(super) const LOOPBACK: u32 = 1;

/// Whether a link is to send so, as far as can be told before the program is attached.
pub(super) fn is_wanted(device: &Device, transmission: Transmission) -> bool {
    device.index() != LOOPBACK
        && match transmission {
            Transmission::Ring => false,
            Transmission::Live => true,
            Transmission::Auto => device.driver().as_deref() == Some("veth"),
        }
}

/// Of an interface that is to send so, and cannot.
pub(super) fn refused(interface: &str) -> LinkError {
    LinkError::Unsupported {
        what: format!("interface {interface}: live frames"),
        reason: "its driver takes no redirected frames as it is set up (or Linux is older than 6.3, which does not say)".into(),
        mend: "use `--live-frames auto` or `off`; on veth, attach an XDP program to the other end, or turn GRO on there".into(),
    }
}

/// Whether the options contradict each other.
pub(super) fn check(transmission: Transmission, zero_copy: ZeroCopy) -> Result<(), LinkError> {
    if transmission == Transmission::Live && zero_copy == ZeroCopy::On {
        return Err(LinkError::Unsupported {
            what: "live frames with zero-copy".into(),
            reason:
                "live frames are for drivers that copy; zero-copy sends from the TX ring for less"
                    .into(),
            mend: "leave one of both away".into(),
        });
    }
    Ok(())
}

/// What so many links of an interface send so by, each by its own.
pub(super) fn open(
    ebpf: &mut Ebpf,
    owner: &str,
    program: &ProgramFd,
    device: &Device,
    senders: u32,
) -> Result<Vec<Live>, LinkError> {
    if senders == 0 {
        return Ok(Vec::new());
    }
    // The program has the map for as long as it runs.
    let mut interface: DevMap<MapData> = map(ebpf, names::LIVE_DEVICE)?;
    interface
        .set(0, device.index(), None, 0)
        .map_err(|error| refusal(names::LIVE_DEVICE, &error))?;
    let octets = (senders * SLOTS) as usize * size_of::<Slot>();
    let words = senders as usize * size_of::<u64>();
    let live = |sender| {
        Ok(Live {
            slots: mapped(ebpf, owner, names::LIVE_SLOTS, |fd| {
                Mapping::shared(octets, fd, 0)
            })?,
            taken: mapped(ebpf, owner, names::LIVE_TAKEN, |fd| {
                Mapping::shared(words, fd, 0)
            })?,
            program: program
                .as_fd()
                .try_clone_to_owned()
                .map_err(|source| LinkError::System {
                    what: format!("{owner}: XDP program, to send by it"),
                    source,
                })?,
            sender,
            written: 0,
            left: 0,
        })
    };
    (0..senders).map(live).collect()
}

/// The sending half of a link that sends so.
#[derive(Debug)]
pub(super) struct Live {
    slots: Mapping,
    taken: Mapping,
    /// The program that is run.
    program: OwnedFd,
    sender: u32,
    /// Slots that have a frame.
    written: u32,
    /// Slots whose frames the program sent, of the last batch.
    left: u32,
}

impl Live {
    /// How many more frames there is room for.
    pub(super) fn room(&self) -> usize {
        (SLOTS - self.written) as usize
    }

    /// A slot of this sender's.
    fn slot(&self, number: u32) -> *mut Slot {
        let nth = self.sender * SLOTS + number.min(SLOTS - 1);
        // SAFETY: inside the mapping, which has `SLOTS` for each sender.
        unsafe { self.slots.start().as_ptr().cast::<Slot>().add(nth as usize) }
    }

    /// Writes a frame into the next slot; `false`: there is none.
    pub(super) fn write(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> bool {
        if self.written == SLOTS {
            return false;
        }
        // SAFETY: nobody reads it before the next call, nor has it otherwise.
        let slot = unsafe { &mut *self.slot(self.written) };
        let (bytes, _) = slot.bytes.split_at_mut(ROOM);
        let length = fill(bytes).min(ROOM);
        if length >= SHORTEST as usize {
            slot.extra = (length - SHORTEST as usize) as u8;
            self.written += 1;
        }
        true
    }

    /// The frame of a slot.
    fn frame(&self, number: u32) -> &[u8] {
        // SAFETY: the kernel writes slots during a call only, which nobody's borrow
        // outlasts.
        let slot = unsafe { &*self.slot(number) };
        let length = SHORTEST as usize + usize::from(slot.extra);
        slot.bytes.get(..length).unwrap_or_default()
    }

    /// When the frames of the last batch left, in the order in which they were written;
    /// how many did so by the program, those first.
    pub(super) fn departures(&self, times: &mut [Instant]) -> usize {
        let left = times.iter_mut().zip(0..self.left);
        left.map(|(time, number)| {
            // SAFETY: as in `frame`.
            let sent = unsafe { (*self.slot(number)).sent };
            *time = Instant::from_nanos(sent);
        })
        .count()
    }

    /// Has the program send all that is written. Some may be left when it fails:
    /// see [`Live::taken`].
    fn run(&mut self) -> io::Result<()> {
        // What the runs are given: its length says who they are for.
        let given = [0_u8; (FIRST_LENGTH + SENDERS) as usize];
        self.taken().store(0, Ordering::Relaxed);
        // The kernel reads what was written before.
        fence(Ordering::Release);
        loop {
            let before = self.taken().load(Ordering::Relaxed);
            let left = self.written.saturating_sub(before as u32);
            if left == 0 {
                return Ok(());
            }
            let mut options = libbpf_sys::bpf_test_run_opts {
                sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
                data_in: given.as_ptr().cast(),
                data_size_in: live::length(self.sender),
                repeat: left as i32,
                flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
                batch_size: FLUSH.min(left),
                ..Default::default()
            };
            // SAFETY: the options are of their size, and point to more octets than
            // they say.
            let answer = unsafe {
                libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut options)
            };
            let error = io::Error::from_raw_os_error(-answer);
            if answer < 0 && error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
            // A run that takes no slot would be repeated for ever.
            if self.taken().load(Ordering::Relaxed) <= before && answer == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
    }

    /// How many slots the program has taken since the last run began.
    fn taken(&self) -> &AtomicU64 {
        // SAFETY: one word for each sender, at a multiple of 8; the kernel writes it
        // whole, and the process only here.
        unsafe {
            let words = self.taken.start().as_ptr().cast::<AtomicU64>();
            &*words.add(self.sender as usize)
        }
    }
}

impl XdpLink {
    /// Goes on by the ring where the interface takes no redirected frames any more: the
    /// kernel drops them without a word. Asked now and then.
    pub(super) fn check_live(&mut self) {
        if self.live.is_some() && !self.device.takes_redirected() {
            tracing::info!(
                interface = self.device.name(),
                "takes no live frames any more: going on by the TX ring"
            );
            self.send_slots();
            self.live = None;
        }
    }

    /// Sends what stands in slots: by the program, or, if that is little, by the ring.
    pub(super) fn send_slots(&mut self) {
        let Some(live) = self.live.as_mut().filter(|live| live.written > 0) else {
            return;
        };
        let mut first = 0;
        let mut refused = false;
        if live.written >= FEWEST {
            let result = live.run();
            first = live
                .taken()
                .load(Ordering::Relaxed)
                .min(live.written.into()) as u32;
            self.live_sent += u64::from(first);
            if let Err(error) = result {
                tracing::debug!(%error, sent = first, of = live.written, "live frames refused");
                refused = error.raw_os_error() != Some(libc::ENOMEM);
            }
        }
        live.left = first;
        let written = std::mem::take(&mut live.written);
        for number in first..written {
            let frame = live.frame(number);
            let Some(queue) = self.queues.first_mut() else {
                break;
            };
            if queue
                .transmit
                .as_ref()
                .is_none_or(|it| it.frames.idle() == 0)
            {
                queue.reclaim();
            }
            let mut copy = |chunk: &mut [u8]| {
                let copied = frame.len().min(chunk.len());
                chunk[..copied].copy_from_slice(&frame[..copied]);
                copied
            };
            if !queue.write(&mut copy) {
                self.unsent += 1;
            }
        }
        if refused {
            self.live = None;
        }
    }
}
