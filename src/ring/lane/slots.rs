//! The slots of a lane: what each operation is while the kernel works on it, and where it lies.
//!
//! ```text
//!   words   │ word │ word │ number │ word │ …      ours alone
//!   users   │ U    │ U    │        │ U    │ …      ours alone
//!   ops     │ O    │ O    │        │ O    │ …      the kernel's, while in flight
//!
//!   word    sequence:43 │ number:21     in flight: the `user_data` of its entry
//!           number of another slot      free: the next one of the list
//! ```
//!
//! So one comparison tells the completion of an operation in flight from every forged, repeated or
//! late one (OP2). The word of a free slot names another slot, or none: a completion that carries
//! it is compared with that other slot's word, which is different. Sequence numbers are the lane's,
//! not the slot's, and begin at 1: a word comes again after 2^43 operations.
//!
//! Operations are reached only by pointer: from `prep` to the last completion no reference covers
//! one, because the kernel writes into it (OP1). An operation leaves its slot, and the slot is
//! free, before the caller's code runs.
//!
//! Keeps OP1, OP2 and OP3. Leaves to others: when memory is leaked (`lane::end`).
#![allow(unsafe_code, reason = "owns memory that the kernel uses")]

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr::NonNull;

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::CqeFlags;

use crate::lease::Resource;
use crate::lease::ticket::Rejection;
use crate::lease::user_data::low;
use crate::op::{Done, Op, ResultKind};
use crate::raw::RingId;
use crate::ring::slab::contained;

/// How many bits of a word are the number of a slot: more than the longest queue needs, so that
/// some numbers are those of no slot.
const NUMBER_BITS: u32 = 21;
/// The number of a slot in a word.
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// From one sequence number to the next, in a word.
const STEP: u64 = 1 << NUMBER_BITS;
/// The `user_data` of the lane's own cancels: it names no slot.
pub(super) const CANCEL: u64 = u64::MAX;
/// Flags of a completion after which the kernel still has the operation, or which is not its own.
const CONTINUES: CqeFlags = CqeFlags::MORE.union(CqeFlags::NOTIF);

/// All slots of a lane.
///
/// # Invariants
///
/// 0. There are `mask + 1` words, a power of two: the first half is that of the slots.
/// 1. `free` is the number of a slot that is free, or of the first word that is of no slot. So is
///    the word of each free slot, and no slot is twice in this list.
/// 2. A word names its own place if, and only if, it is that of an operation in flight. Then the
///    slot has a user value and an operation.
pub(super) struct Slots<O, U> {
    words: Box<[u64]>,
    mask: u64,
    users: Memory<U>,
    ops: Memory<O>,
    /// The first free slot.
    free: u64,
    /// The word of the next operation, without its number.
    next: u64,
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a slot's number has 21 bits")]
fn index(number: u64) -> usize {
    number as usize
}

impl<O: Op, U> Slots<O, U> {
    /// `count` free slots.
    pub(super) fn new(count: u32) -> Self {
        // So that no slot's number is that of a cancel.
        assert!(count < 1 << (NUMBER_BITS - 1) && count.is_power_of_two(), "OP2: {count} slots");
        // No two lanes share a cache line of operations.
        let (users, ops) = (Memory::new(count, 1), Memory::new(count, 64));
        let count = u64::from(count);
        let word = |number| if number < count { number + 1 } else { number ^ 1 };
        let words = (0..2 * count).map(word).collect();
        Self { words, mask: 2 * count - 1, users, ops, free: 0, next: STEP }
    }

    /// Fills free slots, one after the other.
    #[inline]
    pub(super) fn filling(&mut self) -> Filling<'_, O, U> {
        let end = self.end();
        let Self { words, users, ops, free, next, .. } = self;
        let (users, ops) = (users.start, ops.start);
        Filling { words, end, users, ops, first: *free, word: *next, free, next }
    }

    /// Ends operations, one after the other.
    #[inline]
    pub(super) fn ending(&mut self) -> Ending<'_, O, U> {
        let Self { words, mask, users, ops, free, .. } = self;
        let (users, ops) = (users.start, ops.start);
        Ending { words, mask: *mask, users, ops, first: *free, free }
    }
}

impl<O, U> Slots<O, U> {
    /// How many operations were ever submitted, modulo 2^43.
    #[inline]
    pub(super) fn submitted(&self) -> u64 {
        (self.next >> NUMBER_BITS).wrapping_sub(1)
    }

    /// How many operations are in flight, if `ended` have ended.
    #[inline]
    pub(super) fn left_of(&self, ended: u64) -> u64 {
        self.next.wrapping_sub(ended.wrapping_add(1) << NUMBER_BITS) >> NUMBER_BITS
    }

    /// The number of slots, and the end of the list of free ones.
    #[inline]
    fn end(&self) -> u64 {
        self.mask / 2 + 1
    }

