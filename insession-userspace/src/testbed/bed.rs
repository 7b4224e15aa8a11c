//! The namespace, the veth pair and the reflector on it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};
use insession_common::reflect::{self, Counter, Network};

use crate::net::{Interface, interface};

/// The reflector's object file, aligned as an ELF reader wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/reflector.bpf.o"));

/// Our end's addresses.
pub const NEAR_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Our end's addresses.
pub const NEAR_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
/// Our end's MAC address.
pub const NEAR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The names of the two ends.
const NEAR: &str = "near0";
const FAR: &str = "far0";

/// How a test bed is made.
#[derive(Clone, Copy, Debug)]
pub struct BedOptions {
    /// The network that the reflector stands for.
    pub network: Network,
    /// Queues of each end, in each direction.
    pub queues: u32,
}

/// Why there is no test bed.
#[derive(Debug, thiserror::Error)]
#[error("test bed: {what}: {why}; {mend}")]
pub struct BedError {
    what: String,
    why: String,
    mend: &'static str,
}

/// A test bed. It goes with the value, and with the process in any case: the
/// namespace has no name and nothing is pinned.
pub struct Bed {
    // First: detaches before anything else is closed.
    _link: FdLink,
    network: Array<MapData, [u64; 3]>,
    counters: PerCpuArray<MapData, u64>,
    _ebpf: Ebpf,
    near: Interface,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed")
            .field("near", &self.near)
            .finish_non_exhaustive()
    }
}

impl Bed {
    /// Puts the calling thread into a new network namespace with a test bed in
    /// it. Threads and processes that it starts from then on are in it too; the
    /// thread itself stays there.
    ///
    /// # Errors
    /// Without the capabilities, `ip` or `ethtool`, or on a kernel before 5.18.
    pub fn create(options: &BedOptions) -> Result<Bed, BedError> {
        if options.queues == 0 {
            return Err(BedError::new("queues", "0", "give one at least"));
        }
        enter_new_namespace()?;
        let queues = options.queues;
        let (near_mac, far_mac) = (colons(NEAR_MAC), colons(reflect::MAC));
        // Nobody asks for neighbours, looks for duplicates or routers, or talks
        // multicast: every frame on the wire is a probe or its answer.
        ip("link set lo up")?;
        ip(&format!(
            "link add {NEAR} address {near_mac} numtxqueues {queues} numrxqueues {queues} type veth \
             peer name {FAR} address {far_mac} numtxqueues {queues} numrxqueues {queues}"
        ))?;
        for (file, value) in [
            (format!("{NEAR}/accept_dad"), "0"),
            (format!("{NEAR}/accept_ra"), "0"),
            (format!("{NEAR}/router_solicitations"), "0"),
            (format!("{NEAR}/addr_gen_mode"), "1"),
            (format!("{FAR}/disable_ipv6"), "1"),
        ] {
            set_ipv6(&file, value)?;
        }
        ip(&format!("link set {NEAR} multicast off"))?;
        ip(&format!("link set {FAR} multicast off arp off"))?;
        ethtool(&format!("-L {NEAR} rx {queues} tx {queues}"))?;
        ethtool(&format!("-L {FAR} rx {queues} tx {queues}"))?;
        // What XDP sends here needs NAPI here, which GRO or a program brings
        // (drivers/net/veth.c, `veth_xdp_xmit`). Whole checksums and packets of one
        // segment are what a network would see.
        ethtool(&format!("-K {NEAR} gro on tx off tso off gso off"))?;

        let refused = |what: &str, why: &dyn std::error::Error| BedError {
            what: what.into(),
            why: chain(why),
            mend: "run as root, on Linux 5.18 or later",
        };
        let mut ebpf = EbpfLoader::new()
            .load(OBJECT)
            .map_err(|error| refused("reflector", &error))?;
        let mut network: Array<MapData, [u64; 3]> = map(&mut ebpf, reflect::NETWORK)?;
        network
            .set(0, options.network.words(), 0)
            .map_err(|error| refused(reflect::NETWORK, &error))?;
        let counters = map(&mut ebpf, reflect::COUNTERS)?;
        let program: &mut Xdp = ebpf
            .program_mut(reflect::PROGRAM)
            .ok_or_else(|| BedError::new("reflector", "not in its object", "build again"))?
            .try_into()
            .map_err(|error| refused("reflector", &error))?;
        program
            .load()
            .map_err(|error| refused("reflector", &error))?;
        let link = program
            .attach(FAR, XdpMode::Driver)
            .and_then(|id| program.take_link(id))
            .map_err(|error| refused(FAR, &error))?;
        let link = link.try_into().map_err(|error| refused(FAR, &error))?;

        ip(&format!("link set {FAR} up"))?;
        ip(&format!("link set {NEAR} up"))?;
        ip(&format!("address add {NEAR_V4}/30 dev {NEAR}"))?;
        ip(&format!("address add {NEAR_V6}/64 dev {NEAR} nodad"))?;
        let gateway_v4 = Ipv4Addr::from_bits(NEAR_V4.to_bits() + 1);
        let gateway_v6 = Ipv6Addr::from_bits(NEAR_V6.to_bits() + 1);
        for gateway in [gateway_v4.to_string(), gateway_v6.to_string()] {
            ip(&format!(
                "neighbour replace {gateway} lladdr {far_mac} nud permanent dev {NEAR}"
            ))?;
        }
        ip(&format!("-4 route add default via {gateway_v4} dev {NEAR}"))?;
        ip(&format!("-6 route add default via {gateway_v6} dev {NEAR}"))?;
        let near = interface(NEAR).map_err(|error| refused(NEAR, &error))?;
        Ok(Bed {
            _link: link,
            network,
            counters,
            _ebpf: ebpf,
            near: Interface {
                index: near.index,
                name: near.name,
            },
        })
    }

