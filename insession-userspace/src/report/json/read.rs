//! A record from its line: what `report::json` writes, read back.
//!
//! Keys that are not known are passed over: a later version may add some. A word
//! that is not known is an error that names it: what it says would be lost.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::report::{civil, values};
use crate::time::Duration;
use crate::trace::{Handshake, Hop, LinkInfo, MplsLabel, MtuStep, PathMtu, Probe, Reply, Trace};

/// The contract that is read.
const SCHEMA: &str = "insession.trace/1";

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, or a field is missing or of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A record of another kind, or of a later version.
    #[error("schema {0:?}: not {SCHEMA}")]
    Schema(String),
    /// A word that the contract does not have.
    #[error("{field} {word:?}: no such word in {SCHEMA}")]
    Word {
        /// Of which field.
        field: &'static str,
        /// The word.
        word: String,
    },
    /// A number or moment that cannot be.
    #[error("{field} {value}: {why}")]
    Value {
        /// Of which field.
        field: &'static str,
        /// As it stands there.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A word of the contract's: borrowed from the line, as it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    schema: Word<'a>,
    target: String,
    address: Option<IpAddr>,
    port: u16,
    #[serde(borrow)]
    method: Word<'a>,
    source: Option<IpAddr>,
    source_port: Option<u16>,
    #[serde(borrow)]
    started: Word<'a>,
    duration_us: f64,
    #[serde(borrow)]
    verdict: Word<'a>,
    detail: Option<String>,
    handshake: Option<HandshakeRecord>,
    destination_ttl: Option<u8>,
    #[serde(borrow)]
    hops: Vec<HopRecord<'a>>,
    /// Written only where it was measured.
    #[serde(borrow)]
    mtu: Option<MtuRecord<'a>>,
    #[serde(borrow)]
    link: Option<LinkRecord<'a>>,
}

/// What says whether the rest is to be read at all.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    schema: Option<Word<'a>>,
}

#[derive(Deserialize)]
struct HandshakeRecord {
    rtt_us: f64,
    mss: u16,
    sack: bool,
    timestamps: bool,
    window_scale: Option<u8>,
}

#[derive(Deserialize)]
struct MtuRecord<'a> {
    link: u32,
    largest: Option<u16>,
    #[serde(borrow)]
    limit: Option<Word<'a>>,
    to_ttl: Option<u8>,
    path: Option<u16>,
    steps: Vec<StepRecord>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct StepRecord {
    ttl: u8,
    from: Option<IpAddr>,
    mtu: u16,
    told: bool,
}

#[derive(Deserialize)]
struct HopRecord<'a> {
    ttl: u8,
    /// Written only where it is true.
    #[serde(default)]
    shared: bool,
    #[serde(borrow)]
    probes: Vec<ProbeRecord<'a>>,
}

/// All but `kind` and `sent_us` stand there with a reply only.
#[derive(Deserialize)]
struct ProbeRecord<'a> {
    #[serde(borrow)]
    kind: Word<'a>,
    sent_us: f64,
    from: Option<IpAddr>,
    name: Option<String>,
    asn: Option<u32>,
    // Written only where they are known.
    holder: Option<String>,
    prefix: Option<String>,
    ixp: Option<String>,
    rtt_us: Option<f64>,
    #[serde(borrow)]
    rtt_bound: Option<Word<'a>>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    reply_ttl: Option<u8>,
    quoted_ttl: Option<u8>,
    #[serde(default)]
    mpls: Vec<LabelRecord>,
    #[serde(borrow, default)]
    rewrites: Vec<Word<'a>>,
    /// Written only where it is known.
    nat: Option<u16>,
}

#[derive(Deserialize)]
struct LabelRecord {
    label: u32,
    tc: u8,
    s: bool,
    ttl: u8,
}

#[derive(Deserialize)]
struct LinkRecord<'a> {
    #[serde(borrow)]
    kind: Word<'a>,
    #[serde(borrow)]
    mode: Option<Word<'a>>,
    zero_copy: bool,
    interface: String,
}

/// A record from its line, with or without its line end.
///
/// Times are exact to the nanosecond below 2⁵⁰ ns (13 days); `started` is to the
/// microsecond, as it is written.
///
/// # Errors
/// What is wrong with the line.
pub fn read(line: &[u8]) -> Result<Trace, ReadError> {
    match serde_json::from_slice::<Record<'_>>(line) {
        Ok(record) if record.schema.0 == SCHEMA => trace(record),
        Ok(record) => Err(ReadError::Schema(record.schema.0.into_owned())),
        // Of a record that is none of ours the schema says more than a field.
        Err(error) => Err(match serde_json::from_slice::<Head<'_>>(line) {
            Ok(head) => match head.schema {
                Some(Word(schema)) if schema == SCHEMA => ReadError::Json(error),
                schema => {
                    ReadError::Schema(schema.map_or_else(String::new, |it| it.0.into_owned()))
                }
            },
            Err(_) => ReadError::Json(error),
        }),
    }
}

