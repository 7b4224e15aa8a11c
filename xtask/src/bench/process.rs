//! A program run to its end, within a limit, and the CPU time that it and all
//! that it started took, as the kernel tells whoever reaps them (wait4(2)).
//!
//! Each program leads a process group of its own: scamper, for one, forks a
//! privileged half that may outlive the half we started. As child subreaper we
//! inherit it, and reap and count it by its group.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// CPU and wall time, seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In user space.
    pub user: f64,
    /// In the kernel, softirqs that ran on the process's back with it.
    pub system: f64,
    /// From start to end.
    pub wall: f64,
}

impl Usage {
    /// User and system.
    pub fn cpu(self) -> f64 {
        self.user + self.system
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// What it took.
    pub usage: Usage,
    /// When it was started.
    pub start: Instant,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// Where programs write, and what else a run leaves until its end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder of this process's own.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("insession-bench-{}", std::process::id()));
        std::fs::create_dir(&path)
            .with_context(|| format!("{}: cannot be made", path.display()))?;
        Ok(Scratch(path))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: {}: {error}; remove it by hand", self.0.display());
        }
    }
}

/// From now on this process inherits what its children leave behind.
pub fn become_subreaper() -> Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes an integer and touches no memory.
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if done != 0 {
        return Err(std::io::Error::last_os_error()).context("prctl(PR_SET_CHILD_SUBREAPER)");
    }
    Ok(())
}

/// Two at a time have files of their own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// From now on a command line may hold a few hundred thousand targets: the kernel
/// allows a quarter of the stack's limit, and 6 MiB at most (execve(2)).
pub fn allow_long_command_lines() -> Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live local of the right type.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    limit.rlim_cur = (64 << 20).min(limit.rlim_max);
    // SAFETY: as above.
    if done != 0 || unsafe { libc::setrlimit(libc::RLIMIT_STACK, &limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("RLIMIT_STACK");
    }
    Ok(())
}

/// A program that goes on.
#[derive(Debug)]
pub struct Running {
    name: String,
    group: libc::pid_t,
    start: Instant,
    out: PathBuf,
    err: PathBuf,
    usage: Usage,
    code: Option<i32>,
    gone: bool,
}

impl Running {
    /// Starts it, its output in files: a pipe that nobody empties would stop it,
    /// and emptying it would cost CPU at the wrong moment.
    pub fn start(command: &mut Command, scratch: &Scratch) -> Result<Self> {
        let name = crate::command_line(command);
        let program = Path::new(command.get_program()).file_name().map_or_else(
            || "program".into(),
            |name| name.to_string_lossy().into_owned(),
        );
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let out = scratch.file(&format!("{number}-{program}.out"));
        let err = scratch.file(&format!("{number}-{program}.err"));
        let make = |path: &Path| {
            File::create(path).with_context(|| format!("{}: cannot be made", path.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(make(&out)?)
            .stderr(make(&err)?)
            .current_dir(scratch.path())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name}: cannot be started"))?;
        Ok(Running {
            name,
            group: child.id() as libc::pid_t,
            start: Instant::now(),
            out,
            err,
            usage: Usage::default(),
            code: None,
            gone: false,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.group as u32
    }

    /// Whether it has said so by now.
    pub fn said(&self, what: &str) -> bool {
        std::fs::read_to_string(&self.out).is_ok_and(|said| said.contains(what))
    }

    /// Whether it, and all of its group, has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.gone || self.reap()?)
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// Asks it to end.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(libc::SIGINT)
    }

    /// Waits for it and all of its group, no longer than `limit` from now; what
    /// still runs then is killed, and that is an error.
    pub fn finish(mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        while !self.gone && !self.reap()? {
            if let Err(error) = interrupt::check() {
                self.kill();
                return Err(error);
            }
            if Instant::now() >= deadline {
                self.kill();
                bail!("{}: no end within {} s, killed", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let read = |path: &Path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Ended {
            usage: self.usage,
            start: self.start,
            code: self.code,
            output: read(&self.out),
            errors: read(&self.err),
        })
    }

    /// Reaps who has ended; whether nobody is left.
    fn reap(&mut self) -> Result<bool> {
        loop {
            let mut status = 0;
            // SAFETY: rusage is plain integers; all zero is a value of it.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers are to live locals of the right type. The
            // group is that of our own child: nobody else's are reaped.
            let pid = unsafe { libc::wait4(-self.group, &mut status, libc::WNOHANG, &mut usage) };
            match pid {
                0 => return Ok(false),
                -1 => {
                    let error = std::io::Error::last_os_error();
                    match error.raw_os_error() {
                        Some(libc::EINTR) => {}
                        Some(libc::ECHILD) => {
                            self.gone = true;
                            return Ok(true);
                        }
                        _ => return Err(error).with_context(|| format!("{}: wait4", self.name)),
                    }
                }
                pid => {
                    self.usage.user += seconds(usage.ru_utime);
                    self.usage.system += seconds(usage.ru_stime);
                    if pid == self.group {
                        self.usage.wall = self.start.elapsed().as_secs_f64();
                        self.code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                    }
                }
            }
        }
    }

    fn signal(&self, number: libc::c_int) -> Result<()> {
        // SAFETY: kill takes integers. The group's leader is our child and not
        // yet reaped, or others of its group are: the number is not reused.
        let done = unsafe { libc::kill(-self.group, number) };
        if done != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("{}: kill", self.name));
        }
        Ok(())
    }

    /// Ends it and all of its group, and reaps them.
    pub fn kill(&mut self) {
        if self.gone || self.signal(libc::SIGKILL).is_err() {
            return;
        }
        // A killed process is gone in milliseconds; not waiting for ever all the same.
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.reap(), Ok(false)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.out);
        let _ = std::fs::remove_file(&self.err);
    }
}

/// Runs a program to its end; an exit code that is not 0 is an error with the
/// last lines it said.
pub fn run(command: &mut Command, scratch: &Scratch, limit: Duration) -> Result<Ended> {
    let name = crate::command_line(command);
    let ended = Running::start(command, scratch)?.finish(limit)?;
    if ended.code != Some(0) {
        bail!("{name}: exit code {:?}: {}", ended.code, tail(&ended));
    }
    Ok(ended)
}

/// The last lines it said.
pub fn tail(ended: &Ended) -> String {
    let said = if ended.errors.trim().is_empty() {
        &ended.output
    } else {
        &ended.errors
    };
    let lines: Vec<&str> = said.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_and_what_it_leaves_behind_is_counted() {
        become_subreaper().unwrap();
        let scratch = Scratch::new().unwrap();
        // The shell ends at once, its background half later.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo late) & echo early",
        ]);
        let ended = run(&mut command, &scratch, Duration::from_secs(60)).unwrap();
        assert_eq!(ended.output, "early\nlate\n");
        assert!(ended.usage.cpu() > 0.0);
        let mut endless = Command::new("sleep");
        endless.arg("1000");
        let error = run(&mut endless, &scratch, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("killed"), "{error}");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 3"]);
        let error = run(&mut failing, &scratch, Duration::from_secs(60)).unwrap_err();
        assert!(
            error.to_string().ends_with("exit code Some(3): why"),
            "{error}"
        );
    }
}
