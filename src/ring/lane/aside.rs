//! What a lane knows of completions that end no operation, or have not ended theirs yet.
//!
//! | completion | counts as | until |
//! |---|---|---|
//! | of the lane's own cancel | stray | forever |
//! | that names nothing in flight | stray, and stale | forever |
//! | kept, because a wait took it and shows nothing | stray | it is shown |
//!
//! All others end one operation each. So the number of operations in flight follows from three
//! counts: submitted, popped and stray. A busy lane counts nothing per operation.

use std::collections::VecDeque;

use annulus_sys::abi::Cqe;

use super::slots::CANCEL;

/// Completions that were taken out of the queue and ended nothing, or nothing yet.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Oldest first. Each named an operation in flight when it was taken.
    kept: VecDeque<Cqe>,
    /// How many cancels have not completed.
    cancels: u32,
    strays: u64,
    stale: u64,
}

impl Aside {
    /// Whether every completion to come is that of an operation, and none is kept.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.cancels == 0 && self.kept.is_empty()
    }

    /// A cancel was pushed.
    pub(super) fn cancel_begins(&mut self) {
        self.cancels += 1;
    }

    /// How many cancels have not completed.
    pub(super) fn cancels(&self) -> u32 {
        self.cancels
    }

    /// A completion came that ended no operation.
    #[cold]
    pub(super) fn stray(&mut self, user_data: u64) {
        self.strays += 1;
        if user_data == CANCEL && self.cancels > 0 {
            self.cancels -= 1;
        } else {
            self.stale += 1;
        }
    }

    /// Keeps a completion that names an operation in flight.
    pub(super) fn keep(&mut self, cqe: Cqe) {
        self.strays += 1;
        self.kept.push_back(cqe);
    }

    /// Takes the oldest completion that was kept. It counts as taken from now on.
    #[inline]
    pub(super) fn next_kept(&mut self) -> Option<Cqe> {
        let cqe = self.kept.pop_front()?;
        self.strays -= 1;
        Some(cqe)
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> u32 {
        u32::try_from(self.kept.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    pub(super) fn stale(&self) -> u64 {
        self.stale
    }
}
