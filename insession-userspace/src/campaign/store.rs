//! Where records go: into the outputs at once, or into a campaign, which keeps
//! them whatever happens.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CampaignError;
use super::directory::Directory;
use super::done::Done;
use super::journal::Journal;
use super::part::{self, Part};
use super::patient::Room;
use super::plan::Plan;
use super::state::State;
use crate::multipath::paths::Paths;
use crate::report::json::{self, ReadError, read};
use crate::report::output::OutputSpec;
use crate::report::paths;
use crate::trace::Trace;

/// A part is whole with so many records: what is made again after a kill is no
/// more than these, and a list of a million has but a handful of parts.
const RECORDS: u64 = 131_072;
/// Or with so many octets in its journal.
const OCTETS: u64 = 512 << 20;
/// How often the journal is brought to the disk: what a power cut takes is no
/// older. The end of the process takes nothing that was handed to the kernel.
const SYNC: Duration = Duration::from_secs(1);

/// Where the records of a run go.
pub enum Store {
    /// Into the outputs.
    Direct(Direct),
    /// Into a campaign.
    Campaign(Box<Campaign>),
}

/// Outputs that are written as the records come.
pub struct Direct {
    part: Part,
    room: Arc<Room>,
    line: Vec<u8>,
}

/// A campaign that is under way.
pub struct Campaign {
    directory: Directory,
    outputs: Vec<OutputSpec>,
    room: Arc<Room>,
    /// As it is after the last whole part.
    sealed: State,
    /// What is done and in the journal too.
    done: Done,
    verdicts: BTreeMap<String, u64>,
    journal: Journal,
    part: Part,
    in_part: u64,
    synced: Instant,
    dirty: bool,
    line: Vec<u8>,
}

/// What was found of a campaign when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The targets that have their record.
    pub done: Done,
    /// How many have which verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Records that were read from the journal.
    pub replayed: u64,
    /// Octets at its end that were not whole.
    pub torn: u64,
}

impl Store {
    /// The outputs, written as the records come.
    ///
    /// # Errors
    /// Names the output that cannot be made.
    pub fn direct(outputs: &[OutputSpec], room: Arc<Room>) -> Result<Self, CampaignError> {
        Ok(Store::Direct(Direct {
            part: Part::begin(outputs, |spec| spec.path.clone(), &room)?,
            room,
            line: Vec::new(),
        }))
    }

    /// The record of the target at this position.
    ///
    /// # Errors
    /// When an output or the journal takes no more.
    pub fn record(&mut self, position: u64, trace: &Trace) -> Result<(), CampaignError> {
        match self {
            Store::Direct(direct) => {
                write_line(trace, &mut direct.line)?;
                direct.part.record(trace, &direct.line)
            }
            Store::Campaign(campaign) => campaign.record(position, trace),
        }
    }

    /// The records of the flows to the target at this position, and what they show
    /// together: all of them at once, so that a campaign has none of them twice.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn flows(
        &mut self,
        position: u64,
        traces: &[Trace],
        merged: &Paths,
    ) -> Result<(), CampaignError> {
        match self {
            Store::Direct(direct) => {
                for trace in traces {
                    write_line(trace, &mut direct.line)?;
                    direct.part.record(trace, &direct.line)?;
                }
                direct.line.clear();
                write_merged(merged, &mut direct.line)?;
                direct.part.merged(&direct.line)
            }
            Store::Campaign(campaign) => campaign.flows(position, traces, merged),
        }
    }

    /// What was recorded until now is safe from the end of the process, and who
    /// reads along gets it.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn flush(&mut self) -> Result<(), CampaignError> {
        match self {
            Store::Direct(direct) => direct.part.flush(),
            Store::Campaign(campaign) => campaign.flush(),
        }
    }

    /// How many targets of the campaign have their record; `None` without one.
    #[must_use]
    pub fn done(&self) -> Option<u64> {
        match self {
            Store::Direct(_) => None,
            Store::Campaign(campaign) => Some(campaign.done.count()),
        }
    }

    /// The end: the outputs get their names, those of a campaign only if it is
    /// `whole`, every target having its record, and no others where there is no record:
    /// a run that could not begin takes the place of no earlier one's results.
    ///
    /// # Errors
    /// Names what could not be written; a campaign can be resumed then.
    pub fn finish(self, whole: bool) -> Result<(), CampaignError> {
        match self {
            Store::Direct(direct) if !(whole || direct.part.is_of_use()) => Ok(()),
            Store::Direct(direct) => direct.part.finish(&direct.room),
            Store::Campaign(campaign) if whole => campaign.finish(),
            Store::Campaign(mut campaign) => {
                campaign.flush()?;
                campaign.sync()
            }
        }
    }
}

