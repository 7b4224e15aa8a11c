//! What many flows to one target show together, written: `insession.paths/1`, one
//! object a line behind the records of its flows, and a drawing in text.

mod json;
mod text;

pub use json::append;
pub use text::write;

/// What the schema's name of a merged object begins with, whatever its version.
pub const SCHEMA: &str = "insession.paths/";
