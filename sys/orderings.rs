//! The memory shared with the kernel: every memory ordering and dereference of ring memory.
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
//! Under `--cfg loom` the atomics and slots are loom's types, so a missing ordering is reported as
//! a race. No other file depends on this.
//!
//! # Safety
//!
//! Each type dereferences a pointer for which the caller of its constructor vouched. Nothing else
//! in the crate dereferences memory that the kernel can access. No reference to a slot outlives the
//! call that made it, and no reference is made to a slot that the kernel side writes.
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
pub use atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::abi::Buf;
use crate::index::{Entries, Index};

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
// SAFETY: as for `Shared`: SQ3, SQ4, CQ3, CQ4 say which side owns a slot, not which thread.
unsafe impl<T: Send> Send for Slots<T> {}

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

    /// Makes everything before this call visible to the other side once it observes `index`.
    #[inline]
    pub fn publish(&mut self, index: Index) {
        self.0.word().store(index.to_raw(), Release); // Everything before this store ..
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

    /// The index that the other side published last. It may be any value, so the caller checks it
    /// against SQ2 or CQ2.
    #[inline]
    pub fn observe(&self) -> Index {
        Index::from_raw(self.0.word().load(Acquire)) // .. is visible after this load.
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
    /// As for [`Published::new`].
    pub unsafe fn new(word: NonNull<AtomicU32>) -> Self {
        Self(Shared(word))
    }

    /// The flags that we stored last. Relaxed, since only we store them.
    pub fn last(&self) -> u32 {
        self.0.word().load(Relaxed)
    }

    /// Stores `bits`.
    pub fn store(&mut self, bits: u32) {
        self.0.word().store(bits, Relaxed);
    }

    /// Stores `bits`, with a fence that keeps every later load after the store.
    ///
    /// The kernel's half of SQ5: a polling thread sets NEED_WAKEUP, then loads the tail again.
    pub fn store_before_loads(&mut self, bits: u32) {
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

    /// The flags, loaded after the store of the preceding `publish` took effect.
    pub fn after_publish(&self) -> u32 {
        // SQ5. The polling thread stores NEED_WAKEUP, then loads `tail`; we stored `tail`, then
        // load NEED_WAKEUP. At least one of the two must see the other's store, and Release and
        // Acquire do not order a store before a later load of another atomic. axboe/liburing#541.
        fence(SeqCst);
        self.0.word().load(Relaxed)
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

/// The memory of one entry in a [`Slots`]. Under loom, accesses to it are checked for races.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot<T>(UnsafeCell<T>);

impl<T: Copy> Slot<T> {
    /// A slot in ordinary memory, for tests that play the kernel side.
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
    /// Two adjacent units.
    Double,
}

/// An array of slots that both sides access.
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
    /// A view of the slots at `base`.
    ///
    /// # Safety
    ///
    /// The caller promises invariant 0, and that any bytes are a valid `T`.
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
    /// The slot must be ours: the other side does not touch it until it is handed over.
    #[inline]
    pub unsafe fn write(&mut self, index: Index, value: T) {
        // SAFETY: ours, as promised to `write`.
        self.unit(index, 0).with_mut(|unit| unsafe { unit.write(value) });
    }

    /// [`write`](Self::write) for slots that are known to be single, without checking the width.
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

    /// Fills the first unit of the slot that `index` occupies in place, starting from `blank`.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), and the other side must never write to this array.
    #[inline]
    pub unsafe fn fill(&mut self, index: Index, blank: T, fill: impl FnOnce(&mut T)) {
        self.unit(index, 0).with_mut(|unit| {
            // SAFETY: ours, as promised to `fill`.
            unsafe { unit.write(blank) };
            // SAFETY: just written, and only we touch it during the call, as promised to `fill`.
            fill(unsafe { &mut *unit });
        });
    }

    /// Copies out the first unit of the slot that `index` occupies.
    ///
    /// # Safety
    ///
    /// The slot must be ours: the other side does not write it until it is handed back.
    #[inline]
    pub unsafe fn read(&self, index: Index) -> T {
        // SAFETY: ours, as promised to `read`; and any bytes are a `T`, as promised to `new`.
        self.unit(index, 0).with(|unit| unsafe { unit.read() })
    }

    /// [`read`](Self::read) for slots that are known to be single, without checking the width.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), and the slots must be single.
    #[inline]
    pub unsafe fn read_single(&self, index: Index) -> T {
        // SAFETY: ours, as promised to `read_single`; any bytes are a `T`, as promised to `new`.
        self.single(index).with(|unit| unsafe { unit.read() })
    }

    /// The `count` slots from `from` on, up to the end of the ring.
    ///
    /// # Safety
    ///
    /// As for [`read_single`](Self::read_single), for each of the slots, while the run exists.
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

    /// The slot that `index` occupies, if slots are single; otherwise a unit of another slot.
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
        // SAFETY: valid (0); a `Slot` is a cell, so the accesses of the other side do not conflict
        // with this `&`.
        unsafe { self.pointer(at).as_ref() }
    }

    #[inline]
    fn pointer(&self, at: usize) -> NonNull<Slot<T>> {
        // SAFETY: in bounds, since `Index::slot` is below `entries` (0), and the unit's offset is
        // below the width.
        unsafe { self.base.add(at) }
    }
}

/// Adjacent slots, copied out one at a time: see [`Slots::run`].
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
        // SAFETY: at most one past the last slot, because one was left (0).
        self.next = unsafe { self.next.add(1) };
        self.left -= 1;
        // SAFETY: ours, as promised to `Slots::run`; any bytes are a `T`, as promised to `new`.
        Some(slot.with(|unit| unsafe { unit.read() }))
    }
}

impl Slots<Buf> {
    /// Writes the buffer entry at `index` field by field: `resv` of entry 0 is the ring's tail, so
    /// no entry is ever written whole. BR2.
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
