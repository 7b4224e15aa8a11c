//! The command as it is called: what it says, where, and its exit code.
//!
//! Runs as root: what needs a network gets a fresh namespace (`unshare --net`),
//! in which nothing is up but what the test sets up.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Output, Stdio};

const INSESSION: &str = env!("CARGO_BIN_EXE_insession");

/// In this machine's namespace: for lines that end before they touch a network.
fn insession(line: &str) -> Output {
    Command::new(INSESSION)
        .args(line.split_whitespace())
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// In a fresh namespace, after `setup`.
fn in_namespace(setup: &str, line: &str) -> Command {
    in_shell(&format!("{setup} exec {INSESSION} {line}"))
}

/// In fresh namespaces: network and mounts. Who runs the tests may have SIGHUP ignored
/// (nohup(1)): not here.
fn in_shell(script: &str) -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal=HUP", "unshare", "--net", "--mount"])
        .args(["sh", "-c", script])
        .env_remove("RUST_LOG");
    command
}

/// A network whose only neighbour takes everything and answers nothing.
const SILENT: &str = "\
    ip link add ours type veth peer name theirs && ip link set ours up && \
    ip link set theirs up && ip address add 10.9.0.1/24 dev ours && \
    ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev ours && ";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn bad_input_ends_with_2_and_a_reason() {
    for (line, reason) in [
        ("", "Usage: insession"),
        ("trace", "<TARGET>..."),
        ("trace host:0", "\"0\" is no port; write 1 to 65535"),
        ("trace -w soon host", "not a duration; write 500ms or 2s"),
        (
            "trace --rate 0 host",
            "out of range; write packets a second",
        ),
        ("trace --dscp af44 host", "no such DSCP; write 0 to 63"),
        (
            "trace --source-ports 9-8 host",
            "it ends before it begins; write A-B",
        ),
        (
            "trace --request http host",
            "error: --request: --method insession carries none; add --method sidecar",
        ),
        (
            "trace -m sidecar --adopt 192.0.2.1-198.51.100.7 ",
            "is no address and port; write LOCAL:PORT-REMOTE:PORT",
        ),
        (
            "trace -m sidecar --adopt 192.0.2.1:4-198.51.100.7:5 host",
            "cannot be used with",
        ),
        (
            "trace -m sidecar --adopt 192.0.2.1:4-198.51.100.7:5",
            "error: --adopt 192.0.2.1:4-198.51.100.7:5: this host has no such connection",
        ),
        (
            "trace --mtu -m paris-udp host",
            "error: --mtu: it is measured inside a session, and --method paris-udp opens none",
        ),
        (
            "trace -f 5 -M 4 host",
            "error: --first-ttl 5: it is above --max-ttl 4",
        ),
        (
            "trace -o /no/such/folder/f 192.0.2.1",
            "error: --output /no/such/folder/f: ",
        ),
        (
            "trace --pcap /no/such/folder/f 192.0.2.1",
            "error: --pcap /no/such/folder/f: ",
        ),
        ("man nothing", "error: nothing: no such subcommand"),
        ("doctor --what", "unexpected argument"),
    ] {
        let ended = insession(line);
        let error = text(&ended.stderr);
        assert!(error.contains(reason), "{line}: {error}");
        assert_eq!(ended.status.code(), Some(2), "{line}: {error}");
        assert_eq!(text(&ended.stdout), "", "{line}");
    }
}

#[test]
fn help_and_manual_tell_the_exit_codes() {
    for line in ["--help", "trace --help", "trace -h", "man", "man trace"] {
        let ended = insession(line);
        let said = text(&ended.stdout);
        assert!(
            said.contains("interrupted by SIGINT, SIGTERM or SIGHUP"),
            "{line}: {said}"
        );
        assert_eq!(ended.status.code(), Some(0), "{line}");
    }
    let help = insession("trace --help");
    let help = text(&help.stdout);
    for option in [
        "-m, --method",
        "-4",
        "-6",
        "-p, --port",
        "-i, --interface",
        "-s, --source",
        "--source-ports",
        "-f, --first-ttl",
        "-M, --max-ttl",
        "-q, --probes",
        "-w, --timeout",
        "--handshake-timeout",
        "--gap-limit",
        "--dscp",
        "--rate",
        "--sessions",
        "--link",
        "--xdp-mode",
        "--zero-copy",
        "--close",
        "-n",
        "-o, --output",
        "--format",
        "--json",
        "--pcap",
        "--progress",
        "-v, --verbose",
    ] {
        assert!(help.contains(&format!(" {option}")), "{option} in {help}");
    }
}

#[test]
fn an_interface_that_is_not_there_ends_with_4() {
    let ended = in_namespace("", "trace -i eth9 192.0.2.1")
        .output()
        .unwrap();
    assert_eq!(
        text(&ended.stderr),
        "error: interface \"eth9\": no such interface; `ip link` lists them\n"
    );
    assert_eq!(ended.status.code(), Some(4));
}

