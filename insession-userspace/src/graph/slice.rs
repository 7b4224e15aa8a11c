//! Which traces are taken.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::time::UnixTime;
use crate::trace::{Method, Trace};

/// A target, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Those whose address is in it.
    Net(IpNet),
    /// Those that the user named so.
    Named(String),
}

/// What is asked of a trace: of each kind, where some are named, one of them.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Its target.
    pub targets: Vec<Targets>,
    /// Its vantage point.
    pub sources: Vec<IpNet>,
    /// An AS on its way.
    pub ases: Vec<u32>,
    /// Its method.
    pub methods: Vec<Method>,
    /// When it was started, at the earliest.
    pub since: Option<UnixTime>,
    /// When it was started, before this.
    pub until: Option<UnixTime>,
}

impl Slice {
    /// Whether a trace is taken.
    #[must_use]
    pub fn takes(&self, trace: &Trace) -> bool {
        let inside = |address: Option<IpAddr>, net: &IpNet| {
            address.is_some_and(|address| net.contains(&address))
        };
        let target = |targets: &Targets| match targets {
            Targets::Net(net) => inside(trace.address, net),
            Targets::Named(name) => *name == trace.target,
        };
        let passed = || {
            let probes = trace.hops.iter().flat_map(|hop| &hop.probes);
            let replies = probes.filter_map(|probe| probe.reply.as_ref());
            replies.filter_map(|reply| reply.owner.as_ref()?.asn)
        };
        let started = trace.started;
        (self.targets.is_empty() || self.targets.iter().any(target))
            && (self.sources.is_empty() || self.sources.iter().any(|net| inside(trace.source, net)))
            && (self.methods.is_empty() || self.methods.contains(&trace.method))
            && self.since.is_none_or(|since| since <= started)
            && self.until.is_none_or(|until| started < until)
            && (self.ases.is_empty() || passed().any(|asn| self.ases.contains(&asn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn each_kind_takes_and_leaves() {
        // To www.example, 10.0.9.2, from 10.0.1.2, through AS64500, by insession.
        let trace = samples::contract();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let all = Slice::default;
        let later = Some(UnixTime(trace.started.0 + 1));
        let now = Some(trace.started);
        let named = |name: &str| vec![Targets::Named(name.to_owned())];
        for (slice, takes) in [
            (all(), true),
            (
                Slice {
                    targets: named("www.example"),
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    targets: named("www"),
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    targets: vec![Targets::Net(net("10.0.9.0/24"))],
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    targets: vec![Targets::Net(net("10.0.8.0/24"))],
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    sources: vec![net("10.0.8.0/24"), net("10.0.1.2/32")],
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    sources: vec![net("10.0.1.3/32")],
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    ases: vec![1, 64500],
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    ases: vec![1],
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    methods: vec![Method::InSession],
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    methods: vec![Method::Icmp],
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    since: now,
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    since: later,
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    until: later,
                    ..all()
                },
                true,
            ),
            (
                Slice {
                    until: now,
                    ..all()
                },
                false,
            ),
            (
                Slice {
                    ases: vec![64500],
                    methods: vec![Method::Icmp],
                    ..all()
                },
                false,
            ),
        ] {
            assert_eq!(slice.takes(&trace), takes, "{slice:?}");
        }
    }
}
