//! The text report of one target, hop by hop while the trace goes on.
//!
//! Replies come in any order; a hop's line comes out when the fate and the
//! names of all its probes are known and all lower hops are out. What was
//! printed in the end is what [`text::write`] writes of the record.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::text::{self, Opening, Style};
use super::{changes, mtu};
use crate::trace::{Handshake, Hop, LinkInfo, Probe, ReplyKind, Trace};

/// What is known of an address's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The look-up is under way.
    Pending,
    /// It is over: the name, if there is one.
    Done(Option<String>),
}

/// The report of one target as far as it is out.
#[derive(Debug)]
pub struct Live {
    style: Style,
    probes: usize,
    next: u8,
    header: bool,
    connected: bool,
    handshake: bool,
    address: Option<IpAddr>,
    destination: Option<u8>,
    hops: BTreeMap<u8, Vec<Option<Probe>>>,
    /// The NAT's identifier as the last hop that is out had it.
    nat: u16,
}

impl Live {
    /// Nothing is out yet; hops begin at `first_ttl` and have `probes` probes.
    #[must_use]
    pub fn new(style: Style, first_ttl: u8, probes: u8) -> Self {
        Live {
            style,
            probes: usize::from(probes),
            next: first_ttl,
            header: false,
            connected: false,
            handshake: false,
            address: None,
            destination: None,
            hops: BTreeMap::new(),
            nat: 0,
        }
    }

    /// The way is known and the link is open: the header.
    pub fn opened(
        &mut self,
        target: &str,
        remote: (IpAddr, u16),
        source: IpAddr,
        link: &LinkInfo,
        out: &mut String,
    ) {
        let (address, port) = remote;
        self.put_header(
            &Opening {
                target,
                address: Some(address),
                port,
                source: Some(source),
                link: Some(link),
                method: self.style.method,
            },
            out,
        );
    }

    /// The connection is open: the handshake's line. One that is not known yet
    /// comes out with the record, behind the hops.
    pub fn established(&mut self, open: Option<&Handshake>, out: &mut String) {
        self.connected = true;
        if let Some(open) = open
            && self.header
            && !self.handshake
        {
            self.handshake = true;
            out.push_str(&text::handshake(open));
        }
    }

    /// A probe's fate is known. One that comes after its line is out is in the
    /// record only.
    pub fn answer(&mut self, ttl: u8, nth: u8, probe: Probe) {
        if ttl < self.next {
            return;
        }
        if let Some(reply) = &probe.reply {
            // The event that says so may come behind this one.
            let reached = match reply.kind {
                ReplyKind::Unreachable => Some(reply.from) == self.address,
                kind => kind.is_of_target(),
            };
            if reached {
                self.destination(ttl);
            }
        }
        let hop = self.hops.entry(ttl).or_default();
        let nth = usize::from(nth);
        if hop.len() <= nth {
            hop.resize(nth + 1, None);
        }
        if let Some(slot) = hop.get_mut(nth) {
            *slot = Some(probe);
        }
    }

    /// The destination answers at this TTL, perhaps at a lower one too.
    pub fn destination(&mut self, ttl: u8) {
        self.destination = Some(self.destination.map_or(ttl, |known| known.min(ttl)));
    }

    /// Lines that have become whole. Before the header and the connection there
    /// is none.
    pub fn advance(&mut self, name: &dyn Fn(IpAddr) -> Naming, out: &mut String) {
        while self.header && self.connected && text::is_shown(self.next, self.destination) {
            let Some(probes) = self.hops.get(&self.next) else {
                return;
            };
            let mut probes: Vec<Probe> = probes.iter().flatten().cloned().collect();
            if probes.len() < self.probes {
                return;
            }
            for reply in probes.iter_mut().filter_map(|probe| probe.reply.as_mut()) {
                match name(reply.from) {
                    Naming::Pending => return,
                    Naming::Done(found) => reply.name = found,
                }
            }
            let ttl = self.next;
            out.push_str(&text::hop(
                self.style,
                &Hop::new(ttl, probes),
                &mut self.nat,
            ));
            self.hops.remove(&ttl);
            match ttl.checked_add(1) {
                Some(next) => self.next = next,
                None => return,
            }
        }
    }

    /// The record is there: everything that is not out yet.
    pub fn finish(mut self, trace: &Trace, out: &mut String) {
        self.put_header(&Opening::from(trace), out);
        self.established(trace.handshake.as_ref(), out);
        for hop in &trace.hops {
            if hop.ttl >= self.next && text::is_shown(hop.ttl, trace.destination_ttl) {
                out.push_str(&text::hop(self.style, hop, &mut self.nat));
            }
        }
        out.push_str(&text::findings(trace));
        out.push_str(&changes::lines(trace));
        out.push_str(&mtu::lines(trace));
        out.push_str(&text::verdict(trace));
    }

