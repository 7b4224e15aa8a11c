//! A topology, up and running.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::state::{self, State};
use crate::sys;
use crate::topology::Topology;
use crate::{relay, routes, services};

/// A network that is up. Dropping it takes it down, unless it is kept.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    name: String,
    state: State,
    kept: bool,
}

/// The instance that `cargo xtask lab up` brings up: one a topology.
const KEPT_INSTANCE: &str = "up";

impl Lab {
    /// Brings a topology up, for this process: a new instance.
    ///
    /// # Errors
    /// When anything of it fails; nothing is left then.
    pub fn up(name: &str) -> Result<Self> {
        Lab::build(name, Topology::load(name)?, &state::fresh_instance())
    }

    /// As [`Lab::up`], after a change to the topology.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_with(name: &str, change: impl FnOnce(&mut Topology)) -> Result<Self> {
        let mut topology = Topology::load(name)?;
        change(&mut topology);
        Lab::build(name, topology, &state::fresh_instance())
    }

    /// Brings a topology up to stay; gives the one that is up already.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_kept(name: &str) -> Result<Self> {
        if let Some(lab) = Lab::attach(name)? {
            return Ok(lab);
        }
        let instance = kept_instance(name);
        let mut lab = Lab::build(name, Topology::load(name)?, &instance)?;
        lab.state.keep()?;
        lab.kept = true;
        Ok(lab)
    }

    /// The topology that [`Lab::up_kept`] brought up, if it is.
    ///
    /// # Errors
    /// When there is no such topology.
    pub fn attach(name: &str) -> Result<Option<Self>> {
        let topology = Topology::load(name)?;
        let instance = kept_instance(name);
        let there = state::list()?
            .into_iter()
            .any(|found| found.kept && found.instance == instance);
        Ok(there.then(|| Lab {
            topology,
            name: name.to_owned(),
            state: State::open(&instance),
            kept: true,
        }))
    }

    fn build(name: &str, topology: Topology, instance: &str) -> Result<Self> {
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            bail!("lab {name}: network namespaces need root; run it as root");
        }
        state::sweep()?;
        let state = State::create(name, instance)?;
        let lab = Lab {
            topology,
            name: name.to_owned(),
            state,
            kept: false,
        };
        // From here on dropping `lab` cleans up.
        lab.make().with_context(|| format!("lab {name}"))?;
        Ok(lab)
    }

    /// Takes it down; says what could not be.
    ///
    /// # Errors
    /// When something is left.
    pub fn down(mut self) -> Result<()> {
        self.kept = true;
        self.state.remove(&self.name)
    }

    /// What it is made of.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The topology's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for files of this instance; goes away with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.folder()
    }

    /// The name of a node's namespace.
    #[must_use]
    pub fn namespace(&self, node: &str) -> String {
        state::namespace(&self.name, self.state.instance(), node)
    }

    fn path(&self, node: &str) -> PathBuf {
        state::namespace_path(&self.namespace(node))
    }

    /// A program to be run at a node, with the node's own /sys.
    #[must_use]
    pub fn command(&self, node: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(node)])
            .arg(program);
        command
    }

    /// Runs `work` on a thread at the node.
    ///
    /// # Errors
    /// When the node's namespace cannot be entered.
    pub fn within<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        sys::in_namespace(&self.path(node), work)
    }

    /// Runs a program at a node to its end and returns what it printed.
    ///
    /// # Errors
    /// When it fails: with what it printed.
    pub fn run(
        &self,
        node: &str,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let output = self
            .within(node, || feed(&mut quiet(program, arguments), input))?
            .with_context(|| format!("{program} at {node}: cannot be started"))?;
        if !output.status.success() {
            bail!(
                "{program} {} at {node}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// How many TCP sockets the node's kernel holds, listeners not counted.
    ///
    /// # Errors
    /// When the kernel's table cannot be read.
    pub fn tcp_sockets(&self, node: &str) -> Result<usize> {
        self.within(node, tcp_sockets)?
    }

    fn make(&self) -> Result<()> {
        let mut namespaces = String::new();
        let mut links = String::new();
        let mut index = 100;
        for node in self.topology.nodes.keys() {
            namespaces.push_str(&format!("netns add {}\n", self.namespace(node)));
        }
        for link in &self.topology.links {
            let [a, b] = link.ends();
            let (first, second) = (self.namespace(a.node), self.namespace(b.node));
            if !link.relayed() {
                links.push_str(&veth(
                    [&first, a.interface],
                    [&second, b.interface],
                    &mut index,
                ));
            } else {
                let wire = self.namespace(&wire(link.net));
                namespaces.push_str(&format!("netns add {wire}\n"));
                links.push_str(&veth([&first, a.interface], [&wire, "first"], &mut index));
                links.push_str(&veth([&second, b.interface], [&wire, "second"], &mut index));
            }
        }
        batch(&namespaces)?;
        for (node, found) in &self.topology.nodes {
            let settings = settings(found);
            self.within(node, || write_settings(&settings))?
                .with_context(|| format!("node {node}"))?;
        }
        for link in self.topology.links.iter().filter(|link| link.relayed()) {
            let settings = BTreeMap::from([(
                "net.ipv6.conf.default.disable_ipv6".to_owned(),
                "1".to_owned(),
            )]);
            self.within(&wire(link.net), || write_settings(&settings))??;
        }
        batch(&links)?;
        for (node, found) in &self.topology.nodes {
            // Now, since they may name interfaces.
            self.within(node, || write_settings(&found.sysctls))?
                .with_context(|| format!("node {node}"))?;
            self.run(node, "ip", &["-batch", "-"], &self.addresses(node))?;
        }
        for link in self.topology.links.iter().filter(|link| link.relayed()) {
            let wire = wire(link.net);
            self.run(
                &wire,
                "ip",
                &["-batch", "-"],
                "link set dev first up\nlink set dev second up\n",
            )?;
            relay::start(
                &self.path(&wire),
                "first",
                "second",
                &link.tags,
                link.delay_ms,
            )?;
        }
        // Every end is up; what the kernel does about it (queues, operational
        // state, IPv6) is done once it says so.
        for node in self.topology.nodes.keys() {
            let interfaces: Vec<_> = self
                .topology
                .ends_of(node)
                .map(|end| end.interface)
                .collect();
            self.within(node, || {
                interfaces.iter().try_for_each(|name| sys::running(name))
            })?
            .with_context(|| format!("node {node}"))?;
        }
        let mut computed = routes::compute(&self.topology);
        for (node, found) in &self.topology.nodes {
            let mut lines = computed.remove(node.as_str()).unwrap_or_default();
            lines.extend(
                found
                    .addresses
                    .iter()
                    .map(|prefix| format!("local {prefix} dev lo")),
            );
            lines.extend(found.routes.iter().cloned());
            let text: String = lines
                .iter()
                .map(|line| format!("route add {line}\n"))
                .collect();
            self.run(node, "ip", &["-batch", "-"], &text)?;
            let rules: String = found
                .rules
                .iter()
                .map(|line| format!("rule add {line}\n"))
                .collect();
            if !rules.is_empty() {
                self.run(node, "ip", &["-4", "-batch", "-"], &rules)?;
                self.run(node, "ip", &["-6", "-batch", "-"], &rules)?;
            }
            if !self.topology.offload {
                self.without_offload(node)?;
            }
            if let Some(ruleset) = ruleset(found) {
                self.run(node, "nft", &["-f", "-"], &ruleset)?;
            }
        }
        for (node, found) in &self.topology.nodes {
            for service in &found.services {
                services::start(self, node, service)?;
            }
        }
        Ok(())
    }

    fn addresses(&self, node: &str) -> String {
        let mut text = "link set lo up\n".to_owned();
        for end in self.topology.ends_of(node) {
            let interface = end.interface;
            let host = end.v4.octets()[3];
            text.push_str(&format!(
                "addr add {}/24 dev {interface}\naddr add {}/64 dev {interface} nodad\n\
                 addr add fe80::{host}/64 dev {interface} nodad\nlink set dev {interface} up\n",
                end.v4, end.v6
            ));
        }
        text
    }

    fn without_offload(&self, node: &str) -> Result<()> {
        for end in self.topology.ends_of(node) {
            let arguments = [
                "-K",
                end.interface,
                "tx",
                "off",
                "tso",
                "off",
                "gso",
                "off",
                "gro",
                "off",
            ];
            self.run(node, "ethtool", &arguments, "")?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.state.remove(&self.name)
        {
            eprintln!("warning: lab {}: {error:#}", self.name);
        }
    }
}

fn kept_instance(name: &str) -> String {
    // The folder is the instance's: one a topology.
    format!("{KEPT_INSTANCE}-{name}")
}

fn wire(net: u16) -> String {
    format!("wire{net}")
}

/// Two ends of a link. Their numbers differ, or the kernel takes its time: a
/// carrier that appears where `ifindex == iflink` is no urgent event to it and
/// may wait a second (linkwatch_urgent_event in net/core/link_watch.c).
fn veth(first: [&str; 2], second: [&str; 2], index: &mut u32) -> String {
    let [one, other] = [*index, *index + 1];
    *index += 2;
    format!(
        "link add name {} index {one} netns {} type veth peer name {} index {other} netns {}\n",
        first[1], first[0], second[1], second[0]
    )
}

/// What a node's kernel is told: everybody's and its role's.
fn settings(node: &crate::topology::Node) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |pairs: &[(&str, &str)]| {
        for (key, value) in pairs {
            settings.insert((*key).to_owned(), (*value).to_owned());
        }
    };
    set(&[
        // The way back need not be the way there.
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        // Addresses are ready when they are there.
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.default.dad_transmits", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
        // Link-local ones are given, not made once the carrier is seen.
        ("net.ipv6.conf.default.addr_gen_mode", "1"),
        // By ports too, as routers of providers do.
        ("net.ipv4.fib_multipath_hash_policy", "1"),
        ("net.ipv6.fib_multipath_hash_policy", "1"),
        // Thousands of sessions at once are not an attack here.
        ("net.core.somaxconn", "16384"),
        ("net.ipv4.tcp_max_syn_backlog", "16384"),
    ]);
    if node.router {
        set(&[
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.default.send_redirects", "0"),
        ]);
    }
    // Every node answers every probe. The global limit is a namespace's own
    // since Linux 6.12; before that it is the host's, and left alone.
    set(&[
        ("net.ipv4.icmp_ratelimit", "0"),
        ("net.ipv6.icmp.ratelimit", "0"),
        ("?net.ipv4.icmp_msgs_per_sec", "1000000"),
        ("?net.ipv4.icmp_msgs_burst", "1000000"),
    ]);
    settings
}

/// Writes settings into the calling thread's namespace. `?` before a name: only
/// where the namespace has it.
fn write_settings(settings: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in settings {
        let (optional, key) = match key.strip_prefix('?') {
            Some(key) => (true, key),
            None => (false, key.as_str()),
        };
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        match fs::write(&path, value) {
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.with_context(|| format!("sysctl {key} = {value}"))?,
        }
    }
    Ok(())
}

/// A node's ruleset, with what `silent` adds.
fn ruleset(node: &crate::topology::Node) -> Option<String> {
    let mut text = String::new();
    if node.silent {
        text.push_str(
            "table inet silent {\n  chain output {\n    type filter hook output priority 0;\n    \
             icmp type { destination-unreachable, time-exceeded } drop\n    \
             icmpv6 type { destination-unreachable, time-exceeded, packet-too-big } drop\n  }\n}\n",
        );
    }
    text.push_str(node.nft.as_deref().unwrap_or_default());
    (!text.trim().is_empty()).then_some(text)
}

/// TCP sockets in the tables of the calling thread's namespace, listeners
/// among them; those in SYN_RECV or TIME_WAIT are not (net/ipv4/proc.c).
///
/// # Errors
/// When the kernel's tables cannot be read.
pub fn tcp_in_use() -> Result<usize> {
    let inuse = |file: &str, word: &str| -> Result<usize> {
        let text = table(file)?;
        text.lines()
            .find_map(|line| {
                line.strip_prefix(word)?
                    .split_whitespace()
                    .nth(1)?
                    .parse()
                    .ok()
            })
            .with_context(|| format!("{file}: no line {word}"))
    };
    Ok(inuse("sockstat", "TCP:")? + inuse("sockstat6", "TCP6:")?)
}

/// Those in use minus listeners.
fn tcp_sockets() -> Result<usize> {
    let mut listeners = 0;
    for file in ["tcp", "tcp6"] {
        let text = table(file)?;
        let listens = |line: &&str| line.split_whitespace().nth(3) == Some("0A");
        listeners += text.lines().filter(listens).count();
    }
    Ok(tcp_in_use()?.saturating_sub(listeners))
}

/// A table of the calling thread's namespace: `/proc/net` would be the process's.
fn table(file: &str) -> Result<String> {
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).with_context(|| path.clone())
}

/// Many commands of `ip` by one process, in this namespace.
fn batch(text: &str) -> Result<()> {
    let output = feed(&mut quiet("ip", &["-batch", "-"]), text).context("ip: cannot be started")?;
    if !output.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A helper program: silent, and out of the terminal's reach, so that Ctrl-C
/// does not stop what cleans up.
pub(crate) fn quiet(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// Runs a command with this input.
pub(crate) fn feed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let pipe = child.stdin.take();
    std::thread::scope(|scope| {
        // Both pipes may fill: one thread writes, the other reads.
        scope.spawn(move || {
            if let Some(mut pipe) = pipe {
                // A child that ends early says why itself.
                let _ = pipe.write_all(input.as_bytes());
            }
        });
        child.wait_with_output()
    })
}
