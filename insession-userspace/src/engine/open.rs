//! An open session, but for what [`Session`] itself holds: what a record needs of
//! the target, and how its frames are laid out. It is read when a frame is
//! written and when the session ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use super::lookup::Known;
use super::slab::Slab;
use super::{Output, Target};
use crate::net::Route;
use crate::session::{Flow, ProbeId, Session};
use crate::trace::{address_text, is_address_text};
use crate::wire::template::{Layout, Own, Way};

/// The sessions of a worker.
pub(super) type Sessions = Slab<Session, Open>;

/// The number of a [`Layout`] in [`Layouts`], and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayoutId(NonZeroU32);

impl LayoutId {
    /// From 0 on.
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What of an open session is not in its [`Session`].
#[derive(Debug)]
pub(super) struct Open {
    /// [`Target::index`].
    pub(super) index: u64,
    extra: Option<Box<Extra>>,
    layout: LayoutId,
    /// IPv6 flow label (20 bits), and whether the connection was established.
    label: u32,
}

const _: () = assert!(size_of::<Option<Open>>() == 24);

/// Set when the connection was established, above the flow label.
const ESTABLISHED: u32 = 1 << 31;

/// What most sessions do without.
#[derive(Debug, Default)]
struct Extra {
    /// The target's name, where it is not its address.
    name: Option<Box<str>>,
    /// TTL of each probe, by its number, for [`Output::Answer`].
    ttls: Vec<u8>,
    /// The way, where it is to be gone again.
    route: Option<Route>,
    /// What its record says beside what was learnt.
    note: Option<String>,
}

impl Open {
    /// `route` is kept for who goes on by another method, `note` for its record.
    pub(super) fn new(
        target: Target,
        layout: LayoutId,
        flow_label: u32,
        live: bool,
        (route, note): (Option<Route>, Option<String>),
    ) -> Self {
        let name = match is_address_text(&target.name, target.address) {
            true => None,
            false => Some(target.name.into()),
        };
        let kept = route.is_some() || note.is_some();
        let extra = Extra {
            name,
            ttls: Vec::new(),
            route,
            note,
        };
        Open {
            index: target.index,
            extra: (live || kept || extra.name.is_some()).then(|| Box::new(extra)),
            layout,
            label: flow_label,
        }
    }

    /// What to write its frames with, less what they have of their own.
    #[inline]
    pub(super) fn layout_id(&self) -> LayoutId {
        self.layout
    }

    /// What to write its frames with.
    #[inline]
    pub(super) fn layout(&self, flow: &Flow) -> (LayoutId, Own) {
        let own = Own {
            local_port: flow.local.port(),
            remote: flow.remote,
            flow_label: self.label & !ESTABLISHED,
        };
        (self.layout, own)
    }

    /// Whether the connection was established, some time.
    pub(super) fn is_established(&self) -> bool {
        self.label & ESTABLISHED != 0
    }

    /// It is now.
    pub(super) fn establish(&mut self) {
        self.label |= ESTABLISHED;
    }

    /// The target as it came, and what was kept with it.
    pub(super) fn into_target(self, remote: SocketAddr) -> (Target, Option<Route>, Option<String>) {
        let extra = self.extra.map_or_else(Extra::default, |extra| *extra);
        let name = extra.name;
        let target = Target {
            index: self.index,
            name: name.map_or_else(|| address_text(remote.ip()), String::from),
            address: remote.ip(),
            port: remote.port(),
        };
        (target, extra.route, extra.note)
    }

    /// Keeps the TTL a probe was sent with.
    pub(super) fn note_ttl(&mut self, probe: ProbeId, ttl: u8) {
        let nth = usize::from(probe.0.get()) - 1;
        let ttls = &mut self.extra.get_or_insert_default().ttls;
        if ttls.len() <= nth {
            ttls.resize(nth + 1, 0);
        }
        ttls[nth] = ttl;
    }

