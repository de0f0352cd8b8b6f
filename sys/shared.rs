//! The memory we share with the kernel: every ordering, and every dereference, of this crate.
//!
//! Each shared index has one writer. The writer holds it as [`Published`], the reader as
//! [`Observed`]; a ring and its peer hold the same words with the roles exchanged:
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
//! `publish` is a Release store and `observe` an Acquire load, so whatever the writer did before
//! `publish` is visible after the `observe` that returns it. That pairing is SQ3, SQ4, CQ3, CQ4 and
//! BR2. SQ1 and CQ1 hold because [`Observed`] has no store. SQ5 is a fence, see [`ObservedFlags`].
//!
//! Under `--cfg loom` the words and slots are loom's, so that a missing ordering is a reported
//! race. No other file knows.
//!
//! # Safety
//!
//! Each type dereferences a pointer that its constructor's caller vouched for. Nothing else in the
//! crate dereferences memory that the kernel can reach. No reference to a slot outlives the call
//! that made it, and none is ever made to a slot that the peer writes.
#![allow(unsafe_code, reason = "the one file that dereferences shared memory")]

use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::NonNull;

#[cfg(not(loom))]
use core::{cell::UnsafeCell, sync::atomic};
#[cfg(loom)]
use loom::{cell::UnsafeCell, sync::atomic};

use atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use atomic::fence;
pub use atomic::{AtomicU16 as HalfWord, AtomicU32 as Word, AtomicU64 as LongWord};

use crate::abi::Buf;
use crate::index::{Entries, Index};

/// A word that both sides reach.
#[derive(Debug)]
struct Place<W>(NonNull<W>);

impl<W> Place<W> {
    #[inline]
    fn word(&self) -> &W {
        // SAFETY: valid and accessed only atomically, as promised to the `new` of the type that
        // holds the place.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: the words are atomic and the slots change hands with them (SQ3, SQ4, CQ3, CQ4), so a half
// may move to another thread; `&mut` keeps two threads from using one half at once.
unsafe impl<W> Send for Place<W> {}
// SAFETY: as for `Place`: SQ3, SQ4, CQ3, CQ4 say whose a slot is, not on which thread.
unsafe impl<T: Send> Send for Slots<T> {}

/// A shared index that this side alone stores.
#[derive(Debug)]
pub struct Published(Place<Word>);

impl Published {
    /// Takes the writing side of `word`.
    ///
    /// # Safety
    ///
    /// `word` must stay valid for reads and writes while the value exists, every access to it by
    /// anyone must be atomic, and no other `Published` for it may be used.
    pub unsafe fn new(word: NonNull<Word>) -> Self {
        Self(Place(word))
    }

    /// What we last published. Relaxed, since nobody else stores this word.
    #[inline]
    pub fn last(&self) -> Index {
        Index::from_raw(self.0.word().load(Relaxed))
    }

    /// Makes everything before this call visible to the peer that observes `index`.
    #[inline]
    pub fn publish(&mut self, index: Index) {
        self.0.word().store(index.to_raw(), Release); // Everything before this store ..
    }
}

/// A shared index that only the peer stores.
#[derive(Debug)]
pub struct Observed(Place<Word>);

impl Observed {
    /// Takes the reading side of `word`.
    ///
    /// # Safety
    ///
    /// `word` must stay valid for reads while the value exists, and every access to it by anyone
    /// must be atomic.
    pub unsafe fn new(word: NonNull<Word>) -> Self {
        Self(Place(word))
    }

    /// Where the peer has got to. Any value may come: the caller checks it against SQ2 or CQ2.
    #[inline]
    pub fn observe(&self) -> Index {
        Index::from_raw(self.0.word().load(Acquire)) // .. is visible after this load.
    }
}

/// The u16 tail of a buffer ring, which this side alone stores.
#[derive(Debug)]
pub struct PublishedHalf(Place<HalfWord>);

impl PublishedHalf {
    /// Takes the writing side of `word`.
    ///
    /// # Safety
    ///
    /// As for [`Published::new`].
    pub unsafe fn new(word: NonNull<HalfWord>) -> Self {
        Self(Place(word))
    }

    /// Makes everything before this call visible to the peer that observes `tail`. BR2.
    #[inline]
    pub fn publish(&mut self, tail: u16) {
        self.0.word().store(tail, Release);
    }
}

/// The u16 tail of a buffer ring, as the kernel sees it.
#[derive(Debug)]
pub struct ObservedHalf(Place<HalfWord>);

impl ObservedHalf {
    /// Takes the reading side of `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<HalfWord>) -> Self {
        Self(Place(word))
    }

    /// Where the peer has got to.
    pub fn observe(&self) -> u16 {
        self.0.word().load(Acquire)
    }
}

/// A word of flags that this side alone stores. The flags order nothing by themselves.
#[derive(Debug)]
pub struct PublishedFlags(Place<Word>);

impl PublishedFlags {
    /// Takes the writing side of `word`.
    ///
    /// # Safety
    ///
    /// As for [`Published::new`].
    pub unsafe fn new(word: NonNull<Word>) -> Self {
        Self(Place(word))
    }

