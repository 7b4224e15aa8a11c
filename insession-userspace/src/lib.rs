//! insession: mass in-session traceroute.
//!
//! Opens real TCP sessions with its own handshake, sends TTL-stepped data
//! segments inside them after a deliberate one-byte sequence gap, and reads
//! the routers' ICMP errors and the server's SACKs, steered by an XDP program.
//!
//! The protocol core has no system calls, no clock and no threads, and builds
//! without an operating system (feature `os` off):
//!
//! * [`time`]: our own time type;
//! * [`wire`]: codecs, both directions, no state;
//! * [`trace`]: the result model;
//! * [`session`]: one flow each, a pure state machine.
//!
//! Around it, with feature `os`:
//!
//! * [`link`]: how frames get on and off a wire;
//! * [`targets`]: what the user wants traced;
//! * [`dns`]: names and addresses;
//! * [`net`]: interfaces, routes, neighbours;
//! * [`multipath`]: load balancing, in one session and over many flows;
//! * [`engine`]: many sessions at once;
//! * [`owners`]: whose addresses are, from files;
//! * [`aliases`]: which addresses are one router's;
//! * [`campaign`]: records of long lists, kept whatever happens;
//! * [`report`]: one file an output format;
//! * [`graph`]: many traces as one graph of paths;
//! * [`mod@bench`]: what all of it can do, measured;
//! * [`compare`]: several methods side by side;
//! * [`cli`]: one file a subcommand;
//! * [`testbed`]: a network to measure and test in, and the truth about it.
#![cfg_attr(not(feature = "os"), no_std)]

extern crate alloc;

pub mod session;
pub mod time;
pub mod trace;
pub mod wire;

#[cfg(feature = "os")]
pub mod aliases;
#[cfg(feature = "os")]
pub mod bench;
#[cfg(feature = "os")]
pub mod campaign;
#[cfg(feature = "os")]
pub mod cli;
#[cfg(feature = "os")]
pub mod compare;
#[cfg(feature = "os")]
pub mod dns;
#[cfg(feature = "os")]
pub mod engine;
#[cfg(feature = "os")]
pub mod graph;
#[cfg(feature = "os")]
pub mod link;
#[cfg(feature = "os")]
pub mod multipath;
#[cfg(feature = "os")]
pub mod net;
#[cfg(feature = "os")]
pub mod owners;
#[cfg(feature = "os")]
pub mod report;
#[cfg(feature = "os")]
pub mod targets;
#[cfg(feature = "os")]
pub mod testbed;