    /// What became of a probe.
    pub(super) fn answer(&self, session: &Session, id: ProbeId) -> Option<Output> {
        let (ttl, probe) = session.probe(id)?;
        let ttls = &self.extra.as_ref()?.ttls;
        let before = ttls.get(..usize::from(id.0.get()) - 1)?;
        let nth = before.iter().filter(|earlier| **earlier == ttl).count();
        Some(Output::Answer {
            index: self.index,
            ttl,
            nth: u8::try_from(nth).ok()?,
            probe: Box::new(probe),
        })
    }
}

impl Known for Sessions {
    fn flow(&self, slot: u32) -> Option<Flow> {
        self.at(slot).map(Session::flow)
    }

    fn owns(&self, slot: u32, sequence: u32) -> bool {
        self.at(slot)
            .is_some_and(|session| session.owns_sequence(sequence))
    }
}

/// The layouts of all routes there have been. They are kept for the worker's
/// life: there are no more of them than the interface has had neighbours.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    layouts: Vec<Layout>,
    ids: HashMap<Way, LayoutId>,
    last: Option<(Way, LayoutId)>,
}

impl Layouts {
    /// The layout of a route.
    pub(super) fn of(&mut self, way: &Way) -> LayoutId {
        if let Some((last, id)) = &self.last
            && last == way
        {
            return *id;
        }
        let layouts = &mut self.layouts;
        let id = *self.ids.entry(*way).or_insert_with(|| {
            layouts.push(Layout::new(way));
            // There are not 2^32 MAC addresses behind an interface.
            LayoutId(
                u32::try_from(layouts.len()).map_or(NonZeroU32::MIN, |number| {
                    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
                }),
            )
        });
        self.last = Some((*way, id));
        id
    }

    #[inline]
    pub(super) fn get(&self, id: LayoutId) -> Option<&Layout> {
        self.layouts.get(id.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lookup::Lookup;
    use crate::engine::ready::Ready;
    use crate::engine::wheel::Wheel;

    /// What a live session takes of memory beside its [`Session`], octets: side
    /// arrays by slot, and two heads a session.
    const MOST: usize = 100;

    #[test]
    fn a_session_takes_little_beside_itself() {
        let (links, heads) = Lookup::octets();
        let beside = Sessions::BESIDE + Wheel::OCTETS + Ready::OCTETS + links + heads;
        assert!(beside <= MOST, "{beside} octets");
    }

    #[test]
    fn routes_share_layouts() {
        let way = |last| Way {
            source_mac: [2; 6],
            next_hop_mac: [last; 6],
            vlan: None,
            source: [192, 0, 2, 1].into(),
            dscp: 0,
            protocol: 6,
            dont_fragment: true,
        };
        let mut layouts = Layouts::default();
        let ids = [4, 5, 4, 4, 5].map(|last| layouts.of(&way(last)));
        assert_eq!(ids[0], ids[2]);
        assert_eq!(ids[0], ids[3]);
        assert_eq!(ids[1], ids[4]);
        assert_ne!(ids[0], ids[1]);
        assert_eq!(layouts.layouts.len(), 2);
        assert!(ids.iter().all(|id| layouts.get(*id).is_some()));
    }

    #[test]
    fn a_target_comes_back_as_it_was() {
        let layout = Layouts::default().of(&Way {
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            vlan: None,
            source: [192, 0, 2, 1].into(),
            dscp: 0,
            protocol: 6,
            dont_fragment: true,
        });
        for (name, live) in [("198.51.100.7", false), ("a.example", false), ("", true)] {
            let target = Target {
                index: u64::MAX,
                name: name.into(),
                address: [198, 51, 100, 7].into(),
                port: 443,
            };
            let mut open = Open::new(target.clone(), layout, 0xf_ffff, live, (None, None));
            assert_eq!(open.extra.is_some(), live || name.starts_with('a'));
            assert!(!open.is_established());
            open.establish();
            assert!(open.is_established());
            let remote = SocketAddr::from(([198, 51, 100, 7], 443));
            let local = SocketAddr::from(([192, 0, 2, 1], 61_000));
            let (_, own) = open.layout(&Flow { local, remote });
            assert_eq!((own.flow_label, own.remote), (0xf_ffff, remote));
            assert_eq!(open.into_target(remote).0, target);
        }
    }
}
