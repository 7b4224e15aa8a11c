//! Routers, lines and middleboxes that do what they should not.

use super::*;

/// One probe with this TTL, and what came for it.
fn one(scenario: Scenario, ttl: u8) -> (Client, Vec<Came>) {
    let mut client = Client::new(scenario, 5);
    client.open();
    client.wait(100 * MS);
    client.probe(1, ttl);
    let came = client.wait(Duration::from_secs(1));
    (client, came)
}

fn one_error(scenario: Scenario, ttl: u8) -> (Client, SteerKind, IcmpError) {
    let (client, came) = one(scenario, ttl);
    let [came] = &came[..] else {
        panic!("{came:?}");
    };
    (client, came.kind, came.clone().icmp())
}

#[test]
fn routers_quote_what_they_like() {
    let stack = vec![
        MplsLabel {
            label: 24001,
            tc: 0,
            bottom: false,
            ttl: 1,
        },
        MplsLabel {
            label: 3,
            tc: 5,
            bottom: true,
            ttl: 1,
        },
    ];
    for v6 in [false, true] {
        for (quote, whole) in [
            (QuoteLength::Octets(8), None),
            (QuoteLength::Octets(28), None),
            (QuoteLength::Whole, Some(false)),
        ] {
            for (labels, form) in [
                (vec![], Form::Compliant),
                (stack.clone(), Form::Compliant),
                (stack.clone(), Form::Legacy),
            ] {
                let router = Router {
                    quote,
                    labels: labels.clone(),
                    form,
                    ttl: 64,
                    counts_first: true,
                    ..Router::default()
                };
                let (client, _, error) = one_error(row(v6, vec![router], Server::default()), 1);
                assert_eq!(error.quote.sequence, client.sequence(1));
                assert_eq!(error.quote.checksum_bad, whole);
                assert_eq!((error.ttl, error.quote.ttl), (64, 0));
                assert_eq!(error.mpls, labels);
            }
        }
    }
}

#[test]
fn silent_routers_forward() {
    let silent = Router {
        silent: true,
        ..Router::default()
    };
    let mut routers = plain(3);
    routers[1] = silent;
    let (client, came) = one(row(false, routers.clone(), Server::default()), 2);
    assert_eq!(came, []);
    assert!(matches!(client.fate(1), Fate::Discarded(_)));
    let (_, _, error) = one_error(row(false, routers, Server::default()), 3);
    assert_eq!(error.from, address("10.0.3.1"));
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let router = Router {
        limit: Some(RateLimit {
            interval: 100 * MS,
            burst: 3,
        }),
        ..Router::default()
    };
    let mut client = Client::new(row(false, vec![router], Server::default()), 1);
    client.open();
    client.wait(100 * MS);
    let mut answered = Vec::new();
    for number in 1..=25 {
        client.probe(number, 1);
        if !client.wait(20 * MS).is_empty() {
            answered.push(number);
        }
        let discarded = matches!(client.fate(number), Fate::Discarded(_));
        assert_eq!(discarded, answered.last() != Some(&number));
    }
    assert_eq!(answered, [1, 2, 3, 6, 11, 16, 21]);
}

#[test]
fn refusals_come_from_the_router_that_refuses() {
    for v6 in [false, true] {
        for (answer, kind) in [
            (Rejection::Unreachable(1), IcmpKind::Unreachable),
            (
                Rejection::TooBig(1280),
                IcmpKind::PacketTooBig { mtu: 1280 },
            ),
        ] {
            let mut routers = plain(3);
            routers[1].rejects = Some(Reject {
                answer,
                only_data: true,
            });
            let (_, _, error) = one_error(row(v6, routers, Server::default()), 30);
            assert_eq!(error.kind, kind);
            let second = if v6 { "2001:db8:2::1" } else { "10.0.2.1" };
            assert_eq!(error.from, address(second));
            assert_eq!(error.quote.ttl, 28);
        }
    }
    // All packets: the SYN as well.
    let mut routers = plain(1);
    routers[0].rejects = Some(Reject {
        answer: Rejection::Unreachable(13),
        only_data: false,
    });
    let mut client = Client::new(row(false, routers, Server::default()), 1);
    client.send(64, ISN, flags::SYN, 0);
    let came = client.wait(100 * MS);
    assert_eq!(came[0].clone().icmp().icmp_code, 13);
}

