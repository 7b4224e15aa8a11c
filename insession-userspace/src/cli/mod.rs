//! The command line: one file (or folder) a subcommand.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

pub mod bench;
pub mod completions;
pub mod doctor;
pub mod exit;
pub mod interrupt;
mod logging;
pub mod man;
pub mod probing;
pub mod run;
pub mod trace;
pub mod value;

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
    /// Tell whether this machine can trace, and how to mend what keeps it from it
    Doctor(doctor::Arguments),
    /// Measure what the engine, its links and this machine can do
    Bench(Box<bench::Arguments>),
    /// Print a completion script
    Completions(completions::Arguments),
    /// Print a manual page
    Man(man::Arguments),
}

/// The whole program: parses the command line, runs the subcommand.
#[must_use]
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    logging::init(cli.verbose);
    let result = match &mut cli.command {
        Command::Trace(arguments) => trace::run(arguments),
        Command::Run(arguments) => run::run(arguments),
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
    use clap::CommandFactory as _;

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
