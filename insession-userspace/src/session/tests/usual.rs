//! The short way of what most replies are says the same as the long way.

use proptest::prelude::*;

use super::*;
use crate::session::decode::{decode_segment, decode_with_ends};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Form, Version};
use crate::wire::template::{WINDOW, WINDOW_SCALE};
use crate::wire::usual::{Arrived, Exceeded};
use crate::wire::{ip, tcp};

/// A probe as a router sees it, from the IP header on.
fn quoted(script: &Script, nth: u16, stamped: bool) -> Vec<u8> {
    let Flow { local, remote } = flow();
    let segment = tcp::Repr {
        source_port: local.port(),
        destination_port: remote.port(),
        sequence: script.sequence(nth),
        acknowledgment: PEER_ISN + 1,
        flags: flags::ACK | flags::PSH,
        window: WINDOW >> WINDOW_SCALE,
        options: Options {
            timestamps: stamped.then_some((1, 2)),
            ..Options::default()
        },
        payload: &[0],
    };
    let len = segment.buffer_len();
    let header = ip::Repr::new(local.ip(), remote.ip(), 6, 1, len as u16).unwrap();
    let mut packet = vec![0; header.buffer_len() + len];
    header.emit(&mut packet);
    let pseudo = Sum::ZERO.pseudo(local.ip(), remote.ip(), 6, len as u32);
    segment.emit(pseudo, &mut packet[header.buffer_len()..]);
    packet
}

/// What a router makes of it.
fn error(from: IpAddr, icmp_type: u8, code: u8, quote: &[u8], labels: u32) -> Vec<u8> {
    let label = |label| crate::trace::MplsLabel {
        label,
        tc: 1,
        bottom: true,
        ttl: 2,
    };
    let error = icmp::Repr {
        version: Version::V4,
        icmp_type,
        code,
        mtu: None,
        quote,
        labels: (0..labels).map(label).collect(),
        form: Form::Compliant,
    };
    let len = error.buffer_len();
    let header = ip::Repr::new(from, flow().local.ip(), 1, 250, len as u16).unwrap();
    let mut packet = vec![0; header.buffer_len() + len];
    header.emit(&mut packet);
    error.emit(Sum::ZERO, &mut packet[header.buffer_len()..]);
    packet
}

