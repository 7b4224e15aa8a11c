//! The truth: which way a flow takes, asked of the routers' own tables.
//!
//! `ip route get DST from SRC iif IF ipproto tcp sport S dport D` in a router's
//! namespace answers by the kernel's own multipath hash. Flows are asked in
//! bulk, all of one router at once, hop by hop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::lab::{Lab, feed, quiet};

/// A TCP flow as it leaves a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The node it leaves.
    pub node: String,
    /// By this interface.
    pub interface: String,
    /// Its source.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
}

/// The way of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The routers, by rising TTL.
    pub routers: Vec<Router>,
    /// The node at its end.
    pub end: String,
}

/// A router on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The node.
    pub node: String,
    /// Where the flow comes in.
    pub interface: String,
    /// The address it answers from; `None` when it is silent.
    pub answers: Option<IpAddr>,
}

impl Way {
    /// The smallest TTL that reaches the end.
    #[must_use]
    pub fn destination_ttl(&self) -> usize {
        self.routers.len() + 1
    }
}

/// No way of a lab is longer.
const LONGEST: usize = 64;

/// One answer of `ip -j route get`.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: Option<String>,
    dev: Option<String>,
    prefsrc: Option<IpAddr>,
}

/// The ways of many flows.
///
/// # Errors
/// When a flow does not arrive.
pub fn ways(lab: &Lab, flows: &[Flow]) -> Result<Vec<Way>> {
    ways_of(lab, "tcp", flows)
}

/// The same of flows of another protocol with ports: `udp`.
///
/// # Errors
/// As [`ways`].
pub fn ways_of(lab: &Lab, protocol: &str, flows: &[Flow]) -> Result<Vec<Way>> {
    struct Walk {
        node: String,
        interface: String,
        way: Way,
    }
    let mut walks = Vec::with_capacity(flows.len());
    for flow in flows {
        let (node, interface) = across(lab, &flow.node, &flow.interface)?;
        walks.push(Walk {
            node,
            interface,
            way: Way {
                routers: Vec::new(),
                end: String::new(),
            },
        });
    }
    let mut sources = Sources::default();
    let mut open: Vec<usize> = (0..flows.len()).collect();
    for _ in 0..LONGEST {
        if open.is_empty() {
            return Ok(walks.into_iter().map(|walk| walk.way).collect());
        }
        // All that stand at the same node are asked at once.
        let mut at: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for index in open.drain(..) {
            at.entry(walks[index].node.clone()).or_default().push(index);
        }
        for (node, indices) in at {
            let questions: Vec<String> = indices
                .iter()
                .map(|index| question(protocol, &flows[*index], &walks[*index].interface))
                .collect();
            for (index, answer) in indices.into_iter().zip(ask(lab, &node, &questions)?) {
                let (flow, walk) = (&flows[index], &mut walks[index]);
                if answer.kind.as_deref() == Some("local") {
                    walk.way.end.clone_from(&node);
                    continue;
                }
                let out = answer
                    .dev
                    .with_context(|| format!("{node}: no way to {}", flow.destination))?;
                walk.way.routers.push(Router {
                    node: node.clone(),
                    interface: walk.interface.clone(),
                    answers: sources.answers_from(lab, &node, &walk.interface, flow.source.ip())?,
                });
                (walk.node, walk.interface) = across(lab, &node, &out)?;
                open.push(index);
            }
        }
    }
    bail!("{} flows go in circles", open.len());
}

/// The way of one flow.
///
/// # Errors
/// As [`ways`].
pub fn way(lab: &Lab, flow: &Flow) -> Result<Way> {
    ways(lab, std::slice::from_ref(flow))?
        .pop()
        .context("no way was found")
}

