//! Whose addresses are, as it is asked for on a command line, and what traces in a test
//! bed say of it. Needs root, `ip` and `ethtool`; without them it fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bed;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Output};

use insession::report::json::read;
use insession::testbed;
use insession::trace::{Reply, Trace};
use insession_common::reflect::Network;
use serde_json::Value;

use bed::in_a_bed;

const INSESSION: &str = env!("CARGO_BIN_EXE_insession");

/// Routers of the bed, and targets.
const DATA: &str = "\
100.64.0.0\t10\t64500_64501
10.0.0.0\t8\t64502
64500|EXAMPLE
10.0.0.0/30,Example-IX
";

/// A folder that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("insession-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs the command in it; its data directory is empty, or is not there.
    fn insession(&self, line: &str) -> Output {
        let mut command = Command::new(INSESSION);
        command
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .env("INSESSION_DATA_DIR", self.0.join("data"));
        command.output().unwrap()
    }

    /// Runs it in the namespace of this thread, with these hosts.
    fn with_hosts(&self, hosts: &str, line: &str) -> Output {
        self.write("hosts", hosts);
        let script = format!("mount --bind hosts /etc/hosts && exec {INSESSION} {line}");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &script])
            .current_dir(&self.0)
            .env_remove("RUST_LOG");
        command.output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The records, a line each.
fn records(lines: &[u8]) -> Vec<Trace> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| read(line).unwrap()).collect()
}

fn replies(traces: &[Trace]) -> impl Iterator<Item = &Reply> {
    let hops = traces.iter().flat_map(|trace| &trace.hops);
    hops.flat_map(|hop| &hop.probes)
        .filter_map(|probe| probe.reply.as_ref())
}

/// Whether an address is a router's of the bed.
fn is_router(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 100)
}

/// AS number, holder, prefix and exchange are as in [`DATA`]; gives how many are.
fn as_in_the_data(traces: &[Trace]) -> usize {
    for reply in replies(traces) {
        let owner = reply.owner.as_deref().unwrap();
        let near = Ipv4Addr::new(10, 0, 0, 4);
        let expected = match reply.from {
            from if is_router(from) => (64500, Some("EXAMPLE"), "100.64.0.0/10", None),
            from if from < near => (64502, None, "10.0.0.0/8", Some("Example-IX")),
            _ => (64502, None, "10.0.0.0/8", None),
        };
        let (asn, holder, prefix, ixp) = expected;
        assert_eq!(owner.asn, Some(asn), "{reply:?}");
        assert_eq!(
            (owner.holder.as_deref(), owner.prefix.as_deref()),
            (holder, Some(prefix))
        );
        assert_eq!(owner.ixp.as_deref(), ixp, "{reply:?}");
    }
    replies(traces).count()
}

#[test]
fn the_files_that_are_used_are_told() {
    let folder = Folder::new("owners-data");
    let ended = folder.insession("data");
    assert_eq!(ended.status.code(), Some(2));
    let error = text(&ended.stderr);
    assert!(error.contains("/data: no file there says whose"), "{error}");
    let ended = folder.insession("trace -A 10.0.0.1");
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("/data: no file there says whose"));

    fs::create_dir(folder.0.join("data")).unwrap();
    folder.write("data/rv2-20260102.pfx2as", DATA);
    let ended = folder.insession("data --json --lookup 100.64.0.1 10.0.0.1 ::1");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["schema"], "insession.data/1");
    let file = &report["files"][0];
    assert_eq!(file["date"], "2026-01-02T00:00:00.000000Z");
    assert_eq!(
        (&file["date_by"], &file["prefixes_v4"]),
        (&"name".into(), &3.into())
    );
    let found = &report["lookups"][0];
    assert_eq!(
        (&found["asn"], &found["holder"]),
        (&64500.into(), &"EXAMPLE".into())
    );
    assert_eq!(found["origins"], Value::from(vec![64500, 64501]));
    assert_eq!(report["lookups"][1]["ixp"], "Example-IX");
    assert_eq!(report["lookups"][2]["asn"], Value::Null);

    folder.write("data/bad", "192.0.2.0/24 64500\nnonsense\n");
    let ended = folder.insession("data");
    assert_eq!(ended.status.code(), Some(2), "bad lines");
    let error = text(&ended.stderr);
    assert!(
        error.contains("data/bad, line 2: neither a prefix nor an AS number; left out"),
        "{error}"
    );
    assert!(text(&ended.stdout).contains("1 prefixes of IPv4, 1 bad lines"));
}

