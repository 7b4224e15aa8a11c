//! Two network namespaces and a veth pair between them, for one test.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use insession::net::Interface;

/// Our end of the veth pair.
pub const NEAR: &str = "ixdp0";
/// The peer's.
pub const FAR: &str = "ixdp1";

pub const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The namespaces; the thread is in ours.
pub struct Lab {
    near: File,
    far: File,
}

/// Runs `test` in a thread of its own with a pair of so many queues.
pub fn with_pair(queues: u32, test: impl FnOnce(&Lab) + Send) {
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| test(&Lab::new(queues))).join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Lab {
    fn new(queues: u32) -> Self {
        let far = new_namespace();
        let near = new_namespace();
        let lab = Lab { near, far };
        let far = format!("/proc/{}/fd/{}", std::process::id(), lab.far.as_raw_fd());
        ip(&format!(
            "link add {NEAR} address 02:00:00:00:00:01 numtxqueues {queues} numrxqueues {queues} type veth \
             peer name {FAR} address 02:00:00:00:00:02 numtxqueues {queues} numrxqueues {queues} netns {far}"
        ));
        ip(&format!("addr add 10.77.0.1/24 dev {NEAR}"));
        ip(&format!("link set {NEAR} up"));
        lab.far(|| {
            ip("link set lo up");
            ip(&format!("addr add 10.77.0.2/24 dev {FAR}"));
            ip(&format!("link set {FAR} up"));
        });
        lab
    }

    /// Runs `work` in the peer's namespace; sockets made there stay there.
    pub fn far<T>(&self, work: impl FnOnce() -> T) -> T {
        enter(&self.far);
        let result = work();
        enter(&self.near);
        result
    }

    /// Has the peer's end take redirected frames from ours, or not: it does while it has
    /// an XDP program.
    pub fn far_takes_redirected(&self, takes: bool) {
        self.far(|| {
            let program = passing_program(c"far");
            let xdp = libbpf_rs::Xdp::new(std::os::fd::AsFd::as_fd(&program));
            let index = interface(FAR).index as i32;
            let flags = libbpf_rs::XdpFlags::DRV_MODE;
            let done = match takes {
                true => xdp.attach(index, flags),
                false => xdp.detach(index, flags),
            };
            done.unwrap();
        });
    }

    /// Our end.
    pub fn interface(&self) -> Interface {
        interface(NEAR)
    }

    /// A packet socket on the peer's end.
    pub fn far_socket(&self, ethertype: u16) -> PacketSocket {
        self.far(|| PacketSocket::new(FAR, ethertype))
    }

    /// The id of the XDP program on our end, 0 for none.
    pub fn attached(&self) -> u32 {
        let index = self.interface().index as i32;
        // Any descriptor: a query does not use it.
        libbpf_rs::Xdp::new(std::os::fd::AsFd::as_fd(&self.near))
            .query_id(index, libbpf_rs::XdpFlags::NONE)
            .unwrap()
    }
}

/// A program that passes everything, under a name of its own.
pub fn passing_program(name: &std::ffi::CStr) -> OwnedFd {
    // r0 = XDP_PASS; exit
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    // SAFETY: code, name and licence are valid for the call.
    let descriptor = unsafe {
        libbpf_rs::libbpf_sys::bpf_prog_load(
            libbpf_rs::libbpf_sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
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

pub fn interface(name: &str) -> Interface {
    let terminated = std::ffi::CString::new(name).unwrap();
    // SAFETY: a terminated name.
    let index = unsafe { libc::if_nametoindex(terminated.as_ptr()) };
    assert_ne!(index, 0, "{name}");
    Interface {
        index,
        name: name.into(),
    }
}

fn new_namespace() -> File {
    // SAFETY: no memory is passed; concerns this thread only.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn enter(namespace: &File) {
    // SAFETY: no memory is passed; concerns this thread only.
    let answer = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}

/// `ip` in this thread's namespace.
pub fn ip(arguments: &str) {
    if let Err(said) = try_ip(arguments) {
        panic!("ip {arguments}: {said}");
    }
}

/// Gives an interface another name. Before Linux 6.2 one that is up keeps its
/// name (EBUSY): there it is down for that moment.
pub fn rename(interface: &str, name: &str) {
    let command = format!("link set {interface} name {name}");
    match try_ip(&command) {
        Ok(()) => {}
        Err(said) if said.contains("Device or resource busy") => {
            println!("renamed while down: {}", said.trim());
            ip(&format!("link set {interface} down"));
            ip(&command);
            ip(&format!("link set {name} up"));
        }
        Err(said) => panic!("ip {command}: {said}"),
    }
}

/// What `ip` says against it, in case.
fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// AF_PACKET on one interface and ethertype.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    fn new(name: &str, ethertype: u16) -> Self {
        let protocol = ethertype.to_be();
        // SAFETY: no memory is passed.
        let descriptor = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        assert!(descriptor >= 0, "{}", io::Error::last_os_error());
        // SAFETY: fresh, and nobody else's.
        let socket = PacketSocket(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // A burst waits here until the test reads it.
        socket.set(libc::SO_RCVBUFFORCE, &(64i32 << 20));
        socket.timeout(5_000);
        // SAFETY: plain data, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = interface(name).index as i32;
        // SAFETY: reads `address`, whose size is given.
        let answer = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
        socket
    }

    fn set<T>(&self, option: i32, value: &T) {
        // SAFETY: reads `value`, whose size is given.
        let answer = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
            )
        };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    }

    /// How long [`PacketSocket::receive`] waits at most.
    pub fn timeout(&self, millis: i64) {
        self.set(
            libc::SO_RCVTIMEO,
            &libc::timeval {
                tv_sec: millis / 1000,
                tv_usec: millis % 1000 * 1000,
            },
        );
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: reads `frame`, whose size is given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame; `None` after the time-out.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4096];
        // SAFETY: writes into `frame`, whose size is given.
        let length = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
            )
        };
        frame.truncate(usize::try_from(length).ok()?);
        Some(frame)
    }
}
