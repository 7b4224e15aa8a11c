//! The AF_XDP link on veth pairs, in the real kernel. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, may panic")]

mod frames;
mod lab;
mod live;
mod owners;
mod queues;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use insession::link::xdp::{XdpLink, XdpMode, XdpOptions, ZeroCopy};
use insession::link::{Link, LinkError};
use insession::session::Flow;
use insession::time::{Duration, Instant};
use insession_common::stamp::SteerKind;

use frames::{flow, flow_v6, segment, time_exceeded};
use lab::{FAR, Lab, NEAR, ip, rename, with_pair};

/// An ethertype for local experiments (IEEE 802).
const EXPERIMENTAL: u16 = 0x88b5;

fn open(lab: &Lab, mode: XdpMode) -> XdpLink {
    let options = XdpOptions {
        mode,
        ..XdpOptions::default()
    };
    XdpLink::open(&lab.interface(), &options).unwrap()
}

fn in_seconds(link: &XdpLink, seconds: u64) -> Instant {
    link.now() + Duration::from_secs(seconds)
}

/// What a received frame was steered as.
#[derive(Clone, Debug, PartialEq)]
struct Steered {
    session: u32,
    kind: SteerKind,
    at: Instant,
    l3_offset: usize,
    bytes: Vec<u8>,
}

/// Receives so many frames, or as many as come within 5 s.
fn receive(link: &mut XdpLink, wanted: usize) -> Vec<Steered> {
    let until = in_seconds(link, 5);
    let mut all = Vec::new();
    while all.len() < wanted && link.now() < until {
        let budget = (wanted - all.len()).min(64);
        link.receive(budget, &mut |frame| {
            all.push(Steered {
                session: frame.session,
                kind: frame.kind,
                at: frame.at,
                l3_offset: frame.l3_offset,
                bytes: frame.bytes.to_vec(),
            });
        })
        .unwrap();
        if all.len() < wanted {
            link.wait(until).unwrap();
        }
    }
    all
}

fn counter(link: &mut XdpLink, label: &str) -> u64 {
    let counters = link.counters();
    counters.iter().find(|(name, _)| *name == label).unwrap().1
}

/// Waits until every frame is given back, 5 s at most.
fn settle(link: &mut XdpLink) {
    let until = in_seconds(link, 5);
    while link.in_flight() > 0 && link.now() < until {
        let soon = link.now() + Duration::from_millis(1);
        link.wait(soon).unwrap();
        link.room();
    }
}

/// Frame number `n` of a stream: every length, every content different.
fn numbered(n: u32) -> Vec<u8> {
    let mut frame = frames::ethernet(EXPERIMENTAL);
    frame.extend_from_slice(&n.to_be_bytes());
    let length = 60 + n as usize % 190;
    while frame.len() < length {
        frame.push((n as usize * 31 + frame.len()) as u8);
    }
    frame
}

/// Writes frame number `n`.
fn write(link: &mut XdpLink, n: u32) -> Result<(), LinkError> {
    let frame = numbered(n);
    link.transmit(&mut |bytes| {
        bytes[..frame.len()].copy_from_slice(&frame);
        frame.len()
    })
}

fn frames_arrive(mode: XdpMode, name: &str) {
    with_pair(1, |lab| {
        let far = lab.far_socket(EXPERIMENTAL);
        let mut link = open(lab, mode);
        let info = link.info();
        assert_eq!((info.kind, info.mode), ("xdp", Some(name)));
        assert!(!info.zero_copy, "veth has none");
        assert_eq!(info.interface, NEAR);
        let total = link.room();
        let (mut sent, count) = (0, 10_000);
        while sent < count {
            let batch = link.room().min(64).min((count - sent) as usize);
            if batch == 0 {
                let until = in_seconds(&link, 5);
                link.wait(until).unwrap();
                assert!(link.now() < until, "no room for 5 s");
            }
            for _ in 0..batch {
                write(&mut link, sent).unwrap();
                sent += 1;
            }
            link.flush().unwrap();
        }
        for n in 0..count {
            assert_eq!(far.receive(), Some(numbered(n)), "frame {n}");
        }
        settle(&mut link);
        assert_eq!(link.in_flight(), 0);
        assert_eq!(link.room(), total, "every frame is back");
        for label in ["xsk-tx-invalid", "unknown-frame", "bad-stamp"] {
            assert_eq!(counter(&mut link, label), 0, "{label}");
        }
    });
}

