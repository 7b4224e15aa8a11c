//! A conversation of this host's: the kernel owns the connection, and whoever opened
//! it goes on with it. Both directions are watched; nothing is sent but octets that
//! the peer has acknowledged, in segments that otherwise are the kernel's latest one.
//!
//! **What the peer makes of them** (Linux 6.18): they lie below `rcv_nxt`, and are
//! dropped and answered with a D-SACK (`tcp_data_queue`, or `tcp_send_dupack` where
//! they lie below the last window update, net/ipv4/tcp_input.c). Their TSval is the
//! kernel's latest, never a later one: PAWS can drop nothing on their account. Window
//! and acknowledgment are the kernel's latest, and old segments move neither
//! (RFC 9293 §3.10.7.4).
//!
//! **What our kernel makes of the answers**: a D-SACK for what it has not sent again
//! is "dubious", and ignored (`tcp_dsack_seen`: more duplicates than
//! retransmissions); it counts as one all the same, so that as many true ones are
//! ignored later. Where it has retransmitted of late, one may undo a reduction of the
//! congestion window early (`tcp_check_dsack`, `undo_retrans`). ICMP errors that quote a
//! probe are outside `snd_una..=snd_nxt`, and dropped (`tcp_v4_err`). Bare duplicate
//! ACKs count for a fast retransmission only where SACK was not negotiated: such a
//! connection is not to be adopted. Nor are they answers here: keep-alives and probes of
//! a closed window draw them as well.
//!
//! **What is read decides what is sent**: an acknowledgment of what the kernel has not
//! sent is not believed (RFC 9293 §3.10.7.4), nor a segment that is far from what the
//! kernel expects. So no probe ever lies above what was sent and acknowledged.
//!
//! Octets that were not captured are sent as zeros: what lies below `rcv_nxt` is not
//! looked at (RFC 1122 §4.2.3.6 has keep-alives carry "one garbage octet" there), but by
//! an inspecting middlebox. Segmentation offload leaves the first 1,500 octets of
//! 64 KiB to be captured.

use alloc::vec::Vec;

use super::{Role, Stretch, wanted};
use crate::session::connection::Phase;
use crate::session::state::Flag;
use crate::session::{
    CloseMode, Odd, ProbeId, Segment, Session, SessionOptions, Transmit, TransmitKind,
};
use crate::time::Instant;
use crate::trace::{ReplyKind, RttBound, Verdict};
use crate::wire::alone::Alone;
use crate::wire::tcp::flags;
use crate::wire::template::{SegmentOptions, Varying};

/// A segment of our own kernel's, on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnSegment {
    /// Its header, and how much it carries, octets.
    pub segment: Segment,
    /// IPv6 flow label; 0 in IPv4.
    pub flow_label: u32,
    /// What it carries, from its first octet on, as far as it was captured.
    pub data: Vec<u8>,
    /// It is signed (RFC 2385, RFC 5925), or of Multipath TCP (RFC 8684): no segment of
    /// ours would be taken for one of the connection's.
    pub inimitable: bool,
}

/// What is known of the connection.
#[derive(Debug)]
pub(super) struct Adopted {
    /// Octets that had been sent and acknowledged before anything was seen.
    before: u64,
    /// The kernel's latest segment.
    own: Option<Own>,
    /// The peer's latest acknowledgment number, and the first that was seen.
    acknowledged: Option<(u32, u32)>,
    /// What comes behind the latest of the peer's.
    expected: Option<u32>,
    /// What was seen of the conversation: the latest octets, without a hole.
    kept: Stretch,
}

/// What a probe takes over from it.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// The sequence number behind it.
    next: u32,
    acknowledgment: u32,
    window: u16,
    timestamps: Option<(u32, u32)>,
    flow_label: u32,
}

/// Whoever has the connection has sent its FIN or RST.
const ENDED_HERE: &str = "a program of this host has ended the connection";
/// Farther than this from what the kernel expects nothing of the peer's is: no receive
/// buffer is that large, octets.
const WINDOW_MOST: u32 = 1 << 26;
/// Octets that are kept of what was seen.
const KEPT: usize = 8_192;
/// A firewall takes what lies at most a receive window below the latest
/// (nf_conntrack: `td_end - td_maxwin`): this far behind, probes move on.
const BEHIND: u32 = 1 << 14;

impl Session {
    /// It probes inside a running connection of the kernel's, of which `before` octets
    /// are acknowledged. Sequence numbers are read from what passes. To be called
    /// before anything else.
    pub fn adopt(&mut self, before: u64) {
        self.set_sidecar(Role::Adopted(Adopted {
            before,
            own: None,
            acknowledged: None,
            expected: None,
            kept: Stretch::default(),
        }));
        self.flags.set(Flag::KernelOwns);
    }

    #[inline]
    fn adopted(&self) -> Option<&Adopted> {
        match &self.sidecar()?.role {
            Role::Adopted(adopted) => Some(adopted),
            Role::Request(_) => None,
        }
    }

