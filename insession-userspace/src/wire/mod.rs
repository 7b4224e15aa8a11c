//! Codecs, both directions, no state. One file a protocol.

pub mod checksum;
pub mod ethernet;
pub mod extension;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod template;
