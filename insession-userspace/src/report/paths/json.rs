//! `insession.paths/1`.

use std::io;
use std::net::IpAddr;

use serde::Serialize;

use crate::multipath::graph::Diamond;
use crate::multipath::paths::{Answered, Known, Mda, Path, PathHop, Paths};
use crate::report::civil::Rfc3339;
use crate::time::Duration;

#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    target: &'a str,
    address: Option<IpAddr>,
    port: u16,
    method: &'static str,
    source: Option<IpAddr>,
    started: String,
    duration_us: f64,
    flows: u32,
    failed: u32,
    mda: Option<MdaRecord>,
    nodes: Vec<NodeRecord<'a>>,
    links: Vec<LinkRecord>,
    unclear_ttls: Vec<u8>,
    diamonds: Vec<DiamondRecord<'a>>,
    paths: Vec<PathRecord<'a>>,
}

#[derive(Serialize)]
struct MdaRecord {
    confidence: f64,
    complete: bool,
    rounds: u32,
    stopped: Option<&'static str>,
}

#[derive(Serialize)]
struct NodeRecord<'a> {
    address: IpAddr,
    name: Option<&'a str>,
    asn: Option<u32>,
    ttls: Vec<u8>,
    flows: u32,
    #[serde(flatten)]
    answered: AnsweredRecord,
}

#[derive(Serialize)]
struct LinkRecord {
    from: IpAddr,
    to: IpAddr,
    flows: u32,
    per_packet: bool,
}

#[derive(Serialize)]
struct DiamondRecord<'a> {
    divergence: IpAddr,
    convergence: Option<IpAddr>,
    within: Option<IpAddr>,
    width: usize,
    min_length: usize,
    max_length: usize,
    symmetric: bool,
    meshed: bool,
    per_packet: bool,
    nodes: &'a [IpAddr],
    silent: usize,
    links: usize,
    missed: f64,
}

#[derive(Serialize)]
struct PathRecord<'a> {
    flows: u32,
    source_ports: &'a [u16],
    complete: bool,
    loss: Option<f64>,
    rtt_us: Option<SpreadRecord>,
    hops: Vec<HopRecord<'a>>,
}

#[derive(Serialize)]
struct HopRecord<'a> {
    ttl: u8,
    from: &'a [IpAddr],
    #[serde(flatten)]
    answered: AnsweredRecord,
}

#[derive(Serialize)]
struct AnsweredRecord {
    probes: u32,
    answered: u32,
    loss: Option<f64>,
    rtt_us: Option<SpreadRecord>,
}

#[derive(Serialize)]
struct SpreadRecord {
    min: f64,
    median: f64,
    max: f64,
}

/// Adds the object, with its line end, to what is written to memory.
///
/// # Errors
/// What serde_json says of a text from outside; memory takes everything.
pub fn append(paths: &Paths, out: &mut Vec<u8>) -> io::Result<()> {
    let graph = &paths.graph;
    let address = |number: usize| graph.nodes.get(number).map(|node| node.address);
    let links = graph.links.iter().filter_map(|((from, to), link)| {
        Some(LinkRecord {
            from: address(*from)?,
            to: address(*to)?,
            flows: link.flows,
            per_packet: link.is_per_packet,
        })
    });
    let nodes = graph.nodes.iter().zip(&paths.known);
    let diamonds = graph.diamonds.iter().zip(&paths.failures);
    let record = Record {
        schema: "insession.paths/1",
        target: &paths.target,
        address: paths.address,
        port: paths.port,
        method: paths.method.as_str(),
        source: paths.source,
        started: Rfc3339(paths.started).to_string(),
        duration_us: micros(paths.duration),
        flows: paths.flows,
        failed: paths.failed,
        mda: paths.mda.as_ref().map(mda),
        nodes: nodes
            .map(|(node, known)| NodeRecord {
                address: node.address,
                name: known.name.as_deref(),
                asn: asn(known),
                ttls: node.ttls.iter().copied().collect(),
                flows: node.flows,
                answered: answered(&known.answered),
            })
            .collect(),
        links: links.collect(),
        unclear_ttls: graph.unclear.iter().copied().collect(),
        diamonds: diamonds.map(|(it, missed)| diamond(it, *missed)).collect(),
        paths: paths.paths.iter().map(path).collect(),
    };
    serde_json::to_writer(&mut *out, &record)?;
    out.push(b'\n');
    Ok(())
}

