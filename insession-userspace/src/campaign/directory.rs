//! The directory of a campaign: what is called what, and who has it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::CampaignError;
use super::part::sync_folder;
use super::patient::Room;
use super::plan::Plan;
use super::state::{State, replace};
use crate::report::output::OutputSpec;

/// Lines of the lists that are no targets.
pub const BAD_LINES: &str = "bad-lines.txt";

/// How long a process that has ended, or a child of one that has not begun its own
/// program yet, may hold what it held.
const OWNER_GONE: Duration = Duration::from_millis(500);

/// A directory that is this process's as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The lock goes with the descriptor, however the process ends.
    _lock: File,
}

impl Directory {
    /// Makes the directory of a campaign that begins.
    ///
    /// # Errors
    /// When there is a campaign in it already, or it cannot be made.
    pub fn create(path: &Path) -> Result<Self, CampaignError> {
        let shown = path.display().to_string();
        fs::create_dir_all(path.join("parts"))
            .and_then(|()| sync_folder(path))
            .map_err(|error| CampaignError::create(&shown, error))?;
        let directory = Directory::lock(path)?;
        if directory.plan().exists() {
            return Err(CampaignError::Input(format!(
                "--campaign {shown}: there is a campaign in it; go on with it by --resume {shown}, or name another directory"
            )));
        }
        Ok(directory)
    }

    /// Opens that of a campaign that was begun.
    ///
    /// # Errors
    /// When there is none in it, or another process has it.
    pub fn open(path: &Path) -> Result<(Self, Plan), CampaignError> {
        let plan = path.join("plan.toml");
        if !plan.exists() {
            return Err(CampaignError::Input(format!(
                "--resume {}: there is no campaign in it; name the directory of --campaign",
                path.display()
            )));
        }
        let directory = Directory::lock(path)?;
        Ok((directory, Plan::read(&plan)?))
    }

    fn lock(path: &Path) -> Result<Self, CampaignError> {
        let name = path.join("lock");
        let shown = name.display().to_string();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(|error| CampaignError::create(&shown, error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < OWNER_GONE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CampaignError::Input(format!(
                        "{}: another process runs this campaign; wait for its end, or end it",
                        path.display()
                    )));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(CampaignError::create(&shown, error));
                }
            }
        }
        Ok(Directory {
            path: path.to_owned(),
            _lock: file,
        })
    }

    /// Writes the plan: the campaign has begun.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, plan: &Plan, room: &Room) -> Result<(), CampaignError> {
        let path = self.plan();
        let text = plan.text();
        text.and_then(|text| replace(&path, text.as_bytes(), room))
            .map_err(|error| CampaignError::write(&path.display().to_string(), error))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn plan(&self) -> PathBuf {
        self.path.join("plan.toml")
    }

    /// The copy of a list that can be read only once, the `nth` of all.
    #[must_use]
    pub fn list(&self, nth: usize) -> PathBuf {
        self.path.join(format!("targets.{nth}"))
    }

    /// What is whole of it.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn sealed(&self) -> Result<State, CampaignError> {
        State::read(&self.state())
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    pub(super) fn journal(&self, part: u64) -> PathBuf {
        self.path.join(format!("journal.{part}"))
    }

    /// The file of an output in a part; `nth` tells outputs of one name apart.
    pub(super) fn part(&self, part: u64, nth: usize, output: &OutputSpec) -> PathBuf {
        let name = output.path.file_name().unwrap_or_default();
        let mut file = std::ffi::OsString::from(format!("{part:06}.{nth}."));
        file.push(name);
        self.path.join("parts").join(file)
    }

    /// Removes what a process that was killed left behind: files that were not
    /// whole, and those of parts above `parts`, which will be made again; journals
    /// but the next part's.
    pub(super) fn clean(&self, parts: u64) -> Result<(), CampaignError> {
        let trouble = |error| CampaignError::read(&self.path, error);
        let keep = |name: &str| {
            let part = name.split('.').next().and_then(|part| part.parse().ok());
            !name.ends_with(".partial") && part.is_some_and(|part: u64| part <= parts)
        };
        remove_but(&self.path.join("parts"), keep).map_err(trouble)?;
        let next = format!("journal.{}", parts + 1);
        let keep = |name: &str| !name.starts_with("journal.") || name == next;
        remove_but(&self.path, keep).map_err(trouble)
    }

    /// Removes the parts: their outputs are whole.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_parts(&self) -> io::Result<()> {
        remove_but(&self.path.join("parts"), |_| false)
    }

    /// A number that is this campaign's, whichever process has it.
    pub(super) fn number(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }
}

/// Removes the files of a folder, but those that are to be kept.
fn remove_but(folder: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && !keep(&name.to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;

    #[test]
    fn a_campaign_has_one_process_and_one_beginning() {
        let folder = Folder::new("directory");
        let path = folder.path("c");
        let error = |result: Result<_, CampaignError>| match result {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        };
        let none = error(Directory::open(&path).map(|_| ()));
        assert!(none.contains("there is no campaign in it"), "{none}");
        let directory = Directory::create(&path).unwrap();
        let taken = error(Directory::create(&path).map(|_| ()));
        assert!(taken.contains("another process runs"), "{taken}");
        let plan = Plan::new("now".to_owned(), vec![], toml::Table::new());
        directory.begin(&plan, &Room::default()).unwrap();
        drop(directory);
        let begun = error(Directory::create(&path).map(|_| ()));
        assert!(begun.contains("--resume"), "{begun}");
        assert_eq!(Directory::open(&path).unwrap().1, plan);
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = Folder::new("directory-clean");
        let directory = Directory::create(&folder.path("c")).unwrap();
        let files = [
            ("parts/000001.0.a.jsonl", true),
            ("parts/000002.0.a.jsonl", true),
            ("parts/000003.0.a.jsonl", false),
            ("parts/000003.1.a.jsonl.77.partial", false),
            ("journal.2", false),
            ("journal.3", true),
            ("journal.4", false),
            ("state.json", true),
            ("targets.0", true),
        ];
        for (name, _) in files {
            fs::write(directory.path().join(name), "").unwrap();
        }
        directory.clean(2).unwrap();
        for (name, kept) in files {
            assert_eq!(directory.path().join(name).exists(), kept, "{name}");
        }
    }
}
