//! `cargo xtask lab`: networks of namespaces, with the kernel's own routers and
//! real servers, to try things in.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};
use insession_lab::topology::{self, Topology};
use insession_lab::{Lab, state};

use crate::paths;

/// Options of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Bring a network up, to stay until it is taken down.
    Up {
        /// Its name; `list` shows them.
        name: String,
    },
    /// Take a network down, or all of them and what dead runs left.
    Down {
        /// Its name; all when none is given.
        name: Option<String>,
    },
    /// Run a program at a node of a network that is up: `exec chain client -- ping 10.9.0.1`.
    Exec {
        /// The network.
        name: String,
        /// The node.
        node: String,
        /// The program and its arguments; `insession` is the release build.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show all networks, and which are up.
    List,
}

/// Runs it.
pub fn run(args: Args) -> Result<()> {
    match args.task {
        Task::Up { name } => up(&name),
        Task::Down { name } => down(name.as_deref()),
        Task::Exec {
            name,
            node,
            command,
        } => exec(&name, &node, &command),
        Task::List => list(),
    }
}

fn up(name: &str) -> Result<()> {
    let lab = Lab::up_kept(name)?;
    println!("{name}: {}", lab.topology().description);
    for (node, found) in &lab.topology().nodes {
        let addresses: Vec<String> = lab
            .topology()
            .ends_of(node)
            .map(|end| format!("{} {} {}", end.interface, end.v4, end.v6))
            .chain(found.addresses.iter().cloned())
            .collect();
        println!("  {node:10} {}", addresses.join(", "));
    }
    println!("try: cargo xtask lab exec {name} client -- ip route");
    Ok(())
}

fn down(name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        let lab = Lab::attach(name)?.with_context(|| {
            format!("lab {name}: it is not up; `cargo xtask lab list` shows what is")
        })?;
        lab.down()?;
        println!("{name}: down");
        return Ok(());
    }
    for found in state::list()?
        .into_iter()
        .filter(|found| found.kept || found.stale)
    {
        state::State::open(&found.instance).remove(&found.lab)?;
        println!("{}: down", found.lab);
    }
    Ok(())
}

fn exec(name: &str, node: &str, command: &[String]) -> Result<()> {
    let lab = Lab::attach(name)?
        .with_context(|| format!("lab {name}: it is not up; run `cargo xtask lab up {name}`"))?;
    if !lab.topology().nodes.contains_key(node) {
        let nodes: Vec<&str> = lab.topology().nodes.keys().map(String::as_str).collect();
        bail!(
            "lab {name}: there is no node {node:?}; there are {}",
            nodes.join(", ")
        );
    }
    let (program, arguments) = command.split_first().context("no program was given")?;
    let error = if program == "insession" {
        lab.command(node, paths::insession())
    } else {
        lab.command(node, program)
    }
    .args(arguments)
    .exec();
    Err(error).context("ip: cannot be started; `cargo xtask setup` installs iproute2")
}

fn list() -> Result<()> {
    let found = state::list()?;
    for name in topology::names()? {
        let up = found.iter().any(|found| found.lab == name && found.kept);
        let runs = found
            .iter()
            .filter(|found| found.lab == name && !found.kept && !found.stale)
            .count();
        let mark = match (up, runs) {
            (true, _) => "up".to_owned(),
            (false, 0) => String::new(),
            (false, runs) => format!("{runs} runs"),
        };
        println!("{name:14} {mark:7} {}", Topology::load(&name)?.description);
    }
    for found in found.iter().filter(|found| found.stale) {
        println!(
            "left over: {} ({}); `cargo xtask lab down` removes it",
            found.lab, found.instance
        );
    }
    Ok(())
}
