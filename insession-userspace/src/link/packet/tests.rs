//! The link on veth, against a real server: a socket of this kernel in another
//! namespace.

use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration as StdDuration;

use etherparse::{PacketBuilder, TcpHeader, TcpHeaderSlice, TcpOptionElement, TransportSlice};

use super::*;
use crate::engine::Target;
use crate::link::pcap::{Capture, PcapWriter};
use crate::net::testing::{self, Namespace, pair};
use crate::net::{Route, Router, RouterOptions, socket as tcp_socket};

pub(super) const PORTS: RangeInclusive<u16> = 61000..=61999;
const SESSION: SessionId = 7;

/// A server whose `accept` and reads end after a while.
pub(super) fn listen(namespace: &Namespace, address: &str) -> TcpListener {
    namespace.run(|| {
        let listener = TcpListener::bind(address).unwrap();
        let limit = libc::timeval {
            tv_sec: 5,
            tv_usec: 0,
        };
        tcp_socket::set_option(
            listener.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            &limit,
        )
        .unwrap();
        listener
    })
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection within 5 s");
    stream
        .set_read_timeout(Some(StdDuration::from_secs(5)))
        .unwrap();
    stream
}

pub(super) fn flow(local: &str, remote: &str) -> Flow {
    Flow {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

/// A received frame, owned.
pub(super) struct Seen {
    at: Instant,
    pub session: SessionId,
    pub kind: SteerKind,
    pub outgoing: bool,
    l3_offset: usize,
    bytes: Vec<u8>,
}

impl Seen {
    fn tcp(&self) -> TcpHeader {
        let parsed = etherparse::SlicedPacket::from_ip(&self.bytes[self.l3_offset..]).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = parsed.transport else {
            panic!("not TCP: {:x?}", self.bytes);
        };
        TcpHeaderSlice::from_slice(tcp.slice()).unwrap().to_header()
    }

    fn sack(&self) -> Option<(u32, u32)> {
        let tcp = self.tcp();
        tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::SelectiveAcknowledgement(first, _)) => Some(first),
            _ => None,
        })
    }
}

/// The next frame that `wanted` wants; everything before it is dropped.
pub(super) fn next(link: &mut dyn Link, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
    let deadline = link.now() + Duration::from_secs(5);
    loop {
        let mut found = None;
        // One at a time, so that nothing behind it is lost.
        link.receive(1, &mut |frame| {
            found = Some(Seen {
                at: frame.at,
                session: frame.session,
                kind: frame.kind,
                outgoing: frame.outgoing,
                l3_offset: frame.l3_offset,
                bytes: frame.bytes.to_vec(),
            });
        })
        .unwrap();
        match found {
            Some(seen) if wanted(&seen) => return seen,
            Some(_) => {}
            None => {
                assert!(link.now() < deadline, "no {what} within 5 s");
                link.wait(deadline).unwrap();
            }
        }
    }
}

fn route(to: &Flow) -> Route {
    let mut router = Router::new(RouterOptions::default()).unwrap();
    let target = Target {
        index: 0,
        name: String::new(),
        address: to.remote.ip(),
        port: to.remote.port(),
    };
    testing::route(&mut router, &target).unwrap()
}

/// One byte of payload at `sequence`, as a session sends it.
fn probe(flow: &Flow, route: &Route, sequence: u32, syn_ack: &TcpHeader) -> Vec<u8> {
    probe_with_ttl(64, flow, route, sequence, syn_ack)
}

fn probe_with_ttl(
    ttl: u8,
    flow: &Flow,
    route: &Route,
    sequence: u32,
    syn_ack: &TcpHeader,
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(route.source_mac, route.next_hop_mac);
    let ip = match (flow.local.ip(), flow.remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            ethernet.ipv4(local.octets(), remote.octets(), ttl)
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            ethernet.ipv6(local.octets(), remote.octets(), ttl)
        }
        _ => unreachable!(),
    };
    let theirs = syn_ack.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::Timestamp(value, echo)) => Some((value, echo)),
        _ => None,
    });
    let (value, echo) = theirs.expect("timestamps, which Linux negotiates");
    let tcp = ip
        .tcp(flow.local.port(), flow.remote.port(), sequence, 1000)
        .ack(syn_ack.sequence_number.wrapping_add(1))
        // Our clock goes on from what the SYN-ACK echoed of it.
        .options(&[TcpOptionElement::Timestamp(echo.wrapping_add(1000), value)])
        .unwrap();
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[0]).unwrap();
    frame
}

