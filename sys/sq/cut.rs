//! A chain that was cut: the kernel took its first entries, and had no memory for the others.
//!
//! ```text
//!        consumed by this enter │ left
//!   ──┬───────────┬────────────┬┴───────┬───────┬─────
//!     │ read ─link┼─► write ─link─► ✂   │ close │ nop
//!                                └──────┘ amended: part of the chain
//! ```
//!
//! The kernel runs what it took as a chain of its own, and what is left as another one, with the
//! next enter: the rest no longer waits for the first part. Whoever cannot allow that changes the
//! rest before the next enter.
//!
//! Leaves to others: what must not run early, and the entries that the kernel took (`sq`).
//!
//! # Safety
//!
//! Writes only slots that the kernel reads in no other call than an enter, between two enters.
#![allow(unsafe_code, reason = "writes entries that were published")]

use super::{SqeShape, SubmissionQueue};
use crate::abi::Sqe;
use crate::flags::SqeFlags;

const LINKS: SqeFlags = SqeFlags::IO_LINK.union(SqeFlags::IO_HARDLINK);

impl SubmissionQueue {
    /// If an enter that consumed `count` entries cut a chain, calls `amend` with each entry that is
    /// left of it. To be called before [`consumed`](Self::consumed). Does nothing on a mixed ring,
    /// whose slots need not begin an entry.
    ///
    /// # Safety
    ///
    /// No polling thread takes the entries, and nobody enters the ring meanwhile. What `amend`
    /// makes of an entry must be valid as promised to [`push`](Self::push) (OP1).
    #[cold]
    pub unsafe fn amend_cut_chain(&mut self, count: u32, mut amend: impl FnMut(&mut Sqe)) {
        if count == 0 || !self.is_here() || self.shape == SqeShape::Mixed {
            return;
        }
        let mut index = self.consumed.advance(count);
        // SAFETY: ours: only an enter reads slots, and there is none, as promised; the entry was
        // consumed, and nothing was pushed since (SQ3, SQ4).
        let mut before = unsafe { self.slots.read(index.back(1)) };
        let written = self.written();
        while before.flags.intersects(LINKS) && index != written {
            // SAFETY: ours (SQ3), likewise.
            before = unsafe { self.slots.read(index) };
            amend(&mut before);
            // SAFETY: ours (SQ3), likewise.
            unsafe { self.slots.write(index, before) };
            index = index.advance(1);
        }
    }
}
