//! The keys of the flow maps: who talks to whom, seen from our side.
//!
//! All fields are in network byte order and there is no padding, so that a key
//! is its bytes, for the kernel's hash maps as for ours. They are aligned to
//! words because the XDP program would otherwise build them byte by byte.

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;

/// Probes that stand alone, in no connection, have flows as well. All of a session
/// come from one port, or from a block of so many that begins at a multiple of that:
/// each probe from one of them, the flow's local port being the first. See
/// [`crate::steer::Flows::blocks`].
pub const BLOCK: u16 = 128;

/// The remote port of the flow of a session that sends datagrams or echo requests:
/// datagrams go to ports of their own, an echo request has none. It is the protocol
/// number, so that their flows are told apart; a TCP server that has such a port and
/// is traced at the same time gets another local port.
#[must_use]
pub const fn alone_port(protocol: u8) -> u16 {
    protocol as u16
}

/// The number by which a worker knows a session: an index into its slab.
pub type SessionId = u32;

/// The session id of a reply that is surely ours, but whose quote was rewritten
/// so that the exact flow could not be named; user space finds it by sequence
/// number (see [`crate::steer`]).
pub const UNRESOLVED: SessionId = u32::MAX;

/// An IPv4 flow. 16 bytes.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKeyV4 {
    /// The address of the traced server.
    pub remote: [u8; 4],
    /// Our address.
    pub local: [u8; 4],
    /// The server's port.
    pub remote_port: [u8; 2],
    /// Our port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: no byte of a key may be undefined.
    pub zero: [u8; 3],
}

/// An IPv6 flow. 40 bytes.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKeyV6 {
    /// The address of the traced server.
    pub remote: [u8; 16],
    /// Our address.
    pub local: [u8; 16],
    /// The server's port.
    pub remote_port: [u8; 2],
    /// Our port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: no byte of a key may be undefined.
    pub zero: [u8; 3],
}

/// A flow of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// IPv4.
    V4(FlowKeyV4),
    /// IPv6.
    V6(FlowKeyV6),
}

/// A remote end, for quotes in which a NAT left our own address or port
/// rewritten: IPv4 addresses stand in the IPv4-mapped form. 20 bytes.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// The address of the traced server; IPv4 as `::ffff:a.b.c.d`.
    pub remote: [u8; 16],
    /// The server's port.
    pub remote_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub zero: u8,
}

impl FlowKey {
    /// The key of the flow between `local` and `remote`; `None` when the two
    /// addresses are not of one family.
    #[must_use]
    pub fn new(
        local: core::net::SocketAddr,
        remote: core::net::SocketAddr,
        protocol: u8,
    ) -> Option<Self> {
        use core::net::IpAddr;
        let (local_port, remote_port) = (local.port().to_be_bytes(), remote.port().to_be_bytes());
        Some(match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => FlowKey::V4(FlowKeyV4 {
                remote: remote.octets(),
                local: local.octets(),
                remote_port,
                local_port,
                protocol,
                zero: [0; 3],
            }),
            (IpAddr::V6(local), IpAddr::V6(remote)) => FlowKey::V6(FlowKeyV6 {
                remote: remote.octets(),
                local: local.octets(),
                remote_port,
                local_port,
                protocol,
                zero: [0; 3],
            }),
            _ => return None,
        })
    }

    /// Our port of this flow.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        match self {
            FlowKey::V4(key) => u16::from_be_bytes(key.local_port),
            FlowKey::V6(key) => u16::from_be_bytes(key.local_port),
        }
    }

    /// Our address of this flow; IPv4 as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn local(&self) -> [u8; 16] {
        match self {
            FlowKey::V4(key) => mapped(key.local),
            FlowKey::V6(key) => key.local,
        }
    }

    /// The remote end of this flow.
    #[must_use]
    pub fn peer(&self) -> PeerKey {
        match self {
            FlowKey::V4(key) => PeerKey::new(mapped(key.remote), key.remote_port, key.protocol),
            FlowKey::V6(key) => PeerKey::new(key.remote, key.remote_port, key.protocol),
        }
    }
}

impl FlowKeyV4 {
    /// As it stands in the map.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        let [a, b, c, d] = self.remote;
        let [e, f, g, h] = self.local;
        let ([i, j], [k, l]) = (self.remote_port, self.local_port);
        let [m, n, o] = self.zero;
        [a, b, c, d, e, f, g, h, i, j, k, l, self.protocol, m, n, o]
    }
}

impl FlowKeyV6 {
    /// As it stands in the map.
    #[must_use]
    pub fn bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let (addresses, rest) = bytes.split_at_mut(32);
        addresses[..16].copy_from_slice(&self.remote);
        addresses[16..].copy_from_slice(&self.local);
        let ([a, b], [c, d]) = (self.remote_port, self.local_port);
        let [e, f, g] = self.zero;
        rest.copy_from_slice(&[a, b, c, d, self.protocol, e, f, g]);
        bytes
    }
}

impl PeerKey {
    /// As it stands in the map.
    #[must_use]
    pub fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let (address, rest) = bytes.split_at_mut(16);
        address.copy_from_slice(&self.remote);
        let [a, b] = self.remote_port;
        rest.copy_from_slice(&[a, b, self.protocol, self.zero]);
        bytes
    }

    /// A key from its parts.
    #[must_use]
    pub const fn new(remote: [u8; 16], remote_port: [u8; 2], protocol: u8) -> Self {
        PeerKey {
            remote,
            remote_port,
            protocol,
            zero: 0,
        }
    }
}

/// `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

const _: () = assert!(size_of::<FlowKeyV4>() == 16);
const _: () = assert!(size_of::<FlowKeyV6>() == 40);
const _: () = assert!(size_of::<PeerKey>() == 20);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: made of byte arrays only, with a size that is a multiple of its
    // alignment (asserted above), hence without padding, and
    // every bit pattern is a value.
    unsafe impl aya::Pod for super::FlowKeyV4 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKeyV6 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PeerKey {}
}
