//! The records of `insession trace --json` (schema `insession.trace/1`), read
//! strictly, and their judgement by the truth.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer};

use crate::truth::{Flow, Way};

/// One target, traced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// `insession.trace/1`.
    pub schema: String,
    /// As it was named on the command line.
    pub target: String,
    /// What was traced.
    #[serde(deserialize_with = "present")]
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// How.
    pub method: String,
    /// Our address.
    #[serde(deserialize_with = "present")]
    pub source: Option<IpAddr>,
    /// Our port.
    #[serde(deserialize_with = "present")]
    pub source_port: Option<u16>,
    /// RFC 3339, microseconds.
    pub started: String,
    /// From the first segment to the verdict.
    pub duration_us: f64,
    /// How it ended.
    pub verdict: String,
    /// What the verdict does not say.
    #[serde(deserialize_with = "present")]
    pub detail: Option<String>,
    /// The handshake, where it was completed.
    #[serde(deserialize_with = "present")]
    pub handshake: Option<Handshake>,
    /// The smallest TTL that reached the destination.
    #[serde(deserialize_with = "present")]
    pub destination_ttl: Option<usize>,
    /// By rising TTL.
    pub hops: Vec<Hop>,
    /// What makes several responders of one TTL; only where there are some.
    #[serde(default)]
    pub balancing: Vec<Balancing>,
    /// What changed on the way; only told where something did.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// How large a packet gets how far; only told where that was asked for.
    #[serde(default)]
    pub mtu: Option<PathMtu>,
    /// What it went over.
    #[serde(deserialize_with = "present")]
    pub link: Option<Link>,
}

/// How large a packet gets how far.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathMtu {
    /// The interface's.
    pub link: u32,
    /// The largest packet that was tried.
    #[serde(deserialize_with = "present")]
    pub largest: Option<u16>,
    /// Why no larger one was.
    #[serde(deserialize_with = "present")]
    pub limit: Option<String>,
    /// What `path` was measured to.
    #[serde(deserialize_with = "present")]
    pub to_ttl: Option<usize>,
    /// What gets there.
    #[serde(deserialize_with = "present")]
    pub path: Option<u16>,
    /// Where it becomes smaller.
    pub steps: Vec<MtuStep>,
    /// What went otherwise.
    #[serde(deserialize_with = "present")]
    pub detail: Option<String>,
}

/// A place where the MTU becomes smaller.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtuStep {
    /// Behind this hop.
    pub ttl: usize,
    /// Its address.
    #[serde(deserialize_with = "present")]
    pub from: Option<IpAddr>,
    /// What gets on.
    pub mtu: u16,
    /// It said so.
    pub told: bool,
}

/// What the handshake showed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// SYN to SYN-ACK.
    pub rtt_us: f64,
    /// The peer's.
    pub mss: u16,
    /// Permitted by the peer.
    pub sack: bool,
    /// Negotiated.
    pub timestamps: bool,
    /// The peer's, where it sent one.
    #[serde(deserialize_with = "present")]
    pub window_scale: Option<u8>,
}

/// Several responders of one TTL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balancing {
    /// The TTL.
    pub ttl: usize,
    /// `per-packet`, `route-change` or `undecided`.
    pub kind: String,
    /// Who answered, in the order of first appearance.
    pub routers: Vec<IpAddr>,
    /// When the route changed.
    pub at_us: Vec<f64>,
    /// Moments that account for it.
    pub moments: usize,
    /// How often random order is explained by as few.
    pub p: f64,
}

/// Something that is not as it was sent from a hop on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A word of `rewrites`, or `nat`.
    pub what: String,
    /// The NAT's identifier from here on.
    #[serde(default)]
    pub nat: Option<u16>,
    /// Where it shows first.
    pub first_ttl: usize,
    /// Who quoted it there.
    pub from: IpAddr,
    /// Where it did not show, last before.
    #[serde(deserialize_with = "present")]
    pub not_at_ttl: Option<usize>,
}

/// All probes of a TTL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// The TTL.
    pub ttl: usize,
    /// It was not probed by this session; only told where that is so.
    #[serde(default)]
    pub shared: bool,
    /// In the order they were sent.
    pub probes: Vec<Probe>,
}