#[test]
fn frames_arrive_byte_for_byte_from_the_driver() {
    frames_arrive(XdpMode::Auto, "native");
}

#[test]
fn frames_arrive_byte_for_byte_from_the_generic_path() {
    frames_arrive(XdpMode::Generic, "generic");
}

/// More than one call of the kernel takes, more than there is room for.
#[test]
fn batch_of_all_frames_goes_with_one_flush() {
    with_pair(1, |lab| {
        let far = lab.far_socket(EXPERIMENTAL);
        let mut link = open(lab, XdpMode::Auto);
        let total = link.room() as u32;
        let mut n = 0;
        while write(&mut link, n).is_ok() {
            n += 1;
        }
        assert_eq!(n, total);
        let mut called = false;
        let full = link.transmit(&mut |_| {
            called = true;
            60
        });
        assert!(matches!(full, Err(LinkError::Full)) && !called);
        link.flush().unwrap();
        for n in 0..total {
            assert_eq!(far.receive(), Some(numbered(n)));
        }
        settle(&mut link);
        assert_eq!(link.room(), total as usize);
    });
}

#[test]
fn frame_that_is_not_filled_stays_ours() {
    with_pair(1, |lab| {
        let mut link = open(lab, XdpMode::Auto);
        let total = link.room();
        link.transmit(&mut |bytes| {
            assert!(bytes.len() >= insession::link::MAX_FRAME);
            0
        })
        .unwrap();
        link.flush().unwrap();
        assert_eq!((link.room(), link.in_flight()), (total, 0));
    });
}

fn replies_are_steered(mode: XdpMode) {
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let mut link = open(lab, mode);
        let far_v6 = lab.far_socket(0x86dd);
        let (first, second, third) = (flow(61_001), flow(61_002), flow_v6(61_002));
        link.add_flow(&first, 7).unwrap();
        link.add_flow(&second, 8).unwrap();
        link.add_flow(&third, 9).unwrap();
        let before = link.now();
        far.send(&segment(&second));
        far.send(&time_exceeded(&first));
        far_v6.send(&segment(&third));
        let got = receive(&mut link, 3);
        let after = link.now();
        let seen: Vec<_> = got.iter().map(|got| (got.session, got.kind)).collect();
        let segment_of = |session| (session, SteerKind::Segment);
        assert_eq!(seen, [segment_of(8), (7, SteerKind::Quote), segment_of(9)]);
        assert_eq!(got[0].bytes, segment(&second));
        assert_eq!(got[1].bytes, time_exceeded(&first));
        assert_eq!(got[2].bytes, segment(&third));
        for got in &got {
            assert_eq!(got.l3_offset, 14);
            assert!(before <= got.at && got.at <= after, "{:?}", got.at);
        }
        assert_eq!(counter(&mut link, "segment"), 2);
        assert_eq!(counter(&mut link, "quote"), 1);
    });
}

#[test]
fn replies_are_steered_from_the_driver() {
    replies_are_steered(XdpMode::Native);
}

#[test]
fn replies_are_steered_from_the_generic_path() {
    replies_are_steered(XdpMode::Generic);
}

/// Quotes that a NAT rewrote are ours by port or by peer, as long as some flow of
/// ours has that port or peer; and the program says so, where it may.
#[test]
fn rewritten_quotes_are_ours_while_a_flow_lives() {
    #[derive(Clone, Default)]
    struct Said(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let said = Said::default();
    let writer = said.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .init();
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let options = XdpOptions {
            program_log: true,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        let (one, two) = (flow(61_001), flow(61_002));
        let by_port = Flow {
            remote: "198.51.100.9:443".parse().unwrap(),
            ..one
        };
        let by_peer = Flow {
            local: "10.77.0.1:1024".parse().unwrap(),
            ..one
        };
        let ours = |link: &mut XdpLink, passed: u64| {
            let before = counter(link, "rewritten-quote");
            far.send(&time_exceeded(&by_port));
            far.send(&time_exceeded(&by_peer));
            // Behind them, so that what was passed has been passed.
            far.send(&segment(&two));
            let mut count = 0;
            while receive(link, 1)[0].kind == SteerKind::RewrittenQuote {
                count += 1;
            }
            assert_eq!(counter(link, "rewritten-quote") - before, count);
            assert_eq!(count + passed, 2);
        };
        link.add_flow(&two, 2).unwrap();
        // The peer is that of `two`, the port is nobody's.
        ours(&mut link, 1);
        link.add_flow(&one, 1).unwrap();
        ours(&mut link, 0);
        link.remove_flow(&one);
        ours(&mut link, 1);
    });
    let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("queue 0: a rewritten quote"), "{said}");
}

