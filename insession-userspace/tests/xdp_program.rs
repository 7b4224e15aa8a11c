//! The XDP program under the kernel's verifier: the same fixtures as the
//! steering decision on slices, every length, every port, every EtherType, and
//! mutated frames, on which both have to agree.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking too")]

#[path = "../../insession-common/tests/frames/mod.rs"]
mod frames;
mod xdp_kernel;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use frames::{FIRST, LAST, Table};
use insession::link::xdp::object::OBJECT;
use insession_common::bucket::{self, Bucket};
use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, PROTOCOL_TCP, UNRESOLVED};
use insession_common::names;
use insession_common::stamp::{ReplyStamp, SteerKind};
use insession_common::steer::{Decision, steer};
use libbpf_rs::btf::types::DataSec;
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::{MapCore, MapFlags, ObjectBuilder, ProgramInput};
use xdp_kernel::{Kernel, SHORTEST, XDP_PASS, XDP_REDIRECT, moved, socket_with_rx_ring};

fn load() -> (Kernel, Table) {
    let flows = frames::flows();
    (Kernel::load(&flows, FIRST, LAST, false), Table::new(&flows))
}

#[test]
fn every_fixture_goes_where_it_belongs() {
    let (kernel, _) = load();
    for fixture in frames::all() {
        assert_eq!(
            kernel.decide(&fixture.bytes),
            fixture.decision,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn every_fixture_at_every_length() {
    let (kernel, table) = load();
    for fixture in frames::all() {
        for length in SHORTEST..=fixture.bytes.len() {
            let frame = &fixture.bytes[..length];
            assert_eq!(
                kernel.decide(frame),
                steer(&frame, &table),
                "{} at {length}",
                fixture.name
            );
        }
    }
}

#[test]
fn the_kernel_itself_refuses_less_than_an_ethernet_header() {
    let (kernel, _) = load();
    let frame = frames::sack();
    for length in 0..SHORTEST {
        assert!(kernel.run(&frame[..length]).is_err(), "{length} bytes");
    }
    assert!(kernel.run(&frame[..SHORTEST]).is_ok());
}

#[test]
fn padding_is_never_read_as_headers() {
    let (kernel, table) = load();
    for fixture in frames::all() {
        let Decision::Ours { l3_offset, .. } = fixture.decision else {
            continue;
        };
        let l3 = usize::from(l3_offset);
        let shortest = frames::ip_end(&fixture.bytes, l3) - frames::spare(fixture.name);
        for end in l3..frames::ip_end(&fixture.bytes, l3) {
            let Some(frame) = frames::with_ip_end(&fixture.bytes, l3, end) else {
                continue;
            };
            let decision = kernel.decide(&frame);
            assert_eq!(decision, steer(&&frame[..], &table), "{}", fixture.name);
            assert_eq!(
                decision == fixture.decision,
                end >= shortest,
                "{} ending at {end}",
                fixture.name
            );
        }
    }
}

#[test]
fn every_local_port() {
    let (kernel, _) = load();
    let before = kernel.counters();
    for port in 0..=u16::MAX {
        let ran = kernel.run(&frames::segment(443, port)).unwrap();
        let ours = port == FIRST || port == LAST;
        let action = if ours { XDP_REDIRECT } else { XDP_PASS };
        assert_eq!(ran.action, action, "port {port}");
    }
    let ours = u64::from(LAST - FIRST) + 1;
    assert_eq!(
        moved(&before, &kernel.counters()),
        [
            (Counter::Segment, 2),
            (Counter::PortOutside, 65_536 - ours),
            (Counter::NoFlow, ours - 2),
        ]
    );
}

#[test]
fn every_remote_port() {
    let (kernel, _) = load();
    let before = kernel.counters();
    for port in 0..=u16::MAX {
        let ran = kernel.run(&frames::segment(port, FIRST)).unwrap();
        let action = if port == 443 { XDP_REDIRECT } else { XDP_PASS };
        assert_eq!(ran.action, action, "port {port}");
    }
    assert_eq!(
        moved(&before, &kernel.counters()),
        [(Counter::Segment, 1), (Counter::NoFlow, 65_535)]
    );
}

#[test]
fn every_ethertype() {
    let (kernel, _) = load();
    let packet = &frames::sack()[14..];
    let before = kernel.counters();
    for ethertype in 0..=u16::MAX {
        let ran = kernel
            .run(&frames::ethernet(&[], ethertype, packet))
            .unwrap();
        let action = if ethertype == 0x0800 {
            XDP_REDIRECT
        } else {
            XDP_PASS
        };
        assert_eq!(ran.action, action, "EtherType {ethertype:#06x}");
    }
    // 0x86dd is the one malformed: an IPv4 packet under IPv6's name. Below the
    // three tags the "EtherType" is the IPv4 packet's length.
    assert_eq!(
        moved(&before, &kernel.counters()),
        [
            (Counter::Segment, 1),
            (Counter::NotIp, 65_534),
            (Counter::Malformed, 1),
        ]
    );
}

#[test]
fn the_stamp_carries_the_kernels_clock() {
    let (kernel, _) = load();
    let before = monotonic();
    let ran = kernel.run(&frames::sack()).unwrap();
    let after = monotonic();
    assert_eq!(ran.action, XDP_REDIRECT);
    let stamp = ReplyStamp::from_bytes(&ran.metadata[..].try_into().unwrap());
    assert!((before..=after).contains(&stamp.rx_ns));
    assert_eq!(
        (stamp.session, stamp.kind, stamp.l3_offset),
        (7, SteerKind::Segment as u8, 14)
    );
}

fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a `timespec` that outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(done, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[test]
fn without_a_socket_what_is_ours_is_passed_untouched() {
    let (mut kernel, _) = load();
    assert!(kernel.socket.take().is_some(), "closed now");
    for fixture in frames::all() {
        let expected = match fixture.decision {
            Decision::Ours { .. } => Counter::RedirectFailed,
            Decision::Pass(reason) => reason,
        };
        assert_eq!(
            kernel.decide(&fixture.bytes),
            Decision::Pass(expected),
            "{}",
            fixture.name
        );
    }
}

/// A stamp behind another program's metadata would not be found.
#[test]
fn with_metadata_already_what_is_ours_is_passed_untouched() {
    let (kernel, _) = load();
    for length in [4, 16, 32, 208] {
        let metadata = vec![0x5a; length];
        let before = kernel.counters();
        let ran = match kernel.run_with_metadata(&metadata, &frames::sack()) {
            Ok(ran) => ran,
            // Linux 6.1 has no metadata longer than that (include/net/xdp.h,
            // `xdp_metalen_invalid`).
            Err(said) if length > 32 && said.contains("InvalidInput") => {
                println!("{length} bytes of metadata are none on this kernel: {said}");
                assert!(before == kernel.counters(), "refused, and yet it ran");
                continue;
            }
            Err(said) => panic!("{length} bytes of metadata: {said}"),
        };
        assert_eq!(ran.action, XDP_PASS);
        assert_eq!(
            moved(&before, &kernel.counters()),
            [(Counter::RedirectFailed, 1)]
        );
        assert_eq!(ran.metadata, metadata);
        assert_eq!(ran.frame, frames::sack());
    }
}

#[test]
fn with_no_range_set_nothing_is_ours() {
    let flows = frames::flows();
    let kernel = Kernel::load(&flows, 1, 0, false);
    for frame in [frames::sack(), frames::segment(443, LAST)] {
        assert_eq!(kernel.decide(&frame), Decision::Pass(Counter::PortOutside));
    }
}

#[test]
fn by_port_what_is_for_a_port_in_use_is_ours() {
    let flows = frames::flows();
    let kernel = Kernel::steering(names::STEERING_PORT_RANGE, &flows, FIRST, LAST, true);
    for fixture in frames::by_port() {
        assert_eq!(
            kernel.decide(&fixture.bytes),
            fixture.decision,
            "{}",
            fixture.name
        );
    }
    let mut table = Table::new(&flows);
    table.by_port = true;
    for fixture in frames::all() {
        assert_eq!(
            kernel.decide(&fixture.bytes),
            steer(&&fixture.bytes[..], &table),
            "{}",
            fixture.name
        );
    }
}

#[test]
fn answers_to_probes_that_stand_alone_are_ours_where_there_are_any() {
    let flows = frames::alone_flows();
    let with = Kernel::alone(&flows, FIRST, LAST, frames::BLOCKS);
    let without = Kernel::load(&flows, FIRST, LAST, false);
    let mut table = Table::new(&flows);
    for (fixture, same) in frames::alone() {
        let (frame, name) = (&fixture.bytes[..], fixture.name);
        assert_eq!(with.decide(frame), fixture.decision, "{name}");
        let decision = without.decide(frame);
        assert_eq!(decision, steer(&frame, &table), "{name}");
        assert_eq!(decision == fixture.decision, same, "{name}");
    }
    table.alone = Some(frames::BLOCKS);
    for (fixture, _) in frames::alone() {
        for length in SHORTEST..fixture.bytes.len() {
            let frame = &fixture.bytes[..length];
            let name = fixture.name;
            assert_eq!(
                with.decide(frame),
                steer(&frame, &table),
                "{name} at {length}"
            );
        }
    }
}

/// Flows and remote ends for more than there are places in buckets.
#[test]
fn what_does_not_fit_its_bucket_is_found_elsewhere() {
    let (us, server) = (Ipv4Addr::new(192, 0, 2, 200), Ipv4Addr::new(203, 0, 113, 0));
    let segment = |number: u8, port: u16| {
        let [a, b, c, _] = server.octets();
        let tcp = frames::tcp(443, port, 12, &[]);
        let packet = frames::v4([a, b, c, number], us.octets(), 6, &[], &tcp);
        frames::ethernet(&[], 0x0800, &packet)
    };
    let mut flows = frames::flows();
    for number in 0..40 {
        let [a, b, c, _] = server.octets();
        let remote = SocketAddr::from(([a, b, c, number], 443));
        let local = SocketAddr::from((us, FIRST));
        let flow = FlowKey::new(local, remote, PROTOCOL_TCP).unwrap();
        flows.push((flow, 1_000 + u32::from(number)));
    }
    let kernel = Kernel::load(&flows, FIRST, LAST, false);
    for number in 0..=u8::MAX {
        let expected = match number {
            0..40 => Decision::Ours {
                session: 1_000 + u32::from(number),
                kind: SteerKind::Segment,
                l3_offset: 14,
            },
            _ => Decision::Pass(Counter::NoFlow),
        };
        assert_eq!(kernel.decide(&segment(number, FIRST)), expected, "{number}");
        let other = kernel.decide(&segment(number, LAST));
        assert_eq!(other, Decision::Pass(Counter::NoFlow), "{number}");
    }
    // Remote ends, too: among them are those of quotes that a NAT rewrote.
    for fixture in frames::all() {
        assert_eq!(
            kernel.decide(&fixture.bytes),
            fixture.decision,
            "{}",
            fixture.name
        );
    }
}

/// The kernel's own connection to a server of ours: its ICMP errors are its.
#[test]
fn a_quote_of_a_kernel_sockets_port_is_the_kernels() {
    const KERNELS: u16 = 40_123;
    let (kernel, _) = load();
    // This thread alone moves to a network of its own, which ends with it;
    // `BPF_PROG_TEST_RUN` looks for sockets in it.
    // SAFETY: no pointers.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(done, 0, "run as root");
    // Every socket that a segment to this port would reach will do.
    let listener = TcpListener::bind(("::", KERNELS)).unwrap();
    for (frame, _) in frames::quotes_from_port(KERNELS) {
        assert_eq!(kernel.decide(&frame), Decision::Pass(Counter::QuoteNoFlow));
    }
    drop(listener);
    for (frame, _) in frames::quotes_from_port(KERNELS) {
        assert_eq!(
            kernel.decide(&frame),
            Decision::Ours {
                session: UNRESOLVED,
                kind: SteerKind::RewrittenQuote,
                l3_offset: 14
            }
        );
    }
}

#[test]
fn mutated_frames_are_decided_alike_in_the_kernel_and_on_slices() {
    const FRAMES: usize = 40_000;
    let (kernel, table) = load();
    let fixtures = frames::all();
    let mut random = Random(0x1d5e_5510_2026_0001);
    let mut seen = vec![0; Counter::ALL.len()];
    for number in 0..FRAMES {
        let fixture = &fixtures[random.below(fixtures.len())];
        let mut frame = fixture.bytes.clone();
        for _ in 0..random.below(4) {
            random.mutate(&mut frame);
        }
        let decision = steer(&&frame[..], &table);
        seen[frames::counted(decision) as usize] += 1;
        assert_eq!(
            kernel.decide(&frame),
            decision,
            "frame {number} from {:?}: {frame:02x?}",
            fixture.name
        );
    }
    // Mutation must not leave a branch out.
    for counter in Counter::ALL {
        let times = seen[*counter as usize];
        assert_eq!(
            times < 100,
            *counter == Counter::RedirectFailed,
            "{counter:?}: {times}"
        );
    }
}

/// Without CAP_PERFMON the verifier forbids variable offsets to packet pointers
/// and loops on stack pointers, and looks at speculative paths too.
#[test]
fn three_capabilities_are_enough() {
    only_net_raw_net_admin_and_bpf();
    for log in [false, true] {
        let kernel = Kernel::load(&frames::flows(), FIRST, LAST, log);
        for fixture in frames::all() {
            assert_eq!(
                kernel.decide(&fixture.bytes),
                fixture.decision,
                "{}",
                fixture.name
            );
        }
    }
}

/// Takes all other capabilities from this thread, for good.
fn only_net_raw_net_admin_and_bpf() {
    // `struct __user_cap_header_struct` and two of `__user_cap_data_struct`:
    // effective, permitted, inheritable (linux/capability.h, version 3).
    let header = [0x2008_0522u32, 0];
    let (low, high) = ((1 << 12) | (1 << 13), 1 << (39 - 32));
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: both point to what the call reads, and outlive it.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(done, 0, "run as root");
    // SAFETY: no pointers. The ambient and bounding sets do not matter here.
    let kept = unsafe { libc::prctl(libc::PR_CAPBSET_READ, 38) };
    assert!(kept >= 0, "the kernel knows CAP_PERFMON");
}

/// The other loader: it is stricter about maps and BTF than aya.
#[test]
fn libbpf_loads_the_same_object() {
    let mut object = ObjectBuilder::default().open_memory(OBJECT).unwrap();
    // The constants by their names, from the BTF.
    let offsets: HashMap<String, usize> = {
        let btf = Btf::from_raw("insession", OBJECT).unwrap().expect("BTF");
        let rodata: DataSec<'_> = btf.type_by_name(".rodata").expect("constants in the BTF");
        rodata
            .iter()
            .map(|variable| {
                let name = btf.type_by_id::<BtfType<'_>>(variable.ty).unwrap();
                let name = name.name().unwrap().to_string_lossy().into_owned();
                (name, variable.offset as usize)
            })
            .collect()
    };
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name.ends_with(".rodata") {
            let constants = map.initial_value_mut().unwrap();
            for (name, port) in [(names::PORT_FIRST, FIRST), (names::PORT_LAST, LAST)] {
                constants[offsets[name]..][..2].copy_from_slice(&port.to_ne_bytes());
            }
        } else if name.starts_with("FLOWS") || name == names::PEERS || name == names::LOCALS {
            map.set_max_entries(1024).unwrap();
        }
    }
    let object = object.load().expect("libbpf loads the object; run as root");

    let map = |wanted: &str| object.maps().find(|map| map.name() == wanted).unwrap();
    let (flow, session) = frames::flows()[0];
    let FlowKey::V4(key) = flow else {
        panic!("the first flow is IPv4");
    };
    // As loaded there is one bucket.
    let ([a, b], [c, d]) = (key.remote_port, key.local_port);
    let words = [key.remote, key.local, [a, b, c, d]].map(u32::from_ne_bytes);
    let entry = bucket::flow(words[0], words[1], words[2], session);
    let bucket: Bucket = [entry[0], entry[1], 0, 0, 0, 0, 0, 0];
    let bytes = bucket.map(u64::to_ne_bytes).concat();
    map(names::FLOW_BUCKETS)
        .update(&[0; 4], &bytes, MapFlags::ANY)
        .unwrap();
    let socket = socket_with_rx_ring();
    map(names::SOCKETS)
        .update(&[0; 4], &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY)
        .unwrap();

    let program = object
        .progs_mut()
        .find(|program| program.name() == names::PROGRAM)
        .unwrap();
    for (frame, action) in [
        (frames::sack(), XDP_REDIRECT),
        (frames::time_exceeded(), XDP_REDIRECT),
        (frames::foreign(), XDP_PASS),
    ] {
        let mut output = [0; 256];
        let input = ProgramInput {
            data_in: Some(&frame),
            data_out: Some(&mut output),
            ..ProgramInput::default()
        };
        assert_eq!(program.test_run(input).unwrap().return_value, action);
        if action == XDP_REDIRECT {
            let stamp = ReplyStamp::from_bytes(&output[..ReplyStamp::SIZE].try_into().unwrap());
            assert_eq!(stamp.session, session);
            assert_eq!(output[ReplyStamp::SIZE..][..frame.len()], frame);
        }
    }
    for counter in [Counter::Segment, Counter::Quote, Counter::PortOutside] {
        let index = (counter as u32).to_ne_bytes();
        let values = map(names::COUNTERS)
            .lookup_percpu(&index, MapFlags::ANY)
            .unwrap()
            .unwrap();
        let count: u64 = values
            .iter()
            .map(|value| u64::from_ne_bytes(value[..].try_into().unwrap()))
            .sum();
        assert_eq!(count, 1, "{counter:?}");
    }
}

/// With the constant set, aya-log reads what the program has to say; without
/// it, the program says nothing.
#[test]
fn diagnostics_come_out_through_aya_log() {
    let said = Said::default();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer({
            let said = said.clone();
            move || said.clone()
        })
        .init();
    let (unresolved, _) = &frames::quotes_from_port(40_000)[0];
    for (log, lines) in [(true, 2), (false, 0)] {
        let mut kernel = Kernel::load(&frames::flows(), FIRST, LAST, log);
        let mut logger = aya_log::EbpfLogger::init(kernel.program()).unwrap();
        kernel.run(&frames::sack()).unwrap();
        kernel.run(unresolved).unwrap();
        drop(kernel.socket.take());
        kernel.run(&frames::sack()).unwrap();
        logger.flush();
        let text = said.take();
        assert_eq!(text.lines().count(), lines, "{text}");
        if log {
            let mut text = text.lines();
            let mut ends = |end| assert!(text.next().unwrap().ends_with(end));
            ends("insession: queue 0: a rewritten quote that names no session");
            ends("insession: queue 0: ours, passed: no AF_XDP socket in the map");
        }
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// xorshift64*: the same frames at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        // Bytes that mean something somewhere.
        const TELLING: [u8; 16] = [
            0, 1, 3, 6, 11, 17, 43, 44, 58, 60, 0x40, 0x45, 0x4f, 0x60, 0x86, 0xff,
        ];
        let at = self.below(frame.len());
        match self.below(8) {
            0..=2 => frame[at] = TELLING[self.below(TELLING.len())],
            3..=4 => frame[at] = self.next() as u8,
            5 => frame[at] ^= 1 << self.below(8),
            6 => frame.truncate(at.max(SHORTEST)),
            _ => {
                let more = self.below(64);
                frame.extend(std::iter::repeat_n(TELLING[at % TELLING.len()], more));
            }
        }
    }
}
