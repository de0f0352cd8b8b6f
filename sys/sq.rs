//! The submission queue: we write entries, the kernel consumes them.
//!
//! ```text
//!             free │ consumable by the kernel │ written │ free
//!   ──────────────┬┴─────────────────────────┬┴────────┬┴─────
//!                head                       tail     written
//!              (kernel's)                  (ours)   (private)
//! ```
//!
//! `push` moves `written`, `flush` moves `tail` up to it, and the kernel moves `head`. Keeps SQ2,
//! SQ3 and SQ4. The types of `head` and `tail` keep SQ1, and `ObservedFlags` keeps SQ5.
//!
//! A forked child never reads the shared memory. There, the queue reports that it has no free slot
//! and no entries; only `unsubmitted` and `pushed` still tell our own counts.
//!
//! Leaves to others: when to enter the kernel, and what an entry means.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours; and between two enters, those that
//! only an enter reads (`rewind`, `cut`).
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

mod cut;
mod pusher;
mod reservation;
mod watch;
mod wide;

use std::sync::Arc;

use crate::abi::Sqe;
use crate::flags::SqRingFlags;
use crate::index::Index;
pub use crate::index::SqIndices;
use crate::map::Map;
use crate::orderings::{Counter, Observed, ObservedFlags, Published};
use crate::process::Process;
pub use crate::shape::{SqeShape, Turn};
use crate::slots::{FreeSlots, Slots};
pub use pusher::Pusher;
pub use reservation::Reservation;
pub use watch::SqWatch;

/// Our half of the submission queue.
#[derive(Debug)]
pub struct SubmissionQueue {
    /// The kernel has consumed the entries before this index.
    head: Observed,
    /// The kernel may consume the entries before this index.
    tail: Published,
    /// The slots after `written` that we may write without loading `head` (SQ4), up to the wrap.
    free: FreeSlots<Sqe>,
    /// The index just after `free`.
    limit: Index,
    /// The kernel has consumed the entries before this index, as we last learned: from the answer
    /// of an enter, or from `head` in a flush.
    consumed: Index,
    slots: Slots<Sqe>,
    shape: SqeShape,
    turn: Turn,
    flags: ObservedFlags,
    dropped: Counter,
    /// `written + offset` is how many requests were ever written, modulo 2³²: slots that
    /// [`Turn::Rewind`] freed add to it, second halves and padding take away.
    offset: u32,
    /// Keeps the memory of the indices and slots mapped as long as this value exists.
    memory: Arc<[Map]>,
    /// The process that mapped the memory. A forked child does not have it.
    process: Process,
}

/// The submission queue has too few free slots. Submit, then try again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl core::fmt::Debug for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Full({self})")
    }
}

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(
            "the submission queue is full: submit the pushed entries (with SQPOLL: wait for free \
             slots), then push again",
        )
    }
}

impl std::error::Error for Full {}

/// Why a 128-byte entry was not pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PushWideError {
    /// The submission queue has too few free slots. Submit, then try again.
    Full,
    /// The ring has 64-byte entries: set it up with `SQE128` or `SQE_MIXED`.
    Narrow,
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl core::fmt::Debug for PushWideError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PushWideError({self})")
    }
}

impl core::fmt::Display for PushWideError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => Full.fmt(f),
            Self::Narrow => {
                f.write_str("the ring has 64-byte entries: set it up with SQE128 or SQE_MIXED")
            }
        }
    }
}

impl std::error::Error for PushWideError {}

impl From<Full> for PushWideError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// The shared indices, flags and slots that make up a [`SubmissionQueue`].
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the ring's atomics, described in `orderings`")]
pub struct SqParts {
    pub head: Observed,
    pub tail: Published,
    pub flags: ObservedFlags,
    pub dropped: Counter,
    pub slots: Slots<Sqe>,
    pub shape: SqeShape,
    pub turn: Turn,
    pub memory: Arc<[Map]>,
}

impl SubmissionQueue {
    /// Makes a queue over shared memory.
    ///
    /// # Panics
    ///
    /// When the kernel's `head` and our `tail` are further apart than the queue has slots (SQ2).
    ///
    /// # Safety
    ///
    /// The kernel side must keep SQ1. It may read only the slots in `head..tail`, and must write to
    /// none. The slots must be double if, and only if, the shape is [`SqeShape::Double`]. The
    /// indices, flags and slots must stay valid as long as `memory` exists.
    pub unsafe fn over(parts: SqParts) -> Self {
        let SqParts { head, tail, flags, dropped, slots, shape, turn, memory } = parts;
        assert_eq!(slots.is_double(), shape == SqeShape::Double);
        let written = tail.last();
        let free = slots.free(written, 0);
        let mut ring = Self {
            head,
            tail,
            free,
            limit: written,
            consumed: written,
            slots,
            shape,
            turn,
            flags,
            dropped,
            offset: 0_u32.wrapping_sub(written.to_raw()),
            memory,
            process: Process::this(),
        };
        let used = ring.used(); // Checks that SQ2 holds from the start.
        ring.consumed = written.back(used);
        ring
    }

