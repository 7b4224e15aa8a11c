//! `insession convert`: results from one format to others.

use std::path::PathBuf;

use super::data::files;
use super::exit::Failure;
use super::results::{self, Bad, Record};
use crate::report::json;
use sink::Sink;

mod sink;

/// Convert results from one format to others
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Results as JSON lines (plain, gzip or Zstandard) or Parquet of ours; - for standard input
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Write all of them to FILE, the format by its name: .jsonl .parquet .csv (caracal),
    /// .scamper.jsonl, .atlas.jsonl, all but Parquet with .gz or .zst behind; - for standard output
    #[arg(short, long, value_name = "FILE", required = true)]
    output: Vec<PathBuf>,
    /// Say anew whose the addresses of hops are, by FILE or the files of a directory (see
    /// insession data); nothing stays of what the results say of that
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// End at the first line that is no record
    #[arg(long)]
    strict: bool,
}

/// Converts; gives the exit code: 2 where some line was no record.
///
/// # Errors
/// When an input cannot be read or an output cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    for (nth, path) in arguments.output.iter().enumerate() {
        if arguments.output.iter().take(nth).any(|other| other == path) {
            return Err(Failure::usage(format!(
                "--output {}: named twice; name each file once",
                path.display()
            )));
        }
    }
    let owners = match &arguments.data[..] {
        [] => None,
        data => Some(files::load(data, &[])?),
    };
    let sinks = arguments.output.iter().map(|path| Sink::open(path));
    let mut sinks = sinks.collect::<Result<Vec<_>, _>>()?;
    let mut bad = Bad::new(arguments.strict);
    let mut line = Vec::new();
    for path in &arguments.inputs {
        results::read(path, &mut bad, &mut |Record { trace, line: known }| {
            let filled = owners.as_ref().map(|owners| {
                let mut filled = trace.clone();
                owners.fill(&mut filled);
                filled
            });
            let (trace, known) = match &filled {
                Some(filled) => (filled, None),
                None => (trace, known),
            };
            let line = match known {
                Some(known) => known,
                None => {
                    line.clear();
                    let written = json::append(trace, &mut line);
                    written.map_err(|error| results::unread(path, error))?;
                    &line[..]
                }
            };
            for sink in &mut sinks {
                sink.record(trace, line)?;
            }
            // Nobody reads any more.
            Ok(sinks.iter().any(|sink| !sink.is_gone()))
        })?;
    }
    for sink in sinks {
        sink.finish()?;
    }
    Ok(bad.end())
}
