//! Who holds the interface, and who may: other programs, killed owners, missing
//! permissions.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use insession::link::xdp::{XdpLink, XdpMode, XdpOptions};
use insession::link::{Link, LinkError};
use libbpf_rs::libbpf_sys;

use crate::lab::{Lab, interface, with_pair};
use crate::open;

/// A program that passes everything, under a name of its own.
fn foreign_program() -> OwnedFd {
    // r0 = XDP_PASS; exit
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    // SAFETY: code, name and licence are valid for the call.
    let descriptor = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            c"firewall".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr().cast(),
            2,
            std::ptr::null_mut(),
        )
    };
    assert!(descriptor >= 0, "{descriptor}");
    // SAFETY: fresh, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[test]
fn another_program_is_named_and_left_alone() {
    for flags in [libbpf_rs::XdpFlags::DRV_MODE, libbpf_rs::XdpFlags::SKB_MODE] {
        with_pair(1, |lab| {
            let program = foreign_program();
            let index = lab.interface().index as i32;
            libbpf_rs::Xdp::new(program.as_fd())
                .attach(index, flags)
                .unwrap();
            let id = lab.attached();
            for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
                let options = XdpOptions {
                    mode,
                    ..XdpOptions::default()
                };
                let error = XdpLink::open(&lab.interface(), &options).unwrap_err();
                assert!(matches!(error, LinkError::Occupied { .. }), "{error}");
                let said = error.to_string();
                let named = format!("XDP program \"firewall\" (id {id}) is attached already; ");
                assert!(said.contains(&named), "{said}");
            }
            assert_eq!(lab.attached(), id);
        });
    }
}

#[test]
fn second_link_finds_the_first() {
    with_pair(1, |lab| {
        let first = open(lab, XdpMode::Auto);
        let second = XdpLink::open(&lab.interface(), &XdpOptions::default());
        let said = second.unwrap_err().to_string();
        assert!(said.contains("XDP program \"insession\""), "{said}");
        drop(first);
        open(lab, XdpMode::Auto);
    });
}

#[test]
fn nothing_is_left_after_a_link() {
    with_pair(2, |lab| {
        for mode in [XdpMode::Native, XdpMode::Generic, XdpMode::Auto] {
            let link = open(lab, mode);
            assert_ne!(lab.attached(), 0);
            drop(link);
            assert_eq!(lab.attached(), 0);
        }
    });
}

const HOLD: &str = "INSESSION_TEST_HOLD";

/// A killed owner leaves nothing attached, and its queues are to be had again.
#[test]
fn killed_owner_leaves_nothing() {
    if std::env::var_os(HOLD).is_some() {
        // The owner: this test again, in a process of its own.
        let _link = XdpLink::open(&interface(crate::lab::NEAR), &XdpOptions::default()).unwrap();
        println!("{HOLD}");
        loop {
            std::thread::park();
        }
    }
    with_pair(2, |lab| {
        for round in 0..20 {
            kill_an_owner(lab);
            assert_eq!(lab.attached(), 0, "round {round}");
            let link = open(lab, XdpMode::Auto);
            assert_eq!(link.info().mode, Some("native"));
        }
    });
}

fn kill_an_owner(lab: &Lab) {
    // It inherits this thread's namespace.
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owners::killed_owner_leaves_nothing"])
        .args(["--nocapture", "--test-threads=1"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap());
    let holds = said
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains(HOLD));
    let attached = lab.attached();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(holds && attached != 0, "it did not hold the link");
}

/// Sets this thread's effective capabilities to all but these.
fn without(capabilities: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // _LINUX_CAPABILITY_VERSION_3; 0 is this thread.
    let mut header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    // Low and high words of effective, permitted, inheritable.
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: both structures are the kernel's, of this version.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut sets) };
    assert_eq!(answer, 0);
    for bit in capabilities {
        sets[*bit as usize / 32][0] &= !(1 << (bit % 32));
    }
    // SAFETY: as above.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    assert_eq!(answer, 0);
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

#[test]
fn missing_capability_is_named() {
    for (dropped, named) in [
        (&[CAP_BPF, CAP_SYS_ADMIN][..], "CAP_BPF is missing"),
        (
            &[CAP_NET_ADMIN, CAP_SYS_ADMIN][..],
            "CAP_NET_ADMIN is missing",
        ),
        (&[CAP_NET_RAW][..], "CAP_NET_RAW is missing"),
    ] {
        with_pair(1, |lab| {
            let interface = lab.interface();
            without(dropped);
            let error = XdpLink::open(&interface, &XdpOptions::default()).unwrap_err();
            assert!(matches!(error, LinkError::NotPermitted { .. }), "{error}");
            assert!(error.to_string().contains(named), "{error}");
        });
    }
}

/// Sets the soft limit of locked memory, up to the hard one.
fn limit_locked_memory(octets: u64) {
    // SAFETY: plain data, for which zero is a value.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: writes `limit`.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    limit.rlim_cur = octets.min(limit.rlim_max);
    // SAFETY: reads `limit`.
    let answer = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Three capabilities are enough, if memory may be locked. The limit is the whole
/// process's, but counts without CAP_IPC_LOCK only: no other test feels it.
#[test]
fn low_limit_of_locked_memory_is_named() {
    with_pair(1, |lab| {
        let interface = lab.interface();
        let small = XdpOptions {
            tx_frames: 64,
            rx_frames: 64,
            ..XdpOptions::default()
        };
        let others: Vec<u32> = (0..41)
            .filter(|bit| ![CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF].contains(bit))
            .collect();
        without(&others);
        limit_locked_memory(4 << 20);
        drop(XdpLink::open(&interface, &small).unwrap());
        limit_locked_memory(64 << 10);
        let error = XdpLink::open(&interface, &small).unwrap_err();
        assert!(matches!(error, LinkError::NotPermitted { .. }), "{error}");
        assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    });
}