/// The text's last line and the error are the same sentence: each stream has it,
/// a screen that shows both has it once.
#[test]
fn a_link_that_does_not_open_is_told_once_on_a_screen() {
    let reason = "interface ours: XDP program, attaching it: ";
    // Somebody else's program is not to be had everywhere; native XDP on a
    // bridge is nowhere.
    let setup = "ip link add ours type bridge && ip link set ours up && \
        ip address add 10.9.0.1/24 dev ours && \
        ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev ours && ";
    let line = "trace -n --xdp-mode native 10.9.0.2";
    let ended = in_namespace(setup, line).output().unwrap();
    let (said, error) = (text(&ended.stdout), text(&ended.stderr));
    assert!(
        said.contains(&format!("\nerror: {reason}")),
        "{said}{error}"
    );
    assert!(error.starts_with(&format!("error: {reason}")), "{error}");
    assert_eq!(said.lines().last(), error.lines().last());
    assert_eq!(ended.status.code(), Some(4));

    // script(1) gives it a terminal.
    let script = format!("{setup} exec script -qec '{INSESSION} {line}' /dev/null");
    let ended = in_shell(&script).output().unwrap();
    let screen = text(&ended.stdout);
    assert_eq!(screen.matches(reason).count(), 1, "{screen}");
    assert!(screen.contains(&format!("\nerror: {reason}")), "{screen}");
    assert_eq!(ended.status.code(), Some(4));
}

#[test]
fn a_failed_target_has_its_record_and_ends_with_1() {
    let line = "trace --json 192.0.2.1 nosuch.example.:80 2001:db8::1";
    let ended = in_namespace("", line).output().unwrap();
    assert_eq!(text(&ended.stderr), "");
    let mut seen = Vec::new();
    for line in text(&ended.stdout).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["schema"], "insession.trace/1");
        assert!(
            record["detail"].as_str().unwrap().contains(": "),
            "{record}"
        );
        seen.push(format!("{} {}", record["target"], record["verdict"]));
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            r#""192.0.2.1" "no-route""#,
            r#""2001:db8::1" "no-route""#,
            r#""nosuch.example.:80" "error""#,
        ]
    );
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn without_capabilities_it_ends_with_3_whatever_the_link() {
    for (link, kept, missing) in [
        ("auto", "", "CAP_NET_RAW"),
        ("xdp", "", "CAP_NET_RAW"),
        ("packet", "", "CAP_NET_RAW"),
        ("xdp", ",+net_raw", "CAP_NET_ADMIN"),
        ("xdp", ",+net_raw,+net_admin", "CAP_BPF"),
    ] {
        let bare = format!("exec setpriv --bounding-set=-all{kept} --inh-caps=-all");
        let line = format!("{INSESSION} trace --link {link} --json 10.9.0.2");
        let ended = in_shell(&format!("{SILENT} {bare} {line}"))
            .output()
            .unwrap();
        let error = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{link}: {error}");
        assert!(error.starts_with("error: tracing: "), "{link}: {error}");
        assert!(error.contains(missing), "{link}: {error}");
        assert_eq!(error.lines().count(), 1, "{link}: {error}");
        // Nothing was tried.
        assert_eq!(text(&ended.stdout), "", "{link}");
    }
}

#[test]
fn a_fallback_that_cannot_close_by_fin_says_so() {
    let bare = format!("{SILENT} exec setpriv --bounding-set=-all,+net_raw --inh-caps=-all");
    for (close, said) in [("fin", true), ("rst", false)] {
        let line = format!("trace -n --json --handshake-timeout 1s --close {close} 10.9.0.2");
        let ended = in_shell(&format!("{bare} {INSESSION} {line}"))
            .output()
            .unwrap();
        let error = text(&ended.stderr);
        assert!(error.contains("going on with the packet link"), "{error}");
        assert_eq!(error.contains("warning: --close fin: "), said, "{error}");
        let record: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(record["verdict"], "handshake-timeout", "{error}");
    }
}

#[test]
fn an_interrupt_ends_in_order_with_130() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut running = in_namespace(SILENT, "trace -n --handshake-timeout 10m 10.9.0.2")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(running.stdout.take().unwrap());
        // The header comes as soon as the link is open: then it is under way.
        let mut header = String::new();
        out.read_line(&mut header).unwrap();
        assert!(
            header.starts_with("traceroute in session to 10.9.0.2 (10.9.0.2), port 443, 30 hops max, from 10.9.0.1 over ours (xdp "),
            "{header}"
        );
        // Twice, as timeout(1) does it.
        let pid = running.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &pid, &pid])
            .status()
            .unwrap();
        assert!(kill.success());
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let ended = running.wait_with_output().unwrap();
        assert_eq!(
            rest,
            "interrupted: the run was ended before the trace was done\n"
        );
        assert_eq!(text(&ended.stderr), "");
        assert_eq!(ended.status.code(), Some(130), "{signal}");
    }
}

/// nohup(1) has SIGHUP ignored.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let setup = format!("trap '' HUP && {SILENT}");
    let mut running = in_namespace(&setup, "trace -n --handshake-timeout 10m 10.9.0.2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(running.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    let terminate = 1 << 14;
    assert_eq!(mask("SigIgn:") & 1, 1, "{status}");
    assert_eq!(mask("SigCgt:") & (terminate | 1), terminate, "{status}");
    let kill = Command::new("kill")
        .arg(running.id().to_string())
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(running.wait().unwrap().code(), Some(130));
}

