//! Parts joined to one file of the same format.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{Compression, Encoding, OutputSpec, caracal, encoder, parquet};

/// Octets that are copied at a time.
const BUFFER: usize = 1 << 17;

/// Joins parts that [`encoder`] wrote by the same `spec` to one file of the same format,
/// in their order: the octets of lines are copied, compressed or not, a CSV's header
/// from the first part only; the row groups of Parquet as they are. Memory does not grow
/// with the parts, but for Parquet's directory of row groups.
///
/// # Errors
/// When a part cannot be read or is not of the format, or `out` cannot be written.
pub fn join(spec: &OutputSpec, parts: &[PathBuf], out: Box<dyn Write + Send>) -> io::Result<()> {
    if parts.is_empty() {
        // A file of no records is a file too: a header, an end.
        return encoder(spec, out)?.finish();
    }
    match spec.encoding {
        Encoding::Parquet => parquet::join(parts, out),
        other => lines(spec.compression, head(other), parts, out),
    }
}

/// What every part of a format begins with.
pub(super) fn head(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Caracal => caracal::HEADER,
        Encoding::Json | Encoding::Parquet | Encoding::Scamper | Encoding::Atlas => b"",
    }
}

fn lines(
    compression: Compression,
    head: &[u8],
    parts: &[PathBuf],
    out: Box<dyn Write + Send>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    for (nth, path) in parts.iter().enumerate() {
        let name = |error| named(path, error);
        let part = File::open(path).map_err(name)?;
        let mut part = BufReader::with_capacity(BUFFER, part);
        if nth > 0 && !head.is_empty() {
            part = past_head(compression, head, part).map_err(name)?;
        }
        copy(path, &mut part, &mut out)?;
    }
    out.flush()
}

/// Copies; an error of reading names the part, one of writing does not.
fn copy(path: &Path, part: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    loop {
        let octets = match part.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(named(path, error)),
        };
        out.write_all(octets)?;
        let count = octets.len();
        part.consume(count);
    }
}

/// The part behind its head, which is a member or frame of its own.
fn past_head<R: BufRead>(compression: Compression, head: &[u8], mut part: R) -> io::Result<R> {
    let mut found = Vec::new();
    // No further than a wrong head needs: it may be anything.
    let limit = head.len() as u64 + 1;
    let part = match compression {
        Compression::None => {
            found.resize(head.len(), 0);
            part.read_exact(&mut found)?;
            part
        }
        Compression::Gzip => {
            let mut member = flate2::bufread::GzDecoder::new(part);
            member.by_ref().take(limit).read_to_end(&mut found)?;
            member.into_inner()
        }
        Compression::Zstd => {
            let mut frame = zstd::stream::read::Decoder::with_buffer(part)?.single_frame();
            frame.by_ref().take(limit).read_to_end(&mut found)?;
            frame.finish()
        }
    };
    if found != head {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "does not begin with the header of its format",
        ));
    }
    Ok(part)
}

/// An error with the name of its file.
pub(super) fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
