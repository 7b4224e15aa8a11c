//! The way to a target: the kernel's own answer for this flow, completed with
//! what a frame needs.
//!
//! Policy rules, multipath and learnt path MTUs are the kernel's business: where
//! there are such, it is asked for each target anew (some 20 µs). Where there are
//! none, its answer holds for all targets that no route tells from the one it was
//! asked for ([`RouteCache`]). Asked with protocol and destination port, so that
//! rules on ports hold; the source port is not known yet, so where several next
//! hops are balanced by ports, the one answered is used for all of the flow's
//! packets, whatever the kernel would have chosen for a connection of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::interfaces::{self, InterfaceInfo};
use super::neighbour::{Mac, Neighbours, address, family, octets};
use super::netlink::{Netlink, Refusal, Request, attributes, u32_at};
use super::route_cache::RouteCache;
use super::{Interface, LOOPBACK_IFINDEX, NetError, NextHop, Route};
use crate::engine::Target;
use crate::engine::dispatch::{RouteFailure, Routing, Way};
use crate::trace::Verdict;

/// What the user forces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterOptions {
    /// Source addresses to use; targets take turns in those of their family.
    /// Empty: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// The interface to go through; `None`: the kernel's choice.
    pub interface: Option<String>,
}

/// Finds ways by asking the kernel of the network namespace it was made in.
#[derive(Debug)]
pub struct Router {
    netlink: Netlink,
    sources: Vec<IpAddr>,
    interface: Option<InterfaceInfo>,
    devices: HashMap<u32, InterfaceInfo>,
    neighbours: Neighbours,
    /// Ways over gateways.
    cache: RouteCache<Route>,
    /// How many times the kernel was asked for a way.
    #[cfg(test)]
    pub(super) asked: usize,
}

