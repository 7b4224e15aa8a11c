//! Diagnostics on standard error, by `-v` or `RUST_LOG`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sets the subscriber up: warnings by default, `-v` informs, `-vv` debugs and
/// has the XDP program log, `-vvv` also tells of every library. `RUST_LOG`, where
/// set, decides instead.
pub fn init(verbose: u8) {
    let directives = match verbose {
        // What the engine warns of stands in the records and the exit code.
        0 => "insession=warn,insession::engine=error",
        1 => "insession=info",
        2 => "insession=debug",
        _ => "trace",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => EnvFilter::builder().parse_lossy(wanted),
        _ => EnvFilter::builder().parse_lossy(directives),
    };
    // A second call (tests) keeps the first subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be said on standard error that standard error is gone, by a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 1)
        .try_init();
}
