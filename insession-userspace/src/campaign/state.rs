//! What is whole of a campaign: replaced as one, by a rename.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CampaignError;
use super::done::Done;
use super::part::sync_folder;
use super::patient::Room;

/// The version of directories that this program makes and reads.
pub const SCHEMA: &str = "insession.campaign/1";

/// What is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: String,
    /// Parts 1 to this are whole; the journal is that of the next one.
    pub parts: u64,
    /// The positions of the targets whose records stand in them, as pairs of the
    /// first and the one behind the last.
    pub done: Done,
    /// How many records have which verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// The outputs are whole; there is nothing left to do.
    pub finished: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            schema: SCHEMA.to_owned(),
            parts: 0,
            done: Done::default(),
            verdicts: BTreeMap::new(),
            finished: false,
        }
    }
}

impl State {
    /// Reads it; the beginning, where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is of another version.
    pub fn read(path: &Path) -> Result<Self, CampaignError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(CampaignError::read(path, error)),
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| {
            CampaignError::Input(format!(
                "{}: {error}; it is not as insession wrote it, begin the campaign anew",
                path.display()
            ))
        })?;
        if state.schema != SCHEMA {
            return Err(CampaignError::Input(format!(
                "{}: it is of version {:?}, this program has {SCHEMA:?}; resume with the program that began it",
                path.display(),
                state.schema
            )));
        }
        Ok(state)
    }

    /// Puts it in place of the one before.
    ///
    /// # Errors
    /// When it cannot be written; the one before is in place then.
    pub fn write(&self, path: &Path, room: &Room) -> Result<(), CampaignError> {
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| replace(path, &text, room))
            .map_err(|error| CampaignError::write(&path.display().to_string(), error))
    }
}

/// Replaces a file, as one and for good.
pub(super) fn replace(path: &Path, bytes: &[u8], room: &Room) -> io::Result<()> {
    let temporary = path.with_extension("new");
    room.wait(|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = Folder::new("state");
        let path = folder.path("state.json");
        assert_eq!(State::read(&path).unwrap(), State::default());
        let state = State {
            parts: 3,
            done: [0..10, 12..14].into_iter().collect(),
            verdicts: [("complete".to_owned(), 12)].into(),
            ..State::default()
        };
        state.write(&path, &Room::default()).unwrap();
        assert_eq!(State::read(&path).unwrap(), state);
        assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);
    }

    #[test]
    fn another_version_is_refused() {
        let folder = Folder::new("state-version");
        let path = folder.path("state.json");
        let state = State {
            schema: "insession.campaign/9".to_owned(),
            ..State::default()
        };
        state.write(&path, &Room::default()).unwrap();
        let error = State::read(&path).unwrap_err().to_string();
        assert!(error.contains("insession.campaign/9"), "{error}");
        fs::write(&path, "{").unwrap();
        let error = State::read(&path).unwrap_err().to_string();
        assert!(error.contains("begin the campaign anew"), "{error}");
    }
}
