//! Why a link fails. Every message names the thing, the reason and the mend.

/// Why a link fails.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No such interface.
    #[error("interface {0:?}: no such interface; `ip link` lists them")]
    NoInterface(String),
    /// The kernel does not permit it.
    #[error("{what}: {reason}; {mend}")]
    NotPermitted {
        /// What was tried.
        what: String,
        /// Which gate is closed: a capability, an LSM, a limit.
        reason: String,
        /// How to open it.
        mend: String,
    },
    /// More memory for frames than may be locked. The kernel says "no buffer
    /// space" and means RLIMIT_MEMLOCK.
    #[error(
        "{what}: {octets} octets are more than may be locked (RLIMIT_MEMLOCK); raise it (`ulimit -l`, LimitMEMLOCK=), or add CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// What was tried.
        what: String,
        /// How much it would have been.
        octets: u64,
    },
    /// The interface, its driver or the kernel cannot do it.
    #[error("{what}: {reason}; {mend}")]
    Unsupported {
        /// What was tried.
        what: String,
        /// What is missing, and since which kernel it exists.
        reason: String,
        /// What to do instead.
        mend: String,
    },
    /// Somebody else's.
    #[error("interface {interface}: {owner} is attached already; {mend}")]
    Occupied {
        /// The interface.
        interface: String,
        /// Who holds it: the XDP program's name and id, or the queue's owner.
        owner: String,
        /// What to do.
        mend: String,
    },
    /// The flow is steered already.
    #[error("the flow is in use already")]
    FlowTaken,
    /// No room for another frame before the next flush.
    #[error("the transmit ring is full")]
    Full,
    /// The interface went down or away.
    #[error("interface {0}: it went down; set it up again and run once more")]
    Down(String),
    /// Frames handed to the NIC did not come back.
    #[error(
        "interface {interface}: {frames} frames were not given back by the driver for {seconds} s; {mend}"
    )]
    Stalled {
        /// The interface.
        interface: String,
        /// How many are out.
        frames: usize,
        /// For how long.
        seconds: u64,
        /// What to do.
        mend: &'static str,
    },
    /// Any other system call that failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, with the name of what it was tried on.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
