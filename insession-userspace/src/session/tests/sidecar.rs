//! Probes inside a connection that carries a conversation: ours; below, the kernel's.

mod adopted;

use super::*;
use crate::trace::Rewrite;

/// There is more to ask for however long.
fn patient() -> SessionOptions {
    SessionOptions {
        gap_limit: 30,
        ..options()
    }
}

/// Octet `nth` of what is said.
fn octet(nth: u32) -> u8 {
    (nth % 251) as u8 + 1
}

fn said(octets: u32) -> Vec<u8> {
    (0..octets).map(octet).collect()
}

/// A session that carries a request of so many octets, and has sent its SYN.
fn carrying(options: SessionOptions, octets: u32) -> Script {
    let now = Instant::from_nanos(5_000_000_000_000);
    Script::with(options, ISN, |session| session.carry(said(octets), now))
}

/// The same with its connection open, `hops` away.
fn asking(options: SessionOptions, octets: u32, hops: u8) -> Script {
    let mut script = carrying(options, octets);
    assert_eq!(script.kinds(), [TransmitKind::Syn]);
    script.wait(RTT);
    let mut hello = script.syn_ack();
    hello.ttl = 65 - hops;
    script.segment(hello);
    script
}

/// The peer has this many octets of the request.
fn has(script: &mut Script, octets: u32) {
    let mut ack = script.ack();
    ack.acknowledgment = ISN + 1 + octets;
    script.segment(ack);
}

/// The same, and its request is acknowledged.
fn probing(options: SessionOptions, octets: u32, hops: u8) -> Script {
    let mut script = asking(options, octets, hops);
    script.take();
    script.wait(RTT);
    has(&mut script, octets);
    script
}

/// What the peer says to an octet that it has already.
fn again(script: &Script, nth: u16, octets: u32) -> Segment {
    let sequence = script.sequence(nth);
    let mut ack = script.sack_blocks(&[(sequence, sequence + 1)]);
    ack.acknowledgment = ISN + 1 + octets;
    ack
}

#[test]
fn the_request_is_sent_once_the_connection_is_open_and_probes_are_octets_of_it() {
    let mut script = asking(options(), 400, 20);
    let sent = script.take();
    let parts: Vec<_> = sent
        .iter()
        .map(|sent| (sent.kind, sent.segment.sequence, sent.segment.payload_len))
        .collect();
    assert_eq!(
        parts,
        [
            (TransmitKind::Ack, ISN + 1, 0),
            (TransmitKind::Data, ISN + 1, 158),
            (TransmitKind::Data, ISN + 159, 158),
            (TransmitKind::Data, ISN + 317, 84),
        ]
    );
    let whole: Vec<u8> = sent[1..]
        .iter()
        .flat_map(|sent| script.session.content(&sent.segment).unwrap().to_vec())
        .collect();
    assert_eq!(whole, said(400));
    assert_eq!(sent[1].segment.ttl, 64);
    assert_eq!(sent[1].segment.acknowledgment, PEER_ISN + 1);
    // Half of it is not all of it.
    script.wait(RTT);
    has(&mut script, 158);
    assert_eq!(script.take(), []);
    has(&mut script, 400);
    let probes = script.take();
    assert_eq!(probes.len(), 8);
    for (nth, probe) in (0..).zip(&probes) {
        let segment = &probe.segment;
        assert_eq!(segment.sequence, ISN + 2 + 2 * nth);
        assert_eq!((segment.ttl, segment.payload_len), (nth as u8 + 1, 1));
        let content = script.session.content(segment);
        assert_eq!(content, Some(&[octet(1 + 2 * nth)][..]));
    }
    assert_eq!(script.session.method(), Method::Sidecar);
}

#[test]
fn a_duplicate_sack_names_the_probe_that_arrived() {
    let mut script = probing(options(), 400, 3);
    script.take();
    script.wait(ms(5));
    script.routers_answer([1, 2]);
    assert_eq!(script.take_ttls(), [3]);
    script.segment(again(&script, 3, 400));
    assert_eq!(script.kind(3), Some(ReplyKind::Sack));
    assert_eq!(script.verdict(), Some(Verdict::Complete));
    // The connection goes on behind the request, and ends there.
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Rst);
    assert_eq!(sent[0].segment.sequence, ISN + 401);
    let report = script.finish();
    assert_eq!(report.method, Method::Sidecar);
    assert_eq!(report.destination_ttl, Some(3));
}

#[test]
fn the_response_is_acknowledged_and_answers_no_probe() {
    let mut script = probing(options(), 400, 3);
    script.take();
    let mut response = script.ack();
    (response.acknowledgment, response.payload_len) = (ISN + 401, 700);
    (response.flags, response.window) = (flags::ACK | flags::PSH, 1);
    script.segment(response);
    let sent = script.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, TransmitKind::Ack);
    assert_eq!(
        (sent[0].segment.sequence, sent[0].segment.acknowledgment),
        (ISN + 401, PEER_ISN + 701)
    );
    assert!((1..=2).all(|nth| script.kind(nth).is_none()));
    // Its window is none for what the peer has already.
    script.wait(ms(5));
    script.routers_answer([1, 2]);
    script.segment(again(&script, 3, 400));
    assert_eq!(script.verdict(), Some(Verdict::Complete));
}

