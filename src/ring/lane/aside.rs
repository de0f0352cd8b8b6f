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
use crate::setup::enter_error::EnterError;

/// Completions that were taken out of the queue and ended nothing, or nothing yet.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// How much is to be done beside taking completions: completions kept, cancels in flight, and
    /// the error.
    busy: u32,
    /// Oldest first. Each named an operation in flight when it was taken.
    kept: VecDeque<Cqe>,
    /// How many cancels have not completed.
    cancels: u32,
    /// The error with which the turn that runs is to end, once it has shown what is ready.
    failed: Option<EnterError>,
    strays: u64,
    stale: u64,
}

impl Aside {
    /// Whether completions are kept, or some come that are not those of operations.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// A cancel was pushed.
    pub(super) fn cancel_begins(&mut self) {
        self.busy += 1;
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
            self.busy -= 1;
            self.cancels -= 1;
        } else {
            self.stale += 1;
        }
    }

    /// Keeps a completion that names an operation in flight.
    pub(super) fn keep(&mut self, cqe: Cqe) {
        self.strays += 1;
        self.busy += 1;
        self.kept.push_back(cqe);
    }

    /// Takes the oldest completion that was kept. It counts as taken from now on.
    pub(super) fn next_kept(&mut self) -> Option<Cqe> {
        let cqe = self.kept.pop_front()?;
        self.strays -= 1;
        self.busy -= 1;
        Some(cqe)
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> u32 {
        u32::try_from(self.kept.len()).unwrap_or(u32::MAX)
    }

    /// The turn that runs is to end with this error.
    pub(super) fn fail(&mut self, error: EnterError) {
        self.busy += u32::from(self.failed.is_none());
        self.failed = Some(error);
    }

    /// The error with which the turn is to end.
    pub(super) fn failed(&mut self) -> Option<EnterError> {
        self.busy -= u32::from(self.failed.is_some());
        self.failed.take()
    }

    #[inline]
    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    pub(super) fn stale(&self) -> u64 {
        self.stale
    }
}
