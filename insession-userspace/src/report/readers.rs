//! Our files read by the tools that others read such files with, and compared with the
//! records value by value. `cargo xtask setup` installs the tools; where one is missing
//! its test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::output::tests::Folder;
use super::output::{OutputSpec, encoder, join};
use super::{json, samples};
use crate::graph::aliases::Aliases;
use crate::graph::build::Builder;
use crate::graph::slice::Slice;
use crate::graph::{self, Level};
use crate::multipath::paths::{self, Mda, Stopped};
use crate::trace::Trace;

/// The samples, and some hundred of all traces there can be.
fn traces() -> Vec<Trace> {
    let mut runner = TestRunner::deterministic();
    let mut all = samples::all();
    all.extend((0..300).map(|_| {
        samples::any_trace()
            .new_tree(&mut runner)
            .unwrap()
            .current()
    }));
    for trace in &mut all {
        for probe in trace.hops.iter_mut().flat_map(|hop| &mut hop.probes) {
            // JSON has none; that Parquet has it, its own tests know.
            if let Some(reply) = &mut probe.reply {
                reply.mtu = None;
            }
        }
    }
    all
}

/// Writes a result in two parts and joins them, as a campaign does.
fn write(folder: &Path, name: &str, traces: &[Trace]) {
    let spec = OutputSpec::of(&folder.join(name)).unwrap();
    let (first, second) = traces.split_at(traces.len() / 3);
    let parts = [("part-0", first), ("part-1", second)].map(|(part, traces)| {
        let path = folder.join(format!("{part}{}", spec.extension()));
        let file = File::create(&path).unwrap();
        let mut encoder = encoder(&spec, Box::new(file)).unwrap();
        let mut line = Vec::new();
        for trace in traces {
            line.clear();
            json::append(trace, &mut line).unwrap();
            encoder.record(trace, &line).unwrap();
        }
        encoder.finish().unwrap();
        path
    });
    let out = File::create(&spec.path).unwrap();
    join(&spec, &parts, Box::new(out)).unwrap();
    for part in parts {
        fs::remove_file(part).unwrap();
    }
}

/// Where `cargo xtask setup` puts them: beside what cargo builds.
fn tools() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let mut folders = test.ancestors().map(|folder| folder.join("readers"));
    folders.find(|folder| folder.is_dir()).unwrap_or_else(|| {
        panic!(
            "{}: no readers beside it; run `cargo xtask setup`",
            test.display()
        )
    })
}

/// Writes these formats, has a script compare them; gives how much it compared.
fn compare(script: &str, names: &[&str], arguments: &[&Path]) -> u64 {
    let folder = Folder::new(script);
    let traces = traces();
    for name in names.iter().chain(&["r.jsonl"]) {
        write(&folder.0, name, &traces);
    }
    run(script, &folder.0, arguments)
}

/// Has a script compare what is in a folder; gives how much it compared.
fn run(script: &str, folder: &Path, arguments: &[&Path]) -> u64 {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ended = Command::new(tools().join("venv/bin/python3"))
        .arg("-B")
        .arg(manifest.join("tests/readers").join(script))
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}; run `cargo xtask setup`"));
    let said = String::from_utf8_lossy(&ended.stdout);
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{script}: {error}");
    let count = said.trim().strip_prefix("compared ");
    count
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("{script}: {said}{error}"))
}

fn probes() -> u64 {
    let traces = traces();
    let hops = traces.iter().flat_map(|trace| &trace.hops);
    hops.map(|hop| hop.probes.len() as u64).sum()
}

#[test]
fn parquet_by_pyarrow_and_pandas() {
    let without = traces()
        .iter()
        .filter(|trace| trace.hops.is_empty())
        .count() as u64;
    let compared = compare("read_pyarrow.py", &["r.parquet"], &[]);
    assert_eq!(compared, probes() + without);
}

#[test]
fn parquet_csv_and_json_by_duckdb() {
    let names = [
        "r.parquet",
        "r.jsonl.gz",
        "r.jsonl.zst",
        "r.csv",
        "r.csv.gz",
        "r.csv.zst",
    ];
    assert!(compare("read_duckdb.py", &names, &[]) > 2 * probes());
}

#[test]
fn atlas_results_by_sagan() {
    assert!(compare("read_sagan.py", &["r.atlas.jsonl"], &[]) > probes() / 2);
}

#[test]
fn atlas_results_by_pantrace() {
    let pantrace = tools().join("bin/pantrace");
    assert!(compare("read_pantrace.py", &["r.atlas.jsonl"], &[&pantrace]) > probes() / 2);
}

/// scamper itself reads no JSON: here the reader is ours, by scamper's documentation.
#[test]
fn scamper_objects_by_their_documentation() {
    assert_eq!(
        compare("read_scamper.py", &["r.scamper.jsonl"], &[]),
        probes()
    );
}

#[test]
fn records_by_their_json_schema() {
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/insession.trace-1.schema.json");
    assert_eq!(
        compare("check_schema.py", &[], &[&schema]),
        traces().len() as u64
    );
}

#[test]
fn merged_flows_by_their_json_schema() {
    let folder = Folder::new("check_paths.py");
    let mda = |stopped| Mda {
        confidence: 0.95,
        is_complete: false,
        rounds: 2,
        stopped,
    };
    let drawn = [
        (&[("a b d T", 3), ("a c e d T", 2)][..], None),
        (
            &[("a bcb ded T", 1), ("a b . T", 1)],
            Some(Stopped::FlowsMax),
        ),
        (&[("a b . .", 1), ("a c", 1)], Some(Stopped::Silent)),
        (&[(". .", 2)], Some(Stopped::Interrupted)),
    ];
    let drawn = drawn.map(|(ways, stopped)| {
        let mda = Some(mda(stopped));
        paths::merge(&paths::tests::traces(ways), mda).unwrap()
    });
    let of_any = traces().into_iter().map(|trace| {
        let flows = [trace.clone(), trace];
        paths::merge(&flows, None).unwrap()
    });
    let mut lines = Vec::new();
    let mut count = 0;
    for merged in drawn.into_iter().chain(of_any) {
        super::paths::append(&merged, &mut lines).unwrap();
        count += 1;
    }
    fs::write(folder.0.join("r.jsonl"), lines).unwrap();
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/insession.paths-1.schema.json");
    assert_eq!(run("check_paths.py", &folder.0, &[&schema]), count);
}

/// Every level of the graph of all those traces, and as each format has it.
#[test]
fn graphs_by_networkx_pydot_and_their_json_schema() {
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/insession.graph-1.schema.json");
    let mut builder = Builder::new(Slice::default());
    traces().iter().for_each(|trace| builder.add(trace));
    let addresses = builder.finish();
    let systems = addresses.collapsed(Level::As, &Aliases::default());
    assert!(systems.nodes.len() < addresses.nodes.len());
    for graph in [addresses, systems] {
        let folder = Folder::new(&format!("graph-{}", graph.level.as_str()));
        let file = |name: &str| File::create(folder.0.join(name)).unwrap();
        graph::json::write(&graph, &mut file("g.json")).unwrap();
        graph::graphml::write(&graph, &mut file("g.graphml")).unwrap();
        graph::dot::write(&graph, &mut file("g.dot")).unwrap();
        let all = 2 * (graph.nodes.len() + graph.edges.len());
        assert_eq!(run("read_graph.py", &folder.0, &[&schema]), all as u64);
    }
}
