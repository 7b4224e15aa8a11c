//! What the link needs to be permitted, and what it says when it is not.

use super::tests::{PORTS, flow, listen, open, whole_session};
use super::*;
use crate::engine::Target;
use crate::net::testing::{self, pair};
use crate::net::{Router, RouterOptions};

const CAP_NET_RAW: u32 = 13;

/// Gives up all capabilities of the calling thread but these.
fn keep_only(capabilities: &[u32]) {
    /// `struct __user_cap_header_struct`, `struct __user_cap_data_struct`
    /// (include/uapi/linux/capability.h), version 3.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let kept = capabilities.iter().fold(0, |set, bit| set | 1 << bit);
    let data = [kept, 0].map(|set| Data {
        effective: set,
        permitted: set,
        inheritable: 0,
    });
    // SAFETY: a header and the two sets that its version has; the call changes
    // this thread only.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(result, 0, "capset: {}", io::Error::last_os_error());
}

#[test]
fn cap_net_raw_is_enough() {
    let (near, far) = pair();
    let remote = "198.18.1.2:80";
    let listener = listen(&far, remote);
    near.run(|| {
        keep_only(&[CAP_NET_RAW]);
        let mut link = open();
        // The kernel's own handshake resolves the neighbour.
        whole_session(&mut link, &flow("198.18.1.1:61000", remote), &listener);
    });
}

#[test]
fn what_is_not_permitted_is_named() {
    let (near, _far) = pair();
    near.run(|| {
        keep_only(&[]);
        let error = PacketLink::open("near0", &PacketOptions::new(PORTS)).err();
        let Some(LinkError::NotPermitted { reason, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(reason.contains("CAP_NET_RAW"), "{reason}");
    });
}

/// Setting IPv6 unicast hops, binding to a device, the datagram itself: nothing
/// of it is privileged.
#[test]
fn unknown_neighbours_are_found_without_any_capability() {
    let (near, far) = pair();
    near.address("near0", "198.18.1.9/24");
    near.ip("route add 203.0.113.0/24 via inet6 fd00:1::2");
    let heard = far.run(|| {
        let on = |address: &str| std::net::UdpSocket::bind(address).unwrap();
        [on("198.18.1.2:9"), on("[fd00:1::2]:9")]
    });
    let mac = far.run(|| net::interface("far0").unwrap().mac.unwrap());
    near.run(|| {
        keep_only(&[]);
        let mut router = Router::new(RouterOptions {
            sources: ["198.18.1.9", "fd00:1::1"]
                .map(|it| it.parse().unwrap())
                .to_vec(),
            interface: None,
        })
        .unwrap();
        for address in ["198.18.1.2", "203.0.113.1", "fd00:1::2"] {
            let target = Target {
                index: 0,
                name: String::new(),
                address: address.parse().unwrap(),
                port: 80,
            };
            let route = testing::route(&mut router, &target).unwrap();
            assert_eq!(route.next_hop_mac, mac, "{address}");
        }
    });
    for (socket, from) in heard.iter().zip(["198.18.1.9", "fd00:1::1"]) {
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let (length, source) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(length, 0);
        assert_eq!(source.ip(), from.parse::<std::net::IpAddr>().unwrap());
    }
}
