//! How a record is kept: cells of ten bytes, alike for probes and for answers, so
//! that one allocation holds both.
//!
//! Probes stand at the front, in the order of sending. What answers have in
//! common stands at the back, growing towards the front: an [`Entry`] begins
//! with a [`Head`], which is all of it for most routers of an IPv4 path. A value
//! that does not fit into a probe's cell has a cell of its own at the back
//! ([`Wide`]).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::trace::{MplsLabel, ReplyKind, RttBound};

/// Ten bytes: two numbers without a gap, so that either is read and written at
/// once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(2))]
pub(super) struct Cell {
    low: u64,
    high: u16,
}

const _: () = assert!(size_of::<Cell>() == 10);

impl Cell {
    fn of([a, b, c, d, e, f, g, h, i, j]: [u8; 10]) -> Self {
        Cell {
            low: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            high: u16::from_le_bytes([i, j]),
        }
    }

    fn octets(self) -> [u8; 10] {
        let ([a, b, c, d, e, f, g, h], [i, j]) = (self.low.to_le_bytes(), self.high.to_le_bytes());
        [a, b, c, d, e, f, g, h, i, j]
    }

    /// Its word becomes another.
    #[inline]
    pub(super) fn set_word(&mut self, word: u32) {
        self.low = self.low >> 32 << 32 | u64::from(word);
    }
}

/// Octets of an IPv6 address in the first of the two cells that hold it.
const FIRST: usize = 10;

/// A cell as two numbers. From the low bits up, `low` is a word of 32 bits, a
/// triple of 24 (or a half of 16 and an octet), and an octet; `high` two octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    low: u64,
    high: u16,
}

impl Bits {
    #[inline]
    fn new(word: u32, triple: u32, octet: u8, high: [u8; 2]) -> Self {
        Bits {
            low: u64::from(word) | u64::from(triple & TRIPLE_MAX) << 32 | u64::from(octet) << 56,
            high: u16::from_le_bytes(high),
        }
    }

    #[inline]
    fn word(self) -> u32 {
        self.low as u32
    }

    #[inline]
    fn triple(self) -> u32 {
        (self.low >> 32) as u32 & TRIPLE_MAX
    }

    #[inline]
    fn half(self) -> u16 {
        (self.low >> 32) as u16
    }

    /// The octet behind the half.
    #[inline]
    fn third(self) -> u8 {
        (self.low >> 48) as u8
    }

    /// The octet behind the triple.
    #[inline]
    fn octet(self) -> u8 {
        (self.low >> 56) as u8
    }

    #[inline]
    fn first(self) -> u8 {
        self.high as u8
    }

    #[inline]
    fn second(self) -> u8 {
        (self.high >> 8) as u8
    }
}

impl From<Cell> for Bits {
    #[inline]
    fn from(Cell { low, high }: Cell) -> Self {
        Bits { low, high }
    }
}

impl From<Bits> for Cell {
    #[inline]
    fn from(Bits { low, high }: Bits) -> Self {
        Cell { low, high }
    }
}

/// The largest number that three bytes hold.
pub(super) const TRIPLE_MAX: u32 = (1 << 24) - 1;
/// The largest place that a probe's cell holds.
pub(super) const NEAR_MAX: u32 = u8::MAX as u32;

/// One probe: when it was sent (word), its round-trip time (triple), who
/// answered (octet), its TTL and what became of it (high).
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(Bits);

/// What became of it: two bits of the last octet.
const STATE: u16 = 0b11 << 8;
const FLYING: u16 = 0;
const LOST: u16 = 1 << 8;
const ANSWERED: u16 = 2 << 8;
/// The triple is the place of its [`Wide`].
const WIDE: u16 = 1 << 10;

impl From<Cell> for Slot {
    #[inline]
    fn from(cell: Cell) -> Self {
        Slot(cell.into())
    }
}

impl From<Slot> for Cell {
    #[inline]
    fn from(slot: Slot) -> Self {
        slot.0.into()
    }
}

