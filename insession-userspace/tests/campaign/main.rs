//! `insession run` against the reflector: every target exactly once, whatever
//! happens to the process. Needs root, `ip` and `ethtool`; without them it fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, may panic")]

#[path = "../bed/mod.rs"]
mod bed;
mod folder;
mod program;

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use insession::report::json::read;
use insession::testbed::{self, Bed};
use insession::trace::{Trace, Verdict};
use insession_common::reflect::Network;

use bed::in_a_bed;
use folder::Folder;
use program::Run;

/// A network with something of everything, and short paths.
fn network() -> Network {
    Network {
        silent: 2000,
        mpls: 10_000,
        mute: 100,
        refuse: 600,
        ..Network::default()
    }
}

/// A list of the first targets of the bed.
fn list(folder: &Folder, count: u64) -> std::path::PathBuf {
    let path = folder.path("targets.txt");
    let lines: String = testbed::targets(count)
        .map(|target| format!("{target}\n"))
        .collect();
    std::fs::write(&path, lines).unwrap();
    path
}

/// The records of a file of JSON lines.
fn records(path: &Path) -> Vec<Trace> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| read(line).unwrap()).collect()
}

/// Every target has one record, which is the truth.
fn assert_exactly_once(network: &Network, path: &Path, count: u64) -> HashMap<Verdict, u64> {
    let mut times: HashMap<String, u64> = HashMap::new();
    let mut verdicts = HashMap::new();
    for trace in records(path) {
        testbed::check(network, &trace).unwrap();
        *verdicts.entry(trace.verdict).or_default() += 1;
        *times.entry(trace.target).or_default() += 1;
    }
    for target in testbed::targets(count) {
        assert_eq!(times.remove(&target.to_string()), Some(1), "{target}");
    }
    assert!(times.is_empty(), "nobody asked for {times:?}");
    verdicts
}

fn counted(bed: &Bed, label: &str) -> u64 {
    let counters: HashMap<_, _> = bed.counters().into_iter().collect();
    counters[label]
}

#[test]
fn killed_again_and_again_it_traces_every_target_exactly_once() {
    const TARGETS: u64 = 4000;
    const SESSIONS: u64 = 200;
    let network = network();
    in_a_bed(network, |bed| {
        let folder = Folder::new("campaign-killed");
        let (list, campaign) = (list(&folder, TARGETS), folder.path("c"));
        let (lines, table) = (folder.path("out.jsonl"), folder.path("out.csv.zst"));
        let common = |run: Run| run.option("--rate", "30k").option("--sessions", SESSIONS);
        let mut run = common(Run::new())
            .option("--targets", list.display())
            .option("--allow", "10.0.0.0/8")
            .option("--campaign", campaign.display())
            .option("--output", lines.display())
            .option("--output", table.display());
        let mut kills = 0;
        // Moments that are not the same in every run would make a failure hard to
        // see again: they spread over all that a run does, from opening on.
        for nth in 0..40u64 {
            let moment = Duration::from_millis(20 + nth * nth * 7919 % 411);
            let mut program = run.spawn();
            if program.ends_within(moment) {
                break;
            }
            program.kill();
            kills += 1;
            assert!(
                !lines.exists(),
                "results have their name when they are whole"
            );
            // Before there is a plan nothing was begun.
            if campaign.join("plan.toml").exists() {
                run = common(Run::new()).option("--resume", campaign.display());
            }
        }
        let end = run.spawn().finish(Duration::from_secs(120));
        assert!(matches!(end.code, Some(0)), "{end:?}");
        assert!(kills >= 5, "it was over after {kills} kills");
        let verdicts = assert_exactly_once(&network, &lines, TARGETS);
        assert!(verdicts[&Verdict::Complete] > 3000, "{verdicts:?}");
        // The reflector knows how often a session was opened.
        let opened = counted(bed, "syn-ack");
        let most = TARGETS + kills * SESSIONS;
        assert!(
            opened <= most,
            "{opened} sessions, {kills} kills: at most {most}"
        );
        let text = zstd::decode_all(std::fs::File::open(&table).unwrap()).unwrap();
        let heads = text
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(b"capture_timestamp"));
        assert_eq!(heads.count(), 1);
        // It is finished, and stays so.
        let again = Run::new().option("--resume", campaign.display()).spawn();
        let again = again.finish(Duration::from_secs(30));
        assert_eq!(again.code, Some(0));
        assert!(again.stderr.contains("is finished"), "{again:?}");
        assert_eq!(counted(bed, "syn-ack"), opened);
    });
}

