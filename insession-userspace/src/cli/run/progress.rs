//! How the run goes, on standard error: a bar on a terminal, else a line now and
//! then; and all of it when SIGUSR1 asks.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::campaign::account::Moment;
use crate::cli::exit::tell;
use crate::cli::trace::arguments::When;
use crate::cli::trace::progress::Compact;

/// How often a bar is drawn, and how often the state is looked at anyway.
pub const REFRESH: Duration = Duration::from_millis(250);
/// The pace is that of so long: shorter, and the time to go jumps about; longer, and
/// a change of pace is seen late.
const PACE: Duration = Duration::from_secs(30);

/// The progress shown.
pub struct Progress {
    shape: Shape,
    interval: Duration,
    /// When the last line was written, since the run began.
    told: Duration,
    /// Moments of the last while, the oldest first.
    earlier: VecDeque<Moment>,
}

enum Shape {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// As `when` and standard error want it; lines come every `interval`.
    #[must_use]
    pub fn new(when: When, interval: Duration) -> Self {
        let shape = match (when, std::io::stderr().is_terminal()) {
            (When::Never, _) => Shape::Nothing,
            (_, false) => Shape::Lines,
            (_, true) => {
                let bar = ProgressBar::new(0);
                if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
                    bar.set_style(style);
                }
                Shape::Bar(bar)
            }
        };
        Progress {
            shape,
            interval,
            told: Duration::ZERO,
            earlier: VecDeque::new(),
        }
    }

    /// Shows how it goes now.
    pub fn tick(&mut self, now: Moment) {
        let is_old = |moment: &Moment| now.elapsed.saturating_sub(moment.elapsed) > PACE;
        // One is kept that is old enough.
        while self.earlier.get(1).is_some_and(is_old) {
            self.earlier.pop_front();
        }
        match &self.shape {
            Shape::Nothing => {}
            Shape::Bar(bar) => {
                if let Some(total) = now.total {
                    bar.set_length(total);
                }
                bar.set_position(now.done);
                bar.set_message(self.words(&now));
            }
            Shape::Lines => {
                if now.elapsed.saturating_sub(self.told) >= self.interval {
                    self.told = now.elapsed;
                    tell(self.words(&now));
                }
            }
        }
        self.earlier.push_back(now);
    }

    /// Says something else without tearing the bar.
    pub fn say(&self, message: impl std::fmt::Display) {
        match &self.shape {
            Shape::Bar(bar) => bar.suspend(|| tell(message)),
            _ => tell(message),
        }
    }

    /// No more is shown.
    pub fn finish(&mut self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }

    /// One line: targets, sessions, rates, loss, drops, time to go.
    fn words(&self, now: &Moment) -> String {
        // Rates are those of the last moment or line, the time to go is by the pace.
        let before = match self.shape {
            Shape::Lines => self
                .earlier
                .iter()
                .rev()
                .find(|it| now.elapsed.saturating_sub(it.elapsed) >= self.interval.min(PACE)),
            _ => self.earlier.back(),
        };
        words(now, before.or(self.earlier.front()), self.earlier.front())
    }
}

fn words(now: &Moment, before: Option<&Moment>, pace: Option<&Moment>) -> String {
    let mut words = format!("{}", now.done);
    // Writing to a String does not fail.
    let mut add = |text: std::fmt::Arguments<'_>| {
        let _ = words.write_fmt(text);
    };
    match (now.total, now.left()) {
        (Some(total), Some(left)) => add(format_args!("/{total} targets, {left} left")),
        _ => add(format_args!(" targets")),
    }
    add(format_args!(", {} open", now.open));
    if let Some(before) = before {
        let span = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
        let rate = |now: u64, then: u64| Compact(now.saturating_sub(then) as f64 / span.max(1e-3));
        add(format_args!(
            ", {} probes/s, {} replies/s",
            rate(now.probes, before.probes),
            rate(now.replies, before.replies)
        ));
    }
    if let Some(loss) = now.loss() {
        add(format_args!(", {:.1} % lost", loss * 100.0));
    }
    for (cause, count) in &now.drops {
        add(format_args!(", {cause} {count}"));
    }
    if now.is_paused {
        add(format_args!(", PAUSED: the disk is full"));
    }
    if let Some(span) = pace.and_then(|earlier| now.to_go(earlier)) {
        add(format_args!(", {} to go", HumanDuration(span)));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::observed::Seen;

    #[test]
    fn a_line_says_it_all() {
        let moment = |elapsed, done, probes, replies| Moment {
            elapsed: Duration::from_secs(elapsed),
            done,
            before: 0,
            total: None,
            open: 88,
            established: 80,
            sent: probes,
            probes,
            replies,
            saved: 0,
            slowed: 0,
            link: vec![],
            drops: vec![],
            seen: Seen::default(),
            bad_lines: 0,
            is_paused: false,
        };
        let before = moment(10, 100, 1_000, 900);
        let mut now = moment(12, 300, 25_000, 1_600);
        assert_eq!(words(&now, None, None), "300 targets, 88 open");
        (now.total, now.is_paused) = (Some(900), true);
        (now.seen.probes, now.seen.answered) = (1_000, 950);
        now.drops = vec![("rx-dropped", 3)];
        assert_eq!(
            words(&now, Some(&before), Some(&before)),
            "300/900 targets, 600 left, 88 open, 12.0k probes/s, 350 replies/s, 5.0 % lost, \
             rx-dropped 3, PAUSED: the disk is full, 6 seconds to go"
        );
    }
}
