//! What the engine tells, on its way to the sinks: records wait for the names
//! of their hops (a bounded time), live text for the lines before it. Where targets
//! have several flows each, their records are merged behind the last of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::resolve::untraced;
use super::sink::{Closed, Sink};
use crate::cli::exit::Failure;
use crate::cli::probing::engine::Opening;
use crate::dns::names::Names;
use crate::engine::record::Asked;
use crate::engine::{Output, Target};
use crate::multipath::flows::Ended;
use crate::multipath::paths;
use crate::owners::Owners;
use crate::report::Format;
use crate::report::live::Live;
use crate::report::text::Style;
use crate::session::SessionOptions;
use crate::targets::spec::TargetSpec;
use crate::trace::{LinkInfo, Trace, Verdict};

/// Records wait this long for their names, counted from when they came.
const GRACE: Duration = Duration::from_millis(1500);
/// More records do not wait: the oldest goes out with the names known by then.
const WAITING: usize = 4096;

/// The report of a run.
pub struct Report {
    /// The names of hops.
    pub names: Names,
    /// Whose their addresses are.
    owners: Option<Arc<Owners>>,
    specs: Arc<[TargetSpec]>,
    asked: Asked,
    /// Which targets have their record.
    recorded: Vec<bool>,
    failures: u64,
    sinks: Vec<Sink>,
    live: Option<LiveText>,
    waiting: VecDeque<(Instant, Waiting)>,
    /// The records of targets whose flows are not all written, where flows are merged.
    flows: Option<BTreeMap<u64, Vec<Trace>>>,
    /// A record's line of JSON, while it is written.
    line: Vec<u8>,
    /// What was written waits for more to be handed over with it.
    unflushed: bool,
    hurried: bool,
    /// The readers of all pipes went away, or a sink failed.
    over: bool,
    failure: Option<Failure>,
    /// Why the one target has no trace, where its live text said so.
    said: Option<String>,
}

/// What waits to be written.
enum Waiting {
    /// A record.
    Trace(u64, Box<Trace>),
    /// The flows of a target, all of whose records stand before this.
    Flows(Ended),
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
    pub fn new(specs: Arc<[TargetSpec]>, asked: Asked, names: Names, sinks: Vec<Sink>) -> Self {
        Report {
            names,
            owners: None,
            recorded: vec![false; specs.len()],
            specs,
            asked,
            failures: 0,
            sinks,
            live: None,
            waiting: VecDeque::new(),
            flows: None,
            line: Vec::new(),
            unflushed: false,
            hurried: false,
            over: false,
            failure: None,
            said: None,
        }
    }

    /// Records and live text say whose addresses are.
    pub fn owned(&mut self, owners: Option<Arc<Owners>>) {
        self.owners = owners;
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

    /// Targets have several flows each, which are merged.
    pub fn merge(&mut self) {
        self.flows = Some(BTreeMap::new());
    }

    /// The flows of a target are over: its last record was taken in.
    pub fn ended(&mut self, ended: Ended) {
        self.waiting
            .push_back((Instant::now() + GRACE, Waiting::Flows(ended)));
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
                ttl,
                nth,
                mut probe,
                ..
            } => {
                if let Some(text) = &mut self.live {
                    if let Some(reply) = &mut probe.reply {
                        self.names.want(reply.from);
                        if let Some(owners) = &self.owners {
                            reply.owner = owners.of(reply.from);
                        }
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
            // Only where routers are owed a rate, which is no option of a trace.
            Output::Slowed { .. } => {}
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
        self.waiting
            .push_back((Instant::now() + GRACE, Waiting::Trace(index, trace)));
    }

    /// Whether [`Report::pump`] has something to write or to hand over. Asked after every step;
    /// writing takes a progress bar off and on again.
    #[must_use]
    pub fn is_ready(&mut self) -> bool {
        let Some(text) = &mut self.live else {
            return self.unflushed || self.front_is_due(Instant::now());
        };
        let names = &self.names;
        text.live
            .advance(&|address| names.get(address), &mut text.text);
        !text.text.is_empty() || self.front_is_due(Instant::now())
    }

    /// Writes what can be written, and hands it over, unless there is `more` to come
    /// with it.
    pub fn pump(&mut self, more: bool) {
        let now = Instant::now();
        while self.front_is_due(now)
            && let Some((_, waiting)) = self.waiting.pop_front()
        {
            match waiting {
                Waiting::Trace(index, trace) => self.write(index, trace),
                Waiting::Flows(ended) => self.put_flows(ended),
            }
        }
        self.put_live();
        // Live text does not wait for records.
        self.unflushed = more && self.live.is_none();
        if self.unflushed {
            return;
        }
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, Sink::flush);
        }
    }

    /// Whether there is no use in going on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the live text ended in just this.
    #[must_use]
    pub fn has_said(&self, message: &str) -> bool {
        !self.over && self.said.as_deref() == Some(message)
    }

    /// Whether the oldest record has its names, or waits for them no longer.
    fn front_is_due(&self, now: Instant) -> bool {
        self.waiting.front().is_some_and(|(deadline, waiting)| {
            self.hurried
                || *deadline <= now
                || self.waiting.len() > WAITING
                || match waiting {
                    Waiting::Trace(_, trace) => self.names.settled(trace),
                    Waiting::Flows(_) => true,
                }
        })
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
                let trace = untraced(spec, self.asked, verdict, reason.to_owned());
                self.record(index, Box::new(trace));
                if self.flows.is_some() {
                    self.ended(Ended::whole(index, None));
                }
            }
        }
        self.hurry();
        self.pump(false);
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