/// Makes both checksums right again.
fn mend(packet: &mut [u8]) {
    let mut fill = |whole: core::ops::Range<usize>, at: usize| {
        if let Some(part) = packet.get_mut(whole) {
            part[at..at + 2].fill(0);
            let checksum = Sum::ZERO.bytes(part).finish();
            part[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    };
    fill(0..20, 10);
    let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if (24..=packet.len()).contains(&len) {
        let fill = |part: &mut [u8]| {
            part[2..4].fill(0);
            let checksum = Sum::ZERO.bytes(part).finish();
            part[2..4].copy_from_slice(&checksum.to_be_bytes());
        };
        fill(&mut packet[20..len]);
    }
}

/// One step of a session.
#[derive(Clone, Debug)]
struct Step {
    /// Of the probes in the order of sending, modulo how many there are.
    probe: u16,
    from: u8,
    unreachable: bool,
    code: u8,
    labels: u32,
    stamped: bool,
    /// Octets of the quote.
    quote: usize,
    /// Octets that are changed, and whether the checksums hold afterwards.
    edits: Vec<(usize, u8)>,
    mended: bool,
    /// Octets behind the packet; below zero: it is cut.
    behind: i8,
    /// A SACK comes instead.
    sack: bool,
    after: u64,
}

prop_compose! {
    fn steps()(
        (probe, from) in (any::<u16>(), 1u8..20),
        unreachable in prop::bool::weighted(0.05),
        code in prop_oneof![9 => Just(0u8), 1 => 0u8..15],
        labels in prop_oneof![8 => Just(0u32), 1 => 1u32..4],
        stamped in prop::bool::weighted(0.8),
        quote in prop_oneof![4 => Just(200usize), 2 => Just(28), 1 => 20usize..60],
        edits in prop_oneof![
            4 => Just(vec![]),
            1 => prop::collection::vec((0usize..90, any::<u8>()), 1..4),
        ],
        mended in prop::bool::weighted(0.8),
        behind in prop_oneof![4 => Just(0i8), 1 => -40i8..40],
        sack in prop::bool::weighted(0.1),
        after in prop_oneof![4 => 0u64..2_000, 1 => 0u64..3_000_000],
    ) -> Step {
        Step {
            probe, from, unreachable, code, labels, stamped, quote, edits, mended, behind, sack, after,
        }
    }
}

impl Step {
    fn packet(&self, script: &Script, nth: u16) -> Vec<u8> {
        let quote = quoted(script, nth, self.stamped);
        let quote = &quote[..quote.len().min(self.quote)];
        let from = match self.from {
            19 => TARGET,
            from => router(from),
        };
        let icmp_type = if self.unreachable { 3 } else { 11 };
        let mut packet = error(from, icmp_type, self.code, quote, self.labels);
        for (at, octet) in &self.edits {
            if let Some(slot) = packet.get_mut(*at) {
                *slot = *octet;
            }
        }
        if self.mended {
            mend(&mut packet);
        }
        let len = packet.len().saturating_add_signed(isize::from(self.behind));
        packet.resize(len, 0);
        packet
    }
}

/// Whether the short way takes it; where it reads anything, the long way reads
/// the same.
fn agree(packet: &[u8]) -> Result<(), TestCaseError> {
    let Some(short) = Exceeded::new(packet) else {
        return Ok(());
    };
    let Ok(Reply::Icmp(long)) = decode(packet, false) else {
        return Err(TestCaseError::fail(format!("{:?}", decode(packet, false))));
    };
    let quote = &long.quote;
    prop_assert_eq!((long.kind, long.icmp_code), (IcmpKind::TimeExceeded, 0));
    prop_assert_eq!(IpAddr::V4(short.from()), long.from);
    prop_assert_eq!(short.ttl(), long.ttl);
    prop_assert_eq!(&long.mpls, &vec![]);
    prop_assert_eq!(short.sequence(), quote.sequence);
    prop_assert_eq!(short.quoted_ttl(), quote.ttl);
    prop_assert_eq!(short.traffic_class(), quote.traffic_class);
    prop_assert_ne!(quote.checksum_bad, Some(true));
    let ends = Session::new(
        Flow {
            local: quote.source,
            remote: quote.destination,
        },
        0,
        0,
        0,
        Instant::ZERO,
    );
    prop_assert!(ends.has_ends(&short.ends()));
    Ok(())
}

/// Gives a packet to the session: by the short way, if it may be and can.
fn give(script: &mut Script, packet: &[u8], short: bool, tell: bool) -> bool {
    let Script {
        options,
        session,
        now,
        swift,
        ..
    } = script;
    let mut answered = None;
    if *swift && let Some(error) = Exceeded::of_probe(packet) {
        answered = session.handle_swift(options, *now, error);
    }
    if short && answered.is_none() {
        answered = session.handle_usual(options, *now, packet);
    }
    if let (Some(probe), true) = (answered, tell) {
        session.tell_answered(probe);
    }
    let taken = answered.is_some();
    if !taken
        && let Ok(reply) = decode(packet, false)
        && let Reply::Icmp(error) = &reply
        && session.is_between(&error.quote.source, &error.quote.destination)
    {
        session.handle_reply(options, *now, &reply);
    }
    script.drain();
    taken
}

prop_compose! {
    /// A segment from the peer, in a packet; whether it is as it was sent.
    fn arrivals()(
        numbers: [u32; 2],
        flags in 0u8..64,
        window: u16,
        timestamps: Option<(u32, u32)>,
        blocks in prop::collection::vec(any::<(u32, u32)>(), 0..3),
        payload in prop::collection::vec(any::<u8>(), 0..9),
        edits in prop_oneof![
            4 => Just(vec![]),
            1 => prop::collection::vec((0usize..60, any::<u8>()), 1..4),
        ],
        behind in prop_oneof![2 => Just(0i8), 1 => -40i8..40],
    ) -> (Vec<u8>, bool) {
        let Flow { local, remote } = flow();
        let intact = edits.is_empty() && behind >= 0;
        let mut options = Options { timestamps, ..Options::default() };
        for (left, right) in blocks {
            options.sack.push(SackBlock { left, right });
        }
        let segment = tcp::Repr {
            source_port: remote.port(),
            destination_port: local.port(),
            sequence: numbers[0],
            acknowledgment: numbers[1],
            flags,
            window,
            options,
            payload: &payload,
        };
        let len = segment.buffer_len();
        let header = ip::Repr::new(remote.ip(), local.ip(), 6, 60, len as u16).unwrap();
        let mut packet = vec![0; header.buffer_len() + len];
        header.emit(&mut packet);
        let pseudo = Sum::ZERO.pseudo(remote.ip(), local.ip(), 6, len as u32);
        segment.emit(pseudo, &mut packet[header.buffer_len()..]);
        for (at, octet) in edits {
            if let Some(slot) = packet.get_mut(at) {
                *slot = octet;
            }
        }
        let len = packet.len().saturating_add_signed(isize::from(behind));
        packet.resize(len, 0);
        (packet, intact)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..Default::default()
    })]

    /// What the short way reads of a segment, the long way reads too; and it reads
    /// whatever is as it was sent.
    #[test]
    fn segments_are_read_alike((packet, intact) in arrivals()) {
        let long = decode_with_ends(&packet, false);
        let Some(arrived) = Arrived::new(&packet) else {
            prop_assert!(!intact);
            return Ok(());
        };
        let short = decode_segment(&arrived);
        match long {
            Ok((Reply::Segment(segment), ends)) => {
                prop_assert_eq!(short, Some(segment));
                let session = Session::new(ends, 0, 0, 0, Instant::ZERO);
                prop_assert!(session.has_ends(&arrived.ends()));
            }
            long => prop_assert!(short.is_none(), "{long:?}"),
        }
    }

    #[test]
    fn what_the_short_way_reads_the_long_way_reads(step in steps(), nth in 1u16..300) {
        let script = Script::new(options());
        agree(&step.packet(&script, nth))?;
    }

    #[test]
    fn both_ways_lead_to_the_same_record(
        steps in prop::collection::vec(steps(), 1..80),
        probes in 1u8..=3,
        hops in 2u8..20,
        reused: bool,
    ) {
        let options = SessionOptions { probes, ..Default::default() };
        let ways = [(true, true, false), (true, false, false), (false, true, false), (true, false, true)];
        let mut scripts = ways.map(|(short, tell, swift)| {
            let mut script = Script::open(options.clone(), hops);
            if swift {
                script.hurry();
            }
            (script, short, tell)
        });
        for step in &steps {
            for (script, short, tell) in &mut scripts {
                script.wait(Duration::from_micros(step.after));
                let sent = script.probes_sent() as u16;
                if sent == 0 || script.session.has(Flag::Ended) {
                    continue;
                }
                // Mostly in the order of sending.
                let settled = script.session.probes.flying().next();
                let oldest = settled.map_or(0, |(index, _)| index as u16);
                let nth = match step.probe % 4 {
                    0 => 1 + step.probe % sent,
                    more => (oldest + more).min(sent),
                };
                if step.sack {
                    script.sacked(&[nth]);
                    continue;
                }
                let mut step = step.clone();
                let ttl = script.session.probe(number(nth)).map(|(ttl, _)| ttl);
                if reused && step.from != 19 {
                    step.from = ttl.unwrap_or(1);
                }
                let packet = step.packet(script, nth);
                give(script, &packet, *short, *tell);
            }
        }
        let [(mut short, ..), (mut quiet, ..), (mut long, ..), (mut swift, ..)] = scripts;
        prop_assert_eq!(&short.events, &long.events);
        prop_assert_eq!(&short.sent, &long.sent);
        let told = |event: &&Event| !matches!(event, Event::Answered(_));
        let report = long.report();
        prop_assert_eq!(&short.report(), &report);
        for quiet in [&mut quiet, &mut swift] {
            prop_assert_eq!(&quiet.sent, &long.sent);
            let (some, all) = (&quiet.events, &long.events);
            prop_assert!(some.iter().filter(told).eq(all.iter().filter(told)));
            prop_assert_eq!(&quiet.report(), &report);
        }
    }
}