#[test]
fn a_nat_shows_in_quotes_as_it_repairs_them() {
    for v6 in [false, true] {
        for (quotes, hides_routers) in [
            (QuoteRepair::None, false),
            (QuoteRepair::Fields, false),
            (QuoteRepair::Whole, true),
        ] {
            let mut routers = plain(3);
            routers[0].middlebox = Some(Middlebox::Nat {
                v4: Some([203, 0, 113, 1].into()),
                v6: Some([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1].into()),
                port: 0x0101,
                quotes,
                hides_routers,
            });
            let scenario = row(v6, routers, Server::default());
            // The NAT itself sees the packet before it changes it.
            let (client, kind, error) = one_error(scenario.clone(), 1);
            assert_eq!(
                (kind, error.quote.source),
                (SteerKind::Quote, client.flow.local)
            );
            let (client, kind, error) = one_error(scenario.clone(), 3);
            assert_eq!(error.quote.sequence, client.sequence(1));
            let outside = match v6 {
                true => "[2001:db8:f::1]:61257",
                false => "203.0.113.1:61257",
            };
            let (expected, source, bad) = match quotes {
                QuoteRepair::None => (SteerKind::RewrittenQuote, outside.parse().unwrap(), false),
                QuoteRepair::Fields => (SteerKind::Quote, client.flow.local, true),
                QuoteRepair::Whole => (SteerKind::Quote, client.flow.local, false),
            };
            assert_eq!(kind, expected, "{quotes:?}");
            assert_eq!(error.quote.source, source);
            assert_eq!(error.quote.checksum_bad, Some(bad));
            let third = if v6 { "2001:db8:3::1" } else { "10.0.3.1" };
            let from = match hides_routers {
                true => client.flow.remote.ip(),
                false => address(third),
            };
            assert_eq!(error.from, from);
            // The truth names who it looks like, and who it was.
            assert!(matches!(client.fate(1), Fate::Router { from: known, .. } if known == from));
            // The server sees a right checksum, and we its answer.
            let (client, came) = one(scenario, 9);
            let sack = came[0].clone().segment().options.sack;
            assert_eq!(sack.as_slice(), client.blocks(&[1]));
        }
    }
}

#[test]
fn sequence_numbers_are_rewritten_both_ways() {
    const OURS: u32 = 0x7000_0001;
    for v6 in [false, true] {
        for sack in [false, true] {
            for quotes in [QuoteRepair::None, QuoteRepair::Fields, QuoteRepair::Whole] {
                let mut routers = plain(3);
                routers[1].middlebox = Some(Middlebox::Sequence {
                    ours: OURS,
                    theirs: 12345,
                    sack,
                    quotes,
                });
                let scenario = row(v6, routers, Server::default());
                let (client, _, error) = one_error(scenario.clone(), 3);
                let shift = if quotes == QuoteRepair::None { OURS } else { 0 };
                assert_eq!(error.quote.sequence, client.sequence(1).wrapping_add(shift));
                let bad = quotes == QuoteRepair::Fields;
                assert_eq!(error.quote.checksum_bad, Some(bad));
                let (client, came) = one(scenario, 9);
                let segment = came[0].clone().segment();
                assert_eq!(segment.acknowledgment, client.next);
                assert_eq!(segment.sequence, client.acknowledgment);
                let [block] = segment.options.sack.as_slice() else {
                    panic!("{segment:?}");
                };
                let shift = if sack { 0 } else { OURS };
                assert_eq!(block.left, client.sequence(1).wrapping_add(shift));
            }
        }
    }
}

#[test]
fn the_dscp_is_rewritten_and_ecn_kept() {
    for v6 in [false, true] {
        let mut routers = plain(2);
        routers[0].middlebox = Some(Middlebox::Dscp(46));
        let (_, _, error) = one_error(row(v6, routers, Server::default()), 2);
        assert_eq!(error.quote.traffic_class, 0b1011_1000);
        assert_eq!(error.quote.checksum_bad, Some(false));
    }
}

