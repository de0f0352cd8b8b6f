//! The submission ring: we produce, the kernel consumes.
//!
//! ```text
//!             free │ consumable by the kernel │ written │ free
//!   ──────────────┬┴─────────────────────────┬┴────────┬┴─────
//!                head                       tail     written
//!               (theirs)                   (ours)   (private)
//! ```
//!
//! `push` moves `written`, `flush` moves `tail` up to it, the kernel moves `head`. Keeps SQ2, SQ3
//! and SQ4. SQ1 is kept by the types of `head` and `tail`, SQ5 by `ObservedFlags`.
//!
//! In a forked child no shared word is looked at: there the ring is full, and nothing is in it.
//!
//! Leaves to others: when to enter the kernel, and what an entry means.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use std::sync::Arc;

use crate::abi::{Sqe, Sqe128};
use crate::flags::{SqRingFlags, SqeFlags};
use crate::index::Index;
use crate::map::Map;
use crate::opcode::Opcode;
use crate::process::Process;
use crate::reservation::Reservation;
pub use crate::shape::{SqeShape, Turn};
use crate::shared::{Counter, Observed, ObservedFlags, Published, Slots};

/// Our half of the submission ring.
#[derive(Debug)]
pub struct SubmissionRing {
    /// Up to here the kernel has consumed.
    head: Observed,
    /// Up to here the kernel may consume.
    tail: Published,
    /// Up to here we have written. Runs ahead of `tail` until [`flush`](Self::flush).
    written: Index,
    /// `head + entries` when `head` was last observed: from here on we must look again (SQ4). Where
    /// slots are double it stays at `written`, so that only single ones are written without a look.
    limit: Index,
    slots: Slots<Sqe>,
    shape: SqeShape,
    turn: Turn,
    flags: ObservedFlags,
    dropped: Counter,
    /// Slots that were used up and carry no request of their own: second halves and padding.
    hollow: u32,
    /// Slots that [`Turn::Rewind`] gave back, so that `written + rewound` counts every slot ever.
    rewound: u32,
    /// What the words and slots lie in stays mapped as long as we do.
    memory: Arc<[Map]>,
    /// A process that this one forks has no such memory.
    process: Process,
}

/// The submission ring has too few free slots. Submit, then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(
            "the submission ring is full: submit what was pushed (a polling ring: wait for room), \
             then push again",
        )
    }
}

impl std::error::Error for Full {}

/// Why a 128-byte entry was not pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushWideError {
    /// The submission ring has too few free slots. Submit, then try again.
    Full,
    /// The ring has 64-byte entries: set it up with `SQE128` or `SQE_MIXED`.
    Narrow,
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

/// The shared words and slots that a [`SubmissionRing`] is made of.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the ring's words, described in `shared`")]
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

impl SubmissionRing {
    /// A ring over shared memory.
    ///
    /// # Panics
    ///
    /// When the peer's `head` and our `tail` are further apart than the ring is long (SQ2).
    ///
    /// # Safety
    ///
    /// The peer must keep SQ1 and touch only the slots in `head..tail`, and must not write to any.
    /// The slots must be double when, and only when, the shape is [`SqeShape::Double`]. Words and
    /// slots must stay valid as long as `memory` does.
    pub unsafe fn over(parts: SqParts) -> Self {
        let SqParts { head, tail, flags, dropped, slots, shape, turn, memory } = parts;
        assert_eq!(slots.is_double(), shape == SqeShape::Double);
        let written = tail.last();
        let ring = Self {
            head,
            tail,
            written,
            limit: written,
            slots,
            shape,
            turn,
            flags,
            dropped,
            hollow: 0,
            rewound: 0,
            memory,
            process: Process::this(),
        };
        ring.used(); // SQ2 holds from the start.
        ring
    }

    /// Moves to where the kernel has put the ring, after a resize: same indices, other slots.
    ///
    /// # Panics
    ///
    /// When the kernel did not carry our tail over, or broke SQ2.
    ///
    /// # Safety
    ///
    /// As for [`over`](Self::over); and everything written must have been flushed, since the kernel
    /// copied only what it could see.
    pub unsafe fn move_to(&mut self, parts: SqParts) {
        let (written, hollow, rewound) = (self.written, self.hollow, self.rewound);
        // SAFETY: as promised to `move_to`.
        *self = Self { hollow, rewound, ..unsafe { Self::over(parts) } };
        assert_eq!(self.written, written, "SQ1: the resize lost our tail");
    }

