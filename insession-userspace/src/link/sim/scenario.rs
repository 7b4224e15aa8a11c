//! What the simulated network is made of: routers, ways, servers, and all that
//! can be wrong with them. Plain data; [`super::SimLink`] plays it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rng::Mixers;
use crate::time::Duration;
use crate::trace::MplsLabel;
use crate::wire::icmp::Form;

/// A network, seen from us.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Local ports that are steered to us; others are passed.
    pub ports: (u16, u16),
    /// Frames that fit into a batch.
    pub batch: usize,
    /// Whether [`super::Truth`] is kept: 40 bytes a probe.
    pub keep_truth: bool,
    /// The longest frame that the link writes, octets.
    pub longest_frame: usize,
    pub(super) routers: Vec<Router>,
    pub(super) targets: Vec<Target>,
    by_address: HashMap<IpAddr, u32, Mixers>,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            ports: (1024, u16::MAX),
            batch: 256,
            keep_truth: true,
            longest_frame: 2048,
            routers: Vec::new(),
            targets: Vec::new(),
            by_address: HashMap::default(),
        }
    }
}

impl Scenario {
    /// A network of nothing: what is sent vanishes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a router. It can stand in any number of ways.
    pub fn router(&mut self, router: Router) -> RouterId {
        self.routers.push(router);
        RouterId(self.routers.len() as u32 - 1)
    }

    /// Adds a target; of two with one address the later counts.
    ///
    /// # Panics
    /// With more than [`MAX_BALANCERS`] balancers on its way.
    pub fn target(&mut self, target: Target) {
        let balancers = target.way.iter().filter(|stage| stage.branches.len() > 1);
        assert!(balancers.count() <= MAX_BALANCERS, "too many balancers");
        let index = self.targets.len() as u32;
        for address in &target.addresses {
            self.by_address.insert(*address, index);
        }
        self.targets.push(target);
    }

    /// The targets' addresses, in the order they were added.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.targets
            .iter()
            .filter_map(|target| target.addresses.first().copied())
    }

    pub(super) fn find(&self, address: IpAddr) -> Option<u32> {
        self.by_address.get(&address).copied()
    }
}

/// A way may have this many stages with more than one branch.
pub const MAX_BALANCERS: usize = 8;

/// A router of a [`Scenario`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouterId(pub(super) u32);

/// A router: how it forwards, and how it answers.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its IPv4 address; without one it is silent over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address; without one it is silent over IPv6.
    pub v6: Option<Ipv6Addr>,
    /// It forwards, but never answers.
    pub silent: bool,
    /// How many errors it sends.
    pub limit: Option<RateLimit>,
    /// How much of the packet it quotes.
    pub quote: QuoteLength,
    /// The label stack it tells of (RFC 4950), outermost first.
    pub labels: Vec<MplsLabel>,
    /// How it attaches the stack.
    pub form: Form,
    /// It quotes the packet as it is after the TTL was counted down: TTL 0.
    pub counts_first: bool,
    /// TTL of its errors.
    pub ttl: u8,
    /// How long it takes to make an error.
    pub slow: Duration,
    /// Some of its errors take this much longer: probability, time.
    pub late: Option<(f64, Duration)>,
    /// It does not forward (some packets): it refuses.
    pub rejects: Option<Reject>,
    /// What it says of packets that are too long for the next line.
    pub too_big: TooBig,
    /// What it changes in what it forwards.
    pub middlebox: Option<Middlebox>,
}

impl Default for Router {
    fn default() -> Self {
        Router {
            v4: None,
            v6: None,
            silent: false,
            limit: None,
            quote: QuoteLength::Whole,
            labels: Vec::new(),
            form: Form::Compliant,
            counts_first: false,
            ttl: 255,
            slow: Duration::ZERO,
            late: None,
            rejects: None,
            too_big: TooBig::Tells,
            middlebox: None,
        }
    }
}

impl Router {
    /// One with this address that answers everything.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        let mut router = Router::default();
        match address {
            IpAddr::V4(v4) => router.v4 = Some(v4),
            IpAddr::V6(v6) => router.v6 = Some(v6),
        }
        router
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Time to a new token.
    pub interval: Duration,
    /// Tokens it holds, 1 or more.
    pub burst: u32,
}

/// How much of a packet is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteLength {
    /// The IP header and this many octets: 8 in RFC 792, 28 in old BSDs.
    Octets(u16),
    /// All of it, as RFC 1812 wants.
    Whole,
}

/// A refusal by ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What it says.
    pub answer: Rejection,
    /// Only segments with payload are refused: the handshake passes.
    pub only_data: bool,
}

/// What a refusal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Destination unreachable, with this code.
    Unreachable(u8),
    /// Fragmentation needed, packet too big, with this MTU.
    TooBig(u16),
}

/// What a router says of a packet that is too long for the line behind it. It is never
/// forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooBig {
    /// The line's MTU.
    Tells,
    /// This MTU; 0 as routers older than RFC 1191.
    Says(u16),
    /// Nothing.
    Vanishes,
}

