//! `insession aliases`: which addresses of results are one router's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::exit::{self, Failure, tell};
use super::interrupt::{self, Step};
use super::probing::engine::{Links, check_rights, no_link, secret};
use super::results::{self, Bad, Record};
use crate::aliases::Kind;
use crate::aliases::drive::{Drive, Station, drive};
use crate::aliases::findings::Findings;
use crate::aliases::packet::Ports;
use crate::aliases::survey::{Options, Survey};
use crate::engine::Target;
use crate::engine::dispatch::{Routing as _, Way};
use crate::link::LinkError;
use crate::link::flows::Alone;
use crate::link::packet::plain::Frames;
use crate::net::{self, Interface, Route, Router, RouterOptions};
use crate::targets::exclude::Exclusions;
use crate::trace::Trace;

pub use arguments::Arguments;
use progress::Shown;

mod arguments;
mod progress;

/// How long a survey may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long neighbours are waited for at once.
const NEIGHBOURS: Duration = Duration::from_secs(1);

/// Finds out; gives the exit code: 1 where there was no way to some address, 2 where some
/// line was no record.
///
/// # Errors
/// When a result cannot be read, nothing is to be asked, or it cannot be asked from here.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut bad = Bad::new(arguments.strict);
    let candidates = candidates(arguments, &mut bad)?;
    let exclusions = Exclusions::new(
        &arguments.exclude,
        &arguments.allow,
        arguments.interface.as_deref(),
    )?;
    let addresses = permitted(candidates, &exclusions);
    let flows = addresses.len().saturating_mul(Kind::ALL.len());
    let probing = arguments.probing(flows)?;
    check_rights(&probing)?;
    if addresses.is_empty() {
        return Err(Failure::usage(
            "no addresses to ask; name results with hops, or some by --address, and allow special ones with --allow",
        ));
    }
    let (addresses, routes) = routed(arguments, addresses)?;
    let unrouted = routes.len() < flows / Kind::ALL.len();
    if addresses.is_empty() {
        return Err(Failure::failed(
            "no way to any address; `ip route` lists where this host reaches",
        ));
    }
    let range = match &arguments.source_ports {
        Some(ports) => ports.clone(),
        None => net::ports::default_range().map_err(|error| no_link(&error))?,
    };
    let alone = Alone {
        datagrams: true,
        blocks: None,
    };
    let links = Links::new(&probing, range.clone(), alone, None)?;
    let mut stations = stations(&links, &routes)?;
    let sources: BTreeSet<_> = routes.iter().map(|route| route.source).collect();
    let is_free = |port: &u16| {
        let taken = |station: &Station| {
            let mut locals = sources.iter().map(|it| SocketAddr::new(*it, *port));
            locals.any(|local| station.link.port_taken(local))
        };
        !stations.iter().any(taken)
    };
    let Some(local) = range.clone().find(is_free) else {
        return Err(Failure::usage(format!(
            "--source-ports {}-{}: all of them are taken; name others",
            range.start(),
            range.end()
        )));
    };
    let ports = Ports {
        local,
        datagram: arguments.udp_port,
        segment: arguments.tcp_port,
    };
    let mut kinds: Vec<Kind> = arguments.kinds.iter().map(|kind| (*kind).into()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let [a, b, c, d, e, f, g, h, ..] = secret()?;
    let options = Options {
        kinds: kinds.clone(),
        samples: arguments.probes,
        interval: arguments.interval,
        timeout: arguments.timeout,
        rate: arguments.rate,
        confidence: arguments.confidence,
        seed: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        ..Options::default()
    };
    let samples = arguments.probes;
    let shown = Shown::new(arguments.progress, samples);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let (findings, failed) = super::block_on(async move {
        let told = Arc::clone(&asked);
        let step = Step::new(move || told.store(true, Ordering::Relaxed), PATIENCE);
        // Dropped with the runtime.
        let _listened = interrupt::listen(vec![step]).map_err(|error| {
            Failure::failed(format!("signals: {error}; raise the limit of open files"))
        })?;
        let work = move || {
            let now = stations.first().map(|station| station.link.now());
            let mut survey = Survey::new(&addresses, options, now.unwrap_or_default());
            let mut shown = shown;
            let with = Drive {
                stations: &mut stations,
                addresses: &addresses,
                routes: &routes,
                ports,
                stop: &|| asked.load(Ordering::Relaxed),
                progress: &mut |progress| shown.show(&progress),
            };
            let ended = drive(&mut survey, &kinds, with);
            shown.end();
            (survey.finish(), ended)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Failure::failed(format!("the survey: {error}; report it")))
    })??;
    write(arguments, &findings)?;
    failed?;
    if stop.load(Ordering::Relaxed) {
        return Ok(exit::INTERRUPTED);
    }
    let code = bad.end();
    Ok(match code {
        exit::OK if unrouted => exit::FAILED,
        code => code,
    })
}

