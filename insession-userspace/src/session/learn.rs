//! Middleboxes that rewrite sequence numbers (firewalls that randomise them,
//! carrier NATs) but miss a place where they stand: the quotes of ICMP errors,
//! or the edges of SACK blocks. What they miss is off by a constant, which is
//! learnt from a moment when just one probe can be meant.

use alloc::vec::Vec;

use super::IcmpError;
use crate::time::Instant;

/// Errors that are kept until their offset is known: those of one window, and
/// some. Beyond, they are dropped.
const KEPT: usize = 32;

/// The offset of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Offset {
    /// Nothing odd was seen.
    #[default]
    None,
    /// Something was, and what it is is not known.
    Seen,
    /// What stands there is our number plus this.
    Known(u32),
    /// What was learnt did not hold: nothing is believed any more.
    Broken,
}

impl Offset {
    /// Our number, from what stands there.
    pub(super) fn undo(self, sequence: u32) -> Option<u32> {
        match self {
            Offset::Known(offset) => Some(sequence.wrapping_sub(offset)),
            _ => None,
        }
    }

    /// Whether answers came that could not be read.
    pub(super) fn is_unread(self) -> bool {
        matches!(self, Offset::Seen | Offset::Broken)
    }
}

/// What is known of a path's rewriting.
#[derive(Debug, Default)]
pub(super) struct Learn {
    /// In quotes.
    pub(super) quotes: Offset,
    /// In SACK edges.
    pub(super) sack: Offset,
    /// Errors that will be read when the offset is known.
    unread: Vec<(Instant, IcmpError)>,
}

impl Learn {
    /// Keeps an error; `false` when one of this sequence number is kept already
    /// (a duplicate), or too many are.
    pub(super) fn keep(&mut self, at: Instant, error: &IcmpError) -> bool {
        let known = self
            .unread
            .iter()
            .any(|(_, kept)| kept.quote.sequence == error.quote.sequence);
        if known || self.unread.len() >= KEPT {
            return false;
        }
        self.unread.push((at, error.clone()));
        true
    }

    /// How many probes in flight are answered by errors that are kept.
    pub(super) fn kept(&self) -> usize {
        self.unread.len()
    }

    /// Gives them out.
    pub(super) fn take(&mut self) -> Vec<(Instant, IcmpError)> {
        core::mem::take(&mut self.unread)
    }

    /// The kept errors' sequence numbers.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u32> {
        self.unread.iter().map(|(_, error)| error.quote.sequence)
    }
}
