//! SIGINT, SIGTERM and SIGHUP: each takes the next step towards the end, gently
//! first; after the last one the process is ended at once.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cli::exit;

/// What comes so soon behind the first signal belongs to it: timeout(1) signals
/// its child and then its group, a child that is in it too. A person who wants
/// the end at once asks a second time later than that.
const ECHO: Duration = Duration::from_secs(1);

/// What a signal leads to.
pub struct Step {
    act: Box<dyn FnOnce() + Send>,
    patience: Duration,
}

impl Step {
    /// Does `act`. What it leads to, the end of the run, is waited for `patience`
    /// long; longer only a reader holds it up who takes no more of its output.
    pub fn new(act: impl FnOnce() + Send + 'static, patience: Duration) -> Self {
        let act = Box::new(act);
        Step { act, patience }
    }
}

/// Listens from now on. The receiver has the number of steps that were taken, each
/// after it was; when the run has not ended when the patience of a step has, it is
/// ended as by a signal behind the last one. Within a runtime only.
///
/// # Errors
/// When the kernel lets no handler be set.
pub fn listen(steps: Vec<Step>) -> io::Result<watch::Receiver<usize>> {
    let (told, heard) = watch::channel(0);
    let signals = Listened {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup: match std::fs::read_to_string("/proc/self/status") {
            // nohup(1) wants the run to outlive its terminal.
            Ok(status) if ignores_hangup(&status) => None,
            _ => Some(signal(SignalKind::hangup())?),
        },
    };
    tokio::spawn(async move {
        let taken = |count| {
            // Nobody listens any more: the run is over anyway.
            let _ = told.send(count);
        };
        until_forced(signals, steps, taken, ECHO).await;
        // Sessions stay open then; the XDP program goes with the process. No
        // word about it: standard error may be what is not read any more.
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
    Ok(heard)
}

/// Where signals come from.
trait Signals {
    /// Returns when one has come. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

struct Listened {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals for Listened {
    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
            _ = hangup => (),
        }
    }
}

/// Returns when the run is to end at once; takes a step a signal, and calls `taken`.
async fn until_forced(
    mut signals: impl Signals,
    steps: Vec<Step>,
    taken: impl Fn(usize),
    echo: Duration,
) {
    let mut deadline = None;
    for (count, Step { act, patience }) in (1..).zip(steps) {
        let signal = signals.next();
        match deadline {
            None => signal.await,
            Some(deadline) => {
                if timeout_at(deadline, signal).await.is_err() {
                    return;
                }
            }
        }
        act();
        taken(count);
        deadline = Some(Instant::now() + patience);
        if !echo.is_zero() {
            let echoes = async {
                loop {
                    signals.next().await;
                }
            };
            let _ = timeout(echo, echoes).await;
        }
    }
    match deadline {
        None => signals.next().await,
        Some(deadline) => {
            let _ = timeout_at(deadline, signals.next()).await;
        }
    }
}

/// Whether this process was started with SIGHUP ignored (proc_pid_status(5)).
fn ignores_hangup(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal n is bit n - 1.
    mask.is_some_and(|mask| mask >> (libc::SIGHUP - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(1);
    /// By then whatever is short is over, on the busiest host.
    const LIMIT: Duration = Duration::from_secs(30);

    /// So many that have come, and no more.
    struct Left(u32);

    impl Signals for &mut Left {
        async fn next(&mut self) {
            match self.0.checked_sub(1) {
                Some(rest) => self.0 = rest,
                None => std::future::pending().await,
            }
        }
    }

    /// With so many signals at once and no more: whether the run was ended by force
    /// within `limit`, and how many of the two steps were taken.
    fn forced(signals: u32, echo: Duration, patience: Duration, limit: Duration) -> (bool, usize) {
        let mut left = Left(signals);
        let calls = Arc::new(AtomicUsize::new(0));
        let step = || {
            let calls = Arc::clone(&calls);
            let act = move || {
                calls.fetch_add(1, Ordering::SeqCst);
            };
            Step::new(act, patience)
        };
        let counted = AtomicUsize::new(0);
        let taken = |count| counted.store(count, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let forced = runtime.block_on(async {
            timeout(
                limit,
                until_forced(&mut left, vec![step(), step()], taken, echo),
            )
            .await
            .is_ok()
        });
        assert_eq!(left.0, 0, "not all were listened to");
        assert_eq!(calls.load(Ordering::SeqCst), counted.into_inner());
        (forced, calls.load(Ordering::SeqCst))
    }

    #[test]
    fn the_first_signal_twice_is_one() {
        assert_eq!(forced(2, LONG, LONG, SHORT), (false, 1));
        assert_eq!(forced(3, LONG, LONG, SHORT), (false, 1));
    }

    #[test]
    fn an_end_that_never_comes_is_not_waited_for() {
        assert_eq!(forced(1, SHORT, SHORT, LIMIT), (true, 1));
    }

    #[test]
    fn each_signal_takes_a_step_and_one_more_ends_it() {
        // Without time for echoes each is one of its own.
        assert_eq!(forced(2, Duration::ZERO, LONG, SHORT), (false, 2));
        assert_eq!(forced(3, Duration::ZERO, LONG, LIMIT), (true, 2));
    }

    #[test]
    fn who_was_told_to_ignore_hangups_is_known() {
        for (status, ignored) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", true),
            ("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n", false),
            ("SigBlk:\t1\n", false),
            ("SigIgn:\tnonsense\n", false),
        ] {
            assert_eq!(ignores_hangup(status), ignored, "{status}");
        }
    }
}
