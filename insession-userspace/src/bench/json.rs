//! Results as JSON: `insession.bench/1`.
//!
//! The document is the serialized [`Results`], member by member: a figure is an
//! object with `median`, `min`, `max` and all `rounds`.

use super::BenchError;
use super::suite::Results;

/// The whole document, with a newline at its end.
///
/// # Errors
/// When it cannot be written down; a defect.
pub fn document(results: &Results) -> Result<String, BenchError> {
    let mut text = serde_json::to_string_pretty(results)
        .map_err(|error| BenchError::Failed(format!("JSON: {error}; report it")))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples;
    use serde_json::{Value, json};

    #[test]
    fn form_is_kept() {
        let document: Value =
            serde_json::from_str(&document(&samples::results()).unwrap()).unwrap();
        let members: Vec<&str> = document
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = vec![
            "schema",
            "machine",
            "conditions",
            "ceiling",
            "probes",
            "search",
            "latency",
            "smoothness",
            "opening",
            "held",
            "ablation",
            "scale",
            "missing",
            "interrupted",
        ];
        expected.sort_unstable();
        let mut members = members;
        members.sort_unstable();
        assert_eq!(members, expected);
        assert_eq!(document["schema"], "insession.bench/1");
        assert_eq!(
            document["probes"]["tx_vs_ceiling"],
            json!({"median": 0.9, "min": 0.88, "max": 0.93, "rounds": [0.9, 0.88, 0.93]})
        );
        assert_eq!(
            document["machine"],
            json!({
                "kernel": "6.18.0 #1 SMP", "cpu_model": "Model", "cores": 2, "memory_mib": 2048,
                "huge_pages_free": 0, "virtual_machine": true, "interface": "near0",
                "driver": "veth", "queues": 1, "reflector": true, "mode": "xdp native copy",
                "accounting": {
                    "irq_time": false, "exact_split": false, "user": "a", "system": "b", "softirq": "c"
                },
                "versions": {"insession": "0.1.0"}
            })
        );
        assert_eq!(
            document["conditions"],
            json!({
                "rounds": 3, "duration": 1.0, "max_rate": null, "sessions": 1024, "probes_a_hop": 3
            })
        );
        assert_eq!(
            document["ablation"][1],
            json!({
                "choice": "copying", "value": "zero-copy", "default": false, "link": "",
                "probes": {"median": null, "min": null, "max": null, "rounds": []},
                "cpu": {"median": null, "min": null, "max": null, "rounds": []},
                "loss": {"median": null, "min": null, "max": null, "rounds": []},
                "lost_at": [],
                "cannot": "interface near0: zero-copy: not <here>"
            })
        );
        assert_eq!(
            document["missing"],
            json!([{"measurement": "held", "reason": "it was not tried"}])
        );
        for path in [
            "/ceiling/tx/frames/median",
            "/ceiling/rx/cpu/median",
            "/search/steps/0/0/lost_at/0/1",
            "/latency/busy_polling/p999/max",
            "/smoothness/0/windows/0/most",
            "/opening/per_cpu_second/median",
            "/scale/sim_scale",
            "/scale/curve/0/cpu/median",
            "/scale/memory/octets",
            "/scale/concurrent/outcome/wrong",
        ] {
            let value = document.pointer(path).unwrap_or(&Value::Null);
            assert!(value.is_number(), "{path}: {value}");
        }
    }
}