pub(super) fn send(link: &mut dyn Link, frame: &[u8]) {
    assert!(link.room() > 0);
    link.transmit(&mut |buffer| {
        buffer[..frame.len()].copy_from_slice(frame);
        frame.len()
    })
    .unwrap();
    link.flush().unwrap();
}

/// Handshake by the kernel, probe by us, SACK from the server, RST at the end.
pub(super) fn whole_session(link: &mut dyn Link, flow: &Flow, listener: &TcpListener) {
    let began = link.now();
    link.add_flow(flow, SESSION).unwrap();
    let syn = next(link, "SYN", |seen| seen.outgoing);
    let isn = syn.tcp().sequence_number;
    assert!(syn.tcp().syn && !syn.tcp().ack);
    assert_eq!((syn.session, syn.kind), (SESSION, SteerKind::Segment));
    assert!(syn.at >= began && syn.at <= link.now());

    let syn_ack = next(link, "SYN-ACK", |seen| !seen.outgoing);
    assert_eq!(
        (syn_ack.session, syn_ack.kind),
        (SESSION, SteerKind::Segment)
    );
    assert!(syn_ack.at >= syn.at && syn_ack.at <= link.now());
    let answer = syn_ack.tcp();
    assert!(answer.syn && answer.ack);
    assert_eq!(answer.acknowledgment_number, isn.wrapping_add(1));
    let mut server = accept(listener);

    // The byte at ISN + 1 is the gap.
    let sequence = isn.wrapping_add(2);
    send(link, &probe(flow, &route(flow), sequence, &answer));
    let sack = next(link, "SACK", |seen| !seen.outgoing && seen.sack().is_some());
    assert_eq!(sack.sack(), Some((sequence, sequence.wrapping_add(1))));
    assert_eq!(sack.tcp().acknowledgment_number, isn.wrapping_add(1));

    link.remove_flow(flow);
    let error = server.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

pub(super) fn open() -> PacketLink {
    PacketLink::open("near0", &PacketOptions::new(PORTS)).unwrap()
}

#[test]
fn a_session_over_ipv4_and_ipv6() {
    let (near, far) = pair();
    for (local, remote) in [
        ("198.18.1.1:61000", "198.18.1.2:80"),
        ("[fd00:1::1]:61000", "[fd00:1::2]:80"),
    ] {
        let listener = listen(&far, remote);
        near.run(|| {
            let mut link = open();
            assert!(link.kernel_owns_connections());
            assert_eq!(link.info().kind, "packet");
            whole_session(&mut link, &flow(local, remote), &listener);
            // And again, the flow being free.
            whole_session(&mut link, &flow(local, remote), &listener);
        });
    }
}

#[test]
fn a_session_over_loopback() {
    let host = Namespace::new();
    for address in ["127.0.0.1", "[::1]"] {
        let remote = format!("{address}:80");
        let listener = listen(&host, &remote);
        host.run(|| {
            let mut link = PacketLink::open("lo", &PacketOptions::new(PORTS)).unwrap();
            let flow = flow(&format!("{address}:61000"), &remote);
            whole_session(&mut link, &flow, &listener);
        });
    }
}

#[test]
fn a_session_is_captured() {
    let (near, far) = pair();
    let listener = listen(&far, "198.18.1.2:80");
    let path = std::env::temp_dir().join(format!("insession-packet-{}.pcapng", std::process::id()));
    near.run(|| {
        let writer = PcapWriter::create(&path).unwrap();
        let mut link = Capture::new(Box::new(open()), writer);
        let flow = flow("198.18.1.1:61000", "198.18.1.2:80");
        whole_session(&mut link, &flow, &listener);
    });
    let file = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // Where each block begins, and of what type it is.
    let mut kinds = Vec::new();
    let mut rest = &file[..];
    while let Some(length) = rest.get(4..8) {
        kinds.push(u32::from_le_bytes(rest[..4].try_into().unwrap()));
        rest = &rest[u32::from_le_bytes(length.try_into().unwrap()) as usize..];
    }
    // Section, interface; SYN, SYN-ACK, probe, SACK.
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 6, 6]);
}