/// What is changed in passing packets. The TTL is looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middlebox {
    /// A source NAT.
    Nat {
        /// Its outside address; IPv4 is left alone without one.
        v4: Option<Ipv4Addr>,
        /// The same for IPv6.
        v6: Option<Ipv6Addr>,
        /// Local ports are exclusive-ored with this; 0 keeps them.
        port: u16,
        /// What it does to quotes on their way back.
        quotes: QuoteRepair,
        /// It gives errors from behind it the target's address as source, as
        /// Linux does with DNAT.
        hides_routers: bool,
    },
    /// Adds a constant to sequence numbers, and takes it off again.
    Sequence {
        /// Added to ours.
        ours: u32,
        /// Added to the server's.
        theirs: u32,
        /// SACK edges are corrected too.
        sack: bool,
        /// What it does to quotes on their way back.
        quotes: QuoteRepair,
    },
    /// Sets the DSCP, keeps ECN.
    Dscp(u8),
}

/// What a middlebox does to quotes of packets that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteRepair {
    /// Nothing: we see the packet as it was changed.
    None,
    /// Puts back what it changed, and leaves the quoted checksum.
    Fields,
    /// Puts everything back: we see nothing of it.
    Whole,
}

/// A line between two neighbours, both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Time to cross it.
    pub latency: Duration,
    /// At most so much longer. Packets may overtake each other by it.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet comes twice.
    pub duplicate: f64,
    /// Some packets take longer: probability, time.
    pub reorder: (f64, Duration),
    /// The longest packet of ours that fits, octets.
    pub mtu: u16,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: (0.0, Duration::ZERO),
            mtu: u16::MAX,
        }
    }
}

/// A router, and the line that leads to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The line.
    pub line: Line,
    /// The router.
    pub router: RouterId,
}

/// A part of a way: one branch, or a balancer over several. Branches need not
/// be of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Each of them the routers on it.
    pub branches: Vec<Vec<Step>>,
    /// By which rule one is taken.
    pub balance: Balance,
}

/// How a balancer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// By hash over addresses, ports, protocol, DSCP and flow label.
    PerFlow,
    /// By chance, each packet anew.
    PerPacket,
}

/// A target: the way to it, and the server that it is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The way to it.
    pub way: Vec<Stage>,
    /// The last line, to the server.
    pub last: Line,
    /// The server; every port is one of its.
    pub server: Server,
}

impl Target {
    /// A target next to us with a server like Linux.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Target {
            addresses: vec![address],
            way: Vec::new(),
            last: Line::default(),
            server: Server::default(),
        }
    }

    /// Behind `router` too, over a line like this.
    #[must_use]
    pub fn over(mut self, line: Line, router: RouterId) -> Self {
        self.way.push(Stage {
            branches: vec![vec![Step { line, router }]],
            balance: Balance::PerFlow,
        });
        self
    }

    /// Behind all these routers too, in this order, over default lines.
    #[must_use]
    pub fn via(self, routers: impl IntoIterator<Item = RouterId>) -> Self {
        routers
            .into_iter()
            .fold(self, |target, router| target.over(Line::default(), router))
    }

    /// Behind a balancer with these branches too, over default lines.
    #[must_use]
    pub fn balanced<B: IntoIterator<Item = RouterId>>(
        mut self,
        balance: Balance,
        branches: impl IntoIterator<Item = B>,
    ) -> Self {
        let step = |router| Step {
            line: Line::default(),
            router,
        };
        self.way.push(Stage {
            branches: branches
                .into_iter()
                .map(|branch| branch.into_iter().map(step).collect())
                .collect(),
            balance,
        });
        self
    }

    /// With this server.
    #[must_use]
    pub fn served_by(mut self, server: Server) -> Self {
        self.server = server;
        self
    }
}

/// A TCP server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// What it does with a SYN.
    pub answer: Answer,
    /// It permits SACK, if asked to.
    pub sack: bool,
    /// It takes part in timestamps, if asked to.
    pub timestamps: bool,
    /// Its window scale, if the client has one.
    pub window_scale: Option<u8>,
    /// Octets.
    pub mss: u16,
    /// Its receive window, octets.
    pub window: u32,
    /// It opens with a window of zero, and opens that by a pure ACK so long
    /// after the handshake (SYNPROXY).
    pub window_opens: Option<Duration>,
    /// It reports duplicates (RFC 2883).
    pub dsack: bool,
    /// It compresses SACKs as Linux does from the fourth duplicate ACK on.
    pub compresses: bool,
    /// Octets that it says first, retransmitted until they are acknowledged.
    pub banner: u16,
    /// It ends the connection after so many segments with payload.
    pub ends: Option<(u32, End)>,
    /// TTL of its segments.
    pub ttl: u8,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            answer: Answer::Listens,
            sack: true,
            timestamps: true,
            window_scale: Some(7),
            mss: 1460,
            window: 65_160,
            window_opens: None,
            dsack: true,
            compresses: true,
            banner: 0,
            ends: None,
            ttl: 64,
        }
    }
}

/// What a server does with a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// SYN-ACK.
    Listens,
    /// RST.
    Refuses,
    /// Nothing.
    Drops,
}

/// How a server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN, retransmitted until it is acknowledged.
    Fin,
    /// RST.
    Rst,
}
