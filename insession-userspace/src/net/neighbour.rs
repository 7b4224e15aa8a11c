//! The MAC address of a next hop: from the kernel's neighbour table, which is
//! told to resolve it where it does not know it.
//!
//! `NTF_USE` (net/core/neighbour.c `neigh_add`, since 2.6.32) makes the kernel
//! behave as if it had a packet for the next hop, and it sends ARP requests or
//! neighbour solicitations by its own rules. Without CAP_NET_ADMIN it does not,
//! and gets a packet: an empty UDP datagram to the next hop's discard port (RFC
//! 863) that no router forwards. A STALE entry is good enough: the kernel would
//! use it too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::interfaces::InterfaceInfo;
use super::netlink::{Events, Netlink, Refusal, Request, attributes, u16_at, u32_at};
use super::{NextHop, socket};

/// The kernel asks three times, a second apart, before it calls a neighbour
/// failed (`mcast_solicit`, `retrans_time_ms`). A little longer than that, so
/// that it is the kernel who gives up. Longer would hold up the end of a
/// campaign for hosts that set more retries; shorter would call slow neighbours
/// dead.
pub(super) const PATIENCE: Duration = Duration::from_millis(3500);
/// After this the kernel is asked again for a MAC address: the gateway may have
/// moved to another router (VRRP). The question costs microseconds.
const FRESH: Duration = Duration::from_secs(30);
/// After this a neighbour that did not answer is tried again: a host that comes
/// up during a run is found this much later, and a dead one parks its targets
/// for [`PATIENCE`] this often.
const STILL_DEAD: Duration = Duration::from_secs(20);
/// How many are asked for at a time. The kernel's table has room for 1,024
/// entries (`gc_thresh3`), of which those that are being asked for cannot make
/// room for others.
const AT_ONCE: usize = 256;

/// What is known of neighbours, and which are being asked for.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// When it was found. `None`: it does not answer.
    known: HashMap<NextHop, (Instant, Option<[u8; 6]>)>,
    /// Until when it may answer.
    pending: HashMap<NextHop, Instant>,
    /// Opened when the first has to be asked for.
    events: Option<Events>,
}

/// What [`Neighbours::mac`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mac {
    /// This one.
    Known([u8; 6]),
    /// It does not answer.
    Silent,
    /// Ask again when this one, which may be another, is settled.
    Pending(NextHop),
}

impl Neighbours {
    /// The MAC address of `next_hop` on this interface, without waiting. Where a
    /// packet has to be sent for it, `source` is its source address.
    pub(super) fn mac(
        &mut self,
        netlink: &mut Netlink,
        device: &InterfaceInfo,
        source: IpAddr,
        next_hop: IpAddr,
    ) -> Result<Mac, Refusal> {
        let hop = NextHop {
            interface: device.index,
            address: next_hop,
        };
        let now = Instant::now();
        match self.known.get(&hop) {
            Some((since, Some(mac))) if now.saturating_duration_since(*since) < FRESH => {
                return Ok(Mac::Known(*mac));
            }
            Some((since, None)) if now.saturating_duration_since(*since) < STILL_DEAD => {
                return Ok(Mac::Silent);
            }
            _ => {}
        }
        if self.pending.contains_key(&hop) {
            return Ok(Mac::Pending(hop));
        }
        if let State::Known(mac) = look_up(netlink, hop)? {
            self.known.insert(hop, (now, Some(mac)));
            return Ok(Mac::Known(mac));
        }
        if self.pending.len() >= AT_ONCE
            && let Some((first, _)) = self.pending.iter().min_by_key(|(_, until)| **until)
        {
            return Ok(Mac::Pending(*first));
        }
        // Subscribed before the kernel is told to ask: no answer is too early.
        if self.events.is_none() {
            self.events = Some(Events::subscribe(libc::RTNLGRP_NEIGH)?);
        }
        provoke(netlink, device, source, next_hop)?;
        // Found by somebody else in between: no event would tell.
        if let State::Known(mac) = look_up(netlink, hop)? {
            self.known.insert(hop, (now, Some(mac)));
            return Ok(Mac::Known(mac));
        }
        self.pending.insert(hop, now + PATIENCE);
        Ok(Mac::Pending(hop))
    }

