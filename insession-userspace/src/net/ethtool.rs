//! What netlink does not tell of an interface, or not by a socket of another
//! kind: flags, carrier, driver, queues in use.
//!
//! By ioctl on a socket, not from /sys: /sys shows the network namespace it was
//! mounted in, a socket the one it was made in. Interfaces are named by their
//! index, so a rename in between does no harm.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

/// linux/ethtool.h.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    others: [u8; 160],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// A socket to ask through.
#[derive(Debug)]
pub(crate) struct Ethtool(UnixDatagram);

impl Ethtool {
    /// Of the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Ethtool)
    }

    /// Whether there is an interface of this index.
    pub(crate) fn exists(&self, index: u32) -> bool {
        self.request(index).is_ok()
    }

    /// `IFF_UP` and the others that fit into 16 bits.
    pub(crate) fn flags(&self, index: u32) -> io::Result<i32> {
        let mut request = self.request(index)?;
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has set this member.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    /// Whether there is a carrier, where the driver tells it.
    pub(crate) fn carrier(&self, index: u32) -> Option<bool> {
        let mut link = Value {
            command: ETHTOOL_GLINK,
            data: 0,
        };
        self.ask(index, &mut link).ok()?;
        Some(link.data != 0)
    }

    /// The driver's name, where it has one.
    pub(crate) fn driver(&self, index: u32) -> Option<String> {
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            others: [0; 160],
        };
        self.ask(index, &mut info).ok()?;
        Some(super::netlink::text(&info.driver)).filter(|name| !name.is_empty())
    }

    /// How many receive queues are in use; `None` for drivers that do not know
    /// ethtool's channels.
    pub(crate) fn queues(&self, index: u32) -> Option<u32> {
        let mut channels = Channels {
            command: ETHTOOL_GCHANNELS,
            ..Channels::default()
        };
        self.ask(index, &mut channels).ok()?;
        Some(channels.rx.saturating_add(channels.combined)).filter(|queues| *queues > 0)
    }

    /// A request that names the interface as it is called now.
    fn request(&self, index: u32) -> io::Result<libc::ifreq> {
        // SAFETY: plain data, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_ifindex =
            i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.ioctl(libc::SIOCGIFNAME, &mut request)?;
        Ok(request)
    }

    /// `command` is one of ethtool's structures, its number set.
    fn ask<T>(&self, index: u32, command: &mut T) -> io::Result<()> {
        let mut request = self.request(index)?;
        request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
        self.ioctl(libc::SIOCETHTOOL, &mut request)
    }

    fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all requests used here take a `struct ifreq`, and write inside
        // it or inside what `ask` above points it to.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(size_of::<Value>(), 8);
    }
}