/// The addresses of hops, and those that were named: in order, each once.
fn candidates(arguments: &Arguments, bad: &mut Bad) -> Result<Vec<IpAddr>, Failure> {
    let mut found: BTreeSet<IpAddr> = arguments.address.iter().copied().collect();
    for path in &arguments.results {
        results::read(path, bad, &mut |Record { trace, .. }| {
            found.extend(hops(trace));
            Ok(true)
        })?;
    }
    let wanted = |address: &IpAddr| match address {
        IpAddr::V4(_) => !arguments.ipv6,
        IpAddr::V6(_) => !arguments.ipv4,
    };
    Ok(found.into_iter().filter(wanted).collect())
}

/// Who sent errors about the probes of a trace: routers, and not its target.
fn hops(trace: &Trace) -> impl Iterator<Item = IpAddr> {
    let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
    let replies = probes.filter_map(|probe| probe.reply.as_ref());
    let of_routers = replies.filter(|reply| !reply.kind.is_of_target());
    let target = trace.address;
    of_routers
        .map(|reply| reply.from)
        .filter(move |from| Some(*from) != target)
}

/// Those that may be asked; the others are told of.
fn permitted(addresses: Vec<IpAddr>, exclusions: &Exclusions) -> Vec<IpAddr> {
    let mut told = 0_u64;
    let may = |address: &IpAddr| {
        let Some(reason) = exclusions.check(*address) else {
            return true;
        };
        told += 1;
        if told <= TOLD {
            tell(format_args!("{address}: {reason}; not asked"));
        }
        false
    };
    let permitted = addresses.into_iter().filter(may).collect();
    if told > TOLD {
        tell(format_args!("{told} addresses are not asked"));
    }
    permitted
}

/// Addresses that are told one by one.
const TOLD: u64 = 20;

/// The addresses to which there is a way, and the ways.
fn routed(
    arguments: &Arguments,
    addresses: Vec<IpAddr>,
) -> Result<(Vec<IpAddr>, Vec<Route>), Failure> {
    let mut router = Router::new(RouterOptions {
        sources: arguments.source.into_iter().collect(),
        interface: arguments.interface.clone(),
    })
    .map_err(|error| match arguments.source {
        Some(_) => Failure::usage(error.to_string()),
        None => no_link(&error),
    })?;
    let mut waiting: Vec<Target> = (0..)
        .zip(addresses)
        .map(|(index, address)| Target {
            index,
            name: address.to_string(),
            address,
            port: arguments.tcp_port,
        })
        .collect();
    let mut known = Vec::new();
    loop {
        let mut pending = Vec::new();
        for target in waiting {
            match router.route(&target) {
                Ok(Way::Known(route)) => known.push((target.index, target.address, route)),
                Ok(Way::Pending(_)) => pending.push(target),
                Err(failure) => tell(format_args!(
                    "warning: {}: {}; not asked",
                    target.address, failure.detail
                )),
            }
        }
        if pending.is_empty() {
            break;
        }
        // Each neighbour is found or given up some time.
        router.settled(NEIGHBOURS);
        waiting = pending;
    }
    known.sort_by_key(|(index, ..)| *index);
    Ok(known
        .into_iter()
        .map(|(_, address, route)| (address, route))
        .unzip())
}

/// Opens the links of every interface that a way goes through.
fn stations(links: &Links, routes: &[Route]) -> Result<Vec<Station>, LinkError> {
    let mut interfaces: Vec<&Arc<Interface>> = Vec::new();
    for route in routes {
        if !interfaces.contains(&&route.interface) {
            interfaces.push(&route.interface);
        }
    }
    let mut stations = Vec::new();
    for interface in interfaces {
        let is_here = |route: &&Route| route.interface == *interface;
        let mut here = routes.iter().filter(is_here);
        let mut wide = match here.any(|route| route.source.is_ipv6()) {
            true => Some(Frames::echo_replies_v6(interface)?),
            false => None,
        };
        for link in links.open(interface)? {
            stations.push(Station {
                interface: interface.index,
                link,
                wide: wide.take(),
            });
        }
    }
    Ok(stations)
}

/// Writes what was found where it was asked for.
fn write(arguments: &Arguments, findings: &Findings) -> Result<(), Failure> {
    let unwritable =
        |error| Failure::failed(format!("the findings: {error}; report it as a mistake"));
    let lines = findings.lines().map_err(unwritable)?;
    let to_file = |option: &str, path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).map_err(|error| {
            Failure::usage(format!(
                "--{option} {}: {error}; name a file that can be written",
                path.display()
            ))
        })
    };
    if let Some(path) = &arguments.output {
        to_file("output", path, &lines)?;
    }
    if let Some(path) = &arguments.evidence {
        let evidence = findings.evidence().map_err(unwritable)?;
        to_file("evidence", path, &evidence)?;
    }
    let told = match arguments.json {
        true => lines,
        false => findings.text().into_bytes(),
    };
    super::print_whole(Ok(told)).map(|_| ())
}
