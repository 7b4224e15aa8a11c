//! What runs once a packet allocates nothing: counted, by an allocator of this
//! test's own.

mod echo;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use insession::engine::jobs::Job;
use insession::engine::stats::Stats;
use insession::engine::worker::{self, Shared};
use insession::engine::{EngineOptions, Output, Stop, Target};
use insession::net::{Interface, Route};
use insession::session::SessionOptions;
use insession::trace::Verdict;

use echo::{Echo, SERVER};

/// Counts what it is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: the system's allocator does it all; counting changes nothing of that.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps what `GlobalAlloc` asks of it, which is what
        // `System` asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SESSIONS: u64 = 500;
const PROBES: u8 = 3;

fn jobs(targets: u64) -> VecDeque<Job> {
    let route = Route {
        interface: Interface {
            index: 1,
            name: "echo0".into(),
        }
        .into(),
        vlan: None,
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        source_mac: [2, 0, 0, 0, 0, 1],
        next_hop_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        device_mtu: 1500,
    };
    (0..targets)
        .map(|index| {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + index as u32));
            Job {
                target: Target {
                    index,
                    name: address.to_string(),
                    address,
                    port: 80,
                },
                route: route.clone(),
            }
        })
        .collect()
}

/// Sessions take turns: when all have sent some probes none begins any more, and
/// as long as some are left to all none ends.
#[test]
fn a_probe_and_its_answer_allocate_nothing() {
    let options = EngineOptions {
        sessions: SESSIONS as usize,
        ..EngineOptions::new(
            SessionOptions::default(),
            61_000..=65_535,
            *b"no secret at all",
        )
    };
    let (outputs, mut read) = tokio::sync::mpsc::channel(4 * SESSIONS as usize);
    let (stats, stop) = (Stats::default(), Stop::new());
    let all = SESSIONS * u64::from(PROBES) * u64::from(SERVER);
    let (first, last) = (all / 5, all * 4 / 5);
    let (mut before, mut behind) = (None, None);
    let mut link = Echo::new(SESSIONS as usize, |probes| {
        let now = ALLOCATIONS.load(Ordering::Relaxed);
        if probes == first {
            before = Some(now);
        } else if probes == last {
            behind = Some(now);
        }
    });
    worker::run(
        &mut link,
        &mut jobs(SESSIONS),
        &Shared::new(&options, &outputs, &stop, &stats),
    )
    .unwrap();
    drop(link);

    let mut traces = 0;
    while let Ok(output) = read.try_recv() {
        let Output::Trace { trace, .. } = output else {
            panic!("{output:?}");
        };
        assert_eq!(trace.verdict, Verdict::Complete, "{trace:?}");
        assert_eq!(trace.destination_ttl, Some(SERVER), "{trace:?}");
        let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
        assert!(
            probes.clone().all(|probe| probe.reply.is_some()),
            "{trace:?}"
        );
        traces += 1;
    }
    assert_eq!(traces, SESSIONS);
    assert!(stats.probes.load(Ordering::Relaxed) >= all);
    let (before, behind) = (before.unwrap(), behind.unwrap());
    assert!(before > 0, "nothing is counted");
    assert_eq!(
        behind - before,
        0,
        "allocations in {} probe cycles",
        last - first
    );
}