#[test]
fn the_short_way_is_taken() {
    for (stamped, quote) in [(true, 200), (false, 200), (true, 28), (true, 40)] {
        let mut script = Script::open_with(
            SessionOptions {
                probes: 3,
                ..Default::default()
            },
            10,
            |hello| {
                if !stamped {
                    hello.options.timestamps = None;
                }
            },
        );
        let mut taken = 0;
        for nth in 1..=12 {
            let (ttl, _) = script.session.probe(number(nth)).unwrap();
            let whole = quoted(&script, nth, stamped);
            let packet = error(router(ttl), 11, 0, &whole[..whole.len().min(quote)], 0);
            taken += u8::from(give(&mut script, &packet, true, true));
            assert_eq!(script.kind(nth), Some(ReplyKind::TimeExceeded));
        }
        assert_eq!(taken, 12, "{stamped} {quote}");
    }
}

#[test]
fn most_goes_swiftly() {
    let mut script = Script::open(
        SessionOptions {
            probes: 3,
            ..Default::default()
        },
        20,
    );
    script.hurry();
    let mut swift = 0;
    for nth in 1..=30 {
        script.wait(Duration::from_micros(900));
        let (ttl, _) = script.session.probe(number(nth)).unwrap();
        let packet = error(router(ttl), 11, 0, &quoted(&script, nth, true), 0);
        let answer = Exceeded::of_probe(&packet).unwrap();
        let answered = script
            .session
            .handle_swift(&script.options, script.now, answer);
        swift += u16::from(answered.is_some() && script.session.is_swift());
        script.drain();
    }
    assert_eq!(swift, 30);
    assert_eq!(script.probes_sent(), 42);
}
