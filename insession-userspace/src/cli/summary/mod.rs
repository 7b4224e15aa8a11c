//! `insession summary`: the picture of a result.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::exit::Failure;
use super::results::{self, Bad, Record};
use crate::report::summary::{Figures, Summary, text};

mod page;

/// Show the picture of results: verdicts, path lengths, times, loss, silent hops
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Results as JSON lines (plain, gzip or Zstandard) or Parquet of ours; - for standard input
    #[arg(value_name = "RESULT", required = true)]
    results: Vec<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Also write one page with plots, which needs nothing else, to FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// End at the first line that is no record
    #[arg(long)]
    strict: bool,
}

/// Sums up; gives the exit code: 2 where some line was no record.
///
/// # Errors
/// When a result cannot be read, or the page cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut summary = Summary::default();
    let mut bad = Bad::new(arguments.strict);
    for path in &arguments.results {
        results::read(path, &mut bad, &mut |Record { trace, .. }| {
            summary.add(trace);
            Ok(true)
        })?;
    }
    let figures = summary.figures(bad.count());
    if let Some(path) = &arguments.html {
        let names = arguments
            .results
            .iter()
            .map(|path| path.display().to_string());
        let page = page::page(&figures, &names.collect::<Vec<_>>());
        write_page(path, &page)?;
    }
    let told = match arguments.json {
        true => json(&figures)?,
        false => text::text(&figures).into_bytes(),
    };
    super::print_whole(Ok(told))?;
    Ok(bad.end())
}

fn json(figures: &Figures) -> Result<Vec<u8>, Failure> {
    let mut out = serde_json::to_vec(figures)
        .map_err(|error| Failure::failed(format!("summary: {error}; report it")))?;
    out.push(b'\n');
    Ok(out)
}

fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(page.as_bytes()));
    written.map_err(|error| {
        Failure::usage(format!(
            "--html {}: {error}; name a file that can be written",
            path.display()
        ))
    })
}
