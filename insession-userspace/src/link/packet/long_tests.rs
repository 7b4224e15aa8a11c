//! Frames longer than a probe's, among others.

use super::*;

fn written() -> Outgoing {
    let mut outgoing = Outgoing::new();
    for (nth, length) in [(0, 60), (1, 1514), (2, 1400), (3, 61)] {
        let frame = vec![nth as u8; length];
        if length > MAX_FRAME {
            assert!(outgoing.push_long(&frame));
            continue;
        }
        outgoing.frames[nth][..length].copy_from_slice(&frame);
        outgoing.lengths[nth] = length;
        outgoing.end += 1;
    }
    outgoing
}

#[test]
fn they_stand_where_they_were_written_however_many_are_taken_at_a_time() {
    let all = [(0, 60), (1, 1514), (2, 1400), (3, 61)];
    for step in 1..=4 {
        let mut outgoing = written();
        for taken in (0..all.len()).step_by(step) {
            let left = outgoing.pending().map(|frame| (frame[0], frame.len()));
            assert_eq!(left.collect::<Vec<_>>(), all[taken..], "{step} at a time");
            outgoing.took(step);
        }
        assert_eq!(outgoing.pending().count(), 0);
        assert!(outgoing.long.is_empty());
    }
}

#[test]
fn where_there_is_no_room_they_are_not_taken() {
    let mut outgoing = Outgoing::new();
    for _ in 0..ROOM {
        assert!(outgoing.push_long(&[7; 1514]));
    }
    assert!(!outgoing.push_long(&[7; 1514]));
    assert_eq!((outgoing.end, outgoing.long.len()), (ROOM, ROOM));
}