fn balanced(balance: Balance) -> Scenario {
    let mut scenario = Scenario::new();
    let mut router = |number| scenario.router(Router::at([10, 0, number, 1].into()));
    let first = router(1);
    let branches = [vec![router(2)], vec![router(3)], vec![router(4), router(5)]];
    let last = router(6);
    let target = Target::new(address("198.51.100.2"))
        .via([first])
        .balanced(balance, branches)
        .via([last]);
    scenario.target(target);
    scenario
}

/// Who answers probes with TTL 2, of flows from several ports.
fn second_hops(balance: Balance, port: u16) -> Vec<IpAddr> {
    let mut client = Client::new(balanced(balance), 1);
    client.flow.local.set_port(port);
    let _ = client.link.add_flow(&client.flow, 8);
    client.template = Template::new(&Ends {
        source_mac: [2; 6],
        next_hop_mac: [4; 6],
        vlan: Some(5),
        local: client.flow.local,
        remote: client.flow.remote,
        dscp: 0,
        flow_label: 0,
    })
    .unwrap();
    let mut hops = Vec::new();
    for number in 1..=30 {
        client.probe(number, 2);
        hops.extend(
            client
                .wait(10 * MS)
                .into_iter()
                .map(|came| came.icmp().from),
        );
    }
    assert_eq!(hops.len(), 30);
    hops.sort();
    hops.dedup();
    hops
}

#[test]
fn balancers_keep_flows_together_or_do_not() {
    let mut all = Vec::new();
    for port in 61000..61020 {
        let hops = second_hops(Balance::PerFlow, port);
        assert_eq!(hops.len(), 1);
        all.extend(hops);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3, "20 flows over 3 branches");
    assert_eq!(second_hops(Balance::PerPacket, 61000).len(), 3);
}

#[test]
fn branches_may_differ_in_length_and_replies_come_back_over_them() {
    let mut client = Client::new(balanced(Balance::PerPacket), 1);
    client.open();
    client.wait(100 * MS);
    let mut times = Vec::new();
    for number in 1..=30 {
        client.probe(number, 30);
        times.extend(client.wait(100 * MS).into_iter().map(|came| came.after));
    }
    times.sort();
    times.dedup();
    // Three routers or four; a tenth of a millisecond where SACKs waited.
    let whole: Vec<_> = times.iter().map(Duration::as_millis).collect();
    assert!(whole.contains(&8) && whole.contains(&10), "{times:?}");
    assert!(whole.iter().all(|ms| [8, 10].contains(ms)), "{times:?}");
}

fn on_line(line: Line) -> Scenario {
    let mut scenario = Scenario::new();
    let id = scenario.router(Router::at(address("10.0.1.1")));
    scenario.target(Target::new(address("198.51.100.2")).over(line, id));
    scenario
}

#[test]
fn lines_lose_double_and_hold_up() {
    let count = |line: Line| {
        let mut client = Client::new(on_line(line), 11);
        let mut came = Vec::new();
        for number in 1..=1000 {
            client.probe(number, 1);
            came.extend(client.wait(20 * MS));
        }
        let lost = (1..=1000).filter(|number| client.fate(*number) == Fate::Lost);
        (came, lost.count())
    };
    let (came, lost) = count(Line {
        loss: 0.2,
        ..Line::default()
    });
    // There and back: 0.8² of 1000.
    assert!((560..720).contains(&came.len()), "{}", came.len());
    assert!((140..260).contains(&lost), "{lost}");
    let (came, lost) = count(Line {
        duplicate: 0.5,
        ..Line::default()
    });
    // 1.5² of 1000, all but those of which there would be more than two copies.
    assert!((1900..2400).contains(&came.len()), "{}", came.len());
    assert_eq!(lost, 0);
    let (came, _) = count(Line {
        reorder: (0.1, 5 * MS),
        ..Line::default()
    });
    let held = came.iter().filter(|came| came.after > 6 * MS).count();
    assert!((120..260).contains(&held), "{held}");
    let (came, _) = count(Line {
        loss: 1.0,
        ..Line::default()
    });
    assert_eq!(came, []);
}

#[test]
fn late_replies_come_late() {
    let router = Router {
        late: Some((1.0, Duration::from_secs(10))),
        slow: MS,
        ..Router::default()
    };
    let mut client = Client::new(row(false, vec![router], Server::default()), 1);
    client.probe(1, 1);
    let came = client.wait(Duration::from_secs(20));
    assert_eq!(came[0].after, Duration::from_millis(10_003));
}
