//! From an interface to links: the program attached, a socket on every queue.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use insession_common::live::SENDERS;

use super::device::{Device, State};
use super::options::{FEWEST_RX, rx_frames, size};
use super::program::{Attached, Program};
use super::shared::Shared;
use super::socket::{Copying, Queue, Setup};
use super::{XdpLink, XdpOptions, ZeroCopy, watch, zero_copy};
use super::{live, processors};
use crate::link::{Link, LinkError, kernel, sys};
use crate::net::{Interface, ports};

/// The most links on an interface: a session's number has five bits for its
/// worker.
const MOST_LINKS: usize = 32;
const _: () = assert!(MOST_LINKS <= SENDERS as usize);

impl XdpLink {
    /// Loads and attaches the XDP program, binds a socket on every queue, and
    /// waits for the carrier.
    ///
    /// The interface is that of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LinkError::NotPermitted`] with the gate that is closed,
    /// [`LinkError::Occupied`] with who holds the interface or a queue,
    /// [`LinkError::Unsupported`] with what is missing, and the others.
    pub fn open(interface: &Interface, options: &XdpOptions) -> Result<XdpLink, LinkError> {
        let links = Self::open_shared(interface, options, 1)?;
        // There is always one.
        links
            .into_iter()
            .next()
            .ok_or_else(|| LinkError::NoInterface(interface.name.clone()))
    }

    /// The same with a link for every queue, each to be used by a worker of its
    /// own: they share the program, nothing that is touched once a packet, and each
    /// sends through its own queue. Replies arrive at the link whose queue the
    /// interface chose, not at the one that added the flow.
    ///
    /// Behind 32 queues, a link has several. The program stays attached as long as
    /// one of them lives, and so do the queues of those that are gone: what still
    /// arrives there is lost, and not the kernel's to answer by RST.
    ///
    /// # Errors
    /// As [`XdpLink::open`].
    pub fn open_queues(
        interface: &Interface,
        options: &XdpOptions,
    ) -> Result<Vec<XdpLink>, LinkError> {
        Self::open_shared(interface, options, MOST_LINKS)
    }

    /// At most so many links, at least one, with all queues among them.
    ///
    /// # Errors
    /// As [`XdpLink::open`].
    pub fn open_shared(
        interface: &Interface,
        options: &XdpOptions,
        most: usize,
    ) -> Result<Vec<XdpLink>, LinkError> {
        let mut device = Device::open(interface)?;
        if device.state() == State::Down {
            return Err(LinkError::Down(interface.name.clone()));
        }
        live::check(options.transmission, options.zero_copy)?;
        let most = most.clamp(1, MOST_LINKS);
        let senders = device.queues().clamp(1, most as u32);
        let program = Program::open(&mut device, options, senders)?;
        let shared = Arc::new(Shared::new(program));
        let copying = copying(&device, shared.attached(), options.zero_copy)?;
        // The number of queues is asked after attaching, which may change it.
        let wanted = options.queues.unwrap_or(u32::MAX);
        let count = device.queues().min(wanted).max(1);
        let links = most.min(count as usize);
        // One worker runs wherever there is room for it.
        let processors = match links {
            1 => vec![None],
            _ => processors::of_queues(&interface.name, links),
        };
        let mut opened = Vec::with_capacity(links);
        for processor in processors {
            let shared = Arc::clone(&shared);
            opened.push(link(interface, shared, processor, options)?);
        }
        // They have the queues before the program knows them: where this fails,
        // their drop takes care of the order.
        let queues = open_queues(&device, options, copying, count, links)?;
        for (nth, queue) in queues.into_iter().enumerate() {
            if let Some(link) = opened.get_mut(nth % links) {
                link.queues.push(queue);
            }
        }
        for link in &mut opened {
            for queue in &link.queues {
                shared.program().set_socket(queue.number, queue.as_fd())?;
            }
            link.watch_queues();
        }
        for (link, live) in opened.iter_mut().zip(shared.program().take_live()) {
            // What the driver takes as it is needs no other way.
            let zero_copy = link.queues.iter().all(|queue| queue.zero_copy);
            link.live = (!zero_copy).then_some(live);
        }
        if let Some(first) = opened.first_mut() {
            first.wait_for_carrier()?;
            tracing::debug!(
                link = ?first,
                links,
                zero_copy = first.info().zero_copy,
                huge_pages = first.huge_pages(),
                live = first.live.is_some(),
                "opened"
            );
        }
        Ok(opened)
    }

