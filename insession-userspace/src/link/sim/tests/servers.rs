//! The servers, as a client sees them.

use super::*;

fn client(server: Server) -> Client {
    Client::new(row(false, plain(1), server), 2)
}

/// A client behind one router whose connection is open, all quiet.
fn open(server: Server) -> Client {
    let mut client = client(server);
    client.open();
    assert_eq!(client.wait(10 * MS), []);
    client
}

#[test]
fn options_are_taken_if_both_want_them() {
    for (sack, timestamps, window_scale) in [
        (true, true, Some(7)),
        (false, true, None),
        (true, false, Some(2)),
        (false, false, None),
    ] {
        let mut client = client(Server {
            sack,
            timestamps,
            window_scale,
            mss: 1400,
            ..Server::default()
        });
        let options = client.open().options;
        assert_eq!(options.sack_permitted, sack);
        assert_eq!(options.timestamps.is_some(), timestamps);
        assert_eq!(options.window_scale, window_scale);
        assert_eq!(options.mss, Some(1400));
    }
}

#[test]
fn the_triggering_block_comes_first_and_as_many_as_fit() {
    for (timestamps, room) in [(true, 3), (false, 4)] {
        let mut client = open(Server {
            timestamps,
            compresses: false,
            ..Server::default()
        });
        let mut newest = Vec::new();
        // Not in the order of their numbers, so that order shows.
        for number in [3, 1, 5, 2, 6, 4] {
            client.probe(number, 9);
            let came = client.segments(10 * MS);
            newest.insert(0, number);
            newest.truncate(room);
            assert_eq!(came.len(), 1);
            assert_eq!(came[0].options.sack.as_slice(), client.blocks(&newest));
            assert_eq!(came[0].options.timestamps.is_some(), timestamps);
        }
    }
}

#[test]
fn adjacent_blocks_become_one() {
    let mut client = open(Server::default());
    client.probe(1, 9);
    client.probe(2, 9);
    client.wait(10 * MS);
    // The byte between the two.
    client.send(9, client.sequence(1).wrapping_add(1), flags::ACK, 1);
    let came = client.segments(10 * MS);
    let merged = SackBlock {
        left: client.sequence(1),
        right: client.sequence(2).wrapping_add(1),
    };
    assert_eq!(came[0].options.sack.as_slice(), [merged]);
    // The gap is filled: all is in order.
    client.send(9, client.next, flags::ACK, 1);
    let came = client.segments(10 * MS);
    assert_eq!(came[0].acknowledgment, merged.right);
    assert_eq!(came[0].options.sack.as_slice(), []);
}

#[test]
fn a_duplicate_is_named_first() {
    for dsack in [true, false] {
        let mut client = open(Server {
            dsack,
            ..Server::default()
        });
        let mut last = Vec::new();
        for number in [1, 2, 1] {
            client.probe(number, 9);
            last = client.segments(10 * MS);
        }
        let named: &[u32] = if dsack { &[1, 1, 2] } else { &[1, 2] };
        assert_eq!(last[0].options.sack.as_slice(), client.blocks(named));
    }
}

#[test]
fn without_sack_an_ack_is_a_duplicate_and_no_more() {
    let mut client = open(Server {
        sack: false,
        ..Server::default()
    });
    for number in 1..=6 {
        client.probe(number, 9);
    }
    let came = client.segments(10 * MS);
    assert_eq!(came.len(), 6);
    for segment in came {
        assert_eq!(segment.acknowledgment, client.next);
        assert_eq!((segment.flags, segment.payload_len), (flags::ACK, 0));
        assert_eq!(segment.options.sack.as_slice(), []);
    }
}

#[test]
fn from_the_fourth_on_acks_wait_for_each_other() {
    let burst = |compresses| {
        let mut client = open(Server {
            compresses,
            ..Server::default()
        });
        for number in 1..=6 {
            client.probe(number, 9);
        }
        let came = client.wait(100 * MS);
        let times: Vec<_> = came.iter().map(|came| came.after).collect();
        let named: Vec<_> = came
            .into_iter()
            .map(|came| came.segment().options.sack.as_slice().to_vec())
            .collect();
        let expected = |numbers: &[&[u32]]| {
            let blocks = |numbers: &&[u32]| client.blocks(numbers);
            assert_eq!(named, numbers.iter().map(blocks).collect::<Vec<_>>());
        };
        expected(&[
            &[1],
            &[2, 1],
            &[3, 2, 1],
            &[4, 3, 2],
            &[5, 4, 3],
            &[6, 5, 4],
        ]);
        // The fourth waits; the fifth flushes it and waits, the sixth too; the
        // last comes after 5 % of the round trip, which is 4 ms.
        let waited = Duration::from_micros(if compresses { 200 } else { 0 });
        assert_eq!(times[..5], [4 * MS; 5]);
        assert_eq!(times[5], 4 * MS + waited);
    };
    burst(true);
    burst(false);
}

#[test]
fn behind_the_window_nothing_is_taken() {
    // 100 >> 3 << 3: the client sees 96.
    let mut client = open(Server {
        window: 100,
        window_scale: Some(3),
        ..Server::default()
    });
    client.probe(48, 9);
    assert_eq!(client.segments(10 * MS)[0].options.sack.as_slice().len(), 1);
    client.probe(49, 9);
    let came = client.segments(10 * MS);
    assert_eq!(came[0].options.sack.as_slice(), client.blocks(&[48]));
    assert!(matches!(
        client.fate(48),
        Fate::Server { accepted: true, .. }
    ));
    assert!(matches!(
        client.fate(49),
        Fate::Server {
            accepted: false,
            ..
        }
    ));
}

