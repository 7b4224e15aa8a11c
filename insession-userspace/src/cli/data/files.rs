//! Which files say whose addresses are: those that are named, else those of the data
//! directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::exit::{Failure, tell};
use crate::owners::load::Source;
use crate::owners::{self, File, Owners};

/// The variable that names the directory.
const DIRECTORY: &str = "INSESSION_DATA_DIR";
/// The directory of all users.
const SHARED: &str = "/usr/share/insession";

/// Where data are looked for, in this order; the first directory with a file is it.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    };
    if let Some(directory) = variable(DIRECTORY) {
        return vec![directory];
    }
    let own = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let own = own.map(|path| path.join("insession"));
    own.into_iter().chain([PathBuf::from(SHARED)]).collect()
}

/// Reads what is named, files or directories of them, or else what the first of the data
/// directories has; tells what is wrong with it.
///
/// # Errors
/// When there is none, or a file cannot be read or is no data.
pub fn load(named: &[PathBuf], directories: &[PathBuf]) -> Result<Owners, Failure> {
    let (owners, others) = owners::load(&sources(named, directories)?)?;
    for other in others {
        tell(format_args!(
            "note: {}: {}; left out",
            other.file, other.why
        ));
    }
    if owners.files().is_empty() {
        return Err(none(named, directories));
    }
    for file in owners.files() {
        for words in warnings(file, SystemTime::now()) {
            tell(format_args!("warning: {words}"));
        }
    }
    Ok(owners)
}

/// What is wrong with a file, and not so much that it is of no use.
fn warnings(file: &File, now: SystemTime) -> Vec<String> {
    let mut all: Vec<String> = file
        .told
        .iter()
        .map(|it| format!("{it}; left out"))
        .collect();
    let name = file.path.display();
    let rest = file.counts.bad.saturating_sub(file.told.len() as u64);
    if rest > 0 {
        all.push(format!("{name}: {rest} more bad lines, left out"));
    }
    if let Some(date) = file.date.filter(|date| date.is_old(now)) {
        let days = date.age(now).as_secs() / 86_400;
        all.push(format!(
            "{name}: of {}, {days} days old; fetch a newer one",
            date.day()
        ));
    }
    all
}

fn sources(named: &[PathBuf], directories: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if named.is_empty() {
        for directory in directories {
            let found = within(directory).unwrap_or_default();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        return Err(none(named, directories));
    }
    let mut all = Vec::new();
    for path in named {
        match path.is_dir() {
            true => all.extend(within(path)?),
            false => all.push(Source {
                path: path.clone(),
                is_named: true,
            }),
        }
    }
    Ok(all)
}

/// The files of a directory by their names, without hidden ones.
fn within(directory: &Path) -> Result<Vec<Source>, Failure> {
    let trouble = |error: std::io::Error| {
        Failure::usage(format!(
            "{}: {error}; name a directory that can be read",
            directory.display()
        ))
    };
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).map_err(trouble)? {
        let path = entry.map_err(trouble)?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && !name.as_encoded_bytes().starts_with(b".") {
            let is_named = false;
            all.push(Source { path, is_named });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn none(named: &[PathBuf], directories: &[PathBuf]) -> Failure {
    let places = if named.is_empty() { directories } else { named };
    let places: Vec<String> = places.iter().map(|it| it.display().to_string()).collect();
    Failure::usage(format!(
        "{}: no file there says whose addresses are; put some there, or name them by --data \
         (a pfx2as file, an MRT table dump, an MMDB, names of AS, prefixes of exchanges)",
        places.join(", ")
    ))
}

impl From<owners::OwnersError> for Failure {
    fn from(error: owners::OwnersError) -> Self {
        Failure::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::testing::Folder;
    use crate::owners::date::{Dated, Evidence};
    use crate::owners::{Counts, Kind};
    use std::time::{Duration, UNIX_EPOCH};

    const ROUTE: &str = "192.0.2.0\t24\t64500\n";

    fn names(owners: &Owners) -> Vec<String> {
        let name = |file: &File| {
            file.path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        owners.files().iter().map(name).collect()
    }

    #[test]
    fn the_first_directory_with_data_is_it() {
        let folder = Folder::new("data-directories");
        let places = ["nosuch", "empty", "full", "other"].map(|name| folder.path(name));
        for path in &places[1..] {
            fs::create_dir(path).unwrap();
        }
        for name in ["full/b", "full/a", "full/.hidden", "other/c"] {
            fs::write(folder.path(name), ROUTE).unwrap();
        }
        fs::create_dir(folder.path("full/old")).unwrap();
        fs::write(folder.path("full/README"), "words\n").unwrap();
        assert_eq!(names(&load(&[], &places).unwrap()), ["a", "b"]);
        // What is named is taken instead, a directory with all that is in it.
        let named = [folder.path("other/c"), folder.path("full")];
        assert_eq!(names(&load(&named, &places).unwrap()), ["c", "a", "b"]);
        let named = [folder.path("full/README")];
        let error = load(&named, &places).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(
            error
                .message
                .contains("README: no line or object of it is data; "),
            "{error:?}"
        );
    }

    #[test]
    fn where_there_is_none_the_places_are_named() {
        let folder = Folder::new("data-none");
        let places = [folder.path("nosuch"), folder.path("full")];
        fs::create_dir(&places[1]).unwrap();
        fs::write(folder.path("full/README"), "words\n").unwrap();
        let error = load(&[], &places).unwrap_err();
        let expected = format!(
            "{}, {}: no file there",
            places[0].display(),
            places[1].display()
        );
        assert!(error.message.starts_with(&expected), "{error:?}");
        let error = load(&[], &places[..1]).unwrap_err();
        assert!(error.message.contains("by --data"), "{error:?}");
    }

    #[test]
    fn old_data_and_bad_lines_are_told() {
        let mut file = File {
            path: "f".into(),
            kind: Kind::Origins,
            title: None,
            counts: Counts {
                bad: 3,
                ..Counts::default()
            },
            date: Dated::content(1_767_312_000),
            told: vec!["f, line 2: WHY".to_owned()],
        };
        let days = |days: u64| UNIX_EPOCH + Duration::from_secs(1_767_312_000 + days * 86_400);
        let bad = ["f, line 2: WHY; left out", "f: 2 more bad lines, left out"];
        assert_eq!(warnings(&file, days(90)), bad);
        let old = "f: of 2026-01-02, 100 days old; fetch a newer one";
        assert_eq!(warnings(&file, days(100)), [bad[0], bad[1], old]);
        (file.told, file.counts.bad) = (Vec::new(), 0);
        file.date = file.date.map(|date| Dated {
            by: Evidence::Modified,
            ..date
        });
        assert_eq!(warnings(&file, days(100)), [old]);
    }
}
