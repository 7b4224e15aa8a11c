//! The routing table of a collector: MRT, TABLE_DUMP_V2 (RFC 6396 §4.3), with or without
//! path identifiers (RFC 8050). Of each prefix the origins are kept, those first that
//! most peers of the collector see.

use std::io::{self, BufRead, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::collector::Collector;
use super::date::Dated;

/// Octets of a record's header.
const HEADER: usize = 12;
/// RFC 6396 §4: types and subtypes.
const TABLE_DUMP: u16 = 12;
const TABLE_DUMP_V2: u16 = 13;
const BGP4MP: u16 = 16;
const BGP4MP_ET: u16 = 17;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;
const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
/// A record is no longer: all paths of a thousand peers are shorter.
const LONGEST: u32 = 64 << 20;

/// What the first octets of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A routing table.
    Rib,
    /// MRT, but nothing that is read here; what it is.
    Other(&'static str),
    /// Something else.
    No,
}

/// Whether a file that begins so is MRT.
pub(super) fn head(octets: &[u8]) -> Head {
    let Some(header) = Header::of(octets) else {
        return Head::No;
    };
    match (header.kind, header.subtype, header.length) {
        (TABLE_DUMP_V2, PEER_INDEX_TABLE, 8..LONGEST) => Head::Rib,
        (TABLE_DUMP, 1 | 2, 20..4096) => Head::Other("MRT of the old type TABLE_DUMP"),
        (BGP4MP | BGP4MP_ET, 0..=11, 8..LONGEST) => Head::Other("MRT with updates"),
        _ => Head::No,
    }
}

/// A record's header (RFC 6396 §2).
#[derive(Clone, Copy, Debug)]
struct Header {
    seconds: u32,
    kind: u16,
    subtype: u16,
    length: u32,
}

impl Header {
    fn of(octets: &[u8]) -> Option<Self> {
        let mut octets = Octets(octets);
        Some(Header {
            seconds: octets.u32()?,
            kind: octets.u16()?,
            subtype: octets.u16()?,
            length: octets.u32()?,
        })
    }
}

/// Reads a routing table to its end.
///
/// # Errors
/// When it cannot be read, or ends within a record.
pub(super) fn read(input: &mut dyn BufRead, collector: &mut Collector) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER);
    let mut body = Vec::new();
    let mut peers = Vec::new();
    let mut origins = Vec::new();
    for number in 1_u64.. {
        header.clear();
        (&mut *input).take(HEADER as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            break;
        }
        let torn = || {
            let words = format!("it ends within record {number}");
            io::Error::new(io::ErrorKind::UnexpectedEof, words)
        };
        let Header {
            seconds,
            kind,
            subtype,
            length,
        } = Header::of(&header).ok_or_else(torn)?;
        if length > LONGEST {
            let words = format!("record {number} says that it is {length} octets long");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        body.clear();
        (&mut *input).take(length.into()).read_to_end(&mut body)?;
        if body.len() as u64 != u64::from(length) {
            return Err(torn());
        }
        if collector.date.is_none() {
            collector.date = Dated::content(seconds.into());
        }
        let rib = match (kind, subtype) {
            (TABLE_DUMP_V2, PEER_INDEX_TABLE) => {
                peers.clear();
                if add_peers(&body, &mut peers).is_none() {
                    collector.bad(format_args!("record {number}"), "its peers are cut off");
                }
                continue;
            }
            (TABLE_DUMP_V2, RIB_IPV4_UNICAST) => Rib {
                v6: false,
                ids: false,
            },
            (TABLE_DUMP_V2, RIB_IPV6_UNICAST) => Rib {
                v6: true,
                ids: false,
            },
            (TABLE_DUMP_V2, RIB_IPV4_UNICAST_ADDPATH) => Rib {
                v6: false,
                ids: true,
            },
            (TABLE_DUMP_V2, RIB_IPV6_UNICAST_ADDPATH) => Rib {
                v6: true,
                ids: true,
            },
            // Multicast, other families, other types.
            _ => {
                collector.counts.passed += 1;
                continue;
            }
        };
        let mut seen = Vec::new();
        match rib.prefix(&body, &peers, &mut seen) {
            Some(prefix) => {
                // The most seen first, and of those seen alike the smallest.
                seen.sort_by_key(|(asn, count)| (std::cmp::Reverse(*count), *asn));
                origins.clear();
                origins.extend(seen.iter().map(|(asn, _)| *asn));
                collector.route(prefix, &origins);
            }
            None => collector.bad(format_args!("record {number}"), "not whole"),
        }
    }
    Ok(())
}

