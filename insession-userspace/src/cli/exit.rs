//! How the command ends: exit codes, and the errors that choose them.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::link::LinkError;

/// Every target has its verdict.
pub const OK: u8 = 0;
/// Some target ended in `error`, `no-route` or `interrupted`.
pub const FAILED: u8 = 1;
/// Usage or bad input.
pub const USAGE: u8 = 2;
/// Not permitted.
pub const NOT_PERMITTED: u8 = 3;
/// No usable link or interface.
pub const NO_LINK: u8 = 4;
/// Ended by SIGINT, SIGTERM or SIGHUP.
pub const INTERRUPTED: u8 = 130;

/// The codes in words, for `--help` and the manual page.
pub const HELP: &str = "\
Exit status:
  0    every target traced to a verdict
  1    some target ended in error, no-route or interrupted
  2    usage or bad input
  3    not permitted: CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF are needed
  4    no usable link or interface
  130  interrupted by SIGINT, SIGTERM or SIGHUP";

/// Why the command ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its exit code.
    pub code: u8,
    /// `WHAT: WHY; MEND`.
    pub message: String,
}

impl Failure {
    /// Bad input.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Failure {
            code: USAGE,
            message: message.into(),
        }
    }

    /// Anything that failed while running.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Failure {
            code: FAILED,
            message: message.into(),
        }
    }

    /// Prints the error, gives the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        tell(format_args!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

/// Says it on standard error, if that can be said. `eprintln!` would panic where
/// it cannot: when the terminal has gone, sessions are still to be closed.
pub fn tell(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let code = match &error {
            LinkError::NotPermitted { .. } | LinkError::LockedMemory { .. } => NOT_PERMITTED,
            LinkError::System { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                NOT_PERMITTED
            }
            LinkError::NoInterface(_)
            | LinkError::Unsupported { .. }
            | LinkError::Occupied { .. }
            | LinkError::Down(_)
            | LinkError::Stalled { .. }
            | LinkError::System { .. } => NO_LINK,
            LinkError::FlowTaken | LinkError::Full => FAILED,
        };
        Failure {
            code,
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_errors_have_the_contracts_codes() {
        let text = String::from;
        let gate = |errno| LinkError::System {
            what: text("bpf(BPF_PROG_LOAD)"),
            source: std::io::Error::from_raw_os_error(errno),
        };
        for (error, code) in [
            (
                LinkError::NotPermitted {
                    what: text("AF_XDP socket"),
                    reason: text("CAP_NET_RAW is missing"),
                    mend: text("run as root"),
                },
                3,
            ),
            (gate(libc::EPERM), 3),
            (gate(libc::EACCES), 3),
            (gate(libc::EINVAL), 4),
            (LinkError::NoInterface(text("eth9")), 4),
            (
                LinkError::Unsupported {
                    what: text("XDP on eth0"),
                    reason: text("no native XDP"),
                    mend: text("use --xdp-mode generic"),
                },
                4,
            ),
            (
                LinkError::Occupied {
                    interface: text("eth0"),
                    owner: text("program 7"),
                    mend: text("detach it"),
                },
                4,
            ),
            (LinkError::Down(text("eth0")), 4),
        ] {
            let message = error.to_string();
            assert_eq!(Failure::from(error), Failure { code, message });
        }
    }

    #[test]
    fn help_names_every_code() {
        for code in [OK, FAILED, USAGE, NOT_PERMITTED, NO_LINK, INTERRUPTED] {
            assert!(HELP.contains(&format!("\n  {code:<5}")), "{code}");
        }
    }
}
