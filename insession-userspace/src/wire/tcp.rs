//! TCP (RFC 9293): header, options, SACK blocks (RFC 2018), timestamps (RFC 7323).

use super::checksum::Sum;
use super::{Error, Field, be16, be32};

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;
/// Octets of options that fit behind it.
pub const MAX_OPTIONS_LEN: usize = 40;

/// Flag bits of the 13th and 14th octet's low byte.
pub mod flags {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronize.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// One SACK block: `left..right` in sequence space (RFC 2018 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: u32,
    /// The sequence number after its last.
    pub right: u32,
}

/// The SACK blocks of a segment, in the order they stand: at most 4 fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SackBlock; 4],
    len: u8,
}

impl SackBlocks {
    /// Adds a block behind the others; `false` when four are there already.
    pub fn push(&mut self, block: SackBlock) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = block;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The blocks.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The options that matter here; others are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, octets (only in SYNs).
    pub mss: Option<u16>,
    /// Window scale shift (only in SYNs).
    pub window_scale: Option<u8>,
    /// SACK permitted (only in SYNs).
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks.
    pub sack: SackBlocks,
}

/// Whether an option of one of these kinds is among them.
#[must_use]
pub fn has_option(mut bytes: &[u8], kinds: &[u8]) -> bool {
    loop {
        bytes = match *bytes {
            [] | [option::END, ..] => return false,
            [option::NOP, ref rest @ ..] => rest,
            [kind, ..] if kinds.contains(&kind) => return true,
            [_, len, ..] if len >= 2 => bytes.get(usize::from(len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// Option kinds.
pub(super) mod option {
    pub(in crate::wire) const END: u8 = 0;
    pub(in crate::wire) const NOP: u8 = 1;
    pub(in crate::wire) const MSS: u8 = 2;
    pub(in crate::wire) const WINDOW_SCALE: u8 = 3;
    pub(in crate::wire) const SACK_PERMITTED: u8 = 4;
    pub(in crate::wire) const SACK: u8 = 5;
    pub(in crate::wire) const TIMESTAMPS: u8 = 8;
}

pub(super) mod field {
    use super::Field;
    pub(in crate::wire) const SOURCE_PORT: Field = 0..2;
    pub(in crate::wire) const DESTINATION_PORT: Field = 2..4;
    pub(in crate::wire) const SEQUENCE: Field = 4..8;
    pub(in crate::wire) const ACKNOWLEDGMENT: Field = 8..12;
    /// Data offset in 4 octets, reserved bits, flags.
    pub(in crate::wire) const OFFSET_AND_FLAGS: Field = 12..14;
    pub(in crate::wire) const WINDOW: Field = 14..16;
    pub(in crate::wire) const CHECKSUM: Field = 16..18;
    pub(in crate::wire) const URGENT: Field = 18..20;
}

/// RFC 7323 §2.3: a larger shift count is to be read as 14.
const MAX_WINDOW_SCALE: u8 = 14;

impl Options {
    /// Reads the options. Junk ends the reading and what came before it stands;
    /// an option of a length that is not its own is skipped.
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Options::default();
        // As nearly all segments of a connection have them (RFC 7323 appendix A):
        // one comparison instead of a loop.
        if let Some((stamps, rest)) = bytes.split_first_chunk::<12>()
            && stamps.starts_with(&[option::NOP, option::NOP, option::TIMESTAMPS, 10])
        {
            options.timestamps = Some((be32(stamps, 4..8), be32(stamps, 8..12)));
            bytes = rest;
        }
        loop {
            bytes = match *bytes {
                [] | [option::END, ..] => return options,
                [option::NOP, option::NOP, ref rest @ ..] | [option::NOP, ref rest @ ..] => rest,
                [kind, len, ..] if len >= 2 && usize::from(len) <= bytes.len() => {
                    let (this, rest) = bytes.split_at(usize::from(len));
                    options.read(kind, this.get(2..).unwrap_or_default());
                    rest
                }
                _ => return options,
            }
        }
    }

    fn read(&mut self, kind: u8, data: &[u8]) {
        match (kind, data) {
            (option::MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (option::WINDOW_SCALE, &[shift]) => {
                self.window_scale = Some(shift.min(MAX_WINDOW_SCALE));
            }
            (option::SACK_PERMITTED, []) => self.sack_permitted = true,
            (option::TIMESTAMPS, data) if data.len() == 8 => {
                self.timestamps = Some((be32(data, 0..4), be32(data, 4..8)));
            }
            (option::SACK, data) => {
                let (blocks, []) = data.as_chunks::<8>() else {
                    return;
                };
                for block in blocks {
                    // 40 octets of options hold 4 blocks, not more.
                    self.sack.push(SackBlock {
                        left: be32(block, 0..4),
                        right: be32(block, 4..8),
                    });
                }
            }
            _ => {}
        }
    }

    /// Octets they take, padded to four.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        let mut len = 0;
        self.each(&mut |bytes| len += bytes.len());
        len
    }

    /// Writes them to the beginning of `out`, laid out as Linux does
    /// (`tcp_options_write`), each group padded to four octets.
    pub fn emit(&self, out: &mut [u8]) {
        let mut at = 0;
        self.each(&mut |bytes| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        });
    }

    fn each(&self, put: &mut dyn FnMut(&[u8])) {
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            put(&[option::MSS, 4, a, b]);
        }
        // SACK-permitted takes the place of the padding before the timestamps.
        match (self.sack_permitted, self.timestamps.is_some()) {
            (true, _) if self.timestamps.is_some() => put(&[option::SACK_PERMITTED, 2]),
            (true, _) => put(&[option::NOP, option::NOP, option::SACK_PERMITTED, 2]),
            (false, true) => put(&[option::NOP, option::NOP]),
            (false, false) => {}
        }
        if let Some((value, echo)) = self.timestamps {
            put(&[option::TIMESTAMPS, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            put(&[option::NOP, option::WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack.as_slice();
        if !blocks.is_empty() {
            put(&[
                option::NOP,
                option::NOP,
                option::SACK,
                2 + 8 * blocks.len() as u8,
            ]);
            for block in blocks {
                put(&block.left.to_be_bytes());
                put(&block.right.to_be_bytes());
            }
        }
    }
}

/// A segment: header, options, payload.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// All of it.
    bytes: &'a [u8],
    /// Header and options, of `bytes`.
    header_len: usize,
}

impl<'a> Segment<'a> {
    /// Checks the header's length against that of the segment.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let segment = Segment {
            bytes,
            header_len: usize::from(be16(bytes, field::OFFSET_AND_FLAGS) >> 12) * 4,
        };
        if segment.header_len < HEADER_LEN || segment.header_len > bytes.len() {
            return Err(Error::Malformed);
        }
        Ok(segment)
    }

    /// Source port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        be16(self.bytes, field::SOURCE_PORT)
    }

    /// Destination port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        be16(self.bytes, field::DESTINATION_PORT)
    }

    /// Sequence number.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        be32(self.bytes, field::SEQUENCE)
    }

    /// Acknowledgment number.
    #[must_use]
    pub fn acknowledgment(&self) -> u32 {
        be32(self.bytes, field::ACKNOWLEDGMENT)
    }

    /// Flag bits, see [`flags`].
    #[must_use]
    pub fn flags(&self) -> u8 {
        be16(self.bytes, field::OFFSET_AND_FLAGS) as u8
    }

    /// The window field.
    #[must_use]
    pub fn window(&self) -> u16 {
        be16(self.bytes, field::WINDOW)
    }

    /// The checksum field.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes, field::CHECKSUM)
    }

    /// The options' bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.bytes
            .get(HEADER_LEN..self.header_len)
            .unwrap_or_default()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }

    /// Whether the checksum is right over segment and pseudo-header, or is the
    /// folded sum of the pseudo-header alone: so a segment looks whose checksum
    /// was left to a NIC that it never met (`CHECKSUM_PARTIAL`, `tcp_v4_send_check`).
    #[must_use]
    #[inline]
    pub fn checksum_ok(&self, pseudo: Sum) -> bool {
        pseudo.bytes(self.bytes).is_valid() || self.checksum() == pseudo.fold()
    }
}

