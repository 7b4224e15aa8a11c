//! Middleboxes that rewrite sequence numbers (firewalls that randomise them,
//! carrier NATs) but miss a place where they stand: the quotes of ICMP errors,
//! or the edges of SACK blocks. What they miss is off by a constant, which is
//! learnt from a moment when just one probe can be meant.

use alloc::vec::Vec;

use super::IcmpError;
use crate::time::Instant;
use crate::trace::RttBound;

/// Errors, and SACK edges, that are kept until their offset is known: those of
/// one window, and some. Beyond, they are dropped.
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
    errors: Vec<(Instant, IcmpError)>,
    /// Edges of SACK blocks that will be.
    edges: Vec<Edge>,
    /// Probes were sent again for the sake of either; that is done once.
    asked_for_quotes: bool,
    asked_for_sack: bool,
}

/// The left edge of a SACK block that holds one byte, and what it was worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) left: u32,
    /// When the segment arrived.
    pub(super) at: Instant,
    /// The segment's TTL.
    pub(super) ttl: u8,
    pub(super) bound: RttBound,
}

impl Learn {
    /// Whether the offset in quotes could still be learnt by asking once more.
    pub(super) fn quotes_are_open(&self) -> bool {
        self.quotes == Offset::Seen && !self.asked_for_quotes
    }

    /// The same for SACK edges.
    pub(super) fn sack_is_open(&self) -> bool {
        self.sack == Offset::Seen && !self.asked_for_sack
    }

    /// For what can be learnt it was asked once more.
    pub(super) fn asked(&mut self) {
        self.asked_for_quotes |= self.quotes == Offset::Seen;
        self.asked_for_sack |= self.sack == Offset::Seen;
    }

    /// Keeps an error, if there is room; `false` when one of this sequence number
    /// is kept already: a duplicate tells nothing.
    pub(super) fn keep_error(&mut self, at: Instant, error: &IcmpError) -> bool {
        let known = self.sequences().any(|kept| kept == error.quote.sequence);
        if !known && self.errors.len() < KEPT {
            self.errors.push((at, error.clone()));
        }
        !known
    }

    /// The same for the edge of a SACK block.
    pub(super) fn keep_edge(&mut self, edge: Edge) -> bool {
        let known = self.edges.iter().any(|kept| kept.left == edge.left);
        if !known && self.edges.len() < KEPT {
            self.edges.push(edge);
        }
        !known
    }

    /// The kept errors' sequence numbers.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u32> {
        self.errors.iter().map(|(_, error)| error.quote.sequence)
    }

    /// Gives the kept errors out.
    pub(super) fn take_errors(&mut self) -> Vec<(Instant, IcmpError)> {
        core::mem::take(&mut self.errors)
    }

    /// The kept edges.
    pub(super) fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Gives them out.
    pub(super) fn take_edges(&mut self) -> Vec<Edge> {
        core::mem::take(&mut self.edges)
    }
}