/// Who answers behind whom on the ways of this many flows from `node` to a destination,
/// which answers at the end of each. Who is silent is behind nobody, and before nobody.
///
/// # Errors
/// As [`ways`].
pub fn links(
    lab: &Lab,
    node: &str,
    destination: SocketAddr,
    flows: u16,
) -> Result<BTreeSet<(IpAddr, IpAddr)>> {
    let end = lab
        .topology()
        .ends_of(node)
        .next()
        .with_context(|| format!("{node}: it has no link"))?;
    let source: IpAddr = match destination {
        SocketAddr::V4(_) => end.v4.into(),
        SocketAddr::V6(_) => end.v6.into(),
    };
    let flows: Vec<Flow> = (0..flows)
        .map(|nth| Flow {
            node: node.to_owned(),
            interface: end.interface.to_owned(),
            source: (source, 10_000 + nth).into(),
            destination,
        })
        .collect();
    let mut links = BTreeSet::new();
    for way in ways(lab, &flows)? {
        let answers = way.routers.iter().map(|router| router.answers);
        let answers: Vec<Option<IpAddr>> = answers.chain([Some(destination.ip())]).collect();
        for pair in answers.windows(2) {
            if let [Some(from), Some(to)] = *pair {
                links.insert((from, to));
            }
        }
    }
    Ok(links)
}

fn across(lab: &Lab, node: &str, interface: &str) -> Result<(String, String)> {
    let peer = lab
        .topology()
        .peer(node, interface)
        .with_context(|| format!("{node}:{interface}: no link of this topology"))?;
    Ok((peer.node.to_owned(), peer.interface.to_owned()))
}

fn question(protocol: &str, flow: &Flow, interface: &str) -> String {
    format!(
        "route get {} from {} iif {interface} ipproto {protocol} sport {} dport {}",
        flow.destination.ip(),
        flow.source.ip(),
        flow.source.port(),
        flow.destination.port()
    )
}

/// Asks a node's kernel many questions by one process.
fn ask(lab: &Lab, node: &str, questions: &[String]) -> Result<Vec<Answer>> {
    let input: String = questions.iter().map(|line| format!("{line}\n")).collect();
    let output = lab
        .within(node, || {
            feed(&mut quiet("ip", &["-j", "-batch", "-"]), &input)
        })?
        .context("ip: cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut answers = Vec::with_capacity(questions.len());
    for answer in serde_json::Deserializer::from_str(&text).into_iter::<[Answer; 1]>() {
        let [answer] = answer.with_context(|| format!("ip route get at {node}: {text}"))?;
        answers.push(answer);
    }
    // `ip` stops at the first question that has no answer.
    if answers.len() != questions.len() {
        bail!(
            "{node}: {}: {}",
            questions.get(answers.len()).map_or("", String::as_str),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(answers)
}

/// The addresses routers answer from: few, and asked for often.
#[derive(Default)]
struct Sources(BTreeMap<(String, String, IpAddr), Option<IpAddr>>);

impl Sources {
    /// The address from which `node` answers a packet of `source` that came in
    /// by `interface`.
    ///
    /// IPv4: the preferred source of its route back (icmp_send in
    /// net/ipv4/icmp.c), which in a lab is the address of the interface that the
    /// answer leaves by; or, with `icmp_errors_use_inbound_ifaddr`, that of the
    /// one the packet came in by. IPv6: always the latter, since Linux 5.5
    /// (icmp6_send in net/ipv6/icmp.c: "a more meaningful saddr from input if").
    fn answers_from(
        &mut self,
        lab: &Lab,
        node: &str,
        interface: &str,
        source: IpAddr,
    ) -> Result<Option<IpAddr>> {
        let key = (node.to_owned(), interface.to_owned(), source);
        if let Some(known) = self.0.get(&key) {
            return Ok(*known);
        }
        let found = lab
            .topology()
            .nodes
            .get(node)
            .with_context(|| format!("no node {node}"))?;
        let inbound = found
            .sysctls
            .get("net.ipv4.icmp_errors_use_inbound_ifaddr")
            .is_some_and(|value| value == "1");
        let answer = if found.silent {
            None
        } else if inbound || source.is_ipv6() {
            lab.topology()
                .ends_of(node)
                .find(|end| end.interface == interface)
                .map(|end| {
                    if source.is_ipv6() {
                        end.v6.into()
                    } else {
                        end.v4.into()
                    }
                })
        } else {
            let [answer]: [Answer; 1] = ask(lab, node, &[format!("route get {source}")])?
                .try_into()
                .map_err(|_| anyhow::anyhow!("{node}: not one answer"))?;
            Some(
                answer
                    .prefsrc
                    .with_context(|| format!("{node}: no source towards {source}"))?,
            )
        };
        self.0.insert(key, answer);
        Ok(answer)
    }
}