    fn put_header(&mut self, opening: &Opening<'_>, out: &mut String) {
        if !self.header {
            self.header = true;
            self.address = opening.address;
            out.push_str(&text::header(self.style, opening));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    const STYLE: Style = Style {
        names: true,
        max_ttl: 30,
        method: crate::trace::Method::InSession,
    };

    fn whole(trace: &Trace) -> String {
        let mut out = Vec::new();
        text::write(trace, STYLE, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn begin(trace: &Trace, probes: u8, out: &mut String) -> Live {
        let mut live = Live::new(STYLE, 1, probes);
        let remote = (trace.address.unwrap(), trace.port);
        let (source, link) = (trace.source.unwrap(), trace.link.as_ref().unwrap());
        live.opened(&trace.target, remote, source, link, out);
        live.established(trace.handshake.as_ref(), out);
        live
    }

    fn no_name(_: IpAddr) -> Naming {
        Naming::Done(None)
    }

    #[test]
    fn hops_come_out_in_order_however_replies_come_in() {
        let trace = samples::four_hops();
        // Every rotation and its reverse of the twelve replies.
        let all: Vec<(u8, u8, Probe)> = trace
            .hops
            .iter()
            .flat_map(|hop| {
                (0..)
                    .zip(&hop.probes)
                    .map(|(nth, probe)| (hop.ttl, nth, probe.clone()))
            })
            .collect();
        for turn in 0..all.len() {
            for reversed in [false, true] {
                let mut order = all.clone();
                order.rotate_left(turn);
                if reversed {
                    order.reverse();
                }
                let mut out = String::new();
                let mut live = begin(&trace, 3, &mut out);
                for (ttl, nth, probe) in order {
                    live.answer(ttl, nth, probe);
                    live.advance(&no_name, &mut out);
                    assert!(whole(&trace).starts_with(&out), "{turn} {reversed}: {out}");
                }
                // All hops were out before the record came.
                assert!(out.contains("\n 4  "), "{out}");
                live.finish(&trace, &mut out);
                assert_eq!(out, whole(&trace), "{turn} {reversed}");
            }
        }
    }

    #[test]
    fn a_hop_waits_for_its_last_probe_and_for_lower_hops() {
        let trace = samples::four_hops();
        let mut out = String::new();
        let mut live = begin(&trace, 3, &mut out);
        let begun = out.len();
        let probe = |ttl: usize, nth: usize| trace.hops[ttl - 1].probes[nth].clone();
        for nth in [0, 1, 2] {
            live.answer(2, nth, probe(2, usize::from(nth)));
        }
        live.answer(1, 0, probe(1, 0));
        live.answer(1, 2, probe(1, 2));
        live.advance(&no_name, &mut out);
        assert_eq!(out.len(), begun);
        live.answer(1, 1, probe(1, 1));
        live.advance(&no_name, &mut out);
        assert_eq!(out[begun..].lines().count(), 2);
    }

    #[test]
    fn hops_behind_the_destination_never_come_out() {
        let mut trace = samples::four_hops();
        let mut out = String::new();
        let mut live = begin(&trace, 3, &mut out);
        // TTL 5 and 6 were answered before the destination's own hop was whole.
        for ttl in [6, 5, 4, 3, 2, 1] {
            for nth in 0..3 {
                let hop = usize::from(ttl.min(4) - 1);
                live.answer(ttl, nth, trace.hops[hop].probes[usize::from(nth)].clone());
                live.advance(&no_name, &mut out);
            }
        }
        assert!(out.contains("\n 4  ") && !out.contains("\n 5  "), "{out}");
        let mut beyond = trace.hops[3].clone();
        beyond.ttl = 5;
        trace.hops.push(beyond);
        live.finish(&trace, &mut out);
        assert_eq!(out, whole(&trace));
    }

    #[test]
    fn a_pending_name_holds_its_line_back() {
        let mut trace = samples::four_hops();
        let mut out = String::new();
        let mut live = begin(&trace, 3, &mut out);
        let begun = out.len();
        for nth in 0..3 {
            live.answer(1, nth, trace.hops[0].probes[usize::from(nth)].clone());
        }
        live.advance(&|_| Naming::Pending, &mut out);
        assert_eq!(out.len(), begun);
        live.advance(&|_| Naming::Done(Some("r1.example".to_owned())), &mut out);
        assert!(
            out[begun..].starts_with(" 1  r1.example (10.0.1.1)"),
            "{out}"
        );
        for probe in &mut trace.hops[0].probes {
            if let Some(reply) = &mut probe.reply {
                reply.name = Some("r1.example".to_owned());
            }
        }
        live.finish(&trace, &mut out);
        assert_eq!(out, whole(&trace));
    }

    #[test]
    fn every_verdict_ends_with_the_same_text_as_the_record() {
        for trace in samples::every_verdict() {
            let mut out = String::new();
            let mut live = Live::new(STYLE, 1, 3);
            // A target that never got a link has no header before its record.
            live.answer(1, 0, samples::silent(0));
            live.advance(&no_name, &mut out);
            assert_eq!(out, "");
            live.finish(&trace, &mut out);
            assert_eq!(out, whole(&trace));
        }
    }

    #[test]
    fn a_handshake_known_late_comes_with_the_record() {
        let trace = samples::four_hops();
        let mut out = String::new();
        let mut live = Live::new(STYLE, 1, 3);
        let remote = (trace.address.unwrap(), trace.port);
        let (source, link) = (trace.source.unwrap(), trace.link.as_ref().unwrap());
        live.opened(&trace.target, remote, source, link, &mut out);
        live.established(None, &mut out);
        for nth in 0..3 {
            live.answer(1, nth, trace.hops[0].probes[usize::from(nth)].clone());
        }
        live.advance(&no_name, &mut out);
        assert!(out.lines().last().unwrap().starts_with(" 1  "), "{out}");
        live.finish(&trace, &mut out);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&out), sorted(&whole(&trace)));
        assert_eq!(out.matches(" session open").count(), 1);
    }

    #[test]
    fn the_last_ttl_of_all_does_not_overflow() {
        let mut out = String::new();
        let trace = samples::four_hops();
        let mut live = Live::new(STYLE, 255, 1);
        let remote = (trace.address.unwrap(), trace.port);
        live.opened(
            "x",
            remote,
            trace.source.unwrap(),
            trace.link.as_ref().unwrap(),
            &mut out,
        );
        live.established(trace.handshake.as_ref(), &mut out);
        live.answer(255, 0, samples::silent(0));
        live.advance(&no_name, &mut out);
        live.advance(&no_name, &mut out);
        assert_eq!(out.matches("255  *\n").count(), 1, "{out}");
    }
}
