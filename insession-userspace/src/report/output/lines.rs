//! Formats that are lines of text: a record gives none, one or several.

use std::fmt;
use std::io::{self, Write as _};

use super::compress::Compressed;
use super::{Compression, Encoder};
use crate::time::Duration;
use crate::trace::{Probe, Trace};

/// Adds the lines of a record to what is written to memory; given is also its line of
/// JSON.
pub(super) type Append = fn(&Trace, &[u8], &mut Vec<u8>) -> io::Result<()>;

/// A part of such a format.
pub(super) struct Lines {
    append: Append,
    /// The lines of one record.
    lines: Vec<u8>,
    out: Compressed,
    /// It has a place for what is no record.
    takes_merged: bool,
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
            takes_merged: false,
        })
    }

    /// What the flows of a target show together has a line, too.
    pub(super) fn take_merged(&mut self) {
        self.takes_merged = true;
    }
}

impl Encoder for Lines {
    fn record(&mut self, trace: &Trace, json: &[u8]) -> io::Result<()> {
        self.lines.clear();
        (self.append)(trace, json, &mut self.lines)?;
        self.out.write_all(&self.lines)
    }

    fn merged(&mut self, json: &[u8]) -> io::Result<()> {
        match self.takes_merged {
            true => self.out.write_all(json),
            false => Ok(()),
        }
    }

    fn bytes(&self) -> u64 {
        self.out.bytes()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

/// Adds formatted text. Memory takes everything.
pub(super) fn text_of(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Milliseconds with exactly three digits behind the point, rounded.
pub(super) fn millis(span: Duration, out: &mut Vec<u8>) {
    let micros = (span.as_nanos() + 500) / 1_000;
    text_of(
        out,
        format_args!("{}.{:03}", micros / 1_000, micros % 1_000),
    );
}

/// When a probe's reply came, in whole seconds.
pub(super) fn reply_seconds(trace: &Trace, probe: &Probe, rtt: Duration) -> u64 {
    let after = u64::try_from((probe.sent + rtt).as_nanos()).unwrap_or(u64::MAX);
    trace.started.0.saturating_add(after) / 1_000_000_000
}
