//! Connections that the kernel owns: one non-blocking TCP socket each, bound to
//! the flow's own end, which sends RST when it is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::PacketOptions;
use crate::link::LinkError;
use crate::net::socket;
use crate::session::Flow;

/// Opens one and starts its handshake. To end it, drop the descriptor.
pub(super) fn connect(flow: &Flow, options: &PacketOptions) -> Result<OwnedFd, LinkError> {
    let connection = socket::tcp(flow.local).map_err(|error| exhausted(flow, error))?;
    prepare(&connection, flow, options).map_err(|error| system(flow, "prepare", error))?;
    match socket::bind(connection.as_fd(), flow.local) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            return Err(LinkError::FlowTaken);
        }
        Err(error) => return Err(system(flow, "bind", error)),
    }
    match socket::connect(connection.as_fd(), flow.remote) {
        Ok(()) => Ok(connection),
        Err(error) => match error.raw_os_error() {
            // Refused already (loopback): the RST is on the wire, and the
            // session reads it there.
            Some(libc::EINPROGRESS | libc::ECONNREFUSED) => Ok(connection),
            // This very flow exists (net/ipv4/inet_hashtables.c
            // `__inet_check_established`).
            Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => Err(LinkError::FlowTaken),
            _ => Err(system(flow, "connect", error)),
        },
    }
}

/// Raises this process's limit of descriptors as far as it may by itself.
pub(super) fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a whole rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0
        && limit.rlim_cur < limit.rlim_max
    {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above. Where it fails the old limit stays, and the error
        // of the connection that hits it names it.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn prepare(connection: &OwnedFd, flow: &Flow, options: &PacketOptions) -> io::Result<()> {
    let socket = connection.as_fd();
    let set = |level, name, value: libc::c_int| socket::set_option(socket, level, name, &value);
    // Several flows share a local port; the kernel tells them apart by their
    // remote ends.
    set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    // Close with RST, at `snd_nxt`: the server's `rcv_nxt`, since nothing was
    // ever written (`tcp_send_active_reset`, net/ipv4/tcp_output.c).
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
    // What ECMP may hash is the same in the kernel's segments and in probes.
    let traffic_class = libc::c_int::from(options.dscp & 0x3f) << 2;
    if flow.local.is_ipv4() {
        set(libc::IPPROTO_IP, libc::IP_TOS, traffic_class)?;
    } else {
        set(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, traffic_class)?;
        // Flow label 0, which is what probes have to carry on this link.
        set(libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL, 0)?;
    }
    if let Some(device) = &options.device {
        socket::set_option_text(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device)?;
    }
    Ok(())
}

fn exhausted(flow: &Flow, error: io::Error) -> LinkError {
    let (reason, mend) = match error.raw_os_error() {
        Some(libc::EMFILE) => (
            "the limit of open descriptors of this process is reached",
            "raise it (`ulimit -n`, `LimitNOFILE=`) or open fewer sessions at a time",
        ),
        Some(libc::ENFILE) => (
            "the limit of open descriptors of this host is reached",
            "raise `fs.file-max` or open fewer sessions at a time",
        ),
        _ => return system(flow, "open", error),
    };
    LinkError::NotPermitted {
        what: format!("connection to {}", flow.remote),
        reason: reason.to_owned(),
        mend: mend.to_owned(),
    }
}

fn system(flow: &Flow, step: &str, source: io::Error) -> LinkError {
    LinkError::System {
        what: format!("connection from {} to {}: {step}", flow.local, flow.remote),
        source,
    }
}
