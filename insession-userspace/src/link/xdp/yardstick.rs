//! The XDP program run by `BPF_PROG_TEST_RUN`: no interface, no traffic, and
//! what a packet costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use aya::maps::{MapData, XskMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use insession_common::flow::{FlowKey, PROTOCOL_TCP, SessionId};
use insession_common::{names, yardstick};

use super::Steering;
use super::flow_maps::{FlowMaps, Room};
use super::object::OBJECT;
use super::program::{absent, map, refusal};
use crate::link::{LinkError, clock};

/// Which program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// An empty one.
    Empty,
    /// The one that steers.
    Steering,
    /// The one that steers a frame of another flow each time, by the orders in
    /// the frame ([`yardstick::Orders`]).
    Yardstick,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Which::Empty => names::EMPTY,
            Which::Steering => names::PROGRAM,
            Which::Yardstick => names::YARDSTICK,
        }
    }
}

/// The programs, loaded, and the flows in their maps.
pub(crate) struct Yardstick {
    ebpf: Ebpf,
    flows: FlowMaps,
    /// The AF_XDP socket at queue 0.
    _socket: OwnedFd,
}

impl Yardstick {
    /// Loads the programs, with room for this many flows.
    pub(crate) fn open(room: u32, steering: Steering) -> Result<Self, LinkError> {
        let what = "XDP program";
        let (first, last) = (yardstick::FIRST_PORT, yardstick::LAST_PORT);
        let room = Room::new(room.max(1), 1, 2);
        let constant = steering.constant();
        let mut loader = EbpfLoader::new();
        loader
            .override_global(names::PORT_FIRST, &first, true)
            .override_global(names::PORT_LAST, &last, true)
            .override_global(names::STEERING, &constant, true)
            .map_max_entries(names::SOCKETS, 1);
        room.set(&mut loader);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refusal(what, &error))?;
        for which in [Which::Empty, Which::Steering, Which::Yardstick] {
            let program: &mut Xdp = ebpf
                .program_mut(which.name())
                .ok_or_else(|| absent(which.name()))?
                .try_into()
                .map_err(|error| refusal(what, &error))?;
            program.load().map_err(|error| refusal(what, &error))?;
        }
        let socket = socket_with_rx_ring().map_err(|source| LinkError::System {
            what: "AF_XDP socket".into(),
            source,
        })?;
        let mut sockets: XskMap<MapData> = map(&mut ebpf, names::SOCKETS)?;
        sockets
            .set(0, socket.as_fd(), 0)
            .map_err(|error| refusal(names::SOCKETS, &error))?;
        let flows = FlowMaps::take(&mut ebpf, what.into(), steering, first..=last, &room)?;
        Ok(Yardstick {
            ebpf,
            flows,
            _socket: socket,
        })
    }

    /// Adds the flows of these numbers one by one; the processor time that took.
    pub(crate) fn add_singly(
        &mut self,
        numbers: std::ops::Range<u32>,
    ) -> Result<Duration, LinkError> {
        let flows = flows(numbers);
        let before = clock::thread();
        for (flow, session) in &flows {
            self.flows.add(flow, *session)?;
        }
        Ok(clock::thread().saturating_sub(before))
    }

    /// Adds the flows of these numbers, so many at a time; the processor time that took.
    pub(crate) fn add_batched(
        &mut self,
        numbers: std::ops::Range<u32>,
        batch: usize,
    ) -> Result<Duration, LinkError> {
        let flows = flows(numbers);
        let before = clock::thread();
        for flows in flows.chunks(batch.max(1)) {
            self.flows.add_all(flows)?;
        }
        Ok(clock::thread().saturating_sub(before))
    }

    /// Runs a program on a frame, so many times: its last answer, and the
    /// nanoseconds of processor time a run took.
    ///
    /// The kernel's own figure is a whole number of nanoseconds, a twentieth of
    /// an empty program, and has in it what others did on this processor.
    pub(crate) fn run(
        &self,
        which: Which,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, f64), LinkError> {
        let program: &Xdp = self
            .ebpf
            .program(which.name())
            .ok_or_else(|| absent(which.name()))?
            .try_into()
            .map_err(|error| refusal("XDP program", &error))?;
        let run = |repeat: u32| {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.repeat = repeat;
            let before = clock::thread();
            let result = program
                .test_run(options)
                .map_err(|error| refusal("XDP program: test run", &error))?;
            let spent = clock::thread().saturating_sub(before);
            Ok::<_, LinkError>((result.return_value, spent))
        };
        // Two are as much trouble as many: the kernel copies the frame, and puts
        // the program into its dispatcher when there is more than one.
        let (_, trouble) = run(2)?;
        let (answer, spent) = run(repeat.saturating_add(2))?;
        let spent = spent.saturating_sub(trouble).as_nanos() as f64;
        Ok((answer, spent / f64::from(repeat.max(1))))
    }
}

/// The flows of these numbers; each is its own session.
fn flows(numbers: std::ops::Range<u32>) -> Vec<(FlowKey, SessionId)> {
    numbers
        .filter_map(|number| {
            let (remote, port) = yardstick::ends(number);
            let local = SocketAddr::from((yardstick::LOCAL, port));
            let remote = SocketAddr::from((Ipv4Addr::from(remote), yardstick::REMOTE_PORT));
            Some((FlowKey::new(local, remote, PROTOCOL_TCP)?, number))
        })
        .collect()
}

/// An AF_XDP socket with a receive ring and nothing else: not bound, without
/// memory. The map takes it (net/xdp/xsk.c, `xsk_is_setup_for_bpf_map`), and a
/// test run only looks it up.
fn socket_with_rx_ring() -> std::io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let entries: u32 = 64;
    // SAFETY: the option's value is a `u32` that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_RX_RING,
            (&raw const entries).cast(),
            size_of_val(&entries) as libc::socklen_t,
        )
    };
    if done != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(socket)
}
