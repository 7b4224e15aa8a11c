//! The maps that the XDP program steers by, and what this process knows of what
//! stands in them.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{HashMap, Map, MapData, MapError};
use aya::{Ebpf, EbpfLoader, Pod};
use insession_common::bucket::{self, FLOW, PEER};
use insession_common::flow::{FlowKey, FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, PeerKey, SessionId};
use insession_common::names;

use super::buckets::{self, Buckets, Ports};
use super::program::{absent, errno, map, refusal};
use crate::link::LinkError;
use crate::link::flows::{Changed, Counts, Fingerprints};
use crate::session::Flow;

/// By what the program tells which frames are ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By exact flow: an entry a session in the program's maps.
    #[default]
    Flow,
    /// By local port: what comes for a port in use is ours, whoever sends it,
    /// and its session is found in user space. No entries a session.
    PortRange,
}

impl Steering {
    /// The load-time constant of the program.
    pub(super) fn constant(self) -> u8 {
        match self {
            Steering::Flow => names::STEERING_FLOW,
            Steering::PortRange => names::STEERING_PORT_RANGE,
        }
    }
}

/// Does not replace: BPF_NOEXIST.
const NOEXIST: u64 = 1;

/// The value of [`names::PEERS`], [`names::LOCALS`] and [`names::PORTS`] for
/// what some live flow has.
const LIVE: u32 = 1;

/// How much room the maps have, and the secret that goes with it: what the program
/// is loaded with.
///
/// For a million IPv4 flows, each with a remote end of its own, the kernel's
/// memory is 34 octets a flow in buckets for flows and 17 in those for ends (up to
/// twice that, where their number is far below a power of two), and 11 octets in
/// each of the hash maps for an eighth of them.
#[derive(Debug)]
pub(super) struct Room {
    flows_v4: u32,
    flows_v6: u32,
    locals: u32,
    elsewhere_v4: u32,
    peers: u32,
    flow_buckets: u32,
    peer_buckets: u32,
    flow_mask: u32,
    peer_mask: u32,
    key: bucket::Key,
}

impl Room {
    /// For so many flows of each family, and so many local addresses.
    pub(super) fn new(flows_v4: u32, flows_v6: u32, locals: u32) -> Self {
        Self::with_buckets(
            flows_v4,
            flows_v6,
            locals,
            bucket::buckets(flows_v4, FLOW),
            bucket::buckets(flows_v4, PEER),
        )
    }

    fn with_buckets(
        flows_v4: u32,
        flows_v6: u32,
        locals: u32,
        flow_buckets: u32,
        peer_buckets: u32,
    ) -> Self {
        // Of flows that fall into buckets at random, at most 3.6 % do not fit.
        let elsewhere = (flows_v4 / 8 + 64).min(flows_v4.max(1));
        Room {
            flows_v4,
            flows_v6,
            locals,
            elsewhere_v4: elsewhere,
            peers: flows_v6.saturating_add(elsewhere),
            flow_buckets,
            peer_buckets,
            flow_mask: flow_buckets - 1,
            peer_mask: peer_buckets - 1,
            key: buckets::secret(),
        }
    }

    /// Has the maps made so.
    pub(super) fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global(names::BUCKET_KEY, &self.key, true)
            .override_global(names::FLOW_MASK, &self.flow_mask, true)
            .override_global(names::PEER_MASK, &self.peer_mask, true)
            .map_max_entries(names::FLOW_BUCKETS, self.flow_buckets)
            .map_max_entries(names::PEER_BUCKETS, self.peer_buckets)
            .map_max_entries(names::FLOWS_V4, self.elsewhere_v4)
            .map_max_entries(names::FLOWS_V6, self.flows_v6)
            .map_max_entries(names::PEERS, self.peers)
            .map_max_entries(names::LOCALS, self.locals);
    }
}

