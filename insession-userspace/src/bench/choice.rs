//! Which link is measured.

use crate::link::xdp::{Transmission, XdpOptions};

/// Which link.
#[derive(Clone, Debug)]
pub enum LinkChoice {
    /// AF_XDP.
    Xdp(XdpOptions),
    /// AF_PACKET; connections are the kernel's.
    Packet,
}

impl LinkChoice {
    /// The same, but that frames go out by the socket's ring in any case.
    #[must_use]
    pub fn by_ring(&self) -> Self {
        match self {
            LinkChoice::Xdp(options) => LinkChoice::Xdp(XdpOptions {
                transmission: Transmission::Ring,
                ..options.clone()
            }),
            LinkChoice::Packet => LinkChoice::Packet,
        }
    }
}
