//! `cargo xtask package`: a Debian package of the release build, with manual pages,
//! completions and the systemd unit.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::counts::Counts;
use crate::{build, command, demo, paths};

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Args {}

/// The package's name, and that of its binary.
const NAME: &str = "insession";

/// Makes it.
pub fn run(_args: &Args) -> Result<()> {
    build::release()?;
    let package = make()?;
    check(&package)?;
    println!("packaged {}", package.display());
    Ok(())
}

/// The step of `cargo xtask test`: the package is made, unpacked, and its binary
/// traces through the demo's lab.
pub fn step() -> Result<Counts> {
    build::release()?;
    let (installed, verified) = check(&make()?)?;
    demo::with(&installed)?;
    Ok(Counts {
        passed: 1,
        skipped: u64::from(!verified),
        ..Counts::default()
    })
}

/// Makes the package of the release build that is there.
pub fn make() -> Result<PathBuf> {
    let folder = paths::target().join("package");
    let tree = Tree::new(folder.join("tree"))?;
    let binary = paths::insession();
    let installed = "usr/bin/insession";
    let bytes = fs::read(&binary).with_context(|| binary.display().to_string())?;
    tree.put(installed, &bytes, 0o755)?;
    // Line tables are nine tenths of it.
    command::run(
        Command::new("strip")
            .arg("--strip-debug")
            .arg(tree.0.join(installed)),
    )?;
    for page in pages(&binary)? {
        let text = said(&binary, &[&["man"], &page.arguments()[..]].concat())?;
        let path = format!("usr/share/man/man1/{}.1.gz", page.file());
        tree.put(&path, &gzip(&text)?, 0o644)?;
    }
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/insession"),
        ("zsh", "usr/share/zsh/vendor-completions/_insession"),
        ("fish", "usr/share/fish/vendor_completions.d/insession.fish"),
    ] {
        tree.put(path, &said(&binary, &["completions", shell])?, 0o644)?;
    }
    let root = paths::root();
    for (from, to) in [
        (
            "packaging/insession@.service",
            "usr/lib/systemd/system/insession@.service",
        ),
        ("README.md", "usr/share/doc/insession/README.md"),
        ("LICENSE-APACHE", "usr/share/doc/insession/LICENSE-APACHE"),
        ("LICENSE-MIT", "usr/share/doc/insession/copyright"),
    ] {
        tree.put(
            to,
            &fs::read(root.join(from)).with_context(|| from.to_owned())?,
            0o644,
        )?;
    }
    // Where the unit looks for campaigns.
    let campaigns = tree.0.join("etc/insession");
    fs::create_dir_all(&campaigns).with_context(|| campaigns.display().to_string())?;
    let changes = fs::read(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
    tree.put(
        "usr/share/doc/insession/changelog.gz",
        &gzip(&changes)?,
        0o644,
    )?;
    tree.put(
        "DEBIAN/control",
        control(&binary, tree.kibibytes()?)?.as_bytes(),
        0o644,
    )?;
    let package = folder.join(format!("{NAME}_{}_{}.deb", version(), architecture()?));
    command::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&tree.0)
            .arg(&package),
    )?;
    Ok(package)
}

/// Unpacks a package as an installation would, and looks whether all is there and
/// runs; where the binary is then, and whether the unit was verified too.
pub fn check(package: &Path) -> Result<(PathBuf, bool)> {
    let root = paths::target().join("package/root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    command::run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([package, &root]),
    )?;
    let binary = root.join("usr/bin/insession");
    let version_said = said(&binary, &["--version"])?;
    ensure!(
        String::from_utf8_lossy(&version_said).trim() == format!("{NAME} {}", version()),
        "the packaged binary says {:?}",
        String::from_utf8_lossy(&version_said)
    );
    for page in pages(&binary)? {
        let path = root.join(format!("usr/share/man/man1/{}.1.gz", page.file()));
        ensure!(path.is_file(), "{}: missing", path.display());
    }
    let unit = root.join("usr/lib/systemd/system/insession@.service");
    let verifier = command::output("systemd-analyze", &["--version"]);
    match &verifier {
        None => println!("skipped: the unit was not verified: there is no systemd-analyze"),
        Some(_) => command::run(
            Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .arg(&unit),
        )?,
    }
    Ok((binary, verifier.is_some()))
}

/// A folder that becomes the package's content.
struct Tree(PathBuf);

