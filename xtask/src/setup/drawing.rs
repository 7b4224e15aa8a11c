//! The library that draws the page of `insession graph`: from the npm registry, pinned
//! by version and digest, below cargo's target folder, where the build script finds it.
//! Nothing of it is kept in this repository.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Need, State};
use crate::{command, paths};

const PACKAGE: &str = "d3";
const VERSION: &str = "7.9.2";
/// SHA-512 of the package as npm packs it, the same that the registry names.
const DIGEST: &str = "64a6ff98e34f54acda3b952571673037c6d2e1ecef41a62ef9bb28bbe5e03400\
                      5d182f34d24c07eb9d400d36db4f130f1d6d77525bdb41a7dd989403935c3b32";
/// What is taken out of it.
const FILES: [&str; 2] = ["package/dist/d3.min.js", "package/LICENSE"];

fn folder() -> PathBuf {
    paths::target().join("drawing")
}

fn library() -> PathBuf {
    folder().join("d3.min.js")
}

/// Says what was installed, once all of it was.
fn stamp() -> PathBuf {
    folder().join("installed")
}

fn package() -> String {
    format!("{PACKAGE}@{VERSION}")
}

/// What is there and what is not.
pub fn needs() -> Vec<Need> {
    vec![Need {
        name: PACKAGE.to_owned(),
        why: "draws the page of `insession graph`",
        state: match is_there() {
            true => State::Present(library().display().to_string()),
            false => State::Missing(format!("npm pack {}", package())),
        },
    }]
}

fn is_there() -> bool {
    let installed = fs::read_to_string(stamp()).unwrap_or_default();
    installed.trim() == format!("{} {DIGEST}", package()) && library().is_file()
}

/// From npm's registry, held against the digest.
pub fn install() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    eprintln!(
        "installing {}: draws the page of `insession graph`",
        package()
    );
    let folder = folder();
    // What is left of another version goes first.
    if folder.is_dir() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    command::run(
        Command::new("npm")
            .args(["pack", "--silent", "--ignore-scripts"])
            .arg(package())
            .arg("--pack-destination")
            .arg(&folder),
    )?;
    let archive = folder.join(format!("{PACKAGE}-{VERSION}.tgz"));
    let summed = command::output("sha512sum", &[&archive.to_string_lossy()])
        .context("sha512sum: cannot be run; install coreutils")?;
    let digest = summed.split_whitespace().next().unwrap_or_default();
    if digest != DIGEST {
        bail!(
            "{}: its SHA-512 is {digest}, not {DIGEST}; take it from a registry that was not tampered with",
            archive.display()
        );
    }
    command::run(
        Command::new("tar")
            .args(["--extract", "--gzip", "--no-same-owner", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&folder)
            .args(FILES),
    )?;
    for file in FILES {
        let name = file.rsplit('/').next().unwrap_or(file);
        fs::rename(folder.join(file), folder.join(name)).with_context(|| file.to_owned())?;
    }
    fs::remove_dir_all(folder.join("package")).context("package: cannot be removed")?;
    fs::remove_file(&archive).with_context(|| archive.display().to_string())?;
    fs::write(stamp(), format!("{} {DIGEST}\n", package())).context("drawing: cannot be noted")
}
