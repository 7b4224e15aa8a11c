//! `cargo xtask setup`: what a fresh machine misses, installed, with what and why.
//!
//! Five kinds of things: Debian packages ([`debian`]), the eBPF toolchain
//! ([`toolchain`]), the library that draws graphs ([`drawing`]), others' readers of our
//! files ([`readers`]), and what cannot be installed: kernel and rights ([`kernel`]).

pub mod apt;
mod debian;
mod drawing;
mod kernel;
mod readers;
mod toolchain;

use anyhow::{Result, bail};

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Only list what is there and what is missing.
    #[arg(long)]
    check: bool,
}

/// One thing that is needed.
struct Need {
    name: String,
    why: &'static str,
    state: State,
}

/// Whether it is there.
enum State {
    /// There, in this version or place.
    Present(String),
    /// Missing; `cargo xtask setup` installs it.
    Missing(String),
    /// Missing, and nothing that can be installed: says the mend.
    Impossible(String),
}

/// Runs `cargo xtask setup`.
pub fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    ensure()?;
    check()
}

/// Installs what is missing; silent and quick when nothing is.
pub fn ensure() -> Result<()> {
    for need in kernel::needs() {
        if let State::Impossible(reason) = &need.state {
            bail!("{}: {reason}", need.name);
        }
    }
    debian::install(debian::PACKAGES)?;
    toolchain::install_bpf_linker()?;
    toolchain::install_rust_src()?;
    drawing::install()?;
    readers::install()
}

/// Installs what virtual machines need besides.
pub fn ensure_vm() -> Result<()> {
    debian::install(debian::VM)
}

/// Installs what `cargo xtask bench` needs beside that.
pub fn ensure_for_bench() -> Result<()> {
    debian::install(debian::BENCH)
}

/// Installs what `cargo xtask page-check` needs beside that.
pub fn ensure_for_pages() -> Result<()> {
    debian::install(debian::PAGES)
}

/// Lists everything; an error when something is missing.
fn check() -> Result<()> {
    let mut needs = kernel::needs();
    needs.extend(debian::needs());
    needs.extend(toolchain::needs());
    needs.extend(drawing::needs());
    needs.extend(readers::needs());
    let mut missing = 0;
    for need in &needs {
        let (mark, text) = match &need.state {
            State::Present(text) => ("ok", text),
            State::Missing(text) | State::Impossible(text) => {
                missing += 1;
                ("MISSING", text)
            }
        };
        println!("{mark:8} {:16} {:44} {text}", need.name, need.why);
    }
    if missing > 0 {
        bail!(
            "{missing} of {} things are missing; `cargo xtask setup` installs what can be installed",
            needs.len()
        );
    }
    println!("all {} things are there", needs.len());
    Ok(())
}
