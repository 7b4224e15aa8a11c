//! How a link is opened: what may be chosen, and what is chosen unasked.

use std::ops::RangeInclusive;

use super::flow_maps::Steering;
use crate::link::flows::Alone;

/// Where the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, or else generically.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's receive path: any driver, slower.
    Generic,
}

/// Whether the driver works on our frames directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Where the driver and the kernel are known to do it well, and the driver agrees.
    #[default]
    Auto,
    /// Yes, or an error.
    On,
    /// No.
    Off,
}

/// How frames go out in copy mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transmission {
    /// As live frames where nothing is lost by it: over veth, if its other end takes
    /// redirected frames (has an XDP program, or GRO). By the TX ring elsewhere.
    #[default]
    Auto,
    /// By AF_XDP's TX ring.
    Ring,
    /// By the XDP program, run over live frames (Linux 5.18), or an error: no socket
    /// buffer a frame. The driver drops what it has no room for, and does not tell.
    Live,
}

/// Whether frames lie in huge pages (2 MiB): fewer misses of the TLB, and fewer
/// pages for the kernel to pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Where free ones are reported (`HugePages_Free` of /proc/meminfo), and can
    /// be had; ordinary pages otherwise.
    #[default]
    Auto,
    /// Yes, or an error.
    On,
    /// No.
    Off,
}

/// How to open an [`super::XdpLink`].
#[derive(Clone, Debug)]
pub struct XdpOptions {
    /// Where the program is attached.
    pub mode: XdpMode,
    /// Whether the driver works on our frames directly.
    pub zero_copy: ZeroCopy,
    /// The local ports of ours; what comes for others is not even looked up.
    pub ports: RangeInclusive<u16>,
    /// How many flows of each family can be steered at a time.
    pub flows: u32,
    /// Frames to send from; rounded up to a power of two.
    pub tx_frames: u32,
    /// Frames to receive into, for every queue; rounded up to a power of two. On
    /// NICs of many queues fewer: 64 MiB are shared by all, as far as that
    /// leaves 1,024 a queue.
    pub rx_frames: u32,
    /// How many queues to use, counted from 0; `None`: all. A socket gets only what
    /// its own queue receives: with fewer than all, the interface has to be set up
    /// to spread replies over these only (`ethtool -X DEVICE equal N`).
    pub queues: Option<u32>,
    /// Busy polling, with so many frames at a time (`SO_PREFER_BUSY_POLL`,
    /// `SO_BUSY_POLL_BUDGET`): [`crate::link::Link::wait`] drives the driver's NAPI
    /// instead of sleeping until an interrupt, and keeps its processor busy all the
    /// while. On drivers that give sockets no NAPI to poll (seen: veth, Linux 6.18)
    /// it only spins. `None`: interrupts.
    pub busy_poll: Option<u32>,
    /// Bind with `XDP_USE_NEED_WAKEUP`: the kernel says when it wants a call.
    /// Without it every flush calls.
    pub need_wakeup: bool,
    /// How frames go out in copy mode.
    pub transmission: Transmission,
    /// Whether frames lie in huge pages.
    pub huge_pages: HugePages,
    /// By what the program tells which frames are ours.
    pub steering: Steering,
    /// Which probes it steers the answers of, beside those inside connections.
    pub alone: Alone,
    /// Has the program log rare events, to the `log` crate (`tracing` hears it).
    pub program_log: bool,
}

impl Default for XdpOptions {
    fn default() -> Self {
        XdpOptions {
            mode: XdpMode::Auto,
            zero_copy: ZeroCopy::Auto,
            // Above the default ip_local_port_range.
            ports: 61_000..=65_535,
            flows: 65_536,
            tx_frames: 2048,
            // What arrives while the thread does not run (milliseconds, on a busy
            // host) must find room: 2048 lost replies of 1,900 sessions.
            rx_frames: 8192,
            queues: None,
            busy_poll: None,
            need_wakeup: true,
            transmission: Transmission::Auto,
            huge_pages: HugePages::Auto,
            steering: Steering::Flow,
            alone: Alone::NONE,
            program_log: false,
        }
    }
}

/// Fewer frames a queue than this drop replies at any pace worth having AF_XDP for.
pub(super) const FEWEST_RX: u32 = 1024;

/// Frames of all queues together: replies are spread over queues, and what is
/// not moved by more of them is locked memory (2 KiB each).
const RX_TOTAL: u32 = 32_768;

/// How many frames each of so many queues receives into.
pub(super) fn rx_frames(wanted: u32, queues: u32) -> u32 {
    let share = (RX_TOTAL / queues.max(1)).max(FEWEST_RX);
    size(wanted).min(1 << share.ilog2())
}

/// What a ring may have.
pub(super) fn size(frames: u32) -> u32 {
    frames.clamp(64, 65_536).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_queues_share_the_memory_for_frames() {
        let each = [1, 4, 5, 16, 32, 128].map(|queues| rx_frames(8192, queues));
        assert_eq!(each, [8192, 8192, 4096, 2048, 1024, 1024]);
        assert_eq!([rx_frames(64, 1), rx_frames(100, 128)], [64, 128]);
        assert_eq!(rx_frames(60_000, 1), 32_768);
    }
}
