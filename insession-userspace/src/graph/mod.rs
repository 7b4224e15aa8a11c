//! The path graph: any number of traces, vantage points and days in one.
//!
//! Nodes are addresses that answered, or what several of them belong to. An edge says
//! what is known of two of them and no more ([`Kind`]): seen one behind the other in one
//! flow, assumed to be so, or with silence between them.
//!
//! * [`build`]: from traces, one after the other;
//! * [`slice`](mod@slice): which traces are taken;
//! * [`collapse`]: addresses into routers, prefixes, autonomous systems;
//! * [`aliases`]: which addresses are one router, from a file;
//! * [`changes`]: when the path to a target became another;
//! * [`layout`]: where nodes stand;
//! * [`dot`], [`graphml`], [`json`], [`page`]: as what it is written.

use std::net::IpAddr;
use std::sync::Arc;

use crate::time::UnixTime;
use crate::trace::{Method, Owner, address_text};
use clock::Clock;
use paths::Paths;
use times::Times;

pub mod aliases;
pub mod build;
pub mod changes;
mod clock;
pub mod collapse;
pub mod dot;
pub mod graphml;
pub mod json;
pub mod layout;
pub mod page;
mod paths;
pub mod slice;
mod times;

#[cfg(test)]
pub(crate) mod samples;

/// What nodes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Level {
    /// An address each
    Address,
    /// A router each, by its aliases
    Router,
    /// A prefix each, as announced
    Prefix,
    /// An autonomous system each
    As,
}

impl Level {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Address => "address",
            Level::Router => "router",
            Level::Prefix => "prefix",
            Level::As => "as",
        }
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An address.
    Address(IpAddr),
    /// A router, by the number of its set of aliases.
    Router(u32),
    /// An announced prefix.
    Prefix(String),
    /// An autonomous system.
    As(u32),
    /// The peering LAN of an internet exchange, where its AS is not known.
    Exchange(String),
}

/// The TTLs at which a node was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttls {
    /// The least; 0 where it was met at none.
    pub least: u8,
    /// The most.
    pub most: u8,
    sum: u64,
    count: u64,
}

impl Ttls {
    fn add(&mut self, ttl: u8) {
        let one = Ttls {
            least: ttl,
            most: ttl,
            sum: ttl.into(),
            count: 1,
        };
        self.join(&one);
    }

    fn join(&mut self, other: &Ttls) {
        if other.count == 0 {
            return;
        }
        self.least = match self.count {
            0 => other.least,
            _ => self.least.min(other.least),
        };
        self.most = self.most.max(other.most);
        self.sum += other.sum;
        self.count += other.count;
    }

    /// Their mean, each weighted by its traces.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub identity: Identity,
    /// The addresses that it stands for, in the order in which they were met.
    pub addresses: Vec<IpAddr>,
    /// Its name, where one is known; of a target that was named so, that.
    pub name: Option<String>,
    /// Whose it is, as far as it is one owner's.
    pub owner: Option<Arc<Owner>>,
    /// Traces begin here.
    pub is_source: bool,
    /// It answered in transit.
    pub is_router: bool,
    /// Traces reached it as their target.
    pub is_target: bool,
    /// Traces in which it answered, or which begin here.
    pub traces: u64,
    /// Traces whose last answer it gave, without being their target.
    pub ended: u64,
    /// Probes of hops at which it answered and no other did.
    pub probes: u64,
    /// Those of them that were not answered.
    pub lost: u64,
    /// Where it was met.
    pub ttls: Ttls,
    times: Times,
}

impl Node {
    fn new(identity: Identity) -> Self {
        Node {
            identity,
            addresses: Vec::new(),
            name: None,
            owner: None,
            is_source: false,
            is_router: false,
            is_target: false,
            traces: 0,
            ended: 0,
            probes: 0,
            lost: 0,
            ttls: Ttls::default(),
            times: Times::default(),
        }
    }

