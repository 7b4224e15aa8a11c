//! What the user wants traced: from what was written to the order of probing.
//!
//! ```text
//! files, pipes, words ─▶ list ─▶ stage ─▶ engine
//!  (gzip, zstd)       in a seeded  │ names: dns::bulk; exclude: special ranges,
//!                       order      ▼          the user's own list
//!                               records of what is not traced
//! ```
//!
//! * [`spec`]: one target, taken apart;
//! * [`entry`]: a line of a list: a target, or a prefix of them;
//! * [`list`]: lists of any length, one pass, in a seeded pseudo-random order;
//! * [`exclude`]: what is not to be traced;
//! * [`order`]: the permutation, and the choice of addresses within prefixes;
//! * [`stage`]: from the list to the engine.

pub mod entry;
pub mod exclude;
pub mod list;
pub mod order;
pub mod spec;
pub mod stage;