fn asn(known: &Known) -> Option<u32> {
    known.owner.as_ref().and_then(|owner| owner.asn)
}

fn mda(mda: &Mda) -> MdaRecord {
    MdaRecord {
        confidence: mda.confidence,
        complete: mda.is_complete,
        rounds: mda.rounds,
        stopped: mda.stopped.map(|why| why.as_str()),
    }
}

fn diamond(diamond: &Diamond, missed: f64) -> DiamondRecord<'_> {
    DiamondRecord {
        divergence: diamond.divergence,
        convergence: diamond.convergence,
        within: diamond.within,
        width: diamond.width,
        min_length: diamond.length.0,
        max_length: diamond.length.1,
        symmetric: diamond.is_symmetric(),
        meshed: diamond.is_meshed,
        per_packet: diamond.is_per_packet,
        nodes: &diamond.inside,
        silent: diamond.silent,
        links: diamond.links,
        missed,
    }
}

fn path(path: &Path) -> PathRecord<'_> {
    let whole = path.end_to_end();
    let hop = |hop: &'_ PathHop| answered(&hop.answered);
    PathRecord {
        flows: path.flows,
        source_ports: &path.ports,
        complete: path.is_whole,
        loss: whole.and_then(Answered::loss),
        rtt_us: whole.and_then(spread),
        hops: path
            .hops
            .iter()
            .map(|it| HopRecord {
                ttl: it.ttl,
                from: &it.who,
                answered: hop(it),
            })
            .collect(),
    }
}

fn answered(it: &Answered) -> AnsweredRecord {
    AnsweredRecord {
        probes: it.probes,
        answered: it.answers,
        loss: it.loss(),
        rtt_us: spread(it),
    }
}

fn spread(it: &Answered) -> Option<SpreadRecord> {
    let [min, median, max] = it.rtt()?.map(micros);
    Some(SpreadRecord { min, median, max })
}

fn micros(span: Duration) -> f64 {
    span.as_nanos() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipath::paths::merge;
    use crate::multipath::paths::tests::traces;

    #[test]
    fn the_merged_object_field_by_field() {
        let mut all = traces(&[("a b T", 1), ("a c T", 1)]);
        all[0].hops[2].probes[0].reply = None;
        let mda = Mda {
            confidence: 0.95,
            is_complete: false,
            rounds: 1,
            stopped: Some(crate::multipath::paths::Stopped::FlowsMax),
        };
        let mut line = Vec::new();
        append(&merge(&all, Some(mda)).unwrap(), &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["schema"], "insession.paths/1");
        assert_eq!((&value["flows"], &value["failed"]), (&2.into(), &0.into()));
        let expected = serde_json::json!({
            "confidence": 0.95, "complete": false, "rounds": 1, "stopped": "flows-max"
        });
        assert_eq!(value["mda"], expected);
        let ms = serde_json::json!({ "min": 1000.0, "median": 1000.0, "max": 1000.0 });
        let expected = serde_json::json!({
            "address": "10.1.0.97", "name": null, "asn": null, "ttls": [1], "flows": 2,
            "probes": 4, "answered": 4, "loss": 0.0, "rtt_us": ms
        });
        assert_eq!(value["nodes"][1], expected);
        assert_eq!(value["links"].as_array().unwrap().len(), 5);
        let expected = serde_json::json!({
            "from": "10.1.0.97", "to": "10.1.0.98", "flows": 1, "per_packet": false
        });
        assert!(value["links"].as_array().unwrap().contains(&expected));
        let diamond = &value["diamonds"][0];
        assert_eq!(diamond["divergence"], "10.1.0.97");
        assert_eq!(diamond["convergence"], "10.0.9.2");
        assert_eq!(
            diamond["nodes"],
            serde_json::json!(["10.1.0.98", "10.1.0.99"])
        );
        assert_eq!(
            (&diamond["width"], &diamond["symmetric"]),
            (&2.into(), &true.into())
        );
        let path = &value["paths"][0];
        assert_eq!((&path["loss"], &path["flows"]), (&0.5.into(), &1.into()));
        assert_eq!(path["source_ports"], serde_json::json!([61_000]));
        assert_eq!(path["hops"][2]["from"], serde_json::json!(["10.0.9.2"]));
    }
}