    /// Writes `sqe` into the next free slot. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; nothing was written.
    ///
    /// # Safety
    ///
    /// Whatever `sqe` points to must stay valid and unaliased until its last completion (OP1). The
    /// ring must be [of this process](Self::is_here).
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.written == self.limit {
            self.need(1)?;
            if self.slots.is_double() {
                // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3).
                unsafe { self.slots.write(self.written, sqe) };
                self.finish_slot();
                return Ok(());
            }
        }
        let at = self.written;
        // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3). And
        // single, since `limit` runs ahead of `written`, or we have just asked.
        unsafe { self.slots.write_single(at, sqe) };
        self.written = at.advance(1);
        Ok(())
    }

    /// Whether a slot is free. Looks where the kernel has got to only if it must (SQ4).
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.is_here() && (self.written != self.limit || self.need(1).is_ok())
    }

    /// Whether this is the process that made the ring, and not one that it forked.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Fills the next free slot in place: `fill` gets a blank entry where the kernel will read it.
    ///
    /// When `fill` unwinds, nothing was pushed.
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
        if self.written == self.limit {
            self.need(1)?;
        }
        // SAFETY: ours (SQ3, SQ4), and the peer never writes a slot, as promised to `over`.
        unsafe { self.slots.fill(self.written, Sqe::ZERO, fill) };
        self.finish_slot();
        Ok(())
    }

    /// Writes a 128-byte entry. The kernel sees it after [`flush`](Self::flush).
    ///
    /// On a mixed ring it takes two slots side by side. When only the last slot before the wrap is
    /// left of this lap, that one is filled with a NOP that posts no completion; so a mixed ring of
    /// fewer than 4 slots may never have the room.
    ///
    /// # Errors
    ///
    /// [`PushWideError::Full`] when too few slots are free, [`PushWideError::Narrow`] on a ring of
    /// 64-byte entries; nothing was written.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push). On a mixed ring the operation must be one of 128 bytes, and
    /// such a one must be pushed here: the kernel tells the width by the opcode, and would take the
    /// second half, or the next entry, for what it is not.
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        let Sqe128 { first, rest } = sqe;
        let rest = Sqe::from_words(rest);
        match self.shape {
            SqeShape::Single => return Err(PushWideError::Narrow),
            SqeShape::Double => {
                self.need(1)?;
                // SAFETY: ours: `head` has passed the slot (SQ4), `tail` has not reached it (SQ3).
                unsafe { self.slots.write(self.written, first) };
                // SAFETY: ours (SQ3, SQ4), and the slots are double, as promised to `over`.
                unsafe { self.slots.write_rest(self.written, rest) };
                self.written = self.written.advance(1);
                self.limit = self.written;
            }
            SqeShape::Mixed => {
                let straddles = self.written.is_last_slot(self.slots.entries());
                self.need(if straddles { 3 } else { 2 })?;
                if straddles {
                    // SAFETY: ours (SQ3, SQ4), since `need` found room for three.
                    unsafe { self.slots.write(self.written, PADDING) };
                    self.written = self.written.advance(1);
                    self.hollow = self.hollow.wrapping_add(1);
                }
                // SAFETY: ours (SQ3, SQ4), since `need` found room.
                unsafe { self.slots.write(self.written, first) };
                // SAFETY: ours (SQ3, SQ4), since `need` found room.
                unsafe { self.slots.write(self.written.advance(1), rest) };
                self.written = self.written.advance(2);
                self.hollow = self.hollow.wrapping_add(1);
            }
        }
        Ok(())
    }

    /// Sets `count` free slots aside, so that what is pushed into them is handed over as one.
    ///
    /// On a mixed ring an entry of 128 bytes takes two slots, and the first such one a third when
    /// it would straddle the wrap.
    ///
    /// # Errors
    ///
    /// [`Full`] when fewer than `count` slots are free.
    pub fn reserve(&mut self, count: u32) -> Result<Reservation<'_>, Full> {
        self.need(count)?;
        let end = self.written.advance(count);
        Ok(Reservation::new(self, end))
    }

    /// Hands every written entry to the kernel and returns how many it has yet to consume.
    ///
    /// This is the `to_submit` of the next enter.
    ///
    /// # Panics
    ///
    /// When the peer broke SQ2.
    #[inline]
    pub fn flush(&mut self) -> u32 {
        if !self.is_here() {
            return 0;
        }
        // Of a rewinding ring the kernel takes as many as enter says, from slot 0 on; and entering
        // orders SQ3.
        if self.turn == Turn::Round {
            self.tail.publish(self.written); // SQ3
        }
        self.used()
    }

    /// Takes note that an enter consumed `count` entries. Only [`Turn::Rewind`] needs to be told:
    /// what was left over moves down to slot 0, where the kernel will look next.
    #[inline]
    pub fn consumed(&mut self, count: u32) {
        if self.turn == Turn::Rewind && count > 0 && self.is_here() {
            assert!(count <= self.written.to_raw(), "SQ2: the kernel consumed more than we wrote");
            self.rewind(count);
        }
    }

    /// How many entries were written, flushed or not, that the kernel has not consumed.
    #[inline]
    pub fn unconsumed(&self) -> u32 {
        if self.is_here() { self.used() } else { 0 }
    }

    /// [`unconsumed`](Self::unconsumed), where the ring is of this process.
    #[inline]
    fn used(&self) -> u32 {
        match self.turn {
            Turn::Round => checked(self.written, self.head.observe(), self.entries()),
            Turn::Rewind => self.written.to_raw(),
        }
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

    /// What lies in the slots.
    pub fn shape(&self) -> SqeShape {
        self.shape
    }

    /// What the ring lies in.
    pub fn memory(&self) -> &Arc<[Map]> {
        &self.memory
    }

    /// Where the kernel has consumed up to, we have published up to, and we have written up to.
    #[inline]
    pub fn indices(&self) -> (Index, Index, Index) {
        if !self.is_here() {
            return (self.written, self.written, self.written);
        }
        (self.head.observe(), self.tail.last(), self.written)
    }

    /// How many requests were ever pushed, modulo 2³².
    #[inline]
    pub fn pushed(&self) -> u32 {
        self.written.to_raw().wrapping_add(self.rewound).wrapping_sub(self.hollow)
    }

    /// How many entries the kernel refused to look at, since their place in the index array was
    /// out of range. Stays 0: we fill that array once, and never write to it again.
    pub fn dropped(&self) -> u32 {
        if self.is_here() { self.dropped.now() } else { 0 }
    }

    /// The kernel's flags. Hints: they order nothing.
    #[inline]
    pub fn flags(&self) -> SqRingFlags {
        SqRingFlags::from_bits_retain(if self.is_here() { self.flags.now() } else { 0 })
    }

    /// Whether the polling thread sleeps, asked after [`flush`](Self::flush) (SQ5).
    pub fn needs_wakeup(&self) -> bool {
        let flags = || SqRingFlags::from_bits_retain(self.flags.after_publish());
        self.is_here() && flags().contains(SqRingFlags::NEED_WAKEUP)
    }

    /// Up to where we have written, to come back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark { written: self.written, hollow: self.hollow }
    }

    /// Goes on from `mark`: behind what a reservation holds, or back to where it began. Nothing
    /// beyond was flushed, so it is ours to move in (SQ3).
    pub(crate) fn go_to(&mut self, mark: Mark) {
        Mark { written: self.written, hollow: self.hollow } = mark;
        self.limit = self.written;
    }

    /// Ends the slot at `written`, whose first 64 bytes were just decided.
    #[inline]
    fn finish_slot(&mut self) {
        if self.slots.is_double() {
            // SAFETY: the slot just written is still ours (SQ3), and the slots are double.
            unsafe { self.slots.write_rest(self.written, Sqe::ZERO) };
            self.limit = self.written.advance(1);
        }
        self.written = self.written.advance(1);
    }

    /// Looks where the kernel has got to (SQ4), if that is needed to tell whether `count` slots are
    /// free.
    #[cold]
    fn need(&mut self, count: u32) -> Result<(), Full> {
        let known = self.limit.distance_from(self.written) >= count && !self.slots.is_double();
        if known && self.is_here() {
            return Ok(());
        }
        let room = self.room();
        self.limit = self.written.advance(if self.slots.is_double() { 0 } else { room });
        if room < count { Err(Full) } else { Ok(()) }
    }

    fn rewind(&mut self, consumed: u32) {
        let left = self.written.to_raw() - consumed;
        for slot in 0..left {
            let (from, to) = (Index::from_raw(slot + consumed), Index::from_raw(slot));
            // SAFETY: ours: outside an enter, the kernel reads no slot of a rewinding ring (SQ3).
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
        self.rewound = self.rewound.wrapping_add(consumed);
        self.written = Index::from_raw(left);
        self.limit = self.written; // To be found anew.
    }
}

/// Up to where a ring was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) written: Index,
    hollow: u32,
}

/// What fills the last slot of a lap when a 128-byte entry would straddle the wrap.
const PADDING: Sqe =
    Sqe { opcode: Opcode::NOP, flags: SqeFlags::CQE_SKIP_SUCCESS, fd: -1, ..Sqe::ZERO };

/// SQ2, where the peer's word comes in.
#[inline]
fn checked(written: Index, head: Index, entries: u32) -> u32 {
    let used = written.distance_from(head);
    assert!(used <= entries, "SQ2: the kernel's head {head:?} is outside our {written:?}");
    used
}
