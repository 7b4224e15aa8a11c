//! Load balancing, told as it is: what one session shows of it, and what many flows to
//! one target show together.
//!
//! * [`within`]: several responders at one TTL of one flow;
//! * [`walk`]: what one flow shows of its way;
//! * [`graph`]: routers, links and diamonds of many flows;
//! * [`paths`]: all of that and the paths, with their loss and times;
//! * [`mda`]: when enough flows have been seen;
//! * [`flows`]: which flow is to be opened next.

pub mod flows;
pub mod graph;
pub mod mda;
pub mod paths;
pub mod walk;
pub mod within;

pub use within::{Balancing, BalancingKind};
