//! Somebody else's XDP program on an interface: passes everything.

use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::sys::{check, owned};

/// Its name, as `bpftool` and `ip link` show it.
pub const NAME: &str = "lab_foreign";

/// Attached while this lives.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
    _program: OwnedFd,
}

// linux/bpf.h.
const BPF_PROG_LOAD: i64 = 5;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct Create {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// r0 = XDP_PASS; exit.
const CODE: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

impl Foreign {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(lab: &Lab, node: &str, interface: &str) -> Result<Self> {
        lab.within(node, || Foreign::attach_here(interface))?
    }

    fn attach_here(interface: &str) -> Result<Self> {
        let mut name = [0_u8; 16];
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let license = c"GPL";
        let load = Load {
            kind: BPF_PROG_TYPE_XDP,
            instructions: u32::try_from(CODE.len())?,
            code: CODE.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log: [0; 2],
            version: 0,
            flags: 0,
            name,
            interface: 0,
            attach: BPF_XDP,
        };
        // SAFETY: the attribute and all it points to live until the call returns;
        // its size is given, what the kernel knows beyond is taken as zero.
        let program = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_LOAD,
                &raw const load,
                size_of::<Load>(),
            )
        };
        let program = owned(check(program).context("BPF_PROG_LOAD")?)?;
        let interface_name = std::ffi::CString::new(interface)?;
        // SAFETY: a NUL-terminated name.
        let index = unsafe { libc::if_nametoindex(interface_name.as_ptr()) };
        if index == 0 {
            bail!("{interface}: no such interface");
        }
        let create = Create {
            program: u32::try_from(program.as_raw_fd())?,
            interface: index,
            attach: BPF_XDP,
            flags: 0,
        };
        // SAFETY: as above.
        let link = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_LINK_CREATE,
                &raw const create,
                size_of::<Create>(),
            )
        };
        Ok(Foreign {
            _link: owned(check(link).context("BPF_LINK_CREATE")?)?,
            _program: program,
        })
    }
}
