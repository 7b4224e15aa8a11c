//! What cannot be installed: rights and kernel features, each with the release
//! that brought it.

use std::fs;
use std::io;

use super::{Need, State};

/// Root, a kernel that is new enough, BPF and AF_XDP that are permitted.
pub fn needs() -> Vec<Need> {
    let mut needs = vec![root(), release()];
    // The probes below only tell something when nothing else forbids them.
    if needs
        .iter()
        .all(|need| matches!(need.state, State::Present(_)))
    {
        needs.push(bpf());
        needs.push(af_xdp());
        needs.push(namespaces());
    }
    needs
}

fn root() -> Need {
    // SAFETY: geteuid takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    Need {
        name: "root".to_owned(),
        why: "namespaces, XDP and raw sockets",
        state: if uid == 0 {
            State::Present("uid 0".to_owned())
        } else {
            State::Impossible(format!(
                "running as uid {uid}, not root; run it as root (`sudo -E cargo xtask …`)"
            ))
        },
    }
}

/// `bpf_xdp_load_bytes`, by which the XDP program reads packets without
/// CAP_PERFMON: the newest feature that everything else rests on. (XDP programs
/// attached by bpf_link, which the kernel detaches when the process dies, are
/// older: 5.9.)
const OLDEST: (u32, u32) = (5, 18);

fn release() -> Need {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let text = text.trim();
    Need {
        name: "kernel".to_owned(),
        why: "bpf_xdp_load_bytes, since Linux 5.18",
        state: match version(text) {
            Some(found) if found >= OLDEST => State::Present(text.to_owned()),
            Some(_) => State::Impossible(format!(
                "this is Linux {text}; the helper bpf_xdp_load_bytes exists since Linux {}.{}, boot a newer kernel",
                OLDEST.0, OLDEST.1
            )),
            None => State::Impossible(format!("cannot read the release from {text:?}")),
        },
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn bpf() -> Need {
    /// The head of `union bpf_attr` for BPF_MAP_CREATE (linux/bpf.h).
    #[repr(C)]
    struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_XSKMAP: u32 = 17;
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    };
    // SAFETY: the attributes are a live, initialised struct of the size given;
    // the kernel only reads it and returns a new descriptor or -1.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            &raw const attributes,
            size_of::<MapCreate>(),
        )
    };
    let state = opened(descriptor, |error| match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no bpf(2): CONFIG_BPF_SYSCALL is off; boot another kernel".to_owned()
        }
        Some(libc::EPERM) => {
            "not permitted: CAP_BPF and CAP_NET_ADMIN are needed (containers: --cap-add), \
                              or an LSM or seccomp filter forbids bpf(2)"
                .to_owned()
        }
        Some(libc::EINVAL) => {
            "this kernel has no XSKMAP: CONFIG_XDP_SOCKETS is off (exists since Linux 4.18)"
                .to_owned()
        }
        _ => format!("bpf(2) refuses a map: {error}"),
    });
    Need {
        name: "bpf".to_owned(),
        why: "loads the XDP program",
        state,
    }
}

fn af_xdp() -> Need {
    // SAFETY: socket(2) takes three integers and returns a descriptor or -1.
    let descriptor = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let state = opened(descriptor.into(), |error| {
        match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => {
            "this kernel has no AF_XDP: CONFIG_XDP_SOCKETS is off (exists since Linux 4.18); boot another kernel".to_owned()
        }
        Some(libc::EPERM) => "not permitted: CAP_NET_RAW is needed".to_owned(),
        _ => format!("socket(AF_XDP): {error}"),
    }
    });
    Need {
        name: "af_xdp".to_owned(),
        why: "frames to and from user space",
        state,
    }
}

fn namespaces() -> Need {
    let there = fs::exists("/proc/self/ns/net").unwrap_or(false);
    Need {
        name: "namespaces".to_owned(),
        why: "every test network lives in its own",
        state: if there {
            State::Present("CONFIG_NET_NS".to_owned())
        } else {
            State::Impossible("this kernel has no network namespaces (CONFIG_NET_NS)".to_owned())
        },
    }
}

/// Closes the descriptor of a successful probe, or explains the failure.
fn opened(descriptor: libc::c_long, explain: impl Fn(&io::Error) -> String) -> State {
    if descriptor < 0 {
        return State::Impossible(explain(&io::Error::last_os_error()));
    }
    if let Ok(descriptor) = libc::c_int::try_from(descriptor) {
        // SAFETY: the descriptor was just returned to us and is used nowhere else.
        unsafe { libc::close(descriptor) };
    }
    State::Present("permitted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version(""), None);
    }
}
