//! `insession run`: lists of targets in, results in files out.
//!
//! ```text
//! lists ─▶ order ─▶ names, exclusions ─▶ engine ─▶ recorder ─▶ store
//!  (a thread)          (tokio)         (threads)   (a thread)   journal, outputs
//! ```
//!
//! Every stage takes no more than it can hand on, so what is slowest holds up the
//! others, and memory does not grow with the lists.

pub mod arguments;
mod drive;
mod metrics;
mod prepare;
mod progress;
mod summary;

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::Table;

pub use arguments::Arguments;

use super::config::{self, Line, Source};
use super::exit::{self, Failure};
use crate::campaign::CampaignError;
use crate::campaign::plan::Plan;
use crate::targets::exclude::ExcludeError;
use crate::targets::list::ListError;
use prepare::Prepared;

/// What decides which targets there are, in what order, and where their records go:
/// a campaign has it from its beginning. The command line may not say otherwise, and
/// the environment is not asked.
const FIXED: [&str; 17] = [
    "words",
    "targets",
    "per_prefix",
    "per_prefix6",
    "seed",
    "exclude",
    "allow",
    "port",
    "ipv4",
    "ipv6",
    "output",
    "strict",
    "method",
    "flows",
    "mda",
    "mda_confidence",
    "flows_max",
];

/// Runs it; gives the exit code.
///
/// # Errors
/// When it could not begin, or could not go on.
pub fn run(arguments: &Arguments, line: &Line) -> Result<u8, Failure> {
    let command = super::command();
    let command = command.find_subcommand("run").unwrap_or(&command);
    if arguments.print_config {
        let text = config::print("run", command, line);
        return super::print_whole(Ok(text.into_bytes()));
    }
    let options = match line.matches.subcommand() {
        Some((_, matches)) => config::table(command, matches, false),
        None => Table::new(),
    };
    let prepared = match Prepared::new(arguments, options)? {
        Prepared::Run(run) => run,
        Prepared::Finished(path) => {
            exit::tell(format_args!(
                "{}: this campaign is finished, its results are whole",
                path.display()
            ));
            return Ok(exit::OK);
        }
    };
    super::block_on(drive::drive(arguments, *prepared))?
}

/// The options of the campaign that is resumed, if one is, and where they are from.
///
/// # Errors
/// When there is none, or the command line wants other targets or outputs.
pub fn resumed(subcommand: &str, given: &ArgMatches) -> Result<Option<Source>, Failure> {
    if subcommand != "run" {
        return Ok(None);
    }
    let Some(path) = given.get_one::<PathBuf>("resume") else {
        return Ok(None);
    };
    for id in FIXED {
        if given.value_source(id) == Some(ValueSource::CommandLine) {
            return Err(Failure::usage(format!(
                "--resume {}: {} was settled when the campaign began; leave it out, or begin another",
                path.display(),
                match id {
                    "words" => "TARGET".to_owned(),
                    id => format!("--{}", id.replace('_', "-")),
                }
            )));
        }
    }
    let plan = path.join("plan.toml");
    if !plan.exists() {
        return Err(Failure::usage(format!(
            "--resume {}: there is no campaign in it; name the directory of --campaign",
            path.display()
        )));
    }
    let plan = Plan::read(&plan)?;
    Ok(Some(Source {
        table: plan.options,
        from: format!("--resume {}", path.display()),
        settled: &FIXED,
    }))
}

impl From<CampaignError> for Failure {
    fn from(error: CampaignError) -> Self {
        let message = error.to_string();
        match error {
            CampaignError::Input(_) => Failure::usage(message),
            CampaignError::Io { .. } | CampaignError::Gone(_) => Failure::failed(message),
        }
    }
}

impl From<ListError> for Failure {
    fn from(error: ListError) -> Self {
        Failure::usage(error.to_string())
    }
}

impl From<ExcludeError> for Failure {
    fn from(error: ExcludeError) -> Self {
        Failure::usage(error.to_string())
    }
}
