//! Joins a survey to links: answers in, probes out, sleep until something is due.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use insession_common::flow::SessionId;

use super::packet::{Ports, Writer, flow, read};
use super::survey::{Progress, Survey};
use super::{Answer, Ask, Kind, wide};
use crate::link::packet::plain::Frames;
use crate::link::{Link, LinkError};
use crate::net::Route;
use crate::time::{Duration, Instant};

/// Longest sleep: how late a stop is seen.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// The same where several links are looked at in turn.
const BRIEF: Duration = Duration::from_millis(1);
/// Frames that are taken from a link at once.
const BUDGET: usize = 64;

/// A link, and the number of the interface that it is of.
pub struct Station {
    /// [`crate::net::Interface::index`].
    pub interface: u32,
    /// It.
    pub link: Box<dyn Link + Send>,
    /// For IPv6 echo requests that are longer than a link's frames; none on a station
    /// whose interface has another one.
    pub wide: Option<Frames>,
}

/// How a survey is driven.
pub struct Drive<'a> {
    /// The links: several of an interface have its replies among them.
    pub stations: &'a mut [Station],
    /// The targets.
    pub addresses: &'a [IpAddr],
    /// The way to each.
    pub routes: &'a [Route],
    /// Local and remote ports.
    pub ports: Ports,
    /// Asked to end.
    pub stop: &'a dyn Fn() -> bool,
    /// Told now and then how far it is.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// The session of a target and a kind.
fn session(target: usize, kind: Kind) -> SessionId {
    (target * Kind::ALL.len() + kind.index()) as SessionId
}

/// And back.
fn asked(session: SessionId) -> Option<(usize, Kind)> {
    let session = session as usize;
    let kind = Kind::ALL.get(session % Kind::ALL.len())?;
    Some((session / Kind::ALL.len(), *kind))
}

/// The clock that all links share.
fn now(stations: &[Station]) -> Instant {
    stations
        .first()
        .map_or(Instant::ZERO, |station| station.link.now())
}

/// Has a survey done with. Ends early where it is to stop.
///
/// # Errors
/// What a link failed of.
pub fn drive(survey: &mut Survey, kinds: &[Kind], with: Drive<'_>) -> Result<(), LinkError> {
    let Drive {
        stations,
        addresses,
        routes,
        ports,
        stop,
        progress,
    } = with;
    let mut long = Long::new(addresses, ports.local);
    let mut writer = Writer::new(ports);
    let place = |stations: &[Station], route: &Route| {
        let own = |station: &Station| station.interface == route.interface.index;
        stations.iter().position(own)
    };
    let mut told = Vec::new();
    let mut steered = vec![false; routes.len()];
    let mut next_told = Instant::ZERO;
    while !stop() {
        let time = now(stations);
        for station in &mut *stations {
            station.link.receive(BUDGET, &mut |received| {
                let Some((target, kind)) = asked(received.session) else {
                    return;
                };
                let packet = received.bytes.get(received.l3_offset..);
                if received.outgoing || target >= routes.len() {
                    return;
                }
                told.extend(packet.and_then(|packet| read(packet, target, kind, received.at)));
            })?;
        }
        for station in &mut *stations {
            let answers = long.receive(station, routes, time)?;
            answers.iter().for_each(|answer| survey.answered(answer));
        }
        let idle = told.is_empty();
        for told in told.drain(..) {
            let target = told.answer.target;
            if let (Some(sequence), Some(route)) = (told.reset, routes.get(target))
                && let Some(station) = place(stations, route)
            {
                let address = told.answer.from;
                send(&mut stations[station], &mut |out| {
                    writer.reset(address, sequence, route, out)
                })?;
            }
            survey.answered(&told.answer);
        }
        let mut sent = false;
        while stations.iter_mut().all(|station| station.link.room() > 0) {
            let Some(ask) = survey.poll(time) else {
                break;
            };
            let Some(route) = routes.get(ask.target) else {
                continue;
            };
            let Some(station) = place(stations, route) else {
                continue;
            };
            let station = &mut stations[station];
            if let Some(steered) = steered.get_mut(ask.target)
                && !std::mem::replace(steered, true)
            {
                steer(station, kinds, &ask, route, &ports)?;
            }
            match (&mut station.wide, is_long(&ask)) {
                (Some(wide), true) => {
                    wide.send(&wide::request(&ask, route, ports.local))?;
                }
                _ => send(station, &mut |out| writer.probe(&ask, route, out))?,
            }
            sent = true;
        }
        for station in &mut *stations {
            station.link.flush()?;
        }
        if time >= next_told {
            next_told = time + HEARTBEAT;
            progress(survey.progress());
        }
        if survey.is_done() {
            break;
        }
        if sent || !idle {
            continue;
        }
        let most = match stations {
            [one] if one.wide.is_none() => HEARTBEAT,
            _ => BRIEF,
        };
        let until = survey.wake_at().unwrap_or(time + most).min(time + most);
        if let Some(station) = stations.first_mut().filter(|_| until > time) {
            station.link.wait(until)?;
        }
    }
    progress(survey.progress());
    Ok(())
}

