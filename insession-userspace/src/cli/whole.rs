//! Files that get their names when they are whole: half a file never takes the place of
//! one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::report::output::destination::{Destination, temporary};

/// A file under the name that it has while it is written.
#[derive(Debug)]
pub struct Whole {
    temporary: PathBuf,
    name: PathBuf,
    handle: File,
}

/// What is written to, and the file it becomes; a device or pipe becomes none.
pub type Opened = (Box<dyn Write + Send>, Option<Whole>);

impl Whole {
    /// Makes a file under a temporary name beside its own; a device or pipe is opened as
    /// it is.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let name = match Destination::of(path)? {
            Destination::Device(device) => return Ok((Box::new(device), None)),
            Destination::File(name) => name,
        };
        // Two runs are kept apart, and the rest of a killed one.
        let temporary = temporary(&name, u64::from(std::process::id()));
        let handle = File::create_new(&temporary)?;
        let out = Box::new(handle.try_clone()?);
        let whole = Whole {
            temporary,
            name,
            handle,
        };
        Ok((out, Some(whole)))
    }

    /// Where what was written is as long as it has not its name.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Has the last octets on the disk, and gives it its name.
    ///
    /// # Errors
    /// When one or the other fails.
    pub fn finish(&self) -> io::Result<()> {
        self.handle.sync_data()?;
        fs::rename(&self.temporary, &self.name)
    }

    /// Removes it: half of it is of no use.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.temporary);
    }
}
