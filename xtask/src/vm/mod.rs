//! `cargo xtask vm`: AF_XDP on drivers that have zero-copy, in virtual machines.
//!
//! Debian kernels boot in QEMU (software emulation: no KVM is needed) with two
//! emulated cards on one wire; `insession-vm-guest` states what it finds, and
//! what it should find stands in [`matrix`].

mod files;
mod kernel;
mod matrix;
mod qemu;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::counts::Counts;
use crate::{paths, setup};

use files::Programs;
use kernel::Kernel;
use matrix::{CELLS, Cell};
use qemu::Qemu;

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the virtual machines whose name contains this.
    #[arg(long, value_name = "CELL")]
    only: Option<String>,
    /// Show their consoles.
    #[arg(long, short)]
    verbose: bool,
    /// Look for newer kernels than those of an earlier run.
    #[arg(long)]
    update: bool,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|part| {
            // A whole name is that cell alone: one may be the start of another.
            let whole = CELLS.iter().any(|cell| cell.name == part);
            name == part || (!whole && name.contains(part))
        })
    }
}

/// A line of the table: what was stated and what should have been.
struct Row {
    cell: &'static str,
    fact: String,
    expected: String,
    got: String,
    seconds: f64,
}

impl Row {
    fn holds(&self) -> bool {
        self.expected == self.got
    }
}

/// A cell that could not be run here, and why.
struct Skipped {
    cell: &'static str,
    reason: String,
}

/// Runs them; an error when anything differs.
pub fn run(args: &Args) -> Result<()> {
    let counts = cells(args)?;
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed > 0 {
        bail!("{} facts differ", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no virtual machine ran");
    }
    Ok(())
}

/// As a step of `cargo xtask test`.
pub fn step() -> Result<Counts> {
    cells(&Args {
        only: None,
        verbose: false,
        update: false,
    })
}

fn cells(args: &Args) -> Result<Counts> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernels and cards of the matrix are those of x86_64");
    }
    let chosen: Vec<_> = CELLS.iter().filter(|cell| args.wants(cell.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = CELLS.iter().map(|cell| cell.name).collect();
        bail!("--only: no such cell; there are {}", names.join(", "));
    }
    setup::ensure_vm()?;
    let vm = paths::target().join("vm");
    let programs = Programs::build()?;
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for cell in chosen {
        match ready(cell, &vm, args.update) {
            Ok((kernel, qemu)) => {
                eprintln!(
                    "\n== {}: Linux {}, QEMU {}",
                    cell.name, kernel.version, qemu.version
                );
                rows.extend(boot(cell, &kernel, &qemu, &programs, &vm, args.verbose)?);
            }
            // Neither is ours: a mirror without the kernel, a system without the QEMU.
            Err(error) => {
                let reason = format!("{error:#}");
                eprintln!("\n== {}: skipped: {reason}", cell.name);
                let cell = cell.name;
                skipped.push(Skipped { cell, reason });
            }
        }
    }
    print(&rows, &skipped);
    let failed = rows.iter().filter(|row| !row.holds()).count() as u64;
    Ok(Counts {
        passed: rows.len() as u64 - failed,
        failed,
        skipped: skipped.len() as u64,
    })
}

fn ready(cell: &Cell, vm: &Path, update: bool) -> Result<(Kernel, Qemu)> {
    Ok((
        Kernel::get(cell.kernel, vm, update)?,
        Qemu::get(cell.card.since(), vm)?,
    ))
}

/// Boots one and compares what it states.
fn boot(
    cell: &Cell,
    kernel: &Kernel,
    qemu: &Qemu,
    programs: &Programs,
    vm: &Path,
    verbose: bool,
) -> Result<Vec<Row>> {
    let folder = vm.join(cell.name);
    let initramfs = files::pack(programs, kernel, cell, &folder)?;
    let start = Instant::now();
    let mut console = String::new();
    let ended = qemu.run(kernel, &initramfs, &cell.card.arguments(), &mut |line| {
        if verbose {
            eprintln!("{:6.1} {line}", start.elapsed().as_secs_f64());
        }
        console.push_str(line);
        console.push('\n');
    });
    let seconds = start.elapsed().as_secs_f64();
    // Sixty megabytes a cell; the console is what is looked at afterwards.
    std::fs::remove_file(&initramfs)?;
    std::fs::write(folder.join("console"), &console)?;
    let mut rows = judge(cell, &console);
    let whole = match ended {
        Ok(()) if console.contains("@vm end") => "ended".to_owned(),
        Ok(()) => "switched itself off early".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    rows.push(Row {
        cell: cell.name,
        fact: "whole".to_owned(),
        expected: "ended".to_owned(),
        got: whole,
        seconds,
    });
    if rows.iter().any(|row| !row.holds()) && !verbose {
        let from = console.lines().count().saturating_sub(60);
        for line in console.lines().skip(from) {
            eprintln!("  {line}");
        }
        eprintln!("  (whole console: {})", folder.join("console").display());
    }
    Ok(rows)
}

/// Every fact that is expected, beside what was stated.
fn judge(cell: &Cell, console: &str) -> Vec<Row> {
    cell.facts
        .iter()
        .map(|&(fact, expected)| {
            let stated = console.lines().find_map(|line| {
                let mut words = line.split_once("@vm ")?.1.split('\t');
                (words.next()? == fact).then_some(())?;
                Some((words.next()?, words.next()?.parse().unwrap_or(0.0)))
            });
            let (got, seconds) = stated.unwrap_or(("not stated", 0.0));
            Row {
                cell: cell.name,
                fact: fact.to_owned(),
                expected: expected.to_owned(),
                got: got.to_owned(),
                seconds,
            }
        })
        .collect()
}

fn print(rows: &[Row], skipped: &[Skipped]) {
    println!(
        "\n{:19} {:12} {:46} {:46} {:>7}",
        "cell", "fact", "expected", "got", "seconds"
    );
    for row in rows {
        let mark = if row.holds() { "" } else { "  DIFFERS" };
        println!(
            "{:19} {:12} {:46} {:46} {:7.1}{mark}",
            row.cell, row.fact, row.expected, row.got, row.seconds
        );
    }
    for Skipped { cell, reason } in skipped {
        println!("{cell:19} skipped: {reason}");
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_on_a_console_and_missed_where_they_are_not() {
        let cell = &CELLS[0];
        let console = "[ 1.0] noise @vm driver\tvirtio_net\t0.1\n@vm auto\tnative copy\t2.5\n";
        let rows = judge(cell, console);
        assert_eq!(rows.len(), cell.facts.len());
        assert!(rows[0].holds());
        assert_eq!(rows[1].got, "native copy");
        assert!(!rows[1].holds());
        assert_eq!(rows[2].got, "not stated");
    }
}
