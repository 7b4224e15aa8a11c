//! The XDP program: loaded, attached, fed with flows, asked for counters.
//!
//! Attached by bpf_link: the kernel detaches when the last descriptor is closed,
//! so also when this process dies in whatever way.

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use aya::maps::{MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpLink as Attachment, XdpMode as AttachMode};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use insession_common::counters::Counter;
use insession_common::flow::{FlowKey, SessionId};
use insession_common::live::SLOTS;
use insession_common::names;

use super::device::Device;
use super::flow_maps::{FlowMaps, Room};
use super::live::{self, Live};
use super::object::OBJECT;
use super::{Steering, Transmission, XdpMode, XdpOptions};
use crate::link::LinkError;
use crate::link::permit::{self, BPF, NET_ADMIN};

/// How long a program of ours that is attached already may take to go: its
/// killed owner's descriptors are closed while a successor starts.
const OWNER_GONE: Duration = Duration::from_secs(2);

/// How the program is attached, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// In the driver.
    Native,
    /// In the kernel's receive path, after the driver.
    Generic,
}

impl Attached {
    pub(super) fn name(self) -> &'static str {
        match self {
            Attached::Native => "native",
            Attached::Generic => "generic",
        }
    }
}

/// The program on its interface.
pub(super) struct Program {
    // First: detaches before anything else is closed.
    _link: FdLink,
    attached: Attached,
    /// What links send by that send by the program, until they take it.
    live: Vec<Live>,
    flows: FlowMaps,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    /// Hands what the program logged to the `log` crate's logger.
    log: Option<Box<dyn FnMut() + Send>>,
    interface: String,
    _ebpf: Ebpf,
}

impl Program {
    /// Loads the program and attaches it; at most `senders` links are to send by it.
    pub(super) fn open(
        device: &mut Device,
        options: &XdpOptions,
        senders: u32,
    ) -> Result<Self, LinkError> {
        let interface = device.name().to_owned();
        let what = format!("interface {interface}: XDP program");
        let (first, last) = (*options.ports.start(), *options.ports.end());
        let log = u8::from(options.program_log);
        let steering = options.steering.constant();
        // Steered by port range, nothing is looked up but ports.
        let flows = match options.steering {
            Steering::Flow => options.flows.max(1),
            Steering::PortRange => 1,
        };
        // Each flow may have a local address of its own, and both families share these.
        let room = Room::new(flows, flows, flows.saturating_mul(2));
        let senders = match live::is_wanted(device, options.transmission) {
            true if device.takes_redirected() => senders,
            true if options.transmission == Transmission::Live => {
                return Err(live::refused(&interface));
            }
            _ => 0,
        };
        let alone = u8::from(options.alone.datagrams);
        let blocks = options.alone.blocks.unwrap_or(0);
        let live_from = if senders == 0 { 0 } else { live::LOOPBACK };
        let mut loader = EbpfLoader::new();
        loader
            .override_global(names::LIVE_FROM, &live_from, true)
            .map_max_entries(names::LIVE_SLOTS, senders.max(1) * SLOTS)
            .map_max_entries(names::LIVE_TAKEN, senders.max(1))
            .override_global(names::PORT_FIRST, &first, true)
            .override_global(names::PORT_LAST, &last, true)
            .override_global(names::STEERING, &steering, true)
            .override_global(names::ALONE, &alone, true)
            .override_global(names::BLOCKS, &blocks, true)
            .override_global(names::LOG, &log, true)
            .map_max_entries(names::SOCKETS, device.queues().max(64));
        room.set(&mut loader);
        let refused = |error: &(dyn Error + 'static)| refusal(&what, error);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error))?;
        let program = load(&mut ebpf, &what)?;
        let (link, attached) = attach(program, device, options.mode)?;
        let program_fd = program.fd().map_err(|error| refused(&error))?;
        let program_fd = program_fd.try_clone().map_err(|error| refused(&error))?;
        let log = if options.program_log {
            let mut logger =
                aya_log::EbpfLogger::init(&mut ebpf).map_err(|error| refused(&error))?;
            Some(Box::new(move || logger.flush()) as Box<dyn FnMut() + Send>)
        } else {
            None
        };
        let owner = format!("interface {interface}");
        let live = live::open(&mut ebpf, &owner, &program_fd, device, senders)?;
        Ok(Program {
            live,
            _link: link,
            attached,
            flows: FlowMaps::take(
                &mut ebpf,
                owner,
                options.steering,
                options.ports.clone(),
                &room,
            )?,
            sockets: map(&mut ebpf, names::SOCKETS)?,
            counters: map(&mut ebpf, names::COUNTERS)?,
            log,
            interface,
            _ebpf: ebpf,
        })
    }

    pub(super) fn attached(&self) -> Attached {
        self.attached
    }

    /// What the links send by, one after the other, if by the program.
    pub(super) fn take_live(&mut self) -> Vec<Live> {
        std::mem::take(&mut self.live)
    }

    /// Replies that arrive on this queue go to this socket.
    pub(super) fn set_socket(
        &mut self,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), LinkError> {
        self.sockets
            .set(queue, socket, 0)
            .map_err(|error| self.failed(names::SOCKETS, &error))
    }

    /// Steers a flow.
    pub(super) fn add_flow(&mut self, key: &FlowKey, session: SessionId) -> Result<(), LinkError> {
        self.flows.add(key, session)
    }

    /// Steers many flows, all or none.
    pub(super) fn add_flows(&mut self, flows: &[(FlowKey, SessionId)]) -> Result<(), LinkError> {
        self.flows.add_all(flows)
    }

    /// No longer.
    pub(super) fn remove_flow(&mut self, key: &FlowKey) {
        self.flows.remove(key);
    }

    /// The program's counters, summed over processors.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Counter::ALL.iter().map(|&counter| {
            let sum = self
                .counters
                .get(&(counter as u32), 0)
                .map_or(0, |values| values.iter().sum());
            (counter.label(), sum)
        })
    }

    /// Hands on what the program logged.
    pub(super) fn drain_log(&mut self) {
        if let Some(log) = &mut self.log {
            log();
        }
    }

    fn failed(&self, what: &str, error: &(dyn Error + 'static)) -> LinkError {
        refusal(&format!("interface {}: {what}", self.interface), error)
    }
}