#[test]
fn a_request_that_is_not_acknowledged_is_sent_again_ever_later_and_given_up() {
    let mut script = asking(options(), 300, 3);
    let first = script.take();
    assert_eq!(first.len(), 3);
    script.wait(ms(989));
    assert_eq!(script.take(), []);
    script.wait(ms(11));
    let second = script.take();
    let sequences =
        |sent: &[Transmit]| -> Vec<u32> { sent.iter().map(|sent| sent.segment.sequence).collect() };
    assert_eq!(sequences(&second), sequences(&first[1..]));
    // A part got there: the rest is what is sent again.
    has(&mut script, 158);
    assert_eq!(script.take(), []);
    script.wait(ms(2_000));
    assert_eq!(sequences(&script.take()), [ISN + 159]);
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::HandshakeTimeout);
    assert_eq!(
        report.detail.as_deref(),
        Some("the request was not acknowledged")
    );
    assert_eq!(script.kinds().last(), Some(&TransmitKind::Rst));
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    // More than may be in flight.
    let mut script = asking(options(), 4_000, 3);
    assert_eq!(script.take().len(), 11);
    has(&mut script, 1_581);
    assert_eq!(script.take(), []);
    has(&mut script, 1_580);
    let more = script.take();
    assert_eq!(more.len(), 10);
    assert_eq!(more[0].segment.sequence, ISN + 1_581);
}

#[test]
fn a_peer_that_answers_by_bare_duplicate_acks_is_found_by_two_of_them() {
    let mut script = probing(
        SessionOptions {
            max_ttl: 2,
            ..options()
        },
        400,
        2,
    );
    let bare = |script: &Script| {
        let mut ack = script.ack();
        ack.acknowledgment = ISN + 401;
        ack
    };
    for _ in 0..6 {
        script.wait(ms(300));
        script.routers_answer(script.session.probe(number(1)).map(|_| 1));
        if script.verdict().is_some() {
            break;
        }
        script.segment(bare(&script));
    }
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Complete);
    assert_eq!(report.destination_ttl, Some(2));
}

#[test]
fn a_short_request_holds_few_probes_and_that_is_told() {
    let mut script = probing(options(), 8, 30);
    assert_eq!(script.take_ttls(), [1, 2, 3, 4]);
    let report = script.finish();
    assert_eq!(
        report.detail.as_deref(),
        Some("the 8 acknowledged octets hold no more probes")
    );
}

#[test]
fn a_peer_that_closes_is_not_asked_again() {
    let mut script = probing(patient(), 400, 20);
    script.segment(script.reset_segment());
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::Reset);
    assert!(!script.kinds().contains(&TransmitKind::Syn));
}

#[test]
fn routers_that_quote_the_request_have_answered_no_probe() {
    let mut script = probing(options(), 400, 3);
    for sequence in [ISN + 1, ISN + 159, ISN + 401] {
        assert!(script.session.owns_sequence(sequence));
        let error = script.unreachable(sequence, router(2), 1);
        script.icmp(error);
    }
    assert!((1..=2).all(|nth| script.kind(nth).is_none()));
    assert_eq!(script.verdict(), None);
}

#[test]
fn octets_that_are_quoted_are_the_requests_own() {
    let mut script = probing(options(), 400, 3);
    let mut error = script.exceeded(1);
    error.quote.seen.odd_data = true;
    script.icmp(error);
    let rewrites = script.answer(1).unwrap().rewrites;
    assert!(!rewrites.contains(&Rewrite::Payload));
}

/// Whatever keeps the request from going out: there is an end to waiting.
#[test]
fn a_request_that_finds_no_room_is_given_up() {
    let mut script = carrying(options(), 300);
    script.take();
    script.wait(RTT);
    // As when the pacer lets nothing out meanwhile.
    let hello = Reply::Segment(script.syn_ack());
    let (options, now) = (script.options.clone(), script.now);
    script.session.handle_reply(&options, now, &hello);
    let _ = script.session.poll_transmit(&options, now);
    let mut closed = script.ack();
    closed.window = 0;
    script.segment(closed);
    assert!(script.take().is_empty());
    let report = script.finish();
    assert_eq!(report.verdict, Verdict::HandshakeTimeout);
}

/// A RST below what the peer has would be ignored.
#[test]
fn a_request_that_is_broken_off_is_reset_behind_what_was_sent() {
    for close in [CloseMode::Rst, CloseMode::Fin] {
        let mut script = asking(SessionOptions { close, ..options() }, 300, 3);
        script.take();
        let (now, verdict) = (script.now, Verdict::Interrupted);
        script.session.abort(now, verdict, None);
        script.drain();
        let sent = script.take();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].kind, TransmitKind::Rst);
        assert_eq!(sent[0].segment.sequence, ISN + 301);
    }
}

#[test]
fn an_http_request_has_room_for_every_probe() {
    for long in 1..80 {
        let host = "h".repeat(long);
        let request = http_request(&SessionOptions::default(), &host, "agent");
        assert!(request.len() >= 180, "{long}: {}", request.len());
    }
    for (max_ttl, probes) in [(1, 1), (30, 3), (64, 10)] {
        let options = SessionOptions {
            max_ttl,
            probes,
            ..Default::default()
        };
        let request = http_request(&options, "www.example", "insession/1.0");
        let text = String::from_utf8(request.clone()).unwrap();
        assert!(text.starts_with("HEAD / HTTP/1.1\r\nHost: www.example\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
        assert_eq!(text.matches("\r\n\r\n").count(), 1);
        let needed = 2 * usize::from(max_ttl) * usize::from(probes);
        assert!(request.len() >= needed, "{} < {needed}", request.len());
    }
}
