//! What the kernel says an interface's XDP can do: generic netlink, family "netdev"
//! (Linux 6.3; Documentation/netlink/specs/netdev.yaml).

use std::io;

use super::netlink::{Netlink, Request, attributes};

const GENERIC: isize = libc::NETLINK_GENERIC as isize;

/// linux/netdev.h, `NETDEV_XDP_ACT_NDO_XMIT`: frames can be redirected to it.
const NDO_XMIT: u64 = 1 << 2;

/// `NETDEV_CMD_DEV_GET`, and its attributes.
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;

/// A socket to ask through.
#[derive(Debug)]
pub(crate) struct Netdev {
    netlink: Netlink,
    family: u16,
}

impl Netdev {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// ENOENT from a kernel that has no such family.
    pub(crate) fn open() -> io::Result<Self> {
        let mut netlink = Netlink::open(GENERIC)?;
        let request = Request::new(
            libc::GENL_ID_CTRL as u16,
            0,
            &header(libc::CTRL_CMD_GETFAMILY as u8),
        )
        .attribute(libc::CTRL_ATTR_FAMILY_NAME as u16, b"netdev\0");
        let family = ask(&mut netlink, request, libc::CTRL_ATTR_FAMILY_ID as u16)?;
        Ok(Netdev {
            netlink,
            family: u16::from_ne_bytes(family),
        })
    }

    /// Whether an XDP program can redirect frames to the interface of this index, as
    /// it is set up now. On veth it depends on what the other end has.
    ///
    /// # Errors
    /// The kernel's: ENODEV when there is no such interface.
    pub(crate) fn takes_redirected(&mut self, index: u32) -> io::Result<bool> {
        let request = Request::new(self.family, 0, &header(DEV_GET))
            .attribute(DEV_IFINDEX, &index.to_ne_bytes());
        let features = ask(&mut self.netlink, request, DEV_XDP_FEATURES)?;
        Ok(u64::from_ne_bytes(features) & NDO_XMIT != 0)
    }
}

/// `struct genlmsghdr`: command, version, and two octets that are reserved.
fn header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

/// The value of one attribute of the answer.
fn ask<const N: usize>(netlink: &mut Netlink, request: Request, kind: u16) -> io::Result<[u8; N]> {
    let answer = netlink.ask(request).map_err(|refusal| refusal.error)?;
    let answer = answer.unwrap_or_default();
    let value = attributes(answer.get(4..).unwrap_or_default())
        .find(|(found, _)| *found == kind)
        .and_then(|(_, value)| value.first_chunk().copied());
    value.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_takes_none_and_what_is_not_there_is_said() {
        let mut netdev = Netdev::open().unwrap();
        assert!(!netdev.takes_redirected(1).unwrap());
        let error = netdev.takes_redirected(0x7fff_fff0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
