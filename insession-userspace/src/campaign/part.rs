//! Result files while they are written: under a temporary name, one for each
//! output; all get their own names when they are whole and on the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CampaignError;
use super::patient::{Patient, Room};
use crate::report::output::{self, Encoder, OutputSpec};
use crate::trace::Trace;

/// One file an output, all of the same records.
pub struct Part {
    files: Vec<PartFile>,
}

struct PartFile {
    encoder: Box<dyn Encoder>,
    /// `None`: standard output, a pipe, a device.
    pending: Option<Pending>,
    shown: String,
}

struct Pending {
    temporary: PathBuf,
    name: PathBuf,
    handle: File,
}

impl Part {
    /// Begins a file for each of `outputs`, to be called as `name` says. A device or
    /// pipe of this name is written as it is, and so is standard output (`-`).
    ///
    /// # Errors
    /// Names the file that cannot be made.
    pub fn begin(
        outputs: &[OutputSpec],
        name: impl Fn(&OutputSpec) -> PathBuf,
        room: &Arc<Room>,
    ) -> Result<Self, CampaignError> {
        let files = outputs.iter().map(|spec| begin(spec, name(spec), room));
        Ok(Part {
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Adds a record to each. `line` is its line of JSON.
    ///
    /// # Errors
    /// Names the file that takes no more.
    pub fn record(&mut self, trace: &Trace, line: &[u8]) -> Result<(), CampaignError> {
        for file in &mut self.files {
            file.encoder
                .record(trace, line)
                .map_err(|error| CampaignError::write(&file.shown, error))?;
        }
        Ok(())
    }

    /// Hands what was written to whoever reads along: standard output, a pipe.
    ///
    /// # Errors
    /// Names the file that takes no more.
    pub fn flush(&mut self) -> Result<(), CampaignError> {
        for file in &mut self.files {
            if file.pending.is_none() {
                file.encoder
                    .flush()
                    .map_err(|error| CampaignError::write(&file.shown, error))?;
            }
        }
        Ok(())
    }

    /// Ends the files, waits until they are on the disk, and gives them their names.
    ///
    /// # Errors
    /// Names the file that could not be ended; those before it have their names.
    pub fn finish(self, room: &Room) -> Result<(), CampaignError> {
        for file in self.files {
            let trouble = |error| CampaignError::write(&file.shown, error);
            file.encoder.finish().map_err(trouble)?;
            if let Some(pending) = &file.pending {
                pending.commit(room).map_err(trouble)?;
            }
        }
        Ok(())
    }
}

impl Pending {
    fn begin(name: PathBuf) -> io::Result<Self> {
        let mut temporary = name.clone().into_os_string();
        // The number keeps two runs apart, and the rest of a killed one.
        temporary.push(format!(".{}.partial", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let handle = File::create(&temporary)?;
        Ok(Pending {
            temporary,
            name,
            handle,
        })
    }

    fn commit(&self, room: &Room) -> io::Result<()> {
        room.wait(|| self.handle.sync_all())?;
        fs::rename(&self.temporary, &self.name)?;
        sync_folder(&self.name)
    }
}

/// Makes renames in the folder of `path` last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn begin(spec: &OutputSpec, name: PathBuf, room: &Arc<Room>) -> Result<PartFile, CampaignError> {
    let shown = name.display().to_string();
    let trouble = |error| CampaignError::create(&shown, error);
    if name == Path::new("-") {
        let out = Box::new(io::stdout());
        return Ok(PartFile {
            encoder: output::encoder(spec, out).map_err(trouble)?,
            pending: None,
            shown: "standard output".to_owned(),
        });
    }
    // What a symbolic link leads to is replaced, not the link.
    let name = fs::canonicalize(&name).unwrap_or(name);
    let kind = fs::metadata(&name).ok();
    if kind.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(trouble(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if kind.is_some_and(|kind| !kind.is_file()) {
        let device = fs::OpenOptions::new().write(true).open(&name);
        let out = Box::new(device.map_err(trouble)?);
        return Ok(PartFile {
            encoder: output::encoder(spec, out).map_err(trouble)?,
            pending: None,
            shown,
        });
    }
    let pending = Pending::begin(name).map_err(trouble)?;
    let handle = pending.handle.try_clone().map_err(trouble)?;
    let out = Box::new(Patient::new(handle, Arc::clone(room)));
    Ok(PartFile {
        encoder: output::encoder(spec, out).map_err(trouble)?,
        pending: Some(pending),
        shown,
    })
}

/// Joins whole parts to one output, which gets its name when it is on the disk.
///
/// # Errors
/// Names the output.
pub fn join(spec: &OutputSpec, parts: &[PathBuf], room: &Arc<Room>) -> Result<(), CampaignError> {
    let shown = spec.path.display().to_string();
    let trouble = |error| CampaignError::write(&shown, error);
    let name = fs::canonicalize(&spec.path).unwrap_or_else(|_| spec.path.clone());
    let pending = Pending::begin(name).map_err(trouble)?;
    let handle = pending.handle.try_clone().map_err(trouble)?;
    let out = Box::new(Patient::new(handle, Arc::clone(room)));
    output::join(spec, parts, out).map_err(trouble)?;
    pending.commit(room).map_err(trouble)
}