impl Slot {
    /// In flight.
    #[inline]
    pub(super) fn new(ttl: u8, sent: u32) -> Self {
        Slot(Bits::new(sent, 0, 0, [ttl, 0]))
    }

    #[inline]
    pub(super) fn ttl(self) -> u8 {
        self.0.first()
    }

    #[inline]
    pub(super) fn is_flying(self) -> bool {
        self.0.high & STATE == FLYING
    }

    /// In flight, with values that are not wide.
    #[inline]
    pub(super) fn is_short(self) -> bool {
        self.0.high & (STATE | WIDE) == FLYING
    }

    /// Answered, with values that are not wide.
    #[inline]
    pub(super) fn is_answered_short(self) -> bool {
        self.0.high & (STATE | WIDE) == ANSWERED
    }

    pub(super) fn is_lost(self) -> bool {
        self.0.high & STATE == LOST
    }

    #[inline]
    pub(super) fn is_answered(self) -> bool {
        self.0.high & STATE == ANSWERED
    }

    pub(super) fn lose(&mut self) {
        self.0.high = self.0.high & !STATE | LOST;
    }

    #[inline]
    pub(super) fn answer(&mut self) {
        self.0.high = self.0.high & !STATE | ANSWERED;
    }

    /// The low bits of the moment it was sent.
    #[inline]
    pub(super) fn sent(self) -> u32 {
        self.0.word()
    }

    #[inline]
    pub(super) fn set_sent(&mut self, sent: u32) {
        self.0.low = self.0.low >> 32 << 32 | u64::from(sent);
    }

    #[inline]
    pub(super) fn is_wide(self) -> bool {
        self.0.high & WIDE != 0
    }

    /// Where its wide values stand, if it has any.
    #[inline]
    pub(super) fn wide(self) -> Option<u32> {
        self.is_wide().then(|| self.0.triple())
    }

    pub(super) fn set_wide(&mut self, place: u32) {
        self.0.high |= WIDE;
        self.set_rtt(place, 0);
    }

    /// Its round-trip time, unless it is wide.
    #[inline]
    pub(super) fn rtt(self) -> u32 {
        self.0.triple()
    }

    /// And the place of the answer.
    #[inline]
    pub(super) fn set_rtt(&mut self, rtt: u32, from: u8) {
        let Bits { high, .. } = self.0;
        self.0 = Bits::new(self.sent(), rtt, from, high.to_le_bytes());
    }

    /// The place of its answer's [`Head`], unless it is wide.
    #[inline]
    pub(super) fn place(self) -> u32 {
        u32::from(self.0.octet())
    }
}

/// What does not fit into a slot: round-trip time (word), the place of the
/// answer (triple), the high bits of the moment it was sent (octet).
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide(Bits);

/// In the last octet of a [`Wide`], where a [`Head`] has its kind.
const IS_WIDE: u8 = 1 << 7;

impl Wide {
    pub(super) fn new(rtt: u32, from: u32, sent_high: u8) -> Self {
        Wide(Bits::new(rtt, from, sent_high, [0, IS_WIDE]))
    }

    pub(super) fn rtt(self) -> u32 {
        self.0.word()
    }

    pub(super) fn place(self) -> u32 {
        self.0.triple()
    }

    pub(super) fn sent_high(self) -> u8 {
        self.0.octet()
    }
}

impl From<Cell> for Wide {
    fn from(cell: Cell) -> Self {
        Wide(cell.into())
    }
}

