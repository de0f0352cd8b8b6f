//! The completion queue, lent: an iterator over what was ready when it was synced.
//!
//! ```text
//!             free │ taken │ a run │ after the wrap │ posted later │ free
//!   ──────────────┬┴──────┬┴──────┬┴───────────────┬┴─────────────┬┴─────
//!                head    taken   end             known           tail
//!               (ours)                                         (kernel's)
//! ```
//!
//! `sync` and drop publish `taken` as the head, once for all completions taken; `sync` loads the
//! tail. While the queue is lent, the ring counts all that is known as taken. So a completion never
//! comes twice, even if the borrower is forgotten: what it had left is lost then, as with
//! [`Vec::drain`]. Keeps CQ3 and CQ4, and checks CQ2.
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
use annulus_sys::slots::{Run, Slots};

pub use entry::{
    Entry, Entry32, EntryMarker, buffer_more, buffer_select, more, notif, sock_nonempty,
};
pub use status::CompletionStatus;

/// Our half of the completion queue, as the ring keeps it. Its slots hold an `R` each.
#[derive(Debug)]
pub(super) struct Half<R> {
    /// Its flags are in `flags`.
    parts: CqParts,
    /// The flags that we store; absent before Linux 5.8.
    flags: RefCell<Option<PublishedFlags>>,
    slots: Slots<R>,
    /// The completions before this index were taken. While the queue is lent: or may be.
    taken: Index,
    /// A forked child does not have the memory.
    process: Process,
}

impl<R: Copy> Half<R> {
    /// Takes over a queue.
    ///
    /// # Panics
    ///
    /// When its slots are not as large as an `R`.
    ///
    /// # Safety
    ///
    /// Any bytes must be a valid `R`.
    pub(super) unsafe fn over(queue: cq::CompletionQueue) -> Self {
        let mut parts = queue.into_parts();
        let (flags, taken) = (RefCell::new(parts.flags.take()), parts.head.last());
        // SAFETY: valid as long as `parts`, which keeps the memory; any bytes are as promised to
        // `over`.
        let slots = unsafe { parts.slots.whole::<R>() };
        Self { parts, flags, slots, taken, process: Process::this() }
    }

    /// Lends all completions from `taken` on that the kernel has posted, and returns up to where
    /// (CQ3). A forked child gets none.
    #[inline]
    fn lend(&mut self, taken: Index) -> Index {
        let tail = if self.process.is_this() { self.parts.tail.observe() } else { taken };
        if tail.distance_from(taken) > self.slots.entries().count() {
            out_of_range(tail, taken);
        }
        self.taken = tail;
        tail
    }

    /// Gives the slots before `taken` back.
    #[inline]
    fn give_back(&mut self, taken: Index) {
        self.taken = taken;
        if self.process.is_this() {
            self.parts.head.publish(taken); // CQ4
        }
    }
}

#[cold]
#[inline(never)]
fn out_of_range(tail: Index, taken: Index) -> ! {
    panic!("CQ2: the kernel's tail {tail:?} is out of range of our {taken:?}");
}

/// The completion queue of a ring: an iterator over the completions that were ready when this
/// value was made, or [synced](Self::sync). Their slots go back to the kernel together, at the next
/// sync or when this value is dropped. If it is forgotten, the rest of them is lost.
pub struct CompletionQueue<'a, E: EntryMarker = Entry> {
    half: &'a mut Half<E::Raw>,
    /// The next completions, up to the wrap.
    run: Run<'a, E::Raw>,
    /// The index just after `run`.
    end: Index,
    /// The tail when it was last loaded.
    known: Index,
    /// It stays on its thread, as the peer's does.
    of: PhantomData<*const E>,
}

impl<'a, E: EntryMarker> CompletionQueue<'a, E> {
    #[inline]
    pub(super) fn over(half: &'a mut Half<E::Raw>) -> Self {
        let taken = half.taken;
        let known = half.lend(taken);
        // SAFETY: ours: the tail covers the slots (CQ3) and the head has passed none (CQ4). The
        // ring is borrowed as long as the run exists.
        let run = unsafe { half.slots.run_apart(taken, known.distance_from(taken)) };
        let end = taken.advance(run.left());
        Self { half, run, end, known, of: PhantomData }
    }

    /// Starts a run at `from`, with what is known there.
    #[inline]
    fn go_on(&mut self, from: Index) {
        // SAFETY: ours: the tail covers the slots (CQ3) and the head has passed none (CQ4). The
        // ring is borrowed as long as the run exists.
        self.run = unsafe { self.half.slots.run_apart(from, self.known.distance_from(from)) };
        self.end = from.advance(self.run.left());
    }

    /// The completions before this index were taken.
    #[inline]
    fn taken(&self) -> Index {
        self.end.back(self.run.left())
    }

    /// How many the iterator has left.
    #[inline]
    fn left(&self) -> usize {
        self.known.distance_from(self.taken()) as usize
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
        let taken = self.taken();
        self.half.give_back(taken);
        self.known = self.half.lend(taken);
        self.go_on(taken);
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
        self.half.slots.entries().count() as usize
    }

    /// Whether the iterator is at its end.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// Whether every slot has a completion that was not taken.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.left() == self.capacity()
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
        loop {
            // The caller's code runs between two calls, and may have forked: the rest is the
            // parent's.
            if !self.half.process.is_this() {
                return None;
            }
            if let Some(raw) = self.run.next() {
                return Some(E::from_raw(raw));
            }
            if self.end == self.known {
                return None;
            }
            self.go_on(self.end); // The rest lies after the wrap.
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left();
        (left, Some(left))
    }
}

impl<E: EntryMarker> ExactSizeIterator for CompletionQueue<'_, E> {}

impl<E: EntryMarker> Drop for CompletionQueue<'_, E> {
    /// Gives the slots of the completions taken back.
    #[inline]
    fn drop(&mut self) {
        self.half.give_back(self.taken());
    }
}

impl<E: EntryMarker> fmt::Debug for CompletionQueue<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue")
            .field("len", &self.left())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