#[test]
fn a_window_of_zero_opens_later_without_sack() {
    let mut client = client(Server {
        window_opens: Some(50 * MS),
        ..Server::default()
    });
    assert_eq!(client.open().window, 0);
    client.wait(10 * MS);
    client.probe(1, 9);
    let came = client.segments(10 * MS);
    assert_eq!(
        (came[0].window, came[0].options.sack.as_slice().len()),
        (0, 0)
    );
    let came = client.segments(100 * MS);
    let [opened] = &came[..] else {
        panic!("{came:?}");
    };
    assert_eq!((opened.flags, opened.window), (flags::ACK, 65_160 >> 7));
    client.probe(2, 9);
    assert_eq!(client.segments(10 * MS)[0].options.sack.as_slice().len(), 1);
}

#[test]
fn it_refuses_or_says_nothing() {
    let mut refused = client(Server {
        answer: Answer::Refuses,
        ..Server::default()
    });
    refused.send(64, ISN, flags::SYN, 0);
    let came = refused.segments(100 * MS);
    assert_eq!(came[0].flags, flags::RST | flags::ACK);
    assert_eq!(came[0].acknowledgment, ISN.wrapping_add(1));
    let mut dropped = client(Server {
        answer: Answer::Drops,
        ..Server::default()
    });
    dropped.send(64, ISN, flags::SYN, 0);
    assert_eq!(dropped.wait(Duration::from_secs(10)), []);
}

#[test]
fn a_syn_ack_and_a_banner_come_again_until_they_are_acknowledged() {
    let mut client = client(Server {
        banner: 20,
        ..Server::default()
    });
    client.send(64, ISN, flags::SYN, 0);
    let came = client.wait(Duration::from_secs(4));
    let times: Vec<_> = came.iter().map(|came| came.after).collect();
    assert_eq!(times, [4 * MS, 1004 * MS, 3004 * MS]);
    client.open();
    let came = client.segments(Duration::from_millis(1500));
    assert_eq!(came.len(), 2);
    for banner in &came {
        assert_eq!(banner.payload_len, 20);
        assert_eq!(banner.sequence, client.acknowledgment);
    }
    client.acknowledgment = client.acknowledgment.wrapping_add(20);
    client.send(64, client.next, flags::ACK, 0);
    assert_eq!(client.wait(Duration::from_secs(60)), []);
    client.probe(1, 9);
    assert_eq!(client.segments(10 * MS)[0].sequence, client.acknowledgment);
}

#[test]
fn it_ends_in_mid_trace() {
    for end in [End::Fin, End::Rst] {
        let mut client = open(Server {
            ends: Some((2, end)),
            ..Server::default()
        });
        client.probe(1, 9);
        assert_eq!(client.segments(10 * MS)[0].flags, flags::ACK);
        client.probe(2, 9);
        let came = client.segments(10 * MS);
        let last = came.last().unwrap();
        match end {
            End::Fin => {
                assert_eq!(last.flags, flags::FIN | flags::ACK);
                let again = client.segments(Duration::from_millis(1500));
                assert_eq!((again.len(), again[0].sequence), (1, last.sequence));
                client.acknowledgment = last.sequence.wrapping_add(1);
                client.send(64, client.next, flags::ACK, 0);
                assert_eq!(client.wait(Duration::from_secs(60)), []);
            }
            End::Rst => {
                assert_eq!(last.flags & flags::RST, flags::RST);
                client.probe(3, 9);
                let stray = client.segments(10 * MS);
                assert_eq!(stray[0].flags, flags::RST);
            }
        }
    }
}

#[test]
fn only_an_exact_rst_closes() {
    let mut client = open(Server::default());
    client.probe(1, 9);
    client.wait(10 * MS);
    // In the window, but not where the server is: challenged (RFC 5961 §3.2).
    client.send(64, client.next.wrapping_add(2), flags::RST, 0);
    let came = client.segments(10 * MS);
    assert_eq!(came[0].flags, flags::ACK);
    client.send(64, client.next, flags::RST, 0);
    assert_eq!(client.wait(10 * MS), []);
    client.probe(2, 9);
    assert_eq!(client.segments(10 * MS)[0].flags, flags::RST);
}

#[test]
fn a_fin_of_ours_is_answered_and_the_queue_dropped() {
    let mut client = open(Server::default());
    client.probe(1, 9);
    client.wait(10 * MS);
    client.send(64, client.next, flags::FIN | flags::ACK, 0);
    let came = client.segments(10 * MS);
    assert_eq!(came[0].acknowledgment, client.next.wrapping_add(1));
    assert_eq!(came[0].options.sack.as_slice(), []);
    assert_eq!(came[1].flags, flags::FIN | flags::ACK);
}

#[test]
fn timestamps_are_checked() {
    let mut client = open(Server::default());
    client.probe(1, 9);
    let echoed = client.segments(10 * MS)[0].options.timestamps.unwrap().1;
    // What is out of order does not move TS.Recent (RFC 7323 §4.3).
    client.probe(2, 9);
    let again = client.segments(10 * MS)[0].options.timestamps.unwrap().1;
    assert_eq!(again, echoed);
    // Without timestamps: dropped.
    client.with_timestamps = false;
    client.probe(3, 9);
    assert_eq!(client.wait(10 * MS), []);
}