    /// What stands in the word. Relaxed, since nobody else stores it.
    pub fn last(&self) -> u32 {
        self.0.word().load(Relaxed)
    }

    /// Stores `bits`.
    pub fn store(&mut self, bits: u32) {
        self.0.word().store(bits, Relaxed);
    }

    /// Stores `bits`, then lets no later load run before the store.
    ///
    /// The peer's half of SQ5: a polling thread raises NEED_WAKEUP, then looks at the tail again.
    pub fn store_before_loads(&mut self, bits: u32) {
        self.0.word().store(bits, Relaxed);
        fence(SeqCst);
    }
}

/// A word of flags that only the peer stores.
#[derive(Debug)]
pub struct ObservedFlags(Place<Word>);

impl ObservedFlags {
    /// Takes the reading side of `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<Word>) -> Self {
        Self(Place(word))
    }

    /// The flags as they stand. Relaxed: they are hints, and order nothing.
    #[inline]
    pub fn now(&self) -> u32 {
        self.0.word().load(Relaxed)
    }

    /// The flags as they stand after the `publish` before this call has been stored.
    pub fn after_publish(&self) -> u32 {
        // SQ5. The polling thread stores NEED_WAKEUP, then loads `tail`; we stored `tail`, then
        // load NEED_WAKEUP. One of the two must see the other's store, and Release and Acquire do
        // not order a store before a later load of another word. axboe/liburing#541.
        fence(SeqCst);
        self.0.word().load(Relaxed)
    }
}

/// A counter that only the peer stores, and that orders nothing: `sq.dropped`, `cq.overflow`.
#[derive(Debug)]
pub struct Counter<W = Word>(Place<W>);

impl<W> Counter<W> {
    /// Takes the reading side of `word`.
    ///
    /// # Safety
    ///
    /// As for [`Observed::new`].
    pub unsafe fn new(word: NonNull<W>) -> Self {
        Self(Place(word))
    }
}

impl Counter<LongWord> {
    /// The count as it stands.
    pub fn total(&self) -> u64 {
        self.0.word().load(Relaxed)
    }
}

impl Counter {
    /// The count as it stands.
    pub fn now(&self) -> u32 {
        self.0.word().load(Relaxed)
    }
}

/// One entry's memory in a [`Slots`]. Under loom it is watched.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot<T>(UnsafeCell<T>);

impl<T: Copy> Slot<T> {
    /// A slot outside any kernel, for a peer that is none.
    pub fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Runs `f` on the slot's memory, for writing.
    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(loom)]
        return self.0.with_mut(f);
        #[cfg(not(loom))]
        f(self.0.get())
    }

    /// Runs `f` on the slot's memory, for reading.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(loom)]
        return self.0.with(f);
        #[cfg(not(loom))]
        f(self.0.get())
    }
}

/// How many units of `T` one entry takes: a submission entry is one or two times 64 bytes, a
/// completion one or two times 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One unit.
    Single,
    /// Two units, side by side.
    Double,
}

/// An array of slots shared with the peer.
#[derive(Debug)]
pub struct Slots<T> {
    /// # Invariants
    ///
    /// 0. Valid for `entries` slots of `width` units while this value exists.
    base: NonNull<Slot<T>>,
    entries: Entries,
    width: Width,
}

impl<T: Copy> Slots<T> {
    /// Takes the slots at `base`.
    ///
    /// # Safety
    ///
    /// The caller promises invariant 0, and that any bytes are a `T`.
    pub unsafe fn new(base: NonNull<Slot<T>>, entries: Entries, width: Width) -> Self {
        Self { base, entries, width }
    }

    /// How many slots there are.
    #[inline]
    pub fn entries(&self) -> Entries {
        self.entries
    }

    /// Whether a slot is two units.
    #[inline]
    pub fn is_double(&self) -> bool {
        self.width == Width::Double
    }

    /// Writes the first unit of the slot that `index` occupies.
    ///
    /// # Safety
    ///
    /// The slot must be ours: the peer does not touch it until it is handed over.
    #[inline]
    pub unsafe fn write(&mut self, index: Index, value: T) {
        // SAFETY: ours, as promised to `write`.
        self.unit(index, 0).with_mut(|unit| unsafe { unit.write(value) });
    }

    /// [`write`](Self::write) for slots that are known to be single: no question asked.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), and the slots must be single.
    #[inline]
    pub unsafe fn write_single(&mut self, index: Index, value: T) {
        // SAFETY: ours, as promised to `write_single`.
        self.single(index).with_mut(|unit| unsafe { unit.write(value) });
    }

    /// Writes the second unit of the slot that `index` occupies.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), and the slots must be double.
    #[inline]
    pub unsafe fn write_rest(&mut self, index: Index, value: T) {
        // SAFETY: ours, as promised to `write_rest`.
        self.unit(index, 1).with_mut(|unit| unsafe { unit.write(value) });
    }