fn trace(record: Record<'_>) -> Result<Trace, ReadError> {
    let started = &record.started.0;
    let handshake = record.handshake.map(|it| {
        Ok::<_, ReadError>(Handshake {
            rtt: micros("rtt_us", it.rtt_us)?,
            mss: it.mss,
            sack: it.sack,
            timestamps: it.timestamps,
            window_scale: it.window_scale,
        })
    });
    Ok(Trace {
        target: record.target,
        address: record.address,
        port: record.port,
        method: word("method", &record.method)?,
        source: record.source,
        source_port: record.source_port,
        started: civil::parse(started).ok_or_else(|| ReadError::Value {
            field: "started",
            value: started.to_string(),
            why: "no moment in UTC as RFC 3339 writes it",
        })?,
        duration: micros("duration_us", record.duration_us)?,
        verdict: word("verdict", &record.verdict)?,
        detail: record.detail,
        handshake: handshake.transpose()?,
        destination_ttl: record.destination_ttl,
        hops: record.hops.into_iter().map(hop).collect::<Result<_, _>>()?,
        mtu: record.mtu.map(mtu).transpose()?,
        link: record.link.map(link).transpose()?,
    })
}

fn mtu(record: MtuRecord<'_>) -> Result<PathMtu, ReadError> {
    let step = |it: StepRecord| MtuStep {
        ttl: it.ttl,
        from: it.from,
        mtu: it.mtu,
        told: it.told,
    };
    let limit = record.limit.map(|limit| word("mtu.limit", &limit));
    Ok(PathMtu {
        link: record.link,
        largest: record.largest,
        limit: limit.transpose()?,
        to_ttl: record.to_ttl,
        path: record.path,
        steps: record.steps.into_iter().map(step).collect(),
        detail: record.detail,
    })
}

fn hop(record: HopRecord<'_>) -> Result<Hop, ReadError> {
    Ok(Hop {
        ttl: record.ttl,
        shared: record.shared,
        probes: record
            .probes
            .into_iter()
            .map(probe)
            .collect::<Result<_, _>>()?,
    })
}

fn probe(record: ProbeRecord<'_>) -> Result<Probe, ReadError> {
    let sent = micros("sent_us", record.sent_us)?;
    if record.kind.0 == "none" {
        return Ok(Probe { sent, reply: None });
    }
    let kind = word("kind", &record.kind)?;
    let missing = |field| ReadError::Value {
        field,
        value: "null".to_owned(),
        why: "a reply has one",
    };
    let bound = record.rtt_bound.ok_or_else(|| missing("rtt_bound"))?;
    let label = |it: LabelRecord| MplsLabel {
        label: it.label,
        tc: it.tc,
        bottom: it.s,
        ttl: it.ttl,
    };
    let rewrite = |it: &Word<'_>| word("rewrites", it);
    Ok(Probe {
        sent,
        reply: Some(Reply {
            kind,
            from: record.from.ok_or_else(|| missing("from"))?,
            name: record.name,
            owner: values::owner(record.asn, record.holder, record.prefix, record.ixp),
            rtt: micros("rtt_us", record.rtt_us.ok_or_else(|| missing("rtt_us"))?)?,
            rtt_bound: word("rtt_bound", &bound)?,
            icmp: record.icmp_type.zip(record.icmp_code),
            reply_ttl: record.reply_ttl,
            quoted_ttl: record.quoted_ttl,
            // Not in the record.
            mtu: None,
            mpls: record.mpls.into_iter().map(label).collect(),
            rewrites: record
                .rewrites
                .iter()
                .map(rewrite)
                .collect::<Result<_, _>>()?,
            nat: record.nat,
        }),
    })
}

fn link(record: LinkRecord<'_>) -> Result<Arc<LinkInfo>, ReadError> {
    let mode = record.mode.map(|mode| {
        let word = values::link_mode(&mode.0);
        word.ok_or_else(|| no_such("link.mode", &mode))
    });
    Ok(Arc::new(LinkInfo {
        kind: values::link_kind(&record.kind.0)
            .ok_or_else(|| no_such("link.kind", &record.kind))?,
        mode: mode.transpose()?,
        zero_copy: record.zero_copy,
        interface: record.interface,
    }))
}

