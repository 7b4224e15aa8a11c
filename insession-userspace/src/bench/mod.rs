//! What the engine, its links and this machine can do, measured: the library
//! below `insession bench`, and below the repository's own bench.
//!
//! Each measurement is a function in a file of its own that takes a [`Ground`]
//! (where traffic goes), its options and [`Settings`], and returns a struct that
//! serializes. Nothing here prints; progress goes to [`Watch`].
//!
//! | file | what it is for |
//! |---|---|
//! | `figure` | rounds of one quantity: median, least, most |
//! | `machine` | what the figures were measured on |
//! | `cpu` | processor time, and exactly what of it |
//! | `ground` | interface, route and targets |
//! | `trial` | one bounded run of the engine over a real link |
//! | `meter` | a link that times what it costs itself |
//! | `search`, `ceiling`, `probes`, `latency`, `opening`, `smoothness`, `held`, `ablation`, `scale`, `steering` | a measurement each |
//! | `suite` | several of them, one result |
//! | `text`, `json`, `html`, `plot` | how results are shown |

use std::time::Duration;

use crate::link::LinkError;

pub mod ablation;
pub mod ceiling;
mod choice;
pub mod cpu;
pub mod figure;
pub mod ground;
pub mod held;
pub mod html;
pub mod json;
pub mod latency;
pub mod machine;
mod meter;
pub mod opening;
pub mod plot;
pub mod probes;
#[cfg(test)]
mod samples;
pub mod scale;
pub mod search;
pub mod smoothness;
pub mod steering;
pub mod suite;
pub mod text;
pub mod trial;

pub use figure::Figure;
pub use ground::Ground;

/// How long and how often everything is measured.
pub struct Settings<'a> {
    /// Rounds of each figure, 1 or more.
    pub rounds: u32,
    /// Of one trial: how long traffic is offered.
    pub duration: Duration,
    /// Who looks on.
    pub watch: &'a dyn Watch,
}

/// Who looks on while it is measured, and may end it.
pub trait Watch: Sync {
    /// What is being done now.
    fn step(&self, what: &str);

    /// Whether to end: the measurement returns [`BenchError::Interrupted`].
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn step(&self, _what: &str) {}
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It was ended.
    #[error("the measurement: it was ended first; run it again")]
    Interrupted,
    /// This link, machine or place cannot be measured so. `WHAT: WHY; MEND`.
    #[error("{0}")]
    Cannot(String),
    /// Anything else. `WHAT: WHY; MEND`.
    #[error("{0}")]
    Failed(String),
}

impl Settings<'_> {
    /// Tells `what`, or says that it is over.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`].
    pub fn step(&self, what: &str) -> Result<(), BenchError> {
        if self.watch.is_stopped() {
            return Err(BenchError::Interrupted);
        }
        self.watch.step(what);
        Ok(())
    }
}
