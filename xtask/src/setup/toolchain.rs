//! The eBPF toolchain: bpf-linker, and the standard library's source for the
//! pinned compiler (`core` is built for the BPF target).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Need, State};
use crate::{command, paths};

const BPF_LINKER: &str = "0.10.1";

/// rustup waits for ever behind a firewall that swallows packets; an answer
/// takes a second, the 3 MB download a minute on a slow line.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// What is there and what is not.
pub fn needs() -> Vec<Need> {
    let state = |found: Option<String>, mend: String| match found {
        Some(found) => State::Present(found),
        None => State::Missing(mend),
    };
    vec![
        Need {
            name: "bpf-linker".to_owned(),
            why: "links the XDP program",
            state: state(
                bpf_linker(),
                format!("cargo install bpf-linker@{BPF_LINKER}"),
            ),
        },
        Need {
            name: "rust-src".to_owned(),
            why: "`core` is built for the BPF target from it",
            state: state(rust_src(), "rustup component add rust-src".to_owned()),
        },
    ]
}

/// Through cargo, from its registry.
pub fn install_bpf_linker() -> Result<()> {
    if bpf_linker().is_some() {
        return Ok(());
    }
    eprintln!("installing bpf-linker {BPF_LINKER}: links the XDP program (about 90 s)");
    command::run(command::cargo().args([
        "install",
        "--locked",
        "--force",
        &format!("bpf-linker@{BPF_LINKER}"),
    ]))?;
    if bpf_linker().is_none() {
        bail!(
            "bpf-linker {BPF_LINKER}: installed, but not found on the path; put cargo's bin folder (~/.cargo/bin) on PATH"
        );
    }
    Ok(())
}

/// By the first way that works: there already, rustup, Debian's package of the
/// very same version.
pub fn install_rust_src() -> Result<()> {
    if rust_src().is_some() {
        return Ok(());
    }
    eprintln!("installing rust-src: `core` is built for the BPF target from it");
    if command::output("rustup", &["--version"]).is_some() {
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(paths::root())
            .args(["component", "add", "rust-src"]);
        if command::run_within(&mut rustup, RUSTUP_LIMIT)? && rust_src().is_some() {
            return Ok(());
        }
    }
    eprintln!("rustup cannot bring it; trying Debian's rust-src package of the same version");
    from_debian().context(
        "rust-src: neither rustup nor Debian could bring the standard library's source for this compiler; \
         run `rustup component add rust-src` where there is a connection",
    )
}

fn bpf_linker() -> Option<String> {
    let version = command::output("bpf-linker", &["--version"])?;
    let version = version.trim();
    (version.split_whitespace().last()? == BPF_LINKER).then(|| version.to_owned())
}

fn library() -> Option<PathBuf> {
    let sysroot = command::output("rustc", &["--print", "sysroot"])?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

fn rust_src() -> Option<String> {
    let library = library()?;
    // The lock file is what `-Z build-std` asks for first.
    library
        .join("Cargo.lock")
        .is_file()
        .then(|| library.display().to_string())
}

/// The suites that carry newer compilers for Debian's stable release.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Debian ships the library's source as a package. It is only unpacked, into
/// the compiler's own folder: nothing of the system's changes, and apt's own
/// lists are left alone. apt checks the archive's signature as always.
fn from_debian() -> Result<()> {
    let version = command::output("rustc", &["--version"]).context("rustc: does not run")?;
    let version = version
        .split_whitespace()
        .nth(1)
        .context("rustc: prints no version")?
        .to_owned();
    let library = library().context("rustc: prints no sysroot")?;
    let work = Scratch::new()?;
    for suite in SUITES {
        let sources = work.0.join("rust-src.sources");
        fs::write(&sources, sources_for(suite)?).context("cannot write an apt source")?;
        let apt = |program: &str| {
            let mut apt = Command::new(program);
            for option in [
                format!("Dir::Etc::sourcelist={}", sources.display()),
                "Dir::Etc::sourceparts=-".to_owned(),
                format!("Dir::State::lists={}", work.0.join("lists").display()),
                format!("Dir::Cache::archives={}", work.0.join("archives").display()),
                // Its own package cache too, or the system's would be rewritten.
                format!(
                    "Dir::Cache::pkgcache={}",
                    work.0.join("pkgcache.bin").display()
                ),
                format!(
                    "Dir::Cache::srcpkgcache={}",
                    work.0.join("srcpkgcache.bin").display()
                ),
                // The scratch folder is root's alone: the _apt user cannot write there.
                "APT::Sandbox::User=root".to_owned(),
            ] {
                apt.arg("-o").arg(option);
            }
            apt.current_dir(&work.0);
            apt
        };
        if command::run(apt("apt-get").args(["-qq", "update"])).is_err() {
            continue;
        }
        let listed = apt("apt-cache").args(["madison", "rust-src"]).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        // "rust-src | 1.95.0+dfsg1-2~bpo13+1 | …": the very same version or none,
        // `core` must match the compiler exactly.
        let Some(package) = listed
            .lines()
            .filter_map(|line| line.split('|').nth(1).map(str::trim))
            .find(|candidate| candidate.split(['+', '-']).next() == Some(version.as_str()))
        else {
            eprintln!("  {suite}: no rust-src {version}");
            continue;
        };
        command::run(apt("apt-get").args(["-qq", "download", &format!("rust-src={package}")]))?;
        let archive = fs::read_dir(&work.0)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get download brought no package")?;
        let tree = work.0.join("tree");
        command::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&tree))?;
        let source = tree.join(format!("usr/src/rustc-{version}/library"));
        let parent = library.parent().context("sysroot has no parent")?;
        fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot be made", parent.display()))?;
        command::run(Command::new("cp").arg("-r").arg(&source).arg(parent))?;
        if rust_src().is_none() {
            bail!("Debian's rust-src {package} holds no library/Cargo.lock");
        }
        return Ok(());
    }
    bail!("no suite of {} has rust-src {version}", SUITES.join(", "))
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

/// A folder of our own that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = paths::target().join(format!("rust-src-{}", std::process::id()));
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {}: {error}", self.0.display());
        }
    }
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