    /// What is written beside it.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.identity {
            Identity::Address(address) => address_text(*address),
            Identity::Router(_) => {
                let first = self.addresses.first().copied();
                let first = first.map(address_text).unwrap_or_default();
                match self.addresses.len() {
                    0 | 1 => first,
                    count => format!("{first} +{}", count - 1),
                }
            }
            Identity::Prefix(prefix) => prefix.clone(),
            Identity::As(asn) => format!("AS{asn}"),
            Identity::Exchange(name) => name.clone(),
        }
    }

    /// The median of its exact round-trip times, µs, to 3 %.
    #[must_use]
    pub fn median_us(&self) -> Option<f64> {
        self.times.median_us()
    }

    /// The least of its exact round-trip times, µs.
    #[must_use]
    pub fn least_us(&self) -> Option<f64> {
        self.times.least_us()
    }
}

/// What is known of two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// They answered at consecutive TTLs of one flow.
    Seen,
    /// They answered at consecutive TTLs, but of different flows, or where each TTL had
    /// several that answered: a packet may never have gone from one to the other.
    Assumed,
    /// Nothing answered between them, or what did was not probed.
    Gap,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Kind; 3] = [Kind::Seen, Kind::Assumed, Kind::Gap];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Seen => "seen",
            Kind::Assumed => "assumed",
            Kind::Gap => "gap",
        }
    }
}

/// An edge, from the node nearer to the source.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Number of the node that it leaves.
    pub from: u32,
    /// Number of the node that it reaches.
    pub to: u32,
    /// What is known.
    pub kind: Kind,
    /// The fewest and the most silent hops between them.
    pub silent: (u8, u8),
    /// Traces that had it.
    pub traces: u64,
    /// Probes of hops at its far end at which nobody else answered.
    pub probes: u64,
    /// Those of them that were not answered.
    pub lost: u64,
    times: Times,
}

impl Edge {
    /// The median of the exact round-trip times to its far end over it, µs, to 3 %.
    #[must_use]
    pub fn median_us(&self) -> Option<f64> {
        self.times.median_us()
    }
}

/// How many traces had an edge: from where, how, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Number of the edge.
    pub edge: u32,
    /// Number of the vantage point.
    pub source: u32,
    /// By [`Graph::methods`].
    pub method: u8,
    /// Number of the span of time, since 1970.
    pub bucket: u64,
    /// Traces.
    pub traces: u32,
}

/// The graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What its nodes stand for.
    pub level: Level,
    /// By number.
    pub nodes: Vec<Node>,
    /// By number.
    pub edges: Vec<Edge>,
    /// By edge, source, method and time.
    pub cells: Vec<Cell>,
    /// Vantage points, by number.
    pub sources: Vec<IpAddr>,
    /// Methods, by number.
    pub methods: Vec<Method>,
    /// Traces that it is made of.
    pub traces: u64,
    /// Traces of them in which nothing answered: no edge is theirs.
    pub unanswered: u64,
    /// Traces that the slice left out.
    pub sliced_away: u64,
    clock: Clock,
    paths: Paths,
}

impl Graph {
    /// When the first and the last trace were started; `None` where there was none.
    #[must_use]
    pub fn period(&self) -> Option<(UnixTime, UnixTime)> {
        self.clock.period()
    }

    /// The length of a span of time, seconds.
    #[must_use]
    pub fn bucket_seconds(&self) -> u64 {
        self.clock.width()
    }

    /// When a span of time begins.
    #[must_use]
    pub fn bucket_start(&self, bucket: u64) -> UnixTime {
        UnixTime((bucket * self.clock.width()).saturating_mul(1_000_000_000))
    }

    /// Traces whose paths are not kept, as there are too many: no change of theirs is
    /// told.
    #[must_use]
    pub fn paths_left_out(&self) -> u64 {
        self.paths.left_out()
    }

    /// Whether any node has an AS number, or stands on an exchange.
    #[must_use]
    pub fn knows_owners(&self) -> bool {
        let owner = |node: &Node| node.owner.as_ref().is_some_and(|it| it.asn.is_some());
        self.nodes.iter().any(owner)
    }

    /// Whether any node has a prefix.
    #[must_use]
    pub fn knows_prefixes(&self) -> bool {
        let owner = |node: &Node| node.owner.as_ref().is_some_and(|it| it.prefix.is_some());
        self.nodes.iter().any(owner)
    }
}
