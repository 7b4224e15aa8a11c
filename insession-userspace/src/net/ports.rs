//! Local TCP ports: which the kernel hands out, which it holds, which are ours
//! to use.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use super::netlink::{Netlink, Request};
use super::{NetError, socket};

/// The ports that the kernel hands out by itself (`ip_local_port_range`, for
/// IPv4 and IPv6 alike), in the calling thread's network namespace.
///
/// # Errors
/// When it cannot be read.
pub fn kernel_range() -> Result<RangeInclusive<u16>, NetError> {
    // Below /proc/sys/net the calling thread's namespace is shown
    // (net/sysctl_net.c `net_ctl_header_lookup`), not the process's.
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let trouble = |reason: String| NetError::new(PATH, reason, "give `--source-ports`");
    let text = std::fs::read_to_string(PATH).map_err(|error| trouble(error.to_string()))?;
    parse_range(&text).ok_or_else(|| trouble(format!("{text:?} is no range of ports")))
}

/// The source ports used when none are given: all above the kernel's range, or,
/// where fewer than [`ENOUGH`] are left there, those right below it.
///
/// # Errors
/// When the kernel's range cannot be read, or leaves too few on either side.
pub fn default_range() -> Result<RangeInclusive<u16>, NetError> {
    let kernel = kernel_range()?;
    beside(&kernel).ok_or_else(|| {
        NetError::new(
            format!(
                "source ports beside ip_local_port_range {}-{}",
                kernel.start(),
                kernel.end()
            ),
            format!("fewer than {ENOUGH} are left"),
            "give some that the kernel will not hand out with `--source-ports A-B`, or narrow \
             the range",
        )
    })
}

/// Fewer ports than this would be a poor default: ports repeat across targets,
/// but not to the same target.
pub const ENOUGH: u16 = 1024;

/// Below 1024 are the services' ports (RFC 6335 §6).
const LOWEST: u16 = 1024;

/// As many as lie above the kernel's usual range.
const BELOW_AT_MOST: u16 = 4536;

fn beside(kernel: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let above = u16::MAX - kernel.end();
    if above >= ENOUGH {
        return Some(kernel.end() + 1..=u16::MAX);
    }
    let below = kernel.start().saturating_sub(LOWEST);
    if below >= ENOUGH {
        let last = kernel.start() - 1;
        return Some(last - (below.min(BELOW_AT_MOST) - 1)..=last);
    }
    None
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?.parse().ok()?;
    let last = words.next()?.parse().ok()?;
    (words.next().is_none() && first <= last).then_some(first..=last)
}

/// The local TCP ports that kernel sockets held at one moment.
#[derive(Clone, Debug)]
pub struct HeldPorts {
    /// One bit a port.
    bits: Box<[u64; 1024]>,
}

impl HeldPorts {
    /// Whether some socket of the kernel's held this port, on any address.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let word = self.bits.get(usize::from(port / 64)).copied().unwrap_or(0);
        word >> (port % 64) & 1 == 1
    }

    /// How many of these ports were held.
    #[must_use]
    pub fn count_in(&self, range: RangeInclusive<u16>) -> usize {
        range.filter(|port| self.contains(*port)).count()
    }

    fn insert(&mut self, port: u16) {
        if let Some(word) = self.bits.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
    }
}

/// The local TCP ports held by sockets of the calling thread's network
/// namespace, in any state, IPv4 and IPv6: one dump of both tables, to be made
/// once a run.
///
/// Sockets that are bound but neither listen nor connect are in it since Linux
/// 6.8 only (`TCPF_BOUND_INACTIVE`, net/ipv4/inet_diag.c); [`is_held`] sees them
/// everywhere.
///
/// # Errors
/// When the kernel does not answer.
pub fn held() -> Result<HeldPorts, NetError> {
    let mut held = HeldPorts {
        bits: Box::new([0; 1024]),
    };
    let mut netlink = sockets()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let body = tcp_sockets(family);
        netlink
            .exchange(Request::dump(SOCK_DIAG_BY_FAMILY, &body), |_, body| {
                // `struct inet_diag_msg`: family, state, timer, retransmits,
                // then the source port in network byte order.
                if let Some(&[high, low]) = body.get(4..6) {
                    held.insert(u16::from_be_bytes([high, low]));
                }
            })
            .map_err(|refusal| {
                if refusal.errno() == libc::ENOENT {
                    NetError::new(
                        WHAT,
                        "this kernel has no tcp_diag",
                        "`modprobe tcp_diag`, or give `--source-ports` that nothing uses",
                    )
                } else {
                    NetError::refused(WHAT, &refusal)
                }
            })?;
    }
    Ok(held)
}

/// The ports that were held when one was asked for first; later ones cost no system call.
///
/// Before Linux 6.8, where the table lacks some, each endpoint is asked for by itself.
#[derive(Debug)]
pub struct AskedOnce {
    /// The table has all there are.
    whole: bool,
    table: OnceCell<Option<HeldPorts>>,
}

impl AskedOnce {
    /// Of a kernel of this version.
    #[must_use]
    pub fn new(kernel: (u32, u32)) -> Self {
        AskedOnce {
            whole: kernel >= BOUND_IN_TABLE,
            table: OnceCell::new(),
        }
    }