impl Campaign {
    /// Opens what is there of a campaign. What stands in its journal goes into the
    /// part that it belongs to.
    ///
    /// # Errors
    /// When something cannot be read or made.
    pub fn open(
        directory: Directory,
        outputs: Vec<OutputSpec>,
        room: Arc<Room>,
    ) -> Result<(Self, Found), CampaignError> {
        let sealed = State::read(&directory.state())?;
        directory.clean(sealed.parts)?;
        let mut part = begin(&directory, sealed.parts + 1, &outputs, &room)?;
        let (mut done, mut verdicts) = (sealed.done.clone(), sealed.verdicts.clone());
        let mut replayed = 0;
        let path = directory.journal(sealed.parts + 1);
        let mut trouble = None;
        let opened = Journal::open(&path, Arc::clone(&room), |entry| {
            if !done.insert(entry.position) {
                return Ok(());
            }
            for line in entry.line.split_inclusive(|octet| *octet == b'\n') {
                let added = match read(line) {
                    Ok(trace) => {
                        count(&mut verdicts, &trace);
                        replayed += 1;
                        part.record(&trace, line)
                    }
                    Err(ReadError::Schema(schema)) if schema.starts_with(paths::SCHEMA) => {
                        part.merged(line)
                    }
                    Err(error) => return Err(io::Error::other(error)),
                };
                added.map_err(|error| {
                    trouble = Some(error);
                    io::Error::other("a part")
                })?;
            }
            Ok(())
        });
        let (journal, torn) = match (opened, trouble) {
            (Ok(opened), _) => opened,
            (Err(_), Some(error)) => return Err(error),
            (Err(error), None) => return Err(CampaignError::read(&path, error)),
        };
        let found = Found {
            done: done.clone(),
            verdicts: verdicts.clone(),
            replayed,
            torn,
        };
        let campaign = Campaign {
            directory,
            outputs,
            room,
            sealed,
            done,
            verdicts,
            journal,
            part,
            in_part: replayed,
            synced: Instant::now(),
            dirty: false,
            line: Vec::new(),
        };
        Ok((campaign, found))
    }

