//! A flow's frames, laid out once: Ethernet, VLAN tag, IP and TCP with what
//! never changes; each segment fills in the rest and patches the checksums
//! (RFC 1624).

use core::net::SocketAddr;

/// What all frames of a flow have in common: everything that a per-flow load
/// balancer may hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our MAC address.
    pub source_mac: [u8; 6],
    /// MAC address of the gateway, or of the target on the link.
    pub next_hop_mac: [u8; 6],
    /// 802.1Q tag to put on every frame.
    pub vlan: Option<u16>,
    /// Our address and port.
    pub local: SocketAddr,
    /// The target's address and port.
    pub remote: SocketAddr,
    /// DSCP (6 bits); the ECN bits are 0.
    pub dscp: u8,
    /// IPv6 flow label (20 bits, RFC 6437); unused with IPv4.
    pub flow_label: u32,
}

/// TCP options of a segment of ours. Three shapes, so that templates can be
/// laid out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentOptions {
    /// None.
    None,
    /// MSS, SACK-permitted, timestamps, NOP, window scale: as Linux sends them.
    Syn {
        /// Octets.
        mss: u16,
        /// Shift count.
        window_scale: u8,
        /// Our clock; TSecr is 0 in a SYN.
        tsval: u32,
    },
    /// NOP, NOP, timestamps.
    Timestamps {
        /// Our clock.
        tsval: u32,
        /// The latest of theirs.
        tsecr: u32,
    },
}

/// What differs from segment to segment of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Varying {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; 0 without the ACK flag.
    pub acknowledgment: u32,
    /// Flag bits as on the wire ([`super::tcp::flags`]).
    pub flags: u8,
    /// The window field as it goes on the wire.
    pub window: u16,
    /// TCP options.
    pub options: SegmentOptions,
    /// Bytes of payload (their content is zero).
    pub payload_len: u8,
}

/// A flow's frame, laid out.
#[derive(Clone, Debug)]
pub struct Template {}

impl Template {
    /// Lays it out; `None` when the two addresses are not of one family.
    #[must_use]
    pub fn new(ends: &Ends) -> Option<Self> {
        let _ = ends;
        unimplemented!()
    }

    /// Where the IP header begins: 14, or 18 behind a VLAN tag.
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        unimplemented!()
    }

    /// Writes one whole frame to the beginning of `out`, returns its length in
    /// bytes. `identification` is the IPv4 ID (don't-fragment is set; RFC 6864
    /// leaves the ID of such packets free), unused with IPv6.
    ///
    /// # Panics
    /// When `out` is shorter than 256 bytes.
    #[must_use]
    pub fn write(&self, varying: &Varying, identification: u16, out: &mut [u8]) -> usize {
        let _ = (varying, identification, out);
        unimplemented!()
    }
}
