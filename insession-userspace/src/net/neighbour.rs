//! The MAC address of a next hop: from the kernel's neighbour table, which is
//! told to resolve it where it does not know it.
//!
//! `NTF_USE` (net/core/neighbour.c `neigh_add`, since 2.6.32) makes the kernel
//! behave as if it had a packet for the next hop, and it sends ARP requests or
//! neighbour solicitations by its own rules. Without CAP_NET_ADMIN it does not,
//! and gets a packet: an empty UDP datagram to the next hop's discard port (RFC
//! 863) that no router forwards. A STALE entry is good enough: the kernel would
//! use it too.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::interfaces::InterfaceInfo;
use super::netlink::{Events, Netlink, Refusal, Request, attributes, u16_at};
use super::socket;

/// The kernel asks three times, a second apart, before it calls a neighbour
/// failed (`mcast_solicit`, `retrans_time_ms`). A little longer than that, so
/// that it is the kernel who gives up. Longer would hold up a campaign for
/// hosts that set more retries; shorter would call slow neighbours dead.
pub(crate) const PATIENCE: Duration = Duration::from_millis(3500);

/// The MAC address of `next_hop` on this interface; `None` when it does not
/// answer within `patience`. Where a packet has to be sent for it, `source` is
/// its source address.
pub(super) fn resolve(
    netlink: &mut Netlink,
    device: &InterfaceInfo,
    source: IpAddr,
    next_hop: IpAddr,
    patience: Duration,
) -> Result<Option<[u8; 6]>, Refusal> {
    let interface = device.index;
    if let State::Known(mac) = look_up(netlink, interface, next_hop)? {
        return Ok(Some(mac));
    }
    // Subscribed before the kernel is told to ask: no answer is too early.
    let mut events = Events::subscribe(libc::RTNLGRP_NEIGH)?;
    provoke(netlink, device, source, next_hop)?;
    let deadline = Instant::now() + patience;
    loop {
        // `provoke` took the entry out of FAILED, so FAILED is a fresh finding.
        match look_up(netlink, interface, next_hop)? {
            State::Known(mac) => return Ok(Some(mac)),
            State::Failed => return Ok(None),
            State::Unknown => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Events of all neighbours wake us; each ends in one more look.
        events.wait(left)?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Known([u8; 6]),
    Unknown,
    Failed,
}

/// Asks for one entry (not a dump; since Linux 5.0).
fn look_up(netlink: &mut Netlink, interface: u32, next_hop: IpAddr) -> Result<State, Refusal> {
    let request = Request::new(libc::RTM_GETNEIGH, 0, &header(interface, next_hop, 0, 0))
        .attribute(libc::NDA_DST, &octets(next_hop));
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
