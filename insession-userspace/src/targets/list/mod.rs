//! Lists of targets, of any length and however dirty: one pass, bounded memory, in
//! a seeded pseudo-random order.
//!
//! A list is the words of the command line and then the files, in the order they
//! were named. A line is blank, a comment (`#`), a target or a prefix
//! ([`super::entry`]); any other is told with its number, and reading goes on. A
//! target that stands in it twice is traced twice: each has its own record.
//!
//! # Order
//!
//! Lines are gathered into blocks of 65,536 (or 8 MiB of text). The targets of a
//! block, a prefix being as many as it has addresses, are taken in a seeded
//! pseudo-random permutation: those of a prefix are spread over all the others, and
//! no network sees its addresses traced in a row. A target's *position* is its place
//! in that order, counted on from block to block: which target stands at a position
//! is a function of the list and the seed, and nothing else. A campaign that is
//! resumed leaves out the positions that are done.
//!
//! With a pipe, or a standard input that is one, it is a function of time as well: a
//! block ends when nothing came for 200 ms, so that what a slow producer writes is
//! traced as it comes.
//!
//! # Memory
//!
//! A block (3 MiB and its text, 11 MiB at most), a piece of 64 KiB of the file, for
//! pipes four more, and what unpacking takes (gzip 32 KiB, zstd the window that the
//! file was packed with, 8 MiB by default and 128 MiB at most).

mod block;
pub(in crate::targets) mod files;
mod lines;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use super::entry::{Density, Entry};
use super::order::Permutation;
use super::spec::TargetSpec;
use block::Block;
use files::{Files, Next};
use lines::Line;
use source::Source;

/// What is to be traced, as the user says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Targets of the command line, before all files.
    pub words: Vec<String>,
    /// Of an IPv4 prefix, one address in each prefix of this length; `None`: each.
    pub per_prefix: Option<u8>,
    /// The same for IPv6.
    pub per_prefix6: Option<u8>,
    /// Of the order, and the choice of addresses in prefixes.
    pub seed: u64,
}

/// What a list holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A target.
    Target {
        /// Its place in the order of tracing, from 0.
        position: u64,
        /// It.
        spec: TargetSpec,
    },
    /// A line that is none.
    Bad(BadLine),
}

/// A line that is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The file's name, or [`COMMAND_LINE`].
    pub file: String,
    /// Its number, from 1; of the command line, the word's.
    pub line: u64,
    /// What stands on it, shortened and printable.
    pub text: String,
    /// Why it is none: `WHY; MEND`.
    pub reason: String,
}

/// Where targets that were given as words stand.
pub const COMMAND_LINE: &str = "command line";

/// Characters of a bad line that are shown.
const SHOWN: usize = 64;

impl BadLine {
    /// What is wrong with a line.
    pub(super) fn new(file: &str, line: &Line<'_>, reason: String) -> Self {
        // Bounded before it is made printable, which may take six for one.
        let bytes = line.bytes.get(..4 * SHOWN).unwrap_or(line.bytes);
        let whole = String::from_utf8_lossy(bytes);
        let whole = whole.trim();
        let mut text: String = whole
            .chars()
            .take(SHOWN)
            .flat_map(char::escape_debug)
            .collect();
        if line.cut || bytes.len() < line.bytes.len() || whole.chars().nth(SHOWN).is_some() {
            text.push('…');
        }
        BadLine {
            file: file.to_owned(),
            line: line.number,
            text,
            reason,
        }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: \"{}\": {}",
            self.file, self.line, self.text, self.reason
        )
    }
}

/// Why a list cannot be read, or not to its end: `WHAT: WHY; MEND`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A file that cannot be opened or read.
    #[error("{what}: {why}; {mend}")]
    Input {
        /// The file, and where in it.
        what: String,
        /// The reason.
        why: String,
        /// What to do.
        mend: String,
        /// It may be otherwise next time: a disk that did not answer.
        may_pass: bool,
    },
    /// With `--strict`: the first line that is no target.
    #[error("{0}, or leave --strict out to go on without it")]
    Strict(BadLine),
}

impl ListError {
    fn new(what: &str, why: impl fmt::Display, mend: &str) -> Self {
        ListError::Input {
            what: what.to_owned(),
            why: why.to_string(),
            mend: mend.to_owned(),
            may_pass: false,
        }
    }
}

impl ListError {
    /// Whether another reading may get further.
    fn may_pass(&self) -> bool {
        matches!(self, ListError::Input { may_pass: true, .. })
    }
}

/// How much a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Targets, a prefix as many as are taken of it.
    pub targets: u64,
    /// Lines that are none.
    pub bad: u64,
    /// The first of those.
    pub first_bad: Option<BadLine>,
}

/// Counts what a list holds, in a pass of its own; `None` where it cannot be read
/// twice (a pipe, standard input). The error is that of the pass.
pub fn count(options: &ListOptions) -> Option<Result<Totals, ListError>> {
    options
        .files
        .iter()
        .all(|path| Source::is_regular(path))
        .then(|| {
            let mut reader = Reader::open(options)?;
            let mut totals = Totals::default();
            loop {
                match reader.next()? {
                    Read::Entry(Entry::One(_)) => totals.targets += 1,
                    Read::Entry(Entry::Prefix(prefix)) => {
                        totals.targets = totals.targets.saturating_add(prefix.count());
                    }
                    Read::Bad(line) => {
                        totals.bad += 1;
                        totals.first_bad.get_or_insert(line);
                    }
                    Read::Stalled => {}
                    Read::End => return Ok(totals),
                }
            }
        })
}

