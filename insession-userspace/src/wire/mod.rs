//! Codecs, both directions, no state. One file a protocol.
pub mod tcp;
