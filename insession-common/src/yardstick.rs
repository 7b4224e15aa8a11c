//! The flows that the XDP program's cost is measured with, by number, and how
//! the measuring program is told what to do: in the bytes of the two MAC
//! addresses, which steering does not read.

/// What a frame says to the measuring program, in place of its MAC addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Of the random numbers; changed at every repetition.
    pub state: u32,
    /// Among how many flows to pick one.
    pub span: u32,
    /// The number of the first of them, in units of 65,536.
    pub first: u16,
    /// Whether the flow's ends stand in an ICMP error's quote (1) or in a TCP
    /// segment (0).
    pub quote: u8,
    /// Whether to steer (1) or to do all but that (0).
    pub steer: u8,
}

impl Orders {
    /// To do nothing, among one flow.
    pub const STILL: Orders = Orders {
        state: 0,
        span: 1,
        first: 0,
        quote: 0,
        steer: 0,
    };

    /// As the first bytes of a frame.
    #[must_use]
    pub fn bytes(&self) -> [u8; 12] {
        let [a, b, c, d] = self.state.to_ne_bytes();
        let [e, f, g, h] = self.span.to_ne_bytes();
        let [i, j] = self.first.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, self.quote, self.steer]
    }
}

const _: () = assert!(size_of::<Orders>() == 12);

/// Where a segment's source address stands: IPv4 without options, no tags.
pub const SEGMENT_REMOTE: usize = 26;
/// Where a segment's destination port stands.
pub const SEGMENT_PORT: usize = 36;
/// Where the destination address of an ICMP error's quote stands: IPv4 without
/// options, inside and outside.
pub const QUOTE_REMOTE: usize = 58;
/// Where the quote's source port stands.
pub const QUOTE_PORT: usize = 62;
/// How long a frame is at least.
pub const SHORTEST: usize = 70;

/// Our address in all of them: 192.0.2.1.
pub const LOCAL: [u8; 4] = [192, 0, 2, 1];
/// The remote port of all of them.
pub const REMOTE_PORT: u16 = 443;
/// The first local port.
pub const FIRST_PORT: u16 = 61_000;
/// The last local port.
pub const LAST_PORT: u16 = FIRST_PORT + 4_095;

/// The remote address (from 10.0.0.0 on) and the local port of a flow.
#[inline(always)]
#[must_use]
pub const fn ends(index: u32) -> (u32, u16) {
    (0x0a00_0000 | index, FIRST_PORT + (index & 0xfff) as u16)
}

/// The next state: a linear congruence (Knuth), of period 2^32.
#[inline(always)]
#[must_use]
pub const fn next(state: u32) -> u32 {
    state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// One of `span` numbers, by a state's higher bits.
#[inline(always)]
#[must_use]
pub const fn pick(state: u32, span: u32) -> u32 {
    ((state as u64 * span as u64) >> 32) as u32
}
