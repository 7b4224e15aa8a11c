//! Tests of the simulated network itself, through the link, by a client that
//! does by hand what a session does.

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::session::{IcmpError, IcmpKind, Reply, Segment, decode};
use crate::time::Duration;
use crate::trace::MplsLabel;
use crate::wire::icmp::Form;
use crate::wire::tcp::{SackBlock, flags};
use crate::wire::template::{Ends, SegmentOptions, Template, Varying};

mod faults;
mod many;
mod servers;

const MS: Duration = Duration::from_millis(1);

/// A client: one connection, and what came back.
struct Client {
    link: SimLink,
    flow: Flow,
    template: Template,
    next: u32,
    acknowledgment: u32,
    tsecr: u32,
    with_timestamps: bool,
}

/// What came back, and when.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    after: Duration,
    kind: SteerKind,
    session: SessionId,
    reply: Reply,
}

const ISN: u32 = 0xffff_fff0;

impl Client {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let remote = scenario.addresses().next().unwrap();
        let local = match remote {
            IpAddr::V4(_) => "192.0.2.1:61000",
            IpAddr::V6(_) => "[2001:db8::1]:61000",
        };
        let flow = Flow {
            local: local.parse().unwrap(),
            remote: SocketAddr::new(remote, 443),
        };
        let mut link = SimLink::new(scenario, seed);
        link.add_flow(&flow, 7).unwrap();
        let template = Template::new(&Ends {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: Some(5),
            local: flow.local,
            remote: flow.remote,
            dscp: 0,
            flow_label: 0xabcde,
        })
        .unwrap();
        Client {
            link,
            flow,
            template,
            next: ISN,
            acknowledgment: 0,
            tsecr: 0,
            with_timestamps: false,
        }
    }

    fn send(&mut self, ttl: u8, sequence: u32, flags: u8, payload_len: u16) {
        let syn = flags & flags::SYN != 0;
        let tsval = (self.link.now().as_nanos() / 1_000_000) as u32;
        let tsecr = self.tsecr;
        let varying = Varying {
            ttl,
            sequence,
            acknowledgment: if syn { 0 } else { self.acknowledgment },
            flags,
            window: 500,
            options: match (syn, self.with_timestamps) {
                (true, _) => SegmentOptions::Syn {
                    mss: 1460,
                    window_scale: 7,
                    tsval,
                },
                (_, true) => SegmentOptions::Timestamps { tsval, tsecr },
                (_, false) => SegmentOptions::None,
            },
            payload_len,
        };
        let template = &self.template;
        self.link
            .transmit(&mut |out| template.write(&varying, 1, out))
            .unwrap();
        self.link.flush().unwrap();
    }

    /// All that comes within `span`; the clock goes on by just that.
    fn wait(&mut self, span: Duration) -> Vec<Came> {
        let begin = self.link.now();
        let end = begin + span;
        let mut came = Vec::new();
        loop {
            self.link.wait(end).unwrap();
            let count = self
                .link
                .receive(64, &mut |frame| {
                    assert_eq!(frame.l3_offset, 18);
                    came.push(Came {
                        after: frame.at.since(begin),
                        kind: frame.kind,
                        session: frame.session,
                        reply: decode(&frame.bytes[frame.l3_offset..], false).unwrap(),
                    });
                })
                .unwrap();
            if count == 0 {
                break;
            }
        }
        assert_eq!(self.link.now(), end);
        came
    }

    fn segments(&mut self, span: Duration) -> Vec<Segment> {
        let came = self.wait(span);
        came.into_iter().map(|came| came.segment()).collect()
    }

    /// SYN, SYN-ACK, ACK; what the server says after that is left to come.
    fn open(&mut self) -> Segment {
        self.send(64, ISN, flags::SYN, 0);
        // Not longer than it takes: the server measures the round trip.
        self.link.wait(self.link.now() + 500 * MS).unwrap();
        let came = self.segments(Duration::ZERO);
        let [syn_ack] = &came[..] else {
            panic!("{came:?}");
        };
        assert_eq!(syn_ack.flags, flags::SYN | flags::ACK);
        self.acknowledgment = syn_ack.sequence.wrapping_add(1);
        self.next = syn_ack.acknowledgment;
        if let Some((value, _)) = syn_ack.options.timestamps {
            self.with_timestamps = true;
            self.tsecr = value;
        }
        self.send(64, self.next, flags::ACK, 0);
        syn_ack.clone()
    }

    /// The sequence number of probe `number`, from 1.
    fn sequence(&self, number: u32) -> u32 {
        self.next.wrapping_add(1 + 2 * (number - 1))
    }

    fn probe(&mut self, number: u32, ttl: u8) {
        self.send(ttl, self.sequence(number), flags::ACK | flags::PSH, 1);
    }

    fn fate(&self, number: u32) -> Fate {
        let truth = self.link.truth();
        let truth = truth.lock().unwrap();
        truth.probe(&self.flow, self.sequence(number)).unwrap().fate
    }

    /// The blocks that these probes make.
    fn blocks(&self, numbers: &[u32]) -> Vec<SackBlock> {
        let block = |number: &u32| SackBlock {
            left: self.sequence(*number),
            right: self.sequence(*number).wrapping_add(1),
        };
        numbers.iter().map(block).collect()
    }
}

