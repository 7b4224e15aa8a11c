//! Interfaces, routes, neighbours, sockets in use: what the kernel knows, over
//! netlink. Everything is about the network namespace of the calling thread.

use std::net::IpAddr;
use std::sync::Arc;

mod connections;
mod destinations;
mod error;
pub(crate) mod ethtool;
mod interfaces;
mod neighbour;
pub(crate) mod netdev;
mod netlink;
pub mod ports;
mod route;
mod route_cache;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use connections::{Connection, connection};
pub use destinations::destinations;
pub use error::NetError;
pub use interfaces::{InterfaceInfo, Vlan, XdpAttachment, interface, interfaces};
pub use route::{Router, RouterOptions};

/// A way to a target: everything that a frame's Ethernet header and source
/// address need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface frames go through and the XDP program sits on (for a VLAN
    /// sub-interface: its parent).
    pub interface: Arc<Interface>,
    /// Tag to put on every frame: the VLAN sub-interface's id.
    pub vlan: Option<u16>,
    /// Our address.
    pub source: IpAddr,
    /// Our MAC address (of the interface the route names).
    pub source_mac: [u8; 6],
    /// MAC address of the gateway, or of the target on the link.
    pub next_hop_mac: [u8; 6],
    /// Path MTU known to the kernel, else the interface's, octets.
    pub mtu: u32,
    /// The MTU of the interface that the route names, octets.
    pub device_mtu: u32,
}

/// A neighbour that frames are sent to: a gateway, or a target on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Number of the interface it is on.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Kernel's number.
    pub index: u32,
    /// Name.
    pub name: String,
}

impl Interface {
    /// Whether it is `lo`, which has this number in every network namespace
    /// (`LOOPBACK_IFINDEX`, include/net/flow.h).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.index == LOOPBACK_IFINDEX
    }
}

const LOOPBACK_IFINDEX: u32 = 1;
