//! What was asked of a campaign: written down when it begins, and held to when it
//! is resumed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::CampaignError;
use super::state::SCHEMA;

/// The plan of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program's version.
    pub version: String,
    /// When it was begun (RFC 3339).
    pub begun: String,
    /// The lists of targets, in order.
    #[serde(default)]
    pub lists: Vec<List>,
    /// The options, as a configuration file has them.
    pub options: toml::Table,
}

/// A file of targets, and what it was when the campaign began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Where it is.
    pub file: PathBuf,
    /// Octets.
    pub bytes: u64,
    /// SHA-256 of them, in hexadecimal digits.
    pub sha256: String,
}

impl Plan {
    /// A plan that begins now.
    #[must_use]
    pub fn new(begun: String, lists: Vec<List>, options: toml::Table) -> Self {
        Plan {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            begun,
            lists,
            options,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When there is none, or it is of another version.
    pub fn read(path: &Path) -> Result<Self, CampaignError> {
        let text = fs::read_to_string(path).map_err(|error| CampaignError::read(path, error))?;
        let plan: Plan = toml::from_str(&text).map_err(|error| {
            CampaignError::Input(format!(
                "{}: {}; it is not as insession wrote it, begin the campaign anew",
                path.display(),
                error.message()
            ))
        })?;
        if plan.schema != SCHEMA {
            return Err(CampaignError::Input(format!(
                "{}: it is of version {:?}, this program has {SCHEMA:?}; resume with the program that began it",
                path.display(),
                plan.schema
            )));
        }
        Ok(plan)
    }

    /// As it stands in its file.
    ///
    /// # Errors
    /// When an option cannot be written in TOML.
    pub fn text(&self) -> io::Result<String> {
        toml::to_string(self).map_err(io::Error::other)
    }

    /// Whether every list is what it was.
    ///
    /// # Errors
    /// Names the list that is not, or that cannot be read.
    pub fn check_lists(&self) -> Result<(), CampaignError> {
        for before in &self.lists {
            let now = List::of(&before.file)?;
            if now != *before {
                return Err(CampaignError::Input(format!(
                    "{}: it was changed since the campaign began ({} octets, now {}); \
                     put it back as it was, or begin another campaign",
                    before.file.display(),
                    before.bytes,
                    now.bytes
                )));
            }
        }
        Ok(())
    }
}

impl List {
    /// The list in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(file: &Path) -> Result<Self, CampaignError> {
        let (sha256, bytes) = File::open(file).and_then(digest).map_err(|source| {
            let what = file.display().to_string();
            let mend = "name a file that can be read";
            CampaignError::Io { what, source, mend }
        })?;
        Ok(List {
            file: file.to_owned(),
            bytes,
            sha256,
        })
    }
}

fn digest(mut from: impl Read) -> io::Result<(String, u64)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..length]);
        bytes += length as u64;
    }
    let digits = hash
        .finalize()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    Ok((digits, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;

    #[test]
    fn it_is_read_as_it_was_written_and_knows_its_lists() {
        let folder = Folder::new("plan");
        let (path, list) = (folder.path("plan.toml"), folder.path("list"));
        fs::write(&list, "abc").unwrap();
        let lists = vec![List::of(&list).unwrap()];
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            lists[0].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let options = toml::from_str("rate = \"10k\"\nseed = 7\noutput = [\"a\"]\n").unwrap();
        let plan = Plan::new("2026-01-02T03:04:05Z".to_owned(), lists, options);
        fs::write(&path, plan.text().unwrap()).unwrap();
        let read = Plan::read(&path).unwrap();
        assert_eq!(read, plan);
        read.check_lists().unwrap();
        fs::write(&list, "abd").unwrap();
        let error = read.check_lists().unwrap_err().to_string();
        assert!(error.contains("was changed since"), "{error}");
        fs::remove_file(&list).unwrap();
        let error = read.check_lists().unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