#[test]
fn probes_do_not_come_back_and_other_traffic_is_not_seen() {
    let (near, far) = pair();
    let _listener = listen(&far, "198.18.1.2:80");
    near.run(|| {
        let mut link = open();
        let ours = flow("198.18.1.1:61000", "198.18.1.2:80");
        link.add_flow(&ours, SESSION).unwrap();
        let syn_ack = next(&mut link, "SYN-ACK", |seen| !seen.outgoing).tcp();
        // A connection that is not ours, whose port is outside our range.
        let other = TcpStream::connect("198.18.1.2:80").unwrap();
        let isn = syn_ack.acknowledgment_number.wrapping_sub(1);
        let frame = probe(&ours, &route(&ours), isn.wrapping_add(2), &syn_ack);
        send(&mut link, &frame);
        let sack = next(&mut link, "SACK", |_| true);
        assert!(sack.sack().is_some() && !sack.outgoing);
        drop(other);
        let counters = link.counters();
        let count = |label: &str| counters.iter().find(|(name, _)| *name == label).unwrap().1;
        // SYN, SYN-ACK, SACK; the filter spares us all other TCP. (The kernels'
        // multicast listener reports, behind an extension header, do pass it.)
        assert_eq!(count("segment"), 3);
        for label in ["port-outside", "no-flow", "quote-no-flow"] {
            assert_eq!(count(label), 0, "{label}");
        }
    });
}

#[test]
fn an_icmp_error_is_steered_by_its_quote() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.veth("near0", &far, "far0");
    for (namespace, device, v4, v6) in [
        (&near, "near0", "198.18.1.1/24", "fd00:1::1/64"),
        (&far, "far0", "198.18.1.2/24", "fd00:1::2/64"),
    ] {
        namespace.address(device, v4);
        namespace.address(device, v6);
    }
    near.ip("route add 203.0.113.0/24 via 198.18.1.2");
    near.ip("route add 2001:db8::/32 via fd00:1::2");
    far.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    far.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap());
    near.run(|| {
        let mut link = open();
        for (local, remote) in [
            ("198.18.1.1:61001", "203.0.113.7:443"),
            ("[fd00:1::1]:61001", "[2001:db8::7]:443"),
        ] {
            // The router has no route there: it answers the kernel's SYN.
            link.add_flow(&flow(local, remote), SESSION).unwrap();
            let error = next(&mut link, "ICMP error", |seen| !seen.outgoing);
            assert_eq!((error.session, error.kind), (SESSION, SteerKind::Quote));
            link.remove_flow(&flow(local, remote));
        }
    });
}

/// A counter of the namespace (`nstat`).
fn counter(file: &str, group: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(it, _)| *it == name).unwrap().1.parse().unwrap()
}

