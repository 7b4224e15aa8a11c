//! From what a session learnt to the record of its target.

use std::net::IpAddr;
use std::sync::Arc;

use super::Target;
use crate::session::{Flow, SessionReport};
use crate::time::{Duration, Instant, UnixTime};
use crate::trace::{LinkInfo, Method, Trace, Verdict};

/// What a target is asked for that says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its port.
    pub port: u16,
    /// How it is traced.
    pub method: Method,
}

/// The two clocks, read once together: records of a run keep their distances
/// even when somebody sets the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    unix: UnixTime,
}

impl Clock {
    /// `at`, on the link's clock, is now.
    #[must_use]
    pub fn new(at: Instant) -> Self {
        Clock { at, unix: today() }
    }

    /// Civil time of a moment.
    #[must_use]
    pub fn unix(&self, at: Instant) -> UnixTime {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        UnixTime(
            self.unix
                .0
                .saturating_add(nanos(at.since(self.at)))
                .saturating_sub(nanos(self.at.since(at))),
        )
    }
}

/// The time of day.
#[must_use]
pub fn today() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime(since.map_or(0, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
}

/// The record of a target that had a session.
#[must_use]
pub fn of_session(
    target: Target,
    flow: &Flow,
    report: SessionReport,
    link: Arc<LinkInfo>,
    clock: &Clock,
) -> Trace {
    Trace {
        target: target.name,
        address: Some(target.address),
        port: target.port,
        method: report.method,
        source: Some(flow.local.ip()),
        source_port: Some(flow.local.port()),
        started: clock.unix(report.started),
        duration: report.ended.since(report.started),
        verdict: report.verdict,
        detail: report.detail,
        handshake: report.handshake,
        destination_ttl: report.destination_ttl,
        hops: report.hops,
        mtu: report.mtu,
        link: Some(link),
    }
}

/// The record of a target that never had one.
#[must_use]
pub fn without_session(
    target: Target,
    method: Method,
    source: Option<IpAddr>,
    link: Option<Arc<LinkInfo>>,
    started: UnixTime,
    verdict: Verdict,
    detail: Option<String>,
) -> Trace {
    let Target {
        name,
        address,
        port,
        ..
    } = target;
    Trace {
        source,
        started,
        link,
        ..untraced(name, Some(address), Asked { port, method }, verdict, detail)
    }
}

/// The record of a target that got nowhere, not even to an address perhaps.
#[must_use]
pub fn untraced(
    target: String,
    address: Option<IpAddr>,
    asked: Asked,
    verdict: Verdict,
    detail: Option<String>,
) -> Trace {
    let Asked { port, method } = asked;
    Trace {
        target,
        address,
        port,
        method,
        source: None,
        source_port: None,
        started: today(),
        duration: Duration::ZERO,
        verdict,
        detail,
        handshake: None,
        destination_ttl: None,
        hops: Vec::new(),
        mtu: None,
        link: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_time_follows_the_links_clock_both_ways() {
        let clock = Clock {
            at: Instant::from_nanos(5_000),
            unix: UnixTime(1_000_000),
        };
        assert_eq!(clock.unix(Instant::from_nanos(5_000)), UnixTime(1_000_000));
        assert_eq!(clock.unix(Instant::from_nanos(5_007)), UnixTime(1_000_007));
        assert_eq!(clock.unix(Instant::from_nanos(4_990)), UnixTime(999_990));
    }
}
