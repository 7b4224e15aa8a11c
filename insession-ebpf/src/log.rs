//! Rare diagnostics, in the format of aya-log and behind a load-time constant.
//!
//! With [`LOG`] 0, as it is unless a loader sets it, the verifier knows that
//! these branches are dead and removes them from the program.
//!
//! aya-log-ebpf is not used for it: it defines its map the old way (section
//! `maps`), at which libbpf refuses the whole object, and its macros write a
//! record in loops. A record here is a constant but for one number.

use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::macros::btf_map;
use aya_log_common::{ArgumentKind, DisplayHint, Level, RecordFieldKind};

#[unsafe(no_mangle)]
static LOG: u8 = 0;

/// Where aya-log looks. A multiple of every page size (arm64 has 64 KiB); without
/// a value type, which libbpf refuses for a ring.
#[btf_map]
static AYA_LOGS: RingBuf<(), 65536> = RingBuf::new();

/// No socket of ours at this packet's queue.
pub const NO_SOCKET: Record = Record::new("queue ", ": ours, passed: no AF_XDP socket in the map");
/// No room for the stamp.
pub const NO_ROOM: Record = Record::new("queue ", ": ours, passed: no room for the stamp");
/// A quote whose session user space has to find.
pub const UNRESOLVED: Record = Record::new("queue ", ": a rewritten quote that names no session");

/// A record: its length, then fields of tag, length and value.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Record {
    bytes: [u8; Record::SIZE],
}

/// Writes one, with a number at its place; drops it when the ring is full.
#[inline(always)]
pub fn log(record: Record, number: u32) {
    if crate::constant(&LOG) == 0 {
        return;
    }
    if let Some(mut entry) = AYA_LOGS.reserve_untyped::<Record>(0) {
        let mut record = record;
        let [a, b, c, d] = number.to_ne_bytes();
        record.bytes[Record::NUMBER] = a;
        record.bytes[Record::NUMBER + 1] = b;
        record.bytes[Record::NUMBER + 2] = c;
        record.bytes[Record::NUMBER + 3] = d;
        entry.write(record);
        entry.submit(0);
    }
}

impl Record {
    const SIZE: usize = 128;

    /// Where the number's value stands: every record begins alike.
    const NUMBER: usize = 75;

    const fn new(before: &str, behind: &str) -> Self {
        let mut to = Writer {
            bytes: [0; Self::SIZE],
            at: 2,
        };
        to.field(RecordFieldKind::Target as u8, b"insession");
        to.field(RecordFieldKind::Level as u8, &[Level::Info as u8]);
        to.field(RecordFieldKind::Module as u8, b"insession_ebpf");
        to.field(RecordFieldKind::File as u8, b"main.rs");
        to.field(RecordFieldKind::Line as u8, &0u32.to_ne_bytes());
        to.field(RecordFieldKind::NumArgs as u8, &4u32.to_ne_bytes());
        to.field(ArgumentKind::Str as u8, before.as_bytes());
        to.field(
            ArgumentKind::DisplayHint as u8,
            &[DisplayHint::Default as u8],
        );
        to.field(ArgumentKind::U32 as u8, &[0; 4]);
        assert!(to.at - 4 == Self::NUMBER);
        to.field(ArgumentKind::Str as u8, behind.as_bytes());
        let [low, high] = (to.at as u16).to_ne_bytes();
        to.bytes[0] = low;
        to.bytes[1] = high;
        Record { bytes: to.bytes }
    }
}

/// Runs while compiling only: what does not fit does not compile.
struct Writer {
    bytes: [u8; Record::SIZE],
    at: usize,
}

impl Writer {
    const fn byte(&mut self, byte: u8) {
        self.bytes[self.at] = byte;
        self.at += 1;
    }

    const fn field(&mut self, tag: u8, value: &[u8]) {
        let [low, high] = (value.len() as u16).to_ne_bytes();
        self.byte(tag);
        self.byte(low);
        self.byte(high);
        let mut index = 0;
        while index < value.len() {
            self.byte(value[index]);
            index += 1;
        }
    }
}
