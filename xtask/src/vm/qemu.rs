//! QEMU: which one, and a virtual machine run to its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::command;
use crate::setup::apt::{self, Apt};

/// No virtual machine runs longer.
const LIMIT: Duration = Duration::from_secs(180);

/// A QEMU that can be run.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    /// Where it was unpacked; the system's own knows where its things are.
    tree: Option<PathBuf>,
    /// "7.2.22".
    pub version: String,
}

impl Qemu {
    /// One that is not older than this: the system's, or else that of the
    /// system's own backports, unpacked beside it.
    pub fn get(since: u32, vm: &Path) -> Result<Self> {
        let own = Qemu::at("qemu-system-x86_64".into(), None)?;
        if own.major() >= since {
            return Ok(own);
        }
        let folder = vm.join("qemu");
        let unpacked = || {
            let program = folder.join("tree/usr/bin/qemu-system-x86_64");
            Qemu::at(program, Some(folder.join("tree")))
        };
        if let Ok(kept) = unpacked()
            && kept.major() >= since
        {
            return Ok(kept);
        }
        fetch(&folder).with_context(|| {
            format!(
                "this needs QEMU {since} or newer; here is {}, and no newer one could be had",
                own.version
            )
        })?;
        let fetched = unpacked()?;
        if fetched.major() < since {
            bail!(
                "QEMU {since} or newer is needed; backports have {}",
                fetched.version
            );
        }
        Ok(fetched)
    }

    fn at(program: PathBuf, tree: Option<PathBuf>) -> Result<Self> {
        let mut qemu = Qemu {
            program,
            tree,
            version: String::new(),
        };
        let output = qemu
            .command()
            .arg("--version")
            .output()
            .with_context(|| format!("{}: cannot be started", qemu.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "QEMU emulator version 7.2.22 (Debian …)"
        qemu.version = text
            .split_whitespace()
            .skip_while(|word| *word != "version")
            .nth(1)
            .with_context(|| format!("{}: prints no version", qemu.program.display()))?
            .to_owned();
        Ok(qemu)
    }

    fn major(&self) -> u32 {
        let digits = self.version.split('.').next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(tree) = &self.tree {
            let share = tree.join("usr/share");
            let libraries = tree.join("usr/lib/x86_64-linux-gnu");
            // Or it would try the modules of the system's own.
            command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
            command.env("LD_LIBRARY_PATH", libraries);
            for folder in ["qemu", "seabios"] {
                command.arg("-L").arg(share.join(folder));
            }
        }
        command
    }

    /// Boots, hands each line of the console to `each`, and returns when the
    /// machine has switched itself off.
    pub fn run(
        &self,
        kernel: &Kernel,
        initramfs: &Path,
        card: &[String],
        each: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut command = self.command();
        command
            .args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024"])
            .args(["-smp", "2", "-display", "none", "-serial", "stdio"])
            .args(["-monitor", "none", "-no-reboot", "-no-user-config"])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            // On a busy host the timer may seem not to tick while it is tried.
            .args([
                "-append",
                "console=ttyS0 loglevel=4 panic=-1 no_timer_check",
            ])
            .args(card)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut machine = Machine(command.spawn().context("QEMU cannot be started")?);
        let console = machine.0.stdout.take().context("no console")?;
        let complaints = machine.0.stderr.take().context("no standard error")?;
        let (sender, lines) = mpsc::channel();
        // Both end with the machine, which closes the other ends.
        for pipe in [
            Box::new(console) as Box<dyn std::io::Read + Send>,
            Box::new(complaints),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let deadline = Instant::now() + LIMIT;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => each(&line),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the virtual machine still runs after {} s", LIMIT.as_secs())
                }
            }
        }
    }
}

/// A virtual machine that does not outlive us.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Of one that has switched itself off there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The system's own suite, and its backports: what is installed fits both.
fn fetch(folder: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release: no VERSION_CODENAME")?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let backports = format!("{codename}-backports");
    let apt = Apt::new(&folder.join("apt"), &format!("{codename} {backports}"))?;
    apt.update()?;
    eprintln!("fetching QEMU of {backports}");
    for archive in apt.download_for_install(&backports, "qemu-system-x86")? {
        apt::unpack(&archive, &folder.join("tree"))?;
    }
    command::run(Command::new("rm").arg("-r").arg(folder.join("apt")))
}
