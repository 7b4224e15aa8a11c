//! What many flows show together (`insession.paths/1`), and the truth about it: the
//! routers and links of the ways that the kernels say these flows take.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::lab::Lab;
use crate::record::Record;
use crate::truth;

/// The merged object of a target.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// `insession.paths/1`.
    pub schema: String,
    /// As it was named on the command line.
    pub target: String,
    /// What was traced.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// How.
    pub method: String,
    /// Our address.
    pub source: Option<IpAddr>,
    /// RFC 3339, microseconds.
    pub started: String,
    /// To the end of the last flow.
    pub duration_us: f64,
    /// Flows on which somebody answered.
    pub flows: usize,
    /// Flows on which nobody did.
    pub failed: usize,
    /// What the stopping rule led to.
    pub mda: Option<Mda>,
    /// The source, routers, the target.
    pub nodes: Vec<Node>,
    /// Who follows whom.
    pub links: Vec<Link>,
    /// From where that cannot be told.
    pub unclear_ttls: Vec<usize>,
    /// Where ways part and meet again.
    pub diamonds: Vec<Diamond>,
    /// Most flows first.
    pub paths: Vec<Path>,
}

/// What the stopping rule led to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mda {
    /// What was asked for.
    pub confidence: f64,
    /// It is satisfied.
    pub complete: bool,
    /// Batches of flows.
    pub rounds: u32,
    /// Why it ended before.
    pub stopped: Option<String>,
}

/// Loss and times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

/// Somebody who answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The address.
    pub address: IpAddr,
    /// Its name.
    pub name: Option<String>,
    /// Its AS.
    pub asn: Option<u32>,
    /// Where it answered.
    pub ttls: Vec<usize>,
    /// Flows that showed it.
    pub flows: usize,
    /// Probes where it was alone.
    pub probes: usize,
    /// Those that were answered.
    pub answered: usize,
    /// The part that was not.
    pub loss: Option<f64>,
    /// Of those that were.
    pub rtt_us: Option<Spread>,
}

/// Two that follow one another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The first.
    pub from: IpAddr,
    /// The second.
    pub to: IpAddr,
    /// Flows that showed it.
    pub flows: usize,
    /// Packets of one flow take several.
    pub per_packet: bool,
}

/// Ways that part and meet again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diamond {
    /// Where they part.
    pub divergence: IpAddr,
    /// Where they meet.
    pub convergence: Option<IpAddr>,
    /// The divergence of the one around it.
    pub within: Option<IpAddr>,
    /// The most side by side.
    pub width: usize,
    /// Hops on the shortest way.
    pub min_length: usize,
    /// And on the longest.
    pub max_length: usize,
    /// Both are the same.
    pub symmetric: bool,
    /// Ways cross.
    pub meshed: bool,
    /// Packets of one flow take several of its ways.
    pub per_packet: bool,
    /// Who is between.
    pub nodes: Vec<IpAddr>,
    /// Silent hops between.
    pub silent: usize,
    /// Links, those to its ends with them.
    pub links: usize,
    /// The probability that a next hop was missed.
    pub missed: f64,
}

/// Flows that took one way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// How many.
    pub flows: usize,
    /// Their ports.
    pub source_ports: Vec<u16>,
    /// It ends at the target.
    pub complete: bool,
    /// Of probes to the target.
    pub loss: Option<f64>,
    /// To the target.
    pub rtt_us: Option<Spread>,
    /// By TTL.
    pub hops: Vec<PathHop>,
}

/// A TTL of a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathHop {
    /// The TTL.
    pub ttl: usize,
    /// Who answered.
    pub from: Vec<IpAddr>,
    /// Probes sent.
    pub probes: usize,
    /// Those that were answered.
    pub answered: usize,
    /// The part that was not.
    pub loss: Option<f64>,
    /// Of those that were.
    pub rtt_us: Option<Spread>,
}

impl Paths {
    /// Takes output apart: the flows' records, and the merged object behind them, which
    /// must be one.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn of_one(output: &str) -> Result<(Vec<Record>, Self)> {
        let (last, records) = output
            .lines()
            .collect::<Vec<_>>()
            .split_last()
            .map(|(last, records)| (*last, records.join("\n")))
            .context("no output")?;
        let paths: Paths =
            serde_json::from_str(last).with_context(|| format!("no merged object: {last}"))?;
        if paths.schema != "insession.paths/1" {
            bail!("schema {:?}", paths.schema);
        }
        let records = Record::parse_all(&records)?;
        if records.len() != paths.flows + paths.failed {
            bail!("{} records of {} flows", records.len(), paths.flows);
        }
        Ok((records, paths))
    }

    /// Its nodes' addresses.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// The ends of its links.
    #[must_use]
    pub fn ends(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        self.links.iter().map(|link| (link.from, link.to)).collect()
    }
}

/// Nodes and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Addresses that answer, the source and the target with them.
    pub nodes: BTreeSet<IpAddr>,
    /// Who follows whom.
    pub links: BTreeSet<(IpAddr, IpAddr)>,
    /// The different ways, by their nodes' names.
    pub ways: BTreeSet<Vec<String>>,
}

impl Truth {
    /// What the kernels say of the flows of these records, sent from `client`.
    ///
    /// # Errors
    /// When a record names no flow, or one does not arrive.
    pub fn of(lab: &Lab, records: &[Record]) -> Result<Self> {
        let flows = records.iter().map(|record| record.flow("client"));
        let flows = flows.collect::<Result<Vec<_>>>()?;
        let mut truth = Truth::default();
        for (flow, way) in flows.iter().zip(truth::ways(lab, &flows)?) {
            let routers = way.routers.iter().map(|router| router.answers);
            let ends = [Some(flow.source.ip()), Some(flow.destination.ip())];
            let all: Vec<_> = ends[..1]
                .iter()
                .copied()
                .chain(routers)
                .chain(ends[1..].iter().copied())
                .collect();
            truth.nodes.extend(all.iter().flatten());
            for pair in all.windows(2) {
                if let [Some(from), Some(to)] = pair {
                    truth.links.insert((*from, *to));
                }
            }
            let names = way.routers.into_iter().map(|router| router.node);
            truth.ways.insert(names.collect());
        }
        Ok(truth)
    }
}
