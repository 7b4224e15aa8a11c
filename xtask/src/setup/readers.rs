//! Others' readers of the formats we write: the tests read our files with them.
//! Python's in a virtual environment, pantrace by cargo, all of it below cargo's target
//! folder: nothing of the system's changes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Need, State};
use crate::{command, paths};

/// From PyPI, in versions that were tried together.
const PYTHON: &[&str] = &[
    "duckdb==2.0.1",
    "jsonschema==4.26.0",
    "networkx==3.6.1",
    "pandas==3.1.1",
    "pyarrow==26.0.1",
    "pydot==4.0.1",
    "ripe.atlas.sagan==2.0.1",
];
const PANTRACE: &str = "0.6.2";

fn folder() -> PathBuf {
    paths::target().join("readers")
}

fn python() -> PathBuf {
    folder().join("venv/bin/python3")
}

/// Says what was installed, once all of it was: asking pip takes a second.
fn stamp() -> PathBuf {
    folder().join("installed")
}

/// What is there and what is not.
pub fn needs() -> Vec<Need> {
    let state = |there: bool, place: PathBuf, mend: String| match there {
        true => State::Present(place.display().to_string()),
        false => State::Missing(mend),
    };
    vec![
        Need {
            name: "python readers".to_owned(),
            why: "read our Parquet, CSV, JSON, graphs as users do",
            state: state(
                has_python(),
                python(),
                format!("pip install {}", PYTHON.join(" ")),
            ),
        },
        Need {
            name: "pantrace".to_owned(),
            why: "reads our RIPE Atlas results",
            state: state(
                has_pantrace(),
                folder().join("bin/pantrace"),
                format!("cargo install pantrace@{PANTRACE}"),
            ),
        },
    ]
}

/// From PyPI and cargo's registry.
pub fn install() -> Result<()> {
    if !has_python() {
        install_python()?;
    }
    if !has_pantrace() {
        install_pantrace()?;
    }
    Ok(())
}

fn has_python() -> bool {
    let installed = fs::read_to_string(stamp()).unwrap_or_default();
    installed.lines().eq(PYTHON.iter().copied()) && python().is_file()
}

fn install_python() -> Result<()> {
    eprintln!("installing readers from PyPI: the tests read our files with them (about 100 MB)");
    fs::create_dir_all(folder()).context("readers: their folder cannot be made")?;
    let venv = folder().join("venv");
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    command::run(
        Command::new(python())
            .args(["-m", "pip", "install", "--quiet"])
            .args(PYTHON),
    )?;
    let mut installed = PYTHON.join("\n");
    installed.push('\n');
    fs::write(stamp(), installed).context("readers: cannot be noted")
}

fn has_pantrace() -> bool {
    let program = folder().join("bin/pantrace");
    let version = command::output(&program.to_string_lossy(), &["--version"]);
    version.is_some_and(|version| version.split_whitespace().last() == Some(PANTRACE))
}

fn install_pantrace() -> Result<()> {
    eprintln!("installing pantrace {PANTRACE}: reads our RIPE Atlas results (about 60 s)");
    command::run(
        command::cargo()
            .args(["install", "--locked", "--force"])
            .arg(format!("pantrace@{PANTRACE}"))
            .arg("--root")
            .arg(folder())
            // Built apart: its dependencies are none of ours.
            .env("CARGO_TARGET_DIR", folder().join("build")),
    )?;
    let build = folder().join("build");
    if let Err(error) = fs::remove_dir_all(&build) {
        eprintln!("warning: {}: {error}", build.display());
    }
    Ok(())
}
