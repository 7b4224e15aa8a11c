//! What holds in every network.

use proptest::prelude::*;

use super::hostile::check_sent;
use super::network::{Network, Server, World, its_router};
use super::*;
use crate::trace::RttBound;

/// Runs a session through a network to its end.
fn run(options: SessionOptions, world: World) -> Result<(Script, Network), TestCaseError> {
    let mut script = Script::new(options);
    let mut network = Network::new(world);
    let start = script.now;
    for _ in 0..20_000 {
        for at in script.seen..script.sent.len() {
            let (now, sent) = script.sent[at];
            network.take(now, sent, &script);
        }
        script.seen = script.sent.len();
        if script.session.is_finished() {
            // What is under way to the server gets there.
            while network.next_at().is_some() {
                network.step(&script);
            }
            return Ok((script, network));
        }
        let timer = script.session.poll_timeout(&script.options, script.now);
        match (timer, network.next_at()) {
            (Some((timer, _)), arrival) if arrival.is_none_or(|arrival| timer <= arrival) => {
                script.now = script.now.max(timer);
                script.session.handle_timeout(&script.options, script.now);
                script.drain();
            }
            (_, Some(arrival)) => {
                script.now = arrival;
                if let Some(reply) = network.step(&script) {
                    script.reply(&reply);
                }
            }
            (timer, None) => {
                prop_assert!(false, "nothing can happen any more: {:?}", timer);
            }
        }
        prop_assert!(
            script.now.since(start) < Duration::from_secs(400),
            "it takes too long"
        );
    }
    Err(TestCaseError::fail("too many steps"))
}

prop_compose! {
    fn servers()(
        sack in prop::bool::weighted(0.75),
        stripped in prop::bool::weighted(0.15),
        timestamps: bool,
        compresses: bool,
        banner in prop::bool::weighted(0.3),
    ) -> Server {
        Server { sack, stripped, timestamps, compresses, banner }
    }
}

fn often(of_1000: core::ops::Range<u32>) -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0), 1 => of_1000]
}

prop_compose! {
    fn worlds()(
        (hops, asymmetry) in (1u8..=22, prop_oneof![2 => Just(0i8), 1 => -6i8..=6]),
        hop in prop_oneof![1 => 20u64..200, 3 => 200u64..10_000],
        jitter in prop_oneof![1 => Just(0u64), 1 => 0u64..2_000, 1 => 0u64..50_000],
        silent in prop_oneof![1 => Just(0), 2 => any::<(u32, u32)>().prop_map(|(a, b)| a & b)],
        (lost, copied, late) in (often(1..200), often(1..300), often(1..200)),
        (copy_after, late_by) in (0u64..100_000, 1u64..3_500_000),
        server in servers(),
        quotes in prop::option::weighted(0.25, (1u8..12, any::<u32>())),
        edges in prop_oneof![3 => Just(0u32), 1 => 1u32 << 20..u32::MAX - (1 << 20)],
        seed: u64,
    ) -> World {
        let names = server.names();
        let quotes = quotes.map(|(from, off)| (from, off.clamp(1 << 20, u32::MAX - (1 << 20))));
        let certain = names && quotes.is_none() && edges == 0;
        let back = hops.saturating_add_signed(asymmetry).clamp(1, 30);
        // Nor by time on a LAN (`copy_within`).
        let lan = hop * u64::from(hops + back) < 1_000;
        let copied = if lan && !names { 0 } else { copied };
        World {
            hops,
            back,
            hop: Duration::from_micros(hop),
            // Duplicate ACKs are told from their copies by time alone.
            jitter: match names || copied == 0 {
                true => Duration::from_micros(jitter),
                false => Duration::ZERO,
            },
            silent,
            lost,
            copied,
            late: if names || copied == 0 { late } else { 0 },
            copy_after: match names {
                true => Duration::from_micros(copy_after),
                false => Duration::from_micros(copy_after / 10_000),
            },
            // What names nothing, or names it in numbers to be learnt, must come
            // within a probe's time: later it could be any probe's.
            late_by: match certain {
                true => Duration::from_micros(late_by),
                false => Duration::from_micros(late_by / 5),
            },
            server,
            quotes,
            edges,
            seed,
        }
    }
}

/// The longest run of silent routers before the server.
fn silent_run(world: &World) -> u8 {
    let mut longest = 0;
    let mut run = 0;
    for ttl in 1..world.hops {
        run = if world.silent & 1 << ttl != 0 {
            run + 1
        } else {
            0
        };
        longest = longest.max(run);
    }
    longest
}

fn check(world: World, probes: u8) -> Result<(), TestCaseError> {
    let options = SessionOptions {
        probes,
        ..Default::default()
    };
    let (mut script, network) = run(options, world)?;
    let world = &network.world;
    check_sent(&script)?;
    prop_assert_eq!(script.probes_sent(), network.truth.len());
    let started = script.session.probes.start();
    for (nth, truth) in &network.truth {
        let (ttl, probe) = script.session.probe(number(*nth)).unwrap();
        let Some(reply) = probe.reply else { continue };
        let sent = started + probe.sent;
        match reply.kind {
            ReplyKind::TimeExceeded => {
                prop_assert_eq!(reply.from, its_router(ttl, *nth), "probe {}", nth);
                prop_assert_eq!(reply.rtt, truth.exceeded.unwrap().since(sent));
                prop_assert_eq!(reply.rtt_bound, RttBound::Exact);
            }
            ReplyKind::Sack => {
                let Some(arrived) = truth.arrived else {
                    return Err(TestCaseError::fail(format!("probe {nth} never arrived")));
                };
                prop_assert!(reply.rtt >= arrived.since(sent));
                prop_assert!(world.server.names());
            }
            ReplyKind::DupAck => {
                prop_assert!(!world.server.names());
                prop_assert!(ttl >= world.hops, "probe {} of TTL {}", nth, ttl);
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
    let sent = script.probes_sent();
    let opened = script.events.contains(&Event::Established);
    let report = script.report();
    let reported: usize = report.hops.iter().map(|hop| hop.probes.len()).sum();
    prop_assert_eq!(reported, sent);
    let found = report.destination_ttl;
    prop_assert_eq!(found.is_some(), report.verdict == Verdict::Complete);
    prop_assert!(found.is_none_or(|ttl| ttl >= world.hops));
    if !opened {
        prop_assert_eq!(report.verdict, Verdict::HandshakeTimeout);
        return Ok(());
    }
    if world.lost == 0 {
        prop_assert!(network.closed, "the server's connection stays open");
    }
    let in_time = world.late == 0 || world.late_by < ms(700);
    if world.lost == 0 && in_time && silent_run(world) < 8 {
        prop_assert_eq!(report.verdict, Verdict::Complete, "{:?}", report.detail);
        prop_assert_eq!(found, Some(world.hops));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Default::default()
    })]

    #[test]
    fn the_record_is_true_in_every_network(world in worlds(), probes in 1u8..=3) {
        check(world, probes)?;
    }
}