    fn write(&mut self, index: u64, mut trace: Box<Trace>) {
        self.names.fill(&mut trace);
        if let Some(owners) = &self.owners {
            owners.fill(&mut trace);
        }
        if let Some(mut text) = self.live.take() {
            text.live.finish(&trace, &mut text.text);
            self.live_text(&text.text);
            if trace.verdict == Verdict::Error {
                self.said.clone_from(&trace.detail);
            }
            self.put_record(&trace, true);
            return;
        }
        self.put_record(&trace, false);
        if let Some(flows) = &mut self.flows {
            flows.entry(index).or_default().push(*trace);
        }
    }

    /// The flows of a target, merged; as text they are not written one by one.
    fn put_flows(&mut self, ended: Ended) {
        let traces = self.flows.as_mut().and_then(|it| it.remove(&ended.index));
        let Some(paths) = paths::merge(&traces.unwrap_or_default(), ended.mda) else {
            return;
        };
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, |sink| sink.paths(&paths));
        }
    }

    fn put_record(&mut self, trace: &Trace, was_live: bool) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let is_merged = self.flows.is_some();
        for nth in 0..self.sinks.len() {
            self.with_sink(nth, |sink| {
                if is_merged && sink.format() == Format::Text {
                    return Ok(());
                }
                if was_live && is_live(sink) {
                    return Ok(());
                }
                sink.trace(trace, &mut line)
            });
        }
        self.line = line;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Reverse;
    use crate::report::samples;

    const STYLE: Style = Style {
        names: true,
        max_ttl: 30,
        method: crate::trace::Method::InSession,
    };

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test);
    }

    fn record(trace: Trace) -> Output {
        let trace = Box::new(trace);
        Output::Trace { index: 0, trace }
    }

    /// A report of one target, its names by `names`, into /dev/null.
    fn report(names: Names) -> Report {
        let specs = [crate::targets::spec::parse("10.0.9.2").unwrap()];
        let sink = Sink::file(std::path::Path::new("/dev/null"), Format::Text, STYLE);
        Report::new(
            specs.into(),
            Asked {
                port: 443,
                method: crate::trace::Method::InSession,
            },
            names,
            vec![sink.unwrap()],
        )
    }

    #[test]
    fn it_is_ready_when_there_is_something_to_write() {
        run(async {
            let names = Names::by(Arc::new(|_| Box::pin(async { Reverse::Nameless })));
            let mut report = report(names);
            assert!(!report.is_ready());
            report.output(record(samples::four_hops()));
            while !report.names.settled(&samples::four_hops()) {
                assert!(!report.is_ready(), "it waits for names");
                report.names.step().await;
            }
            assert!(report.is_ready());
            report.pump(false);
            assert!(!report.is_ready() && !report.is_waiting());
        });
    }

    #[test]
    fn the_flows_of_a_target_are_merged_behind_the_last() {
        run(async {
            let folder =
                std::env::temp_dir().join(format!("insession-merge-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            let paths = [Format::Text, Format::Json].map(|it| folder.join(format!("{it:?}")));
            let mut report = report(Names::off());
            report.sinks = vec![
                Sink::file(&paths[0], Format::Text, STYLE).unwrap(),
                Sink::file(&paths[1], Format::Json, STYLE).unwrap(),
            ];
            report.merge();
            for _ in 0..3 {
                report.output(record(samples::four_hops()));
            }
            report.ended(Ended::whole(0, None));
            report.pump(false);
            assert!(report.close().is_none());
            let [text, json] = paths.map(|path| std::fs::read_to_string(path).unwrap());
            let schemas: Vec<&str> = json.lines().map(|line| &line[11..28]).collect();
            let trace = "insession.trace/1";
            assert_eq!(schemas, [trace, trace, trace, "insession.paths/1"]);
            assert!(text.starts_with("paths to "), "{text}");
            assert_eq!(text.matches("traceroute").count(), 0);
            std::fs::remove_dir_all(folder).unwrap();
        });
    }

    #[test]
    fn what_waits_for_more_is_handed_over_when_none_comes() {
        run(async {
            let mut report = report(Names::off());
            report.output(record(samples::four_hops()));
            assert!(report.is_ready());
            report.pump(true);
            assert!(report.is_ready() && !report.is_waiting());
            report.pump(false);
            assert!(!report.is_ready());
        });
    }

    /// The way to the target of a trace.
    fn routed(trace: &Trace) -> Opening {
        Opening::Routed {
            target: Target {
                index: 0,
                name: trace.target.clone(),
                address: trace.address.unwrap(),
                port: trace.port,
            },
            source: trace.source.unwrap(),
        }
    }

    #[test]
    fn live_text_is_ready_line_by_line() {
        run(async {
            let trace = samples::four_hops();
            let mut report = report(Names::off());
            report.live(STYLE, &SessionOptions::default());
            let opening = Opening::Linked((*trace.link.clone().unwrap()).clone());
            report.opening(opening);
            assert!(!report.is_ready(), "no way is known");
            report.opening(routed(&trace));
            assert!(report.is_ready());
            report.pump(false);
            assert!(!report.is_ready());
            report.output(record(trace));
            assert!(report.is_ready());
            report.pump(false);
            assert!(!report.is_ready());
        });
    }

    #[test]
    fn live_text_and_records_say_whose_addresses_are() {
        let folder = crate::campaign::testing::Folder::new("report-owners");
        let (data, records) = (folder.path("data"), folder.path("records"));
        let lines = "10.0.0.0/8 64500 EXAMPLE\n10.0.9.0/24,Example-IX\n";
        std::fs::write(&data, lines).unwrap();
        let owners = crate::owners::load(&[crate::owners::load::Source {
            path: data,
            is_named: true,
        }]);
        let trace = samples::four_hops();
        run(async {
            let mut report = report(Names::off());
            report.owned(Some(Arc::new(owners.unwrap().0)));
            report.sinks = vec![Sink::file(&records, Format::Json, STYLE).unwrap()];
            report.live(STYLE, &SessionOptions::default());
            report.opening(Opening::Linked((*trace.link.clone().unwrap()).clone()));
            report.opening(routed(&trace));
            report.output(Output::Established {
                index: 0,
                handshake: trace.handshake,
            });
            for (nth, probe) in (0..).zip(&trace.hops[0].probes) {
                report.output(Output::Answer {
                    index: 0,
                    ttl: 1,
                    nth,
                    probe: Box::new(probe.clone()),
                });
            }
            assert!(report.is_ready());
            let text = &report.live.as_ref().unwrap().text;
            assert!(
                text.contains("\n 1  10.0.1.1 (10.0.1.1) [AS64500 EXAMPLE, 10.0.0.0/8]  0.101 ms"),
                "{text}"
            );
            report.output(record(trace));
            report.pump(false);
            assert_eq!(report.close(), None);
        });
        let line = std::fs::read(&records).unwrap();
        let trace = crate::report::json::read(&line).unwrap();
        let owner = |hop: usize| trace.hops[hop].probes[0].reply.as_ref()?.owner.as_deref();
        assert_eq!(owner(1).unwrap().holder.as_deref(), Some("EXAMPLE"));
        assert_eq!(owner(1).unwrap().ixp, None);
        assert_eq!(owner(3).unwrap().ixp.as_deref(), Some("Example-IX"));
    }
}
