//! One counter for every branch of the reflector.

use crate::counters::counters;

counters! {
    /// ICMP time exceeded, from a router.
    Exceeded = "exceeded",
    /// ICMP time exceeded with an MPLS label stack.
    ExceededMpls = "exceeded-mpls",
    /// A router that never answers.
    Silent = "silent",
    /// The reply to it is one that is lost.
    Lost = "lost",
    /// SYN-ACK.
    SynAck = "syn-ack",
    /// RST to the SYN of who refuses.
    Refused = "refused",
    /// ACK of data in order.
    InOrder = "in-order",
    /// ACK with a SACK block, of data behind a gap.
    Sack = "sack",
    /// ACK of data behind a gap, to who did not offer SACK.
    DupAck = "dup-ack",
    /// ACK of a keepalive or window probe.
    Keepalive = "keepalive",
    /// ACK of a FIN.
    Fin = "fin",
    /// A pure ACK of a session; not answered.
    PureAck = "pure-ack",
    /// RST; not answered.
    Reset = "reset",
    /// RST to a segment of no session.
    NoSession = "no-session",
    /// A destination that completes the handshake and answers nothing else.
    Mute = "mute",
    /// Echo reply.
    Echo = "echo",
    /// Port unreachable.
    PortUnreachable = "port-unreachable",
    /// ICMP that is no echo request; not answered.
    OtherIcmp = "other-icmp",
    /// ARP reply.
    Arp = "arp",
    /// Neighbour advertisement.
    Advertisement = "advertisement",
    /// Neither IPv4, IPv6 nor ARP; dropped.
    NotIp = "not-ip",
    /// Neither TCP, UDP nor ICMP, or behind options or extension headers; dropped.
    OtherProtocol = "other-protocol",
    /// A fragment; dropped.
    Fragment = "fragment",
    /// To many; dropped.
    Multicast = "multicast",
    /// It ends before its headers do; dropped.
    Truncated = "truncated",
    /// A header contradicts itself; dropped.
    Malformed = "malformed",
    /// The checksum behind the IP header is wrong; dropped by the destination.
    Checksum = "checksum",
    /// To the gateway itself; left to the kernel behind it.
    Gateway = "gateway",
    /// The driver has no room for the reply; dropped.
    NoRoom = "no-room",
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn labels_are_unique_and_in_the_map_s_order() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            let same = |other: &&Counter| other.label() == counter.label();
            assert_eq!(Counter::ALL.iter().filter(same).count(), 1);
            assert!(counter.reason().ends_with('.'));
        }
    }
}