/// A host that forwards sees errors for others, about segments from a port and
/// to a server that are ours as well.
#[test]
fn errors_for_other_hosts_are_the_kernels() {
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let mut link = open(lab, XdpMode::Auto);
        let one = flow(61_001);
        let at = |local: &str, remote: &str| Flow {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let others = [
            at("10.77.0.9:61001", "198.51.100.9:443"),
            at("10.77.0.9:1024", "10.77.0.2:443"),
            at("10.77.0.9:61001", "10.77.0.2:443"),
        ];
        let steered = |link: &mut XdpLink| {
            let before = counter(link, "quote-no-flow");
            for other in &others {
                far.send(&time_exceeded(other));
            }
            // Behind them, so that what was passed has been passed.
            far.send(&segment(&one));
            let mut count = 0;
            while receive(link, 1)[0].kind == SteerKind::RewrittenQuote {
                count += 1;
            }
            assert_eq!(counter(link, "quote-no-flow") - before + count, 3);
            count
        };
        link.add_flow(&one, 1).unwrap();
        assert_eq!(steered(&mut link), 0);
        // A flow of ours at that address makes it one of ours, while it lives.
        let second = at("10.77.0.9:61002", "10.77.0.3:443");
        link.add_flow(&second, 2).unwrap();
        assert_eq!(steered(&mut link), 3);
        link.remove_flow(&second);
        assert_eq!(steered(&mut link), 0);
    });
}

/// Many times round the rings: no receive frame is lost.
#[test]
fn thousands_of_replies_are_received() {
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let options = XdpOptions {
            rx_frames: 64,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        for port in 0..32 {
            link.add_flow(&flow(62_000 + port), port.into()).unwrap();
        }
        for round in 0..100 {
            for port in 0..32 {
                far.send(&segment(&flow(62_000 + port)));
            }
            let got = receive(&mut link, 32);
            let sessions: Vec<_> = got.iter().map(|got| got.session).collect();
            assert_eq!(sessions, (0..32).collect::<Vec<_>>(), "round {round}");
        }
        assert_eq!(counter(&mut link, "segment"), 3200);
        for label in ["unknown-frame", "bad-stamp", "xsk-rx-dropped"] {
            assert_eq!(counter(&mut link, label), 0, "{label}");
        }
    });
}

#[test]
fn replies_on_every_queue_are_received() {
    with_pair(4, |lab| {
        let far = lab.far_socket(0x0800);
        let mut link = open(lab, XdpMode::Auto);
        assert_eq!(link.queues(), 4);
        // The peer's kernel spreads flows over its queues by their hash.
        for port in 0..256 {
            link.add_flow(&flow(62_000 + port), port.into()).unwrap();
            far.send(&segment(&flow(62_000 + port)));
        }
        let mut sessions: Vec<_> = receive(&mut link, 256)
            .iter()
            .map(|got| got.session)
            .collect();
        assert!(!sessions.is_sorted(), "all came over one queue");
        sessions.sort_unstable();
        assert_eq!(sessions, (0..256).collect::<Vec<_>>());
        assert_eq!(counter(&mut link, "redirect-failed"), 0);
    });
}

