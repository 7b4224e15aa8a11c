//! One file an output format.
//!
//! * [`json`]: the contract `insession.trace/1`, one object a line;
//! * [`text`]: what a reader of traceroute reads at once;
//! * [`live`]: the same text, hop by hop while the trace goes on;
//! * [`civil`]: moments as RFC 3339 writes them.

pub mod civil;
pub mod json;
pub mod live;
pub mod text;

#[cfg(test)]
pub(crate) mod samples;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// As traceroute writes
    Text,
    /// One JSON object a line (insession.trace/1)
    Json,
}
