//! A run while it goes: the stages are started, what they tell is told on, signals
//! are heeded, and the end is put in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::prepare::Run;
use super::progress::{Progress, REFRESH};
use super::{Arguments, metrics, summary};
use crate::campaign::CampaignError;
use crate::campaign::account::Account;
use crate::campaign::directory::BAD_LINES;
use crate::campaign::naming::{self, Naming};
use crate::campaign::patient::Room;
use crate::campaign::recorder::Recorder;
use crate::campaign::store::Store;
use crate::cli::exit::{self, Failure, tell};
use crate::cli::interrupt::{self, Step};
use crate::cli::probing::Probing;
use crate::cli::probing::engine::{Channels, Engine};
use crate::cli::probing::flows::Feeder;
use crate::dns::Dns;
use crate::dns::names::Names;
use crate::engine::{Output, Stop, Unbegun};
use crate::link::LinkError;
use crate::multipath::flows::Opener;
use crate::targets::list::{self, BadLine, ListError, ListOptions};
use crate::targets::stage::{Stage, Summary};
use crate::trace::Verdict;

/// Targets that are resolved before the engine takes them.
const RESOLVED: usize = 256;
/// Outputs that the engine may be ahead of the recorder.
const AHEAD: usize = 4096;
/// Bad lines that may wait to be told.
const BAD_AHEAD: usize = 1024;
/// Bad lines that are told one by one; further ones are counted, and stand in the
/// campaign's directory.
const TOLD: u64 = 100;
/// After the grace the engine closes its sessions, and the outputs are ended; what
/// takes longer is stuck.
const CLOSING: Duration = Duration::from_secs(30);

/// What the stages end with.
struct Ends {
    stage: oneshot::Receiver<Result<Summary, ListError>>,
    engine: oneshot::Receiver<Result<(), LinkError>>,
    recorder: oneshot::Receiver<Result<Store, CampaignError>>,
}

/// How they ended.
struct Ended {
    stage: Option<Result<Summary, ListError>>,
    engine: Result<(), LinkError>,
    recorder: Result<Store, CampaignError>,
    /// Signals that were heeded.
    signals: usize,
}

