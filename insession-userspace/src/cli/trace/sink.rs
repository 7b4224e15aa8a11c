//! Where records go: standard output, or a file that gets its name at the end.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::cli::exit::Failure;
use crate::cli::whole::Whole;
use crate::multipath::paths::Paths;
use crate::report::text::Style;
use crate::report::{Format, json, paths, text};
use crate::trace::Trace;

/// Octets that are handed over at a time, while records come faster than one by one.
const BUFFER: usize = 1 << 16;

/// Why a sink takes no more.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader of a pipe has gone away: no error, but the run is over.
    Gone,
    /// An error that is to be told.
    Failed(Failure),
}

/// A place for records.
pub struct Sink {
    name: String,
    format: Format,
    style: Style,
    out: BufWriter<Box<dyn Write>>,
    file: Option<Whole>,
    closed: bool,
    /// Nothing was written yet.
    fresh: bool,
}

impl Sink {
    /// Standard output.
    #[must_use]
    pub fn stdout(format: Format, style: Style) -> Self {
        Sink::new("standard output", Box::new(io::stdout()), format, style)
    }

    fn new(name: &str, out: Box<dyn Write>, format: Format, style: Style) -> Self {
        Sink {
            name: name.to_owned(),
            format,
            style,
            out: BufWriter::with_capacity(BUFFER, out),
            file: None,
            closed: false,
            fresh: true,
        }
    }

