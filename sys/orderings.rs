//! The atomics shared with the kernel: every memory ordering of this crate.
//!
//! Each shared index has one writer. The writer holds it as [`Published`], the reader as
//! [`Observed`]. Both sides hold the same atomics, with the roles exchanged:
//!
//! ```text
//!                 we hold              the kernel holds
//!   sq.tail       Published       ──►  Observed
//!   sq.head       Observed        ◄──  Published
//!   cq.tail       Observed        ◄──  Published
//!   cq.head       Published       ──►  Observed
//!   buffer tail   PublishedHalf   ──►  ObservedHalf
//!   sq.flags      ObservedFlags   ◄──  PublishedFlags
//!   cq.flags      PublishedFlags  ──►  ObservedFlags
//! ```
//!
//! `publish` is a Release store and `observe` an Acquire load. So everything that the writer did
//! before `publish` is visible to the reader after the `observe` that returns that index. This pair
//! gives SQ3, SQ4, CQ3, CQ4 and BR2. SQ1 and CQ1 hold because [`Observed`] has no store. SQ5 is a
//! fence, see [`ObservedFlags`].
//!
//! Under `--cfg loom` the atomics are loom's types, so a missing ordering is reported as a race.
//! Besides `slots`, no other file depends on this.
//!
//! Leaves to others: what lies between the indices (`slots`).
//!
//! # Safety
//!
//! Each type dereferences a pointer for which the caller of its constructor vouched. Nothing but
//! this file and `slots` dereferences memory that the kernel can access.
#![allow(unsafe_code, reason = "dereferences the atomics shared with the kernel")]

use core::ptr::NonNull;

#[cfg(not(loom))]
use core::sync::atomic;
#[cfg(loom)]
use loom::sync::atomic;

use atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use atomic::fence;
pub use atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::index::Index;

/// An atomic that both sides access.
#[derive(Debug)]
struct Shared<W>(NonNull<W>);

impl<W> Shared<W> {
    #[inline]
    fn word(&self) -> &W {
        // SAFETY: valid and accessed only atomically, as promised to the `new` of the type that
        // holds it.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: the shared values are atomic, and they hand over the slots (SQ3, SQ4, CQ3, CQ4), so a
// half may move to another thread; `&mut` keeps two threads from using one half at the same time.
unsafe impl<W> Send for Shared<W> {}

/// A shared index that only this side stores.
#[derive(Debug)]
pub struct Published(Shared<AtomicU32>);

impl Published {
    /// Makes the writing side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// `word` must stay valid for reads and writes while this value exists, both sides must access
    /// it only atomically, and no other `Published` for it may be used.
    pub unsafe fn new(word: NonNull<AtomicU32>) -> Self {
        Self(Shared(word))
    }

    /// The index that we published last. Relaxed, since only we store it.
    #[inline]
    pub fn last(&self) -> Index {
        Index::from_raw(self.0.word().load(Relaxed))
    }

    // ANCHOR: publish
    /// Makes everything before this call visible to the other side once it observes `index`.
    #[inline]
    pub fn publish(&mut self, index: Index) {
        self.0.word().store(index.to_raw(), Release); // Everything before this store ..
    }
    // ANCHOR_END: publish

    /// Our own index, for who only looks at it, perhaps on another thread.
    ///
    /// # Safety
    ///
    /// The atomic must stay valid while the returned value exists.
    pub unsafe fn watch(&self) -> Observed {
        Observed(Shared(self.0.0))
    }
}

/// A shared index that only the other side stores.
#[derive(Debug)]
pub struct Observed(Shared<AtomicU32>);

impl Observed {
    /// Makes the reading side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// `word` must stay valid for reads while this value exists, and both sides must access it only
    /// atomically.
    pub unsafe fn new(word: NonNull<AtomicU32>) -> Self {
        Self(Shared(word))
    }

    // ANCHOR: observe
    /// The index that the other side published last. It may be any value, so the caller checks it
    /// against SQ2 or CQ2.
    #[inline]
    pub fn observe(&self) -> Index {
        Index::from_raw(self.0.word().load(Acquire)) // .. is visible after this load.
    }
    // ANCHOR_END: observe

    /// Another reading side of the same atomic.
    ///
    /// # Safety
    ///
    /// The atomic must stay valid while the returned value exists.
    pub unsafe fn twin(&self) -> Self {
        Self(Shared(self.0.0))
    }
}

/// The u16 tail of a buffer ring, which only this side stores.
#[derive(Debug)]
pub struct PublishedHalf(Shared<AtomicU16>);

impl PublishedHalf {
    /// Makes the writing side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// As for [`Published::new`].
    pub unsafe fn new(word: NonNull<AtomicU16>) -> Self {
        Self(Shared(word))
    }

    /// Makes everything before this call visible to the other side once it observes `tail`. BR2.
    #[inline]
    pub fn publish(&mut self, tail: u16) {
        self.0.word().store(tail, Release);
    }
}

/// The u16 tail of a buffer ring, as the kernel sees it.
#[derive(Debug)]
pub struct ObservedHalf(Shared<AtomicU16>);

impl ObservedHalf {
    /// Makes the reading side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<AtomicU16>) -> Self {
        Self(Shared(word))
    }

    /// The tail that the other side published last.
    pub fn observe(&self) -> u16 {
        self.0.word().load(Acquire)
    }
}

/// Shared flags that only this side stores. By themselves they order no other memory access.
#[derive(Debug)]
pub struct PublishedFlags(Shared<AtomicU32>);

impl PublishedFlags {
    /// Makes the writing side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// `word` must stay valid for reads and writes while this value exists, and both sides must
    /// access it only atomically.
    pub unsafe fn new(word: NonNull<AtomicU32>) -> Self {
        Self(Shared(word))
    }