/// Runs it; gives the exit code.
///
/// # Errors
/// When it could not begin, or could not go on.
pub async fn drive(arguments: &Arguments, run: Run) -> Result<u8, Failure> {
    let stop = Arc::new(Stop::new());
    let Run {
        session,
        flows,
        family,
        lists,
        supply,
        exclusions,
        owners,
        store,
        found,
        campaign,
        room,
    } = run;
    let (done, verdicts) = match found {
        Some(found) => {
            if found.torn > 0 {
                tell(format_args!(
                    "the journal's last {} octets were not whole, and are left out",
                    found.torn
                ));
            }
            (found.done, found.verdicts)
        }
        None => Default::default(),
    };
    let account = Arc::new(Account::new(Arc::clone(&room), done.count()));
    let mut kept = match &campaign {
        Some(path) => Some(File::create(path.join(BAD_LINES)).map_err(|error| {
            Failure::failed(format!(
                "{}: {error}; mend the directory",
                path.join(BAD_LINES).display()
            ))
        })?),
        None => None,
    };
    if let Some(address) = arguments.metrics {
        let bound = metrics::serve(address, Arc::clone(&account)).await?;
        tell(format_args!("metrics: http://{bound}/metrics"));
    }
    let grace = arguments.grace;
    let (gently, at_once) = (Arc::clone(&stop), Arc::clone(&stop));
    let mut interrupted = interrupt::listen(vec![
        Step::new(move || gently.drain(grace), grace + CLOSING),
        Step::new(move || at_once.end(), CLOSING),
    ])
    .map_err(|error| signals(&error))?;
    let mut status = signal(SignalKind::user_defined1()).map_err(|error| signals(&error))?;

    let recorded = Arc::new(AtomicUsize::new(0));
    let engine = Engine::new(&arguments.probing, &session, |options| {
        options.unbegun = Unbegun::Untold;
        options.router_rate = arguments.router_rate;
        options.share_near_hops = arguments.share_near_hops;
        options.recorded = Some(Arc::clone(&recorded));
    })?;
    let (to_engine, targets) = mpsc::channel(RESOLVED);
    let dns = Arc::new(Dns::from_system(family));
    let (told, outputs) = mpsc::channel(AHEAD);
    let outputs = match arguments.names {
        true => named(&arguments.probing, &dns, outputs, interrupted.clone()),
        false => outputs,
    };
    let (bad, mut bad_lines) = mpsc::channel(BAD_AHEAD);
    let (others, mut notices) = mpsc::unbounded_channel();
    let feeder = flows.map(Feeder::new);
    let to_engine = match &feeder {
        None => to_engine,
        Some(feeder) => {
            let (to_feeder, resolved) = mpsc::channel(RESOLVED);
            // It ends with the engine, or when all flows are back.
            tokio::spawn(Arc::clone(feeder).feed(resolved, to_engine));
            to_feeder
        }
    };
    let done = Arc::new(done);
    let stage = Stage {
        supply,
        dns,
        exclusions: Arc::new(exclusions),
        asked: arguments.probing.asked(),
        family,
        strict: arguments.strict,
        done: Arc::new(move |position| done.contains(position)),
        targets: to_engine,
        outputs: told.clone(),
        bad,
        tally: Arc::default(),
    };
    let capture = engine.capture();
    let engine = engine.start(Channels {
        targets,
        outputs: told,
        openings: None,
        stop: Arc::clone(&stop),
        stats: Arc::clone(&account.stats),
    })?;
    let recorder = Recorder {
        store,
        outputs,
        observed: Arc::clone(&account.observed),
        recorded,
        owners,
        others,
        opener: feeder.map(|feeder| -> Arc<dyn Opener> { feeder }),
    };
    let (stage_ends, stage_ended) = oneshot::channel();
    let staging = tokio::spawn(async move {
        // Nobody listens: the run is over.
        let _ = stage_ends.send(stage.run().await);
    });
    let mut ends = Ends {
        stage: stage_ended,
        engine,
        recorder: on_a_thread("recorder", move || recorder.run())?,
    };
    count(lists, &account);

    let mut progress = Progress::new(arguments.progress, arguments.progress_interval);
    let mut tick = tokio::time::interval(REFRESH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut was_paused = false;
    let mut stage_result = None;
    let mut engine_ended = None;
    let recorded = loop {
        tokio::select! {
            biased;
            changed = interrupted.changed() => {
                if changed.is_ok() {
                    staging.abort();
                    let signals = *interrupted.borrow();
                    progress.say(stopping(signals, grace));
                    match signals {
                        1 => give_up_after(grace, Arc::clone(&room)),
                        _ => room.give_up(),
                    }
                }
            }
            recorded = &mut ends.recorder => break recorded,
            ended = &mut ends.stage, if stage_result.is_none() => {
                // Aborted: it was stopped.
                let ended = ended.ok();
                if let Some(Err(error)) = &ended {
                    progress.say(format_args!("error: {error}"));
                    stop.drain(grace);
                }
                stage_result = Some(ended);
            }
            ended = &mut ends.engine, if engine_ended.is_none() => {
                // Nobody takes targets any more, however long the list waits for some.
                staging.abort();
                engine_ended = Some(ended);
            }
            Some(line) = bad_lines.recv() => {
                note_bad(&line, &account, &progress, kept.as_mut(), arguments.strict);
            }
            Some(output) = notices.recv() => {
                if let Some(words) = notice(&output) {
                    progress.say(format_args!("note: {words}"));
                }
            }
            _ = status.recv() => progress.say(summary::text(&account.moment(), &verdicts).trim_end()),
            _ = tick.tick() => {
                let now = account.moment();
                if now.is_paused != was_paused {
                    was_paused = now.is_paused;
                    progress.say(pausing(was_paused));
                }
                progress.tick(now);
            }
        }
    };
    while let Ok(line) = bad_lines.try_recv() {
        note_bad(&line, &account, &progress, kept.as_mut(), arguments.strict);
    }
    progress.finish();
    if !matches!(recorded, Ok(Ok(_))) {
        stop.end();
    }
    let panicked = |what: &str| {
        Failure::failed(format!(
            "the {what}: it ended by a panic, whose message stands above; report it"
        ))
    };
    let ended = Ended {
        stage: match stage_result {
            Some(result) => result,
            None => ends.stage.await.ok(),
        },
        engine: match engine_ended {
            Some(ended) => ended,
            None => ends.engine.await,
        }
        .map_err(|_| panicked("engine"))?,
        recorder: recorded.map_err(|_| panicked("recorder"))?,
        signals: *interrupted.borrow(),
    };
    if let (Some(path), Some(capture)) = (&arguments.probing.pcap, capture)
        && let Some(failure) = crate::cli::trace::recorded(path, &capture)
    {
        let _ = failure.report();
    }
    conclude(
        ended,
        &account,
        &verdicts,
        campaign.as_deref(),
        &mut interrupted,
    )
    .await
}

/// What the engine tells, with names: looked up by a task beside the run.
fn named(
    probing: &Probing,
    dns: &Arc<Dns>,
    outputs: mpsc::Receiver<Output>,
    stopped: watch::Receiver<usize>,
) -> mpsc::Receiver<Output> {
    let (recorder, named) = mpsc::channel(AHEAD);
    let naming = Naming {
        names: Names::in_bulk(Arc::clone(dns)),
        outputs,
        recorder,
        sessions: probing.sessions,
        patience: naming::PATIENCE,
        stopped,
    };
    tokio::spawn(naming.run());
    named
}

/// Puts the results in order; chooses the code.
async fn conclude(
    ended: Ended,
    account: &Account,
    verdicts: &BTreeMap<String, u64>,
    campaign: Option<&std::path::Path>,
    interrupted: &mut watch::Receiver<usize>,
) -> Result<u8, Failure> {
    let is_at_end =
        ended.signals == 0 && ended.engine.is_ok() && matches!(ended.stage, Some(Ok(_)));
    let mut failure = None;
    let mut is_whole = is_at_end;
    match ended.recorder {
        Ok(store) => {
            // Results are not given out as whole because every stage says that it is
            // at its end, but because each target has its record.
            let missing = match (&ended.stage, store.done()) {
                (Some(Ok(list)), Some(done)) => (account.before + list.targets).checked_sub(done),
                _ => None,
            };
            if let Some(missing @ 1..) = missing.filter(|_| is_at_end) {
                is_whole = false;
                failure = Some(Failure::failed(format!(
                    "{missing} targets: they have no record, though the list came to its end; \
                     go on with --resume, and report it"
                )));
            }
            match finish(store, is_whole, &account.room, interrupted).await {
                Ok(()) | Err(Some(CampaignError::Gone(_))) => {}
                Err(Some(error)) => failure = Some(Failure::from(error)),
                Err(None) => failure = Some(Failure::failed("the results: a panic; report it")),
            }
        }
        // Whoever read the results wants no more.
        Err(CampaignError::Gone(_)) => {}
        Err(error) => failure = Some(error.into()),
    }
    if let Err(error) = ended.engine {
        failure.get_or_insert(error.into());
    }
    if let Some(Err(error)) = ended.stage {
        failure.get_or_insert(error.into());
    }
    let now = account.moment();
    tell(summary::text(&now, verdicts).trim_end());
    // A signal while the results are made whole counts if it left them undone.
    let is_interrupted = ended.signals > 0 || (failure.is_some() && *interrupted.borrow() > 0);
    if let (false, Some(path)) = (is_whole && failure.is_none(), campaign) {
        tell(format_args!(
            "not all is done; go on with: insession run --resume {}",
            path.display()
        ));
    }
    let is_bad = |verdict: Verdict| {
        let earlier = verdicts
            .get(verdict.as_str())
            .is_some_and(|count| *count > 0);
        verdict.is_failure() && (earlier || now.seen.by_verdict().any(|(it, _)| it == verdict))
    };
    match (is_interrupted, failure) {
        (true, failure) => {
            if let Some(failure) = failure {
                let _ = failure.report();
            }
            Ok(exit::INTERRUPTED)
        }
        (false, Some(failure)) => Err(failure),
        (false, None) if Verdict::ALL.into_iter().any(is_bad) => Ok(exit::FAILED),
        (false, None) => Ok(exit::OK),
    }
}

/// Makes the results whole, which takes as long as the disk does: says when it is full,
/// and waits for room no longer when a signal comes. No error: a panic.
async fn finish(
    store: Store,
    is_whole: bool,
    room: &Arc<Room>,
    interrupted: &mut watch::Receiver<usize>,
) -> Result<(), Option<CampaignError>> {
    let mut finishing = tokio::task::spawn_blocking(move || store.finish(is_whole));
    let mut tick = tokio::time::interval(REFRESH);
    let mut was_paused = false;
    loop {
        tokio::select! {
            biased;
            finished = &mut finishing => return match finished {
                Ok(result) => result.map_err(Some),
                Err(_) => Err(None),
            },
            Ok(()) = interrupted.changed() => {
                tell("stopping: the results are being made whole; two more signals end that, too");
                room.give_up();
            }
            _ = tick.tick() => if room.is_short() != was_paused {
                was_paused = !was_paused;
                tell(pausing(was_paused));
            }
        }
    }
}

/// Once the sessions have had their time, records wait for no room any more: what they
/// tell is traced again when there is some.
fn give_up_after(grace: Duration, room: Arc<Room>) {
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        room.give_up();
    });
}

