//! One file an output format.
//!
//! * [`json`]: the contract `insession.trace/1`, one object a line;
//! * [`text`]: what a reader of traceroute reads at once;
//! * [`changes`]: what changed on the way, in both;
//! * [`mtu`]: how large a packet gets how far, in both;
//! * [`live`]: the same text, hop by hop while the trace goes on;
//! * [`input`]: files that are read, compressed or not;
//! * [`output`]: results in files, by the name of the file;
//! * [`paths`]: what many flows to one target show together;
//! * [`summary`]: the picture of many traces;
//! * [`civil`]: moments as RFC 3339 writes them;
//! * [`palette`]: the colours of pages and plots.

pub mod changes;
pub mod civil;
pub mod input;
pub mod json;
pub mod live;
pub mod mtu;
pub mod output;
pub mod palette;
pub mod paths;
pub mod summary;
pub mod text;
mod values;

#[cfg(test)]
mod readers;
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
