//! The virtual machine's files: built programs with the libraries they are
//! linked to, busybox, kernel modules, packed as an initramfs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::matrix::{Cell, SUITES};
use crate::{command, paths};

/// Programs of ours that go into every virtual machine.
#[derive(Debug)]
pub struct Programs {
    insession: PathBuf,
    guest: PathBuf,
    suites: Vec<(&'static str, PathBuf)>,
}

/// The first process: makes the file systems, loads the modules, and switches
/// the machine off when the guest's program has ended.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin RUST_BACKTRACE=0
mkdir -p /proc /sys /dev /run /tmp /var/run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
ip link set lo up
while read module; do insmod $module || echo \"$module: not loaded\"; done < /modules/order
uname -r
# A machine whose host has gone away ends too.
(sleep 240; poweroff -f) &
/guest
poweroff -f
";

impl Programs {
    /// Builds them, quickly: nothing is measured in there.
    pub fn build() -> Result<Self> {
        command::run(command::cargo().args(["build", "--locked", "--package", "insession"]))?;
        command::run(command::cargo().args([
            "build",
            "--locked",
            "--package",
            "insession-lab",
            "--bin",
            "insession-vm-guest",
        ]))?;
        let debug = paths::target().join("debug");
        Ok(Programs {
            insession: debug.join("insession"),
            guest: debug.join("insession-vm-guest"),
            suites: SUITES
                .iter()
                .map(|name| Ok((*name, test_binary(name)?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// Builds an integration test of insession and says where it is.
fn test_binary(name: &str) -> Result<PathBuf> {
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--locked", "--package", "insession", "--no-run"])
        .args([
            "--test",
            name,
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit());
    let shown = command::line(&cargo);
    eprintln!("$ {shown}");
    let output = cargo.output().context("cargo: cannot be started")?;
    if !output.status.success() {
        bail!("{shown}: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let target = format!("\"name\":\"{name}\"");
    // One artifact a line. cargo writes paths as they are but for \ and ".
    text.lines()
        .filter(|line| line.contains(&target))
        .find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next())
        .map(PathBuf::from)
        .with_context(|| format!("{shown}: names no executable"))
}

/// Makes the initramfs; `folder` is for it alone.
pub fn pack(programs: &Programs, kernel: &Kernel, cell: &Cell, folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let root = folder.join("root");
    for part in ["bin", "modules", "suites", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(part))
            .with_context(|| format!("{}: cannot be made", root.display()))?;
    }
    let packer = Packer { root: &root };
    packer.add(&found("busybox")?, "bin/busybox")?;
    // Not busybox's: it knows neither netns nor -batch.
    packer.add(&found("ip")?, "usr/sbin/ip")?;
    packer.add(&programs.insession, "insession")?;
    packer.add(&programs.guest, "guest")?;
    for (name, path) in programs
        .suites
        .iter()
        .filter(|(name, _)| cell.facts.iter().any(|(fact, _)| fact == name))
    {
        packer.add(path, &format!("suites/{name}"))?;
    }
    let mut order = String::new();
    for module in kernel.modules(cell.card.modules())? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let to = format!("modules/{name}");
        fs::copy(&module, root.join(&to)).with_context(|| module.display().to_string())?;
        order.push_str(&format!("/{to}\n"));
    }
    fs::write(root.join("modules/order"), order)?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    archive(&root, &folder.join("initramfs.cpio"))
}

struct Packer<'a> {
    root: &'a Path,
}

impl Packer<'_> {
    /// A program, stripped, and the libraries that it is linked to.
    fn add(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.root.join(to);
        copy(from, &to)?;
        // What is stripped already, is again.
        command_quiet(Command::new("strip").arg(&to))?;
        for library in libraries(from)? {
            let inside = self
                .root
                .join(library.strip_prefix("/").unwrap_or(&library));
            if !inside.exists() {
                copy(&library, &inside)?;
            }
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("{}: cannot be copied", from.display()))?;
    Ok(())
}

/// The libraries of a program, by the names under which it asks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    // Fails for programs that are linked to none.
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", "/lib64/ld-… (0x…)"
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

fn found(program: &str) -> Result<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program}: not found; `cargo xtask vm` installs what it needs"))
}

/// Packed, but not compressed: unpacking takes longer in there than reading.
fn archive(root: &Path, to: &Path) -> Result<PathBuf> {
    command_quiet(
        Command::new("sh")
            .args(["-ec", "find . | cpio --quiet -o -H newc > \"$0\""])
            .arg(to)
            .current_dir(root),
    )?;
    fs::remove_dir_all(root)?;
    Ok(to.to_owned())
}

fn command_quiet(command: &mut Command) -> Result<()> {
    let shown = command::line(command);
    let output = command
        .output()
        .with_context(|| format!("{shown}: cannot be started"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
