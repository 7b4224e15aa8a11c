//! Load balancing, told as it is: what one session shows of it ([`within`]), and what
//! many flows to one target show together.

pub mod within;

pub use within::{Balancing, BalancingKind};
