//! pcapng of every frame sent and received, with the times that round trips are
//! computed from.
//!
//! [`Capture`] is a link around a link; several of them, on threads of their
//! own, write into one [`PcapWriter`]. It is a debugging aid: off by default,
//! and one lock for all links is good enough.
//!
//! Times in the file are UNIX time, made from the link's clock by one offset for
//! the whole file: differences between frames are exactly those of the link's
//! clock, whatever happens to the civil clock meanwhile. A frame is recorded as
//! sent at the moment of the kick that hands it over.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BufMut;
use insession_common::flow::SessionId;

use super::{Link, LinkError, Received, clock};
use crate::session::Flow;
use crate::time::{Duration, Instant, UnixTime};
use crate::trace::LinkInfo;

/// A pcapng file (draft-ietf-opsawg-pcapng) under construction.
///
/// The first error ends the recording, not the trace: it is kept for
/// [`PcapWriter::failure`], which is to be asked at the end.
pub struct PcapWriter {
    /// UNIX time of the origin of the links' clock.
    origin: UnixTime,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    interfaces: u32,
    block: Vec<u8>,
    failure: Option<String>,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Inbound = 1,
    Outbound = 2,
}

impl PcapWriter {
    /// A new file at `path`, for links on CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Arc<PcapWriter>> {
        let origin = UnixTime(u64::try_from(clock::realtime_offset()).unwrap_or(0));
        let out = BufWriter::with_capacity(BUFFER, File::create(path)?);
        PcapWriter::new(Box::new(out), origin).map(Arc::new)
    }

    /// A new file into `out`, for links whose clock has its origin at `origin`.
    ///
    /// # Errors
    /// When its first block cannot be written.
    pub fn new(out: Box<dyn Write + Send>, origin: UnixTime) -> io::Result<PcapWriter> {
        let mut state = State {
            out,
            interfaces: 0,
            block: Vec::with_capacity(2048),
            failure: None,
        };
        state.begin(SECTION_HEADER);
        state.block.put_u32_le(BYTE_ORDER_MAGIC);
        // Version 1.0, section length not told.
        state.block.put_u16_le(1);
        state.block.put_u16_le(0);
        state.block.put_u64_le(u64::MAX);
        let application = concat!("insession ", env!("CARGO_PKG_VERSION"));
        state.option(SHB_USERAPPL, application.as_bytes());
        state.end_options();
        state.finish()?;
        Ok(PcapWriter {
            origin,
            state: Mutex::new(state),
        })
    }

    /// Hands what is buffered to the file.
    pub fn flush(&self) {
        let mut state = self.lock();
        if state.failure.is_none() {
            let result = state.out.flush();
            state.settle(result);
        }
    }

    /// Why the recording ended early, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// The number of a new interface.
    fn add_interface(&self, name: &str) -> u32 {
        let mut state = self.lock();
        let number = state.interfaces;
        state.interfaces += 1;
        state.begin(INTERFACE_DESCRIPTION);
        state.block.put_u16_le(LINKTYPE_ETHERNET);
        state.block.put_u16_le(0);
        // Snapshot length: no limit.
        state.block.put_u32_le(0);
        state.option(IF_NAME, name.as_bytes());
        state.option(IF_TSRESOL, &[9]);
        state.end_options();
        let result = state.finish();
        state.settle(result);
        number
    }

    fn record(&self, interface: u32, at: Instant, direction: Direction, frame: &[u8]) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        let nanos = self.origin.0.saturating_add(at.as_nanos());
        // As it stood in memory, so nothing is longer than its capture.
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        state.begin(ENHANCED_PACKET);
        state.block.put_u32_le(interface);
        // The high half first, each half in the section's byte order.
        state.block.put_u32_le((nanos >> 32) as u32);
        state.block.put_u32_le(nanos as u32);
        state.block.put_u32_le(length);
        state.block.put_u32_le(length);
        state.block.put_slice(frame);
        state.pad();
        state.option(EPB_FLAGS, &(direction as u32).to_le_bytes());
        state.end_options();
        let result = state.finish();
        state.settle(result);
    }

    /// A thread that panicked left at worst half a block in memory, which the
    /// next one overwrites.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PcapWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

impl State {
    /// Begins a block; its length is filled in by [`State::finish`].
    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.block.put_u32_le(kind);
        self.block.extend([0; 4]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        // No option here comes near 64 KiB.
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let value = value.get(..usize::from(length)).unwrap_or_default();
        self.block.put_u16_le(code);
        self.block.put_u16_le(length);
        self.block.put_slice(value);
        self.pad();
    }

