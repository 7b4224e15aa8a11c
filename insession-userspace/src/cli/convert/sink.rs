//! Where converted results go: files that get their names when they are whole, standard
//! output, devices and pipes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::beside;
use crate::cli::exit::Failure;
use crate::report::output::{Encoder, OutputSpec, encoder};
use crate::trace::Trace;

/// An output.
pub(super) struct Sink {
    shown: String,
    encoder: Option<Box<dyn Encoder>>,
    pending: Option<Pending>,
}

/// A file that has not its name yet.
struct Pending {
    temporary: PathBuf,
    name: PathBuf,
    file: File,
}

impl Drop for Pending {
    /// Half a file is of no use; a whole one has its name by now.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
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
        let (out, pending) = open(path).map_err(trouble)?;
        let encoder = encoder(&spec, out).map_err(trouble)?;
        Ok(Sink {
            shown,
            encoder: Some(encoder),
            pending,
        })
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
        if let (Ok(()), Some(pending)) = (&written, &self.pending) {
            let synced = pending.file.sync_data();
            written = synced.and_then(|()| fs::rename(&pending.temporary, &pending.name));
        }
        self.told(written)
    }
}

type Opened = (Box<dyn Write + Send>, Option<Pending>);

fn open(path: &Path) -> io::Result<Opened> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdout()), None));
    }
    // What a symbolic link leads to is replaced, not the link.
    let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&name) {
        Ok(kind) if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(kind) if !kind.is_file() => {
            let device = OpenOptions::new().write(true).open(&name)?;
            Ok((Box::new(device), None))
        }
        _ => {
            let (temporary, file) = beside(&name)?;
            let out = Box::new(file.try_clone()?);
            let pending = Pending {
                temporary,
                name,
                file,
            };
            Ok((out, Some(pending)))
        }
    }
}
