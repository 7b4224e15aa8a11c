//! `insession completions SHELL`: a completion script on standard output.

use std::io;

use clap::CommandFactory as _;

/// What shell.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

/// Writes the script.
///
/// # Errors
/// When it cannot be written.
pub fn run(arguments: &Arguments, out: &mut dyn io::Write) -> io::Result<()> {
    // `generate` panics where writing fails; a Vec does not fail.
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Cli::command(),
        "insession",
        &mut script,
    );
    out.write_all(&script)
}