impl Came {
    fn segment(self) -> Segment {
        match self.reply {
            Reply::Segment(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    fn icmp(self) -> IcmpError {
        match self.reply {
            Reply::Icmp(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `routers` in a row at 10.0.n.1 (2001:db8:n::1), and a target behind them.
fn row(v6: bool, routers: Vec<Router>, server: Server) -> Scenario {
    let mut scenario = Scenario::new();
    let ids: Vec<_> = (1u16..)
        .zip(routers)
        .map(|(number, router)| {
            scenario.router(Router {
                v4: Some([10, 0, number as u8, 1].into()),
                v6: Some([0x2001, 0xdb8, number, 0, 0, 0, 0, 1].into()),
                ..router
            })
        })
        .collect();
    let target = if v6 { "2001:db8:99::2" } else { "198.51.100.2" };
    scenario.target(Target::new(address(target)).via(ids).served_by(server));
    scenario
}

fn plain(count: usize) -> Vec<Router> {
    vec![Router::default(); count]
}

#[test]
fn every_hop_answers_after_its_own_time() {
    for v6 in [false, true] {
        let mut client = Client::new(row(v6, plain(3), Server::default()), 1);
        client.open();
        client.wait(100 * MS);
        for ttl in 1..=5u8 {
            client.probe(u32::from(ttl), ttl);
            let came = client.wait(100 * MS);
            let [came] = &came[..] else {
                panic!("{came:?}");
            };
            assert_eq!(came.session, 7);
            // Lines of 1 ms each, there and back.
            assert_eq!(came.after, 2 * MS * u32::from(ttl).min(4));
            if ttl <= 3 {
                assert_eq!(came.kind, SteerKind::Quote);
                let error = came.clone().icmp();
                let from = match v6 {
                    true => address(&format!("2001:db8:{ttl}::1")),
                    false => address(&format!("10.0.{ttl}.1")),
                };
                assert_eq!(error.from, from);
                assert_eq!(error.kind, IcmpKind::TimeExceeded);
                assert_eq!(error.ttl, 255 - (ttl - 1));
                assert_eq!(error.quote.ttl, 1);
                assert_eq!(error.quote.source, client.flow.local);
                assert_eq!(error.quote.destination, client.flow.remote);
                assert_eq!(error.quote.sequence, client.sequence(u32::from(ttl)));
                assert_eq!(error.quote.checksum_bad, Some(false));
                let delivered = match client.fate(u32::from(ttl)) {
                    Fate::Router {
                        from: known,
                        delivered,
                        ..
                    } if known == from => delivered.unwrap(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(delivered + 100 * MS, client.link.now() + came.after);
            } else {
                let segment = came.clone().segment();
                assert_eq!((segment.ttl, segment.flags), (61, flags::ACK));
                assert_eq!(segment.acknowledgment, client.next);
                let named = segment.options.sack;
                let expected: &[u32] = if ttl == 4 { &[4] } else { &[5, 4] };
                assert_eq!(named.as_slice(), client.blocks(expected));
                assert!(matches!(
                    client.fate(u32::from(ttl)),
                    Fate::Server { accepted: true, .. }
                ));
            }
        }
        let truth = client.link.truth();
        let truth = truth.lock().unwrap();
        let ttls: Vec<u8> = truth.probes(&client.flow).iter().map(|p| p.ttl).collect();
        assert_eq!(ttls, [1, 2, 3, 4, 5]);
        assert_eq!(truth.flows().collect::<Vec<_>>(), [&client.flow]);
    }
}

#[test]
fn a_batch_has_an_end_and_unknown_flows_are_passed() {
    let mut scenario = row(false, plain(1), Server::default());
    scenario.batch = 2;
    let mut client = Client::new(scenario, 1);
    assert_eq!(client.link.room(), 2);
    for _ in 0..2 {
        client.link.transmit(&mut |_| 0).unwrap();
    }
    let mut called = false;
    let full = client.link.transmit(&mut |_| {
        called = true;
        0
    });
    assert!(matches!(full, Err(LinkError::Full)) && !called);
    client.link.flush().unwrap();
    assert_eq!(client.link.room(), 2);
    assert!(matches!(
        client.link.add_flow(&client.flow, 8),
        Err(LinkError::FlowTaken)
    ));
    client.link.remove_flow(&client.flow);
    client.send(64, ISN, flags::SYN, 0);
    assert_eq!(client.wait(100 * MS), []);
    let counters = client.link.counters();
    let count = |label| counters.iter().find(|(name, _)| *name == label).unwrap().1;
    // Twice nothing, one SYN.
    assert_eq!((count("sim-sent"), count("sim-refused")), (3, 2));
    assert_eq!((count("no-flow"), count("segment")), (1, 0));
}

#[test]
fn a_wrong_checksum_is_not_forwarded() {
    let mut client = Client::new(row(false, plain(1), Server::default()), 1);
    let mut frame = [0; 256];
    let varying = Varying {
        ttl: 64,
        sequence: ISN,
        acknowledgment: 0,
        flags: flags::SYN,
        window: 500,
        options: SegmentOptions::None,
        payload_len: 1,
    };
    let len = client.template.write(&varying, 1, &mut frame);
    for at in 18..len {
        frame[at] ^= 1;
        client
            .link
            .transmit(&mut |out| {
                out[..len].copy_from_slice(&frame[..len]);
                len
            })
            .unwrap();
        frame[at] ^= 1;
    }
    client.link.flush().unwrap();
    let refused = client.link.counters().pop().unwrap();
    assert_eq!(refused, ("sim-refused", (len - 18) as u64));
}

/// Everything that can happen, one client.
fn troubled() -> Scenario {
    let line = Line {
        jitter: MS,
        loss: 0.05,
        duplicate: 0.1,
        reorder: (0.1, 5 * MS),
        ..Line::default()
    };
    let mut scenario = Scenario::new();
    let mut target = Target::new(address("198.51.100.2"));
    for number in 1..=6u8 {
        let id = scenario.router(Router {
            late: Some((0.1, 300 * MS)),
            ..Router::at([10, 0, number, 1].into())
        });
        target = target.over(line, id);
    }
    target.last = line;
    scenario.target(target);
    scenario
}

fn story(seed: u64) -> Vec<Came> {
    let mut client = Client::new(troubled(), seed);
    client.send(64, ISN, flags::SYN, 0);
    let mut came = client.wait(100 * MS);
    for number in 1..=60u32 {
        client.probe(number, (number % 7) as u8 + 1);
        came.extend(client.wait(3 * MS));
    }
    came.extend(client.wait(Duration::from_secs(2)));
    came
}

#[test]
fn one_seed_one_story() {
    let first = story(3);
    assert!(first.len() > 20, "{}", first.len());
    assert_eq!(first, story(3));
    assert_ne!(first, story(4));
}