/// Has the kernel verify the program.
fn load<'a>(ebpf: &'a mut Ebpf, what: &str) -> Result<&'a mut Xdp, LinkError> {
    /// include/linux/errno.h: not for user space, but given to it nevertheless.
    const ENOTSUPP: i32 = 524;
    let program: &mut Xdp = ebpf
        .program_mut(names::PROGRAM)
        .ok_or_else(|| absent(names::PROGRAM))?
        .try_into()
        .map_err(|error: ProgramError| refusal(what, &error))?;
    match program.load() {
        Ok(()) => Ok(program),
        // What the verifier of an older kernel says to a helper, an instruction
        // or a program size that it does not know.
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) if matches!(
            io_error.raw_os_error(),
            Some(libc::EINVAL | libc::E2BIG | ENOTSUPP)
        ) =>
        {
            tracing::debug!(%io_error, %verifier_log, "XDP program refused");
            Err(LinkError::Unsupported {
                what: what.to_owned(),
                reason: format!(
                    "this kernel's verifier refuses it ({io_error}); it needs Linux 5.18 (bpf_xdp_load_bytes)"
                ),
                mend: "use a newer kernel, or `--link packet`".into(),
            })
        }
        Err(error) => {
            tracing::debug!(%error, "XDP program not loaded");
            Err(refusal(what, &error))
        }
    }
}

