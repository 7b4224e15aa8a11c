//! What a name of a result stands for, and what a file is called while it is written.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where a result goes.
#[derive(Debug)]
pub enum Destination {
    /// A pipe or a device: written as it is.
    Device(File),
    /// A file, which gets this name when it is whole.
    File(PathBuf),
}

impl Destination {
    /// What stands at `path`, or will. What a symbolic link leads to is replaced, not
    /// the link.
    ///
    /// # Errors
    /// For a directory, and for a device that cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&name) {
            Ok(kind) if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(kind) if !kind.is_file() => {
                let device = OpenOptions::new().write(true).open(&name)?;
                Ok(Destination::Device(device))
            }
            _ => Ok(Destination::File(name)),
        }
    }
}

/// What a file of this name is called while it is written, beside its own name;
/// `number` keeps those apart who write one of the same.
#[must_use]
pub fn temporary(name: &Path, number: u64) -> PathBuf {
    let mut temporary = name.as_os_str().to_owned();
    temporary.push(format!(".{number}.partial"));
    PathBuf::from(temporary)
}
