//! Ending: what closes the connection, and what the kernel's is.

use super::*;

fn complete(options: SessionOptions) -> Script {
    let mut script = Script::open(options, 1);
    script.take();
    script.wait(ms(5));
    script.sacked(&[1]);
    assert_eq!(script.verdict(), Some(Verdict::Complete));
    script
}

/// RFC 5961 §3.2 accepts no other.
#[test]
fn the_closing_rst_stands_exactly_where_the_peer_expects_the_next_byte() {
    let mut script = complete(options());
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Rst);
    let rst = sent[0].segment;
    assert_eq!(
        (rst.sequence, rst.flags),
        (ISN + 1, flags::RST | flags::ACK)
    );
    assert_eq!((rst.ttl, rst.payload_len), (64, 0));
    assert_eq!(rst.acknowledgment, PEER_ISN + 1);
    assert!(script.session.is_finished());
    assert_eq!(
        script.session.poll_timeout(&script.options, script.now),
        None
    );
}

fn polite() -> SessionOptions {
    SessionOptions {
        close: CloseMode::Fin,
        ..options()
    }
}

#[test]
fn a_fin_is_followed_by_the_rst_behind_it() {
    let mut script = complete(polite());
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Fin);
    let fin = sent[0].segment;
    assert_eq!(
        (fin.sequence, fin.flags),
        (ISN + 1, flags::FIN | flags::ACK)
    );
    assert!(!script.session.is_finished());
    // An ACK that was under way.
    script.wait(ms(5));
    script.sacked(&[1]);
    assert_eq!(script.take(), []);
    let mut ack = script.ack();
    ack.acknowledgment = ISN + 2;
    script.segment(ack);
    let sent = script.take();
    assert_eq!(
        (sent[0].kind, sent[0].segment.sequence),
        (TransmitKind::Rst, ISN + 2)
    );
    assert!(script.session.is_finished());
    assert_eq!(sent.len(), 1);
}

/// Whether it arrived is not known: one of two sequence numbers is right.
#[test]
fn a_fin_without_an_answer_is_followed_by_both_rsts() {
    let mut script = complete(polite());
    let fin = script.now;
    let (at, timer) = script
        .session
        .poll_timeout(&script.options, script.now)
        .unwrap();
    assert_eq!((at.since(fin), timer), (ms(1000), Timer::CloseTimeout));
    script.take();
    script.wait(ms(1000));
    let sent = script.take();
    let sequences: Vec<_> = sent
        .iter()
        .map(|sent| (sent.kind, sent.segment.sequence))
        .collect();
    assert_eq!(
        sequences,
        [(TransmitKind::Rst, ISN + 1), (TransmitKind::Rst, ISN + 2)]
    );
    assert!(script.session.is_finished());
    // What the trace took is not what closing took.
    assert_eq!(script.report().ended, fin);
}

#[test]
fn a_rst_in_answer_to_the_fin_ends_it() {
    let mut script = complete(polite());
    script.take();
    script.segment(script.reset_segment());
    assert!(script.session.is_finished());
    assert_eq!(script.take(), []);
}

#[test]
fn after_the_verdict_replies_change_nothing() {
    let mut script = complete(SessionOptions {
        probes: 1,
        ..polite()
    });
    let events = script.events.len();
    let error = script.exceeded(1);
    script.icmp(error);
    script.sacked(&[1]);
    let mut fin = script.ack();
    fin.flags |= flags::FIN;
    script.segment(fin);
    assert_eq!(script.events.len(), events);
    assert_eq!(script.kind(1), Some(ReplyKind::Sack));
}

/// Every state, and what must be sent to leave nothing open.
#[test]
fn abort_closes_whatever_is_open() {
    type Make = fn() -> Script;
    let states: [(Make, &[u32]); 8] = [
        // The SYN may have arrived.
        (|| Script::new(options()), &[ISN + 1]),
        (|| Script::open(options(), 20), &[ISN + 1]),
        (
            || Script::open_with(options(), 20, |hello| hello.window = 0),
            &[ISN + 1],
        ),
        // The peer has closed, and answers are awaited.
        (
            || {
                let mut script = Script::open(
                    SessionOptions {
                        max_ttl: 3,
                        ..options()
                    },
                    20,
                );
                let mut fin = script.ack();
                fin.flags |= flags::FIN;
                script.segment(fin);
                script
            },
            &[ISN + 1],
        ),
        // It has reset it.
        (
            || {
                let mut script = Script::open(
                    SessionOptions {
                        max_ttl: 3,
                        ..options()
                    },
                    20,
                );
                script.segment(script.reset_segment());
                script
            },
            &[],
        ),
        // A second connection is being opened.
        (
            || {
                let mut script = Script::open(
                    SessionOptions {
                        gap_limit: 20,
                        ..options()
                    },
                    20,
                );
                script.segment(script.reset_segment());
                script
            },
            &[ISN + (1 << 28) + 1],
        ),
        // A FIN is not answered yet.
        (|| complete(polite()), &[ISN + 1, ISN + 2]),
        (|| complete(options()), &[]),
    ];
    for (nth, (make, expected)) in states.into_iter().enumerate() {
        let mut script = make();
        let verdict = script.verdict();
        script.take();
        script
            .session
            .abort(script.now, Verdict::Interrupted, Some("stop".into()));
        script.drain();
        let sent = script.take();
        assert!(
            sent.iter().all(|sent| sent.kind == TransmitKind::Rst),
            "{nth}"
        );
        let sequences: Vec<_> = sent.iter().map(|sent| sent.segment.sequence).collect();
        assert_eq!(sequences, expected, "{nth}");
        assert!(script.session.is_finished(), "{nth}");
        assert_eq!(
            script.verdict(),
            Some(verdict.unwrap_or(Verdict::Interrupted))
        );
        let report = script.report();
        let probes: usize = report.hops.iter().map(|hop| hop.probes.len()).sum();
        assert_eq!(probes, script.probes_sent(), "{nth}");
    }
}

