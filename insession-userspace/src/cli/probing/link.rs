//! How frames get on and off the wire: the options of every subcommand that sends.

use clap::ValueEnum;

/// How frames get on and off the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct LinkArguments {
    /// How frames get on and off the wire; auto: xdp, or packet where BPF is not to be had
    #[arg(long, value_enum, value_name = "LINK", default_value = "auto")]
    pub link: LinkName,
    /// Where the XDP program sits: in the driver (native) or behind it (generic)
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub xdp_mode: XdpModeName,
    /// Zero-copy; auto: on drivers where it is known to work
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub zero_copy: ZeroCopyName,
    /// Live frames: without zero-copy, the XDP program sends; auto: over veth
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub live_frames: LiveFramesName,
}

/// `--link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LinkName {
    /// XDP, else packet where BPF is not permitted or not supported
    Auto,
    /// AF_XDP behind an XDP program
    Xdp,
    /// AF_PACKET, connections owned by the kernel
    Packet,
}

/// `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum XdpModeName {
    /// Native where the driver has it
    Auto,
    /// In the driver
    Native,
    /// In the stack, on any driver
    Generic,
}

/// `--zero-copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ZeroCopyName {
    /// On drivers and kernels where it is known to work
    Auto,
    /// Or fail
    On,
    /// Never
    Off,
}

/// `--live-frames`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LiveFramesName {
    /// Over veth, where the other end takes them
    Auto,
    /// Or fail; the driver drops what it has no room for, and does not tell
    On,
    /// By the socket's TX ring
    Off,
}
