//! Entries of 128 bytes: one double slot, or two adjacent slots of a mixed queue.
//!
//! ```text
//!   double │ 0     │ 1     │      mixed │ 0 │ 1     │ 2 │     │ × │ 0     │    × is padding
//! ```
//!
//! Keeps SQ3 and SQ4. Leaves to others: entries of 64 bytes (`sq`).
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use super::{PushWideError, SqeShape, SubmissionQueue};
use crate::abi::{Sqe, Sqe128};
use crate::flags::SqeFlags;
use crate::opcode::Opcode;

impl SubmissionQueue {
    /// Writes a 128-byte entry. The kernel sees it after [`flush`](Self::flush).
    ///
    /// On a mixed ring the entry takes two adjacent slots. If the next free slot is the last one
    /// before the wrap, that slot is filled with a NOP that posts no completion, and the entry
    /// starts at slot 0. So a mixed ring of fewer than 4 slots may never have enough free slots.
    ///
    /// # Errors
    ///
    /// [`PushWideError::Full`] when too few slots are free, [`PushWideError::Narrow`] on a ring of
    /// 64-byte entries; nothing was written.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push). On a mixed ring only operations of 128 bytes may be pushed
    /// here, and they may be pushed only here. The kernel knows the width from the opcode; with the
    /// wrong one it would read a second half as an entry, or the next entry as a second half.
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        let Sqe128 { first, rest } = sqe;
        let rest = Sqe::from_words(rest);
        match self.shape {
            SqeShape::Single => return Err(PushWideError::Narrow),
            SqeShape::Double => {
                self.need(1)?;
                let at = self.written();
                // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3).
                unsafe { self.slots.write(at, first) };
                // SAFETY: ours (SQ3, SQ4), and the slots are double, as the shape is.
                unsafe { self.slots.write_rest(at, rest) };
                self.go_on_at(at.advance(1));
            }
            SqeShape::Mixed => {
                let mut at = self.written();
                let straddles = at.is_last_slot(self.slots.entries());
                self.need(if straddles { 3 } else { 2 })?;
                if straddles {
                    // SAFETY: ours (SQ3, SQ4), since `need` found room for three.
                    unsafe { self.slots.write(at, PADDING) };
                    at = at.advance(1);
                    self.offset = self.offset.wrapping_sub(1);
                }
                // SAFETY: ours (SQ3, SQ4), since `need` found room.
                unsafe { self.slots.write(at, first) };
                // SAFETY: ours (SQ3, SQ4), since `need` found room.
                unsafe { self.slots.write(at.advance(1), rest) };
                self.go_on_at(at.advance(2));
                self.offset = self.offset.wrapping_sub(1);
            }
        }
        Ok(())
    }
}

/// Fills the last slot before the wrap when a 128-byte entry would straddle it. It is a NOP without
/// a completion, so the caller never sees it.
const PADDING: Sqe =
    Sqe { opcode: Opcode::NOP, flags: SqeFlags::CQE_SKIP_SUCCESS, fd: -1, ..Sqe::ZERO };
