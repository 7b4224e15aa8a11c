//! What the kernel says about the interface: driver, queues, up, carrier.
//!
//! By ioctl on a socket, not from /sys: /sys shows the network namespace it was
//! mounted in, a socket the one it was made in. The interface is known by its
//! index, so a rename in mid-run does no harm.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use crate::link::LinkError;
use crate::net::Interface;

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
    socket: UnixDatagram,
}

impl Device {
    /// # Errors
    /// [`LinkError::NoInterface`] when this namespace has none of this index.
    pub(super) fn open(interface: &Interface) -> Result<Self, LinkError> {
        let socket = UnixDatagram::unbound().map_err(|source| LinkError::System {
            what: format!("interface {}: a socket to ask about it", interface.name),
            source,
        })?;
        let device = Device {
            index: interface.index,
            name: interface.name.clone(),
            socket,
        };
        match device.request() {
            Ok(_) => Ok(device),
            Err(_) => Err(LinkError::NoInterface(interface.name.clone())),
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A request that names the interface as it is called now.
    fn request(&self) -> io::Result<libc::ifreq> {
        // SAFETY: plain data, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_ifindex =
            i32::try_from(self.index).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.ioctl(libc::SIOCGIFNAME, &mut request)?;
        Ok(request)
    }

    fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all requests used here take a `struct ifreq`, and write inside
        // it or inside what `ethtool` below points it to.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), number as _, request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Asks ethtool: `command` is one of its structures, number set.
    fn ethtool<T>(&self, command: &mut T) -> io::Result<()> {
        let mut request = self.request()?;
        request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
        self.ioctl(libc::SIOCETHTOOL, &mut request)
    }

    /// How it is now.
    pub(super) fn state(&self) -> State {
        let Ok(mut request) = self.request() else {
            return State::Gone;
        };
        if self.ioctl(libc::SIOCGIFFLAGS, &mut request).is_err() {
            return State::Gone;
        }
        // SAFETY: SIOCGIFFLAGS has set this member.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_UP == 0 {
            return State::Down;
        }
        // The carrier itself where the driver tells it: IFF_RUNNING follows it
        // up to a second later (Linux net/core/link_watch.c).
        let mut link = Value {
            command: ETHTOOL_GLINK,
            data: 0,
        };
        let carrier = match self.ethtool(&mut link) {
            Ok(()) => link.data != 0,
            Err(_) => flags & libc::IFF_RUNNING != 0,
        };
        if carrier { State::Up } else { State::NoCarrier }
    }

    /// The driver's name, where it has one.
    pub(super) fn driver(&self) -> Option<String> {
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            others: [0; 160],
        };
        self.ethtool(&mut info).ok()?;
        let name = std::ffi::CStr::from_bytes_until_nul(&info.driver).ok()?;
        Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
    }

    /// How many receive queues are in use; at least one. Drivers that do not
    /// know ethtool's channels have one queue.
    pub(super) fn queues(&self) -> u32 {
        let mut channels = Channels {
            command: ETHTOOL_GCHANNELS,
            ..Channels::default()
        };
        match self.ethtool(&mut channels) {
            Ok(()) => channels.rx.saturating_add(channels.combined).max(1),
            Err(_) => 1,
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
