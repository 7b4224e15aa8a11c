//! What the figures were measured on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

use serde::Serialize;

use super::cpu::Accounting;
use super::ground::Ground;
use crate::net;

/// The machine, its kernel and the interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// `uname -r` and `-v`.
    pub kernel: String,
    /// The processor's name.
    pub cpu_model: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Of memory, MiB.
    pub memory_mib: u64,
    /// Free huge pages of 2 MiB.
    pub huge_pages_free: u64,
    /// The processor says that it is a hypervisor's.
    pub virtual_machine: bool,
    /// The interface.
    pub interface: Option<String>,
    /// The interface's driver.
    pub driver: Option<String>,
    /// The interface's receive queues.
    pub queues: Option<u32>,
    /// The interface is a veth end with the reflector at the other.
    pub reflector: bool,
    /// The link as the kernel reported it when it was first opened: `native copy`.
    pub mode: Option<String>,
    /// How the kernel accounts for processor time.
    pub accounting: Accounting,
    /// Of insession and the compiler's profile.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This one, and the interface of `ground` if there is one.
    #[must_use]
    pub fn read(ground: Option<&Ground>) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let meminfo = text("/proc/meminfo");
        let info = ground.and_then(|ground| net::interface(&ground.interface().name).ok());
        let profile = if cfg!(debug_assertions) {
            "debug (figures of a debug build say little)"
        } else {
            "release"
        };
        Machine {
            kernel: format!(
                "{} {}",
                text("/proc/sys/kernel/osrelease").trim(),
                text("/proc/sys/kernel/version").trim()
            ),
            cpu_model: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: number(&meminfo, "MemTotal") / 1024,
            huge_pages_free: number(&meminfo, "HugePages_Free"),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            interface: ground.map(|ground| ground.interface().name.clone()),
            driver: info.as_ref().and_then(|info| info.driver.clone()),
            queues: info.as_ref().map(|info| info.rx_queues),
            reflector: ground.is_some_and(Ground::has_reflector),
            mode: None,
            accounting: Accounting::read(),
            versions: BTreeMap::from([
                ("insession".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("build".to_owned(), profile.to_owned()),
            ]),
        }
    }
}

/// The running kernel's configuration, where it is kept.
pub(super) fn kernel_config() -> Option<String> {
    if let Ok(file) = fs::File::open("/proc/config.gz") {
        let mut text = String::new();
        let child = std::process::Command::new("gzip")
            .arg("-dc")
            .stdin(file)
            .stderr(std::process::Stdio::null())
            .output();
        if let Ok(output) = child
            && output.status.success()
        {
            output.stdout.as_slice().read_to_string(&mut text).ok()?;
            return Some(text);
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok())
}

/// The value of a line `name: value`, as files of /proc have them.
#[must_use]
pub fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The number that such a value begins with; 0 without one.
#[must_use]
pub fn number(text: &str, name: &str) -> u64 {
    field(text, name)
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model name\t: A: B\nHugePages_Free:      12\nMemTotal:   2048 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(
            [number(text, "MemTotal"), number(text, "HugePages_Free")],
            [2048, 12]
        );
    }

    #[test]
    fn this_machine_is_read() {
        let machine = Machine::read(None);
        assert!(machine.cores >= 1 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert_eq!(machine.interface, None);
    }
}