    fn adopted_mut(&mut self) -> Option<&mut Adopted> {
        match &mut self.sidecar_mut()?.role {
            Role::Adopted(adopted) => Some(adopted),
            Role::Request(_) => None,
        }
    }

    /// Whether the connection is one that goes on without us.
    #[inline]
    pub(in crate::session) fn is_adopted(&self) -> bool {
        self.adopted().is_some()
    }

    /// Why nothing of the connection could be probed.
    pub(in crate::session) fn unadopted(&self) -> Option<&'static str> {
        let adopted = self.adopted()?;
        Some(match (adopted.own, adopted.acknowledged) {
            (None, _) | (_, None) => {
                "no segments of the connection were seen: sequence numbers are read from the wire, so something has to be said in it meanwhile"
            }
            _ => "the peer has acknowledged no data of the connection",
        })
    }

    /// Our kernel has sent this.
    pub(in crate::session) fn own_segment(&mut self, at: Instant, sent: &OwnSegment) {
        let OwnSegment {
            segment,
            flow_label,
            data,
            inimitable,
        } = sent;
        let has = |bits: u8| segment.flags & bits != 0;
        let Some(adopted) = self.adopted_mut() else {
            return;
        };
        let next = segment.sequence.wrapping_add(segment.payload_len);
        // Those that it sends again say what is true now.
        let newest = adopted.own.map_or(next, |own| latest(own.next, next));
        adopted.own = Some(Own {
            next: newest,
            acknowledgment: segment.acknowledgment,
            window: segment.window,
            timestamps: segment.options.timestamps,
            flow_label: *flow_label,
        });
        adopted.keep(segment.sequence, data);
        if *inimitable {
            let why = "its segments are signed (TCP-MD5, TCP-AO) or of Multipath TCP, and probes would not be taken for its own";
            self.finish(at, Verdict::Error, Some(why.into()), CloseMode::Rst);
            return;
        }
        if has(flags::RST) || has(flags::FIN) {
            self.connection.phase = match has(flags::RST) {
                true => Phase::Gone,
                false => Phase::HalfClosed,
            };
            self.rare_mut().detail = Some(ENDED_HERE.into());
            self.leave(Verdict::Interrupted);
        }
    }

    /// The peer has sent this.
    pub(in crate::session) fn adopted_segment(
        &mut self,
        options: &SessionOptions,
        at: Instant,
        segment: &Segment,
    ) {
        let has = |bits: u8| segment.flags & bits != 0;
        let Some(adopted) = self.adopted_mut() else {
            return;
        };
        // Without the kernel's own there is nothing to hold it against.
        let Some(own) = adopted.own else {
            return;
        };
        if has(flags::RST) {
            // RFC 5961 §3.2. The kernel may not have acknowledged the latest yet.
            let expected = [Some(own.acknowledgment), adopted.expected];
            if expected.contains(&Some(segment.sequence)) {
                self.connection.phase = Phase::Gone;
                self.leave(Verdict::Reset);
            }
            return;
        }
        let number = segment.acknowledgment;
        let far = segment.sequence.wrapping_sub(own.acknowledgment) as i32;
        let unsent = (number.wrapping_sub(own.next) as i32) > 0;
        if !has(flags::ACK) || unsent || far.unsigned_abs() > WINDOW_MOST {
            return;
        }
        let (known, first) = adopted.acknowledged.unwrap_or((number, number));
        adopted.acknowledged = Some((latest(known, number), first));
        let behind = segment.sequence.wrapping_add(segment.payload_len);
        let expected = adopted.expected.unwrap_or(behind);
        adopted.expected = Some(latest(expected, behind));
        let blocks = segment.options.sack.as_slice();
        let duplicate = blocks
            .first()
            .filter(|block| (block.right.wrapping_sub(number) as i32) <= 0)
            .filter(|block| block.right.wrapping_sub(block.left) == 1)
            .copied();
        match self.connection.phase {
            Phase::Opening => self.begin_adopted(options, at, segment.ttl),
            Phase::Open => self.move_on(options),
            _ => {}
        }
        let pure = segment.payload_len == 0 && !has(flags::FIN);
        let index = duplicate.and_then(|block| self.find(block.left));
        if let Some(index) = index {
            let bound = match pure {
                true => RttBound::Exact,
                false => RttBound::Upper,
            };
            self.reached(index, at, segment.ttl, ReplyKind::Sack, bound, false);
        }
        if has(flags::FIN) && self.connection.phase == Phase::Open {
            self.connection.phase = Phase::HalfClosed;
            self.leave(Verdict::ClosedByPeer);
        }
    }

    /// Both directions were seen: probing begins, if there is something to send again.
    fn begin_adopted(&mut self, options: &SessionOptions, at: Instant, ttl: u8) {
        if !self.place_stretch(options) {
            return;
        }
        self.begin(at);
        self.connection.phase = Phase::Open;
        self.cold.opening.hello_ttl = ttl;
        self.open(options);
    }

    /// The conversation has gone far on: so do probes.
    fn move_on(&mut self, options: &SessionOptions) {
        let Some(adopted) = self.adopted() else {
            return;
        };
        let Some((acknowledged, _)) = adopted.acknowledged else {
            return;
        };
        let end = self.sidecar().map_or(0, |sidecar| sidecar.stretch.end());
        // Of two stretches, answers can be told apart.
        let two = self.probes.in_flight() > self.probes.flying_here().count();
        if acknowledged.wrapping_sub(end) as i32 > BEHIND as i32 && !two {
            self.place_stretch(options);
        }
    }

    /// Chooses the octets that are sent again: as many as may be needed, the latest that
    /// are acknowledged; whether there are any.
    fn place_stretch(&mut self, options: &SessionOptions) -> bool {
        let Some(adopted) = self.adopted() else {
            return false;
        };
        let (Some(_), Some((acknowledged, first))) = (adopted.own, adopted.acknowledged) else {
            return false;
        };
        let said = adopted.before + u64::from(acknowledged.wrapping_sub(first));
        // An even number: a probe, and an octet that is left out.
        let octets = wanted(options).min(usize::try_from(said).unwrap_or(usize::MAX)) & !1;
        if octets < 2 {
            return false;
        }
        let before = self.sidecar().filter(|_| self.has(Flag::Begun));
        let before = before.map(|sidecar| sidecar.stretch.end());
        let stretch = adopted.stretch(acknowledged, octets as u32, before);
        let base = stretch.first;
        let window = stretch.len();
        if let Some(sidecar) = self.sidecar_mut() {
            sidecar.stretch = stretch;
        }
        if let Some(before) = self.probes.connect(base) {
            self.rare_mut().previous = Some(before);
        }
        self.connection.snd_wnd = window;
        true
    }

    /// The probe, as it goes out: the kernel's latest segment, but for what it carries.
    #[inline]
    pub(in crate::session) fn adopted_probe(
        &self,
        ttl: u8,
        sequence: u32,
        id: ProbeId,
    ) -> Option<Transmit> {
        let own = self.adopted()?.own?;
        let options = match own.timestamps {
            Some((tsval, tsecr)) => SegmentOptions::Timestamps { tsval, tsecr },
            None => SegmentOptions::None,
        };
        let odd = Odd {
            alone: Alone::Segment {
                source_port: self.flow().local.port(),
            },
            identification: None,
            label: own.flow_label,
        };
        Some(Transmit {
            kind: TransmitKind::Probe(id),
            segment: Varying {
                ttl,
                sequence,
                acknowledgment: own.acknowledgment,
                flags: flags::ACK | flags::PSH,
                window: own.window,
                options,
                payload_len: 1,
            },
            alone: (own.flow_label != 0).then_some(odd),
        })
    }
}

