//! What a slot holds for its completions: where what they name comes from, then what was brought.
//!
//! ```text
//!   in flight  Source ── a completion is consumed ──► Brought ── redeemed, given up ──► the caller
//! ```
//!
//! Keeps OP3: bound when the completion is consumed. Leaves to others: what is named (`lease`).

use std::mem;

use annulus_sys::abi::Cqe;

use crate::lease::{Brought, Claimed};
use crate::op::Brings;

/// What the completions of a slot's operation name, and have named.
#[derive(Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    /// In flight: where it comes from.
    Source(Claimed),
    /// Ended: what the last completion brought (OP3).
    Brought(Brought),
}

impl Held {
    /// The last completion of an operation that completes once was consumed.
    pub(super) fn bind(&mut self, brings: Brings, cqe: Cqe) {
        let brought = self.bring(brings, cqe);
        self.end(cqe.res);
        *self = Self::Brought(brought);
    }

    /// What a completion names, as something that is owned (OP3).
    pub(super) fn bring(&self, brings: Brings, cqe: Cqe) -> Brought {
        match (brings, self) {
            (Brings::Number, _) => Brought::Nothing,
            (Brings::Fd, _) => Brought::fd(cqe.res),
            (_, Self::Source(source)) => source.bring(brings, cqe),
            (_, _) => Brought::Nothing,
        }
    }

    /// No more completions come.
    pub(super) fn end(&mut self, result: i32) {
        if let Self::Source(source) = mem::take(self) {
            source.end(result);
        }
    }

    /// What was brought, which belongs to the caller from now on.
    pub(super) fn take(&mut self) -> Brought {
        match mem::take(self) {
            Self::Brought(brought) => brought,
            Self::Nothing | Self::Source(_) => Brought::Nothing,
        }
    }
}
