//! The XDP program in the kernel, run on frames by `BPF_PROG_TEST_RUN`: no
//! interface, no traffic. Needs root; without it every test fails.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, XskMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use insession::link::flows::Counts;
use insession::link::xdp::object::OBJECT;
use insession_common::bucket::{self, Bucket};
use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, FlowKeyV4, FlowKeyV6, PeerKey, SessionId};
use insession_common::names;
use insession_common::stamp::{ReplyStamp, SteerKind};
use insession_common::steer::Decision;

pub const XDP_PASS: u32 = 2;
pub const XDP_REDIRECT: u32 = 4;

/// The shortest frame that the kernel runs a program on: an Ethernet header
/// (net/bpf/test_run.c, `bpf_test_init`). Shorter ones do not arrive either.
pub const SHORTEST: usize = 14;

/// Few enough that some flows of a test share one, and two that some do not.
const BUCKETS: u32 = 2;
const KEY: bucket::Key = [
    1,
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
];

/// The program, loaded.
pub struct Kernel {
    program: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    /// The AF_XDP socket at queue 0; closing it takes it out of the map.
    pub socket: Option<OwnedFd>,
}

/// What the program did with a frame.
pub struct Ran {
    pub action: u32,
    /// What stands before the frame.
    pub metadata: Vec<u8>,
    pub frame: Vec<u8>,
}

impl Kernel {
    /// Loads it with these flows and local ports, and a socket at queue 0.
    pub fn load(flows: &[(FlowKey, SessionId)], first: u16, last: u16, log: bool) -> Self {
        Self::steering(names::STEERING_FLOW, flows, first, last, log)
    }

    /// The same, steering by flow or by port.
    pub fn steering(
        steering: u8,
        flows: &[(FlowKey, SessionId)],
        first: u16,
        last: u16,
        log: bool,
    ) -> Self {
        Self::set(steering, None, flows, (first, last), log)
    }

    /// The same by flow, with flows of probes that stand alone, and blocks of ports
    /// from there on.
    pub fn alone(flows: &[(FlowKey, SessionId)], first: u16, last: u16, blocks: u16) -> Self {
        let steering = names::STEERING_FLOW;
        Self::set(steering, Some(blocks), flows, (first, last), false)
    }

    fn set(
        steering: u8,
        alone: Option<u16>,
        flows: &[(FlowKey, SessionId)],
        (first, last): (u16, u16),
        log: bool,
    ) -> Self {
        let mut program = EbpfLoader::new()
            .override_global(names::STEERING, &steering, true)
            .override_global(names::ALONE, &u8::from(alone.is_some()), true)
            .override_global(names::BLOCKS, &alone.unwrap_or(0), true)
            .override_global(names::PORT_FIRST, &first, true)
            .override_global(names::PORT_LAST, &last, true)
            .override_global(names::LOG, &u8::from(log), true)
            .map_max_entries(names::FLOW_BUCKETS, BUCKETS)
            .map_max_entries(names::PEER_BUCKETS, BUCKETS)
            .override_global(names::BUCKET_KEY, &KEY, true)
            .override_global(names::FLOW_MASK, &(BUCKETS - 1), true)
            .override_global(names::PEER_MASK, &(BUCKETS - 1), true)
            .map_max_entries(names::FLOWS_V4, 1024)
            .map_max_entries(names::FLOWS_V6, 1024)
            .map_max_entries(names::PEERS, 1024)
            .map_max_entries(names::LOCALS, 1024)
            .map_max_entries(names::SOCKETS, 1)
            .load(OBJECT)
            .expect("the object is loaded; run as root");
        let xdp: &mut Xdp = program
            .program_mut(names::PROGRAM)
            .unwrap()
            .try_into()
            .unwrap();
        xdp.load().expect("the verifier accepts the program");

        let counters = program
            .take_map(names::COUNTERS)
            .unwrap()
            .try_into()
            .unwrap();
        let mut kernel = Kernel {
            program,
            counters,
            socket: None,
        };
        kernel.add(flows);
        let socket = socket_with_rx_ring();
        let mut sockets: XskMap<_> = kernel.map(names::SOCKETS).try_into().unwrap();
        sockets
            .set(0, socket.as_raw_fd(), 0)
            .expect("a socket with a ring fits the map");
        kernel.socket = Some(socket);
        kernel
    }

    fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.program.map_mut(name).unwrap()
    }

    pub fn program(&mut self) -> &mut Ebpf {
        &mut self.program
    }

    /// Adds flows as a link does: the flow, its remote end, its local address
    /// and its port.
    fn add(&mut self, flows: &[(FlowKey, SessionId)]) {
        let mut counts = Counts::default();
        for (flow, session) in flows {
            match flow {
                FlowKey::V4(key) => {
                    let word = |bytes| u32::from_ne_bytes(bytes);
                    let ([a, b], [c, d]) = (key.remote_port, key.local_port);
                    let words = [word(key.remote), word(key.local), word([a, b, c, d])];
                    let [remote, local, ports] = words;
                    let entry = bucket::flow(remote, local, ports, *session);
                    if !self.place(names::FLOW_BUCKETS, words, &entry) {
                        let mut map: HashMap<_, FlowKeyV4, SessionId> =
                            self.map(names::FLOWS_V4).try_into().unwrap();
                        map.insert(key, session, 0).unwrap();
                    }
                }
                FlowKey::V6(key) => {
                    let mut map: HashMap<_, FlowKeyV6, SessionId> =
                        self.map(names::FLOWS_V6).try_into().unwrap();
                    map.insert(key, session, 0).unwrap();
                }
            }
            let changed = counts.add(flow);
            if let Some(peer) = changed.peer
                && !self.place_peer(&peer)
            {
                let mut peers: HashMap<_, PeerKey, u32> =
                    self.map(names::PEERS).try_into().unwrap();
                peers.insert(peer, 1, 0).unwrap();
            }
            if let Some(local) = changed.local {
                let mut locals: HashMap<_, [u8; 16], u32> =
                    self.map(names::LOCALS).try_into().unwrap();
                locals.insert(local, 1, 0).unwrap();
            }
            if let Some(port) = changed.port {
                let mut ports: Array<_, u32> = self.map(names::PORTS).try_into().unwrap();
                ports.set(u32::from(port), 1, 0).unwrap();
            }
        }
    }

    /// Puts an entry into its bucket, if that has room.
    fn place(&mut self, table: &str, words: [u32; 3], entry: &[u64]) -> bool {
        let number = bucket::hash(&KEY, words) & (BUCKETS - 1);
        let mut map: Array<_, Bucket> = self.map(table).try_into().unwrap();
        let mut bucket = map.get(&number, 0).unwrap();
        let mut slots = bucket.chunks_exact_mut(entry.len());
        let Some(slot) = slots.find(|slot| slot[entry.len() - 1] == 0) else {
            return false;
        };
        slot.copy_from_slice(entry);
        map.set(number, bucket, 0).unwrap();
        true
    }

    fn place_peer(&mut self, peer: &PeerKey) -> bool {
        let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = peer.remote else {
            return false;
        };
        let remote = u32::from_ne_bytes([a, b, c, d]);
        let port = u16::from_ne_bytes(peer.remote_port);
        let words = [remote, u32::from(port), 0];
        self.place(names::PEER_BUCKETS, words, &bucket::peer(remote, port))
    }

    fn xdp(&self) -> &Xdp {
        self.program
            .program(names::PROGRAM)
            .unwrap()
            .try_into()
            .unwrap()
    }

    /// Runs the program on a frame.
    pub fn run(&self, frame: &[u8]) -> Result<Ran, String> {
        self.run_with_metadata(&[], frame)
    }

    /// The same on a frame that has metadata already.
    pub fn run_with_metadata(&self, metadata: &[u8], frame: &[u8]) -> Result<Ran, String> {
        let input = [metadata, frame].concat();
        // `struct xdp_md`: data, data_end, data_meta, and three of devices. In
        // the input, `data` says how long the metadata is.
        let mut context = [0; 24];
        context[0..4].copy_from_slice(&(metadata.len() as u32).to_ne_bytes());
        context[4..8].copy_from_slice(&(input.len() as u32).to_ne_bytes());
        let mut output = vec![0; input.len() + 256];
        let mut context_out = [0; 24];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&input);
        options.data_out = Some(&mut output);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut context_out);
        let result = self
            .xdp()
            .test_run(options)
            .map_err(|error| format!("{error:?}"))?;
        output.truncate(result.data_size_out as usize);
        let [a, b, c, d, ..] = context_out;
        let data = u32::from_ne_bytes([a, b, c, d]) as usize;
        let frame = output.split_off(data);
        Ok(Ran {
            action: result.return_value,
            metadata: output,
            frame,
        })
    }

    /// Every counter, over all CPUs.
    pub fn counters(&self) -> Vec<u64> {
        Counter::ALL
            .iter()
            .map(|counter| {
                let values = self.counters.get(&(*counter as u32), 0).unwrap();
                values.iter().sum()
            })
            .collect()
    }

    /// What the program decided, by its action, its stamp and its counters,
    /// of which exactly one has to have moved by exactly one.
    pub fn decide(&self, frame: &[u8]) -> Decision {
        let before = self.counters();
        let ran = self.run(frame).unwrap();
        let moved = moved(&before, &self.counters());
        assert_eq!(ran.frame, frame, "the frame itself is left alone");
        let [(counter, 1)] = moved[..] else {
            panic!("one counter by one, not {moved:?}");
        };
        match ran.action {
            XDP_PASS => {
                assert!(ran.metadata.is_empty(), "what is passed has no metadata");
                Decision::Pass(counter)
            }
            XDP_REDIRECT => {
                let bytes: [u8; ReplyStamp::SIZE] = ran.metadata[..].try_into().unwrap();
                let stamp = ReplyStamp::from_bytes(&bytes);
                assert_eq!(stamp.zero, 0);
                assert!(stamp.rx_ns > 0);
                let kind = SteerKind::from_u8(stamp.kind).unwrap();
                let decision = Decision::Ours {
                    session: stamp.session,
                    kind,
                    l3_offset: stamp.l3_offset,
                };
                let expected = match kind {
                    SteerKind::Segment => Counter::Segment,
                    SteerKind::Quote => Counter::Quote,
                    SteerKind::RewrittenQuote => Counter::RewrittenQuote,
                };
                assert_eq!(counter, expected);
                decision
            }
            other => panic!("action {other}"),
        }
    }
}

/// Which counters moved, and by how much.
pub fn moved(before: &[u64], after: &[u64]) -> Vec<(Counter, u64)> {
    Counter::ALL
        .iter()
        .zip(before.iter().zip(after))
        .filter(|(_, (before, after))| before != after)
        .map(|(counter, (before, after))| (*counter, after - before))
        .collect()
}

/// An AF_XDP socket with a receive ring and nothing else: not bound, without
/// memory. The map takes it (net/xdp/xsk.c, `xsk_is_setup_for_bpf_map`), and a
/// test run only looks it up.
pub fn socket_with_rx_ring() -> OwnedFd {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(
        fd >= 0,
        "AF_XDP socket: {}; run as root",
        std::io::Error::last_os_error()
    );
    // SAFETY: a descriptor that was just opened and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let entries: u32 = 64;
    // SAFETY: the option's value is a `u32` that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_XDP,
            libc::XDP_RX_RING,
            (&raw const entries).cast(),
            size_of_val(&entries) as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "RX ring: {}", std::io::Error::last_os_error());
    socket
}
