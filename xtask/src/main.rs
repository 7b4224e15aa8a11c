//! `cargo xtask`: set-up, build, tests, lab and demo, from any folder of the repository.

mod bench;
mod build;
mod command;
mod counts;
mod demo;
mod lab;
mod package;
mod page;
mod paths;
mod setup;
mod test;
mod tidy;
mod vm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, tests and shows insession.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: Debian packages, bpf-linker, rust-src.
    Setup(setup::Args),
    /// Build user space and the XDP program.
    Build(build::Args),
    /// Show it: more than a thousand sessions traced through a real network, every hop checked.
    Demo(demo::Args),
    /// Measure it, and its peers beside it, and write docs/performance.md.
    Bench(bench::Args),
    /// Run all checks and tests.
    Test(test::Args),
    /// Look at the page of `insession graph` in a headless browser, and time it.
    PageCheck(page::Args),
    /// Make a Debian package: binary, manual pages, completions, systemd unit.
    Package(package::Args),
    /// Network namespaces with real routers and servers.
    Lab(lab::Args),
    /// AF_XDP with zero-copy drivers on several kernels, in virtual machines.
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => setup::ensure().and_then(|()| build::run(&args)),
        Task::Demo(args) => setup::ensure().and_then(|()| demo::run(args)),
        Task::Bench(args) => setup::ensure().and_then(|()| bench::run(&args)),
        Task::Test(args) => setup::ensure().and_then(|()| test::run(&args)),
        Task::PageCheck(args) => setup::ensure().and_then(|()| page::run(&args)),
        Task::Package(args) => setup::ensure().and_then(|()| package::run(&args)),
        Task::Lab(args) => lab::run(args),
        Task::Vm(args) => setup::ensure().and_then(|()| vm::run(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
