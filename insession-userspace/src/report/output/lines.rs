//! Formats that are lines of text: a record gives none, one or several.

use std::io::{self, Write as _};

use super::compress::Compressed;
use super::{Compression, Encoder};
use crate::trace::Trace;

/// Adds the lines of a record to what is written to memory; given is also its line of
/// JSON.
pub(super) type Append = fn(&Trace, &[u8], &mut Vec<u8>) -> io::Result<()>;

/// A part of such a format.
pub(super) struct Lines {
    append: Append,
    /// The lines of one record.
    lines: Vec<u8>,
    out: Compressed,
}

impl Lines {
    /// Begins a part with its head, which can be cut off again when parts are joined.
    pub(super) fn new(
        compression: Compression,
        out: Box<dyn io::Write + Send>,
        append: Append,
        head: &[u8],
    ) -> io::Result<Self> {
        let mut out = Compressed::new(compression, out)?;
        if !head.is_empty() {
            out.write_all(head)?;
            out = out.divide()?;
        }
        Ok(Lines {
            append,
            lines: Vec::new(),
            out,
        })
    }
}

impl Encoder for Lines {
    fn record(&mut self, trace: &Trace, json: &[u8]) -> io::Result<()> {
        self.lines.clear();
        (self.append)(trace, json, &mut self.lines)?;
        self.out.write_all(&self.lines)
    }

    fn bytes(&self) -> u64 {
        self.out.bytes()
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.out.finish()
    }
}

/// Our own record: it is there already.
pub(super) fn json(_trace: &Trace, json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(json);
    Ok(())
}
