//! How the comparison goes, on standard error: a bar on a terminal, else a line a
//! method where asked for.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::exit::tell;
use crate::cli::trace::arguments::When;
use crate::engine::stats::Stats;

/// How often a bar is drawn.
pub const REFRESH: Duration = Duration::from_millis(250);

/// The progress shown.
pub struct Progress {
    shape: Shape,
    /// Traces of the methods before this one.
    before: u64,
    total: u64,
}

enum Shape {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// As `when` and standard error want it; so many traces there will be.
    #[must_use]
    pub fn new(when: When, total: u64) -> Self {
        let shape = match (when, std::io::stderr().is_terminal()) {
            (When::Never, _) | (When::Auto, false) => Shape::Nothing,
            (When::Always, false) => Shape::Lines,
            (_, true) => {
                let bar = ProgressBar::new(total);
                let template = "{bar:24} {pos}/{len} traces, {msg}, {elapsed_precise}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                Shape::Bar(bar)
            }
        };
        Progress {
            shape,
            before: 0,
            total,
        }
    }

    /// A method begins.
    pub fn begin(&self, run: u32, of: u32, method: &str) {
        let words = format!("run {run} of {of}: {method}");
        match &self.shape {
            Shape::Nothing => {}
            Shape::Bar(bar) => {
                bar.set_position(self.before);
                bar.set_message(words);
            }
            Shape::Lines => tell(format_args!(
                "{}/{} traces, {words}",
                self.before, self.total
            )),
        }
    }

    /// Shows how far the method is.
    pub fn tick(&self, stats: &Arc<Stats>) {
        if let Shape::Bar(bar) = &self.shape {
            bar.set_position(self.before + stats.finished.load(Ordering::Relaxed));
        }
    }

    /// A method has ended with so many traces.
    pub fn end(&mut self, traces: u64) {
        self.before += traces;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}
