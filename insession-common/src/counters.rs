//! One counter for every branch of the steering decision. This table is the
//! only place where they are named: the map's index, the metric label and the
//! documentation all come from it.

use crate::stamp::SteerKind;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a packet went where it went.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter { $($(#[doc = $doc])+ $variant,)+ }

        impl Counter {
            /// Every counter, in the order of the map.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)+];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Counter::$variant => $label,)+ }
            }

            /// What it counts, in a sentence.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Counter::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// A TCP segment from a peer of ours, redirected.
    Segment = "segment",
    /// An ICMP error that quotes a flow of ours, redirected.
    Quote = "quote",
    /// An ICMP error that quotes a flow of ours as a NAT rewrote it, redirected.
    RewrittenQuote = "rewritten-quote",
    /// Ours, but the queue has no socket of ours, or the driver no room for the stamp; passed.
    RedirectFailed = "redirect-failed",
    /// Neither IPv4 nor IPv6 below at most two VLAN tags; passed.
    NotIp = "not-ip",
    /// IP, but neither TCP nor ICMP; passed.
    OtherProtocol = "other-protocol",
    /// TCP outside our local ports; passed without a look-up.
    PortOutside = "port-outside",
    /// A segment for one of our ports, of no flow of ours; passed.
    NoFlow = "no-flow",
    /// ICMP that is no error we read; passed.
    OtherIcmp = "other-icmp",
    /// An ICMP error whose quote names no flow of ours; passed.
    QuoteNoFlow = "quote-no-flow",
    /// A fragment, or a quote of one; passed.
    Fragment = "fragment",
    /// The packet ends before its headers do; passed.
    Truncated = "truncated",
    /// A header contradicts itself; passed.
    Malformed = "malformed",
    /// More VLAN tags or IPv6 extension headers than are followed; passed.
    TooDeep = "too-deep",
}

impl Counter {
    /// That of a packet of ours which was recognised in this way.
    #[inline(always)]
    #[must_use]
    pub const fn of(kind: SteerKind) -> Self {
        match kind {
            SteerKind::Segment => Counter::Segment,
            SteerKind::Quote => Counter::Quote,
            SteerKind::RewrittenQuote => Counter::RewrittenQuote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn labels_are_unique_and_reasons_are_sentences() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index, "the map's index");
            let (label, reason) = (counter.label(), counter.reason());
            assert!(reason.ends_with('.') && !reason.starts_with(' '), "{label}");
            assert!(
                Counter::ALL[..index]
                    .iter()
                    .all(|other| other.label() != label)
            );
        }
    }
}
