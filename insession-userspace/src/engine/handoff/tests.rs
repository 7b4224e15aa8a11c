//! Rings in memory, pipes for wakers.

use std::collections::VecDeque;
use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::session::Flow;
use crate::trace::LinkInfo;

/// The ends of so many workers, and what their wakers write to.
fn team(workers: usize, octets: usize) -> (Vec<Handoff>, Vec<std::io::PipeReader>) {
    let (woken, wakers): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (woken, waker) = std::io::pipe().unwrap();
            (woken, Some(Arc::new(OwnedFd::from(waker))))
        })
        .unzip();
    (Handoff::with_rings(&wakers, octets), woken)
}

/// How often each was woken, when all wakers are gone.
fn wakes(woken: Vec<std::io::PipeReader>) -> Vec<usize> {
    let count = |mut woken: std::io::PipeReader| {
        let mut wakes = Vec::new();
        woken.read_to_end(&mut wakes).unwrap();
        wakes.len() / 8
    };
    woken.into_iter().map(count).collect()
}

fn frame(bytes: &[u8], session: SessionId) -> Received<'_> {
    Received {
        bytes,
        at: Instant::from_nanos(u64::from(session) << 20),
        session,
        kind: SteerKind::RewrittenQuote,
        l3_offset: 14,
        outgoing: false,
    }
}

/// A frame whose length and content follow from its number.
fn numbered(n: u32) -> Vec<u8> {
    let length = 14 + n as usize * 37 % 1500;
    (0..length).map(|at| (at as u32 ^ n) as u8).collect()
}

const WORKER_BIT: u32 = 22;

proptest! {
    #[test]
    fn slices_are_apart_and_cover_all(first: u16, length in 0u16..5_000, workers in 1usize..=32) {
        let all = first..=first.saturating_add(length);
        let (ends, _woken) = team(workers, 64);
        let slices: Vec<_> = ends.iter().map(|end| end.ports(&all)).collect();
        let mut next = u32::from(first);
        for (slice, number) in slices.iter().zip(0..) {
            let Some(slice) = slice else { continue };
            prop_assert_eq!(u32::from(*slice.start()), next);
            next = u32::from(*slice.end()) + 1;
            for port in [*slice.start(), *slice.end()] {
                prop_assert_eq!(ends[0].owner(&all, port), Some(number));
            }
        }
        prop_assert_eq!(next, u32::from(*all.end()) + 1);
        let got = slices.iter().flatten().count();
        prop_assert_eq!(got, workers.min(all.len()));
        if let Some(outside) = all.end().checked_add(1) {
            prop_assert_eq!(ends[0].owner(&all, outside), None);
        }
    }

    /// What was given arrives once, whole and in order, however the ring wraps;
    /// what was refused does not.
    #[test]
    fn frames_arrive_as_they_were(octets in 1_600usize..8_000, batches in prop::collection::vec(0u32..6, 1..40)) {
        let (mut ends, _woken) = team(2, octets);
        let (mut expected, mut n, mut lost) = (VecDeque::new(), 0, 0);
        let [one, two] = &mut ends[..] else { unreachable!() };
        for batch in batches {
            for _ in 0..batch {
                let bytes = numbered(n);
                let id = 1 << WORKER_BIT | n;
                if one.give(1, &frame(&bytes, id)) {
                    expected.push_back((id, bytes));
                } else {
                    lost += 1;
                }
                n += 1;
            }
            let taken = two.take(&mut |got| {
                let (id, bytes) = expected.pop_front().unwrap();
                assert_eq!(got.bytes, bytes);
                assert_eq!((got.session, got.at), (id, frame(&[], id).at));
                assert_eq!((got.kind, got.l3_offset), (SteerKind::RewrittenQuote, 14));
                assert!(!got.outgoing);
                true
            });
            prop_assert_eq!(taken.unclaimed, 0);
            prop_assert!(expected.is_empty());
        }
        let mut counters = Vec::new();
        one.count(&mut counters);
        prop_assert_eq!(counters, [(HANDED, u64::from(n - lost)), (FULL, u64::from(lost))]);
    }
}

#[test]
fn a_full_ring_drops_and_counts() {
    let (mut ends, _woken) = team(3, 4_096);
    let bytes = [0; 1_000];
    let given = (0..10).filter(|_| ends[0].give(1, &frame(&bytes, 1 << WORKER_BIT)));
    assert_eq!(given.count(), 4);
    // The others' rings are not.
    assert!(ends[0].give(2, &frame(&bytes, 2 << WORKER_BIT)));
    assert!(ends[2].give(1, &frame(&bytes, 1 << WORKER_BIT)));
    let mut counters = Vec::new();
    ends[0].count(&mut counters);
    assert_eq!(counters, [(HANDED, 5), (FULL, 6)]);
    assert!(!ends[0].give(0, &frame(&bytes, 0)), "to itself");
    assert!(!ends[0].give(3, &frame(&bytes, 0)), "to nobody");
}