    /// Whether `cqe` is the only completion of an operation in flight.
    pub(super) fn is_ended_by(&self, cqe: Cqe) -> bool {
        self.is_in_flight(cqe.user_data) && !cqe.flags.intersects(CONTINUES)
    }

    /// Whether the operation with this `user_data` is in flight.
    pub(super) fn is_in_flight(&self, word: u64) -> bool {
        let number = word & NUMBER;
        number < self.end() && self.words.get(index(number)) == Some(&word)
    }

    /// The `user_data` of all operations in flight, found by a look at every slot.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = u64> {
        let words = self.words.iter().copied();
        // Every other word names another place (2).
        (0..).zip(words).filter(|(number, word)| word & NUMBER == *number).map(|(_, word)| word)
    }

    pub(super) fn count(&self) -> u32 {
        low(self.end())
    }

    /// Drops the user values of all operations in flight, which the kernel does not use.
    ///
    /// # Safety
    ///
    /// Nothing but dropping may be done with the slots afterwards.
    pub(super) unsafe fn drop_users(&mut self) {
        let numbers: Vec<u64> = self.in_flight().map(|word| word & NUMBER).collect();
        for number in numbers {
            // SAFETY: within the allocation, because it is a slot (2).
            let user = unsafe { self.users.start.add(index(number)) };
            // A panic does not keep the others from being dropped.
            // SAFETY: its operation is in flight, so there is one (2), and nobody uses it again, as
            // promised to `drop_users`.
            contained(|| unsafe { user.drop_in_place() });
        }
    }
}

impl<O, U> Drop for Slots<O, U> {
    /// Frees the memory of the operations, unless some are in flight: then it is leaked, with
    /// everything that those operations own (RG1).
    fn drop(&mut self) {
        // SAFETY: no value in it is used again, and the kernel has none of it.
        unsafe { self.users.free() };
        if self.in_flight().next().is_none() {
            // SAFETY: no operation is in flight, by the words of all slots, so the kernel has none
            // (RG1). Those that ended have left.
            unsafe { self.ops.free() };
        }
    }
}

/// Moves operations into slots. Keeps the list of free slots, and the sequence number, in
/// registers: the slots get them back when this is dropped, also while the caller's code panics.
pub(super) struct Filling<'a, O, U> {
    words: &'a mut [u64],
    /// The number that ends the list of free slots.
    end: u64,
    users: NonNull<U>,
    ops: NonNull<O>,
    /// The first free slot.
    first: u64,
    /// The word of the next operation, without its number.
    word: u64,
    free: &'a mut u64,
    next: &'a mut u64,
}

impl<O: Op, U> Filling<'_, O, U> {
    /// Moves `op` into the first free slot. Gives it back when there is none.
    #[inline]
    pub(super) fn place(&mut self, op: O) -> Result<Placed<'_, O, U>, O> {
        let number = self.first;
        // The list of free slots ends with a number that no slot has (1).
        if number == self.end {
            return Err(op);
        }
        // SAFETY: there is such a slot, because it is in the list (1).
        let slot = unsafe { self.words.get_unchecked_mut(index(number)) };
        // SAFETY: within the allocation, because there is such a slot (1).
        let at = unsafe { self.ops.add(index(number)) };
        // SAFETY: within the allocation, because there is such a slot (1).
        let user = unsafe { self.users.add(index(number)) };
        // SAFETY: a free slot's memory is ours, and nothing lies in it.
        unsafe { at.write(op) };
        let word = self.word | number;
        Ok(Placed { slot, at, user, word, free: &mut self.first, next: &mut self.word })
    }
}

impl<O, U> Drop for Filling<'_, O, U> {
    #[inline]
    fn drop(&mut self) {
        (*self.free, *self.next) = (self.first, self.word);
    }
}

/// An operation in a slot that is still free, before the kernel has it. Dropping this takes the
/// operation out again, and drops it.
pub(super) struct Placed<'a, O, U> {
    slot: &'a mut u64,
    at: NonNull<O>,
    /// Where the user value is to lie.
    user: NonNull<U>,
    /// Its `user_data`.
    word: u64,
    free: &'a mut u64,
    next: &'a mut u64,
}

impl<O: Op, U> Placed<'_, O, U> {
    /// Whether the lane may accept the operation: see `Reserved::admit`.
    #[inline]
    pub(super) fn admit(&mut self, ring: RingId) -> Result<(), Rejection> {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.at.as_mut() };
        if let Some(reason) = op.refusal() {
            return Err(Rejection::Invalid { reason });
        }
        if op.belongs_to(ring) { Ok(()) } else { Err(Rejection::OtherRing) }
    }

    /// The entry, with its `user_data`.
    #[inline]
    pub(super) fn prep(&mut self) -> Sqe {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.at.as_mut() };
        Sqe { user_data: self.word, ..op.prep() }
    }

    /// Takes the operation out again.
    pub(super) fn back(self) -> O {
        let placed = ManuallyDrop::new(self);
        // SAFETY: the slot holds it once, because `placed` is not dropped, and no entry names it
        // (OP1).
        unsafe { placed.at.read() }
    }

    /// Its entry is pushed: from now on only its last completion frees the slot. Returns its
    /// `user_data`.
    #[inline]
    pub(super) fn commit(self, user: U) -> u64 {
        let mut placed = ManuallyDrop::new(self);
        let Placed { slot, user: at, word, free, next, .. } = &mut *placed;
        **free = mem::replace(slot, *word);
        **next = next.wrapping_add(STEP);
        // SAFETY: a free slot's place is ours, and nothing lies in it (2).
        unsafe { at.write(user) };
        *word
    }
}

