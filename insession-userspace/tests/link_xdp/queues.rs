//! Several queues, each with a link and a worker of its own.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use insession::engine::dispatch::{self, OpenLinks, RouteFailure, Routing, Way};
use insession::engine::handoff::{FULL, HANDED, Handoff};
use insession::engine::stats::Stats;
use insession::engine::{EngineOptions, Output, Target};
use insession::link::Link;
use insession::link::sim::{
    Line, Middlebox, QuoteRepair, Router, Scenario, SimLink, Target as Host,
};
use insession::link::xdp::{HugePages, XdpLink, XdpMode, XdpOptions};
use insession::net::{Interface, Route};
use insession::session::{Flow, SessionOptions};
use insession::time::Duration;
use insession::trace::{Reply, Trace, Verdict};

use crate::frames::{flow, segment};
use crate::lab::{FAR_MAC, Lab, NEAR_MAC, PacketSocket, with_pair};
use crate::{counter, in_seconds, numbered, receive};

/// A link for each queue of our end.
fn open_queues(lab: &Lab, options: &XdpOptions) -> Vec<XdpLink> {
    XdpLink::open_queues(&lab.interface(), options).unwrap()
}

/// A link for each queue of the peer's end: what the n-th sends arrives at our
/// n-th queue (`veth_xmit`, drivers/net/veth.c), see [`arrives_at`].
fn open_far(lab: &Lab) -> Vec<XdpLink> {
    lab.far(|| {
        let far = crate::lab::interface(crate::lab::FAR);
        XdpLink::open_queues(&far, &XdpOptions::default()).unwrap()
    })
}

/// The queue that what far link `n` sends arrives at. Without NAPI on our end (no
/// program in the driver) veth leaves the number of the sender's queue in the
/// packet, which generic XDP reads as one more than that of a receive queue
/// (`skb_get_rx_queue`, 0 being none).
fn arrives_at(n: usize, mode: XdpMode) -> usize {
    match mode {
        XdpMode::Generic => n.saturating_sub(1),
        XdpMode::Auto | XdpMode::Native => n,
    }
}

fn send(link: &mut XdpLink, frame: &[u8]) {
    let until = in_seconds(link, 5);
    while link.room() == 0 && link.now() < until {
        link.wait(until).unwrap();
    }
    let written = link.transmit(&mut |bytes| {
        bytes[..frame.len()].copy_from_slice(frame);
        frame.len()
    });
    written.unwrap();
    link.flush().unwrap();
}

#[test]
fn each_link_receives_what_its_own_queue_does() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        with_pair(4, |lab| {
            let mut far = open_far(lab);
            let options = XdpOptions {
                mode,
                ..XdpOptions::default()
            };
            let mut near = open_queues(lab, &options);
            assert_eq!([near.len(), far.len()], [4, 4]);
            // The flows are added by one, the frames arrive at all.
            for port in 0..40 {
                near[0].add_flow(&flow(62_000 + port), port.into()).unwrap();
            }
            let taken = near[3].add_flow(&flow(62_000), 1);
            assert!(matches!(taken, Err(insession::link::LinkError::FlowTaken)));
            for port in 0..40 {
                send(
                    &mut far[usize::from(port) % 4],
                    &segment(&flow(62_000 + port)),
                );
            }
            for (queue, link) in near.iter_mut().enumerate() {
                let expected: Vec<u32> = (0..40)
                    .filter(|n| arrives_at(*n as usize % 4, mode) == queue)
                    .collect();
                let got = receive(link, expected.len());
                let sessions: Vec<u32> = got.iter().map(|got| got.session).collect();
                assert_eq!(sessions, expected, "queue {queue}");
                for got in &got {
                    assert_eq!(got.bytes, segment(&flow(62_000 + got.session as u16)));
                }
                assert_eq!(link.receive(64, &mut |_| ()).unwrap(), 0);
            }
            // What the links report adds up to what the program counted.
            let sum: u64 = near.iter_mut().map(|link| counter(link, "segment")).sum();
            assert_eq!(sum, 40);
            // One goes: the program stays, and the others go on.
            drop(near.remove(0));
            send(&mut far[3], &segment(&flow(62_001)));
            let link = &mut near[arrives_at(3, mode) - 1];
            assert_eq!(receive(link, 1)[0].session, 1);
            assert_ne!(lab.attached(), 0);
            near.clear();
            assert_eq!(lab.attached(), 0);
        });
    }
}

