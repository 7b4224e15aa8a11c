//! Sockets as the standard library cannot make them: bound without
//! `SO_REUSEADDR`, before they connect or to a device, and without waiting.
//! System-call shims, nothing else.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A non-blocking TCP socket of the family of `address`, unbound.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    open(
        family,
        libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
    )
}

fn open(family: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts the calling thread into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: no pointers; concerns this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// bind(2).
pub(crate) fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let (storage, length) = storage(address);
    // SAFETY: `storage` holds a socket address of `length` bytes.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    check(result)
}

/// bind(2) to an address that is no internet address; `T` is the structure of the
/// socket's family.
pub(crate) fn bind_raw<T: Copy>(socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: reads `address`, whose size is given.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            length,
        )
    };
    check(result)
}

/// connect(2).
pub(crate) fn connect(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let (storage, length) = storage(address);
    // SAFETY: `storage` holds a socket address of `length` bytes.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    check(result)
}

/// Sends an empty UDP datagram over this device to the discard port of a
/// neighbour, from `source` where it is of the same family. Needs no privilege
/// (binding to a device: since Linux 5.7).
pub(crate) fn knock(device: &str, index: u32, source: IpAddr, neighbour: IpAddr) -> io::Result<()> {
    const DISCARD: u16 = 9;
    let (family, level, hops) = if neighbour.is_ipv4() {
        (libc::AF_INET, libc::IPPROTO_IP, libc::IP_TTL)
    } else {
        (libc::AF_INET6, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
    };
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let socket = open(family, kind)?;
    let socket = socket.as_fd();
    set_option_text(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device)?;
    // It is on the link, or it is not to be reached by this.
    set_option(socket, level, hops, &(1 as libc::c_int))?;
    let address = |ip: IpAddr, port| match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        // Link-local addresses need the interface; others ignore it.
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, index).into(),
    };
    if source.is_ipv4() == neighbour.is_ipv4() {
        bind(socket, address(source, 0))?;
    }
    let (storage, length) = storage(address(neighbour, DISCARD));
    // SAFETY: no data; `storage` holds a socket address of `length` bytes.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            std::ptr::null(),
            0,
            0,
            (&raw const storage).cast(),
            length,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// setsockopt(2) with a value that the kernel reads as `T`'s bytes: `T` has to
/// be the type that the option's manual page names.
pub(crate) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    set_option_bytes(
        socket,
        level,
        name,
        std::ptr::from_ref(value).cast(),
        size_of::<T>(),
    )
}

/// setsockopt(2) with a string (`SO_BINDTODEVICE`).
pub(crate) fn set_option_text(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &str,
) -> io::Result<()> {
    set_option_bytes(socket, level, name, value.as_ptr().cast(), value.len())
}

fn set_option_bytes(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: *const libc::c_void,
    length: usize,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(length).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: both callers pass a live reference's address and its size; the
    // kernel only reads.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) };
    check(result)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn storage(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: a sockaddr_storage of zero bytes is valid (AF_UNSPEC).
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every
            // kind of socket address; that is what it is for.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(value) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo().to_be(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}