impl Tree {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(Tree(path))
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.0.join(name);
        let folder = path.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| path.display().to_string())
    }

    fn kibibytes(&self) -> Result<u64> {
        fn sum(folder: &Path) -> Result<u64> {
            let mut octets = 0;
            for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
                let entry = entry?;
                octets += match entry.file_type()?.is_dir() {
                    true => sum(&entry.path())?,
                    false => entry.metadata()?.len(),
                };
            }
            Ok(octets)
        }
        Ok(sum(&self.0)?.div_ceil(1024))
    }
}

/// A manual page: of the command, or of a subcommand.
struct Page(Option<String>);

impl Page {
    fn file(&self) -> String {
        match &self.0 {
            None => NAME.to_owned(),
            Some(subcommand) => format!("{NAME}-{subcommand}"),
        }
    }

    fn arguments(&self) -> Vec<&str> {
        self.0.as_deref().into_iter().collect()
    }
}

/// Every page there is: `--help` lists the subcommands.
fn pages(binary: &Path) -> Result<Vec<Page>> {
    let help = said(binary, &["--help"])?;
    let help = String::from_utf8_lossy(&help).into_owned();
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(|name| Page(Some(name.to_owned())));
    let pages: Vec<Page> = std::iter::once(Page(None)).chain(listed).collect();
    ensure!(pages.len() > 3, "--help lists no subcommands: {help}");
    Ok(pages)
}

/// What the binary says on standard output.
fn said(binary: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(binary)
        .args(arguments)
        .output()
        .with_context(|| binary.display().to_string())?;
    if !output.status.success() {
        bail!(
            "{} {}: {}",
            binary.display(),
            arguments.join(" "),
            output.status
        );
    }
    Ok(output.stdout)
}

/// Without name and time, so that the same source gives the same package.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("gzip")?;
    let mut input = gzip.stdin.take().context("gzip takes no input")?;
    let output = std::thread::scope(|scope| {
        // It reads while it writes: a pipe holds only so much.
        scope.spawn(move || input.write_all(bytes));
        gzip.wait_with_output()
    })?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn architecture() -> Result<String> {
    let said = command::output("dpkg", &["--print-architecture"])
        .context("dpkg: missing; packages are made on Debian")?;
    Ok(said.trim().to_owned())
}

fn control(binary: &Path, kibibytes: u64) -> Result<String> {
    Ok(format!(
        "Package: {NAME}\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: the insession authors <insession@localhost>\n\
         Section: net\n\
         Priority: optional\n\
         Installed-Size: {kibibytes}\n\
         Depends: {}\n\
         Recommends: iproute2, ethtool\n\
         Description: mass traceroute inside real TCP sessions, steered by XDP\n \
         Opens real TCP sessions by its own handshake, sends TTL-stepped data\n \
         segments inside them after a one-byte sequence gap, and reads the\n \
         routers' ICMP errors and the server's SACKs. Thousands to a million\n \
         sessions at once, over AF_XDP.\n",
        version(),
        architecture()?,
        depends(binary)?
    ))
}

/// The packages that have the libraries which the binary is linked to, by the names
/// that Debian has had for them since 12.
fn depends(binary: &Path) -> Result<String> {
    let listed = Command::new("ldd").arg(binary).output().context("ldd")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut packages = vec![format!("libc6 (>= {})", glibc(binary)?)];
    for line in listed.lines() {
        let Some((library, _)) = line.trim().split_once(" => ") else {
            continue;
        };
        let package = match library {
            "libc.so.6" | "libm.so.6" | "libpthread.so.0" | "libdl.so.2" | "librt.so.1" => continue,
            "libgcc_s.so.1" => "libgcc-s1",
            "libelf.so.1" => "libelf1 | libelf1t64",
            "libz.so.1" => "zlib1g",
            other => {
                bail!("{other}: which package has it is not known; add it to xtask's package.rs")
            }
        };
        packages.push(package.to_owned());
    }
    Ok(packages.join(", "))
}

/// The newest version of glibc's symbols that the binary asks for.
fn glibc(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let sign = b"GLIBC_2.";
    let minor = bytes
        .windows(sign.len() + 2)
        .filter(|window| window.starts_with(sign))
        .filter_map(|window| {
            let digits = window[sign.len()..]
                .iter()
                .take_while(|it| it.is_ascii_digit());
            String::from_utf8(digits.copied().collect())
                .ok()?
                .parse::<u32>()
                .ok()
        })
        .max()
        .context("the binary asks for no glibc")?;
    Ok(format!("2.{minor}"))
}