impl Router {
    /// A router for the calling thread's network namespace.
    ///
    /// # Errors
    /// When netlink is not to be had, or a forced source or interface does not
    /// exist here.
    pub fn new(options: RouterOptions) -> Result<Self, NetError> {
        let open = || {
            Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)
                .map_err(|error| NetError::refused("the routing table", &error.into()))
        };
        let mut netlink = open()?;
        let interface = options
            .interface
            .map(|name| interfaces::by_name(&mut netlink, &name))
            .transpose()?;
        if !options.sources.is_empty() {
            let ours = addresses(&mut netlink)
                .map_err(|refusal| NetError::refused("the list of addresses", &refusal))?;
            // IPv6 routing would not object, and nothing would ever come back.
            if let Some(source) = options.sources.iter().find(|it| !ours.contains(it)) {
                return Err(NetError::new(
                    format!("source address {source}"),
                    "no interface of this host has it",
                    "`ip address` lists those there are",
                ));
            }
        }
        Ok(Router {
            netlink,
            sources: options.sources,
            interface,
            devices: HashMap::new(),
            neighbours: Neighbours::default(),
            cache: RouteCache::new(open()?),
            #[cfg(test)]
            asked: 0,
        })
    }

    fn source_for(&self, target: &Target) -> Result<Option<IpAddr>, RouteFailure> {
        if self.sources.is_empty() {
            return Ok(None);
        }
        let fitting = || {
            let same = |it: &&IpAddr| it.is_ipv4() == target.address.is_ipv4();
            self.sources.iter().filter(same)
        };
        let turn = target.index.checked_rem(fitting().count() as u64);
        let source = turn.and_then(|turn| fitting().nth(usize::try_from(turn).ok()?));
        match source {
            Some(source) => Ok(Some(*source)),
            None => Err(failure(
                Verdict::NoRoute,
                target,
                "no source address of its family was given",
                "add one with `--source`",
            )),
        }
    }

    /// As if there had been many targets, and all that is kept were too old.
    #[cfg(test)]
    pub(super) fn age(&mut self) {
        self.cache.age();
    }

    /// The kernel's route.
    fn ask(&mut self, target: &Target, source: Option<IpAddr>) -> Result<Answer, RouteFailure> {
        #[cfg(test)]
        {
            self.asked += 1;
        }
        let bits = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let source_bits = source.map_or(0, bits);
        let [a, b, c, d] = [family(target.address), bits(target.address), source_bits, 0];
        // `struct rtmsg`; what is zero here means any.
        let body = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut request = Request::question(libc::RTM_GETROUTE, &body)
            .attribute(libc::RTA_DST, &octets(target.address))
            .attribute(RTA_IP_PROTO, &[insession_common::flow::PROTOCOL_TCP])
            .attribute(RTA_DPORT, &target.port.to_be_bytes());
        if let Some(source) = source {
            request = request.attribute(libc::RTA_SRC, &octets(source));
        }
        if let Some(interface) = &self.interface {
            request = request.attribute(libc::RTA_OIF, &interface.index.to_ne_bytes());
        }
        match self.netlink.ask(request) {
            Ok(Some(body)) => Answer::parse(&body),
            Ok(None) => None,
            Err(refusal) => return Err(self.refused(target, source, &refusal)),
        }
        .ok_or_else(|| {
            failure(
                Verdict::Error,
                target,
                "the kernel's answer to the route request has no interface in it",
                "compare `ip route get`",
            )
        })
    }

    /// What the error of a route request means. IPv4 tells the kinds of
    /// unwilling routes by error number (`fib_props`,
    /// net/ipv4/fib_semantics.c), IPv6 in the answer's type.
    fn refused(&self, target: &Target, source: Option<IpAddr>, refusal: &Refusal) -> RouteFailure {
        let kind = match refusal.errno() {
            libc::ENETUNREACH => "no route leads there",
            libc::EHOSTUNREACH => "its route is of type unreachable",
            libc::EACCES => "its route is of type prohibit",
            libc::EINVAL => "its route is of type blackhole",
            libc::EAGAIN => "its route is of type throw, and no further table has one",
            _ => {
                return failure(
                    Verdict::Error,
                    target,
                    &format!("the kernel refused the route request: {refusal}"),
                    "compare `ip route get`",
                );
            }
        };
        no_route(target, source, self.interface.as_ref(), kind)
    }

    fn device(&mut self, target: &Target, index: u32) -> Result<InterfaceInfo, RouteFailure> {
        if let Some(known) = self.devices.get(&index) {
            return Ok(known.clone());
        }
        match interfaces::by_index(&mut self.netlink, index) {
            Ok(Some(device)) => {
                self.devices.insert(index, device.clone());
                Ok(device)
            }
            Ok(None) => Err(failure(
                Verdict::Error,
                target,
                &format!("interface number {index} of its route has gone"),
                "try again",
            )),
            Err(refusal) => Err(failure(
                Verdict::Error,
                target,
                &format!("interface number {index} of its route cannot be read: {refusal}"),
                "try again",
            )),
        }
    }

    /// The MAC address that frames to `next_hop` carry.
    fn mac(
        &mut self,
        device: &InterfaceInfo,
        own: [u8; 6],
        source: IpAddr,
        next_hop: IpAddr,
    ) -> Result<Mac, RouteFailure> {
        // As the kernel fills it in: `arp_constructor` (net/ipv4/arp.c),
        // `ndisc_constructor` (net/ipv6/ndisc.c). Loopback's is all zeros.
        if device.loopback || device.no_arp {
            return Ok(Mac::Known(own));
        }
        self.neighbours
            .mac(&mut self.netlink, device, source, next_hop)
            .map_err(|refusal| neighbour_refused(device, next_hop, &refusal))
    }

    fn silent(&self, target: &Target, device: &InterfaceInfo, next_hop: IpAddr) -> RouteFailure {
        let mend = match &self.interface {
            // The kernel takes any target to be on the link of an interface that
            // was forced and has no route to it (`ip_route_output_key_hash_rcu`,
            // net/ipv4/route.c).
            Some(_) if next_hop == target.address => {
                "it was taken to be on the link: check that it is, or leave `--interface` out"
            }
            _ => "check its address, the cable and the VLAN",
        };
        RouteFailure {
            verdict: Verdict::Error,
            detail: format!(
                "next hop {next_hop} on {}: it does not answer {}; {mend}",
                device.name,
                if next_hop.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour discovery"
                }
            ),
        }
    }
}

