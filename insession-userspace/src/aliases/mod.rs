//! Which addresses are one router's, from what its packets give away. Nothing is said
//! without evidence that can be weighed, and two addresses are never put together only
//! because nothing speaks against it.
//!
//! Evidence for:
//!
//! * one counter behind the identification of both addresses' packets ([`trial`]): Ally's
//!   alternation under MIDAR's monotonic bounds, with pushes whose size only we know;
//! * the same of IPv6 fragments ([`wide`], Speedtrap);
//! * an error about a probe to the one that comes from the other ([`evidence`], Mercator);
//! * an interface that the router names itself in its errors (RFC 5837).
//!
//! Evidence against: two counters that both advance and are not one ([`bounds`]).
//! Identifications that are zero, constant, random, or the probe's own ([`series`]) say
//! nothing either way.
//!
//! [`survey`] is the state machine: what to send and when, with an explicit clock;
//! [`drive`] joins it to links; [`sets`] makes sets of pairs.

use core::net::IpAddr;

use crate::time::Instant;

pub mod bounds;
pub mod drive;
pub mod evidence;
pub mod findings;
pub mod packet;
pub mod series;
pub mod sets;
pub mod survey;
pub mod trial;
pub mod wide;

#[cfg(test)]
mod lab;
#[cfg(test)]
mod tests;

/// By which probes an address is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Echo requests; the reply's identification is looked at.
    Echo,
    /// Datagrams to a port where nobody listens; the error's.
    Datagram,
    /// SYNs; the identification of RST or SYN-ACK.
    Segment,
}

impl Kind {
    /// All, in the order in which they are asked.
    pub const ALL: [Kind; 3] = [Kind::Echo, Kind::Datagram, Kind::Segment];

    /// Its place among them.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Kind::Echo => 0,
            Kind::Datagram => 1,
            Kind::Segment => 2,
        }
    }

    /// What answers to it are called.
    #[must_use]
    pub const fn answers(self) -> &'static str {
        match self {
            Kind::Echo => "echo replies",
            Kind::Datagram => "errors about datagrams",
            Kind::Segment => "TCP answers",
        }
    }

    /// As the method of tracing by such probes is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Echo => "icmp",
            Kind::Datagram => "udp",
            Kind::Segment => "tcp",
        }
    }
}

/// A probe that is to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Number of the address.
    pub target: usize,
    /// It.
    pub address: IpAddr,
    /// What is sent.
    pub kind: Kind,
    /// Which of the probes of that kind to that address.
    pub number: u16,
    /// The IPv4 identification that it has.
    pub identification: u16,
}

/// An interface that a router names in an error (RFC 5837).
pub use crate::wire::interface::{Interface, Role};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number of the address that was asked.
    pub target: usize,
    /// By what.
    pub kind: Kind,
    /// Which probe is answered; `None`: it names none.
    pub number: Option<u16>,
    /// When it arrived.
    pub at: Instant,
    /// Its source address.
    pub from: IpAddr,
    /// Its TTL or hop limit as it arrived.
    pub ttl: u8,
    /// Its IPv4 identification, or that of its fragments.
    pub id: Option<u32>,
    /// It says that nobody listens at the port.
    pub port_unreachable: bool,
    /// It is an error of another kind.
    pub other_error: bool,
    /// The interfaces that it names.
    pub interfaces: Vec<Interface>,
}

/// A stream of pseudo-random numbers (SplitMix64): pushes and orders that who answers
/// cannot foresee are drawn from a secret seed.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Draw(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, 0 where that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }
}