/// The maps of flows and their ends. This process is their only writer.
pub(super) struct FlowMaps {
    /// Whose they are, for errors.
    owner: String,
    steering: Steering,
    ports_ours: std::ops::RangeInclusive<u16>,
    flow_buckets: Buckets<FLOW>,
    peer_buckets: Buckets<PEER>,
    /// How many IPv4 flows there may be, and are.
    room_v4: u32,
    count_v4: u32,
    /// Those that do not fit their bucket.
    v4: HashMap<MapData, FlowKeyV4, SessionId>,
    v6: HashMap<MapData, FlowKeyV6, SessionId>,
    peers: HashMap<MapData, PeerKey, u32>,
    locals: HashMap<MapData, [u8; 16], u32>,
    ports: Ports,
    batched: Batched,
    /// The flows that are steered, which a batch cannot ask the kernel about:
    /// it takes no BPF_NOEXIST (`generic_map_update_batch`, kernel/bpf/syscall.c).
    flows: Fingerprints,
    counts: Counts,
}

/// The same maps, for libbpf.
struct Batched {
    v6: OwnedFd,
    peers: OwnedFd,
}

impl FlowMaps {
    /// Takes the maps out of an object that was loaded with this room.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        owner: String,
        steering: Steering,
        ports_ours: std::ops::RangeInclusive<u16>,
        room: &Room,
    ) -> Result<Self, LinkError> {
        let batched = Batched {
            v6: descriptor(ebpf, names::FLOWS_V6)?,
            peers: descriptor(ebpf, names::PEERS)?,
        };
        Ok(FlowMaps {
            flow_buckets: mapped(ebpf, &owner, names::FLOW_BUCKETS, |fd| {
                Buckets::map(fd, room.flow_buckets, room.key)
            })?,
            peer_buckets: mapped(ebpf, &owner, names::PEER_BUCKETS, |fd| {
                Buckets::map(fd, room.peer_buckets, room.key)
            })?,
            ports: mapped(ebpf, &owner, names::PORTS, Ports::map)?,
            owner,
            steering,
            ports_ours,
            room_v4: room.flows_v4,
            count_v4: 0,
            v4: map(ebpf, names::FLOWS_V4)?,
            v6: map(ebpf, names::FLOWS_V6)?,
            peers: map(ebpf, names::PEERS)?,
            locals: map(ebpf, names::LOCALS)?,
            batched,
            flows: Fingerprints::default(),
            counts: Counts::default(),
        })
    }

    /// Steers a flow. The exact entry comes first and goes last, so that a quote
    /// which is ours by peer or by port always finds its session if it can.
    ///
    /// Steered by port range, a flow has no entries of its own: its local port
    /// alone is marked.
    pub(super) fn add(&mut self, key: &FlowKey, session: SessionId) -> Result<(), LinkError> {
        self.check_port(key)?;
        if !self.flows.insert(key) {
            return Err(LinkError::FlowTaken);
        }
        if self.steering == Steering::Flow {
            let added = match key {
                FlowKey::V4(key) => self.add_v4(key, session),
                FlowKey::V6(key) => {
                    let added = self.v6.insert(*key, session, NOEXIST);
                    added.map_err(|error| self.not_added(errno(&error), &error))
                }
            };
            if let Err(error) = added {
                self.flows.remove(key);
                return Err(error);
            }
        }
        let changed = self.counts.add(key);
        let written = self.write(&changed, LIVE);
        if written.is_err() {
            // Undo what was done, so that a half-steered flow is none.
            self.remove(key);
        }
        written
    }

    fn add_v4(&mut self, key: &FlowKeyV4, session: SessionId) -> Result<(), LinkError> {
        if self.count_v4 >= self.room_v4 {
            return Err(self.full());
        }
        let (words, entry) = flow_entry(key, session);
        let number = self.flow_buckets.number(words);
        // What the buckets have no form for goes the other way, too.
        let has_form = key.protocol == PROTOCOL_TCP && bucket::is_live(entry[1]);
        if !has_form || !self.flow_buckets.insert(number, entry) {
            self.v4
                .insert(*key, session, NOEXIST)
                .map_err(|error| self.not_added(errno(&error), &error))?;
            self.flow_buckets.one_elsewhere(number);
        }
        self.count_v4 += 1;
        Ok(())
    }

    fn remove_v4(&mut self, key: &FlowKeyV4) -> Result<(), MapError> {
        let (words, entry) = flow_entry(key, 0);
        let number = self.flow_buckets.number(words);
        let is_tcp = key.protocol == PROTOCOL_TCP;
        if is_tcp && self.flow_buckets.remove(number, entry) {
            self.count_v4 -= 1;
        } else if self.flow_buckets.has_elsewhere(number) && gone(self.v4.remove(key))? {
            self.count_v4 -= 1;
            self.flow_buckets.one_less_elsewhere(number);
        }
        Ok(())
    }

    /// Marks a remote end as live, or no longer.
    fn set_peer(&mut self, peer: &PeerKey, live: u32) -> Result<(), MapError> {
        let Some((words, entry)) = peer_entry(peer) else {
            return set(&mut self.peers, *peer, live);
        };
        let number = self.peer_buckets.number(words);
        if live > 0 {
            if !self.peer_buckets.insert(number, entry) {
                self.peers.insert(peer, live, 0)?;
                self.peer_buckets.one_elsewhere(number);
            }
        } else if !self.peer_buckets.remove(number, entry)
            && self.peer_buckets.has_elsewhere(number)
            && gone(self.peers.remove(peer))?
        {
            self.peer_buckets.one_less_elsewhere(number);
        }
        Ok(())
    }

    /// Steers many flows, all or none: of IPv6 in a fraction of the system calls
    /// that one by one takes.
    pub(super) fn add_all(&mut self, flows: &[(FlowKey, SessionId)]) -> Result<(), LinkError> {
        let mut noted = 0;
        let mut refused = None;
        for (key, _) in flows {
            if let Err(error) = self.check_port(key) {
                refused = Some(error);
                break;
            }
            if !self.flows.insert(key) {
                refused = Some(LinkError::FlowTaken);
                break;
            }
            noted += 1;
        }
        if let Some(error) = refused {
            for (key, _) in flows.iter().take(noted) {
                self.flows.remove(key);
            }
            return Err(error);
        }
        let mut keys_v6: Keys<40> = Keys::default();
        let mut peers: Keys<20> = Keys::default();
        let mut written = Ok(());
        if self.steering == Steering::Flow {
            for (key, session) in flows {
                match key {
                    FlowKey::V4(key) => {
                        written = written.and_then(|()| self.add_v4(key, *session));
                    }
                    FlowKey::V6(key) => keys_v6.push(&key.bytes(), *session),
                }
            }
            written = written.and_then(|()| {
                let done = keys_v6.write(&self.batched.v6);
                done.map_err(|error| self.not_added(error.raw_os_error(), &error))
            });
        }
        for (key, _) in flows {
            let mut changed = self.counts.add(key);
            if self.steering == Steering::Flow
                && let Some(peer) = changed.peer.take_if(|peer| peer_entry(peer).is_none())
            {
                peers.push(&peer.bytes(), LIVE);
            }
            written = written.and_then(|()| self.write(&changed, LIVE));
        }
        let written = written.and_then(|()| {
            let done = peers.write(&self.batched.peers);
            done.map_err(|error| self.failed(names::PEERS, &error))
        });
        if written.is_err() {
            for (key, _) in flows {
                self.remove(key);
            }
        }
        written
    }

    /// No longer. Failures are not the caller's to mend: at worst a flow that is
    /// over stays steered until the program goes.
    pub(super) fn remove(&mut self, key: &FlowKey) {
        if !self.flows.remove(key) {
            return;
        }
        let changed = self.counts.remove(key);
        let written = self.write(&changed, 0);
        let removed = match (self.steering, key) {
            (Steering::PortRange, _) => Ok(()),
            (Steering::Flow, FlowKey::V4(key)) => self.remove_v4(key),
            (Steering::Flow, FlowKey::V6(key)) => gone(self.v6.remove(key)).map(|_| ()),
        };
        let removed = removed.map_err(|error| self.failed("a flow map", &error));
        if let Err(error) = written.and(removed) {
            tracing::debug!(%error, "a flow was not removed");
        }
    }

    fn check_port(&self, key: &FlowKey) -> Result<(), LinkError> {
        let port = key.local_port();
        if self.ports_ours.contains(&port) {
            return Ok(());
        }
        Err(LinkError::Unsupported {
            what: format!("source port {port}"),
            reason: format!(
                "the XDP program steers {} to {} only",
                self.ports_ours.start(),
                self.ports_ours.end()
            ),
            mend: "widen `--source-ports`".into(),
        })
    }

    /// Marks the ends that came into use as live, or those that went out of it
    /// as not.
    fn write(&mut self, changed: &Changed, live: u32) -> Result<(), LinkError> {
        if self.steering == Steering::Flow {
            if let Some(peer) = changed.peer {
                self.set_peer(&peer, live)
                    .map_err(|error| self.failed(names::PEERS, &error))?;
            }
            if let Some(local) = changed.local {
                set(&mut self.locals, local, live)
                    .map_err(|error| self.failed(names::LOCALS, &error))?;
            }
        }
        if let Some(port) = changed.port {
            self.ports.set(port, live);
        }
        Ok(())
    }

    fn not_added(&self, errno: Option<i32>, error: &(dyn Error + 'static)) -> LinkError {
        match errno {
            Some(libc::EEXIST) => LinkError::FlowTaken,
            Some(libc::E2BIG) => self.full(),
            _ => self.failed("a flow map", error),
        }
    }

    fn full(&self) -> LinkError {
        LinkError::Unsupported {
            what: format!("{}: one more flow", self.owner),
            reason: "the XDP program's flow map is full".into(),
            mend: "run with more flows, or with fewer sessions at a time".into(),
        }
    }

    fn failed(&self, what: &str, error: &(dyn Error + 'static)) -> LinkError {
        refusal(&format!("{}: {what}", self.owner), error)
    }
}

/// Marks an end as live; one that is not has no entry.
fn set<K: Pod>(map: &mut HashMap<MapData, K, u32>, key: K, live: u32) -> Result<(), MapError> {
    if live > 0 {
        return map.insert(key, live, 0);
    }
    gone(map.remove(&key)).map(|_| ())
}

/// An entry that was never written is as good as removed: its flow is being
/// undone. Whether there was one.
fn gone(removed: Result<(), MapError>) -> Result<bool, MapError> {
    match removed {
        Ok(()) => Ok(true),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A flow's words for the hash, and its entry, as the program makes them.
fn flow_entry(key: &FlowKeyV4, session: SessionId) -> ([u32; 3], [u64; FLOW]) {
    let remote = u32::from_ne_bytes(key.remote);
    let local = u32::from_ne_bytes(key.local);
    let ([a, b], [c, d]) = (key.remote_port, key.local_port);
    let ports = u32::from_ne_bytes([a, b, c, d]);
    (
        [remote, local, ports],
        bucket::flow(remote, local, ports, session),
    )
}

/// The same of a remote end of IPv4 and TCP; the buckets have no others.
fn peer_entry(key: &PeerKey) -> Option<([u32; 3], [u64; PEER])> {
    let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = key.remote else {
        return None;
    };
    let remote = u32::from_ne_bytes([a, b, c, d]);
    let port = u16::from_ne_bytes(key.remote_port);
    (key.protocol == PROTOCOL_TCP)
        .then(|| ([remote, u32::from(port), 0], bucket::peer(remote, port)))
}

/// Maps an array map into memory.
pub(super) fn mapped<T>(
    ebpf: &Ebpf,
    owner: &str,
    name: &'static str,
    map: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> Result<T, LinkError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(absent(name));
    };
    map(data.fd().as_fd()).map_err(|source| LinkError::System {
        what: format!("{owner}: map {name}, mapping it into memory"),
        source,
    })
}

/// The key of a flow.
pub(super) fn key(flow: &Flow) -> Result<FlowKey, LinkError> {
    FlowKey::new(flow.local, flow.remote, PROTOCOL_TCP).ok_or_else(|| LinkError::Unsupported {
        what: format!("flow {} to {}", flow.local, flow.remote),
        reason: "its ends are of two address families".into(),
        mend: "use a source address of the target's family".into(),
    })
}

/// A map's descriptor, for libbpf: by name or id only who has CAP_SYS_ADMIN can
/// open it once more.
fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, LinkError> {
    let Some(Map::HashMap(data)) = ebpf.map(name) else {
        return Err(absent(name));
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| LinkError::System {
            what: format!("map {name}"),
            source,
        })
}

/// Keys and values of one batch, as bytes.
#[derive(Default)]
struct Keys<const N: usize> {
    keys: Vec<[u8; N]>,
    values: Vec<u32>,
}

impl<const N: usize> Keys<N> {
    fn push(&mut self, key: &[u8; N], value: u32) {
        self.keys.push(*key);
        self.values.push(value);
    }

    /// By one system call. The map has keys of `N` bytes and values of a word.
    fn write(&self, map: &OwnedFd) -> io::Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut count = u32::try_from(self.keys.len()).map_err(io::Error::other)?;
        // Not `MapCore::update_batch`: it is for maps that libbpf-rs has opened,
        // by id at best, for which CAP_BPF is not enough.
        // SAFETY: `count` keys and as many values, of the map's sizes, which
        // outlive the call; no options.
        let done = unsafe {
            libbpf_rs::libbpf_sys::bpf_map_update_batch(
                map.as_raw_fd(),
                self.keys.as_ptr().cast(),
                self.values.as_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        match done {
            0 => Ok(()),
            // libbpf gives back the negative error number.
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::link::xdp::object::OBJECT;

    /// All that stands in the maps.
    type Contents = (
        BTreeMap<[u8; 16], u32>,
        BTreeMap<[u8; 40], u32>,
        BTreeMap<[u8; 20], u32>,
        BTreeMap<[u8; 16], u32>,
        Vec<u32>,
    );

    fn contents(maps: &FlowMaps) -> Contents {
        (
            flows_v4(maps),
            maps.v6
                .iter()
                .map(|entry| entry.map(|(key, session)| (key.bytes(), session)).unwrap())
                .collect(),
            peers(maps),
            maps.locals.iter().map(Result::unwrap).collect(),
            (0..=u16::MAX).map(|port| maps.ports.get(port)).collect(),
        )
    }

    /// From buckets and hash map: each is in one of them.
    fn flows_v4(maps: &FlowMaps) -> BTreeMap<[u8; 16], u32> {
        let mut flows: BTreeMap<[u8; 16], u32> = maps
            .v4
            .iter()
            .map(|entry| entry.map(|(key, session)| (key.bytes(), session)).unwrap())
            .collect();
        for [addresses, state] in maps.flow_buckets.entries() {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&addresses.to_ne_bytes());
            key[8..12].copy_from_slice(&(state as u32).to_ne_bytes());
            key[12] = PROTOCOL_TCP;
            assert_eq!(flows.insert(key, bucket::session(state)), None);
        }
        assert_eq!(flows.len(), maps.count_v4 as usize);
        flows
    }

    fn peers(maps: &FlowMaps) -> BTreeMap<[u8; 20], u32> {
        let mut peers: BTreeMap<[u8; 20], u32> = maps
            .peers
            .iter()
            .map(|entry| entry.map(|(key, live)| (key.bytes(), live)).unwrap())
            .collect();
        for [state] in maps.peer_buckets.entries() {
            let address = insession_common::flow::mapped((state as u32).to_ne_bytes());
            let port = ((state >> 32) as u16).to_ne_bytes();
            let key = PeerKey::new(address, port, PROTOCOL_TCP);
            assert_eq!(peers.insert(key.bytes(), LIVE), None);
        }
        peers
    }

    fn maps(room: u32, steering: Steering) -> FlowMaps {
        maps_with(&Room::new(room, room, room), steering)
    }

    fn maps_with(room: &Room, steering: Steering) -> FlowMaps {
        let mut loader = EbpfLoader::new();
        room.set(&mut loader);
        let mut ebpf = loader
            .load(OBJECT)
            .expect("the object is loaded; run as root");
        FlowMaps::take(&mut ebpf, "test".into(), steering, 61_000..=61_999, room).unwrap()
    }

    fn flow(local: &str, remote: &str) -> FlowKey {
        FlowKey::new(
            local.parse().unwrap(),
            remote.parse().unwrap(),
            PROTOCOL_TCP,
        )
        .unwrap()
    }

    /// Of both families, with ends of their own and shared ones.
    fn flows() -> Vec<(FlowKey, SessionId)> {
        let mut flows = Vec::new();
        for number in 0..300_u32 {
            let port = 61_000 + number % 7;
            let server = number / 3;
            let (v4, v6) = (
                format!("10.0.0.{server}:443"),
                format!("[fd00::{server:x}]:80"),
            );
            flows.push((flow(&format!("192.0.2.{}:{port}", number % 3), &v4), number));
            flows.push((
                flow(&format!("[fd01::{}]:{port}", number % 3), &v6),
                1_000 + number,
            ));
        }
        flows
    }

    #[test]
    fn a_batch_leaves_what_one_by_one_leaves() {
        // In one bucket of each kind nearly all of them are elsewhere.
        let crowded = || Room {
            elsewhere_v4: 1_024,
            peers: 1_024,
            ..Room::with_buckets(1_024, 1_024, 1_024, 1, 1)
        };
        let wide = || Room::new(1_024, 1_024, 1_024);
        for (room, steering) in [
            (&wide as &dyn Fn() -> Room, Steering::Flow),
            (&crowded, Steering::Flow),
            (&wide, Steering::PortRange),
        ] {
            let mut singly = maps_with(&room(), steering);
            let mut batched = maps_with(&room(), steering);
            let empty = contents(&singly);
            for (flow, session) in &flows() {
                singly.add(flow, *session).unwrap();
            }
            for flows in flows().chunks(250) {
                batched.add_all(flows).unwrap();
            }
            let full = contents(&singly);
            assert_eq!(contents(&batched), full);
            let entries = full.0.len() + full.1.len();
            let expected = if steering == Steering::Flow { 600 } else { 0 };
            assert_eq!(entries, expected);
            assert_eq!(full.4.iter().sum::<u32>(), 7, "ports");
            for (removed, (flow, _)) in flows().iter().enumerate() {
                singly.remove(flow);
                batched.remove(flow);
                if removed % 50 == 0 {
                    assert_eq!(contents(&batched), contents(&singly));
                }
            }
            assert_eq!(contents(&singly), empty);
            assert_eq!(contents(&batched), empty);
            assert!(singly.flow_buckets.is_blank() && batched.flow_buckets.is_blank());
            assert!(singly.peer_buckets.is_blank() && batched.peer_buckets.is_blank());
        }
    }

    #[test]
    fn a_batch_is_added_whole_or_not_at_all() {
        let mut maps = maps(64, Steering::Flow);
        let known = flow("192.0.2.9:61000", "10.9.9.9:443");
        maps.add(&known, 7).unwrap();
        let before = contents(&maps);
        let fresh = |number: u32| {
            let remote = format!("10.1.0.{number}:443");
            (flow("192.0.2.9:61001", &remote), number)
        };
        let twice = [fresh(1), fresh(2), fresh(1)];
        let outside = [fresh(1), (flow("192.0.2.9:60999", "10.1.0.9:443"), 9)];
        let taken = [fresh(1), (known, 8)];
        for (batch, is_taken) in [(&twice[..], true), (&outside, false), (&taken, true)] {
            let error = maps.add_all(batch).unwrap_err();
            assert_eq!(matches!(error, LinkError::FlowTaken), is_taken, "{error}");
            assert_eq!(contents(&maps), before);
        }
        // More than there is room for: found out when some are written.
        let many: Vec<_> = (1..=70).map(fresh).collect();
        let error = maps.add_all(&many).unwrap_err();
        assert!(error.to_string().contains("flow map is full"), "{error}");
        assert_eq!(contents(&maps), before);
        maps.add_all(&twice[..2]).unwrap();
        assert_eq!(contents(&maps).0.len(), 3);
    }
}