/// Who has a frame without a session: the worker of its port first, then the others
/// in turn, each once; then it is nobody's.
#[test]
fn a_frame_without_a_session_comes_to_each_once() {
    for owner in [None, Some(1), Some(2), Some(3), Some(200)] {
        let (mut ends, _woken) = team(4, 4_096);
        assert!(ends[1].pass(&frame(&[7; 60], UNRESOLVED), owner));
        let (mut seen, mut unclaimed) = (Vec::new(), 0);
        // Whoever is asked first: it comes to them one after the other.
        for _ in 0..4 {
            for end in &mut ends {
                let number = end.number();
                let taken = end.take(&mut |got| {
                    assert_eq!((got.bytes, got.session), (&[7; 60][..], UNRESOLVED));
                    seen.push(number);
                    false
                });
                unclaimed += taken.unclaimed;
            }
        }
        let first = owner.filter(|owner| [2, 3].contains(owner)).unwrap_or(2);
        assert_eq!(seen[0], first, "{owner:?}");
        seen.sort_unstable();
        assert_eq!(seen, [0, 2, 3]);
        assert_eq!(unclaimed, 1);
    }
}

#[test]
fn a_frame_that_is_claimed_or_has_a_session_goes_no_further() {
    let (mut ends, _woken) = team(3, 4_096);
    ends[0].pass(&frame(&[7; 60], UNRESOLVED), None);
    assert_eq!(ends[1].take(&mut |_| true).frames, 1);
    ends[0].give(1, &frame(&[7; 60], 1 << WORKER_BIT));
    let taken = ends[1].take(&mut |_| false);
    assert_eq!((taken.frames, taken.unclaimed), (1, 1));
    for end in &mut ends {
        assert_eq!(end.take(&mut |_| true), Taken::default());
    }
}

#[test]
fn who_sleeps_is_woken_once_a_batch() {
    let (mut ends, woken) = team(3, 4_096);
    let give = |ends: &mut Vec<Handoff>, to: u32| {
        ends[0].give(to as u8, &frame(&[1; 60], to << WORKER_BIT));
    };
    assert!(ends[1].may_sleep());
    assert!(ends[2].may_sleep());
    ends[2].awake();
    for to in [1, 1, 1, 2] {
        give(&mut ends, to);
    }
    ends[0].wake();
    // Once more, though it has not looked yet: it is awake by now.
    give(&mut ends, 1);
    ends[0].wake();
    assert!(!ends[1].may_sleep(), "something is there");
    assert_eq!(ends[1].take(&mut |_| true).frames, 4);
    assert!(ends[1].may_sleep());
    ends[0].wake();
    // They end awake, so that no end wakes them.
    ends.iter().for_each(Handoff::awake);
    drop(ends);
    assert_eq!(wakes(woken), [0, 1, 0]);
}

/// Two real threads: the taker sleeps whenever it may, and no wake is missed.
#[test]
fn no_wake_is_missed() {
    const COUNT: u32 = 20_000;
    let (mut ends, mut woken) = team(2, 1 << 16);
    let (mut two, mut one) = (ends.pop().unwrap(), ends.pop().unwrap());
    let mut woken = woken.pop().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut got = 0;
            while got < COUNT {
                two.take(&mut |frame| {
                    assert_eq!(frame.session, 1 << WORKER_BIT | got);
                    got += 1;
                    true
                });
                if got < COUNT && two.may_sleep() {
                    // Ends with an error, not never, if the giver is gone.
                    woken.read_exact(&mut [0; 8]).unwrap();
                    two.awake();
                }
            }
        });
        for n in 0..COUNT {
            let bytes = [n as u8; 80];
            while !one.give(1, &frame(&bytes, 1 << WORKER_BIT | n)) {
                std::thread::yield_now();
            }
            if n % 7 == 0 || n + 1 == COUNT {
                one.wake();
            }
        }
        drop(one);
    });
}

/// A link that has these frames, one a call, and ends its waits at once.
struct Scripted(VecDeque<SessionId>);

impl Link for Scripted {
    fn info(&self) -> LinkInfo {
        LinkInfo {
            kind: "sim",
            mode: None,
            zero_copy: false,
            interface: "sim1".into(),
        }
    }
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn add_flow(&mut self, _: &Flow, _: SessionId) -> Result<(), LinkError> {
        Ok(())
    }
    fn remove_flow(&mut self, _: &Flow) {}
    fn room(&mut self) -> usize {
        0
    }
    fn transmit(&mut self, _: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
        Err(LinkError::Full)
    }
    fn flush(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
    fn receive(
        &mut self,
        _: usize,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<usize, LinkError> {
        let next = self.0.pop_front();
        Ok(next.map_or(0, |id| {
            each(frame(&[3; 60], id));
            1
        }))
    }
    fn wait(&mut self, _: Instant) -> Result<(), LinkError> {
        std::thread::yield_now();
        Ok(())
    }
    fn counters(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// A worker that has ended hands on what its queue receives, as long as another has
/// not.
#[test]
fn a_queue_is_served_until_all_have_ended() {
    let (mut ends, _woken) = team(2, 4_096);
    let mut one = ends.pop().unwrap();
    let mut zero = ends.pop().unwrap();
    let ids = [1 << WORKER_BIT, UNRESOLVED, 5, 1 << WORKER_BIT];
    let unclaimed = std::thread::scope(|scope| {
        let served = scope.spawn(move || zero.serve(&mut Scripted(ids.into())).unwrap());
        let mut got = Vec::new();
        while got.len() < 3 {
            one.take(&mut |frame| {
                got.push(frame.session);
                true
            });
            std::thread::yield_now();
        }
        assert_eq!(got, [1 << WORKER_BIT, UNRESOLVED, 1 << WORKER_BIT]);
        assert!(!served.is_finished());
        // As when it panics.
        drop(one);
        served.join().unwrap()
    });
    assert_eq!(unclaimed, 1, "that of a session which was its own");
}