/// A probe and what came back. Fields that its kind has no use for are absent
/// or null.
#[derive(Clone, Debug, Deserialize)]
pub struct Probe {
    /// What came back; `none` when nothing did.
    pub kind: String,
    /// When it was sent.
    pub sent_us: f64,
    /// Who answered.
    pub from: Option<IpAddr>,
    /// The answer's round-trip time.
    pub rtt_us: Option<f64>,
    /// What the time is worth.
    pub rtt_bound: Option<String>,
    /// Of ICMP errors.
    pub icmp_type: Option<u8>,
    /// Of ICMP errors.
    pub icmp_code: Option<u8>,
    /// As it arrived.
    pub reply_ttl: Option<u8>,
    /// From the quote.
    pub quoted_ttl: Option<u8>,
    /// What the quote shows changed.
    #[serde(default)]
    pub rewrites: Vec<String>,
    /// What NATs added to the quoted checksum; only told where it is known.
    #[serde(default)]
    pub nat: Option<u16>,
}

/// What a trace went over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `xdp` or `packet`.
    pub kind: String,
    /// `native` or `generic`.
    #[serde(deserialize_with = "present")]
    pub mode: Option<String>,
    /// As the kernel reports it.
    pub zero_copy: bool,
    /// The interface.
    pub interface: String,
}

/// A field that may be null, but must be there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(field)
}

/// Every verdict of the contract.
const VERDICTS: [&str; 13] = [
    "complete",
    "unreachable",
    "gap-limit",
    "max-ttl",
    "refused",
    "reset",
    "closed-by-peer",
    "handshake-timeout",
    "seq-rewritten",
    "excluded",
    "no-route",
    "interrupted",
    "error",
];

/// The kinds of an answer.
const ICMP: [&str; 3] = ["time-exceeded", "unreachable", "packet-too-big"];
const OTHERS: [&str; 6] = [
    "sack",
    "dup-ack",
    "rst",
    "syn-ack",
    "echo-reply",
    "udp-reply",
];

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not what the contract says.
    pub fn parse(line: &str) -> Result<Self> {
        let record: Record =
            serde_json::from_str(line).with_context(|| format!("not a record: {line}"))?;
        record.check().with_context(|| format!("in {line}"))?;
        Ok(record)
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// When one of them is not what the contract says.
    pub fn parse_all(lines: &str) -> Result<Vec<Self>> {
        lines.lines().map(Record::parse).collect()
    }

    fn check(&self) -> Result<()> {
        if self.schema != "insession.trace/1" {
            bail!("schema {:?}", self.schema);
        }
        if !VERDICTS.contains(&self.verdict.as_str()) {
            bail!("verdict {:?} is none of the contract's", self.verdict);
        }
        // 2026-01-02T03:04:05.678901Z
        if self.started.len() != 27 || !self.started.ends_with('Z') {
            bail!(
                "started {:?} is not RFC 3339 with microseconds",
                self.started
            );
        }
        if !self.hops.is_sorted_by(|a, b| a.ttl < b.ttl) {
            bail!("hops do not stand by rising TTL");
        }
        for hop in &self.hops {
            for probe in &hop.probes {
                let kind = probe.kind.as_str();
                if kind == "none" {
                    continue;
                }
                let icmp = ICMP.contains(&kind);
                if !icmp && !OTHERS.contains(&kind) {
                    bail!("kind {kind:?} is none of the contract's");
                }
                if probe.from.is_none() || probe.rtt_us.is_none() || probe.rtt_bound.is_none() {
                    bail!(
                        "ttl {}: an answer without from, rtt_us or rtt_bound",
                        hop.ttl
                    );
                }
                if icmp
                    && (probe.icmp_type.is_none()
                        || probe.icmp_code.is_none()
                        || probe.reply_ttl.is_none()
                        || probe.quoted_ttl.is_none())
                {
                    bail!("ttl {}: an ICMP error without its fields", hop.ttl);
                }
            }
        }
        Ok(())
    }

    /// The flow it was traced with, from `node`.
    ///
    /// # Errors
    /// When the record names none.
    pub fn flow(&self, node: &str) -> Result<Flow> {
        let missing = || format!("{}: the record names no flow", self.target);
        let (source, port) = self.source.zip(self.source_port).with_context(missing)?;
        Ok(Flow {
            node: node.to_owned(),
            interface: self.link.as_ref().with_context(missing)?.interface.clone(),
            source: (source, port).into(),
            destination: (self.address.with_context(missing)?, self.port).into(),
        })
    }

    /// All probes, with their TTLs.
    pub fn probes(&self) -> impl Iterator<Item = (usize, &Probe)> {
        self.hops
            .iter()
            .flat_map(|hop| hop.probes.iter().map(|probe| (hop.ttl, probe)))
    }

    /// The hop of this TTL.
    #[must_use]
    pub fn hop(&self, ttl: usize) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.ttl == ttl)
    }
}

