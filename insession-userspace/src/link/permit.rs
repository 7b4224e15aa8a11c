//! Which gate is closed, when the kernel says EPERM.
//!
//! EPERM from bpf(2) or socket(2) may come from a missing capability, a user
//! namespace, a seccomp filter or a security module. The errno does not tell;
//! what the process is permitted does.

use crate::link::LinkError;

/// A capability (linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    name: &'static str,
    bit: u32,
}

pub(crate) const NET_ADMIN: Capability = Capability {
    name: "CAP_NET_ADMIN",
    bit: 12,
};
pub(crate) const NET_RAW: Capability = Capability {
    name: "CAP_NET_RAW",
    bit: 13,
};
pub(crate) const BPF: Capability = Capability {
    name: "CAP_BPF",
    bit: 39,
};

/// CAP_SYS_ADMIN stands in for CAP_BPF, and for CAP_NET_ADMIN where BPF asks for
/// it (`bpf_token_capable`, linux/bpf.h; before 5.8 it was the only one).
const SYS_ADMIN: u32 = 21;

/// What the process is permitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Permissions {
    effective: u64,
    seccomp_filter: bool,
    user_namespace: bool,
    security_modules: String,
}

impl Permissions {
    fn read() -> Self {
        let file = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(
            &file("/proc/thread-self/status"),
            &file("/proc/self/uid_map"),
            &file("/sys/kernel/security/lsm"),
        )
    }

    fn parse(status: &str, uid_map: &str, modules: &str) -> Self {
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let map: Vec<&str> = uid_map.split_whitespace().collect();
        Permissions {
            effective: field("CapEff")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .unwrap_or(0),
            // SECCOMP_MODE_FILTER.
            seccomp_filter: field("Seccomp") == Some("2"),
            // The initial user namespace maps all to itself.
            user_namespace: !map.is_empty() && map != ["0", "0", "4294967295"],
            security_modules: modules.trim().to_owned(),
        }
    }

    fn has(&self, capability: Capability) -> bool {
        let held = |bit: u32| self.effective >> bit & 1 == 1;
        held(capability.bit) || (capability != NET_RAW && held(SYS_ADMIN))
    }

    /// Reason and mend.
    fn explain(&self, needed: &[Capability]) -> (String, String) {
        let missing: Vec<&str> = needed
            .iter()
            .filter(|&&capability| !self.has(capability))
            .map(|capability| capability.name)
            .collect();
        if !missing.is_empty() {
            let verb = if missing.len() == 1 { "is" } else { "are" };
            return (
                format!(
                    "{} {verb} missing from the effective capabilities",
                    missing.join(" and ")
                ),
                "run as root, or give the binary `setcap cap_net_raw,cap_net_admin,cap_bpf+ep`"
                    .into(),
            );
        }
        if self.user_namespace {
            return (
                "the capabilities are those of a user namespace, which count for nothing here"
                    .into(),
                "run in the initial user namespace (a privileged container, or the host)".into(),
            );
        }
        if self.seccomp_filter {
            return (
                "the capabilities are there, but a seccomp filter is in force".into(),
                "permit bpf(2) and AF_XDP sockets in the filter (container runtimes: its seccomp profile)"
                    .into(),
            );
        }
        let modules = if self.security_modules.is_empty() {
            String::new()
        } else {
            format!(" (active: {})", self.security_modules)
        };
        (
            format!(
                "the capabilities are there and no seccomp filter is: a security module denies it{modules}"
            ),
            "look for the denial in the audit log".into(),
        )
    }
}

/// Asks before anything is tried: the kernel's own refusals come late, and
/// first from whatever happens to be tried first.
///
/// # Errors
/// [`LinkError::NotPermitted`] that names what is missing.
pub(crate) fn require(what: &str, needed: &[Capability]) -> Result<(), LinkError> {
    let permissions = Permissions::read();
    if needed.iter().all(|&capability| permissions.has(capability)) {
        return Ok(());
    }
    let (reason, mend) = permissions.explain(needed);
    Err(LinkError::NotPermitted {
        what: what.to_owned(),
        reason,
        mend,
    })
}

/// The error for EPERM or EACCES on something that needs these capabilities.
pub(super) fn not_permitted(what: String, needed: &[Capability]) -> LinkError {
    let (reason, mend) = Permissions::read().explain(needed);
    LinkError::NotPermitted { what, reason, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nCapEff:\t0000000000003000\nSeccomp:\t0\nSeccomp_filters:\t0\n";
    const INITIAL: &str = "         0          0 4294967295\n";

    #[test]
    fn the_missing_capability_is_named() {
        let (reason, mend) = Permissions::parse(STATUS, INITIAL, "").explain(&[BPF, NET_ADMIN]);
        assert_eq!(reason, "CAP_BPF is missing from the effective capabilities");
        assert!(mend.contains("cap_bpf"));
        let none = STATUS.replace("3000", "0000");
        let (reason, _) = Permissions::parse(&none, INITIAL, "").explain(&[BPF, NET_ADMIN]);
        assert!(reason.starts_with("CAP_BPF and CAP_NET_ADMIN are missing"));
    }

    #[test]
    fn administrator_stands_in_but_not_for_raw_sockets() {
        let admin = STATUS.replace("0000000000003000", "0000000000200000");
        let admin = Permissions::parse(&admin, INITIAL, "");
        assert!(admin.has(BPF) && admin.has(NET_ADMIN) && !admin.has(NET_RAW));
    }

    #[test]
    fn other_gates_are_told_apart() {
        let explain = |status: &str, map: &str, modules: &str| {
            Permissions::parse(status, map, modules)
                .explain(&[NET_RAW])
                .0
        };
        assert!(explain(STATUS, "0 1000 1", "").contains("user namespace"));
        let filtered = STATUS.replace("Seccomp:\t0", "Seccomp:\t2");
        assert!(explain(&filtered, INITIAL, "").contains("seccomp filter is in force"));
        assert!(explain(STATUS, INITIAL, "lockdown,bpf\n").contains("(active: lockdown,bpf)"));
    }

    #[test]
    fn this_process_can_be_read() {
        assert_ne!(Permissions::read(), Permissions::default());
    }
}
