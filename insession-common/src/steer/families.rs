//! What differs between IPv4 and IPv6: where things stand in their headers.

use super::{
    Address, DESTINATION_OPTIONS, ETHERNET, Ends, FRAGMENT, Flows, Frame, HOP_BY_HOP, Header,
    MAX_EXTENSIONS, PROTOCOL_ICMP, PROTOCOL_ICMPV6, ROUTING, quoted, read,
};
use crate::counters::Counter;
use crate::flow::{FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, SessionId, mapped};

impl Address for [u8; 4] {
    const ZERO: Self = [0; 4];

    const ICMP: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Destination unreachable (fragmentation needed among it), time exceeded.
        matches!(icmp_type, 3 | 11)
    }

    #[inline(always)]
    fn header<B: Frame>(
        frame: &B,
        offset: usize,
        end: Option<usize>,
    ) -> Result<Header<Self>, Counter> {
        let ip = read::<20, B>(frame, offset, end.unwrap_or(usize::MAX))?;
        let length = usize::from(ip[0] & 0x0f) * 4;
        if ip[0] >> 4 != 4 || length < 20 {
            return Err(Counter::Malformed);
        }
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if end.is_none() && total < length {
            return Err(Counter::Malformed);
        }
        if is_fragment(ip) {
            return Err(Counter::Fragment);
        }
        Ok(header_v4(
            ip,
            offset + length,
            end.unwrap_or(offset + total),
        ))
    }

    #[inline(always)]
    fn plain<B: Frame>(frame: &B) -> Option<Header<Self>> {
        let ip = frame.read_at::<ETHERNET, 20>()?;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if ip[0] != 0x45 || total < 20 || is_fragment(ip) {
            return None;
        }
        Some(header_v4(ip, ETHERNET + 20, ETHERNET + total))
    }

    #[inline(always)]
    fn plain_tcp<B: Frame>(frame: &B) -> Option<[u8; 20]> {
        frame.read_at::<{ ETHERNET + 20 }, 20>()
    }

    #[inline(always)]
    fn plain_icmp_type<B: Frame>(frame: &B) -> Option<u8> {
        let [icmp_type] = frame.read_at::<{ ETHERNET + 20 }, 1>()?;
        Some(icmp_type)
    }

    #[inline(always)]
    fn plain_quote<B: Frame>(frame: &B, end: usize) -> Option<Ends<Self>> {
        const QUOTE: usize = ETHERNET + 20 + 8;
        let ip = frame.read_at::<QUOTE, 20>()?;
        if QUOTE + 28 > end || ip[0] != 0x45 || is_fragment(ip) || ip[9] != PROTOCOL_TCP {
            return None;
        }
        let ip = header_v4(ip, QUOTE + 20, end);
        let tcp = frame.read_at::<{ QUOTE + 20 }, 8>()?;
        Some(quoted(ip.source, ip.destination, tcp))
    }

    #[inline(always)]
    fn session<F: Flows>(flows: &F, ends: &Ends<Self>) -> Option<SessionId> {
        flows.v4(&key_v4(ends))
    }

    #[inline(always)]
    fn kernel<F: Flows>(flows: &F, ends: &Ends<Self>) -> bool {
        flows.kernel_v4(&key_v4(ends))
    }

    #[inline(always)]
    fn sixteen(self) -> [u8; 16] {
        mapped(self)
    }
}

impl Address for [u8; 16] {
    const ZERO: Self = [0; 16];

