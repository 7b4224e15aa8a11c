//! What the engine tells, on its way to the sinks: records wait for the names
//! of their hops (a bounded time), live text for the lines before it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::names::Names;
use super::resolve::untraced;
use super::run::Opening;
use super::sink::{Closed, Sink};
use super::target::TargetSpec;
use crate::cli::exit::Failure;
use crate::engine::{Output, Target};
use crate::report::Format;
use crate::report::live::Live;
use crate::report::text::Style;
use crate::session::SessionOptions;
use crate::trace::{LinkInfo, Trace, Verdict};

/// Records wait this long for their names, counted from when they came.
const GRACE: Duration = Duration::from_millis(1500);
/// More records do not wait: the oldest goes out with the names known by then.
const WAITING: usize = 4096;

/// The report of a run.
pub struct Report {
    /// The names of hops.
    pub names: Names,
    specs: Arc<[TargetSpec]>,
    port: u16,
    /// Which targets have their record.
    recorded: Vec<bool>,
    failures: u64,
    sinks: Vec<Sink>,
    live: Option<LiveText>,
    waiting: VecDeque<(Instant, Box<Trace>)>,
    hurried: bool,
    /// The readers of all pipes went away, or a sink failed.
    over: bool,
    failure: Option<Failure>,
}

/// The one target whose text comes out as it goes.
struct LiveText {
    live: Live,
    routed: Option<(Target, std::net::IpAddr)>,
    linked: Option<LinkInfo>,
    text: String,
}

impl Report {
    /// Nothing is reported yet.
    #[must_use]
    pub fn new(specs: Arc<[TargetSpec]>, port: u16, names: Names, sinks: Vec<Sink>) -> Self {
        Report {
            names,
            recorded: vec![false; specs.len()],
            specs,
            port,
            failures: 0,
            sinks,
            live: None,
            waiting: VecDeque::new(),
            hurried: false,
            over: false,
            failure: None,
        }
    }

    /// The text of the one target comes out as it goes.
    pub fn live(&mut self, style: Style, session: &SessionOptions) {
        self.live = Some(LiveText {
            live: Live::new(style, session.first_ttl, session.probes),
            routed: None,
            linked: None,
            text: String::new(),
        });
    }

    /// Takes in what the engine opened.
    pub fn opening(&mut self, opening: Opening) {
        let Some(text) = &mut self.live else { return };
        match opening {
            Opening::Routed { target, source } => text.routed = Some((target, source)),
            Opening::Linked(link) => text.linked = Some(link),
        }
        if let (Some((target, source)), Some(link)) = (&text.routed, &text.linked) {
            let remote = (target.address, target.port);
            let out = &mut text.text;
            text.live.opened(&target.name, remote, *source, link, out);
        }
    }

    /// Takes in what the engine tells.
    pub fn output(&mut self, output: Output) {
        match output {
            Output::Established { handshake, .. } => {
                if let Some(text) = &mut self.live {
                    text.live.established(handshake.as_ref(), &mut text.text);
                }
            }
            Output::Answer {
                ttl, nth, probe, ..
            } => {
                if let Some(text) = &mut self.live {
                    if let Some(reply) = &probe.reply {
                        self.names.want(reply.from);
                    }
                    text.live.answer(ttl, nth, *probe);
                }
            }
            Output::Destination { ttl, .. } => {
                if let Some(text) = &mut self.live {
                    text.live.destination(ttl);
                }
            }
            Output::Trace { index, trace } => self.record(index, trace),
        }
    }

    fn record(&mut self, index: u64, trace: Box<Trace>) {
        let slot = usize::try_from(index)
            .ok()
            .and_then(|at| self.recorded.get_mut(at));
        if let Some(slot) = slot {
            *slot = true;
        }
        if trace.verdict.is_failure() {
            self.failures += 1;
        }
        if !self.hurried {
            self.names.want_all(&trace);
        }
        self.waiting.push_back((Instant::now() + GRACE, trace));
    }

    /// Writes what can be written; false, when there is no use in going on.
    pub fn pump(&mut self) -> bool {
        if let Some(text) = &mut self.live {
            let names = &self.names;
            text.live
                .advance(&|address| names.get(address), &mut text.text);
        }
        let now = Instant::now();
        while let Some((deadline, trace)) = self.waiting.front() {
            let due = self.hurried || *deadline <= now || self.waiting.len() > WAITING;
            if !due && !self.names.settled(trace) {
                break;
            }
            if let Some((_, trace)) = self.waiting.pop_front() {
                self.write(trace);
            }
        }
        self.put_live();
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, Sink::flush);
        }
        !self.over
    }

    /// Whether records wait for names.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When [`Report::pump`] is to be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(deadline, _)| *deadline)
    }

    /// From now on nothing waits for names.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Targets that ended in `error`, `no-route` or `interrupted`.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The records of targets that have none.
    pub fn conclude(&mut self, verdict: Verdict, reason: &str) {
        let specs = Arc::clone(&self.specs);
        for (index, spec) in (0..).zip(specs.iter()) {
            let recorded = usize::try_from(index)
                .ok()
                .and_then(|at| self.recorded.get(at));
            if recorded == Some(&false) {
                let trace = untraced(spec, self.port, verdict, reason.to_owned());
                self.record(index, Box::new(trace));
            }
        }
        self.hurry();
        self.pump();
    }

    /// Closes the sinks; gives the first of their errors.
    #[must_use]
    pub fn close(&mut self) -> Option<Failure> {
        for sink in self.sinks.drain(..) {
            if let Err(Closed::Failed(failure)) = sink.finish() {
                self.failure.get_or_insert(failure);
            }
        }
        self.failure.take()
    }

    fn write(&mut self, mut trace: Box<Trace>) {
        self.names.fill(&mut trace);
        if let Some(mut text) = self.live.take() {
            text.live.finish(&trace, &mut text.text);
            self.live_text(&text.text);
            self.put_record(&trace, true);
            return;
        }
        self.put_record(&trace, false);
    }

    fn put_record(&mut self, trace: &Trace, was_live: bool) {
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, |sink| {
                if was_live && is_live(sink) {
                    return Ok(());
                }
                sink.trace(trace)
            });
        }
    }

    fn put_live(&mut self) {
        if let Some(text) = &mut self.live {
            let text = std::mem::take(&mut text.text);
            self.live_text(&text);
        }
    }

    fn live_text(&mut self, text: &str) {
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, |sink| {
                if is_live(sink) {
                    return sink.text(text);
                }
                Ok(())
            });
        }
    }

    fn with_sink(&mut self, nth: usize, write: impl FnOnce(&mut Sink) -> Result<(), Closed>) {
        let Some(sink) = self.sinks.get_mut(nth) else {
            return;
        };
        match write(sink) {
            Ok(()) => {}
            // Others still take it.
            Err(Closed::Gone) => self.over |= self.sinks.iter().all(Sink::is_closed),
            Err(Closed::Failed(failure)) => {
                self.over = true;
                self.failure.get_or_insert(failure);
            }
        }
    }
}

/// Live text is for standard output; a file gets whole records.
fn is_live(sink: &Sink) -> bool {
    sink.format() == Format::Text && !sink.is_file()
}