    /// Waits at most `limit`; which of those that were asked for are settled.
    pub(super) fn settled(&mut self, netlink: &mut Netlink, limit: Duration) -> Vec<NextHop> {
        let (Some(events), Some(first)) = (&mut self.events, self.pending.values().min()) else {
            // Nothing to wait for; who waits nevertheless shall not spin.
            std::thread::sleep(limit);
            return Vec::new();
        };
        let limit = limit.min(first.saturating_duration_since(Instant::now()));
        let mut candidates = Vec::new();
        let heard = events.take(limit, |_, body| {
            if let Some(hop) = hop(body)
                && self.pending.contains_key(&hop)
            {
                candidates.push(hop);
            }
        });
        let all_heard = match heard {
            Ok(lost) => !lost,
            Err(error) => {
                tracing::debug!(%error, "no events of neighbours");
                std::thread::sleep(limit);
                false
            }
        };
        let now = Instant::now();
        let overdue = |until: &Instant| *until <= now;
        let others = self.pending.iter();
        let others = others.filter(|(_, until)| !all_heard || overdue(until));
        candidates.extend(others.map(|(hop, _)| *hop));
        // What an event says may be older than the request: the table counts.
        candidates.retain(|hop| {
            let Some(until) = self.pending.get(hop) else {
                return false;
            };
            let found = match look_up(netlink, *hop) {
                Ok(State::Known(mac)) => Some(Some(mac)),
                // `provoke` took the entry out of FAILED: a fresh finding.
                Ok(State::Failed) => Some(None),
                Ok(State::Unknown) if overdue(until) => Some(None),
                Ok(State::Unknown) => return false,
                // Whoever asks again learns of it.
                Err(_) => None,
            };
            if let Some(mac) = found {
                self.known.insert(*hop, (now, mac));
            }
            self.pending.remove(hop);
            true
        });
        candidates
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Known([u8; 6]),
    Unknown,
    Failed,
}

/// Asks for one entry (not a dump; since Linux 5.0).
fn look_up(netlink: &mut Netlink, hop: NextHop) -> Result<State, Refusal> {
    let body = header(hop.interface, hop.address, 0, 0);
    let request =
        Request::new(libc::RTM_GETNEIGH, 0, &body).attribute(libc::NDA_DST, &octets(hop.address));
    match netlink.ask(request) {
        Ok(answer) => Ok(answer.as_deref().map_or(State::Unknown, state)),
        Err(refusal) if refusal.errno() == libc::ENOENT => Ok(State::Unknown),
        Err(refusal) => Err(refusal),
    }
}

fn provoke(
    netlink: &mut Netlink,
    device: &InterfaceInfo,
    source: IpAddr,
    next_hop: IpAddr,
) -> Result<(), Refusal> {
    let body = header(device.index, next_hop, libc::NUD_NONE, libc::NTF_USE);
    let request = Request::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE, &body)
        .attribute(libc::NDA_DST, &octets(next_hop));
    match netlink.ask(request) {
        Err(refusal) if refusal.errno() == libc::EPERM => {
            socket::knock(&device.name, device.index, source, next_hop).map_err(|error| Refusal {
                text: Some(format!(
                    "sending it a UDP datagram, since CAP_NET_ADMIN is missing: {error}"
                )),
                error,
            })
        }
        answer => answer.map(|_| ()),
    }
}

/// `struct ndmsg`.
fn header(interface: u32, next_hop: IpAddr, state: u16, flags: u8) -> [u8; 12] {
    let family = family(next_hop);
    let [i, j, k, l] = interface.to_ne_bytes();
    let [s, t] = state.to_ne_bytes();
    [family, 0, 0, 0, i, j, k, l, s, t, flags, 0]
}

/// Which entry a message of the table is about.
fn hop(body: &[u8]) -> Option<NextHop> {
    Some(NextHop {
        interface: u32_at(body, 4)?,
        address: attributes(body.get(12..)?)
            .find(|(kind, _)| *kind == libc::NDA_DST)
            .and_then(|(_, value)| address(value))?,
    })
}

fn state(body: &[u8]) -> State {
    const USABLE: u16 = libc::NUD_REACHABLE
        | libc::NUD_STALE
        | libc::NUD_DELAY
        | libc::NUD_PROBE
        | libc::NUD_NOARP
        | libc::NUD_PERMANENT;
    let state = u16_at(body, 8).unwrap_or(libc::NUD_NONE);
    let mac = attributes(body.get(12..).unwrap_or_default())
        .find(|(kind, _)| *kind == libc::NDA_LLADDR)
        .and_then(|(_, value)| <[u8; 6]>::try_from(value).ok());
    match mac {
        Some(mac) if state & USABLE != 0 => State::Known(mac),
        _ if state & libc::NUD_FAILED != 0 => State::Failed,
        _ => State::Unknown,
    }
}

/// `AF_INET` or `AF_INET6`, as the first octet of a netlink body.
pub(super) fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    u8::try_from(family).unwrap_or(0)
}

/// An address's octets, as the value of an attribute.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address whose octets these are.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}
