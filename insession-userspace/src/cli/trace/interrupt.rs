//! SIGINT and SIGTERM: the first ends the run in order, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::exit;

/// Listens from now on. The receiver turns true at the first signal, after
/// `stop` was set. Within a runtime only.
///
/// # Errors
/// When the kernel lets no handler be set.
pub fn listen(stop: Arc<AtomicBool>) -> io::Result<watch::Receiver<bool>> {
    let (told, heard) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        };
        next().await;
        stop.store(true, Ordering::SeqCst);
        // Nobody listens any more: the run is over anyway.
        let _ = told.send(true);
        next().await;
        // Sessions stay open then; the XDP program goes with the process.
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
    Ok(heard)
}
