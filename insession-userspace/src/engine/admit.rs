//! From a target to a running session: a source port, the flow in the link's
//! map, then the session. In this order, so that no reply can come before there
//! is somebody to have it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use insession_common::flow::SessionId;

use super::again::Again;
use super::jobs::{Job, Jobs, Supply};
use super::open::Open;
use super::ports::Ports;
use super::slab;
use super::worker::{Awaited, Worker};
use crate::link::{Link, LinkError};
use crate::net::Route;
use crate::session::{FIRST_PORT, Flow, Session, has_block, steered};
use crate::time::Instant;
use crate::trace::{Method, Verdict};
use crate::wire::template::Way;
use crate::wire::{ethernet, ip};

/// Sessions that are started before replies are looked at again, and lingering
/// flows that are freed at a time.
const ROUND: usize = 64;
/// How many flows that turn out to be taken are tried for a target: each costs a
/// system call.
const FLOW_TRIES: usize = 64;

/// Why no flow was to be had.
enum Unclaimed {
    /// The target's trouble.
    Target(String),
    /// The link is dead.
    Link(LinkError),
    /// There will be one when a session has ended.
    Later,
    /// There will be one when a flow to this target is given back.
    Port,
}

/// The job that is next.
struct Next {
    supply: Supply,
    /// The flow that it has waited for.
    offered: Option<Flow>,
    /// Why it goes on by another method.
    why: Option<String>,
}

