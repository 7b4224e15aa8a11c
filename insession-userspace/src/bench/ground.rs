//! Where the traffic of a measurement goes: an interface, the ways, the targets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::BenchError;
use crate::engine::Target;
use crate::engine::dispatch::{Routing as _, Way};
use crate::engine::jobs::Job;
use crate::net::{self, Interface, Route, Router, RouterOptions};
use crate::testbed::{self, Bed};

/// The far end of a test bed.
const FAR: &str = "far0";

/// How long neighbours are waited for.
const NEIGHBOURS: Duration = Duration::from_secs(5);

/// Where traffic goes.
#[derive(Clone, Debug)]
pub struct Ground {
    interface: Interface,
    ways: Vec<(SocketAddr, Route)>,
    /// Targets are counted on from those of `ways`, over all of an address space
    /// that answers.
    endless: bool,
    /// The other end of the veth pair.
    far: Option<Interface>,
}

impl Ground {
    /// The targets that a user names, through this interface, and nothing else.
    ///
    /// # Errors
    /// [`BenchError::Cannot`] when there is no way to one of them through it.
    pub fn targets(interface: &str, targets: &[SocketAddr]) -> Result<Self, BenchError> {
        let cannot = |text: String| BenchError::Cannot(text);
        let mut router = Router::new(RouterOptions {
            sources: Vec::new(),
            interface: Some(interface.to_owned()),
        })
        .map_err(|error| cannot(error.to_string()))?;
        let mut ways = Vec::new();
        let deadline = Instant::now() + NEIGHBOURS;
        for (index, address) in targets.iter().enumerate() {
            let target = target(index as u64, *address);
            let route = loop {
                match router.route(&target) {
                    Ok(Way::Known(route)) => break route,
                    Ok(Way::Pending(_)) if Instant::now() < deadline => {
                        router.settled(Duration::from_millis(100));
                    }
                    Ok(Way::Pending(_)) => {
                        return Err(cannot(format!(
                            "target {address}: its next hop does not answer; look at `ip neighbour`"
                        )));
                    }
                    Err(failure) => return Err(cannot(failure.detail)),
                }
            };
            ways.push((*address, route));
        }
        let first = ways.first().ok_or_else(|| {
            cannot("targets: none is named; name those that may be probed".to_owned())
        })?;
        Ok(Ground {
            interface: (*first.1.interface).clone(),
            ways,
            endless: false,
            far: None,
        })
    }

    /// All that answers behind the near end of a test bed; the calling thread is in
    /// its network namespace.
    ///
    /// # Errors
    /// As [`Ground::targets`].
    pub fn bed(bed: &Bed) -> Result<Self, BenchError> {
        let first: Vec<SocketAddr> = testbed::targets(1).collect();
        let mut ground = Self::targets(&bed.near().name, &first)?;
        ground.endless = true;
        ground.far = net::interface(FAR).ok().map(|far| Interface {
            index: far.index,
            name: far.name,
        });
        Ok(ground)
    }

    /// Targets of a link in memory: 10.0.0.0/8, as many as are asked for.
    #[must_use]
    pub fn simulated() -> Self {
        let interface = Interface {
            index: 2,
            name: "memory".to_owned(),
        };
        let route = Route {
            interface: interface.clone().into(),
            vlan: None,
            source: IpAddr::from([192, 0, 2, 1]),
            source_mac: [2, 0, 0, 0, 0, 1],
            next_hop_mac: [2, 0, 0, 0, 0, 2],
            mtu: 1500,
            device_mtu: 1500,
        };
        Ground {
            interface,
            ways: vec![(SocketAddr::from(([10, 0, 0, 1], 80)), route)],
            endless: true,
            far: None,
        }
    }

    /// The interface that frames go through.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The other end of a veth pair, where it is ours.
    #[must_use]
    pub fn far(&self) -> Option<&Interface> {
        self.far.as_ref()
    }

    /// Whether the reflector answers here.
    #[must_use]
    pub fn has_reflector(&self) -> bool {
        self.endless
    }

    /// How many different targets there are; `None`: as many as are asked for.
    #[must_use]
    pub fn distinct(&self) -> Option<usize> {
        (!self.endless).then_some(self.ways.len())
    }

    /// The `number`th job. Targets come round again where there are few.
    #[must_use]
    pub fn job(&self, number: u64) -> Option<Job> {
        let count = self.ways.len() as u64;
        let turn = usize::try_from(number.checked_rem(count)?).ok()?;
        let (address, route) = self.ways.get(turn)?;
        let address = match (self.endless, address.ip()) {
            (true, IpAddr::V4(first)) => {
                let bits = u32::from(first).wrapping_add((number / count) as u32 % ENDLESS);
                SocketAddr::new(IpAddr::V4(bits.into()), address.port())
            }
            _ => *address,
        };
        Some(Job {
            target: target(number, address),
            route: route.clone(),
        })
    }
}

/// Addresses of 10.0.0.0/8, without the first and the last.
const ENDLESS: u32 = (1 << 24) - 2;

fn target(index: u64, address: SocketAddr) -> Target {
    Target {
        index,
        name: String::new(),
        address: address.ip(),
        port: address.port(),
    }
}