impl From<Wide> for Cell {
    fn from(wide: Wide) -> Self {
        wide.0.into()
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
    pub(super) rewrites: u32,
    pub(super) nat: Option<u16>,
}

/// The first cell of an entry: IPv4 address (word), rewrites (half), code and
/// reply's TTL (octets), quoted TTL, kind and flags (high).
#[derive(Clone, Copy, Debug)]
pub(super) struct Head(Bits);

const KIND: u8 = 0b111;
const UPPER: u8 = 1 << 3;
const QUOTED: u8 = 1 << 4;
/// The address is an IPv6 one, in two more cells.
const V6: u8 = 1 << 5;
/// A cell with the MTU (word), the number of labels (half), what it has ([`HAS_MTU`],
/// [`HAS_NAT`]), more rewrites (octets) and the NAT's identifier (high) follows, and
/// labels, two in a cell.
const RICH: u8 = 1 << 6;

/// In the third octet of a rich entry's cell: it has an MTU.
const HAS_MTU: u8 = 1;
/// It has a NAT's identifier.
const HAS_NAT: u8 = 1 << 1;

impl Head {
    #[inline]
    fn bits(self) -> u8 {
        self.0.second()
    }

    #[inline]
    pub(super) fn kind(self) -> ReplyKind {
        match self.bits() & KIND {
            0 => ReplyKind::TimeExceeded,
            1 => ReplyKind::Unreachable,
            2 => ReplyKind::PacketTooBig,
            3 => ReplyKind::Sack,
            4 => ReplyKind::DupAck,
            5 => ReplyKind::Rst,
            6 => ReplyKind::SynAck,
            // Neither has a code of its own.
            _ if self.code() == 0 => ReplyKind::EchoReply,
            _ => ReplyKind::UdpReply,
        }
    }

    #[inline]
    pub(super) fn bound(self) -> RttBound {
        match self.bits() & UPPER {
            0 => RttBound::Exact,
            _ => RttBound::Upper,
        }
    }

    #[inline]
    pub(super) fn code(self) -> u8 {
        self.0.third()
    }

    #[inline]
    pub(super) fn reply_ttl(self) -> u8 {
        self.0.octet()
    }

    #[inline]
    pub(super) fn quoted_ttl(self) -> Option<u8> {
        (self.bits() & QUOTED != 0).then_some(self.0.first())
    }

    /// The first 16 of them.
    #[inline]
    fn rewrites(self) -> u16 {
        self.0.half()
    }
}

/// A kind's number.
#[inline]
const fn number(kind: ReplyKind) -> u8 {
    match kind {
        ReplyKind::TimeExceeded => 0,
        ReplyKind::Unreachable => 1,
        ReplyKind::PacketTooBig => 2,
        ReplyKind::Sack => 3,
        ReplyKind::DupAck => 4,
        ReplyKind::Rst => 5,
        ReplyKind::SynAck => 6,
        ReplyKind::EchoReply | ReplyKind::UdpReply => 7,
    }
}

impl Head {
    /// Of an answer that is neither an IPv6 one nor rich.
    #[inline]
    pub(super) fn short(
        from: Ipv4Addr,
        kind: ReplyKind,
        bound: RttBound,
        code: u8,
        ttls: (u8, Option<u8>),
        rewrites: u16,
    ) -> Cell {
        let upper = match bound {
            RttBound::Exact => 0,
            RttBound::Upper => UPPER,
        };
        let (reply_ttl, quoted_ttl) = ttls;
        let (quoted_ttl, quoted) = match quoted_ttl {
            Some(ttl) => (ttl, QUOTED),
            None => (0, 0),
        };
        let bits = number(kind) | upper | quoted;
        let triple = u32::from(rewrites) | u32::from(code) << 16;
        let address = u32::from_le_bytes(from.octets());
        Bits::new(address, triple, reply_ttl, [quoted_ttl, bits]).into()
    }
}

/// What answers have in common, cell by cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    head: Cell,
    v6: Option<Ipv6Addr>,
    mtu: Option<u32>,
    nat: Option<u16>,
    /// Rewrites that the head has no room for.
    more: u8,
    mpls: &'a [MplsLabel],
}