impl<O, U> Drop for Placed<'_, O, U> {
    fn drop(&mut self) {
        // A panic may have brought us here, and a second one must not abort.
        contained(|| {
            // SAFETY: the slot holds it, and no entry names it (OP1): its slot is still free.
            unsafe { self.at.drop_in_place() };
        });
    }
}

/// Ends operations whose completions come. Keeps the list of free slots in a register: the slots
/// get it back when this is dropped, also while the caller's code panics.
pub(super) struct Ending<'a, O, U> {
    words: &'a mut [u64],
    /// One less than there are words.
    mask: u64,
    users: NonNull<U>,
    ops: NonNull<O>,
    /// The first free slot.
    first: u64,
    free: &'a mut u64,
}

impl<O: Op, U> Ending<'_, O, U> {
    /// Ends the operation that `cqe` names, if that was its only completion: the user value and the
    /// output. Changes nothing for any other completion. The slot is free before the operation
    /// makes its output.
    ///
    /// # Safety
    ///
    /// The kernel must have posted `cqe` on this ring, and each completion must be passed once
    /// (OP1, OP3).
    #[inline]
    pub(super) unsafe fn end(&mut self, cqe: Cqe) -> Option<(U, O::Output)> {
        let number = cqe.user_data & self.mask;
        // SAFETY: in bounds, because of the mask (0).
        let slot = unsafe { self.words.get_unchecked_mut(index(number)) };
        if *slot != cqe.user_data || cqe.flags.intersects(CONTINUES) {
            return None;
        }
        *slot = self.first;
        self.first = number;
        // SAFETY: within the allocation, because only the word of a slot is a `user_data` (2).
        let user = unsafe { self.users.add(index(number)) };
        // SAFETY: its operation was in flight, so there is one (2); nobody reads it again, since
        // the slot is free now.
        let user = UserValue(ManuallyDrop::new(unsafe { user.read() }));
        // SAFETY: within the allocation, because only the word of a slot is a `user_data` (2).
        let at = unsafe { self.ops.add(index(number)) };
        // SAFETY: it has ended by the completion that its word names, so the kernel is done with it
        // (OP1); nobody reads it again, since the slot is free now.
        let op = unsafe { at.read() };
        let resource = match O::RESULT_KIND {
            // SAFETY: the kernel made the descriptor for this operation, as promised to `end`.
            ResultKind::Fd => unsafe { Resource::fd(cqe.res) },
            _ => Resource::Nothing,
        };
        let output = op.finish(Done::new(cqe.res, cqe.flags, None, resource));
        Some((user.take(), output))
    }
}

impl<O, U> Drop for Ending<'_, O, U> {
    #[inline]
    fn drop(&mut self) {
        *self.free = self.first;
    }
}

/// The user value of an operation that is over. If making the output panics, it is dropped here,
/// where a second panic goes no further.
struct UserValue<U>(ManuallyDrop<U>);

impl<U> UserValue<U> {
    #[inline]
    fn take(self) -> U {
        let mut whole = ManuallyDrop::new(self);
        // SAFETY: taken once, since `whole` is neither used nor dropped after.
        unsafe { ManuallyDrop::take(&mut whole.0) }
    }
}

impl<U> Drop for UserValue<U> {
    fn drop(&mut self) {
        // SAFETY: dropped once, since `take` leaves nothing to drop.
        contained(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

/// Memory for so many values. It never moves, and nothing frees it but a call.
struct Memory<T> {
    start: NonNull<T>,
    layout: Layout,
    owns: PhantomData<T>,
}

impl<T> Memory<T> {
    fn new(count: u32, align: usize) -> Self {
        let array = Layout::array::<T>(count as usize).expect("so many values fit");
        let layout = array.align_to(align).expect("so many values fit").pad_to_align();
        if layout.size() == 0 {
            return Self { start: NonNull::dangling(), layout, owns: PhantomData };
        }
        // SAFETY: not of size 0, as was just checked.
        let start = unsafe { alloc::alloc(layout) }.cast();
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start, layout, owns: PhantomData }
    }

    /// Frees the memory. Values that lie in it are not dropped.
    ///
    /// # Safety
    ///
    /// The kernel must be done with all of it (RG1), and nobody may use it again.
    unsafe fn free(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: allocated with this layout, and nobody uses it again, as promised to `free`.
            unsafe { alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
        }
    }
}