#[test]
fn a_signal_lets_open_sessions_finish_and_the_rest_be_resumed() {
    const TARGETS: u64 = 3000;
    let network = network();
    in_a_bed(network, |bed| {
        let folder = Folder::new("campaign-drained");
        let (list, campaign) = (list(&folder, TARGETS), folder.path("c"));
        let lines = folder.path("out.jsonl");
        let mut program = Run::new()
            .option("--rate", "10k")
            .option("--targets", list.display())
            .option("--allow", "10.0.0.0/8")
            .option("--campaign", campaign.display())
            .option("--output", lines.display())
            .spawn();
        assert!(!program.ends_within(Duration::from_millis(1500)));
        program.signal("USR1");
        program.wait_for("verdicts: complete", Duration::from_secs(10));
        program.signal("INT");
        let end = program.finish(Duration::from_secs(60));
        assert_eq!(end.code, Some(130), "{end:?}");
        assert!(end.stderr.contains("--resume"), "{end:?}");
        assert!(!lines.exists());
        let opened = counted(bed, "syn-ack") + counted(bed, "refused");
        assert!(opened > 0 && opened < TARGETS);
        let end = Run::new()
            .option("--resume", campaign.display())
            .option("--rate", "100k")
            .spawn()
            .finish(Duration::from_secs(120));
        assert_eq!(end.code, Some(0), "{end:?}");
        assert_exactly_once(&network, &lines, TARGETS);
        // None was cut off: none was traced twice.
        let answered = counted(bed, "syn-ack") + counted(bed, "refused");
        assert!(
            answered <= TARGETS,
            "{answered} sessions for {TARGETS} targets"
        );
    });
}

#[test]
fn a_full_disk_is_waited_for() {
    const TARGETS: u64 = 3000;
    let network = network();
    in_a_bed(network, |_bed| {
        let folder = Folder::new("campaign-full");
        let list = list(&folder, TARGETS);
        let disk = folder.path("disk");
        std::fs::create_dir(&disk).unwrap();
        let (campaign, lines) = (disk.join("c"), disk.join("out.jsonl"));
        let mut program = Run::new()
            .option("--targets", list.display())
            .option("--allow", "10.0.0.0/8")
            .option("--campaign", campaign.display())
            .option("--output", lines.display())
            .on_a_disk_of("2m", &disk)
            .spawn();
        program.wait_for("the disk is full", Duration::from_secs(60));
        assert!(
            !program.ends_within(Duration::from_millis(500)),
            "it pauses"
        );
        program.enlarge_disk("200m", &disk);
        program.wait_for("there is room again", Duration::from_secs(30));
        // The disk goes with the process, unless somebody has it open.
        let disk = program.disk(&disk);
        let end = program.finish(Duration::from_secs(120));
        assert_eq!(end.code, Some(0), "{end:?}");
        let lines = format!("/proc/self/fd/{}/out.jsonl", disk.as_raw_fd());
        assert_exactly_once(&network, Path::new(&lines), TARGETS);
    });
}

#[test]
fn a_full_disk_does_not_hold_up_the_end() {
    in_a_bed(network(), |_bed| {
        let folder = Folder::new("campaign-full-end");
        let list = list(&folder, 3000);
        let disk = folder.path("disk");
        std::fs::create_dir(&disk).unwrap();
        let mut program = Run::new()
            .option("--targets", list.display())
            .option("--allow", "10.0.0.0/8")
            .option("--campaign", disk.join("c").display())
            .option("--grace", "1s")
            .on_a_disk_of("2m", &disk)
            .spawn();
        program.wait_for("the disk is full", Duration::from_secs(60));
        program.signal("TERM");
        // Stuck it would be ended by force half a minute after the grace, with no word.
        let end = program.finish(Duration::from_secs(20));
        assert_eq!(end.code, Some(130), "{end:?}");
        for words in [
            "No space left on device",
            "go on with: insession run --resume",
        ] {
            assert!(end.stderr.contains(words), "{end:?}");
        }
    });
}

#[test]
fn a_list_that_changed_is_not_resumed() {
    in_a_bed(network(), |_bed| {
        let folder = Folder::new("campaign-changed");
        let (list, campaign) = (list(&folder, 500), folder.path("c"));
        let mut program = Run::new()
            .option("--rate", "500")
            .option("--targets", list.display())
            .option("--allow", "10.0.0.0/8")
            .option("--campaign", campaign.display())
            .spawn();
        assert!(!program.ends_within(Duration::from_millis(700)));
        let second = Run::new().option("--resume", campaign.display()).spawn();
        let second = second.finish(Duration::from_secs(30));
        assert_eq!(second.code, Some(2));
        assert!(
            second.stderr.contains("another process runs this campaign"),
            "{second:?}"
        );
        program.kill();
        std::fs::write(&list, "10.0.0.1\n").unwrap();
        let end = Run::new().option("--resume", campaign.display()).spawn();
        let end = end.finish(Duration::from_secs(30));
        assert_eq!(end.code, Some(2));
        assert!(
            end.stderr.contains("was changed since the campaign began"),
            "{end:?}"
        );
    });
}
