//! Campaigns: long lists of targets, of which each gets its record exactly once,
//! whatever happens to the process meanwhile.
//!
//! ```text
//! record ─▶ journal (the kernel has it: it is done) ─▶ part of each output
//!                                                        │ whole: on the disk, named
//!                                                        ▼
//!                                      state (what is done) ─▶ next journal, next part
//! ```
//!
//! The directory of a campaign:
//!
//! | file | what it is |
//! |---|---|
//! | `plan.toml` | what was asked for: options, digests of the lists ([`plan`]) |
//! | `state.json` | how many parts are whole, and which targets stand in them ([`state`]) |
//! | `journal.N` | the records since, as they were finished ([`journal`]) |
//! | `parts/` | result files, whole ones and those being written ([`part`]) |
//! | `targets.N` | a copy of a list that can be read only once: standard input, a pipe |
//! | `bad-lines.txt` | lines of the lists that are no targets |
//! | `lock` | held by the process that runs it |
//!
//! Whatever is lost with a process is what had not reached the journal: sessions
//! that were in flight. Whatever part was not whole is made again from the journal.

pub mod account;
pub mod directory;
pub mod done;
pub mod journal;
pub mod naming;
pub mod observed;
pub mod part;
pub mod patient;
pub mod plan;
pub mod recorder;
pub mod state;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::path::Path;

/// Why a campaign cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// What was given is not right.
    #[error("{0}")]
    Input(String),
    /// The file system took something no more.
    #[error("{what}: {source}; {mend}")]
    Io {
        /// What was to be written or read.
        what: String,
        /// Why it was not.
        source: io::Error,
        /// What helps.
        mend: &'static str,
    },
    /// Whoever read standard output or a pipe went away: no error, but the end.
    #[error("{0}: its reader has gone away")]
    Gone(String),
}

impl CampaignError {
    /// A file that cannot be made.
    fn create(what: &str, source: io::Error) -> Self {
        CampaignError::Input(format!("{what}: {source}; name a file that can be written"))
    }

    /// A file that takes no more.
    fn write(what: &str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return CampaignError::Gone(what.to_owned());
        }
        CampaignError::Io {
            what: what.to_owned(),
            source,
            mend: "mend the disk or write elsewhere",
        }
    }

    /// A file that cannot be read.
    fn read(path: &Path, source: io::Error) -> Self {
        CampaignError::Io {
            what: path.display().to_string(),
            source,
            mend: "name the directory of a campaign",
        }
    }
}
