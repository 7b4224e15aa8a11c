//! What the kernel says about the interface: driver, queues, up, carrier.

use crate::link::LinkError;
use crate::net::Interface;
use crate::net::ethtool::Ethtool;
use crate::net::netdev::Netdev;

/// How the interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Deleted, or moved to another namespace.
    Gone,
    /// `ip link set … down`.
    Down,
    /// Up, but the other end is not.
    NoCarrier,
    /// Up.
    Up,
}

/// One interface, as the kernel knows it.
#[derive(Debug)]
pub(super) struct Device {
    index: u32,
    /// The name when it was opened: for messages.
    name: String,
    ethtool: Ethtool,
    /// On kernels that have it (Linux 6.3).
    netdev: Option<Netdev>,
}

impl Device {
    /// # Errors
    /// [`LinkError::NoInterface`] when this namespace has none of this index.
    pub(super) fn open(interface: &Interface) -> Result<Self, LinkError> {
        let ethtool = Ethtool::open().map_err(|source| LinkError::System {
            what: format!("interface {}: a socket to ask about it", interface.name),
            source,
        })?;
        if !ethtool.exists(interface.index) {
            return Err(LinkError::NoInterface(interface.name.clone()));
        }
        Ok(Device {
            index: interface.index,
            name: interface.name.clone(),
            ethtool,
            netdev: Netdev::open().ok(),
        })
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is now.
    pub(super) fn state(&self) -> State {
        let Ok(flags) = self.ethtool.flags(self.index) else {
            return State::Gone;
        };
        if flags & libc::IFF_UP == 0 {
            return State::Down;
        }
        // The carrier itself where the driver tells it: IFF_RUNNING follows it
        // up to a second later (Linux net/core/link_watch.c).
        let carrier = self.ethtool.carrier(self.index);
        if carrier.unwrap_or(flags & libc::IFF_RUNNING != 0) {
            State::Up
        } else {
            State::NoCarrier
        }
    }

    /// Whether frames can be redirected to it, as far as the kernel tells.
    pub(super) fn takes_redirected(&mut self) -> bool {
        let index = self.index;
        self.netdev
            .as_mut()
            .is_some_and(|netdev| netdev.takes_redirected(index).unwrap_or(false))
    }

    /// The driver's name, where it has one.
    pub(super) fn driver(&self) -> Option<String> {
        self.ethtool.driver(self.index)
    }

    /// How many receive queues are in use; at least one. Drivers that do not
    /// know ethtool's channels have one queue.
    pub(super) fn queues(&self) -> u32 {
        self.ethtool.queues(self.index).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known() {
        // SAFETY: a constant, terminated name.
        let index = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
        let lo = Interface {
            index,
            name: "lo".into(),
        };
        let device = Device::open(&lo).unwrap();
        assert_eq!(device.queues(), 1);
        assert_ne!(device.state(), State::Gone);
    }

    #[test]
    fn unknown_index_is_named() {
        let none = Interface {
            index: 0x7fff_fff0,
            name: "none0".into(),
        };
        let error = Device::open(&none).unwrap_err();
        assert!(error.to_string().contains("none0"), "{error}");
    }
}