    /// Has [`Link::wait`] end for what its queues receive.
    fn watch_queues(&mut self) {
        self.polled = self
            .queues
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain([self.waker.as_raw_fd()])
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
    }
}

/// A link without queues.
fn link(
    interface: &Interface,
    shared: Arc<Shared>,
    processor: Option<usize>,
    options: &XdpOptions,
) -> Result<XdpLink, LinkError> {
    let waker = sys::event().map_err(|source| LinkError::System {
        what: "eventfd".into(),
        source,
    })?;
    Ok(XdpLink {
        shared,
        queues: Vec::new(),
        counted: Vec::new(),
        processor,
        busy_poll: options.busy_poll,
        need_wakeup: options.need_wakeup,
        device: Device::open(interface)?,
        loopback: interface.is_loopback(),
        waker: Arc::new(waker),
        polled: Vec::new(),
        turn: 0,
        presence: watch::Presence::default(),
        progress: watch::Progress::default(),
        returned: false,
        held: ports::AskedOnce::new(kernel::running()),
        bad_stamps: 0,
        unknown_frames: 0,
        live: None,
        mixed: (false, false),
        live_sent: 0,
        unsent: 0,
    })
}

/// Sockets on the first `count` queues, those of the first `senders` with frames to
/// send from. With fewer frames to receive into where the limit of locked memory
/// does not allow as many as asked for.
fn open_queues(
    device: &Device,
    options: &XdpOptions,
    copying: Copying,
    count: u32,
    senders: usize,
) -> Result<Vec<Queue>, LinkError> {
    let mut rx = rx_frames(options.rx_frames, count);
    loop {
        let opened: Result<Vec<_>, _> = (0..count)
            .map(|number| {
                let tx = match (number as usize) < senders {
                    true => size(options.tx_frames),
                    false => 0,
                };
                let setup = Setup {
                    rx,
                    tx,
                    copying,
                    huge_pages: options.huge_pages,
                    busy_poll: options.busy_poll,
                    need_wakeup: options.need_wakeup,
                };
                Queue::open(device.name(), device.index(), number, setup)
            })
            .collect();
        match opened {
            Err(LinkError::LockedMemory { .. }) if rx > FEWEST_RX => {
                rx /= 2;
                tracing::info!(
                    interface = device.name(),
                    rx_frames = rx,
                    "locked memory is short (RLIMIT_MEMLOCK): fewer frames to receive into"
                );
            }
            opened => return opened,
        }
    }
}

/// Which kind of bind to ask for.
fn copying(device: &Device, attached: Attached, zero_copy: ZeroCopy) -> Result<Copying, LinkError> {
    match (zero_copy, attached) {
        // The driver would put packets into our frames that generic XDP never sees.
        (ZeroCopy::On, Attached::Generic) => Err(LinkError::Unsupported {
            what: format!("interface {}: zero-copy", device.name()),
            reason: "the XDP program is attached generically, behind the driver".into(),
            mend: "use `--xdp-mode native`, or `--zero-copy auto`".into(),
        }),
        (ZeroCopy::On, Attached::Native) => Ok(Copying::ZeroCopy),
        (ZeroCopy::Auto, Attached::Native)
            if zero_copy::is_trusted(device.driver().as_deref(), kernel::running()) =>
        {
            Ok(Copying::ZeroCopyOrCopy)
        }
        _ => Ok(Copying::Copy),
    }
}
