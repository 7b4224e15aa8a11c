//! `insession compare`: several methods at the same targets, side by side.
//!
//! ```text
//! targets ─▶ resolve ─▶ run 1: method 1, method 2, … ─▶ run 2: … ─▶ compare ─▶ table, pictures
//! results ──────────────────────────────────────────────────────────▶
//! ```

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::exit::{self, Failure};
use super::results::{self, Bad, Record};
use super::trace::sink::{Closed, Sink};
use super::whole::Whole;
use crate::compare::picture::{self, Paint};
use crate::compare::{Comparison, Packets, Truth, compare, text};
use crate::report::Format;
use crate::report::text::Style;
use crate::trace::{Method, Trace};

pub mod arguments;
mod drive;
mod ports;
mod progress;

pub use arguments::Arguments;
use drive::Driven;

/// Compares; gives the exit code.
///
/// # Errors
/// When it could not begin, nothing could be traced, or something cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    arguments.check()?;
    let truth = arguments.truth.as_deref().map(read_truth).transpose()?;
    let files = Files::open(arguments)?;
    let (traces, packets, code) = match arguments.from.is_empty() {
        true => {
            let sink = arguments.output.as_deref().map(records).transpose()?;
            let Driven {
                traces,
                packets,
                code,
                sink,
            } = super::block_on(drive::run(arguments, sink))??;
            if let Some(Err(Closed::Failed(failure))) = sink.map(Sink::finish) {
                return Err(failure);
            }
            (traces, packets, code)
        }
        false => {
            let (traces, code) = read(arguments)?;
            (traces, Packets::new(), code)
        }
    };
    let comparison = compare(&traces, truth.as_ref(), &packets);
    files.write(&comparison)?;
    let told = match arguments.json {
        true => json(&comparison)?,
        false => text::text(&comparison).into_bytes(),
    };
    super::print_whole(Ok(told))?;
    Ok(code)
}

fn records(path: &Path) -> Result<Sink, Failure> {
    // Records are no text: it says nothing in them.
    let style = Style {
        names: true,
        max_ttl: u8::MAX,
        method: Method::InSession,
    };
    Sink::file(path, Format::Json, style)
}

/// What results hold.
fn read(arguments: &Arguments) -> Result<(Vec<Trace>, u8), Failure> {
    let mut traces = Vec::new();
    let mut bad = Bad::new(arguments.strict);
    let wanted: Vec<Method> = match arguments.methods.is_empty() {
        true => Vec::new(),
        false => arguments.methods(),
    };
    for path in &arguments.from {
        results::read(path, &mut bad, &mut |Record { trace, .. }| {
            if wanted.is_empty() || wanted.contains(&trace.method) {
                traces.push(trace.clone());
            }
            Ok(true)
        })?;
    }
    if traces.is_empty() {
        let _ = bad.end();
        return Err(Failure::usage(
            "--from: there is no record of these methods in it; name results of insession",
        ));
    }
    Ok((traces, bad.end()))
}

fn read_truth(path: &Path) -> Result<Truth, Failure> {
    const MEND: &str = "write two addresses a line: who answers first, and who answers next";
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--truth {shown}: {error}; {MEND}")))?;
    Truth::parse(&text).map_err(|error| Failure::usage(format!("--truth {shown}, {error}; {MEND}")))
}

fn json(comparison: &Comparison) -> Result<Vec<u8>, Failure> {
    let mut out = serde_json::to_vec(comparison)
        .map_err(|error| Failure::failed(format!("compare: {error}; report it")))?;
    out.push(b'\n');
    Ok(out)
}

/// What a file is to hold.
#[derive(Clone, Copy)]
enum Kind {
    Html,
    Svg,
    Png,
}

/// The files of pictures. They are opened first: who cannot write finds out before
/// anything is traced.
struct Files(Vec<File>);

struct File {
    kind: Kind,
    option: String,
    out: Box<dyn std::io::Write + Send>,
    whole: Option<Whole>,
}

impl Files {
    fn open(arguments: &Arguments) -> Result<Files, Failure> {
        let mut files = Files(Vec::new());
        for (kind, option, path) in [
            (Kind::Html, "--html", &arguments.html),
            (Kind::Svg, "--svg", &arguments.svg),
            (Kind::Png, "--png", &arguments.png),
        ] {
            let Some(path) = path else { continue };
            let option = format!("{option} {}", path.display());
            let (out, whole) = Whole::open(path).map_err(|error| {
                Failure::usage(format!(
                    "{option}: {error}; name a file that can be written"
                ))
            })?;
            files.0.push(File {
                kind,
                option,
                out,
                whole,
            });
        }
        Ok(files)
    }

    fn write(mut self, comparison: &Comparison) -> Result<(), Failure> {
        for file in &mut self.0 {
            let option = &file.option;
            let bytes = match file.kind {
                Kind::Html => picture::page(comparison).into_bytes(),
                Kind::Svg => picture::svg(comparison, Paint::Variables).into_bytes(),
                Kind::Png => {
                    let svg = picture::svg(comparison, Paint::Light);
                    picture::png(&svg).map_err(|error| {
                        Failure::failed(format!("{option}: {error}; use --svg or --html"))
                    })?
                }
            };
            let written = file.out.write_all(&bytes).and_then(|()| file.out.flush());
            let finished = written.and_then(|()| match file.whole.take() {
                Some(whole) => whole.finish().inspect_err(|_| whole.discard()),
                None => Ok(()),
            });
            finished.map_err(|error| {
                Failure::failed(format!(
                    "{option}: {error}; make room, or name another file"
                ))
            })?;
        }
        Ok(())
    }
}

impl Drop for Files {
    /// What was not written leaves nothing behind.
    fn drop(&mut self) {
        for file in &mut self.0 {
            if let Some(whole) = file.whole.take() {
                whole.discard();
            }
        }
    }
}

/// The code of a run that was interrupted, had failures, or neither.
const fn code(interrupted: bool, failed: bool) -> u8 {
    match (interrupted, failed) {
        (true, _) => exit::INTERRUPTED,
        (_, true) => exit::FAILED,
        _ => exit::OK,
    }
}