/// How a record stands before the truth.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Hops that are as they must be.
    pub right: usize,
    /// Probes that got no answer where one was to be had.
    pub unanswered: usize,
    /// What is wrong.
    pub wrong: Vec<String>,
}

/// Judges a record of a trace that must be complete: every router of the way
/// and the destination, at their TTLs, nothing else.
#[must_use]
pub fn judge(record: &Record, way: &Way) -> Judgement {
    let mut judgement = Judgement::default();
    let name = &record.target;
    let wrong = |text: String| format!("{name}: {text}");
    if record.verdict != "complete" {
        judgement.wrong.push(wrong(format!(
            "verdict {} ({})",
            record.verdict,
            record.detail.as_deref().unwrap_or("no detail")
        )));
        return judgement;
    }
    if record.destination_ttl != Some(way.destination_ttl()) {
        judgement.wrong.push(wrong(format!(
            "destination at {:?}, it is at {}",
            record.destination_ttl,
            way.destination_ttl()
        )));
    }
    for ttl in 1..=way.destination_ttl() {
        match record.hop(ttl) {
            None => judgement.wrong.push(wrong(format!("no hop {ttl}"))),
            Some(hop) => judge_hop(record, hop, way, &mut judgement),
        }
    }
    // Sent before the destination was known: answered by it, or no more.
    for hop in record
        .hops
        .iter()
        .filter(|hop| hop.ttl > way.destination_ttl())
    {
        for probe in hop.probes.iter().filter(|probe| probe.kind != "none") {
            if let Err(text) = from_destination(record, probe) {
                judgement
                    .wrong
                    .push(wrong(format!("ttl {}: {text}", hop.ttl)));
            }
        }
    }
    judgement
}

fn judge_hop(record: &Record, hop: &Hop, way: &Way, judgement: &mut Judgement) {
    let router = way.routers.get(hop.ttl.saturating_sub(1));
    let mut answered = 0;
    let mut faults = Vec::new();
    for probe in &hop.probes {
        if probe.kind == "none" {
            continue;
        }
        answered += 1;
        let result = match router {
            Some(router) => from_router(record, probe, router.answers),
            None => from_destination(record, probe),
        };
        if let Err(text) = result {
            faults.push(text);
        }
    }
    let silent = router.is_some_and(|router| router.answers.is_none());
    if !silent {
        judgement.unanswered += hop.probes.len() - answered;
        if answered == 0 {
            faults.push(match router {
                Some(router) => format!("no answer, {} is there", router.node),
                None => "no answer, the destination is there".to_owned(),
            });
        }
    }
    if faults.is_empty() {
        judgement.right += 1;
    }
    for text in faults {
        judgement
            .wrong
            .push(format!("{}: ttl {}: {text}", record.target, hop.ttl));
    }
}

fn from_router(record: &Record, probe: &Probe, answers: Option<IpAddr>) -> Result<(), String> {
    let icmp = match record.address {
        Some(IpAddr::V6(_)) => (3, 0),
        _ => (11, 0),
    };
    if probe.from != answers {
        return Err(format!(
            "{} from {:?}, the truth is {answers:?}",
            probe.kind, probe.from
        ));
    }
    if probe.kind != "time-exceeded"
        || (probe.icmp_type, probe.icmp_code) != (Some(icmp.0), Some(icmp.1))
    {
        return Err(format!(
            "{} {:?}/{:?}, it must be time-exceeded",
            probe.kind, probe.icmp_type, probe.icmp_code
        ));
    }
    if probe.quoted_ttl != Some(1) {
        return Err(format!("quoted TTL {:?}, it must be 1", probe.quoted_ttl));
    }
    if !probe.rewrites.is_empty() {
        return Err(format!("rewrites {:?}, there are none", probe.rewrites));
    }
    Ok(())
}

