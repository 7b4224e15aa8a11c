//! The command line: one file (or folder) a subcommand.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

pub mod aliases;
pub mod bench;
pub mod compare;
pub mod completions;
pub mod config;
pub mod convert;
pub mod data;
pub mod doctor;
pub mod exit;
pub mod graph;
pub mod interrupt;
mod logging;
pub mod man;
pub mod probing;
pub mod results;
pub mod run;
pub mod summary;
pub mod trace;
pub mod value;
pub mod whole;

/// Mass in-session traceroute
///
/// Opens real TCP sessions, sends TTL-stepped data segments inside them after
/// a one-byte sequence gap, and reads the routers' ICMP errors and the
/// server's SACKs.
#[derive(Debug, Parser)]
#[command(name = "insession", version, after_help = exit::HELP)]
pub struct Cli {
    /// Tell more on standard error (-vv: debug; -vvv: everything); RUST_LOG overrides
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Take options from FILE (TOML, a table a subcommand); the command line and the
    /// environment (INSESSION_RATE for --rate, …) beat it
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "INSESSION_CONFIG",
        hide_env = true
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Trace the way to one or more targets
    #[command(after_help = exit::HELP)]
    Trace(Box<trace::Arguments>),
    /// Trace a list of targets, however long, and lose none
    #[command(after_help = exit::HELP)]
    Run(Box<run::Arguments>),
    /// Trace the same targets by several methods, several times, and draw what each shows
    #[command(after_help = exit::HELP)]
    Compare(Box<compare::Arguments>),
    /// Convert results from one format to others
    Convert(convert::Arguments),
    /// Show the picture of results: verdicts, path lengths, times, loss, silent hops
    Summary(summary::Arguments),
    /// Tell which files say whose addresses are, of which date
    Data(data::Arguments),
    /// Draw any number of results as one graph of paths
    Graph(Box<graph::Arguments>),
    /// Find out which addresses are one router's
    #[command(after_help = exit::HELP)]
    Aliases(Box<aliases::Arguments>),
    /// Tell whether this machine can trace, and how to mend what keeps it from it
    Doctor(doctor::Arguments),
    /// Measure what the engine, its links and this machine can do
    Bench(Box<bench::Arguments>),
    /// Print a completion script
    Completions(completions::Arguments),
    /// Print a manual page
    Man(man::Arguments),
}

/// The command line as it is defined, every option with its variable in the
/// environment.
fn command() -> clap::Command {
    let mut root = Cli::command();
    root.build();
    root.mut_subcommands(config::with_environment)
}

/// The whole program: parses the command line, runs the subcommand.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match parse(&words) {
        Ok((cli, line)) => dispatch(cli, &line),
        Err(failure) => failure.report(),
    }
}

/// What the command line, the environment and files say.
fn parse(words: &[OsString]) -> Result<(Cli, config::Line), exit::Failure> {
    let root = command();
    let line = config::complete(&root, words, |name, given| {
        if let Some(found) = run::resumed(name, given)? {
            return Ok(Some(found));
        }
        let file = given.get_one::<PathBuf>(config::OPTION);
        file.map(|file| {
            let from = format!("--config {}", file.display());
            config::read(file, name).map(|table| config::Source {
                table,
                from,
                settled: &[],
            })
        })
        .transpose()
    })?;
    let cli = Cli::from_arg_matches(&line.matches).map_err(|error| {
        // What clap lets pass once it does twice.
        exit::Failure::usage(error.to_string())
    })?;
    Ok((cli, line))
}

/// Runs the subcommand.
fn dispatch(mut cli: Cli, line: &config::Line) -> ExitCode {
    logging::init(cli.verbose);
    let result = match &mut cli.command {
        Command::Trace(arguments) => trace::run(arguments),
        Command::Run(arguments) => run::run(arguments, line),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Summary(arguments) => summary::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Aliases(arguments) => aliases::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Completions(arguments) => {
            let mut script = Vec::new();
            print_whole(completions::run(arguments, &mut script).map(|()| script))
        }
        Command::Man(arguments) => man::run(arguments).and_then(|page| print_whole(Ok(page))),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

/// Runs what is not the hot path of a run to its end.
///
/// # Errors
/// When there are no threads to be had.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, exit::Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| {
            exit::Failure::failed(format!(
                "the runtime: {error}; raise the limits of processes and open files"
            ))
        })?;
    let result = runtime.block_on(work);
    // Look-ups still under way have no one waiting for them.
    runtime.shutdown_background();
    Ok(result)
}

/// Writes to standard output; a reader that has gone away is no error.
fn print_whole(bytes: std::io::Result<Vec<u8>>) -> Result<u8, exit::Failure> {
    let mut out = std::io::stdout().lock();
    match bytes.and_then(|bytes| out.write_all(&bytes).and_then(|()| out.flush())) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(exit::Failure::failed(
            format!("standard output: {error}; write to somewhere else"),
        )),
        _ => Ok(exit::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_a_manual_page_and_completions() {
        use clap_complete::Shell;
        for command in Cli::command().get_subcommands() {
            let cli = Cli::try_parse_from(["insession", "man", command.get_name()]).unwrap();
            let Command::Man(arguments) = cli.command else {
                panic!("not the man subcommand")
            };
            let page = String::from_utf8(man::run(&arguments).unwrap()).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let line = ["insession", "completions", &shell.to_string()];
            let Command::Completions(arguments) = Cli::try_parse_from(line).unwrap().command else {
                panic!("not the completions subcommand")
            };
            let mut script = Vec::new();
            completions::run(&arguments, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("insession"));
        }
    }
}