    /// Fills the first unit of the slot that `index` occupies in place, over `blank`.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write); and the peer must not write to this array, ever.
    #[inline]
    pub unsafe fn fill(&mut self, index: Index, blank: T, fill: impl FnOnce(&mut T)) {
        self.unit(index, 0).with_mut(|unit| {
            // SAFETY: ours, as promised to `fill`.
            unsafe { unit.write(blank) };
            // SAFETY: just written, and nobody else touches it during the call, as promised to
            // `fill`.
            fill(unsafe { &mut *unit });
        });
    }

    /// Copies out the first unit of the slot that `index` occupies.
    ///
    /// # Safety
    ///
    /// The slot must be ours: the peer does not write it until it is handed back.
    #[inline]
    pub unsafe fn read(&self, index: Index) -> T {
        // SAFETY: ours, as promised to `read`; and any bytes are a `T`, as promised to `new`.
        self.unit(index, 0).with(|unit| unsafe { unit.read() })
    }

    /// [`read`](Self::read) for slots that are known to be single: no question asked.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), and the slots must be single.
    #[inline]
    pub unsafe fn read_single(&self, index: Index) -> T {
        // SAFETY: ours, as promised to `read_single`; any bytes are a `T`, as promised to `new`.
        self.single(index).with(|unit| unsafe { unit.read() })
    }

    /// Those of the `count` slots from `from` on that lie side by side.
    ///
    /// # Safety
    ///
    /// As for [`read_single`](Self::read_single), for each of the slots, until the run is gone.
    #[inline]
    pub unsafe fn run(&self, from: Index, count: u32) -> Run<'_, T> {
        let left = from.run(count, self.entries);
        let next = self.pointer(from.slot(self.entries));
        Run { next, left, of: PhantomData }
    }

    /// Copies out the second unit of the slot that `index` occupies.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), and the slots must be double.
    #[inline]
    pub unsafe fn read_rest(&self, index: Index) -> T {
        // SAFETY: ours, as promised to `read_rest`; and any bytes are a `T`.
        self.unit(index, 1).with(|unit| unsafe { unit.read() })
    }

    /// The slot that `index` occupies, where a slot is one unit; else some unit of another.
    #[inline]
    fn single(&self, index: Index) -> &Slot<T> {
        self.at(index.slot(self.entries))
    }

    /// The unit at `offset` of the slot that `index` occupies.
    #[inline]
    fn unit(&self, index: Index, offset: usize) -> &Slot<T> {
        match self.width {
            Width::Single => self.single(index),
            Width::Double => self.at(2 * index.slot(self.entries) + offset),
        }
    }

    /// The unit at `at`, which is below `entries` times the width.
    #[inline]
    fn at(&self, at: usize) -> &Slot<T> {
        // SAFETY: valid (0); a `Slot` is a cell, so the peer's accesses do not conflict with this
        // `&`.
        unsafe { self.pointer(at).as_ref() }
    }

    #[inline]
    fn pointer(&self, at: usize) -> NonNull<Slot<T>> {
        // SAFETY: in bounds, since `Index::slot` is below `entries` (0), and the offset below the
        // width.
        unsafe { self.base.add(at) }
    }
}

/// Slots that lie side by side, copied out one at a time: see [`Slots::run`].
#[derive(Debug)]
pub struct Run<'a, T> {
    next: NonNull<Slot<T>>,
    pub(crate) left: u32,
    of: PhantomData<&'a Slot<T>>,
}

impl<T: Copy> Iterator for Run<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        // SAFETY: valid, since a run ends where the ring does (0), and this is not its end.
        let slot = unsafe { self.next.as_ref() };
        // SAFETY: at most just behind the last slot, because one was left (0).
        self.next = unsafe { self.next.add(1) };
        self.left -= 1;
        // SAFETY: ours, as promised to `Slots::run`; any bytes are a `T`, as promised to `new`.
        Some(slot.with(|unit| unsafe { unit.read() }))
    }
}

impl Slots<Buf> {
    /// Writes the entry that `index` occupies, field by field: `resv` of entry 0 is the ring's
    /// tail, so no entry is ever written whole. BR2.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    #[inline]
    pub unsafe fn write_buffer(&mut self, index: Index, addr: u64, len: u32, bid: u16) {
        self.unit(index, 0).with_mut(|unit| {
            let start = unit.cast::<u8>();
            let fields = [
                (offset_of!(Buf, addr), &addr.to_ne_bytes()[..]),
                (offset_of!(Buf, len), &len.to_ne_bytes()),
                (offset_of!(Buf, bid), &bid.to_ne_bytes()),
            ];
            for (offset, bytes) in fields {
                // SAFETY: in bounds, since a field lies inside its struct.
                let field = unsafe { start.add(offset) };
                // SAFETY: ours, as promised to `write_buffer`; a field has as many bytes as its
                // value.
                unsafe { field.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
        });
    }
}
