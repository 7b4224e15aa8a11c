//! `insession convert` and `insession summary` as they are called.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const INSESSION: &str = env!("CARGO_BIN_EXE_insession");

/// A folder that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("insession-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Runs the command in it.
    fn insession(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(INSESSION);
        command.args(line.split_whitespace()).current_dir(&self.0);
        command
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
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

/// A trace of three hops, the second silent.
fn complete(nth: u32) -> String {
    let [_, _, high, low] = nth.to_be_bytes();
    format!(
        concat!(
            r#"{{"schema":"insession.trace/1","target":"10.9.{}.{}","address":"10.9.{}.{}","port":443,"method":"insession","#,
            r#""source":"10.0.1.2","source_port":61234,"started":"2026-01-02T03:04:05.678901Z","duration_us":81234.5,"#,
            r#""verdict":"complete","detail":null,"#,
            r#""handshake":{{"rtt_us":812.4,"mss":1460,"sack":true,"timestamps":true,"window_scale":7}},"destination_ttl":3,"#,
            r#""hops":[{{"ttl":1,"probes":[{{"kind":"time-exceeded","from":"10.0.1.1","name":null,"asn":null,"rtt_us":57.1,"#,
            r#""rtt_bound":"exact","sent_us":1042.0,"icmp_type":11,"icmp_code":0,"reply_ttl":64,"quoted_ttl":1,"#,
            r#""mpls":[{{"label":24001,"tc":1,"s":true,"ttl":1}}],"rewrites":["dscp"]}}]}},"#,
            r#"{{"ttl":2,"probes":[{{"kind":"none","sent_us":1043.0}}]}},"#,
            r#"{{"ttl":3,"probes":[{{"kind":"sack","from":"10.9.{}.{}","name":null,"asn":null,"rtt_us":1204.625,"rtt_bound":"exact","#,
            r#""sent_us":1050.125,"icmp_type":null,"icmp_code":null,"reply_ttl":63,"quoted_ttl":null,"mpls":[],"rewrites":[]}}]}}],"#,
            r#""changes":[{{"what":"dscp","first_ttl":1,"from":"10.0.1.1","not_at_ttl":null}}],"#,
            r#""link":{{"kind":"xdp","mode":"native","zero_copy":false,"interface":"eth0"}}}}"#,
            "\n",
        ),
        high, low, high, low, high, low
    )
}

const EXCLUDED: &str = concat!(
    r#"{"schema":"insession.trace/1","target":"127.0.0.1","address":"127.0.0.1","port":443,"method":"insession","#,
    r#""source":null,"source_port":null,"started":"2026-01-02T03:04:06.000000Z","duration_us":0.0,"#,
    r#""verdict":"excluded","detail":"127.0.0.0/8","handshake":null,"destination_ttl":null,"hops":[],"link":null}"#,
    "\n"
);

/// A thousand records.
fn records() -> String {
    let mut all: String = (0..999).map(complete).collect();
    all.push_str(EXCLUDED);
    all
}

#[test]
fn a_result_comes_back_from_every_format_that_holds_it_whole() {
    let folder = Folder::new("convert-back");
    folder.write("r.jsonl", &records());
    let ended = folder.insession(
        "convert r.jsonl -o a.jsonl.gz -o b.jsonl.zst -o c.parquet -o d.csv -o e.scamper.jsonl.gz -o f.atlas.jsonl",
    );
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!((text(&ended.stdout), text(&ended.stderr)), ("", ""));
    for name in ["a.jsonl.gz", "b.jsonl.zst", "c.parquet"] {
        let ended = folder.insession(&format!("convert {name} -o -"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(text(&ended.stdout), records(), "{name}");
        let small = folder.read(name).len() * 10;
        assert!(small < records().len(), "{name}: {small}");
    }
    // Two replies a trace, and the header.
    assert_eq!(text(&folder.read("d.csv")).lines().count(), 2 * 999 + 1);
    let atlas = folder.read("f.atlas.jsonl");
    let last: Value = serde_json::from_str(text(&atlas).lines().last().unwrap()).unwrap();
    assert_eq!(last["result"][0]["error"], "excluded: 127.0.0.0/8");
    // Several inputs one after another; nothing but what was asked for is left behind.
    let ended = folder.insession("convert a.jsonl.gz c.parquet -o both.jsonl");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(text(&folder.read("both.jsonl")), records() + &records());
    assert_eq!(folder.names().len(), 8, "{:?}", folder.names());
}

#[test]
fn bad_lines_are_named_and_the_rest_is_converted() {
    let folder = Folder::new("convert-bad");
    let unknown = complete(2).replace("complete", "finished");
    // Line ends of both kinds, an empty line, no line end at the end.
    let lines = format!(
        "{}\r\n\n{{\"no\":1}}\n{unknown}{}",
        complete(1).trim_end(),
        EXCLUDED.trim_end()
    );
    folder.write("r.jsonl", &lines);
    let ended = folder.insession("convert r.jsonl -o out.jsonl");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let said = text(&ended.stderr);
    assert!(
        said.contains("r.jsonl, line 3: schema \"\": not insession.trace/1"),
        "{said}"
    );
    assert!(
        said.contains("r.jsonl, line 4: verdict \"finished\": no such word"),
        "{said}"
    );
    assert!(said.contains("2 bad lines, left out"), "{said}");
    let out = folder.read("out.jsonl");
    let targets: Vec<Value> = text(&out)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["target"].clone())
        .collect();
    assert_eq!(targets, ["10.9.0.1", "127.0.0.1"]);
    // Half a result does not take the place of a whole one.
    let ended = folder.insession("convert --strict r.jsonl -o out.jsonl");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(
        text(&ended.stderr).contains("error: r.jsonl, line 3: "),
        "{ended:?}"
    );
    assert_eq!(folder.read("out.jsonl"), out);
    assert_eq!(folder.names(), ["out.jsonl", "r.jsonl"]);
}

#[test]
fn what_cannot_be_is_told() {
    let folder = Folder::new("convert-told");
    folder.write("r.jsonl", EXCLUDED);
    folder.write("other.parquet", "PAR1 and nothing else");
    for (line, reason) in [
        ("convert r.jsonl", "--output <FILE>"),
        (
            "convert r.jsonl -o r.txt",
            "error: --output r.txt: its extension names no format; there are .jsonl, .parquet",
        ),
        (
            "convert r.jsonl -o r.parquet.gz",
            "Parquet is compressed inside; name it .parquet",
        ),
        (
            "convert r.jsonl -o a.csv -o a.csv",
            "error: --output a.csv: named twice",
        ),
        (
            "convert r.jsonl -o no/such/r.csv",
            "error: --output no/such/r.csv: ",
        ),
        (
            "convert gone.jsonl -o a.csv",
            "error: gone.jsonl: No such file",
        ),
        ("convert . -o a.csv", "error: .: "),
        ("convert other.parquet -o a.csv", "error: other.parquet: "),
        ("summary", "<RESULT>..."),
        ("summary gone.jsonl", "error: gone.jsonl: No such file"),
        (
            "summary r.jsonl --html no/such/page",
            "error: --html no/such/page: ",
        ),
    ] {
        let ended = folder.insession(line);
        let said = text(&ended.stderr);
        assert!(said.contains(reason), "{line}: {said}");
        assert_eq!(ended.status.code(), Some(2), "{line}: {said}");
        assert_eq!(text(&ended.stdout), "", "{line}");
    }
    assert_eq!(folder.names(), ["other.parquet", "r.jsonl"]);
}

#[test]
fn pipes_are_read_and_written() {
    let folder = Folder::new("convert-pipes");
    let mut child = folder
        .command("convert - -o -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // Its reader goes away before all is written.
        for _ in 0..1_000 {
            if input.write_all(records().as_bytes()).is_err() {
                return true;
            }
        }
        false
    });
    let mut first = [0; 1024];
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut first).unwrap();
    assert_eq!(first, records().as_bytes()[..1024]);
    drop(output);
    assert!(writer.join().unwrap());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(text(&ended.stderr), "");
}