impl Routing for Router {
    fn route(&mut self, target: &Target) -> Result<Way, RouteFailure> {
        if let IpAddr::V6(address) = target.address {
            if address.to_ipv4_mapped().is_some() {
                return Err(failure(
                    Verdict::Error,
                    target,
                    "an IPv4-mapped address never stands on the wire",
                    "give the IPv4 address",
                ));
            }
            if address.is_unicast_link_local() && self.interface.is_none() {
                return Err(failure(
                    Verdict::Error,
                    target,
                    "a link-local address means nothing without an interface",
                    "add `--interface`",
                ));
            }
        }
        let forced = self.source_for(target)?;
        let span = self.cache.span(target.address);
        if let Some(route) = span.and_then(|span| self.cache.get(span, forced)) {
            return Ok(Way::Known(route.clone()));
        }
        let answer = self.ask(target, forced)?;
        let refused = match answer.kind {
            libc::RTN_UNICAST | libc::RTN_LOCAL => None,
            libc::RTN_BLACKHOLE => Some("its route is of type blackhole"),
            libc::RTN_UNREACHABLE => Some("its route is of type unreachable"),
            libc::RTN_PROHIBIT => Some("its route is of type prohibit"),
            libc::RTN_THROW => Some("its route is of type throw, and no further table has one"),
            _ => Some("it is a broadcast, multicast or anycast address here"),
        };
        if let Some(kind) = refused {
            return Err(no_route(target, forced, self.interface.as_ref(), kind));
        }
        // To ourselves: over loopback, whichever interface holds the address.
        let index = if answer.kind == libc::RTN_LOCAL {
            LOOPBACK_IFINDEX
        } else {
            answer.interface
        };
        let device = self.device(target, index)?;
        if let Some(interface) = &self.interface
            && interface.index != device.index
            // A VRF was named: any interface in it will do.
            && device.master != Some(interface.index)
        {
            let why = format!("its way is over {}", device.name);
            return Err(no_route(target, forced, Some(interface), &why));
        }
        let Some(source) = forced.or(answer.source) else {
            return Err(failure(
                Verdict::NoRoute,
                target,
                &format!("{} has no address to send from", device.name),
                "add one with `ip address add`",
            ));
        };
        if !device.ethernet {
            return Err(unusable(target, &device, "has no Ethernet header"));
        }
        let Some(source_mac) = device.mac else {
            return Err(unusable(target, &device, "has no MAC address"));
        };
        let (interface, vlan) = match device.vlan {
            None => (Interface::from(&device), None),
            Some(vlan) => {
                if vlan.parent_elsewhere {
                    let why = "is a VLAN on an interface in another network namespace";
                    return Err(unusable(target, &device, why));
                }
                let parent = self.device(target, vlan.parent)?;
                if vlan.protocol != 0x8100 || parent.vlan.is_some() {
                    return Err(unusable(
                        target,
                        &device,
                        "is a VLAN of type 802.1ad or inside another VLAN",
                    ));
                }
                (Interface::from(&parent), Some(vlan.id))
            }
        };
        let next_hop = answer.gateway.unwrap_or(target.address);
        let next_hop_mac = match self.mac(&device, source_mac, source, next_hop)? {
            Mac::Known(mac) => mac,
            Mac::Silent => return Err(self.silent(target, &device, next_hop)),
            Mac::Pending(hop) => return Ok(Way::Pending(hop)),
        };
        let route = Route {
            interface: interface.into(),
            vlan,
            source,
            source_mac,
            next_hop_mac,
            mtu: answer.mtu.unwrap_or(device.mtu),
            device_mtu: device.mtu,
        };
        if let Some(span) = span
            && answer.holds_for_others()
        {
            self.cache.put(span, forced, route.clone());
        }
        Ok(Way::Known(route))
    }

