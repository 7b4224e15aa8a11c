//! How a record is kept: cells of ten bytes, alike for probes and for answers, so
//! that one allocation holds both.
//!
//! Probes stand at the front, in the order of sending. What answers have in
//! common stands at the back, growing towards the front: an [`Entry`] begins
//! with a [`Head`], which is all of it for most routers of an IPv4 path. A value
//! that does not fit into a probe's cell has a cell of its own at the back
//! ([`Wide`]).

use core::net::{IpAddr, Ipv6Addr};

use crate::trace::{MplsLabel, ReplyKind, RttBound};

/// Ten bytes, read as numbers of 4, 2 and 1 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell([u8; 10]);

/// Octets of an IPv6 address in the first of the two cells that hold it.
const FIRST: usize = 10;

impl Cell {
    fn word(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_word(&mut self, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        (self.0[0], self.0[1], self.0[2], self.0[3]) = (a, b, c, d);
    }

    /// The three bytes behind it.
    fn triple(self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], 0])
    }

    fn set_triple(&mut self, value: u32) {
        let [a, b, c, _] = value.to_le_bytes();
        (self.0[4], self.0[5], self.0[6]) = (a, b, c);
    }

    /// The first two of them.
    fn half(self) -> u16 {
        u16::from_le_bytes([self.0[4], self.0[5]])
    }

    fn set_half(&mut self, value: u16) {
        [self.0[4], self.0[5]] = value.to_le_bytes();
    }
}

/// The largest number that three bytes hold.
pub(super) const TRIPLE_MAX: u32 = (1 << 24) - 1;
/// The largest place that a probe's cell holds.
pub(super) const NEAR_MAX: u32 = u8::MAX as u32;

/// One probe: when it was sent (word), its round-trip time (triple), who
/// answered (byte 7), its TTL (byte 8), what became of it (byte 9).
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(pub(super) Cell);

/// What became of it: two bits.
const STATE: u8 = 0b11;
const FLYING: u8 = 0;
const LOST: u8 = 1;
const ANSWERED: u8 = 2;
/// The triple is the place of its [`Wide`].
const WIDE: u8 = 1 << 2;

impl Slot {
    /// In flight.
    pub(super) fn new(ttl: u8, sent: u32) -> Self {
        let mut cell = Cell::default();
        cell.set_word(sent);
        cell.0[8] = ttl;
        Slot(cell)
    }

    pub(super) fn ttl(self) -> u8 {
        self.0.0[8]
    }

    pub(super) fn is_flying(self) -> bool {
        self.0.0[9] & STATE == FLYING
    }

    pub(super) fn is_lost(self) -> bool {
        self.0.0[9] & STATE == LOST
    }

    pub(super) fn is_answered(self) -> bool {
        self.0.0[9] & STATE == ANSWERED
    }

    pub(super) fn lose(&mut self) {
        self.0.0[9] = self.0.0[9] & !STATE | LOST;
    }

    pub(super) fn answer(&mut self) {
        self.0.0[9] = self.0.0[9] & !STATE | ANSWERED;
    }

    /// The low bits of the moment it was sent.
    pub(super) fn sent(self) -> u32 {
        self.0.word()
    }

    pub(super) fn set_sent(&mut self, sent: u32) {
        self.0.set_word(sent);
    }

    /// Where its wide values stand, if it has any.
    pub(super) fn wide(self) -> Option<u32> {
        (self.0.0[9] & WIDE != 0).then(|| self.0.triple())
    }

    pub(super) fn set_wide(&mut self, place: u32) {
        self.0.0[9] |= WIDE;
        self.0.set_triple(place);
    }

    /// Its round-trip time, unless it is wide.
    pub(super) fn rtt(self) -> u32 {
        self.0.triple()
    }

    pub(super) fn set_rtt(&mut self, rtt: u32) {
        self.0.set_triple(rtt);
    }

    /// The place of its answer's [`Head`], unless it is wide.
    pub(super) fn from(self) -> u32 {
        u32::from(self.0.0[7])
    }

    pub(super) fn set_from(&mut self, place: u8) {
        self.0.0[7] = place;
    }
}

/// What does not fit into a slot: round-trip time (word), the place of the
/// answer (triple), the high bits of the moment it was sent (byte 7).
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide(pub(super) Cell);

/// In byte 9 of a [`Wide`], where a [`Head`] has its kind.
const IS_WIDE: u8 = 1 << 7;

impl Wide {
    pub(super) fn new(rtt: u32, from: u32, sent_high: u8) -> Self {
        let mut cell = Cell::default();
        cell.set_word(rtt);
        cell.set_triple(from);
        cell.0[7] = sent_high;
        cell.0[9] = IS_WIDE;
        Wide(cell)
    }

