//! `insession graph`: any number of results as one graph of paths.

use std::io::{self, Write};
use std::path::Path;

use super::exit::{self, Failure, tell};
use super::results::{self, Bad, Record};
use super::whole::{Opened, Whole};
use crate::graph::aliases::Aliases;
use crate::graph::build::Builder;
use crate::graph::slice::Slice;
use crate::graph::{Graph, Level, dot, graphml, json, page};
use crate::report::input;

mod arguments;

pub use arguments::Arguments;
use arguments::Format;

/// Draws; gives the exit code: 2 where some line was no record.
///
/// # Errors
/// When a result cannot be read or an output cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let outputs = arguments.outputs()?;
    let slice = arguments.slice();
    let (aliases, bad_aliases) = match &arguments.aliases {
        Some(path) => {
            let (aliases, bad) = read_aliases(path, arguments.alias_confidence)?;
            (Some(aliases), bad)
        }
        None => (None, 0),
    };
    if let (Some(Level::Router), None) = (arguments.collapse, &aliases) {
        return Err(Failure::usage(
            "--collapse router: which addresses are one router is not known; name a file of --aliases",
        ));
    }
    let mut bad = Bad::new(arguments.strict);
    let graph = read(arguments, slice, &mut bad)?;
    if graph.traces == 0 {
        let why = match graph.sliced_away {
            0 => "there is no trace in them",
            _ => "no trace is in the slice that was asked for",
        };
        return Err(Failure::usage(format!(
            "{}: {why}; name others, or widen the slice",
            arguments.names().join(", ")
        )));
    }
    if graph.paths_left_out() > 0 {
        tell(format_args!(
            "warning: {} traces: more paths than are kept; their changes are not told, and a page cannot pick them out by target",
            graph.paths_left_out()
        ));
    }
    let graph = collapsed(graph, arguments.collapse, aliases.as_ref());
    for (path, format) in &outputs {
        if *format != Format::Html {
            write(path, &mut |out| match format {
                Format::Dot => dot::write(&graph, out),
                Format::Graphml => graphml::write(&graph, out),
                Format::Json | Format::Html => json::write(&graph, out),
            })?;
        }
    }
    let mut pages = outputs.iter().filter(|it| it.1 == Format::Html).peekable();
    if pages.peek().is_some() {
        let levels = match arguments.collapse {
            None => page::levels(graph, aliases.as_ref()),
            Some(_) => vec![graph],
        };
        let names = arguments.names();
        for (path, _) in pages {
            write(path, &mut |out| page::write(&levels, &names, out))?;
        }
    }
    let end = bad.end();
    Ok(if bad_aliases > 0 { exit::USAGE } else { end })
}

fn read(arguments: &Arguments, slice: Slice, bad: &mut Bad) -> Result<Graph, Failure> {
    let asks_owners = !slice.ases.is_empty();
    let mut builder = Builder::new(slice);
    for path in &arguments.results {
        results::read(path, bad, &mut |Record { trace, .. }| {
            builder.add(trace);
            Ok(true)
        })?;
    }
    let graph = builder.finish();
    if asks_owners && graph.traces == 0 {
        tell(
            "warning: --as: taken are traces with that AS in an answer; results have AS numbers where they were looked up",
        );
    }
    Ok(graph)
}

fn collapsed(graph: Graph, level: Option<Level>, aliases: Option<&Aliases>) -> Graph {
    let Some(level) = level else {
        return graph;
    };
    let is_known = match level {
        Level::As => graph.knows_owners(),
        Level::Prefix => graph.knows_prefixes(),
        Level::Address | Level::Router => true,
    };
    if !is_known {
        tell(format_args!(
            "warning: --collapse {}: no answer in the results has one, so addresses stay as they are",
            level.as_str()
        ));
    }
    graph.collapsed(level, aliases.unwrap_or(&Aliases::default()))
}

/// The sets of a file, and how many lines were none.
fn read_aliases(path: &Path, confidence: f64) -> Result<(Aliases, usize), Failure> {
    let failed = |error: io::Error| {
        Failure::usage(format!(
            "--aliases {}: {error}; name a file of JSON lines, insession.aliases/1",
            path.display()
        ))
    };
    let input = input::open(path).map_err(failed)?;
    let (aliases, bad) = Aliases::read(input, confidence).map_err(failed)?;
    for (number, why) in &bad {
        tell(format_args!(
            "warning: {}, line {number}: {why}; left out",
            path.display()
        ));
    }
    Ok((aliases, bad.len()))
}

/// Writes a whole file, or to standard output, a device or pipe; a reader that has gone
/// away is no error.
fn write(
    path: &Path,
    with: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let trouble = |error: io::Error| {
        Failure::usage(format!(
            "--output {}: {error}; name a file that can be written",
            path.display()
        ))
    };
    let (out, file): Opened = match path.as_os_str() == "-" {
        true => (Box::new(io::stdout()), None),
        false => Whole::open(path).map_err(trouble)?,
    };
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    let written = with(&mut out).and_then(|()| out.flush());
    match (written, file) {
        (Ok(()), Some(file)) => file.finish().map_err(trouble),
        (Err(error), Some(file)) => {
            file.discard();
            Err(trouble(error))
        }
        (Err(error), None) if error.kind() != io::ErrorKind::BrokenPipe => Err(trouble(error)),
        (_, None) => Ok(()),
    }
}