fn word<T: values::Word>(field: &'static str, found: &Word<'_>) -> Result<T, ReadError> {
    T::of(&found.0).ok_or_else(|| no_such(field, found))
}

fn no_such(field: &'static str, found: &Word<'_>) -> ReadError {
    ReadError::Word {
        field,
        word: found.0.to_string(),
    }
}

fn micros(field: &'static str, value: f64) -> Result<Duration, ReadError> {
    values::span(value).ok_or_else(|| ReadError::Value {
        field,
        value: value.to_string(),
        why: "no span of time",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{json, samples};
    use crate::time::UnixTime;
    use proptest::prelude::*;

    fn line(trace: &Trace) -> Vec<u8> {
        let mut line = Vec::new();
        json::append(trace, &mut line).unwrap();
        line
    }

    /// What of a trace stands in its record: neither nanoseconds of its start nor MTUs of
    /// replies.
    fn recorded(trace: &Trace) -> Trace {
        let mut trace = trace.clone();
        trace.started = UnixTime(trace.started.0 / 1_000 * 1_000);
        let probes = trace.hops.iter_mut().flat_map(|hop| &mut hop.probes);
        for reply in probes.filter_map(|probe| probe.reply.as_mut()) {
            reply.mtu = None;
        }
        trace
    }

    fn comes_back(trace: &Trace) {
        let line = line(trace);
        let back = read(&line).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&line));
        });
        assert_eq!(back, recorded(trace));
        assert_eq!(self::line(&back), line);
    }

    #[test]
    fn every_sample_comes_back() {
        for trace in samples::all() {
            comes_back(&trace);
        }
    }

    proptest! {
        #[test]
        fn any_trace_comes_back(trace in samples::any_trace()) {
            comes_back(&trace);
        }

        #[test]
        fn no_line_is_a_panic(
            trace in samples::any_trace(),
            at in any::<prop::sample::Index>(),
            octet in any::<u8>(),
        ) {
            let mut line = line(&trace);
            let at = at.index(line.len());
            line[at] = octet;
            let _ = read(&line);
            let _ = read(&line[..at]);
        }
    }

    /// The contract's sample with one piece exchanged, and what is said of it.
    fn said(old: &str, new: &str) -> String {
        let text = String::from_utf8(line(&samples::contract())).unwrap();
        assert!(text.contains(old), "{old}");
        match read(text.replacen(old, new, 1).as_bytes()) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn keys_that_are_not_known_are_passed_over() {
        assert_eq!(
            said("\"port\":", "\"new\":{\"a\":[1]},\"port\":"),
            "nothing"
        );
        assert_eq!(
            said("{\"kind\":\"sack\"", "{\"new\":1,\"kind\":\"sack\""),
            "nothing"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (old, new, reason) in [
            (
                "\"sack\",",
                "\"smoke\",",
                "kind \"smoke\": no such word in insession.trace/1",
            ),
            ("complete", "finished", "verdict \"finished\": no such word"),
            (
                "\"upper\"",
                "\"lower\"",
                "rtt_bound \"lower\": no such word",
            ),
            ("\"dscp\"", "\"tos\"", "rewrites \"tos\": no such word"),
            (
                "\"xdp\"",
                "\"pigeon\"",
                "link.kind \"pigeon\": no such word",
            ),
            ("\"native\"", "\"odd\"", "link.mode \"odd\": no such word"),
            (
                "\"insession\"",
                "\"smoke\"",
                "method \"smoke\": no such word",
            ),
            (
                "trace/1",
                "trace/2",
                "schema \"insession.trace/2\": not insession.trace/1",
            ),
            (
                "\"schema\"",
                "\"scheme\"",
                "schema \"\": not insession.trace/1",
            ),
            (
                "2026-01-02",
                "2026-02-30",
                "started 2026-02-30T03:04:05.678901Z: no moment",
            ),
            (
                "81234.5",
                "-81234.5",
                "duration_us -81234.5: no span of time",
            ),
            ("\"from\":\"10.0.1.1\",", "", "from null: a reply has one"),
            (
                "\"10.0.9.2\"",
                "\"10.0.9.256\"",
                "invalid IP address syntax at line 1",
            ),
            ("\"port\":80,", "", "missing field `port`"),
        ] {
            let said = said(old, new);
            assert!(said.contains(reason), "{new}: {said}");
        }
    }
}