    pub(super) fn rtt(self) -> u32 {
        self.0.word()
    }

    pub(super) fn from(self) -> u32 {
        self.0.triple()
    }

    pub(super) fn sent_high(self) -> u8 {
        self.0.0[7]
    }
}

/// What answers have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common<'a> {
    pub(super) kind: ReplyKind,
    pub(super) bound: RttBound,
    pub(super) from: IpAddr,
    pub(super) code: u8,
    pub(super) reply_ttl: u8,
    pub(super) quoted_ttl: Option<u8>,
    pub(super) mtu: Option<u32>,
    pub(super) mpls: &'a [MplsLabel],
    pub(super) rewrites: u16,
}

/// The first cell of an entry: IPv4 address (word), rewrites (half), code,
/// reply's TTL, quoted TTL (bytes 6 to 8), kind and flags (byte 9).
#[derive(Clone, Copy, Debug)]
pub(super) struct Head(pub(super) Cell);

const KIND: u8 = 0b111;
const UPPER: u8 = 1 << 3;
const QUOTED: u8 = 1 << 4;
/// The address is an IPv6 one, in two more cells.
const V6: u8 = 1 << 5;
/// A cell with the MTU (word) and the number of labels (half) follows, and
/// labels, two in a cell.
const RICH: u8 = 1 << 6;

/// In byte 6 of a rich entry's cell: it has an MTU.
const HAS_MTU: u8 = 1;

impl Head {
    /// Whether it is one, and not a [`Wide`].
    fn is_head(self) -> bool {
        self.0.0[9] & IS_WIDE == 0
    }

    pub(super) fn kind(self) -> ReplyKind {
        match self.0.0[9] & KIND {
            0 => ReplyKind::TimeExceeded,
            1 => ReplyKind::Unreachable,
            2 => ReplyKind::PacketTooBig,
            3 => ReplyKind::Sack,
            4 => ReplyKind::DupAck,
            _ => ReplyKind::Rst,
        }
    }

    pub(super) fn bound(self) -> RttBound {
        match self.0.0[9] & UPPER {
            0 => RttBound::Exact,
            _ => RttBound::Upper,
        }
    }

    pub(super) fn code(self) -> u8 {
        self.0.0[6]
    }

    pub(super) fn reply_ttl(self) -> u8 {
        self.0.0[7]
    }

    pub(super) fn quoted_ttl(self) -> Option<u8> {
        (self.0.0[9] & QUOTED != 0).then_some(self.0.0[8])
    }

    pub(super) fn rewrites(self) -> u16 {
        self.0.half()
    }
}

/// A kind's number.
const fn number(kind: ReplyKind) -> u8 {
    match kind {
        ReplyKind::TimeExceeded => 0,
        ReplyKind::Unreachable => 1,
        ReplyKind::PacketTooBig => 2,
        ReplyKind::Sack => 3,
        ReplyKind::DupAck => 4,
        ReplyKind::Rst => 5,
    }
}

/// What answers have in common, cell by cell.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    head: Cell,
    from: IpAddr,
    mtu: Option<u32>,
    mpls: &'a [MplsLabel],
    len: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn new(common: &Common<'a>) -> Self {
        let mut head = Cell::default();
        let mut bits = number(common.kind);
        let mut len = 1;
        match common.from {
            IpAddr::V4(address) => head.set_word(u32::from_le_bytes(address.octets())),
            IpAddr::V6(_) => {
                bits |= V6;
                len += 2;
            }
        }
        if common.bound == RttBound::Upper {
            bits |= UPPER;
        }
        if let Some(ttl) = common.quoted_ttl {
            bits |= QUOTED;
            head.0[8] = ttl;
        }
        if common.mtu.is_some() || !common.mpls.is_empty() {
            bits |= RICH;
            len += 1 + common.mpls.len().div_ceil(2);
        }
        head.set_half(common.rewrites);
        (head.0[6], head.0[7], head.0[9]) = (common.code, common.reply_ttl, bits);
        Entry {
            head,
            from: common.from,
            mtu: common.mtu,
            mpls: common.mpls,
            len,
        }
    }

    /// Cells that it takes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One of its cells.
    fn cell(&self, nth: usize) -> Cell {
        let behind = match (nth, self.from) {
            (0, _) => return self.head,
            (1 | 2, IpAddr::V6(address)) => {
                let (first, rest) = address.octets().split_at(FIRST).to_cells();
                return if nth == 1 { first } else { rest };
            }
            (_, IpAddr::V6(_)) => nth - 3,
            (_, IpAddr::V4(_)) => nth - 1,
        };
        let mut cell = Cell::default();
        let Some(pair) = behind.checked_sub(1) else {
            cell.set_word(self.mtu.unwrap_or_default());
            cell.set_half(self.mpls.len() as u16);
            cell.0[6] = if self.mtu.is_some() { HAS_MTU } else { 0 };
            return cell;
        };
        let labels = self.mpls.get(2 * pair..).unwrap_or_default();
        for (label, out) in labels.iter().zip(cell.0.as_chunks_mut::<4>().0) {
            *out = packed(label).to_le_bytes();
        }
        cell
    }

    /// Whether it stands in these cells already.
    pub(super) fn is_at(&self, cells: &[Cell]) -> bool {
        if cells.first() != Some(&self.head) {
            return false;
        }
        (1..self.len).all(|nth| cells.get(nth) == Some(&self.cell(nth)))
    }

    /// Writes it down.
    pub(super) fn write(&self, cells: &mut [Cell]) {
        for (nth, out) in cells.iter_mut().take(self.len).enumerate() {
            *out = self.cell(nth);
        }
    }
}

