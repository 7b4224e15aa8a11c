//! `cargo xtask build`: user space and the XDP program in one go.
//!
//! The XDP program is built by the build script of `insession-userspace`, so
//! that plain `cargo build` makes the same thing.

use anyhow::Result;

use crate::{command, paths};

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Unoptimised build with debug assertions.
    #[arg(long)]
    pub debug: bool,
}

/// Builds.
pub fn run(args: &Args) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--locked", "--package", "insession"]);
    if !args.debug {
        cargo.arg("--release");
    }
    command::run(&mut cargo)?;
    let profile = if args.debug { "debug" } else { "release" };
    println!(
        "built {}",
        paths::target().join(profile).join("insession").display()
    );
    Ok(())
}

/// The release build, as demo and end-to-end tests need it.
pub fn release() -> Result<()> {
    run(&Args { debug: false })
}
