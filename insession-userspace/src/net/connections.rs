//! Connections that the kernel has (`sock_diag`, net/ipv4/inet_diag.c).

use std::net::{IpAddr, SocketAddr};

use super::NetError;
use super::netlink::{Request, attributes};
use super::ports::{INET_DIAG_REQ_V2, SOCK_DIAG_BY_FAMILY, WHAT, sockets, tcp_sockets};

/// A TCP connection of this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// It is established, in both directions.
    pub established: bool,
    /// Octets that this host has sent, and that were acknowledged.
    pub sent: u64,
    /// SACK was negotiated.
    pub sack: bool,
}

/// The connection between these ends, in the calling thread's network namespace;
/// `None` when there is none.
///
/// # Errors
/// When the kernel does not answer.
pub fn connection(local: SocketAddr, remote: SocketAddr) -> Result<Option<Connection>, NetError> {
    let request = Request::question(SOCK_DIAG_BY_FAMILY, &question(local, remote));
    match sockets()?.ask(request) {
        Ok(answer) => Ok(answer.as_deref().and_then(read)),
        Err(refusal) if refusal.errno() == libc::ENOENT => Ok(None),
        Err(refusal) => Err(NetError::refused(WHAT, &refusal)),
    }
}

/// `struct inet_diag_req_v2`, of one socket.
fn question(local: SocketAddr, remote: SocketAddr) -> [u8; INET_DIAG_REQ_V2] {
    let family = match local {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let mut body = tcp_sockets(family);
    body[2] = 1 << (INET_DIAG_INFO - 1);
    body[8..10].copy_from_slice(&local.port().to_be_bytes());
    body[10..12].copy_from_slice(&remote.port().to_be_bytes());
    for (at, address) in [(12, local.ip()), (28, remote.ip())] {
        match address {
            IpAddr::V4(v4) => body[at..at + 4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => body[at..at + 16].copy_from_slice(&v6.octets()),
        }
    }
    // Any interface, any cookie (`INET_DIAG_NOCOOKIE`).
    body[48..56].fill(0xff);
    body
}

/// Reads `struct inet_diag_msg` and the `struct tcp_info` behind it.
fn read(body: &[u8]) -> Option<Connection> {
    let state = *body.get(1)?;
    let info = attributes(body.get(INET_DIAG_MSG..)?);
    let (_, info) = info.into_iter().find(|(kind, _)| *kind == INET_DIAG_INFO)?;
    let options = *info.get(TCPI_OPTIONS)?;
    let sent = info.get(TCPI_BYTES_ACKED..TCPI_BYTES_ACKED + 8);
    let sent = u64::from_ne_bytes(sent?.try_into().ok()?);
    Some(Connection {
        established: state == TCP_ESTABLISHED,
        // The SYN of who opened it counts.
        sent: sent.saturating_sub(1),
        sack: options & TCPI_OPT_SACK != 0,
    })
}

/// include/uapi/linux/inet_diag.h.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_MSG: usize = 72;
/// include/uapi/linux/tcp.h, `struct tcp_info`.
const TCPI_OPTIONS: usize = 5;
const TCPI_OPT_SACK: u8 = 2;
const TCPI_BYTES_ACKED: usize = 120;
/// include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// Of each family, and through sockets that are of both.
    #[test]
    fn a_connection_is_found_by_its_ends_with_what_was_sent_in_it() {
        crate::net::testing::Namespace::new().run(|| {
            for (at, mapped) in [("127.0.0.1:0", false), ("[::1]:0", false), ("[::]:0", true)] {
                let listener = TcpListener::bind(at).unwrap();
                let port = listener.local_addr().unwrap().port();
                let to: SocketAddr = match mapped {
                    true => ([127, 0, 0, 1], port).into(),
                    false => listener.local_addr().unwrap(),
                };
                let mut here = TcpStream::connect(to).unwrap();
                let (mut there, _) = listener.accept().unwrap();
                here.write_all(&[7; 1000]).unwrap();
                there.read_exact(&mut [0; 1000]).unwrap();
                let (local, remote) = (here.local_addr().unwrap(), to);
                let found = connection(local, remote).unwrap().unwrap();
                assert!(found.established && found.sack, "{at}: {found:?}");
                // The peer may not have acknowledged all of it yet.
                assert!(found.sent <= 1000, "{at}: {found:?}");
                let other = connection(remote, local).unwrap().unwrap();
                assert_eq!(other.sent, 0, "{at}");
                let nobody = SocketAddr::new(local.ip(), local.port() ^ 1);
                assert_eq!(connection(nobody, remote).unwrap(), None);
            }
        });
    }
}
