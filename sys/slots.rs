//! The slots shared with the kernel: every dereference of ring entries.
//!
//! ```text
//!   Slots       │ 0 │ 1 │ 2 │ 3 │     any slot, by its index
//!   Run             │ 1 │ 2 │ 3 │     adjacent slots, read one after the other
//!   FreeSlots           │ 2 │ 3 │     adjacent slots, written one after the other
//! ```
//!
//! Which side may touch a slot follows from the indices (SQ3, SQ4, CQ3, CQ4). Under `--cfg loom`
//! the slots are loom's cells, so an access that the indices do not allow is reported as a race.
//!
//! Leaves to others: which slots are ours (`sq`, `cq`), and the indices (`orderings`).
//!
//! # Safety
//!
//! Each type dereferences a pointer for which the caller of its constructor vouched. A `&Slot` is a
//! reference to a cell, and does not outlive the call that made it. No reference is made to the
//! contents of a slot that the kernel side writes.
#![allow(unsafe_code, reason = "dereferences the slots shared with the kernel")]

#[cfg(not(loom))]
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::NonNull;

#[cfg(loom)]
use loom::cell::UnsafeCell;

use crate::abi::{Buf, Sqe};
use crate::index::{Entries, Index};

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

// SAFETY: SQ3, SQ4, CQ3, CQ4 say which side owns a slot, not which thread; `&mut` keeps two
// threads from using one half at the same time.
unsafe impl<T: Send> Send for Slots<T> {}

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

    /// Those of the `count` free slots from `from` on that are adjacent in memory. Of double slots,
    /// the first unit of one.
    #[inline]
    pub fn free(&self, from: Index, count: u32) -> FreeSlots<T> {
        let (at, units) = match self.width {
            Width::Single => (from.slot(self.entries), from.run(count, self.entries)),
            Width::Double => (2 * from.slot(self.entries), count.min(1)),
        };
        let next = self.pointer(at);
        // SAFETY: at most one past the last slot, since a run ends where the ring does (0).
        FreeSlots { next, end: unsafe { next.add(units as usize) } }
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
        let left = from.run(count, self.entries) as usize;
        let next = self.pointer(from.slot(self.entries));
        // SAFETY: at most one past the last slot, since a run ends where the ring does (0).
        Run { first: next, next, end: unsafe { next.add(left) }, of: PhantomData }
    }

    /// As [`run`](Self::run), without a borrow of these slots.
    ///
    /// # Safety
    ///
    /// As for [`run`](Self::run), and the memory must stay valid as long as the run exists.
    #[inline]
    pub unsafe fn run_apart<'b>(&self, from: Index, count: u32) -> Run<'b, T> {
        // SAFETY: as promised to `run_apart`.
        let Run { first, next, end, .. } = unsafe { self.run(from, count) };
        Run { first, next, end, of: PhantomData }
    }

    /// The same slots as slots of one unit each, of another type.
    ///
    /// # Safety
    ///
    /// A `U` must be as large as a slot, and any bytes must be a valid one. The memory must stay
    /// valid while the returned value exists.
    pub unsafe fn whole<U: Copy>(&self) -> Slots<U> {
        let units = if self.is_double() { 2 } else { 1 };
        assert_eq!(size_of::<Slot<U>>(), units * size_of::<Slot<T>>());
        Slots { base: self.base.cast(), entries: self.entries, width: Width::Single }
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

/// Adjacent slots that are ours, written one after the other: see [`Slots::free`]. A slot counts as
/// written even before its index is published.
#[derive(Debug, Clone)]
pub struct FreeSlots<T> {
    /// # Invariants
    ///
    /// 0. Up to `end`, units of the slots that made this value.
    next: NonNull<Slot<T>>,
    end: NonNull<Slot<T>>,
}

// SAFETY: as for `Slots`: SQ3 and SQ4 say which side owns a slot, not which thread.
unsafe impl<T: Send> Send for FreeSlots<T> {}

impl<T: Copy> FreeSlots<T> {
    /// Whether none is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// How many are left.
    #[inline]
    pub fn left(&self) -> u32 {
        slots_between(self.next, self.end)
    }

    /// Fills the next slot in place, starting from `blank`. If `fill` panics, the slot is still
    /// the next one.
    ///
    /// # Safety
    ///
    /// As for [`write_entry`](Self::write_entry), and the other side must never write to these
    /// slots.
    #[inline]
    pub unsafe fn fill(&mut self, blank: T, fill: impl FnOnce(&mut T)) {
        let next = self.next;
        // SAFETY: valid and ours, as promised to `fill` (0).
        unsafe { next.as_ref() }.with_mut(|unit| {
            // SAFETY: ours, as promised to `fill`.
            unsafe { unit.write(blank) };
            // SAFETY: just written, and only we touch it during the call, as promised to `fill`.
            fill(unsafe { &mut *unit });
        });
        // SAFETY: at most `end`, because one was left (0).
        self.next = unsafe { next.add(1) };
    }
}

impl FreeSlots<Sqe> {
    /// Writes `entry` into the next slot, as eight words. The compiler then stores the fields that
    /// it knows directly, and does not build the entry on the stack first.
    ///
    /// # Safety
    ///
    /// A slot must be left, and ours: the other side does not touch it until it is handed over. The
    /// memory of the slots must still be valid.
    #[inline]
    pub unsafe fn write_entry(&mut self, entry: Sqe) {
        let next = self.next;
        // SAFETY: at most `end`, because one was left (0).
        self.next = unsafe { next.add(1) };
        // SAFETY: valid and ours, as promised to `write_entry` (0).
        unsafe { next.as_ref() }.with_mut(|unit| {
            // SAFETY: ours, as promised to `write_entry`; 64 bytes, as many as eight words.
            unsafe { unit.cast::<[u64; 8]>().write(entry.to_words()) }
        });
    }
}

/// How many slots lie from one to the other.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a ring has at most 2^31 slots")]
fn slots_between<T>(from: NonNull<Slot<T>>, to: NonNull<Slot<T>>) -> u32 {
    let bytes = to.addr().get() - from.addr().get();
    (bytes / size_of::<Slot<T>>()) as u32
}

/// Adjacent slots, copied out one at a time: see [`Slots::run`].
#[derive(Debug)]
pub struct Run<'a, T> {
    first: NonNull<Slot<T>>,
    next: NonNull<Slot<T>>,
    end: NonNull<Slot<T>>,
    of: PhantomData<&'a Slot<T>>,
}

impl<T> Run<'_, T> {
    /// How many are left.
    #[inline]
    pub fn left(&self) -> u32 {
        slots_between(self.next, self.end)
    }

    /// How many were copied out.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        slots_between(self.first, self.next)
    }
}

impl<T: Copy> Iterator for Run<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: valid, since a run ends where the ring does (0), and this is not its end.
        let slot = unsafe { self.next.as_ref() };
        // SAFETY: at most one past the last slot, because one was left (0).
        self.next = unsafe { self.next.add(1) };
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
