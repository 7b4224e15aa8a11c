//! The eBPF toolchain: bpf-linker, and the standard library's source for the
//! pinned compiler (`core` is built for the BPF target).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::apt::{self, Apt};
use super::{Need, State};
use crate::{command, paths};

const BPF_LINKER: &str = "0.10.1";

/// rustup waits for ever behind a firewall that swallows packets; an answer
/// takes a second, the 3 MB download a minute on a slow line.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// What is there and what is not.
pub fn needs() -> Vec<Need> {
    let state = |found: Option<String>, mend: String| match found {
        Some(found) => State::Present(found),
        None => State::Missing(mend),
    };
    vec![
        Need {
            name: "bpf-linker".to_owned(),
            why: "links the XDP program",
            state: state(
                bpf_linker(),
                format!("cargo install bpf-linker@{BPF_LINKER}"),
            ),
        },
        Need {
            name: "rust-src".to_owned(),
            why: "`core` is built for the BPF target from it",
            state: state(rust_src(), "rustup component add rust-src".to_owned()),
        },
    ]
}

/// Through cargo, from its registry.
pub fn install_bpf_linker() -> Result<()> {
    if bpf_linker().is_some() {
        return Ok(());
    }
    eprintln!("installing bpf-linker {BPF_LINKER}: links the XDP program (about 90 s)");
    command::run(command::cargo().args([
        "install",
        "--locked",
        "--force",
        &format!("bpf-linker@{BPF_LINKER}"),
    ]))?;
    if bpf_linker().is_none() {
        bail!(
            "bpf-linker {BPF_LINKER}: installed, but not found on the path; put cargo's bin folder (~/.cargo/bin) on PATH"
        );
    }
    Ok(())
}

/// By the first way that works: there already, rustup, Debian's package of the
/// very same version.
pub fn install_rust_src() -> Result<()> {
    if rust_src().is_some() {
        return Ok(());
    }
    eprintln!("installing rust-src: `core` is built for the BPF target from it");
    if command::output("rustup", &["--version"]).is_some() {
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(paths::root())
            .args(["component", "add", "rust-src"]);
        if command::run_within(&mut rustup, RUSTUP_LIMIT)? && rust_src().is_some() {
            return Ok(());
        }
    }
    eprintln!("rustup cannot bring it; trying Debian's rust-src package of the same version");
    from_debian().context(
        "rust-src: neither rustup nor Debian could bring the standard library's source for this compiler; \
         run `rustup component add rust-src` where there is a connection",
    )
}

fn bpf_linker() -> Option<String> {
    let version = command::output("bpf-linker", &["--version"])?;
    let version = version.trim();
    (version.split_whitespace().last()? == BPF_LINKER).then(|| version.to_owned())
}

fn library() -> Option<PathBuf> {
    let sysroot = command::output("rustc", &["--print", "sysroot"])?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

fn rust_src() -> Option<String> {
    let library = library()?;
    // The lock file is what `-Z build-std` asks for first.
    library
        .join("Cargo.lock")
        .is_file()
        .then(|| library.display().to_string())
}

/// The suites that carry newer compilers for Debian's stable release.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Debian ships the library's source as a package. It is only unpacked, into
/// the compiler's own folder.
fn from_debian() -> Result<()> {
    let version = command::output("rustc", &["--version"]).context("rustc: does not run")?;
    let version = version
        .split_whitespace()
        .nth(1)
        .context("rustc: prints no version")?
        .to_owned();
    let library = library().context("rustc: prints no sysroot")?;
    let work = Scratch::new()?;
    for suite in SUITES {
        let apt = Apt::new(&work.0, suite)?;
        if apt.update().is_err() {
            continue;
        }
        // The very same version or none, `core` must match the compiler exactly.
        let versions = apt.versions("rust-src")?;
        let Some(package) = versions
            .iter()
            .find(|candidate| candidate.split(['+', '-']).next() == Some(version.as_str()))
        else {
            eprintln!("  {suite}: no rust-src {version}");
            continue;
        };
        let archives = apt.download(&[format!("rust-src={package}")], &work.0.join("package"))?;
        let tree = work.0.join("tree");
        for archive in &archives {
            apt::unpack(archive, &tree)?;
        }
        let source = tree.join(format!("usr/src/rustc-{version}/library"));
        let parent = library.parent().context("sysroot has no parent")?;
        fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot be made", parent.display()))?;
        command::run(Command::new("cp").arg("-r").arg(&source).arg(parent))?;
        if rust_src().is_none() {
            bail!("Debian's rust-src {package} holds no library/Cargo.lock");
        }
        return Ok(());
    }
    bail!("no suite of {} has rust-src {version}", SUITES.join(", "))
}

/// A folder of our own that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = paths::target().join(format!("rust-src-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("{}: cannot be made", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {}: {error}", self.0.display());
        }
    }
}
