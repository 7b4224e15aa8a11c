//! Names that the loader and the XDP program must agree on.

/// The program's function (and section) name.
pub const PROGRAM: &str = "insession";
/// An empty program, to measure beside it; never attached.
pub const EMPTY: &str = "empty";
/// The program that measures it (see [`crate::yardstick`]); never attached.
pub const YARDSTICK: &str = "yardstick";
/// `Array<Bucket>`, mapped by its writer: exact IPv4 flows.
pub const FLOW_BUCKETS: &str = "FLOW_BUCKETS";
/// `Array<Bucket>`, mapped by its writer: remote ends of IPv4 that some live flow
/// goes to.
pub const PEER_BUCKETS: &str = "PEER_BUCKETS";
/// `HashMap<FlowKeyV4, SessionId>`: exact IPv4 flows that do not fit their bucket.
pub const FLOWS_V4: &str = "FLOWS_V4";
/// `HashMap<FlowKeyV6, SessionId>`: exact IPv6 flows.
pub const FLOWS_V6: &str = "FLOWS_V6";
/// `HashMap<PeerKey, u32>`: remote ends that some live flow goes to; of IPv4 those
/// that do not fit their bucket.
pub const PEERS: &str = "PEERS";
/// `HashMap<[u8; 16], u32>`: local addresses that some live flow has, IPv4 in the
/// IPv4-mapped form.
pub const LOCALS: &str = "LOCALS";
/// `Array<u32>` of 65,536: whether some live flow uses this local port.
pub const PORTS: &str = "PORTS";
/// `XskMap`: queue number → AF_XDP socket.
pub const SOCKETS: &str = "SOCKETS";
/// `Array<crate::live::Slot>`, mapped by its writer: frames that the program sends,
/// [`crate::live::SLOTS`] a sender.
pub const LIVE_SLOTS: &str = "LIVE_SLOTS";
/// `Array<u64>`, mapped: how many of its slots each sender's runs have taken.
pub const LIVE_TAKEN: &str = "LIVE_TAKEN";
/// `DevMap` of one: the interface by which the program sends.
pub const LIVE_DEVICE: &str = "LIVE_DEVICE";
/// `PerCpuArray<u64>`: one counter a [`crate::counters::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Load-time constant (`u16`): the first local port of ours.
pub const PORT_FIRST: &str = "PORT_FIRST";
/// Load-time constant (`u16`): the last local port of ours.
pub const PORT_LAST: &str = "PORT_LAST";
/// Load-time constant (`u32`): the index of the interface that frames seem to come
/// from which the program is to send, the loopback's; 0, the default: there are none.
pub const LIVE_FROM: &str = "LIVE_FROM";
/// Load-time constant ([`crate::bucket::Key`]): the buckets' secret.
pub const BUCKET_KEY: &str = "BUCKET_KEY";
/// Load-time constant (`u32`): how many [`FLOW_BUCKETS`] there are, less one.
pub const FLOW_MASK: &str = "FLOW_MASK";
/// Load-time constant (`u32`): how many [`PEER_BUCKETS`] there are, less one.
pub const PEER_MASK: &str = "PEER_MASK";
/// Load-time constant (`u8`): 1 for rare diagnostics in aya-log's format and
/// map (`AYA_LOGS`); 0, the default, leaves them out of the program.
pub const LOG: &str = "LOG";
/// Load-time constant (`u8`): what makes a frame ours.
pub const STEERING: &str = "STEERING";
/// [`STEERING`]: its exact flow. The default.
pub const STEERING_FLOW: u8 = 0;
/// [`STEERING`]: its local port, whoever sent it.
pub const STEERING_PORT_RANGE: u8 = 1;
/// Load-time constant (`u8`): 1 where there are flows of probes that stand alone
/// ([`crate::steer::Flows::alone`]); 0 is the default.
pub const ALONE: &str = "ALONE";
/// Load-time constant (`u16`): [`crate::steer::Flows::blocks`].
pub const BLOCKS: &str = "BLOCKS";
