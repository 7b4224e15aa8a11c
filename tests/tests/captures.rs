//! Captures, judged by an independent reader: tshark finds nothing odd in them
//! but the gap that we leave on purpose, and no wrong checksum.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{FAMILIES, assert_right, server, trace};
use insession_lab::Lab;
use insession_lab::capture::{Capture, write_pcap};
use insession_lab::record::Record;

/// What a byte that never comes makes of later ones, and nothing else. The
/// server's first ACK is a window update too: the window of its SYN-ACK is not
/// scaled (RFC 7323 §2.2), that of the ACK is, rounded up.
const GAP: [&str; 5] = [
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.duplicate_ack_num",
    "tcp.analysis.window_update",
];

#[test]
fn our_own_capture_and_the_servers_are_sound() {
    let lab = Lab::up_with("chain", |topology| topology.offload = false).unwrap();
    for v6 in FAMILIES {
        let own = lab.folder().join("own.pcapng");
        let theirs = lab.folder().join("server.pcap");
        let capture = Capture::start(&lab, "server", "eth0").unwrap();
        let arguments = [
            "-p",
            "80",
            "--pcap",
            own.to_str().unwrap(),
            &server(&lab, v6),
        ];
        let record = trace(&lab, &arguments);
        assert_right(&lab, &record);
        write_pcap(&theirs, &capture.finish().unwrap()).unwrap();
        assert_sound(&own);
        assert_sound(&theirs);
        assert_whole(&own, &record);
    }
}

/// Every probe and every answer of the record stands in the file.
fn assert_whole(file: &Path, record: &Record) {
    let count = |filter: &str| read(file, filter).len();
    let probes = record.probes().count();
    let port = record.source_port.unwrap();
    assert_eq!(
        count(&format!(
            "tcp.len == 1 && tcp.srcport == {port} && !icmp && !icmpv6"
        )),
        probes
    );
    let errors = record
        .probes()
        .filter(|(_, probe)| probe.kind == "time-exceeded")
        .count();
    assert_eq!(count("icmp.type == 11 || icmpv6.type == 3"), errors);
    assert_eq!(count("tcp.flags.syn == 1 && !icmp && !icmpv6"), 2);
    assert_eq!(count("tcp.flags.reset == 1 && !icmp && !icmpv6"), 1);
}

fn assert_sound(file: &Path) {
    assert!(
        !read(file, "tcp").is_empty(),
        "{}: holds no TCP",
        file.display()
    );
    let bad = "ip.checksum.status == 0 || tcp.checksum.status == 0 || icmp.checksum.status == 0 \
               || icmpv6.checksum.status == 0 || _ws.malformed";
    assert_eq!(read(file, bad), Vec::<String>::new(), "{}", file.display());
    let allowed: Vec<String> = GAP.iter().map(|name| format!("!{name}")).collect();
    let odd = format!(
        "tcp.analysis.flags && !icmp && !icmpv6 && {}",
        allowed.join(" && ")
    );
    assert_eq!(read(file, &odd), Vec::<String>::new(), "{}", file.display());
}

/// The packets that a filter of tshark leaves, a line each.
fn read(file: &Path, filter: &str) -> Vec<String> {
    let output = Command::new("tshark")
        .args([
            "-n",
            "-2",
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
        ])
        .arg("-r")
        .arg(file)
        .args(["-Y", filter])
        .output()
        .expect("tshark: cannot be started; `cargo xtask setup` installs it");
    assert!(
        output.status.success(),
        "tshark {filter}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}