    /// Whether the kernel holds this endpoint; of a table, its port on any address.
    pub fn is_held(&self, local: SocketAddr) -> bool {
        let asked = || self.whole.then(|| held().ok()).flatten();
        let table = self.table.get_or_init(asked);
        match table {
            Some(held) => held.contains(local.port()),
            None => is_held(local),
        }
    }
}

/// See [`held`].
const BOUND_IN_TABLE: (u32, u32) = (6, 8);

/// Whether the kernel holds this very endpoint at this moment: it is bound for
/// an instant, which fails for every socket on that port whose address overlaps.
/// An address that is not this host's is not held.
#[must_use]
pub fn is_held(local: SocketAddr) -> bool {
    let attempt = socket::tcp(local).and_then(|socket| socket::bind(socket.as_fd(), local));
    attempt.is_err_and(|error| error.raw_os_error() == Some(libc::EADDRINUSE))
}

/// What of the kernel's is asked, in errors.
pub(super) const WHAT: &str = "the table of TCP sockets";

/// Opens a conversation about sockets.
pub(super) fn sockets() -> Result<Netlink, NetError> {
    Netlink::open(netlink_sys::protocols::NETLINK_SOCK_DIAG)
        .map_err(|error| NetError::refused(WHAT, &error.into()))
}

/// A `struct inet_diag_req_v2` for TCP sockets of this family, in all states: the newest
/// have bits that older kernels ignore.
pub(super) fn tcp_sockets(family: libc::c_int) -> [u8; INET_DIAG_REQ_V2] {
    let mut body = [0; INET_DIAG_REQ_V2];
    body[0] = u8::try_from(family).unwrap_or(0);
    body[1] = insession_common::flow::PROTOCOL_TCP;
    body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    body
}

/// `struct inet_diag_req_v2`.
pub(super) const INET_DIAG_REQ_V2: usize = 56;
/// include/uapi/linux/sock_diag.h.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Namespace;
    use std::net::TcpListener;

    #[test]
    fn the_default_lies_beside_the_kernels_range() {
        assert_eq!(beside(&(32768..=60999)), Some(61000..=65535));
        // 1,024 above are enough, one fewer are not.
        assert_eq!(beside(&(32768..=64511)), Some(64512..=65535));
        assert_eq!(beside(&(32768..=64512)), Some(28232..=32767));
        assert_eq!(beside(&(1024..=65535)), None);
        assert_eq!(beside(&(2048..=65535)), Some(1024..=2047));
        assert_eq!(beside(&(2047..=65535)), None);
        assert_eq!(beside(&(0..=65535)), None);
    }

    #[test]
    fn the_kernels_range_is_that_of_the_namespace() {
        let namespace = Namespace::new();
        namespace.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 64000").unwrap();
            assert_eq!(kernel_range().unwrap(), 20000..=64000);
            assert_eq!(default_range().unwrap(), 64001..=65535);
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1025 65535").unwrap();
            let error = default_range().unwrap_err().to_string();
            assert!(error.contains("1025-65535"), "{error}");
        });
        for wrong in ["", "1", "5 4", "1 2 3", "1 70000", "a b"] {
            assert_eq!(parse_range(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn held_ports_are_seen_in_both_families_and_all_states() {
        let namespace = Namespace::new();
        namespace.run(|| {
            let listener = TcpListener::bind("127.0.0.1:61001").unwrap();
            let listener6 = TcpListener::bind("[::1]:61002").unwrap();
            let connected = socket::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
            socket::bind(connected.as_fd(), "127.0.0.1:61003".parse().unwrap()).unwrap();
            // Non-blocking: on its way, or there already; held in either case.
            let _ = socket::connect(connected.as_fd(), "127.0.0.1:61001".parse().unwrap());
            let table = held().unwrap();
            for port in 61000..=61010 {
                let expected = matches!(port, 61001..=61003);
                assert_eq!(table.contains(port), expected, "{port}");
            }
            assert_eq!(table.count_in(0..=65535), 3);

            for kernel in [(6, 1), (6, 12)] {
                let once = AskedOnce::new(kernel);
                let on_other = "127.0.0.1:61002".parse().unwrap();
                assert_eq!(once.is_held(on_other), kernel > (6, 8));
                assert!(once.is_held("127.0.0.1:61001".parse().unwrap()));
                assert!(!once.is_held("127.0.0.1:61004".parse().unwrap()));
            }

            assert!(is_held("127.0.0.1:61001".parse().unwrap()));
            assert!(is_held("0.0.0.0:61001".parse().unwrap()));
            assert!(is_held("[::1]:61002".parse().unwrap()));
            assert!(is_held("127.0.0.1:61003".parse().unwrap()));
            // Another address of this host, another port, somebody else's address.
            assert!(!is_held("127.0.0.2:61001".parse().unwrap()));
            assert!(!is_held("127.0.0.1:61004".parse().unwrap()));
            assert!(!is_held("192.0.2.1:61001".parse().unwrap()));
            drop((listener, listener6));
        });
    }

    #[test]
    fn a_socket_that_is_only_bound_holds_its_port() {
        let namespace = Namespace::new();
        namespace.run(|| {
            let local = "127.0.0.1:61001".parse().unwrap();
            let bound = socket::tcp(local).unwrap();
            socket::bind(bound.as_fd(), local).unwrap();
            assert!(is_held(local));
            assert!(AskedOnce::new((6, 1)).is_held(local));
        });
    }
}