    fn settled(&mut self, limit: Duration) -> Vec<NextHop> {
        self.neighbours.settled(&mut self.netlink, limit)
    }
}

impl From<&InterfaceInfo> for Interface {
    fn from(info: &InterfaceInfo) -> Self {
        Interface {
            index: info.index,
            name: info.name.clone(),
        }
    }
}

/// `struct rtmsg`.
const RTMSG: usize = 12;
/// include/uapi/linux/rtnetlink.h.
const RTA_IP_PROTO: u16 = 27;
const RTA_DPORT: u16 = 29;
const RTAX_MTU: u16 = 2;
/// include/uapi/linux/in_route.h: what a router told of a better one.
const RTCF_REDIRECTED: u32 = 0x0004_0000;

/// What the kernel says of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    kind: u8,
    interface: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
    /// Has to do with this target alone: learnt on the way to it.
    learnt: bool,
}

impl Answer {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut answer = Answer {
            kind: *body.get(7)?,
            interface: 0,
            gateway: None,
            source: None,
            mtu: None,
            learnt: u32_at(body, 8)? & RTCF_REDIRECTED != 0,
        };
        for (kind, value) in attributes(body.get(RTMSG..)?) {
            match kind {
                libc::RTA_OIF => answer.interface = u32_at(value, 0)?,
                libc::RTA_GATEWAY => answer.gateway = address(value),
                // `struct rtvia`: a family, then an address of that family (an
                // IPv4 route over an IPv6 next hop, RFC 5549).
                libc::RTA_VIA => answer.gateway = address(value.get(2..)?),
                libc::RTA_PREFSRC => answer.source = address(value),
                libc::RTA_METRICS => {
                    answer.mtu = attributes(value)
                        .find(|(kind, _)| *kind == RTAX_MTU)
                        .and_then(|(_, value)| u32_at(value, 0))
                        .filter(|mtu| *mtu > 0);
                }
                // `struct rta_cacheinfo`: what was learnt expires.
                libc::RTA_CACHEINFO => answer.learnt |= u32_at(value, 8)? != 0,
                _ => {}
            }
        }
        // Unwilling IPv6 routes name `lo` or nothing; the type decides then.
        (answer.interface != 0 || answer.kind != libc::RTN_UNICAST).then_some(answer)
    }

    /// Whether the frames to all targets that are routed alike are the same: not
    /// where they go to the target itself.
    fn holds_for_others(&self) -> bool {
        self.kind == libc::RTN_UNICAST && self.gateway.is_some() && !self.learnt
    }
}

/// All addresses of this host.
fn addresses(netlink: &mut Netlink) -> Result<Vec<IpAddr>, Refusal> {
    let mut found = Vec::new();
    // `struct ifaddrmsg` of 8 bytes, family 0: all.
    netlink.exchange(Request::dump(libc::RTM_GETADDR, &[0; 8]), |_, body| {
        let (mut near, mut far) = (None, None);
        for (kind, value) in attributes(body.get(8..).unwrap_or_default()) {
            match kind {
                // On point-to-point links IFA_ADDRESS is the peer's.
                libc::IFA_LOCAL => near = address(value),
                libc::IFA_ADDRESS => far = address(value),
                _ => {}
            }
        }
        found.extend(near.or(far));
    })?;
    Ok(found)
}

fn failure(verdict: Verdict, target: &Target, why: &str, mend: &str) -> RouteFailure {
    RouteFailure {
        verdict,
        detail: format!("route to {}: {why}; {mend}", target.address),
    }
}