    /// Our end of the wire.
    #[must_use]
    pub fn near(&self) -> &Interface {
        &self.near
    }

    /// The reflector's MAC address: the next hop of everything.
    #[must_use]
    pub fn far_mac(&self) -> [u8; 6] {
        reflect::MAC
    }

    /// From now on the reflector stands for this network.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reconfigure(&mut self, network: &Network) -> Result<(), BedError> {
        self.network
            .set(0, network.words(), 0)
            .map_err(|error| BedError {
                what: reflect::NETWORK.into(),
                why: chain(&error),
                mend: "make a new test bed",
            })
    }

    /// What the reflector did: label and count, over all processors.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let sum = |counter: &Counter| {
            let values = self.counters.get(&(*counter as u32), 0);
            values.map_or(0, |values| values.iter().sum())
        };
        Counter::ALL
            .iter()
            .map(|counter| (counter.label(), sum(counter)))
            .collect()
    }
}

impl BedError {
    fn new(what: impl Into<String>, why: impl Into<String>, mend: &'static str) -> Self {
        BedError {
            what: what.into(),
            why: why.into(),
            mend,
        }
    }
}

fn map<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, BedError>
where
    T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| BedError::new(name, "no such map in the reflector", "build again"))?;
    map.try_into()
        .map_err(|error: aya::maps::MapError| BedError::new(name, chain(&error), "build again"))
}

/// An error with its causes: aya says what the kernel did in the last of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn enter_new_namespace() -> Result<(), BedError> {
    crate::net::socket::unshare_network().map_err(|error| {
        BedError::new(
            "a network namespace",
            error.to_string(),
            "run as root (CAP_SYS_ADMIN)",
        )
    })
}

/// Writes below /proc/sys/net/ipv6/conf. The files are those of the writing
/// thread's namespace.
fn set_ipv6(file: &str, value: &str) -> Result<(), BedError> {
    let path = format!("/proc/sys/net/ipv6/conf/{file}");
    std::fs::write(&path, value)
        .map_err(|error| BedError::new(path, error.to_string(), "run as root, with IPv6 enabled"))
}

fn ip(words: &str) -> Result<(), BedError> {
    run("ip", words, "install iproute2")
}

fn ethtool(words: &str) -> Result<(), BedError> {
    run("ethtool", words, "install ethtool")
}

/// Runs a program in this thread's namespace.
fn run(program: &str, words: &str, mend: &'static str) -> Result<(), BedError> {
    let what = format!("{program} {words}");
    let output = Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| BedError::new(what.as_str(), error.to_string(), mend))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BedError::new(
        what,
        said.trim(),
        "run as root, with the veth driver",
    ))
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
