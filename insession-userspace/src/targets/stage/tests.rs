//! Lists with names of a name server of our own, to channels of ours.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use super::super::list::ListOptions;
use super::*;
use crate::dns::testing::{Reply, Server};
use crate::trace::{Method, Trace};

/// What came out, by position.
#[derive(Default)]
struct Outcome {
    targets: BTreeMap<u64, Target>,
    records: BTreeMap<u64, Trace>,
    bad: Vec<BadLine>,
    /// Names in the order they came.
    order: Vec<String>,
}

struct Ends {
    targets: mpsc::Receiver<Target>,
    outputs: mpsc::Receiver<Output>,
    bad: mpsc::Receiver<BadLine>,
}

fn server() -> Server {
    Server::new(|name| match name {
        "lab.example" => Reply::Address([10, 0, 0, 9].into()),
        "xn--bcher-kva.example" => Reply::Address([8, 8, 4, 4].into()),
        "slow.example" => Reply::After(Duration::from_millis(300), [8, 8, 8, 8].into()),
        "silent.example" => Reply::Silence,
        _ => Reply::NoName,
    })
}

fn stage(server: &Server, options: &ListOptions, family: Family) -> (Stage, Ends) {
    let (targets, taken) = mpsc::channel(4);
    let (outputs, told) = mpsc::channel(4);
    let (bad, complained) = mpsc::channel(4);
    let stage = Stage {
        supply: Supply::open(options).unwrap(),
        dns: Arc::new(Dns::asking(server, family)),
        exclusions: Arc::new(Exclusions::default()),
        asked: Asked {
            port: 443,
            method: Method::InSession,
        },
        family,
        strict: false,
        done: Arc::new(|_| false),
        targets,
        outputs,
        bad,
        tally: Arc::default(),
    };
    let ends = Ends {
        targets: taken,
        outputs: told,
        bad: complained,
    };
    (stage, ends)
}

fn words(words: &[&str]) -> ListOptions {
    ListOptions {
        words: words.iter().copied().map(str::to_owned).collect(),
        ..ListOptions::default()
    }
}

