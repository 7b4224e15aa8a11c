//! The program under test, run at a node of a lab.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::record::Record;
use crate::sys;

/// Names the program; `cargo xtask test` and `cargo xtask demo` set it.
pub const VARIABLE: &str = "INSESSION_BIN";

/// The longest that any run may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Where the program is.
///
/// # Errors
/// When nobody said, or it is not there.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(VARIABLE).with_context(|| {
        format!("{VARIABLE}: not set; run the end-to-end tests by `cargo xtask test --only lab`")
    })?;
    let path = PathBuf::from(path);
    if !path.is_file() {
        bail!(
            "{VARIABLE}: {}: no such program; `cargo xtask build` makes it",
            path.display()
        );
    }
    Ok(path)
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Run {
    /// The records on its standard output.
    ///
    /// # Errors
    /// When there is anything else.
    pub fn records(&self) -> Result<Vec<Record>> {
        Record::parse_all(&self.output)
            .with_context(|| format!("exit code {:?}, it said: {}", self.code, self.errors))
    }

    /// Its only record.
    ///
    /// # Errors
    /// When there is none, or more.
    pub fn record(&self) -> Result<Record> {
        let mut records = self.records()?;
        match (records.pop(), records.is_empty()) {
            (Some(record), true) => Ok(record),
            _ => bail!(
                "{} records, exit code {:?}, it said: {}",
                self.output.lines().count(),
                self.code,
                self.errors
            ),
        }
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

/// The program at a node, with these arguments. Who runs it may have SIGHUP ignored
/// (nohup(1)): the program has not.
///
/// # Errors
/// When the program is not there.
pub fn command(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = lab.command(node, "env");
    command
        .arg("--default-signal=HUP")
        .arg(binary()?)
        .args(arguments)
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs the program at a node.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Run> {
    start(lab, node, arguments)?.finish(LIMIT)
}

/// `insession trace --json …` at node `client`.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn trace(lab: &Lab, arguments: &[&str]) -> Result<Run> {
    run(lab, "client", &[&["trace", "--json"], arguments].concat())
}

/// Starts the program at a node.
///
/// # Errors
/// When it cannot be started.
pub fn start(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Running> {
    Running::spawn(&mut command(lab, node, arguments)?)
}

impl Running {
    /// Starts a command and keeps what it prints.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}: cannot be started"))?;
        Ok(Running { child })
    }

    /// Starts a command, keeps its standard output and shows its standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_shown(command: &mut Command) -> Result<Self> {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("{command:?}: cannot be started"))?;
        Ok(Running { child })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, number: i32) -> Result<()> {
        sys::signal(&self.child, number)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end; kills it at the limit.
    ///
    /// # Errors
    /// When it does not end by itself.
    pub fn finish(mut self, limit: Duration) -> Result<Run> {
        let mut output = self.child.stdout.take().context("no standard output")?;
        let mut errors = self.child.stderr.take();
        std::thread::scope(|scope| {
            let output = scope.spawn(move || text(&mut output));
            let errors = scope.spawn(move || errors.as_mut().map_or(Ok(String::new()), text));
            let status = sys::wait(&mut self.child, limit)?;
            if status.is_none() {
                self.child.kill()?;
                self.child.wait()?;
            }
            let (Ok(output), Ok(errors)) = (output.join(), errors.join()) else {
                bail!("reading what it printed failed");
            };
            let run = Run {
                code: status.and_then(|status| status.code()),
                output: output?,
                errors: errors?,
            };
            if status.is_none() {
                bail!("does not end within {} s: {run:?}", limit.as_secs());
            }
            Ok(run)
        })
    }
}

fn text(pipe: &mut impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