impl<'a> Entry<'a> {
    pub(super) fn new(common: &Common<'a>) -> Self {
        let Common { mtu, nat, mpls, .. } = *common;
        let more = (common.rewrites >> 16) as u8;
        let (v4, v6) = match common.from {
            IpAddr::V4(address) => (address, None),
            IpAddr::V6(address) => (Ipv4Addr::UNSPECIFIED, Some(address)),
        };
        let mut head = Bits::from(Head::short(
            v4,
            common.kind,
            common.bound,
            common.code,
            (common.reply_ttl, common.quoted_ttl),
            common.rewrites as u16,
        ));
        if v6.is_some() {
            head.high |= u16::from(V6) << 8;
        }
        if mtu.is_some() || nat.is_some() || more != 0 || !mpls.is_empty() {
            head.high |= u16::from(RICH) << 8;
        }
        Entry {
            head: head.into(),
            v6,
            mtu,
            nat,
            more,
            mpls,
        }
    }

    /// Its only cell, if it has but one.
    pub(super) fn short(&self) -> Option<Cell> {
        self.is_short().then_some(self.head)
    }

    /// The same answer, less what only rich ones have.
    pub(super) fn without_labels(&self) -> Self {
        let mut head = Bits::from(self.head);
        head.high &= !(u16::from(RICH) << 8);
        Entry {
            head: head.into(),
            mtu: None,
            nat: None,
            more: 0,
            mpls: &[],
            ..*self
        }
    }

    /// Whether one cell holds it.
    #[inline]
    fn is_short(&self) -> bool {
        Bits::from(self.head).second() & (V6 | RICH) == 0
    }

    /// Cells that it takes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        if self.is_short() {
            return 1;
        }
        let bits = Bits::from(self.head).second();
        let address = if bits & V6 == 0 { 0 } else { 2 };
        let rich = match bits & RICH {
            0 => 0,
            _ => 1 + self.mpls.len().div_ceil(2),
        };
        1 + address + rich
    }

    /// One of its cells.
    fn cell(&self, nth: usize) -> Cell {
        let behind = match (nth, self.v6) {
            (0, _) => return self.head,
            (1 | 2, Some(address)) => {
                let octets = address.octets();
                let (first, rest) = octets.split_at(FIRST);
                let mut cell = [0; 10];
                let part = if nth == 1 { first } else { rest };
                for (out, octet) in cell.iter_mut().zip(part) {
                    *out = *octet;
                }
                return Cell::of(cell);
            }
            (_, Some(_)) => nth - 3,
            (_, None) => nth - 1,
        };
        let Entry { mtu, nat, mpls, .. } = self;
        let Some(pair) = behind.checked_sub(1) else {
            let has_mtu = if mtu.is_some() { HAS_MTU } else { 0 };
            let has_nat = if nat.is_some() { HAS_NAT } else { 0 };
            let count = mpls.len() as u32 & u32::from(u16::MAX);
            let triple = count | u32::from(has_mtu | has_nat) << 16;
            let nat = nat.unwrap_or_default().to_le_bytes();
            return Bits::new(mtu.unwrap_or_default(), triple, self.more, nat).into();
        };
        let labels = mpls.get(2 * pair..).unwrap_or_default();
        let mut cell = [0; 10];
        for (label, out) in labels.iter().zip(cell.as_chunks_mut::<4>().0) {
            *out = packed(label).to_le_bytes();
        }
        Cell::of(cell)
    }

    /// Whether it stands in these cells already.
    #[inline]
    pub(super) fn is_at(&self, cells: &[Cell]) -> bool {
        cells.first() == Some(&self.head) && (self.is_short() || self.is_long_at(cells))
    }

    fn is_long_at(&self, cells: &[Cell]) -> bool {
        (1..self.len()).all(|nth| cells.get(nth) == Some(&self.cell(nth)))
    }

    /// Writes it down.
    pub(super) fn write(&self, cells: &mut [Cell]) {
        for (nth, out) in cells.iter_mut().take(self.len()).enumerate() {
            *out = self.cell(nth);
        }
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

/// What only rich entries have.
#[derive(Clone, Debug, Default)]
pub(super) struct Rich {
    pub(super) mtu: Option<u32>,
    pub(super) nat: Option<u16>,
    /// Outermost first.
    pub(super) mpls: Vec<MplsLabel>,
    /// Rewrites that the head has no room for.
    more: u8,
}

/// An entry, read back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) head: Head,
    rest: &'a [Cell],
}