fn no_route(
    target: &Target,
    source: Option<IpAddr>,
    interface: Option<&InterfaceInfo>,
    why: &str,
) -> RouteFailure {
    // The command that shows the same, word for word.
    let mut command = format!("see `ip route get {}", target.address);
    if let Some(source) = source {
        command += &format!(" from {source}");
    }
    if let Some(interface) = interface {
        command += &format!(" oif {}", interface.name);
    }
    command += "`";
    failure(Verdict::NoRoute, target, why, &command)
}

fn unusable(target: &Target, device: &InterfaceInfo, why: &str) -> RouteFailure {
    failure(
        Verdict::Error,
        target,
        &format!("interface {} {why}", device.name),
        "choose another with `--interface`",
    )
}

fn neighbour_refused(device: &InterfaceInfo, next_hop: IpAddr, refusal: &Refusal) -> RouteFailure {
    RouteFailure {
        verdict: Verdict::Error,
        detail: format!(
            "next hop {next_hop} on {}: its MAC address is not to be had: {refusal}; see `ip \
             neighbour`",
            device.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Vlan;
    use crate::net::testing::{self, Namespace};

    /// A router that takes a veth, whose peer answers, for a VLAN sub-interface
    /// with this tag on the other veth: kernels without 8021q have routes too.
    fn with_vlan(change: impl FnOnce(&mut Vlan, &mut InterfaceInfo) + Send) -> Outcome {
        let (near, far) = (Namespace::new(), Namespace::new());
        near.veth("near0", &far, "far0");
        near.veth("near1", &far, "far1");
        near.address("near0", "198.18.1.1/24");
        far.address("far0", "198.18.1.2/24");
        near.run(|| {
            let mut router = Router::new(RouterOptions::default()).unwrap();
            let mut sub = interfaces::by_name(&mut router.netlink, "near0").unwrap();
            let mut parent = interfaces::by_name(&mut router.netlink, "near1").unwrap();
            let mut vlan = Vlan {
                id: 42,
                protocol: 0x8100,
                parent: parent.index,
                parent_elsewhere: false,
            };
            change(&mut vlan, &mut parent);
            sub.vlan = Some(vlan);
            let expected = (Interface::from(&parent), sub.mac.unwrap());
            router.devices.insert(sub.index, sub);
            router.devices.insert(parent.index, parent);
            let target = Target {
                index: 0,
                name: String::new(),
                address: "198.18.1.2".parse().unwrap(),
                port: 80,
            };
            (testing::route(&mut router, &target), expected)
        })
    }

    type Outcome = (Result<Route, RouteFailure>, (Interface, [u8; 6]));

    #[test]
    fn a_vlan_goes_over_its_parent_with_its_own_mac() {
        let (route, (parent, mac)) = with_vlan(|_, _| {});
        let route = route.unwrap();
        assert_eq!(*route.interface, parent);
        assert_eq!(route.vlan, Some(42));
        assert_eq!(route.source_mac, mac);
        assert_ne!(route.next_hop_mac, mac);
    }

    #[test]
    fn vlans_that_cannot_be_tagged_are_refused() {
        let outcomes = [
            with_vlan(|vlan, _| vlan.protocol = 0x88a8),
            with_vlan(|vlan, parent| parent.vlan = Some(*vlan)),
            with_vlan(|vlan, _| vlan.parent_elsewhere = true),
        ];
        for (outcome, _) in outcomes {
            let failure = outcome.unwrap_err();
            assert_eq!(failure.verdict, Verdict::Error);
            assert!(failure.detail.contains("VLAN"), "{}", failure.detail);
        }
    }

    #[test]
    fn what_is_cut_short_is_no_answer() {
        assert_eq!(Answer::parse(&[]), None);
        assert_eq!(
            Answer::parse(&[2, 0, 0, 0, 0, 0, 0, libc::RTN_UNICAST]),
            None
        );
        // No interface.
        let body = [2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        assert_eq!(Answer::parse(&body), None);
    }
}