#[test]
fn each_link_sends_through_its_own_queue() {
    const EXPERIMENTAL: u16 = 0x88b5;
    with_pair(3, |lab| {
        let socket = lab.far_socket(EXPERIMENTAL);
        let mut near = open_queues(lab, &XdpOptions::default());
        for (n, link) in (0..).zip(&mut near) {
            send(link, &numbered(n));
        }
        let mut got: Vec<_> = (0..3).map(|_| socket.receive().unwrap()).collect();
        got.sort_by_key(|frame| frame[14..18].to_vec());
        assert_eq!(got, (0..3).map(numbered).collect::<Vec<_>>());
    });
}

#[test]
fn fewer_queues_are_used_when_asked_for() {
    with_pair(4, |lab| {
        for (queues, links) in [(Some(2), 2), (Some(9), 4), (Some(0), 1), (None, 4)] {
            let options = XdpOptions {
                queues,
                ..XdpOptions::default()
            };
            assert_eq!(open_queues(lab, &options).len(), links);
        }
        let several = XdpLink::open_shared(&lab.interface(), &XdpOptions::default(), 3);
        let queues: Vec<_> = several.unwrap().iter().map(XdpLink::queues).collect();
        assert_eq!(queues, [2, 1, 1]);
    });
}

/// What the link says comes next comes next, and is still there.
#[test]
fn upcoming_names_what_is_received_next() {
    with_pair(1, |lab| {
        let far = lab.far_socket(0x0800);
        let mut link = open_queues(lab, &XdpOptions::default()).remove(0);
        for port in 0..32 {
            link.add_flow(&flow(62_000 + port), port.into()).unwrap();
            far.send(&segment(&flow(62_000 + port)));
        }
        let mut sessions = [u32::MAX; 40];
        let until = in_seconds(&link, 5);
        while link.upcoming(&mut sessions) < 32 && link.now() < until {
            let soon = link.now() + Duration::from_millis(1);
            link.wait(soon).unwrap();
        }
        assert_eq!(link.upcoming(&mut sessions), 32);
        assert!(sessions[..32].iter().copied().eq(0..32));
        assert_eq!(link.upcoming(&mut sessions[..5]), 5);
        assert_eq!(receive(&mut link, 10).len(), 10);
        let mut rest = [u32::MAX; 40];
        assert_eq!(link.upcoming(&mut rest), 22);
        assert!(rest[..22].iter().copied().eq(10..32));
        let got = receive(&mut link, 22);
        assert!(got.iter().map(|got| got.session).eq(10..32));
        assert_eq!(link.upcoming(&mut rest), 0);
    });
}

