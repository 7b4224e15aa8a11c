//! `insession doctor`: whether this machine can trace, and how to mend what
//! keeps it from it.
//!
//! Everything is read; only an interface that is named by `-i` is also tried: the
//! link is opened there and closed again.

use std::fmt;
use std::io::Write as _;

use serde::Serialize;

use super::exit::{self, Failure};

mod interface;
mod kernel;
mod permission;

/// Tell whether this machine can trace
///
/// Reads what the kernel says. With -i, the XDP link is also opened there and
/// closed again, which takes the carrier of some drivers (igb) away for seconds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status:
  0    nothing failed; there may be warnings
  1    something failed
  2    usage or bad input")]
pub struct Arguments {
    /// Look at this interface only, and try the XDP link on it
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Keeps from tracing over XDP.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    check: String,
    status: Status,
    found: String,
    mend: Option<String>,
}

impl Check {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Check {
            check: check.into(),
            status: Status::Ok,
            found: found.into(),
            mend: None,
        }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Check {
            status: Status::Warn,
            mend: Some(mend.into()),
            ..Check::ok(check, found)
        }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Check {
            status: Status::Fail,
            ..Check::warn(check, found, mend)
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        write!(f, "{status}  {}: {}", self.check, self.found)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

/// The whole report, as JSON writes it.
#[derive(Debug, Serialize)]
struct Findings {
    schema: &'static str,
    ok: bool,
    checks: Vec<Check>,
}

/// Runs it; gives the exit code.
///
/// # Errors
/// When the report cannot be written.
pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut checks = kernel::checks();
    checks.extend(permission::checks());
    checks.extend(interface::checks(arguments.interface.as_deref()));
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    let text = if arguments.json {
        let findings = Findings {
            schema: "insession.doctor/1",
            ok,
            checks,
        };
        let line = serde_json::to_string(&findings)
            .map_err(|error| Failure::failed(format!("the report: {error}; report it")))?;
        line + "\n"
    } else {
        checks.iter().map(|check| format!("{check}\n")).collect()
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(
            format!("standard output: {error}; write to somewhere else"),
        )),
        _ if ok => Ok(exit::OK),
        _ => Ok(exit::FAILED),
    }
}

/// A file of the kernel's, without the white space around; empty where there is none.
fn kernel_file(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_why_and_the_mend() {
        assert_eq!(
            Check::ok("kernel", "Linux 6.18").to_string(),
            "ok    kernel: Linux 6.18"
        );
        let check = Check::fail("CAP_BPF", "not effective", "run as root");
        assert_eq!(
            check.to_string(),
            "FAIL  CAP_BPF: not effective; run as root"
        );
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(
            json,
            r#"{"check":"CAP_BPF","status":"fail","found":"not effective","mend":"run as root"}"#
        );
    }
}
