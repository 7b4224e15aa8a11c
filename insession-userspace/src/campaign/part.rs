//! Result files while they are written: under a temporary name, one for each
//! output; all get their own names when they are whole and on the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CampaignError;
use super::patient::{Patient, Room};
use crate::report::output::destination::{Destination, temporary};
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

/// What a part is written to.
type Out = Box<dyn io::Write + Send>;

struct Pending {
    temporary: PathBuf,
    name: PathBuf,
    handle: File,
    /// Somebody may want what stands in it, though it never gets its name.
    is_of_use: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_of_use {
            // It has its name already, or nothing is lost with it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
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
        self.each(|file| {
            if let Some(pending) = &mut file.pending {
                pending.is_of_use = true;
            }
            file.encoder.record(trace, line)
        })
    }

    /// Adds what the flows of a target show together, where the format has a place for
    /// it.
    ///
    /// # Errors
    /// Names the file that takes no more.
    pub fn merged(&mut self, line: &[u8]) -> Result<(), CampaignError> {
        self.each(|file| file.encoder.merged(line))
    }

    /// Does it to each file. One whose reader has gone away is left out from then on,
    /// unless it is the last: the others are still wanted.
    fn each(
        &mut self,
        mut act: impl FnMut(&mut PartFile) -> io::Result<()>,
    ) -> Result<(), CampaignError> {
        let (mut nth, mut left) = (0, self.files.len());
        while let Some(file) = self.files.get_mut(nth) {
            match act(file).map_err(|error| CampaignError::write(&file.shown, error)) {
                Ok(()) => nth += 1,
                Err(CampaignError::Gone(_)) if left > 1 => {
                    drop(self.files.remove(nth));
                    left -= 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether somebody wants its end: there is a record in it, or a pipe's reader.
    pub(super) fn is_of_use(&self) -> bool {
        let mut pending = self.files.iter().map(|file| file.pending.as_ref());
        pending.any(|pending| pending.is_none_or(|pending| pending.is_of_use))
    }

    /// Hands what was written to whoever reads along: standard output, a pipe.
    ///
    /// # Errors
    /// Names the file that takes no more.
    pub fn flush(&mut self) -> Result<(), CampaignError> {
        self.each(|file| match file.pending {
            None => file.encoder.flush(),
            Some(_) => Ok(()),
        })
    }

    /// Ends the files, waits until they are on the disk, and gives them their names.
    ///
    /// # Errors
    /// Names the first file that could not be ended; all others have their names.
    pub fn finish(self, room: &Room) -> Result<(), CampaignError> {
        let mut result = Ok(());
        for file in self.files {
            let ended = file.encoder.finish();
            let ended = ended.and_then(|()| match &file.pending {
                Some(pending) => pending.commit(room),
                None => Ok(()),
            });
            result = result.and(ended.map_err(|error| CampaignError::write(&file.shown, error)));
        }
        result
    }
}

impl Pending {
    /// The file, and what is written to; `number` keeps those apart who write a file of
    /// one name.
    fn begin(name: PathBuf, number: u64, room: &Arc<Room>) -> io::Result<(Out, Self)> {
        let temporary = temporary(&name, number);
        let handle = room.wait(|| File::create(&temporary))?;
        let pending = Pending {
            temporary,
            name,
            handle,
            is_of_use: false,
        };
        let out = Patient::new(pending.handle.try_clone()?, Arc::clone(room));
        Ok((Box::new(out), pending))
    }

    fn commit(&self, room: &Room) -> io::Result<()> {
        room.wait(|| self.handle.sync_all())?;
        room.wait(|| fs::rename(&self.temporary, &self.name))?;
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
    let shown = match name == Path::new("-") {
        true => "standard output".to_owned(),
        false => name.display().to_string(),
    };
    let begun = open(name, room).and_then(|(out, pending)| {
        let encoder = output::encoder(spec, out)?;
        Ok((encoder, pending))
    });
    let (encoder, pending) = begun.map_err(|error| CampaignError::create(&shown, error))?;
    Ok(PartFile {
        encoder,
        pending,
        shown,
    })
}

/// What is written to, and the file that it becomes; standard output, a pipe or a
/// device becomes none.
fn open(name: PathBuf, room: &Arc<Room>) -> io::Result<(Out, Option<Pending>)> {
    if name == Path::new("-") {
        return Ok((Box::new(io::stdout()), None));
    }
    match Destination::of(&name)? {
        Destination::Device(device) => Ok((Box::new(device), None)),
        Destination::File(name) => {
            // Two runs at a time are told apart, and the rest of a killed one is kept.
            let (out, pending) = Pending::begin(name, u64::from(std::process::id()), room)?;
            Ok((out, Some(pending)))
        }
    }
}

/// Joins whole parts to one output, which gets its name when it is on the disk. What
/// was killed with the same `number` at it is written over.
///
/// # Errors
/// Names the output.
pub fn join(
    spec: &OutputSpec,
    parts: &[PathBuf],
    number: u64,
    room: &Arc<Room>,
) -> Result<(), CampaignError> {
    let shown = spec.path.display().to_string();
    let name = fs::canonicalize(&spec.path).unwrap_or_else(|_| spec.path.clone());
    let joined = Pending::begin(name, number, room).and_then(|(out, pending)| {
        output::join(spec, parts, out)?;
        pending.commit(room)
    });
    joined.map_err(|error| CampaignError::write(&shown, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;
    use crate::report::json;
    use crate::report::samples;

    fn begun(paths: &[&Path], room: &Arc<Room>) -> Result<Part, CampaignError> {
        let specs: Vec<_> = paths
            .iter()
            .map(|path| OutputSpec::of(path).unwrap())
            .collect();
        Part::begin(&specs, |spec| spec.path.clone(), room)
    }

    #[test]
    fn a_reader_that_goes_away_takes_no_other_output_with_it() {
        let folder = Folder::new("part-gone");
        let file = folder.path("a.jsonl");
        // Opened by its name while it still has a reader, as a shell's are.
        let fifo = folder.path("pipe.jsonl");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let room = Arc::default();
        let trace = &samples::every_verdict()[0];
        let mut line = Vec::new();
        json::append(trace, &mut line).unwrap();
        for paths in [&[&*fifo, &file][..], &[&*fifo]] {
            let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo);
            let mut part = begun(paths, &room).unwrap();
            drop(reader);
            let record = |part: &mut Part| {
                part.record(trace, &line)?;
                part.flush()
            };
            if paths.len() == 1 {
                // Nobody is left to write for.
                assert!(matches!(record(&mut part), Err(CampaignError::Gone(_))));
                continue;
            }
            record(&mut part).unwrap();
            record(&mut part).unwrap();
            part.finish(&room).unwrap();
            assert_eq!(fs::read(&file).unwrap(), line.repeat(2));
        }
    }

    #[test]
    fn files_of_no_use_are_not_left_behind() {
        let folder = Folder::new("part-left");
        let (file, nowhere) = (folder.path("a.jsonl"), folder.path("none/b.jsonl"));
        let room = Arc::default();
        assert!(begun(&[&file, &nowhere], &room).is_err());
        drop(begun(&[&file], &room).unwrap());
        assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 0);
        // Half a file of records is better than none.
        let trace = &samples::every_verdict()[0];
        let mut part = begun(&[&file], &room).unwrap();
        part.record(trace, b"{}\n").unwrap();
        drop(part);
        assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);
    }
}