#[test]
fn a_summary_is_the_same_of_every_format() {
    let folder = Folder::new("summary-same");
    folder.write("r.jsonl", &records());
    let ended = folder.insession("convert r.jsonl -o r.parquet -o r.jsonl.zst -o r.jsonl.gz");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    for option in ["", "--json"] {
        let of = |name: &str| folder.insession(&format!("summary {option} {name}"));
        let plain = of("r.jsonl");
        assert_eq!(plain.status.code(), Some(0), "{plain:?}");
        for name in ["r.parquet", "r.jsonl.zst", "r.jsonl.gz"] {
            let found = of(name);
            assert_eq!(text(&found.stdout), text(&plain.stdout), "{name}");
        }
    }
    let ended = folder.insession("summary --json r.jsonl r.parquet --html page.html");
    let figures: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(figures["schema"], "insession.summary/1");
    assert_eq!(figures["traces"], 2000);
    assert_eq!(
        figures["verdicts"].to_string(),
        r#"[["complete",1998],["excluded",2]]"#
    );
    assert_eq!(figures["probes"], 3 * 1998);
    assert_eq!(figures["answered"], 2 * 1998);
    assert_eq!(figures["routers"], 1);
    assert_eq!(figures["path_lengths"].to_string(), "[[3,1998]]");
    assert_eq!(figures["hops"][1]["loss"], 1.0);
    let silence = &figures["silences"][0];
    assert_eq!(
        (&silence["behind"], &silence["traces"]),
        (&"10.0.1.1".into(), &1998.into())
    );
    let page = folder.read("page.html");
    assert!(text(&page).starts_with("<!doctype html>") && text(&page).contains("r.parquet"));
}

#[test]
fn a_summary_counts_bad_lines() {
    let folder = Folder::new("summary-bad");
    folder.write("r.jsonl", &format!("{EXCLUDED}nonsense\n"));
    let ended = folder.insession("summary r.jsonl");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(
        text(&ended.stdout).contains("1 bad lines, left out"),
        "{ended:?}"
    );
    assert!(
        text(&ended.stderr).contains("r.jsonl, line 2: "),
        "{ended:?}"
    );
    let ended = folder.insession("summary --strict r.jsonl");
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(2), ""));
}