/// With and without: whoever polls, every frame goes and comes.
#[test]
fn busy_polling_and_unasked_kicks_lose_nothing() {
    for (busy_poll, need_wakeup) in [(Some(64), true), (Some(8), false), (None, false)] {
        for mode in [XdpMode::Native, XdpMode::Generic] {
            with_pair(2, |lab| {
                let options = XdpOptions {
                    mode,
                    busy_poll,
                    need_wakeup,
                    ..XdpOptions::default()
                };
                let far = lab.far_socket(0x0800);
                let sent = lab.far_socket(0x88b5);
                let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
                for port in 0..32 {
                    link.add_flow(&flow(62_000 + port), port.into()).unwrap();
                }
                for round in 0..20 {
                    for port in 0..32 {
                        far.send(&segment(&flow(62_000 + port)));
                    }
                    let got = receive(&mut link, 32);
                    let mut sessions: Vec<_> = got.iter().map(|got| got.session).collect();
                    sessions.sort_unstable();
                    assert!(sessions.into_iter().eq(0..32), "round {round}");
                    send(&mut link, &numbered(round));
                    assert_eq!(sent.receive(), Some(numbered(round)));
                }
                // A wait ends when the time is over, and when the waker fires.
                let until = link.now() + Duration::from_millis(1);
                link.wait(until).unwrap();
                assert!(link.now() >= until);
                std::fs::File::from(link.waker().unwrap().try_clone().unwrap())
                    .write_all(&1u64.to_ne_bytes())
                    .unwrap();
                let until = in_seconds(&link, 60);
                link.wait(until).unwrap();
                assert!(link.now() < until);
            });
        }
    }
}

/// How many huge pages of 2 MiB are free.
fn free_huge_pages() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
    };
    match field("Hugepagesize:") {
        Some(2048) => field("HugePages_Free:").unwrap_or(0),
        _ => 0,
    }
}

fn with_huge_pages(huge_pages: HugePages) -> XdpOptions {
    XdpOptions {
        huge_pages,
        rx_frames: 64,
        tx_frames: 64,
        ..XdpOptions::default()
    }
}

#[test]
fn huge_pages_that_are_missing_are_named_or_done_without() {
    with_pair(1, |lab| {
        let open = |huge_pages| XdpLink::open(&lab.interface(), &with_huge_pages(huge_pages));
        assert!(!open(HugePages::Off).unwrap().huge_pages());
        let free = free_huge_pages() > 0;
        assert_eq!(open(HugePages::Auto).unwrap().huge_pages(), free);
        match open(HugePages::On) {
            Ok(link) => assert!(free && link.huge_pages()),
            Err(error) => {
                let said = error.to_string();
                assert!(!free, "{said}");
                assert!(said.contains("1 free pages of 2 MiB are needed"), "{said}");
                assert!(said.contains("vm.nr_hugepages"), "{said}");
                assert_eq!(lab.attached(), 0, "a failed start leaves nothing");
            }
        }
    });
}

#[test]
#[ignore = "needs free huge pages of 2 MiB (vm.nr_hugepages), which a test must not set aside"]
fn frames_lie_in_huge_pages() {
    with_pair(1, |lab| {
        let free = free_huge_pages();
        assert_ne!(free, 0, "no huge pages");
        for huge_pages in [HugePages::On, HugePages::Auto] {
            let far = lab.far_socket(0x0800);
            let options = with_huge_pages(huge_pages);
            let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
            assert!(link.huge_pages());
            assert_eq!(free_huge_pages(), free - 1);
            link.add_flow(&flow(62_000), 5).unwrap();
            far.send(&segment(&flow(62_000)));
            assert_eq!(receive(&mut link, 1)[0].bytes, segment(&flow(62_000)));
        }
    });
}

/// The way to a target: through our end, whatever its address.
struct ThroughOurEnd(Interface);

impl Routing for ThroughOurEnd {
    fn route(&mut self, _: &Target) -> Result<Way, RouteFailure> {
        Ok(Way::Known(Route {
            interface: self.0.clone().into(),
            vlan: None,
            source: [10, 77, 0, 1].into(),
            source_mac: NEAR_MAC,
            next_hop_mac: FAR_MAC,
            mtu: 1500,
            device_mtu: 1500,
        }))
    }
}

const HOPS: u32 = 4;

fn server(n: u32) -> IpAddr {
    Ipv4Addr::from(0xc633_0000 + n).into()
}

fn router(n: u32, hop: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + (hop << 16) + n % 16).into()
}