#[test]
fn traces_say_whose_their_hops_are() {
    in_a_bed(Network::default(), |_bed| {
        let folder = Folder::new("owners-trace");
        folder.write("pfx2as", DATA);
        let line = "trace -n -q 1 --data pfx2as";
        let ended = folder.insession(&format!("{line} --json -p 80 10.0.0.1 10.0.0.9"));
        let traces = records(&ended.stdout);
        assert_eq!(traces.len(), 2, "{ended:?}");
        assert!(as_in_the_data(&traces) > 4, "{traces:?}");
        // The text of one comes out as it goes.
        let ended = folder.insession(&format!("{line} -p 80 10.0.0.1"));
        let said = text(&ended.stdout);
        let routers = said.matches(" [AS64500 EXAMPLE, 100.64.0.0/10]  ").count();
        assert!(routers > 1, "{said}");
        let target = " 10.0.0.1 [AS64502, 10.0.0.0/8] [IXP Example-IX] [sack]  ";
        assert!(said.contains(target), "{said}");
    });
}

#[test]
fn a_run_has_names_and_owners_where_they_are_asked_for() {
    in_a_bed(Network::default(), |_bed| {
        let folder = Folder::new("owners-run");
        folder.write("pfx2as", DATA);
        let targets: Vec<String> = testbed::targets(30).map(|it| it.to_string()).collect();
        let line = format!(
            "run -q 1 --seed 7 --allow 10.0.0.0/8 --progress never {}",
            targets.join(" ")
        );
        let ended = folder.insession(&line);
        let plain = records(&ended.stdout);
        assert_eq!(plain.len(), 30, "{ended:?}");
        assert!(replies(&plain).all(|it| it.name.is_none() && it.owner.is_none()));

        // Every other router has a name.
        let routers = replies(&plain)
            .map(|it| it.from)
            .filter(|it| is_router(*it));
        let routers: BTreeSet<IpAddr> = routers.collect();
        let named: BTreeSet<IpAddr> = routers.into_iter().step_by(2).collect();
        let hosts: String = named
            .iter()
            .map(|it| format!("{it} r-{it}.example\n"))
            .collect();
        let more = "--names --data pfx2as --campaign c";
        let ended = folder.with_hosts(&hosts, &format!("{line} {more}"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        // From anywhere it goes on by the same file.
        let plan = fs::read_to_string(folder.0.join("c/plan.toml")).unwrap();
        let absolute = folder.0.join("pfx2as");
        assert!(plan.contains(absolute.to_str().unwrap()), "{plan}");
        let ended = folder.insession("convert c/results.jsonl.zst -o -");
        let traces = records(&ended.stdout);
        assert_eq!(traces.len(), 30);
        assert!(as_in_the_data(&traces) > 100);
        let mut found = 0;
        for reply in replies(&traces) {
            let name = named
                .contains(&reply.from)
                .then(|| format!("r-{}.example", reply.from));
            found += usize::from(name.is_some());
            assert_eq!(reply.name, name, "{}", reply.from);
        }
        assert!(found > 10, "{found}");
        let ended = folder.insession(&format!("{line} --names -n"));
        assert_eq!(ended.status.code(), Some(2));

        // Results of earlier, by other files, and through Parquet.
        folder.write("other", "100.64.0.0/10,64999,Other\n");
        let ended = folder.insession("convert c/results.jsonl.zst --data other -o new.parquet");
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let ended = folder.insession("convert new.parquet -o -");
        let again = records(&ended.stdout);
        for (again, before) in replies(&again).zip(replies(&traces)) {
            assert_eq!(again.name, before.name);
            let owner = again.owner.as_deref();
            assert_eq!(owner.is_some(), is_router(again.from));
            if let Some(owner) = owner {
                assert_eq!(
                    (owner.asn, owner.holder.as_deref()),
                    (Some(64999), Some("Other"))
                );
                assert_eq!(owner.ixp, None);
            }
        }
    });
}
