//! What `insession bench` and the library measure themselves: ceilings, latency,
//! scale (the program is run, its JSON read), and what steering costs.

use std::time::Duration;

use anyhow::{Context, Result};
use insession::bench::steering::{self, Cost, SteeringCosts, SteeringOptions};
use serde_json::Value;

use crate::rows::{Row, Target};
use crate::statistics::Spread;
use crate::{Bench, network, process};

/// `insession bench` ends by itself long before this.
const LIMIT: Duration = Duration::from_secs(590);

/// `tx-vs-ceiling`.
pub fn ceiling(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    rows(targets, || {
        let results = run(bench, "probes")?;
        let probes = &results["probes"];
        let make = |target: &'static Target| {
            let mut row = Row::compared(
                target,
                &rounds(probes, "probes")?,
                &rounds(probes, "ceiling")?,
                Spread::of(&rounds(probes, "tx_vs_ceiling")?),
                "`insession bench --only probes`: probes alone, without SYN, ACK and RST, by bare frames of the same length through AF_XDP's TX ring that nobody answers, same batch, measured in turn; ceiling_unasked is the bare link by live frames, as ours sends",
            );
            for name in [
                "ceiling_unasked",
                "packets_vs_ceiling",
                "packets_vs_ceiling_answered",
                "ceiling_answered",
                "user",
                "system",
                "softirq",
                "process",
                "loss",
            ] {
                if let Some(value) = probes[name]["median"].as_f64() {
                    row.detail(name, value);
                }
            }
            Ok(row)
        };
        targets.iter().map(|target| make(target)).collect()
    })
}

/// `wire-to-credit-p99`.
pub fn latency(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    rows(targets, || {
        let results = run(bench, "latency")?;
        let latency = &results["latency"];
        let make = |target: &'static Target| {
            let busy = &latency["busy_polling"];
            if busy.is_null() {
                let why = latency["cannot"].as_str().unwrap_or("no reason is told");
                return Ok(Row::missing(target, format!("no busy polling: {why}")));
            }
            let mut row = Row::absolute(
                target,
                &rounds(busy, "p99")?,
                format!(
                    "`insession bench --only latency`: {:.0} packets/s, half of the top rate",
                    latency["rate"].as_f64().unwrap_or(f64::NAN)
                ),
            );
            for mode in ["busy_polling", "interrupts"] {
                for name in ["p50", "p99", "p999", "max", "busy"] {
                    if let Some(value) = latency[mode][name]["median"].as_f64() {
                        row.detail(format!("{mode}: {name}"), value);
                    }
                }
            }
            Ok(row)
        };
        targets.iter().map(|target| make(target)).collect()
    })
}

/// `sim-scale`, `bytes-per-session`.
pub fn scale(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    rows(targets, || {
        let results = run(bench, "scale")?;
        let scale = &results["scale"];
        bench.values.insert("curve", scale["curve"].clone());
        let make = |target: &'static Target| match target.name {
            "sim-scale" => {
                let most = point(scale, 1_000_000)?;
                let thousand = point(scale, 1_000)?;
                let mut row = Row::compared(
                    target,
                    &most,
                    &thousand,
                    Spread::of_ratios(&most, &thousand),
                    "`insession bench --only scale`: CPU of the engine a probe, the link in memory timed apart",
                );
                for point in scale["curve"].as_array().into_iter().flatten() {
                    if let (Some(sessions), Some(cost)) =
                        (point["sessions"].as_u64(), point["cpu"]["median"].as_f64())
                    {
                        row.detail(format!("ns at {sessions:>7} sessions"), cost);
                    }
                }
                Ok(row)
            }
            _ => {
                let memory = &scale["memory"];
                let octets = memory["octets"]
                    .as_f64()
                    .context("no memory was measured")?;
                let mut row = Row::absolute(
                    target,
                    &[octets],
                    format!(
                        "`insession bench --only scale`: resident memory of {} live sessions less what was resident before the first, the link's flow table among it; {} hops × {} probes; the link is in memory, so there are no kernel maps in it",
                        memory["sessions"], memory["hops"], memory["probes"]
                    ),
                );
                for name in ["resident_before", "resident"] {
                    if let Some(value) = memory[name].as_f64() {
                        row.detail(name, value);
                    }
                }
                Ok(row)
            }
        };
        targets.iter().map(|target| make(target)).collect()
    })
}