#[test]
fn flow_is_steered_once_and_no_longer_when_removed() {
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let mut link = open(lab, XdpMode::Auto);
        let (ours, other) = (flow(61_001), flow(61_002));
        link.add_flow(&ours, 1).unwrap();
        assert!(matches!(link.add_flow(&ours, 2), Err(LinkError::FlowTaken)));
        link.add_flow(&other, 3).unwrap();
        link.remove_flow(&ours);
        link.remove_flow(&ours);
        far.send(&segment(&ours));
        far.send(&segment(&other));
        let got = receive(&mut link, 1);
        assert_eq!(got[0].session, 3);
        assert_eq!(counter(&mut link, "no-flow"), 1);
        link.add_flow(&ours, 4).unwrap();
        far.send(&segment(&ours));
        assert_eq!(receive(&mut link, 1)[0].session, 4);
        let outside = Flow {
            local: "10.77.0.1:443".parse().unwrap(),
            ..ours
        };
        let refused = link.add_flow(&outside, 5).unwrap_err().to_string();
        assert!(refused.starts_with("source port 443: "), "{refused}");
    });
}

/// What the link says it can receive is received; the session announces no more.
#[test]
fn the_longest_packet_fits_and_a_jumbo_does_not() {
    with_pair(1, |lab| {
        ip(&format!("link set {NEAR} mtu 9000"));
        lab.far(|| ip(&format!("link set {FAR} mtu 9000")));
        let far = lab.far_socket(0x0800);
        let mut link = open(lab, XdpMode::Generic);
        link.add_flow(&flow(61_001), 7).unwrap();
        let longest = link.longest_packet() as usize;
        assert_eq!(longest, 1500);
        let mut long = segment(&flow(61_001));
        for length in [4000, longest] {
            long.resize(14 + length, 0);
            far.send(&long);
        }
        let got = receive(&mut link, 1);
        assert_eq!(got[0].bytes.len(), 14 + longest);
        assert!(counter(&mut link, "xsk-rx-dropped") > 0);
    });
}

