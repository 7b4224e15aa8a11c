//! `cargo xtask bench`: builds what measures, in release, and hands over to it.
//!
//! The measuring half (`main.rs` beside this file) is a program of its own: it
//! needs the library, which this one must do without (`xtask/Cargo.toml`), and
//! optimised code, which `cargo xtask` does not have.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::{build, command, paths, setup};

/// Options of `cargo xtask bench`: all of them are those of the program that
/// measures; `cargo xtask bench --help` shows them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Handed over.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds and measures.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure_for_bench()?;
    build::release()?;
    build()?;
    let mut bench = Command::new(paths::target().join("release/xtask-bench"));
    bench
        .current_dir(paths::root())
        .arg("--built")
        .arg(paths::target().join("release"))
        .args(&args.rest);
    command::run(&mut bench)
}

/// Builds what measures.
pub fn build() -> Result<()> {
    for what in [
        &["--package", "insession", "--example", "instructions"][..],
        &[
            "--package",
            "xtask",
            "--features",
            "bench",
            "--bin",
            "xtask-bench",
        ],
    ] {
        let mut cargo = command::cargo();
        command::run(cargo.args(["build", "--locked", "--release"]).args(what))?;
    }
    Ok(())
}
