//! Values of records as types: the contract's words, and spans of time.

use std::sync::Arc;

use crate::time::Duration;
use crate::trace::{Method, MtuLimit, Owner, ReplyKind, Rewrite, RttBound, Verdict};

/// What is written as a word of the contract's.
pub(super) trait Word: Copy + 'static {
    /// All there are.
    const ALL: &'static [Self];

    /// As it is written.
    fn text(self) -> &'static str;

    /// From its word.
    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.text() == text)
    }
}

macro_rules! words {
    ($($kind:ty),*) => {$(
        impl Word for $kind {
            const ALL: &'static [Self] = &<$kind>::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    )*};
}

words!(Method, MtuLimit, ReplyKind, Rewrite, RttBound, Verdict);

/// The kinds of links, as [`crate::trace::LinkInfo::kind`] has them.
pub(super) fn link_kind(text: &str) -> Option<&'static str> {
    ["xdp", "packet", "sim", "mirror"]
        .into_iter()
        .find(|word| *word == text)
}

/// The modes of links, as [`crate::trace::LinkInfo::mode`] has them.
pub(super) fn link_mode(text: &str) -> Option<&'static str> {
    ["native", "generic"].into_iter().find(|word| *word == text)
}

/// Whose an address is, where anything of it is known.
pub(super) fn owner(
    asn: Option<u32>,
    holder: Option<String>,
    prefix: Option<String>,
    ixp: Option<String>,
) -> Option<Arc<Owner>> {
    let owner = Owner {
        asn,
        holder,
        prefix,
        ixp,
    };
    (owner != Owner::default()).then(|| Arc::new(owner))
}

/// A span from its microseconds: exact to the nanosecond below 2⁵⁰ ns.
pub(super) fn span(micros: f64) -> Option<Duration> {
    let nanos = (micros * 1_000.0).round();
    // What a u64 can hold.
    (0.0..18_446_744_073_709_551_616.0)
        .contains(&nanos)
        .then(|| Duration::from_nanos(nanos as u64))
}

/// Microseconds of a span: exact below 2⁵³ ns (104 days).
pub(super) fn micros(span: Duration) -> f64 {
    span.as_nanos() as f64 / 1_000.0
}
