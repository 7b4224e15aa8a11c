//! The steering decision on slices: every branch, every length, every port.

mod frames;

use frames::{FIRST, LAST, Table};
use insession_common::counters::Counter;
use insession_common::flow::UNRESOLVED;
use insession_common::stamp::SteerKind;
use insession_common::steer::{Decision, FARTHEST, Frame, steer};

fn table() -> Table {
    Table::new(&frames::flows())
}

#[test]
fn every_fixture_goes_where_it_belongs() {
    let table = table();
    for fixture in frames::all() {
        assert_eq!(
            steer(&&fixture.bytes[..], &table),
            fixture.decision,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn answers_to_probes_that_stand_alone_are_ours_where_there_are_any() {
    let flows = frames::alone_flows();
    let (mut with, without) = (Table::new(&flows), Table::new(&flows));
    with.alone = Some(frames::BLOCKS);
    for (fixture, same) in frames::alone() {
        let name = fixture.name;
        let frame = &fixture.bytes[..];
        assert_eq!(steer(&frame, &with), fixture.decision, "{name}");
        let decision = steer(&frame, &without);
        assert_eq!(decision == fixture.decision, same, "{name}: {decision:?}");
        // Where there are none, nothing of theirs is taken from the kernel.
        let taken = matches!(decision, Decision::Ours { .. });
        // This one looks as if a NAT had rewritten its source port.
        let rewritten = name == "quoted segment from a block";
        assert!(same || !taken || rewritten, "{name}: {decision:?}");
        for length in 0..frame.len() {
            let decision = steer(&&frame[..length], &with);
            assert!(matches!(decision, Decision::Pass(_)), "{name} at {length}");
        }
    }
    // What is of sessions goes where it went before.
    let mut table = table();
    table.alone = Some(0);
    for fixture in frames::all() {
        if matches!(fixture.decision, Decision::Ours { .. }) {
            let decision = steer(&&fixture.bytes[..], &table);
            assert_eq!(decision, fixture.decision, "{}", fixture.name);
        }
    }
}

#[test]
fn the_fixtures_reach_every_counter_that_a_decision_has() {
    let mut left: Vec<Counter> = Counter::ALL.to_vec();
    for fixture in frames::all() {
        let counter = frames::counted(fixture.decision);
        left.retain(|other| *other != counter);
    }
    // This one is the XDP program's alone.
    assert_eq!(left, [Counter::RedirectFailed]);
}

#[test]
fn a_frame_cut_anywhere_before_its_ip_end_is_truncated() {
    let table = table();
    for fixture in frames::all() {
        let Decision::Ours { l3_offset, .. } = fixture.decision else {
            continue;
        };
        let end = frames::ip_end(&fixture.bytes, usize::from(l3_offset));
        for length in 0..=fixture.bytes.len() {
            let decision = steer(&&fixture.bytes[..length], &table);
            if length < end {
                assert_eq!(
                    decision,
                    Decision::Pass(Counter::Truncated),
                    "{} at {length}",
                    fixture.name
                );
            } else {
                assert_eq!(decision, fixture.decision, "{} at {length}", fixture.name);
            }
        }
    }
}

#[test]
fn what_is_not_ours_is_not_ours_at_any_length() {
    let table = table();
    for fixture in frames::all() {
        if matches!(fixture.decision, Decision::Ours { .. }) {
            continue;
        }
        for length in 0..fixture.bytes.len() {
            let decision = steer(&&fixture.bytes[..length], &table);
            assert!(
                matches!(decision, Decision::Pass(_)),
                "{} at {length}: {decision:?}",
                fixture.name
            );
        }
    }
}

/// The frame keeps all its bytes, but the IP length says that they are padding.
#[test]
fn padding_is_never_read_as_headers() {
    let table = table();
    for fixture in frames::all() {
        let Decision::Ours { l3_offset, .. } = fixture.decision else {
            continue;
        };
        let l3 = usize::from(l3_offset);
        let longest = frames::ip_end(&fixture.bytes, l3);
        let shortest = longest - frames::spare(fixture.name);
        for end in l3..=longest {
            let Some(frame) = frames::with_ip_end(&fixture.bytes, l3, end) else {
                continue;
            };
            let decision = steer(&&frame[..], &table);
            if end < shortest {
                assert!(
                    matches!(
                        decision,
                        Decision::Pass(Counter::Truncated | Counter::Malformed)
                    ),
                    "{} ending at {end}: {decision:?}",
                    fixture.name
                );
            } else {
                assert_eq!(decision, fixture.decision, "{} at {end}", fixture.name);
            }
        }
    }
}

#[test]
fn every_local_port() {
    let table = table();
    for port in 0..=u16::MAX {
        let decision = steer(&&frames::segment(443, port)[..], &table);
        let session = match port {
            FIRST => Some(7),
            LAST => Some(9),
            _ => None,
        };
        match (session, decision) {
            (Some(expected), Decision::Ours { session, .. }) => assert_eq!(session, expected),
            (None, Decision::Pass(Counter::NoFlow)) => assert!((FIRST..=LAST).contains(&port)),
            (None, Decision::Pass(Counter::PortOutside)) => {
                assert!(!(FIRST..=LAST).contains(&port));
            }
            _ => panic!("port {port}: {decision:?}"),
        }
    }
}

#[test]
fn a_quote_of_the_kernels_own_connection_to_our_server_is_the_kernels() {
    for (frame, flow) in frames::quotes_from_port(40000) {
        let mut table = table();
        assert!(matches!(
            steer(&&frame[..], &table),
            Decision::Ours {
                session: UNRESOLVED,
                kind: SteerKind::RewrittenQuote,
                ..
            }
        ));
        table.kernel.push(flow);
        assert_eq!(
            steer(&&frame[..], &table),
            Decision::Pass(Counter::QuoteNoFlow)
        );
    }
}

/// By port alone, the addresses and the sender's port do not matter.
#[test]
fn by_port_what_is_for_a_port_in_use_is_ours() {
    let mut table = table();
    table.by_port = true;
    for fixture in frames::by_port() {
        assert_eq!(
            steer(&&fixture.bytes[..], &table),
            fixture.decision,
            "{}",
            fixture.name
        );
    }
    for port in 0..=u16::MAX {
        let expected = match port {
            61_000 | 61_001 | LAST => Decision::Ours {
                session: UNRESOLVED,
                kind: SteerKind::Segment,
                l3_offset: 14,
            },
            FIRST..=LAST => Decision::Pass(Counter::NoFlow),
            _ => Decision::Pass(Counter::PortOutside),
        };
        assert_eq!(steer(&&frames::segment(9, port)[..], &table), expected);
    }
}

/// A frame without the short way.
struct Slow<'a>(&'a [u8]);

impl Frame for Slow<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        assert!(offset <= FARTHEST);
        self.0.read::<N>(offset)
    }

    fn read_at<const AT: usize, const N: usize>(&self) -> Option<[u8; N]> {
        None
    }
}

#[test]
fn the_short_way_and_the_long_way_say_the_same() {
    let table = table();
    for fixture in frames::all() {
        for length in 0..=fixture.bytes.len() {
            let frame = &fixture.bytes[..length];
            assert_eq!(
                steer(&Slow(frame), &table),
                steer(&frame, &table),
                "{} at {length}",
                fixture.name
            );
        }
        // Every byte of the headers, in turn, with every value.
        for at in 12..fixture.bytes.len().min(112) {
            let mut frame = fixture.bytes.clone();
            for value in 0..=255 {
                frame[at] = value;
                assert_eq!(
                    steer(&Slow(&frame), &table),
                    steer(&&frame[..], &table),
                    "{} with {value:#04x} at {at}",
                    fixture.name
                );
            }
        }
    }
}