/// Octets that are taken from the front.
#[derive(Clone, Copy, Debug)]
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Adds the AS numbers of the peers, by their places in the table (RFC 6396 §4.3.1).
/// `None`: it is cut off, and has no more of them.
fn add_peers(body: &[u8], peers: &mut Vec<u32>) -> Option<()> {
    let mut octets = Octets(body);
    octets.u32()?;
    let name = octets.u16()?;
    octets.take(name.into())?;
    for _ in 0..octets.u16()? {
        let kind = octets.u8()?;
        octets.u32()?;
        octets.take(if kind & 1 == 0 { 4 } else { 16 })?;
        peers.push(match kind & 2 {
            0 => octets.u16()?.into(),
            _ => octets.u32()?,
        });
    }
    Some(())
}

/// A kind of RIB records.
#[derive(Clone, Copy, Debug)]
struct Rib {
    v6: bool,
    /// Entries have path identifiers.
    ids: bool,
}

impl Rib {
    /// The prefix of a record, and how many entries have which origin.
    fn prefix(self, body: &[u8], peers: &[u32], seen: &mut Vec<(u32, u32)>) -> Option<IpNet> {
        let mut octets = Octets(body);
        octets.u32()?;
        let prefix = self.net(&mut octets)?;
        for _ in 0..octets.u16()? {
            let peer = octets.u16()?;
            octets.u32()?;
            if self.ids {
                octets.u32()?;
            }
            let length = octets.u16()?;
            let attributes = octets.take(length.into())?;
            let own = || peers.get(usize::from(peer)).copied();
            let count = |asn: u32| match seen.iter_mut().find(|(it, _)| *it == asn) {
                Some((_, count)) => *count += 1,
                None => seen.push((asn, 1)),
            };
            origins(attributes, own, count)?;
        }
        Some(prefix)
    }

    fn net(self, octets: &mut Octets<'_>) -> Option<IpNet> {
        let length = octets.u8()?;
        let bits = octets.take(usize::from(length).div_ceil(8))?;
        let mut whole = [0; 16];
        whole.get_mut(..bits.len())?.copy_from_slice(bits);
        let net = if self.v6 {
            IpNet::from(Ipv6Net::new(Ipv6Addr::from(whole), length).ok()?)
        } else {
            let [a, b, c, d, ..] = whole;
            IpNet::from(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).ok()?)
        };
        Some(net.trunc())
    }
}

/// The origins that an entry's AS_PATH names (RFC 4271 §4.3; four octets an AS, RFC 6396
/// §4.3.4): its last AS, or where it ends in a set all of that; the peer itself where the
/// path is empty. `None`: the attributes are cut off.
fn origins(
    attributes: &[u8],
    own: impl FnOnce() -> Option<u32>,
    mut count: impl FnMut(u32),
) -> Option<()> {
    const AS_PATH: u8 = 2;
    const AS_SET: u8 = 1;
    const AS_SEQUENCE: u8 = 2;
    const EXTENDED_LENGTH: u8 = 0x10;
    let mut octets = Octets(attributes);
    while !octets.0.is_empty() {
        let (flags, kind) = (octets.u8()?, octets.u8()?);
        let length = match flags & EXTENDED_LENGTH {
            0 => octets.u8()?.into(),
            _ => octets.u16()?,
        };
        let value = octets.take(length.into())?;
        if kind != AS_PATH {
            continue;
        }
        let mut path = Octets(value);
        let mut last: &[u8] = &[];
        while !path.0.is_empty() {
            let (segment, length) = (path.u8()?, path.u8()?);
            let all = path.take(usize::from(length) * 4)?;
            match segment {
                AS_SET => last = all,
                AS_SEQUENCE => last = all.last_chunk::<4>().map_or(last, |last| last),
                // Those of a confederation are nobody's origin (RFC 5065).
                _ => {}
            }
        }
        let mut last = Octets(last);
        if last.0.is_empty() {
            own().into_iter().for_each(count);
            return Some(());
        }
        while let Some(asn) = last.u32() {
            count(asn);
        }
        return Some(());
    }
    // No path at all: a route of the peer's own.
    own().into_iter().for_each(count);
    Some(())
}