    /// Writes its plan: it has begun, and can be resumed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, plan: &Plan) -> Result<(), CampaignError> {
        self.directory.begin(plan, &self.room)
    }

    fn record(&mut self, position: u64, trace: &Trace) -> Result<(), CampaignError> {
        if !self.done.insert(position) {
            return Ok(());
        }
        write_line(trace, &mut self.line)?;
        self.journal
            .append(position, &self.line)
            .map_err(|error| self.journal_trouble(error))?;
        self.dirty = true;
        count(&mut self.verdicts, trace);
        self.part.record(trace, &self.line)?;
        self.in_part += 1;
        self.seal_if_full()
    }

    fn flows(
        &mut self,
        position: u64,
        traces: &[Trace],
        merged: &Paths,
    ) -> Result<(), CampaignError> {
        if !self.done.insert(position) {
            return Ok(());
        }
        self.line.clear();
        let mut ends = Vec::with_capacity(traces.len());
        for trace in traces {
            append_line(trace, &mut self.line)?;
            ends.push(self.line.len());
        }
        write_merged(merged, &mut self.line)?;
        self.journal
            .append(position, &self.line)
            .map_err(|error| self.journal_trouble(error))?;
        self.dirty = true;
        let mut begin = 0;
        for (trace, end) in traces.iter().zip(ends) {
            count(&mut self.verdicts, trace);
            let line = self.line.get(begin..end).unwrap_or_default();
            self.part.record(trace, line)?;
            self.in_part += 1;
            begin = end;
        }
        self.part
            .merged(self.line.get(begin..).unwrap_or_default())?;
        self.seal_if_full()
    }

    fn seal_if_full(&mut self) -> Result<(), CampaignError> {
        if self.in_part >= RECORDS || self.journal.bytes() >= OCTETS {
            self.seal(false)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CampaignError> {
        self.journal
            .flush()
            .map_err(|error| self.journal_trouble(error))?;
        if self.dirty && self.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CampaignError> {
        self.room
            .wait(|| self.journal.file().sync_data())
            .map_err(|error| self.journal_trouble(error))?;
        (self.synced, self.dirty) = (Instant::now(), false);
        Ok(())
    }

    fn journal_trouble(&self, error: io::Error) -> CampaignError {
        let path = self.directory.journal(self.sealed.parts + 1);
        CampaignError::write(&path.display().to_string(), error)
    }

    /// Ends the part, and begins the next unless it was the `last`.
    fn seal(&mut self, last: bool) -> Result<(), CampaignError> {
        let number = self.sealed.parts + 1;
        // A part takes a while to be whole; until then these count by the journal.
        self.flush()?;
        let next = match last {
            true => Part::begin(&[], |_| PathBuf::new(), &self.room)?,
            false => begin(&self.directory, number + 1, &self.outputs, &self.room)?,
        };
        std::mem::replace(&mut self.part, next).finish(&self.room)?;
        // From here on the part counts, and its journal does not.
        self.sealed.parts = number;
        self.sealed.done.clone_from(&self.done);
        self.sealed.verdicts.clone_from(&self.verdicts);
        self.sealed.write(&self.directory.state(), &self.room)?;
        let path = self.directory.journal(number + 1);
        let journal = Journal::open(&path, Arc::clone(&self.room), |_| Ok(()));
        let (journal, _) =
            journal.map_err(|error| CampaignError::create(&path.display().to_string(), error))?;
        self.journal = journal;
        self.in_part = 0;
        // If this fails, the next to open the campaign does it.
        let _ = fs::remove_file(self.directory.journal(number));
        Ok(())
    }

    fn finish(mut self) -> Result<(), CampaignError> {
        if self.sealed.finished {
            return Ok(());
        }
        self.flush()?;
        if self.in_part > 0 || self.sealed.parts == 0 {
            self.seal(true)?;
        }
        let mine = self.directory.number();
        let mine = mine.map_err(|error| CampaignError::read(self.directory.path(), error))?;
        for (nth, output) in self.outputs.iter().enumerate() {
            let parts = (1..=self.sealed.parts).map(|part| self.directory.part(part, nth, output));
            part::join(output, &parts.collect::<Vec<_>>(), mine, &self.room)?;
        }
        self.sealed.finished = true;
        self.sealed.write(&self.directory.state(), &self.room)?;
        // What stays is only in the way.
        let _ = self.directory.remove_parts();
        let _ = fs::remove_file(self.directory.journal(self.sealed.parts + 1));
        Ok(())
    }
}

fn begin(
    directory: &Directory,
    number: u64,
    outputs: &[OutputSpec],
    room: &Arc<Room>,
) -> Result<Part, CampaignError> {
    let nth = |spec: &OutputSpec| outputs.iter().position(|it| it == spec).unwrap_or_default();
    Part::begin(
        outputs,
        |spec| directory.part(number, nth(spec), spec),
        room,
    )
}

fn count(verdicts: &mut BTreeMap<String, u64>, trace: &Trace) {
    let verdict = trace.verdict.as_str();
    match verdicts.get_mut(verdict) {
        Some(count) => *count += 1,
        None => {
            verdicts.insert(verdict.to_owned(), 1);
        }
    }
}

fn write_line(trace: &Trace, line: &mut Vec<u8>) -> Result<(), CampaignError> {
    line.clear();
    append_line(trace, line)
}

fn append_line(trace: &Trace, lines: &mut Vec<u8>) -> Result<(), CampaignError> {
    json::append(trace, lines).map_err(|error| CampaignError::write("a record", error))
}

fn write_merged(merged: &Paths, lines: &mut Vec<u8>) -> Result<(), CampaignError> {
    paths::append(merged, lines).map_err(|error| CampaignError::write("merged flows", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;
    use crate::report::samples;
    use std::path::Path;

    /// A campaign in `folder` with two outputs: begun, or gone on with.
    fn open(folder: &Folder) -> (Campaign, Found) {
        let path = folder.path("c");
        let directory = match Directory::open(&path) {
            Ok((directory, _)) => directory,
            Err(_) => {
                let directory = Directory::create(&path).unwrap();
                let plan = Plan::new("now".to_owned(), vec![], toml::Table::new());
                directory.begin(&plan, &Room::default()).unwrap();
                directory
            }
        };
        let outputs = ["a.jsonl", "b.jsonl.zst"].map(|name| folder.path(name));
        let outputs = outputs.iter().map(|path| OutputSpec::of(path).unwrap());
        Campaign::open(directory, outputs.collect(), Arc::default()).unwrap()
    }

    /// The record of a target that has its position for a name.
    fn numbered(position: u64) -> Trace {
        let mut trace = samples::every_verdict()[position as usize % 13].clone();
        trace.target = position.to_string();
        trace
    }

    fn names(lines: &[u8]) -> Vec<u64> {
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        let mut names: Vec<u64> = lines
            .map(|line| read(line).unwrap().target.parse().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    fn assert_whole(folder: &Folder, count: u64) {
        let plain = fs::read(folder.path("a.jsonl")).unwrap();
        let packed = fs::File::open(folder.path("b.jsonl.zst")).unwrap();
        assert_eq!(zstd::decode_all(packed).unwrap(), plain);
        assert_eq!(names(&plain), (0..count).collect::<Vec<_>>());
    }

    fn files(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn what_was_flushed_outlives_the_process_wherever_it_ends() {
        let folder = Folder::new("store-killed");
        let mut position = 0;
        // Each time some are recorded, some of them twice; parts end in between, and
        // what is written last is not flushed.
        for round in 0..7 {
            let (mut campaign, found) = open(&folder);
            assert_eq!(found.done.count(), position);
            assert_eq!(found.verdicts.values().sum::<u64>(), position);
            for _ in 0..10 {
                for again in [position, position.saturating_sub(3)] {
                    campaign.record(again, &numbered(again)).unwrap();
                }
                position += 1;
                if round % 3 == 1 && position % 5 == 0 {
                    campaign.seal(false).unwrap();
                }
            }
            campaign.flush().unwrap();
            // As a kill does: nothing is dropped, nothing is closed.
            std::mem::forget(std::mem::replace(
                &mut campaign.part,
                Part::begin(&[], |_| PathBuf::new(), &campaign.room).unwrap(),
            ));
        }
        let (campaign, _) = open(&folder);
        Store::Campaign(Box::new(campaign)).finish(true).unwrap();
        assert_whole(&folder, position);
        assert_eq!(files(&folder.path("c/parts")), 0);
        let (directory, _) = Directory::open(&folder.path("c")).unwrap();
        let sealed = directory.sealed().unwrap();
        assert!(sealed.finished && sealed.done.count() == position);
    }

    #[test]
    fn a_part_that_was_whole_but_not_counted_is_made_again() {
        let folder = Folder::new("store-between");
        let (mut campaign, _) = open(&folder);
        for position in 0..20 {
            campaign.record(position, &numbered(position)).unwrap();
        }
        campaign.flush().unwrap();
        // Killed between the rename of the part and that of the state.
        let part = std::mem::replace(
            &mut campaign.part,
            Part::begin(&[], |_| PathBuf::new(), &campaign.room).unwrap(),
        );
        part.finish(&campaign.room).unwrap();
        drop(campaign);
        let (mut campaign, found) = open(&folder);
        assert_eq!((found.replayed, found.torn), (20, 0));
        campaign.record(20, &numbered(20)).unwrap();
        Store::Campaign(Box::new(campaign)).finish(true).unwrap();
        assert_whole(&folder, 21);
    }

    #[test]
    fn what_a_kill_leaves_of_a_join_is_written_over() {
        let folder = Folder::new("store-join");
        let (campaign, _) = open(&folder);
        let number = campaign.directory.number().unwrap();
        let left = folder.path(format!("a.jsonl.{number}.partial"));
        fs::write(&left, "half of a record, or of very many of them").unwrap();
        Store::Campaign(Box::new(campaign)).finish(true).unwrap();
        assert_whole(&folder, 0);
        assert!(!left.exists());
    }

    #[test]
    fn what_is_recorded_is_in_the_journal_before_its_part_is_whole() {
        let folder = Folder::new("store-seal");
        let (mut campaign, _) = open(&folder);
        for position in 0..20 {
            campaign.record(position, &numbered(position)).unwrap();
        }
        // The next part cannot be begun: so far a kill would leave the same.
        let next = campaign.directory.part(2, 0, &campaign.outputs[0]);
        let mut taken = next.into_os_string();
        taken.push(format!(".{}.partial", std::process::id()));
        fs::create_dir(&taken).unwrap();
        campaign.seal(false).unwrap_err();
        let length = fs::metadata(campaign.directory.journal(1)).unwrap().len();
        assert_eq!(length, campaign.journal.bytes());
    }

    #[test]
    fn the_flows_of_a_target_are_recorded_together_or_not_at_all() {
        let folder = Folder::new("store-flows");
        let (mut campaign, _) = open(&folder);
        let flows = |position| vec![numbered(position); 3];
        let merged = |position| crate::multipath::paths::merge(&flows(position), None).unwrap();
        for position in [0, 1, 1] {
            campaign
                .flows(position, &flows(position), &merged(position))
                .unwrap();
        }
        campaign.flush().unwrap();
        let whole = campaign.journal.bytes();
        campaign.flows(2, &flows(2), &merged(2)).unwrap();
        campaign.flush().unwrap();
        let length = campaign.journal.bytes();
        let journal = campaign.directory.journal(1);
        drop(campaign);
        // Killed while the last was handed to the kernel.
        let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
        file.set_len(length - 1).unwrap();
        let (mut campaign, found) = open(&folder);
        assert_eq!((found.done.count(), found.replayed), (2, 6));
        assert_eq!(found.torn, length - 1 - whole);
        campaign.flows(2, &flows(2), &merged(2)).unwrap();
        Store::Campaign(Box::new(campaign)).finish(true).unwrap();
        let plain = fs::read_to_string(folder.path("a.jsonl")).unwrap();
        let schemas: Vec<bool> = plain
            .lines()
            .map(|line| line.contains(paths::SCHEMA))
            .collect();
        assert_eq!(schemas, [false, false, false, true].repeat(3));
    }

    #[test]
    fn one_that_is_not_whole_gives_its_outputs_no_names() {
        let folder = Folder::new("store-interrupted");
        let (mut campaign, _) = open(&folder);
        campaign.record(3, &numbered(3)).unwrap();
        Store::Campaign(Box::new(campaign)).finish(false).unwrap();
        assert!(!folder.path("a.jsonl").exists());
        let (campaign, found) = open(&folder);
        assert_eq!(
            found.done.ranges().as_slice(),
            std::slice::from_ref(&(3..4))
        );
        drop(campaign);
    }

    #[test]
    fn a_campaign_of_no_targets_has_results() {
        let folder = Folder::new("store-empty");
        let (campaign, _) = open(&folder);
        Store::Campaign(Box::new(campaign)).finish(true).unwrap();
        assert_whole(&folder, 0);
    }

    #[test]
    fn without_a_campaign_outputs_have_their_names_at_the_end() {
        let folder = Folder::new("store-direct");
        let outputs = ["a.jsonl", "b.jsonl.zst"].map(|name| folder.path(name));
        let outputs = outputs.iter().map(|path| OutputSpec::of(path).unwrap());
        let mut store = Store::direct(&outputs.collect::<Vec<_>>(), Arc::default()).unwrap();
        for position in 0..5 {
            store.record(position, &numbered(position)).unwrap();
        }
        store.flush().unwrap();
        assert!(!folder.path("a.jsonl").exists());
        store.finish(false).unwrap();
        assert_whole(&folder, 5);
        assert_eq!(files(&folder.path("")), 2);
        // One that ended before it had any takes the place of none.
        let outputs = [OutputSpec::of(&folder.path("a.jsonl")).unwrap()];
        let store = Store::direct(&outputs, Arc::default()).unwrap();
        store.finish(false).unwrap();
        assert_whole(&folder, 5);
        assert_eq!(files(&folder.path("")), 2);
    }
}
