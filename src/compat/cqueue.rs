//! The completion queue, lent: an iterator over what was ready when it was synced.
//!
//! ```text
//!             free │ taken │ the iterator's │ posted later │ free
//!   ──────────────┬┴──────┬┴───────────────┬┴─────────────┬┴─────
//!                head    taken           known           tail
//!               (ours)   (in Half)      (in Half)      (kernel's)
//! ```
//!
//! `sync` and drop publish `taken` as the head, once for all completions taken; `sync` loads the
//! tail. `taken` lies in the ring, not in the value that is lent. So a completion never comes
//! twice, even if that value is forgotten. Keeps CQ3 and CQ4, and checks CQ2.
//!
//! Leaves to others: CQ5, completions that the kernel holds back (`submitter`).
//!
//! # Safety
//!
//! Reads only slots in `taken..known`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

mod entry;
mod status;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use annulus_sys::cq::{self, CqParts};
use annulus_sys::flags::CqRingFlags;
use annulus_sys::index::Index;
use annulus_sys::orderings::PublishedFlags;
use annulus_sys::process::Process;

pub use entry::{
    Entry, Entry32, EntryMarker, buffer_more, buffer_select, more, notif, sock_nonempty,
};
pub use status::CompletionStatus;

/// Our half of the completion queue, as the ring keeps it.
#[derive(Debug)]
pub(super) struct Half {
    /// Its flags are in `flags`.
    parts: CqParts,
    /// The flags that we store; absent before Linux 5.8.
    flags: RefCell<Option<PublishedFlags>>,
    /// We have taken the completions before this index.
    taken: Index,
    /// The tail when it was last loaded (CQ3).
    known: Index,
    /// A forked child does not have the memory.
    process: Process,
}

impl Half {
    /// Takes over a queue whose slots are as wide as the entries that it will return.
    pub(super) fn over(queue: cq::CompletionQueue) -> Self {
        let mut parts = queue.into_parts();
        let (flags, taken) = (RefCell::new(parts.flags.take()), parts.head.last());
        Self { parts, flags, taken, known: taken, process: Process::this() }
    }

    /// Publishes what was taken, and loads what is ready.
    #[inline]
    fn sync(&mut self) {
        if self.process.is_this() {
            self.parts.head.publish(self.taken); // CQ4
            self.look();
        }
    }

    /// Loads the kernel's tail (CQ3).
    #[inline]
    fn look(&mut self) {
        let tail = self.parts.tail.observe();
        if tail.distance_from(self.taken) > self.parts.slots.entries().count() {
            out_of_range(tail, self.taken);
        }
        self.known = tail;
    }

    /// How many completions the iterator has left.
    #[inline]
    fn left(&self) -> u32 {
        self.known.distance_from(self.taken)
    }
}

#[cold]
#[inline(never)]
fn out_of_range(tail: Index, taken: Index) -> ! {
    panic!("CQ2: the kernel's tail {tail:?} is out of range of our {taken:?}");
}

/// The completion queue of a ring: an iterator over the completions that were ready when this
/// value was made, or [synced](Self::sync). Their slots go back to the kernel together, at the next
/// sync or when this value is dropped.
pub struct CompletionQueue<'a, E: EntryMarker = Entry> {
    half: &'a mut Half,
    /// It stays on its thread, as the peer's does.
    of: PhantomData<*const E>,
}

impl<'a, E: EntryMarker> CompletionQueue<'a, E> {
    #[inline]
    pub(super) fn over(half: &'a mut Half) -> Self {
        if half.process.is_this() {
            half.look();
        } else {
            half.known = half.taken;
        }
        Self { half, of: PhantomData }
    }
}

impl<E: EntryMarker> CompletionQueue<'_, E> {
    /// What tells whether a completion is ready, without a borrow of the ring.
    ///
    /// # Safety
    ///
    /// The ring must outlive the returned value.
    #[inline]
    pub unsafe fn status(&self) -> CompletionStatus {
        // SAFETY: the ring keeps the memory, and outlives it, as promised to `status`.
        unsafe { CompletionStatus::of(&self.half.parts, self.half.process) }
    }

    /// Gives the slots of the completions taken back, and looks for new ones.
    #[inline]
    pub fn sync(&mut self) {
        self.half.sync();
    }

    /// How many completions were lost. Stays 0 where
    /// [`is_feature_nodrop`](super::Parameters::is_feature_nodrop) says so.
    pub fn overflow(&self) -> u32 {
        if self.half.process.is_this() { self.half.parts.overflow.now() } else { 0 }
    }

    /// Whether the registered eventfd is silent. Since Linux 5.8.
    pub fn eventfd_disabled(&self) -> bool {
        let flags = self.half.flags.borrow();
        let flags = flags.as_ref().filter(|_| self.half.process.is_this());
        flags.is_some_and(|flags| flags.last() & CqRingFlags::EVENTFD_DISABLED.bits() != 0)
    }

    /// Silences the registered eventfd. Without effect before Linux 5.8.
    pub fn disable_eventfd(&self) {
        self.store_flags(CqRingFlags::EVENTFD_DISABLED);
    }

    /// Lets the registered eventfd tell of completions again. Without effect before Linux 5.8.
    pub fn enable_eventfd(&self) {
        self.store_flags(CqRingFlags::empty());
    }

    fn store_flags(&self, to: CqRingFlags) {
        if self.half.process.is_this()
            && let Some(flags) = &mut *self.half.flags.borrow_mut()
        {
            flags.store(to.bits());
        }
    }

    /// How many slots there are.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.half.parts.slots.entries().count() as usize
    }

    /// Whether the iterator is at its end.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.half.left() == 0
    }

    /// Whether every slot has a completion that was not taken.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.half.left() as usize == self.capacity()
    }

    /// Takes as many completions as there are, and as `entries` has room for.
    #[inline]
    pub fn fill<'a>(&mut self, entries: &'a mut [MaybeUninit<E>]) -> &'a mut [E] {
        let mut count = 0;
        for (entry, cqe) in entries.iter_mut().zip(&mut *self) {
            entry.write(cqe);
            count += 1;
        }
        let filled = &raw mut entries[..count];
        // SAFETY: the first `count`, which were all written, because the loop counted them; the
        // borrow of `entries` goes on in the result.
        unsafe { &mut *(filled as *mut [E]) }
    }
}

impl<E: EntryMarker> Iterator for CompletionQueue<'_, E> {
    type Item = E;

    #[inline]
    fn next(&mut self) -> Option<E> {
        let half = &mut *self.half;
        // The caller's code runs between two calls, and may have forked: the rest is the parent's.
        if half.taken == half.known || !half.process.is_this() {
            return None;
        }
        // SAFETY: ours: the tail covers the slot (CQ3) and the head has not passed it (CQ4); it is
        // as wide as an `E`, for which the ring was made.
        let entry = unsafe { E::read(&half.parts.slots, half.taken) };
        half.taken = half.taken.advance(1);
        Some(entry)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.half.left() as usize;
        (left, Some(left))
    }
}

impl<E: EntryMarker> ExactSizeIterator for CompletionQueue<'_, E> {}

impl<E: EntryMarker> Drop for CompletionQueue<'_, E> {
    /// Gives the slots of the completions taken back.
    #[inline]
    fn drop(&mut self) {
        if self.half.process.is_this() {
            self.half.parts.head.publish(self.half.taken); // CQ4
        }
    }
}

impl<E: EntryMarker> fmt::Debug for CompletionQueue<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue")
            .field("len", &self.half.left())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