/// What of a segment the shortest quote holds (RFC 792: 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First8 {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
}

impl First8 {
    /// Reads the first 8 octets of a segment.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there are fewer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.first_chunk::<8>().ok_or(Error::Malformed)?;
        Ok(First8 {
            source_port: be16(bytes, field::SOURCE_PORT),
            destination_port: be16(bytes, field::DESTINATION_PORT),
            sequence: be32(bytes, field::SEQUENCE),
        })
    }
}

/// A segment's meaning, urgent pointer left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Flag bits, see [`flags`].
    pub flags: u8,
    /// The window field.
    pub window: u16,
    /// Options. With timestamps at most three SACK blocks fit.
    pub options: Options,
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Repr<'a> {
    /// Reads it. `pseudo` is the sum of the pseudo-header, length included.
    ///
    /// # Errors
    /// [`Error::Checksum`].
    pub fn parse(segment: &Segment<'a>, pseudo: Sum) -> Result<Self, Error> {
        if !segment.checksum_ok(pseudo) {
            return Err(Error::Checksum);
        }
        Ok(Repr {
            source_port: segment.source_port(),
            destination_port: segment.destination_port(),
            sequence: segment.sequence(),
            acknowledgment: segment.acknowledgment(),
            flags: segment.flags(),
            window: segment.window(),
            options: Options::parse(segment.options()),
            payload: segment.payload(),
        })
    }

    /// Octets it takes, payload included.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        HEADER_LEN + self.options.buffer_len() + self.payload.len()
    }

    /// Writes it to the beginning of `out`. `pseudo` as in [`Repr::parse`].
    pub fn emit(&self, pseudo: Sum, out: &mut [u8]) {
        let out = &mut out[..self.buffer_len()];
        let header_len = HEADER_LEN + self.options.buffer_len();
        assert!(
            header_len <= HEADER_LEN + MAX_OPTIONS_LEN,
            "more options than fit into a segment"
        );
        let offset_and_flags = (header_len as u16 / 4) << 12 | u16::from(self.flags);
        out[field::SOURCE_PORT].copy_from_slice(&self.source_port.to_be_bytes());
        out[field::DESTINATION_PORT].copy_from_slice(&self.destination_port.to_be_bytes());
        out[field::SEQUENCE].copy_from_slice(&self.sequence.to_be_bytes());
        out[field::ACKNOWLEDGMENT].copy_from_slice(&self.acknowledgment.to_be_bytes());
        out[field::OFFSET_AND_FLAGS].copy_from_slice(&offset_and_flags.to_be_bytes());
        out[field::WINDOW].copy_from_slice(&self.window.to_be_bytes());
        out[field::CHECKSUM].fill(0);
        out[field::URGENT].fill(0);
        self.options.emit(&mut out[HEADER_LEN..header_len]);
        out[header_len..].copy_from_slice(self.payload);
        let checksum = pseudo.bytes(out).finish();
        out[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    prop_compose! {
        fn options()(
            mss in proptest::option::of(any::<u16>()),
            window_scale in proptest::option::of(0..=MAX_WINDOW_SCALE),
            sack_permitted: bool,
            timestamps in proptest::option::of(any::<(u32, u32)>()),
            blocks in proptest::collection::vec(any::<(u32, u32)>(), 0..=4),
        ) -> Options {
            let mut options = Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                sack: SackBlocks::default(),
            };
            for (left, right) in blocks {
                let before = options;
                options.sack.push(SackBlock { left, right });
                if options.buffer_len() > MAX_OPTIONS_LEN {
                    options = before;
                }
            }
            options
        }
    }

    proptest! {
        #[test]
        fn what_was_emitted_is_parsed(
            ports: [u16; 2],
            numbers: [u32; 2],
            flags: u8,
            window: u16,
            options in options(),
            payload: Vec<u8>,
            pseudo: u16,
        ) {
            let repr = Repr {
                source_port: ports[0],
                destination_port: ports[1],
                sequence: numbers[0],
                acknowledgment: numbers[1],
                flags,
                window,
                options,
                payload: &payload,
            };
            let pseudo = Sum::from_folded(pseudo);
            let len = repr.buffer_len();
            let mut buffer = vec![0xa5; len + 1];
            repr.emit(pseudo, &mut buffer);
            prop_assert_eq!(buffer.pop(), Some(0xa5));
            let segment = Segment::new(&buffer).unwrap();
            prop_assert_eq!(Repr::parse(&segment, pseudo), Ok(repr));
            let (_, payload) = etherparse::TcpSlice::from_slice(&buffer)
                .map(|slice| (slice.to_header(), slice.payload()))
                .unwrap();
            prop_assert_eq!(payload, repr.payload);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            if let Ok(segment) = Segment::new(&bytes) {
                let _ = Repr::parse(&segment, Sum::ZERO);
                let read = HEADER_LEN + segment.options().len() + segment.payload().len();
                prop_assert_eq!(read, bytes.len());
            }
        }

        #[test]
        fn any_options_are_answered(bytes in proptest::collection::vec(0u8..12, 0..40)) {
            let options = Options::parse(&bytes);
            prop_assert!(options.sack.as_slice().len() <= 4);
        }

        /// What stands before junk stands.
        #[test]
        fn junk_ends_the_options(options in options(), kind in 2u8.., len in 0u8..2) {
            let mut bytes = vec![0; options.buffer_len()];
            options.emit(&mut bytes);
            bytes.extend([kind, len, option::MSS, 4, 1, 1]);
            prop_assert_eq!(Options::parse(&bytes), options);
        }
    }

    #[test]
    fn options_of_a_length_not_their_own_are_skipped() {
        let bytes = [
            option::MSS,
            3,
            1,
            option::WINDOW_SCALE,
            4,
            1,
            1,
            option::SACK,
            9,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            option::TIMESTAMPS,
            4,
            1,
            1,
            254,
            3,
            9,
            option::SACK_PERMITTED,
            2,
            option::WINDOW_SCALE,
            3,
            255,
            option::MSS,
            4,
            5,
            0xb4,
        ];
        let expected = Options {
            mss: Some(1460),
            window_scale: Some(14),
            sack_permitted: true,
            ..Options::default()
        };
        assert_eq!(Options::parse(&bytes), expected);
        // One that ends behind the segment is junk.
        assert_eq!(Options::parse(&bytes[..bytes.len() - 1]).mss, None);
    }

    #[test]
    fn four_blocks_fit_without_timestamps() {
        let mut options = Options::default();
        for left in [9, 7, 5, 3] {
            assert!(options.sack.push(SackBlock {
                left,
                right: left + 1
            }));
        }
        assert!(!options.sack.push(SackBlock::default()));
        assert_eq!(options.buffer_len(), 36);
        let mut bytes = [0xa5; 36];
        options.emit(&mut bytes);
        assert_eq!(Options::parse(&bytes), options);
    }
}
