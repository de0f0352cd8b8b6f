//! Whether a completion is ready, for who has no borrow of the ring.
#![allow(unsafe_code, reason = "looks at the memory of a ring that it does not keep")]

use std::fmt;

use annulus_sys::cq::CqParts;
use annulus_sys::orderings::Observed;
use annulus_sys::process::Process;

/// Tells whether completions are ready that were not given back, by two loads. It comes from
/// [`CompletionQueue::status`](super::CompletionQueue::status).
///
/// The answer may be old as soon as it is given: it is a hint, and orders nothing.
pub struct CompletionStatus {
    head: Observed,
    tail: Observed,
    process: Process,
}

impl CompletionStatus {
    /// # Safety
    ///
    /// The memory of the ring must stay valid while the returned value exists.
    #[inline]
    pub(super) unsafe fn of(parts: &CqParts, process: Process) -> Self {
        // SAFETY: valid, as promised to `of`.
        let head = unsafe { parts.head.watch() };
        // SAFETY: valid, as promised to `of`.
        Self { head, tail: unsafe { parts.tail.twin() }, process }
    }

    /// Whether the kernel has posted nothing beyond what was taken and given back.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.process.is_this() || self.head.observe() == self.tail.observe()
    }
}

impl fmt::Debug for CompletionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionStatus").field("is_empty", &self.is_empty()).finish()
    }
}
