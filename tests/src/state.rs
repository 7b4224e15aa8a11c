//! What is up, and whose it is: `/run/insession-lab/INSTANCE/`.
//!
//! Namespaces are named `isl-LAB-INSTANCE-NODE`. An instance belongs to a
//! process, and is swept by whoever comes next once that process is gone; or
//! to nobody, and stays until it is taken down by hand. Processes of a lab are
//! found by the namespace they live in: no number is remembered that could
//! belong to somebody else by the time it is used.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::sys;

const ROOT: &str = "/run/insession-lab";
const NAMESPACES: &str = "/run/netns";

/// An instance's folder.
#[derive(Debug)]
pub struct State {
    instance: String,
    folder: PathBuf,
}

/// An instance that is up, or was left over.
#[derive(Clone, Debug)]
pub struct Found {
    /// The topology's name.
    pub lab: String,
    /// The instance.
    pub instance: String,
    /// The owner is gone.
    pub stale: bool,
    /// It belongs to nobody, hence stays.
    pub kept: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A name that no other instance has: this process's id and a count.
#[must_use]
pub fn fresh_instance() -> String {
    format!(
        "{}x{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl State {
    /// Makes the folder, owned by this process.
    ///
    /// # Errors
    /// When there is one already.
    pub fn create(lab: &str, instance: &str) -> Result<Self> {
        fs::create_dir_all(ROOT).with_context(|| format!("{ROOT}: cannot be made"))?;
        let folder = Path::new(ROOT).join(instance);
        // Whole or not at all: a sweep must never see one without its owner.
        let draft = Path::new(ROOT).join(format!(".{}", fresh_instance()));
        fs::create_dir(&draft).with_context(|| format!("{}: cannot be made", draft.display()))?;
        fs::write(draft.join("lab"), lab)?;
        fs::write(draft.join("owner"), own_identity()?)?;
        if let Err(error) = fs::rename(&draft, &folder) {
            fs::remove_dir_all(&draft)?;
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) {
                bail!("lab {lab}: instance {instance} is up already; take it down first");
            }
            return Err(error).with_context(|| folder.display().to_string());
        }
        Ok(State {
            instance: instance.to_owned(),
            folder,
        })
    }

    /// An instance that is there.
    #[must_use]
    pub fn open(instance: &str) -> Self {
        State {
            instance: instance.to_owned(),
            folder: Path::new(ROOT).join(instance),
        }
    }

    /// The instance's name.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The folder, for logs and configuration.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps it: from now on it belongs to nobody.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.folder.join("owner"), "nobody\n")
            .with_context(|| format!("{}: cannot be written", self.folder.display()))
    }

    /// Takes everything away: processes, namespaces, folder. Everything is
    /// tried; the first failure is returned.
    ///
    /// # Errors
    /// When something is left.
    pub fn remove(&self, lab: &str) -> Result<()> {
        let namespaces = namespaces_of(lab, &self.instance)?;
        let mut failure = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                failure.get_or_insert(error);
            }
        };
        note(kill_all(&namespaces));
        for name in &namespaces {
            note(remove_namespace(name));
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                note(Err(error).with_context(|| self.folder.display().to_string()));
            }
            _ => {}
        }
        // The last one out; others may be in.
        let _ = fs::remove_dir(ROOT);
        failure.map_or(Ok(()), Err)
    }
}

/// What is up or was left over.
///
/// # Errors
/// When the folder cannot be read.
pub fn list() -> Result<Vec<Found>> {
    let entries = match fs::read_dir(ROOT) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(ROOT),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(instance) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // Gone between listing and reading: somebody took it down.
        let (Ok(lab), Ok(owner)) = (
            fs::read_to_string(path.join("lab")),
            fs::read_to_string(path.join("owner")),
        ) else {
            continue;
        };
        if instance.starts_with('.') {
            continue;
        }
        let kept = owner.trim() == "nobody";
        found.push(Found {
            lab: lab.trim().to_owned(),
            instance: instance.to_owned(),
            stale: !kept && !lives(owner.trim()),
            kept,
        });
    }
    found.sort_by(|a, b| a.instance.cmp(&b.instance));
    Ok(found)
}

/// Takes down what dead owners left.
///
/// # Errors
/// When something is left.
pub fn sweep() -> Result<()> {
    for found in list()?.into_iter().filter(|found| found.stale) {
        State::open(&found.instance)
            .remove(&found.lab)
            .with_context(|| format!("left over lab {} ({})", found.lab, found.instance))?;
    }
    Ok(())
}

/// The name of a node's namespace.
#[must_use]
pub fn namespace(lab: &str, instance: &str, node: &str) -> String {
    format!("isl-{lab}-{instance}-{node}")
}

/// Where a named namespace is.
#[must_use]
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

fn namespaces_of(lab: &str, instance: &str) -> Result<Vec<String>> {
    let prefix = namespace(lab, instance, "");
    let entries = match fs::read_dir(NAMESPACES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(NAMESPACES),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(&prefix)
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Ends every process that lives in one of these namespaces.
fn kill_all(names: &[String]) -> Result<()> {
    let inodes: BTreeSet<u64> = names
        .iter()
        .filter_map(|name| Some(fs::metadata(namespace_path(name)).ok()?.ino()))
        .collect();
    // A process may have forked while the list was read: until none is left.
    for _ in 0..100 {
        let inside = inhabitants(&inodes)?;
        if inside.is_empty() {
            return Ok(());
        }
        for pid in inside {
            sys::kill(pid, || lives_in(pid, &inodes))?;
        }
    }
    bail!("processes of the lab go on starting others");
}

fn inhabitants(inodes: &BTreeSet<u64>) -> Result<Vec<i32>> {
    let mut inside = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            && lives_in(pid, inodes)
        {
            inside.push(pid);
        }
    }
    Ok(inside)
}

/// Whether the process is in one of the namespaces. A zombie is in none.
fn lives_in(pid: i32, inodes: &BTreeSet<u64>) -> bool {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .is_ok_and(|namespace| inodes.contains(&namespace.ino()))
}

fn remove_namespace(name: &str) -> Result<()> {
    let output = crate::lab::quiet("ip", &["netns", "del", name]).output()?;
    if !output.status.success() && namespace_path(name).exists() {
        bail!(
            "namespace {name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// This process, in a way that no later process shares.
fn own_identity() -> Result<String> {
    let pid = std::process::id();
    Ok(format!(
        "{pid} {}\n",
        start_time(pid).context("/proc/self/stat: cannot be read")?
    ))
}

fn lives(identity: &str) -> bool {
    let Some((pid, start)) = identity.split_once(' ') else {
        return false;
    };
    pid.parse()
        .ok()
        .and_then(start_time)
        .is_some_and(|found| found == start)
}

/// When the process was started, in clock ticks since boot (proc(5), field 22).
fn start_time(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold blanks and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let identity = own_identity().unwrap();
        assert!(lives(identity.trim()));
        let (pid, start) = identity.trim().split_once(' ').unwrap();
        assert!(!lives(&format!("{pid} {start}1")));
        assert!(!lives("nonsense"));
    }
}
