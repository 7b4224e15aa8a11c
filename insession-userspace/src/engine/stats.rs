//! What a run counts while it goes: read by the progress bar.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

/// Counters and gauges of a run. Workers add once a batch, not once a packet.
#[derive(Debug, Default)]
pub struct Stats {
    /// Targets that have their record.
    pub finished: AtomicU64,
    /// Sessions open now (SYN sent, not yet closed).
    pub open: AtomicU64,
    /// Connections established now.
    pub established: AtomicU64,
    /// The most connections that were established at one moment.
    pub established_peak: AtomicU64,
    /// Packets sent.
    pub sent: AtomicU64,
    /// Probes sent.
    pub probes: AtomicU64,
    /// Replies received that belong to a session.
    pub replies: AtomicU64,
    /// Frames steered to us that no session claimed.
    pub unclaimed: AtomicU64,
    /// Frames steered to us that do not parse, or whose checksum is wrong.
    pub malformed: AtomicU64,
    /// The links' own counters, as last read (about ten times a second).
    pub link: Mutex<Vec<(&'static str, u64)>>,
}
