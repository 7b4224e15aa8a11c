//! What the XDP program costs a packet: of others, which is what a host pays for
//! our presence, and of ours.
//!
//! Measured by `BPF_PROG_TEST_RUN`, without interface and traffic, beside an
//! empty program in the same rounds: all figures contain what the empty one
//! costs, which is the kernel's loop around it.
//!
//! Frames of others are left as they are, so the kernel's own repetition of the
//! same frame is good for them. Frames of ours are not: the stamp moves their
//! metadata, and one flow for ever would stay in the processor's cache. They are
//! run through the program's function as part of another that takes the stamp
//! back and makes the frame one of another flow, by a random number
//! ([`insession_common::yardstick`]); the same program without steering is run
//! in the same round, and their difference, beside the empty program, is the
//! figure. `BPF_F_TEST_XDP_LIVE_FRAMES` would measure the redirect and the
//! network stack too, which belong to what receives, and has one frame, too;
//! single runs are a system call each, hundreds of times what is measured.
//!
//! What is not in it: the frame is in the processor's cache, as it is where the
//! NIC writes into it (DDIO) and not elsewhere, and the redirect's flush.

use insession_common::yardstick::{self, Orders};
use serde::Serialize;

use crate::link::LinkError;
use crate::link::xdp::Steering;
use crate::link::xdp::yardstick::{Which, Yardstick};

/// How to measure.
#[derive(Clone, Debug)]
pub struct SteeringOptions {
    /// How many flows are in the maps, one measurement each; at most 8,388,608.
    pub flows: Vec<u32>,
    /// How many packets a figure of a round is the mean of.
    pub repeat: u32,
    /// How many rounds, of which the median is taken.
    pub rounds: u32,
}

impl Default for SteeringOptions {
    fn default() -> Self {
        SteeringOptions {
            flows: vec![1, 1_000, 1_000_000],
            repeat: 1_000_000,
            rounds: 7,
        }
    }
}

/// Nanoseconds a packet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest of the rounds.
    pub lowest: f64,
    /// The highest of the rounds.
    pub highest: f64,
}

/// A frame that is not ours, passed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Foreign {
    /// What it is.
    pub name: &'static str,
    /// What it costs.
    pub ns: Cost,
    /// The same, in empty programs.
    pub ratio: f64,
}

/// What packets of a random flow cost among so many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hits {
    /// How many flows there are.
    pub flows: u32,
    /// A SACK of a flow.
    pub sack: Cost,
    /// An ICMP time exceeded that quotes a probe of a flow.
    pub time_exceeded: Cost,
    /// A TCP segment for one of our ports, of no flow: looked up and passed.
    pub no_flow: Cost,
}

/// What packets of ours cost, steered by port range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByPort {
    /// A SACK.
    pub sack: Cost,
    /// An ICMP time exceeded that quotes a probe.
    pub time_exceeded: Cost,
}

/// What steering costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SteeringCosts {
    /// Packets a figure of a round is the mean of.
    pub repeat: u32,
    /// Rounds.
    pub rounds: u32,
    /// The empty program.
    pub empty: Cost,
    /// What is not ours.
    pub foreign: Vec<Foreign>,
    /// What is, by how many flows there are.
    pub hits: Vec<Hits>,
    /// What is, steered by port range, of any flow.
    pub by_port: ByPort,
    /// The dearest of the foreign packets, in empty programs.
    pub xdp_foreign: f64,
    /// A SACK among the most flows, in SACKs among 1,000 flows; `None` where both
    /// were not measured.
    pub xdp_hit_scale: Option<f64>,
    /// Adding a flow to the program's maps, one by one.
    pub flow_insert_ns_single: f64,
    /// The same in batches.
    pub flow_insert_ns_batch: f64,
    /// The same one by one, steered by port range.
    pub flow_insert_ns_by_port: f64,
    /// How many flows a batch had.
    pub batch: usize,
}

/// Flows in a batch: more bring nothing more.
const BATCH: usize = 1_024;

/// How many flows are added to learn what adding costs.
fn added(repeat: u32) -> u32 {
    (repeat / 16).clamp(1_024, 65_536)
}

/// Numbers of flows that are in no map, in units of 65,536.
const NO_FLOW: u16 = 128;