    fn end_options(&mut self) {
        self.block.extend([0; 4]);
    }

    fn pad(&mut self) {
        let padded = self.block.len().next_multiple_of(4);
        self.block.resize(padded, 0);
    }

    fn finish(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len() + 4).unwrap_or(u32::MAX);
        self.block.put_u32_le(length);
        if let Some(field) = self.block.get_mut(4..8) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        self.out.write_all(&self.block)
    }

    fn settle(&mut self, result: io::Result<()>) {
        if let Err(error) = result
            && self.failure.is_none()
        {
            tracing::info!("capture file: {error}; the trace goes on without it");
            self.failure = Some(error.to_string());
        }
    }
}

/// A link that records every frame of the link inside it.
pub struct Capture<L: Link + ?Sized> {
    writer: Arc<PcapWriter>,
    interface: u32,
    /// Frames written since the last kick, one behind the other.
    batch: Vec<u8>,
    lengths: Vec<usize>,
    flushed: Instant,
    inner: Box<L>,
}

impl<L: Link + ?Sized> Capture<L> {
    /// Around `inner`, into `writer`.
    #[must_use]
    pub fn new(inner: Box<L>, writer: Arc<PcapWriter>) -> Self {
        let interface = writer.add_interface(&inner.info().interface);
        Capture {
            writer,
            interface,
            batch: Vec::new(),
            lengths: Vec::new(),
            flushed: inner.now(),
            inner,
        }
    }

    fn record_batch(&mut self, at: Instant) {
        let mut rest = self.batch.as_slice();
        for length in self.lengths.drain(..) {
            let (frame, behind) = rest.split_at_checked(length).unwrap_or_default();
            rest = behind;
            self.writer
                .record(self.interface, at, Direction::Outbound, frame);
        }
        self.batch.clear();
        if at.since(self.flushed) >= FLUSH_EVERY {
            self.flushed = at;
            self.writer.flush();
        }
    }
}

impl<L: Link + ?Sized> Drop for Capture<L> {
    fn drop(&mut self) {
        self.writer.flush();
    }
}

impl<L: Link + ?Sized> Link for Capture<L> {
    fn info(&self) -> LinkInfo {
        self.inner.info()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn add_flow(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.inner.add_flow(flow, session)
    }

    fn add_alone(&mut self, flow: &Flow, session: SessionId) -> Result<(), LinkError> {
        self.inner.add_alone(flow, session)
    }

    fn remove_flow(&mut self, flow: &Flow) {
        self.inner.remove_flow(flow);
    }

    fn departures(&self, times: &mut [Instant]) -> usize {
        self.inner.departures(times)
    }

    fn batch(&self) -> usize {
        self.inner.batch()
    }

    fn room(&mut self) -> usize {
        self.inner.room()
    }

    fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        let (batch, lengths) = (&mut self.batch, &mut self.lengths);
        self.inner.transmit(&mut |buffer| {
            let length = fill(buffer);
            let frame = buffer.get(..length).unwrap_or_default();
            batch.extend_from_slice(frame);
            lengths.push(frame.len());
            length
        })
    }

    fn longest_frame(&self) -> usize {
        self.inner.longest_frame()
    }

    fn transmit_long(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        self.inner.transmit_long(frame)?;
        self.batch.extend_from_slice(frame);
        self.lengths.push(frame.len());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        // Before the kick: nothing that it draws stands before it in the file.
        self.record_batch(self.inner.now());
        self.inner.flush()
    }

    fn in_flight(&mut self) -> usize {
        self.inner.in_flight()
    }

    fn receive(
        &mut self,
        budget: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let (writer, interface) = (&self.writer, self.interface);
        self.inner.receive(budget, &mut |received| {
            let direction = if received.outgoing {
                Direction::Outbound
            } else {
                Direction::Inbound
            };
            writer.record(interface, received.at, direction, received.bytes);
            each(received);
        })
    }

    fn upcoming(&mut self, sessions: &mut [SessionId]) -> usize {
        self.inner.upcoming(sessions)
    }

    fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
        let now = self.inner.now();
        if now.since(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.writer.flush();
        }
        self.inner.wait(until)
    }

    fn waker(&self) -> Option<Arc<OwnedFd>> {
        self.inner.waker()
    }

    fn processor(&self) -> Option<usize> {
        self.inner.processor()
    }

    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        self.inner.counters()
    }

    fn longest_packet(&self) -> u32 {
        self.inner.longest_packet()
    }

    fn kernel_owns_connections(&self) -> bool {
        self.inner.kernel_owns_connections()
    }

    fn port_taken(&self, local: SocketAddr) -> bool {
        self.inner.port_taken(local)
    }
}