/// Attaches natively or generically, whichever is asked for and possible.
fn attach(
    program: &mut Xdp,
    device: &Device,
    mode: XdpMode,
) -> Result<(FdLink, Attached), LinkError> {
    let interface = device.name();
    let what = format!("interface {interface}: XDP program, attaching it");
    let started = Instant::now();
    while let Some(other) = attached_to(program, device)? {
        // A killed instance of ours is still being taken down; anybody else stays.
        if !other.may_be_ours() || started.elapsed() > OWNER_GONE {
            return Err(other.occupies(interface));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let modes: &[AttachMode] = match mode {
        XdpMode::Auto => &[AttachMode::Driver, AttachMode::Skb],
        XdpMode::Native => &[AttachMode::Driver],
        XdpMode::Generic => &[AttachMode::Skb],
    };
    let mut refused = None;
    for &mode in modes {
        let error = match program.attach_to_if_index(device.index(), mode) {
            Ok(id) => {
                let link = program
                    .take_link(id)
                    .map_err(|error| refusal(&what, &error))?;
                return Ok((
                    by_bpf_link(link, program, device, mode)?,
                    read_back(program, device)?,
                ));
            }
            Err(error) => error,
        };
        match errno(&error) {
            Some(libc::EPERM | libc::EACCES) => return Err(refusal(&what, &error)),
            Some(libc::ENODEV | libc::ENXIO) => return Err(LinkError::Down(interface.into())),
            Some(libc::EBUSY | libc::EEXIST) => {
                // Somebody was faster, or the other mode is in use.
                return Err(match attached_to(program, device)? {
                    Some(other) => other.occupies(interface),
                    None => refusal(&what, &error),
                });
            }
            _ => {
                tracing::debug!(interface, ?mode, error = chain(&error), "XDP mode refused");
                refused = Some(error);
            }
        }
    }
    let reason = refused.map_or_else(String::new, |error| chain(&error));
    Err(LinkError::Unsupported {
        what,
        reason: match mode {
            XdpMode::Native => {
                format!("the driver does not do native XDP as it is set up ({reason})")
            }
            _ => reason,
        },
        mend: match mode {
            XdpMode::Native => "use `--xdp-mode auto`, or look at MTU, offloads and queues".into(),
            _ => "use `--link packet`".into(),
        },
    })
}

/// The link as a descriptor. Before 5.9 the kernel knows no bpf_link for XDP and
/// aya attaches by netlink, which would outlive us: undone, and an error.
fn by_bpf_link(
    link: Attachment,
    program: &Xdp,
    device: &Device,
    mode: AttachMode,
) -> Result<FdLink, LinkError> {
    FdLink::try_from(link).map_err(|_| {
        let flags = match mode {
            AttachMode::Skb => libbpf_rs::XdpFlags::SKB_MODE,
            _ => libbpf_rs::XdpFlags::DRV_MODE,
        };
        if let (Ok(fd), Ok(index)) = (program.fd(), i32::try_from(device.index())) {
            let _ = libbpf_rs::Xdp::new(fd.as_fd()).detach(index, flags);
        }
        LinkError::Unsupported {
            what: format!("interface {}: XDP program by bpf_link", device.name()),
            reason: "this kernel attaches by netlink only, which would leave the program behind; bpf_link for XDP exists since Linux 5.9".into(),
            mend: "use a newer kernel, or `--link packet`".into(),
        }
    })
}

/// In which mode the kernel has attached the program.
fn read_back(program: &Xdp, device: &Device) -> Result<Attached, LinkError> {
    let answer = query(program, device)?;
    match u32::from(answer.attach_mode) {
        libbpf_rs::libbpf_sys::XDP_ATTACHED_DRV => Ok(Attached::Native),
        libbpf_rs::libbpf_sys::XDP_ATTACHED_SKB => Ok(Attached::Generic),
        other => Err(LinkError::System {
            what: format!("interface {}: XDP program, its mode", device.name()),
            source: std::io::Error::other(format!("the kernel reports mode {other}")),
        }),
    }
}

/// A program on the interface.
struct Other {
    id: u32,
    /// Where listing programs is permitted (CAP_SYS_ADMIN).
    name: Option<String>,
}

impl Other {
    /// Where names are not to be had, it may be.
    fn may_be_ours(&self) -> bool {
        self.name
            .as_deref()
            .is_none_or(|name| name == names::PROGRAM)
    }

    fn occupies(self, interface: &str) -> LinkError {
        let Other { id, name } = self;
        let owner = match name {
            Some(name) => format!("XDP program {name:?} (id {id})"),
            None => format!("XDP program id {id}"),
        };
        LinkError::Occupied {
            interface: interface.into(),
            owner,
            mend: format!(
                "end its owner or detach it (`ip link set dev {interface} xdp off`), or use another interface"
            ),
        }
    }
}

/// The program that is attached to the interface, in whatever mode.
fn attached_to(program: &Xdp, device: &Device) -> Result<Option<Other>, LinkError> {
    let answer = query(program, device)?;
    let ids = [
        answer.prog_id,
        answer.drv_prog_id,
        answer.skb_prog_id,
        answer.hw_prog_id,
    ];
    Ok(ids.into_iter().find(|&id| id != 0).map(|id| Other {
        id,
        name: aya::programs::loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .and_then(|program| program.name_as_str().map(str::to_owned)),
    }))
}

fn query(
    program: &Xdp,
    device: &Device,
) -> Result<libbpf_rs::libbpf_sys::bpf_xdp_query_opts, LinkError> {
    let what = format!("interface {}: which XDP program it has", device.name());
    let fd = program.fd().map_err(|error| refusal(&what, &error))?;
    let index = i32::try_from(device.index())
        .map_err(|_| LinkError::NoInterface(device.name().to_owned()))?;
    libbpf_rs::Xdp::new(fd.as_fd())
        .query(index, libbpf_rs::XdpFlags::NONE)
        .map_err(|error| refusal(&what, &error))
}

pub(super) fn map<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, LinkError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| absent(name))?;
    T::try_from(map).map_err(|error| refusal(&format!("map {name}"), &error))
}

