//! What a node with a 10, 25 or 100 GbE interface reaches, reckoned from what
//! was measured here. Every assumption is a constant with its reason.

use serde::Serialize;

use crate::rows::Document;

/// Octets of a probe on the wire: the frame (67: Ethernet 14, IPv4 20, TCP 20 with
/// 12 of timestamps, 1 of data) and what Ethernet adds to it: check sequence 4,
/// preamble 8, gap 12 (IEEE 802.3).
const WIRE_OCTETS: f64 = 67.0 + 4.0 + 8.0 + 12.0;
/// Assumed: what a zero-copy driver takes to send one frame and to receive one,
/// nanoseconds. Both are a descriptor read, one written, and a share of a doorbell
/// and of a poll; there is no such NIC here to measure it on, so it is on the
/// dear side of what drivers' authors publish (15 to 20 million frames a second
/// and core one way).
const DRIVER_NS: f64 = 65.0;

/// What bounds a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Of the interface, Gbit/s.
    pub speed: f64,
    /// Probes a second that fit on the wire.
    pub line_rate: f64,
    /// Cores for that by what was measured here (veth, copy mode, all replies).
    pub cores_here: Option<f64>,
    /// Cores for that with a zero-copy driver as assumed.
    pub cores_zero_copy: Option<f64>,
}

/// What the reckoning takes from the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// CPU a probe of `insession trace` as it is, answered, with its record: ns.
    pub process: Option<f64>,
    /// CPU a probe of the engine over the link in memory: ns.
    pub engine: Option<f64>,
    /// Of the XDP program, a hit among 10^6 flows: ns.
    pub steering: Option<f64>,
}

impl Costs {
    /// As far as the run has them.
    pub fn of(document: &Document) -> Costs {
        let row = |name: &str| document.rows.iter().find(|row| row.name == name);
        let traces = row("traces-vs-scamper").or(row("traces-vs-reference"));
        Costs {
            // Twelve probes a trace, the handshake in it.
            process: traces
                .and_then(|row| row.details.get("insession: µs of CPU a trace"))
                .map(|cost| cost * 1e3 / 12.0),
            engine: row("sim-scale").and_then(|row| row.ours),
            steering: row("xdp-hit-scale").and_then(|row| row.ours),
        }
    }

    /// A probe and its reply with a zero-copy driver: engine, steering, and the
    /// driver once each way.
    pub fn zero_copy(&self) -> Option<f64> {
        Some(self.engine? + self.steering? + 2.0 * DRIVER_NS)
    }
}

/// The three.
pub fn nodes(costs: &Costs) -> Vec<Node> {
    [10.0, 25.0, 100.0]
        .into_iter()
        .map(|speed| {
            let line_rate = speed * 1e9 / 8.0 / WIRE_OCTETS;
            Node {
                speed,
                line_rate,
                cores_here: costs.process.map(|ns| line_rate * ns / 1e9),
                cores_zero_copy: costs.zero_copy().map(|ns| line_rate * ns / 1e9),
            }
        })
        .collect()
}

/// As a section of the page.
pub fn page(document: &Document) -> String {
    let costs = Costs::of(document);
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(
            || "not measured".to_owned(),
            |value| format!("{value:.digits$}"),
        )
    };
    let mut text = format!(
        "A probe is {WIRE_OCTETS} octets on the wire: a frame of 67 octets, check sequence, preamble and gap. From this run:\n\n\
         * `insession trace` as it is, over veth in copy mode, every probe answered and recorded: {} ns of CPU a probe (twelve a trace, handshake included);\n\
         * the engine alone, over the link in memory with 10^6 sessions, its network included: {} ns a probe;\n\
         * the XDP program, a SACK of a random flow among 10^6: {} ns.\n\n\
         Assumed: a zero-copy driver takes {DRIVER_NS} ns to send a frame and as much to receive one; every probe is answered; queues and cores share nothing, so that rates add up; memory bandwidth and PCIe do not bind before cores do.\n\n\
         | Ethernet | probes/s that fit | cores, as measured here | cores, zero-copy as assumed |\n|---|---|---|---|\n",
        cell(costs.process, 0),
        cell(costs.engine, 0),
        cell(costs.steering, 0),
    );
    for node in nodes(&costs) {
        text += &format!(
            "| {:.0} GbE | {:.1} M | {} | {} |\n",
            node.speed,
            node.line_rate / 1e6,
            cell(node.cores_here, 1),
            cell(node.cores_zero_copy, 1),
        );
    }
    text += "\nWhat bounds it: with one core the core, at every speed; the wire bounds where a node has as many cores for it as the table says. Replies are no larger than 110 octets and come the other way, so the receive side of the wire fills first by about a fifth when routers quote 28 octets, and earlier when they quote more.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_follow_from_costs() {
        let costs = Costs {
            process: Some(2_000.0),
            engine: Some(270.0),
            steering: Some(100.0),
        };
        assert_eq!(costs.zero_copy(), Some(500.0));
        let nodes = nodes(&costs);
        let ten = &nodes[0];
        assert!((ten.line_rate - 13_736_263.7).abs() < 1.0);
        assert!((ten.cores_here.unwrap() - 27.47).abs() < 0.01);
        assert!((ten.cores_zero_copy.unwrap() - 6.87).abs() < 0.01);
        assert_eq!(
            Costs {
                engine: None,
                ..costs
            }
            .zero_copy(),
            None
        );
    }
}
