//! Records made by hand: routers by letter, `!` the target, nothing a silence.

use std::net::{IpAddr, Ipv4Addr};

use super::walk::Node;
use crate::report::samples;
use crate::time::{Duration, UnixTime};
use crate::trace::{Hop, Method, Probe, ReplyKind, Trace, Verdict};

/// The target's address.
pub(crate) const TARGET: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// A record in the making.
pub(crate) struct Made(Trace);

fn address(name: &str) -> Ipv4Addr {
    match name.as_bytes() {
        b"!" => TARGET,
        &[letter] => Ipv4Addr::new(10, 0, letter, 1),
        _ => panic!("{name}: a letter, or !"),
    }
}

/// The router of this letter.
pub(crate) fn router(name: &str) -> Node {
    Node {
        address: IpAddr::V4(address(name)),
        destination: false,
    }
}

/// The target.
pub(crate) fn target() -> Node {
    Node {
        address: IpAddr::V4(TARGET),
        destination: true,
    }
}

impl Made {
    pub(crate) fn new(method: Method) -> Self {
        Made(Trace {
            address: Some(TARGET.into()),
            method,
            source: Some(Ipv4Addr::new(10, 0, 1, 1).into()),
            source_port: Some(50_000),
            started: UnixTime(1_767_323_045_000_000_000),
            duration: Duration::from_millis(100),
            ..samples::empty("server", Verdict::GapLimit)
        })
    }

    /// The next TTL: who answered each probe.
    pub(crate) fn hop(mut self, answers: &[&str]) -> Self {
        let ttl = u8::try_from(self.0.hops.len() + 1).unwrap();
        let kind = |name: &str| match (name, self.0.method.is_in_session()) {
            ("!", true) => ReplyKind::Sack,
            ("!", false) => ReplyKind::EchoReply,
            _ => ReplyKind::TimeExceeded,
        };
        let probe = |name: &&str| match *name {
            "" => samples::silent(0),
            name => Probe {
                sent: Duration::ZERO,
                reply: Some(samples::answered(kind(name), &address(name).to_string())),
            },
        };
        let probes = answers.iter().map(probe).collect();
        self.0.hops.push(Hop::new(ttl, probes));
        self
    }

    /// One probe a TTL, from TTL 1: `a.b!` is a, silence, b, the target.
    pub(crate) fn path(mut self, letters: &str) -> Self {
        for (ttl, letter) in (1..).zip(letters.chars()) {
            let name = letter.to_string();
            self = self.hop(&[if letter == '.' { "" } else { &name }]);
            if letter == '!' {
                self = self.reached(ttl);
            }
        }
        self
    }

    pub(crate) fn reached(mut self, ttl: u8) -> Self {
        self.0.destination_ttl = Some(ttl);
        self.0.verdict = Verdict::Complete;
        self
    }

    pub(crate) fn port(mut self, port: u16) -> Self {
        self.0.source_port = Some(port);
        self
    }

    pub(crate) fn trace(self) -> Trace {
        self.0
    }
}
