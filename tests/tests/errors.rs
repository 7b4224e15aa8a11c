//! Errors: their words and their exit codes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{assert_right, server, trace};
use insession_lab::Lab;
use insession_lab::foreign::{self, Foreign};
use insession_lab::program::{self, Run, Running};

/// `error: …` on standard error; on standard output nothing but records that
/// say `error` themselves, which there are none of after bad usage.
fn assert_error(run: &Run, code: i32) {
    assert_eq!(run.code, Some(code), "{run:?}");
    for record in run.records().unwrap() {
        assert_eq!(record.verdict, "error");
        assert_ne!(code, 2);
    }
    let line = run
        .errors
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_else(|| panic!("no line `error: …` in {run:?}"));
    assert!(!line.contains("panicked"));
}

fn assert_mend(run: &Run) {
    let line = run
        .errors
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap();
    assert!(
        line.matches(": ").count() >= 2,
        "WHAT: WHY is missing: {line}"
    );
    assert!(line.contains("; "), "no mend: {line}");
}

#[test]
fn bad_usage_is_2() {
    let lab = Lab::up("chain").unwrap();
    for arguments in [
        &["trace"][..],
        &["trace", "-4", "-6", "10.9.0.1"],
        &["trace", "-p", "0", "10.9.0.1"],
        &["trace", "-q", "0", "10.9.0.1"],
        &["trace", "-w", "soon", "10.9.0.1"],
        &["trace", "--rate", "fast", "10.9.0.1"],
        &["trace", "--source-ports", "9-1", "10.9.0.1"],
        &["trace", "-f", "9", "-M", "3", "10.9.0.1"],
        &["trace", "--mtu", "-m", "icmp", "10.9.0.1"],
        &["run", "--mtu", "--share-near-hops", "10.9.0.1"],
        &["compare", "--mtu", "10.9.0.1"],
        &["trace", "--nonsense", "10.9.0.1"],
        &["trace", "10.9.0.1:port"],
        &["nonsense"],
    ] {
        let run = program::run(&lab, "client", arguments).unwrap();
        assert_error(&run, 2);
    }
}

#[test]
fn an_interface_that_is_not_there_is_4() {
    let lab = Lab::up("chain").unwrap();
    let run = program::trace(&lab, &["-i", "eth7", "10.9.0.1"]).unwrap();
    assert_error(&run, 4);
    assert_mend(&run);
    assert!(run.errors.contains("eth7"));
}

#[test]
fn no_rights_is_3() {
    let lab = Lab::up("chain").unwrap();
    for link in ["auto", "xdp", "packet"] {
        let mut command = lab.command("client", "setpriv");
        command
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(program::binary().unwrap())
            .args(["trace", "--json", "--link", link, "-p", "80", "10.9.0.1"]);
        let run = Running::spawn(&mut command)
            .unwrap()
            .finish(program::LIMIT)
            .unwrap();
        assert_error(&run, 3);
        assert_mend(&run);
        assert!(
            run.errors.contains("CAP_"),
            "names the capability: {}",
            run.errors
        );
    }
}

#[test]
fn somebody_elses_xdp_program_is_named_and_left_alone() {
    let lab = Lab::up("chain").unwrap();
    let foreign = Foreign::attach(&lab, "client", "eth0").unwrap();
    let before = shown(&lab);
    assert!(before.contains("xdp"), "{before}");
    let run = program::trace(&lab, &["--link", "xdp", "-p", "80", "10.9.0.1"]).unwrap();
    assert_error(&run, 4);
    assert_mend(&run);
    assert!(run.errors.contains(foreign::NAME), "{}", run.errors);
    assert_eq!(shown(&lab), before);
    drop(foreign);
    let record = trace(&lab, &["--link", "xdp", "-p", "80", "10.9.0.1"]);
    assert_right(&lab, &record);
}

fn shown(lab: &Lab) -> String {
    lab.run("client", "ip", &["-d", "link", "show", "dev", "eth0"], "")
        .unwrap()
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let lab = Lab::up("chain").unwrap();
    let mut command = lab.command("client", "sh");
    command
        .args(["-c", "\"$0\" trace --json -p 80 \"$1\" | true"])
        .arg(program::binary().unwrap())
        .arg(server(&lab, false));
    let run = Running::spawn(&mut command)
        .unwrap()
        .finish(program::LIMIT)
        .unwrap();
    assert!(!run.errors.contains("panicked"), "{}", run.errors);
    assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
}