fn from_destination(record: &Record, probe: &Probe) -> Result<(), String> {
    let sack = record
        .handshake
        .as_ref()
        .is_some_and(|handshake| handshake.sack);
    let kind = match record.method.as_str() {
        "icmp" | "paris-icmp" => "echo-reply",
        "udp" | "paris-udp" | "dublin" => "unreachable",
        "tcp" | "paris-tcp" => "syn-ack",
        // What is adopted has no handshake, and has SACK.
        "sidecar" => "sack",
        _ if sack => "sack",
        _ => "dup-ack",
    };
    // Of a closed port a host may tell from another of its addresses.
    let other = kind == "unreachable" && probe.from.is_some();
    if probe.kind != kind || probe.from != record.address && !other {
        return Err(format!(
            "{} from {:?}, it must be {kind} from the destination",
            probe.kind, probe.from
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Router;

    const LINE: &str = r#"{"schema":"insession.trace/1","target":"www.example","address":"10.0.9.2","port":80,"method":"insession","source":"10.0.1.2","source_port":61234,"started":"2026-01-02T03:04:05.678901Z","duration_us":81234.5,"verdict":"complete","detail":null,"handshake":{"rtt_us":812.4,"mss":1460,"sack":true,"timestamps":true,"window_scale":7},"destination_ttl":2,"hops":[{"ttl":1,"probes":[{"kind":"time-exceeded","from":"10.0.1.1","name":null,"asn":null,"rtt_us":57.1,"rtt_bound":"exact","sent_us":1042.0,"icmp_type":11,"icmp_code":0,"reply_ttl":64,"quoted_ttl":1,"mpls":[],"rewrites":[]},{"kind":"none","sent_us":1043.0}]},{"ttl":2,"probes":[{"kind":"sack","from":"10.0.9.2","name":null,"asn":null,"rtt_us":57.1,"rtt_bound":"exact","sent_us":1042.0}]}],"link":{"kind":"xdp","mode":"native","zero_copy":false,"interface":"eth0"}}"#;

    fn way() -> Way {
        Way {
            routers: vec![Router {
                node: "r1".to_owned(),
                interface: "client".to_owned(),
                answers: Some("10.0.1.1".parse().unwrap()),
            }],
            end: "server".to_owned(),
        }
    }

    #[test]
    fn what_is_right_is_right() {
        let record = Record::parse(LINE).unwrap();
        let judgement = judge(&record, &way());
        assert_eq!((judgement.right, judgement.unanswered), (2, 1));
        assert_eq!(judgement.wrong, Vec::<String>::new());
        let flow = record.flow("client").unwrap();
        assert_eq!(flow.source, "10.0.1.2:61234".parse().unwrap());
        assert_eq!(flow.interface, "eth0");
    }

    #[test]
    fn what_is_wrong_is_wrong() {
        let wrong = |from: &str, to: &str| {
            assert!(LINE.contains(from));
            let record = Record::parse(&LINE.replace(from, to)).unwrap();
            judge(&record, &way()).wrong.len()
        };
        assert_eq!(wrong("\"10.0.1.1\"", "\"10.0.1.3\""), 1);
        assert_eq!(wrong("\"complete\"", "\"gap-limit\""), 1);
        assert_eq!(wrong("\"destination_ttl\":2", "\"destination_ttl\":3"), 1);
        assert_eq!(wrong("\"kind\":\"sack\"", "\"kind\":\"rst\""), 1);
        assert_eq!(wrong("\"quoted_ttl\":1", "\"quoted_ttl\":2"), 1);
        assert_eq!(wrong("\"ttl\":2", "\"ttl\":3"), 1);
        assert_eq!(wrong("\"rewrites\":[]", "\"rewrites\":[\"dscp\"]"), 1);
    }

    #[test]
    fn the_contract_is_read_strictly() {
        let refused = |from: &str, to: &str| {
            assert!(LINE.contains(from));
            Record::parse(&LINE.replace(from, to)).is_err()
        };
        assert!(refused("insession.trace/1", "insession.trace/2"));
        assert!(refused("\"detail\":null,", ""));
        assert!(refused("\"complete\"", "\"done\""));
        assert!(refused("\"sack\",\"from\"", "\"ack\",\"from\""));
        assert!(refused("\"port\":80", "\"port\":80,\"extra\":1"));
        assert!(refused(".678901Z", "Z"));
        assert!(refused("\"icmp_code\":0,", ""));
    }
}
