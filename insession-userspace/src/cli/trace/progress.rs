//! How the run goes, on standard error: a bar on a terminal, else a line a second.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::When;
use crate::campaign::account::is_drop;
use crate::cli::exit::tell;
use crate::engine::stats::Stats;

/// How often a bar is drawn.
const REFRESH: Duration = Duration::from_millis(250);
/// How often a line is written.
const LINE: Duration = Duration::from_secs(1);

/// The progress shown.
pub struct Progress {
    stats: Arc<Stats>,
    targets: u64,
    shape: Shape,
    before: (Instant, Moment),
}

enum Shape {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moment {
    finished: u64,
    open: u64,
    probes: u64,
    replies: u64,
    drops: u64,
}

impl Moment {
    fn read(stats: &Stats) -> Self {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        // The kernel's XDP statistics say what it threw away.
        let dropped = stats.link.lock().map_or(0, |counters| {
            let drops = counters.iter().filter(|(label, _)| is_drop(label));
            drops.map(|(_, count)| count).sum()
        });
        Moment {
            finished: get(&stats.finished),
            open: get(&stats.open),
            probes: get(&stats.probes),
            replies: get(&stats.replies),
            drops: get(&stats.malformed) + dropped,
        }
    }

    /// What is said beside targets done.
    fn words(&self, before: &Moment, span: Duration) -> String {
        let rate = |now: u64, then: u64| {
            let seconds = span.as_secs_f64().max(1e-3);
            Compact(now.saturating_sub(then) as f64 / seconds)
        };
        format!(
            "{} open, {} probes/s, {} replies/s, {} drops",
            self.open,
            rate(self.probes, before.probes),
            rate(self.replies, before.replies),
            self.drops
        )
    }
}

impl Progress {
    /// As `when` and standard error want it.
    #[must_use]
    pub fn new(when: When, targets: u64, stats: Arc<Stats>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let shape = match (when, terminal) {
            (When::Never, _) | (When::Auto, false) => Shape::Nothing,
            (When::Auto, true) if targets < 2 => Shape::Nothing,
            (When::Always, false) => Shape::Lines,
            (_, true) => {
                let bar = ProgressBar::new(targets);
                let template = "{bar:24} {pos}/{len} targets, {msg}, {elapsed_precise}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                Shape::Bar(bar)
            }
        };
        Progress {
            stats,
            targets,
            shape,
            before: (Instant::now(), Moment::default()),
        }
    }

    /// There are more to come than was thought.
    pub fn expect(&mut self, targets: u64) {
        self.targets = self.targets.max(targets);
        if let Shape::Bar(bar) = &self.shape {
            bar.set_length(self.targets);
        }
    }

    /// How often [`Progress::tick`] wants to be called; `None`: never.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        match self.shape {
            Shape::Nothing => None,
            Shape::Bar(_) => Some(REFRESH),
            Shape::Lines => Some(LINE),
        }
    }

    /// Shows how it goes now.
    pub fn tick(&mut self) {
        if matches!(self.shape, Shape::Nothing) {
            return;
        }
        let now = (Instant::now(), Moment::read(&self.stats));
        let words = now
            .1
            .words(&self.before.1, now.0.duration_since(self.before.0));
        match &self.shape {
            Shape::Nothing => {}
            Shape::Bar(bar) => {
                bar.set_position(now.1.finished);
                bar.set_message(words);
            }
            Shape::Lines => {
                let finished = now.1.finished;
                tell(format_args!("{finished}/{} targets, {words}", self.targets));
            }
        }
        self.before = now;
    }

    /// Writes something else without tearing the bar.
    pub fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shape {
            Shape::Bar(bar) => bar.suspend(write),
            _ => write(),
        }
    }

    /// The last word.
    pub fn finish(&mut self) {
        self.tick();
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}

/// Displays a rate: `950`, `12.3k`, `1.2M`.
pub struct Compact(pub f64);

impl std::fmt::Display for Compact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            rate if rate < 999.5 => write!(f, "{rate:.0}"),
            rate if rate < 999_950.0 => write!(f, "{:.1}k", rate / 1e3),
            rate => write!(f, "{:.1}M", rate / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let stats = Stats::default();
        stats.open.store(88, Ordering::Relaxed);
        stats.probes.store(1_000, Ordering::Relaxed);
        stats.malformed.store(1, Ordering::Relaxed);
        let before = Moment::read(&stats);
        stats.probes.store(25_000, Ordering::Relaxed);
        stats.replies.store(700, Ordering::Relaxed);
        *stats.link.lock().unwrap() = vec![("segment", 5), ("rx-dropped", 3), ("rx-ring-full", 4)];
        let now = Moment::read(&stats);
        assert_eq!(
            now.words(&before, Duration::from_secs(2)),
            "88 open, 12.0k probes/s, 350 replies/s, 8 drops"
        );
    }

    #[test]
    fn rates_in_few_letters() {
        for (rate, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.5, "1.0k"),
            (12_345.0, "12.3k"),
            (999_949.0, "999.9k"),
            (999_950.0, "1.0M"),
            (1_234_567.0, "1.2M"),
        ] {
            assert_eq!(Compact(rate).to_string(), text);
        }
    }
}
