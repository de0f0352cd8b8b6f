//! The submission queue, lent: entries are written here, and published by `sync` or drop.
//!
//! Keeps SQ3 and SQ4, by the queue that it borrows ([`annulus_sys::sq`]). What is written stays in
//! that queue, not here. So an entry is published later even if this value is forgotten.
#![allow(unsafe_code, reason = "writes entries that point to memory")]

mod entry;

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use annulus_sys::flags::SqRingFlags;
use annulus_sys::index::Index;
use annulus_sys::sq;
use bitflags::bitflags;

pub use entry::{Entry, Entry128, EntryMarker};

bitflags! {
    /// Flags that any entry may have.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Flags: u8 {
        /// The file is an index into the registered files: see
        /// [`types::Fixed`](super::types::Fixed).
        #[doc(hidden)]
        const FIXED_FILE = 1 << 0;
        /// The entry starts when all before it have completed, and those after it wait for it.
        const IO_DRAIN = 1 << 1;
        /// The next entry starts when this one has succeeded.
        const IO_LINK = 1 << 2;
        /// The next entry starts when this one has completed, whatever came out.
        const IO_HARDLINK = 1 << 3;
        /// A worker thread runs it from the start. Since Linux 5.6.
        const ASYNC = 1 << 4;
        /// The kernel selects the buffer, from the entry's group. Since Linux 5.7.
        const BUFFER_SELECT = 1 << 5;
        /// No completion if it succeeds. Since Linux 5.17.
        const SKIP_SUCCESS = 1 << 6;
    }
}

/// The submission queue of a ring. The kernel sees pushed entries after [`sync`](Self::sync), or
/// when this value is dropped.
pub struct SubmissionQueue<'a, E: EntryMarker = Entry> {
    queue: &'a mut sq::SubmissionQueue,
    /// Up to where the kernel has consumed entries, once somebody has asked.
    consumed: Cell<Option<Index>>,
    /// It stays on its thread, as the peer's does.
    of: PhantomData<*const E>,
}

impl<'a, E: EntryMarker> SubmissionQueue<'a, E> {
    #[inline]
    pub(super) fn over(queue: &'a mut sq::SubmissionQueue) -> Self {
        Self { queue, consumed: Cell::new(None), of: PhantomData }
    }
}

impl<E: EntryMarker> SubmissionQueue<'_, E> {
    /// Publishes what was pushed, and learns what the kernel has consumed.
    #[inline]
    pub fn sync(&mut self) {
        self.queue.flush();
        self.consumed.set(Some(self.queue.indices().head));
    }

    /// Whether the polling thread sleeps, so that an enter must wake it. Call it after
    /// [`sync`](Self::sync) (SQ5).
    #[inline]
    pub fn need_wakeup(&self) -> bool {
        self.queue.needs_wakeup()
    }

    /// [`need_wakeup`](Self::need_wakeup), for a caller who has made a SeqCst fence after
    /// [`sync`](Self::sync).
    #[inline]
    pub fn need_wakeup_after_intermittent_seqcst(&self) -> bool {
        self.queue.flags().contains(SqRingFlags::NEED_WAKEUP)
    }

    /// How many entries the kernel dropped as invalid. Always 0: it would be our mistake.
    pub fn dropped(&self) -> u32 {
        self.queue.dropped()
    }

    /// Whether the kernel holds back completions that found the queue full. Since Linux 5.8.
    pub fn cq_overflow(&self) -> bool {
        self.queue.flags().contains(SqRingFlags::CQ_OVERFLOW)
    }

    /// Whether completions are due that wait for an enter. Since Linux 5.19, on a ring with
    /// [`setup_taskrun_flag`](super::Builder::setup_taskrun_flag).
    pub fn taskrun(&self) -> bool {
        self.queue.flags().contains(SqRingFlags::TASKRUN)
    }

    /// How many slots there are.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.queue.entries() as usize
    }

    /// How many pushed entries the kernel has yet to consume, as far as we know: what it consumes
    /// after the first such question is known after [`sync`](Self::sync).
    #[inline]
    pub fn len(&self) -> usize {
        let indices = self.queue.indices();
        let consumed = self.consumed.get().unwrap_or(indices.head);
        self.consumed.set(Some(consumed));
        // A push looks for free slots again, and may find more than we know of.
        indices.written.distance_from(consumed).min(self.queue.entries()) as usize
    }

    /// Whether [`len`](Self::len) is 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`len`](Self::len) is the capacity. A push may still find a slot that the kernel has
    /// freed since.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Writes an entry into the next slot.
    ///
    /// # Errors
    ///
    /// When no slot is free; nothing was written.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay valid, and be used as the operation asks, until its last
    /// completion (OP1). The process must be the one that made the ring.
    #[inline]
    pub unsafe fn push(&mut self, entry: &E) -> Result<(), PushError> {
        // SAFETY: as promised to `push`.
        unsafe { entry.push_to(self.queue) }
    }

    /// Writes all entries, or none.
    ///
    /// # Errors
    ///
    /// When too few slots are free; nothing was written.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push), for each entry.
    #[inline]
    pub unsafe fn push_multiple(&mut self, entries: &[E]) -> Result<(), PushError> {
        if (self.queue.room() as usize) < entries.len() {
            return Err(PushError);
        }
        for entry in entries {
            // SAFETY: as promised to `push_multiple`.
            unsafe { self.push(entry) }?;
        }
        Ok(())
    }
}

impl<E: EntryMarker> Drop for SubmissionQueue<'_, E> {
    /// Publishes what was pushed.
    #[inline]
    fn drop(&mut self) {
        if self.queue.is_here() {
            // SAFETY: of this process, as was just checked, since no child has the memory.
            unsafe { self.queue.publish() };
        }
    }
}

impl<E: EntryMarker> fmt::Debug for SubmissionQueue<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmissionQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// No slot was free, or too few.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushError;

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sq::Full.fmt(f)
    }
}

impl Error for PushError {}
