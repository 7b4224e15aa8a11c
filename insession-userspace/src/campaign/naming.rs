//! Names of hops for the records of a run, between the engine and the recorder: looked up
//! in bulk, each address once while it is remembered. A record waits for its names a
//! bounded time and in a bounded number; then it goes on with those that are known, so
//! that no name server holds a run up for longer.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dns::names::Names;
use crate::engine::Output;
use crate::trace::Trace;

/// A record waits so long for its names.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// Records that wait at most: some 60 MiB.
const WAITING: usize = 8192;
/// Outputs taken in at a time.
const BATCH: usize = 256;

/// Gives records the names of their hops.
pub struct Naming {
    /// The names.
    pub names: Names,
    /// What the engine tells.
    pub outputs: mpsc::Receiver<Output>,
    /// To whom it is told.
    pub recorder: mpsc::Sender<Output>,
    /// Sessions at a time: as long as a record is not safe its session counts among them,
    /// so half of them are left to the engine.
    pub sessions: usize,
    /// How long a record waits for its names: [`PATIENCE`].
    pub patience: Duration,
    /// Changes when the run is to end: nothing waits any more.
    pub stopped: watch::Receiver<usize>,
}

impl Naming {
    /// Passes on all that is told, until the engine has ended or the recorder takes no
    /// more.
    pub async fn run(mut self) {
        let room = (self.sessions / 2).clamp(1, WAITING);
        let mut waiting: VecDeque<(Instant, u64, Box<Trace>)> = VecDeque::new();
        let mut batch = Vec::with_capacity(BATCH);
        let (mut is_open, mut is_stopped) = (true, *self.stopped.borrow() > 0);
        let mut is_watched = true;
        while is_open || !waiting.is_empty() {
            let wake = waiting.front().map(|(until, ..)| *until);
            tokio::select! {
                biased;
                changed = self.stopped.changed(), if is_watched => {
                    is_watched = changed.is_ok();
                    is_stopped |= is_watched;
                }
                count = self.outputs.recv_many(&mut batch, BATCH), if is_open => {
                    is_open = count > 0;
                }
                () = self.names.step() => {}
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            for output in batch.drain(..) {
                match output {
                    Output::Trace { index, trace } => {
                        if !is_stopped {
                            self.names.want_all(&trace);
                        }
                        waiting.push_back((Instant::now() + self.patience, index, trace));
                    }
                    other => {
                        if self.recorder.send(other).await.is_err() {
                            return;
                        }
                    }
                }
            }
            let now = Instant::now();
            while let Some((until, index, mut trace)) = waiting.pop_front() {
                let is_due = is_stopped
                    || until <= now
                    || waiting.len() >= room
                    || self.names.settled(&trace);
                if !is_due {
                    waiting.push_front((until, index, trace));
                    break;
                }
                self.names.fill(&mut trace);
                let output = Output::Trace { index, trace };
                if self.recorder.send(output).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Reverse;
    use crate::report::samples;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// How long records wait in these tests.
    const SOON: Duration = Duration::from_millis(400);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test);
    }

    /// A stage under way, and what it is worked by.
    struct Bed {
        engine: mpsc::Sender<Output>,
        recorder: mpsc::Receiver<Output>,
        stop: watch::Sender<usize>,
    }

    fn bed(names: Names, sessions: usize) -> Bed {
        let (engine, outputs) = mpsc::channel(64);
        let (told, recorder) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(0);
        tokio::spawn(
            Naming {
                names,
                outputs,
                recorder: told,
                sessions,
                patience: SOON,
                stopped,
            }
            .run(),
        );
        Bed {
            engine,
            recorder,
            stop,
        }
    }

    fn record(index: u64) -> Output {
        let trace = Box::new(samples::four_hops());
        Output::Trace { index, trace }
    }

    /// The number of a record, and the names of its hops.
    fn named(output: Option<Output>) -> (u64, Vec<Option<String>>) {
        let Some(Output::Trace { index, trace }) = output else {
            panic!("no record");
        };
        let first =
            |hop: &crate::trace::Hop| hop.probes[0].reply.as_ref().and_then(|it| it.name.clone());
        (index, trace.hops.iter().map(first).collect())
    }

    /// Names that take a while, for some for ever.
    fn slow(asked: &Arc<AtomicU32>) -> Names {
        let asked = Arc::clone(asked);
        Names::in_bulk_by(Arc::new(move |address: IpAddr| {
            asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match address.to_string().as_str() {
                    "10.0.9.2" => std::future::pending().await,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
                Reverse::Named(format!("r-{address}"))
            })
        }))
    }

    #[test]
    fn a_record_waits_for_its_names_and_not_for_ever() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        run(async move {
            let mut bed = bed(slow(&asked), 1000);
            let begun = Instant::now();
            for index in 0..20 {
                bed.engine.send(record(index)).await.unwrap();
            }
            drop(bed.engine);
            for index in 0..20 {
                let (found, names) = named(bed.recorder.recv().await);
                assert_eq!(found, index);
                let expected = [Some("r-10.0.1.1"), Some("r-10.0.2.1"), None, None];
                assert_eq!(names, expected.map(|it| it.map(str::to_owned)));
            }
            assert!(bed.recorder.recv().await.is_none());
            let took = begun.elapsed();
            assert!((SOON..10 * SOON).contains(&took), "{took:?}");
        });
        // Once an address.
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn no_more_wait_than_half_of_the_sessions() {
        run(async {
            let mut bed = bed(slow(&Arc::default()), 8);
            for index in 0..9 {
                bed.engine.send(record(index)).await.unwrap();
            }
            let begun = Instant::now();
            for index in 0..5 {
                assert_eq!(named(bed.recorder.recv().await).0, index);
            }
            assert!(begun.elapsed() < SOON, "they wait");
            assert_eq!(named(bed.recorder.recv().await).0, 5);
            assert!(begun.elapsed() >= SOON / 2, "they do not wait");
        });
    }

    #[test]
    fn nothing_waits_when_the_run_is_stopped_or_nobody_records() {
        run(async {
            let mut bed = bed(slow(&Arc::default()), 1000);
            let begun = Instant::now();
            bed.engine.send(record(0)).await.unwrap();
            tokio::task::yield_now().await;
            bed.stop.send(1).unwrap();
            assert_eq!(named(bed.recorder.recv().await).0, 0);
            bed.engine.send(record(1)).await.unwrap();
            assert_eq!(named(bed.recorder.recv().await).0, 1);
            assert!(begun.elapsed() < SOON, "they wait");
            drop(bed.recorder);
            // The engine learns of it by its channel.
            bed.engine.send(record(2)).await.unwrap();
            bed.engine.closed().await;
        });
    }
}
