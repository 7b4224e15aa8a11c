//! What the kernel can do, by its version and by what it has registered.

use super::{Check, kernel_file};
use crate::link::kernel::version;

/// What is needed or used, and the kernel it came with.
const FEATURES: &[(&str, (u32, u32), bool)] = &[
    ("AF_XDP", (4, 18), true),
    ("need_wakeup (one kick a batch)", (5, 4), true),
    (
        "bpf_link for XDP (detached when the process dies)",
        (5, 9),
        true,
    ),
    (
        "busy polling preferred (SO_PREFER_BUSY_POLL)",
        (5, 11),
        false,
    ),
    (
        "bpf_xdp_load_bytes (how the XDP program reads)",
        (5, 18),
        true,
    ),
];

/// All checks of the kernel.
pub(super) fn checks() -> Vec<Check> {
    let release = kernel_file("/proc/sys/kernel/osrelease");
    let mut checks = of_release(&release);
    checks.extend(of_protocols(&kernel_file(
        "/proc/thread-self/net/protocols",
    )));
    checks.push(of_jit(&kernel_file("/proc/sys/net/core/bpf_jit_enable")));
    checks
}

fn of_release(release: &str) -> Vec<Check> {
    let Some(version) = version(release) else {
        return vec![Check::warn(
            "kernel",
            format!("release {release:?} is not understood"),
            "compare the features in the manual by hand",
        )];
    };
    let mut checks = vec![Check::ok("kernel", format!("Linux {release}"))];
    for &(feature, (major, minor), needed) in FEATURES {
        checks.push(if version >= (major, minor) {
            Check::ok(feature, format!("since Linux {major}.{minor}"))
        } else if needed {
            Check::fail(
                feature,
                format!("came with Linux {major}.{minor}"),
                "upgrade the kernel, or use --link packet",
            )
        } else {
            Check::warn(
                feature,
                format!("came with Linux {major}.{minor}"),
                "tracing goes without it",
            )
        });
    }
    checks
}

/// Socket families register their protocol (net/core/sock.c `proto_register`).
fn of_protocols(protocols: &str) -> Vec<Check> {
    let has = |name: &str| {
        let mut names = protocols.lines().map(|line| line.split_whitespace().next());
        names.any(|it| it == Some(name))
    };
    let family = |check: &str, name: &str, mend: &str| {
        if has(name) {
            Check::ok(check, "built in or loaded")
        } else {
            Check::fail(check, "the running kernel has none", mend)
        }
    };
    vec![
        family(
            "AF_XDP sockets",
            "XDP",
            "use a kernel with CONFIG_XDP_SOCKETS, or --link packet",
        ),
        family("AF_PACKET sockets", "PACKET", "`modprobe af_packet`"),
    ]
}

fn of_jit(enabled: &str) -> Check {
    const WHAT: &str = "BPF compiler (bpf_jit_enable)";
    match enabled {
        "1" | "2" => Check::ok(WHAT, "on"),
        "0" => Check::warn(
            WHAT,
            "off: the XDP program is interpreted",
            "`sysctl net.core.bpf_jit_enable=1`",
        ),
        // CONFIG_BPF_JIT_ALWAYS_ON kernels and namespaces may hide the file.
        _ => Check::ok(WHAT, "not told here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn features_follow_the_version() {
        let failed = |release: &str| {
            let checks = of_release(release);
            let failed = checks.iter().filter(|check| check.status == Status::Fail);
            failed.count()
        };
        assert_eq!(failed("6.18.44-cloud-amd64"), 0);
        assert_eq!(failed("5.18.0"), 0);
        assert_eq!(failed("5.17.9-generic"), 1);
        assert_eq!(failed("5.4.0"), 2);
        assert_eq!(failed("4.9"), 4);
        assert_eq!(of_release("what")[0].status, Status::Warn);
    }

    #[test]
    fn families_are_found_by_their_protocol() {
        let table = "protocol  size sockets\nXDP       1088      0\nTCP       2432      5\n";
        let status: Vec<Status> = of_protocols(table).iter().map(|it| it.status).collect();
        assert_eq!(status, [Status::Ok, Status::Fail]);
    }

    #[test]
    fn an_interpreter_is_a_warning() {
        assert_eq!(of_jit("1").status, Status::Ok);
        assert_eq!(of_jit("0").status, Status::Warn);
        assert_eq!(of_jit("").status, Status::Ok);
    }
}