    /// The flags that this side stored last. Relaxed, since they order nothing.
    pub fn last(&self) -> u32 {
        self.0.word().load(Relaxed)
    }

    /// Stores `bits`. A shared reference is enough, since it orders nothing, and no bit depends on
    /// what was stored before.
    pub fn store(&self, bits: u32) {
        self.0.word().store(bits, Relaxed);
    }

    /// Another writing side of the same flags, perhaps for another thread: whoever stores last
    /// decides all of them, and [`last`](Self::last) sees the stores of both.
    ///
    /// # Safety
    ///
    /// The atomic must stay valid while the returned value exists.
    pub unsafe fn twin(&self) -> Self {
        Self(Shared(self.0.0))
    }

    /// Stores `bits`, with a fence that keeps every later load after the store.
    ///
    /// The kernel's half of SQ5: a polling thread sets NEED_WAKEUP, then loads the tail again. And
    /// our half of the eventfd: we clear EVENTFD_DISABLED, then load `cq.tail`; the kernel stores
    /// that tail, then loads the flag, with a full barrier between (`wq_has_sleeper`). At least one
    /// of the two must see the other's store, or a completion neither signals nor is seen.
    pub fn store_before_loads(&self, bits: u32) {
        self.0.word().store(bits, Relaxed);
        fence(SeqCst);
    }
}

/// Shared flags that only the other side stores.
#[derive(Debug)]
pub struct ObservedFlags(Shared<AtomicU32>);

impl ObservedFlags {
    /// Makes the reading side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<AtomicU32>) -> Self {
        Self(Shared(word))
    }

    /// The current flags. Relaxed: they are hints, and order no other memory access.
    #[inline]
    pub fn now(&self) -> u32 {
        self.0.word().load(Relaxed)
    }

    // ANCHOR: after_publish
    /// The flags, loaded after the store of the preceding `publish` took effect.
    pub fn after_publish(&self) -> u32 {
        // SQ5. The polling thread stores NEED_WAKEUP, then loads `tail`; we stored `tail`, then
        // load NEED_WAKEUP. At least one of the two must see the other's store, and Release and
        // Acquire do not order a store before a later load of another atomic. axboe/liburing#541.
        fence(SeqCst);
        self.0.word().load(Relaxed)
    }
    // ANCHOR_END: after_publish

    /// Another reading side of the same flags.
    ///
    /// # Safety
    ///
    /// The atomic must stay valid while the returned value exists.
    pub unsafe fn twin(&self) -> Self {
        Self(Shared(self.0.0))
    }
}

/// A counter that only the other side stores (`sq.dropped`, `cq.overflow`). It orders nothing.
#[derive(Debug)]
pub struct Counter<W = AtomicU32>(Shared<W>);

impl<W> Counter<W> {
    /// Makes the reading side of the atomic `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<W>) -> Self {
        Self(Shared(word))
    }
}

impl Counter<AtomicU64> {
    /// The current count.
    pub fn total(&self) -> u64 {
        self.0.word().load(Relaxed)
    }
}

impl Counter {
    /// The current count.
    pub fn now(&self) -> u32 {
        self.0.word().load(Relaxed)
    }
}