/// Measures.
///
/// # Errors
/// What the kernel refuses: it needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW.
pub fn measure(options: &SteeringOptions) -> Result<SteeringCosts, LinkError> {
    let repeat = options.repeat.max(1);
    let rounds = options.rounds.max(1);
    let added = added(repeat);
    let foreign_frames = foreign();
    let mut among = Vec::new();
    for &flows in &options.flows {
        let flows = flows.clamp(1, u32::from(NO_FLOW) << 16);
        let mut yardstick = Yardstick::open(flows, Steering::Flow)?;
        yardstick.add_batched(0..flows, BATCH)?;
        among.push((flows, yardstick, Series::default()));
    }
    let mut by_port = Yardstick::open(1, Steering::PortRange)?;
    let flow_insert_ns_by_port = nanos_each(by_port.add_singly(0..added)?, added);
    let mut by_port_series = Series::default();
    let mut empty = Vec::new();
    let mut foreign_series = vec![Vec::new(); foreign_frames.len()];
    for round in 0..rounds {
        // A frame that all read: the empty program does not.
        let (_, nothing) = by_port.run(Which::Empty, &sack(Orders::STILL), repeat)?;
        empty.push(nothing);
        // Foreign traffic meets no map of flows: any of them will do.
        let loaded = among.first().map_or(&by_port, |(_, loaded, _)| loaded);
        for ((_, frame), series) in foreign_frames.iter().zip(&mut foreign_series) {
            series.push(loaded.run(Which::Steering, frame, repeat)?.1);
        }
        for (flows, yardstick, series) in &mut among {
            series.round(yardstick, *flows, repeat, round, nothing)?;
        }
        by_port_series.round(&by_port, added, repeat, round, nothing)?;
    }
    drop(by_port);
    let hits: Vec<Hits> = among
        .into_iter()
        .map(|(flows, _, series)| series.hits(flows))
        .collect();
    let empty = cost(empty);
    let foreign: Vec<Foreign> = foreign_frames
        .into_iter()
        .zip(foreign_series)
        .map(|((name, _), series)| {
            let ns = cost(series);
            let ratio = ns.median / empty.median;
            Foreign { name, ns, ratio }
        })
        .collect();
    let sack_among = |wanted: Option<u32>| {
        let mut hits = hits.iter().filter(|hits| Some(hits.flows) == wanted);
        hits.next().map(|hits| hits.sack.median)
    };
    let most = hits.iter().map(|hits| hits.flows).max();
    let mut singly = Vec::new();
    let mut batched = Vec::new();
    for _ in 0..rounds.min(3) {
        let mut yardstick = Yardstick::open(added, Steering::Flow)?;
        singly.push(nanos_each(yardstick.add_singly(0..added)?, added));
        let mut yardstick = Yardstick::open(added, Steering::Flow)?;
        batched.push(nanos_each(yardstick.add_batched(0..added, BATCH)?, added));
    }
    Ok(SteeringCosts {
        repeat,
        rounds,
        empty,
        xdp_foreign: foreign
            .iter()
            .map(|foreign| foreign.ratio)
            .fold(0.0, f64::max),
        foreign,
        xdp_hit_scale: sack_among(most)
            .zip(sack_among(Some(1_000)))
            .map(|(most, few)| most / few),
        hits,
        by_port: ByPort {
            sack: cost(by_port_series.sack),
            time_exceeded: cost(by_port_series.time_exceeded),
        },
        flow_insert_ns_single: cost(singly).median,
        flow_insert_ns_batch: cost(batched).median,
        flow_insert_ns_by_port,
        batch: BATCH,
    })
}

fn nanos_each(took: std::time::Duration, flows: u32) -> f64 {
    took.as_nanos() as f64 / f64::from(flows)
}

fn cost(mut rounds: Vec<f64>) -> Cost {
    rounds.sort_by(f64::total_cmp);
    let at = |index: usize| rounds.get(index).copied().unwrap_or(f64::NAN);
    let middle = rounds.len() / 2;
    let median = match rounds.len() % 2 {
        0 => f64::midpoint(at(middle.wrapping_sub(1)), at(middle)),
        _ => at(middle),
    };
    Cost {
        median,
        lowest: at(0),
        highest: at(rounds.len().wrapping_sub(1)),
    }
}

/// The rounds of [`Hits`].
#[derive(Default)]
struct Series {
    sack: Vec<f64>,
    time_exceeded: Vec<f64>,
    no_flow: Vec<f64>,
}

impl Series {
    fn round(
        &mut self,
        yardstick: &Yardstick,
        flows: u32,
        repeat: u32,
        round: u32,
        nothing: f64,
    ) -> Result<(), LinkError> {
        let orders = Orders {
            state: round.wrapping_mul(0x9e37_79b9),
            span: flows,
            ..Orders::STILL
        };
        let cost = |make: &dyn Fn(Orders) -> Vec<u8>, orders: Orders| {
            let steered = Orders { steer: 1, ..orders };
            let (_, with) = yardstick.run(Which::Yardstick, &make(steered), repeat)?;
            let (_, without) = yardstick.run(Which::Yardstick, &make(orders), repeat)?;
            Ok::<f64, LinkError>(with - without + nothing)
        };
        self.sack.push(cost(&sack, orders)?);
        self.time_exceeded.push(cost(&time_exceeded, orders)?);
        let first = NO_FLOW;
        self.no_flow.push(cost(&sack, Orders { first, ..orders })?);
        Ok(())
    }

    fn hits(self, flows: u32) -> Hits {
        Hits {
            flows,
            sack: cost(self.sack),
            time_exceeded: cost(self.time_exceeded),
            no_flow: cost(self.no_flow),
        }
    }
}

/// A frame: orders in place of MAC addresses, an EtherType, a packet.
fn frame(orders: Orders, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&orders.bytes()[..], &ethertype.to_be_bytes(), packet].concat()
}

