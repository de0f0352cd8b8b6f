//! Pushing many entries: the position stays in a register from one push to the next.
//!
//! ```text
//!   pusher ─► push ─► push ─► push ─► dropped: the queue takes over the position
//! ```
//!
//! A pusher that is forgotten leaves the queue where it was, or where it last looked for free
//! slots.
//!
//! Keeps SQ4. Leaves to others: which slots are free (`sq`).
//!
//! # Safety
//!
//! Passes on what the caller of a push promised.
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use super::{Full, SubmissionQueue};
use crate::abi::Sqe;
use crate::slots::FreeSlots;

/// Writes entries into the free slots of a [`SubmissionQueue`].
#[derive(Debug)]
pub struct Pusher<'a> {
    ring: &'a mut SubmissionQueue,
    /// The queue's free slots, which it gets back.
    free: FreeSlots<Sqe>,
}

impl SubmissionQueue {
    /// Pushes many entries, one after the other.
    #[inline]
    pub fn pusher(&mut self) -> Pusher<'_> {
        Pusher { free: self.free.clone(), ring: self }
    }

    /// Takes over what a pusher left of its free slots, and finds others.
    #[cold]
    fn find_more(&mut self, left: FreeSlots<Sqe>) -> Result<FreeSlots<Sqe>, Full> {
        self.free = left;
        self.find_free()?;
        Ok(self.free.clone())
    }
}

impl Pusher<'_> {
    /// Writes `sqe` into the next free slot. The kernel sees it after the pusher was dropped and
    /// the queue [flushed](SubmissionQueue::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; nothing was written.
    ///
    /// # Safety
    ///
    /// As for [`SubmissionQueue::push`].
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.free.is_empty() {
            self.free = self.ring.find_more(self.free.clone())?;
        }
        // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3).
        unsafe { self.free.write_entry(sqe) };
        Ok(())
    }
}

impl Drop for Pusher<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ring.free = self.free.clone();
    }
}