/// A file that somebody watches grows twice a second; more often would cost a
/// system call each time for nobody.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
const BUFFER: usize = 256 * 1024;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use insession_common::stamp::SteerKind;
    use std::collections::VecDeque;

    /// Sends into nothing, receives what it was given. A kick takes a
    /// microsecond.
    struct Scripted {
        name: &'static str,
        now: Instant,
        room: usize,
        kicks: usize,
        inbox: VecDeque<(Instant, bool, Vec<u8>)>,
    }

    impl Link for Scripted {
        fn info(&self) -> LinkInfo {
            LinkInfo {
                kind: "sim",
                mode: None,
                zero_copy: false,
                interface: self.name.to_owned(),
            }
        }
        fn now(&self) -> Instant {
            self.now
        }
        fn add_flow(&mut self, _: &Flow, _: SessionId) -> Result<(), LinkError> {
            Ok(())
        }
        fn remove_flow(&mut self, _: &Flow) {}
        fn room(&mut self) -> usize {
            self.room
        }
        fn transmit(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
            self.room = self.room.checked_sub(1).ok_or(LinkError::Full)?;
            fill(&mut [0; super::super::MAX_FRAME]);
            Ok(())
        }
        fn flush(&mut self) -> Result<(), LinkError> {
            self.kicks += 1;
            self.now = self.now + Duration::from_micros(1);
            Ok(())
        }
        fn receive(
            &mut self,
            budget: usize,
            each: &mut dyn FnMut(Received<'_>),
        ) -> Result<usize, LinkError> {
            let count = budget.min(self.inbox.len());
            for (at, outgoing, bytes) in self.inbox.drain(..count) {
                each(Received {
                    bytes: &bytes,
                    at,
                    session: 0,
                    kind: SteerKind::Segment,
                    l3_offset: 14,
                    outgoing,
                });
            }
            Ok(count)
        }
        fn wait(&mut self, until: Instant) -> Result<(), LinkError> {
            self.now = self.now.max(until);
            Ok(())
        }
        fn counters(&mut self) -> Vec<(&'static str, u64)> {
            vec![]
        }
    }

    fn scripted(name: &'static str, now: u64) -> Box<Scripted> {
        Box::new(Scripted {
            name,
            now: Instant::from_nanos(now),
            room: 2,
            kicks: 0,
            inbox: VecDeque::new(),
        })
    }

    /// What is shared with a test of what was written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Block {
        Section,
        Interface(String),
        Packet(u32, u64, u32, Vec<u8>),
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let word = u32_at(bytes, 0);
            let (code, length) = (word as u16, (word >> 16) as usize);
            if code == 0 {
                assert_eq!(
                    (word, bytes.len()),
                    (0, 4),
                    "nothing behind the last option"
                );
                return found;
            }
            found.push((code, bytes[4..4 + length].to_vec()));
            bytes = &bytes[4 + length.next_multiple_of(4)..];
        }
    }

    /// A reader after the specification, which shares nothing with the writer.
    fn read(mut bytes: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let length = u32_at(bytes, 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(u32_at(bytes, length - 4) as usize, length);
            let body = &bytes[8..length - 4];
            blocks.push(match u32_at(bytes, 0) {
                0x0a0d0d0a => {
                    assert_eq!(u32_at(body, 0), 0x1a2b3c4d);
                    assert_eq!(u32_at(body, 4), 1, "version 1.0");
                    assert_eq!(&body[8..16], [0xff; 8]);
                    assert!(options(&body[16..])[0].1.starts_with(b"insession "));
                    Block::Section
                }
                1 => {
                    assert_eq!(u32_at(body, 0), 1, "Ethernet");
                    let options = options(&body[8..]);
                    assert_eq!(options[1], (9, vec![9]), "nanoseconds");
                    assert_eq!(options[0].0, 2);
                    Block::Interface(String::from_utf8(options[0].1.clone()).unwrap())
                }
                6 => {
                    let at = u64::from(u32_at(body, 4)) << 32 | u64::from(u32_at(body, 8));
                    let captured = u32_at(body, 12) as usize;
                    assert_eq!(u32_at(body, 16) as usize, captured);
                    let options = options(&body[20 + captured.next_multiple_of(4)..]);
                    let [(2, flags)] = &options[..] else {
                        panic!("{options:?}")
                    };
                    let frame = body[20..20 + captured].to_vec();
                    Block::Packet(u32_at(body, 0), at, u32_at(flags, 0), frame)
                }
                other => panic!("block {other:#x}"),
            });
            bytes = &bytes[length..];
        }
        blocks
    }

    const ORIGIN: u64 = 1_767_323_045_000_000_000;

    #[test]
    fn frames_are_recorded_once_with_direction_and_time() {
        let shared = Shared::default();
        let writer = PcapWriter::new(Box::new(shared.clone()), UnixTime(ORIGIN)).unwrap();
        let writer = Arc::new(writer);
        let mut link = Capture::new(scripted("eth0", 1000), Arc::clone(&writer));
        let mut other = Capture::new(scripted("eth1", 5000), writer);

        let send = |link: &mut Capture<Scripted>, byte: u8, length: usize| {
            link.transmit(&mut |buffer| {
                buffer[..length].fill(byte);
                length
            })
        };
        send(&mut link, 1, 61).unwrap();
        send(&mut link, 2, 64).unwrap();
        assert!(matches!(send(&mut link, 3, 60), Err(LinkError::Full)));
        // Both have the moment of the kick; a second kick records nothing.
        link.inner.now = Instant::from_nanos(2000);
        link.flush().unwrap();
        link.flush().unwrap();
        assert_eq!(link.inner.kicks, 2);
        send(&mut other, 4, 60).unwrap();
        other.flush().unwrap();
        link.inner.inbox.extend([
            (Instant::from_nanos(7000), false, vec![5; 62]),
            (Instant::from_nanos(6000), true, vec![6; 74]),
        ]);
        let mut given = Vec::new();
        let received = link.receive(8, &mut |frame| given.push(frame.bytes[0]));
        assert_eq!((received.unwrap(), given), (2, vec![5, 6]));
        // Written, and never handed over: not on the wire.
        link.inner.room = 1;
        send(&mut link, 7, 60).unwrap();
        drop((link, other));

        let blocks = read(&shared.0.lock().unwrap());
        let expected = [
            Block::Section,
            Block::Interface("eth0".to_owned()),
            Block::Interface("eth1".to_owned()),
            Block::Packet(0, ORIGIN + 2000, 2, vec![1; 61]),
            Block::Packet(0, ORIGIN + 2000, 2, vec![2; 64]),
            Block::Packet(1, ORIGIN + 5000, 2, vec![4; 60]),
            Block::Packet(0, ORIGIN + 7000, 1, vec![5; 62]),
            Block::Packet(0, ORIGIN + 6000, 2, vec![6; 74]),
        ];
        assert_eq!(blocks, expected);
    }

    /// Takes so many bytes, then none.
    struct Disk(usize, Arc<Mutex<usize>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            *self.1.lock().unwrap() += 1;
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_not_the_trace() {
        let calls = Arc::new(Mutex::new(0));
        let disk = Box::new(Disk(200, Arc::clone(&calls)));
        let writer = Arc::new(PcapWriter::new(disk, UnixTime(0)).unwrap());
        let mut link = Capture::new(scripted("eth0", 0), Arc::clone(&writer));
        assert_eq!(writer.failure(), None);
        link.inner.inbox = vec![(Instant::ZERO, false, vec![0; 100]); 5].into();
        assert_eq!(link.receive(8, &mut |_| {}).unwrap(), 5);
        assert!(writer.failure().is_some());
        // Section, interface, one frame that fits, one that does not.
        let written = *calls.lock().unwrap();
        link.flush().unwrap();
        link.inner
            .inbox
            .push_back((Instant::ZERO, false, vec![0; 1]));
        assert_eq!(link.receive(8, &mut |_| {}).unwrap(), 1);
        assert_eq!(*calls.lock().unwrap(), written);
    }

    #[test]
    fn the_file_grows_while_the_trace_runs() {
        let shared = Shared::default();
        let out = BufWriter::with_capacity(BUFFER, shared.clone());
        let writer = PcapWriter::new(Box::new(out), UnixTime(0)).unwrap();
        // Through a trait object, as the engine holds it.
        let inner: Box<dyn Link> = scripted("eth0", 0);
        let mut link = Capture::new(inner, Arc::new(writer));
        link.transmit(&mut |_| 60).unwrap();
        link.flush().unwrap();
        let length = || shared.0.lock().unwrap().len();
        assert_eq!(length(), 0);
        link.wait(Instant::from_nanos(600_000_000)).unwrap();
        link.wait(Instant::from_nanos(600_000_001)).unwrap();
        assert_eq!(read(&shared.0.lock().unwrap()).len(), 3);
    }
}
