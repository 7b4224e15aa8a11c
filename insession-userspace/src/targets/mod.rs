//! What the user wants traced: from what was written to the order of probing.
//!
//! * [`spec`]: one target, taken apart.

pub mod spec;
