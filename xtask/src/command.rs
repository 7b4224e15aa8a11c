//! Running other programs: what is run is shown, failures name the command.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;

/// The cargo that runs us, in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}

/// The command as a user would type it.
pub fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    if let Some((_, name)) = line.rsplit_once('/') {
        line = name.to_owned();
    }
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command to its end; its output goes where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = line(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("{shown}: cannot be started"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output, or `None` when it is not
/// there or fails.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(paths::root())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command, but no longer than `limit`; whether it succeeded in time.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<bool> {
    let shown = line(command);
    eprintln!("$ {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{shown}: cannot be started"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().with_context(|| shown.clone())? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill().with_context(|| shown.clone())?;
            child.wait().with_context(|| shown.clone())?;
            eprintln!("  no answer within {} s, given up", limit.as_secs());
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
