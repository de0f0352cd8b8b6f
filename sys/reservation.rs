//! Slots set aside, so that what is pushed into them is handed to the kernel as one, or not at all.
//!
//! ```text
//!        tail      written             end
//!   ──────┴───────────┴─────────────────┴──────
//!          flushed │  reserved, filled   │        commit ──► written stays, the rest goes back
//!          or not  │  from the left      │        drop   ──► written goes back to where it was
//! ```
//!
//! A chain of linked entries that a flush cuts in two is two chains: the kernel ends a chain where
//! a submission ends. While a reservation lives nothing can be flushed, since it borrows the ring.
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
    start: Mark,
    end: Index,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forgotten,
    Kept,
}

impl<'a> Reservation<'a> {
    /// What lies between `written` and `end`, which the caller knows to be free.
    pub(crate) fn new(ring: &'a mut SubmissionRing, end: Index) -> Self {
        Self { start: ring.mark(), end, fate: Fate::Forgotten, ring }
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
        unsafe { self.ring.push(sqe) }
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
        let (before, left) = (self.ring.mark(), self.left());
        // SAFETY: as promised to `Reservation::push_wide`.
        unsafe { self.ring.push_wide(sqe) }?;
        if self.ring.mark().written.distance_from(before.written) > left {
            self.ring.go_back(before); // Past the end.
            return Err(PushWideError::Full);
        }
        Ok(())
    }

    /// How many reserved slots are left.
    pub fn left(&self) -> u32 {
        self.end.distance_from(self.ring.mark().written)
    }

    /// Keeps what was pushed. Slots that are left over go back to the ring.
    pub fn commit(mut self) {
        self.fate = Fate::Kept;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.fate == Fate::Forgotten {
            self.ring.go_back(self.start);
        }
    }
}
