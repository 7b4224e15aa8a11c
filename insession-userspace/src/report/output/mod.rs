//! Results in files: one format each, chosen by the name of the file.
//!
//! A result is written in parts, each a whole file by itself ([`encoder`]), and the
//! parts are joined to one ([`join()`]) without decoding what need not be: members of
//! gzip and frames of Zstandard follow one another, row groups of Parquet are copied.
//!
//! * [`parquet`]: one row a probe, and how it is read back;
//! * `scamper`, `atlas`, `caracal`: what others' tools read;
//! * `lines`: what is written line by line, records of ours and those.
//!
//! `docs/formats.md` documents all of them.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::trace::Trace;

mod atlas;
mod caracal;
mod compress;
pub mod destination;
mod join;
mod lines;
#[cfg(test)]
mod names_tests;
pub mod parquet;
mod scamper;
#[cfg(test)]
pub(in crate::report) mod tests;

pub use join::join;

/// What is written where: from the name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// What stands in it.
    pub encoding: Encoding,
    /// What is around that.
    pub compression: Compression,
}

/// A format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Our record, `insession.trace/1`, one a line.
    Json,
    /// One row a probe.
    Parquet,
    /// scamper's JSON object of a trace, one a line.
    Scamper,
    /// A result of RIPE Atlas' traceroute, one a line.
    Atlas,
    /// caracal's CSV: one row a reply.
    Caracal,
}

/// What a file is compressed with as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Nothing.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Every encoding, with the extensions that name it; the first is the one to write.
const NAMES: [(Encoding, &[&str]); 5] = [
    (
        Encoding::Scamper,
        &[".scamper.jsonl", ".scamper.json", ".scamper.ndjson"],
    ),
    (
        Encoding::Atlas,
        &[".atlas.jsonl", ".atlas.json", ".atlas.ndjson"],
    ),
    (Encoding::Json, &[".jsonl", ".json", ".ndjson"]),
    (Encoding::Parquet, &[".parquet"]),
    (Encoding::Caracal, &[".csv"]),
];

/// Every compression that has an extension, with it.
const COMPRESSED: [(Compression, &str); 2] =
    [(Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")];

impl OutputSpec {
    /// By the extension of a name; `-` is our record on standard output.
    ///
    /// # Errors
    /// Why the name tells no format, and the extensions that do.
    pub fn of(path: &Path) -> Result<OutputSpec, String> {
        let spec = |encoding, compression| OutputSpec {
            path: path.to_owned(),
            encoding,
            compression,
        };
        if path.as_os_str() == "-" {
            return Ok(spec(Encoding::Json, Compression::None));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        let (compression, stem) = COMPRESSED
            .iter()
            .find_map(|(compression, end)| Some((*compression, name.strip_suffix(end)?)))
            .unwrap_or((Compression::None, &name));
        let ends = |ends: &[&str]| ends.iter().any(|end| stem.ends_with(end));
        let shown = path.display();
        match NAMES.iter().find(|(_, names)| ends(names)) {
            Some((Encoding::Parquet, _)) if compression != Compression::None => Err(format!(
                "{shown}: Parquet is compressed inside; name it .parquet"
            )),
            Some((encoding, _)) => Ok(spec(*encoding, compression)),
            None => Err(format!(
                "{shown}: its extension names no format; there are .jsonl, .parquet, .csv (caracal), \
                 .scamper.jsonl and .atlas.jsonl, all but .parquet with .gz or .zst behind"
            )),
        }
    }

    /// The extension that names its format, with that of its compression: for parts.
    #[must_use]
    pub fn extension(&self) -> String {
        let named = NAMES.iter().find(|(named, _)| *named == self.encoding);
        let extension = named.and_then(|(_, names)| names.first());
        let compressed = COMPRESSED.iter().find(|(it, _)| *it == self.compression);
        let mut text = extension.copied().unwrap_or_default().to_owned();
        text.push_str(compressed.map_or("", |(_, extension)| extension));
        text
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Json => "insession.trace/1",
            Encoding::Parquet => "Parquet",
            Encoding::Scamper => "scamper JSON",
            Encoding::Atlas => "RIPE Atlas JSON",
            Encoding::Caracal => "caracal CSV",
        })
    }
}

/// One part of an output: a whole file by itself.
pub trait Encoder: Send {
    /// Adds a record. `json` is its line as `report::json` writes it, with its line end.
    ///
    /// # Errors
    /// When it cannot be written. What was written then is no whole file.
    fn record(&mut self, trace: &Trace, json: &[u8]) -> io::Result<()>;

    /// Adds what the flows of a target show together: its line as `report::paths` writes
    /// it, behind their records. Formats of others have no place for it.
    ///
    /// # Errors
    /// When it cannot be written.
    fn merged(&mut self, _json: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// About how many octets were written so far; what is held back in memory counts
    /// as soon as it is handed over.
    fn bytes(&self) -> u64;

    /// Hands over what was held back, as far as the format lets that be done in the
    /// middle of a file: for who reads along.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Writes what was held back, and the end of the file. Flushed then; to have it
    /// on the disk (fsync) is the caller's.
    ///
    /// # Errors
    /// When it cannot be written.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Begins a part.
///
/// Memory: 64 KiB of lines and the compressor's own (gzip a third of a MiB, Zstandard
/// some 2 MiB); Parquet the rows of a row group, at most 32 MiB of them, and twice that
/// while they are written.
///
/// # Errors
/// When the head of the file cannot be written.
pub fn encoder(spec: &OutputSpec, out: Box<dyn Write + Send>) -> io::Result<Box<dyn Encoder>> {
    let append: lines::Append = match spec.encoding {
        Encoding::Parquet => return Ok(Box::new(parquet::Rows::new(out)?)),
        Encoding::Json => lines::json,
        Encoding::Scamper => scamper::append,
        Encoding::Atlas => atlas::append,
        Encoding::Caracal => caracal::append,
    };
    let head = join::head(spec.encoding);
    let mut lines = lines::Lines::new(spec.compression, out, append, head)?;
    if spec.encoding == Encoding::Json {
        lines.take_merged();
    }
    Ok(Box::new(lines))
}