/// From now on answers of this target are ours.
fn steer(
    station: &mut Station,
    kinds: &[Kind],
    ask: &Ask,
    route: &Route,
    ports: &Ports,
) -> Result<(), LinkError> {
    for kind in kinds {
        if ask.address.is_ipv6() && *kind == Kind::Echo {
            // Its answers are not steered: they may come in fragments.
            continue;
        }
        let flow = flow(*kind, route.source, ask.address, ports);
        station.link.add_alone(&flow, session(ask.target, *kind))?;
    }
    Ok(())
}

/// Writes a frame; what there is no room for is lost like any other.
fn send(station: &mut Station, fill: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), LinkError> {
    match station.link.transmit(fill) {
        Err(LinkError::Full) => Ok(()),
        sent => sent,
    }
}

/// Whether a probe is longer than a link's frames.
fn is_long(ask: &Ask) -> bool {
    ask.address.is_ipv6() && ask.kind == Kind::Echo
}

/// Replies of a target that came whole and were called too big, at most: a router that
/// minds none of so many minds none.
const COMPLAINTS: u8 = 3;

/// Long echo requests and their answers.
struct Long {
    numbers: HashMap<Ipv6Addr, usize>,
    identifier: u16,
    /// How often a target's replies were called too big.
    complaints: HashMap<usize, u8>,
}

impl Long {
    fn new(addresses: &[IpAddr], identifier: u16) -> Self {
        let number = |(number, address): (usize, &IpAddr)| match address {
            IpAddr::V6(v6) => Some((*v6, number)),
            IpAddr::V4(_) => None,
        };
        Long {
            numbers: addresses.iter().enumerate().filter_map(number).collect(),
            identifier,
            complaints: HashMap::new(),
        }
    }

    /// Takes what has come; what came whole is called too big.
    fn receive(
        &mut self,
        station: &mut Station,
        routes: &[Route],
        now: Instant,
    ) -> Result<Vec<Answer>, LinkError> {
        let mut answers = Vec::new();
        let Some(frames) = &mut station.wide else {
            return Ok(answers);
        };
        let mut complaints = Vec::new();
        frames.receive(BUDGET, &mut |frame| {
            let Ok(frame) = crate::wire::ethernet::Frame::new(frame) else {
                return;
            };
            let number = |address| self.numbers.get(&address).copied();
            let answer = wide::read(frame.payload(), self.identifier, now, &number);
            let Some(answer) = answer else {
                return;
            };
            let made = self.complaints.entry(answer.target).or_default();
            if answer.id.is_none() && *made < COMPLAINTS {
                *made += 1;
                if let Some(route) = routes.get(answer.target) {
                    complaints.push(wide::too_big(frame.payload(), answer.from, route));
                }
            }
            answers.push(answer);
        })?;
        for complaint in &complaints {
            frames.send(complaint)?;
        }
        Ok(answers)
    }
}
