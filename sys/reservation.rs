//! Slots set aside, so that what is pushed into them is handed to the kernel as one, or not at all.
//!
//! ```text
//!        tail      written             end
//!   ──────┴───────────┴─────────────────┴──────
//!          flushed │  reserved, filled   │        commit ──► written stays, the rest goes back
//!          or not  │  from the left      │        drop   ──► as if nothing had been
//! ```
//!
//! A chain of linked entries that a flush cuts in two is two chains: the kernel ends a chain where
//! a submission ends. While a reservation lives nothing can be flushed, since it borrows the ring.
//! Whatever unwinds, a peer's head that cannot be included, what was not committed is in no queue.
//!
//! Leaves to others: the slots themselves (`sq`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use crate::abi::{Sqe, Sqe128};
use crate::index::Index;
use crate::sq::{Full, Mark, PushWideError, SubmissionRing};

/// Slots set aside by [`SubmissionRing::reserve`].
#[derive(Debug)]
#[must_use = "what was pushed into a reservation is dropped with it, unless it is committed"]
pub struct Reservation<'a> {
    ring: &'a mut SubmissionRing,
    /// Up to where the reservation is filled. The ring learns of it when it is committed, so that a
    /// reservation that is dropped, or forgotten, never was.
    filled: Mark,
    end: Index,
}

impl<'a> Reservation<'a> {
    /// What lies between `written` and `end`, which the caller knows to be free.
    pub(crate) fn new(ring: &'a mut SubmissionRing, end: Index) -> Self {
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
    /// As for [`SubmissionRing::push`], from [`commit`](Self::commit) on.
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
    /// As for [`SubmissionRing::push_wide`], within the reservation.
    ///
    /// # Safety
    ///
    /// As for [`SubmissionRing::push_wide`], from [`commit`](Self::commit) on.
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

    /// Keeps what was pushed. Slots that are left over go back to the ring.
    pub fn commit(self) {
        self.ring.go_to(self.filled);
    }

    /// Pushes behind what is filled, and leaves the ring as it was before the reservation; so it
    /// does when the push unwinds because the peer broke SQ2, and then nothing more is filled.
    fn beyond<E>(
        &mut self,
        push: impl FnOnce(&mut SubmissionRing) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.ring.mark();
        let beyond = Beyond { ring: self.ring, start };
        beyond.ring.go_to(self.filled);
        let pushed = push(beyond.ring);
        self.filled = beyond.ring.mark();
        pushed
    }
}

/// A ring while it is written beyond what it knows of.
struct Beyond<'r> {
    ring: &'r mut SubmissionRing,
    start: Mark,
}

impl Drop for Beyond<'_> {
    fn drop(&mut self) {
        self.ring.go_to(self.start);
    }
}
