//! What insession's XDP program and its user space both know.
//!
//! * [`bucket`]: tables of IPv4 flows and their remote ends;
//! * [`flow`]: the keys of the flow maps;
//! * [`steer`]: the steering decision, bytes → ours / not ours / malformed;
//! * [`stamp`]: what the XDP program writes in front of a packet of ours;
//! * [`counters`]: one counter a branch, their names and reasons;
//! * [`names`]: maps, programs and load-time constants, by name;
//! * [`reflect`]: for test beds, a whole network's answers and the truth about it;
//! * [`yardstick`]: the flows that the program is measured with.
//!
//! `no_std`, no allocation, no system calls: the same code runs under the
//! kernel's verifier and in the user-space links.
#![no_std]

pub mod bucket;
pub mod counters;
pub mod flow;
pub mod live;
pub mod names;
pub mod reflect;
pub mod stamp;
pub mod steer;
pub mod yardstick;
