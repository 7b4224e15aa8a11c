//! `insession bench` as it is run, on a test bed, with tiny durations: that
//! everything is measured and reported, not how fast it is. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::process::{Command, Stdio};

use serde_json::Value;

fn bench(words: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_insession"))
        .arg("bench")
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn everything_is_measured_on_a_test_bed() {
    let folder = std::env::temp_dir().join(format!("insession-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let page = folder.join("page.html");
    let ended = bench(&format!(
        "--rounds 1 --duration 100ms --sessions 64 --resolution 0.5 --loss 0.9 --held 300 \
         --scale 1000 --concurrent 300 --json --html {}",
        page.display()
    ));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    let results: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(results["schema"], "insession.bench/1");
    assert_eq!(results["missing"], Value::Array(Vec::new()));
    assert_eq!(results["machine"]["reflector"], true);
    for path in [
        "/ceiling/tx/frames/median",
        "/ceiling/tx_answered/frames/median",
        "/probes/tx_vs_ceiling/median",
        "/search/unbounded/median",
        "/latency/interrupts/p99/median",
        "/opening/per_cpu_second/median",
        "/held/sessions/median",
        "/ablation/0/probes/median",
        "/scale/curve/0/cpu/median",
        "/scale/memory/octets",
    ] {
        let value = results.pointer(path).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{path}: {value:?}");
    }
    // So short a trial may see no tick of it.
    assert!(results["probes"]["user"]["median"].is_number());
    assert_eq!(results["held"]["sessions"]["median"], 300.0);
    let concurrent = &results["scale"]["concurrent"];
    assert_eq!(concurrent["outcome"]["traces"], 300, "{concurrent}");
    assert_eq!(concurrent["outcome"]["wrong"], 0, "{concurrent}");
    assert_eq!(concurrent["checked"], true);
    let zero_copy = results["ablation"].as_array().unwrap().iter();
    let mut zero_copy = zero_copy.filter(|row| row["value"] == "zero-copy");
    let reason = zero_copy.next().unwrap()["cannot"].as_str().unwrap();
    assert!(reason.contains("zero-copy"), "{reason}");
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("</html>") && page.contains("<svg"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_interface_is_measured_only_with_targets() {
    let ended = bench("--interface lo");
    assert_eq!(ended.status.code(), Some(2));
    let ended = bench("192.0.2.1");
    assert_eq!(ended.status.code(), Some(2));
}

#[test]
fn without_rights_it_says_what_is_missing() {
    let ended = Command::new("setpriv")
        .args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--reuid=65534",
            "--clear-groups",
        ])
        .args([env!("CARGO_BIN_EXE_insession"), "bench", "--only", "probes"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("CAP_"), "{said}");
}
