//! Files one after the other, line by line: what lists of targets and of exclusions
//! have in common.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::ListError;
use super::lines::{Line, Lines};
use super::source::{Got, Source};

/// Files that are read to their end, in their order.
#[derive(Debug)]
pub(in crate::targets) struct Files {
    sources: VecDeque<Source>,
    piece: Vec<u8>,
    /// How much of the piece is read.
    at: usize,
    lines: Lines,
}

/// What [`Files::next`] comes to.
#[derive(Debug)]
pub(in crate::targets) enum Next<T> {
    /// What a line is.
    Line(T),
    /// None came for a while.
    Stalled,
    /// The end of the last file.
    End,
}

impl Files {
    /// Opens all of them; `-` is standard input.
    ///
    /// # Errors
    /// One that cannot be opened.
    pub(in crate::targets) fn open(paths: &[PathBuf]) -> Result<Self, ListError> {
        let stdin = paths.iter().filter(|path| *path == Path::new("-"));
        if stdin.count() > 1 {
            return Err(ListError::new(
                "standard input",
                "it was named twice",
                "it can be read once: leave one - out",
            ));
        }
        let sources = paths.iter().map(|path| Source::open(path));
        Ok(Files {
            sources: sources.collect::<Result<_, _>>()?,
            piece: Vec::new(),
            at: 0,
            lines: Lines::default(),
        })
    }

    /// The next line that `understand`, given the file's name and the line, takes to
    /// be something.
    ///
    /// # Errors
    /// A file that cannot be read on: the end of all.
    pub(in crate::targets) fn next<T>(
        &mut self,
        understand: impl Fn(&str, &Line<'_>) -> Option<T>,
    ) -> Result<Next<T>, ListError> {
        while let Some(source) = self.sources.front_mut() {
            let mut rest = self.piece.get(self.at..).unwrap_or_default();
            while !rest.is_empty() {
                let line = self.lines.take(&mut rest);
                self.at = self.piece.len() - rest.len();
                if let Some(line) = line.and_then(|line| understand(source.name(), &line)) {
                    return Ok(Next::Line(line));
                }
            }
            self.at = 0;
            self.piece.clear();
            match source.read(&mut self.piece, self.lines.number()) {
                Ok(Got::Bytes) => {}
                Ok(Got::Stalled) => return Ok(Next::Stalled),
                Ok(Got::End) => {
                    let last = self.lines.finish();
                    let last = last.and_then(|line| understand(source.name(), &line));
                    self.lines = Lines::default();
                    self.sources.pop_front();
                    if let Some(line) = last {
                        return Ok(Next::Line(line));
                    }
                }
                Err(error) => {
                    // What came of its last line may be half of it.
                    self.sources.clear();
                    return Err(error);
                }
            }
        }
        Ok(Next::End)
    }
}