/// What became of a job.
enum Started {
    /// It has a session.
    Running,
    /// It has its record, and no session.
    Refused,
    /// It has to wait for a session to end.
    Parked,
    /// It waits for a flow to its target; others may go before it.
    Deferred,
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
        let stopping = self.draining.is_some();
        let mut any = false;
        for _ in 0..ROUND {
            let waits = self.deferred.is_released()
                || !self.again.is_empty()
                || stopping && !self.deferred.is_empty();
            if self.supply != Awaited::Job && !waits || self.outbox.is_behind() {
                break;
            }
            if self.deferred.is_full() && !waits && self.parked.is_none() {
                self.supply = Awaited::Port;
                break;
            }
            // A target that is not begun any more sends nothing.
            if !stopping {
                let room = self.pacer.allowance(now).min(self.batch_size);
                if self.held.is_some() || self.ready.len() >= room.min(link.room()) {
                    break;
                }
                if let Some(courtesy) = &self.courtesy
                    && courtesy.may_begin(now).is_err()
                {
                    break;
                }
                if !self.permit() {
                    self.supply = Awaited::Permit;
                    break;
                }
            }
            let (mut admitted, mut parked) = (false, false);
            let Next {
                supply,
                offered,
                why,
            } = self.next_job(jobs);
            match supply {
                Supply::Job(job) if stopping => {
                    self.leave_unbegun(job, now);
                    any = true;
                }
                Supply::Job(job) => match self.start(link, job, offered, why, now)? {
                    Started::Running => (any, admitted) = (true, true),
                    Started::Refused | Started::Deferred => any = true,
                    Started::Parked => (self.supply, parked) = (Awaited::Permit, true),
                },
                Supply::Later => self.supply = Awaited::Later,
                Supply::Done => self.supply = Awaited::Nothing,
            }
            if !stopping && !admitted {
                self.give_back_permit();
            }
            if parked {
                break;
            }
        }
        Ok(any)
    }

    /// The next job: one that has waited before one that comes, with the flow that it
    /// has waited for; or one that goes on by another method.
    fn next_job(&mut self, jobs: &mut dyn Jobs) -> Next {
        let next = |supply, offered, why| Next {
            supply,
            offered,
            why,
        };
        if self.draining.is_some()
            && let Some(job) = self.unbegun()
        {
            return next(Supply::Job(job), None, None);
        }
        if let Some(Again { job, why }) = self.again.pop_front() {
            return next(Supply::Job(job), None, Some(why));
        }
        let released = || self.deferred.pop().map(|(job, flow)| (job, Some(flow)));
        match self.parked.take().or_else(released) {
            Some((job, flow)) => next(Supply::Job(job), flow, None),
            None => next(jobs.poll(), None, None),
        }
    }

    /// Starts the session of a target, or writes the record that says why it has
    /// none. `offered` is the flow that it has waited for; `why` says why it goes on by
    /// another method.
    fn start(
        &mut self,
        link: &mut dyn Link,
        job: Job,
        offered: Option<Flow>,
        why: Option<String>,
        now: Instant,
    ) -> Result<Started, LinkError> {
        let Job { target, route } = job;
        let other = self.shared.options.on_handshake_failure;
        let method = match (&why, other) {
            (Some(_), Some(method)) => method,
            _ => self.options.method,
        };
        // The port that was given for TCP is none to send datagrams to.
        let datagrams = method.protocol(false) == ip::PROTOCOL_UDP;
        let port = match why.is_some() && datagrams {
            true => FIRST_PORT,
            false => target.port,
        };
        let remote = steered(method, SocketAddr::new(target.address, port));
        let sidecar = method == Method::Sidecar;
        let adopted = self.shared.options.conversation.adopted().copied();
        let adopted = adopted.filter(|_| sidecar);
        // The one flow that there is.
        let offered = offered.or(adopted.map(|adopted| adopted.flow));
        let mut taken = Vec::new();
        let claimed = if sidecar && self.kernel_owned && adopted.is_none() {
            Err(Unclaimed::Target(format!(
                "target {remote}: on the packet link connections are the kernel's, which sends no requests of ours; use --link xdp (not over loopback), or --adopt a connection"
            )))
        } else if route.source.is_ipv4() == remote.is_ipv4() {
            self.claim(link, method, (route.source, remote), offered, &mut taken)
        } else {
            Err(Unclaimed::Target(format!(
                "target {remote}: the source address {} is of the other IP version; name another --source",
                route.source
            )))
        };
        for flow in &taken {
            ports_of(method, &mut self.ports, &mut self.blocks).give_back(flow);
        }
        let (flow, id) = match claimed {
            Ok(claimed) => claimed,
            Err(Unclaimed::Target(detail)) => {
                self.refuse(target, route.source, now, Verdict::Error, Some(detail));
                // What it cannot have is the next one's.
                if let Some(flow) = offered {
                    self.deferred.release(&flow);
                }
                return Ok(Started::Refused);
            }
            Err(Unclaimed::Later | Unclaimed::Port) if why.is_some() => {
                let why = why.unwrap_or_default();
                let job = Job { target, route };
                self.again.push_front(Again { job, why });
                return Ok(Started::Parked);
            }
            Err(Unclaimed::Later) => {
                self.parked = Some((Job { target, route }, offered));
                return Ok(Started::Parked);
            }
            Err(Unclaimed::Port) => {
                self.deferred.push(Job { target, route });
                return Ok(Started::Deferred);
            }
            Err(Unclaimed::Link(error)) => {
                if self.shared.tells_unbegun() {
                    let detail = Some(error.to_string());
                    self.refuse(target, route.source, now, Verdict::Error, detail);
                }
                self.give_back_permit();
                return Err(error);
            }
        };
        let (isn, timestamp_offset) = self.secret.beginning(&flow, now);
        let mss = mss(&route, link.longest_packet());
        let alone = !method.is_in_session();
        let mut session = match alone {
            true => Session::alone(
                &self.options,
                method,
                flow,
                port,
                (isn, timestamp_offset),
                mss,
                now,
            ),
            false => Session::new(flow, isn, timestamp_offset, mss, now),
        };
        match adopted {
            Some(adopted) => session.adopt(adopted.sent),
            None if sidecar => {
                let conversation = &self.shared.options.conversation;
                session.carry(conversation.request(&self.options, &target), now);
            }
            None => {}
        }
        if self.options.mtu && !alone {
            session.measure_mtu(route.device_mtu, longest(&route, link.longest_frame()));
        }
        let layout = self.layouts.of(&Way {
            source_mac: route.source_mac,
            next_hop_mac: route.next_hop_mac,
            vlan: route.vlan,
            source: route.source,
            dscp: self.options.dscp,
            protocol: method.protocol(remote.is_ipv6()),
            dont_fragment: !alone,
        });
        // As the kernel's own segments of the connection: a balancer that hashes
        // the label must not send probes elsewhere.
        let flow_label = match (self.kernel_owned && !alone, remote.is_ipv6()) {
            (false, true) => self.secret.flow_label(&flow),
            _ => 0,
        };
        let mut first_ttl = self.options.first_ttl;
        if let Some(near) = &mut self.near
            && !alone
        {
            first_ttl = near.begin(layout.index(), now);
            session.begin_behind(first_ttl.saturating_sub(1));
        }
        let kept = ((other.is_some() && !alone).then_some(route), why);
        let open = Open::new(target, layout, flow_label, self.shared.options.live, kept);
        self.open.insert(session, open);
        let slots = self.open.indices();
        self.wheel.reserve(slots);
        self.ready.reserve(slots);
        self.lookup.reserve(slots);
        if let Some(courtesy) = &mut self.courtesy {
            courtesy.reserve(slots);
            courtesy.begun(first_ttl, now);
        }
        self.lookup.insert(&flow, slab::index(id));
        self.tally.open += 1;
        if self.kernel_owned && !alone && adopted.is_none() {
            // The SYN, which the kernel sends.
            self.pacer.spend(now, 1);
        }
        self.settle(id, now);
        Ok(Started::Running)
    }

    /// Finds a flow that nobody has, and steers it to the session that is to be
    /// put in next: the one that is `offered`, if it is free. Flows that somebody has
    /// are left in `taken`, so that they are not tried twice.
    fn claim(
        &mut self,
        link: &mut dyn Link,
        method: Method,
        (local, remote): (IpAddr, SocketAddr),
        mut offered: Option<Flow>,
        taken: &mut Vec<Flow>,
    ) -> Result<(Flow, SessionId), Unclaimed> {
        // Nobody has waited longer.
        let first = offered.is_some();
        loop {
            // Whether a flow between these ends will be given back some time.
            let ours = Cell::new(false);
            let in_use = |flow: &Flow| {
                let ends = self.lookup.find_flow(flow, &self.open).is_some()
                    || self.lingering.contains(flow);
                ours.set(ours.get() || ends);
                ends || taken.contains(flow)
            };
            let kernel_has = |local| link.port_taken(local);
            let flow = match offered.take().filter(|flow| !in_use(flow)) {
                Some(flow) => Some(flow),
                // Not before those that wait already.
                None if !first && self.deferred.waits_for(local, remote) => {
                    return Err(Unclaimed::Port);
                }
                None => ports_of(method, &mut self.ports, &mut self.blocks).take(
                    local,
                    remote,
                    &in_use,
                    &kernel_has,
                ),
            };
            let Some(flow) = flow else {
                return Err(match ours.get() {
                    true => Unclaimed::Port,
                    false => Unclaimed::Target(
                        ports_of(method, &mut self.ports, &mut self.blocks).exhausted(remote),
                    ),
                });
            };
            let Some(id) = self.open.next_id() else {
                ports_of(method, &mut self.ports, &mut self.blocks).give_back(&flow);
                return Err(Unclaimed::Target(format!(
                    "target {remote}: too many sessions are open; lower --sessions"
                )));
            };
            let added = match method.is_in_session() {
                true => link.add_flow(&flow, id),
                false => link.add_alone(&flow, id),
            };
            match added {
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
                    ports_of(method, &mut self.ports, &mut self.blocks).give_back(&flow);
                    if matches!(error, LinkError::Down(_) | LinkError::Stalled { .. }) {
                        return Err(Unclaimed::Link(error));
                    }
                    // The map may be full, and of flows that only linger. No more
                    // of them than it takes: the kernel resets what comes for them.
                    if self.let_go(link, ROUND) {
                        offered = Some(flow).filter(|_| first);
                        continue;
                    }
                    return Err(match error {
                        LinkError::NotPermitted { .. } if self.any_open() => Unclaimed::Later,
                        error => Unclaimed::Target(error.to_string()),
                    });
                }
            }
        }
    }

    /// Whether a session is open that will end, of this worker or another.
    fn any_open(&self) -> bool {
        !self.open.is_empty() || self.shared.stats.open.load(Ordering::Relaxed) > 0
    }
}