/// Hands out the targets of a list.
#[derive(Debug)]
pub struct Supply {
    reader: Reader,
    seed: u64,
    block: Block,
    /// Blocks so far.
    blocks: u64,
    /// Position of the block's first target.
    base: u64,
    /// The order of the block's targets; `None` while it is being gathered.
    order: Option<Permutation>,
    /// How many of them were handed out.
    taken: u64,
    /// What ended the list, told when all before it is handed out.
    failure: Option<ListError>,
    ended: bool,
}

impl Supply {
    /// Opens all that there is to read.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(options: &ListOptions) -> Result<Supply, ListError> {
        Ok(Supply {
            reader: Reader::open(options)?,
            seed: options.seed,
            block: Block::default(),
            blocks: 0,
            base: 0,
            order: None,
            taken: 0,
            failure: None,
            ended: false,
        })
    }

    /// The next target that is not `done` yet, or line that is none; bad lines come
    /// as they are read, before the targets of their block. `None` at the end.
    ///
    /// Blocks while nothing comes. An error is the last of it: what was read before
    /// was handed out, but for the block that a disk did not let be read to its end.
    pub fn next(&mut self, done: &dyn Fn(u64) -> bool) -> Option<Result<Item, ListError>> {
        loop {
            let Some(order) = self.order else {
                match self.gather() {
                    Gathered::Block => continue,
                    Gathered::Bad(line) => return Some(Ok(Item::Bad(line))),
                    Gathered::End => return self.failure.take().map(Err),
                }
            };
            while self.taken < self.block.total() {
                let (nth, position) = (self.taken, self.base + self.taken);
                self.taken += 1;
                if done(position) {
                    continue;
                }
                let spec = order
                    .of(nth)
                    .and_then(|nth| self.block.target(nth, self.seed));
                if let Some(spec) = spec {
                    return Some(Ok(Item::Target { position, spec }));
                }
            }
            self.base = self.base.saturating_add(self.block.total());
            self.block.clear();
            self.order = None;
        }
    }

    /// Reads until a block is full, or the list ends or stalls.
    fn gather(&mut self) -> Gathered {
        while !(self.ended || self.block.is_full()) {
            match self.reader.next() {
                Ok(Read::Entry(entry)) => self.block.add(&entry),
                Ok(Read::Bad(line)) => return Gathered::Bad(line),
                Ok(Read::Stalled) if self.block.total() > 0 => break,
                Ok(Read::Stalled) => {}
                Ok(Read::End) => self.ended = true,
                Err(error) => {
                    if error.may_pass() {
                        // Next time the block is longer, and its order another one:
                        // positions in it would come to mean other targets.
                        self.block.clear();
                    }
                    self.failure = Some(error);
                    self.ended = true;
                }
            }
        }
        if self.block.total() == 0 {
            return Gathered::End;
        }
        self.order = Some(Permutation::new(self.block.total(), self.seed, self.blocks));
        self.blocks += 1;
        self.taken = 0;
        Gathered::Block
    }
}

/// What came of gathering.
enum Gathered {
    Block,
    Bad(BadLine),
    End,
}

/// What a line turned out to be.
#[derive(Debug)]
enum Read {
    Entry(Entry),
    Bad(BadLine),
    /// None came for a while.
    Stalled,
    End,
}

/// Words, then files.
#[derive(Debug)]
struct Reader {
    words: std::vec::IntoIter<String>,
    word: u64,
    files: Files,
    density: Density,
}

impl Reader {
    fn open(options: &ListOptions) -> Result<Self, ListError> {
        Ok(Reader {
            words: options.words.clone().into_iter(),
            word: 0,
            files: Files::open(&options.files)?,
            density: Density {
                per_prefix: options.per_prefix,
                per_prefix6: options.per_prefix6,
            },
        })
    }

    /// The next line that is not blank.
    fn next(&mut self) -> Result<Read, ListError> {
        let density = self.density;
        let understand = |file: &str, line: &Line<'_>| match line.entry(density) {
            Ok(entry) => entry.map(Read::Entry),
            Err(reason) => Some(Read::Bad(BadLine::new(file, line, reason))),
        };
        if let Some(word) = self.words.next() {
            self.word += 1;
            let line = Line {
                number: self.word,
                bytes: word.as_bytes(),
                cut: false,
            };
            // An empty one was meant to be something.
            let blank = || {
                Read::Bad(BadLine::new(
                    COMMAND_LINE,
                    &line,
                    "empty; write a target".to_owned(),
                ))
            };
            return Ok(understand(COMMAND_LINE, &line).unwrap_or_else(blank));
        }
        Ok(match self.files.next(understand)? {
            Next::Line(read) => read,
            Next::Stalled => Read::Stalled,
            Next::End => Read::End,
        })
    }
}