/// The two cells of an IPv6 address.
trait ToCells {
    fn to_cells(self) -> (Cell, Cell);
}

impl ToCells for (&[u8], &[u8]) {
    fn to_cells(self) -> (Cell, Cell) {
        let fill = |bytes: &[u8]| {
            let mut cell = Cell::default();
            for (out, byte) in cell.0.iter_mut().zip(bytes) {
                *out = *byte;
            }
            cell
        };
        (fill(self.0), fill(self.1))
    }
}

/// As on the wire (RFC 3032 §2.1).
fn packed(label: &MplsLabel) -> u32 {
    label.label << 12
        | u32::from(label.tc & 0b111) << 9
        | u32::from(label.bottom) << 8
        | u32::from(label.ttl)
}

fn unpacked(word: u32) -> MplsLabel {
    MplsLabel {
        label: word >> 12,
        tc: (word >> 9) as u8 & 0b111,
        bottom: word & 1 << 8 != 0,
        ttl: word as u8,
    }
}

/// An entry, read back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) head: Head,
    rest: &'a [Cell],
}

impl<'a> Written<'a> {
    /// The one that begins these cells; `None` where there is none.
    pub(super) fn new(cells: &'a [Cell]) -> Option<Self> {
        let (head, rest) = cells.split_first()?;
        let head = Head(*head);
        head.is_head().then_some(Written { head, rest })
    }

    pub(super) fn from(&self) -> IpAddr {
        if self.head.0.0[9] & V6 == 0 {
            return IpAddr::V4(self.head.0.word().to_le_bytes().into());
        }
        let bytes = self.rest.iter().flat_map(|cell| cell.0);
        let mut octets = [0; 16];
        for (out, byte) in octets.iter_mut().zip(bytes) {
            *out = byte;
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }

    /// What only rich ones have.
    fn rich(&self) -> Option<(Cell, &'a [Cell])> {
        let bits = self.head.0.0[9];
        if bits & RICH == 0 {
            return None;
        }
        let behind = if bits & V6 == 0 { 0 } else { 2 };
        let (rich, labels) = self.rest.get(behind..)?.split_first()?;
        Some((*rich, labels))
    }

    pub(super) fn mtu(&self) -> Option<u32> {
        let (rich, _) = self.rich()?;
        (rich.0[6] & HAS_MTU != 0).then_some(rich.word())
    }

    /// Its labels, outermost first.
    pub(super) fn labels(&self) -> impl Iterator<Item = MplsLabel> {
        let (count, cells) = match self.rich() {
            Some((rich, labels)) => (rich.half(), labels),
            None => (0, &[][..]),
        };
        let words = cells.iter().flat_map(|cell| {
            let [a, b, c, d, e, f, g, h, ..] = cell.0;
            [[a, b, c, d], [e, f, g, h]]
        });
        words
            .map(|word| unpacked(u32::from_le_bytes(word)))
            .take(usize::from(count))
    }
}

/// Cells that the entry, or wide value, takes which begins here.
pub(super) fn size(cell: Cell, next: impl Fn(usize) -> Option<Cell>) -> usize {
    let bits = cell.0[9];
    if bits & IS_WIDE != 0 {
        return 1;
    }
    let address = if bits & V6 == 0 { 0 } else { 2 };
    let rich = match bits & RICH {
        0 => 0,
        _ => next(1 + address).map_or(1, |rich| 1 + usize::from(rich.half()).div_ceil(2)),
    };
    1 + address + rich
}
