//! Who holds the interface, and who may: other programs, killed owners, missing
//! permissions.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use insession::link::xdp::{XdpLink, XdpMode, XdpOptions};
use insession::link::{Link, LinkError};

use crate::lab::{Lab, interface, passing_program, with_pair};
use crate::open;

#[test]
fn another_program_is_named_and_left_alone() {
    for flags in [libbpf_rs::XdpFlags::DRV_MODE, libbpf_rs::XdpFlags::SKB_MODE] {
        with_pair(1, |lab| {
            let program = passing_program(c"firewall");
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

/// An AF_XDP socket of another program on queue 0 of our end, sending only, and
/// its memory.
struct OtherSocket {
    _socket: OwnedFd,
    memory: Box<Memory>,
}

#[repr(align(4096))]
struct Memory([u8; 4096]);

impl OtherSocket {
    fn new(interface: u32) -> Self {
        // SAFETY: no memory is passed.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: fresh, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let memory = Box::new(Memory([0; 4096]));
        let umem = libc::xdp_umem_reg {
            addr: memory.0.as_ptr() as u64,
            len: 4096,
            chunk_size: 4096,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &umem);
        set(&socket, libc::XDP_UMEM_FILL_RING, &1u32);
        set(&socket, libc::XDP_UMEM_COMPLETION_RING, &1u32);
        set(&socket, libc::XDP_TX_RING, &1u32);
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: 0,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: reads `address`, whose size is given.
        let answer = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        OtherSocket {
            _socket: socket,
            memory,
        }
    }
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) {
    // SAFETY: reads `value`, whose size is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn queue_of_another_program_is_named() {
    with_pair(1, |lab| {
        let other = OtherSocket::new(lab.interface().index);
        let error = XdpLink::open(&lab.interface(), &XdpOptions::default()).unwrap_err();
        assert!(matches!(error, LinkError::Occupied { .. }), "{error}");
        assert!(error.to_string().contains("on queue 0"), "{error}");
        assert_eq!(lab.attached(), 0, "a failed start leaves nothing");
        assert_eq!(other.memory.0, [0; 4096]);
    });
}

/// A dead owner's socket may outlive it for some time.
#[test]
fn queue_that_becomes_free_in_time_is_taken() {
    with_pair(1, |lab| {
        let other = OtherSocket::new(lab.interface().index);
        // SAFETY: no memory is passed.
        let opener = unsafe { libc::gettid() };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Opening sleeps only where it has found the queue busy.
                let now = format!("/proc/self/task/{opener}/syscall");
                let sleeps = format!("{} ", libc::SYS_clock_nanosleep);
                let started = std::time::Instant::now();
                while started.elapsed().as_secs() < 10
                    && !std::fs::read_to_string(&now).is_ok_and(|call| call.starts_with(&sleeps))
                {
                    std::thread::yield_now();
                }
                drop(other);
            });
            open(lab, XdpMode::Auto);
        });
    });
}

const HOLD: &str = "INSESSION_TEST_HOLD";

/// A killed owner leaves nothing attached, and its queues are to be had again.
#[test]
fn killed_owner_leaves_nothing() {
    if std::env::var_os(HOLD).is_some() {
        // The owner: this test again, in a process of its own.
        let near = interface(crate::lab::NEAR);
        let _links = XdpLink::open_queues(&near, &XdpOptions::default()).unwrap();
        println!("{HOLD}");
        loop {
            std::thread::park();
        }
    }
    with_pair(2, |lab| {
        for round in 0..20 {
            kill_an_owner(lab);
            assert_eq!(lab.attached(), 0, "round {round}");
            let links = XdpLink::open_queues(&lab.interface(), &XdpOptions::default()).unwrap();
            assert_eq!(links.len(), 2);
            assert_eq!(links[0].info().mode, Some("native"));
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

/// Leaves the three that are enough, and more if need be.
pub fn without_all_but_three(more: &[u32]) {
    let others: Vec<u32> = (0..41)
        .filter(|bit| ![CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF].contains(bit) && !more.contains(bit))
        .collect();
    without(&others);
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
/// Memory may be locked without a limit.
pub const CAP_IPC_LOCK: u32 = 14;
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
        without_all_but_three(&[]);
        limit_locked_memory(4 << 20);
        drop(XdpLink::open(&interface, &small).unwrap());
        // 8192 frames of 2 KiB are 16 MiB; fewer are taken, and it works.
        let many = XdpOptions {
            tx_frames: 64,
            rx_frames: 8192,
            ..XdpOptions::default()
        };
        drop(XdpLink::open(&interface, &many).unwrap());
        limit_locked_memory(64 << 10);
        let error = XdpLink::open(&interface, &small).unwrap_err();
        assert!(matches!(error, LinkError::LockedMemory { .. }), "{error}");
        assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    });
}