/// What the module's documentation says of the kernel, seen.
#[test]
fn the_kernel_does_not_mind_probes_that_it_did_not_send() {
    let (near, router, far) = (Namespace::new(), Namespace::new(), Namespace::new());
    near.veth("near0", &router, "left0");
    router.veth("right0", &far, "far0");
    for (namespace, device, address) in [
        (&near, "near0", "198.18.1.1/24"),
        (&router, "left0", "198.18.1.2/24"),
        (&router, "right0", "198.18.2.1/24"),
        (&far, "far0", "198.18.2.2/24"),
        (&near, "near0", "fd00:1::1/64"),
        (&router, "left0", "fd00:1::2/64"),
        (&router, "right0", "fd00:2::1/64"),
        (&far, "far0", "fd00:2::2/64"),
    ] {
        namespace.address(device, address);
    }
    near.ip("route add default via 198.18.1.2");
    near.ip("route add default via fd00:1::2");
    far.ip("route add default via 198.18.2.1");
    far.ip("route add default via fd00:2::1");
    router.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    for (local, remote) in [
        ("198.18.1.1:61000", "198.18.2.2:80"),
        ("[fd00:1::1]:61000", "[fd00:2::2]:80"),
    ] {
        let listener = listen(&far, remote);
        near.run(|| {
            let mut link = open();
            let flow = flow(local, remote);
            link.add_flow(&flow, SESSION).unwrap();
            let answer = next(&mut link, "SYN-ACK", |seen| !seen.outgoing).tcp();
            let mut server = accept(&listener);
            let first = answer.acknowledgment_number.wrapping_add(1);
            let way = route(&flow);

            let counters = || {
                [
                    counter("netstat", "TcpExt:", "OutOfWindowIcmps"),
                    counter("snmp", "Tcp:", "RetransSegs"),
                ]
            };
            let [ignored, retransmitted] = counters();
            send(&mut link, &probe_with_ttl(1, &flow, &way, first, &answer));
            let error = next(&mut link, "time exceeded", |_| true);
            assert_eq!((error.session, error.kind), (SESSION, SteerKind::Quote));
            // The taps see a frame before the protocols do: the next exchange
            // tells that the kernel is done with it.
            let second = first.wrapping_add(2);
            send(&mut link, &probe(&flow, &way, second, &answer));
            let block = Some((second, second.wrapping_add(1)));
            next(&mut link, "SACK", |seen| {
                !seen.outgoing && seen.sack() == block
            });
            let third = second.wrapping_add(2);
            send(&mut link, &probe(&flow, &way, third, &answer));
            let block = Some((third, third.wrapping_add(1)));
            next(&mut link, "SACK", |seen| {
                !seen.outgoing && seen.sack() == block
            });
            assert_eq!(counters(), [ignored + 1, retransmitted]);

            // The connection is as good as before.
            std::io::Write::write_all(&mut server, b"hello").unwrap();
            next(&mut link, "data", |seen| seen.bytes.ends_with(b"hello"));
            link.remove_flow(&flow);
            let error = server.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn flows_share_a_port_and_are_told_apart() {
    let (near, far) = pair();
    let (first, second) = (listen(&far, "198.18.1.2:80"), listen(&far, "198.18.1.2:81"));
    near.run(|| {
        let mut link = open();
        let a = flow("198.18.1.1:61000", "198.18.1.2:80");
        let b = flow("198.18.1.1:61000", "198.18.1.2:81");
        link.add_flow(&a, 1).unwrap();
        link.add_flow(&b, 2).unwrap();
        assert!(matches!(link.add_flow(&a, 3), Err(LinkError::FlowTaken)));
        assert!(!link.port_taken(a.local));
        let mut seen = [(0, 0), (0, 0), (0, 0), (0, 0)];
        for slot in &mut seen {
            let frame = next(&mut link, "SYN or SYN-ACK", |seen| seen.tcp().syn);
            let tcp = frame.tcp();
            *slot = (frame.session, tcp.source_port.min(tcp.destination_port));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(1, 80), (1, 80), (2, 81), (2, 81)]);
        // Dropping the link closes all of them.
        let mut servers = [accept(&first), accept(&second)];
        drop(link);
        for server in &mut servers {
            let error = server.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn flows_that_cannot_be_are_refused() {
    let (near, _far) = pair();
    near.run(|| {
        let mut link = open();
        let mut error = |local: &str, remote: &str| {
            let flow = flow(local, remote);
            link.add_flow(&flow, SESSION).unwrap_err().to_string()
        };
        let text = error("198.18.1.1:60999", "198.18.1.2:80");
        assert!(text.contains("--source-ports"), "{text}");
        let text = error("198.18.1.1:61000", "[fd00:1::2]:80");
        assert!(text.contains("two families"), "{text}");
        // Not an address of ours; nothing is left behind.
        let text = error("192.0.2.1:61000", "198.18.1.2:80");
        assert!(text.contains("192.0.2.1:61000"), "{text}");
        let text = error("192.0.2.1:61000", "198.18.1.2:80");
        assert!(text.contains("bind"), "{text}");
        // Held by somebody who does not share.
        let held: SocketAddr = "198.18.1.1:61005".parse().unwrap();
        let other = tcp_socket::tcp(held).unwrap();
        tcp_socket::bind(other.as_fd(), held).unwrap();
        let taken = flow("198.18.1.1:61005", "198.18.1.2:80");
        assert!(link.port_taken(held));
        assert!(matches!(
            link.add_flow(&taken, SESSION),
            Err(LinkError::FlowTaken)
        ));
    });
}

#[test]
fn interfaces_that_cannot_be_opened_say_why() {
    let (near, _far) = pair();
    near.ip("tuntap add mode tun name tun0");
    near.ip("link set tun0 up");
    near.run(|| {
        let error = |name: &str| {
            PacketLink::open(name, &PacketOptions::new(PORTS))
                .err()
                .unwrap()
        };
        assert!(matches!(error("nowhere0"), LinkError::NoInterface(_)));
        let text = error("tun0").to_string();
        assert!(text.contains("no Ethernet header"), "{text}");
    });
    near.ip("link set near0 down");
    near.run(|| {
        let error = PacketLink::open("near0", &PacketOptions::new(PORTS)).err();
        assert!(matches!(error, Some(LinkError::Down(_))));
    });
}

#[test]
fn what_balancers_hash_is_that_of_the_probes() {
    let (near, _far) = pair();
    near.run(|| {
        let mut options = PacketOptions::new(PORTS);
        options.dscp = 10;
        options.device = Some("near0".to_owned());
        let mut link = PacketLink::open("near0", &options).unwrap();
        link.add_flow(&flow("198.18.1.1:61000", "198.18.1.2:80"), 4)
            .unwrap();
        let syn = next(&mut link, "SYN", |seen| seen.session == 4);
        assert_eq!(syn.bytes[14..16], [0x45, 10 << 2]);
        link.add_flow(&flow("[fd00:1::1]:61000", "[fd00:1::2]:80"), 6)
            .unwrap();
        let syn = next(&mut link, "SYN", |seen| seen.session == 6);
        // Version 6, traffic class 40, flow label 0.
        assert_eq!(syn.bytes[14..18], [0x62, 0x80, 0, 0]);

        options.device = Some("nowhere0".to_owned());
        let mut link = PacketLink::open("near0", &options).unwrap();
        let elsewhere = flow("198.18.1.1:61001", "198.18.1.2:80");
        let error = link.add_flow(&elsewhere, 4).unwrap_err();
        assert!(matches!(error, LinkError::System { .. }), "{error}");
    });
}

/// A queue on near0 that lets out two dozen frames at once and then two a
/// second, and holds so many bytes.
fn throttle(namespace: &Namespace, limit: u32) {
    let words = format!("qdisc add dev near0 root tbf rate 1kbit burst 1600 limit {limit}");
    let tc = || {
        std::process::Command::new("tc")
            .args(words.split(' '))
            .output()
    };
    let output = namespace.run(tc).unwrap();
    assert!(output.status.success(), "tc {words}: {output:?}");
}

#[test]
fn what_the_kernel_does_not_take_is_kept_and_named_in_the_end() {
    let (near, _far) = pair();
    throttle(&near, 1_000_000);
    near.run(|| {
        let mut link = open();
        // The kernel makes it the least that there is: some frames.
        let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDBUF);
        tcp_socket::set_option(link.socket.as_fd(), level, name, &1_i32).unwrap();
        for _ in 0..ROOM {
            link.transmit(&mut |_| 60).unwrap();
        }
        link.flush().unwrap();
        assert_eq!(link.room(), 0);
        assert!(link.outgoing.first > 0 && link.outgoing.first < link.outgoing.end);
        // Whether room appears or the time ends it, nothing is lost.
        link.wait(link.now() + Duration::from_millis(1)).unwrap();
        link.flush().unwrap();
        assert_eq!(link.tx_dropped, 0);
        link.outgoing.stuck_since = Some(Instant::ZERO);
        let error = link.flush().unwrap_err();
        assert!(matches!(error, LinkError::Stalled { .. }), "{error}");
        assert!(error.to_string().contains("`tc -s qdisc show`"), "{error}");
    });
}

#[test]
fn what_the_queue_drops_is_counted() {
    let (near, _far) = pair();
    throttle(&near, 200);
    near.run(|| {
        let mut link = open();
        for _ in 0..ROOM {
            link.transmit(&mut |_| 60).unwrap();
        }
        link.flush().unwrap();
        assert_eq!(link.room(), ROOM);
        let counters = link.counters();
        assert!(counters.contains(&("tx-dropped", link.tx_dropped)));
        assert!(link.tx_dropped > 0);
    });
}

#[test]
fn an_interface_that_goes_down_ends_the_link() {
    let (near, _far) = pair();
    let mut link = near.run(open);
    near.ip("link set near0 down");
    near.run(|| {
        let until = link.now() + Duration::from_secs(5);
        link.wait(until).unwrap();
        let error = link.receive(1, &mut |_| {}).unwrap_err();
        assert!(matches!(error, LinkError::Down(_)), "{error}");
        link.transmit(&mut |_| 60).unwrap();
        let error = link.flush().unwrap_err();
        assert!(matches!(error, LinkError::Down(_)), "{error}");
    });
}

#[test]
fn the_waker_ends_a_wait() {
    let (near, _far) = pair();
    near.run(|| {
        let mut link = open();
        let waker = link.waker().unwrap();
        wake(&waker);
        // Would be minutes otherwise.
        link.wait(link.now() + Duration::from_secs(600)).unwrap();
        // It was taken back.
        let left = std::fs::File::from(waker.try_clone().unwrap()).read(&mut [0; 8]);
        assert_eq!(left.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

fn wake(waker: &OwnedFd) {
    use std::io::Write;
    let mut file = std::fs::File::from(waker.try_clone().unwrap());
    file.write_all(&1_u64.to_ne_bytes()).unwrap();
}

#[test]
fn a_batch_is_bounded_and_goes_out_whole() {
    let (near, far) = pair();
    near.run(|| {
        let mut link = open();
        let route = route(&flow("198.18.1.1:61000", "198.18.1.2:80"));
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&route.next_hop_mac);
        frame[6..12].copy_from_slice(&route.source_mac);
        // An EtherType for experiments (RFC 9542 §3).
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert_eq!(link.room(), ROOM);
        for _ in 0..ROOM {
            let fill = &mut |buffer: &mut [u8]| {
                buffer[..60].copy_from_slice(&frame);
                60
            };
            link.transmit(fill).unwrap();
        }
        assert_eq!(link.room(), 0);
        let full = link.transmit(&mut |_| unreachable!());
        assert!(matches!(full, Err(LinkError::Full)));
        link.flush().unwrap();
        assert_eq!(link.room(), ROOM);
    });
    // veth hands frames over within the call that sends them.
    let far = far.run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let line = text.lines().find(|line| line.contains("far0:")).unwrap();
        let packets = line.split_ascii_whitespace().nth(2).unwrap();
        packets.parse::<usize>().unwrap()
    });
    assert!(far >= ROOM, "{far}");
}

#[test]
fn a_tagged_frame_is_steered_with_its_tag_put_back() {
    let (near, far) = pair();
    // An answer as a tagging switch would deliver it, sent by hand.
    near.run(|| {
        let mut link = open();
        let ours = flow("198.18.1.1:61000", "198.18.1.2:80");
        link.add_flow(&ours, SESSION).unwrap();
        let syn = next(&mut link, "SYN", |seen| seen.outgoing);
        let mut frame = Vec::new();
        let mac = |at: usize| <[u8; 6]>::try_from(&syn.bytes[at..at + 6]).unwrap();
        PacketBuilder::ethernet2(mac(0), mac(6))
            .single_vlan(42.try_into().unwrap())
            .ipv4([198, 18, 1, 2], [198, 18, 1, 1], 64)
            .tcp(80, 61000, 5, 0)
            .rst()
            .write(&mut frame, &[])
            .unwrap();
        far.run(|| {
            let options = PacketOptions::new(PORTS);
            let mut there = PacketLink::open("far0", &options).unwrap();
            send(&mut there, &frame);
        });
        let seen = next(&mut link, "tagged RST", |seen| seen.l3_offset == 18);
        assert_eq!((seen.session, seen.outgoing), (SESSION, false));
        assert_eq!(seen.bytes[12..18], [0x81, 0, 0, 42, 8, 0]);
        assert_eq!(seen.bytes, frame);
    });
}

#[test]
fn stamps_are_moved_to_the_monotonic_clock() {
    let now = Instant::from_nanos(1_000_000);
    let offset = 1_700_000_000_000_000_000_i64;
    let stamp = |nanos: u64| monotonic_stamp(nanos, offset, now).as_nanos();
    assert_eq!(stamp(1_700_000_000_000_900_000), 900_000);
    // Not after it was read; none: when it was read.
    assert_eq!(stamp(1_700_000_000_002_000_000), 1_000_000);
    assert_eq!(stamp(0), 1_000_000);
    // A civil clock behind the monotonic one.
    assert_eq!(monotonic_stamp(500, -700, now).as_nanos(), 1200);
}
