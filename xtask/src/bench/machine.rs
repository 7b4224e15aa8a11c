//! What a run was made on: figures without it mean nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use insession::bench::machine::{field, number};
use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it names itself.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cpus: usize,
    /// Threads of one core among them: what one does slows the other down.
    pub threads_a_core: Option<u32>,
    /// Under a hypervisor.
    pub virtual_machine: bool,
    /// Memory, bytes.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Mean load of the last minute when the run began: more than a few tenths
    /// means that others worked at the same time.
    pub load: f64,
    /// What the mitigations of the processor's faults are, as the kernel says:
    /// they make system calls dear.
    pub mitigations: BTreeMap<String, String>,
}

/// Programs by name.
pub type Versions = BTreeMap<String, String>;

/// Looks at it.
pub fn machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key| field(&cpuinfo, key);
    let count = |key| of(key).and_then(|value| value.parse::<u32>().ok());
    Machine {
        cpu: of("model name").unwrap_or_else(|| "unknown".into()),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        threads_a_core: count("siblings")
            .zip(count("cpu cores"))
            .and_then(|(siblings, cores)| siblings.checked_div(cores)),
        virtual_machine: of("flags").is_some_and(|flags| flags.contains("hypervisor")),
        memory: number(&line("/proc/meminfo"), "MemTotal") * 1024,
        kernel: line("/proc/sys/kernel/osrelease"),
        load: line("/proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0.0),
        mitigations: mitigations(),
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(folder) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    folder
        .flatten()
        .filter_map(|entry| {
            let said = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
            let name = entry.file_name().to_string_lossy().into_owned();
            (said != "Not affected").then_some((name, said))
        })
        .collect()
}

/// The first line that a program says about its version; `None` when it is not
/// there.
pub fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // Some say it on standard error, some fail on purpose when asked.
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said)
        .lines()
        .map(str::trim)
        .find(|line| line.chars().any(|letter| letter.is_ascii_digit()))
        .map(str::to_owned)
}
