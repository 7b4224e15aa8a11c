//! `insession bench`: what the engine, its links and this machine can do.
//!
//! Signals are heard on tokio; everything is measured on a thread of its own,
//! which goes into the test bed's network namespace.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::exit::{self, Failure};
use super::interrupt::{self, Step};
use crate::bench::suite::Results;
use crate::bench::{BenchError, html, json, text};

pub mod arguments;
mod place;
mod progress;

pub use arguments::Arguments;

/// After a signal sessions are closed and a trial ends, which takes so long at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exit codes in words.
pub const EXITS: &str = "\
Exit status:
  0    everything that was asked for was measured
  1    something was not; the report says what and why
  2    usage or bad input
  3    not permitted: CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF are needed,
       and CAP_SYS_ADMIN for a network namespace of its own
  4    no usable link or interface
  130  interrupted by SIGINT, SIGTERM or SIGHUP; what was measured is reported";

/// Runs the subcommand.
///
/// # Errors
/// When nothing could be measured, or results could not be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    arguments.check()?;
    crate::bench::trial::require_rights()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::failed(format!("tokio: {error}; raise the limits (ulimit -a)"))
        })?;
    let results = runtime.block_on(measured(arguments.clone()))?;
    write(arguments, &results)?;
    Ok(match (results.interrupted, results.missing.is_empty()) {
        (true, _) => exit::INTERRUPTED,
        (false, false) => exit::FAILED,
        (false, true) => exit::OK,
    })
}

/// The results, from a thread of their own.
async fn measured(arguments: Arguments) -> Result<Results, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let _interrupted = interrupt::listen(vec![Step::new(
        move || asked.store(true, Ordering::SeqCst),
        PATIENCE,
    )])
    .map_err(|error| Failure::failed(format!("signals: {error}; report it")))?;
    let (done, results) = oneshot::channel();
    std::thread::Builder::new()
        .name("bench".to_owned())
        .spawn(move || {
            // Fails when nobody waits any more.
            let _ = done.send(place::measure(&arguments, stop));
        })
        .map_err(|error| {
            Failure::failed(format!(
                "a thread: {error}; raise the limit of processes (ulimit -u)"
            ))
        })?;
    results.await.unwrap_or_else(|_| {
        Err(Failure::failed(
            "the measurement: it ended by a panic, whose message stands above; report it",
        ))
    })
}

/// Everywhere it was asked for.
fn write(arguments: &Arguments, results: &Results) -> Result<(), Failure> {
    let document = json::document(results)?;
    if let Some(path) = &arguments.output {
        write_file("--output", path, &document)?;
    }
    if let Some(path) = &arguments.html {
        write_file("--html", path, &html::page(results))?;
    }
    let shown = if arguments.json {
        document
    } else {
        text::table(results)
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(
            format!("standard output: {error}; write to somewhere else"),
        )),
        _ => Ok(()),
    }
}

fn write_file(option: &str, path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::failed(format!(
            "{option} {}: {error}; name a file that can be written",
            path.display()
        ))
    })
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Link(error) => error.into(),
            BenchError::Interrupted => Failure {
                code: exit::INTERRUPTED,
                message: error.to_string(),
            },
            BenchError::Cannot(message) => Failure {
                code: exit::NO_LINK,
                message,
            },
            BenchError::Failed(message) => Failure::failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_code() {
        let codes = [
            exit::OK,
            exit::FAILED,
            exit::USAGE,
            exit::NOT_PERMITTED,
            exit::NO_LINK,
            exit::INTERRUPTED,
        ];
        for code in codes {
            assert!(EXITS.contains(&format!("\n  {code:<5}")), "{code}");
        }
    }

    #[test]
    fn errors_choose_the_code() {
        let code = |error: BenchError| Failure::from(error).code;
        assert_eq!(code(BenchError::Interrupted), 130);
        assert_eq!(code(BenchError::Cannot(String::new())), 4);
        assert_eq!(code(BenchError::Failed(String::new())), 1);
    }
}