    const ICMP: u8 = PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded.
        matches!(icmp_type, 1..=3)
    }

    #[inline(always)]
    fn header<B: Frame>(
        frame: &B,
        offset: usize,
        end: Option<usize>,
    ) -> Result<Header<Self>, Counter> {
        let limit = end.unwrap_or(usize::MAX);
        let fixed = read::<8, B>(frame, offset, limit)?;
        let source = read::<16, B>(frame, offset + 8, limit)?;
        let destination = read::<16, B>(frame, offset + 24, limit)?;
        if fixed[0] >> 4 != 6 {
            return Err(Counter::Malformed);
        }
        let mut payload = offset + 40;
        let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let end = end.unwrap_or(payload + length);
        let mut protocol = fixed[6];
        let mut followed = 0;
        loop {
            match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {}
                FRAGMENT => return Err(Counter::Fragment),
                _ => break,
            }
            if followed == MAX_EXTENSIONS {
                return Err(Counter::TooDeep);
            }
            followed += 1;
            let extension = read::<2, B>(frame, payload, end)?;
            protocol = extension[0];
            payload += (usize::from(extension[1]) + 1) * 8;
        }
        Ok(Header {
            source,
            destination,
            protocol,
            payload,
            end,
        })
    }

    #[inline(always)]
    fn plain<B: Frame>(frame: &B) -> Option<Header<Self>> {
        let fixed = frame.read_at::<ETHERNET, 8>()?;
        let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let protocol = fixed[6];
        if fixed[0] >> 4 != 6
            || matches!(
                protocol,
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT
            )
        {
            return None;
        }
        Some(Header {
            source: frame.read_at::<{ ETHERNET + 8 }, 16>()?,
            destination: frame.read_at::<{ ETHERNET + 24 }, 16>()?,
            protocol,
            payload: ETHERNET + 40,
            end: ETHERNET + 40 + length,
        })
    }

    #[inline(always)]
    fn plain_tcp<B: Frame>(frame: &B) -> Option<[u8; 20]> {
        frame.read_at::<{ ETHERNET + 40 }, 20>()
    }

    #[inline(always)]
    fn plain_icmp_type<B: Frame>(frame: &B) -> Option<u8> {
        let [icmp_type] = frame.read_at::<{ ETHERNET + 40 }, 1>()?;
        Some(icmp_type)
    }

    #[inline(always)]
    fn plain_quote<B: Frame>(frame: &B, end: usize) -> Option<Ends<Self>> {
        const QUOTE: usize = ETHERNET + 40 + 8;
        let fixed = frame.read_at::<QUOTE, 8>()?;
        if QUOTE + 48 > end || fixed[0] >> 4 != 6 || fixed[6] != PROTOCOL_TCP {
            return None;
        }
        let source = frame.read_at::<{ QUOTE + 8 }, 16>()?;
        let destination = frame.read_at::<{ QUOTE + 24 }, 16>()?;
        Some(quoted(
            source,
            destination,
            frame.read_at::<{ QUOTE + 40 }, 8>()?,
        ))
    }

    #[inline(always)]
    fn session<F: Flows>(flows: &F, ends: &Ends<Self>) -> Option<SessionId> {
        flows.v6(&key_v6(ends))
    }

    #[inline(always)]
    fn kernel<F: Flows>(flows: &F, ends: &Ends<Self>) -> bool {
        flows.kernel_v6(&key_v6(ends))
    }

    #[inline(always)]
    fn sixteen(self) -> [u8; 16] {
        self
    }
}

/// More fragments follow, or some came before.
#[inline(always)]
fn is_fragment(ip: [u8; 20]) -> bool {
    u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0
}

#[inline(always)]
fn header_v4(ip: [u8; 20], payload: usize, end: usize) -> Header<[u8; 4]> {
    Header {
        source: [ip[12], ip[13], ip[14], ip[15]],
        destination: [ip[16], ip[17], ip[18], ip[19]],
        protocol: ip[9],
        payload,
        end,
    }
}

#[inline(always)]
fn key_v4(ends: &Ends<[u8; 4]>) -> FlowKeyV4 {
    FlowKeyV4 {
        remote: ends.remote,
        local: ends.local,
        remote_port: ends.remote_port,
        local_port: ends.local_port,
        protocol: PROTOCOL_TCP,
        zero: [0; 3],
    }
}

#[inline(always)]
fn key_v6(ends: &Ends<[u8; 16]>) -> FlowKeyV6 {
    FlowKeyV6 {
        remote: ends.remote,
        local: ends.local,
        remote_port: ends.remote_port,
        local_port: ends.local_port,
        protocol: PROTOCOL_TCP,
        zero: [0; 3],
    }
}
