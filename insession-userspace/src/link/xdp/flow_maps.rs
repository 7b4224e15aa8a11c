//! The maps that the XDP program steers by, and what this process knows of what
//! stands in them.

use std::error::Error;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use insession_common::flow::{FlowKey, FlowKeyV4, FlowKeyV6, PROTOCOL_TCP, PeerKey, SessionId};
use insession_common::names;

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

/// The maps of flows and their ends. This process is their only writer.
pub(super) struct FlowMaps {
    /// Whose they are, for errors.
    owner: String,
    steering: Steering,
    ports_ours: std::ops::RangeInclusive<u16>,
    v4: HashMap<MapData, FlowKeyV4, SessionId>,
    v6: HashMap<MapData, FlowKeyV6, SessionId>,
    peers: HashMap<MapData, PeerKey, u32>,
    locals: HashMap<MapData, [u8; 16], u32>,
    ports: Array<MapData, u32>,
    batched: Batched,
    /// The flows that are steered, which a batch cannot ask the kernel about:
    /// it takes no BPF_NOEXIST (`generic_map_update_batch`, kernel/bpf/syscall.c).
    flows: Fingerprints,
    counts: Counts,
}

/// The same maps, for libbpf.
struct Batched {
    v4: OwnedFd,
    v6: OwnedFd,
    peers: OwnedFd,
}

impl FlowMaps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        owner: String,
        steering: Steering,
        ports_ours: std::ops::RangeInclusive<u16>,
    ) -> Result<Self, LinkError> {
        let batched = Batched {
            v4: descriptor(ebpf, names::FLOWS_V4)?,
            v6: descriptor(ebpf, names::FLOWS_V6)?,
            peers: descriptor(ebpf, names::PEERS)?,
        };
        Ok(FlowMaps {
            owner,
            steering,
            ports_ours,
            v4: map(ebpf, names::FLOWS_V4)?,
            v6: map(ebpf, names::FLOWS_V6)?,
            peers: map(ebpf, names::PEERS)?,
            locals: map(ebpf, names::LOCALS)?,
            ports: map(ebpf, names::PORTS)?,
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
                FlowKey::V4(key) => self.v4.insert(*key, session, NOEXIST),
                FlowKey::V6(key) => self.v6.insert(*key, session, NOEXIST),
            };
            if let Err(error) = added {
                self.flows.remove(key);
                return Err(self.not_added(errno(&error), &error));
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

    /// Steers many flows, all or none: a fraction of the system calls that one
    /// by one takes.
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
        let mut keys: Keys<16> = Keys::default();
        let mut keys_v6: Keys<40> = Keys::default();
        let mut peers: Keys<20> = Keys::default();
        let mut written = Ok(());
        if self.steering == Steering::Flow {
            for (key, session) in flows {
                match key {
                    FlowKey::V4(key) => keys.push(&key.bytes(), *session),
                    FlowKey::V6(key) => keys_v6.push(&key.bytes(), *session),
                }
            }
            written = keys
                .write(&self.batched.v4)
                .and_then(|()| keys_v6.write(&self.batched.v6))
                .map_err(|error| self.not_added(error.raw_os_error(), &error));
        }
        for (key, _) in flows {
            let mut changed = self.counts.add(key);
            if self.steering == Steering::Flow
                && let Some(peer) = changed.peer.take()
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
            (Steering::Flow, FlowKey::V4(key)) => gone(self.v4.remove(key)),
            (Steering::Flow, FlowKey::V6(key)) => gone(self.v6.remove(key)),
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
                set(&mut self.peers, peer, live)
                    .map_err(|error| self.failed(names::PEERS, &error))?;
            }
            if let Some(local) = changed.local {
                set(&mut self.locals, local, live)
                    .map_err(|error| self.failed(names::LOCALS, &error))?;
            }
        }
        if let Some(port) = changed.port {
            self.ports
                .set(u32::from(port), live, 0)
                .map_err(|error| self.failed(names::PORTS, &error))?;
        }
        Ok(())
    }

    fn not_added(&self, errno: Option<i32>, error: &(dyn Error + 'static)) -> LinkError {
        match errno {
            Some(libc::EEXIST) => LinkError::FlowTaken,
            Some(libc::E2BIG) => LinkError::Unsupported {
                what: format!("{}: one more flow", self.owner),
                reason: "the XDP program's flow map is full".into(),
                mend: "run with more flows, or with fewer sessions at a time".into(),
            },
            _ => self.failed("a flow map", error),
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
    gone(map.remove(&key))
}

/// An entry that was never written is as good as removed: its flow is being
/// undone.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
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
    fn write(&self, map: &OwnedFd) -> std::io::Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut count = u32::try_from(self.keys.len()).map_err(std::io::Error::other)?;
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
            error => Err(std::io::Error::from_raw_os_error(-error)),
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
            maps.v4
                .iter()
                .map(|entry| entry.map(|(key, session)| (key.bytes(), session)).unwrap())
                .collect(),
            maps.v6
                .iter()
                .map(|entry| entry.map(|(key, session)| (key.bytes(), session)).unwrap())
                .collect(),
            maps.peers
                .iter()
                .map(|entry| entry.map(|(key, live)| (key.bytes(), live)).unwrap())
                .collect(),
            maps.locals.iter().map(Result::unwrap).collect(),
            maps.ports.iter().map(Result::unwrap).collect(),
        )
    }

    fn maps(room: u32, steering: Steering) -> FlowMaps {
        let mut ebpf = aya::EbpfLoader::new()
            .map_max_entries(names::FLOWS_V4, room)
            .map_max_entries(names::FLOWS_V6, room)
            .map_max_entries(names::PEERS, room)
            .map_max_entries(names::LOCALS, room)
            .load(OBJECT)
            .expect("the object is loaded; run as root");
        FlowMaps::take(&mut ebpf, "test".into(), steering, 61_000..=61_999).unwrap()
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
        for steering in [Steering::Flow, Steering::PortRange] {
            let (mut singly, mut batched) = (maps(1_024, steering), maps(1_024, steering));
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
