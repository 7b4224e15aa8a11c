//! The guest's network: one NIC here, the other in a router's namespace, another
//! router and a server behind it.
//!
//! ```text
//! eth0 ══ wire ══ eth1 r1 r1b ── r2a r2 r2b ── near server lo
//! .0.1            .0.2    .1.1   .1.2   .2.1   .2.2        .9.0/24
//! ```

use std::collections::VecDeque;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kernel;

/// The interface that is traced from.
pub const NIC: &str = "eth0";

/// The server's port.
pub const PORT: u16 = 443;

/// The hops to every address of the server's, IPv4.
pub const HOPS_V4: [&str; 2] = ["10.88.0.2", "10.88.1.2"];
/// The same, IPv6.
pub const HOPS_V6: [&str; 2] = ["fd88::2", "fd88:1::2"];

/// An address of the server's, IPv4.
pub fn server_v4(number: u8) -> String {
    format!("10.88.9.{number}")
}

/// The server's IPv6 address.
pub const SERVER_V6: &str = "fd88:9::1";

const COMMANDS: &str = "\
link set lo up
netns add r1
netns add r2
netns add server
link set eth1 netns r1
addr add 10.88.0.1/24 dev eth0
addr add fd88::1/64 dev eth0 nodad
link set eth0 up
-n r1 addr add 10.88.0.2/24 dev eth1
-n r1 addr add fd88::2/64 dev eth1 nodad
-n r1 link set eth1 up
-n r1 link add r1b type veth peer name r2a netns r2
-n r2 link add r2b type veth peer name near netns server
-n r1 addr add 10.88.1.1/24 dev r1b
-n r1 addr add fd88:1::1/64 dev r1b nodad
-n r2 addr add 10.88.1.2/24 dev r2a
-n r2 addr add fd88:1::2/64 dev r2a nodad
-n r2 addr add 10.88.2.1/24 dev r2b
-n r2 addr add fd88:2::1/64 dev r2b nodad
-n server addr add 10.88.2.2/24 dev near
-n server addr add fd88:2::2/64 dev near nodad
-n r1 link set r1b up
-n r2 link set r2a up
-n r2 link set r2b up
-n server link set near up
-n server link set lo up
-n server addr add fd88:9::1/128 dev lo nodad
-n server route add local 10.88.9.0/24 dev lo
route add 10.88.0.0/16 via 10.88.0.2
-6 route add fd88::/16 via fd88::2
-n r1 route add 10.88.0.0/16 via 10.88.1.2
-n r1 -6 route add fd88::/16 via fd88:1::2
-n r2 route add 10.88.9.0/24 via 10.88.2.2
-n r2 route add 10.88.0.0/24 via 10.88.1.1
-n r2 -6 route add fd88:9::/64 via fd88:2::2
-n r2 -6 route add fd88::/64 via fd88:1::1
-n server route add default via 10.88.2.1
-n server -6 route add default via fd88:2::1";

/// Routers forward, and answer every probe. (One setting was the whole kernel's
/// once and is a namespace's in newer ones.)
const SETTINGS: &str = "\
cd /proc/sys/net
echo 1 > ipv4/ip_forward
echo 1 > ipv6/conf/all/forwarding
echo 0 > ipv4/icmp_ratelimit
echo 0 > ipv6/icmp/ratelimit
for each in ipv4/icmp_msgs_per_sec ipv4/icmp_msgs_burst; do
  [ ! -w $each ] || echo 100000 > $each
done";

/// Lays the network and starts the server.
pub fn lay() -> Result<Child> {
    for line in COMMANDS.lines() {
        ip(line)?;
    }
    run(Command::new("sh").args(["-ec", SETTINGS]))?;
    for router in ["r1", "r2"] {
        run(Command::new("ip").args(["netns", "exec", router, "sh", "-ec", SETTINGS]))?;
    }
    let server = Command::new("ip")
        .args(["netns", "exec", "server"])
        .arg(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::null())
        .spawn()
        .context("the server cannot be started")?;
    carrier("link show dev eth0")?;
    carrier("-n r1 link show dev eth1")?;
    Ok(server)
}

/// Connections that the server keeps open: more than are traced at a time, fewer than
/// a process may have.
const KEPT: usize = 512;

/// The server: takes connections and says nothing. What it would read never comes, for
/// the octet before it is missing; so no thread waits for it, whose start would keep
/// connections waiting in the queue until the queue is full.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind(("::", PORT)).context("the server cannot listen")?;
    kernel::lengthen_queue(&listener, KEPT as i32).context("the server's queue")?;
    let mut kept = VecDeque::with_capacity(KEPT);
    for stream in listener.incoming() {
        if kept.len() == KEPT {
            kept.pop_front();
        }
        // One that was reset before it was taken is none.
        kept.extend(stream);
    }
    Ok(())
}

/// The driver of the interface that is traced from.
pub fn driver() -> Result<String> {
    let place = fs::read_link(format!("/sys/class/net/{NIC}/device/driver"))
        .context("eth0 has no driver")?;
    let name = place.file_name().context("a driver without a name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// How an XDP program sits on the interface that is traced from, if one does.
pub fn attached() -> Result<Option<&'static str>> {
    let text = ip(&format!("link show dev {NIC}"))?;
    let word = |word: &str| text.split_whitespace().any(|found| found == word);
    Ok(if word("xdp") {
        Some("native")
    } else if word("xdpgeneric") {
        Some("generic")
    } else if text.contains("prog/xdp") {
        Some("unknown")
    } else {
        None
    })
}

/// What NICs, queues and routers have counted.
pub fn losses() -> Result<String> {
    let mut text = run(Command::new("cat").arg("/proc/net/softnet_stat"))?;
    text.push_str(&ip("-s -s link show dev eth0")?);
    for router in ["r1", "r2"] {
        text.push_str(&ip(&format!("-n {router} -s -s link"))?);
        text.push_str(&run(Command::new("ip")
            .args(["netns", "exec", router])
            .args(["grep", "-h", "Icmp:\\|Ip:", "/proc/net/snmp"]))?);
    }
    // Connections that it did not take, segments that it did not answer.
    text.push_str(&run(Command::new("ip")
        .args(["netns", "exec", "server"])
        .args(["grep", "-h", "^TcpExt:", "/proc/net/netstat"]))?);
    Ok(text)
}

/// Waits for a NIC's carrier: some negotiate for seconds.
fn carrier(words: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !ip(words)?.contains("LOWER_UP") {
        if Instant::now() > deadline {
            bail!("ip {words}: no carrier within 15 s");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn ip(words: &str) -> Result<String> {
    run(Command::new("ip").args(words.split_whitespace()))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?}: cannot be started"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