impl<'a> Written<'a> {
    /// The one that begins these cells; `None` where there is none.
    #[inline]
    pub(super) fn new(cells: &'a [Cell]) -> Option<Self> {
        let (head, rest) = cells.split_first()?;
        let head = Head(Bits::from(*head));
        (head.bits() & IS_WIDE == 0).then_some(Written { head, rest })
    }

    #[inline]
    pub(super) fn from(&self) -> IpAddr {
        if self.head.bits() & V6 == 0 {
            return IpAddr::V4(self.head.0.word().to_le_bytes().into());
        }
        let bytes = self.rest.iter().flat_map(|cell| cell.octets());
        let mut octets = [0; 16];
        for (out, byte) in octets.iter_mut().zip(bytes) {
            *out = byte;
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }

    /// What only rich ones have.
    #[inline]
    pub(super) fn rich(&self) -> Rich {
        match self.head.bits() & RICH {
            0 => Rich::default(),
            _ => self.read_rich().unwrap_or_default(),
        }
    }

    /// All rewrites, `rich` being its own.
    pub(super) fn rewrites(&self, rich: &Rich) -> u32 {
        u32::from(self.head.rewrites()) | u32::from(rich.more) << 16
    }

    fn read_rich(&self) -> Option<Rich> {
        let behind = if self.head.bits() & V6 == 0 { 0 } else { 2 };
        let (rich, labels) = self.rest.get(behind..)?.split_first()?;
        let rich = Bits::from(*rich);
        let words = labels.iter().flat_map(|cell| {
            let [a, b, c, d, e, f, g, h, ..] = cell.octets();
            [[a, b, c, d], [e, f, g, h]]
        });
        let labels = words.map(|word| unpacked(u32::from_le_bytes(word)));
        Some(Rich {
            mtu: (rich.third() & HAS_MTU != 0).then(|| rich.word()),
            nat: (rich.third() & HAS_NAT != 0).then_some(rich.high),
            mpls: labels.take(usize::from(rich.half())).collect(),
            more: rich.octet(),
        })
    }
}

/// Whether it is all of an entry, or a wide value.
#[inline]
pub(super) fn is_single(cell: Cell) -> bool {
    let bits = Bits::from(cell).second();
    bits & (V6 | RICH) == 0 || bits & IS_WIDE != 0
}

/// In place of what [`exceeded`] finds.
pub(super) const NOBODY: (Head, Ipv4Addr) = (Head(Bits { low: 0, high: 0 }), Ipv4Addr::UNSPECIFIED);

/// An entry's first cell, if it is the only one, of a time exceeded that shows
/// nothing rewritten: the head, and the address.
#[inline]
pub(super) fn exceeded(cell: Cell) -> Option<(Head, Ipv4Addr)> {
    let head = Head(Bits::from(cell));
    let plain = head.bits() & (V6 | RICH | IS_WIDE | KIND) == 0 && head.rewrites() == 0;
    let address = Ipv4Addr::from(head.0.word().to_le_bytes());
    plain.then_some((head, address))
}

/// Cells that the entry, or the wide value, takes which begins these.
#[inline]
pub(super) fn size(cells: &[Cell]) -> usize {
    let first = cells.first().copied().unwrap_or_default();
    if is_single(first) {
        return 1;
    }
    let bits = Bits::from(first).second();
    let address = if bits & V6 == 0 { 0 } else { 2 };
    let rich = match bits & RICH {
        0 => 0,
        _ => cells.get(1 + address).map_or(1, |rich| {
            1 + usize::from(Bits::from(*rich).half()).div_ceil(2)
        }),
    };
    1 + address + rich
}
