//! Live frames: sending by the XDP program in place of the TX ring.

use insession::link::xdp::{Transmission, XdpLink, XdpMode, XdpOptions, ZeroCopy};
use insession::link::{Link, LinkError};

use crate::lab::NEAR;
use crate::lab::{Lab, with_pair};
use crate::owners::{CAP_IPC_LOCK, without_all_but_three};
use crate::{EXPERIMENTAL, counter, numbered, settle, write};

/// Whether this kernel says which interfaces take redirected frames (Linux 6.3); where
/// it does not, live frames are refused, which is seen here.
fn kernel_says(lab: &Lab) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    let says = version >= (6, 3);
    if !says {
        let error = open(lab, Transmission::Live).unwrap_err();
        assert!(error.to_string().contains("6.3"), "{error}");
    }
    says
}

fn open(lab: &Lab, transmission: Transmission) -> Result<XdpLink, LinkError> {
    let options = XdpOptions {
        transmission,
        ..XdpOptions::default()
    };
    XdpLink::open(&lab.interface(), &options)
}

fn send(link: &mut XdpLink, frames: std::ops::Range<u32>) {
    for n in frames {
        write(link, n).unwrap();
    }
    link.flush().unwrap();
}

fn arrive(mode: XdpMode) {
    with_pair(1, |lab| {
        lab.far_takes_redirected(true);
        if !kernel_says(lab) {
            return;
        }
        let far = lab.far_socket(EXPERIMENTAL);
        let options = XdpOptions {
            mode,
            transmission: Transmission::Live,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        let total = link.room() as u32;
        assert_eq!(link.batch(), total as usize);
        let mut first = 0;
        // Few go by the ring, which keeps its order with the others.
        for count in [total, 1, 40, 15, 16, 3, total, 17] {
            let before = link.now();
            send(&mut link, first..first + count);
            let after = link.now();
            let mut times = vec![before; total as usize];
            let known = link.departures(&mut times);
            assert_eq!(known as u32, if count < 16 { 0 } else { count });
            assert!(times[..known].is_sorted());
            assert!(
                times[..known]
                    .iter()
                    .all(|at| (before..=after).contains(at))
            );
            for n in first..first + count {
                assert_eq!(far.receive(), Some(numbered(n)), "frame {n} of {count}");
            }
            first += count;
        }
        settle(&mut link);
        assert_eq!((link.room() as u32, link.in_flight()), (total, 0));
        let by_ring = 1 + 15 + 3;
        assert_eq!(counter(&mut link, "tx-live"), u64::from(first - by_ring));
        for label in ["tx-unsent", "xsk-tx-invalid", "unknown-frame"] {
            assert_eq!(counter(&mut link, label), 0, "{label}");
        }
    });
}

#[test]
fn frames_arrive_byte_for_byte_beside_the_driver() {
    arrive(XdpMode::Native);
}

#[test]
fn frames_arrive_byte_for_byte_beside_the_generic_path() {
    arrive(XdpMode::Generic);
}

#[test]
fn a_long_frame_goes_by_the_ring_beside_live_ones() {
    with_pair(1, |lab| {
        lab.far_takes_redirected(true);
        if !kernel_says(lab) {
            return;
        }
        let far = lab.far_socket(EXPERIMENTAL);
        let mut link = open(lab, Transmission::Live).unwrap();
        let mut long = numbered(1_000);
        long.resize(1514, 0x5a);
        for n in 0..40 {
            if n == 20 {
                link.transmit_long(&long).unwrap();
            }
            write(&mut link, n).unwrap();
        }
        link.flush().unwrap();
        // Which of them left when, nobody can tell by their order.
        let mut times = vec![link.now(); 64];
        assert_eq!(link.departures(&mut times), 0);
        let mut arrived: Vec<_> = (0..41).map(|_| far.receive().unwrap()).collect();
        let mut expected: Vec<_> = (0..40).map(numbered).collect();
        expected.push(long);
        arrived.sort();
        expected.sort();
        assert_eq!(arrived, expected);
        assert_eq!(counter(&mut link, "tx-live"), 40);
        send(&mut link, 0..40);
        assert_eq!(link.departures(&mut times), 40, "the next batch is as ever");
        let longest = link.longest_frame();
        assert!(longest >= 1514);
        let error = link.transmit_long(&vec![0; longest + 1]).unwrap_err();
        assert!(matches!(error, LinkError::Unsupported { .. }), "{error}");
    });
}

#[test]
fn the_ring_is_used_unasked_where_frames_would_be_lost() {
    with_pair(1, |lab| {
        let far = lab.far_socket(EXPERIMENTAL);
        let mut link = open(lab, Transmission::Auto).unwrap();
        send(&mut link, 0..64);
        for n in 0..64 {
            assert_eq!(far.receive(), Some(numbered(n)));
        }
        assert_eq!(counter(&mut link, "tx-live"), 0);
        drop(link);
        let error = open(lab, Transmission::Live).unwrap_err();
        assert!(matches!(error, LinkError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(NEAR), "{error}");
        if !kernel_says(lab) {
            return;
        }
        lab.far_takes_redirected(true);
        let mut link = open(lab, Transmission::Auto).unwrap();
        send(&mut link, 0..64);
        assert_eq!(counter(&mut link, "tx-live"), 64);
    });
}

#[test]
fn the_ring_takes_over_when_the_other_end_changes() {
    with_pair(1, |lab| {
        lab.far_takes_redirected(true);
        if !kernel_says(lab) {
            return;
        }
        let far = lab.far_socket(EXPERIMENTAL);
        let mut link = open(lab, Transmission::Live).unwrap();
        send(&mut link, 0..64);
        for n in 0..64 {
            assert_eq!(far.receive(), Some(numbered(n)));
        }
        lab.far_takes_redirected(false);
        let until = link.now() + insession::time::Duration::from_millis(300);
        while link.now() < until {
            link.wait(until).unwrap();
        }
        assert_eq!(counter(&mut link, "tx-live"), 64);
        send(&mut link, 64..128);
        for n in 64..128 {
            assert_eq!(far.receive(), Some(numbered(n)));
        }
        assert_eq!(counter(&mut link, "tx-live"), 64, "by the ring");
    });
}

#[test]
fn links_of_several_queues_send_each_its_own() {
    with_pair(2, |lab| {
        lab.far_takes_redirected(true);
        if !kernel_says(lab) {
            return;
        }
        let far = lab.far_socket(EXPERIMENTAL);
        let options = XdpOptions {
            transmission: Transmission::Live,
            ..XdpOptions::default()
        };
        let mut links = XdpLink::open_queues(&lab.interface(), &options).unwrap();
        assert_eq!(links.len(), 2);
        // Written in turn, sent one after the other.
        let [first, second] = &mut links[..] else {
            unreachable!()
        };
        for n in 0..100 {
            let link = if n % 2 == 0 {
                &mut *first
            } else {
                &mut *second
            };
            write(link, n).unwrap();
        }
        second.flush().unwrap();
        first.flush().unwrap();
        let order = (1..100).step_by(2).chain((0..100).step_by(2));
        for n in order {
            assert_eq!(far.receive(), Some(numbered(n)), "frame {n}");
        }
        for link in &mut links {
            assert_eq!(counter(link, "tx-live"), 50);
        }
    });
}

#[test]
fn zero_copy_and_live_frames_exclude_each_other() {
    with_pair(1, |lab| {
        let options = XdpOptions {
            transmission: Transmission::Live,
            zero_copy: ZeroCopy::On,
            ..XdpOptions::default()
        };
        let error = XdpLink::open(&lab.interface(), &options).unwrap_err();
        assert!(matches!(error, LinkError::Unsupported { .. }), "{error}");
    });
}

#[test]
fn three_capabilities_are_enough() {
    with_pair(1, |lab| {
        lab.far_takes_redirected(true);
        if !kernel_says(lab) {
            return;
        }
        let far = lab.far_socket(EXPERIMENTAL);
        // Another test changes the limit of locked memory meanwhile.
        without_all_but_three(&[CAP_IPC_LOCK]);
        let options = XdpOptions {
            transmission: Transmission::Live,
            ..XdpOptions::default()
        };
        let mut link = XdpLink::open(&lab.interface(), &options).unwrap();
        send(&mut link, 0..64);
        for n in 0..64 {
            assert_eq!(far.receive(), Some(numbered(n)));
        }
        assert_eq!(counter(&mut link, "tx-live"), 64);
    });
}