impl Adopted {
    /// Keeps what was seen.
    fn keep(&mut self, sequence: u32, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let kept = &mut self.kept;
        let behind = kept.end().wrapping_sub(sequence);
        if kept.data.is_empty() || behind != 0 {
            // Sent again: it is there. Else there is a hole before it.
            if !kept.data.is_empty() && behind <= kept.len() {
                return;
            }
            kept.first = sequence;
            kept.data.clear();
        }
        kept.data.extend_from_slice(data);
        if let Some(over) = kept.data.len().checked_sub(KEPT) {
            kept.data.drain(..over);
            kept.first = kept.first.wrapping_add(over as u32);
        }
    }

    /// The octets up to this number: as they were seen, and zeros; none of those before
    /// `from`, whose answers may yet come.
    fn stretch(&self, acknowledged: u32, octets: u32, from: Option<u32>) -> Stretch {
        let kept = &self.kept;
        let end = kept.end();
        // Where the latest were not captured, others not far below.
        let below = acknowledged.wrapping_sub(end);
        let begin = end.wrapping_sub(octets);
        let apart = from.is_none_or(|from| begin.wrapping_sub(from) as i32 >= 0);
        let long = kept.len() >= octets && apart;
        let end = match long && (1..BEHIND).contains(&below) {
            true => end,
            false => acknowledged,
        };
        let first = end.wrapping_sub(octets);
        let octet = |nth| {
            let sequence: u32 = first.wrapping_add(nth);
            let at = sequence.wrapping_sub(kept.first) as usize;
            kept.data.get(at).copied().unwrap_or(0)
        };
        Stretch {
            first,
            data: (0..octets).map(octet).collect(),
        }
    }
}

/// The later of two sequence numbers.
fn latest(one: u32, other: u32) -> u32 {
    match (other.wrapping_sub(one) as i32) > 0 {
        true => other,
        false => one,
    }
}
