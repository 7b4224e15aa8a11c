//! `cargo xtask test`: every check and every test, in the order in which they
//! fail fastest, and a summary of what was run.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::counts::Counts;
use crate::{build, command, package, paths, tidy, vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the steps whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Go on after a step failed.
    #[arg(long)]
    keep_going: bool,
    /// Also in virtual machines: drivers with zero-copy, several kernels.
    #[arg(long)]
    vm: bool,
}

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<Counts>,
}

const STEPS: &[Step] = &[
    Step {
        name: "tidy",
        what: "rules of this repository",
        run: tidy::run,
    },
    Step {
        name: "fmt",
        what: "cargo fmt --check",
        run: fmt,
    },
    Step {
        name: "clippy",
        what: "no warning in user space and XDP program",
        run: clippy,
    },
    Step {
        name: "docs",
        what: "cargo doc without a warning",
        run: docs,
    },
    Step {
        name: "no-os",
        what: "the protocol core builds for a target without an OS",
        run: no_os,
    },
    Step {
        name: "unit",
        what: "unit, property, XDP and link tests",
        run: unit,
    },
    Step {
        name: "build",
        what: "the release build",
        run: release,
    },
    Step {
        name: "package",
        what: "the Debian package, and the demo with its binary",
        run: package::step,
    },
    Step {
        name: "lab",
        what: "end to end in network namespaces",
        run: lab,
    },
];

/// Only with `--vm`: downloads kernels, and takes a minute a machine.
const VM: Step = Step {
    name: "vm",
    what: "zero-copy and three kernels, in virtual machines",
    run: vm::step,
};

/// Runs them.
pub fn run(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    let mut total = Counts::default();
    let steps = STEPS.iter().chain(args.vm.then_some(&VM));
    for step in steps.filter(|step| {
        args.only
            .as_deref()
            .is_none_or(|part| step.name.contains(part))
    }) {
        eprintln!("\n== {}: {}", step.name, step.what);
        let start = Instant::now();
        let (counts, failure) = match (step.run)() {
            Ok(counts) => (counts, None),
            Err(error) => (
                Counts {
                    failed: 1,
                    ..Counts::default()
                },
                Some(error),
            ),
        };
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        if let Some(error) = &failure {
            eprintln!("error: {}: {error:#}", step.name);
        }
        rows.push((step, counts, start.elapsed()));
        if counts.failed > 0 && !args.keep_going {
            break;
        }
    }
    if rows.is_empty() {
        bail!(
            "--only {}: no such step; there are {}",
            args.only.as_deref().unwrap_or_default(),
            names()
        );
    }
    summary(&rows);
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    if total.passed == 0 {
        bail!("nothing was tested");
    }
    Ok(())
}

fn names() -> String {
    STEPS
        .iter()
        .map(|step| step.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn summary(rows: &[(&Step, Counts, Duration)]) {
    println!(
        "\n{:8} {:>7} {:>7} {:>8} {:>8}  what",
        "step", "passed", "failed", "skipped", "seconds"
    );
    for (step, counts, took) in rows {
        println!(
            "{:8} {:7} {:7} {:8} {:8.1}  {}",
            step.name,
            counts.passed,
            counts.failed,
            counts.skipped,
            took.as_secs_f64(),
            step.what
        );
    }
    println!();
}

/// The measuring half of `cargo xtask bench` is checked as everything else.
const BENCH: &str = "xtask/bench";

fn fmt() -> Result<Counts> {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))?;
    command::run(ebpf().args(["fmt", "--check"]))?;
    Ok(Counts::ONE)
}

fn clippy() -> Result<Counts> {
    command::run(command::cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--features",
        BENCH,
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    command::run(bpf_target(&mut ebpf()).args(["--", "-D", "warnings"]))?;
    Ok(Counts::ONE)
}

fn docs() -> Result<Counts> {
    command::run(command::cargo().env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--locked",
        "--workspace",
        "--features",
        BENCH,
        "--no-deps",
        "--document-private-items",
    ]))?;
    Ok(Counts::ONE)
}

/// `wire`, `session`, `trace` and `time` for a target that has neither system
/// calls nor a clock nor threads: they cannot use what is not there.
fn no_os() -> Result<Counts> {
    command::run(command::cargo().env("RUSTC_BOOTSTRAP", "1").args([
        "check",
        "--locked",
        "--package",
        "insession",
        "--lib",
        "--no-default-features",
        "-Z",
        "build-std=core,alloc",
        "--target",
        "x86_64-unknown-none",
    ]))?;
    Ok(Counts::ONE)
}

fn release() -> Result<Counts> {
    build::release()?;
    Ok(Counts::ONE)
}

fn unit() -> Result<Counts> {
    tests(command::cargo().args([
        "test",
        "--locked",
        "--workspace",
        "--features",
        BENCH,
        "--exclude",
        "insession-lab",
        "--no-fail-fast",
    ]))
}

fn lab() -> Result<Counts> {
    tests(
        command::cargo()
            .env("INSESSION_BIN", paths::insession())
            .args([
                "test",
                "--locked",
                "--package",
                "insession-lab",
                "--no-fail-fast",
            ]),
    )
}

/// cargo in the XDP program's own workspace.
fn ebpf() -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(paths::root().join("insession-ebpf"));
    cargo
}

/// Clippy for the BPF target: `core` is built from source, which the stable
/// compiler does when told that it may.
fn bpf_target(cargo: &mut Command) -> &mut Command {
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", paths::target().join("ebpf-clippy"))
        .args([
            "clippy",
            "--locked",
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
        ])
}

/// Runs `cargo test`, shows its output and adds up its result lines.
fn tests(cargo: &mut Command) -> Result<Counts> {
    let shown = command::line(cargo);
    eprintln!("$ {shown}");
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown}: cannot be started"))?;
    let output = child.stdout.take().context("no standard output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the tests' output")?;
        println!("{line}");
        if let Some(result) = line.strip_prefix("test result: ") {
            counts.passed += count(result, "passed");
            counts.failed += count(result, "failed");
            counts.skipped += count(result, "ignored");
        }
    }
    let status = child.wait().with_context(|| shown.clone())?;
    if !status.success() && counts.failed == 0 {
        bail!("{shown}: {status}");
    }
    if counts.passed + counts.failed == 0 {
        bail!("{shown}: ran no test");
    }
    Ok(counts)
}

/// The number in front of `word` in a result line of the test harness.
fn count(result: &str, word: &str) -> u64 {
    result
        .split(';')
        .find_map(|part| {
            let mut words = part.split_whitespace().rev();
            (words.next()? == word).then(|| words.next()?.parse().ok())?
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn result_lines_are_added_up() {
        let line =
            "FAILED. 41 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s";
        assert_eq!(
            (
                count(line, "passed"),
                count(line, "failed"),
                count(line, "ignored")
            ),
            (41, 2, 1)
        );
    }
}
