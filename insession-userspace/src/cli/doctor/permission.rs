//! What this process may do: capabilities, locked memory, BPF for all.

use super::{Check, kernel_file};

/// Needed capabilities: name, bit (linux/capability.h), what for.
const NEEDED: &[(&str, u32, &str)] = &[
    ("CAP_NET_RAW", 13, "AF_XDP and AF_PACKET sockets"),
    ("CAP_NET_ADMIN", 12, "attaching the XDP program"),
    ("CAP_BPF", 39, "loading the XDP program"),
];
/// CAP_SYS_ADMIN stands in for CAP_BPF and CAP_NET_ADMIN with BPF.
const SYS_ADMIN: u32 = 21;
/// CAP_IPC_LOCK: locked memory is not counted.
const IPC_LOCK: u32 = 14;
/// Frames of the links that a run opens by default, with room for more queues.
const ENOUGH_LOCKED: u64 = 64 << 20;

/// All checks of permissions.
pub(super) fn checks() -> Vec<Check> {
    let status = kernel_file("/proc/thread-self/status");
    let mut checks = of_capabilities(&status);
    checks.extend(of_confinement(&status, &kernel_file("/proc/self/uid_map")));
    checks.push(of_memlock(&status, &kernel_file("/proc/self/limits")));
    checks.push(of_unprivileged(&kernel_file(
        "/proc/sys/kernel/unprivileged_bpf_disabled",
    )));
    checks
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

fn mask(status: &str, name: &str) -> u64 {
    field(status, name)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0)
}

fn of_capabilities(status: &str) -> Vec<Check> {
    let (effective, bounding) = (mask(status, "CapEff"), mask(status, "CapBnd"));
    let has = |mask: u64, bit: u32| mask >> bit & 1 == 1;
    let check = |&(name, bit, what): &(&str, u32, &str)| {
        // NET_RAW is asked for by the socket layer, which knows no stand-in.
        let stands_in = bit != 13;
        if has(effective, bit) {
            Check::ok(name, format!("effective ({what})"))
        } else if stands_in && has(effective, SYS_ADMIN) {
            Check::ok(name, format!("CAP_SYS_ADMIN stands in for it ({what})"))
        } else if has(bounding, bit) {
            Check::fail(
                name,
                format!("not effective ({what})"),
                "run as root, or `setcap cap_net_raw,cap_net_admin,cap_bpf+ep` the binary",
            )
        } else {
            Check::fail(
                name,
                format!("not effective and outside the bounding set ({what})"),
                "the container or service must be given it (--cap-add, CapabilityBoundingSet=)",
            )
        }
    };
    NEEDED.iter().map(check).collect()
}

fn of_confinement(status: &str, uid_map: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let map: Vec<&str> = uid_map.split_whitespace().collect();
    // The initial user namespace maps all to itself.
    if !map.is_empty() && map != ["0", "0", "4294967295"] {
        checks.push(Check::warn(
            "user namespace",
            "capabilities count inside it only, and BPF asks for those outside",
            "run in the initial user namespace, or use --link packet",
        ));
    }
    // SECCOMP_MODE_FILTER.
    if field(status, "Seccomp") == Some("2") {
        checks.push(Check::warn(
            "seccomp",
            "a filter is in force",
            "where bpf(2) fails in spite of the capabilities, permit it in the filter",
        ));
    }
    checks
}

fn of_memlock(status: &str, limits: &str) -> Check {
    const WHAT: &str = "locked memory (RLIMIT_MEMLOCK)";
    const MEND: &str = "raise it (`ulimit -l`, LimitMEMLOCK=), or add CAP_IPC_LOCK";
    if mask(status, "CapEff") >> IPC_LOCK & 1 == 1 {
        return Check::ok(WHAT, "not counted (CAP_IPC_LOCK)");
    }
    let soft = limits.lines().find_map(|line| {
        let rest = line.strip_prefix("Max locked memory")?;
        rest.split_whitespace().next()
    });
    match soft {
        Some("unlimited") => Check::ok(WHAT, "unlimited"),
        Some(octets) => match octets.parse::<u64>() {
            Ok(octets) if octets >= ENOUGH_LOCKED => Check::ok(WHAT, format!("{octets} octets")),
            // The kernel says ENOBUFS then, which hides the reason.
            _ => Check::warn(
                WHAT,
                format!("{octets} octets: frames of several queues may not fit"),
                MEND,
            ),
        },
        None => Check::warn(WHAT, "the limit is not told here", MEND),
    }
}

fn of_unprivileged(disabled: &str) -> Check {
    const WHAT: &str = "BPF without capabilities (unprivileged_bpf_disabled)";
    // XDP programs need capabilities whatever it says: told, not judged.
    let found = match disabled {
        "0" => "permitted for some kinds of programs, XDP is not among them",
        "1" => "forbidden until reboot; capabilities are needed anyway",
        "2" => "forbidden; capabilities are needed anyway",
        _ => "not told here; capabilities are needed anyway",
    };
    Check::ok(WHAT, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    fn status(effective: u64, bounding: u64) -> String {
        format!(
            "Name:\tinsession\nCapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\nSeccomp:\t0\n"
        )
    }

    #[test]
    fn capabilities_are_effective_absent_or_out_of_reach() {
        let all = 1 << 12 | 1 << 13 | 1 << 39;
        let judge = |effective, bounding| {
            let checks = of_capabilities(&status(effective, bounding));
            checks.iter().map(|it| it.status).collect::<Vec<_>>()
        };
        use Status::{Fail, Ok};
        assert_eq!(judge(all, all), [Ok, Ok, Ok]);
        assert_eq!(judge(1 << 13, all), [Ok, Fail, Fail]);
        assert_eq!(judge(1 << SYS_ADMIN, all), [Fail, Ok, Ok]);
        assert_eq!(judge(0, 0), [Fail, Fail, Fail]);
        let checks = of_capabilities(&status(0, 0));
        assert!(checks[0].mend.as_ref().unwrap().contains("--cap-add"));
    }

    #[test]
    fn confinement_is_told() {
        let initial = "         0          0 4294967295";
        assert_eq!(of_confinement(&status(0, 0), initial), []);
        let filtered = "Seccomp:\t2\n";
        assert_eq!(of_confinement(filtered, "0 100000 65536").len(), 2);
    }

    #[test]
    fn memlock_is_judged_by_the_soft_limit() {
        let judge = |effective, limit: &str| {
            let limits = format!("Max locked memory         {limit}   unlimited   bytes\n");
            of_memlock(&status(effective, 0), &limits).status
        };
        assert_eq!(judge(0, "8388608"), Status::Warn);
        assert_eq!(judge(0, "67108864"), Status::Ok);
        assert_eq!(judge(0, "unlimited"), Status::Ok);
        assert_eq!(judge(1 << IPC_LOCK, "0"), Status::Ok);
        assert_eq!(of_memlock(&status(0, 0), "").status, Status::Warn);
    }
}
