//! Reserved slots: the entries pushed into them reach the kernel all together, or not at all.
//!
//! ```text
//!        tail      written             end
//!   ──────┴───────────┴─────────────────┴──────
//!          flushed │  reserved, filled   │        commit ──► keeps the entries, frees the rest
//!          or not  │  from the left      │        drop   ──► as if nothing was reserved
//! ```
//!
//! A flush in the middle of a chain of linked entries would make it two chains, since the kernel
//! ends a chain where a submission ends. So nothing can be flushed while a reservation exists: it
//! borrows the ring. Entries that were not committed never enter the queue, even after a panic,
//! such as the one about a kernel's `head` that breaks SQ2.
//!
//! Leaves to others: the slots themselves (`sq`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use super::{Full, Mark, PushWideError, SubmissionQueue};
use crate::abi::{Sqe, Sqe128};
use crate::index::Index;

/// Slots set aside by [`SubmissionQueue::reserve`].
#[derive(Debug)]
#[must_use = "entries pushed into a reservation are discarded unless it is committed"]
pub struct Reservation<'a> {
    ring: &'a mut SubmissionQueue,
    /// The position up to which the reservation is filled. The ring takes it over on commit, so a
    /// reservation that is dropped, or forgotten, leaves no trace.
    filled: Mark,
    end: Index,
}

impl<'a> Reservation<'a> {
    /// Reserves the slots between `written` and `end`, which the caller knows to be free.
    pub(crate) fn new(ring: &'a mut SubmissionQueue, end: Index) -> Self {
        Self { filled: ring.mark(), end, ring }
    }

    /// Writes `sqe` into the next reserved slot.
    ///
    /// # Errors
    ///
    /// [`Full`] when the reservation is used up.
    ///
    /// # Safety
    ///
    /// As for [`SubmissionQueue::push`], from [`commit`](Self::commit) on.
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.left() == 0 {
            return Err(Full);
        }
        // SAFETY: as promised to `Reservation::push`.
        self.beyond(|ring| unsafe { ring.push(sqe) })
    }

    /// Writes a 128-byte entry into the next reserved slots.
    ///
    /// # Errors
    ///
    /// As for [`SubmissionQueue::push_wide`], within the reservation.
    ///
    /// # Safety
    ///
    /// As for [`SubmissionQueue::push_wide`], from [`commit`](Self::commit) on.
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        let (before, left) = (self.filled, self.left());
        // SAFETY: as promised to `Reservation::push_wide`.
        self.beyond(|ring| unsafe { ring.push_wide(sqe) })?;
        if self.filled.written.distance_from(before.written) > left {
            self.filled = before; // Past the end.
            return Err(PushWideError::Full);
        }
        Ok(())
    }

    /// How many reserved slots are left.
    pub fn left(&self) -> u32 {
        self.end.distance_from(self.filled.written)
    }

    /// Keeps the pushed entries. Unused slots go back to the ring.
    pub fn commit(self) {
        self.ring.go_to(self.filled);
    }

    /// Pushes at the end of the filled part, and leaves the ring as it was before the reservation.
    /// If the push panics because the kernel broke SQ2, the ring is left that way too, and the
    /// filled part does not grow.
    fn beyond<E>(
        &mut self,
        push: impl FnOnce(&mut SubmissionQueue) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.ring.mark();
        let beyond = Beyond { ring: self.ring, start };
        beyond.ring.go_to(self.filled);
        let pushed = push(beyond.ring);
        self.filled = beyond.ring.mark();
        pushed
    }
}

/// A ring while a reservation writes to it; its drop moves the ring back to `start`.
struct Beyond<'r> {
    ring: &'r mut SubmissionQueue,
    start: Mark,
}

impl Drop for Beyond<'_> {
    fn drop(&mut self) {
        self.ring.go_to(self.start);
    }
}