/// An IPv4 session there could only end in a handshake timeout that is none.
#[test]
fn an_ipv4_flow_over_loopback_is_refused() {
    with_pair(1, |_| {
        ip("link set lo up");
        let mut link = XdpLink::open(&lab::interface("lo"), &XdpOptions::default()).unwrap();
        let over = |local: &str, remote: &str| Flow {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        for address in ["127.0.0.1", "10.77.0.1"] {
            let flow = over(&format!("{address}:61001"), &format!("{address}:80"));
            let error = link.add_flow(&flow, 1).unwrap_err();
            assert!(matches!(error, LinkError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains("--link packet"), "{error}");
        }
        link.add_flow(&over("[::1]:61001", "[::1]:80"), 1).unwrap();
    });
}

#[test]
fn full_flow_map_is_an_error_with_a_name() {
    with_pair(1, |lab| {
        let options = XdpOptions {
            flows: 8,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        // The kernel's hash maps may hold a few more than asked for, a processor.
        let refused = (0..2000).find_map(|port| link.add_flow(&flow(62_000 + port), 1).err());
        let refused = refused.unwrap().to_string();
        assert!(refused.contains("flow map is full"), "{refused}");
    });
}

/// The maps that IPv4 and IPv6 share hold as many ends as both have flows.
#[test]
fn both_flow_maps_can_be_filled() {
    with_pair(1, |lab| {
        let flows = 1000;
        let options = XdpOptions {
            flows,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        for n in 0..flows as u16 {
            let [high, low] = n.to_be_bytes();
            for (ours, theirs) in [
                (
                    format!("10.77.{high}.{low}:61000"),
                    format!("10.78.{high}.{low}:443"),
                ),
                (format!("[fd77::{n:x}]:61000"), format!("[fd78::{n:x}]:443")),
            ] {
                let flow = Flow {
                    local: ours.parse().unwrap(),
                    remote: theirs.parse().unwrap(),
                };
                link.add_flow(&flow, u32::from(n)).unwrap();
            }
        }
    });
}

/// What is not ours is the kernel's.
#[test]
fn foreign_traffic_reaches_the_kernel() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        with_pair(1, |lab| {
            let mut link = open(lab, mode);
            link.add_flow(&flow(61_001), 1).unwrap();
            let near = UdpSocket::bind("10.77.0.1:0").unwrap();
            let far = lab.far(|| UdpSocket::bind("10.77.0.2:0").unwrap());
            for socket in [&near, &far] {
                let limit = Some(Duration::from_secs(5));
                socket.set_read_timeout(limit).unwrap();
            }
            for n in 0..50u8 {
                let mut answer = [0; 1];
                near.send_to(&[n], far.local_addr().unwrap()).unwrap();
                let (_, from) = far.recv_from(&mut answer).unwrap();
                far.send_to(&answer, from).unwrap();
                near.recv_from(&mut answer).unwrap();
                assert_eq!(answer, [n]);
            }
            assert!(counter(&mut link, "other-protocol") >= 50);
        });
    }
}

#[test]
fn waker_ends_a_wait() {
    with_pair(1, |lab| {
        let mut link = open(lab, XdpMode::Auto);
        let waker = link.waker().unwrap();
        for _ in 0..2 {
            // SAFETY: reads 8 octets.
            unsafe { libc::write(waker.as_raw_fd(), (&raw const ONE).cast(), 8) };
            let until = in_seconds(&link, 60);
            link.wait(until).unwrap();
            assert!(link.now() < until);
        }
        // The wake-ups are used up.
        let until = link.now() + Duration::from_millis(1);
        link.wait(until).unwrap();
        assert!(link.now() >= until);
    });
    static ONE: u64 = 1;
}

/// Waits and flushes until the link reports an error, 5 s at most.
fn failure(link: &mut XdpLink) -> Option<LinkError> {
    let until = in_seconds(link, 5);
    while link.now() < until {
        let soon = link.now() + Duration::from_millis(20);
        let result = link.wait(soon).and_then(|()| link.flush());
        if let Err(error) = result {
            return Some(error);
        }
    }
    None
}

#[test]
fn interface_that_goes_down_is_an_error() {
    with_pair(1, |lab| {
        let mut link = open(lab, XdpMode::Auto);
        ip(&format!("link set {NEAR} down"));
        assert!(matches!(failure(&mut link), Some(LinkError::Down(name)) if name == NEAR));
        drop(link);
        let down = XdpLink::open(&lab.interface(), &XdpOptions::default());
        assert!(matches!(down, Err(LinkError::Down(name)) if name == NEAR));
    });
}

#[test]
fn interface_that_is_deleted_is_an_error() {
    with_pair(1, |lab| {
        let mut link = open(lab, XdpMode::Auto);
        ip(&format!("link del {NEAR}"));
        assert!(matches!(failure(&mut link), Some(LinkError::Down(name)) if name == NEAR));
    });
}

#[test]
fn renamed_interface_and_short_loss_of_carrier_do_no_harm() {
    with_pair(1, |lab| {
        let mut link = open(lab, XdpMode::Auto);
        link.add_flow(&flow(61_001), 1).unwrap();
        rename(NEAR, "renamed0");
        lab.far(|| ip(&format!("link set {FAR} down")));
        for _ in 0..3 {
            let next = link.now() + Duration::from_millis(101);
            link.wait(next).unwrap();
        }
        lab.far(|| ip(&format!("link set {FAR} up")));
        lab.far_socket(0x0800).send(&segment(&flow(61_001)));
        assert_eq!(receive(&mut link, 1).len(), 1);
    });
}

#[test]
fn zero_copy_is_refused_where_the_driver_has_none() {
    with_pair(1, |lab| {
        for (mode, reason) in [
            (XdpMode::Auto, "the driver or this device does not do it"),
            (XdpMode::Generic, "attached generically"),
        ] {
            let options = XdpOptions {
                mode,
                zero_copy: ZeroCopy::On,
                ..XdpOptions::default()
            };
            let error = XdpLink::open(&lab.interface(), &options).unwrap_err();
            assert!(matches!(error, LinkError::Unsupported { .. }));
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(lab.attached(), 0, "a failed start leaves nothing");
        }
    });
}

#[test]
fn kernel_port_is_taken() {
    with_pair(1, |lab| {
        ip("link set lo up");
        for address in ["10.77.0.1:0", "[::1]:0"] {
            let link = open(lab, XdpMode::Auto);
            let kernel = std::net::TcpListener::bind(address).unwrap();
            let mut local = kernel.local_addr().unwrap();
            assert!(link.port_taken(local), "{local}");
            drop(kernel);
            local.set_port(local.port() ^ 1);
            assert!(!link.port_taken(local), "{local}");
        }
    });
}