/// `xdp-foreign`, `xdp-hit-scale`.
pub fn steering(bench: &mut Bench, targets: &[&'static Target]) -> Vec<Row> {
    rows(targets, || {
        let options = SteeringOptions {
            flows: vec![1, 1_000, 1_000_000],
            repeat: bench.size(1_000_000, 50_000),
            rounds: bench.rounds as u32,
        };
        eprintln!("  BPF_PROG_TEST_RUN, {} repetitions", options.repeat);
        let costs = steering::measure(&options).context("BPF_PROG_TEST_RUN")?;
        let value = serde_json::to_value(&costs).context("the costs as JSON")?;
        bench.values.insert("xdp", value);
        let make = |target: &'static Target| steering_row(target, &costs);
        targets.iter().map(|target| make(target)).collect()
    })
}

fn steering_row(target: &'static Target, costs: &SteeringCosts) -> Result<Row> {
    let how = "BPF_PROG_TEST_RUN's repeat, the empty program in the same rounds";
    let mut row = if target.name == "xdp-foreign" {
        let worst = costs
            .foreign
            .iter()
            .max_by(|a, b| a.ratio.total_cmp(&b.ratio))
            .context("no foreign frame was measured")?;
        Row::of_spreads(
            target,
            spread(&costs.empty, &worst.ns),
            Some(costs.xdp_foreign),
            costs.rounds,
            format!(
                "{how}; the dearest kind of frame that is not ours: {}",
                worst.name
            ),
        )
    } else {
        let among = |flows: u32| {
            costs
                .hits
                .iter()
                .find(|hits| hits.flows == flows)
                .with_context(|| format!("{flows} flows were not measured"))
        };
        Row::of_spreads(
            target,
            spread(&among(1_000)?.sack, &among(1_000_000)?.sack),
            costs.xdp_hit_scale,
            costs.rounds,
            format!("{how}; a random flow each packet"),
        )
    };
    row.detail("empty program, ns", costs.empty.median);
    for foreign in &costs.foreign {
        row.detail(format!("{}, ns", foreign.name), foreign.ns.median);
    }
    for hits in &costs.hits {
        row.detail(format!("SACK among {}, ns", hits.flows), hits.sack.median);
        row.detail(
            format!("time exceeded among {}, ns", hits.flows),
            hits.time_exceeded.median,
        );
    }
    row.detail("flow inserted singly, ns", costs.flow_insert_ns_single);
    row.detail("flow inserted in a batch, ns", costs.flow_insert_ns_batch);
    Ok(row)
}

/// Of the reference, of ours.
fn spread(reference: &Cost, ours: &Cost) -> [(f64, f64, f64); 2] {
    [reference, ours].map(|cost| (cost.median, cost.lowest, cost.highest))
}

/// The rows, or rows that say why there are none.
fn rows(targets: &[&'static Target], make: impl FnOnce() -> Result<Vec<Row>>) -> Vec<Row> {
    make().unwrap_or_else(|error| {
        eprintln!("  failed: {error:#}");
        network::failed(targets, &error)
    })
}

/// Runs one measurement of `insession bench`.
fn run(bench: &mut Bench, measurement: &str) -> Result<Value> {
    let out = bench.scratch.file("bench.json");
    let mut command = bench.insession();
    command
        .args(["bench", "--only", measurement, "--rounds"])
        .arg(bench.rounds.to_string())
        .args(["--duration", if bench.quick { "300ms" } else { "1s" }])
        .arg("--output")
        .arg(&out);
    if bench.quick && measurement == "scale" {
        command.args(["--concurrent", "2000"]);
    }
    eprintln!("  $ {}", crate::command_line(&command));
    bench.note_command(&format!("insession: {measurement}"), &command);
    let ended = process::Running::start(&mut command, &bench.scratch)?.finish(LIMIT)?;
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    let results: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "insession bench --only {measurement}: exit code {:?}: {}",
            ended.code,
            process::tail(&ended)
        )
    })?;
    if results[measurement].is_null() {
        let why = results["missing"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|missing| missing["reason"].as_str())
            .unwrap_or("no reason is told");
        anyhow::bail!("insession bench --only {measurement}: {why}");
    }
    Ok(results)
}

/// All rounds of a figure.
fn rounds(of: &Value, name: &str) -> Result<Vec<f64>> {
    let rounds: Vec<f64> = of[name]["rounds"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    anyhow::ensure!(!rounds.is_empty(), "insession bench: no figure `{name}`");
    Ok(rounds)
}

/// Cost a probe at so many sessions.
fn point(scale: &Value, sessions: u64) -> Result<Vec<f64>> {
    let point = scale["curve"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|point| point["sessions"].as_u64() == Some(sessions))
        .with_context(|| format!("the curve has no point at {sessions} sessions"))?;
    rounds(point, "cpu")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_found_by_name() {
        let scale = json!({"curve": [
            {"sessions": 1000, "cpu": {"median": 2.0, "rounds": [2.0, 2.5]}},
            {"sessions": 1_000_000, "cpu": {"median": null, "rounds": []}},
        ]});
        assert_eq!(point(&scale, 1_000).unwrap(), [2.0, 2.5]);
        assert!(point(&scale, 1_000_000).is_err());
        assert!(point(&scale, 5).is_err());
    }
}
