//! Where an interface leads: the prefixes of all routes through it.

use ipnet::IpNet;

use super::NetError;
use super::interfaces;
use super::neighbour::address;
use super::netlink::{Netlink, Request, attributes, u16_at, u32_at};
use super::route_cache::RTA_NH_ID;

/// The prefixes of all routes of the calling thread's network namespace that may
/// lead through the interface of this name, whatever their table; to its own
/// addresses, too. A route by a nexthop object that the kernel does not spell out
/// may lead through any.
///
/// # Errors
/// When there is no such interface, the kernel does not answer, or the tables keep
/// changing while they are read.
pub fn destinations(interface: &str) -> Result<Vec<IpNet>, NetError> {
    let what = || format!("the routes through {interface:?}");
    let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)
        .map_err(|error| NetError::refused(what(), &error.into()))?;
    let index = interfaces::by_name(&mut netlink, interface)?.index;
    // A dump under which a table changed may leave a route out.
    for _ in 0..ATTEMPTS {
        let mut found = Vec::new();
        let mut whole = true;
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut body = [0; RTMSG];
            body[0] = u8::try_from(family).unwrap_or(0);
            let request = Request::dump(libc::RTM_GETROUTE, &body);
            whole &= netlink
                .exchange(request, |_, route| found.extend(through(route, index)))
                .map_err(|refusal| NetError::refused(what(), &refusal))?;
        }
        if whole {
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
    }
    Err(NetError::new(
        what(),
        "they changed whenever they were read",
        "try again",
    ))
}

/// Dumps that are tried.
const ATTEMPTS: usize = 16;

/// `struct rtmsg`, `struct rtnexthop` (include/uapi/linux/rtnetlink.h).
const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;

/// The prefix of a route that may lead through this interface.
fn through(route: &[u8], index: u32) -> Option<IpNet> {
    let [family, bits, ..] = *route else {
        return None;
    };
    if !matches!(*route.get(7)?, libc::RTN_UNICAST | libc::RTN_LOCAL) {
        return None;
    }
    let unspecified = if i32::from(family) == libc::AF_INET {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let mut destination = unspecified;
    let [mut leads, mut named, mut by_object] = [false; 3];
    for (kind, value) in attributes(route.get(RTMSG..)?) {
        match kind {
            libc::RTA_DST => destination = address(value)?,
            libc::RTA_OIF => {
                named = true;
                leads |= u32_at(value, 0)? == index;
            }
            libc::RTA_MULTIPATH => {
                named = true;
                leads |= next_hops(value).any(|hop| hop == index);
            }
            RTA_NH_ID => by_object = true,
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, bits).ok()?;
    (leads || by_object && !named).then_some(prefix)
}

/// The interfaces of a route's several next hops.
fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?).max(RTNEXTHOP);
        let interface = u32_at(bytes, 4)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{Namespace, pair};

    fn of(near: &Namespace, name: &str) -> Vec<String> {
        let found = near.run(|| destinations(name)).unwrap();
        found.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn all_routes_through_an_interface_are_found_in_whichever_table() {
        let (near, far) = pair();
        near.veth("near1", &far, "far1");
        near.address("near1", "198.18.2.1/24");
        near.ip("route add 10.0.0.0/8 via 198.18.1.2");
        near.ip("route add 10.9.0.0/16 via 198.18.1.2 table 77");
        near.ip("route add 10.8.0.0/16 nexthop via 198.18.1.2 nexthop via 198.18.2.2");
        near.ip("route add blackhole 10.7.0.0/16");
        near.ip("nexthop add id 5 via 198.18.2.2 dev near1");
        near.ip("route add 10.6.0.0/16 nhid 5");
        near.ip("route add default via 198.18.2.2");
        near.ip("-6 route add fd00:9::/32 via fd00:1::2");
        let zero = of(&near, "near0");
        for prefix in [
            "10.0.0.0/8",
            "10.8.0.0/16",
            "10.9.0.0/16",
            "198.18.1.0/24",
            "198.18.1.1/32",
            "fd00:1::/64",
            "fd00:1::1/128",
            "fd00:9::/32",
            "fe80::/64",
        ] {
            assert!(zero.iter().any(|it| it == prefix), "{prefix}: {zero:?}");
        }
        let one = of(&near, "near1");
        for prefix in ["0.0.0.0/0", "10.6.0.0/16", "10.8.0.0/16", "198.18.2.0/24"] {
            assert!(one.iter().any(|it| it == prefix), "{prefix}: {one:?}");
            assert!(
                prefix == "10.8.0.0/16" || !zero.iter().any(|it| it == prefix),
                "{zero:?}"
            );
        }
        for prefix in ["10.7.0.0/16", "10.0.0.0/8", "fd00:9::/32"] {
            assert!(!one.iter().any(|it| it == prefix), "{prefix}: {one:?}");
        }
    }
}