    /// A file. It is written under a temporary name beside its own and renamed
    /// by [`Sink::finish`]; a device or pipe is written as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(path: &Path, format: Format, style: Style) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let trouble = |error: io::Error| {
            Failure::usage(format!(
                "--output {shown}: {error}; name a file that can be written"
            ))
        };
        let (out, file) = Whole::open(path).map_err(trouble)?;
        let mut sink = Sink::new(&shown, out, format, style);
        sink.file = file;
        Ok(sink)
    }

    /// Whether it is a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes one record. `line` is its line of JSON, or empty as long as no sink has
    /// needed that.
    ///
    /// # Errors
    /// Once, when it takes no more; later records are dropped quietly.
    pub fn trace(&mut self, trace: &Trace, line: &mut Vec<u8>) -> Result<(), Closed> {
        let (format, style, fresh) = (self.format, self.style, self.fresh);
        self.put(|out| match format {
            Format::Text => {
                // An empty line between the blocks of two targets.
                if !fresh {
                    out.write_all(b"\n")?;
                }
                text::write(trace, style, out)
            }
            Format::Json => {
                if line.is_empty() {
                    json::append(trace, line)?;
                }
                out.write_all(line)
            }
        })
    }

    /// Writes the flows of a target, merged.
    ///
    /// # Errors
    /// As [`Sink::trace`].
    pub fn paths(&mut self, merged: &Paths) -> Result<(), Closed> {
        let (format, style, fresh) = (self.format, self.style, self.fresh);
        self.put(|out| match format {
            Format::Text => {
                if !fresh {
                    out.write_all(b"\n")?;
                }
                paths::write(merged, style, out)
            }
            Format::Json => {
                let mut line = Vec::new();
                paths::append(merged, &mut line)?;
                out.write_all(&line)
            }
        })
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// As [`Sink::trace`].
    pub fn text(&mut self, text: &str) -> Result<(), Closed> {
        if text.is_empty() {
            return Ok(());
        }
        self.put(|out| out.write_all(text.as_bytes()))
    }

    /// Hands over what was written.
    ///
    /// # Errors
    /// As [`Sink::trace`].
    pub fn flush(&mut self) -> Result<(), Closed> {
        if self.fresh {
            return Ok(());
        }
        self.put(|out| out.flush())
    }

    /// Gives a file its name, if all that was to be written to it was: half a file
    /// does not replace a whole one. To be called however the run ended: records
    /// that were written are never lost.
    ///
    /// # Errors
    /// When the last bytes or the name did not get to the disk.
    pub fn finish(mut self) -> Result<(), Closed> {
        self.flush()?;
        if self.closed {
            // Told when it happened.
            return Ok(());
        }
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        file.finish().map_err(|error| {
            Closed::Failed(Failure::failed(format!(
                "{}: {error}; the records are in {}",
                self.name,
                file.temporary().display()
            )))
        })
    }

    fn put(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Closed> {
        if self.closed {
            return Ok(());
        }
        self.fresh = false;
        write(&mut self.out).map_err(|error| {
            self.closed = true;
            if error.kind() == io::ErrorKind::BrokenPipe {
                return Closed::Gone;
            }
            let kept = self.file.as_ref().map_or_else(String::new, |file| {
                format!("; what was written is in {}", file.temporary().display())
            });
            Closed::Failed(Failure::failed(format!(
                "{}: {error}; make room or write elsewhere{kept}",
                self.name
            )))
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The buffer of a closed sink would be tried again by its own drop, to
        // no use; that of one that was given up early holds records.
        if !self.closed {
            let _ = self.out.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::report::samples;

    const STYLE: Style = Style {
        names: false,
        max_ttl: 30,
        method: crate::trace::Method::InSession,
    };

    /// A folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("insession-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let folder = folder("sink-whole");
        let path = folder.join("out.jsonl");
        fs::write(&path, "old").unwrap();
        let mut sink = Sink::file(&path, Format::Json, STYLE).unwrap();
        sink.trace(&samples::contract(), &mut Vec::new()).unwrap();
        sink.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        sink.trace(&samples::contract(), &mut Vec::new()).unwrap();
        sink.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sinks_share_a_line_of_json() {
        let folder = folder("sink-shared");
        let names = ["a", "b"].map(|name| folder.join(name));
        let mut sinks = names
            .each_ref()
            .map(|path| Sink::file(path, Format::Json, STYLE).unwrap());
        for trace in samples::every_verdict() {
            let mut line = Vec::new();
            for sink in &mut sinks {
                sink.trace(&trace, &mut line).unwrap();
            }
        }
        for sink in sinks {
            sink.finish().unwrap();
        }
        let mut expected = Vec::new();
        for trace in samples::every_verdict() {
            json::write(&trace, &mut expected).unwrap();
        }
        for path in names {
            assert_eq!(fs::read(path).unwrap(), expected);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn records_outlive_a_run_that_never_finished() {
        let folder = folder("sink-partial");
        let mut sink = Sink::file(&folder.join("out"), Format::Json, STYLE).unwrap();
        sink.trace(&samples::contract(), &mut Vec::new()).unwrap();
        drop(sink);
        let left: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].extension().unwrap(), "partial");
        assert!(fs::read_to_string(&left[0]).unwrap().ends_with("}\n"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn blocks_of_text_are_apart_and_lines_of_json_are_not() {
        let folder = folder("sink-blocks");
        let path = folder.join("out");
        for (format, blank) in [(Format::Text, 1), (Format::Json, 0)] {
            let mut sink = Sink::file(&path, format, STYLE).unwrap();
            sink.flush().unwrap();
            sink.trace(&samples::contract(), &mut Vec::new()).unwrap();
            sink.flush().unwrap();
            sink.trace(&samples::contract(), &mut Vec::new()).unwrap();
            sink.finish().unwrap();
            let written = fs::read_to_string(&path).unwrap();
            assert_eq!(
                written.lines().filter(|line| line.is_empty()).count(),
                blank
            );
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = folder("sink-link");
        let (target, link) = (folder.join("target"), folder.join("link"));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut sink = Sink::file(&link, Format::Text, STYLE).unwrap();
        sink.text("hop\n").unwrap();
        sink.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "hop\n");
        fs::remove_dir_all(folder).unwrap();

        let mut null = Sink::file(Path::new("/dev/null"), Format::Text, STYLE).unwrap();
        null.text("hop\n").unwrap();
        assert!(!null.is_file());
        null.finish().unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_told_once() {
        let mut full = Sink::file(Path::new("/dev/full"), Format::Text, STYLE).unwrap();
        full.text("hop\n").unwrap();
        let Err(Closed::Failed(failure)) = full.flush() else {
            panic!("/dev/full took it");
        };
        assert_eq!(failure.code, 1);
        assert!(
            failure.message.starts_with("/dev/full: "),
            "{}",
            failure.message
        );
        assert_eq!(full.text("hop\n"), Ok(()));
        assert_eq!(full.finish(), Ok(()));

        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut pipe = Sink::new("pipe", Box::new(writer), Format::Text, STYLE);
        pipe.text("hop\n").unwrap();
        assert_eq!(pipe.flush(), Err(Closed::Gone));
        assert_eq!(pipe.flush(), Ok(()));
    }

    #[test]
    fn a_place_that_is_none_is_bad_input() {
        for path in ["/", "/no/such/folder/out"] {
            let failure = Sink::file(Path::new(path), Format::Json, STYLE)
                .err()
                .unwrap();
            assert_eq!(failure.code, 2, "{path}");
            assert!(failure.message.starts_with(&format!("--output {path}: ")));
        }
    }
}
