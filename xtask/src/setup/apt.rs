//! apt in a folder of its own: other suites' packages, downloaded and unpacked.
//! Nothing of the system's changes, and apt's own lists are left alone. The
//! archive's signature is checked as always.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// One such folder.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Lists these suites (words of one line) of this machine's own source.
    pub fn new(folder: &Path, suites: &str) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        fs::write(folder.join(SOURCES), sources_for(suites)?)
            .context("cannot write an apt source")?;
        fs::write(folder.join(CONFIGURATION), configuration(folder))
            .context("cannot write apt's configuration")?;
        Ok(Apt {
            folder: folder.to_owned(),
        })
    }

    /// Fetches the lists.
    pub fn update(&self) -> Result<()> {
        command::run(self.command("apt-get").args(["-qq", "update"]))
    }

    /// The versions there are of a package, the newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let listed = self.ask(&["madison", package])?;
        // "rust-src | 1.95.0+dfsg1-2~bpo13+1 | …"
        Ok(listed
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect())
    }

    /// What a package depends on, by name.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let listed = self.ask(&["depends", package])?;
        // "  Depends: linux-base", "  PreDepends: <virtual>"
        Ok(listed
            .lines()
            .filter_map(|line| line.split_once("Depends: "))
            .map(|(_, name)| name.trim().to_owned())
            .collect())
    }

    /// Downloads packages, `NAME` or `NAME=VERSION`, into a folder of their own.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(into).with_context(|| format!("{}: cannot be made", into.display()))?;
        command::run(
            self.command("apt-get")
                .current_dir(into)
                .args(["-qq", "download"])
                .args(packages),
        )?;
        archives(into)
    }

    /// Downloads what installing a package from this suite would bring to this
    /// machine, without installing it.
    pub fn download_for_install(&self, suite: &str, package: &str) -> Result<Vec<PathBuf>> {
        command::run(self.command("apt-get").args([
            "-qq",
            "install",
            "--download-only",
            "--no-install-recommends",
            "-y",
            "-t",
            suite,
            package,
        ]))?;
        archives(&self.folder.join("archives"))
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command("apt-cache").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.arg("-c").arg(self.folder.join(CONFIGURATION));
        apt.current_dir(&self.folder);
        apt
    }
}

const SOURCES: &str = "private.sources";
const CONFIGURATION: &str = "apt.conf";

/// Read after the system's own, whose other settings (a proxy, say) stay.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::Etc::sourcelist \"{folder}/{SOURCES}\";\n\
         Dir::Etc::sourceparts \"-\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::Cache::archives \"{folder}/archives\";\n\
         # Its own package cache too, or the system's would be rewritten.\n\
         Dir::Cache::pkgcache \"{folder}/pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"{folder}/srcpkgcache.bin\";\n\
         # The folder may be root's alone: the _apt user could not write there.\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// Unpacks a package into a folder.
pub fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    command::run(Command::new("dpkg").arg("-x").arg(archive).arg(tree))
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension() == Some(OsStr::new("deb")))
        .collect();
    if found.is_empty() {
        bail!("{}: apt-get brought no package", folder.display());
    }
    found.sort();
    Ok(found)
}

/// This machine's own Debian source with another suite: whatever mirror the
/// administrator chose serves that too.
fn sources_for(suite: &str) -> Result<String> {
    let deb822 = Path::new("/etc/apt/sources.list.d/debian.sources");
    if let Ok(text) = fs::read_to_string(deb822) {
        return Ok(first_stanza_with(&text, suite));
    }
    let list = fs::read_to_string("/etc/apt/sources.list").context(
        "neither /etc/apt/sources.list.d/debian.sources nor /etc/apt/sources.list can be read",
    )?;
    one_line_with(&list, suite).context("/etc/apt/sources.list: names no `deb` source")
}

fn first_stanza_with(text: &str, suite: &str) -> String {
    let mut stanza = String::new();
    for line in text
        .lines()
        .skip_while(|line| line.trim().is_empty() || line.starts_with('#'))
    {
        if line.trim().is_empty() {
            break;
        }
        if line.to_ascii_lowercase().starts_with("suites:") {
            stanza.push_str(&format!("Suites: {suite}\n"));
        } else if !line.starts_with('#') {
            stanza.push_str(line);
            stanza.push('\n');
        }
    }
    stanza
}

/// As deb822, since the file we write is named `.sources`.
fn one_line_with(list: &str, suite: &str) -> Option<String> {
    let line = list
        .lines()
        .find(|line| line.starts_with("deb ") && line.contains("/debian"))?;
    let mut words = line.split_whitespace().skip(1).peekable();
    let mut signed_by = String::new();
    while words
        .peek()
        .is_some_and(|word| word.starts_with('[') || !word.contains("://"))
    {
        let word = words.next()?.trim_matches(['[', ']']);
        if let Some(key) = word.strip_prefix("signed-by=") {
            signed_by = format!("Signed-By: {key}\n");
        }
    }
    let uri = words.next()?;
    Some(format!(
        "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{signed_by}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_all_but_its_suites() {
        let text = "# a comment\nTypes: deb\n# snapshot\nURIs: http://mirror.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\nTypes: deb\nSuites: other\n";
        assert_eq!(
            first_stanza_with(text, "trixie-backports"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }

    #[test]
    fn a_one_line_source_becomes_a_stanza() {
        let list =
            "# x\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main\n";
        assert_eq!(
            one_line_with(list, "sid").as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\nSigned-By: /k.gpg\n"
            )
        );
        assert_eq!(one_line_with("# nothing\n", "sid"), None);
    }
}