    /// Moves to the memory that the kernel made for a resized ring: the indices keep their values,
    /// the slots are new.
    ///
    /// # Panics
    ///
    /// When the kernel did not carry our tail over, or broke SQ2.
    ///
    /// # Safety
    ///
    /// As for [`over`](Self::over). Also, every written entry must have been flushed, since the
    /// kernel copied only flushed entries.
    pub unsafe fn move_to(&mut self, parts: SqParts) {
        let (written, offset) = (self.written(), self.offset);
        // SAFETY: as promised to `move_to`.
        *self = Self { offset, ..unsafe { Self::over(parts) } };
        assert_eq!(self.written(), written, "SQ1: the resize lost our tail");
    }

    /// Writes `sqe` into the next free slot. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; nothing was written.
    ///
    /// # Safety
    ///
    /// The memory that `sqe` points to must stay valid and unaliased until its last completion
    /// (OP1). The ring must be [of this process](Self::is_here).
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.free.is_empty() {
            self.find_free()?;
        }
        // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3).
        unsafe { self.free.write_entry(sqe) };
        Ok(())
    }

    /// Whether a slot is free. Loads the kernel's `head` only if it must (SQ4).
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.is_here() && (!self.free.is_empty() || self.find_free().is_ok())
    }

    /// Whether the calling process made the ring, and is not a forked child of that process.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Fills the next free slot in place: `fill` gets a zeroed entry where the kernel will read it.
    ///
    /// If `fill` panics, nothing is pushed.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; `fill` was not called.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    #[inline]
    pub unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) -> Result<(), Full> {
        if self.free.is_empty() {
            self.find_free()?;
        }
        // SAFETY: ours (SQ3, SQ4), and the kernel side never writes a slot, as promised to `over`.
        unsafe { self.free.fill(Sqe::ZERO, fill) };
        Ok(())
    }

    /// Reserves `count` free slots, so that the entries pushed into them are submitted together.
    ///
    /// On a mixed ring an entry of 128 bytes takes two slots. It takes a third one, for padding, if
    /// it would otherwise straddle the wrap.
    ///
    /// # Errors
    ///
    /// [`Full`] when fewer than `count` slots are free.
    pub fn reserve(&mut self, count: u32) -> Result<Reservation<'_>, Full> {
        self.need(count)?;
        let end = self.written().advance(count);
        Ok(Reservation::new(self, end))
    }

    /// Publishes every written entry to the kernel, and returns how many entries it has yet to
    /// consume.
    ///
    /// Pass that number as `to_submit` to the next enter.
    ///
    /// # Panics
    ///
    /// When the kernel broke SQ2.
    #[inline]
    pub fn flush(&mut self) -> u32 {
        if !self.is_here() {
            return 0;
        }
        // With `Turn::Rewind` the kernel reads no tail: it consumes as many entries as enter says,
        // from slot 0 on, and the system call itself gives the order that SQ3 asks for.
        let written = self.written();
        if self.turn == Turn::Round {
            self.tail.publish(written); // SQ3
        }
        let used = self.used();
        if self.turn == Turn::Round {
            self.consumed = written.back(used);
        }
        used
    }

    /// How many written entries the kernel has yet to consume, as we last learned from the answer
    /// of an enter or from a flush. At most that many are left, since this loads nothing that the
    /// kernel stores.
    #[inline]
    pub fn unsubmitted(&self) -> u32 {
        self.written().distance_from(self.consumed)
    }

    /// Publishes every written entry, as [`flush`](Self::flush) does, without a look at what the
    /// kernel has consumed. Returns up to where. Of a queue that rewinds, the kernel reads no tail.
    ///
    /// # Safety
    ///
    /// The ring must be [of this process](Self::is_here).
    #[inline]
    pub unsafe fn publish(&mut self) -> Index {
        let written = self.written();
        self.tail.publish(written); // SQ3
        written
    }

    /// Records that an enter consumed the entries before `published`, all that were published.
    #[inline]
    pub fn consumed_up_to(&mut self, published: Index) {
        self.consumed = published;
    }

    /// Records that an enter consumed `count` entries. With [`Turn::Rewind`], the entries that are
    /// left move down to slot 0, where the kernel starts to read next time.
    #[inline]
    pub fn consumed(&mut self, count: u32) {
        if self.turn == Turn::Round {
            self.consumed = self.consumed.advance(count);
        } else if count > 0 && self.is_here() {
            assert!(
                count <= self.written().to_raw(),
                "SQ2: the kernel consumed more than we wrote"
            );
            self.rewind(count);
        }
    }

    /// How many written entries, flushed or not, the kernel has yet to consume.
    #[inline]
    pub fn unconsumed(&self) -> u32 {
        if self.is_here() { self.used() } else { 0 }
    }

    /// [`unconsumed`](Self::unconsumed), for a ring that is known to be of this process.
    #[inline]
    fn used(&self) -> u32 {
        match self.turn {
            Turn::Round => checked(self.written(), self.head.observe(), self.entries()),
            Turn::Rewind => self.written().to_raw(),
        }
    }

    /// We have written the entries before this index. It runs ahead of `tail` until
    /// [`flush`](Self::flush).
    #[inline]
    fn written(&self) -> Index {
        self.limit.back(self.free.left())
    }

    /// How many slots are free.
    #[inline]
    pub fn room(&self) -> u32 {
        if self.is_here() { self.entries() - self.used() } else { 0 }
    }

    /// How many slots there are.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.slots.entries().count()
    }

    /// The size of the entries.
    pub fn shape(&self) -> SqeShape {
        self.shape
    }

    /// The mappings that hold the ring.
    pub fn memory(&self) -> &Arc<[Map]> {
        &self.memory
    }

    /// Where the queue stands. In a forked child, it is empty.
    #[inline]
    pub fn indices(&self) -> SqIndices {
        let written = self.written();
        if !self.is_here() {
            return SqIndices { head: written, tail: written, written };
        }
        SqIndices { head: self.head.observe(), tail: self.tail.last(), written }
    }

    /// How many requests were ever pushed, modulo 2³².
    #[inline]
    pub fn pushed(&self) -> u32 {
        self.written().to_raw().wrapping_add(self.offset)
    }

    /// How many entries the kernel dropped because their number in the index array was out of
    /// range, modulo 2³². Grows no more once the array is ours, since we fill it once and never
    /// write to it again. 0 in a forked child.
    pub fn dropped(&self) -> u32 {
        if self.is_here() { self.dropped.now() } else { 0 }
    }

    /// The kernel's flags. They are hints: loading them orders no other memory access.
    #[inline]
    pub fn flags(&self) -> SqRingFlags {
        SqRingFlags::from_bits_retain(if self.is_here() { self.flags.now() } else { 0 })
    }

    /// Whether the polling thread (`SQPOLL`) sleeps. Call it after [`flush`](Self::flush) (SQ5).
    pub fn needs_wakeup(&self) -> bool {
        let flags = || SqRingFlags::from_bits_retain(self.flags.after_publish());
        self.is_here() && flags().contains(SqRingFlags::NEED_WAKEUP)
    }

    /// The position up to which we have written, for [`go_to`](Self::go_to).
    fn mark(&self) -> Mark {
        Mark { written: self.written(), offset: self.offset }
    }

    /// Continues writing at `mark`: at the end of a reservation, or back at its start. No slot
    /// beyond `mark` was flushed, so all of them are still ours (SQ3).
    fn go_to(&mut self, mark: Mark) {
        self.offset = mark.offset;
        self.go_on_at(mark.written);
    }

    /// Continues writing at `written`. The next push loads `head` first (SQ4).
    fn go_on_at(&mut self, written: Index) {
        (self.free, self.limit) = (self.slots.free(written, 0), written);
    }

    /// Finds the next free slots: as many as there are up to the wrap, or one double slot, whose
    /// second half it zeroes.
    #[cold]
    fn find_free(&mut self) -> Result<(), Full> {
        let (room, written) = (self.room(), self.written());
        if room == 0 {
            return Err(Full);
        }
        if self.slots.is_double() {
            // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3); and
            // the slots are double.
            unsafe { self.slots.write_rest(written, Sqe::ZERO) };
        }
        self.free = self.slots.free(written, room);
        self.limit = written.advance(self.free.left());
        Ok(())
    }

    /// Checks that `count` slots are free.
    #[cold]
    fn need(&self, count: u32) -> Result<(), Full> {
        if self.room() < count { Err(Full) } else { Ok(()) }
    }

    /// Moves the entries after the `consumed` first ones down to slot 0.
    fn rewind(&mut self, consumed: u32) {
        let left = self.written().to_raw() - consumed;
        for slot in 0..left {
            let (from, to) = (Index::from_raw(slot + consumed), Index::from_raw(slot));
            // SAFETY: ours: outside an enter, the kernel reads no slot of such a ring (SQ3).
            let first = unsafe { self.slots.read(from) };
            // SAFETY: ours (SQ3), likewise.
            unsafe { self.slots.write(to, first) };
            if self.slots.is_double() {
                // SAFETY: ours (SQ3), likewise, and the slots are double.
                let rest = unsafe { self.slots.read_rest(from) };
                // SAFETY: ours (SQ3), likewise, and the slots are double.
                unsafe { self.slots.write_rest(to, rest) };
            }
        }
        self.offset = self.offset.wrapping_add(consumed);
        self.go_on_at(Index::from_raw(left));
    }
}

/// A position up to which the queue was written.
#[derive(Debug, Clone, Copy)]
struct Mark {
    written: Index,
    offset: u32,
}

/// Checks SQ2 on the `head` that the kernel stored, and returns how many slots are in use.
#[inline]
fn checked(written: Index, head: Index, entries: u32) -> u32 {
    let used = written.distance_from(head);
    assert!(used <= entries, "SQ2: the kernel's head {head:?} is out of range of our {written:?}");
    used
}
