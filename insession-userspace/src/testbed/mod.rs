//! A network to trace in, on any machine: a veth pair in a network namespace of
//! its own, at whose far end the reflector answers as a whole network would; and
//! the truth about every trace made there.
//!
//! For measuring and for tests. Needs root (CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN
//! for the namespace) and `ip` and `ethtool`.

mod bed;
mod truth;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub use bed::{Bed, BedError, BedOptions, NEAR_MAC, NEAR_V4, NEAR_V6};
pub use truth::check;

/// The port of all targets.
const PORT: u16 = 80;

/// The first `n` IPv4 targets: from 10.0.0.1 on, at most all of 10.0.0.0/8.
pub fn targets(n: u64) -> impl Iterator<Item = SocketAddr> {
    (1..1 << 24)
        .take(usize::try_from(n).unwrap_or(usize::MAX))
        .map(|host: u32| SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 | host).into(), PORT))
}

/// The first `n` IPv6 targets: from 2001:db8::1 on.
pub fn targets_v6(n: u64) -> impl Iterator<Item = SocketAddr> {
    (1..=n).map(|host| {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host));
        SocketAddr::new(address.into(), PORT)
    })
}