pub(super) fn absent(name: &str) -> LinkError {
    LinkError::System {
        what: format!("XDP object: {name}"),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

/// The error for what the kernel answered to a bpf(2) call.
pub(super) fn refusal(what: &str, error: &(dyn Error + 'static)) -> LinkError {
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => {
            permit::not_permitted(what.to_owned(), &[BPF, NET_ADMIN])
        }
        Some(libc::ENOSYS) => LinkError::Unsupported {
            what: what.to_owned(),
            reason: "the kernel is built without bpf(2)".into(),
            mend: "use `--link packet`".into(),
        },
        Some(number) => LinkError::System {
            what: format!("{what}: {}", chain(error)),
            source: std::io::Error::from_raw_os_error(number),
        },
        None => LinkError::System {
            what: what.to_owned(),
            source: std::io::Error::other(chain(error)),
        },
    }
}

/// The kernel's answer at the bottom of an error.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return Some(number);
        }
        if let Some(error) = error.downcast_ref::<libbpf_rs::Error>()
            && let Some(number) = libbpf_errno(error)
        {
            return Some(number);
        }
        next = error.source();
    }
    None
}

/// libbpf-rs keeps the number to itself; its kind names those that matter.
fn libbpf_errno(error: &libbpf_rs::Error) -> Option<i32> {
    match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => Some(libc::EPERM),
        libbpf_rs::ErrorKind::NotFound => Some(libc::ENODEV),
        _ => None,
    }
}

/// All that an error says, down to its cause.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_found_below() {
        let error = MapError::CreateError {
            name: "X".into(),
            io_error: std::io::Error::from_raw_os_error(libc::EPERM),
        };
        assert_eq!(errno(&aya::EbpfError::from(error)), Some(libc::EPERM));
        assert_eq!(errno(&MapError::KeyNotFound), None);
    }

    /// As kernels before 5.18 see `bpf_xdp_load_bytes`: a helper of a number they
    /// do not know.
    #[test]
    fn a_kernel_without_the_helper_is_unsupported() {
        const CALL: u8 = 0x85;
        const XDP_LOAD_BYTES: u8 = 189;
        let mut object = OBJECT.to_vec();
        let mut patched = 0;
        for instruction in object.chunks_exact_mut(8) {
            if instruction == [CALL, 0, 0, 0, XDP_LOAD_BYTES, 0, 0, 0] {
                instruction[5] = 0x7f;
                patched += 1;
            }
        }
        assert!(patched > 0);
        let loading = |object: &[u8]| {
            let mut ebpf = EbpfLoader::new().load(object).unwrap();
            load(&mut ebpf, "XDP program").map(|_| ())
        };
        loading(OBJECT).unwrap();
        let error = loading(&object).unwrap_err();
        assert!(matches!(error, LinkError::Unsupported { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("needs Linux 5.18"), "{text}");
        assert!(text.contains("--link packet"), "{text}");
        assert!(!text.contains('\n'), "the verifier's log: {text}");
    }
}