/// Records of more than a pipe takes, and nobody reads on.
#[test]
fn a_reader_that_stalls_cannot_hold_an_interrupted_run() {
    let targets = " 192.0.2.1".repeat(500);
    let mut running = in_namespace("", &format!("trace -n --json{targets}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = running.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let pid = running.id().to_string();
    let kill = Command::new("kill").arg(&pid).status().unwrap();
    assert!(kill.success());
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(running.wait()));
    match ended.recv_timeout(std::time::Duration::from_secs(60)) {
        Ok(status) => assert_eq!(status.unwrap().code(), Some(130)),
        Err(_) => {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            panic!("it did not end");
        }
    }
}

#[test]
fn an_error_that_cannot_be_said_is_still_the_exit_code() {
    let ended = in_namespace("", "trace -vvv -i eth9 192.0.2.1 2>/dev/full")
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(4));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    // The first target fails at once, the second would take ten minutes.
    let line = "trace -n --json --handshake-timeout 10m 192.0.2.1 10.9.0.2";
    let mut running = in_namespace(SILENT, line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    let ended = running.wait_with_output().unwrap();
    assert_eq!(text(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_does_not_end_what_a_file_still_takes() {
    let file = std::env::temp_dir().join(format!("insession-cli-tee-{}", std::process::id()));
    let line = format!(
        "trace -n --json --handshake-timeout 1s -o {} 192.0.2.1 10.9.0.2",
        file.display()
    );
    let mut running = in_namespace(SILENT, &line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    let ended = running.wait_with_output().unwrap();
    let records = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(text(&ended.stderr), "");
    assert_eq!(records.lines().count(), 2, "{records}");
    for verdict in ["no-route", "handshake-timeout"] {
        assert!(
            records.contains(&format!("\"verdict\":\"{verdict}\"")),
            "{records}"
        );
    }
}

#[test]
fn records_reach_the_file_of_an_interrupted_run() {
    let file = std::env::temp_dir().join(format!("insession-cli-{}.jsonl", std::process::id()));
    let line = format!(
        "trace -n -vv --handshake-timeout 10m -o {} 192.0.2.1 10.9.0.2",
        file.display()
    );
    let mut running = in_namespace(SILENT, &line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The link tells by -vv that it is open.
    let mut log = BufReader::new(running.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.contains("opened") {
        assert_ne!(log.read_line(&mut heard).unwrap(), 0, "{heard}");
    }
    assert!(!file.exists());
    let kill = Command::new("kill")
        .args(["-TERM".to_owned(), running.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{heard}{rest}");
    assert_eq!(text(&ended.stdout), "");
    let records = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut verdicts: Vec<String> = records
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {}", record["target"], record["verdict"])
        })
        .collect();
    verdicts.sort();
    assert_eq!(
        verdicts,
        [r#""10.9.0.2" "interrupted""#, r#""192.0.2.1" "no-route""#]
    );
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = std::env::temp_dir().join(format!("insession-cli-full-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    // Room for a hundred of some five hundred records; the mount goes with its
    // namespace.
    let script = format!(
        "mount -t tmpfs -o size=40k none {0} && cd {0} && echo old > out && \
         {INSESSION} trace -o out{1}; echo \"code $?\" && cat out && head -c 40 out.*.partial",
        folder.display(),
        " 192.0.2.1".repeat(500)
    );
    let ended = in_shell(&script).output().unwrap();
    std::fs::remove_dir(&folder).unwrap();
    let (said, error) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(
        said, "code 1\nold\n{\"schema\":\"insession.trace/1\",\"target\":\"",
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.starts_with("error: out: No space left on device (os error 28); make room"),
        "{error}"
    );
    assert!(error.contains("what was written is in "), "{error}");
}

#[test]
fn a_recording_that_is_not_whole_ends_with_1() {
    let line = "trace -n --json --handshake-timeout 1s --pcap /dev/full 10.9.0.2";
    let ended = in_namespace(SILENT, line).output().unwrap();
    let error = text(&ended.stderr);
    assert!(
        error.starts_with("error: --pcap /dev/full: No space left on device (os error 28); "),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let record: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(record["verdict"], "handshake-timeout");
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn doctor_tries_the_interface_it_is_given() {
    let ended = in_namespace(SILENT, "doctor --json -i ours")
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["schema"], "insession.doctor/1");
    assert_eq!(report["ok"], true, "{report}");
    let checks = report["checks"].as_array().unwrap();
    let tried = checks.iter().find(|it| it["check"] == "XDP link on ours");
    let found = tried.unwrap()["found"].as_str().unwrap();
    assert!(found.starts_with("opened: native mode"), "{found}");
    assert_eq!(ended.status.code(), Some(0));

    let ended = in_namespace("", "doctor -i eth9").output().unwrap();
    let said = text(&ended.stdout);
    assert!(
        said.contains("FAIL  interface \"eth9\": no such interface; "),
        "{said}"
    );
    assert_eq!(ended.status.code(), Some(1));
}
