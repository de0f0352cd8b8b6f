//! `RESIZE_RINGS`: a ring gets other sizes, and what is queued moves to the new memory.
//!
//! | refused | with |
//! |---|---|
//! | a ring that does not defer its work; other flags than `CQSIZE` and `CLAMP` | `EINVAL` |
//! | what is queued does not fit; from 7.3 on, a wide completion would lie across the wrap | `EOVERFLOW` |
#![allow(unsafe_code, reason = "reads and writes the argument of the call")]

use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;

use super::layout::sized;
use super::region::{copy_in, write_value};
use super::state::State;
use super::trace::What;

/// What the new ring has of the old one.
const KEPT: SetupFlags = SetupFlags::NO_SQARRAY
    .union(SetupFlags::SQE128)
    .union(SetupFlags::SQE_MIXED)
    .union(SetupFlags::CQE32)
    .union(SetupFlags::CQE_MIXED)
    .union(SetupFlags::SQ_REWIND)
    .union(SetupFlags::NO_MMAP);

impl State {
    /// Resizes a ring, as the `struct io_uring_params` at `arg` says, which tells of the new memory
    /// afterwards.
    ///
    /// # Safety
    ///
    /// `arg` must point to a `struct io_uring_params`.
    pub(super) unsafe fn resize(
        &mut self,
        ring: usize,
        arg: *mut libc::c_void,
    ) -> Result<u32, Errno> {
        // SAFETY: as promised to `resize`.
        let asked = unsafe { copy_in::<Params>(arg.expose_provenance() as u64) }?;
        let of_ring = &self.rings[ring];
        let known = SetupFlags::CQSIZE | SetupFlags::CLAMP;
        if !of_ring.flags.contains(SetupFlags::DEFER_TASKRUN) || !known.contains(asked.flags) {
            return Err(Errno::new(libc::EINVAL));
        }
        let flags = asked.flags | (of_ring.flags & KEPT);
        let made = sized(asked.sq_entries, Params { flags, ..asked })?;
        let sizes = (made.sq_entries, made.cq_entries);
        let straddles = self.rings[ring].half.would_straddle(sizes.1);
        if straddles && !self.release.is_before(7, 3) {
            return Err(Errno::new(libc::EOVERFLOW));
        }
        // Also to the sizes that it has: seen on 6.18, which then forgets a run of free slots.
        self.rings[ring].half.resize(&made)?;
        self.note(Some(ring), What::Made(sizes.0, sizes.1));
        // SAFETY: as promised to `resize`.
        unsafe { write_value(arg, made) };
        Ok(0)
    }
}
