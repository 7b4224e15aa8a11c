//! Names that the loader and the XDP program must agree on.

/// The program's function (and section) name.
pub const PROGRAM: &str = "insession";
/// `HashMap<FlowKeyV4, SessionId>`: exact IPv4 flows.
pub const FLOWS_V4: &str = "FLOWS_V4";
/// `HashMap<FlowKeyV6, SessionId>`: exact IPv6 flows.
pub const FLOWS_V6: &str = "FLOWS_V6";
/// `HashMap<PeerKey, u32>`: remote ends and how many live flows go there.
pub const PEERS: &str = "PEERS";
/// `HashMap<[u8; 16], u32>`: local addresses, IPv4 in the IPv4-mapped form, and
/// how many live flows have them.
pub const LOCALS: &str = "LOCALS";
/// `Array<u32>` of 65,536: how many live flows use this local port.
pub const PORTS: &str = "PORTS";
/// `XskMap`: queue number → AF_XDP socket.
pub const SOCKETS: &str = "SOCKETS";
/// `PerCpuArray<u64>`: one counter a [`crate::counters::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Load-time constant (`u16`): the first local port of ours.
pub const PORT_FIRST: &str = "PORT_FIRST";
/// Load-time constant (`u16`): the last local port of ours.
pub const PORT_LAST: &str = "PORT_LAST";
/// Load-time constant (`u8`): 1 for rare diagnostics in aya-log's format and
/// map (`AYA_LOGS`); 0, the default, leaves them out of the program.
pub const LOG: &str = "LOG";
