//! Resizing a live ring: what is refused, and how both queues move to the new memory.
//!
//! ```text
//!   old  │ 5 │ 6 │ 7 │ 8 │        written entries are flushed, then the kernel copies
//!          └───┬───────┘
//!   new  │ … │ 5 │ 6 │ 7 │ 8 │ … │   same indices, other slots; the old maps go last
//! ```
//!
//! Keeps SQ1 and CQ1, and checks SQ2 and CQ2. Leaves to others: the queues (`sq`, `cq`), and where
//! everything lies (`layout`).
#![allow(unsafe_code, reason = "tells the queues where the kernel has put them")]

use super::{ResizeFailure, Rings};
use crate::errno::Errno;
use crate::flags::SetupFlags;
use crate::layout::{Layout, Request};
use crate::opcode::RegisterOp;

impl Rings {
    /// Changes the sizes of a live ring (`IORING_REGISTER_RESIZE_RINGS`, since Linux 6.13).
    /// Written entries are flushed first; the kernel moves entries and completions to the new
    /// memory. Needs `DEFER_TASKRUN` and `NO_SQARRAY`, and memory that the kernel allocated.
    ///
    /// # Errors
    ///
    /// [`ResizeFailure::Refused`] leaves the ring as it was: `EXDEV` if a half was swapped for that
    /// of another ring, `ECHILD` in a forked child. After [`ResizeFailure::Map`] the kernel uses
    /// memory that we could not map, so the ring must not be used any more.
    ///
    /// # Panics
    ///
    /// When the sizes and offsets that the kernel returned cannot be a ring (SQ2, CQ2), or when it
    /// lost our indices.
    pub fn resize(&mut self, entries: u32, cq_entries: Option<u32>) -> Result<(), ResizeFailure> {
        // In a forked child the lock may be held forever, by a thread that only the parent has.
        if !self.base.is_of_this_process() {
            return Err(ResizeFailure::Refused(Errno::new(libc::ECHILD)));
        }
        let flags = self.base.params.flags;
        // With `NO_MMAP` the kernel would need new memory from us, and we could not tell when the
        // old memory is idle. With an index array, it does not say where the new one lies (v6.18).
        if flags.contains(SetupFlags::NO_MMAP) || !flags.contains(SetupFlags::NO_SQARRAY) {
            return Err(ResizeFailure::Refused(Errno::new(libc::EINVAL)));
        }
        // The checks below ask the two halves, so both must be of this ring.
        if !self.base.has(&self.sq, &self.cq) {
            return Err(ResizeFailure::Refused(Errno::new(libc::EXDEV)));
        }
        // The kernel sees no index of a ring with `SQ_REWIND`, so it would copy none of the written
        // entries. It copies half of each wide entry and completion (until 7.0: seen up to 6.19),
        // and it splits a wide entry of a mixed ring at the new end. So such a queue is resized
        // only while it is empty.
        let entries_stay = SetupFlags::SQ_REWIND | SetupFlags::SQE128 | SetupFlags::SQE_MIXED;
        let entries_lost = flags.intersects(entries_stay) && self.sq.unconsumed() > 0;
        let cqes_lost = flags.contains(SetupFlags::CQE32) && self.cq.ready() > 0;
        // If the tail is one too far, the kernel would copy the oldest completion twice.
        if entries_lost || cqes_lost || self.cq.is_overrun() {
            return Err(ResizeFailure::Refused(Errno::new(libc::EBUSY)));
        }
        let mixed = flags & SetupFlags::CQE_MIXED;
        let mut params = Request { cq_entries, flags: mixed, ..Request::new(entries) }.params();
        // Setup takes the number of entries as an argument; a resize takes it in the parameters,
        // and does not accept the flag `CQE_MIXED`.
        params.sq_entries = entries;
        params.flags.remove(mixed);
        self.sq.flush();
        let arg = (&raw mut params).cast();
        // SAFETY: a live `struct io_uring_params`, which the kernel does not keep, because it
        // copies.
        unsafe { self.base.register(RegisterOp::RESIZE_RINGS, arg, 1) }
            .map_err(ResizeFailure::Refused)?;
        params.features = self.base.params.features;
        params.flags = self.base.params.flags;
        let layout = Layout::of(&params);
        let regions = layout
            .map(&self.base.kernel, &self.base.fd, params.features)
            .map_err(ResizeFailure::Map)?;
        let (sq, cq) = layout.parts(&params, &regions);
        // SAFETY: as in `over`, and every written entry was flushed.
        unsafe { self.sq.move_to(sq) };
        // SAFETY: as in `over`, since CQ1 still holds.
        unsafe { self.cq.move_to(cq) };
        self.base.lies_in(self.sq.memory());
        Ok(())
    }
}
