//! Debian packages: named by what they bring, so that another flavour of the
//! same thing (nginx-full, say) is as good.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Need, State};
use crate::command;

/// A package: what it brings (a program on the path, a file, a module of Python's), and why.
pub struct Package {
    name: &'static str,
    brings: Brings,
    why: &'static str,
}

enum Brings {
    Program(&'static str),
    File(&'static str),
    Module(&'static str),
}

use Brings::{File, Module, Program};

/// What building and testing need.
pub const PACKAGES: &[Package] = &[
    Package {
        name: "gcc",
        brings: Program("cc"),
        why: "links Rust programs, compiles libbpf",
    },
    Package {
        name: "make",
        brings: Program("make"),
        why: "builds libbpf",
    },
    Package {
        name: "pkg-config",
        brings: Program("pkg-config"),
        why: "finds libelf and zlib for libbpf",
    },
    Package {
        name: "libelf-dev",
        brings: File("/usr/include/libelf.h"),
        why: "libbpf reads ELF objects",
    },
    Package {
        name: "zlib1g-dev",
        brings: File("/usr/include/zlib.h"),
        why: "libbpf reads compressed sections",
    },
    Package {
        name: "iproute2",
        brings: Program("ip"),
        why: "network namespaces of lab and tests",
    },
    Package {
        name: "ethtool",
        brings: Program("ethtool"),
        why: "offloads of the lab's interfaces",
    },
    Package {
        name: "nftables",
        brings: Program("nft"),
        why: "firewalls and NAT of the lab",
    },
    Package {
        name: "nginx-light",
        brings: Program("nginx"),
        why: "the lab's web server",
    },
    Package {
        name: "openssh-server",
        brings: Program("sshd"),
        why: "the lab's server that speaks first",
    },
    Package {
        name: "tshark",
        brings: Program("tshark"),
        why: "judges captures of the end-to-end tests",
    },
    Package {
        name: "scamper",
        brings: Program("scamper"),
        why: "peer, and another pair of eyes in tests",
    },
    Package {
        name: "traceroute",
        brings: Program("traceroute"),
        why: "peer, and what our probes are compared with",
    },
    Package {
        name: "python3-venv",
        brings: Module("ensurepip"),
        why: "a place for others' readers of our files",
    },
    Package {
        name: "npm",
        brings: Program("npm"),
        why: "brings the library that draws graphs",
    },
];

/// What `cargo xtask vm` needs besides, and nothing else does.
pub const VM: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        brings: Program("qemu-system-x86_64"),
        why: "emulates NICs whose drivers have zero-copy",
    },
    Package {
        name: "busybox-static",
        brings: Program("busybox"),
        why: "shell and tools inside the virtual machine",
    },
    Package {
        name: "cpio",
        brings: Program("cpio"),
        why: "packs the virtual machine's files",
    },
    Package {
        name: "binutils",
        brings: Program("strip"),
        why: "makes the files small",
    },
    Package {
        name: "xz-utils",
        brings: Program("xz"),
        why: "kernel modules are compressed",
    },
];

/// What only `cargo xtask bench` needs: the peers, and what counts instructions.
pub const BENCH: &[Package] = &[
    Package {
        name: "masscan",
        brings: Program("masscan"),
        why: "peer: stateless scanner",
    },
    Package {
        name: "zmap",
        brings: Program("zmap"),
        why: "peer: stateless scanner",
    },
    Package {
        name: "valgrind",
        brings: Program("valgrind"),
        why: "counts instructions",
    },
];

/// What only `cargo xtask page-check` needs: it is large.
pub const PAGES: &[Package] = &[Package {
    name: "chromium",
    brings: Program("chromium"),
    why: "draws the page of `insession graph`",
}];

impl Package {
    fn found(&self) -> Option<String> {
        match self.brings {
            File(path) => Path::new(path).exists().then(|| path.to_owned()),
            // Not only the path: /usr/sbin is not on every user's.
            Program(name) => std::env::var("PATH")
                .unwrap_or_default()
                .split(':')
                .chain(["/usr/sbin", "/sbin"])
                .map(|folder| Path::new(folder).join(name))
                .find(|path| path.is_file())
                .map(|path| path.display().to_string()),
            Module(name) => {
                let import = format!("import {name}; print({name}.__file__)");
                let place = command::output("python3", &["-c", &import])?;
                Some(place.trim().to_owned())
            }
        }
    }
}

/// What is there and what is not.
pub fn needs() -> Vec<Need> {
    PACKAGES
        .iter()
        .map(|package| Need {
            name: package.name.to_owned(),
            why: package.why,
            state: match package.found() {
                Some(place) => State::Present(place),
                None => State::Missing(format!("apt-get install {}", package.name)),
            },
        })
        .collect()
}

/// Installs the missing ones.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| package.found().is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if command::output("apt-get", &["--version"]).is_none() {
        let names: Vec<_> = missing.iter().map(|package| package.name).collect();
        bail!(
            "{}: missing, and this system has no apt-get; install what brings them by your own package manager",
            names.join(", ")
        );
    }
    for package in &missing {
        eprintln!("installing {}: {}", package.name, package.why);
    }
    let _quiet = NoServiceStart::new()?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        apt
    };
    command::run(apt().arg("update"))?;
    command::run(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(missing.iter().map(|package| package.name)),
    )?;
    if let Some(package) = packages.iter().find(|package| package.found().is_none()) {
        bail!(
            "{}: apt-get installed it, but what it should bring is not there",
            package.name
        );
    }
    Ok(())
}

/// Keeps freshly installed servers from being started on this host: the lab
/// runs its own, in namespaces. (policy-rc.d is Debian's way, invoke-rc.d(8).)
struct NoServiceStart {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServiceStart {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(NoServiceStart { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("{POLICY}: cannot be written"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("{POLICY}: cannot be made executable"))?;
        Ok(NoServiceStart { ours: true })
    }
}

impl Drop for NoServiceStart {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!(
                "warning: {POLICY}: {error}; remove it by hand, or no service will start after an install"
            );
        }
    }
}