/// An IPv4 packet without options.
fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let [high, low] = length.to_be_bytes();
    let fixed = [0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 57, protocol, 0, 0];
    [&fixed[..], &source, &destination, payload].concat()
}

/// A TCP segment with options and payload of these lengths.
fn tcp(source: u16, destination: u16, options: u8, payload: usize) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend([1, 2, 3, 4, 5, 6, 7, 8, (20 + options) << 2, 0x10, 255, 255]);
    segment.extend([0; 4]);
    segment.resize(segment.len() + usize::from(options) + payload, 1);
    segment
}

const ROUTER: [u8; 4] = [198, 51, 100, 7];

/// The remote end and the local port of the flow that a measurement begins with.
fn first(orders: Orders) -> ([u8; 4], u16) {
    let (remote, port) = yardstick::ends(u32::from(orders.first) << 16);
    (remote.to_be_bytes(), port)
}

/// A SACK with timestamps and one block.
fn sack(orders: Orders) -> Vec<u8> {
    let (remote, port) = first(orders);
    let segment = tcp(yardstick::REMOTE_PORT, port, 24, 0);
    frame(orders, 0x0800, &v4(remote, yardstick::LOCAL, 6, &segment))
}

/// A time exceeded that quotes as little as RFC 792 wants.
fn time_exceeded(orders: Orders) -> Vec<u8> {
    let orders = Orders { quote: 1, ..orders };
    let (remote, port) = first(orders);
    let quoted = tcp(port, yardstick::REMOTE_PORT, 0, 0);
    let quote = v4(
        yardstick::LOCAL,
        remote,
        6,
        quoted.get(..8).unwrap_or_default(),
    );
    let message = [&[11, 0, 0, 0, 0, 0, 0, 0], &quote[..]].concat();
    frame(orders, 0x0800, &v4(ROUTER, yardstick::LOCAL, 1, &message))
}

/// What a host receives and is not ours.
fn foreign() -> Vec<(&'static str, Vec<u8>)> {
    let still = Orders::STILL;
    let ip = |protocol, payload: &[u8]| {
        frame(
            still,
            0x0800,
            &v4(ROUTER, yardstick::LOCAL, protocol, payload),
        )
    };
    let segment = tcp(443, 40_000, 12, 100);
    let mut v6 = vec![0x60, 0, 0, 0, 0, segment.len() as u8, 6, 57];
    v6.extend([0x20; 32]);
    v6.extend(&segment);
    vec![
        ("tcp", ip(6, &segment)),
        ("udp", ip(17, &[53; 108])),
        ("arp", frame(still, 0x0806, &[0; 46])),
        ("tcp over ipv6", frame(still, 0x86dd, &v6)),
        ("echo request", ip(1, &[8; 64])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As root, as all that runs the XDP program.
    #[test]
    fn every_figure_is_finite_and_positive() {
        let costs = measure(&SteeringOptions {
            flows: vec![1, 1_000],
            repeat: 50_000,
            rounds: 3,
        })
        .unwrap();
        assert_eq!(costs.hits.len(), 2);
        let mut figures = vec![
            costs.empty.median,
            costs.xdp_foreign,
            costs.xdp_hit_scale.unwrap(),
            costs.flow_insert_ns_single,
            costs.flow_insert_ns_batch,
            costs.flow_insert_ns_by_port,
        ];
        figures.extend(costs.foreign.iter().map(|foreign| foreign.ns.median));
        for hits in &costs.hits {
            figures.extend([hits.sack, hits.time_exceeded, hits.no_flow].map(|cost| cost.median));
        }
        let by_port = [costs.by_port.sack, costs.by_port.time_exceeded];
        figures.extend(by_port.map(|cost| cost.median));
        for figure in figures {
            assert!(figure.is_finite() && figure > 0.0, "{costs:#?}");
        }
    }

    /// Or the figures were of something else.
    #[test]
    fn what_is_measured_as_a_hit_is_one() {
        const REDIRECT: u32 = 4;
        const PASS: u32 = 2;
        let mut yardstick = Yardstick::open(100, Steering::Flow).unwrap();
        yardstick.add_batched(0..100, BATCH).unwrap();
        let orders = Orders {
            span: 100,
            steer: 1,
            ..Orders::STILL
        };
        for repeat in 1..50 {
            let answer = |frame: &[u8]| {
                let ran = yardstick.run(Which::Yardstick, frame, repeat).unwrap();
                ran.0
            };
            assert_eq!(answer(&sack(orders)), REDIRECT, "run {repeat}");
            assert_eq!(answer(&time_exceeded(orders)), REDIRECT, "run {repeat}");
            let first = NO_FLOW;
            assert_eq!(answer(&sack(Orders { first, ..orders })), PASS);
        }
        for (name, frame) in foreign() {
            let (answer, _) = yardstick.run(Which::Steering, &frame, 1).unwrap();
            assert_eq!(answer, PASS, "{name}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |rounds: &[f64]| cost(rounds.to_vec());
        assert_eq!(of(&[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        let one = of(&[7.0]);
        assert_eq!((one.lowest, one.median, one.highest), (7.0, 7.0, 7.0));
    }
}