#[test]
fn abort_before_the_syn_sends_nothing() {
    let now = Instant::from_nanos(77);
    let mut session = Session::new(flow(), ISN, 0, 1460, now);
    session.abort(now, Verdict::NoRoute, Some("no neighbour".into()));
    assert!(session.is_finished());
    assert!(!session.wants_transmit(&options(), now));
    assert_eq!(session.poll_transmit(&options(), now), None);
    let report = session.into_report(now);
    assert_eq!((report.verdict, report.started), (Verdict::NoRoute, now));
    assert_eq!(report.detail.as_deref(), Some("no neighbour"));
}

mod with_the_kernel_s_connection {
    use super::*;

    fn kernel() -> SessionOptions {
        SessionOptions {
            handshaker: Handshaker::Kernel,
            ..options()
        }
    }

    const KERNEL_ISN: u32 = 0xFFFF_FFF0;

    fn own_syn(script: &mut Script, tsval: u32) {
        let options = Options {
            timestamps: Some((tsval, 0)),
            window_scale: Some(11),
            ..Options::default()
        };
        script.isn = KERNEL_ISN;
        script.reply(&Reply::OwnSyn {
            sequence: KERNEL_ISN,
            options,
        });
    }

    /// The kernel sends SYN, ACK and RST; we send probes in its sequence space,
    /// by its clock.
    #[test]
    fn only_probes_are_sent() {
        use crate::wire::template::SegmentOptions;
        let mut script = Script::new(kernel());
        assert_eq!(script.take(), []);
        script.wait(ms(3));
        own_syn(&mut script, 42_000);
        assert_eq!(script.take(), []);
        script.wait(ms(10));
        let mut hello = script.syn_ack();
        hello.ttl = 60;
        hello.options.timestamps = Some((500, 42_000));
        script.segment(hello);
        let sent = script.take();
        assert_eq!(sent.len(), 4);
        for (nth, sent) in (1..).zip(&sent) {
            assert_eq!(sent.kind, TransmitKind::Probe(number(nth)));
            // The peer shifts it by what the kernel's SYN said.
            assert_eq!(sent.segment.window, 64_240 >> 11);
            assert_eq!(
                sent.segment.sequence,
                KERNEL_ISN.wrapping_add(2 * u32::from(nth))
            );
            match sent.segment.options {
                // Never behind the kernel's, whose clock went on by 10 ms.
                SegmentOptions::Timestamps { tsval, tsecr } => {
                    assert_eq!((tsval, tsecr), (42_011, 500));
                }
                other => panic!("{other:?}"),
            }
        }
        // The kernel acknowledges data and a SYN-ACK again.
        let mut data = script.ack();
        data.payload_len = 10;
        script.segment(data);
        let again = script.syn_ack();
        script.segment(again);
        assert_eq!(script.take(), []);
        script.wait(ms(10));
        script.routers_answer(1..=4);
        let mut ack = script.sack(&[5]);
        ack.sequence += 10;
        script.segment(ack);
        assert_eq!(script.verdict(), Some(Verdict::Complete));
        assert!(
            script.session.is_finished(),
            "the link closes the kernel's connection"
        );
        assert!(
            script
                .take()
                .iter()
                .all(|sent| matches!(sent.kind, TransmitKind::Probe(_)))
        );
        let report = script.report();
        assert_eq!(report.handshake.unwrap().rtt, ms(10));
        assert_eq!(report.destination_ttl, Some(5));
    }

    #[test]
    fn a_syn_of_the_kernel_again_is_the_same_session_s() {
        let mut script = Script::new(kernel());
        own_syn(&mut script, 42_000);
        let started = script.session.probes.start();
        script.wait(ms(1000));
        own_syn(&mut script, 43_000);
        script.wait(ms(1000));
        assert_eq!(script.session.probes.start(), started);
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::HandshakeTimeout);
        assert_eq!(report.ended.since(started), ms(5000));
        assert_eq!(script.take(), []);
    }

    /// A connection that never comes (the link could not have it made).
    #[test]
    fn no_syn_of_the_kernel_is_a_handshake_timeout() {
        let mut script = Script::new(kernel());
        let start = script.now;
        let report = script.finish();
        assert_eq!(report.verdict, Verdict::HandshakeTimeout);
        assert_eq!(report.ended.since(start), ms(5000));
        assert_eq!(script.take(), []);
    }

    #[test]
    fn the_kernel_s_connection_is_not_reopened_and_strays_are_its_own() {
        let mut script = Script::new(SessionOptions {
            gap_limit: 20,
            ..kernel()
        });
        own_syn(&mut script, 1);
        let mut challenge = script.ack();
        challenge.acknowledgment = 12_345;
        script.segment(challenge);
        assert_eq!(script.take(), []);
        let hello = script.syn_ack();
        script.segment(hello);
        script.take();
        let mut fin = script.ack();
        fin.flags |= flags::FIN;
        script.segment(fin);
        assert_eq!(script.finish().verdict, Verdict::ClosedByPeer);
        assert_eq!(script.take(), []);
    }

    /// Two that make handshakes would be one too many.
    #[test]
    fn a_syn_of_the_kernel_means_nothing_to_a_session_that_makes_its_own() {
        let mut script = Script::new(options());
        script.reply(&Reply::OwnSyn {
            sequence: 5,
            options: Options::default(),
        });
        let hello = script.syn_ack();
        script.segment(hello);
        assert_eq!(script.events, [Event::Established]);
    }
}