/// What is said when the disk is full, and when it is no more.
fn pausing(is_paused: bool) -> &'static str {
    match is_paused {
        true => "warning: the disk is full: the run pauses until there is room",
        false => "there is room again: the run goes on",
    }
}

/// Tells of a line that is no target, and keeps it.
fn note_bad(
    line: &BadLine,
    account: &Account,
    progress: &Progress,
    kept: Option<&mut File>,
    strict: bool,
) {
    let count = account.bad_lines.fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(kept) = kept {
        // It was told; a full disk is told of by the records.
        let _ = writeln!(kept, "{line}");
    }
    match count {
        // The end says it.
        _ if strict => {}
        ..=TOLD => progress.say(format_args!("warning: {line}")),
        _ if count == TOLD + 1 => progress.say("warning: further bad lines are only counted"),
        _ => {}
    }
}

/// What the engine tells beside records, in words.
fn notice(output: &Output) -> Option<String> {
    let Output::Slowed {
        ttl,
        router,
        answered,
        usual,
        before,
        after,
    } = output
    else {
        return None;
    };
    let whose = router.map_or_else(String::new, |router| format!(" (mostly {router})"));
    Some(format!(
        "TTL {ttl}{whose}: {:.0} % of the probes are answered, usually {:.0} %: \
         slowed from {before:.0} to {after:.0} probes/s",
        answered * 100.0,
        usual * 100.0
    ))
}

