//! How a survey goes, on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::aliases::survey::Progress;
use crate::cli::exit::tell;
use crate::cli::trace::arguments::When;

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// The progress shown.
pub struct Shown {
    shape: Shape,
    /// Rounds of measuring.
    rounds: u16,
}

enum Shape {
    Nothing,
    Bar(ProgressBar),
    Lines(Instant),
}

impl Shown {
    /// Where and when it is asked for; of so many rounds of measuring.
    #[must_use]
    pub fn new(when: When, rounds: u16) -> Self {
        let shape = match (when, std::io::stderr().is_terminal()) {
            (When::Never, _) | (When::Auto, false) => Shape::Nothing,
            (_, true) => Shape::Bar(ProgressBar::new_spinner()),
            (When::Always, false) => Shape::Lines(Instant::now()),
        };
        Shown { shape, rounds }
    }

    /// Shows it.
    pub fn show(&mut self, progress: &Progress) {
        let text = || text(progress, self.rounds);
        match &mut self.shape {
            Shape::Nothing => {}
            Shape::Bar(bar) => {
                bar.set_message(text());
                bar.tick();
            }
            Shape::Lines(before) => {
                if before.elapsed() >= LINE {
                    *before = Instant::now();
                    tell(text());
                }
            }
        }
    }

    /// No longer.
    pub fn end(&self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}

fn text(progress: &Progress, rounds: u16) -> String {
    format!(
        "aliases: round {} of {rounds}, {} probes, {} answers; pairs: {} tried, {} on trial, {} waiting",
        progress.rounds,
        progress.sent,
        progress.answered,
        progress.ended,
        progress.running,
        progress.waiting
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = Progress {
            rounds: 3,
            sent: 90,
            answered: 80,
            waiting: 5,
            running: 2,
            ended: 1,
        };
        assert_eq!(
            text(&progress, 10),
            "aliases: round 3 of 10, 90 probes, 80 answers; pairs: 1 tried, 2 on trial, 5 waiting"
        );
    }
}
