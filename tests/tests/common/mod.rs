//! What the end-to-end tests share.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(dead_code, reason = "every test file uses its own part of it")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice};
use insession_lab::capture::Seen;
use insession_lab::record::{Judgement, Probe, Record, judge};
use insession_lab::truth::{self, Way};
use insession_lab::{Lab, program};

/// Nothing in a lab takes longer.
pub const SOON: Duration = Duration::from_secs(10);

/// Both families.
pub const FAMILIES: [bool; 2] = [false, true];

/// The server's first address.
pub fn server(lab: &Lab, v6: bool) -> String {
    lab.topology().address("server", v6).unwrap().to_string()
}

/// The server's first address with a port.
pub fn server_at(lab: &Lab, v6: bool, port: u16) -> String {
    SocketAddr::new(lab.topology().address("server", v6).unwrap(), port).to_string()
}

/// Traces one target from node `client`; it must come to a verdict.
pub fn trace(lab: &Lab, arguments: &[&str]) -> Record {
    let run = program::trace(lab, arguments).unwrap();
    let record = run.record().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert_eq!(record.method, "insession");
    record
}

/// Traces targets from node `client`; all must come to a verdict.
pub fn trace_all(lab: &Lab, arguments: &[&str]) -> Vec<Record> {
    let run = program::trace(lab, arguments).unwrap();
    let records = run.records().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.errors);
    records
}

/// Every hop is as the routers' tables say, and every probe was answered.
pub fn assert_right(lab: &Lab, record: &Record) -> Way {
    let way = truth::way(lab, &record.flow("client").unwrap()).unwrap();
    assert_follows(record, &way);
    way
}

/// Every hop is as the routers' tables say, but probes may have gone unanswered:
/// Linux's SYNPROXY echoes a timestamp of its own in the ACK that it opens the
/// server's side with. The server takes it for none of its connection
/// (`tcp_check_req`, `tsecr_reject`), and where a millisecond has passed meanwhile
/// it takes the first probes for the same: answered by bare ACKs, and asked again.
pub fn assert_right_but_silent(lab: &Lab, record: &Record) -> Way {
    let way = truth::way(lab, &record.flow("client").unwrap()).unwrap();
    assert_hops(record, &way);
    way
}

/// Every hop is as this way says, and every probe was answered.
pub fn assert_follows(record: &Record, way: &Way) {
    let judgement = assert_hops(record, way);
    assert_eq!(judgement.unanswered, 0, "{record:#?}");
}

/// Every hop is as this way says, as far as it answered.
fn assert_hops(record: &Record, way: &Way) -> Judgement {
    let judgement = judge(record, way);
    assert_eq!(judgement.wrong, Vec::<String>::new(), "{record:#?}");
    assert_eq!(judgement.right, way.destination_ttl());
    judgement
}

/// The link was native XDP on this interface.
pub fn assert_xdp(record: &Record, interface: &str) {
    let link = record.link.as_ref().unwrap();
    assert_eq!(
        (
            link.kind.as_str(),
            link.mode.as_deref(),
            link.interface.as_str()
        ),
        ("xdp", Some("native"), interface)
    );
}

/// The probes of a TTL; there must be some.
pub fn probes(record: &Record, ttl: usize) -> &[Probe] {
    let hop = record
        .hop(ttl)
        .unwrap_or_else(|| panic!("no hop {ttl} in {record:#?}"));
    assert!(!hop.probes.is_empty());
    &hop.probes
}

/// Who answered at this TTL, and how, all probes alike.
pub fn answer(record: &Record, ttl: usize) -> (String, Option<IpAddr>) {
    let probes = probes(record, ttl);
    let first = (probes[0].kind.clone(), probes[0].from);
    for probe in probes {
        assert_eq!(
            (&probe.kind, probe.from),
            (&first.0, first.1),
            "{record:#?}"
        );
    }
    first
}

/// A TCP segment in a captured frame.
#[derive(Clone, Debug)]
pub struct Segment {
    /// It left the interface where it was captured.
    pub outgoing: bool,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub payload: usize,
}

/// The TCP segment of a frame, where it is one.
pub fn segment(seen: &Seen) -> Option<Segment> {
    let packet = SlicedPacket::from_ethernet(&seen.bytes).ok()?;
    let (source, destination, traffic_class): (IpAddr, IpAddr, u8) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.dcp().value() << 2 | header.ecn().value(),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.traffic_class(),
            )
        }
        NetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        return None;
    };
    Some(from_slice(seen, source, destination, traffic_class, &tcp))
}

fn from_slice(
    seen: &Seen,
    source: IpAddr,
    destination: IpAddr,
    traffic_class: u8,
    tcp: &TcpSlice<'_>,
) -> Segment {
    Segment {
        outgoing: seen.outgoing,
        source: (source, tcp.source_port()).into(),
        destination: (destination, tcp.destination_port()).into(),
        traffic_class,
        sequence: tcp.sequence_number(),
        acknowledgment: tcp.acknowledgment_number(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: tcp.payload().len(),
    }
}