/// What a signal leads to, in words.
fn stopping(signals: usize, grace: Duration) -> String {
    match signals {
        1 => format!(
            "stopping: no new sessions, open ones have {grace:?}; once more closes them now"
        ),
        _ => "stopping: closing sessions now".to_owned(),
    }
}

/// Counts the targets of all lists beside the run.
fn count(lists: ListOptions, account: &Arc<Account>) {
    let account = Arc::clone(account);
    let counting = thread::Builder::new()
        .name("count".to_owned())
        .spawn(move || {
            // An error is the supply's to tell.
            if let Some(Ok(totals)) = list::count(&lists) {
                let _ = account.total.set(totals.targets);
            }
        });
    if let Err(error) = counting {
        tracing::debug!(%error, "targets are not counted");
    }
}

fn signals(error: &std::io::Error) -> Failure {
    Failure::failed(format!(
        "signal handlers: {error}; raise the limit of open files"
    ))
}

/// Does it on a thread of its own; the receiver fails when it panicked.
fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Failure> {
    let (done, ended) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits: the run is over.
            let _ = done.send(work());
        })
        .map_err(|error| {
            Failure::failed(format!(
                "a thread: {error}; raise the limit of processes (ulimit -u)"
            ))
        })?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::directory::Directory;
    use crate::campaign::store::Campaign;
    use crate::campaign::testing::Folder;
    use crate::report::output::OutputSpec;
    use crate::report::samples;

    /// How a campaign of one record ends whose list had so many targets: the code, or
    /// the error, and whether its results have their name.
    fn concluded(targets: u64, signals: usize, engine: Result<(), LinkError>) -> (String, bool) {
        let folder = Folder::new("conclude");
        let directory = Directory::create(&folder.path("c")).unwrap();
        let results = folder.path("results.jsonl");
        let outputs = vec![OutputSpec::of(&results).unwrap()];
        let room = Arc::<Room>::default();
        let (campaign, _) = Campaign::open(directory, outputs, Arc::clone(&room)).unwrap();
        let mut store = Store::Campaign(Box::new(campaign));
        store.record(0, &samples::every_verdict()[0]).unwrap();
        let account = Account::new(room, 0);
        let summary = Summary {
            targets,
            ..Summary::default()
        };
        let ended = Ended {
            stage: Some(Ok(summary)),
            engine,
            recorder: Ok(store),
            signals,
        };
        let (_told, mut interrupted) = watch::channel(signals);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let verdicts = BTreeMap::new();
        let path = folder.path("c");
        let concluded = conclude(ended, &account, &verdicts, Some(&path), &mut interrupted);
        let code = match runtime.block_on(concluded) {
            Ok(code) => code.to_string(),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        (code, results.exists())
    }

    #[test]
    fn results_are_whole_only_when_every_target_has_its_record() {
        assert_eq!(concluded(1, 0, Ok(())), ("0".to_owned(), true));
        let (code, is_named) = concluded(2, 0, Ok(()));
        assert!(
            code.starts_with("1: 1 targets: they have no record"),
            "{code}"
        );
        assert!(!is_named);
        assert_eq!(concluded(1, 1, Ok(())), ("130".to_owned(), false));
        let dead = LinkError::Down("eth9".to_owned());
        let (code, is_named) = concluded(1, 0, Err(dead));
        assert!(code.starts_with("4: ") && !is_named, "{code}");
    }
}
