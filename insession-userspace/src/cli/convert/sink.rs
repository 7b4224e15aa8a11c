//! Where converted results go: files that get their names when they are whole, standard
//! output, devices and pipes.

use std::io;
use std::path::Path;

use crate::cli::exit::Failure;
use crate::cli::whole::{Opened, Whole};
use crate::report::output::{Encoder, OutputSpec, encoder};
use crate::trace::Trace;

/// An output.
pub(super) struct Sink {
    shown: String,
    encoder: Option<Box<dyn Encoder>>,
    file: Option<Whole>,
}

impl Sink {
    /// By its name.
    ///
    /// # Errors
    /// When the name tells no format, or the file cannot be made.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let option = |why: String| Failure::usage(format!("--output {why}"));
        let spec = OutputSpec::of(path).map_err(option)?;
        let shown = match path.as_os_str() == "-" {
            true => "standard output".to_owned(),
            false => path.display().to_string(),
        };
        let trouble =
            |error: io::Error| option(format!("{shown}: {error}; name a file that can be written"));
        let (out, file): Opened = match path.as_os_str() == "-" {
            true => (Box::new(io::stdout()), None),
            false => Whole::open(path).map_err(trouble)?,
        };
        let mut sink = Sink {
            shown: shown.clone(),
            encoder: None,
            file,
        };
        sink.encoder = Some(encoder(&spec, out).map_err(trouble)?);
        Ok(sink)
    }

    /// Whether its reader has gone away.
    pub(super) fn is_gone(&self) -> bool {
        self.encoder.is_none()
    }

    pub(super) fn record(&mut self, trace: &Trace, line: &[u8]) -> Result<(), Failure> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        let written = encoder.record(trace, line);
        self.told(written)
    }

    /// A reader that has gone away is no error.
    fn told(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.encoder = None;
                Ok(())
            }
            Err(error) => Err(Failure::failed(format!(
                "{}: {error}; write to somewhere else",
                self.shown
            ))),
        }
    }

    /// Writes what is held back, and gives a file its name.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let Some(encoder) = self.encoder.take() else {
            return Ok(());
        };
        let mut written = encoder.finish();
        if let (Ok(()), Some(file)) = (&written, &self.file) {
            written = file.finish();
            if written.is_ok() {
                self.file = None;
            }
        }
        self.told(written)
    }
}

impl Drop for Sink {
    /// What is not whole by now never will be.
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            file.discard();
        }
    }
}
