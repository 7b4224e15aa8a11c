//! Probes inside conversations with real servers: our own request, and connections of
//! other programs that go on as if nothing was.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{FAMILIES, SOON, assert_follows, assert_xdp, server};
use insession_lab::record::Record;
use insession_lab::{Lab, program, services, truth};

/// Traces by sidecar; it must come to a verdict, each hop as the routers' tables say.
fn sidecar(lab: &Lab, arguments: &[&str]) -> Record {
    let all = [&["-m", "sidecar"], arguments].concat();
    let run = program::trace(lab, &all).unwrap();
    let record = run.record().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert_eq!(record.method, "sidecar");
    assert_eq!(record.verdict, "complete", "{record:#?}");
    let way = truth::way(lab, &record.flow("client").unwrap()).unwrap();
    assert_follows(&record, &way);
    record
}

/// The server's application gets the request once, answers it, and no octet more.
#[test]
fn a_request_is_answered_once_and_its_octets_find_every_hop() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let record = sidecar(&lab, &[&server(&lab, v6)]);
        assert_xdp(&record, "eth0");
        assert_eq!((record.port, record.destination_ttl), (80, Some(7)));
        assert!(record.changes.is_empty(), "{record:#?}");
        assert!(record.handshake.is_some());
        for (ttl, probe) in record.probes() {
            let expected = if ttl < 7 { "time-exceeded" } else { "sack" };
            assert_eq!(probe.kind, expected, "{record:#?}");
        }
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
    }
    let log = fs::read_to_string(services::access_log(&lab, "server")).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert!(line.contains("\"HEAD / HTTP/1.1\" 200"), "{line}");
    }
}

/// A request of one's own, over an sshd that waits for one.
#[test]
fn a_request_out_of_a_file_is_sent_as_it_stands_there() {
    let lab = Lab::up("chain").unwrap();
    let hello = lab.folder().join("hello");
    let text = format!(
        "GET /status HTTP/1.1\r\nHost: lab\r\nX: {}\r\n\r\n",
        "x".repeat(300)
    );
    fs::write(&hello, text).unwrap();
    let name = hello.to_str().unwrap();
    let record = sidecar(&lab, &["--request", name, &server(&lab, false)]);
    assert_eq!(record.destination_ttl, Some(7));
    let nothing = program::trace(
        &lab,
        &[
            "-m",
            "sidecar",
            "--request",
            "/nonexistent",
            &server(&lab, false),
        ],
    )
    .unwrap();
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.errors.contains("/nonexistent"),
        "{}",
        nothing.errors
    );
}

/// Where the connection is the kernel's there is nobody who sends the request.
#[test]
fn the_packet_link_sends_no_requests() {
    let lab = Lab::up("chain").unwrap();
    let target = server(&lab, false);
    let run = program::trace(&lab, &["-m", "sidecar", "--link", "packet", &target]).unwrap();
    let record = run.record().unwrap();
    assert_eq!(record.verdict, "error");
    let detail = record.detail.unwrap_or_default();
    assert!(detail.contains("use --link xdp"), "{detail}");
}

/// Octet `at` of what goes over a connection.
fn octet(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 16) as u8
}

/// The server's address and this port.
fn end(lab: &Lab, v6: bool, port: u16) -> SocketAddr {
    let address: IpAddr = server(lab, v6).parse().unwrap();
    SocketAddr::new(address, port)
}

