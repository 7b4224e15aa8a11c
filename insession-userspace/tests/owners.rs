//! Whose addresses are, as it is asked for on a command line, and over a real kernel.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const INSESSION: &str = env!("CARGO_BIN_EXE_insession");

/// Routes and a peering LAN, of loopback addresses: these answer in any namespace.
const DATA: &str = "127.0.0.0\t8\t64500_64501\n64500|EXAMPLE\n127.0.0.0/30,Example-IX\n";

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

    /// Runs it where there is nothing but loopback, and one name for that.
    fn on_loopback(&self, line: &str) -> Output {
        self.write("hosts", "127.0.0.1 near.example\n");
        let script = format!(
            "mount --bind hosts /etc/hosts && ip link set lo up && exec {INSESSION} {line}"
        );
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "sh", "-c", &script])
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

/// The reply of the last hop, in a line of records.
fn reply(line: &[u8]) -> Value {
    let record: Value = serde_json::from_slice(line).unwrap();
    let hops = record["hops"].as_array().unwrap();
    hops.last().unwrap()["probes"][0].clone()
}

#[test]
fn the_files_that_are_used_are_told() {
    let folder = Folder::new("owners-data");
    let ended = folder.insession("data");
    assert_eq!(ended.status.code(), Some(2));
    let error = text(&ended.stderr);
    assert!(error.contains("/data: no file there says whose"), "{error}");
    let ended = folder.insession("trace -A 127.0.0.1");
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("/data: no file there says whose"));

    fs::create_dir(folder.0.join("data")).unwrap();
    folder.write("data/rv2-20260102.pfx2as", DATA);
    let ended = folder.insession("data --json --lookup 127.0.0.1 ::1");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["schema"], "insession.data/1");
    let file = &report["files"][0];
    assert_eq!(file["date"], "2026-01-02T00:00:00.000000Z");
    assert_eq!(
        (&file["date_by"], &file["prefixes_v4"]),
        (&"name".into(), &2.into())
    );
    let found = &report["lookups"][0];
    assert_eq!(
        (&found["asn"], &found["ixp"]),
        (&64500.into(), &"Example-IX".into())
    );
    assert_eq!(found["origins"], Value::from(vec![64500, 64501]));
    assert_eq!(report["lookups"][1]["asn"], Value::Null);

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
fn a_trace_says_whose_its_hops_are() {
    let folder = Folder::new("owners-trace");
    folder.write("pfx2as", DATA);
    let line = "trace -m icmp --link packet -q 1 --data pfx2as";
    let ended = folder.on_loopback(&format!("{line} --json 127.0.0.1"));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let found = reply(&ended.stdout);
    assert_eq!(
        (&found["asn"], &found["holder"]),
        (&64500.into(), &"EXAMPLE".into()),
        "{found}"
    );
    assert_eq!(
        (&found["prefix"], &found["ixp"]),
        (&"127.0.0.0/8".into(), &"Example-IX".into())
    );
    let ended = folder.on_loopback(&format!("{line} 127.0.0.1"));
    let said = text(&ended.stdout);
    let whose = " near.example (127.0.0.1) [AS64500 EXAMPLE, 127.0.0.0/8] [IXP Example-IX]";
    assert!(said.contains(whose), "{said}");
}

#[test]
fn a_run_has_names_and_owners_where_they_are_asked_for() {
    let folder = Folder::new("owners-run");
    folder.write("pfx2as", DATA);
    let line = "run -m icmp --link packet -q 1 --allow 127.0.0.0/8 --progress never 127.0.0.1";
    let ended = folder.on_loopback(&format!("{line} --names --data pfx2as --campaign c"));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let plan = fs::read_to_string(folder.0.join("c/plan.toml")).unwrap();
    let absolute = folder.0.join("pfx2as");
    assert!(plan.contains(absolute.to_str().unwrap()), "{plan}");
    let ended = folder.insession("convert c/results.jsonl.zst -o -");
    let found = reply(&ended.stdout);
    assert_eq!(
        (&found["name"], &found["asn"]),
        (&"near.example".into(), &64500.into()),
        "{found}"
    );

    let ended = folder.on_loopback(line);
    let found = reply(&ended.stdout);
    assert_eq!(
        (&found["name"], &found["asn"]),
        (&Value::Null, &Value::Null)
    );
    let ended = folder.on_loopback(&format!("{line} --names -n"));
    assert_eq!(ended.status.code(), Some(2));

    // Results of earlier, by other files, and through Parquet.
    folder.write("other", "127.0.0.0/16,64999,Other\n");
    let ended = folder.insession("convert c/results.jsonl.zst --data other -o new.parquet");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let ended = folder.insession("convert new.parquet -o -");
    let found = reply(&ended.stdout);
    assert_eq!(
        (&found["asn"], &found["holder"]),
        (&64999.into(), &"Other".into())
    );
    assert_eq!(
        (&found["prefix"], found.get("ixp")),
        (&"127.0.0.0/16".into(), None)
    );
}