/// Servers behind four routers each, all near. The first router may be a NAT that
/// leaves quotes as they are: then errors from behind it do not name a flow of ours.
fn network(targets: u32, nat: bool) -> Scenario {
    let mut scenario = Scenario::new();
    let line = Line {
        latency: Duration::from_micros(20),
        ..Line::default()
    };
    let mut routers = HashMap::new();
    for n in 0..targets {
        let mut host = Host::new(server(n));
        host.last = line;
        for hop in 0..HOPS {
            let address = router(n, hop);
            let id = *routers.entry(address).or_insert_with(|| {
                let mut router = Router::at(address);
                router.middlebox = (nat && hop == 0).then_some(Middlebox::Nat {
                    v4: Some(Ipv4Addr::new(203, 0, 113, 9)),
                    v6: None,
                    port: 0x8000,
                    quotes: QuoteRepair::None,
                    hides_routers: false,
                });
                scenario.router(router)
            });
            host = host.over(line, id);
        }
        scenario.target(host);
    }
    scenario
}

/// The flow of a segment from us, and whether it opens it.
fn flow_of(frame: &[u8]) -> Option<(Flow, bool)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    let flow = Flow {
        local: (ip.header().source_addr(), tcp.source_port()).into(),
        remote: (ip.header().destination_addr(), tcp.destination_port()).into(),
    };
    Some((flow, tcp.syn()))
}

/// Plays the network at the peer's end, in real time, until told to stop. The
/// replies to the sessions of worker `n` go where `queue_of(n)` says.
fn play(
    socket: &PacketSocket,
    links: &mut [XdpLink],
    scenario: Scenario,
    worker_of: &dyn Fn(u16) -> u8,
    queue_of: &dyn Fn(u8) -> usize,
    stop: &AtomicBool,
) {
    let mut network = SimLink::new(scenario, 1);
    let begun = std::time::Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for frame in std::iter::from_fn(|| socket.receive()).take(64) {
            let Some((flow, opens)) = flow_of(&frame) else {
                continue;
            };
            if opens {
                let worker = worker_of(flow.local.port());
                // Again for a SYN that is repeated.
                let _ = network.add_flow(&flow, worker.into());
            }
            network
                .transmit(&mut |bytes| {
                    bytes[..frame.len()].copy_from_slice(&frame);
                    frame.len()
                })
                .unwrap();
            network.flush().unwrap();
        }
        let now = SimLink::BEGIN + begun.elapsed();
        while network.now() < now {
            network.wait(now).unwrap();
            let mut replies = Vec::new();
            network
                .receive(usize::MAX, &mut |frame| {
                    replies.push((frame.session as u8, frame.bytes.to_vec()));
                })
                .unwrap();
            for (worker, reply) in replies {
                send(&mut links[queue_of(worker)], &reply);
            }
        }
    }
}

const PORTS: std::ops::RangeInclusive<u16> = 61_000..=65_535;

/// Traces `targets` with a worker for each of our queues; the records, and what
/// was counted.
fn trace_over(
    lab: &Lab,
    queues: usize,
    (targets, nat): (u32, bool),
    queue_of: &(dyn Fn(u8) -> usize + Sync),
) -> (Vec<Trace>, HashMap<&'static str, u64>) {
    let (socket, mut far) = (lab.far_socket(0x0800), open_far(lab));
    socket.timeout(1);
    let (played, stop) = (AtomicBool::new(false), Arc::default());
    let stats = Arc::new(Stats::default());
    let options = EngineOptions {
        // So few that one worker's share is not enough.
        sessions: 40,
        batch: Some(64),
        ..EngineOptions::new(SessionOptions::default(), PORTS, *b"no secret at all")
    };
    let (outputs, mut read) = tokio::sync::mpsc::channel(1 << 16);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As the workers share the ports out.
            let ends = Handoff::between(&vec![None; queues]);
            let worker_of = |port| ends[0].owner(&PORTS, port).unwrap();
            play(
                &socket,
                &mut far,
                network(targets, nat),
                &worker_of,
                queue_of,
                &played,
            );
        });
        let list = (0..targets).map(|n| Target {
            index: n.into(),
            name: n.to_string(),
            address: server(n),
            port: 80,
        });
        let open = move |interface: &Interface| -> Result<OpenLinks, _> {
            let links = XdpLink::open_queues(interface, &XdpOptions::default())?;
            assert_eq!(links.len(), queues);
            Ok(links
                .into_iter()
                .map(|link| -> Box<dyn Link + Send> { Box::new(link) })
                .collect())
        };
        let targets: Vec<_> = list.collect();
        let ended = dispatch::run(
            Box::new(targets.into_iter()),
            &mut ThroughOurEnd(lab.interface()),
            &open,
            &options,
            &outputs,
            &stop,
            &stats,
        );
        played.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
    let mut records = Vec::new();
    while let Ok(Output::Trace { trace, .. }) = read.try_recv() {
        records.push(*trace);
    }
    let mut counted: HashMap<_, _> = stats.link.lock().unwrap().iter().copied().collect();
    counted.insert("replies", stats.replies.load(Ordering::Relaxed));
    counted.insert("unclaimed", stats.unclaimed.load(Ordering::Relaxed));
    (records, counted)
}

