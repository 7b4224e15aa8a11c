//! Many sessions: worker loop, timer wheel, pacing, port and flow allocation,
//! hand-off of records. A trace of one host is a run of one.
//!
//! [`dispatch::run`] is the door: it routes each target, opens the links of an
//! egress interface, and runs one worker thread a link. Only targets (in),
//! outputs (out), the [`Stop`] and counts cross threads; and, where an interface
//! has several workers, replies that arrived at another's queue ([`handoff`]).

mod admit;
mod again;
mod chunks;
pub mod conversation;
mod courtesy;
mod crew;
mod deferred;
pub mod dispatch;
mod halt;
pub mod handoff;
pub mod isn;
pub mod jobs;
mod linger;
pub mod lookup;
mod near;
mod open;
mod outbox;
pub mod pacer;
pub mod ports;
pub mod ready;
mod receive;
pub mod record;
mod settle;
pub mod slab;
pub mod stats;
mod stop;
mod transmit;
pub mod wheel;
pub mod worker;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use conversation::Conversation;
pub use halt::Stop;
pub(crate) use stop::GIVE_UP_AFTER;

use insession_common::flow::{BLOCK, PROTOCOL_TCP};

use crate::link::flows::Alone;
use crate::session::{SessionOptions, has_block};
use crate::trace::{Handshake, Method, Probe, Trace};

/// What to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it stands in the user's list, from 0.
    pub index: u64,
    /// As the user named it.
    pub name: String,
    /// Resolved.
    pub address: IpAddr,
    /// Destination port.
    pub port: u16,
}

/// How a run is made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// What all sessions have in common.
    pub session: SessionOptions,
    /// Packets a second over all workers; `None`: as fast as the link takes them.
    pub rate: Option<f64>,
    /// At most this many sessions are open at a time, over all workers.
    pub sessions: usize,
    /// Local ports that may be used.
    pub ports: RangeInclusive<u16>,
    /// Key of initial sequence numbers (RFC 6528) and timestamp offsets.
    pub secret: [u8; 16],
    /// Emit [`Output::Established`], [`Output::Answer`] and
    /// [`Output::Destination`] as they come; without it only records.
    pub live: bool,
    /// Frames a kick, at most; `None`: as many as suit the link ([`crate::link::Link::batch`]).
    pub batch: Option<usize>,
    /// Measure how long frames take from the kernel's stamp to being credited
    /// ([`stats::Stats::latency`]). Costs a clock reading a frame, and frames are
    /// taken in one by one.
    pub latency: bool,
    /// What becomes of targets that were never begun when the run is stopped.
    pub unbegun: Unbegun,
    /// How targets go on with which no session can be opened; `None`: not at all.
    pub on_handshake_failure: Option<Method>,
    /// What probes hide in, by [`Method::Sidecar`].
    pub conversation: Conversation,
    /// Probes a second that any one router is to answer at most, over all workers;
    /// slower where its answers thin out ([`Output::Slowed`]). `None`: no bound.
    pub router_rate: Option<f64>,
    /// The first hops that all ways of a flow class have in common are probed once for
    /// all, and stand in the other records as [`crate::trace::Hop::shared`].
    pub share_near_hops: bool,
    /// Where records are kept by somebody who counts here those that are safe, of
    /// targets that had a session: a session is one of [`EngineOptions::sessions`]
    /// until its record is. So no more records than these are ever to be lost.
    pub recorded: Option<Arc<AtomicUsize>>,
}

impl EngineOptions {
    /// All that is not told is off or without a bound, but for a hundred thousand
    /// sessions at a time.
    #[must_use]
    pub fn new(session: SessionOptions, ports: RangeInclusive<u16>, secret: [u8; 16]) -> Self {
        EngineOptions {
            session,
            rate: None,
            sessions: 100_000,
            ports,
            secret,
            live: false,
            batch: None,
            latency: false,
            unbegun: Unbegun::Interrupted,
            on_handshake_failure: None,
            conversation: Conversation::Http,
            router_rate: None,
            share_near_hops: false,
            recorded: None,
        }
    }
}

impl EngineOptions {
    /// By which methods targets may be traced.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        let usual = core::iter::once(self.session.method);
        usual.chain(self.on_handshake_failure)
    }

    /// Which probes that stand alone a link has to steer the answers of.
    #[must_use]
    pub fn alone(&self) -> Alone {
        Alone {
            datagrams: self
                .methods()
                .any(|method| method.protocol(true) != PROTOCOL_TCP),
            blocks: self.blocks().map(|blocks| *blocks.start()),
        }
    }

    /// The ports that sessions have in blocks, whole blocks: all of them, where no
    /// method takes them one by one, or else the upper half.
    #[must_use]
    pub fn blocks(&self) -> Option<RangeInclusive<u16>> {
        if !self.methods().any(has_block) {
            return None;
        }
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let from = match self.methods().all(has_block) {
            true => first,
            false => first.midpoint(last),
        };
        // The first that begins there or behind.
        let from = u32::from(from).next_multiple_of(BLOCK.into());
        let end = (u32::from(last) + 1) / u32::from(BLOCK) * u32::from(BLOCK);
        let from = u16::try_from(from).ok()?;
        (u32::from(from) < end).then(|| from..=(end - 1) as u16)
    }

    /// The ports that sessions have one by one.
    #[must_use]
    pub fn singles(&self) -> RangeInclusive<u16> {
        match self.blocks() {
            Some(blocks) if self.methods().all(has_block) => blocks,
            Some(blocks) => *self.ports.start()..=blocks.start() - 1,
            None => self.ports.clone(),
        }
    }
}

/// What becomes of a target that was never begun when the run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbegun {
    /// It has a record that says `interrupted`.
    Interrupted,
    /// Nothing is told of it: whoever keeps account finds it undone.
    Untold,
}

/// What a run tells, over a bounded channel.
#[derive(Clone, Debug)]
pub enum Output {
    /// The connection to this target is open.
    Established {
        /// [`Target::index`].
        index: u64,
        /// What the handshake showed.
        handshake: Option<Handshake>,
    },
    /// A probe's fate is known: answered, or lost.
    Answer {
        /// [`Target::index`].
        index: u64,
        /// The TTL it was sent with.
        ttl: u8,
        /// Which of the hop's probes, from 0.
        nth: u8,
        /// What became of it.
        probe: Box<Probe>,
    },
    /// The smallest TTL that reached the destination, as known by now.
    Destination {
        /// [`Target::index`].
        index: u64,
        /// The TTL.
        ttl: u8,
    },
    /// Answers of a TTL thin out while it is probed at this rate: it is gone at more
    /// slowly ([`EngineOptions::router_rate`]). No more than one a second, TTL and
    /// worker.
    Slowed {
        /// The TTL.
        ttl: u8,
        /// The router that answers most at it, as far as known.
        router: Option<IpAddr>,
        /// The part of the probes of this TTL that was answered of late.
        answered: f64,
        /// The part that is usual for it.
        usual: f64,
        /// Probes a second at this TTL, over all workers: as it was.
        before: f64,
        /// As it is from now on.
        after: f64,
    },
    /// The finished record. Exactly one a target; none of those that a stop leaves
    /// [`Unbegun::Untold`].
    Trace {
        /// [`Target::index`].
        index: u64,
        /// The record.
        trace: Box<Trace>,
    },
}

#[cfg(test)]
mod tests;
