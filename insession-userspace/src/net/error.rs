//! Why the kernel's tables could not be read. Every message names the thing,
//! the reason and the mend.

use super::netlink::Refusal;

/// A question to the kernel that got no useful answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}; {mend}")]
pub struct NetError {
    /// What was asked for, by name.
    pub what: String,
    /// Why there is no answer.
    pub reason: String,
    /// What to do.
    pub mend: String,
}

impl NetError {
    /// An error from its three parts.
    pub(crate) fn new(
        what: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        NetError {
            what: what.into(),
            reason: reason.into(),
            mend: mend.into(),
        }
    }

    /// No interface has this name.
    pub(crate) fn no_interface(name: &str) -> Self {
        NetError::new(
            format!("interface {name:?}"),
            "no such interface",
            "`ip link` lists them",
        )
    }

    /// A netlink request that the kernel refused for a reason that has nothing
    /// to do with what was asked for.
    pub(super) fn refused(what: impl Into<String>, refusal: &Refusal) -> Self {
        NetError::new(
            what,
            refusal.to_string(),
            "this is not expected: check that /proc and netlink are not restricted here",
        )
    }
}