/// Where sessions of this method have their ports from.
fn ports_of<'a>(method: Method, singles: &'a mut Ports, blocks: &'a mut Ports) -> &'a mut Ports {
    match has_block(method) {
        true => blocks,
        false => singles,
    }
}

/// The longest IP packet that fits into a frame of this length, octets.
fn longest(route: &Route, frame: usize) -> u16 {
    let tag = route.vlan.map_or(0, |_| ethernet::TAG_LEN);
    let header = ethernet::HEADER_LEN + tag;
    u16::try_from(frame.saturating_sub(header)).unwrap_or(u16::MAX)
}

/// The segment size to announce: what the path's MTU, and what the link can
/// receive (`longest`), leave without options (RFC 9293 §3.7.1; RFC 6691), not below what
/// every path must carry.
fn mss(route: &Route, longest: u32) -> u16 {
    let (headers, least) = match route.source {
        IpAddr::V4(_) => (40, 536),
        IpAddr::V6(_) => (60, 1220),
    };
    let mss = route.mtu.min(longest).saturating_sub(headers).max(least);
    u16::try_from(mss).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Interface;

    #[test]
    fn no_more_is_announced_than_path_and_link_can_carry() {
        let mss = |source: &str, mtu, longest| {
            let route = Route {
                interface: Interface {
                    index: 1,
                    name: "sim1".into(),
                }
                .into(),
                vlan: None,
                source: source.parse().unwrap(),
                source_mac: [0; 6],
                next_hop_mac: [0; 6],
                mtu,
                device_mtu: mtu,
            };
            mss(&route, longest)
        };
        let (v4, v6) = ("192.0.2.1", "2001:db8::1");
        assert_eq!([mss(v4, 9000, 1500), mss(v6, 9000, 1500)], [1460, 1440]);
        assert_eq!([mss(v4, 1400, 1500), mss(v6, 1400, 1500)], [1360, 1340]);
        assert_eq!(mss(v4, 65_536, u32::MAX), 65_496);
        assert_eq!([mss(v4, 100, 1500), mss(v6, 100, 1500)], [536, 1220]);
    }
}
