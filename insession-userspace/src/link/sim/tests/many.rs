//! Many targets with everything wrong: what arrives is what the truth says.

use std::collections::HashMap;

use super::*;

/// Opens a session with every target at once, and probes.
fn run(scenario: Scenario, seed: u64, probes: u32) -> (SimLink, Vec<(Flow, u32)>, Vec<Came>) {
    let addresses: Vec<_> = scenario.addresses().collect();
    let mut link = SimLink::new(scenario, seed);
    let mut sessions = Vec::new();
    let mut templates = Vec::new();
    for (index, address) in (0u32..).zip(addresses) {
        let local = match address {
            IpAddr::V4(_) => "192.0.2.1",
            IpAddr::V6(_) => "2001:db8::1",
        };
        let port = 2048 + (index % 60_000) as u16;
        let flow = Flow {
            local: SocketAddr::new(local.parse().unwrap(), port),
            remote: SocketAddr::new(address, 443),
        };
        link.add_flow(&flow, index).unwrap();
        let ends = Ends {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: None,
            local: flow.local,
            remote: flow.remote,
            dscp: 0,
            flow_label: 1,
        };
        templates.push(Template::new(&ends).unwrap());
        // Sequence numbers that wrap around in some sessions.
        sessions.push((flow, 0u32.wrapping_sub(index % 50)));
    }
    let mut came = Vec::new();
    let mut peers = HashMap::new();
    let round = |link: &mut SimLink,
                 came: &mut Vec<Came>,
                 peers: &mut HashMap<u32, _>,
                 make: &dyn Fn(u32, Option<(u32, u32)>) -> Varying| {
        for (index, template) in (0u32..).zip(&templates) {
            let varying = make(index, peers.get(&index).copied());
            if link.room() == 0 {
                link.flush().unwrap();
            }
            link.transmit(&mut |out| template.write(&varying, 1, out))
                .unwrap();
        }
        link.flush().unwrap();
        let end = link.now() + 20 * MS;
        collect(link, end, came, peers);
    };
    let base = |index: u32| Varying {
        ttl: 64,
        sequence: sessions[index as usize].1,
        acknowledgment: 0,
        flags: flags::SYN,
        window: 500,
        options: SegmentOptions::Syn {
            mss: 1460,
            window_scale: 7,
            tsval: 1,
        },
        payload_len: 0,
    };
    round(&mut link, &mut came, &mut peers, &|index, _| base(index));
    let end = link.now() + Duration::from_secs(1);
    collect(&mut link, end, &mut came, &mut peers);
    for number in 0..=probes {
        round(&mut link, &mut came, &mut peers, &|index, peer| {
            let syn = base(index);
            let (acknowledgment, tsecr) = peer.unwrap_or_default();
            Varying {
                sequence: syn
                    .sequence
                    .wrapping_add(if number == 0 { 1 } else { 2 * number }),
                acknowledgment,
                flags: flags::ACK,
                options: match tsecr {
                    0 => SegmentOptions::None,
                    _ => SegmentOptions::Timestamps { tsval: 2, tsecr },
                },
                ttl: if number == 0 {
                    64
                } else {
                    (number % 12 + 1) as u8
                },
                payload_len: u16::from(number > 0),
                ..syn
            }
        });
    }
    let end = link.now() + Duration::from_secs(30);
    collect(&mut link, end, &mut came, &mut peers);
    (link, sessions, came)
}

/// All that comes until `end`; notes what SYN-ACKs say.
fn collect(
    link: &mut SimLink,
    end: Instant,
    came: &mut Vec<Came>,
    peers: &mut HashMap<u32, (u32, u32)>,
) {
    loop {
        link.wait(end).unwrap();
        let count = link.receive(64, &mut |frame| {
            let reply = decode(&frame.bytes[frame.l3_offset..], false).unwrap();
            if let Reply::Segment(segment) = &reply
                && segment.flags & flags::SYN != 0
            {
                let tsecr = segment.options.timestamps.map_or(0, |(value, _)| value);
                peers.insert(frame.session, (segment.sequence.wrapping_add(1), tsecr));
            }
            came.push(Came {
                after: frame.at.since(Instant::ZERO),
                kind: frame.kind,
                session: frame.session,
                reply,
            });
        });
        if count.unwrap() == 0 {
            return;
        }
    }
}

#[test]
fn every_reply_is_what_the_truth_says() {
    let scenario = Scenario::internet(1, 700, 1.0);
    let (link, sessions, came) = run(scenario, 2, 24);
    let truth = link.truth();
    let truth = truth.lock().unwrap();
    let (mut errors, mut blocks) = (0, 0);
    for came in &came {
        let Some((flow, isn)) = sessions.get(came.session as usize) else {
            assert_eq!(came.session, insession_common::flow::UNRESOLVED);
            continue;
        };
        let probe = |sequence: u32| truth.probe(flow, sequence);
        match &came.reply {
            Reply::Icmp(error) => {
                // Where a sequence number was rewritten and the quote not mended,
                // it names no probe of ours; nor does a quoted SYN.
                let Some(probe) = probe(error.quote.sequence) else {
                    continue;
                };
                let Fate::Router {
                    from,
                    icmp_type,
                    icmp_code,
                    delivered,
                    ..
                } = probe.fate
                else {
                    panic!("{flow:?} {probe:?} {came:?}");
                };
                assert_eq!(error.from, from);
                assert_eq!((error.icmp_type, error.icmp_code), (icmp_type, icmp_code));
                assert!(delivered.unwrap().as_nanos() <= came.after.as_nanos() as u64);
                errors += 1;
            }
            Reply::Segment(segment) => {
                for block in segment.options.sack.as_slice() {
                    if let Some(probe) = probe(block.left) {
                        let accepted = matches!(probe.fate, Fate::Server { accepted: true, .. });
                        assert!(accepted, "{flow:?} {isn} {probe:?} {came:?}");
                        blocks += 1;
                    }
                }
            }
            Reply::OwnSyn { .. } | Reply::Own(_) | Reply::Direct(_) => panic!("{came:?}"),
        }
    }
    assert!(errors > 4000 && blocks > 4000, "{errors} {blocks}");
    // And the other way round: what the truth delivers arrives.
    let promised = truth
        .flows()
        .flat_map(|flow| truth.probes(flow))
        .filter(|probe| {
            matches!(
                probe.fate,
                Fate::Router {
                    delivered: Some(_),
                    ..
                }
            )
        })
        .count();
    let arrived = came
        .iter()
        .filter(|came| matches!(came.reply, Reply::Icmp(_)))
        .count();
    assert!(
        promised > 0 && arrived * 10 >= promised * 9,
        "{arrived} of {promised}"
    );
}

#[test]
fn without_troubles_every_probe_is_answered() {
    let (link, sessions, came) = run(Scenario::internet(1, 100, 0.0), 2, 12);
    let truth = link.truth();
    let truth = truth.lock().unwrap();
    for (flow, _) in &sessions {
        let probes = truth.probes(flow);
        assert_eq!(probes.len(), 12);
        for probe in probes {
            let answered = matches!(
                probe.fate,
                Fate::Router {
                    delivered: Some(_),
                    ..
                } | Fate::Server { accepted: true, .. }
            );
            assert!(answered, "{probe:?}");
        }
    }
    assert!(
        came.iter()
            .all(|came| came.kind != SteerKind::RewrittenQuote)
    );
}
