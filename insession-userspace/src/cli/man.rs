//! `insession man [SUBCOMMAND]`: a manual page on standard output.

use std::io;

use clap::CommandFactory as _;

use super::exit::Failure;

/// Which page.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The subcommand to describe; without it, the command as a whole
    subcommand: Option<String>,
}

/// Makes the page.
///
/// # Errors
/// When there is no such subcommand.
pub fn run(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    let mut root = super::Cli::command();
    root.build();
    let command = match &arguments.subcommand {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(found) => {
                let name = format!("insession-{}", found.get_name());
                found.clone().name(name)
            }
            None => {
                return Err(Failure::usage(format!(
                    "{name}: no such subcommand; `insession --help` lists them"
                )));
            }
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error: io::Error| Failure::failed(format!("manual page: {error}; report it")))?;
    Ok(page)
}
