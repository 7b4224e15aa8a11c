//! From a target to a running session: a source port, the flow in the link's
//! map, then the session. In this order, so that no reply can come before there
//! is somebody to have it.

use std::net::{IpAddr, SocketAddr};

use insession_common::flow::SessionId;

use super::jobs::{Job, Jobs, Supply};
use super::worker::{Awaited, BATCH, Open, Worker};
use super::{Target, slab};
use crate::link::{Link, LinkError};
use crate::net::Route;
use crate::session::{Flow, Session};
use crate::time::Instant;
use crate::trace::Verdict;
use crate::wire::template::{Ends, Template};

/// How many flows that turn out to be taken are tried for a target: each costs a
/// system call.
const FLOW_TRIES: usize = 64;

/// Why no flow was to be had.
enum Unclaimed {
    /// The target's trouble.
    Target(String),
    /// The link is dead.
    Link(LinkError),
}

/// Why a target gets no session.
enum Refused {
    /// Its own trouble.
    Target(Target, String),
    /// The link is dead.
    Link(Target, LinkError),
}

impl Worker<'_> {
    /// Starts sessions, while nobody waits for the pacer, the link or the reader
    /// of outputs. Whether it did anything.
    ///
    /// # Errors
    /// When the link is dead.
    pub(super) fn admit(
        &mut self,
        link: &mut dyn Link,
        jobs: &mut dyn Jobs,
        now: Instant,
    ) -> Result<bool, LinkError> {
        let stopping = self.stopping.is_some();
        let mut any = false;
        for _ in 0..BATCH {
            if self.supply != Awaited::Job || !self.outbox.is_empty() {
                break;
            }
            // A target that is only told "interrupted" sends nothing.
            if !stopping {
                let room = self.pacer.allowance(now).min(BATCH);
                if self.held.is_some() || self.ready.len() >= room.min(link.room()) {
                    break;
                }
                if !self.shared.permit() {
                    self.supply = Awaited::Permit;
                    break;
                }
            }
            let mut admitted = false;
            match jobs.poll() {
                Supply::Job(Job { target, route }) if stopping => {
                    self.refuse(target, route.source, now, Verdict::Interrupted, None);
                    any = true;
                }
                Supply::Job(Job { target, route }) => {
                    any = true;
                    match self.start(link, target, &route, now) {
                        Ok(()) => admitted = true,
                        Err(Refused::Target(target, detail)) => {
                            self.refuse(target, route.source, now, Verdict::Error, Some(detail));
                        }
                        Err(Refused::Link(target, error)) => {
                            self.shared.give_back_permit();
                            let detail = Some(error.to_string());
                            self.refuse(target, route.source, now, Verdict::Error, detail);
                            return Err(error);
                        }
                    }
                }
                Supply::Later => self.supply = Awaited::Later,
                Supply::Done => self.supply = Awaited::Nothing,
            }
            if !stopping && !admitted {
                self.shared.give_back_permit();
            }
        }
        Ok(any)
    }

    fn start(
        &mut self,
        link: &mut dyn Link,
        target: Target,
        route: &Route,
        now: Instant,
    ) -> Result<(), Refused> {
        let remote = SocketAddr::new(target.address, target.port);
        if route.source.is_ipv4() != remote.is_ipv4() {
            let detail = format!(
                "target {remote}: the source address {} is of the other IP version; name another --source",
                route.source
            );
            return Err(Refused::Target(target, detail));
        }
        let mut taken = Vec::new();
        let claimed = self.claim(link, route.source, remote, &mut taken);
        for flow in &taken {
            self.ports.give_back(flow);
        }
        let (flow, id) = match claimed {
            Ok(claimed) => claimed,
            Err(Unclaimed::Target(detail)) => return Err(Refused::Target(target, detail)),
            Err(Unclaimed::Link(error)) => return Err(Refused::Link(target, error)),
        };
        let ends = Ends {
            source_mac: route.source_mac,
            next_hop_mac: route.next_hop_mac,
            vlan: route.vlan,
            local: flow.local,
            remote,
            dscp: self.options.dscp,
            flow_label: self.secret.flow_label(&flow),
        };
        let session = Session::new(
            flow,
            self.secret.isn(&flow, now),
            self.secret.timestamp_offset(&flow),
            mss(route),
            now,
        );
        let Some(template) = Template::new(&ends) else {
            self.drop_flow(link, &flow);
            let detail =
                format!("target {remote}: no frame can be laid out for {flow:?}; this is a defect");
            return Err(Refused::Target(target, detail));
        };
        if let Err(open) = self.open.insert(Open::new(session, template, target)) {
            self.drop_flow(link, &flow);
            let detail = format!("target {remote}: too many sessions are open; lower --sessions");
            return Err(Refused::Target(open.into_target(), detail));
        }
        self.wheel.reserve(self.open.indices());
        self.ready.reserve(self.open.indices());
        self.lookup.insert(&flow, slab::index(id));
        self.tally.open += 1;
        if self.kernel_owned {
            // The SYN, which the kernel sends.
            self.pacer.spend(now, 1);
        }
        self.settle(id, now);
        Ok(())
    }

    /// Finds a flow that nobody has, and steers it to the session that is to be
    /// put in next. Flows that somebody has are left in `taken`, so that they
    /// are not tried twice.
    fn claim(
        &mut self,
        link: &mut dyn Link,
        local: IpAddr,
        remote: SocketAddr,
        taken: &mut Vec<Flow>,
    ) -> Result<(Flow, SessionId), Unclaimed> {
        loop {
            let Some(flow) = self
                .ports
                .take(local, remote, &|local| link.port_taken(local))
            else {
                if self.let_go(link, usize::MAX) {
                    continue;
                }
                return Err(Unclaimed::Target(self.ports.exhausted(remote)));
            };
            let Some(id) = self.open.next_id() else {
                self.ports.give_back(&flow);
                return Err(Unclaimed::Target(format!(
                    "target {remote}: too many sessions are open; lower --sessions"
                )));
            };
            match link.add_flow(&flow, id) {
                Ok(()) => return Ok((flow, id)),
                Err(LinkError::FlowTaken) => {
                    taken.push(flow);
                    if taken.len() == FLOW_TRIES {
                        return Err(Unclaimed::Target(format!(
                            "target {remote}: {FLOW_TRIES} source ports in a row are in use by somebody else; widen --source-ports or add a --source"
                        )));
                    }
                }
                Err(error) => {
                    self.ports.give_back(&flow);
                    if matches!(error, LinkError::Down(_) | LinkError::Stalled { .. }) {
                        return Err(Unclaimed::Link(error));
                    }
                    // The map may be full, and of flows that only linger.
                    if !self.let_go(link, usize::MAX) {
                        return Err(Unclaimed::Target(error.to_string()));
                    }
                }
            }
        }
    }

    fn drop_flow(&mut self, link: &mut dyn Link, flow: &Flow) {
        link.remove_flow(flow);
        self.ports.give_back(flow);
    }
}

/// The segment size to announce: what the path's MTU leaves without options
/// (RFC 9293 §3.7.1; RFC 6691), not below what every path must carry.
fn mss(route: &Route) -> u16 {
    let (headers, least) = match route.source {
        IpAddr::V4(_) => (40, 536),
        IpAddr::V6(_) => (60, 1220),
    };
    let mss = route.mtu.saturating_sub(headers).max(least);
    u16::try_from(mss).unwrap_or(u16::MAX)
}
