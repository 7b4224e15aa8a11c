//! What the link needs to be permitted, and what it says when it is not.

use super::tests::{PORTS, flow, listen, open, pair, whole_session};
use super::*;
use crate::engine::Target;
use crate::engine::campaign::Routing;
use crate::net::{Router, RouterOptions};
use crate::trace::Verdict;

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
        let mut router = Router::new(RouterOptions::default()).unwrap();
        let target = Target {
            index: 0,
            name: String::new(),
            address: "198.18.1.2".parse().unwrap(),
            port: 80,
        };
        let failure = router.route(&target).unwrap_err();
        assert_eq!(failure.verdict, Verdict::Error);
        let detail = failure.detail;
        assert!(detail.contains("CAP_NET_ADMIN"), "{detail}");
    });
}