/// Opens a connection from the client.
fn connect(lab: &Lab, to: SocketAddr) -> TcpStream {
    let stream = lab.within("client", || TcpStream::connect(to)).unwrap();
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// How the connection is named to adopt it.
fn name(stream: &TcpStream) -> String {
    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    format!("{local}-{remote}")
}

/// Adopts it; the connection's ends are the record's.
fn adopt(lab: &Lab, stream: &TcpStream) -> Record {
    let record = sidecar(lab, &["--adopt", &name(stream)]);
    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    assert_eq!(record.source_port, Some(local.port()));
    assert_eq!(
        (record.address, record.port),
        (Some(remote.ip()), remote.port())
    );
    assert_eq!(record.destination_ttl, Some(7));
    assert_eq!(record.link.as_ref().unwrap().kind, "packet");
    assert!(record.changes.is_empty(), "{record:#?}");
    record
}

/// Octets of the file that is downloaded, and how many are read at a time: some 60 MB
/// a second, so that it takes longer than the traces.
const LARGE: usize = 96 << 20;
const PART: usize = 64 << 10;

#[test]
fn a_download_goes_on_while_it_is_traced_and_not_an_octet_is_other() {
    let lab = Lab::up("chain").unwrap();
    let files = lab.folder().join("files");
    fs::create_dir(&files).unwrap();
    let file: Vec<u8> = (0..LARGE).map(octet).collect();
    fs::write(files.join("large"), &file).unwrap();
    for v6 in FAMILIES {
        let mut stream = connect(&lab, end(&lab, v6, 80));
        let request = b"GET /files/large HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let traced = AtomicBool::new(false);
        thread::scope(|scope| {
            let mut reader = stream.try_clone().unwrap();
            let traced = &traced;
            let read = scope.spawn(move || {
                let mut all = Vec::with_capacity(LARGE + 1024);
                let mut part = vec![0; PART];
                let mut still = false;
                loop {
                    let octets = reader.read(&mut part).unwrap();
                    if octets == 0 {
                        return (all, still);
                    }
                    all.extend_from_slice(&part[..octets]);
                    still = !traced.load(Ordering::Relaxed);
                    if still {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            for _ in 0..3 {
                adopt(&lab, &stream);
            }
            traced.store(true, Ordering::Relaxed);
            let (all, before) = read.join().unwrap();
            assert!(!before, "it was over before the traces were");
            let body = all.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(all.len() - body, LARGE);
            assert!(all[body..] == file[..], "another file");
        });
    }
    let log = fs::read_to_string(services::access_log(&lab, "server")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(
        log.lines().all(|line| line.contains("\" 200 100663296 ")),
        "{log}"
    );
}

/// A server in the server's namespace that has this port.
fn listen(lab: &Lab, port: u16) -> TcpListener {
    let all = SocketAddr::from(([0; 16], port));
    lab.within("server", || TcpListener::bind(all))
        .unwrap()
        .unwrap()
}

/// What is sent again lies within what is sent: nothing of it gets to the server's
/// program, and all else does.
#[test]
fn an_upload_goes_on_while_it_is_traced_and_not_an_octet_is_other() {
    let lab = Lab::up("chain").unwrap();
    let listener = listen(&lab, 7_000);
    for v6 in FAMILIES {
        let mut stream = connect(&lab, end(&lab, v6, 7_000));
        let (mut there, _) = listener.accept().unwrap();
        there.set_read_timeout(Some(SOON)).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = &stop;
            let mut writer = stream.try_clone().unwrap();
            let sent = scope.spawn(move || {
                let mut at = 0;
                let deadline = Instant::now() + SOON;
                while !stop.load(Ordering::Relaxed) && Instant::now() < deadline {
                    let part: Vec<u8> = (at..at + PART).map(octet).collect();
                    writer.write_all(&part).unwrap();
                    at += PART;
                    thread::sleep(Duration::from_millis(1));
                }
                writer.shutdown(Shutdown::Write).unwrap();
                at
            });
            let got = scope.spawn(move || {
                let mut at = 0;
                let mut part = vec![0; PART];
                loop {
                    let octets = there.read(&mut part).unwrap();
                    if octets == 0 {
                        return at;
                    }
                    let right = part[..octets].iter().zip(at..);
                    assert!(right.into_iter().all(|(got, at)| *got == octet(at)));
                    at += octets;
                }
            });
            for _ in 0..3 {
                adopt(&lab, &stream);
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(sent.join().unwrap(), got.join().unwrap());
        });
        let _ = stream.read(&mut [0]);
    }
}

/// A line now and then, as over ssh: what was said before anybody watched counts.
#[test]
fn a_quiet_conversation_is_traced_as_soon_as_something_is_said() {
    let lab = Lab::up("chain").unwrap();
    let listener = listen(&lab, 7_000);
    let mut stream = connect(&lab, end(&lab, true, 7_000));
    let (mut there, _) = listener.accept().unwrap();
    stream.write_all(&[7; 500]).unwrap();
    there.read_exact(&mut [0; 500]).unwrap();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        let said = scope.spawn(move || {
            for at in 0..20u8 {
                thread::sleep(Duration::from_millis(100));
                writer.write_all(&[at]).unwrap();
                let mut echo = [0];
                there.read_exact(&mut echo).unwrap();
                assert_eq!(echo, [at]);
            }
        });
        adopt(&lab, &stream);
        said.join().unwrap();
    });
}

/// Firewalls that track connections strictly, a SYNPROXY, a NAT, tags, balancers, a
/// server without timestamps: all take what was said for a retransmission.
#[test]
fn what_is_on_the_way_lets_octets_by_that_were_said() {
    for name in [
        "firewall",
        "synproxy",
        "snat",
        "qinq",
        "diamond",
        "no_timestamps",
    ] {
        let lab = Lab::up(name).unwrap();
        sidecar(&lab, &[&server(&lab, false)]);
        let mut stream = connect(&lab, end(&lab, false, 80));
        thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            let said = scope.spawn(move || {
                for _ in 0..10 {
                    let request = b"GET /status HTTP/1.1\r\nHost: lab\r\nX: sidecar\r\n\r\n";
                    writer.write_all(request).unwrap();
                    thread::sleep(Duration::from_millis(50));
                }
            });
            let record = sidecar(&lab, &["--adopt", &self::name(&stream)]);
            assert_eq!(
                record.source_port,
                Some(stream.local_addr().unwrap().port())
            );
            said.join().unwrap();
        });
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("200 OK").count(), 10, "{name}: {answers}");
    }
}

#[test]
fn what_cannot_be_adopted_is_told_with_its_reason() {
    let lab = Lab::up("chain").unwrap();
    let stream = connect(&lab, end(&lab, false, 80));
    let there = name(&stream);
    let none = there.replace(":80", ":81");
    for (arguments, message) in [
        (
            vec!["-m", "sidecar", "--adopt", &none],
            "has no such connection",
        ),
        (vec!["--adopt", &there], "add --method sidecar"),
        (
            vec!["-m", "sidecar", "--link", "xdp", "--adopt", &there],
            "XDP sees but what arrives",
        ),
    ] {
        let run = program::trace(&lab, &arguments).unwrap();
        assert_eq!(run.code, Some(2), "{}", run.errors);
        assert!(run.errors.contains(message), "{}", run.errors);
    }
    // Nobody says anything.
    let arguments = [
        "-m",
        "sidecar",
        "--handshake-timeout",
        "300ms",
        "--adopt",
        &there,
    ];
    let run = program::trace(&lab, &arguments).unwrap();
    let record = run.record().unwrap();
    assert_eq!(record.verdict, "handshake-timeout");
    let detail = record.detail.unwrap_or_default();
    assert!(
        detail.starts_with("no segments of the connection"),
        "{detail}"
    );
}