impl Ends {
    /// Until all of them are closed.
    async fn drain(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            tokio::select! {
                Some(target) = self.targets.recv() => {
                    outcome.order.push(target.name.clone());
                    assert!(outcome.targets.insert(target.index, target).is_none());
                }
                Some(Output::Trace { index, trace }) = self.outputs.recv() => {
                    outcome.order.push(trace.target.clone());
                    assert!(outcome.records.insert(index, *trace).is_none());
                }
                Some(line) = self.bad.recv() => outcome.bad.push(line),
                else => return outcome,
            }
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

#[test]
fn every_target_comes_out_once_with_what_is_wrong_with_it() {
    let server = server();
    let options = words(&[
        "1.1.1.1:80",
        "10.0.0.1",
        "[2606:4700::1111]:53",
        "lab.example",
        "bücher.example:8080",
        "dead.example",
        "8.8.8.0/30:22",
        "no target",
        "dead.example",
        "192.168.0.0/30",
    ]);
    let (result, outcome) = run(async {
        let (stage, ends) = stage(&server, &options, Family::V4);
        tokio::join!(stage.run(), ends.drain())
    });
    let expected = Summary {
        targets: 15,
        bad: 1,
        excluded: 6,
        unresolved: 2,
        misfits: 1,
    };
    assert_eq!(result, Ok(expected));
    let mut targets: Vec<_> = outcome
        .targets
        .values()
        .map(|target| {
            (
                target.name.as_str(),
                target.address.to_string(),
                target.port,
            )
        })
        .collect();
    targets.sort_unstable();
    let target = |name, address: &str, port| (name, address.to_owned(), port);
    assert_eq!(
        targets,
        [
            target("1.1.1.1:80", "1.1.1.1", 80),
            target("8.8.8.0:22", "8.8.8.0", 22),
            target("8.8.8.1:22", "8.8.8.1", 22),
            target("8.8.8.2:22", "8.8.8.2", 22),
            target("8.8.8.3:22", "8.8.8.3", 22),
            target("bücher.example:8080", "8.8.4.4", 8080),
        ]
    );
    let mut records: Vec<_> = outcome
        .records
        .values()
        .map(|trace| {
            let detail = trace.detail.clone().unwrap_or_default();
            (
                trace.target.as_str(),
                trace.verdict.as_str(),
                trace.port,
                detail,
            )
        })
        .collect();
    records.sort_unstable();
    for (record, (name, verdict, port, detail)) in records.iter().zip([
        (
            "10.0.0.1",
            "excluded",
            443,
            "private use, 10.0.0.0/8 (RFC 1918)",
        ),
        ("192.168.0.0", "excluded", 443, "192.168.0.0/16"),
        ("192.168.0.1", "excluded", 443, "192.168.0.0/16"),
        ("192.168.0.2", "excluded", 443, "192.168.0.0/16"),
        ("192.168.0.3", "excluded", 443, "192.168.0.0/16"),
        (
            "[2606:4700::1111]:53",
            "error",
            53,
            "it is IPv6, but only IPv4",
        ),
        (
            "dead.example",
            "error",
            443,
            "dead.example: no such host; check the name",
        ),
        (
            "dead.example",
            "error",
            443,
            "dead.example: no such host; check the name",
        ),
        ("lab.example", "excluded", 443, "10.0.0.0/8"),
    ]) {
        assert_eq!((record.0, record.1, record.2), (name, verdict, port));
        assert!(record.3.contains(detail), "{record:?}");
    }
    assert_eq!(records.len(), 9);
    assert!(
        outcome
            .targets
            .keys()
            .chain(outcome.records.keys())
            .all(|index| *index < 15)
    );
    assert_eq!(outcome.bad.len(), 1);
}

#[test]
fn addresses_do_not_wait_for_names() {
    let server = server();
    let mut options = words(&["slow.example"; 500]);
    options.words.push("1.0.0.0/22".to_owned());
    let outcome = run(async {
        let (stage, ends) = stage(&server, &options, Family::V4);
        let (result, outcome) = tokio::join!(stage.run(), ends.drain());
        assert_eq!(result.unwrap().targets, 1524);
        outcome
    });
    let (first, last) = outcome.order.split_at(1024);
    assert!(first.iter().all(|name| name.starts_with("1.0.")));
    assert!(last.iter().all(|name| name == "slow.example"));
    assert_eq!(server.asked(), ["slow.example"]);
}

#[test]
fn what_is_done_is_not_done_again() {
    let server = server();
    let outcome = run(async {
        let (mut stage, ends) = stage(
            &server,
            &words(&["1.0.0.0/24", "dead.example"]),
            Family::Any,
        );
        stage.done = Arc::new(|position| position != 7 && position < 200);
        let (result, outcome) = tokio::join!(stage.run(), ends.drain());
        assert_eq!(result.unwrap().targets, 58);
        outcome
    });
    let mut came: Vec<_> = outcome
        .targets
        .keys()
        .chain(outcome.records.keys())
        .copied()
        .collect();
    came.sort_unstable();
    assert!(came.iter().copied().eq(std::iter::once(7).chain(200..257)));
}

#[test]
fn strictly_the_first_bad_line_ends_it() {
    let server = server();
    let folder = std::env::temp_dir().join(format!("insession-strict-{}", std::process::id()));
    std::fs::write(&folder, "1.1.1.1\nno target\n1.1.1.2\n").unwrap();
    let options = ListOptions {
        files: vec![folder.clone()],
        ..words(&["1.0.0.1"])
    };
    let (result, outcome) = run(async {
        let (mut stage, ends) = stage(&server, &options, Family::Any);
        stage.strict = true;
        tokio::join!(stage.run(), ends.drain())
    });
    let error = result.unwrap_err().to_string();
    let begin = format!(
        "{}:2: \"no target\": more than one field; ",
        folder.display()
    );
    assert!(error.starts_with(&begin), "{error}");
    assert_eq!(outcome.bad.len(), 1);
    assert!(!outcome.order.contains(&"1.1.1.2".to_owned()));
    std::fs::remove_file(folder).unwrap();
}

/// The list in a pipe with one line in it and more to come, never.
fn stalled_list() -> (ListOptions, std::fs::File) {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(format!("insession-stage-{process}-{thread:?}"));
    let _ = std::fs::remove_file(&path);
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    // For both, so that opening waits for nobody.
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    pipe.write_all(b"1.1.1.1\nsilent.example\n").unwrap();
    let options = ListOptions {
        files: vec![path],
        ..ListOptions::default()
    };
    (options, pipe)
}

#[test]
fn it_ends_when_nobody_takes_targets_though_the_list_is_silent() {
    let server = server();
    let (options, _pipe) = stalled_list();
    run(async {
        let (stage, mut ends) = stage(&server, &options, Family::Any);
        let stage = tokio::spawn(stage.run());
        assert_eq!(ends.targets.recv().await.unwrap().name, "1.1.1.1");
        drop(ends.targets);
        let ended = tokio::time::timeout(Duration::from_secs(5), stage).await;
        assert_eq!(ended.unwrap().unwrap().unwrap().targets, 2);
    });
    std::fs::remove_file(&options.files[0]).unwrap();
}

/// Who writes records down waits for the last of them.
#[test]
fn dropped_it_keeps_no_channel_open_though_the_list_is_silent() {
    let server = server();
    let (options, _pipe) = stalled_list();
    run(async {
        let (stage, mut ends) = stage(&server, &options, Family::Any);
        let stage = tokio::spawn(stage.run());
        assert!(ends.targets.recv().await.is_some());
        // By now it waits for the next line.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.abort();
        let rest = tokio::time::timeout(Duration::from_secs(5), ends.drain()).await;
        assert!(rest.unwrap().order.is_empty());
    });
    std::fs::remove_file(&options.files[0]).unwrap();
}

#[test]
fn dropped_it_hands_out_no_more() {
    let server = server();
    run(async {
        let (stage, mut ends) = stage(&server, &words(&["1.0.0.0/16"]), Family::Any);
        let tally = Arc::clone(&stage.tally);
        let stage = tokio::spawn(stage.run());
        for _ in 0..10 {
            assert!(ends.targets.recv().await.is_some());
        }
        stage.abort();
        assert!(stage.await.unwrap_err().is_cancelled());
        // What was in the channel, and the one that the pump had in hand.
        let mut rest = 0;
        while ends.targets.recv().await.is_some() {
            rest += 1;
        }
        assert!(rest <= 6, "{rest}");
        assert!(tally.summary().targets <= 17);
    });
}