/// Every record shows the way as it is.
fn check(records: &[Trace], targets: u32) {
    let mut seen: Vec<u32> = Vec::new();
    for record in records {
        let n: u32 = record.target.parse().unwrap();
        seen.push(n);
        assert_eq!(record.verdict, Verdict::Complete, "{record:?}");
        assert_eq!(record.destination_ttl, Some(HOPS as u8 + 1));
        for hop in &record.hops {
            let expected = match u32::from(hop.ttl) {
                ttl if ttl <= HOPS => router(n, ttl - 1),
                _ => server(n),
            };
            for probe in &hop.probes {
                if let Some(Reply { from, .. }) = &probe.reply {
                    assert_eq!(*from, expected, "target {n}, TTL {}", hop.ttl);
                }
            }
        }
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..targets));
}

/// Each reply arrives at its own worker's queue: nothing is handed over.
#[test]
fn workers_trace_side_by_side() {
    with_pair(2, |lab| {
        let (records, counted) = trace_over(lab, 2, (300, false), &|worker| worker.into());
        check(&records, 300);
        assert_eq!([counted[HANDED], counted[FULL]], [0, 0]);
    });
}

/// None does: every reply, SYN-ACKs, errors and SACKs, is handed over.
#[test]
fn replies_at_another_workers_queue_reach_their_session() {
    for queues in [2, 4] {
        with_pair(queues as u32, |lab| {
            let next = |worker: u8| (usize::from(worker) + 1) % queues;
            let (records, counted) = trace_over(lab, queues, (300, false), &next);
            check(&records, 300);
            assert!(counted[HANDED] >= counted["replies"], "{counted:?}");
            assert_eq!(counted[FULL], 0);
            // Which of the workers had sessions is chance, but not one alone.
            let slices: std::collections::HashSet<_> = records
                .iter()
                .map(|record| {
                    u32::from(record.source_port.unwrap() - 61_000) * queues as u32 / 4536
                })
                .collect();
            assert!(slices.len() > 1, "{slices:?}");
        });
    }
}

/// Errors that name no flow of ours find their session at whatever worker.
#[test]
fn errors_without_a_session_find_their_worker() {
    with_pair(2, |lab| {
        // Those come without a worker's number, and all to the first queue.
        let queue = |worker: u8| usize::from(worker) % 255 % 2;
        let (records, counted) = trace_over(lab, 2, (300, true), &queue);
        check(&records, 300);
        assert!(
            counted["rewritten-quote"] > 0 && counted[HANDED] > 0,
            "{counted:?}"
        );
        for record in &records {
            for hop in record.hops.iter().filter(|hop| hop.ttl == 3) {
                assert!(
                    hop.probes.iter().all(|probe| probe.reply.is_some()),
                    "{record:?}"
                );
            }
        }
    });
}
